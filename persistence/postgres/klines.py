"""Candles from trades, in exact integers; the writer makes them once, and the database merges a batch into what is there."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

NS: Final = 1_000_000_000
INTERVALS_S: Final = (60, 300, 900, 3600, 14_400, 86_400)
"""1m, 5m, 15m, 1h, 4h and 1d; all begin at the epoch's multiples, so that a day is one of UTC."""

_LOW_BITS: Final = 32


class Kline(msgspec.Struct, frozen=True):
    """One interval of one instrument, or what a batch adds to it. Volume and turnover are sums over trades and unbounded."""

    instrument: int
    interval_s: int
    open_ts_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    volume_lots: int
    turnover_units: int
    trades: int
    first_seq: int
    last_seq: int


def klines_of(trades: np.ndarray) -> list[Kline]:
    """Klines of trades in their order, by instrument, interval and time."""
    found = []
    for interval_s in INTERVALS_S if len(trades) else ():
        width_ns = interval_s * NS
        opened = trades["ts_ns"] // width_ns * width_ns
        order = np.lexsort((opened, trades["instrument"]))
        of, at = trades["instrument"][order], opened[order]
        starts = np.flatnonzero(np.r_[True, (of[1:] != of[:-1]) | (at[1:] != at[:-1])])
        ends = np.r_[starts[1:], len(order)] - 1
        sorted_trades = trades[order]
        prices, seqs = sorted_trades["price_ticks"], sorted_trades["seq"]
        highs, lows = np.maximum.reduceat(prices, starts), np.minimum.reduceat(prices, starts)
        volumes, turnovers = sums(sorted_trades["qty_lots"], starts), sums(sorted_trades["value_units"], starts)
        found += [
            Kline(
                int(of[a]),
                interval_s,
                int(at[a]),
                int(prices[a]),
                int(highs[k]),
                int(lows[k]),
                int(prices[b]),
                volumes[k],
                turnovers[k],
                int(b - a + 1),
                int(seqs[a]),
                int(seqs[b]),
            )
            for k, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
        ]
    return found


def sums(values: np.ndarray, starts: np.ndarray) -> list[int]:
    """Exact sums of non-negative int64 by group: in two halves, because the whole may pass 64 bits."""
    high = np.add.reduceat(values >> _LOW_BITS, starts)
    low = np.add.reduceat(values & ((1 << _LOW_BITS) - 1), starts)
    return [(a << _LOW_BITS) + b for a, b in zip(high.tolist(), low.tolist(), strict=True)]
