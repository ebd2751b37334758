"""One generation: an LMDB file with the chunks of all arrays and a manifest, and a seal behind it.

LMDB follows the page numbers that it reads without checking them, so that a damaged file can end the process that opens it. The seal,
24 bytes behind the last page (magic, CRC32C of everything before it, size of that), is therefore checked first, over every byte of the
file. LMDB never looks behind its last page.

Keys: number of the array in the manifest (u16) and of the chunk (u32), big endian; ``MANIFEST_KEY`` comes last.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import crc32c
import lmdb
import msgspec
import numpy as np

from persistence.folders import sync_folder
from persistence.snapshots.chunks import decode_chunk, encode_chunks
from persistence.snapshots.errors import SnapshotError, problem_of
from persistence.snapshots.state import Arrays
from protocol import board
from protocol.instance import Limits
from protocol.versions import LAYOUTS, Written

FORMAT: Final = 1
MANIFEST_KEY: Final = b"\xff\xff manifest"
MAP_BYTES: Final = 64 << 30
_SEAL: Final = struct.Struct("<8sIIq")
_SEAL_MAGIC: Final = b"CBSNAPSH"
_KEY: Final = struct.Struct(">HI")
_PORTION_BYTES: Final = 4 << 20
"""Written and synced at once: the journal's own syncs on the same disk must not queue behind a whole snapshot."""


class ArrayInfo(msgspec.Struct, frozen=True):
    """One array: ``dtype`` as ``numpy.dtype.descr`` or ``.str`` says it, ``shape`` of the stored rows."""

    part: str
    name: str
    dtype: Any
    shape: tuple[int, ...]


class Manifest(msgspec.Struct, frozen=True):
    """What a snapshot is of, and all that is needed to read it."""

    format: int
    schema: int
    """COMMAND_SCHEMA of the version that wrote it."""
    journal_id: str
    epoch: int
    seq: int
    """Everything up to this command slot is in it, nothing after."""
    ts_ns: int
    created_ts_ns: int
    """UTC of the machine."""
    shards: int
    limits: Limits
    hashes: dict[str, int]
    """By named structure; see ``persistence.fused.hashes_of``."""
    arrays: tuple[ArrayInfo, ...]
    rules: int = 1
    release: str = "0.1.0"

    @property
    def written(self) -> Written:
        """By what it was written."""
        return Written(self.rules, self.schema, self.release)


def describe(dtype: np.dtype) -> Any:
    """A dtype as JSON can hold it."""
    if dtype.names is None:
        return dtype.str
    fields: Any = dtype.fields
    return {
        "names": list(dtype.names),
        "formats": [_format(fields[name][0]) for name in dtype.names],
        "offsets": [fields[name][1] for name in dtype.names],
        "itemsize": dtype.itemsize,
    }


def _format(field: np.dtype) -> Any:
    return field.str if field.subdtype is None else [field.subdtype[0].str, list(field.subdtype[1])]


def described(text: Any) -> np.dtype:
    """The dtype that ``describe`` gave."""
    if isinstance(text, str):
        plain: np.dtype = np.dtype(text)
        return plain
    formats = [f if isinstance(f, str) else (f[0], tuple(f[1])) for f in text["formats"]]
    record: Any = {**text, "formats": formats}
    return np.dtype(record)


