"""Recordings and generated histories through the live processes: every result, in every topology, and the journal that they wrote."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cambist.replay.collect import Collector
from cambist.replay.plan import Plan, load
from tests.flows import flow
from tests.flows.xflow2_gen import generate
from tests.live.support import WAYS, Way, cambist, cambist_here, drive, settings_file
from tests.naive.xflow import write_xflow2

AAPL = "data/l3_nasdaq_aapl_2012-06-21"
BITSTAMP = "data/l3_bitstamp_btcusd_2015-05-01"
COINBASE = "data/l3_coinbase_btcusd_snapshot_2026-08-07"
RESULTS = ("state_hash", "trades", "volume", "books", "balances", "balance_hash", "prevented")
LONG_MESSAGES = 20_000


def history(folder: Path, profile: str, seed: int, n: int) -> Path:
    """A generated whole history beside its expected results."""
    made = generate(profile, seed, n)
    file = folder / f"{profile}-{seed}.bin"
    write_xflow2(file, made.file)
    file.with_suffix(".json").write_text(json.dumps(made.expected))
    return file


def one_flow(folder: Path, monkeypatch: pytest.MonkeyPatch, workload: str, n: int, seed: int) -> Path:
    """A generated history of one book beside its expected results."""
    monkeypatch.setattr("sys.argv", ["flow", str(folder), "--n", str(n), "--seed", str(seed), "--only", workload])
    flow.main()
    return folder / f"{workload}.bin"


def assert_all_expected(report: dict[str, Any]) -> None:
    assert ("all results", []) == (report["expected"], report["differences"])


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for key in RESULTS:
        assert one[key] == other[key], key


def replay_of_journal(first: Collector, report: dict[str, Any], home: Path, way: Way) -> None:
    """The journal of ``home`` once more through live processes: seq and time stay, and everything comes out again."""
    plan = load(home)
    assert "verbatim" == plan.clock
    again, collector = drive(plan, home.with_name(home.name + "-again"), way)
    assert [] == again["differences"]
    assert_same(report, again)
    assert report["hashes"] == again["hashes"]
    # Instrument, price and lots: a journal has the exchange's own order ids.
    assert first.fills()[:, [1, 4, 5]].tolist() == collector.fills()[:, [1, 4, 5]].tolist()
    kept = load(home.with_name(home.name + "-again")).commands
    assert plan.commands.tobytes() == kept.tobytes(), "the journal's own slots are not what was replayed"


def in_every_way(file: Path, tmp_path: Path, ways: tuple[Way, ...], journal_way: Way) -> None:
    """All results of a history in each way, the same state everywhere, and again from a journal."""
    reports = []
    for number, way in enumerate(ways):
        report, collector = drive(load(file), tmp_path / f"home-{number}", way)
        assert_all_expected(report)
        reports.append(report)
        assert_same(reports[0], report)
        for structure in ("verdicts", "outcomes", "events"):
            assert reports[0]["hashes"][structure] == report["hashes"][structure]
    replay_of_journal(collector, reports[-1], tmp_path / f"home-{len(ways) - 1}", journal_way)


# ------------------------------------------------------------------------------------------------- a sample of all


def test_a_history_is_the_same_split_fused_jittered_and_from_its_own_journal(tmp_path: Path) -> None:
    file = history(tmp_path, "tight", 21, 4_000)
    in_every_way(file, tmp_path, (Way(), Way("fused"), Way(shards=3, jitter=4)), Way())


@pytest.mark.parametrize(
    ("profile", "way"), [("admin", Way(shards=3)), ("mixed", Way(jitter=5)), ("stp", Way("fused", jitter=6))]
)
def test_a_history_of_every_profile_gives_all_results(tmp_path: Path, profile: str, way: Way) -> None:
    report, _ = drive(load(history(tmp_path, profile, 22, 3_000)), tmp_path / "home", way)
    assert_all_expected(report)


@pytest.mark.parametrize(("name", "way"), [("tight", Way(shards=3)), ("stp", Way("fused"))])
def test_a_shared_history_gives_all_results(shared_data: Path, tmp_path: Path, name: str, way: Way) -> None:
    report, _ = drive(load(shared_data / f"data/xflow2/{name}.bin.gz"), tmp_path / "home", way)
    assert_all_expected(report)


def test_aapl_gives_all_recorded_fills(shared_data: Path, tmp_path: Path) -> None:
    report, _ = drive(load(shared_data / AAPL), tmp_path / "home", Way())
    assert [] == report["differences"]
    assert (4_067, 4_067) == tuple(report["truth"][key] for key in ("fills_expected", "fills_equal"))


def test_one_book_gives_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, _ = drive(load(one_flow(tmp_path, monkeypatch, "w2", 20_000, 3)), tmp_path / "home", Way(jitter=12))
    assert (f"checkpoint at {report['messages']} messages", []) == (report["expected"], report["differences"])


# ---------------------------------------------------------------------------------- the command line, verify, damage


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of a replay on the command line, limited to a checkpoint of the history."""
    folder = tmp_path_factory.mktemp("kept")
    file = history(folder, "mixed", 23, 5_000)
    done = cambist(
        "replay",
        file,
        "--limit",
        "1500",
        "--home",
        folder / "home",
        "--shards",
        "2",
        "--json",
        "--fills",
        folder / "fills.csv",
    )
    assert 0 == done.status, done.err
    (folder / "report.json").write_text(done.out)
    tables = json.loads((folder / "home" / "limits.json").read_text())
    settings_file(folder / "home", {"tables": tables})
    return folder


