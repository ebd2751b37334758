import numpy as np
import pytest

from protocol import board, enums, reasons

# Journals, recordings and clients hold these numbers. A line may be added; none may ever change or go.
PINNED_ENUMS = {
    "LIMIT": 1, "MARKET": 2, "MARKET_AMOUNT": 3, "CANCEL": 4, "CANCEL_ALL": 5, "AMEND": 6, "DEPOSIT": 16,
    "WITHDRAW_HOLD": 17, "WITHDRAW_SETTLE": 18, "WITHDRAW_RELEASE": 19, "ADJUST": 20, "SET_FEES": 32, "FREEZE": 33,
    "UNFREEZE": 34, "HALT": 35, "RESUME": 36, "CREATE_ACCOUNT": 37, "CLOSE_ACCOUNT": 38, "LIST_ASSET": 39,
    "LIST_INSTRUMENT": 40, "SET_BANDS": 41, "SET_TIMER": 42, "TICK": 48, "CHECKPOINT": 49, "EXT_IDS": 64,
    "EXT_ADMIN": 65, "EXT_LISTING": 66, "EXT_ASSET": 67, "EXT_FEES": 68, "EXT_LIMITS": 69, "SET_SCHEDULE": 43,
    "ASSIGN_FEES": 44, "SET_VOLUME_RATE": 45, "SET_GROUPS": 46, "SET_LIMITS": 47, "KILL": 50, "REVIVE": 51,
    "SET_PRICES": 54, "FLAG_TRIGGER": 256, "FLAG_TAKE_PROFIT": 512, "JUDGED_TRIGGER": 4, "OUTCOME_WAITS": 8,
    "TRIGGER_LAST": 0, "TRIGGER_MARK": 1, "TRIGGER_INDEX": 2, "OFFSET_NONE": 0, "OFFSET_TICKS": 1,
    "OFFSET_BASIS_POINTS": 2, "BASIS_POINTS": 10000,
    "SET_STATE": 52, "EXPIRE": 53, "JUDGED_TERMS": 2, "FLAG_TERMS": 128, "EXPIRY_DAY": -1, "ICEBERG_PARTS_MAX": 100,
    "JUDGED_NO_TAKE": 1, "VENUE_OPEN": 0, "VENUE_MAINTENANCE": 1, "INSTRUMENT_POST_ONLY": 3,
    "INSTRUMENT_CANCEL_ONLY": 4, "INSTRUMENT_CLOSED": 5, "INSTRUMENT_DELISTED": 6,
    "FLAG_API": 64, "SCOPE_VENUE": 0, "SCOPE_ACCOUNT": 1, "SCOPE_USER": 2, "SCOPE_FIRM": 3, "SCOPE_INSTRUMENT": 4,
    "SCOPE_CONTRACT": 5, "PRODUCT_SPOT": 0, "FEE_TIERS_MAX": 7, "FEE_TIER_API": 128, "MARK_GROUP": 96, "FUNDING": 97, "LEVERAGE": 98,
    "MARGIN_MODE": 99, "POSITION_MODE": 100, "ISO_MARGIN": 101, "TRANSFER": 102, "BORROW": 103, "REPAY": 104,
    "FIRE": 105, "LIQ_CANCEL": 106, "REDUCE": 107, "NET_HEDGE": 108, "TAKEOVER": 109, "JOB": 110, "ADL": 111,
    "SOCIALISE": 112, "COMMAND_TYPE_MAX": 127, "BUY": 0, "SELL": 1, "GTC": 0, "IOC": 1, "FOK": 2, "POST_ONLY": 3,
    "STP_NONE": 0, "STP_EXPIRE_TAKER": 1, "STP_EXPIRE_MAKER": 2, "STP_EXPIRE_BOTH": 3, "STP_DECREMENT": 4,
    "FLAG_MORE": 1, "FLAG_POSITION_LONG": 2, "FLAG_POSITION_SHORT": 4, "FLAG_REDUCE_ONLY": 8,
    "FLAG_CLOSE_POSITION": 16, "FLAG_SYSTEM": 32, "GROUP_SLOTS_MAX": 128, "VERDICT_OK": 0, "VERDICT_NO_OP": 65534,
    "VERDICT_SKIP": 65535, "EV_FILL": 1, "EV_PREVENTED": 2, "EV_CANCELED": 3, "EV_RESTED": 4, "EV_EXPIRED": 5,
    "EV_AMENDED": 6, "EV_REJECTED": 7, "EV_NOTHING": 8, "EV_TAKER": 9, "EV_POSITION_MOVED": 10, "EVENT_LAST": 1,
    "OUT_NEW": 1, "OUT_TRADE": 2, "OUT_RESTED": 3, "OUT_EXPIRED": 4, "OUT_CANCELED": 5, "OUT_REPLACED": 6,
    "OUT_REJECTED": 7, "OUT_PREVENTED": 8, "OUT_BALANCE": 9, "OUT_ADMIN": 10, "OUT_CHECKPOINT": 11, "OUT_DONE": 12, "OUT_TRIGGERED": 14,
    "OUT_AUCTION": 15, "OUT_UNCROSSED": 18, "EV_CROSSED": 11, "EV_AUCTION": 12, "EXT_AUCTION": 72, "JUDGED_UNCROSS": 16,
    "INSTRUMENT_PRE_OPEN": 7, "INSTRUMENT_AUCTION": 8,
    "OUT_IDS": 13, "OUTCOME_LAST": 1, "OUTCOME_MORE": 2, "OUTCOME_TAKER": 4, "ACCOUNT_NONE": 0, "ACCOUNT_OPEN": 1,
    "ACCOUNT_FROZEN": 2, "ACCOUNT_CLOSED": 3, "INSTRUMENT_NONE": 0, "INSTRUMENT_OPEN": 1, "INSTRUMENT_HALTED": 2,
    "HOLD_FREE": 0, "HOLD_IN_FLIGHT": 1, "HOLD_LIVE": 2, "HOLD_FIRED": 3, "ORDER_STATE_LIVE": 1, "ORDER_STATE_FILLED": 2,
    "ORDER_STATE_EXPIRED": 3, "ORDER_STATE_CANCELED": 4, "SOURCE_SEQUENCER": 0, "SOURCE_RISK": 1,
    "SOURCE_CONTROL": 2, "SOURCE_REPLAY": 3, "SOURCE_BOTS": 4, "SOURCE_FIRST_GATEWAY": 8, "SOURCES_MAX": 64,
    "DEAD_MAN": 55, "FLAG_BATCH": 2048, "JUDGED_SESSION": 64, "CANCEL_BOTH": 0, "CANCEL_BIDS": 1, "CANCEL_ASKS": 2,
    "CAUSE_ASKED": 0, "CAUSE_DISCONNECT": 1, "CAUSE_DEAD_MAN": 2, "SESSION_SHIFT": 16, "DEAD_MAN_MIN_NS": 1_000_000_000,
    "DEAD_MAN_MAX_NS": 86_400_000_000_000,
    "QUOTE": 7, "SET_PROTECTION": 56, "EXT_QUOTES": 71, "OUT_QUOTED": 16, "OUT_QUOTE": 17, "EV_QUOTED": 13, "QUOTES_MAX": 100,
    "PROTECTION_STEPS": 16, "QUOTE_ASK_BIT": 1 << 39,
    "EXT_LEG": 70, "FLAG_PEG": 1024, "FLAG_LEGS": 4096, "JUDGED_LEGS": 8, "JUDGED_PEG": 32, "LEG_LINKED": 0, "LEG_EXIT": 1,
    "PEG_BID": 0, "PEG_ASK": 1, "PEG_MID": 2, "EV_PEGGED": 14, "EV_MOVED": 15, "OUT_PEGGED": 19,
    "ORDER_ID_SOURCE_SHIFT": 40, "CLOCK_LIVE": 0, "CLOCK_VIRTUAL": 1, "CLOCK_VERBATIM": 2,
}  # fmt: skip

