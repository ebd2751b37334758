"""Why a command is refused or an order ends. Codes 0..16 are those of the whole-history flow format; none is ever renumbered.

Every gateway translates these: ``TEXT`` says what was wrong in words a client can act on, ``NAME`` is the stable name. Each reason has one
owner: gateway (before numbering), risk or matcher.
"""

from __future__ import annotations

from typing import Final

ACCEPTED: Final = 0
UNKNOWN_ACCOUNT: Final = 1
UNKNOWN_ASSET: Final = 2
UNKNOWN_INSTRUMENT: Final = 3
BAD_PRICE: Final = 4
BAD_QUANTITY: Final = 5
BAD_FEE: Final = 6
RANGE: Final = 7
ACCOUNT_FROZEN: Final = 8
INSTRUMENT_HALTED: Final = 9
UNKNOWN_ORDER: Final = 10
UNKNOWN_HOLD: Final = 11
QUANTITY_TOO_LOW: Final = 12
NO_CHANGE: Final = 13
INSUFFICIENT_FUNDS: Final = 14
POST_ONLY_WOULD_TAKE: Final = 15
FOK_UNFILLED: Final = 16

UNSUPPORTED: Final = 17
BAD_FIELD: Final = 18
ACCOUNT_EXISTS: Final = 19
ACCOUNT_NOT_EMPTY: Final = 20
ACCOUNT_CLOSED: Final = 21
ASSET_EXISTS: Final = 22
INSTRUMENT_EXISTS: Final = 23
BAD_LISTING: Final = 24
PRICE_BAND: Final = 25
NO_REFERENCE_PRICE: Final = 26
ORDER_POOL_FULL: Final = 27
BOOK_FULL: Final = 28
HOLD_TABLE_FULL: Final = 29
TIMER_TABLE_FULL: Final = 30
HOLD_EXISTS: Final = 31
DUPLICATE_CLIENT_ID: Final = 32
BAD_SCHEDULE: Final = 33
FEES_NET_NEGATIVE: Final = 34
UNKNOWN_SCHEDULE: Final = 35
FEE_TABLE_FULL: Final = 36
BAD_GROUP: Final = 37
OTHER_MASTER: Final = 38
ACCOUNT_HAS_ORDERS: Final = 39
ORDER_SIZE_LIMIT: Final = 40
NOTIONAL_LIMIT: Final = 41
OPEN_ORDERS_LIMIT: Final = 42
ORDER_RATE_LIMIT: Final = 43
PRICE_COLLAR: Final = 44
KILLED: Final = 45
BAD_LIMIT: Final = 46
MAINTENANCE: Final = 47

# Owned by gateways, before a command is numbered: safe to send again.
OFF_TICK: Final = 48
OFF_LOT: Final = 49
BUSY: Final = 50
JOURNAL_SPACE: Final = 51
ENGINE_DOWN: Final = 52
MALFORMED: Final = 53
NOT_PERMITTED: Final = 54
OVERLOADED: Final = 55
DIVERGED: Final = 56

# Of the market's state, decided by risk.
INSTRUMENT_POST_ONLY: Final = 57
INSTRUMENT_CANCEL_ONLY: Final = 58
INSTRUMENT_CLOSED: Final = 59
INSTRUMENT_DELISTED: Final = 60
BAD_STATE: Final = 61

# Of an order's terms, decided by risk, the last one by the matcher.
EXPIRY_PASSED: Final = 62
DISPLAY_ABOVE_QUANTITY: Final = 63
ICEBERG_PARTS: Final = 64
TERMS_OF_RESTING: Final = 65
MIN_QTY_ABOVE_QUANTITY: Final = 66
MIN_QTY_MISPLACED: Final = 67
MIN_QTY_UNFILLED: Final = 68

# Of mass cancels and dead-man timers, decided by risk.
CANCEL_SIDES: Final = 135
BAD_SESSION: Final = 136
OTHER_SESSION: Final = 137
CANCEL_CAUSE: Final = 138
DEAD_MAN_DURATION: Final = 139
DEAD_MAN_TABLE_FULL: Final = 140

# Of mass quotes, decided by risk, the last two by the matcher.
QUOTE_COUNT: Final = 141
QUOTE_REPEATED: Final = 142
QUOTE_CROSSED: Final = 143
BAD_PROTECTION: Final = 144
PROTECTION_TABLE_FULL: Final = 145
PROTECTED: Final = 146
QUOTE_AMEND: Final = 147
# Of auctions and price bands, decided by risk.
IMMEDIATE_IN_AUCTION: Final = 120
MIN_QTY_IN_AUCTION: Final = 121
AUCTION_END: Final = 122
BAD_AUCTION: Final = 123

