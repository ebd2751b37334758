"""Named arrays laid out in one buffer: the state of a process, or tables that one process writes and others read.

A specification is a sequence of ``(name, dtype, shape)``; every array begins on a 128-byte boundary and is zero at
first. Files are sparse, for most of a large pool is never touched.
"""

import contextlib
import hashlib
import mmap
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ringbuf.errors import (
    RingError,
    RingFormatError,
    RingSchemaError,
    RingSpaceError,
    RingTruncatedError,
    RingVersionError,
)
from ringbuf.mapping import create_file, free_bytes, map_file, view

__all__ = ["ArenaSpec", "arena_size", "attach_arena", "create_arena", "private_arena"]

ArenaSpec = Sequence[tuple[str, npt.DTypeLike, int | tuple[int, ...]]]

_ALIGNMENT = 128
_MAGIC = 0x414E455241474E52  # "RNGARENA", little endian
_VERSION = 1
# magic, version, schema hash, hash of the specification, size of the arrays
_HEADER = struct.Struct("<QQQQQ")
_HEADER_BYTES = 4096


def arena_size(spec: ArenaSpec) -> int:
    """Bytes that the arrays of ``spec`` take, padding included."""
    return sum(_padded(dtype, shape) for _, dtype, shape in spec)


def create_arena(
    path: Path | str, spec: ArenaSpec, schema_hash: int, expected_bytes: int | None = None
) -> dict[str, np.ndarray]:
    """Make a sparse arena file and map it: the arrays of ``spec`` by name, all zero.

    ``expected_bytes`` is how much of it will be written in the worst case (default: all); the file system must have
    that free. The map lives as long as one of the arrays.

    Raises RingExistsError, RingSpaceError.
    """
    path = Path(path)
    size_bytes = arena_size(spec)
    needed = size_bytes if expected_bytes is None else expected_bytes
    available = free_bytes(path.parent)
    if needed > available:
        raise RingSpaceError(
            path,
            "no room for the arena",
            f"{needed} free bytes",
            available,
            "free space there, enlarge that file system or configure smaller pools",
        )
    header = _HEADER.pack(_MAGIC, _VERSION, schema_hash & 0xFFFFFFFFFFFFFFFF, _spec_hash(spec), size_bytes)
    create_file(path, _HEADER_BYTES + size_bytes, header, reserve=False)
    return attach_arena(path, spec, schema_hash)


def attach_arena(path: Path | str, spec: ArenaSpec, schema_hash: int) -> dict[str, np.ndarray]:
    """Map an existing arena file: the arrays of ``spec`` by name.

    Raises RingMissingError, RingTruncatedError, RingFormatError, RingVersionError, RingSchemaError.
    """
    path = Path(path)
    mapping = map_file(path, _HEADER_BYTES)
    try:
        _check_header(path, mapping, spec, schema_hash)
    except RingError:
        mapping.close()
        raise
    return _views(mapping, spec, _HEADER_BYTES)


def private_arena(spec: ArenaSpec) -> dict[str, np.ndarray]:
    """The arrays of ``spec`` by name on private memory, zero; pages (large ones, where there are) that are never touched take none."""
    mapping = mmap.mmap(-1, max(1, arena_size(spec)), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A table of pages of 4 KiB is more than the processor keeps at hand for state that is read at random. Only a wish.
    with contextlib.suppress(OSError):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return _views(mapping, spec, 0)


def _padded(dtype: npt.DTypeLike, shape: int | tuple[int, ...]) -> int:
    count = int(np.prod(shape, dtype=np.int64))
    size_bytes = np.dtype(dtype).itemsize * count
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


def _views(mapping: mmap.mmap, spec: ArenaSpec, offset: int) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, dtype, shape in spec:
        assert name not in arrays, f"array {name!r} is twice in the specification"
        arrays[name] = view(mapping, dtype, shape, offset)
        offset += _padded(dtype, shape)
    return arrays


def _spec_hash(spec: ArenaSpec) -> int:
    rows = []
    for name, dtype, shape in spec:
        record = np.dtype(dtype)
        rows.append(
            (name, record.str if record.names is None else record.descr, record.itemsize, np.atleast_1d(shape).tolist())
        )
    return int.from_bytes(hashlib.blake2b(repr(rows).encode(), digest_size=8).digest(), "little")


def _check_header(path: Path, mapping: mmap.mmap, spec: ArenaSpec, schema_hash: int) -> None:
    magic, version, schema, spec_hash, size_bytes = _HEADER.unpack_from(mapping)
    if magic != _MAGIC:
        raise RingFormatError(path, "not an arena", f"{_MAGIC:#x}", f"{magic:#x}", "correct the path")
    advice = "restart the whole instance, so that all processes use the same version and configuration"
    if version != _VERSION:
        raise RingVersionError(path, "arena of another version", _VERSION, version, advice)
    wanted = (schema_hash & 0xFFFFFFFFFFFFFFFF, _spec_hash(spec))
    if (schema, spec_hash) != wanted:
        expected = f"schema {wanted[0]:#018x} and arrays {wanted[1]:#018x}"
        raise RingSchemaError(
            path,
            "arrays of another definition",
            expected,
            f"schema {schema:#018x} and arrays {spec_hash:#018x}",
            advice,
        )
    if len(mapping) < _HEADER_BYTES + size_bytes:
        raise RingTruncatedError(
            path,
            "the arena is cut short",
            f"{_HEADER_BYTES + size_bytes} bytes",
            len(mapping),
            "remove it and restart its owner",
        )
