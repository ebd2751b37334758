"""Double-entry postings of outcomes: every change of a balance, by (seq, index), as signed rows that add up to zero.

A posting changes one bucket (free or locked) of one asset of one account. System accounts have negative numbers: EXTERNAL is the world
outside (minus the net deposits), FEE what the exchange earned, CLEARING what one side of a trade has given and the other has not yet
taken: a trade has an outcome for each side, so that each side's rows stand by themselves, and CLEARING is zero again behind the second.
A transfer likewise. The postings on FEE have a kind for each type of revenue: fees of takers, fees of makers, rebates.

The database has postings of its own (``persistence.postgres.movements``), and on purpose: those tell a trade once, with both sides and no
CLEARING, say what each bucket holds afterwards, and come with the orders and the trades of a batch, at the speed of a compiled loop and
from a state that has every live order. These need no orders and no balances, only outcomes from any place on, so that an archive of one
account, whose verifier has no more than that either, can be proved. Made of one another, neither would say anything about the other;
a test compares them, money by money, over random histories.

For each (seq, index, asset) the amounts add up to zero; what an account had, plus its amounts, is what it has in the ledger.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from persistence.fused import FusedEngine
from protocol import enums as e
from protocol.records import OUTCOME_DTYPE
from risk import state as s

EXTERNAL: Final = -1
FEE: Final = -2
CLEARING: Final = -3
SYSTEM_ACCOUNTS: Final = {EXTERNAL: "EXTERNAL", FEE: "FEE", CLEARING: "CLEARING"}

BUCKET_FREE: Final = 0
BUCKET_LOCKED: Final = 1
BUCKETS: Final = {BUCKET_FREE: "free", BUCKET_LOCKED: "locked"}

HOLD: Final = 1  # free to locked: a new order, an amend that needs more
RELEASE: Final = 2  # locked to free: the end of an order, an amend that needs less, a fill below the limit
TRADE: Final = 3
TAKER_FEE: Final = 4
MAKER_FEE: Final = 5
REBATE: Final = 6  # FEE pays it to a maker
KINDS: Final = {
    HOLD: "hold",
    RELEASE: "release",
    TRADE: "trade",
    TAKER_FEE: "taker_fee",
    MAKER_FEE: "maker_fee",
    REBATE: "rebate",
    e.DEPOSIT: "deposit",
    e.WITHDRAW_HOLD: "withdraw_hold",
    e.WITHDRAW_SETTLE: "withdraw_settle",
    e.WITHDRAW_RELEASE: "withdraw_release",
    e.ADJUST: "adjust",
    e.TRANSFER: "transfer",
}
"""Why: rows of money commands have the command's type. The amounts of each kind of an outcome add up to zero too."""

POSTING_DTYPE: Final = np.dtype(
    [
        ("seq", "<i8"),
        ("index", "<i8"),
        ("leg", "<i4"),
        ("account", "<i4"),
        ("asset", "<i4"),
        ("bucket", "u1"),
        ("kind", "u1"),
        ("pad", "<u2"),
        ("amount_units", "<i8"),
        ("ts_ns", "<i8"),
    ]
)
"""(seq, index, leg) is unique and ascending; legs need not follow one another without gaps. ``amount_units`` is never 0."""

_MOVES_LOCKED: Final = np.zeros(256, dtype=bool)
_MOVES_LOCKED[
    [
        e.OUT_NEW,
        e.OUT_TRADE,
        e.OUT_RESTED,
        e.OUT_EXPIRED,
        e.OUT_CANCELED,
        e.OUT_REPLACED,
        e.OUT_PREVENTED,
        e.OUT_TRIGGERED,
        e.OUT_PEGGED,
        e.OUT_BALANCE,
    ]
] = True
_LEGS: Final = 8

Leg = tuple[np.ndarray, int, np.ndarray | int, np.ndarray, int, np.ndarray | int, np.ndarray]
"""Rows of the outcomes, leg, account, asset, bucket, kind, amount."""


