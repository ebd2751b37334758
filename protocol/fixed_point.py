"""Exact integer arithmetic of the ledger (risk specification, section 1). No floats; divisors are positive.

``fdiv`` rounds toward minus infinity, ``cdiv`` toward plus infinity. ``muldiv_*`` take the exact 128-bit product. All functions also run in
plain Python, where integers are unbounded and the results are the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import config

from protocol.jit import entry

E8: Final = 100_000_000
AMOUNT_LIMIT: Final = 1 << 62
"""Amounts are below this in absolute value."""

_U0: Final = np.uint64(0)
_U1: Final = np.uint64(1)
_U32: Final = np.uint64(32)
_U63: Final = np.uint64(63)
_LOW: Final = np.uint64(0xFFFFFFFF)
_SMALL: Final = 1 << 31


@entry
def fdiv(a, b):
    """Floor of a / b; int64, b > 0."""
    assert b > 0
    return a // b


@entry
def cdiv(a, b):
    """Ceiling of a / b; int64, b > 0."""
    assert b > 0
    return -((-a) // b)


@entry
def _mul_wide(a, b):
    """Product of two uint64 as (high, low)."""
    a_lo = a & _LOW
    a_hi = a >> _U32
    b_lo = b & _LOW
    b_hi = b >> _U32
    ll = a_lo * b_lo
    lh = a_lo * b_hi
    hl = a_hi * b_lo
    hh = a_hi * b_hi
    middle = (ll >> _U32) + (lh & _LOW) + (hl & _LOW)
    low = (ll & _LOW) | (middle << _U32)
    high = hh + (lh >> _U32) + (hl >> _U32) + (middle >> _U32)
    return high, low


@entry
def _div_wide(high, low, d):
    """(quotient, remainder) of high:low by d; uint64, high < d. Knuth, TAOCP 4.3.1, algorithm D, with 32-bit digits."""
    shift = _U0
    while (d >> _U63) == _U0:
        d = d << _U1
        shift += _U1
    if shift > _U0:
        high = (high << shift) | (low >> (np.uint64(64) - shift))
        low = low << shift
    d_hi = d >> _U32
    d_lo = d & _LOW
    digit_hi = low >> _U32
    digit_lo = low & _LOW

    q1 = high // d_hi
    r = high - q1 * d_hi
    while q1 > _LOW or q1 * d_lo > ((r << _U32) | digit_hi):
        q1 -= _U1
        r += d_hi
        if r > _LOW:
            break
    rest = ((high << _U32) | digit_hi) - q1 * d

    q0 = rest // d_hi
    r = rest - q0 * d_hi
    while q0 > _LOW or q0 * d_lo > ((r << _U32) | digit_lo):
        q0 -= _U1
        r += d_hi
        if r > _LOW:
            break
    rest = ((rest << _U32) | digit_lo) - q0 * d
    return (q1 << _U32) + q0, rest >> shift


@entry
def _muldiv_compiled(a, b, c, up):
    """See ``muldiv_floor``; a, b >= 0, c > 0. Returns -1 where the quotient does not fit."""
    if a < _SMALL and b < _SMALL:
        product = a * b
        q = product // c
        if up and q * c != product:
            q += 1
        return q
    high, low = _mul_wide(np.uint64(a), np.uint64(b))
    divisor = np.uint64(c)
    if high >= divisor:
        return np.int64(-1)
    q_wide, rest = _div_wide(high, low, divisor)
    if up and rest != _U0:
        q_wide += _U1
    if (q_wide >> _U63) != _U0:
        return np.int64(-1)
    return np.int64(q_wide)


def _muldiv_plain(a, b, c, up):
    product = int(a) * int(b)
    c = int(c)
    q = -(-product // c) if up else product // c
    return q if q < 1 << 63 else -1


_muldiv = _muldiv_plain if config.DISABLE_JIT else _muldiv_compiled


@entry
def muldiv_floor(a, b, c):
    """floor(a*b / c) with the exact product; a, b >= 0, c > 0; -1 where the quotient is 2^63 or more."""
    assert a >= 0
    assert b >= 0
    assert c > 0
    return _muldiv(a, b, c, False)


@entry
def muldiv_ceil(a, b, c):
    """ceil(a*b / c) with the exact product; a, b >= 0, c > 0; -1 where the quotient is 2^63 or more."""
    assert a >= 0
    assert b >= 0
    assert c > 0
    return _muldiv(a, b, c, True)


@entry
def product_below_limit(a, b):
    """Whether a*b < 2^62, exactly; a, b >= 0."""
    if a < _SMALL and b < _SMALL:
        return True
    return a == 0 or b <= (AMOUNT_LIMIT - 1) // a


@entry
def notional_below_limit(price_ticks, qty_lots, multiplier):
    """Whether price*qty*K < 2^62, exactly; all >= 1 (risk specification, section 1: orders beyond it are refused at entry)."""
    if not product_below_limit(price_ticks, qty_lots):
        return False
    return product_below_limit(price_ticks * qty_lots, multiplier)


@entry
def fee_charge(received_units, rate_e8):
    """Fee for rate >= 0: ceil(received*rate / E8), in the asset received (risk specification, 4.1)."""
    return muldiv_ceil(received_units, rate_e8, E8)
