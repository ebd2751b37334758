"""Pages of history, compared with all rows filtered in plain Python."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from persistence.postgres import reads
from persistence.postgres import terms as m
from persistence.postgres.klines import Kline
from persistence.postgres.reads import Fill, Place
from protocol import enums as e
from tests.persistence.postgres.conftest import Postgres
from tests.persistence.postgres.histories import History, contents, history
from tests.persistence.postgres.test_writer import Heard, follow

Rows = list[Any]


class Filled:
    """A database with a whole history, and all of its rows."""

    def __init__(self, dsn: str, of: History, home: Path) -> None:
        asyncio.run(follow(home, of, dsn, Heard()))
        found = asyncio.run(contents(dsn))
        self.dsn = dsn
        self.orders = [reads.Order(*row) for row in found["orders"]]
        self.events = [reads.OrderEvent(*row) for row in found["order_events"]]
        self.trades = [reads.Trade(*row) for row in found["trades"]]
        self.postings = [reads.Posting(*row) for row in found["postings"]]
        self.klines = [Kline(*map(int, row)) for row in found["klines"]]
        self.times = sorted({trade.ts_ns for trade in self.trades})

    def ask(self, question: Callable[[Any], Awaitable[Any]]) -> Any:
        """Answer from the read side, over a pool as gateways have it."""

        async def asked() -> Any:
            async with asyncpg.create_pool(self.dsn, min_size=1, max_size=2) as pool:
                return await question(pool)

        return asyncio.run(asked())


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[Filled]:
    of = history(4, 900)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        of.journal(home)
        yield Filled(postgres.fresh(), of, home)


async def pages(page: Callable[[Place | None], Awaitable[Rows]], place: Callable[[Any], Place]) -> Rows:
    """All pages after one another."""
    found: Rows = []
    before = None
    while rows := await page(before):
        found += rows
        before = place(rows[-1])
    return found


def place(row: Any) -> Place:
    return Place(row.ts_ns, row.seq, getattr(row, "idx", 0))


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"instrument": 1},
        {"state": e.ORDER_STATE_LIVE},
        {"state": 5},
        {"state": e.ORDER_STATE_FILLED, "instrument": 2},
    ],
)
def test_pages_of_orders_are_all_orders_that_match_newest_first(
    filled: Filled, limit: int, filters: dict[str, int]
) -> None:
    def expected(account: int) -> Rows:
        rows = [
            o
            for o in filled.orders
            if o.account == account and all(getattr(o, name) == x for name, x in filters.items())
        ]
        return sorted(rows, key=lambda o: (o.ts_ns, o.seq), reverse=True)

    async def look(db: Any) -> None:
        total = 0
        for account in (1, 3, 6, 60):
            found = await pages(
                lambda before, account=account: reads.orders(  # type: ignore[misc]
                    db, account, before=before, limit=limit, **filters
                ),
                place,
            )
            assert expected(account) == found
            total += len(found)
        assert total

    filled.ask(look)


def test_a_period_takes_its_first_moment_and_not_its_last(filled: Filled) -> None:
    a, b = filled.times[len(filled.times) // 4], filled.times[len(filled.times) // 2]

    async def look(db: Any) -> None:
        orders = await reads.orders(db, 2, from_ns=a, to_ns=b, limit=1000)
        assert {o.order_id for o in filled.orders if o.account == 2 and a <= o.ts_ns < b} == {
            o.order_id for o in orders
        }
        trades = await reads.trades(db, 1, from_ns=a, to_ns=b, limit=1000)
        assert [t for t in filled.trades if t.instrument == 1 and a <= t.ts_ns < b][::-1] == trades
        assert trades

    filled.ask(look)


def sides(filled: Filled, account: int) -> list[Fill]:
    found = []
    for t in filled.trades:
        common = (t.price_ticks, t.qty_lots, t.value_units)
        if t.taker_account == account:
            taker = (t.taker_order_id, t.taker_fee_units, t.taker_fee_asset)
            rule = (t.taker_fee_rule, t.taker_fee_tier, t.taker_fee_api)
            found.append(Fill(t.seq, t.idx, t.ts_ns, t.instrument, t.taker_side, 2, *common, *taker, *rule))
        if t.maker_account == account:
            maker = (t.maker_order_id, t.maker_fee_units, t.maker_fee_asset)
            rule = (t.maker_fee_rule, t.maker_fee_tier, t.maker_fee_api)
            found.append(Fill(t.seq, t.idx + 1, t.ts_ns, t.instrument, 1 - t.taker_side, 1, *common, *maker, *rule))
    return sorted(found, key=lambda f: (f.ts_ns, f.seq, f.idx), reverse=True)


@pytest.mark.parametrize("limit", [1, 5, 100])
@pytest.mark.parametrize("instrument", [None, 1])
def test_pages_of_fills_have_both_sides_of_an_account(filled: Filled, limit: int, instrument: int | None) -> None:
    async def look(db: Any) -> None:
        both = set()
        for account in range(1, 8):
            found = await pages(
                lambda before, account=account: reads.fills(  # type: ignore[misc]
                    db, account, instrument=instrument, before=before, limit=limit
                ),
                place,
            )
            assert [f for f in sides(filled, account) if instrument in {None, f.instrument}] == found
            both |= {f.liquidity for f in found}
        assert {1, 2} == both

    filled.ask(look)


def test_fills_are_the_events_of_their_orders(filled: Filled) -> None:
    events = {(v.seq, v.idx): v for v in filled.events if v.kind == e.OUT_TRADE}
    count = 0
    for account in range(1, 8):
        for f in sides(filled, account):
            v = events[f.seq, f.idx]
            assert (v.order_id, v.side, v.liquidity, v.fee_units) == (f.order_id, f.side, f.liquidity, f.fee_units)
            assert (v.price_ticks, v.qty_lots, v.value_units) == (f.price_ticks, f.qty_lots, f.value_units)
            count += 1
    assert len(events) == count


def test_pages_of_an_instruments_trades_go_back_to_the_first(filled: Filled) -> None:
    async def look(db: Any) -> None:
        for instrument in (1, 2, 3):
            found = await pages(
                lambda before, i=instrument: reads.trades(db, i, before=before, limit=3),  # type: ignore[misc]
                place,
            )
            assert [t for t in filled.trades if t.instrument == instrument][::-1] == found

    filled.ask(look)


def test_an_order_comes_with_all_that_happened_to_it(filled: Filled) -> None:
    async def look(db: Any) -> None:
        for wanted in filled.orders[::17]:
            found = await reads.order(db, wanted.order_id)
            assert (wanted, [v for v in filled.events if v.order_id == wanted.order_id]) == found
        assert await reads.order(db, 12345) is None

    filled.ask(look)


def test_an_order_is_found_by_the_id_of_its_client_and_the_newest_of_several(filled: Filled) -> None:
    named = [o for o in filled.orders if o.client_order_id]
    last = max(o.seq for o in filled.orders)

    async def look(db: Any) -> None:
        repeated = 0
        for o in named:
            same = [x for x in named if (x.account, x.client_order_id) == (o.account, o.client_order_id)]
            repeated += len(same) > 1
            assert max(same, key=lambda x: x.seq) == await reads.order_of_client(db, o.account, o.client_order_id or "")
            assert o == await reads.order_of_client(db, o.account, o.client_order_id or "", o.seq)
        assert repeated
        assert await reads.order_of_client(db, 61, "nobody's") is None
        statement, *arguments = reads.order_of_client_query(1, "a", last)
        async with db.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL enable_seqscan = off")
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *arguments))
        assert "orders_client_order_id" in plan, plan
        assert "Sort" not in plan, plan

    filled.ask(look)


def test_a_statement_opens_and_closes_with_the_sums_of_all_postings(filled: Filled) -> None:
    a, b = filled.times[len(filled.times) // 3], filled.times[2 * len(filled.times) // 3]

    def balance(account: int, asset: int, bucket: int, before_ns: int) -> int:
        key = (account, asset, bucket)
        return sum(
            p.amount_units for p in filled.postings if (p.account, p.asset, p.bucket) == key and p.ts_ns < before_ns
        )

    async def look(db: Any) -> None:
        for account in (1, 4, 60):
            for asset in (1, 2):
                found = await reads.statement(db, account, asset, a, b)
                own = [p for p in filled.postings if (p.account, p.asset) == (account, asset) and a <= p.ts_ns < b]
                assert own == found.postings
                assert not found.cut
                opening = [balance(account, asset, bucket, a) for bucket in (m.FREE, m.LOCKED)]
                closing = [balance(account, asset, bucket, b) for bucket in (m.FREE, m.LOCKED)]
                assert opening == [found.opening_free_units, found.opening_locked_units]
                assert closing == [found.closing_free_units, found.closing_locked_units]

    filled.ask(look)


def test_a_statement_in_pages_is_the_whole_one(filled: Filled) -> None:
    a, b = filled.times[3], filled.times[-1]

    async def look(db: Any) -> None:
        whole = await reads.statement(db, 2, 1, a, b)
        lines: list[reads.Posting] = []
        after = None
        free, locked = whole.opening_free_units, whole.opening_locked_units
        while True:
            page = await reads.statement(db, 2, 1, a, b, after=after, limit=9)
            assert (free, locked) == (page.opening_free_units, page.opening_locked_units)
            lines += page.postings
            free += sum(p.amount_units for p in page.postings if p.bucket == m.FREE)
            locked += sum(p.amount_units for p in page.postings if p.bucket == m.LOCKED)
            if not page.cut:
                break
            last = page.postings[-1]
            after = Place(last.ts_ns, last.seq, last.idx, last.line)
        assert whole.postings == lines
        assert (whole.closing_free_units, whole.closing_locked_units) == (free, locked)
        assert len(lines) > 50

    filled.ask(look)


def test_candles_are_the_newest_of_a_period_in_order(filled: Filled) -> None:
    async def look(db: Any) -> None:
        own = [k for k in filled.klines if (k.instrument, k.interval_s) == (1, 60)]
        assert own == await reads.klines(db, 1, 60)
        assert own[-1:] == await reads.klines(db, 1, 60, limit=1)
        assert own[1:] == await reads.klines(db, 1, 60, from_ns=own[0].open_ts_ns + 1)
        assert own[:1] == await reads.klines(db, 1, 60, to_ns=own[0].open_ts_ns + 1)
        assert sum(k.trades for k in own) == len([t for t in filled.trades if t.instrument == 1])

    filled.ask(look)


def test_views_show_what_the_tables_hold_in_decimals(filled: Filled) -> None:
    async def look(db: Any) -> None:
        for view in ("balance_list", "order_list", "trade_list", "posting_list", "kline_list"):
            table = {"balance_list": "balances", "kline_list": "klines"}.get(view, view.replace("_list", "s"))
            assert await db.fetchval(f"SELECT count(*) FROM {table}") == await db.fetchval(
                f"SELECT count(*) FROM {view}"
            )
        wrong = await db.fetchval(
            "SELECT count(*) FROM trade_list v JOIN trades t USING (seq, idx) JOIN instruments i USING (instrument) "
            "JOIN assets q ON q.asset = i.quote WHERE v.price * v.qty <> v.value OR v.value * 10::numeric ^ q.scale <> t.value_units"
        )
        assert 0 == wrong

    filled.ask(look)


def test_rows_are_plain_structs_that_encode(filled: Filled) -> None:
    for rows in (filled.orders, filled.events, filled.trades, filled.postings, filled.klines):
        assert msgspec.json.decode(msgspec.json.encode(rows[0]))["seq" if hasattr(rows[0], "seq") else "first_seq"] > 0
