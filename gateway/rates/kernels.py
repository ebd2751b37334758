"""Counting in the shared table, by several processes at once, without a lock: every change is one compare-and-exchange.

A process that dies in the middle leaves at most what it had counted already for a request that nobody will answer; windows forget it.
``words`` is the shared table, ``own`` what ``table.packed`` makes: this process's copy of the rules, and the place of its answers.
Times are seconds since ``table.ORIGIN_S``.
"""

from __future__ import annotations

from typing import Final

from gateway.rates.rules import COUNT_MAX, KIND_SHIFT, LEVEL_MAX, SLOTS
from gateway.rates.table import (
    BAN,
    BAN_AFTER,
    BAN_FIRST_S,
    BAN_MAX_S,
    BANS,
    COUNTS,
    FIRST,
    FORGET_S,
    LABEL,
    LEVEL,
    LEVEL_BITS,
    LOW,
    MASK,
    ORIGIN_S,
    OUT,
    OUT_WORDS,
    OVERFLOW,
    PROBES,
    RETRY_MS,
    ROW_WORDS,
    ROWS,
    RULE,
    RULE_WORDS,
    RULES,
    SEED,
    SKEW_S,
    STRIKES,
    STRIKES_WINDOW_S,
    TAKEN,
    UNTIL_MS,
)
from protocol.hashing import mix
from protocol.jit import entry, inner
from ringbuf.atomics import compare_exchange, load_acquire, load_relaxed, realtime_ns, store_relaxed

ALLOWED: Final = 0
REFUSED: Final = 1
BANNED: Final = 2

_NO_LIMIT: Final = 1 << 62
_ORIGIN_MS: Final = ORIGIN_S * 1000


