"""Pegged orders: they stand in the main book at a price that follows the best bid, the best ask or the middle, and never take.

At the end of each command every peg of an instrument that does not gather stands where ``_price`` says: at its reference (the best
prices of all orders but pegs) and offset, not beyond its limit, and a tick away from what it would meet, older pegs among it. So
prices follow from the book alone. Between the command's last event and its end ``settle_pegs`` takes off what stands elsewhere, puts
it on again by age, and says each. While nothing has moved it compares two prices: those that the pegs have seen last are in the rows
of the auction's books (``last_ticks``: best bid, best ask; an ask of 0 = to be looked at again), as is how many pegs there are
(``stops`` of its bids).
"""

from __future__ import annotations

import numpy as np

from matcher.book import enter_pool, forget, new_slot, put_on, take_off
from matcher.events import has_room, say
from matcher.jit import njit_called
from matcher.levels import head_of, next_level_down, next_level_up, price_of
from matcher.state import (
    BOOK_AUCTION_ASKS,
    BOOK_AUCTION_BIDS,
    BOOK_STRIDE,
    EVENT_POSITION,
    HAS_TERMS,
    NO_ASK,
    ORDERS_LIVE,
    PEG_INSTRUMENT,
    PEGS_MAX,
    PRICE_LIMIT,
    SCRATCH_COUNT,
    SCRATCH_NEXT,
    STAGE,
    STAGE_IDLE,
    STAGE_PEGGING,
    WAITS,
)
from matcher.stops import has_place
from matcher.terms import trail
from protocol.enums import (
    AMEND,
    BUY,
    CANCEL_ALL,
    EV_CANCELED,
    EV_PEGGED,
    EV_RESTED,
    EVENT_LAST,
    EXPIRE,
    EXT_LEG,
    EXT_QUOTES,
    HALT,
    INSTRUMENT_PRE_OPEN,
    KILL,
    LIMIT,
    OFFSET_NONE,
    OFFSET_TICKS,
    PEG_ASK,
    PEG_BID,
    RESUME,
    SELL,
    SET_PRICES,
    SET_STATE,
)
from protocol.reasons import ACCEPTED, BOOK_FULL, BY_PEG, PEG_NO_REFERENCE, PEGS_FULL

_NONE = np.int64(0)


@njit_called
def is_peg(state, slot):
    """Whether the order in a slot is a peg."""
    waits_or_terms = np.int64(state.orders[slot]["modes"]) & (HAS_TERMS | WAITS)
    return waits_or_terms == HAS_TERMS and state.terms[slot]["offset_kind"] != OFFSET_NONE


@njit_called
def _best_of_others(state, instrument, side):
    """Best price of a side among orders that are no pegs; 0, or NO_ASK, where there is none."""
    level = np.int64(state.books[instrument]["best_level"][side])
    while level != 0:
        slot = head_of(state, level)
        while slot != 0:
            if not is_peg(state, slot):
                return price_of(state, level)
            slot = np.int64(state.orders[slot]["next"])
        level = next_level_down(state.leaves, level) if side == BUY else next_level_up(state.leaves, level)
    return np.int64(0 if side == BUY else NO_ASK)


@njit_called
def _reference(ref, side, bid, ask):
    """The price that a peg follows, 0 = it is not there; a middle between two ticks is the one further from the other side."""
    if ref == PEG_BID:
        return bid
    if ref == PEG_ASK:
        return ask if ask != NO_ASK else np.int64(0)
    if bid == 0 or ask == NO_ASK:
        return np.int64(0)
    return bid + (ask - bid + side) // 2


@njit_called
def _price(side, price_ticks, limit_ticks, best_bid, best_ask, highest):
    """Where a peg stands that would be at a price: between its limit and what it would meet; 0 = nowhere.

    ``highest``: the largest price whose value a lot is an amount.
    """
    price_ticks = min(max(1, price_ticks), highest)
    if side == BUY:
        return min(price_ticks, limit_ticks, best_ask - 1)
    price_ticks = max(price_ticks, limit_ticks, best_bid + 1)
    return price_ticks if price_ticks <= highest else np.int64(0)


