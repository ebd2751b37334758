import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ringbuf import (
    FIRST_BELL_LINE,
    LINE_WORDS,
    SLEEPING,
    Ring,
    advance,
    bell_word,
    claim,
    lag,
    min_cursor,
    private_board,
    private_ring,
    publish,
    published,
    reader_cursor,
    room,
    still_valid,
)
from ringbuf.ring import ACTIVE_MASK, GATING_MASK, WANTS_ROOM
from tests.ringbuf.loops import SLOT, fill, is_whole

LINE = FIRST_BELL_LINE


def put(ring: Ring, count: int) -> None:
    head = published(ring)
    claim(ring, head + count)
    for position in range(head + 1, head + count + 1):
        fill(ring.slots[(position - 1) & (len(ring.slots) - 1)], position)
    publish(ring, head + count)


def test_new_ring_is_empty_and_has_room_for_its_capacity() -> None:
    ring = private_ring(SLOT, 8, n_readers=2)
    assert published(ring) == 0
    assert room(ring, 8) == 8
    assert lag(ring, 0) == lag(ring, 1) == 0


def test_cursors_begin_at_start() -> None:
    ring = private_ring(SLOT, 8, start=1_000_003)
    assert published(ring) == reader_cursor(ring, 0) == 1_000_003
    put(ring, 8)
    assert room(ring, 1) == 0
    assert is_whole(ring.slots[1_000_003 & 7], 1_000_004)


def test_cursors_pass_32_bits_without_wrapping() -> None:
    ring = private_ring(SLOT, 4, start=(1 << 32) - 2)
    put(ring, 4)
    advance(ring, 0, published(ring))
    put(ring, 3)
    assert published(ring) == (1 << 32) + 5
    assert lag(ring, 0) == 3


def test_slots_are_reused_after_the_readers_advanced() -> None:
    ring = private_ring(SLOT, 4)
    for _ in range(10):
        put(ring, 3)
        for position in range(reader_cursor(ring, 0) + 1, published(ring) + 1):
            assert is_whole(ring.slots[(position - 1) & 3], position)
        advance(ring, 0, published(ring))
    assert published(ring) == 30


def test_full_ring_has_no_room_and_the_slowest_reader_decides() -> None:
    ring = private_ring(SLOT, 8, n_readers=3)
    put(ring, 8)
    assert room(ring, 1) == 0
    advance(ring, 0, 8)
    advance(ring, 1, 5)
    assert room(ring, 1) == 0
    advance(ring, 2, 2)
    assert room(ring, 1) == 2
    assert room(ring, 5) == 2
    advance(ring, 2, 8)
    assert room(ring, 5) == 5


def test_room_refused_is_noted_until_there_is_room() -> None:
    ring = private_ring(SLOT, 4)
    put(ring, 3)
    assert room(ring, 1) == 1
    assert ring.words[WANTS_ROOM] == 0
    assert room(ring, 2) == 1
    assert ring.words[WANTS_ROOM] == 1
    advance(ring, 0, 3)
    assert room(ring, 2) == 4
    assert ring.words[WANTS_ROOM] == 0


def test_a_writer_is_rung_only_by_readers_that_made_the_room_it_waits_for() -> None:
    board = private_board(LINE + 1)
    ring = private_ring(SLOT, 8, n_readers=2, board=board, writer_bell=LINE)
    put(ring, 8)
    board[LINE * LINE_WORDS + SLEEPING] = 1
    assert 0 == room(ring, 5)
    advance(ring, 0, 4)
    advance(ring, 1, 4)
    assert 0 == board[bell_word(LINE)], "four slots are free, five are waited for"
    assert 4 == room(ring, 5)
    advance(ring, 1, 5)
    assert 1 == board[bell_word(LINE)]
    assert 4 == room(ring, 5), "the other reader is still before"
    board[LINE * LINE_WORDS + SLEEPING] = 1
    advance(ring, 0, 6)
    assert 2 == board[bell_word(LINE)]
    assert 5 == room(ring, 5)


