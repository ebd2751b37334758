"""The past of a home: an engine as it was at an earlier command, from which its journal is replayed on."""

from __future__ import annotations

from pathlib import Path

from persistence.fused import FusedEngine
from protocol.instance import Engine


def open_past(home: Path, engine: Engine, before_seq: int) -> FusedEngine:
    """An engine in the latest known state below command slot ``before_seq``; its ``last_seq`` says which.

    Feed it from ``JournalReader(…, from_seq=past.last_seq + 1)``. Without a snapshot it is the empty state.

    Parameters
    ----------
    home : Path
    engine : Engine, with the home's own limits (``persistence.recovery.load_limits``)
    before_seq : int >= 1
    """
    assert before_seq >= 1, "the first seq is 1"
    return FusedEngine(engine)
