"""Numbers that records carry. They are never renumbered: journals hold them. Kernels use the plain integers."""

from __future__ import annotations

from typing import Final

# --- command types -------------------------------------------------------------------------------------------------------------------
LIMIT: Final = 1
MARKET: Final = 2  # by quantity; price is the protection price, 0 = from the price band
MARKET_AMOUNT: Final = 3  # qty is an amount of quote units to spend (buy) or to receive (sell)
CANCEL: Final = 4
CANCEL_ALL: Final = 5  # by account, instrument, session (0 = any, not all), and sides
AMEND: Final = 6  # new price, new total quantity
QUOTE: Final = 7  # two-sided quotes of an account, one an instrument, in place of those that it has there

DEPOSIT: Final = 16
WITHDRAW_HOLD: Final = 17
WITHDRAW_SETTLE: Final = 18
WITHDRAW_RELEASE: Final = 19
ADJUST: Final = 20  # signed amount against the external account

SET_FEES: Final = 32
FREEZE: Final = 33
UNFREEZE: Final = 34
HALT: Final = 35  # also risk's own command, from a circuit breaker
RESUME: Final = 36
CREATE_ACCOUNT: Final = 37
CLOSE_ACCOUNT: Final = 38
LIST_ASSET: Final = 39
LIST_INSTRUMENT: Final = 40
SET_BANDS: Final = 41
SET_TIMER: Final = 42
SET_SCHEDULE: Final = 43  # another version of a fee schedule
ASSIGN_FEES: Final = 44  # which schedule a scope has
SET_VOLUME_RATE: Final = 45  # what an asset is worth where volume and notional are counted
SET_GROUPS: Final = 46  # master, firm and self-trade group of an account
SET_LIMITS: Final = 47  # pre-trade limits of a scope

TICK: Final = 48  # the sequenced clock; references that follow trades move only here
CHECKPOINT: Final = 49  # live processes and replica publish their hashes
KILL: Final = 50  # no orders of a scope from here on, and its resting ones are cancelled
REVIVE: Final = 51
SET_PRICES: Final = 54  # mark and index price of an instrument, for stops that wait for them
EXPIRE: Final = 53  # orders whose time has come leave the book
DEAD_MAN: Final = 55  # cancel-all when it is not renewed in time
SET_PROTECTION: Final = 56  # when an account's quotes in an instrument are pulled
SET_STATE: Final = 52  # market state of an instrument, or of the venue; HALT and RESUME are cases of it

EXT_IDS: Final = 64  # later slots of a group
EXT_ADMIN: Final = 65
EXT_LISTING: Final = 66
EXT_ASSET: Final = 67
EXT_FEES: Final = 68
EXT_LIMITS: Final = 69
EXT_LEG: Final = 70  # another order of a list: linked with the head, or an exit of it
EXT_QUOTES: Final = 71  # a two-sided quote
EXT_AUCTION: Final = 72  # dynamic band, and the auction that an interruption leads to

# Reserved for margin and perpetuals.
MARK_GROUP: Final = 96
FUNDING: Final = 97
LEVERAGE: Final = 98
MARGIN_MODE: Final = 99
POSITION_MODE: Final = 100
ISO_MARGIN: Final = 101
TRANSFER: Final = 102  # between accounts of one master; not reserved any more
BORROW: Final = 103
REPAY: Final = 104
FIRE: Final = 105
LIQ_CANCEL: Final = 106
REDUCE: Final = 107
NET_HEDGE: Final = 108
TAKEOVER: Final = 109
JOB: Final = 110
ADL: Final = 111
SOCIALISE: Final = 112

COMMAND_TYPE_MAX: Final = 127

# --- order fields ----------------------------------------------------------------------------------------------------------------------
BUY: Final = 0
SELL: Final = 1

GTC: Final = 0
IOC: Final = 1
FOK: Final = 2
POST_ONLY: Final = 3

