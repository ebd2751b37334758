"""The past of a home: an engine as it was at an earlier command, from which its journal is replayed on."""

from __future__ import annotations

from pathlib import Path

from persistence.fused import FusedEngine
from persistence.journal.store import DirectoryStore
from persistence.recovery import journal_id, sound_snapshots
from persistence.snapshots import SnapshotError, SnapshotFolder, private_state, restore
from protocol.instance import Engine


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
    assert before_seq >= 1, "the first seq is 1"
    notes: list[str] = []
    for snapshot in sound_snapshots(
        SnapshotFolder(home), journal_id(DirectoryStore(home / "journal")), notes, before_seq
    ):
        with snapshot:
            try:
                return restore(snapshot, engine, private_state(engine))
            except SnapshotError as error:
                notes.append(str(error))
    return FusedEngine(engine)
