"""The records of the core: commands (128 bytes), verdicts (32), events (64), outcomes (128).

The matcher reads only the first cache line of a command. A command longer than a slot is a *group*: a head and later
slots, all but the last with ``FLAG_MORE``; each slot has its own seq. Reserved bytes are zero.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol.fields import Field, Record, schema_hash

SLOT_BYTES: Final = 128
VERSION: Final = 1
"""Schema version that each command carries; journals of an older one stay readable."""

_HEAD = (
    Field("seq", "<i8", 0, "place in the one total order; in an ingress ring the producer's number", wire=False),
    Field("ts_ns", "<i8", 8, "sequenced time, ns UTC, never falling", wire=False),
    Field("type", "u1", 16, "command type"),
    Field("side", "u1", 17, "BUY or SELL"),
    Field("tif", "u1", 18, "time in force"),
    Field("stp", "u1", 19, "self-trade prevention mode"),
    Field("flags", "<u4", 20, "FLAG_*"),
    Field("account", "<i4", 24, "account, 1..accounts_max; 0 = any or none", wire=False),
    Field("instrument", "<i4", 28, "instrument, 1..instruments_max; 0 = any or none"),
    Field("order_id", "<i8", 32, "order (or withdrawal hold) that the command enters or names"),
    Field(
        "price_ticks",
        "<i8",
        40,
        "limit, protection or new price; SET_PRICES: mark price, 0 = as it was; "
        "SET_FEES: maker rate e8; SET_TIMER: period ns; SET_SCHEDULE: effective ts_ns, 0 = at once; "
        "ASSIGN_FEES, SET_LIMITS, KILL, REVIVE: SCOPE_*; SET_STATE: INSTRUMENT_* or VENUE_*; "
        "SET_GROUPS: master; SET_VOLUME_RATE: rate e8; CANCEL_ALL: CANCEL_*; DEAD_MAN: duration ns, 0 = disarm; "
        "SET_PROTECTION: window ns",
    ),
    Field(
        "qty_lots",
        "<i8",
        48,
        "quantity, new total, or amount in units; SET_PRICES: index price; "
        "SET_FEES: taker rate e8; SET_TIMER: phase ns; SET_SCHEDULE, ASSIGN_FEES: schedule; "
        "SET_GROUPS: firm; CANCEL_ALL: CAUSE_*; SET_PROTECTION: lots; "
        "SET_STATE: ts_ns at which an auction ends, 0 = with another command",
    ),
    Field(
        "trigger_price_ticks",
        "<i8",
        56,
        "stop or take-profit price; of a trailing stop its activation price, 0 = none; "
        "SET_SCHEDULE: API discount e8; SCOPE_FIRM: the firm; SET_GROUPS: self-trade group; "
        "CANCEL_ALL, DEAD_MAN: session, source << 16 | number, 0 = any; SET_PROTECTION: net lots; "
        "SET_STATE: state behind an auction that has an end, from risk the seq of the auction that it ends",
    ),
    Field("source", "<u2", 64, "producer slot", wire=False),
    Field("version", "u1", 66, "schema version of this record", wire=False),
    Field("trigger_ref", "u1", 67, "TRIGGER_*: price that a stop waits for; of a peg PEG_*"),
    Field("margin_mode", "u1", 68, "margin mode"),
    Field("offset_kind", "u1", 69, "OFFSET_*: what the offset of a trailing stop counts"),
    Field("session", "<u2", 70, "session within the gateway", wire=False),
    Field("source_seq", "<i8", 72, "the producer's own gapless number", wire=False),
)

COMMAND: Final = Record(
    "command",
    SLOT_BYTES,
    (
        *_HEAD,
        Field(
            "entry_ts_ns",
            "<i8",
            80,
            "when the gateway received it, ns UTC; with a virtual clock the sequenced time",
            wire=False,
        ),
        Field(
            "sub_account",
            "<i4",
            88,
            "TRANSFER: the account that receives; of a trailing stop: the offset, in offset_kind",
        ),
        Field(
            "stp_group",
            "<i4",
            92,
            "accounts of one group do not trade with one another; 0 = the account alone",
            wire=False,
        ),
        Field("asset", "<i4", 96, "asset of a money command"),
        Field("timer", "<i4", 100, "SET_TIMER and TICK: the timer's row"),
        Field("display_qty_lots", "<i8", 104, "visible part of an iceberg; 0 = all"),
        Field("min_qty_lots", "<i8", 112, "minimum quantity of the first execution"),
        Field("expiry_ts_ns", "<i8", 120, "good-till date; 0 = none"),
    ),
)
"""Orders, money and operator commands, and the clock."""

SYSTEM_COMMAND: Final = Record(
    "system_command",
    SLOT_BYTES,
    (
        *_HEAD,
        Field("cost_units", "<i8", 80, "cost promised by the command", wire=False),
        Field("scope_version", "<u4", 88, "version of the scope that the step was computed on", wire=False),
        Field("job", "<u4", 92, "liquidation job", wire=False),
        Field("asset", "<i4", 96, "settle asset", wire=False),
        Field("cause_index", "<u4", 100, "index of the outcome that caused it", wire=False),
        Field("cause_seq", "<i8", 104, "seq of the command that caused it", wire=False),
        Field("budget_units", "<i8", 112, "what the fund may lose", wire=False),
        Field("value_units", "<i8", 120, "value at which a position is taken over", wire=False),
    ),
)
"""Risk's own commands (FLAG_SYSTEM): keyed by their cause."""

