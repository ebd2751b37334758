"""Risk's tables: accounts, balances, assets, instruments (reserve's copy and settle's copy), holds, withdrawal holds, outbox.

All are preallocated arrays of fixed size; row 0 of accounts, assets and instruments stands for none. What *reserve*
writes and what *settle* writes is told apart field by field, because reserve runs ahead: it may read a settled field
early only where ``inflight`` bounds it or no barrier that covers it is in flight (ARCHITECTURE.md, invariant 2).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol.enums import FEE_TIERS_MAX
from protocol.instance import Limits
from protocol.records import COMMAND_DTYPE, SLOT_BYTES
from ringbuf.bundle import Bundle
from ringbuf.idtable import id_shift

# --- balances: int64[(accounts + 1) * (assets + 1) * 8], one cache line a row, guarded by a sequence lock for readers -----------------
FREE: Final = 0  # settle
LOCKED: Final = 1  # settle
INFLIGHT: Final = 2  # reserve adds, settle takes off: holds promised and not yet in the ledger
PRINCIPAL: Final = 3  # reserved for spot margin
INTEREST: Final = 4  # reserved for spot margin
ROW_VERSION: Final = 5  # odd while the row changes
ROW_SEQ: Final = 6  # command that last changed it
BALANCE_WORDS: Final = 8

ACCOUNT_DTYPE: Final = np.dtype(
    {
        "names": [
            "status",
            "status_reserve",
            "activity",
            "seq",
            "master",
            "firm",
            "stp_group",
            "schedule",
            "contracts",
            "volume_day",
            "volume_units",
            "today_units",
        ],
        "formats": ["u1", "u1", "<i4", "<i8"] + ["<i4"] * 6 + ["<i8"] * 2,
        "offsets": [0, 1, 4, 8, 16, 20, 24, 28, 32, 36, 40, 48],
        "itemsize": 64,
    }
)
"""``status``: settle's copy; ``status_reserve``: reserve's; ``activity``: live and in-flight orders and money commands in flight (0: the
settled state of the account is exact, no wait is needed).

``master``, ``firm``, ``stp_group`` have one copy, because they change only where everything before is settled; 0 = itself, none, alone.
Of a master: ``volume_units`` is the sum of the 30 days before ``volume_day`` (days since 1970), ``today_units`` what that day has so far.
``schedule``, ``contracts`` (how many of its instruments have fees of their own) and volumes are settle's."""

VOLUME_DAYS: Final = 30
VOLUME_RING: Final = 32
DAY_NS: Final = 86_400_000_000_000

FEE_WORDS: Final = 8
FEE_MIN: Final = 0
FEE_MAKER: Final = 1
FEE_TAKER: Final = 2
FEE_MAKER_API: Final = 3
FEE_TAKER_API: Final = 4
"""Words of a row of ``fee_tiers``; rates with the API discount are taken from the others once."""

SCHEDULE_DTYPE: Final = np.dtype(
    {
        "names": ["current", "planned", "versions", "lowest_maker_e8", "lowest_taker_e8"],
        "formats": ["<i4", "<i4", "<i4", "<i8", "<i8"],
        "offsets": [0, 4, 8, 16, 24],
        "itemsize": 32,
    }
)
"""Rows of ``fee_versions``: the one in force, the next planned one (0 = none); how many versions it ever had (0 = no schedule).

``current`` moves on when somebody looks at a later time. The lowest rates are of these versions; used only where fees are set."""

FEE_VERSION_DTYPE: Final = np.dtype(
    {
        "names": ["schedule", "version", "next", "tiers", "effective_ts_ns", "api_discount_e8", "seq"],
        "formats": ["<i4"] * 4 + ["<i8"] * 3,
        "offsets": [0, 4, 8, 12, 16, 24, 32],
        "itemsize": 64,
    }
)
"""A version of a schedule; its row number is the *rule* that fills name. ``next``: the planned version behind it."""

