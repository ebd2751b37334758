"""The price of a call auction as its rule reads: look at every price that could matter, and take the best.

Orders are (price, lots). Nothing here is clever: what would trade at a price is counted anew for each price.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

Orders = Sequence[tuple[int, int]]


class Indication(NamedTuple):
    """Where an auction stands; ``surplus`` is what is left over at the price: of buyers, or below zero of sellers."""

    price: int = 0
    lots: int = 0
    surplus: int = 0


def bought(bids: Orders, price: int) -> int:
    return sum(lots for limit, lots in bids if limit >= price)


def sold(asks: Orders, price: int) -> int:
    return sum(lots for limit, lots in asks if limit <= price)


def candidates(bids: Orders, asks: Orders, reference: int) -> list[int]:
    """Prices at which what is bought or sold changes, and their neighbours: between them nothing does."""
    prices = {price + away for price, _ in (*bids, *asks) for away in (-1, 0, 1)} | {reference}
    return sorted(price for price in prices if price > 0)


def indication(bids: Orders, asks: Orders, reference: int, prices: Iterable[int] | None = None) -> Indication:
    """The price that executes most, then leaves least over, then is nearest to the reference (0 = none: the middle, rounded down)."""
    tried = list(candidates(bids, asks, reference) if prices is None else prices)
    volume = {price: min(bought(bids, price), sold(asks, price)) for price in tried}
    most = max(volume.values(), default=0)
    if most == 0:
        return Indication()
    surplus = {price: bought(bids, price) - sold(asks, price) for price in tried if volume[price] == most}
    least = min(abs(lots) for lots in surplus.values())
    best = [price for price, lots in surplus.items() if abs(lots) == least]
    if reference:
        nearest = min(abs(price - reference) for price in best)
        (price,) = (price for price in best if abs(price - reference) == nearest)
        return Indication(price, most, surplus[price])
    price = (min(best) + max(best)) // 2
    return Indication(price, most, bought(bids, price) - sold(asks, price))
