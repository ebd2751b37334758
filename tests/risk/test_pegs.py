"""Orders that follow a best price: what risk refuses, what they hold, and that shards and small rings change nothing."""

from typing import cast

import numpy as np
import pytest
from msgspec.structs import replace

from matcher.hashes import books_hash
from matcher.process import shard_state
from matcher.rebuild import take_over_books
from matcher.state import MatcherLimits, MatcherState, limits_of, make_state, reset, state_spec
from matcher.views import resting_orders
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from ringbuf.arena import private_arena
from tests.engine.driver import Variant
from tests.engine.operators import START_TS_NS, numbered
from tests.matcher.driver import Shard
from tests.matcher.invariants import check_state
from tests.matcher.naive_book import Event, Request
from tests.risk.desk import LIMITS, WHO, Desk, listing

MANY = 10**6


@pytest.fixture
def desk() -> Desk:
    return funded(Desk())


def funded(desk: Desk) -> Desk:
    """Everybody has money; the best bid is 90, the best ask 110."""
    for account in (1, 2, 3):
        desk.fund(account, MANY, MANY)
    desk.ts_ns = START_TS_NS
    desk.do(desk.limit(1, e.BUY, 90, 5))
    desk.do(desk.limit(1, e.SELL, 110, 5))
    return desk


def peg(desk: Desk, ref: int = e.PEG_BID, offset: int = 0, lots: int = 2, **fields: int) -> np.ndarray:
    return build.with_peg(desk.limit(2, e.BUY, 100, lots, **fields), ref, offset)


def told(desk: Desk) -> list[tuple[int, int]]:
    return [(int(row["kind"]), int(row["price_ticks"])) for row in desk.outcomes]


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        (r.PEG_MISPLACED, {"type": e.MARKET}),
        (r.PEG_MISPLACED, {"type": e.MARKET_AMOUNT}),
        (r.PEG_MISPLACED, {"tif": e.IOC}),
        (r.PEG_MISPLACED, {"tif": e.FOK}),
        (r.PEG_MISPLACED, {"flags": e.FLAG_PEG | e.FLAG_TRIGGER, "trigger_price_ticks": 95}),
        (r.PEG_MISPLACED, {"flags": e.FLAG_PEG | e.FLAG_LEGS}),
        (r.BAD_FIELD, {"trigger_ref": 3}),
        (r.BAD_FIELD, {"offset_kind": e.OFFSET_BASIS_POINTS}),
        (r.PEG_TERMS, {"flags": e.FLAG_PEG | e.FLAG_TERMS, "display_qty_lots": 1}),
        (r.PEG_TERMS, {"flags": e.FLAG_PEG | e.FLAG_TERMS, "min_qty_lots": 1}),
        (r.EXPIRY_PASSED, {"flags": e.FLAG_PEG | e.FLAG_TERMS, "expiry_ts_ns": START_TS_NS}),
        (r.BAD_PRICE, {"price_ticks": 0}),
        (r.BAD_QUANTITY, {"qty_lots": 0}),
        (r.INSUFFICIENT_FUNDS, {"qty_lots": MANY}),
        (r.ACCEPTED, {"tif": e.POST_ONLY}),
        (r.ACCEPTED, {"trigger_ref": e.PEG_MID}),
    ],
)
def test_a_peg_that_makes_no_sense_is_refused_by_name(desk: Desk, reason: int, fields: dict[str, int]) -> None:
    group = peg(desk)
    for name, value in fields.items():
        group[name] = value
    before = desk.money(2)
    assert r.NAME[reason] == r.NAME[desk.send(group)]
    held = 200 if reason == r.ACCEPTED else 0
    assert [(before[0][0] - held, before[0][1] + held), before[1]] == desk.money(2)


def test_a_peg_holds_for_its_limit_wherever_it_stands_and_frees_what_a_fill_leaves(desk: Desk) -> None:
    desk.do(peg(desk))
    assert [(e.OUT_NEW, 100), (e.OUT_RESTED, 100), (e.OUT_PEGGED, 90)] == told(desk)
    assert (MANY - 200, 200) == desk.money(2)[0]
    desk.do(desk.limit(1, e.BUY, 95, 5))
    assert [(e.OUT_NEW, 95), (e.OUT_RESTED, 95), (e.OUT_PEGGED, 95)] == told(desk)
    assert [0, 0, e.OUTCOME_LAST] == desk.outcomes["flags"].tolist()
    assert (MANY - 200, 200) == desk.money(2)[0]
    desk.do(desk.limit(3, e.SELL, 95, 6))
    assert (MANY - 195, 100) == desk.money(2)[0]
    hold = desk.engine.risk.holds[desk.engine.risk.holds["account"] == 2][0]
    assert (100, -90, 1) == tuple(int(hold[name]) for name in ("price_ticks", "display_lots", "left_lots"))