CONTRACT_DTYPE: Final = np.dtype([("account", "<i4"), ("instrument", "<i4"), ("schedule", "<i4"), ("spare", "<i4")])
"""Open-addressing table by (account, instrument); ``account`` 0 = empty. A row stays when its schedule is taken away."""

ASSET_DTYPE: Final = np.dtype(
    {
        "names": [
            "symbol",
            "scale",
            "status_reserve",
            "status",
            "fee_units",
            "net_deposits_units",
            "seq",
            "volume_rate_e8",
            "taker_fee_units",
            "maker_fee_units",
            "rebate_units",
        ],
        "formats": ["S16", "<i4", "u1", "u1"] + ["<i8"] * 7,
        "offsets": [0, 16, 20, 21, *range(24, 80, 8)],
        "itemsize": 128,
    }
)
"""System accounts of an asset: ``fee_units`` (FEE) and ``net_deposits_units`` (minus the external account). Room for insurance, lending,
interest and deficit.

FEE by type: ``taker_fee_units + maker_fee_units - rebate_units``; what is missing to ``fee_units`` is older than the types.
``volume_rate_e8``: units of the volume asset for 1e8 units of this one; it changes only where everything before is settled."""

REFERENCE_SAMPLES: Final = 30

LIMITS_DTYPE: Final = np.dtype(
    {
        "names": [
            "qty_max_lots",
            "notional_max_units",
            "collar_e8",
            "open_orders_max",
            "orders_per_s",
            "open_orders",
            "orders_in_second",
            "second",
            "killed",
            "is_on",
        ],
        "formats": ["<i8"] * 3 + ["<i4"] * 4 + ["<i8", "u1", "u1"],
        "offsets": [0, 8, 16, 24, 28, 32, 36, 40, 48, 49],
        "itemsize": 128,
    }
)
"""Limits of a scope, 0 = none, and what is counted against them: see ``risk.limits``. Room for position and daily loss.

``open_orders``: live and in flight, kept up where ``open_orders_max`` is set. ``second``: since 1970, of ``orders_in_second``."""

INSTRUMENT_DTYPE: Final = np.dtype(
    {
        "names": [
            "symbol",
            "status",
            "breaker_pending",
            "follows_venue",
            "auction_then",
            "base",
            "quote",
            "tick_e8",
            "lot_atoms",
            "multiplier",
            "maker_rate_e8",
            "taker_rate_e8",
            "band_up_e8",
            "band_down_e8",
            "breaker_e8",
            "price_max_ticks",
            "qty_max_lots",
            "reference_e8",
            "last_price_ticks",
            "sample_next",
            "sample_count",
            "seq",
            "schedule",
            "extensions",
            "extended",
            "lowest_maker_e8",
            "lowest_taker_e8",
            "dynamic_e8",
            "auction_ns",
            "random_ns",
            "auction_seq",
            "auction_end_ts_ns",
            "indicative_ticks",
            "moved_seq",
            "moved_from_ticks",
        ],
        "formats": ["S16", "u1", "u1", "u1", "u1", "<i4", "<i4"]
        + ["<i8"] * 12
        + ["<i4", "<i4", "<i8", "<i4", "u1", "u1"]
        + ["<i8"] * 10,
        "offsets": [0, 16, 17, 18, 19, 20, 24, *range(32, 128, 8), 128, 132, 136, 144, 148, 149, *range(152, 232, 8)],
        "itemsize": 256,
    }
)
"""``reference_e8`` (1e-8 quote per base) is the mean of the last price over the latest samples; it moves at clock ticks only.

``auction_seq``: the command that began the auction, in both copies. Settle's: ``auction_end_ts_ns`` 0 = another command ends it,
``auction_then`` the state behind it, ``extended`` how often it was made longer, ``indicative_ticks`` its price as last published.
``moved_from_ticks``: last price before the command ``moved_seq``, from which the dynamic band counts; kept where there is one.

Fees, settle's copy: ``schedule`` 0 = none: then the instrument's own rates, or with ``follows_venue`` the venue's schedule before them.
The lowest rates are of all that may meet here; used only where fees are set."""

