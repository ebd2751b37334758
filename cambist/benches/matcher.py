"""Messages per second of the matcher's kernel alone, on the rings that it has in the exchange.

Commands and verdicts lie in their rings before the clock runs; events are passed unread after each step. The limit is the
same flow through a bare book in C, run in turn with it. Not measured: risk, sequencing, hand-off between processes, the
journal.
"""

from __future__ import annotations

import gzip
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from cambist.benches import flows
from cambist.benches.machine import ROOT
from cambist.benches.rows import NO_COMPILER, BenchFailedError, Row, Task, row, undisturbed_per_s
from cambist.replay.collect import HASH_START, fold
from cambist.replay.plan import Plan
from cambist.replay.report import expected_file
from matcher.events import join_events
from matcher.hashes import books_hash
from matcher.kernel import make_stage, step
from matcher.process import shard_spec, shard_state
from matcher.state import APPLIED_SEQ, EVENT_HASH, MatcherState, reset
from matcher.state import make_state as make_tuple
from matcher.views import book_summary
from persistence.fused import pass_unread
from protocol import enums as e
from protocol.instance import Engine
from protocol.records import COMMAND_DTYPE, EVENT_DTYPE, VERDICT_DTYPE
from ringbuf.arena import private_arena
from ringbuf.bundle import Bundle
from ringbuf.ring import Ring, advance, private_ring, publish, published, reader_cursor
from ringbuf.steps import Step, Steps

_STEP_SLOTS: Final = 1 << 9
"""Slots that the kernel takes at once, as in the fused engine."""
_EVENT_SLOTS: Final = 1 << 12
STRETCH_SLOTS: Final = 1 << 12
"""Slots that are timed together; shorter than what disturbs them mostly, and long against the reading of a clock."""
_MASK: Final = (1 << 64) - 1
_LIMIT: Final = ROOT / "bench" / "peers" / "book_limit.c"
_CANNOT: Final = 3
"""Exit status of another book for a flow that it is too small for."""


def run(task: Task) -> list[Row]:
    """A row a workload."""
    limit = _build_limit(task.directory)
    return [_case(task, name, file, limit) for name, file in flows.files(task, *flows.WORKLOADS).items()]


class Shard(NamedTuple):
    """A fresh shard and its rings."""

    arrays: MatcherState
    state: Bundle
    verdicts: Ring
    events: Ring
    stage: Bundle
    steps: Steps
    """Kernel and reader of events in turn."""


class Results(NamedTuple):
    """What a run gave: hashes of all events and of the books."""

    events_hash: int
    books_hash: int


def _case(task: Task, name: str, file: Path, limit: Path | None) -> Row:
    plan = flows.plan_of(file)
    if plan.format != "xflow001":
        raise BenchFailedError(f"{file}: is {plan.format}; this bench takes XFLOW001 files, one book without accounts")
    prefill = flows.prefill_slots(plan) + 1
    slots = numbered(plan)
    messages = flows.timed_messages(plan, prefill - 1)
    task.progress(f"matcher {name}: {messages:,} messages, {task.runs} runs")
    right, trade_hash, compared = _check(plan, slots)
    ours = _Timed(messages)
    others: dict[Path, _Timed] = {}
    programs = [program for program in (limit, *task.peers) if program is not None]
    for _ in range(task.runs):
        for program in programs:
            if times := _measure_program(program, file, task.directory, trade_hash):
                others.setdefault(program, _Timed(messages)).add(*times)
        stretches_ns, used_s, results = measure(plan, slots, prefill)
        if results != right:
            raise BenchFailedError(f"{name}: two runs over the same messages gave different events or books")
        ours.add(stretches_ns, used_s)
    found = others.pop(limit, None) if limit is not None else None
    what = "the same flow through a bare tick ladder in C, in turn with it"
    bound = (what, statistics.median(found.rates)) if found else None
    result = row("matcher", name, "messages_per_s", "1/s", ours.rates, ours.cpu_s, bound)
    result |= {"messages": messages, **ours.summary()}
    result["wall_median"] = statistics.median(messages / rate for rate in ours.rates)
    if limit is None:
        result["note"] = NO_COMPILER
    if found:
        result["limit"] |= found.summary()
    if others:
        result["peers"] = {
            program.name: {"median": statistics.median(timed.rates), **timed.summary()}
            for program, timed in others.items()
        }
    return result | {"result_hash": str(trade_hash), "compared": compared}


