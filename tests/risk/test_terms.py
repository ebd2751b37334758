"""Terms of orders: what is refused, what is held and freed, in which order they expire, and that snapshots keep them."""

from typing import Any, cast

import numpy as np
import pytest

from matcher.hashes import books_hash
from matcher.process import shard_state
from matcher.rebuild import take_over_books
from matcher.state import DUE_COUNT, MatcherState, limits_of, make_state, reset, state_spec
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.order_terms import DAY_NS
from ringbuf.arena import private_arena
from tests.engine.driver import Variant
from tests.engine.operators import START_TS_NS, Market, MarketRun
from tests.risk.desk import Desk, head

MANY = 10**6
SECOND_NS = 1_000_000_000
NOW = START_TS_NS + DAY_NS


@pytest.fixture
def desk() -> Desk:
    return funded(Desk())


def funded(desk: Desk) -> Desk:
    for account in (1, 2, 3):
        desk.fund(account, MANY, MANY)
    desk.ts_ns = NOW
    return desk


def limit(
    desk: Desk, side: int = e.BUY, price: int = 100, lots: int = 10, tif: int = e.GTC, **terms: int
) -> np.ndarray:
    return build.with_terms(desk.limit(1, side, price, lots, tif=tif), **terms)


@pytest.mark.parametrize(
    ("reason", "order", "terms"),
    [
        (r.BAD_FIELD, {}, {"display_qty_lots": -1}),
        (r.BAD_FIELD, {}, {"min_qty_lots": -1}),
        (r.BAD_FIELD, {}, {"expiry_ts_ns": -2}),
        (r.TERMS_OF_RESTING, {"tif": e.IOC}, {"expiry_ts_ns": e.EXPIRY_DAY}),
        (r.TERMS_OF_RESTING, {"tif": e.FOK}, {"display_qty_lots": 1}),
        (r.EXPIRY_PASSED, {}, {"expiry_ts_ns": NOW}),
        (r.EXPIRY_PASSED, {}, {"expiry_ts_ns": 1}),
        (r.DISPLAY_ABOVE_QUANTITY, {}, {"display_qty_lots": 11}),
        (r.ICEBERG_PARTS, {"lots": 201}, {"display_qty_lots": 2}),
        (r.MIN_QTY_MISPLACED, {"tif": e.POST_ONLY}, {"min_qty_lots": 1}),
        (r.MIN_QTY_ABOVE_QUANTITY, {}, {"min_qty_lots": 11}),
        (r.MIN_QTY_UNFILLED, {}, {"min_qty_lots": 1}),
        (r.ACCEPTED, {}, {"expiry_ts_ns": NOW + 1}),
        (r.ACCEPTED, {"lots": 200}, {"display_qty_lots": 2}),
        (r.ACCEPTED, {}, {"display_qty_lots": 10}),
        (r.ACCEPTED, {"tif": e.POST_ONLY}, {"expiry_ts_ns": e.EXPIRY_DAY, "display_qty_lots": 3}),
        (r.ACCEPTED, {"tif": e.IOC}, {}),
    ],
)
def test_each_combination_that_makes_no_sense_has_its_own_reason(
    desk: Desk, reason: int, order: dict[str, Any], terms: dict[str, int]
) -> None:
    assert r.NAME[reason] == r.NAME[desk.send(limit(desk, **order, **terms))]


@pytest.mark.parametrize("builder", [build.market, build.market_amount])
def test_market_orders_never_rest_and_by_amount_have_no_minimum(desk: Desk, builder: Any) -> None:
    by_amount = builder is build.market_amount
    sized = {"amount_units": 1_000} if by_amount else {"qty_lots": 10}
    group = builder(account=1, instrument=1, side=e.BUY, price_ticks=100, **sized)
    assert r.TERMS_OF_RESTING == desk.send(build.with_terms(group, display_qty_lots=1))
    assert r.TERMS_OF_RESTING == desk.send(build.with_terms(group, expiry_ts_ns=e.EXPIRY_DAY))
    wanted = r.MIN_QTY_MISPLACED if by_amount else r.MIN_QTY_UNFILLED
    assert wanted == desk.send(build.with_terms(group, min_qty_lots=1))


