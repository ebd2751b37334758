"""A bank: several rings of one shape in two arrays, so that one compiled reader takes any number of them.

Ring k has the words ``[k * HEADER_WORDS, (k + 1) * HEADER_WORDS)`` and the slots ``[k * capacity, (k + 1) * capacity)``. Each ring of the
bank has its own writer; the bank has one reader, reader 0, which gates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ringbuf.atomics import fence, load_acquire, load_relaxed, store_release
from ringbuf.board import ring_bell
from ringbuf.ring import (
    CAPACITY,
    FIRST_READER,
    HEADER_WORDS,
    PUBLISHED,
    READER_CURSOR,
    WANTS_ROOM,
    WRITER_BELL,
    Ring,
    private_ring,
)

__all__ = [
    "bank_advance",
    "bank_cursor",
    "bank_published",
    "bank_ring",
    "bank_slot",
    "bank_spec",
    "bank_wake",
    "init_bank",
]


def bank_spec(dtype: Any, capacity: int, count: int) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Arena specification of a bank: ``words`` int64[count * HEADER_WORDS] and ``slots`` dtype[count * capacity]."""
    return [("words", np.dtype("<i8"), (count * HEADER_WORDS,)), ("slots", np.dtype(dtype), (count * capacity,))]


def init_bank(words: np.ndarray, slots: np.ndarray, count: int, reader_bell: int, writer_bells: list[int]) -> None:
    """Write the headers of freshly zeroed arrays; bells are lines of the board (-1: none)."""
    capacity = slots.shape[0] // count
    for k in range(count):
        model = private_ring(slots.dtype, capacity, n_readers=1, bell_lines=(reader_bell,), writer_bell=writer_bells[k])
        words[k * HEADER_WORDS : (k + 1) * HEADER_WORDS] = model.words


def bank_ring(words: np.ndarray, slots: np.ndarray, board: np.ndarray, count: int, k: int) -> Ring:
    """Ring ``k`` of a bank, for its writer."""
    capacity = slots.shape[0] // count
    return Ring(words[k * HEADER_WORDS : (k + 1) * HEADER_WORDS], slots[k * capacity : (k + 1) * capacity], board)


_inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)


@_inner
def bank_published(words, k):
    """Last position published in ring ``k`` (acquire)."""
    return load_acquire(words, k * HEADER_WORDS + PUBLISHED)


@_inner
def bank_cursor(words, k):
    """Last position that the bank's reader has finished in ring ``k``; for the reader itself."""
    return load_relaxed(words, k * HEADER_WORDS + FIRST_READER + READER_CURSOR)


@_inner
def bank_slot(words, k, cursor):
    """Index in the bank's slots of the slot after position ``cursor`` of ring ``k``."""
    capacity = words[k * HEADER_WORDS + CAPACITY]
    return k * capacity + (cursor & (capacity - 1))


@_inner
def bank_advance(words, k, position):
    """Say that the bank's reader has finished ring ``k`` up to ``position``; ``bank_wake`` follows, once a batch."""
    store_release(words, k * HEADER_WORDS + FIRST_READER + READER_CURSOR, position)


@_inner
def bank_wake(words, board):
    """Wake the writers that are short of room, after ``bank_advance``."""
    fence()
    for base in range(0, words.shape[0], HEADER_WORDS):
        if 0 < load_relaxed(words, base + WANTS_ROOM) <= load_relaxed(words, base + FIRST_READER + READER_CURSOR):
            ring_bell(board, load_relaxed(words, base + WRITER_BELL))
