"""Settle's copy of what operators and the clock change."""

from __future__ import annotations

from protocol import enums as e
from protocol.jit import inner
from ringbuf.atomics import store_release
from risk import state as s
from risk.auctions import risk_may, settle_market
from risk.bands import set_reference, tick_references
from risk.dead_men import settle_dead_man
from risk.fees import settle_assignment, settle_own_rates, settle_schedule
from risk.hashes import state_hash
from risk.outcomes import emit_rejected, emit_simple, fold_outcomes
from risk.reserve_markets import copy_listing, wanted_state


@inner
def ends_with_count(c):
    """Whether the last outcome of a command says how many orders it removed."""
    kind = c["type"]
    delists = kind == e.SET_STATE and c["instrument"] != 0 and c["price_ticks"] == e.INSTRUMENT_DELISTED
    return kind == e.CANCEL_ALL or kind == e.KILL or kind == e.EXPIRE or delists


@inner
def settle_fees(state, rings, c):
    """Commands about fees are decided here: whether all that may meet is sound is a question about settled tables."""
    kind = c["type"]
    if kind == e.SET_FEES:
        code = settle_own_rates(state, c)
    elif kind == e.SET_SCHEDULE:
        code = settle_schedule(state, rings, c)
    else:
        code = settle_assignment(state, c)
    if code != 0:
        emit_rejected(state, rings, c, code)
    else:
        emit_simple(state, rings, c, e.OUT_ADMIN, e.OUTCOME_LAST)


@inner
def settle_admin(state, rings, c, pending):
    """Settle's copy of what operators and the clock change."""
    kind = c["type"]
    mask = rings.commands.slots.shape[0] - 1
    seq = c["seq"]
    if kind == e.SET_FEES or kind == e.SET_SCHEDULE or kind == e.ASSIGN_FEES:
        settle_fees(state, rings, c)
        return
    if kind == e.DEAD_MAN:
        code = settle_dead_man(state, c)
        if code != 0:
            emit_rejected(state, rings, c, code)
            return
    elif kind == e.SET_STATE:
        settle_state(state, c)
    elif kind == e.FREEZE:
        state.accounts[c["account"]]["status"] = e.ACCOUNT_FROZEN
    elif kind == e.UNFREEZE or kind == e.CREATE_ACCOUNT:
        state.accounts[c["account"]]["status"] = e.ACCOUNT_OPEN
        state.meta[s.ACCOUNTS_HIGH] = max(state.meta[s.ACCOUNTS_HIGH], c["account"])
    elif kind == e.CLOSE_ACCOUNT:
        state.accounts[c["account"]]["status"] = e.ACCOUNT_CLOSED
    elif kind == e.LIST_ASSET:
        row = state.assets[c["asset"]]
        row["status"] = 1
        row["symbol"] = rings.asset_slots[seq & mask]["symbol"]
        row["seq"] = seq
    elif kind == e.LIST_INSTRUMENT:
        row = state.instruments[c["instrument"]]
        listing = rings.listing_slots[seq & mask]
        copy_listing(row, listing, pending["price_ticks"])
        settle_interruptions(row, rings.auction_slots[(seq + 1) & mask], pending["slots"])
        row["symbol"] = listing["symbol"]
        row["seq"] = seq
        row["follows_venue"] = listing["maker_rate_e8"] == 0 and listing["taker_rate_e8"] == 0
    elif kind == e.SET_BANDS:
        row = state.instruments[c["instrument"]]
        settle_bands(row, rings.listing_slots[seq & mask], rings.auction_slots[(seq + 1) & mask], pending["slots"])
    elif kind == e.TICK:
        tick_references(state)
    elif kind == e.SET_TIMER:
        state.timer_periods_ns[c["timer"]] = c["price_ticks"]
    if kind == e.CHECKPOINT:
        settle_checkpoint(state, rings, c, pending)
    else:
        emit_simple(state, rings, c, e.OUT_ADMIN, e.OUTCOME_LAST)


@inner
def settle_state(state, c):
    """Settle's copy of the state of an instrument's market, or of the venue."""
    if c["instrument"] == 0:
        state.meta[s.VENUE_STATE] = c["price_ticks"]
        return
    row = state.instruments[c["instrument"]]
    wanted = wanted_state(c)
    if c["source"] == e.SOURCE_RISK:
        row["breaker_pending"] = 0
        state.meta[s.OUTBOX_SETTLED] += 1
        if not risk_may(row, c, wanted):
            return
    settle_market(state, c, row, wanted)


@inner
def settle_bands(row, listing, auction, slots):
    """Settle's copy of the bands; a reference given replaces the samples. ``auction``: the third slot, where the group has so many."""
    settle_interruptions(row, auction, slots)
    row["band_up_e8"] = listing["band_up_e8"]
    row["band_down_e8"] = listing["band_down_e8"]
    row["breaker_e8"] = listing["breaker_e8"]
    if listing["reference_ticks"] > 0:
        set_reference(row, listing["reference_ticks"])


@inner
def settle_interruptions(row, auction, slots):
    """What a listing, or bands, say of the dynamic band and of auctions; without that slot it is 0."""
    given = slots > 2 and auction["type"] == e.EXT_AUCTION
    row["dynamic_e8"] = auction["dynamic_e8"] if given else 0
    row["auction_ns"] = auction["auction_ns"] if given else 0
    row["random_ns"] = auction["random_ns"] if given else 0
    row["extensions"] = auction["extensions"] if given else 0


@inner
def settle_checkpoint(state, rings, c, pending):
    """Publish the hashes as of this command: verdicts before it, outcomes before it, and the settled state.

    The replica reads them at any moment: each store is seen after the one before it, and there is no seq while the hashes change.
    """
    meta = state.meta
    state_now = state_hash(state)
    fold_outcomes(state, rings)
    store_release(meta, s.CHECKPOINT_SEQ, 0)
    store_release(meta, s.CHECKPOINT_VERDICT_HASH, pending["qty_lots"])
    store_release(meta, s.CHECKPOINT_OUTCOME_HASH, meta[s.OUTCOME_HASH])
    store_release(meta, s.CHECKPOINT_STATE_HASH, state_now)
    store_release(meta, s.CHECKPOINT_SEQ, c["seq"])
    emit_simple(state, rings, c, e.OUT_CHECKPOINT, e.OUTCOME_LAST)
