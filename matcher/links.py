"""The link of two orders (OCO): each has the slot of the other in its row of ``terms``, and what happens first to one ends the other.

Where one of them is set off by a price the other leaves its level at once, so that nothing trades with it meanwhile; its end is said
behind the EV_TAKER of the first. Everywhere else it ends before what happened is said.
"""

from __future__ import annotations

import numpy as np

from matcher.book import forget, remove, take_off
from matcher.cancels import say_canceled
from matcher.jit import njit_called, njit_inlined
from matcher.state import HAS_TERMS, REACHED, WAITS
from matcher.terms import untrail
from protocol.reasons import BY_LINK


@njit_inlined
def is_linked(state, slot):
    """Whether an order is linked with another."""
    return (state.orders[slot]["modes"] & HAS_TERMS) != 0 and state.terms[slot]["link"] != 0


@njit_called
def take_off_partner(state, slot):
    """The order in ``slot`` is set off: its partner leaves its level and is followed by no price, but is there until ``end_partner``."""
    other = np.int64(state.terms[slot]["link"])
    if state.terms[other]["activates"] < REACHED:
        take_off(state, other)
    if (state.orders[other]["modes"] & WAITS) != 0:
        untrail(state, other)


@njit_called
def end_partner(state, events, seq, slot, flags, stands):
    """What happened to the order in ``slot`` ends its partner, which ``stands`` on its level or not: one event, for which there is room."""
    other = np.int64(state.terms[slot]["link"])
    say_canceled(state, events, seq, other, np.int64(BY_LINK), flags)
    if stands:
        remove(state, other)
    else:
        forget(state, other)