@entry
def take(words, own, now_ms, first, first_label, second, second_label, a0, a1, a2):
    """Count ``a0``, ``a1``, ``a2`` of measures 0 to 2 (below 0: not concerned) for one or two subjects, all or nothing.

    Gives ALLOWED, REFUSED or BANNED; the words of ``own`` behind OUT say more. ``second`` 0: there is none. ``now_ms`` is UTC, 0: the
    system's clock.
    """
    if now_ms == 0:
        now_ms = realtime_ns() // 1_000_000
    now_s = max((now_ms - _ORIGIN_MS) // 1000, 0)
    for at in range(OUT_WORDS):
        own[OUT + at] = -1 if at >= TAKEN or at == RULE else 0
    for part in range(2):
        identity = first if part == 0 else second
        if identity == 0:
            break
        kind = identity >> KIND_SHIFT
        row = _find(words, own, identity, first_label if part == 0 else second_label, now_s, 1)
        own[OUT + ROWS + part] = row
        bans = own[BANS + kind] != 0 and row < own[OVERFLOW]
        until_s = _banned_until(words, own, row, now_s) if bans else 0
        refused = -1
        end_s = 0
        for slot in range(SLOTS):
            rule = RULES + (kind * SLOTS + slot) * RULE_WORDS
            measure = own[rule + 2]
            amount = a0 if measure == 0 else (a1 if measure == 1 else a2)
            if own[rule] == 0 or amount < 0:
                continue
            if refused >= 0 or until_s > now_s:
                amount = 0  # only looked at, for the counts that are told
            word = _counted(words, row + FIRST + slot, now_s, own[rule], amount, own[rule + 1])
            if word < 0:
                word = ~word
                if refused < 0:
                    refused = slot
                    end_s = ((word >> 32) + 1) * own[rule]
            elif amount > 0:
                own[OUT + TAKEN + part * SLOTS + slot] = (word >> 32) << 32 | amount
            own[OUT + COUNTS + part * SLOTS + slot] = word & LOW
        if refused >= 0 or until_s > now_s:
            _undo(words, own)
            if refused >= 0:
                own[OUT + RULE] = kind * SLOTS + refused
            if bans and until_s <= now_s:
                until_s = _struck(words, own, row, now_s)
            if until_s > now_s:
                own[OUT + UNTIL_MS] = until_s * 1000 + _ORIGIN_MS
                own[OUT + RETRY_MS] = own[OUT + UNTIL_MS] - now_ms
                return BANNED
            own[OUT + RETRY_MS] = end_s * 1000 + _ORIGIN_MS - now_ms
            return REFUSED
    return ALLOWED


@entry
def add(words, own, now_ms, identity, label, amount):
    """Count ``amount`` of measure 0 whatever the limit is; below 0 takes back, down to 0, what counts in the present windows."""
    if now_ms == 0:
        now_ms = realtime_ns() // 1_000_000
    now_s = max((now_ms - _ORIGIN_MS) // 1000, 0)
    row = _find(words, own, identity, label, now_s, 1 if amount > 0 else 0)
    if row < 0:
        return
    for slot in range(SLOTS):
        rule = RULES + ((identity >> KIND_SHIFT) * SLOTS + slot) * RULE_WORDS
        if own[rule] != 0 and own[rule + 2] == 0:
            _counted(words, row + FIRST + slot, now_s, own[rule], amount, _NO_LIMIT)


@inner
def _counted(words, at, now_s, window_s, amount, limit):
    """The word after counting ``amount``; its complement where that would pass the limit."""
    while True:
        seen = load_relaxed(words, at)
        number = _window(seen, now_s, window_s)
        count = seen & LOW if seen >> 32 == number else 0
        if count + amount > limit:
            return ~(number << 32 | count)
        word = number << 32 | min(max(count + amount, 0), COUNT_MAX)
        if amount == 0 or compare_exchange(words, at, seen, word) == seen:
            return word


@inner
def _window(word, now_s, window_s):
    """Number of the window that counts now: the clock's, or a later one that was begun before the clock went back a little."""
    present = now_s // window_s
    number = word >> 32
    return number if number > present and number * window_s <= now_s + SKEW_S else present


@inner
def _undo(words, own):
    """Take back what was counted for a request that is refused, each in the window in which it was."""
    for at in range(2 * SLOTS):
        taken = own[OUT + TAKEN + at]
        if taken < 0:
            continue
        amount = taken & LOW
        own[OUT + COUNTS + at] -= amount
        word = own[OUT + ROWS + at // SLOTS] + FIRST + at % SLOTS
        while True:
            seen = load_relaxed(words, word)
            fresh = (seen >> 32) << 32 | max((seen & LOW) - amount, 0)
            if seen >> 32 != taken >> 32 or compare_exchange(words, word, seen, fresh) == seen:
                break


@inner
def _lasts_s(own, level):
    return min(own[BAN_MAX_S], own[BAN_FIRST_S] << max(level - 1, 0))


@inner
def _banned_until(words, own, row, now_s):
    """End of the ban; one that ends later than it could last is of a clock that was set back, and is cut."""
    ban = load_relaxed(words, row + BAN)
    until_s = ban >> LEVEL_BITS
    if until_s <= now_s:
        return until_s
    longest_s = now_s + _lasts_s(own, ban & LEVEL)
    if until_s > longest_s + SKEW_S:
        compare_exchange(words, row + BAN, ban, longest_s << LEVEL_BITS | ban & LEVEL)
        return longest_s
    return until_s


@inner
def _struck(words, own, row, now_s):
    """Note a refusal; end of the ban where that was one too many, else 0."""
    strikes = _counted(words, row + STRIKES, now_s, STRIKES_WINDOW_S, 1, _NO_LIMIT)
    if strikes & LOW < own[BAN_AFTER]:
        return 0
    ban = load_relaxed(words, row + BAN)
    until_s = ban >> LEVEL_BITS
    if until_s > now_s:
        return until_s
    level = max((ban & LEVEL) - (now_s - until_s) // FORGET_S, 0)
    level = min(level + 1, LEVEL_MAX)
    until_s = now_s + _lasts_s(own, level)
    found = compare_exchange(words, row + BAN, ban, until_s << LEVEL_BITS | level)
    # Another process that was quicker has banned for as long.
    store_relaxed(words, row + STRIKES, 0)
    return until_s if found == ban else found >> LEVEL_BITS


@inner
def _find(words, own, identity, label, now_s, claims):
    """First word of the subject's row. Where there is none a row is claimed, or, with ``claims`` 0, -1 given.

    Free rows first, then the one that holds what matters least and nothing that is in force; where all are in use, the
    row that is shared. Two processes that give away rows for one subject at one time may take two: the first in order counts on.
    """
    start = mix(own[SEED], identity) & own[MASK]
    for step in range(PROBES):
        at = ((start + step) & own[MASK]) * ROW_WORDS
        seen = load_acquire(words, at)
        if seen == 0 and claims != 0:
            seen = compare_exchange(words, at, 0, identity)
            if seen == 0:
                store_relaxed(words, at + LABEL, label)
                return at
        if seen == identity:
            return at
        if seen == 0:
            return -1
    if claims == 0:
        return -1
    oldest = -1
    former = 0
    least_s = now_s + _NO_LIMIT // 2
    for step in range(PROBES):
        at = ((start + step) & own[MASK]) * ROW_WORDS
        seen = load_acquire(words, at)
        until_s = _matters_until(words, own, seen >> KIND_SHIFT, at, now_s)
        if 0 <= until_s < least_s:
            oldest, former, least_s = at, seen, until_s
    if oldest < 0 or compare_exchange(words, oldest, former, identity) != former:
        return own[OVERFLOW] + (identity >> KIND_SHIFT) * ROW_WORDS
    # Its windows are over, whichever kind they were of: their numbers are too low, or too far ahead to be believed.
    store_relaxed(words, oldest + LABEL, label)
    store_relaxed(words, oldest + BAN, 0)
    for step in range(PROBES):
        at = ((start + step) & own[MASK]) * ROW_WORDS
        if load_acquire(words, at) == identity:
            return at
    return oldest


@inner
def _matters_until(words, own, kind, row, now_s):
    """Until when a row holds something; -1 while windows with counts, refusals of this minute or a ban are in force."""
    latest_s = 0
    for slot in range(SLOTS + 1):
        rule = RULES + (kind * SLOTS + slot) * RULE_WORDS
        window_s = own[rule] if slot < SLOTS else STRIKES_WINDOW_S
        word = load_relaxed(words, row + (FIRST + slot if slot < SLOTS else STRIKES))
        if window_s == 0 or word & LOW == 0:
            continue
        if word >> 32 == _window(word, now_s, window_s):
            return -1
        latest_s = max(latest_s, min((word >> 32) * window_s, now_s))
    ban = load_relaxed(words, row + BAN)
    if ban >> LEVEL_BITS > now_s:
        return -1
    if ban != 0:
        latest_s = max(latest_s, (ban >> LEVEL_BITS) + (ban & LEVEL) * FORGET_S)
    return latest_s
