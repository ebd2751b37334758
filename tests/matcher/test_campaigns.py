"""Random histories: the kernel against its naive twin, event by event, with rings and pools of all sizes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from matcher.state import MatcherLimits
from tests.matcher.campaign import PROFILES, run

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = MatcherLimits(orders_max=6, leaves_max=3, instruments_max=3, accounts_max=5)
SMALL = MatcherLimits(orders_max=40, leaves_max=12, instruments_max=3, accounts_max=5)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_event_is_that_of_the_naive_book(profile: str) -> None:
    for seed in range(1, 4):
        run(seed, profile, 1_200)


@pytest.mark.parametrize("profile", PROFILES)
def test_ring_of_four_gives_the_same_as_a_large_one(profile: str) -> None:
    large = run(21, profile, 1_000, ring_slots=1024)
    assert large.pauses == 0
    tiny = run(21, profile, 1_000, ring_slots=4)
    assert tiny.pauses >= 5
    assert large.hashes() == tiny.hashes()


@pytest.mark.parametrize("limits", [TINY, SMALL], ids=["tiny", "small"])
@pytest.mark.parametrize("profile", PROFILES)
def test_full_pools_refuse_and_lose_nothing(profile: str, limits: MatcherLimits) -> None:
    for seed in range(1, 4):
        run(seed, profile, 600, limits=limits, ring_slots=4, check_every=20, target=limits.orders_max)


@pytest.mark.parametrize("profile", PROFILES)
def test_plain_python_gives_the_hashes_of_compiled_kernels(profile: str) -> None:
    compiled = run(5, profile, 500).hashes()
    command = [sys.executable, "-W", "error", "-m", "tests.matcher.campaign"]
    command += ["--seed", "5", "--commands", "500", "--profile", profile]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found = re.search(r"'books': (\d+), 'events': (\d+)", done.stdout)
    assert found is not None, done.stdout
    assert compiled == {"books": int(found[1]), "events": int(found[2])}


@pytest.mark.long
def test_many_seeds_agree() -> None:
    for seed in range(100, 200):
        for profile in PROFILES:
            run(seed, profile, 2_000, ring_slots=(4, 8, 64)[seed % 3], target=(10, 60, 250)[seed % 3])
