"""Mass quotes and market-maker protection: refusals by name, funds, and what stands afterwards."""

import msgspec
import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.records import EXT_QUOTES_SLOT
from risk import state as s
from tests.engine.driver import Variant
from tests.risk.desk import LIMITS, WHO, Desk, listing

SECOND_NS = 1_000_000_000
GOOD = (1, 99, 5, 101, 5)


def quoted(*quotes: tuple[int, int, int, int, int], account: int = 1) -> np.ndarray:
    return build.mass_quote(account=account, quotes=[build.quote(*quote, quote_id=7) for quote in quotes])


def results(desk: Desk) -> list[int]:
    """Reason of each quote, and that the end of the command counts them."""
    told = desk.outcomes
    each = [int(o["reason"]) for o in told[told["kind"] == e.OUT_QUOTE]]
    last = told[-1]
    assert (e.OUT_QUOTED, each.count(0), len(each) - each.count(0)) == (
        last["kind"],
        last["qty_lots"],
        last["leaves_qty_lots"],
    )
    assert {7} == set(told["contra_order_id"][told["kind"] == e.OUT_QUOTE].tolist())
    return each


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.do(build.list_instrument(listing(2), *WHO))
    desk.fund(1, quote=10_000, base=10_000)
    return desk


def test_each_quote_is_refused_by_its_own_name_and_the_others_go_on(desk: Desk) -> None:
    cases = (
        ((3, 99, 5, 101, 5), r.UNKNOWN_INSTRUMENT),
        ((1, 99, -1, 101, 5), r.BAD_QUANTITY),
        ((1, 99, 5, 0, 5), r.BAD_PRICE),
        ((1, 101, 5, 101, 5), r.QUOTE_CROSSED),
        ((1, 1 << 31, 1 << 31, 0, 0), r.RANGE),
        ((1, 99, 5_000, 101, 5), r.INSUFFICIENT_FUNDS),
        ((1, 99, 5, 101, 5_000), r.INSUFFICIENT_FUNDS),
    )
    for bad, reason in cases:
        desk.do(quoted(bad, (2, 9, 1, 11, 1)))
        assert [reason, 0] == results(desk), r.NAME[reason]
    desk.do(quoted(GOOD, (1, 98, 5, 101, 5)))
    assert [0, r.QUOTE_REPEATED] == results(desk)


def test_whole_command_is_refused_where_it_is_none(desk: Desk) -> None:
    assert r.UNKNOWN_ACCOUNT == desk.send(quoted(GOOD, account=5))
    empty = quoted(GOOD)[:1].copy()
    empty["flags"] = 0
    assert r.QUOTE_COUNT == desk.send(empty)
    assert r.QUOTE_COUNT == desk.send(quoted(*[GOOD] * 101))
    other = quoted(GOOD)
    other.view(EXT_QUOTES_SLOT.slot_dtype)["account"][1] = 2
    assert r.BAD_FIELD == desk.send(other)


def test_frozen_account_and_closed_market_take_quotes_that_only_pull(desk: Desk) -> None:
    desk.do(quoted(GOOD))
    desk.do(build.freeze(1, *WHO))
    desk.do(quoted(GOOD))
    assert [r.ACCOUNT_FROZEN] == results(desk)
    desk.do(build.unfreeze(1, *WHO))
    desk.do(build.set_state(1, e.INSTRUMENT_CANCEL_ONLY, *WHO))
    desk.do(quoted(GOOD))
    assert [r.INSTRUMENT_CANCEL_ONLY] == results(desk)
    desk.do(quoted((1, 0, 0, 0, 0)))
    assert [0] == results(desk)
    assert [(10_000, 0), (10_000, 0)] == desk.money(1)


@pytest.mark.parametrize("variant", [None, Variant("long", 1, 4096), Variant("long-3", 3, 4096)])
def test_all_funds_in_a_quote_are_enough_for_another_one_of_the_same_size(variant: Variant | None) -> None:
    desk = Desk(variant)
    desk.fund(1, quote=500, base=500)
    desk.do(quoted((1, 100, 5, 101, 5)))
    assert [(0, 500), (0, 500)] == desk.money(1)
    desk.do(quoted((1, 50, 10, 102, 5)))
    assert [0] == results(desk)
    assert [(0, 500), (0, 500)] == desk.money(1)
    desk.do(quoted((1, 50, 11, 102, 5)))
    assert [r.INSUFFICIENT_FUNDS] == results(desk)
    desk.fund(2, quote=1_000)
    desk.do(build.limit(account=2, instrument=1, side=e.BUY, price_ticks=102, qty_lots=2))
    desk.do(quoted((1, 50, 14, 102, 3)))
    assert [0] == results(desk)
    assert [(4, 700), (0, 300)] == desk.money(1)


