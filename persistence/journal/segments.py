"""What reader and recovery share: which segment files count, and whether the bytes at an offset are a batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from persistence.journal.errors import RESTORE_ADVICE, JournalCorrupt, JournalMismatch
from persistence.journal.layout import (
    BATCH_HEADER_BYTES,
    BATCH_MAGIC_WORD,
    BLOCK_BYTES,
    BatchHeader,
    Buffer,
    SegmentHeader,
    batch_crc,
    prepared_number,
    segment_name,
    segment_number,
    unpack_batch_header,
    unpack_segment_header,
)
from persistence.journal.store import JournalStore, read_bytes
from protocol.codec import ERROR_TEXT, SLOT_WORDS, decode


class Lineage(NamedTuple):
    """The segments that make up the history, oldest first, and the files that do not count."""

    headers: tuple[SegmentHeader, ...]
    leftovers: tuple[str, ...]


class Batch(NamedTuple):
    """A batch that is sound by itself."""

    header: BatchHeader
    crc: int


def read_segment_header(store: JournalStore, name: str) -> SegmentHeader | str:
    """Header of a segment file, or words that say what stands there instead; the size of the file is checked too."""
    header = unpack_segment_header(read_bytes(store, name, 0, BLOCK_BYTES), segment_number(name), store.label(name))
    if isinstance(header, SegmentHeader) and store.size_bytes(name) != header.segment_bytes:
        return f"a file of {store.size_bytes(name)} bytes whose header states {header.segment_bytes}"
    return header


def lineage(store: JournalStore) -> Lineage:
    """Follow ``previous_segment`` from the newest segment back.

    Raises
    ------
    JournalCorrupt
        A damaged header, a missing segment.
    JournalMismatch
        Another format or schema, or a segment of another journal among them.
    """
    names = store.names()
    numbers = sorted(number for number in map(segment_number, names) if number)
    leftovers = [name for name in names if prepared_number(name)]
    headers: list[SegmentHeader] = []
    number = numbers[-1] if numbers else 0
    while number in numbers:
        header = _sound_header(store, number, headers)
        headers.append(header)
        replaced = [n for n in numbers if header.previous_segment < n < number]
        leftovers.extend(segment_name(n) for n in replaced)
        number = header.previous_segment
    if number and numbers[0] < number:
        follower = store.label(segment_name(headers[-1].segment))
        raise JournalCorrupt(
            store.label(segment_name(number)), 0, 0, f"no such file, though {follower} follows it", RESTORE_ADVICE
        )
    headers.reverse()
    return Lineage(tuple(headers), tuple(leftovers))


def history_at(headers: tuple[SegmentHeader, ...], seq: int) -> str:
    """Name of the history that command slot ``seq`` belongs to, as snapshots and databases keep it; empty for a journal not begun.

    What lies before the first segment is taken for a part of that one's, what comes behind the last one for what it goes on with.
    """
    reaching = [header for header in headers if header.first_seq <= seq] or list(headers[:1])
    return reaching[-1].history if reaching else ""


def _sound_header(store: JournalStore, number: int, newer: list[SegmentHeader]) -> SegmentHeader:
    name = segment_name(number)
    header = read_segment_header(store, name)
    if isinstance(header, str):
        raise JournalCorrupt(store.label(name), 0, 0, header, RESTORE_ADVICE)
    if newer and header.journal_id != newer[-1].journal_id:
        raise JournalMismatch(
            f"journal segment {store.label(name)}: journal id {header.journal_id.hex()}, but "
            f"{segment_name(newer[-1].segment)} has {newer[-1].journal_id.hex()}; "
            f"one of them belongs to another home: move it back"
        )
    if newer and (header.epoch > newer[-1].epoch or header.first_seq > newer[-1].first_seq):
        found = f"epoch {header.epoch} from seq {header.first_seq}, newer than the segment after it"
        raise JournalCorrupt(store.label(name), 0, 0, found, RESTORE_ADVICE)
    return header


class SegmentCursor:
    """Walks the batches of one segment in order and says of each whether it is sound and follows the one before.

    Attributes
    ----------
    offset, next_seq, crc, epoch : int
        Where the next batch should begin, its first seq, what it continues, and the least epoch that it may have.
    """

    def __init__(self, header: SegmentHeader, seed: int) -> None:
        self.header = header
        self.offset = BLOCK_BYTES
        self.next_seq = header.first_seq
        self.crc = header.previous_crc
        self.epoch = 0
        self._seed = seed

    @property
    def at_end(self) -> bool:
        """Whether the file has no room for another batch."""
        return self.offset >= self.header.segment_bytes

    def examine(self, view: Buffer) -> Batch | str:
        """The batch that ``view`` starts with, which lies at ``offset``; or words that say what is wrong with it."""
        batch = sound_batch(view, self.offset, self.header.segment, self._seed)
        if isinstance(batch, str):
            return batch
        header = batch.header
        if header.previous_crc != self.crc or header.first_seq != self.next_seq:
            return f"the batch of seq {header.first_seq}..{header.last_seq}, which does not follow the one before"
        if not self.epoch <= header.epoch <= self.header.epoch:
            return f"a batch of epoch {header.epoch} in a segment of epoch {self.header.epoch}"
        return batch

    def take(self, batch: Batch) -> None:
        """Go behind a batch that ``examine`` gave."""
        self.offset += batch.header.size_bytes
        self.next_seq += batch.header.slots
        self.crc = batch.crc
        self.epoch = batch.header.epoch


def sound_batch(view: Buffer, offset: int, segment: int, seed: int) -> Batch | str:
    """The batch that ``view`` starts with if it is whole and belongs here, or words that say what is wrong."""
    parsed = unpack_batch_header(view)
    if isinstance(parsed, str):
        return parsed
    header, crc = parsed
    if header.segment != segment or header.block != offset // BLOCK_BYTES:
        return f"a batch of segment {header.segment}, block {header.block}"
    if header.size_bytes > len(view):
        return f"a batch of {header.size_bytes} bytes, beyond the end of the file"
    if batch_crc(memoryview(view)[: header.size_bytes], header.previous_crc, seed) != crc:
        return f"a batch of seq {header.first_seq}..{header.last_seq} whose checksum does not fit"
    return Batch(header, crc)


def later_durable_seq(data: Buffer, offset: int, segment: int, seed: int) -> int:
    """Highest durable seq that a sound batch behind the block at ``offset`` states; 0 where there is no such batch."""
    words = np.frombuffer(data, dtype="<u4").reshape(-1, BLOCK_BYTES // 4)[:, 0]
    blocks = np.flatnonzero(words == BATCH_MAGIC_WORD)
    view = memoryview(data)
    highest = 0
    for block in blocks[blocks > offset // BLOCK_BYTES].tolist():
        batch = sound_batch(view[block * BLOCK_BYTES :], block * BLOCK_BYTES, segment, seed)
        if isinstance(batch, Batch):
            highest = max(highest, batch.header.durable_seq)
    return highest


def end_of_data(data: Buffer, offset: int) -> int:
    """Offset behind the last block, at or after ``offset``, that is not zero; ``offset`` where all of them are."""
    if offset >= len(data):
        return offset
    words = np.frombuffer(data, dtype=np.int64, offset=offset)
    if not words.any():
        return offset
    last = int(np.flatnonzero(words.reshape(-1, BLOCK_BYTES // 8).any(axis=1))[-1])
    return offset + (last + 1) * BLOCK_BYTES


def decode_batch(payload: np.ndarray, header: BatchHeader) -> np.ndarray | str:
    """Slots of a batch as int64[slots, 16] from its payload (int64); or words that say what is wrong."""
    words = np.empty((header.slots, SLOT_WORDS), dtype=np.int64)
    slots = decode(payload, header.payload_bytes, words, header.first_seq, header.prev_ts_ns)
    if slots < 0:
        return f"records that cannot be read: {ERROR_TEXT[slots]}"
    if slots != header.slots:
        return f"{slots} records where the header states {header.slots}"
    return words


def payload_words(data: Buffer, offset: int, header: BatchHeader) -> np.ndarray:
    """The payload of the batch at ``offset`` of ``data`` as int64 words; no copy."""
    return np.frombuffer(data, dtype=np.int64, count=header.payload_bytes // 8, offset=offset + BATCH_HEADER_BYTES)
