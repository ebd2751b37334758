"""Moments of a history as an operator writes them: the number of a command, or a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

_NS: Final = 1_000_000_000
NS_FROM: Final = 10**15
"""A bare number from here on is a time in ns (January 1970 and later); no journal has so many commands."""
_ISO: Final = re.compile(r"([^.,]*)(?:[.,](\d{1,9}))?((?:[Zz]|[+-]\d\d:?\d\d)?)")


class Moment(NamedTuple):
    """Right after command slot ``seq``; or, where that is None, after the last command with ts <= ``ts_ns``."""

    seq: int | None
    ts_ns: int | None
    text: str


def parse_moment(text: str) -> Moment:
    """A seq, nanoseconds since 1970 (a number of 16 digits or more, or one that ends in ``ns``), or an ISO 8601 time.

    A time without an offset is UTC. ValueError says what may stand there.
    """
    stated = text.strip()
    digits = stated.removesuffix("ns")
    if digits.isascii() and digits.isdigit():
        number = int(digits)
        if digits != stated or number >= NS_FROM:
            return Moment(None, number, stated)
        return Moment(number, None, stated)
    return Moment(None, _iso_ns(stated), stated)


def _iso_ns(text: str) -> int:
    found = _ISO.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)  # noqa: TRY301 - one answer for all that is no time
        whole, fraction, offset = found.groups()
        moment = datetime.fromisoformat(whole + offset.upper())
    except ValueError:
        raise ValueError(
            f"{text!r} is neither the number of a command nor a time: write a seq (15453), an ISO 8601 time "
            "(2026-11-22T10:15:30.25Z, without an offset it is UTC) or nanoseconds since 1970 (1795342530250000000)"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return seconds * _NS + int((fraction or "0").ljust(9, "0"))


def iso_time(ts_ns: int) -> str:
    """A time as ISO 8601 in UTC, to the nanosecond: ``2026-11-22T10:15:30.250000000Z``."""
    seconds, rest = divmod(ts_ns, _NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
