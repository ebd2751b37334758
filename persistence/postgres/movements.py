"""From outcomes to ledger: every settled movement of money as postings, every trade once, and what became of each order.

The outcomes of the fused engine say what happened and what two balances were afterwards. This automaton repeats the
movements behind them in double entry and compares with those balances at each step, so that a posting that the engine
did not make cannot be written. Between batches it holds what the engine holds: balances and live orders; from an engine
in an earlier state it starts there.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from persistence.postgres.terms import (
    ADJUST,
    AMEND,
    DEPOSIT,
    EXTERNAL,
    FEE,
    FREE,
    HOLD,
    LOCKED,
    MAKER_FEE,
    REBATE,
    RELEASE,
    TAKER_FEE,
    TRADE,
    TRANSFER,
    WITHDRAW_HOLD,
    WITHDRAW_RELEASE,
    WITHDRAW_SETTLE,
)
from protocol import enums as e
from protocol.jit import entry, inner
from ringbuf.idtable import add_id, find_id, remove_id

POSTING_DTYPE: Final = np.dtype(
    [
        ("seq", "<i8"),
        ("idx", "<i4"),
        ("line", "<i2"),
        ("movement", "<i2"),
        ("ts_ns", "<i8"),
        ("account", "<i4"),
        ("asset", "<i4"),
        ("bucket", "<i2"),
        ("amount_units", "<i8"),
        ("balance_units", "<i8"),
        ("order_id", "<i8"),
    ]
)
"""One side of a movement; the amounts of a (seq, idx) add up to zero in each asset. ``balance_units``: of the bucket afterwards."""

TRADE_DTYPE: Final = np.dtype(
    [
        ("seq", "<i8"),
        ("idx", "<i4"),
        ("ts_ns", "<i8"),
        ("instrument", "<i4"),
        ("taker_side", "<i2"),
        ("price_ticks", "<i8"),
        ("qty_lots", "<i8"),
        ("value_units", "<i8"),
        ("taker_order_id", "<i8"),
        ("maker_order_id", "<i8"),
        ("taker_account", "<i4"),
        ("maker_account", "<i4"),
        ("taker_fee_units", "<i8"),
        ("maker_fee_units", "<i8"),
        ("taker_fee_asset", "<i4"),
        ("maker_fee_asset", "<i4"),
        ("taker_fee_rule", "<i4"),
        ("maker_fee_rule", "<i4"),
        ("taker_fee_tier", "<i2"),
        ("maker_fee_tier", "<i2"),
        ("taker_fee_api", "<i2"),
        ("maker_fee_api", "<i2"),
    ]
)
"""A trade, under the number of the taker's outcome."""

ORDER_DTYPE: Final = np.dtype(
    [
        ("order_id", "<i8"),
        ("seq", "<i8"),
        ("ts_ns", "<i8"),
        ("price_ticks", "<i8"),
        ("qty_lots", "<i8"),
        ("cum_qty_lots", "<i8"),
        ("leaves_qty_lots", "<i8"),
        ("value_units", "<i8"),
        ("locked_units", "<i8"),
        ("updated_seq", "<i8"),
        ("updated_ts_ns", "<i8"),
        ("batch", "<i8"),
        ("account", "<i4"),
        ("instrument", "<i4"),
        ("next", "<i4"),
        ("reason", "<u2"),
        ("side", "u1"),
        ("type", "u1"),
        ("state", "u1"),
        ("fresh", "u1"),
    ]
)
"""An order that is live, or ended in the batch at hand. ``fresh``: it entered in that batch; else its first fields are not known."""

POSTINGS_PER_OUTCOME_MAX: Final = 6
"""A trade has two outcomes and at most 11: five of the fill, two a fee, two where the taker's order gives back a rest."""

# --- meta ---------------------------------------------------------------------------------------------------------------
OUTCOMES: Final = 0  # in the batch
POSTINGS: Final = 1  # made of it
TRADES: Final = 2
CHANGED: Final = 3  # orders
BATCH: Final = 4  # number of the batch
INDEX_SHIFT: Final = 5
ROW_FREE: Final = 6  # head of the list of free order rows, -1 = none
ROWS_HIGH: Final = 7
LINE: Final = 9  # of the posting made last
LINE_SEQ: Final = 10
LINE_IDX: Final = 11
ASSETS: Final = 12  # rows of the table of assets
UNINDEXED: Final = 13  # order rows that were there at the start and are not in the index yet
OTHER_IDX: Final = 14  # outcome of the same command that postings were made of before, -1 = none …
OTHER_LINE: Final = 15  # … and the last of them
META_WORDS: Final = 16


