"""The directory in PostgreSQL and in several gateways at once: an embedded server, real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.access import changes, codes, recovery, totp
from gateway.access.authentication import token_hash as token_hash_of
from gateway.access.cache import POLL_S, AccessCache
from gateway.access.changes import Change
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.access.login import Lifetime, Origin, Second, sign_in
from gateway.access.passwords import Passwords
from gateway.access.records import CLIENT, TABLES, Session, User
from gateway.access.rights import Principal, may
from gateway.access.sealing import Seal
from persistence.journal import DirectoryStore
from persistence.journal.segments import history_at, lineage
from persistence.postgres.store import take
from tests.access.support import CHEAP, NOW_NS, PASSWORD
from tests.persistence.journal_slots import limit_orders, write_batches
from tests.persistence.postgres.conftest import Postgres

SEAL = Seal(bytes(32))
HASHER = Passwords(CHEAP)
PATIENCE_S = 60.0


@contextlib.asynccontextmanager
async def cache_of(dsn: str) -> AsyncIterator[AccessCache]:
    """A gateway's cache that follows; it has the directory."""
    cache = AccessCache(lambda: dsn, SEAL)
    running = asyncio.ensure_future(cache.run())
    try:
        await asyncio.wait_for(cache.loaded.wait(), PATIENCE_S)
        yield cache
    finally:
        running.cancel()
        ended, _ = await asyncio.wait({running}, timeout=PATIENCE_S)
        assert ended, "a cache that was told to end goes on"


async def until(true: Callable[[], bool]) -> float:
    """Seconds until it is so."""
    began_s = time.monotonic()
    while not true():
        assert time.monotonic() - began_s < PATIENCE_S, "it never was"
        await asyncio.sleep(0.005)
    return time.monotonic() - began_s


def user(name: str, *accounts: int) -> list[Callable[[Directory], Change]]:
    hashed = HASHER.hash(PASSWORD)
    make: list[Callable[[Directory], Change]] = [
        lambda d: changes.create_user(d, name, hashed, NOW_NS, temporary=False),
    ]
    return make + [lambda d, a=account: changes.attach_account(d, name, a, "") for account in accounts]


def key(name: str, key_id: str, secret: bytes = b"s3cret") -> Callable[[Directory], Change]:
    return lambda d: changes.create_key(
        d, name, "hmac", key_id=key_id, secret=secret, permissions=["trade"], seal=SEAL, now_ns=NOW_NS
    )


async def do(cache: AccessCache, *acts: Callable[[Directory], Change]) -> None:
    for decide in acts:
        await cache.act(decide, actor="test", reason="because")


async def signed_in(cache: AccessCache, name: str, token_hash: bytes) -> None:
    check = HASHER.check(cache.directory.user(name), PASSWORD)
    origin = Origin("127.0.0.1", "phone")
    now_ns = time.time_ns()
    await do(cache, lambda d: sign_in(d, name, check, Second(), origin, token_hash, Lifetime(), SEAL, now_ns, CLIENT))


def test_every_table_has_the_columns_of_its_record_and_the_version(postgres: Postgres) -> None:
    dsn = postgres.fresh()

    async def columns() -> dict[str, list[str]]:
        connection = await asyncpg.connect(dsn)
        found = await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'access' "
            "ORDER BY table_name, ordinal_position"
        )
        await connection.close()
        tables: dict[str, list[str]] = {}
        for row in found:
            tables.setdefault(row["table_name"], []).append(row["column_name"])
        return tables

    found = asyncio.run(columns())
    del found["event"]
    assert {table: [*kind.__struct_fields__, "version"] for table, kind in TABLES.items()} == found


def test_another_gateway_reads_back_exactly_what_was_written(postgres: Postgres) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        async with cache_of(dsn) as one, cache_of(dsn) as two:
            await do(one, *user("ann", 1, 11), key("ann", "k"), lambda d: changes.create_firm(d, "firm", NOW_NS, 9))
            await do(one, lambda d: changes.restrict(d, "firm", 1, ["trade", "api"], "why", NOW_NS))
            await do(one, lambda d: changes.set_recovery(d, "ann", recovery.new_codes()))
            await signed_in(one, "ann", b"hash")
            await do(
                one, lambda d: changes.create_operator(d, "olga", ["auditor", "approver"], "", NOW_NS, temporary=True)
            )
            await until(lambda: two.directory.version == one.directory.version)
            for table in TABLES:
                assert getattr(one.directory, table) == getattr(two.directory, table)
            async with cache_of(dsn) as three:
                assert one.directory.users == three.directory.users
                assert one.directory.keys == three.directory.keys

    asyncio.run(scenario())


