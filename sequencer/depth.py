"""How long the engine takes to settle a slot while it has a backlog: what makes a queue in slots one in milliseconds.

The queue itself needs no measuring, every cursor is on the board: what is before a producer's next command is
``sequenced - settled`` and what the producer has published and the sequencer not yet taken. Only the pace is measured,
and only where it shows: an engine that waits for work settles slowly and is not slow. So a window counts in full when
the backlog of its beginning was never worked off; a window in which it was can only show that a slot takes less. The
mean is over slots and not over windows, so that a pause of a process with three commands before it is three commands'
worth of news.
"""

from __future__ import annotations

from typing import Final

from protocol import board as b
from protocol.jit import inner
from ringbuf.atomics import load_acquire, store_release

OPENED_NS: Final = 0
SEQUENCED: Final = 1
SETTLED: Final = 2
METER_WORDS: Final = 4

WINDOW_NS: Final = 5_000_000
"""Shortest window."""
MEMORY_SLOTS: Final = 64
"""Slots that weigh as much as all before them."""
SLOT_NS_MAX: Final = 100_000_000
_EASY_SHARE: Final = 512
"""A window without lasting backlog lowers the mean by one part in so many."""


@inner
def measure(meter, board, now_ns):
    """Renew SETTLE_NS of the board from the sequenced and settled cursors there; cheap to call at every step.

    Parameters
    ----------
    meter : int64[METER_WORDS], zeros at first: the window that is open
    board : int64 board of the instance
    now_ns : time that never falls
    """
    elapsed_ns = now_ns - meter[OPENED_NS]
    if elapsed_ns < WINDOW_NS:
        return
    settled = load_acquire(board, b.SETTLED_SEQ)
    done = settled - meter[SETTLED]
    settle_ns = board[b.SETTLE_NS]
    if settled < meter[SEQUENCED]:
        if done == 0:
            return
        sample_ns = min(elapsed_ns // done, SLOT_NS_MAX)
        settle_ns += (sample_ns - settle_ns) * done // (done + MEMORY_SLOTS)
    elif done > 0:
        settle_ns = min(settle_ns, elapsed_ns // done)
        settle_ns -= settle_ns // _EASY_SHARE
    meter[OPENED_NS] = now_ns
    meter[SETTLED] = settled
    meter[SEQUENCED] = board[b.SEQUENCED_SEQ]
    assert settle_ns >= 0
    store_release(board, b.SETTLE_NS, settle_ns)
