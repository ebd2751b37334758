"""Histories through the fused engine under any schedule: command slots in; verdicts, fills, money and hashes out.

A *schedule* is who is stepped when, and how far: it stands for the timing of live processes. ``Variant`` names one, with the number of shards
and the size of rings and pools; nothing that comes out may depend on it. Everything random is drawn from seeds that the variant holds.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from matcher import state as matcher_state
from matcher.kernel import step as matcher_step
from persistence.fused import EngineFault, FusedEngine
from protocol import build
from protocol import enums as e
from protocol.instance import Engine, Limits, Rings
from ringbuf.ring import published, reader_cursor
from risk import state as s
from risk.kernel import step as risk_step
from risk.ledger import balance_row, find_hold

ROOMY = Rings(ingress=1 << 10, command=1 << 13, event=1 << 12, outcome=1 << 13, window=1 << 12)
TINY = Rings(ingress=1 << 7, command=1 << 9, event=4, outcome=8, window=1 << 8)
"""The smallest that ``Engine.check`` admits."""
LIMITS = Limits(
    accounts=64, assets=8, instruments=16, orders=1 << 13, leaves=1 << 13, withdrawal_holds=1 << 12, outbox=64, timers=8
)

Sink = Callable[[np.ndarray], None]


class Variant(NamedTuple):
    """One way to run a history."""

    name: str
    shards: int = 1
    budget: int = 4096
    """Commands a step; 1: each command is settled before the next one is reserved."""
    schedule: int | None = None
    """Seed of a random schedule; ``budget`` is not used then."""
    rings: Rings = ROOMY


class Schedule:
    """Random steps: who comes next, and how far it goes, is drawn anew again and again, so that each stage is now far behind, now far ahead.

    Parameters
    ----------
    engine : FusedEngine
        It is stepped through its parts, never by its own ``step``.
    seed : int
    """

    PHASE_STEPS = 40
    WEIGHTS = (0, 0, 1, 1, 4, 20)
    BUDGETS = (1, 1, 2, 3, 8, 50, 1000)

    def __init__(self, engine: FusedEngine, seed: int) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self.waiting: list[np.ndarray] = []
        self.sink: Sink | None = None
        self.actions: list[Callable[[int], int]] = [self._put, self._risk, self._drain]
        self.actions += [self._matcher(k) for k in range(engine.engine.shards)]

    def feed(self, slots: np.ndarray, sink: Sink | None = None) -> None:
        """Apply command slots until all are settled and their outcomes read. EngineFault where the engine stops or stands still."""
        self.sink = sink
        self.waiting = list(groups(slots))[::-1]
        rng = self.random
        while not self.finished:
            weights = rng.choices(self.WEIGHTS, k=len(self.actions))
            if not any(weights):
                continue
            work = 0
            for action in rng.choices(self.actions, weights, k=self.PHASE_STEPS):
                work += action(rng.choice(self.BUDGETS))
            if work == 0 and self._round() == 0 and not self.finished:
                engine = self.engine
                raise EngineFault(f"the engine stands still after command {engine.settled_seq} of {engine.last_seq}")

    @property
    def finished(self) -> bool:
        """Whether everything fed is settled and read."""
        engine = self.engine
        settled = engine.settled_seq == engine.last_seq
        return not self.waiting and settled and published(engine.outcomes) == reader_cursor(engine.outcomes, 0)

    def _round(self) -> int:
        """Everyone once: if nobody can do anything now, nobody ever will."""
        return sum(action(1000) for action in self.actions)

    def next_group(self) -> np.ndarray | None:
        """The next command to put into the command ring, if there is any now."""
        return self.waiting[-1] if self.waiting else None

    def taken(self) -> None:
        """The command that ``next_group`` gave is in the ring."""
        self.waiting.pop()

    def _put(self, budget: int) -> int:
        done = 0
        while done < budget:
            group = self.next_group()
            if group is None or self.engine._put(group) == 0:
                break
            self.taken()
            done += 1
        return done

    def _risk(self, budget: int) -> int:
        engine = self.engine
        work = int(risk_step(engine.risk, engine.rings, budget))
        fault = int(engine.risk.meta[s.FAULT])
        if fault:
            raise EngineFault(f"risk stopped after command {engine.settled_seq}: {s.FAULT_TEXT[fault]}")
        return work

    def _matcher(self, k: int) -> Callable[[int], int]:
        engine = self.engine
        matcher, ring = engine.matchers[k], engine.events[k]

        def step(budget: int) -> int:
            return int(matcher_step(matcher, engine.commands, engine.verdicts, ring, 1 + k, k, budget))

        return step

    def _drain(self, _budget: int) -> int:
        before = reader_cursor(self.engine.outcomes, 0)
        self.engine._drain(self.sink)
        return int(reader_cursor(self.engine.outcomes, 0) - before)


def groups(slots: np.ndarray) -> Iterator[np.ndarray]:
    """The slots, one command at a time."""
    ends = np.flatnonzero((slots["flags"] & e.FLAG_MORE) == 0) + 1
    start = 0
    for end in ends.tolist():
        yield slots[start:end]
        start = end


def sequenced(slots: np.ndarray, first_seq: int) -> np.ndarray:
    """A copy of the slots as the sequencer stamps them: seq from ``first_seq`` on, the time of each head for its whole group."""
    out = slots.copy()
    if len(out):
        heads = build.heads(out)
        out["seq"] = np.arange(first_seq, first_seq + len(out))
        out["ts_ns"] = out["entry_ts_ns"][heads][np.cumsum(heads) - 1]
    return out


@dataclass
class Run:
    """An engine that runs a history in parts; after each part everything is settled, looked at and hashed."""

    variant: Variant
    limits: Limits = LIMITS
    sink: Sink | None = None
    hashes: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        variant = self.variant
        self.engine = FusedEngine(
            Engine(shards=variant.shards, limits=self.limits, rings=variant.rings), budget=variant.budget
        )
        self.schedule = None if variant.schedule is None else Schedule(self.engine, variant.schedule)

    def feed(self, slots: np.ndarray) -> None:
        """Apply stamped slots, then check the settled state and write down its hashes."""
        if self.schedule is None:
            self.engine.feed(slots, self.sink)
        else:
            self.schedule.feed(slots, self.sink)
        self.settled()

    def settled(self) -> None:
        """Check the state between two commands and write down its hashes."""
        check_settled(self.engine)
        self.hashes.append(self.engine.hashes())


def check_settled(engine: FusedEngine) -> None:
    """Assert what must hold whenever every command is settled, whatever the commands were."""
    risk = engine.risk
    meta = risk.meta
    assert 0 == meta[s.FAULT]
    assert engine.last_seq == meta[s.SETTLED] == meta[s.RESERVED]
    assert 0 == engine.unbalanced_asset(), f"money of asset {engine.unbalanced_asset()}"
    balances = risk.balances.reshape(-1, s.BALANCE_WORDS)
    assert not balances[:, s.INFLIGHT].any(), "something is promised although everything is settled"
    assert not (balances[:, s.ROW_VERSION] & 1).any(), "a row's sequence lock is left taken"
    live = np.flatnonzero(risk.holds["state"] != e.HOLD_FREE)
    holds = risk.holds[live]
    assert (holds["state"] == e.HOLD_LIVE).all()
    assert not holds["amends_inflight"].any()
    assert len(live) == meta[s.HOLDS_USED] == np.count_nonzero(risk.order_index)
    assert np.count_nonzero(risk.withdrawals["hold_id"]) == meta[s.WITHDRAWALS_USED]
    activity = np.bincount(holds["account"], minlength=len(risk.accounts))
    assert activity.tolist() == risk.accounts["activity"].tolist()
    assert (risk.instruments["status"] == risk.instruments_reserve["status"]).all()
    assert (risk.accounts["status"] == risk.accounts["status_reserve"]).all()
    for order_id, hold in zip(holds["order_id"].tolist(), live.tolist(), strict=True):
        assert hold == find_hold(risk, order_id)
    _check_books(engine, holds, live)


def _check_books(engine: FusedEngine, holds: np.ndarray, rows: np.ndarray) -> None:
    """The books hold exactly the orders that risk holds money for, row by row."""
    names = ["order_id", "account", "instrument", "side", "price_ticks", "left_lots", "total_lots"]
    resting = []
    for matcher in engine.matchers:
        assert matcher_state.STAGE_IDLE == matcher.meta[matcher_state.STAGE]
        orders = matcher.orders[1:]
        orders = orders[orders["order_id"] != 0]
        resting += [(*row[names].item(), int(row["hold"])) for row in orders]
    held = [(*row[names].item(), hold) for row, hold in zip(holds, rows.tolist(), strict=True)]
    assert sorted(held) == sorted(resting)


def balance(engine: FusedEngine, account: int, asset: int) -> tuple[int, int]:
    """Free and locked."""
    row = balance_row(engine.risk, account, asset)
    return int(engine.risk.balances[row + s.FREE]), int(engine.risk.balances[row + s.LOCKED])


def first_difference(expected: Sequence[object], actual: Sequence[object]) -> str:
    """Where two sequences part."""
    for number, (one, other) in enumerate(zip(expected, actual, strict=False)):
        if one != other:
            return f"at {number}: expected {one}, got {other}"
    return f"expected {len(expected)} of them, got {len(actual)}"
