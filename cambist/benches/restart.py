"""How long clients wait when an exchange is killed: from kill -9 to the first new durable outcome that a client has.

A home whose journal has a million commands and no snapshot is served, with its replica. The client sends an order right behind the
kill, and the clock stops when it has found that order's outcome and the journal's cursor is at the command. ``engine``: one of
the engine's processes is killed, each in turn; ring and client stay. ``everything``: all processes at once, supervisor and fork
server too; then ``cambist up`` is started again and the client attaches anew, so that starting Python and loading the
kernels counts. The limit is the fused engine on the same tail in memory. CPU seconds are those of the processes that run
afterwards, and of what survived; recovery's own are not in them, but in the wall time.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from cambist import procfs
from cambist.benches import flows, live, tails
from cambist.benches.rows import BenchFailedError, Row, Task, row
from cambist.home import Home
from cambist.launch import Launched, LaunchError, launch, up_command
from cambist.recovered import REPORT_FILE
from cambist.replay.plan import Plan
from cambist.report import Quiet
from persistence.fused import FusedEngine
from persistence.journal import DirectoryStore
from persistence.recovery import keep_limits
from protocol import board as b
from protocol import build
from protocol import enums as e
from protocol.instance import Context, Engine, instance_name
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf.atomics import load_acquire
from ringbuf.board import BoardFile, claim_line
from ringbuf.errors import RingError
from ringbuf.file import RingFile
from ringbuf.ring import publish, published

_PATIENCE_S: Final = 120.0
_POLL_S: Final = 0.0005
_QUIET_S: Final = 1.0
"""Between two kills: spare processes are being made."""


def run(task: Task) -> list[Row]:
    """A row for each way to be killed."""
    rows = []
    for name, file in flows.files(task, "w1", messages=task.sizes.restart_messages).items():
        task.progress(f"restart {name}: {task.runs} kills of either kind")
        rows += _cases(task, flows.plan_of(file))
    return rows


def _cases(task: Task, plan: Plan) -> list[Row]:
    home = Home(task.directory / "home")
    home.make()
    engine = live.engine_of(plan)
    keep_limits(home.path, engine.limits)
    fed = tails.Fed(FusedEngine(engine))
    tails.write_journal(DirectoryStore(home.journal), map(fed.feed, tails.rounds(plan, 1)))
    tail = fed.engine.last_seq
    configured = live.settings(plan, "split", 1) | {
        "engine.clock": "live",
        "engine.gating_outcome_reader": False,
        "replica.enabled": True,
        "snapshots.interval_s": 0,
    }
    exchange = _Exchange(home, engine, configured, _order(plan))
    rows = []
    try:
        exchange.start()
        for case, kill in (("engine", exchange.kill_one), ("everything", exchange.kill_all)):
            took_s, cpu_s, parts = [], [], []
            for _ in range(task.runs):
                seconds, cpu = exchange.measure(kill)
                took_s.append(seconds)
                cpu_s.append(cpu)
                parts.append(exchange.recovery_s)
            middle = sorted(range(len(took_s)), key=took_s.__getitem__)[len(took_s) // 2]
            rows.append(
                row(
                    "restart",
                    case,
                    "seconds",
                    "s",
                    took_s,
                    cpu_s,
                    ("the fused engine on the same tail in memory, once", fed.seconds),
                    tail=tail,
                    recovery_s=parts[middle],
                    compared="the journal in the fused engine",
                )
            )
        found, last_seq = exchange.state()
    finally:
        exchange.stop()
    live.compare_with_journal(home.path, engine, found, last_seq)
    return [one | {"result_hash": str(found["state"])} for one in rows]


def _order(plan: Plan) -> np.ndarray:
    """One like those of the flow."""
    like = plan.commands[plan.commands["type"] == e.LIMIT][0]
    names = ("account", "instrument", "side", "price_ticks", "qty_lots")
    return build.limit(**{name: int(like[name]) for name in names})


class _Exchange:
    """An exchange that is killed and comes back, and its client."""

    def __init__(self, home: Home, engine: Engine, configured: dict[str, Any], order: np.ndarray) -> None:
        self._home = home
        self._engine = engine
        self._configured = configured
        self._group = order
        self._launched: Launched | None = None
        self._kills = 0
        self.recovery_s: dict[str, float] = {}
        """What recovery took part by part, the last time."""

    def start(self) -> None:
        """Start it and attach. Raises BenchFailedError."""
        try:
            command = up_command(self._home, self._configured)
            self._launched = launch(command, self._home.log / "supervisor.log", Quiet(), detach=False)
        except LaunchError as error:
            raise BenchFailedError(f"the exchange did not start: {error}") from error
        context = self._context(0)
        self._board = BoardFile.attach(context.shared).board
        claim_line(self._board, b.LINE_REPLAY)
        self._file = RingFile.attach(context.ingress(e.SOURCE_REPLAY), COMMAND_DTYPE, COMMAND_SCHEMA, board=self._board)
        self._file.take_writer(b.LINE_REPLAY)

    def stop(self) -> None:
        """Stop it orderly."""
        if self._launched is not None:
            self._launched.stop()
            self._launched = None

    def kill_one(self) -> None:
        """Kill a process of the engine, another one each time."""
        pids = {process["name"]: process["pid"] for process in self._table()["processes"]}
        names = ("risk", "matcher-0", "journal", "sequencer")
        os.kill(pids[names[self._kills % len(names)]], signal.SIGKILL)
        self._kills += 1

    def kill_all(self) -> None:
        """Kill every process, and start the exchange again."""
        for pid in self._pids():
            os.kill(pid, signal.SIGKILL)
        self.stop()
        self.start()

    def measure(self, kill: Callable[[], None]) -> tuple[float, float]:
        """Seconds from the kill to the durable outcome of an order that was sent behind it, and CPU seconds."""
        self._await_quiet()
        before = self._cpu_ns()
        epoch = int(load_acquire(self._board, b.EPOCH))
        began_s = time.perf_counter()
        kill()
        self._await_outcome(self._send(), epoch)
        took_s = time.perf_counter() - began_s
        spent_ns = sum(max(0, used - before.get(pid, 0)) for pid, used in self._cpu_ns().items())
        report = self._context(int(load_acquire(self._board, b.EPOCH))).epoch_dir / REPORT_FILE
        self.recovery_s = json.loads(report.read_bytes())["seconds"]
        return took_s, spent_ns / 1e9

    def state(self) -> tuple[dict[str, int], int]:
        """Hashes and last command slot, once all that was sent is settled."""
        self._await_quiet()
        context = self._context(int(load_acquire(self._board, b.EPOCH)))
        return live.hashes(context, self._engine), int(load_acquire(self._board, b.SETTLED_SEQ))

    def _context(self, epoch: int) -> Context:
        return Context(str(self._home.path), instance_name(self._home.path), epoch, b.LINE_REPLAY, self._engine)

    def _table(self) -> dict[str, Any]:
        return dict(json.loads(self._home.table_file.read_bytes()))

    def _cpu_ns(self) -> dict[int, int]:
        return {pid: procfs.cpu_ns(pid) for pid in self._pids()}

    def _pids(self) -> list[int]:
        table = self._table()
        return [table["pid"], table["forkserver"], *(process["pid"] for process in table["processes"])]

    def _send(self) -> int:
        """Put the order on the ring; its number."""
        ring = self._file.ring
        number = int(published(ring)) + 1
        ring.slots[(number - 1) % len(ring.slots)] = build.stamp(self._group.copy(), e.SOURCE_REPLAY, number)[0]
        publish(ring, number)
        return number

    def _await_outcome(self, number: int, before_epoch: int) -> None:
        end_s = time.monotonic() + _PATIENCE_S
        outcomes: np.ndarray | None = None
        while time.monotonic() < end_s:
            epoch = int(load_acquire(self._board, b.EPOCH))
            if outcomes is None and epoch != before_epoch:
                try:
                    file = RingFile.attach(
                        self._context(epoch).outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, epoch, self._board
                    )
                    outcomes = file.ring.slots
                except (RingError, OSError):
                    outcomes = None
            if outcomes is not None:
                mine = outcomes["seq"][(outcomes["source_seq"] == number) & (outcomes["source"] == e.SOURCE_REPLAY)]
                if len(mine) and int(load_acquire(self._board, b.DURABLE_SEQ)) >= int(mine[0]):
                    return
            time.sleep(_POLL_S)
        raise BenchFailedError(f"order {number} has no durable outcome {_PATIENCE_S:g} s after the kill")

    def _await_quiet(self) -> None:
        """Wait until all is ready again, everything is settled and the replica has followed."""
        end_s = time.monotonic() + _PATIENCE_S
        board = self._board
        while time.monotonic() < end_s:
            table = self._table()
            last = int(load_acquire(board, b.SEQUENCED_SEQ))
            passed = (b.SETTLED_SEQ, b.DURABLE_SEQ, b.REPLICATED_SEQ)
            if table["ready"] and all(int(load_acquire(board, word)) == last for word in passed):
                time.sleep(_QUIET_S)
                return
            time.sleep(_POLL_S)
        raise BenchFailedError("the exchange does not come to rest after a restart")
