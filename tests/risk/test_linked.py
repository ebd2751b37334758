"""Two linked orders: their form, one hold of funds for the worse of them, and what is free when one ends the other."""

import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.records import EXT_LEG_SLOT
from tests.risk.desk import LIMITS, Desk, head
from tests.risk.test_stops import funded, stop

GATEWAY = e.SOURCE_FIRST_GATEWAY


@pytest.fixture
def desk() -> Desk:
    return funded(Desk())


def named(group: np.ndarray, text: str) -> np.ndarray:
    return build.with_client_order_id(group, text)


def purchase(desk: Desk, near: int = 95, far: int = 105, limit: int = 108, lots: int = 2) -> np.ndarray:
    """Buy at ``near``, or at up to ``limit`` once the last price has risen to ``far``."""
    first = desk.limit(3, e.BUY, near, lots, tif=e.POST_ONLY)
    return build.oco(first, stop(desk.limit(3, e.BUY, limit, lots), far))


def locked(desk: Desk, account: int = 3) -> int:
    return desk.money(account)[0][1]


def test_purchase_holds_the_larger_price_once_and_a_sale_its_lots(desk: Desk) -> None:
    desk.do(purchase(desk))
    assert 2 * 108 == locked(desk)
    desk.do(purchase(desk, near=95, limit=90))
    assert 2 * 108 + 2 * 95 == locked(desk), "a stop may have the lower limit"
    first = desk.limit(3, e.SELL, 110, 4, tif=e.POST_ONLY)
    desk.do(build.oco(first, stop(desk.limit(3, e.SELL, 88, 4), 90)))
    assert 4 * 100 == desk.money(3)[1][1], "a lot has 100 units"


def test_what_covers_one_of_them_but_not_the_worse_is_too_little() -> None:
    desk = funded(Desk())
    desk.do(build.adjust(3, 1, 2 * 108 - 1 - desk.money(3)[0][0], "op", "test"))
    assert r.INSUFFICIENT_FUNDS == desk.send(purchase(desk))
    desk.do(build.deposit(3, 1, 1, "op", "test"))
    desk.do(purchase(desk))
    assert (0, 2 * 108) == desk.money(3)[0]


def test_trade_of_the_first_frees_what_only_the_second_held(desk: Desk) -> None:
    desk.do(purchase(desk))
    free = desk.money(3)[0][0]
    desk.do(desk.limit(1, e.SELL, 95, 1, tif=e.IOC))
    assert (free + 2 * 13, 95) == desk.money(3)[0]
    assert [e.OUT_CANCELED] == desk.outcomes["kind"][desk.outcomes["reason"] == r.BY_LINK].tolist()


def test_second_takes_over_what_the_first_held_when_it_is_set_off(desk: Desk) -> None:
    desk.do(purchase(desk))
    free = desk.money(3)[0][0]
    desk.do(desk.limit(1, e.SELL, 105, 1))
    desk.do(desk.limit(2, e.BUY, 105, 1))
    assert (free, 2 * 108) == desk.money(3)[0]
    kinds = desk.outcomes["kind"].tolist()
    assert kinds[-3:] == [e.OUT_TRIGGERED, e.OUT_CANCELED, e.OUT_RESTED]
    desk.do(desk.limit(1, e.SELL, 108, 2))
    assert 0 == locked(desk)


def test_second_that_needs_less_frees_the_difference_when_it_is_set_off(desk: Desk) -> None:
    desk.do(purchase(desk, near=95, limit=90))
    free = desk.money(3)[0][0]
    desk.do(desk.limit(1, e.SELL, 105, 1))
    desk.do(desk.limit(2, e.BUY, 105, 1))
    assert (free + 2 * 5, 2 * 90) == desk.money(3)[0]


def test_take_profit_that_is_set_off_frees_what_only_the_stop_held(desk: Desk) -> None:
    first = stop(desk.limit(3, e.BUY, 96, 2), 95, takes_profit=1)
    desk.do(build.oco(first, stop(desk.limit(3, e.BUY, 108, 2), 105)))
    assert 2 * 108 == locked(desk)
    desk.do(desk.limit(1, e.SELL, 95, 1))
    desk.do(desk.limit(2, e.BUY, 95, 1))
    assert 2 * 96 == locked(desk)


@pytest.mark.parametrize("which", [0, 1])
def test_cancel_of_either_takes_both_and_frees_all(desk: Desk, which: int) -> None:
    before = desk.money(3)
    first = desk.do(purchase(desk))
    desk.do(build.cancel(account=3, instrument=1, order_id=first + which))
    assert before == desk.money(3)
    told = [(int(o["order_id"]) - first, int(o["reason"])) for o in desk.outcomes]
    assert [(1 - which, r.BY_LINK), (which, r.BY_USER)] == told
    assert [first + which, 0] == desk.outcomes["contra_order_id"].tolist()