PINNED_REASONS = {
    "ACCEPTED": 0, "UNKNOWN_ACCOUNT": 1, "UNKNOWN_ASSET": 2, "UNKNOWN_INSTRUMENT": 3, "BAD_PRICE": 4,
    "BAD_QUANTITY": 5, "BAD_FEE": 6, "RANGE": 7, "ACCOUNT_FROZEN": 8, "INSTRUMENT_HALTED": 9, "UNKNOWN_ORDER": 10,
    "UNKNOWN_HOLD": 11, "QUANTITY_TOO_LOW": 12, "NO_CHANGE": 13, "INSUFFICIENT_FUNDS": 14,
    "POST_ONLY_WOULD_TAKE": 15, "FOK_UNFILLED": 16, "UNSUPPORTED": 17, "BAD_FIELD": 18, "ACCOUNT_EXISTS": 19,
    "ACCOUNT_NOT_EMPTY": 20, "ACCOUNT_CLOSED": 21, "ASSET_EXISTS": 22, "INSTRUMENT_EXISTS": 23, "BAD_LISTING": 24,
    "PRICE_BAND": 25, "NO_REFERENCE_PRICE": 26, "ORDER_POOL_FULL": 27, "BOOK_FULL": 28, "HOLD_TABLE_FULL": 29,
    "TIMER_TABLE_FULL": 30, "HOLD_EXISTS": 31, "DUPLICATE_CLIENT_ID": 32, "OFF_TICK": 48, "OFF_LOT": 49, "BUSY": 50,
    "JOURNAL_SPACE": 51, "OVERLOADED": 55, "DIVERGED": 56,
    "ENGINE_DOWN": 52, "MALFORMED": 53, "NOT_PERMITTED": 54, "BY_USER": 80, "BY_STP": 81, "BY_IOC": 82,
    "BY_NO_LIQUIDITY": 83, "BY_CANCEL_ALL": 84, "BY_LIQUIDATION": 85, "BY_ADL": 86, "BY_REDUCE_ONLY": 87, "BY_KILL": 88,
    "BAD_SCHEDULE": 33, "FEES_NET_NEGATIVE": 34, "UNKNOWN_SCHEDULE": 35, "FEE_TABLE_FULL": 36, "BAD_GROUP": 37,
    "OTHER_MASTER": 38, "ACCOUNT_HAS_ORDERS": 39, "ORDER_SIZE_LIMIT": 40, "NOTIONAL_LIMIT": 41,
    "OPEN_ORDERS_LIMIT": 42, "ORDER_RATE_LIMIT": 43, "PRICE_COLLAR": 44, "KILLED": 45, "BAD_LIMIT": 46,
    "MAINTENANCE": 47, "INSTRUMENT_POST_ONLY": 57, "INSTRUMENT_CANCEL_ONLY": 58, "INSTRUMENT_CLOSED": 59,
    "INSTRUMENT_DELISTED": 60, "BAD_STATE": 61, "BY_DELISTING": 89, "BY_EXPIRY": 90,
    "EXPIRY_PASSED": 62, "DISPLAY_ABOVE_QUANTITY": 63, "ICEBERG_PARTS": 64, "TERMS_OF_RESTING": 65,
    "BY_TRIGGER": 91, "BAD_TRIGGER": 100, "TRIGGER_MISPLACED": 101, "BAD_OFFSET": 102, "OFFSET_MISPLACED": 103,
    "NO_TRIGGER_PRICE": 104, "TRIGGER_PASSED": 105, "TRAILING_FULL": 106, "STOP_NOT_AMENDED": 107, "OFFSET_TOO_LARGE": 108,
    "MIN_QTY_ABOVE_QUANTITY": 66, "MIN_QTY_MISPLACED": 67, "MIN_QTY_UNFILLED": 68,
    "CANCEL_SIDES": 135, "BAD_SESSION": 136, "OTHER_SESSION": 137, "CANCEL_CAUSE": 138, "DEAD_MAN_DURATION": 139,
    "DEAD_MAN_TABLE_FULL": 140, "BY_DISCONNECT": 97, "BY_DEAD_MAN": 98,
    "QUOTE_COUNT": 141, "QUOTE_REPEATED": 142, "QUOTE_CROSSED": 143, "BAD_PROTECTION": 144, "PROTECTION_TABLE_FULL": 145,
    "PROTECTED": 146, "QUOTE_AMEND": 147, "BY_PROTECTION": 99,
    "BAD_ACTIVATION": 126, "ACTIVATION_BEYOND": 127,
    "LEGS_CROSSED": 109, "LEG_FORM": 110, "LINKED_AMEND": 111, "LEG_EXPIRY": 112, "EXIT_QUANTITY": 124, "EXIT_IDS": 125,
    "EXIT_FORM": 113, "EXITS_FULL": 114,
    "BY_LINK": 92, "BY_PEG": 93,
    "PEG_MISPLACED": 115, "PEG_TERMS": 116, "PEG_NO_REFERENCE": 117, "PEGS_FULL": 118, "PEG_AMEND": 119,
    "IMMEDIATE_IN_AUCTION": 120, "MIN_QTY_IN_AUCTION": 121, "AUCTION_END": 122, "BAD_AUCTION": 123, "BY_AUCTION": 95,
}  # fmt: skip

