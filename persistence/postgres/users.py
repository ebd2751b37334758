"""Users and their history in a backup: schema ``access``, which is nowhere else, as lines of JSON.

Read in one transaction that sees one moment, and brought into an empty schema in one transaction. The first line says what it is::

    {"format": 1, "schema": "0004", "event": 17, "key_sha256": "…", "sealed": true}
    {"table": "users", "rows": [{…}, …]}

Passwords and tokens in it are hashes, and other secrets are sealed with ``access.key`` of the home, which no backup has: whoever has a
backup cannot sign for a client. Its digest is there, so that a wrong one is found before anybody is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from persistence.folders import sync_folder
from persistence.postgres import schema
from persistence.postgres.cluster import Cluster, ClusterError
from persistence.postgres.database import connect, dsn_of

FILE: Final = "access.jsonl"
"""In a backup, and in a restored home until the database has it."""
KEY_FILE: Final = "access.key"
FORMAT: Final = 1
LINE_END: Final = b"\n"
_START_S: Final = 60.0
_LOOK_S: Final = 0.02
_ROWS: Final = 500
_NAME: Final = re.compile(r"[a-z_]{1,40}")
_FIRST: Final = ("event", "users")
"""Tables that others refer to, before those."""
_SEALED: Final = (("users", "totp"), ("keys", "secret"))
_TABLES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = 'access' ORDER BY tablename"
_MADE: Final = "SELECT to_regclass('access.event') IS NOT NULL"
_LAST: Final = "SELECT coalesce(max(event_id), 0) FROM access.event"


class UsersError(Exception):
    """Users of a backup cannot be used; the message says why and what to do."""


async def dump(dsn: str, home: Path) -> bytes | None:
    """All tables as of one moment; None where the database has no users' schema yet. Raises one of ``database.UNREACHABLE``."""
    connection = await connect(dsn, "backup", timezone="UTC")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            if not await connection.fetchval(_MADE):
                return None
            tables = {row[0] for row in await connection.fetch(_TABLES)}
            lines, sealed = [], False
            for table in (*_FIRST, *sorted(tables - set(_FIRST))):
                key = await connection.fetchval(
                    "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
                    "WHERE i.indrelid = $1::regclass AND i.indisprimary",
                    f"access.{table}",
                )
                found = await connection.fetch(f"SELECT row_to_json(t)::text FROM access.{table} t ORDER BY {key}")  # noqa: S608 - our own names
                rows = [json.loads(row[0]) for row in found]
                sealed |= any(row[column] != "\\x" for of, column in _SEALED if of == table for row in rows)
                lines += [{"table": table, "rows": rows[k : k + _ROWS]} for k in range(0, len(rows), _ROWS)]
            path = home / KEY_FILE
            head = {
                "format": FORMAT,
                "schema": await schema.version(connection),
                "event": await connection.fetchval(_LAST),
                "key_sha256": hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "",
                "sealed": sealed,
            }
    finally:
        await connection.close()
    return _text([head, *lines])


def read(home: Path, configured: str) -> bytes | None:
    """Users of a home whose database can be reached, or whose embedded server stands still and is nobody else's to start.

    None where there are none yet. Raises one of ``database.UNREACHABLE``, ValueError, ClusterError.
    """
    waiting = home / FILE
    if waiting.exists():
        return waiting.read_bytes()
    return asyncio.run(dump(dsn_of(home, configured), home))


@contextlib.contextmanager
def serving(home: Path) -> Iterator[None]:
    """The embedded server of a home that the caller holds, for a moment. Raises ClusterError."""
    cluster = Cluster(home)
    process = cluster.start(home / "log" / "postgres-server.log")
    try:
        end_s = time.monotonic() + _START_S
        while not cluster.is_ready(process.pid):
            if process.poll() is not None or time.monotonic() > end_s:
                raise ClusterError(f"{cluster.data}: the server does not start; {home / 'log'} says why")
            time.sleep(_LOOK_S)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def is_made(home: Path) -> bool:
    """Whether the home has an embedded database."""
    return (Cluster(home).data / "PG_VERSION").exists()


