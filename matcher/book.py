"""Orders on and off the book, and what it offers.

A resting order is in three structures: the FIFO of its price level, the list of its account, the table of ids.
"""

from __future__ import annotations

import numpy as np

from matcher.jit import njit_called, njit_inlined
from matcher.levels import (
    FEW,
    close_level,
    first_leaf,
    head_of,
    is_wide_of,
    join,
    join_wide,
    next_level_down,
    next_level_up,
    price_of,
    set_ends,
    thin_leaf,
)
from matcher.protection import forget_quote
from matcher.state import (
    HAS_TERMS,
    IDS_SHIFT,
    IS_QUOTE,
    NO_ASK,
    ORDERS_FREE,
    ORDERS_LIVE,
    ORDERS_USED,
    WIDE,
)
from matcher.terms import drop_terms, hidden_lots, set_terms
from protocol.enums import (
    BUY,
    JUDGED_SESSION,
    JUDGED_TERMS,
    SELL,
    STP_EXPIRE_MAKER,
    STP_NONE,
)
from protocol.order_terms import expiry_of
from ringbuf.bits import bit, ones
from ringbuf.idtable import add_id, remove_id

assert (BUY, SELL) == (0, 1), "sides are indexes, and 1 - 2 * side their sign"


@njit_inlined
def crosses(state, instrument, side, price_ticks):
    """Whether an order would meet the best opposite price."""
    return (1 - 2 * side) * (price_ticks - state.books[instrument]["best_ticks"][1 - side]) >= 0


@njit_inlined
def append(state, slot, book, side, price_ticks):
    """Put an order that is on no level to the back of the level of its price, which it names, as it does the book.

    Its leaf must exist or be available.
    """
    prefix = price_ticks >> 6
    leaf = first_leaf(state, book, prefix)
    if is_wide_of(state, leaf, book, prefix):
        level = join_wide(state, leaf, price_ticks & 63, slot)
    else:
        level = join(state, book, price_ticks, slot)
    row = state.books[book]
    if (1 - 2 * side) * (price_ticks - row["best_ticks"][side]) > 0:
        row["best_ticks"][side] = price_ticks
        row["best_level"][side] = level


@njit_inlined
def unlink(state, slot):
    """Take an order off its level; it stays in the lists of ids and of its account."""
    orders = state.orders
    leaves = state.leaves
    order = orders[slot]
    younger = np.int64(order["next"])
    older = np.int64(order["prev"])
    level = np.int64(order["level"])
    side = np.int64(order["side"])
    book = np.int64(order["book"])
    orders[older]["next"] = younger
    orders[younger]["prev"] = older
    leaf = level >> 6
    if np.int64(leaves[leaf]["tail"]) >= WIDE:
        queue = state.levels[np.int64(leaves[leaf]["head"]) + 1 + (level & 63)]
        head = np.int64(queue["head"])
        tail = np.int64(queue["tail"])
        queue["head"] = younger if older == 0 else head
        queue["tail"] = older if younger == 0 else tail
        if older | younger != 0:
            return
        if state.books[book]["best_level"][side] == level:
            _next_best(state, book, side, level)
        leaves[leaf]["bitmap"] &= ~bit(level & 63)
        if ones(leaves[leaf]["bitmap"]) == FEW:
            thin_leaf(state, leaf, order["price_ticks"] >> 6)
    elif older | younger != 0:
        if older == 0 or younger == 0:
            set_ends(state, level, younger, older)
    else:
        if state.books[book]["best_level"][side] == level:
            _next_best(state, book, side, level)
        close_level(state, leaf, book, order["price_ticks"] >> 6, level & 63)


@njit_inlined
def _next_best(state, book, side, level):
    leaves = state.leaves
    row = state.books[book]
    level = next_level_down(leaves, level) if side == BUY else next_level_up(leaves, level)
    row["best_level"][side] = level
    none = NO_ASK if side == SELL else 0
    row["best_ticks"][side] = none if level == 0 else price_of(state, level)


@njit_inlined
def new_slot(state):
    """A free slot of the pool; there must be one."""
    meta = state.meta
    slot = meta[ORDERS_FREE]
    if slot != 0:
        meta[ORDERS_FREE] = state.orders[slot]["next"]
    else:
        slot = meta[ORDERS_USED] + 1
        assert slot < state.orders.shape[0], "risk admits no more orders than the pool holds"
        meta[ORDERS_USED] = slot
    meta[ORDERS_LIVE] += 1
    return slot


