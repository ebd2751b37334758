"""A backup of a home: everything that its state at one durable command needs, with a manifest by which each byte is checked.

Made beside a running exchange, without its knowledge: closed segments and snapshots never change, and of the newest segment the batches
up to the durable cursor are taken. So a backup is consistent by itself, whatever trades meanwhile. A backup is a folder, or one
``.tar.zst`` file with the same content::

    journal/NNNNNNNN.seg[.zst]   the history up to ``seq``
    snapshots/…                  generations at or before ``seq``
    limits.json names.json operators.json cambist.toml checkpoints.jsonl
    access.jsonl                 the users, which are in no journal
    manifest.json                written last; without it there is no backup
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec
import zstandard

from persistence.checkpoints import CHECKPOINTS_FILE
from persistence.folders import sync_folder
from persistence.journal.errors import RESTORE_ADVICE, JournalCorrupt
from persistence.journal.layout import SegmentHeader, chain_start, packed_name, segment_name
from persistence.journal.segments import SegmentCursor, lineage
from persistence.journal.store import DirectoryStore, read_bytes
from persistence.moments import Moment
from persistence.postgres.users import FILE as USERS_FILE
from persistence.recovery import LIMITS_FILE
from persistence.timetravel import Past
from protocol.versions import this_program

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
PLAIN_FILES: Final = (LIMITS_FILE, "names.json", "operators.json", "cambist.toml")
SNAPSHOTS: Final = "snapshots"
ENDING: Final = ".tar.zst"
_CHUNK_BYTES: Final = 1 << 20
_TRIES: Final = 10


class BackupError(Exception):
    """A backup cannot be made or used; the text says why and what to do."""


class Entry(msgspec.Struct, frozen=True):
    """One file of a backup."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds. ``seq`` is the last command, ``hashes`` are those of the state after it, as decimal text."""

    format: int
    release: str
    rules: int
    schema: str
    created_ts_ns: int
    home: str
    journal_id: str
    seq: int
    ts_ns: int
    epoch: int
    hashes: dict[str, str]
    files: dict[str, Entry]
    access: str = "left out"
    """The users that are in it: up to which event, "none" where there are none, or "left out"."""

    @property
    def state_hash(self) -> str:
        """Over all structures of the state."""
        return self.hashes["state"]


class _Sink(Protocol):
    def add(self, name: str, size_bytes: int, chunks: Iterable[bytes]) -> Entry: ...

    def finish(self) -> None: ...

    def abandon(self) -> None: ...


def make_backup(
    home: Path,
    target: Path,
    created_ts_ns: int,
    config_file: Path | None = None,
    users: bytes | None = None,
    access: str = "left out",
) -> Manifest:
    """Back a home up, running or not, to a new folder or a file that ends in ``.tar.zst``; the manifest.

    Parameters
    ----------
    home : Path
    target : Path
        Must not be there yet, or be an empty folder.
    created_ts_ns : int
        UTC, for the manifest.
    config_file : Path, optional
        Goes into the backup in place of the home's own ``cambist.toml``.
    users : bytes, optional
        As ``postgres.users.read`` gave them, before this call: so each account that they own is in the journal's part.
    access : str
        What the manifest says of them.

    Raises
    ------
    BackupError, JournalError, FileNotFoundError, OSError
    """
    past = Past(home)
    place = past.place(Moment(past.last_seq, None, "") if past.last_seq else None)
    hashes = {name: str(value) for name, value in past.engine_at(place).hashes().items()}
    for attempt in range(_TRIES):
        sink = _open_sink(target)
        try:
            files, newest = _copy(home, sink, place.seq, config_file)
            if users is not None:
                files[USERS_FILE] = sink.add(USERS_FILE, len(users), [users])
            manifest = Manifest(
                format=FORMAT,
                release=this_program().release,
                rules=newest.rules,
                schema=f"{newest.schema:016x}",
                created_ts_ns=created_ts_ns,
                home=str(home),
                journal_id=newest.journal_id.hex(),
                seq=place.seq,
                ts_ns=place.ts_ns,
                epoch=newest.epoch,
                hashes=hashes,
                files=files,
                access=access,
            )
            data = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
            sink.add(MANIFEST, len(data), [data])
            sink.finish()
        except FileNotFoundError:
            # A recovery has put another segment in the place of one, or a segment was compressed, or a snapshot is gone.
            sink.abandon()
            if attempt == _TRIES - 1:
                raise
        except BaseException:
            sink.abandon()
            raise
        else:
            return manifest
    raise AssertionError("every attempt returns or raises")


def _copy(home: Path, sink: _Sink, seq: int, config_file: Path | None) -> tuple[dict[str, Entry], SegmentHeader]:
    """Everything but the manifest; the entries, and the header of the newest segment."""
    store = DirectoryStore(home / "journal")
    headers = [header for header in lineage(store).headers if header.first_seq <= max(1, seq)]
    if not headers:
        raise BackupError(f"{home / 'journal'}: the journal is not begun; there is nothing to back up")
    files: dict[str, Entry] = {}
    for header in headers[:-1]:
        name = segment_name(header.segment)
        stored = packed_name(header.segment) if store.is_compressed(name) else name
        files[f"journal/{stored}"] = _add_file(sink, f"journal/{stored}", store.directory / stored)
    newest = headers[-1]
    sound = _up_to(store, newest, seq)
    name = f"journal/{segment_name(newest.segment)}"
    files[name] = sink.add(name, newest.segment_bytes, _padded(sound, newest.segment_bytes))
    for path in sorted((home / SNAPSHOTS).glob("*.mdb")):
        if path.stem.isdigit() and int(path.stem) <= seq:
            # One that is pruned meanwhile is not needed.
            with contextlib.suppress(FileNotFoundError):
                files[f"{SNAPSHOTS}/{path.name}"] = _add_file(sink, f"{SNAPSHOTS}/{path.name}", path)
    for plain in PLAIN_FILES:
        path = config_file if plain == "cambist.toml" and config_file is not None else home / plain
        if path.exists():
            files[plain] = _add_file(sink, plain, path)
    data = checkpoints_until(home, seq)
    if data:
        files[CHECKPOINTS_FILE] = sink.add(CHECKPOINTS_FILE, len(data), [data])
    return files, newest


