"""Mass quotes: the verdict of each quote, and its settling. Each slot behind the head is decided by itself.

A side that is to be quoted needs funds for its whole, on top of what the order has that it takes the place of: that suffices,
whatever happens meanwhile. Where it is not there, everything before is settled first, and the side needs only what it exceeds
that order by. A side gives nothing to another one of the same command, because the matcher may refuse either quote and leave
what stood.
"""

from __future__ import annotations

import numpy as np

from protocol import enums as e
from protocol import reasons as r
from protocol.hashing import roll
from protocol.jit import inner
from ringbuf.bank import bank_advance, bank_cursor, bank_published, bank_slot
from ringbuf.ring import HEADER_WORDS, published, room
from risk import state as s
from risk.judging import NO_BARRIER, WAIT, account_code, exact_or_wait, instrument_code
from risk.ledger import available, balance_row, drop_hold, open_hold, post, promise
from risk.limits import count_end, count_order, limits_of, tightest_collar
from risk.orders import limit_hold, order_range_code
from risk.outcomes import emit_order, finish, next_slot
from risk.quote_table import keep_quote, quote_hold
from risk.reserve_orders import band_code, has_band, trading_code, within_limits
from risk.settle_locks import lock_amended
from risk.settle_orders import settle_canceled, settle_pegged

NEW_BID = 1  # of the flags of a quote's pending row: a hold row is taken for this side
NEW_ASK = 2
OUTCOMES_OF_EVENT = 4


@inner
def quotes_in(rings, seq, slots):
    """How many slots behind the head are quotes: all but those of an operator or of ids at the end."""
    mask = rings.commands.slots.shape[0] - 1
    count = 0
    while count + 1 < slots and rings.quote_slots[(seq + count) & mask]["type"] == e.EXT_QUOTES:
        count += 1
    return count


@inner
def reserve_quotes(state, rings, c, seq, slots, pending):
    """Verdict of QUOTE as a whole; a row of ``pending`` for each of its quotes."""
    mask = rings.commands.slots.shape[0] - 1
    pending["inflight_units"] = 0
    pending["balance"] = -1
    pending["hold"] = -1
    pending["flags"] = 0
    pending["price_ticks"] = 0
    pending["qty_lots"] = 0
    code = account_code(state, c["account"])
    if code != 0:
        return code
    count = quotes_in(rings, seq, slots)
    if count == 0 or count > e.QUOTES_MAX:
        return r.QUOTE_COUNT
    for k in range(count):
        if rings.quote_slots[(seq + k) & mask]["account"] != c["account"]:
            return r.BAD_FIELD
    planned = 0
    for k in range(count):
        p = state.pending[(seq + 1 + k) & (state.pending.shape[0] - 1)]
        code = plan_quote(state, rings, c, seq, k, p, planned)
        if code == WAIT:
            for done in range(k):
                undo_quote(state, rings, seq, done)
            return WAIT
        p["code"] = code
        planned += (p["flags"] & NEW_BID) + ((p["flags"] & NEW_ASK) >> 1)
    for k in range(count):
        take_quote(state, rings, c, seq, k)
    pending["qty_lots"] = count
    return 0


