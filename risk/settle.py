"""Settle: the only writer of the ledger, strictly in command order.

A command that the matcher works on is settled event by event as they arrive (``PHASE``, ``INDEX`` keep the place), so that no number of
events needs room all at once; cancel-all merges the shards' events by (instrument, order). Everything else is settled at once.
Funds of a fill: flow format 2, section 5.
"""

from __future__ import annotations

from protocol import enums as e
from protocol import reasons as r
from protocol.fixed_point import AMOUNT_LIMIT, fee_charge
from protocol.jit import inner
from ringbuf.atomics import store_release
from risk import state as s
from risk.auctions import risk_may, settle_market
from risk.bands import check_breaker, set_reference, tick_references
from risk.client_ids import finish_client_id, free_client_id
from risk.dead_men import settle_dead_man
from risk.exits import end_exits, give_row_back, keep_proceeds, lock_of_exit, unlock_for_exits
from risk.fees import (
    charge,
    count_volume,
    fee_or_rebate,
    rate_of,
    settle_assignment,
    settle_own_rates,
    settle_schedule,
)
from risk.hashes import state_hash
from risk.ledger import add_withdrawal, balance_row, drop_hold, find_withdrawal, post, promise, remove_withdrawal
from risk.limits import count_end
from risk.links import drop_second, take_over_lock, unlink_hold
from risk.orders import limit_hold
from risk.outcomes import (
    emit_auction,
    emit_balance,
    emit_ids,
    emit_order,
    emit_pegged,
    emit_rejected,
    emit_simple,
    emit_trade,
    fold_outcomes,
)
from risk.quote_table import forget_quote
from risk.reserve import copy_listing, wanted_state


@inner
def ends_with_count(c):
    """Whether the last outcome of a command says how many orders it removed."""
    kind = c["type"]
    delists = kind == e.SET_STATE and c["instrument"] != 0 and c["price_ticks"] == e.INSTRUMENT_DELISTED
    return kind == e.CANCEL_ALL or kind == e.KILL or kind == e.EXPIRE or delists


@inner
def outcome_flag(c, event):
    """OUTCOME_LAST where an event's outcome ends its command: that of an order, an amend or a cancel."""
    kind = c["type"]
    if (event["flags"] & e.EVENT_LAST) == 0 or kind > e.AMEND or kind == e.CANCEL_ALL:
        return 0
    return e.OUTCOME_LAST


@inner
def waiting_flag(state, hold):
    """OUTCOME_WAITS for an order that waits for a price."""
    return e.OUTCOME_WAITS if (state.holds[hold]["flags"] & s.HOLD_WAITS) != 0 else 0


@inner
def release_promise(state, pending):
    """What reserve promised for the command is now in the ledger, or not needed."""
    if pending["inflight_units"] != 0:
        promise(state, pending["balance"], -pending["inflight_units"])


@inner
def paid_asset(state, h):
    """Asset that an order pays with and therefore locks."""
    row = state.instruments[h["instrument"]]
    return row["quote"] if h["side"] == e.BUY else row["base"]


@inner
def lock_order(state, c, pending):
    """An accepted order's hold moves from free to locked."""
    h = state.holds[pending["hold"]]
    units = pending["inflight_units"]
    post(state, pending["balance"], -units, units, c["seq"])
    h["locked_units"] = units
    h["state"] = e.HOLD_LIVE


@inner
def cancel_is_own(c, account):
    """Whether a cancel comes from the order's owner, who therefore knows of it.

    A cancel-all is the owner's where it names the account and is asked for through a gateway of clients. An operator's, or that
    of a session that has ended, counts as an expiry, for the client may still be asking what became of the order.
    """
    return c["type"] == e.CANCEL or (
        c["type"] == e.CANCEL_ALL
        and c["account"] == account
        and c["source"] >= e.SOURCE_FIRST_GATEWAY
        and c["qty_lots"] == e.CAUSE_ASKED
    )