def test_batch_is_invisible_until_published_with_one_store() -> None:
    ring = private_ring(SLOT, 8)
    claim(ring, 5)
    for position in range(1, 6):
        fill(ring.slots[position - 1], position)
    assert published(ring) == 0
    publish(ring, 5)
    assert published(ring) == 5


def test_min_cursor_takes_the_readers_of_the_mask_only() -> None:
    ring = private_ring(SLOT, 8, n_readers=3)
    put(ring, 6)
    advance(ring, 0, 1)
    advance(ring, 1, 4)
    advance(ring, 2, 6)
    assert min_cursor(ring, 0b111) == 1
    assert min_cursor(ring, 0b110) == 4
    assert min_cursor(ring, 0b100) == 6
    assert min_cursor(ring, 0) == 6


def test_ring_without_gating_readers_never_fills() -> None:
    ring = private_ring(SLOT, 4, n_readers=1, gating=False)
    for _ in range(5):
        assert room(ring, 4) == 4
        put(ring, 4)
    assert lag(ring, 0) == 20


def test_slot_is_valid_until_the_writer_claims_its_place_again() -> None:
    ring = private_ring(SLOT, 4, n_readers=0)
    put(ring, 4)
    assert all(still_valid(ring, position) for position in range(1, 5))
    claim(ring, 5)
    assert not still_valid(ring, 1)
    assert still_valid(ring, 2)
    claim(ring, 8)
    assert not still_valid(ring, 4)


@pytest.mark.parametrize("capacity", [0, -4, 3, 12])
def test_capacity_that_is_no_power_of_two_is_refused(capacity: int) -> None:
    with pytest.raises(AssertionError, match="power of two"):
        private_ring(SLOT, capacity)


def test_private_ring_marks_its_readers() -> None:
    ring = private_ring(SLOT, 4, n_readers=3, gating=True)
    assert ring.words[ACTIVE_MASK] == ring.words[GATING_MASK] == 0b111


CAPACITY = 8
READERS = 3


class TwinOfALargerRing(RuleBasedStateMachine):
    """A tiny ring that is often full gives each reader the same slots as one that never fills."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = private_ring(SLOT, CAPACITY, n_readers=READERS)
        self.written: list[int] = []
        self.read: list[list[int]] = [[] for _ in range(READERS)]

    @rule(wanted=st.integers(1, CAPACITY + 2))
    def write(self, wanted: int) -> None:
        free = CAPACITY - max(len(self.written) - len(seen) for seen in self.read)
        found = room(self.ring, wanted)
        assert found == free if found < wanted else found <= free
        head = len(self.written)
        for position in range(head + 1, head + min(wanted, free) + 1):
            self.ring.slots[(position - 1) % CAPACITY]["seq"] = position * 7
            self.written.append(position * 7)
        publish(self.ring, len(self.written))

    @rule(reader=st.integers(0, READERS - 1), most=st.integers(1, CAPACITY))
    @precondition(lambda self: self.written)
    def read_some(self, reader: int, most: int) -> None:
        cursor = reader_cursor(self.ring, reader)
        head = min(published(self.ring), cursor + most)
        for position in range(cursor + 1, head + 1):
            self.read[reader].append(int(self.ring.slots[(position - 1) % CAPACITY]["seq"]))
        advance(self.ring, reader, head)

    @invariant()
    def every_reader_saw_a_prefix_of_what_was_written(self) -> None:
        for reader, seen in enumerate(self.read):
            assert self.written[: len(seen)] == seen
            assert len(self.written) - len(seen) == lag(self.ring, reader)


TestTwinOfALargerRing = TwinOfALargerRing.TestCase


def test_ring_is_accepted_for_any_record() -> None:
    ring = private_ring(np.dtype([("value", "<i4"), ("pad", "<i4")]), 2)
    ring.slots[0]["value"] = 9
    publish(ring, 1)
    assert lag(ring, 0) == 1
