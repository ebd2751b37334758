"""The clients of the latency bench: one order at a time, and the cache line that two processes send to and fro."""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol import board as b
from protocol.jit import entry
from ringbuf.atomics import load_acquire, now_ns, pause, sched_yield, store_release
from ringbuf.ring import Ring, advance, publish, published, room
from ringbuf.waiting import ADAPTIVE, idle_wait, woke

PING: Final = 0
PONG: Final = 32
PING_WORDS: Final = 64
"""Words of the shared array of ``send_pings``: both cursors, 256 bytes apart."""

_PATIENCE_NS: Final = 10_000_000_000


@entry
def round_trips(
    ingress: Ring,
    outcomes: Ring,
    reader: int,
    board: np.ndarray,
    line: int,
    slots: np.ndarray,
    durable: bool,
    out_ns: np.ndarray,
) -> int:
    """Send one command at a time and wait for its outcome; the next is sent when that has come.

    Parameters
    ----------
    ingress : Ring, of which the caller is the writer; a command's number is its position
    outcomes : Ring, of which the caller is the gating reader ``reader``
    board : int64 board of the instance
    line : int, the caller's bell line
    slots : COMMAND[n], numbered on from the ingress ring's cursor; seq is the number, no groups
    durable : bool, wait for the journal too
    out_ns : int64[n], gets the time from before the command is published to the outcome read

    Returns
    -------
    int
        Commands done: n, or fewer where the engine stopped or stood still for ten seconds.
    """
    mask = np.int64(ingress.slots.shape[0] - 1)
    outcome_mask = np.int64(outcomes.slots.shape[0] - 1)
    idle = np.int64(0)
    for k in range(len(slots)):
        number = slots[k]["seq"]
        begin_ns = now_ns()
        while room(ingress, 1) < 1:
            if now_ns() - begin_ns > _PATIENCE_NS:
                return k
            sched_yield()
        begin_ns = now_ns()
        ingress.slots[(number - 1) & mask] = slots[k]
        publish(ingress, number)
        while True:
            last = published(outcomes)
            settled = last > 0 and outcomes.slots[(last - 1) & outcome_mask]["seq"] >= number
            if settled and (not durable or load_acquire(board, b.DURABLE_SEQ) >= number):
                break
            idle = idle_wait(board, line, idle, ADAPTIVE)
            if now_ns() - begin_ns > _PATIENCE_NS:
                return k
        out_ns[k] = now_ns() - begin_ns
        idle = woke(board, line, idle)
        advance(outcomes, reader, last)
    return len(slots)


@entry
def send_pings(words: np.ndarray, out_ns: np.ndarray) -> None:
    """Send n pings, each after the answer to the one before; ``words`` int64[PING_WORDS], ``out_ns`` int64[n]."""
    for k in range(len(out_ns)):
        begin_ns = now_ns()
        store_release(words, PING, k + 1)
        while load_acquire(words, PONG) != k + 1:
            pause()
        out_ns[k] = now_ns() - begin_ns


@entry
def answer_pings(words: np.ndarray, count: int) -> None:
    """Answer ``count`` pings."""
    for k in range(count):
        while load_acquire(words, PING) != k + 1:
            pause()
        store_release(words, PONG, k + 1)
