"""Time from one order to its outcome, through an exchange that does nothing else; and how it grows with the load.

``settled`` is until the outcome is on the ring: without the disk, when a gateway of an exchange with durability "async"
speaks. ``durable`` is until the journal has the order on disk as well.

*Closed loop*: the next order is sent when the outcome of the one before has come, so that nothing queues; and the same
with a pause before each order (``paused``), in which every process goes to sleep. *Open loop*: orders are sent by a
time-table, at a rate, evenly or as a Poisson process (seeded), whatever became of those before, and times count from
when an order was to be sent, so that a stall is counted against every order that it delayed. Each rate is offered
once, for long enough that rings cannot hide a backlog, and they rise until one is not kept up with. The flow and its
prefill are those of w1; the state reached is compared with that of the fused engine.

Limits, measured in turn: a cache line to and fro between two processes, waking a process that sleeps, a bare write and
sync, one after the other and, for orders that come with pauses, with the same pauses: a disk and a processor that
rested answer later. Not measured: gateways and networks, and waking the client, which looks again and again and gives
its processor away between (a client that sleeps waits for one more wake).
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

import numpy as np
from hdrh.histogram import HdrHistogram

from cambist.benches import flows, live
from cambist.benches.kernels import PING_WORDS, open_loop, round_trips
from cambist.benches.limits import BareFile, ping_pong_ns, wake_ns
from cambist.benches.rows import BenchFailedError, Row, Task, histogram, percentiles_of, row
from cambist.launch import Launched
from cambist.replay.plan import Plan
from persistence.fused import FusedEngine
from persistence.journal.layout import BLOCK_BYTES
from protocol import enums as e

_NS: Final = 1e9
_TOPOLOGIES: Final = ("split", "fused")
_AT_ONCE: Final = 100
"""Orders between two looks at the clock that ends a run."""
_KEPT_UP: Final = 0.9
"""Share of the offered rate at which an exchange still keeps up."""
SPACINGS: Final = ("even", "poisson")
_SEED: Final = 1
_LIMITS: Final = {
    "ping_pong": "median of a cache line's round trip between two processes, in turn with it",
    "futex_wake": "median of waking a sleeping process on another CPU, in turn with it",
    "fdatasync": "median of a bare pwrite and fdatasync of 4 KiB, in turn with it",
    "fdatasync_paused": "median of a bare pwrite and fdatasync of 4 KiB, each after a pause, in turn with it",
}


class _Kind(NamedTuple):
    """One way of sending one order at a time."""

    name: str
    durable: bool
    pause_ns: int
    orders: int
    limit: str


class _Rate(NamedTuple):
    """One rate that is offered."""

    spacing: str
    per_s: int
    orders: int

    @property
    def name(self) -> str:
        return f"open_{self.spacing}_{self.per_s}"


class _Times:
    """What the runs of one case gave."""

    def __init__(self) -> None:
        self.all: HdrHistogram = histogram()
        self.settled: HdrHistogram = histogram()
        self.medians: list[float] = []
        self.cpu_s: list[float] = []
        self.wall_s: list[float] = []
        self.achieved_per_s = 0.0
        self.orders = 0

    def add(self, times_ns: np.ndarray, cpu_s: float, wall_s: float) -> None:
        """Note a run."""
        self.all.add(histogram(times_ns))
        self.medians.append(float(np.median(times_ns)))
        self.cpu_s.append(cpu_s)
        self.wall_s.append(wall_s)
        self.orders += len(times_ns)


class _Machine:
    """What the machine allows, measured again and again between the runs."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._bare = BareFile(task.directory / "bare")
        self.times = {name: _Times() for name in _LIMITS}

    def measure(self, syncs: int) -> None:
        """Measure each once."""
        sizes = self._task.sizes
        for name, measured in (
            ("ping_pong", lambda: ping_pong_ns(sizes.pings)),
            ("futex_wake", lambda: wake_ns(sizes.wakes)),
            ("fdatasync", lambda: self._syncs(syncs, 0)),
            ("fdatasync_paused", lambda: self._syncs(syncs, sizes.pause_ns)),
        ):
            began_s, cpu_s = time.perf_counter(), time.process_time()
            times_ns = measured()
            self.times[name].add(times_ns, time.process_time() - cpu_s, time.perf_counter() - began_s)

    def _syncs(self, syncs: int, pause_ns: int) -> np.ndarray:
        times_ns = np.zeros(syncs, dtype=np.int64)
        for i in range(syncs):
            time.sleep(pause_ns / _NS)
            times_ns[i] = self._bare.write(BLOCK_BYTES)
        return times_ns

    def median_ns(self, name: str) -> int:
        """Of all measurements of one limit."""
        return int(self.times[name].all.get_value_at_percentile(50))

    def rows(self) -> list[Row]:
        """A row a limit; the CPU seconds are this process's."""
        self._bare.close()
        return [_row(f"machine_{name}", times, None, what=_LIMITS[name]) for name, times in self.times.items()]


