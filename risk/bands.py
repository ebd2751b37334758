"""Reference prices and circuit breakers.

The reference is the mean of the last price over the latest samples, one a clock tick; nothing else moves it, so that
reserve may read it as soon as the last tick is settled (risk specification, 14.2: the 5-minute average of spot).
"""

from __future__ import annotations

from protocol import enums as e
from protocol.fixed_point import product_below_limit
from protocol.jit import inner
from risk import state as s
from risk.orders import band_limits
from risk.outbox import push_halt


@inner
def follows_trades(row):
    """Whether the instrument needs a reference at all."""
    return row["band_up_e8"] > 0 or row["band_down_e8"] > 0 or row["breaker_e8"] > 0


@inner
def tick_references(state):
    """A clock tick: each instrument with bands takes its last price as a sample and renews its reference; with collars all do."""
    for instrument in range(1, state.instruments.shape[0]):
        row = state.instruments[instrument]
        if row["status"] == e.INSTRUMENT_NONE or not (follows_trades(row) or state.meta[s.COLLARS] > 0):
            continue
        last = row["last_price_ticks"]
        tick_e8 = row["tick_e8"]
        if (
            last == 0
            or not product_below_limit(last, tick_e8)
            or not product_below_limit(last * tick_e8, s.REFERENCE_SAMPLES)
        ):
            continue
        state.samples_e8[instrument, row["sample_next"]] = last * row["tick_e8"]
        row["sample_next"] = (row["sample_next"] + 1) % s.REFERENCE_SAMPLES
        row["sample_count"] = min(row["sample_count"] + 1, s.REFERENCE_SAMPLES)
        total = 0
        for k in range(row["sample_count"]):
            total += state.samples_e8[instrument, k]
        row["reference_e8"] = total // row["sample_count"]


@inner
def set_reference(row, reference_ticks):
    """An operator sets the reference: earlier samples no longer count."""
    row["reference_e8"] = reference_ticks * row["tick_e8"]
    row["sample_next"] = 0
    row["sample_count"] = 0


@inner
def check_breaker(state, instrument, price_ticks, seq, index):
    """After a trade: one further from the reference than the breaker allows asks for a halt, once until it has come back."""
    row = state.instruments[instrument]
    breaker = row["breaker_e8"]
    if breaker == 0 or row["breaker_pending"] != 0 or row["reference_e8"] == 0:
        return
    lowest, highest = band_limits(row["reference_e8"], row["tick_e8"], breaker, breaker)
    if price_ticks > highest or price_ticks < lowest:
        row["breaker_pending"] = 1
        push_halt(state, instrument, seq, index)
