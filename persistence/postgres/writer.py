"""The writer: follows the journal with an engine of its own and puts every command's rows into the database exactly once.

The position moves in the very transaction that writes the rows, and only from where the batch begins. So a batch that was cut off at
any point is either in or not, and the position says which. The engine works ahead of the database by two batches at most; when the database
is away these wait, nothing gathers, and the lag grows on the board.

::

    journal ──▶ fused engine ──▶ ledger, rows ──▶ COPY … position ──▶ COMMIT
              (a thread of its own)    two batches      (this loop)
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from persistence.consumers import keep_position
from persistence.fused import EngineFault, FusedEngine
from persistence.history import open_past
from persistence.journal.errors import JournalError
from persistence.journal.layout import SegmentHeader
from persistence.journal.reader import JournalReader
from persistence.journal.recovery import as_store
from persistence.journal.segments import history_at, lineage
from persistence.journal.store import JournalStore
from persistence.postgres.database import UNREACHABLE, connect, redacted
from persistence.postgres.ledger import Ledger, LedgerFault
from persistence.postgres.rows import Batch, batch_of
from persistence.postgres.schema import SchemaError, make_partitions, migrate, month_of
from persistence.postgres.store import (
    PREPARE,
    SESSION,
    OtherJournalError,
    Position,
    check_history,
    read_position,
    take,
    write,
)
from persistence.postgres.users import UsersError, bring_in
from protocol import board as b
from protocol.instance import Engine

CONSUMER: Final = "postgres"
BATCH_SLOTS: Final = 8192
"""A batch is what has gathered, up to so many slots and what the last batch of the journal has beyond."""
_JOURNAL_BATCH_SLOTS_MAX: Final = 1 << 15
_AHEAD: Final = 2
_PACE_S: Final = 0.1
"""After a batch that was not full, so long something is let gather: a commit costs as much for ten rows as for a thousand."""
_LEAST_S: Final = 0.001
_POLL_S: Final = 0.02
_BACK_OFF_S: Final = (0.1, 5.0)
_TRANSACTION_TIMEOUT_S: Final = 120.0


class Refused(Exception):
    """The database cannot be this journal's; the message says why and what to do."""


class Status(Protocol):
    """Where the writer says how it stands."""

    def state(self, state: int, why: str = "") -> None:
        """One of board.DATABASE_*, and the reason of a failure."""

    def pending(self, ts_ns: int) -> None:
        """Sequenced time of the oldest command that is read and not committed; 0 = none."""

    def committed(self, seq: int, rows: int) -> None:
        """A transaction is in; ``seq`` is the position."""