MARK_SLOT: Final = Record(
    "mark_slot",
    SLOT_BYTES,
    (
        *_HEAD,
        Field("mark_e8", "<i8", 80, "mark price"),
        Field("index_e8", "<i8", 88, "index price"),
        Field("sample_e8", "<i8", 96, "index sample of the margin multiplier; 0 = none"),
        Field("status", "<u4", 104, "index status"),
    ),
)
"""One contract of a mark group."""

_EXT = (
    Field("seq", "<i8", 0, "seq of this slot", wire=False),
    Field("ts_ns", "<i8", 8, "sequenced time of the group", wire=False),
    Field("type", "u1", 16, "EXT_*"),
    Field("flags", "<u4", 20, "FLAG_MORE on all but the last"),
)

EXT_IDS_SLOT: Final = Record(
    "ext_ids",
    SLOT_BYTES,
    (
        *_EXT,
        Field("client_order_id", "S40", 24, "up to 36 characters, kept whole"),
        Field("link_id", "<i8", 64, "links the orders of a list (OCO, bracket)"),
        Field("tag", "<i8", 72, "follows the order into each of its outcomes"),
        Field("offset", "<i8", 80, "reserved"),
    ),
)

EXT_ADMIN_SLOT: Final = Record(
    "ext_admin",
    SLOT_BYTES,
    (*_EXT, Field("operator", "S32", 24, "who"), Field("reason", "S72", 56, "why")),
)

EXT_LISTING_SLOT: Final = Record(
    "ext_listing",
    SLOT_BYTES,
    (
        *_EXT,
        Field("symbol", "S16", 24, "symbol"),
        Field("base", "<i4", 40, "base asset"),
        Field("quote", "<i4", 44, "quote asset"),
        Field("tick_e8", "<i8", 48, "tick size, 1e-8 quote per base"),
        Field("lot_atoms", "<i8", 56, "lot size, base units"),
        Field("maker_rate_e8", "<i8", 64, "maker fee; negative = rebate"),
        Field("taker_rate_e8", "<i8", 72, "taker fee"),
        Field("band_up_e8", "<i8", 80, "price band above the reference; 0 = none"),
        Field("band_down_e8", "<i8", 88, "price band below the reference; 0 = none"),
        Field("reference_ticks", "<i8", 96, "first reference price; 0 = none until trades give one"),
        Field("breaker_e8", "<i8", 104, "a trade further than this from the reference halts the instrument; 0 = never"),
        Field("price_max_ticks", "<i8", 112, "largest price; 0 = bounded by each order's value alone"),
        Field("qty_max_lots", "<i8", 120, "largest quantity; 0 = likewise"),
    ),
)

EXT_ASSET_SLOT: Final = Record(
    "ext_asset",
    SLOT_BYTES,
    (*_EXT, Field("symbol", "S16", 24, "name of the asset"), Field("scale", "<i4", 40, "decimals of one unit")),
)

