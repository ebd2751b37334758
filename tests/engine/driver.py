"""Histories through the fused engine under any schedule: command slots in; verdicts, fills, money and hashes out.

A *schedule* is who is stepped when, and how far: it stands for the timing of live processes. ``Variant`` names one,
with the number of shards and the size of rings; nothing that comes out may depend on it. Everything random is drawn
from seeds that the variant holds.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numba import config, typeof

from matcher import state as matcher_state
from matcher.kernel import step as matcher_step
from persistence.fused import EngineFault, FusedEngine
from protocol import build
from protocol import enums as e
from protocol.instance import Engine, Limits, Rings
from protocol.records import COMMAND_DTYPE
from ringbuf.idtable import id_shift
from ringbuf.ring import FIRST_READER, PUBLISHED, READER_CURSOR
from risk import state as s
from risk.kernel import step as risk_step

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
    """Random steps: each stage is now far behind, now far ahead, because who comes next, and how far, is drawn anew.

    Parameters
    ----------
    engine : FusedEngine
        It is stepped through its parts, never by its own ``step``.
    seed : int
    """

    STEPS = 40
    WEIGHTS = (0, 0, 1, 1, 4, 20)
    BUDGETS = (1, 1, 2, 3, 8, 50, 1000)

    def __init__(self, engine: FusedEngine, seed: int) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self.risk_step = direct(risk_step, engine.risk_stage, 1)
        self.matcher_step = direct(matcher_step, engine.matcher_stages[0], 1)
        self.slots = np.zeros(0, dtype=COMMAND_DTYPE)
        self.ends = np.zeros(0, dtype=np.int64)
        self.at = 0
        self.sink: Sink | None = None
        self.actions: list[Callable[[int], int]] = [self._put, self._risk, self._drain]
        self.actions += [self._matcher(k) for k in range(engine.engine.shards)]

    def feed(self, slots: np.ndarray, sink: Sink | None = None) -> None:
        """Apply command slots until all are settled and their outcomes read. EngineFault where the engine stops or stands still."""
        self.sink = sink
        self.slots = slots
        self.ends = np.flatnonzero((slots["flags"] & e.FLAG_MORE) == 0) + 1
        self.at = 0
        rng = self.random
        while not self.finished:
            weights = rng.choices(self.WEIGHTS, k=len(self.actions))
            if not any(weights):
                continue
            work = 0
            steps = zip(
                rng.choices(self.actions, weights, k=self.STEPS), rng.choices(self.BUDGETS, k=self.STEPS), strict=True
            )
            for action, budget in steps:
                work += action(budget)
            if work == 0 and self._round() == 0 and not self.finished:
                engine = self.engine
                raise EngineFault(f"the engine stands still after command {engine.settled_seq} of {engine.last_seq}")

    @property
    def finished(self) -> bool:
        """Whether everything fed is settled and read, and the matchers have it too: some commands they do not answer."""
        engine = self.engine
        applied = all(int(m.meta[matcher_state.APPLIED_SEQ]) == engine.last_seq for m in engine.matchers)
        return not self.left() and applied and engine.settled_seq == engine.last_seq and self._unread() == 0

    def left(self) -> bool:
        """Whether there are commands to put into the ring, now or later."""
        return self.at < len(self.ends)

    def _round(self) -> int:
        """Everyone once: if nobody can do anything now, nobody ever will."""
        return sum(action(1000) for action in self.actions)

    def _put(self, budget: int) -> int:
        if self.at == len(self.ends):
            return 0
        start = int(self.ends[self.at - 1]) if self.at else 0
        end = int(self.ends[min(self.at + budget, len(self.ends)) - 1])
        done = self.engine._put(self.slots[start:end])
        self.at = int(np.searchsorted(self.ends, start + done, side="right"))
        return done

    def _risk(self, budget: int) -> int:
        engine = self.engine
        work = int(self.risk_step(engine.risk_stage, budget))
        fault = int(engine.risk.meta[s.FAULT])
        if fault:
            raise EngineFault(f"risk stopped after command {engine.settled_seq}: {s.FAULT_TEXT[fault]}")
        return work

    def _matcher(self, k: int) -> Callable[[int], int]:
        stage, kernel = self.engine.matcher_stages[k], self.matcher_step

        def step(budget: int) -> int:
            return int(kernel(stage, budget))

        return step

    def _unread(self) -> int:
        words = self.engine.outcomes.words
        return int(words[PUBLISHED] - words[FIRST_READER + READER_CURSOR])

    def _drain(self, _budget: int) -> int:
        unread = self._unread()
        if unread:
            self.engine._drain(self.sink)
        return unread


def direct(kernel: Any, *arguments: Any) -> Any:
    """The machine code of a kernel for arguments like these.

    Calling it spares numba's look at the types, which takes longer than a step.
    """
    if config.DISABLE_JIT:
        return kernel
    signature = tuple(typeof(argument) for argument in arguments)
    kernel.compile(signature)
    return kernel.overloads[signature].entry_point


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
    assert len(live) == meta[s.HOLDS_USED] == np.count_nonzero(risk.other_orders) + np.count_nonzero(risk.recent_orders)
    assert np.count_nonzero(risk.withdrawals["hold_id"]) == meta[s.WITHDRAWALS_USED]
    activity = np.bincount(holds["account"], minlength=len(risk.accounts))
    assert activity.tolist() == risk.accounts["activity"].tolist()
    for scope in range(e.SCOPE_INSTRUMENT + 1):
        _check_open_orders(risk, holds, scope)
    assert (risk.instruments["status"] == risk.instruments_reserve["status"]).all()
    assert (risk.accounts["status"] == risk.accounts["status_reserve"]).all()
    for order_id, hold in zip(holds["order_id"].tolist(), live.tolist(), strict=True):
        assert hold == _indexed(risk, order_id)
    _check_quotes(engine, live)
    _check_client_index(risk)
    _check_books(engine, holds, live)


def _check_quotes(engine: FusedEngine, live: np.ndarray) -> None:
    """Risk and the matchers know of each order of a quote where it is, and of nothing else."""
    holds, table = engine.risk.holds, engine.risk.quotes
    mine = [hold for hold in live.tolist() if holds["flags"][hold] & s.HOLD_QUOTE]
    named = ("account", "instrument", "side")
    expected = {tuple(holds[list(named)][hold].item()): hold for hold in mine}
    rows = table[table["account"] != 0]
    assert (table[table["account"] == 0]["hold"] == 0).all()
    found = {(int(q["account"]), int(q["instrument"]), n): int(q["hold"][n]) - 1 for q in rows for n in (0, 1)}
    assert expected == {key: hold for key, hold in found.items() if hold >= 0}
    resting = {}
    for matcher in engine.matchers:
        for row in matcher.quotes[matcher.quotes["account"] != 0]:
            assert row["slot"].any() or row["protection"]
            for n in (0, 1):
                if row["slot"][n]:
                    resting[int(row["account"]), int(row["instrument"]), n] = int(
                        matcher.orders["hold"][row["slot"][n]]
                    )
    assert expected == resting


def _check_open_orders(risk: Any, holds: np.ndarray, scope: int) -> None:
    """Where open orders are limited they are counted as they are."""
    accounts, instruments = holds["account"], holds["instrument"]
    masters = np.where(risk.accounts["master"][accounts], risk.accounts["master"][accounts], accounts)
    firms = risk.accounts["firm"][accounts]
    size = len(risk.accounts)
    last = 1 + 2 * size + len(risk.firm_schedules) + instruments
    rows = (0 * accounts, 1 + accounts, 1 + size + masters, 1 + 2 * size + firms, last)
    counted = np.bincount(rows[scope][firms > 0] if scope == e.SCOPE_FIRM else rows[scope], minlength=len(risk.limits))
    limited = np.flatnonzero(risk.limits["open_orders_max"])
    starts = (0, 1, 1 + size, 1 + 2 * size, 1 + 2 * size + len(risk.firm_schedules), len(risk.limits))
    mine = limited[(limited >= starts[scope]) & (limited < starts[scope + 1])]
    assert counted[mine].tolist() == risk.limits["open_orders"][mine].tolist()


def _indexed(risk: Any, order_id: int) -> int:
    """Hold row that the index finds for an order, -1 where its probe path ends without one."""
    recent, others, holds = risk.recent_orders, risk.other_orders, risk.holds
    row = int(recent[(order_id + (order_id >> 40) * 0xD6E8FEB86659FD93) % len(recent)]) - 1
    if row >= 0 and holds["order_id"][row] == order_id:
        return row
    at = (order_id * 0x9E3779B97F4A7C15) % (1 << 64) >> id_shift(len(others))
    while others[at]:
        row = int(others[at]) - 1
        if holds["order_id"][row] == order_id:
            return row
        at = (at + 1) % len(others)
    return -1


def _check_client_index(risk: Any) -> None:
    """The index has an entry for each client order id of an open order, and else only rows of the ring, all in reach."""
    entries = risk.client_index
    mask = len(entries) - 1
    found: dict[int, int] = {}
    for at in np.flatnonzero(entries).tolist():
        tag, row = int(entries[at]) >> 32, (int(entries[at]) & 0xFFFFFFFF) - 1
        assert row not in found
        found[row] = tag
        home = tag & mask
        assert entries[[k & mask for k in range(home, home + ((at - home) & mask))]].all(), "a gap in a probe path"
    live = np.flatnonzero((risk.holds["state"] == e.HOLD_LIVE) & (risk.holds["flags"] & s.HOLD_HAS_CLIENT_ID != 0))
    orders = len(risk.holds)
    assert live.tolist() == sorted(row for row in found if row < orders)
    for row, tag in found.items():
        table, k = (risk.holds, row) if row < orders else (risk.finished, row - orders)
        assert tag == table["client_tag"][k]
        assert row < orders or k < risk.meta[s.FINISHED]


def _check_books(engine: FusedEngine, holds: np.ndarray, rows: np.ndarray) -> None:
    """The books hold exactly the orders that risk holds money for, row by row."""
    names = ["order_id", "account", "instrument", "side", "price_ticks", "left_lots", "total_lots"]
    resting = []
    hidden = 0
    for matcher in engine.matchers:
        assert matcher_state.STAGE_IDLE == matcher.meta[matcher_state.STAGE]
        live = matcher.orders["order_id"] != 0
        resting += _standing(matcher, live)
        special = matcher.orders["modes"] & matcher_state.HAS_TERMS != 0
        hidden += int(matcher.terms[special & live]["hidden_lots"].sum())
    shown = holds.copy()
    waits = holds["flags"] & s.HOLD_WAITS != 0
    special = (holds["flags"] & s.HOLD_TERMS != 0) & ~waits
    shown["left_lots"][special] = holds["shown_lots"][special]
    pegs = special & (holds["display_lots"] < 0)
    shown["price_ticks"][pegs] = -holds["display_lots"][pegs]
    assert hidden == int((holds["left_lots"] - shown["left_lots"]).sum())
    held = [
        (*row[names].item(), hold, bool(waiting))
        for row, hold, waiting in zip(shown, rows.tolist(), waits, strict=True)
    ]
    assert sorted(held) == sorted(resting)


def _standing(matcher: Any, live: np.ndarray) -> list[tuple[object, ...]]:
    """Orders of a shard as risk knows them, each with whether it waits for a price."""
    stride = len(matcher.lot_atoms)
    found: list[tuple[object, ...]] = []
    for slot in np.flatnonzero(live).tolist():
        row, terms = matcher.orders[slot], matcher.terms[slot]
        waits = bool(row["modes"] & matcher_state.WAITS)
        side, price_ticks = (terms["side"], terms["limit_ticks"]) if waits else (row["side"], row["price_ticks"])
        what = (row["order_id"], row["account"], row["book"] % stride, side, price_ticks)
        lots = (row["left_lots"], row["total_lots"], row["hold"])
        found.append((*(int(number) for number in (*what, *lots)), waits))
    return found


def balance(engine: FusedEngine, account: int, asset: int) -> tuple[int, int]:
    """Free and locked."""
    row = balances_of(engine)[account, asset]
    return int(row[s.FREE]), int(row[s.LOCKED])


def balances_of(engine: FusedEngine) -> np.ndarray:
    """The table of balances, int64[accounts + 1, assets + 1, BALANCE_WORDS]."""
    risk = engine.risk
    return risk.balances.reshape(len(risk.accounts), len(risk.assets), s.BALANCE_WORDS)


def first_difference(expected: Sequence[object], actual: Sequence[object]) -> str:
    """Where two sequences part."""
    for number, (one, other) in enumerate(zip(expected, actual, strict=False)):
        if one != other:
            return f"at {number}: expected {one}, got {other}"
    return f"expected {len(expected)} of them, got {len(actual)}"
