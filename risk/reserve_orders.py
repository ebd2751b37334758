"""Verdicts of orders: form, prices, market state, limits and funds; what an accepted one takes."""

from __future__ import annotations

from protocol import enums as e
from protocol import market_states as states
from protocol import reasons as r
from protocol.fixed_point import product_below_limit
from protocol.jit import inner
from protocol.order_terms import expiry_of, peg_code, terms_code, trigger_code
from risk import state as s
from risk.auctions import gathering_code
from risk.client_ids import NOT_FOUND, client_tag, find_client_id, is_past_its_time, take_client_id
from risk.exits import exit_entry_code
from risk.judging import NO_BARRIER, WAIT, account_code, exact_or_wait, instrument_code
from risk.ledger import available, balance_row, hold_row_free, open_hold, promise
from risk.limits import limits_code, tightest_collar
from risk.orders import amount_cap_lots, band_limits, keep_peg_price, order_hold, order_range_code


@inner
def order_fields_code(kind, side, tif, stp):
    """0 or BAD_FIELD; only what counts for the type is looked at."""
    if side > e.SELL or stp > e.STP_DECREMENT:
        return r.BAD_FIELD
    if kind == e.LIMIT and tif > e.POST_ONLY:
        return r.BAD_FIELD
    return 0


@inner
def trading_code(state, c, row):
    """0, ACCOUNT_FROZEN, or why the market's state or the venue's forbids the order or amend; on reserve's own copies."""
    if state.accounts[c["account"]]["status_reserve"] == e.ACCOUNT_FROZEN:
        return r.ACCOUNT_FROZEN
    if row["status"] == e.INSTRUMENT_OPEN and state.meta[s.VENUE_STATE_RESERVE] == e.VENUE_OPEN:
        return 0
    wanted = states.AMEND
    if c["type"] != e.AMEND:
        wanted = states.IMMEDIATE
        if c["type"] == e.QUOTE:
            wanted = states.POST_ONLY
        elif c["type"] == e.LIMIT and c["tif"] == e.GTC:
            wanted = states.LIMIT
        elif c["type"] == e.LIMIT and c["tif"] == e.POST_ONLY:
            wanted = states.POST_ONLY
        if (c["flags"] & e.FLAG_TRIGGER) != 0:
            # It waits beside what gathers; elsewhere it could be set off at once.
            wanted = states.TAKE | states.GATHER
        elif (c["flags"] & e.FLAG_PEG) != 0:
            # It never takes.
            wanted = states.POST_ONLY
    if (states.ALLOWED[row["status"]] & wanted) == 0:
        return states.REFUSALS[row["status"]]
    if (states.ALLOWED[row["status"]] & states.GATHER) != 0 and gathering_code(c) != 0:
        return gathering_code(c)
    return r.MAINTENANCE if state.meta[s.VENUE_STATE_RESERVE] != e.VENUE_OPEN else 0


@inner
def within_limits(state, c, instrument, seq, row, lots, value_units, opens):
    """0, WAIT, or the first limit that an order or amend exceeds."""
    rate_e8 = state.assets[row["quote"]]["volume_rate_e8"]
    exact = exact_or_wait(state, seq, NO_BARRIER)
    return limits_code(state, c["account"], instrument, lots, value_units, rate_e8, c["ts_ns"], opens, exact)


@inner
def has_band(row):
    """Whether the instrument limits prices at all."""
    return row["band_up_e8"] > 0 or row["band_down_e8"] > 0


@inner
def tighter(band_e8, collar_e8):
    """The smaller of two shares, where 0 is none."""
    return collar_e8 if band_e8 == 0 or 0 < collar_e8 < band_e8 else band_e8


@inner
def protected_price(reference, row, side, price, collar_e8):
    """Effective price of a market order: its own protection price (0 = none), tightened by band and collar; 0 where there is none."""
    up = tighter(row["band_up_e8"], collar_e8)
    down = tighter(row["band_down_e8"], collar_e8)
    lowest, highest = band_limits(reference, row["tick_e8"], up, down)
    if side == e.BUY:
        if reference == 0 or up == 0:
            return price
        if row["price_max_ticks"] > 0:
            # A band that reaches beyond the largest price must not make every market buy out of range.
            highest = min(highest, row["price_max_ticks"])
        return max(1, highest if price == 0 else min(price, highest))
    if reference == 0 or down == 0:
        return price
    return max(1, lowest, price)


