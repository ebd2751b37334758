"""Orders that wait for a price: what risk refuses, what they hold while they wait, and what is free when they are done."""

from typing import Any, cast

import numpy as np
import pytest
from msgspec.structs import replace

from matcher.hashes import books_hash
from matcher.process import shard_state
from matcher.rebuild import take_over_books
from matcher.state import BOOK_MARK, ORDERS_USED, MatcherLimits, MatcherState, limits_of, make_state, reset, state_spec
from matcher.views import resting_orders
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from ringbuf.arena import private_arena
from tests.engine.operators import START_TS_NS, numbered
from tests.matcher.driver import Shard
from tests.matcher.invariants import check_state
from tests.matcher.naive_book import Request
from tests.risk.desk import LIMITS, WHO, Desk, head

MANY = 10**6
E8 = 10**8


@pytest.fixture
def desk() -> Desk:
    return funded(Desk())


def funded(desk: Desk) -> Desk:
    """Everybody has money, and the last price is 100, the mark price 100."""
    for account in (1, 2, 3):
        desk.fund(account, MANY, MANY)
    desk.ts_ns = START_TS_NS
    desk.do(desk.limit(1, e.SELL, 100, 1))
    desk.do(desk.limit(2, e.BUY, 100, 1))
    desk.do(build.set_prices(1, mark_ticks=100))
    return desk


def stop(group: np.ndarray, trigger: int = 0, **fields: int) -> np.ndarray:
    profit = bool(fields.pop("takes_profit", 0))
    return build.with_trigger(group, trigger_price_ticks=trigger, takes_profit=profit, **fields)


