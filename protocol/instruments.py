"""Assets and instruments: what a listing must satisfy, and the proof that no order can overflow the ledger.

``V = price_ticks * qty_lots * multiplier`` is exact in quote units, and ``qty_lots * lot_atoms`` in base units. The multiplier K is
``tick_e8 * lot_atoms * 10^quote_scale / (1e8 * 10^base_scale)`` and must be a positive integer (risk specification, 1.1 and "asset scale").
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec
import numpy as np

from protocol.fixed_point import AMOUNT_LIMIT, E8, muldiv_ceil, muldiv_floor, notional_below_limit, product_below_limit
from protocol.jit import entry

SCALE_MAX: Final = 10
POWERS_OF_TEN: Final = np.array([10**n for n in range(19)], dtype=np.int64)


class ListingError(ValueError):
    """A listing that cannot be accepted; the text names the rule and the values."""


class Asset(msgspec.Struct, frozen=True):
    """An asset: number in the tables, name, and decimals of its smallest unit."""

    index: int
    symbol: str
    scale: int = 8

    def units(self, amount: str | Decimal) -> int:
        """Exact number of units of a decimal amount; ValueError where it has more decimals than the asset."""
        value = Decimal(amount).scaleb(self.scale)
        if value != value.to_integral_value():
            msg = f"{amount} {self.symbol}: the smallest amount is 1e-{self.scale}"
            raise ValueError(msg)
        return int(value)

    def amount(self, units: int) -> str:
        """Decimal text of a number of units, without trailing zeros."""
        return plain(Decimal(units).scaleb(-self.scale))


class Instrument(msgspec.Struct, frozen=True):
    """A spot instrument. Prices are ticks, quantities lots; ``multiplier`` turns ticks times lots into quote units."""

    index: int
    symbol: str
    base: Asset
    quote: Asset
    tick_e8: int
    lot_atoms: int
    maker_rate_e8: int = 0
    taker_rate_e8: int = 0
    band_up_e8: int = 0
    band_down_e8: int = 0
    reference_ticks: int = 0
    breaker_e8: int = 0
    price_max_ticks: int = 0
    qty_max_lots: int = 0

    @property
    def multiplier(self) -> int:
        """K: quote units per tick and lot; 0 if the listing has none."""
        return int(listing_multiplier(self.tick_e8, self.lot_atoms, self.base.scale, self.quote.scale))

    @property
    def tick_size(self) -> str:
        """Tick size as decimal text."""
        return plain(Decimal(self.tick_e8).scaleb(-8))

    @property
    def lot_size(self) -> str:
        """Lot size as decimal text."""
        return self.base.amount(self.lot_atoms)

    def price_ticks(self, price: str | Decimal) -> int:
        """Ticks of a decimal price; ValueError where it is off tick."""
        ticks, rest = divmod(Decimal(price).scaleb(8), self.tick_e8)
        if rest:
            msg = f"price {price}: {self.symbol} has a tick size of {self.tick_size}"
            raise ValueError(msg)
        return int(ticks)

    def qty_lots(self, qty: str | Decimal) -> int:
        """Lots of a decimal quantity; ValueError where it is off lot."""
        lots, rest = divmod(Decimal(qty).scaleb(self.base.scale), self.lot_atoms)
        if rest:
            msg = f"quantity {qty}: {self.symbol} has a lot size of {self.lot_size}"
            raise ValueError(msg)
        return int(lots)

    def price(self, price_ticks: int) -> str:
        """Decimal text of a price in ticks."""
        return plain((Decimal(price_ticks) * self.tick_e8).scaleb(-8))

    def qty(self, qty_lots: int) -> str:
        """Decimal text of a quantity in lots."""
        return self.base.amount(qty_lots * self.lot_atoms)

    def check(self) -> None:
        """Raise ListingError naming the first rule that the listing breaks."""
        if not 0 < len(self.symbol.encode()) <= 16:
            msg = f"{self.symbol!r}: a symbol has 1 to 16 characters"
            raise ListingError(msg)
        if self.base.index == self.quote.index:
            msg = f"{self.symbol}: base and quote are both {self.base.symbol}"
            raise ListingError(msg)
        if self.multiplier == 0:
            msg = (
                f"{self.symbol}: tick_e8 * lot_atoms * 10^{self.quote.scale} / (1e8 * 10^{self.base.scale}) must be a positive integer "
                f"(quote units per tick and lot); tick_e8 = {self.tick_e8}, lot_atoms = {self.lot_atoms}"
            )
            raise ListingError(msg)
        code = listing_is_valid(
            self.multiplier,
            self.lot_atoms,
            self.maker_rate_e8,
            self.taker_rate_e8,
            self.band_up_e8,
            self.band_down_e8,
            self.reference_ticks,
            self.breaker_e8,
            self.price_max_ticks,
            self.qty_max_lots,
        )
        if code:
            msg = f"{self.symbol}: {LISTING_RULES[code]}"
            raise ListingError(msg)


LISTING_RULES: Final = {
    1: "price_max_ticks * qty_max_lots * K must be below 2^62, and qty_max_lots * lot_atoms too",
    2: "fees must satisfy 0 <= taker < 1e8, maker < 1e8 and maker + taker >= 0",
    3: "bands and breaker are between 0 and 1e8 (100 %), the lower band below 1e8",
    4: "price_max_ticks, qty_max_lots and reference_ticks must not be negative, the reference not above the largest price",
}


@entry
def listing_multiplier(tick_e8, lot_atoms, base_scale, quote_scale):
    """K of a listing, or 0 where it is not a positive integer below 2^62."""
    if tick_e8 < 1 or lot_atoms < 1 or tick_e8 >= AMOUNT_LIMIT or lot_atoms >= AMOUNT_LIMIT:
        return 0
    if not (0 <= base_scale <= SCALE_MAX and 0 <= quote_scale <= SCALE_MAX):
        return 0
    exponent = 8 + base_scale - quote_scale
    if exponent < 0:
        power = POWERS_OF_TEN[-exponent]
        if not notional_below_limit(tick_e8, lot_atoms, power):
            return 0
        return tick_e8 * lot_atoms * power
    k = muldiv_floor(tick_e8, lot_atoms, POWERS_OF_TEN[exponent])
    if k < 1 or k >= AMOUNT_LIMIT or k != muldiv_ceil(tick_e8, lot_atoms, POWERS_OF_TEN[exponent]):
        return 0
    return k


@entry
def fees_are_valid(maker_rate_e8, taker_rate_e8):
    """Whether 0 <= taker < E8, maker < E8 and maker + taker >= 0 (so that no fill lowers the fee account)."""
    return 0 <= taker_rate_e8 < E8 and maker_rate_e8 < E8 and maker_rate_e8 >= -taker_rate_e8


@entry
def listing_is_valid(multiplier, lot_atoms, maker, taker, band_up, band_down, reference, breaker, price_max, qty_max):
    """0, or the number of the rule in LISTING_RULES that is broken. Rates in 1e-8, prices in ticks, quantities in lots."""
    if price_max < 0 or qty_max < 0 or reference < 0:
        return 4
    if price_max > 0 and reference > price_max:
        return 4
    if not fees_are_valid(maker, taker):
        return 2
    if not bands_are_valid(band_up, band_down, breaker):
        return 3
    if price_max > 0 and qty_max > 0 and not notional_below_limit(price_max, qty_max, multiplier):
        return 1
    if qty_max > 0 and not product_below_limit(qty_max, lot_atoms):
        return 1
    return 0


@entry
def bands_are_valid(band_up_e8, band_down_e8, breaker_e8):
    """Whether bands and breaker are shares of the reference: 0 (off) up to 100 %, the lower one below."""
    return 0 <= band_up_e8 <= E8 and 0 <= band_down_e8 < E8 and 0 <= breaker_e8 <= E8


def plain(value: Decimal) -> str:
    """Decimal text without exponent and without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
