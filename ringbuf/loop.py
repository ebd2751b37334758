"""The loop of a process: step, and wait by its strategy when there is nothing to do, until a word of the board says stop."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from ringbuf.atomics import load_acquire
from ringbuf.waiting import idle_wait, woke

__all__ = ["STOPPED", "jitter", "run_loop", "service_time"]

STOPPED: Final = -1
"""Result of a step after which the loop must end, because something is wrong."""

_JITTER_NS_MAX: Final = 2_000_000


def run_loop(
    board: np.ndarray,
    line: int,
    strategy: int,
    step: Callable[[], int],
    stop_word: int,
    delay: Callable[[], None] | None = None,
) -> None:
    """Call ``step`` (which returns the work it did, and never blocks) until ``board[stop_word]`` is not 0.

    Ends early where a step returns STOPPED. ``delay``: called before steps, for tests of timing.
    """
    idle = 0
    while load_acquire(board, stop_word) == 0:
        if delay is not None:
            delay()
        work = step()
        if work == STOPPED:
            return
        idle = woke(board, line, idle) if work else idle_wait(board, line, idle, strategy)


def jitter(seed: int, stage: int) -> Callable[[], None] | None:
    """Forced delays for a stage: now and then a long one, the same sequence for the same seed and stage; None for seed 0."""
    if seed == 0:
        return None
    rng = random.Random(seed + stage)  # noqa: S311 - chance for a test, not a secret

    def delay() -> None:
        if rng.random() < 0.02:
            time.sleep(rng.randrange(_JITTER_NS_MAX) / 1e9)

    return delay


def service_time(delay_us: int, has_work: Callable[[], bool]) -> Callable[[], None]:
    """A stage that takes ``delay_us`` for each step that has work, and none to see that there is none."""

    def delay() -> None:
        if has_work():
            time.sleep(delay_us / 1e6)

    return delay