@inner
def _post(state, out, idx, movement, account, asset, bucket, amount_units, order_id):
    """Add to one balance and write the posting."""
    if amount_units == 0:
        return
    meta = state.meta
    if bucket <= LOCKED:
        cell = (account * meta[ASSETS] + asset) * 2 + bucket - FREE
        state.balances[cell] += amount_units
        after = state.balances[cell]
    else:
        cell = asset * 2 + bucket - FEE
        state.system[cell] += amount_units
        after = state.system[cell]
    seq = out["seq"]
    if meta[LINE_SEQ] != seq:
        meta[LINE_SEQ] = seq
        meta[LINE_IDX] = idx
        meta[LINE] = -1
        meta[OTHER_IDX] = -1
    elif meta[LINE_IDX] != idx:
        # The two sides of a trade take turns: what the taker gives back at the end stands under its own outcome again.
        other_line = meta[OTHER_LINE] if meta[OTHER_IDX] == idx else -1
        meta[OTHER_IDX] = meta[LINE_IDX]
        meta[OTHER_LINE] = meta[LINE]
        meta[LINE_IDX] = idx
        meta[LINE] = other_line
    meta[LINE] += 1
    row = state.postings[meta[POSTINGS]]
    meta[POSTINGS] += 1
    row["seq"] = seq
    row["idx"] = idx
    row["line"] = meta[LINE]
    row["movement"] = movement
    row["ts_ns"] = out["ts_ns"]
    row["account"] = account
    row["asset"] = asset
    row["bucket"] = bucket
    row["amount_units"] = amount_units
    row["balance_units"] = after
    row["order_id"] = order_id


@inner
def _lock(state, out, movement, o, units):
    """Move from free to locked of what the order pays with; negative: back."""
    asset = _paid(state, o)
    _post(state, out, out["index"], movement, o["account"], asset, FREE, -units, o["order_id"])
    _post(state, out, out["index"], movement, o["account"], asset, LOCKED, units, o["order_id"])
    o["locked_units"] += units


@inner
def _paid(state, o):
    row = state.instruments[o["instrument"]]
    return row["quote"] if o["side"] == e.BUY else row["base"]


@inner
def _locked(state, account, asset):
    return state.balances[(account * state.meta[ASSETS] + asset) * 2 + 1]


@inner
def _agrees(state, out, paid):
    """Whether the two balances that an outcome states are those here."""
    first = out["account"] * state.meta[ASSETS]
    free = state.balances[(first + out["asset"]) * 2]
    locked = state.balances[(first + paid) * 2 + 1]
    return free == out["free_units"] and locked == out["locked_units"]


@inner
def _row_of(state, order_id):
    return find_id(state.recent, state.others, state.meta[INDEX_SHIFT], state.orders, 1, order_id) - 1


@inner
def _add(state, order_id):
    """Take a row for an order and index it."""
    meta = state.meta
    row = meta[ROW_FREE]
    if row >= 0:
        meta[ROW_FREE] = state.orders[row]["next"]
    else:
        row = meta[ROWS_HIGH]
        meta[ROWS_HIGH] = row + 1
    assert row < state.orders.shape[0], "the engine has no more orders than its table, nor a batch more than its slots"
    state.orders[row]["order_id"] = order_id
    add_id(state.recent, state.others, meta[INDEX_SHIFT], order_id, row + 1)
    return row


@inner
def _change(state, out, row):
    """Note that the order changed in this batch."""
    meta = state.meta
    o = state.orders[row]
    o["updated_seq"] = out["seq"]
    o["updated_ts_ns"] = out["ts_ns"]
    if o["batch"] != meta[BATCH]:
        o["batch"] = meta[BATCH]
        state.changed[meta[CHANGED]] = row
        meta[CHANGED] += 1


