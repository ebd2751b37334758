"""A bank: several rings of one shape in two arrays, so that one compiled reader takes any number of them.

Ring k has the words ``[k * HEADER_WORDS, (k + 1) * HEADER_WORDS)`` and the slots ``[k * capacity, (k + 1) * capacity)``. Each ring of the
bank has its own writer; the bank has one reader, reader 0, which gates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ringbuf.ring import HEADER_WORDS, Ring, private_ring

__all__ = ["bank_ring", "bank_spec", "init_bank", "ring_of"]


def bank_spec(dtype: Any, capacity: int, count: int) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Arena specification of a bank: ``words`` int64[count * HEADER_WORDS] and ``slots`` dtype[count * capacity]."""
    return [("words", np.dtype("<i8"), (count * HEADER_WORDS,)), ("slots", np.dtype(dtype), (count * capacity,))]


def init_bank(words: np.ndarray, slots: np.ndarray, count: int, reader_bell: int, writer_bells: list[int]) -> None:
    """Write the headers of freshly zeroed arrays; bells are lines of the board (-1: none)."""
    capacity = slots.shape[0] // count
    for k in range(count):
        model = private_ring(
            slots.dtype, capacity, n_readers=1, bell_lines=(reader_bell,), writer_bell=writer_bells[k]
        )
        words[k * HEADER_WORDS : (k + 1) * HEADER_WORDS] = model.words


def bank_ring(words: np.ndarray, slots: np.ndarray, board: np.ndarray, count: int, k: int) -> Ring:
    """Ring ``k`` of a bank, for its writer."""
    capacity = slots.shape[0] // count
    return Ring(words[k * HEADER_WORDS : (k + 1) * HEADER_WORDS], slots[k * capacity : (k + 1) * capacity], board)


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def ring_of(words, slots, board, k):
    """Ring ``k`` of a bank, in a kernel."""
    capacity = slots.shape[0] // (words.shape[0] // HEADER_WORDS)
    return Ring(words[k * HEADER_WORDS : (k + 1) * HEADER_WORDS], slots[k * capacity : (k + 1) * capacity], board)
