"""The segments of a journal as an operator reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from persistence.journal.recovery import SegmentInfo, describe
from persistence.journal.segments import lineage
from persistence.journal.store import DirectoryStore
from persistence.moments import iso_time
from protocol.versions import LAYOUTS


def list_segments(journal: Path, *, quick: bool, running: bool) -> dict[str, Any]:
    """Every segment that counts, oldest first, with what is wrong with it; and the files that do not count.

    Parameters
    ----------
    journal : folder of the segments
    quick : read headers only: no ``last_seq`` and times where the segment after it does not tell them
    running : an engine writes the newest segment now, so that an unfinished write at its end is no finding
    """
    store = DirectoryStore(journal)
    infos = describe(store, quick=quick)
    segments = []
    for info in infos:
        newest = info is infos[-1]
        problem = "" if newest and running and info.ok else info.problem
        segments.append(
            _answer(store, info, "live" if running else "newest", problem)
            if newest
            else _answer(store, info, "closed", problem)
        )
    listed = {info.name for info in infos}
    return {"segments": segments, "leftovers": [name for name in _leftovers(store) if name not in listed]}


def _leftovers(store: DirectoryStore) -> tuple[str, ...]:
    try:
        return lineage(store).leftovers
    except Exception:  # noqa: BLE001 - damage is told segment by segment
        return ()


def _answer(store: DirectoryStore, info: SegmentInfo, state: str, problem: str) -> dict[str, Any]:
    layout = LAYOUTS.get(info.written.schema)
    first, last = info.first_ts_ns or None, info.last_ts_ns or None
    return {
        "segment": info.segment,
        "file": info.name,
        "first_seq": info.first_seq,
        "last_seq": info.last_seq,
        "first_ts_ns": first,
        "last_ts_ns": last,
        "first_time": iso_time(first) if first else None,
        "last_time": iso_time(last) if last else None,
        "epoch": info.epoch,
        "history": info.history,
        "batches": info.batches,
        "used_bytes": info.used_bytes,
        "size_bytes": info.size_bytes,
        "stored_bytes": store.stored_bytes(info.name),
        "compressed": store.is_compressed(info.name),
        "schema_version": layout.version if layout else None,
        "rules_version": info.written.rules,
        "release": info.written.release,
        "written_by": str(info.written),
        "state": "damaged" if not info.ok else "archived" if store.is_compressed(info.name) else state,
        "problem": problem,
    }
