import math

import numpy as np
import pytest

from cambist.demo import strategy
from cambist.demo.strategy import State
from protocol import build, reasons
from protocol import enums as e
from tests.demo.market import ACCOUNTS, LIVELY, MAKERS, TAKERS, Trading, new_desk

CONTROL_SEQ = 10_000
"""First number of commands of a person, after those that set the exchange up."""


@pytest.fixture(scope="module")
def traded() -> Trading:
    """A desk that has traded for two minutes."""
    trading = Trading(seed=5)
    trading.round(count=100)
    for _ in range(3000):
        trading.round()
    return trading


def test_same_seed_gives_the_same_commands_and_another_seed_others() -> None:
    first, second, third = new_desk(1), new_desk(1), new_desk(2)
    decided = [desk.decide(200, 1, 0.04) for desk in (first, second, third)]
    assert decided[0] == decided[1]
    assert decided[0] != decided[2]


def test_first_batch_quotes_every_level_of_both_sides_of_every_instrument() -> None:
    trading = Trading(seed=3)
    trading.round(count=len(trading.desk.quotes) * 2)
    assert {State.LIVE} == {quote.state for quote in trading.desk.quotes}
    assert len(LIVELY) * len(MAKERS) * 2 * strategy.LEVELS == len(trading.desk.quotes)


def test_bots_trade_every_instrument_in_every_way_and_next_to_nothing_is_refused(traded: Trading) -> None:
    sent = len(traded.intents)
    assert traded.desk.fills > sent / 20
    assert sum(traded.desk.refusals.values()) < sent / 200, traded.desk.refusals
    orders = [intent for intent in traded.intents if intent.type != e.SET_PRICES]
    assert {e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.AMEND, e.CANCEL} == {intent.type for intent in orders}
    assert {market.instrument.index for market in LIVELY} == {intent.instrument for intent in traded.intents}
    assert {*MAKERS, *TAKERS} == {intent.account for intent in orders}
    assert traded.exchange.engine.unbalanced_asset() == 0
    assert traded.exchange.trades == traded.desk.fills


def test_bots_know_what_their_accounts_have_to_the_unit(traded: Trading) -> None:
    for account, held in traded.desk.holdings.items():
        for asset, units in held.items():
            assert traded.exchange.balance(account, asset) == units


def test_inventories_stay_near_their_target(traded: Trading) -> None:
    for account, held in traded.desk.holdings.items():
        for book in traded.desk.books.values():
            asset = book.instrument.base.index
            over = book.value(held[asset] - traded.desk.targets[asset])
            assert abs(over) < 2 * strategy.INVENTORY_VALUE, (account, book.instrument.symbol)


def test_mark_and_index_of_every_instrument_come_once_a_second_near_its_price(traded: Trading) -> None:
    prices = [intent for intent in traded.intents if intent.type == e.SET_PRICES]
    assert 115 < len(prices) / len(LIVELY) < 125  # of two minutes
    last = {intent.instrument: intent for intent in prices}
    for book in traded.desk.books.values():
        for ticks in (last[book.index].price_ticks, last[book.index].qty_lots):
            assert abs(ticks / book.price - 1) < 0.01


def test_price_wanders_and_comes_back_to_its_anchor() -> None:
    desk = new_desk(seed=8)
    book = next(iter(desk.books.values()))
    book.price = book.anchor * 1.05
    desk.decide(0, 1, 1.0)
    away = []
    for _ in range(4 * 3600):
        desk.decide(0, 1, 1.0)
        away.append(abs(math.log(book.price / book.anchor)))
    assert max(away[3600:]) < 0.02
    assert max(away[3600:]) > 0.0005


def test_quotes_stand_further_from_what_a_maker_has_too_much_of() -> None:
    desk = new_desk(seed=4)
    book = next(iter(desk.books.values()))
    quote = next(q for q in desk.quotes if q.book is book and q.side == e.BUY)
    level = desk._aim(quote)
    desk.holdings[quote.account][book.instrument.base.index] += 10**13
    assert desk._aim(quote) < level


