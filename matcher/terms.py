"""Orders with terms: those that expire, and icebergs. What plain orders never touch.

The row of an order in ``terms`` has the number of its slot, and counts where ``HAS_TERMS`` is set in the order's modes. Orders that
expire are in a binary heap (``due``, from entry 1 on) by time and then age, which the row's ``due_at`` leads back to.
"""

from __future__ import annotations

import numpy as np

from matcher.jit import njit_called, njit_inlined
from matcher.levels import set_ends, tail_of
from matcher.state import BOOK_AUCTION_ASKS, BOOK_AUCTION_BIDS, BOOK_STRIDE, DUE_COUNT, HAS_TERMS, PEGS, WAITS
from protocol.enums import OFFSET_NONE


@njit_inlined
def instrument_of(state, order):
    """Instrument of an order, in whichever of its books it stands."""
    number = np.int64(order["book"])
    stride = state.meta[BOOK_STRIDE]
    while number >= stride:
        number -= stride
    return number


@njit_inlined
def hidden_lots(state, slot):
    """Lots of a resting order behind those that it shows."""
    if (state.orders[slot]["modes"] & HAS_TERMS) != 0:
        return state.terms[slot]["hidden_lots"]
    return np.int64(0)


@njit_called
def set_terms(state, slot, seq, expiry_ns, display_lots):
    """Give terms to an order that is new in the pool; ``expiry_ns`` and ``display_lots`` 0 = none."""
    row = state.terms[slot]
    row["age"] = seq
    row["expiry_ns"] = expiry_ns
    row["display_lots"] = display_lots
    row["hidden_lots"] = 0
    row["due_at"] = 0
    row["link"] = 0
    row["offset_kind"] = OFFSET_NONE
    row["activates"] = OFFSET_NONE
    state.orders[slot]["modes"] |= HAS_TERMS
    if expiry_ns != 0:
        at = state.meta[DUE_COUNT] + 1
        state.meta[DUE_COUNT] = at
        _rise(state, at, slot)


@njit_called
def drop_terms(state, slot):
    """Forget the terms of an order that leaves."""
    untrail(state, slot)
    if (state.orders[slot]["modes"] & WAITS) != 0:
        state.books[instrument_of(state, state.orders[slot])]["stops"] -= 1
    other = np.int64(state.terms[slot]["link"])
    if other != 0:
        state.terms[other]["link"] = 0
    _drop_due(state, slot)


@njit_called
def _drop_due(state, slot):
    at = np.int64(state.terms[slot]["due_at"])
    if at != 0:
        last = state.meta[DUE_COUNT]
        moved = np.int64(state.due[last])
        state.meta[DUE_COUNT] = last - 1
        if moved != slot:
            _rise(state, at, moved)
            _sink(state, np.int64(state.terms[moved]["due_at"]), moved)


@njit_called
def trail(state, slot):
    """Enter a trailing stop, or a peg, behind the others of its book and side."""
    order = state.orders[slot]
    book = np.int64(order["book"])
    first = 4 * book + 2 * np.int64(order["side"])
    last = np.int64(state.trails[first + 1])
    state.terms[slot]["trail_prev"] = last
    state.terms[slot]["trail_next"] = 0
    if last == 0:
        state.trails[first] = slot
    else:
        state.terms[last]["trail_next"] = slot
    state.trails[first + 1] = slot
    _count(state, book, np.int64(1))


@njit_called
def untrail(state, slot):
    """A stop that trails or would, or a peg, does so no more; others are left as they are."""
    terms = state.terms[slot]
    if terms["offset_kind"] == OFFSET_NONE:
        if terms["activates"] != OFFSET_NONE:
            forget_activation(state, slot)
        return
    terms["offset_kind"] = OFFSET_NONE
    order = state.orders[slot]
    book = np.int64(order["book"])
    first = 4 * book + 2 * np.int64(order["side"])
    before = np.int64(terms["trail_prev"])
    behind = np.int64(terms["trail_next"])
    if before == 0:
        state.trails[first] = behind
    else:
        state.terms[before]["trail_next"] = behind
    if behind == 0:
        state.trails[first + 1] = before
    else:
        state.terms[behind]["trail_prev"] = before
    _count(state, book, np.int64(-1))


