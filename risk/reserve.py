"""Reserve: the verdict of each command, in command order, ahead of settling.

Three kinds of command (ARCHITECTURE.md, invariant 2): orders are decided here, by a bound or on exact state; what needs
no action of the matcher is decided when it is settled, here it only raises what is promised; what the matcher must act
on is decided here on exact state.

Accept early, refuse late: a bound that suffices accepts at once; one that does not returns ``WAIT`` until everything
before the command is settled, and then the decision is exact. So no verdict depends on timing.
"""

from __future__ import annotations

from typing import Final

from protocol import enums as e
from protocol import market_states as states
from protocol import reasons as r
from protocol.fixed_point import AMOUNT_LIMIT, product_below_limit
from protocol.instruments import bands_are_valid, listing_is_valid, listing_multiplier
from protocol.jit import inner
from protocol.order_terms import expiry_of, has_too_many_parts, peg_code, terms_code, trigger_code
from risk import state as s
from risk.auctions import auction_end_code, gathering_code, risk_may, uncrosses
from risk.bands import auction_rules_are_valid
from risk.client_ids import NOT_FOUND, client_tag, find_client_id, is_past_its_time, take_client_id
from risk.exits import exit_entry_code
from risk.fees import listing_fees_code, master_of
from risk.ledger import available, balance_row, find_hold, hold_row_free, promise, take_hold
from risk.limits import count_order, limits_are_valid, limits_code, tightest_collar, write_kill, write_limits
from risk.orders import (
    amend_difference,
    amount_cap_lots,
    band_limits,
    is_pegged,
    limit_hold,
    order_hold,
    order_range_code,
)
from risk.outbox import cause_is_settled, tick_off_reserve

WAIT: Final = -1
NO_BARRIER: Final = (1 << 63) - 1
"""No barrier covers what is read: only the exact state will do."""
TIMER_PERIOD_MIN_NS: Final = 1_000_000
PROTECTION_MIN_NS: Final = 1_000_000
PROTECTION_MAX_NS: Final = 3_600_000_000_000
GROUP_MAX: Final = (1 << 31) - 1
AMENDS_INFLIGHT_MAX: Final = 255
"""Of one order; the next one waits."""


@inner
def exact_or_wait(state, seq, barrier):
    """Whether settled fields may be read for command ``seq``.

    They may once all before it is settled, or at least ``barrier``, the last command that can change them for the worse.
    """
    settled = state.meta[s.SETTLED]
    return settled == seq - 1 or barrier <= settled


@inner
def account_code(state, account):
    """0, UNKNOWN_ACCOUNT or ACCOUNT_CLOSED."""
    if account < 1 or account >= state.accounts.shape[0]:
        return r.UNKNOWN_ACCOUNT
    status = state.accounts[account]["status_reserve"]
    if status == e.ACCOUNT_NONE:
        return r.UNKNOWN_ACCOUNT
    return r.ACCOUNT_CLOSED if status == e.ACCOUNT_CLOSED else 0


@inner
def asset_code(state, asset):
    """0 or UNKNOWN_ASSET."""
    if asset < 1 or asset >= state.assets.shape[0] or state.assets[asset]["status_reserve"] == 0:
        return r.UNKNOWN_ASSET
    return 0


@inner
def instrument_code(state, instrument):
    """0 or UNKNOWN_INSTRUMENT."""
    table = state.instruments_reserve
    if instrument < 1 or instrument >= table.shape[0] or table[instrument]["status"] == e.INSTRUMENT_NONE:
        return r.UNKNOWN_INSTRUMENT
    return 0


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
        reference = c["trigger_price_ticks"] * row["tick_e8"]
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
    open_hold(state, c, pending["price_ticks"], pending["qty_lots"], seq, pending)
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
def open_hold(state, c, price, qty, seq, pending):
    """Take and fill the hold row of an accepted order."""
    hold = take_hold(state, c["order_id"])
    row = state.holds[hold]
    row["account"] = c["account"]
    row["instrument"] = c["instrument"]
    row["price_ticks"] = price
    row["left_lots"] = qty
    row["total_lots"] = qty
    row["traded_lots"] = 0
    row["prevented_lots"] = 0
    row["value_units"] = 0
    row["locked_units"] = 0
    row["state"] = e.HOLD_IN_FLIGHT
    row["side"] = c["side"]
    row["type"] = c["type"]
    row["tif"] = c["tif"] if c["type"] == e.LIMIT else e.IOC
    row["stp"] = c["stp"]
    row["flags"] = s.HOLD_API if (c["flags"] & e.FLAG_API) != 0 else 0
    row["amends_inflight"] = 0
    row["seq"] = seq
    row["entry_ts_ns"] = c["ts_ns"]
    pending["hold"] = hold


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
    row["display_lots"] = -pending["price_ticks"]
    row["shown_lots"] = 0
    pending["flags"] |= e.JUDGED_PEG


