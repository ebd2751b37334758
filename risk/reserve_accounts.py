"""Verdicts of what operators say of accounts: status, groups, limits, kill switches, protection."""

from __future__ import annotations

from typing import Final

from protocol import enums as e
from protocol import reasons as r
from protocol.fixed_point import AMOUNT_LIMIT
from protocol.jit import inner
from risk import state as s
from risk.judging import NO_BARRIER, WAIT, account_code, exact_or_wait, instrument_code, scope_code
from risk.ledger import balance_row
from risk.limits import limits_are_valid, write_kill, write_limits

PROTECTION_MIN_NS: Final = 1_000_000
PROTECTION_MAX_NS: Final = 3_600_000_000_000
GROUP_MAX: Final = (1 << 31) - 1


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
