"""Compares money in all the places where it is kept: risk's ledger, rebuilt from the journal and live, and the database, twice.

For every account and asset: what the journal gives at the writer's position = the database's balances = the sum of its postings, to the
unit; the same for the world outside (EXTERNAL) and for what the exchange earned (FEE), which is the sum of its revenue by type, too.
Where the exchange runs, risk's tables in shared memory are compared with the journal at the durable end: a row says which command changed
it last, so it is compared at that command, while trading goes on.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from persistence.audit import past
from persistence.fused import FusedEngine, risk_spec
from persistence.journal.segments import history_at, lineage
from persistence.journal.store import DirectoryStore
from persistence.postgres.database import connect
from persistence.postgres.store import Position, read_position
from persistence.postgres.terms import REBATES
from protocol import board as b
from protocol.instance import Context, Engine, instance_name
from protocol.records import COMMAND_SCHEMA
from ringbuf.arena import attach_arena
from ringbuf.atomics import load_acquire
from ringbuf.board import BoardFile
from ringbuf.errors import RingError
from risk import state as s
from risk.views import copy_balance

DIFFERENCES_MAX: Final = 1000
"""More are counted, not named."""
FREE, LOCKED, FEE, EXTERNAL = "free", "locked", "FEE", "EXTERNAL"
_BUCKETS: Final = {1: FREE, 2: LOCKED, 3: FEE, 4: EXTERNAL}
"""As the table of postings numbers them."""
_LIVE_ROUNDS: Final = 20
_LIVE_PAUSE_S: Final = 0.05

Key = tuple[int, int, str]
"""Account (0 = the exchange's own), asset, bucket."""


class NotReconciled(Exception):
    """The comparison cannot be made; the text says why and what to do."""


class Books(NamedTuple):
    """What a database says, in one snapshot of it."""

    position: Position
    balances: dict[Key, int]
    postings: dict[Key, int]
    revenue: dict[Key, int]
    """FEE as the sum of revenue by day, instrument and kind."""


def reconcile(home: Path, dsn: str, engine: Engine) -> dict[str, Any]:
    """Compare; the facts and the differences.

    ``engine`` is what the home's exchange is configured by, for its tables in shared memory. Raises NotReconciled, JournalError,
    EngineFault, and what ``persistence.postgres.database.connect`` raises.
    """
    started = time.perf_counter()
    books = asyncio.run(read_books(dsn))
    history = history_at(lineage(DirectoryStore(home / past.JOURNAL)).headers, books.position.last_seq)
    if books.position.journal_id != history:
        msg = f"the database belongs to journal {books.position.journal_id}, the home's is {history}"
        raise NotReconciled(msg)
    rebuilt = past.engine_at(home, books.position.last_seq)
    names = _symbols(rebuilt)
    ledger = ledger_of(rebuilt)
    found = compare({"risk": ledger, "postgres": books.balances, "postings": books.postings}, names)
    earned = {key: units for key, units in ledger.items() if key[2] == FEE}
    found += compare({"risk": earned, "revenue": books.revenue}, names)
    answer: dict[str, Any] = {
        "seq": books.position.last_seq,
        "balances": len(books.balances),
        "accounts": len({account for account, _, _ in books.balances if account}),
        "assets": len(names),
    }
    live = _live_tables(home, engine)
    if live is not None:
        at, rows, moving, differences = _compare_live(home, rebuilt, *live)
        found += differences
        answer |= {"live": {"seq": at, "balances": rows, "moving": moving}}
    else:
        answer |= {"live": None}
    return {
        "ok": not found,
        **answer,
        "differences": found[:DIFFERENCES_MAX],
        "difference_count": len(found),
        "seconds": round(time.perf_counter() - started, 3),
    }


async def read_books(dsn: str) -> Books:
    """Balances and sums of postings of a database, as of one moment. Raises NotReconciled where nobody has written to it."""
    connection = await connect(dsn, "reconcile")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            position = await read_position(connection)
            if position is None:
                raise NotReconciled("the database is empty: no writer has followed a journal into it")
            balances: dict[Key, int] = {}
            for row in await connection.fetch("SELECT account, asset, free_units, locked_units FROM balances"):
                balances[row["account"], row["asset"], FREE] = row["free_units"]
                balances[row["account"], row["asset"], LOCKED] = row["locked_units"]
            for row in await connection.fetch("SELECT asset, fee_units, net_deposits_units FROM assets"):
                balances[0, row["asset"], FEE] = row["fee_units"]
                balances[0, row["asset"], EXTERNAL] = -row["net_deposits_units"]
            sums = await connection.fetch(
                "SELECT account, asset, bucket, sum(amount_units) AS units FROM postings GROUP BY account, asset, bucket"
            )
            earned = await connection.fetch(
                "SELECT asset, sum(CASE WHEN kind = $1 THEN -units ELSE units END) AS units FROM revenue GROUP BY asset",
                REBATES,
            )
    finally:
        await connection.close()
    postings = {
        (row["account"], row["asset"], _BUCKETS.get(row["bucket"], f"bucket {row['bucket']}")): int(row["units"])
        for row in sums
    }
    return Books(position, balances, postings, {(0, row["asset"], FEE): int(row["units"]) for row in earned})


def ledger_of(engine: FusedEngine) -> dict[Key, int]:
    """Every balance of an engine that is not zero, and the exchange's own."""
    risk = engine.risk
    width = len(risk.assets)
    table = risk.balances.reshape(-1, s.BALANCE_WORDS)[: (int(risk.meta[s.ACCOUNTS_HIGH]) + 1) * width]
    found: dict[Key, int] = {}
    for word, bucket in ((s.FREE, FREE), (s.LOCKED, LOCKED)):
        at = np.flatnonzero(table[:, word])
        for row, units in zip(at.tolist(), table[at, word].tolist(), strict=True):
            found[row // width, row % width, bucket] = units
    for asset in np.flatnonzero(risk.assets["status"]).tolist():
        found[0, asset, FEE] = int(risk.assets[asset]["fee_units"])
        found[0, asset, EXTERNAL] = -int(risk.assets[asset]["net_deposits_units"])
    return found


def compare(places: dict[str, dict[Key, int]], symbols: dict[int, str]) -> list[dict[str, Any]]:
    """Every key at which the places do not all say the same; what is nowhere is zero."""
    found = []
    for key in sorted(set().union(*places.values())):
        units = {name: there.get(key, 0) for name, there in places.items()}
        if len(set(units.values())) > 1:
            account, asset, bucket = key
            found.append(
                {"account": account, "asset": asset, "symbol": symbols.get(asset, ""), "bucket": bucket, **units}
            )
    return found


def told(difference: dict[str, Any]) -> str:
    """A difference in words."""
    place = {name: units for name, units in difference.items() if name not in ("account", "asset", "symbol", "bucket")}
    who = f"account {difference['account']}" if difference["account"] else "the exchange"
    values = ", ".join(f"{name} {units}" for name, units in place.items())
    return f"{who}, {difference['symbol'] or difference['asset']}, {difference['bucket']}: {values}"


def _symbols(engine: FusedEngine) -> dict[int, str]:
    assets = engine.risk.assets
    return {int(n): assets[n]["symbol"].decode("utf-8", "replace") for n in np.flatnonzero(assets["status"])}


# --- the live tables --------------------------------------------------------------------------------------------------


def _live_tables(home: Path, engine: Engine) -> tuple[Any, np.ndarray] | None:
    """Risk's tables of the epoch that runs, and the board; None where none does."""
    context = Context(home=str(home), instance=instance_name(home), epoch=0, line=0, engine=engine)
    try:
        board = BoardFile.attach(context.shared).board
        if int(load_acquire(board, b.ENGINE_STATE)) != b.ENGINE_RUNNING:
            return None
        there = msgspec.structs.replace(context, epoch=int(load_acquire(board, b.EPOCH)))
        return s.make_state(attach_arena(there.risk_state, risk_spec(engine), COMMAND_SCHEMA)), board
    except (RingError, OSError):
        return None


def _compare_live(
    home: Path, rebuilt: FusedEngine, risk: Any, board: np.ndarray
) -> tuple[int, int, int, list[dict[str, Any]]]:
    """(seq reached, rows compared, rows that never stood still, differences)."""
    width = len(risk.assets)
    symbols = _symbols(rebuilt)
    waiting: dict[int, int] | None = None
    compared = 0
    differences: list[dict[str, Any]] = []
    for _ in range(_LIVE_ROUNDS):
        copies = _copies(risk, waiting, width)
        last = max((seq for _, _, seq in copies.values()), default=0)
        while int(load_acquire(board, b.DURABLE_SEQ)) < last:
            time.sleep(_LIVE_PAUSE_S)
        past.go_to(rebuilt, home, int(load_acquire(board, b.DURABLE_SEQ)))
        table = rebuilt.risk.balances.reshape(-1, s.BALANCE_WORDS)
        least, waiting = waiting or {}, {}
        for row, (free, locked, seq) in copies.items():
            own = {
                name: int(table[row, word]) for name, word in ((FREE, s.FREE), (LOCKED, s.LOCKED), ("seq", s.ROW_SEQ))
            }
            if seq < own["seq"] and seq >= least.get(row, 0):
                # It changed since it was copied; the next copy must have that change.
                waiting[row] = own["seq"]
                continue
            compared += 1
            for name, units in ((FREE, free), (LOCKED, locked), ("seq", seq)):
                if own[name] != units:
                    key = {"account": row // width, "asset": row % width, "symbol": symbols.get(row % width, "")}
                    bucket = "last changing command" if name == "seq" else name
                    differences.append({**key, "bucket": bucket, "risk": own[name], "live": units})
        if not waiting:
            break
        time.sleep(_LIVE_PAUSE_S)
    return rebuilt.last_seq, compared, len(waiting or ()), differences


def _copies(risk: Any, chosen: dict[int, int] | None, width: int) -> dict[int, tuple[int, int, int]]:
    """Free, locked and last command of balance rows, each as a whole; of all rows that were ever changed where None is given."""
    rows = list(chosen or ())
    if chosen is None:
        words = risk.balances.reshape(-1, s.BALANCE_WORDS)[: (int(risk.meta[s.ACCOUNTS_HIGH]) + 1) * width]
        rows = np.flatnonzero(words[:, s.ROW_SEQ]).tolist()
    out = np.zeros(3, dtype=np.int64)
    found = {}
    for row in rows:
        if not copy_balance(risk, row // width, row % width, out):
            raise NotReconciled(
                f"the live balance of account {row // width}, asset {row % width} was left half written"
            )
        found[row] = (int(out[0]), int(out[1]), int(out[2]))
    return found
