"""Events of orders, settled: what begins, trades, rests and ends. Settle is the only writer of the ledger, strictly in command order.

A command that the matcher works on is settled event by event as they arrive (``PHASE``, ``INDEX`` keep the place), so that no number of
events needs room all at once; cancel-all merges the shards' events by (instrument, order). Everything else is settled at once.
Funds of a fill: flow format 2, section 5.
"""

from __future__ import annotations

from protocol import enums as e
from protocol import reasons as r
from protocol.jit import inner
from risk import state as s
from risk.client_ids import free_client_id
from risk.exits import exits_are_back, give_row_back
from risk.ledger import balance_row, drop_hold, post
from risk.limits import count_end
from risk.links import drop_second, take_over_lock
from risk.orders import keep_peg_price
from risk.outcomes import emit_ids, emit_order, emit_pegged, emit_rejected
from risk.settle_locks import end_order, lock_amended, lock_order, order_named, paid_asset, release_promise, show_part
from risk.settle_trades import outcome_flag, settle_auction, settle_crossed, settle_fill, settle_prevented


@inner
def waiting_flag(state, hold):
    """OUTCOME_WAITS for an order that waits for a price."""
    return e.OUTCOME_WAITS if (state.holds[hold]["flags"] & s.HOLD_WAITS) != 0 else 0


@inner
def settle_canceled(state, rings, c, event):
    """An order left the book: by its owner, a cancel-all or self-trade prevention."""
    hold = order_named(state, event)
    if hold < 0:
        return
    h = state.holds[hold]
    h["left_lots"] = 0
    units = h["locked_units"]
    post(state, balance_row(state, h["account"], paid_asset(state, h)), units, -units, c["seq"])
    h["locked_units"] = 0
    emit_order(state, rings, c, hold, e.OUT_CANCELED, event["reason"], event["qty_lots"], outcome_flag(c, event))
    end_order(state, c, hold, e.ORDER_STATE_CANCELED, event["reason"])
    state.meta[s.REMOVED] += 1


@inner
def settle_rest(state, rings, c, hold, event):
    """The taker's rest: it rests, or it expired."""
    flags = outcome_flag(c, event)
    if event["kind"] != e.EV_EXPIRED:
        if (state.holds[hold]["flags"] & (s.HOLD_TERMS | s.HOLD_WAITS)) == s.HOLD_TERMS:
            show_part(state.holds[hold])
        flags |= waiting_flag(state, hold)
        emit_order(state, rings, c, hold, e.OUT_RESTED, 0, -1, flags)
        return
    h = state.holds[hold]
    units = h["locked_units"]
    post(state, balance_row(state, h["account"], paid_asset(state, h)), units, -units, c["seq"])
    h["locked_units"] = 0
    h["left_lots"] = 0
    emit_order(state, rings, c, hold, e.OUT_EXPIRED, event["reason"], event["qty_lots"], flags)
    end_order(state, c, hold, e.ORDER_STATE_EXPIRED, event["reason"])


@inner
def begin_order(state, rings, c, pending, event):
    """First event of a new order: refused by the matcher, or its hold enters the ledger. True when that was all."""
    release_promise(state, pending)
    hold = pending["hold"]
    if c["source"] == e.SOURCE_RISK:
        exits_are_back(state, pending["slots"])
    if event["kind"] == e.EV_REJECTED:
        state.accounts[c["account"]]["activity"] -= 1
        count_end(state, c["account"], c["instrument"])
        if (state.holds[hold]["flags"] & s.HOLD_HAS_CLIENT_ID) != 0:
            free_client_id(state, hold)
        if state.holds[hold]["next"] != 0:
            give_row_back(state, hold)
            state.meta[s.EXITS_USED] -= 1
        drop_hold(state, hold)
        if (pending["flags"] & e.JUDGED_LEGS) != 0:
            drop_second(state, c, pending)
        emit_rejected(state, rings, c, event["reason"])
        return True
    return tell_new(state, rings, c, pending, event)


@inner
def tell_new(state, rings, c, pending, event):
    """An order's hold enters the ledger, and what is new is said, with its own ids. True when the event says no more."""
    lock_order(state, c, pending)
    hold = pending["hold"]
    # Where more follows, pegs that move behind it, it says that it rests like one that has traded.
    alone = event["kind"] == e.EV_RESTED and (event["flags"] & e.EVENT_LAST) != 0
    last = outcome_flag(c, event) if alone else 0
    if alone and (state.holds[hold]["flags"] & (s.HOLD_TERMS | s.HOLD_WAITS)) == s.HOLD_TERMS:
        show_part(state.holds[hold])
    has_ids = (state.holds[hold]["flags"] & s.HOLD_HAS_IDS) != 0
    linked = (pending["flags"] & e.JUDGED_LEGS) != 0
    i = emit_order(
        state, rings, c, hold, e.OUT_NEW, 0, -1, (0 if has_ids or linked else last) | waiting_flag(state, hold)
    )
    if linked:
        # Of the second of two, which is not its command's own.
        rings.outcomes.slots[i]["type"] = state.holds[hold]["type"]
    if has_ids:
        emit_ids(state, rings, c, hold)
    return alone and not has_ids and not linked


