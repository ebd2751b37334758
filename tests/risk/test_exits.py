"""Orders with exits: what is locked for these, when they enter, what is refused."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from risk import state as s
from tests.engine.operators import pushed_group
from tests.risk.desk import LIMITS, WHO, Desk

ROOM = msgspec.structs.replace(LIMITS, orders=16, leaves=64)
TEN_PERCENT = 10_000_000


def sale(lots: int, price: int = 0, **trigger: Any) -> np.ndarray:
    """An exit of a purchase: at its price, or at the market within 1."""
    if price:
        order = build.limit(account=1, instrument=1, side=e.SELL, price_ticks=price, qty_lots=lots)
    else:
        order = build.market(account=1, instrument=1, side=e.SELL, qty_lots=lots, price_ticks=1)
    return build.with_trigger(order, **trigger) if trigger else order


def profit(lots: int, price: int) -> np.ndarray:
    return sale(lots, price, trigger_price_ticks=price, takes_profit=True)


class Exits(Desk):
    """Account 1 has quotes, account 2 base; nothing has traded."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(limits=ROOM, **fields)
        self.sent = 0
        self.fund(1, quote=1_000)
        self.fund(2, quote=1_000, base=10_000)

    def entry(self, lots: int, price: int, *exits: np.ndarray, **fields: int) -> np.ndarray:
        return build.bracket(self.limit(1, e.BUY, price, lots, **fields), *exits)

    def comes_back(self) -> int:
        """The next command of risk's own: the reason of its refusal, 0 where it was accepted."""
        group = pushed_group(self.engine.risk, self.sent)
        self.sent += len(group)
        return self.sequence(group)

    def waiting(self) -> int:
        """Slots of risk's own that have not come back."""
        return int(self.engine.risk.meta[s.OUTBOX_PUSHED]) - self.sent

    def said(self) -> list[str]:
        names = e.names("OUT_")
        return [names[int(kind)] for kind in self.outcomes["kind"]]


def test_exit_of_a_purchase_filled_in_two_parts_sells_what_was_received_net_of_fees() -> None:
    desk = Exits(maker_rate_e8=TEN_PERCENT, taker_rate_e8=TEN_PERCENT)
    entry = desk.do(desk.entry(10, 10, sale(10, 12)))
    assert [(900, 100), (0, 0)] == desk.money(1)
    desk.do(desk.limit(2, e.SELL, 10, 4))
    assert [(900, 60), (360, 0)] == desk.money(1)
    assert 0 == desk.waiting()
    desk.do(desk.limit(2, e.SELL, 10, 6))
    assert [(900, 0), (900, 0)] == desk.money(1)
    assert 1 == desk.waiting()
    assert r.ACCEPTED == desk.comes_back()
    assert [(900, 0), (0, 900)] == desk.money(1)
    assert (entry + 1, 9, e.SELL, 12) == tuple(
        int(desk.outcomes[0][name]) for name in ("order_id", "qty_lots", "side", "price_ticks")
    )
    desk.do(desk.limit(2, e.BUY, 12, 9))
    assert [(900 + 97, 0), (0, 0)] == desk.money(1)
    assert 0 == desk.engine.risk.meta[s.EXITS_USED]


def test_entry_that_is_cancelled_after_a_part_has_exits_of_that_part() -> None:
    desk = Exits()
    entry = desk.do(desk.entry(10, 10, sale(6, 12)))
    desk.do(desk.limit(2, e.SELL, 10, 4))
    desk.do(build.cancel(account=1, instrument=1, order_id=entry))
    assert [(960, 0), (400, 0)] == desk.money(1)
    assert r.ACCEPTED == desk.comes_back()
    assert 4 == desk.outcomes[0]["qty_lots"]


def test_exit_of_less_than_its_entry_leaves_the_rest_free() -> None:
    desk = Exits()
    desk.do(desk.entry(10, 10, sale(6, 12)))
    desk.do(desk.limit(2, e.SELL, 10, 10))
    assert [(900, 0), (1_000, 0)] == desk.money(1)
    desk.comes_back()
    assert [(900, 0), (400, 600)] == desk.money(1)


def test_entry_that_ends_untraded_takes_its_exits_with_it() -> None:
    desk = Exits()
    entry = desk.do(desk.entry(10, 10, sale(6, 12)))
    desk.do(build.cancel(account=1, instrument=1, order_id=entry))
    assert (0, 0) == (desk.waiting(), desk.engine.risk.meta[s.EXITS_USED])
    assert [(1_000, 0), (0, 0)] == desk.money(1)


def test_entry_that_the_matcher_refuses_takes_its_exits_with_it() -> None:
    desk = Exits()
    desk.do(desk.limit(2, e.SELL, 10, 4))
    assert r.POST_ONLY_WOULD_TAKE == desk.send(desk.entry(10, 10, sale(6, 12), tif=e.POST_ONLY))
    assert (0, 0) == (desk.waiting(), desk.engine.risk.meta[s.EXITS_USED])


