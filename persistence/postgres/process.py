"""The process of the PostgreSQL writer: the board in, rows out."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from persistence.postgres.cluster import NICE
from persistence.postgres.database import dsn_of, redacted
from persistence.postgres.ledger import Ledger
from persistence.postgres.writer import Writer
from persistence.recovery import warm as warm_engine
from protocol import board as b
from protocol.instance import Context, Limits
from protocol.readers import ready_word
from protocol.records import OUTCOME_DTYPE
from ringbuf.arena import private_arena
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import BoardFile, claim_line, heartbeat
from risk import state as s

STATUS_FILE: Final = "postgres.json"
"""In the home's run folder: where the database is, and why it is not written to."""

_DRAIN_TIMEOUT_S: Final = 3.0
_PATIENCE_S: Final = 30.0
"""So long the exchange's start waits for a database that is being made."""
_BEAT_S: Final = 0.2


class Told(msgspec.Struct, frozen=True):
    """Content of STATUS_FILE."""

    dsn: str
    why: str = ""


class BoardStatus:
    """Says on the board, in the log and in STATUS_FILE how the writer stands."""

    def __init__(self, board: np.ndarray, line: int, home: Path, dsn: str, *, embedded: bool) -> None:
        self._board = board
        self._line = line
        self._file = home / "run" / STATUS_FILE
        self._dsn = dsn
        # An embedded server starts beside the writer, and is away at first.
        self._decided = {b.DATABASE_UP, b.DATABASE_REFUSED} | (set() if embedded else {b.DATABASE_FAILED})
        self._state = -1
        self._why = ""
        self._rows = 0
        self._commits = 0
        self._failures = 0
        for word in range(b.POSTGRES_SEQ, b.POSTGRES_FAILURES + 1):
            store_release(board, word, 0)

    def state(self, state: int, why: str = "") -> None:
        """Store a state; a new reason goes to the log and the file."""
        if state == b.DATABASE_FAILED:
            self._failures += 1
            store_release(self._board, b.POSTGRES_FAILURES, self._failures)
        if why != self._why or self._state < 0:
            self._file.write_bytes(msgspec.json.encode(Told(redacted(self._dsn), why)))
            if why:
                print(why, file=sys.stderr)
        self._state, self._why = state, why
        store_release(self._board, b.POSTGRES_STATE, state)
        if state in self._decided:
            self.ready()

    def ready(self) -> None:
        """The exchange waits no longer."""
        store_release(self._board, ready_word(self._line), os.getpid())

    def pending(self, ts_ns: int) -> None:
        """Store the time of the oldest command that is not committed."""
        store_release(self._board, b.POSTGRES_PENDING_TS_NS, ts_ns)

    def committed(self, seq: int, rows: int) -> None:
        """Store the position."""
        self._rows += rows
        self._commits += 1 if rows else 0
        store_release(self._board, b.POSTGRES_ROWS, self._rows)
        store_release(self._board, b.POSTGRES_COMMITS, self._commits)
        store_release(self._board, b.POSTGRES_SEQ, seq)


def main(context: Context) -> int:
    """Follow the journal until told to stop; ``options`` has ``dsn``, empty for the embedded server."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    os.nice(NICE)
    home, configured = Path(context.home), context.options.get("dsn", "")
    status = BoardStatus(board, context.line, home, dsn_of(home, configured), embedded=not configured)
    writer = Writer(
        home,
        context.engine,
        lambda: dsn_of(home, configured),
        lambda: int(load_acquire(board, b.DURABLE_SEQ)),
        status,
        context.journal_dir,
    )
    asyncio.run(_run(writer, board, context.line, status))
    return 0


async def _run(writer: Writer, board: np.ndarray, line: int, status: BoardStatus) -> None:
    """The writer beside its heartbeat; at the end it has a little time for the last rows."""

    def stopping() -> bool:
        return bool(load_acquire(board, b.STOP) != 0)

    writing = asyncio.ensure_future(writer.run(stopping))
    waited_s = 0.0
    while not writing.done() and not stopping():
        heartbeat(board, line)
        await asyncio.wait([writing], timeout=_BEAT_S)
        waited_s += _BEAT_S
        if waited_s > _PATIENCE_S:
            status.ready()
    done, _ = await asyncio.wait([writing], timeout=_DRAIN_TIMEOUT_S)
    if not done:
        # What is not in yet is written after the next start; a thread in the middle of a replay is not waited for.
        os._exit(0)
    writing.result()


def warm() -> None:
    """Compile or load every kernel that the process uses."""
    warm_engine()
    limits = Limits(
        accounts=1, assets=1, instruments=1, orders=4, leaves=4, withdrawal_holds=1, outbox=1, timers=1, client_ids=1
    )
    risk = s.make_state(private_arena(s.state_spec(limits, 4)))
    s.reset(risk, limits)
    Ledger(risk, limits, 4).apply(np.zeros(1, dtype=OUTCOME_DTYPE))
