"""Order id to row, in two tables of row numbers: one with an entry for each end of an id, and one by hash for ids whose entry is taken.

Ids of one source count up, so that those of the orders that live have mostly different lowest bits. ``recent`` (uint32[2^n]) has an
entry for each value of these bits, shifted by the source in the upper bits of the id. It is filled from one end to the other,
like a ring: neighbouring ids share a cache line, and nothing is searched.

An id whose entry is that of an older order goes into ``others`` (uint32[2^n], at most half full): open addressing with Fibonacci
hashing, linear probing, and deletion by shifting back, so that no tombstones gather.

An entry is the number of a row, 0 = empty; number n > 0 stands for row ``n - base`` of the records whose ``order_id`` is the key, and
the record says whether it is the one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from ringbuf.bits import PHI, add, multiply, prefetch

__all__ = ["add_id", "find_id", "id_shift", "prefetch_id", "prefetch_row", "remove_id"]

_inlined = njit(forceinline=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
_called = njit(forceinline=False, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)

_SOURCE: Final = np.uint64(0xD6E8FEB86659FD93)  # odd, to put ids of several sources, which count alike, apart
_SOURCE_SHIFT: Final = np.uint64(40)


@_inlined
def _entry(recent, order_id):
    word = np.uint64(order_id)
    return np.int64(add(word, multiply(word >> _SOURCE_SHIFT, _SOURCE)) & np.uint64(recent.shape[0] - 1))


@_inlined
def _home(order_id, shift):
    return np.int64(multiply(np.uint64(order_id), PHI) >> np.uint64(shift))


def id_shift(size: int) -> int:
    """``shift`` of a table ``others`` of ``size`` entries: the product of an id shifted right by it numbers its home."""
    return 64 - (size.bit_length() - 1)


@_inlined
def find_id(recent, others, shift, rows, base, order_id):
    """Number of an id, or 0; ``order_id`` int64 > 0."""
    number = np.int64(recent[_entry(recent, order_id)])
    if number != 0 and rows[number - base]["order_id"] == order_id:
        return number
    return _find_by_hash(others, shift, rows, base, order_id)


@_called
def _find_by_hash(others, shift, rows, base, order_id):
    mask = np.int64(others.shape[0] - 1)
    i = _home(order_id, shift)
    while True:
        number = np.int64(others[i])
        if number == 0 or rows[number - base]["order_id"] == order_id:
            return number
        i = (i + 1) & mask


@_inlined
def add_id(recent, others, shift, order_id, number):
    """Enter an id that is not there."""
    entry = _entry(recent, order_id)
    if recent[entry] == 0:
        recent[entry] = number
    else:
        _add_by_hash(others, shift, order_id, number)


@_called
def _add_by_hash(others, shift, order_id, number):
    mask = np.int64(others.shape[0] - 1)
    i = _home(order_id, shift)
    while others[i] != 0:
        i = (i + 1) & mask
    others[i] = number


@_inlined
def remove_id(recent, others, shift, rows, base, order_id, number):
    """Take out an id that is there, and still in its row."""
    entry = _entry(recent, order_id)
    if recent[entry] == number:
        recent[entry] = 0
    else:
        _remove_by_hash(others, shift, rows, base, order_id, number)


@_called
def _remove_by_hash(others, shift, rows, base, order_id, number):
    """Entries behind the one taken out move up to where a probe from their home finds them."""
    mask = np.int64(others.shape[0] - 1)
    hole = _home(order_id, shift)
    while others[hole] != number:
        assert others[hole] != 0, "the id is in the table"
        hole = (hole + 1) & mask
    i = hole
    while True:
        i = (i + 1) & mask
        other = np.int64(others[i])
        if other == 0:
            break
        if (i - _home(rows[other - base]["order_id"], shift)) & mask >= (i - hole) & mask:
            others[hole] = other
            hole = i
    others[hole] = 0


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