def test_side_gives_nothing_to_another_instruments_side(desk: Desk) -> None:
    desk.do(quoted((1, 100, 100, 0, 0)))
    desk.do(quoted((1, 100, 10, 0, 0), (2, 100, 90, 0, 0)))
    assert [0, r.INSUFFICIENT_FUNDS] == results(desk)
    desk.do(quoted((1, 100, 10, 0, 0), (2, 100, 90, 0, 0)))
    assert [0, 0] == results(desk)


def test_hundred_quotes_take_the_place_of_a_hundred_others_in_one_command() -> None:
    limits = msgspec.structs.replace(LIMITS, instruments=110, orders=600, leaves=600, outbox=110)
    desk = Desk(Variant("long-3", 3, 4096), limits)
    for number in range(2, 101):
        desk.do(build.list_instrument(listing(number), *WHO))
    desk.fund(1, quote=1_000_000, base=1_000_000)
    for price in (100, 200):
        desk.do(quoted(*[(number, price, 5, price + 2, 5) for number in range(1, 101)]))
        assert [0] * 100 == results(desk)
    assert 200 == np.count_nonzero(desk.outcomes["kind"] == e.OUT_REPLACED)
    assert [(1_000_000 - 100_000, 100_000), (1_000_000 - 50_000, 50_000)] == desk.money(1)


def test_open_orders_limit_counts_what_a_quote_adds(desk: Desk) -> None:
    desk.do(build.set_limits(e.SCOPE_ACCOUNT, *WHO, account=1, open_orders_max=3))
    desk.do(quoted(GOOD, (2, 99, 5, 101, 5)))
    assert [0, r.OPEN_ORDERS_LIMIT] == results(desk)
    desk.do(quoted(GOOD, (2, 99, 5, 0, 0)))
    assert [0, 0] == results(desk)
    desk.do(quoted((1, 98, 5, 102, 5), (2, 98, 5, 0, 0)))
    assert [0, 0] == results(desk)


def test_full_pool_refuses_a_quote_that_needs_a_row(desk: Desk) -> None:
    for _ in range(5):
        desk.do(desk.limit(1, e.BUY, 90, 1))
    desk.do(quoted(GOOD))
    assert [r.ORDER_POOL_FULL] == results(desk)
    desk.do(quoted((1, 99, 5, 0, 0)))
    assert [0] == results(desk)
    desk.do(quoted((1, 98, 5, 0, 0)))
    assert [0] == results(desk)


def protection(account: int = 1, **fields: int) -> np.ndarray:
    return build.set_protection(account, 1, **({"window_ns": SECOND_NS} | fields))


def test_protection_that_makes_no_sense_is_refused(desk: Desk) -> None:
    bad: tuple[dict[str, int], ...] = (
        {},
        {"window_ns": 0, "qty_lots": 1},
        {"trades": -1},
        {"qty_lots": 1, "net_lots": -1},
        {"window_ns": 999_999, "trades": 1},
        {"window_ns": 3_601 * SECOND_NS, "trades": 1},
        {"qty_lots": 1 << 62},
    )
    for fields in bad:
        assert r.BAD_PROTECTION == desk.send(protection(**fields)), fields
    assert r.UNKNOWN_ACCOUNT == desk.send(protection(5, trades=1))
    assert r.UNKNOWN_INSTRUMENT == desk.send(build.set_protection(1, 3, window_ns=SECOND_NS, trades=1))


def test_as_many_protections_as_there_are_rows(desk: Desk) -> None:
    risk = desk.engine.risk
    risk.protections["account"] = 6
    risk.meta[s.PROTECTIONS] = s.PROTECTIONS_MAX - 1
    desk.do(protection(1, trades=1))
    assert r.PROTECTION_TABLE_FULL == desk.send(protection(2, trades=1))
    desk.do(protection(1, trades=2))
    desk.do(protection(1, window_ns=0))
    desk.do(protection(2, trades=1))


def test_pulled_quotes_cannot_trade_with_the_taker_that_reached_the_limit(desk: Desk) -> None:
    desk.fund(2, quote=10_000, base=10_000)
    desk.do(protection(trades=1))
    desk.do(quoted((1, 99, 5, 101, 5), (2, 99, 5, 101, 5)))
    desk.do(build.limit(account=2, instrument=1, side=e.BUY, price_ticks=101, qty_lots=5))
    assert [e.OUT_NEW, e.OUT_TRADE, e.OUT_TRADE, e.OUT_CANCELED] == desk.outcomes["kind"].tolist()
    assert (r.BY_PROTECTION, e.OUTCOME_LAST) == (desk.outcomes["reason"][-1], desk.outcomes["flags"][-1])
    desk.do(quoted((1, 99, 5, 101, 5), (2, 98, 5, 101, 5)))
    assert [r.PROTECTED, 0] == results(desk)
    desk.do(protection(trades=1))
    desk.do(quoted(GOOD))
    assert [0] == results(desk)
