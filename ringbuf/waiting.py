"""Wait strategies: what a process does between two steps that found no work.

A loop in compiled code is::

    idle = 0
    while not stopped:
        if step(...):
            idle = woke(board, line, idle)
        else:
            idle = idle_wait(board, line, idle, strategy)

``idle`` is the loop's own state and opaque. No wake-up is missed: before a sleep ``idle_wait`` *arms*, that is it
reads the bell, sets SLEEPING, passes a sequentially consistent fence and returns, so that the loop steps once more;
only when that step found nothing either does the next call sleep, and only while the bell is unchanged. A publisher
stores its cursor, passes the same kind of fence and then looks at SLEEPING. Should a publisher die between the two,
the time-out of the sleep saves the wake-up, and SAVED_WAKES counts it.
"""

import numpy as np
from numba import njit

from ringbuf.atomics import (
    TIMED_OUT,
    fence,
    futex_wait,
    load_acquire,
    load_relaxed,
    now_ns,
    pause,
    sched_yield,
    store_release,
)
from ringbuf.board import BELL, HEARTBEAT_NS, LINE_WORDS, SAVED_WAKES, SLEEPING, SLEEPS, STEPS_BUSY, WAKES_RECEIVED

__all__ = [
    "ADAPTIVE",
    "LONGEST_SLEEP_NS",
    "SHORTEST_SLEEP_NS",
    "SPIN",
    "STRATEGIES",
    "YIELD",
    "idle_wait",
    "woke",
]

SPIN = 0
YIELD = 1
ADAPTIVE = 2
STRATEGIES = {"spin": SPIN, "yield": YIELD, "adaptive": ADAPTIVE}

# Rounds of pause, each with a step between, before an adaptive loop yields.
_SPIN_ROUNDS = 4
# Rounds of sched_yield before it sleeps, for a loop in Python: some 100 us.
YIELD_ROUNDS = 12
# The sleep grows only after this many time-outs without work: an exchange at rest must cost next to nothing.
_PATIENT_TIMEOUTS = 64
SHORTEST_SLEEP_NS = 1_000_000
LONGEST_SLEEP_NS = 50_000_000

# The state: rounds in bits 0-15, armed, last sleep timed out, time-outs in a row in 18-27, low bits of the bell when
# armed in 28-51, and in 52-61 the busy steps that STEPS_BUSY does not have yet: publishers read that line at every
# publish, so that its owner writes it rarely.
_ROUNDS_MASK = 0xFFFF
_ARMED = 1 << 16
_TIMED_OUT = 1 << 17
_TIMEOUTS_SHIFT = 18
_TIMEOUTS_MASK = 0x3FF
_BELL_SHIFT = 28
_BELL_MASK = 0xFFFFFF
_BUSY_ONE = 1 << 52
_BUSY_SHIFT = 52
_BUSY_BATCH = 256
_HEARTBEAT_ROUNDS = 1024
# Pauses after a step with work. The next step looks at cursors that their writers are storing to, and each look takes
# the cache line away from the writer: a reader that looks after every message makes both sides some five times slower.
_GATHER_PAUSES = 4


@njit(cache=True, nogil=True)
def woke(board, line, idle):
    """Tell that a step found work: disarms if armed, counts the step, and pauses for a moment; gives the new ``idle``.

    ``board`` is the int64 board, ``line`` the process's bell line, ``idle`` the loop's state.
    """
    base = line * LINE_WORDS
    if idle & _ARMED:
        if idle & _TIMED_OUT and load_relaxed(board, base + BELL) & _BELL_MASK == (idle >> _BELL_SHIFT) & _BELL_MASK:
            board[base + SAVED_WAKES] += 1
        store_release(board, base + SLEEPING, 0)
    busy = (idle >> _BUSY_SHIFT) + 1
    if busy >= _BUSY_BATCH:
        board[base + STEPS_BUSY] += busy
        store_release(board, base + HEARTBEAT_NS, now_ns())
        busy = 0
    for _ in range(_GATHER_PAUSES):
        pause()
    return busy << _BUSY_SHIFT


@njit(cache=True, nogil=True)
def idle_wait(board, line, idle, strategy, longest_sleep_ns=LONGEST_SLEEP_NS, yield_rounds=YIELD_ROUNDS):
    """Wait a little after a step without work; gives the new ``idle``.

    ``board`` is the int64 board, ``line`` the process's bell line, ``idle`` the loop's state (0 at first),
    ``strategy`` one of SPIN, YIELD, ADAPTIVE; an adaptive loop yields ``yield_rounds`` times before it sleeps. No sleep
    is longer than ``longest_sleep_ns``; a bell ends it at once.
    """
    if idle & _ARMED:
        return _sleep(board, line, idle, longest_sleep_ns)
    rounds = (idle & _ROUNDS_MASK) + 1
    if strategy == SPIN or rounds <= _SPIN_ROUNDS:
        pause()
    elif strategy == YIELD or rounds <= _SPIN_ROUNDS + yield_rounds:
        sched_yield()
    else:
        return _arm(board, line, idle)
    if rounds % _HEARTBEAT_ROUNDS == 0:
        store_release(board, line * LINE_WORDS + HEARTBEAT_NS, now_ns())
    if rounds > _ROUNDS_MASK:
        rounds = _SPIN_ROUNDS
    return (idle >> _BUSY_SHIFT) << _BUSY_SHIFT | rounds


@njit(cache=True, nogil=True)
def _arm(board, line, idle):
    base = line * LINE_WORDS
    board[base + STEPS_BUSY] += idle >> _BUSY_SHIFT
    bell = load_acquire(board, base + BELL)
    store_release(board, base + SLEEPING, 1)
    fence()
    return _ARMED | (bell & _BELL_MASK) << _BELL_SHIFT


@njit(cache=True, nogil=True)
def _sleep(board, line, idle, longest_sleep_ns):
    base = line * LINE_WORDS
    expected = (idle >> _BELL_SHIFT) & _BELL_MASK
    timeouts = (idle >> _TIMEOUTS_SHIFT) & _TIMEOUTS_MASK
    bell = load_acquire(board, base + BELL)
    if bell & _BELL_MASK == expected:
        store_release(board, base + HEARTBEAT_NS, now_ns())
        board[base + SLEEPS] += 1
        timeout_ns = SHORTEST_SLEEP_NS * max(1, timeouts + 2 - _PATIENT_TIMEOUTS)
        result = futex_wait(board, base + BELL, bell, min(timeout_ns, longest_sleep_ns, LONGEST_SLEEP_NS))
        if result == TIMED_OUT and load_acquire(board, base + BELL) == bell:
            # Stays armed for the next step. A ringer that died half way may have taken the flag: set it again.
            store_release(board, base + SLEEPING, 1)
            fence()
            timeouts = min(timeouts + 1, _TIMEOUTS_MASK)
            return _ARMED | _TIMED_OUT | timeouts << _TIMEOUTS_SHIFT | expected << _BELL_SHIFT
    board[base + WAKES_RECEIVED] += 1
    store_release(board, base + SLEEPING, 0)
    return np.int64(0)
