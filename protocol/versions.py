"""Versions of what journals and snapshots hold, and of the rules by which commands become outcomes.

Each journal segment names the version of both, and the release that wrote it. A release can execute the commands of its own rules only:
other rules give other verdicts, and a state that nobody was told of. Where rules change, the journal therefore goes on from a converted
snapshot, and older segments are read, not executed (``persistence.upgrade``).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from protocol import enums as e
from protocol.records import (
    COMMAND_DTYPE,
    COMMAND_SCHEMA,
    EXT_ADMIN_SLOT,
    EXT_ASSET_SLOT,
    EXT_AUCTION_SLOT,
    EXT_FEES_SLOT,
    EXT_IDS_SLOT,
    EXT_LIMITS_SLOT,
    EXT_LISTING_SLOT,
)
from protocol.release import RELEASE

RULES_VERSION: Final = 2
RULES: Final = {
    1: "spot: reserve and settle, price bands and breakers, each client order id used once",
    2: "fee schedules with tiers, contracts and discounts; groups of accounts, transfers, pre-trade limits, kill switches; "
    "states of a market, orders that expire, minimum quantities, icebergs, auctions",
}
"""What changed with each version, one line each. What gives any recorded command another verdict, outcome or state is a new one."""

SCHEMA_VERSION: Final = 2
SCHEMAS: Final = {
    1: "commands of 128 bytes, groups with ids, listings, assets, who and why",
    2: "slots with fee tiers, limits and auctions",
}
"""What changed with each layout of commands: one line each."""


class Layout(NamedTuple):
    """Command slots as a version of the schema has them: heads, and what follows a head by its type."""

    version: int
    head: np.dtype
    later: dict[int, np.dtype]


_FIRST: Final = {
    e.EXT_IDS: EXT_IDS_SLOT.slot_dtype,
    e.EXT_ADMIN: EXT_ADMIN_SLOT.slot_dtype,
    e.EXT_LISTING: EXT_LISTING_SLOT.slot_dtype,
    e.EXT_ASSET: EXT_ASSET_SLOT.slot_dtype,
}
_SECOND: Final = {
    e.EXT_FEES: EXT_FEES_SLOT.slot_dtype,
    e.EXT_LIMITS: EXT_LIMITS_SLOT.slot_dtype,
    e.EXT_AUCTION: EXT_AUCTION_SLOT.slot_dtype,
}

LAYOUTS: Final = {
    0x64F1435CFF08707F: Layout(1, COMMAND_DTYPE, _FIRST),
    COMMAND_SCHEMA: Layout(SCHEMA_VERSION, COMMAND_DTYPE, _FIRST | _SECOND),
}
"""By the hash that segments state: every layout that this program can read. Those of older releases stay."""


class Written(NamedTuple):
    """By what a segment or snapshot was written."""

    rules: int
    schema: int
    """Hash of the layout of commands."""
    release: str

    def __str__(self) -> str:
        layout = LAYOUTS.get(self.schema)
        schema = f"schema {layout.version}" if layout else f"an unknown schema ({self.schema:016x})"
        return f"cambist {self.release} (rules {self.rules}, {schema})"


def this_program() -> Written:
    """What this program writes, and the only thing that it can execute."""
    return Written(RULES_VERSION, COMMAND_SCHEMA, RELEASE)


def in_present_layout(words: np.ndarray, schema: int) -> np.ndarray:
    """Slots (int64[n, 16]) that a segment of ``schema`` holds, as COMMAND_DTYPE[n]: field by field where the layout is another one.

    A field that the present layout does not have is left out, one that the old layout does not have is zero.
    """
    if schema == COMMAND_SCHEMA:
        return words.view(COMMAND_DTYPE).reshape(len(words))
    old, new = LAYOUTS[schema], LAYOUTS[COMMAND_SCHEMA]
    found = words.view(old.head).reshape(len(words))
    slots = np.zeros(len(words), dtype=COMMAND_DTYPE)
    later = np.isin(found["type"], [*old.later])
    _copy_fields(found, slots, ~later)
    for kind, layout in old.later.items():
        _copy_fields(found.view(layout), slots.view(new.later[kind]), later & (found["type"] == kind))
    return slots


def _copy_fields(source: np.ndarray, target: np.ndarray, rows: np.ndarray) -> None:
    for name in target.dtype.names or ():
        if name in (source.dtype.names or ()):
            target[name][rows] = source[name][rows]


def executable(written: Written) -> bool:
    """Whether this program gives the commands of ``written`` the outcomes that they had."""
    return (written.rules, written.schema) == this_program()[:2]