@inner
def plan_quote(state, rings, c, seq, k, p, planned):
    """Code of the quote in slot ``k`` behind the head, or WAIT; promises its funds and counts its orders as open."""
    mask = rings.commands.slots.shape[0] - 1
    q = rings.quote_slots[(seq + k) & mask]
    p["inflight_units"] = 0
    p["ask_units"] = 0
    p["hold"] = -1
    p["ask_hold"] = -1
    p["flags"] = 0
    code = quote_form_code(state, rings, q, seq, k)
    bid = q["bid_qty_lots"]
    ask = q["ask_qty_lots"]
    if code != 0 or (bid == 0 and ask == 0):
        return code
    account = c["account"]
    instrument = q["instrument"]
    row = state.instruments_reserve[instrument]
    exact = exact_or_wait(state, seq, NO_BARRIER)
    bid_hold = quote_hold(state, account, instrument, e.BUY) if exact else -1
    ask_hold = quote_hold(state, account, instrument, e.SELL) if exact else -1
    new_bid = bid != 0 and bid_hold < 0
    new_ask = ask != 0 and ask_hold < 0
    code = trading_code(state, c, row)
    if code == 0 and state.meta[s.LIMITED] != 0:
        code = quote_limits_code(state, c, q, seq, row, new_bid, new_ask)
    if code != 0:
        return code
    collar = tightest_collar(state, account, instrument)
    if has_band(row) or collar != 0:
        if not exact_or_wait(state, seq, state.meta[s.BARRIER]):
            return WAIT
        reference = state.instruments[instrument]["reference_e8"]
        if bid != 0:
            code = band_code(reference, row, e.BUY, q["bid_price_ticks"], collar)
        if code == 0 and ask != 0:
            code = band_code(reference, row, e.SELL, q["ask_price_ticks"], collar)
        if code != 0:
            return code
    bid_units = bid * q["bid_price_ticks"] * row["multiplier"]
    ask_units = ask * row["lot_atoms"]
    if bid_hold >= 0:
        bid_units = max(0, bid_units - state.holds[bid_hold]["locked_units"])
    if ask_hold >= 0:
        ask_units = max(0, ask_units - state.holds[ask_hold]["locked_units"])
    bid_balance = balance_row(state, account, row["quote"])
    ask_balance = balance_row(state, account, row["base"])
    if (bid_units > 0 and bid_units > available(state, bid_balance)) or (
        ask_units > 0 and ask_units > available(state, ask_balance)
    ):
        return r.INSUFFICIENT_FUNDS if exact or state.accounts[account]["activity"] == 0 else WAIT
    if state.meta[s.HOLDS_USED] + planned + new_bid + new_ask > state.holds.shape[0]:
        return r.ORDER_POOL_FULL if exact else WAIT
    p["inflight_units"] = bid_units
    p["balance"] = bid_balance
    p["ask_units"] = ask_units
    promise(state, bid_balance, bid_units)
    promise(state, ask_balance, ask_units)
    p["flags"] = NEW_BID * new_bid + NEW_ASK * new_ask
    count_open(state, account, instrument, p["flags"])
    return 0


@inner
def quote_form_code(state, rings, q, seq, k):
    """What is wrong with a quote whatever stands in the book."""
    mask = rings.commands.slots.shape[0] - 1
    bid = q["bid_qty_lots"]
    ask = q["ask_qty_lots"]
    code = instrument_code(state, q["instrument"])
    if code != 0:
        return code
    for other in range(k):
        if rings.quote_slots[(seq + other) & mask]["instrument"] == q["instrument"]:
            return r.QUOTE_REPEATED
    if bid < 0 or ask < 0:
        return r.BAD_QUANTITY
    if (bid != 0 and q["bid_price_ticks"] < 1) or (ask != 0 and q["ask_price_ticks"] < 1):
        return r.BAD_PRICE
    if bid != 0 and ask != 0 and q["bid_price_ticks"] >= q["ask_price_ticks"]:
        return r.QUOTE_CROSSED
    row = state.instruments_reserve[q["instrument"]]
    if bid != 0:
        code = order_range_code(e.LIMIT, e.BUY, q["bid_price_ticks"], bid, row)
    if code == 0 and ask != 0:
        code = order_range_code(e.LIMIT, e.SELL, q["ask_price_ticks"], ask, row)
    return code


@inner
def quote_limits_code(state, c, q, seq, row, new_bid, new_ask):
    """0, WAIT, or the first limit that a side exceeds, the bid first; the ask comes on top of the bid."""
    account = c["account"]
    instrument = q["instrument"]
    code = 0
    k = row["multiplier"]
    lots = q["bid_qty_lots"]
    if lots != 0:
        code = within_limits(state, c, instrument, seq, row, lots, lots * q["bid_price_ticks"] * k, new_bid)
    lots = q["ask_qty_lots"]
    if code == 0 and lots != 0:
        if new_bid:
            count_open(state, account, instrument, NEW_BID)
        code = within_limits(state, c, instrument, seq, row, lots, lots * q["ask_price_ticks"] * k, new_ask)
        if new_bid:
            count_end(state, account, instrument)
    return code


@inner
def count_open(state, account, instrument, flags):
    """Count the new orders of a quote as open; ``count_end`` takes one back."""
    if state.meta[s.LIMITED] == 0:
        return
    for scope in range(e.SCOPE_INSTRUMENT + 1):
        row = limits_of(state, account, instrument, scope)
        if row >= 0 and state.limits[row]["open_orders_max"] != 0:
            state.limits[row]["open_orders"] += (flags & NEW_BID) + ((flags & NEW_ASK) >> 1)