@pytest.mark.parametrize("notices", [True, False])
def test_change_is_in_force_at_another_gateway_by_notice_and_without_one(postgres: Postgres, notices: bool) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        async with cache_of(dsn) as one, cache_of(dsn) as two:
            if not notices:
                two._noticed.set = lambda: None  # type: ignore[method-assign]
            await do(one, *user("ann", 1), key("ann", "k"))
            await until(lambda: "k" in two.directory.keys)
            principal = Principal(key_id="k")
            for number in range(1, 4):
                await asyncio.sleep(0.03)
                await do(one, lambda d: changes.restrict(d, "user", 1, ["trade"], "stop", NOW_NS))
                await until(lambda: not may(two.directory, principal, "trade", 1, NOW_NS).allowed)
                await do(one, lambda d, n=number: changes.lift(d, n, NOW_NS))  # type: ignore[misc]
                await until(lambda: may(two.directory, principal, "trade", 1, NOW_NS).allowed)

    asyncio.run(scenario())
    assert POLL_S < 1.0, "in force within a second"


def test_each_change_has_its_event_without_secrets_and_events_cannot_be_changed(postgres: Postgres) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        async with cache_of(dsn) as one:
            secret = totp.new_secret()
            now_ns = one.clock_ns()
            code = totp.code(secret, now_ns // totp.STEP_NS)
            await do(one, *user("ann", 1), key("ann", "k", b"very-secret-text"))
            await do(one, lambda d: changes.set_totp(d, "ann", secret, code, SEAL, now_ns))
            codes_given = recovery.new_codes()
            await do(
                one, lambda d: changes.set_recovery(d, "ann", codes_given), lambda d: changes.revoke_key(d, "k", 5)
            )
            history = await one.events()
            assert [6, 5, 4, 3, 2, 1] == [event["event_id"] for event in history]
            assert ("test", "because", "key revoked", "user ann") == tuple(
                history[0][name] for name in ("actor", "reason", "action", "subject")
            )
            assert (0, 5) == tuple(history[0]["changes"][0][side]["revoked_ns"] for side in ("before", "after"))
            text = json.dumps(history)
            row = one.directory.users[1]
            hidden = ["argon2", "very-secret", totp.text_of(secret), row.totp.hex(), *row.recovery, *codes_given]
            hidden.append(one.directory.keys["k"].secret.hex())
            assert [] == [part for part in hidden if part in text]
        connection = await asyncpg.connect(dsn)
        for statement in ("DELETE FROM access.event", "UPDATE access.event SET actor = 'me'", "TRUNCATE access.event"):
            with pytest.raises(asyncpg.RaiseError, match="only ever added"):
                await connection.execute(statement)
        rows = await connection.fetchval("SELECT string_agg(t::text, ' ') FROM access.keys t")
        await connection.close()
        assert "very-secret" not in rows

    asyncio.run(scenario())


def test_change_that_is_denied_writes_nothing(postgres: Postgres) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        async with cache_of(dsn) as one:
            await do(one, *user("ann", 1))
            before = one.directory.version
            with pytest.raises(Denied):
                await do(one, *user("ann", 2))
            assert before == one.directory.version == len(await one.events())

    asyncio.run(scenario())


def test_acts_of_two_gateways_at_the_same_time_are_decided_one_after_the_other(postgres: Postgres) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        async with cache_of(dsn) as one, cache_of(dsn) as two:
            tried = await asyncio.gather(
                *(do(cache, *user("same")) for cache in (one, two)),
                *(do(cache, *user(f"u{at}")) for at, cache in enumerate((one, two) * 10)),
                return_exceptions=True,
            )
            denied = [error for error in tried if isinstance(error, Denied)]
            assert [codes.NAME_TAKEN] == [error.code for error in denied]
            await until(lambda: one.directory.version == two.directory.version == 21)
            assert one.directory.users == two.directory.users
            assert 21 == len({row.name for row in one.directory.users.values()})

    asyncio.run(scenario())


def test_known_keys_and_sessions_go_on_while_the_database_is_away_and_revocations_stay(postgres: Postgres) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        async with cache_of(dsn) as one, cache_of(dsn) as two:
            await do(one, *user("ann", 1), key("ann", "good"), key("ann", "gone"))
            token_hash = token_hash_of("token")
            await signed_in(one, "ann", token_hash)
            await do(one, lambda d: changes.revoke_key(d, "gone", NOW_NS))
            await until(lambda: two.directory.version == one.directory.version)
            postgres.stop(signal.SIGKILL)
            await until(lambda: bool(two.why) and bool(one.why))
            for cache in (one, two):
                now_ns = time.time_ns()
                assert cache.authenticator.session("token", now_ns)[0].allowed
                assert may(cache.directory, Principal(key_id="good"), "trade", 1, now_ns).allowed
                assert codes.KEY_REVOKED == may(cache.directory, Principal(key_id="gone"), "trade", 1, now_ns).code
                with pytest.raises(Denied, match="away"):
                    await do(cache, *user("bob"))
                assert cache.age_s() > 0
                assert "away" in cache.status()["why"]
            postgres.start()
            await until(lambda: one.why == "" and two.why == "")
            await do(one, lambda d: changes.revoke_key(d, "good", NOW_NS))
            await until(lambda: not may(two.directory, Principal(key_id="good"), "trade", 1, NOW_NS).allowed)

    asyncio.run(scenario())


@pytest.mark.parametrize("turns", range(6))
def test_cache_that_is_told_to_end_in_the_moment_of_a_notice_ends(postgres: Postgres, turns: int) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        async with cache_of(dsn) as one:
            await until(lambda: one.why == "")
            one._noticed.set()
            for _ in range(turns):
                await asyncio.sleep(0)

    asyncio.run(scenario())


def test_database_that_knows_less_brings_nothing_back(postgres: Postgres) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        async with cache_of(dsn) as one:
            await do(one, *user("ann", 1), key("ann", "k"), lambda d: changes.revoke_key(d, "k", NOW_NS))
            connection = await asyncpg.connect(dsn)
            await connection.execute("ALTER TABLE access.event DISABLE TRIGGER history")
            await connection.execute("DELETE FROM access.event WHERE event_id = 4")
            await connection.execute("UPDATE access.keys SET revoked_ns = 0, version = 3")
            await connection.close()
            await until(lambda: "known here" in one.why)
            assert codes.KEY_REVOKED == may(one.directory, Principal(key_id="k"), "trade", 1, NOW_NS).code
            with pytest.raises(Denied):
                await do(one, *user("bob"))

    asyncio.run(scenario())


def test_sign_in_is_told_at_every_gateway_once_and_not_of_before(postgres: Postgres) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        told: dict[str, list[tuple[str, str]]] = {"one": [], "two": [], "late": []}

        def callback(where: str) -> Callable[[User, Session], Any]:
            async def notify(who: User, session: Session) -> None:
                told[where].append((who.name, session.device))

            return notify

        async with cache_of(dsn) as one, cache_of(dsn) as two:
            one.on_login(callback("one"))
            two.on_login(callback("two"))
            await do(one, *user("ann", 1))
            await signed_in(one, "ann", b"a")
            await until(lambda: bool(told["two"]))
            late = AccessCache(lambda: dsn, SEAL)
            late.on_login(callback("late"))
            running = asyncio.ensure_future(late.run())
            await asyncio.wait_for(late.loaded.wait(), PATIENCE_S)
            await signed_in(two, "ann", b"b")
            await until(lambda: bool(told["late"]))
            await until(lambda: len(told["one"]) == 2)
            running.cancel()
        assert {"one": [("ann", "phone")] * 2, "two": [("ann", "phone")] * 2, "late": [("ann", "phone")]} == told

    asyncio.run(scenario())


def test_last_use_of_a_session_reaches_the_other_gateways_without_an_event(postgres: Postgres) -> None:
    dsn = postgres.fresh()

    async def scenario() -> None:
        async with cache_of(dsn) as one, cache_of(dsn) as two:
            await do(one, *user("ann", 1))
            await signed_in(one, "ann", b"a")
            await until(lambda: two.directory.version == one.directory.version)
            later_ns = time.time_ns() + 1_000_000_000
            one.authenticator.touched[1] = later_ns
            for cache in (one, two):
                await until(lambda c=cache: c._connection is not None)  # type: ignore[misc]
                await cache._exchange_seen(cache._connection)
            assert later_ns == two.directory.sessions[1].seen_ns
            assert {} == one.authenticator.touched
            assert one.directory.version == len(await two.events())

    asyncio.run(scenario())


def journal_of(folder: Path) -> tuple[Path, str]:
    """A journal, and the name of its history."""
    folder.mkdir()
    store = DirectoryStore(folder)
    write_batches(store, [limit_orders(5)])
    return folder, history_at(lineage(store).headers, 0)


def test_database_of_another_exchange_is_refused_by_name_and_what_is_known_stays(
    postgres: Postgres, tmp_path: Path
) -> None:
    dsn = postgres.fresh()
    journal, history = journal_of(tmp_path / "journal")
    foreign = "ab" * 16

    async def scenario() -> None:
        connection = await asyncpg.connect(dsn)
        cache = AccessCache(lambda: dsn, SEAL, journal=journal)
        running = asyncio.ensure_future(cache.run())
        try:
            await until(lambda: "the writer has not begun with it" in cache.why)
            await take(connection, foreign)
            await until(lambda: foreign in cache.why)
            assert f"this home's is {history}: name this home's own database in postgres.dsn" in cache.why
            assert not cache.loaded.is_set()
            with pytest.raises(Denied):
                await do(cache, *user("ann", 1))
            await connection.execute(f"UPDATE writer SET journal_id = '{history}'")
            await until(cache.loaded.is_set)
            await do(cache, *user("ann", 1))
            await connection.execute(f"UPDATE writer SET journal_id = '{foreign}'")
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'cambist access'"
            )
            await until(lambda: foreign in cache.why)
            assert cache.directory.user("ann") is not None
            behind_ms = cache.status()["behind_ms"]
            await until(lambda: cache.status()["behind_ms"] > behind_ms)
        finally:
            running.cancel()
            await connection.close()

    asyncio.run(scenario())
