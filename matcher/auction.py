"""Call auctions: the price at which what was gathered trades, the trades, and what is published meanwhile.

While a market gathers, what is entered stands in books of its own, bids in one and asks in another, so that crossed orders share no
level. Together with the main book, whose orders are older, they are the auction. Everything here walks from the best prices to where
bids and asks no longer meet, and no further.
"""

from __future__ import annotations

import numpy as np

from matcher.book import put_on, remove, take_off
from matcher.events import has_room, say
from matcher.jit import njit_called, njit_inlined
from matcher.levels import next_level_down, next_level_up, price_of
from matcher.links import end_partner, is_linked
from matcher.parts import has_parts
from matcher.state import (
    AUCTION_BUYER,
    AUCTION_INSTRUMENT,
    AUCTION_LOTS,
    AUCTION_PRICE,
    AUCTION_SURPLUS,
    AUCTIONS,
    BOOK_AUCTION_ASKS,
    BOOK_AUCTION_BIDS,
    BOOK_STRIDE,
    HAS_TERMS,
    NO_ASK,
    TAKER_SEQ,
)
from matcher.stops import visit_open
from matcher.terms import hidden_lots, show
from protocol.enums import (
    BUY,
    EV_AUCTION,
    EV_CROSSED,
    EV_NOTHING,
    EV_TAKER,
    EVENT_LAST,
    INSTRUMENT_AUCTION,
    INSTRUMENT_OPEN,
    INSTRUMENT_PRE_OPEN,
    SELL,
)
from protocol.reasons import BY_AUCTION

_NONE = np.int64(0)


@njit_inlined
def gathering_book(state, instrument, side):
    """Number of the book of what is entered on a side while the instrument gathers."""
    return instrument + state.meta[BOOK_STRIDE] * (BOOK_AUCTION_BIDS if side == BUY else BOOK_AUCTION_ASKS)


@njit_inlined
def resting_book(state, instrument, side):
    """Number of the book in which an order comes to rest now."""
    if state.books[instrument]["market_state"] < INSTRUMENT_PRE_OPEN:
        return instrument
    return gathering_book(state, instrument, side)


@njit_called
def move_to(state, slot, number):
    """Give an order that is on no level another book."""
    state.books[np.int64(state.orders[slot]["book"])]["orders"] -= 1
    state.orders[slot]["book"] = number
    state.books[number]["orders"] += 1


@njit_called
def set_market_state(state, instrument, market_state, reference_ticks):
    """Change the state of a market; whether there is an auction that may end with it.

    Where it gathers from here on, the last price is what the auction's price is to be near to, or else ``reference_ticks``.
    """
    book = state.books[instrument]
    before = np.int64(book["market_state"])
    state.meta[AUCTIONS] += market_state == INSTRUMENT_AUCTION
    state.meta[AUCTIONS] -= before == INSTRUMENT_AUCTION
    book["market_state"] = market_state
    row = state.auctions[instrument]
    row["price_ticks"] = 0
    row["lots"] = 0
    row["surplus_lots"] = 0
    if market_state >= INSTRUMENT_PRE_OPEN:
        row["reference_ticks"] = book["last_ticks"] if book["last_ticks"] != 0 else reference_ticks
    return before >= INSTRUMENT_PRE_OPEN or gathered(state, instrument) != 0


@njit_called
def gathered(state, instrument):
    """How many orders wait in the books of the instrument's auction."""
    bids = np.int64(state.books[gathering_book(state, instrument, BUY)]["orders"])
    return bids + np.int64(state.books[gathering_book(state, instrument, SELL)]["orders"])


# --- the price --------------------------------------------------------------------------------------------------------


@njit_called
def _price_at(state, level, side):
    """Price of a level, or that of an empty side."""
    if level != 0:
        return price_of(state.leaves, level)
    return np.int64(0 if side == BUY else NO_ASK)


@njit_called
def _front(state, main, gathered_level, side):
    """The better price of a level of the main book and one of the auction's; 0 = none."""
    a = _price_at(state, main, side)
    b = _price_at(state, gathered_level, side)
    return max(a, b) if side == BUY else min(a, b)


@njit_called
def _lots_of(state, level):
    """Lots of all orders of a level, what they hide included."""
    lots = np.int64(0)
    slot = np.int64(state.levels[level]["head"])
    while slot != 0:
        lots += state.orders[slot]["left_lots"] + hidden_lots(state, slot)
        slot = np.int64(state.orders[slot]["next"])
    return lots


@njit_called
def _behind(state, level, side):
    return next_level_down(state.leaves, level) if side == BUY else next_level_up(state.leaves, level)