def test_fee_that_leaves_less_than_a_lot_leaves_no_exit_and_the_rest_free() -> None:
    desk = Exits(maker_rate_e8=TEN_PERCENT, taker_rate_e8=TEN_PERCENT)
    desk.do(desk.entry(1, 10, sale(1, 12)))
    desk.do(desk.limit(2, e.SELL, 10, 1))
    assert (0, 0) == (desk.waiting(), desk.engine.risk.meta[s.EXITS_USED])
    assert [(990, 0), (90, 0)] == desk.money(1)


def test_what_comes_between_the_entry_and_its_exits_may_take_what_they_need() -> None:
    desk = Exits()
    desk.do(desk.entry(10, 10, sale(10, 12)))
    desk.do(desk.limit(2, e.SELL, 10, 10))
    desk.do(build.withdraw_hold(1, 2, 100, *WHO))
    assert r.INSUFFICIENT_FUNDS == desk.comes_back()
    assert (0, 0) == (desk.waiting(), desk.engine.risk.meta[s.EXITS_USED])


def test_entry_that_sells_buys_back_with_what_it_got_and_more_of_what_is_free() -> None:
    desk = Exits()
    back = build.limit(account=2, instrument=1, side=e.BUY, price_ticks=12, qty_lots=10)
    for free in (1_000, 110):
        desk.do(build.bracket(desk.limit(2, e.SELL, 10, 10), back))
        desk.do(desk.limit(1, e.BUY, 10, 10))
        desk.send(build.withdraw_hold(2, 1, desk.money(2)[0][0] - free, *WHO))
        assert free == desk.money(2)[0][0]
        code = desk.comes_back()
        assert (r.ACCEPTED if free >= 120 else r.INSUFFICIENT_FUNDS) == code
        assert (free - 120 if code == r.ACCEPTED else free) == desk.money(2)[0][0]
        desk.send(build.cancel_all(account=2))
        desk.fund(1, quote=100)


def test_stop_that_the_price_has_passed_meanwhile_is_set_off_at_once() -> None:
    desk = Exits()
    desk.do(desk.limit(2, e.BUY, 5, 10))
    desk.do(desk.entry(10, 10, sale(10, trigger_price_ticks=8)))
    desk.do(desk.limit(1, e.BUY, 6, 1))
    desk.do(desk.limit(2, e.SELL, 6, 11))
    assert 6 == desk.outcomes[-2]["price_ticks"]
    assert r.ACCEPTED == desk.comes_back()
    assert ["NEW", "RESTED", "TRIGGERED", "TRADE", "TRADE"] == desk.said()


def test_halt_between_lets_a_stop_wait_and_refuses_what_would_trade() -> None:
    desk = Exits()
    for exit_order, code in (
        (sale(5, trigger_price_ticks=8), r.ACCEPTED),
        (sale(5), r.INSTRUMENT_HALTED),
        (sale(5, 12), 0),
    ):
        desk.do(desk.entry(5, 10, exit_order))
        desk.do(desk.limit(2, e.SELL, 10, 5))
        desk.do(build.halt(1, *WHO))
        assert code == desk.comes_back()
        desk.do(build.resume(1, *WHO))
    assert [500, 1_000] == list(desk.money(1)[1])


def test_stop_that_was_passed_is_refused_in_a_halt_and_takes_nothing() -> None:
    desk = Exits()
    desk.do(desk.entry(10, 10, sale(10, trigger_price_ticks=11)))
    desk.do(desk.limit(2, e.SELL, 10, 10))
    desk.do(build.halt(1, *WHO))
    assert r.TRIGGER_PASSED == desk.comes_back()
    assert [(900, 0), (1_000, 0)] == desk.money(1)


def test_stop_that_is_set_off_at_once_leaves_those_of_the_other_side_where_they_are() -> None:
    desk = Exits()
    desk.fund(3, quote=1_000, base=1_000)
    desk.do(desk.limit(2, e.BUY, 5, 10))
    desk.do(desk.entry(5, 10, sale(5, trigger_price_ticks=14)))
    desk.do(desk.limit(2, e.SELL, 10, 5))
    for trigger in (11, 12, 13):
        order = build.limit(account=3, instrument=1, side=e.BUY, price_ticks=20, qty_lots=1)
        desk.do(build.with_trigger(order, trigger_price_ticks=trigger))
    assert r.ACCEPTED == desk.comes_back()
    desk.do(build.limit(account=2, instrument=1, side=e.SELL, price_ticks=12, qty_lots=2))
    desk.do(build.limit(account=3, instrument=1, side=e.BUY, price_ticks=12, qty_lots=1))
    assert 2 == desk.said().count("TRIGGERED")


