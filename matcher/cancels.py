"""How it is told that an order leaves its book."""

from __future__ import annotations

import numpy as np

from matcher.events import emit
from matcher.jit import njit_called, njit_inlined
from matcher.terms import hidden_lots, instrument_of
from protocol.enums import EV_CANCELED


@njit_inlined
def emit_canceled(state, events, seq, slot, reason, flags, expiry_ns, age):
    """Say that the order in a slot leaves the book; the caller takes it off. ``expiry_ns`` and ``age``: by which risk merges expiries."""
    order = state.orders[slot]
    emit(
        state,
        events.slots,
        seq,
        np.int64(EV_CANCELED),
        reason,
        flags,
        instrument_of(state, order),
        order["order_id"],
        order["price_ticks"],
        order["left_lots"] + hidden_lots(state, slot),
        expiry_ns,
        age,
        np.int64(order["hold"]),
    )


@njit_called
def say_canceled(state, events, seq, slot, reason, flags):
    """``emit_canceled`` where that is rare."""
    emit_canceled(state, events, seq, slot, reason, flags, np.int64(0), np.int64(0))
