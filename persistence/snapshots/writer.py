"""Writing a snapshot of an engine that stands still."""

from __future__ import annotations

from persistence.fused import FusedEngine
from persistence.snapshots.file import FORMAT, Manifest
from persistence.snapshots.state import Arrays, parts_of
from protocol.records import COMMAND_SCHEMA
from sequencer import core as sequencer


def manifest_of(
    engine: FusedEngine, lanes: Arrays, journal_id: str, epoch: int, created_ts_ns: int
) -> tuple[Manifest, dict[str, Arrays]]:
    """What ``write_snapshot`` takes, for an engine that stands still; the arrays are not copied.

    ``lanes`` are the sequencer's arrays, ``epoch`` that of the batch with the last command, ``created_ts_ns`` UTC.
    """
    manifest = Manifest(
        format=FORMAT,
        schema=COMMAND_SCHEMA,
        journal_id=journal_id,
        epoch=epoch,
        seq=engine.last_seq,
        ts_ns=int(lanes["meta"][sequencer.TS_NS]),
        created_ts_ns=created_ts_ns,
        shards=engine.engine.shards,
        limits=engine.engine.limits,
        hashes=engine.hashes(),
        arrays=(),
    )
    return manifest, parts_of(engine, lanes)
