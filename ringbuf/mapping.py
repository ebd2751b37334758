"""Files mapped into memory: made whole or not at all, with room reserved, and closed without dangling views."""

import errno
import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ringbuf.errors import RingExistsError, RingInUseError, RingMissingError, RingSpaceError, RingTruncatedError

__all__ = [
    "close_map",
    "create_file",
    "free_bytes",
    "map_file",
    "process_is_alive",
    "process_start_ticks",
    "view",
]


def free_bytes(directory: Path) -> int:
    """Bytes that an unprivileged process can still write to the file system of ``directory``."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def create_file(path: Path, size_bytes: int, header: bytes, *, reserve: bool) -> None:
    """Make ``path`` of ``size_bytes`` zero bytes that start with ``header``; it appears whole or not at all.

    With ``reserve`` the file system sets all blocks aside now, so that a full one is an error here and not a SIGBUS
    at the first write; without it the file is sparse.

    Raises RingExistsError if the name is taken, RingSpaceError if the file system is full.
    """
    if path.exists():
        raise _exists(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            if reserve:
                os.posix_fallocate(descriptor, 0, size_bytes)
            else:
                os.ftruncate(descriptor, size_bytes)
            os.pwrite(descriptor, header, 0)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}:
                raise
            raise RingSpaceError(
                path,
                "no room for the file",
                f"{size_bytes} free bytes",
                f"{free_bytes(path.parent)}",
                "free space there, enlarge that file system or configure a smaller capacity",
            ) from error
        try:
            # A link, unlike a rename, does not replace a file that another process made meanwhile.
            os.link(temporary, path)
        except FileExistsError as error:
            raise _exists(path) from error
    finally:
        os.close(descriptor)
        temporary.unlink()


def _exists(path: Path) -> RingExistsError:
    return RingExistsError(
        path, "cannot make the file", "an unused name", "a file of that name", "remove it, or attach to it instead"
    )


def map_file(path: Path, smallest_bytes: int) -> mmap.mmap:
    """Map the whole of ``path`` shared, for reading and writing.

    Raises RingMissingError if there is no such file, RingTruncatedError if it has fewer than ``smallest_bytes``.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise RingMissingError(
            path, "cannot attach", "a file", "none", "start its owner first, or correct the path"
        ) from error
    try:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes < smallest_bytes:
            raise RingTruncatedError(
                path,
                "the file is cut short",
                f"at least {smallest_bytes} bytes",
                f"{size_bytes}",
                "remove it and restart its owner",
            )
        return mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(descriptor)


def view(mapping: mmap.mmap, dtype: npt.DTypeLike, shape: int | tuple[int, ...], offset: int) -> np.ndarray:
    """Array of ``shape`` on the map, ``offset`` bytes from its start, which keeps the map from being closed.

    ``np.ndarray(shape, dtype, mapping)`` would not: it lets the buffer go, and after a close the array points into
    nothing.
    """
    record = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.zeros(shape, record)
    return np.frombuffer(mapping, record, count, offset).reshape(shape)


def close_map(path: Path, mapping: mmap.mmap) -> None:
    """Unmap; raises RingInUseError while arrays of the caller still look at the memory."""
    try:
        mapping.close()
    except BufferError as error:
        raise RingInUseError(
            path, "cannot unmap", "no array that views the file", "at least one", "drop those arrays before closing"
        ) from error


def process_start_ticks(pid: int) -> int:
    """Start of process ``pid`` in clock ticks since boot; 0 when it does not run (a zombie does not)."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The name in parentheses may hold spaces and parentheses; fields count from the last one: state is 3, start time
    # 22.
    fields = line[line.rindex(b")") + 2 :].split()
    return 0 if fields[0] in {b"Z", b"X"} else int(fields[19])


def process_is_alive(pid: int, start_ticks: int) -> bool:
    """Whether the process ``pid`` that began at ``start_ticks`` still runs; a later one with that number is not it."""
    return pid > 0 and start_ticks > 0 and process_start_ticks(pid) == start_ticks
