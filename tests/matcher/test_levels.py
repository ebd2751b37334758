"""Leaves with one price, with blocks of every size and without: what they hold, and what is free again when orders leave."""

import random

import numpy as np
import pytest

from matcher import state as s
from matcher.rebuild import take_over_books
from matcher.views import resting_orders
from protocol import enums as e
from tests.matcher.driver import LIMITS, Shard, carried, new_state
from tests.matcher.invariants import check_state
from tests.matcher.naive_book import Request

LEAF = 64


class Book:
    """Bids of one lot that come and go, beside a list of them by price."""

    def __init__(self) -> None:
        self.shard = Shard(list_k=1)
        self.orders: dict[int, int] = {}
        self.last = 0

    def enter(self, price: int) -> int:
        self.last += 1
        request = Request(e.LIMIT, self.last, 1 + self.last % 9, 1, e.BUY, price, 1, hold=self.last)
        assert e.EV_RESTED == self.shard.apply(request)[0].kind
        self.orders[self.last] = price
        return self.last

    def cancel(self, order_id: int) -> None:
        request = Request(e.CANCEL, order_id, 1 + order_id % 9, 1)
        assert e.EV_CANCELED == self.shard.apply(request)[0].kind
        del self.orders[order_id]

    def check(self) -> None:
        check_state(self.shard.state)
        expected = sorted(self.orders, key=lambda order_id: (-self.orders[order_id], order_id))
        assert expected == resting_orders(self.shard.state, 1, e.BUY)["order_id"].tolist()

    def sizes(self) -> list[int]:
        """Size of the block of each leaf of the book, from the lowest price on; -1 = its level lies in it."""
        state = self.shard.state
        tails = [int(row["tail"]) for row in state.leaves[1:] if row["bitmap"]]
        return [tail >> s.SIZE_SHIFT & 3 if tail & s.MANY else -1 for tail in tails]


def test_a_leaf_has_the_block_that_its_prices_need() -> None:
    book = Book()
    found = []
    for price in range(LEAF, 2 * LEAF):
        book.enter(price)
        book.check()
        found += book.sizes()
    assert [-1] + 3 * [0] + 12 * [1] + 48 * [2] == found
    found = []
    for order_id in list(book.orders):
        book.cancel(order_id)
        book.check()
        found += book.sizes()
    assert 51 * [2] + 9 * [1] + 2 * [0] + [-1] == found
    assert 0 == book.shard.state.meta[s.LEAVES_LIVE]
    assert 1 == np.count_nonzero(book.shard.state.kept["leaf"])


@pytest.mark.parametrize("prices", [(5, 3, 4), (63, 0, 31), (0, 1, 2, 3, 4, 62, 63)])
def test_orders_of_a_price_keep_their_order_when_its_level_moves(prices: tuple[int, ...]) -> None:
    book = Book()
    for price in prices:
        for _ in range(3):
            book.enter(LEAF + price)
            book.check()
    for order_id in [1, 5, 9, *list(book.orders)]:
        if order_id in book.orders:
            book.cancel(order_id)
            book.check()


@pytest.mark.parametrize("seed", range(1, 5))
def test_books_that_fill_and_thin_out_again_and_again(seed: int) -> None:
    rng = random.Random(seed)
    book = Book()
    prices = [LEAF * prefix + offset for prefix in (1, 2, 3, 1 << 20, 1 << 55) for offset in range(LEAF)]
    for _ in range(3):
        chosen = rng.sample(prices, rng.choice((8, 40, 320)))
        most = rng.choice((30, 300))
        for step in range(600):
            if len(book.orders) < most and rng.random() < 0.7:
                book.enter(rng.choice(chosen))
            elif book.orders:
                book.cancel(rng.choice(list(book.orders)))
            if step % 20 == 0:
                book.check()
        while len(book.orders) > 5:
            book.cancel(rng.choice(list(book.orders)))
            if len(book.orders) % 20 == 0:
                book.check()
    book.check()
    copy = new_state()
    assert take_over_books(carried(copy), book.shard.carried)
    check_state(copy)
    assert book.orders == {int(row["order_id"]): int(row["price_ticks"]) for row in resting_orders(copy, 1, e.BUY)}


def test_blocks_never_run_out_before_orders_and_leaves() -> None:
    """The worst: every leaf with the fewest prices of one size, after all of them had every other."""
    limits = LIMITS._replace(orders_max=260, leaves_max=16)
    state = new_state(limits)
    most = [min(limits.leaves_max, limits.orders_max // fewest) for fewest in s.BLOCK_FEWEST]
    assert 1 + sum(count * s.block_entries(size) for size, count in enumerate(most)) == len(state.levels)
    assert len(state.nodes) == limits.leaves_max + 1
    book = Book()
    book.shard = Shard(limits, list_k=1)
    for count in (*range(1, 17), *range(16, 0, -1)):
        for order_id in list(book.orders):
            book.cancel(order_id)
        for prefix in range(1, min(16, limits.orders_max // count) + 1):
            for offset in range(count):
                book.enter(LEAF * prefix + 3 * offset)
        book.check()


def test_an_order_takes_at_most_128_bytes_wherever_it_rests() -> None:
    """Its slot, its share of the tables of ids and leaves when those are full, and of the leaf, whatever prices are in use there."""
    orders = leaves = 1 << 20
    spec = {name: (dtype, length) for name, dtype, length in s.state_spec(s.MatcherLimits(orders, leaves, 8, 8))}
    alone = (
        s.ORDER_DTYPE.itemsize
        + 4 * (spec["recent_ids"][1] + spec["other_ids"][1]) / orders
        + spec["sessions"][0].itemsize
    )
    leaf = s.LEAF_DTYPE.itemsize + s.NODE_DTYPE.itemsize + 4 * spec["leaf_table"][1] / leaves
    found = [alone + leaf]
    for size, fewest in enumerate(s.BLOCK_FEWEST):
        found.append(alone + (leaf + 8 * s.block_entries(size)) / fewest)
    assert 128 >= max(found)
