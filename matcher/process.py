"""The process of one matcher shard: attaches state and rings, and steps."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from matcher import state as matcher_state
from matcher.events import join_events
from matcher.kernel import make_stage, step
from protocol import board as b
from protocol.instance import Context, Engine, Limits
from protocol.readers import COMMAND_FIRST_MATCHER, ready_word
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, EVENT_DTYPE, EVENT_SCHEMA, VERDICT_DTYPE, VERDICT_SCHEMA
from ringbuf.arena import attach_arena, private_arena
from ringbuf.atomics import store_release
from ringbuf.bank import bank_ring, bank_spec
from ringbuf.board import BoardFile, claim_line, private_board
from ringbuf.bundle import Bundle
from ringbuf.file import RingFile
from ringbuf.loop import jitter, service_time
from ringbuf.ring import lag, private_ring
from ringbuf.steps import Step, Steps
from ringbuf.waiting import STRATEGIES

STEP_SLOTS = 1024


def shard_spec(engine: Engine) -> list[tuple[str, Any, int]]:
    """Arena specification of one shard's state."""
    limits = engine.limits
    return matcher_state.state_spec(
        matcher_state.MatcherLimits(
            orders_max=limits.orders,
            leaves_max=limits.leaves,
            instruments_max=limits.instruments,
            accounts_max=limits.accounts,
        )
    )


def shard_state(arrays: dict[str, np.ndarray]) -> Bundle:
    """A shard's state as its kernels take it."""
    return Bundle(**matcher_state.make_state(arrays)._asdict())


def main(context: Context) -> int:
    """Match the commands of one shard until told to stop."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    engine = context.engine
    shard = context.shard
    state = shard_state(attach_arena(context.matcher_state(shard), shard_spec(engine), COMMAND_SCHEMA))
    commands = RingFile.attach(context.command_ring, COMMAND_DTYPE, COMMAND_SCHEMA, context.epoch, board)
    commands.adopt_reader(COMMAND_FIRST_MATCHER + shard, context.line)
    verdicts = RingFile.attach(context.verdict_ring, VERDICT_DTYPE, VERDICT_SCHEMA, context.epoch, board)
    verdicts.adopt_reader(shard, context.line)
    bank = attach_arena(context.event_bank, bank_spec(EVENT_DTYPE, engine.rings.event, engine.shards), EVENT_SCHEMA)
    events = bank_ring(bank["words"], bank["slots"], board, engine.shards, shard)
    join_events(state, events)

    stage = make_stage(state, commands.ring, verdicts.ring, events, COMMAND_FIRST_MATCHER + shard, shard)
    budget, delay = STEP_SLOTS, jitter(context.jitter_seed, context.line)
    if context.matcher_delay_us:
        # One slot a step, so that the delay is the time that each takes.
        budget, delay = 1, service_time(context.matcher_delay_us, lambda: bool(lag(verdicts.ring, shard) > 0))
    steps = Steps(Step(step, stage, budget))
    store_release(board, ready_word(context.line), os.getpid())
    steps.run(board, context.line, STRATEGIES[engine.wait], b.STOP, delay)
    return 0


def warm() -> None:
    """Compile or load every kernel that the process uses."""
    engine = Engine(limits=Limits(accounts=1, assets=1, instruments=1, orders=8, leaves=8))
    arrays = private_arena(shard_spec(engine))
    matcher_state.reset(matcher_state.make_state(arrays))
    state = shard_state(arrays)
    board = private_board(b.LINES)
    commands = private_ring(COMMAND_DTYPE, 8, board=board)
    verdicts = private_ring(VERDICT_DTYPE, 8, board=board)
    events = private_ring(EVENT_DTYPE, 8, board=board)
    join_events(state, events)
    Steps(Step(step, make_stage(state, commands, verdicts, events, 0, 0), 1)).turn()
