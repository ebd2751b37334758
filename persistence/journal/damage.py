"""Where a compressed segment is damaged: the first batch that it does not give back."""

from __future__ import annotations

from persistence.journal.errors import RESTORE_ADVICE, JournalCorrupt
from persistence.journal.layout import BLOCK_BYTES, SegmentHeader, chain_start, unpack_segment_header
from persistence.journal.packed import Damaged
from persistence.journal.segments import SegmentCursor


def damage_of(label: str, segment: int, damaged: Damaged) -> JournalCorrupt:
    """The error that names the place; offsets count in the segment, not in the compressed file.

    Where every batch is sound and only the compressed file itself is not, the place is the end of the last batch.
    """
    content = damaged.content
    header = unpack_segment_header(content, segment, label) if len(content) >= BLOCK_BYTES else "no header"
    if not isinstance(header, SegmentHeader):
        return JournalCorrupt(label, 0, 0, str(damaged), RESTORE_ADVICE)
    cursor = SegmentCursor(header, chain_start(header.journal_id))
    view = memoryview(content)
    while not cursor.at_end and len(view) - cursor.offset >= BLOCK_BYTES:
        batch = cursor.examine(view[cursor.offset :])
        if isinstance(batch, str):
            break
        cursor.take(batch)
    return JournalCorrupt(label, cursor.offset, cursor.next_seq, str(damaged), RESTORE_ADVICE)
