"""What the bots tell the screen: words of their line of the board, renewed each second."""

from __future__ import annotations

from typing import Final

from protocol.board import LINE_BOTS, LINE_WORDS

_APP: Final = LINE_BOTS * LINE_WORDS + 8

ORDERS_PER_S: Final = _APP  # commands sent in the last second: new orders, amends, cancels
FILLS_PER_S: Final = _APP + 1  # trades that bots took part in, each counted once
ACK_P50_NS: Final = _APP + 2  # from entry to durable outcome, over the last second; 0 = nothing was acknowledged
ACK_P99_NS: Final = _APP + 3
REFUSALS: Final = _APP + 4  # since the process began
RESTARTS: Final = _APP + 5  # times that outcomes were missed, so that all quotes were renewed

BEAT_NS: Final = LINE_BOTS * LINE_WORDS + 2  # CLOCK_MONOTONIC of the bots' last sign of life
