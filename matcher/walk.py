"""The orders of a book in priority."""

from __future__ import annotations

import numpy as np

from matcher.jit import njit_called
from matcher.levels import head_of, next_level_down, next_level_up
from protocol.enums import BUY


@njit_called
def collect_side(state, book, side, slots, count):
    """Slots of the orders of a side into ``slots`` from ``count`` on, best price and then oldest first; the entry behind the last one."""
    level = np.int64(state.books[book]["best_level"][side])
    while level != 0:
        slot = head_of(state, level)
        while slot != 0:
            slots[count] = slot
            count += 1
            slot = np.int64(state.orders[slot]["next"])
        level = next_level_down(state.leaves, level) if side == BUY else next_level_up(state.leaves, level)
    return count
