"""One function a command type: the decisions of flow format 2, sections 2 and 4, that need the book.

Each begins with room for two events, which is all that a command needs that does not trade. One that trades leaves its
order in ``meta`` (the *taker*) and a stage; ``proceed`` takes it from there, and again after the ring was full.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from matcher.auction import indicate, move_to, resting_book, uncross
from matcher.book import append, crosses, fillable, forget, new_slot, register, unlink
from matcher.cancels import emit_canceled
from matcher.events import emit, has_room
from matcher.jit import njit_called, njit_inlined
from matcher.levels import has_leaf, leaf_available
from matcher.links import end_partner, is_linked
from matcher.mass import cancel_collected
from matcher.parts import has_parts
from matcher.pegs import is_peg
from matcher.state import (
    HAS_TERMS,
    IDS_SHIFT,
    IS_QUOTE,
    NO_ASK,
    ORDERS_LIVE,
    STAGE,
    STAGE_CANCELING,
    STAGE_EXPIRED,
    STAGE_IDLE,
    STAGE_INDICATING,
    STAGE_PARTS,
    STAGE_REFUSED,
    STAGE_RESTING,
    STAGE_TRADING,
    STAGE_UNCROSSING,
    TAKER_ACCOUNT,
    TAKER_DISPLAY,
    TAKER_EXPIRY,
    TAKER_FIRST,
    TAKER_HOLD,
    TAKER_ID,
    TAKER_INSTRUMENT,
    TAKER_LEFT,
    TAKER_PRICE,
    TAKER_REASON,
    TAKER_SEQ,
    TAKER_SESSION,
    TAKER_SIDE,
    TAKER_SLOT,
    TAKER_STP,
    TAKER_TIF,
    TAKER_TOTAL,
    TAKER_TYPE,
    WAITS,
)
from matcher.stops import amend_stop, begin_fired, flag_of_end
from matcher.terms import hidden_lots, instrument_of, lower, set_terms, show
from matcher.trading import trade
from protocol.enums import (
    AMEND,
    EV_AMENDED,
    EV_EXPIRED,
    EV_MOVED,
    EV_REJECTED,
    EV_RESTED,
    EVENT_LAST,
    FOK,
    GTC,
    IOC,
    JUDGED_NO_TAKE,
    JUDGED_SESSION,
    JUDGED_TERMS,
    LIMIT,
    POST_ONLY,
)
from protocol.order_terms import expiry_of
from protocol.reasons import (
    ACCEPTED,
    BOOK_FULL,
    BY_IOC,
    BY_NO_LIQUIDITY,
    BY_STP,
    BY_USER,
    FOK_UNFILLED,
    LINKED_AMEND,
    MIN_QTY_UNFILLED,
    NO_CHANGE,
    PEG_AMEND,
    POST_ONLY_WOULD_TAKE,
    QUANTITY_TOO_LOW,
    QUOTE_AMEND,
    UNKNOWN_ORDER,
)
from ringbuf.idtable import find_id

NONE: Final = np.int64(0)


@njit_inlined
def reject(state, events, command, verdict, reason):
    """The one event of a command that is refused."""
    emit(
        state,
        events.slots,
        command["seq"],
        np.int64(EV_REJECTED),
        reason,
        np.int64(EVENT_LAST),
        np.int64(command["instrument"]),
        command["order_id"],
        NONE,
        NONE,
        NONE,
        NONE,
        np.int64(verdict["hold"]),
    )


@njit_inlined
def _may_rest(state, instrument, price_ticks):
    """Whether there is a place for an order at this price, now and after it traded.

    If the leaf is there now and trading drops it, what it took is free again.
    """
    return leaf_available(state) or has_leaf(state, instrument, price_ticks >> 6)


@njit_inlined
def enter_order(state, command, verdict, events):
    """LIMIT, MARKET, MARKET_AMOUNT: let the order rest where it meets none and may, else make it the taker.

    Returns ACCEPTED or the reason of refusal.
    """
    meta = state.meta
    kind = np.int64(command["type"])
    instrument = np.int64(command["instrument"])
    side = np.int64(command["side"])
    stp = np.int64(command["stp"])
    account = np.int64(command["account"])
    # Only an order by amount can name a price so high; it must not meet the one that stands for "no ask".
    price_ticks = min(verdict["price_ticks"], NO_ASK - 1)
    qty = verdict["qty_lots"]
    assert price_ticks > 0, "risk admits positive prices only"
    assert qty > 0, "risk admits positive quantities only"
    tif = np.int64(command["tif"]) if kind == LIMIT else IOC
    number = resting_book(state, instrument, side)
    crossing = crosses(state, instrument, side, price_ticks) and number == instrument
    if crossing and (tif == POST_ONLY or (verdict["flags"] & JUDGED_NO_TAKE) != 0):
        return POST_ONLY_WOULD_TAKE
    if tif == FOK and not fillable(state, instrument, side, price_ticks, qty, account, stp):
        return FOK_UNFILLED
    has_terms = (verdict["flags"] & JUDGED_TERMS) != 0
    if has_terms and command["min_qty_lots"] > 0:
        minimum = command["min_qty_lots"]
        if not fillable(state, instrument, side, price_ticks, minimum, account, stp):
            return MIN_QTY_UNFILLED
    if (tif == GTC or tif == POST_ONLY) and (
        not _may_rest(state, number, price_ticks) or meta[ORDERS_LIVE] == state.orders.shape[0] - 1
    ):
        return BOOK_FULL
    session = np.int64(command["session"]) if (verdict["flags"] & JUDGED_SESSION) != 0 else NONE
    expiry_ns = expiry_of(command["expiry_ts_ns"], command["ts_ns"]) if has_terms else np.int64(-1)
    if not crossing and (tif == GTC or tif == POST_ONLY):
        modes = tif << 4 | stp
        hold = np.int64(verdict["hold"])
        order_id = command["order_id"]
        slot = _new_order(state, order_id, price_ticks, qty, hold, account, number, side, modes, session)
        state.orders[slot]["left_lots"] = qty
        if has_terms:
            set_terms(state, slot, command["seq"], expiry_ns, command["display_qty_lots"])
            show(state, slot, qty)
        append(state, slot, number, side, price_ticks)
        last = np.int64(EVENT_LAST)
        emit(
            state,
            events.slots,
            command["seq"],
            np.int64(EV_RESTED),
            NONE,
            last,
            instrument,
            order_id,
            price_ticks,
            qty,
            qty,
            qty,
            hold,
        )
        return ACCEPTED
    meta[TAKER_SEQ] = command["seq"]
    meta[TAKER_ID] = command["order_id"]
    meta[TAKER_SLOT] = 0
    meta[TAKER_PRICE] = price_ticks
    meta[TAKER_LEFT] = qty
    meta[TAKER_TOTAL] = qty
    meta[TAKER_HOLD] = verdict["hold"]
    meta[TAKER_ACCOUNT] = account
    meta[TAKER_INSTRUMENT] = instrument
    meta[TAKER_SIDE] = side
    meta[TAKER_STP] = stp
    meta[TAKER_TIF] = tif
    meta[TAKER_TYPE] = kind
    meta[TAKER_SESSION] = session
    meta[TAKER_FIRST] = 0
    meta[TAKER_EXPIRY] = expiry_ns
    if has_terms:
        meta[TAKER_DISPLAY] = command["display_qty_lots"]
    meta[STAGE] = STAGE_TRADING if crossing else STAGE_RESTING
    return ACCEPTED


@njit_inlined
def _named_order(state, command):
    """Slot of the order that a cancel or amend names by id, account and instrument, or 0."""
    slot = find_id(state.recent_ids, state.other_ids, state.meta[IDS_SHIFT], state.orders, 0, command["order_id"])
    order = state.orders[slot]
    if slot != 0 and (order["account"] != command["account"] or instrument_of(state, order) != command["instrument"]):
        return np.int64(0)
    return slot


@njit_inlined
def amend_order(state, command, verdict, events):
    """AMEND: change the quantity in place, or take the order off its level and make it the taker.

    Returns ACCEPTED or the reason of refusal.
    """
    meta = state.meta
    orders = state.orders
    slot = _named_order(state, command)
    if slot == 0:
        return UNKNOWN_ORDER
    order = orders[slot]
    if is_linked(state, slot):
        return LINKED_AMEND
    if (order["modes"] & WAITS) != 0:
        return amend_stop(state, command, verdict, events, slot)
    if (order["modes"] & IS_QUOTE) != 0:
        return QUOTE_AMEND
    if (order["modes"] & HAS_TERMS) != 0 and is_peg(state, slot):
        return PEG_AMEND
    price_ticks = verdict["price_ticks"]
    total = verdict["qty_lots"]
    instrument = instrument_of(state, order)
    side = np.int64(order["side"])
    modes = np.int64(order["modes"])
    standing = np.int64(order["book"])
    number = resting_book(state, instrument, side)
    old_total = order["total_lots"]
    old_price_ticks = order["price_ticks"]
    left = total - (old_total - order["left_lots"] - hidden_lots(state, slot))
    assert price_ticks > 0, "risk admits positive prices only"
    if left <= 0:
        return QUANTITY_TOO_LOW
    moves = price_ticks != old_price_ticks
    if not moves and total == old_total:
        return NO_CHANGE
    crossing = moves and crosses(state, instrument, side, price_ticks) and number == instrument
    if crossing and (modes >> 4 & 3 == POST_ONLY or (verdict["flags"] & JUDGED_NO_TAKE) != 0):
        return POST_ONLY_WOULD_TAKE
    in_place = not moves and total < old_total
    if (moves or (standing != number and not in_place)) and not _may_rest(state, number, price_ticks):
        return BOOK_FULL
    emit(
        state,
        events.slots,
        command["seq"],
        np.int64(EV_AMENDED if in_place or crossing else EV_MOVED),
        NONE,
        np.int64(0 if crossing else EVENT_LAST),
        instrument,
        order["order_id"],
        price_ticks,
        total,
        left,
        left,
        np.int64(order["hold"]),
    )
    order["total_lots"] = total
    if in_place:
        if (modes & HAS_TERMS) != 0:
            lower(state, slot, left)
        else:
            order["left_lots"] = left
        return ACCEPTED
    unlink(state, slot)
    if standing != number:
        move_to(state, slot, number)
    order["price_ticks"] = price_ticks
    if not crossing:
        order["left_lots"] = left
        if (modes & HAS_TERMS) != 0:
            show(state, slot, left)
        append(state, slot, number, side, price_ticks)
        return ACCEPTED
    meta[TAKER_SEQ] = command["seq"]
    meta[TAKER_ID] = order["order_id"]
    meta[TAKER_SLOT] = slot
    meta[TAKER_PRICE] = price_ticks
    meta[TAKER_LEFT] = left
    meta[TAKER_HOLD] = order["hold"]
    meta[TAKER_INSTRUMENT] = instrument
    meta[TAKER_SIDE] = side
    meta[TAKER_FIRST] = 0
    meta[TAKER_ACCOUNT] = order["account"]
    meta[TAKER_STP] = modes & 7
    meta[TAKER_TYPE] = AMEND
    meta[TAKER_TIF] = modes >> 4 & 3
    meta[STAGE] = STAGE_TRADING
    return ACCEPTED


@njit_inlined
def cancel_order(state, command, events):
    """CANCEL; returns ACCEPTED or the reason of refusal."""
    slot = _named_order(state, command)
    if slot == 0:
        return UNKNOWN_ORDER
    if is_linked(state, slot):
        end_partner(state, events, command["seq"], slot, np.int64(0), True)
    emit_canceled(state, events, command["seq"], slot, np.int64(BY_USER), np.int64(EVENT_LAST), NONE, NONE)
    unlink(state, slot)
    forget(state, slot)
    return ACCEPTED


@njit_inlined
def _settle_taker(state, events):
    """After trading: rest, or drop the rest. Returns False when the ring is full."""
    meta = state.meta
    orders = state.orders
    slot = meta[TAKER_SLOT]
    left = meta[TAKER_LEFT]
    if meta[STAGE] == STAGE_IDLE:
        if slot != 0:
            forget(state, slot)
        return True
    if not has_room(state, events, np.int64(1)):
        return False
    instrument = meta[TAKER_INSTRUMENT]
    side = meta[TAKER_SIDE]
    price_ticks = meta[TAKER_PRICE]
    tif = meta[TAKER_TIF]
    rests = meta[STAGE] == STAGE_RESTING and (tif == GTC or tif == POST_ONLY)
    kind = np.int64(EV_RESTED)
    reason = NONE
    taker_left = left
    if rests:
        number = resting_book(state, instrument, side)
        if slot == 0:
            slot = _rest_of_taker(state, number)
        orders[slot]["left_lots"] = left
        if (orders[slot]["modes"] & HAS_TERMS) != 0:
            show(state, slot, left)
        append(state, slot, number, side, price_ticks)
    else:
        kind = np.int64(EV_EXPIRED)
        taker_left = np.int64(0)
        if meta[STAGE] == STAGE_EXPIRED:
            reason = np.int64(BY_STP)
        elif meta[STAGE] == STAGE_REFUSED:
            reason = meta[TAKER_REASON]
        elif meta[TAKER_TYPE] == LIMIT:
            reason = np.int64(BY_IOC)
        else:
            reason = np.int64(BY_NO_LIQUIDITY)
        if slot != 0:
            forget(state, slot)
    emit(
        state,
        events.slots,
        meta[TAKER_SEQ],
        kind,
        reason,
        flag_of_end(state, state.books[instrument]),
        instrument,
        meta[TAKER_ID],
        price_ticks,
        left,
        left,
        taker_left,
        meta[TAKER_HOLD],
    )
    meta[STAGE] = STAGE_IDLE
    return True


@njit_inlined
def _new_order(state, order_id, price_ticks, total, hold, account, number, side, modes, session):
    """An order in the pool, on no level of the book of this number yet, without terms; what it has left is not said."""
    slot = new_slot(state)
    order = state.orders[slot]
    order["order_id"] = order_id
    order["price_ticks"] = price_ticks
    order["total_lots"] = total
    order["hold"] = hold
    order["book"] = number
    order["side"] = side
    order["modes"] = modes
    register(state, slot, order_id, account, number)
    state.sessions[slot] = session
    return slot


@njit_inlined
def _rest_of_taker(state, number):
    """The taker, which is new, as an order in the pool, with its terms."""
    meta = state.meta
    slot = _new_order(
        state,
        meta[TAKER_ID],
        meta[TAKER_PRICE],
        meta[TAKER_TOTAL],
        meta[TAKER_HOLD],
        meta[TAKER_ACCOUNT],
        number,
        meta[TAKER_SIDE],
        meta[TAKER_TIF] << 4 | meta[TAKER_STP],
        meta[TAKER_SESSION],
    )
    if meta[TAKER_EXPIRY] >= 0:
        set_terms(state, slot, meta[TAKER_SEQ], meta[TAKER_EXPIRY], meta[TAKER_DISPLAY])
    return slot


@njit_inlined
def proceed(state, events):
    """Go on with the command in progress; whether it is finished (False: the ring is full)."""
    meta = state.meta
    if meta[STAGE] >= STAGE_CANCELING and not _go_on(state, events):
        return False
    while True:
        if meta[STAGE] == STAGE_TRADING and not trade(state, events):
            return False
        if meta[STAGE] != STAGE_PARTS and not _settle_taker(state, events):
            return False
        if not has_parts(state):
            return True
        meta[STAGE] = STAGE_PARTS
        if not _begin_part(state, events):
            return False


@njit_called
def _go_on(state, events):
    """Go on with a stage that has no taker. Returns False when the ring is full, else the command is idle."""
    meta = state.meta
    if meta[STAGE] == STAGE_CANCELING and not cancel_collected(state, events):
        return False
    if meta[STAGE] == STAGE_INDICATING and not indicate(state, events):
        return False
    if meta[STAGE] == STAGE_UNCROSSING and not uncross(state, events):
        return False
    meta[STAGE] = STAGE_IDLE
    meta[TAKER_SLOT] = 0
    return True


@njit_called
def _begin_part(state, events):
    """Begin with what else the command has to do, once its taker is done. Returns False when the ring is full."""
    return begin_fired(state, events)
