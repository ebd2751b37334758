import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cambist import benches
from cambist.benches import flows, output, rows
from cambist.commands import UsageError
from cambist.config import BenchSection, Config

MESSAGES = 2_000
SMOKE = rows.Sizes(
    ring_messages=20_000,
    flow_messages=MESSAGES,
    pipeline_variants=False,
    latency_settled=60,
    latency_durable=20,
    latency_paused=10,
    pause_ns=500_000,
    latency_s=1.0,
    open_rates=(1_000, 4_000),
    open_s=0.05,
    pings=500,
    wakes=50,
    syncs_max=10,
    journal_s=0.1,
    compile_modules=("cambist.replay.convert",),
    demo=False,
)
CONTRACT_KEYS = {
    "bench", "case", "metric", "unit", "median", "min", "max", "runs", "cpu_median", "limit", "percentiles_ns",
}  # fmt: skip


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """w1 with its expected results."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    file = flows.workload("w1", MESSAGES)
    patch.undo()
    return file


def config_for(flow: Path | None, **bench: Any) -> Config:
    section = BenchSection(runs=1, flow=str(flow) if flow else "")
    return Config(bench=msgspec.structs.replace(section, **bench))


def results_of(name: str, flow: Path | None, folder: Path) -> dict[str, dict[str, Any]]:
    """Rows by case, after a look at their form."""
    document, failures = benches.measure([name], config_for(flow), SMOKE, folder)
    assert [] == failures
    assert [] == list(folder.iterdir()), "a bench leaves nothing behind"
    json.dumps(document)
    for row in document["results"]:
        assert CONTRACT_KEYS <= set(row), row
        assert name == row["bench"]
        assert 0 < row["min"] <= row["median"] <= row["max"]
        assert row["runs"] == (2 if row["case"].startswith("machine_") else 1)
        assert row["cpu_median"] >= 0
        assert row["limit"] is None or (row["limit"]["what"] and row["limit"]["value"] > 0)
    return {row["case"]: row for row in document["results"]}


def expected_hash(flow: Path) -> str:
    points = json.loads(flow.with_suffix(".json").read_text())["checkpoints"]
    return str(points[max(points, key=int)]["hash"])


def test_matcher_gives_the_trades_of_the_flow_and_a_limit_in_c(flow: Path, tmp_path: Path) -> None:
    row = results_of("matcher", flow, tmp_path)["w1"]
    assert (expected_hash(flow), MESSAGES) == (row["result_hash"], row["messages"])
    assert row["compared"].startswith("checkpoint")


def test_engine_is_checked_and_compared_with_the_matcher_alone(flow: Path, tmp_path: Path) -> None:
    row = results_of("engine", flow, tmp_path)["w1"]
    assert row["compared"].startswith("checkpoint")
    assert "matcher" in row["limit"]["what"]


def test_pipeline_ends_in_one_state_in_every_topology(flow: Path, tmp_path: Path) -> None:
    found = results_of("pipeline", flow, tmp_path)
    assert ["w1_split", "w1_fused"] == list(found)
    assert {"journal", "matcher-0", "risk", "sequencer", "client"} == set(found["w1_split"]["cpu_ns_per_message"])
    assert 1 == len({row["result_hash"] for row in found.values()})


def test_latency_has_percentiles_with_and_without_the_journal(flow: Path, tmp_path: Path) -> None:
    found = results_of("latency", flow, tmp_path)
    expected = [f"w1_{topology}_{kind}" for topology in ("split", "fused") for kind in ("settled", "durable")]
    assert expected == list(found)
    for row in found.values():
        times = row["percentiles_ns"]
        assert ["50", "99", "99.9", "99.99", "100"] == list(times)
        assert sorted(times.values()) == list(times.values())
        assert 0 < row["orders"] <= 60


def test_ring_and_journal_have_the_form_of_the_others(tmp_path: Path) -> None:
    assert len(results_of("ring", None, tmp_path)) == 9
    found = results_of("journal", None, tmp_path)
    assert {"durable_1", "durable_60", "durable_500", "durable_4000", "encode", "decode", "read", "scan"} == set(found)


def test_compile_counts_the_kernels_of_an_empty_cache(tmp_path: Path) -> None:
    found = results_of("compile", None, tmp_path)
    assert ["empty_cache", "warm_start"] == list(found)
    assert found["empty_cache"]["kernels"] >= 1
    assert found["warm_start"]["limit"]["value"] == 5


def test_a_flow_with_other_results_fails_the_bench(
    flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "w1.bin"
    wrong.write_bytes(flow.read_bytes())
    expected = json.loads(flow.with_suffix(".json").read_text())
    for point in expected["checkpoints"].values():
        point["trades"] += 1
    wrong.with_suffix(".json").write_text(json.dumps(expected))
    config = config_for(wrong, json=str(tmp_path / "out.json"))
    assert benches.run(["matcher", "engine"], config, SMOKE, tmp_path) == 1
    said = capsys.readouterr().err
    assert "matcher:" in said
    assert "engine:" in said
    assert "trades" in said
    assert json.loads((tmp_path / "out.json").read_text())["results"] == []


def test_json_on_stdout_is_alone_there_and_the_page_is_written(
    flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert benches.run(["matcher"], config_for(flow, json="-", html=str(page)), SMOKE, tmp_path) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert {"machine", "commit", "results"} == set(document)
    assert {"cpu", "cores", "memory_bytes", "system", "python", "libraries", "load_1min"} == set(document["machine"])
    assert "w1" in err
    text = page.read_text()
    assert "<td" in text
    assert expected_hash(flow) in text


def test_an_unknown_bench_and_a_missing_flow_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"bench swap: not known .* matcher"):
        benches.run(["swap"], config_for(None), SMOKE, tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        benches.run(["matcher"], config_for(tmp_path / "none.bin"), SMOKE, tmp_path)


def test_a_flow_of_accounts_is_refused_by_the_matcher_bench(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = shared_data / "data/xflow2/tight.bin.gz"
    assert benches.run(["matcher"], config_for(flow), SMOKE, tmp_path) == 1
    assert "takes XFLOW001" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(8_250_000, "1/s", "8.25 M/s"), (540, "ns", "540 ns"), (191_000, "ns", "191 us"), (3.14159, "s", "3.14 s")],
)
def test_numbers_are_shown_with_their_unit(value: float, unit: str, text: str) -> None:
    assert text == output._number(value, unit)
