"""Rings as files in shared memory: made whole, checked at attach, with parties that can be found dead."""

import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

from ringbuf import ring as layout
from ringbuf.atomics import fence, fetch_and, fetch_or, load_acquire, store_release
from ringbuf.board import NO_BELL, private_board, ring_bell
from ringbuf.errors import (
    RingCapacityError,
    RingEpochError,
    RingError,
    RingFormatError,
    RingReaderError,
    RingSchemaError,
    RingSlotSizeError,
    RingTruncatedError,
    RingVersionError,
    RingWriterError,
)
from ringbuf.mapping import close_map, create_file, map_file, process_is_alive, process_start_ticks, view
from ringbuf.ring import Ring

__all__ = ["RingFile"]

_HEADER_BYTES = layout.HEADER_WORDS * 8
_ADVICE_RESTART = "restart the whole instance, so that all processes use the same version"


class RingFile:
    """A ring in a file, usually under ``/dev/shm``, as one process sees it.

    Attributes
    ----------
    path : Path
        The file.
    ring : Ring
        What kernels take.
    """

    def __init__(
        self, path: Path, mapping: mmap.mmap, dtype: np.dtype, capacity: int, board: np.ndarray | None
    ) -> None:
        self.path = path
        self._mapping = mapping
        words = view(mapping, np.int64, layout.HEADER_WORDS, 0)
        slots = view(mapping, dtype, capacity, _HEADER_BYTES)
        self.ring = Ring(words, slots, private_board() if board is None else board)

    @classmethod
    def create(
        cls,
        path: Path | str,
        dtype: np.dtype,
        capacity: int,
        schema_hash: int,
        epoch: int,
        start: int = 0,
        board: np.ndarray | None = None,
    ) -> Self:
        """Make a ring file of ``capacity`` slots of ``dtype``, with all memory set aside, and attach to it.

        ``schema_hash`` (64 bits) stands for the record definitions, ``epoch`` for the start of the owner; all cursors
        begin at ``start``. Without ``board`` nobody may have a bell.

        Raises RingCapacityError, RingSlotSizeError, RingExistsError, RingSpaceError.
        """
        path = Path(path)
        dtype = np.dtype(dtype)
        if capacity <= 0 or capacity & (capacity - 1):
            raise RingCapacityError(
                path, "cannot make the ring", "a capacity that is a power of two", capacity, "correct the configuration"
            )
        if dtype.itemsize == 0 or dtype.itemsize % 8 or dtype.hasobject:
            raise RingSlotSizeError(
                path,
                "cannot make the ring",
                "a record of plain data, a multiple of 8 bytes long",
                f"{dtype.itemsize} bytes",
                "pad the record",
            )
        words = np.zeros(layout.HEADER_WORDS, dtype=np.int64)
        layout.fill_header(words, dtype.itemsize, capacity, _signed(schema_hash), epoch, start)
        create_file(path, _HEADER_BYTES + capacity * dtype.itemsize, words.tobytes(), reserve=True)
        return cls.attach(path, dtype, schema_hash, epoch, board, capacity)

    @classmethod
    def attach(
        cls,
        path: Path | str,
        dtype: np.dtype,
        schema_hash: int,
        epoch: int | None = None,
        board: np.ndarray | None = None,
        capacity: int | None = None,
    ) -> Self:
        """Map an existing ring; ``epoch`` and ``capacity`` are compared when given.

        Raises RingMissingError, RingTruncatedError, RingFormatError, RingVersionError, RingSlotSizeError,
        RingCapacityError, RingSchemaError, RingEpochError.
        """
        path = Path(path)
        dtype = np.dtype(dtype)
        mapping = map_file(path, _HEADER_BYTES)
        words = view(mapping, np.int64, layout.HEADER_WORDS, 0).copy()
        try:
            _check_header(path, words, dtype.itemsize, schema_hash, epoch, capacity)
            size_bytes = _HEADER_BYTES + int(words[layout.CAPACITY]) * dtype.itemsize
            if len(mapping) < size_bytes:
                raise RingTruncatedError(
                    path,
                    "the ring is cut short",
                    f"{size_bytes} bytes",
                    len(mapping),
                    "remove it and restart its owner",
                )
        except RingError:
            mapping.close()
            raise
        return cls(path, mapping, dtype, int(words[layout.CAPACITY]), board)

    def take_writer(self, bell_line: int = NO_BELL, pid: int | None = None) -> None:
        """Make process ``pid`` (default: this one) the writer, with its bell line; goes on after the published cursor.

        Raises RingWriterError while another process that runs is the writer.
        """
        words = self.ring.words
        pid = os.getpid() if pid is None else pid
        if self.writer_alive() and int(words[layout.WRITER_PID]) != pid:
            raise RingWriterError(
                self.path,
                "the ring has a writer",
                "none, or a dead one",
                f"process {words[layout.WRITER_PID]}, which runs",
                "end that process first",
            )
        words[layout.WRITER_BELL] = self._checked_bell(bell_line)
        words[layout.WRITER_START_TICKS] = process_start_ticks(pid)
        store_release(words, layout.WRITER_PID, pid)

    def add_reader(
        self,
        gating: bool,
        bell_line: int = NO_BELL,
        at: int | None = None,
        *,
        reader: int | None = None,
        follows: Iterable[int] = (),
        pid: int | None = None,
    ) -> int:
        """Add a reader and give its index.

        Parameters
        ----------
        gating : bool
            Whether it holds the writer back.
        bell_line : int
            Line on the board that ``publish`` rings when the reader sleeps, or NO_BELL.
        at : int, optional
            Position that it has finished already; by default all that is published. With ``gating`` on a ring in use
            the caller knows that no slot after it was overwritten.
        reader : int, optional
            The index to take; by default the first free one.
        follows : iterable of int
            Readers behind which this one stays by itself: their ``advance`` rings its bell.
        pid : int, optional
            Its process; by default this one.

        Raises
        ------
        RingReaderError
            No free index, the index is taken, or ``at`` is not in the ring.
        """
        words = self.ring.words
        capacity = len(self.ring.slots)
        head = load_acquire(words, layout.PUBLISHED)
        if at is not None and not (head - capacity <= at <= head and at >= words[layout.START]):
            first = max(int(words[layout.START]), head - capacity)
            raise RingReaderError(
                self.path, "no such position in the ring", f"{first} to {head}", at, "catch up from elsewhere first"
            )
        bell_line = self._checked_bell(bell_line)
        index = self._claim_reader(reader)
        block = layout.FIRST_READER + index * layout.READER_WORDS
        words[block + layout.READER_FOLLOWERS] = 0
        words[layout.READER_BELLS + index] = bell_line
        self._own_reader(index, pid)
        store_release(words, block + layout.READER_CURSOR, head if at is None else at)
        bit = 1 << index
        if gating:
            fetch_or(words, layout.GATING_MASK, bit)
        if bell_line != NO_BELL:
            fetch_or(words, layout.BELL_MASK, bit)
        for other in follows:
            fetch_or(words, layout.FIRST_READER + other * layout.READER_WORDS + layout.READER_FOLLOWERS, bit)
        if at is None:
            # The writer may have filled room that it found before it could see this reader: begin after that.
            fence()
            store_release(words, block + layout.READER_CURSOR, load_acquire(words, layout.PUBLISHED))
        return index

    def adopt_reader(self, reader: int, bell_line: int | None = None, pid: int | None = None) -> None:
        """Take over reader ``reader`` at its cursor, for process ``pid`` (default: this one).

        Raises RingReaderError if there is no such reader.
        """
        words = self.ring.words
        if not 0 <= reader < layout.MAX_READERS or not int(words[layout.ACTIVE_MASK]) >> reader & 1:
            raise RingReaderError(self.path, "cannot adopt", "an existing reader", reader, "add the reader first")
        if bell_line is not None:
            words[layout.READER_BELLS + reader] = self._checked_bell(bell_line)
            if bell_line == NO_BELL:
                fetch_and(words, layout.BELL_MASK, ~(1 << reader))
            else:
                fetch_or(words, layout.BELL_MASK, 1 << reader)
        self._own_reader(reader, pid)

    def drop_reader(self, reader: int) -> None:
        """Remove ``reader``, also one that died; a writer that it held back goes on."""
        words = self.ring.words
        keep = ~(1 << reader)
        for mask in (layout.GATING_MASK, layout.BELL_MASK):
            fetch_and(words, mask, keep)
        for other in range(layout.MAX_READERS):
            fetch_and(words, layout.FIRST_READER + other * layout.READER_WORDS + layout.READER_FOLLOWERS, keep)
        words[layout.FIRST_READER + reader * layout.READER_WORDS + layout.READER_PID] = 0
        fetch_and(words, layout.ACTIVE_MASK, keep)
        fence()
        ring_bell(self.ring.board, int(words[layout.WRITER_BELL]))

    def writer_alive(self) -> bool:
        """Whether the ring has a writer whose process runs."""
        words = self.ring.words
        return process_is_alive(load_acquire(words, layout.WRITER_PID), int(words[layout.WRITER_START_TICKS]))

    def readers(self) -> list[int]:
        """Indices of all readers."""
        mask = load_acquire(self.ring.words, layout.ACTIVE_MASK)
        return [reader for reader in range(layout.MAX_READERS) if mask >> reader & 1]

    def dead_readers(self) -> list[int]:
        """Indices of the readers whose process no longer runs."""
        words = self.ring.words
        dead = []
        for reader in self.readers():
            block = layout.FIRST_READER + reader * layout.READER_WORDS
            if not process_is_alive(
                int(words[block + layout.READER_PID]), int(words[block + layout.READER_START_TICKS])
            ):
                dead.append(reader)
        return dead

    @property
    def epoch(self) -> int:
        """Start of the owner for which the ring was made."""
        return int(self.ring.words[layout.EPOCH])

    def close(self) -> None:
        """Unmap; raises RingInUseError while arrays taken from ``ring`` are held elsewhere."""
        self.ring = Ring(np.zeros(0, np.int64), self.ring.slots[:0].copy(), private_board(0))
        close_map(self.path, self._mapping)

    def unlink(self) -> None:
        """Remove the name; the memory lives until all have unmapped it."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _claim_reader(self, reader: int | None) -> int:
        words = self.ring.words
        candidates = range(layout.MAX_READERS) if reader is None else range(reader, reader + 1)
        for index in candidates:
            if 0 <= index < layout.MAX_READERS and not fetch_or(words, layout.ACTIVE_MASK, 1 << index) >> index & 1:
                return index
        raise RingReaderError(
            self.path,
            "cannot add a reader",
            f"a free index of {layout.MAX_READERS}" if reader is None else f"index {reader} to be free",
            f"taken: {self.readers()}",
            "drop readers that died",
        )

    def _own_reader(self, reader: int, pid: int | None) -> None:
        block = layout.FIRST_READER + reader * layout.READER_WORDS
        pid = os.getpid() if pid is None else pid
        self.ring.words[block + layout.READER_START_TICKS] = process_start_ticks(pid)
        store_release(self.ring.words, block + layout.READER_PID, pid)

    def _checked_bell(self, bell_line: int) -> int:
        lines = len(self.ring.board) // 16
        if bell_line != NO_BELL and not 0 <= bell_line < lines:
            raise RingReaderError(
                self.path,
                "no such bell line",
                f"a line of the board (0 to {lines - 1})",
                bell_line,
                "attach with the board",
            )
        return bell_line


def _signed(value: int) -> int:
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def _check_header(
    path: Path, words: np.ndarray, slot_size: int, schema_hash: int, epoch: int | None, capacity: int | None
) -> None:
    found = [int(word) for word in words[: layout.EPOCH + 1]]
    if found[layout.MAGIC] != layout.RING_MAGIC:
        raise RingFormatError(
            path, "not a ring", f"{layout.RING_MAGIC:#x}", f"{found[layout.MAGIC]:#x}", "correct the path"
        )
    if found[layout.VERSION] != layout.RING_VERSION:
        raise RingVersionError(
            path, "ring of another version", layout.RING_VERSION, found[layout.VERSION], _ADVICE_RESTART
        )
    if found[layout.SLOT_SIZE] != slot_size:
        raise RingSlotSizeError(
            path, "slots of another size", f"{slot_size} bytes", f"{found[layout.SLOT_SIZE]}", _ADVICE_RESTART
        )
    size = found[layout.CAPACITY]
    if size <= 0 or size & (size - 1):
        raise RingCapacityError(
            path, "the header is damaged", "a power of two", size, "remove it and restart its owner"
        )
    if capacity is not None and size != capacity:
        raise RingCapacityError(
            path, "ring of another capacity", capacity, size, "restart the instance after a change of configuration"
        )
    if found[layout.SCHEMA_HASH] != _signed(schema_hash):
        raise RingSchemaError(
            path,
            "records of another definition",
            f"{schema_hash & 0xFFFFFFFFFFFFFFFF:#018x}",
            f"{found[layout.SCHEMA_HASH] & 0xFFFFFFFFFFFFFFFF:#018x}",
            _ADVICE_RESTART,
        )
    if epoch is not None and found[layout.EPOCH] != epoch:
        raise RingEpochError(
            path, "ring of another epoch", epoch, found[layout.EPOCH], "attach to the ring of the running engine"
        )
