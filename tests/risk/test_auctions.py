"""Auctions: what is refused, who pays what, how they end, and that another number of shards and small rings change nothing."""

from typing import Any, cast

import numpy as np
import pytest

from matcher.hashes import books_hash
from matcher.process import shard_state
from matcher.rebuild import take_over_books
from matcher.state import MatcherState, limits_of, make_state, reset, state_spec
from matcher.views import auction_summary
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.market_states import STATE_OF
from ringbuf.arena import private_arena
from tests.engine.driver import Variant
from tests.engine.operators import START_TS_NS, Market, MarketRun
from tests.engine.oracle_auctions import random_part
from tests.matcher.driver import Shard
from tests.matcher.invariants import check_state
from tests.matcher.naive_book import Event, Request
from tests.risk.desk import WHO, Desk, head, listing

MANY = 10**6
SECOND_NS = 1_000_000_000
NOW = START_TS_NS + 86_400 * SECOND_NS
DAY_NS = 86_400 * SECOND_NS


def state(name: str, end_ts_ns: int = 0, then: int = 0) -> np.ndarray:
    return build.set_state(1, STATE_OF[name], *WHO, end_ts_ns=end_ts_ns, then=then)


def bands(**fields: int) -> np.ndarray:
    names = ("band_up_e8", "band_down_e8", "breaker_e8", "reference_ticks")
    given: dict[str, Any] = dict.fromkeys(names, 0) | fields
    return build.set_bands(1, **given, operator=WHO[0], reason=WHO[1])


def funded(**fields: Any) -> Desk:
    desk = Desk(**fields)
    for account in (1, 2, 3):
        desk.fund(account, MANY, MANY)
    desk.ts_ns = NOW
    return desk


@pytest.fixture
def desk() -> Desk:
    return funded()


@pytest.mark.parametrize(
    ("reason", "name", "end"),
    [
        (r.ACCEPTED, "auction", {"end_ts_ns": NOW + 1, "then": 1}),
        (r.ACCEPTED, "auction", {"end_ts_ns": NOW + DAY_NS, "then": 5}),
        (r.ACCEPTED, "auction", {}),
        (r.AUCTION_END, "auction", {"end_ts_ns": NOW, "then": 1}),
        (r.AUCTION_END, "auction", {"end_ts_ns": NOW + DAY_NS + 1, "then": 1}),
        (r.AUCTION_END, "auction", {"end_ts_ns": NOW + 1, "then": 0}),
        (r.AUCTION_END, "auction", {"end_ts_ns": NOW + 1, "then": 8}),
        (r.AUCTION_END, "auction", {"end_ts_ns": 0, "then": 1}),
        (r.AUCTION_END, "auction", {"end_ts_ns": -(1 << 63), "then": 1}),
        (r.AUCTION_END, "pre-open", {"end_ts_ns": NOW + 1, "then": 1}),
        (r.AUCTION_END, "halted", {"end_ts_ns": NOW + 1, "then": 1}),
    ],
)
def test_an_end_is_one_that_makes_sense(desk: Desk, reason: int, name: str, end: dict[str, int]) -> None:
    assert reason == desk.send(state(name, **end))
    assert (STATE_OF[name] if reason == r.ACCEPTED else 1) == desk.engine.risk.instruments[1]["status"]


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        (r.ACCEPTED, {"dynamic_e8": 10**8, "auction_ns": DAY_NS, "random_ns": DAY_NS, "extensions": 100}),
        (r.BAD_AUCTION, {"dynamic_e8": 10**8 + 1}),
        (r.BAD_AUCTION, {"dynamic_e8": -1}),
        (r.BAD_AUCTION, {"auction_ns": DAY_NS + 1}),
        (r.BAD_AUCTION, {"auction_ns": -1}),
        (r.BAD_AUCTION, {"random_ns": 1}),
        (r.BAD_AUCTION, {"auction_ns": 5, "random_ns": -1}),
        (r.BAD_AUCTION, {"auction_ns": 5, "extensions": 101}),
        (r.BAD_AUCTION, {"auction_ns": 5, "extensions": -1}),
        (r.BAD_AUCTION, {"extensions": 1}),
    ],
)
def test_interruptions_that_make_no_sense_are_refused(desk: Desk, reason: int, fields: dict[str, int]) -> None:
    assert reason == desk.send(bands(**fields))
    assert r.BAD_LISTING == desk.send(bands(**fields, breaker_e8=-1))
    assert r.BAD_FEE == desk.send(
        build.list_instrument(listing(2, maker_rate_e8=-1), operator=WHO[0], reason=WHO[1], **fields)
    )
    assert reason == desk.send(build.list_instrument(listing(2), operator=WHO[0], reason=WHO[1], **fields))
    rows = desk.engine.risk.instruments[[1, 2]][list(fields)].tolist()
    assert [tuple(fields.values() if reason == r.ACCEPTED else [0] * len(fields))] * 2 == rows


