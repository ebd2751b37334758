"""Orders that wait for a price: how they stand, are set off, follow the price, and enter the book.

A stop stands in a book of its own kind (``BOOK_LAST``, ``BOOK_MARK``, ``BOOK_INDEX``) at its trigger price: on the side SELL those
that the price sets off by rising to it, on the side BUY those that it sets off by falling to it. The price lies between the two, so that
such a book is never crossed, and the next stop to be set off is its best order. A trailing stop that waits for its activation price
stands there on the other side, like a take-profit, until that price has come. Orders set off are linked in the order in which they
enter (``FIRED_HEAD``); ``matcher.commands.proceed`` lets them in, one taker after the other, before the command ends.
"""

from __future__ import annotations

import numpy as np

from matcher.book import crosses, enter_pool, fillable, new_slot, put_on, take_off
from matcher.events import has_room, say
from matcher.jit import njit_called, njit_inlined
from matcher.levels import has_leaf, head_of, leaf_available
from matcher.links import end_partner, take_off_partner
from matcher.parts import has_parts
from matcher.state import (
    BOOK_INDEX,
    BOOK_LAST,
    BOOK_MARK,
    BOOK_STRIDE,
    FIRED_HEAD,
    FIRED_TAIL,
    ORDERS_LIVE,
    PARTS_LEFT,
    PRICE_LIMIT,
    REACHED,
    STAGE,
    STAGE_PARTS,
    STAGE_REFUSED,
    STAGE_RESTING,
    STAGE_TRADING,
    TAKER_ACCOUNT,
    TAKER_FIRST,
    TAKER_HOLD,
    TAKER_ID,
    TAKER_INSTRUMENT,
    TAKER_LEFT,
    TAKER_PRICE,
    TAKER_REASON,
    TAKER_SEQ,
    TAKER_SIDE,
    TAKER_SLOT,
    TAKER_STP,
    TAKER_TIF,
    TAKER_TYPE,
    TRAILING_MAX,
    WAITS,
)
from matcher.terms import forget_activation, instrument_of, trail, untrail, wait_to_trail
from protocol.enums import (
    BASIS_POINTS,
    BUY,
    EV_AMENDED,
    EV_NOTHING,
    EV_RESTED,
    EV_TAKER,
    EVENT_LAST,
    FLAG_SYSTEM,
    FLAG_TAKE_PROFIT,
    FOK,
    GTC,
    IOC,
    JUDGED_NO_TAKE,
    LIMIT,
    OFFSET_NONE,
    OFFSET_TICKS,
    POST_ONLY,
    SELL,
)
from protocol.reasons import (
    ACCEPTED,
    BOOK_FULL,
    BY_TRIGGER,
    FOK_UNFILLED,
    IMMEDIATE_IN_AUCTION,
    MIN_QTY_UNFILLED,
    NO_CHANGE,
    NO_TRIGGER_PRICE,
    OFFSET_TOO_LARGE,
    POST_ONLY_WOULD_TAKE,
    STOP_NOT_AMENDED,
    TRAILING_FULL,
    TRIGGER_PASSED,
)


