"""What an account quotes in an instrument, and the protection that pulls its quotes there: what plain orders never touch."""

from __future__ import annotations

import numpy as np

from matcher.events import emit
from matcher.jit import njit_called, njit_inlined
from matcher.state import PROTECTIONS_HIGH, TAKER_SEQ, TAKER_TS
from protocol.enums import BUY, EV_CANCELED, PROTECTION_STEPS, SELL
from protocol.reasons import BY_PROTECTION
from ringbuf.bits import PHI, multiply


@njit_inlined
def _quote_home(table, account, instrument):
    word = multiply(np.uint64(account << 16 ^ instrument), PHI)
    return np.int64(word >> np.uint64(20)) & np.int64(table.shape[0] - 1)


@njit_called
def quote_row(state, account, instrument):
    """Row of an account and instrument in ``quotes``, or the free one where it would stand."""
    table = state.quotes
    mask = np.int64(table.shape[0] - 1)
    i = _quote_home(table, account, instrument)
    while table[i]["account"] != 0 and (table[i]["account"] != account or table[i]["instrument"] != instrument):
        i = (i + 1) & mask
    return i


@njit_called
def keep_quote(state, slot, account, instrument, side):
    """The order in the slot is the account's quote on this side."""
    row = state.quotes[quote_row(state, account, instrument)]
    row["account"] = account
    row["instrument"] = instrument
    row["slot"][side] = slot


@njit_called
def forget_quote(state, account, instrument, side):
    """The account's quote on this side is gone."""
    i = quote_row(state, account, instrument)
    state.quotes[i]["slot"][side] = 0
    _free_quote_row(state, i)


@njit_called
def _free_quote_row(state, i):
    """Free a row that holds nothing more; those behind it move up."""
    table = state.quotes
    mask = np.int64(table.shape[0] - 1)
    if table[i]["slot"][BUY] != 0 or table[i]["slot"][SELL] != 0 or table[i]["protection"] != 0:
        return
    j = i
    while True:
        j = (j + 1) & mask
        if table[j]["account"] == 0:
            break
        home = _quote_home(table, np.int64(table[j]["account"]), np.int64(table[j]["instrument"]))
        if (j - home) & mask >= (j - i) & mask:
            table[i]["account"] = table[j]["account"]
            table[i]["instrument"] = table[j]["instrument"]
            table[i]["slot"][BUY] = table[j]["slot"][BUY]
            table[i]["slot"][SELL] = table[j]["slot"][SELL]
            table[i]["protection"] = table[j]["protection"]
            i = j
    table[i]["account"] = 0
    table[i]["slot"][BUY] = 0
    table[i]["slot"][SELL] = 0
    table[i]["protection"] = 0


@njit_called
def set_protection(state, command):
    """SET_PROTECTION: limits and counts of an account in an instrument anew, or none."""
    protect(
        state,
        np.int64(command["account"]),
        np.int64(command["instrument"]),
        command["price_ticks"],
        command["qty_lots"],
        command["trigger_price_ticks"],
        command["order_id"],
    )


@njit_called
def protect(state, account, instrument, window_ns, qty_max_lots, net_max_lots, trades_max):
    """Give the account and instrument this protection (``window_ns`` 0 = none), with nothing counted; returns its row."""
    i = quote_row(state, account, instrument)
    quote = state.quotes[i]
    at = np.int64(quote["protection"]) if quote["account"] != 0 else np.int64(0)
    if at == 0:
        if window_ns == 0:
            return at
        at = np.int64(1)
        while state.protections[at]["window_ns"] != 0:
            at += 1
        state.meta[PROTECTIONS_HIGH] = max(state.meta[PROTECTIONS_HIGH], at)
        quote["account"] = account
        quote["instrument"] = instrument
        quote["protection"] = at
    row = state.protections[at]
    row["account"] = account
    row["instrument"] = instrument
    row["window_ns"] = window_ns
    row["qty_max_lots"] = qty_max_lots
    row["net_max_lots"] = net_max_lots
    row["trades_max"] = trades_max
    row["pulled"] = 0
    row["newest"] = 0
    for step in range(PROTECTION_STEPS):
        row["lots"][step] = 0
        row["net"][step] = 0
        row["trades"][step] = 0
    if window_ns == 0:
        quote["protection"] = 0
        _free_quote_row(state, i)
    return at


@njit_called
def is_pulled(state, account, instrument):
    """Whether protection has pulled the account's quotes there, so that it takes none."""
    quote = state.quotes[quote_row(state, account, instrument)]
    return quote["account"] != 0 and state.protections[np.int64(quote["protection"])]["pulled"] != 0


@njit_called
def count_quote_fill(state, account, instrument, side, lots, maker_left):
    """Count a fill of a quote; where a limit is reached: how many of its orders have to be pulled behind it, else 0."""
    quote = state.quotes[quote_row(state, account, instrument)]
    at = np.int64(quote["protection"])
    if at == 0:
        return np.int64(0)
    row = state.protections[at]
    now = state.meta[TAKER_TS] // (row["window_ns"] // PROTECTION_STEPS)
    for step in range(max(row["newest"] + 1, now - PROTECTION_STEPS + 1), now + 1):
        row["lots"][step % PROTECTION_STEPS] = 0
        row["net"][step % PROTECTION_STEPS] = 0
        row["trades"][step % PROTECTION_STEPS] = 0
    row["newest"] = now
    here = now % PROTECTION_STEPS
    row["lots"][here] += lots
    row["net"][here] += lots if side == BUY else -lots
    row["trades"][here] += 1
    all_lots = np.int64(0)
    net = np.int64(0)
    trades = np.int64(0)
    for step in range(PROTECTION_STEPS):
        all_lots += row["lots"][step]
        net += row["net"][step]
        trades += row["trades"][step]
    if (
        (row["qty_max_lots"] != 0 and all_lots >= row["qty_max_lots"])
        or (row["net_max_lots"] != 0 and abs(net) >= row["net_max_lots"])
        or (row["trades_max"] != 0 and trades >= row["trades_max"])
    ):
        row["pulled"] = 1
        return np.int64((maker_left != 0) + (quote["slot"][1 - side] != 0))
    return np.int64(0)


@njit_called
def emit_pulled(state, events, slot, instrument, flags):
    """An order of a quote is pulled by protection; the caller takes it off the book."""
    order = state.orders[slot]
    emit(
        state,
        events.slots,
        state.meta[TAKER_SEQ],
        np.int64(EV_CANCELED),
        np.int64(BY_PROTECTION),
        flags,
        instrument,
        order["order_id"],
        order["price_ticks"],
        order["left_lots"],
        np.int64(0),
        np.int64(0),
        np.int64(order["hold"]),
    )