@inner
def reserve_amend(state, c, seq, pending):
    """Verdict of AMEND. Whether the order rests, and codes 12 and 13, are the matcher's to say; here only form, status and funds."""
    account = c["account"]
    instrument = c["instrument"]
    price = c["price_ticks"]
    total = c["qty_lots"]
    code = account_code(state, account)
    if code == 0:
        code = instrument_code(state, instrument)
    if code != 0:
        return code
    row = state.instruments_reserve[instrument]
    if price < 1:
        return r.BAD_PRICE
    if total < 1:
        return r.BAD_QUANTITY
    code = order_range_code(e.LIMIT, e.BUY, price, total, row)
    if code == 0:
        code = trading_code(state, c, row)
    if code == 0 and state.meta[s.LIMITED] != 0:
        code = within_limits(state, c, instrument, seq, row, total, price * total * row["multiplier"], False)
    if code != 0:
        return code
    pending["price_ticks"] = price
    pending["qty_lots"] = total
    if row["status"] != e.INSTRUMENT_OPEN and (states.ALLOWED[row["status"]] & states.TAKE) == 0:
        pending["flags"] = e.JUDGED_NO_TAKE
    hold = find_hold(state, c["order_id"])
    if hold < 0:
        return 0
    h = state.holds[hold]
    if (
        h["account"] != account
        or h["instrument"] != instrument
        or h["type"] != e.LIMIT
        or h["tif"] == e.IOC
        or h["tif"] == e.FOK
        or (h["flags"] & s.HOLD_QUOTE) != 0
        or is_pegged(h)
    ):
        return 0
    exact = exact_or_wait(state, seq, NO_BARRIER)
    if (h["flags"] & (s.HOLD_STOP | s.HOLD_LINKED)) != 0 and not exact:
        return WAIT
    if (h["flags"] & s.HOLD_LINKED) != 0:
        return 0
    waits = (h["flags"] & s.HOLD_WAITS) != 0
    collar = tightest_collar(state, account, instrument)
    if not waits and (has_band(row) or collar != 0):
        if not exact_or_wait(state, seq, state.meta[s.BARRIER]):
            return WAIT
        code = band_code(state.instruments[instrument]["reference_e8"], row, h["side"], price, collar)
        if code != 0:
            # Known only once the order is known to rest: otherwise the matcher's UNKNOWN_ORDER comes first.
            return code if exact else WAIT
    if (h["flags"] & s.HOLD_TERMS) != 0 and has_too_many_parts(h["display_lots"], total):
        return r.ICEBERG_PARTS if exact else WAIT
    if h["amends_inflight"] == AMENDS_INFLIGHT_MAX:
        return WAIT
    need = amend_need(h, price, total, row, exact)
    balance = balance_row(state, account, row["quote"] if h["side"] == e.BUY else row["base"])
    if need > 0 and need > available(state, balance):
        return r.INSUFFICIENT_FUNDS if exact else WAIT
    pending["hold"] = hold
    pending["inflight_units"] = need
    pending["balance"] = balance
    h["amends_inflight"] += 1
    promise(state, balance, need)
    state.accounts[account]["activity"] += 1
    return 0


@inner
def amend_need(h, price, total, row, exact):
    """What an amend may need on top of the order's hold, never below zero: exactly, or at the worst of what may be gone meanwhile.

    The difference is linear in the lots that are gone, so the worst is at one end: what is gone in the settled state, or all but one lot.
    Behind another amend in flight nobody knows what the order holds by then: at worst nothing.
    """
    k = row["multiplier"]
    lot_atoms = row["lot_atoms"]
    if h["amends_inflight"] > 0:
        return limit_hold(h["side"], price, total, k, lot_atoms)
    gone = h["traded_lots"] + h["prevented_lots"]
    if total <= gone:
        return 0
    need = amend_difference(h["side"], h["price_ticks"], h["total_lots"], price, total, gone, k, lot_atoms)
    if not exact:
        gone = min(h["total_lots"], total) - 1
        need = max(
            need, amend_difference(h["side"], h["price_ticks"], h["total_lots"], price, total, gone, k, lot_atoms)
        )
    return max(need, 0)