@njit_called
def enter_peg(state, command, verdict, events):
    """A LIMIT order that follows a best price. Returns ACCEPTED or the reason of refusal."""
    instrument = np.int64(command["instrument"])
    side = np.int64(command["side"])
    book = state.books[instrument]
    offset = np.int64(command["sub_account"]) if command["offset_kind"] == OFFSET_TICKS else np.int64(0)
    bid = _best_of_others(state, instrument, np.int64(BUY))
    ask = _best_of_others(state, instrument, np.int64(SELL))
    reference = _reference(np.int64(command["trigger_ref"]), side, bid, ask)
    if reference == 0:
        return PEG_NO_REFERENCE
    # It is the youngest: all other pegs count.
    price_ticks = _price(
        side,
        reference + offset,
        verdict["price_ticks"],
        book["best_ticks"][BUY],
        book["best_ticks"][SELL],
        (PRICE_LIMIT - 1) // book["multiplier"],
    )
    if price_ticks == 0:
        return PEG_NO_REFERENCE
    if state.books[instrument + BOOK_AUCTION_BIDS * state.meta[BOOK_STRIDE]]["stops"] >= PEGS_MAX:
        return PEGS_FULL
    if state.meta[ORDERS_LIVE] == state.orders.shape[0] - 1 or not has_place(state, instrument, price_ticks):
        return BOOK_FULL
    slot = new_slot(state)
    modes = np.int64(command["tif"]) << 4 | np.int64(command["stp"])
    enter_pool(state, slot, command, verdict, price_ticks, instrument, side, modes)
    terms = state.terms[slot]
    terms["limit_ticks"] = verdict["price_ticks"]
    terms["side"] = side
    terms["type"] = command["trigger_ref"]
    terms["offset_kind"] = OFFSET_TICKS
    terms["offset"] = offset
    put_on(state, slot, instrument, side, price_ticks)
    trail(state, slot)
    seq = command["seq"]
    _say(state, events, seq, np.int64(EV_RESTED), _NONE, _NONE, slot, verdict["price_ticks"])
    _say(state, events, seq, np.int64(EV_PEGGED), _NONE, np.int64(EVENT_LAST), slot, price_ticks)
    return ACCEPTED


@njit_called
def _say(state, events, seq, kind, reason, flags, slot, price_ticks):
    order = state.orders[slot]
    left = order["left_lots"]
    rests = kind == EV_RESTED
    say(
        state,
        events.slots,
        seq,
        kind,
        reason,
        flags,
        np.int64(order["book"]),
        order["order_id"],
        price_ticks,
        left,
        left if kind != EV_CANCELED else _NONE,
        left if rests else _NONE,
        np.int64(order["hold"]),
    )


@njit_called
def settle_pegs(state, command, events):
    """Let pegs stand where they should, behind all else that a command did. Returns False when the ring is full; called again it goes on.

    The last event of the command is not published yet: it ends the command only where no peg moves behind it.
    """
    meta = state.meta
    kind = np.int64(command["type"])
    # Events of linked orders are those of their group's head.
    seq = state.stash[0]["seq"] if kind == EXT_LEG else command["seq"]
    instrument = np.int64(command["instrument"])
    last = instrument
    if instrument == 0:
        if kind != CANCEL_ALL and kind != KILL and kind != EXPIRE:
            return True
        last = np.int64(state.lot_atoms.shape[0] - 1)
    elif not (
        LIMIT <= kind <= AMEND
        or kind == EXT_QUOTES
        or kind == EXT_LEG
        or kind == SET_STATE
        or kind == HALT
        or kind == RESUME
        or kind == SET_PRICES
        or kind == KILL
    ):
        return True
    slots = events.slots
    mask = np.int64(slots.shape[0] - 1)
    at = meta[PEG_INSTRUMENT]
    moves = at != 0
    if at == 0:
        at = max(instrument, 1)
        _take_off_moving(state, at)
    while True:
        if meta[SCRATCH_COUNT] != 0:
            if not moves:
                slots[(meta[EVENT_POSITION] - 1) & mask]["flags"] = 0
                moves = True
            if not _put_on_moving(state, events, at, seq):
                meta[PEG_INSTRUMENT] = at
                meta[STAGE] = STAGE_PEGGING
                return False
            if state.books[at + BOOK_AUCTION_ASKS * meta[BOOK_STRIDE]]["last_ticks"] == 0:
                # One had no place and is gone: others may stand nearer.
                _take_off_moving(state, at)
                continue
        if at == last:
            break
        at += 1
        _take_off_moving(state, at)
    if moves:
        slots[(meta[EVENT_POSITION] - 1) & mask]["flags"] = EVENT_LAST
    meta[PEG_INSTRUMENT] = 0
    meta[STAGE] = STAGE_IDLE
    return True


