"""A home has one writer: real processes that want the same home, by whatever path."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cambist.home import Home, is_held
from cambist.launch import environment
from tests.cambist.test_home import holding_process

COMMANDS = (["up"], ["upgrade"], ["restore", "backup"])


def call(arguments: list[str], home: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cambist", *arguments, "--home", home]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment(), timeout=120)


@pytest.fixture
def held(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    (tmp_path / "link").symlink_to(home.path)
    return home


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda a: a[0])
def test_second_writer_is_refused_by_the_first_ones_number_command_and_start(held: Home, arguments: list[str]) -> None:
    with holding_process(held) as process:
        for path in (str(held.path), "link", "./home/../home"):
            done = call(arguments, path, held.path.parent)
            assert 1 == done.returncode
            assert f"process {process.pid} (`-c " in done.stderr
            assert " UTC) holds this home" in done.stderr
        process.kill()


def test_lock_of_a_writer_that_was_killed_holds_nobody_up(held: Home) -> None:
    with holding_process(held) as process:
        process.send_signal(signal.SIGKILL)
    assert held.pid_file.exists(), "what it left says nothing"
    assert not is_held(held)
    done = call(["upgrade"], "link", held.path.parent)
    assert (1, True) == (done.returncode, "there is nothing to upgrade" in done.stderr), done.stderr
    assert not held.pid_file.exists()


def test_number_of_a_killed_writer_that_another_process_has_now_is_not_named(held: Home) -> None:
    with holding_process(held) as first:
        first.kill()
    text = held.pid_file.read_text().replace(str(first.pid), str(os.getpid()))
    with holding_process(held) as second:
        done = call(["upgrade"], "home", held.path.parent)
        assert f"process {second.pid} " in done.stderr
        held.pid_file.write_text(text)
        done = call(["upgrade"], "home", held.path.parent)
        assert "another process holds this home" in done.stderr
        second.kill()