def test_terms_without_their_flag_do_not_count(desk: Desk) -> None:
    group = limit(desk, display_qty_lots=99, min_qty_lots=99, expiry_ts_ns=1)
    group["flags"] &= ~np.uint32(e.FLAG_TERMS)
    assert r.ACCEPTED == desk.send(group)


def test_an_amend_must_not_make_too_many_parts(desk: Desk) -> None:
    order_id = desk.do(limit(desk, price=1, lots=100, display_qty_lots=1))
    more = build.amend(account=1, instrument=1, order_id=order_id, price_ticks=1, qty_lots=101)
    assert r.ICEBERG_PARTS == desk.send(more)
    desk.do(build.amend(account=1, instrument=1, order_id=order_id, price_ticks=1, qty_lots=99))


def test_what_expires_is_free_at_once(desk: Desk) -> None:
    desk.do(limit(desk, display_qty_lots=3, expiry_ts_ns=NOW + SECOND_NS))
    assert (MANY - 1_000, 1_000) == desk.money(1)[0]
    desk.do(head(e.EXPIRE))
    assert (MANY - 1_000, 1_000) == desk.money(1)[0]
    desk.ts_ns = NOW + SECOND_NS
    desk.do(head(e.EXPIRE))
    assert (MANY, 0) == desk.money(1)[0]
    assert [e.OUT_CANCELED, e.OUT_DONE] == desk.outcomes["kind"].tolist()
    assert [r.BY_EXPIRY, 0] == desk.outcomes["reason"].tolist()


def test_a_day_ends_at_midnight_utc(desk: Desk) -> None:
    midnight = (NOW // DAY_NS + 2) * DAY_NS
    for ts_ns, end in ((midnight - 1, midnight), (midnight, midnight + DAY_NS)):
        desk.ts_ns = ts_ns
        order_id = desk.do(limit(desk, lots=1, expiry_ts_ns=e.EXPIRY_DAY))
        rows = desk.engine.risk.holds
        assert [end] == rows["expiry_ts_ns"][rows["order_id"] == order_id].tolist()


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_orders_of_all_shards_expire_by_time_and_then_age(shards: int) -> None:
    market = Market(4, 60)
    desk_groups = []
    now = START_TS_NS + 10**15
    for k, (instrument, late) in enumerate(((3, 2), (1, 2), (2, 1), (5, 2), (1, 1), (2, 2))):
        group = build.limit(
            account=1, instrument=instrument, side=e.BUY, price_ticks=381 + k, qty_lots=1, tif=e.POST_ONLY
        )
        desk_groups.append(build.with_terms(group, expiry_ts_ns=now + late))
    for asset in (1, 2, 4):
        market.office(build.adjust(1, asset, 10**8, "op", "test"))
    market.office(
        build.set_bands(2, band_up_e8=0, band_down_e8=0, breaker_e8=0, reference_ticks=0, operator="a", reason="b")
    )
    for group in desk_groups:
        market.send(group)
    accepted = [int(part["order_id"][0]) for part in market.expected[-6:] if part["kind"][0] == e.OUT_NEW]
    tick = head(e.EXPIRE)
    tick["ts_ns"] = now + 2
    tick["seq"] = market.next_seq
    expected = market.oracle.apply(tick)
    assert len(accepted) == 6
    done = MarketRun(market, Variant("", shards, 1), parts=1)
    said: list[np.ndarray] = []
    done.run.engine.feed(tick, lambda part: said.append(part.copy()))
    assert expected.tobytes() == np.concatenate(said).tobytes()
    gone = [order for order in expected["order_id"].tolist() if order in accepted]
    assert [accepted[k] for k in (2, 4, 0, 1, 3, 5)] == gone


def test_another_number_of_shards_has_the_same_terms() -> None:
    market = Market(43, 900, access=True)
    done = MarketRun(market, Variant("", 1, 64), parts=1)
    engine = done.run.engine
    source = cast("MatcherState", engine.matchers[0])
    assert int(source.meta[DUE_COUNT]) > 0, "some order expires"
    assert int(source.books["stops"].sum()) > 0, "some order waits for a price"
    total = 0
    for shard in range(3):
        arrays = private_arena(state_spec(limits_of(source)))
        reset(make_state(arrays), shard, 3)
        target = shard_state(arrays)
        assert take_over_books(target, source)
        total += _books(target)
    assert _books(source) == total % (1 << 64)


def _books(state: Any) -> int:
    return int(books_hash(state)) % (1 << 64)