@inner
def undo_quote(state, rings, seq, k):
    """Take back what ``plan_quote`` promised and counted, because a later quote has to wait."""
    q = rings.quote_slots[(seq + k) & (rings.commands.slots.shape[0] - 1)]
    p = state.pending[(seq + 1 + k) & (state.pending.shape[0] - 1)]
    if p["code"] == 0:
        release_quote(state, q, p)
        for bit in (NEW_BID, NEW_ASK):
            if (p["flags"] & bit) != 0:
                count_end(state, q["account"], q["instrument"])


@inner
def release_quote(state, q, p):
    """The promise of a quote is in the ledger, or not needed."""
    if p["inflight_units"] != 0:
        promise(state, p["balance"], -p["inflight_units"])
    if p["ask_units"] != 0:
        base = state.instruments_reserve[q["instrument"]]["base"]
        promise(state, balance_row(state, q["account"], base), -p["ask_units"])
    p["inflight_units"] = 0
    p["ask_units"] = 0


@inner
def take_quote(state, rings, c, seq, k):
    """Take the hold rows of a quote that is not refused, and count it."""
    q = rings.quote_slots[(seq + k) & (rings.commands.slots.shape[0] - 1)]
    p = state.pending[(seq + 1 + k) & (state.pending.shape[0] - 1)]
    p["price_ticks"] = (np.int64(c["source"]) << e.ORDER_ID_SOURCE_SHIFT) | (c["source_seq"] + 1 + k)
    if p["code"] != 0:
        return
    if (p["flags"] & NEW_BID) != 0:
        price = q["bid_price_ticks"]
        p["hold"] = open_quote_hold(state, c, q, p["price_ticks"], e.BUY, price, q["bid_qty_lots"], seq)
    if (p["flags"] & NEW_ASK) != 0:
        order_id = p["price_ticks"] | e.QUOTE_ASK_BIT
        price = q["ask_price_ticks"]
        p["ask_hold"] = open_quote_hold(state, c, q, order_id, e.SELL, price, q["ask_qty_lots"], seq)
    if q["bid_qty_lots"] != 0 or q["ask_qty_lots"] != 0:
        count_order(state, c["account"], q["instrument"], c["ts_ns"], False)


@inner
def open_quote_hold(state, c, q, order_id, side, price, qty, seq):
    """Take and fill the hold row of a new order of a quote."""
    hold = open_hold(state, c, order_id, q["instrument"], side, price, qty, seq)
    row = state.holds[hold]
    row["type"] = e.LIMIT
    row["tif"] = e.POST_ONLY
    row["stp"] = e.STP_NONE
    row["flags"] |= s.HOLD_QUOTE
    state.accounts[c["account"]]["activity"] += 1
    return hold


@inner
def write_quote_verdicts(state, rings, seq, count):
    """Each quote's verdict is its slot's: price is the id of its bid, quantity the hold row of its ask."""
    h = state.meta[s.VERDICT_HASH]
    for k in range(1, count + 1):
        p = state.pending[(seq + k) & (state.pending.shape[0] - 1)]
        v = rings.verdicts.slots[(seq + k - 1) & (rings.verdicts.slots.shape[0] - 1)]
        v["code"] = p["code"]
        v["flags"] = 0
        v["hold"] = p["hold"]
        v["price_ticks"] = p["price_ticks"]
        v["qty_lots"] = p["ask_hold"]
        h = roll(h, p["code"])
    state.meta[s.VERDICT_HASH] = h


# --- settling ---------------------------------------------------------------------------------------------------------


