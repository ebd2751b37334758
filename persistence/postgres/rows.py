"""Rows of every table from a batch of commands and their outcomes, as one transaction writes them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from persistence.fused import FusedEngine
from persistence.postgres.fees import FeeRows, fee_rows
from persistence.postgres.klines import Kline, klines_of
from persistence.postgres.ledger import Ledger
from persistence.postgres.schema import DAY_NS, month_of
from persistence.postgres.terms import MAKER, ORDER_STATE_REJECTED, TAKER
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.records import EXT_IDS_SLOT

NEW_ORDER_DTYPE: Final = np.dtype(
    [
        ("order_id", "<i8"),
        ("seq", "<i8"),
        ("ts_ns", "<i8"),
        ("account", "<i4"),
        ("instrument", "<i4"),
        ("side", "<i2"),
        ("type", "<i2"),
        ("tif", "<i2"),
        ("stp", "<i2"),
        ("state", "<i2"),
        ("reason", "<i2"),
        ("source", "<i2"),
        ("price_ticks", "<i8"),
        ("qty_lots", "<i8"),
        ("cum_qty_lots", "<i8"),
        ("leaves_qty_lots", "<i8"),
        ("value_units", "<i8"),
        ("locked_units", "<i8"),
        ("updated_seq", "<i8"),
        ("updated_ts_ns", "<i8"),
        ("link_id", "<i8"),
        ("tag", "<i8"),
        ("client_order_id", "S40"),
    ]
)
CHANGING: Final = (
    *("state", "reason", "price_ticks", "qty_lots", "cum_qty_lots", "leaves_qty_lots", "value_units", "locked_units"),
    *("updated_seq", "updated_ts_ns"),
)
CHANGED_ORDER_DTYPE: Final = np.dtype([(name, NEW_ORDER_DTYPE[name]) for name in ("order_id", *CHANGING)])
"""What may change of an order that is there."""

ORDER_EVENT_DTYPE: Final = np.dtype(
    [
        ("seq", "<i8"),
        ("idx", "<i4"),
        ("ts_ns", "<i8"),
        ("order_id", "<i8"),
        ("account", "<i4"),
        ("instrument", "<i4"),
        ("kind", "<i2"),
        ("command", "<i2"),
        ("side", "<i2"),
        ("liquidity", "<i2"),
        ("reason", "<i2"),
        ("fee_asset", "<i2"),
        ("price_ticks", "<i8"),
        ("qty_lots", "<i8"),
        ("cum_qty_lots", "<i8"),
        ("leaves_qty_lots", "<i8"),
        ("value_units", "<i8"),
        ("fee_units", "<i8"),
        ("contra_order_id", "<i8"),
    ]
)
BALANCE_DTYPE: Final = np.dtype(
    [("account", "<i4"), ("asset", "<i4"), ("free_units", "<i8"), ("locked_units", "<i8"), ("updated_seq", "<i8")]
)

_ORDER_KINDS: Final = np.zeros(256, dtype=bool)
_ORDER_KINDS[
    [
        e.OUT_NEW,
        e.OUT_TRADE,
        e.OUT_RESTED,
        e.OUT_EXPIRED,
        e.OUT_CANCELED,
        e.OUT_REPLACED,
        e.OUT_REJECTED,
        e.OUT_PREVENTED,
        e.OUT_TRIGGERED,
        e.OUT_PEGGED,
    ]
] = True
_DONE_KINDS: Final = np.isin(np.arange(256), [e.OUT_ADMIN, e.OUT_DONE])
_ENTERING: Final = (e.LIMIT, e.MARKET, e.MARKET_AMOUNT)
_ABOUT_ORDERS: Final = (*_ENTERING, e.CANCEL, e.AMEND)


class Batch(NamedTuple):
    """What one transaction writes: everything between two positions."""

    first_seq: int
    last_seq: int
    first_ts_ns: int
    last_ts_ns: int
    order_events: np.ndarray
    trades: np.ndarray
    postings: np.ndarray
    new_orders: np.ndarray
    changed_orders: np.ndarray
    balances: np.ndarray
    klines: list[Kline]
    assets: list[tuple[Any, ...]]
    instruments: list[tuple[Any, ...]]
    accounts: list[tuple[Any, ...]]
    fees: FeeRows

    @property
    def months(self) -> set[int]:
        """Months in which rows of the growing tables lie."""
        times = np.concatenate([self.order_events["ts_ns"], self.trades["ts_ns"], self.postings["ts_ns"]])
        days = np.unique(times // DAY_NS)
        return {month_of(day * DAY_NS) for day in days.tolist()}

    @property
    def rows(self) -> int:
        """Rows written or changed."""
        return sum(len(part) for part in (*self[4:-1], *self.fees))


def batch_of(slots: np.ndarray, outcomes: np.ndarray, ledger: Ledger, engine: FusedEngine) -> Batch:
    """Rows of the commands in ``slots`` (whole groups, gapless), whose ``outcomes`` the engine just gave.

    Raises LedgerFault.
    """
    moved = ledger.apply(outcomes)
    fresh = moved.orders[moved.orders["fresh"] == 1]
    former = moved.orders[moved.orders["fresh"] == 0]
    admin = outcomes[outcomes["kind"] == e.OUT_ADMIN]
    done = outcomes[_DONE_KINDS[outcomes["kind"]]]
    first_seq = int(slots["seq"][0])
    commands = slots[done["seq"] - first_seq]
    return Batch(
        first_seq=first_seq,
        last_seq=int(slots["seq"][-1]),
        first_ts_ns=int(slots["ts_ns"][0]),
        last_ts_ns=int(slots["ts_ns"][-1]),
        order_events=_order_events(outcomes),
        trades=moved.trades.copy(),
        postings=moved.postings.copy(),
        new_orders=_new_orders(slots, outcomes, fresh),
        changed_orders=_same_fields(former, CHANGED_ORDER_DTYPE),
        balances=_balances(moved.postings, ledger),
        klines=klines_of(moved.trades),
        assets=_assets(engine, moved.postings, slots, admin),
        instruments=_instruments(engine, commands),
        accounts=_accounts(engine, admin),
        fees=fee_rows(engine, commands, outcomes[outcomes["kind"] == e.OUT_TRADE]),
    )


def _same_fields(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    out = np.zeros(len(rows), dtype=dtype)
    for name in dtype.names or ():
        if name in (rows.dtype.names or ()):
            out[name] = rows[name]
    return out


def _order_events(outcomes: np.ndarray) -> np.ndarray:
    rejected = outcomes["kind"] == e.OUT_REJECTED
    wanted = _ORDER_KINDS[outcomes["kind"]] & (~rejected | np.isin(outcomes["type"], _ABOUT_ORDERS))
    chosen = outcomes[wanted]
    out = _same_fields(chosen, ORDER_EVENT_DTYPE)
    out["idx"] = chosen["index"]
    out["command"] = chosen["type"]
    trade = chosen["kind"] == e.OUT_TRADE
    out["liquidity"] = np.where(trade, np.where(chosen["flags"] & e.OUTCOME_TAKER, TAKER, MAKER), 0)
    out["fee_asset"][~trade] = 0
    out["reason"][trade] = 0
    # The refusal of a repeated client order id tells of the first order in these fields; its id stays, as the other order.
    repeated = (chosen["kind"] == e.OUT_REJECTED) & (chosen["reason"] == r.DUPLICATE_CLIENT_ID)
    for name in ("cum_qty_lots", "leaves_qty_lots", "value_units", "fee_units"):
        out[name][repeated] = 0
    return out


def _new_orders(slots: np.ndarray, outcomes: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Orders that entered or were refused, with what only their command says."""
    refused = outcomes[(outcomes["kind"] == e.OUT_REJECTED) & np.isin(outcomes["type"], _ENTERING)]
    out = np.zeros(len(fresh) + len(refused), dtype=NEW_ORDER_DTYPE)
    out[: len(fresh)] = _same_fields(fresh, NEW_ORDER_DTYPE)
    last = out[len(fresh) :]
    for name in (
        "order_id",
        "seq",
        "ts_ns",
        "account",
        "instrument",
        "side",
        "type",
        "reason",
        "price_ticks",
        "qty_lots",
    ):
        last[name] = refused[name]
    last["state"] = ORDER_STATE_REJECTED
    last["updated_seq"] = refused["seq"]
    last["updated_ts_ns"] = refused["ts_ns"]
    head = out["seq"] - slots["seq"][0]
    for name in ("tif", "stp", "source"):
        out[name] = slots[name][head]
    _add_ids(out, head, slots)
    return out