@njit_called
def _take_off_moving(state, instrument):
    """Take the pegs of an instrument that stand where they should not off their levels, into ``scratch``, the oldest first.

    Each has the price at which it is to stand, 0 = there is none.
    """
    meta = state.meta
    meta[SCRATCH_NEXT] = 0
    meta[SCRATCH_COUNT] = 0
    bid_slot = np.int64(state.trails[4 * instrument + 2 * BUY])
    ask_slot = np.int64(state.trails[4 * instrument + 2 * SELL])
    book = state.books[instrument]
    if bid_slot | ask_slot == 0 or book["market_state"] >= INSTRUMENT_PRE_OPEN:
        return
    bid = _best_of_others(state, instrument, np.int64(BUY))
    ask = _best_of_others(state, instrument, np.int64(SELL))
    bids = state.books[instrument + BOOK_AUCTION_BIDS * meta[BOOK_STRIDE]]
    asks = state.books[instrument + BOOK_AUCTION_ASKS * meta[BOOK_STRIDE]]
    if bids["last_ticks"] == bid and asks["last_ticks"] == ask:
        return
    bids["last_ticks"] = bid
    asks["last_ticks"] = ask
    highest = (PRICE_LIMIT - 1) // book["multiplier"]
    best_bid = bid
    best_ask = ask
    count = np.int64(0)
    while bid_slot | ask_slot != 0:
        slot = bid_slot
        if bid_slot == 0 or (ask_slot != 0 and state.terms[ask_slot]["age"] < state.terms[bid_slot]["age"]):
            slot = ask_slot
            ask_slot = np.int64(state.terms[slot]["trail_next"])
        else:
            bid_slot = np.int64(state.terms[slot]["trail_next"])
        order = state.orders[slot]
        terms = state.terms[slot]
        side = np.int64(order["side"])
        wanted = order["price_ticks"]
        reference = _reference(np.int64(terms["type"]), side, bid, ask)
        if reference != 0:
            wanted = reference + terms["offset"]
        price_ticks = _price(side, wanted, terms["limit_ticks"], best_bid, best_ask, highest)
        if price_ticks != 0 and side == BUY:
            best_bid = max(best_bid, price_ticks)
        elif price_ticks != 0:
            best_ask = min(best_ask, price_ticks)
        if price_ticks != order["price_ticks"]:
            take_off(state, slot)
            order["price_ticks"] = price_ticks
            state.scratch[count] = slot
            count += 1
    meta[SCRATCH_COUNT] = count


@njit_called
def _put_on_moving(state, events, instrument, seq):
    """Put what was taken off behind the others of its new price, or end it where there is no place for it.

    Returns False when the ring is full.
    """
    meta = state.meta
    for i in range(meta[SCRATCH_NEXT], meta[SCRATCH_COUNT]):
        if not has_room(state, events, np.int64(1)):
            meta[SCRATCH_NEXT] = i
            return False
        slot = np.int64(state.scratch[i])
        order = state.orders[slot]
        price_ticks = order["price_ticks"]
        if price_ticks != 0 and has_place(state, instrument, price_ticks):
            put_on(state, slot, instrument, np.int64(order["side"]), price_ticks)
            _say(state, events, seq, np.int64(EV_PEGGED), _NONE, _NONE, slot, price_ticks)
        else:
            _say(state, events, seq, np.int64(EV_CANCELED), np.int64(BY_PEG), _NONE, slot, price_ticks)
            forget(state, slot)
    return True