def test_bands_without_the_slot_take_an_interruptions_auction_away(desk: Desk) -> None:
    desk.do(bands(dynamic_e8=7, auction_ns=9, random_ns=8, extensions=3))
    names = ["dynamic_e8", "auction_ns", "random_ns", "extensions"]
    assert (7, 9, 8, 3) == desk.engine.risk.instruments[1][names].item()
    desk.do(bands())
    assert (0, 0, 0, 0) == desk.engine.risk.instruments[1][names].item()


def test_what_makes_no_sense_in_an_auction_is_refused_in_each_of_its_states(desk: Desk) -> None:
    for name in ("pre-open", "auction"):
        desk.do(state(name))
        for tif in (e.IOC, e.FOK):
            assert r.IMMEDIATE_IN_AUCTION == desk.send(desk.limit(1, e.BUY, 100, 1, tif=tif))
        market = build.market(account=1, instrument=1, side=e.BUY, qty_lots=1, price_ticks=100)
        assert r.IMMEDIATE_IN_AUCTION == desk.send(market)
        amount = build.market_amount(account=1, instrument=1, side=e.BUY, amount_units=500, price_ticks=100)
        assert r.IMMEDIATE_IN_AUCTION == desk.send(amount)
        order = build.with_terms(desk.limit(1, e.BUY, 100, 5), min_qty_lots=1)
        assert r.MIN_QTY_IN_AUCTION == desk.send(order)


@pytest.mark.parametrize(("maker", "taker"), [(100_000, 300_000), (-20_000, 60_000)])
def test_both_sides_pay_the_makers_rate_and_nobody_gets_a_rebate(maker: int, taker: int) -> None:
    desk = funded(maker_rate_e8=maker, taker_rate_e8=taker)
    desk.do(state("auction"))
    desk.do(desk.limit(1, e.SELL, 100, 1000))
    desk.do(desk.limit(2, e.BUY, 104, 1000))
    desk.do(state("open"))
    assert [e.OUT_TRADE, e.OUT_TRADE, e.OUT_UNCROSSED, e.OUT_ADMIN] == desk.outcomes["kind"].tolist()
    assert [0, 0, 0, e.OUTCOME_LAST] == desk.outcomes["flags"].tolist()
    base_fee, quote_fee = (100, 102) if maker > 0 else (0, 0)
    assert [base_fee, quote_fee, 0, 0] == desk.outcomes["fee_units"].tolist()
    assert (MANY - 102_000, 0) == desk.money(2)[0]
    assert (MANY + 100_000 - base_fee, 0) == desk.money(2)[1]
    assert (MANY + 102_000 - quote_fee, 0) == desk.money(1)[0]
    assert (quote_fee, base_fee) == (desk.fee(1), desk.fee(2))


def test_orders_of_one_account_meet_whatever_their_mode(desk: Desk) -> None:
    desk.do(state("auction"))
    desk.do(desk.limit(1, e.SELL, 100, 5, stp=e.STP_EXPIRE_BOTH))
    desk.do(desk.limit(1, e.BUY, 100, 5, stp=e.STP_EXPIRE_TAKER))
    desk.do(state("open"))
    assert [(MANY, 0), (MANY, 0)] == desk.money(1)
    assert 5 == desk.outcomes[0]["qty_lots"]


