"""The loop in which an order trades with those that rest."""

from __future__ import annotations

import numpy as np

from matcher.book import forget, is_own, unlink
from matcher.events import emit, has_room
from matcher.jit import njit_called, njit_inlined
from matcher.levels import head_of
from matcher.links import end_partner, is_linked
from matcher.protection import count_quote_fill, emit_pulled, quote_row
from matcher.state import (
    IS_QUOTE,
    STAGE,
    STAGE_EXPIRED,
    STAGE_IDLE,
    STAGE_RESTING,
    TAKER_ACCOUNT,
    TAKER_FIRST,
    TAKER_INSTRUMENT,
    TAKER_LEFT,
    TAKER_PRICE,
    TAKER_SEQ,
    TAKER_SIDE,
    TAKER_STP,
    TAKER_TYPE,
)
from matcher.stops import flag_of_end
from matcher.terms import hidden_lots, replenish
from protocol.enums import (
    EV_CANCELED,
    EV_FILL,
    EV_PREVENTED,
    MARKET_AMOUNT,
    STP_DECREMENT,
    STP_EXPIRE_MAKER,
    STP_EXPIRE_TAKER,
    STP_NONE,
)
from protocol.reasons import BY_STP

EVENTS_WITH_PULLS: int = 3


@njit_called
def _pull_quotes(state, events, slot, account, instrument, side, taker_left):
    """Take away what is left of a quote of which ``side`` traded: the order in ``slot`` (0 = nothing is left of it), and the other side."""
    other = np.int64(state.quotes[quote_row(state, account, instrument)]["slot"][1 - side])
    if slot != 0:
        unlink(state, slot)
    if other != 0:
        unlink(state, other)
    end = np.int64(flag_of_end(state, state.books[instrument]) if taker_left == 0 else 0)
    if slot != 0:
        emit_pulled(state, events, slot, instrument, np.int64(end if other == 0 else 0))
        forget(state, slot)
    if other != 0:
        emit_pulled(state, events, other, instrument, end)
        forget(state, other)


@njit_inlined
def trade(state, events):
    """Let the taker in ``meta`` trade as far as it can (flow format 2, section 4).

    Returns False when the ring is full; called again it goes on. When it returns True the stage says what is left to
    do: nothing (the taker has nothing left), the rest rests or is dropped, or the rest expires by self-trade
    prevention.
    """
    meta = state.meta
    orders = state.orders
    instrument = meta[TAKER_INSTRUMENT]
    side = meta[TAKER_SIDE]
    price_ticks = meta[TAKER_PRICE]
    account = meta[TAKER_ACCOUNT]
    stp = meta[TAKER_STP]
    left = meta[TAKER_LEFT]
    first_ticks = meta[TAKER_FIRST]
    by_amount = meta[TAKER_TYPE] == MARKET_AMOUNT
    sign = 1 - 2 * side
    book = state.books[instrument]
    while True:
        best_ticks = book["best_ticks"][1 - side]
        if sign * (price_ticks - best_ticks) < 0:
            meta[STAGE] = STAGE_RESTING
            break
        lot_units = np.int64(1)
        room_lots = left
        if by_amount:
            lot_units = best_ticks * book["multiplier"]
            assert lot_units > 0, "a listed instrument has a multiplier"
            room_lots = left // lot_units
            if room_lots == 0:
                meta[STAGE] = STAGE_RESTING
                break
        if not has_room(state, events, np.int64(1)):
            meta[TAKER_LEFT] = left
            meta[TAKER_FIRST] = first_ticks
            return False
        slot = head_of(state, np.int64(book["best_level"][1 - side]))
        maker = orders[slot]
        maker_left = maker["left_lots"]
        hidden = hidden_lots(state, slot)
        lots = min(room_lots, maker_left)
        kind = np.int64(EV_FILL)
        reason = np.int64(0)
        if stp != STP_NONE and is_own(state, np.int64(maker["account"]), account):
            if stp == STP_EXPIRE_TAKER:
                meta[STAGE] = STAGE_EXPIRED
                break
            if stp == STP_DECREMENT:
                kind = np.int64(EV_PREVENTED)
            else:
                kind = np.int64(EV_CANCELED)
                reason = np.int64(BY_STP)
                maker_left += hidden
                hidden = np.int64(0)
                lots = maker_left
                lot_units = np.int64(0)
        pulls = np.int64(0)
        maker_account = np.int64(0)
        is_quote = (maker["modes"] & IS_QUOTE) != 0
        if is_quote and kind == EV_FILL:
            if not has_room(state, events, np.int64(EVENTS_WITH_PULLS)):
                meta[TAKER_LEFT] = left
                meta[TAKER_FIRST] = first_ticks
                return False
            maker_account = np.int64(maker["account"])
            pulls = count_quote_fill(state, maker_account, instrument, 1 - side, lots, maker_left - lots)
        if is_linked(state, slot):
            if not has_room(state, events, np.int64(2)):
                meta[TAKER_LEFT] = left
                meta[TAKER_FIRST] = first_ticks
                return False
            end_partner(state, events, meta[TAKER_SEQ], slot, np.int64(0), True)
        maker_left -= lots
        left -= lots * lot_units
        if kind == EV_FILL:
            book["last_ticks"] = best_ticks
            first_ticks = best_ticks if first_ticks == 0 else first_ticks
        order_id = maker["order_id"]
        hold = np.int64(maker["hold"])
        # It leaves first: what the price sets off or moves may need its place.
        if maker_left != 0:
            maker["left_lots"] = maker_left
        elif hidden != 0:
            replenish(state, slot)
        else:
            unlink(state, slot)
            forget(state, slot)
        flags = np.int64(0)
        if left == 0:
            meta[TAKER_FIRST] = first_ticks
            flags = np.int64(flag_of_end(state, book) if pulls == 0 else 0)
        emit(
            state,
            events.slots,
            meta[TAKER_SEQ],
            kind,
            reason,
            flags,
            instrument,
            order_id,
            best_ticks,
            lots,
            maker_left + hidden,
            left,
            hold,
        )
        if pulls != 0:
            _pull_quotes(
                state, events, slot if maker_left != 0 else np.int64(0), maker_account, instrument, 1 - side, left
            )
        if left == 0:
            meta[STAGE] = STAGE_IDLE
            break
        if kind == EV_CANCELED and stp != STP_EXPIRE_MAKER:
            meta[STAGE] = STAGE_EXPIRED
            break
    meta[TAKER_LEFT] = left
    meta[TAKER_FIRST] = first_ticks
    return True
