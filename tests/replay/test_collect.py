import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambist.replay.collect import HASH_FACTOR, HASH_START, Collector, fold
from cambist.replay.convert import NO_ORDER, STEP_DTYPE, Market, assemble, single_market
from cambist.replay.plan import Plan, load
from protocol import enums as e
from protocol import reasons as r
from protocol.records import OUTCOME_DTYPE
from tests.replay.naive_engine import NaiveEngine

LAST = e.OUTCOME_LAST
TAKER = e.OUTCOME_TAKER


def make_plan(*commands: tuple[int, int, int, int, int]) -> Plan:
    """One command a message: (type, side, price, qty, step that it names); the recorded id of step n is 100 + n."""
    steps = np.zeros(len(commands), dtype=STEP_DTYPE)
    for i, (kind, side, price, qty, names) in enumerate(commands):
        steps[i] = (i, i, price, qty, names, 1, 1, 0, kind, side, 0, 0)
    quote, base, instrument = single_market("X", "B", "Q", 100_000_000, 0, 0)
    ids = np.arange(100, 100 + len(commands), dtype=np.uint64)
    market = Market((quote, base), (instrument,), 1)
    return assemble("made", "xflow001", Path("made.bin"), market, steps, ids, messages=len(commands))


BUY_5 = (e.LIMIT, e.BUY, 100, 5, -1)
BUY_3 = (e.LIMIT, e.BUY, 100, 3, -1)
SELL_7 = (e.LIMIT, e.SELL, 100, 7, -1)
SELL_4 = (e.LIMIT, e.SELL, 100, 4, -1)


