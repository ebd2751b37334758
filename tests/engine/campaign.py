"""Random whole spot histories (`XFLOW002`) through the naive exchange and through the engine in many variants.

    python -m tests.engine.campaign --profile tight --seed 7 --n 4000 [--variant tiny-3]

runs one seed and prints what was compared; a failing seed says how it is run again. With ``NUMBA_DISABLE_JIT=1`` the
kernels are plain Python.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cambist.replay import report
from cambist.replay.collect import Collector
from cambist.replay.plan import Plan, load
from protocol import build
from protocol.instance import Limits
from risk import state as s
from tests.engine.driver import LIMITS, TINY, Run, Variant, balance, first_difference, sequenced
from tests.flows.xflow2_gen import PROFILES, Flow, generate
from tests.naive.xflow import write_xflow2

PARTS = 4
"""State and hashes are looked at after each so many-th part of a history."""


def variants(seed: int) -> list[Variant]:
    """Every number of shards with settled steps, long steps, random steps and tiny rings; the schedules change with the seed."""
    return [
        Variant("settled", 1, 1),
        Variant("settled-3", 3, 1),
        Variant("steps-7", 1, 7),
        Variant("long", 1, 4096),
        Variant("long-5", 5, 4096),
        Variant("random", 1, schedule=seed * 16 + 1),
        Variant("random-2", 2, schedule=seed * 16 + 2),
        Variant("random-5", 5, schedule=seed * 16 + 3),
        Variant("tiny", 1, 7, rings=TINY),
        Variant("tiny-random", 1, schedule=seed * 16 + 4, rings=TINY),
        Variant("tiny-random-3", 3, schedule=seed * 16 + 5, rings=TINY),
    ]


class History:
    """A generated history with its plan."""

    def __init__(self, profile: str, seed: int, n: int) -> None:
        self.name = f"--profile {profile} --seed {seed} --n {n}"
        self.flow: Flow = generate(profile, seed, n)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "history.bin"
            write_xflow2(file, self.flow.file)
            self.plan: Plan = load(file)
        slots = sequenced(np.concatenate([self.plan.setup, self.plan.commands]), 1)
        starts = np.flatnonzero(build.heads(slots))
        cuts = [0, *starts[[len(starts) * part // PARTS for part in range(1, PARTS)]].tolist(), len(slots)]
        self.parts = [slots[a:b] for a, b in itertools.pairwise(cuts)]

    @property
    def commands(self) -> int:
        """Commands, set-up included."""
        return int(sum(build.heads(part).sum() for part in self.parts))


class HistoryRun:
    """One variant of a history, and what its outcomes say."""

    def __init__(self, history: History, variant: Variant, limits: Limits = LIMITS) -> None:
        self.history = history
        self.collector = Collector(history.plan)
        self.run = Run(variant, limits, self.collector.feed)
        for part in history.parts:
            self.run.feed(part)
        self.collector.finish()
        assert [] == self.collector.faults()

    @property
    def waits(self) -> int:
        """Commands that had to wait for exact state."""
        return int(self.run.engine.risk.meta[s.EXACT_WAITS])

    def money(self) -> dict[str, Any]:
        """Balances, fees and net deposits as risk's tables have them."""
        risk = self.run.engine.risk
        ledger = report.Ledger(
            lambda account, asset: balance(self.run.engine, account, asset),
            lambda asset: int(risk.assets[asset]["fee_units"]),
            lambda asset: int(risk.assets[asset]["net_deposits_units"]),
        )
        return report.money(self.history.plan, ledger)

    def compare(self) -> None:
        """AssertionError with the first verdict, fill, prevention, balance or book that is not the naive exchange's."""
        expected = self.history.flow.expected
        detail = expected["detail"]
        got = self.collector
        for what, one, other in (
            ("verdict (code, x, y)", detail["verdicts"], got.verdicts),
            ("fill (message, instrument, taker, maker, price, qty)", detail["fills"], _from_one(got.fills())),
            ("prevention (message, maker, lots, left)", detail["stp"], _from_one(got.preventions())),
        ):
            other_rows = other.tolist()
            assert one == other_rows, f"{what} {first_difference(one, other_rows)}"
        counters = got.counters() | self.money()
        counters["books"] = {i.symbol: got.book(i.index) for i in self.history.plan.instruments}
        wanted = ["verdicts", "verdict_hash", "trade_hash", "balances", "fee", "net_deposits", "balance_hash", "books"]
        wanted += ["trades", "volume", "turnover", "prevented", "cancels"]
        for key in wanted:
            assert expected[key] == counters[key], key


