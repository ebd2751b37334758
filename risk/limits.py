"""Pre-trade limits and kill switches of the venue, accounts, users (all accounts of a master), firms and instruments.

Limits change only where everything before is settled, so that one copy serves everybody. What is counted against them is reserve's: orders
of the second from its own verdicts, open orders as a bound that settling can only lower. So an order within its limits is
accepted at once; only one that finds as many orders open as it may waits for the exact state, and is refused there.
"""

from __future__ import annotations

from typing import Final

from protocol import enums as e
from protocol import reasons as r
from protocol.fixed_point import AMOUNT_LIMIT, E8, muldiv_ceil
from protocol.jit import inner
from risk import state as s
from risk.fees import master_of

SECOND_NS: Final = 1_000_000_000
COUNT_LIMIT: Final = 1 << 31
_NOWHERE: Final = -1


@inner
def limits_row(state, scope, account, instrument, firm):
    """Row of a scope in ``limits``; all in range."""
    accounts = state.accounts.shape[0]
    if scope == e.SCOPE_VENUE:
        return 0
    if scope == e.SCOPE_ACCOUNT:
        return 1 + account
    if scope == e.SCOPE_USER:
        return 1 + accounts + account
    if scope == e.SCOPE_FIRM:
        return 1 + 2 * accounts + firm
    return 1 + 2 * accounts + state.firm_schedules.shape[0] + instrument


@inner
def limits_of(state, account, instrument, scope):
    """Row that limits an order of the account in the instrument in this scope; -1 where nothing does."""
    firm = state.accounts[account]["firm"]
    if scope == e.SCOPE_FIRM and firm == 0:
        return _NOWHERE
    named = master_of(state, account) if scope == e.SCOPE_USER else account
    row = limits_row(state, scope, named, instrument, firm)
    return row if state.limits[row]["is_on"] != 0 else _NOWHERE


@inner
def tightest_collar(state, account, instrument):
    """The smallest collar of the order's scopes, 0 = none."""
    tightest = 0
    if state.meta[s.COLLARS] == 0:
        return tightest
    for scope in range(e.SCOPE_INSTRUMENT + 1):
        row = limits_of(state, account, instrument, scope)
        if row >= 0:
            collar = state.limits[row]["collar_e8"]
            if collar != 0 and (tightest == 0 or collar < tightest):
                tightest = collar
    return tightest


@inner
def limits_code(state, account, instrument, lots, value_units, rate_e8, ts_ns, opens, exact):
    """0, WAIT (-1) or the reason of the first limit that an order or amend exceeds: scope by scope, venue first.

    ``lots`` of a market order by amount: what the amount is at its protection price. ``rate_e8``: what a unit of the quote counts.
    ``opens``: it would be another open order. ``exact``: everything before is settled.
    """
    for scope in range(e.SCOPE_INSTRUMENT + 1):
        row = limits_of(state, account, instrument, scope)
        if row < 0:
            continue
        limit = state.limits[row]
        if limit["killed"] != 0:
            return r.KILLED
        if limit["qty_max_lots"] != 0 and lots > limit["qty_max_lots"]:
            return r.ORDER_SIZE_LIMIT
        if limit["notional_max_units"] != 0:
            units = muldiv_ceil(value_units, rate_e8, E8)
            if rate_e8 == 0 or units < 0 or units > limit["notional_max_units"]:
                return r.NOTIONAL_LIMIT
        if opens and limit["open_orders_max"] != 0 and limit["open_orders"] >= limit["open_orders_max"]:
            return r.OPEN_ORDERS_LIMIT if exact else -1
        if (
            limit["orders_per_s"] != 0
            and limit["second"] == ts_ns // SECOND_NS
            and limit["orders_in_second"] >= limit["orders_per_s"]
        ):
            return r.ORDER_RATE_LIMIT
    return 0


@inner
def count_order(state, account, instrument, ts_ns, opens):
    """Reserve has accepted an order or amend."""
    if state.meta[s.LIMITED] == 0:
        return
    second = ts_ns // SECOND_NS
    for scope in range(e.SCOPE_INSTRUMENT + 1):
        row = limits_of(state, account, instrument, scope)
        if row < 0:
            continue
        limit = state.limits[row]
        if limit["second"] != second:
            limit["second"] = second
            limit["orders_in_second"] = 0
        if limit["orders_per_s"] != 0:
            limit["orders_in_second"] += 1
        if opens and limit["open_orders_max"] != 0:
            limit["open_orders"] += 1


@inner
def count_end(state, account, instrument):
    """An order has ended, or the matcher has refused it."""
    if state.meta[s.LIMITED] == 0:
        return
    for scope in range(e.SCOPE_INSTRUMENT + 1):
        row = limits_of(state, account, instrument, scope)
        if row >= 0 and state.limits[row]["open_orders_max"] != 0:
            state.limits[row]["open_orders"] -= 1


@inner
def limits_are_valid(ext):
    """Whether the fields of an EXT_LIMITS slot may be set."""
    return (
        ext["type"] == e.EXT_LIMITS
        and 0 <= ext["qty_max_lots"] < AMOUNT_LIMIT
        and 0 <= ext["notional_max_units"] < AMOUNT_LIMIT
        and 0 <= ext["open_orders_max"] < COUNT_LIMIT
        and 0 <= ext["orders_per_s"] < COUNT_LIMIT
        and 0 <= ext["collar_e8"] <= E8
    )


@inner
def write_limits(state, c, ext):
    """SET_LIMITS on exact state: all limits of the scope anew; its open orders are counted."""
    scope = c["price_ticks"]
    row = limits_row(state, scope, c["account"], c["instrument"], c["trigger_price_ticks"])
    limit = state.limits[row]
    state.meta[s.COLLARS] -= limit["collar_e8"] != 0
    limit["qty_max_lots"] = ext["qty_max_lots"]
    limit["notional_max_units"] = ext["notional_max_units"]
    limit["open_orders_max"] = ext["open_orders_max"]
    limit["orders_per_s"] = ext["orders_per_s"]
    limit["collar_e8"] = ext["collar_e8"]
    limit["second"] = 0
    limit["open_orders"] = 0
    state.meta[s.COLLARS] += limit["collar_e8"] != 0
    switch_on(state, row)
    if limit["open_orders_max"] != 0:
        for hold in range(state.meta[s.HOLDS_HIGH]):
            h = state.holds[hold]
            if h["state"] == e.HOLD_LIVE and limits_of(state, h["account"], h["instrument"], scope) == row:
                limit["open_orders"] += 1


@inner
def switch_on(state, row):
    """Whether the row limits anything at all; how many do is counted, so that a venue without limits pays for none."""
    limit = state.limits[row]
    state.meta[s.LIMITED] -= limit["is_on"]
    limit["is_on"] = (
        limit["qty_max_lots"] != 0
        or limit["notional_max_units"] != 0
        or limit["open_orders_max"] != 0
        or limit["orders_per_s"] != 0
        or limit["collar_e8"] != 0
        or limit["killed"] != 0
    )
    state.meta[s.LIMITED] += limit["is_on"]


@inner
def write_kill(state, c):
    """KILL or REVIVE on exact state."""
    row = limits_row(state, c["price_ticks"], c["account"], c["instrument"], c["trigger_price_ticks"])
    state.limits[row]["killed"] = c["type"] == e.KILL
    switch_on(state, row)
