import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from gateway.watch import NEVER, OutcomeWatch
from protocol import board as lines
from protocol.records import OUTCOME_DTYPE
from ringbuf import SLEEPING, Ring, fence, private_ring, ring_bell, store_release
from tests.gateway.support import feed, outcome, running_board

LONG_S = 20.0


def waited_s(
    board: np.ndarray, ring: Ring, durable_seq: int, timeout_s: float, act: Callable[[], None] | None = None
) -> float:
    """How long a wait for outcomes took, when ``act`` happens 50 ms after its beginning."""

    async def run() -> float:
        watch = OutcomeWatch(board, lines.LINE_CONTROL).start()
        timer = threading.Timer(0.05, act or (lambda: None))
        began_s = time.monotonic()
        timer.start()
        await watch.wait(ring, 0, durable_seq, 1, timeout_s)
        took_s = time.monotonic() - began_s
        timer.join()
        watch.stop()
        watch.stop()
        return took_s

    return asyncio.run(run())


@pytest.fixture
def board() -> np.ndarray:
    return running_board()


@pytest.fixture
def ring(board: np.ndarray) -> Ring:
    return private_ring(OUTCOME_DTYPE, 8, 1, gating=False, board=board, bell_lines=(lines.LINE_CONTROL,))


def test_a_new_outcome_ends_the_wait(board: np.ndarray, ring: Ring) -> None:
    assert 0.04 < waited_s(board, ring, NEVER, LONG_S, lambda: feed(ring, outcome(1))) < LONG_S
    assert 0 == board[lines.LINE_CONTROL * lines.LINE_WORDS + SLEEPING]


def test_what_is_there_already_needs_no_wait(board: np.ndarray, ring: Ring) -> None:
    board[lines.DURABLE_SEQ] = 5
    assert waited_s(board, ring, 5, LONG_S) < LONG_S


def test_the_durable_cursor_ends_the_wait(board: np.ndarray, ring: Ring) -> None:
    def sync() -> None:
        store_release(board, lines.DURABLE_SEQ, 5)
        fence()
        ring_bell(board, lines.LINE_CONTROL)

    assert 0.04 < waited_s(board, ring, 5, LONG_S, sync) < LONG_S


def test_a_journal_that_rings_nobody_costs_a_nap(board: np.ndarray, ring: Ring) -> None:
    assert waited_s(board, ring, 5, LONG_S, lambda: store_release(board, lines.DURABLE_SEQ, 5)) < LONG_S


def test_a_new_epoch_ends_the_wait(board: np.ndarray, ring: Ring) -> None:
    assert waited_s(board, ring, NEVER, LONG_S, lambda: store_release(board, lines.EPOCH, 2)) < LONG_S


def test_the_wait_ends_in_time(board: np.ndarray, ring: Ring) -> None:
    assert 0.1 <= waited_s(board, ring, NEVER, 0.1) < LONG_S