class Postings:
    """Derives the postings of an engine's outcomes from a point of its history on.

    Outcomes say what is locked afterwards, so what a balance had locked before is all that must be remembered.

    Parameters
    ----------
    engine : FusedEngine
        Settled up to the point from which outcomes will be given. Its table of instruments is read again later: listings in the
        outcomes given must have been applied to it.
    """

    def __init__(self, engine: FusedEngine) -> None:
        risk = engine.risk
        self._instruments = risk.instruments
        self._assets = len(risk.assets)
        locked = risk.balances.reshape(-1, s.BALANCE_WORDS)[:, s.LOCKED]
        used = np.flatnonzero(locked)
        # Zeroed, not copied: pages of accounts that nobody uses are never touched.
        self._locked_units = np.zeros(len(locked), dtype=np.int64)
        self._locked_units[used] = locked[used]

    def of(self, outcomes: np.ndarray) -> np.ndarray:
        """POSTING_DTYPE rows of OUTCOME_DTYPE ``outcomes``: whole commands, without a gap behind the ones given before."""
        assert outcomes.dtype == OUTCOME_DTYPE
        at = np.flatnonzero(_MOVES_LOCKED[outcomes["kind"]])
        rows = outcomes[at]
        listed = self._instruments[rows["instrument"]]
        trades = rows["kind"] == e.OUT_TRADE
        buys = rows["side"] == e.BUY
        asset = rows["asset"].astype(np.int32)
        paid_asset = np.where(trades, np.where(buys, listed["quote"], listed["base"]), asset)
        locked = rows["locked_units"] - _freed_at_the_end(rows, listed)
        moved = self._difference(rows["account"].astype(np.int64) * self._assets + paid_asset, locked)
        money = rows["kind"] == e.OUT_BALANCE
        legs = _trade_legs(rows, np.flatnonzero(trades), listed, paid_asset, moved)
        legs += _hold_legs(rows, np.flatnonzero(~trades & ~money), asset, moved)
        legs += _money_legs(rows, np.flatnonzero(money), asset)
        return _table(rows, legs)

    def _difference(self, key: np.ndarray, after: np.ndarray) -> np.ndarray:
        """What each row changed in the balance ``key``, given what stands there after it; remembers the last."""
        order = np.argsort(key, kind="stable")
        keys, values = key[order], after[order]
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        before = np.empty(len(keys), dtype=np.int64)
        before[1:] = values[:-1]
        before[first] = self._locked_units[keys[first]]
        last = np.ones(len(keys), dtype=bool)
        last[:-1] = first[1:]
        self._locked_units[keys[last]] = values[last]
        moved = np.empty(len(keys), dtype=np.int64)
        moved[order] = values - before
        return moved


