"""Pre-trade limits and kill switches: in each scope, in force for the next command, and lifted again."""

from typing import Any

import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.fixed_point import E8
from tests.engine.driver import Variant
from tests.risk.desk import WHO, Desk

SCOPES: dict[int, dict[str, Any]] = {
    e.SCOPE_VENUE: {},
    e.SCOPE_ACCOUNT: {"account": 1},
    e.SCOPE_USER: {"account": 2},
    e.SCOPE_FIRM: {"firm": 3},
    e.SCOPE_INSTRUMENT: {"instrument": 1},
}
"""All of them are scopes of account 1, a sub-account of 2, in instrument 1."""
EVERY = pytest.mark.parametrize("scope", SCOPES)


@pytest.fixture
def desk() -> Desk:
    """Account 1 is of master 2 and firm 3; account 3 is alone. A USDT counts a USDT."""
    desk = Desk(Variant("ahead", budget=1), reference_ticks=100)
    desk.do(build.set_groups(1, 2, 3, 0, *WHO))
    desk.do(build.set_volume_rate(1, E8, *WHO))
    for account in (1, 2, 3):
        desk.fund(account, 10**9, 10**9)
    return desk


def limit(desk: Desk, scope: int, **limits: Any) -> None:
    desk.do(build.set_limits(scope, *WHO, **{**SCOPES[scope], **limits}))


def buy(desk: Desk, lots: int = 1, price: int = 100, account: int = 1) -> int:
    return desk.send(desk.limit(account, e.BUY, price, lots))


@EVERY
@pytest.mark.parametrize(
    ("limits", "within", "beyond", "reason"),
    [
        ({"qty_max_lots": 5}, (5, 100), (6, 100), r.ORDER_SIZE_LIMIT),
        ({"notional_max_units": 500}, (5, 100), (5, 101), r.NOTIONAL_LIMIT),
        ({"collar_e8": 10_000_000}, (1, 110), (1, 111), r.PRICE_COLLAR),
    ],
    ids=["size", "notional", "collar"],
)
def test_order_at_the_limit_passes_and_one_beyond_is_refused_until_it_is_lifted(
    desk: Desk, scope: int, limits: dict[str, int], within: tuple[int, int], beyond: tuple[int, int], reason: int
) -> None:
    limit(desk, scope, **limits)
    assert r.ACCEPTED == buy(desk, *within)
    order_id = desk.order_id
    assert reason == buy(desk, *beyond)
    amended = build.amend(account=1, instrument=1, order_id=order_id, qty_lots=beyond[0], price_ticks=beyond[1])
    assert reason == desk.send(amended)
    limit(desk, scope)
    assert r.ACCEPTED == buy(desk, *beyond)


@EVERY
def test_open_orders_are_counted_up_and_down(desk: Desk, scope: int) -> None:
    assert r.ACCEPTED == buy(desk)
    first = desk.order_id
    limit(desk, scope, open_orders_max=2)
    assert [r.ACCEPTED, r.OPEN_ORDERS_LIMIT] == [buy(desk), buy(desk)]
    desk.do(build.cancel(account=1, instrument=1, order_id=first))
    assert [r.ACCEPTED, r.OPEN_ORDERS_LIMIT] == [buy(desk), buy(desk)]


@EVERY
def test_orders_of_a_second_are_counted_and_the_next_second_begins_anew(desk: Desk, scope: int) -> None:
    # A slot takes a millisecond of sequenced time.
    limit(desk, scope, orders_per_s=2)
    codes = [buy(desk) for _ in range(3)]
    assert [r.ACCEPTED, r.ACCEPTED, r.ORDER_RATE_LIMIT] == codes
    while (desk.engine.last_seq + 1) % 1_000:
        desk.tick()
    desk.do(build.cancel_all(account=1))
    assert r.ACCEPTED == buy(desk)


