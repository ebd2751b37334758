"""Bringing the schema to the newest version, and making the partitions of the tables that grow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg

from persistence.postgres.klines import NS

HEAD: Final = "0004"
"""Newest change of the schema; a test compares it with the files."""
PARTITIONED: Final = ("order_events", "trades", "postings")
_LOCK: Final = 0x63616D62697374
"""Number of the advisory lock under which the schema changes: any, but always the same."""
_MONTHS: Final = 12
DAY_NS: Final = 86_400 * NS


class SchemaError(Exception):
    """The database has a schema that this version cannot use; the message says which, and what to do."""


async def version(connection: Any) -> str | None:
    """Change that the database stands at; None for an empty one."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    found = await connection.fetchval("SELECT version_num FROM alembic_version")
    return None if found is None else str(found)


async def migrate(dsn: str, connection: Any) -> None:
    """Bring the database to HEAD; nothing happens where it is there. Raises SchemaError."""
    found = await version(connection)
    if found == HEAD:
        return
    if found is not None and found not in _known():
        raise SchemaError(
            f"the database has schema {found!r}, which this version ({HEAD}) does not know: a newer Cambist wrote it; "
            f"use that one, or an empty database"
        )
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await _upgrade(dsn)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


def _known() -> list[str]:
    return [path.name.partition("_")[0] for path in (_migrations() / "versions").glob("[0-9]*.py")]


def _migrations() -> Path:
    return Path(__file__).parent / "migrations"


async def _upgrade(dsn: str) -> None:
    # Half a second of imports that only a new or older database needs.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))

    def run(connection: Any) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async def connected() -> Any:
        return await asyncpg.connect(dsn)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connected, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    except DBAPIError as error:
        raise ConnectionError(f"the schema could not be brought to {HEAD}: {error.orig}") from error
    finally:
        await engine.dispose()


def month_of(ts_ns: int) -> int:
    """Number of the month of a time, UTC: 12 a year."""
    at = datetime.fromtimestamp(ts_ns // NS, UTC)
    return at.year * _MONTHS + at.month - 1


def month_bounds_ns(month: int) -> tuple[int, int]:
    """First ns of a month and of the next."""
    starts = [datetime(n // _MONTHS, n % _MONTHS + 1, 1, tzinfo=UTC) for n in (month, month + 1)]
    first, following = (int(start.timestamp()) * NS for start in starts)
    return first, following


async def make_partitions(connection: Any, months: set[int]) -> None:
    """Partitions of every growing table for ``months``; those that are there stay."""
    for month in sorted(months):
        first, following = month_bounds_ns(month)
        for table in PARTITIONED:
            name = f"{table}_{month // _MONTHS:04}_{month % _MONTHS + 1:02}"
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES FROM ({first}) TO ({following})"
            )
