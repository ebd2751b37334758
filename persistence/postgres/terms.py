"""Numbers that the tables hold beside the engine's own, and their names. They are never renumbered."""

from __future__ import annotations

from typing import Final

FREE: Final = 1
LOCKED: Final = 2
FEE: Final = 3
EXTERNAL: Final = 4
BUCKETS: Final = {FREE: "free", LOCKED: "locked", FEE: "FEE", EXTERNAL: "EXTERNAL"}
"""Where a posting stands. FEE and EXTERNAL are system accounts of the asset and have account 0; EXTERNAL is minus the net deposits."""

HOLD: Final = 1
TRADE: Final = 2
FEES: Final = 3  # written before the three below were told apart
RELEASE: Final = 4
AMEND: Final = 5
DEPOSIT: Final = 6
WITHDRAW_HOLD: Final = 7
WITHDRAW_SETTLE: Final = 8
WITHDRAW_RELEASE: Final = 9
ADJUST: Final = 10
TRANSFER: Final = 11
TAKER_FEE: Final = 12
MAKER_FEE: Final = 13
REBATE: Final = 14
MOVEMENTS: Final = {
    HOLD: "hold",
    TRADE: "trade",
    FEES: "fee",
    RELEASE: "release",
    AMEND: "amend",
    DEPOSIT: "deposit",
    WITHDRAW_HOLD: "withdraw_hold",
    WITHDRAW_SETTLE: "withdraw_settle",
    WITHDRAW_RELEASE: "withdraw_release",
    ADJUST: "adjust",
    TRANSFER: "transfer",
    TAKER_FEE: "taker_fee",
    MAKER_FEE: "maker_fee",
    REBATE: "rebate",
}
"""Why money moved."""

TAKER_FEES: Final = 1
MAKER_FEES: Final = 2
REBATES: Final = 3
REVENUES: Final = {TAKER_FEES: "taker_fees", MAKER_FEES: "maker_fees", REBATES: "rebates"}
"""Kinds of revenue; rebates are paid, and count as positive."""

ORDER_STATE_REJECTED: Final = 5
"""Beside the engine's ORDER_STATE_*: it never was in a book."""

MAKER: Final = 1
TAKER: Final = 2
"""Liquidity of a side of a trade."""