HOLD_DTYPE: Final = np.dtype(
    {
        "names": [
            "order_id",
            "account",
            "instrument",
            "price_ticks",
            "left_lots",
            "total_lots",
            "traded_lots",
            "locked_units",
            "state",
            "side",
            "type",
            "tif",
            "stp",
            "position_side",
            "flags",
            "amends_inflight",
            "prevented_lots",
            "value_units",
            "next",
            "client_tag",
            "seq",
            "entry_ts_ns",
            "display_lots",
            "shown_lots",
            "expiry_ts_ns",
        ],
        "formats": ["<i8", "<i4", "<i4"] + ["<i8"] * 5 + ["u1"] * 8 + ["<i8", "<i8", "<i4", "<i4"] + ["<i8"] * 5,
        "offsets": [0, 8, 12, 16, 24, 32, 40, 48, *range(56, 64), 64, 72, 80, 84, *range(88, 128, 8)],
        "itemsize": 128,
    }
)
"""An open order as risk sees it. ``left_lots`` counts units for a market order by amount. ``locked_units`` is what the ledger holds for it.
``value_units``: quote units traded so far. ``next``: of a free row the next free one, of an order the row of its exits, 0 = none.
``client_tag``: hash of account and client order id, where there is one.

With HOLD_TERMS: what an iceberg shows at most (0 = all) and shows now, and when the order expires (0 = never); else these mean nothing.
Below zero ``display_lots`` is that of a pegged order, of which nothing is hidden: minus the price at which it stands."""

HOLD_HAS_IDS: Final = 1
HOLD_HAS_CLIENT_ID: Final = 2
HOLD_API: Final = 4
HOLD_TERMS: Final = 8
HOLD_STOP: Final = 16  # entered as an order that waits for a price …
HOLD_WAITS: Final = 32  # … and it waits still: settle's
HOLD_QUOTE: Final = 64
HOLD_LINKED: Final = 128  # what happens first to it or to the order of ``hold_links`` ends the other

HOLD_ID_WORDS: Final = 8
"""Client order id (5 words), link id, tag: the words 3..10 of the EXT_IDS slot."""

CLIENT_ID_WORDS: Final = 5
"""The client order id alone: the words 3..7 of the EXT_IDS slot, the words 0..4 of a row of ``hold_ids``."""

FINISHED_DTYPE: Final = np.dtype(
    {
        "names": [
            "order_id",
            "ended_ts_ns",
            "traded_lots",
            "value_units",
            "account",
            "instrument",
            "client_tag",
            "reason",
            "state",
        ],
        "formats": ["<i8"] * 4 + ["<i4"] * 3 + ["<u2", "u1"],
        "offsets": [0, 8, 16, 24, 32, 36, 40, 44, 46],
        "itemsize": 64,
    }
)
"""An order with a client order id that was filled or expired; a ring in the order of their ends, written by settle alone. The id is in
``finished_ids``."""

WITHDRAWAL_DTYPE: Final = np.dtype(
    [("hold_id", "<i8"), ("amount_units", "<i8"), ("account", "<i4"), ("asset", "<i4"), ("seq", "<i8")]
)
"""Open-addressing table by hold id; ``hold_id`` 0 = empty."""

DEAD_MAN_DTYPE: Final = np.dtype(
    [("until_ns", "<i8"), ("account", "<i4"), ("instrument", "<i4"), ("session", "<i8"), ("spare", "<i8")]
)
"""A dead-man timer: what it cancels, instrument and session 0 = any, and when. Rows without a gap, written by settle alone."""

DEAD_MEN_MAX: Final = 1024
"""Timers that are armed, or have fired and whose cancel has not come back."""

EXITS_MAX: Final = 1 << 14
"""Orders with exits that are open, or whose exits have been asked for and have not come back."""

