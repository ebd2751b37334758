"""What the demo consists of. All sizes, prices and amounts are decimal text, as operators write them."""

from __future__ import annotations

from typing import Final, NamedTuple

OPERATOR: Final = "demo"
QUOTE: Final = "USDT"
SCALE: Final = 8
"""Decimals of each asset of the demo."""


class Listing(NamedTuple):
    """One instrument against ``QUOTE``; fees, bands and breaker are shares."""

    base: str
    tick_size: str
    lot_size: str
    price: str
    """First reference price; of a lively instrument also what its bots' prices come back to."""
    lively: bool = True
    band_up: str = "10%"
    band_down: str = "10%"
    breaker: str = "8%"
    dynamic: str = "4%"
    """A trade so far from the one before interrupts, as one beyond the breaker does: with an auction."""
    auction_s: int = 30
    random_s: int = 10
    extensions: int = 2
    maker: str = "0.0002"
    taker: str = "0.0005"

    @property
    def symbol(self) -> str:
        """Symbol of the instrument."""
        return self.base + QUOTE


class Funding(NamedTuple):
    """An account by name, and what it is given of each asset."""

    name: str
    amounts: dict[str, str]


LISTINGS: Final = (
    Listing("BTC", "0.01", "0.00001", "60000"),
    Listing("ETH", "0.01", "0.0001", "3000"),
    Listing("SOL", "0.01", "0.001", "150"),
    # Wide bands, which protect market orders, and no breaker: clients' tests may move its price.
    Listing("QUIET", "0.01", "0.0001", "100", lively=False, band_up="100%", band_down="90%", breaker="0", dynamic="0"),
)
ASSETS: Final = (QUOTE, *(listing.base for listing in LISTINGS))
LIVELY: Final = tuple(listing for listing in LISTINGS if listing.lively)
QUIET: Final = tuple(listing for listing in LISTINGS if not listing.lively)

_USER_AMOUNTS: Final = {QUOTE: "1000000", "BTC": "100", "ETH": "1000", "SOL": "10000", "QUIET": "10000"}
USERS: Final = tuple(Funding(name, _USER_AMOUNTS) for name in ("alice", "bob", "carol"))
"""No bot uses them."""

_HOUSE_AMOUNTS: Final = {QUOTE: "1000000000", "BTC": "20000", "ETH": "400000", "SOL": "8000000"}
MAKERS: Final = tuple(Funding(f"maker-{number}", _HOUSE_AMOUNTS) for number in (1, 2, 3))
TAKERS: Final = tuple(Funding(f"taker-{number}", _HOUSE_AMOUNTS) for number in (1, 2))
HOUSE: Final = (*MAKERS, *TAKERS)
"""Accounts of the bots. Fees cost them a few million USDT a day, and more than half of an amount is made up again."""

QUIET_TRADE_QTY: Final = "1"
"""Traded once in each quiet instrument at its price, so that it has a last price; its book is empty afterwards."""