@njit_called
def judge_stop(state, command):
    """(ACCEPTED or why a stop cannot wait; the trigger price, book and side at which it would).

    Whether there is room for it is not asked. A trailing stop whose activation price has not come waits at that, on the other side.
    """
    instrument = np.int64(command["instrument"])
    side = np.int64(command["side"])
    book = instrument + (BOOK_LAST + np.int64(command["trigger_ref"])) * state.meta[BOOK_STRIDE]
    seen_ticks = _seen(state, instrument, book)
    row = state.books[book]
    takes_profit = (command["flags"] & FLAG_TAKE_PROFIT) != 0
    direction = np.int64(SELL) if (side == BUY) != takes_profit else np.int64(BUY)
    trigger_ticks = command["trigger_price_ticks"]
    reason = np.int64(ACCEPTED)
    offset_kind = np.int64(command["offset_kind"])
    if seen_ticks == 0:
        reason = np.int64(NO_TRIGGER_PRICE)
    elif row["best_ticks"][SELL] <= seen_ticks or row["best_ticks"][BUY] >= seen_ticks:
        # It has come while nothing could be set off: until it does, the price does not lie between the two sides.
        reason = np.int64(IMMEDIATE_IN_AUCTION)
    elif offset_kind != OFFSET_NONE:
        offset = np.int64(command["sub_account"])
        waits = trigger_ticks != 0 and (1 - 2 * direction) * (trigger_ticks - seen_ticks) > 0
        first_ticks = _behind(trigger_ticks if waits else seen_ticks, direction, offset_kind, offset)
        if first_ticks < 1 or first_ticks >= PRICE_LIMIT:
            reason = np.int64(OFFSET_TOO_LARGE)
        elif row["stops"] >= TRAILING_MAX:
            reason = np.int64(TRAILING_FULL)
        if waits:
            direction = 1 - direction
        else:
            trigger_ticks = first_ticks
    elif (1 - 2 * direction) * (trigger_ticks - seen_ticks) >= 0:
        # An exit is set off at once; it stands where the price is, between the two sides.
        reason = np.int64(TRIGGER_PASSED)
        trigger_ticks = seen_ticks
    return reason, trigger_ticks, book, direction


@njit_called
def put_stop(state, slot, command, verdict, trigger_ticks, book, direction):
    """Let the stop of a command wait, in a new slot; its leaf must exist or be available."""
    tif = np.int64(command["tif"]) if command["type"] == LIMIT else np.int64(IOC)
    offset_kind = np.int64(command["offset_kind"])
    modes = tif << 4 | np.int64(command["stp"]) | WAITS
    enter_pool(state, slot, command, verdict, trigger_ticks, book, direction, modes)
    terms = state.terms[slot]
    terms["limit_ticks"] = verdict["price_ticks"]
    terms["side"] = command["side"]
    terms["type"] = command["type"]
    terms["offset"] = command["sub_account"]
    put_on(state, slot, book, direction, trigger_ticks)
    if offset_kind != OFFSET_NONE:
        if direction == command["side"]:
            wait_to_trail(state, slot, offset_kind)
        else:
            terms["offset_kind"] = offset_kind
            trail(state, slot)
    state.books[np.int64(command["instrument"])]["stops"] += 1


@njit_called
def say_rested(state, events, seq, command, verdict, flags):
    """The order of a command stands, or waits, with all that it has. ``seq``: of the command's first slot."""
    qty = verdict["qty_lots"]
    say(
        state,
        events.slots,
        seq,
        np.int64(EV_RESTED),
        np.int64(0),
        flags,
        np.int64(command["instrument"]),
        command["order_id"],
        verdict["price_ticks"],
        qty,
        qty,
        qty,
        np.int64(verdict["hold"]),
    )


@njit_called
def enter_stop(state, command, verdict, events):
    """A LIMIT or MARKET order with a trigger: it stands until its price comes. Returns ACCEPTED or the reason of refusal."""
    reason, trigger_ticks, book, direction = judge_stop(state, command)
    may = (command["flags"] & FLAG_SYSTEM) != 0 and (verdict["flags"] & JUDGED_NO_TAKE) == 0
    passed = may and reason == TRIGGER_PASSED
    if reason != ACCEPTED and not passed:
        return reason
    if state.meta[ORDERS_LIVE] == state.orders.shape[0] - 1 or not has_place(state, book, trigger_ticks):
        return np.int64(BOOK_FULL)
    slot = new_slot(state)
    put_stop(state, slot, command, verdict, trigger_ticks, book, direction)
    say_rested(state, events, command["seq"], command, verdict, np.int64(0 if passed else EVENT_LAST))
    if passed:
        state.meta[TAKER_SEQ] = command["seq"]
        state.meta[STAGE] = STAGE_PARTS
        fire(state, slot)
    return np.int64(ACCEPTED)


