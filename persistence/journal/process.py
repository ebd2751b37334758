"""The journal's process: follows the command ring, makes what it reads durable, and says so on the board.

There is no timer: a batch is what has gathered while the one before was being synced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numba import njit

from persistence.journal.errors import JournalFailed
from persistence.journal.writer import JournalWriter
from protocol.board import (
    DURABLE_SEQ,
    JOURNAL_BYTES,
    JOURNAL_FAILED,
    JOURNAL_SPACE,
    JOURNAL_SYNC_NS,
    JOURNAL_SYNCS,
    LINE_JOURNAL,
    STOP,
)
from protocol.codec import as_words
from ringbuf.atomics import fence, load_acquire, store_relaxed, store_release
from ringbuf.board import ring_bell
from ringbuf.ring import Ring, advance, published, reader_cursor
from ringbuf.waiting import ADAPTIVE, idle_wait, woke


class JournalProcess:
    """Writes a command ring into a journal.

    Parameters
    ----------
    command_ring : Ring
        Slot with seq s at position s.
    reader : int
        This process's gating reader on it; its cursor is the last durable seq.
    board : int64[n]
        The instance's board.
    writer : JournalWriter
        At the same seq as the reader's cursor.
    bells : sequence of int
        Bell lines of those that wait for the durable cursor.
    delay : callable, optional
        Called before each write; tests of timing wait in it.
    """

    def __init__(
        self,
        command_ring: Ring,
        reader: int,
        board: np.ndarray,
        writer: JournalWriter,
        bells: Sequence[int] = (),
        delay: Callable[[], None] | None = None,
    ) -> None:
        cursor = reader_cursor(command_ring, reader)
        assert cursor == writer.last_seq, f"the ring's reader is at seq {cursor}, the journal at {writer.last_seq}"
        self._ring = command_ring
        self._reader = reader
        self._board = board
        self._writer = writer
        self._words = as_words(command_ring.slots)
        self._mask = command_ring.slots.shape[0] - 1
        self._bells = np.array(bells, dtype=np.int64)
        self._delay = delay
        self._sync_ns = 0
        self._space_problem = False
        _announce(board, writer.last_seq, self._bells)

    def step(self) -> int:
        """Make at most one batch of what has gathered durable; the number of slots, 0 where there was nothing to do.

        Waits for nothing but the disk.

        Raises
        ------
        JournalFailed
            The disk failed; board[JOURNAL_FAILED] has the errno, and the engine must end.
        """
        started_ns = time.monotonic_ns()
        self._maintain(started_ns)
        available_seq = published(self._ring)
        if available_seq == self._writer.last_seq:
            return 0
        if self._delay is not None:
            self._delay()
        try:
            slots = self._writer.write(self._words, self._mask, available_seq)
        except JournalFailed as error:
            store_release(self._board, JOURNAL_FAILED, error.errno)
            raise
        if slots == 0:
            return 0
        self._sync_ns += time.monotonic_ns() - started_ns
        _publish(
            self._board,
            self._writer.last_seq,
            self._writer.syncs,
            self._writer.written_bytes,
            self._sync_ns,
            self._bells,
        )
        advance(self._ring, self._reader, self._writer.last_seq)
        return slots

    def run(self, line: int = LINE_JOURNAL, strategy: int = ADAPTIVE) -> None:
        """Step until board[STOP] is set, then write what is still on the ring. ``line`` is this process's bell line."""
        idle = 0
        while load_acquire(self._board, STOP) == 0:
            if self.step():
                idle = woke(self._board, line, idle)
            else:
                idle = idle_wait(self._board, line, idle, strategy)
        while self.step():
            pass

    def _maintain(self, now_ns: int) -> None:
        self._writer.maintain(now_ns)
        problem = self._writer.space_problem is not None
        if problem != self._space_problem:
            self._space_problem = problem
            store_release(self._board, JOURNAL_SPACE, int(problem))


@njit(cache=True)
def _announce(board, durable_seq, bells):
    """Publish the durable cursor and wake who waits for it; ``bells`` is int64[n], lines of the board."""
    store_release(board, DURABLE_SEQ, durable_seq)
    fence()
    for i in range(bells.shape[0]):
        ring_bell(board, bells[i])


@njit(cache=True)
def _publish(board, durable_seq, syncs, written_bytes, sync_ns, bells):
    store_relaxed(board, JOURNAL_SYNCS, syncs)
    store_relaxed(board, JOURNAL_BYTES, written_bytes)
    store_relaxed(board, JOURNAL_SYNC_NS, sync_ns)
    _announce(board, durable_seq, bells)
