"""The report stream of flash1-dev/matching-engine-benchmark through the matcher's kernel, compared with the one that other books give.

    python bench/flash1.py FOLDER [SCENARIO…] [--count N]

FOLDER is a clone of that repository with its ``generator`` built in it; nothing of theirs is in this tree. For each scenario its
commands are made, done by the kernel, and the reports written as their harness writes them; the SHA-256 is compared with that of
``reference/correctness_hash.txt``. Their modify is our amend: it names the new rest of an order, ours the new total, so that what
an order had traded by then must be known. That is found by doing everything again until nothing changes. The last round is timed,
without reports: commands a second of the kernel, which is not what their harness measures.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from ringbuf.kernel_cache import configure

configure()

import numpy as np  # noqa: E402

from cambist.benches import shards  # noqa: E402
from matcher.state import APPLIED_SEQ  # noqa: E402
from protocol import enums as e  # noqa: E402
from protocol.instance import Limits  # noqa: E402
from protocol.records import COMMAND_DTYPE  # noqa: E402

SCENARIOS: Final = ("static", "normal", "swing-25", "swing-40", "flash-crash")
SEED: Final = 23
RECORD: Final = np.dtype(
    [("type", "u1"), ("side", "u1"), ("ioc", "u1"), ("pad", "u1"), ("qty", "<u4"), ("seq", "<u8"), ("order_id", "<u8"),
     ("price", "<i8"), ("reserved", "<i8")]
)  # fmt: skip
NEW, CANCEL, MODIFY = range(3)
_HEADER_BYTES: Final = 16
_ROUNDS_MAX: Final = 1_000
_RING_SLOTS: Final = 1 << 14
_RUNS: Final = 5


class Found(NamedTuple):
    """What the kernel said to all commands."""

    refused: np.ndarray
    """bool[n] by command."""
    taker: np.ndarray
    """int64[fills]: index of the command."""
    maker_id: np.ndarray
    price: np.ndarray
    qty: np.ndarray


def commands_of(records: np.ndarray, traded: np.ndarray) -> np.ndarray:
    """COMMAND_DTYPE[n]; ``traded``: int64[n], of each modify what its order had traded by then."""
    slots = np.zeros(len(records), dtype=COMMAND_DTYPE)
    new = records["type"] == NEW
    slots["type"] = np.array([e.LIMIT, e.CANCEL, e.AMEND])[records["type"]]
    slots["tif"] = np.where(records["ioc"] == 1, e.IOC, e.GTC)
    slots["side"] = np.where(new, records["side"], 0)
    slots["account"], slots["instrument"] = 1, 1
    slots["order_id"] = records["order_id"]
    slots["price_ticks"] = records["price"]
    slots["qty_lots"] = records["qty"] + traded
    return slots


def fresh(records: np.ndarray) -> shards.Shard:
    """An empty book with room for all orders."""
    orders = int((records["type"] == NEW).sum()) + 1
    shard = shards.fresh(Limits(accounts=1, instruments=1, orders=orders, leaves=1 << 14), _RING_SLOTS, _RING_SLOTS)
    shards.feed(shard, shards.listing(1))
    return shard


def done(records: np.ndarray, traded: np.ndarray) -> Found:
    """Do all commands."""
    shard = fresh(records)
    slots = commands_of(records, traded)
    half = _RING_SLOTS // 2
    parts = [shards.events_of(shard, shards.put(shard, slots[k : k + half])) for k in range(0, len(slots), half)]
    events = np.concatenate(parts)
    # Seq 1 is the listing.
    at = events["seq"] - 2
    refused = np.zeros(len(records), dtype=bool)
    refused[at[events["kind"] == e.EV_REJECTED]] = True
    fills = events["kind"] == e.EV_FILL
    return Found(refused, at[fills], *(events[name][fills] for name in ("order_id", "price_ticks", "qty_lots")))


def traded_by(records: np.ndarray, found: Found) -> np.ndarray:
    """int64[n]: what the order of each command had traded before it."""
    ids = records["order_id"].astype(np.int64)
    order = np.concatenate([found.maker_id, ids[found.taker]])
    when = np.concatenate([found.taker, found.taker])
    qty = np.concatenate([found.qty, found.qty])
    keys = order * len(records) + when
    by_key = np.argsort(keys, kind="stable")
    sums = np.concatenate([[0], np.cumsum(qty[by_key])])
    keys = keys[by_key]
    first = np.searchsorted(keys, ids * len(records))
    last = np.searchsorted(keys, ids * len(records) + np.arange(len(records)))
    return np.where(records["type"] == MODIFY, sums[last] - sums[first], 0)


def settled(records: np.ndarray) -> tuple[Found, np.ndarray]:
    """What the kernel says once each modify knows what its order had traded."""
    traded = np.zeros(len(records), dtype=np.int64)
    for _ in range(_ROUNDS_MAX):
        found = done(records, traded)
        actual = traded_by(records, found)
        if np.array_equal(actual, traded):
            return found, traded
        traded = actual
    raise SystemExit("the quantities traded before modifies do not settle")


def report(records: np.ndarray, found: Found) -> str:
    """The canonical report: a line each, by sequence number and kind of report, fills in their order."""
    seq, order_id = records["seq"].tolist(), records["order_id"].tolist()
    price, qty = records["price"].tolist(), records["qty"].tolist()
    refused, kinds, immediate = found.refused.tolist(), records["type"].tolist(), records["ioc"].tolist()
    fills = list(zip(found.price.tolist(), found.qty.tolist(), found.maker_id.tolist(), strict=True))
    bounds = np.searchsorted(found.taker, np.arange(len(records) + 1)).tolist()
    now: dict[int, tuple[int, int]] = {}
    lines: list[str] = []
    sides = records["side"].tolist()
    for k in np.argsort(records["seq"], kind="stable").tolist():
        number, kind, name = seq[k], kinds[k], order_id[k]
        if refused[k]:
            lines.append(f"{4 if kind == CANCEL else 5},{number},{name}")
            continue
        if kind == CANCEL:
            side, at = now[name]
            lines.append(f"2,{number},{side},{name},{at}")
            continue
        side = sides[k] if kind == NEW else now[name][0]
        now[name] = side, price[k]
        own = fills[bounds[k] : bounds[k + 1]]
        ack = f"{side},{name},{price[k]},{qty[k]}"
        if kind == NEW:
            lines.append(f"0,{number},{ack}")
        lines += [f"1,{number},{at},{lots},{maker},{name}" for at, lots, maker in own]
        if kind == MODIFY:
            lines.append(f"3,{number},{ack}")
        elif immediate[k] and sum(lots for _, lots, _ in own) < qty[k]:
            lines.append(f"2,{number},{side},{name},{price[k]}")
    return "\n".join(lines)


def rate(records: np.ndarray, traded: np.ndarray) -> float:
    """Commands a second of the kernel, events passed unread; median of five."""
    slots = commands_of(records, traded)
    rates = []
    for _ in range(_RUNS):
        shard = fresh(records)
        took_ns = 0
        for begin in range(0, len(slots), _RING_SLOTS):
            last = shards.put(shard, slots[begin : begin + _RING_SLOTS])
            began_ns = time.perf_counter_ns()
            shards.drive(shard, last)
            took_ns += time.perf_counter_ns() - began_ns
        assert shard.arrays.meta[APPLIED_SEQ] == len(slots) + 1
        rates.append(len(slots) * 1e9 / took_ns)
    return statistics.median(rates)


def expected(folder: Path, scenario: str, count: int) -> str | None:
    """The published hash, where there is one."""
    wanted = f"{scenario}_seed{SEED}_count{count}_reports.txt"
    for line in (folder / "reference" / "correctness_hash.txt").read_text(encoding="utf-8").splitlines():
        found, _, name = line.partition("  ")
        if name.strip() == wanted:
            return found
    return None


def main() -> int:
    """Print a line a scenario; 1 where a hash differs."""
    parser = argparse.ArgumentParser(
        description="Compare report streams with those of flash1-dev/matching-engine-benchmark."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--count", type=int, default=1_000_000, help="new orders; hashes are published for 1,000,000")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    wrong = 0
    for scenario in arguments.scenarios:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "orders.bin"
            command = [str(folder / "generator"), scenario, str(file), str(arguments.count), str(SEED)]
            subprocess.run(command, check=True, capture_output=True)
            records = np.fromfile(file, dtype=RECORD, offset=_HEADER_BYTES)
        found, traded = settled(records)
        actual = hashlib.sha256(report(records, found).encode()).hexdigest()
        wanted = expected(folder, scenario, arguments.count)
        said = "no published hash" if wanted is None else "as published" if actual == wanted else f"NOT {wanted}"
        wrong += wanted is not None and actual != wanted
        speed = rate(records, traded) / 1e6
        print(
            f"{scenario}: {len(records):,} commands, {len(found.taker):,} fills, {actual}: {said}; {speed:.1f} M/s",
            flush=True,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
