"""Trades, those of auctions too, and what self-trade prevention takes off in their place."""

from __future__ import annotations

from protocol import enums as e
from protocol import reasons as r
from protocol.fixed_point import fee_charge
from protocol.jit import inner
from risk import state as s
from risk.bands import check_breaker, set_reference
from risk.exits import count_received
from risk.fees import charge, count_volume, fee_or_rebate, rate_of
from risk.ledger import balance_row
from risk.outcomes import emit_auction, emit_order, emit_trade
from risk.settle_locks import cross_side, end_order, fill_side, give_back, order_named


@inner
def outcome_flag(c, event):
    """OUTCOME_LAST where an event's outcome ends its command: that of an order, an amend or a cancel."""
    kind = c["type"]
    if (event["flags"] & e.EVENT_LAST) == 0 or kind > e.AMEND or kind == e.CANCEL_ALL:
        return 0
    return e.OUTCOME_LAST


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
    maker = order_named(state, event)
    if maker < 0:
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
        count_received(state, taker, (base if taker_side == e.BUY else value) - taker_fee)
    if m["next"] != 0:
        count_received(state, maker, (value if taker_side == e.BUY else base) - max(maker_units, 0))
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
    seller = order_named(state, event)
    if seller < 0:
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
        count_received(state, buyer, base - buyer_fee)
    if a["next"] != 0:
        count_received(state, seller, value - seller_fee)
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
def settle_auction(state, rings, c, event):
    """Where an auction stands, or how it ended: then its price is what bands count from."""
    row = state.instruments[event["instrument"]]
    row["indicative_ticks"] = event["price_ticks"]
    if c["type"] != e.EXPIRE and event["qty_lots"] != 0:
        set_reference(row, event["price_ticks"])
    emit_auction(state, rings, c, event, e.OUT_AUCTION if c["type"] == e.EXPIRE else e.OUT_UNCROSSED)


@inner
def settle_prevented(state, rings, c, taker, event):
    """Decrement: both orders lose the lots, nothing is traded."""
    seq = c["seq"]
    maker = order_named(state, event)
    if maker < 0:
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
