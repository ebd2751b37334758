"""What two linked orders (OCO) hold: one hold of funds for the worse of them.

The first order holds what it needs, the second what it needs beyond that. Where a price sets one of them off it takes over what the
other holds, in the same event; what is too much is free at once. So what both hold together never falls below what either needs.
"""

from __future__ import annotations

from protocol import enums as e
from protocol.jit import inner
from risk import state as s
from risk.client_ids import free_client_id
from risk.ledger import balance_row, drop_hold, post, promise
from risk.limits import count_end
from risk.orders import limit_hold


@inner
def drop_second(state, c, pending):
    """The matcher refused both orders: what was promised and taken for the second one is given back."""
    other = state.pending[(c["seq"] + pending["first"]) & (state.pending.shape[0] - 1)]
    hold = other["hold"]
    if other["inflight_units"] != 0:
        promise(state, other["balance"], -other["inflight_units"])
    state.accounts[c["account"]]["activity"] -= 1
    count_end(state, c["account"], c["instrument"])
    if (state.holds[hold]["flags"] & s.HOLD_HAS_CLIENT_ID) != 0:
        free_client_id(state, hold)
    drop_hold(state, hold)


@inner
def unlink_hold(state, hold):
    """An order ends: the one that it is linked with goes on alone, if it does."""
    state.holds[state.hold_links[hold]]["flags"] &= 255 - s.HOLD_LINKED
    state.holds[hold]["flags"] &= 255 - s.HOLD_LINKED


@inner
def take_over_lock(state, hold, seq):
    """An order was set off: what the one that it is linked with holds is its own now, and free what neither needs."""
    h = state.holds[hold]
    other = state.holds[state.hold_links[hold]]
    row = state.instruments[h["instrument"]]
    units = h["locked_units"] + other["locked_units"]
    need = limit_hold(h["side"], h["price_ticks"], h["left_lots"], row["multiplier"], row["lot_atoms"])
    other["locked_units"] = 0
    h["locked_units"] = need
    if units != need:
        asset = row["quote"] if h["side"] == e.BUY else row["base"]
        post(state, balance_row(state, h["account"], asset), units - need, need - units, seq)
