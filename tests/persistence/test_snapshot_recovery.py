"""Recovery from a snapshot and the journal after it, and what it falls back to."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from matcher.process import shard_spec
from persistence.beside import gathered, read_beside
from persistence.fused import FusedEngine, risk_spec
from persistence.history import open_past
from persistence.journal import JournalCorrupt, JournalReader
from persistence.journal.process import load_position
from persistence.recovery import EpochFiles, RecoveryRefused, rebuild
from persistence.snapshots import SnapshotFolder
from protocol import board as b
from protocol.codec import as_words
from protocol.instance import Context
from protocol.records import COMMAND_SCHEMA
from ringbuf.arena import attach_arena
from ringbuf.board import private_board
from risk import state as s
from tests.persistence.snapshot_homes import Follower, Home, make_home

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with three checkpoints and snapshots, and some ten segments."""
    return make_home(tmp_path_factory.mktemp("snapshots") / "home", checkpoints=3)


@pytest.fixture
def home(original: Home, tmp_path: Path) -> Home:
    """A copy of it."""
    shutil.copytree(original.path, tmp_path / "home")
    return original._replace(path=tmp_path / "home")


def damage(path: Path, place: int = -1000) -> None:
    """Flip a bit."""
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def without_snapshots(home: Home, tmp_path: Path) -> Home:
    """The same home, which must replay from the beginning."""
    shutil.copytree(home.path, tmp_path / "plain")
    shutil.rmtree(tmp_path / "plain" / "snapshots")
    return home._replace(path=tmp_path / "plain")


@pytest.mark.parametrize("shards", [1, 3])
def test_recovery_begins_with_the_newest_snapshot_and_comes_to_the_same(
    home: Home, tmp_path: Path, shards: int
) -> None:
    plain = without_snapshots(home, tmp_path).recover(shards)
    found = home.recover(shards)
    assert (0, home.checkpoints[-1]) == (plain.report.snapshot_seq, found.report.snapshot_seq)
    assert (home.hashes, home.hashes) == (plain.hashes(), found.hashes())
    assert plain.lanes() == found.lanes()
    assert plain.report.sources == found.report.sources
    assert plain.outcomes.words.tolist() == found.outcomes.words.tolist()
    assert plain.outcomes.slots.tobytes() == found.outcomes.slots.tobytes()
    assert ("", "") == (plain.report.note, found.report.note)
    assert {"check", "load", "replay", "segment"} == found.report.seconds.keys()


def test_a_damaged_snapshot_falls_back_to_the_one_before_and_then_to_the_beginning(home: Home) -> None:
    for number in range(len(home.checkpoints) - 1, -1, -1):
        damage(home.folder.path(home.checkpoints[number]))
        found = home.recover()
        assert (home.checkpoints[number - 1] if number else 0) == found.report.snapshot_seq
        assert home.hashes == found.hashes()
        assert len(home.checkpoints) - number == found.report.note.count("a snapshot was passed over: ")
        assert f"{home.checkpoints[number]:015d}.mdb: damaged" in found.report.note


def test_a_snapshot_under_a_wrong_name_is_passed_over(home: Home) -> None:
    home.folder.path(home.checkpoints[-1]).rename(home.folder.path(home.checkpoints[-1] - 1))
    found = home.recover()
    assert home.checkpoints[-2] == found.report.snapshot_seq
    assert "give it that name" in found.report.note


def test_a_snapshot_of_another_journal_is_passed_over(home: Home) -> None:
    follower = Follower(home.config)
    follower.feed(home.slots)
    follower.write(home.folder, journal_id="ff" * 16)
    found = home.recover()
    assert home.checkpoints[-1] == found.report.snapshot_seq
    assert "is of journal ffff" in found.report.note


def test_segments_below_the_snapshot_are_not_read(home: Home) -> None:
    segments = sorted((home.path / "journal").glob("*.seg"))
    assert len(segments) > 3
    damage(segments[0], 4096 + 200)
    assert home.hashes == home.recover().hashes()
    shutil.rmtree(home.folder.folder)
    with pytest.raises(JournalCorrupt, match=r"offset 4096"):
        home.recover()


