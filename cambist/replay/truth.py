"""What the venues really did, compared with what the engine made of it.

LOBSTER exactly, Bitstamp as near as its capture allows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from cambist.replay.collect import Collector
from cambist.replay.plan import Plan
from cambist.replay.recordings import integers, read_table

SNAPSHOT_LEVELS: Final = 20

BITSTAMP_FLOORS: Final = {
    "orders_filled_as_recorded_pct": 99.8,
    "best_bid_equal_pct": 99.6,
    "best_ask_equal_pct": 99.9,
    "levels_equal_pct": 99.4,
    "prints_equal": 523,
}
"""What a correct engine reaches on this capture, as its README states (rounded there to one decimal)."""


def probes_for(plan: Plan) -> tuple[np.ndarray | None, int]:
    """Messages after which the collector must write down the book for the checks of this recording, and how deep."""
    if plan.format == "lobster":
        return np.arange(plan.messages), 1
    if plan.format == "bitstamp" and (folder := _folder(plan, "snapshots.csv.gz")):
        return _snapshot_messages(plan, folder), SNAPSHOT_LEVELS
    return None, 1


def check(plan: Plan, collector: Collector) -> tuple[dict[str, Any], list[str]]:
    """Compare with the recording's own results: what was compared, in numbers, and every difference in words."""
    if plan.format == "lobster" and (folder := _folder(plan, "expected_fills.csv.gz")):
        return _check_lobster(plan, collector, folder)
    if plan.format == "bitstamp" and (folder := _folder(plan, "snapshots.csv.gz")):
        return _check_bitstamp(plan, collector, folder)
    return {}, []


def _folder(plan: Plan, needed: str) -> Path | None:
    folder = plan.path if plan.path.is_dir() else plan.path.parent
    return folder if (folder / needed).exists() else None


# --- LOBSTER --------------------------------------------------------------------------------


def _check_lobster(plan: Plan, collector: Collector, folder: Path) -> tuple[dict[str, Any], list[str]]:
    checks, differences = compare_fills(plan, collector.fills(), folder / "expected_fills.csv.gz")
    if (folder / "events.csv.gz").exists():
        compared, wrong = compare_top_of_book(plan, collector.depths, folder)
        checks |= {"top_of_book_compared": compared, "top_of_book_different": len(wrong)}
        differences += wrong[:10]
    return checks, differences


def compare_fills(plan: Plan, fills: np.ndarray, file: Path) -> tuple[dict[str, Any], list[str]]:
    """Fills against the recorded ones, one by one and in order.

    With a limit, against those of the takers that were sent.
    """
    table = read_table(file)
    columns = [integers(table, name, file) for name in ("taker_id", "maker_id", "price", "qty")]
    expected = np.stack(columns, axis=1)
    expected = expected[np.isin(expected[:, 0].astype(np.uint64), plan.recorded_ids)]
    got = fills[:, 2:6]
    shorter = min(len(expected), len(got))
    same = (expected[:shorter] == got[:shorter]).all(axis=1)
    differences = []
    if not same.all():
        at = int(np.argmin(same))
        differences.append(
            f"fill {at + 1} (taker, maker, price, qty): expected {expected[at].tolist()}, got {got[at].tolist()}"
        )
    if len(expected) != len(got):
        differences.append(f"fills: expected {len(expected)}, got {len(got)}")
    return {"fills_expected": len(expected), "fills_equal": int(np.count_nonzero(same))}, differences


def compare_top_of_book(plan: Plan, depths: np.ndarray, folder: Path) -> tuple[int, list[str]]:
    """Best bid and ask after each published row of ``events``.

    Returns how many rows could be compared and what differs.

    Each row is looked at after the last command with a seq not above the row's. Rows within one aggressor (a run of
    executions of one nanosecond and side) count only at its end, because the engine takes the whole run as one command.
    """
    file = folder / "events.csv.gz"
    table = read_table(file)
    seq = integers(table, "seq", file)
    published = np.stack(
        [integers(table, n, file, empty=-1) for n in ("bid_price", "bid_qty", "ask_price", "ask_qty")], axis=1
    )
    has_price = np.array([bool(v) for v in table["bid_price"]])
    start = int((folder / "engine_start_seq.txt").read_text())
    comparable = has_price & (seq >= start) & ~_within_an_aggressor(seq, folder)
    rows = np.flatnonzero(comparable)
    message = np.searchsorted(plan.row_of_message, seq[rows], side="right") - 1
    # With --limit the rows after the last command say nothing.
    end = plan.row_of_message[-1] if plan.messages else -1
    keep = (message >= 0) & (seq[rows] <= end)
    rows, message = rows[keep], message[keep]
    got = depths[message].reshape(len(message), 4)
    wrong = np.flatnonzero((got != published[rows]).any(axis=1))
    return len(rows), [
        f"top of book at event seq {seq[rows[i]]} (bid, qty, ask, qty): "
        f"published {published[rows[i]].tolist()}, got {got[i].tolist()}"
        for i in wrong
    ]


def _within_an_aggressor(seq: np.ndarray, folder: Path) -> np.ndarray:
    """Rows of an aggressor that are not its last: ``expected_fills`` says which seq belong to it and which ends it."""
    file = folder / "expected_fills.csv.gz"
    table = read_table(file)
    fill_seq = integers(table, "seq", file)
    taker = integers(table, "taker_id", file)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for t, s in zip(taker.tolist(), fill_seq.tolist(), strict=True):
        first.setdefault(t, s)
        last[t] = s
    begin = np.array([first[t] for t in first], dtype=np.int64)
    end = np.array([last[t] for t in first], dtype=np.int64)
    order = np.argsort(begin)
    begin, end = begin[order], end[order]
    at = np.searchsorted(begin, seq, side="right") - 1
    return (at >= 0) & (seq < end[np.maximum(at, 0)])