@inner
def _end(state, out, row, how, reason):
    """The order ended; what it still locks becomes free."""
    o = state.orders[row]
    _lock(state, out, RELEASE, o, -o["locked_units"])
    o["state"] = how
    o["reason"] = reason
    o["leaves_qty_lots"] = 0
    _change(state, out, row)


@inner
def _enter(state, out):
    """OUT_NEW: the hold is what is locked now and was not before."""
    row = _add(state, out["order_id"])
    o = state.orders[row]
    o["seq"] = out["seq"]
    o["ts_ns"] = out["ts_ns"]
    o["account"] = out["account"]
    o["instrument"] = out["instrument"]
    o["side"] = out["side"]
    # The two orders of a quote are limit orders that never take.
    o["type"] = e.LIMIT if out["type"] == e.QUOTE else out["type"]
    o["price_ticks"] = out["price_ticks"]
    o["qty_lots"] = out["qty_lots"]
    o["cum_qty_lots"] = 0
    o["leaves_qty_lots"] = out["leaves_qty_lots"]
    o["value_units"] = 0
    o["locked_units"] = 0
    o["state"] = e.ORDER_STATE_LIVE
    o["reason"] = 0
    o["fresh"] = 1
    _lock(state, out, HOLD, o, out["locked_units"] - _locked(state, out["account"], _paid(state, o)))
    _change(state, out, row)


@inner
def _amend(state, out, row):
    """OUT_REPLACED: the difference of the holds moves."""
    o = state.orders[row]
    o["price_ticks"] = out["price_ticks"]
    o["qty_lots"] = out["qty_lots"]
    o["leaves_qty_lots"] = out["leaves_qty_lots"]
    _lock(state, out, AMEND, o, out["locked_units"] - _locked(state, out["account"], _paid(state, o)))
    _change(state, out, row)


@inner
def _take_over(state, out, row, other):
    """OUT_TRIGGERED of one of two linked orders: what the other holds is its own now, and free what neither needs."""
    o = state.orders[row]
    o["locked_units"] += state.orders[other]["locked_units"]
    state.orders[other]["locked_units"] = 0
    _change(state, out, other)
    _lock(state, out, RELEASE, o, out["locked_units"] - _locked(state, out["account"], _paid(state, o)))
    _change(state, out, row)


@inner
def _prevent(state, out, row):
    """OUT_PREVENTED: lots are gone, and what was locked for them is free."""
    o = state.orders[row]
    _lock(state, out, RELEASE, o, out["locked_units"] - _locked(state, out["account"], _paid(state, o)))
    o["leaves_qty_lots"] = out["leaves_qty_lots"]
    _change(state, out, row)


@inner
def _fill(state, taker_out, maker_out, taker_row, maker_row):
    """Both sides of a trade and its fees; fees of the maker stand under the maker's outcome."""
    idx = taker_out["index"]
    buyer, seller = taker_row, maker_row
    if taker_out["side"] != e.BUY:
        buyer, seller = maker_row, taker_row
    b = state.orders[buyer]
    a = state.orders[seller]
    row = state.instruments[taker_out["instrument"]]
    lots = taker_out["qty_lots"]
    value = taker_out["value_units"]
    base_units = lots * row["lot_atoms"]
    used = value
    if b["type"] != e.MARKET_AMOUNT:
        used = b["price_ticks"] * lots * row["multiplier"]
    _post(state, taker_out, idx, TRADE, b["account"], row["quote"], LOCKED, -used, b["order_id"])
    _post(state, taker_out, idx, TRADE, b["account"], row["quote"], FREE, used - value, b["order_id"])
    _post(state, taker_out, idx, TRADE, a["account"], row["quote"], FREE, value, a["order_id"])
    _post(state, taker_out, idx, TRADE, a["account"], row["base"], LOCKED, -base_units, a["order_id"])
    _post(state, taker_out, idx, TRADE, b["account"], row["base"], FREE, base_units, b["order_id"])
    b["locked_units"] -= used
    a["locked_units"] -= base_units
    _pay_fee(state, taker_out)
    _pay_fee(state, maker_out)
    _fill_side(state, taker_out, taker_row)
    _fill_side(state, maker_out, maker_row)


