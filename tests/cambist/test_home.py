import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cambist.config import Config, ControlSection
from cambist.home import Holder, Home, HomeBusyError, HomeError, HomeLock, is_held, stop, write_json
from cambist.launch import environment
from cambist.procfs import start_ticks

HOLD = """
import sys, time
from pathlib import Path
from cambist.home import Home, HomeLock
with HomeLock(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def holding_process(home: Home) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(home.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_second_holder_is_refused_and_told_who_holds_the_home(home: Home) -> None:
    with holding_process(home) as process:
        with (
            pytest.raises(
                HomeBusyError, match=rf"process {process.pid} \(`-c .*`, since 20.* UTC\) holds this home"
            ) as refused,
            HomeLock(home),
        ):
            pass
        assert refused.value.pid == process.pid
        assert is_held(home)
        process.kill()


def test_lock_of_a_killed_holder_is_free_and_its_file_is_stale(home: Home) -> None:
    with holding_process(home) as process:
        process.kill()
    assert home.pid_file.exists()
    assert home.holder() is None
    with HomeLock(home):
        holder = home.holder()
        assert holder is not None
        assert os.getpid() == holder.pid
    assert not home.pid_file.exists()


def test_holder_with_the_number_of_another_process_is_not_alive(home: Home) -> None:
    ticks = start_ticks(os.getpid())
    write_json(home.pid_file, Holder(os.getpid(), ticks + 1, time.time_ns(), home.instance, "x"))
    assert home.holder() is None


def test_stop_where_nothing_runs_removes_what_a_crash_left(home: Home) -> None:
    home.shared.mkdir()
    (home.shared / "board").write_bytes(b"x")
    assert stop(home, 1.0, kill=False)
    assert not home.shared.exists()


def test_stop_of_a_home_that_does_not_exist_makes_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "nowhere")
    assert stop(home, 1.0, kill=False)
    assert not home.path.exists()


def test_stop_gives_up_in_time_on_a_process_that_ignores_it_and_kill_ends_it(home: Home) -> None:
    with holding_process(home) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert not stop(home, 0.2, kill=False)
        assert stop(home, 5.0, kill=True)
        assert -signal.SIGKILL == process.wait()


def test_epoch_is_kept_and_a_damaged_file_is_named(home: Home) -> None:
    assert home.last_epoch() == 0
    home.store_epoch(41)
    assert home.last_epoch() == 41
    home.epoch_file.write_text("many")
    with pytest.raises(HomeError, match="run/epoch: not a number"):
        home.last_epoch()


def test_socket_path_that_cannot_be_bound_is_refused_by_key(home: Home) -> None:
    config = Config(control=ControlSection(socket="/" + "s" * 107))
    with pytest.raises(HomeError, match=r"^control\.socket = .* at most 107 bytes, this one 108"):
        home.socket(config)


def test_write_that_a_full_disk_cuts_short_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "table.json"
    write_json(file, {"a": 1})
    whole = file.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    with pytest.raises(OSError, match="No space"):
        write_json(file, {"b": 2})
    assert [file] == list(tmp_path.iterdir())
    assert whole == file.read_bytes()


def test_output_that_the_disk_does_not_take_is_lost_and_nobody_ends(tmp_path: Path) -> None:
    code = """
import os, sys
from cambist.output import forgive_output
forgive_output()
print("one", flush=True)
sys.stderr.write("two\\n")
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
os.dup2(1, 2)
print("three", flush=True)
sys.stderr.write("four\\n")
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert (7, "one\n", "two\n") == (done.returncode, done.stdout, done.stderr)