@inner
def reserve_cancel(state, rings, c, seq):
    """Verdict of CANCEL and CANCEL_ALL: known account and instrument. Cancels always pass, frozen or halted."""
    if c["type"] == e.CANCEL:
        code = account_code(state, c["account"])
        return code if code != 0 else instrument_code(state, c["instrument"])
    if c["source"] == e.SOURCE_RISK:
        # A dead-man timer's; its account was open when the timer was armed, and may find nothing to cancel now.
        return came_back(state, rings, seq)
    return mass_cancel_code(state, c)


@inner
def mass_cancel_code(state, c):
    """0, or why a CANCEL_ALL names orders that make no sense."""
    account = c["account"]
    instrument = c["instrument"]
    session = c["trigger_price_ticks"]
    code = 0
    if account != 0:
        code = account_code(state, account)
    elif instrument == 0 and session == 0:
        code = r.UNKNOWN_ACCOUNT
    if code == 0 and instrument != 0:
        code = instrument_code(state, instrument)
    if code == 0:
        code = session_code(c)
    if code == 0 and (c["price_ticks"] < e.CANCEL_BOTH or c["price_ticks"] > e.CANCEL_ASKS):
        code = r.CANCEL_SIDES
    cause = c["qty_lots"]
    if code == 0 and cause != e.CAUSE_ASKED and (cause != e.CAUSE_DISCONNECT or session == 0):
        code = r.CANCEL_CAUSE
    return code


@inner
def session_code(c):
    """0, or why the session that a command names (0 = none) is none of its gateway's."""
    session = c["trigger_price_ticks"]
    source = session >> e.SESSION_SHIFT
    number = session & ((1 << e.SESSION_SHIFT) - 1)
    if session != 0 and (source < e.SOURCE_CONTROL or source >= e.SOURCES_MAX or number == 0):
        return r.BAD_SESSION
    if session != 0 and c["source"] >= e.SOURCE_FIRST_GATEWAY and source != c["source"]:
        return r.OTHER_SESSION
    return 0


@inner
def own_code(state, seq):
    """0 for a command of risk's own that the outbox may have; WAIT while its cause is not settled."""
    if cause_is_settled(state):
        return 0
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    state.meta[s.FAULT] = s.FAULT_OUTBOX_DIFFERS
    return r.UNSUPPORTED


@inner
def came_back(state, rings, seq):
    """The same, and a command that the outbox has is ticked off."""
    code = own_code(state, seq)
    if code == 0:
        tick_off_reserve(state, rings.command_words, seq, 1)
    return code


@inner
def reserve_protection(state, c, seq):
    """SET_PROTECTION, where everything before is settled: so it is known here whether there is a row for it."""
    code = account_code(state, c["account"])
    if code == 0:
        code = instrument_code(state, c["instrument"])
    if code != 0:
        return code
    lots = c["qty_lots"]
    net = c["trigger_price_ticks"]
    trades = c["order_id"]
    window_ns = c["price_ticks"]
    some = lots != 0 or net != 0 or trades != 0
    if min(lots, net, trades) < 0 or max(lots, net, trades) >= AMOUNT_LIMIT or some != (window_ns != 0):
        return r.BAD_PROTECTION
    if some and (window_ns < PROTECTION_MIN_NS or window_ns > PROTECTION_MAX_NS):
        return r.BAD_PROTECTION
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    used = state.meta[s.PROTECTIONS]
    rows = state.protections
    at = 0
    while at < used and (rows[at]["account"] != c["account"] or rows[at]["instrument"] != c["instrument"]):
        at += 1
    if some and at == rows.shape[0]:
        return r.PROTECTION_TABLE_FULL
    if some and at == used:
        rows[at]["account"] = c["account"]
        rows[at]["instrument"] = c["instrument"]
        state.meta[s.PROTECTIONS] = used + 1
    elif not some and at < used:
        rows[at]["account"] = rows[used - 1]["account"]
        rows[at]["instrument"] = rows[used - 1]["instrument"]
        state.meta[s.PROTECTIONS] = used - 1
    return 0


