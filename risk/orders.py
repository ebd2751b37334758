"""What an order must hold, exactly (flow format 2, section 3; risk specification, section 4)."""

from __future__ import annotations

from protocol import reasons as r
from protocol.enums import BUY, MARKET_AMOUNT, SELL
from protocol.fixed_point import (
    AMOUNT_LIMIT,
    E8,
    muldiv_ceil,
    muldiv_floor,
    notional_below_limit,
    product_below_limit,
)
from protocol.jit import inner
from risk.state import HOLD_TERMS


@inner
def limit_hold(side, price_ticks, lots, multiplier, lot_atoms):
    """Units held for ``lots`` at a limit or protection price: quote for a buy, base for a sell. The products are known to be in range."""
    if side == BUY:
        return price_ticks * lots * multiplier
    return lots * lot_atoms


@inner
def is_pegged(h):
    """Whether the order of a hold follows a best price."""
    return (h["flags"] & HOLD_TERMS) != 0 and h["display_lots"] < 0


@inner
def keep_peg_price(h, price_ticks):
    """Note where a pegged order stands: an order has either that or a display quantity, and they share a field."""
    h["display_lots"] = -price_ticks


@inner
def amount_cap_lots(amount_units, price_ticks, multiplier):
    """Most lots that no fill at the protection price or better could exceed: floor(amount / (price*K))."""
    if not product_below_limit(price_ticks, multiplier):
        return 0
    return amount_units // (price_ticks * multiplier)


@inner
def order_hold(kind, side, price_ticks, qty, multiplier, lot_atoms):
    """Units held by a new order, or -1 where they reach 2^62. ``qty``: lots, or units for a market order by amount."""
    if kind != MARKET_AMOUNT:
        return limit_hold(side, price_ticks, qty, multiplier, lot_atoms)
    if side == BUY:
        return qty
    cap = amount_cap_lots(qty, price_ticks, multiplier)
    if not product_below_limit(cap, lot_atoms):
        return -1
    return cap * lot_atoms


@inner
def order_range_code(kind, side, price, qty, row):
    """0 or RANGE (flow format 2, code 7), and the instrument's own limits."""
    if kind == MARKET_AMOUNT:
        if qty >= AMOUNT_LIMIT:
            return r.RANGE
        if side == SELL and order_hold(kind, side, price, qty, row["multiplier"], row["lot_atoms"]) < 0:
            return r.RANGE
        return 0
    if not notional_below_limit(price, qty, row["multiplier"]) or not product_below_limit(qty, row["lot_atoms"]):
        return r.RANGE
    if row["qty_max_lots"] > 0 and qty > row["qty_max_lots"]:
        return r.RANGE
    if row["price_max_ticks"] > 0 and price > row["price_max_ticks"]:
        return r.RANGE
    return 0


@inner
def amend_difference(side, price_old, total_old, price_new, total_new, gone, multiplier, lot_atoms):
    """New hold minus old hold of an order of which ``gone`` lots are traded or prevented; gone < total_old, total_new."""
    left_old = total_old - gone
    left_new = total_new - gone
    return limit_hold(side, price_new, left_new, multiplier, lot_atoms) - limit_hold(
        side, price_old, left_old, multiplier, lot_atoms
    )


@inner
def band_limits(reference_e8, tick_e8, band_up_e8, band_down_e8):
    """(lowest sell, highest buy) in ticks that the price band allows (risk specification, 14.2), inclusive; (0, 2^62) without a band."""
    highest = AMOUNT_LIMIT
    lowest = 0
    if reference_e8 > 0 and band_up_e8 > 0:
        bound = muldiv_floor(reference_e8, E8 + band_up_e8, E8)
        highest = bound // tick_e8 if bound >= 0 else AMOUNT_LIMIT
    if reference_e8 > 0 and band_down_e8 > 0:
        bound = muldiv_ceil(reference_e8, E8 - band_down_e8, E8)
        lowest = -(-bound // tick_e8)
    return lowest, highest
