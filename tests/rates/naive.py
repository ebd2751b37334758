"""The rules of rate limits again, in dictionaries and whole seconds, sharing no code with the kernels."""

from typing import NamedTuple

from gateway.rates.rules import RateLimits

SKEW_S = 60
DAY_S = 86_400
CALLS = {
    "request": ((("ip", "ip_weight"), ("ip", "ip_requests")), (("key", "key_weight"),)),
    "connection": ((("ip", "ip_connections"),),),
    "order": ((("account", "account_orders"),),),
    "sign_in": ((("name", "sign_ins_of_name"),), (("peer", "sign_ins_from_peer"),)),
}
"""For each call the counters of its first and second subject."""
BANNED = frozenset({"ip", "key", "account"})


class Said(NamedTuple):
    """``code`` 0 allowed, 1 refused, 2 banned; ``retry_ms``, 0 where allowed."""

    code: int
    retry_ms: int


class Naive:
    """Counts by (subject, counter, window); ``now_ms`` is the clock."""

    def __init__(self, settings: RateLimits) -> None:
        self.settings = settings
        self.now_ms = 0
        self.counts: dict[tuple[str, str, int], tuple[int, int]] = {}
        self.strikes: dict[str, tuple[int, int]] = {}
        self.bans: dict[str, tuple[int, int]] = {}

    def window(self, former: int, window_s: int) -> int:
        """The clock's window, or a former one that the clock was set back from, if by little."""
        now_s = self.now_ms // 1000
        ahead = former > now_s // window_s and former * window_s <= now_s + SKEW_S
        return former if ahead else now_s // window_s

    def count(self, subject: str, counter: str, window_s: int) -> tuple[int, int]:
        number, count = self.counts.get((subject, counter, window_s), (-1, 0))
        present = self.window(number, window_s)
        return present, count if number == present else 0

    def take(self, subjects: list[str], call: str, amounts: dict[str, int]) -> Said:
        counted = []
        for subject, counters in zip(subjects, CALLS[call], strict=False):
            if self.bans.get(subject, (0, 0))[0] > self.now_ms // 1000:
                return Said(2, self.bans[subject][0] * 1000 - self.now_ms)
            full_ms = []
            for _, counter in counters:
                for row in getattr(self.settings, counter):
                    number, count = self.count(subject, counter, row.window_s)
                    if count + amounts[counter] > row.limit:
                        full_ms.append((row.window_s, (number + 1) * row.window_s * 1000 - self.now_ms))
                    counted.append(((subject, counter, row.window_s), (number, count + amounts[counter])))
            if full_ms:
                return self.refused(subject, max(full_ms)[1])
        # A window in which nothing was counted is not begun.
        self.counts.update((key, value) for key, value in counted if amounts[key[1]])
        return Said(0, 0)

    def refused(self, subject: str, retry_ms: int) -> Said:
        now_s = self.now_ms // 1000
        if subject.split(maxsplit=1)[0] not in BANNED:
            return Said(1, retry_ms)
        number, count = self.strikes.get(subject, (-1, 0))
        present = self.window(number, 60)
        count = count + 1 if number == present else 1
        self.strikes[subject] = (present, count)
        if count < self.settings.ban_after:
            return Said(1, retry_ms)
        until_s, level = self.bans.get(subject, (0, 0))
        level = max(level - (now_s - until_s) // DAY_S, 0) + 1
        lasts_s = min(self.settings.ban_first_s * 2 ** (level - 1), self.settings.ban_max_s)
        self.bans[subject] = (now_s + lasts_s, level)
        self.strikes[subject] = (-1, 0)
        return Said(2, (now_s + lasts_s) * 1000 - self.now_ms)

    def add(self, subject: str, counter: str, amount: int) -> None:
        for row in getattr(self.settings, counter):
            number, count = self.count(subject, counter, row.window_s)
            self.counts[subject, counter, row.window_s] = number, max(count + amount, 0)