@inner
def _pay_fee(state, out):
    fee = out["fee_units"]
    asset = np.int64(out["fee_asset"])
    movement = TAKER_FEE
    if (out["flags"] & e.OUTCOME_TAKER) == 0:
        movement = MAKER_FEE if fee > 0 else REBATE
    _post(state, out, out["index"], movement, out["account"], asset, FREE, -fee, out["order_id"])
    _post(state, out, out["index"], movement, 0, asset, FEE, fee, out["order_id"])


@inner
def _fill_side(state, out, row):
    o = state.orders[row]
    o["cum_qty_lots"] = out["cum_qty_lots"]
    o["leaves_qty_lots"] = out["leaves_qty_lots"]
    o["value_units"] += out["value_units"]
    _change(state, out, row)


@inner
def _write_trade(state, taker_out, maker_out):
    row = state.trades[state.meta[TRADES]]
    state.meta[TRADES] += 1
    row["seq"] = taker_out["seq"]
    row["idx"] = taker_out["index"]
    row["ts_ns"] = taker_out["ts_ns"]
    row["instrument"] = taker_out["instrument"]
    row["taker_side"] = taker_out["side"]
    row["price_ticks"] = taker_out["price_ticks"]
    row["qty_lots"] = taker_out["qty_lots"]
    row["value_units"] = taker_out["value_units"]
    row["taker_order_id"] = taker_out["order_id"]
    row["maker_order_id"] = maker_out["order_id"]
    row["taker_account"] = taker_out["account"]
    row["maker_account"] = maker_out["account"]
    row["taker_fee_units"] = taker_out["fee_units"]
    row["maker_fee_units"] = maker_out["fee_units"]
    row["taker_fee_asset"] = taker_out["fee_asset"]
    row["maker_fee_asset"] = maker_out["fee_asset"]
    row["taker_fee_rule"] = taker_out["reason"]
    row["maker_fee_rule"] = maker_out["reason"]
    row["taker_fee_tier"] = taker_out["fee_tier"] & (e.FEE_TIER_API - 1)
    row["maker_fee_tier"] = maker_out["fee_tier"] & (e.FEE_TIER_API - 1)
    row["taker_fee_api"] = taker_out["fee_tier"] >= e.FEE_TIER_API
    row["maker_fee_api"] = maker_out["fee_tier"] >= e.FEE_TIER_API


@inner
def _move_money(state, out):
    """OUT_BALANCE: a deposit, an adjustment, a step of a withdrawal."""
    kind = out["type"]
    units = out["value_units"]
    account = out["account"]
    asset = np.int64(out["asset"])
    idx = out["index"]
    order_id = out["order_id"]
    if kind == e.DEPOSIT or kind == e.ADJUST:
        movement = DEPOSIT if kind == e.DEPOSIT else ADJUST
        _post(state, out, idx, movement, account, asset, FREE, units, order_id)
        _post(state, out, idx, movement, 0, asset, EXTERNAL, -units, order_id)
    elif kind == e.WITHDRAW_SETTLE:
        _post(state, out, idx, WITHDRAW_SETTLE, account, asset, LOCKED, units, order_id)
        _post(state, out, idx, WITHDRAW_SETTLE, 0, asset, EXTERNAL, -units, order_id)
    else:
        movement = WITHDRAW_HOLD if kind == e.WITHDRAW_HOLD else WITHDRAW_RELEASE
        change = -units if kind == e.WITHDRAW_HOLD else units
        _post(state, out, idx, movement, account, asset, FREE, change, order_id)
        _post(state, out, idx, movement, account, asset, LOCKED, -change, order_id)


@inner
def _move_over(state, out, to_out):
    """A transfer, both sides under the number of the first outcome."""
    asset = np.int64(out["asset"])
    for side in (out, to_out):
        _post(state, out, out["index"], TRANSFER, side["account"], asset, FREE, side["value_units"], out["order_id"])


@inner
def _end_taker(state, out, taker):
    """Where a trade or prevention left a taker nothing it has ended, and what it locks becomes free."""
    if out["leaves_qty_lots"] == 0:
        filled = out["kind"] == e.OUT_TRADE
        _end(
            state, out, taker, e.ORDER_STATE_FILLED if filled else e.ORDER_STATE_EXPIRED, 0 if filled else out["reason"]
        )


