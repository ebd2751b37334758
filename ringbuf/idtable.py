"""Order id to row: open addressing with linear probing, and deletion by shifting back, so that no tombstones gather.

An entry of the table (uint64[2^n], at most half full) is ``tag << 32 | number``, 0 = empty; number n > 0 stands for row ``n - base`` of the
records whose ``order_id`` is the key. The tag is 29 hash bits of ``id >> 3`` and below them the lowest 3 bits of
the id, and alone tells the home of the entry: eight neighbouring ids share a cache line, lines are spread by Fibonacci
hashing. Probing and shifting therefore read the table only; a record is read once its tag agrees.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from ringbuf.bits import PHI, multiply, prefetch

__all__ = ["add_id", "find_id", "id_shift", "prefetch_id", "prefetch_row", "remove_id"]

_inlined = njit(forceinline=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)

_U0: Final = np.uint64(0)
_U3: Final = np.uint64(3)
_U7: Final = np.uint64(7)
_U32: Final = np.uint64(32)
_U35: Final = np.uint64(35)
_NUMBER: Final = np.uint64(0xFFFFFFFF)


@_inlined
def _tag(order_id):
    word = np.uint64(order_id)
    return (multiply(word >> _U3, PHI) >> _U35) << _U3 | (word & _U7)


@_inlined
def _home(tag, shift):
    return np.int64((tag >> np.uint64(shift)) << _U3 | (tag & _U7))


def id_shift(size: int) -> int:
    """``shift`` of a table of ``size`` entries: a tag shifted right by it numbers the line of eight entries in which its home is."""
    return 32 - ((size.bit_length() - 1) - 3)


@_inlined
def find_id(table, shift, rows, base, order_id):
    """Number of an id, or 0; ``order_id`` int64 > 0."""
    mask = np.int64(table.shape[0] - 1)
    tag = _tag(order_id)
    i = _home(tag, shift)
    while True:
        entry = table[i]
        if entry == _U0:
            return np.int64(0)
        if entry >> _U32 == tag:
            number = np.int64(entry & _NUMBER)
            if rows[number - base]["order_id"] == order_id:
                return number
        i = (i + 1) & mask


@_inlined
def add_id(table, shift, order_id, number):
    """Enter an id that is not in the table."""
    mask = np.int64(table.shape[0] - 1)
    tag = _tag(order_id)
    i = _home(tag, shift)
    while table[i] != _U0:
        i = (i + 1) & mask
    table[i] = tag << _U32 | np.uint64(number)


@_inlined
def remove_id(table, shift, order_id, number):
    """Take out an id that is in the table; entries behind it move up to where a probe from their home finds them."""
    mask = np.int64(table.shape[0] - 1)
    tag = _tag(order_id)
    entry = tag << _U32 | np.uint64(number)
    hole = _home(tag, shift)
    while table[hole] != entry:
        assert table[hole] != _U0, "the id is in the table"
        hole = (hole + 1) & mask
    i = hole
    while True:
        i = (i + 1) & mask
        entry = table[i]
        if entry == _U0:
            break
        if (i - _home(entry >> _U32, shift)) & mask >= (i - hole) & mask:
            table[hole] = entry
            hole = i
    table[hole] = _U0


@_inlined
def prefetch_id(table, shift, order_id):
    """Ask for the line of the table in which an id stands, or will stand."""
    prefetch(table, _home(_tag(order_id), shift))


@_inlined
def prefetch_row(table, shift, rows, base, order_id):
    """Ask for the record of an id whose line of the table is here, if it stands at its home."""
    tag = _tag(order_id)
    entry = table[_home(tag, shift)]
    if entry >> _U32 == tag:
        prefetch(rows, np.int64(entry & _NUMBER) - base)
