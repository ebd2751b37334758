"""Commands about many orders: mass cancels, kill switches, expiries, changes of state. Rare, and as long as their orders are many."""

from __future__ import annotations

from typing import Final

import numpy as np

from matcher.auction import begin_uncross, set_market_state
from matcher.book import remove
from matcher.cancels import emit_canceled
from matcher.events import has_room, say
from matcher.jit import njit_called, njit_inlined
from matcher.state import (
    AUCTION_INSTRUMENT,
    AUCTIONS,
    BOOK_KINDS,
    BOOK_STRIDE,
    ORDERS_USED,
    SCRATCH_COUNT,
    SCRATCH_NEXT,
    SCRATCH_REASON,
    STAGE,
    STAGE_CANCELING,
    STAGE_IDLE,
    STAGE_INDICATING,
    STAGE_UNCROSSING,
    TAKER_SEQ,
    WAITS,
)
from matcher.stops import go_on, visit_open
from matcher.terms import collect_due, instrument_of
from matcher.walk import collect_side
from protocol.enums import (
    BUY,
    CANCEL_ASKS,
    CANCEL_BIDS,
    CANCEL_BOTH,
    CAUSE_DEAD_MAN,
    CAUSE_DISCONNECT,
    EV_NOTHING,
    EVENT_LAST,
    INSTRUMENT_DELISTED,
    INSTRUMENT_OPEN,
    JUDGED_UNCROSS,
    ORDER_ID_SOURCE_SHIFT,
    SCOPE_ACCOUNT,
    SCOPE_FIRM,
    SCOPE_INSTRUMENT,
    SCOPE_USER,
    SCOPE_VENUE,
    SELL,
    SESSION_SHIFT,
)
from protocol.reasons import BY_CANCEL_ALL, BY_DEAD_MAN, BY_DELISTING, BY_DISCONNECT, BY_EXPIRY, BY_KILL

_NONE: Final = np.int64(0)


@njit_called
def cancel_all(state, command, events):
    """CANCEL_ALL: collect the orders of account, instrument and session, as far as they are named; ``proceed`` removes them."""
    account = np.int64(command["account"])
    instrument = np.int64(command["instrument"])
    session = command["trigger_price_ticks"]
    sides = command["price_ticks"]
    zero = np.int64(0)
    if account != 0:
        count = _collect_account(state, account, instrument, zero)
    elif instrument != 0:
        count = _collect_book(state, instrument, zero)
    else:
        count = _collect_session(state, session)
    if session != 0 or sides != CANCEL_BOTH:
        count = _keep_of_session(state, count, session, sides)
    reason = np.int64(BY_CANCEL_ALL)
    if command["qty_lots"] == CAUSE_DISCONNECT:
        reason = np.int64(BY_DISCONNECT)
    elif command["qty_lots"] == CAUSE_DEAD_MAN:
        reason = np.int64(BY_DEAD_MAN)
    _begin_canceling(state, command, events, count, reason)


@njit_called
def kill(state, command, events):
    """KILL: collect the orders of the scope, whoever has them."""
    scope = command["price_ticks"]
    count = np.int64(0)
    if scope == SCOPE_INSTRUMENT:
        count = _collect_book(state, np.int64(command["instrument"]), count)
    elif scope == SCOPE_ACCOUNT:
        count = _collect_account(state, np.int64(command["account"]), np.int64(0), count)
    else:
        for account in range(1, state.accounts.shape[0]):
            row = state.groups[account]
            master = row["master"] if row["master"] != 0 else account
            if (
                scope == SCOPE_VENUE
                or (scope == SCOPE_USER and master == command["account"])
                or (scope == SCOPE_FIRM and row["firm"] == command["trigger_price_ticks"])
            ):
                count = _collect_account(state, np.int64(account), np.int64(0), count)
    _begin_canceling(state, command, events, count, np.int64(BY_KILL))


@njit_called
def change_state(state, command, verdict, events):
    """SET_STATE, HALT, RESUME: the market's state; delisting takes all orders of the instrument away."""
    instrument = np.int64(command["instrument"])
    wanted = verdict["price_ticks"]
    if wanted != 0:
        trades = set_market_state(state, instrument, wanted, verdict["qty_lots"])
        if trades and (verdict["flags"] & JUDGED_UNCROSS) != 0:
            state.meta[TAKER_SEQ] = command["seq"]
            state.meta[STAGE] = STAGE_UNCROSSING
            begin_uncross(state, instrument)
            return
    if wanted == INSTRUMENT_DELISTED:
        count = _collect_book(state, instrument, np.int64(0))
        _begin_canceling(state, command, events, count, np.int64(BY_DELISTING))
        return
    if wanted == INSTRUMENT_OPEN:
        visit_open(state, instrument)
    go_on(state, command, events)


@njit_called
def expire(state, command, events):
    """EXPIRE: the orders whose time has come, by time and age; then where auctions stand."""
    meta = state.meta
    count = collect_due(state, command["ts_ns"])
    meta[AUCTION_INSTRUMENT] = 1 if meta[AUCTIONS] != 0 else 0
    if count == 0 and meta[AUCTIONS] != 0:
        meta[TAKER_SEQ] = command["seq"]
        meta[STAGE] = STAGE_INDICATING
        return
    _begin_canceling(state, command, events, count, np.int64(BY_EXPIRY))


