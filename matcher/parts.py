"""What a command has to do behind its first taker: orders that it set off, and further parts that it came with."""

from __future__ import annotations

from matcher.jit import njit_called, njit_inlined
from matcher.state import FIRED_HEAD, PARTS_LEFT
from protocol.enums import EVENT_LAST


@njit_inlined
def has_parts(state):
    """Whether the command goes on when its taker is done."""
    return (state.meta[FIRED_HEAD] | state.meta[PARTS_LEFT]) != 0


@njit_inlined
def flag_of_end(state, book):
    """Flag of the last event of a taker of ``book``, a row of main books: EVENT_LAST where the command ends with it, else 0."""
    if book["stops"] == 0 and state.meta[PARTS_LEFT] == 0:
        return EVENT_LAST
    return _flag_of_part(state)


@njit_called
def _flag_of_part(state):
    return 0 if has_parts(state) else EVENT_LAST
