"""What the machine gives: the bytes that a shard uses and a bare walk at random over them; the pauses of a loop that does nothing."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from matcher.state import MatcherState
from protocol.jit import entry
from ringbuf.atomics import now_ns

LINE_BYTES: Final = 64
PAGE_BYTES: Final = 4096
POOLS: Final = tuple(name for name in MatcherState._fields if name != "meta")
"""Arrays that grow with the books; ``meta`` is a few lines that every command uses."""
_WORDS: Final = LINE_BYTES // 8
_PART: Final = 500
"""Steps of a walk between two readings of the clock."""


@entry
def walk(words: np.ndarray, at: np.ndarray, nothing: int, out_ns: np.ndarray) -> np.int64:
    """Read ``words[at[k]]`` for each k, none before the one before it has come: ``nothing`` is 0, which the compiler cannot know.

    ``words``: int64[n]; ``at``: int64[m]; ``out_ns``: int64[p] receives what each p-th part of the walk took. What it returns means
    nothing.
    """
    carried = np.int64(0)
    total = np.int64(0)
    steps = at.shape[0] // out_ns.shape[0]
    for part in range(out_ns.shape[0]):
        began_ns = now_ns()
        for k in range(part * steps, (part + 1) * steps):
            word = words[at[k] + carried]
            total ^= word
            carried = word & nothing
        out_ns[part] = now_ns() - began_ns
    return total


def map_of(arrays: MatcherState) -> np.ndarray:
    """int64[n]: the map on which all arrays of a shard lie, each at a boundary of 128 bytes."""
    base: Any = arrays.meta
    while isinstance(base, np.ndarray):
        base = base.base
    return np.frombuffer(base, dtype=np.int64)


def lines_of(arrays: MatcherState) -> np.ndarray:
    """int64[n]: first word in ``map_of`` of each cache line of the pools that is not all zero."""
    whole = map_of(arrays)
    used = []
    for name in POOLS:
        array = getattr(arrays, name)
        used.append((array.ctypes.data - whole.ctypes.data) // 8 + _WORDS * used_lines(array))
    return np.concatenate(used)


def changed_lines(arrays: MatcherState, before: np.ndarray) -> int:
    """Cache lines of the pools that differ from an earlier copy of the map."""
    pools = arrays.meta.nbytes // 8
    differs = map_of(arrays)[pools:] != before[pools:]
    return int(differs[: len(differs) // _WORDS * _WORDS].reshape(-1, _WORDS).any(axis=1).sum())


def used_lines(array: np.ndarray, unit_bytes: int = LINE_BYTES) -> np.ndarray:
    """int64[n]: numbers of the cache lines (or other units) of an array with a byte in them that is not 0."""
    data = array.view(np.uint8).reshape(-1)
    whole = len(data) // unit_bytes * unit_bytes
    found = np.flatnonzero(data[:whole].view(np.uint64).reshape(-1, unit_bytes // 8).any(axis=1))
    if data[whole:].any():
        found = np.append(found, whole // unit_bytes)
    return found


def walk_ns(words: np.ndarray, lines: np.ndarray, steps: int, seed: int) -> float:
    """Nanoseconds a step of a walk over lines chosen at random: the median of its parts, after as long a one untimed."""
    rng = np.random.default_rng(seed)
    took_ns = np.zeros(max(1, steps // _PART), dtype=np.int64)
    size = _PART * len(took_ns)
    for _ in range(2):
        walk(words, lines[rng.integers(0, len(lines), size)], 0, took_ns)
    return float(np.median(took_ns)) / _PART


@entry
def turns(turn_ns: int, out_ns: np.ndarray) -> None:
    """Look at the clock until ``turn_ns`` have passed, again and again: ``out_ns`` (int64[n]) receives how long each turn was.

    What is longer than a turn is the machine's: an interrupt, another process, another guest.
    """
    for k in range(out_ns.shape[0]):
        began_ns = now_ns()
        passed_ns = now_ns() - began_ns
        while passed_ns < turn_ns:
            passed_ns = now_ns() - began_ns
        out_ns[k] = passed_ns
