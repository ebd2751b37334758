"""Holds, amend bounds and band limits as compiled, against Python's own integers and fractions."""

from fractions import Fraction
from math import ceil, floor

from hypothesis import assume, example, given
from hypothesis import strategies as st
from numba import njit

from protocol import enums as e
from protocol.fixed_point import AMOUNT_LIMIT, E8
from risk import orders

# Functions that only kernels call have no wrapper for Python.


@njit
def order_hold(kind, side, price, qty, k, lot):
    return orders.order_hold(kind, side, price, qty, k, lot)


@njit
def amend_difference(side, price_old, total_old, price_new, total_new, gone, k, lot):
    return orders.amend_difference(side, price_old, total_old, price_new, total_new, gone, k, lot)


@njit
def band_limits(reference, tick, up, down):
    return orders.band_limits(reference, tick, up, down)


NUMBER = st.one_of(
    st.integers(1, 1000), st.integers(1, AMOUNT_LIMIT - 1), st.sampled_from([(1 << n) - 1 for n in range(1, 63)])
)
SIDE = st.sampled_from((e.BUY, e.SELL))
SHARE = st.one_of(st.integers(0, 5), st.integers(0, E8 - 1), st.just(E8 - 1))


@given(SIDE, NUMBER, NUMBER, NUMBER, NUMBER)
def test_hold_of_a_limit_order_is_its_worst_case(side, price, qty, k, lot):
    assume(price * qty * k < AMOUNT_LIMIT and qty * lot < AMOUNT_LIMIT)
    expected = price * qty * k if side == e.BUY else qty * lot
    assert expected == order_hold(e.LIMIT, side, price, qty, k, lot) == order_hold(e.MARKET, side, price, qty, k, lot)


@given(SIDE, NUMBER, NUMBER, NUMBER, NUMBER)
@example(e.SELL, 1, AMOUNT_LIMIT - 1, 1, 1)
@example(e.SELL, 1, AMOUNT_LIMIT - 1, 1, 2)
@example(e.SELL, AMOUNT_LIMIT - 1, AMOUNT_LIMIT - 1, AMOUNT_LIMIT - 1, 1)
def test_hold_of_an_order_by_amount_is_the_amount_or_the_most_lots(side, price, amount, k, lot):
    expected = amount if side == e.BUY else amount // (price * k) * lot
    assert (expected if expected < AMOUNT_LIMIT else -1) == order_hold(e.MARKET_AMOUNT, side, price, amount, k, lot)


@given(SIDE, st.data(), NUMBER, NUMBER)
def test_difference_of_an_amend_is_worst_at_one_of_the_ends_that_reserve_looks_at(side, data, k, lot):
    price = st.integers(1, 1_000)
    total = st.integers(1, 200)
    k, lot = 1 + k % 1_000, 1 + lot % 1_000
    old_price, new_price, old_total, new_total = (data.draw(x) for x in (price, price, total, total))
    last = min(old_total, new_total) - 1
    at_once = data.draw(st.integers(0, last))

    def hold(price: int, left: int) -> int:
        return price * left * k if side == e.BUY else left * lot

    def difference(gone: int) -> int:
        return int(amend_difference(side, old_price, old_total, new_price, new_total, gone, k, lot))

    needs = [hold(new_price, new_total - gone) - hold(old_price, old_total - gone) for gone in range(at_once, last + 1)]
    assert needs == [difference(gone) for gone in range(at_once, last + 1)]
    assert max(needs) == max(difference(at_once), difference(last))


@given(st.one_of(st.just(0), NUMBER), NUMBER, SHARE, SHARE)
@example(AMOUNT_LIMIT - 1, 1, E8, 1)
@example(AMOUNT_LIMIT - 1, AMOUNT_LIMIT - 1, E8, E8 - 1)
def test_band_limits_are_the_last_prices_within_the_shares(reference, tick, up, down):
    highest = floor(Fraction(reference * (E8 + up), E8 * tick)) if reference and up else AMOUNT_LIMIT
    lowest = ceil(Fraction(reference * (E8 - down), E8 * tick)) if reference and down else 0
    assert (lowest, highest) == tuple(band_limits(reference, tick, up, down))