def _from_one(rows: np.ndarray) -> np.ndarray:
    """Messages count from 1 in expected results."""
    rows[:, 0] += 1
    return rows


def run_seed(profile: str, seed: int, n: int, only: str | None = None) -> dict[str, Any]:
    """Run a seed in every variant; AssertionError names the variant and how to run it again.

    Returns the counts of verdicts, the commands applied in all, the waits for exact state of the variants, and the hashes.
    """
    history = History(profile, seed, n)
    runs: list[HistoryRun] = []
    for variant in variants(seed):
        if only not in (None, variant.name):
            continue
        try:
            run = HistoryRun(history, variant)
            run.compare()
            if runs:
                _same_hashes(runs[0], run)
        except Exception as error:
            raise AssertionError(
                f"{history.name}, variant {variant.name}: {error}\n"
                f"run it again: python -m tests.engine.campaign {history.name} --variant {variant.name}"
            ) from error
        runs.append(run)
    return {
        "commands": history.commands * len(runs),
        "verdicts": history.flow.expected["verdicts"],
        "waits": {run.run.variant.name: run.waits for run in runs},
        "hashes": runs[0].run.hashes,
    }


def _same_hashes(one: HistoryRun, other: HistoryRun) -> None:
    for part, (a, b) in enumerate(zip(one.run.hashes, other.run.hashes, strict=True), 1):
        assert a == b, (
            f"hashes after part {part} of {PARTS} differ from {one.run.variant.name}: {[k for k in a if a[k] != b[k]]}"
        )


def run_small_pools(profile: str, seed: int, n: int) -> dict[str, Any]:
    """Pools so small that orders are refused for it: the engine against itself in other schedules."""
    history = History(profile, seed, n)
    refusals: dict[str, int] = {}
    commands = 0
    for limits, shards in (
        (small_limits(orders=16 + seed % 48), (1, 2, 3)),
        (small_limits(leaves=3 + seed % 5), (1,)),
        (small_limits(leaves=3 + seed % 5), (3,)),
        (small_limits(orders=24 + seed % 40, leaves=4 + seed % 5), (2,)),
    ):
        first: HistoryRun | None = None
        for k in shards:
            for variant in (
                Variant(f"settled-{k}", k, 1),
                Variant(f"long-{k}", k, 4096),
                Variant(f"random-{k}", k, schedule=seed),
                Variant(f"tiny-{k}", k, schedule=seed + 1, rings=TINY),
            ):
                try:
                    run = HistoryRun(history, variant, limits)
                    if first is not None:
                        one, other = first.collector.verdicts.tolist(), run.collector.verdicts.tolist()
                        assert one == other, f"verdict {first_difference(one, other)}"
                        assert first.collector.fills().tolist() == run.collector.fills().tolist()
                        assert first.money() == run.money()
                        _same_hashes(first, run)
                except Exception as error:
                    raise AssertionError(
                        f"{history.name}, orders {limits.orders}, leaves {limits.leaves}, variant {variant.name}: {error}\n"
                        f"run it again: python -m tests.engine.campaign {history.name} --pools"
                    ) from error
                first = first or run
                commands += history.commands
        assert first is not None
        for name, count in first.collector.counters()["rejected"].items():
            refusals[name] = refusals.get(name, 0) + count
    return {"commands": commands, "rejected": refusals}


def small_limits(orders: int = LIMITS.orders, leaves: int = LIMITS.leaves) -> Limits:
    """The usual limits with other pools."""
    return Limits(
        accounts=LIMITS.accounts,
        assets=LIMITS.assets,
        instruments=LIMITS.instruments,
        orders=orders,
        leaves=leaves,
        withdrawal_holds=LIMITS.withdrawal_holds,
        outbox=LIMITS.outbox,
        timers=LIMITS.timers,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.engine.campaign", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--profile", choices=sorted(PROFILES), default="mixed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds from --seed on")
    parser.add_argument("--n", type=int, default=4_000, help="messages, opening deposits included")
    parser.add_argument("--variant", help="only this one")
    parser.add_argument("--pools", action="store_true", help="small pools instead")
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.seeds):
        start = time.perf_counter()
        if options.pools:
            result = run_small_pools(options.profile, seed, options.n)
        else:
            result = run_seed(options.profile, seed, options.n, options.variant)
        result["seconds"] = round(time.perf_counter() - start, 3)
        print(json.dumps({"profile": options.profile, "seed": seed} | result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
