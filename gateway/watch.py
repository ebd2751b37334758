"""Lets an event loop wait for outcomes: for new ones on the ring, or for the journal to reach those that are held.

A thread in compiled code, without the interpreter lock, sleeps on the process's bell line while the loop waits and at
no other time. Both are looked at between raising the flag and sleeping, so that a bell that rang before costs no
time-out.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final, Self

import numpy as np
from numba import njit

from protocol.board import DURABLE_SEQ, EPOCH
from ringbuf import (
    BELL,
    LINE_WORDS,
    SLEEPING,
    SLEEPS,
    WAKES_RECEIVED,
    Ring,
    fence,
    fetch_add,
    futex_wait,
    futex_wake,
    heartbeat,
    load_acquire,
    now_ns,
    store_release,
)
from ringbuf.ring import PUBLISHED

NEVER: Final = (1 << 63) - 1
"""A seq that the journal does not reach: wait for new outcomes only."""

# Words of the control array, a line apart: requests of the loop (futex) with what it waits for, and the end.
_REQUEST: Final = 0
_POSITION: Final = 1
_DURABLE: Final = 2
_EPOCH: Final = 3
_TIMEOUT_NS: Final = 4
_STOP: Final = 16
_CONTROL_WORDS: Final = 32
_REST_NS: Final = 1_000_000_000
_NAP_NS: Final = 1_000_000
"""Longest sleep on the bell: what a producer that died half way through ringing may cost."""


class OutcomeWatch:
    """The thread of one event loop; ``line`` is the process's bell line, on which nobody else of it sleeps."""

    def __init__(self, board: np.ndarray, line: int) -> None:
        self._board = board
        self._line = line
        self._control = np.zeros(_CONTROL_WORDS, dtype=np.int64)
        self._words = np.zeros(PUBLISHED + 1, dtype=np.int64)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._waiter: asyncio.Future[None] | None = None

    def start(self) -> Self:
        """Start the thread for the running event loop; compiles or loads its kernels first."""
        assert self._thread is None, "this watch is started already"
        self._loop = asyncio.get_running_loop()
        self._control[_STOP] = 1
        await_request(self._control, -1)
        await_outcomes(self._board, self._line, self._words, self._control)
        self._control[_STOP] = 0
        self._thread = threading.Thread(target=self._run, name="outcomes", daemon=True)
        self._thread.start()
        return self

    async def wait(self, ring: Ring, position: int, durable_seq: int, epoch: int, timeout_s: float) -> None:
        """Return when ``ring`` is past ``position``, the journal at ``durable_seq`` or the epoch over, or in time."""
        assert self._loop is not None, "start() the watch before waiting"
        assert self._waiter is None, "two tasks wait on one watch"
        control = self._control
        self._words = ring.words
        control[_POSITION] = position
        control[_DURABLE] = durable_seq
        control[_EPOCH] = epoch
        control[_TIMEOUT_NS] = int(timeout_s * 1e9)
        self._waiter = self._loop.create_future()
        fetch_add(control, _REQUEST, 1)
        futex_wake(control, _REQUEST, 1)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def stop(self) -> None:
        """End the thread and let go of a task that waits; may be called twice."""
        if self._thread is None:
            return
        store_release(self._control, _STOP, 1)
        fetch_add(self._control, _REQUEST, 1)
        futex_wake(self._control, _REQUEST, 1)
        bell = self._line * LINE_WORDS + BELL
        fetch_add(self._board, bell, 1)
        futex_wake(self._board, bell, 1)
        self._thread.join()
        self._thread = None
        self._woken()

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        request = 0
        while True:
            request = await_request(self._control, request)
            if not await_outcomes(self._board, self._line, self._words, self._control):
                return
            # A loop that was closed without stop() has nobody left to wake.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@njit(cache=True, nogil=True)
def await_request(control: np.ndarray, seen: int) -> int:
    """Sleep until the count of the loop's requests differs from ``seen``; gives it. At the end returns at once."""
    while True:
        request = load_acquire(control, _REQUEST)
        if request != seen or load_acquire(control, _STOP) != 0:
            return request
        futex_wait(control, _REQUEST, seen, _REST_NS)


@njit(cache=True, nogil=True)
def await_outcomes(board: np.ndarray, line: int, words: np.ndarray, control: np.ndarray) -> bool:
    """Sleep until what the loop waits for is there or its time is over (True), or the end is asked for (False).

    ``board`` int64 board, ``line`` bell line, ``words`` header of the outcome ring, ``control`` the loop's requests.
    """
    base = line * LINE_WORDS
    end_ns = now_ns() + control[_TIMEOUT_NS]
    while True:
        bell = load_acquire(board, base + BELL)
        store_release(board, base + SLEEPING, 1)
        fence()
        if load_acquire(control, _STOP) != 0:
            store_release(board, base + SLEEPING, 0)
            return False
        left_ns = end_ns - now_ns()
        if (
            left_ns <= 0
            or load_acquire(words, PUBLISHED) > control[_POSITION]
            or load_acquire(board, DURABLE_SEQ) >= control[_DURABLE]
            or load_acquire(board, EPOCH) != control[_EPOCH]
        ):
            store_release(board, base + SLEEPING, 0)
            return True
        heartbeat(board, line)
        board[base + SLEEPS] += 1
        futex_wait(board, base + BELL, bell, min(left_ns, _NAP_NS))
        if load_acquire(board, base + BELL) != bell:
            board[base + WAKES_RECEIVED] += 1
