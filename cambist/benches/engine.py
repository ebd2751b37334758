"""Messages per second of reserve, match and settle in one thread: the fused engine on private rings.

The commands lie in the command ring before the clock runs; accounts are funded by deposits. With client order ids every
new order has one of its own, in a second slot of its group. The first run is not timed: its outcomes are read and
compared with the expected results; later ones must give its state and outcomes again. The limit is the matcher's
kernel on the same messages in the same run. Not measured: sequencer, journal, hand-off.
"""

from __future__ import annotations

import statistics
import time
from typing import Final

import numpy as np

from cambist.benches import flows, matcher, variants
from cambist.benches.rows import BenchFailedError, Row, Task, row, undisturbed_per_s
from cambist.replay import report, truth
from cambist.replay.collect import Collector
from cambist.replay.plan import Plan
from persistence.fused import FusedEngine
from protocol.enums import FLAG_MORE
from protocol.instance import Engine
from protocol.records import COMMAND_DTYPE
from ringbuf.ring import private_ring, publish
from risk.views import copy_balance

_READERS: Final = 2
"""Of the command ring: risk and one matcher."""


def run(task: Task) -> list[Row]:
    """Rows for w1, or for the flow, as it is and with a client order id in every new order."""
    rows = []
    for name, file in flows.files(task, "w1").items():
        plan = flows.plan_of(file)
        alone = matcher.numbered(plan) if plan.format == "xflow001" else None
        rows.append(_case(task, name, plan, plan, alone))
        if plan.clock == "virtual":
            rows.append(_case(task, f"{name}_client_ids", variants.with_client_ids(plan), plan, alone))
    return rows


def _case(task: Task, name: str, plan: Plan, plain: Plan, alone: np.ndarray | None) -> Row:
    """Measure ``plan``, which brings the messages of ``plain``; ``alone`` are those for the matcher's kernel."""
    slots = flows.sequenced(plan)
    untimed_slots = flows.prefill_slots(plan)
    prefill = flows.prefill_slots(plain)
    messages = flows.timed_messages(plain, prefill)
    task.progress(f"engine {name}: {messages:,} messages, {task.runs} runs")
    right, compared = check(plan, slots)
    rates, cpu_rates, cpu_s, limits, stretches = [], [], [], [], []
    for _ in range(task.runs):
        if alone is not None:
            limits.append(messages * 1e9 / matcher.measure(plain, alone, prefill + 1)[0].sum())
        stretches_ns, used_s, hashes = _measure(plan, slots, len(plan.setup) + untimed_slots)
        took_s = stretches_ns.sum() / 1e9
        stretches.append(stretches_ns)
        if hashes != right:
            wrong = ", ".join(key for key in right if hashes[key] != right[key])
            raise BenchFailedError(f"{name}: a run gave other results than the one that was checked: {wrong}")
        rates.append(messages / took_s)
        cpu_rates.append(messages / used_s)
        cpu_s.append(used_s)
    limit = ("the matcher's kernel alone, in turn with it", statistics.median(limits)) if limits else None
    return row(
        "engine",
        name,
        "messages_per_s",
        "1/s",
        rates,
        cpu_s,
        limit,
        messages=messages,
        wall_median=statistics.median(messages / rate for rate in rates),
        slots=len(plan.commands) - untimed_slots,
        undisturbed_per_s=undisturbed_per_s(messages, stretches),
        messages_per_cpu_s=statistics.median(cpu_rates),
        result_hash=str(right["state"]),
        compared=compared,
    )


def _measure(plan: Plan, slots: np.ndarray, untimed: int) -> tuple[np.ndarray, float, dict[str, int]]:
    """Nanoseconds of each stretch, CPU seconds and hashes; the first ``untimed`` slots are done before the clock runs."""
    commands = private_ring(COMMAND_DTYPE, flows.power_of_two(len(slots)), n_readers=_READERS)
    commands.slots[: len(slots)] = slots
    engine = FusedEngine(Engine(limits=plan.limits), commands=commands)
    _advance_to(engine, untimed)
    began_cpu_ns = time.thread_time_ns()
    stretches_ns = matcher.timed_stretches(lambda seq: _advance_to(engine, seq), untimed, len(slots))
    return stretches_ns, (time.thread_time_ns() - began_cpu_ns) / 1e9, engine.hashes()


def _advance_to(engine: FusedEngine, seq: int) -> None:
    """Settle all up to the command that the slot ``seq`` belongs to, at least."""
    while engine.commands.slots["flags"][seq - 1] & FLAG_MORE:
        seq += 1
    engine.last_seq = seq
    publish(engine.commands, seq)
    engine.step_until_settled()


def check(plan: Plan, slots: np.ndarray) -> tuple[dict[str, int], str]:
    """Hashes of a run whose outcomes were read and found right, and with what they were compared."""
    probes, depth = truth.probes_for(plan)
    collector = Collector(plan, probes=probes, depth=depth)
    engine = FusedEngine(Engine(limits=plan.limits))
    engine.feed(slots, collector.feed)
    collector.finish()
    found = report.build_report(
        plan, collector, ledger_of(engine), timing=report.Timing(0.0, "fused"), state_hash=str(engine.hashes()["state"])
    )
    if found["differences"]:
        raise BenchFailedError(f"{plan.path}: {found['differences'][0]}")
    return engine.hashes(), found.get("expected", "nothing: there are no expected results beside the flow")


def ledger_of(engine: FusedEngine) -> report.Ledger:
    """Balances, fees and deposits of a fused engine."""
    out = np.zeros(3, dtype=np.int64)

    def balance(account: int, asset: int) -> tuple[int, int]:
        copy_balance(engine.risk, account, asset, out)
        return int(out[0]), int(out[1])

    assets = engine.risk.assets
    return report.Ledger(
        balance, lambda asset: int(assets[asset]["fee_units"]), lambda asset: int(assets[asset]["net_deposits_units"])
    )
