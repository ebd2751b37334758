"""Topology ``fused``: risk and the matchers in one process and one thread; sequencer and journal are processes of their own as ever."""

from __future__ import annotations

import os

from matcher.process import shard_spec
from persistence.fused import FusedEngine, risk_spec
from persistence.recovery import warm
from protocol import board as b
from protocol import enums as e
from protocol.instance import Context
from protocol.readers import COMMAND_FIRST_MATCHER, COMMAND_RISK, ready_word
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf.arena import attach_arena
from ringbuf.atomics import store_release
from ringbuf.board import BoardFile, claim_line
from ringbuf.file import RingFile
from ringbuf.loop import jitter
from ringbuf.steps import Step, Steps
from ringbuf.waiting import STRATEGIES
from risk import outbox
from risk import state as s
from risk.process import check_fault

__all__ = ["main", "warm"]

STEP_COMMANDS = 256


def main(context: Context) -> int:
    """Reserve, match and settle until told to stop."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    config = context.engine
    commands = RingFile.attach(context.command_ring, COMMAND_DTYPE, COMMAND_SCHEMA, context.epoch, board)
    commands.adopt_reader(COMMAND_RISK, context.line)
    outcomes = RingFile.attach(context.outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, context.epoch, board)
    outcomes.take_writer(context.line)
    ingress = RingFile.attach(context.ingress(e.SOURCE_RISK), COMMAND_DTYPE, COMMAND_SCHEMA, board=board)
    ingress.take_writer(context.line)
    risk_arrays = attach_arena(context.risk_state, risk_spec(config), COMMAND_SCHEMA)
    last_seq = int(risk_arrays["meta"][s.SETTLED])
    for k in range(config.shards):
        # Risk's reader is still where recovery ended, so that all from there on is in the ring.
        commands.add_reader(True, at=last_seq, reader=COMMAND_FIRST_MATCHER + k)
    engine = FusedEngine(
        config,
        risk_arrays,
        [attach_arena(context.matcher_state(k), shard_spec(config), COMMAND_SCHEMA) for k in range(config.shards)],
        last_seq=last_seq,
        budget=STEP_COMMANDS,
        commands=commands.ring,
        outcomes=outcomes.ring,
        first_matcher=COMMAND_FIRST_MATCHER,
    )
    sender = outbox.make_sender(engine.risk, ingress.ring)
    steps = Steps(*engine.steps(), Step(outbox.send, sender, STEP_COMMANDS))
    store_release(board, b.RESERVED_SEQ, engine.settled_seq)
    store_release(board, b.SETTLED_SEQ, engine.settled_seq)
    store_release(board, ready_word(context.line), os.getpid())
    steps.run(board, context.line, STRATEGIES[config.wait], b.STOP, jitter(context.jitter_seed, context.line))
    check_fault(engine.risk)
    return 0