def checkpoints_until(home: Path, seq: int) -> bytes:
    """The lines of the file of checkpoints up to a command."""
    path = home / CHECKPOINTS_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return "".join(f"{line}\n" for line in lines if line.endswith("}") and json.loads(line)["seq"] <= seq).encode()


def _up_to(store: DirectoryStore, header: SegmentHeader, seq: int) -> memoryview:
    """Header and batches of a segment up to a command that a batch ends with; JournalCorrupt where they are not sound."""
    data = read_bytes(store, segment_name(header.segment), 0, header.segment_bytes)
    cursor = SegmentCursor(header, chain_start(header.journal_id))
    while cursor.next_seq <= seq:
        batch = cursor.examine(data[cursor.offset :]) if not cursor.at_end else "the end of the segment"
        if isinstance(batch, str):
            label = store.label(segment_name(header.segment))
            raise JournalCorrupt(
                label, cursor.offset, cursor.next_seq, f"{batch}, though seq {seq} is durable", RESTORE_ADVICE
            )
        cursor.take(batch)
    assert cursor.next_seq == seq + 1, "the durable cursor stands at the end of a batch"
    return data[: cursor.offset]


def _padded(data: memoryview, size_bytes: int) -> Iterator[bytes]:
    for at in range(0, len(data), _CHUNK_BYTES):
        yield bytes(data[at : at + _CHUNK_BYTES])
    zeros = bytes(_CHUNK_BYTES)
    for at in range(len(data), size_bytes, _CHUNK_BYTES):
        yield zeros[: size_bytes - at]


def _add_file(sink: _Sink, name: str, path: Path) -> Entry:
    with path.open("rb") as file:
        return sink.add(name, os.fstat(file.fileno()).st_size, chunks_of(file))


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """Content of a file, a part at a time."""
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _open_sink(target: Path) -> _Sink:
    if target.name.endswith(ENDING):
        if target.exists():
            raise BackupError(f"{target}: is there already; name a new file")
        return _Archive(target)
    if target.is_file():
        raise BackupError(f"{target}: is a file; name a folder, or a file that ends in {ENDING}")
    if target.is_dir() and any(target.iterdir()):
        raise BackupError(f"{target}: is not empty; name a new folder")
    return _Folder(target)


class _Folder:
    """A backup in a folder; long zeros become holes."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._names: list[Path] = []
        target.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, name: str, size_bytes: int, chunks: Iterable[bytes]) -> Entry:
        path = self._target / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._names.append(path)
        digest, size = hashlib.sha256(), 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                if chunk.count(0) == len(chunk):
                    file.seek(len(chunk), io.SEEK_CUR)
                else:
                    file.write(chunk)
            file.truncate(size)
            assert size == size_bytes, "what is backed up does not change"
            file.flush()
            os.fsync(file.fileno())
        return Entry(size, digest.hexdigest())

    def finish(self) -> None:
        for folder in {path.parent for path in self._names} | {self._target, self._target.parent}:
            sync_folder(folder)

    def abandon(self) -> None:
        for path in self._names:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in self._names} - {self._target}:
            folder.rmdir()


class _Archive:
    """A backup in one file; it has its name when it is whole."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._scratch = target.with_name(f".{target.name}.{os.getpid()}.part")
        self._scratch.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(
            os.open(self._scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
        )
        self._stream = zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(self._file, closefd=False)
        self._tar = tarfile.open(fileobj=self._stream, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by finish

    def add(self, name: str, size_bytes: int, chunks: Iterable[bytes]) -> Entry:
        source = _Measured(chunks)
        info = tarfile.TarInfo(name)
        info.size, info.mode = size_bytes, 0o600
        self._tar.addfile(info, source)  # type: ignore[arg-type] # tarfile only reads
        return Entry(source.size_bytes, source.digest.hexdigest())

    def finish(self) -> None:
        self._tar.close()
        self._stream.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._scratch.replace(self._target)
        sync_folder(self._target.parent)

    def abandon(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.close()
        self._scratch.unlink(missing_ok=True)


class _Measured:
    """Chunks as a file to read, with their digest."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def read(self, count: int) -> bytes:
        while len(self._rest) < count:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._rest += chunk
        part, self._rest = self._rest[:count], self._rest[count:]
        self.digest.update(part)
        self.size_bytes += len(part)
        return part


def read_manifest(data: bytes, label: str) -> Manifest:
    """The manifest of a backup; BackupError where this program cannot use it."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupError(f"{label}: the manifest cannot be read: {error}") from None
    if manifest.format != FORMAT:
        raise BackupError(f"{label}: a backup of format {manifest.format}; this program reads {FORMAT}")
    return manifest


def summary(manifest: Manifest) -> dict[str, Any]:
    """What commands print of a backup."""
    return {
        "seq": manifest.seq,
        "ts_ns": manifest.ts_ns,
        "epoch": manifest.epoch,
        "state_hash": manifest.state_hash,
        "hashes": manifest.hashes,
        "release": manifest.release,
        "rules": manifest.rules,
        "access": manifest.access,
        "files": len(manifest.files),
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
    }
