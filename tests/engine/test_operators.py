"""Bands, breakers, the clock, listings, accounts, client ids: every outcome byte for byte as the oracle says, in every variant."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from matcher import state as m
from persistence.checkpoints import publishers_of
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.records import OUTCOME_IDS
from tests.engine.campaign import variants
from tests.engine.driver import TINY, Run, Variant
from tests.engine.operators import (
    GATEWAY,
    WHO,
    Market,
    MarketRun,
    numbered,
    run_live,
    run_market,
    sized,
)

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]


def test_random_markets_write_the_oracles_outcomes_in_every_variant_and_meet_every_limit() -> None:
    results = [run_market(seed, 1_000) for seed in (6, 18)]
    assert sum(result["halts"] for result in results) > 2
    assert sum(result["trades"] for result in results) > 50
    met = {code for result in results for code in result["codes"]}
    assert {
        r.PRICE_BAND,
        r.NO_REFERENCE_PRICE,
        r.INSUFFICIENT_FUNDS,
        r.INSTRUMENT_HALTED,
        r.FOK_UNFILLED,
        r.RANGE,
        r.DUPLICATE_CLIENT_ID,
        r.ORDER_SIZE_LIMIT,
        r.NOTIONAL_LIMIT,
        r.OPEN_ORDERS_LIMIT,
        r.ORDER_RATE_LIMIT,
        r.PRICE_COLLAR,
        *(r.TRIGGER_PASSED, r.BAD_OFFSET, r.QUOTE_CROSSED, r.PROTECTED, r.IMMEDIATE_IN_AUCTION),
    } <= met


@pytest.mark.parametrize("seed", [3, 7])
def test_outbox_at_work_gives_an_order_that_every_schedule_replays(seed: int) -> None:
    assert run_live(seed, 900)["halts"] > 0


def test_plain_python_writes_the_oracles_outcomes_too() -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.engine.operators", "--seed", "5", "--n", "700"]
    done = subprocess.run(
        [*command, "--variant", "tiny-random-3"],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert 0 == done.returncode, done.stderr[-4_000:]
    assert run_market(5, 700, "settled")["hashes"] == json.loads(done.stdout)["hashes"]


def test_client_order_id_of_36_characters_follows_the_order_whole() -> None:
    market = Market(6, 60)
    text = "0123456789abcdefghijklmnopqrstuvwxyz"
    group = build.limit(account=1, instrument=1, side=e.BUY, price_ticks=400, qty_lots=1)
    market.office(build.deposit(1, 1, 10**9, *WHO))
    market.send(build.with_client_order_id(group, text, link_id=(1 << 62) + 1, tag=-7))
    done = MarketRun(market, Variant("long"), parts=1)
    ids = done.outcomes.all().view(OUTCOME_IDS.slot_dtype)
    ids = ids[ids["kind"] == e.OUT_IDS][-1]
    assert (text.encode(), (1 << 62) + 1, -7) == (ids["client_order_id"], ids["link_id"], ids["tag"])
    assert market.groups[-1]["order_id"][0] == ids["order_id"]


def test_checkpoint_publishes_the_same_hashes_in_every_schedule_and_over_any_shards() -> None:
    market = Market(7, 500)
    market.checkpoint()
    at = int(market.groups[-1]["seq"][0])
    market.tick()
    seen = set()
    for variant in variants(7):
        engine = MarketRun(market, variant).run.engine
        engine.step_until_settled()
        published = publishers_of(engine)
        assert at == published.newest()
        found = published.at(at)
        assert found is not None, variant.name
        seen.add(tuple(found.items()))
    assert 1 == len(seen)


def test_feed_leaves_no_matcher_behind() -> None:
    market = Market(13, 80)
    for _ in range(40):  # two slots each, and no matcher answers
        market.office(build.deposit(1, 1, 1, *WHO))
    engine = MarketRun(market, Variant("behind", 3, 7), parts=1).run.engine
    assert [engine.last_seq] * 3 == [matcher.meta[m.APPLIED_SEQ] for matcher in engine.matchers]


def test_group_of_128_slots_passes_rings_of_the_smallest_size() -> None:
    market = Market(8, 60)
    slots = np.zeros(128, dtype=market.groups[0].dtype)
    slots[:1] = build.limit(account=1, instrument=1, side=e.SELL, price_ticks=400, qty_lots=1)
    slots["type"][1:] = e.EXT_ADMIN
    slots["flags"][:-1] = e.FLAG_MORE
    for _ in range(5):
        market.send(slots.copy())
        market.limit()
    expected = np.concatenate(market.expected)
    for variant in (
        Variant("tiny", 3, 4096, rings=TINY),
        Variant("random", 2, schedule=8, rings=TINY),
        Variant("settled", 1, 1, rings=TINY),
    ):
        assert expected.tobytes() == MarketRun(market, variant, parts=1).outcomes.all().tobytes()


def test_cancel_all_over_shards_is_told_in_the_order_of_instruments_and_orders() -> None:
    market = Market(9, 400)
    owners = [order.account for order in market.oracle.orders.values()]
    market.send(build.cancel_all(account=max(owners, key=owners.count)))
    for variant in variants(9):
        outcomes = MarketRun(market, variant, parts=1).outcomes.all()
        told = outcomes[(outcomes["seq"] == market.groups[-1]["seq"][0]) & (outcomes["kind"] == e.OUT_CANCELED)]
        keys = told[["instrument", "order_id"]].tolist()
        assert len({instrument for instrument, _ in keys}) > 1
        assert sorted(keys) == keys


def test_withdrawals_of_everything_in_flight_together_promise_nothing_to_a_later_order() -> None:
    """Three times 2^62 - 1 is negative in 64 bits: added up without bound, the promises would look like money."""
    market = Market(10, 60)
    market.office(build.deposit(5, 1, 1_000, *WHO))
    for _ in range(3):
        market.office(build.withdraw_hold(5, 1, (1 << 62) - 1, *WHO))
    market.send(build.limit(account=5, instrument=1, side=e.BUY, price_ticks=400, qty_lots=1 << 40))
    assert r.INSUFFICIENT_FUNDS == market.expected[-1]["reason"][0]
    for variant in variants(10):
        done = MarketRun(market, variant, parts=1)
        assert np.concatenate(market.expected).tobytes() == done.outcomes.all().tobytes()


def test_halt_of_risk_that_nothing_caused_stops_the_engine() -> None:
    from persistence.fused import EngineFault
    from tests.engine.oracle_more import Halt, halt_slot

    market = Market(11, 60)
    run = Run(Variant("long"), sized(market))
    run.feed(np.concatenate(market.groups))
    with pytest.raises(EngineFault, match="a command of risk came back different"):
        run.engine.feed(numbered(halt_slot(Halt(1, 5, 0), 1), run.engine.last_seq + 1))


def test_source_of_new_orders_is_a_gateway() -> None:
    assert {GATEWAY, e.SOURCE_CONTROL} <= {int(group["source"][0]) for group in Market(12, 80).groups}


# ------------------------------------------------------------------------------------------------------------- campaigns


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(100, 150, 10))
def test_campaign_of_random_markets(first: int) -> None:
    for seed in range(first, first + 10):
        run_market(seed, 4_000)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(200, 230, 10))
def test_campaign_with_the_outbox_at_work(first: int) -> None:
    for seed in range(first, first + 10):
        run_live(seed, 2_500)
