"""Postings of random histories: every outcome adds up to zero, and what was there plus the postings is what the engine has."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persistence import postings as p
from persistence.fused import FusedEngine
from protocol import build
from protocol import enums as e
from protocol.instance import Engine
from protocol.records import OUTCOME_DTYPE
from risk import state as s
from tests.engine.campaign import History
from tests.engine.driver import LIMITS, ROOMY, balances_of
from tests.engine.operators import WHO, Market, sized

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)


def fed(engine: FusedEngine, slots: np.ndarray) -> np.ndarray:
    """Outcomes of the slots, in order."""
    parts: list[np.ndarray] = []
    engine.feed(slots, parts.append)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=OUTCOME_DTYPE)


def ledger(engine: FusedEngine) -> np.ndarray:
    """Free and locked of all accounts, and of the system accounts at their negative numbers: int64[accounts + 4, assets, 2]."""
    rows = balances_of(engine)[:, :, [s.FREE, s.LOCKED]]
    table = np.zeros((rows.shape[0] + 3, *rows.shape[1:]), dtype=np.int64)
    table[: rows.shape[0]] = rows
    table[p.FEE, :, 0] = engine.risk.assets["fee_units"]
    table[p.EXTERNAL, :, 0] = -engine.risk.assets["net_deposits_units"]
    return table


def check_sums(rows: np.ndarray) -> None:
    """Unique keys in ascending order, no empty row, and zero for each (seq, index, asset) and for CLEARING of each seq."""
    keys = rows[["seq", "index", "leg"]].tolist()
    assert sorted(set(keys)) == keys
    assert rows["amount_units"].all()
    for names in (["seq", "index", "asset"], ["seq", "index", "asset", "kind"]):
        _, group = np.unique(rows[names], return_inverse=True)
        sums = np.zeros(len(rows), dtype=np.int64)
        np.add.at(sums, group, rows["amount_units"])
        assert not sums.any(), names
    clearing = rows[rows["account"] == p.CLEARING]
    _, group = np.unique(clearing[["seq", "asset"]], return_inverse=True)
    sums = np.zeros(len(clearing), dtype=np.int64)
    np.add.at(sums, group, clearing["amount_units"])
    assert not sums.any()


def check_parts(engine: FusedEngine, parts: list[np.ndarray]) -> np.ndarray:
    """Feed part by part; after each the postings lead from the ledger before to the ledger now. Returns all of them."""
    postings = p.Postings(engine)
    every = []
    for slots in parts:
        before = ledger(engine)
        rows = postings.of(fed(engine, slots))
        check_sums(rows)
        np.add.at(before, (rows["account"], rows["asset"], rows["bucket"]), rows["amount_units"])
        assert np.array_equal(before, ledger(engine))
        every.append(rows)
    return np.concatenate(every)


def cut(groups: list[np.ndarray], places: list[float]) -> list[np.ndarray]:
    """Groups joined to parts, cut at shares of their number."""
    ends = sorted({int(place * len(groups)) for place in places} | {0, len(groups)})
    return [np.concatenate(groups[a:b]) for a, b in itertools.pairwise(ends)]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.lists(st.floats(0, 1), max_size=6))
def test_random_market_is_booked_to_the_unit_however_it_is_cut(seed: int, places: list[float]) -> None:
    market = Market(seed, 400, access=seed % 2 == 1)
    engine = FusedEngine(Engine(limits=sized(market), rings=ROOMY))
    kinds = set(check_parts(engine, cut(market.groups, places))["kind"].tolist())
    assert {p.HOLD, p.RELEASE, p.TRADE, e.DEPOSIT} <= kinds


def test_postings_do_not_depend_on_how_outcomes_are_cut() -> None:
    market = Market(3, 800)
    one, many = (FusedEngine(Engine(limits=sized(market), rings=ROOMY)) for _ in range(2))
    whole = check_parts(one, [np.concatenate(market.groups)])
    assert whole.tobytes() == check_parts(many, market.groups).tobytes()


@pytest.mark.parametrize("profile", ["tight", "stp"])
def test_recorded_history_is_booked_to_the_unit(profile: str) -> None:
    history = History(profile, 5, 1_500)
    engine = FusedEngine(Engine(limits=LIMITS, rings=ROOMY))
    rows = check_parts(engine, history.parts)
    assert len(rows) > 1_000
    if profile == "tight":
        assert set(p.KINDS) - {e.ADJUST, e.TRANSFER} == set(rows["kind"].tolist())


def test_postings_go_on_from_the_middle_of_a_history() -> None:
    market = Market(11, 600)
    engine = FusedEngine(Engine(limits=sized(market), rings=ROOMY))
    first, second = cut(market.groups, [0.5])
    engine.feed(first)
    rows = check_parts(engine, [second])
    assert len(rows) > 200


def test_sell_by_amount_that_got_it_all_frees_what_is_left_in_its_last_trade() -> None:
    market = Market(6, 60)
    engine = FusedEngine(Engine(limits=sized(market), rings=ROOMY))
    market.office(build.deposit(1, 4, 10**6, *WHO))
    market.office(build.deposit(2, 2, 10**12, *WHO))
    market.send(build.cancel_all(instrument=5))
    market.send(build.limit(account=1, instrument=5, side=e.BUY, price_ticks=300, qty_lots=2))
    market.send(build.market_amount(account=2, instrument=5, side=e.SELL, amount_units=600, price_ticks=100))
    seq = int(market.groups[-1]["seq"][0])
    rows = check_parts(engine, [np.concatenate(market.groups)])
    last = rows[(rows["seq"] == seq) & (rows["account"] == 2) & (rows["kind"] == p.RELEASE)]
    assert [(-4 * 10**8, p.BUCKET_LOCKED), (4 * 10**8, p.BUCKET_FREE)] == last[["amount_units", "bucket"]].tolist()
