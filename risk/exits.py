"""Exits of an order (brackets): held beside it while it is open, entered by a command of risk's own when it has traded and ended.

Only the entry's funds are held at first. What it receives, net of fees, is counted, for an exit sells no more than that. When the
entry ends, the row of its exits is given back: their command is in the outbox, and finds its funds like any other order when it
comes back. Rows and their count are reserve's to take and settle's to give back.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol import enums as e
from protocol import market_states as states
from protocol import reasons as r
from protocol.fixed_point import product_below_limit
from protocol.jit import inner
from protocol.order_terms import trigger_code
from risk import state as s
from risk.client_ids import NOT_FOUND, client_tag, find_client_id, is_past_its_time
from risk.limits import limits_of
from risk.orders import order_range_code
from risk.outbox import push_copy

WAIT: Final = -1
_MEANS: Final = e.FLAG_TRIGGER | e.FLAG_TAKE_PROFIT
_ADMITTED: Final = _MEANS | e.FLAG_MORE | e.FLAG_API | e.FLAG_BATCH


# --- at the entry: reserve ---------------------------------------------------------------------------------------------


@inner
def exits_code(state, rings, c, seq, slots, pending, banded):
    """0, WAIT, or why the exits of the new order ``c`` make no sense; ``banded``: a market order finds its protection price itself."""
    mask = rings.commands.slots.shape[0] - 1
    k, end = exit_slots(rings, seq, slots)
    count = 0
    while k < end:
        i = (seq + k - 1) & mask
        leg = rings.leg_slots[i]
        if leg["type"] != e.EXT_LEG or leg["role"] != e.LEG_EXIT or count == s.EXITS_PER_ORDER:
            return r.EXIT_FORM
        if leg["order_id"] != (np.int64(c["source"]) << e.ORDER_ID_SOURCE_SHIFT) + c["source_seq"] + k:
            return r.BAD_FIELD
        code = exit_code(state, rings, c, i, banded)
        if code != 0:
            return code
        count += 1
        k += 1
        if k < end and rings.commands.slots[(seq + k - 1) & mask]["type"] == e.EXT_IDS:
            code = exit_ids_code(state, rings, c, seq, k, pending)
            if code != 0:
                return code
            k += 1
    return r.EXIT_FORM if count == 0 else 0


@inner
def exit_slots(rings, seq, slots):
    """(first, end) of the slots of a group that are exits and their ids: behind the head and its ids, before who sent it and why."""
    commands = rings.commands.slots
    mask = commands.shape[0] - 1
    first = 2 if slots > 1 and commands[seq & mask]["type"] == e.EXT_IDS else 1
    end = slots - 1 if slots > 1 and commands[(seq + slots - 2) & mask]["type"] == e.EXT_ADMIN else slots
    return first, end


@inner
def exit_code(state, rings, c, i, banded):
    """0, or why the exit in slot ``i`` of the command ring makes no sense."""
    leg = rings.leg_slots[i]
    side = leg["side"]
    kind = leg["order_type"]
    tif = leg["tif"]
    if (
        leg["account"] != c["account"]
        or leg["instrument"] != c["instrument"]
        or side > e.SELL
        or side == c["side"]
        or (kind != e.LIMIT and kind != e.MARKET)
        or (kind == e.LIMIT and tif == e.FOK)
        or (leg["flags"] | _ADMITTED) != _ADMITTED
    ):
        return r.EXIT_FORM
    if leg["stp"] > e.STP_DECREMENT or (kind == e.LIMIT and tif > e.POST_ONLY):
        return r.BAD_FIELD
    row = state.instruments_reserve[c["instrument"]]
    if (leg["flags"] & e.FLAG_TRIGGER) != 0:
        code = trigger_code(rings.commands.slots[i])
        if code == 0 and not product_below_limit(leg["trigger_price_ticks"], row["tick_e8"]):
            code = r.RANGE
        if code != 0:
            return code
    price = leg["price_ticks"]
    qty = leg["qty_lots"]
    if kind == e.MARKET and price == 0:
        if not banded:
            return r.NO_REFERENCE_PRICE
        price = 1
    if price < 1:
        return r.BAD_PRICE
    if qty < 1:
        return r.BAD_QUANTITY
    if c["type"] != e.MARKET_AMOUNT and qty > c["qty_lots"]:
        return r.EXIT_QUANTITY
    return order_range_code(kind, side, price, qty, row)


@inner
def exit_ids_code(state, rings, c, seq, k, pending):
    """0 where the exit may have the client order id of slot ``k`` of its group, EXIT_IDS, DUPLICATE_CLIENT_ID, or WAIT."""
    words = rings.command_words
    mask = words.shape[0] - 1
    i = (seq + k - 1) & mask
    tag = client_tag(c["account"], words, i)
    if tag < 0:
        return 0
    for earlier in range(1, k):
        at = (seq + earlier - 1) & mask
        if rings.commands.slots[at]["type"] == e.EXT_IDS:
            same = True
            for word in range(3, 3 + s.CLIENT_ID_WORDS):
                same = same and words[at, word] == words[i, word]
            if same:
                return r.EXIT_IDS
    first = find_client_id(state, tag, c["account"], words, i)
    if first == NOT_FOUND or is_past_its_time(state, first, c["ts_ns"]):
        return 0
    if state.meta[s.SETTLED] != seq - 1:
        return WAIT
    pending["first"] = first
    return r.DUPLICATE_CLIENT_ID


@inner
def exits_row_free(state):
    """Whether exits of another order have room, here and in the outbox."""
    return state.meta[s.EXITS_USED] < state.exits.shape[0] - 1


@inner
def keep_exits(state, rings, c, seq, slots, hold):
    """Take a row for the exits of an accepted order and copy their slots."""
    meta = state.meta
    row = meta[s.EXITS_FREE]
    if row != 0:
        meta[s.EXITS_FREE] = state.exits[row, s.EXITS_RECEIVED]
    else:
        meta[s.EXITS_HIGH] += 1
        row = meta[s.EXITS_HIGH]
    meta[s.EXITS_USED] += 1
    mask = rings.command_words.shape[0] - 1
    first, end = exit_slots(rings, seq, slots)
    x = state.exits[row]
    x[s.EXITS_RECEIVED] = 0
    x[s.EXITS_SLOTS] = end - first
    x[s.EXITS_FLAGS] = c["flags"] & e.FLAG_API
    x[s.EXITS_SESSION] = c["session"]
    for k in range(end - first):
        i = (seq + first + k - 1) & mask
        for word in range(2, s.EXIT_WORDS):
            x[s.EXITS_FIRST + k * s.EXIT_WORDS + word] = rings.command_words[i, word]
    state.holds[hold]["next"] = row


# --- while the entry is open, and at its end: settle -------------------------------------------------------------------


@inner
def count_received(state, hold, units):
    """A fill brought an order with exits so much, net of its fee."""
    state.exits[state.holds[hold]["next"], s.EXITS_RECEIVED] += units


@inner
def give_row_back(state, hold):
    """The row of an order's exits is free again; whether they count as open is the caller's to say."""
    row = state.holds[hold]["next"]
    state.exits[row, s.EXITS_RECEIVED] = state.meta[s.EXITS_FREE]
    state.meta[s.EXITS_FREE] = row
    state.holds[hold]["next"] = 0


@inner
def end_exits(state, hold, seq):
    """The entry has ended: its exits are asked for, as much of them as it traded and received, or there are none."""
    h = state.holds[hold]
    x = state.exits[h["next"]]
    lots = h["traded_lots"]
    if h["side"] == e.BUY:
        lots = min(lots, x[s.EXITS_RECEIVED] // state.instruments[h["instrument"]]["lot_atoms"])
    if lots > 0:
        push_exits(state, x, lots, seq)
    else:
        state.meta[s.EXITS_USED] -= 1
    give_row_back(state, hold)


@inner
def push_exits(state, x, lots, seq):
    """Push the group of a row's exits, each of at most ``lots``; caused by the outcome that was written last."""
    slots = x[s.EXITS_SLOTS]
    for k in range(slots):
        i = push_copy(state, x, s.EXITS_FIRST + k * s.EXIT_WORDS)
        out = state.outbox_slots[i]
        more = e.FLAG_MORE if k + 1 < slots else 0
        if out["type"] == e.EXT_LEG and k > 0:
            # Linked with the first one, which is the head of the group.
            out["flags"] = (out["flags"] & _MEANS) | more
            out["qty_lots"] = min(out["qty_lots"], lots)
            for word in (10, 12, 13, 14, 15):
                state.outbox[i, word] = 0
            head = state.outbox_slots[(i - k) % state.outbox.shape[0]]
            head["flags"] |= e.FLAG_LEGS
        elif out["type"] == e.EXT_LEG:
            out["flags"] = (out["flags"] & _MEANS) | x[s.EXITS_FLAGS] | e.FLAG_SYSTEM | more
            out["type"] = out["margin_mode"]
            out["margin_mode"] = 0
            out["session"] = x[s.EXITS_SESSION]
            out["qty_lots"] = min(out["qty_lots"], lots)
            for word in (10, 12, 13, 14, 15):
                state.outbox[i, word] = 0
        else:
            out["flags"] = more
        if k == 0:
            state.outbox[i, 12] = (state.meta[s.INDEX] - 1) << 32
            state.outbox[i, 13] = seq


