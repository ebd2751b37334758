"""The rule book in examples: one table of books, an order each, and what the shard says."""

import pytest

from matcher.state import MatcherLimits
from protocol import enums as e
from protocol import reasons as r
from tests.matcher.driver import Shard, listing
from tests.matcher.invariants import check_state
from tests.matcher.naive_book import Event, Request

ALICE, BOB, CAROL = 1, 2, 3
TWO_LEAVES = MatcherLimits(orders_max=4, leaves_max=2, instruments_max=2, accounts_max=3)


def limit(order_id: int, account: int, side: int, price: int, qty: int, tif: int = e.GTC, stp: int = 0) -> Request:
    return Request(e.LIMIT, order_id, account, 1, side, price, qty, tif, stp, hold=1000 + order_id)


def cancel(order_id: int, account: int = ALICE, instrument: int = 1) -> Request:
    return Request(e.CANCEL, order_id, account, instrument)


def amend(order_id: int, account: int, price: int, total: int) -> Request:
    return Request(e.AMEND, order_id, account, 1, 0, price, total)


def told(events: list[Event]) -> list[tuple[int, ...]]:
    """What matters most: (kind, reason, order, price, quantity, left, taker's left)."""
    assert [ev.last for ev in events] == [False] * (len(events) - 1) + [True]
    return [
        (ev.kind, ev.reason, ev.order_id, ev.price_ticks, ev.qty_lots, ev.left_lots, ev.taker_left) for ev in events
    ]


# Bob sells 5 and then Alice 4 at 100, Carol 6 at 101; Bob buys 7 at 98.
BOOK = (
    limit(1, BOB, e.SELL, 100, 5),
    limit(2, ALICE, e.SELL, 100, 4),
    limit(3, CAROL, e.SELL, 101, 6),
    limit(4, BOB, e.BUY, 98, 7),
)
FILL, PREVENTED, CANCELED, RESTED = e.EV_FILL, e.EV_PREVENTED, e.EV_CANCELED, e.EV_RESTED
EXPIRED, AMENDED, MOVED, REJECTED, NOTHING = e.EV_EXPIRED, e.EV_AMENDED, e.EV_MOVED, e.EV_REJECTED, e.EV_NOTHING
FILL_1 = (FILL, 0, 1, 100, 5, 0)
FILL_2 = (FILL, 0, 2, 100, 4, 0)

