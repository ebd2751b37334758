"""A new home from a backup, checked byte for byte, and cut at an earlier command where that is wanted.

Everything is put together in ``<home>/restore.part`` and moved out of it at the end, the journal last: a home in which that folder stands
was not restored to the end, and nobody serves from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import zstandard

from persistence.backup import (
    ENDING,
    MANIFEST,
    SNAPSHOTS,
    BackupError,
    Manifest,
    checkpoints_until,
    chunks_of,
    read_manifest,
)
from persistence.checkpoints import CHECKPOINTS_FILE
from persistence.folders import sync_folder
from persistence.journal.layout import BLOCK_BYTES, chain_start, pack_segment_header, segment_name
from persistence.journal.reader import JournalReader
from persistence.journal.recovery import begin_branch, scan
from persistence.journal.segments import SegmentCursor, lineage
from persistence.journal.store import DirectoryStore, read_bytes
from persistence.journal.writer import JournalWriter, WriterPosition
from persistence.moments import Moment
from persistence.postgres.users import FILE as USERS_FILE
from persistence.postgres.users import fitted
from persistence.timetravel import Past, Place
from protocol.codec import as_words
from protocol.enums import ACCOUNT_NONE

PART: Final = "restore.part"


class Restored(NamedTuple):
    """What a home was restored to: the backup, the last command that the home has, and the hashes of the state after it."""

    manifest: Manifest
    place: Place
    hashes: dict[str, str]
    history: str = ""
    """Name of the branch in which the home goes on; empty where none was made."""


def restore_home(
    backup: Path, home: Path, until: Moment | None, created_ts_ns: int, *, without_access_key: bool = False
) -> Restored:
    """Lay out ``home``, which the caller has locked and found empty; nothing of it is left on an error.

    It goes on in a branch of its own: the home that was backed up may be in service too, and the two are then no longer one.
    ``created_ts_ns`` is UTC, for the header of its first segment. ``without_access_key``: what is sealed in the users is given up.

    Raises BackupError, JournalError, NotInHistory, OSError.
    """
    part = home / PART
    part.mkdir(mode=0o700)
    try:
        restored = _lay_out(backup, part, until, without_access_key=without_access_key)
        restored = restored._replace(history=begin_branch(part / "journal", created_ts_ns).history)
        for folder in (part / "journal", part):
            sync_folder(folder)
        journal = part / "journal"
        for path in sorted(part.iterdir()):
            if path != journal:
                path.rename(home / path.name)
        sync_folder(home)
        journal.rename(home / "journal")
        sync_folder(home)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        sync_folder(home)
    return restored


def check_backup(backup: Path) -> Restored:
    """Everything that ``restore_home`` checks, in a temporary folder beside the backup's own disk."""
    with tempfile.TemporaryDirectory(prefix=".cambist-check-", dir=backup.absolute().parent) as folder:
        return _lay_out(backup, Path(folder) / "home", None)


def _lay_out(backup: Path, part: Path, until: Moment | None, *, without_access_key: bool = False) -> Restored:
    part.mkdir(mode=0o700, exist_ok=True)
    manifest = _extract(backup, part)
    found = scan(part / "journal", known_durable_seq=manifest.seq or None)
    if (found.last_seq, found.journal_id.hex()) != (manifest.seq, manifest.journal_id):
        raise BackupError(f"{backup}: its journal ends at seq {found.last_seq}, its manifest says {manifest.seq}")
    past = Past(part, known_seq=manifest.seq)
    end = past.place(None)
    place = end if until is None else past.place(until)
    engine = past.engine_at(place)
    hashes = {name: str(value) for name, value in engine.hashes().items()}
    if place == end and hashes != manifest.hashes:
        different = [name for name in hashes if hashes[name] != manifest.hashes.get(name)]
        raise BackupError(
            f"{backup}: rebuilt from the backup, {', '.join(different)} differ from what the manifest states"
        )
    if (part / USERS_FILE).exists():
        status = engine.risk.accounts["status"]
        data = fitted(
            (part / USERS_FILE).read_bytes(),
            lambda account: account < len(status) and status[account] != ACCOUNT_NONE,
            without_key=without_access_key,
        )
        (part / USERS_FILE).write_bytes(data)
    if place != end:
        _cut(part, place)
    return Restored(manifest, place, hashes)