@inner
def _forget_ended(state):
    """Give back the rows of orders that ended in the batch before; before the first, index those that are there."""
    meta = state.meta
    for unindexed in range(meta[UNINDEXED]):
        add_id(state.recent, state.others, meta[INDEX_SHIFT], state.orders[unindexed]["order_id"], unindexed + 1)
    meta[UNINDEXED] = 0
    for k in range(meta[CHANGED]):
        row = np.int64(state.changed[k])
        o = state.orders[row]
        o["fresh"] = 0
        if o["state"] != e.ORDER_STATE_LIVE:
            remove_id(state.recent, state.others, meta[INDEX_SHIFT], state.orders, 1, o["order_id"], row + 1)
            o["order_id"] = 0
            o["next"] = meta[ROW_FREE]
            meta[ROW_FREE] = row
    meta[CHANGED] = 0
    meta[POSTINGS] = 0
    meta[TRADES] = 0
    meta[BATCH] += 1


@entry
def apply(state):
    """Take a batch of outcomes (of whole commands); fills postings, trades and the list of changed orders.

    Returns
    -------
    int
        -1, or the number of the outcome in the batch whose balances are not those here: nothing of the batch may be used then.
    """
    meta = state.meta
    _forget_ended(state)
    outcomes = state.outcomes
    count = meta[OUTCOMES]
    i = 0
    while i < count:
        out = outcomes[i]
        kind = out["kind"]
        if kind == e.OUT_BALANCE and out["type"] == e.TRANSFER:
            to_out = outcomes[i + 1]
            _move_over(state, out, to_out)
            if not _agrees(state, out, np.int64(out["asset"])) or not _agrees(state, to_out, np.int64(to_out["asset"])):
                return i
            i += 1
        elif kind == e.OUT_BALANCE:
            _move_money(state, out)
            if not _agrees(state, out, np.int64(out["asset"])):
                return i
        elif kind == e.OUT_NEW:
            _enter(state, out)
            if not _agrees(state, out, np.int64(out["asset"])):
                return i
        elif kind == e.OUT_TRADE:
            maker_out = outcomes[i + 1]
            taker = _row_of(state, out["order_id"])
            maker = _row_of(state, maker_out["order_id"])
            if taker < 0 or maker < 0:
                return i
            _fill(state, out, maker_out, taker, maker)
            _write_trade(state, out, maker_out)
            paid_taker, paid_maker = _paid(state, state.orders[taker]), _paid(state, state.orders[maker])
            if not _agrees(state, out, paid_taker) or not _agrees(state, maker_out, paid_maker):
                return i
            i += 1
            if maker_out["leaves_qty_lots"] == 0:
                _end(state, maker_out, maker, e.ORDER_STATE_FILLED, 0)
            _end_taker(state, out, taker)
        elif kind == e.OUT_PREVENTED:
            maker_out = outcomes[i + 1]
            taker = _row_of(state, out["order_id"])
            maker = _row_of(state, maker_out["order_id"])
            if taker < 0 or maker < 0:
                return i
            _prevent(state, out, taker)
            _prevent(state, maker_out, maker)
            paid_taker, paid_maker = _paid(state, state.orders[taker]), _paid(state, state.orders[maker])
            if not _agrees(state, out, paid_taker) or not _agrees(state, maker_out, paid_maker):
                return i
            i += 1
            if maker_out["leaves_qty_lots"] == 0:
                _end(state, maker_out, maker, e.ORDER_STATE_EXPIRED, maker_out["reason"])
            _end_taker(state, out, taker)
        elif kind == e.OUT_TRIGGERED and out["contra_order_id"] != 0:
            row = _row_of(state, out["order_id"])
            other = _row_of(state, out["contra_order_id"])
            if row < 0 or other < 0:
                return i
            _take_over(state, out, row, other)
            if not _agrees(state, out, np.int64(out["asset"])):
                return i
        elif kind == e.OUT_CANCELED or kind == e.OUT_EXPIRED or kind == e.OUT_REPLACED:
            row = _row_of(state, out["order_id"])
            if row < 0:
                return i
            if kind == e.OUT_REPLACED:
                _amend(state, out, row)
            else:
                how = e.ORDER_STATE_CANCELED if kind == e.OUT_CANCELED else e.ORDER_STATE_EXPIRED
                _end(state, out, row, how, out["reason"])
            if not _agrees(state, out, np.int64(out["asset"])):
                return i
        i += 1
    return -1
