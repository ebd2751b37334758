"""Where segments lie: a narrow interface that a simulated disk can stand in for, and the directory of a real one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import numpy as np

from persistence.journal import packed
from persistence.journal.errors import JournalError
from persistence.journal.layout import BLOCK_BYTES, packed_number, segment_number

_ZEROS: Final = bytes(1024 * 1024)
_SYNC_EVERY_BYTES: Final = 4 * 1024 * 1024
_PACKED: Final = ".zst"
_UNPACKED_MAX: Final = 2
_T = TypeVar("_T")


class SegmentFile(Protocol):
    """A segment open for writing. Errors are OSError."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at ``offset``."""

    def sync(self) -> None:
        """Return once everything written to this file is on the disk."""

    def close(self) -> None:
        """Close the file; does not sync."""


class JournalStore(Protocol):
    """The files of one journal by name. Errors are OSError."""

    def label(self, name: str) -> str:
        """The file as messages shall call it."""

    def names(self) -> list[str]:
        """All files, sorted."""

    def size_bytes(self, name: str) -> int:
        """Size of a file."""

    def read_into(self, name: str, offset: int, target: memoryview) -> int:
        """Fill ``target`` from the file; the bytes read, fewer only at its end."""

    def create(self, name: str, size_bytes: int, head: bytes = b"") -> None:
        """Make a file of ``head`` and then zeros, all on the disk on return; nothing is left of it on an error."""

    def prepare(self, name: str, size_bytes: int) -> None:
        """Start ``create(name, size_bytes)`` in the background."""

    def prepared(self, name: str) -> bool:
        """Whether ``prepare`` has finished; raises, once, the error that ended it."""

    def open(self, name: str) -> SegmentFile:
        """Open an existing file for writing."""

    def rename(self, old: str, new: str) -> None:
        """Rename a file; lasting after ``sync_directory``."""

    def remove(self, name: str) -> None:
        """Remove a file; lasting after ``sync_directory``."""

    def sync_directory(self) -> None:
        """Return once all names are on the disk."""

    def lock(self) -> None:
        """Become the only writer, or raise JournalError."""

    def unlock(self) -> None:
        """Let another writer in."""


def read_bytes(store: JournalStore, name: str, offset: int, size_bytes: int) -> memoryview:
    """Up to ``size_bytes`` from ``offset``, fewer only at the end of the file; a copy that may be written to."""
    # Not a bytearray, which would be zeroed first: that takes longer than the reading.
    target = np.empty(size_bytes, dtype=np.uint8).data
    return target[: store.read_into(name, offset, target)]


