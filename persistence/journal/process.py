"""The journal's process: follows the command ring, makes what it reads durable, and says so on the board.

There is no timer: a batch is what has gathered while the one before was being synced.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from persistence.journal.errors import JournalFailed
from persistence.journal.store import DirectoryStore
from persistence.journal.writer import JournalWriter, WriterPosition
from protocol import board as lines
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
from protocol.codec import SLOT_WORDS, as_words, encode_span
from protocol.instance import Context
from protocol.jit import entry
from protocol.readers import COMMAND_JOURNAL, ready_word
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA
from ringbuf.atomics import fence, load_acquire, store_relaxed, store_release
from ringbuf.board import BoardFile, claim_line, private_board, ring_bell
from ringbuf.file import RingFile
from ringbuf.ring import Ring, advance, private_ring, published, reader_cursor
from ringbuf.waiting import ADAPTIVE, STRATEGIES, idle_wait, woke

WAITERS: Final = (
    lines.LINE_SEQUENCER,
    lines.LINE_REPLICA,
    lines.LINE_CONTROL,
    lines.LINE_REPLAY,
    lines.LINE_BOTS,
    *range(lines.LINE_FIRST_GATEWAY, lines.LINE_FIRST_MATCHER),
)
"""Bell lines of those that wait for the durable cursor: it frees ingress slots and lets outcomes go."""

POSITION_FILE: Final = "journal.json"
_JITTER_NS_MAX: Final = 2_000_000


def main(context: Context) -> int:
    """Journal the command ring of the epoch from where recovery left its position, until told to stop."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    file = RingFile.attach(context.command_ring, COMMAND_DTYPE, COMMAND_SCHEMA, context.epoch, board)
    file.adopt_reader(COMMAND_JOURNAL, context.line)
    position = load_position(context.epoch_dir)
    writer = JournalWriter(DirectoryStore(context.journal_dir), position, context.engine.segment_bytes)
    delay = jitter(context.jitter_seed) if context.jitter_seed else None
    process = JournalProcess(file.ring, COMMAND_JOURNAL, board, writer, WAITERS, delay)
    store_release(board, ready_word(context.line), os.getpid())
    process.run(context.line, STRATEGIES[context.engine.wait])
    writer.close()
    return 0


def warm() -> None:
    """Compile or load every kernel that the process uses."""
    board = private_board(lines.LINES)
    ring = private_ring(COMMAND_DTYPE, 8, board=board)
    published(ring)
    reader_cursor(ring, 0)
    advance(ring, 0, 0)
    payload = np.zeros(SLOT_WORDS, dtype=np.int64)
    encode_span(as_words(ring.slots), 0, 7, 0, 1, payload, 0)
    _publish(board, 0, 0, 0, 0, np.zeros(1, dtype=np.int64) + lines.LINE_CONTROL)
    _announce(board, 0, np.zeros(0, dtype=np.int64))
    load_acquire(board, STOP)
    store_release(board, STOP, 0)
    woke(board, LINE_JOURNAL, idle_wait(board, LINE_JOURNAL, 0, ADAPTIVE))


def save_position(epoch_dir: Path, position: WriterPosition) -> None:
    """Leave for the journal's process of the epoch what ``start_new_segment_after_recovery`` gave."""
    (epoch_dir / POSITION_FILE).write_bytes(msgspec.json.encode(position))


def load_position(epoch_dir: Path) -> WriterPosition:
    """What ``save_position`` left."""
    return msgspec.json.decode((epoch_dir / POSITION_FILE).read_bytes(), type=WriterPosition)


def jitter(seed: int) -> Callable[[], None]:
    """A delay for each write that is long now and then, the same sequence for the same seed; for tests of timing."""
    rng = random.Random(seed)  # noqa: S311 - chance for a test, not a secret

    def delay() -> None:
        if rng.random() < 0.25:
            time.sleep(rng.randrange(_JITTER_NS_MAX) / 1e9)

    return delay


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
    clock_ns : callable
        Time that never falls, for repeated attempts to make a segment and for the time that syncs took.
    """

    def __init__(
        self,
        command_ring: Ring,
        reader: int,
        board: np.ndarray,
        writer: JournalWriter,
        bells: Sequence[int] = (),
        delay: Callable[[], None] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
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
        self._clock_ns = clock_ns
        self._sync_ns = 0
        self._space_problem = False
        # What a journal before this one said of itself, and did not live to take back.
        store_release(board, JOURNAL_SPACE, 0)
        store_release(board, JOURNAL_FAILED, 0)
        _announce(board, writer.last_seq, self._bells)

    def step(self) -> int:
        """Make at most one batch of what has gathered durable; the number of slots, 0 where there was nothing to do.

        Waits for nothing but the disk.

        Raises
        ------
        JournalFailed
            The disk failed; board[JOURNAL_FAILED] has the errno, and the engine must end.
        """
        started_ns = self._clock_ns()
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
        self._sync_ns += self._clock_ns() - started_ns
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


@entry
def _announce(board, durable_seq, bells):
    """Publish the durable cursor and wake who waits for it; ``bells`` is int64[n], lines of the board."""
    store_release(board, DURABLE_SEQ, durable_seq)
    fence()
    for i in range(bells.shape[0]):
        ring_bell(board, bells[i])


@entry
def _publish(board, durable_seq, syncs, written_bytes, sync_ns, bells):
    store_relaxed(board, JOURNAL_SYNCS, syncs)
    store_relaxed(board, JOURNAL_BYTES, written_bytes)
    store_relaxed(board, JOURNAL_SYNC_NS, sync_ns)
    _announce(board, durable_seq, bells)