def test_pegs_of_an_instrument_are_a_thousand_at_most() -> None:
    desk = funded(Desk(limits=replace(LIMITS, orders=2_048, leaves=2_048)))
    group = peg(desk, lots=1)
    many = np.concatenate([build.stamp(group.copy(), e.SOURCE_FIRST_GATEWAY, 5_000 + k, 0) for k in range(1_000)])
    desk.engine.feed(numbered(many, desk.engine.last_seq + 1), lambda _: None)
    desk.number = 6_000
    assert r.PEGS_FULL == desk.send(group)
    desk.do(desk.limit(1, e.BUY, 95, 1))
    assert 1_000 == np.count_nonzero(desk.outcomes["kind"] == e.OUT_PEGGED)
    desk.do(build.cancel_all(account=2))
    assert r.ACCEPTED == desk.send(group)


def test_an_amend_is_refused_and_costs_nothing(desk: Desk) -> None:
    desk.do(peg(desk))
    order_id = desk.order_id
    before = desk.money(2)
    amended = build.amend(account=2, instrument=1, order_id=order_id, price_ticks=105, qty_lots=3)
    assert r.PEG_AMEND == desk.send(amended)
    assert before == desk.money(2)


def test_pegs_are_taken_where_post_only_orders_are_but_not_for_an_auction(desk: Desk) -> None:
    for state, reason in (
        (e.INSTRUMENT_POST_ONLY, r.ACCEPTED),
        (e.INSTRUMENT_HALTED, r.INSTRUMENT_HALTED),
        (e.INSTRUMENT_AUCTION, r.IMMEDIATE_IN_AUCTION),
    ):
        desk.do(build.set_state(1, state, *WHO))
        assert r.NAME[reason] == r.NAME[desk.send(peg(desk))]


def test_a_halted_market_moves_its_pegs_and_one_that_gathers_does_not(desk: Desk) -> None:
    desk.do(desk.limit(1, e.BUY, 95, 1))
    best = desk.order_id
    desk.do(peg(desk))
    desk.do(desk.limit(1, e.BUY, 96, 1))
    better = desk.order_id
    desk.do(build.set_state(1, e.INSTRUMENT_HALTED, *WHO))
    desk.do(build.cancel(account=1, instrument=1, order_id=better))
    assert [(e.OUT_CANCELED, 96), (e.OUT_PEGGED, 95)] == told(desk)
    desk.do(build.set_state(1, e.INSTRUMENT_PRE_OPEN, *WHO))
    desk.do(build.cancel(account=1, instrument=1, order_id=best))
    assert [(e.OUT_CANCELED, 95)] == told(desk)
    desk.do(build.set_state(1, e.INSTRUMENT_CLOSED, *WHO))
    assert [(e.OUT_PEGGED, 90), (e.OUT_ADMIN, 0)] == [
        (kind, price if kind == e.OUT_PEGGED else 0) for kind, price in told(desk)
    ]


@pytest.mark.parametrize("shards", [1, 3])
def test_of_a_command_about_all_instruments_pegs_move_behind_all_cancels_by_instrument(shards: int) -> None:
    desk = Desk(Variant("", shards, 1), replace(LIMITS, orders=32))
    for number in (2, 3):
        desk.do(build.list_instrument(listing(number), *WHO))
    for account in (1, 2, 3):
        desk.fund(account, MANY, MANY)
    for number in (3, 1, 2):
        for account, price in ((1, 90), (3, 80)):
            desk.do(build.limit(account=account, instrument=number, side=e.BUY, price_ticks=price, qty_lots=1))
        group = build.limit(account=2, instrument=number, side=e.BUY, price_ticks=100, qty_lots=1)
        desk.do(build.with_peg(group, e.PEG_BID, -number))
    desk.do(build.cancel_all(account=1))
    expected = [(e.OUT_CANCELED, 1), (e.OUT_CANCELED, 2), (e.OUT_CANCELED, 3)]
    expected += [(e.OUT_PEGGED, 1), (e.OUT_PEGGED, 2), (e.OUT_PEGGED, 3), (e.OUT_DONE, 0)]
    assert expected == [(int(row["kind"]), int(row["instrument"])) for row in desk.outcomes]
    assert 3 == desk.outcomes["qty_lots"][-1]