class Says:
    """Writes outcomes by hand: `command(n)` begins those of the plan's command n, `add` appends one."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows: list[dict[str, int]] = []
        self.head: dict[str, int] = {}

    def id_of(self, n: int) -> int:
        return NO_ORDER + self.plan.first_number + n

    def command(self, n: int) -> "Says":
        slot = self.plan.commands[n]
        number = int(slot["source_seq"])
        self.head = {
            "seq": number, "source_seq": number, "source": e.SOURCE_REPLAY, "instrument": 1, "index": 0,
            **{k: int(slot[k]) for k in ("order_id", "side", "price_ticks", "qty_lots", "type", "account")},
        }  # fmt: skip
        return self

    def add(self, kind: int, flags: int = 0, **fields: int) -> "Says":
        self.rows.append({**self.head, "kind": kind, "flags": flags, **fields})
        self.head = {**self.head, "index": self.head["index"] + 1}
        return self

    def rests(self, n: int) -> "Says":
        qty = int(self.plan.commands["qty_lots"][n])
        return self.command(n).add(e.OUT_NEW, LAST, leaves_qty_lots=qty)

    def trade(
        self, taker: int, maker: int, qty: int, taker_left: int, maker_left: int, flags: int = 0, price: int = 100
    ) -> "Says":
        ids = {"order_id": self.id_of(taker), "contra_order_id": self.id_of(maker)}
        self.add(e.OUT_TRADE, TAKER, price_ticks=price, qty_lots=qty, leaves_qty_lots=taker_left, **ids)
        ids = {"order_id": self.id_of(maker), "contra_order_id": self.id_of(taker)}
        return self.add(e.OUT_TRADE, flags, price_ticks=price, qty_lots=qty, leaves_qty_lots=maker_left, **ids)

    def outcomes(self) -> np.ndarray:
        out = np.zeros(len(self.rows), dtype=OUTCOME_DTYPE)
        for i, row in enumerate(self.rows):
            for name, value in row.items():
                out[name][i] = value
        return out


def collected(says: Says, **options: Any) -> Collector:
    collector = Collector(says.plan, **options)
    collector.feed(says.outcomes())
    collector.finish()
    return collector


def test_a_resting_order_stands_in_the_book() -> None:
    collector = collected(Says(make_plan(BUY_5)).rests(0))
    expected = {
        "orders": 1, "bid_qty": 5, "ask_qty": 0, "bid_levels": 1, "ask_levels": 0, "best_bid": 100, "best_ask": None,
    }  # fmt: skip
    assert expected == collector.book(1)
    assert [[0, 0, 5]] == collector.verdicts.tolist()
    assert [] == collector.faults()


def test_a_trade_is_counted_hashed_and_written_with_the_recordings_ids() -> None:
    plan = make_plan(BUY_5, SELL_7)
    says = Says(plan).rests(0).command(1).add(e.OUT_NEW, leaves_qty_lots=7)
    says.trade(1, 0, 5, 2, 0).add(e.OUT_RESTED, LAST, leaves_qty_lots=2)
    file = io.StringIO()
    collector = collected(says, fills_file=file)
    counters = collector.counters()
    assert (1, 5, 500) == (counters["trades"], counters["volume"], counters["turnover"])
    term = 100 * 31 + 101 * 17 + 100 * 7 + 5
    assert str((HASH_START * HASH_FACTOR + term) % (1 << 64)) == counters["trade_hash"]
    assert "taker_id,maker_id,price,qty\n101,100,100,5\n" == file.getvalue()
    assert [[1, 1, 101, 100, 100, 5]] == collector.fills().tolist()
    assert [[0, 0, 5], [0, 5, 2]] == collector.verdicts.tolist()
    assert (0, 2, 100) == tuple(collector.book(1)[k] for k in ("bid_levels", "ask_qty", "best_ask"))
    assert [] == collector.faults()


def test_an_order_filled_without_rest_needs_no_more_outcomes() -> None:
    says = (
        Says(make_plan(BUY_5, SELL_4)).rests(0).command(1).add(e.OUT_NEW, leaves_qty_lots=4).trade(1, 0, 4, 0, 1, LAST)
    )
    collector = collected(says)
    assert [[0, 0, 5], [0, 4, 0]] == collector.verdicts.tolist()
    assert [[100, 1]] == collector.orders().tolist()
    assert [] == collector.faults()


def test_an_expired_rest_is_not_in_the_book() -> None:
    says = (
        Says(make_plan(SELL_4)).command(0).add(e.OUT_NEW, leaves_qty_lots=4).add(e.OUT_EXPIRED, LAST, reason=r.BY_IOC)
    )
    collector = collected(says)
    assert (0, [[0, 0, 0]]) == (collector.book(1)["orders"], collector.verdicts.tolist())


def test_a_cancel_counts_what_it_took_off() -> None:
    says = Says(make_plan(BUY_5, (e.CANCEL, 0, 0, 0, 0))).rests(0)
    says.command(1).add(e.OUT_CANCELED, LAST, qty_lots=5, reason=r.BY_USER)
    collector = collected(says)
    assert (1, [0, 0, 5], 0) == (
        collector.counters()["cancels"],
        collector.verdicts[1].tolist(),
        collector.book(1)["orders"],
    )


def test_a_cancel_all_counts_orders() -> None:
    says = Says(make_plan(BUY_5, BUY_3, (e.CANCEL_ALL, 0, 0, 0, -1))).rests(0).rests(1).command(2)
    for n, qty in ((0, 5), (1, 3)):
        says.add(e.OUT_CANCELED, order_id=says.id_of(n), qty_lots=qty, reason=r.BY_CANCEL_ALL)
    collector = collected(says.add(e.OUT_DONE, LAST, qty_lots=2))
    assert (2, [0, 0, 2]) == (collector.counters()["cancels"], collector.verdicts[2].tolist())


def test_a_teardown_is_no_message_and_no_cancel() -> None:
    plan = make_plan(BUY_5)
    says = Says(plan).rests(0)
    number = plan.first_number + 1
    says.head = {"seq": number, "source_seq": number, "source": e.SOURCE_REPLAY, "type": e.CANCEL_ALL, "index": 0}
    says.add(e.OUT_CANCELED, order_id=says.id_of(0), qty_lots=5, reason=r.BY_CANCEL_ALL).add(
        e.OUT_DONE, LAST, qty_lots=1
    )
    collector = collected(says)
    assert (0, 0, 1) == (collector.counters()["cancels"], collector.book(1)["orders"], collector.counters()["accepted"])


@pytest.mark.parametrize("kept", [True, False])
def test_an_amended_order_stands_at_its_new_price(kept: bool) -> None:
    says = Says(make_plan(BUY_5, (e.AMEND, 0, 101, 4, 0))).rests(0).command(1)
    says.add(e.OUT_REPLACED, LAST if kept else 0, leaves_qty_lots=4)
    if not kept:
        says.add(e.OUT_RESTED, LAST, leaves_qty_lots=4)
    collector = collected(says)
    book = collector.book(1)
    assert (1, 4, 1, 101) == tuple(book[k] for k in ("orders", "bid_qty", "bid_levels", "best_bid"))
    assert [0, 0, 4] == collector.verdicts[1].tolist()
    assert [] == collector.faults()


def test_lots_that_self_trade_prevention_took_off_makers_are_counted_once() -> None:
    says = Says(make_plan(BUY_5, BUY_3, SELL_7)).rests(0).rests(1).command(2).add(e.OUT_NEW, leaves_qty_lots=7)
    says.add(e.OUT_PREVENTED, TAKER, qty_lots=5, leaves_qty_lots=2)
    says.add(e.OUT_PREVENTED, order_id=says.id_of(0), qty_lots=5, leaves_qty_lots=0)
    says.add(e.OUT_CANCELED, order_id=says.id_of(1), qty_lots=3, reason=r.BY_STP)
    collector = collected(says.add(e.OUT_EXPIRED, LAST, reason=r.BY_STP))
    assert (8, 0) == (collector.counters()["prevented"], collector.counters()["cancels"])
    assert [[2, 100, 5, 1], [2, 101, 3, 1]] == collector.preventions().tolist()


def test_a_refusal_is_counted_by_its_name() -> None:
    says = Says(make_plan(BUY_5, SELL_7)).command(0).add(e.OUT_REJECTED, LAST, reason=r.INSUFFICIENT_FUNDS)
    says.command(1).add(e.OUT_REJECTED, LAST, reason=r.INSUFFICIENT_FUNDS)
    counters = collected(says).counters()
    assert (0, {"INSUFFICIENT_FUNDS": 2}) == (counters["accepted"], counters["rejected"])


def test_an_order_with_a_client_id_rests_after_its_ids() -> None:
    says = Says(make_plan(BUY_5)).command(0).add(e.OUT_NEW, e.OUTCOME_MORE, leaves_qty_lots=5).add(e.OUT_IDS, LAST)
    collector = collected(says)
    assert (1, [0, 0, 5], []) == (collector.book(1)["orders"], collector.verdicts[0].tolist(), collector.faults())


def test_a_probe_sees_the_book_as_its_message_left_it() -> None:
    says = Says(make_plan(BUY_5, (e.LIMIT, e.BUY, 101, 2, -1), SELL_7)).rests(0).rests(1)
    says.command(2).add(e.OUT_NEW, leaves_qty_lots=7).trade(2, 1, 2, 5, 0, price=101).trade(2, 0, 5, 0, 0, LAST)
    collector = collected(says, probes=np.array([0, 1, 2]), depth=2)
    bids = collector.depths[:, e.BUY].tolist()
    assert [[[100, 5], [0, 0]], [[101, 2], [100, 5]], [[0, 0], [0, 0]]] == bids


def test_sums_beyond_64_bits_are_exact() -> None:
    big = (1 << 62) - 1
    plan = make_plan(*[(e.LIMIT, e.BUY, 1, big, -1), (e.LIMIT, e.SELL, 1, big, -1)] * 5)
    says = Says(plan)
    for n in range(0, 10, 2):
        says.rests(n).command(n + 1).add(e.OUT_NEW, leaves_qty_lots=big).trade(n + 1, n, big, 0, 0, LAST, price=1)
    counters = collected(says).counters()
    assert (5 * big, 5 * big) == (counters["volume"], counters["turnover"])


FAULTY = {
    "a skipped index": lambda s: s.rests(0).command(1).add(e.OUT_NEW, index=1),
    "a command without its last outcome": lambda s: s.command(0).add(e.OUT_NEW, leaves_qty_lots=5).rests(1),
    "a falling seq": lambda s: s.rests(1).rests(0),
    "a trade with an order that is not there": lambda s: s.command(1).add(e.OUT_NEW).trade(1, 0, 4, 0, 1, LAST),
    "a trade at another price than the maker's": lambda s: (
        s.rests(0).command(1).add(e.OUT_NEW).trade(1, 0, 4, 0, 1, LAST, price=99)
    ),
    "a maker that lost another quantity": lambda s: s.rests(0).command(1).add(e.OUT_NEW).trade(1, 0, 4, 0, 2, LAST),
    "more traded than there was": lambda s: s.rests(0).command(1).add(e.OUT_NEW).trade(1, 0, 6, 0, -1, LAST),
    "an order that rests twice": lambda s: s.rests(0).command(0).add(e.OUT_RESTED, LAST, seq=99, leaves_qty_lots=5),
    "an unknown kind": lambda s: s.command(0).add(99, LAST),
    "an order of another source": lambda s: s.command(0).add(e.OUT_NEW, LAST, order_id=7, leaves_qty_lots=5),
}


@pytest.mark.parametrize("what", FAULTY)
def test_outcomes_that_cannot_be_are_named(what: str) -> None:
    collector = collected(FAULTY[what](Says(make_plan(BUY_5, SELL_4))))
    assert "unsound outcomes" in collector.faults()[0]


def test_a_message_without_outcome_is_named() -> None:
    assert ["1 messages have no outcome, the first is message 2"] == collected(
        Says(make_plan(BUY_5, BUY_3)).rests(0)
    ).faults()


def test_a_refused_set_up_is_named() -> None:
    says = Says(make_plan(BUY_5))
    says.head = {"seq": 1, "source_seq": 1, "source": e.SOURCE_REPLAY, "index": 0}
    says.add(e.OUT_REJECTED, LAST, reason=r.BAD_LISTING).rests(0)
    assert ["1 set-up commands were refused, the last with BAD_LISTING"] == collected(says).faults()


def test_outcomes_of_other_sources_are_only_checked_for_order() -> None:
    says = Says(make_plan(BUY_5))
    says.head = {"seq": 1, "source_seq": 7, "source": e.SOURCE_SEQUENCER, "index": 0}
    says.add(e.OUT_CHECKPOINT, LAST).rests(0)
    collector = collected(says)
    assert ([], 1) == (collector.faults(), collector.done)


@given(st.lists(st.integers(min_value=0, max_value=(1 << 64) - 1)))
def test_the_fold_is_the_published_hash(terms: list[int]) -> None:
    h = HASH_START
    for term in terms:
        h = (h * HASH_FACTOR + term) % (1 << 64)
    assert h == fold(HASH_START, np.array(terms, dtype=np.uint64))


@pytest.fixture(scope="module")
def tight(shared_data: Path) -> tuple[Plan, np.ndarray]:
    plan = load(shared_data / "data/xflow2/tight.bin.gz", limit=2_000)
    engine = NaiveEngine(plan)
    return plan, np.concatenate([engine.run(plan.setup), engine.run(plan.commands)])


@given(cuts=st.lists(st.integers(min_value=0, max_value=4_000), max_size=8))
def test_batches_of_any_size_give_the_same(tight: tuple[Plan, np.ndarray], cuts: list[int]) -> None:
    plan, outcomes = tight
    whole, parts = Collector(plan), Collector(plan)
    whole.feed(outcomes)
    for part in np.split(outcomes, sorted(min(c, len(outcomes)) for c in cuts)):
        parts.feed(part)
    assert whole.counters() == parts.counters()
    assert whole.fills().tolist() == parts.fills().tolist()
    assert whole.preventions().tolist() == parts.preventions().tolist()
