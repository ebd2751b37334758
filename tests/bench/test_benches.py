import itertools
import json
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cambist import benches
from cambist.benches import flows, live, output, pipeline, rows, tails, variants
from cambist.benches.kernels import PING_WORDS, open_loop
from cambist.commands import UsageError
from cambist.config import BenchSection, Config
from persistence.fused import FusedEngine
from protocol import board as b
from protocol import build
from protocol import enums as e
from protocol.instance import Engine
from protocol.records import COMMAND_DTYPE, EXT_IDS_SLOT, OUTCOME_DTYPE, command_slots
from ringbuf import private_board, private_ring, publish, published
from ringbuf.atomics import store_release

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
    overload_s=1.5,
    postgres_rates=(1_000,),
    postgres_s=0.5,
    postgres_flood=2_000,
    postgres_orders=20_000,
    postgres_pages=5,
    recovery_messages=MESSAGES,
    recovery_rounds=3,
    restart_messages=MESSAGES,
    recovery_orders=300,
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


def test_engine_with_client_order_ids_gives_the_same_trades_from_more_slots(flow: Path, tmp_path: Path) -> None:
    found = results_of("engine", flow, tmp_path)
    assert ["w1", "w1_client_ids"] == list(found)
    plain, named = found.values()
    assert plain["compared"] == named["compared"]
    assert plain["messages"] == named["messages"]
    assert plain["slots"] < named["slots"]
    assert plain["result_hash"] != named["result_hash"], "the ids are in the state"


def test_pipeline_ends_in_one_state_in_every_topology(flow: Path, tmp_path: Path) -> None:
    found = results_of("pipeline", flow, tmp_path)
    assert ["w1_split", "w1_fused"] == list(found)
    assert {"journal", "matcher-0", "risk", "sequencer", "client"} == set(found["w1_split"]["cpu_ns_per_message"])
    assert 1 == len({row["result_hash"] for row in found.values()})
    assert all("money conserved; checkpoint at" in row["compared"] for row in found.values())