@pytest.mark.parametrize("how", ["frozen", "killed", "delisted"])
def test_exits_of_who_must_not_trade_are_refused_and_takes_nothing(how: str) -> None:
    desk = Exits()
    desk.do(desk.entry(10, 10, sale(10, 12)))
    desk.do(desk.limit(2, e.SELL, 10, 10))
    if how == "frozen":
        desk.do(build.freeze(1, *WHO))
    elif how == "killed":
        desk.do(build.kill(e.SCOPE_ACCOUNT, *WHO, account=1))
    else:
        desk.do(build.halt(1, *WHO))
        desk.do(build.set_state(1, e.INSTRUMENT_DELISTED, *WHO))
    expected = {"frozen": r.ACCOUNT_FROZEN, "killed": r.KILLED, "delisted": r.INSTRUMENT_DELISTED}[how]
    assert r.NAME[expected] == r.NAME[desk.comes_back()]
    assert [(900, 0), (1_000, 0)] == desk.money(1)
    assert 0 == desk.engine.risk.meta[s.EXITS_USED]


def test_cancel_all_between_entry_and_exits_does_not_reach_them() -> None:
    desk = Exits()
    desk.do(desk.entry(10, 10, sale(10, 12)))
    desk.do(desk.limit(2, e.SELL, 10, 10))
    desk.do(build.cancel_all(account=1))
    assert r.ACCEPTED == desk.comes_back()


def test_exit_keeps_its_own_client_order_id_and_the_session_of_its_entry() -> None:
    desk = Exits()
    exit_order = build.with_client_order_id(sale(10, 12), "out", tag=7)
    group = build.bracket(build.with_client_order_id(desk.limit(1, e.BUY, 10, 10), "in"), exit_order)
    group["session"][0] = 5
    desk.do(group)
    desk.do(desk.limit(2, e.SELL, 10, 10))
    assert r.ACCEPTED == desk.comes_back()
    assert ["NEW", "IDS", "RESTED"] == desk.said()
    assert r.DUPLICATE_CLIENT_ID == desk.send(build.with_client_order_id(desk.limit(1, e.BUY, 1, 1), "out"))
    desk.do(build.cancel_all(session=build.session_of(e.SOURCE_FIRST_GATEWAY, 5)))
    assert 1 == desk.outcomes[-1]["qty_lots"]


def pair(desk: Exits) -> None:
    """An entry of 10 at 10 with a take-profit at 12 and a stop at 8, filled."""
    desk.do(desk.limit(2, e.BUY, 5, 10))
    desk.do(desk.entry(10, 10, build.with_client_order_id(profit(10, 12), "up"), sale(10, trigger_price_ticks=8)))
    desk.do(desk.limit(2, e.SELL, 10, 10))


def test_two_exits_enter_linked_and_what_happens_to_one_ends_the_other() -> None:
    desk = Exits()
    pair(desk)
    assert r.ACCEPTED == desk.comes_back()
    assert ["NEW", "IDS", "RESTED", "NEW", "RESTED"] == desk.said()
    assert [(900, 0), (0, 1_000)] == desk.money(1)
    desk.do(desk.limit(1, e.BUY, 7, 1))
    desk.do(desk.limit(2, e.SELL, 7, 1))
    assert ["TRIGGERED", "CANCELED", "TRADE", "TRADE"] == desk.said()[-4:]
    assert 0 == desk.money(1)[1][1]


def test_two_exits_of_which_the_price_has_passed_one_set_it_off_at_once() -> None:
    desk = Exits()
    pair(desk)
    desk.do(desk.limit(1, e.BUY, 7, 1))
    desk.do(desk.limit(2, e.SELL, 7, 1))
    assert r.ACCEPTED == desk.comes_back()
    said = ["NEW", "IDS", "RESTED", "NEW", "RESTED", "TRIGGERED", "CANCELED", "TRADE", "TRADE"]
    assert said == desk.said()
    assert 0 == desk.engine.risk.meta[s.EXITS_USED]


def test_two_exits_that_buy_back_hold_the_dearer_of_both_once() -> None:
    desk = Exits()
    back = {"account": 2, "instrument": 1, "side": e.BUY, "qty_lots": 10}
    up = build.with_trigger(build.limit(price_ticks=13, **back), trigger_price_ticks=12)
    down = build.limit(price_ticks=8, tif=e.POST_ONLY, **back)
    desk.do(build.bracket(desk.limit(2, e.SELL, 10, 10), down, up))
    desk.do(desk.limit(1, e.BUY, 10, 10))
    assert (1_100, 0) == desk.money(2)[0]
    assert r.ACCEPTED == desk.comes_back()
    assert (970, 130) == desk.money(2)[0]


