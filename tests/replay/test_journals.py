from pathlib import Path

import numpy as np
import pytest

from cambist.replay.journals import plan_of
from cambist.replay.plan import Plan, RecordingError, detect, load
from persistence.journal import DirectoryStore
from protocol import build
from protocol import enums as e
from protocol.codec import as_words
from protocol.records import command_slots
from tests.persistence.journal_slots import write_batches
from tests.replay.fused_engine import sequenced


@pytest.fixture
def history(shared_data: Path) -> np.ndarray:
    plan = load(shared_data / "data/xflow2/tight.bin.gz", limit=500)
    return sequenced(np.concatenate([plan.setup, plan.commands]))


def write_home(home: Path, slots: np.ndarray) -> Path:
    (home / "journal").mkdir(parents=True)
    ends = np.flatnonzero(build.heads(slots))[100::100]
    write_batches(DirectoryStore(home / "journal"), np.split(slots, ends))
    return home


def test_a_home_its_journal_and_a_segment_are_one_recording(history: np.ndarray, tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", history)
    segment = next((home / "journal").glob("*.seg"))
    for path in (home, home / "journal", segment):
        assert "cambist" == detect(path)
        assert np.array_equal(as_words(history), as_words(load(path).commands))


def test_tables_come_from_the_listings(history: np.ndarray) -> None:
    plan = plan_of(history, Path("home"))
    assert ["USDT", "BTC", "ETH"] == [a.symbol for a in plan.assets]
    assert ["BTCUSDT", "ETHUSDT", "ETHBTC"] == [i.symbol for i in plan.instruments]
    assert (-10_000, 75_000) == (plan.instruments[0].maker_rate_e8, plan.instruments[0].taker_rate_e8)
    assert (9, "verbatim") == (plan.accounts, plan.clock)


def test_clock_ticks_and_checkpoints_are_no_messages(history: np.ndarray) -> None:
    before = plan_of(history, Path("home"))
    ticks = command_slots(2)
    ticks["type"] = [e.TICK, e.CHECKPOINT]
    slots = np.concatenate([ticks, history, ticks])
    slots["seq"] = np.arange(1, len(slots) + 1)
    plan = plan_of(slots, Path("home"))
    assert before.messages == plan.messages
    assert [-1, -1, 0] == plan.to_message[:3].tolist()
    assert [-1, -1] == plan.to_message[-2:].tolist()


def test_a_limit_ends_after_a_whole_message(history: np.ndarray) -> None:
    def check(plan: Plan, limit: int) -> None:
        assert limit == plan.messages
        assert limit == 0 or limit - 1 == plan.to_message[-1]
        assert len(plan.commands) == 0 or plan.commands["flags"][-1] & e.FLAG_MORE == 0

    for limit in (0, 1, 2, 17, 400):
        check(plan_of(history, Path("home"), limit), limit)
    assert len(history) == len(plan_of(history, Path("home"), 10**9).commands)


def test_a_damaged_journal_is_refused_with_its_place(history: np.ndarray, tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", history)
    segment = next((home / "journal").glob("*.seg"))
    with segment.open("r+b") as file:
        file.seek(4096 + 200)
        file.write(b"\xff" * 8)
    with pytest.raises(RecordingError, match=segment.name):
        load(home)