def _add_ids(out: np.ndarray, head: np.ndarray, slots: np.ndarray) -> None:
    """Client order id, link and tag, from wherever in the group they stand."""
    is_head = build.heads(slots)
    ids = np.flatnonzero(~is_head & (slots["type"] == e.EXT_IDS))
    if not len(ids):
        return
    heads = np.flatnonzero(is_head)
    place = np.full(len(slots), -1)
    # Of several in one group the first counts, as for risk.
    place[heads[np.searchsorted(heads, ids[::-1], side="right") - 1]] = ids[::-1]
    at = place[head]
    has = at >= 0
    chosen = slots[at[has]].view(EXT_IDS_SLOT.slot_dtype)
    for name in ("client_order_id", "link_id", "tag"):
        out[name][has] = chosen[name]


def _balances(postings: np.ndarray, ledger: Ledger) -> np.ndarray:
    own = postings[postings["account"] > 0]
    key = own["account"].astype(np.int64) << 32 | own["asset"]
    _, from_end = np.unique(key[::-1], return_index=True)
    last = own[len(own) - 1 - from_end]
    out = np.zeros(len(last), dtype=BALANCE_DTYPE)
    out["account"] = last["account"]
    out["asset"] = last["asset"]
    out["free_units"], out["locked_units"] = ledger.balance(last["account"], last["asset"])
    out["updated_seq"] = last["seq"]
    return out


