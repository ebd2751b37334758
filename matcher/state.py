"""The state of one matcher shard: named arrays of fixed size, zero at the start, used in place by the kernels.

Zero is "none" in every link, so that a new state is memory as the system gives it, and pages of a large pool that no
order ever reached take no memory. Slot 0 of ``orders`` and row 0 of ``leaves``, ``levels`` and ``nodes`` are never in use:
unlinking writes into them where a neighbour is absent instead of branching on it, so that what they hold means nothing.

Not part of the state of the market: which slot an order has, the order of an account's list, the layout of the hash
tables, cursors.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from protocol.enums import PROTECTION_STEPS
from protocol.records import COMMAND_DTYPE, VERDICT_DTYPE
from ringbuf.idtable import id_shift

LEAF_BITS: Final = 6
LEAF_PRICES: Final = 64
"""Prices that one leaf covers, one bit each."""

NO_ASK: Final = 1 << 62
"""Best ask of an empty side, above every price; the best bid of an empty side is 0."""

PRICE_LIMIT: Final = 1 << 62
"""Prices in ticks are 1 or more and below this."""

ORDER_DTYPE: Final = np.dtype(
    [
        ("order_id", "<i8"),  # 0 = the slot is free
        ("price_ticks", "<i8"),
        ("left_lots", "<i8"),  # of an iceberg: what it shows
        ("total_lots", "<i8"),  # total - left - hidden = traded + prevented
        ("next", "<u4"),  # younger order of the level; of a free slot: the next free one
        ("prev", "<u4"),  # older order of the level
        ("level", "<u4"),  # leaf * 64 + price % 64
        ("hold", "<i4"),  # row of risk's hold table; goes into events, means nothing here
        ("account", "<i4"),
        ("account_next", "<u4"),
        ("account_prev", "<u4"),
        ("book", "<u2"),  # row of the book that it stands in: the instrument, or one of its other books
        ("side", "u1"),
        ("modes", "u1"),  # tif * 16 + HAS_TERMS + stp, and WAITS or IS_QUOTE
    ]
)
"""A resting order: one cache line."""

HAS_TERMS: Final = 8
"""Bit of the modes of an order that has a row in ``terms``."""

IS_QUOTE: Final = 64
"""Bit of the modes of an order that came with a mass quote."""

WAITS: Final = 128
"""Bit of the modes of a stop that waits: its price and side are those of a book of stops, its own are in ``terms``."""

TERMS_DTYPE: Final = np.dtype(
    [
        ("expiry_ns", "<i8"),  # 0 = never
        ("age", "<i8"),  # seq of the command that entered the order
        ("display_lots", "<i8"),  # what it shows at most; 0 = all
        ("hidden_lots", "<i8"),  # left and not shown
        (
            "limit_ticks",
            "<i8",
        ),  # from here on of stops: price limit of the order that enters; of a peg the price that it never passes
        ("min_lots", "<i8"),  # its minimum quantity, 0 = none
        ("due_at", "<u4"),  # its entry of ``due``; 0 = none
        ("trail_next", "<u4"),  # trailing stops of a book and direction, or pegs of a book and side, oldest first
        ("trail_prev", "<u4"),
        (
            "offset",
            "<i4",
        ),  # how far it trails, in what offset_kind says, or how far above its price a peg stands, in ticks
        ("offset_kind", "u1"),  # OFFSET_*; not OFFSET_NONE of an order that does not wait: a peg
        ("side", "u1"),  # of the order that enters
        ("type", "u1"),  # of it, LIMIT or MARKET; of a peg PEG_*
        (
            "activates",
            "u1",
        ),  # OFFSET_* with which it trails when its activation price comes, at which it waits; 0 = none
        ("link", "<u4"),  # slot of the order that it is linked with, 0 = none: see ``matcher.links``
    ]
)
"""Terms of the order in the slot of the same number; means nothing where the order has none."""

REACHED: Final = 128
"""Bit of ``activates`` while the price is there: the order stands on no level."""

LEAF_DTYPE: Final = np.dtype(
    [
        ("bitmap", "<u8"),  # bit b: there are orders at price prefix * 64 + b; 0 = the leaf is kept, or free
        ("higher", "<u4"),  # next leaf of the book by price; of a free leaf: the next free one
        ("lower", "<u4"),
        ("head", "<u4"),  # first order of its one price; entry of ``levels`` at which its block begins
        ("tail", "<u4"),  # last order of its one price; MANY | size of the block << SIZE_SHIFT | book
    ]
)
"""64 neighbouring prices of a book (a price >> 6, the prefix), bids and asks alike: no book is ever crossed, so that the price
tells the side. A leaf with orders at one price has its level in itself, and what it is a leaf of is said by its orders; one with
more has a block of levels."""

MANY: Final = 1 << 31
"""Bit of the tail of a leaf with a block; a number of an order is below it."""

SIZE_SHIFT: Final = 16
"""Place of a block's size in the tail of its leaf, above the book."""