class _DirectoryFile:
    """A segment file of a DirectoryStore."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, offset: int, data: memoryview) -> None:
        _write_all(self._descriptor, offset, data)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class _Preparation(threading.Thread):
    """Creates one file in the background, so that the journal never waits for a segment to be zero-filled."""

    def __init__(self, store: DirectoryStore, name: str, size_bytes: int) -> None:
        super().__init__(name=f"prepare {name}", daemon=True)
        self._store = store
        self._file = name
        self._size_bytes = size_bytes
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            self._store.create(self._file, self._size_bytes)
        except OSError as error:
            self.error = error


class DirectoryStore:
    """A journal in a directory, which is made if it is not there.

    A segment that was compressed (``NNNNNNNN.seg.zst``) is read under its plain name; where both are there, the plain one counts.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._preparations: dict[str, _Preparation] = {}
        self._lock_descriptor = -1
        self._unpacked: dict[tuple[str, int, int], bytes] = {}

    def label(self, name: str) -> str:
        """The file as messages shall call it."""
        return str(self._packed(name) if self.is_compressed(name) else self.directory / name)

    def names(self) -> list[str]:
        """All files, sorted; a compressed segment by its plain name."""
        if not self.directory.is_dir():
            return []
        names = {path.name for path in self.directory.iterdir()}
        compressed = {name for name in names if packed_number(name)}
        return sorted((names - compressed) | {name.removesuffix(_PACKED) for name in compressed})

    def is_compressed(self, name: str) -> bool:
        """Whether a segment is there in its compressed form only."""
        return not (self.directory / name).exists() and os.path.lexists(self._packed(name))

    def stored_bytes(self, name: str) -> int:
        """What a file takes in the directory, compressed or not."""
        path = self.directory / name
        return (path if path.exists() else self._packed(name)).stat().st_size

    def size_bytes(self, name: str) -> int:
        """Size of a file; of a compressed one, of what is in it."""
        try:
            return (self.directory / name).stat().st_size
        except FileNotFoundError:
            self._check_archive(name)
            return self._of_packed(name, packed.read_prefix).size_bytes

    def read_into(self, name: str, offset: int, target: memoryview) -> int:
        """Fill ``target`` from the file; the bytes read, fewer only at its end.

        Raises JournalCorrupt, with the position, where a compressed segment does not give back what was put into it.
        """
        try:
            return _read_plain(self.directory / name, offset, target)
        except FileNotFoundError:
            self._check_archive(name)
        if offset + len(target) <= BLOCK_BYTES:
            content = self._of_packed(name, packed.read_head)
        else:
            content = self._unpack(name)
        part = content[offset : offset + len(target)]
        target[: len(part)] = part
        return len(part)

    def _packed(self, name: str) -> Path:
        return self.directory / f"{name}{_PACKED}"

    def _check_archive(self, name: str) -> None:
        path = self._packed(name)
        if path.is_symlink() and not path.exists():
            raise JournalError(
                f"journal segment {path}: it was archived to {path.readlink()}, which is not there; "
                f"mount that folder, or put the file back"
            )

    def _unpack(self, name: str) -> bytes:
        """Content of a compressed segment; the last few are kept."""
        stat = self._packed(name).stat()
        key = (name, stat.st_mtime_ns, stat.st_size)
        if key not in self._unpacked:
            content = self._of_packed(name, packed.unpack)
            while len(self._unpacked) >= _UNPACKED_MAX:
                del self._unpacked[next(iter(self._unpacked))]
            self._unpacked[key] = content
        return self._unpacked[key]

    def _of_packed(self, name: str, read: Callable[[Path], _T]) -> _T:
        path = self._packed(name)
        try:
            return read(path)
        except packed.Damaged as damaged:
            from persistence.journal.damage import damage_of

            raise damage_of(str(path), segment_number(name), damaged) from None

    def create(self, name: str, size_bytes: int, head: bytes = b"") -> None:
        """Make a file of ``head`` and then zeros, all on the disk on return; nothing is left of it on an error."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _fill(descriptor, size_bytes, head)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(descriptor)

    def prepare(self, name: str, size_bytes: int) -> None:
        """Start ``create(name, size_bytes)`` in the background."""
        assert name not in self._preparations, "a file is prepared once"
        thread = _Preparation(self, name, size_bytes)
        self._preparations[name] = thread
        thread.start()

    def prepared(self, name: str) -> bool:
        """Whether ``prepare`` has finished; raises, once, the error that ended it."""
        thread = self._preparations[name]
        if thread.is_alive():
            return False
        del self._preparations[name]
        if thread.error is not None:
            raise thread.error
        return True

    def open(self, name: str) -> SegmentFile:
        """Open an existing file for writing."""
        return _DirectoryFile(os.open(self.directory / name, os.O_RDWR | os.O_CLOEXEC))

    def rename(self, old: str, new: str) -> None:
        """Rename a file; lasting after ``sync_directory``."""
        (self.directory / old).rename(self.directory / new)

    def remove(self, name: str) -> None:
        """Remove a file, its compressed form too; lasting after ``sync_directory``."""
        path, compressed = self.directory / name, self._packed(name)
        if os.path.lexists(compressed):
            compressed.unlink()
            path.unlink(missing_ok=True)
        else:
            path.unlink()

    def sync_directory(self) -> None:
        """Return once all names are on the disk."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self) -> None:
        """Become the only writer, or raise JournalError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise JournalError(
                f"journal {self.directory}: another process writes it ({error.strerror}); stop the other engine first"
            ) from error
        self._lock_descriptor = descriptor

    def unlock(self) -> None:
        """Let another writer in."""
        for thread in list(self._preparations.values()):
            thread.join()
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1


def _read_plain(path: Path, offset: int, target: memoryview) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        done = 0
        while done < len(target):
            got = os.preadv(descriptor, [target[done:]], offset + done)
            if got == 0:
                break
            done += got
        return done
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, offset: int, data: memoryview) -> None:
    written = os.pwrite(descriptor, data, offset)
    if written != len(data):
        raise OSError(errno.EIO, f"only {written} of {len(data)} bytes were written")


def _fill(descriptor: int, size_bytes: int, head: bytes) -> None:
    """Write ``head`` and real zeros: later writes then change data blocks only, and a sync need not touch metadata."""
    os.posix_fallocate(descriptor, 0, size_bytes)
    if head:
        _write_all(descriptor, 0, memoryview(head))
    offset = len(head)
    unsynced_bytes = offset
    while offset < size_bytes:
        chunk = memoryview(_ZEROS)[: size_bytes - offset]
        _write_all(descriptor, offset, chunk)
        offset += len(chunk)
        unsynced_bytes += len(chunk)
        # In portions, so that the journal's own syncs on the same disk do not queue behind a whole segment.
        if unsynced_bytes >= _SYNC_EVERY_BYTES:
            os.fdatasync(descriptor)
            unsynced_bytes = 0
    os.fsync(descriptor)
