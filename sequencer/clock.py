"""The time that the sequencer stamps: the monotonic clock plus an offset that slews to UTC and never jumps.

A step of the system's clock (or a leap) is followed at 500 ppm at most; a difference of a second or more raises an alarm instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SLEW_PPM: Final = 500
ALARM_NS: Final = 1_000_000_000


class SlewedClock:
    """Nanoseconds UTC that never fall.

    Parameters
    ----------
    monotonic_ns, realtime_ns : the two clocks
    not_before_ns : last time stamped before; the clock continues from it
    """

    def __init__(self, monotonic_ns: Callable[[], int], realtime_ns: Callable[[], int], not_before_ns: int = 0) -> None:
        self._monotonic_ns = monotonic_ns
        self._realtime_ns = realtime_ns
        self._slewed_at_ns = monotonic_ns()
        self._offset_ns = max(realtime_ns(), not_before_ns) - self._slewed_at_ns
        self._last_ns = not_before_ns
        self.alarm = False

    def now_ns(self) -> int:
        """The time now; never below an earlier answer."""
        monotonic_ns = self._monotonic_ns()
        difference_ns = self._realtime_ns() - monotonic_ns - self._offset_ns
        self.alarm = abs(difference_ns) >= ALARM_NS
        allowed_ns = (monotonic_ns - self._slewed_at_ns) * SLEW_PPM // 1_000_000
        if allowed_ns:
            self._offset_ns += max(-allowed_ns, min(allowed_ns, difference_ns))
            self._slewed_at_ns = monotonic_ns
        self._last_ns = max(self._last_ns, monotonic_ns + self._offset_ns)
        return self._last_ns