def shard_with_pegs(ring_slots: int) -> tuple[Shard, list[Event]]:
    """A bid that goes, and five pegs that move with it."""
    shard = Shard(ring_slots=ring_slots)
    shard.apply(Request(e.LIMIT, 1, 1, 1, e.BUY, 100, 5))
    shard.apply(Request(e.LIMIT, 2, 1, 1, e.BUY, 90, 5))
    for k in range(5):
        q = Request(e.LIMIT, 10 + k, 2, 1, e.BUY, 200, 1, seq=shard.seq + 1, pegs=True, ref=e.PEG_BID)
        shard.apply(q._replace(offset_kind=e.OFFSET_TICKS, offset=-k))
    return shard, shard.apply(Request(e.CANCEL, 1, 1, 1))


def test_a_command_pauses_between_its_pegs_and_says_the_same() -> None:
    roomy, expected = shard_with_pegs(64)
    tight, actual = shard_with_pegs(2)
    assert 6 == len(expected)
    assert expected == actual
    assert [False] * 5 + [True] == [event.last for event in actual]
    assert (roomy.hashes(), True) == (tight.hashes(), tight.pauses > 0)


def test_those_that_need_not_move_keep_their_place_and_others_go_to_the_back() -> None:
    shard = Shard()
    shard.apply(Request(e.LIMIT, 1, 1, 1, e.BUY, 100, 5))
    for order_id, limit in ((10, 100), (11, 300), (12, 100)):
        shard.apply(Request(e.LIMIT, order_id, 2, 1, e.BUY, limit, 1, seq=shard.seq + 1, pegs=True, ref=e.PEG_BID))
    shard.apply(Request(e.LIMIT, 2, 1, 1, e.BUY, 101, 5))
    shard.apply(Request(e.CANCEL, 2, 1, 1))
    assert [1, 10, 12, 11] == resting_orders(shard.state, 1, e.BUY)["order_id"].tolist()


def follower(shard: Shard, order_id: int, side: int, limit: int, ref: int, offset: int) -> list[Event]:
    q = Request(e.LIMIT, order_id, 2, 1, side, limit, 1, seq=shard.seq + 1, pegs=True, ref=ref)
    return shard.apply(q._replace(offset_kind=e.OFFSET_TICKS, offset=offset))


def test_a_peg_between_whose_prices_none_is_left_is_cancelled() -> None:
    shard = Shard()
    shard.apply(Request(e.LIMIT, 1, 1, 1, e.SELL, 110, 1))
    follower(shard, 10, e.SELL, 1, e.PEG_ASK, -100)
    follower(shard, 11, e.BUY, 50, e.PEG_ASK, -105)
    told = shard.apply(Request(e.LIMIT, 2, 1, 1, e.SELL, 101, 1))
    said = [(event.kind, event.reason, event.order_id, event.price_ticks) for event in told]
    assert [(e.EV_PEGGED, 0, 10, 1), (e.EV_CANCELED, r.BY_PEG, 11, 0)] == said[1:]
    assert r.PEG_NO_REFERENCE == follower(shard, 12, e.BUY, 50, e.PEG_ASK, -105)[0].reason
    check_state(shard.state)


def test_a_peg_whose_price_has_no_place_left_is_cancelled() -> None:
    shard = Shard(small(leaves_max=1))
    shard.apply(Request(e.LIMIT, 1, 1, 1, e.BUY, 703, 1))
    shard.apply(Request(e.LIMIT, 2, 1, 1, e.BUY, 701, 1))
    assert [703, 640] == [event.price_ticks for event in follower(shard, 10, e.BUY, 703, e.PEG_BID, -63)]
    assert r.BOOK_FULL == follower(shard, 11, e.BUY, 703, e.PEG_BID, -64)[0].reason
    told = shard.apply(Request(e.CANCEL, 1, 1, 1))
    assert [(r.BY_USER, False), (r.BY_PEG, True)] == [(event.reason, event.last) for event in told]
    check_state(shard.state)


def small(**fields: int) -> MatcherLimits:
    return MatcherLimits(**({"orders_max": 8, "leaves_max": 8, "instruments_max": 2, "accounts_max": 4} | fields))


def test_another_number_of_shards_has_the_same_pegs() -> None:
    source, _ = shard_with_pegs(64)
    source.apply(Request(e.LIMIT, 30, 3, 2, e.SELL, 70, 1))
    q = Request(e.LIMIT, 31, 3, 2, e.SELL, 1, 1, seq=source.seq + 1, pegs=True, ref=e.PEG_ASK)
    source.apply(q)
    total = 0
    for number in range(2):
        arrays = private_arena(state_spec(limits_of(source.state)))
        reset(make_state(arrays), number, 2)
        target = shard_state(arrays)
        assert take_over_books(target, source.carried)
        check_state(cast("MatcherState", target))
        total += int(books_hash(target))
    assert int(books_hash(source.carried)) == total % (1 << 64)