def _freed_at_the_end(rows: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """What becomes free behind the last outcome of an order, and is therefore still locked in it.

    Only a market sell by amount that got all of its amount has something left: it held the most lots that it might have had to sell.
    """
    freed = np.zeros(len(rows), dtype=np.int64)
    taker = (rows["type"] == e.MARKET_AMOUNT) & (rows["side"] == e.SELL) & ((rows["flags"] & e.OUTCOME_TAKER) != 0)
    traded = (rows["kind"] == e.OUT_TRADE) | (rows["kind"] == e.OUT_PREVENTED)
    for last in np.flatnonzero(taker & traded & (rows["leaves_qty_lots"] == 0)).tolist():
        seq = rows["seq"][last]
        first = int(np.searchsorted(rows["seq"], seq))
        assert rows["kind"][first] == e.OUT_NEW, "an order by amount begins and ends with its command"
        if rows["order_id"][first] != rows["order_id"][last]:
            continue  # a stop that the order set off
        mine = slice(first, last + 1)
        of_order = rows["order_id"][mine] == rows["order_id"][last]
        lots = int(rows["qty_lots"][mine][taker[mine] & traded[mine] & of_order].sum())
        per_lot = int(rows["price_ticks"][first]) * int(listed["multiplier"][last])
        freed[last] = (int(rows["qty_lots"][first]) // per_lot - lots) * int(listed["lot_atoms"][last])
    return freed


def _trade_legs(
    rows: np.ndarray, at: np.ndarray, listed: np.ndarray, paid_asset: np.ndarray, moved: np.ndarray
) -> list[Leg]:
    """One side of a trade: what it gives goes from its lock to CLEARING, what it gets comes from there; then its fee."""
    row = rows[at]
    account = row["account"]
    buys = row["side"] == e.BUY
    base_units = row["qty_lots"] * listed["lot_atoms"][at]
    given = np.where(buys, row["value_units"], base_units)
    got = np.where(buys, base_units, row["value_units"])
    freed = -moved[at] - given
    assert (freed >= 0).all(), "a fill takes no more than was locked for it"
    paid = paid_asset[at]
    got_asset = row["asset"].astype(np.int32)
    fee_asset = row["fee_asset"].astype(np.int32)
    fee = row["fee_units"]
    kind = np.where((row["flags"] & e.OUTCOME_TAKER) != 0, TAKER_FEE, np.where(fee < 0, REBATE, MAKER_FEE))
    return [
        (at, 0, account, paid, BUCKET_LOCKED, TRADE, -given),
        (at, 1, CLEARING, paid, BUCKET_FREE, TRADE, given),
        (at, 2, CLEARING, got_asset, BUCKET_FREE, TRADE, -got),
        (at, 3, account, got_asset, BUCKET_FREE, TRADE, got),
        (at, 4, account, fee_asset, BUCKET_FREE, kind, -fee),
        (at, 5, FEE, fee_asset, BUCKET_FREE, kind, fee),
        (at, 6, account, paid, BUCKET_LOCKED, RELEASE, -freed),
        (at, 7, account, paid, BUCKET_FREE, RELEASE, freed),
    ]


def _hold_legs(rows: np.ndarray, at: np.ndarray, asset: np.ndarray, moved: np.ndarray) -> list[Leg]:
    """Orders that were accepted, amended or ended: between free and locked of the account."""
    account = rows["account"][at]
    units = moved[at]
    kind = np.where(units > 0, HOLD, RELEASE)
    return [
        (at, 0, account, asset[at], BUCKET_LOCKED, kind, units),
        (at, 1, account, asset[at], BUCKET_FREE, kind, -units),
    ]


def _money_legs(rows: np.ndarray, at: np.ndarray, asset: np.ndarray) -> list[Leg]:
    """Deposits and adjustments, the three commands of a withdrawal, both sides of a transfer."""
    legs: list[Leg] = []
    for kind, first, second in (
        (e.DEPOSIT, (None, BUCKET_FREE), (EXTERNAL, BUCKET_FREE)),
        (e.ADJUST, (None, BUCKET_FREE), (EXTERNAL, BUCKET_FREE)),
        (e.WITHDRAW_HOLD, (None, BUCKET_LOCKED), (None, BUCKET_FREE)),
        (e.WITHDRAW_SETTLE, (None, BUCKET_LOCKED), (EXTERNAL, BUCKET_FREE)),
        (e.WITHDRAW_RELEASE, (None, BUCKET_FREE), (None, BUCKET_LOCKED)),
        # What leaves an account comes to the other one in the outcome behind it.
        (e.TRANSFER, (None, BUCKET_FREE), (CLEARING, BUCKET_FREE)),
    ):
        mine = at[rows["type"][at] == kind]
        units = rows["value_units"][mine]
        for leg, (account, bucket), amount in ((0, first, units), (1, second, -units)):
            legs.append(
                (mine, leg, rows["account"][mine] if account is None else account, asset[mine], bucket, kind, amount)
            )
    return legs


def _table(rows: np.ndarray, legs: list[Leg]) -> np.ndarray:
    """The legs that move something, in the order of the outcomes."""
    chosen = [(leg, np.flatnonzero(leg[6])) for leg in legs]
    out = np.zeros(sum(len(mine) for _, mine in chosen), dtype=POSTING_DTYPE)
    place = np.empty(len(out), dtype=np.int64)
    start = 0
    for (at, leg, account, asset, bucket, kind, amount), mine in chosen:
        part = slice(start, start + len(mine))
        start += len(mine)
        place[part] = at[mine] * _LEGS + leg
        out["leg"][part] = leg
        out["account"][part] = account if isinstance(account, int) else account[mine]
        out["asset"][part] = asset[mine]
        out["bucket"][part] = bucket
        out["kind"][part] = kind if isinstance(kind, int) else kind[mine]
        out["amount_units"][part] = amount[mine]
    order = np.argsort(place)
    out = out[order]
    at = place[order] // _LEGS
    for name in ("seq", "index", "ts_ns"):
        out[name] = rows[name][at]
    return out