def test_pipeline_measures_refusals_short_funds_books_batches_and_durability(
    flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One exchange for each kind of case."""
    kinds = ["w1_refused_split", "w1_short_fused", "w1x3_split_3", "w1_split_batch_1", "w1_fused_async"]
    every = pipeline._cases
    monkeypatch.setattr(pipeline, "_cases", lambda *task: [case for case in every(*task) if case.name in kinds])
    sizes = SMOKE._replace(pipeline_variants=True)
    document, failures = benches.measure(["pipeline"], config_for(flow), sizes, tmp_path)
    assert [] == failures
    found = {row["case"]: row for row in document["results"]}
    assert kinds == list(found)
    refused = found["w1_refused_split"]
    assert refused["refused"] * 10 == pytest.approx(refused["messages"], rel=0.6)
    assert found["w1_short_fused"]["refused"] > refused["refused"]
    assert found["w1_split_batch_1"]["refused"] == 0
    assert found["w1_split_batch_1"]["result_hash"] == found["w1_fused_async"]["result_hash"]


def test_a_live_state_that_differs_from_the_fused_one_fails_the_bench(
    flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = live.Client.hashes
    monkeypatch.setattr(live.Client, "hashes", lambda client: right(client) | {"balances": 7})
    document, failures = benches.measure(["pipeline"], config_for(flow), SMOKE, tmp_path)
    assert ([], ["pipeline: w1_split: live and fused differ in balances"]) == (document["results"], failures)


def test_latency_has_percentiles_with_and_without_the_journal(flow: Path, tmp_path: Path) -> None:
    found = results_of("latency", flow, tmp_path)
    closed = ("settled", "durable", "paused_settled", "paused_durable")
    offered = [f"open_{spacing}_{rate}" for spacing in ("even", "poisson") for rate in SMOKE.open_rates]
    machine = [f"machine_{name}" for name in ("ping_pong", "futex_wake", "fdatasync", "fdatasync_paused")]
    for topology in ("split", "fused"):
        assert {f"w1_{topology}_{kind}" for kind in closed} <= set(found)
        # A machine that is busy may not keep up with any but the first rate.
        assert {f"w1_{topology}_{offered[0]}", f"w1_{topology}_{offered[2]}"} <= set(found)
    assert set(found) <= {f"w1_{way}_{kind}" for way in ("split", "fused") for kind in (*closed, *offered)} | {*machine}
    assert machine == list(found)[-4:]
    for row in found.values():
        times = row["percentiles_ns"]
        assert ["50", "99", "99.9", "99.99", "100"] == list(times)
        assert sorted(times.values()) == list(times.values())
        if "offered_per_s" in row:
            assert row["settled_percentiles_ns"]["50"] <= times["50"]
            assert 0 < row["achieved_per_s"] <= 1.2 * row["offered_per_s"]


def test_open_loop_counts_a_stall_against_every_order_that_it_delayed() -> None:
    """An engine that answers nothing until half of the orders are late: times count from when each was to be sent."""
    n, gap_ns, stall_ns = 100, 1_000_000, 60_000_000
    board = private_board(b.LINES)
    ingress, outcomes = private_ring(COMMAND_DTYPE, 128), private_ring(OUTCOME_DTYPE, 128)
    slots = command_slots(n)
    slots["seq"] = np.arange(1, n + 1)
    outcomes.slots["source"], outcomes.slots["flags"] = e.SOURCE_REPLAY, e.OUTCOME_LAST
    outcomes.slots["source_seq"] = np.arange(1, 129)
    settled_ns, durable_ns, naps = (np.zeros(count, dtype=np.int64) for count in (n, n, PING_WORDS))
    at_ns = np.arange(n, dtype=np.int64) * gap_ns

    def engine() -> None:
        time.sleep(stall_ns / 1e9)
        done = 0
        while done < n:
            if (sent := int(published(ingress))) > done:
                publish(outcomes, sent)
                store_release(board, b.DURABLE_SEQ, sent)
                done = sent
            time.sleep(0.0002)

    # Compiled before the clock runs.
    warm = (private_ring(COMMAND_DTYPE, 2), private_ring(OUTCOME_DTYPE, 2))
    assert 0 == open_loop(*warm, 0, board, naps, slots[:0], at_ns, settled_ns, durable_ns)
    thread = threading.Thread(target=engine)
    thread.start()
    assert n == open_loop(ingress, outcomes, 0, board, naps, slots, at_ns, settled_ns, durable_ns)
    thread.join()
    assert (settled_ns >= 0).all()
    assert (durable_ns >= settled_ns).all()
    # The first order waited for nearly all of the stall, each later one that was due in it for a gap less.
    assert settled_ns[0] > 0.8 * stall_ns
    assert (np.diff(settled_ns[:40]) < 0).all()
    assert (settled_ns[:40] > stall_ns - at_ns[:40] - 0.2 * stall_ns).all()


def test_variants_are_histories_of_their_own(flow: Path) -> None:
    plan = flows.plan_of(flow)
    for made in (
        variants.with_client_ids(plan),
        variants.with_refused(plan),
        variants.short_of_funds(plan, 0.5),
        variants.over_instruments(plan, 3),
    ):
        slots = np.concatenate([made.setup, made.commands])
        assert np.array_equal(slots["seq"], np.arange(1, len(slots) + 1))
        new = made.commands[np.isin(made.commands["type"], build.NAMING_TYPES) & build.heads(made.commands)]
        assert np.array_equal(new["order_id"], build.order_id_of(e.SOURCE_REPLAY, 0) + new["source_seq"])
        assert set(made.order_ids.tolist()) <= set(new["order_id"].tolist())
        named = made.commands[made.commands["type"] == e.CANCEL]
        assert np.isin(named["order_id"], new["order_id"]).all()


def test_client_order_ids_of_a_variant_are_unique_and_refused_orders_are_a_tenth(flow: Path) -> None:
    plan = flows.plan_of(flow)
    named = variants.with_client_ids(plan).commands
    ids = named.view(EXT_IDS_SLOT.slot_dtype)["client_order_id"][named["type"] == e.EXT_IDS]
    assert len(ids) == len(set(ids.tolist())) == len(plan.order_ids)
    refused = variants.with_refused(plan, 10)
    assert len(refused.commands) // 10 == int((refused.commands["account"] == plan.accounts + 1).sum())
    assert set(variants.over_instruments(plan, 3).commands["instrument"].tolist()) == {1, 2, 3}


def test_parts_of_a_flow_end_between_groups(flow: Path) -> None:
    plan = variants.with_client_ids(flows.plan_of(flow))
    parts = flows.parts(plan, 7, 5)
    assert (7, len(plan.commands)) == (parts[0].start, parts[-1].stop)
    for part, following in itertools.pairwise(parts):
        assert part.stop == following.start
        assert not plan.commands["flags"][part.stop - 1] & e.FLAG_MORE


def test_overload_refuses_orders_and_no_cancel(tmp_path_factory: pytest.TempPathFactory) -> None:
    # The path of a socket is short: not in a folder with the name of the test.
    found = results_of("overload", None, tmp_path_factory.mktemp("o"))
    assert ["cancel_half_load", "cancel_offered_x20"] == list(found)
    half, over = found.values()
    assert half["limit"] is None
    assert half["median"] == over["limit"]["value"]
    assert half["cancels"] == half["orders_accepted"] > 0
    assert over["cancels"] == over["orders_accepted"] > 0
    assert over["orders_refused"] > over["orders_accepted"]
    assert 40 * half["offered_per_s"] < over["offered_per_s"]


def test_postgres_follows_catches_up_and_gives_pages_by_index(
    flow: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = results_of("postgres", flow, tmp_path)
    assert ["follow", "flood", "copy"] == list(found)[:3]
    assert 1 < found["follow"]["rows_per_order"] < 50
    assert found["flood"]["limit"]["value"] > 0
    pages = {case: one for case, one in found.items() if case.startswith("history_")}
    assert {20_000} == {one["orders"] for one in pages.values()}
    assert len(pages) == 8
    assert "Index" in capfd.readouterr().err


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


def test_the_page_draws_the_curve_of_each_open_loop() -> None:
    times = {"50": 90_000, "99": 200_000, "99.9": 3_000_000, "99.99": 8_000_000, "100": 9_000_000}
    made = [
        rows.row("latency", f"w1_split_open_even_{rate}", "p50_ns", "ns", [1], [1], None, times,
                 offered_per_s=rate, achieved_per_s=rate * 0.9)
        for rate in (1_000, 50_000)
    ]  # fmt: skip
    machine = {"cpu": "x", "cores": 2, "load_1min": 0.1}
    text = output.page({"machine": machine, "commit": None, "results": made})
    picture = text[text.index("<svg") : text.index("</svg>") + 6]
    lines = ET.fromstring(picture).findall("polyline")
    assert 4 == len(lines)
    heights = [[float(point.split(",")[1]) for point in line.get("points", "").split()] for line in lines]
    assert all(2 == len(points) for points in heights)
    assert heights == sorted(heights, reverse=True), "a higher percentile is drawn higher"
    assert "1 k/s offered 900 /s achieved" in text
    assert "<svg" not in output.page({"machine": machine, "commit": None, "results": []})


def test_a_machine_without_a_compiler_is_said_to_have_no_limit(
    flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    for name, given in (("matcher", flow), ("ring", None)):
        found = results_of(name, given, tmp_path)
        assert all((None, rows.NO_COMPILER) == (row["limit"], row["note"]) for row in found.values())


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(8_250_000, "1/s", "8.25 M/s"), (540, "ns", "540 ns"), (191_000, "ns", "191 us"), (3.14159, "s", "3.14 s")],
)
def test_numbers_are_shown_with_their_unit(value: float, unit: str, text: str) -> None:
    assert text == output._number(value, unit)


def test_recovery_of_a_tail_and_of_a_crowd_comes_to_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: Path
) -> None:
    monkeypatch.setattr(flows, "workload", lambda *_, **__: flow)
    found = results_of("recovery", None, tmp_path)
    tail, rounds, load = found.values()
    assert tail["commands"] > MESSAGES
    assert rounds["commands"] > 3 * MESSAGES
    assert {"check", "load", "replay", "segment"} == set(tail["seconds"]) == set(rounds["seconds"])
    assert (300, 300) == (load["orders"], load["accounts"])
    assert load["bytes"] > 300 * 100


def test_rounds_of_a_flow_are_one_history_in_which_each_trades_as_the_first(flow: Path) -> None:
    plan = flows.plan_of(flow)
    parts = [part.copy() for part in tails.rounds(plan, 3)]
    slots = np.concatenate(parts)
    first = flows.sequenced(plan)
    assert np.array_equal(np.arange(1, len(slots) + 1), slots["seq"])
    assert (np.diff(slots["ts_ns"]) >= 0).all()
    heads = build.heads(slots)
    assert np.array_equal(slots["seq"][heads], slots["source_seq"][heads])
    new = heads & np.isin(slots["type"], build.NAMING_TYPES)
    assert np.array_equal(slots["order_id"][new], build.order_id_of(e.SOURCE_REPLAY, 0) + slots["source_seq"][new])
    engine = FusedEngine(Engine(limits=plan.limits))
    outcomes: list[np.ndarray] = []
    engine.feed(slots, lambda rows: outcomes.append(rows.copy()))
    made = np.concatenate(outcomes)
    starts = [0, len(first), len(first) + (len(slots) - len(first)) // 2, len(slots)]
    trades, refusals = (
        np.histogram(made["seq"][made["kind"] == kind], [1 + seq for seq in starts])[0].tolist()
        for kind in (e.OUT_TRADE, e.OUT_REJECTED)
    )
    assert trades[0] > 0
    assert [trades[0]] * 3 == trades
    assert [refusals[0]] * 3 == refusals


def test_a_restart_is_measured_from_the_kill_to_a_clients_next_durable_outcome(
    flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "workload", lambda *_, **__: flow)
    found = results_of("restart", None, tmp_path)
    assert ["engine", "everything"] == list(found)
    assert all(one["tail"] > MESSAGES for one in found.values())
    assert {"check", "load", "replay", "segment"} == set(found["engine"]["recovery_s"])


def test_a_snapshot_beside_a_live_exchange_is_measured(flow: Path, tmp_path: Path) -> None:
    found = results_of("snapshot", flow, tmp_path)
    live_case, write_case = found.values()
    assert live_case["ratio"] > 0
    assert live_case["result_hash"] == write_case["result_hash"]
    assert write_case["bytes"] > 0


def test_access_asks_for_every_kind_of_principal(tmp_path: Path) -> None:
    found = results_of("access", None, tmp_path)
    rates = ["rate request", "rate order", "rate give back"]
    assert ["hmac", "session", "ed25519", "rsa", *rates] == list(found)
    assert all(one["median"] > 0 for one in found.values())
