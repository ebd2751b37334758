"""What is counted of whom in which window, and when who goes on is banned: ``[rate_limits]`` of the configuration, and as data."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

IP: Final = 1
KEY: Final = 2
ACCOUNT: Final = 3
LOGON: Final = 4
SESSION: Final = 5
NAME: Final = 6
PEER: Final = 7
KINDS: Final = {
    IP: "ip",
    KEY: "key",
    ACCOUNT: "account",
    LOGON: "account logons",
    SESSION: "session",
    NAME: "name",
    PEER: "peer",
}
"""Kinds of subjects. An account's logons are apart from its orders: who is banned from ordering must still get in to cancel."""
BANNED_KINDS: Final = frozenset({IP, KEY, ACCOUNT})
"""Kinds that are banned. Names and peers are not: whoever knows a name would keep its owner out for days by guessing."""

KIND_SHIFT: Final = 60
"""The kind is in the upper bits of what stands for a subject."""
SLOTS: Final = 4
"""Windows that are counted of one subject."""
DAY_S: Final = 86_400
COUNT_MAX: Final = (1 << 31) - 1
LEVEL_MAX: Final = 40
"""Doublings of a ban; the longest is reached much earlier."""

Limit = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
Duration = Annotated[int, Meta(ge=1, le=30 * DAY_S)]


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most ``limit`` in a window of ``window_s`` seconds, which begins when the UTC clock is a multiple of it."""

    window_s: Annotated[int, Meta(ge=1, le=DAY_S)]
    limit: Limit


class Counter(NamedTuple):
    """What a field of ``RateLimits`` counts: ``measure`` numbers the counters of one kind of subject."""

    name: str
    kind: int
    measure: int
    type: str


COUNTERS: Final = (
    Counter("ip_weight", IP, 0, "REQUEST_WEIGHT"),
    Counter("ip_requests", IP, 1, "RAW_REQUESTS"),
    Counter("ip_connections", IP, 2, "CONNECTIONS"),
    Counter("key_weight", KEY, 0, "REQUEST_WEIGHT"),
    Counter("account_orders", ACCOUNT, 0, "ORDERS"),
    Counter("account_logons", LOGON, 0, "LOGONS"),
    Counter("session_messages", SESSION, 0, "MESSAGES"),
    Counter("sign_ins_of_name", NAME, 0, "SIGN_INS"),
    Counter("sign_ins_from_peer", PEER, 0, "SIGN_INS"),
)


class RateLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[rate_limits]``: how often somebody may; a list of ``{ window_s = …, limit = … }`` each, empty: no limit."""

    rows: Annotated[int, Meta(ge=64, le=1 << 24)] = 1 << 17
    """Addresses, keys, accounts, sessions and names that are counted at a time, a power of two; 64 bytes each."""
    ip_weight: tuple[Window, ...] = (Window(60, 6_000),)
    ip_requests: tuple[Window, ...] = (Window(300, 61_000),)
    ip_connections: tuple[Window, ...] = (Window(300, 300),)
    key_weight: tuple[Window, ...] = (Window(60, 12_000),)
    account_orders: tuple[Window, ...] = (Window(10, 100), Window(DAY_S, 200_000))
    account_logons: tuple[Window, ...] = (Window(30, 15),)
    session_messages: tuple[Window, ...] = (Window(10, 10_000),)
    sign_ins_of_name: tuple[Window, ...] = (Window(300, 10),)
    """Sign-ins that failed."""
    sign_ins_from_peer: tuple[Window, ...] = (Window(300, 50),)
    ban_after: Limit = 30
    """Refusals in a minute after which an address, key or account is banned."""
    ban_first_s: Duration = 120
    """The first ban; each further one lasts twice as long, and each day without one takes a step back."""
    ban_max_s: Duration = 3 * DAY_S

    def __post_init__(self) -> None:
        """Check what types cannot say; ValueError names the field and the rule."""
        if self.rows & (self.rows - 1):
            raise ValueError(f"rows = {self.rows}: a power of two")
        if self.ban_first_s > self.ban_max_s:
            raise ValueError(f"ban_first_s = {self.ban_first_s}: must not be above ban_max_s = {self.ban_max_s}")
        used = dict.fromkeys(KINDS, 0)
        for counter in COUNTERS:
            windows = [row.window_s for row in getattr(self, counter.name)]
            used[counter.kind] += len(windows)
            if len(set(windows)) < len(windows):
                raise ValueError(f"{counter.name}: two limits have one window_s; give one")
            for window_s in windows:
                if DAY_S % window_s:
                    raise ValueError(
                        f"{counter.name}: window_s = {window_s} does not divide a day, so that it could not be aligned to the clock"
                    )
        for kind, count in used.items():
            if count > SLOTS:
                names = ", ".join(row.name for row in COUNTERS if row.kind == kind)
                raise ValueError(f"{names}: {count} windows together; {SLOTS} are counted")


class Rule(NamedTuple):
    """One limit: of a counter, in one window. ``number`` is how verdicts name it."""

    number: int
    counter: Counter
    window_s: int
    limit: int

    @property
    def interval(self) -> tuple[str, int]:
        """Unit and how many, as ``exchangeInfo`` has them: ("MINUTE", 1)."""
        for unit, seconds in (("DAY", DAY_S), ("MINUTE", 60)):
            if self.window_s % seconds == 0:
                return unit, self.window_s // seconds
        return "SECOND", self.window_s

    @property
    def suffix(self) -> str:
        """The window as names of headers have it: "1M", "10S", "1D"."""
        unit, count = self.interval
        return f"{count}{unit[0]}"


def rules(settings: RateLimits) -> dict[int, Rule]:
    """All limits by number. Longer windows of a subject stand first, so that a refusal names the one that lasts longest."""
    found = {}
    for kind in KINDS:
        windows = [
            (row, counter) for counter in COUNTERS if counter.kind == kind for row in getattr(settings, counter.name)
        ]
        windows.sort(key=lambda pair: -pair[0].window_s)
        for slot, (row, counter) in enumerate(windows):
            number = kind * SLOTS + slot
            found[number] = Rule(number, counter, row.window_s, row.limit)
    return found


def listed(settings: RateLimits) -> list[dict[str, Any]]:
    """All limits as data, for operators."""
    return [
        {
            "counter": rule.counter.name,
            "of": KINDS[rule.counter.kind],
            "type": rule.counter.type,
            "window_s": rule.window_s,
            "limit": rule.limit,
            "bans": rule.counter.kind in BANNED_KINDS,
        }
        for rule in rules(settings).values()
    ]


def exchange_info(settings: RateLimits) -> list[dict[str, Any]]:
    """``rateLimits`` of ``exchangeInfo``: what clients of the retail gateway throttle themselves by."""
    shown = ("ip_weight", "account_orders", "ip_requests")
    found = []
    for name in shown:
        ordered = sorted(
            (r for r in rules(settings).values() if r.counter.name == name), key=lambda rule: rule.window_s
        )
        for rule in ordered:
            unit, count = rule.interval
            found.append(
                {"rateLimitType": rule.counter.type, "interval": unit, "intervalNum": count, "limit": rule.limit}
            )
    return found