# --- Bitstamp --------------------------------------------------------------------------------


def _snapshot_messages(plan: Plan, folder: Path) -> np.ndarray:
    file = folder / "snapshots.csv.gz"
    seq = integers(read_table(file), "seq", file)
    message = np.searchsorted(plan.row_of_message, seq, side="right") - 1
    last = plan.row_of_message[-1] if plan.messages else -1
    return np.unique(message[(message >= 0) & (seq <= last)])


def _check_bitstamp(plan: Plan, collector: Collector, folder: Path) -> tuple[dict[str, Any], list[str]]:
    checks: dict[str, Any] = compare_snapshots(plan, collector, folder)
    fills = collector.fills()
    checks |= compare_filled_quantities(plan, fills, collector.orders(), folder)
    checks |= compare_prints(plan, fills, folder)
    differences = []
    for name, floor in BITSTAMP_FLOORS.items():
        # The README rounds percentages to one decimal, and so does this comparison.
        reached = round(checks[name], 1)
        if reached < floor:
            differences.append(
                f"{name}: {checks[name]} is below {floor}, which a correct engine reaches on this capture"
            )
    # A part of the recording has its own, unknown percentages.
    return checks, differences if plan.messages == _commands_in(folder) else []


def _commands_in(folder: Path) -> int:
    return len(read_table(folder / "commands.csv.gz")["seq"])


def compare_snapshots(plan: Plan, collector: Collector, folder: Path) -> dict[str, Any]:
    """Best prices and all 40 levels (the quantity at each published price) against the exchange's own snapshots."""
    file = folder / "snapshots.csv.gz"
    table = read_table(file)
    seq = integers(table, "seq", file)
    message = np.searchsorted(plan.row_of_message, seq, side="right") - 1
    at = np.searchsorted(collector.probes, message)
    keep = (at < len(collector.probes)) & (seq <= (plan.row_of_message[-1] if plan.messages else -1))
    keep[keep] &= collector.probes[at[keep]] == message[keep]
    published = np.zeros((len(seq), 2, SNAPSHOT_LEVELS, 2), dtype=np.int64)
    for side, word in enumerate(("bid", "ask")):
        for level in range(SNAPSHOT_LEVELS):
            for k, what in enumerate(("price", "qty")):
                published[:, side, level, k] = integers(table, f"{word}{level + 1}_{what}", file)
    published = published[keep]
    got = collector.depths[at[keep]][:, :, :SNAPSHOT_LEVELS]
    count = len(published)
    best = published[:, :, 0, 0] == got[:, :, 0, 0]
    # A level counts wherever it stands among the twenty: one that the capture lost must not make all behind it wrong.
    levels = (published[:, :, :, None, :] == got[:, :, None, :, :]).all(axis=4).any(axis=3)
    return {
        "snapshots": count,
        "best_bid_equal_pct": _percent(best[:, 0].sum(), count),
        "best_ask_equal_pct": _percent(best[:, 1].sum(), count),
        "levels_equal_pct": _percent(levels.sum(), levels.size),
    }


def compare_filled_quantities(plan: Plan, fills: np.ndarray, resting: np.ndarray, folder: Path) -> dict[str, Any]:
    """Of the orders whose creation was recorded: how many end with the filled quantity that the record shows."""
    file = folder / "events.csv.gz"
    table = read_table(file)
    order = integers(table, "order_id", file)
    qty = integers(table, "qty", file)
    action = np.array(table["action"])
    seq = integers(table, "seq", file)
    inside = seq <= (plan.row_of_message[-1] if plan.messages else -1)
    created = inside & (action == "created")
    total = dict(zip(order[created].tolist(), qty[created].tolist(), strict=True))
    left = dict(total)
    for number, rest in zip(order[inside].tolist(), qty[inside].tolist(), strict=True):
        if number in left:
            left[number] = min(left[number], rest)
    filled = dict.fromkeys(total, 0)
    for side in (2, 3):
        for number, lots in zip(fills[:, side].tolist(), fills[:, 5].tolist(), strict=True):
            if number in filled:
                filled[number] += lots
    equal = sum(1 for number in total if filled[number] == total[number] - left[number])
    return {
        "orders_recorded": len(total),
        "orders_filled_as_recorded": equal,
        "orders_filled_as_recorded_pct": _percent(equal, len(total)),
        "orders_resting": len(resting),
    }


def compare_prints(plan: Plan, fills: np.ndarray, folder: Path) -> dict[str, Any]:
    """How many public trade prints are matched by a fill of the same price and quantity, each fill once."""
    file = folder / "trades.csv.gz"
    table = read_table(file)
    inside = integers(table, "seq", file) <= (plan.row_of_message[-1] if plan.messages else -1)
    prints = list(
        zip(integers(table, "price", file)[inside].tolist(), integers(table, "qty", file)[inside].tolist(), strict=True)
    )
    unused: dict[tuple[int, int], int] = {}
    for price, qty in zip(fills[:, 4].tolist(), fills[:, 5].tolist(), strict=True):
        unused[price, qty] = unused.get((price, qty), 0) + 1
    equal = 0
    for key in prints:
        if unused.get(key, 0):
            unused[key] -= 1
            equal += 1
    return {"prints": len(prints), "prints_equal": equal}


def _percent(part: int, whole: int) -> float:
    return round(100 * int(part) / whole, 3) if whole else 100.0
