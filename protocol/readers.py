"""Who reads which ring as which reader, and the words and exit statuses that processes and their supervisor share.

The supervisor creates the rings of an epoch and registers the numbered readers, in its own name; a process
takes its reader over with ``adopt_reader(index, bell_line)`` and its ring with ``take_writer(bell_line)``.

=============  =====================  =====================================================================
ring           writer                 readers
=============  =====================  =====================================================================
ingress        the producer           0 sequencer, gating: its cursor is what is durable, and so free
command        sequencer              0 risk, 1 journal, 2 + k matcher k; all gating
verdict        risk                   k matcher k, gating
event k        matcher k              0 risk, gating
outcome        risk                   gateways, not gating: each adds itself; in a home with
                                      ``gating_outcome_reader``: 0 the replay's collector, gating
=============  =====================  =====================================================================
"""

from __future__ import annotations

from typing import Final

from protocol import board, enums

INGRESS_SEQUENCER: Final = 0

COMMAND_RISK: Final = 0
COMMAND_JOURNAL: Final = 1
COMMAND_FIRST_MATCHER: Final = 2

EVENT_RISK: Final = 0

OUTCOME_COLLECTOR: Final = 0

READERS_MAX: Final = 16
"""A ring has room for so many readers."""

SHARDS_MAX: Final = READERS_MAX - COMMAND_FIRST_MATCHER

SOURCE_LINES: Final = {
    enums.SOURCE_RISK: board.LINE_RISK,
    enums.SOURCE_CONTROL: board.LINE_CONTROL,
    enums.SOURCE_REPLAY: board.LINE_REPLAY,
    enums.SOURCE_BOTS: board.LINE_BOTS,
}
"""Board line of the producer of each source: its bell when an ingress ring has room again."""

# --- words of a process's own line (ringbuf.board: 0..7 are its, 8..15 ours) ---
REFUSED_ORDERS: Final = 14
"""Of a producer: new orders that its gateway refused because of load since the process began."""
READY: Final = 15
"""Holds the process's own pid once it serves: the last act of starting. One with a socket is ready when it accepts."""

LINE_RECOVERY: Final = 56
RECOVERY_DONE: Final = 8  # commands replayed so far
RECOVERY_TOTAL: Final = 9  # commands that the journal holds, 0 = not known yet

# --- exit statuses ---
EXIT_OK: Final = 0
EXIT_REFUSED: Final = 65  # recovery cannot use what is on the disk, ever. recovery.json: {"error": why}
EXIT_CRASHED: Final = 70  # an exception that nobody caught; its traceback is in the log
EXIT_EPOCH_USED: Final = 75  # the journal knows this epoch already. recovery.json: {"last_epoch": n}


def refused_word(line: int) -> int:
    """Index on the board of the REFUSED_ORDERS word of ``line``."""
    return line * board.LINE_WORDS + REFUSED_ORDERS


def ready_word(line: int) -> int:
    """Index on the board of the READY word of ``line``."""
    return line * board.LINE_WORDS + READY
