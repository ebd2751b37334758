"""Every random command order gives the same verdicts, fills, money and hashes: naive, in plain Python, and compiled in any schedule.

The seeds of `make test` are few and fixed; ``--run-long`` goes through millions of commands. A failure prints how its seed is run again.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.campaign import History, run_seed, run_small_pools, variants
from tests.engine.driver import TINY, Run
from tests.flows.xflow2_gen import PROFILES

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
LONG_SEEDS = range(1_000, 1_040, 8)
LONG_MESSAGES = 4_000


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_random_history_is_the_naive_exchanges_in_every_variant(profile: str) -> None:
    result = run_seed(profile, seed=1, n=1_500)
    assert {0} == {waits for name, waits in result["waits"].items() if name.startswith("settled")}
    if profile == "tight":
        # Funds are short, so that without exact state the hard verdicts would be wrong.
        assert min(waits for name, waits in result["waits"].items() if not name.startswith("settled")) > 50


@pytest.mark.parametrize("profile", ["mixed", "rich"])
def test_full_pools_and_books_refuse_the_same_orders_in_every_schedule(profile: str) -> None:
    rejected = run_small_pools(profile, seed=2, n=700)["rejected"]
    assert rejected["ORDER_POOL_FULL"] > 20
    assert rejected["BOOK_FULL"] > 20


@pytest.mark.parametrize(("profile", "only"), [("tight", "tiny-random-3"), ("stp", "long"), ("admin", "steps-7")])
def test_plain_python_gives_the_hashes_of_the_compiled_kernels(profile: str, only: str) -> None:
    plain = plain_python(profile, 4, 450, only)
    compiled = run_seed(profile, 4, 450, "settled")
    assert compiled["hashes"] == plain["hashes"]


def test_schedules_differ_in_what_they_do_and_in_nothing_that_comes_out() -> None:
    history = History("tight", 5, 800)
    seen = set()
    for variant in variants(5):
        run = Run(variant)
        for part in history.parts:
            run.feed(part)
        meta = run.engine.risk.meta
        seen.add((tuple(meta.tolist()), tuple(run.engine.risk.holds["order_id"].tolist())))
    assert len(seen) > 3, "schedules leave traces in counters and in the place of rows, which no hash sees"


def test_smallest_rings_are_the_smallest_that_are_admitted() -> None:
    history = History("stp", 6, 300)
    for variant in variants(6):
        if variant.rings == TINY:
            run = Run(variant)
            assert (512, 4, 8, 256) == tuple(
                len(a)
                for a in (
                    run.engine.commands.slots,
                    run.engine.events[0].slots,
                    run.engine.outcomes.slots,
                    run.engine.risk.pending,
                )
            )
            run.feed(history.parts[0])


def plain_python(profile: str, seed: int, n: int, only: str) -> dict[str, Any]:
    """Run a seed in an interpreter without compiler."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.engine.campaign",
        "--profile",
        profile,
        "--seed",
        str(seed),
        "--n",
        str(n),
    ]
    done = subprocess.run(
        [*command, "--variant", only],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert 0 == done.returncode, done.stderr[-4_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# ------------------------------------------------------------------------------------------------------------- campaigns


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", LONG_SEEDS)
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_campaign_of_random_histories(profile: str, first: int) -> None:
    for seed in range(first, first + LONG_SEEDS.step):
        run_seed(profile, seed, LONG_MESSAGES)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_campaign_of_full_pools_and_books(profile: str) -> None:
    for seed in range(2_000, 2_012):
        run_small_pools(profile, seed, 2_000)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_campaign_in_plain_python(profile: str) -> None:
    for seed, only in ((3_001, "random-2"), (3_002, "tiny-random-3"), (3_003, "long-5")):
        plain = plain_python(profile, seed, 2_000, only)
        assert run_seed(profile, seed, 2_000, "settled")["hashes"] == plain["hashes"], f"profile {profile}, seed {seed}"