# --- when they come back -----------------------------------------------------------------------------------------------


@inner
def exit_entry_code(state, c, row, pending):
    """0, or why account or market refuse exits. They enter in every state but delisted; where nothing trades, only to rest or wait."""
    if state.accounts[c["account"]]["status_reserve"] == e.ACCOUNT_FROZEN:
        return r.ACCOUNT_FROZEN
    if row["status"] == e.INSTRUMENT_DELISTED:
        return r.INSTRUMENT_DELISTED
    trades = (states.ALLOWED[row["status"]] & states.TAKE) != 0
    if not trades or state.meta[s.VENUE_STATE_RESERVE] != e.VENUE_OPEN:
        immediate = c["type"] != e.LIMIT or c["tif"] == e.IOC
        if immediate and (c["flags"] & e.FLAG_TRIGGER) == 0:
            return r.MAINTENANCE if trades else states.REFUSALS[row["status"]]
        pending["flags"] |= e.JUDGED_NO_TAKE
    if state.meta[s.LIMITED] != 0 and is_killed(state, c["account"], c["instrument"]):
        return r.KILLED
    return 0


@inner
def is_killed(state, account, instrument):
    """Whether a kill switch stops the account's orders in the instrument."""
    killed = False
    for scope in range(e.SCOPE_INSTRUMENT + 1):
        row = limits_of(state, account, instrument, scope)
        killed = killed or (row >= 0 and state.limits[row]["killed"] != 0)
    return killed


@inner
def exits_are_back(state, slots):
    """Exits are settled: their place in the outbox is free."""
    state.meta[s.OUTBOX_SETTLED] += slots
    state.meta[s.EXITS_USED] -= 1