CASES = {
    "buy_below_the_best_ask_rests": (limit(9, CAROL, e.BUY, 99, 3), [(RESTED, 0, 9, 99, 3, 3, 3)]),
    "buy_trades_with_the_oldest_at_the_makers_price": (
        limit(9, CAROL, e.BUY, 105, 3),
        [(FILL, 0, 1, 100, 3, 2, 0)],
    ),
    "buy_sweeps_levels_and_rests_at_its_own_price": (
        limit(9, CAROL, e.BUY, 100, 20),
        [(*FILL_1, 15), (*FILL_2, 11), (RESTED, 0, 9, 100, 11, 11, 11)],
    ),
    "sell_meets_the_bid": (
        limit(9, CAROL, e.SELL, 90, 9),
        [(FILL, 0, 4, 98, 7, 0, 2), (RESTED, 0, 9, 90, 2, 2, 2)],
    ),
    "ioc_rest_is_dropped": (
        limit(9, CAROL, e.BUY, 100, 12, e.IOC),
        [(*FILL_1, 7), (*FILL_2, 3), (EXPIRED, r.BY_IOC, 9, 100, 3, 3, 0)],
    ),
    "ioc_that_meets_nothing_expires": (
        limit(9, CAROL, e.BUY, 99, 12, e.IOC),
        [(EXPIRED, r.BY_IOC, 9, 99, 12, 12, 0)],
    ),
    "fok_fills_completely": (limit(9, CAROL, e.BUY, 100, 9, e.FOK), [(*FILL_1, 4), (*FILL_2, 0)]),
    "fok_one_lot_short_touches_nothing": (
        limit(9, CAROL, e.BUY, 100, 10, e.FOK),
        [(REJECTED, r.FOK_UNFILLED, 9, 0, 0, 0, 0)],
    ),
    "fok_counts_own_orders_without_stp": (limit(9, ALICE, e.BUY, 100, 9, e.FOK), [(*FILL_1, 4), (*FILL_2, 0)]),
    "fok_expire_maker_skips_own_orders": (
        limit(9, ALICE, e.BUY, 101, 11, e.FOK, e.STP_EXPIRE_MAKER),
        [(*FILL_1, 6), (CANCELED, r.BY_STP, 2, 100, 4, 0, 6), (FILL, 0, 3, 101, 6, 0, 0)],
    ),
    "fok_expire_maker_does_not_count_own_orders": (
        limit(9, ALICE, e.BUY, 101, 12, e.FOK, e.STP_EXPIRE_MAKER),
        [(REJECTED, r.FOK_UNFILLED, 9, 0, 0, 0, 0)],
    ),
    "fok_decrement_that_meets_itself_is_unfillable": (
        limit(9, ALICE, e.BUY, 101, 6, e.FOK, e.STP_DECREMENT),
        [(REJECTED, r.FOK_UNFILLED, 9, 0, 0, 0, 0)],
    ),
    "fok_filled_before_it_meets_itself": (
        limit(9, ALICE, e.BUY, 101, 5, e.FOK, e.STP_EXPIRE_TAKER),
        [(*FILL_1, 0)],
    ),
    "post_only_that_would_take_is_refused": (
        limit(9, CAROL, e.BUY, 100, 1, e.POST_ONLY),
        [(REJECTED, r.POST_ONLY_WOULD_TAKE, 9, 0, 0, 0, 0)],
    ),
    "post_only_would_take_from_itself_too": (
        limit(9, BOB, e.BUY, 100, 1, e.POST_ONLY, e.STP_EXPIRE_MAKER),
        [(REJECTED, r.POST_ONLY_WOULD_TAKE, 9, 0, 0, 0, 0)],
    ),
    "post_only_below_rests": (limit(9, CAROL, e.BUY, 99, 1, e.POST_ONLY), [(RESTED, 0, 9, 99, 1, 1, 1)]),
    "own_order_without_stp_trades": (
        limit(9, BOB, e.BUY, 100, 2),
        [(FILL, 0, 1, 100, 2, 3, 0)],
    ),
    "expire_taker": (
        limit(9, ALICE, e.BUY, 101, 8, e.GTC, e.STP_EXPIRE_TAKER),
        [(*FILL_1, 3), (EXPIRED, r.BY_STP, 9, 101, 3, 3, 0)],
    ),
    "expire_maker": (
        limit(9, ALICE, e.BUY, 101, 8, e.GTC, e.STP_EXPIRE_MAKER),
        [(*FILL_1, 3), (CANCELED, r.BY_STP, 2, 100, 4, 0, 3), (FILL, 0, 3, 101, 3, 3, 0)],
    ),
    "expire_both": (
        limit(9, ALICE, e.BUY, 101, 8, e.GTC, e.STP_EXPIRE_BOTH),
        [(*FILL_1, 3), (CANCELED, r.BY_STP, 2, 100, 4, 0, 3), (EXPIRED, r.BY_STP, 9, 101, 3, 3, 0)],
    ),
    "decrement_smaller_taker": (
        limit(9, ALICE, e.BUY, 101, 8, e.GTC, e.STP_DECREMENT),
        [(*FILL_1, 3), (PREVENTED, 0, 2, 100, 3, 1, 0)],
    ),
    "decrement_smaller_maker": (
        limit(9, ALICE, e.BUY, 100, 11, e.GTC, e.STP_DECREMENT),
        [(*FILL_1, 6), (PREVENTED, 0, 2, 100, 4, 0, 2), (RESTED, 0, 9, 100, 2, 2, 2)],
    ),
    "stp_reached_exactly_filled_does_nothing": (
        limit(9, ALICE, e.BUY, 101, 5, e.GTC, e.STP_EXPIRE_BOTH),
        [(*FILL_1, 0)],
    ),
    "market_stops_at_its_protection_price": (
        Request(e.MARKET, 9, CAROL, 1, e.BUY, 100, 10, hold=1009),
        [(*FILL_1, 5), (*FILL_2, 1), (EXPIRED, r.BY_NO_LIQUIDITY, 9, 100, 1, 1, 0)],
    ),
    "market_ignores_time_in_force": (
        Request(e.MARKET, 9, CAROL, 1, e.BUY, 100, 10, e.POST_ONLY, hold=1009),
        [(*FILL_1, 5), (*FILL_2, 1), (EXPIRED, r.BY_NO_LIQUIDITY, 9, 100, 1, 1, 0)],
    ),
    "amount_buys_whole_lots_only": (
        # K is 10: a lot at 100 is 1000 units. 9 lots and 700 left; at 101 not one lot fits.
        Request(e.MARKET_AMOUNT, 9, CAROL, 1, e.BUY, 101, 9_700, hold=1009),
        [(*FILL_1, 4_700), (*FILL_2, 700), (EXPIRED, r.BY_NO_LIQUIDITY, 9, 101, 700, 700, 0)],
    ),
    "amount_spent_to_the_last_unit_ends_with_the_fill": (
        Request(e.MARKET_AMOUNT, 9, CAROL, 1, e.BUY, 101, 5_000, hold=1009),
        [(*FILL_1, 0)],
    ),
    "amount_below_one_lot_expires": (
        Request(e.MARKET_AMOUNT, 9, CAROL, 1, e.BUY, 101, 999, hold=1009),
        [(EXPIRED, r.BY_NO_LIQUIDITY, 9, 101, 999, 999, 0)],
    ),
    "amount_below_one_lot_leaves_own_orders_alone": (
        Request(e.MARKET_AMOUNT, 9, BOB, 1, e.BUY, 101, 999, 0, e.STP_EXPIRE_MAKER, hold=1009),
        [(EXPIRED, r.BY_NO_LIQUIDITY, 9, 101, 999, 999, 0)],
    ),
    "amount_decremented": (
        Request(e.MARKET_AMOUNT, 9, BOB, 1, e.BUY, 100, 2_500, 0, e.STP_DECREMENT, hold=1009),
        [(PREVENTED, 0, 1, 100, 2, 3, 500), (EXPIRED, r.BY_NO_LIQUIDITY, 9, 100, 500, 500, 0)],
    ),
    "amount_that_takes_its_maker_off_keeps_its_amount": (
        Request(e.MARKET_AMOUNT, 9, BOB, 1, e.BUY, 100, 4_000, 0, e.STP_EXPIRE_MAKER, hold=1009),
        [(CANCELED, r.BY_STP, 1, 100, 5, 0, 4_000), (*FILL_2, 0)],
    ),
    "amount_sold": (
        Request(e.MARKET_AMOUNT, 9, CAROL, 1, e.SELL, 98, 2_000, hold=1009),
        [(FILL, 0, 4, 98, 2, 5, 40), (EXPIRED, r.BY_NO_LIQUIDITY, 9, 98, 40, 40, 0)],
    ),
    "cancel": (cancel(2), [(CANCELED, r.BY_USER, 2, 100, 4, 0, 0)]),
    "cancel_of_someone_elses_order_is_unknown": (cancel(1), [(REJECTED, r.UNKNOWN_ORDER, 1, 0, 0, 0, 0)]),
    "cancel_on_another_instrument_is_unknown": (
        cancel(2, ALICE, 2),
        [(REJECTED, r.UNKNOWN_ORDER, 2, 0, 0, 0, 0)],
    ),
    "cancel_of_nothing_is_unknown": (cancel(77), [(REJECTED, r.UNKNOWN_ORDER, 77, 0, 0, 0, 0)]),
    "amend_to_less_keeps_its_place": (amend(1, BOB, 100, 2), [(AMENDED, 0, 1, 100, 2, 2, 2)]),
    "amend_to_more_goes_to_the_back": (
        amend(1, BOB, 100, 6),
        [(MOVED, 0, 1, 100, 6, 6, 6)],
    ),
    "amend_to_another_price": (
        amend(1, BOB, 99, 5),
        [(MOVED, 0, 1, 99, 5, 5, 5)],
    ),
    "amend_that_crosses_trades": (
        amend(1, BOB, 97, 9),
        [(AMENDED, 0, 1, 97, 9, 9, 9), (FILL, 0, 4, 98, 7, 0, 2), (RESTED, 0, 1, 97, 2, 2, 2)],
    ),
    "amend_that_is_filled_is_gone": (
        amend(2, ALICE, 98, 4),
        [(AMENDED, 0, 2, 98, 4, 4, 4), (FILL, 0, 4, 98, 4, 3, 0)],
    ),
    "amend_that_changes_nothing": (amend(1, BOB, 100, 5), [(REJECTED, r.NO_CHANGE, 1, 0, 0, 0, 0)]),
    "amend_of_someone_elses_order_is_unknown": (
        amend(1, ALICE, 99, 5),
        [(REJECTED, r.UNKNOWN_ORDER, 1, 0, 0, 0, 0)],
    ),
    "cancel_all_of_an_account_is_in_order_of_ids": (
        Request(e.CANCEL_ALL, account=BOB),
        [(CANCELED, r.BY_CANCEL_ALL, 1, 100, 5, 0, 0), (CANCELED, r.BY_CANCEL_ALL, 4, 98, 7, 0, 0)],
    ),
    "cancel_all_of_an_instrument": (
        Request(e.CANCEL_ALL, instrument=1),
        [
            (CANCELED, r.BY_CANCEL_ALL, 1, 100, 5, 0, 0),
            (CANCELED, r.BY_CANCEL_ALL, 2, 100, 4, 0, 0),
            (CANCELED, r.BY_CANCEL_ALL, 3, 101, 6, 0, 0),
            (CANCELED, r.BY_CANCEL_ALL, 4, 98, 7, 0, 0),
        ],
    ),
    "cancel_all_that_finds_nothing": (
        Request(e.CANCEL_ALL, account=BOB, instrument=2),
        [(NOTHING, 0, 0, 0, 0, 0, 0)],
    ),
}


