"""Order id to slot: open addressing with linear probing, and deletion by shifting back, so that no tombstones gather.

An entry is ``tag << 32 | slot``, 0 = empty. The tag is 29 hash bits of ``id >> 3`` and below them the lowest 3 bits of
the id, and alone tells the home of the entry: eight neighbouring ids share a cache line, lines are spread by Fibonacci
hashing. Probing and shifting therefore read the table only; an order is read once its tag agrees.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from matcher.bits import PHI, multiply, prefetch
from matcher.jit import njit_inlined
from matcher.state import IDS_SHIFT

_U0: Final = np.uint64(0)
_U3: Final = np.uint64(3)
_U7: Final = np.uint64(7)
_U32: Final = np.uint64(32)
_U35: Final = np.uint64(35)
_SLOT: Final = np.uint64(0xFFFFFFFF)


@njit_inlined
def _tag(order_id):
    word = np.uint64(order_id)
    return (multiply(word >> _U3, PHI) >> _U35) << _U3 | (word & _U7)


@njit_inlined
def _home(tag, shift):
    return np.int64((tag >> np.uint64(shift)) << _U3 | (tag & _U7))


@njit_inlined
def find_order(state, order_id):
    """Slot of a resting order, or 0; ``order_id`` int64 > 0."""
    ids = state.ids
    orders = state.orders
    mask = np.int64(ids.shape[0] - 1)
    tag = _tag(order_id)
    i = _home(tag, state.meta[IDS_SHIFT])
    while True:
        entry = ids[i]
        if entry == _U0:
            return np.int64(0)
        if entry >> _U32 == tag:
            slot = np.int64(entry & _SLOT)
            if orders[slot]["order_id"] == order_id:
                return slot
        i = (i + 1) & mask


@njit_inlined
def add_id(state, order_id, slot):
    """Enter an id that is not in the table."""
    ids = state.ids
    mask = np.int64(ids.shape[0] - 1)
    tag = _tag(order_id)
    i = _home(tag, state.meta[IDS_SHIFT])
    while ids[i] != _U0:
        i = (i + 1) & mask
    ids[i] = tag << _U32 | np.uint64(slot)


@njit_inlined
def remove_id(state, order_id, slot):
    """Take out an id that is in the table; entries behind it move up to where a probe from their home finds them."""
    ids = state.ids
    mask = np.int64(ids.shape[0] - 1)
    shift = state.meta[IDS_SHIFT]
    tag = _tag(order_id)
    entry = tag << _U32 | np.uint64(slot)
    hole = _home(tag, shift)
    while ids[hole] != entry:
        assert ids[hole] != _U0, "a resting order is in the id table"
        hole = (hole + 1) & mask
    i = hole
    while True:
        i = (i + 1) & mask
        entry = ids[i]
        if entry == _U0:
            break
        if (i - _home(entry >> _U32, shift)) & mask >= (i - hole) & mask:
            ids[hole] = entry
            hole = i
    ids[hole] = _U0


@njit_inlined
def prefetch_id(state, order_id):
    """Ask for the line of the table in which an id stands, or will stand."""
    prefetch(state.ids, _home(_tag(order_id), state.meta[IDS_SHIFT]))


@njit_inlined
def prefetch_order(state, order_id):
    """Ask for the order of an id whose line of the table is here, if it stands at its home."""
    tag = _tag(order_id)
    entry = state.ids[_home(tag, state.meta[IDS_SHIFT])]
    if entry >> _U32 == tag:
        prefetch(state.orders, np.int64(entry & _SLOT))