EXT_FEES_SLOT: Final = Record(
    "ext_fees",
    SLOT_BYTES,
    (
        *_EXT[:3],
        Field("tiers", "u1", 17, "how many tiers, 1 to 7"),
        Field("product", "u1", 18, "PRODUCT_*"),
        *_EXT[3:],
        *(
            Field(f"min_units_{k}", "<i8", 16 + 8 * k, f"least 30-day volume of tier {k}, in units of the volume asset")
            for k in range(1, 7)
        ),
        *(Field(f"maker_e8_{k}", "<i4", 72 + 4 * k, f"maker rate of tier {k}; negative = rebate") for k in range(7)),
        *(Field(f"taker_e8_{k}", "<i4", 100 + 4 * k, f"taker rate of tier {k}") for k in range(7)),
    ),
)
"""Tiers of a fee schedule; the first one needs no volume."""

EXT_LIMITS_SLOT: Final = Record(
    "ext_limits",
    SLOT_BYTES,
    (
        *_EXT,
        Field("qty_max_lots", "<i8", 24, "largest order in lots; 0 = any"),
        Field("notional_max_units", "<i8", 32, "largest value of an order, in units of the volume asset; 0 = any"),
        Field("open_orders_max", "<i8", 40, "open orders; 0 = any"),
        Field("orders_per_s", "<i8", 48, "new orders and amends in a second; 0 = any"),
        Field("collar_e8", "<i8", 56, "how far from the reference a price may be, in the bad direction; 0 = any"),
    ),
)
"""Pre-trade limits of a scope, all of them anew. Behind these is room for position and daily loss."""

EXT_QUOTES_SLOT: Final = Record(
    "ext_quotes",
    SLOT_BYTES,
    (
        *_EXT,
        Field("account", "<i4", 24, "account, the same as in the head", wire=False),
        Field("instrument", "<i4", 28, "instrument"),
        Field("ask_qty_lots", "<i8", 32, "lots to sell; 0 = no ask"),
        Field("bid_price_ticks", "<i8", 40, "price of the bid"),
        Field("bid_qty_lots", "<i8", 48, "lots to buy; 0 = no bid"),
        Field("ask_price_ticks", "<i8", 56, "price of the ask"),
        Field("quote_id", "<i8", 64, "the client's own number of the quote"),
    ),
)
"""One quote of a mass quote, in its first cache line, where the fields of an order are."""
EXT_LEG_SLOT: Final = Record(
    "ext_leg",
    SLOT_BYTES,
    (
        *(field for field in _HEAD if field.name != "margin_mode"),
        Field("order_type", "u1", 68, "LIMIT or MARKET"),
        Field("offset", "<i4", 88, "of a trailing stop, in offset_kind"),
        Field("role", "<i4", 96, "LEG_*"),
        Field("display_qty_lots", "<i8", 104, "visible part of an iceberg; 0 = all"),
        Field("min_qty_lots", "<i8", 112, "minimum quantity of the first execution"),
        Field("expiry_ts_ns", "<i8", 120, "good-till date; 0 = none"),
    ),
)
"""Another order of a list, its fields where those of a command are; its type alone stands elsewhere."""

EXT_AUCTION_SLOT: Final = Record(
    "ext_auction",
    SLOT_BYTES,
    (
        *_EXT,
        Field(
            "dynamic_e8", "<i8", 24, "a trade further than this from the one before the command interrupts; 0 = never"
        ),
        Field("auction_ns", "<i8", 32, "an interruption is an auction of so long; 0 = it is a halt"),
        Field("random_ns", "<i8", 40, "and of up to so much longer"),
        Field("extensions", "<i8", 48, "how often an auction is lengthened whose price would be beyond the breaker"),
    ),
)
"""What LIST_INSTRUMENT and SET_BANDS set beside the listing's fields; without the slot all of it is 0."""

VERDICT: Final = Record(
    "verdict",
    32,
    (
        Field("seq", "<i8", 0, "slot that it judges"),
        Field("code", "<u2", 8, "VERDICT_OK, a reason, NO_OP or SKIP"),
        Field("flags", "<u2", 10, "JUDGED_*"),
        Field("hold", "<i4", 12, "row of the hold table, -1 = none"),
        Field("price_ticks", "<i8", 16, "effective limit price"),
        Field("qty_lots", "<i8", 24, "effective quantity or amount"),
    ),
)
"""One for each slot of a group."""

