"""One batch as one transaction: COPY for what is new, joins by key for what is there, and the position."""

from __future__ import annotations

import io
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from persistence.journal.layout import SegmentHeader
from persistence.journal.segments import history_at
from persistence.postgres import pgcopy
from persistence.postgres.rows import BALANCE_DTYPE, CHANGED_ORDER_DTYPE, CHANGING, Batch

SESSION: Final = {
    # Changed rows come through a table of the session, of whose size the planner knows nothing: go by key, never through all orders.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "timezone": "UTC",
}
"""Settings of the writer's session."""

_TYPES: Final = {2: "smallint", 4: "integer", 8: "bigint"}


def _temporary(name: str, rows: np.dtype) -> str:
    columns = ", ".join(f"{column} {_TYPES[rows[column].itemsize]}" for column in rows.names or ())
    return f"CREATE TEMP TABLE IF NOT EXISTS {name} ({columns}) ON COMMIT DELETE ROWS;"


PREPARE: Final = _temporary("changed_orders", CHANGED_ORDER_DTYPE) + _temporary("changed_balances", BALANCE_DTYPE)

_MOVE: Final = """
UPDATE writer SET last_seq = $2, last_ts_ns = $3, journal_id = $4, updated_at = now() WHERE last_seq = $1
"""
_CHANGES: Final = ", ".join(f"{name} = c.{name}" for name in CHANGING)
_CHANGE_ORDERS: Final = f"UPDATE orders o SET {_CHANGES} FROM changed_orders c WHERE o.order_id = c.order_id"  # noqa: S608 - our own names
_CHANGE_BALANCES: Final = """
INSERT INTO balances SELECT * FROM changed_balances
ON CONFLICT (account, asset) DO UPDATE SET free_units = excluded.free_units, locked_units = excluded.locked_units,
    updated_seq = excluded.updated_seq
"""
_ASSETS: Final = """
INSERT INTO assets VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (asset) DO UPDATE SET fee_units = excluded.fee_units, net_deposits_units = excluded.net_deposits_units,
    updated_seq = excluded.updated_seq, volume_rate_e8 = excluded.volume_rate_e8, taker_fee_units = excluded.taker_fee_units,
    maker_fee_units = excluded.maker_fee_units, rebate_units = excluded.rebate_units
"""
_INSTRUMENTS: Final = """
INSERT INTO instruments VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (instrument) DO UPDATE SET state = excluded.state, maker_rate_e8 = excluded.maker_rate_e8,
    taker_rate_e8 = excluded.taker_rate_e8, band_up_e8 = excluded.band_up_e8, band_down_e8 = excluded.band_down_e8,
    breaker_e8 = excluded.breaker_e8, updated_seq = excluded.updated_seq, follows_venue = excluded.follows_venue
"""
_ACCOUNTS: Final = """
INSERT INTO accounts VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (account) DO UPDATE SET state = excluded.state, updated_seq = excluded.updated_seq, master = excluded.master,
    firm = excluded.firm, stp_group = excluded.stp_group
"""
_FEE_VERSIONS: Final = "INSERT INTO fee_versions VALUES ($1, $2, $3, $4, $5, $6, $7)"
_FEE_TIERS: Final = "INSERT INTO fee_tiers VALUES ($1, $2, $3, $4, $5)"
_FEE_ASSIGNMENTS: Final = """
INSERT INTO fee_assignments VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (scope, account, instrument, firm) DO UPDATE SET schedule = excluded.schedule, updated_seq = excluded.updated_seq
"""
_LIMITS: Final = """
INSERT INTO limits VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (scope, account, instrument, firm) DO UPDATE SET qty_max_lots = excluded.qty_max_lots,
    notional_max_units = excluded.notional_max_units, open_orders_max = excluded.open_orders_max,
    orders_per_s = excluded.orders_per_s, collar_e8 = excluded.collar_e8, killed = excluded.killed,
    updated_seq = excluded.updated_seq
"""
_REVENUE: Final = """
INSERT INTO revenue AS r VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (day, instrument, asset, kind) DO UPDATE SET units = r.units + excluded.units, fills = r.fills + excluded.fills
"""
_KLINES: Final = """
INSERT INTO klines AS k VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (instrument, interval_s, open_ts_ns) DO UPDATE SET high_ticks = greatest(k.high_ticks, excluded.high_ticks),
    low_ticks = least(k.low_ticks, excluded.low_ticks), close_ticks = excluded.close_ticks,
    volume_lots = k.volume_lots + excluded.volume_lots, turnover_units = k.turnover_units + excluded.turnover_units,
    trades = k.trades + excluded.trades, last_seq = excluded.last_seq
"""


