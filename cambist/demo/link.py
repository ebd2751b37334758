"""The bots' connection to the engine: their ingress ring, and their place on the outcome ring, over all epochs.

The place does not gate and has no reader index: the journal rings this process when commands are durable, and nothing
is looked at before that.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
import numpy as np

from gateway.admission import Kind
from gateway.lane import ProducerLane
from gateway.outcomes import OutcomeFollower, Released
from protocol import board as lines
from protocol import build
from protocol.enums import OUTCOME_LAST, SOURCE_BOTS
from protocol.instance import Context
from protocol.jit import entry
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf import (
    BELL,
    LINE_WORDS,
    SLEEPING,
    SLEEPS,
    Ring,
    RingError,
    RingFile,
    fence,
    futex_wait,
    heartbeat,
    load_acquire,
    now_ns,
    publish,
    store_release,
)
from ringbuf.ring import PUBLISHED

STOP_GATEWAYS: Final = 2
_NEVER: Final = (1 << 63) - 1
_NOTHING: Final = np.zeros(0, dtype=OUTCOME_DTYPE)
_NAP_NS: Final = 1_000_000
"""Longest sleep on the bell while something is not durable: what a bell that was lost may cost."""
_SHORT_NAP_NS: Final = 100_000
"""Sleep while commands are durable and risk has not yet said what became of them."""


class Link:
    """Sends commands of SOURCE_BOTS and hears what became of them.

    Attributes
    ----------
    latencies_ns : list of int
        From ``send`` to the durable outcome of each command since the list was last cleared.
    """

    def __init__(self, context: Context, board: np.ndarray) -> None:
        self._context = context
        self._board = board
        self._line = context.line
        ingress = RingFile.attach(context.ingress(SOURCE_BOTS), COMMAND_DTYPE, COMMAND_SCHEMA, board=board)
        ingress.take_writer(context.line)
        self._ingress: Ring = ingress.ring
        self._lane = ProducerLane(ingress.ring, board, SOURCE_BOTS, context.engine.overload)
        self._follower: OutcomeFollower | None = None
        self._sent_ns: dict[int, int] = {}
        self._seen_seq = 0
        self._durable_at_send = -1
        self.latencies_ns: list[int] = []

    @property
    def waiting(self) -> int:
        """Commands whose last outcome was not seen."""
        return len(self._sent_ns)

    @property
    def next_source_seq(self) -> int:
        """Number of the next command."""
        return self._lane.next_number

    def stopping(self) -> bool:
        """Whether the board tells gateways to end."""
        return bool(load_acquire(self._board, lines.STOP) >= STOP_GATEWAYS)

    def open_for(self, count: int, kind: Kind, *, last: bool = False) -> bool:
        """Whether ``count`` slots may be sent now: the engine runs, the disk has space, the lane admits them.

        With ``last`` also while the exchange stops: the engine works off what gateways sent before they ended.
        """
        state = load_acquire(self._board, lines.ENGINE_STATE)
        if self._follower is None or not (state == lines.ENGINE_RUNNING or (last and state == lines.ENGINE_STOPPING)):
            return False
        if load_acquire(self._board, lines.JOURNAL_SPACE) != 0:
            return False
        return self._lane.refusal(kind, count, time.monotonic_ns()) is None

    def send(self, group: np.ndarray) -> None:
        """Number and publish commands of one slot each; the caller has asked ``open_for``."""
        first = self.next_source_seq
        group["entry_ts_ns"] = time.time_ns()
        build.stamp(group, SOURCE_BOTS, first)
        positions = np.arange(first - 1, first - 1 + len(group)) & (len(self._ingress.slots) - 1)
        self._ingress.slots[positions] = group
        sent_ns = time.monotonic_ns()
        for source_seq in range(first, first + len(group)):
            self._sent_ns[source_seq] = sent_ns
        if self._context.engine.durability == "sync":
            self._durable_at_send = int(load_acquire(self._board, lines.DURABLE_SEQ))
        publish(self._ingress, first + len(group) - 1)

    def follow(self) -> Released:
        """Outcomes that are durable and new, in order, and whether some were missed before them.

        After a miss nothing is waited for any more.
        """
        complete = self._enter_epoch()
        follower = self._follower
        if follower is None:
            return Released(_NOTHING, lost=False)
        released = follower.poll()
        outcomes = released.outcomes
        if len(outcomes):
            self._seen_seq = int(outcomes["seq"][-1])
            self._count(outcomes)
        lost = released.lost or not complete
        if lost:
            self._sent_ns.clear()
        return Released(outcomes, lost)

    def wait(self, end_ns: int) -> None:
        """Sleep until ``end_ns`` (CLOCK_MONOTONIC), or until more outcomes may be durable."""
        follower = self._follower
        if follower is None or not self._sent_ns or follower.durable_seq() < 0:
            await_durable(self._board, self._line, self._ingress.words, _NEVER, 0, end_ns)
            return
        position, after_seq = follower.position, self._durable_at_send
        if follower.held_seq is not None:
            position, after_seq = -1, follower.held_seq - 1
        await_durable(self._board, self._line, follower.ring.words, position, after_seq, end_ns)

    def _count(self, outcomes: np.ndarray) -> None:
        ended_ns = time.monotonic_ns()
        last = ((outcomes["flags"] & OUTCOME_LAST) != 0) & (outcomes["source"] == SOURCE_BOTS)
        for source_seq in outcomes["source_seq"][last].tolist():
            sent_ns = self._sent_ns.pop(source_seq, 0)
            if sent_ns:
                self.latencies_ns.append(ended_ns - sent_ns)

    def _enter_epoch(self) -> bool:
        """Follow the ring of the epoch that runs; False when outcomes of the bots' commands were missed."""
        epoch = int(load_acquire(self._board, lines.EPOCH))
        follower = self._follower
        if epoch == 0 or (follower is not None and follower.epoch == epoch):
            return True
        if load_acquire(self._board, lines.ENGINE_STATE) != lines.ENGINE_RUNNING:
            return True
        current = msgspec.structs.replace(self._context, epoch=epoch)
        try:
            ring = RingFile.attach(current.outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, epoch, self._board).ring
        except RingError:
            if load_acquire(self._board, lines.EPOCH) == epoch:
                raise
            return True
        if follower is None:
            wait_durable = self._context.engine.durability == "sync"
            self._follower = OutcomeFollower(ring, self._board, SOURCE_BOTS, epoch, wait_durable=wait_durable)
            return True
        recovered_seq = int(load_acquire(self._board, lines.RECOVERED_SEQ))
        return follower.change_epoch(ring, epoch, recovered_seq, self._seen_seq)