@njit_called
def amend_stop(state, command, verdict, events, slot):
    """AMEND of an order that waits: limit price and quantity; its trigger, and its place among the stops, stay.

    Returns ACCEPTED or the reason of refusal.
    """
    order = state.orders[slot]
    terms = state.terms[slot]
    price_ticks = verdict["price_ticks"]
    total = verdict["qty_lots"]
    tif = np.int64(order["modes"]) >> 4 & 3
    if terms["type"] != LIMIT or not (tif == GTC or tif == POST_ONLY):
        # Risk promises nothing for amends of orders that never rest.
        return STOP_NOT_AMENDED
    if price_ticks == terms["limit_ticks"] and total == order["total_lots"]:
        return NO_CHANGE
    terms["limit_ticks"] = price_ticks
    order["left_lots"] = total
    order["total_lots"] = total
    say(
        state,
        events.slots,
        command["seq"],
        np.int64(EV_AMENDED),
        np.int64(0),
        np.int64(EVENT_LAST),
        instrument_of(state, order),
        order["order_id"],
        price_ticks,
        total,
        total,
        total,
        np.int64(order["hold"]),
    )
    return ACCEPTED


@njit_called
def set_prices(state, command, verdict, events):
    """SET_PRICES: mark (price of the verdict) and index (its quantity), 0 = as it was; while nothing may trade they are only kept."""
    instrument = np.int64(command["instrument"])
    stride = state.meta[BOOK_STRIDE]
    if verdict["price_ticks"] != 0:
        state.books[instrument + BOOK_MARK * stride]["last_ticks"] = verdict["price_ticks"]
    if verdict["qty_lots"] != 0:
        state.books[instrument + BOOK_INDEX * stride]["last_ticks"] = verdict["qty_lots"]
    if (verdict["flags"] & JUDGED_NO_TAKE) == 0:
        visit_prices(state, instrument)
    go_on(state, command, events)


@njit_called
def visit_prices(state, instrument):
    """Set off what waits for the mark and index prices as they were last seen: where they come, and where trading begins again."""
    for kind in (BOOK_MARK, BOOK_INDEX):
        price_ticks = state.books[instrument + kind * state.meta[BOOK_STRIDE]]["last_ticks"]
        if price_ticks != 0:
            visit(state, instrument, np.int64(kind), price_ticks)


@njit_called
def visit_open(state, instrument):
    """The market opens: set off what the prices set off that came while nothing could be, that of a closing auction among them."""
    last_ticks = state.books[instrument]["last_ticks"]
    if last_ticks != 0:
        visit(state, instrument, np.int64(BOOK_LAST), last_ticks)
    visit_prices(state, instrument)


@njit_called
def go_on(state, command, events):
    """The end of a command without an order of its own: what it set off enters, or there is nothing to say."""
    meta = state.meta
    meta[TAKER_SEQ] = command["seq"]
    if has_parts(state):
        meta[STAGE] = STAGE_PARTS
        return
    say(
        state,
        events.slots,
        command["seq"],
        np.int64(EV_NOTHING),
        np.int64(0),
        np.int64(EVENT_LAST),
        np.int64(command["instrument"]),
        np.int64(0),
        np.int64(0),
        np.int64(0),
        np.int64(0),
        np.int64(0),
        np.int64(-1),
    )


@njit_inlined
def flag_of_end(state, book):
    """Flag of the last event of a taker: EVENT_LAST where its command ends with it, else 0.

    ``book``: the row of its main book. The taker trades no more, so that what it sets off is known here.
    """
    if book["stops"] == 0 and state.meta[PARTS_LEFT] == 0:
        return np.int64(EVENT_LAST)
    return _flag_of_part(state)


@njit_called
def _flag_of_part(state):
    visit_trades(state, state.meta[TAKER_INSTRUMENT])
    return np.int64(0) if has_parts(state) else np.int64(EVENT_LAST)


@njit_called
def visit_trades(state, instrument):
    """Set off what waits for the last price, after a taker that traded from TAKER_FIRST to the last price.

    A taker's prices move one way, so that the ends of the way set off all that any price between them would, in the same order.
    """
    meta = state.meta
    first_ticks = meta[TAKER_FIRST]
    if first_ticks == 0:
        return
    meta[TAKER_FIRST] = 0
    last_ticks = state.books[instrument]["last_ticks"]
    visit(state, instrument, np.int64(BOOK_LAST), first_ticks)
    if last_ticks != first_ticks:
        visit(state, instrument, np.int64(BOOK_LAST), last_ticks)