def test_an_auction_that_was_begun_anew_is_not_ended_by_the_end_of_the_former(desk: Desk) -> None:
    desk.do(state("auction", end_ts_ns=NOW + SECOND_NS, then=1))
    desk.ts_ns = NOW + SECOND_NS
    desk.do(head(e.EXPIRE))
    pushed = desk.engine.risk.outbox[0].copy()
    desk.do(state("auction", end_ts_ns=NOW + 9 * SECOND_NS, then=5))
    slot = head(0)
    slot.view(np.int64)[:] = pushed
    slot["version"], slot["source"], slot["source_seq"] = head(0)["version"], e.SOURCE_RISK, 1
    desk.sequence(slot)
    row = desk.engine.risk.instruments[1]
    assert (e.INSTRUMENT_AUCTION, NOW + 9 * SECOND_NS, 5, 0) == (
        *row[["status", "auction_end_ts_ns", "auction_then"]].item(),
        row["breaker_pending"],
    )


def test_an_interruption_lasts_as_long_as_the_page_says() -> None:
    desk = funded(breaker_e8=1_000_000, reference_ticks=100)
    desk.do(bands(breaker_e8=1_000_000, auction_ns=SECOND_NS, random_ns=12_345))
    desk.do(desk.limit(1, e.SELL, 105, 5))
    desk.do(desk.limit(2, e.BUY, 105, 5))
    seq = int(desk.outcomes["seq"][0])
    row = desk.engine.risk.outbox[0]
    assert [e.INSTRUMENT_AUCTION, NOW + SECOND_NS + random_part(seq, 1, 12_345), e.INSTRUMENT_OPEN] == row[5:8].tolist()


def order(order_id: int, side: int, price: int, lots: int, **more: int) -> Request:
    return Request(e.LIMIT, order_id, 1 + order_id % 3, 1, side, price, lots, hold=order_id, **more)  # type: ignore[arg-type]


def change(wanted: int, *, uncross: bool = False) -> Request:
    return Request(e.SET_STATE, instrument=1, price_ticks=wanted, uncross=uncross)


def uncrossed(ring_slots: int) -> tuple[Shard, list[Event]]:
    shard = Shard(ring_slots=ring_slots)
    shard.apply(order(1, e.SELL, 500, 40))
    shard.apply(change(e.INSTRUMENT_AUCTION))
    for k in range(2, 100):
        shard.apply(order(k, k % 2, 480 + k % 41, 1 + k % 7, terms=k % 3 == 0, display=1))
    events = shard.apply(change(e.INSTRUMENT_OPEN, uncross=True))
    check_state(shard.state)
    return shard, events


def test_an_uncross_pauses_where_the_ring_is_full_and_ends_the_same() -> None:
    roomy, expected = uncrossed(1 << 10)
    tight, actual = uncrossed(2)
    assert expected == actual
    assert len(expected) > 40
    assert 0 == roomy.pauses
    assert tight.pauses > 20
    assert roomy.hashes() == tight.hashes()


def test_another_number_of_shards_has_the_same_auctions() -> None:
    market = Market(7, 60, access=True)
    for instrument in (1, 2, 3, 5):
        market.office(build.set_state(instrument, e.INSTRUMENT_OPEN, *WHO))
        market.office(build.set_state(instrument, e.INSTRUMENT_AUCTION, *WHO))
        for _ in range(9):
            market.crowd(instrument)
    market.expire()
    engine = MarketRun(market, Variant("", 1, 64), parts=1).run.engine
    source = cast("MatcherState", engine.matchers[0])
    assert source.auctions["lots"].any()
    total = 0
    for shard in range(3):
        arrays = private_arena(state_spec(limits_of(source)))
        reset(make_state(arrays), shard, 3)
        target = shard_state(arrays)
        assert take_over_books(target, source)
        check_state(cast("MatcherState", target))
        for instrument in (n for n in range(1, 8) if n % 3 == shard):
            kept = auction_summary(cast("MatcherState", target), instrument)
            assert auction_summary(source, instrument) == kept
        total += _books(target)
    assert _books(source) == total % (1 << 64)


def _books(state: Any) -> int:
    return int(books_hash(state)) % (1 << 64)