EXITS_PER_ORDER: Final = 2
EXIT_WORDS: Final = 16
EXITS_RECEIVED: Final = 0  # settle: units received net of fees; of a free row: the next free one
EXITS_SLOTS: Final = 1  # how many slots follow
EXITS_FLAGS: Final = 2  # FLAG_API where the entry has it
EXITS_SESSION: Final = 3  # of the entry
EXITS_FIRST: Final = 4  # the slots as they came: each exit, and its ids where it has any
EXITS_WORDS: Final = EXITS_FIRST + 2 * EXITS_PER_ORDER * EXIT_WORDS
"""Words of a row of ``exits``; row 0 stands for none, and the hold row of the entry names its row."""

PENDING_DTYPE: Final = np.dtype(
    {
        "names": [
            "inflight_units",
            "balance",
            "price_ticks",
            "qty_lots",
            "hold",
            "slots",
            "code",
            "flags",
            "first",
            "ask_units",
            "ask_hold",
        ],
        "formats": ["<i8", "<i8", "<i8", "<i8", "<i4", "<i4", "<u2", "<u2", "<i4", "<i8", "<i4"],
        "offsets": [0, 8, 16, 24, 32, 36, 40, 42, 44, 48, 56],
        "itemsize": 64,
    }
)
"""What reserve concluded about a command and settle needs; ring of ``window`` rows by seq.

``balance`` is the first word of its row, -1 = none. ``flags``: JUDGED_*.
``first``: of a duplicate client order id, what has it (see ``risk.client_ids``). The slot of a quote has a row of its own, in which
promise and hold are the bid's, ``ask_units`` and ``ask_hold`` the ask's."""

QUOTE_DTYPE: Final = np.dtype([("account", "<i4"), ("instrument", "<i4"), ("hold", "<i4", (2,))])
"""The live orders of an account's quote, hold row + 1 by side, 0 = none. Open-addressing table, ``account`` 0 = empty; settle's."""

PROTECTION_DTYPE: Final = np.dtype([("account", "<i4"), ("instrument", "<i4")])
"""Who has market-maker protection where: rows without a gap; they change
only where everything before is settled. What it is and counts is the matcher's."""

PROTECTIONS_MAX: Final = 1024

# --- meta: int64[META_WORDS] ------------------------------------------------------------------------------------------
RESERVED: Final = 0  # last slot reserved
SETTLED: Final = 1  # last slot settled
HOLD_FREE: Final = 2  # head of the list of free hold rows, -1 = none
HOLDS_USED: Final = 3  # live and in-flight orders
HOLDS_HIGH: Final = 4  # rows ever used
BARRIER: Final = 5  # last command that moves settled fields which reserve reads (clock ticks, bands)
WITHDRAWALS_USED: Final = 6
OUTCOMES_FOLDED: Final = 7  # settle: outcomes that are in the hash of outcomes
OUTBOX_PUSHED: Final = 8  # settle: commands ever pushed
OUTBOX_TICKED: Final = 9  # reserve: commands that came back
OUTBOX_SETTLED: Final = 10  # settle: commands that came back and are settled
VERDICT_HASH: Final = 11  # reserve: rolling
OUTCOME_HASH: Final = 12  # settle: rolling
OUTCOMES: Final = 13  # settle: outcomes ever published
TRADES: Final = 14
REFUSALS: Final = 15
EXACT_WAITS: Final = 16
# Place of settle within the command after SETTLED.
PHASE: Final = 17
INDEX: Final = 18
REMOVED: Final = 19
SHARDS_DONE: Final = 20  # bit mask
CHECKPOINT_SEQ: Final = 22  # last checkpoint settled
CHECKPOINT_VERDICT_HASH: Final = 23
CHECKPOINT_OUTCOME_HASH: Final = 24
CHECKPOINT_STATE_HASH: Final = 25
FAULT: Final = 26  # number of a broken invariant; the engine stops
WAITED_SEQ: Final = 27  # last command that waited for exact state, counted once
ACCOUNTS_HIGH: Final = 28  # settle: highest account number
TOUCHED_SCOPES: Final = 29  # settle: scopes that the command touched and that are not examined yet
INDEX_SHIFT: Final = 30  # of ``other_orders``
FINISHED: Final = 31  # settle: client order ids ever put into the table of finished ones
FINISHED_EARLY: Final = 32  # settle: those that left it before their time
FINISHED_HASH: Final = 33  # settle: rolling
CLIENT_ID_TTL_NS: Final = 34  # fixed for a home
FEE_VERSIONS: Final = 35  # settle: rows of ``fee_versions`` in use
CONTRACTS: Final = 36  # settle: rows of ``contracts`` in use
VENUE_SCHEDULE: Final = 37  # settle: of spot; the next words are those of other products
LIMITED: Final = 41  # scopes that limit anything
COLLARS: Final = 42  # scopes with a price collar
VENUE_STATE_RESERVE: Final = 43  # reserve: VENUE_*
VENUE_STATE: Final = 44  # settle's copy
DEAD_MEN: Final = 56  # settle: dead-man timers that are armed
DEAD_MEN_FIRED: Final = 57  # settle: cancels of timers that have not come back
TAKER_HOLD: Final = 45  # settle: hold of the order that trades now within the command
QUOTES_TAKEN: Final = 58  # settle: quotes taken, and refused, of the mass quote in progress
QUOTES_REFUSED: Final = 59
PROTECTIONS: Final = 60  # settle: rows of ``protections`` in use
EXITS_USED: Final = 48  # reserve adds, settle takes off: orders whose exits are held or asked for
EXITS_HIGH: Final = 49  # reserve: rows of ``exits`` ever used
EXITS_FREE: Final = 50  # head of the list of free rows, 0 = none
AUCTIONS: Final = 47  # settle: instruments in an auction that has an end
META_WORDS: Final = 64

