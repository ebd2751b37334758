"""What the benches run in their own process: the clients that send and read, and what two processes send to and fro."""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol import board as b
from protocol import enums as e
from protocol.jit import entry, inner
from ringbuf.atomics import futex_wait, futex_wake, load_acquire, now_ns, pause, sched_yield, store_release
from ringbuf.ring import Ring, advance, publish, published, reader_cursor, room
from ringbuf.waiting import ADAPTIVE, SHORTEST_SLEEP_NS, YIELD, idle_wait, woke

PING: Final = 0
PONG: Final = 32
NAP: Final = 48
PING_WORDS: Final = 64
"""Words of the shared array of ``send_pings``: both cursors, 256 bytes apart, and a word that nobody rings."""

_PATIENCE_NS: Final = 10_000_000_000
_NAP_SLACK_NS: Final = 150_000
"""A sleep ends so much before its time, and the rest is waited for awake: timers come late by some 60 us."""
_SETTLE_NS: Final = 30_000
"""After an answer the other process needs a moment until it sleeps again."""


@inner
def _nap_until(words: np.ndarray, end_ns: int) -> None:
    """Sleep until shortly before ``end_ns``, then look at the clock until it is there."""
    left_ns = end_ns - now_ns()
    if left_ns > _NAP_SLACK_NS:
        futex_wait(words, NAP, words[NAP], left_ns - _NAP_SLACK_NS)
    while now_ns() < end_ns:
        pause()


@entry
def send_batches(
    ingress: Ring,
    outcomes: Ring,
    reader: int,
    board: np.ndarray,
    line: int,
    slots: np.ndarray,
    batch: int,
    durable: bool,
) -> int:
    """Send commands as fast as there is room, skip their outcomes, and wait for the last one.

    Parameters
    ----------
    ingress : Ring, of which the caller is the writer; a command's number is its position
    outcomes : Ring, of which the caller is the gating reader ``reader``
    board : int64 board of the instance
    line : int, the caller's bell line
    slots : COMMAND[n], numbered on from the ingress ring's cursor; seq is the number; whole groups
    batch : int, slots that are published at once, and what is left of the last one's group
    durable : bool, wait for the journal too, not only until all is settled

    Returns
    -------
    int
        Slots done: n, or fewer where the engine stopped or stood still for ten seconds.
    """
    n = len(slots)
    if n == 0:
        return 0
    mask = np.int64(ingress.slots.shape[0] - 1)
    quarter = ingress.slots.shape[0] >> 2
    filling = True
    unread_max = np.int64(outcomes.slots.shape[0]) >> 3
    base = np.int64(slots[0]["seq"]) - 1
    read = np.int64(reader_cursor(outcomes, reader))
    at = 0
    end = 0
    idle = np.int64(0)
    stalled_ns = 0
    while True:
        work = 0
        if end == at and at < n:
            end = min(at + batch, n)
            while slots[end - 1]["flags"] & e.FLAG_MORE:
                end += 1
        # A full ring is filled again when a quarter of it is free, so that one wake is worth it.
        wanted = end - at if filling else max(end - at, quarter)
        filling = end > at and room(ingress, wanted) >= wanted
        if filling:
            for k in range(at, end):
                ingress.slots[(base + k) & mask] = slots[k]
            publish(ingress, base + end)
            at = end
            work = 1
        head = published(outcomes)
        if head - read > unread_max or (not work and head > read):
            advance(outcomes, reader, head)
            read = head
            work = 1
        done = at == n and load_acquire(board, b.SETTLED_SEQ) >= base + n
        if done and (not durable or load_acquire(board, b.DURABLE_SEQ) >= base + n):
            advance(outcomes, reader, published(outcomes))
            woke(board, line, idle)
            return n
        if work:
            idle = woke(board, line, idle)
            stalled_ns = 0
            continue
        idle = idle_wait(board, line, idle, ADAPTIVE, SHORTEST_SLEEP_NS)
        if stalled_ns == 0:
            stalled_ns = now_ns()
        elif now_ns() - stalled_ns > _PATIENCE_NS:
            return at


