"""Exchanges of fake processes under a real supervisor, and what they must leave behind: nothing."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cambist.home import Home
from cambist.launch import Launched, launch


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.progressed: list[tuple[str, int, int]] = []
        self.notes: list[str] = []

    def phase(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, label: str, done: int, total: int) -> None:
        self.progressed.append((label, done, total))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def ready(self, summary: dict[str, Any]) -> None:
        self.notes.append(f"ready in epoch {summary['epoch']}")

    def failed(self, reason: str) -> None:
        self.notes.append(reason)

    def line(self, text: str) -> None:
        self.notes.append(text)


def fake_command(home: Home) -> list[str]:
    return [sys.executable, "-m", "tests.cambist.exchange", "--home", str(home.path)]


def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Wait for something true and give it."""
    end_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "it did not come true in time"
        time.sleep(0.01)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    home.make()
    yield home
    assert not home.shared.exists(), "shared memory is left"


@pytest.fixture
def start(home: Home) -> Iterator[Callable[..., Launched]]:
    """Start the fake exchange of ``home``; whatever still runs at the end is stopped."""
    running: list[Launched] = []

    def begin(reporter: Heard | None = None) -> Launched:
        launched = launch(fake_command(home), home.log / "supervisor.log", reporter or Heard(), detach=False)
        running.append(launched)
        return launched

    yield begin
    for launched in running:
        launched.stop()


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Home of one fake exchange for tests that leave it running and ready."""
    home = Home(tmp_path_factory.mktemp("exchange"))
    launched = launch(fake_command(home), home.log / "supervisor.log", Heard(), detach=False)
    yield home
    assert launched.stop() == 0
    assert not home.shared.exists(), "shared memory is left"