PHASE_NONE: Final = 0
PHASE_OPEN: Final = 1
PHASE_BOTH: Final = 2  # of two linked orders both have begun

FAULT_NONE: Final = 0
FAULT_NEGATIVE_BALANCE: Final = 1
FAULT_EVENT_ORDER: Final = 2
FAULT_HOLD_MISMATCH: Final = 3
FAULT_LOCK_LEFT: Final = 4
FAULT_OUTBOX_DIFFERS: Final = 5
FAULT_INFLIGHT: Final = 6
FAULT_SEQ: Final = 7
FAULT_UNKNOWN_EVENT: Final = 8

FAULT_TEXT: Final = {
    FAULT_NEGATIVE_BALANCE: "a balance would have become negative",
    FAULT_EVENT_ORDER: "an event of another command than the one being settled arrived",
    FAULT_HOLD_MISMATCH: "an event names a hold that belongs to another order",
    FAULT_LOCK_LEFT: "a finished limit order still holds funds, or holds less than none",
    FAULT_OUTBOX_DIFFERS: "a command of risk came back different from what the outbox holds",
    FAULT_INFLIGHT: "funds are promised although every earlier command is settled",
    FAULT_SEQ: "the command ring skipped a number",
    FAULT_UNKNOWN_EVENT: "the matcher sent an event of an unknown kind",
}


def table_capacity(rows: int) -> int:
    """Capacity of an open-addressing table for ``rows`` rows: a power of two, at most half full."""
    return 1 << max(4, (2 * rows - 1).bit_length())


INDEX_ARRAYS: Final = ("recent_orders", "other_orders")
"""Arrays that say where the hold of an order is, and nothing that the holds do not say."""


