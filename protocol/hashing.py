"""Hashes over records: rolling ones for streams, and order-free sums of mixed rows for tables.

All results are int64 with wrap-around (mod 2^64), the same compiled and in plain Python. A table's hash is the sum of
``mix`` over its rows, so it does not depend on where a row is stored.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import config

from protocol.jit import entry

ROLL_START: Final = -3750763034362895579  # 14695981039346656037 as int64
_ROLL: Final = 1099511628211
_U30: Final = np.uint64(30)
_U27: Final = np.uint64(27)
_U31: Final = np.uint64(31)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_WORD_STEP: Final = np.uint64(0x61C8864680B583EB)
_U32: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFFFFFF)
_MASK: Final = (1 << 64) - 1


@entry
def _mix_compiled(h, x):
    z = np.uint64(h) * _GOLDEN + np.uint64(x)
    z = (z ^ (z >> _U30)) * _MIX_1
    z = (z ^ (z >> _U27)) * _MIX_2
    return np.int64(z ^ (z >> _U31))


def _signed(x: int) -> int:
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x


def _mix_plain(h, x):
    z = (int(h) * 0x9E3779B97F4A7C15 + int(x)) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return _signed(z ^ (z >> 31))


@entry
def _roll_compiled(h, x):
    return h * _ROLL + x


def _roll_plain(h, x):
    return _signed(int(h) * _ROLL + int(x))


@entry
def _add_compiled(a, b):
    return a + b


def _add_plain(a, b):
    return _signed(int(a) + int(b))


@entry
def _roll_words_compiled(h, words, row):
    total = np.uint64(0)
    key = _GOLDEN
    for column in range(words.shape[1]):
        word = np.uint64(words[row, column]) + key
        total += (word & _LOW) * (word >> _U32)
        key += _WORD_STEP
    return h * _ROLL + np.int64(total)


def _roll_words_plain(h, words, row):
    total, key = 0, int(_GOLDEN)
    for column in range(words.shape[1]):
        word = (int(words[row, column]) + key) & _MASK
        total += (word & 0xFFFFFFFF) * (word >> 32)
        key = (key + int(_WORD_STEP)) & _MASK
    return _signed(int(h) * _ROLL + total)


mix = _mix_plain if config.DISABLE_JIT else _mix_compiled
"""mix(h, x): h and x well mixed; chain it over the fields of a row."""
roll = _roll_plain if config.DISABLE_JIT else _roll_compiled
"""roll(h, x): one step of a rolling hash."""
wrapping_add = _add_plain if config.DISABLE_JIT else _add_compiled
"""wrapping_add(a, b): a + b mod 2^64, as int64."""
roll_words = _roll_words_plain if config.DISABLE_JIT else _roll_words_compiled
"""roll_words(h, words, row): one step over all words of ``words[row]`` (int64[n, m]).

The words, each with a key of its own added, enter as the sum of (low half * high half): the hash NH of UMAC (RFC 4418), whose
products of 32 bits a vector unit has."""
