"""The database of a live exchange: it follows, is away, comes back, and stands at the journal's end when all is down."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

from cambist import views
from cambist.config import load
from cambist.home import Home
from persistence.consumers import positions
from persistence.fused import FusedEngine
from persistence.journal.reader import JournalReader
from persistence.postgres.cluster import Cluster
from tests.live.support import cambist_here, settings_file, up

TABLES = {
    "accounts": 64,
    "assets": 8,
    "instruments": 8,
    "orders": 1 << 12,
    "leaves": 1 << 12,
    "withdrawal_holds": 8,
    "outbox": 8,
    "timers": 4,
}
PATIENCE_S = 30.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    settings_file(
        folder,
        {"postgres": {"enabled": True}, "up": {"demo": True}, "demo": {"orders_per_s": 200}, "tables": TABLES},
    )
    return folder


def status(home: Home) -> dict[str, Any]:
    """What `cambist status --json` says, without a process for each look."""
    return views.status(home, home.run / "control.sock", 0.0)


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "it did not come true in time"
        time.sleep(0.05)


@contextlib.contextmanager
def server_away(home: Home) -> Iterator[None]:
    """The embedded server killed, and what would start it again asleep."""
    keeper = next(row["pid"] for row in status(home)["processes"] if row["name"] == "postgres-server")
    server = int((home.path / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(keeper, signal.SIGSTOP)
    try:
        os.kill(server, signal.SIGKILL)
        yield
    finally:
        os.kill(keeper, signal.SIGCONT)


def fetch(dsn: str, statement: str) -> list[Any]:
    async def fetched() -> list[Any]:
        connection = await asyncpg.connect(dsn)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    return asyncio.run(fetched())


def test_an_outage_lets_the_lag_grow_and_nothing_else_and_is_caught_up(home: Path) -> None:
    with up(home) as running:
        dsn = json.loads(running.demo_file.read_bytes())["postgres"]
        assert dsn == cambist_here("history", "dsn", "--home", home).out.strip()
        until(lambda: fetch(dsn, "SELECT count(*) AS n FROM trades")[0]["n"] > 20)
        before = status(running)
        assert ("up", "up", "") == tuple(before["postgres"][name] for name in ("server", "writer", "why"))
        assert ":***@" in before["postgres"]["dsn"]
        with server_away(running):
            until(lambda: status(running)["postgres"]["lag"] > 300)
            away = status(running)
            assert "failed" == away["postgres"]["writer"]
            assert away["postgres"]["lag_ms"] > 500
            assert away["postgres"]["seq"] < away["seqs"]["settled"]
            assert away["epoch"] == before["epoch"], "trading went on"
            assert 1 == cambist_here("history", "orders", "--account", "alice", "--home", home).status
        until(lambda: status(running)["postgres"]["seq"] >= away["seqs"]["durable"])
        after = status(running)
        assert ("up", "up", "") == tuple(after["postgres"][name] for name in ("server", "writer", "why"))
        listed = cambist_here("history", "trades", "--instrument", "BTCUSDT", "--limit", "3", "--home", home)
        assert (0, 4) == (listed.status, len(listed.out.splitlines())), listed.err
        opened = cambist_here("history", "statement", "--account", "alice", "--asset", "USDT", "--json", "--home", home)
        assert 1_000_000 * 10**8 == opened.json["statement"][0]["closing_free_units"]
    assert not (home / "postgres" / "postmaster.pid").exists(), "the server was shut down cleanly"

    engine = FusedEngine(load(home / "cambist.toml", {}, required=True).engine_settings())
    for slots in JournalReader(home / "journal"):
        engine.feed(slots)
    cluster = Cluster(home)
    process = cluster.start()
    try:
        until(lambda: cluster.is_ready(process.pid))
        (position,) = fetch(dsn, "SELECT last_seq FROM writer")
        assert engine.last_seq == position["last_seq"] == positions(home)["postgres"], (
            "the last rows were written at the end"
        )
        words = engine.risk.balances.reshape(-1, 8)[:, :2].reshape(TABLES["accounts"] + 1, TABLES["assets"] + 1, 2)
        held = {(int(a), int(b)): tuple(words[a, b].tolist()) for a, b in np.argwhere(words.any(axis=2))}
        rows = fetch(dsn, "SELECT * FROM balances WHERE free_units <> 0 OR locked_units <> 0")
        assert held == {(row["account"], row["asset"]): (row["free_units"], row["locked_units"]) for row in rows}
        wrong = "SELECT 1 FROM postings GROUP BY seq, idx, asset HAVING sum(amount_units) <> 0"
        assert [] == fetch(dsn, wrong)
        assert [] == fetch(dsn, "SELECT 1 FROM order_events GROUP BY seq, idx HAVING count(*) > 1")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def test_a_database_that_never_answers_keeps_nobody_from_trading(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    dsn = f"postgresql://desk:hush@/desk?host={tmp_path}"
    settings_file(folder, {"postgres": {"enabled": True, "dsn": dsn}, "tables": TABLES})
    with up(folder) as running:
        assert 0 == cambist_here("account", "create", "ann", "--reason", "new", "--home", folder).status
        found = status(running)
        assert ("the operator's", "failed") == (found["postgres"]["server"], found["postgres"]["writer"])
        assert "desk:***@" in found["postgres"]["why"]
        assert "hush" not in json.dumps(found)
        assert not (folder / "postgres").exists()
        assert "postgres-server" not in {row["name"] for row in found["processes"]}
        refused = cambist_here("history", "orders", "--account", "1", "--home", folder)
        assert 1 == refused.status
        assert "desk:***@" in refused.err
    for log in (folder / "log").iterdir():
        assert "hush" not in log.read_text(), log
