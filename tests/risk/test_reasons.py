"""Every reason that risk owns, one after another, and which of two comes first."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.instruments import Asset
from protocol.records import COMMAND_DTYPE, EXT_ASSET_SLOT, EXT_LISTING_SLOT
from tests.risk.desk import BASE, LIMITS, OTHER, QUOTE, WHO, Desk, head, listing

pytestmark = pytest.mark.timeout(600)  # the first test may have to compile all kernels
RISK = Path(__file__).resolve().parents[2] / "risk"
AMOUNT_LIMIT = 1 << 62
E8 = 100_000_000
TRADING = (e.LIMIT, e.MARKET, e.MARKET_AMOUNT)


def order(kind: int = e.LIMIT, **fields: int) -> np.ndarray:
    return head(kind, **({"account": 1, "instrument": 1, "side": e.BUY, "price_ticks": 10, "qty_lots": 5} | fields))


def money(kind: int, **fields: int) -> np.ndarray:
    return head(kind, **({"account": 1, "asset": 1, "qty_lots": 5} | fields))


def bands(**fields: int) -> np.ndarray:
    shares = {"band_up_e8": 0, "band_down_e8": 0, "breaker_e8": 0, "reference_ticks": 0} | fields
    return build.set_bands(1, operator=WHO[0], reason=WHO[1], **shares)


def spoiled(group: np.ndarray, dtype: np.dtype, **fields: int) -> np.ndarray:
    """The group with fields of its second slot changed."""
    out = group.copy()
    for name, value in fields.items():
        out.view(dtype)[name][1] = value
    return out


def list_more(**fields: int) -> np.ndarray:
    return spoiled(build.list_instrument(listing(2), *WHO), EXT_LISTING_SLOT.slot_dtype, **fields)


def list_asset(**fields: int) -> np.ndarray:
    return spoiled(build.list_asset(Asset(4, "X", 8), *WHO), EXT_ASSET_SLOT.slot_dtype, **fields)


def alone(group: np.ndarray) -> np.ndarray:
    """The head without its later slots."""
    out = group[:1].copy()
    out["flags"] = 0
    return out


Case = tuple[str, Callable[[], np.ndarray], int]
CASES: list[Case] = [
    *[(f"{e.COMMAND_NAMES[kind]} account {n}", lambda kind=kind, n=n: order(kind, account=n), r.UNKNOWN_ACCOUNT)
      for kind in (*TRADING, e.CANCEL, e.AMEND) for n in (0, -1, 5, 7, (1 << 31) - 1, -(1 << 31))],
    *[(f"{e.COMMAND_NAMES[kind]} account {n}", lambda kind=kind, n=n: money(kind, account=n), r.UNKNOWN_ACCOUNT)
      for kind in (16, 17, 18, 19, 20, 33, 34, 38) for n in (0, -1, 5, 7)],
    ("CREATE_ACCOUNT out of the table", lambda: build.create_account(7, *WHO), r.UNKNOWN_ACCOUNT),
    ("CREATE_ACCOUNT 0", lambda: build.create_account(0, *WHO), r.UNKNOWN_ACCOUNT),
    ("CANCEL_ALL of nothing", lambda: head(e.CANCEL_ALL), r.UNKNOWN_ACCOUNT),
    ("CANCEL_ALL account -1", lambda: head(e.CANCEL_ALL, account=-1), r.UNKNOWN_ACCOUNT),
    *[(f"{e.COMMAND_NAMES[kind]} asset {n}", lambda kind=kind, n=n: money(kind, asset=n), r.UNKNOWN_ASSET)
      for kind in (e.DEPOSIT, e.WITHDRAW_HOLD, e.ADJUST) for n in (0, -1, 4, 5, (1 << 31) - 1)],
    ("LIST_ASSET out of the table", lambda: build.list_asset(Asset(5, "X", 8), *WHO), r.UNKNOWN_ASSET),
    ("LIST_INSTRUMENT with an unlisted base", lambda: list_more(base=4), r.UNKNOWN_ASSET),
    ("LIST_INSTRUMENT with quote -1", lambda: list_more(quote=-1), r.UNKNOWN_ASSET),
    *[(f"{e.COMMAND_NAMES[kind]} instrument {n}", lambda kind=kind, n=n: order(kind, instrument=n), r.UNKNOWN_INSTRUMENT)
      for kind in (*TRADING, e.CANCEL, e.AMEND, e.SET_FEES, e.HALT, e.RESUME) for n in (0, -1, 2, 5, (1 << 31) - 1)],
    ("CANCEL_ALL instrument 2", lambda: head(e.CANCEL_ALL, account=1, instrument=2), r.UNKNOWN_INSTRUMENT),
    ("LIST_INSTRUMENT out of the table", lambda: build.list_instrument(listing(5), *WHO), r.UNKNOWN_INSTRUMENT),
    ("SET_BANDS instrument 3", lambda: build.set_bands(
        3, band_up_e8=0, band_down_e8=0, breaker_e8=0, reference_ticks=0, operator="a", reason="b"), r.UNKNOWN_INSTRUMENT),
    *[(f"{e.COMMAND_NAMES[kind]} price {n}", lambda kind=kind, n=n: order(kind, price_ticks=n), r.BAD_PRICE)
      for kind in (*TRADING, e.AMEND) for n in (0, -1, -(1 << 63))],
    *[(f"{e.COMMAND_NAMES[kind]} quantity {n}", lambda kind=kind, n=n: order(kind, qty_lots=n), r.BAD_QUANTITY)
      for kind in (*TRADING, e.AMEND) for n in (0, -1, -(1 << 63))],
    *[(f"{e.COMMAND_NAMES[kind]} amount {n}", lambda kind=kind, n=n: money(kind, qty_lots=n), r.BAD_QUANTITY)
      for kind in (e.DEPOSIT, e.WITHDRAW_HOLD) for n in (0, -1, -(1 << 63))],
    ("ADJUST by nothing", lambda: money(e.ADJUST, qty_lots=0), r.BAD_QUANTITY),
    *[(f"SET_FEES {m} {t}", lambda m=m, t=t: head(e.SET_FEES, instrument=1, price_ticks=m, qty_lots=t), r.BAD_FEE)
      for m, t in ((0, -1), (0, E8), (E8, 0), (-6, 5), ((1 << 63) - 1, (1 << 63) - 1), (-(1 << 63), 5), (5, -(1 << 63)))],
    ("LIST_INSTRUMENT with a rebate above the fee", lambda: list_more(maker_rate_e8=-2, taker_rate_e8=1), r.BAD_FEE),
    *[(f"{e.COMMAND_NAMES[kind]} {p} by {q}", lambda kind=kind, p=p, q=q: order(kind, price_ticks=p, qty_lots=q), r.RANGE)
      for kind in (e.LIMIT, e.MARKET, e.AMEND)
      for p, q in ((1 << 31, 1 << 31), (1, -(-AMOUNT_LIMIT // 100)), ((1 << 63) - 1, 1), ((1 << 63) - 1, (1 << 63) - 1), (1 << 62, 4))],
    ("MARKET_AMOUNT of 2^62", lambda: order(e.MARKET_AMOUNT, qty_lots=AMOUNT_LIMIT), r.RANGE),
    ("MARKET_AMOUNT sell that would hold 2^62", lambda: order(e.MARKET_AMOUNT, side=e.SELL, price_ticks=1, qty_lots=1 << 61), r.RANGE),
    *[(f"{e.COMMAND_NAMES[kind]} of 2^62", lambda kind=kind: money(kind, qty_lots=AMOUNT_LIMIT), r.RANGE)
      for kind in (e.DEPOSIT, e.WITHDRAW_HOLD, e.ADJUST)],
    ("ADJUST by -2^62", lambda: money(e.ADJUST, qty_lots=-AMOUNT_LIMIT), r.RANGE),
    ("ADJUST by -2^63", lambda: money(e.ADJUST, qty_lots=-(1 << 63)), r.RANGE),
    ("SET_BANDS with a reference beyond 2^62", lambda: bands(reference_ticks=1 << 61), r.RANGE),
    *[(f"WITHDRAW {kind} without a hold", lambda kind=kind: money(kind, order_id=77), r.UNKNOWN_HOLD) for kind in (18, 19)],
    *[(f"{e.COMMAND_NAMES[kind]} without money", lambda kind=kind: order(kind), r.INSUFFICIENT_FUNDS) for kind in TRADING],
    ("sell without base", lambda: order(side=e.SELL), r.INSUFFICIENT_FUNDS),
    ("WITHDRAW_HOLD without money", lambda: money(e.WITHDRAW_HOLD), r.INSUFFICIENT_FUNDS),
    ("ADJUST below zero", lambda: money(e.ADJUST, qty_lots=-1), r.INSUFFICIENT_FUNDS),
    *[(f"type {kind}", lambda kind=kind: head(kind, account=1, instrument=1), r.UNSUPPORTED)
      for kind in (0, 8, 15, 21, 31, 43, 47, 57, 63, 64, 67, 96, 112, 127, 255)],
    *[(f"type {kind} as a group", lambda kind=kind: np.concatenate([head(kind, flags=e.FLAG_MORE), build.admin_slot(*WHO)]), r.UNSUPPORTED)
      for kind in (0, 57, 96, 255)],
    *[(f"{e.COMMAND_NAMES[kind]} {field} {value}", lambda kind=kind, f=field, v=value: order(kind, **{f: v}), r.BAD_FIELD)
      for kind in TRADING for field, value in (("side", 2), ("side", 255), ("stp", 5), ("stp", 255))],
    *[(f"schedule {what}", lambda number=number, tiers=tiers, discount=discount: build.set_schedule(
        number, tiers, *WHO, api_discount_e8=discount), reason)
      for what, number, tiers, discount, reason in (
          ("number 0", 0, [(0, 0, 0)], 0, r.UNKNOWN_SCHEDULE),
          ("number beyond the table", 1025, [(0, 0, 0)], 0, r.UNKNOWN_SCHEDULE),
          ("taker below 0", 1, [(0, 0, -1)], 0, r.BAD_SCHEDULE),
          ("taker of 100 %", 1, [(0, 0, E8)], 0, r.BAD_SCHEDULE),
          ("rebate of 100 %", 1, [(0, -E8, 5)], 0, r.BAD_SCHEDULE),
          ("discount of 100 %", 1, [(0, 0, 5)], E8, r.BAD_SCHEDULE),
          ("volume that does not rise", 1, [(0, 0, 5), (0, 0, 5)], 0, r.BAD_SCHEDULE),
          ("taker more than 60 % off", 1, [(0, 0, 10), (1, 0, 3)], 0, r.BAD_SCHEDULE),
          ("maker more than 60 % off", 1, [(0, 10, 10), (1, 3, 10)], 0, r.BAD_SCHEDULE))],
    *[(f"assignment of {what}", lambda scope=scope, at=at: build.assign_fees(scope, 1, *WHO, **at), reason)
      for what, scope, at, reason in (
          ("a schedule that is not there", e.SCOPE_VENUE, {}, r.UNKNOWN_SCHEDULE),
          ("a user", e.SCOPE_USER, {"account": 1}, r.BAD_FIELD), ("scope 6", 6, {}, r.BAD_FIELD), ("scope -1", -1, {}, r.BAD_FIELD),
          ("account 5", e.SCOPE_ACCOUNT, {"account": 5}, r.UNKNOWN_ACCOUNT), ("firm 0", e.SCOPE_FIRM, {}, r.BAD_GROUP),
          ("instrument 2", e.SCOPE_INSTRUMENT, {"instrument": 2}, r.UNKNOWN_INSTRUMENT),
          ("account 1 in instrument 2", e.SCOPE_CONTRACT, {"account": 1, "instrument": 2}, r.UNKNOWN_INSTRUMENT))],
    ("volume rate below 0", lambda: build.set_volume_rate(1, -1, *WHO), r.BAD_FIELD),
    ("volume rate of asset 4", lambda: build.set_volume_rate(4, 1, *WHO), r.UNKNOWN_ASSET),
    *[(f"groups {groups}", lambda g=groups: build.set_groups(1, g[0], g[1], g[2], *WHO), r.BAD_GROUP)
      for groups in ((5, 0, 0), (-1, 0, 0), (0, 1025, 0), (0, -1, 0), (0, 0, -1), (0, 0, 1 << 31))],
    *[(f"limits {fields}", lambda fields=fields: build.set_limits(e.SCOPE_VENUE, *WHO, **fields), r.BAD_LIMIT)
      for fields in ({"qty_max_lots": -1}, {"notional_max_units": 1 << 62}, {"open_orders_max": 1 << 31}, {"orders_per_s": -1},
                     {"collar_e8": E8 + 1})],
    *[(f"{what} of {scope}", lambda builder=builder, scope=scope, at=at: builder(scope, *WHO, **at), reason)
      for what, builder in (("limits", build.set_limits), ("kill", build.kill), ("revive", build.revive))
      for scope, at, reason in (
          (e.SCOPE_CONTRACT, {"account": 1, "instrument": 1}, r.BAD_FIELD), (e.SCOPE_USER, {"account": 5}, r.UNKNOWN_ACCOUNT),
          (e.SCOPE_FIRM, {"firm": 1025}, r.BAD_GROUP), (e.SCOPE_INSTRUMENT, {"instrument": 3}, r.UNKNOWN_INSTRUMENT))],
    ("kill of an account and instrument", lambda: build.kill(e.SCOPE_ACCOUNT, *WHO, account=1, instrument=1), r.BAD_FIELD),
    ("TRANSFER to another master", lambda: build.transfer(1, 2, 1, 5, *WHO), r.OTHER_MASTER),
    ("TRANSFER to itself", lambda: build.transfer(1, 1, 1, 5, *WHO), r.BAD_FIELD),
    ("TRANSFER to nobody", lambda: build.transfer(1, 5, 1, 5, *WHO), r.UNKNOWN_ACCOUNT),
    ("LIMIT tif 4", lambda: order(tif=4), r.BAD_FIELD),
    ("SET_TIMER too fast", lambda: build.set_timer(1, 999_999, 0, *WHO), r.BAD_FIELD),
    ("SET_TIMER backwards", lambda: build.set_timer(1, -1, 0, *WHO), r.BAD_FIELD),
    ("SET_TIMER beyond the table", lambda: build.set_timer(64, 1_000_000_000, 0, *WHO), r.TIMER_TABLE_FULL),
    ("CREATE_ACCOUNT again", lambda: build.create_account(1, *WHO), r.ACCOUNT_EXISTS),
    ("LIST_ASSET again", lambda: build.list_asset(QUOTE, *WHO), r.ASSET_EXISTS),
    ("LIST_INSTRUMENT again", lambda: build.list_instrument(listing(), *WHO), r.INSTRUMENT_EXISTS),
    *[(f"type {kind} without its second slot", lambda kind=kind: head(kind, instrument=2, asset=4), r.BAD_LISTING)
      for kind in (e.LIST_ASSET, e.LIST_INSTRUMENT, e.SET_BANDS)],
    *[(f"LIST_INSTRUMENT {fields}", lambda fields=fields: list_more(**fields), r.BAD_LISTING)
      for fields in ({"type": 0}, {"base": 1}, {"tick_e8": 0}, {"tick_e8": 1}, {"tick_e8": -1}, {"lot_atoms": 0}, {"lot_atoms": -5},
                     {"tick_e8": (1 << 63) - 1}, {"reference_ticks": -1}, {"reference_ticks": 1 << 61}, {"price_max_ticks": -1},
                     {"qty_max_lots": -1}, {"price_max_ticks": 5, "reference_ticks": 6}, {"band_up_e8": E8 + 1}, {"band_up_e8": -1},
                     {"band_down_e8": E8}, {"breaker_e8": E8 + 1}, {"price_max_ticks": 1 << 40, "qty_max_lots": 1 << 40},
                     {"qty_max_lots": AMOUNT_LIMIT // 100 + 1})],
    *[(f"LIST_ASSET {fields}", lambda fields=fields: list_asset(**fields), r.BAD_LISTING)
      for fields in ({"type": 0}, {"scale": 11}, {"scale": -1})],
    *[(f"SET_BANDS {fields}", lambda fields=fields: bands(**fields), r.BAD_LISTING)
      for fields in ({"band_up_e8": E8 + 1}, {"band_down_e8": E8}, {"breaker_e8": -1}, {"reference_ticks": -1})],
]  # fmt: skip


@pytest.fixture(scope="module")
def desk() -> Desk:
    """Of one table for all cases: a refused command changes nothing."""
    return Desk()


@pytest.mark.parametrize(("group", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_command_is_refused_by_name_and_changes_nothing(
    desk: Desk, group: Callable[[], np.ndarray], reason: int
) -> None:
    before = desk.engine.hashes()
    assert r.NAME[reason] == r.NAME[desk.send(group())]
    assert (1, e.OUTCOME_LAST) == (len(desk.outcomes), desk.outcomes["flags"][0])
    after = desk.engine.hashes()
    changing = {"verdicts", "outcomes", "events"}
    assert {k: v for k, v in before.items() if k not in changing} == {
        k: v for k, v in after.items() if k not in changing
    }


def test_frozen_account_may_only_cancel_and_receive() -> None:
    desk = Desk()
    desk.fund(1, quote=1_000)
    resting = desk.do(order())
    held = desk.do(money(e.WITHDRAW_HOLD))
    desk.do(build.freeze(1, *WHO))
    for kind in (*TRADING, e.AMEND):
        assert r.ACCOUNT_FROZEN == desk.send(order(kind, order_id=resting, qty_lots=6))
    assert r.ACCOUNT_FROZEN == desk.send(money(e.WITHDRAW_HOLD))
    desk.do(money(e.DEPOSIT))
    desk.do(money(e.WITHDRAW_SETTLE, order_id=held))
    desk.do(build.cancel(account=1, instrument=1, order_id=resting))
    desk.do(build.freeze(1, *WHO))
    desk.do(build.unfreeze(1, *WHO))
    desk.do(order())


def test_halted_instrument_only_takes_cancels() -> None:
    desk = Desk()
    desk.fund(1, quote=1_000)
    resting = desk.do(order())
    desk.do(build.halt(1, *WHO))
    for kind in (*TRADING, e.AMEND):
        assert r.INSTRUMENT_HALTED == desk.send(order(kind, order_id=resting, qty_lots=4))
    desk.do(build.cancel(account=1, instrument=1, order_id=resting))
    desk.do(build.resume(1, *WHO))
    desk.do(order())


def test_account_closes_only_when_nothing_is_left_and_stays_closed() -> None:
    desk = Desk()
    desk.fund(1, quote=50)
    assert r.ACCOUNT_NOT_EMPTY == desk.send(build.close_account(1, *WHO))
    resting = desk.do(order())
    assert r.ACCOUNT_NOT_EMPTY == desk.send(build.close_account(1, *WHO))
    desk.do(build.cancel(account=1, instrument=1, order_id=resting))
    held = desk.do(money(e.WITHDRAW_HOLD, qty_lots=50))
    assert r.ACCOUNT_NOT_EMPTY == desk.send(build.close_account(1, *WHO))
    desk.do(money(e.WITHDRAW_SETTLE, order_id=held))
    desk.do(build.close_account(1, *WHO))
    for group in (
        order(),
        order(e.CANCEL),
        head(e.CANCEL_ALL, account=1),
        order(e.AMEND),
        money(e.DEPOSIT),
        money(e.WITHDRAW_HOLD),
    ):
        assert r.ACCOUNT_CLOSED == desk.send(group)
    for group in (money(e.ADJUST), build.freeze(1, *WHO), build.unfreeze(1, *WHO), build.close_account(1, *WHO)):
        assert r.ACCOUNT_CLOSED == desk.send(group)
    assert r.ACCOUNT_EXISTS == desk.send(build.create_account(1, *WHO))


def test_deposits_of_an_asset_stay_below_two_to_the_62() -> None:
    desk = Desk()
    desk.fund(1, quote=AMOUNT_LIMIT - 1)
    assert r.RANGE == desk.send(money(e.DEPOSIT, account=2, qty_lots=1))
    assert r.RANGE == desk.send(money(e.ADJUST, account=2, qty_lots=1))
    held = desk.do(money(e.WITHDRAW_HOLD, qty_lots=1))
    assert r.RANGE == desk.send(money(e.DEPOSIT, account=2, qty_lots=1))
    desk.do(money(e.WITHDRAW_SETTLE, order_id=held))
    desk.do(money(e.DEPOSIT, account=2, qty_lots=1))


def test_withdrawal_hold_belongs_to_its_account_and_ends_once() -> None:
    desk = Desk()
    desk.fund(1, quote=100)
    held = desk.do(money(e.WITHDRAW_HOLD))
    assert r.UNKNOWN_HOLD == desk.send(money(e.WITHDRAW_SETTLE, account=2, order_id=held))
    assert r.HOLD_EXISTS == desk.send(money(e.WITHDRAW_HOLD, order_id=held))
    desk.do(money(e.WITHDRAW_RELEASE, order_id=held))
    assert r.UNKNOWN_HOLD == desk.send(money(e.WITHDRAW_RELEASE, order_id=held))
    assert [(100, 0), (0, 0)] == desk.money(1)


def test_full_table_of_withdrawal_holds_refuses_by_name_until_one_ends() -> None:
    desk = Desk()
    desk.fund(1, quote=1_000)
    held = [desk.do(money(e.WITHDRAW_HOLD)) for _ in range(LIMITS.withdrawal_holds)]
    assert r.HOLD_TABLE_FULL == desk.send(money(e.WITHDRAW_HOLD))
    desk.do(money(e.WITHDRAW_RELEASE, order_id=held[3]))
    desk.do(money(e.WITHDRAW_HOLD))


def test_full_order_pool_refuses_by_name_until_one_ends_and_lack_of_money_comes_first() -> None:
    desk = Desk()
    desk.fund(1, quote=1_000)
    resting = [desk.do(order()) for _ in range(LIMITS.orders)]
    assert r.ORDER_POOL_FULL == desk.send(order())
    assert r.INSUFFICIENT_FUNDS == desk.send(order(account=2))
    desk.do(build.cancel(account=1, instrument=1, order_id=resting[0]))
    desk.do(order())


def test_price_band_is_inclusive_and_binds_orders_and_amends() -> None:
    desk = Desk(band_up_e8=5_000_000, band_down_e8=10_000_000, reference_ticks=200)
    desk.fund(1, quote=100_000, base=100_000)
    resting = desk.do(order(price_ticks=210))
    assert r.PRICE_BAND == desk.send(order(price_ticks=211))
    desk.do(order(side=e.SELL, price_ticks=211, tif=e.POST_ONLY))
    assert r.PRICE_BAND == desk.send(order(side=e.SELL, price_ticks=179))
    assert r.PRICE_BAND == desk.send(order(e.AMEND, order_id=resting, price_ticks=211))
    # Whether the order is there is known first; a frozen account and a wrong number come before either.
    assert r.UNKNOWN_ORDER == desk.send(order(e.AMEND, order_id=resting + 1, price_ticks=211))
    desk.do(build.freeze(1, *WHO))
    assert r.ACCOUNT_FROZEN == desk.send(order(price_ticks=211))


@pytest.mark.parametrize(
    ("up", "down", "reference"), [(5_000_000, 5_000_000, 0), (0, 5_000_000, 200), (5_000_000, 0, 0)]
)
def test_market_order_needs_a_price_where_no_band_gives_one(up: int, down: int, reference: int) -> None:
    desk = Desk(band_up_e8=up, band_down_e8=down, reference_ticks=reference)
    for kind in (e.MARKET, e.MARKET_AMOUNT):
        assert r.NO_REFERENCE_PRICE == desk.send(order(kind, price_ticks=0))
        assert r.BAD_PRICE == desk.send(order(kind, price_ticks=-1))


# Faults of a limit order, in the order in which they are looked for.
FAULTS: tuple[tuple[int, dict[str, int]], ...] = (
    (r.UNKNOWN_ACCOUNT, {"account": 9}),
    (r.UNKNOWN_INSTRUMENT, {"instrument": 9}),
    (r.BAD_FIELD, {"tif": 9}),
    (r.BAD_PRICE, {"price_ticks": 0}),
    (r.BAD_QUANTITY, {"qty_lots": 0}),
    (r.RANGE, {"qty_lots": 1 << 60}),
    (r.ACCOUNT_FROZEN, {"account": 2}),
    (r.INSTRUMENT_HALTED, {"instrument": 2}),
    (r.PRICE_BAND, {"price_ticks": 211}),
    (r.INSUFFICIENT_FUNDS, {"account": 3}),
)


@pytest.fixture(scope="module")
def faulty_desk() -> Desk:
    """Account 2 is frozen, 3 is poor; instrument 2 is halted; a band of 5 % lies around 200 on both."""
    desk = Desk(band_up_e8=5_000_000, reference_ticks=200)
    desk.do(build.list_instrument(listing(2, band_up_e8=5_000_000, reference_ticks=200), *WHO))
    desk.do(build.halt(2, *WHO))
    desk.do(build.freeze(2, *WHO))
    for account in (1, 2):
        desk.fund(account, quote=1_000_000)
    return desk


# One field cannot have two faults.
PAIRS = [(first, second) for first, second in itertools.combinations(FAULTS, 2) if not set(first[1]) & set(second[1])]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda f: r.NAME[f[0]])
def test_of_two_faults_the_one_with_precedence_is_named(
    faulty_desk: Desk, first: tuple[int, dict[str, int]], second: tuple[int, dict[str, int]]
) -> None:
    assert r.NAME[first[0]] == r.NAME[faulty_desk.send(order(**(first[1] | second[1])))]


def test_tables_name_every_reason_that_risk_gives() -> None:
    """A new reason in risk's sources fails here until a test provokes it."""
    given = {
        name
        for path in RISK.glob("*.py")
        for name in re.findall(r"\br\.([A-Z][A-Z_]+)\b", path.read_text(encoding="utf-8"))
    }
    text = "".join(
        Path(__file__).with_name(name).read_text()
        for name in (
            "test_reasons.py",
            "test_exits.py",
            "test_auctions.py",
            "test_client_ids.py",
            "test_fees.py",
            "test_limits.py",
            "test_linked.py",
            "test_mass.py",
            "test_pegs.py",
            "test_quotes.py",
            "test_states.py",
            "test_stops.py",
            "test_terms.py",
        )
    )
    tested = set(re.findall(r"\br\.([A-Z][A-Z_]+)\b", text)) - {"NAME"}
    assert set() == given - tested - {"BY_STP", "BY_AUCTION"}


def test_other_assets_and_slots_are_what_the_tables_say() -> None:
    assert (1, 2, 3) == (QUOTE.index, BASE.index, OTHER.index)
    assert COMMAND_DTYPE.itemsize == EXT_LISTING_SLOT.slot_dtype.itemsize == EXT_ASSET_SLOT.slot_dtype.itemsize
