"""What a command has to do behind its first taker: orders that it set off, and further parts that it came with."""

from __future__ import annotations

from matcher.jit import njit_inlined
from matcher.state import FIRED_HEAD, PARTS_LEFT


@njit_inlined
def has_parts(state):
    """Whether the command goes on when its taker is done."""
    return (state.meta[FIRED_HEAD] | state.meta[PARTS_LEFT]) != 0