def test_a_journal_without_its_beginning_needs_a_snapshot_that_leads_up_to_it(home: Home) -> None:
    min((home.path / "journal").glob("*.seg")).unlink()
    found = home.recover()
    assert (home.checkpoints[-1], home.hashes) == (found.report.snapshot_seq, found.hashes())
    for seq in home.checkpoints:
        damage(home.folder.path(seq))
    with pytest.raises(RecoveryRefused, match=r"no sound snapshot leads up to there: .*damaged"):
        home.recover()


def test_a_journal_that_ends_before_its_snapshot_is_refused(home: Home) -> None:
    newest = max((home.path / "journal").glob("*.seg"))
    assert home.checkpoints[-1] < len(home.slots)
    content = newest.read_bytes()
    newest.write_bytes(content[:4096] + bytes(len(content) - 4096))
    follower = Follower(home.config)
    follower.feed(home.slots)
    follower.write(home.folder)
    with pytest.raises(JournalCorrupt, match=f"seq {len(home.slots)} was durable"):
        home.recover()


def test_snapshots_without_a_journal_are_refused(home: Home) -> None:
    for path in (home.path / "journal").iterdir():
        path.unlink()
    with pytest.raises(RecoveryRefused, match="there is no journal"):
        home.recover()


def test_the_past_begins_with_the_newest_snapshot_before_it(home: Home) -> None:
    first, second, third = home.checkpoints
    for before, expected in ((1, 0), (first, 0), (first + 1, first), (third, second), (len(home.slots) + 1, third)):
        past = open_past(home.path, home.config, before)
        assert (expected, expected) == (past.last_seq, int(past.risk.meta[s.SETTLED]))
    for slots in JournalReader(home.journal, from_seq=third + 1):
        past.feed(slots)
    assert home.hashes == past.hashes()
    damage(home.folder.path(second))
    assert first == open_past(home.path, home.config, third).last_seq


def test_old_generations_are_removed_but_those_that_a_consumer_needs(home: Home) -> None:
    first, second, third = home.checkpoints
    folder = SnapshotFolder(home.path)
    assert [] == folder.prune(3, [])
    assert [] == folder.prune(1, [first + 5, second])
    assert [second] == folder.prune(1, [first + 5])
    assert [first] == folder.prune(1, [third])
    assert [third] == folder.seqs()
    assert [] == folder.prune(1, [first])


def test_files_that_a_dead_writer_left_are_removed_and_never_read(home: Home) -> None:
    folder = home.folder
    scratch = folder.folder / f".{10**6:015d}.mdb.4711.new"
    scratch.write_bytes(b"half")
    assert home.checkpoints == folder.seqs()
    folder.make()
    assert not scratch.exists()
    assert home.checkpoints == folder.seqs()
    assert all(a < z for a, z in itertools.pairwise(folder.seqs()))


def test_a_second_process_reads_ahead_what_this_one_would_have_read(home: Home) -> None:
    expected = np.concatenate([as_words(slots) for slots in gathered(JournalReader(home.journal, 7, 800))])
    found = np.concatenate([as_words(slots).copy() for slots in read_beside(home.journal, 7, 800)])
    assert expected.tolist() == found.tolist()


def test_damage_that_the_second_process_met_is_raised_with_its_position(home: Home) -> None:
    segments = sorted((home.path / "journal").glob("*.seg"))
    damage(segments[2], 4096 + 200)
    with pytest.raises(JournalCorrupt, match=f"{segments[2].name}.*offset 4096"):
        for _ in read_beside(home.journal, 1, len(home.slots)):
            pass


def test_recovery_into_the_files_of_an_epoch_with_processes_beside_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("protocol.instance.SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("persistence.recovery._MANY_SLOTS", 1)
    context = Context(str(home.path), "test", 2, b.LINE_SUPERVISOR, home.config)
    context.epoch_dir.mkdir(parents=True)
    board = private_board(b.LINES)
    report, status = rebuild(home.journal, EpochFiles(context, board), context, board, 1, home.folder)
    assert (0, len(home.slots)) == (status, report.last_seq)
    assert len(home.slots) == load_position(context.epoch_dir).last_seq
    arrays = attach_arena(context.risk_state, risk_spec(home.config), COMMAND_SCHEMA)
    shards = [attach_arena(context.matcher_state(0), shard_spec(home.config), COMMAND_SCHEMA)]
    assert home.hashes == FusedEngine(home.config, arrays, shards, last_seq=len(home.slots)).hashes()