@njit_called
def _step(state, main, gathered_level, side):
    """The best price of both books, its lots, and the levels behind it."""
    price = _front(state, main, gathered_level, side)
    lots = np.int64(0)
    if main != 0 and price_of(state.leaves, main) == price:
        lots += _lots_of(state, main)
        main = _behind(state, main, side)
    if gathered_level != 0 and price_of(state.leaves, gathered_level) == price:
        lots += _lots_of(state, gathered_level)
        gathered_level = _behind(state, gathered_level, side)
    return price, lots, main, gathered_level


@njit_called
def auction_price(state, instrument, reference_ticks):
    """Price, lots and surplus of an auction as it stands; (0, 0, 0) where nothing meets.

    The price executes most lots; of those that do, leaves least over; of those, is nearest to ``reference_ticks`` (0 = none: the
    middle of them, rounded down). The surplus is what is left over at the price: of buyers, or below zero of sellers.

    Best bids against best asks give the lots, and the last levels that met bound the prices at which so many trade. What is left over
    there is the next bid or the next ask alone, or nothing between the two.
    """
    bm = np.int64(state.books[instrument]["best_level"][BUY])
    am = np.int64(state.books[instrument]["best_level"][SELL])
    bg = np.int64(state.books[gathering_book(state, instrument, BUY)]["best_level"][BUY])
    ag = np.int64(state.books[gathering_book(state, instrument, SELL)]["best_level"][SELL])
    bid, bid_lots, bm, bg = _step(state, bm, bg, np.int64(BUY))
    ask, ask_lots, am, ag = _step(state, am, ag, np.int64(SELL))
    lots = np.int64(0)
    low = np.int64(0)
    high = np.int64(0)
    while bid >= ask:
        met = min(bid_lots, ask_lots)
        lots += met
        low = ask
        high = bid
        bid_lots -= met
        ask_lots -= met
        if bid_lots == 0:
            bid, bid_lots, bm, bg = _step(state, bm, bg, np.int64(BUY))
        if ask_lots == 0:
            ask, ask_lots, am, ag = _step(state, am, ag, np.int64(SELL))
    if lots == 0:
        return _NONE, _NONE, _NONE
    first = max(low, bid + 1)
    last = min(high, ask - 1)
    if first > last:
        # Whatever the price, somebody is left over: the fewer.
        by_bid = bid >= low and (ask > high or bid_lots <= ask_lots)
        by_ask = ask <= high and (bid < low or ask_lots <= bid_lots)
        first = max(low, _front(state, bm, bg, np.int64(BUY)) + 1) if by_bid else ask
        last = min(high, _front(state, am, ag, np.int64(SELL)) - 1) if by_ask else bid
    price = first + (last - first) // 2
    if reference_ticks != 0:
        price = max(first, min(reference_ticks, last))
    surplus = np.int64(0)
    if price <= bid:
        surplus = bid_lots
    elif price >= ask:
        surplus = -ask_lots
    return price, lots, surplus


# --- the trades -------------------------------------------------------------------------------------------------------


@njit_called
def _first(state, instrument, side):
    """Slot of the order that is first on a side: by price, then those of the main book, then by age; 0 = none."""
    main = state.books[instrument]
    row = state.books[gathering_book(state, instrument, side)]
    better = (1 - 2 * side) * (row["best_ticks"][side] - main["best_ticks"][side]) > 0
    level = np.int64(row["best_level"][side]) if better else np.int64(main["best_level"][side])
    return np.int64(state.levels[level]["head"]) if level != 0 else np.int64(0)


@njit_called
def _lower(state, slot, left_lots):
    """Leave an order with so many lots in its place; one without any leaves the book."""
    if left_lots == 0:
        remove(state, slot)
    elif (state.orders[slot]["modes"] & HAS_TERMS) != 0:
        show(state, slot, left_lots)
    else:
        state.orders[slot]["left_lots"] = left_lots


@njit_called
def begin_uncross(state, instrument):
    """Find the price at which the instrument's auction ends; ``uncross`` trades at it."""
    meta = state.meta
    price, lots, surplus = auction_price(state, instrument, state.auctions[instrument]["reference_ticks"])
    meta[AUCTION_INSTRUMENT] = instrument
    meta[AUCTION_PRICE] = price
    meta[AUCTION_LOTS] = lots
    meta[AUCTION_SURPLUS] = surplus
    meta[AUCTION_BUYER] = 0