BOOK_MASK: Final = (1 << SIZE_SHIFT) - 1

BLOCK_SIZES: Final = 3
"""Sizes of blocks: 0, 1, 2 hold 4, 16, 64 levels."""

WIDE: Final = MANY | (BLOCK_SIZES - 1) << SIZE_SHIFT
"""Tails from here on: the block has a level for each of the 64 prices, empty or not, while smaller ones hold those in use."""

BLOCK_FEWEST: Final = (2, 4, 13)
"""Prices in use below which a leaf gives a block of each size back for a smaller one: few enough that no price that comes and goes
moves levels each time, and that the block is never more than 43 bytes an order."""

LEVEL_DTYPE: Final = np.dtype([("head", "<u4"), ("tail", "<u4")])
"""First and last order of a price level. The entry before the levels of a block is its prefix, low half first; of a free block, what
follows in the list of its size."""

KEPT_DTYPE: Final = np.dtype([("prefix", "<i8"), ("book", "<u4"), ("leaf", "<u4")])
"""A leaf that stays in its place though no order is left in it; leaf 0 = the row is free. Of such a leaf the bitmap and the tail are 0,
and the head is the number of this row."""

KEPT_MAX: Final = 256
"""Leaves that stay so; the one that has been empty longest goes for the next, so that a scan never passes more."""

NODE_DTYPE: Final = np.dtype([("child", "<u4", (2,))])
"""A fork of the tree over the leaves of a book, by one bit of their prefixes: a word for each value of that bit. A word is the
number of a leaf or node, with AT_LEAF or the number of the bit at which the node forks above it. Of a free node the first word is the
next free one."""

CHILD_SHIFT: Final = 26
CHILD_MASK: Final = (1 << CHILD_SHIFT) - 1
AT_LEAF: Final = 63 << CHILD_SHIFT
"""Words from here on are leaves."""

PROTECTIONS_MAX: Final = 1024

QUOTE_DTYPE: Final = np.dtype(
    [
        ("account", "<i4"),  # 0 = the row is free
        ("instrument", "<i4"),
        ("slot", "<u4", (2,)),  # order of the quote by side, 0 = none
        ("protection", "<u4"),  # row of ``protections``, 0 = none
        ("spare", "<u4"),
    ]
)
"""What an account quotes in an instrument; open-addressing table by both."""

PROTECTION_DTYPE: Final = np.dtype(
    [
        ("window_ns", "<i8"),  # 0 = the row is free
        ("qty_max_lots", "<i8"),  # 0 = any, as below
        ("net_max_lots", "<i8"),
        ("trades_max", "<i8"),
        ("newest", "<i8"),  # number of the newest step of time that anything is counted in
        ("pulled", "<i8"),  # 1 = the quotes were pulled, and none is taken until the protection is set anew
        ("account", "<i4"),
        ("instrument", "<i4"),
        ("spare", "<i8"),
        ("lots", "<i8", (PROTECTION_STEPS,)),  # by step modulo their number
        ("net", "<i8", (PROTECTION_STEPS,)),  # lots bought minus lots sold
        ("trades", "<i8", (PROTECTION_STEPS,)),
    ]
)
"""Market-maker protection of an account in an instrument, and what traded with its quotes in each step of the window."""

