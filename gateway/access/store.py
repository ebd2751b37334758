"""The directory in PostgreSQL, schema ``access``: reading what is newer, and writing a change whole with its event.

Changes are rare and are decided one after the other: under one lock of the database the directory is brought to the present, the change is
decided on it, and its rows, its event and the notice to everybody are one transaction. So the last event's number says what a
directory holds, and no decision was made on something old.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, get_type_hints

from gateway.access.changes import Change
from gateway.access.directory import Directory
from gateway.access.records import TABLE_OF, TABLES, Record, key_field, shown

CHANNEL: Final = "access"
_LOCK: Final = 0x616363657373
"""Number of the advisory lock under which changes are decided."""
_VERSION: Final = "SELECT coalesce(max(event_id), 0) FROM access.event"
_EVENT: Final = "INSERT INTO access.event VALUES ($1, $2, $3, $4, $5, $6, $7)"
_LISTS: Final = {
    table: [name for name, hint in get_type_hints(kind).items() if str(hint).startswith("tuple")]
    for table, kind in TABLES.items()
}


class BehindError(Exception):
    """The database knows less than this process: it was restored or replaced. What is known stays, revocations above all."""


def _columns(kind: type[Record]) -> str:
    return ", ".join(kind.__struct_fields__)


def _write_statement(kind: type[Record]) -> str:
    fields, key = kind.__struct_fields__, key_field(kind)
    values = ", ".join(f"${at}" for at in range(1, len(fields) + 2))
    changed = ", ".join(f"{name} = excluded.{name}" for name in (*fields[1:], "version"))
    return (
        f"INSERT INTO access.{TABLE_OF[kind]} ({_columns(kind)}, version) VALUES ({values}) "
        f"ON CONFLICT ({key}) DO UPDATE SET {changed}"
    )


_READ: Final = {
    kind: f"SELECT {_columns(kind)} FROM access.{table} WHERE version > $1" for table, kind in TABLES.items()
}
_WRITE: Final = {kind: _write_statement(kind) for kind in TABLES.values()}


async def version(connection: Any) -> int:
    """Number of the last event."""
    return int(await connection.fetchval(_VERSION))


async def refresh(connection: Any, directory: Directory) -> list[Record]:
    """Bring the directory to the present; gives the rows that were new. Raises BehindError."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _newer(connection, directory)


async def act(
    connection: Any,
    directory: Directory,
    decide: Callable[[Directory], Change],
    *,
    actor: str,
    reason: str,
    ts_ns: int,
) -> tuple[Change, list[Record]]:
    """Decide a change on the present and write it; what ``decide`` raises changes nothing.

    Returns
    -------
    Change
        As decided; where it is ``denied``, its rows were written all the same.
    list of Record
        Everything that is new in the directory: what others had changed, and the change's own rows.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        newer = await _newer(connection, directory)
        change = decide(directory)
        number = directory.version + 1
        rows = []
        for row in change.rows:
            before = directory.get(row)
            rows.append({"table": TABLE_OF[type(row)], "before": before and shown(before), "after": shown(row)})
            values = [getattr(row, name) for name in row.__struct_fields__]
            await connection.execute(
                _WRITE[type(row)], *(list(v) if isinstance(v, tuple) else v for v in values), number
            )
        event = (number, ts_ns, actor, reason, change.action, change.subject, json.dumps(rows))
        await connection.execute(_EVENT, *event)
        await connection.execute(f"NOTIFY {CHANNEL}, '{number}'")
    directory.put(change.rows)
    directory.version = number
    return change, [*newer, *change.rows]


async def write_seen(connection: Any, seen: dict[int, int]) -> None:
    """Note the last use of sessions; not a change of anybody's rights, so that there is no event of it."""
    await connection.execute(
        "UPDATE access.sessions s SET seen_ns = greatest(s.seen_ns, t.seen_ns) "
        "FROM unnest($1::bigint[], $2::bigint[]) AS t (session_id, seen_ns) WHERE s.session_id = t.session_id",
        list(seen),
        list(seen.values()),
    )


async def read_seen(connection: Any, directory: Directory, since_ns: int) -> None:
    """Take the last use of sessions that other gateways noted."""
    for row in await connection.fetch("SELECT session_id, seen_ns FROM access.sessions WHERE seen_ns > $1", since_ns):
        directory.touch(row["session_id"], row["seen_ns"])


async def events(connection: Any, subject: str, before: int, limit: int) -> list[dict[str, Any]]:
    """The newest events before a number, of one subject or of all ("")."""
    rows = await connection.fetch(
        "SELECT * FROM access.event WHERE event_id < $1 AND $2 IN ('', subject) ORDER BY event_id DESC LIMIT $3",
        before,
        subject,
        limit,
    )
    return [{**dict(row), "changes": json.loads(row["changes"])} for row in rows]


async def _newer(connection: Any, directory: Directory) -> list[Record]:
    """Rows that changed since the directory's version, put into it, inside a transaction that sees one state."""
    present = await version(connection)
    if present < directory.version:
        raise BehindError(f"the database stands at event {present}, {directory.version} is known here")
    if present == directory.version:
        return []
    found: list[Record] = []
    for table, kind in TABLES.items():
        lists = _LISTS[table]
        for row in await connection.fetch(_READ[kind], directory.version):
            values = dict(row)
            for name in lists:
                values[name] = tuple(values[name])
            found.append(kind(**values))
    directory.put(found)
    directory.version = present
    return found
