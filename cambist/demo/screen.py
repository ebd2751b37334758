"""What ``cambist up --demo`` shows: one screen when it is ready, and a line each second."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cambist.commands.control import duration_text
from cambist.config import Config
from cambist.demo import counters, plan
from cambist.home import Home
from protocol import board as words

if TYPE_CHECKING:
    import numpy as np

_BOTS_SILENT_NS: Final = 3_000_000_000
_LOUD: Final = "\x1b[1;37;41m"
_PLAIN: Final = "\x1b[0m"
_STATES: Final = {
    words.ENGINE_DOWN: "down",
    words.ENGINE_RECOVERING: "recovering",
    words.ENGINE_STOPPING: "stopping",
    words.ENGINE_FAILED: "failed, the next epoch begins",
}


class Screen:
    """Speaks to whoever started the demo.

    Parameters
    ----------
    home : Home
        Home of the exchange.
    config : Config
        As loaded.
    write_line : callable
        Prints a line.
    colour : bool, optional
        Whether alarms may be coloured; by default on a terminal, unless NO_COLOR is set.
    """

    def __init__(
        self, home: Home, config: Config, write_line: Callable[[str], None], *, colour: bool | None = None
    ) -> None:
        self._home = home
        self._config = config
        self._write_line = write_line
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ if colour is None else colour
        self._trades: int | None = None
        self._at_ns = 0

    def ready(self, summary: dict[str, Any]) -> None:
        """Print endpoints and a command to try; ``summary`` is the supervisor's table of processes."""
        for line in first_screen(self._home, self._config, summary):
            self._write_line(line)

    def second(self, board: np.ndarray) -> str | None:
        """The line of the last second; ``board`` is the int64 board."""
        now_ns = time.monotonic_ns()
        trades = int(board[words.TRADES])
        passed_ns = now_ns - self._at_ns
        # A new epoch counts from what recovery found: then, and at first, the bots' own count stands in.
        if self._trades is None or trades < self._trades or passed_ns <= 0:
            rate = int(board[counters.FILLS_PER_S])
        else:
            rate = round((trades - self._trades) * 1_000_000_000 / passed_ns)
        self._trades, self._at_ns = trades, now_ns
        return second_line(board, now_ns, rate, colour=self._colour)


def first_screen(home: Home, config: Config, summary: dict[str, Any]) -> list[str]:
    """Lines of the first screen."""
    program, folder = shlex.quote(program_path()), shlex.quote(near(home.path))
    lively = ", ".join(listing.symbol for listing in plan.LIVELY)
    quiet = ", ".join(listing.symbol for listing in plan.QUIET)
    users = ", ".join(funding.name for funding in plan.USERS)
    processes = len(summary.get("processes", ()))
    engine = f"{config.engine.topology}, {config.engine.shards} shard{'s' * (config.engine.shards > 1)}"
    symbol = plan.LIVELY[0].symbol
    at = f"--home {folder}"
    return [
        "",
        f"Cambist is open. Bots trade {lively}; {quiet} is for your own tests.",
        "",
        f"  control socket  {near(home.socket(config))}",
        f"  home            {near(home.path)}",
        f"  users           {users}: numbers and funds in {near(home.demo_file)}",
        f"  processes       {processes} (engine {engine})",
        "",
        f"Buy something as {plan.USERS[0].name}, in another terminal:",
        "",
        f"  {program} order buy 0.01 {symbol} --market --account {plan.USERS[0].name} {at}",
        "",
        "and look around:",
        "",
        f"  {program} book {symbol} {at}",
        f"  {program} balance {plan.USERS[0].name} {at}",
        f"  {program} status {at}",
        "",
        "Ctrl-C stops everything.",
        "",
    ]


def second_line(board: np.ndarray, now_ns: int, trades_per_s: int, *, colour: bool = False) -> str:
    """One line about the last second.

    Parameters
    ----------
    board : int64 board
    now_ns : CLOCK_MONOTONIC
    trades_per_s : trades of the whole exchange
    colour : whether an alarm is coloured
    """
    state = int(board[words.ENGINE_STATE])
    if state != words.ENGINE_RUNNING:
        return f"engine {_STATES.get(state, str(state))} · durable up to seq {int(board[words.DURABLE_SEQ])}"
    parts = []
    if now_ns - int(board[counters.BEAT_NS]) > _BOTS_SILENT_NS:
        parts.append("the bots are silent")
    else:
        parts.append(f"{int(board[counters.ORDERS_PER_S]):>5} orders/s")
    parts.append(f"{trades_per_s:>4} trades/s")
    if parts[0] != "the bots are silent" and board[counters.ACK_P50_NS]:
        p50, p99 = (duration_text(int(board[word])) for word in (counters.ACK_P50_NS, counters.ACK_P99_NS))
        parts.append(f"ack p50 {p50:>7} p99 {p99:>7}")
    # The durable cursor first: it only grows, so that the difference is never below zero.
    durable = int(board[words.DURABLE_SEQ])
    parts.append(f"durable lag {max(0, int(board[words.SEQUENCED_SEQ]) - durable):>2}")
    verified = int(board[words.VERIFIED_SEQ])
    parts.append(f"state verified at seq {verified}" if verified else "state not verified yet")
    alarms = [
        text
        for word, text in (
            (words.DIVERGED, "STATE DIVERGED: the replica and the live engine differ; run `cambist verify`"),
            (words.JOURNAL_SPACE, "NO DISK SPACE for the next journal segment; only cancels are taken"),
            (words.CLOCK_ALARM, "CLOCK: UTC is further away than the sequenced time may follow"),
        )
        if board[word]
    ]
    if board[words.DIVERGED]:
        parts.pop()
    parts += [f"{_LOUD} {text} {_PLAIN}" if colour else f"*** {text} ***" for text in alarms]
    return " · ".join(parts)


def program_path() -> str:
    """How a person in this folder calls ``cambist`` of this installation."""
    installed = Path(sys.executable).with_name("cambist")
    return near(installed) if installed.exists() else f"{near(Path(sys.executable))} -m cambist"


def near(path: Path) -> str:
    """Path as it is written in the present folder: relative if it lies below it."""
    path = path.absolute()
    try:
        return str(path.relative_to(Path.cwd())) or "."
    except ValueError:
        return str(path)
