"""The stamped time: it slews, never jumps, never falls."""

from __future__ import annotations

import time

import numpy as np

from protocol import enums as e
from protocol.jit import entry
from sequencer import clock as ck

SECOND_NS = 1_000_000_000


@entry
def read(clock: np.ndarray) -> int:
    return ck.read(clock)


class Clocks:
    """A monotonic and a UTC clock that the test sets."""

    def __init__(self) -> None:
        self.monotonic = 5 * SECOND_NS
        self.utc = 1_700_000_000 * SECOND_NS

    def slewed(self, not_before_ns: int = 0) -> Slewed:
        return Slewed(self, not_before_ns)

    def pass_time(self, ns: int) -> None:
        self.monotonic += ns
        self.utc += ns


class Slewed:
    """The sequencer's clock over the two."""

    def __init__(self, clocks: Clocks, not_before_ns: int) -> None:
        self.clocks = clocks
        self.words = ck.make_clock(e.CLOCK_LIVE, not_before_ns, given=(clocks.monotonic, clocks.utc))

    def now_ns(self) -> int:
        self.words[ck.MONOTONIC_NS] = self.clocks.monotonic
        self.words[ck.REALTIME_NS] = self.clocks.utc
        return int(read(self.words))

    @property
    def alarm(self) -> bool:
        return bool(self.words[ck.ALARM])


def test_clock_starts_at_utc_and_runs_with_the_monotonic_clock() -> None:
    clocks = Clocks()
    clock = clocks.slewed()
    assert clock.now_ns() == clocks.utc
    clocks.pass_time(123)
    assert clock.now_ns() == clocks.utc


def test_a_step_of_utc_is_followed_at_500_ppm_and_raises_the_alarm() -> None:
    clocks = Clocks()
    clock = clocks.slewed()
    before = clock.now_ns()
    clocks.utc += 10 * SECOND_NS
    clocks.pass_time(SECOND_NS)
    assert clock.now_ns() - before == SECOND_NS + 500_000
    assert clock.alarm


def test_utc_set_back_never_makes_time_fall() -> None:
    clocks = Clocks()
    clock = clocks.slewed()
    last = clock.now_ns()
    clocks.utc -= SECOND_NS // 2
    for _ in range(1000):
        clocks.pass_time(777)
        assert clock.now_ns() >= last
        last = clock.now_ns()
    assert not clock.alarm


def test_a_small_difference_is_worked_off() -> None:
    clocks = Clocks()
    clock = clocks.slewed()
    clocks.utc += 1_000_000
    for _ in range(3000):
        clocks.pass_time(1_000_000)
        clock.now_ns()
    assert clock.now_ns() == clocks.utc


def test_clock_continues_from_the_journal_when_utc_is_behind_it() -> None:
    clocks = Clocks()
    later = clocks.utc + 3600 * SECOND_NS
    clock = clocks.slewed(later)
    assert clock.now_ns() >= later


def test_without_given_clocks_the_machines_are_read() -> None:
    before_ns = time.time_ns()
    clock = ck.make_clock(e.CLOCK_LIVE)
    now_ns = int(read(clock))
    assert before_ns - ck.ALARM_NS < now_ns < time.time_ns() + ck.ALARM_NS
    assert read(clock) >= now_ns
