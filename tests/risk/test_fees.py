"""Fee schedules: what a fill costs whom, when a tier changes, and which configurations are refused."""

from typing import Any

import msgspec
import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.fixed_point import E8
from risk import state as s
from tests.engine.operators import START_TS_NS, numbered
from tests.risk.desk import LIMITS, WHO, Desk, listing

MANY = 10**12
DAY = s.DAY_NS


class FeeDesk(Desk):
    """Everybody is rich, and a USDT counts a USDT. Time is the test's: ``at`` nanoseconds behind midnight of some day."""

    def __init__(self, **fields: Any) -> None:
        self.at = 0
        super().__init__(**fields)
        self.do(build.set_volume_rate(1, E8, *WHO))
        for account in (1, 2, 3):
            self.fund(account, MANY, MANY)

    def schedule(self, number: int, *tiers: tuple[int, int, int], **more: Any) -> int:
        return self.send(build.set_schedule(number, tiers, *WHO, **more))

    def assign(self, scope: int, schedule: int, **at: Any) -> int:
        return self.send(build.assign_fees(scope, schedule, *WHO, **at))

    def trade(self, maker: int, taker: int, lots: int = 1000, *, api: bool = False) -> list[tuple[int, int, int]]:
        """(fee, rule, tier) of taker and maker; the maker sells at 1."""
        self.do(self.limit(maker, e.SELL, 1, lots))
        group = self.limit(taker, e.BUY, 1, lots)
        if api:
            group["flags"] |= e.FLAG_API
        self.do(group)
        rows = self.outcomes[self.outcomes["kind"] == e.OUT_TRADE]
        return list(zip(*(rows[name].tolist() for name in ("fee_units", "reason", "fee_tier")), strict=True))


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> FeeDesk:
    made = FeeDesk.__new__(FeeDesk)

    def at_the_tests_time(group: np.ndarray, seq: int, _slots_a_day: int = 0) -> np.ndarray:
        out = numbered(group, seq)
        out["ts_ns"] = START_TS_NS // DAY * DAY + made.at
        return out

    monkeypatch.setattr("tests.risk.desk.numbered", at_the_tests_time)
    made.__init__()  # type: ignore[misc]
    return made


def test_tier_holds_from_the_boundary_on_from_the_next_day(desk: FeeDesk) -> None:
    desk.schedule(1, (0, 100_000, 200_000), (1_000, 50_000, 100_000))
    desk.assign(e.SCOPE_VENUE, 1)
    # The maker sells 1000 lots at 1: value 1000 units; the taker gets 100,000 units of base.
    assert [(200, 1, 0), (1, 1, 0)] == desk.trade(1, 2)
    assert 0 == desk.trade(1, 2, 1)[0][2], "the day goes on with the tier that it began with"
    desk.at += DAY
    assert [(100, 1, 1), (1, 1, 1)] == desk.trade(1, 2)


@pytest.mark.parametrize(("lots", "tier"), [(999, 0), (1_000, 1), (1_001, 1)])
def test_one_unit_below_the_boundary_is_below(desk: FeeDesk, lots: int, tier: int) -> None:
    desk.schedule(1, (0, 0, 200_000), (1_000, 0, 100_000))
    desk.assign(e.SCOPE_VENUE, 1)
    desk.trade(1, 2, lots)
    desk.at += DAY
    assert tier == desk.trade(1, 2, 1)[0][2]


@pytest.mark.parametrize(("days", "tier"), [(1, 1), (29, 1), (30, 1), (31, 0), (32, 0), (33, 0), (500, 0)])
def test_volume_counts_for_thirty_complete_days(desk: FeeDesk, days: int, tier: int) -> None:
    desk.schedule(1, (0, 0, 200_000), (1_000, 0, 100_000))
    desk.assign(e.SCOPE_VENUE, 1)
    desk.trade(1, 2)
    desk.at += days * DAY
    assert tier == desk.trade(1, 2, 1)[0][2]


def test_day_changes_at_midnight_to_the_nanosecond(desk: FeeDesk) -> None:
    desk.schedule(1, (0, 0, 200_000), (1_000, 0, 100_000))
    desk.assign(e.SCOPE_VENUE, 1)
    desk.at = DAY - 1
    desk.trade(1, 2)
    assert 0 == desk.trade(1, 2, 1)[0][2]
    desk.at += 1
    assert 1 == desk.trade(1, 2, 1)[0][2]


def test_sub_accounts_count_to_their_master_and_pay_its_tier(desk: FeeDesk) -> None:
    desk.schedule(1, (0, 0, 200_000), (1_000, 0, 100_000))
    desk.assign(e.SCOPE_VENUE, 1)
    desk.do(build.set_groups(3, 2, 0, 0, *WHO))
    desk.trade(1, 2, 500)
    desk.trade(1, 3, 500)
    desk.at += DAY
    assert [1, 1] == [desk.trade(1, account, 1)[0][2] for account in (2, 3)]
    assert 1_000 == desk.engine.risk.accounts[2]["volume_units"]


