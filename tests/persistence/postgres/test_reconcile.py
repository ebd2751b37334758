"""Reconciling: one unit anywhere, in a balance, a posting or risk's own tables, is found and named."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persistence import postings as audit_postings
from persistence import reconcile as r
from persistence.audit import past
from persistence.postgres.terms import REBATES
from persistence.recovery import keep_limits
from protocol import board as b
from risk import state as s
from tests.persistence.postgres.conftest import Postgres
from tests.persistence.postgres.histories import Followed, History, contents, history
from tests.persistence.postgres.test_writer import Heard, follow

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)


class Kept:
    """A stopped home and the database that a writer filled from its journal."""

    def __init__(self, of: History, home: Path, postgres: Postgres) -> None:
        self.of, self.home, self.server = of, home, postgres
        of.journal(home)
        keep_limits(home, of.engine.limits)
        self.dsn = postgres.fresh()
        self.database = self.dsn.split("@/")[1].split("?")[0]
        # Kernels that are compiled now do not count against the writer's time.
        Followed(of).feed(of.groups[0])
        asyncio.run(follow(home, of, self.dsn, Heard()))

    def run(self, statement: str) -> None:
        self.server.run(self.database, statement)

    def differences(self) -> list[dict[str, Any]]:
        answer = r.reconcile(self.home, self.dsn, self.of.engine)
        assert answer["ok"] == (not answer["differences"])
        assert answer["live"] is None
        return list(answer["differences"])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Kept:
    return Kept(history(11, 500), tmp_path_factory.mktemp("reconcile") / "home", postgres)


def test_all_places_agree_to_the_unit(kept: Kept) -> None:
    answer = r.reconcile(kept.home, kept.dsn, kept.of.engine)
    assert ([], True) == (answer["differences"], answer["ok"])
    assert int(kept.of.groups[-1]["seq"][-1]) == answer["seq"]
    assert answer["balances"] > 20


@pytest.mark.parametrize(
    ("change", "undo", "bucket"),
    [
        ("UPDATE balances SET free_units = free_units + 1", "UPDATE balances SET free_units = free_units - 1", "free"),
        (
            "UPDATE balances SET locked_units = locked_units + 1",
            "UPDATE balances SET locked_units = locked_units - 1",
            "locked",
        ),
        (
            "UPDATE postings SET amount_units = amount_units + 1",
            "UPDATE postings SET amount_units = amount_units - 1",
            "free",
        ),
        ("UPDATE assets SET fee_units = fee_units + 1", "UPDATE assets SET fee_units = fee_units - 1", "FEE"),
        ("UPDATE revenue SET units = units + 1", "UPDATE revenue SET units = units - 1", "FEE"),
    ],
)
def test_one_unit_is_found_and_named(kept: Kept, change: str, undo: str, bucket: str) -> None:
    rows = asyncio.run(contents(kept.dsn))
    if "postings" in change:
        row = next(row for row in rows["postings"] if row[5] and row[7] == 1)
        where, account, asset = f"WHERE seq = {row[0]} AND idx = {row[1]} AND line = {row[2]}", row[5], row[6]
        place = "postings"
    elif "revenue" in change:
        day, instrument, asset, kind = next(row[:4] for row in rows["revenue"] if row[3] != REBATES)
        where = f"WHERE day = {day} AND instrument = {instrument} AND asset = {asset} AND kind = {kind}"
        account, place = 0, "revenue"
    elif "assets" in change:
        where, account, asset, place = "WHERE asset = 2", 0, 2, "postgres"
    else:
        account, asset = rows["balances"][3][:2]
        where, place = f"WHERE account = {account} AND asset = {asset}", "postgres"
    kept.run(f"{change} {where}")
    try:
        (found,) = kept.differences()
    finally:
        kept.run(f"{undo} {where}")
    assert (account, asset, bucket) == (found["account"], found["asset"], found["bucket"])
    assert {found["risk"] + 1} == {found[place]}
    assert f"{place} {found[place]}" in r.told(found)
    assert kept.differences() == []


def test_missing_balance_and_missing_posting_are_differences(kept: Kept) -> None:
    rows = asyncio.run(contents(kept.dsn))
    account, asset = next(row[:2] for row in rows["balances"] if row[2])
    kept.run(f"UPDATE balances SET account = account + 1000 WHERE account = {account} AND asset = {asset}")
    try:
        found = {(row["account"], row["bucket"]) for row in kept.differences()}
    finally:
        kept.run("UPDATE balances SET account = account - 1000 WHERE account > 1000")
    assert {(account, "free"), (account + 1000, "free")} <= found


def test_database_of_another_journal_or_of_none_is_refused(kept: Kept, postgres: Postgres) -> None:
    with pytest.raises(r.NotReconciled, match="the database is empty"):
        r.reconcile(kept.home, postgres.fresh(), kept.of.engine)
    kept.run("UPDATE writer SET journal_id = repeat('0', 32)")
    try:
        with pytest.raises(r.NotReconciled, match="belongs to journal 0000"):
            kept.differences()
    finally:
        kept.run(f"UPDATE writer SET journal_id = '{past.journal_id_of(kept.home).hex()}'")


def test_live_row_that_differs_is_named_and_one_that_moves_is_waited_for(kept: Kept) -> None:
    last = int(kept.of.groups[-1]["seq"][-1])
    live, rebuilt = past.engine_at(kept.home, last), past.engine_at(kept.home, last // 2)
    board = np.zeros(1 << 12, dtype=np.int64)
    board[b.DURABLE_SEQ] = last
    at, rows, moving, differences = r._compare_live(kept.home, rebuilt, live.risk, board)
    assert (last, 0, []) == (at, moving, differences)
    table = live.risk.balances.reshape(-1, s.BALANCE_WORDS)
    assert np.count_nonzero(table[:, s.ROW_SEQ]) == rows
    row = int(np.flatnonzero(table[:, s.FREE])[0])
    for word, bucket in ((s.FREE, "free"), (s.LOCKED, "locked"), (s.ROW_SEQ, "last changing command")):
        table[row, word] -= 1
        (found,) = r._compare_live(kept.home, rebuilt, live.risk, board)[3]
        width = len(live.risk.assets)
        assert (row // width, row % width, bucket) == (found["account"], found["asset"], found["bucket"])
        table[row, word] += 1


def test_two_derivations_of_postings_move_the_same_money(kept: Kept) -> None:
    """The database's postings and the audit's are derived by different code from the same outcomes."""
    followed = Followed(kept.of)
    engine = past.open_at(kept.home, 1, 1)[0]
    postings = audit_postings.Postings(engine)
    for slots in kept.of.parts(20):
        theirs = followed.feed(slots).postings
        ours = postings.of(past.outcomes_of(engine, slots))
        sums: dict[tuple[int, int, int, int], int] = {}
        for row in theirs.tolist():
            seq, _, _, _, _, account, asset, bucket, units, *_ = row
            key = (seq, {3: -2, 4: -1}.get(bucket, account), asset, 1 if bucket == 2 else 0)
            sums[key] = sums.get(key, 0) + units
        for row in ours[ours["account"] != audit_postings.CLEARING]:
            key = (int(row["seq"]), int(row["account"]), int(row["asset"]), int(row["bucket"]))
            sums[key] = sums.get(key, 0) - int(row["amount_units"])
        assert not {key: units for key, units in sums.items() if units}