EVENT: Final = Record(
    "event",
    64,
    (
        Field("seq", "<i8", 0, "command that caused it"),
        Field("kind", "u1", 8, "EV_*"),
        Field("reason", "u1", 9, "reason of a cancel, expiry or refusal"),
        Field("slot", "u1", 10, "slot within the group"),
        Field("flags", "u1", 11, "EVENT_LAST"),
        Field("instrument", "<i4", 12, "instrument"),
        Field("order_id", "<i8", 16, "order concerned: the maker of a fill, else the one that changed"),
        Field("price_ticks", "<i8", 24, "price of the fill, new price of an amend"),
        Field("qty_lots", "<i8", 32, "lots traded, prevented or removed; new total of an amend"),
        Field("left_lots", "<i8", 40, "what the order concerned has left afterwards"),
        Field(
            "taker_left", "<i8", 48, "what the command's own order has left: lots, or units of a market order by amount"
        ),
        Field("hold", "<i4", 56, "hold row of the order concerned, -1 = none"),
        Field("reserved", "<u4", 60, "zero"),
    ),
)

OUTCOME: Final = Record(
    "outcome",
    SLOT_BYTES,
    (
        Field("seq", "<i8", 0, "command"),
        Field("ts_ns", "<i8", 8, "sequenced time of the command"),
        Field("index", "<u4", 16, "0, 1, 2, … within the command"),
        Field("kind", "u1", 20, "OUT_*"),
        Field("flags", "u1", 21, "OUTCOME_*"),
        Field(
            "reason",
            "<u2",
            22,
            "reason of a refusal, cancel or expiry; OUT_TRADE: fee rule, 0 = the instrument's own rates",
        ),
        Field("account", "<i4", 24, "whose"),
        Field("instrument", "<i4", 28, "instrument, 0 = none"),
        Field("order_id", "<i8", 32, "order or withdrawal hold"),
        Field("price_ticks", "<i8", 40, "price of the order or of the trade"),
        Field("qty_lots", "<i8", 48, "total of the order, or lots of this trade, cancel, prevention"),
        Field("cum_qty_lots", "<i8", 56, "lots traded over the order's life"),
        Field("leaves_qty_lots", "<i8", 64, "lots (or units of a market order by amount) left"),
        Field("value_units", "<i8", 72, "value of the trade in quote units; amount of a money command"),
        Field("fee_units", "<i8", 80, "fee paid; negative = rebate received"),
        Field("free_units", "<i8", 88, "free balance afterwards of the asset received (or concerned)"),
        Field("locked_units", "<i8", 96, "locked balance afterwards of the asset paid (or concerned)"),
        Field(
            "contra_order_id",
            "<i8",
            104,
            "OUT_TRADE: the other side's order; else the order that it is linked with, 0 = none",
        ),
        Field("source", "u1", 112, "producer of the command"),
        Field("fee_tier", "u1", 113, "OUT_TRADE: tier of the fee rule, plus FEE_TIER_API"),
        Field("fee_asset", "<u2", 114, "asset of the fee"),
        Field("asset", "<u2", 116, "asset of free_units"),
        Field("side", "u1", 118, "side of the order"),
        Field("type", "u1", 119, "command type"),
        Field("source_seq", "<i8", 120, "producer's number of the command"),
    ),
)

OUTCOME_POSITION: Final = Record(
    "outcome_position",
    SLOT_BYTES,
    (
        Field("seq", "<i8", 0, "command"),
        Field("ts_ns", "<i8", 8, "sequenced time of the command"),
        Field("index", "<u4", 16, "index of the outcome that it continues"),
        Field("kind", "u1", 20, "OUT_*"),
        Field("flags", "u1", 21, "OUTCOME_*"),
        Field("reason", "<u2", 22, "reason"),
        Field("account", "<i4", 24, "whose"),
        Field("instrument", "<i4", 28, "contract"),
        Field("wallet_units", "<i8", 32, "wallet afterwards"),
        Field("position_lots", "<i8", 40, "signed position afterwards"),
        Field("cost_units", "<i8", 48, "signed cost afterwards"),
        Field("realised_units", "<i8", 56, "realised profit or loss"),
        Field("funding_units", "<i8", 64, "funding paid or received"),
        Field("liquidation_fee_units", "<i8", 72, "liquidation fee"),
        Field("job", "<u4", 80, "liquidation job"),
        Field("cause_index", "<u4", 84, "outcome that caused it"),
        Field("cause_seq", "<i8", 88, "command that caused it"),
    ),
)
"""Second slot of an outcome about a position (OUTCOME_MORE on the first)."""

