"""What a gateway knows of users and keys: the directory in memory, kept at the present, good without the database.

A notice of the database or, every quarter of a second, a look at the number of the last event says that something has changed. While
the database is away everything known goes on, the age of what is known is told, and nothing can be changed, so that nobody signs in
anew. What was revoked stays so: rows are only ever replaced by newer ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from gateway.access import codes, store
from gateway.access.authentication import Authenticator
from gateway.access.changes import Change
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.access.records import Record, Session, User
from gateway.access.sealing import Seal
from gateway.access.store import BehindError
from persistence.journal.errors import JournalError
from persistence.journal.recovery import as_store
from persistence.journal.segments import lineage
from persistence.postgres import schema
from persistence.postgres.database import UNREACHABLE, connect
from persistence.postgres.store import OtherJournalError, check_history, read_position

POLL_S: Final = 0.25
COMMAND_TIMEOUT_S: Final = 5.0
SEEN_S: Final = 5.0
_RETRY_FIRST_S: Final = 0.05
_RETRY_MAX_S: Final = 1.0
_SEEN_OVERLAP_NS: Final = 120_000_000_000

OnLogin = Callable[[User, Session], Awaitable[None]]


class AccessCache:
    """The directory of one process.

    Parameters
    ----------
    dsn : callable
        Where the database is; asked at each attempt, for an embedded server may not be made yet.
    seal : Seal
        Opens secrets of keys.
    clock_ns : callable
        UTC.
    journal : Path, optional
        Of the exchange whose users these are: the database of another one is not followed, nor one that the writer has not made its
        own yet. Without it, any is.
    """

    def __init__(
        self,
        dsn: Callable[[], str],
        seal: Seal,
        clock_ns: Callable[[], int] = time.time_ns,
        journal: Path | None = None,
    ) -> None:
        self.directory = Directory()
        self.authenticator = Authenticator(self.directory, seal)
        self.seal = seal
        self.clock_ns = clock_ns
        self.loaded = asyncio.Event()
        """Set once the whole directory has been read."""
        self.why = "not connected yet"
        """Why the database is not followed; empty while it is."""
        self._dsn = dsn
        self._journal = journal
        self._connection: Any = None
        self._lock = asyncio.Lock()
        self._noticed = asyncio.Event()
        self._confirmed_s = time.monotonic()
        """When the directory was last known to be the present; at first, when there was none yet."""
        self._seen_s = 0.0
        self._on_login: list[OnLogin] = []
        self._on_change: list[Callable[[list[Record]], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def on_login(self, callback: OnLogin) -> None:
        """Have ``callback`` called for every sign-in from now on, at whichever gateway."""
        self._on_login.append(callback)

    def on_change(self, callback: Callable[[list[Record]], None]) -> None:
        """Have ``callback`` called with rows that are new or changed."""
        self._on_change.append(callback)

    def age_s(self) -> float:
        """How long ago the directory was last known to be the present; infinite before it ever was."""
        return self.behind_s() if self.loaded.is_set() else float("inf")

    def behind_s(self) -> float:
        """For how long the present has not been known, before the first time too."""
        return time.monotonic() - self._confirmed_s

    def status(self) -> dict[str, Any]:
        """What the cache says of itself."""
        return {
            "loaded": self.loaded.is_set(),
            "version": self.directory.version,
            "age_ms": round(self.age_s() * 1000) if self.loaded.is_set() else None,
            "behind_ms": round(self.behind_s() * 1000),
            "users": len(self.directory.users),
            "keys": len(self.directory.keys),
            "why": self.why,
        }

    async def run(self) -> None:
        """Follow the database until cancelled."""
        pause_s = _RETRY_FIRST_S
        while True:
            try:
                await self._follow()
            except BehindError as error:
                self.why = (
                    f"{error}: what is known stays in force; restore the newer one, or start again to use this one"
                )
            except (OtherJournalError, JournalError) as error:
                self.why = str(error)
            except (*UNREACHABLE, ValueError, schema.SchemaError) as error:
                self.why = f"the database of users is away: {error or type(error).__name__}"
            finally:
                await self._disconnect()
            pause_s = _RETRY_FIRST_S if self.age_s() < POLL_S * 2 else min(pause_s * 2, _RETRY_MAX_S)
            await asyncio.sleep(pause_s)

    async def act(self, decide: Callable[[Directory], Change], *, actor: str, reason: str = "") -> Change:
        """Decide and write a change; in force here when this returns, everywhere within a second.

        Raises Denied: for what ``decide`` says, UNAVAILABLE while the database is away, CHANGE_UNKNOWN where it went away in the
        middle of writing.
        """
        async with self._lock:
            connection = self._connection
            if connection is None or not self.loaded.is_set():
                raise Denied(codes.UNAVAILABLE)
            try:
                acting = store.act(
                    connection, self.directory, decide, actor=actor, reason=reason, ts_ns=self.clock_ns()
                )
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    change, rows = await acting
            except (*UNREACHABLE, BehindError) as error:
                # Whether it was written will be seen by who connects anew.
                connection.terminate()
                raise Denied(codes.CHANGE_UNKNOWN) from error
            self._confirmed_s = time.monotonic()
        self._tell(rows)
        if change.denied is not None:
            raise change.denied
        return change

    async def events(self, subject: str = "", before: int = (1 << 63) - 1, limit: int = 100) -> list[dict[str, Any]]:
        """The history, the newest first; raises Denied while the database is away."""
        async with self._lock:
            if self._connection is None:
                raise Denied(codes.UNAVAILABLE)
            try:
                return await store.events(self._connection, subject, before, limit)
            except UNREACHABLE as error:
                raise Denied(codes.UNAVAILABLE) from error

    async def _follow(self) -> None:
        connection = await connect(self._dsn(), "access", timezone="UTC")
        self._connection = connection
        # Waiting for the writer, which brings the schema to the newest version.
        if await schema.version(connection) != schema.HEAD:
            raise ConnectionError("the schema is being made")
        if self._journal is not None:
            await _check_journal(connection, self._journal)
        await connection.add_listener(store.CHANNEL, lambda *_: self._noticed.set())
        while True:
            self._noticed.clear()
            # Not wait_for: of Python 3.11 it forgets a cancellation that comes together with what was waited for.
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                rows = await self._step(connection)
            self.why = ""
            self._tell(rows)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._noticed.wait()

    async def _step(self, connection: Any) -> list[Record]:
        async with self._lock:
            rows: list[Record] = []
            if not self.loaded.is_set() or await store.version(connection) != self.directory.version:
                rows = await store.refresh(connection, self.directory)
            now_s = time.monotonic()
            if now_s - self._seen_s >= SEEN_S:
                self._seen_s = now_s
                await self._exchange_seen(connection)
            self._confirmed_s = now_s
            first = not self.loaded.is_set()
            self.loaded.set()
            if first:
                # Who signed in before this process began was notified then.
                return [row for row in rows if not isinstance(row, Session)]
            return rows

    async def _exchange_seen(self, connection: Any) -> None:
        touched = dict(self.authenticator.touched)
        if touched:
            await store.write_seen(connection, touched)
            for number, seen_ns in touched.items():
                if self.authenticator.touched.get(number) == seen_ns:
                    del self.authenticator.touched[number]
        await store.read_seen(connection, self.directory, self.clock_ns() - _SEEN_OVERLAP_NS)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _tell(self, rows: list[Record]) -> None:
        if not rows:
            return
        for callback in self._on_change:
            callback(rows)
        for row in rows:
            if isinstance(row, Session) and row.seen_ns == row.created_ns and not row.revoked_ns:
                for notify in self._on_login:
                    task = asyncio.ensure_future(notify(self.directory.users[row.user_id], row))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)


async def _check_journal(connection: Any, journal: Path) -> None:
    """Raise OtherJournalError where the database is of another exchange, ConnectionError where it is nobody's yet."""
    headers = (await asyncio.get_running_loop().run_in_executor(None, lineage, as_store(journal))).headers
    found = await read_position(connection)
    if found is None or not headers:
        raise ConnectionError("the writer has not begun with it")
    check_history(found, headers)