def run(task: Task) -> list[Row]:
    """Rows for each way of sending, split and fused, and for the machine's limits."""
    rows = []
    for name, file in flows.files(task, "w1", messages=task.sizes.live_messages).items():
        plan = flows.plan_of(file)
        prefill = flows.prefill_slots(plan)
        kinds, rates = _share(task, len(plan.commands) - prefill)
        machine = _Machine(task)
        for topology in _TOPOLOGIES:
            task.progress(f"latency {name} {topology}: {_what(kinds, rates)}, {task.runs} runs")
            rows += _measure(task, plan, f"{name}_{topology}", (kinds, rates), topology, machine)
        rows += machine.rows()
    return rows


def _what(kinds: list[_Kind], rates: list[_Rate]) -> str:
    orders = ", ".join(f"{kind.orders:,} {kind.name}" for kind in kinds)
    return f"up to {orders} orders a run; {len(rates)} rates up to {max(rate.per_s for rate in rates):,}/s"


def _share(task: Task, available: int) -> tuple[list[_Kind], list[_Rate]]:
    """What a run sends; fewer orders each where the flow is short."""
    sizes = task.sizes
    wanted = [
        _Kind("settled", False, 0, sizes.latency_settled, "ping_pong"),
        _Kind("durable", True, 0, sizes.latency_durable, "fdatasync"),
        _Kind("paused_settled", False, sizes.pause_ns, sizes.latency_paused, "futex_wake"),
        _Kind("paused_durable", True, sizes.pause_ns, sizes.latency_paused, "fdatasync_paused"),
    ]
    offered = [
        _Rate(spacing, per_s, min(sizes.open_orders_max, max(1, int(per_s * sizes.open_s))))
        for spacing in SPACINGS
        for per_s in sizes.open_rates
    ]
    orders = task.runs * sum(kind.orders for kind in wanted) + sum(rate.orders for rate in offered)
    share = min(1.0, available / orders)
    kinds = [kind._replace(orders=int(kind.orders * share)) for kind in wanted]
    rates = [rate._replace(orders=int(rate.orders * share)) for rate in offered]
    if min([*(kind.orders for kind in kinds), *(rate.orders for rate in rates)]) < 1:
        raise BenchFailedError(f"a flow of {available} messages behind its prefill is too short for {task.runs} runs")
    return kinds, rates