GROUPS_DTYPE: Final = np.dtype([("stp_group", "<i4"), ("master", "<i4"), ("firm", "<i4"), ("spare", "<i4")])
"""Of an account: its self-trade group (0 = alone), its master (0 = itself), its firm (0 = none)."""

BOOK_DTYPE: Final = np.dtype(
    [
        ("best_ticks", "<i8", (2,)),  # best bid (0 = none), best ask (NO_ASK = none)
        ("best_level", "<u4", (2,)),  # level of it, 0 = none
        ("root", "<u4"),  # word of its tree over leaves, 0 = it has none; see NODE_DTYPE
        ("reserved", "<u4"),
        ("multiplier", "<i8"),  # K: quote units per tick and lot; 0 = not listed
        (
            "last_ticks",
            "<i8",
        ),  # price of the last trade; of a book of stops: the price that they wait for, as last seen; 0 = none yet; of an auction's: pegs
        ("orders", "<u4"),  # orders that stand here
        ("stops", "<u4"),  # orders of the instrument that wait for a price, or have been set off and not entered
        ("market_state", "u1"),  # INSTRUMENT_*
        ("spare", "u1", (7,)),
    ]
)
"""A book: one cache line. Row ``instrument + stride * kind``, with BOOK_* the kind and ``stride`` the word BOOK_STRIDE of ``meta``.

What is said of the instrument (multiplier, state, stops) stands in the row of its main book.
"""

BOOK_MAIN: Final = 0
BOOK_LAST: Final = 1  # stops that wait for the last price: side BUY = for its fall, SELL = for its rise
BOOK_MARK: Final = 2
BOOK_INDEX: Final = 3
BOOK_AUCTION_BIDS: Final = 4  # bids entered while an auction gathers orders, so that crossed sides share no level
BOOK_AUCTION_ASKS: Final = 5
BOOK_KINDS: Final = 6

# --- words of ``meta`` ------------------------------------------------------------------------------------------------
SHARD: Final = 0  # this shard of …
SHARDS: Final = 1  # … so many; an instrument belongs to shard ``instrument % shards``
APPLIED_SEQ: Final = 2  # last command slot finished
EVENT_POSITION: Final = 3  # last event written to the ring, published or not
EVENT_LIMIT: Final = 4  # the ring has room up to this position
EVENT_FOLDED: Final = 5  # last event that is in the hash of events
EVENT_HASH: Final = 6  # sum of mix(event)
ORDERS_USED: Final = 7  # slots 1..n were in use at some time
ORDERS_FREE: Final = 8  # first of the freed ones
ORDERS_LIVE: Final = 9
LEAVES_USED: Final = 10
LEAVES_FREE: Final = 11
LEAVES_LIVE: Final = 12  # those with orders
NODES_USED: Final = 13
IDS_SHIFT: Final = 14  # of ``other_ids``
LEAF_TABLE_SHIFT: Final = 15
NODES_FREE: Final = 16
KEPT_AT: Final = 62  # row of ``kept`` that was used last
BOOK_STRIDE: Final = 17  # rows of ``books`` of one kind
LEVELS_USED: Final = 18  # entries 1..n of ``levels`` were given to blocks at some time
LEVELS_FREE: Final = 19  # first of the freed blocks, of each of BLOCK_SIZES sizes