@inner
def end_order(state, c, hold, how, reason):
    """What a finished order still locks becomes free, its client order id too where its owner cancelled, and its row is given back."""
    seq = c["seq"]
    h = state.holds[hold]
    if (h["flags"] & s.HOLD_HAS_CLIENT_ID) != 0:
        if how == e.ORDER_STATE_CANCELED and reason != r.BY_PEG and cancel_is_own(c, h["account"]):
            free_client_id(state, hold)
        else:
            finish_client_id(state, hold, c["ts_ns"], how, reason)
    units = h["locked_units"]
    if units != 0:
        if units < 0 or (h["left_lots"] == 0 and h["type"] != e.MARKET_AMOUNT):
            state.meta[s.FAULT] = s.FAULT_LOCK_LEFT
        post(state, balance_row(state, h["account"], paid_asset(state, h)), units, -units, seq)
        h["locked_units"] = 0
    if (h["flags"] & s.HOLD_QUOTE) != 0:
        forget_quote(state, hold)
    if h["next"] != 0:
        end_exits(state, hold, seq)
    if (h["flags"] & s.HOLD_LINKED) != 0:
        unlink_hold(state, hold)
    state.accounts[h["account"]]["activity"] -= 1
    count_end(state, h["account"], h["instrument"])
    drop_hold(state, hold)


@inner
def fill_side(state, hold, row, price_ticks, lots, value_units, base_units, seq):
    """Locks and proceeds of one side of a fill (steps 1 and 2)."""
    h = state.holds[hold]
    account = h["account"]
    h["traded_lots"] += lots
    h["value_units"] += value_units
    if h["side"] == e.BUY:
        used = value_units
        if h["type"] != e.MARKET_AMOUNT:
            used = h["price_ticks"] * lots * row["multiplier"]
        h["locked_units"] -= used
        post(state, balance_row(state, account, row["quote"]), used - value_units, -used, seq)
        post(state, balance_row(state, account, row["base"]), base_units, 0, seq)
    else:
        h["locked_units"] -= base_units
        post(state, balance_row(state, account, row["base"]), 0, -base_units, seq)
        post(state, balance_row(state, account, row["quote"]), value_units, 0, seq)
    h["left_lots"] -= value_units if h["type"] == e.MARKET_AMOUNT else lots
    if (h["flags"] & s.HOLD_TERMS) != 0 and h["shown_lots"] != 0:
        show_less(h, lots)


@inner
def show_less(h, lots):
    """A resting iceberg loses lots that it showed; where none are shown any more it shows the next part."""
    h["shown_lots"] -= lots
    if h["shown_lots"] == 0:
        show_part(h)


@inner
def show_part(h):
    """What an order with terms shows when it comes to rest."""
    h["shown_lots"] = h["left_lots"] if h["display_lots"] <= 0 else min(h["left_lots"], h["display_lots"])


@inner
def maker_fee(rate_e8, side, value_units, base_units, taker_fee_units):
    """Fee of the maker (>= 0), or its rebate (< 0), capped by the taker's fee of this fill."""
    if rate_e8 >= 0:
        return fee_charge(base_units if side == e.BUY else value_units, rate_e8)
    return -min(-fee_or_rebate(value_units if side == e.BUY else base_units, rate_e8), taker_fee_units)


