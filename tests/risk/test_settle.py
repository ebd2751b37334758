"""What each settled event does to the money: fills with their fees, price improvement, prevention, amounts, bands and breakers."""

import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.instruments import Instrument
from risk import state as s
from tests.engine.oracle_more import Halt, halt_slot
from tests.risk.desk import BASE, QUOTE, WHO, Desk

pytestmark = pytest.mark.timeout(600)  # the first test may have to compile all kernels
E8 = 100_000_000


def trades(desk: Desk) -> np.ndarray:
    return desk.outcomes[desk.outcomes["kind"] == e.OUT_TRADE]


def test_buyer_with_a_better_price_gets_the_difference_back() -> None:
    desk = Desk()
    desk.fund(1, base=1_000)
    desk.fund(2, quote=1_000)
    desk.do(desk.limit(1, e.SELL, 90, 10))
    desk.do(desk.limit(2, e.BUY, 100, 10))
    assert [(900, 0), (0, 0)] == desk.money(1)
    assert [(100, 0), (1_000, 0)] == desk.money(2)


@pytest.mark.parametrize(
    ("maker", "taker", "side", "fees"),
    [
        # (maker's rate, taker's rate, taker's side) -> (taker's fee and asset, maker's fee and asset); value 990 quote, 1000 base
        (0, 0, e.BUY, ((0, 2), (0, 1))),
        (1, 1, e.BUY, ((1, 2), (1, 1))),  # any part of a unit is a unit
        (10_000_000, 20_000_000, e.BUY, ((200, 2), (99, 1))),
        (10_000_000, 20_000_000, e.SELL, ((198, 1), (100, 2))),
        (
            -10_000_000,
            20_000_000,
            e.BUY,
            ((200, 2), (-100, 2)),
        ),  # a rebate is paid out of the taker's fee, in its asset
        (-10_000_000, 20_000_000, e.SELL, ((198, 1), (-99, 1))),
        (-10_500_000, 10_500_000, e.SELL, ((104, 1), (-103, 1))),  # rounded down, the fee up
        (E8 - 1, E8 - 1, e.BUY, ((1_000, 2), (990, 1))),
    ],
)
def test_fees_are_in_the_asset_received_and_rounded_up(
    maker: int, taker: int, side: int, fees: tuple[tuple[int, int], ...]
) -> None:
    desk = Desk(maker_rate_e8=maker, taker_rate_e8=taker)
    desk.fund(1, quote=10_000, base=10_000)
    desk.fund(2, quote=10_000, base=10_000)
    desk.do(desk.limit(1, 1 - side, 99, 10))
    desk.do(desk.limit(2, side, 99, 10))
    assert list(fees) == trades(desk)[["fee_units", "fee_asset"]].tolist()
    paid = {asset: sum(fee for fee, of in fees if of == asset) for asset in (1, 2)}
    assert paid == {asset: desk.fee(asset) for asset in (1, 2)}
    total = np.array(desk.money(1)).sum(axis=1) + np.array(desk.money(2)).sum(axis=1)
    assert [20_000 - paid[1], 20_000 - paid[2]] == total.tolist()


def test_rates_are_those_of_the_moment_of_the_fill() -> None:
    desk = Desk()
    desk.fund(1, base=1_000)
    desk.fund(2, quote=1_000)
    desk.do(desk.limit(1, e.SELL, 100, 10))
    desk.do(build.set_fees(1, 1_000_000, 2_000_000, *WHO))
    desk.do(desk.limit(2, e.BUY, 100, 10))
    assert [20, 10] == trades(desk)["fee_units"].tolist()


def test_account_that_trades_with_itself_pays_both_fees() -> None:
    desk = Desk(maker_rate_e8=10_000_000, taker_rate_e8=20_000_000)
    desk.fund(1, quote=1_000, base=1_000)
    desk.do(desk.limit(1, e.SELL, 100, 10))
    desk.do(desk.limit(1, e.BUY, 100, 10))
    assert [(900, 0), (800, 0)] == desk.money(1)
    assert (100, 200) == (desk.fee(1), desk.fee(2))


