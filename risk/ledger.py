"""Rows of the ledger: balances under their sequence lock, hold rows and the index from order id to hold row, withdrawal holds."""

from __future__ import annotations

import numpy as np
from numba import config

from protocol.enums import FLAG_API, HOLD_IN_FLIGHT
from protocol.enums import HOLD_FREE as STATE_FREE
from protocol.jit import entry, inner
from ringbuf.atomics import fence_release, store_release
from ringbuf.idtable import add_id, find_id, prefetch_id, remove_id
from risk.state import (
    BALANCE_WORDS,
    FAULT,
    FAULT_NEGATIVE_BALANCE,
    FREE,
    HOLD_API,
    HOLD_FREE,
    HOLDS_HIGH,
    HOLDS_USED,
    INDEX_SHIFT,
    INFLIGHT,
    LOCKED,
    ROW_SEQ,
    ROW_VERSION,
)

_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


@inner
def balance_row(state, account, asset):
    """First word of the balance row of (account, asset); both in range."""
    return (account * state.assets.shape[0] + asset) * BALANCE_WORDS


@inner
def post(state, row, free_delta, locked_delta, seq):
    """Add to free and locked of one balance row as part of command ``seq``; a negative result is a fault that stops the engine.

    Readers of other processes see the row before or after, never between (sequence lock).
    """
    b = state.balances
    version = b[row + ROW_VERSION]
    store_release(b, row + ROW_VERSION, version + 1)
    fence_release()
    free = b[row + FREE] + free_delta
    locked = b[row + LOCKED] + locked_delta
    if free < 0 or locked < 0:
        state.meta[FAULT] = FAULT_NEGATIVE_BALANCE
    b[row + FREE] = free
    b[row + LOCKED] = locked
    b[row + ROW_SEQ] = seq
    store_release(b, row + ROW_VERSION, version + 2)


@inner
def promise(state, row, units):
    """Add to what is promised and not yet in the ledger (reserve); negative: take off (settle)."""
    state.balances[row + INFLIGHT] += units


@inner
def available(state, row):
    """Bound on the exact free balance that later settling can only raise."""
    return state.balances[row + FREE] - state.balances[row + INFLIGHT]


@inner
def _home_compiled(key, mask):
    return np.int64((np.uint64(key) * _FIBONACCI) >> _HALF) & mask


def _home_plain(key, mask):
    return (((int(key) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF) >> 32) & mask


home_of = _home_plain if config.DISABLE_JIT else _home_compiled
"""Home position of a key in an open-addressing table with mask ``mask``."""


@inner
def find_hold(state, order_id):
    """Hold row of an order in flight or live, -1 where there is none."""
    return find_id(state.recent_orders, state.other_orders, state.meta[INDEX_SHIFT], state.holds, 1, order_id) - 1


@inner
def foresee_hold(state, order_id):
    """Prefetch where the index has an order, or will have it."""
    prefetch_id(state.recent_orders, order_id)


@inner
def hold_row_free(state):
    """Whether there is a row for another order."""
    return state.meta[HOLDS_USED] < state.holds.shape[0]


@inner
def take_hold(state, order_id):
    """Take a hold row and index it; the caller has checked ``hold_row_free``."""
    meta = state.meta
    hold = meta[HOLD_FREE]
    if hold >= 0:
        meta[HOLD_FREE] = state.holds[hold]["next"]
    else:
        hold = meta[HOLDS_HIGH]
        meta[HOLDS_HIGH] = hold + 1
    assert hold < state.holds.shape[0]
    meta[HOLDS_USED] += 1
    state.holds[hold]["order_id"] = order_id
    state.holds[hold]["next"] = 0
    add_id(state.recent_orders, state.other_orders, state.meta[INDEX_SHIFT], order_id, hold + 1)
    return hold


@entry
def index_holds(state):
    """Enter every order that has a hold row into the index, which is empty: of a snapshot of another version."""
    for hold in range(state.meta[HOLDS_HIGH]):
        if state.holds[hold]["state"] != STATE_FREE:
            order_id = state.holds[hold]["order_id"]
            add_id(state.recent_orders, state.other_orders, state.meta[INDEX_SHIFT], order_id, hold + 1)


@inner
def open_hold(state, c, order_id, instrument, side, price, qty, seq):
    """Take and fill the hold row of an order that a command enters, all but its type, time in force and self-trade prevention."""
    hold = take_hold(state, order_id)
    row = state.holds[hold]
    row["account"] = c["account"]
    row["instrument"] = instrument
    row["price_ticks"] = price
    row["left_lots"] = qty
    row["total_lots"] = qty
    row["traded_lots"] = 0
    row["prevented_lots"] = 0
    row["value_units"] = 0
    row["locked_units"] = 0
    row["state"] = HOLD_IN_FLIGHT
    row["side"] = side
    row["flags"] = HOLD_API if (c["flags"] & FLAG_API) != 0 else 0
    row["amends_inflight"] = 0
    row["seq"] = seq
    row["entry_ts_ns"] = c["ts_ns"]
    return hold


@inner
def drop_hold(state, hold):
    """Give a hold row back and take it out of the index."""
    remove_id(
        state.recent_orders,
        state.other_orders,
        state.meta[INDEX_SHIFT],
        state.holds,
        1,
        state.holds[hold]["order_id"],
        hold + 1,
    )
    row = state.holds[hold]
    row["state"] = STATE_FREE
    row["order_id"] = 0
    row["next"] = state.meta[HOLD_FREE]
    state.meta[HOLD_FREE] = hold
    state.meta[HOLDS_USED] -= 1


@inner
def find_withdrawal(state, hold_id):
    """Position of an open withdrawal hold in its table, -1 where there is none."""
    table = state.withdrawals
    mask = table.shape[0] - 1
    i = home_of(hold_id, mask)
    while table[i]["hold_id"] != 0:
        if table[i]["hold_id"] == hold_id:
            return i
        i = (i + 1) & mask
    return -1


@inner
def add_withdrawal(state, hold_id, account, asset, amount_units, seq):
    """Store an open withdrawal hold; the caller has checked that the table has room."""
    table = state.withdrawals
    mask = table.shape[0] - 1
    i = home_of(hold_id, mask)
    while table[i]["hold_id"] != 0:
        i = (i + 1) & mask
    table[i]["hold_id"] = hold_id
    table[i]["account"] = account
    table[i]["asset"] = asset
    table[i]["amount_units"] = amount_units
    table[i]["seq"] = seq


@inner
def remove_withdrawal(state, position):
    """Take a withdrawal hold out of its table (backward-shift deletion)."""
    table = state.withdrawals
    mask = table.shape[0] - 1
    i = position
    j = i
    while True:
        j = (j + 1) & mask
        if table[j]["hold_id"] == 0:
            break
        home = home_of(table[j]["hold_id"], mask)
        if ((j - home) & mask) >= ((j - i) & mask):
            table[i]["hold_id"] = table[j]["hold_id"]
            table[i]["account"] = table[j]["account"]
            table[i]["asset"] = table[j]["asset"]
            table[i]["amount_units"] = table[j]["amount_units"]
            table[i]["seq"] = table[j]["seq"]
            i = j
    table[i]["hold_id"] = 0
