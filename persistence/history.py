"""The past of a home: an engine as it was at an earlier command, from which its journal is replayed on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from persistence.fused import FusedEngine
from persistence.journal.segments import lineage
from persistence.journal.store import DirectoryStore, JournalStore
from persistence.recovery import sound_snapshots
from persistence.snapshots import Manifest, SnapshotError, SnapshotFolder, private_state, restore, zero_state
from persistence.snapshots.state import Arrays
from protocol.instance import Engine


class Past(NamedTuple):
    """An engine on private memory and the sequencer's lanes and timers at the same command."""

    engine: FusedEngine
    lanes: Arrays
    snapshot: Manifest | None
    """Of which it was made; None for the empty state."""
    notes: tuple[str, ...]
    """Why newer snapshots were passed over."""


def open_past(home: Path, engine: Engine, before_seq: int) -> FusedEngine:
    """An engine in the latest known state below command slot ``before_seq``; its ``last_seq`` says which.

    Feed it from ``JournalReader(…, from_seq=past.last_seq + 1)``. Without a sound snapshot it is the empty state.

    Parameters
    ----------
    home : Path
    engine : Engine, with the home's own limits (``persistence.recovery.load_limits``); of any number of shards
    before_seq : int >= 1

    Raises
    ------
    JournalError
        Which journal it is cannot be read.
    """
    return latest(home, DirectoryStore(home / "journal"), engine, before_seq).engine


def latest(home: Path, journal: JournalStore, engine: Engine, before_seq: int) -> Past:
    """As ``open_past``, with the lanes of the sequencer."""
    assert before_seq >= 1, "the first seq is 1"
    notes: list[str] = []
    for snapshot in sound_snapshots(SnapshotFolder(home), lineage(journal).headers, notes, before_seq):
        state = zero_state(engine)
        with snapshot:
            try:
                return Past(restore(snapshot, engine, state), state.sequencer, snapshot.manifest, tuple(notes))
            except SnapshotError as error:
                notes.append(f"a snapshot was passed over: {error}")
    state = private_state(engine)
    return Past(FusedEngine(engine, state.risk, state.shards), state.sequencer, None, tuple(notes))
