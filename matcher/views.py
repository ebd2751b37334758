"""What a book shows: depth, totals, and its orders in priority. Nothing here changes the state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from matcher.jit import njit_kernel
from matcher.levels import head_of, next_level_down, next_level_up, price_of
from matcher.state import NO_ASK, ORDER_DTYPE, MatcherState
from matcher.walk import collect_side
from protocol.enums import BUY, SELL


class BookSummary(NamedTuple):
    """Totals of one book; quantities in lots, prices in ticks, None where a side is empty."""

    orders: int
    bid_qty: int
    ask_qty: int
    bid_levels: int
    ask_levels: int
    best_bid: int | None
    best_ask: int | None


class AuctionSummary(NamedTuple):
    """Where an auction stands as last published: the surplus is left over at the price, of buyers, or below zero of sellers."""

    price_ticks: int | None
    lots: int
    surplus_lots: int


def auction_summary(state: MatcherState, instrument: int) -> AuctionSummary:
    """The auction of ``instrument``; no price where nothing meets, or none is held."""
    row = state.auctions[instrument]
    return AuctionSummary(int(row["price_ticks"]) or None, int(row["lots"]), int(row["surplus_lots"]))


@njit_kernel
def book_depth(state, instrument, side, max_levels, out_price, out_qty, out_orders):
    """The best levels of a side.

    Parameters
    ----------
    state : MatcherState
    instrument, side : int
    max_levels : int, at most the length of the three arrays
    out_price, out_qty, out_orders : int64[...]
        Filled from the best level on with its price in ticks, its lots, and its number of orders.

    Returns
    -------
    int
        Number of levels filled.
    """
    orders = state.orders
    leaves = state.leaves
    count = 0
    level = np.int64(state.books[instrument]["best_level"][side])
    while level != 0 and count < max_levels:
        qty_lots = np.int64(0)
        number = np.int64(0)
        slot = head_of(state, level)
        while slot != 0:
            qty_lots += orders[slot]["left_lots"]
            number += 1
            slot = np.int64(orders[slot]["next"])
        out_price[count] = price_of(state, level)
        out_qty[count] = qty_lots
        out_orders[count] = number
        count += 1
        level = next_level_down(leaves, level) if side == BUY else next_level_up(leaves, level)
    return count


@njit_kernel
def slots_by_priority(state, instrument, side, out_slots):
    """Slots of the orders of a side, best price and then oldest first.

    They go into ``out_slots`` (int64, as long as the book has orders); returns their number.
    """
    return collect_side(state, np.int64(instrument), np.int64(side), out_slots, np.int64(0))


def resting_orders(state: MatcherState, instrument: int, side: int) -> np.ndarray:
    """Copies of the resting orders of a side (ORDER_DTYPE), best price and then oldest first."""
    slots = np.empty(int(state.books[instrument]["orders"]), dtype=np.int64)
    count = slots_by_priority(state, instrument, side, slots)
    return state.orders[slots[:count]] if count else np.empty(0, dtype=ORDER_DTYPE)


def book_summary(state: MatcherState, instrument: int) -> BookSummary:
    """Totals of the book of ``instrument``."""
    book = state.books[instrument]
    best_bid, best_ask = (int(price) for price in book["best_ticks"])
    totals = []
    for side in (BUY, SELL):
        found = resting_orders(state, instrument, side)
        totals.append((int(found["left_lots"].sum()), len(np.unique(found["price_ticks"]))))
    (bid_qty, bid_levels), (ask_qty, ask_levels) = totals
    return BookSummary(
        orders=int(book["orders"]),
        bid_qty=bid_qty,
        ask_qty=ask_qty,
        bid_levels=bid_levels,
        ask_levels=ask_levels,
        best_bid=best_bid if best_bid != 0 else None,
        best_ask=best_ask if best_ask != NO_ASK else None,
    )
