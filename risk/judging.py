"""What every verdict asks first: whether settled fields may be read, and whether account, asset, instrument and scope are there."""

from __future__ import annotations

from typing import Final

from protocol import enums as e
from protocol import reasons as r
from protocol.jit import inner
from risk import state as s
from risk.outbox import cause_is_settled, tick_off_reserve

WAIT: Final = -1
NO_BARRIER: Final = (1 << 63) - 1
"""No barrier covers what is read: only the exact state will do."""


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