@inner
def settle_fill(state, rings, c, taker, event):
    """One trade: both sides' locks and proceeds, fees, outcomes; ends the maker's order when nothing is left of it."""
    seq = c["seq"]
    maker = event["hold"]
    if state.holds[maker]["order_id"] != event["order_id"]:
        state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
        return
    instrument = event["instrument"]
    row = state.instruments[instrument]
    price = event["price_ticks"]
    lots = event["qty_lots"]
    value = price * lots * row["multiplier"]
    base = lots * row["lot_atoms"]
    t = state.holds[taker]
    m = state.holds[maker]
    taker_side = t["side"]
    fill_side(state, taker, row, price, lots, value, base, seq)
    fill_side(state, maker, row, price, lots, value, base, seq)
    taker_asset = row["base"] if taker_side == e.BUY else row["quote"]
    taker_rate, taker_rule, taker_tier = rate_of(state, taker, row, s.FEE_TAKER, c["ts_ns"])
    maker_rate, maker_rule, maker_tier = rate_of(state, maker, row, s.FEE_MAKER, c["ts_ns"])
    taker_fee = fee_charge(base if taker_side == e.BUY else value, taker_rate)
    charge(state, balance_row(state, t["account"], taker_asset), taker_asset, taker_fee, True, seq)
    maker_units = maker_fee(maker_rate, m["side"], value, base, taker_fee)
    maker_asset = taker_asset
    if maker_rate >= 0:
        maker_asset = row["base"] if m["side"] == e.BUY else row["quote"]
    charge(state, balance_row(state, m["account"], maker_asset), maker_asset, maker_units, False, seq)
    if t["next"] != 0:
        keep_proceeds(state, taker, (base if taker_side == e.BUY else value) - taker_fee, seq)
    if m["next"] != 0:
        keep_proceeds(state, maker, (value if taker_side == e.BUY else base) - max(maker_units, 0), seq)
    count_volume(state, row, t["account"], m["account"], value, c["ts_ns"])
    check_breaker(state, c, instrument, price)
    row["last_price_ticks"] = price
    state.meta[s.TRADES] += 1

    maker_id = m["order_id"]
    taker_id = t["order_id"]
    flags = e.OUTCOME_TAKER
    emit_trade(state, rings, c, taker, maker_id, event, value, taker_fee, taker_asset, taker_rule, taker_tier, flags)
    flags = outcome_flag(c, event)
    emit_trade(state, rings, c, maker, taker_id, event, value, maker_units, maker_asset, maker_rule, maker_tier, flags)
    if event["left_lots"] == 0:
        end_order(state, c, maker, e.ORDER_STATE_FILLED, 0)
    if event["taker_left"] == 0:
        end_order(state, c, taker, e.ORDER_STATE_FILLED, 0)


@inner
def settle_crossed(state, rings, c, buyer, event):
    """A trade of an auction, at a price that is neither's own. Neither takes: each pays a maker's fee, and nobody is paid one."""
    seq = c["seq"]
    seller = event["hold"]
    if state.holds[seller]["order_id"] != event["order_id"]:
        state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
        return
    row = state.instruments[event["instrument"]]
    price = event["price_ticks"]
    lots = event["qty_lots"]
    value = price * lots * row["multiplier"]
    base = lots * row["lot_atoms"]
    b = state.holds[buyer]
    a = state.holds[seller]
    cross_side(state, buyer, row, price, lots, value, base, seq)
    cross_side(state, seller, row, price, lots, value, base, seq)
    buyer_rate, buyer_rule, buyer_tier = rate_of(state, buyer, row, s.FEE_MAKER, c["ts_ns"])
    seller_rate, seller_rule, seller_tier = rate_of(state, seller, row, s.FEE_MAKER, c["ts_ns"])
    buyer_fee = fee_charge(base, max(buyer_rate, 0))
    seller_fee = fee_charge(value, max(seller_rate, 0))
    charge(state, balance_row(state, b["account"], row["base"]), row["base"], buyer_fee, False, seq)
    charge(state, balance_row(state, a["account"], row["quote"]), row["quote"], seller_fee, False, seq)
    if b["next"] != 0:
        keep_proceeds(state, buyer, base - buyer_fee, seq)
    if a["next"] != 0:
        keep_proceeds(state, seller, value - seller_fee, seq)
    count_volume(state, row, b["account"], a["account"], value, c["ts_ns"])
    row["last_price_ticks"] = price
    state.meta[s.TRADES] += 1
    buyer_id = b["order_id"]
    seller_id = a["order_id"]
    emit_trade(state, rings, c, buyer, seller_id, event, value, buyer_fee, row["base"], buyer_rule, buyer_tier, 0)
    emit_trade(state, rings, c, seller, buyer_id, event, value, seller_fee, row["quote"], seller_rule, seller_tier, 0)
    if event["left_lots"] == 0:
        end_order(state, c, seller, e.ORDER_STATE_FILLED, 0)
    if event["taker_left"] == 0:
        end_order(state, c, buyer, e.ORDER_STATE_FILLED, 0)