@njit_called
def wait_to_trail(state, slot, offset_kind):
    """A stop waits for its activation price: it is counted as one that trails, so that there is room for it when the price comes."""
    state.terms[slot]["activates"] = offset_kind
    _count(state, np.int64(state.orders[slot]["book"]), np.int64(1))


@njit_called
def forget_activation(state, slot):
    """It does so no more; returns OFFSET_*."""
    offset_kind = np.int64(state.terms[slot]["activates"])
    state.terms[slot]["activates"] = OFFSET_NONE
    _count(state, np.int64(state.orders[slot]["book"]), np.int64(-1))
    return offset_kind


@njit_called
def _count(state, book, more):
    """So many more stops trail in a book; where it is a main book, so many more are pegs."""
    stride = state.meta[BOOK_STRIDE]
    if book >= stride:
        state.books[book]["stops"] += more
        return
    state.meta[PEGS] += more
    state.books[book + BOOK_AUCTION_BIDS * stride]["stops"] += more
    # Where one stands younger ones of the other side do not: they are looked at again.
    state.books[book + BOOK_AUCTION_ASKS * stride]["last_ticks"] = 0


@njit_called
def show(state, slot, left_lots):
    """Let an order that is to rest show its display quantity, or what it has."""
    display = state.terms[slot]["display_lots"]
    shown = left_lots if display == 0 else min(left_lots, display)
    state.orders[slot]["left_lots"] = shown
    state.terms[slot]["hidden_lots"] = left_lots - shown


@njit_called
def lower(state, slot, left_lots):
    """Lower what an order has left and keep its place: what it hides goes first."""
    shown = min(state.orders[slot]["left_lots"], left_lots)
    state.orders[slot]["left_lots"] = shown
    state.terms[slot]["hidden_lots"] = left_lots - shown


@njit_called
def replenish(state, slot):
    """Show the next part of the iceberg at the head of its level, which loses its place to all others of the level."""
    orders = state.orders
    order = orders[slot]
    show(state, slot, state.terms[slot]["hidden_lots"])
    younger = np.int64(order["next"])
    if younger == 0:
        return
    level = np.int64(order["level"])
    tail = tail_of(state, level)
    set_ends(state, level, younger, slot)
    orders[younger]["prev"] = 0
    orders[tail]["next"] = slot
    order["prev"] = tail
    order["next"] = 0


@njit_called
def collect_due(state, now_ns):
    """Orders whose time has come by ``now_ns``, by time and age, into ``scratch``; returns their number."""
    count = np.int64(0)
    while state.meta[DUE_COUNT] != 0:
        slot = np.int64(state.due[1])
        if state.terms[slot]["expiry_ns"] > now_ns:
            break
        _drop_due(state, slot)
        state.terms[slot]["due_at"] = 0
        state.scratch[count] = slot
        count += 1
    return count


@njit_inlined
def _sooner(terms, a, b):
    if terms[a]["expiry_ns"] != terms[b]["expiry_ns"]:
        return terms[a]["expiry_ns"] < terms[b]["expiry_ns"]
    return terms[a]["age"] < terms[b]["age"]


@njit_called
def _rise(state, at, slot):
    """Put an order at entry ``at`` of the heap, or above where it is due sooner."""
    due = state.due
    while at > 1 and _sooner(state.terms, slot, np.int64(due[at >> 1])):
        due[at] = due[at >> 1]
        state.terms[np.int64(due[at])]["due_at"] = at
        at >>= 1
    due[at] = slot
    state.terms[slot]["due_at"] = at


@njit_called
def _sink(state, at, slot):
    """Move the order at entry ``at`` of the heap below those that are due sooner."""
    due = state.due
    count = state.meta[DUE_COUNT]
    while 2 * at <= count:
        child = 2 * at
        if child < count and _sooner(state.terms, np.int64(due[child + 1]), np.int64(due[child])):
            child += 1
        if not _sooner(state.terms, np.int64(due[child]), slot):
            break
        due[at] = due[child]
        state.terms[np.int64(due[at])]["due_at"] = at
        at = child
    due[at] = slot
    state.terms[slot]["due_at"] = at
