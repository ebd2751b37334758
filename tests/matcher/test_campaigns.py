"""Random histories: the kernel against its naive twin, event by event, with rings and pools of all sizes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.matcher.campaign import PROFILES, campaign, run

ROOT = Path(__file__).resolve().parent.parent.parent


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


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("profile", PROFILES)
def test_full_pools_refuse_and_lose_nothing(profile: str, size: str) -> None:
    for seed in range(1, 4):
        run(seed, profile, 600, size=size, ring_slots=4, check_every=20)


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
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("first_seed", [1_000, 2_000])
def test_million_commands_of_all_profiles_and_sizes(first_seed: int) -> None:
    campaign(first_seed, 1_000_000)
