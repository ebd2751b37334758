"""The life of an order with the database's help, which is the life that the journal alone gives."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import asyncpg
import numpy as np
import pytest

from persistence.moments import Moment
from persistence.postgres.places import ask
from persistence.recovery import keep_limits
from persistence.timetravel import Past
from protocol import enums as e
from protocol.build import heads
from protocol.records import EXT_IDS_SLOT
from tests.persistence.postgres.conftest import Postgres
from tests.persistence.postgres.histories import History, history
from tests.persistence.postgres.test_writer import Heard, _until, follow, make

pytestmark = pytest.mark.timeout(600)


class Kept(NamedTuple):
    """A home, and two databases: one with all of its history, one that stands in the middle."""

    of: History
    past: Past
    whole: str
    half: str
    half_seq: int


def late_cancel(slots: np.ndarray) -> np.ndarray:
    """A cancel from early in a history once more at its end, where the order is long gone."""
    early = slots[(slots["type"] == e.CANCEL) & heads(slots) & (slots["seq"] < len(slots) // 3)]
    again = early[-1:].copy()
    again["seq"], again["ts_ns"] = len(slots) + 1, slots["ts_ns"][-1] + 1
    again["source_seq"] = slots["source_seq"][heads(slots) & (slots["source"] == again["source"])].max() + 1
    assert not again["flags"][0] & e.FLAG_MORE
    return again


@pytest.fixture(scope="module")
def kept(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    of = history(4, 400)
    of.groups.append(late_cancel(of.slots))
    home = tmp_path_factory.mktemp("places") / "home"
    of.journal(home)
    keep_limits(home, of.engine.limits)
    whole, half = postgres.fresh(), postgres.fresh()
    asyncio.run(follow(home, of, whole, Heard()))
    parts = of.parts(17)
    seq = int(parts[len(parts) // 2]["seq"][-1])
    heard = Heard()
    asyncio.run(_until(make(home, of, half, heard, lambda: seq), lambda: heard.seq == seq))
    return Kept(of, Past(home), whole, half, seq)


def orders_of(slots: np.ndarray) -> list[int]:
    new = heads(slots) & np.isin(slots["type"], (e.LIMIT, e.MARKET, e.MARKET_AMOUNT))
    return [int(order_id) for order_id in slots["order_id"][new]]


def test_every_order_lives_as_in_the_journal_without_a_look_through_it(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = kept.of.slots
    chosen = orders_of(slots)[::21]
    ends = [kept.past.place(None), kept.past.place(Moment(2 * len(slots) // 3, None, "x"))]
    right = {
        (order_id, place.seq): kept.past.order(order_id, place)
        for place in ends
        for order_id in chosen
        if int(slots["seq"][slots["order_id"] == order_id][0]) <= place.seq
    }
    monkeypatch.delattr(Past, "_commands_naming")
    asked = 0
    for dsn in (kept.whole, kept.half):
        for (order_id, seq), answer in right.items():
            known = ask(dsn, kept.past.headers, order_id, seq)
            if known is None:
                assert dsn == kept.half
                assert answer["entered"]["seq"] > kept.half_seq
                continue
            asked += 1
            place = next(end for end in ends if end.seq == seq)
            assert answer == kept.past.order(order_id, place, known)
    assert asked > len(right)


def test_what_named_an_ended_order_behind_the_databases_position_is_in_its_life(kept: Kept) -> None:
    slots = kept.of.slots
    place = kept.past.place(None)
    early, late = (heads(slots) & (slots["seq"] <= kept.half_seq)), (heads(slots) & (slots["seq"] > kept.half_seq))
    both = np.intersect1d(slots["order_id"][early], slots["order_id"][late])
    ended = 0
    for order_id in np.intersect1d(both, orders_of(slots)).tolist():
        known = ask(kept.half, kept.past.headers, order_id, place.seq)
        right = kept.past.order(order_id, place)
        assert right == kept.past.order(order_id, place, known)
        ended += right["final"] and right["ended"]["seq"] <= kept.half_seq < right["history"][-1]["seq"]
    assert ended


def test_the_newest_order_of_a_clients_id_is_found_where_the_journal_has_it(kept: Kept) -> None:
    slots = kept.of.slots
    ids = slots.view(EXT_IDS_SLOT.slot_dtype)["client_order_id"]
    at = np.flatnonzero((slots["type"] == e.EXT_IDS) & (ids != b""))
    named = {(int(slots["account"][k - 1]), ids[k].decode()) for k in at if slots["order_id"][k - 1]}
    place = kept.past.place(None)
    late = 0
    for account, name in sorted(named)[::3]:
        due = kept.past.order_id_of(name, account, place)
        for dsn in (kept.whole, kept.half):
            known = ask(dsn, kept.past.headers, (account, name), place.seq)
            late += dsn == kept.half and (known is None or known.order_id != due)
            assert due == kept.past.order_id_of(name, account, place, known)
    assert late, "some were sent behind the place where the database stands"


def test_a_database_that_is_away_foreign_or_wrong_changes_no_answer(kept: Kept, tmp_path: Path) -> None:
    place = kept.past.place(None)
    order_id = orders_of(kept.of.slots)[40]
    right = kept.past.order(order_id, place)
    assert ask(f"postgresql://x:y@/z?host={tmp_path}", kept.past.headers, order_id, place.seq) is None
    assert ask(kept.whole, kept.past.headers, 12345, place.seq) is None
    (header, *more) = kept.past.headers
    foreign = tuple(one._replace(branch=7) for one in (header, *more))
    assert ask(kept.whole, foreign, order_id, place.seq) is None

    async def lie() -> None:
        connection = await asyncpg.connect(kept.whole)
        try:
            await connection.execute("UPDATE orders SET seq = seq + 1 WHERE order_id = $1", order_id)
        finally:
            await connection.close()

    asyncio.run(lie())
    known = ask(kept.whole, kept.past.headers, order_id, place.seq)
    assert known is not None
    assert right == kept.past.order(order_id, place, known)
