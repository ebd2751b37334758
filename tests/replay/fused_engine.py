"""A plan through the fused engine: the sequencer's virtual clock is done by hand, the rest is the product's."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cambist.replay import report, truth
from cambist.replay.collect import Collector
from cambist.replay.plan import Plan
from persistence.fused import FusedEngine
from protocol import build
from protocol.instance import Engine
from risk import state as risk_state


def sequenced(slots: np.ndarray) -> np.ndarray:
    """Slots as the sequencer stamps them for a fresh home: seq is the source's number, ts the head's entry time."""
    out = slots.copy()
    heads = build.heads(out)
    if len(out):
        out["ts_ns"] = out["entry_ts_ns"][heads][np.cumsum(heads) - 1]
    return out


def ledger_of(engine: FusedEngine) -> report.Ledger:
    """Balances of risk's tables."""
    risk: Any = engine.risk

    def balance(account: int, asset: int) -> tuple[int, int]:
        row = (account * len(risk.assets) + asset) * risk_state.BALANCE_WORDS
        return int(risk.balances[row + risk_state.FREE]), int(risk.balances[row + risk_state.LOCKED])

    return report.Ledger(
        balance,
        lambda asset: int(risk.assets[asset]["fee_units"]),
        lambda asset: int(risk.assets[asset]["net_deposits_units"]),
    )


class FusedRun:
    """Engine, collector and report of one plan."""

    def __init__(self, plan: Plan, shards: int = 1, on_outcomes: Callable[[np.ndarray], None] | None = None) -> None:
        probes, depth = truth.probes_for(plan)
        self.plan = plan
        self.collector = Collector(plan, probes=probes, depth=depth)
        self.engine = FusedEngine(Engine(shards=shards, limits=plan.limits))

        def take(outcomes: np.ndarray) -> None:
            self.collector.feed(outcomes)
            if on_outcomes is not None:
                on_outcomes(outcomes)

        self._take = take
        if plan.clock == "verbatim":
            self.engine.feed(plan.commands, take)
        else:
            self.engine.feed(sequenced(plan.setup), take)
            self.engine.feed(sequenced(plan.commands), take)
        self.collector.finish()
        self.report = report.build_report(
            plan,
            self.collector,
            ledger_of(self.engine),
            timing=report.Timing(1.0, "fused"),
            state_hash=str(self.engine.hashes()["state"]),
        )

    def teardown(self) -> None:
        """Send what the plan ends with."""
        self.engine.feed(sequenced(self.plan.teardown), self._take)