@inner
def reserve_dead_man(state, c):
    """Verdict of DEAD_MAN, but whether the table has room, which is settle's to say."""
    code = account_code(state, c["account"])
    if code == 0 and c["instrument"] != 0:
        code = instrument_code(state, c["instrument"])
    if code == 0:
        code = session_code(c)
    duration_ns = c["price_ticks"]
    if code == 0 and duration_ns != 0 and (duration_ns < e.DEAD_MAN_MIN_NS or duration_ns > e.DEAD_MAN_MAX_NS):
        code = r.DEAD_MAN_DURATION
    return code


@inner
def reserve_money(state, c, pending):
    """Verdict of money commands, as far as it does not depend on balances: those are looked at when the command is settled."""
    kind = c["type"]
    account = c["account"]
    qty = c["qty_lots"]
    code = account_code(state, account)
    if code != 0:
        return code
    if kind == e.DEPOSIT or kind == e.WITHDRAW_HOLD or kind == e.ADJUST:
        code = asset_code(state, c["asset"])
        if code != 0:
            return code
        if qty == 0 or (qty < 1 and kind != e.ADJUST):
            return r.BAD_QUANTITY
        if qty >= AMOUNT_LIMIT or qty <= -AMOUNT_LIMIT:
            return r.RANGE
        if kind == e.WITHDRAW_HOLD and state.accounts[account]["status_reserve"] == e.ACCOUNT_FROZEN:
            return r.ACCOUNT_FROZEN
        pending["balance"] = balance_row(state, account, c["asset"])
        outgoing = 0
        if kind == e.WITHDRAW_HOLD:
            outgoing = qty
        elif kind == e.ADJUST and qty < 0:
            outgoing = -qty
        if state.balances[pending["balance"] + s.INFLIGHT] >= AMOUNT_LIMIT - outgoing:
            # Promises are not bounded by what is there; their sum must stay an amount. Settled state has none.
            return WAIT
        pending["inflight_units"] = outgoing
        promise(state, pending["balance"], outgoing)
    state.accounts[account]["activity"] += 1
    return 0


@inner
def reserve_transfer(state, c, pending):
    """Verdict of TRANSFER, as far as it does not depend on balances. Masters change on exact state only, so they are known here."""
    account = c["account"]
    to = c["sub_account"]
    qty = c["qty_lots"]
    code = account_code(state, account)
    if code == 0:
        code = account_code(state, to)
    if code == 0:
        code = asset_code(state, c["asset"])
    if code != 0:
        return code
    if account == to:
        return r.BAD_FIELD
    if master_of(state, account) != master_of(state, to):
        return r.OTHER_MASTER
    if qty < 1:
        return r.BAD_QUANTITY
    if qty >= AMOUNT_LIMIT:
        return r.RANGE
    if state.accounts[account]["status_reserve"] == e.ACCOUNT_FROZEN:
        return r.ACCOUNT_FROZEN
    balance = balance_row(state, account, c["asset"])
    if state.balances[balance + s.INFLIGHT] >= AMOUNT_LIMIT - qty:
        return WAIT
    pending["balance"] = balance
    pending["inflight_units"] = qty
    promise(state, balance, qty)
    state.accounts[account]["activity"] += 1
    state.accounts[to]["activity"] += 1
    return 0


@inner
def scope_code(state, c, last):
    """0 where the scope that a command names is there, of kinds up to ``last``; else the reason."""
    scope = c["price_ticks"]
    if scope < e.SCOPE_VENUE or scope > last:
        return r.BAD_FIELD
    if scope == e.SCOPE_FIRM:
        return 0 if 0 < c["trigger_price_ticks"] < state.firm_schedules.shape[0] else r.BAD_GROUP
    code = 0
    if scope == e.SCOPE_ACCOUNT or scope == e.SCOPE_USER or scope == e.SCOPE_CONTRACT:
        code = account_code(state, c["account"])
    if code == 0 and scope == e.SCOPE_USER and state.accounts[c["account"]]["master"] != 0:
        return r.BAD_GROUP
    if code == 0 and (scope == e.SCOPE_INSTRUMENT or scope == e.SCOPE_CONTRACT):
        code = instrument_code(state, c["instrument"])
    return code


