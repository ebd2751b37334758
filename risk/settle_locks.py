"""What fills, amends and ends of orders move in the ledger: locks, proceeds, what becomes free. Source: flow format 2, section 5."""

from __future__ import annotations

import numpy as np

from protocol import enums as e
from protocol import reasons as r
from protocol.jit import inner
from risk import state as s
from risk.client_ids import finish_client_id, free_client_id
from risk.exits import end_exits
from risk.ledger import balance_row, drop_hold, post, promise
from risk.limits import count_end
from risk.links import unlink_hold
from risk.orders import limit_hold
from risk.quote_table import forget_quote


@inner
def release_promise(state, pending):
    """What reserve promised for the command is now in the ledger, or not needed."""
    if pending["inflight_units"] != 0:
        promise(state, pending["balance"], -pending["inflight_units"])


@inner
def order_named(state, event):
    """Hold row of the order that an event names; below 0, and a fault, where it is not that order's."""
    hold = np.int64(event["hold"])
    if state.holds[hold]["order_id"] == event["order_id"]:
        return hold
    state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
    return np.int64(-1)


@inner
def paid_asset(state, h):
    """Asset that an order pays with and therefore locks."""
    row = state.instruments[h["instrument"]]
    return row["quote"] if h["side"] == e.BUY else row["base"]


@inner
def lock_order(state, c, pending):
    """An accepted order's hold moves from free to locked."""
    h = state.holds[pending["hold"]]
    units = pending["inflight_units"]
    post(state, pending["balance"], -units, units, c["seq"])
    h["locked_units"] = units
    h["state"] = e.HOLD_LIVE


@inner
def cancel_is_own(c, account):
    """Whether a cancel comes from the order's owner, who therefore knows of it.

    A cancel-all is the owner's where it names the account and is asked for through a gateway of clients. An operator's, or that
    of a session that has ended, counts as an expiry, for the client may still be asking what became of the order.
    """
    return c["type"] == e.CANCEL or (
        c["type"] == e.CANCEL_ALL
        and c["account"] == account
        and c["source"] >= e.SOURCE_FIRST_GATEWAY
        and c["qty_lots"] == e.CAUSE_ASKED
    )


@inner
def end_order(state, c, hold, how, reason):
    """What a finished order still locks becomes free, its client order id too where its owner cancelled, and its row is given back."""
    seq = c["seq"]
    h = state.holds[hold]
    if (h["flags"] & s.HOLD_HAS_CLIENT_ID) != 0:
        if how == e.ORDER_STATE_CANCELED and reason != r.BY_PEG and cancel_is_own(c, h["account"]):
            free_client_id(state, hold)
        else:
            finish_client_id(state, hold, c["ts_ns"], how, reason)
    units = h["locked_units"]
    if units != 0:
        if units < 0 or (h["left_lots"] == 0 and h["type"] != e.MARKET_AMOUNT):
            state.meta[s.FAULT] = s.FAULT_LOCK_LEFT
        post(state, balance_row(state, h["account"], paid_asset(state, h)), units, -units, seq)
        h["locked_units"] = 0
    if (h["flags"] & s.HOLD_QUOTE) != 0:
        forget_quote(state, hold)
    if h["next"] != 0:
        end_exits(state, hold, seq)
    if (h["flags"] & s.HOLD_LINKED) != 0:
        unlink_hold(state, hold)
    state.accounts[h["account"]]["activity"] -= 1
    count_end(state, h["account"], h["instrument"])
    drop_hold(state, hold)


@inner
def fill_side(state, hold, row, price_ticks, lots, value_units, base_units, seq):
    """Locks and proceeds of one side of a fill (steps 1 and 2)."""
    h = state.holds[hold]
    account = h["account"]
    h["traded_lots"] += lots
    h["value_units"] += value_units
    if h["side"] == e.BUY:
        used = value_units
        if h["type"] != e.MARKET_AMOUNT:
            used = h["price_ticks"] * lots * row["multiplier"]
        h["locked_units"] -= used
        post(state, balance_row(state, account, row["quote"]), used - value_units, -used, seq)
        post(state, balance_row(state, account, row["base"]), base_units, 0, seq)
    else:
        h["locked_units"] -= base_units
        post(state, balance_row(state, account, row["base"]), 0, -base_units, seq)
        post(state, balance_row(state, account, row["quote"]), value_units, 0, seq)
    h["left_lots"] -= value_units if h["type"] == e.MARKET_AMOUNT else lots
    if (h["flags"] & s.HOLD_TERMS) != 0 and h["shown_lots"] != 0:
        show_less(h, lots)


@inner
def show_less(h, lots):
    """A resting iceberg loses lots that it showed; where none are shown any more it shows the next part."""
    h["shown_lots"] -= lots
    if h["shown_lots"] == 0:
        show_part(h)


@inner
def show_part(h):
    """What an order with terms shows when it comes to rest."""
    h["shown_lots"] = h["left_lots"] if h["display_lots"] <= 0 else min(h["left_lots"], h["display_lots"])


@inner
def cross_side(state, hold, row, price_ticks, lots, value_units, base_units, seq):
    """One side of a trade of an auction: of an iceberg the next part shows, however much has traded."""
    fill_side(state, hold, row, price_ticks, lots, value_units, base_units, seq)
    if (state.holds[hold]["flags"] & s.HOLD_TERMS) != 0:
        show_part(state.holds[hold])


@inner
def give_back(state, hold, lots, value_units, row, seq):
    """Self-trade prevention takes ``lots`` off an order: their hold becomes free."""
    h = state.holds[hold]
    h["prevented_lots"] += lots
    if h["type"] == e.MARKET_AMOUNT:
        units = value_units if h["side"] == e.BUY else lots * row["lot_atoms"]
        h["left_lots"] -= value_units
    else:
        units = limit_hold(h["side"], h["price_ticks"], lots, row["multiplier"], row["lot_atoms"])
        h["left_lots"] -= lots
        if (h["flags"] & s.HOLD_TERMS) != 0 and h["shown_lots"] != 0:
            show_less(h, lots)
    h["locked_units"] -= units
    post(state, balance_row(state, h["account"], paid_asset(state, h)), units, -units, seq)


@inner
def lock_amended(state, c, hold, event):
    """An order was amended: the difference of the holds moves."""
    h = state.holds[hold]
    row = state.instruments[h["instrument"]]
    units = limit_hold(h["side"], event["price_ticks"], event["left_lots"], row["multiplier"], row["lot_atoms"])
    more = units - h["locked_units"]
    post(state, balance_row(state, h["account"], paid_asset(state, h)), -more, more, c["seq"])
    h["locked_units"] = units
    h["price_ticks"] = event["price_ticks"]
    h["total_lots"] = event["qty_lots"]
    h["left_lots"] = event["left_lots"]
