"""The exchange of the tour as an operator sees it: its table of processes, its board, and a kill."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from cambist import procfs
from cambist.boardview import BoardView
from cambist.home import Home
from cambist.tour.client import TourError
from protocol import board as words

_POLL_S: Final = 0.001
_PATIENCE_S: Final = 60.0


class Killed(NamedTuple):
    """A kill, and where the exchange stood just before."""

    name: str
    pid: int
    epoch: int
    sequenced_seq: int
    durable_seq: int
    settled_seq: int
    killed_ns: int
    """CLOCK_MONOTONIC."""


class Recovered(NamedTuple):
    """The next epoch; times are ns of CLOCK_MONOTONIC."""

    epoch: int
    seq: int
    """Last command that recovery found."""
    noticed_ns: int
    running_ns: int


class Instance:
    """The running exchange of a home."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def table(self) -> dict[str, Any]:
        """The supervisor's records; TourError where nothing runs."""
        try:
            return dict(msgspec.json.decode(self.home.table_file.read_bytes()))
        except (OSError, msgspec.MsgspecError) as error:
            raise TourError(f"{self.home.path}: no exchange runs there any more ({error})") from error

    def words(self, *numbers: int) -> list[int]:
        """Words of the board, read one after another."""
        try:
            with BoardView(self.home.shared / "board") as view:
                return [view[number] for number in numbers]
        except OSError as error:
            raise TourError(f"{self.home.path}: the exchange ended: {error}") from error

    def word(self, number: int) -> int:
        """One word of the board."""
        return self.words(number)[0]

    def kill_matcher(self) -> Killed:
        """SIGKILL the first matcher, or the process in which it runs.

        The process is taken from the supervisor's records and must be a child of the fork server that these name, so
        that a number that the system has given away again is never hit.
        """
        table = self.table()
        rows = [row for row in table["processes"] if row["name"].startswith("matcher-") or row["name"] == "fused"]
        victim = rows[0]
        if procfs.parent(victim["pid"]) != table["forkserver"]:
            raise TourError(f"{victim['name']}: process {victim['pid']} is not there; is the exchange restarting?")
        epoch, durable, settled, sequenced = self.words(
            words.EPOCH, words.DURABLE_SEQ, words.SETTLED_SEQ, words.SEQUENCED_SEQ
        )
        killed_ns = time.monotonic_ns()
        os.kill(victim["pid"], signal.SIGKILL)
        return Killed(victim["name"], victim["pid"], epoch, sequenced, durable, settled, killed_ns)

    def await_recovery(self, killed: Killed) -> Recovered:
        """Wait until the next epoch runs."""
        self.await_word(words.ENGINE_STATE, lambda state: state != words.ENGINE_RUNNING, "the death is noticed")
        noticed_ns = time.monotonic_ns()
        self.await_word(words.EPOCH, lambda epoch: epoch > killed.epoch, "the next epoch begins")
        self.await_word(words.ENGINE_STATE, lambda state: state == words.ENGINE_RUNNING, "the engine runs")
        running_ns = time.monotonic_ns()
        epoch, seq = self.words(words.EPOCH, words.RECOVERED_SEQ)
        return Recovered(epoch, seq, noticed_ns, running_ns)

    def await_word(self, number: int, condition: Callable[[int], bool], what: str) -> None:
        """Wait for a word of the board; TourError where it does not come."""
        end_s = time.monotonic() + _PATIENCE_S
        while not condition(self.word(number)):
            if time.monotonic() > end_s:
                raise TourError(f"{what}: not within {_PATIENCE_S:.0f} s; see {self.home.log / 'supervisor.log'}")
            time.sleep(_POLL_S)