class Pace:
    """Keeps a writer at or below so many bytes a second; 0 = as fast as it can."""

    def __init__(self, bytes_per_s: int, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock_ns = clock_ns
        self._began_ns = clock_ns()
        self._bytes = 0

    def wrote(self, count: int) -> None:
        """Wait until ``count`` more bytes are within the rate."""
        self._bytes += count
        if self._bytes_per_s:
            ahead_ns = self._bytes * 1_000_000_000 // self._bytes_per_s - (self._clock_ns() - self._began_ns)
            if ahead_ns > 0:
                time.sleep(ahead_ns / 1e9)


def write_snapshot(
    path: Path, manifest: Manifest, parts: dict[str, Arrays], pace: Pace, map_bytes: int = MAP_BYTES
) -> int:
    """Write one generation, whole and synced, or nothing; the bytes of the file.

    Parameters
    ----------
    path : its name; it appears there when all of it is on the disk
    manifest : without ``arrays``, which is filled in here
    parts : from ``parts_of``
    pace : at most so many bytes a second
    map_bytes : largest size of the file

    Raises
    ------
    SnapshotError
        The disk or the map is full, or the disk failed; nothing is left.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            scratch.unlink()
        _write_chunks(scratch, manifest, parts, pace, map_bytes)
        size_bytes = _seal(scratch)
        scratch.replace(path)
        sync_folder(path.parent)
    except lmdb.MapFullError as error:
        raise SnapshotError(
            f"{path}: the state is larger than the map of {map_bytes} bytes; raise snapshots.map_bytes",
            board.SNAPSHOT_MAP_FULL,
        ) from error
    except (lmdb.Error, OSError) as error:
        problem = _problem(path, error)
        raise SnapshotError(
            f"{path}: cannot be written, {board.SNAPSHOT_PROBLEM_TEXT[problem]}: {error}", problem
        ) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()
    return size_bytes


def _problem(path: Path, error: lmdb.Error | OSError) -> int:
    number = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
    if number == errno.EIO:
        # LMDB says so too where a write was cut short, as it is when the disk becomes full.
        with contextlib.suppress(OSError):
            status = os.statvfs(path.parent)
            if status.f_bavail * status.f_frsize < _PORTION_BYTES:
                number = errno.ENOSPC
    return problem_of(number or errno.EIO)


def _write_chunks(path: Path, manifest: Manifest, parts: dict[str, Arrays], pace: Pace, map_bytes: int) -> None:
    infos: list[ArrayInfo] = []
    with _Portions(path, map_bytes, pace) as portions:
        for part, arrays in parts.items():
            for name, array in arrays.items():
                for number, chunk in encode_chunks(array):
                    portions.put(_KEY.pack(len(infos), number), chunk)
                infos.append(ArrayInfo(part, name, describe(array.dtype), array.shape))
        whole = msgspec.structs.replace(manifest, arrays=tuple(infos))
        portions.put(MANIFEST_KEY, msgspec.json.encode(whole))


class _Portions:
    """Writes keys in order, in transactions of a few MiB, each synced before the next."""

    def __init__(self, path: Path, map_bytes: int, pace: Pace) -> None:
        self._pace = pace
        self._environment = lmdb.open(
            str(path), map_size=map_bytes, subdir=False, lock=False, sync=False, mode=0o600, max_dbs=0
        )
        self._transaction = self._environment.begin(write=True)
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def put(self, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, append=True)
        self._bytes += len(value)
        if self._bytes >= _PORTION_BYTES:
            self._flush()
            self._transaction = self._environment.begin(write=True)

    def _flush(self) -> None:
        self._transaction.commit()
        self._environment.sync(True)
        self._pace.wrote(self._bytes)
        self._bytes = 0

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
            else:
                self._transaction.abort()
        finally:
            self._environment.close()


def _seal(path: Path) -> int:
    with path.open("r+b") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        with mmap.mmap(file.fileno(), size_bytes, access=mmap.ACCESS_READ) as view:
            crc = crc32c.crc32c(view)
        file.write(_SEAL.pack(_SEAL_MAGIC, FORMAT, crc, size_bytes))
        file.flush()
        os.fsync(file.fileno())
        return size_bytes + _SEAL.size


def _check_seal(path: Path) -> None:
    try:
        with path.open("rb") as file:
            whole_bytes = file.seek(0, os.SEEK_END)
            size_bytes = whole_bytes - _SEAL.size
            if size_bytes <= 0:
                raise SnapshotError(f"{path}: only {whole_bytes} bytes; it was never finished, remove it")
            with mmap.mmap(file.fileno(), whole_bytes, access=mmap.ACCESS_READ) as view:
                magic, version, crc, sealed_bytes = _SEAL.unpack_from(view, size_bytes)
                if magic != _SEAL_MAGIC or sealed_bytes != size_bytes:
                    raise SnapshotError(f"{path}: cut short, or damaged at its end; remove it")
                if version != FORMAT:
                    raise SnapshotError(f"{path}: snapshot format {version}, this version reads {FORMAT}")
                with memoryview(view) as whole:
                    found = crc32c.crc32c(whole[:size_bytes])
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error.strerror or error}") from error
    if found != crc:
        raise SnapshotError(f"{path}: damaged: CRC32C {found:#010x} where the seal has {crc:#010x}; remove it")


class Snapshot:
    """An open generation whose every byte was checked against its seal.

    Attributes
    ----------
    path : Path
    manifest : Manifest
    """

    def __init__(self, path: Path, environment: Any, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._environment = environment

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the file."""
        self._environment.close()

    def array(self, part: str, name: str) -> np.ndarray:
        """One array as it was stored: the used rows, in the dtype of the version that wrote it."""
        info = self._info(part, name)
        array = np.zeros(info.shape, dtype=described(info.dtype))
        self._fill(info, array)
        return array

    def load(self, part: str, arrays: Arrays, without: Collection[str] = ()) -> None:
        """Fill zeroed arrays with what is stored of a part, field by field where the dtype is another one, but those ``without``.

        An array that the snapshot has and the version has not, or the other way round, is passed over: hashes say whether that is right.
        SnapshotError where the stored rows do not fit.
        """
        for info in self.manifest.arrays:
            target = arrays.get(info.name) if info.part == part and info.name not in without else None
            if target is None:
                continue
            if len(info.shape) != target.ndim or info.shape[1:] != target.shape[1:] or info.shape[0] > len(target):
                raise SnapshotError(
                    f"{self.path}: {part}.{info.name} has rows {info.shape}, the tables of this home {target.shape}"
                )
            rows = target[: info.shape[0]]
            if described(info.dtype) == target.dtype:
                self._fill(info, rows)
            else:
                _convert(self.array(part, info.name), rows)

    def _info(self, part: str, name: str) -> ArrayInfo:
        for info in self.manifest.arrays:
            if (info.part, info.name) == (part, name):
                return info
        raise SnapshotError(f"{self.path}: has no array {part}.{name}")

    def _fill(self, info: ArrayInfo, array: np.ndarray) -> None:
        number = self.manifest.arrays.index(info)
        prefix = _KEY.pack(number, 0)
        with self._environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(prefix)
            while found:
                key = bytes(cursor.key())
                if len(key) != _KEY.size:
                    break
                owner, chunk = _KEY.unpack(key)
                if owner != number:
                    break
                decode_chunk(chunk, cursor.value(), array)
                found = cursor.next()


def _convert(stored: np.ndarray, rows: np.ndarray) -> None:
    if stored.dtype.names is None or rows.dtype.names is None:
        rows[...] = stored
        return
    for name in stored.dtype.names:
        if name in rows.dtype.names:
            rows[name] = stored[name]


def open_snapshot(path: Path) -> Snapshot:
    """Check every byte of a generation and open it. SnapshotError says what is wrong."""
    _check_seal(path)
    try:
        environment = lmdb.open(
            str(path), map_size=MAP_BYTES, subdir=False, lock=False, readonly=True, create=False, max_dbs=0
        )
    except lmdb.Error as error:
        raise SnapshotError(f"{path}: cannot be opened: {error}") from error
    try:
        manifest = _read_manifest(path, environment)
    except SnapshotError:
        environment.close()
        raise
    return Snapshot(path, environment, manifest)


def _read_manifest(path: Path, environment: Any) -> Manifest:
    try:
        with environment.begin() as transaction:
            manifest = msgspec.json.decode(transaction.get(MANIFEST_KEY) or b"", type=Manifest)
    except (lmdb.Error, msgspec.MsgspecError) as error:
        raise SnapshotError(f"{path}: its manifest cannot be read: {error}") from error
    if manifest.schema not in LAYOUTS:
        raise SnapshotError(f"{path}: written by {manifest.written}; start that version, or a newer one")
    return manifest
