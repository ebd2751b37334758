"""A quote of a mass quote: two orders of an account that take the place of its former two in an instrument, or stay as they were.

Its slot has price and quantity of the bid where an order has them, those of the ask in the words of the order's id and
trigger; the verdict has the id of the bid as its price, the hold row of the bid, and that of the ask as its quantity. A row of
-1 says that risk knows that an order stands there.
"""

from __future__ import annotations

import numpy as np

from matcher.book import append, forget, new_slot, register, unlink
from matcher.events import emit, has_room
from matcher.jit import njit_called, njit_inlined
from matcher.levels import has_leaf, head_of, next_level_down, next_level_up, price_of, tail_of
from matcher.protection import is_pulled, keep_quote, quote_row
from matcher.state import IS_QUOTE, LEAVES_LIVE, ORDERS_LIVE
from protocol.enums import (
    BUY,
    EV_AMENDED,
    EV_CANCELED,
    EV_QUOTED,
    EV_RESTED,
    EVENT_LAST,
    POST_ONLY,
    QUOTE_ASK_BIT,
    SELL,
)
from protocol.reasons import BOOK_FULL, BY_USER, POST_ONLY_WOULD_TAKE, PROTECTED

EVENTS_OF_QUOTE: int = 3


@njit_called
def enter_quote(state, command, verdict, events):
    """A slot of a mass quote; all of its events, or False where the ring has no room for them."""
    if not has_room(state, events, np.int64(EVENTS_OF_QUOTE)):
        return False
    account = np.int64(command["account"])
    instrument = np.int64(command["instrument"])
    bid_ticks = command["price_ticks"]
    bid_lots = command["qty_lots"]
    ask_ticks = command["trigger_price_ticks"]
    ask_lots = command["order_id"]
    seq = command["seq"]
    row = state.quotes[quote_row(state, account, instrument)]
    bid_slot = np.int64(row["slot"][BUY])
    ask_slot = np.int64(row["slot"][SELL])
    reason = np.int64(0)
    if bid_lots != 0 or ask_lots != 0:
        reason = np.int64(
            _quote_code(state, account, instrument, bid_ticks, bid_lots, ask_ticks, ask_lots, bid_slot, ask_slot)
        )
    if reason == 0:
        bid_moves = _takes_off(state, bid_slot, bid_ticks, bid_lots)
        ask_moves = _takes_off(state, ask_slot, ask_ticks, ask_lots)
        bid_id = verdict["price_ticks"]
        bid_hold = np.int64(verdict["hold"])
        _put_side(
            state, events, seq, account, instrument, BUY, bid_slot, bid_moves, bid_ticks, bid_lots, bid_id, bid_hold
        )
        ask_id = bid_id | QUOTE_ASK_BIT
        ask_hold = verdict["qty_lots"]
        _put_side(
            state, events, seq, account, instrument, SELL, ask_slot, ask_moves, ask_ticks, ask_lots, ask_id, ask_hold
        )
    zero = np.int64(0)
    emit(
        state,
        events.slots,
        seq,
        np.int64(EV_QUOTED),
        reason,
        np.int64(EVENT_LAST),
        instrument,
        verdict["price_ticks"],
        zero,
        zero,
        zero,
        zero,
        np.int64(-1),
    )
    return True


@njit_called
def _quote_code(state, account, instrument, bid_ticks, bid_lots, ask_ticks, ask_lots, bid_slot, ask_slot):
    """0, or why the quote is refused: nothing is changed."""
    if is_pulled(state, account, instrument):
        return PROTECTED
    if bid_lots != 0 and _would_take(state, instrument, BUY, bid_ticks, ask_slot):
        return POST_ONLY_WOULD_TAKE
    if ask_lots != 0 and _would_take(state, instrument, SELL, ask_ticks, bid_slot):
        return POST_ONLY_WOULD_TAKE
    leaves = np.int64(0)
    orders = np.int64(0)
    if bid_lots != 0:
        leaves += not has_leaf(state, instrument, bid_ticks >> 6)
        orders += bid_slot == 0
    if ask_lots != 0:
        shares = bid_lots != 0 and bid_ticks >> 6 == ask_ticks >> 6
        leaves += not shares and not has_leaf(state, instrument, ask_ticks >> 6)
        orders += ask_slot == 0
    if (
        state.meta[LEAVES_LIVE] + leaves > state.leaves.shape[0] - 1
        or state.meta[ORDERS_LIVE] + orders > state.orders.shape[0] - 1
    ):
        return BOOK_FULL
    return 0


@njit_inlined
def _would_take(state, instrument, side, price_ticks, own_slot):
    """Whether a new order would meet the best opposite price, that of the account's own former quote left out."""
    leaves = state.leaves
    level = np.int64(state.books[instrument]["best_level"][1 - side])
    if level == 0:
        return False
    if own_slot != 0 and head_of(state, level) == own_slot and tail_of(state, level) == own_slot:
        level = next_level_up(leaves, level) if side == BUY else next_level_down(leaves, level)
        if level == 0:
            return False
    return (1 - 2 * side) * (price_ticks - price_of(state, level)) >= 0


@njit_called
def _takes_off(state, slot, price_ticks, lots):
    """Take the former order of a side off its level, unless it keeps its place; whether it was taken off."""
    if slot == 0:
        return False
    order = state.orders[slot]
    if lots != 0 and order["price_ticks"] == price_ticks and lots <= order["left_lots"]:
        return False
    unlink(state, slot)
    return True


@njit_called
def _put_side(state, events, seq, account, instrument, side, slot, moves, price_ticks, lots, order_id, hold):
    """Let a side be what the quote says: nothing, the former order (changed, or in its place), or a new one."""
    orders = state.orders
    if lots == 0 and slot == 0:
        return
    kind = np.int64(EV_AMENDED)
    reason = np.int64(0)
    if slot == 0:
        kind = np.int64(EV_RESTED)
        slot = new_slot(state)
        order = orders[slot]
        order["order_id"] = order_id
        order["total_lots"] = lots
        order["left_lots"] = lots
        order["hold"] = hold
        order["book"] = instrument
        order["side"] = side
        order["modes"] = POST_ONLY << 4 | IS_QUOTE
        state.sessions[slot] = 0
        register(state, slot, order_id, account, instrument)
        keep_quote(state, slot, account, instrument, side)
        moves = True
    order = orders[slot]
    old_left = order["left_lots"]
    if lots == 0:
        kind = np.int64(EV_CANCELED)
        reason = np.int64(BY_USER)
        price_ticks = order["price_ticks"]
    elif kind == EV_AMENDED and not moves and lots == old_left:
        return
    total = order["total_lots"] - old_left + lots
    quantity = total if kind == EV_AMENDED else max(lots, old_left)
    emit(
        state,
        events.slots,
        seq,
        kind,
        reason,
        np.int64(0),
        instrument,
        order["order_id"],
        price_ticks,
        quantity,
        lots,
        lots,
        np.int64(order["hold"]),
    )
    if lots == 0:
        forget(state, slot)
        return
    order["price_ticks"] = price_ticks
    order["total_lots"] = total
    order["left_lots"] = lots
    if moves:
        append(state, slot, instrument, np.int64(side), price_ticks)
