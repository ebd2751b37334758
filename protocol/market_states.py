"""What may be done with an instrument in each state of its market: one table, which risk obeys and the documentation shows.

``ROWS`` is the table as people read it; what follows is the same as kernels read it, by the number of the state.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol import enums as e
from protocol import reasons as r

LIMIT: Final = 1  # orders that may rest and may take
IMMEDIATE: Final = 2  # market orders, IOC, FOK
POST_ONLY: Final = 4
AMEND: Final = 8
TAKE: Final = 16  # orders trade when they enter; without it an amend must not take either
GATHER: Final = 32  # orders wait for an auction instead, and may cross

ACTIONS: Final = {
    "limit": LIMIT,
    "immediate": IMMEDIATE,
    "post-only": POST_ONLY,
    "amend": AMEND,
    "take": TAKE,
    "gather": GATHER,
}
"""Columns of the table. Cancels are allowed in every state."""


class Row(NamedTuple):
    """A state: its number, its name, what is allowed, the reason of a refusal, and which states may come next."""

    state: int
    name: str
    allows: tuple[str, ...]
    reason: int
    next: tuple[str, ...]


_LIVE: Final = ("open", "halted", "post-only", "cancel-only", "closed", "pre-open", "auction")
_GATHERING: Final = ("limit", "post-only", "amend", "gather")

ROWS: Final = (
    Row(e.INSTRUMENT_OPEN, "open", ("limit", "immediate", "post-only", "amend", "take"), r.ACCEPTED, _LIVE),
    Row(e.INSTRUMENT_HALTED, "halted", (), r.INSTRUMENT_HALTED, (*_LIVE, "delisted")),
    Row(e.INSTRUMENT_POST_ONLY, "post-only", ("post-only", "amend"), r.INSTRUMENT_POST_ONLY, _LIVE),
    Row(e.INSTRUMENT_CANCEL_ONLY, "cancel-only", (), r.INSTRUMENT_CANCEL_ONLY, (*_LIVE, "delisted")),
    Row(e.INSTRUMENT_CLOSED, "closed", (), r.INSTRUMENT_CLOSED, (*_LIVE, "delisted")),
    Row(e.INSTRUMENT_DELISTED, "delisted", (), r.INSTRUMENT_DELISTED, ("delisted",)),
    Row(e.INSTRUMENT_PRE_OPEN, "pre-open", _GATHERING, r.IMMEDIATE_IN_AUCTION, _LIVE),
    Row(e.INSTRUMENT_AUCTION, "auction", _GATHERING, r.IMMEDIATE_IN_AUCTION, _LIVE),
)

STATE_NAMES: Final = {row.state: row.name for row in ROWS}
STATE_OF: Final = {row.name: row.state for row in ROWS}
VENUE_STATE_OF: Final = {"open": e.VENUE_OPEN, "maintenance": e.VENUE_MAINTENANCE}
VENUE_STATE_NAMES: Final = {state: name for name, state in VENUE_STATE_OF.items()}

assert [row.state for row in ROWS] == list(range(1, len(ROWS) + 1)), "kernels look a state up by its number"

ALLOWED: Final = (0, *(sum(ACTIONS[action] for action in row.allows) for row in ROWS))
"""By state: the bits of what is allowed."""

REFUSALS: Final = (0, *(row.reason for row in ROWS))
"""By state: why what is not allowed is refused."""

FOLLOWING: Final = (0, *(sum(1 << STATE_OF[name] for name in row.next) for row in ROWS))
"""By state: a bit for each state that a command may make of it."""


_UNCROSSING: Final = ("open", "post-only")

UNCROSSING: Final = (
    0,
    *(
        sum(1 << STATE_OF[name] for name in (*_UNCROSSING, *(("closed",) if row.name == "auction" else ())))
        for row in ROWS
    ),
)
"""By state: a bit for each state with which what was gathered trades. A closing auction is an auction that becomes closed."""

AFTER_AUCTION: Final = ("open", "post-only", "closed")
"""What may stand behind an auction that has an end."""
