"""The price rule of auctions, told twice: with the few prices that matter, and with all of them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.naive.auction import Indication, indication

ORDERS = st.lists(st.tuples(st.integers(5, 25), st.integers(1, 9)), max_size=8)
REFERENCES = st.integers(0, 40)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(bids=ORDERS, asks=ORDERS, reference=REFERENCES)
def test_the_prices_that_matter_are_enough(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]], reference: int
) -> None:
    assert indication(bids, asks, reference, range(1, 60)) == indication(bids, asks, reference)


def test_most_lots_come_first_then_the_least_left_over_then_the_reference() -> None:
    assert Indication(102, 10, 0) == indication([(102, 10)], [(101, 4), (102, 6)], 101)
    assert Indication(99, 5, 1) == indication([(100, 6)], [(99, 5)], 1)
    assert Indication(101, 5, 0) == indication([(103, 5)], [(99, 5)], 101)
    assert Indication(103, 5, 0) == indication([(103, 5)], [(99, 5)], 200)
    assert Indication(99, 5, 0) == indication([(103, 5)], [(99, 5)], 1)


def test_without_a_reference_it_is_the_middle_and_where_nothing_meets_there_is_none() -> None:
    assert Indication(101, 5, 0) == indication([(103, 5)], [(99, 5)], 0)
    assert Indication(101, 5, 0) == indication([(103, 5)], [(100, 5)], 0)
    assert Indication() == indication([(99, 5)], [(100, 5)], 100)
    assert Indication() == indication([], [(100, 5)], 100)