@inner
def is_master(state, account):
    """Whether other accounts have this one as their master."""
    found = False
    for other in range(1, state.accounts.shape[0]):
        found = found or (state.accounts[other]["master"] == account and other != account)
    return found


@inner
def reserve_groups(state, c, seq):
    """SET_GROUPS, where everything before is settled: so one copy serves reserve and settle. The matchers keep their own."""
    account = c["account"]
    master = c["price_ticks"]
    firm = c["qty_lots"]
    group = c["trigger_price_ticks"]
    code = account_code(state, account)
    if code != 0:
        return code
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    if master < 0 or master >= state.accounts.shape[0] or firm < 0 or firm >= state.firm_schedules.shape[0]:
        return r.BAD_GROUP
    if group < 0 or group > GROUP_MAX:
        return r.BAD_GROUP
    if master == account:
        master = 0
    if master != 0 and (
        account_code(state, master) != 0 or state.accounts[master]["master"] != 0 or is_master(state, account)
    ):
        return r.BAD_GROUP
    if state.accounts[account]["activity"] > 0:
        return r.ACCOUNT_HAS_ORDERS
    state.accounts[account]["master"] = master
    state.accounts[account]["firm"] = firm
    state.accounts[account]["stp_group"] = group
    return 0


@inner
def reserve_limits(state, c, ext, seq):
    """SET_LIMITS, where everything before is settled."""
    code = scope_code(state, c, e.SCOPE_INSTRUMENT)
    if code != 0:
        return code
    if not limits_are_valid(ext):
        return r.BAD_LIMIT
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    write_limits(state, c, ext)
    return 0


@inner
def reserve_kill(state, c, seq):
    """KILL and REVIVE, where everything before is settled. The matchers go by the scope's own fields, so no other may be set."""
    code = scope_code(state, c, e.SCOPE_INSTRUMENT)
    if code != 0:
        return code
    if c["price_ticks"] != e.SCOPE_INSTRUMENT and c["instrument"] != 0:
        return r.BAD_FIELD
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    write_kill(state, c)
    return 0


@inner
def reserve_volume_rate(state, c, seq):
    """SET_VOLUME_RATE, where everything before is settled."""
    code = asset_code(state, c["asset"])
    if code != 0:
        return code
    if c["price_ticks"] < 0 or c["price_ticks"] >= AMOUNT_LIMIT:
        return r.BAD_FIELD
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    state.assets[c["asset"]]["volume_rate_e8"] = c["price_ticks"]
    return 0


@inner
def reserve_account(state, c, seq):
    """CREATE_ACCOUNT, CLOSE_ACCOUNT (on exact state: empty and nothing in flight), FREEZE, UNFREEZE; reserve's copy of the status."""
    kind = c["type"]
    account = c["account"]
    if kind == e.CREATE_ACCOUNT:
        if account < 1 or account >= state.accounts.shape[0]:
            return r.UNKNOWN_ACCOUNT
        if state.accounts[account]["status_reserve"] != e.ACCOUNT_NONE:
            return r.ACCOUNT_EXISTS
        state.accounts[account]["status_reserve"] = e.ACCOUNT_OPEN
        return 0
    code = account_code(state, account)
    if code != 0:
        return code
    if kind == e.FREEZE:
        state.accounts[account]["status_reserve"] = e.ACCOUNT_FROZEN
    elif kind == e.UNFREEZE:
        state.accounts[account]["status_reserve"] = e.ACCOUNT_OPEN
    else:
        if not exact_or_wait(state, seq, NO_BARRIER):
            return WAIT
        if state.accounts[account]["activity"] > 0 or not account_is_empty(state, account):
            return r.ACCOUNT_NOT_EMPTY
        state.accounts[account]["status_reserve"] = e.ACCOUNT_CLOSED
    return 0


@inner
def account_is_empty(state, account):
    """Whether no asset of the account has a free or locked balance."""
    for asset in range(1, state.assets.shape[0]):
        row = balance_row(state, account, asset)
        if state.balances[row + s.FREE] != 0 or state.balances[row + s.LOCKED] != 0:
            return False
    return True


