"""A ring of fixed-size slots with one writer and up to 16 readers, on shared or private memory.

Cursors are 64-bit counts of slots and never wrap. Position p counts from 1 and lies in ``slots[(p - 1) & (capacity -
1)]``; a cursor is the last position published or read, 0 (or ``start``) when there is none.

A *gating* reader holds the writer back: no slot is overwritten before that reader advanced past it. A reader that
does not gate copies a slot and then asks ``still_valid``: the writer announces by ``claim`` what it is about to
overwrite.

The header is an int64 array. What different parties write lies two lines (256 bytes) apart; what is written once lies
together.
"""

import mmap
from typing import NamedTuple

import numpy as np
from numba import njit

from ringbuf.atomics import (
    fence,
    fence_acquire,
    fence_release,
    load_acquire,
    load_relaxed,
    store_relaxed,
    store_release,
)
from ringbuf.board import NO_BELL, private_board, ring_bell

__all__ = [
    "ACTIVE_MASK",
    "BELL_MASK",
    "CACHED_MIN",
    "CAPACITY",
    "EPOCH",
    "FIRST_READER",
    "GATING_MASK",
    "HEADER_WORDS",
    "INTENT",
    "MAGIC",
    "MAX_READERS",
    "PUBLISHED",
    "READER_BELLS",
    "READER_CURSOR",
    "READER_FOLLOWERS",
    "READER_PID",
    "READER_START_TICKS",
    "READER_WORDS",
    "RING_MAGIC",
    "RING_VERSION",
    "SCHEMA_HASH",
    "SLOT_SIZE",
    "START",
    "VERSION",
    "WANTS_ROOM",
    "WRITER_BELL",
    "WRITER_PID",
    "WRITER_START_TICKS",
    "Ring",
    "advance",
    "claim",
    "lag",
    "min_cursor",
    "private_ring",
    "publish",
    "published",
    "reader_cursor",
    "room",
    "still_valid",
]

RING_MAGIC = 0x474E495246554252  # "RBUFRING", little endian
RING_VERSION = 1
MAX_READERS = 16

# Words of the header. Written at creation, or when a party joins or leaves:
MAGIC = 0
VERSION = 1
SLOT_SIZE = 2
CAPACITY = 3
SCHEMA_HASH = 4
EPOCH = 5
START = 6
WRITER_PID = 7
WRITER_START_TICKS = 8
WRITER_BELL = 9
ACTIVE_MASK = 10
GATING_MASK = 11
BELL_MASK = 12
READER_BELLS = 16  # 16 words: the bell line of each reader
# Written by the writer; INTENT is the highest position that it may be writing, WANTS_ROOM the cursor that it waits for
# all gating readers to reach, 0 = it does not wait.
PUBLISHED = 32
INTENT = 64
WANTS_ROOM = 96
CACHED_MIN = 128
# One block for each reader: its cursor, and a line away what is seldom written.
FIRST_READER = 160
READER_WORDS = 32
READER_CURSOR = 0
READER_PID = 16
READER_START_TICKS = 17
READER_FOLLOWERS = 18  # mask of the readers that wait for this one
HEADER_WORDS = 1024

_LARGEST = 0x7FFFFFFFFFFFFFFF


class Ring(NamedTuple):
    """A ring as kernels take it.

    Attributes
    ----------
    words : np.ndarray
        int64[1024], the header.
    slots : np.ndarray
        Structured array of ``capacity`` slots, a power of two.
    board : np.ndarray
        int64 board with the bell lines of the ring's parties.
    """

    words: np.ndarray
    slots: np.ndarray
    board: np.ndarray


@njit(cache=True)
def published(ring):
    """Last position published (acquire): all slots up to it may be read."""
    return load_acquire(ring.words, PUBLISHED)


@njit(cache=True)
def reader_cursor(ring, reader):
    """Last position that ``reader`` (0..15) has finished (acquire)."""
    return load_acquire(ring.words, FIRST_READER + reader * READER_WORDS + READER_CURSOR)


@njit(cache=True)
def lag(ring, reader):
    """Number of slots published and not yet finished by ``reader``."""
    cursor = load_acquire(ring.words, FIRST_READER + reader * READER_WORDS + READER_CURSOR)
    return load_acquire(ring.words, PUBLISHED) - cursor


@njit(cache=True)
def min_cursor(ring, mask):
    """Least cursor (acquire) of the readers whose bits are set in ``mask``; the published cursor for an empty mask."""
    return _least(ring.words, mask)


@njit(cache=True)
def room(ring, wanted):
    """Number of slots after the published cursor that the writer may fill now.

    Exact when less than ``wanted``; otherwise at least ``wanted``. Writer only. When there is too little, the position
    is noted that all gating readers must reach, and those that do ring the writer's bell.
    """
    words = ring.words
    capacity = np.int64(ring.slots.shape[0])
    free = capacity - (load_relaxed(words, PUBLISHED) - load_relaxed(words, CACHED_MIN))
    if free >= wanted:
        return free
    return _refreshed_room(words, capacity, wanted)


@njit(cache=True)
def claim(ring, position):
    """Announce that slots up to ``position`` are about to be written, for readers that do not gate. Writer only."""
    # Never downwards: what a writer that died had begun to overwrite stays announced to its successor's readers.
    if position > load_relaxed(ring.words, INTENT):
        store_relaxed(ring.words, INTENT, position)
    fence_release()