STP_NONE: Final = 0
STP_EXPIRE_TAKER: Final = 1
STP_EXPIRE_MAKER: Final = 2
STP_EXPIRE_BOTH: Final = 3
STP_DECREMENT: Final = 4

# --- command flags ---------------------------------------------------------------------------------------------------------------------
FLAG_MORE: Final = 1  # the group goes on with the next slot
FLAG_POSITION_LONG: Final = 2
FLAG_POSITION_SHORT: Final = 4
FLAG_REDUCE_ONLY: Final = 8
FLAG_CLOSE_POSITION: Final = 16
FLAG_SYSTEM: Final = 32  # initiated by risk, came back through its outbox
FLAG_API: Final = 64  # the order came through an API key; the gateway sets it
FLAG_TERMS: Final = 128  # display and minimum quantity and expiry of the order count
FLAG_TRIGGER: Final = 256  # the order waits for a price: trigger price, reference and offset count
FLAG_TAKE_PROFIT: Final = 512  # it waits for the price to move in its favour

TRIGGER_LAST: Final = 0  # price that a stop waits for
TRIGGER_MARK: Final = 1
TRIGGER_INDEX: Final = 2

PEG_BID: Final = 0  # price that a pegged order follows
PEG_ASK: Final = 1
PEG_MID: Final = 2

LEG_LINKED: Final = 0  # what happens first to it or to the head ends the other (OCO)
LEG_EXIT: Final = (
    1  # it enters when the head has traded and ended; two of them are linked with one another (OTO, OTOCO)
)

OFFSET_NONE: Final = 0
OFFSET_TICKS: Final = 1
OFFSET_BASIS_POINTS: Final = 2
BASIS_POINTS: Final = 10_000

FLAG_PEG: Final = 1024  # the order's price follows the best price that trigger_ref names, PEG_*
FLAG_LEGS: Final = 4096  # the order is the first of a list: EXT_LEG slots follow in its group
FLAG_BATCH: Final = 2048  # of the last slot of a command: the producer's next command is of the same batch

CANCEL_BOTH: Final = 0  # sides of a cancel-all
CANCEL_BIDS: Final = 1
CANCEL_ASKS: Final = 2

CAUSE_ASKED: Final = 0  # why somebody sends a cancel-all
CAUSE_DISCONNECT: Final = 1  # the session has ended
CAUSE_DEAD_MAN: Final = 2  # risk's own: a dead-man timer was not renewed

SESSION_SHIFT: Final = 16
"""A session is named by ``source << 16 | number``; its number is 1 to 65535, and 0 of orders of no session."""

DEAD_MAN_MIN_NS: Final = 1_000_000_000
DEAD_MAN_MAX_NS: Final = 86_400_000_000_000

EXPIRY_DAY: Final = -1  # expiry at the end of the UTC day of the order's sequenced time
ICEBERG_PARTS_MAX: Final = 100

GROUP_SLOTS_MAX: Final = 128
QUOTES_MAX: Final = 100
PROTECTION_STEPS: Final = 16  # a window of market-maker protection is counted in so many parts

# --- verdicts --------------------------------------------------------------------------------------------------------------------------
VERDICT_OK: Final = 0  # 1 and above: the reason of refusal
VERDICT_NO_OP: Final = 0xFFFE
VERDICT_SKIP: Final = 0xFFFF

JUDGED_SESSION: Final = 64  # the order is of a session
JUDGED_TRIGGER: Final = 4  # the order waits for a price
JUDGED_TERMS: Final = 2  # the order has terms that the matcher must look at
JUDGED_NO_TAKE: Final = 1  # flag of a verdict: the state of the market lets the order rest only
JUDGED_LEGS: Final = 8  # the order is linked with that of a later slot
JUDGED_PEG: Final = 32  # the order follows a best price
JUDGED_UNCROSS: Final = 16  # a change of state with which gathered orders trade

