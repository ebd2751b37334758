"""Order-flow files through the shard: it gives the verdicts, fills and preventions that the files expect."""

import json
from pathlib import Path

import pytest

from matcher.state import MatcherLimits
from matcher.views import book_summary
from protocol import enums as e
from tests.flows import flow as flow_generator
from tests.flows import xflow2_gen
from tests.matcher.driver import Shard, listing
from tests.matcher.invariants import check_state
from tests.matcher.naive_book import Event, Request
from tests.naive.exchange import Code, NaiveExchange, Type
from tests.naive.xflow import Xflow2, exchange_of, read_xflow2

HASH_START = 14695981039346656037
HASH_FACTOR = 1099511628211
TYPES = {
    Type.LIMIT: e.LIMIT,
    Type.MARKET_BY_QUANTITY: e.MARKET,
    Type.MARKET_BY_AMOUNT: e.MARKET_AMOUNT,
    Type.CANCEL: e.CANCEL,
    Type.CANCEL_ALL: e.CANCEL_ALL,
    Type.AMEND: e.AMEND,
}
# Everything else is refused before the book is asked.
DECIDED_BY_MATCHER = {
    Code.ACCEPTED,
    Code.UNKNOWN_ORDER,
    Code.QUANTITY_TOO_LOW,
    Code.NO_CHANGE,
    Code.POST_ONLY_WOULD_TAKE,
    Code.FOK_UNFILLED,
}


def outcome_of(
    number: int, request: Request, events: list[Event]
) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """A message's ``[code, x, y]``, fills and preventions in the terms of the expected results."""
    if events and events[0].kind == e.EV_REJECTED:
        return [events[0].reason, 0, 0], [], []
    fills = [
        [number, ev.instrument, request.order_id, ev.order_id, ev.price_ticks, ev.qty_lots]
        for ev in events
        if ev.kind == e.EV_FILL
    ]
    prevented = [
        [number, ev.order_id, ev.qty_lots, int(ev.left_lots == 0)]
        for ev in events
        if ev.kind == e.EV_PREVENTED or (ev.kind == e.EV_CANCELED and ev.taker_left > 0)
    ]
    canceled = [ev for ev in events if ev.kind == e.EV_CANCELED and ev.taker_left == 0]
    if request.type == e.CANCEL:
        return [0, 0, canceled[0].qty_lots], fills, prevented
    if request.type == e.CANCEL_ALL:
        return [0, 0, len(canceled)], fills, prevented
    resting = sum(ev.left_lots for ev in events if ev.kind == e.EV_RESTED)
    if [ev.kind for ev in events] in ([e.EV_AMENDED], [e.EV_MOVED]):
        resting = events[0].left_lots
    return [0, sum(fill[5] for fill in fills), resting], fills, prevented


def follow(flow: Xflow2, ring_slots: int, limit: int | None = None) -> tuple[Shard, NaiveExchange]:
    """Run a history through the naive exchange, and what reaches the book through a shard; they always agree."""
    exchange = exchange_of(flow)
    limits = MatcherLimits(20_000, 4_096, len(flow.instruments), flow.accounts)
    shard = Shard(limits, ring_slots, list_k=0)
    for number, market in exchange.markets.items():
        shard.apply(listing(number, market.k, market.spec.lot_atoms))
    for number, m in enumerate(flow.messages[:limit], 1):
        n_fills, n_stp = len(exchange.fills), len(exchange.stp_events)
        verdict = exchange.apply(m)
        if m.type not in TYPES or verdict.code not in DECIDED_BY_MATCHER:
            continue
        request = Request(TYPES[Type(m.type)], m.id, m.account, m.instrument, m.side, m.price, m.qty, m.tif, m.stp)
        actual = outcome_of(number, request, shard.apply(request))
        expected = ([int(v) for v in verdict], exchange.fills[n_fills:], exchange.stp_events[n_stp:])
        assert expected == actual, f"message {number}: {m}"
    check_state(shard.state)
    for number in exchange.markets:
        assert exchange.book(number) == book_summary(shard.state, number)._asdict()
    return shard, exchange


@pytest.mark.parametrize("profile", ["tight", "stp"])
def test_recorded_sample_gives_every_fill_and_prevention(shared_data: Path, profile: str) -> None:
    folder = shared_data / "data" / "xflow2"
    shard, exchange = follow(read_xflow2(folder / f"{profile}.bin.gz"), 64)
    expected = json.loads((folder / f"{profile}.json").read_text(encoding="utf-8"))
    assert expected["detail"]["fills"] == exchange.fills
    assert expected["orders"] == sum(int(book["orders"]) for book in shard.state.books)


@pytest.mark.parametrize("ring_slots", [2, 256])
@pytest.mark.parametrize("profile", ["rich", "stp", "mixed"])
def test_generated_history_agrees_message_by_message(profile: str, ring_slots: int) -> None:
    follow(xflow2_gen.generate(profile, seed=11, n=2_500).file, ring_slots)


@pytest.mark.parametrize("ring_slots", [2, 1024])
@pytest.mark.parametrize("workload", ["w1", "w2", "w3"])
def test_one_book_history_gives_the_generators_results(workload: str, ring_slots: int) -> None:
    generated = getattr(flow_generator, workload)(2_000, 3)
    limits = MatcherLimits(1 << 14, 1 << 10, 1, 20)
    shard = Shard(limits, ring_slots)
    trade_hash, trades, volume, turnover = HASH_START, 0, 0, 0
    totals: dict[int, int] = {}
    prices: dict[int, int] = {}
    for order_id, price, qty, kind, side, uid, _ in generated.rows:
        account = 1 + uid
        if kind <= 1:
            requests = [Request(e.LIMIT, order_id, account, 1, side, price, qty, e.IOC if kind else e.GTC)]
            totals[order_id] = qty
        elif kind == 2:
            requests = [Request(e.CANCEL, order_id, account, 1)]
        elif price == prices[order_id]:
            # A move to its own price loses the place, which no amend does.
            requests = [
                Request(e.CANCEL, order_id, account, 1),
                Request(e.LIMIT, order_id, account, 1, side, price, qty),
            ]
            totals[order_id] = qty
        else:
            requests = [Request(e.AMEND, order_id, account, 1, 0, price, totals[order_id])]
        prices[order_id] = price
        for request in requests:
            for ev in shard.apply(request):
                assert ev.kind != e.EV_REJECTED, request
                if ev.kind == e.EV_FILL:
                    trades += 1
                    volume += ev.qty_lots
                    turnover += ev.qty_lots * ev.price_ticks
                    mixed = ev.order_id * 31 + order_id * 17 + ev.price_ticks * 7 + ev.qty_lots
                    trade_hash = (trade_hash * HASH_FACTOR + mixed) % 2**64
    check_state(shard.state)
    actual = {"trades": trades, "volume": volume, "turnover": turnover, "hash": str(trade_hash)}
    assert generated.b.state() == actual | book_summary(shard.state, 1)._asdict()
