"""Orders that mass quotes bring: where in a journal, and as whose and which order."""

from __future__ import annotations

import numpy as np

from protocol import enums as e
from protocol.build import heads
from protocol.records import EXT_QUOTES_SLOT


def quote_slots(slots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the quotes in ``slots`` (COMMAND_DTYPE, whole groups), of their heads, and the ids that their bids get.

    An ask's id is that of the bid with QUOTE_ASK_BIT.
    """
    rows = np.flatnonzero(slots["type"] == e.EXT_QUOTES)
    starts = np.flatnonzero(heads(slots))
    of = starts[np.searchsorted(starts, rows, side="right") - 1]
    numbers = slots["source_seq"][of] + rows - of
    return rows, of, slots["source"][of].astype(np.int64) << e.ORDER_ID_SOURCE_SHIFT | numbers


def quote_command(slots: np.ndarray, order_id: int) -> int:
    """Seq of the mass quote in ``slots`` one of whose quotes may have brought the order; 0 = there is none."""
    _, of, ids = quote_slots(slots)
    return int(slots["seq"][of[ids == order_id & ~e.QUOTE_ASK_BIT]][:1].sum())


def quoted_order(slots: np.ndarray, order_id: int) -> np.ndarray | None:
    """The order of a quote in ``slots`` as a limit order would have it: the head with its side; None where there is none."""
    rows, of, ids = quote_slots(slots)
    found = np.flatnonzero(ids == order_id & ~e.QUOTE_ASK_BIT)
    if not len(found):
        return None
    head = slots[of[found[:1]]].copy()
    quote = slots[rows[found[:1]]].view(EXT_QUOTES_SLOT.slot_dtype)
    side, name = (e.SELL, "ask") if order_id & e.QUOTE_ASK_BIT else (e.BUY, "bid")
    head["type"], head["side"], head["order_id"] = e.LIMIT, side, order_id
    for field, of_side in (("price_ticks", f"{name}_price_ticks"), ("qty_lots", f"{name}_qty_lots")):
        head[field] = quote[of_side]
    head["instrument"] = quote["instrument"]
    return head
