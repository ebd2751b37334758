"""From steps (one a command) to numbered slots: linking of recorded ids, set-up, funding, limits.

All of it vectorised or compiled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from cambist.replay.plan import OPERATOR, Plan, RecordingError
from protocol import build
from protocol import enums as e
from protocol.fixed_point import AMOUNT_LIMIT
from protocol.instance import Limits
from protocol.instruments import Asset, Instrument
from protocol.jit import entry
from protocol.records import EXT_ADMIN_SLOT, command_slots

STEP_DTYPE: Final = np.dtype(
    [
        ("message", "<i8"),
        ("ts_ns", "<i8"),
        ("price", "<i8"),
        ("qty", "<i8"),
        ("names", "<i8"),  # step whose order or hold it names, -1 = none that exists
        ("account", "<i4"),
        ("instrument", "<i4"),
        ("asset", "<i4"),
        ("type", "u1"),
        ("side", "u1"),
        ("tif", "u1"),
        ("stp", "u1"),
    ]
)
"""One command of a recording, before it has a number."""

NO_ORDER: Final = build.order_id_of(e.SOURCE_REPLAY, 0)
"""An id that never exists, because sources number from 1."""

WITH_OPERATOR: Final = (e.DEPOSIT, e.SET_FEES, e.FREEZE, e.UNFREEZE, e.HALT, e.RESUME)
POOL_HEADROOM: Final = 1 << 17
"""Rows of the pool for orders that are reserved and not yet settled, beside the ones that rest."""

NEW: Final = 0
NEW_UNNAMED: Final = 1  # not resting afterwards: immediate or cancel
CANCEL: Final = 2
REDUCE: Final = 3
MOVE: Final = 4


class Linked(NamedTuple):
    """What the recording's messages name: row of the order's first message (-1 = none), price and total afterwards.

    Each int64[messages].
    """

    row: np.ndarray
    price: np.ndarray
    total: np.ndarray
    same_price: np.ndarray
    peak: int
    """Most orders that could rest at once if none were ever filled."""


@entry
def _link(kind, dense, price, qty, row, new_price, new_total, same, first, at_price, total, resting):
    now = 0
    peak = 0
    for i in range(len(kind)):
        k = np.int64(dense[i])
        if kind[i] <= NEW_UNNAMED:
            first[k] = i
            at_price[k] = price[i]
            total[k] = qty[i]
            if kind[i] == NEW and not resting[k]:
                resting[k] = True
                now += 1
                peak = max(peak, now)
        elif kind[i] == CANCEL:
            if resting[k]:
                resting[k] = False
                now -= 1
        elif kind[i] == REDUCE:
            total[k] -= qty[i]
        else:
            same[i] = at_price[k] == price[i]
            at_price[k] = price[i]
        row[i] = first[k]
        new_price[i] = at_price[k]
        new_total[i] = total[k]
    return peak


def link(kind: np.ndarray, ids: np.ndarray, price: np.ndarray, qty: np.ndarray) -> Linked:
    """Follow each recorded id: the message that brought it, its price and total after each message.

    ``kind`` is NEW … MOVE.
    """
    n = len(ids)
    unique, dense = np.unique(ids, return_inverse=True)
    orders = len(unique)
    row, new_price, total = (np.zeros(n, dtype=np.int64) for _ in range(3))
    same = np.zeros(n, dtype=np.bool_)
    peak = _link(
        np.ascontiguousarray(kind, dtype=np.int64),
        np.ascontiguousarray(dense, dtype=np.int64),
        np.ascontiguousarray(price, dtype=np.int64),
        np.ascontiguousarray(qty, dtype=np.int64),
        row,
        new_price,
        total,
        same,
        np.full(orders, -1, dtype=np.int64),
        np.zeros(orders, dtype=np.int64),
        np.zeros(orders, dtype=np.int64),
        np.zeros(orders, dtype=np.bool_),
    )
    return Linked(row, new_price, total, same, int(peak))


class Market(NamedTuple):
    """The tables that a recording needs; assets and instruments are numbered from 1 without a gap."""

    assets: tuple[Asset, ...]
    instruments: tuple[Instrument, ...]
    accounts: int


def single_market(
    symbol: str, base: str, quote: str, tick_e8: int, base_scale: int, quote_scale: int
) -> tuple[Asset, Asset, Instrument]:
    """One instrument with a lot of one base unit and without fees.

    Scales are chosen so that a tick times a lot is one quote unit.
    """
    quote_asset = Asset(1, quote, quote_scale)
    base_asset = Asset(2, base, base_scale)
    instrument = Instrument(1, symbol, base_asset, quote_asset, tick_e8, 1)
    instrument.check()
    assert instrument.multiplier == 1
    return quote_asset, base_asset, instrument


def worst_case_funding(steps: np.ndarray, accounts: int, name: str) -> np.ndarray:
    """Units of assets 1 (quote) and 2 (base) that let no order fall short whatever is filled, without proceeds.

    int64[accounts + 1, 3], indexed by account and asset. Each order counts with its total at the highest price that
    it ever has, also if it is cancelled. Multiplier and lot are 1.
    """
    orders = np.flatnonzero((steps["type"] == e.LIMIT) & (steps["price"] > 0) & (steps["qty"] > 0))
    highest = np.zeros(len(steps), dtype=np.int64)
    highest[orders] = steps["price"][orders]
    amends = np.flatnonzero((steps["type"] == e.AMEND) & (steps["names"] >= 0))
    np.maximum.at(highest, steps["names"][amends], steps["price"][amends])
    most = steps["qty"].copy()
    np.maximum.at(most, steps["names"][amends], steps["qty"][amends])

    need = np.zeros((accounts + 1, 3), dtype=np.int64)
    # Sums in floating point only decide whether the exact integers fit.
    rough = np.zeros((accounts + 1, 3))
    buy = steps["side"][orders] == e.BUY
    for asset, rows in ((1, orders[buy]), (2, orders[~buy])):
        units = most[rows] * (highest[rows] if asset == 1 else 1)
        np.add.at(need[:, asset], steps["account"][rows], units)
        np.add.at(
            rough[:, asset], steps["account"][rows], most[rows].astype(float) * (highest[rows] if asset == 1 else 1.0)
        )
    if (rough.sum(axis=0) >= 0.999 * AMOUNT_LIMIT).any():
        raise RecordingError(
            f"{name}: its orders together need 2^62 or more units of an asset, more than the ledger holds; use --limit"
        )
    return need


def assemble(
    name: str,
    form: str,
    path: Path,
    market: Market,
    steps: np.ndarray,
    step_ids: np.ndarray,
    *,
    funding: np.ndarray | None = None,
    teardown: np.ndarray | None = None,
    resting: int | None = None,
    rows: np.ndarray | None = None,
    names_of_ids: tuple[str, ...] = (),
    messages: int,
) -> Plan:
    """Number set-up, steps and teardown, and give steps that name an order its id.

    ``step_ids``: uint64, the recorded id a step brings.
    """
    reason = f"recording {name}"[: build.REASON_BYTES].encode()[: build.REASON_BYTES].decode(errors="ignore")
    start_ts_ns = int(steps["ts_ns"][0]) if len(steps) else 0
    setup = _setup(market, funding, reason)
    setup["entry_ts_ns"][build.heads(setup)] = start_ts_ns
    build.stamp(setup, e.SOURCE_REPLAY, 1)

    commands, head_at = _slots(steps, reason)
    first = len(setup) + 1
    build.stamp(commands, e.SOURCE_REPLAY, first)
    naming = np.flatnonzero(np.isin(steps["type"], (e.CANCEL, e.AMEND, e.WITHDRAW_SETTLE, e.WITHDRAW_RELEASE)))
    named = steps["names"][naming]
    ids = np.full(len(naming), NO_ORDER, dtype=np.int64)
    ids[named >= 0] = NO_ORDER + first + head_at[named[named >= 0]]
    commands["order_id"][head_at[naming]] = ids

    if teardown is None:
        teardown = command_slots(0)
    elif len(steps):
        teardown["entry_ts_ns"][build.heads(teardown)] = steps["ts_ns"][-1]
    build.stamp(teardown, e.SOURCE_REPLAY, first + len(commands))

    bringing = np.isin(steps["type"], build.NAMING_TYPES)
    count = int(np.count_nonzero(bringing))
    return Plan(
        name=name,
        format=form,
        path=path,
        setup=setup,
        commands=commands,
        teardown=teardown,
        messages=messages,
        to_message=np.repeat(steps["message"], np.diff(head_at, append=len(commands))),
        order_ids=NO_ORDER + first + head_at[bringing],
        recorded_ids=step_ids[bringing].astype(np.uint64),
        assets=market.assets,
        instruments=market.instruments,
        accounts=market.accounts,
        limits=limits_for(commands, market, resting=count if resting is None else min(count, resting)),
        row_of_message=np.zeros(0, dtype=np.int64) if rows is None else rows,
        names_of_ids=names_of_ids,
    )


def limits_for(commands: np.ndarray, market: Market, resting: int) -> Limits:
    """Tables and pools large enough that none of these commands is refused for their size.

    ``resting``: orders open at once.
    """
    priced = commands[np.isin(commands["type"], (e.LIMIT, e.AMEND))]
    ranges = np.unique(np.stack([priced["instrument"].astype(np.int64), priced["price_ticks"] >> 6]), axis=1).shape[1]
    default = Limits()
    return Limits(
        accounts=max(1, market.accounts),
        assets=max(1, len(market.assets)),
        instruments=max(1, len(market.instruments)),
        orders=resting + POOL_HEADROOM,
        leaves=max(1 << 10, ranges),
        withdrawal_holds=max(1 << 10, int(np.count_nonzero(commands["type"] == e.WITHDRAW_HOLD))),
        outbox=max(default.outbox, len(market.instruments)),
        timers=default.timers,
    )


def _setup(market: Market, funding: np.ndarray | None, reason: str) -> np.ndarray:
    parts = [build.list_asset(a, OPERATOR, reason) for a in market.assets]
    parts += [build.list_instrument(i, OPERATOR, reason) for i in market.instruments]
    if market.accounts:
        one = build.create_account(1, OPERATOR, reason)
        many = np.tile(one, market.accounts)
        many["account"][:: len(one)] = np.arange(1, market.accounts + 1)
        parts.append(many)
    if funding is not None:
        account, asset = np.nonzero(funding)
        if len(account):
            one = build.deposit(1, 1, 1, OPERATOR, reason)
            many = np.tile(one, len(account))
            many["account"][:: len(one)] = account
            many["asset"][:: len(one)] = asset
            many["qty_lots"][:: len(one)] = funding[account, asset]
            parts.append(many)
    return np.concatenate(parts) if parts else command_slots(0)


def _slots(steps: np.ndarray, reason: str) -> tuple[np.ndarray, np.ndarray]:
    """Unnumbered slots of the steps, and int64[len(steps)]: where each one's head is."""
    with_operator = np.isin(steps["type"], WITH_OPERATOR)
    sizes = np.where(with_operator, 2, 1).astype(np.int64)
    head_at = np.cumsum(sizes) - sizes
    slots = command_slots(int(sizes.sum()))
    # Indexing a field gives a view, so that these stores reach the slots.
    for field, source in (
        ("type", "type"),
        ("side", "side"),
        ("tif", "tif"),
        ("stp", "stp"),
        ("account", "account"),
        ("instrument", "instrument"),
        ("asset", "asset"),
        ("price_ticks", "price"),
        ("qty_lots", "qty"),
        ("entry_ts_ns", "ts_ns"),
    ):
        slots[field][head_at] = steps[source]
    slots["flags"][head_at] = np.where(with_operator, e.FLAG_MORE, 0)
    later = head_at[with_operator] + 1
    slots.view(EXT_ADMIN_SLOT.slot_dtype)[later] = build.admin_slot(OPERATOR, reason).view(EXT_ADMIN_SLOT.slot_dtype)[0]
    return slots, head_at


def warm() -> None:
    """Compile or load this module's kernel."""
    none = np.zeros(0, dtype=np.int64)
    link(none, none, none, none)