def test_amount_that_no_lot_fits_into_comes_back() -> None:
    desk = Desk()
    desk.fund(1, base=1_000)
    desk.fund(2, quote=1_000)
    desk.do(desk.limit(1, e.SELL, 90, 10))
    desk.do(build.market_amount(account=2, instrument=1, side=e.BUY, amount_units=500, price_ticks=100))
    assert [(450, 0), (0, 500)] == desk.money(1)
    assert [(550, 0), (500, 0)] == desk.money(2)
    assert (r.BY_NO_LIQUIDITY, 50) == desk.outcomes[["reason", "qty_lots"]][-1].item()


def test_seller_by_amount_holds_the_most_lots_that_could_go_and_gets_the_rest_back() -> None:
    desk = Desk()
    desk.fund(1, quote=1_000)
    desk.fund(2, base=1_000)
    desk.do(desk.limit(1, e.BUY, 100, 10))
    assert r.INSUFFICIENT_FUNDS == desk.send(
        build.market_amount(account=2, instrument=1, side=e.SELL, amount_units=550, price_ticks=50)
    )
    desk.do(build.market_amount(account=2, instrument=1, side=e.SELL, amount_units=549, price_ticks=50))
    assert [(500, 0), (500, 0)] == desk.money(2)


@pytest.mark.parametrize(
    ("stp", "locked", "kinds"),
    [
        (e.STP_EXPIRE_TAKER, 400, [e.OUT_NEW, e.OUT_EXPIRED]),
        (e.STP_EXPIRE_MAKER, 600, [e.OUT_NEW, e.OUT_CANCELED, e.OUT_RESTED]),
        (e.STP_EXPIRE_BOTH, 0, [e.OUT_NEW, e.OUT_CANCELED, e.OUT_EXPIRED]),
        (e.STP_DECREMENT, 200, [e.OUT_NEW, e.OUT_PREVENTED, e.OUT_PREVENTED, e.OUT_RESTED]),
    ],
)
def test_prevention_frees_what_it_takes_off(stp: int, locked: int, kinds: list[int]) -> None:
    """A sell of 4 lots (400 base) rests; the same account buys 6 lots at 100 (600 quote)."""
    desk = Desk()
    desk.fund(1, quote=600, base=400)
    desk.do(desk.limit(1, e.SELL, 100, 4))
    desk.do(desk.limit(1, e.BUY, 100, 6, stp=stp))
    (quote_free, quote_locked), (base_free, base_locked) = desk.money(1)
    assert kinds == desk.outcomes["kind"].tolist()
    assert locked == quote_locked + base_locked
    assert (600, 400) == (quote_free + quote_locked, base_free + base_locked)


def test_amend_moves_exactly_the_difference_of_the_holds() -> None:
    desk = Desk()
    desk.fund(1, quote=1_000)
    resting = desk.do(desk.limit(1, e.BUY, 50, 10))
    for price, total, locked in ((60, 10, 600), (60, 4, 240), (100, 10, 1_000), (1, 1, 1)):
        desk.do(build.amend(account=1, instrument=1, order_id=resting, price_ticks=price, qty_lots=total))
        assert (1_000 - locked, locked) == desk.money(1)[0]
    assert r.INSUFFICIENT_FUNDS == desk.send(
        build.amend(account=1, instrument=1, order_id=resting, price_ticks=1, qty_lots=1_001)
    )


# ------------------------------------------------------------------------------------------------ bands and breakers


def trade_at(desk: Desk, price: int) -> None:
    desk.do(desk.limit(1, e.SELL, price, 1))
    desk.do(desk.limit(2, e.BUY, price, 1))
    assert price == trades(desk)["price_ticks"][0]


def reference(desk: Desk) -> int:
    """In ticks, times 100."""
    return int(desk.engine.risk.instruments[1]["reference_e8"]) // 1_000_000


