"""What a bench is given and what it gives."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from hdrh.histogram import HdrHistogram

Row = dict[str, Any]
"""A result: the contract's keys, all of them, and further ones of the bench's own."""

PERCENTILES: Final = (50.0, 99.0, 99.9, 99.99)
_NS_MAX: Final = 60_000_000_000
_DIGITS: Final = 3


class BenchFailedError(Exception):
    """The bench gave wrong results, or cannot be run here; the message says which and why."""


class Sizes(NamedTuple):
    """How much the benches do."""

    ring_messages: int = 2_000_000
    flow_messages: int = 300_000
    """Timed messages of a generated workload, of those that one process runs …"""
    live_messages: int = 1_000_000
    """… and of the one that goes through live processes, a part of it a run."""
    pipeline_variants: bool = True
    """Besides the three topologies: refusals, short funds, and the curve over batches, durability and shards."""
    latency_settled: int = 20_000
    """Orders sent one at a time that wait for their outcome, a run …"""
    latency_durable: int = 4_000
    """… for the journal too …"""
    latency_paused: int = 800
    """… and of either kind with a pause before each."""
    pause_ns: int = 1_000_000
    latency_s: float = 5.0
    """After so many seconds a run of any kind sends no more."""
    open_rates: tuple[int, ...] = (1_000, 10_000, 50_000, 100_000, 200_000, 400_000, 800_000)
    """Orders a second that are offered, up to the first that is not kept up with."""
    open_s: float = 1.0
    """Time for which each rate is offered, once …"""
    open_orders_max: int = 90_000
    """… and orders at most: many times what the rings hold."""
    pings: int = 100_000
    wakes: int = 2_000
    syncs_max: int = 200
    """Bare writes and syncs of one measurement; of more, the time is what so many took in proportion."""
    journal_s: float = 1.0
    overload_s: float = 15.0
    """Time of each phase of an overload run."""
    recovery_messages: int = 1_000_000
    """Commands of the tail that recovery replays …"""
    recovery_rounds: int = 10
    """… and how often they come in the long one …"""
    recovery_orders: int = 1_000_000
    """… and orders, and accounts, of the snapshot that it loads."""
    restart_messages: int = 1_000_000
    """Commands of the tail of an exchange that is killed."""
    postgres_rates: tuple[int, ...] = (1_000, 2_000, 4_000, 6_000, 8_000, 12_000, 16_000, 24_000, 32_000)
    """Orders a second that the database has to follow, up to the first that it does not …"""
    postgres_s: float = 5.0
    """… each for so long."""
    postgres_flood: int = 150_000
    """Commands that come all at once."""
    postgres_orders: int = 10_000_000
    """Orders of the tables from which pages of history are read …"""
    postgres_pages: int = 200
    """… so many a run."""
    book_orders: int = 1_000_000
    """Resting orders of the largest book …"""
    book_symbols: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    """… and how many books there are at once."""
    book_operations: int = 6_400
    """Operations of each kind at a point of a curve, a run …"""
    book_path: int = 200_000
    """… and along a path of prices."""
    walk_steps: int = 200_000
    """Cache lines of a bare walk."""
    sweep_orders: int = 100_000
    """Orders that one order takes."""
    compile_modules: tuple[str, ...] = ()
    """Modules whose kernels are compiled anew; empty: those of ``cambist up --demo``."""
    demo: bool = True
    """Measure the start of the demo too."""


FULL: Final = Sizes()


class Task(NamedTuple):
    """One bench to run."""

    flow: Path | None
    """A recorded flow instead of the generated workloads."""
    runs: int
    sizes: Sizes
    directory: Path
    """An empty folder on the disk that is measured; it is removed afterwards."""
    progress: Callable[[str], None]
    peers: tuple[Path, ...] = ()
    """Programs that take the flow of ``matcher`` as its limit in C does."""


def row(
    bench: str,
    case: str,
    metric: str,
    unit: str,
    values: Sequence[float],
    cpu_s: Sequence[float],
    limit: tuple[str, float] | None = None,
    percentiles_ns: dict[str, int] | None = None,
    **more: Any,
) -> Row:
    """A result of ``values``, one a run; ``cpu_s`` are the CPU seconds of all processes that took part."""
    return {
        "bench": bench,
        "case": case,
        "metric": metric,
        "unit": unit,
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "runs": len(values),
        "cpu_median": statistics.median(cpu_s),
        "limit": None if limit is None else {"what": limit[0], "value": limit[1]},
        "percentiles_ns": percentiles_ns,
        **more,
    }


def undisturbed_per_s(count: int, stretches_ns: Sequence[np.ndarray]) -> float:
    """What a run would give that nobody else on the machine disturbed: the sum, over its stretches, of each one's least time.

    ``stretches_ns``: int64[n] a run, the times of the same n stretches of work.
    """
    return count * 1e9 / float(np.minimum.reduce(stretches_ns).sum())


def histogram(times_ns: Iterable[int] = ()) -> HdrHistogram:
    """Times in ns, with three digits."""
    found = HdrHistogram(1, _NS_MAX, _DIGITS)
    times = times_ns if isinstance(times_ns, np.ndarray) else np.array(list(times_ns), dtype=np.int64)
    values, counts = np.unique(np.maximum(times, 1), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        found.record_value(value, count)
    return found


NO_COMPILER: Final = "no limit: there is no gcc here that could build the peer in C"


def percentiles_of(times: HdrHistogram) -> dict[str, int]:
    """The contract's percentiles, and the longest time as ``100``."""
    return {f"{p:g}": int(times.get_value_at_percentile(p)) for p in PERCENTILES} | {"100": int(times.get_max_value())}
