from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.fixed_point import AMOUNT_LIMIT, E8
from protocol.instruments import (
    LISTING_RULES,
    SCALE_MAX,
    Asset,
    Instrument,
    ListingError,
    bands_are_valid,
    fees_are_valid,
    listing_is_valid,
    listing_multiplier,
    plain,
)

BTC = Asset(1, "BTC", 8)
USD = Asset(2, "USD", 6)
SIZE = st.one_of(
    st.sampled_from([1, 10, E8, 10**16, AMOUNT_LIMIT - 1]), st.integers(0, 10**6), st.integers(0, AMOUNT_LIMIT - 1)
)
SCALE = st.integers(0, SCALE_MAX)
RATE = st.one_of(st.integers(-3, 3), st.integers(E8 - 3, E8 + 3), st.integers(-2 * E8, 2 * E8))
BOUND = st.one_of(st.just(0), st.integers(1, AMOUNT_LIMIT - 1), st.integers(1, 10**6))


def listing(**changes):
    fields: dict[str, Any] = {
        "index": 1,
        "symbol": "BTC-USD",
        "base": BTC,
        "quote": USD,
        "tick_e8": 1_000_000,
        "lot_atoms": 10_000,
    }
    return Instrument(**(fields | changes))


@given(SIZE, SIZE, SCALE, SCALE)
def test_multiplier_is_the_exact_integer_or_none(tick_e8, lot_atoms, base_scale, quote_scale):
    product, rest = divmod(tick_e8 * lot_atoms * 10**quote_scale, E8 * 10**base_scale)
    expected = product if rest == 0 and 0 < product < AMOUNT_LIMIT else 0
    assert expected == listing_multiplier(tick_e8, lot_atoms, base_scale, quote_scale)


@pytest.mark.parametrize(
    "arguments", [(0, 1, 8, 8), (1, 0, 8, 8), (-1, 1, 8, 8), (1 << 62, 1, 8, 8), (1, 1, 11, 8), (1, 1, 8, -1)]
)
def test_multiplier_of_what_cannot_be_listed_is_zero(arguments):
    assert 0 == listing_multiplier(*arguments)


@given(st.integers(1, AMOUNT_LIMIT - 1), st.integers(1, AMOUNT_LIMIT - 1), BOUND, BOUND)
def test_listing_with_both_bounds_proves_that_no_order_overflows(multiplier, lot_atoms, price_max_ticks, qty_max_lots):
    code = listing_is_valid(multiplier, lot_atoms, 0, 0, 0, 0, 0, 0, price_max_ticks, qty_max_lots)
    value_fits = price_max_ticks * qty_max_lots * multiplier < AMOUNT_LIMIT
    base_fits = qty_max_lots * lot_atoms < AMOUNT_LIMIT
    assert (code == 0) == (value_fits and base_fits)
    assert code in {0, 1}


@given(RATE, RATE)
def test_fees_never_let_a_fill_lower_the_fee_account(maker, taker):
    expected = 0 <= taker < E8 and maker < E8 and maker + taker >= 0
    assert expected == fees_are_valid(maker, taker)
    assert (0 if expected else 2) == listing_is_valid(1, 1, maker, taker, 0, 0, 0, 0, 0, 0)


@given(RATE, RATE, RATE)
def test_bands_are_shares_of_the_reference(up, down, breaker):
    expected = 0 <= up <= E8 and 0 <= down < E8 and 0 <= breaker <= E8
    assert expected == bands_are_valid(up, down, breaker)
    assert (0 if expected else 3) == listing_is_valid(1, 1, 0, 0, up, down, 0, breaker, 0, 0)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"price_max_ticks": 1 << 31, "qty_max_lots": 1 << 31}, 1),
        ({"qty_max_lots": 1 << 55}, 1),
        ({"taker_rate_e8": E8}, 2),
        ({"maker_rate_e8": -2, "taker_rate_e8": 1}, 2),
        ({"band_down_e8": E8}, 3),
        ({"price_max_ticks": -1}, 4),
        ({"price_max_ticks": 5, "reference_ticks": 6}, 4),
    ],
)
def test_check_names_the_rule_that_is_broken(changes, rule):
    with pytest.raises(ListingError) as caught:
        listing(**changes).check()
    assert f"BTC-USD: {LISTING_RULES[rule]}" == str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"symbol": ""}, "1 to 16 characters"),
        ({"symbol": "ABCDEFGHIJKLMNOPQ"}, "1 to 16 characters"),
        ({"symbol": "ÄÖÜÄÖÜÄÖÜ"}, "1 to 16 characters"),
        ({"quote": BTC}, "base and quote are both BTC"),
        ({"tick_e8": 1, "lot_atoms": 1}, "must be a positive integer"),
    ],
)
def test_check_says_what_is_wrong_with_names_and_sizes(changes, text):
    with pytest.raises(ListingError, match=text):
        listing(**changes).check()


def test_sound_listing_passes_and_has_its_multiplier():
    instrument = listing(
        maker_rate_e8=-1000, taker_rate_e8=2000, band_up_e8=E8 // 10, price_max_ticks=10**8, qty_max_lots=10**8
    )
    instrument.check()
    # 0.01 USD times 0.0001 BTC is one unit of 1e-6 USD.
    assert 1 == instrument.multiplier
    assert ("0.01", "0.0001") == (instrument.tick_size, instrument.lot_size)


def test_decimal_texts_and_integers_convert_exactly_both_ways():
    instrument = listing()
    assert 6_500_001 == instrument.price_ticks("65000.01")
    assert "65000.01" == instrument.price(6_500_001)
    assert 15_000 == instrument.qty_lots(Decimal("1.5"))
    assert "1.5" == instrument.qty(15_000)
    assert 123_456_789 == USD.units("123.456789")
    assert "123.456789" == USD.amount(123_456_789)


@given(st.integers(0, 10**15))
def test_every_price_and_quantity_comes_back_from_its_text(number):
    instrument = listing()
    assert number == instrument.price_ticks(instrument.price(number))
    assert number == instrument.qty_lots(instrument.qty(number))
    assert number == USD.units(USD.amount(number))


def test_texts_finer_than_tick_lot_or_unit_are_refused():
    with pytest.raises(ValueError, match=r"tick size of 0\.01"):
        listing().price_ticks("1.001")
    with pytest.raises(ValueError, match=r"lot size of 0\.0001"):
        listing().qty_lots("0.00001")
    with pytest.raises(ValueError, match="smallest amount is 1e-6"):
        USD.units("0.0000001")


@pytest.mark.parametrize(
    ("value", "text"), [("0", "0"), ("10", "10"), ("1.50", "1.5"), ("1E+3", "1000"), ("0E-8", "0")]
)
def test_plain_has_no_exponent_and_no_trailing_zeros(value, text):
    assert text == plain(Decimal(value))


def test_listings_do_not_change():
    with pytest.raises(AttributeError):
        listing().tick_e8 = 5
    assert listing() == msgspec.structs.replace(listing(), index=1)
