"""What gateways call: may this request, order, message, logon or sign-in be, and how much has been used.

A call is a kernel's, one to two microseconds, and counts in the table that all gateway processes of the machine share. A limiter
is used by one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from gateway.rates import rules as r
from gateway.rates import table as t
from gateway.rates.kernels import ALLOWED, BANNED, REFUSED, add, take
from gateway.rates.rules import KIND_SHIFT, KINDS, SLOTS, RateLimits, Rule, listed, rules
from gateway.rates.subjects import NOBODY, Subject
from gateway.rates.table import COUNTS, ORIGIN_S, OUT, RETRY_MS, ROW_WORDS, RULE, SAID, UNTIL_MS, Table, packed
from ringbuf.atomics import exchange

__all__ = ["ALLOWED", "BANNED", "REFUSED", "Ban", "Limiter", "Verdict"]

_ACCOUNT: Final = r.ACCOUNT << KIND_SHIFT
_LOGON: Final = r.LOGON << KIND_SHIFT
_NONE: Final = -1


class Verdict(msgspec.Struct, gc=False):
    """What a call found: ``code`` is ALLOWED, REFUSED (until the window ends) or BANNED; ``said`` has the rest, as the kernel says it."""

    code: int
    said: list[int]

    @property
    def retry_ms(self) -> int:
        """When to try again; 0 where allowed."""
        return self.said[RETRY_MS]

    @property
    def until_ms(self) -> int:
        """End of a ban, UTC; 0 where there is none."""
        return self.said[UNTIL_MS]

    @property
    def rule(self) -> int:
        """Number of the limit that was reached, of ``Limiter.rules``; -1 where none was."""
        return self.said[RULE]

    @property
    def counts(self) -> list[int]:
        """What stands in each window after this, 4 of the first and 4 of the second subject; ``Limiter.used`` names them."""
        return self.said[COUNTS:]

    @property
    def retry_s(self) -> int:
        """For ``Retry-After``."""
        return -(-self.retry_ms // 1000)


class Ban(NamedTuple):
    """A ban in force; ``level`` is the how manyth in a row, ``until_ms`` UTC."""

    subject: Subject
    until_ms: int
    level: int

    @property
    def kind(self) -> int:
        """Of ``rules.KINDS``."""
        return self.subject.identity >> KIND_SHIFT


class Limiter:
    """Counts in a table by the rules of ``settings``. ``clock_ns`` is UTC; without it kernels look at the system's clock themselves."""

    def __init__(self, table: Table, settings: RateLimits, clock_ns: Callable[[], int] | None = None) -> None:
        self.settings = settings
        self.rules: dict[int, Rule] = rules(settings)
        self._words = table.words
        self._packed = packed(settings, table.seed)
        self._clock_ns = clock_ns
        self._said = self._packed[OUT : OUT + SAID].tolist

    @classmethod
    def attach(cls, path: Path, settings: RateLimits) -> Limiter:
        """The limiter of this process over the instance's table; raises RingError."""
        return cls(t.attach(path, settings), settings)

    # --- requests -----------------------------------------------------------------------------------------------------

    def check_request(self, ip: Subject, key: Subject = NOBODY, weight: int = 1) -> Verdict:
        """Count a request of a weight by address, and by the key that signed it.

        Order entry weighs 0 here, and is refused all the same once the weight is passed; when it fails, ``charge`` its weight.
        """
        return self._take(ip[0], ip[1], key[0], key[1], weight, 1, _NONE)

    def charge(self, ip: Subject, key: Subject, weight: int) -> None:
        """Count weight that was not asked for before; it may pass the limit, and what comes next is refused then."""
        for identity, label in (ip, key):
            if identity:
                self._add(identity, label, weight)

    def count_connection(self, ip: Subject) -> Verdict:
        """Count a connection by address."""
        return self._take(ip[0], ip[1], 0, 0, _NONE, _NONE, 1)

    # --- orders, sessions ---------------------------------------------------------------------------------------------

    def count_order(self, account: int, orders: int = 1) -> Verdict:
        """Count new orders of an account; never asked for cancels."""
        return self._take(_ACCOUNT | account, account, 0, 0, orders, _NONE, _NONE)

    def give_back(self, account: int, orders: int) -> None:
        """Take orders back that were filled; not below what the present windows have."""
        self._add(_ACCOUNT | account, account, -orders)

    def count_logon(self, account: int) -> Verdict:
        """Count a logon to an account."""
        return self._take(_LOGON | account, account, 0, 0, 1, _NONE, _NONE)

    def count_message(self, session: Subject, messages: int = 1) -> Verdict:
        """Count messages of a session."""
        return self._take(session[0], session[1], 0, 0, messages, _NONE, _NONE)

    # --- sign-ins -----------------------------------------------------------------------------------------------------

    def begin_sign_in(self, name: Subject, peer: Subject) -> Verdict:
        """Count a sign-in as failed before its password is hashed, so that many at a time are no way round."""
        return self._take(name[0], name[1], peer[0], peer[1], 1, _NONE, _NONE)

    def passed_sign_in(self, name: Subject, peer: Subject) -> None:
        """Take back what ``begin_sign_in`` counted: it did not fail."""
        for identity, label in (name, peer):
            self._add(identity, label, -1)

    # --- operators ----------------------------------------------------------------------------------------------------

    def used(self, verdict: Verdict, first: Subject, second: Subject = NOBODY) -> list[tuple[Rule, int]]:
        """The limits that ``verdict``, about these subjects, speaks of, and how much of each is used; for headers."""
        found = []
        for part, subject in enumerate((first, second)):
            for slot in range(SLOTS):
                rule = self.rules.get((subject.identity >> KIND_SHIFT) * SLOTS + slot)
                if rule is not None:
                    found.append((rule, verdict.counts[part * SLOTS + slot]))
        return found

    def banned(self) -> list[Ban]:
        """All bans in force, those that last longest first."""
        words = self._rows()
        now_s = self._now_s()
        found = words[words[:, t.BAN] >> t.LEVEL_BITS > now_s]
        bans = [
            Ban(
                Subject(int(row[0]), int(row[t.LABEL])),
                ((int(row[t.BAN]) >> t.LEVEL_BITS) + ORIGIN_S) * 1000,
                int(row[t.BAN]) & t.LEVEL,
            )
            for row in found
        ]
        return sorted(bans, key=lambda ban: -ban.until_ms)

    def unban(self, subject: Subject) -> bool:
        """End a ban and forget those before it; False where there was none. What the windows counted stays."""
        was = False
        now_s = self._now_s()
        for row in np.flatnonzero(self._rows()[:, 0] == subject.identity).tolist():
            exchange(self._words, row * ROW_WORDS + t.STRIKES, 0)
            was |= exchange(self._words, row * ROW_WORDS + t.BAN, 0) >> t.LEVEL_BITS > now_s
        return was

    def status(self) -> dict[str, Any]:
        """The rules and how full the table is, as data; ``shared`` names kinds of subjects that found no place in it."""
        rows = self._rows()
        return {
            "rules": listed(self.settings),
            "ban_after": self.settings.ban_after,
            "ban_first_s": self.settings.ban_first_s,
            "ban_max_s": self.settings.ban_max_s,
            "rows": len(rows),
            "rows_used": int(np.count_nonzero(rows[:, 0])),
            "shared": self._shared(),
        }

    def _shared(self) -> list[str]:
        """Kinds of subjects for which there was no place in the present windows, and which share a row."""
        now_s = self._now_s()
        overflow = int(self._packed[t.OVERFLOW])
        found = set()
        for rule in self.rules.values():
            word = int(self._words[overflow + rule.counter.kind * ROW_WORDS + t.FIRST + rule.number % SLOTS])
            if word & t.LOW and word >> 32 == now_s // rule.window_s:
                found.add(KINDS[rule.counter.kind])
        return sorted(found)

    def _rows(self) -> np.ndarray:
        return self._words[: self.settings.rows * ROW_WORDS].reshape(-1, ROW_WORDS)

    def _now_s(self) -> int:
        """Since ``table.ORIGIN_S``."""
        return (time.time_ns() if self._clock_ns is None else self._clock_ns()) // 1_000_000_000 - ORIGIN_S

    def _take(self, first: int, first_label: int, second: int, second_label: int, a0: int, a1: int, a2: int) -> Verdict:
        now_ms = 0 if self._clock_ns is None else self._clock_ns() // 1_000_000
        code = take(self._words, self._packed, now_ms, first, first_label, second, second_label, a0, a1, a2)
        return Verdict(code, self._said())

    def _add(self, identity: int, label: int, amount: int) -> None:
        now_ms = 0 if self._clock_ns is None else self._clock_ns() // 1_000_000
        add(self._words, self._packed, now_ms, identity, label, amount)


def warm() -> None:
    """Compile or load the kernels."""
    settings = RateLimits(rows=64)
    limiter = Limiter(t.private(settings), settings)
    limiter.count_order(1)
    limiter.give_back(1, 1)
    limiter.unban(Subject(_ACCOUNT | 1))
