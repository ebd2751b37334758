"""Drives a recording through the live processes of a fresh home and reports what came of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cambist.config import Config
from cambist.home import Home
from cambist.launch import LaunchError, running
from cambist.replay import plan as plans
from cambist.replay import report as reports
from cambist.replay import truth
from cambist.replay.collect import Collector
from cambist.report import ConsoleReporter
from matcher.process import shard_spec, shard_state
from persistence.fused import hashes_of, risk_spec
from protocol import board as b
from protocol import enums as e
from protocol.instance import Context, Engine, Limits, Rings, instance_name
from protocol.readers import OUTCOME_COLLECTOR
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf.arena import attach_arena
from ringbuf.atomics import load_acquire
from ringbuf.board import BoardFile, claim_line
from ringbuf.file import RingFile
from ringbuf.ring import advance, publish, published, reader_cursor, room
from ringbuf.waiting import ADAPTIVE, idle_wait, woke
from risk import state as risk_state
from risk.views import copy_balance

_BATCH_SLOTS = 1024
_STALL_S = 60.0


class ReplayFailed(Exception):
    """The replay could not be driven to its end; the text says why."""


def run(recording: Path, config: Config, home_path: Path | None) -> int:
    """Replay ``recording``; 0 when its results are right (or nothing says what is right), 1 otherwise, 2 for input that cannot be read."""
    options = config.replay
    try:
        plan = plans.load(recording, options.format, options.limit, options.until)
    except plans.RecordingError as error:
        print(f"cambist replay: {error}", file=sys.stderr)
        return 2
    try:
        with contextlib.ExitStack() as stack:
            home = stack.enter_context(_fresh_home(home_path, keep=options.keep))
            fills = stack.enter_context(Path(options.fills).open("w")) if options.fills else None
            report, _ = replay(plan, config, home, fills_file=fills, progress=not options.json)
    except (ReplayFailed, LaunchError) as error:
        print(f"cambist replay: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(reports.write_json(report))
    else:
        reports.show(report, Console())
    for difference in report["differences"]:
        print(f"cambist replay: {difference}", file=sys.stderr)
    return 1 if report["differences"] else 0


def replay(
    plan: plans.Plan, config: Config, home: Path, *, fills_file: TextIO | None = None, progress: bool = False
) -> tuple[dict[str, Any], Collector]:
    """Drive a plan through the live processes of ``home``; (report, collector).

    Raises ReplayFailed where the engine stops or stands still, LaunchError where it does not start.
    """
    probes, depth = truth.probes_for(plan)
    collector = Collector(plan, probes=probes, depth=depth, fills_file=fills_file)
    settings = _settings(plan, config)
    with running(Home(home), settings, ConsoleReporter()) as launched:
        driver = Driver(plan, home, settings, int(launched.summary["epoch"]), collector)
        with _bar(progress, len(plan.setup) + len(plan.commands)) as advance_bar:
            seconds = driver.play(advance_bar)
        hashes, ledger = driver.state()
        report = reports.build_report(
            plan,
            collector,
            ledger,
            timing=reports.Timing(seconds, config.engine.topology),
            state_hash=str(hashes["state"]),
            extra={
                "last_seq": len(plan.setup) + len(plan.commands),
                "shards": config.engine.shards,
                "hashes": {name: str(h) for name, h in hashes.items()},
            },
        )
        report |= driver.tear_down()
    return report, collector


class Driver:
    """One replay in a running home: a producer with an ingress ring of its own, and the reader for whom outcomes are kept."""

    def __init__(
        self, plan: plans.Plan, home: Path, settings: dict[str, Any], epoch: int, collector: Collector
    ) -> None:
        self._plan = plan
        self._collector = collector
        limits = Limits(
            **{key.removeprefix("tables."): value for key, value in settings.items() if key.startswith("tables.")}
        )
        rings = Rings(
            **{key.removeprefix("rings."): value for key, value in settings.items() if key.startswith("rings.")}
        )
        engine = Engine(shards=settings["engine.shards"], limits=limits, rings=rings)
        self._context = Context(str(home), instance_name(home), epoch, b.LINE_REPLAY, engine)
        self._board = BoardFile.attach(self._context.shared).board
        claim_line(self._board, b.LINE_REPLAY)
        self._ingress = RingFile.attach(
            self._context.ingress(e.SOURCE_REPLAY), COMMAND_DTYPE, COMMAND_SCHEMA, board=self._board
        )
        self._ingress.take_writer(b.LINE_REPLAY)
        self._outcomes = RingFile.attach(self._context.outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, epoch, self._board)
        self._outcomes.adopt_reader(OUTCOME_COLLECTOR, b.LINE_REPLAY)
        self._sent = int(published(self._ingress.ring))
        self._done_seq = 0

    def play(self, on_progress: Callable[[int], None]) -> float:
        """Send set-up and messages and read all their outcomes; seconds of the messages alone."""
        self._send(self._plan.setup, on_progress)
        started = time.perf_counter()
        self._send(self._plan.commands, on_progress)
        seconds = time.perf_counter() - started
        self._collector.finish()
        return seconds

    def tear_down(self) -> dict[str, Any]:
        """Memory of the state now; then what the plan sends last, and how long that took."""
        shared = {path.name: path.stat().st_blocks * 512 for path in self._context.epoch_dir.glob("*.state")}
        extra: dict[str, Any] = {"state_bytes": shared}
        if len(self._plan.teardown):
            before = self._open_orders()
            started = time.perf_counter()
            self._send(self._plan.teardown, lambda _: None)
            extra["teardown"] = {
                "orders": before,
                "left": self._open_orders(),
                "seconds": round(time.perf_counter() - started, 6),
            }
        return extra

    def state(self) -> tuple[dict[str, int], reports.Ledger]:
        """Hashes and balances after the last command; the engine stands still."""
        engine = self._context.engine
        risk = risk_state.make_state(attach_arena(self._context.risk_state, risk_spec(engine), COMMAND_SCHEMA))
        matchers = [
            shard_state(attach_arena(self._context.matcher_state(k), shard_spec(engine), COMMAND_SCHEMA))
            for k in range(engine.shards)
        ]
        out = np.zeros(3, dtype=np.int64)

        def balance(account: int, asset: int) -> tuple[int, int]:
            copy_balance(risk, account, asset, out)
            return int(out[0]), int(out[1])

        fees = risk.assets["fee_units"].copy()
        deposits = risk.assets["net_deposits_units"].copy()
        balances = {
            (account, asset.index): balance(account, asset.index)
            for account in range(1, self._plan.accounts + 1)
            for asset in self._plan.assets
        }
        ledger = reports.Ledger(
            lambda account, asset: balances[account, asset],
            lambda asset: int(fees[asset]),
            lambda asset: int(deposits[asset]),
        )
        return hashes_of(risk, matchers), ledger

    def _open_orders(self) -> int:
        engine = self._context.engine
        arrays = attach_arena(self._context.risk_state, risk_spec(engine), COMMAND_SCHEMA)
        return int(arrays["meta"][risk_state.HOLDS_USED])

    def _send(self, slots: np.ndarray, on_progress: Callable[[int], None]) -> None:
        """Send whole groups as there is room and read outcomes, until the last of ``slots`` is settled and durable."""
        ring = self._ingress.ring
        mask = len(ring.slots) - 1
        ends = np.nonzero((slots["flags"] & (e.FLAG_MORE | e.FLAG_BATCH)) == 0)[0] + 1
        target_seq = self._done_seq + len(slots)
        at = 0
        idle = 0
        quiet_since = time.monotonic()
        while True:
            work = 0
            free = min(int(room(ring, _BATCH_SLOTS)), _BATCH_SLOTS) if at < len(slots) else 0
            fitting = int(np.searchsorted(ends, at + free, side="right"))
            end = int(ends[fitting - 1]) if fitting and free else at
            if end > at:
                positions = np.arange(self._sent, self._sent + end - at)
                ring.slots[positions & mask] = slots[at:end]
                ring.slots["seq"][positions & mask] = positions + 1
                self._sent += end - at
                publish(ring, self._sent)
                on_progress(end - at)
                at, work = end, end - at
            work += self._read()
            if at == len(slots) and self._finished(target_seq):
                break
            if work:
                idle, quiet_since = int(woke(self._board, b.LINE_REPLAY, idle)), time.monotonic()
            else:
                self._check_alive(quiet_since)
                idle = int(idle_wait(self._board, b.LINE_REPLAY, idle, ADAPTIVE))
        self._done_seq = target_seq

    def _read(self) -> int:
        ring = self._outcomes.ring
        cursor = int(reader_cursor(ring, OUTCOME_COLLECTOR))
        end = min(int(published(ring)), cursor + (1 << 14))
        if end > cursor:
            self._collector.feed(ring.slots[np.arange(cursor, end) & (len(ring.slots) - 1)])
            advance(ring, OUTCOME_COLLECTOR, end)
        return end - cursor

    def _finished(self, seq: int) -> bool:
        board = self._board
        if int(load_acquire(board, b.SETTLED_SEQ)) < seq or int(load_acquire(board, b.DURABLE_SEQ)) < seq:
            return False
        while self._read():
            pass
        return True

    def _check_alive(self, quiet_since: float) -> None:
        state = int(load_acquire(self._board, b.ENGINE_STATE))
        if state != b.ENGINE_RUNNING:
            msg = f"the engine stopped; its logs are in {self._context.home}/log (--keep keeps a temporary home)"
            raise ReplayFailed(msg)
        if time.monotonic() - quiet_since > _STALL_S:
            seqs = {
                name: int(load_acquire(self._board, word))
                for name, word in (
                    ("sequenced", b.SEQUENCED_SEQ),
                    ("reserved", b.RESERVED_SEQ),
                    ("settled", b.SETTLED_SEQ),
                    ("durable", b.DURABLE_SEQ),
                )
            }
            msg = f"nothing has moved for {_STALL_S:.0f} s: {seqs}"
            raise ReplayFailed(msg)


def _settings(plan: plans.Plan, config: Config) -> dict[str, Any]:
    """Configuration of the replay's home, by dotted key."""
    settings: dict[str, Any] = {
        "engine.topology": config.engine.topology,
        "engine.shards": config.engine.shards,
        "engine.wait": config.engine.wait,
        "engine.jitter": config.engine.jitter,
        "engine.clock": plan.clock,
        "engine.producers": ["replay"],
        "engine.gating_outcome_reader": True,
        "control.enabled": False,
        "replica.enabled": False,
        "postgres.enabled": False,
    }
    settings |= {f"tables.{name}": getattr(plan.limits, name) for name in Limits.__struct_fields__}
    settings |= {f"rings.{name}": value for name, value in msgspec.structs.asdict(config.rings).items()}
    return settings


@contextlib.contextmanager
def _fresh_home(home: Path | None, *, keep: bool) -> Iterator[Path]:
    if home is not None:
        if any((home / "journal").glob("*")):
            msg = f"{home}: a replay begins an exchange of its own, but this home has a journal already; name a new folder"
            raise ReplayFailed(msg)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield home.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="cambist-replay-"))
    try:
        yield folder.resolve()
    finally:
        if keep:
            print(f"cambist replay: home kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _bar(shown: bool, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not (shown and os.isatty(2))) as progress:
        task = progress.add_task("replaying", total=total)
        yield lambda count: progress.advance(task, count)