# Why an order ended without refusal (events and outcomes).
BY_USER: Final = 80
BY_STP: Final = 81
BY_IOC: Final = 82
BY_NO_LIQUIDITY: Final = 83
BY_CANCEL_ALL: Final = 84
BY_LIQUIDATION: Final = 85
BY_ADL: Final = 86
BY_REDUCE_ONLY: Final = 87
BY_KILL: Final = 88
BY_DELISTING: Final = 89
BY_EXPIRY: Final = 90
BY_AUCTION: Final = 95
BY_TRIGGER: Final = 91

# Of stops. BAD_TRIGGER to OFFSET_MISPLACED, and of activation prices, are decided by risk, the others by the matcher.
BAD_TRIGGER: Final = 100
TRIGGER_MISPLACED: Final = 101
BAD_OFFSET: Final = 102
OFFSET_MISPLACED: Final = 103
NO_TRIGGER_PRICE: Final = 104
TRIGGER_PASSED: Final = 105
TRAILING_FULL: Final = 106
STOP_NOT_AMENDED: Final = 107
OFFSET_TOO_LARGE: Final = 108
BAD_ACTIVATION: Final = 126
ACTIVATION_BEYOND: Final = 127
# Of lists of orders and of pegs; LINKED_AMEND is decided by the matcher.
LEGS_CROSSED: Final = 109
LEG_FORM: Final = 110
LINKED_AMEND: Final = 111
LEG_EXPIRY: Final = 112
EXIT_FORM: Final = 113
EXITS_FULL: Final = 114
EXIT_QUANTITY: Final = 124
EXIT_IDS: Final = 125
PEG_MISPLACED: Final = 115
PEG_TERMS: Final = 116
# The matcher's.
PEG_NO_REFERENCE: Final = 117
PEGS_FULL: Final = 118
PEG_AMEND: Final = 119
BY_LINK: Final = 92
BY_PEG: Final = 93
BY_DISCONNECT: Final = 97
BY_DEAD_MAN: Final = 98
BY_PROTECTION: Final = 99

NAME: Final[dict[int, str]] = {v: k for k, v in list(globals().items()) if k.isupper() and isinstance(v, int)}

