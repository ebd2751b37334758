"""Limits, layout and reset of a shard's state, its views, and its hashes."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from matcher import state as s
from matcher.hashes import books_hash
from matcher.state import MatcherLimits, limits_of, make_state, reset, state_spec
from matcher.views import BookSummary, book_depth, book_summary, resting_orders
from protocol import enums as e
from ringbuf.arena import arena_size, private_arena
from tests.matcher.driver import LIMITS, Shard, listing, new_state
from tests.matcher.naive_book import Request


def order(order_id: int, side: int, price: int, qty: int, account: int = 1, instrument: int = 1) -> Request:
    return Request(e.LIMIT, order_id, account, instrument, side, price, qty, hold=order_id)


def shard_with(*requests: Request, list_k: int = 1) -> Shard:
    shard = Shard(list_k=list_k)
    for request in requests:
        shard.apply(request)
    return shard


@pytest.mark.parametrize(
    ("name", "value"),
    [("orders_max", 0), ("leaves_max", 1 << 25), ("instruments_max", 1 << 16), ("accounts_max", -1)],
)
def test_limit_out_of_range_is_named(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be between 1 and"):
        state_spec(LIMITS._replace(**{name: value}))


def test_state_knows_its_limits() -> None:
    assert LIMITS == limits_of(new_state())


def test_leaves_for_every_order_are_mapped_but_not_touched() -> None:
    million = MatcherLimits(orders_max=1_000_000, leaves_max=1_000_000, instruments_max=100, accounts_max=100_000)
    assert arena_size(state_spec(million)) < 2 * 1024**3


def test_reset_of_a_used_state_gives_a_new_one() -> None:
    shard = shard_with(*(order(i, e.BUY, 100 * i, 5) for i in range(1, 20)))
    reset(shard.state)
    for used, new in zip(shard.state, new_state(), strict=True):
        assert used.tobytes() == new.tobytes()


def test_reset_refuses_a_shard_that_is_not_there() -> None:
    with pytest.raises(AssertionError, match="shard 3 of 3"):
        reset(make_state(private_arena(state_spec(LIMITS))), 3, 3)


def test_depth_lists_levels_from_the_best() -> None:
    shard = shard_with(
        order(1, e.BUY, 99, 5),
        order(2, e.BUY, 99, 7),
        order(3, e.BUY, 98, 1),
        order(4, e.BUY, 1, 2),
        order(5, e.SELL, 100, 4),
        order(6, e.SELL, 10**10, 3),
    )
    columns = [np.zeros(8, np.int64) for _ in range(3)]

    def depth(side: int, max_levels: int) -> list[tuple[int, ...]]:
        count = book_depth(shard.state, 1, side, max_levels, *columns)
        return [tuple(int(column[i]) for column in columns) for i in range(count)]

    assert [(99, 12, 2), (98, 1, 1), (1, 2, 1)] == depth(e.BUY, 8)
    assert [(99, 12, 2), (98, 1, 1)] == depth(e.BUY, 2)
    assert [(100, 4, 1), (10**10, 3, 1)] == depth(e.SELL, 8)
    assert BookSummary(6, 15, 7, 3, 2, 99, 100) == book_summary(shard.state, 1)
    assert [1, 2, 3, 4] == resting_orders(shard.state, 1, e.BUY)["order_id"].tolist()


def test_empty_book_has_no_best_prices() -> None:
    shard = shard_with(order(1, e.BUY, 99, 5))
    assert BookSummary(1, 5, 0, 1, 0, 99, None) == book_summary(shard.state, 1)
    assert BookSummary(0, 0, 0, 0, 0, None, None) == book_summary(shard.state, 2)
    assert len(resting_orders(shard.state, 2, e.SELL)) == 0


def test_hash_of_books_does_not_depend_on_storage() -> None:
    wanted = (order(1, e.BUY, 99, 5), order(2, e.BUY, 99, 7), order(3, e.SELL, 200, 7, account=2))
    plain = shard_with(*wanted)
    passing = [order(i, e.SELL, 64 * i, 1) for i in range(10, 30)]
    detour = shard_with(*passing, wanted[2], *wanted[:2], Request(e.CANCEL_ALL, account=5))
    for request in passing:
        detour.apply(Request(e.CANCEL, request.order_id, 1, 1))
    assert books_hash(plain.carried) == books_hash(detour.carried)


def test_hash_of_books_does_not_depend_on_the_row_of_the_hold() -> None:
    one = shard_with(order(1, e.BUY, 99, 5))
    other = shard_with(order(1, e.BUY, 99, 5)._replace(hold=77))
    assert one.hashes() == other.hashes()


@dataclasses.dataclass
class Change:
    field: str
    value: int


@pytest.mark.parametrize(
    "change",
    [
        Change("order_id", 9),
        Change("price_ticks", 98),
        Change("qty_lots", 6),
        Change("account", 2),
        Change("instrument", 2),
        Change("side", e.SELL),
        Change("tif", e.POST_ONLY),
        Change("stp", e.STP_DECREMENT),
    ],
    ids=lambda change: change.field,
)
def test_every_fact_of_an_order_is_in_the_hash(change: Change) -> None:
    base = order(1, e.BUY, 99, 5)
    one = shard_with(base)
    changed: dict[str, Any] = {change.field: change.value}
    other = shard_with(base._replace(**changed))
    assert books_hash(one.carried) != books_hash(other.carried)


@pytest.mark.parametrize("field", ["expiry", "display", "seq"])
def test_every_term_of_an_order_is_in_the_hash(field: str) -> None:
    base = order(1, e.BUY, 99, 5)._replace(terms=True, expiry=10**18, display=2)
    later = shard_with(order(9, e.BUY, 50, 1), base._replace(seq=3))
    one = shard_with(order(9, e.BUY, 50, 1), order(8, e.BUY, 50, 1), base)
    if field == "seq":
        one = shard_with(order(9, e.BUY, 50, 1), Request(e.EXPIRE), base)
    else:
        changed: dict[str, Any] = {field: getattr(base, field) + 1}
        one = shard_with(order(9, e.BUY, 50, 1), base._replace(**changed))
    assert books_hash(one.carried) != books_hash(later.carried)


def test_priority_and_listing_are_in_the_hash() -> None:
    a, b = order(1, e.BUY, 99, 5), order(2, e.BUY, 99, 5)
    assert books_hash(shard_with(a, b).carried) != books_hash(shard_with(b, a).carried)
    assert books_hash(shard_with(list_k=1).carried) != books_hash(shard_with(list_k=2).carried)
    assert books_hash(shard_with().carried) != books_hash(shard_with(listing(1, 1, 2)).carried)


def test_hash_of_events_counts_each_event_once() -> None:
    shard = shard_with(order(1, e.BUY, 99, 5))
    before = shard.hashes()["events"]
    shard.apply(Request(e.CANCEL_ALL, account=2))
    assert before == shard.hashes()["events"], "nothing to say is no event"
    shard.apply(Request(e.CANCEL, 1, 1, 1))
    assert before != shard.hashes()["events"]
    assert shard.state.meta[s.EVENT_FOLDED] == shard.state.meta[s.EVENT_POSITION]
