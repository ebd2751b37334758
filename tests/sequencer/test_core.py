"""Merging, stamping and timers of the sequencer, over private rings."""

from __future__ import annotations

import numpy as np
import pytest

from protocol import board as b
from protocol import build
from protocol import enums as e
from protocol.records import COMMAND_DTYPE
from ringbuf.arena import private_arena
from ringbuf.board import private_board
from ringbuf.ring import Ring, advance, private_ring, publish, published
from sequencer import clock as ck
from sequencer import core

SOURCE = e.SOURCE_CONTROL
SECOND_NS = 1_000_000_000


class Bench:
    """One producer, one command ring with one reader, and the state between them."""

    def __init__(self, commands: int = 64, sequenced: int = 0) -> None:
        self.state = core.make_state(private_arena(core.state_spec(4)))
        self.state.sources[SOURCE] = sequenced
        self.ingress: Ring = private_ring(COMMAND_DTYPE, 256, start=0)
        self.commands: Ring = private_ring(COMMAND_DTYPE, commands)
        self.board = private_board(b.LINES)
        self.clock = ck.make_clock(e.CLOCK_LIVE, given=(0, 0))
        self.lane = core.make_lane(SOURCE, self.ingress)
        self.stage = core.make_stage(self.state, self.commands, [self.lane], self.board, self.clock)
        self.sent = 0

    def send(self, *groups: np.ndarray) -> None:
        slots = build.stamp(np.concatenate(groups), SOURCE, self.sent + 1)
        for slot in slots:
            self.ingress.slots[self.sent % 256] = slot
            self.sent += 1
        publish(self.ingress, self.sent)

    def take(self, now_ns: int = 1, clock: int = e.CLOCK_LIVE, limit: int = 128) -> int:
        self.clock[ck.MODE] = clock
        self.clock[ck.MONOTONIC_NS] = self.clock[ck.REALTIME_NS] = now_ns
        return int(core.step(self.stage, limit))

    def read(self) -> np.ndarray:
        """All that has been published, as long as the ring is not lapped."""
        return self.commands.slots[: int(published(self.commands))].copy()


def cancel(entry_ts_ns: int = 0) -> np.ndarray:
    return build.cancel(account=1, instrument=1, order_id=5, entry_ts_ns=entry_ts_ns)


def timer(row: int, period_ns: int, phase_ns: int = 0) -> np.ndarray:
    return build.set_timer(row, period_ns, phase_ns, "op", "why")


def test_slots_are_numbered_gaplessly_and_keep_their_producers_number() -> None:
    bench = Bench()
    bench.send(cancel(), cancel(), cancel())
    assert bench.take(now_ns=77) == 3
    read = bench.read()
    assert read["seq"].tolist() == [1, 2, 3]
    assert read["source_seq"].tolist() == [1, 2, 3]
    assert read["ts_ns"].tolist() == [77, 77, 77]
    assert read["source"].tolist() == [SOURCE] * 3


def test_source_is_written_by_the_sequencer_whatever_the_slot_says() -> None:
    bench = Bench()
    bench.send(cancel())
    bench.ingress.slots[0]["source"] = 9
    bench.take()
    assert bench.read()["source"].tolist() == [SOURCE]


def test_numbers_that_the_journal_has_are_skipped() -> None:
    bench = Bench(sequenced=2)
    bench.send(cancel(), cancel(), cancel())
    assert bench.take() == 1
    assert bench.read()["source_seq"].tolist() == [3]


def test_a_group_stays_whole_when_the_ring_is_nearly_full() -> None:
    bench = Bench(commands=4)
    bench.send(cancel(), cancel(), timer(1, SECOND_NS), cancel())
    assert bench.take() == 4
    assert bench.take() == 0
    advance(bench.commands, 0, 1)
    assert bench.take() == 1


def test_a_group_that_does_not_fit_waits_and_nothing_overtakes_it() -> None:
    bench = Bench(commands=2)
    bench.send(cancel(), timer(1, SECOND_NS), cancel())
    assert bench.take() == 1
    assert bench.take() == 0
    advance(bench.commands, 0, 1)
    assert bench.take() == 2


def test_a_full_ring_is_filled_again_when_an_eighth_of_it_is_free() -> None:
    bench = Bench(commands=32)
    bench.send(*[cancel() for _ in range(60)])
    assert 32 == bench.take()
    for free, taken in [(1, 0), (3, 0), (4, 4), (5, 0), (9, 5)]:
        advance(bench.commands, 0, free)
        assert taken == bench.take(), f"{free} slots were read in all"


def test_limit_stops_between_groups() -> None:
    bench = Bench()
    bench.send(*[cancel() for _ in range(5)])
    assert bench.take(limit=2) == 2
    assert bench.take(limit=2) == 2
    assert bench.take(limit=2) == 1


def test_time_never_falls() -> None:
    bench = Bench()
    bench.send(cancel())
    bench.take(now_ns=50)
    bench.send(cancel())
    bench.take(now_ns=40)
    assert bench.read()["ts_ns"].tolist() == [50, 50]