FAMILIES = ("EV_", "OUT_", "ACCOUNT_", "INSTRUMENT_", "HOLD_", "STP_", "EXT_", "VERDICT_", "CLOCK_")


def numbers_of(module):
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, int)}


@pytest.mark.parametrize(
    ("module", "pinned"), [(enums, PINNED_ENUMS), (reasons, PINNED_REASONS)], ids=["enums", "reasons"]
)
def test_no_number_was_changed_or_dropped_and_new_ones_are_pinned(module, pinned):
    assert pinned == numbers_of(module)


def test_numbers_of_one_family_differ():
    for prefix in FAMILIES:
        family = [value for name, value in numbers_of(enums).items() if name.startswith(prefix)]
        assert len(family) == len(set(family)), prefix
    for family in ([enums.BUY, enums.SELL], [enums.GTC, enums.IOC, enums.FOK, enums.POST_ONLY]):
        assert len(family) == len(set(family))
    assert len(numbers_of(reasons)) == len(reasons.NAME)


def test_command_types_fit_a_byte_below_the_largest_and_have_names():
    assert len(enums.COMMAND_NAMES) == len(set(enums.COMMAND_NAMES.values()))
    assert all(0 < number <= enums.COMMAND_TYPE_MAX for number in enums.COMMAND_NAMES)
    assert "LIMIT" == enums.COMMAND_NAMES[enums.LIMIT]