@njit_called
def uncross(state, events):
    """Trade what meets, buyer by buyer, at the one price, then say so, and let the rest into the main book.

    Returns False when the ring is full; called again it goes on.
    """
    meta = state.meta
    orders = state.orders
    instrument = meta[AUCTION_INSTRUMENT]
    price = meta[AUCTION_PRICE]
    while price != 0:
        buyer = _first(state, instrument, np.int64(BUY))
        seller = _first(state, instrument, np.int64(SELL))
        if buyer == 0 or seller == 0 or orders[buyer]["price_ticks"] < orders[seller]["price_ticks"]:
            break
        if not has_room(state, events, np.int64(2)):
            return False
        for slot in (buyer, seller):
            if is_linked(state, slot):
                end_partner(state, events, meta[TAKER_SEQ], slot, _NONE, True)
                if not has_room(state, events, np.int64(2)):
                    return False
        wanted = orders[buyer]["left_lots"] + hidden_lots(state, buyer)
        offered = orders[seller]["left_lots"] + hidden_lots(state, seller)
        lots = min(wanted, offered)
        if meta[AUCTION_BUYER] != orders[buyer]["order_id"]:
            meta[AUCTION_BUYER] = orders[buyer]["order_id"]
            _say(state, events, np.int64(EV_TAKER), buyer, price, _NONE, wanted, wanted)
        _say(state, events, np.int64(EV_CROSSED), seller, price, lots, offered - lots, wanted - lots)
        _lower(state, buyer, wanted - lots)
        _lower(state, seller, offered - lots)
    if not has_room(state, events, np.int64(1)):
        return False
    _enter_gathered(state, instrument, np.int64(BUY))
    _enter_gathered(state, instrument, np.int64(SELL))
    book = state.books[instrument]
    if price != 0:
        book["last_ticks"] = price
    if book["market_state"] == INSTRUMENT_OPEN:
        visit_open(state, instrument)
    last = np.int64(0 if has_parts(state) else EVENT_LAST)
    _say_auction(state, events, instrument, price, meta[AUCTION_LOTS], meta[AUCTION_SURPLUS], last)
    return True


@njit_called
def _say(state, events, kind, slot, price_ticks, lots, left_lots, taker_left):
    order = state.orders[slot]
    say(
        state,
        events.slots,
        state.meta[TAKER_SEQ],
        kind,
        np.int64(BY_AUCTION) if kind == EV_TAKER else _NONE,
        _NONE,
        state.meta[AUCTION_INSTRUMENT],
        order["order_id"],
        price_ticks,
        lots,
        left_lots,
        taker_left,
        np.int64(order["hold"]),
    )


@njit_called
def _say_auction(state, events, instrument, price_ticks, lots, surplus, flags):
    say(
        state,
        events.slots,
        state.meta[TAKER_SEQ],
        np.int64(EV_AUCTION),
        _NONE,
        flags,
        instrument,
        _NONE,
        price_ticks,
        lots,
        surplus,
        _NONE,
        np.int64(-1),
    )


@njit_called
def _enter_gathered(state, instrument, side):
    """Move what is left of a side behind what stands in the main book, in its order.

    All is taken off before anything is put on: so the leaves that are needed are there.
    """
    orders = state.orders
    number = gathering_book(state, instrument, side)
    row = state.books[number]
    count = 0
    while row["best_level"][side] != 0:
        slot = np.int64(state.levels[np.int64(row["best_level"][side])]["head"])
        take_off(state, slot)
        state.scratch[count] = slot
        count += 1
    for k in range(count):
        slot = np.int64(state.scratch[k])
        move_to(state, slot, instrument)
        put_on(state, slot, instrument, side, orders[slot]["price_ticks"])


# --- what is published ------------------------------------------------------------------------------------------------


@njit_called
def indicate(state, events):
    """Publish where each auction stands that has changed since; from AUCTION_INSTRUMENT on, behind which the ring was full.

    Returns False when it is full.
    """
    meta = state.meta
    for instrument in range(meta[AUCTION_INSTRUMENT], state.auctions.shape[0]):
        if state.books[instrument]["market_state"] != INSTRUMENT_AUCTION:
            continue
        if not has_room(state, events, np.int64(1)):
            meta[AUCTION_INSTRUMENT] = instrument
            return False
        row = state.auctions[instrument]
        price, lots, surplus = auction_price(state, instrument, row["reference_ticks"])
        if price != row["price_ticks"] or lots != row["lots"] or surplus != row["surplus_lots"]:
            row["price_ticks"] = price
            row["lots"] = lots
            row["surplus_lots"] = surplus
            _say_auction(state, events, np.int64(instrument), price, lots, surplus, _NONE)
    if not has_room(state, events, np.int64(1)):
        meta[AUCTION_INSTRUMENT] = state.auctions.shape[0]
        return False
    say(
        state,
        events.slots,
        meta[TAKER_SEQ],
        np.int64(EV_NOTHING),
        _NONE,
        np.int64(EVENT_LAST),
        _NONE,
        _NONE,
        _NONE,
        _NONE,
        _NONE,
        _NONE,
        np.int64(-1),
    )
    meta[AUCTION_INSTRUMENT] = 0
    return True
