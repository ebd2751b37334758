"""The rules of the spot exchange, one small table each: what is said, what comes back, what it costs."""

from collections.abc import Callable

import pytest

from tests.naive.exchange import AMOUNT_LIMIT, E8, Code, InstrumentSpec, NaiveExchange, Side, Stp, Tif

BUY, SELL = Side.BUY, Side.SELL
USD, BTC = 1, 2
INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)
ACCEPTED = Code.ACCEPTED


def exchange_of_three(maker_rate_e8: int = 0, taker_rate_e8: int = 0) -> NaiveExchange:
    """Accounts 1 to 3 with 100,000 USD and 1,000 BTC atoms each; a lot is 10 BTC atoms, K is 2 USD atoms."""
    spec = InstrumentSpec("BTCUSD", BTC, USD, 2 * E8 // 10, 10, maker_rate_e8, taker_rate_e8)
    exchange = NaiveExchange(["USD", "BTC"], [spec], 3)
    for account in (1, 2, 3):
        assert exchange.deposit(account, USD, 100_000) == (ACCEPTED, 0, 0)
        assert exchange.deposit(account, BTC, 1_000) == (ACCEPTED, 0, 0)
    return exchange


def wallet(exchange: NaiveExchange, account: int, asset: int) -> tuple[int, int]:
    return exchange.free[account, asset], exchange.locked[account, asset]


def fills(exchange: NaiveExchange) -> list[tuple[int, int, int, int]]:
    """(taker, maker, price, lots) of every fill."""
    return [(taker, maker, price, lots) for _, _, taker, maker, price, lots in exchange.fills]


@pytest.fixture
def exchange() -> NaiveExchange:
    return exchange_of_three()


# ------------------------------------------------------------------------------------------------------------ refusals

Act = Callable[[NaiveExchange], tuple[int, int, int]]


def nothing(exchange: NaiveExchange) -> None:
    pass


def frozen_1(exchange: NaiveExchange) -> None:
    exchange.freeze(1)


def halted(exchange: NaiveExchange) -> None:
    exchange.halt(1)


def bid_1(exchange: NaiveExchange) -> None:
    """Order 1: account 1 bids 100 for 5 lots, of which 2 trade."""
    exchange.limit(1, 1, 1, BUY, 100, 5)
    exchange.limit(2, 2, 1, SELL, 100, 2)


def hold_1(exchange: NaiveExchange) -> None:
    exchange.withdrawal_hold(1, 1, USD, 500)


def bid_1_then_halted(exchange: NaiveExchange) -> None:
    bid_1(exchange)
    halted(exchange)


def hold_1_then_released(exchange: NaiveExchange) -> None:
    hold_1(exchange)
    exchange.release_hold(1, 1)


def frozen_1_and_halted(exchange: NaiveExchange) -> None:
    frozen_1(exchange)
    halted(exchange)


def full(exchange: NaiveExchange) -> None:
    """USD net deposits one atom below the limit."""
    exchange.deposit(3, USD, AMOUNT_LIMIT - 1 - exchange.net_deposits[USD])


def lots_of_value(limit: int) -> int:
    """Most lots at 1,000,000 ticks whose value is below the limit."""
    return (limit - 1) // (1_000_000 * 2)


REFUSALS: dict[str, tuple[Callable[[NaiveExchange], None], Act, Code]] = {
    # 1, 2, 3: the field is not in the tables
    "limit of account 0": (nothing, lambda x: x.limit(9, 0, 1, BUY, 1, 1), Code.UNKNOWN_ACCOUNT),
    "limit of account 4 of 3": (nothing, lambda x: x.limit(9, 4, 1, BUY, 1, 1), Code.UNKNOWN_ACCOUNT),
    "limit on instrument 2 of 1": (nothing, lambda x: x.limit(9, 1, 2, BUY, 1, 1), Code.UNKNOWN_INSTRUMENT),
    "limit, account before all else": (nothing, lambda x: x.limit(9, 4, 2, BUY, 0, 0), Code.UNKNOWN_ACCOUNT),
    "limit, instrument before price": (nothing, lambda x: x.limit(9, 1, 2, BUY, 0, 0), Code.UNKNOWN_INSTRUMENT),
    "market, unknown account": (nothing, lambda x: x.market_by_quantity(9, 4, 1, BUY, 1, 1), Code.UNKNOWN_ACCOUNT),
    "amount, unknown instrument": (nothing, lambda x: x.market_by_amount(9, 1, 0, SELL, 1, 1), Code.UNKNOWN_INSTRUMENT),
    "cancel, unknown account": (bid_1, lambda x: x.cancel(1, 9, 1), Code.UNKNOWN_ACCOUNT),
    "cancel, unknown instrument": (bid_1, lambda x: x.cancel(1, 1, 9), Code.UNKNOWN_INSTRUMENT),
    "cancel all of nobody anywhere": (nothing, lambda x: x.cancel_all(0, 0), Code.UNKNOWN_ACCOUNT),
    "cancel all, unknown account": (nothing, lambda x: x.cancel_all(4, 0), Code.UNKNOWN_ACCOUNT),
    "cancel all, unknown instrument": (nothing, lambda x: x.cancel_all(0, 2), Code.UNKNOWN_INSTRUMENT),
    "amend, unknown account": (bid_1, lambda x: x.amend(1, 9, 1, 1, 9), Code.UNKNOWN_ACCOUNT),
    "amend, unknown instrument": (bid_1, lambda x: x.amend(1, 1, 9, 1, 9), Code.UNKNOWN_INSTRUMENT),
    "deposit, unknown account": (nothing, lambda x: x.deposit(4, 9, 0), Code.UNKNOWN_ACCOUNT),
    "deposit, unknown asset": (nothing, lambda x: x.deposit(1, 3, 0), Code.UNKNOWN_ASSET),
    "hold, unknown asset": (nothing, lambda x: x.withdrawal_hold(9, 1, 0, 0), Code.UNKNOWN_ASSET),
    "settle, unknown account": (hold_1, lambda x: x.settle_hold(1, 4), Code.UNKNOWN_ACCOUNT),
    "release, unknown account": (hold_1, lambda x: x.release_hold(1, 0), Code.UNKNOWN_ACCOUNT),
    "fees, unknown instrument": (nothing, lambda x: x.set_fees(2, E8, -1), Code.UNKNOWN_INSTRUMENT),
    "freeze, unknown account": (nothing, lambda x: x.freeze(4), Code.UNKNOWN_ACCOUNT),
    "unfreeze, unknown account": (nothing, lambda x: x.unfreeze(0), Code.UNKNOWN_ACCOUNT),
    "halt, unknown instrument": (nothing, lambda x: x.halt(0), Code.UNKNOWN_INSTRUMENT),
    "resume, unknown instrument": (nothing, lambda x: x.resume(2), Code.UNKNOWN_INSTRUMENT),
    # 4, 5
    "limit at 0": (nothing, lambda x: x.limit(9, 1, 1, BUY, 0, 0), Code.BAD_PRICE),
    "limit at the lowest number": (nothing, lambda x: x.limit(9, 1, 1, BUY, INT64_MIN, 1), Code.BAD_PRICE),
    "market at -1": (nothing, lambda x: x.market_by_quantity(9, 1, 1, BUY, -1, 1), Code.BAD_PRICE),
    "amount at 0": (nothing, lambda x: x.market_by_amount(9, 1, 1, SELL, 0, 1), Code.BAD_PRICE),
    "amend to price 0, whatever its id": (nothing, lambda x: x.amend(7, 1, 1, 0, 1), Code.BAD_PRICE),
    "limit of 0": (nothing, lambda x: x.limit(9, 1, 1, BUY, INT64_MAX, 0), Code.BAD_QUANTITY),
    "amount of -1": (nothing, lambda x: x.market_by_amount(9, 1, 1, BUY, 1, -1), Code.BAD_QUANTITY),
    "amend to 0": (bid_1, lambda x: x.amend(1, 1, 1, 100, 0), Code.BAD_QUANTITY),
    "deposit of 0": (nothing, lambda x: x.deposit(1, USD, 0), Code.BAD_QUANTITY),
    "hold of -1": (frozen_1, lambda x: x.withdrawal_hold(9, 1, USD, -1), Code.BAD_QUANTITY),
    # 6
    "negative taker": (nothing, lambda x: x.set_fees(1, 0, -1), Code.BAD_FEE),
    "taker of 100 %": (nothing, lambda x: x.set_fees(1, 0, E8), Code.BAD_FEE),
    "maker of 100 %": (nothing, lambda x: x.set_fees(1, E8, 0), Code.BAD_FEE),
    "rebate beyond the taker's": (nothing, lambda x: x.set_fees(1, -11, 10), Code.BAD_FEE),
    "fees whose sum wraps": (nothing, lambda x: x.set_fees(1, INT64_MIN, E8 - 1), Code.BAD_FEE),
    # 7
    "value of 2^62": (nothing, lambda x: x.limit(9, 1, 1, BUY, 1 << 30, 1 << 31), Code.RANGE),
    "value that wraps to 0": (nothing, lambda x: x.limit(9, 1, 1, BUY, 1 << 32, 1 << 31), Code.RANGE),
    "value one lot too many": (
        nothing,
        lambda x: x.limit(9, 1, 1, BUY, 1_000_000, lots_of_value(AMOUNT_LIMIT) + 1),
        Code.RANGE,
    ),
    "value just below": (
        nothing,
        lambda x: x.limit(9, 1, 1, BUY, 1_000_000, lots_of_value(AMOUNT_LIMIT)),
        Code.INSUFFICIENT_FUNDS,
    ),
    "lots of 2^62 atoms": (nothing, lambda x: x.limit(9, 1, 1, BUY, 1, -(-AMOUNT_LIMIT // 10)), Code.RANGE),
    "lots just below": (nothing, lambda x: x.limit(9, 1, 1, SELL, 1, AMOUNT_LIMIT // 10), Code.INSUFFICIENT_FUNDS),
    "amount of 2^62": (nothing, lambda x: x.market_by_amount(9, 1, 1, BUY, 1, AMOUNT_LIMIT), Code.RANGE),
    "amount just below, at any price": (
        nothing,
        lambda x: x.market_by_amount(9, 1, 1, BUY, INT64_MAX, AMOUNT_LIMIT - 1),
        Code.INSUFFICIENT_FUNDS,
    ),
    "seller's hold of 2^62": (
        nothing,
        lambda x: x.market_by_amount(9, 1, 1, SELL, 1, -(-AMOUNT_LIMIT // 10) * 2),
        Code.RANGE,
    ),
    "seller's hold just below": (
        nothing,
        lambda x: x.market_by_amount(9, 1, 1, SELL, 1, -(-AMOUNT_LIMIT // 10) * 2 - 1),
        Code.INSUFFICIENT_FUNDS,
    ),
    "hold of 2^62": (frozen_1, lambda x: x.withdrawal_hold(9, 1, USD, AMOUNT_LIMIT), Code.RANGE),
    "net deposits would reach 2^62": (full, lambda x: x.deposit(1, USD, 1), Code.RANGE),
    "amend beyond range, whatever its id": (nothing, lambda x: x.amend(7, 1, 1, 1 << 31, 1 << 31), Code.RANGE),
    # 8, 9
    "limit of the frozen": (frozen_1, lambda x: x.limit(9, 1, 1, BUY, 100, 1), Code.ACCOUNT_FROZEN),
    "market of the frozen": (frozen_1, lambda x: x.market_by_quantity(9, 1, 1, BUY, 100, 1), Code.ACCOUNT_FROZEN),
    "amount of the frozen": (frozen_1, lambda x: x.market_by_amount(9, 1, 1, BUY, 100, 1), Code.ACCOUNT_FROZEN),
    "amend of the frozen, whatever its id": (frozen_1, lambda x: x.amend(9, 1, 1, 100, 1), Code.ACCOUNT_FROZEN),
    "hold of the frozen": (frozen_1, lambda x: x.withdrawal_hold(9, 1, USD, INT64_MAX >> 2), Code.ACCOUNT_FROZEN),
    "frozen and halted": (
        frozen_1_and_halted,
        lambda x: x.limit(9, 1, 1, BUY, 100, 1),
        Code.ACCOUNT_FROZEN,
    ),
    "limit on the halted": (halted, lambda x: x.limit(9, 1, 1, BUY, 100, 10**6), Code.INSTRUMENT_HALTED),
    "amend to less on the halted": (
        bid_1_then_halted,
        lambda x: x.amend(1, 1, 1, 100, 4),
        Code.INSTRUMENT_HALTED,
    ),
    # 10, 11
    "cancel of a finished order": (bid_1, lambda x: x.cancel(2, 2, 1), Code.UNKNOWN_ORDER),
    "cancel of someone else's": (bid_1, lambda x: x.cancel(1, 2, 1), Code.UNKNOWN_ORDER),
    "cancel of a hold": (hold_1, lambda x: x.cancel(1, 1, 1), Code.UNKNOWN_ORDER),
    "amend of what never was": (nothing, lambda x: x.amend(7, 1, 1, 100, 1), Code.UNKNOWN_ORDER),
    "settle of an order": (bid_1, lambda x: x.settle_hold(1, 1), Code.UNKNOWN_HOLD),
    "settle of someone else's": (hold_1, lambda x: x.settle_hold(1, 2), Code.UNKNOWN_HOLD),
    "release of what is released": (
        hold_1_then_released,
        lambda x: x.release_hold(1, 1),
        Code.UNKNOWN_HOLD,
    ),
    # 12, 13, 14: bid 1 has a total of 5 and has traded 2
    "amend to what has traded": (bid_1, lambda x: x.amend(1, 1, 1, 100, 2), Code.QUANTITY_TOO_LOW),
    "amend to the same": (bid_1, lambda x: x.amend(1, 1, 1, 100, 5), Code.NO_CHANGE),
    "amend beyond the money": (bid_1, lambda x: x.amend(1, 1, 1, 100_000, 5), Code.INSUFFICIENT_FUNDS),
    "bid of one lot too many": (nothing, lambda x: x.limit(9, 1, 1, BUY, 100, 501), Code.INSUFFICIENT_FUNDS),
    "offer of one lot too many": (nothing, lambda x: x.limit(9, 1, 1, SELL, 100, 101), Code.INSUFFICIENT_FUNDS),
    "amount of one atom too many": (
        nothing,
        lambda x: x.market_by_amount(9, 1, 1, BUY, 1, 100_001),
        Code.INSUFFICIENT_FUNDS,
    ),
    "hold of one atom too many": (nothing, lambda x: x.withdrawal_hold(9, 1, USD, 100_001), Code.INSUFFICIENT_FUNDS),
    # 15, 16, after the funds
    "post-only onto a bid": (
        bid_1,
        lambda x: x.limit(9, 2, 1, SELL, 100, 1, Tif.POST_ONLY),
        Code.POST_ONLY_WOULD_TAKE,
    ),
    "post-only onto one's own bid": (
        bid_1,
        lambda x: x.limit(9, 1, 1, SELL, 100, 1, Tif.POST_ONLY, Stp.EXPIRE_MAKER),
        Code.POST_ONLY_WOULD_TAKE,
    ),
    "post-only without money": (
        bid_1,
        lambda x: x.limit(9, 2, 1, SELL, 100, 999, Tif.POST_ONLY),
        Code.INSUFFICIENT_FUNDS,
    ),
    "fill or kill, one lot too many": (
        bid_1,
        lambda x: x.limit(9, 2, 1, SELL, 100, 4, Tif.FOK),
        Code.FOK_UNFILLED,
    ),
    "fill or kill at a worse price": (bid_1, lambda x: x.limit(9, 2, 1, SELL, 101, 1, Tif.FOK), Code.FOK_UNFILLED),
    "fill or kill without money": (bid_1, lambda x: x.limit(9, 2, 1, SELL, 100, 999, Tif.FOK), Code.INSUFFICIENT_FUNDS),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_message_gets_first_reason_and_changes_nothing(exchange: NaiveExchange, case: str) -> None:
    prepare, act, code = REFUSALS[case]
    prepare(exchange)
    before = exchange.results()
    fills_before = list(exchange.fills)
    assert (code, 0, 0) == act(exchange)
    after = exchange.results()
    told = {"messages", "rejected", "verdicts", "verdict_hash"}
    assert {key: before[key] for key in before if key not in told} == {
        key: after[key] for key in after if key not in told
    }
    assert before["messages"] + 1 == after["messages"]
    assert fills_before == exchange.fills
    assert not exchange.stp_events
    exchange.check()


def test_every_refusal_code_has_a_case() -> None:
    assert set(Code) - {ACCEPTED} == {code for _, _, code in REFUSALS.values()}


def test_cancels_deposits_holds_and_fees_pass_when_frozen_and_halted(exchange: NaiveExchange) -> None:
    bid_1(exchange)
    exchange.withdrawal_hold(3, 1, USD, 500)
    exchange.withdrawal_hold(4, 1, USD, 300)
    exchange.freeze(1)
    exchange.halt(1)
    assert exchange.deposit(1, USD, 1) == (ACCEPTED, 0, 0)
    assert exchange.settle_hold(3, 1) == (ACCEPTED, 0, 0)
    assert exchange.release_hold(4, 1) == (ACCEPTED, 0, 0)
    assert exchange.set_fees(1, 5, 5) == (ACCEPTED, 0, 0)
    assert exchange.cancel(1, 1, 1) == (ACCEPTED, 0, 3)
    assert exchange.cancel_all(1, 1) == (ACCEPTED, 0, 0)


def test_status_set_twice_is_accepted(exchange: NaiveExchange) -> None:
    for act in (exchange.unfreeze, exchange.freeze, exchange.freeze, exchange.resume, exchange.halt, exchange.halt):
        assert act(1) == (ACCEPTED, 0, 0)


def test_frozen_accounts_order_still_trades_as_maker(exchange: NaiveExchange) -> None:
    bid_1(exchange)
    exchange.freeze(1)
    assert exchange.limit(3, 2, 1, SELL, 100, 3) == (ACCEPTED, 3, 0)


def test_fees_at_the_bounds_are_accepted(exchange: NaiveExchange) -> None:
    for maker, taker in ((E8 - 1, E8 - 1), (-(E8 - 1), E8 - 1), (0, 0), (-10, 10)):
        assert exchange.set_fees(1, maker, taker) == (ACCEPTED, 0, 0)


# --------------------------------------------------------------------------------------------------------- money, holds


def test_bid_holds_quote_and_offer_holds_base_and_cancel_frees_what_is_left(exchange: NaiveExchange) -> None:
    assert exchange.limit(1, 1, 1, BUY, 100, 500) == (ACCEPTED, 0, 500)
    assert wallet(exchange, 1, USD) == (0, 100_000)
    assert exchange.limit(2, 2, 1, SELL, 100, 100) == (ACCEPTED, 100, 0)
    assert exchange.cancel(1, 1, 1) == (ACCEPTED, 0, 400)
    assert wallet(exchange, 1, USD) == (80_000, 0)
    assert wallet(exchange, 1, BTC) == (2_000, 0)
    assert wallet(exchange, 2, USD) == (120_000, 0)
    assert wallet(exchange, 2, BTC) == (0, 0)


def test_money_freed_by_a_cancel_pays_for_the_next_order(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, BUY, 100, 500)
    assert exchange.limit(2, 1, 1, BUY, 100, 500).code == Code.INSUFFICIENT_FUNDS
    exchange.cancel(1, 1, 1)
    assert exchange.limit(3, 1, 1, BUY, 100, 500) == (ACCEPTED, 0, 500)


def test_withdrawal_hold_moves_money_settle_takes_it_out_release_gives_it_back(exchange: NaiveExchange) -> None:
    assert exchange.withdrawal_hold(1, 1, USD, 100_000) == (ACCEPTED, 0, 0)
    assert wallet(exchange, 1, USD) == (0, 100_000)
    assert exchange.release_hold(1, 1) == (ACCEPTED, 0, 0)
    assert wallet(exchange, 1, USD) == (100_000, 0)
    exchange.withdrawal_hold(2, 1, USD, 40_000)
    assert exchange.settle_hold(2, 1) == (ACCEPTED, 0, 0)
    assert wallet(exchange, 1, USD) == (60_000, 0)
    assert exchange.net_deposits[USD] == 260_000
    exchange.check()


@pytest.mark.parametrize(
    ("account", "instrument", "gone"), [(1, 0, {1, 2}), (1, 1, {1, 2}), (0, 1, {1, 2, 3}), (3, 1, set())]
)
def test_cancel_all_removes_the_accounts_orders_or_everyones(
    exchange: NaiveExchange, account: int, instrument: int, gone: set[int]
) -> None:
    exchange.limit(1, 1, 1, BUY, 90, 1)
    exchange.limit(2, 1, 1, SELL, 110, 1)
    exchange.limit(3, 2, 1, BUY, 91, 1)
    assert exchange.cancel_all(account, instrument) == (ACCEPTED, 0, len(gone))
    assert {1, 2, 3} - gone == set(exchange.orders)
    assert len(gone) == exchange.cancels
    exchange.check()


# ------------------------------------------------------------------------------------------------------------- matching


def test_better_price_then_older_order_trades_first_at_the_makers_price(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, SELL, 102, 4)
    exchange.limit(2, 2, 1, SELL, 101, 4)
    exchange.limit(3, 1, 1, SELL, 101, 4)
    assert exchange.limit(4, 3, 1, BUY, 102, 10) == (ACCEPTED, 10, 0)
    assert fills(exchange) == [(4, 2, 101, 4), (4, 3, 101, 4), (4, 1, 102, 2)]
    assert wallet(exchange, 3, USD) == (100_000 - 2 * (8 * 101 + 2 * 102), 0)


@pytest.mark.parametrize(
    ("tif", "left"), [(Tif.GTC, 6), (Tif.IOC, 0)], ids=["rest of GTC rests", "rest of IOC is dropped"]
)
def test_rest_after_matching(exchange: NaiveExchange, tif: Tif, left: int) -> None:
    exchange.limit(1, 1, 1, SELL, 100, 4)
    assert exchange.limit(2, 2, 1, BUY, 101, 10, tif) == (ACCEPTED, 4, left)
    assert wallet(exchange, 2, USD) == (100_000 - 4 * 100 * 2 - left * 101 * 2, left * 101 * 2)
    exchange.check()


def test_post_only_that_does_not_cross_rests(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, SELL, 100, 4)
    assert exchange.limit(2, 2, 1, BUY, 99, 1, Tif.POST_ONLY) == (ACCEPTED, 0, 1)


def test_ioc_and_market_that_find_nothing_are_accepted(exchange: NaiveExchange) -> None:
    assert exchange.limit(1, 1, 1, BUY, 100, 1, Tif.IOC) == (ACCEPTED, 0, 0)
    assert exchange.market_by_quantity(2, 1, 1, BUY, 100, 1) == (ACCEPTED, 0, 0)
    assert exchange.market_by_amount(3, 1, 1, SELL, 100, 1) == (ACCEPTED, 0, 0)
    assert wallet(exchange, 1, USD) == (100_000, 0)


def test_market_by_quantity_stops_at_its_protection_price(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, SELL, 100, 4)
    exchange.limit(2, 1, 1, SELL, 102, 4)
    assert exchange.market_by_quantity(3, 2, 1, BUY, 101, 8) == (ACCEPTED, 4, 0)
    assert wallet(exchange, 2, USD) == (100_000 - 4 * 100 * 2, 0)


def test_market_buy_by_amount_spends_what_fits_in_whole_lots(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, SELL, 100, 4)  # a lot costs 200
    exchange.limit(2, 1, 1, SELL, 150, 4)  # a lot costs 300
    assert exchange.market_by_amount(3, 2, 1, BUY, 200, 1_399) == (ACCEPTED, 5, 0)
    assert fills(exchange) == [(3, 1, 100, 4), (3, 2, 150, 1)]
    assert wallet(exchange, 2, USD) == (100_000 - 800 - 300, 0)


def test_market_buy_by_amount_that_pays_no_lot_jumps_nobody(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, SELL, 100, 4)
    assert exchange.market_by_amount(2, 2, 1, BUY, 200, 199) == (ACCEPTED, 0, 0)


def test_market_sell_by_amount_holds_the_cap_and_sells_no_more_than_the_amount(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, BUY, 100, 4)
    exchange.limit(2, 1, 1, BUY, 60, 50)
    # cap = floor(2,000 / (50 * 2)) = 20 lots; 4 of them bring 800, then 120 a lot: floor(1,200 / 120) = 10
    assert exchange.market_by_amount(3, 2, 1, SELL, 50, 2_000) == (ACCEPTED, 14, 0)
    assert wallet(exchange, 2, USD) == (102_000, 0)
    assert wallet(exchange, 2, BTC) == (860, 0)


def test_market_sell_by_amount_needs_base_for_the_cap_although_it_might_sell_less(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, BUY, 100, 4)
    assert exchange.market_by_amount(2, 2, 1, SELL, 1, 202).code == Code.INSUFFICIENT_FUNDS
    assert exchange.market_by_amount(3, 2, 1, SELL, 1, 201) == (ACCEPTED, 1, 0)


# ---------------------------------------------------------------------------------------------- self-trade prevention


def book_with_own_order(exchange: NaiveExchange) -> None:
    """Offers of 4 lots each, best first: order 1 of account 2, order 2 of account 1, order 3 of account 2."""
    exchange.limit(1, 2, 1, SELL, 100, 4)
    exchange.limit(2, 1, 1, SELL, 101, 4)
    exchange.limit(3, 2, 1, SELL, 102, 4)


@pytest.mark.parametrize(
    ("stp", "verdict", "expected_fills", "events", "resting"),
    [
        (Stp.NONE, (ACCEPTED, 10, 0), [(4, 1, 100, 4), (4, 2, 101, 4), (4, 3, 102, 2)], [], {3: 2}),
        (Stp.EXPIRE_TAKER, (ACCEPTED, 4, 0), [(4, 1, 100, 4)], [], {2: 4, 3: 4}),
        (Stp.EXPIRE_MAKER, (ACCEPTED, 8, 2), [(4, 1, 100, 4), (4, 3, 102, 4)], [(2, 4, 1)], {4: 2}),
        (Stp.EXPIRE_BOTH, (ACCEPTED, 4, 0), [(4, 1, 100, 4)], [(2, 4, 1)], {3: 4}),
        (Stp.DECREMENT, (ACCEPTED, 6, 0), [(4, 1, 100, 4), (4, 3, 102, 2)], [(2, 4, 1)], {3: 2}),
    ],
)
def test_taker_that_meets_its_own_order(
    exchange: NaiveExchange,
    stp: Stp,
    verdict: tuple[int, int, int],
    expected_fills: list[tuple[int, int, int, int]],
    events: list[tuple[int, int, int]],
    resting: dict[int, int],
) -> None:
    book_with_own_order(exchange)
    assert verdict == exchange.limit(4, 1, 1, BUY, 102, 10, Tif.GTC, stp)
    assert expected_fills == fills(exchange)
    assert events == [(maker, lost, left) for _, maker, lost, left in exchange.stp_events]
    assert resting == {order.id: order.left for order in exchange.orders.values()}
    assert sum(lost for _, lost, _ in events) == exchange.prevented
    exchange.check()


def test_decrement_leaves_the_larger_maker_with_the_rest(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, SELL, 100, 10)
    assert exchange.limit(2, 1, 1, BUY, 100, 4, Tif.GTC, Stp.DECREMENT) == (ACCEPTED, 0, 0)
    assert exchange.orders[1].left == 6
    assert exchange.stp_events[0][1:] == [1, 4, 0]
    assert exchange.amend(1, 1, 1, 100, 4).code == Code.QUANTITY_TOO_LOW
    assert exchange.amend(1, 1, 1, 100, 5) == (ACCEPTED, 0, 1)
    exchange.check()


@pytest.mark.parametrize(("side", "left"), [(BUY, 4), (SELL, 4)])
def test_decrement_of_an_order_by_amount_takes_the_value_off_the_amount(
    exchange: NaiveExchange, side: Side, left: int
) -> None:
    exchange.limit(1, 1, 1, 1 - side, 100, 2)
    exchange.limit(2, 2, 1, 1 - side, 100, 10)
    # 1,200 are 6 lots at 100: two are prevented, four trade.
    assert exchange.market_by_amount(3, 1, 1, side, 100, 1_200, Stp.DECREMENT) == (ACCEPTED, left, 0)
    exchange.check()


def test_makers_own_mode_does_not_matter(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, SELL, 100, 4, Tif.GTC, Stp.EXPIRE_BOTH)
    assert exchange.limit(2, 1, 1, BUY, 100, 4) == (ACCEPTED, 4, 0)


# --------------------------------------------------------------------------------------------------------- fill or kill


@pytest.mark.parametrize(
    ("stp", "lots", "verdict"),
    [
        (Stp.NONE, 12, (ACCEPTED, 12, 0)),
        (Stp.NONE, 13, (Code.FOK_UNFILLED, 0, 0)),
        (Stp.EXPIRE_MAKER, 8, (ACCEPTED, 8, 0)),
        (Stp.EXPIRE_MAKER, 9, (Code.FOK_UNFILLED, 0, 0)),
        (Stp.EXPIRE_TAKER, 4, (ACCEPTED, 4, 0)),
        (Stp.EXPIRE_TAKER, 5, (Code.FOK_UNFILLED, 0, 0)),
        (Stp.EXPIRE_BOTH, 4, (ACCEPTED, 4, 0)),
        (Stp.EXPIRE_BOTH, 5, (Code.FOK_UNFILLED, 0, 0)),
        (Stp.DECREMENT, 4, (ACCEPTED, 4, 0)),
        (Stp.DECREMENT, 5, (Code.FOK_UNFILLED, 0, 0)),
    ],
)
def test_fill_or_kill_is_decided_before_anything_happens(
    exchange: NaiveExchange, stp: Stp, lots: int, verdict: tuple[int, int, int]
) -> None:
    book_with_own_order(exchange)
    assert verdict == exchange.limit(4, 1, 1, BUY, 102, lots, Tif.FOK, stp)
    if verdict[0] != ACCEPTED:
        assert {1: 4, 2: 4, 3: 4} == {order.id: order.left for order in exchange.orders.values()}
    exchange.check()


def test_fill_or_kill_with_expire_maker_takes_off_the_own_orders_on_its_way(exchange: NaiveExchange) -> None:
    book_with_own_order(exchange)
    exchange.limit(4, 1, 1, BUY, 102, 8, Tif.FOK, Stp.EXPIRE_MAKER)
    assert not exchange.orders
    assert exchange.prevented == 4


# ---------------------------------------------------------------------------------------------------------------- amend


def amended_bids(exchange: NaiveExchange) -> list[int]:
    return [order.id for order in exchange.markets[1].by_priority(BUY)]


@pytest.mark.parametrize(
    ("price", "total", "queue", "locked"),
    [
        (100, 4, [1, 2, 3], 800),  # less at the same price: place kept
        (100, 6, [2, 1, 3], 1_200),  # more: to the back
        (101, 5, [1, 2, 3], 1_010),  # better price
        (99, 5, [2, 1, 3], 990),  # worse price, still before 98
        (98, 2, [2, 3, 1], 392),  # the back of another level
    ],
)
def test_amend_keeps_its_place_only_at_the_same_price_with_less(
    exchange: NaiveExchange, price: int, total: int, queue: list[int], locked: int
) -> None:
    exchange.limit(1, 1, 1, BUY, 100, 5)
    exchange.limit(2, 2, 1, BUY, 100, 5)
    exchange.limit(3, 2, 1, BUY, 98, 5)
    assert exchange.amend(1, 1, 1, price, total) == (ACCEPTED, 0, total)
    assert queue == amended_bids(exchange)
    assert (100_000 - locked, locked) == wallet(exchange, 1, USD)


def test_amend_counts_what_has_traded_toward_the_new_total(exchange: NaiveExchange) -> None:
    bid_1(exchange)
    assert exchange.amend(1, 1, 1, 100, 3) == (ACCEPTED, 0, 1)
    assert exchange.amend(1, 1, 1, 90, 10) == (ACCEPTED, 0, 8)
    assert wallet(exchange, 1, USD) == (100_000 - 400 - 8 * 90 * 2, 8 * 90 * 2)


def test_amend_may_use_the_old_hold_and_all_that_is_free(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, BUY, 100, 5)
    assert exchange.amend(1, 1, 1, 100, 501).code == Code.INSUFFICIENT_FUNDS
    assert exchange.amend(1, 1, 1, 100, 500) == (ACCEPTED, 0, 500)
    assert exchange.amend(1, 1, 1, 200, 250) == (ACCEPTED, 0, 250)
    assert wallet(exchange, 1, USD) == (0, 100_000)


def test_amend_that_crosses_takes_with_its_stored_mode_and_rests_the_rest(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, BUY, 90, 5, Tif.GTC, Stp.DECREMENT)
    exchange.limit(2, 1, 1, SELL, 100, 1)
    exchange.limit(3, 2, 1, SELL, 100, 2)
    assert exchange.amend(1, 1, 1, 100, 6) == (ACCEPTED, 2, 3)
    assert exchange.orders[1].prevented == 1
    assert exchange.amend(1, 1, 1, 100, 3).code == Code.QUANTITY_TOO_LOW
    exchange.check()


def test_amended_taker_that_expires_is_gone(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, BUY, 90, 5, Tif.GTC, Stp.EXPIRE_TAKER)
    exchange.limit(2, 1, 1, SELL, 100, 1)
    assert exchange.amend(1, 1, 1, 100, 5) == (ACCEPTED, 0, 0)
    assert set(exchange.orders) == {2}
    assert wallet(exchange, 1, USD) == (100_000, 0)


def test_amend_of_post_only_is_refused_when_its_new_price_would_take(exchange: NaiveExchange) -> None:
    exchange.limit(1, 1, 1, BUY, 90, 5, Tif.POST_ONLY)
    exchange.limit(2, 2, 1, SELL, 100, 1)
    assert exchange.amend(1, 1, 1, 100, 5).code == Code.POST_ONLY_WOULD_TAKE
    assert exchange.orders[1].price == 90
    assert exchange.amend(1, 1, 1, 99, 5) == (ACCEPTED, 0, 5)
    assert exchange.amend(1, 1, 1, 99, 7) == (ACCEPTED, 0, 7)


# ----------------------------------------------------------------------------------------------------------------- fees


@pytest.mark.parametrize(
    ("maker_rate", "taker_rate", "taker_side", "fee_usd", "fee_btc"),
    [
        # 5 lots at 101: V = 1,010 USD atoms, B = 50 BTC atoms; charges round up
        (0, 0, BUY, 0, 0),
        (1, 1, BUY, 1, 1),
        (1_000_000, 2_000_000, BUY, 11, 1),  # maker receives USD: ceil(10.1); taker BTC: ceil(1.0)
        (1_000_000, 2_000_000, SELL, 21, 1),  # taker receives USD: ceil(20.2); maker BTC: ceil(0.5)
        (-1_000_000, 2_000_000, SELL, 21 - 10, 0),  # maker buys: rebate floor(10.1) in USD
        (-4_000_000, 10_000_000, BUY, 0, 5 - 2),  # maker sells: rebate floor(2.0) in BTC
        (-2_000_000, 2_000_000, SELL, 21 - 20, 0),  # floor(20.2) below the taker's 21
        (-1, 1, SELL, 1, 0),  # floor of a ten-millionth is nothing
    ],
)
def test_fees_and_rebates_of_one_fill(
    maker_rate: int, taker_rate: int, taker_side: Side, fee_usd: int, fee_btc: int
) -> None:
    exchange = exchange_of_three(maker_rate, taker_rate)
    exchange.limit(1, 1, 1, 1 - taker_side, 101, 5)
    exchange.limit(2, 2, 1, taker_side, 101, 5)
    assert {USD: fee_usd, BTC: fee_btc} == exchange.fee
    exchange.check()


def test_rebate_never_exceeds_the_takers_fee_of_the_fill() -> None:
    exchange = exchange_of_three()
    # Rates as configuration never lets them be; the cap must hold all the same.
    exchange.markets[1].maker_rate_e8 = -5_000_000
    exchange.markets[1].taker_rate_e8 = 1_000_000
    exchange.limit(1, 1, 1, BUY, 100, 5)
    exchange.limit(2, 2, 1, SELL, 100, 5)
    assert exchange.fee[USD] == 0
    assert wallet(exchange, 1, USD) == (100_000 - 1_000 + 10, 0)


def test_rates_are_those_of_the_moment_of_the_fill() -> None:
    exchange = exchange_of_three()
    exchange.limit(1, 1, 1, BUY, 100, 5)
    exchange.set_fees(1, 10_000_000, 20_000_000)
    exchange.limit(2, 2, 1, SELL, 100, 5)
    assert exchange.fee == {USD: 200, BTC: 5}


def test_account_that_trades_with_itself_pays_both_fees() -> None:
    exchange = exchange_of_three(10_000_000, 20_000_000)
    exchange.limit(1, 1, 1, BUY, 100, 5)
    assert exchange.limit(2, 1, 1, SELL, 100, 5) == (ACCEPTED, 5, 0)
    assert wallet(exchange, 1, USD) == (100_000 - 200, 0)
    assert wallet(exchange, 1, BTC) == (1_000 - 5, 0)


# --------------------------------------------------------------------------------------------------------------- oracle


def test_multiplier_that_is_no_whole_number_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="BTCUSD: tick_e8"):
        NaiveExchange(["USD", "BTC"], [InstrumentSpec("BTCUSD", BTC, USD, 3, 10, 0, 0)], 1)


def test_given_multiplier_serves_assets_of_other_scales() -> None:
    exchange = NaiveExchange(["SHIB", "USD"], [InstrumentSpec("SHIBUSD", 1, 2, 10, 1, 0, 0, k=7)], 1)
    exchange.deposit(1, 2, 70)
    assert exchange.limit(1, 1, 1, BUY, 10, 1) == (ACCEPTED, 0, 1)


@pytest.mark.parametrize("what", ["free", "locked", "fee", "net_deposits"])
def test_check_finds_one_atom_astray(exchange: NaiveExchange, what: str) -> None:
    bid_1(exchange)
    exchange.check()
    amounts = getattr(exchange, what)
    amounts[next(iter(amounts))] += 1
    with pytest.raises(AssertionError, match=r"USD|locked"):
        exchange.check()