# --- events (matcher to risk) ------------------------------------------------------------------------------------------------------------
EV_FILL: Final = 1
EV_PREVENTED: Final = 2  # self-trade prevention took lots off the maker and the taker
EV_CANCELED: Final = 3  # an order left the book; the reason says why
EV_RESTED: Final = 4  # the command's own rest entered the book
EV_EXPIRED: Final = 5  # the command's own rest was dropped
EV_AMENDED: Final = 6
EV_REJECTED: Final = 7
EV_NOTHING: Final = 8  # the shard has nothing (more) to say of this command
EV_TAKER: Final = 9  # from here on the order named is the one that trades: a fired stop
EV_POSITION_MOVED: Final = 10  # reserved
EV_PEGGED: Final = 14  # a pegged order stands at another price
EV_MOVED: Final = 15  # amended, and rests anew without a trade: EV_AMENDED and EV_RESTED in one
EV_QUOTED: Final = 13  # a quote is done: taken, or refused with a reason
EV_CROSSED: Final = 11  # a trade of an auction: EV_TAKER named the buyer, this one the seller
EV_AUCTION: Final = (
    12  # where an auction stands, or how it ended: price, lots, and what is left over (left_lots, < 0: to sell)
)

EVENT_LAST: Final = 1

# --- outcomes --------------------------------------------------------------------------------------------------------------------------
OUT_NEW: Final = 1
OUT_TRADE: Final = 2
OUT_RESTED: Final = 3
OUT_EXPIRED: Final = 4
OUT_CANCELED: Final = 5
OUT_REPLACED: Final = 6
OUT_REJECTED: Final = 7
OUT_PREVENTED: Final = 8
OUT_BALANCE: Final = 9
OUT_ADMIN: Final = 10
OUT_CHECKPOINT: Final = 11
OUT_DONE: Final = 12  # a command that may touch many orders (cancel-all) has ended; qty is how many it removed
OUT_QUOTED: Final = 16  # a mass quote has ended; qty is how many quotes were taken, leaves how many refused
OUT_QUOTE: Final = 17  # a quote of it was taken, or refused with a reason
OUT_IDS: Final = 13  # continuation: client order id
OUT_TRIGGERED: Final = 14  # a stop was set off; what follows is what it does
OUT_AUCTION: Final = 15  # indicative price and volume of an auction, and in leaves what is left over on ``side``
OUT_PEGGED: Final = 19  # a pegged order stands at this price; its limit, and what it holds, stay
OUT_UNCROSSED: Final = 18  # the same of an auction that has ended: price 0 = nothing met

OUTCOME_LAST: Final = 1
OUTCOME_MORE: Final = 2
OUTCOME_TAKER: Final = 4
OUTCOME_WAITS: Final = 8  # OUT_NEW, OUT_RESTED, OUT_REPLACED: the order waits for a price

# --- states ----------------------------------------------------------------------------------------------------------------------------
ACCOUNT_NONE: Final = 0
ACCOUNT_OPEN: Final = 1
ACCOUNT_FROZEN: Final = 2
ACCOUNT_CLOSED: Final = 3

INSTRUMENT_NONE: Final = 0
INSTRUMENT_OPEN: Final = 1
INSTRUMENT_HALTED: Final = 2
INSTRUMENT_POST_ONLY: Final = 3
INSTRUMENT_CANCEL_ONLY: Final = 4
INSTRUMENT_CLOSED: Final = 5
INSTRUMENT_DELISTED: Final = 6  # final; ``protocol.market_states`` says what each allows
INSTRUMENT_PRE_OPEN: Final = 7  # orders gather; the states from here on do not trade, and prices may cross
INSTRUMENT_AUCTION: Final = 8  # the same, and the price at which they would trade is published

VENUE_OPEN: Final = 0
VENUE_MAINTENANCE: Final = 1

HOLD_FREE: Final = 0
HOLD_IN_FLIGHT: Final = 1  # reserved, not settled
HOLD_LIVE: Final = 2
HOLD_FIRED: Final = 3  # reserved for triggered orders

