"""Auctions as risk sees them: what may be asked, and when they begin and end. Their trades are settled in ``risk.settle_trades``."""

from __future__ import annotations

from protocol import enums as e
from protocol import market_states as states
from protocol import reasons as r
from protocol.jit import inner
from risk import state as s
from risk.bands import AUCTION_MAX_NS


@inner
def gathering_code(c):
    """0, or why an order may not wait for an auction, though its type may."""
    if c["type"] == e.QUOTE:
        # A quote stands beside what it replaces, in the book that trades.
        return r.IMMEDIATE_IN_AUCTION
    if c["type"] != e.AMEND and (c["flags"] & e.FLAG_PEG) != 0:
        # Best prices mean nothing while prices may cross.
        return r.IMMEDIATE_IN_AUCTION
    if (c["flags"] & e.FLAG_TRIGGER) != 0:
        # It waits for a price, and not for the auction.
        return 0
    if c["type"] != e.AMEND and (c["flags"] & e.FLAG_TERMS) != 0 and c["min_qty_lots"] > 0:
        return r.MIN_QTY_IN_AUCTION
    return 0


@inner
def auction_end_code(c, wanted):
    """0, or AUCTION_END where a change of state says of an end what makes no sense."""
    end_ts_ns = c["qty_lots"]
    then = c["trigger_price_ticks"]
    if c["type"] != e.SET_STATE or (end_ts_ns == 0 and then == 0):
        return 0
    if wanted != e.INSTRUMENT_AUCTION or end_ts_ns <= c["ts_ns"] or end_ts_ns - c["ts_ns"] > AUCTION_MAX_NS:
        return r.AUCTION_END
    if then != e.INSTRUMENT_OPEN and then != e.INSTRUMENT_POST_ONLY and then != e.INSTRUMENT_CLOSED:
        return r.AUCTION_END
    return 0


@inner
def risk_may(row, c, wanted):
    """Whether a command of risk's own finds what it was meant for: an open market, or the auction that it ends."""
    if wanted == e.INSTRUMENT_HALTED or wanted == e.INSTRUMENT_AUCTION:
        return row["status"] == e.INSTRUMENT_OPEN
    return row["status"] == e.INSTRUMENT_AUCTION and row["auction_seq"] == c["trigger_price_ticks"]


@inner
def uncrosses(status, wanted):
    """Whether what was gathered trades when ``status`` becomes ``wanted``."""
    return (states.UNCROSSING[status] >> wanted) & 1 != 0


@inner
def settle_market(state, c, row, wanted):
    """Settle's copy of the state of a market, and of the auction that begins or ends with it."""
    state.meta[s.AUCTIONS] -= row["auction_end_ts_ns"] != 0
    row["status"] = wanted
    row["auction_seq"] = 0
    row["auction_end_ts_ns"] = 0
    row["auction_then"] = 0
    row["extended"] = 0
    row["indicative_ticks"] = 0
    if wanted == e.INSTRUMENT_AUCTION:
        row["auction_seq"] = c["seq"]
        if c["type"] == e.SET_STATE:
            row["auction_end_ts_ns"] = c["qty_lots"]
            row["auction_then"] = c["trigger_price_ticks"]
    state.meta[s.AUCTIONS] += row["auction_end_ts_ns"] != 0
