"""Verdict of AMEND."""

from __future__ import annotations

from typing import Final

from protocol import enums as e
from protocol import market_states as states
from protocol import reasons as r
from protocol.jit import inner
from protocol.order_terms import has_too_many_parts
from risk import state as s
from risk.judging import NO_BARRIER, WAIT, account_code, exact_or_wait, instrument_code
from risk.ledger import available, balance_row, find_hold, promise
from risk.limits import tightest_collar
from risk.orders import amend_difference, is_pegged, limit_hold, order_range_code
from risk.reserve_orders import band_code, has_band, trading_code, within_limits

AMENDS_INFLIGHT_MAX: Final = 255
"""Of one order; the next one waits."""


@inner
def reserve_amend(state, c, seq, pending):
    """Verdict of AMEND. Whether the order rests, and codes 12 and 13, are the matcher's to say; here only form, status and funds."""
    account = c["account"]
    instrument = c["instrument"]
    price = c["price_ticks"]
    total = c["qty_lots"]
    code = account_code(state, account)
    if code == 0:
        code = instrument_code(state, instrument)
    if code != 0:
        return code
    row = state.instruments_reserve[instrument]
    if price < 1:
        return r.BAD_PRICE
    if total < 1:
        return r.BAD_QUANTITY
    code = order_range_code(e.LIMIT, e.BUY, price, total, row)
    if code == 0:
        code = trading_code(state, c, row)
    if code == 0 and state.meta[s.LIMITED] != 0:
        code = within_limits(state, c, instrument, seq, row, total, price * total * row["multiplier"], False)
    if code != 0:
        return code
    pending["price_ticks"] = price
    pending["qty_lots"] = total
    if row["status"] != e.INSTRUMENT_OPEN and (states.ALLOWED[row["status"]] & states.TAKE) == 0:
        pending["flags"] = e.JUDGED_NO_TAKE
    hold = find_hold(state, c["order_id"])
    if hold < 0:
        return 0
    h = state.holds[hold]
    if (
        h["account"] != account
        or h["instrument"] != instrument
        or h["type"] != e.LIMIT
        or h["tif"] == e.IOC
        or h["tif"] == e.FOK
        or (h["flags"] & s.HOLD_QUOTE) != 0
        or is_pegged(h)
    ):
        return 0
    exact = exact_or_wait(state, seq, NO_BARRIER)
    if (h["flags"] & (s.HOLD_STOP | s.HOLD_LINKED)) != 0 and not exact:
        return WAIT
    if (h["flags"] & s.HOLD_LINKED) != 0:
        return 0
    waits = (h["flags"] & s.HOLD_WAITS) != 0
    collar = tightest_collar(state, account, instrument)
    if not waits and (has_band(row) or collar != 0):
        if not exact_or_wait(state, seq, state.meta[s.BARRIER]):
            return WAIT
        code = band_code(state.instruments[instrument]["reference_e8"], row, h["side"], price, collar)
        if code != 0:
            # Known only once the order is known to rest: otherwise the matcher's UNKNOWN_ORDER comes first.
            return code if exact else WAIT
    if (h["flags"] & s.HOLD_TERMS) != 0 and has_too_many_parts(h["display_lots"], total):
        return r.ICEBERG_PARTS if exact else WAIT
    if h["amends_inflight"] == AMENDS_INFLIGHT_MAX:
        return WAIT
    need = amend_need(h, price, total, row, exact)
    balance = balance_row(state, account, row["quote"] if h["side"] == e.BUY else row["base"])
    if need > 0 and need > available(state, balance):
        return r.INSUFFICIENT_FUNDS if exact else WAIT
    pending["hold"] = hold
    pending["inflight_units"] = need
    pending["balance"] = balance
    h["amends_inflight"] += 1
    promise(state, balance, need)
    state.accounts[account]["activity"] += 1
    return 0


@inner
def amend_need(h, price, total, row, exact):
    """What an amend may need on top of the order's hold, never below zero: exactly, or at the worst of what may be gone meanwhile.

    The difference is linear in the lots that are gone, so the worst is at one end: what is gone in the settled state, or all but one lot.
    Behind another amend in flight nobody knows what the order holds by then: at worst nothing.
    """
    k = row["multiplier"]
    lot_atoms = row["lot_atoms"]
    if h["amends_inflight"] > 0:
        return limit_hold(h["side"], price, total, k, lot_atoms)
    gone = h["traded_lots"] + h["prevented_lots"]
    if total <= gone:
        return 0
    need = amend_difference(h["side"], h["price_ticks"], h["total_lots"], price, total, gone, k, lot_atoms)
    if not exact:
        gone = min(h["total_lots"], total) - 1
        need = max(
            need, amend_difference(h["side"], h["price_ticks"], h["total_lots"], price, total, gone, k, lot_atoms)
        )
    return max(need, 0)
