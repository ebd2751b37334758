"""Percentiles of single operations: from before the kernel looks for a command until its events are published.

On w1, w2, w3, and in books of ten to a million orders with kinds mixed. One reading of the clock (``clock_gettime``) is in
each time, and nothing is subtracted. The limit is a loop that does nothing, in turn with it: its turns last as long as the
median operation, so that what is longer is the machine's own pauses.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Final

import numpy as np

from cambist.benches import books, flows, matcher, shards
from cambist.benches.bare import turns
from cambist.benches.rows import BenchFailedError, Row, Task, histogram, percentiles_of, row

WANTED_NS: Final = 5_000
"""What 999 of 1,000 operations are to be below."""
_RING_SLOTS: Final = 1 << 12
_EVENT_SLOTS: Final = 1 << 15
_CLOCK_READINGS: Final = 10_000
_BOUND: Final = "p99.9 of an empty loop whose turns last as long as the median operation, in turn with it"


def run(task: Task) -> list[Row]:
    """A row a workload and a size of book."""
    files = flows.files(task, *flows.WORKLOADS)
    found = [_flow(task, name, file) for name, file in files.items()]
    if task.flow is None:
        found += [_crowd(task, point) for point in books.families(task)[0]]
    return found


class _Times:
    """Single times of some runs, and of the empty loop in turn with them."""

    def __init__(self) -> None:
        self._own: list[np.ndarray] = []
        self._machine: list[np.ndarray] = []
        self._cpu_s: list[float] = []

    def add(self, spans_ns: np.ndarray, cpu_s: float) -> None:
        """Count a run, and let the empty loop run as often."""
        idle_ns = np.zeros(len(spans_ns), dtype=np.int64)
        turns(int(np.median(spans_ns)), idle_ns)
        self._own.append(spans_ns)
        self._machine.append(idle_ns)
        self._cpu_s.append(cpu_s)

    def row(self, case: str) -> Row:
        """p99.9 of the runs, and percentiles of all of them together."""
        ours, machine = ([float(np.percentile(run, 99.9)) for run in runs] for runs in (self._own, self._machine))
        together = np.concatenate(self._own)
        bound = (_BOUND, statistics.median(machine))
        made = row("operations", case, "p99.9_ns", "ns", ours, self._cpu_s, bound, percentiles_of(histogram(together)))
        return made | {
            "operations": len(together),
            "wanted_ns": WANTED_NS,
            "clock_ns": clock_ns(),
            "machine_percentiles_ns": percentiles_of(histogram(np.concatenate(self._machine))),
            "above_wanted": float((together > WANTED_NS).mean()),
            "machine_above_wanted": float((np.concatenate(self._machine) > WANTED_NS).mean()),
        }


def clock_ns() -> float:
    """Median of the time between two readings of the clock: what is in each time of an operation."""
    readings = np.zeros(_CLOCK_READINGS, dtype=np.int64)
    turns(0, readings)
    return float(np.median(readings))


def _flow(task: Task, name: str, file: Path) -> Row:
    plan = flows.plan_of(file)
    if plan.format != "xflow001":
        raise BenchFailedError(f"{file}: is {plan.format}; this bench takes XFLOW001 files, one book without accounts")
    slots = matcher.numbered(plan)
    prefill = flows.prefill_slots(plan) + 1
    task.progress(f"operations {name}: {len(slots) - prefill:,} commands, {task.runs} runs")
    right, _, _ = matcher.check(plan, slots)
    times = _Times()
    for _ in range(task.runs):
        shard = shards.fresh(plan.limits, _RING_SLOTS, _EVENT_SLOTS)
        shards.feed(shard, slots[:prefill])
        times.add(*_one_by_one(shard, slots[prefill:]))
        if shards.results(shard) != right:
            raise BenchFailedError(f"{name}: commands one by one gave other events or books than all at once")
    return times.row(name)


def _crowd(task: Task, point: books.Point) -> Row:
    task.progress(f"operations {point.name}, {task.runs} runs")
    crowd, shard = books.build(point)
    batch = books.batch_of(point)
    books.checked(crowd, shard, crowd.by_kind(task.sizes.book_operations, batch), point.name)
    times = _Times()
    for _ in range(task.runs):
        times.add(*_one_by_one(shard, crowd.by_kind(task.sizes.book_operations, batch).slots))
        books.still_right(crowd, shard, point.name)
    return times.row(point.name)


def _one_by_one(shard: shards.Shard, slots: np.ndarray) -> tuple[np.ndarray, float]:
    began_ns = time.thread_time_ns()
    spans_ns = shards.timed(shard, slots, np.ones(len(slots), dtype=np.int64))
    return spans_ns, (time.thread_time_ns() - began_ns) / 1e9