def banded() -> np.ndarray:
    """Bands of 10 % around a reference of 100."""
    shares = {"band_up_e8": E8 // 10, "band_down_e8": E8 // 10, "breaker_e8": 0, "reference_ticks": 100}
    return build.set_bands(1, **shares, operator=WHO[0], reason=WHO[1])


def market(side: int, lots: int, price: int = 0) -> np.ndarray:
    return build.market(account=3, instrument=1, side=side, qty_lots=lots, price_ticks=price)


@pytest.mark.parametrize(
    ("reason", "trigger", "fields"),
    [
        (r.BAD_TRIGGER, 0, {}),
        (r.BAD_TRIGGER, -5, {}),
        (r.BAD_TRIGGER, 105, {"trigger_ref": 3}),
        (r.RANGE, (1 << 62) - 1, {}),
        (r.BAD_OFFSET, 0, {"offset_kind": e.OFFSET_TICKS, "offset": 0}),
        (r.BAD_OFFSET, 0, {"offset_kind": e.OFFSET_TICKS, "offset": -1}),
        (r.BAD_OFFSET, 0, {"offset_kind": e.OFFSET_BASIS_POINTS, "offset": 10_000}),
        (r.BAD_OFFSET, 0, {"offset_kind": 3, "offset": 1}),
        (r.BAD_ACTIVATION, -1, {"offset_kind": e.OFFSET_TICKS, "offset": 1}),
        (r.RANGE, 1 << 62, {"offset_kind": e.OFFSET_TICKS, "offset": 1}),
        (r.OFFSET_MISPLACED, 0, {"offset_kind": e.OFFSET_TICKS, "offset": 1, "takes_profit": 1}),
        (r.NO_TRIGGER_PRICE, 105, {"trigger_ref": e.TRIGGER_INDEX}),
        (r.TRIGGER_PASSED, 100, {}),
        (r.TRIGGER_PASSED, 99, {}),
        (r.TRIGGER_PASSED, 101, {"takes_profit": 1}),
        (r.ACCEPTED, 101, {}),
        (r.ACCEPTED, 99, {"takes_profit": 1}),
        (r.ACCEPTED, 0, {"offset_kind": e.OFFSET_BASIS_POINTS, "offset": 9_999}),
        (r.ACCEPTED, 90, {"offset_kind": e.OFFSET_TICKS, "offset": 1}),
        (r.ACCEPTED, 110, {"offset_kind": e.OFFSET_TICKS, "offset": 1}),
    ],
)
def test_what_a_buy_waits_for_makes_sense_or_is_refused_by_name(
    desk: Desk, reason: int, trigger: int, fields: dict[str, int]
) -> None:
    before = desk.money(3)
    assert r.NAME[reason] == r.NAME[desk.send(stop(desk.limit(3, e.BUY, 110, 2), trigger, **fields))]
    held = 220 if reason == r.ACCEPTED else 0
    assert [(before[0][0] - held, before[0][1] + held), before[1]] == desk.money(3)


def test_order_by_amount_waits_for_nothing_and_a_sell_not_for_less_than_a_tick(desk: Desk) -> None:
    amount = build.market_amount(account=3, instrument=1, side=e.BUY, amount_units=500, price_ticks=110)
    assert r.TRIGGER_MISPLACED == desk.send(stop(amount, 105))
    far = {"offset_kind": e.OFFSET_TICKS, "offset": 100}
    assert r.OFFSET_TOO_LARGE == desk.send(stop(desk.limit(3, e.SELL, 1, 1), **far))
    assert r.ACCEPTED == desk.send(stop(desk.limit(3, e.SELL, 1, 1), **(far | {"offset": 99})))


def test_trailing_stops_of_an_instrument_and_price_are_a_thousand_at_most() -> None:
    desk = funded(Desk(limits=replace(LIMITS, orders=2_048, leaves=2_048)))
    trail = {"offset_kind": e.OFFSET_TICKS, "offset": 5}
    group = stop(desk.limit(3, e.SELL, 1, 1), **trail)
    many = np.concatenate([build.stamp(group.copy(), e.SOURCE_FIRST_GATEWAY, 5_000 + k, 0) for k in range(1_000)])
    desk.engine.feed(numbered(many, desk.engine.last_seq + 1), lambda _: None)
    desk.number = 6_000
    assert r.TRAILING_FULL == desk.send(group)
    assert r.ACCEPTED == desk.send(stop(desk.limit(3, e.SELL, 1, 1), trigger_ref=e.TRIGGER_MARK, **trail))
    assert r.ACCEPTED == desk.send(stop(desk.limit(3, e.SELL, 1, 1), 95))


def test_activation_of_two_linked_orders_ends_with_what_ends_them(desk: Desk) -> None:
    """The price comes to the activation of one and to the take-profit that ends it at once; both leave, and nothing is held."""
    before = desk.money(3)
    profit = stop(desk.limit(3, e.SELL, 1, 2, tif=e.IOC), 112, takes_profit=1, trigger_ref=e.TRIGGER_MARK)
    trail = {"offset_kind": e.OFFSET_TICKS, "offset": 5, "trigger_ref": e.TRIGGER_MARK}
    desk.do(build.oco(profit, stop(desk.limit(3, e.SELL, 1, 2, tif=e.IOC), 105, **trail)))
    desk.do(build.set_prices(1, mark_ticks=120))
    kinds = [e.OUT_TRIGGERED, e.OUT_CANCELED, e.OUT_EXPIRED, e.OUT_ADMIN]
    assert kinds == desk.outcomes["kind"].tolist()
    assert before == desk.money(3)
    assert r.ACCEPTED == desk.send(stop(desk.limit(3, e.SELL, 1, 1), 130, **trail))


def test_stops_that_wait_for_their_activation_count_as_trailing() -> None:
    desk = funded(Desk(limits=replace(LIMITS, orders=2_048, leaves=2_048)))
    trail = {"offset_kind": e.OFFSET_TICKS, "offset": 5}
    group = stop(desk.limit(3, e.SELL, 1, 1), 110, **trail)
    many = np.concatenate([build.stamp(group.copy(), e.SOURCE_FIRST_GATEWAY, 5_000 + k, 0) for k in range(1_000)])
    desk.engine.feed(numbered(many, desk.engine.last_seq + 1), lambda _: None)
    desk.number = 6_000
    assert r.TRAILING_FULL == desk.send(stop(desk.limit(3, e.SELL, 1, 1), **trail))
    desk.do(build.cancel(account=3, instrument=1, order_id=e.SOURCE_FIRST_GATEWAY << 40 | 5_000))
    assert r.ACCEPTED == desk.send(stop(desk.limit(3, e.SELL, 1, 1), **trail))
    assert r.TRAILING_FULL == desk.send(group)


def waiting(order_id: int, side: int, activation: int) -> Request:
    fields: dict[str, Any] = {"trigger": activation, "ref": e.TRIGGER_MARK, "waits": True}
    return Request(e.MARKET, order_id, 1, 1, side, 70, 1, offset_kind=e.OFFSET_TICKS, offset=6, seq=order_id, **fields)


def shard_with_trailing_stops(leaves_max: int = 8) -> Shard:
    """At a mark price of 70: sells that trail from 75 on, from 80 on and at once, buys from 65 on and at once."""
    shard = Shard(MatcherLimits(orders_max=8, leaves_max=leaves_max, instruments_max=2, accounts_max=4))
    shard.apply(Request(e.SET_PRICES, instrument=1, price_ticks=70))
    for order_id, (side, activation) in enumerate([(1, 75), (1, 80), (1, 0), (0, 65), (0, 0)], 1):
        assert [e.EV_RESTED] == [event.kind for event in shard.apply(waiting(order_id, side, activation))]
    return shard


def test_book_taken_over_has_the_same_stops_that_are_to_trail() -> None:
    source = shard_with_trailing_stops()
    arrays = private_arena(state_spec(limits_of(source.state)))
    reset(make_state(arrays), 0, 1)
    target = shard_state(arrays)
    assert take_over_books(target, source.carried)
    check_state(cast("MatcherState", target))
    assert int(books_hash(source.carried)) == int(books_hash(target))
    trails = source.state.terms[1 : source.state.meta[ORDERS_USED] + 1]["activates"].tolist()
    assert [e.OFFSET_TICKS, e.OFFSET_TICKS, 0, e.OFFSET_TICKS, 0] == trails


def test_stop_whose_trigger_has_no_place_when_it_is_activated_ends_by_name() -> None:
    """All stand in one range of 64 prices, and there is no other."""
    shard = shard_with_trailing_stops(leaves_max=1)
    told = shard.apply(Request(e.SET_PRICES, instrument=1, price_ticks=140))
    check_state(shard.state)
    ended = [(event.order_id, r.NAME[event.reason]) for event in told if event.kind == e.EV_EXPIRED]
    assert [(5, "BY_NO_LIQUIDITY"), (1, "BOOK_FULL"), (2, "BOOK_FULL")] == ended
    standing = resting_orders(shard.state, 1 + BOOK_MARK * 3, e.BUY)[["order_id", "price_ticks"]].tolist()
    assert [(4, 65), (3, 64)] == standing


def test_stop_market_buy_holds_stop_price_plus_band(desk: Desk) -> None:
    desk.do(banded())
    free = desk.money(3)[0][0]
    desk.do(stop(market(e.BUY, 3), 200))
    assert (free - 3 * 220, 3 * 220) == desk.money(3)[0]
    desk.do(stop(market(e.BUY, 1, price=205), 200))
    assert 3 * 220 + 205 == desk.money(3)[0][1]
    desk.do(stop(market(e.SELL, 4), 50))
    assert 4 * 100 == desk.money(3)[1][1], "a lot has 100 units"


def test_market_order_that_waits_needs_a_price_that_protects_it(desk: Desk) -> None:
    assert r.BAD_PRICE == desk.send(stop(market(e.BUY, 3), 200))
    desk.do(banded())
    trail = {"offset_kind": e.OFFSET_TICKS, "offset": 5}
    assert r.NO_REFERENCE_PRICE == desk.send(stop(market(e.BUY, 3), **trail))
    assert r.ACCEPTED == desk.send(stop(market(e.BUY, 3, price=120), **trail))


def test_band_is_measured_from_the_trigger(desk: Desk) -> None:
    desk.do(banded())
    assert r.PRICE_BAND == desk.send(stop(desk.limit(3, e.BUY, 221, 1), 200))
    assert r.ACCEPTED == desk.send(stop(desk.limit(3, e.BUY, 220, 1), 200))
    assert r.PRICE_BAND == desk.send(stop(desk.limit(3, e.SELL, 44, 1), 50))
    assert r.ACCEPTED == desk.send(stop(desk.limit(3, e.SELL, 45, 1), 50))


def test_fill_of_a_fired_buy_frees_what_the_better_price_left(desk: Desk) -> None:
    desk.do(stop(desk.limit(3, e.BUY, 110, 2), 101))
    desk.do(desk.limit(1, e.SELL, 101, 1))
    desk.do(desk.limit(1, e.SELL, 103, 1))
    free = desk.money(3)[0][0]
    desk.do(desk.limit(2, e.BUY, 101, 1))
    kinds = desk.outcomes["kind"].tolist()
    assert [e.OUT_NEW, e.OUT_TRADE, e.OUT_TRADE, e.OUT_TRIGGERED, e.OUT_TRADE, e.OUT_TRADE, e.OUT_RESTED] == kinds
    assert [0] * 6 + [e.OUTCOME_LAST] == (desk.outcomes["flags"] & e.OUTCOME_LAST).tolist()
    # One lot at 103 instead of 110; the other one waits at 110.
    assert (free + 7, 110) == desk.money(3)[0]


def test_cancel_of_a_waiting_order_frees_what_it_held(desk: Desk) -> None:
    before = desk.money(3)
    order_id = desk.do(stop(desk.limit(3, e.BUY, 110, 2), 105))
    assert before != desk.money(3)
    desk.do(build.cancel(account=3, instrument=1, order_id=order_id))
    assert before == desk.money(3)


def test_amend_of_a_waiting_order_moves_the_difference_of_the_holds(desk: Desk) -> None:
    order_id = desk.do(stop(desk.limit(3, e.BUY, 110, 2), 105))
    amend = {"account": 3, "instrument": 1, "order_id": order_id}
    desk.do(build.amend(**amend, price_ticks=120, qty_lots=3))
    assert 360 == desk.money(3)[0][1]
    assert e.OUTCOME_WAITS == desk.outcomes["flags"][0] & e.OUTCOME_WAITS
    assert r.NO_CHANGE == desk.send(build.amend(**amend, price_ticks=120, qty_lots=3))
    assert r.INSUFFICIENT_FUNDS == desk.send(build.amend(**amend, price_ticks=MANY, qty_lots=3))
    assert 360 == desk.money(3)[0][1]


@pytest.mark.parametrize("tif", [e.IOC, e.FOK])
def test_amend_of_an_order_that_will_not_rest_is_refused_and_moves_nothing(desk: Desk, tif: int) -> None:
    order_id = desk.do(stop(desk.limit(3, e.BUY, 110, 2, tif=tif), 105))
    amend = build.amend(account=3, instrument=1, order_id=order_id, price_ticks=120, qty_lots=3)
    assert r.STOP_NOT_AMENDED == desk.send(amend)
    assert 220 == desk.money(3)[0][1]


def test_client_is_told_its_ids_and_that_the_order_waits(desk: Desk) -> None:
    group = build.with_client_order_id(stop(desk.limit(3, e.BUY, 110, 2), 105), "mine")
    desk.do(group)
    assert [e.OUT_NEW, e.OUT_IDS, e.OUT_RESTED] == desk.outcomes["kind"].tolist()
    waits = (desk.outcomes["flags"] & e.OUTCOME_WAITS) != 0
    assert [True, False, True] == waits.tolist()
    assert r.DUPLICATE_CLIENT_ID == desk.send(group)


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        (r.UNKNOWN_INSTRUMENT, {"instrument": 2, "price_ticks": 1}),
        (r.BAD_PRICE, {}),
        (r.BAD_PRICE, {"price_ticks": -1}),
        (r.BAD_PRICE, {"price_ticks": 5, "qty_lots": -1}),
        (r.RANGE, {"price_ticks": 1 << 62}),
        (r.RANGE, {"qty_lots": 1 << 62}),
        (r.ACCEPTED, {"qty_lots": 5}),
    ],
)
def test_prices_that_make_no_sense_are_refused(desk: Desk, reason: int, fields: dict[str, int]) -> None:
    assert r.NAME[reason] == r.NAME[desk.send(head(e.SET_PRICES, **({"instrument": 1} | fields)))]