def said(data: bytes | None) -> str:
    """What a manifest says of the users in a backup."""
    return "none" if data is None else f"event {json.loads(data.partition(LINE_END)[0])['event']}"


def fitted(data: bytes, exists: Callable[[int], bool], *, without_key: bool) -> bytes:
    """The users for a restored home.

    Accounts that its history does not have are nobody's, for such a number will be somebody else's. ``without_key``: nothing in them
    is going to be opened.
    """
    lines = [json.loads(line) for line in data.splitlines()]
    lines[0]["sealed"] = lines[0]["sealed"] and not without_key
    for line in lines[1:]:
        if line["table"] == "accounts":
            line["rows"] = [row for row in line["rows"] if exists(row["account"])]
    return _text([line for line in lines if line.get("rows") != []])


def check_waiting(home: Path) -> None:
    """Raise UsersError where a restored home has users to bring in, and not the key that opens their secrets."""
    path, key = home / FILE, home / KEY_FILE
    if not path.exists():
        return
    head = _head(path)
    if not head["sealed"]:
        return
    again = "Where it is lost, restore with --without-access-key, and give every user new keys and authenticators"
    if not key.exists():
        raise UsersError(
            f"{key} is missing: secrets of keys and authenticators in the restored users are sealed with it, and a backup does "
            f"not have it. Put its copy there, mode 0600. {again}"
        )
    if head["key_sha256"] not in {"", hashlib.sha256(key.read_bytes()).hexdigest()}:
        raise UsersError(
            f"{key} is another key than the one that the secrets of the restored users are sealed with: put that one there. {again}"
        )


def dsn_of_users(home: Path, configured: str) -> str:
    """DSN of the database of users. Raises ConnectionError while those of a backup are not in it."""
    if (home / FILE).exists():
        raise ConnectionError(f"the users of {home / FILE} are being brought in")
    return dsn_of(home, configured)


async def bring_in(connection: Any, home: Path) -> None:
    """Take the users of a restored home into the database, once; nothing where there are none to take.

    Raises UsersError, and nothing is changed, where the database has other users, or the key is missing.
    """
    path = home / FILE
    if not path.exists():
        return
    check_waiting(home)
    head = _head(path)
    async with connection.transaction():
        if await connection.fetchval(_LAST) == 0:
            for line in _lines(path):
                await _insert(connection, line["table"], line["rows"])
        elif not await _is_known(connection, path, head["event"]):
            raise UsersError(
                f"{path}: the database has users of another history; name an empty database in postgres.dsn, or remove the "
                f"file to keep the database's users"
            )
    path.unlink()
    sync_folder(home)


async def _is_known(connection: Any, path: Path, event: int) -> bool:
    """Whether the database goes on from the last event of the dump: what it knows is the same or newer, and stays."""
    last: dict[str, Any] = next(
        (row for line in _lines(path) if line["table"] == "event" for row in line["rows"] if row["event_id"] == event),
        {},
    )
    found = await connection.fetchrow(
        "SELECT ts_ns, actor, action, subject FROM access.event WHERE event_id = $1", event
    )
    return found is not None and all(found[name] == last.get(name) for name in ("ts_ns", "actor", "action", "subject"))


async def _insert(connection: Any, table: str, rows: list[dict[str, Any]]) -> None:
    # Columns that a later version added keep their defaults.
    if not all(_NAME.fullmatch(name) for name in (table, *rows[0])):
        raise UsersError(
            f"the users of the backup name a table {table!r} or its columns as no version does; use another backup"
        )
    columns = ", ".join(f'"{name}"' for name in rows[0])
    statement = (
        f"INSERT INTO access.{table} ({columns}) "  # noqa: S608 - checked above
        f"SELECT {columns} FROM json_populate_recordset(NULL::access.{table}, $1::json)"
    )
    await connection.execute(statement, json.dumps(rows))


def _text(lines: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + LINE_END for line in lines)


def _head(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        head: dict[str, Any] = json.loads(file.readline())
    if head.get("format") != FORMAT:
        raise UsersError(f"{path}: users of format {head.get('format')}; this program reads {FORMAT}")
    return head


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        file.readline()
        for line in file:
            yield json.loads(line)