@inner
def cross_side(state, hold, row, price_ticks, lots, value_units, base_units, seq):
    """One side of a trade of an auction: of an iceberg the next part shows, however much has traded."""
    fill_side(state, hold, row, price_ticks, lots, value_units, base_units, seq)
    if (state.holds[hold]["flags"] & s.HOLD_TERMS) != 0:
        show_part(state.holds[hold])


@inner
def settle_auction(state, rings, c, event):
    """Where an auction stands, or how it ended: then its price is what bands count from."""
    row = state.instruments[event["instrument"]]
    row["indicative_ticks"] = event["price_ticks"]
    if c["type"] != e.EXPIRE and event["qty_lots"] != 0:
        set_reference(row, event["price_ticks"])
    emit_auction(state, rings, c, event, e.OUT_AUCTION if c["type"] == e.EXPIRE else e.OUT_UNCROSSED)


@inner
def give_back(state, hold, lots, value_units, row, seq):
    """Self-trade prevention takes ``lots`` off an order: their hold becomes free."""
    h = state.holds[hold]
    h["prevented_lots"] += lots
    if h["type"] == e.MARKET_AMOUNT:
        units = value_units if h["side"] == e.BUY else lots * row["lot_atoms"]
        h["left_lots"] -= value_units
    else:
        units = limit_hold(h["side"], h["price_ticks"], lots, row["multiplier"], row["lot_atoms"])
        h["left_lots"] -= lots
        if (h["flags"] & s.HOLD_TERMS) != 0 and h["shown_lots"] != 0:
            show_less(h, lots)
    h["locked_units"] -= units
    post(state, balance_row(state, h["account"], paid_asset(state, h)), units, -units, seq)


@inner
def settle_prevented(state, rings, c, taker, event):
    """Decrement: both orders lose the lots, nothing is traded."""
    seq = c["seq"]
    maker = event["hold"]
    if state.holds[maker]["order_id"] != event["order_id"]:
        state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
        return
    row = state.instruments[event["instrument"]]
    lots = event["qty_lots"]
    value = event["price_ticks"] * lots * row["multiplier"]
    give_back(state, taker, lots, value, row, seq)
    give_back(state, maker, lots, value, row, seq)
    emit_order(state, rings, c, taker, e.OUT_PREVENTED, r.BY_STP, lots, e.OUTCOME_TAKER)
    emit_order(state, rings, c, maker, e.OUT_PREVENTED, r.BY_STP, lots, outcome_flag(c, event))
    if event["left_lots"] == 0:
        end_order(state, c, maker, e.ORDER_STATE_EXPIRED, r.BY_STP)
    if event["taker_left"] == 0:
        end_order(state, c, taker, e.ORDER_STATE_EXPIRED, r.BY_STP)


