"""Orders with exits, and exits that came back, as they are reserved; what is kept of exits between these: ``risk.exits``."""

from __future__ import annotations

from protocol import enums as e
from protocol import reasons as r
from protocol.jit import inner
from risk.exits import exits_code, exits_row_free, keep_exits
from risk.judging import NO_BARRIER, WAIT, exact_or_wait, own_code
from risk.ledger import available, hold_row_free
from risk.limits import count_order, tightest_collar
from risk.linked import begin_pending, pair_code, reserve_linked
from risk.outbox import tick_off_reserve
from risk.reserve import reserve_command
from risk.reserve_orders import has_band, ids_slot, plan_order, reserve_order, short_of_funds, take_order


@inner
def reserve_list(state, rings, c, seq, slots, pending):
    """Verdict of a list of orders, by the role of its second one, and of exits that came back."""
    if c["source"] == e.SOURCE_RISK:
        return reserve_exits(state, rings, c, seq, slots, pending)
    if (c["flags"] & e.FLAG_LEGS) == 0:
        return reserve_command(state, rings, seq, slots, pending)
    mask = rings.commands.slots.shape[0] - 1
    k = 2 if slots > 1 and rings.commands.slots[seq & mask]["type"] == e.EXT_IDS else 1
    i = (seq - 1 + k) & mask
    if k < slots and rings.commands.slots[i]["type"] == e.EXT_LEG and rings.leg_slots[i]["role"] == e.LEG_EXIT:
        return reserve_entry(state, rings, c, seq, slots, pending)
    return reserve_linked(state, rings, c, seq, slots, pending)


@inner
def reserve_entry(state, rings, c, seq, slots, pending):
    """Verdict of an order with exits: a refusal, OK with a hold row, or WAIT. Its own form, market and limits come first."""
    begin_pending(pending)
    ids = ids_slot(rings, c, seq, slots)
    code, tag, need = plan_order(state, rings, c, seq, ids, pending)
    if code == 0:
        banded = has_band(state.instruments_reserve[c["instrument"]])
        banded = banded or tightest_collar(state, c["account"], c["instrument"]) != 0
        code = exits_code(state, rings, c, seq, slots, pending, banded)
    if code == 0:
        code = exits_pair_code(state, rings, seq, slots)
    if code != 0:
        return code
    if need > available(state, pending["balance"]):
        return short_of_funds(state, c, seq)
    if not exits_row_free(state):
        return r.EXITS_FULL if exact_or_wait(state, seq, NO_BARRIER) else WAIT
    if not hold_row_free(state):
        return r.ORDER_POOL_FULL if exact_or_wait(state, seq, NO_BARRIER) else WAIT
    take_order(state, rings, c, seq, ids, tag, need, pending)
    keep_exits(state, rings, c, seq, slots, pending["hold"])
    count_order(state, c["account"], c["instrument"], c["ts_ns"], True)
    return 0


@inner
def exits_pair_code(state, rings, seq, slots):
    """0, or why two exits cannot be linked; one alone can do without."""
    commands = rings.commands.slots
    count = 0
    for k in range(1, slots):
        i = (seq - 1 + k) & (commands.shape[0] - 1)
        if commands[i]["type"] == e.EXT_LEG:
            state.leg[count] = commands[i]
            state.leg[count]["type"] = commands[i]["margin_mode"]
            count += 1
    return pair_code(state.leg[0], state.leg[1]) if count > 1 else 0


@inner
def reserve_exits(state, rings, c, seq, slots, pending):
    """Verdict of exits that came back: orders like others, but no limit on how many or how large they are concerns them."""
    begin_pending(pending)
    code = own_code(state, seq)
    if code != 0:
        return code
    if (c["flags"] & e.FLAG_LEGS) != 0:
        code = reserve_linked(state, rings, c, seq, slots, pending)
    else:
        code = reserve_order(state, rings, c, seq, slots, pending)
        if code == 0:
            count_order(state, c["account"], c["instrument"], c["ts_ns"], True)
    if code == WAIT:
        return WAIT
    tick_off_reserve(state, rings.command_words, seq, slots)
    return code
