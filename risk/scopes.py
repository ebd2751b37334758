"""The hook of settling over the scopes that a command touched: positions whose margin may now fall short.

It runs after a command's events and before the command counts as settled, in scope order, resumable by budget, and what it
concludes goes to the outbox under (seq, index). Spot touches no scopes, so the list is empty; margin and perpetuals fill it.
"""

from __future__ import annotations

from protocol.jit import inner
from risk import state as s


@inner
def examine_touched_scopes(state):
    """Examine the scopes touched by the command being settled; True when none is left to examine."""
    assert state.meta[s.TOUCHED_SCOPES] == 0, "only margin and perpetual commands touch scopes"
    return True
