"""Rare meetings of rules that random histories came upon: kernel and twin say the same, and what is expected."""

from protocol import enums as e
from protocol import reasons as r
from tests.matcher.campaign import LIMITS, MULTIPLIER, naive_shard
from tests.matcher.driver import Shard
from tests.matcher.naive_book import Event, Request

ALICE, BOB, CAROL = 1, 2, 3


class Both:
    """A shard and its twin."""

    def __init__(self) -> None:
        self.shard = Shard(LIMITS, list_k=MULTIPLIER)
        self.twin = naive_shard(LIMITS)

    def __call__(self, q: Request) -> list[Event]:
        q = q._replace(seq=self.shard.seq + 1, ts_ns=self.shard.seq)
        told = self.shard.apply(q)
        assert self.twin.apply(q) == told
        return told

    def trade(self, price: int) -> None:
        """The last price is this one."""
        self(limit(901, ALICE, e.SELL, price, 1))
        self(limit(902, BOB, e.BUY, price, 1))


def limit(order_id: int, account: int, side: int, price: int, qty: int, **more: int) -> Request:
    return Request(e.LIMIT, order_id, account, 1, side, price, qty, hold=order_id, **more)  # type: ignore[arg-type]


def waiting(q: Request, trigger: int, ref: int, *, takes_profit: bool = False) -> Request:
    return q._replace(waits=True, terms=True, trigger=trigger, ref=ref, takes_profit=takes_profit)


def state(wanted: int) -> Request:
    opens = wanted == e.INSTRUMENT_OPEN
    return Request(e.SET_STATE, instrument=1, price_ticks=wanted, uncross=opens)


def test_trades_of_an_order_move_a_trailing_stop_by_the_first_and_the_last_price_only() -> None:
    both = Both()
    both.trade(100)
    for order_id, price in ((1, 104), (2, 106), (3, 112)):
        both(limit(order_id, ALICE, e.SELL, price, 1))
    profit = waiting(limit(4, CAROL, e.SELL, 200, 1), 110, e.TRIGGER_LAST, takes_profit=True)
    trailing = waiting(limit(5, CAROL, e.SELL, 50, 1), 0, e.TRIGGER_LAST)
    both(profit._replace(leg=trailing._replace(offset_kind=e.OFFSET_TICKS, offset=2)))
    told = both(limit(6, BOB, e.BUY, 112, 3))
    ended = [(event.order_id, event.price_ticks) for event in told if event.reason == r.BY_LINK]
    assert [(5, 102)] == ended, "102 is behind 104, which came first; 112 sets its partner off"


def test_last_price_sets_off_before_the_mark_price_when_a_market_opens() -> None:
    both = Both()
    both.trade(100)
    both(Request(e.SET_PRICES, instrument=1, price_ticks=100))
    profit = waiting(limit(1, CAROL, e.BUY, 95, 1), 90, e.TRIGGER_MARK, takes_profit=True)
    both(profit._replace(leg=waiting(limit(2, CAROL, e.BUY, 99, 1), 110, e.TRIGGER_LAST)))
    both(state(e.INSTRUMENT_AUCTION))
    both(Request(e.SET_PRICES, instrument=1, price_ticks=80, no_take=True))
    both(limit(3, ALICE, e.SELL, 115, 1))
    both(limit(4, BOB, e.BUY, 115, 1))
    told = both(state(e.INSTRUMENT_OPEN))
    fired = [(event.order_id, event.reason) for event in told if event.reason in (r.BY_TRIGGER, r.BY_LINK)]
    assert [(2, r.BY_TRIGGER), (1, r.BY_LINK)] == fired


def test_what_gathered_comes_behind_a_peg_that_moved_while_the_market_was_closed() -> None:
    both = Both()
    for order_id, price in ((1, 105), (2, 106)):
        both(limit(order_id, ALICE, e.SELL, price, 5))
    peg = limit(3, CAROL, e.BUY, 200, 4, offset_kind=e.OFFSET_TICKS, offset=-2, ref=e.PEG_ASK)
    both(peg._replace(pegs=True))
    both(state(e.INSTRUMENT_PRE_OPEN))
    both(limit(4, BOB, e.BUY, 104, 3))
    both(Request(e.CANCEL, 1, ALICE, 1))
    both(state(e.INSTRUMENT_CLOSED))
    both(state(e.INSTRUMENT_OPEN))
    assert [3, 4] == [event.order_id for event in both(limit(5, ALICE, e.SELL, 104, 6))]