STAGE: Final = 24  # STAGE_*: where the command in progress stands
TAKER_SEQ: Final = 25  # the command in progress: its order, as far as trading needs it
TAKER_ID: Final = 26
TAKER_SLOT: Final = 27  # its slot (amend), 0 = none yet
TAKER_PRICE: Final = 28
TAKER_LEFT: Final = 29  # lots, or units of a market order by amount
TAKER_TOTAL: Final = 30
TAKER_HOLD: Final = 31
TAKER_ACCOUNT: Final = 32
TAKER_INSTRUMENT: Final = 33
TAKER_SIDE: Final = 34
TAKER_STP: Final = 35
TAKER_TIF: Final = 36
TAKER_TYPE: Final = 37
SCRATCH_NEXT: Final = 38  # cancel-all: next entry of ``scratch`` …
SCRATCH_COUNT: Final = 39  # … of so many
SCRATCH_REASON: Final = 43  # why they are cancelled
TAKER_EXPIRY: Final = 44  # terms of the taker, for when it rests; the first word is -1 where it has none
TAKER_DISPLAY: Final = 45
DUE_COUNT: Final = 46  # entries of ``due``
TAKER_SESSION: Final = 56
TAKER_TS: Final = 57  # sequenced time of the command in progress
PROTECTIONS_HIGH: Final = 58  # rows 1..n of ``protections`` were in use at some time
TAKER_FIRST: Final = 47  # price of the taker's first fill, 0 = none yet
TAKER_REASON: Final = 51  # STAGE_REFUSED: why
FIRED_HEAD: Final = 48  # orders that the command has set off and that are not entered yet, linked by ``next``; 0 = none
FIRED_TAIL: Final = 49
AUCTIONS: Final = 52  # instruments in an auction
AUCTION_INSTRUMENT: Final = 53  # instrument whose auction is uncrossed, or indicated next; 0 = none
AUCTION_PRICE: Final = 54  # of the one that is uncrossed: its price, 0 = nothing meets, …
AUCTION_LOTS: Final = 55  # … what trades there, …
AUCTION_SURPLUS: Final = 23  # … what is left over, and …
AUCTION_BUYER: Final = 59  # … the buyer that was named last
PEGS: Final = 60  # pegged orders of all instruments
PEG_INSTRUMENT: Final = 61  # instrument whose pegs are moved, 0 = none
PARTS_LEFT: Final = 50  # what else the command has to do when the taker is done (quotes, an auction); 0 = nothing
CHECKPOINT_SEQ: Final = 40  # last checkpoint passed, 0 while the next two words change
CHECKPOINT_EVENT_HASH: Final = 41
CHECKPOINT_BOOKS_HASH: Final = 42
META_WORDS: Final = 64

STAGE_IDLE: Final = 0
STAGE_TRADING: Final = 1  # the taker trades
STAGE_EXPIRED: Final = 2  # trading ended by self-trade prevention; the rest expires
STAGE_RESTING: Final = 3  # trading ended; the rest rests or is dropped
STAGE_REFUSED: Final = 4  # the taker, set off by a price, cannot enter and expires
STAGE_PARTS: Final = 5  # between two takers
STAGE_CANCELING: Final = 6  # cancel-all; this one and those behind it have no taker
STAGE_INDICATING: Final = 7  # where auctions stand is published
STAGE_UNCROSSING: Final = 8  # what was gathered trades
STAGE_PEGGING: Final = 9  # pegged orders move

TRAILING_MAX: Final = 1_000
"""Trailing stops of an instrument that follow one price: each may have to be moved when it moves."""

PEGS_MAX: Final = 1_000
"""Pegged orders of an instrument, for the same reason."""

AUCTION_DTYPE: Final = np.dtype(
    [
        ("reference_ticks", "<i8"),  # price that an auction is near to where it can choose; 0 = none
        ("price_ticks", "<i8"),  # as last published; 0 = nothing meets, or nothing was
        ("lots", "<i8"),
        ("surplus_lots", "<i8"),  # left over at the price, of buyers, or below zero of sellers
    ]
)
"""Of an instrument whose orders gather."""


class MatcherLimits(NamedTuple):
    """Sizes of the pools of one shard.

    Attributes
    ----------
    orders_max : int
        Resting orders, 1 .. 2^30.
    leaves_max : int
        Ranges of 64 neighbouring prices (aligned, per instrument) with orders in them, 1 .. 2^25 - 1. With
        ``orders_max`` of them BOOK_FULL cannot happen; only those ever used take memory (32 bytes for one price with orders,
        half a KiB for 17 or more).
    instruments_max : int
        Largest instrument number, at most 10,921: an order names one of six books of it in 16 bits.
    accounts_max : int
        Largest account number.
    """

    orders_max: int
    leaves_max: int
    instruments_max: int
    accounts_max: int