def state_spec(limits: Limits, window: int) -> list[tuple[str, np.dtype, tuple[int, ...]]]:
    """Names, dtypes and shapes of the arrays of ``RiskState``."""
    i8, i4 = np.dtype("<i8"), np.dtype("<i4")
    return [
        ("meta", i8, (META_WORDS,)),
        ("balances", i8, ((limits.accounts + 1) * (limits.assets + 1) * BALANCE_WORDS,)),
        ("accounts", ACCOUNT_DTYPE, (limits.accounts + 1,)),
        ("assets", ASSET_DTYPE, (limits.assets + 1,)),
        ("instruments_reserve", INSTRUMENT_DTYPE, (limits.instruments + 1,)),
        ("instruments", INSTRUMENT_DTYPE, (limits.instruments + 1,)),
        ("samples_e8", i8, (limits.instruments + 1, REFERENCE_SAMPLES)),
        ("holds", HOLD_DTYPE, (limits.orders,)),
        ("hold_ids", i8, (limits.orders, HOLD_ID_WORDS)),
        ("hold_links", i4, (limits.orders,)),  # with HOLD_LINKED: row of the other order
        ("leg", COMMAND_DTYPE, (2,)),  # the second order of a group as a command, or two exits, while it is reserved
        ("finished", FINISHED_DTYPE, (limits.client_ids,)),
        ("finished_ids", i8, (limits.client_ids, CLIENT_ID_WORDS)),
        ("client_index", i8, (table_capacity(limits.orders + limits.client_ids),)),
        (
            "recent_orders",
            np.dtype("<u4"),
            (table_capacity(limits.orders),),
        ),  # number hold + 1; see ``ringbuf.idtable``
        ("other_orders", np.dtype("<u4"), (table_capacity(limits.orders),)),
        ("withdrawals", WITHDRAWAL_DTYPE, (table_capacity(limits.withdrawal_holds),)),
        ("pending", PENDING_DTYPE, (window,)),
        ("timer_periods_ns", i8, (limits.timers,)),
        ("schedules", SCHEDULE_DTYPE, (limits.fee_schedules + 1,)),
        ("fee_versions", FEE_VERSION_DTYPE, (limits.fee_versions + 1,)),
        ("fee_tiers", i8, ((limits.fee_versions + 1) * FEE_TIERS_MAX * FEE_WORDS,)),
        ("contracts", CONTRACT_DTYPE, (table_capacity(limits.fee_contracts),)),
        ("firm_schedules", i4, (limits.firms + 1,)),
        # Of the venue, each account, each user, each firm, each instrument: see ``risk.limits.limits_row``.
        ("limits", LIMITS_DTYPE, (1 + 2 * (limits.accounts + 1) + limits.firms + 1 + limits.instruments + 1,)),
        ("volumes", i8, ((limits.accounts + 1) * VOLUME_RING,)),  # of a master, by day modulo VOLUME_RING
        ("dead_men", DEAD_MAN_DTYPE, (DEAD_MEN_MAX,)),
        ("quotes", QUOTE_DTYPE, (table_capacity(limits.orders),)),
        ("protections", PROTECTION_DTYPE, (PROTECTIONS_MAX,)),
        ("exits", i8, (EXITS_MAX + 1, EXITS_WORDS)),
        # A row for each circuit breaker, for each timer, and for each slot of exits.
        ("outbox", i8, (limits.outbox + DEAD_MEN_MAX + 2 * EXITS_PER_ORDER * EXITS_MAX, SLOT_BYTES // 8)),
    ]


def make_state(arrays: dict[str, np.ndarray]) -> Bundle:
    """The state over arrays that exist already (as recovery left them)."""
    return Bundle(**arrays, outbox_slots=arrays["outbox"].view(COMMAND_DTYPE).reshape(-1))


def set_index_shift(state: Bundle) -> None:
    """Note how long the tables of the index are."""
    state.meta[INDEX_SHIFT] = id_shift(len(state.other_orders))


def reset(state: Bundle, limits: Limits) -> None:
    """Initialise freshly zeroed arrays that were made for ``limits``."""
    from protocol.hashing import ROLL_START

    state.meta[HOLD_FREE] = -1
    set_index_shift(state)
    state.meta[VERDICT_HASH] = ROLL_START
    state.meta[OUTCOME_HASH] = ROLL_START
    state.meta[CLIENT_ID_TTL_NS] = limits.client_id_ttl_ms * 1_000_000
