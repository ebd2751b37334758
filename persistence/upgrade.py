"""From one version of the rules to the next: the old version ends the journal with a checkpoint and a snapshot, the new one converts that.

Both are ``cambist upgrade``, on a home that nobody serves. After it the new version starts from the converted snapshot and writes segments
of its own version; the older ones stay as they are, to be read (``journal.origin``).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from persistence.history import latest
from persistence.journal.reader import JournalReader
from persistence.journal.recovery import scan, start_new_segment_after_recovery
from persistence.journal.segments import lineage
from persistence.journal.store import DirectoryStore
from persistence.journal.writer import JournalWriter
from persistence.recovery import load_limits, sound_snapshots
from persistence.snapshots import SnapshotError, SnapshotFolder, restore, zero_state
from persistence.snapshots.check import take
from persistence.snapshots.writer import Settings, keep_snapshot
from protocol import enums as e
from protocol.codec import as_words
from protocol.instance import Engine
from protocol.records import command_slots
from protocol.versions import executable, this_program
from sequencer import core as sequencer


class UpgradeError(Exception):
    """The home cannot be upgraded; the text says why and what to do."""


def upgrade(home: Path, settings: Settings, shards: int, utc_ns: int) -> dict[str, Any]:
    """End the journal for a newer version, or take over what an older one ended; the caller holds the home's lock.

    Raises UpgradeError, SnapshotError, JournalError, EngineFault.
    """
    found = scan(home / "journal")
    if found.last_seq == 0:
        raise UpgradeError(f"{home / 'journal'}: the journal has no command yet; there is nothing to upgrade")
    written = found.segments[-1].written
    if executable(written):
        seq = _end_journal(home, shards, utc_ns)
        done = take(home, settings, shards)
        assert done["seq"] == seq, "the snapshot is of the journal's end"
        return {"step": "ended", "seq": seq, "written_by": str(written), **_state_hash(home, seq)}
    seq = _convert(home, found.last_seq, settings, shards)
    facts = {"written_by": str(written), "converted_to": str(this_program())}
    return {"step": "converted", "seq": seq, **facts, **_state_hash(home, seq)}


def _state_hash(home: Path, seq: int) -> dict[str, Any]:
    for snapshot in SnapshotFolder(home).newest(seq + 1):
        if not isinstance(snapshot, SnapshotError):
            with snapshot:
                return {"state_hash": str(snapshot.manifest.hashes["state"])}
    raise AssertionError("it was just written")


def _end_journal(home: Path, shards: int, utc_ns: int) -> int:
    """Begin an epoch that holds nothing but a checkpoint; its seq."""
    store = DirectoryStore(home / "journal")
    found = scan(store)
    past = latest(home, store, Engine(shards=shards, limits=load_limits(home)), found.last_seq + 1)
    lanes = sequencer.make_state(past.lanes)
    if past.engine.last_seq < found.last_seq:
        for slots in JournalReader(store, past.engine.last_seq + 1, found.last_seq):
            sequencer.observe(lanes, slots)
    slot = command_slots(1)
    slot["seq"] = found.last_seq + 1
    # Not later: a timer's boundary that was passed while the exchange was down is still to come, with its own time.
    slot["ts_ns"] = found.last_ts_ns
    slot["type"] = e.CHECKPOINT
    slot["source"] = e.SOURCE_SEQUENCER
    slot["source_seq"] = int(lanes.sources[e.SOURCE_SEQUENCER]) + 1
    position = start_new_segment_after_recovery(store, found, found.epoch + 1, utc_ns)
    writer = JournalWriter(store, position)
    try:
        words = as_words(slot)
        while writer.write(words, 0, found.last_seq + 1) == 0:
            writer.maintain(time.monotonic_ns())
            time.sleep(0.01)
    finally:
        writer.close()
    return found.last_seq + 1


def _convert(home: Path, seq: int, settings: Settings, shards: int) -> int:
    """Write the snapshot at the end of an older version's journal anew, as this version has it."""
    store = DirectoryStore(home / "journal")
    notes: list[str] = []
    config = Engine(shards=shards, limits=load_limits(home))
    for snapshot in sound_snapshots(SnapshotFolder(home), lineage(store).headers, notes, seq + 1):
        with snapshot:
            manifest = snapshot.manifest
            if manifest.seq != seq:
                break
            state = zero_state(config)
            engine = restore(snapshot, config, state, convert=True)
        settings = msgspec.structs.replace(settings, bytes_per_s=0)
        keep_snapshot(home, settings, engine, state.sequencer, manifest.journal_id, manifest.epoch, time.time_ns())
        return seq
    old = scan(store, verify_from_seq=seq).segments[-1].written
    raise UpgradeError(
        f"{home}: the journal ends at seq {seq}, written by {old}, and there is no snapshot of that very command"
        f"{': ' + '; '.join(notes) if notes else ''}. Only {old} can make it: run `cambist upgrade` of that version first"
    )