@inner
def settle_quotes(state, rings, c, pending, budget):
    """Settle a mass quote, or go on with it: quote by quote, with the events of its shard; returns (work done, whether it is settled)."""
    meta = state.meta
    seq = c["seq"]
    shards = rings.event_words.shape[0] // HEADER_WORDS
    taken = 0
    if meta[s.PHASE] == s.PHASE_NONE:
        meta[s.PHASE] = 1
        meta[s.QUOTES_TAKEN] = 0
        meta[s.QUOTES_REFUSED] = 0
    while meta[s.PHASE] <= pending["qty_lots"]:
        wanted = OUTCOMES_OF_EVENT + meta[s.OUTCOMES] - published(rings.outcomes)
        if taken >= budget or room(rings.outcomes, wanted) < wanted:
            return taken, False
        k = meta[s.PHASE]
        q = rings.quote_slots[(seq + k - 1) & (rings.commands.slots.shape[0] - 1)]
        p = state.pending[(seq + k) & (state.pending.shape[0] - 1)]
        if p["code"] != 0:
            emit_quote(state, rings, c, q, p, p["code"])
            meta[s.PHASE] = k + 1
            taken += 1
            continue
        shard = q["instrument"] % shards
        cursor = bank_cursor(rings.event_words, shard)
        if cursor >= bank_published(rings.event_words, shard):
            return taken, False
        event = rings.event_slots[bank_slot(rings.event_words, shard, cursor)]
        if event["seq"] != seq + k:
            meta[s.FAULT] = s.FAULT_EVENT_ORDER
            return taken, False
        settle_quote_event(state, rings, c, q, p, event)
        if (event["flags"] & e.EVENT_LAST) != 0:
            meta[s.PHASE] = k + 1
        bank_advance(rings.event_words, shard, cursor + 1)
        taken += 1
    wanted = OUTCOMES_OF_EVENT + meta[s.OUTCOMES] - published(rings.outcomes)
    if room(rings.outcomes, wanted) < wanted:
        return taken, False
    i = next_slot(state, rings, c, e.OUT_QUOTED, e.OUTCOME_LAST)
    rings.outcomes.slots[i]["qty_lots"] = meta[s.QUOTES_TAKEN]
    rings.outcomes.slots[i]["leaves_qty_lots"] = meta[s.QUOTES_REFUSED]
    finish(state)
    return taken + 1, True


@inner
def settle_quote_event(state, rings, c, q, p, event):
    """One event of a quote: an order of it that ends, is replaced or rests, or the end of the quote."""
    kind = event["kind"]
    if kind == e.EV_QUOTED:
        # Not before: reserve may look between two events, when one side is not in the ledger yet.
        release_quote(state, q, p)
        drop_unused(state, q, p["hold"])
        drop_unused(state, q, p["ask_hold"])
        emit_quote(state, rings, c, q, p, event["reason"])
        return
    hold = event["hold"]
    if hold < 0 or state.holds[hold]["order_id"] != event["order_id"]:
        state.meta[s.FAULT] = s.FAULT_HOLD_MISMATCH
    elif kind == e.EV_CANCELED:
        settle_canceled(state, rings, c, event)
    elif kind == e.EV_AMENDED:
        lock_amended(state, c, hold, event)
        emit_order(state, rings, c, hold, e.OUT_REPLACED, 0, -1, 0)
    elif kind == e.EV_RESTED:
        lock_quote(state, rings, c, hold)
        if hold == p["hold"]:
            p["hold"] = -1
        else:
            p["ask_hold"] = -1
    elif kind == e.EV_PEGGED:
        settle_pegged(state, rings, c, event)
    else:
        state.meta[s.FAULT] = s.FAULT_UNKNOWN_EVENT


@inner
def lock_quote(state, rings, c, hold):
    """A new order of a quote rests: its hold moves from free to locked."""
    h = state.holds[hold]
    row = state.instruments[h["instrument"]]
    units = limit_hold(h["side"], h["price_ticks"], h["left_lots"], row["multiplier"], row["lot_atoms"])
    paid = row["quote"] if h["side"] == e.BUY else row["base"]
    post(state, balance_row(state, h["account"], paid), -units, units, c["seq"])
    h["locked_units"] = units
    h["state"] = e.HOLD_LIVE
    keep_quote(state, hold)
    emit_order(state, rings, c, hold, e.OUT_NEW, 0, -1, 0)


@inner
def drop_unused(state, q, hold):
    """Give back the hold row of a side that the matcher refused, or for which another order stood already."""
    if hold >= 0:
        state.accounts[q["account"]]["activity"] -= 1
        count_end(state, q["account"], q["instrument"])
        drop_hold(state, hold)


@inner
def emit_quote(state, rings, c, q, p, reason):
    """What became of a quote; ``contra_order_id`` is the client's own number of it."""
    i = next_slot(state, rings, c, e.OUT_QUOTE, 0)
    out = rings.outcomes.slots[i]
    out["instrument"] = q["instrument"]
    out["order_id"] = p["price_ticks"]
    out["contra_order_id"] = q["quote_id"]
    out["reason"] = reason
    out["price_ticks"] = q["bid_price_ticks"]
    out["qty_lots"] = q["bid_qty_lots"]
    out["value_units"] = q["ask_price_ticks"]
    out["leaves_qty_lots"] = q["ask_qty_lots"]
    finish(state)
    if reason == 0:
        state.meta[s.QUOTES_TAKEN] += 1
    else:
        state.meta[s.QUOTES_REFUSED] += 1
