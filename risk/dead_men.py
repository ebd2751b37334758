"""Dead-man timers: a client that does not renew its timer in time has its orders cancelled.

Armed, renewed and disarmed when the command is settled. The first EXPIRE at or after a timer's time disarms it and pushes
the cancel-all to the outbox, so that replay finds it in the journal. Rows have no gap, and few look at them: clients once in a while, the
clock once a second.
"""

from __future__ import annotations

from protocol import reasons as r
from protocol.jit import inner
from risk import state as s
from risk.outbox import push_cancel_all


@inner
def settle_dead_man(state, c):
    """Arm or renew the timer of (account, instrument, session), or disarm it; 0 or DEAD_MAN_TABLE_FULL."""
    meta = state.meta
    used = meta[s.DEAD_MEN]
    at = 0
    while at < used and not is_of(state.dead_men[at], c):
        at += 1
    if c["price_ticks"] == 0:
        if at < used:
            disarm(state, at)
        return 0
    if at == used:
        if used + meta[s.DEAD_MEN_FIRED] >= state.dead_men.shape[0]:
            return r.DEAD_MAN_TABLE_FULL
        meta[s.DEAD_MEN] = used + 1
        state.dead_men[at]["account"] = c["account"]
        state.dead_men[at]["instrument"] = c["instrument"]
        state.dead_men[at]["session"] = c["trigger_price_ticks"]
    state.dead_men[at]["until_ns"] = c["ts_ns"] + c["price_ticks"]
    return 0


@inner
def is_of(row, c):
    """Whether a timer is that of the command."""
    return (
        row["account"] == c["account"]
        and row["instrument"] == c["instrument"]
        and row["session"] == c["trigger_price_ticks"]
    )


@inner
def disarm(state, at):
    """Take a timer out; the last one takes its row."""
    last = state.meta[s.DEAD_MEN] - 1
    state.meta[s.DEAD_MEN] = last
    row = state.dead_men[at]
    moved = state.dead_men[last]
    row["until_ns"] = moved["until_ns"]
    row["account"] = moved["account"]
    row["instrument"] = moved["instrument"]
    row["session"] = moved["session"]


@inner
def comes_before(a, b):
    """Whether timer ``a`` fires before ``b``: by time, then account, instrument, session."""
    if a["until_ns"] != b["until_ns"]:
        return a["until_ns"] < b["until_ns"]
    if a["account"] != b["account"]:
        return a["account"] < b["account"]
    if a["instrument"] != b["instrument"]:
        return a["instrument"] < b["instrument"]
    return a["session"] < b["session"]


@inner
def fire_dead_men(state, c):
    """EXPIRE: the timers whose time has come ask for their cancels and are disarmed."""
    meta = state.meta
    while True:
        first = -1
        for i in range(meta[s.DEAD_MEN]):
            row = state.dead_men[i]
            if row["until_ns"] <= c["ts_ns"] and (first < 0 or comes_before(row, state.dead_men[first])):
                first = i
        if first < 0:
            break
        row = state.dead_men[first]
        push_cancel_all(state, row["account"], row["instrument"], row["session"], c["seq"], meta[s.INDEX])
        meta[s.DEAD_MEN_FIRED] += 1
        disarm(state, first)


@inner
def cancel_came_back(state):
    """A timer's cancel-all is settled."""
    state.meta[s.OUTBOX_SETTLED] += 1
    state.meta[s.DEAD_MEN_FIRED] -= 1