class MatcherState(NamedTuple):
    """The arrays of a shard, as kernels take them; see the dtypes."""

    meta: np.ndarray
    orders: np.ndarray
    levels: np.ndarray
    leaves: np.ndarray
    books: np.ndarray
    lot_atoms: np.ndarray
    recent_ids: np.ndarray
    other_ids: np.ndarray
    accounts: np.ndarray
    leaf_table: np.ndarray
    nodes: np.ndarray
    scratch: np.ndarray
    groups: np.ndarray
    terms: np.ndarray
    due: np.ndarray
    sessions: np.ndarray
    quotes: np.ndarray
    protections: np.ndarray
    auctions: np.ndarray
    trails: np.ndarray
    stash: np.ndarray
    stash_verdicts: np.ndarray
    kept: np.ndarray


def state_spec(limits: MatcherLimits) -> list[tuple[str, Any, int]]:
    """Names, dtypes and lengths of the arrays of a shard, for an arena."""
    _check(limits)
    return [
        ("meta", np.dtype("<i8"), META_WORDS),
        ("orders", ORDER_DTYPE, limits.orders_max + 1),
        ("levels", LEVEL_DTYPE, _level_entries(limits)),
        ("leaves", LEAF_DTYPE, limits.leaves_max + 1),
        ("books", BOOK_DTYPE, BOOK_KINDS * (limits.instruments_max + 1)),
        ("lot_atoms", np.dtype("<i8"), limits.instruments_max + 1),
        # slots by order id; see ``ringbuf.idtable``
        ("recent_ids", np.dtype("<u4"), _table_size(2 * limits.orders_max)),
        ("other_ids", np.dtype("<u4"), _table_size(2 * limits.orders_max)),
        # first order of each account
        ("accounts", np.dtype("<u4"), limits.accounts_max + 1),
        # leaf of (book, prefix); see ``levels``
        ("leaf_table", np.dtype("<u4"), _table_size(2 * limits.leaves_max)),
        # A tree forks once less than it has leaves.
        ("nodes", NODE_DTYPE, limits.leaves_max + 1),
        ("scratch", np.dtype("<u4"), limits.orders_max + 1),
        ("groups", GROUPS_DTYPE, limits.accounts_max + 1),
        ("terms", TERMS_DTYPE, limits.orders_max + 1),
        ("due", np.dtype("<u4"), limits.orders_max + 1),  # heap of slots, from entry 1 on
        # Number of the session that entered the order, 0 = none; the order's id says of which source.
        ("sessions", np.dtype("<u2"), limits.orders_max + 1),
        # A row is there while an order or a protection is.
        ("quotes", QUOTE_DTYPE, _table_size(2 * (limits.orders_max + PROTECTIONS_MAX))),
        ("protections", PROTECTION_DTYPE, PROTECTIONS_MAX + 1),
        ("auctions", AUCTION_DTYPE, limits.instruments_max + 1),
        # of each book and side: first and last of the stops that trail, or of the pegs, from entry 4 * book + 2 * side on
        ("trails", np.dtype("<u4"), 4 * BOOK_KINDS * (limits.instruments_max + 1)),
        # the two orders of a group of linked ones while they enter
        ("stash", COMMAND_DTYPE, 2),
        ("stash_verdicts", VERDICT_DTYPE, 1),
        ("kept", KEPT_DTYPE, 1 + max(1, min(KEPT_MAX, limits.leaves_max // 4))),
    ]


def make_state(arrays: dict[str, np.ndarray]) -> MatcherState:
    """The arrays of an arena as the tuple that kernels take. A new arena also needs ``reset``."""
    return MatcherState(*(arrays[name] for name in MatcherState._fields))


def reset(state: MatcherState, shard: int = 0, shards: int = 1) -> None:
    """Make the state that of an empty shard: of ``shards`` it is number ``shard``."""
    assert 0 <= shard < shards, f"shard {shard} of {shards}: shards are numbered from 0"
    meta = state.meta
    if meta[SHARDS] != 0:
        for array in state:
            array.view(np.uint8)[:] = 0
    meta[SHARD] = shard
    meta[SHARDS] = shards
    meta[IDS_SHIFT] = id_shift(len(state.other_ids))
    meta[LEAF_TABLE_SHIFT] = _line_shift(len(state.leaf_table), 64, 4)
    meta[BOOK_STRIDE] = len(state.lot_atoms)
    state.books["best_ticks"][:, 1] = NO_ASK


def forget_levels(state: MatcherState) -> None:
    """Make the books and tables of ids empty of a state whose orders another version entered: ``matcher.rebuild.relevel`` does so anew."""
    meta = state.meta
    for array in (
        state.leaves,
        state.levels,
        state.nodes,
        state.leaf_table,
        state.kept,
        state.recent_ids,
        state.other_ids,
    ):
        array.view(np.uint8)[:] = 0
    for word in (LEAVES_USED, LEAVES_FREE, LEAVES_LIVE, NODES_USED, NODES_FREE, LEVELS_USED, KEPT_AT):
        meta[word] = 0
    for size in range(BLOCK_SIZES):
        meta[LEVELS_FREE + size] = 0
    meta[IDS_SHIFT] = id_shift(len(state.other_ids))
    meta[LEAF_TABLE_SHIFT] = _line_shift(len(state.leaf_table), 64, 4)
    meta[BOOK_STRIDE] = len(state.lot_atoms)
    state.books["best_ticks"][:, 0] = 0
    state.books["best_ticks"][:, 1] = NO_ASK
    for name in ("best_level", "root", "reserved"):
        state.books[name] = 0


def limits_of(state: MatcherState) -> MatcherLimits:
    """The limits that the arrays were made for."""
    return MatcherLimits(
        orders_max=len(state.orders) - 1,
        leaves_max=len(state.leaves) - 1,
        instruments_max=len(state.lot_atoms) - 1,
        accounts_max=len(state.accounts) - 1,
    )


def _check(limits: MatcherLimits) -> None:
    for name, value, largest in (
        ("orders_max", limits.orders_max, 1 << 30),
        ("leaves_max", limits.leaves_max, (1 << 25) - 1),
        ("instruments_max", limits.instruments_max, (1 << 16) // BOOK_KINDS - 1),
        ("accounts_max", limits.accounts_max, (1 << 31) - 1),
    ):
        if not 1 <= value <= largest:
            raise ValueError(f"matcher limits: {name} is {value}; it must be between 1 and {largest}")


def _level_entries(limits: MatcherLimits) -> int:
    """So many that blocks cannot run out before orders or leaves do: each block has the fewest prices of its size, and as many orders."""
    blocks = [min(limits.leaves_max, limits.orders_max // fewest) for fewest in BLOCK_FEWEST]
    return 1 + sum(count * block_entries(size) for size, count in enumerate(blocks))


def block_entries(size: int) -> int:
    """Entries of ``levels`` that a block takes: the prefix and its levels."""
    return 1 + (4 << 2 * size)


def _table_size(entries: int) -> int:
    """Least power of two with room for so many entries, and at least 64."""
    return max(64, 1 << (entries - 1).bit_length())


def _line_shift(size: int, word_bits: int, line_bits: int) -> int:
    """How far a hash of ``word_bits`` bits is shifted right to number the lines of 2^line_bits entries of a table."""
    return word_bits - ((size.bit_length() - 1) - line_bits)


assert ORDER_DTYPE.itemsize == 64, "an order is one cache line"
assert LEAF_DTYPE.itemsize == 24, "what one order takes stays below 128 bytes"
assert block_entries(BLOCK_SIZES - 1) == 1 + LEAF_PRICES, "the largest block has a level for each price"
assert BOOK_DTYPE.itemsize == 64, "a book is one cache line"
