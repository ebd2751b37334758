"""Verdicts of cancels, of mass cancels, and of the timers that send them."""

from __future__ import annotations

from protocol import enums as e
from protocol import reasons as r
from protocol.jit import inner
from risk.judging import account_code, came_back, instrument_code


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
