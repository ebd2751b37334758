"""Market-maker protection as its rule reads."""

from dataclasses import dataclass


@dataclass
class Protection:
    """Limits (0 = none) and every fill since they were set: (time, lots, signed lots)."""

    window: int
    lots: int
    net: int
    trades: int
    fills: list[tuple[int, int, int]]
    pulled: bool = False

    def reached(self, now: int) -> bool:
        """A fill counts in the sixteenth of the window in which it was, and in the 15 behind it."""
        step = self.window // 16
        fills = [fill for fill in self.fills if fill[0] // step > now // step - 16]
        lots, net = sum(fill[1] for fill in fills), abs(sum(fill[2] for fill in fills))
        return 0 < self.lots <= lots or 0 < self.net <= net or 0 < self.trades <= len(fills)