def _last_seqs(numbers: np.ndarray, seqs: np.ndarray) -> dict[int, int]:
    """Last seq of each number > 0."""
    return {number: seq for number, seq in zip(numbers.tolist(), seqs.tolist(), strict=True) if number > 0}


_ASSET_FIELDS: Final = ("volume_rate_e8", "taker_fee_units", "maker_fee_units", "rebate_units")


def _assets(engine: FusedEngine, postings: np.ndarray, slots: np.ndarray, admin: np.ndarray) -> list[tuple[Any, ...]]:
    """Assets listed or given a volume rate, and those whose system accounts moved."""
    system = postings[postings["account"] == 0]
    listed = admin["seq"][np.isin(admin["type"], (e.LIST_ASSET, e.SET_VOLUME_RATE))]
    numbers = np.concatenate([slots["asset"][listed - slots["seq"][0]], system["asset"]])
    seqs = np.concatenate([listed, system["seq"]])
    in_order = np.argsort(seqs, kind="stable")
    touched = _last_seqs(numbers[in_order], seqs[in_order])
    rows = engine.risk.assets
    return [
        (
            asset,
            rows["symbol"][asset].decode(),
            int(rows["scale"][asset]),
            int(rows["fee_units"][asset]),
            int(rows["net_deposits_units"][asset]),
            seq,
            *(int(rows[name][asset]) for name in _ASSET_FIELDS),
        )
        for asset, seq in sorted(touched.items())
    ]


_INSTRUMENT_FIELDS: Final = (
    *("status", "base", "quote", "tick_e8", "lot_atoms", "multiplier", "maker_rate_e8", "taker_rate_e8"),
    *("band_up_e8", "band_down_e8", "breaker_e8"),
)


def _instruments(engine: FusedEngine, commands: np.ndarray) -> list[tuple[Any, ...]]:
    kinds = (e.LIST_INSTRUMENT, e.SET_FEES, e.SET_BANDS, e.HALT, e.RESUME, e.SET_STATE)
    gets_schedule = (commands["type"] == e.ASSIGN_FEES) & (commands["price_ticks"] == e.SCOPE_INSTRUMENT)
    changed = commands[np.isin(commands["type"], kinds) | gets_schedule]
    rows = engine.risk.instruments
    return [
        (
            number,
            rows["symbol"][number].decode(),
            *(int(rows[name][number]) for name in _INSTRUMENT_FIELDS),
            seq,
            bool(rows["follows_venue"][number]),
        )
        for number, seq in sorted(_last_seqs(changed["instrument"], changed["seq"]).items())
    ]


_GROUPS: Final = ("master", "firm", "stp_group")


def _accounts(engine: FusedEngine, admin: np.ndarray) -> list[tuple[Any, ...]]:
    kinds = (e.CREATE_ACCOUNT, e.CLOSE_ACCOUNT, e.FREEZE, e.UNFREEZE, e.SET_GROUPS)
    changed = admin[np.isin(admin["type"], kinds)]
    rows = engine.risk.accounts
    return [
        (account, int(rows["status"][account]), seq, *(int(rows[name][account]) for name in _GROUPS))
        for account, seq in sorted(_last_seqs(changed["account"], changed["seq"]).items())
    ]
