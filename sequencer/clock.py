"""The time that the sequencer stamps: the monotonic clock plus an offset that slews to UTC and never jumps.

A step of the system's clock (or a leap) is followed at 500 ppm at most; a difference of a second or more raises an alarm instead.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol.jit import inner
from ringbuf.atomics import now_ns, realtime_ns

MODE: Final = 0  # CLOCK_LIVE, CLOCK_VIRTUAL or CLOCK_VERBATIM
GIVEN: Final = 1  # 1 = the two clocks are the words below, set from outside, and not the machine's
MONOTONIC_NS: Final = 2
REALTIME_NS: Final = 3
SLEWED_AT_NS: Final = 4
OFFSET_NS: Final = 5
LAST_NS: Final = 6
ALARM: Final = 7  # 1 = UTC is further away than the clock may slew
CLOCK_WORDS: Final = 8

SLEW_PPM: Final = 500
ALARM_NS: Final = 1_000_000_000


def make_clock(mode: int, not_before_ns: int = 0, given: tuple[int, int] | None = None) -> np.ndarray:
    """A clock, int64[CLOCK_WORDS], that continues from ``not_before_ns``.

    ``given``: (monotonic, UTC) where the machine's clocks are not to be read; who gives them sets MONOTONIC_NS and REALTIME_NS
    from then on.
    """
    monotonic_ns, realtime = given or (int(now_ns()), int(realtime_ns()))
    clock = np.zeros(CLOCK_WORDS, dtype=np.int64)
    clock[MODE] = mode
    clock[GIVEN] = given is not None
    clock[MONOTONIC_NS] = monotonic_ns
    clock[REALTIME_NS] = realtime
    clock[SLEWED_AT_NS] = monotonic_ns
    clock[OFFSET_NS] = max(realtime, not_before_ns) - monotonic_ns
    clock[LAST_NS] = not_before_ns
    return clock


@inner
def read(clock):
    """The time now, ns UTC; never below an earlier answer. ``clock`` int64[CLOCK_WORDS] is brought up to date."""
    if clock[GIVEN] == 0:
        clock[MONOTONIC_NS] = now_ns()
        clock[REALTIME_NS] = realtime_ns()
    monotonic_ns = clock[MONOTONIC_NS]
    difference_ns = clock[REALTIME_NS] - monotonic_ns - clock[OFFSET_NS]
    clock[ALARM] = 1 if abs(difference_ns) >= ALARM_NS else 0
    allowed_ns = (monotonic_ns - clock[SLEWED_AT_NS]) * SLEW_PPM // 1_000_000
    if allowed_ns > 0:
        clock[OFFSET_NS] += max(-allowed_ns, min(allowed_ns, difference_ns))
        clock[SLEWED_AT_NS] = monotonic_ns
    clock[LAST_NS] = max(clock[LAST_NS], monotonic_ns + clock[OFFSET_NS])
    return clock[LAST_NS]