def test_value_counts_at_the_rate_of_its_asset_rounded_down(desk: FeeDesk) -> None:
    desk.do(build.set_volume_rate(1, E8 // 3, *WHO))
    desk.trade(1, 2, 1_000)
    assert [333, 333] == desk.engine.risk.accounts["today_units"][1:3].tolist()


def test_most_specific_schedule_in_force_prices_each_side_for_itself(desk: FeeDesk) -> None:
    for number in range(1, 6):
        desk.schedule(number, (0, 0, number * 100_000))
    desk.do(build.set_groups(2, 0, 4, 0, *WHO))
    found = [desk.trade(1, 2)[0][:2]]
    for number, (scope, at) in enumerate(
        (
            (e.SCOPE_VENUE, {}),
            (e.SCOPE_INSTRUMENT, {"instrument": 1}),
            (e.SCOPE_FIRM, {"firm": 4}),
            (e.SCOPE_ACCOUNT, {"account": 2}),
            (e.SCOPE_CONTRACT, {"account": 2, "instrument": 1}),
        ),
        1,
    ):
        assert r.ACCEPTED == desk.assign(scope, number, **at)
        found.append(desk.trade(1, 2)[0][:2])
    assert [(0, 0), (100, 1), (200, 2), (300, 3), (400, 4), (500, 5)] == found
    assert 2 == desk.trade(2, 1)[0][1], "the other account has what the instrument has"


def test_api_discount_rounds_the_rate_up_and_leaves_a_rebate(desk: FeeDesk) -> None:
    desk.schedule(1, (0, -5_000, 99_999), api_discount_e8=5_000_000)
    desk.assign(e.SCOPE_VENUE, 1)
    # 10^8 units of base at 95000e-8 and 99999e-8.
    assert [95_000, 99_999] == [desk.trade(1, 2, 10**6, api=api)[0][0] for api in (True, False)]
    assert e.FEE_TIER_API == desk.trade(1, 2, api=True)[0][2]


def test_planned_version_comes_into_force_at_its_time_and_the_last_set_wins(desk: FeeDesk) -> None:
    desk.assign(e.SCOPE_VENUE, 1)
    base = START_TS_NS // DAY * DAY
    desk.schedule(1, (0, 0, 100_000))
    desk.assign(e.SCOPE_VENUE, 1)
    desk.schedule(1, (0, 0, 200_000), effective_ts_ns=base + 100)
    desk.schedule(1, (0, 0, 400_000), effective_ts_ns=base + 200)
    desk.schedule(1, (0, 0, 300_000), effective_ts_ns=base + 100)
    found = []
    for at in (99, 100, 199, 200):
        desk.at = at
        found.append(desk.trade(1, 2)[0][:2])
    assert [(100, 1), (300, 4), (300, 4), (400, 3)] == found


def test_own_rates_take_the_place_of_a_schedule_and_an_assignment_that_of_own_rates(desk: FeeDesk) -> None:
    desk.schedule(1, (0, 0, 100_000))
    desk.assign(e.SCOPE_INSTRUMENT, 1, instrument=1)
    desk.do(build.set_fees(1, 0, 500_000, *WHO))
    assert (500, 0, 0) == desk.trade(1, 2)[0]
    desk.assign(e.SCOPE_INSTRUMENT, 1, instrument=1)
    assert (100, 1, 0) == desk.trade(1, 2)[0]


@pytest.mark.parametrize(
    "last", ["schedule", "planned", "account", "firm", "instrument", "contract", "own rates", "discount", "listing"]
)
def test_no_way_leads_to_a_rebate_above_a_taker_rate_that_it_may_meet(desk: FeeDesk, last: str) -> None:
    """Taker 10 % is everywhere but in the case; a rebate of 5 % waits for a taker below."""
    desk.do(build.set_fees(1, 0, 10_000_000, *WHO))
    desk.schedule(1, (0, -5_000_000, 10_000_000))
    assert r.ACCEPTED == desk.assign(e.SCOPE_ACCOUNT, 1, account=1)
    desk.schedule(2, (0, 0, 4_000_000))
    before = desk.engine.hashes()
    attempts = {
        "schedule": lambda: desk.schedule(1, (0, -5_000_000, 10_000_000), (5, 0, 4_000_000)),
        "planned": lambda: desk.schedule(1, (0, -11_000_000, 10_000_000), effective_ts_ns=START_TS_NS * 2),
        "account": lambda: desk.assign(e.SCOPE_ACCOUNT, 2, account=2),
        "firm": lambda: desk.assign(e.SCOPE_FIRM, 2, firm=1),
        "instrument": lambda: desk.assign(e.SCOPE_INSTRUMENT, 2, instrument=1),
        "contract": lambda: desk.assign(e.SCOPE_CONTRACT, 2, account=3, instrument=1),
        "own rates": lambda: desk.send(build.set_fees(1, 0, 4_999_999, *WHO)),
        "discount": lambda: desk.schedule(1, (0, -5_000_000, 10_000_000), api_discount_e8=51_000_000),
        "listing": lambda: desk.send(build.list_instrument(listing(2), *WHO)),
    }
    assert r.FEES_NET_NEGATIVE == attempts[last]()
    after = desk.engine.hashes()
    settled = ("accounts", "balances", "assets", "instruments", "fees", "limits")
    assert [before[name] for name in settled] == [after[name] for name in settled]


def test_rebate_of_one_instrument_does_not_meet_the_taker_of_another(desk: FeeDesk) -> None:
    desk.do(build.list_instrument(listing(2), *WHO))
    desk.schedule(1, (0, -5_000_000, 10_000_000))
    assert r.ACCEPTED == desk.assign(e.SCOPE_INSTRUMENT, 1, instrument=1)
    desk.schedule(2, (0, 0, 0))
    assert r.ACCEPTED == desk.assign(e.SCOPE_INSTRUMENT, 2, instrument=2)
    assert r.ACCEPTED == desk.assign(e.SCOPE_CONTRACT, 2, account=1, instrument=2)
    assert r.FEES_NET_NEGATIVE == desk.assign(e.SCOPE_CONTRACT, 2, account=1, instrument=1)


def test_full_tables_refuse_versions_and_contracts() -> None:
    desk = Desk(limits=msgspec.structs.replace(LIMITS, fee_versions=2, fee_contracts=1))
    codes = [desk.send(build.set_schedule(1, [(0, 0, 5)], *WHO)) for _ in range(3)]
    assert [r.ACCEPTED, r.ACCEPTED, r.FEE_TABLE_FULL] == codes
    for number in (2, 3, 4):
        desk.do(build.list_instrument(listing(number), *WHO))
    pairs = [(account, instrument) for account in (1, 2, 3) for instrument in (1, 2, 3, 4)][:9]
    codes = [desk.send(build.assign_fees(e.SCOPE_CONTRACT, 1, *WHO, account=a, instrument=i)) for a, i in pairs]
    assert [r.ACCEPTED] * 8 + [r.FEE_TABLE_FULL] == codes


def test_revenue_by_type_adds_up_to_the_fee_account(desk: FeeDesk) -> None:
    desk.schedule(1, (0, -50_000, 100_000))
    desk.schedule(2, (0, 30_000, 100_000))
    desk.assign(e.SCOPE_VENUE, 1)
    desk.assign(e.SCOPE_ACCOUNT, 2, account=3)
    desk.trade(1, 2)
    desk.trade(3, 2)
    for asset in (1, 2):
        row = desk.engine.risk.assets[asset]
        assert row["fee_units"] == row["taker_fee_units"] + row["maker_fee_units"] - row["rebate_units"]
    # Takers get 100,000 units of base twice; the rebate is in base too, the other maker pays in quote.
    base, quote = desk.engine.risk.assets[2], desk.engine.risk.assets[1]
    assert (200, 50, 1) == (base["taker_fee_units"], base["rebate_units"], quote["maker_fee_units"])


# --- groups and transfers ---------------------------------------------------------------------------------------------


def test_transfer_moves_money_between_accounts_of_one_master_at_once(desk: FeeDesk) -> None:
    desk.do(build.set_groups(2, 1, 0, 0, *WHO))
    assert r.INSUFFICIENT_FUNDS == desk.send(build.transfer(1, 2, 1, MANY + 1, *WHO))
    desk.do(build.transfer(1, 2, 1, MANY, *WHO))
    assert [(1, -MANY), (2, MANY)] == desk.outcomes[["account", "value_units"]].tolist()
    assert [(0, 0), (2 * MANY, 0)] == [desk.money(account)[0] for account in (1, 2)]
    assert r.OTHER_MASTER == desk.send(build.transfer(2, 3, 1, 1, *WHO))
    desk.do(build.freeze(2, *WHO))
    assert r.ACCOUNT_FROZEN == desk.send(build.transfer(2, 1, 1, 1, *WHO))


def test_groups_are_refused_with_open_orders_and_for_a_master_that_is_none(desk: FeeDesk) -> None:
    desk.do(desk.limit(1, e.BUY, 1, 1))
    assert r.ACCOUNT_HAS_ORDERS == desk.send(build.set_groups(1, 2, 0, 0, *WHO))
    desk.do(build.cancel_all(account=1))
    desk.do(build.set_groups(1, 2, 0, 0, *WHO))
    assert r.BAD_GROUP == desk.send(build.set_groups(3, 1, 0, 0, *WHO)), "a sub-account is nobody's master"
    assert r.BAD_GROUP == desk.send(build.set_groups(2, 3, 0, 0, *WHO)), "a master does not become a sub-account"


@pytest.mark.parametrize(("groups", "trades"), [((5, 5), False), ((5, 6), True), ((0, 0), True)])
def test_accounts_of_one_self_trade_group_do_not_trade(desk: FeeDesk, groups: tuple[int, int], trades: bool) -> None:
    for account, group in zip((1, 2), groups, strict=True):
        desk.do(build.set_groups(account, 0, 0, group, *WHO))
    desk.do(desk.limit(1, e.SELL, 1, 1))
    desk.do(desk.limit(2, e.BUY, 1, 1, stp=e.STP_EXPIRE_TAKER))
    assert trades == bool((desk.outcomes["kind"] == e.OUT_TRADE).any())
