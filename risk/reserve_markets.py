"""Verdicts of what operators, and risk itself, say of assets and instruments: listings, states, bands, prices."""

from __future__ import annotations

from protocol import enums as e
from protocol import market_states as states
from protocol import reasons as r
from protocol.fixed_point import AMOUNT_LIMIT, product_below_limit
from protocol.instruments import bands_are_valid, listing_is_valid, listing_multiplier
from protocol.jit import inner
from risk import state as s
from risk.auctions import auction_end_code, risk_may, uncrosses
from risk.bands import auction_rules_are_valid
from risk.fees import listing_fees_code
from risk.judging import NO_BARRIER, WAIT, asset_code, came_back, exact_or_wait, instrument_code


@inner
def reserve_volume_rate(state, c, seq):
    """SET_VOLUME_RATE, where everything before is settled."""
    code = asset_code(state, c["asset"])
    if code != 0:
        return code
    if c["price_ticks"] < 0 or c["price_ticks"] >= AMOUNT_LIMIT:
        return r.BAD_FIELD
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    state.assets[c["asset"]]["volume_rate_e8"] = c["price_ticks"]
    return 0


@inner
def wanted_state(c):
    """State that SET_STATE, HALT or RESUME asks for; 0 for other commands."""
    kind = c["type"]
    if kind == e.SET_STATE:
        return c["price_ticks"]
    if kind == e.HALT:
        return e.INSTRUMENT_HALTED
    return e.INSTRUMENT_OPEN if kind == e.RESUME else 0


@inner
def may_become(status, wanted):
    """Whether a command may make ``wanted`` of the state ``status`` of an instrument."""
    return 0 < wanted < len(states.FOLLOWING) and (states.FOLLOWING[status] >> wanted) & 1 != 0


@inner
def reserve_instrument(state, rings, c, seq, pending):
    """SET_STATE, HALT, RESUME: reserve's copy, and the matcher is told; a HALT of risk's own is ticked off the outbox.

    SET_FEES: settle decides the rest.
    """
    kind = c["type"]
    instrument = c["instrument"]
    wanted = wanted_state(c)
    if kind == e.SET_STATE and instrument == 0:
        if wanted != e.VENUE_OPEN and wanted != e.VENUE_MAINTENANCE:
            return r.BAD_STATE
        state.meta[s.VENUE_STATE_RESERVE] = wanted
        return 0
    gathers = wanted == e.INSTRUMENT_PRE_OPEN or wanted == e.INSTRUMENT_AUCTION
    if gathers and not exact_or_wait(state, seq, state.meta[s.BARRIER]):
        return WAIT
    if c["source"] == e.SOURCE_RISK:
        code = came_back(state, rings, seq)
        if code != 0:
            return code
    code = instrument_code(state, instrument)
    if code != 0:
        return code
    row = state.instruments_reserve[instrument]
    if kind == e.SET_FEES:
        return 0
    pending["price_ticks"] = 0
    if c["source"] == e.SOURCE_RISK and not risk_may(row, c, wanted):
        # A command of risk's own that finds the market changed has nothing to do.
        return 0
    if not may_become(row["status"], wanted):
        return r.BAD_STATE
    if c["source"] != e.SOURCE_RISK and auction_end_code(c, wanted) != 0:
        return r.AUCTION_END
    pending["price_ticks"] = wanted
    pending["qty_lots"] = 0
    if gathers:
        pending["qty_lots"] = state.instruments[instrument]["reference_e8"] // row["tick_e8"]
    if uncrosses(row["status"], wanted):
        # What trades then is what bands count from.
        pending["flags"] = e.JUDGED_UNCROSS
        state.meta[s.BARRIER] = seq
    row["status"] = wanted
    row["auction_seq"] = seq if wanted == e.INSTRUMENT_AUCTION else 0
    return 0


@inner
def reserve_prices(state, c, pending):
    """SET_PRICES: the matcher keeps them, and obeys them where orders may trade."""
    code = instrument_code(state, c["instrument"])
    if code != 0:
        return code
    mark = c["price_ticks"]
    index = c["qty_lots"]
    if mark < 0 or index < 0 or (mark == 0 and index == 0):
        return r.BAD_PRICE
    if mark >= AMOUNT_LIMIT or index >= AMOUNT_LIMIT:
        return r.RANGE
    status = state.instruments_reserve[c["instrument"]]["status"]
    if status == e.INSTRUMENT_DELISTED:
        return r.INSTRUMENT_DELISTED
    if state.meta[s.VENUE_STATE_RESERVE] != e.VENUE_OPEN:
        return r.MAINTENANCE
    if (states.ALLOWED[status] & states.TAKE) == 0:
        pending["flags"] = e.JUDGED_NO_TAKE
    return 0