OUTCOME_IDS: Final = Record(
    "outcome_ids",
    SLOT_BYTES,
    (
        Field("seq", "<i8", 0, "command"),
        Field("ts_ns", "<i8", 8, "sequenced time of the command"),
        Field("index", "<u4", 16, "index of this outcome"),
        Field("kind", "u1", 20, "OUT_IDS"),
        Field("flags", "u1", 21, "OUTCOME_*"),
        Field("account", "<i4", 24, "whose"),
        Field("instrument", "<i4", 28, "instrument"),
        Field("order_id", "<i8", 32, "order"),
        Field("client_order_id", "S40", 40, "the client's own id"),
        Field("link_id", "<i8", 80, "list of orders"),
        Field("tag", "<i8", 88, "client's tag"),
        Field("source", "u1", 112, "producer of the command"),
        Field("source_seq", "<i8", 120, "producer's number of the command"),
    ),
)

OUTCOME_DUPLICATE: Final = Record(
    "outcome_duplicate",
    SLOT_BYTES,
    (
        Field("seq", "<i8", 0, "command"),
        Field("ts_ns", "<i8", 8, "sequenced time of the command"),
        Field("index", "<u4", 16, "0"),
        Field("kind", "u1", 20, "OUT_REJECTED"),
        Field("flags", "u1", 21, "OUTCOME_LAST"),
        Field("reason", "<u2", 22, "DUPLICATE_CLIENT_ID"),
        Field("account", "<i4", 24, "whose"),
        Field("instrument", "<i4", 28, "instrument of the refused order"),
        Field("order_id", "<i8", 32, "the refused order"),
        Field("price_ticks", "<i8", 40, "price of the refused order"),
        Field("qty_lots", "<i8", 48, "quantity of the refused order"),
        Field("first_cum_qty_lots", "<i8", 56, "lots that the first order has traded"),
        Field("first_leaves_qty_lots", "<i8", 64, "lots that it has left; 0 when it has ended"),
        Field("first_value_units", "<i8", 72, "value of its trades in quote units"),
        Field("first_ended_ts_ns", "<i8", 80, "sequenced time of its end, from which the id's time counts; 0 = open"),
        Field("first_instrument", "<i4", 88, "its instrument"),
        Field("first_reason", "<u2", 92, "why it ended without being filled; 0 = open or filled"),
        Field("first_state", "u1", 94, "ORDER_STATE_*"),
        Field("first_order_id", "<i8", 104, "the order that has the client order id"),
        Field("source", "u1", 112, "producer of the command"),
        Field("side", "u1", 118, "side of the refused order"),
        Field("type", "u1", 119, "command type"),
        Field("source_seq", "<i8", 120, "producer's number of the command"),
    ),
)
"""Refusal of a second use of a client order id: what became of the first order, so that a client that lost a reply knows."""

COMMAND_DTYPE: Final = COMMAND.slot_dtype
VERDICT_DTYPE: Final = VERDICT.slot_dtype
EVENT_DTYPE: Final = EVENT.slot_dtype
OUTCOME_DTYPE: Final = OUTCOME.slot_dtype

COMMAND_VIEWS: Final = (
    COMMAND,
    SYSTEM_COMMAND,
    MARK_SLOT,
    EXT_IDS_SLOT,
    EXT_ADMIN_SLOT,
    EXT_LISTING_SLOT,
    EXT_ASSET_SLOT,
    EXT_FEES_SLOT,
    EXT_LIMITS_SLOT,
    EXT_LEG_SLOT,
    EXT_QUOTES_SLOT,
    EXT_AUCTION_SLOT,
)
OUTCOME_VIEWS: Final = (OUTCOME, OUTCOME_POSITION, OUTCOME_IDS, OUTCOME_DUPLICATE)

COMMAND_SCHEMA: Final = schema_hash(*COMMAND_VIEWS)
VERDICT_SCHEMA: Final = schema_hash(VERDICT)
EVENT_SCHEMA: Final = schema_hash(EVENT)
OUTCOME_SCHEMA: Final = schema_hash(*OUTCOME_VIEWS)

CLIENT_ORDER_ID_MAX: Final = 36


def command_slots(count: int) -> np.ndarray:
    """``count`` zeroed command slots with the record's version filled in."""
    slots = np.zeros(count, dtype=COMMAND_DTYPE)
    slots["version"] = VERSION
    return slots
