"""One order that takes a hundred thousand: nanoseconds a fill with a small ring of events, in which it pauses and goes on.

The limit is the same order with a ring that holds all of its events. Orders and cancels of the same instrument come right behind
it; what it says and the books must be those of the wide ring, and no other command's event may stand between its own.
"""

from __future__ import annotations

import statistics
import time
from typing import Final, NamedTuple

import numpy as np

from cambist.benches import flows, shards
from cambist.benches.rows import BenchFailedError, Row, Task, row
from matcher.state import APPLIED_SEQ
from protocol import build
from protocol import enums as e
from protocol.instance import Limits
from protocol.records import COMMAND_DTYPE
from ringbuf.ring import publish

_SMALL_SLOTS: Final = 1 << 8
_LEVELS: Final = 1_000
_PRICE: Final = 1_000_000
_ACCOUNTS: Final = 100
_ID: Final = build.order_id_of(e.SOURCE_REPLAY, 0)
_BOUND: Final = "the same with a ring that holds all of its events"


class _Done(NamedTuple):
    ns_per_fill: float
    cpu_s: float
    results: shards.Results


def run(task: Task) -> list[Row]:
    """A row for an immediate-or-cancel, and one for a fill-or-kill, which is decided before its first fill."""
    return [_case(task, name, tif) for name, tif in (("ioc", e.IOC), ("fok", e.FOK))]


def _case(task: Task, name: str, tif: int) -> Row:
    orders = task.sizes.sweep_orders
    task.progress(f"sweep {name} of {orders:,} orders, {task.runs} runs")
    before, sweep = commands(orders, tif)
    turns = pauses(before, sweep)
    small, wide = [], []
    for _ in range(task.runs):
        wide.append(_measure(before, sweep, flows.power_of_two(2 * orders)))
        small.append(_measure(before, sweep, _SMALL_SLOTS))
        if small[-1].results != wide[-1].results:
            raise BenchFailedError(
                f"{name}: a ring of {_SMALL_SLOTS} events gave other events or books than a wide one"
            )
    times = [done.ns_per_fill for done in small]
    bound = (_BOUND, statistics.median(done.ns_per_fill for done in wide))
    made = row("sweep", f"{name}_{orders}", "ns_per_fill", "ns", times, [done.cpu_s for done in small], bound)
    return made | {
        "fills": orders,
        "pauses": turns,
        "result_hash": str(small[0].results.events_hash),
        "compared": _BOUND,
    }


def commands(orders: int, tif: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders that rest at a thousand prices; one that takes them all, and behind it an order and a cancel of the same book."""
    before = np.zeros(orders, dtype=COMMAND_DTYPE)
    number = np.arange(orders)
    before["type"], before["tif"], before["instrument"], before["side"] = e.LIMIT, e.GTC, 1, e.SELL
    before["price_ticks"] = _PRICE + number * 7_919 % _LEVELS
    before["qty_lots"], before["account"], before["order_id"] = 1, 1 + number % _ACCOUNTS, _ID + number
    after = np.zeros(3, dtype=COMMAND_DTYPE)
    after["type"], after["tif"], after["instrument"] = (e.LIMIT, e.LIMIT, e.CANCEL), (tif, e.GTC, 0), 1
    after["side"] = (e.BUY, e.SELL, e.SELL)
    after["price_ticks"], after["qty_lots"] = (_PRICE + _LEVELS, _PRICE, 0), (orders, 1, 0)
    after["account"], after["order_id"] = _ACCOUNTS + 1, _ID + orders + np.array([0, 1, 1])
    return np.concatenate([shards.listing(1), before]), after


def pauses(before: np.ndarray, sweep: np.ndarray) -> int:
    """How often the order pauses with the small ring; BenchFailedError where another command's event comes before its last one."""
    shard = _filled(before, _SMALL_SLOTS)
    events = shards.events_of(shard, shards.put(shard, sweep))
    first = int(events["seq"].min())
    fills = events[events["seq"] == first]
    if (
        not (np.diff(events["seq"]) >= 0).all()
        or len(fills) != int(sweep["qty_lots"][0])
        or (fills["kind"] != e.EV_FILL).any()
    ):
        raise BenchFailedError("another command came between the fills of one order, or not all were fills")
    return len(fills) // _SMALL_SLOTS


def _filled(before: np.ndarray, event_slots: int) -> shards.Shard:
    limits = Limits(accounts=_ACCOUNTS + 1, instruments=1, orders=len(before) + 4, leaves=_LEVELS)
    shard = shards.fresh(limits, 1 << 12, event_slots)
    shards.feed(shard, before)
    return shard


def _measure(before: np.ndarray, sweep: np.ndarray, event_slots: int) -> _Done:
    shard = _filled(before, event_slots)
    last = shards.put(shard, sweep)
    publish(shard.verdicts, last)
    began_cpu_ns, began_ns = time.thread_time_ns(), time.perf_counter_ns()
    shard.steps.until(shard.arrays.meta, APPLIED_SEQ, last - 2)
    took_ns, used_ns = time.perf_counter_ns() - began_ns, time.thread_time_ns() - began_cpu_ns
    shards.drive(shard, last)
    return _Done(took_ns / int(sweep["qty_lots"][0]), used_ns / 1e9, shards.results(shard))