@inner
def band_code(reference, row, side, price, collar_e8):
    """0, PRICE_BAND or PRICE_COLLAR for a limit price."""
    if not has_band(row) and collar_e8 == 0:
        return 0
    up = row["band_up_e8"]
    down = row["band_down_e8"]
    for code in (r.PRICE_BAND, r.PRICE_COLLAR):
        lowest, highest = band_limits(reference, row["tick_e8"], up, down)
        if (side == e.BUY and price > highest) or (side == e.SELL and price < lowest):
            return code
        up = collar_e8
        down = collar_e8
    return 0


@inner
def ids_slot(rings, c, seq, slots):
    """Index in the command ring of the group's slot with the client's own ids, the last one where there are several; -1 = none.

    Of a list of orders it is the head's own, which stands behind it.
    """
    mask = rings.commands.slots.shape[0] - 1
    for k in range(1 if (c["flags"] & e.FLAG_LEGS) != 0 else slots - 1, 0, -1):
        i = (seq + k - 1) & mask
        if rings.commands.slots[i]["type"] == e.EXT_IDS:
            return i
    return -1


@inner
def client_id_code(state, rings, c, seq, slot, pending, tag):
    """0 where the account may use the client order id of the EXT_IDS slot, DUPLICATE_CLIENT_ID, or WAIT.

    What is not found, or is past its time, is free whatever happens to the commands before; what is found may still be
    refused, cancelled or forgotten by one of them.
    """
    first = find_client_id(state, tag, c["account"], rings.command_words, slot)
    if first == NOT_FOUND or is_past_its_time(state, first, c["ts_ns"]):
        return 0
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    pending["first"] = first
    return r.DUPLICATE_CLIENT_ID


@inner
def keep_ids(state, rings, hold, slot, tag):
    """Store the client's own ids of an accepted order; ``tag`` -1: none of them is a client order id."""
    for word in range(s.HOLD_ID_WORDS):
        state.hold_ids[hold, word] = rings.command_words[slot, 3 + word]
    state.holds[hold]["flags"] |= s.HOLD_HAS_IDS
    if tag >= 0:
        take_client_id(state, hold, tag, rings.command_words, slot)


@inner
def reserve_order(state, rings, c, seq, slots, pending):
    """Verdict of LIMIT, MARKET, MARKET_AMOUNT: a refusal, OK with a hold row, or WAIT."""
    ids = ids_slot(rings, c, seq, slots) if slots > 1 else -1
    code, tag, need = plan_order(state, rings, c, seq, ids, pending)
    if code != 0:
        return code
    if need > available(state, pending["balance"]):
        return short_of_funds(state, c, seq)
    if not hold_row_free(state):
        return r.ORDER_POOL_FULL if exact_or_wait(state, seq, NO_BARRIER) else WAIT
    take_order(state, rings, c, seq, ids, tag, need, pending)
    return 0


@inner
def short_of_funds(state, c, seq):
    """INSUFFICIENT_FUNDS, or WAIT where what is settled by then may suffice."""
    if not exact_or_wait(state, seq, NO_BARRIER) and state.accounts[c["account"]]["activity"] > 0:
        return WAIT
    return r.INSUFFICIENT_FUNDS