class Writer:
    """Follows one journal into one database.

    Parameters
    ----------
    home : Path
    engine : Engine
        With the home's own limits.
    dsn : callable
        Gives the database; asked at each connection.
    durable_seq : callable
        Last command that the journal has, 0 while there is no engine.
    status : Status
    journal : JournalStore or Path, optional
        Where it is not the home's.
    """

    def __init__(
        self,
        home: Path,
        engine: Engine,
        dsn: Callable[[], str],
        durable_seq: Callable[[], int],
        status: Status,
        journal: JournalStore | Path | None = None,
    ) -> None:
        self._home = home
        self._engine_settings = engine
        self._dsn = dsn
        self._durable_seq = durable_seq
        self._status = status
        self._journal = as_store(home / "journal" if journal is None else journal)
        self._thread = ThreadPoolExecutor(1, "rows")
        self._engine: FusedEngine | None = None
        self._reader: JournalReader
        self._headers: tuple[SegmentHeader, ...] = ()
        """Of the journal when the connection was made: branches begin only where no exchange runs."""
        self._ledger: Ledger
        self._waiting: deque[Batch] = deque()
        """Batches that are made and perhaps not committed, in order."""
        self._months: set[int] = set()
        self._not_before_s = 0.0

    async def run(self, stopping: Callable[[], bool]) -> None:
        """Follow until told to stop, then write what is durable by then. Once only. Whatever goes wrong is said, and tried again."""
        try:
            await self._run(stopping)
        finally:
            self._thread.shutdown(wait=False)

    async def _run(self, stopping: Callable[[], bool]) -> None:
        back_off_s = _BACK_OFF_S[0]
        while not stopping():
            began_s = time.monotonic()
            try:
                await self._serve(stopping)
            except (Refused, OtherJournalError, SchemaError, UsersError) as error:
                self._status.state(b.DATABASE_REFUSED, str(error))
            except (JournalError, EngineFault, LedgerFault) as error:
                self._engine = None
                self._status.state(b.DATABASE_REFUSED, str(error))
            except (*UNREACHABLE, ValueError) as error:
                where = redacted(self._dsn())
                self._status.state(b.DATABASE_FAILED, f"{where}: {type(error).__name__}: {error}")
            else:
                return
            lived_s = time.monotonic() - began_s
            back_off_s = _BACK_OFF_S[0] if lived_s > _BACK_OFF_S[1] else min(2 * back_off_s, _BACK_OFF_S[1])
            await _pause(back_off_s, stopping)

    async def _serve(self, stopping: Callable[[], bool]) -> None:
        """One connection: find the position, go there, follow."""
        dsn = self._dsn()
        connection = await connect(dsn, "writer", **SESSION)
        try:
            async with asyncio.timeout(_TRANSACTION_TIMEOUT_S):
                await migrate(dsn, connection)
                await bring_in(connection, self._home)
                await connection.execute(PREPARE)
                position = await self._position(connection)
            self._months.clear()
            if not await self._go_to(position, stopping):
                return
            self._status.state(b.DATABASE_UP)
            self._committed(position, 0)
            await self._follow(connection, stopping)
        finally:
            connection.terminate()

    async def _position(self, connection: Any) -> int:
        """Where the database stands; a new one becomes this journal's."""
        headers = lineage(self._journal).headers
        if not headers:
            raise Refused("the home has no journal yet")
        found = await read_position(connection)
        if found is None:
            found = Position(history_at(headers, 0), 0)
            await take(connection, found.journal_id)
        check_history(found, headers)
        self._headers = headers
        return found.last_seq

    async def _go_to(self, position: int, stopping: Callable[[], bool]) -> bool:
        """Have the engine stand where the batches that wait go on from ``position``; False when told to stop before."""
        if self._engine is None:
            self._waiting.clear()
        while self._waiting and self._waiting[0].last_seq <= position:
            self._waiting.popleft()
        if self._engine is not None and self._next_seq() == position + 1:
            return True
        self._status.state(b.DATABASE_STARTING)
        self._waiting.clear()
        self._engine = None
        while self._durable_seq() < position:
            if stopping():
                return False
            if self._durable_seq() > 0:
                raise Refused(
                    f"the database is at seq {position}, and the journal ends at {self._durable_seq()}: it was written from "
                    f"another copy of this home; restore that one, or name an empty database in postgres.dsn"
                )
            await asyncio.sleep(_POLL_S)
        await self._in_thread(lambda: self._replay(position, stopping))
        return not stopping()

    def _next_seq(self) -> int:
        """First command that is in no batch handed over yet."""
        assert self._engine is not None
        return self._waiting[0].first_seq if self._waiting else self._engine.last_seq + 1

    def _replay(self, position: int, stopping: Callable[[], bool]) -> None:
        """Open the past and go on to ``position``, without a row."""
        engine = open_past(self._home, self._engine_settings, position + 1)
        first = engine.last_seq + 1
        if first <= position:
            for slots in JournalReader(self._journal, first, position):
                engine.feed(slots)
                if stopping():
                    return
        self._reader = JournalReader(self._journal, position + 1)
        self._ledger = Ledger(engine.risk, self._engine_settings.limits, BATCH_SLOTS + _JOURNAL_BATCH_SLOTS_MAX)
        self._engine = engine

    async def _follow(self, connection: Any, stopping: Callable[[], bool]) -> None:
        """Write batches until told to stop; the next one is made while one is written."""
        making: asyncio.Future[Batch | None] | None = None
        try:
            while True:
                last = stopping()
                if making is None and len(self._waiting) < _AHEAD and (last or time.monotonic() >= self._not_before_s):
                    making = asyncio.ensure_future(self._in_thread(self._make))
                if self._waiting:
                    await self._write(connection, self._waiting[0])
                    if making is not None and making.done():
                        making.result()
                        making = None
                elif making is not None:
                    made, making = await making, None
                    if made is None and last:
                        return
                else:
                    left_s = self._not_before_s - time.monotonic()
                    await asyncio.sleep(min(max(left_s, _LEAST_S), _PACE_S))
        finally:
            if making is not None:
                # The engine goes on in its thread; what it makes waits for the next connection.
                await asyncio.wait([making])

    def _make(self) -> Batch | None:
        """The next batch, put in the line of those that wait; None where the journal has no more."""
        durable = self._durable_seq()
        gathered: list[np.ndarray] = []
        count = 0
        while count < BATCH_SLOTS and (slots := self._reader.poll(durable)) is not None:
            gathered.append(slots)
            count += len(slots)
        if count < BATCH_SLOTS:
            self._not_before_s = time.monotonic() + _PACE_S
        if not gathered:
            return None
        assert self._engine is not None
        assert count <= BATCH_SLOTS + _JOURNAL_BATCH_SLOTS_MAX
        slots = np.concatenate(gathered)
        outcomes: list[np.ndarray] = []
        self._engine.feed(slots, outcomes.append)
        batch = batch_of(slots, np.concatenate(outcomes), self._ledger, self._engine)
        self._waiting.append(batch)
        return batch

    async def _write(self, connection: Any, batch: Batch) -> None:
        self._status.pending(batch.first_ts_ns)
        async with asyncio.timeout(_TRANSACTION_TIMEOUT_S):
            await self._make_partitions(connection, batch)
            await write(connection, batch, history_at(self._headers, batch.last_seq))
        self._waiting.popleft()
        self._committed(batch.last_seq, batch.rows)
        self._status.pending(0)

    async def _make_partitions(self, connection: Any, batch: Batch) -> None:
        """Those that the batch needs, and the next month's, ahead of time."""
        newest = month_of(batch.last_ts_ns)
        wanted = batch.months | {newest, newest + 1}
        if not wanted <= self._months:
            await make_partitions(connection, wanted - self._months)
            self._months |= wanted

    def _committed(self, seq: int, rows: int) -> None:
        keep_position(self._home, CONSUMER, seq)
        self._status.committed(seq, rows)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


async def _pause(seconds: float, stopping: Callable[[], bool]) -> None:
    end_s = time.monotonic() + seconds
    while not stopping() and time.monotonic() < end_s:  # noqa: ASYNC110 - what it waits for is a word of shared memory
        await asyncio.sleep(_POLL_S)
