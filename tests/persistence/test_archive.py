"""Compressed segments: what may be compressed, crashes on the way, reading them, and damage anywhere in any segment."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from cambist.cli import main
from persistence import archive
from persistence.archive import Archiver, Rule, archive_step, needed_from
from persistence.backup import make_backup
from persistence.consumers import keep_position, positions
from persistence.journal import JournalCorrupt, JournalError, JournalReader, scan
from persistence.journal.layout import BLOCK_BYTES
from persistence.journal.packed import unpack
from persistence.moments import Moment
from persistence.restore import restore_home
from persistence.timetravel import Past
from protocol.codec import as_words
from tests.persistence.past_home import PastHome, answer, make_home, write_journal

pytestmark = pytest.mark.timeout(600)
EVERYTHING = 1 << 60
ALL = Rule(0, "")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> PastHome:
    return make_home(tmp_path_factory.mktemp("archive") / "home", n=600)


@pytest.fixture
def home(original: PastHome, tmp_path: Path) -> PastHome:
    shutil.copytree(original.path, tmp_path / "home")
    return original._replace(path=tmp_path / "home")


def compress(home: PastHome, rule: Rule = ALL) -> list[Path]:
    done = []
    while (place := archive_step(home.path, rule, EVERYTHING)) is not None:
        done.append(place)
    return done


def read(home: PastHome, from_seq: int = 1) -> np.ndarray:
    parts = [as_words(np.ascontiguousarray(slots)) for slots in JournalReader(home.journal, from_seq)]
    return np.concatenate(parts)


def test_compressed_journal_reads_as_before(home: PastHome, capsys: pytest.CaptureFixture[str]) -> None:
    names = sorted(path.name for path in home.journal.iterdir())
    before = scan(home.journal)
    done = compress(home)
    assert [f"{name}.zst" for name in names[:-1]] == [path.name for path in done]
    assert sorted([*(path.name for path in done), names[-1]]) == sorted(path.name for path in home.journal.iterdir())
    assert before == scan(home.journal)
    for from_seq in (1, 333, len(home.slots)):
        assert np.array_equal(as_words(home.slots)[from_seq - 1 :], read(home, from_seq))
    past = Past(home.path)
    assert home.engine_at(len(home.slots)).hashes() == past.engine_at(past.place(None)).hashes()
    assert 0 == main(["journal", "ls", "--json", "--home", str(home.path)])
    segments = answer(capsys)["segments"]
    assert ["archived"] * len(done) + ["newest"] == [segment["state"] for segment in segments]
    assert all(segment["stored_bytes"] < segment["size_bytes"] for segment in segments[:-1])
    write_journal(home.journal, home.slots[:0], epoch=2)
    assert len(home.slots) == scan(home.journal).last_seq


def test_standard_program_gives_the_segment_back(home: PastHome) -> None:
    segment = min(home.journal.iterdir())
    due = segment.read_bytes()
    (done, *_) = compress(home)
    with done.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
        assert due == stream.read()


def test_only_what_nobody_needs_and_the_rule_allows_is_compressed(home: PastHome) -> None:
    infos = scan(home.journal).segments
    assert 1 == needed_from(home.path), "without a snapshot recovery needs all"
    assert archive_step(home.path, Rule(0, ""), needed_from(home.path)) is None
    (home.path / "snapshots").mkdir()
    for seq in (infos[4].last_seq, infos[5].last_seq + 1):
        (home.path / "snapshots" / f"{seq:015d}.mdb").touch()
    assert infos[4].last_seq + 1 == needed_from(home.path)
    keep_position(home.path, "postgres", infos[2].last_seq + 5)
    assert infos[2].last_seq + 6 == needed_from(home.path)
    assert archive_step(home.path, Rule(-1, ""), needed_from(home.path)) is None
    assert archive_step(home.path, Rule(len(infos) - 1, ""), needed_from(home.path)) is None
    done = []
    while (place := archive_step(home.path, Rule(1, ""), needed_from(home.path))) is not None:
        done.append(place.name)
    assert [f"{info.name}.zst" for info in infos[:3]] == done
    keep_position(home.path, "postgres", EVERYTHING)
    while (place := archive_step(home.path, Rule(1, ""), needed_from(home.path))) is not None:
        done.append(place.name)
    assert [f"{info.name}.zst" for info in infos[:5]] == done


def test_archive_may_lie_elsewhere_and_its_absence_is_named(home: PastHome, tmp_path: Path) -> None:
    rule = Rule(0, str(tmp_path / "vault"))
    done = compress(home, rule)
    assert {scan(home.journal).journal_id.hex()} == {path.parent.name for path in done}
    assert np.array_equal(as_words(home.slots), read(home))
    other = home._replace(path=tmp_path / "other")
    make_backup(home.path, tmp_path / "backup", 1)
    other.path.mkdir()
    restore_home(tmp_path / "backup", other.path, Moment(len(home.slots) // 2, None, "x"), 1)
    mine = {path: path.read_bytes() for path in done}
    write_journal(other.journal, home.slots[:0], epoch=2)
    for path in other.journal.glob("*.zst"):
        other.journal.joinpath(path.stem).write_bytes(unpack(path))
        path.unlink()
    assert {path.name for path in compress(other, rule)} & {path.name for path in done}
    assert mine == {path: path.read_bytes() for path in done}, (
        "homes of one journal do not write over each other's files"
    )
    (tmp_path / "vault").rename(tmp_path / "away")
    with pytest.raises(JournalError, match=r"was archived to .*vault.*, which is not there; mount that folder"):
        scan(home.journal)
    with pytest.raises(JournalError, match="mount that folder"):
        read(home)


OPERATIONS = ("os.fsync", "pathlib.Path.replace", "pathlib.Path.unlink", "pathlib.Path.symlink_to", "os.open")


class Crash(BaseException):
    pass


@pytest.mark.parametrize("folder", ["", "vault"])
def test_crash_before_any_operation_leaves_one_valid_history(
    home: PastHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    rule = Rule(0, str(tmp_path / folder) if folder else "")
    due = as_words(home.slots)
    crashes = 0
    for at in range(100):
        with monkeypatch.context() as patched:
            left = [at]
            for name in OPERATIONS:
                patched.setattr(name, crashing(left, eval(name, {"os": os, "pathlib": __import__("pathlib")})))
            try:
                place = archive_step(home.path, rule, EVERYTHING)
            except Crash:
                crashes += 1
            else:
                assert place is not None
                break
        assert np.array_equal(due, read(home))
        assert len(home.slots) == scan(home.journal).last_seq
    assert crashes > 8
    compress(home, rule)
    assert np.array_equal(due, read(home))
    assert not [path for path in home.journal.iterdir() if path.name.endswith(".new")]


def crashing(left: list[int], operation: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        if left[0] == 0:
            raise Crash
        left[0] -= 1
        return operation(*arguments, **named)

    return call


def test_damaged_segment_is_not_compressed(home: PastHome) -> None:
    segment = min(home.journal.iterdir())
    data = bytearray(segment.read_bytes())
    data[2 * BLOCK_BYTES + 77] ^= 1
    segment.write_bytes(data)
    with pytest.raises(JournalCorrupt, match=f"{segment.name}, offset"):
        archive_step(home.path, Rule(0, ""), EVERYTHING)
    assert bytes(data) == segment.read_bytes()


def test_bit_flip_anywhere_in_any_segment_is_refused_with_its_position(home: PastHome) -> None:
    """The header, batches, padding and zeros of plain segments; every frame of compressed ones."""
    rng = random.Random(8)
    infos = scan(home.journal).segments
    for _ in range(len(infos) // 2):
        archive_step(home.path, Rule(0, ""), EVERYTHING)
    paths = sorted(home.journal.iterdir())
    assert {".zst", ".seg"} == {path.suffix for path in paths[:-1]}
    for at in range(120):
        path = paths[at % (len(paths) - 1)]
        info = infos[paths.index(path)]
        whole = path.read_bytes()
        data = bytearray(whole)
        # The small header frames are hit as often as the rest.
        place = rng.randrange(200 if at % 3 == 0 else len(data))
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with pytest.raises(JournalCorrupt) as caught:
            scan(home.journal)
        assert path.name in str(caught.value), f"flip at {place} of {path.name}"
        assert caught.value.offset % BLOCK_BYTES == 0
        assert caught.value.seq_expected == 0 or info.first_seq <= caught.value.seq_expected <= info.last_seq + 1
        if path.suffix == ".zst":
            with pytest.raises(JournalCorrupt, match=path.name):
                read(home)
        path.write_bytes(whole)
    assert len(home.slots) == scan(home.journal).last_seq


def test_archiver_works_in_a_fork_and_goes_on_after_a_failure(
    home: PastHome, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [0]
    archiver = Archiver(home.path, Rule(0, ""), lambda: now[0])
    (home.path / "snapshots").mkdir()
    (home.path / "snapshots" / f"{len(home.slots):015d}.mdb").touch()
    count = len(scan(home.journal).segments)
    archiver.step()
    archiver.close()
    assert count - 1 == len(list(home.journal.glob("*.zst")))
    assert "archive: " in capfd.readouterr().err
    monkeypatch.setattr(archive, "next_to_archive", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    now[0] += 10**10
    archiver.step()
    assert "archive: [Errno 28] full" in capfd.readouterr().err
    now[0] += 10**10
    archiver.step()
    assert "" == capfd.readouterr().err, "it waits a minute"


def test_position_that_a_power_loss_left_empty_keeps_everything(tmp_path: Path) -> None:
    keep_position(tmp_path, "audit", 7)
    keep_position(tmp_path, "postgres", 9)
    (tmp_path / "consumers" / "postgres.json").write_bytes(b"")
    assert {"audit": 7, "postgres": 0} == positions(tmp_path)
