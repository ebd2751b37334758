"""A sample of what ``python -m tests.sim`` does at length, and that it finds what it is for."""

import errno
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gateway.outcomes import OutcomeFollower
from protocol import board as lines
from protocol import build
from protocol import reasons as r
from protocol.instance import Limits
from tests.sim import campaign, mutants
from tests.sim.disk import SimDisk
from tests.sim.model import SmallOracle
from tests.sim.traffic import SCALES, WHO, opening
from tests.sim.world import PROFILES

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
SAMPLE_SEEDS = 25
LONG_SEEDS = 3_334


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_sample_of_seeds_loses_nothing_and_finishes(profile: str) -> None:
    told: list[str] = []
    done = campaign.run(profile, range(SAMPLE_SEEDS), told.append)
    assert [] == done.failed, "\n".join(told)
    assert SAMPLE_SEEDS == done.seeds
    assert 1 == done.repeated
    assert done.epochs > SAMPLE_SEEDS
    # What so few seeds may miss; a campaign of thousands may not.
    parts = (
        "auction",
        "refused",
        "recovery",
        "disk",
        "gateway",
        "breaker",
        "audit",
        "snapshot",
        "replica",
        "exits",
        "orders",
    )
    rare = (*parts, "power loss: of", "journal: a failed write")
    seldom = {name for name in done.never_walked if name.startswith(rare)}
    assert seldom == set(done.never_walked)


def test_seed_that_fails_is_told_with_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OutcomeFollower, "durable_seq", lambda _self: (1 << 63) - 1)
    told: list[str] = []
    done = campaign.run("power", range(50), told.append, stop_after=1)
    seed = done.failed[0]
    assert 1 == len(told)
    assert told[0].startswith(f"seed {seed} failed: Wrong: ")
    assert told[0].endswith(f"run it alone: python -m tests.sim --profile power --seeds {seed}:{seed + 1}")


def test_seed_that_differs_from_itself_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = iter(({"trace": "a"}, {"trace": "b"}))
    monkeypatch.setattr(campaign, "live", lambda *_: (next(lives), Counter()))
    told: list[str] = []
    assert [0] == campaign.run("quick", range(1), told.append).failed
    assert "the same seed gave another history" in told[0]


def test_command_line_ends_with_the_counts_and_says_what_was_met() -> None:
    command = [sys.executable, "-m", "tests.sim", "--profile", "quick", "--seeds"]
    done = subprocess.run([*command, "3:6"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "3 passed, 0 failed" == done.stdout.splitlines()[-1]
    assert "command accepted" in done.stdout
    empty = subprocess.run([*command, "6:6"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert 2 == empty.returncode
    assert "6:6: no seed" in empty.stderr


@pytest.mark.parametrize("name", sorted(mutants.MUTANTS))
def test_planted_bug_still_fits_the_source(name: str) -> None:
    mutant = mutants.MUTANTS[name]
    source = (ROOT / (mutant.module.replace(".", "/") + ".py")).read_text()
    assert 1 == source.count(mutant.old)
    speaks_of_kernels = "import entry" in source or "njit" in source or "import inner" in source
    kernel_text = mutant.old.lstrip().startswith(("return int(durable)", "self.epoch"))
    assert mutant.plain == (speaks_of_kernels and not kernel_text)


@pytest.mark.parametrize("name", ["released-before-durable", "cursor-before-sync"])
def test_planted_bug_is_found(name: str) -> None:
    found = mutants.hunt(name)
    assert found.seeds > 0, found.words


# ----------------------------------------------------------------------------------------------------- what it is made of


def disk() -> SimDisk:
    return SimDisk(random.Random(1), lambda _what: None, lambda _what: None)


def test_failed_sync_takes_the_unsynced_writes_out_of_what_a_later_sync_reaches() -> None:
    for seed in range(20):
        one = disk()
        one.random = random.Random(seed)
        one.create("a", 4096)
        one.sync_directory()
        file = one.open("a")
        file.write(0, memoryview(b"x" * 4096))
        one.failure_rate = 1.0
        with pytest.raises(OSError, match="EIO"):
            file.sync()
        one.failure_rate = 0.0
        on_disk = bytes(one.files["a"].durable)
        file.sync() if on_disk == bytes(one.files["a"].current) else None
        one.power_loss()
        assert on_disk == bytes(one.files["a"].current)


def test_full_disk_makes_no_file_and_leaves_none() -> None:
    one = disk()
    one.full = True
    with pytest.raises(OSError, match="ENOSPC") as caught:
        one.create("a", 4096)
    assert errno.ENOSPC == caught.value.errno
    assert [] == one.names()


def test_model_knows_full_pools() -> None:
    oracle = SmallOracle(Limits(accounts=5, assets=3, instruments=3, orders=1, withdrawal_holds=8))
    seq = 0

    def apply(group, source_seq=1):
        nonlocal seq
        group = build.stamp(group.copy(), lines.LINE_CONTROL, source_seq)
        group["seq"] = range(seq + 1, seq + 1 + len(group))
        seq += len(group)
        return oracle.apply(group)[-1]

    for group in opening(random.Random(1)):
        apply(group)
    for account in range(1, 5):
        for asset in SCALES:
            apply(build.deposit(account, asset, 1_000_000, *WHO))
    order = build.limit(account=1, instrument=1, side=0, price_ticks=400, qty_lots=1)
    assert 0 == apply(order, 100)["reason"]
    assert r.ORDER_POOL_FULL == apply(order, 101)["reason"]
    refused = [int(apply(build.withdraw_hold(2, 1, 1, *WHO), 200 + 2 * n)["reason"]) for n in range(9)]
    assert [0] * 8 + [r.HOLD_TABLE_FULL] == refused


# ------------------------------------------------------------------------------------------------------------- campaigns


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_ten_thousand_seeds(profile: str) -> None:
    told: list[str] = []
    done = campaign.run(profile, range(LONG_SEEDS), told.append)
    assert [] == done.failed, "\n".join(told)
    assert [] == done.never_walked


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(mutants.MUTANTS))
def test_every_planted_bug_is_found_within_a_minute(name: str) -> None:
    found = mutants.hunt(name)
    assert found.seeds > 0, found.words
