"""Messages per second through the live processes, from the first one sent to the last one settled and durable.

A replay of the flow in a fresh exchange, whose results are compared with the expected ones; this process sends, reads
every outcome and keeps a book from them, on the same cores. The limit is the disk's: as many bare writes and syncs of
the same size as the journal made, measured after each run. Not measured: gateways, the replica, other symbols.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Final, NamedTuple

from cambist.benches import flows, live
from cambist.benches.limits import BareFile
from cambist.benches.rows import BenchFailedError, Row, Task, row
from cambist.replay import report, truth
from cambist.replay.collect import Collector
from cambist.replay.drive import Driver, ReplayFailed
from cambist.replay.plan import Plan
from protocol import board as b
from protocol.instance import SHARED_MEMORY, instance_name
from ringbuf.board import BoardFile

_NS: Final = 1e9


class _Case(NamedTuple):
    name: str
    topology: str
    shards: int


class _Run(NamedTuple):
    seconds: float
    cpu_ns: dict[str, int]
    limit_s: float
    """Of bare writes and syncs."""
    syncs: int
    state_hash: str
    compared: str


def run(task: Task) -> list[Row]:
    """Rows for split, split with several matchers, and fused."""
    rows = []
    shards = task.sizes.pipeline_shards
    for name, file in flows.files(task, "w1").items():
        plan = flows.plan_of(file)
        cases = [_Case(f"{name}_split", "split", 1), _Case(f"{name}_fused", "fused", 1)]
        if shards > 1:
            cases.insert(1, _Case(f"{name}_split_{shards}", "split", shards))
        found = [_measure_case(task, plan, case) for case in cases]
        if len({result["result_hash"] for result in found}) > 1:
            raise BenchFailedError(f"{name}: the topologies end in different states")
        rows += found
    return rows


def _measure_case(task: Task, plan: Plan, case: _Case) -> Row:
    task.progress(f"pipeline {case.name}: {plan.messages:,} messages, {task.runs} runs")
    runs = [_measure(plan, case, task.directory / f"{case.name}-{k}") for k in range(task.runs)]
    middle = sorted(runs, key=lambda found: found.seconds)[len(runs) // 2]
    what = "bare pwrite and fdatasync of the journal's bytes in as many batches, after each run"
    return row(
        "pipeline",
        case.name,
        "messages_per_s",
        "1/s",
        [plan.messages / found.seconds for found in runs],
        [sum(found.cpu_ns.values()) / _NS for found in runs],
        (what, statistics.median(plan.messages / found.limit_s for found in runs)),
        messages=plan.messages,
        syncs=statistics.median(found.syncs for found in runs),
        cpu_ns_per_message={name: round(ns / plan.messages) for name, ns in middle.cpu_ns.items()},
        result_hash=middle.state_hash,
        compared=middle.compared,
    )


def _measure(plan: Plan, case: _Case, home: Path) -> _Run:
    probes, depth = truth.probes_for(plan)
    collector = Collector(plan, probes=probes, depth=depth)
    configured = live.settings(plan, case.topology, case.shards)
    with live.exchange(home, configured) as launched:
        driver = Driver(plan, home, configured, int(launched.summary["epoch"]), collector)
        board = BoardFile.attach(SHARED_MEMORY / f"cambist-{instance_name(home)}").board
        journal = board[[b.JOURNAL_SYNCS, b.JOURNAL_BYTES]]
        before = live.cpu_ns_of(launched)
        try:
            seconds = driver.play(lambda _: None)
        except ReplayFailed as error:
            raise BenchFailedError(str(error)) from error
        cpu_ns = live.spent(before, live.cpu_ns_of(launched))
        syncs, size_bytes = (int(n) for n in board[[b.JOURNAL_SYNCS, b.JOURNAL_BYTES]] - journal)
        hashes, ledger = driver.state()
    found = report.build_report(
        plan,
        collector,
        ledger,
        timing=report.Timing(seconds, case.topology),
        state_hash=str(hashes["state"]),
    )
    if found["differences"]:
        raise BenchFailedError(f"{case.name}: {found['differences'][0]}")
    compared = found.get("expected", "nothing: there are no expected results beside the flow")
    return _Run(seconds, cpu_ns, _bare_s(home, syncs, size_bytes), syncs, found["state_hash"], compared)


def _bare_s(folder: Path, syncs: int, size_bytes: int) -> float:
    file = BareFile(folder / "bare")
    began_s = time.perf_counter()
    for _ in range(syncs):
        file.write(size_bytes // syncs)
    took_s = time.perf_counter() - began_s
    file.close()
    return took_s
