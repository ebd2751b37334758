"""Cost of an operation over the number of resting orders, of symbols, and over the width of the books.

Beside each point stands a bare random walk over the very cache lines that the shard uses then, in turn with it: as many lines,
none asked for before the one before it has come, as an operation changes (what it only reads is not counted). What an operation
costs may not grow by more than twice what that walk does. Times are medians of short stretches, so that other processes count
little.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from cambist.benches import crowds, shards
from cambist.benches.bare import LINE_BYTES, changed_lines, lines_of, map_of, walk_ns
from cambist.benches.crowds import KINDS, Crowd, Series
from cambist.benches.rows import BenchFailedError, Row, Task, row
from matcher.state import ORDERS_LIVE
from protocol.instance import Limits

_RING_SLOTS: Final = 1 << 12
_EVENT_SLOTS: Final = 1 << 12
_BATCH: Final = 64
"""Commands of a kind between two readings of the clock, fewer where few orders rest."""
_SEED: Final = 1
_COUNTED: Final = 24
"""Operations of each kind whose lines are counted."""
_COUNTED_ORDERS: Final = 1_000
_WALK: Final = "a bare walk at random over the bytes in use, of as many cache lines as such an operation changes"
_GROWTH_MAX: Final = 2.0


class Point(NamedTuple):
    """Books of one form."""

    name: str
    orders: int
    symbols: int
    half_width: int
    far: bool = False
    mid_ticks: int = crowds.MID_TICKS
    path: str = ""
    """Of ``crowds.PATHS``: commands of all kinds along it, instead of stretches of one kind."""


class _Measured(NamedTuple):
    kind: str
    ns: list[float]
    walk_ns: list[float]
    lines: float
    cpu_s: list[float]


def run(task: Task) -> list[Row]:
    """A row for each kind of operation at each point; growth is from the first point of a family on."""
    found: list[Row] = []
    for family in families(task):
        rows: list[Row] = []
        for point in family:
            task.progress(f"books {point.name}, {task.runs} runs")
            rows += _point(task, point, _lines(point))
        found += with_growth(rows)
    return found


def families(task: Task) -> list[list[Point]]:
    """The curves; the first point of each is what the others have grown from."""
    most = task.sizes.book_orders
    counts = [10**k for k in range(1, 7) if 10**k <= most]
    crowd = max(10, most // 10)
    widths = [100 * 10**k for k in range(5)]
    path = max(10, most // 500)
    return [
        [Point(f"resting_{n}", n, 1, max(100, n // 20)) for n in counts],
        [Point(f"symbols_{n}", max(10, most // 10_000) * n, n, 500) for n in task.sizes.book_symbols],
        [Point(f"width_{2 * n}", crowd, 1, n) for n in widths]
        + [Point("far", crowd, 1, crowds.MID_TICKS - 1, far=True)],
        [Point(name, path, 1, 100_000, path=name) for name in crowds.PATHS],
    ]


def with_growth(rows: list[Row]) -> list[Row]:
    """The rows of a family, each with what its operation and the walk beside it grew by since the first row of its kind."""
    first: dict[str, Row] = {}
    for one in rows:
        base = first.setdefault(one["operation"], one)
        times = one["median"] / base["median"]
        walk_times = one["limit"]["value"] / base["limit"]["value"]
        one["growth"] = {
            "from": base["case"],
            "times": times,
            "walk_times": walk_times,
            "ratio": times / walk_times,
            "added_ns": one["median"] - base["median"],
            "walk_added_ns": one["limit"]["value"] - base["limit"]["value"],
        }
    return rows


def build(point: Point, spare: int | None = None) -> tuple[Crowd, shards.Shard]:
    """The books of a point, with their orders in them and room for ``spare`` more, or for all that comes and goes."""
    crowd = Crowd(point.orders, point.symbols, point.half_width, _SEED, mid_ticks=point.mid_ticks, far=point.far)
    orders = point.orders + (max(point.orders // 4, 4 * _BATCH) if spare is None else spare)
    wide = orders if point.path or point.far else point.symbols * (2 * point.half_width // 64 + 3)
    limits = Limits(accounts=crowd.accounts, instruments=point.symbols, orders=orders, leaves=min(orders, wide))
    shard = shards.fresh(limits, _RING_SLOTS, _EVENT_SLOTS)
    shards.feed(shard, crowd.listings())
    shards.feed(shard, crowd.first)
    return crowd, shard


def batch_of(point: Point) -> int:
    """Commands of a kind one after another: so few that their coming and going hardly changes how many rest."""
    return min(_BATCH, max(8, point.orders // 2))


def checked(crowd: Crowd, shard: shards.Shard, series: Series, what: str) -> None:
    """Do a series; its events must be those foretold."""
    size = _RING_SLOTS
    events = [
        shards.events_of(shard, shards.put(shard, series.slots[k : k + size]))
        for k in range(0, len(series.slots), size)
    ]
    crowds.check(series, np.concatenate(events), what)
    still_right(crowd, shard, what)


def still_right(crowd: Crowd, shard: shards.Shard, what: str) -> None:
    """BenchFailedError where the books have more or fewer orders than foretold."""
    if shard.arrays.meta[ORDERS_LIVE] != crowd.resting:
        raise BenchFailedError(f"{what}: {shard.arrays.meta[ORDERS_LIVE]} orders rest, foretold were {crowd.resting}")


def _series(point: Point, crowd: Crowd, count: int) -> Series:
    if point.path:
        return crowd.along(crowds.PATHS[point.path](count), _BATCH)
    return crowd.by_kind(count, batch_of(point))


def _point(task: Task, point: Point, lines: dict[int, float]) -> list[Row]:
    crowd, shard = build(point)
    count = task.sizes.book_path if point.path else task.sizes.book_operations
    checked(crowd, shard, _series(point, crowd, count), point.name)
    found = {k: _Measured(KINDS[k] if k >= 0 else "all", [], [], lines[k], []) for k in lines}
    for seed in range(task.runs):
        series = _series(point, crowd, count)
        began_ns = time.thread_time_ns()
        spans_ns = shards.timed(shard, series.slots, series.sizes)
        used_s = (time.thread_time_ns() - began_ns) / 1e9
        still_right(crowd, shard, point.name)
        line_ns = walk_ns(map_of(shard.arrays), lines_of(shard.arrays), task.sizes.walk_steps, seed)
        for kind, measured in found.items():
            of_kind = series.kinds == kind
            measured.ns.append(float(np.median(spans_ns[of_kind] / series.sizes[of_kind])))
            measured.walk_ns.append(measured.lines * line_ns)
            measured.cpu_s.append(used_s)
    more = {
        "resting": crowd.resting,
        "symbols": point.symbols,
        "used_bytes": len(lines_of(shard.arrays)) * LINE_BYTES,
        "rss_bytes": rss_bytes(),
    }
    return [_row(point, measured) | more for measured in found.values()]


def _row(point: Point, measured: _Measured) -> Row:
    case = point.name if point.path else f"{point.name}_{measured.kind}"
    bound = (_WALK, statistics.median(measured.walk_ns))
    made = row("books", case, "ns_per_operation", "ns", measured.ns, measured.cpu_s, bound)
    return made | {"operation": measured.kind, "lines": measured.lines, "growth_max": _GROWTH_MAX}


def _lines(point: Point) -> dict[int, float]:
    """Cache lines that an operation of each kind changes on average, counted in books as dense as those of the point, and small."""
    share = min(1.0, _COUNTED_ORDERS / point.orders)
    half_width = point.half_width if point.far or point.path or point.symbols > 1 else int(point.half_width * share)
    small = point._replace(
        orders=int(point.orders * share), symbols=max(1, int(point.symbols * share)), half_width=max(100, half_width)
    )
    crowd, shard = build(small)
    series = _series(small, crowd, _COUNTED if not point.path else 5 * _COUNTED)
    kinds = np.repeat(series.kinds, series.sizes)
    changed: dict[int, list[int]] = {}
    for k in range(len(series.slots)):
        before = map_of(shard.arrays).copy()
        shards.drive(shard, shards.put(shard, series.slots[k : k + 1]))
        changed.setdefault(int(kinds[k]), []).append(changed_lines(shard.arrays, before))
    return {kind: statistics.mean(found) for kind, found in changed.items()}


def rss_bytes() -> int:
    """Memory of this process that is resident, as the system says."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