def _measure(
    task: Task, plan: Plan, name: str, sent: tuple[list[_Kind], list[_Rate]], topology: str, machine: _Machine
) -> list[Row]:
    kinds, rates = sent
    if (plan.commands["flags"] & e.FLAG_MORE).any():
        raise BenchFailedError(f"{plan.path}: has commands longer than a slot; this bench sends one slot at a time")
    home = task.directory / topology
    times = {one: _Times() for one in [*(kind.name for kind in kinds), *(rate.name for rate in rates)]}
    with live.exchange(home, live.settings(plan, topology, 1)) as launched:
        client = live.Client(home, int(launched.summary["epoch"]), live.engine_of(plan, topology), rung=True)
        client.send(plan.setup)
        at = flows.prefill_slots(plan)
        client.send(plan.commands[:at])
        for _ in range(task.runs):
            machine.measure(max(1, kinds[1].orders // 8))
            for kind in kinds:
                at += _closed(client, launched, plan.commands[at : at + kind.orders], kind, task, times[kind.name])
        for spacing in SPACINGS:
            for rate in (rate for rate in rates if rate.spacing == spacing):
                kept_up = _open(client, launched, plan.commands[at : at + rate.orders], rate, times[rate.name])
                at += rate.orders
                if kept_up < _KEPT_UP:
                    break
        hashes = client.hashes()
    _compare(plan, at, hashes, name)
    checked = {"result_hash": str(hashes["state"]), "compared": "the fused engine after the same commands"}
    limits = {one: (what, machine.median_ns(one)) for one, what in _LIMITS.items()}
    rows = [_row(f"{name}_{kind.name}", times[kind.name], limits[kind.limit], **checked) for kind in kinds]
    for rate in rates:
        found_times = times[rate.name]
        if found_times.orders:
            more = {
                "offered_per_s": rate.per_s,
                "achieved_per_s": found_times.achieved_per_s,
                "settled_percentiles_ns": percentiles_of(found_times.settled),
            }
            rests = _NS / rate.per_s >= task.sizes.pause_ns
            limit = limits["fdatasync_paused" if rests else "fdatasync"]
            rows.append(_row(f"{name}_{rate.name}", found_times, limit, **checked, **more))
    return rows


def _row(case: str, times: _Times, limit: tuple[str, float] | None, **more: Any) -> Row:
    percentiles = percentiles_of(times.all)
    wall_s = float(np.median(times.wall_s))
    return row(
        "latency", case, "p50_ns", "ns", times.medians, times.cpu_s, limit, percentiles,
        orders=times.orders, wall_median=wall_s, **more,
    )  # fmt: skip


def _closed(client: live.Client, launched: Launched, slots: np.ndarray, kind: _Kind, task: Task, times: _Times) -> int:
    """Send one order at a time for as long as there is time; how many."""
    took_ns = np.zeros(len(slots), dtype=np.int64)
    naps = np.zeros(PING_WORDS, dtype=np.int64)

    def send(first: int, last: int) -> int:
        trips = slots[first:last], kind.durable, kind.pause_ns, took_ns[first:last]
        return int(round_trips(*client.rings, naps, *trips))

    # Compiled before the clock runs.
    send(0, 0)
    before = live.cpu_ns_of(launched)
    began_s = time.monotonic()
    done = 0
    while done < len(slots) and (done == 0 or time.monotonic() < began_s + task.sizes.latency_s):
        last = min(done + _AT_ONCE, len(slots))
        done += send(done, last)
        if done != last:
            raise client.stalled(f"no outcome of order {done + 1} of {len(slots)}")
    wall_s = time.monotonic() - began_s
    times.add(took_ns[:done], _cpu_s(before, launched), wall_s)
    client.await_durable(int(slots["seq"][done - 1]))
    return done


def _open(client: live.Client, launched: Launched, slots: np.ndarray, rate: _Rate, times: _Times) -> float:
    """Offer a rate once; the share of it that was kept up with."""
    n = len(slots)
    chance = np.random.default_rng(_SEED)
    gaps_ns = np.full(n, _NS / rate.per_s) if rate.spacing == "even" else chance.exponential(_NS / rate.per_s, n)
    at_ns = np.cumsum(gaps_ns).astype(np.int64)
    settled_ns, durable_ns = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    naps = np.zeros(PING_WORDS, dtype=np.int64)
    before = live.cpu_ns_of(launched)
    began_s = time.monotonic()
    ingress, outcomes, reader, board, _ = client.rings
    done = int(open_loop(ingress, outcomes, reader, board, naps, slots, at_ns, settled_ns, durable_ns))
    if done != n:
        raise client.stalled(f"no outcome of order {done + 1} of {n} at {rate.per_s:,} a second")
    times.add(durable_ns, _cpu_s(before, launched), time.monotonic() - began_s)
    times.settled.add(histogram(settled_ns))
    last_ns = int((at_ns + settled_ns).max())
    times.achieved_per_s = n * _NS / last_ns
    return int(at_ns[-1]) / last_ns


def _cpu_s(before: dict[str, int], launched: Launched) -> float:
    return sum(live.spent(before, live.cpu_ns_of(launched)).values()) / _NS


def _compare(plan: Plan, commands: int, hashes: dict[str, int], what: str) -> None:
    """The live state must be that of the fused engine after the same commands."""
    engine = FusedEngine(live.engine_of(plan))
    engine.feed(flows.sequenced(plan)[: len(plan.setup) + commands])
    expected = engine.hashes()
    wrong = [key for key in expected if expected[key] != hashes[key]]
    if wrong:
        raise BenchFailedError(f"{what}: live and fused differ in {', '.join(wrong)}")