TEXT: Final[dict[int, str]] = {
    ACCEPTED: "accepted",
    UNKNOWN_ACCOUNT: "there is no account with this number",
    UNKNOWN_ASSET: "there is no asset with this name or number",
    UNKNOWN_INSTRUMENT: "there is no instrument with this symbol or number",
    BAD_PRICE: "the price must be a positive whole number of ticks",
    BAD_QUANTITY: "the quantity must be a positive whole number of lots",
    BAD_FEE: "fees must satisfy 0 <= taker < 1, maker < 1 and maker + taker >= 0",
    RANGE: "price times quantity, or the amount, is beyond what the ledger can hold",
    ACCOUNT_FROZEN: "the account is frozen; cancels still work",
    INSTRUMENT_HALTED: "trading in this instrument is halted; cancels still work",
    UNKNOWN_ORDER: "no resting order of this account and instrument has this id; it may have been filled or cancelled",
    UNKNOWN_HOLD: "no open withdrawal hold of this account has this id",
    QUANTITY_TOO_LOW: "the new total quantity is not above what has been traded already",
    NO_CHANGE: "price and quantity are already what is asked for",
    INSUFFICIENT_FUNDS: "the free balance does not cover what the order would hold",
    POST_ONLY_WOULD_TAKE: "a post-only order at this price would take liquidity",
    FOK_UNFILLED: "the order could not be filled completely and at once",
    UNSUPPORTED: "this command type is not supported by this version",
    BAD_FIELD: "a field has a value outside its enumeration",
    ACCOUNT_EXISTS: "an account with this number exists already",
    ACCOUNT_NOT_EMPTY: "the account still has balances, orders or commands in flight",
    ACCOUNT_CLOSED: "the account is closed",
    ASSET_EXISTS: "an asset with this number exists already",
    INSTRUMENT_EXISTS: "an instrument with this number exists already",
    BAD_LISTING: "tick, lot, scale and limits do not make a valid listing",
    PRICE_BAND: "the price is outside the instrument's price band",
    NO_REFERENCE_PRICE: "a market order needs a protection price: there is no price band, no reference yet, or it is a trailing stop",
    ORDER_POOL_FULL: "the exchange holds as many open orders as it is configured for",
    BOOK_FULL: "the book has no room for another price range",
    HOLD_TABLE_FULL: "there are as many open withdrawal holds as configured",
    TIMER_TABLE_FULL: "there is no free timer row with this number",
    HOLD_EXISTS: "an open withdrawal hold with this id exists already",
    DUPLICATE_CLIENT_ID: "the account has used this client order id for another order, which is open or ended a short time ago",
    BAD_SCHEDULE: "a fee schedule has 1 to 7 tiers with rising volumes from 0 on, rates from 0 to below 1 (a "
    "maker's from above -1), tiers at most 60 % below the first, and a discount below 1",
    FEES_NET_NEGATIVE: "a maker's rebate would exceed the lowest taker fee that can meet it in one instrument",
    UNKNOWN_SCHEDULE: "there is no fee schedule with this number",
    FEE_TABLE_FULL: "the tables hold as many fee versions or contracts as configured",
    BAD_GROUP: "the master must be an open account that is its own master, and firm and self-trade group "
    "numbers of the tables",
    OTHER_MASTER: "money moves between accounts of one master only",
    ACCOUNT_HAS_ORDERS: "the account has open orders or commands in flight; cancel them first",
    ORDER_SIZE_LIMIT: "the quantity is above a limit of the account, its user, its firm or the instrument",
    NOTIONAL_LIMIT: "the order's value is above a limit, or cannot be valued because its asset has no volume rate",
    OPEN_ORDERS_LIMIT: "as many orders are open as a limit allows",
    ORDER_RATE_LIMIT: "as many orders came in this second as a limit allows",
    PRICE_COLLAR: "the price is further from the reference than a price collar allows",
    KILLED: "a kill switch stops new orders; cancels still work",
    BAD_LIMIT: "limits must not be negative, and a collar is at most 1",
    MAINTENANCE: "the venue is in maintenance; cancels still work",
    INSTRUMENT_POST_ONLY: "the instrument takes post-only orders, amends that rest, and cancels only",
    INSTRUMENT_CANCEL_ONLY: "the instrument takes cancels only",
    INSTRUMENT_CLOSED: "the instrument is closed; cancels still work",
    INSTRUMENT_DELISTED: "the instrument is delisted",
    BAD_STATE: "the instrument or venue cannot go from its state to this one; delisting follows a halt, cancel-only or closed, "
    "and is final",
    EXPIRY_PASSED: "the order would have expired already",
    DISPLAY_ABOVE_QUANTITY: "the display quantity of an iceberg is above its quantity",
    ICEBERG_PARTS: "an iceberg has at most 100 parts: the display quantity is too small for the quantity",
    TERMS_OF_RESTING: "only an order that may rest, gtc or post-only, has an expiry or a display quantity",
    MIN_QTY_ABOVE_QUANTITY: "the minimum quantity is above the quantity",
    MIN_QTY_MISPLACED: "an order that never takes, or is by amount, has no minimum quantity",
    MIN_QTY_UNFILLED: "the minimum quantity could not be filled at once",
    CANCEL_SIDES: "a cancel-all is of both sides, of the bids or of the asks",
    BAD_SESSION: "a session is named by the number of its gateway, 2 to 63, and its own, 1 to 65535",
    OTHER_SESSION: "a gateway names sessions of its own only",
    CANCEL_CAUSE: "a cancel-all is asked for, or is that of a session that has ended, which it names",
    DEAD_MAN_DURATION: "a dead-man timer runs for 1 second to 1 day, and 0 disarms it",
    DEAD_MAN_TABLE_FULL: "as many dead-man timers are armed as there can be",
    QUOTE_COUNT: "a mass quote has 1 to 100 quotes",
    QUOTE_REPEATED: "the mass quote has an earlier quote of the same instrument",
    QUOTE_CROSSED: "the quote's bid is not below its ask",
    BAD_PROTECTION: "a protection has a window of 1 millisecond to 1 hour and limits that are not negative, one at "
    "least above 0; or none of them",
    PROTECTION_TABLE_FULL: "as many accounts and instruments have market-maker protection as there can be",
    PROTECTED: "market-maker protection has pulled the quotes; set it anew to quote again",
    QUOTE_AMEND: "an order of a quote is changed by another quote",
    OFF_TICK: "the price is not a multiple of the instrument's tick size",
    OFF_LOT: "the quantity is not a multiple of the instrument's lot size",
    BUSY: "the engine's queue is full; the command was not taken and can be sent again",
    JOURNAL_SPACE: "no disk space for the next journal segment; only cancels are taken",
    ENGINE_DOWN: "the engine is restarting; the command was not taken and can be sent again",
    MALFORMED: "the message could not be understood",
    NOT_PERMITTED: "not permitted",
    OVERLOADED: "the engine has more to do than it may keep waiting, and takes cancels only; "
    "nothing was executed and no number used, so that it is safe to send again",
    DIVERGED: "the exchange acknowledges nothing until an operator acts, because its own check found the live engine wrong; "
    "the command was not taken",
    IMMEDIATE_IN_AUCTION: "orders gather: no market, ioc, fok or pegged orders, no quotes, no stops on a price that came since; "
    "cancels and amends work",
    MIN_QTY_IN_AUCTION: "orders gather for an auction, and a minimum quantity could not trade at once",
    AUCTION_END: "only the state auction has an end: a time after the command, up to a day, and open, post-only or closed behind it",
    BAD_AUCTION: "a dynamic band is at most 100 %, an interruption's auction at most a day, its random part no longer than itself, "
    "and extended at most 100 times",
    BY_USER: "cancelled by its owner",
    BY_STP: "ended by self-trade prevention",
    BY_IOC: "the rest of an immediate order was dropped",
    BY_NO_LIQUIDITY: "no more liquidity within the protection price",
    BY_CANCEL_ALL: "cancelled by a cancel-all",
    BY_LIQUIDATION: "cancelled by liquidation",
    BY_ADL: "cancelled by deleveraging",
    BY_REDUCE_ONLY: "trimmed because it could only reduce the position",
    BY_KILL: "cancelled by a kill switch",
    BY_EXPIRY: "its time has come",
    BY_AUCTION: "traded in an auction",
    BY_TRIGGER: "set off by the price that it waited for",
    BAD_TRIGGER: "the trigger price must be a positive whole number of ticks, and the price that it waits for last, mark or index",
    TRIGGER_MISPLACED: "a market order by amount cannot wait for a price",
    BAD_OFFSET: "the offset of a trailing stop must be positive, and below 10000 where it counts basis points",
    OFFSET_TOO_LARGE: "so far behind the price a trailing stop would have no trigger price",
    OFFSET_MISPLACED: "a trailing stop takes no profit",
    BAD_ACTIVATION: "the activation price of a trailing stop must be a positive whole number of ticks",
    ACTIVATION_BEYOND: "a linked trailing stop would be activated only at or beyond the price at which the other order ends it",
    NO_TRIGGER_PRICE: "the price that the order would wait for is not known yet",
    TRIGGER_PASSED: "the price has passed the trigger already",
    TRAILING_FULL: "as many trailing stops of this instrument follow this price as may",
    STOP_NOT_AMENDED: "of the orders that wait only limit orders that may rest can be amended; cancel it and enter another",
    LEGS_CROSSED: "of two linked orders one waits above the market and one below: a sale has its limit or take-profit above its stop, "
    "a purchase below",
    LEG_FORM: "linked orders are two of one instrument, side and quantity: a post-only limit order or a take-profit, and a stop",
    LINKED_AMEND: "an order that is linked with another is not amended; cancel both and enter them anew",
    LEG_EXPIRY: "linked orders expire together: both say the same",
    EXIT_FORM: "the exits of an order are one or two orders of the other side and its instrument that may rest or wait, without terms",
    EXITS_FULL: "as many orders with exits are open as may",
    EXIT_QUANTITY: "an exit is of no more lots than its entry",
    EXIT_IDS: "the orders of a list have different client order ids",
    PEG_MISPLACED: "only a limit order that may rest, gtc or post-only, waits for no price and is of no list, follows a best price",
    PEG_TERMS: "a pegged order has no display and no minimum quantity",
    PEG_NO_REFERENCE: "the price that the order would follow is not there, or leaves it no price to stand at",
    PEGS_FULL: "as many pegged orders of this instrument rest as may",
    PEG_AMEND: "a pegged order is not amended; cancel it and enter another",
    BY_PEG: "the book had no place left for the price at which it would stand",
    BY_LINK: "the order that it was linked with traded, was set off, or ended",
    BY_DISCONNECT: "cancelled because its session has ended",
    BY_PROTECTION: "pulled by market-maker protection",
    BY_DEAD_MAN: "cancelled because a dead-man timer was not renewed",
    BY_DELISTING: "cancelled because its instrument was delisted",
}
assert set(TEXT) == set(NAME), "every reason has a text"