@inner
def settle_canceled(state, rings, c, event):
    """An order left the book: by its owner, a cancel-all or self-trade prevention."""
    hold = event["hold"]
    h = state.holds[hold]
    if h["order_id"] != event["order_id"]:
        state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
        return
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
    if event["kind"] == e.EV_RESTED:
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
        unlock_for_exits(state, rings, c, pending["slots"])
        pending["inflight_units"] = lock_of_exit(state, hold)
        if (pending["flags"] & e.JUDGED_LEGS) != 0:
            promise_second(state, c, pending)
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
def promise_second(state, c, pending):
    """What was locked for two exits is free from here on, and the second one locks with another event: promise all of its part."""
    other = state.pending[(c["seq"] + pending["first"]) & (state.pending.shape[0] - 1)]
    more = max(0, lock_of_exit(state, other["hold"]) - lock_of_exit(state, pending["hold"]))
    promise(state, other["balance"], more - other["inflight_units"])
    other["inflight_units"] = more


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
    if h["order_id"] != event["order_id"] or event["kind"] != e.EV_AMENDED:
        state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
        return True
    pending["hold"] = hold
    lock_amended(state, c, hold, event)
    last = (event["flags"] & e.EVENT_LAST) != 0
    if (h["flags"] & s.HOLD_TERMS) != 0:
        # In place it shows no more than it has; else it shows nothing until it rests again.
        h["shown_lots"] = min(h["shown_lots"], h["left_lots"]) if last else 0
    emit_order(state, rings, c, hold, e.OUT_REPLACED, 0, -1, outcome_flag(c, event) | waiting_flag(state, hold))
    return True


@inner
def lock_amended(state, c, hold, event):
    """An order was amended: the difference of the holds moves."""
    h = state.holds[hold]
    row = state.instruments[h["instrument"]]
    units = limit_hold(h["side"], event["price_ticks"], event["left_lots"], row["multiplier"], row["lot_atoms"])
    more = units - h["locked_units"]
    post(state, balance_row(state, h["account"], paid_asset(state, h)), -more, more, c["seq"])
    h["locked_units"] = units
    h["price_ticks"] = event["price_ticks"]
    h["total_lots"] = event["qty_lots"]
    h["left_lots"] = event["left_lots"]


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
    hold = event["hold"]
    if state.holds[hold]["order_id"] != event["order_id"]:
        state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
        return
    state.holds[hold]["display_lots"] = -event["price_ticks"]
    emit_pegged(state, rings, c, hold, event["price_ticks"], outcome_flag(c, event))


@inner
def settle_taker(state, rings, c, event):
    """From here on it is the order that trades: a stop that was set off, or a buyer of an auction."""
    hold = event["hold"]
    if state.holds[hold]["order_id"] != event["order_id"]:
        state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
        return
    state.meta[s.TAKER_HOLD] = hold
    if event["reason"] == r.BY_AUCTION:
        return
    state.holds[hold]["flags"] &= 255 - s.HOLD_WAITS
    if (state.holds[hold]["flags"] & s.HOLD_LINKED) != 0:
        take_over_lock(state, hold, c["seq"])
    emit_order(state, rings, c, hold, e.OUT_TRIGGERED, event["reason"], -1, 0)


@inner
def settle_money(state, rings, c, pending):
    """Money commands are decided here, where balances are exact without any wait."""
    release_promise(state, pending)
    state.accounts[c["account"]]["activity"] -= 1
    kind = c["type"]
    if kind == e.TRANSFER:
        settle_transfer(state, rings, c, pending)
        return
    if kind == e.DEPOSIT or kind == e.ADJUST:
        code = settle_external(state, c, c["asset"], c["qty_lots"])
    elif kind == e.WITHDRAW_HOLD:
        code = settle_withdraw_hold(state, c, pending)
    else:
        code = settle_withdrawal(state, rings, c)
        if code == 0:
            return
    if code != 0:
        emit_rejected(state, rings, c, code)
    else:
        emit_balance(state, rings, c, c["account"], c["asset"], c["qty_lots"], e.OUTCOME_LAST)


@inner
def settle_external(state, c, asset, units):
    """A deposit or adjustment moves units between the account and the asset's external account."""
    row = balance_row(state, c["account"], asset)
    total = state.assets[asset]["net_deposits_units"]
    if units > 0 and total >= AMOUNT_LIMIT - units:
        return r.RANGE
    if units < 0 and state.balances[row + s.FREE] < -units:
        return r.INSUFFICIENT_FUNDS
    state.assets[asset]["net_deposits_units"] = total + units
    post(state, row, units, 0, c["seq"])
    return 0


