"""A real supervisor, fork server and real processes; only what the processes do is faked."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from cambist import cli, procfs, views
from cambist.boardview import BoardView, RingView
from cambist.commands import status
from cambist.home import Home
from cambist.launch import Launched, LaunchError, environment, launch
from protocol import board as words
from protocol import enums, readers
from tests.cambist.conftest import Heard, fake_command, until
from tests.cambist.fakes import recovery

Start = Callable[..., Launched]
ENGINE = ("journal", "matcher-0", "risk", "sequencer")
OTHERS = ("replica", "control")


def table(home: Home) -> dict[str, Any]:
    return dict(json.loads(home.table_file.read_bytes()))


def pids(home: Home) -> dict[str, int]:
    return {row["name"]: row["pid"] for row in table(home)["processes"]}


def settled(home: Home, epoch: int, changed: dict[str, int]) -> dict[str, int] | None:
    """Pids when ``epoch`` runs, all is ready, and none of ``changed`` is as it was."""
    now = table(home)
    rows = {row["name"]: row for row in now["processes"]}
    if now["epoch"] != epoch or now["phase"] != "running" or not all(row["ready"] for row in rows.values()):
        return None
    found = {name: row["pid"] for name, row in rows.items()}
    return None if any(found[name] == pid for name, pid in changed.items()) else found


def gone(pid: int) -> bool:
    return procfs.start_ticks(pid) == 0


def test_start_serves_and_stop_leaves_nothing(home: Home, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKES_COMPILE", "1")
    heard = Heard()
    launched = start(heard)
    assert sorted((*ENGINE, *OTHERS)) == sorted(pids(home))
    assert any("never_cached" in label for label, _, _ in heard.progressed), "compiling is reported"
    assert any(note.startswith("compiled ") for note in heard.notes)
    everybody = [*pids(home).values(), table(home)["forkserver"]]
    with BoardView(home.shared / "board") as view:
        state = (view[words.ENGINE_STATE], view[words.EPOCH], view[words.RECOVERED_SEQ])
        assert (words.ENGINE_RUNNING, 1, recovery.LAST_SEQ) == state
    with RingView(home.shared / "epoch-1" / "command") as command:
        assert recovery.LAST_SEQ == command.published
        for reader in (readers.COMMAND_RISK, readers.COMMAND_JOURNAL, readers.COMMAND_FIRST_MATCHER):
            assert recovery.LAST_SEQ == command.cursor(reader)
    with RingView(home.shared / f"ingress-{enums.SOURCE_CONTROL}") as ingress:
        assert recovery.SOURCES["2"] == ingress.published

    assert launched.stop() == 0
    assert all(gone(pid) for pid in everybody)
    assert not home.shared.exists()
    assert ["epoch", "lock"] == sorted(path.name for path in home.run.iterdir())
    for name in (*ENGINE, *OTHERS):
        assert (home.log / f"{name}.log").read_text().endswith("stopped in order\n"), name


def test_death_in_the_engine_ends_its_epoch_and_gateways_stay(exchange: Home) -> None:
    before, epoch = pids(exchange), table(exchange)["epoch"]
    engine = {name: before[name] for name in ENGINE}
    os.kill(before["risk"], signal.SIGKILL)
    after = until(lambda: settled(exchange, epoch + 1, engine))
    assert all(gone(pid) for pid in engine.values())
    assert {name: before[name] for name in OTHERS} == {name: after[name] for name in OTHERS}
    assert [exchange.shared / f"epoch-{epoch + 1}"] == list(exchange.shared.glob("epoch-*"))
    with BoardView(exchange.shared / "board") as view:
        assert (words.ENGINE_RUNNING, epoch + 1) == (view[words.ENGINE_STATE], view[words.EPOCH])
    assert epoch + 1 == exchange.last_epoch()


@pytest.mark.parametrize("name", OTHERS)
def test_death_of_a_gateway_or_the_replica_restarts_it_alone(exchange: Home, name: str) -> None:
    before, epoch = pids(exchange), table(exchange)["epoch"]
    os.kill(before[name], signal.SIGKILL)
    after = until(lambda: settled(exchange, epoch, {name: before[name]}))
    assert {**before, name: after[name]} == after


def test_death_of_the_fork_server_restarts_everything(exchange: Home) -> None:
    before, epoch = pids(exchange), table(exchange)["epoch"]
    os.kill(table(exchange)["forkserver"], signal.SIGKILL)
    until(lambda: settled(exchange, epoch + 1, before))
    assert all(gone(pid) for pid in before.values())


def test_idle_supervisor_uses_next_to_no_processor(exchange: Home) -> None:
    pid = table(exchange)["pid"]
    until(lambda: settled(exchange, table(exchange)["epoch"], {}))
    time.sleep(0.1)
    before_ns = procfs.cpu_ns(pid)
    time.sleep(2.0)
    # Some 5 ms on a quiet machine; polling would take all of it.
    assert procfs.cpu_ns(pid) - before_ns < 0.05 * 2_000_000_000


def test_status_shows_processes_cursors_and_instruments(exchange: Home, capsys: pytest.CaptureFixture[str]) -> None:
    state = views.status(exchange, exchange.run / "control.sock", 0.05)
    assert cli.main(["status", "--home", str(exchange.path), "--sample", "10"]) == 0
    assert "engine running" in capsys.readouterr().out
    assert [{"symbol": "BTCUSDT", "state": "open"}] == state["instruments"]
    assert (True, "running") == (state["running"], state["engine"])
    assert ["supervisor", "forkserver", *ENGINE, *OTHERS] == [row["name"] for row in state["processes"]]
    assert all(row["alive"] and row["memory_bytes"] > 0 for row in state["processes"])
    assert all(isinstance(row["lag"], int) for row in state["processes"])
    assert {"sequenced", "durable", "settled", "replicated"} <= state["seqs"].keys()
    assert {} == state["client_ids"], "no risk has ever run here"


@pytest.mark.parametrize(
    ("ids", "line"),
    [
        ((0.0, 0.0, 0), "client order ids: free at once when an order ends"),
        ((10.0, 10.0, 0), "client order ids: taken for 10 s after the end, the table covers 10 s"),
        ((10.0, 2.71828, 5), "client order ids: taken for 10 s after the end, the table covers 2.718 s, 5 left early"),
    ],
)
def test_status_says_how_far_the_table_of_client_order_ids_reaches(ids: tuple[float, float, int], line: str) -> None:
    assert line == status._client_ids(dict(zip(("ttl_s", "covered_s", "left_early"), ids, strict=True)))


@pytest.mark.parametrize(
    ("part", "alarms"),
    [
        ({}, {}),
        ({"postgres": {"writer": "up", "lag": 9_000, "lag_ms": 1_900}}, {}),
        ({"postgres": {"writer": "up", "lag": 9_000, "lag_ms": 6_000}}, {"postgres_behind": 9_000}),
        ({"postgres": {"writer": "failed", "lag": 3, "lag_ms": 0}}, {"postgres_behind": 3}),
        ({"postgres": {"writer": "refused", "lag": 0, "lag_ms": 0}}, {}),
        ({"audit": "damaged"}, {"audit_damaged": 1}),
        ({"access": {"behind_ms": 4_999, "groups": {"different": 0}}}, {}),
        ({"access": {"behind_ms": 5_000, "groups": {"different": 2}}}, {"access_behind": 5_000, "groups_differ": 2}),
        ({"listeners": [{"certificate_problem": "", "problem": ""}]}, {}),
        (
            {"listeners": [{"certificate_problem": "old", "problem": "taken"}]},
            {"tls_certificate": 1, "not_listening": 1},
        ),
    ],
)
def test_status_has_an_alarm_for_what_an_operator_has_to_look_at(
    exchange: Home, part: dict[str, Any], alarms: dict[str, int]
) -> None:
    sound = {"audit": "follows", "postgres": {}, "access": {}, "listeners": []}
    with BoardView(exchange.shared / "board") as view:
        assert alarms == views._alarms(view, sound | part)


def test_second_up_is_refused_and_names_the_holder(exchange: Home) -> None:
    with pytest.raises(LaunchError, match=f"process {table(exchange)['pid']} \\(`.*holds this home"):
        launch(fake_command(exchange), exchange.log / "second.log", Heard(), detach=False)
    assert settled(exchange, table(exchange)["epoch"], {})


def test_ctrl_c_of_the_terminal_stops_in_order(home: Home) -> None:
    command = fake_command(home)
    with (home.log / "supervisor.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log, start_new_session=True)
    until(lambda: home.table_file.exists() and table(home)["ready"])
    everybody = [*pids(home).values(), table(home)["forkserver"]]
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(10) == 0
    assert all(gone(pid) for pid in everybody)
    assert (home.log / "control.log").read_text() == "stopped in order\n"


def test_killed_supervisor_leaves_no_orphan_and_the_next_one_cleans_up(home: Home, start: Start) -> None:
    launched = start()
    everybody = [*pids(home).values(), table(home)["forkserver"]]
    os.kill(launched.pid, signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in everybody))
    assert home.shared.exists()
    second = start()
    assert table(home)["epoch"] == 2
    assert cli.main(["down", "--home", str(home.path)]) == 0
    assert second.stop() == 0


def test_end_of_the_starter_stops_the_exchange(home: Home, start: Start) -> None:
    launched = start()
    everybody = [*pids(home).values(), launched.pid]
    os.close(launched._parent_fd)
    launched._parent_fd = -1
    until(lambda: not home.shared.exists())
    assert launched.stop() == 0
    assert all(gone(pid) for pid in everybody)


def test_recovery_begins_again_after_a_failure_and_behind_the_last_epoch_of_the_journal(
    home: Home, start: Start
) -> None:
    (home.path / "recovery-plan").write_text("1 1\n2 75\n")
    heard = Heard()
    start(heard)
    assert table(home)["epoch"] == 41
    assert any("recovery of epoch 1 ended with status 1: the plan says so" in note for note in heard.notes)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ("* 1", "recovery failed 3 times in a row: it ended with status 1: the plan says so"),
        ("* 65", "recovery failed: it ended with status 65: journal segment 00000001.seg, offset 8192: damaged"),
    ],
)
def test_recovery_that_cannot_succeed_ends_the_exchange_and_says_why(
    home: Home, plan: str, reason: str, start: Start
) -> None:
    (home.path / "recovery-plan").write_text(f"{plan}\n")
    with pytest.raises(LaunchError, match=reason):
        start()
    until(lambda: not home.shared.exists())


def test_exception_of_a_process_is_in_its_log_and_named(home: Home, start: Start) -> None:
    (home.path / f"crash-{words.LINE_REPLICA}").touch()
    with pytest.raises(LaunchError, match=r"replica ended with status 70 5 times .*RuntimeError: it was told to crash"):
        start()
    log = (home.log / "replica.log").read_text()
    assert "Traceback (most recent call last)" in log
    until(lambda: not home.shared.exists())


def test_table_that_cannot_be_written_ends_nothing_and_is_written_later(home: Home, start: Start) -> None:
    start()
    replica = pids(home)["replica"]
    home.table_file.unlink()
    home.table_file.mkdir()
    os.kill(replica, signal.SIGKILL)
    log = home.log / "supervisor.log"
    until(lambda: "processes.json: cannot be written: Is a directory; it is tried again" in log.read_text())
    home.table_file.rmdir()
    until(home.table_file.exists)
    until(lambda: pids(home)["replica"] not in (0, replica))
    assert 1 == log.read_text().count("cannot be written")


def test_epoch_that_cannot_be_kept_ends_the_exchange_and_says_why(home: Home, start: Start) -> None:
    launched = start()
    home.epoch_file.unlink()
    home.epoch_file.mkdir()
    os.kill(pids(home)["journal"], signal.SIGKILL)
    until(lambda: not home.shared.exists())
    assert 1 == launched.stop()
    assert (
        "epoch: cannot be read and written: Is a directory; start again when it can"
        in (home.log / "supervisor.log").read_text()
    )
