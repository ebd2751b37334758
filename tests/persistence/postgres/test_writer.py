"""The writer: every row once, whatever ends a transaction, a connection, a server or the writer itself."""

import asyncio
import contextlib
import random
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

from persistence.consumers import positions
from persistence.journal import DirectoryStore
from persistence.journal.recovery import begin_branch
from persistence.postgres import schema, store, writer
from persistence.postgres.writer import Writer
from protocol import board as b
from tests.persistence.journal_slots import append_batches, write_batches
from tests.persistence.postgres.conftest import Postgres
from tests.persistence.postgres.cutting import Wire
from tests.persistence.postgres.histories import Followed, History, contents, difference, history

Contents = dict[str, list[tuple[Any, ...]]]
TIMEOUT_S = 300
"""Kernels may have to be compiled first."""


class Heard:
    """A status that remembers."""

    def __init__(self) -> None:
        self.states: list[int] = []
        self.reasons: list[str] = []
        self.seq = 0
        self.commits = 0
        self.pending_ts_ns = 0

    def state(self, state: int, why: str = "") -> None:
        self.states.append(state)
        if why:
            self.reasons.append(why)

    def pending(self, ts_ns: int) -> None:
        self.pending_ts_ns = ts_ns

    def committed(self, seq: int, rows: int) -> None:
        assert seq >= self.seq or rows == 0
        self.seq = seq
        self.commits += rows > 0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small batches, and no pauses."""
    monkeypatch.setattr(writer, "BATCH_SLOTS", 100)
    monkeypatch.setattr(writer, "_PACE_S", 0.0)
    monkeypatch.setattr(writer, "_BACK_OFF_S", (0.005, 0.02))


@pytest.fixture(scope="module")
def market() -> History:
    return history(11, 700)


@pytest.fixture
def home(market: History, tmp_path: Path) -> Path:
    market.journal(tmp_path / "home")
    return tmp_path / "home"


def make(
    home: Path, of: History, dsn: str | Callable[[], str], heard: Heard, durable: Callable[[], int] | None = None
) -> Writer:
    last = int(of.groups[-1]["seq"][-1])
    return Writer(
        home,
        of.engine,
        dsn if callable(dsn) else lambda: dsn,
        durable or (lambda: last),
        heard,
        DirectoryStore(home / "journal"),
    )


def reached(heard: Heard, seq: int) -> bool:
    return heard.seq == seq


async def true(condition: Callable[[], bool]) -> None:
    """Wait for something of another task."""
    while not condition():  # noqa: ASYNC110 - a status has no event
        await asyncio.sleep(0.001)


async def follow(home: Path, of: History, dsn: str, heard: Heard) -> None:
    """Write everything and end."""
    last = int(of.groups[-1]["seq"][-1])
    async with asyncio.timeout(TIMEOUT_S):
        await make(home, of, dsn, heard).run(lambda: heard.seq == last)


def uninterrupted(home: Path, of: History, postgres: Postgres) -> Contents:
    dsn = postgres.fresh()
    asyncio.run(follow(home, of, dsn, Heard()))
    return asyncio.run(contents(dsn))


@pytest.fixture(scope="module")
def expected(market: History, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What the tables hold when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("expected") / "home"
    market.journal(folder)
    return uninterrupted(folder, market, postgres)


def test_tables_hold_what_the_engine_made_of_the_journal(home: Path, market: History, postgres: Postgres) -> None:
    found = uninterrupted(home, market, postgres)
    followed = Followed(market)
    batches = [followed.feed(slots) for slots in market.parts(50)]
    for table in ("order_events", "trades", "postings"):
        rows = np.concatenate([getattr(batch, table) for batch in batches])
        assert [tuple(row) for row in rows.tolist()] == found[table], table
    engine = followed.engine
    words = engine.risk.balances.reshape(-1, 8)
    width = market.engine.limits.assets + 1
    held = {
        (int(row) // width, int(row) % width): (int(words[row, 0]), int(words[row, 1]))
        for row in np.flatnonzero(words[:, :2].any(axis=1))
    }
    assert held == {row[:2]: row[2:4] for row in found["balances"] if any(row[2:4])}
    holds = engine.risk.holds[engine.risk.holds["state"] == 2]
    assert {int(h["order_id"]): int(h["locked_units"]) for h in holds} == {
        row[0]: row[17] for row in found["orders"] if row[9] == 1
    }
    assert [(int(market.groups[-1]["seq"][-1]), int(market.groups[-1]["ts_ns"][-1]))] == [
        row[1:] for row in found["writer"]
    ]
    status = {
        int(n): int(engine.risk.instruments["status"][n]) for n in range(1, 8) if engine.risk.instruments["status"][n]
    }
    assert status == {row[0]: row[2] for row in found["instruments"]}
    assert 0 < positions(home)["postgres"] == int(market.groups[-1]["seq"][-1])


def test_a_history_over_the_turn_of_a_month_lies_in_two_partitions(
    home: Path, market: History, postgres: Postgres
) -> None:
    dsn = postgres.fresh()
    asyncio.run(follow(home, market, dsn, Heard()))

    async def look() -> None:
        connection = await asyncpg.connect(dsn)
        before, after = await connection.fetch(
            "SELECT tableoid::regclass::text t, count(*) n FROM postings GROUP BY 1 ORDER BY 1"
        )
        names = [
            row["relname"]
            for row in await connection.fetch(
                "SELECT relname FROM pg_class WHERE relname LIKE 'postings_2%_' AND relkind = 'r'"
            )
        ]
        plan = await connection.fetch(
            f"EXPLAIN SELECT * FROM postings WHERE ts_ns < {schema.month_bounds_ns(schema.month_of(int(market.groups[0]['ts_ns'][0])))[1]}"
        )
        await connection.close()
        assert ("postings_2023_11", "postings_2023_12") == (before["t"], after["t"])
        assert min(before["n"], after["n"]) > 100
        assert "postings_2024_01" in names, "the next month is made ahead of time"
        assert "postings_2023_12" not in " ".join(row[0] for row in plan)

    asyncio.run(look())


@pytest.mark.parametrize("seed", range(6))
def test_connections_cut_anywhere_leave_every_row_once(
    seed: int,
    home: Path,
    market: History,
    postgres: Postgres,
    expected: Contents,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rng = random.Random(seed)
    dsn = postgres.fresh()
    wire = Wire(postgres.cluster.home / "run" / "..", dsn, postgres.cluster.socket_folder)

    async def scenario() -> None:
        last = int(market.groups[-1]["seq"][-1])
        heard = Heard()
        async with wire, asyncio.timeout(TIMEOUT_S):
            for _ in range(12):
                wire.limit_by_chance(rng)
            while heard.seq < last:
                following = asyncio.ensure_future(make(home, market, wire.dsn, heard).run(lambda: heard.seq == last))
                # Now and then the writer itself ends too, in the middle of whatever it does.
                await asyncio.wait([following], timeout=rng.choice((0.05, 0.2, 0.5, 5.0)))
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following
        assert wire.cuts >= 2, "nothing was cut"
        assert all(":***@" in reason for reason in heard.reasons)

    asyncio.run(scenario())
    assert "" == difference(expected, asyncio.run(contents(dsn)))


def test_a_connection_cut_between_commit_and_its_answer_writes_nothing_twice(
    home: Path, market: History, postgres: Postgres, expected: Contents
) -> None:
    dsn = postgres.fresh()
    wire = Wire(postgres.cluster.home / "run" / "..", dsn, postgres.cluster.socket_folder)
    committed_unheard: list[int] = []

    async def scenario() -> None:
        heard = Heard()
        last = int(market.groups[-1]["seq"][-1])
        original = store.write

        async def write(connection: Any, batch: Any, history: str) -> None:
            await original(connection, batch, history)
            if len(committed_unheard) < 5:
                committed_unheard.append(batch.last_seq)
                raise ConnectionResetError("the answer to COMMIT is lost")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writer, "write", write)
            async with wire, asyncio.timeout(TIMEOUT_S):
                await make(home, market, wire.dsn, heard).run(lambda: heard.seq == last)

    asyncio.run(scenario())
    assert 5 == len(set(committed_unheard))
    assert "" == difference(expected, asyncio.run(contents(dsn)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT])
def test_a_server_that_ends_and_comes_back_has_every_row_once(
    number: int, home: Path, market: History, postgres: Postgres, expected: Contents
) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        heard = Heard()
        last = int(market.groups[-1]["seq"][-1])
        following = asyncio.ensure_future(make(home, market, dsn, heard).run(lambda: heard.seq == last))
        async with asyncio.timeout(TIMEOUT_S):
            await true(lambda: heard.commits >= 3)
            before = heard.seq
            assert before < last
            postgres.stop(number)
            await true(lambda: b.DATABASE_FAILED in heard.states)
            assert heard.seq < last
            assert heard.pending_ts_ns > 0, "the lag shows"
            postgres.start()
            await following
        assert [b.DATABASE_STARTING, b.DATABASE_UP] == heard.states[:2]
        assert b.DATABASE_UP == heard.states[-1]
        assert b.DATABASE_STARTING not in heard.states[2:], "the engine goes on where it stood"

    asyncio.run(scenario())
    assert "" == difference(expected, asyncio.run(contents(dsn)))


def refusal(home: Path, of: History, dsn: str, durable: Callable[[], int] | None = None) -> str:
    """What the writer says of a database that it does not write to."""
    heard = Heard()
    asyncio.run(_until(make(home, of, dsn, heard, durable), lambda: b.DATABASE_REFUSED in heard.states))
    assert 0 == heard.commits
    return heard.reasons[-1]


async def _until(one: Writer, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await one.run(condition)


def test_the_database_of_another_journal_is_refused_by_name(home: Path, market: History, postgres: Postgres) -> None:
    dsn = postgres.fresh()
    asyncio.run(follow(home, market, dsn, Heard()))
    before = asyncio.run(contents(dsn))
    foreign = "ab" * 16
    asyncio.run(execute(dsn, f"UPDATE writer SET journal_id = '{foreign}'"))
    why = refusal(home, market, dsn)
    assert foreign in why
    assert before["writer"][0][0] in why
    assert "postgres.dsn" in why
    after = asyncio.run(contents(dsn))
    assert "" == difference({name: rows for name, rows in before.items() if name != "writer"}, after)


def test_a_database_goes_on_with_one_branch_of_a_history_and_refuses_the_others(
    home: Path, market: History, postgres: Postgres, expected: Contents, tmp_path: Path
) -> None:
    parts = market.parts(17)
    half = len(parts) // 2
    shared = int(parts[half - 1]["seq"][-1])
    restored = tmp_path / "restored"
    (restored / "journal").mkdir(parents=True)
    store = DirectoryStore(restored / "journal")
    write_batches(store, parts[:half])
    branch = begin_branch(store, 1).history
    append_batches(store, parts[half:])
    dsn = postgres.fresh()
    heard = Heard()
    asyncio.run(_until(make(home, market, dsn, heard, lambda: shared), lambda: heard.seq == shared))
    asyncio.run(follow(restored, market, dsn, Heard()))
    found = asyncio.run(contents(dsn))
    assert branch == found["writer"][0][0] != expected["writer"][0][0]
    assert "" == difference({name: rows for name, rows in expected.items() if name != "writer"}, found)
    assert branch in refusal(home, market, dsn)
    dsn = postgres.fresh()
    asyncio.run(follow(home, market, dsn, Heard()))
    assert branch in refusal(restored, market, dsn)


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def test_a_database_ahead_of_the_journal_is_refused_with_both_numbers(
    home: Path, market: History, postgres: Postgres
) -> None:
    dsn = postgres.fresh()
    asyncio.run(follow(home, market, dsn, Heard()))
    last = int(market.groups[-1]["seq"][-1])
    why = refusal(home, market, dsn, lambda: last - 10)
    assert str(last) in why
    assert str(last - 10) in why


def test_a_schema_of_a_newer_version_is_refused_by_its_number(home: Path, market: History, postgres: Postgres) -> None:
    dsn = postgres.fresh()
    asyncio.run(execute(dsn, "UPDATE alembic_version SET version_num = '9999'"))
    assert "'9999'" in refusal(home, market, dsn)


def test_two_writers_at_once_write_every_row_once(
    home: Path, market: History, postgres: Postgres, expected: Contents
) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        last = int(market.groups[-1]["seq"][-1])
        heard = [Heard(), Heard()]
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*(make(home, market, dsn, one).run(partial(reached, one, last)) for one in heard))

    asyncio.run(scenario())
    assert "" == difference(expected, asyncio.run(contents(dsn)))


def test_migrations_from_nothing_and_again_change_nothing(postgres: Postgres) -> None:
    dsn = postgres.empty()

    async def scenario() -> tuple[list[Any], list[Any]]:
        connection = await asyncpg.connect(dsn)
        seen = []
        for _ in range(2):
            await schema.migrate(dsn, connection)
            await schema.make_partitions(connection, {schema.month_of(0), schema.month_of(1_800_000_000 * 10**9)})
            seen.append(
                await connection.fetch(
                    "SELECT table_name, column_name, data_type FROM information_schema.columns "
                    "WHERE table_schema = 'public' ORDER BY 1, ordinal_position"
                )
            )
        assert schema.HEAD == await schema.version(connection)
        await connection.close()
        return seen[0], seen[1]

    once, twice = asyncio.run(scenario())
    assert once == twice
    kinds = {row["data_type"] for row in once if re.search(r"_(units|ticks|lots|ns|seq)$", row["column_name"])}
    assert {"bigint", "numeric"} == kinds, "amounts are exact integers"


def test_the_newest_migration_is_the_head_that_the_program_knows() -> None:
    assert schema.HEAD == max(schema._known())


def test_an_operators_role_and_database_on_another_server_are_served_alike(
    home: Path, market: History, postgres: Postgres, expected: Contents, tmp_path_factory: pytest.TempPathFactory
) -> None:
    postgres.run("postgres", "CREATE ROLE desk LOGIN PASSWORD 'open sesame'")
    postgres.run("postgres", "CREATE DATABASE back_office OWNER desk")
    dsn = postgres.dsn("back_office").replace(f"cambist:{postgres.cluster.password()}@", "desk:open%20sesame@")
    assert "desk" in dsn
    heard = Heard()
    asyncio.run(follow(home, market, dsn, heard))
    assert "" == difference(expected, asyncio.run(contents(dsn)))
    wrong = dsn.replace("sesame", "barley")
    asyncio.run(_until(make(home, market, wrong, heard), lambda: b.DATABASE_FAILED in heard.states))
    assert "desk:***@/back_office" in heard.reasons[-1]
    assert "barley" not in heard.reasons[-1]
