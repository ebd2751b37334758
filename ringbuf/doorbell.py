"""A doorbell for asyncio: the event loop sleeps until a ring has news, at no cost to a producer that it does not need.

A thread in compiled code, which does not hold the interpreter lock, sleeps on the process's bell line and only while
the loop has said that it waits. A producer therefore rings once a sleep and never while the loop is at work.
"""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Self

import numpy as np
from numba import njit

from ringbuf.atomics import fence, fetch_add, futex_wait, futex_wake, load_acquire, store_release
from ringbuf.board import BELL, LINE_WORDS, SAVED_WAKES, SLEEPING, SLEEPS, WAKES_RECEIVED, heartbeat
from ringbuf.ring import FIRST_READER, PUBLISHED, READER_CURSOR, READER_WORDS, Ring
from ringbuf.waiting import LONGEST_SLEEP_NS, SHORTEST_SLEEP_NS

__all__ = ["Doorbell"]

# Words of the control array, a line apart: requests of the loop (futex), and the end.
_REQUEST = 0
_STOP = 16
_CONTROL_WORDS = 32
_PATIENT_TIMEOUTS = 64
_REQUEST_TIMEOUT_NS = 1_000_000_000


class Doorbell:
    """Lets one asyncio task wait for news on rings that this process reads.

    Parameters
    ----------
    board : np.ndarray
        int64 board.
    line : int
        The process's bell line; nobody else of the process sleeps on it.
    watched : sequence of (Ring, int)
        Rings and this process's reader index on each (at least one); the readers were added with ``line`` as their
        bell.
    """

    def __init__(self, board: np.ndarray, line: int, watched: Sequence[tuple[Ring, int]]) -> None:
        assert watched, "a doorbell needs at least one ring to watch"
        self._board = board
        self._line = line
        self._headers = tuple(ring.words for ring, _ in watched)
        self._readers = np.array([reader for _, reader in watched], dtype=np.int64)
        self._control = np.zeros(_CONTROL_WORDS, dtype=np.int64)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._waiter: asyncio.Future[None] | None = None

    def start(self) -> Self:
        """Start the thread for the running event loop."""
        assert self._thread is None, "this doorbell is started already"
        self._loop = asyncio.get_running_loop()
        # Compiles or loads the kernels here, so that the first wait is as quick as all others.
        self._control[_STOP] = 1
        _await_request(self._control, -1)
        _await_news(self._board, self._line, self._headers, self._readers, self._control)
        self._control[_STOP] = 0
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
        self._thread.start()
        return self

    def has_news(self) -> bool:
        """Whether one of the rings has slots that its reader has not finished."""
        return bool(_news(self._headers, self._readers))

    async def wait(self) -> None:
        """Return once a ring has news, or the bell rang for another reason (room on a ring that this process writes).

        Lets other tasks run, also when there is news already. One task at a time.
        """
        assert self._loop is not None, "start() the doorbell before waiting"
        heartbeat(self._board, self._line)
        if self.has_news():
            await asyncio.sleep(0)
            return
        assert self._waiter is None, "two tasks wait on one doorbell"
        self._waiter = self._loop.create_future()
        fetch_add(self._control, _REQUEST, 1)
        futex_wake(self._control, _REQUEST, 1)
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
        self._rung()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        request = 0
        while True:
            request = _await_request(self._control, request)
            if not _await_news(self._board, self._line, self._headers, self._readers, self._control):
                return
            # A loop that was closed without stop() has nobody left to wake; the thread ends at the next request.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._rung)

    def _rung(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@njit(cache=True, nogil=True)
def _news(headers, readers):
    for index, words in enumerate(headers):
        cursor = load_acquire(words, FIRST_READER + readers[index] * READER_WORDS + READER_CURSOR)
        if load_acquire(words, PUBLISHED) > cursor:
            return True
    return False


@njit(cache=True, nogil=True)
def _await_request(control, seen):
    """Sleep until REQUEST differs from ``seen``; gives its value. At the end returns at once."""
    while True:
        request = load_acquire(control, _REQUEST)
        if request != seen or load_acquire(control, _STOP) != 0:
            return request
        futex_wait(control, _REQUEST, seen, _REQUEST_TIMEOUT_NS)


@njit(cache=True, nogil=True)
def _await_news(board, line, headers, readers, control):
    """Sleep on the bell until it rings or a ring has news (True), or the end is asked for (False)."""
    base = line * LINE_WORDS
    timeouts = 0
    while True:
        bell = load_acquire(board, base + BELL)
        store_release(board, base + SLEEPING, 1)
        fence()
        found = _news(headers, readers)
        if found or load_acquire(control, _STOP) != 0:
            if found and timeouts > 0:
                board[base + SAVED_WAKES] += 1
            store_release(board, base + SLEEPING, 0)
            return load_acquire(control, _STOP) == 0
        heartbeat(board, line)
        board[base + SLEEPS] += 1
        sleep_ns = SHORTEST_SLEEP_NS * max(1, timeouts + 2 - _PATIENT_TIMEOUTS)
        futex_wait(board, base + BELL, bell, min(sleep_ns, LONGEST_SLEEP_NS))
        if load_acquire(board, base + BELL) != bell:
            board[base + WAKES_RECEIVED] += 1
            store_release(board, base + SLEEPING, 0)
            return load_acquire(control, _STOP) == 0
        timeouts += 1
