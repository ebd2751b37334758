"""The whole way with the product's own engine: recording, conversion, risk and matching, collection, report."""

from pathlib import Path

import numpy as np
import pytest

from cambist.replay.plan import load
from cambist.replay.truth import compare_top_of_book
from tests.flows import flow
from tests.replay.fused_engine import FusedRun

AAPL = "data/l3_nasdaq_aapl_2012-06-21"
BITSTAMP = "data/l3_bitstamp_btcusd_2015-05-01"
COINBASE = "data/l3_coinbase_btcusd_snapshot_2026-08-07"


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("name", ["tight", "stp"])
def test_a_whole_history_gives_all_expected_results(shared_data: Path, name: str, shards: int) -> None:
    got = FusedRun(load(shared_data / f"data/xflow2/{name}.bin.gz"), shards).report
    assert ("all results", []) == (got["expected"], got["differences"])


@pytest.mark.parametrize("workload", ["w1", "w2", "w3"])
def test_a_generated_flow_gives_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workload: str) -> None:
    monkeypatch.setattr("sys.argv", ["flow", str(tmp_path), "--n", "20000", "--seed", "9", "--only", workload])
    flow.main()
    got = FusedRun(load(tmp_path / f"{workload}.bin")).report
    assert (f"checkpoint at {got['messages']} messages", []) == (got["expected"], got["differences"])


def test_aapl_gives_all_recorded_fills_and_every_published_top_of_book(shared_data: Path) -> None:
    got = FusedRun(load(shared_data / AAPL)).report
    assert [] == got["differences"]
    truth = {"fills_expected": 4_067, "fills_equal": 4_067, "top_of_book_compared": 91_213, "top_of_book_different": 0}
    assert truth == got["truth"]
    assert (89_135, {}, 350_494, 379) == tuple(got[k] for k in ("accepted", "rejected", "volume", "orders"))
    assert (5_856_900, 5_859_500) == (got["best_bid"], got["best_ask"])


def test_a_part_of_aapl_is_compared_with_its_part_of_the_record(shared_data: Path) -> None:
    got = FusedRun(load(shared_data / AAPL, limit=9_000)).report
    assert [] == got["differences"]
    assert 0 < got["truth"]["fills_expected"] < 4_067


def test_a_wrong_fill_and_a_wrong_top_of_book_are_found(shared_data: Path) -> None:
    plan = load(shared_data / AAPL, limit=2_000)
    run = FusedRun(plan)
    depths = run.collector.depths.copy()
    depths[:, 0, 0, 1] += 1
    compared, wrong = compare_top_of_book(plan, depths, plan.path)
    assert compared == len(wrong)
    assert wrong[0].startswith("top of book at event seq")


def test_bitstamp_comes_as_near_to_the_record_as_its_capture_allows(shared_data: Path) -> None:
    got = FusedRun(load(shared_data / BITSTAMP)).report
    assert [] == got["differences"]
    truth = got["truth"]
    assert (5_011, 24_894, 575, 523) == tuple(
        truth[k] for k in ("snapshots", "orders_recorded", "prints", "prints_equal")
    )
    rounded = [
        round(truth[f"{k}_pct"], 1)
        for k in ("orders_filled_as_recorded", "best_bid_equal", "best_ask_equal", "levels_equal")
    ]
    assert [99.8, 99.6, 99.9, 99.4] == rounded
    assert {"UNKNOWN_ORDER"} == set(got["rejected"])


def test_the_coinbase_book_stands_whole_and_one_cancel_all_takes_it_away(shared_data: Path) -> None:
    plan = load(shared_data / COINBASE)
    run = FusedRun(plan)
    book = {k: run.report[k] for k in ("orders", "bid_levels", "ask_levels", "best_bid", "best_ask", "trades")}
    expected = {
        "orders": 110_606, "bid_levels": 18_395, "ask_levels": 27_019,
        "best_bid": 6_493_431, "best_ask": 6_493_538, "trades": 0,
    }  # fmt: skip
    assert expected == book
    run.teardown()
    assert (0, []) == (run.collector.book(1)["orders"], run.collector.faults())


def test_the_same_commands_as_a_journal_give_the_same_state(shared_data: Path) -> None:
    from cambist.replay.journals import plan_of
    from tests.replay.fused_engine import sequenced

    plan = load(shared_data / "data/xflow2/tight.bin.gz", limit=5_000)
    first = FusedRun(plan)
    slots = sequenced(np.concatenate([plan.setup, plan.commands]))
    again = FusedRun(plan_of(slots, Path("home")))
    assert [] == again.report["differences"]
    for key in ("state_hash", "trades", "volume", "books", "balances", "balance_hash", "prevented"):
        assert first.report[key] == again.report[key]
    assert plan.messages + 3 + 3 + 9 == again.plan.messages
