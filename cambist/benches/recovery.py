"""How fast a home comes back: a tail of the journal replayed, and a snapshot with many orders and accounts loaded.

``tail_N``: recovery of a journal of N commands without a snapshot, as it runs in a start, into shared memory, with the new segment
synced; of the flow once, and of ten rounds of it, made and written part by part. The rate is that of the whole; the seconds of
each part stand beside it. The limit is the fused engine on the same commands in memory. ``load_N``: N resting orders of N accounts,
each with a balance, from a file in the page cache into shared memory, with check of every byte and of the hashes. The limit is
copying as many bytes. Not measured: starting processes, a cold disk.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from cambist.benches import flows, tails
from cambist.benches.rows import BenchFailedError, Row, Task, row
from matcher.process import shard_spec
from persistence.fused import FusedEngine, risk_spec
from persistence.journal import DirectoryStore, scan
from persistence.recovery import EpochFiles, Report, rebuild
from persistence.snapshots import SnapshotFolder
from persistence.snapshots.state import State, private_state
from persistence.snapshots.writer import Settings, keep_snapshot
from protocol import board as b
from protocol import build
from protocol import enums as e
from protocol.instance import SHARED_MEMORY, Context, Engine, Limits, instance_name
from protocol.instruments import Asset, Instrument
from protocol.records import COMMAND_SCHEMA
from ringbuf.arena import attach_arena
from ringbuf.board import BoardFile
from sequencer import core as sequencer

_WHO: Final = ("bench", "bench")
_FUNDS: Final = 1_000_000_000
_PRICES: Final = 1 << 14


def run(task: Task) -> list[Row]:
    """A row for the tail and one for the load."""
    rows = []
    for name, file in flows.files(task, "w1", messages=task.sizes.recovery_messages).items():
        rows += [
            _tail(task, name, file, rounds)
            for rounds in ((1, task.sizes.recovery_rounds) if task.flow is None else (1,))
        ]
    if task.flow is None:
        rows.append(_load(task))
    return rows


def _tail(task: Task, name: str, file: Path, rounds: int) -> Row:
    plan = flows.plan_of(file)
    config = Engine(limits=plan.limits)
    fused = tails.Fed(FusedEngine(config))
    home = task.directory / "tail"
    home.mkdir()
    tails.write_journal(DirectoryStore(home / "journal"), map(fused.feed, tails.rounds(plan, rounds)))
    count, fused_s, right = fused.engine.last_seq, fused.seconds, fused.engine.hashes()
    del plan, fused
    task.progress(f"recovery {name}: a tail of {count:,} commands, {task.runs} runs")
    reports, took_s, cpu_s = _recover(task, home, config, right)
    shutil.rmtree(home)
    middle = reports[sorted(range(len(took_s)), key=took_s.__getitem__)[len(took_s) // 2]]
    return row(
        "recovery",
        f"tail_{count}",
        "commands_per_s",
        "1/s",
        [count / seconds for seconds in took_s],
        cpu_s,
        ("the fused engine on the same commands in memory, once", count / fused_s),
        commands=count,
        seconds=middle.seconds,
        compared="hashes of the fused engine after the same commands",
        result_hash=str(right["state"]),
    )


def _load(task: Task) -> Row:
    count = task.sizes.recovery_orders
    task.progress(f"recovery: a snapshot of {count:,} orders and accounts, {task.runs} runs")
    config = Engine(limits=Limits(accounts=count, assets=2, instruments=1, orders=count, leaves=_PRICES))
    state = private_state(config)
    engine = FusedEngine(config, state.risk, state.shards)
    slots = crowd(count)
    engine.feed(slots)
    right = engine.hashes()
    home = task.directory / "load"
    home.mkdir()
    journal = DirectoryStore(home / "journal")
    # A journal of the last command only would do; what is before it is never read.
    tails.write_journal(journal, [slots])
    size_bytes = _write(home, engine, state, scan(journal).journal_id.hex())
    del state
    began_s = time.perf_counter()
    content = np.fromfile(SnapshotFolder(home).path(len(slots)), dtype=np.uint8)
    content.copy()
    copied_s = time.perf_counter() - began_s
    reports, took_s, cpu_s = _recover(task, home, config, right)
    if any(report.snapshot_seq != len(slots) for report in reports):
        raise BenchFailedError("recovery did not begin with the snapshot")
    shutil.rmtree(home)
    load_s = [report.seconds["load"] for report in reports]
    return row(
        "recovery",
        f"load_{count}",
        "bytes_per_s",
        "B/s",
        [size_bytes / seconds for seconds in load_s],
        cpu_s,
        ("reading the file from the page cache and copying it once", size_bytes / copied_s),
        orders=count,
        accounts=count,
        bytes=size_bytes,
        seconds=reports[-1].seconds,
        whole_s=sorted(took_s)[len(took_s) // 2],
        compared="hashes of the engine that wrote it",
        result_hash=str(right["state"]),
    )


def crowd(count: int) -> np.ndarray:
    """Commands that make so many accounts, each with funds and one resting order."""
    quote, base = Asset(1, "USD", 6), Asset(2, "ORE", 8)
    instrument = Instrument(1, "OREUSD", base, quote, 1_000_000, 1_000_000)
    listing = [build.list_asset(quote, *_WHO), build.list_asset(base, *_WHO), build.list_instrument(instrument, *_WHO)]
    made = _repeated(build.create_account(1, *_WHO), count)
    funded = _repeated(build.deposit(1, 1, _FUNDS, *_WHO), count)
    orders = _repeated(build.limit(account=1, instrument=1, side=e.BUY, price_ticks=1, qty_lots=1), count)
    heads = build.heads(orders)
    orders["price_ticks"][heads] = 1 + np.arange(count) % _PRICES
    slots = np.concatenate([*listing, made, funded, orders])
    slots = build.stamp(slots, e.SOURCE_CONTROL, 1)
    slots["seq"] = np.arange(1, len(slots) + 1)
    slots["ts_ns"] = 1_700_000_000_000_000_000
    return slots


def _repeated(group: np.ndarray, count: int) -> np.ndarray:
    slots = np.tile(group, count)
    slots["account"][build.heads(slots)] = np.arange(1, count + 1)
    return slots


def _write(home: Path, engine: FusedEngine, state: State, journal_id: str) -> int:
    SnapshotFolder(home).make()
    lanes = sequencer.make_state(state.sequencer)
    lanes.meta[sequencer.SEQ] = engine.last_seq
    return keep_snapshot(home, Settings(bytes_per_s=0), engine, state.sequencer, journal_id, 1, time.time_ns())


def _recover(
    task: Task, home: Path, config: Engine, right: dict[str, int]
) -> tuple[list[Report], list[float], list[float]]:
    """Recover a home in turn; reports, seconds, CPU seconds of this process and those beside it."""
    reports, took_s, cpu_s = [], [], []
    for number in range(task.runs):
        context = Context(str(home), instance_name(home), number + 2, b.LINE_SUPERVISOR, config)
        context.shared.mkdir(mode=0o700)
        try:
            board = BoardFile.create(context.shared, b.LINES).board
            context.epoch_dir.mkdir()
            memory = EpochFiles(context, board)
            cpu_before, began_s = _cpu_s(), time.perf_counter()
            report, status = rebuild(
                DirectoryStore(context.journal_dir), memory, context, board, time.time_ns(), SnapshotFolder(home)
            )
            took_s.append(time.perf_counter() - began_s)
            cpu_s.append(_cpu_s() - cpu_before)
            if status != 0:
                raise BenchFailedError(f"recovery ended with {status}")
            _check(context, config, report, right)
            reports.append(report)
        finally:
            shutil.rmtree(SHARED_MEMORY / context.shared.name)
    return reports, took_s, cpu_s


def _check(context: Context, config: Engine, report: Report, right: dict[str, int]) -> None:
    risk = attach_arena(context.risk_state, risk_spec(config), COMMAND_SCHEMA)
    shards: list[Any] = [attach_arena(context.matcher_state(0), shard_spec(config), COMMAND_SCHEMA)]
    found = FusedEngine(config, risk, shards, last_seq=report.last_seq).hashes()
    wrong = [name for name, value in right.items() if found[name] != value]
    if wrong:
        raise BenchFailedError(f"what was recovered is not what was written: {', '.join(wrong)}")


def _cpu_s() -> float:
    times = os.times()
    return float(times.user + times.system + times.children_user + times.children_system)