def test_boundaries_are_sequenced_one_by_one_each_with_its_own_time() -> None:
    bench = Bench()
    bench.send(timer(1, 1_000_000, 3))
    bench.take(now_ns=2_500_000)
    assert bench.take(6_000_000) == 3
    ticks = bench.read()[2:]
    assert ticks["type"].tolist() == [e.TICK] * 3
    assert ticks["ts_ns"].tolist() == [3_000_003, 4_000_003, 5_000_003]


def test_boundary_comes_before_the_first_command_that_is_not_earlier() -> None:
    bench = Bench()
    bench.send(timer(0, 1_000_000))
    bench.take(clock=e.CLOCK_VIRTUAL)
    bench.send(cancel(999_999), cancel(1_000_000), cancel(3_500_000))
    bench.take(clock=e.CLOCK_VIRTUAL)
    read = bench.read()[2:]
    assert read["type"].tolist() == [e.CANCEL, e.CHECKPOINT, e.CANCEL, e.CHECKPOINT, e.CHECKPOINT, e.CANCEL]
    assert read["ts_ns"].tolist() == [999_999, 1_000_000, 1_000_000, 2_000_000, 3_000_000, 3_500_000]


def test_a_timer_of_period_zero_stops() -> None:
    bench = Bench()
    bench.send(timer(1, 1_000_000), timer(1, 0))
    bench.take(now_ns=1)
    assert bench.take(SECOND_NS) == 0


@pytest.mark.parametrize(("row", "period"), [(-1, SECOND_NS), (4, SECOND_NS), (1, 999_999), (1, -5)])
def test_a_timer_out_of_range_changes_nothing(row: int, period: int) -> None:
    bench = Bench()
    bench.send(timer(row, period))
    bench.take(now_ns=1)
    assert not bench.state.timers.any()


def test_verbatim_keeps_what_the_journal_says() -> None:
    bench = Bench()
    bench.send(cancel())
    slot = bench.ingress.slots[0]
    slot["source"], slot["source_seq"], slot["ts_ns"] = 40, 1234, 99
    bench.take(clock=e.CLOCK_VERBATIM)
    read = bench.read()[0]
    assert (read["seq"], read["ts_ns"], read["source"], read["source_seq"]) == (1, 99, 40, 1234)


def test_observing_the_commands_rebuilds_the_state_that_wrote_them() -> None:
    rng = np.random.default_rng(4)
    bench = Bench(commands=1024)
    bench.send(timer(0, 7_000_000), timer(2, 3_000_000, 1_000_000))
    now_ns = 0
    for _ in range(60):
        now_ns += int(rng.integers(0, 2_000_000))
        bench.send(
            *[cancel() for _ in range(int(rng.integers(0, 3)))],
            timer(int(rng.integers(0, 4)), int(rng.integers(0, 3)) * 2_000_000),
        )
        bench.take(now_ns=now_ns)
        bench.take(now_ns)
    rebuilt = core.make_state(private_arena(core.state_spec(4)))
    core.observe(rebuilt, bench.read())
    assert bench.state.sources.tolist() == rebuilt.sources.tolist()
    assert bench.state.timers.tolist() == rebuilt.timers.tolist()
    assert bench.state.meta.tolist() == rebuilt.meta.tolist()


def test_board_says_what_is_taken_of_a_lane_and_how_fast_the_engine_settles() -> None:
    bench = Bench(commands=4)
    bench.send(*[cancel() for _ in range(6)])
    bench.take(now_ns=SECOND_NS)
    assert (4, 4) == (bench.board[b.SEQUENCED_SEQ], bench.board[b.LANE_SEQUENCED + SOURCE])
    assert 0 == bench.board[b.SETTLE_NS]
    bench.board[b.SETTLED_SEQ] = 2
    bench.take(now_ns=SECOND_NS + 10_000_000)
    assert 0 < bench.board[b.SETTLE_NS] <= 5_000_000
    advance(bench.commands, 0, 4)
    bench.take(now_ns=SECOND_NS + 10_000_001)
    assert 6 == bench.board[b.LANE_SEQUENCED + SOURCE]


@pytest.mark.parametrize("clock", [e.CLOCK_VIRTUAL, e.CLOCK_VERBATIM])
def test_pace_is_not_measured_on_a_replayed_clock(clock: int) -> None:
    bench = Bench()
    bench.send(cancel(), cancel())
    bench.take(SECOND_NS, clock)
    bench.board[b.SETTLED_SEQ] = 1
    bench.take(2 * SECOND_NS, clock)
    assert 0 == bench.board[b.SETTLE_NS]


def test_a_flooding_lane_does_not_keep_others_out_of_a_full_command_ring() -> None:
    bench = Bench(commands=4)
    bench.send(*[cancel() for _ in range(100)])
    other: Ring = private_ring(COMMAND_DTYPE, 16)
    slots = build.stamp(np.concatenate([cancel() for _ in range(4)]), e.SOURCE_REPLAY, 1)
    other.slots[:4] = slots
    publish(other, 4)
    lanes = [bench.lane, core.make_lane(e.SOURCE_REPLAY, other)]
    stage = core.make_stage(bench.state, bench.commands, lanes, bench.board, bench.clock)
    for _ in range(20):
        core.step(stage, 128)
        advance(bench.commands, 0, int(published(bench.commands)))
    assert 4 == bench.state.sources[e.SOURCE_REPLAY]
