"""Time from sending one order to its outcome, one at a time through an exchange that does nothing else.

A closed loop: the next order is sent when the outcome of the one before has come, so that nothing queues, and what a
loaded exchange adds is not in it. ``settled`` is until the outcome is on the ring, ``durable`` until the journal has
the order on disk as well. The flow and its prefill are those of w1; the state reached is compared with that of the
fused engine. Limits, measured in turn: a cache line to and fro between two processes, and a bare write and sync.
Not measured: gateways and networks; a client that sleeps instead of looking again and again for some 50 us.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import numpy as np
from hdrh.histogram import HdrHistogram

from cambist.benches import flows, live
from cambist.benches.kernels import round_trips
from cambist.benches.limits import BareFile, ping_pong_ns
from cambist.benches.rows import BenchFailedError, Row, Task, histogram, percentiles_of, row
from cambist.launch import Launched
from cambist.replay.plan import Plan
from persistence.fused import FusedEngine
from persistence.journal.layout import BLOCK_BYTES
from protocol import board as b
from protocol import enums as e
from protocol.readers import OUTCOME_COLLECTOR

_NS: Final = 1e9
_TOPOLOGIES: Final = ("split", "fused")
_AT_ONCE: Final = 100
"""Orders between two looks at the clock that ends a run."""


class _Kind(NamedTuple):
    name: str
    durable: bool
    orders: int
    limit: str
    longest_s: float


class _Times:
    """Histograms and CPU seconds of one case, a run at a time."""

    def __init__(self) -> None:
        self.all: HdrHistogram = histogram(())
        self.limits: HdrHistogram = histogram(())
        self.medians: list[float] = []
        self.cpu_s: list[float] = []
        self.orders = 0

    def add(self, times_ns: np.ndarray, cpu_s: float, limits_ns: np.ndarray) -> None:
        """Note a run."""
        for into, found in ((self.all, times_ns), (self.limits, limits_ns)):
            into.add(histogram(found.tolist()))
        self.medians.append(float(np.median(times_ns)))
        self.cpu_s.append(cpu_s)
        self.orders += len(times_ns)


def run(task: Task) -> list[Row]:
    """Rows for settled and durable, split and fused."""
    rows = []
    for name, file in flows.files(task, "w1").items():
        plan = flows.plan_of(file)
        prefill = flows.prefill_slots(plan)
        kinds = _kinds(task, len(plan.commands) - prefill)
        for topology in _TOPOLOGIES:
            orders = ", ".join(f"{kind.orders:,} {kind.name}" for kind in kinds)
            task.progress(f"latency {name} {topology}: up to {orders} orders, {task.runs} runs")
            rows += _measure(task, name, plan, prefill, kinds, topology)
    return rows


def _kinds(task: Task, available: int) -> tuple[_Kind, _Kind]:
    """What a run sends; fewer orders each where the flow is short."""
    wanted = (task.sizes.latency_settled, task.sizes.latency_durable)
    share = min(1.0, available / (task.runs * sum(wanted)))
    settled, durable = (int(count * share) for count in wanted)
    if min(settled, durable) < 1:
        raise BenchFailedError(f"a flow of {available} messages behind its prefill is too short for {task.runs} runs")
    ping = "median of a cache line's round trip between two processes, in turn with it"
    sync = "median of a bare pwrite and fdatasync of 4 KiB, in turn with it"
    longest_s = task.sizes.latency_s
    return _Kind("settled", False, settled, ping, longest_s), _Kind("durable", True, durable, sync, longest_s)


def _measure(task: Task, name: str, plan: Plan, prefill: int, kinds: tuple[_Kind, _Kind], topology: str) -> list[Row]:
    last = prefill + task.runs * sum(kind.orders for kind in kinds)
    if (plan.commands["flags"][:last] & e.FLAG_MORE).any():
        raise BenchFailedError(f"{plan.path}: has commands longer than a slot; this bench sends one slot at a time")
    home = task.directory / topology
    engine = live.engine_of(plan, topology)
    times = {kind.name: _Times() for kind in kinds}
    bare = BareFile(task.directory / f"bare-{topology}")
    with live.exchange(home, live.settings(plan, topology, 1)) as launched:
        client = live.Client(home, int(launched.summary["epoch"]), engine)
        client.send(plan.setup)
        client.send(plan.commands[:prefill])
        at = prefill
        for _ in range(task.runs):
            for kind in kinds:
                took_ns, cpu_s = _round_trips(client, launched, plan.commands[at : at + kind.orders], kind)
                at += len(took_ns)
                times[kind.name].add(took_ns, cpu_s, _limit_ns(task, bare, kind))
        hashes = client.hashes()
    bare.close()
    _compare(plan, at, hashes, f"{name} {topology}")
    return [
        row(
            "latency",
            f"{name}_{topology}_{kind.name}",
            "p50_ns",
            "ns",
            times[kind.name].medians,
            times[kind.name].cpu_s,
            (kind.limit, int(times[kind.name].limits.get_value_at_percentile(50))),
            percentiles_of(times[kind.name].all),
            orders=times[kind.name].orders,
            limit_percentiles_ns=percentiles_of(times[kind.name].limits),
            result_hash=str(hashes["state"]),
            compared="the fused engine after the same commands",
        )
        for kind in kinds
    ]


def _round_trips(client: live.Client, launched: Launched, slots: np.ndarray, kind: _Kind) -> tuple[np.ndarray, float]:
    """Times in ns of the orders that there was time for, and CPU seconds of all processes."""
    took_ns = np.zeros(len(slots), dtype=np.int64)

    def send(first: int, last: int) -> int:
        rings = client.ingress, client.outcomes, OUTCOME_COLLECTOR, client.board, b.LINE_REPLAY
        return int(round_trips(*rings, slots[first:last], kind.durable, took_ns[first:last]))

    # Compiled before the clock runs.
    send(0, 0)
    before = live.cpu_ns_of(launched)
    end_s = time.monotonic() + kind.longest_s
    done = 0
    while done < len(slots) and (done == 0 or time.monotonic() < end_s):
        last = min(done + _AT_ONCE, len(slots))
        done += send(done, last)
        if done != last:
            raise BenchFailedError(f"the engine gave no outcome of order {done + 1} of {len(slots)}")
    cpu_s = sum(live.spent(before, live.cpu_ns_of(launched)).values()) / _NS
    client.wait_for(int(slots["seq"][done - 1]))
    return took_ns[:done], cpu_s


def _limit_ns(task: Task, bare: BareFile, kind: _Kind) -> np.ndarray:
    if not kind.durable:
        return ping_pong_ns(task.sizes.pings)
    return np.array([bare.write(BLOCK_BYTES) for _ in range(max(1, kind.orders // 2))], dtype=np.int64)


def _compare(plan: Plan, commands: int, hashes: dict[str, int], what: str) -> None:
    """The live state must be that of the fused engine after the same commands."""
    engine = FusedEngine(live.engine_of(plan))
    engine.feed(flows.sequenced(plan)[: len(plan.setup) + commands])
    expected = engine.hashes()
    wrong = [key for key in expected if expected[key] != hashes[key]]
    if wrong:
        raise BenchFailedError(f"{what}: live and fused differ in {', '.join(wrong)}")
