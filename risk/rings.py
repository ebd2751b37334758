"""The rings that risk reads and writes, as its kernels take them: one bundle.

Word views are for what copies or hashes whole slots.
"""

from __future__ import annotations

import numpy as np

from protocol.records import (
    EXT_ASSET_SLOT,
    EXT_AUCTION_SLOT,
    EXT_FEES_SLOT,
    EXT_LEG_SLOT,
    EXT_LIMITS_SLOT,
    EXT_LISTING_SLOT,
    EXT_QUOTES_SLOT,
    OUTCOME_DUPLICATE,
)
from ringbuf.bundle import Bundle
from ringbuf.ring import Ring


def make_rings(
    commands: Ring, verdicts: Ring, outcomes: Ring, event_words: np.ndarray, event_slots: np.ndarray
) -> Bundle:
    """Build the views; ``event_words`` int64[K * HEADER_WORDS], ``event_slots`` EVENT[K * capacity]."""
    return Bundle(
        commands=commands,
        command_words=commands.slots.view(np.int64).reshape(-1, 16),
        command_ints=commands.slots.view(np.int32).reshape(-1, 32),
        fee_slots=commands.slots.view(EXT_FEES_SLOT.slot_dtype),
        leg_slots=commands.slots.view(EXT_LEG_SLOT.slot_dtype),
        limit_slots=commands.slots.view(EXT_LIMITS_SLOT.slot_dtype),
        auction_slots=commands.slots.view(EXT_AUCTION_SLOT.slot_dtype),
        listing_slots=commands.slots.view(EXT_LISTING_SLOT.slot_dtype),
        quote_slots=commands.slots.view(EXT_QUOTES_SLOT.slot_dtype),
        asset_slots=commands.slots.view(EXT_ASSET_SLOT.slot_dtype),
        verdicts=verdicts,
        outcomes=outcomes,
        duplicate_slots=outcomes.slots.view(OUTCOME_DUPLICATE.slot_dtype),
        outcome_words=outcomes.slots.view(np.int64).reshape(-1, 16),
        event_words=event_words,
        event_slots=event_slots,
        board=commands.board,
    )
