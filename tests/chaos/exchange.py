"""An exchange of real processes that can be shot at, the load on it, and an operator who talks to it all the while."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cambist import procfs
from cambist.boardview import BoardView
from cambist.home import Home
from cambist.launch import Launched, launch, up_command
from cambist.processes import ENGINE
from cambist.report import Quiet
from gateway.control.client import ControlClient, ControlError
from protocol import board as b
from protocol.instance import Limits
from tests.chaos.flow import Dealt
from tests.chaos.machine import Machine

RECOVER_TIMEOUT_S = 60.0
POLL_S = 0.002
LIMITS = Limits(
    accounts=64,
    assets=8,
    instruments=16,
    orders=1 << 14,
    leaves=1 << 13,
    withdrawal_holds=1 << 12,
    outbox=64,
    timers=16,
)
RINGS = {"ingress": 1 << 10, "command": 1 << 12, "event": 1 << 10, "outcome": 1 << 16, "window": 1 << 11}
"""Small, so that they fill; but nobody may be lapped."""
GROUP_KILLS = ("supervisor", "everything")
SNAPSHOT_MAP_BYTES = 64 << 20
_ENDED = re.compile(
    r"(\S+) \(process \d+\) (?:ended with status|was ended by)|(recovery) (?:of epoch \d+ ended|failed)"
)


class ChaosError(Exception):
    """The exchange did not do what it must; the text says what."""


class Exchange:
    """One home with a live exchange in it."""

    def __init__(self, home: Path, machine: Machine | None = None, *, postgres: bool = False, **engine: Any) -> None:
        self.home = Home(home)
        self.postgres = postgres
        self._machine = machine
        self._excused: list[tuple[int, int, frozenset[str]]] = []
        self.settings: dict[str, Any] = {f"engine.{name}": value for name, value in engine.items()}
        self.settings |= {
            "engine.producers": ["replay", "bots"],
            "engine.checkpoint_interval_s": 1,
            "engine.segment_bytes": 1 << 20,
            "snapshots.interval_s": 2,
            "snapshots.map_bytes": SNAPSHOT_MAP_BYTES,
            "postgres.enabled": postgres,
        }
        self.settings |= {f"tables.{name}": value for name, value in msgspec.structs.asdict(LIMITS).items()}
        self.settings |= {f"rings.{name}": value for name, value in RINGS.items()}
        self._launched: Launched | None = None

    def up(self) -> None:
        """Start it and wait until it is ready; LaunchError where it does not get so far."""
        with self._machine.preloaded() if self._machine else contextlib.nullcontext():
            self._launched = launch(up_command(self.home, self.settings), self.log, Quiet(), detach=False)

    @property
    def log(self) -> Path:
        """What the supervisor says."""
        return self.home.log / "supervisor.log"

    def has_ended(self) -> bool:
        """Whether its supervisor ended by itself; it is reaped then."""
        if self._launched is None or procfs.start_ticks(self._launched.pid):
            return False
        self._launched.stop()
        self._launched = None
        return True

    def stop(self) -> int:
        """Stop it orderly; the supervisor's exit status."""
        assert self._launched is not None
        launched, self._launched = self._launched, None
        return launched.stop()

    def end(self) -> None:
        """Stop it if it runs, whatever came before."""
        if self._launched is not None:
            self.stop()
        self.remove_shared()

    def restart(self, settings: dict[str, Any]) -> None:
        """Stop it orderly and start it with other settings."""
        status = self.stop()
        if status:
            raise ChaosError(f"the supervisor ended with status {status}")
        self.settings |= settings
        self.up()

    def is_down(self) -> bool:
        """Whether nobody started it since it was stopped or killed."""
        return self._launched is None

    def forget_memory(self) -> None:
        """What was in memory only is gone, as after a loss of power."""
        shutil.rmtree(self.home.shared, ignore_errors=True)

    def engine_pids(self) -> dict[str, int]:
        """Processes of the engine by name."""
        return {row["name"]: row["pid"] for row in self.table().get("processes", ()) if row["group"] == ENGINE}

    def remove_shared(self) -> None:
        """What a killed supervisor left is removed by the next start; after the last one nobody would."""
        if self.home.shared.exists():
            subprocess.run(
                [sys.executable, "-m", "cambist", "down", "--home", str(self.home.path)],
                capture_output=True,
                check=False,
            )

    def words(self, *words: int) -> list[int]:
        """Words of the board, read one after another; 0 while there is none."""
        with contextlib.suppress(OSError), BoardView(self.home.shared / "board") as view:
            return [view[word] for word in words]
        return [0] * len(words)

    def word(self, word: int) -> int:
        """One word."""
        return self.words(word)[0]

    def table(self) -> dict[str, Any]:
        """The supervisor's table of processes; empty while there is none."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(self.home.table_file.read_text()))
        return {}

    def pids(self) -> dict[str, int]:
        """Living processes by name, those that the table names and that are still the fork server's."""
        table = self.table()
        if not table:
            return {}
        found = {"supervisor": table["pid"], "forkserver": table["forkserver"]}
        for row in table["processes"]:
            if row["pid"] and parent(row["pid"]) == table["forkserver"]:
                found[row["name"]] = row["pid"]
        return {name: pid for name, pid in found.items() if procfs.start_ticks(pid)}

    def kill(self, victim: str) -> str:
        """SIGKILL it; "everything" is each process at once. Says whom it hit, nobody where the victim was just not there."""
        chosen = self._chosen(victim)
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # One that is just syncing a file dies when that is done.
        self.wait(f"{victim} is dead", lambda: not any(procfs.start_ticks(pid) for pid in chosen))
        if victim in GROUP_KILLS and chosen:
            assert self._launched is not None
            self._launched.stop()
            self._launched = None
        return victim if chosen else "nobody"

    def _chosen(self, victim: str) -> list[int]:
        """Processes that a victim's name stands for."""
        if victim == "everything":
            named = list(self.pids().values())
            return [*named, *(pid for pid in descendants(named[0]) if pid not in named)] if named else []
        if victim == "recovery":
            # It lives for a fraction of a second after each death of the engine.
            return self._child_named("cb:recovery", lambda: int(self.table().get("forkserver", 0)), 1.0)
        if victim == "snapshot":
            return self._child_named("cb:snapshot", lambda: self.pids().get("replica", 0), 4.0)
        if victim == "postmaster":
            return self._child_named("postgres", lambda: self.pids().get("postgres-server", 0), 1.0)
        pids = self.pids()
        return [pids[victim]] if pids.get(victim) else []

    def _child_named(self, name: str, of: Callable[[], int], patience_s: float) -> list[int]:
        """A child of a process, waited for a little; there may be none."""
        end_s = time.monotonic() + patience_s
        while time.monotonic() < end_s:
            for pid in children(of()):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == name:
                        return [pid]
            time.sleep(POLL_S / 4)
        return []

    def database(self) -> list[int]:
        """The database server and its processes."""
        found = self._chosen("postmaster")
        return [*found, *(pid for one in found for pid in descendants(one))]

    def excuse(self, since_bytes: int, names: frozenset[str]) -> None:
        """Ends of these processes that the supervisor told since its log had so many bytes were to be expected."""
        self._excused.append((since_bytes, self.log.stat().st_size, names))

    def wait(self, what: str, condition: Callable[[], Any], timeout_s: float = RECOVER_TIMEOUT_S) -> None:
        """Wait for something; ChaosError with the end of the supervisor's log where it does not come."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                words = {
                    name: self.word(getattr(b, name))
                    for name in ("ENGINE_STATE", "EPOCH", "SEQUENCED_SEQ", "RESERVED_SEQ", "SETTLED_SEQ", "DURABLE_SEQ")
                }
                log = self.log.read_text(errors="replace").splitlines()[-5:]
                raise ChaosError(f"{what}: not within {timeout_s:.0f} s; {words}; {self.table().get('phase')}; {log}")
            time.sleep(POLL_S)

    def is_well(self) -> bool:
        """Whether every process runs and is ready."""
        table = self.table()
        if (
            not table.get("ready")
            or self.word(b.ENGINE_STATE) != b.ENGINE_RUNNING
            or self.word(b.EPOCH) != table["epoch"]
        ):
            return False
        if self.postgres and self.words(b.POSTGRES_STATE, b.POSTGRES_SERVER_STATE) != [b.DATABASE_UP, b.DATABASE_UP]:
            return False
        living = self.pids()
        return all(row["ready"] and living.get(row["name"]) == row["pid"] for row in table["processes"])

    def crashes(self) -> list[str]:
        """What the supervisor says of processes that ended by themselves."""
        wrong = []
        place = 0
        for line in self.log.read_bytes().splitlines(keepends=True):
            text = line.decode(errors="replace").rstrip()
            excused = frozenset().union(*(names for first, end, names in self._excused if first <= place < end))
            place += len(line)
            found = _ENDED.search(text)
            name = (found[1] or found[2]) if found else ""
            if "did not stop in time" in text or (name and "SIGKILL" not in text and name not in excused):
                wrong.append(text)
        return wrong


def children(pid: int) -> list[int]:
    """Children of a process; none where it is gone."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def descendants(pid: int) -> list[int]:
    """Children of a process, theirs, and so on."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def parent(pid: int) -> int:
    """Parent of a process, 0 where it is gone."""
    fields = procfs._stat(pid)
    return int(fields[1]) if fields else 0


class LoadProcess:
    """``tests.chaos.load`` as a process."""

    def __init__(self, exchange: Exchange, folder: Path, rate: int, seed: int) -> None:
        arguments = [str(exchange.home.path), str(folder), str(rate), str(seed)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.load", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def runs(self) -> bool:
        """True; ChaosError with its words if it has ended."""
        if self._process.poll() is not None:
            raise ChaosError(f"the load ended: {self._process.communicate()}")
        return True

    def finish(self) -> dict[str, Any]:
        """Let it wait for its last answers; its summary."""
        output, errors = self._process.communicate(timeout=RECOVER_TIMEOUT_S * 2)
        if self._process.returncode:
            raise ChaosError(f"the load failed: {output} {errors}")
        return dict(json.loads(output))

    def end(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class Operator:
    """Sends operators' commands over the control socket, one after another, and keeps every reply; stays at it through restarts."""

    def __init__(self, home: Path, dealt: Dealt, seed: int) -> None:
        self.replies: list[dict[str, Any]] = []
        self._home = home
        self._accounts = dealt.plan.accounts
        self._assets = [asset.symbol for asset in dealt.plan.assets]
        self._symbols = [instrument.symbol for instrument in dealt.plan.instruments]
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> list[dict[str, Any]]:
        """End; all replies."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        return self.replies

    def _run(self) -> None:
        first = [
            ("set_bands", {"instrument": symbol, "up": "0.5", "down": "0.5", "breaker": "0.006"})
            for symbol in self._symbols
        ]
        while not self._stop.is_set():
            try:
                with ControlClient(self._home, operator="chaos", timeout_s=RECOVER_TIMEOUT_S) as client:
                    while not self._stop.wait(0.02 * self._random.random()):
                        op, args = first[0] if first else self._next()
                        reply = client.request(op, args, "chaos")
                        self.replies.append(msgspec.to_builtins(reply) | {"op": op, "args": args})
                        # Refused by the gateway, the command has no number, and may be sent again.
                        if first and (reply.result or {}).get("seq"):
                            first.pop(0)
            except ControlError:
                self._stop.wait(0.05)

    def _next(self) -> tuple[str, dict[str, Any]]:
        rng = self._random
        account, symbol = rng.randint(1, self._accounts), rng.choice(self._symbols)
        money = {"account": account, "asset": rng.choice(self._assets), "amount": f"0.0000{rng.randint(1, 9999):04d}"}
        return rng.choices(
            (
                ("deposit", money),
                ("withdraw_hold", money),
                ("freeze", {"account": account}),
                ("unfreeze", {"account": account}),
                ("resume", {"instrument": symbol}),
                ("tick", {}),
                ("set_fees", {"instrument": symbol, "maker": "-0.0001", "taker": "0.0004"}),
            ),
            (5, 3, 0.2, 3, 12, 4, 0.3),
        )[0]
