"""What the generations of a home are worth: listed, proved against the journal, or one more made of a home that stands still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from persistence.beside import gathered
from persistence.fused import EngineFault, FusedEngine
from persistence.history import latest
from persistence.journal.errors import JournalError
from persistence.journal.reader import JournalReader
from persistence.journal.recovery import scan
from persistence.journal.segments import history_at, lineage
from persistence.journal.store import DirectoryStore
from persistence.recovery import load_limits
from persistence.snapshots import Manifest, SnapshotError, SnapshotFolder, open_snapshot, restore, zero_state
from persistence.snapshots.writer import Settings, keep_snapshot
from protocol.instance import Engine, Limits
from sequencer import core as sequencer


def listed(home: Path) -> list[dict[str, Any]]:
    """Each generation, oldest first: its manifest in short, its bytes, and what is wrong with it (``problem``, empty if nothing)."""
    folder = SnapshotFolder(home)
    rows = []
    for seq in folder.seqs():
        path = folder.path(seq)
        row: dict[str, Any] = {"seq": seq, "path": str(path), "bytes": path.stat().st_size, "problem": ""}
        try:
            with open_snapshot(path) as snapshot:
                row |= _facts(snapshot.manifest)
        except SnapshotError as error:
            row["problem"] = str(error)
        rows.append(row)
    return rows


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "ts_ns": manifest.ts_ns,
        "created_ts_ns": manifest.created_ts_ns,
        "epoch": manifest.epoch,
        "shards": manifest.shards,
        "format": manifest.format,
        "schema": manifest.schema,
        "journal_id": manifest.journal_id,
        "state_hash": str(manifest.hashes["state"]),
    }


def verified(home: Path) -> Iterator[dict[str, Any]]:
    """As ``listed``, each also loaded, hashed, and compared with a replay from the one before it, or from the journal's beginning.

    ``from_seq`` says from where; None where the journal no longer reaches back so far.
    """
    journal = DirectoryStore(home / "journal")
    headers = lineage(journal).headers
    limits = load_limits(home)
    base: FusedEngine | None = None
    if headers and headers[0].first_seq == 1:
        base = FusedEngine(Engine(limits=limits))
    for row in listed(home):
        if not row["problem"]:
            row["from_seq"] = None if base is None else base.last_seq
            try:
                base = _proved(Path(row["path"]), journal, limits, base)
            except (SnapshotError, JournalError, EngineFault) as error:
                row["problem"] = str(error)
        yield row


def _proved(path: Path, journal: DirectoryStore, limits: Limits, base: FusedEngine | None) -> FusedEngine:
    """The engine of a generation that is what the journal makes of ``base``, which is fed up to there."""
    with open_snapshot(path) as snapshot:
        manifest = snapshot.manifest
        if manifest.journal_id != history_at(lineage(journal).headers, manifest.seq):
            raise SnapshotError(f"{path}: is of journal {manifest.journal_id}, not of this home's")
        config = Engine(shards=manifest.shards, limits=limits)
        loaded = restore(snapshot, config, zero_state(config))
    if base is not None:
        _compare(base, loaded, journal)
    return loaded


def _compare(base: FusedEngine, loaded: FusedEngine, journal: DirectoryStore) -> None:
    if loaded.last_seq > base.last_seq:
        for slots in gathered(JournalReader(journal, base.last_seq + 1, loaded.last_seq)):
            base.feed(slots)
    replayed, found = base.hashes(), loaded.hashes()
    different = [name for name, value in found.items() if replayed[name] != value]
    if different:
        raise SnapshotError(f"command {loaded.last_seq}: {', '.join(different)} differ from a replay of the journal")


def take(home: Path, settings: Settings, shards: int) -> dict[str, Any]:
    """Write a generation at the end of the journal of a home that nobody serves; the caller holds its lock.

    Raises SnapshotError, JournalError, EngineFault.
    """
    SnapshotFolder(home).make()
    journal = DirectoryStore(home / "journal")
    began_s = time.monotonic()
    seqs = SnapshotFolder(home).seqs()
    found = scan(journal, verify_from_seq=(seqs[-1] if seqs else 0) + 1)
    if found.last_seq == 0:
        raise SnapshotError(
            f"{journal.directory}: the journal has no command yet, there is nothing to take a snapshot of"
        )
    config = Engine(shards=shards, limits=load_limits(home))
    past = latest(home, journal, config, found.last_seq + 1)
    lanes = sequencer.make_state(past.lanes)
    if past.engine.last_seq < found.last_seq:
        for slots in gathered(JournalReader(journal, past.engine.last_seq + 1, found.last_seq)):
            past.engine.feed(slots)
            sequencer.observe(lanes, slots)
    settings = msgspec.structs.replace(settings, bytes_per_s=0)
    history = history_at(lineage(journal).headers, found.last_seq)
    size_bytes = keep_snapshot(home, settings, past.engine, past.lanes, history, found.epoch, time.time_ns())
    return {"seq": found.last_seq, "bytes": size_bytes, "seconds": round(time.monotonic() - began_s, 3)}