def _extract(backup: Path, part: Path) -> Manifest:
    """Copy every file of a backup, with its digest compared; the manifest."""
    digests: dict[str, tuple[int, str]] = {}
    manifest: Manifest | None = None
    with contextlib.closing(_files(backup)) as files:
        for name, chunks in files:
            if name == MANIFEST:
                manifest = read_manifest(b"".join(chunks), f"{backup}: {MANIFEST}")
                continue
            _check_name(backup, name)
            target = part / name
            target.parent.mkdir(mode=0o700, exist_ok=True)
            digest, size = hashlib.sha256(), 0
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            digests[name] = size, digest.hexdigest()
    if manifest is None:
        raise BackupError(f"{backup}: has no {MANIFEST}, so that it is no backup, or was not finished")
    for name, entry in manifest.files.items():
        if name not in digests:
            raise BackupError(f"{backup}: {name} is missing; the manifest names it")
        if digests[name] != (entry.bytes, entry.sha256):
            raise BackupError(
                f"{backup}: {name} is damaged: {digests[name][0]} bytes with SHA-256 {digests[name][1]}, "
                f"the manifest states {entry.bytes} with {entry.sha256}; use another backup"
            )
    extra = sorted(digests.keys() - manifest.files.keys())
    if extra:
        raise BackupError(f"{backup}: {extra[0]} is not named in the manifest; take it away")
    return manifest


def _check_name(backup: Path, name: str) -> None:
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or len(parts) > 2:
        raise BackupError(f"{backup}: a file called {name!r} is none of a backup")


def _files(backup: Path) -> Generator[tuple[str, Iterator[bytes]], None, None]:
    """Name and content of each file of a backup."""
    if backup.is_dir():
        for path in sorted(backup.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    yield str(path.relative_to(backup)), chunks_of(file)
        return
    if not backup.exists():
        raise BackupError(f"{backup}: no such backup; name the folder or the {ENDING} file that `cambist backup` wrote")
    try:
        with backup.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isfile() else None
                    if content is not None:
                        yield member.name, chunks_of(content)  # type: ignore[arg-type] # it reads as a file does
            if stream.read(1):
                raise BackupError(f"{backup}: goes on behind its end")
    except (zstandard.ZstdError, tarfile.TarError, EOFError) as error:
        raise BackupError(f"{backup}: damaged: {error}; use another backup") from None


def _cut(part: Path, place: Place) -> None:
    """Take everything behind a command off a journal that nobody writes, and what else is of later commands."""
    store = DirectoryStore(part / "journal")
    headers = lineage(store).headers
    kept = [header for header in headers if header.first_seq <= max(place.seq, 1)]
    for header in reversed(headers[len(kept) :]):
        store.remove(segment_name(header.segment))
    header = kept[-1]
    name = segment_name(header.segment)
    data = read_bytes(store, name, 0, header.segment_bytes)
    cursor = SegmentCursor(header, chain_start(header.journal_id))
    last_ts_ns = header.prev_ts_ns
    while not cursor.at_end and cursor.next_seq <= place.seq:
        batch = cursor.examine(data[cursor.offset :])
        assert not isinstance(batch, str), "the journal was scanned"
        if batch.header.last_seq > place.seq:
            break
        cursor.take(batch)
    if cursor.next_seq > header.first_seq:
        for slots in JournalReader(store, cursor.next_seq - 1, cursor.next_seq - 1):
            last_ts_ns = int(slots["ts_ns"][-1])
    rest = (
        [slots.copy() for slots in JournalReader(store, cursor.next_seq, place.seq)]
        if cursor.next_seq <= place.seq
        else []
    )
    sound = pack_segment_header(header._replace(durable_seq=min(header.durable_seq, header.first_seq - 1)))
    head = sound + bytes(data[BLOCK_BYTES : cursor.offset])
    store.remove(name)
    store.create(name, header.segment_bytes, head)
    if rest:
        slots = np.concatenate(rest)
        position = WriterPosition(
            header.journal_id,
            cursor.epoch or header.epoch,
            header.segment,
            cursor.offset,
            header.segment_bytes,
            cursor.crc,
            cursor.next_seq - 1,
            last_ts_ns,
        )
        _append(store, position, slots)
    for path in (part / SNAPSHOTS).glob("*.mdb"):
        if int(path.stem) > place.seq:
            path.unlink()
    if (part / CHECKPOINTS_FILE).exists():
        (part / CHECKPOINTS_FILE).write_bytes(checkpoints_until(part, place.seq))


def _append(store: DirectoryStore, position: WriterPosition, slots: np.ndarray) -> None:
    """The commands of a batch that was cut, as a batch of its own."""
    ring = np.zeros((1 << len(slots).bit_length(), 16), dtype=np.int64)
    mask = len(ring) - 1
    ring[(slots["seq"] - 1) & mask] = as_words(slots)
    writer = JournalWriter(store, position, position.segment_bytes)
    last_seq = int(slots["seq"][-1])
    while writer.last_seq < last_seq:
        done = writer.write(ring, mask, last_seq)
        assert done, "what is cut takes no more room than what stood there"
    writer.close()