@entry
def await_durable(board: np.ndarray, line: int, words: np.ndarray, position: int, after_seq: int, end_ns: int) -> None:
    """Sleep on the bell of ``line``, which the journal rings, until it and a ring are far enough, or the time is over.

    Parameters
    ----------
    board : int64 board
    line : int, bell line of this process
    words : int64, header of the outcome ring
    position : int, last position read; -1 = only the journal counts, _NEVER = only the time
    after_seq : int, the journal is to be past this command
    end_ns : int, CLOCK_MONOTONIC at which to return at the latest
    """
    base = line * LINE_WORDS
    timed = position == _NEVER
    while True:
        bell = load_acquire(board, base + BELL)
        if not timed:
            store_release(board, base + SLEEPING, 1)
            fence()
        heartbeat(board, line)
        left_ns = end_ns - now_ns()
        durable = load_acquire(board, lines.DURABLE_SEQ) > after_seq
        if left_ns <= 0 or (durable and load_acquire(words, PUBLISHED) > position):
            store_release(board, base + SLEEPING, 0)
            return
        if not timed:
            # The bell tells of the journal only; for risk to settle what is durable already, short naps do.
            left_ns = min(left_ns, _SHORT_NAP_NS if durable else _NAP_NS)
        board[base + SLEEPS] += 1
        futex_wait(board, base + BELL, bell, left_ns)
