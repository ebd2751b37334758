"""Reads a journal in order: all of it for recovery and replay, or behind a live writer for a replica."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from persistence.journal.errors import RESTORE_ADVICE, JournalCorrupt, JournalError
from persistence.journal.layout import (
    BATCH_BYTES_MAX,
    BLOCK_BYTES,
    BatchHeader,
    SegmentHeader,
    chain_start,
    segment_name,
    unpack_batch_header,
)
from persistence.journal.recovery import as_store
from persistence.journal.segments import SegmentCursor, decode_batch, end_of_data, lineage, payload_words
from persistence.journal.store import JournalStore, read_bytes
from protocol.versions import in_present_layout

_WINDOW_BYTES: Final = 4 * BATCH_BYTES_MAX
_POLL_BYTES: Final = 64 * 1024
_LISTINGS_MAX: Final = 10
_SEQ_MAX: Final = (1 << 63) - 1


class JournalReader:
    """Gives the slots of a journal from ``from_seq`` on, a batch at a time, each checked against the chain.

    Parameters
    ----------
    journal : JournalStore or directory
    from_seq : int
        First slot wanted; a batch in which it lies is given from there on.
    to_seq : int, optional
        Where ``__iter__`` ends; by default at the clean end of the journal. After a crash this is the ``last_seq`` of
        a scan, because a torn tail, which only the scan can judge, is an error here.

    Attributes
    ----------
    next_seq : int
        Seq of the slot that comes next.
    epoch : int
        Of the last batch given.
    """

    def __init__(self, journal: JournalStore | Path | str, from_seq: int = 1, to_seq: int | None = None) -> None:
        assert from_seq >= 1, "the first seq is 1"
        self._store = as_store(journal)
        self._to_seq = _SEQ_MAX if to_seq is None else to_seq
        self._cursor: SegmentCursor | None = None
        self._window = np.empty(_WINDOW_BYTES, dtype=np.uint8)
        self._window_start = 0
        self._window_end = 0
        self._window_seq = 0
        self._last_ts_ns = -1
        self.next_seq = from_seq
        self.epoch = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """COMMAND_DTYPE arrays up to ``to_seq``. For a journal that nobody writes; behind a live one use ``poll``.

        Raises
        ------
        JournalCorrupt, JournalMismatch
            As ``scan``; the error names the place, everything given before it was sound.
        """
        while self.next_seq <= self._to_seq:
            slots = self._next(_SEQ_MAX, _WINDOW_BYTES)
            if slots is None:
                if self._to_seq < _SEQ_MAX:
                    raise self._missing(self._to_seq)
                self._check_rest()
                return
            beyond = self.next_seq - 1 - self._to_seq
            yield slots[: slots.shape[0] - beyond] if beyond > 0 else slots

    def poll(self, durable_seq: int) -> np.ndarray | None:
        """The next batch of a journal that is durable up to ``durable_seq``; None where that has been given already.

        Goes along through new segments and new epochs.

        Raises
        ------
        JournalCorrupt
            Also where ``durable_seq`` promises what is not there.
        """
        if durable_seq < self.next_seq:
            return None
        slots = self._next(durable_seq, _POLL_BYTES)
        if slots is None:
            raise self._missing(durable_seq)
        return slots

    def _next(self, durable_seq: int, ahead_bytes: int) -> np.ndarray | None:
        """The slots of the next batch from ``next_seq`` on; None at the clean end."""
        if self._window_seq < self.next_seq:
            # What was read ahead may have been half written then; what is durable now is whole.
            self._window_end = self._window_start
        if self._cursor is None and not self._locate():
            return None
        while True:
            assert self._cursor is not None, "a segment was located"
            header = self._step(self._cursor, durable_seq, ahead_bytes)
            if header is None:
                if not self._locate():
                    return None
            elif header.last_seq >= self.next_seq:
                return self._decoded(self._cursor, header)

    def _step(self, cursor: SegmentCursor, durable_seq: int, ahead_bytes: int) -> BatchHeader | None:
        """Take the batch at the cursor; None where the segment has no more, or is no more there."""
        if cursor.at_end:
            return None
        offset = cursor.offset
        name = segment_name(cursor.header.segment)
        try:
            view = self._view(name, offset, BLOCK_BYTES, durable_seq, ahead_bytes)
            parsed = unpack_batch_header(view)
            if not isinstance(parsed, str):
                view = self._view(name, offset, parsed[0].size_bytes, durable_seq, ahead_bytes)
        except FileNotFoundError:
            # A recovery has put another segment in its place.
            return None
        batch = cursor.examine(view)
        if isinstance(batch, str):
            if not any(view[:BLOCK_BYTES]):
                return None
            label = self._store.label(name)
            raise JournalCorrupt(label, offset, cursor.next_seq, batch, "run the recovery scan, which judges it")
        cursor.take(batch)
        return batch.header

    def _view(self, name: str, offset: int, wanted_bytes: int, durable_seq: int, ahead_bytes: int) -> memoryview:
        """At least ``wanted_bytes`` of the segment from ``offset`` on, if the file has them, read with what follows."""
        if offset < self._window_start or self._window_end - offset < wanted_bytes:
            self._window_start = offset
            self._window_end = offset
            self._window_seq = durable_seq
            target = self._window[: max(wanted_bytes, ahead_bytes)].data
            self._window_end = offset + self._store.read_into(name, offset, target)
        return self._window[offset - self._window_start : self._window_end - self._window_start].data

    def _decoded(self, cursor: SegmentCursor, header: BatchHeader) -> np.ndarray:
        start = cursor.offset - header.size_bytes
        label = self._store.label(segment_name(cursor.header.segment))
        words = decode_batch(payload_words(self._window.data, start - self._window_start, header), header)
        if isinstance(words, str):
            raise JournalCorrupt(label, start, header.first_seq, words, RESTORE_ADVICE)
        if self._last_ts_ns not in {-1, header.prev_ts_ns}:
            found = f"a batch after ts {header.prev_ts_ns}, but the slot before has {self._last_ts_ns}"
            raise JournalCorrupt(label, start, header.first_seq, found, RESTORE_ADVICE)
        self._last_ts_ns = int(words[-1, 1])
        self.epoch = header.epoch
        slots = in_present_layout(words, cursor.header.schema)[self.next_seq - header.first_seq :]
        self.next_seq = header.last_seq + 1
        return slots

    def _locate(self) -> bool:
        """Go to the segment of ``next_seq``; False where it is the one being read already, or there is none."""
        headers = self._headers()
        chosen: SegmentHeader | None = None
        for header in headers:
            if header.first_seq <= self.next_seq:
                chosen = header
        if chosen is None:
            if headers:
                raise JournalError(
                    f"journal {self._store.label('.')}: begins at seq {headers[0].first_seq}, but seq {self.next_seq} "
                    f"is wanted; older segments were removed, start from a snapshot at seq {headers[0].first_seq - 1} "
                    f"or later"
                )
            return False
        before = self._cursor
        if before is not None and chosen.segment == before.header.segment:
            if headers[-1].segment != chosen.segment:
                # Its end is missing: else the segment after it would begin with the seq wanted, and be chosen.
                self._check_seam(before, headers[headers.index(chosen) + 1])
            return False
        if before is not None and chosen.previous_segment == before.header.segment:
            self._check_seam(before, chosen)
        self._cursor = SegmentCursor(chosen, chain_start(chosen.journal_id))
        self._window_start = 0
        self._window_end = 0
        return True

    def _headers(self) -> tuple[SegmentHeader, ...]:
        for _ in range(_LISTINGS_MAX):
            # A recovery or a clean-up may remove a file between the listing and the look into it.
            with contextlib.suppress(FileNotFoundError):
                return lineage(self._store).headers
        return lineage(self._store).headers

    def _check_rest(self) -> None:
        """Raise where the newest segment goes on behind its first zero block: then that is no clean end."""
        cursor = self._cursor
        if cursor is None:
            return
        name = segment_name(cursor.header.segment)
        data = read_bytes(self._store, name, cursor.offset, cursor.header.segment_bytes - cursor.offset)
        end = cursor.offset + end_of_data(data, 0)
        if end > cursor.offset:
            found = f"zeros, but more data up to offset {end}"
            advice = "run the recovery scan, which judges it"
            raise JournalCorrupt(self._store.label(name), cursor.offset, cursor.next_seq, found, advice)

    def _check_seam(self, before: SegmentCursor, header: SegmentHeader) -> None:
        if header.first_seq != before.next_seq or header.previous_crc != before.crc:
            name = self._store.label(segment_name(before.header.segment))
            found = f"the end of the segment, but {segment_name(header.segment)} goes on from seq {header.first_seq}"
            raise JournalCorrupt(name, before.offset, before.next_seq, found, RESTORE_ADVICE)

    def _missing(self, promised_seq: int) -> JournalCorrupt:
        cursor = self._cursor
        name = segment_name(cursor.header.segment) if cursor else "."
        offset = cursor.offset if cursor else 0
        found = f"the end of the journal, though it must reach seq {promised_seq}"
        return JournalCorrupt(self._store.label(name), offset, self.next_seq, found, RESTORE_ADVICE)
