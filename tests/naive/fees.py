"""Fees as the specification says them (4.1), with dicts: schedules in versions, who has which, volumes by day, and what may meet.

Nothing is kept that could be computed: each question walks over all there is.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

E8 = 100_000_000
LIMIT = 1 << 62
DAY_NS = 86_400 * 10**9

Scope = tuple[str | int, ...]
"""("contract", account, instrument), ("account", n), ("firm", n), ("instrument", n) or ("venue",)."""


class Tier(NamedTuple):
    least: int
    maker: int
    taker: int


class Version(NamedTuple):
    schedule: int
    effective_ts_ns: int
    discount: int
    tiers: tuple[Tier, ...]


class Rate(NamedTuple):
    """A rate, the rule (number of the version, from 1; 0 = the instrument's own) and the tier it comes from."""

    rate: int
    rule: int = 0
    tier: int = 0


def effective(rate: int, discount: int) -> int:
    """A charge after the discount, rounded up; rebates stay."""
    return -(-rate * (E8 - discount) // E8) if rate > 0 else rate


def is_schedule(tiers: Iterable[Tier], discount: int) -> bool:
    """Whether these tiers may be configured at all."""
    tiers = list(tiers)
    if not 1 <= len(tiers) <= 7 or not 0 <= discount < E8 or tiers[0].least != 0:
        return False
    if any(not a.least < b.least < LIMIT for a, b in itertools.pairwise(tiers)):
        return False
    first = tiers[0]
    return all(
        0 <= t.taker < E8
        and -E8 < t.maker < E8
        and 10 * t.taker >= 4 * first.taker
        and (t.maker <= 0 or 10 * t.maker >= 4 * first.maker)
        for t in tiers
    )


class FeeBook:
    """``versions`` in the order of their numbers, ``assigned`` schedules by scope, volumes in units of the volume asset."""

    def __init__(self) -> None:
        self.versions: list[Version] = []
        self.assigned: dict[Scope, int] = {}
        self.own: dict[int, tuple[int, int]] = {}
        self.follows_venue: set[int] = set()
        self.volume: dict[tuple[int, int], int] = {}

    def list_instrument(self, instrument: int, maker: int, taker: int) -> None:
        """An instrument listed without rates follows the venue."""
        self.own[instrument] = (maker, taker)
        if (maker, taker) == (0, 0):
            self.follows_venue.add(instrument)

    def in_force(self, schedule: int, ts_ns: int) -> int:
        """Number of the version, 0 = none: of those whose time has come the one with the latest time, of equals the last set."""
        rows = [(v.effective_ts_ns, n) for n, v in enumerate(self.versions, 1) if v.schedule == schedule]
        return max((row for row in rows if row[0] <= ts_ns), default=(0, 0))[1]

    def rule(self, account: int, firm: int, instrument: int, ts_ns: int) -> int:
        """The most specific scope that has a schedule in force."""
        scopes: list[Scope] = [("contract", account, instrument), ("account", account), ("firm", firm)]
        scopes.append(("instrument", instrument))
        if instrument in self.follows_venue:
            scopes.append(("venue",))
        found = (self.in_force(self.assigned[scope], ts_ns) for scope in scopes if self.assigned.get(scope))
        return next((rule for rule in found if rule), 0)

    def thirty_days(self, master: int, ts_ns: int) -> int:
        """Volume of the 30 complete UTC days before."""
        today = ts_ns // DAY_NS
        return min(sum(self.volume.get((master, today - back), 0) for back in range(1, 31)), LIMIT - 1)

    def rate(
        self, account: int, master: int, firm: int, instrument: int, ts_ns: int, *, taker: bool, api: bool
    ) -> Rate:
        """What an order pays in a fill at this time."""
        rule = self.rule(account, firm, instrument, ts_ns)
        if rule == 0:
            return Rate(self.own[instrument][taker])
        version = self.versions[rule - 1]
        volume = self.thirty_days(master, ts_ns)
        tier = max(k for k, t in enumerate(version.tiers) if t.least <= volume)
        rate = version.tiers[tier].taker if taker else version.tiers[tier].maker
        return Rate(effective(rate, version.discount) if api else rate, rule, tier + (128 if api else 0))

    def add_volume(self, master: int, ts_ns: int, units: int) -> None:
        day = ts_ns // DAY_NS
        self.volume[master, day] = min(self.volume.get((master, day), 0) + units, LIMIT - 1)

    def _pairs(self, schedule: int, ts_ns: int) -> Iterator[tuple[int, int]]:
        """Rates (maker, taker) of all versions in force or planned, with the discount: none is lower without."""
        now = self.in_force(schedule, ts_ns)
        for number, version in enumerate(self.versions, 1):
            if version.schedule == schedule and (number == now or version.effective_ts_ns > ts_ns):
                for tier in version.tiers:
                    yield effective(tier.maker, version.discount), effective(tier.taker, version.discount)

    def _market(self, instrument: int, ts_ns: int) -> Iterator[tuple[int, int]]:
        """Rates of those who have nothing of their own."""
        schedule = self.assigned.get(("instrument", instrument), 0)
        if schedule:
            yield from self._pairs(schedule, ts_ns)
            if self.in_force(schedule, ts_ns):
                return
        schedule = self.assigned.get(("venue",), 0) if instrument in self.follows_venue else 0
        if schedule:
            yield from self._pairs(schedule, ts_ns)
            if self.in_force(schedule, ts_ns):
                return
        yield self.own[instrument]

    def is_sound(self, ts_ns: int) -> bool:
        """Whether no maker's rate and taker's rate that may meet in an instrument add up to less than nothing."""
        everywhere: list[tuple[int, int]] = []
        for scope, schedule in self.assigned.items():
            if scope[0] in {"account", "firm"} and schedule:
                everywhere += self._pairs(schedule, ts_ns)
        if not _meet(everywhere):
            return False
        for instrument in self.own:
            here = [*everywhere, *self._market(instrument, ts_ns)]
            for scope, schedule in self.assigned.items():
                if scope[0] == "contract" and scope[2] == instrument and schedule:
                    here += self._pairs(schedule, ts_ns)
            if not _meet(here):
                return False
        return True


def _meet(pairs: list[tuple[int, int]]) -> bool:
    return not pairs or min(maker for maker, _ in pairs) + min(taker for _, taker in pairs) >= 0
