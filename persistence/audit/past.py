"""A range of a home's history, replayed: command slots and the outcomes that they have, from any place on, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from persistence.fused import FusedEngine
from persistence.history import open_past
from persistence.journal.origin import check_executable, executable_from, stretches
from persistence.journal.reader import JournalReader
from persistence.journal.segments import lineage
from persistence.journal.store import DirectoryStore
from persistence.recovery import load_limits
from protocol.enums import FLAG_MORE
from protocol.instance import Engine
from protocol.records import OUTCOME_DTYPE
from protocol.versions import executable

JOURNAL: Final = "journal"


def journal_id_of(home: Path) -> bytes:
    """Id of the home's journal, 16 bytes. JournalError where its files are damaged; LookupError where there are none."""
    headers = lineage(DirectoryStore(home / JOURNAL)).headers
    if not headers:
        msg = f"{home / JOURNAL}: the journal has no segment"
        raise LookupError(msg)
    return headers[-1].journal_id


def first_executable(home: Path) -> int:
    """First command slot from which on this version can execute the home's journal; 1 where it can execute all of it."""
    store = DirectoryStore(home / JOURNAL)
    return 1 if all(executable(one.written) for one in stretches(store)) else executable_from(store)


def open_at(home: Path, from_seq: int, to_seq: int) -> tuple[FusedEngine, Iterator[np.ndarray]]:
    """An engine that has settled everything before the group of slot ``from_seq``, and the slots from there on.

    The slots come in batches of whole groups and end behind the group of ``to_seq``, or at the journal's end; they are not applied.
    """
    engine = open_past(home, Engine(limits=load_limits(home)), from_seq)
    check_executable(DirectoryStore(home / JOURNAL), engine.last_seq + 1, to_seq)
    batches = iter(JournalReader(home / JOURNAL, from_seq=engine.last_seq + 1, to_seq=_group_end(home, to_seq)))
    for slots in batches:
        if int(slots["seq"][-1]) < from_seq:
            engine.feed(slots)
            continue
        first = _group_start(slots, from_seq)
        if first:
            engine.feed(slots[:first])
        return engine, _behind(slots[first:], batches)
    return engine, iter(())


def engine_at(home: Path, seq: int) -> FusedEngine:
    """An engine that has settled everything up to command slot ``seq``, the end of a group. Raises JournalError, EngineFault."""
    engine = open_past(home, Engine(limits=load_limits(home)), seq + 1)
    go_to(engine, home, seq)
    return engine


def go_to(engine: FusedEngine, home: Path, seq: int) -> None:
    """Let an engine go on up to command slot ``seq``."""
    if engine.last_seq < seq:
        check_executable(DirectoryStore(home / JOURNAL), engine.last_seq + 1, seq)
        for slots in JournalReader(home / JOURNAL, from_seq=engine.last_seq + 1, to_seq=seq):
            engine.feed(slots)


def _behind(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _group_start(slots: np.ndarray, seq: int) -> int:
    """Position of the head of the group that slot ``seq`` belongs to."""
    at = seq - int(slots["seq"][0])
    while at > 0 and slots["flags"][at - 1] & FLAG_MORE:
        at -= 1
    return at


def _group_end(home: Path, seq: int) -> int:
    """Last slot of the group that slot ``seq`` belongs to; ``seq`` is in the journal."""
    for slots in JournalReader(home / JOURNAL, from_seq=seq):
        ends = np.flatnonzero((slots["flags"] & FLAG_MORE) == 0)
        return int(slots["seq"][ends[0]])
    return seq


def outcomes_of(engine: FusedEngine, slots: np.ndarray) -> np.ndarray:
    """Feed whole groups; their outcomes, OUTCOME_DTYPE in order. Raises EngineFault."""
    parts: list[np.ndarray] = []
    engine.feed(slots, parts.append)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=OUTCOME_DTYPE)


def seq_at_time(home: Path, ts_ns: int, last_seq: int) -> int:
    """First slot up to ``last_seq`` whose time is ``ts_ns`` or later; ``last_seq + 1`` where there is none."""
    headers = lineage(DirectoryStore(home / JOURNAL)).headers
    from_seq = max((header.first_seq for header in headers if header.prev_ts_ns < ts_ns), default=1)
    from_seq = min(from_seq, last_seq)
    for slots in JournalReader(home / JOURNAL, from_seq=from_seq, to_seq=last_seq):
        at = int(np.searchsorted(slots["ts_ns"], ts_ns))
        if at < len(slots):
            return int(slots["seq"][at])
    return last_seq + 1
