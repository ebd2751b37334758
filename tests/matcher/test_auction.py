"""The price at which an auction ends is the one that the rule book finds by trying all of them, wherever orders stand."""

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import enums as e
from tests.matcher.driver import Shard
from tests.matcher.invariants import check_state
from tests.matcher.naive_book import Event, Request
from tests.naive.auction import indication

RESTING = st.lists(st.tuples(st.integers(5, 25), st.integers(1, 9)), max_size=5)
"""(price, lots): a bid up to 15, above it an ask, so that none of them trade."""
GATHERED = st.lists(st.tuples(st.sampled_from((e.BUY, e.SELL)), st.integers(5, 25), st.integers(1, 9)), max_size=9)


def change(wanted: int, reference: int = 0) -> Request:
    opens = wanted == e.INSTRUMENT_OPEN
    return Request(e.SET_STATE, instrument=1, price_ticks=wanted, qty_lots=reference, uncross=opens)


def order(order_id: int, side: int, price: int, lots: int) -> Request:
    return Request(e.LIMIT, order_id, 1 + order_id % 3, 1, side, price, lots, hold=order_id)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(resting=RESTING, gathered=GATHERED, reference=st.integers(0, 30))
def test_kernel_finds_the_price_that_trying_all_of_them_finds(
    resting: list[tuple[int, int]], gathered: list[tuple[int, int, int]], reference: int
) -> None:
    shard = Shard(ring_slots=2)
    orders = [(e.BUY if price <= 15 else e.SELL, price, lots) for price, lots in resting]
    for number, one in enumerate(orders, 1):
        shard.apply(order(number, *one))
    shard.apply(change(e.INSTRUMENT_AUCTION, reference))
    for number, one in enumerate(gathered, 100):
        shard.apply(order(number, *one))
    bids, asks = ([(p, n) for s, p, n in (*orders, *gathered) if s == side] for side in (e.BUY, e.SELL))
    found = indication(bids, asks, reference, range(1, 60))
    told = [event for event in shard.apply(Request(e.EXPIRE)) if event.kind == e.EV_AUCTION]
    assert [found] * bool(found.lots) == [_indication(event) for event in told]
    *trades, last = shard.apply(change(e.INSTRUMENT_OPEN))
    assert found == _indication(last)
    crossed = [event for event in trades if event.kind == e.EV_CROSSED]
    assert found.lots == sum(event.qty_lots for event in crossed)
    assert {found.price} >= {event.price_ticks for event in crossed}
    check_state(shard.state)


def _indication(event: Event) -> tuple[int, int, int]:
    return event.price_ticks, event.qty_lots, event.left_lots
