"""Runs an exchange: starts its processes, keeps them alive, stops them.

The engine (journal, matchers, risk, sequencer) lives and dies as one. Every start of it is an *epoch*: recovery builds
the state from the journal, the supervisor makes new rings, the engine begins. When one of its processes dies, the rest
is killed and the next epoch begins; gateways stay up meanwhile. Gateways and the replica restart alone.

An orderly stop sends SIGTERM to the gateways, waits until what they sent is durable and settled, and sets board[STOP].

::

    LOADING ──▶ RECOVERING ──▶ STARTING ──▶ RUNNING          (kernels are loaded once, by the fork server)
                    ▲              │           │
                    └── CLEARING ◀─┴───────────┘             a death in the engine, or a failed recovery
                            any ──▶ CLOSING ──▶ DRAINING ──▶ ENDING ──▶ finished
                                    gateways    work off     engine

One thread waits on the fork server, the signals and the next point in time.
"""

from __future__ import annotations

import contextlib
import enum
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cambist.config import Config
from cambist.forkclient import ForkClient, ForkServerLostError
from cambist.home import Home, HomeLock, remove_shared, write_json
from cambist.processes import ENGINE, FOLLOWER, GATEWAY, Process, Table
from cambist.recovered import Recovery, read_report
from cambist.report import Reporter
from persistence.children import adopt_orphans, reap_orphans
from protocol import board as words
from protocol import readers
from protocol.instance import Context, Engine
from ringbuf.errors import RingError

if TYPE_CHECKING:
    import numpy as np

    from cambist.shared import SharedMemory

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_S: Final = 0.005
_POLL_SLOW_S: Final = 0.1
_SECOND_S: Final = 1.0
_START_TIMEOUT_S: Final = 60.0
_CLOSE_TIMEOUT_S: Final = 3.0
_DRAIN_TIMEOUT_S: Final = 5.0
_END_TIMEOUT_S: Final = 10.0
_RECOVERY_ATTEMPTS_MAX: Final = 3
_FIRST_START_ATTEMPTS_MAX: Final = 5
"""A process that never got ready is not started more often before the exchange as a whole was ready once."""
_SHORT_LIFE_S: Final = 2.0
_BACK_OFF_FREE: Final = 2
"""So many short lives in a row are followed by the next one at once."""
_BACK_OFF_FIRST_S: Final = 0.1
_BACK_OFF_MAX_S: Final = 5.0


class Phase(enum.Enum):
    """What the supervisor is doing; the picture is at the top of the file."""

    LOADING = "loading"
    RECOVERING = "recovering"
    STARTING = "starting"
    RUNNING = "running"
    CLEARING = "clearing"
    CLOSING = "closing"
    DRAINING = "draining"
    ENDING = "ending"
    FINISHED = "finished"


_STOPPING: Final = frozenset({Phase.CLOSING, Phase.DRAINING, Phase.ENDING, Phase.FINISHED})
_ENGINE_STATES: Final = {
    Phase.LOADING: words.ENGINE_DOWN,
    Phase.RECOVERING: words.ENGINE_RECOVERING,
    Phase.STARTING: words.ENGINE_RECOVERING,
    Phase.RUNNING: words.ENGINE_RUNNING,
    Phase.CLEARING: words.ENGINE_FAILED,
    Phase.CLOSING: words.ENGINE_STOPPING,
    Phase.DRAINING: words.ENGINE_STOPPING,
    Phase.ENDING: words.ENGINE_STOPPING,
    Phase.FINISHED: words.ENGINE_DOWN,
}


@dataclass
class Child:
    """One life of one process."""

    process: Process
    request: int
    started_s: float
    pid: int = 0
    doomed: bool = False
    """To be killed, or killed: its end is no news."""
    ready: bool = False