def test_a_limit_gives_the_checkpoint_at_it(kept: Path) -> None:
    report = json.loads((kept / "report.json").read_text())
    assert (1_500, "checkpoint at 1500 messages", []) == (
        report["messages"],
        report["expected"].split(" and")[0],
        report["differences"],
    )
    assert report["trades"] == len((kept / "fills.csv").read_text().splitlines()) - 1


def test_verify_rebuilds_the_state_of_a_kept_home(kept: Path) -> None:
    done = cambist_here("verify", "--home", kept / "home", "--json")
    assert (0, True) == (done.status, done.json["ok"])
    assert json.loads((kept / "report.json").read_text())["state_hash"] == done.json["state_hash"]


def test_a_second_replay_into_a_home_is_refused(kept: Path) -> None:
    done = cambist_here("replay", kept / "mixed-23.bin", "--home", kept / "home", "--json")
    assert (1, "") == (done.status, done.out)
    assert "has a journal already" in done.err


@pytest.mark.parametrize("damage", ["bit flipped", "cut off"])
def test_verify_and_up_say_where_a_journal_is_damaged(kept: Path, tmp_path: Path, damage: str) -> None:
    home = tmp_path / "home"
    shutil.copytree(kept / "home", home)
    segment = home / "journal" / "00000001.seg"
    with segment.open("r+b") as file:
        if damage == "cut off":
            file.truncate(50_000)
        else:
            file.seek(4096 + 300)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 16]))
    verified = cambist_here("verify", "--home", home, "--json")
    assert (1, False) == (verified.status, verified.json["ok"])
    started = cambist("up", "--detach", "--home", home)
    assert 1 == started.status
    for said in (verified.err, started.err):
        assert str(segment) in said
        assert "offset" in said
        assert "restore" in said


def test_a_file_that_is_no_recording_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("buy low\n")
    done = cambist("replay", file, "--json")
    assert (2, "") == (done.status, done.out)
    assert str(file) in done.err


# ----------------------------------------------------------------------------------------------------- the long ones


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [31, 32, 33])
@pytest.mark.parametrize("profile", ["tight", "stp", "rich", "admin", "mixed"])
def test_histories_of_every_profile_in_every_way(tmp_path: Path, profile: str, seed: int) -> None:
    file = history(tmp_path, profile, seed, LONG_MESSAGES)
    in_every_way(file, tmp_path, WAYS, WAYS[seed % len(WAYS)])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["tight", "stp"])
def test_shared_histories_in_every_way(shared_data: Path, tmp_path: Path, name: str) -> None:
    in_every_way(shared_data / f"data/xflow2/{name}.bin.gz", tmp_path, WAYS, Way(shards=3))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workload", ["w1", "w2", "w3"])
def test_one_book_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workload: str) -> None:
    plan: Plan = load(one_flow(tmp_path, monkeypatch, workload, 100_000, 4))
    for number, way in enumerate(WAYS):
        report, _ = drive(plan, tmp_path / f"home-{number}", way)
        assert [] == report["differences"]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("recording", [AAPL, BITSTAMP, COINBASE])
def test_recordings_in_every_way(shared_data: Path, tmp_path: Path, recording: str) -> None:
    hashes = set()
    for number, way in enumerate(WAYS):
        report, _ = drive(load(shared_data / recording), tmp_path / f"home-{number}", way)
        assert [] == report["differences"]
        hashes.add(report["state_hash"])
    assert 1 == len(hashes)
