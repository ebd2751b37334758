"""A sample of what ``python -m tests.chaos`` does at length, and that its checks find what they are for."""

import random
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from persistence.fused import FusedEngine
from protocol import build
from protocol import enums as e
from protocol.instance import Engine, Limits
from protocol.readers import COMMAND_FIRST_MATCHER
from protocol.records import COMMAND_DTYPE, OUTCOME_DTYPE, command_slots
from ringbuf.arena import private_arena
from ringbuf.ring import private_ring, reader_cursor
from sequencer import core
from tests.chaos.campaign import SETTINGS, Kill, Setting, rounds, run_round, victims
from tests.chaos.check import differences
from tests.chaos.faults import KINDS, Fault
from tests.chaos.flow import SOURCES, deal
from tests.chaos.machine import NO_COMPILER, NO_SPACE, READ_ONLY, REST, SYNC_FAILS, Machine, has_compiler
from tests.chaos.power import lose


@pytest.mark.timeout(240)
def test_four_kills_under_load_lose_nothing_and_apply_nothing_twice() -> None:
    kills = [
        Kill("matcher-1", 0.3, aimed=200, second="risk", pause_s=0.1),
        Kill("journal", 0.3, aimed=200, second="recovery", pause_s=0.0),
        Kill("everything", 0.3, aimed=50, second="", pause_s=0.0),
        Kill("sequencer", 0.3, aimed=50, second="control", pause_s=0.0),
    ]
    result = run_round("sample", Setting("split", 3, 0, "mixed"), kills, 5, 3_000)
    assert [] == result.wrong, "\n".join(result.blows)
    assert 4 == len(result.blows)
    assert min(result.facts[what] for what in ("trades", "refusals", "operator's commands")) > 20


@pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)
@pytest.mark.timeout(240)
def test_faults_of_disk_clock_and_power_under_load_lose_nothing() -> None:
    faults = [
        Fault("full disk", 0.2, 1.0),
        Fault("clock back", 0.2, 0.3),
        Fault("failed sync and power loss", 0.2, 0.1),
        Fault("failing syncs beside the journal", 0.2, 0.5),
    ]
    result = run_round("sample", Setting("split", 1, 0, "mixed"), faults, 7, 3_000)
    assert [] == result.wrong, "\n".join(result.blows)
    assert 4 == len(result.blows)
    assert min(result.facts[what] for what in ("trades", "refusals", "operator's commands")) > 20


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", [1, 2])
def test_campaign_of_kills_and_faults(seed: int) -> None:
    for name, setting, blows, round_seed in rounds(100, seed):
        result = run_round(name, setting, blows, round_seed)
        assert [] == result.wrong, f"{name}, seed {round_seed}\n" + "\n".join(result.blows)


@pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)
def test_every_kind_of_fault_and_every_victim_is_met_by_a_campaign_of_two_hundred() -> None:
    met = {blow.kind if isinstance(blow, Fault) else blow.victim for *_, blows, _ in rounds(200, 1) for blow in blows}
    due = {*KINDS, *(victim for setting in SETTINGS for victim in victims(setting))}
    assert due == met


# ---------------------------------------------------------------------------------------------------------- the machine


def on(machine: Machine, code: str) -> None:
    """Run Python on a machine, in its home."""
    with machine.preloaded():
        subprocess.run([sys.executable, "-S", "-c", "import os\n" + code], check=True, cwd=machine.home)


def new_machine(folder: Path) -> Machine:
    (folder / "home").mkdir(parents=True)
    machine = Machine(folder, folder / "home")
    machine.record()
    begin = """
        file = os.open("a", os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(file, b"1" * 4096, 0)
        os.fsync(file)
        os.fsync(os.open(".", os.O_RDONLY))
    """
    on(machine, textwrap.dedent(begin))
    return machine


@pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)
def test_power_loss_takes_unsynced_sectors_and_names_and_nothing_else(tmp_path: Path) -> None:
    change = """
        file = os.open("a", os.O_RDWR)
        os.pwrite(file, b"2" * 2560, 2048)
        for name in "bc":
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT))
        os.rename("c", "d")
    """
    seen: set[tuple[bytes, int]] = set()
    for seed in range(12):
        machine = new_machine(tmp_path / str(seed))
        on(machine, textwrap.dedent(change))
        lost = lose(machine, random.Random(seed))
        content = (machine.home / "a").read_bytes()
        assert b"1" * 2048 == content[:2048]
        assert 4096 <= len(content) <= 2048 + 2560
        names = {path.name for path in machine.home.iterdir()}
        assert names in ({"a"}, {"a", "b"}, {"a", "b", "c"}, {"a", "b", "d"})
        assert (5, 3) == (lost.sectors, lost.names)
        seen.add((content[2048:], len(names)))
    assert len(seen) > 6
    assert any(len(content.rstrip(b"1").split(b"1")[0]) % 512 for content, _ in seen), "a sector was torn"


@pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)
def test_what_a_failed_sync_left_is_lost_although_the_next_one_succeeds(tmp_path: Path) -> None:
    change = """
        file = os.open("a", os.O_RDWR)
        os.pwrite(file, b"2" * 4096, 4096)
        try:
            os.fsync(file)
        except OSError as error:
            assert error.errno == 5
        else:
            raise AssertionError("it did not fail")
        os.fsync(file)
    """
    lengths = set()
    for seed in range(12):
        machine = new_machine(tmp_path / str(seed))
        machine.fail(SYNC_FAILS, REST, times=1)
        on(machine, textwrap.dedent(change))
        assert 1 == machine.heal()
        lose(machine, random.Random(seed))
        lengths.add(len((machine.home / "a").read_bytes()))
    assert {4096, 8192} <= lengths


@pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)
def test_full_and_read_only_disk_fail_what_they_must_and_nothing_else(tmp_path: Path) -> None:
    write = """
        file = os.open("a", os.O_RDWR)
        os.pwrite(file, b"2" * 4096, 0)
        os.pwrite(file, b"2" * 4096, 1)
    """
    machine = new_machine(tmp_path)
    for fault, error in ((NO_SPACE, "No space left"), (READ_ONLY, "Read-only")):
        machine.fail(fault, REST)
        with machine.preloaded():
            ended = subprocess.run(
                [sys.executable, "-S", "-c", "import os\n" + textwrap.dedent(write)],
                capture_output=True,
                text=True,
                cwd=machine.home,
            )
        assert error in ended.stderr
        assert b"2" * 4096 == (machine.home / "a").read_bytes()


def test_recovery_counts_groups_of_batches_of_any_length() -> None:
    """Slots of a batch are no ring: groups before and after the last power of two end where their flags say."""
    state = core.make_state(private_arena(core.state_spec(4)))
    slots = command_slots(300)
    slots["seq"] = np.arange(1, 301)
    slots["flags"][np.arange(300) % 3 != 2] = e.FLAG_MORE
    slots["source"][::3] = e.SOURCE_BOTS
    slots["source_seq"][::3] = np.arange(1, 301, 3)
    # What later slots of a group hold there is text.
    slots["source"][1::3] = slots["source"][2::3] = 11
    core.observe(state, slots)
    assert (300, 0, 300) == (state.sources[e.SOURCE_BOTS], state.sources[11], state.meta[core.SEQ])


def test_a_fused_engine_moves_its_own_readers_of_a_live_ring_and_not_the_journals() -> None:
    engine = Engine(
        shards=2, limits=Limits(accounts=2, assets=1, instruments=1, orders=8, leaves=8, withdrawal_holds=8)
    )
    ring = private_ring(COMMAND_DTYPE, engine.rings.command, n_readers=COMMAND_FIRST_MATCHER + engine.shards)
    fused = FusedEngine(engine, commands=ring, first_matcher=COMMAND_FIRST_MATCHER)
    slots = build.create_account(1, "test", "test")
    slots["seq"] = [1, 2]
    fused.feed(slots)
    fused.step()
    readers = [int(reader_cursor(ring, reader)) for reader in range(4)]
    assert [2, 0, 2, 2] == readers, "risk, journal, two matchers"


def test_the_load_is_dealt_out_with_ids_of_its_producers() -> None:
    dealt = deal("mixed", 3, 2_000)
    for source in SOURCES:
        slots = dealt.slots[source]
        assert list(range(1, len(slots) + 1)) == slots["seq"].tolist()
        new = np.isin(slots["type"], (e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.WITHDRAW_HOLD))
        assert {source} == set((slots["order_id"][new] >> e.ORDER_ID_SOURCE_SHIFT).tolist())
    named = np.concatenate([slots["order_id"][slots["type"] == e.CANCEL] for slots in dealt.slots.values()])
    brought = np.concatenate([slots["order_id"][slots["type"] == e.LIMIT] for slots in dealt.slots.values()])
    assert np.isin(named, brought).mean() > 0.8


def test_lost_repeated_changed_and_untold_outcomes_are_told_apart() -> None:
    due = np.zeros(4, dtype=OUTCOME_DTYPE)
    due["seq"] = [1, 2, 2, 3]
    due["index"] = [0, 0, 1, 0]
    changed = due.copy()
    changed["qty_lots"][2] = 7
    assert [] == differences(due, due)
    assert ["outcome (3, 0) was acknowledged and is lost"] == differences(due, due[:3])
    assert ["outcome (2, 1) was acknowledged twice"] == differences(due[[0, 1, 2, 2, 3]], due)
    assert "otherwise" in differences(changed, due)[0]
    assert ["outcome (2, 1) was never told"] == differences(due[[0, 1, 3]], due)
    assert ["outcomes were told in another order"] == differences(due[[1, 0, 2, 3]], due)
