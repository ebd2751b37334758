"""The process of risk: attaches state and rings, steps, and hands the outbox to the sequencer."""

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
from ringbuf.loop import jitter, run_loop
from ringbuf.ring import Ring, private_ring, publish, published, room
from ringbuf.waiting import STRATEGIES
from risk import hashes
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


def publish_counters(state: Bundle, board: np.ndarray) -> None:
    """Counters of risk onto the board, where ``status`` reads them."""
    meta = state.meta
    board[b.OUTCOMES] = meta[s.OUTCOMES]
    board[b.TRADES] = meta[s.TRADES]
    board[b.REFUSALS] = meta[s.REFUSALS]
    board[b.EXACT_WAITS] = meta[s.EXACT_WAITS]
    board[b.CHECKPOINT_SEQ] = meta[s.CHECKPOINT_SEQ]


class OutboxSender:
    """Hands risk's own commands to the sequencer through their ingress ring; entry i (from 0) is number i + 1 of source RISK.

    The ring is made anew each epoch at the number that the journal has; what the recovered outbox still holds is sent again.
    """

    def __init__(self, state: Bundle, ring: Ring) -> None:
        self._state = state
        self._ring = ring
        self._words = ring.slots.view(np.int64).reshape(-1, 16)

    def step(self) -> int:
        """Send what has been pushed and not sent; returns how many."""
        sent = int(published(self._ring))
        pushed = int(self._state.meta[s.OUTBOX_PUSHED])
        count = min(pushed - sent, int(room(self._ring, pushed - sent))) if pushed > sent else 0
        for number in range(sent + 1, sent + count + 1):
            row = (number - 1) % len(self._ring.slots)
            self._words[row] = self._state.outbox[(number - 1) % len(self._state.outbox)]
            self._ring.slots[row]["seq"] = number
        if count:
            publish(self._ring, sent + count)
        return count


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
    outbox = OutboxSender(state, ingress.ring)
    store_release(board, b.RESERVED_SEQ, int(state.meta[s.RESERVED]))
    store_release(board, b.SETTLED_SEQ, int(state.meta[s.SETTLED]))

    def one_step() -> int:
        work = step(state, rings, STEP_COMMANDS)
        if work:
            check_fault(state)
            publish_counters(state, board)
        return int(work) + outbox.step()

    store_release(board, ready_word(context.line), os.getpid())
    run_loop(
        board,
        context.line,
        STRATEGIES[engine.wait],
        one_step,
        b.STOP,
        jitter(context.jitter_seed and context.jitter_seed + context.line),
    )
    return 0


def warm() -> None:
    """Compile or load every kernel that the process uses."""
    engine = Engine(
        limits=Limits(accounts=1, assets=1, instruments=1, orders=8, withdrawal_holds=8, outbox=8),
        rings=Rings(window=256),
    )
    state = s.make_state(private_arena(s.state_spec(engine.limits, engine.rings.window)))
    s.reset(state, engine.limits)
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
    step(state, rings, 1)
    hashes.named_hashes(state, np.zeros(len(hashes.STRUCTURES), dtype=np.int64))
    hashes.first_unbalanced_asset(state)