class Position(NamedTuple):
    """Which history a database has (``SegmentHeader.history`` of its last command), and up to which command."""

    journal_id: str
    last_seq: int


async def read_position(connection: Any) -> Position | None:
    """Position of the database; None where nobody has written to it."""
    found = await connection.fetchrow("SELECT journal_id, last_seq FROM writer")
    return None if found is None else Position(found["journal_id"], found["last_seq"])


class OtherJournalError(Exception):
    """The database is another exchange's; the message names both journals and says what to do."""


def check_history(found: Position, headers: tuple[SegmentHeader, ...]) -> None:
    """Raise OtherJournalError unless a database of that position belongs to the journal of these segments."""
    history = history_at(headers, found.last_seq)
    if found.journal_id != history:
        raise OtherJournalError(
            f"the database belongs to journal {found.journal_id}, and at seq {found.last_seq} this home's is {history}: name "
            f"this home's own database in postgres.dsn, or an empty one"
        )


async def take(connection: Any, journal_id: str) -> None:
    """Make an empty database that of a history."""
    await connection.execute("INSERT INTO writer (journal_id, last_seq, last_ts_ns) VALUES ($1, 0, 0)", journal_id)


async def write(connection: Any, batch: Batch, history: str) -> None:
    """Write a batch whole or not at all; the database stands right before it, and in ``history`` then.

    Raises one of ``database.UNREACHABLE``.
    """
    async with connection.transaction():
        moved = await connection.execute(_MOVE, batch.first_seq - 1, batch.last_seq, batch.last_ts_ns, history)
        if moved != "UPDATE 1":
            raise ConnectionAbortedError(
                f"the database does not stand at seq {batch.first_seq - 1}; does another writer run?"
            )
        for table in ("order_events", "trades", "postings"):
            await _copy(connection, table, getattr(batch, table))
        await _copy(connection, "orders", batch.new_orders, "client_order_id")
        await _copy(connection, "changed_orders", batch.changed_orders)
        if len(batch.changed_orders):
            changed = await connection.execute(_CHANGE_ORDERS)
            if changed != f"UPDATE {len(batch.changed_orders)}":
                msg = f"{len(batch.changed_orders)} orders changed, and the database has not all of them: {changed}"
                raise ConnectionAbortedError(msg)
        await _copy(connection, "changed_balances", batch.balances)
        if len(batch.balances):
            await connection.execute(_CHANGE_BALANCES)
        for statement, rows in (
            (_ASSETS, batch.assets),
            (_INSTRUMENTS, batch.instruments),
            (_ACCOUNTS, batch.accounts),
            (_FEE_VERSIONS, batch.fees.fee_versions),
            (_FEE_TIERS, batch.fees.fee_tiers),
            (_FEE_ASSIGNMENTS, batch.fees.fee_assignments),
            (_LIMITS, batch.fees.limits),
            (_REVENUE, batch.fees.revenue),
            (_KLINES, [msgspec.structs.astuple(kline) for kline in batch.klines]),
        ):
            if rows:
                await connection.executemany(statement, rows)


async def _copy(connection: Any, table: str, rows: np.ndarray, text: str = "") -> None:
    if len(rows):
        source = io.BytesIO(pgcopy.encode(rows, text))
        names = rows.dtype.names or ()
        await connection.copy_to_table(table, source=source, columns=names, format="binary")
