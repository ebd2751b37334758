"""Random histories as journals, what the engine made of them, and what a database holds."""

from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import numpy as np

from persistence.fused import FusedEngine
from persistence.journal import DirectoryStore
from persistence.postgres.ledger import Ledger
from persistence.postgres.rows import Batch, batch_of
from persistence.postgres.schema import month_bounds_ns, month_of
from protocol.instance import Engine
from tests.engine.driver import ROOMY
from tests.engine.operators import START_TS_NS, Market, sized
from tests.persistence.journal_slots import write_batches

TABLES = {
    "assets": "asset",
    "instruments": "instrument",
    "accounts": "account",
    "balances": "account, asset",
    "orders": "order_id",
    "order_events": "seq, idx",
    "trades": "seq, idx",
    "postings": "seq, idx, line",
    "klines": "instrument, interval_s, open_ts_ns",
    "revenue": "day, instrument, asset, kind",
    "fee_versions": "rule",
    "fee_tiers": "rule, tier",
    "fee_assignments": "scope, account, instrument, firm",
    "limits": "scope, account, instrument, firm",
}
BATCH_SLOTS = 1 << 13


class History(NamedTuple):
    """Groups of a random market with the first moment of a month about its middle."""

    market: Market
    groups: list[np.ndarray]
    engine: Engine

    @property
    def slots(self) -> np.ndarray:
        return np.concatenate(self.groups)

    def parts(self, groups: int) -> list[np.ndarray]:
        """All slots, so many groups together."""
        return [np.concatenate(self.groups[k : k + groups]) for k in range(0, len(self.groups), groups)]

    def journal(self, home: Path) -> DirectoryStore:
        """The home's journal."""
        (home / "journal").mkdir(parents=True)
        store = DirectoryStore(home / "journal")
        write_batches(store, self.parts(17))
        return store


def history(seed: int, n: int) -> History:
    access = seed % 2 == 1
    # Times are shifted before anything is decided by them: commands of risk that came back would differ from its outbox.
    slots = np.concatenate(Market(seed, n, access=access).groups)
    turn_ns = month_bounds_ns(month_of(int(slots["ts_ns"][0])))[1]
    shift_ns = turn_ns - int(slots["ts_ns"][len(slots) // 2])
    market = Market(seed, n, access=access, start_ts_ns=START_TS_NS + shift_ns)
    assert int(market.groups[0]["ts_ns"][0]) < turn_ns < int(market.groups[-1]["ts_ns"][-1])
    return History(market, market.groups, Engine(limits=sized(market), rings=ROOMY))


class Followed:
    """An engine and its ledger, fed in parts."""

    def __init__(self, of: History) -> None:
        self.engine = FusedEngine(of.engine)
        self.ledger = Ledger(self.engine.risk, of.engine.limits, BATCH_SLOTS)

    def feed(self, slots: np.ndarray) -> Batch:
        outcomes: list[np.ndarray] = []
        self.engine.feed(slots, outcomes.append)
        return batch_of(slots, np.concatenate(outcomes), self.ledger, self.engine)


async def contents(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, and the position."""
    connection = await asyncpg.connect(dsn)
    try:
        found = {
            table: [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY {key}")]
            for table, key in TABLES.items()
        }
        found["writer"] = [
            tuple(row) for row in await connection.fetch("SELECT journal_id, last_seq, last_ts_ns FROM writer")
        ]
    finally:
        await connection.close()
    return found


def difference(expected: dict[str, list[tuple[Any, ...]]], actual: dict[str, list[tuple[Any, ...]]]) -> str:
    """The first row that differs; empty where none does."""
    for table, rows in expected.items():
        others = actual[table]
        for k in range(max(len(rows), len(others))):
            one, other = (found[k] if k < len(found) else None for found in (rows, others))
            if one != other:
                return f"{table}, row {k} of {len(rows)} and {len(others)}:\n  {one}\n  {other}"
    return ""
