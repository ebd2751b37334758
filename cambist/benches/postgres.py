"""The PostgreSQL writer and the pages that gateways read, on an embedded server of the bench's own.

``follow``: orders are offered to a live exchange at fixed rates, each for a while, and the lag of the database is
sampled: the time since the journal had the command at which the database stands. The figure is the highest rate at
which it stays below two seconds. ``flood``: everything as fast as it goes; the lag grows, trading is measured beside
the same flood without a database, and then how long the database takes to catch up. ``copy``: rows of the same flow
written in the writer's transactions, beside a bare COPY of the very bytes of the three growing tables into tables
without an index, on the same server in the same run. ``history``: a page of an account's orders, of its trades and of
a statement, where the tables hold ``postgres_orders`` orders; the bench fails where a page is read by anything but an
index, and prints the plan. Not measured: networks, a server of another machine, several readers.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import numpy as np

from cambist.benches import flows, live
from cambist.benches.rows import BenchFailedError, Row, Task, histogram, percentiles_of, row
from persistence.fused import FusedEngine
from persistence.postgres import pgcopy, reads
from persistence.postgres.cluster import Cluster
from persistence.postgres.ledger import Ledger
from persistence.postgres.reads import Place
from persistence.postgres.rows import Batch, batch_of
from persistence.postgres.schema import PARTITIONED, make_partitions, migrate, month_of
from persistence.postgres.store import PREPARE, SESSION, take, write
from persistence.postgres.writer import BATCH_SLOTS
from protocol import board as b
from protocol import build
from ringbuf.atomics import load_acquire

LAG_MAX_S: Final = 2.0
PAGE: Final = 100
PAGE_MAX_NS: Final = 10_000_000.0
_TICK_S: Final = 0.02
_NS: Final = 1e9
_PATIENCE_S: Final = 600.0
_ACCOUNTS: Final = 1000
_INSTRUMENTS: Final = 20
_BUSY: Final = 1
"""An account with a tenth of all orders."""
_STEP_NS: Final = 200_000_000
_BEGIN_NS: Final = 1_760_000_000_000_000_000


def run(task: Task) -> list[Row]:
    """Rows of all cases."""
    file = next(iter(flows.files(task, "w1").values()))
    plan = flows.plan_of(file)
    rows = [_follow(task, plan), *_flood(task, plan)]
    with _server() as cluster:
        rows.append(_copy(task, plan, cluster))
        rows += _history(task, cluster)
    return rows


# --- a live exchange ------------------------------------------------------------------------------------------------


class _Lag:
    """How far the database is behind the journal, in commands and in time."""

    def __init__(self, board: np.ndarray) -> None:
        self._board = board
        self._durable: list[tuple[float, int]] = []
        self.most_s = 0.0

    def sample(self) -> tuple[int, float]:
        """Commands and seconds now."""
        now_s = time.monotonic()
        durable, written = (int(load_acquire(self._board, word)) for word in (b.DURABLE_SEQ, b.POSTGRES_SEQ))
        self._durable.append((now_s, durable))
        while len(self._durable) > 1 and self._durable[0][1] <= written:
            self._durable.pop(0)
        behind_s = 0.0 if written >= durable else now_s - self._durable[0][0]
        self.most_s = max(self.most_s, behind_s)
        return durable - written, behind_s


@contextlib.contextmanager
def _exchange(task: Task, plan: Any, name: str, *, database: bool) -> Iterator[tuple[Any, live.Client]]:
    home = task.directory / name
    configured = live.settings(plan, "split", 1) | {"postgres.enabled": database}
    with live.exchange(home, configured) as launched:
        yield launched, live.Client(home, int(launched.summary["epoch"]), live.engine_of(plan))


def _await_written(client: live.Client, lag: _Lag) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while lag.sample()[0] > 0:
        if time.monotonic() > end_s:
            raise BenchFailedError(f"the database did not catch up: {lag.sample()[0]} commands behind")
        time.sleep(_TICK_S)


def _follow(task: Task, plan: Any) -> Row:
    """The highest rate with a lag below LAG_MAX_S."""
    steps = []
    with _exchange(task, plan, "follow", database=True) as (launched, client):
        client.send(plan.setup)
        lag = _Lag(client.board)
        _await_written(client, lag)
        at = 0
        for rate in task.sizes.postgres_rates:
            count = min(int(rate * task.sizes.postgres_s), len(plan.commands) - at)
            if count < rate * task.sizes.postgres_s / 2:
                break
            task.progress(f"postgres follow: {rate:,} orders a second")
            slots = plan.commands[at : at + count]
            at += count
            lag.most_s = 0.0
            rows_before, cpu = int(client.board[b.POSTGRES_ROWS]), live.cpu_ns_of(launched)
            took_s = _offer(client, slots, rate, lag)
            behind = lag.sample()
            steps.append(
                {"offered_per_s": rate, "sent_per_s": round(count / took_s), "most_lag_s": round(lag.most_s, 3)}
            )
            _await_written(client, lag)
            written = int(client.board[b.POSTGRES_ROWS]) - rows_before
            steps[-1] |= {"lag_at_end_s": round(behind[1], 3), "rows_per_order": round(written / count, 2)}
            steps[-1]["cpu_s"] = sum(live.spent(cpu, live.cpu_ns_of(launched)).values()) / _NS
            if lag.most_s >= LAG_MAX_S or count / took_s < 0.9 * rate:
                break
    # What counts is the rate that was sent: on a busy machine the client may fall short of what it was to offer.
    good = [step for step in steps if step["most_lag_s"] < LAG_MAX_S]
    if not good:
        raise BenchFailedError(f"the database is behind by more than {LAG_MAX_S:g} s at every rate: {steps}")
    best = good[-1]
    return row(
        "postgres",
        "follow",
        "orders_per_s",
        "1/s",
        [best["sent_per_s"]],
        [best["cpu_s"]],
        rows_per_order=best["rows_per_order"],
        most_lag_s=best["most_lag_s"],
        steps=[{name: value for name, value in step.items() if name != "cpu_s"} for step in steps],
    )


def _offer(client: live.Client, slots: np.ndarray, rate: int, lag: _Lag) -> float:
    """Send at a rate; seconds until all is durable."""
    ends = np.flatnonzero(build.heads(slots))
    began_s = time.monotonic()
    done = 0
    while done < len(slots):
        due = min(len(slots), int((time.monotonic() - began_s) * rate) + 1)
        if due < len(slots):
            due = int(ends[np.searchsorted(ends, due, side="right") - 1])
        if due > done:
            client.send(slots[done:due])
            done = due
        lag.sample()
        time.sleep(_TICK_S)
    return time.monotonic() - began_s


def _flood(task: Task, plan: Any) -> list[Row]:
    """Everything at once, with and without a database."""
    slots = plan.commands[: task.sizes.postgres_flood]
    task.progress(f"postgres flood: {len(slots):,} commands without and with a database")
    seconds = {}
    hashes = {}
    # The first one finds memory and files cold; the second one of its kind counts.
    for name, database in (("warm-up", False), ("bare", False), ("followed", True)):
        with _exchange(task, plan, name, database=database) as (launched, client):
            client.send(plan.setup)
            lag = _Lag(client.board)
            if database:
                _await_written(client, lag)
            cpu = live.cpu_ns_of(launched)
            began_s = time.monotonic()
            client.send(slots)
            seconds[database] = time.monotonic() - began_s
            hashes[database] = client.hashes()
            if database:
                behind, _ = lag.sample()
                rows_before = int(client.board[b.POSTGRES_ROWS])
                _await_written(client, lag)
                caught_up_s = time.monotonic() - began_s - seconds[True]
                rows = int(client.board[b.POSTGRES_ROWS]) - rows_before
                cpu_s = sum(live.spent(cpu, live.cpu_ns_of(launched)).values()) / _NS
    if hashes[True] != hashes[False]:
        raise BenchFailedError("the states with and without a database differ")
    return [
        row(
            "postgres",
            "flood",
            "orders_per_s",
            "1/s",
            [len(slots) / seconds[True]],
            [cpu_s],
            ("the same flood without a database, in the same run", len(slots) / seconds[False]),
            behind_commands=behind,
            catch_up_s=round(caught_up_s, 3),
            catch_up_orders_per_s=round(behind / max(caught_up_s, _TICK_S)),
            catch_up_rows_per_s=round(rows / max(caught_up_s, _TICK_S)),
        )
    ]


# --- a server of its own --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _server() -> Iterator[Cluster]:
    """A server that runs while the context is open, in a folder whose path is short."""
    with tempfile.TemporaryDirectory(prefix="cbpg-") as folder:
        home = Path(folder)
        (home / "run").mkdir()
        cluster = Cluster(home)
        cluster.create()
        process = cluster.start()
        try:
            while not cluster.is_ready(process.pid):
                if process.poll() is not None:
                    raise BenchFailedError(f"the server ended with status {process.returncode}")
                time.sleep(_TICK_S)
            yield cluster
        finally:
            process.terminate()
            process.wait()


async def _connected(cluster: Cluster, database: str, **settings: str) -> Any:
    main = await asyncpg.connect(cluster.dsn)
    try:
        await main.execute(f"CREATE DATABASE {database}")
    finally:
        await main.close()
    dsn = cluster.dsn.replace("/cambist?", f"/{database}?")
    connection = await asyncpg.connect(dsn, server_settings=settings)
    await migrate(dsn, connection)
    return connection


class _Copied(NamedTuple):
    rows: int
    seconds: float
    bare_rows: int
    bare_seconds: float


def _copy(task: Task, plan: Any, cluster: Cluster) -> Row:
    """Rows a second in the writer's transactions and in a bare COPY."""
    batches = _batches(plan, task.sizes.postgres_flood)
    orders = sum(int(batch.last_seq - batch.first_seq + 1) for batch in batches)
    found = []
    cpu_before_s = time.process_time()
    for k in range(task.runs):
        task.progress(f"postgres copy: {sum(batch.rows for batch in batches):,} rows, run {k + 1} of {task.runs}")
        found.append(asyncio.run(_copied(cluster, batches, f"copy{k}")))
    middle = sorted(found, key=lambda one: one.rows / one.seconds)[len(found) // 2]
    return row(
        "postgres",
        "copy",
        "rows_per_s",
        "1/s",
        [one.rows / one.seconds for one in found],
        [time.process_time() - cpu_before_s],
        (
            "bare COPY of the growing tables' bytes, no index, the same server and run",
            middle.bare_rows / middle.bare_seconds,
        ),
        rows_per_command=round(middle.rows / orders, 2),
        commands_per_s=round(orders / middle.seconds),
    )


def _batches(plan: Any, count: int) -> list[Batch]:
    slots = flows.sequenced(plan)[: len(plan.setup) + count]
    slots["seq"] = np.arange(1, len(slots) + 1)
    heads = np.flatnonzero(build.heads(slots))
    cuts = [0, *heads[np.searchsorted(heads, np.arange(BATCH_SLOTS, len(slots), BATCH_SLOTS))].tolist(), len(slots)]
    settings = live.engine_of(plan)
    engine = FusedEngine(settings)
    ledger = Ledger(engine.risk, settings.limits, 2 * BATCH_SLOTS)
    batches = []
    for begin, end in itertools.pairwise(cuts):
        outcomes: list[np.ndarray] = []
        engine.feed(slots[begin:end], outcomes.append)
        batches.append(batch_of(slots[begin:end], np.concatenate(outcomes), ledger, engine))
    return batches


async def _copied(cluster: Cluster, batches: list[Batch], database: str) -> _Copied:
    connection = await _connected(cluster, database, **SESSION)
    try:
        await connection.execute(PREPARE)
        await take(connection, "bench")
        for batch in batches:
            await make_partitions(connection, batch.months | {month_of(batch.last_ts_ns)})
        began_s = time.perf_counter()
        for batch in batches:
            await write(connection, batch, "bench")
        seconds = time.perf_counter() - began_s
        if batches[-1].last_seq != await connection.fetchval("SELECT last_seq FROM writer"):
            raise BenchFailedError("the position is not that of the last batch")
        for table in PARTITIONED:
            await connection.execute(f"CREATE TABLE bare_{table} (LIKE {table})")
        ready = [
            (table, pgcopy.encode(getattr(batch, table)), getattr(batch, table))
            for batch in batches
            for table in PARTITIONED
        ]
        began_s = time.perf_counter()
        for table, data, rows in ready:
            names = rows.dtype.names or ()
            await connection.copy_to_table(f"bare_{table}", source=io.BytesIO(data), columns=names, format="binary")
        bare_seconds = time.perf_counter() - began_s
    finally:
        await connection.close()
    return _Copied(sum(batch.rows for batch in batches), seconds, sum(len(rows) for _, _, rows in ready), bare_seconds)


# --- pages of history -----------------------------------------------------------------------------------------------

_FILL_ORDERS: Final = """
INSERT INTO orders SELECT (4::bigint << 40) + n, n, {begin} + n * {step}, {account}, 1 + n % {instruments}, n % 2, 1, 0, 0,
    CASE WHEN n % 1000 = 0 THEN 1 ELSE 2 + n % 3 END, 0, 4, 1000 + n % 100, 10, 5, 0, 5000, 0, n, {begin} + n * {step}, 0, 0, NULL
FROM generate_series(1::bigint, {orders}) n
"""
_FILL_TRADES: Final = """
INSERT INTO trades SELECT n, 1, {begin} + n * {step}, 1 + n % {instruments}, n % 2, 1000 + n % 100, 5, 5000, (4::bigint << 40) + n,
    (4::bigint << 40) + n - 1, {account}, 1 + (n * 31) % {accounts}, 3, 1, 1, 2
FROM generate_series(2::bigint, {orders}, 2) n
"""
_FILL_POSTINGS: Final = """
INSERT INTO postings SELECT n, 0, b - 1, 1, {begin} + n * {step}, {account}, 1, b, CASE b WHEN 1 THEN -5 ELSE 5 END, 1000000000 + n,
    (4::bigint << 40) + n
FROM generate_series(1::bigint, {orders}, 2) n, generate_series(1, 2) b
"""
_FILLS: Final = {"orders": _FILL_ORDERS, "trades": _FILL_TRADES, "postings": _FILL_POSTINGS}


def _history(task: Task, cluster: Cluster) -> list[Row]:
    """Times of pages, from the question to its structs."""
    return asyncio.run(_pages(task, cluster))


async def _fill(connection: Any, orders: int) -> None:
    """The tables as so many orders leave them: every second one traded, and half of their holds as postings."""
    account = f"CASE WHEN n % 10 = 0 THEN {_BUSY} ELSE 1 + (n / 2 * 7919) % {_ACCOUNTS} END"
    last_ns = _BEGIN_NS + orders * _STEP_NS
    await make_partitions(connection, set(range(month_of(_BEGIN_NS), month_of(last_ns) + 1)))
    for table, statement in _FILLS.items():
        indexes = await connection.fetch(
            "SELECT indexdef FROM pg_indexes WHERE tablename = $1 AND indexname NOT LIKE '%_pkey'", table
        )
        names = await connection.fetch(
            "SELECT indexname FROM pg_indexes WHERE tablename = $1 AND indexname NOT LIKE '%_pkey'", table
        )
        # The write-ahead log is spared where a table is emptied and filled in one transaction.
        async with connection.transaction():
            await connection.execute(f"TRUNCATE {table}")
            for name in names:
                await connection.execute(f"DROP INDEX {name['indexname']}")
            await connection.execute(
                statement.format(
                    begin=_BEGIN_NS,
                    step=_STEP_NS,
                    account=account,
                    accounts=_ACCOUNTS,
                    instruments=_INSTRUMENTS,
                    orders=orders,
                )
            )
            for index in indexes:
                await connection.execute(index["indexdef"].replace(" ON ONLY ", " ON "))
    await connection.execute("VACUUM ANALYZE")


async def _pages(task: Task, cluster: Cluster) -> list[Row]:
    orders = task.sizes.postgres_orders
    task.progress(f"postgres history: fills {orders:,} orders, {orders // 2:,} trades, {orders:,} postings")
    connection = await _connected(cluster, "history", maintenance_work_mem="512MB")
    try:
        began_s = time.perf_counter()
        await _fill(connection, orders)
        fill_s = time.perf_counter() - began_s
        rng = np.random.default_rng(1)
        middle = Place(_BEGIN_NS + orders // 2 * _STEP_NS, orders // 2, 1)
        to_ns = _BEGIN_NS + orders * _STEP_NS

        def account() -> int:
            return _BUSY if rng.random() < 0.2 else int(rng.integers(1, _ACCOUNTS + 1))

        cases = {
            "orders_newest": lambda: reads.orders_query(account(), None, None, None, None, None, PAGE),
            "orders_deep": lambda: reads.orders_query(account(), None, None, None, None, middle, PAGE),
            "orders_instrument": lambda: reads.orders_query(account(), 7, None, None, None, middle, PAGE),
            "orders_live": lambda: reads.orders_query(account(), None, reads.LIVE, None, None, None, PAGE),
            "fills_newest": lambda: reads.fills_query(account(), None, None, None, None, PAGE),
            "fills_deep": lambda: reads.fills_query(account(), None, None, None, middle, PAGE),
            "trades_deep": lambda: reads.trades_query(int(rng.integers(1, _INSTRUMENTS + 1)), None, None, middle, PAGE),
            "statement_deep": lambda: reads.postings_query(account(), 1, middle.ts_ns, to_ns, None, PAGE),
        }
        return [await _page(task, connection, name, query, orders, fill_s) for name, query in cases.items()]
    finally:
        await connection.close()


async def _page(task: Task, connection: Any, name: str, query: Any, orders: int, fill_s: float) -> Row:
    times_ns: list[int] = []
    medians = []
    cpu_before_s = time.process_time()
    for _ in range(task.runs):
        these = []
        for _ in range(task.sizes.postgres_pages):
            text, *arguments = query()
            began_ns = time.perf_counter_ns()
            await connection.fetch(text, *arguments)
            these.append(time.perf_counter_ns() - began_ns)
        medians.append(float(np.median(these)))
        times_ns += these
    cpu_s = time.process_time() - cpu_before_s
    text, *arguments = query()
    plan = [line[0] for line in await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {text}", *arguments)]
    print(f"-- {name}, {orders:,} orders: {text} {arguments}", *plan, sep="\n", file=sys.stderr)
    if any("Seq Scan" in line for line in plan) and orders >= 1_000_000:
        raise BenchFailedError(f"{name}: the page is read without an index: {plan}")
    percentiles = percentiles_of(histogram(times_ns))
    return row(
        "postgres",
        f"history_{name}",
        "page_ns",
        "ns",
        medians,
        [cpu_s],
        (f"required of a page of {PAGE} rows", PAGE_MAX_NS),
        percentiles,
        orders=orders,
        page_rows=PAGE,
        fill_s=round(fill_s, 1),
        plan=plan,
    )