@inner
def settle_withdraw_hold(state, c, pending):
    """Free to locked, under the hold's own id."""
    units = c["qty_lots"]
    if state.balances[pending["balance"] + s.FREE] < units:
        return r.INSUFFICIENT_FUNDS
    if find_withdrawal(state, c["order_id"]) >= 0:
        return r.HOLD_EXISTS
    if state.meta[s.WITHDRAWALS_USED] >= state.withdrawals.shape[0] // 2:
        return r.HOLD_TABLE_FULL
    state.meta[s.WITHDRAWALS_USED] += 1
    add_withdrawal(state, c["order_id"], c["account"], c["asset"], units, c["seq"])
    post(state, pending["balance"], -units, units, c["seq"])
    return 0


@inner
def settle_withdrawal(state, rings, c):
    """Settle (out of the exchange) or release (back to free) an open withdrawal hold."""
    position = find_withdrawal(state, c["order_id"])
    if position < 0 or state.withdrawals[position]["account"] != c["account"]:
        return r.UNKNOWN_HOLD
    asset = state.withdrawals[position]["asset"]
    units = state.withdrawals[position]["amount_units"]
    row = balance_row(state, c["account"], asset)
    if c["type"] == e.WITHDRAW_SETTLE:
        state.assets[asset]["net_deposits_units"] -= units
        post(state, row, 0, -units, c["seq"])
        units = -units
    else:
        post(state, row, units, -units, c["seq"])
    remove_withdrawal(state, position)
    state.meta[s.WITHDRAWALS_USED] -= 1
    emit_balance(state, rings, c, c["account"], asset, units, e.OUTCOME_LAST)
    return 0


@inner
def settle_transfer(state, rings, c, pending):
    """Free of one account to free of another, together."""
    to = c["sub_account"]
    asset = c["asset"]
    units = c["qty_lots"]
    state.accounts[to]["activity"] -= 1
    if state.balances[pending["balance"] + s.FREE] < units:
        emit_rejected(state, rings, c, r.INSUFFICIENT_FUNDS)
        return
    post(state, pending["balance"], -units, 0, c["seq"])
    post(state, balance_row(state, to, asset), units, 0, c["seq"])
    emit_balance(state, rings, c, c["account"], asset, -units, 0)
    emit_balance(state, rings, c, to, asset, units, e.OUTCOME_LAST)


@inner
def settle_fees(state, rings, c):
    """Commands about fees are decided here: whether all that may meet is sound is a question about settled tables."""
    kind = c["type"]
    if kind == e.SET_FEES:
        code = settle_own_rates(state, c)
    elif kind == e.SET_SCHEDULE:
        code = settle_schedule(state, rings, c)
    else:
        code = settle_assignment(state, c)
    if code != 0:
        emit_rejected(state, rings, c, code)
    else:
        emit_simple(state, rings, c, e.OUT_ADMIN, e.OUTCOME_LAST)