def test_mass_cancel_takes_each_for_its_own_reason(desk: Desk) -> None:
    before = desk.money(3)
    desk.do(purchase(desk))
    desk.do(build.cancel_all(account=3))
    assert [r.BY_CANCEL_ALL, r.BY_CANCEL_ALL, 0] == desk.outcomes["reason"].tolist()
    assert before == desk.money(3)


def test_outcomes_name_the_other_order_and_the_clients_own_ids(desk: Desk) -> None:
    first = named(desk.limit(3, e.BUY, 95, 2, tif=e.POST_ONLY), "near")
    group = build.oco(first, named(stop(desk.limit(3, e.BUY, 108, 2), 105), "far"))
    a = desk.do(group)
    b = a + 2
    kinds = desk.outcomes["kind"].tolist()
    assert kinds == [e.OUT_NEW, e.OUT_IDS, e.OUT_RESTED] * 2
    assert [a, a, a, b, b, b] == desk.outcomes["order_id"].tolist()
    orders = desk.outcomes[desk.outcomes["kind"] != e.OUT_IDS]
    assert [b, b, a, a] == orders["contra_order_id"].tolist()
    assert r.DUPLICATE_CLIENT_ID == desk.send(named(desk.limit(3, e.BUY, 90, 1), "far"))
    assert r.DUPLICATE_CLIENT_ID == desk.send(group), "who lost the reply asks again"


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        (r.LEG_FORM, {"role": e.LEG_LINKED + 7}),
        (r.LEG_FORM, {"qty_lots": 3}),
        (r.LEG_FORM, {"side": e.SELL}),
        (r.LEG_FORM, {"instrument": 2}),
        (r.LEG_FORM, {"order_type": e.MARKET_AMOUNT}),
        (r.LEG_FORM, {"flags": 0}),
        (r.LEGS_CROSSED, {"trigger_price_ticks": 95}),
        (r.ACTIVATION_BEYOND, {"offset_kind": 1, "offset": 5, "trigger_price_ticks": 95}),
        (r.ACCEPTED, {"offset_kind": 1, "offset": 5, "trigger_price_ticks": 96}),
        (r.BAD_FIELD, {"account": 2}),
        (r.BAD_FIELD, {"stp": 9}),
        (r.BAD_PRICE, {"price_ticks": 0}),
        (r.BAD_TRIGGER, {"trigger_price_ticks": 0}),
        (r.NO_TRIGGER_PRICE, {"trigger_ref": e.TRIGGER_INDEX}),
        (r.TRIGGER_PASSED, {"trigger_price_ticks": 99}),
        (r.ACCEPTED, {}),
    ],
)
def test_one_that_makes_no_sense_refuses_both_by_name(desk: Desk, reason: int, change: dict[str, int]) -> None:
    before = desk.money(3)
    group = purchase(desk)
    leg = group[1:2].view(EXT_LEG_SLOT.slot_dtype)
    for name, value in change.items():
        leg[name] = value
    assert r.NAME[reason] == r.NAME[desk.send(group)]
    assert (reason != r.ACCEPTED) == (before == desk.money(3))
    assert r.ACCEPTED == desk.send(purchase(desk)), "nothing of a refused list is left"


def test_list_without_its_second_order_or_with_a_third_is_refused(desk: Desk) -> None:
    alone = desk.limit(3, e.BUY, 95, 2, tif=e.POST_ONLY)
    alone["flags"] |= e.FLAG_LEGS
    assert r.LEG_FORM == desk.send(alone)
    group = purchase(desk)
    group["flags"][1] |= e.FLAG_MORE
    third = group[1:].copy()
    third["flags"] = e.FLAG_TRIGGER
    assert r.LEG_FORM == desk.send(np.concatenate([group, third]))


def test_they_expire_together(desk: Desk) -> None:
    later = desk.ts_ns + 10**9
    legs = [desk.limit(3, e.BUY, 95, 2, tif=e.POST_ONLY), stop(desk.limit(3, e.BUY, 108, 2), 105)]
    legs[1] = build.with_terms(legs[1], expiry_ts_ns=later)
    assert r.LEG_EXPIRY == desk.send(build.oco(*legs))
    before = desk.money(3)
    desk.do(build.oco(build.with_terms(legs[0], expiry_ts_ns=later), legs[1]))
    desk.ts_ns = later
    desk.do(head(e.EXPIRE))
    assert [r.BY_EXPIRY, r.BY_EXPIRY, 0] == desk.outcomes["reason"].tolist()
    assert before == desk.money(3)


def test_there_must_be_room_for_both(desk: Desk) -> None:
    for price in range(1, LIMITS.orders):
        desk.do(desk.limit(1, e.BUY, price, 1))
    assert r.ORDER_POOL_FULL == desk.send(purchase(desk))
    desk.do(desk.limit(1, e.BUY, 9, 1))
