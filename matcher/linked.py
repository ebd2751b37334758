"""How two linked orders (OCO) enter: together or not at all.

The first one comes as the head of its group and is kept in ``stash`` until the slot of the second: so both are judged before either
stands. What becomes of them then: ``matcher.links``.
"""

from __future__ import annotations

import numpy as np

from matcher.auction import resting_book
from matcher.book import crosses, enter_pool, new_slot, put_on
from matcher.events import say
from matcher.jit import njit_called
from matcher.levels import has_leaf
from matcher.state import LEAVES_LIVE, NO_ASK, ORDERS_LIVE, STAGE, STAGE_PARTS, TAKER_SEQ
from matcher.stops import fire, judge_stop, put_stop, say_rested
from matcher.terms import show
from protocol.enums import (
    EV_REJECTED,
    EVENT_LAST,
    FLAG_SYSTEM,
    FLAG_TRIGGER,
    JUDGED_NO_TAKE,
    JUDGED_TERMS,
    POST_ONLY,
)
from protocol.reasons import ACCEPTED, BOOK_FULL, POST_ONLY_WOULD_TAKE, TRIGGER_PASSED


@njit_called
def keep_first(state, command, verdict):
    """Keep the head of a group of linked orders until its second order comes."""
    state.stash[0] = command
    state.stash_verdicts[0] = verdict


@njit_called
def enter_linked(state, command, verdict, events):
    """The second order of a group: both enter, or both are refused with one event; there is room for two."""
    first = state.stash[0]
    state.stash[1] = command
    second = state.stash[1]
    second["type"] = command["margin_mode"]
    second["session"] = first["session"]
    judged = state.stash_verdicts[0]
    seq = first["seq"]
    reason, trigger, book, side = _judge(state, first, judged)
    other_reason, other_trigger, other_book, other_side = _judge(state, second, verdict)
    # Exits that the price has passed meanwhile are set off at once, where they may trade.
    may = (first["flags"] & FLAG_SYSTEM) != 0 and (verdict["flags"] & JUDGED_NO_TAKE) == 0
    passed = may and reason == TRIGGER_PASSED
    other_passed = may and other_reason == TRIGGER_PASSED
    if passed:
        reason = np.int64(ACCEPTED)
    if other_passed:
        other_reason = np.int64(ACCEPTED)
    sets_off = passed or other_passed
    if reason == ACCEPTED:
        reason = other_reason
    if reason == ACCEPTED:
        reason = _room_code(state, trigger, book, other_trigger, other_book)
    if reason != ACCEPTED:
        instrument = np.int64(first["instrument"])
        hold = np.int64(judged["hold"])
        last = np.int64(EVENT_LAST)
        rejected = np.int64(EV_REJECTED)
        reason = np.int64(reason)
        order_id = first["order_id"]
        zero = np.int64(0)
        say(state, events.slots, seq, rejected, reason, last, instrument, order_id, zero, zero, zero, zero, hold)
        return
    a = _put(state, events, seq, first, judged, trigger, book, side, np.int64(0))
    b = _put(
        state,
        events,
        seq,
        second,
        verdict,
        other_trigger,
        other_book,
        other_side,
        np.int64(0 if sets_off else EVENT_LAST),
    )
    state.terms[a]["link"] = b
    state.terms[b]["link"] = a
    if sets_off:
        state.meta[TAKER_SEQ] = seq
        state.meta[STAGE] = STAGE_PARTS
        fire(state, a if passed else b)


@njit_called
def _judge(state, command, verdict):
    """(ACCEPTED or why the order cannot stand, the price and book that it would stand at, the side there)."""
    instrument = np.int64(command["instrument"])
    side = np.int64(command["side"])
    if (command["flags"] & FLAG_TRIGGER) != 0:
        return judge_stop(state, command)
    price_ticks = min(verdict["price_ticks"], NO_ASK - 1)
    number = resting_book(state, instrument, side)
    if number == instrument and crosses(state, instrument, side, price_ticks):
        return np.int64(POST_ONLY_WOULD_TAKE), price_ticks, number, side
    return np.int64(ACCEPTED), price_ticks, number, side


@njit_called
def _room_code(state, price_ticks, book, other_ticks, other_book):
    """ACCEPTED, or BOOK_FULL where two more orders have no place."""
    leaves = np.int64(not has_leaf(state, book, price_ticks >> 6))
    shares = book == other_book and price_ticks >> 6 == other_ticks >> 6
    leaves += not shares and not has_leaf(state, other_book, other_ticks >> 6)
    if (
        state.meta[LEAVES_LIVE] + leaves > state.leaves.shape[0] - 1
        or state.meta[ORDERS_LIVE] + 2 > state.orders.shape[0] - 1
    ):
        return np.int64(BOOK_FULL)
    return np.int64(ACCEPTED)


@njit_called
def _put(state, events, seq, command, verdict, price_ticks, book, side, flags):
    """Let an order stand, with terms of its own, and say that it does; its slot."""
    slot = new_slot(state)
    if (command["flags"] & FLAG_TRIGGER) != 0:
        put_stop(state, slot, command, verdict, price_ticks, book, side)
    else:
        _put_limit(state, slot, command, verdict, price_ticks, book, side)
    say_rested(state, events, seq, command, verdict, flags)
    return slot


@njit_called
def _put_limit(state, slot, command, verdict, price_ticks, book, side):
    """A post-only limit order onto its level."""
    modes = POST_ONLY << 4 | np.int64(command["stp"])
    enter_pool(state, slot, command, verdict, price_ticks, book, side, modes)
    if (verdict["flags"] & JUDGED_TERMS) != 0:
        show(state, slot, verdict["qty_lots"])
    put_on(state, slot, book, side, price_ticks)