@dataclass
class Lives:
    """What is remembered of a process, or of the engine, from one life to the next."""

    starts: int = 0
    short_lives: int = 0
    not_before_s: float = 0.0

    def ended(self, lived_s: float) -> None:
        """Note the end of a life and when the next one may begin."""
        self.short_lives = self.short_lives + 1 if lived_s < _SHORT_LIFE_S else 0
        over = self.short_lives - _BACK_OFF_FREE
        pause_s = min(_BACK_OFF_FIRST_S * 2 ** min(over, 10), _BACK_OFF_MAX_S) if over > 0 else 0.0
        self.not_before_s = time.monotonic() + pause_s


class Supervisor:
    """Runs the exchange of one home until it is told to stop or cannot go on.

    Parameters
    ----------
    home : Home
        Where it lives; its lock is taken in ``run``.
    config : Config
        As loaded.
    table : Table
        Which processes to run.
    reporter : Reporter
        Hears what happens.
    on_ready : callable, optional
        Called once, when every gateway accepts connections for the first time, with the table of processes.
    on_second : callable, optional
        Called each second from then on with the board (int64[n]); what it returns is printed.
    parent_fd : int, optional
        A pipe whose other end only the starter holds: when that closes, the exchange stops.
    """

    def __init__(
        self,
        home: Home,
        config: Config,
        table: Table,
        reporter: Reporter,
        on_ready: Callable[[dict[str, Any]], None] | None = None,
        on_second: Callable[[np.ndarray], str | None] | None = None,
        parent_fd: int = -1,
    ) -> None:
        self.home = home
        self.config = config
        self.engine: Engine = config.engine_settings()
        self.table = table
        self.reporter = reporter
        self._on_ready = on_ready
        self._on_second = on_second
        self._parent_fd = parent_fd

        self.phase = Phase.LOADING
        self.epoch = 0
        self._exit_status = 0
        self._began_s = time.monotonic()
        self._phase_began_s = self._began_s
        self._next_second_s = self._began_s + _SECOND_S
        self._children: dict[int, Child] = {}  # by request
        self._lives: dict[str, Lives] = {process.name: Lives() for process in (*table.engine, *table.others)}
        self._engine_lives = Lives()
        self._failed_recoveries = 0
        self._recovery_log_bytes = 0
        self._recovery = Recovery()
        self._all_ready = False
        self._table_is_old = True
        self._table_failed = False
        self._signals_heard = 0
        self._selector = selectors.DefaultSelector()
        self._forks: ForkClient | None = None
        self._shared: SharedMemory

    # --- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until stopped; 0 after an orderly stop, 1 when the exchange could not go on. Once only.

        Raises HomeError (the home is held or cannot be made) and RingError (no shared memory) before anything runs.
        """
        with HomeLock(self.home), contextlib.ExitStack() as undo:
            remove_shared(self.home)
            adopt_orphans()
            self._hear_signals(undo)
            undo.callback(self._close_forks)
            self._open_forks()
            # Only now: numba's import takes as long as that of the fork server, and goes on beside it.
            from cambist.shared import SharedMemory, remove_dead_instances

            for sentence in remove_dead_instances():
                self.reporter.note(sentence)
            self._shared = SharedMemory(self.home.shared, self.config.rate_limits.rows)
            undo.callback(self._shared.remove)
            undo.callback(self._remove_traces)
            undo.callback(self._close_forks)
            self._enter(Phase.LOADING)
            while self.phase is not Phase.FINISHED:
                self._wait()
                self._step(time.monotonic())
        return self._exit_status

    def _hear_signals(self, undo: contextlib.ExitStack) -> None:
        """Turn SIGINT, SIGTERM and SIGHUP into bytes that the selector sees."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
            # From the end of this run on, one more signal does not change how the process ends.
            undo.callback(signal.signal, number, signal.SIG_IGN)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ, self._hear_signal)
        if self._parent_fd >= 0:
            self._selector.register(self._parent_fd, selectors.EVENT_READ, self._hear_parent)
        undo.callback(os.close, reader)
        undo.callback(os.close, writer)
        undo.callback(signal.set_wakeup_fd, -1)
        undo.callback(self._selector.close)

    def _hear_signal(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._signals_heard += len(os.read(descriptor, 64))
        if self._signals_heard == 1:
            self.reporter.phase("stopping …")
        self.stop()
        if self._signals_heard > 1:
            self.reporter.note("stopping at once; the journal has all that was acknowledged")
            self._enter(Phase.FINISHED)

    def _hear_parent(self, descriptor: int) -> None:
        if os.read(descriptor, 64) == b"":
            self._selector.unregister(descriptor)
            self.stop()

    def _wait(self) -> None:
        now_s = time.monotonic()
        timeout_s = max(0.0, self._next_second_s - now_s)
        if self.phase is not Phase.RUNNING:
            timeout_s = min(timeout_s, _POLL_S)
        elif self._others_pending():
            quick = now_s - self._phase_began_s < _START_TIMEOUT_S
            timeout_s = min(timeout_s, _POLL_S if quick else _POLL_SLOW_S)
        for key, _ in self._selector.select(timeout_s):
            key.data(key.fd)

    def _others_pending(self) -> bool:
        """Whether a gateway or the replica waits for its start, or is not ready."""
        living = {child.process.name: child for child in self._living(FOLLOWER, GATEWAY)}
        for process in self.table.others:
            child = living.get(process.name)
            if not (child and child.ready) and (self._all_ready or self._is_awaited(process)):
                return True
        return False

    def _is_awaited(self, process: Process) -> bool:
        """Whether the exchange counts as ready only with it."""
        return not (process.optional and self._lives[process.name].starts > 1)

    def _step(self, now_s: float) -> None:
        if now_s >= self._next_second_s:
            self._next_second_s = now_s + _SECOND_S
            self._each_second()
        if self.phase is Phase.RECOVERING:
            self._report_recovery()
        elif self.phase is Phase.STARTING:
            self._step_starting(now_s)
        elif self.phase is Phase.RUNNING:
            self._step_running(now_s)
        elif self.phase is Phase.CLEARING:
            if not self._living(ENGINE) and now_s >= self._engine_lives.not_before_s:
                self._begin_epoch()
        elif self.phase in _STOPPING:
            self._step_stopping(now_s)
        if self._table_is_old:
            self._write_table()

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._phase_began_s = time.monotonic()
        self._table_is_old = True
        self._shared.store(words.ENGINE_STATE, _ENGINE_STATES[phase])
        self._shared.wake(process.line for process in (*self.table.engine, *self.table.others))

    def _each_second(self) -> None:
        self._shared.beat()
        self._table_is_old |= self._table_failed
        if self._forks is not None:
            reap_orphans({self._forks.pid, *(child.pid for child in self._children.values())})
        if self._all_ready and self._on_second is not None and self.phase not in _STOPPING:
            text = self._on_second(self._shared.board)
            if text:
                self.reporter.line(text)

    # --- the fork server -------------------------------------------------------------------------------------------

    def _open_forks(self) -> None:
        self._forks = ForkClient(self.table.modules, self.home.log / "forkserver.log")
        self._selector.register(self._forks.fileno(), selectors.EVENT_READ, self._hear_forks)

    def _close_forks(self) -> None:
        if self._forks is None:
            return
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._forks.fileno())
        self._forks.close([child.pid for child in self._children.values() if child.pid])
        self._forks = None
        self._children.clear()

    def _hear_forks(self, _descriptor: int) -> None:
        assert self._forks is not None
        try:
            messages = self._forks.receive()
        except ForkServerLostError as error:
            self._fork_server_lost(str(error))
            return
        for message in messages:
            event = message["event"]
            if event == "started":
                self._started(message["id"], message["pid"])
            elif event == "exit":
                self._exited(message["pid"], message["status"])
            elif event == "progress":
                label = f"compiling kernels {message['name']}"
                self.reporter.progress(label, message["done"], message["total"])
            elif event == "ready":
                self._loaded(message)
            elif event == "failed":
                self._give_up(f"the kernels cannot be loaded: {message['reason'].strip()}")
                return

    def _loaded(self, message: dict[str, Any]) -> None:
        if message["kernels"]:
            times = f"{message['wall_s']:.1f} s, {message['cpu_s']:.1f} CPU seconds"
            self.reporter.note(f"compiled {message['kernels']} kernels: {times}")
        if self.phase is Phase.LOADING:
            self._begin_epoch()

    def _fork_server_lost(self, reason: str) -> None:
        """All children died with it: begin again with a new one."""
        stopping = self.phase in _STOPPING
        never_ready = self.phase is Phase.LOADING
        for child in self._children.values():
            if child.process.group != ENGINE:
                self._lives[child.process.name].ended(time.monotonic() - child.started_s)
        self._close_forks()
        if stopping:
            self._enter(Phase.FINISHED)
        elif never_ready:
            self._give_up(f"{reason} while it loaded the kernels; see {self.home.log / 'forkserver.log'}")
        else:
            self.reporter.note(f"{reason}; all processes start again")
            self._open_forks()
            self._enter(Phase.LOADING)

    def _start(self, process: Process) -> Child:
        assert self._forks is not None
        context = Context(
            home=str(self.home.path),
            instance=self.home.instance,
            epoch=self.epoch,
            line=process.line,
            engine=self.engine,
            shard=process.shard,
            jitter_seed=self.config.engine.jitter,
            matcher_delay_us=self.config.test.matcher_delay_us,
            options=process.options,
        )
        self._shared.store(readers.ready_word(process.line), 0)
        request = self._forks.start(process.name, process.module, self._log(process), context)
        child = Child(process, request, time.monotonic())
        self._children[request] = child
        if process.name in self._lives:
            self._lives[process.name].starts += 1
        return child

    def _started(self, request: int, pid: int) -> None:
        child = self._children[request]
        child.pid = pid
        self._table_is_old = True
        if child.doomed:
            self._kill(child)

    def _kill(self, child: Child, number: int = signal.SIGKILL) -> None:
        assert self._forks is not None
        child.doomed = True
        if child.pid:
            self._forks.kill(child.pid, number)

    def _exited(self, pid: int, status: int) -> None:
        child = next(child for child in self._children.values() if child.pid == pid)
        del self._children[child.request]
        self._table_is_old = True
        if child.process is self.table.recovery:
            self._recovery_ended(child, status)
        elif self.phase in _STOPPING or child.doomed:
            return
        elif child.process.group == ENGINE:
            self._engine_failed(f"{child.process.name} (process {pid}) {_ending(status)}")
        else:
            self._other_ended(child, status)

    def _living(self, *groups: str) -> list[Child]:
        return [child for child in self._children.values() if child.process.group in groups]

    def _log(self, process: Process) -> Path:
        return self.home.log / f"{process.name}.log"

    # --- epochs ----------------------------------------------------------------------------------------------------

    def _context(self) -> Context:
        return Context(
            home=str(self.home.path), instance=self.home.instance, epoch=self.epoch, line=0, engine=self.engine
        )

    def _begin_epoch(self) -> None:
        try:
            self.epoch = max(self.epoch, self.home.last_epoch()) + 1
            self.home.store_epoch(self.epoch)
        except OSError as error:
            self._give_up(
                f"{self.home.epoch_file}: cannot be read and written: {error.strerror}; start again when it can"
            )
            return
        self._shared.begin_epoch(self._context())
        log = self._log(self.table.recovery)
        self._recovery_log_bytes = log.stat().st_size if log.exists() else 0
        for word in (readers.RECOVERY_DONE, readers.RECOVERY_TOTAL):
            self._shared.store(readers.LINE_RECOVERY * words.LINE_WORDS + word, 0)
        self._enter(Phase.RECOVERING)
        self._start(self.table.recovery)

    def _report_recovery(self) -> None:
        base = readers.LINE_RECOVERY * words.LINE_WORDS
        total = self._shared.load(base + readers.RECOVERY_TOTAL)
        # A short one is over before a bar can be read.
        if total and time.monotonic() - self._phase_began_s > 0.5:
            done = self._shared.load(base + readers.RECOVERY_DONE)
            self.reporter.progress("recovering commands", done, total)

    def _recovery_ended(self, child: Child, status: int) -> None:
        if self.phase is not Phase.RECOVERING:
            return
        report = read_report(self._context().epoch_dir)
        if status == readers.EXIT_OK:
            self._failed_recoveries = 0
            self._recovery = report
            self._start_engine()
            return
        self._failed_recoveries += 1
        if status == readers.EXIT_EPOCH_USED and report.last_epoch >= self.epoch:
            # The home lost its epoch file; the journal knows better.
            self.epoch = report.last_epoch
        reason = report.error or self._last_words(self.table.recovery, self._recovery_log_bytes)
        if status == readers.EXIT_REFUSED or self._failed_recoveries >= _RECOVERY_ATTEMPTS_MAX:
            times = "" if self._failed_recoveries == 1 else f" {self._failed_recoveries} times in a row"
            self._give_up(f"recovery failed{times}: it {_ending(status)}: {reason}")
            return
        self.reporter.note(f"recovery of epoch {self.epoch} {_ending(status)}: {reason}; it begins again")
        self._clear(time.monotonic() - child.started_s)

    def _start_engine(self) -> None:
        if self._recovery.note:
            self.reporter.note(f"recovery: {self._recovery.note}")
        context = self._context()
        try:
            self._shared.create_rings(context, self._recovery)
        except RingError as error:
            self._give_up(f"the rings of epoch {self.epoch} cannot be made: {error}")
            return
        self._shared.store(words.RECOVERED_SEQ, self._recovery.last_seq)
        self._enter(Phase.STARTING)
        for process in self.table.engine:
            self._start(process)

    def _step_starting(self, now_s: float) -> None:
        late = [child.process.name for child in self._living(ENGINE) if not self._is_ready(child)]
        if not late:
            self._shared.store(words.EPOCH, self.epoch)
            self._enter(Phase.RUNNING)
        elif now_s - self._phase_began_s > _START_TIMEOUT_S:
            self._engine_failed(f"not ready after {_START_TIMEOUT_S:.0f} s: {', '.join(late)}")

    def _engine_failed(self, what: str) -> None:
        self.reporter.note(f"engine: {what}; epoch {self.epoch} ends, the next one begins")
        began_s = min((child.started_s for child in self._living(ENGINE)), default=time.monotonic())
        self._clear(time.monotonic() - began_s)

    def _clear(self, lived_s: float) -> None:
        """Kill what is left of the engine; the next epoch begins when all of it is reaped."""
        self._engine_lives.ended(lived_s)
        for child in self._living(ENGINE):
            self._kill(child)
        self._enter(Phase.CLEARING)

    def _is_ready(self, child: Child) -> bool:
        if not child.ready and child.pid:
            process = child.process
            if process.socket:
                child.ready = _accepts(process.socket)
            else:
                child.ready = self._shared.load(readers.ready_word(process.line)) == child.pid
            self._table_is_old |= child.ready
        return child.ready

    # --- gateways and the replica ----------------------------------------------------------------------------------

    def _step_running(self, now_s: float) -> None:
        running = {child.process.name for child in self._children.values()}
        for process in self.table.others:
            if process.name not in running and now_s >= self._lives[process.name].not_before_s:
                self._start(process)
        late = [
            child.process.name
            for child in self._living(FOLLOWER, GATEWAY)
            if not self._is_ready(child) and self._is_awaited(child.process)
        ]
        if self._all_ready:
            return
        if not self._others_pending():
            self._become_ready()
        elif now_s - self._phase_began_s > _START_TIMEOUT_S:
            self._give_up(f"not ready after {_START_TIMEOUT_S:.0f} s: {', '.join(late)}; see {self.home.log}")

    def _become_ready(self) -> None:
        self._all_ready = True
        self._write_table()
        summary = {**self._summary(), "start_s": round(time.monotonic() - self._began_s, 3)}
        if self._on_ready is not None:
            self._on_ready(summary)
        self.reporter.ready(summary)

    def _other_ended(self, child: Child, status: int) -> None:
        name = child.process.name
        lives = self._lives[name]
        lives.ended(time.monotonic() - child.started_s)
        if not self._all_ready and not child.process.optional and lives.starts >= _FIRST_START_ATTEMPTS_MAX:
            words_left = self._last_words(child.process, 0)
            self._give_up(f"{name} {_ending(status)} {lives.starts} times before it was ready: {words_left}")
            return
        self.reporter.note(f"{name} (process {child.pid}) {_ending(status)}; it starts again")

    # --- the end ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin an orderly stop: gateways, then what they sent, then the engine."""
        if self.phase in _STOPPING:
            return
        for child in self._living(GATEWAY):
            self._kill(child, signal.SIGTERM)
        if self.phase is Phase.RUNNING:
            self._enter(Phase.CLOSING)
            return
        # No engine runs: there is nothing to work off, and what recovery did is done again at the next start.
        for child in self._living(ENGINE):
            self._kill(child)
        self._end_all()

    def _give_up(self, reason: str) -> None:
        self._exit_status = 1
        self.reporter.failed(reason)
        self.stop()

    def _step_stopping(self, now_s: float) -> None:
        waited_s = now_s - self._phase_began_s
        if self.phase is Phase.CLOSING:
            if not self._living(GATEWAY):
                self._enter(Phase.DRAINING)
            elif waited_s > _CLOSE_TIMEOUT_S:
                self._end_by_force(self._living(GATEWAY))
        elif self.phase is Phase.DRAINING:
            if self._shared.drained() or waited_s > _DRAIN_TIMEOUT_S or not self._living(ENGINE):
                self._end_all()
        elif self.phase is Phase.ENDING:
            if not self._children:
                self._enter(Phase.FINISHED)
            elif waited_s > _END_TIMEOUT_S:
                self._end_by_force(list(self._children.values()))

    def _end_by_force(self, late: list[Child]) -> None:
        self.reporter.note(f"{', '.join(child.process.name for child in late)}: did not stop in time, killed")
        for child in late:
            self._kill(child)
        self._phase_began_s = time.monotonic()

    def _end_all(self) -> None:
        self._shared.store(words.STOP, 2)
        self._enter(Phase.ENDING)

    def _remove_traces(self) -> None:
        # What a disk that has become read-only keeps is removed by the next start.
        for path in (self.home.table_file, *(Path(process.socket) for process in self.table.others if process.socket)):
            with contextlib.suppress(OSError):
                path.unlink()

    # --- what others see -------------------------------------------------------------------------------------------

    def _summary(self) -> dict[str, Any]:
        children = {child.process.name: child for child in self._children.values()}
        rows = []
        for process in (*self.table.engine, *self.table.others):
            child = children.get(process.name)
            rows.append(
                {
                    "name": process.name,
                    "group": process.group,
                    "line": process.line,
                    "shard": process.shard,
                    "pid": child.pid if child else 0,
                    "ready": bool(child and child.ready),
                    "starts": self._lives[process.name].starts,
                }
            )
        return {
            "instance": self.home.instance,
            "pid": os.getpid(),
            "forkserver": self._forks.pid if self._forks else 0,
            "phase": self.phase.value,
            "ready": self._all_ready,
            "epoch": self.epoch,
            "topology": self.engine.topology,
            "shards": self.engine.shards,
            "durability": self.engine.durability,
            "processes": rows,
        }

    def _write_table(self) -> None:
        """Say who runs. On a full disk the old table stays, or none, and it is tried again every second."""
        self._table_is_old = False
        try:
            write_json(self.home.table_file, self._summary())
        except OSError as error:
            if not self._table_failed:
                self.reporter.note(f"{self.home.table_file}: cannot be written: {error.strerror}; it is tried again")
            self._table_failed = True
        else:
            self._table_failed = False

    def _last_words(self, process: Process, since_bytes: int) -> str:
        """Last line that ``process`` wrote to its log after ``since_bytes``."""
        log = self._log(process)
        with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
            file.seek(since_bytes)
            lines = file.read().decode(errors="replace").strip().splitlines()
            if lines:
                return f"{lines[-1]} (all of it in {log})"
        return f"it said nothing in {log}"


def _ending(status: int) -> str:
    if status > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(status - 128).name}"
    return f"ended with status {status}"


def _accepts(path: str) -> bool:
    """Whether somebody accepts connections on the Unix socket ``path``."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