@inner
def wanted_state(c):
    """State that SET_STATE, HALT or RESUME asks for; 0 for other commands."""
    kind = c["type"]
    if kind == e.SET_STATE:
        return c["price_ticks"]
    if kind == e.HALT:
        return e.INSTRUMENT_HALTED
    return e.INSTRUMENT_OPEN if kind == e.RESUME else 0


@inner
def may_become(status, wanted):
    """Whether a command may make ``wanted`` of the state ``status`` of an instrument."""
    return 0 < wanted < len(states.FOLLOWING) and (states.FOLLOWING[status] >> wanted) & 1 != 0


@inner
def reserve_instrument(state, rings, c, seq, pending):
    """SET_STATE, HALT, RESUME: reserve's copy, and the matcher is told; a HALT of risk's own is ticked off the outbox.

    SET_FEES: settle decides the rest.
    """
    kind = c["type"]
    instrument = c["instrument"]
    wanted = wanted_state(c)
    if kind == e.SET_STATE and instrument == 0:
        if wanted != e.VENUE_OPEN and wanted != e.VENUE_MAINTENANCE:
            return r.BAD_STATE
        state.meta[s.VENUE_STATE_RESERVE] = wanted
        return 0
    gathers = wanted == e.INSTRUMENT_PRE_OPEN or wanted == e.INSTRUMENT_AUCTION
    if gathers and not exact_or_wait(state, seq, state.meta[s.BARRIER]):
        return WAIT
    if c["source"] == e.SOURCE_RISK:
        code = came_back(state, rings, seq)
        if code != 0:
            return code
    code = instrument_code(state, instrument)
    if code != 0:
        return code
    row = state.instruments_reserve[instrument]
    if kind == e.SET_FEES:
        return 0
    pending["price_ticks"] = 0
    if c["source"] == e.SOURCE_RISK and not risk_may(row, c, wanted):
        # A command of risk's own that finds the market changed has nothing to do.
        return 0
    if not may_become(row["status"], wanted):
        return r.BAD_STATE
    if c["source"] != e.SOURCE_RISK and auction_end_code(c, wanted) != 0:
        return r.AUCTION_END
    pending["price_ticks"] = wanted
    pending["qty_lots"] = 0
    if gathers:
        pending["qty_lots"] = state.instruments[instrument]["reference_e8"] // row["tick_e8"]
    if uncrosses(row["status"], wanted):
        # What trades then is what bands count from.
        pending["flags"] = e.JUDGED_UNCROSS
        state.meta[s.BARRIER] = seq
    row["status"] = wanted
    row["auction_seq"] = seq if wanted == e.INSTRUMENT_AUCTION else 0
    return 0


@inner
def reserve_prices(state, c, pending):
    """SET_PRICES: the matcher keeps them, and obeys them where orders may trade."""
    code = instrument_code(state, c["instrument"])
    if code != 0:
        return code
    mark = c["price_ticks"]
    index = c["qty_lots"]
    if mark < 0 or index < 0 or (mark == 0 and index == 0):
        return r.BAD_PRICE
    if mark >= AMOUNT_LIMIT or index >= AMOUNT_LIMIT:
        return r.RANGE
    status = state.instruments_reserve[c["instrument"]]["status"]
    if status == e.INSTRUMENT_DELISTED:
        return r.INSTRUMENT_DELISTED
    if state.meta[s.VENUE_STATE_RESERVE] != e.VENUE_OPEN:
        return r.MAINTENANCE
    if (states.ALLOWED[status] & states.TAKE) == 0:
        pending["flags"] = e.JUDGED_NO_TAKE
    return 0


@inner
def reserve_bands(state, c, listing, auction, slots, seq):
    """SET_BANDS: reserve's copy of the bands; the reference is settle's, hence a barrier. ``auction``: the third slot, if it is there."""
    code = instrument_code(state, c["instrument"])
    if code != 0:
        return code
    if listing["type"] != e.EXT_LISTING or listing["reference_ticks"] < 0:
        return r.BAD_LISTING
    row = state.instruments_reserve[c["instrument"]]
    if not bands_are_valid(listing["band_up_e8"], listing["band_down_e8"], listing["breaker_e8"]):
        return r.BAD_LISTING
    if not product_below_limit(listing["reference_ticks"], row["tick_e8"]):
        return r.RANGE
    if slots > 2 and auction["type"] == e.EXT_AUCTION and not auction_rules_are_valid(auction):
        return r.BAD_AUCTION
    row["band_up_e8"] = listing["band_up_e8"]
    row["band_down_e8"] = listing["band_down_e8"]
    row["breaker_e8"] = listing["breaker_e8"]
    state.meta[s.BARRIER] = seq
    return 0


