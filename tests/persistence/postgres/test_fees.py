"""Fees in the database: every fill names the rule that priced it, and what stands there is what the engine has, to the unit."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

from persistence.postgres import reads, schema, terms
from persistence.postgres.fees import fee_rows, limits_start, revenue_of
from protocol import build
from protocol import enums as e
from protocol.instance import Engine
from protocol.records import COMMAND_DTYPE, OUTCOME_DTYPE
from risk import state as s
from tests.engine.driver import ROOMY
from tests.engine.operators import Market, sized
from tests.persistence.postgres.conftest import Postgres
from tests.persistence.postgres.histories import Followed, History, contents
from tests.persistence.postgres.test_writer import Heard, follow
from tests.risk.desk import WHO
from tests.risk.test_fees import FeeDesk

pytestmark = pytest.mark.timeout(600)


class Written:
    """A history with fees and limits, the engine behind it, and the database that the writer made of it in many transactions."""

    def __init__(self, of: History, home: Path, postgres: Postgres) -> None:
        of.journal(home)
        self.dsn = postgres.fresh()
        self.followed = Followed(of)
        self.risk = self.followed.engine.risk
        self.told = []
        for slots in of.parts(50):
            self.told.append(self.followed.feed(slots))
        asyncio.run(follow(home, of, self.dsn, Heard()))
        self.rows = asyncio.run(contents(self.dsn))

    def ask(self, question: Any) -> Any:
        async def scenario() -> Any:
            db = await asyncpg.connect(self.dsn)
            try:
                return await question(db)
            finally:
                await db.close()

        return asyncio.run(scenario())


def is_rich(market: Market) -> bool:
    """Whether fills have several rules, rebates and the discount, and none is an auction's, in which nobody takes."""
    told = np.concatenate(market.expected)
    trades = told[told["kind"] == e.OUT_TRADE]
    if np.isin(trades["type"], (e.SET_STATE, e.HALT, e.RESUME)).any():
        return False
    of_keys = trades[trades["fee_tier"] >= e.FEE_TIER_API]
    return len(set(trades["reason"].tolist())) > 3 and len(of_keys) > 3 and int((trades["fee_units"] < 0).sum()) > 3


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Written:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("persistence.postgres.writer.BATCH_SLOTS", 100)
        # Every look takes seconds: it begins where something was found.
        market = next(market for seed in (24, *range(1, 40)) if is_rich(market := Market(seed, 4000, access=True)))
        # As it was recorded, because limits and tiers go by the clock; not all of it, because in the end every limit is taken away.
        of = History(market, market.groups[:3600], Engine(limits=sized(market), rings=ROOMY))
        return Written(of, tmp_path_factory.mktemp("fees") / "home", postgres)