def test_reference_follows_trades_at_ticks_only_and_forgets_after_thirty() -> None:
    desk = Desk(band_up_e8=50_000_000, reference_ticks=100)
    desk.fund(1, base=10_000)
    desk.fund(2, quote=10_000)
    trade_at(desk, 110)
    assert 10_000 == reference(desk)
    desk.tick()
    assert 11_000 == reference(desk)
    trade_at(desk, 120)
    trade_at(desk, 130)
    desk.tick()
    assert 12_000 == reference(desk)
    for _ in range(29):
        desk.tick()
    assert 13_000 == reference(desk)
    desk.do(build.set_bands(1, band_up_e8=1, band_down_e8=1, breaker_e8=0, reference_ticks=7, operator="a", reason="b"))
    assert 700 == reference(desk)
    desk.tick()
    assert 13_000 == reference(desk)


def test_breaker_asks_for_one_halt_until_it_has_come_back() -> None:
    desk = Desk(breaker_e8=10_000_000, reference_ticks=100)
    desk.fund(1, base=10_000)
    desk.fund(2, quote=10_000)
    meta = desk.engine.risk.meta
    trade_at(desk, 110)
    trade_at(desk, 90)
    assert 0 == meta[s.OUTBOX_PUSHED]
    trade_at(desk, 111)
    cause = Halt(1, desk.engine.last_seq, 1)
    trade_at(desk, 89)
    assert 1 == meta[s.OUTBOX_PUSHED]
    assert r.ACCEPTED == desk.sequence(halt_slot(cause, 1))
    assert (1, 1) == (meta[s.OUTBOX_TICKED], meta[s.OUTBOX_SETTLED])
    assert r.INSTRUMENT_HALTED == desk.send(desk.limit(1, e.SELL, 100, 1))
    desk.do(build.resume(1, *WHO))
    trade_at(desk, 200)
    assert 2 == meta[s.OUTBOX_PUSHED]


def test_breaker_is_exact_for_prices_whose_value_in_e8_is_beyond_64_bits() -> None:
    """2^40 ticks of 1e14 (1e-8 quote) are 2^86: multiplied out they would come round to anything."""
    desk = Desk()
    wide = Instrument(2, "WIDE", BASE, QUOTE, 10**14, 1, breaker_e8=1_000_000, reference_ticks=40_000)
    desk.do(build.list_instrument(wide, *WHO))
    desk.fund(1, base=1_000)
    desk.fund(2, quote=1 << 61)
    pushed = []
    for price in (40_000, 40_400, 1 << 40):
        desk.do(build.limit(account=1, instrument=2, side=e.SELL, price_ticks=price, qty_lots=1))
        desk.do(build.limit(account=2, instrument=2, side=e.BUY, price_ticks=price, qty_lots=1))
        pushed.append(int(desk.engine.risk.meta[s.OUTBOX_PUSHED]))
    assert [0, 0, 1] == pushed
    desk.tick()
    assert 40_000 * 10**14 == desk.engine.risk.instruments[2]["reference_e8"], (
        "what is too large to average is no sample"
    )


@pytest.mark.parametrize(
    ("side", "price", "price_max", "effective"),
    [(e.BUY, 0, 0, 210), (e.BUY, 205, 0, 205), (e.BUY, 300, 0, 210), (e.SELL, 0, 0, 180), (e.SELL, 190, 0, 190), (e.SELL, 1, 0, 180),
     (e.BUY, 0, 204, 204), (e.BUY, 300, 204, 204)],
)  # fmt: skip
def test_market_order_is_protected_by_the_band(side: int, price: int, price_max: int, effective: int) -> None:
    desk = Desk(band_up_e8=5_000_000, band_down_e8=10_000_000, reference_ticks=200, price_max_ticks=price_max)
    desk.fund(1, quote=10_000, base=10_000)
    for group in (
        build.market(account=1, instrument=1, side=side, qty_lots=3, price_ticks=price),
        build.market_amount(account=1, instrument=1, side=side, amount_units=1_000, price_ticks=price),
    ):
        desk.do(group)
        assert [effective] * 2 == desk.outcomes["price_ticks"].tolist()


def test_without_a_band_the_own_protection_price_stands_and_is_needed() -> None:
    desk = Desk()
    desk.fund(1, quote=10_000)
    desk.do(build.market(account=1, instrument=1, side=e.BUY, qty_lots=3, price_ticks=77))
    assert [77] * 2 == desk.outcomes["price_ticks"].tolist()