@inner
def reserve_asset(state, c, ext):
    """LIST_ASSET: reserve's copy says that the asset exists."""
    asset = c["asset"]
    if asset < 1 or asset >= state.assets.shape[0]:
        return r.UNKNOWN_ASSET
    if state.assets[asset]["status_reserve"] != 0:
        return r.ASSET_EXISTS
    if ext["type"] != e.EXT_ASSET or ext["scale"] < 0 or ext["scale"] > 10:
        return r.BAD_LISTING
    state.assets[asset]["status_reserve"] = 1
    state.assets[asset]["scale"] = ext["scale"]
    return 0


@inner
def reserve_listing(state, c, ext, seq, pending):
    """LIST_INSTRUMENT: every rule of ``protocol.instruments`` again; the verdict tells the matcher K and lot_atoms.

    Whether its rates may meet those of schedules is asked of the settled tables: hence a wait, rare as listings are.
    """
    instrument = c["instrument"]
    ts_ns = c["ts_ns"]
    table = state.instruments_reserve
    if instrument < 1 or instrument >= table.shape[0]:
        return r.UNKNOWN_INSTRUMENT
    if table[instrument]["status"] != e.INSTRUMENT_NONE:
        return r.INSTRUMENT_EXISTS
    if ext["type"] != e.EXT_LISTING:
        return r.BAD_LISTING
    if asset_code(state, ext["base"]) != 0 or asset_code(state, ext["quote"]) != 0:
        return r.UNKNOWN_ASSET
    if ext["base"] == ext["quote"]:
        return r.BAD_LISTING
    base_scale = state.assets[ext["base"]]["scale"]
    k = listing_multiplier(ext["tick_e8"], ext["lot_atoms"], base_scale, state.assets[ext["quote"]]["scale"])
    if k == 0 or not product_below_limit(ext["reference_ticks"], ext["tick_e8"]):
        return r.BAD_LISTING
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    broken = listing_is_valid(
        k,
        ext["lot_atoms"],
        ext["maker_rate_e8"],
        ext["taker_rate_e8"],
        ext["band_up_e8"],
        ext["band_down_e8"],
        ext["reference_ticks"],
        ext["breaker_e8"],
        ext["price_max_ticks"],
        ext["qty_max_lots"],
    )
    if broken != 0:
        return r.BAD_FEE if broken == 2 else r.BAD_LISTING
    code = listing_fees_code(state, ts_ns, ext["maker_rate_e8"], ext["taker_rate_e8"])
    if code != 0:
        return code
    copy_listing(table[instrument], ext, k)
    state.meta[s.BARRIER] = seq
    pending["price_ticks"] = k
    pending["qty_lots"] = ext["lot_atoms"]
    return 0


@inner
def copy_listing(row, ext, multiplier):
    """Fill an instrument row from the listing slot, all but the symbol; trading is open."""
    row["status"] = e.INSTRUMENT_OPEN
    row["base"] = ext["base"]
    row["quote"] = ext["quote"]
    row["tick_e8"] = ext["tick_e8"]
    row["lot_atoms"] = ext["lot_atoms"]
    row["multiplier"] = multiplier
    row["maker_rate_e8"] = ext["maker_rate_e8"]
    row["taker_rate_e8"] = ext["taker_rate_e8"]
    row["band_up_e8"] = ext["band_up_e8"]
    row["band_down_e8"] = ext["band_down_e8"]
    row["breaker_e8"] = ext["breaker_e8"]
    row["price_max_ticks"] = ext["price_max_ticks"]
    row["qty_max_lots"] = ext["qty_max_lots"]
    row["reference_e8"] = ext["reference_ticks"] * ext["tick_e8"]