class _Timed:
    """The runs of one book over ``messages`` messages."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._stretches: list[np.ndarray] = []
        self.rates: list[float] = []
        self.cpu_s: list[float] = []

    def add(self, stretches_ns: np.ndarray, used_s: float) -> None:
        """Count a run: nanoseconds of its stretches, and its CPU seconds."""
        self._stretches.append(stretches_ns)
        self.rates.append(self._messages * 1e9 / stretches_ns.sum())
        self.cpu_s.append(used_s)

    def summary(self) -> dict[str, float]:
        """What does not depend on other work of the machine."""
        return {
            "messages_per_cpu_s": self._messages / statistics.median(self.cpu_s),
            "undisturbed_per_s": undisturbed_per_s(self._messages, self._stretches),
        }


def numbered(plan: Plan) -> np.ndarray:
    """The listing of the one instrument, then the commands, numbered from 1."""
    slots = np.zeros(len(plan.commands) + 1, dtype=COMMAND_DTYPE)
    slots[1:] = plan.commands
    slots[0]["type"] = e.LIST_INSTRUMENT
    slots[0]["instrument"] = 1
    slots[0]["price_ticks"] = plan.instruments[0].multiplier
    slots[0]["qty_lots"] = plan.instruments[0].lot_atoms
    slots["seq"] = np.arange(1, len(slots) + 1)
    return slots


def _fresh(plan: Plan, slots: np.ndarray) -> Shard:
    arrays = private_arena(shard_spec(Engine(limits=plan.limits)))
    capacity = flows.power_of_two(len(slots))
    commands = private_ring(COMMAND_DTYPE, capacity)
    verdicts = private_ring(VERDICT_DTYPE, capacity)
    events = private_ring(EVENT_DTYPE, _EVENT_SLOTS)
    commands.slots[: len(slots)] = slots
    # Everything is accepted as it stands; holds are risk's, and mean nothing to a book.
    for name in ("seq", "price_ticks", "qty_lots"):
        verdicts.slots[name][: len(slots)] = slots[name]
    verdicts.slots["code"] = e.VERDICT_OK
    state = shard_state(arrays)
    stage = make_stage(state, commands, verdicts, events, 0, 0)
    steps = Steps(Step(step, stage, _STEP_SLOTS), Step(pass_unread, Bundle(ring=events), _STEP_SLOTS))
    shard = Shard(make_tuple(arrays), state, verdicts, events, stage, steps)
    reset(shard.arrays)
    join_events(shard.state, events)
    publish(commands, len(slots))
    return shard


def _drive(shard: Shard, until: int) -> None:
    """Turn kernel and reader of events, in the compiled loop of the exchange's processes, until slot ``until`` is done."""
    publish(shard.verdicts, until)
    shard.steps.until(shard.arrays.meta, APPLIED_SEQ, until)
    if reader_cursor(shard.verdicts, 0) < until:
        raise BenchFailedError(f"the matcher stands still after slot {reader_cursor(shard.verdicts, 0)}")


def _events_of(shard: Shard, until: int) -> np.ndarray:
    """Do all slots up to ``until``; copies of their events."""
    taken = []
    publish(shard.verdicts, until)
    while step(shard.stage, _STEP_SLOTS):
        done, last = int(reader_cursor(shard.events, 0)), int(published(shard.events))
        taken.append(shard.events.slots[np.arange(done, last) & (_EVENT_SLOTS - 1)])
        advance(shard.events, 0, last)
    if reader_cursor(shard.verdicts, 0) < until:
        raise BenchFailedError(f"the matcher stands still after slot {reader_cursor(shard.verdicts, 0)}")
    return np.concatenate(taken)


def measure(plan: Plan, slots: np.ndarray, prefill: int) -> tuple[np.ndarray, float, Results]:
    """Nanoseconds of each stretch and CPU seconds of what comes after the prefill."""
    shard = _fresh(plan, slots)
    _drive(shard, prefill)
    began_cpu_ns = time.thread_time_ns()
    stretches_ns = timed_stretches(lambda until: _drive(shard, until), prefill, len(slots))
    return stretches_ns, (time.thread_time_ns() - began_cpu_ns) / 1e9, _results(shard)


