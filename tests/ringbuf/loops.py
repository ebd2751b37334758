"""Compiled loops of a writer and readers that check every word, and helpers to run them as processes."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import numpy as np
from numba import njit

from ringbuf import (
    advance,
    claim,
    idle_wait,
    load_acquire,
    min_cursor,
    publish,
    published,
    reader_cursor,
    room,
    still_valid,
    store_release,
    woke,
)

SLOT = np.dtype([("seq", "i8"), ("payload", "i8", (14,)), ("check", "i8")])
SCHEMA_HASH = 0xF123_4567_89AB_CDEF
STOP = 0  # a word on the application's lines of the board

_MIX = np.int64(0x2545F4914F6CDD1D)


@njit(cache=True)
def fill(slot, position):
    check = position
    for word in range(14):
        value = (position ^ word) * _MIX
        slot["payload"][word] = value
        check ^= value
    slot["check"] = check
    slot["seq"] = position


@njit(cache=True)
def is_whole(slot, position):
    check = slot["seq"]
    for word in range(14):
        check ^= slot["payload"][word]
    return slot["seq"] == position and slot["check"] == check and slot["payload"][0] == position * _MIX


@njit(cache=True, nogil=True)
def write_all(ring, line, until, batch, strategy):
    """Write every position up to ``until`` in batches; stops at the STOP word. Gives the published cursor."""
    head = published(ring)
    mask = ring.slots.shape[0] - 1
    idle = 0
    while head < until and load_acquire(ring.board, STOP) == 0:
        wanted = min(batch, until - head)
        count = min(wanted, room(ring, wanted))
        if count < 1:
            idle = idle_wait(ring.board, line, idle, strategy)
            continue
        claim(ring, head + count)
        for position in range(head + 1, head + count + 1):
            fill(ring.slots[(position - 1) & mask], position)
        head += count
        publish(ring, head)
        idle = woke(ring.board, line, idle)
    return head


@njit(cache=True, nogil=True)
def read_all(ring, reader, behind_mask, line, until, strategy):
    """Check every position up to ``until``, never ahead of the readers in ``behind_mask``; gives the broken slots."""
    cursor = reader_cursor(ring, reader)
    mask = ring.slots.shape[0] - 1
    broken = 0
    idle = 0
    while cursor < until and load_acquire(ring.board, STOP) == 0:
        head = min_cursor(ring, behind_mask)
        if head == cursor:
            idle = idle_wait(ring.board, line, idle, strategy)
            continue
        if head < cursor:
            return -1
        for position in range(cursor + 1, head + 1):
            if not is_whole(ring.slots[(position - 1) & mask], position):
                broken += 1
        cursor = head
        advance(ring, reader, cursor)
        idle = woke(ring.board, line, idle)
    return broken


@njit(cache=True, nogil=True)
def follow_all(ring, until, copy, counts):
    """Read without gating up to ``until``; counts[0] valid, [1] broken though valid, [2] lapped."""
    mask = ring.slots.shape[0] - 1
    position = np.int64(1)
    while position <= until:
        head = published(ring)
        if head < position:
            continue
        copy[0] = ring.slots[(position - 1) & mask]
        if still_valid(ring, position):
            counts[0] += 1
            if not is_whole(copy[0], position):
                counts[1] += 1
            position += 1
        else:
            counts[2] += 1
            position = max(position + 1, published(ring))


def spawn(target: Callable[[], int], result: np.ndarray | None = None, index: int = 0) -> BaseProcess:
    """Fork a process that stores what ``target`` gives in ``result[index]`` (shared memory)."""

    def body() -> None:
        value = target()
        if result is not None:
            store_release(result, index, value)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=body, daemon=True)
    process.start()
    return process


def join_all(processes: list[BaseProcess], timeout_s: float = 30.0) -> None:
    """Wait for all; one that hangs is killed and fails the test."""
    try:
        for process in processes:
            process.join(timeout_s)
            assert process.exitcode == 0, f"a process ended with {process.exitcode}"
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()