@njit_called
def _begin_canceling(state, command, events, count, reason):
    """Have ``proceed`` cancel what was collected in ``scratch``, or say that there is nothing."""
    meta = state.meta
    if count == 0:
        say(
            state,
            events.slots,
            command["seq"],
            np.int64(EV_NOTHING),
            _NONE,
            np.int64(EVENT_LAST),
            np.int64(command["instrument"]),
            _NONE,
            _NONE,
            _NONE,
            _NONE,
            _NONE,
            np.int64(-1),
        )
        return
    if reason != BY_EXPIRY:
        _sort_scratch(state, count)
    meta[TAKER_SEQ] = command["seq"]
    meta[SCRATCH_NEXT] = 0
    meta[SCRATCH_COUNT] = count
    meta[SCRATCH_REASON] = reason
    meta[STAGE] = STAGE_CANCELING


@njit_called
def cancel_collected(state, events):
    """Cancel what was collected, as far as the ring has room; False where it has none."""
    meta = state.meta
    count = meta[SCRATCH_COUNT]
    for i in range(meta[SCRATCH_NEXT], count):
        if not has_room(state, events, np.int64(1)):
            meta[SCRATCH_NEXT] = i
            return False
        slot = np.int64(state.scratch[i])
        indicates = meta[SCRATCH_REASON] == BY_EXPIRY and meta[AUCTION_INSTRUMENT] != 0
        flags = np.int64(EVENT_LAST if i == count - 1 and not indicates else 0)
        # Risk merges what several shards expire, by time and age.
        expiry_ns = np.int64(0)
        age = np.int64(0)
        if meta[SCRATCH_REASON] == BY_EXPIRY:
            expiry_ns = state.terms[slot]["expiry_ns"]
            age = state.terms[slot]["age"]
        emit_canceled(state, events, meta[TAKER_SEQ], slot, meta[SCRATCH_REASON], flags, expiry_ns, age)
        remove(state, slot)
    meta[STAGE] = (
        STAGE_INDICATING if meta[SCRATCH_REASON] == BY_EXPIRY and meta[AUCTION_INSTRUMENT] != 0 else STAGE_IDLE
    )
    return True


@njit_called
def _collect_account(state, account, instrument, first):
    """Slots of the account's orders (instrument 0 = on any) in ``scratch`` from ``first`` on, the oldest first: so ids mostly rise.

    Returns the entry behind the last one.
    """
    orders = state.orders
    scratch = state.scratch
    count = first
    slot = np.int64(state.accounts[account])
    while slot != 0:
        if instrument == 0 or instrument_of(state, orders[slot]) == instrument:
            scratch[count] = slot
            count += 1
        slot = np.int64(orders[slot]["account_next"])
    for i in range((count - first) // 2):
        other = scratch[count - 1 - i]
        scratch[count - 1 - i] = scratch[first + i]
        scratch[first + i] = other
    return count


@njit_called
def _collect_book(state, instrument, count):
    """Slots of all orders of an instrument in ``scratch`` from ``count`` on; returns the entry behind the last one."""
    for kind in range(BOOK_KINDS):
        for side in (BUY, SELL):
            count = collect_side(
                state, instrument + kind * state.meta[BOOK_STRIDE], np.int64(side), state.scratch, count
            )
    return count


@njit_inlined
def _is_of_session(state, slot, session):
    """Whether an order came in the session ``source << 16 | number``."""
    source = state.orders[slot]["order_id"] >> ORDER_ID_SOURCE_SHIFT
    return source << SESSION_SHIFT | np.int64(state.sessions[slot]) == session


@njit_called
def _collect_session(state, session):
    """Slots of all orders of a session in ``scratch``: a look at every slot ever used. Returns their number."""
    count = np.int64(0)
    for slot in range(1, state.meta[ORDERS_USED] + 1):
        if state.orders[slot]["order_id"] != 0 and _is_of_session(state, np.int64(slot), session):
            state.scratch[count] = slot
            count += 1
    return count


@njit_called
def _keep_of_session(state, count, session, sides):
    """Of the slots collected keep those of the session (0 = any) and sides; returns how many."""
    scratch = state.scratch
    kept = np.int64(0)
    for i in range(count):
        slot = np.int64(scratch[i])
        waits = (state.orders[slot]["modes"] & WAITS) != 0
        own = np.int64(state.terms[slot]["side"]) if waits else np.int64(state.orders[slot]["side"])
        side = CANCEL_BIDS if own == BUY else CANCEL_ASKS
        if (session == 0 or _is_of_session(state, slot, session)) and (sides == CANCEL_BOTH or sides == side):
            scratch[kept] = slot
            kept += 1
    return kept


@njit_inlined
def _precedes(state, a, b):
    """Whether the order in slot a comes before that in slot b by (instrument, order id)."""
    orders = state.orders
    one = instrument_of(state, orders[a])
    other = instrument_of(state, orders[b])
    if one != other:
        return one < other
    return orders[a]["order_id"] < orders[b]["order_id"]


@njit_called
def _sort_scratch(state, count):
    """Heap sort of the slots collected, unless they are in order: no memory, and no bad case."""
    scratch = state.scratch
    i = 1
    while i < count and _precedes(state, np.int64(scratch[i - 1]), np.int64(scratch[i])):
        i += 1
    if i >= count:
        return
    for start in range(count // 2 - 1, -1, -1):
        _sift_down(state, start, count)
    for end in range(count - 1, 0, -1):
        largest = scratch[0]
        scratch[0] = scratch[end]
        scratch[end] = largest
        _sift_down(state, np.int64(0), end)


@njit_called
def _sift_down(state, start, end):
    scratch = state.scratch
    root = start
    slot = np.int64(scratch[root])
    while 2 * root + 1 < end:
        child = 2 * root + 1
        if child + 1 < end and _precedes(state, np.int64(scratch[child]), np.int64(scratch[child + 1])):
            child += 1
        if not _precedes(state, slot, np.int64(scratch[child])):
            break
        scratch[root] = scratch[child]
        root = child
    scratch[root] = slot
