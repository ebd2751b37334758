"""The process of risk: attaches state and rings, and steps."""

from __future__ import annotations

import os

import numpy as np

from protocol import board as b
from protocol import enums as e
from protocol.instance import Context, Engine, Limits, Rings
from protocol.readers import COMMAND_RISK, ready_word
from protocol.records import (
    COMMAND_DTYPE,
    COMMAND_SCHEMA,
    EVENT_DTYPE,
    EVENT_SCHEMA,
    OUTCOME_DTYPE,
    OUTCOME_SCHEMA,
    VERDICT_DTYPE,
    VERDICT_SCHEMA,
)
from ringbuf.arena import attach_arena, private_arena
from ringbuf.atomics import store_release
from ringbuf.bank import bank_spec, init_bank
from ringbuf.board import BoardFile, claim_line, private_board
from ringbuf.bundle import Bundle
from ringbuf.file import RingFile
from ringbuf.loop import jitter
from ringbuf.ring import Ring, private_ring
from ringbuf.steps import Step, Steps
from ringbuf.waiting import STRATEGIES
from risk import hashes, outbox
from risk import state as s
from risk.kernel import step
from risk.rings import make_rings

STEP_COMMANDS = 256


class RiskFault(RuntimeError):
    """A broken invariant: the engine ends, its state cannot be trusted."""


def check_fault(state: Bundle) -> None:
    """Raise RiskFault where a kernel found an invariant broken."""
    fault = int(state.meta[s.FAULT])
    if fault:
        msg = f"risk stopped after command {int(state.meta[s.SETTLED])}: {s.FAULT_TEXT[fault]}"
        raise RiskFault(msg)


def make_steps(state: Bundle, rings: Bundle, ingress: Ring) -> Steps:
    """Risk over its rings, and its outbox into ``ingress``, risk's own ingress ring."""
    return Steps(
        Step(step, Bundle(state=state, rings=rings), STEP_COMMANDS),
        Step(outbox.send, outbox.make_sender(state, ingress), STEP_COMMANDS),
    )


def main(context: Context) -> int:
    """Reserve and settle until told to stop."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    engine = context.engine
    state = s.make_state(
        attach_arena(context.risk_state, s.state_spec(engine.limits, engine.rings.window), COMMAND_SCHEMA)
    )
    commands = RingFile.attach(context.command_ring, COMMAND_DTYPE, COMMAND_SCHEMA, context.epoch, board)
    commands.adopt_reader(COMMAND_RISK, context.line)
    verdicts = RingFile.attach(context.verdict_ring, VERDICT_DTYPE, VERDICT_SCHEMA, context.epoch, board)
    verdicts.take_writer(context.line)
    outcomes = RingFile.attach(context.outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, context.epoch, board)
    outcomes.take_writer(context.line)
    bank = attach_arena(context.event_bank, bank_spec(EVENT_DTYPE, engine.rings.event, engine.shards), EVENT_SCHEMA)
    ingress = RingFile.attach(context.ingress(e.SOURCE_RISK), COMMAND_DTYPE, COMMAND_SCHEMA, board=board)
    ingress.take_writer(context.line)
    rings = make_rings(commands.ring, verdicts.ring, outcomes.ring, bank["words"], bank["slots"])
    store_release(board, b.RESERVED_SEQ, int(state.meta[s.RESERVED]))
    store_release(board, b.SETTLED_SEQ, int(state.meta[s.SETTLED]))
    steps = make_steps(state, rings, ingress.ring)
    store_release(board, ready_word(context.line), os.getpid())
    steps.run(board, context.line, STRATEGIES[engine.wait], b.STOP, jitter(context.jitter_seed, context.line))
    check_fault(state)
    return 0


def warm() -> None:
    """Compile or load every kernel that the process uses."""
    engine = Engine(
        limits=Limits(accounts=1, assets=1, instruments=1, orders=8, withdrawal_holds=8, outbox=8),
        rings=Rings(window=256),
    )
    state = s.make_state(private_arena(s.state_spec(engine.limits, engine.rings.window)))
    s.reset(state)
    board = private_board(b.LINES)
    bank = private_arena(bank_spec(EVENT_DTYPE, 8, 1))
    init_bank(bank["words"], bank["slots"], 1, b.LINE_RISK, [b.LINE_FIRST_MATCHER])
    rings = make_rings(
        private_ring(COMMAND_DTYPE, 8, board=board),
        private_ring(VERDICT_DTYPE, 8, board=board),
        private_ring(OUTCOME_DTYPE, 8, board=board),
        bank["words"],
        bank["slots"],
    )
    make_steps(state, rings, private_ring(COMMAND_DTYPE, 8, board=board)).turn()
    hashes.named_hashes(state, np.zeros(len(hashes.STRUCTURES), dtype=np.int64))
    hashes.first_unbalanced_asset(state)
