"""The journal: every command in order, on disk before anyone is told of it.

``layout`` says what the bytes mean, ``writer`` puts them there, ``recovery`` judges them after a crash, ``reader``
gives them back, ``store`` is the directory they lie in, ``process`` runs the writer beside the engine.
"""

from persistence.journal.errors import JournalCorrupt, JournalError, JournalFailed, JournalMismatch
from persistence.journal.layout import SEGMENT_BYTES, SEGMENT_BYTES_MIN
from persistence.journal.process import JournalProcess
from persistence.journal.reader import JournalReader
from persistence.journal.recovery import (
    Cut,
    ScanResult,
    SegmentInfo,
    describe,
    scan,
    start_new_segment_after_recovery,
)
from persistence.journal.store import DirectoryStore, JournalStore, SegmentFile
from persistence.journal.writer import JournalWriter, WriterPosition

__all__ = [
    "SEGMENT_BYTES",
    "SEGMENT_BYTES_MIN",
    "Cut",
    "DirectoryStore",
    "JournalCorrupt",
    "JournalError",
    "JournalFailed",
    "JournalMismatch",
    "JournalProcess",
    "JournalReader",
    "JournalStore",
    "JournalWriter",
    "ScanResult",
    "SegmentFile",
    "SegmentInfo",
    "WriterPosition",
    "describe",
    "scan",
    "start_new_segment_after_recovery",
]
