"""The shared table: a row of 64 bytes, a cache line, for each subject; found by hash, never locked, never full.

    word 0      identity, 0 = free. Set once by an exchange; a row is given to another subject, but never becomes free again
         1      label
         2-5    a window each: number << 32 | count, so that a window turns over in the exchange that counts
         6      refusals of a minute, in the same form
         7      ban: until << 8 | level, in seconds

Numbers and seconds count from ``ORIGIN_S``, a midnight, so that a window of a second has a number of 31 bits until 2088. Behind the
rows stands one for each kind of subject that is shared by those for whom there is no place.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

import numpy as np

from gateway.rates.rules import BANNED_KINDS, COUNTERS, SLOTS, RateLimits, rules
from ringbuf.arena import ArenaSpec, attach_arena, create_arena, private_arena

FILE_NAME: Final = "rate-limits"
ORIGIN_S: Final = 1_577_836_800
"""2020-01-01 00:00 UTC."""

ROW_WORDS: Final = 8
LABEL: Final = 1
FIRST: Final = 2
STRIKES: Final = 6
BAN: Final = 7
LOW: Final = (1 << 32) - 1
LEVEL_BITS: Final = 8
LEVEL: Final = (1 << LEVEL_BITS) - 1
PROBES: Final = 16
"""Rows that are looked at for a subject: a kibibyte that the processor fetches ahead."""
STRIKES_WINDOW_S: Final = 60
SKEW_S: Final = 60
"""What lies further ahead of the clock is of a clock that was set back since, and is not believed."""
FORGET_S: Final = 86_400
"""So long without a ban takes a step of its growth back."""

# Words of ``packed``, which kernels read.
SEED: Final = 0
MASK: Final = 1
OVERFLOW: Final = 2
BAN_AFTER: Final = 3
BAN_FIRST_S: Final = 4
BAN_MAX_S: Final = 5
BANS: Final = 8
RULES: Final = 16
RULE_WORDS: Final = 3
"""Window in seconds (0: none), limit, measure."""

_OVERFLOW_ROWS: Final = 8
OUT: Final = RULES + _OVERFLOW_ROWS * SLOTS * RULE_WORDS
"""Here answers begin."""
RETRY_MS: Final = 0
UNTIL_MS: Final = 1
RULE: Final = 2
COUNTS: Final = 3
SAID: Final = COUNTS + 2 * SLOTS
"""So many words are an answer; what follows is the kernel's own."""
TAKEN: Final = SAID
ROWS: Final = TAKEN + 2 * SLOTS
OUT_WORDS: Final = ROWS + 2

_SCHEMA: Final = 0x7261746531
assert max(counter.kind for counter in COUNTERS) < _OVERFLOW_ROWS


class Table:
    """``words`` int64[(rows + 8) * 8], and the seed that orders it, which nobody outside knows."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.words = arrays["words"]
        self.seed = int(arrays["seed"][0])


def create(path: Path, rows: int) -> None:
    """Make the table's file, for ``rows`` rows, a power of two; raises RingError."""
    create_arena(path, _spec(rows), _SCHEMA)["seed"][0] = _seed()


def attach(path: Path, settings: RateLimits) -> Table:
    """The table that the supervisor made; raises RingError."""
    return Table(attach_arena(path, _spec(settings.rows), _SCHEMA))


def private(settings: RateLimits, seed: int | None = None) -> Table:
    """A table of this process alone."""
    arrays = private_arena(_spec(settings.rows))
    arrays["seed"][0] = _seed() if seed is None else seed
    return Table(arrays)


def packed(settings: RateLimits, seed: int) -> np.ndarray:
    """int64[OUT + OUT_WORDS]: all that kernels need to know, and room for an answer. ``seed`` decides the order of rows in the table."""
    words = np.zeros(OUT + OUT_WORDS, dtype=np.int64)
    words[SEED], words[MASK], words[OVERFLOW] = seed, settings.rows - 1, settings.rows * ROW_WORDS
    words[BAN_AFTER], words[BAN_FIRST_S], words[BAN_MAX_S] = (
        settings.ban_after,
        settings.ban_first_s,
        settings.ban_max_s,
    )
    for kind in BANNED_KINDS:
        words[BANS + kind] = 1
    for rule in rules(settings).values():
        at = RULES + rule.number * RULE_WORDS
        words[at : at + RULE_WORDS] = rule.window_s, rule.limit, rule.counter.measure
    return words


def _spec(rows: int) -> ArenaSpec:
    return (("words", np.int64, (rows + _OVERFLOW_ROWS) * ROW_WORDS), ("seed", np.int64, 1))


def _seed() -> int:
    return secrets.randbits(63)
