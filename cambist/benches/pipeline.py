"""Commands per second through the live processes, from the first one sent to the last one settled and durable.

One exchange a case. A compiled client on the same cores sends what lies ready, a batch at a time, and passes the
outcomes unread; each run is a further part of the flow. The state reached must be that of the fused engine after the
same commands, which conserves money, and whose results for the plain flow are the expected ones. Cases: split, split
with several matchers over as many books, and fused; a tenth of all orders refused; all accounts short of funds; the
size of the batches that the client publishes; and with gateways that do not wait for the disk (``async``), where the
clock stops when all is settled. The limit is the disk's: as many bare writes and syncs of the same size as the journal
made, measured after each run. Not measured: gateways, the replica.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, Final, NamedTuple

from cambist.benches import engine, flows, live, variants
from cambist.benches.limits import BareFile
from cambist.benches.rows import BenchFailedError, Row, Task, row
from cambist.replay.plan import Plan
from persistence.fused import FusedEngine
from protocol import board as b
from risk.state import REFUSALS

_NS: Final = 1e9
_BATCHES: Final = (1, 8, 1024)
"""Beside ``live.BATCH_SLOTS``."""
_BOOKS: Final = 3
SHORT_SHARE: Final = 0.003
"""Of the sum of all of an account's orders, which is what the plain flow gives it."""


class _Flow(NamedTuple):
    """A history, and where the fused engine gets with it."""

    name: str
    plan: Plan
    hashes: dict[str, int]
    compared: str
    refused: int


class _Case(NamedTuple):
    name: str
    flow: _Flow
    topology: str = "split"
    shards: int = 1
    batch: int = live.BATCH_SLOTS
    durability: str = "sync"


class _Run(NamedTuple):
    commands: int
    seconds: float
    cpu_ns: dict[str, int]
    limit_s: float
    """Of bare writes and syncs."""
    syncs: int


def run(task: Task) -> list[Row]:
    """A row a case."""
    rows = []
    for name, file in flows.files(task, "w1", messages=task.sizes.live_messages).items():
        plan = flows.plan_of(file)
        rows += [_measure(task, case) for case in _cases(task, name, plan)]
    return rows


def _cases(task: Task, name: str, plan: Plan) -> list[_Case]:
    task.progress(f"pipeline {name}: {plan.messages:,} messages, checked in the fused engine")
    _, compared = engine.check(plan, flows.sequenced(plan))
    plain = _flow(name, plan, compared)
    cases = [_Case(f"{name}_split", plain), _Case(f"{name}_fused", plain, "fused")]
    if not task.sizes.pipeline_variants or plan.clock == "verbatim":
        return cases
    refused = _flow(f"{name}_refused", variants.with_refused(plan))
    short = _flow(f"{name}_short", variants.short_of_funds(plan, SHORT_SHARE))
    books = _flow(f"{name}x{_BOOKS}", variants.over_instruments(plan, _BOOKS))
    cases += [_Case(f"{flow.name}_{way}", flow, way) for flow in (refused, short) for way in ("split", "fused")]
    cases += [_Case(f"{books.name}_split_{shards}", books, shards=shards) for shards in range(1, _BOOKS + 1)]
    cases += [_Case(f"{name}_split_batch_{batch}", plain, batch=batch) for batch in _BATCHES]
    return [*cases, *(_Case(f"{name}_{way}_async", plain, way, durability="async") for way in ("split", "fused"))]


def _flow(name: str, plan: Plan, compared: str = "") -> _Flow:
    """Run it fused. Raises BenchFailedError where money is not conserved."""
    fused = FusedEngine(live.engine_of(plan))
    fused.feed(flows.sequenced(plan))
    if fused.unbalanced_asset():
        raise BenchFailedError(f"{name}: the fused engine does not conserve asset {abs(fused.unbalanced_asset())}")
    said = "the fused engine after the same commands, and money conserved"
    refused = int(fused.risk.meta[REFUSALS])
    return _Flow(name, plan, fused.hashes(), f"{said}; {compared}" if compared else said, refused)


def _measure(task: Task, case: _Case) -> Row:
    plan = case.flow.plan
    prefill = flows.prefill_slots(plan)
    task.progress(f"pipeline {case.name}: {len(plan.commands) - prefill:,} commands in {task.runs} runs")
    home = task.directory / case.name
    configured = live.settings(plan, case.topology, case.shards, case.durability)
    bare = BareFile(task.directory / f"bare-{case.name}")
    with live.exchange(home, configured) as launched:
        client = live.Client(home, int(launched.summary["epoch"]), live.engine_of(plan, case.topology, case.shards))
        client.send(plan.setup)
        client.send(plan.commands[:prefill])
        runs = []
        for part in flows.parts(plan, prefill, task.runs):
            slots = plan.commands[part]
            journal = _journal(client)
            before = live.cpu_ns_of(launched)
            began_ns = time.perf_counter_ns()
            client.send(slots, case.batch, durable=case.durability == "sync")
            took_ns = time.perf_counter_ns() - began_ns
            cpu_ns = live.spent(before, live.cpu_ns_of(launched))
            syncs, size_bytes = (now - was for now, was in zip(_journal(client), journal, strict=True))
            limit_s = _bare_s(bare, max(1, syncs), size_bytes, task.sizes.syncs_max)
            runs.append(_Run(len(slots), took_ns / _NS, cpu_ns, limit_s, syncs))
        hashes = client.hashes()
        exact_waits = int(client.board[b.EXACT_WAITS])
    bare.close()
    wrong = [key for key, value in case.flow.hashes.items() if hashes[key] != value]
    if wrong:
        raise BenchFailedError(f"{case.name}: live and fused differ in {', '.join(wrong)}")
    return _row(case, runs, {"result_hash": str(hashes["state"]), "exact_waits": exact_waits})


def _row(case: _Case, runs: list[_Run], more: dict[str, Any]) -> Row:
    middle = sorted(runs, key=lambda found: found.commands / found.seconds)[len(runs) // 2]
    what = "bare pwrite and fdatasync of the journal's bytes in as many batches, after each run"
    return row(
        "pipeline",
        case.name,
        "messages_per_s",
        "1/s",
        [found.commands / found.seconds for found in runs],
        [sum(found.cpu_ns.values()) / _NS for found in runs],
        (what, statistics.median(found.commands / found.limit_s for found in runs)),
        messages=sum(found.commands for found in runs),
        refused=case.flow.refused,
        wall_median=statistics.median(found.seconds for found in runs),
        syncs=statistics.median(found.syncs for found in runs),
        cpu_ns_per_message={name: round(ns / middle.commands) for name, ns in middle.cpu_ns.items()},
        compared=case.flow.compared,
        **more,
    )


def _journal(client: live.Client) -> tuple[int, int]:
    return int(client.board[b.JOURNAL_SYNCS]), int(client.board[b.JOURNAL_BYTES])


def _bare_s(bare: BareFile, syncs: int, size_bytes: int, syncs_max: int) -> float:
    """Seconds of so many bare writes and syncs, of ``syncs_max`` in proportion where there were more."""
    done = min(syncs, syncs_max)
    return sum(bare.write(size_bytes // syncs) for _ in range(done)) / _NS * syncs / done