@njit_inlined
def register(state, slot, order_id, account, book):
    """Enter an order into the lists of ids and of its account."""
    orders = state.orders
    first = np.int64(state.accounts[account])
    order = orders[slot]
    order["account"] = account
    order["account_prev"] = 0
    order["account_next"] = first
    orders[first]["account_prev"] = slot
    state.accounts[account] = slot
    add_id(state.recent_ids, state.other_ids, state.meta[IDS_SHIFT], order_id, slot)
    state.books[book]["orders"] += 1


@njit_inlined
def forget(state, slot):
    """Take an order that is on no level out of the lists of ids and of its account, and free its slot."""
    orders = state.orders
    meta = state.meta
    order = orders[slot]
    following = np.int64(order["account_next"])
    before = np.int64(order["account_prev"])
    account = np.int64(order["account"])
    orders[following]["account_prev"] = before
    orders[before]["account_next"] = following
    if before == 0:
        state.accounts[account] = following
    remove_id(state.recent_ids, state.other_ids, state.meta[IDS_SHIFT], orders, 0, order["order_id"], slot)
    if (order["modes"] & (HAS_TERMS | IS_QUOTE)) != 0:
        if (order["modes"] & HAS_TERMS) != 0:
            drop_terms(state, slot)
        else:
            forget_quote(state, account, np.int64(order["book"]), np.int64(order["side"]))
    state.books[np.int64(order["book"])]["orders"] -= 1
    order["order_id"] = 0
    order["next"] = meta[ORDERS_FREE]
    meta[ORDERS_FREE] = slot
    meta[ORDERS_LIVE] -= 1


@njit_called
def enter_pool(state, slot, command, verdict, price_ticks, book, side, modes):
    """Make a new slot the order of a command, with its terms, on no level yet.

    ``price_ticks``, ``book`` and ``side`` are those of the level that it is to stand on.
    """
    order = state.orders[slot]
    qty = verdict["qty_lots"]
    order["order_id"] = command["order_id"]
    order["price_ticks"] = price_ticks
    order["left_lots"] = qty
    order["total_lots"] = qty
    order["hold"] = verdict["hold"]
    order["book"] = book
    order["side"] = side
    order["modes"] = modes
    state.sessions[slot] = 0
    if (verdict["flags"] & JUDGED_SESSION) != 0:
        state.sessions[slot] = command["session"]
    register(state, slot, command["order_id"], np.int64(command["account"]), book)
    if (verdict["flags"] & JUDGED_TERMS) != 0:
        expiry_ns = expiry_of(command["expiry_ts_ns"], command["ts_ns"])
        set_terms(state, slot, command["seq"], expiry_ns, command["display_qty_lots"])
        state.terms[slot]["min_lots"] = command["min_qty_lots"]
    else:
        set_terms(state, slot, command["seq"], np.int64(0), np.int64(0))
        state.terms[slot]["min_lots"] = 0


@njit_called
def take_off(state, slot):
    """``unlink`` where that is rare: called instead of written there."""
    unlink(state, slot)


@njit_called
def put_on(state, slot, book, side, price_ticks):
    """``append`` where that is rare."""
    append(state, slot, book, side, price_ticks)


@njit_called
def remove(state, slot):
    """``unlink`` and ``forget`` where that is rare."""
    unlink(state, slot)
    forget(state, slot)


@njit_inlined
def is_own(state, maker_account, account):
    """Whether self-trade prevention counts the two as one: the same account, or accounts of one group."""
    return maker_account == account or (
        state.groups[account]["stp_group"] != 0
        and state.groups[maker_account]["stp_group"] == state.groups[account]["stp_group"]
    )


@njit_called
def fillable(state, instrument, side, price_ticks, qty_lots, account, stp):
    """Whether an order finds so many lots at once (flow format 2, section 4): nothing is changed."""
    orders = state.orders
    leaves = state.leaves
    sign = 1 - 2 * side
    level = np.int64(state.books[instrument]["best_level"][1 - side])
    while level != 0 and sign * (price_ticks - price_of(state, level)) >= 0:
        slot = head_of(state, level)
        while slot != 0:
            maker = orders[slot]
            if stp == STP_NONE or not is_own(state, np.int64(maker["account"]), account):
                qty_lots -= maker["left_lots"] + hidden_lots(state, slot)
                if qty_lots <= 0:
                    return True
            elif stp != STP_EXPIRE_MAKER:
                return False
            slot = np.int64(maker["next"])
        level = next_level_up(leaves, level) if side == BUY else next_level_down(leaves, level)
    return False