def timed_stretches(drive: Callable[[int], None], begin: int, end: int) -> np.ndarray:
    """int64[n]: nanoseconds of each call of ``drive`` with the next slot to come to, from ``begin`` to ``end``."""
    marks = [time.perf_counter_ns()]
    for until in [*range(begin + STRETCH_SLOTS, end, STRETCH_SLOTS), end]:
        drive(until)
        marks.append(time.perf_counter_ns())
    return np.diff(np.array(marks, dtype=np.int64))


def _results(shard: Shard) -> Results:
    return Results(int(shard.arrays.meta[EVENT_HASH]), int(books_hash(shard.state)))


def _check(plan: Plan, slots: np.ndarray) -> tuple[Results, int, str]:
    """A run whose trades and book are compared with the expected results; what it gave, in hashes."""
    shard = _fresh(plan, slots)
    events = _events_of(shard, len(slots))
    if (events["kind"] == e.EV_REJECTED).any():
        refused = events[events["kind"] == e.EV_REJECTED][0]
        raise BenchFailedError(f"{plan.path}: the book refused slot {refused['seq']} with reason {refused['reason']}")
    fills = events[events["kind"] == e.EV_FILL]
    maker = _recorded(plan, fills["order_id"])
    taker = _recorded(plan, slots["order_id"][fills["seq"] - 1])
    price, qty = (fills[name].astype(np.uint64) for name in ("price_ticks", "qty_lots"))
    terms = maker * np.uint64(31) + taker * np.uint64(17) + price * np.uint64(7) + qty
    trade_hash = fold(HASH_START, terms)
    actual: dict[str, Any] = {
        "trades": len(fills),
        "volume": int(fills["qty_lots"].sum()),
        "turnover": int(fills["qty_lots"].astype(object) @ fills["price_ticks"].astype(object)) if len(fills) else 0,
        "hash": str(trade_hash),
        **book_summary(shard.state, 1)._asdict(),  # type: ignore[arg-type] # a bundle has the same members
    }
    return _results(shard), trade_hash, _compare(plan, actual)


def _recorded(plan: Plan, order_ids: np.ndarray) -> np.ndarray:
    return plan.recorded_ids[np.searchsorted(plan.order_ids, order_ids)]


def _compare(plan: Plan, actual: dict[str, Any]) -> str:
    file = expected_file(plan.path)
    if not file.exists():
        return f"nothing: there is no {file.name} beside the flow"
    wanted = json.loads(file.read_text(encoding="utf-8"))["checkpoints"].get(str(plan.messages))
    if wanted is None:
        return f"nothing: {file.name} has no checkpoint at {plan.messages} messages"
    for key, value in wanted.items():
        if actual[key] != value:
            raise BenchFailedError(f"{plan.path}: {key} should be {value}, the matcher gave {actual[key]}")
    return f"checkpoint at {plan.messages} messages"


def _build_limit(directory: Path) -> Path | None:
    compiler = shutil.which("gcc")
    if compiler is None or not _LIMIT.exists():
        return None
    program = directory / "book_limit"
    subprocess.run([compiler, "-O3", "-march=native", "-o", str(program), str(_LIMIT)], check=True)
    return program


def _measure_program(program: Path, file: Path, directory: Path, trade_hash: int) -> tuple[np.ndarray, float] | None:
    """Nanoseconds of each stretch and CPU seconds of another book; None for a flow that it cannot hold."""
    plain = file
    if file.suffix == ".gz":
        plain = directory / file.stem
        if not plain.exists():
            plain.write_bytes(gzip.decompress(file.read_bytes()))
    done = subprocess.run([str(program), str(plain), "1"], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == _CANNOT:
        return None
    if done.returncode:
        raise BenchFailedError(done.stderr.strip())
    _, used_ns, _, found, *stretches_ns = (int(word) for word in done.stdout.split())
    if found != trade_hash & _MASK:
        raise BenchFailedError(f"{file}: {program.name} has trade hash {found}, the matcher {trade_hash}")
    return np.array(stretches_ns, dtype=np.int64), used_ns / 1e9
