"""Bytes of a resting order in the matcher, in pages that a million of them use, beside those of the layout."""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from cambist.benches import books
from cambist.benches.bare import PAGE_BYTES, POOLS, used_lines
from cambist.benches.rows import Row, Task, row
from matcher.state import LEAF_DTYPE, LEAVES_USED, LEVEL_DTYPE, LEVELS_USED, NODE_DTYPE, NODES_USED, ORDER_DTYPE
from protocol.instance import Limits
from risk.state import FINISHED_DTYPE, HOLD_DTYPE, state_spec

WANTED_BYTES: Final = 128
_ENTRY_BYTES: Final = 4
_MID_TICKS: Final = 1_000_000_000
_BOUND: Final = (
    "by the layout: an order, its share of the tables of ids and leaves, of leaves, blocks of levels and nodes"
)
_PRICES_PER_ORDER: Final = {
    "dense": 0.1,
    "one_a_price": 1.0,
    "one_in_10_prices": 10.0,
    "one_in_64_prices": 64.0,
    "one_in_1000_prices": 1000.0,
}
"""Cases: prices between the lowest and the highest for each order."""


def run(task: Task) -> list[Row]:
    """A row for each density of orders over prices."""
    return [_case(task, name, prices) for name, prices in _PRICES_PER_ORDER.items()]


def _case(task: Task, name: str, prices: float) -> Row:
    orders = task.sizes.book_orders
    task.progress(f"footprint {name}: {orders:,} orders")
    began_ns = time.thread_time_ns()
    crowd, shard = books.build(books.Point(name, orders, 1, max(50, int(orders * prices / 2)), mid_ticks=_MID_TICKS), 0)
    used_s = (time.thread_time_ns() - began_ns) / 1e9
    pages = {pool: pages_bytes(getattr(shard.arrays, pool)) for pool in POOLS}
    used = ((LEAVES_USED, LEAF_DTYPE), (LEVELS_USED, LEVEL_DTYPE), (NODES_USED, NODE_DTYPE))
    share = sum(int(shard.arrays.meta[word]) * dtype.itemsize for word, dtype in used)
    arrays = shard.arrays
    tables = _ENTRY_BYTES * sum(len(table) for table in (arrays.recent_ids, arrays.other_ids, arrays.leaf_table))
    layout = ORDER_DTYPE.itemsize + (tables + share) / crowd.resting
    each = sum(pages.values()) / crowd.resting
    made = row("footprint", name, "bytes_per_order", "B", [each], [used_s], (_BOUND, layout))
    return made | {
        "orders": crowd.resting,
        "wanted_bytes": WANTED_BYTES,
        "bytes_by_array": {pool: found / crowd.resting for pool, found in pages.items() if found},
        "rss_bytes": books.rss_bytes(),
        "risk": risk_bytes(),
    }


def pages_bytes(array: np.ndarray) -> int:
    """Bytes of the pages of an array in which not every byte is 0: what a file in shared memory takes of it."""
    return len(used_lines(array, PAGE_BYTES)) * PAGE_BYTES


def risk_bytes() -> dict[str, float]:
    """Bytes an open order in risk's tables, and an ended one in that of client order ids; by the layout of a large home."""
    limits = Limits(orders=1 << 20, client_ids=1 << 20)
    size = {name: int(np.prod(shape)) * np.dtype(dtype).itemsize for name, dtype, shape in state_spec(limits, 1 << 14)}
    rows = limits.orders + limits.client_ids
    return {
        "hold": HOLD_DTYPE.itemsize,
        "order_index": (size["recent_orders"] + size["other_orders"]) / limits.orders,
        "hold_ids": size["hold_ids"] / limits.orders,
        "client_index": size["client_index"] / rows,
        "ended_order": FINISHED_DTYPE.itemsize + size["finished_ids"] / limits.client_ids,
    }
