"""Market states: what each allows, what a change does, and what survives."""

import itertools

import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.market_states import REFUSALS, ROWS, STATE_OF
from tests.engine.driver import Variant
from tests.engine.oracle_more import Halt, halt_slot
from tests.risk.desk import WHO, Desk, listing

MANY = 10**6
STATES = [row.state for row in ROWS]


def state(number: int) -> np.ndarray:
    return build.set_state(1, number, *WHO)


def into(desk: Desk, wanted: int) -> None:
    if wanted == e.INSTRUMENT_DELISTED:
        desk.do(state(e.INSTRUMENT_CLOSED))
    desk.do(state(wanted))


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    for account in (1, 2):
        desk.fund(account, MANY, MANY)
    return desk


@pytest.mark.parametrize(("first", "then"), list(itertools.product(STATES, STATES)))
def test_a_state_follows_another_where_the_table_says_so(first: int, then: int) -> None:
    desk = Desk()
    into(desk, first)
    allowed = then in {STATE_OF[name] for name in ROWS[first - 1].next}
    assert (r.ACCEPTED if allowed else r.BAD_STATE) == desk.send(state(then))
    assert (then if allowed else first) == desk.engine.risk.instruments[1]["status"]
    assert (then if allowed else first) == desk.engine.risk.instruments_reserve[1]["status"]


@pytest.mark.parametrize("number", STATES)
def test_orders_of_each_kind_are_taken_or_refused_as_the_table_says(desk: Desk, number: int) -> None:
    resting = desk.do(desk.limit(1, e.SELL, 200, 5))
    into(desk, number)
    row = ROWS[number - 1]
    tries = {
        "limit": desk.limit(2, e.BUY, 100, 1),
        "immediate": desk.limit(2, e.BUY, 100, 1, tif=e.IOC),
        "post-only": desk.limit(2, e.BUY, 100, 1, tif=e.POST_ONLY),
        "amend": build.amend(account=1, instrument=1, order_id=resting, price_ticks=200, qty_lots=4),
    }
    for action, group in tries.items():
        expected = r.ACCEPTED if action in row.allows else REFUSALS[number]
        assert expected == desk.send(group), action
    gone = number == e.INSTRUMENT_DELISTED
    code = desk.send(build.cancel(account=1, instrument=1, order_id=resting))
    assert (r.UNKNOWN_ORDER if gone else r.ACCEPTED) == code


@pytest.mark.parametrize("shards", [1, 3])
def test_delisting_takes_all_orders_away_and_gives_their_funds_back(shards: int) -> None:
    desk = Desk(Variant("", shards, 1))
    for account in (1, 2):
        desk.fund(account, MANY, MANY)
    ids = [desk.do(desk.limit(1, e.SELL, 200, 5)), desk.do(desk.limit(2, e.BUY, 100, 5))]
    into(desk, e.INSTRUMENT_DELISTED)
    canceled = desk.outcomes[desk.outcomes["kind"] == e.OUT_CANCELED]
    assert ids == canceled["order_id"].tolist()
    assert {r.BY_DELISTING} == set(canceled["reason"].tolist())
    assert (e.OUT_DONE, 2) == (desk.outcomes[-1]["kind"], desk.outcomes[-1]["qty_lots"])
    assert [(MANY, 0), (MANY, 0)] == desk.money(1) == desk.money(2)
    assert r.INSTRUMENT_EXISTS == desk.send(build.list_instrument(listing(), *WHO))


def test_states_and_instruments_that_are_not_there_are_refused() -> None:
    desk = Desk()
    for number in (0, 9, -1, 64, 1 << 40, -(1 << 62)):
        assert r.BAD_STATE == desk.send(state(number))
    for number in (2, 6, -1):
        assert r.BAD_STATE == desk.send(build.set_state(0, number, *WHO))
    for instrument in (2, -1, 99):
        assert r.UNKNOWN_INSTRUMENT == desk.send(build.set_state(instrument, e.INSTRUMENT_OPEN, *WHO))


def test_maintenance_refuses_orders_and_amends_and_lets_the_rest_pass(desk: Desk) -> None:
    resting = desk.do(desk.limit(1, e.SELL, 200, 5))
    desk.do(build.set_state(0, e.VENUE_MAINTENANCE, *WHO))
    assert r.MAINTENANCE == desk.send(desk.limit(2, e.BUY, 100, 1))
    assert r.MAINTENANCE == desk.send(
        build.amend(account=1, instrument=1, order_id=resting, price_ticks=200, qty_lots=4)
    )
    desk.fund(1, 5)
    desk.do(build.withdraw_hold(1, 1, 5, *WHO))
    desk.do(build.cancel(account=1, instrument=1, order_id=resting))
    desk.do(build.set_state(0, e.VENUE_OPEN, *WHO))
    desk.do(desk.limit(2, e.BUY, 100, 1))


def test_an_amend_that_would_take_is_refused_in_post_only(desk: Desk) -> None:
    desk.do(desk.limit(2, e.BUY, 100, 5))
    resting = desk.do(desk.limit(1, e.SELL, 200, 5))
    desk.do(state(e.INSTRUMENT_POST_ONLY))
    crossing = build.amend(account=1, instrument=1, order_id=resting, price_ticks=100, qty_lots=5)
    assert r.POST_ONLY_WOULD_TAKE == desk.send(crossing)
    desk.do(build.amend(account=1, instrument=1, order_id=resting, price_ticks=101, qty_lots=9))
    desk.do(state(e.INSTRUMENT_OPEN))
    desk.do(crossing)


@pytest.mark.parametrize("number", [s for s in STATES if s != e.INSTRUMENT_OPEN])
def test_a_breakers_halt_changes_nothing_but_an_open_market(number: int) -> None:
    desk = Desk(breaker_e8=1_000_000, reference_ticks=100)
    for account in (1, 2):
        desk.fund(account, MANY, MANY)
    desk.do(desk.limit(1, e.SELL, 200, 5))
    desk.do(desk.limit(2, e.BUY, 200, 1))
    cause = Halt(1, desk.engine.last_seq, 1)
    into(desk, number)
    assert r.ACCEPTED == desk.sequence(halt_slot(cause, 1))
    assert number == desk.engine.risk.instruments[1]["status"]
    assert 0 == desk.engine.risk.instruments[1]["breaker_pending"]