def test_rules_of_fills_are_versions_that_give_their_fees(written: Written) -> None:
    rules = written.ask(reads.fee_rules)
    trades = [reads.Trade(*row) for row in written.rows["trades"]]
    found = {
        (rule, api)
        for t in trades
        for rule, api in ((t.taker_fee_rule, t.taker_fee_api), (t.maker_fee_rule, t.maker_fee_api))
    }
    assert {0, 1} <= {api for _, api in found}, "orders with a discount and without"
    assert {rule for rule, _ in found} - {0} <= rules.keys()
    assert len(found) > 3
    for t in trades:
        rule = rules.get(t.taker_fee_rule)
        if rule is None:
            continue
        rate = rule.tiers[t.taker_fee_tier][2]
        if t.taker_fee_api:
            rate = -(-rate * (10**8 - rule.api_discount_e8) // 10**8)
        row = written.risk.instruments[t.instrument]
        received = t.qty_lots * int(row["lot_atoms"]) if t.taker_side == e.BUY else t.value_units
        assert -(-received * rate // 10**8) == t.taker_fee_units


def test_revenue_by_type_is_the_sum_of_fees_and_the_revenue_accounts(written: Written) -> None:
    sums: dict[tuple[int, int], int] = defaultdict(int)
    for t in (reads.Trade(*row) for row in written.rows["trades"]):
        sums[t.taker_fee_asset, terms.TAKER_FEES] += t.taker_fee_units
        sums[t.maker_fee_asset, terms.MAKER_FEES] += max(t.maker_fee_units, 0)
        sums[t.maker_fee_asset, terms.REBATES] -= min(t.maker_fee_units, 0)
    found: dict[tuple[int, int], int] = defaultdict(int)
    for row in written.ask(reads.revenue):
        found[row.asset, row.kind] += row.units
    assert {key: units for key, units in sums.items() if units} == dict(found)
    assert set(terms.REVENUES) == {kind for _, kind in found}
    by_asset = {row[0]: row for row in written.rows["assets"]}
    for asset, row in by_asset.items():
        of_engine = written.risk.assets[asset]
        types = [int(of_engine[name]) for name in ("taker_fee_units", "maker_fee_units", "rebate_units")]
        assert (
            types
            == [sums[asset, kind] for kind in (terms.TAKER_FEES, terms.MAKER_FEES, terms.REBATES)]
            == list(row[7:10])
        )
        assert types[0] + types[1] - types[2] == int(of_engine["fee_units"]) == row[3]
        assert int(of_engine["volume_rate_e8"]) == row[6]


def test_schedules_assignments_limits_and_groups_are_the_engines(written: Written) -> None:
    risk = written.risk
    rules = written.ask(reads.fee_rules)
    assert list(range(1, int(risk.meta[s.FEE_VERSIONS]) + 1)) == sorted(rules)
    for rule, row in rules.items():
        v = risk.fee_versions[rule]
        assert [
            int(v[name]) for name in ("schedule", "version", "effective_ts_ns", "api_discount_e8", "seq", "tiers")
        ] == [
            *(row.schedule, row.version, row.effective_ts_ns, row.api_discount_e8, row.seq),
            len(row.tiers),
        ]
    found = {
        (row.scope, row.account + row.instrument + row.firm): row.schedule
        for row in written.ask(reads.fee_assignments)
        if row.scope != e.SCOPE_CONTRACT
    }
    by_scope = {
        e.SCOPE_VENUE: risk.meta[s.VENUE_SCHEDULE : s.VENUE_SCHEDULE + 1],
        e.SCOPE_ACCOUNT: risk.accounts["schedule"],
        e.SCOPE_FIRM: risk.firm_schedules,
        e.SCOPE_INSTRUMENT: risk.instruments["schedule"],
    }
    expected = {(scope, int(n)): int(rows[n]) for scope, rows in by_scope.items() for n in np.flatnonzero(rows)}
    assert expected == found
    contracts = {(int(r["account"]), int(r["instrument"])): int(r["schedule"]) for r in risk.contracts if r["schedule"]}
    assert contracts == {
        (row.account, row.instrument): row.schedule
        for row in written.ask(reads.fee_assignments)
        if row.scope == e.SCOPE_CONTRACT
    }
    limits = written.ask(reads.limits)
    at = {limits_start(risk, row.scope) + row.account + row.instrument + row.firm: row for row in limits}
    assert set(np.flatnonzero(risk.limits["is_on"]).tolist()) <= at.keys()
    assert len(at) == len(limits) > 3
    for k, row in at.items():
        for name in ("qty_max_lots", "notional_max_units", "open_orders_max", "orders_per_s", "collar_e8", "killed"):
            assert int(risk.limits[k][name]) == getattr(row, name), (row, name)
    for account in range(1, int(risk.meta[s.ACCOUNTS_HIGH]) + 1):
        a, row = risk.accounts[account], written.ask(lambda db, n=account: reads.groups(db, n))
        if a["status"]:
            assert (int(a["master"]), int(a["firm"]), int(a["stp_group"])) == (row.master, row.firm, row.stp_group)


def test_revenue_of_an_obvious_oracle() -> None:
    rng = np.random.default_rng(7)
    fills = np.zeros(6000, dtype=OUTCOME_DTYPE)
    fills["ts_ns"] = np.sort(rng.integers(0, 4 * s.DAY_NS, len(fills)))
    fills["instrument"] = rng.integers(1, 3, len(fills))
    fills["flags"] = e.OUTCOME_TAKER * rng.integers(0, 2, len(fills)) + e.OUTCOME_LAST
    least = np.where(fills["flags"] & e.OUTCOME_TAKER, 0, -(1 << 61))
    fills["fee_units"] = rng.integers(least, 1 << 61) * rng.integers(0, 2, len(fills))
    fills["fee_asset"] = rng.integers(1, 4, len(fills))
    expected: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for t in fills:
        units = int(t["fee_units"])
        kind = terms.TAKER_FEES if t["flags"] & e.OUTCOME_TAKER else terms.MAKER_FEES
        key = (int(t["ts_ns"]) // s.DAY_NS, int(t["instrument"]), int(t["fee_asset"]))
        if units:
            expected[(*key, kind if units > 0 else terms.REBATES)].append(abs(units))
    assert {key: (sum(v), len(v)) for key, v in expected.items()} == {row[:4]: row[4:] for row in revenue_of(fills)}
    assert [] == revenue_of(fills[:0])


def test_database_of_before_gets_its_revenue_from_its_trades(written: Written, postgres: Postgres) -> None:
    async def scenario() -> tuple[Any, Any]:
        db = await asyncpg.connect(written.dsn)
        try:
            before = [tuple(row) for row in await db.fetch("SELECT * FROM revenue ORDER BY 1, 2, 3, 4")]
            async with db.transaction():
                await db.execute(
                    "DROP VIEW trade_list, revenue_list; DROP TABLE revenue, fee_tiers, fee_versions, fee_assignments, limits"
                )
                for table, names in (
                    (
                        "trades",
                        [f"{side}_fee_{what}" for side in ("taker", "maker") for what in ("rule", "tier", "api")],
                    ),
                    ("assets", ["volume_rate_e8", "taker_fee_units", "maker_fee_units", "rebate_units"]),
                    ("instruments", ["follows_venue"]),
                    ("accounts", ["master", "firm", "stp_group"]),
                ):
                    await db.execute(f"ALTER TABLE {table} " + ", ".join(f"DROP COLUMN {name}" for name in names))
                await db.execute("UPDATE alembic_version SET version_num = '0003'")
                old = (Path(schema.__file__).parent / "migrations" / "versions" / "0001_first.py").read_text()
                view = old[old.index("CREATE VIEW trade_list") : old.index("CREATE VIEW posting_list")]
                await db.execute(view)
            await schema.migrate(written.dsn, db)
            assert schema.HEAD == await schema.version(db)
            return before, [tuple(row) for row in await db.fetch("SELECT * FROM revenue ORDER BY 1, 2, 3, 4")]
        finally:
            await db.close()

    before, after = asyncio.run(scenario())
    assert before == after
    assert before


def test_own_rates_take_the_schedule_of_an_instrument_away() -> None:
    desk = FeeDesk()
    desk.schedule(1, (0, 0, 100_000))
    desk.assign(e.SCOPE_INSTRUMENT, 1, instrument=1)
    heads = np.zeros(2, dtype=COMMAND_DTYPE)
    heads["type"], heads["seq"], heads["instrument"] = (e.ASSIGN_FEES, e.SET_FEES), (8, 9), 1
    heads["price_ticks"][0] = e.SCOPE_INSTRUMENT
    none = np.zeros(0, dtype=OUTCOME_DTYPE)
    assert [(e.SCOPE_INSTRUMENT, 0, 1, 0, 1, 8)] == fee_rows(desk.engine, heads[:1], none).fee_assignments
    desk.do(build.set_fees(1, 0, 200_000, *WHO))
    assert [(e.SCOPE_INSTRUMENT, 0, 1, 0, 0, 9)] == fee_rows(desk.engine, heads, none).fee_assignments
    assert [(e.SCOPE_INSTRUMENT, 0, 1, 0, 0, 9)] == fee_rows(desk.engine, heads[1:], none).fee_assignments
