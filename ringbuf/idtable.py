"""Order id to row, in two tables: one entry for each end of an id, and one by hash for ids whose entry is taken.

Ids of one source count up, so that those of the orders that live have mostly different lowest bits. ``recent`` (uint32[2^n]) has an
entry for each value of these bits, shifted by the source in the upper bits of the id: the number of the row, 0 = none. It is filled from one
end to the other, like a ring: neighbouring ids share a cache line, and nothing is searched. Whether an entry is that of an id its
row says.

An id whose entry is that of an older order goes into ``table``: open addressing with linear probing, and deletion by shifting back, so
that no tombstones gather. An entry of the table (uint64[2^n], at most half full) is ``tag << 32 | number``, 0 = empty; number n > 0 stands for row ``n - base`` of the
records whose ``order_id`` is the key. The tag is 29 hash bits of ``id >> 3`` and below them the lowest 3 bits of
the id, and alone tells the home of the entry: eight neighbouring ids share a cache line, lines are spread by Fibonacci
hashing. Probing and shifting therefore read the table only; a record is read once its tag agrees.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from ringbuf.bits import PHI, add, multiply, prefetch

__all__ = ["add_id", "find_id", "id_shift", "prefetch_id", "prefetch_row", "remove_id"]

_inlined = njit(forceinline=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
_called = njit(forceinline=False, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)

_U0: Final = np.uint64(0)
_SOURCE: Final = np.uint64(0xD6E8FEB86659FD93)  # odd, to put ids of several sources, which count alike, apart
_SOURCE_SHIFT: Final = np.uint64(40)
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


@_inlined
def _entry(recent, order_id):
    word = np.uint64(order_id)
    return np.int64(add(word, multiply(word >> _SOURCE_SHIFT, _SOURCE)) & np.uint64(recent.shape[0] - 1))


def id_shift(size: int) -> int:
    """``shift`` of a table of ``size`` entries: a tag shifted right by it numbers the line of eight entries in which its home is."""
    return 32 - ((size.bit_length() - 1) - 3)


@_inlined
def find_id(recent, table, shift, rows, base, order_id):
    """Number of an id, or 0; ``order_id`` int64 > 0."""
    number = np.int64(recent[_entry(recent, order_id)])
    if number != 0 and rows[number - base]["order_id"] == order_id:
        return number
    return _find_by_hash(table, shift, rows, base, order_id)


@_called
def _find_by_hash(table, shift, rows, base, order_id):
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
def add_id(recent, table, shift, order_id, number):
    """Enter an id that is not there."""
    entry = _entry(recent, order_id)
    if recent[entry] == 0:
        recent[entry] = number
    else:
        _add_by_hash(table, shift, order_id, number)


@_called
def _add_by_hash(table, shift, order_id, number):
    mask = np.int64(table.shape[0] - 1)
    tag = _tag(order_id)
    i = _home(tag, shift)
    while table[i] != _U0:
        i = (i + 1) & mask
    table[i] = tag << _U32 | np.uint64(number)


@_inlined
def remove_id(recent, table, shift, order_id, number):
    """Take out an id that is there."""
    entry = _entry(recent, order_id)
    if recent[entry] == number:
        recent[entry] = 0
    else:
        _remove_by_hash(table, shift, order_id, number)


@_called
def _remove_by_hash(table, shift, order_id, number):
    """Entries behind the one taken out move up to where a probe from their home finds them."""
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
def prefetch_id(recent, order_id):
    """Ask for the line in which an id mostly stands, or will stand."""
    prefetch(recent, _entry(recent, order_id))


@_inlined
def prefetch_row(recent, rows, base, order_id):
    """Ask for the record of an id whose line is here."""
    number = np.int64(recent[_entry(recent, order_id)])
    if number != 0:
        prefetch(rows, number - base)
