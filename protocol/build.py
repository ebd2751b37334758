"""Builders of command groups: what a producer fills, one small array of slots each, ``FLAG_MORE`` on all but the last.

A builder does not number: ``stamp`` gives a block of finished groups its source, its gapless source numbers and the ids
of its new orders. Operator commands end with a slot that says who and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from protocol import enums as e
from protocol.instruments import Asset, Instrument
from protocol.records import (
    CLIENT_ORDER_ID_MAX,
    COMMAND_DTYPE,
    EXT_ADMIN_SLOT,
    EXT_ASSET_SLOT,
    EXT_AUCTION_SLOT,
    EXT_FEES_SLOT,
    EXT_IDS_SLOT,
    EXT_LEG_SLOT,
    EXT_LIMITS_SLOT,
    EXT_LISTING_SLOT,
    EXT_QUOTES_SLOT,
    command_slots,
)

OPERATOR_BYTES: Final = 32
REASON_BYTES: Final = 72
_RATE_MAX: Final = (1 << 31) - 1
NAMING_TYPES: Final = (e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.WITHDRAW_HOLD)
"""Commands that bring a new order or hold into the world, under an id made of their own number."""


def limit(
    *,
    account: int,
    instrument: int,
    side: int,
    price_ticks: int,
    qty_lots: int,
    tif: int = e.GTC,
    stp: int = e.STP_NONE,
    entry_ts_ns: int = 0,
) -> np.ndarray:
    """Limit order."""
    return _order(e.LIMIT, account, instrument, side, price_ticks, qty_lots, tif, stp, entry_ts_ns)


def market(
    *,
    account: int,
    instrument: int,
    side: int,
    qty_lots: int,
    price_ticks: int = 0,
    stp: int = e.STP_NONE,
    entry_ts_ns: int = 0,
) -> np.ndarray:
    """Market order by quantity; ``price_ticks`` is the protection price, 0 = from the price band."""
    return _order(e.MARKET, account, instrument, side, price_ticks, qty_lots, e.GTC, stp, entry_ts_ns)


def market_amount(
    *,
    account: int,
    instrument: int,
    side: int,
    amount_units: int,
    price_ticks: int = 0,
    stp: int = e.STP_NONE,
    entry_ts_ns: int = 0,
) -> np.ndarray:
    """Market order by quote units to spend (buy) or to receive (sell)."""
    return _order(e.MARKET_AMOUNT, account, instrument, side, price_ticks, amount_units, e.GTC, stp, entry_ts_ns)


def cancel(*, account: int, instrument: int, order_id: int, entry_ts_ns: int = 0) -> np.ndarray:
    """Cancel one resting order."""
    group = _head(e.CANCEL, account=account, instrument=instrument)
    group["order_id"] = order_id
    group["entry_ts_ns"] = entry_ts_ns
    return group


def cancel_all(
    *,
    account: int = 0,
    instrument: int = 0,
    session: int = 0,
    sides: int = e.CANCEL_BOTH,
    cause: int = e.CAUSE_ASKED,
    entry_ts_ns: int = 0,
) -> np.ndarray:
    """Cancel every resting order of the account, instrument and session (``session_of``; 0 = any, not all three), of some sides.

    A gateway sends that of a session that has ended with CAUSE_DISCONNECT.
    """
    group = _head(e.CANCEL_ALL, account=account, instrument=instrument)
    group["trigger_price_ticks"] = session
    group["price_ticks"] = sides
    group["qty_lots"] = cause
    group["entry_ts_ns"] = entry_ts_ns
    return group


def quote(
    instrument: int, bid_price_ticks: int, bid_qty_lots: int, ask_price_ticks: int, ask_qty_lots: int, quote_id: int = 0
) -> np.ndarray:
    """A quote for ``mass_quote``; quantity 0 = no order on that side."""
    slot = np.zeros(1, dtype=EXT_QUOTES_SLOT.slot_dtype)
    slot["type"] = e.EXT_QUOTES
    slot["instrument"] = instrument
    slot["bid_price_ticks"], slot["bid_qty_lots"] = bid_price_ticks, bid_qty_lots
    slot["ask_price_ticks"], slot["ask_qty_lots"] = ask_price_ticks, ask_qty_lots
    slot["quote_id"] = quote_id
    return slot.view(COMMAND_DTYPE)


def mass_quote(*, account: int, quotes: Sequence[np.ndarray], entry_ts_ns: int = 0) -> np.ndarray:
    """Up to 100 quotes of an account, of an instrument each, in place of those that it has in these instruments."""
    head = _head(e.QUOTE, account=account)
    head["tif"] = e.POST_ONLY
    head["entry_ts_ns"] = entry_ts_ns
    group = _group(head, *quotes)
    group["account"] = account
    return group


def set_protection(
    account: int, instrument: int, *, window_ns: int, qty_lots: int = 0, net_lots: int = 0, trades: int = 0
) -> np.ndarray:
    """Pull the account's quotes in the instrument when so much has traded with them in a window; all 0 = never. Quoting starts anew."""
    group = _head(e.SET_PROTECTION, account=account, instrument=instrument)
    group["price_ticks"] = window_ns
    group["qty_lots"] = qty_lots
    group["trigger_price_ticks"] = net_lots
    group["order_id"] = trades
    return group