@njit_called
def visit(state, instrument, kind, price_ticks):
    """The price of a kind was here: what waits for it is set off, by price and then age, what trails follows, what is to trail begins."""
    book = instrument + kind * state.meta[BOOK_STRIDE]
    row = state.books[book]
    first = np.int64(0)
    last = np.int64(0)
    while row["best_ticks"][SELL] <= price_ticks:
        last = _reach(state, head_of(state, np.int64(row["best_level"][SELL])), last)
        first = last if first == 0 else first
    while row["best_ticks"][BUY] >= price_ticks:
        last = _reach(state, head_of(state, np.int64(row["best_level"][BUY])), last)
        first = last if first == 0 else first
    if row["stops"] != 0:
        _follow(state, book, price_ticks)
    while first != 0:
        slot = first
        first = np.int64(state.orders[slot]["next"])
        if state.terms[slot]["activates"] != OFFSET_NONE:
            _begin_to_trail(state, slot, book, price_ticks)


@njit_called
def _reach(state, slot, last):
    """The price has come to where an order stands: it is set off, or taken off, behind ``last``, to trail; returns the last of these."""
    terms = state.terms[slot]
    if terms["activates"] == OFFSET_NONE:
        fire(state, slot)
        return last
    take_off(state, slot)
    terms["activates"] |= REACHED
    state.orders[slot]["next"] = 0
    if last != 0:
        state.orders[last]["next"] = slot
    return slot


@njit_called
def _begin_to_trail(state, slot, book, price_ticks):
    """Let an order stand at its trigger; one for which the pool of leaves has no place there is set off, and then refused."""
    order = state.orders[slot]
    terms = state.terms[slot]
    offset_kind = forget_activation(state, slot) - REACHED
    direction = 1 - np.int64(order["side"])
    trigger_ticks = _behind(price_ticks, direction, offset_kind, np.int64(terms["offset"]))
    if not has_place(state, book, trigger_ticks):
        terms["activates"] = REACHED
        _set_off(state, slot)
        return
    order["side"] = direction
    order["price_ticks"] = trigger_ticks
    put_on(state, slot, book, direction, trigger_ticks)
    terms["offset_kind"] = offset_kind
    trail(state, slot)


@njit_called
def fire(state, slot):
    """Take an order out of its book of stops, to the end of those that enter."""
    take_off(state, slot)
    untrail(state, slot)
    _set_off(state, slot)


@njit_called
def _set_off(state, slot):
    """An order that stands on no level enters behind the others; its partner leaves its level."""
    meta = state.meta
    if state.terms[slot]["link"] != 0:
        take_off_partner(state, slot)
    state.orders[slot]["next"] = 0
    if meta[FIRED_HEAD] == 0:
        meta[FIRED_HEAD] = slot
    else:
        state.orders[meta[FIRED_TAIL]]["next"] = slot
    meta[FIRED_TAIL] = slot


@njit_called
def _follow(state, book, price_ticks):
    """Trailing stops of a book come as near to the price as their offset says, never further away; that which trails longest first."""
    for direction in (BUY, SELL):
        slot = np.int64(state.trails[4 * book + 2 * direction])
        while slot != 0:
            order = state.orders[slot]
            terms = state.terms[slot]
            trigger_ticks = _behind(
                price_ticks, np.int64(direction), np.int64(terms["offset_kind"]), np.int64(terms["offset"])
            )
            nearer = (1 - 2 * direction) * (trigger_ticks - order["price_ticks"]) > 0
            if nearer and has_place(state, book, trigger_ticks):
                take_off(state, slot)
                order["price_ticks"] = trigger_ticks
                put_on(state, slot, book, np.int64(direction), trigger_ticks)
            slot = np.int64(terms["trail_next"])


