"""Reference prices, circuit breakers, and the auctions that they lead to.

The reference is the mean of the last price over the latest samples, one a clock tick; nothing else moves it, so that
reserve may read it as soon as the last tick is settled (risk specification, 14.2: the 5-minute average of spot). Behind an
auction it is that auction's price, for the samples are of a market that is no more.
"""

from __future__ import annotations

from typing import Final

from protocol import enums as e
from protocol.fixed_point import E8, product_below_limit
from protocol.hashing import mix
from protocol.jit import inner
from risk import state as s
from risk.orders import band_limits
from risk.outbox import push_state

AUCTION_MAX_NS: Final = 86_400_000_000_000
EXTENSIONS_MAX: Final = 100
RANDOM_MASK: Final = (1 << 62) - 1


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
def is_beyond(reference_e8, tick_e8, share_e8, price_ticks):
    """Whether a price is further from the reference than a share of it; 0 = no bound, or no reference."""
    if share_e8 == 0 or reference_e8 == 0:
        return False
    lowest, highest = band_limits(reference_e8, tick_e8, share_e8, share_e8)
    return price_ticks > highest or price_ticks < lowest


@inner
def check_breaker(state, c, instrument, price_ticks):
    """After a trade, before it is the last one: too far from the reference, or from the last price before the command, it interrupts.

    Once until risk's command has come back: a halt, or an auction where the instrument has a length for it.
    """
    row = state.instruments[instrument]
    dynamic = row["dynamic_e8"]
    if dynamic == 0 and row["breaker_e8"] == 0:
        return
    if dynamic != 0 and row["moved_seq"] != c["seq"]:
        row["moved_seq"] = c["seq"]
        row["moved_from_ticks"] = row["last_price_ticks"]
    if row["breaker_pending"] != 0:
        return
    beyond = is_beyond(row["reference_e8"], row["tick_e8"], row["breaker_e8"], price_ticks)
    if not beyond and dynamic != 0 and product_below_limit(row["moved_from_ticks"], row["tick_e8"]):
        beyond = is_beyond(row["moved_from_ticks"] * row["tick_e8"], row["tick_e8"], dynamic, price_ticks)
    if beyond:
        row["breaker_pending"] = 1
        interrupt(state, c, instrument)


@inner
def interrupt(state, c, instrument):
    """Ask for the halt, or for the auction with its end: its random part is a hash of the trade's command, so that replay agrees."""
    row = state.instruments[instrument]
    index = state.meta[s.INDEX]
    if row["auction_ns"] == 0:
        push_state(state, instrument, e.INSTRUMENT_HALTED, 0, 0, c["seq"], index)
        return
    longer = (mix(c["seq"], instrument) & RANDOM_MASK) % (row["random_ns"] + 1)
    end_ts_ns = c["ts_ns"] + row["auction_ns"] + longer
    push_state(state, instrument, e.INSTRUMENT_AUCTION, end_ts_ns, e.INSTRUMENT_OPEN, c["seq"], index)


@inner
def end_auctions(state, c):
    """A second of the clock: auctions whose end has come open, or go on where they may and their price is beyond the breaker."""
    if state.meta[s.AUCTIONS] == 0:
        return
    for instrument in range(1, state.instruments.shape[0]):
        row = state.instruments[instrument]
        if row["status"] != e.INSTRUMENT_AUCTION or row["auction_end_ts_ns"] == 0 or row["breaker_pending"] != 0:
            continue
        if row["auction_end_ts_ns"] > c["ts_ns"]:
            continue
        price = row["indicative_ticks"]
        if (
            price != 0
            and row["extended"] < row["extensions"]
            and is_beyond(row["reference_e8"], row["tick_e8"], row["breaker_e8"], price)
        ):
            row["extended"] += 1
            row["auction_end_ts_ns"] = c["ts_ns"] + row["auction_ns"]
        else:
            row["breaker_pending"] = 1
            push_state(state, instrument, row["auction_then"], 0, row["auction_seq"], c["seq"], state.meta[s.INDEX])


@inner
def auction_rules_are_valid(ext):
    """Whether the fields of an EXT_AUCTION slot may be set."""
    return (
        0 <= ext["dynamic_e8"] <= E8
        and 0 <= ext["random_ns"] <= ext["auction_ns"] <= AUCTION_MAX_NS
        and 0 <= ext["extensions"] <= EXTENSIONS_MAX
        and (ext["extensions"] == 0 or ext["auction_ns"] > 0)
    )