ORDER_STATE_LIVE: Final = 1  # open; also what a refused second use of a client order id says of the first
ORDER_STATE_FILLED: Final = 2
ORDER_STATE_EXPIRED: Final = 3
ORDER_STATE_CANCELED: Final = 4

# --- scopes: to whom fees, limits and kill switches apply ---------------------------------------------------------------------------------
SCOPE_VENUE: Final = 0
SCOPE_ACCOUNT: Final = 1
SCOPE_USER: Final = 2  # all accounts of one master
SCOPE_FIRM: Final = 3
SCOPE_INSTRUMENT: Final = 4
SCOPE_CONTRACT: Final = 5  # an account in one instrument; fees only

PRODUCT_SPOT: Final = 0

FEE_TIERS_MAX: Final = 7
FEE_TIER_API: Final = 128  # added to the tier of a fill that has the API discount

# --- sources: configured slots, the first ones fixed -------------------------------------------------------------------------------------
SOURCE_SEQUENCER: Final = 0  # ticks, checkpoints and timers
SOURCE_RISK: Final = 1  # the outbox
SOURCE_CONTROL: Final = 2
SOURCE_REPLAY: Final = 3
SOURCE_BOTS: Final = 4  # the demo's market makers and takers
SOURCE_FIRST_GATEWAY: Final = 8
SOURCES_MAX: Final = 64

ORDER_ID_SOURCE_SHIFT: Final = 40
"""A producer numbers its own commands; order id = source << 40 | source_seq, so that it knows the id before it sends."""

QUOTE_ASK_BIT: Final = 1 << 39
"""A quote is two orders: the bid's id is made of the number of its slot, the ask's is the same with this bit."""

CLOCK_LIVE: Final = 0
CLOCK_VIRTUAL: Final = 1  # a recording's own times become the sequenced times
CLOCK_VERBATIM: Final = 2  # a journal's seq and ts are kept


def names(prefix: str) -> dict[int, str]:
    """Number to name for the constants that start with ``prefix``: ``names("OUT_")[2] == "TRADE"``."""
    return {v: k[len(prefix) :] for k, v in globals().items() if k.startswith(prefix) and isinstance(v, int)}


COMMAND_NAMES: Final = {
    v: k
    for k, v in list(globals().items())
    if isinstance(v, int) and k in {
        "LIMIT", "MARKET", "MARKET_AMOUNT", "CANCEL", "CANCEL_ALL", "AMEND", "DEPOSIT", "WITHDRAW_HOLD", "WITHDRAW_SETTLE",
        "WITHDRAW_RELEASE", "ADJUST", "SET_FEES", "FREEZE", "UNFREEZE", "HALT", "RESUME", "CREATE_ACCOUNT", "CLOSE_ACCOUNT",
        "LIST_ASSET", "LIST_INSTRUMENT", "SET_BANDS", "SET_TIMER", "TICK", "CHECKPOINT", "EXT_IDS", "EXT_ADMIN", "EXT_LISTING",
        "EXT_ASSET", "EXT_FEES", "EXT_LIMITS", "SET_SCHEDULE", "ASSIGN_FEES", "SET_VOLUME_RATE", "SET_GROUPS", "SET_LIMITS", "KILL",
        "REVIVE", "SET_STATE", "EXPIRE", "SET_PRICES", "DEAD_MAN", "QUOTE", "SET_PROTECTION", "EXT_LEG", "EXT_QUOTES", "EXT_AUCTION",
        "MARK_GROUP", "FUNDING", "LEVERAGE", "MARGIN_MODE", "POSITION_MODE", "ISO_MARGIN", "TRANSFER", "BORROW",
        "REPAY", "FIRE", "LIQ_CANCEL", "REDUCE", "NET_HEDGE", "TAKEOVER", "JOB", "ADL", "SOCIALISE",
    }
}  # fmt: skip