def session_of(source: int, number: int) -> int:
    """Name of the session ``number`` (1 to 65535) of the gateway ``source``."""
    return source << e.SESSION_SHIFT | number


def dead_man(*, account: int, duration_ns: int, instrument: int = 0, session: int = 0) -> np.ndarray:
    """Arm, or renew, a timer that cancels the account's orders (of one instrument, of one session); 0 disarms it."""
    group = _head(e.DEAD_MAN, account=account, instrument=instrument)
    group["price_ticks"] = duration_ns
    group["trigger_price_ticks"] = session
    return group


def batch(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Commands that are applied without another producer's, or the clock's, in between; to be numbered and published together.

    ValueError where they have more than ``GROUP_SLOTS_MAX`` slots together, or are none.
    """
    slots = np.concatenate(list(groups)) if groups else command_slots(0)
    if not 0 < len(slots) <= e.GROUP_SLOTS_MAX:
        msg = f"{len(slots)} slots: a batch has 1 to {e.GROUP_SLOTS_MAX} of all its commands together; send it in parts"
        raise ValueError(msg)
    last = np.cumsum([len(group) for group in groups]) - 1
    slots["flags"][last[:-1]] |= np.uint32(e.FLAG_BATCH)
    return slots


def amend(
    *, account: int, instrument: int, order_id: int, price_ticks: int, qty_lots: int, entry_ts_ns: int = 0
) -> np.ndarray:
    """Give a resting order a new price and a new total quantity."""
    group = _head(e.AMEND, account=account, instrument=instrument)
    group["order_id"] = order_id
    group["price_ticks"] = price_ticks
    group["qty_lots"] = qty_lots
    group["entry_ts_ns"] = entry_ts_ns
    return group


def deposit(account: int, asset: int, amount_units: int, operator: str, reason: str) -> np.ndarray:
    """Bring ``amount_units`` of the asset into the account."""
    return _money(e.DEPOSIT, account, asset, amount_units, 0, operator, reason)


def adjust(account: int, asset: int, amount_units: int, operator: str, reason: str) -> np.ndarray:
    """Signed correction of an account against the external account."""
    return _money(e.ADJUST, account, asset, amount_units, 0, operator, reason)


def withdraw_hold(account: int, asset: int, amount_units: int, operator: str, reason: str) -> np.ndarray:
    """Move an amount from free to locked for a withdrawal; the hold's id is the order id that ``stamp`` gives."""
    return _money(e.WITHDRAW_HOLD, account, asset, amount_units, 0, operator, reason)


def withdraw_settle(account: int, hold_id: int, operator: str, reason: str) -> np.ndarray:
    """The held amount has left the exchange."""
    return _money(e.WITHDRAW_SETTLE, account, 0, 0, hold_id, operator, reason)


def withdraw_release(account: int, hold_id: int, operator: str, reason: str) -> np.ndarray:
    """The held amount goes back to free."""
    return _money(e.WITHDRAW_RELEASE, account, 0, 0, hold_id, operator, reason)


def transfer(account: int, to: int, asset: int, amount_units: int, operator: str, reason: str) -> np.ndarray:
    """Move an amount to another account of the same master."""
    group = _money(e.TRANSFER, account, asset, amount_units, 0, operator, reason)
    group["sub_account"][0] = to
    return group


def create_account(account: int, operator: str, reason: str) -> np.ndarray:
    """Open account number ``account``."""
    return _group(_head(e.CREATE_ACCOUNT, account=account), admin_slot(operator, reason))


def close_account(account: int, operator: str, reason: str) -> np.ndarray:
    """Close an empty account."""
    return _group(_head(e.CLOSE_ACCOUNT, account=account), admin_slot(operator, reason))


def freeze(account: int, operator: str, reason: str) -> np.ndarray:
    """Refuse the account's new orders, amends and withdrawal holds from here on."""
    return _group(_head(e.FREEZE, account=account), admin_slot(operator, reason))


def unfreeze(account: int, operator: str, reason: str) -> np.ndarray:
    """Undo a freeze."""
    return _group(_head(e.UNFREEZE, account=account), admin_slot(operator, reason))


def halt(instrument: int, operator: str, reason: str) -> np.ndarray:
    """Refuse new orders and amends of the instrument from here on."""
    return _group(_head(e.HALT, instrument=instrument), admin_slot(operator, reason))


def resume(instrument: int, operator: str, reason: str) -> np.ndarray:
    """Undo a halt."""
    return _group(_head(e.RESUME, instrument=instrument), admin_slot(operator, reason))


def set_fees(instrument: int, maker_rate_e8: int, taker_rate_e8: int, operator: str, reason: str) -> np.ndarray:
    """Fee rates in 1e-8; a negative maker rate is a rebate."""
    head = _head(e.SET_FEES, instrument=instrument)
    head["price_ticks"] = maker_rate_e8
    head["qty_lots"] = taker_rate_e8
    return _group(head, admin_slot(operator, reason))


def set_schedule(
    schedule: int,
    tiers: Sequence[tuple[int, int, int]],
    operator: str,
    reason: str,
    *,
    api_discount_e8: int = 0,
    effective_ts_ns: int = 0,
    product: int = e.PRODUCT_SPOT,
) -> np.ndarray:
    """Another version of a fee schedule, in force from ``effective_ts_ns`` on (0, or a past time: at once).

    ``tiers``: least 30-day volume in units of the volume asset (0 of the first one), maker rate, taker rate in 1e-8; 1 to 7.
    ValueError where they do not fit into their slot; whether they make sense is risk's to say.
    """
    if not 0 < len(tiers) <= e.FEE_TIERS_MAX or tiers[0][0] != 0:
        msg = f"{len(tiers)} tiers, the first from {tiers[0][0] if tiers else 'nowhere'}: 1 to {e.FEE_TIERS_MAX}, the first from volume 0"
        raise ValueError(msg)
    head = _head(e.SET_SCHEDULE)
    head["qty_lots"] = schedule
    head["price_ticks"] = effective_ts_ns
    head["trigger_price_ticks"] = api_discount_e8
    slot = np.zeros(1, dtype=EXT_FEES_SLOT.slot_dtype)
    slot["type"] = e.EXT_FEES
    slot["tiers"] = len(tiers)
    slot["product"] = product
    for k, (least_units, maker_e8, taker_e8) in enumerate(tiers):
        if k:
            slot[f"min_units_{k}"] = least_units
        slot[f"maker_e8_{k}"] = _rate(maker_e8)
        slot[f"taker_e8_{k}"] = _rate(taker_e8)
    return _group(head, slot.view(COMMAND_DTYPE), admin_slot(operator, reason))


def assign_fees(
    scope: int, schedule: int, operator: str, reason: str, *, account: int = 0, instrument: int = 0, firm: int = 0
) -> np.ndarray:
    """Give a scope (SCOPE_VENUE, _ACCOUNT, _FIRM, _INSTRUMENT, _CONTRACT) a fee schedule; 0 takes it away."""
    head = _scoped(e.ASSIGN_FEES, scope, account, instrument, firm)
    head["qty_lots"] = schedule
    return _group(head, admin_slot(operator, reason))


def set_volume_rate(asset: int, rate_e8: int, operator: str, reason: str) -> np.ndarray:
    """What volume and notional count an asset: units of the volume asset for 1e8 units of it; 0 = nothing."""
    head = _head(e.SET_VOLUME_RATE)
    head["asset"] = asset
    head["price_ticks"] = rate_e8
    return _group(head, admin_slot(operator, reason))


def set_groups(account: int, master: int, firm: int, stp_group: int, operator: str, reason: str) -> np.ndarray:
    """Whose volume and limits an account's orders count to (0 = its own), its firm (0 = none), its self-trade group (0 = alone)."""
    head = _head(e.SET_GROUPS, account=account)
    head["price_ticks"] = master
    head["qty_lots"] = firm
    head["trigger_price_ticks"] = stp_group
    return _group(head, admin_slot(operator, reason))


def set_limits(
    scope: int,
    operator: str,
    reason: str,
    *,
    account: int = 0,
    instrument: int = 0,
    firm: int = 0,
    qty_max_lots: int = 0,
    notional_max_units: int = 0,
    open_orders_max: int = 0,
    orders_per_s: int = 0,
    collar_e8: int = 0,
) -> np.ndarray:
    """All pre-trade limits of a scope (SCOPE_VENUE to _INSTRUMENT; of a user the master's account); 0 = no limit."""
    slot = np.zeros(1, dtype=EXT_LIMITS_SLOT.slot_dtype)
    slot["type"] = e.EXT_LIMITS
    slot["qty_max_lots"] = qty_max_lots
    slot["notional_max_units"] = notional_max_units
    slot["open_orders_max"] = open_orders_max
    slot["orders_per_s"] = orders_per_s
    slot["collar_e8"] = collar_e8
    head = _scoped(e.SET_LIMITS, scope, account, instrument, firm)
    return _group(head, slot.view(COMMAND_DTYPE), admin_slot(operator, reason))


def set_state(
    instrument: int, state: int, operator: str, reason: str, *, end_ts_ns: int = 0, then: int = 0
) -> np.ndarray:
    """Put an instrument's market into a state (INSTRUMENT_*); instrument 0: the venue (VENUE_*).

    An auction may have an end, and a state that follows it by itself at the first second of the clock from then on.
    """
    head = _head(e.SET_STATE, instrument=instrument)
    head["price_ticks"] = state
    head["qty_lots"] = end_ts_ns
    head["trigger_price_ticks"] = then
    return _group(head, admin_slot(operator, reason))


def kill(scope: int, operator: str, reason: str, *, account: int = 0, instrument: int = 0, firm: int = 0) -> np.ndarray:
    """Cancel all orders of a scope and refuse new ones and amends until ``revive``."""
    return _group(_scoped(e.KILL, scope, account, instrument, firm), admin_slot(operator, reason))


def revive(
    scope: int, operator: str, reason: str, *, account: int = 0, instrument: int = 0, firm: int = 0
) -> np.ndarray:
    """Undo a kill."""
    return _group(_scoped(e.REVIVE, scope, account, instrument, firm), admin_slot(operator, reason))


def set_bands(
    instrument: int,
    *,
    band_up_e8: int,
    band_down_e8: int,
    breaker_e8: int,
    reference_ticks: int,
    operator: str,
    reason: str,
    dynamic_e8: int = 0,
    auction_ns: int = 0,
    random_ns: int = 0,
    extensions: int = 0,
) -> np.ndarray:
    """Price bands and circuit breakers as shares in 1e-8 (0 = off), of the reference or (``dynamic_e8``) of the last trade before.

    ``reference_ticks`` 0 keeps the one in force. With ``auction_ns`` an interruption is an auction of that length, plus
    up to ``random_ns``, and is made longer up to ``extensions`` times where its price would be beyond the breaker; else a halt.
    """
    listing = np.zeros(1, dtype=EXT_LISTING_SLOT.slot_dtype)
    listing["type"] = e.EXT_LISTING
    listing["band_up_e8"] = band_up_e8
    listing["band_down_e8"] = band_down_e8
    listing["breaker_e8"] = breaker_e8
    listing["reference_ticks"] = reference_ticks
    head = _head(e.SET_BANDS, instrument=instrument)
    auction = _interruptions(dynamic_e8, auction_ns, random_ns, extensions)
    return _group(head, listing.view(COMMAND_DTYPE), *auction, admin_slot(operator, reason))


def _interruptions(dynamic_e8: int, auction_ns: int, random_ns: int, extensions: int) -> list[np.ndarray]:
    """The slot EXT_AUCTION, if it would say something."""
    if not (dynamic_e8 or auction_ns or random_ns or extensions):
        return []
    auction = np.zeros(1, dtype=EXT_AUCTION_SLOT.slot_dtype)
    auction["type"] = e.EXT_AUCTION
    auction["dynamic_e8"] = dynamic_e8
    auction["auction_ns"] = auction_ns
    auction["random_ns"] = random_ns
    auction["extensions"] = extensions
    return [auction.view(COMMAND_DTYPE)]


def set_timer(timer: int, period_ns: int, phase_ns: int, operator: str, reason: str) -> np.ndarray:
    """Row ``timer`` of the sequencer's table ticks whenever ts = phase modulo period; period 0 stops it."""
    head = _head(e.SET_TIMER)
    head["timer"] = timer
    head["price_ticks"] = period_ns
    head["qty_lots"] = phase_ns
    return _group(head, admin_slot(operator, reason))


def list_asset(asset: Asset, operator: str, reason: str) -> np.ndarray:
    """Enter an asset into the tables under its number."""
    head = _head(e.LIST_ASSET)
    head["asset"] = asset.index
    slot = np.zeros(1, dtype=EXT_ASSET_SLOT.slot_dtype)
    slot["type"] = e.EXT_ASSET
    slot["symbol"] = _text(asset.symbol, 16, "asset symbol")
    slot["scale"] = asset.scale
    return _group(head, slot.view(COMMAND_DTYPE), admin_slot(operator, reason))


def list_instrument(
    instrument: Instrument,
    operator: str,
    reason: str,
    *,
    dynamic_e8: int = 0,
    auction_ns: int = 0,
    random_ns: int = 0,
    extensions: int = 0,
) -> np.ndarray:
    """Enter an instrument into the tables under its number; both assets must be listed before.

    Dynamic band and auctions of interruptions are as those of ``set_bands``.
    """
    head = _head(e.LIST_INSTRUMENT, instrument=instrument.index)
    slot = np.zeros(1, dtype=EXT_LISTING_SLOT.slot_dtype)
    slot["type"] = e.EXT_LISTING
    slot["symbol"] = _text(instrument.symbol, 16, "instrument symbol")
    slot["base"] = instrument.base.index
    slot["quote"] = instrument.quote.index
    for name in (
        "tick_e8",
        "lot_atoms",
        "maker_rate_e8",
        "taker_rate_e8",
        "band_up_e8",
        "band_down_e8",
        "reference_ticks",
        "breaker_e8",
        "price_max_ticks",
        "qty_max_lots",
    ):
        slot[name] = getattr(instrument, name)
    auction = _interruptions(dynamic_e8, auction_ns, random_ns, extensions)
    return _group(head, slot.view(COMMAND_DTYPE), *auction, admin_slot(operator, reason))


def with_terms(
    group: np.ndarray, *, display_qty_lots: int = 0, min_qty_lots: int = 0, expiry_ts_ns: int = 0
) -> np.ndarray:
    """The group of a new order with terms: what it shows, what it must trade at once, when it expires (EXPIRY_DAY: with the UTC day)."""
    named = group.copy()
    named["flags"][0] |= np.uint32(e.FLAG_TERMS)
    named["display_qty_lots"][0] = display_qty_lots
    named["min_qty_lots"][0] = min_qty_lots
    named["expiry_ts_ns"][0] = expiry_ts_ns
    return named


def with_trigger(
    group: np.ndarray,
    *,
    trigger_price_ticks: int = 0,
    trigger_ref: int = e.TRIGGER_LAST,
    takes_profit: bool = False,
    offset_kind: int = e.OFFSET_NONE,
    offset: int = 0,
) -> np.ndarray:
    """The group of a new order that waits for a price: for a stop or take-profit price, or trailing it by an offset.

    Of a trailing stop ``trigger_price_ticks`` is the activation price, 0 = it trails at once.
    """
    named = group.copy()
    named["flags"][0] |= np.uint32(e.FLAG_TRIGGER | (e.FLAG_TAKE_PROFIT if takes_profit else 0))
    named["trigger_price_ticks"][0] = trigger_price_ticks
    named["trigger_ref"][0] = trigger_ref
    named["offset_kind"][0] = offset_kind
    named["sub_account"][0] = offset
    return named


def with_peg(group: np.ndarray, ref: int, offset: int = 0) -> np.ndarray:
    """The group of a new limit order that follows a best price (PEG_*), ``offset`` ticks above it or, below zero, below it."""
    named = group.copy()
    named["flags"][0] |= np.uint32(e.FLAG_PEG)
    named["trigger_ref"][0] = ref
    named["offset_kind"][0] = e.OFFSET_TICKS if offset else e.OFFSET_NONE
    named["sub_account"][0] = offset
    return named


def set_prices(instrument: int, mark_ticks: int = 0, index_ticks: int = 0) -> np.ndarray:
    """SET_PRICES: the mark and index prices that stops wait for; 0 = as it was."""
    head = _head(e.SET_PRICES, instrument=instrument)
    head["price_ticks"] = mark_ticks
    head["qty_lots"] = index_ticks
    return head


def with_client_order_id(group: np.ndarray, client_order_id: str, link_id: int = 0, tag: int = 0) -> np.ndarray:
    """The group with the client's own id (1 to 36 bytes, kept whole) as its second slot.

    ValueError where it is longer or empty.
    """
    slot = np.zeros(1, dtype=EXT_IDS_SLOT.slot_dtype)
    slot["type"] = e.EXT_IDS
    slot["client_order_id"] = _text(client_order_id, CLIENT_ORDER_ID_MAX, "client order id")
    slot["link_id"] = link_id
    slot["tag"] = tag
    return _group(group[:1], slot.view(COMMAND_DTYPE), group[1:])


def oco(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two orders of which what happens first to one ends the other: a limit order or take-profit, and a stop, with terms and ids."""
    return _listed(first, _leg(second, e.LEG_LINKED))


def bracket(entry: np.ndarray, *exits: np.ndarray) -> np.ndarray:
    """An order and one or two exits, each with its ids, that enter when it has traded and ended; two are linked with one another."""
    return _listed(entry, *(_leg(order, e.LEG_EXIT) for order in exits))


def _listed(first: np.ndarray, *legs: np.ndarray) -> np.ndarray:
    group = _group(first, *legs)
    group["flags"][0] |= np.uint32(e.FLAG_LEGS)
    group["account"][group["type"] == e.EXT_LEG] = first["account"][0]
    return group


def _leg(order: np.ndarray, role: int) -> np.ndarray:
    leg = order.copy()
    named = leg[:1].view(EXT_LEG_SLOT.slot_dtype)
    named["order_type"], named["role"] = leg["type"][0], role
    leg["type"][0] = e.EXT_LEG
    leg["entry_ts_ns"][0] = 0
    return leg


def admin_slot(operator: str, reason: str) -> np.ndarray:
    """Last slot of an operator's command: who (1 to 32 bytes) and why (1 to 72 bytes)."""
    slot = np.zeros(1, dtype=EXT_ADMIN_SLOT.slot_dtype)
    slot["type"] = e.EXT_ADMIN
    slot["operator"] = _text(operator, OPERATOR_BYTES, "operator")
    slot["reason"] = _text(reason, REASON_BYTES, "reason")
    return slot.view(COMMAND_DTYPE)


def heads(slots: np.ndarray) -> np.ndarray:
    """Which slots are the first of their group; bool[len(slots)]. The first slot must be a head."""
    first = np.ones(len(slots), dtype=np.bool_)
    first[1:] = (slots["flags"][:-1] & e.FLAG_MORE) == 0
    return first


def order_id_of(source: int, source_seq: int) -> int:
    """Id of the order (or hold) that the source's command number ``source_seq`` brings."""
    return source << e.ORDER_ID_SOURCE_SHIFT | source_seq


def stamp(slots: np.ndarray, source: int, first_source_seq: int, session: int = 0) -> np.ndarray:
    """Number finished groups in place and return them: each slot takes one number, its ring position in word 0.

    Heads also get source, session and source_seq, and new orders and holds their id, ``source << 40 | number of their slot``.
    """
    if len(slots) and slots["flags"][-1] & (e.FLAG_MORE | e.FLAG_BATCH):
        msg = "the last slot says that its group or batch goes on: number whole groups only"
        raise ValueError(msg)
    numbers = np.arange(first_source_seq, first_source_seq + len(slots), dtype=np.int64)
    slots["seq"] = numbers
    at = np.flatnonzero(heads(slots))
    slots["source"][at] = source
    slots["session"][at] = session
    slots["source_seq"][at] = numbers[at]
    new = np.append(at[np.isin(slots["type"][at], NAMING_TYPES)], np.flatnonzero(slots["type"] == e.EXT_LEG))
    slots["order_id"][new] = numbers[new] + order_id_of(source, 0)
    return slots


def _order(
    kind: int, account: int, instrument: int, side: int, price: int, qty: int, tif: int, stp: int, entry_ts_ns: int
) -> np.ndarray:
    group = _head(kind, account=account, instrument=instrument)
    group["side"] = side
    group["tif"] = tif
    group["stp"] = stp
    group["price_ticks"] = price
    group["qty_lots"] = qty
    group["entry_ts_ns"] = entry_ts_ns
    return group


def _money(kind: int, account: int, asset: int, amount: int, hold_id: int, operator: str, reason: str) -> np.ndarray:
    head = _head(kind, account=account)
    head["asset"] = asset
    head["qty_lots"] = amount
    head["order_id"] = hold_id
    return _group(head, admin_slot(operator, reason))


def _head(kind: int, account: int = 0, instrument: int = 0) -> np.ndarray:
    head = command_slots(1)
    head["type"] = kind
    head["account"] = account
    head["instrument"] = instrument
    return head


def _scoped(kind: int, scope: int, account: int, instrument: int, firm: int) -> np.ndarray:
    head = _head(kind, account=account, instrument=instrument)
    head["price_ticks"] = scope
    head["trigger_price_ticks"] = firm
    return head


def _rate(rate_e8: int) -> int:
    if abs(rate_e8) > _RATE_MAX:
        msg = f"rate {rate_e8}: a rate is below 1e8 (100 %)"
        raise ValueError(msg)
    return rate_e8


def _group(*parts: np.ndarray) -> np.ndarray:
    group = np.concatenate(parts)
    group["flags"][:-1] |= np.uint32(e.FLAG_MORE)
    group["flags"][-1] &= ~np.uint32(e.FLAG_MORE)
    return group


def _text(value: str, limit_bytes: int, what: str) -> bytes:
    data = value.encode()
    if not 0 < len(data) <= limit_bytes:
        msg = f"{what} {value!r}: takes 1 to {limit_bytes} bytes, this has {len(data)}"
        raise ValueError(msg)
    return data