def test_prices_set_nothing_off_while_nothing_may_trade(desk: Desk) -> None:
    desk.do(stop(desk.limit(3, e.BUY, 110, 2), 105, trigger_ref=e.TRIGGER_MARK))
    desk.do(build.set_state(0, e.VENUE_MAINTENANCE, *WHO))
    assert r.MAINTENANCE == desk.send(build.set_prices(1, mark_ticks=105))
    desk.do(build.set_state(0, e.VENUE_OPEN, *WHO))
    desk.do(build.halt(1, *WHO))
    assert r.INSTRUMENT_HALTED == desk.send(stop(desk.limit(3, e.BUY, 110, 2), 106))
    desk.do(build.set_prices(1, mark_ticks=105))
    assert [e.OUT_ADMIN] == desk.outcomes["kind"].tolist()
    desk.do(build.resume(1, *WHO))
    assert [e.OUT_TRIGGERED, e.OUT_RESTED, e.OUT_ADMIN] == desk.outcomes["kind"].tolist()
    desk.do(build.halt(1, *WHO))
    desk.do(build.set_state(1, e.INSTRUMENT_DELISTED, *WHO))
    assert r.INSTRUMENT_DELISTED == desk.send(build.set_prices(1, mark_ticks=105))
    assert 0 == desk.money(3)[0][1]


def test_delisting_cancels_what_waits(desk: Desk) -> None:
    before = desk.money(3)
    for ref in (e.TRIGGER_LAST, e.TRIGGER_MARK):
        desk.do(stop(desk.limit(3, e.BUY, 110, 2), 105, trigger_ref=ref))
    desk.do(build.halt(1, *WHO))
    desk.do(build.set_state(1, e.INSTRUMENT_DELISTED, *WHO))
    assert 2 == desk.outcomes["qty_lots"][-1]
    assert before == desk.money(3)