@inner
def reserve_clock(state, c, seq, pending):
    """TICK raises the barrier of what moves with the clock; CHECKPOINT keeps the verdict hash of all before it; EXPIRE is the matchers'."""
    if c["type"] == e.TICK:
        state.meta[s.BARRIER] = seq
    elif c["type"] == e.CHECKPOINT:
        pending["qty_lots"] = state.meta[s.VERDICT_HASH]
    elif c["type"] == e.EXPIRE:
        return 0 if c["instrument"] == 0 else r.BAD_FIELD
    elif c["price_ticks"] != 0 and c["price_ticks"] < TIMER_PERIOD_MIN_NS:
        return r.BAD_FIELD
    elif c["timer"] < 0 or c["timer"] >= state.timer_periods_ns.shape[0]:
        return r.TIMER_TABLE_FULL
    return 0


@inner
def reserve_command(state, rings, seq, slots, pending):
    """Verdict of the command of ``slots`` slots whose head has number ``seq``: 0, a reason, or WAIT.

    On anything but WAIT the pending row is complete.
    """
    mask = rings.commands.slots.shape[0] - 1
    c = rings.commands.slots[(seq - 1) & mask]
    pending["inflight_units"] = 0
    pending["balance"] = -1
    pending["hold"] = -1
    pending["flags"] = 0
    pending["price_ticks"] = c["price_ticks"]
    pending["qty_lots"] = c["qty_lots"]
    kind = c["type"]
    if kind == e.LIMIT or kind == e.MARKET or kind == e.MARKET_AMOUNT:
        code = reserve_order(state, rings, c, seq, slots, pending)
        if code == 0:
            count_order(state, c["account"], c["instrument"], c["ts_ns"], True)
        return code
    if kind == e.CANCEL or kind == e.CANCEL_ALL:
        return reserve_cancel(state, rings, c, seq)
    if kind == e.AMEND:
        code = reserve_amend(state, c, seq, pending)
        if code == 0:
            count_order(state, c["account"], c["instrument"], c["ts_ns"], False)
        return code
    if e.DEPOSIT <= kind <= e.ADJUST:
        return reserve_money(state, c, pending)
    if kind == e.TICK or kind == e.CHECKPOINT or kind == e.SET_TIMER or kind == e.EXPIRE:
        return reserve_clock(state, c, seq, pending)
    if kind == e.SET_FEES or kind == e.HALT or kind == e.RESUME or kind == e.SET_STATE:
        return reserve_instrument(state, rings, c, seq, pending)
    if kind == e.SET_PRICES:
        return reserve_prices(state, c, pending)
    if kind == e.FREEZE or kind == e.UNFREEZE or kind == e.CREATE_ACCOUNT or kind == e.CLOSE_ACCOUNT:
        return reserve_account(state, c, seq)
    if kind == e.TRANSFER:
        return reserve_transfer(state, c, pending)
    if kind == e.SET_PROTECTION:
        return reserve_protection(state, c, seq)
    if kind == e.DEAD_MAN:
        return reserve_dead_man(state, c)
    if kind == e.ASSIGN_FEES:
        if c["price_ticks"] == e.SCOPE_USER:
            return r.BAD_FIELD
        return scope_code(state, c, e.SCOPE_CONTRACT)
    if kind == e.SET_GROUPS:
        return reserve_groups(state, c, seq)
    if kind == e.KILL or kind == e.REVIVE:
        return reserve_kill(state, c, seq)
    if kind == e.SET_VOLUME_RATE:
        return reserve_volume_rate(state, c, seq)
    # What follows needs the group's second slot.
    if (c["flags"] & e.FLAG_MORE) == 0:
        return r.BAD_LISTING if e.LIST_ASSET <= kind <= e.SET_BANDS else r.UNSUPPORTED
    if kind == e.LIST_ASSET:
        return reserve_asset(state, c, rings.asset_slots[seq & mask])
    if kind == e.LIST_INSTRUMENT:
        return reserve_listing(state, c, rings.listing_slots[seq & mask], seq, pending)
    if kind == e.SET_BANDS:
        auction = rings.auction_slots[(seq + 1) & mask]
        return reserve_bands(state, c, rings.listing_slots[seq & mask], auction, slots, seq)
    if kind == e.SET_SCHEDULE:
        return 0
    if kind == e.SET_LIMITS:
        return reserve_limits(state, c, rings.limit_slots[seq & mask], seq)
    return r.UNSUPPORTED
