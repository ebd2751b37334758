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
from typing import Any, Final

import numpy as np

from cambist.benches import flows, shards
from cambist.benches.machine import ROOT
from cambist.benches.rows import NO_COMPILER, BenchFailedError, Row, Task, row, undisturbed_per_s
from cambist.replay.collect import HASH_START, fold
from cambist.replay.plan import Plan
from cambist.replay.report import expected_file
from matcher.views import book_summary
from protocol import enums as e

STRETCH_SLOTS: Final = 1 << 12
"""Slots that are timed together; shorter than what disturbs them mostly, and long against the reading of a clock."""
_MASK: Final = (1 << 64) - 1
_LIMIT: Final = ROOT / "bench" / "peers" / "book_limit.c"
PARTS: Final = ("SLOTS", "IDS", "ACCOUNTS", "EVENTS", "FOLD")
"""What the limit in C leaves out, in the order in which the distance to it is taken apart; its source says what each is."""
_CANNOT: Final = 3
"""Exit status of another book for a flow that it is too small for."""


def run(task: Task) -> list[Row]:
    """A row a workload."""
    limit = _build_limit(task.directory, ())
    parts = [_build_limit(task.directory, PARTS[: k + 1]) for k in range(len(PARTS))]
    programs = [program for program in (limit, *parts) if program is not None]
    return [_case(task, name, file, programs) for name, file in flows.files(task, *flows.WORKLOADS).items()]


def _case(task: Task, name: str, file: Path, own: list[Path]) -> Row:
    """``own``: the limit in C, and the same with one part after the other; empty without a compiler."""
    plan = flows.plan_of(file)
    if plan.format != "xflow001":
        raise BenchFailedError(f"{file}: is {plan.format}; this bench takes XFLOW001 files, one book without accounts")
    prefill = flows.prefill_slots(plan) + 1
    slots = numbered(plan)
    messages = flows.timed_messages(plan, prefill - 1)
    task.progress(f"matcher {name}: {messages:,} messages, {task.runs} runs")
    right, trade_hash, compared = check(plan, slots)
    ours = _Timed(messages)
    others: dict[Path, _Timed] = {}
    for _ in range(task.runs):
        for program in (*own, *task.peers):
            if times := _measure_program(program, file, task.directory, trade_hash):
                others.setdefault(program, _Timed(messages)).add(*times)
        stretches_ns, used_s, results = measure(plan, slots, prefill)
        if results != right:
            raise BenchFailedError(f"{name}: two runs over the same messages gave different events or books")
        ours.add(stretches_ns, used_s)
    in_c = [others.pop(program) for program in own if program in others]
    found = in_c[0] if in_c else None
    what = "the same flow through a bare tick ladder in C, in turn with it"
    bound = (what, found.median) if found else None
    result = row("matcher", name, "messages_per_s", "1/s", ours.rates, ours.cpu_s, bound)
    result |= {"messages": messages, **ours.summary()}
    result["wall_median"] = statistics.median(messages / rate for rate in ours.rates)
    if not own:
        result["note"] = NO_COMPILER
    if found:
        result["limit"] |= found.summary()
        result["share_of_limit"] = result["median"] / found.median
        result["distance_ns"] = distance_ns(ours, in_c)
    if others:
        result["peers"] = {
            program.name: {"median": timed.median, "times": ours.median / timed.median, **timed.summary()}
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

    @property
    def median(self) -> float:
        """Messages a second."""
        return statistics.median(self.rates)

    @property
    def undisturbed_ns(self) -> float:
        """Nanoseconds a message without other work of the machine."""
        return 1e9 / undisturbed_per_s(self._messages, self._stretches)

    def summary(self) -> dict[str, float]:
        """What does not depend on other work of the machine."""
        return {
            "messages_per_cpu_s": self._messages / statistics.median(self.cpu_s),
            "undisturbed_per_s": undisturbed_per_s(self._messages, self._stretches),
        }


def distance_ns(ours: _Timed, in_c: list[_Timed]) -> dict[str, float]:
    """Undisturbed nanoseconds a message: of the limit, what each part adds to it, and what is left to the kernel.

    ``in_c``: the limit, and the limit with the first of ``PARTS``, the first two, and so on.
    """
    took = [timed.undisturbed_ns for timed in in_c]
    added = {part.lower(): took[k + 1] - took[k] for k, part in enumerate(PARTS)}
    return {"limit": took[0], **added, "the rest": ours.undisturbed_ns - took[-1], "kernel": ours.undisturbed_ns}


def numbered(plan: Plan) -> np.ndarray:
    """The listing of the one instrument, then the commands, numbered from 1."""
    instrument = plan.instruments[0]
    slots = np.concatenate([shards.listing(1, instrument.multiplier, instrument.lot_atoms), plan.commands])
    slots["seq"] = np.arange(1, len(slots) + 1)
    return slots


def _fresh(plan: Plan, slots: np.ndarray) -> shards.Shard:
    shard = shards.fresh(plan.limits, flows.power_of_two(len(slots)))
    shards.put(shard, slots)
    return shard


def measure(plan: Plan, slots: np.ndarray, prefill: int) -> tuple[np.ndarray, float, shards.Results]:
    """Nanoseconds of each stretch and CPU seconds of what comes after the prefill."""
    shard = _fresh(plan, slots)
    shards.drive(shard, prefill)
    began_cpu_ns = time.thread_time_ns()
    stretches_ns = timed_stretches(lambda until: shards.drive(shard, until), prefill, len(slots))
    return stretches_ns, (time.thread_time_ns() - began_cpu_ns) / 1e9, shards.results(shard)


def timed_stretches(drive: Callable[[int], None], begin: int, end: int) -> np.ndarray:
    """int64[n]: nanoseconds of each call of ``drive`` with the next slot to come to, from ``begin`` to ``end``."""
    marks = [time.perf_counter_ns()]
    for until in [*range(begin + STRETCH_SLOTS, end, STRETCH_SLOTS), end]:
        drive(until)
        marks.append(time.perf_counter_ns())
    return np.diff(np.array(marks, dtype=np.int64))


def check(plan: Plan, slots: np.ndarray) -> tuple[shards.Results, int, str]:
    """A run whose trades and book are compared with the expected results; what it gave, in hashes."""
    shard = _fresh(plan, slots)
    events = shards.events_of(shard, len(slots))
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
    return shards.results(shard), trade_hash, _compare(plan, actual)


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


def _build_limit(directory: Path, parts: tuple[str, ...]) -> Path | None:
    compiler = shutil.which("gcc")
    if compiler is None or not _LIMIT.exists():
        return None
    program = directory / "_".join(("book_limit", *(part.lower() for part in parts)))
    flags = [f"-D{part}" for part in parts]
    subprocess.run([compiler, "-O3", "-march=native", *flags, "-o", str(program), str(_LIMIT)], check=True)
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