def test_takers_sell_what_they_have_too_much_of() -> None:
    desk = new_desk(seed=4)
    for account in TAKERS:
        for book in desk.books.values():
            desk.holdings[account][book.instrument.base.index] += 10**14
    sides = [intent.side for intent in (desk._take(1) for _ in range(200)) if intent is not None]
    assert sides.count(e.SELL) > 160


def test_person_who_sweeps_a_book_finds_it_quoted_again() -> None:
    trading = Trading(seed=6)
    trading.round(count=100)
    book = LIVELY[0].instrument
    sweep = build.market(account=ACCOUNTS["alice"], instrument=book.index, side=e.BUY, qty_lots=book.qty_lots("12"))
    trading.hear(trading.exchange.apply(sweep, e.SOURCE_CONTROL, CONTROL_SEQ))
    assert trading.exchange.trades == trading.desk.fills
    places = [quote for quote in trading.desk.quotes if quote.book.index == book.index and quote.side == e.SELL]
    assert any(quote.state is State.EMPTY for quote in places)
    for _ in range(10):
        trading.round()
    assert all(quote.state is not State.EMPTY for quote in places)
    for account in MAKERS:
        base = book.base.index
        assert trading.exchange.balance(account, base) == trading.desk.holdings[account][base]


def test_halted_instrument_is_left_alone_for_a_while_and_quoted_again_afterwards() -> None:
    trading = Trading(seed=7)
    book = LIVELY[1].instrument
    trading.exchange.apply(build.halt(book.index, "demo", "test"), e.SOURCE_CONTROL, CONTROL_SEQ)
    trading.round(count=100)
    assert reasons.INSTRUMENT_HALTED in trading.desk.refusals
    refused = trading.desk.refusals[reasons.INSTRUMENT_HALTED]
    for _ in range(20):
        assert all(intent.instrument != book.index for intent in trading.round())
    assert refused == trading.desk.refusals[reasons.INSTRUMENT_HALTED]
    trading.exchange.apply(build.resume(book.index, "demo", "test"), e.SOURCE_CONTROL, CONTROL_SEQ + 2)
    for _ in range(60):
        trading.round()
    places = [quote.state for quote in trading.desk.quotes if quote.book.index == book.index]
    assert places.count(State.LIVE) > 0.8 * len(places), "but for those that are just moving"


def test_orders_that_an_operator_cancels_are_sent_anew() -> None:
    trading = Trading(seed=9)
    trading.round(count=100)
    book = LIVELY[2].instrument
    outcomes = trading.exchange.apply(build.cancel_all(instrument=book.index), e.SOURCE_CONTROL, CONTROL_SEQ)
    trading.hear(outcomes)
    places = [quote for quote in trading.desk.quotes if quote.book.index == book.index]
    assert {State.EMPTY} == {quote.state for quote in places}
    trading.round(count=100)
    assert {State.LIVE} == {quote.state for quote in places}


def test_desk_that_forgets_has_no_orders_and_the_holdings_that_it_is_told() -> None:
    trading = Trading(seed=10)
    trading.round(count=100)
    trading.desk.forget({account: {1: 7} for account in (*MAKERS, *TAKERS)})
    assert {State.EMPTY} == {quote.state for quote in trading.desk.quotes}
    assert trading.desk.holdings[MAKERS[0]] == {1: 7}


def test_outcomes_of_forgotten_orders_are_ignored() -> None:
    trading = Trading(seed=11)
    trading.round(count=100)
    account, book = MAKERS[0], LIVELY[0].instrument
    trading.desk.forget(trading.desk.holdings)
    outcomes = trading.exchange.apply(build.cancel_all(account=account), e.SOURCE_BOTS, trading.source_seq)
    assert np.any(outcomes["kind"] == e.OUT_CANCELED)
    trading.hear(outcomes)
    assert {State.EMPTY} == {quote.state for quote in trading.desk.quotes}
    assert trading.exchange.balance(account, book.base.index) == trading.desk.holdings[account][book.base.index]
