"""The books of one shard entered into another: how a state goes on with another number of shards."""

from __future__ import annotations

import numpy as np

from matcher.book import append, new_slot, register
from matcher.jit import njit_called, njit_kernel
from matcher.levels import has_leaf, head_of, leaf_available, lowest_level, next_level_up
from matcher.links import is_linked
from matcher.protection import keep_quote, protect
from matcher.state import (
    AUCTIONS,
    BOOK_KINDS,
    BOOK_STRIDE,
    HAS_TERMS,
    IDS_SHIFT,
    IS_QUOTE,
    ORDERS_USED,
    PROTECTIONS_HIGH,
    SHARD,
    SHARDS,
)
from matcher.terms import set_terms, trail, wait_to_trail
from protocol.enums import BUY, INSTRUMENT_AUCTION, OFFSET_NONE, PROTECTION_STEPS, SELL
from ringbuf.idtable import add_id, find_id


@njit_called
def _copy_order(target, source, slot):
    """Enter one resting order behind those of its price; False where its price needs a leaf and none is left."""
    order = source.orders[slot]
    book = np.int64(order["book"])
    price_ticks = order["price_ticks"]
    if not has_leaf(target, book, price_ticks >> 6) and not leaf_available(target):
        return False
    new = new_slot(target)
    copy = target.orders[new]
    copy["order_id"] = order["order_id"]
    copy["price_ticks"] = price_ticks
    copy["left_lots"] = order["left_lots"]
    copy["total_lots"] = order["total_lots"]
    copy["hold"] = order["hold"]
    copy["book"] = order["book"]
    copy["side"] = order["side"]
    copy["modes"] = order["modes"] & (255 - HAS_TERMS)
    register(target, new, order["order_id"], np.int64(order["account"]), book)
    target.sessions[new] = source.sessions[slot]
    if (order["modes"] & HAS_TERMS) != 0:
        _copy_terms(target, new, source.terms[slot])
    if (order["modes"] & IS_QUOTE) != 0:
        keep_quote(target, new, np.int64(order["account"]), book, np.int64(order["side"]))
    append(target, new, book, np.int64(order["side"]), price_ticks)
    if is_linked(source, slot):
        _copy_link(target, new, source.orders[np.int64(source.terms[slot]["link"])]["order_id"])
    return True


@njit_called
def _copy_link(target, new, other_id):
    """Link an order with that of this id, once both are there."""
    other = find_id(target.recent_ids, target.other_ids, target.meta[IDS_SHIFT], target.orders, 0, other_id)
    if other != 0:
        target.terms[new]["link"] = other
        target.terms[other]["link"] = new


@njit_called
def _copy_terms(target, new, terms):
    set_terms(target, new, terms["age"], terms["expiry_ns"], terms["display_lots"])
    copy = target.terms[new]
    copy["hidden_lots"] = terms["hidden_lots"]
    copy["limit_ticks"] = terms["limit_ticks"]
    copy["min_lots"] = terms["min_lots"]
    copy["side"] = terms["side"]
    copy["type"] = terms["type"]
    copy["offset_kind"] = terms["offset_kind"]
    copy["offset"] = terms["offset"]
    if terms["activates"] != OFFSET_NONE:
        wait_to_trail(target, new, np.int64(terms["activates"]))


@njit_called
def _copy_trails(target, source, book):
    """Let the stops of a book trail in the order in which they do in ``source``."""
    for side in (BUY, SELL):
        slot = np.int64(source.trails[4 * book + 2 * side])
        while slot != 0:
            trail(
                target,
                find_id(
                    target.recent_ids,
                    target.other_ids,
                    target.meta[IDS_SHIFT],
                    target.orders,
                    0,
                    source.orders[slot]["order_id"],
                ),
            )
            slot = np.int64(source.terms[slot]["trail_next"])


@njit_called
def _copy_book(target, source, book):
    """Every order of one row of books; False where a pool is too small."""
    level = lowest_level(source, book)
    while level != 0:
        slot = head_of(source, level)
        while slot != 0:
            if not _copy_order(target, source, slot):
                return False
            slot = np.int64(source.orders[slot]["next"])
        level = next_level_up(source.leaves, level)
    return True


@njit_called
def _copy_protections(target, source):
    """Market-maker protections of the instruments of the shard, with what they have counted."""
    for at in range(1, source.meta[PROTECTIONS_HIGH] + 1):
        row = source.protections[at]
        instrument = np.int64(row["instrument"])
        if row["window_ns"] == 0 or instrument % target.meta[SHARDS] != target.meta[SHARD]:
            continue
        new = protect(
            target,
            np.int64(row["account"]),
            instrument,
            row["window_ns"],
            row["qty_max_lots"],
            row["net_max_lots"],
            row["trades_max"],
        )
        copy = target.protections[new]
        copy["newest"] = row["newest"]
        copy["pulled"] = row["pulled"]
        for step in range(PROTECTION_STEPS):
            copy["lots"][step] = row["lots"][step]
            copy["net"][step] = row["net"][step]
            copy["trades"][step] = row["trades"][step]


@njit_kernel
def take_over_books(target, source):
    """Enter self-trade groups of ``source``, and listings and resting orders of the instruments of the shard ``target``.

    Orders of a level keep their order.

    Parameters
    ----------
    target, source : MatcherState, both between commands; ``target`` is changed

    Returns
    -------
    bool
        False where the pools of ``target`` are too small; it is then of no use.
    """
    meta = target.meta
    for account in range(source.groups.shape[0]):
        row = target.groups[account]
        row["stp_group"] = source.groups[account]["stp_group"]
        row["master"] = source.groups[account]["master"]
        row["firm"] = source.groups[account]["firm"]
    _copy_protections(target, source)
    for instrument in range(1, source.lot_atoms.shape[0]):
        book = source.books[instrument]
        if book["multiplier"] == 0 or instrument % meta[SHARDS] != meta[SHARD]:
            continue
        target.books[instrument]["multiplier"] = book["multiplier"]
        target.lot_atoms[instrument] = source.lot_atoms[instrument]
        target.books[instrument]["market_state"] = book["market_state"]
        meta[AUCTIONS] += book["market_state"] == INSTRUMENT_AUCTION
        auction = target.auctions[instrument]
        auction["reference_ticks"] = source.auctions[instrument]["reference_ticks"]
        auction["price_ticks"] = source.auctions[instrument]["price_ticks"]
        auction["lots"] = source.auctions[instrument]["lots"]
        auction["surplus_lots"] = source.auctions[instrument]["surplus_lots"]
        target.books[instrument]["stops"] = book["stops"]
        for kind in range(BOOK_KINDS):
            row = instrument + kind * meta[BOOK_STRIDE]
            target.books[row]["last_ticks"] = source.books[row]["last_ticks"]
            if not _copy_book(target, source, row):
                return False
            _copy_trails(target, source, row)
    return True


@njit_kernel
def relevel(state):
    """Put every order on its level, in the order of its links, and into the tables of ids, after ``forget_levels``.

    Parameters
    ----------
    state : MatcherState between commands, changed in place
    """
    orders = state.orders
    for first in range(1, state.meta[ORDERS_USED] + 1):
        if orders[first]["order_id"] == 0 or orders[first]["prev"] != 0:
            continue
        slot = np.int64(first)
        while slot != 0:
            order = orders[slot]
            behind = np.int64(order["next"])
            append(state, slot, np.int64(order["book"]), np.int64(order["side"]), order["price_ticks"])
            add_id(state.recent_ids, state.other_ids, state.meta[IDS_SHIFT], order["order_id"], slot)
            slot = behind
