"""Named hashes of a shard: of what stands in its books, and of all that it said. Sums over rows modulo 2^64.

Storage shows in none of them: not slots, hold rows, nor tables. The hashes of shards add up to those of one shard with
all instruments.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from matcher.jit import njit_kernel
from matcher.state import (
    BOOK_INDEX,
    BOOK_MARK,
    BOOK_STRIDE,
    EVENT_HASH,
    HAS_TERMS,
    ORDERS_USED,
    PROTECTIONS_HIGH,
    WAITS,
    MatcherState,
)
from protocol.enums import OFFSET_NONE, PROTECTION_STEPS
from ringbuf.bits import PHI, add, mix, multiply, prefetch

_ODD: Final = (
    np.uint64(0xE7037ED1A0B428DB),
    np.uint64(0x8EBC6AF09C88C6E3),
    np.uint64(0x589965CC75374CC3),
    np.uint64(0x1D8E4E27C47D124F),
    np.uint64(0xEB44ACCAB455D165),
    np.uint64(0xA0761D6478BD642F),
)
_MASK: Final = (1 << 64) - 1
_FORESIGHT: Final = 32
"""Orders from a prefetch to its use."""


@njit_kernel
def books_hash(state):
    """Hash (uint64) of the listed instruments, and of every order that stands, with the order before it in its level, if any.

    To be taken between commands. A scan of all slots ever used: some 15 ns each.
    """
    orders = state.orders
    used = state.meta[ORDERS_USED]
    total = np.uint64(0)
    for slot in range(1, used + 1):
        if slot + _FORESIGHT <= used:
            # Orders come as they lie, those before them from anywhere.
            prefetch(orders, np.int64(orders[slot + _FORESIGHT]["prev"]))
        order = orders[slot]
        if order["order_id"] == 0:
            continue
        older = np.int64(order["prev"])
        older_id = orders[older]["order_id"] if older != 0 else np.int64(0)
        what = np.int64(order["book"]) | np.int64(order["side"]) << 16 | np.int64(order["modes"]) << 24
        what |= np.int64(order["account"]) << 32
        word = multiply(np.uint64(order["order_id"]), PHI)
        word = add(word, multiply(np.uint64(order["price_ticks"]), _ODD[0]))
        word = add(word, multiply(np.uint64(order["left_lots"]), _ODD[1]))
        word = add(word, multiply(np.uint64(order["total_lots"]), _ODD[2]))
        word = add(word, multiply(np.uint64(older_id), _ODD[3]))
        word = add(word, multiply(np.uint64(what), _ODD[4]))
        if state.sessions[slot] != 0:
            word = add(mix(word), multiply(np.uint64(state.sessions[slot]), _ODD[5]))
        if (order["modes"] & HAS_TERMS) != 0:
            terms = state.terms[slot]
            word = add(mix(word), multiply(np.uint64(terms["expiry_ns"]), PHI))
            word = add(word, multiply(np.uint64(terms["age"]), _ODD[0]))
            word = add(word, multiply(np.uint64(terms["display_lots"]), _ODD[1]))
            word = add(word, multiply(np.uint64(terms["hidden_lots"]), _ODD[2]))
            if terms["link"] != 0:
                other = orders[np.int64(terms["link"])]["order_id"]
                word = add(mix(word), multiply(np.uint64(other), _ODD[3]))
            if (order["modes"] & WAITS) != 0 or terms["offset_kind"] != OFFSET_NONE:
                own = np.int64(terms["side"]) | np.int64(terms["type"]) << 8 | np.int64(terms["offset_kind"]) << 16
                own |= np.int64(terms["activates"]) << 24 | np.int64(terms["offset"]) << 32
                word = add(mix(word), multiply(np.uint64(terms["limit_ticks"]), PHI))
                word = add(word, multiply(np.uint64(terms["min_lots"]), _ODD[0]))
                word = add(word, multiply(np.uint64(own), _ODD[1]))
        total = add(total, mix(word))
    for instrument in range(1, state.lot_atoms.shape[0]):
        book = state.books[instrument]
        if book["multiplier"] != 0:
            word = multiply(np.uint64(instrument), _ODD[5])
            word = add(word, multiply(np.uint64(book["multiplier"]), PHI))
            word = add(word, multiply(np.uint64(state.lot_atoms[instrument]), _ODD[0]))
            word = add(word, multiply(np.uint64(book["last_ticks"]), _ODD[1]))
            mark = state.books[instrument + BOOK_MARK * state.meta[BOOK_STRIDE]]["last_ticks"]
            index = state.books[instrument + BOOK_INDEX * state.meta[BOOK_STRIDE]]["last_ticks"]
            word = add(mix(word), multiply(np.uint64(mark), _ODD[3]))
            word = add(word, multiply(np.uint64(index), _ODD[4]))
            total = add(total, mix(add(word, multiply(np.uint64(book["market_state"]), _ODD[2]))))
            auction = state.auctions[instrument]
            word = multiply(np.uint64(instrument), _ODD[4])
            word = add(word, multiply(np.uint64(auction["reference_ticks"]), PHI))
            word = add(word, multiply(np.uint64(auction["price_ticks"]), _ODD[0]))
            word = add(word, multiply(np.uint64(auction["lots"]), _ODD[1]))
            total = add(total, mix(add(word, multiply(np.uint64(auction["surplus_lots"]), _ODD[2]))))
    for at in range(1, state.meta[PROTECTIONS_HIGH] + 1):
        row = state.protections[at]
        if row["window_ns"] == 0:
            continue
        word = multiply(np.uint64(row["account"]), _ODD[5])
        word = add(word, multiply(np.uint64(row["instrument"]), PHI))
        word = add(mix(word), multiply(np.uint64(row["window_ns"]), _ODD[2]))
        word = add(word, multiply(np.uint64(row["qty_max_lots"]), _ODD[3]))
        word = add(word, multiply(np.uint64(row["net_max_lots"]), _ODD[4]))
        word = add(word, multiply(np.uint64(row["trades_max"]), _ODD[5]))
        word = add(mix(word), multiply(np.uint64(row["newest"]), _ODD[0]))
        word = add(mix(word), multiply(np.uint64(row["pulled"]), _ODD[1]))
        for step in range(PROTECTION_STEPS):
            word = add(mix(word), multiply(np.uint64(row["lots"][step]), _ODD[2]))
            word = add(mix(word), multiply(np.uint64(row["net"][step]), _ODD[3]))
            word = add(mix(word), multiply(np.uint64(row["trades"][step]), _ODD[4]))
        total = add(total, mix(word))
    return total


def structure_hashes(state: MatcherState) -> dict[str, int]:
    """The hashes of this shard by the name of the structure; each an integer below 2^64."""
    return {"books": int(books_hash(state)), "events": int(state.meta[EVENT_HASH]) & _MASK}
