"""Two linked orders (OCO) reserved as one command: both or none. What they hold then: ``risk.links``."""

from __future__ import annotations

from typing import Final

from protocol import enums as e
from protocol import reasons as r
from protocol.hashing import roll
from protocol.jit import inner
from risk import state as s
from risk.judging import NO_BARRIER, WAIT, exact_or_wait
from risk.ledger import available
from risk.limits import count_end, count_order
from risk.quotes import NEW_BID, count_open
from risk.reserve_orders import plan_order, short_of_funds, take_order

LEG_FLAGS: Final = e.FLAG_TERMS | e.FLAG_TRIGGER | e.FLAG_TAKE_PROFIT | e.FLAG_PEG
"""Flags of the command that a leg may have as well; the others are the group's."""


@inner
def ids_behind(rings, seq, k, slots):
    """Index in the command ring of the EXT_IDS slot behind slot ``k`` of a group, -1 = there is none."""
    i = (seq + k) & (rings.commands.slots.shape[0] - 1)
    return i if k + 1 < slots and rings.commands.slots[i]["type"] == e.EXT_IDS else -1


@inner
def take_leg(state, rings, c, seq, k):
    """Slot ``k`` of a group, an EXT_LEG, as a command of its own: ``state.leg[0]``. 0, or what is wrong with it."""
    i = (seq - 1 + k) & (rings.commands.slots.shape[0] - 1)
    state.leg[0] = rings.commands.slots[i]
    leg = state.leg[0]
    kind = leg["margin_mode"]
    leg["type"] = kind
    leg["margin_mode"] = 0
    leg["source"] = c["source"]
    leg["session"] = c["session"]
    leg["flags"] = (leg["flags"] & LEG_FLAGS) | (c["flags"] & e.FLAG_API)
    if leg["account"] != c["account"] or leg["order_id"] != c["order_id"] + k:
        return r.BAD_FIELD
    if leg["instrument"] != c["instrument"] or (kind != e.LIMIT and kind != e.MARKET):
        return r.LEG_FORM
    return 0


@inner
def reserve_linked(state, rings, c, seq, slots, pending):
    """Verdict of two linked orders: a refusal, OK with a hold row of each, or WAIT.

    The pending row of the second order is that of its own slot, and ``pending["first"]`` says which one that is.
    """
    mask = rings.commands.slots.shape[0] - 1
    begin_pending(pending)
    ids = ids_behind(rings, seq, 0, slots)
    k = 1 if ids < 0 else 2
    if k >= slots or rings.commands.slots[(seq - 1 + k) & mask]["type"] != e.EXT_LEG:
        return r.LEG_FORM
    role = rings.leg_slots[(seq - 1 + k) & mask]["role"]
    leg_ids = ids_behind(rings, seq, k, slots)
    behind = k + 1 if leg_ids < 0 else k + 2
    if role != e.LEG_LINKED or (
        behind < slots and rings.commands.slots[(seq - 1 + behind) & mask]["type"] == e.EXT_LEG
    ):
        return r.LEG_FORM
    code = take_leg(state, rings, c, seq, k)
    if code != 0:
        return code
    leg = state.leg[0]
    other = state.pending[(seq + k) & (state.pending.shape[0] - 1)]
    begin_pending(other)
    code, tag, need = plan_order(state, rings, c, seq, ids, pending)
    if code != 0:
        return code
    count_open(state, c["account"], c["instrument"], NEW_BID)
    code, leg_tag, leg_need = plan_order(state, rings, leg, seq, leg_ids, other)
    count_end(state, c["account"], c["instrument"])
    if code == r.DUPLICATE_CLIENT_ID:
        pending["first"] = other["first"]
    if code == 0:
        code = pair_code(c, leg)
    if code == 0 and tag >= 0 and tag == leg_tag:
        code = r.LEG_FORM
    if code != 0:
        return code
    more = max(0, leg_need - need)
    if need + more > available(state, pending["balance"]):
        return short_of_funds(state, c, seq)
    if state.meta[s.HOLDS_USED] + 2 > state.holds.shape[0]:
        return r.ORDER_POOL_FULL if exact_or_wait(state, seq, NO_BARRIER) else WAIT
    take_order(state, rings, c, seq, ids, tag, need, pending)
    take_order(state, rings, leg, seq, leg_ids, leg_tag, more, other)
    pending["first"] = k
    pending["flags"] |= e.JUDGED_LEGS
    other["flags"] |= e.JUDGED_LEGS
    link(state, pending["hold"], other["hold"])
    link(state, other["hold"], pending["hold"])
    count_order(state, c["account"], c["instrument"], c["ts_ns"], True)
    count_order(state, c["account"], c["instrument"], c["ts_ns"], True)
    return 0


@inner
def begin_pending(pending):
    """A row in which nothing is promised yet."""
    pending["inflight_units"] = 0
    pending["balance"] = -1
    pending["hold"] = -1
    pending["flags"] = 0


@inner
def pair_code(c, leg):
    """0, or why two orders, each sound in itself, cannot be linked."""
    waits = (c["flags"] & e.FLAG_TRIGGER) != 0
    pegs = ((c["flags"] | leg["flags"]) & e.FLAG_PEG) != 0
    takes_profit = waits and (c["flags"] & e.FLAG_TAKE_PROFIT) != 0
    rests = not waits and c["type"] == e.LIMIT and c["tif"] == e.POST_ONLY
    is_stop = (leg["flags"] & e.FLAG_TRIGGER) != 0 and (leg["flags"] & e.FLAG_TAKE_PROFIT) == 0
    if (
        pegs
        or not (takes_profit or rests)
        or not is_stop
        or c["side"] != leg["side"]
        or c["qty_lots"] != leg["qty_lots"]
    ):
        return r.LEG_FORM
    if expiry_field(c) != expiry_field(leg):
        return r.LEG_EXPIRY
    near = c["trigger_price_ticks"] if waits else c["price_ticks"]
    far = leg["trigger_price_ticks"]
    before = near > far if c["side"] == e.SELL else near < far
    if leg["offset_kind"] == e.OFFSET_NONE:
        return 0 if before else r.LEGS_CROSSED
    return 0 if before or far == 0 else r.ACTIVATION_BEYOND


@inner
def expiry_field(c):
    """Expiry that an order asks for; 0 where it has no terms."""
    return c["expiry_ts_ns"] if (c["flags"] & e.FLAG_TERMS) != 0 else 0


@inner
def link(state, hold, other):
    """Note that an order is linked with another."""
    state.holds[hold]["flags"] |= s.HOLD_LINKED
    state.hold_links[hold] = other


@inner
def write_leg_verdict(state, rings, seq, k):
    """The verdict of the second order is that of its slot."""
    other = state.pending[(seq + k) & (state.pending.shape[0] - 1)]
    v = rings.verdicts.slots[(seq + k - 1) & (rings.verdicts.slots.shape[0] - 1)]
    v["flags"] = other["flags"]
    v["hold"] = other["hold"]
    v["price_ticks"] = other["price_ticks"]
    v["qty_lots"] = other["qty_lots"]
    state.meta[s.VERDICT_HASH] = roll(roll(state.meta[s.VERDICT_HASH], other["price_ticks"]), other["flags"])
