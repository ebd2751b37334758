"""What a loss of power leaves of a home: made from the record that ``disk.c`` kept of every change and every sync.

Of the writes of a file since its last sync each 512-byte sector is on the disk or not, whatever came before or after it, and one of
them ends in its middle, at any byte. What a failed sync was to bring to the disk never counts as synced. Of the names of a
folder that were changed since its last sync the first few are there, as on a file system that keeps a journal of them.
"""

import os
import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.chaos.machine import Machine

SECTOR_BYTES = 512
_WRITE, _SYNCED, _SYNC_FAILED, _CREATE, _RENAME, _UNLINK, _LINK, _FOLDER_SYNCED, _RESIZE = range(1, 10)
_HEAD_WORDS = 11


class Entry(NamedTuple):
    """One line of the record; ``old`` is what was there, ``new`` what was written."""

    place: int
    kind: int
    inode: int
    offset: int
    old_size: int
    new_size: int
    upto: int
    path: str
    other: str
    old: bytes
    new: bytes


class Lost(NamedTuple):
    """What was not synced, and how much of it went."""

    sectors: int
    sectors_lost: int
    names: int
    names_lost: int

    def __str__(self) -> str:
        return (
            f"{self.sectors_lost} of {self.sectors} unsynced sectors and "
            f"{self.names_lost} of {self.names} unsynced names lost"
        )


def entries(log: Path) -> Iterator[Entry]:
    """The record, in order; an entry that a killed process left unfinished ends it."""
    data = log.read_bytes() if log.exists() else b""
    place = 0
    while place + 8 * _HEAD_WORDS <= len(data):
        head = np.frombuffer(data, np.int64, _HEAD_WORDS, place).tolist()
        size, kind, inode, offset, new, old, old_size, new_size, upto, path, other = head
        if place + size > len(data):
            return
        parts = []
        at = place + 8 * _HEAD_WORDS
        for length in (path, other, old, new):
            parts.append(data[at : at + length])
            at += length
        yield Entry(
            place,
            kind,
            inode,
            offset,
            old_size,
            new_size,
            upto,
            os.fsdecode(parts[0]),
            os.fsdecode(parts[1]),
            *parts[2:],
        )
        place += size


def lose(machine: Machine, rng: random.Random) -> Lost:
    """Nothing runs any more: leave of the home what a loss of power would, and begin the record anew."""
    data, names = _unsynced(machine.log)
    keep = rng.choice((0.0, 0.5, 0.9, 1.0))
    where = {path.stat().st_ino: path for path in _files(machine.home, machine.graves)}
    sectors = kept = 0
    for inode, changes in data.items():
        if inode in where:
            count, still = _tear(where[inode], changes, keep, rng)
            sectors, kept = sectors + count, kept + still
    unsynced = undone = 0
    for changes in names.values():
        first = rng.randint(0, len(changes)) if rng.random() < 0.8 else len(changes)
        for entry in reversed(changes[first:]):
            _rename_back(entry, machine.graves)
        unsynced, undone = unsynced + len(changes), undone + len(changes) - first
    machine.log.unlink(missing_ok=True)
    shutil.rmtree(machine.graves)
    machine.graves.mkdir()
    return Lost(sectors, sectors - kept, unsynced, undone)


def _unsynced(log: Path) -> tuple[dict[int, list[Entry]], dict[str, list[Entry]]]:
    """Changes that no sync has covered: of data by inode, of names by folder."""
    data: dict[int, list[Entry]] = defaultdict(list)
    doubtful: dict[int, set[int]] = defaultdict(set)
    names: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries(log):
        if entry.kind in (_WRITE, _RESIZE):
            data[entry.inode].append(entry)
        elif entry.kind == _SYNC_FAILED:
            doubtful[entry.inode] |= {change.place for change in data[entry.inode] if change.place < entry.upto}
        elif entry.kind == _SYNCED:
            # What a failed sync left never reaches the disk, whatever a later one says.
            lost = doubtful[entry.inode]
            data[entry.inode] = [c for c in data[entry.inode] if c.place >= entry.upto or c.place in lost]
        elif entry.kind == _FOLDER_SYNCED:
            names[entry.path] = [change for change in names[entry.path] if change.place >= entry.upto]
        else:
            names[str(Path(entry.other or entry.path).parent)].append(entry)
    return data, names


def _files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _tear(path: Path, changes: list[Entry], keep: float, rng: random.Random) -> tuple[int, int]:
    """Undo all, then do again what reached the disk; (sectors that were not synced, those that are there)."""
    content = bytearray(path.read_bytes())
    for change in reversed(changes):
        content = _undone(content, change)
    pieces = [piece for change in changes for piece in _pieces(change)]
    kept = [piece for piece in pieces if rng.random() < keep]
    torn = rng.randrange(len(kept)) if kept and keep < 1 else -1
    for number, (start, data) in enumerate(kept):
        if data is None:
            del content[start:]
            content.extend(bytes(start - len(content)))
            continue
        part = data[: rng.randrange(len(data) + 1)] if number == torn else data
        content.extend(bytes(max(0, start + len(part) - len(content))))
        content[start : start + len(part)] = part
    path.write_bytes(content)
    return len(pieces), len(kept)


def _pieces(change: Entry) -> Iterator[tuple[int, bytes | None]]:
    """What of a change reaches the disk by itself: a sector, or (size, None)."""
    if change.kind == _RESIZE:
        yield change.new_size, None
        return
    start, last = change.offset, change.offset + len(change.new)
    while start < last:
        end = min((start // SECTOR_BYTES + 1) * SECTOR_BYTES, last)
        yield start, change.new[start - change.offset : end - change.offset]
        start = end


def _undone(content: bytearray, change: Entry) -> bytearray:
    del content[change.old_size :]
    content.extend(bytes(change.old_size - len(content)))
    content[change.offset : change.offset + len(change.old)] = change.old
    return content


def _rename_back(entry: Entry, graves: Path) -> None:
    """Undo a change of a name; one whose process was killed before it was made has nothing to undo."""
    path, other, grave = Path(entry.path), Path(entry.other), graves / str(entry.upto)
    if entry.kind == _CREATE:
        path.unlink(missing_ok=True)
    elif entry.kind == _LINK:
        other.unlink(missing_ok=True)
    elif entry.kind == _RENAME and not os.path.lexists(path) and os.path.lexists(other):
        other.rename(path)
        if entry.upto and grave.exists():
            os.link(grave, other)
    elif entry.kind == _UNLINK and not os.path.lexists(path) and entry.upto and grave.exists():
        os.link(grave, path)
