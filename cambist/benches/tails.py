"""Histories of any length out of one flow, in bounded memory, and homes whose journal has them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from cambist.benches import flows
from cambist.replay.plan import Plan
from persistence.fused import FusedEngine
from persistence.journal import DirectoryStore, JournalWriter, scan, start_new_segment_after_recovery
from protocol import build
from protocol import enums as e
from protocol.codec import as_words

BATCH_SLOTS: Final = 512
"""Of a batch of the journal: what gathers during a sync under load."""
_SEGMENT_BYTES: Final = 64 << 20
_PART_SLOTS: Final = 1 << 18


class Fed:
    """An engine that is fed parts on their way elsewhere; ``seconds`` is what it took."""

    def __init__(self, engine: FusedEngine) -> None:
        self.engine = engine
        self.seconds = 0.0

    def feed(self, slots: np.ndarray) -> np.ndarray:
        """Apply them, and give them back."""
        began_s = time.perf_counter()
        self.engine.feed(slots)
        self.seconds += time.perf_counter() - began_s
        return slots


def rounds(plan: Plan, count: int) -> Iterator[np.ndarray]:
    """The flow so many times over, as the sequencer of a fresh home stamps it; arrays of whole groups, one good until the next.

    Behind each round every account's orders are cancelled and its deposits come again, so that the next one finds the books as the first
    did and the same funds on top; its orders have numbers of their own.
    """
    first = flows.sequenced(plan)
    first["seq"] = np.arange(1, len(first) + 1)
    yield from _parts(first, 0, 0)
    if count == 1:
        return
    ended_ns = int(first["ts_ns"][-1])
    between = _between(plan, ended_ns)
    commands = first[len(plan.setup) :]
    round_ns = ended_ns - int(commands["ts_ns"][0])
    seq = len(first)
    for number in range(1, count):
        build.stamp(between, e.SOURCE_REPLAY, seq + 1)
        between["ts_ns"] = ended_ns + (number - 1) * round_ns
        yield between
        seq += len(between)
        yield from _parts(commands, seq - len(plan.setup), number * round_ns)
        seq += len(commands)


def _between(plan: Plan, ts_ns: int) -> np.ndarray:
    heads = build.heads(plan.setup)
    paid = (plan.setup["type"][heads] == e.DEPOSIT)[np.cumsum(heads) - 1]
    cancels = [build.cancel_all(account=account, entry_ts_ns=ts_ns) for account in range(1, plan.accounts + 1)]
    return np.concatenate([*cancels, plan.setup[paid]])


def _parts(slots: np.ndarray, later: int, later_ns: int) -> Iterator[np.ndarray]:
    """The slots in parts between groups, with numbers, ids and times that come so much later."""
    ends = np.flatnonzero((slots["flags"] & e.FLAG_MORE) == 0) + 1
    at = 0
    while at < len(slots):
        end = int(ends[np.searchsorted(ends, min(at + _PART_SLOTS, len(slots)))])
        part = slots[at:end].copy()
        heads = build.heads(part)
        part["seq"] += later
        part["ts_ns"] += later_ns
        part["source_seq"][heads] += later
        part["entry_ts_ns"][heads] += later_ns
        part["order_id"][heads & (part["order_id"] > 0)] += later
        yield part
        at = end


def write_journal(journal: DirectoryStore, parts: Iterable[np.ndarray], batch_slots: int = BATCH_SLOTS) -> None:
    """A journal of epoch 1 with these slots in batches of ``batch_slots``; each part is written before the next is asked for."""
    position = start_new_segment_after_recovery(journal, scan(journal), 1, 1, _SEGMENT_BYTES)
    writer = JournalWriter(journal, position, _SEGMENT_BYTES)
    ring = np.zeros((0, 16), dtype=np.int64)
    for slots in parts:
        if len(slots) > len(ring):
            ring = np.zeros((flows.power_of_two(len(slots)), 16), dtype=np.int64)
        ring[(slots["seq"] - 1) & (len(ring) - 1)] = as_words(slots)
        ends = slots["seq"][(slots["flags"] & e.FLAG_MORE) == 0]
        end = writer.last_seq
        while end < int(slots["seq"][-1]):
            end = int(ends[min(int(np.searchsorted(ends, end + batch_slots)), len(ends) - 1)])
            while writer.last_seq < end:
                writer.maintain(time.monotonic_ns())
                if writer.write(ring, len(ring) - 1, end) == 0:
                    time.sleep(0.001)
    writer.close()