@entry
def round_trips(
    ingress: Ring,
    outcomes: Ring,
    reader: int,
    board: np.ndarray,
    line: int,
    naps: np.ndarray,
    slots: np.ndarray,
    durable: bool,
    pause_ns: int,
    out_ns: np.ndarray,
) -> int:
    """Send one command at a time and look again and again for its outcome; the next is sent when that has come.

    Parameters
    ----------
    ingress, outcomes, reader, board, line : as in ``send_batches``
    naps : int64[PING_WORDS], the caller's own
    slots : COMMAND[n], numbered on from the ingress ring's cursor; seq is the number, no groups
    durable : bool, wait for the journal too
    pause_ns : int, time from an outcome to the next command, mostly slept through
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
        if pause_ns:
            _nap_until(naps, begin_ns + pause_ns)
        begin_ns = now_ns()
        ingress.slots[(number - 1) & mask] = slots[k]
        publish(ingress, number)
        while True:
            last = published(outcomes)
            settled = last > 0 and outcomes.slots[(last - 1) & outcome_mask]["seq"] >= number
            if settled and (not durable or load_acquire(board, b.DURABLE_SEQ) >= number):
                break
            idle = idle_wait(board, line, idle, YIELD)
            if now_ns() - begin_ns > _PATIENCE_NS:
                return k
        out_ns[k] = now_ns() - begin_ns
        idle = woke(board, line, idle)
        advance(outcomes, reader, last)
    return len(slots)


@entry
def open_loop(
    ingress: Ring,
    outcomes: Ring,
    reader: int,
    board: np.ndarray,
    naps: np.ndarray,
    slots: np.ndarray,
    at_ns: np.ndarray,
    settled_ns: np.ndarray,
    durable_ns: np.ndarray,
) -> int:
    """Send each command at its time, whatever became of those before, and note when its outcome was there.

    Times count from when the command was *to be* sent: one that had to wait for room in the ring, or for this loop, has
    waited. So nothing that delays the generator hides what a client with that time-table would have seen.

    Parameters
    ----------
    ingress, outcomes, reader, board, naps, slots : as in ``round_trips``; nothing is in flight
    at_ns : int64[n], never falling; when each is to be sent, from the start
    settled_ns, durable_ns : int64[n], get the times until the last outcome was on the ring, and on disk as well

    Returns
    -------
    int
        Commands done: n, or fewer where the engine stopped or stood still for ten seconds.
    """
    n = len(slots)
    if n == 0:
        return 0
    mask = np.int64(ingress.slots.shape[0] - 1)
    outcome_mask = np.int64(outcomes.slots.shape[0] - 1)
    before = np.int64(slots[0]["seq"]) - 1
    read = np.int64(published(outcomes))
    sent = 0
    settled = 0
    durable = 0
    begin_ns = now_ns() + _NAP_SLACK_NS
    moved_ns = begin_ns
    while durable < n:
        time_ns = now_ns()
        due = sent
        while due < n and begin_ns + at_ns[due] <= time_ns:
            due += 1
        if due > sent:
            last = sent + min(due - sent, room(ingress, due - sent))
            for k in range(sent, last):
                ingress.slots[(before + k) & mask] = slots[k]
            if last > sent:
                publish(ingress, before + last)
            sent = last
        disk = load_acquire(board, b.DURABLE_SEQ)
        head = published(outcomes)
        time_ns = now_ns()
        start = settled
        first = read
        while read < head:
            outcome = outcomes.slots[read & outcome_mask]
            read += 1
            if outcome["source"] == e.SOURCE_REPLAY and outcome["flags"] & e.OUTCOME_LAST:
                # The one producer: its numbers are those of the journal.
                settled = outcome["source_seq"] - before
                settled_ns[settled - 1] = time_ns - begin_ns - at_ns[settled - 1]
        if read > first:
            advance(outcomes, reader, read)
        while durable < settled and durable < disk - before:
            durable_ns[durable] = time_ns - begin_ns - at_ns[durable]
            durable += 1
            moved_ns = time_ns
        if due == sent and settled == start and durable == sent and sent < n:
            # Nothing is in flight.
            _nap_until(naps, begin_ns + at_ns[sent])
            moved_ns = now_ns()
        elif settled == start:
            sched_yield()
            if time_ns - moved_ns > _PATIENCE_NS:
                return durable
    return n


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


@entry
def send_wakes(words: np.ndarray, out_ns: np.ndarray) -> None:
    """Wake the other process and sleep until it wakes this one, n times; ``words``, ``out_ns`` as in ``send_pings``."""
    for k in range(len(out_ns)):
        _nap_until(words, now_ns() + _SETTLE_NS)
        begin_ns = now_ns()
        store_release(words, PING, k + 1)
        futex_wake(words, PING, 1)
        while load_acquire(words, PONG) != k + 1:
            futex_wait(words, PONG, k, _PATIENCE_NS)
        out_ns[k] = now_ns() - begin_ns


@entry
def answer_wakes(words: np.ndarray, count: int) -> None:
    """Sleep until woken and wake the other process, ``count`` times."""
    for k in range(count):
        while load_acquire(words, PING) != k + 1:
            futex_wait(words, PING, k, _PATIENCE_NS)
        store_release(words, PONG, k + 1)
        futex_wake(words, PONG, 1)
