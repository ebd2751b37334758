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
from protocol import reasons as r
from protocol.jit import inner
from risk import state as s
from risk.judging import scope_code
from risk.limits import count_order
from risk.reserve_accounts import reserve_account, reserve_groups, reserve_kill, reserve_limits, reserve_protection
from risk.reserve_amends import reserve_amend
from risk.reserve_cancels import reserve_cancel, reserve_dead_man
from risk.reserve_markets import (
    reserve_asset,
    reserve_bands,
    reserve_instrument,
    reserve_listing,
    reserve_prices,
    reserve_volume_rate,
)
from risk.reserve_money import reserve_money, reserve_transfer
from risk.reserve_orders import reserve_order

TIMER_PERIOD_MIN_NS: Final = 1_000_000


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
        auction = rings.auction_slots[(seq + 1) & mask]
        return reserve_listing(state, c, rings.listing_slots[seq & mask], auction, slots, seq, pending)
    if kind == e.SET_BANDS:
        auction = rings.auction_slots[(seq + 1) & mask]
        return reserve_bands(state, c, rings.listing_slots[seq & mask], auction, slots, seq)
    if kind == e.SET_SCHEDULE:
        return 0
    if kind == e.SET_LIMITS:
        return reserve_limits(state, c, rings.limit_slots[seq & mask], seq)
    return r.UNSUPPORTED