@EVERY
def test_kill_switch_cancels_the_orders_of_its_scope_and_refuses_new_ones_until_it_is_undone(
    desk: Desk, scope: int
) -> None:
    for account in (1, 3):
        buy(desk, account=account)
    mine, other = desk.order_id - 1, desk.order_id
    desk.do(build.kill(scope, *WHO, **SCOPES[scope]))
    everybody = scope in (e.SCOPE_VENUE, e.SCOPE_INSTRUMENT)
    canceled = desk.outcomes[desk.outcomes["kind"] == e.OUT_CANCELED]
    assert ([mine, other] if everybody else [mine]) == canceled["order_id"].tolist()
    assert {r.BY_KILL} == set(canceled["reason"].tolist())
    assert len(canceled) == desk.outcomes["qty_lots"][-1]
    assert r.KILLED == buy(desk)
    assert (r.KILLED if everybody else r.ACCEPTED) == buy(desk, account=3)
    desk.do(build.revive(scope, *WHO, **SCOPES[scope]))
    assert r.ACCEPTED == buy(desk)


def test_value_that_nobody_can_tell_is_refused_where_values_are_limited(desk: Desk) -> None:
    desk.do(build.set_volume_rate(1, 0, *WHO))
    limit(desk, e.SCOPE_VENUE, notional_max_units=1 << 60)
    assert r.NOTIONAL_LIMIT == buy(desk)


def test_market_order_gets_the_tightest_collar_as_protection(desk: Desk) -> None:
    limit(desk, e.SCOPE_VENUE, collar_e8=20_000_000)
    limit(desk, e.SCOPE_ACCOUNT, collar_e8=5_000_000)
    desk.do(build.market(account=1, instrument=1, side=e.BUY, qty_lots=1))
    assert 105 == desk.outcomes["price_ticks"][0]


def test_limits_of_others_do_not_matter(desk: Desk) -> None:
    limit(desk, e.SCOPE_USER, qty_max_lots=1)
    limit(desk, e.SCOPE_FIRM, open_orders_max=1)
    assert [r.ACCEPTED] * 3 == [buy(desk, 5, account=3) for _ in range(3)]
    assert r.ORDER_SIZE_LIMIT == buy(desk, 5, account=2), "the master is of its user too"


def test_bad_limits_and_scopes_are_refused(desk: Desk) -> None:
    assert r.BAD_LIMIT == desk.send(build.set_limits(e.SCOPE_VENUE, *WHO, collar_e8=E8 + 1))
    assert r.BAD_GROUP == desk.send(build.set_limits(e.SCOPE_USER, *WHO, account=1)), "a sub-account names no user"


@EVERY
@pytest.mark.parametrize("side", [e.BUY, e.SELL])
def test_order_by_amount_is_as_large_as_its_amount_is_at_the_protection_price(
    desk: Desk, scope: int, side: int
) -> None:
    # A quote unit a tick and lot: five lots at 100 are 500 units, and 599 are not yet six.
    limit(desk, scope, qty_max_lots=5)

    def spend(amount: int, price: int = 100) -> int:
        common = {"account": 1, "instrument": 1, "side": side, "price_ticks": price}
        return desk.send(build.market_amount(**common, amount_units=amount))

    assert [r.ACCEPTED, r.ORDER_SIZE_LIMIT] == [spend(599), spend(600)]
    assert [r.ACCEPTED, r.ORDER_SIZE_LIMIT] == [spend(600, 101), spend(606, 101)]
    limit(desk, scope, notional_max_units=500)
    assert [r.ACCEPTED, r.NOTIONAL_LIMIT] == [spend(500), spend(501)]


def test_order_by_amount_is_measured_at_the_collar_where_that_protects_it(desk: Desk) -> None:
    desk.do(build.set_limits(e.SCOPE_ACCOUNT, *WHO, account=1, qty_max_lots=5, collar_e8=10_000_000))

    def buy_for(amount: int, price: int = 0) -> int:
        return desk.send(
            build.market_amount(account=1, instrument=1, side=e.BUY, price_ticks=price, amount_units=amount)
        )

    # The reference is 100, so that the collar protects at 110.
    assert [r.ACCEPTED, r.ORDER_SIZE_LIMIT] == [buy_for(659), buy_for(660)]
    assert [r.ACCEPTED, r.ORDER_SIZE_LIMIT] == [buy_for(659, 200), buy_for(660, 200)]