@inner
def settle_admin(state, rings, c, pending):
    """Settle's copy of what operators and the clock change."""
    kind = c["type"]
    mask = rings.commands.slots.shape[0] - 1
    seq = c["seq"]
    if kind == e.SET_FEES or kind == e.SET_SCHEDULE or kind == e.ASSIGN_FEES:
        settle_fees(state, rings, c)
        return
    if kind == e.DEAD_MAN:
        code = settle_dead_man(state, c)
        if code != 0:
            emit_rejected(state, rings, c, code)
            return
    elif kind == e.SET_STATE:
        settle_state(state, c)
    elif kind == e.FREEZE:
        state.accounts[c["account"]]["status"] = e.ACCOUNT_FROZEN
    elif kind == e.UNFREEZE or kind == e.CREATE_ACCOUNT:
        state.accounts[c["account"]]["status"] = e.ACCOUNT_OPEN
        state.meta[s.ACCOUNTS_HIGH] = max(state.meta[s.ACCOUNTS_HIGH], c["account"])
    elif kind == e.CLOSE_ACCOUNT:
        state.accounts[c["account"]]["status"] = e.ACCOUNT_CLOSED
    elif kind == e.LIST_ASSET:
        row = state.assets[c["asset"]]
        row["status"] = 1
        row["symbol"] = rings.asset_slots[seq & mask]["symbol"]
        row["seq"] = seq
    elif kind == e.LIST_INSTRUMENT:
        row = state.instruments[c["instrument"]]
        listing = rings.listing_slots[seq & mask]
        copy_listing(row, listing, pending["price_ticks"])
        row["symbol"] = listing["symbol"]
        row["seq"] = seq
        row["follows_venue"] = listing["maker_rate_e8"] == 0 and listing["taker_rate_e8"] == 0
    elif kind == e.SET_BANDS:
        row = state.instruments[c["instrument"]]
        settle_bands(row, rings.listing_slots[seq & mask], rings.auction_slots[(seq + 1) & mask], pending["slots"])
    elif kind == e.TICK:
        tick_references(state)
    elif kind == e.SET_TIMER:
        state.timer_periods_ns[c["timer"]] = c["price_ticks"]
    if kind == e.CHECKPOINT:
        settle_checkpoint(state, rings, c, pending)
    else:
        emit_simple(state, rings, c, e.OUT_ADMIN, e.OUTCOME_LAST)


@inner
def settle_state(state, c):
    """Settle's copy of the state of an instrument's market, or of the venue."""
    if c["instrument"] == 0:
        state.meta[s.VENUE_STATE] = c["price_ticks"]
        return
    row = state.instruments[c["instrument"]]
    wanted = wanted_state(c)
    if c["source"] == e.SOURCE_RISK:
        row["breaker_pending"] = 0
        state.meta[s.OUTBOX_SETTLED] += 1
        if not risk_may(row, c, wanted):
            return
    settle_market(state, c, row, wanted)


@inner
def settle_bands(row, listing, auction, slots):
    """Settle's copy of the bands; a reference given replaces the samples. ``auction``: the third slot, where the group has so many."""
    given = slots > 2 and auction["type"] == e.EXT_AUCTION
    row["dynamic_e8"] = auction["dynamic_e8"] if given else 0
    row["auction_ns"] = auction["auction_ns"] if given else 0
    row["random_ns"] = auction["random_ns"] if given else 0
    row["extensions"] = auction["extensions"] if given else 0
    row["band_up_e8"] = listing["band_up_e8"]
    row["band_down_e8"] = listing["band_down_e8"]
    row["breaker_e8"] = listing["breaker_e8"]
    if listing["reference_ticks"] > 0:
        set_reference(row, listing["reference_ticks"])


@inner
def settle_checkpoint(state, rings, c, pending):
    """Publish the hashes as of this command: verdicts before it, outcomes before it, and the settled state.

    The replica reads them at any moment: each store is seen after the one before it, and there is no seq while the hashes change.
    """
    meta = state.meta
    state_now = state_hash(state)
    fold_outcomes(state, rings)
    store_release(meta, s.CHECKPOINT_SEQ, 0)
    store_release(meta, s.CHECKPOINT_VERDICT_HASH, pending["qty_lots"])
    store_release(meta, s.CHECKPOINT_OUTCOME_HASH, meta[s.OUTCOME_HASH])
    store_release(meta, s.CHECKPOINT_STATE_HASH, state_now)
    store_release(meta, s.CHECKPOINT_SEQ, c["seq"])
    emit_simple(state, rings, c, e.OUT_CHECKPOINT, e.OUTCOME_LAST)
