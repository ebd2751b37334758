import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cambist.replay import report
from cambist.replay.collect import Collector
from cambist.replay.plan import load
from tests.flows import flow
from tests.replay.naive_engine import NaiveEngine

CONTRACT_KEYS = {
    "messages", "accepted", "rejected", "cancels", "trades", "volume", "turnover", "trade_hash", "orders", "bid_qty",
    "ask_qty", "bid_levels", "ask_levels", "best_bid", "best_ask", "state_hash",
    "seconds", "messages_per_s", "topology",
}  # fmt: skip
HISTORY_KEYS = {"verdicts", "verdict_hash", "balance_hash", "balances", "fee", "net_deposits", "books", "prevented"}


def replayed(path: Path, limit: int | None = None) -> dict[str, Any]:
    plan = load(path, limit=limit)
    engine, collector = NaiveEngine(plan), Collector(plan)
    collector.feed(engine.run(plan.setup))
    collector.feed(engine.run(plan.commands))
    collector.finish()
    return report.build_report(
        plan, collector, engine.ledger(), timing=report.Timing(0.5, "fused"), state_hash="7", extra={"runs": 1}
    )


@pytest.fixture
def sample(shared_data: Path, tmp_path: Path) -> Path:
    for name in ("tight.bin.gz", "tight.json"):
        shutil.copyfile(shared_data / "data/xflow2" / name, tmp_path / name)
    return tmp_path / "tight.bin.gz"


@pytest.mark.parametrize("name", ["tight", "stp"])
def test_a_whole_history_gives_all_expected_results(shared_data: Path, name: str) -> None:
    got = replayed(shared_data / f"data/xflow2/{name}.bin.gz")
    assert ("all results", []) == (got["expected"], got["differences"])
    assert CONTRACT_KEYS | HISTORY_KEYS <= set(got)


def test_the_first_messages_give_their_checkpoint(shared_data: Path) -> None:
    got = replayed(shared_data / "data/xflow2/tight.bin.gz", limit=4_000)
    assert ("checkpoint at 4000 messages", []) == (got["expected"], got["differences"])


def test_between_checkpoints_the_detail_is_compared(shared_data: Path) -> None:
    got = replayed(shared_data / "data/xflow2/tight.bin.gz", limit=1_234)
    assert ("detail of the first 1234 messages", []) == (got["expected"], got["differences"])


def test_each_expected_number_that_differs_is_named(sample: Path) -> None:
    file = report.expected_file(sample)
    expected = json.loads(file.read_text())
    expected["trades"] += 1
    expected["balances"]["2"]["BTC"] = [1, 2]
    expected["detail"]["verdicts"][2][0] = 99
    expected["detail"]["fills"][1][5] += 1
    file.write_text(json.dumps(expected))
    wrong = replayed(sample)["differences"]
    starts = [
        "trades: expected 3877",
        "balances.2: expected",
        "verdict (code, x, y) of message 3: expected [99",
        "fill 2: expected",
    ]
    assert sorted(starts) == sorted(next(s for s in starts if line.startswith(s)) for line in wrong)


def test_without_a_file_of_results_there_is_nothing_to_compare(sample: Path) -> None:
    report.expected_file(sample).unlink()
    got = replayed(sample, limit=100)
    assert ([], False) == (got["differences"], "expected" in got)


def test_money_made_out_of_nothing_is_a_difference(shared_data: Path) -> None:
    plan = load(shared_data / "data/xflow2/tight.bin.gz", limit=100)
    engine = NaiveEngine(plan)
    engine.run(plan.commands)
    engine.exchange.free[1, 1] += 1
    assert any("money was made or lost" in line for line in report.conservation(plan, engine.ledger()))


@pytest.mark.parametrize("workload", ["w1", "w2", "w3"])
def test_a_generated_flow_gives_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workload: str) -> None:
    monkeypatch.setattr("sys.argv", ["flow", str(tmp_path), "--n", "3000", "--seed", "5", "--only", workload])
    flow.main()
    got = replayed(tmp_path / f"{workload}.bin")
    assert (f"checkpoint at {got['messages']} messages", []) == (got["expected"], got["differences"])
    assert CONTRACT_KEYS <= set(got)


def test_an_unpacked_and_a_packed_file_are_the_same_recording(sample: Path) -> None:
    plain = sample.with_suffix("")
    plain.write_bytes(gzip.decompress(sample.read_bytes()))
    assert replayed(sample, limit=500) == replayed(plain, limit=500)


def test_json_keeps_integers_beyond_53_bits_and_is_one_line(shared_data: Path) -> None:
    got = replayed(shared_data / "data/xflow2/stp.bin.gz", limit=2_000)
    text = report.write_json(got)
    assert "\n" not in text
    assert got == json.loads(text)


def test_a_person_sees_numbers_and_differences(shared_data: Path) -> None:
    got = replayed(shared_data / "data/xflow2/tight.bin.gz", limit=2_000)
    got["differences"] = [f"number {n}" for n in range(25)]
    out = io.StringIO()
    report.show(got, Console(file=out, width=140))
    text = out.getvalue()
    assert "INSUFFICIENT_FUNDS" in text
    assert "and 5 more" in text
