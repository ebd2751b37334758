"""Where in the journal an order was born and named, asked of the database: it knows by index what the journal would be read through for.

An answer is a hint about where to look. It is given only by a database of the very history that the journal is, up to the command that it
stands at, and who uses it compares with the journal what he finds there.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from persistence.journal.layout import SegmentHeader
from persistence.journal.segments import history_at
from persistence.postgres import reads
from persistence.postgres.database import UNREACHABLE, connect
from persistence.postgres.store import read_position


class Places(NamedTuple):
    """An order: the command that brought it, and all that name it up to command slot ``known_seq``, in order."""

    order_id: int
    born_seq: int
    named_seqs: tuple[int, ...]
    known_seq: int


def ask(
    dsn: str, headers: tuple[SegmentHeader, ...], order: int | tuple[int, str], up_to_seq: int, timeout_s: float = 5.0
) -> Places | None:
    """Ask for an order by its id, or for the newest that an account sent under its own (account, client order id).

    Parameters
    ----------
    dsn : str
    headers : of the journal's segments
    order : int or (int, str)
    up_to_seq : int
        The last command that counts.
    timeout_s : float
        Patience with a database that does not answer.

    Returns
    -------
    Places or None
        None where the database is away, of another history, older than this version's, or has no such order.
    """

    async def asked() -> Places | None:
        async with asyncio.timeout(timeout_s):
            connection = await connect(dsn, "inspect")
            try:
                return await _ask(connection, headers, order, up_to_seq)
            finally:
                await connection.close()

    try:
        return asyncio.run(asked())
    except (*UNREACHABLE, ValueError):
        return None


async def _ask(
    db: Any, headers: tuple[SegmentHeader, ...], order: int | tuple[int, str], up_to_seq: int
) -> Places | None:
    async with db.transaction(isolation="repeatable_read", readonly=True):
        position = await read_position(db)
        if position is None or position.journal_id != history_at(headers, position.last_seq):
            return None
        known_seq = min(position.last_seq, up_to_seq)
        if isinstance(order, tuple):
            sent = await reads.order_of_client(db, *order, known_seq)
            order = 0 if sent is None else sent.order_id
        found = await reads.order(db, order)
    if found is None or found[0].seq > known_seq:
        return None
    entered, events = found
    named = sorted({event.seq for event in events if event.seq <= known_seq})
    return Places(order, entered.seq, tuple(named), known_seq)