def test_names_gives_the_names_of_a_family():
    assert "TRADE" == enums.names("OUT_")[enums.OUT_TRADE]
    assert {0: "LIVE", 1: "VIRTUAL", 2: "VERBATIM"} == enums.names("CLOCK_")


def test_flags_are_single_bits_that_differ():
    for prefix in ("FLAG_", "OUTCOME_"):
        flags = [value for name, value in numbers_of(enums).items() if name.startswith(prefix)]
        assert all(flag & (flag - 1) == 0 for flag in flags)
        assert len(flags) == len(set(flags))


def test_reasons_of_the_recordings_are_0_to_16_and_fit_their_field():
    assert set(range(17)) <= set(reasons.NAME)
    assert all(number <= np.iinfo(np.uint8).max for number in reasons.NAME)
    assert all(reasons.TEXT[number].strip() for number in reasons.NAME)


def test_fixed_sources_and_gateways_fit_the_table():
    numbers = numbers_of(enums)
    fixed = [value for name, value in numbers.items() if name.startswith("SOURCE_") and name != "SOURCE_FIRST_GATEWAY"]
    assert len(fixed) == len(set(fixed))
    assert max(fixed) < enums.SOURCE_FIRST_GATEWAY < enums.SOURCES_MAX
    assert enums.SOURCES_MAX <= 1 << (63 - enums.ORDER_ID_SOURCE_SHIFT)


def test_words_of_the_board_have_one_meaning_each():
    numbers = numbers_of(board)
    problems = {
        name for name, value in numbers.items() if name.startswith("SNAPSHOT_") and value in board.SNAPSHOT_PROBLEM_TEXT
    }
    words = {
        name: value
        for name, value in numbers.items()
        if (
            name not in {"DIVERGED_ALARM", "DIVERGED_STOP", "AUDIT_NONE", "AUDIT_FOLLOWS", "AUDIT_DAMAGED", *problems}
            and not name.startswith(("LINE", "ENGINE_", "DATABASE_", "FIRST_", "MATCHERS_"))
        )
        or name == "ENGINE_STATE"
    }
    assert len(words) == len(set(words.values()))
    assert max(words.values()) < board.FIRST_PROCESS_LINE * board.LINE_WORDS
    processes = [value for name, value in numbers.items() if name.startswith("LINE_") and name != "LINE_WORDS"]
    assert len(processes) == len(set(processes))
    assert board.LINE_FIRST_GATEWAY < board.LINE_FIRST_MATCHER
    assert board.LINE_FIRST_MATCHER + board.MATCHERS_MAX <= board.LINES