@inner
def begin_second(state, rings, c, pending, event):
    """The second of two linked orders entered: it is told like the first."""
    other = state.pending[(c["seq"] + pending["first"]) & (state.pending.shape[0] - 1)]
    release_promise(state, other)
    state.meta[s.TAKER_HOLD] = other["hold"]
    tell_new(state, rings, c, other, event)


@inner
def begin_amend(state, rings, c, pending, event):
    """First event of an amend: refused by the matcher, or the difference of the holds moves. True when that was all."""
    release_promise(state, pending)
    promised = pending["hold"]
    if promised >= 0:
        state.accounts[c["account"]]["activity"] -= 1
        if state.holds[promised]["order_id"] == c["order_id"]:
            state.holds[promised]["amends_inflight"] -= 1
    if event["kind"] == e.EV_REJECTED:
        emit_rejected(state, rings, c, event["reason"])
        return True
    hold = event["hold"]
    h = state.holds[hold]
    if h["order_id"] != event["order_id"] or (event["kind"] != e.EV_AMENDED and event["kind"] != e.EV_MOVED):
        state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
        return True
    pending["hold"] = hold
    lock_amended(state, c, hold, event)
    last = (event["flags"] & e.EVENT_LAST) != 0
    if (h["flags"] & s.HOLD_TERMS) != 0:
        # In place it shows no more than it has; else it shows nothing until it rests again.
        h["shown_lots"] = min(h["shown_lots"], h["left_lots"]) if last and event["kind"] == e.EV_AMENDED else 0
    if event["kind"] == e.EV_MOVED:
        emit_order(state, rings, c, hold, e.OUT_REPLACED, 0, -1, 0)
        settle_rest(state, rings, c, hold, event)
    else:
        emit_order(state, rings, c, hold, e.OUT_REPLACED, 0, -1, outcome_flag(c, event) | waiting_flag(state, hold))
    return True


@inner
def settle_order_event(state, rings, c, pending, event):
    """One event of an order or amend, the first one included."""
    meta = state.meta
    if meta[s.PHASE] == s.PHASE_NONE:
        meta[s.PHASE] = s.PHASE_OPEN
        if c["type"] == e.AMEND:
            done = begin_amend(state, rings, c, pending, event)
        else:
            done = begin_order(state, rings, c, pending, event)
        meta[s.TAKER_HOLD] = pending["hold"]
        if done:
            return
    elif meta[s.PHASE] == s.PHASE_OPEN and (pending["flags"] & e.JUDGED_LEGS) != 0:
        meta[s.PHASE] = s.PHASE_BOTH
        begin_second(state, rings, c, pending, event)
    settle_event(state, rings, c, event)


@inner
def settle_event(state, rings, c, event):
    """One event of a command behind what begins an order: the order that trades now is TAKER_HOLD's."""
    meta = state.meta
    kind = event["kind"]
    if kind == e.EV_FILL:
        settle_fill(state, rings, c, meta[s.TAKER_HOLD], event)
    elif kind == e.EV_PREVENTED:
        settle_prevented(state, rings, c, meta[s.TAKER_HOLD], event)
    elif kind == e.EV_CANCELED:
        settle_canceled(state, rings, c, event)
    elif kind == e.EV_RESTED or kind == e.EV_EXPIRED:
        settle_rest(state, rings, c, meta[s.TAKER_HOLD], event)
    elif kind == e.EV_TAKER:
        settle_taker(state, rings, c, event)
    elif kind == e.EV_CROSSED:
        settle_crossed(state, rings, c, meta[s.TAKER_HOLD], event)
    elif kind == e.EV_AUCTION:
        settle_auction(state, rings, c, event)
    elif kind == e.EV_PEGGED:
        settle_pegged(state, rings, c, event)
    elif kind == e.EV_REJECTED:
        emit_rejected(state, rings, c, event["reason"])
    elif kind != e.EV_NOTHING:
        meta[s.FAULT] = s.FAULT_UNKNOWN_EVENT


@inner
def settle_pegged(state, rings, c, event):
    """A pegged order stands at another price. Its hold is that of its limit, so that nothing moves."""
    hold = order_named(state, event)
    if hold < 0:
        return
    keep_peg_price(state.holds[hold], event["price_ticks"])
    emit_pegged(state, rings, c, hold, event["price_ticks"], outcome_flag(c, event))


@inner
def settle_taker(state, rings, c, event):
    """From here on it is the order that trades: a stop that was set off, or a buyer of an auction."""
    hold = order_named(state, event)
    if hold < 0:
        return
    state.meta[s.TAKER_HOLD] = hold
    if event["reason"] == r.BY_AUCTION:
        return
    state.holds[hold]["flags"] &= 255 - s.HOLD_WAITS
    if (state.holds[hold]["flags"] & s.HOLD_LINKED) != 0:
        take_over_lock(state, hold, c["seq"])
    emit_order(state, rings, c, hold, e.OUT_TRIGGERED, event["reason"], -1, 0)