def shard_with_book() -> Shard:
    shard = Shard(list_k=10)
    for request in BOOK:
        assert [ev.kind for ev in shard.apply(request)] == [RESTED]
    return shard


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    request, expected = CASES[name]
    shard = shard_with_book()
    before = shard.hashes()["books"]
    events = shard.apply(request)
    assert expected == told(events)
    holds = {ev.order_id: ev.hold for ev in events if ev.kind not in {REJECTED, NOTHING}}
    assert {order_id: 1000 + order_id for order_id in holds} == holds
    check_state(shard.state)
    if events[0].kind in {REJECTED, NOTHING}:
        assert before == shard.hashes()["books"], "a refusal changes nothing"


@pytest.mark.parametrize("multiplier", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("price", [(1 << 62) - 1, 1 << 62, (1 << 63) - 1])
@pytest.mark.parametrize("resting", [0, 1])
def test_buy_by_amount_at_any_price_ends_where_the_asks_end(multiplier: int, price: int, resting: int) -> None:
    """The price that stands for "no ask" is not one that an order can reach."""
    shard = Shard(list_k=multiplier)
    for order_id in range(1, resting + 1):
        shard.apply(limit(order_id, BOB, e.SELL, 100, 5))
    events = told(shard.apply(Request(e.MARKET_AMOUNT, 9, CAROL, 1, e.BUY, price, 1 << 61, hold=1009)))
    left = (1 << 61) - resting * 500 * multiplier
    assert [(FILL, 0, 1, 100, 5, 0, left)][:resting] == events[:-1]
    assert (EXPIRED, 9) == (events[-1][0], events[-1][2])
    check_state(shard.state)


def test_amend_total_counts_what_was_traded_before() -> None:
    shard = shard_with_book()
    shard.apply(limit(9, CAROL, e.BUY, 100, 3))
    assert [(REJECTED, r.QUANTITY_TOO_LOW, 1, 0, 0, 0, 0)] == told(shard.apply(amend(1, BOB, 100, 3)))
    assert [(AMENDED, 0, 1, 100, 4, 1, 1)] == told(shard.apply(amend(1, BOB, 100, 4)))


def test_amend_total_counts_what_was_prevented_before() -> None:
    shard = shard_with_book()
    shard.apply(limit(9, BOB, e.BUY, 100, 2, e.IOC, e.STP_DECREMENT))
    assert [(REJECTED, r.QUANTITY_TOO_LOW, 1, 0, 0, 0, 0)] == told(shard.apply(amend(1, BOB, 99, 2)))


def test_amended_order_uses_its_own_stp_as_taker() -> None:
    shard = shard_with_book()
    shard.apply(limit(9, BOB, e.SELL, 103, 8, e.GTC, e.STP_EXPIRE_TAKER))
    expected = [(AMENDED, 0, 9, 98, 8, 8, 8), (EXPIRED, r.BY_STP, 9, 98, 8, 8, 0)]
    assert expected == told(shard.apply(amend(9, BOB, 98, 8)))
    check_state(shard.state)
    assert [(REJECTED, r.UNKNOWN_ORDER, 9, 0, 0, 0, 0)] == told(shard.apply(cancel(9, BOB)))


def test_resting_orders_own_stp_does_not_count() -> None:
    shard = Shard()
    shard.apply(limit(1, ALICE, e.SELL, 100, 5, e.GTC, e.STP_EXPIRE_BOTH))
    assert [(FILL, 0, 1, 100, 5, 0, 0)] == told(shard.apply(limit(2, ALICE, e.BUY, 100, 5)))


def test_post_only_amend_is_refused_only_where_the_price_changes() -> None:
    shard = shard_with_book()
    shard.apply(limit(9, CAROL, e.BUY, 99, 3, e.POST_ONLY))
    assert [(REJECTED, r.POST_ONLY_WOULD_TAKE, 9, 0, 0, 0, 0)] == told(shard.apply(amend(9, CAROL, 100, 3)))
    assert [MOVED] == [ev.kind for ev in shard.apply(amend(9, CAROL, 99, 30))]
    assert [MOVED] == [ev.kind for ev in shard.apply(amend(9, CAROL, 97, 30))]


def test_order_that_kept_its_place_trades_first() -> None:
    shard = shard_with_book()
    shard.apply(amend(1, BOB, 100, 2))
    assert [(FILL, 0, 1, 100, 2, 0, 1), (FILL, 0, 2, 100, 1, 3, 0)] == told(shard.apply(limit(9, CAROL, e.BUY, 100, 3)))


def test_order_that_grew_trades_last() -> None:
    shard = shard_with_book()
    shard.apply(amend(1, BOB, 100, 6))
    assert [(*FILL_2, 1), (FILL, 0, 1, 100, 1, 5, 0)] == told(shard.apply(limit(9, CAROL, e.BUY, 100, 5)))


def test_amend_uses_the_hold_of_its_order() -> None:
    shard = shard_with_book()
    events = shard.apply(amend(1, BOB, 99, 5)._replace(hold=7))
    assert [1001] == [ev.hold for ev in events]


def test_refusal_carries_the_hold_of_the_verdict() -> None:
    shard = shard_with_book()
    (event,) = shard.apply(limit(9, CAROL, e.BUY, 100, 1, e.POST_ONLY))
    assert event.hold == 1009


def test_book_full_refuses_new_ranges_of_prices_only() -> None:
    shard = Shard(TWO_LEAVES)
    assert [RESTED] == [ev.kind for ev in shard.apply(limit(1, ALICE, e.BUY, 64, 1))]
    assert [RESTED] == [ev.kind for ev in shard.apply(limit(2, ALICE, e.BUY, 10**10, 1))]
    refused = [(REJECTED, r.BOOK_FULL, 3, 0, 0, 0, 0)]
    assert refused == told(shard.apply(limit(3, BOB, e.BUY, 640, 1)))
    assert refused == told(shard.apply(limit(3, BOB, e.SELL, 640, 1))), "also where it would trade first"
    assert [EXPIRED] == [ev.kind for ev in shard.apply(limit(4, BOB, e.BUY, 640, 1, e.IOC))], "what never rests, passes"
    assert [RESTED] == [ev.kind for ev in shard.apply(limit(5, ALICE, e.BUY, 127, 1))]
    assert [(REJECTED, r.BOOK_FULL, 5, 0, 0, 0, 0)] == told(shard.apply(amend(5, ALICE, 640, 1)))
    shard.apply(cancel(2))
    assert [RESTED] == [ev.kind for ev in shard.apply(limit(6, BOB, e.BUY, 640, 1))]
    check_state(shard.state)


def test_full_pool_of_orders_refuses_by_name() -> None:
    shard = Shard(TWO_LEAVES)
    for order_id in range(1, 5):
        assert [RESTED] == [ev.kind for ev in shard.apply(limit(order_id, ALICE, e.BUY, 64, 1))]
    assert [(REJECTED, r.BOOK_FULL, 5, 0, 0, 0, 0)] == told(shard.apply(limit(5, ALICE, e.BUY, 64, 1)))
    assert [FILL] == [ev.kind for ev in shard.apply(limit(6, BOB, e.SELL, 64, 1, e.IOC))]
    assert [RESTED] == [ev.kind for ev in shard.apply(limit(7, ALICE, e.BUY, 64, 1))]


def test_listing_again_changes_the_multiplier_only() -> None:
    shard = shard_with_book()
    assert [] == shard.apply(listing(1, k=20))
    assert [(FILL, 0, 1, 100, 2, 3, 0)] == told(shard.apply(Request(e.MARKET_AMOUNT, 9, CAROL, 1, e.BUY, 101, 4_000)))
