import os
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.fixed_point import (
    AMOUNT_LIMIT,
    E8,
    cdiv,
    fdiv,
    fee_charge,
    muldiv_ceil,
    muldiv_floor,
    notional_below_limit,
    product_below_limit,
)

INT64_MAX = (1 << 63) - 1
EDGES = sorted(
    {(1 << n) + d for n in (0, 1, 31, 32, 33, 61, 62, 63) for d in (-1, 0, 1) if 0 <= (1 << n) + d <= INT64_MAX}
)
AMOUNT = st.one_of(st.sampled_from(EDGES), st.integers(0, INT64_MAX), st.integers(0, 1 << 34))
POSITIVE = AMOUNT.filter(bool)
SIGNED = st.one_of(AMOUNT, AMOUNT.map(lambda a: -a))


def exact_muldiv(a, b, c, up):
    q = -(-a * b // c) if up else a * b // c
    return q if q <= INT64_MAX else -1


@given(SIGNED, POSITIVE)
def test_divisions_round_down_and_up_for_either_sign(a, b):
    assert a // b == fdiv(a, b)
    assert -(-a // b) == cdiv(a, b)


@given(AMOUNT, AMOUNT, POSITIVE)
def test_muldiv_takes_the_exact_product(a, b, c):
    assert exact_muldiv(a, b, c, False) == muldiv_floor(a, b, c)
    assert exact_muldiv(a, b, c, True) == muldiv_ceil(a, b, c)


@given(POSITIVE, POSITIVE, st.integers(-2, 2))
def test_muldiv_is_exact_beside_a_whole_quotient(b, c, off):
    a = c + off
    assume(0 <= a <= INT64_MAX)
    assert exact_muldiv(a, b, c, False) == muldiv_floor(a, b, c)
    assert exact_muldiv(a, b, c, True) == muldiv_ceil(a, b, c)


def test_muldiv_at_every_pair_of_edges():
    for a in EDGES:
        for b in EDGES:
            for c in EDGES:
                if c > 0:
                    assert exact_muldiv(a, b, c, False) == muldiv_floor(a, b, c), (a, b, c)
                    assert exact_muldiv(a, b, c, True) == muldiv_ceil(a, b, c), (a, b, c)


@given(AMOUNT, AMOUNT)
def test_product_below_limit_is_exact(a, b):
    assert (a * b < AMOUNT_LIMIT) == product_below_limit(a, b)


@given(POSITIVE, st.integers(-2, 2))
def test_product_below_limit_is_exact_at_the_limit(a, off):
    b = AMOUNT_LIMIT // a + off
    assume(0 <= b <= INT64_MAX)
    assert (a * b < AMOUNT_LIMIT) == product_below_limit(a, b)


@given(POSITIVE, POSITIVE, POSITIVE)
def test_notional_below_limit_is_exact(price_ticks, qty_lots, multiplier):
    assert (price_ticks * qty_lots * multiplier < AMOUNT_LIMIT) == notional_below_limit(
        price_ticks, qty_lots, multiplier
    )


@given(st.integers(0, AMOUNT_LIMIT - 1), st.integers(0, E8 - 1))
def test_fee_is_rounded_up_and_never_above_what_was_received(received_units, rate_e8):
    fee_units = fee_charge(received_units, rate_e8)
    assert -(-received_units * rate_e8 // E8) == fee_units
    assert 0 <= fee_units <= received_units
    assert (fee_units == 0) == (received_units == 0 or rate_e8 == 0)


@pytest.mark.parametrize("function", [fdiv, cdiv])
@pytest.mark.parametrize("divisor", [0, -1])
def test_divisor_must_be_positive(function, divisor):
    with pytest.raises(AssertionError):
        function(1, divisor)


@pytest.mark.parametrize("arguments", [(-1, 1, 1), (1, -1, 1), (1, 1, 0), (1, 1, -1)])
def test_muldiv_takes_no_negative_arguments(arguments):
    for function in (muldiv_floor, muldiv_ceil):
        with pytest.raises(AssertionError):
            function(*arguments)


def test_the_same_tests_hold_in_the_other_mode():
    """Compiled kernels and plain Python must agree; the child runs this module with the JIT switched over."""
    if os.environ.get("CAMBIST_OTHER_MODE"):
        pytest.skip("this is the other mode")
    disabled = os.environ.get("NUMBA_DISABLE_JIT") == "1"
    environment = dict(os.environ, NUMBA_DISABLE_JIT="0" if disabled else "1", CAMBIST_OTHER_MODE="1")
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        __file__,
        __file__.replace("fixed_point", "codec"),
    ]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert 0 == child.returncode, child.stdout[-4000:] + child.stderr[-2000:]
