"""A sample of what ``python -m tests.chaos`` does at length, and that its checks find what they are for."""

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
from tests.chaos.campaign import Kill, Setting, rounds, run_round
from tests.chaos.check import differences
from tests.chaos.flow import SOURCES, deal


@pytest.mark.timeout(240)
def test_four_kills_under_load_lose_nothing_and_apply_nothing_twice() -> None:
    kills = [
        Kill("matcher-1", 0.3, aimed=200, second="risk", pause_s=0.1),
        Kill("journal", 0.3, aimed=200, second="recovery", pause_s=0.0),
        Kill("everything", 0.3, aimed=50, second="", pause_s=0.0),
        Kill("sequencer", 0.3, aimed=50, second="control", pause_s=0.0),
    ]
    result = run_round("sample", Setting("split", 3, 0, "mixed"), kills, 5)
    assert [] == result.wrong, "\n".join(result.kills)
    assert 4 == len(result.kills)
    assert min(result.facts[what] for what in ("trades", "refusals", "operator's commands")) > 20


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", [1, 2])
def test_campaign_of_kills(seed: int) -> None:
    for name, setting, kills, round_seed in rounds(50, seed):
        result = run_round(name, setting, kills, round_seed)
        assert [] == result.wrong, f"{name}, seed {round_seed}\n" + "\n".join(result.kills)


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