@inner
def reserve_bands(state, c, listing, auction, slots, seq):
    """SET_BANDS: reserve's copy of the bands; the reference is settle's, hence a barrier. ``auction``: the third slot, if it is there."""
    code = instrument_code(state, c["instrument"])
    if code != 0:
        return code
    if listing["type"] != e.EXT_LISTING or listing["reference_ticks"] < 0:
        return r.BAD_LISTING
    row = state.instruments_reserve[c["instrument"]]
    if not bands_are_valid(listing["band_up_e8"], listing["band_down_e8"], listing["breaker_e8"]):
        return r.BAD_LISTING
    if not product_below_limit(listing["reference_ticks"], row["tick_e8"]):
        return r.RANGE
    if slots > 2 and auction["type"] == e.EXT_AUCTION and not auction_rules_are_valid(auction):
        return r.BAD_AUCTION
    row["band_up_e8"] = listing["band_up_e8"]
    row["band_down_e8"] = listing["band_down_e8"]
    row["breaker_e8"] = listing["breaker_e8"]
    state.meta[s.BARRIER] = seq
    return 0


@inner
def reserve_asset(state, c, ext):
    """LIST_ASSET: reserve's copy says that the asset exists."""
    asset = c["asset"]
    if asset < 1 or asset >= state.assets.shape[0]:
        return r.UNKNOWN_ASSET
    if state.assets[asset]["status_reserve"] != 0:
        return r.ASSET_EXISTS
    if ext["type"] != e.EXT_ASSET or ext["scale"] < 0 or ext["scale"] > 10:
        return r.BAD_LISTING
    state.assets[asset]["status_reserve"] = 1
    state.assets[asset]["scale"] = ext["scale"]
    return 0


@inner
def reserve_listing(state, c, ext, auction, slots, seq, pending):
    """LIST_INSTRUMENT: every rule of ``protocol.instruments`` again; the verdict tells the matcher K and lot_atoms.

    ``auction``: the third slot, if it is there.
    Whether its rates may meet those of schedules is asked of the settled tables: hence a wait, rare as listings are.
    """
    instrument = c["instrument"]
    ts_ns = c["ts_ns"]
    table = state.instruments_reserve
    if instrument < 1 or instrument >= table.shape[0]:
        return r.UNKNOWN_INSTRUMENT
    if table[instrument]["status"] != e.INSTRUMENT_NONE:
        return r.INSTRUMENT_EXISTS
    if ext["type"] != e.EXT_LISTING:
        return r.BAD_LISTING
    if asset_code(state, ext["base"]) != 0 or asset_code(state, ext["quote"]) != 0:
        return r.UNKNOWN_ASSET
    if ext["base"] == ext["quote"]:
        return r.BAD_LISTING
    base_scale = state.assets[ext["base"]]["scale"]
    k = listing_multiplier(ext["tick_e8"], ext["lot_atoms"], base_scale, state.assets[ext["quote"]]["scale"])
    if k == 0 or not product_below_limit(ext["reference_ticks"], ext["tick_e8"]):
        return r.BAD_LISTING
    if not exact_or_wait(state, seq, NO_BARRIER):
        return WAIT
    broken = listing_is_valid(
        k,
        ext["lot_atoms"],
        ext["maker_rate_e8"],
        ext["taker_rate_e8"],
        ext["band_up_e8"],
        ext["band_down_e8"],
        ext["reference_ticks"],
        ext["breaker_e8"],
        ext["price_max_ticks"],
        ext["qty_max_lots"],
    )
    if broken != 0:
        return r.BAD_FEE if broken == 2 else r.BAD_LISTING
    if slots > 2 and auction["type"] == e.EXT_AUCTION and not auction_rules_are_valid(auction):
        return r.BAD_AUCTION
    code = listing_fees_code(state, ts_ns, ext["maker_rate_e8"], ext["taker_rate_e8"])
    if code != 0:
        return code
    copy_listing(table[instrument], ext, k)
    state.meta[s.BARRIER] = seq
    pending["price_ticks"] = k
    pending["qty_lots"] = ext["lot_atoms"]
    return 0


@inner
def copy_listing(row, ext, multiplier):
    """Fill an instrument row from the listing slot, all but the symbol; trading is open."""
    row["status"] = e.INSTRUMENT_OPEN
    row["base"] = ext["base"]
    row["quote"] = ext["quote"]
    row["tick_e8"] = ext["tick_e8"]
    row["lot_atoms"] = ext["lot_atoms"]
    row["multiplier"] = multiplier
    row["maker_rate_e8"] = ext["maker_rate_e8"]
    row["taker_rate_e8"] = ext["taker_rate_e8"]
    row["band_up_e8"] = ext["band_up_e8"]
    row["band_down_e8"] = ext["band_down_e8"]
    row["breaker_e8"] = ext["breaker_e8"]
    row["price_max_ticks"] = ext["price_max_ticks"]
    row["qty_max_lots"] = ext["qty_max_lots"]
    row["reference_e8"] = ext["reference_ticks"] * ext["tick_e8"]