@njit_called
def begin_fired(state, events):
    """Make the first order that was set off the taker. Returns False when the ring is full."""
    meta = state.meta
    if not has_room(state, events, np.int64(2)):
        return False
    slot = meta[FIRED_HEAD]
    order = state.orders[slot]
    terms = state.terms[slot]
    meta[FIRED_HEAD] = order["next"]
    instrument = instrument_of(state, order)
    side = np.int64(terms["side"])
    price_ticks = terms["limit_ticks"]
    tif = np.int64(order["modes"]) >> 4 & 3
    state.books[np.int64(order["book"])]["orders"] -= 1
    state.books[instrument]["orders"] += 1
    state.books[instrument]["stops"] -= 1
    order["book"] = instrument
    order["side"] = side
    order["price_ticks"] = price_ticks
    order["modes"] &= 255 - WAITS
    meta[TAKER_ID] = order["order_id"]
    meta[TAKER_SLOT] = slot
    meta[TAKER_PRICE] = price_ticks
    meta[TAKER_LEFT] = order["left_lots"]
    meta[TAKER_HOLD] = order["hold"]
    meta[TAKER_ACCOUNT] = order["account"]
    meta[TAKER_INSTRUMENT] = instrument
    meta[TAKER_SIDE] = side
    meta[TAKER_STP] = order["modes"] & 7
    meta[TAKER_TIF] = tif
    meta[TAKER_TYPE] = terms["type"]
    meta[TAKER_FIRST] = 0
    say(
        state,
        events.slots,
        meta[TAKER_SEQ],
        np.int64(EV_TAKER),
        np.int64(BY_TRIGGER),
        np.int64(0),
        instrument,
        order["order_id"],
        price_ticks,
        order["left_lots"],
        order["left_lots"],
        order["left_lots"],
        np.int64(order["hold"]),
    )
    if terms["link"] != 0:
        end_partner(state, events, meta[TAKER_SEQ], slot, np.int64(0), False)
    crossing = crosses(state, instrument, side, price_ticks)
    meta[TAKER_REASON] = _refusal(state, slot, instrument, side, tif, crossing)
    meta[STAGE] = STAGE_TRADING if crossing else STAGE_RESTING
    if meta[TAKER_REASON] != ACCEPTED:
        meta[STAGE] = STAGE_REFUSED
    return True


@njit_called
def _refusal(state, slot, instrument, side, tif, crossing):
    """ACCEPTED, or why an order that was set off cannot enter: what a new order like it would be refused with."""
    order = state.orders[slot]
    price_ticks = order["price_ticks"]
    account = np.int64(order["account"])
    stp = np.int64(order["modes"]) & 7
    minimum = state.terms[slot]["min_lots"]
    if state.terms[slot]["activates"] != OFFSET_NONE:
        # Its activation price came, and no place was left for its trigger.
        state.terms[slot]["activates"] = OFFSET_NONE
        return BOOK_FULL
    if tif == POST_ONLY and crossing:
        return POST_ONLY_WOULD_TAKE
    if tif == FOK and not fillable(state, instrument, side, price_ticks, order["left_lots"], account, stp):
        return FOK_UNFILLED
    if minimum > 0 and not fillable(state, instrument, side, price_ticks, minimum, account, stp):
        return MIN_QTY_UNFILLED
    if (tif == GTC or tif == POST_ONLY) and not has_place(state, instrument, price_ticks):
        return BOOK_FULL
    return ACCEPTED


@njit_called
def _seen(state, instrument, book):
    """The price that a book of stops waits for, as last seen; 0 = none yet."""
    if book == instrument + BOOK_LAST * state.meta[BOOK_STRIDE]:
        return state.books[instrument]["last_ticks"]
    return state.books[book]["last_ticks"]


@njit_called
def has_place(state, book, price_ticks):
    """Whether an order can stand at a price of a book."""
    return leaf_available(state) or has_leaf(state, book, price_ticks >> 6)


@njit_called
def _behind(price_ticks, direction, offset_kind, offset):
    """Trigger price that lies ``offset`` behind a price: below it for a fall, above it for a rise; a part of a tick counts as one."""
    distance = offset
    if offset_kind != OFFSET_TICKS:
        # ceil(price * offset / BASIS_POINTS), and no product leaves 63 bits
        whole = price_ticks // BASIS_POINTS
        rest = price_ticks % BASIS_POINTS * offset
        distance = whole * offset + (rest + BASIS_POINTS - 1) // BASIS_POINTS
    return price_ticks - (1 - 2 * direction) * distance
