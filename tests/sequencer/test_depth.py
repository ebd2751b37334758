"""The pace of the engine as the sequencer measures it, against queues whose pace is known."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import board as b
from protocol.jit import entry
from sequencer import depth
from sequencer.depth import METER_WORDS, SLOT_NS_MAX, WINDOW_NS

MS = 1_000_000
LOOK_NS = MS


@entry
def measure(meter, board, now_ns):
    """As a step of the sequencer calls it."""
    depth.measure(meter, board, now_ns)


class Server:
    """An engine that settles one slot after the other, looked at now and then as the sequencer does."""

    def __init__(self, seed: int = 1) -> None:
        self.board = np.zeros(b.LINES * b.LINE_WORDS, dtype=np.int64)
        self.meter = np.zeros(METER_WORDS, dtype=np.int64)
        self.rng = random.Random(seed)
        self.now_ns = 10**12
        self.busy_ns = 0

    @property
    def settle_ns(self) -> int:
        return int(self.board[b.SETTLE_NS])

    @property
    def backlog(self) -> int:
        return int(self.board[b.SEQUENCED_SEQ] - self.board[b.SETTLED_SEQ])

    def run(self, ms: int, slot_ns: int, arrive: float) -> None:
        """``arrive``: slots that come in a millisecond, on the average; 0 settled ns = the engine stands still."""
        for _ in range(ms):
            came = int(arrive) + (self.rng.random() < arrive % 1)
            if self.backlog == 0:
                self.busy_ns = 0
            self.board[b.SEQUENCED_SEQ] += came
            if slot_ns and self.backlog:
                self.busy_ns += LOOK_NS
                done = min(self.backlog, self.busy_ns // slot_ns)
                self.busy_ns -= done * slot_ns
                self.board[b.SETTLED_SEQ] += done
            self.now_ns += LOOK_NS
            measure(self.meter, self.board, self.now_ns)


@pytest.mark.parametrize("slot_ns", [2_000, 50_000, MS, 5 * MS])
def test_pace_of_an_overloaded_engine_is_found_within_the_memory(slot_ns: int) -> None:
    server = Server()
    server.run(3 * 256 * slot_ns // MS + 100, slot_ns, 20 * MS / slot_ns)
    assert 0.9 * slot_ns <= server.settle_ns <= 1.02 * slot_ns


def test_engine_that_waits_for_work_is_not_taken_for_a_slow_one() -> None:
    server = Server()
    server.run(2_000, 1_000, 0.2)
    assert 0 == server.settle_ns


def test_pause_with_little_before_it_is_little_news() -> None:
    server = Server()
    server.run(500, 1_000, 0.3)
    server.run(40, 0, 0.1)
    server.run(20, 1_000, 0.3)
    burst_slots = 100
    assert burst_slots * server.settle_ns < 50 * MS


def test_pace_is_remembered_through_rest_and_forgotten_under_easy_load() -> None:
    server = Server()
    server.run(400, MS, 2)
    server.run(500, MS, 0)
    known = server.settle_ns
    assert (0, True) == (server.backlog, known > MS // 2)
    server.run(10_000, 1_000, 0)
    assert known == server.settle_ns
    server.run(5_000, 1_000, 0.5)
    assert server.settle_ns < known // 4


def test_engine_that_became_slower_or_faster_is_seen() -> None:
    server = Server()
    server.run(200, 10_000, 150)
    assert 0 < server.settle_ns < 11_000
    server.run(2_000, 2 * MS, 10)
    assert server.settle_ns > MS
    server.run(200, 10_000, 10)
    assert server.settle_ns < 20_000


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3 * MS), st.integers(0, 40)), max_size=12), st.integers())
def test_pace_is_never_negative_and_never_above_what_a_slot_may_take(
    spells: list[tuple[int, int, int]], seed: int
) -> None:
    server = Server(seed)
    for ms, slot_ns, arrive in spells:
        server.run(ms, slot_ns, arrive)
        assert 0 <= server.settle_ns <= SLOT_NS_MAX


@given(st.integers(1, 1000), st.integers(1, WINDOW_NS - 1))
def test_within_a_window_nothing_is_read_or_written(slots: int, later_ns: int) -> None:
    server = Server()
    server.run(1, 0, slots)
    meter, board = server.meter.copy(), server.board.copy()
    measure(server.meter, server.board, server.now_ns + later_ns)
    assert (meter.tolist(), board.tolist()) == (server.meter.tolist(), server.board.tolist())
