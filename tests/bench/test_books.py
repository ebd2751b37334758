import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cambist import benches
from cambist.benches import bare, books, crowds, footprint, operations, rows, shards, sweep
from cambist.benches.crowds import MID_TICKS, Crowd
from cambist.config import BenchSection, Config
from matcher.state import ORDERS_LIVE
from protocol import enums as e
from protocol.instance import Limits
from ringbuf.ring import published

TINY = rows.Sizes(
    flow_messages=2_000,
    book_orders=100,
    book_symbols=(1, 3),
    book_operations=16,
    book_path=300,
    walk_steps=1_000,
    sweep_orders=1_000,
)


def results_of(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    document, failures = benches.measure([name], Config(bench=BenchSection(runs=2)), TINY, folder)
    assert [] == failures
    assert [] == list(folder.iterdir()), "a bench leaves nothing behind"
    json.dumps(document)
    for row in document["results"]:
        assert name == row["bench"]
        assert 0 < row["min"] <= row["median"] <= row["max"]
        assert row["limit"]["value"] > 0
    return {row["case"]: row for row in document["results"]}


@pytest.fixture
def small() -> tuple[Crowd, shards.Shard]:
    return books.build(books.Point("small", 60, 2, 40, path="calm"))


def test_books_have_a_row_for_each_kind_at_each_point_and_growth_from_the_first(tmp_path: Path) -> None:
    found = results_of("books", tmp_path)
    points = ["resting_10", "resting_100", "symbols_1", "symbols_3", *(f"width_{200 * 10**k}" for k in range(5)), "far"]
    assert [f"{point}_{kind}" for point in points for kind in crowds.KINDS] + list(crowds.PATHS) == list(found)
    for row in found.values():
        assert 1 < row["lines"] < 40
        assert 0 < row["used_bytes"] < row["rss_bytes"] < 2 << 30
    grown = found["resting_100_cancel"]["growth"]
    base = found["resting_10_cancel"]
    assert grown["from"] == "resting_10_cancel"
    assert grown["times"] == found["resting_100_cancel"]["median"] / base["median"]
    assert "calm" == found["swing_40"]["growth"]["from"]


def test_growth_is_that_of_the_operation_over_that_of_the_walk() -> None:
    made = [
        {"operation": "cancel", "case": case, "median": ns, "limit": {"what": "", "value": walk_ns}}
        for case, ns, walk_ns in (("a", 50.0, 10.0), ("b", 150.0, 20.0))
    ]
    first, second = (row["growth"] for row in books.with_growth(made))
    assert {"from": "a", "times": 1, "walk_times": 1, "ratio": 1, "added_ns": 0, "walk_added_ns": 0} == first
    assert {"from": "a", "times": 3, "walk_times": 2, "ratio": 1.5, "added_ns": 100, "walk_added_ns": 10} == second


def test_operations_have_percentiles_beside_those_of_an_empty_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    found = results_of("operations", folder)
    assert ["w1", "w2", "w3", "resting_10", "resting_100"] == list(found)
    for row in found.values():
        for times in (row["percentiles_ns"], row["machine_percentiles_ns"]):
            assert ["50", "99", "99.9", "99.99", "100"] == list(times)
            assert sorted(times.values()) == list(times.values())
        assert 0 <= row["above_wanted"] <= 1
        assert 0 < row["clock_ns"]
    assert 2 * 5 * 50 == found["resting_100"]["operations"]
    assert found["w1"]["operations"] >= 2 * 2_000


def test_a_turn_of_the_empty_loop_lasts_as_long_as_asked_for() -> None:
    took_ns = np.zeros(20, dtype=np.int64)
    bare.turns(40_000, took_ns)
    assert (took_ns >= 40_000).all()


def test_a_sweep_pauses_and_ends_as_with_a_wide_ring(tmp_path: Path) -> None:
    found = results_of("sweep", tmp_path)
    assert ["ioc_1000", "fok_1000"] == list(found)
    for row in found.values():
        assert (1_000, 1_000 // 256) == (row["fills"], row["pauses"])


def test_a_sweep_that_misses_an_order_fails_the_bench() -> None:
    before, taker = sweep.commands(300, e.IOC)
    taker["qty_lots"][0] += 1
    with pytest.raises(rows.BenchFailedError, match="not all were fills"):
        sweep.pauses(before, taker)


def test_footprint_counts_pages_in_use_by_array(tmp_path: Path) -> None:
    found = results_of("footprint", tmp_path)
    assert ["dense", "one_a_price", "one_in_10_prices", "one_in_64_prices", "one_in_1000_prices"] == list(found)
    for row in found.values():
        assert 100 == row["orders"]
        assert sum(row["bytes_by_array"].values()) == pytest.approx(row["median"])
        # 100 orders of 64 bytes, from slot 1 on, are on two pages.
        assert 2 * 4096 / 100 == row["bytes_by_array"]["orders"]
        assert 128 == row["risk"]["hold"]
    for row in found.values():
        assert 64 < row["limit"]["value"] <= 128, "an order takes at most 128 bytes, wherever it stands"


def test_pages_and_lines_in_use_are_those_with_a_byte_that_is_not_zero() -> None:
    array = np.zeros(3 * 4096 + 100, dtype=np.uint8)
    assert 0 == footprint.pages_bytes(array)
    array[[4095, 4096 + 64, 3 * 4096 + 99]] = 1
    assert 3 * 4096 == footprint.pages_bytes(array)
    assert [63, 65, 193] == bare.used_lines(array).tolist()


def test_lines_that_a_command_changes_are_counted_without_those_of_meta(small: tuple[Crowd, shards.Shard]) -> None:
    _, shard = small
    before = bare.map_of(shard.arrays).copy()
    shard.arrays.meta[5] += 1
    assert 0 == bare.changed_lines(shard.arrays, before)
    shard.arrays.orders["left_lots"][[3, 4]] += 1
    shard.arrays.books["orders"][1] += 1
    assert 3 == bare.changed_lines(shard.arrays, before)


def test_lines_in_use_are_found_where_the_arrays_are(small: tuple[Crowd, shards.Shard]) -> None:
    _, shard = small
    words, lines = bare.map_of(shard.arrays), bare.lines_of(shard.arrays)
    first = (shard.arrays.orders.ctypes.data - words.ctypes.data) // 8
    assert set(range(first + 8, first + 8 * 61, 8)) <= set(lines.tolist()), "orders 1 to 60"
    assert all(words[line : line + 8].any() for line in lines)
    assert bare.walk_ns(words, lines, 1_000, seed=1) > 0


def test_a_crowd_foretells_every_fill(small: tuple[Crowd, shards.Shard]) -> None:
    crowd, shard = small
    for path in (None, *crowds.PATHS.values()):
        series = crowd.by_kind(8, 4) if path is None else crowd.along(path(400), 16)
        before = published(shard.events)
        events = shards.events_of(shard, shards.put(shard, series.slots))
        assert len(events) == published(shard.events) - before, "each event is read once"
        crowds.check(series, events, "the crowd")
        assert len(series.makers) > 5
        assert len(series.slots) == series.sizes.sum()
        assert shard.arrays.meta[ORDERS_LIVE] == crowd.resting
        with pytest.raises(rows.BenchFailedError, match="the first other one is number 2"):
            crowds.check(series._replace(makers=np.append(series.makers[:2], 7)), events, "the crowd")


def test_by_kind_leaves_as_many_orders_as_there_were(small: tuple[Crowd, shards.Shard]) -> None:
    crowd, _ = small
    series = crowd.by_kind(12, 4)
    assert 60 == crowd.resting
    assert [0, 1, 2, 0, 3] * 3 == series.kinds.tolist()
    types = series.slots["type"].reshape(-1, 4)
    assert {e.CANCEL} == set(types[series.kinds == 1].ravel().tolist())
    assert {e.AMEND} == set(types[series.kinds == 2].ravel().tolist())
    assert {e.IOC} == set(series.slots["tif"].reshape(-1, 4)[series.kinds == 3].ravel().tolist())


def test_a_book_far_from_the_touch_spans_millions_of_ticks() -> None:
    crowd = Crowd(2_000, 1, MID_TICKS - 1, 1, far=True)
    prices = crowd.first["price_ticks"]
    assert prices.min() < MID_TICKS // 4
    assert (np.abs(prices - MID_TICKS) < 100).mean() > 0.2
    assert ((prices < MID_TICKS) == (crowd.first["side"] == e.BUY)).all()


@pytest.mark.parametrize(
    ("name", "low", "last"), [("calm", 1.0, 1.0), ("swing_40", 0.6, 1.0), ("flash_crash", 0.4, 0.7)]
)
def test_paths_go_as_low_as_they_say(name: str, low: float, last: float) -> None:
    path = list(crowds.PATHS[name](10_000))
    assert 10_000 == len(path)
    assert MID_TICKS == path[0]
    assert low == pytest.approx(min(path) / MID_TICKS, abs=0.001)
    assert last == pytest.approx(path[-1] / MID_TICKS, abs=0.001)


def test_timed_stretches_do_the_same_as_all_at_once() -> None:
    crowd = Crowd(60, 1, 40, 1)
    series = crowd.by_kind(20, 5)
    limits = Limits(accounts=crowd.accounts, instruments=1, orders=100, leaves=10)
    found = []
    for sizes in (series.sizes, np.ones(len(series.slots), dtype=np.int64), None):
        shard = shards.fresh(limits, 64)
        shards.feed(shard, np.concatenate([crowd.listings(), crowd.first]))
        if sizes is None:
            shards.feed(shard, series.slots)
        else:
            spans_ns = shards.timed(shard, series.slots, sizes)
            assert len(sizes) == len(spans_ns)
            assert (spans_ns > 0).all()
        found.append(shards.results(shard))
    assert [found[0]] * 3 == found


def test_the_wanted_time_is_five_microseconds() -> None:
    assert 5_000 == operations.WANTED_NS
