"""Writes command slots into segments, one synced batch at a time. Knows files only through a JournalStore.

What is durable is known exactly: a batch is written in whole blocks that were zero and are never written again, then
synced, and only then do ``last_seq`` and the chain move on. Any error of writing or syncing is final (JournalFailed),
because after a failed sync nobody knows what the disk holds. Making the *next* segment is different: it is no part of
the journal yet, so that a failure there only raises ``space_problem`` and is tried again, while the current segment
goes on to its last block.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from persistence.journal.errors import JournalError, JournalFailed
from persistence.journal.layout import (
    BATCH_BYTES_MAX,
    BATCH_HEADER_BYTES,
    BLOCK_BYTES,
    SEGMENT_BYTES,
    SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN,
    BatchHeader,
    SegmentHeader,
    chain_start,
    pack_batch_header,
    pack_segment_header,
    prepared_name,
    segment_name,
    whole_blocks,
)
from persistence.journal.store import JournalStore
from protocol.codec import ERROR_TEXT, GROUP_BYTES_MAX, encode_span
from protocol.versions import this_program

RETRY_NS: Final = 1_000_000_000
_GROUP_ROOM_BYTES: Final = BATCH_HEADER_BYTES + GROUP_BYTES_MAX


class WriterPosition(NamedTuple):
    """Where the next batch goes; plain values, so that the process that recovers can hand it to the one that writes."""

    journal_id: bytes
    epoch: int
    segment: int
    offset: int
    segment_bytes: int
    crc: int
    last_seq: int
    last_ts_ns: int
    branch: int = 0


class JournalWriter:
    """The one writer of a journal.

    Parameters
    ----------
    store : JournalStore
        Locked by the constructor; ``close`` unlocks it.
    position : WriterPosition
        From ``start_new_segment_after_recovery``.
    segment_bytes : int
        Size of the segments to come; whole blocks.
    wall_clock_ns : callable
        UTC for the headers of segments; nothing depends on it.

    Attributes
    ----------
    last_seq, last_ts_ns : int
        Last slot that is durable, and its time.
    space_problem : OSError or None
        Why the next segment could not be made, until it can.
    next_is_ready : bool
        Whether the next segment is there to go on in.
    syncs, written_bytes : int
        Batches synced, and bytes written for them.
    """

    def __init__(
        self,
        store: JournalStore,
        position: WriterPosition,
        segment_bytes: int = SEGMENT_BYTES,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        check_segment_bytes(segment_bytes)
        self._store = store
        self._epoch = position.epoch
        self._journal_id = position.journal_id
        self._branch = position.branch
        self._seed = chain_start(position.journal_id)
        self._segment = position.segment
        self._offset = position.offset
        self._size_bytes = position.segment_bytes
        self._crc = position.crc
        self._next_size_bytes = segment_bytes
        self._wall_clock_ns = wall_clock_ns
        self._preparing = False
        self.next_is_ready = False
        self._retry_at_ns = 0
        self._failure: JournalFailed | None = None
        self.last_seq = position.last_seq
        self.last_ts_ns = position.last_ts_ns
        self.space_problem: OSError | None = None
        self.syncs = 0
        self.written_bytes = 0
        # Page-aligned, as an anonymous map is.
        self._buffer = np.frombuffer(mmap.mmap(-1, BATCH_BYTES_MAX), dtype=np.uint8)
        self._payload = self._buffer[BATCH_HEADER_BYTES:].view(np.int64)
        store.lock()
        try:
            self._file = store.open(segment_name(self._segment))
        except BaseException:
            store.unlock()
            raise

    def close(self) -> None:
        """Close the segment and let another writer in. Everything up to ``last_seq`` is on the disk already."""
        self._file.close()
        self._store.unlock()

    def maintain(self, now_ns: int) -> None:
        """See to the next segment: start making it, notice that it is there or why not. Never waits.

        ``now_ns`` is any clock that does not fall; a failed attempt is repeated after RETRY_NS.
        """
        if self.next_is_ready:
            return
        name = prepared_name(self._segment + 1)
        try:
            if self._preparing:
                self.next_is_ready = self._store.prepared(name)
                if self.next_is_ready:
                    self._preparing = False
                    self.space_problem = None
            elif now_ns >= self._retry_at_ns:
                self._store.prepare(name, self._next_size_bytes)
                self._preparing = True
        except OSError as error:
            self._preparing = False
            self.space_problem = error
            self._retry_at_ns = now_ns + RETRY_NS

    def write(self, words: np.ndarray, mask: int, available_seq: int) -> int:
        """Write and sync one batch of the slots after ``last_seq``.

        Parameters
        ----------
        words : int64[n, 16]
            Slot with number seq in row ``(seq - 1) & mask``.
        mask : int
            n - 1 for a ring of n = 2^k slots.
        available_seq : int
            Last slot that may be read.

        Returns
        -------
        int
            Slots that are durable now and were not before. Fewer than available where a batch or segment ends; 0 where
            there is nothing, or the segment is full and the next one is not there yet.

        Raises
        ------
        JournalFailed
            A write or sync failed; the writer can only be closed.
        JournalError
            The slots are not in order, which is a fault of the engine.
        """
        if self._failure is not None:
            raise self._failure
        if available_seq <= self.last_seq:
            return 0
        room_bytes = self._room_bytes()
        slots, payload_bytes, last_ts_ns = self._encode(words, mask, available_seq, room_bytes)
        if slots == 0 and room_bytes < _GROUP_ROOM_BYTES:
            if not self.next_is_ready:
                return 0
            self._start_next_segment()
            slots, payload_bytes, last_ts_ns = self._encode(words, mask, available_seq, self._room_bytes())
        if slots == 0:
            return 0
        self._commit(slots, payload_bytes)
        self.last_ts_ns = last_ts_ns
        return slots

    def _room_bytes(self) -> int:
        return min(BATCH_BYTES_MAX, self._size_bytes - self._offset)

    def _encode(self, words: np.ndarray, mask: int, available_seq: int, room_bytes: int) -> tuple[int, int, int]:
        if room_bytes == 0:
            return 0, 0, 0
        payload = self._payload[: (room_bytes - BATCH_HEADER_BYTES) // 8]
        count = available_seq - self.last_seq
        first_row = self.last_seq & mask
        slots, payload_bytes, last_ts_ns = encode_span(
            words, first_row, mask, count, self.last_seq + 1, payload, self.last_ts_ns
        )
        if slots < 0:
            raise JournalError(
                f"the command ring's slot {self.last_seq + 1 + last_ts_ns} cannot be journalled: {ERROR_TEXT[slots]}; "
                f"this is a fault of the sequencer, the engine must end"
            )
        return int(slots), int(payload_bytes), int(last_ts_ns)

    def _commit(self, slots: int, payload_bytes: int) -> None:
        header = BatchHeader(
            epoch=self._epoch,
            segment=self._segment,
            slots=slots,
            first_seq=self.last_seq + 1,
            prev_ts_ns=self.last_ts_ns,
            durable_seq=self.last_seq,
            payload_bytes=payload_bytes,
            block=self._offset // BLOCK_BYTES,
            previous_crc=self._crc,
        )
        size_bytes = header.size_bytes
        self._buffer[BATCH_HEADER_BYTES + payload_bytes : size_bytes] = 0
        blocks = self._buffer[:size_bytes]
        crc = pack_batch_header(blocks, header, self._seed)
        try:
            self._file.write(self._offset, blocks.data)
        except OSError as error:
            raise self._failed("write", error) from error
        try:
            self._file.sync()
        except OSError as error:
            raise self._failed("sync", error) from error
        self._crc = crc
        self._offset += size_bytes
        self.last_seq += slots
        self.syncs += 1
        self.written_bytes += size_bytes

    def _start_next_segment(self) -> None:
        """Give the prepared file its header, sync it, then its name, sync that: it counts from the rename on."""
        segment = self._segment + 1
        written = this_program()
        header = SegmentHeader(
            segment=segment,
            schema=written.schema,
            journal_id=self._journal_id,
            first_seq=self.last_seq + 1,
            prev_ts_ns=self.last_ts_ns,
            durable_seq=self.last_seq,
            created_ts_ns=self._wall_clock_ns(),
            segment_bytes=self._next_size_bytes,
            epoch=self._epoch,
            previous_crc=self._crc,
            previous_segment=self._segment,
            replaces=0,
            rules=written.rules,
            release=written.release,
            branch=self._branch,
        )
        try:
            file = self._store.open(prepared_name(segment))
            file.write(0, memoryview(pack_segment_header(header)))
            file.sync()
            self._store.rename(prepared_name(segment), segment_name(segment))
            self._store.sync_directory()
        except OSError as error:
            raise self._failed(f"starting segment {segment}", error) from error
        self._file.close()
        self._file = file
        self._segment = segment
        self._size_bytes = self._next_size_bytes
        self._offset = BLOCK_BYTES
        self.next_is_ready = False

    def _failed(self, action: str, error: OSError) -> JournalFailed:
        label = self._store.label(segment_name(self._segment))
        self._failure = JournalFailed(action, label, self._offset, error)
        return self._failure


def check_segment_bytes(segment_bytes: int) -> None:
    """Raise JournalError where no segment can have this size."""
    if not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX or segment_bytes % BLOCK_BYTES:
        raise JournalError(
            f"segment_bytes = {segment_bytes}: a segment has {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes, "
            f"in blocks of {BLOCK_BYTES}"
        )


assert whole_blocks(_GROUP_ROOM_BYTES) + BLOCK_BYTES <= SEGMENT_BYTES_MIN, "a segment holds the largest group"