@njit(cache=True)
def publish(ring, position):
    """Make all slots up to ``position`` readable and ring the readers that sleep. Writer only; once a batch."""
    _publish(ring.words, ring.board, position)


@njit(cache=True)
def advance(ring, reader, position):
    """Say that ``reader`` has finished all slots up to ``position``; wakes a writer short of room, and followers."""
    _advance(ring.words, ring.board, reader, position)


@njit(cache=True)
def still_valid(ring, position):
    """Whether the slot of ``position``, copied before this call, was not being overwritten meanwhile.

    For readers that do not gate; the writer must ``claim`` before it writes.
    """
    fence_acquire()
    return load_acquire(ring.words, INTENT) - position < ring.slots.shape[0]


@njit(cache=True)
def _least(words, mask):
    least = _LARGEST
    reader = 0
    while mask != 0:
        if mask & 1:
            least = min(least, load_acquire(words, FIRST_READER + reader * READER_WORDS + READER_CURSOR))
        mask >>= 1
        reader += 1
    return load_acquire(words, PUBLISHED) if least == _LARGEST else least


@njit(cache=True)
def _refreshed_room(words, capacity, wanted):
    head = load_relaxed(words, PUBLISHED)
    # Pairs with the fence of a reader that joins: it sees our cursor or we see its bit.
    fence()
    least = _least(words, load_acquire(words, GATING_MASK))
    if capacity - (head - least) < wanted:
        # Flag, fence, look again: a reader that advances stores its cursor, passes a fence and looks at the flag.
        store_relaxed(words, WANTS_ROOM, head + wanted - capacity)
        fence()
        least = _least(words, load_acquire(words, GATING_MASK))
    if capacity - (head - least) >= wanted and load_relaxed(words, WANTS_ROOM) != 0:
        store_relaxed(words, WANTS_ROOM, 0)
    store_relaxed(words, CACHED_MIN, least)
    return capacity - (head - least)


@njit(cache=True)
def _publish(words, board, position):
    store_release(words, PUBLISHED, position)
    mask = load_relaxed(words, BELL_MASK)
    if mask == 0:
        return
    fence()
    _ring_readers(words, board, mask)


@njit(cache=True)
def _ring_readers(words, board, mask):
    reader = 0
    while mask != 0:
        if mask & 1:
            ring_bell(board, load_relaxed(words, READER_BELLS + reader))
        mask >>= 1
        reader += 1


@njit(cache=True)
def _advance(words, board, reader, position):
    block = FIRST_READER + reader * READER_WORDS
    store_release(words, block + READER_CURSOR, position)
    fence()
    if 0 < load_relaxed(words, WANTS_ROOM) <= position:
        ring_bell(board, load_relaxed(words, WRITER_BELL))
    followers = load_relaxed(words, block + READER_FOLLOWERS)
    if followers != 0:
        _ring_readers(words, board, followers & load_relaxed(words, BELL_MASK))


def private_ring(
    dtype: np.dtype,
    capacity: int,
    n_readers: int = 1,
    start: int = 0,
    *,
    gating: bool = True,
    board: np.ndarray | None = None,
    bell_lines: tuple[int, ...] = (),
    writer_bell: int = NO_BELL,
) -> Ring:
    """A ring on private memory, for engines fused into one thread and for tests; readers 0 .. n_readers - 1 are there.

    ``bell_lines`` gives the readers' lines on ``board``; by default nobody has a bell, and publishing needs no fence.
    """
    assert capacity > 0, f"capacity is {capacity}; it must be a power of two"
    assert capacity & (capacity - 1) == 0, f"capacity is {capacity}; it must be a power of two"
    assert 0 <= n_readers <= MAX_READERS, f"{n_readers} readers; a ring has at most {MAX_READERS}"
    words = np.zeros(HEADER_WORDS, dtype=np.int64)
    fill_header(words, np.dtype(dtype).itemsize, capacity, 0, 0, start)
    words[WRITER_BELL] = writer_bell
    mask = (1 << n_readers) - 1
    words[ACTIVE_MASK] = mask
    words[GATING_MASK] = mask if gating else 0
    for reader in range(n_readers):
        words[FIRST_READER + reader * READER_WORDS + READER_CURSOR] = start
    for reader, line in enumerate(bell_lines):
        words[READER_BELLS + reader] = line
        if line != NO_BELL:
            words[BELL_MASK] |= 1 << reader
    slots = np.zeros(capacity, dtype=dtype)
    # Every page is there before the first slot is written, so that the system does not make them one by one in a hot path.
    slots.view(np.uint8)[:: mmap.PAGESIZE] = 0
    return Ring(words, slots, private_board() if board is None else board)


def fill_header(words: np.ndarray, slot_size: int, capacity: int, schema_hash: int, epoch: int, start: int) -> None:
    """Write the header of a new ring without parties into ``words`` (int64[1024], zeroed)."""
    words[MAGIC] = RING_MAGIC
    words[VERSION] = RING_VERSION
    words[SLOT_SIZE] = slot_size
    words[CAPACITY] = capacity
    words[SCHEMA_HASH] = schema_hash
    words[EPOCH] = epoch
    words[START] = start
    words[WRITER_BELL] = NO_BELL
    words[READER_BELLS : READER_BELLS + MAX_READERS] = NO_BELL
    words[PUBLISHED] = start
    words[INTENT] = start
    words[CACHED_MIN] = start