def named(name: str) -> np.ndarray:
    return build.with_client_order_id(sale(5, 12), name)


def changed(group: np.ndarray, slot: int, **fields: int) -> np.ndarray:
    for name, value in fields.items():
        group[name][slot] = value
    return group


CASES: list[tuple[str, Callable[[Any], np.ndarray], int]] = [
    ("no exit", lambda d: changed(d.limit(1, e.BUY, 10, 5), 0, flags=e.FLAG_LEGS), r.LEG_FORM),
    ("two that are no pair", lambda d: d.entry(5, 10, sale(5, 12), sale(5, 13)), r.LEG_FORM),
    ("two that cross", lambda d: d.entry(5, 10, profit(5, 12), sale(5, trigger_price_ticks=12)), r.LEGS_CROSSED),
    ("own side", lambda d: d.entry(5, 10, changed(sale(5, 12), 0, side=e.BUY)), r.EXIT_FORM),
    ("no side", lambda d: d.entry(5, 10, changed(sale(5, 12), 0, side=2)), r.EXIT_FORM),
    ("fok", lambda d: d.entry(5, 10, changed(sale(5, 12), 0, tif=e.FOK)), r.EXIT_FORM),
    ("other instrument", lambda d: d.entry(5, 10, changed(sale(5, 12), 0, instrument=2)), r.EXIT_FORM),
    ("other account", lambda d: changed(d.entry(5, 10, sale(5, 12)), 1, account=2), r.EXIT_FORM),
    ("terms", lambda d: d.entry(5, 10, build.with_terms(sale(5, 12), display_qty_lots=1)), r.EXIT_FORM),
    ("by amount", lambda d: d.entry(5, 10, build.market_amount(account=1, instrument=1, side=1, amount_units=9)), r.EXIT_FORM),
    ("tif", lambda d: d.entry(5, 10, changed(sale(5, 12), 0, tif=4)), r.BAD_FIELD),
    ("stp", lambda d: d.entry(5, 10, changed(sale(5, 12), 0, stp=5)), r.BAD_FIELD),
    ("price", lambda d: d.entry(5, 10, changed(sale(5, 12), 0, price_ticks=0)), r.BAD_PRICE),
    ("nothing", lambda d: d.entry(5, 10, sale(0, 12)), r.BAD_QUANTITY),
    ("too much", lambda d: d.entry(5, 10, sale(6, 12)), r.EXIT_QUANTITY),
    ("range", lambda d: d.entry(5, 10, sale(5, 1 << 61)), r.RANGE),
    ("trigger", lambda d: d.entry(5, 10, sale(5, 12, trigger_price_ticks=0)), r.BAD_TRIGGER),
    ("offset", lambda d: d.entry(5, 10, sale(5, 12, offset_kind=1, offset=0)), r.BAD_OFFSET),
    ("no protection price", lambda d: d.entry(5, 10, changed(sale(5), 0, price_ticks=0)), r.NO_REFERENCE_PRICE),
    ("three exits", lambda d: d.entry(5, 10, sale(5, 12), sale(5, 13), sale(5, 14)), r.EXIT_FORM),
    ("its entry's name", lambda d: build.bracket(build.with_client_order_id(d.limit(1, e.BUY, 10, 5), "a"), named("a")), r.EXIT_IDS),
]  # fmt: skip


@pytest.fixture(scope="module")
def desk() -> Exits:
    return Exits()


@pytest.mark.parametrize(("group", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_exits_that_make_no_sense_are_refused_by_name(
    desk: Exits, group: Callable[[Exits], np.ndarray], reason: int
) -> None:
    assert r.NAME[reason] == r.NAME[desk.send(group(desk))]
    assert 0 == desk.engine.risk.meta[s.EXITS_USED]


def test_exit_with_an_order_id_that_is_not_its_own_is_refused() -> None:
    desk = Exits()
    group = build.stamp(desk.entry(5, 10, sale(5, 12)), e.SOURCE_FIRST_GATEWAY, desk.number)
    group["order_id"][1] += 1
    assert r.BAD_FIELD == desk.sequence(group)


def test_name_of_an_open_order_is_refused_to_an_exit() -> None:
    desk = Exits()
    desk.do(build.with_client_order_id(desk.limit(1, e.BUY, 1, 1), "b"))
    assert r.DUPLICATE_CLIENT_ID == desk.send(desk.entry(5, 10, named("b")))


def test_as_many_orders_with_exits_as_there_are_rows() -> None:
    desk = Exits()
    desk.engine.risk.meta[s.EXITS_USED] += s.EXITS_MAX - 1
    desk.do(desk.entry(1, 1, sale(1, 12)))
    assert r.EXITS_FULL == desk.send(desk.entry(1, 1, sale(1, 12)))
