"""Old segments, compressed: those that neither recovery nor any consumer needs any more, and that are old enough by rule.

Readers see no difference (``journal.store``). The order for segment N makes every crash harmless: the compressed file is written, synced
and read back; it gets its name (in the archive's folder: there, with a link in the journal), the names are synced; only then does the
plain file go. While both are there the plain one counts, and the next step does it again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from persistence.children import fork_beside
from persistence.consumers import positions
from persistence.journal.errors import RESTORE_ADVICE, JournalCorrupt, JournalError
from persistence.journal.layout import SegmentHeader, chain_start, packed_name, segment_name
from persistence.journal.packed import Damaged, pack, unpack
from persistence.journal.segments import SegmentCursor, end_of_data, lineage
from persistence.journal.store import DirectoryStore, read_bytes
from persistence.snapshots.folder import SnapshotFolder

_LOOK_NS: Final = 2_000_000_000
_AFTER_FAILURE_NS: Final = 60_000_000_000
_NICE: Final = 19


class Rule(msgspec.Struct, frozen=True):
    """Which segments are compressed, and where they go."""

    after_segments: int
    """So many closed segments stay as they are, the newest ones; -1 = none is ever compressed."""
    folder: str
    """Where compressed segments lie; empty: in the journal."""


def needed_from(home: Path) -> int:
    """First command slot that recovery or a consumer may still want: the one after the oldest snapshot kept and the last position."""
    snapshots = SnapshotFolder(home).seqs()
    return min([*snapshots[:1], *positions(home).values()], default=0) + 1 if snapshots else 1


def next_to_archive(home: Path, rule: Rule, needed_from_seq: int) -> SegmentHeader | None:
    """The oldest segment that is to be compressed now, by its header."""
    if rule.after_segments < 0:
        return None
    store = DirectoryStore(home / "journal")
    headers = lineage(store).headers
    closed = headers[:-1]
    for at, header in enumerate(closed[: len(closed) - rule.after_segments] if rule.after_segments else closed):
        if headers[at + 1].first_seq > needed_from_seq:
            return None
        if (store.directory / segment_name(header.segment)).exists():
            return header
    return None


def archive_step(home: Path, rule: Rule, needed_from_seq: int) -> Path | None:
    """Compress one segment; where it lies now, or None where there is nothing to do.

    Raises JournalCorrupt where the segment is damaged, which then stays as it is; OSError.
    """
    header = next_to_archive(home, rule, needed_from_seq)
    if header is None:
        return None
    store = DirectoryStore(home / "journal")
    name = segment_name(header.segment)
    data = read_bytes(store, name, 0, header.segment_bytes)
    _check(store, header, data)
    link = store.directory / packed_name(header.segment)
    place = link
    if rule.folder:
        # Homes may share the folder, and two of one journal have segments of the same number that differ.
        place = Path(rule.folder).expanduser().absolute() / lineage(store).headers[-1].history / link.name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(place, pack(data), bytes(data))
    if place != link:
        scratch = link.with_name(f".{link.name}.new")
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(place)
        scratch.replace(link)
        store.sync_directory()
    (store.directory / name).unlink()
    store.sync_directory()
    return place


def _check(store: DirectoryStore, header: SegmentHeader, data: memoryview) -> None:
    """Every batch must be sound: what is damaged is not hidden in a compressed file."""
    cursor = SegmentCursor(header, chain_start(header.journal_id))
    problem = ""
    while not cursor.at_end:
        batch = cursor.examine(data[cursor.offset :])
        if isinstance(batch, str):
            problem = batch
            break
        cursor.take(batch)
    if end_of_data(data, cursor.offset) > cursor.offset:
        label = store.label(segment_name(header.segment))
        raise JournalCorrupt(label, cursor.offset, cursor.next_seq, problem, RESTORE_ADVICE)


def _write(place: Path, content: bytes, segment: bytes) -> None:
    scratch = place.with_name(f".{place.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            same = unpack(scratch) == segment
        except Damaged:
            same = False
        if not same:
            raise OSError(5, "what was written does not read back", str(scratch))
        scratch.replace(place)
    finally:
        scratch.unlink(missing_ok=True)
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Archiver:
    """The replica's side: has what is due compressed by a fork of low priority, so that nothing waits for it."""

    def __init__(self, home: Path, rule: Rule, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._home = home
        self._rule = rule
        self._clock_ns = clock_ns
        self._pid = 0
        self._look_ns = 0

    def step(self) -> None:
        """Look for the end of the fork, and now and then for a segment that is due."""
        if self._pid:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                self._look_ns = self._clock_ns() + (_AFTER_FAILURE_NS if status else 0)
            return
        now_ns = self._clock_ns()
        if self._rule.after_segments < 0 or now_ns < self._look_ns:
            return
        self._look_ns = now_ns + _LOOK_NS
        try:
            if next_to_archive(self._home, self._rule, needed_from(self._home)) is not None:
                self._pid = fork_beside("cb:archive", self._work, _NICE)
        except (JournalError, OSError) as error:
            self._look_ns = now_ns + _AFTER_FAILURE_NS
            _say(f"archive: {error}")

    def close(self) -> None:
        """Wait for the fork: a segment takes it less than a second."""
        if self._pid:
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _work(self) -> int:
        try:
            while (place := archive_step(self._home, self._rule, needed_from(self._home))) is not None:
                _say(f"archive: {place}")
        except (JournalError, OSError) as error:
            _say(f"archive: {error}")
            return 1
        return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