@inner
def plan_order(state, rings, c, seq, ids, pending):
    """(0, a refusal or WAIT; tag of the client order id in slot ``ids``; units that the order holds), all but the funds looked at.

    Effective price, quantity and balance stand in the pending row. The client order id comes before all that may have changed
    since the first order: whoever lost the reply asks with the same order, and is told of that one even when funds, halts or
    bands would refuse another.
    """
    kind = c["type"]
    side = c["side"]
    account = c["account"]
    instrument = c["instrument"]
    qty = c["qty_lots"]
    code = account_code(state, account)
    tag = -1
    if ids >= 0 and code == 0:
        tag = client_tag(account, rings.command_words, ids)
        if tag >= 0:
            code = client_id_code(state, rings, c, seq, ids, pending, tag)
    if code == 0:
        code = instrument_code(state, instrument)
    if code == 0:
        code = order_fields_code(kind, side, c["tif"], c["stp"])
    if code != 0:
        return code, tag, 0
    row = state.instruments_reserve[instrument]
    collar = tightest_collar(state, account, instrument)
    banded = has_band(row) or collar != 0
    if banded and not exact_or_wait(state, seq, state.meta[s.BARRIER]):
        return WAIT, tag, 0
    price = c["price_ticks"]
    reference = state.instruments[instrument]["reference_e8"]
    if (c["flags"] & e.FLAG_PEG) != 0:
        code = peg_code(c)
        if code != 0:
            return code, tag, 0
    if (c["flags"] & e.FLAG_TRIGGER) != 0:
        code = trigger_code(c)
        if code == 0 and not product_below_limit(c["trigger_price_ticks"], row["tick_e8"]):
            code = r.RANGE
        if code != 0:
            return code, tag, 0
        # When it enters, the price is there; a trailing stop's nobody knows yet.
        reference = c["trigger_price_ticks"] * row["tick_e8"] if c["offset_kind"] == e.OFFSET_NONE else 0
    if kind != e.LIMIT and banded and price >= 0:
        price = protected_price(reference, row, side, price, collar)
        if price == 0:
            return r.NO_REFERENCE_PRICE, tag, 0
    if price < 1:
        return r.BAD_PRICE, tag, 0
    if qty < 1:
        return r.BAD_QUANTITY, tag, 0
    if (c["flags"] & e.FLAG_TERMS) != 0:
        code = terms_code(c, qty)
        if code != 0:
            return code, tag, 0
    code = order_range_code(kind, side, price, qty, row)
    is_exit = c["source"] == e.SOURCE_RISK
    if code == 0:
        code = exit_entry_code(state, c, row, pending) if is_exit else trading_code(state, c, row)
    if code == 0 and state.meta[s.LIMITED] != 0 and not is_exit:
        by_amount = kind == e.MARKET_AMOUNT
        value = qty if by_amount else price * qty * row["multiplier"]
        lots = amount_cap_lots(qty, price, row["multiplier"]) if by_amount else qty
        code = within_limits(state, c, instrument, seq, row, lots, value, True)
    if code == 0 and kind == e.LIMIT:
        code = band_code(reference, row, side, price, collar)
    if code != 0:
        return code, tag, 0
    pending["price_ticks"] = price
    pending["qty_lots"] = qty
    pending["balance"] = balance_row(state, account, row["quote"] if side == e.BUY else row["base"])
    return 0, tag, order_hold(kind, side, price, qty, row["multiplier"], row["lot_atoms"])


@inner
def take_order(state, rings, c, seq, ids, tag, need, pending):
    """Take the hold row of an order that was planned, and promise its funds."""
    price = pending["price_ticks"]
    hold = open_hold(state, c, c["order_id"], c["instrument"], c["side"], price, pending["qty_lots"], seq)
    row = state.holds[hold]
    row["type"] = c["type"]
    row["tif"] = c["tif"] if c["type"] == e.LIMIT else e.IOC
    row["stp"] = c["stp"]
    pending["hold"] = hold
    if ids >= 0:
        keep_ids(state, rings, pending["hold"], ids, tag)
    if (c["flags"] & e.FLAG_TERMS) != 0:
        keep_terms(state, c, pending)
    if (c["flags"] & e.FLAG_PEG) != 0:
        keep_peg(state, c, pending)
    if c["session"] != 0:
        pending["flags"] |= e.JUDGED_SESSION
    if (c["flags"] & e.FLAG_TRIGGER) != 0:
        state.holds[pending["hold"]]["flags"] |= s.HOLD_STOP | s.HOLD_WAITS
        pending["flags"] |= e.JUDGED_TRIGGER
    pending["inflight_units"] = need
    promise(state, pending["balance"], need)
    state.accounts[c["account"]]["activity"] += 1


@inner
def keep_terms(state, c, pending):
    """Note what an accepted order shows and when it expires, and have the matcher look at its terms."""
    row = state.holds[pending["hold"]]
    row["flags"] |= s.HOLD_TERMS
    row["display_lots"] = c["display_qty_lots"]
    row["shown_lots"] = 0
    row["expiry_ts_ns"] = expiry_of(c["expiry_ts_ns"], c["ts_ns"])
    pending["flags"] |= e.JUDGED_TERMS


@inner
def keep_peg(state, c, pending):
    """Note that an accepted order follows a best price: until the matcher says where it stands, its limit."""
    row = state.holds[pending["hold"]]
    if (c["flags"] & e.FLAG_TERMS) == 0:
        row["expiry_ts_ns"] = 0
    row["flags"] |= s.HOLD_TERMS
    keep_peg_price(row, pending["price_ticks"])
    row["shown_lots"] = 0
    pending["flags"] |= e.JUDGED_PEG
