"""What an order may say beside price and quantity, and when that makes no sense: decided by risk, used by the matcher."""

from __future__ import annotations

from typing import Final

from protocol import enums as e
from protocol import reasons as r
from protocol.jit import inner

DAY_NS: Final = 86_400_000_000_000


@inner
def expiry_of(expiry_ts_ns, ts_ns):
    """Time at which an order of sequenced time ``ts_ns`` expires; 0 = never."""
    if expiry_ts_ns == e.EXPIRY_DAY:
        return (ts_ns // DAY_NS + 1) * DAY_NS
    return expiry_ts_ns


@inner
def terms_code(c, qty):
    """0, or why the terms of a new order (FLAG_TERMS) make no sense."""
    display = c["display_qty_lots"]
    minimum = c["min_qty_lots"]
    expiry = c["expiry_ts_ns"]
    if display < 0 or minimum < 0 or expiry < e.EXPIRY_DAY:
        return r.BAD_FIELD
    rests = c["type"] == e.LIMIT and (c["tif"] == e.GTC or c["tif"] == e.POST_ONLY)
    waits = (c["flags"] & e.FLAG_TRIGGER) != 0
    if not rests and (display != 0 or (expiry != 0 and not waits)):
        return r.TERMS_OF_RESTING
    if expiry > 0 and expiry <= c["ts_ns"]:
        return r.EXPIRY_PASSED
    if display > qty:
        return r.DISPLAY_ABOVE_QUANTITY
    if has_too_many_parts(display, qty):
        return r.ICEBERG_PARTS
    if minimum != 0 and (c["type"] == e.MARKET_AMOUNT or (c["type"] == e.LIMIT and c["tif"] == e.POST_ONLY)):
        return r.MIN_QTY_MISPLACED
    return r.MIN_QTY_ABOVE_QUANTITY if minimum > qty else 0


@inner
def trigger_code(c):
    """0, or why what a new order (FLAG_TRIGGER) waits for makes no sense; the price itself is known to the matcher."""
    if c["type"] == e.MARKET_AMOUNT:
        return r.TRIGGER_MISPLACED
    if c["trigger_ref"] > e.TRIGGER_INDEX:
        return r.BAD_TRIGGER
    kind = c["offset_kind"]
    if kind == e.OFFSET_NONE:
        return r.BAD_TRIGGER if c["trigger_price_ticks"] < 1 else 0
    offset = c["sub_account"]
    if kind > e.OFFSET_BASIS_POINTS or offset < 1 or (kind == e.OFFSET_BASIS_POINTS and offset >= e.BASIS_POINTS):
        return r.BAD_OFFSET
    if (c["flags"] & e.FLAG_TAKE_PROFIT) != 0:
        return r.OFFSET_MISPLACED
    return r.BAD_ACTIVATION if c["trigger_price_ticks"] < 0 else 0


@inner
def peg_code(c):
    """0, or why a new order (FLAG_PEG) cannot follow a best price; whether that price is there is known to the matcher."""
    rests = c["type"] == e.LIMIT and (c["tif"] == e.GTC or c["tif"] == e.POST_ONLY)
    if not rests or (c["flags"] & (e.FLAG_TRIGGER | e.FLAG_LEGS)) != 0:
        return r.PEG_MISPLACED
    if c["trigger_ref"] > e.PEG_MID or c["offset_kind"] > e.OFFSET_TICKS:
        return r.BAD_FIELD
    if (c["flags"] & e.FLAG_TERMS) != 0 and (c["display_qty_lots"] != 0 or c["min_qty_lots"] != 0):
        return r.PEG_TERMS
    return 0


@inner
def has_too_many_parts(display_lots, qty_lots):
    """Whether an iceberg would come in more parts than are allowed; without a display quantity it has one."""
    return display_lots != 0 and (qty_lots - 1) // display_lots >= e.ICEBERG_PARTS_MAX
