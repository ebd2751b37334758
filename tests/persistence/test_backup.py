"""Backups: what they hold, what is checked before a home is made of one, and where a restored history ends."""

import json
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zstandard

from cambist.cli import main
from persistence import verify as verifying
from persistence.backup import BackupError, Manifest, make_backup
from persistence.checkpoints import CHECKPOINTS_FILE
from persistence.history import latest
from persistence.journal import JournalReader, scan
from persistence.journal.segments import history_at, lineage
from persistence.journal.store import DirectoryStore
from persistence.moments import Moment
from persistence.recovery import sound_snapshots
from persistence.restore import PART, check_backup, restore_home
from persistence.snapshots import SnapshotFolder
from persistence.snapshots.check import take, verified
from persistence.snapshots.writer import Settings
from persistence.timetravel import NotInHistory
from protocol.codec import as_words
from tests.persistence.past_home import PastHome, answer, make_home, write_journal

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> PastHome:
    made = make_home(tmp_path_factory.mktemp("backup") / "home", n=500)
    (made.path / "names.json").write_text('{"alice": 1}\n')
    (made.path / "cambist.toml").write_text("[engine]\nshards = 1\n")
    ends = made.ends[[50, 300, len(made.ends) - 1]].tolist()
    (made.path / CHECKPOINTS_FILE).write_text("".join(json.dumps({"seq": int(seq)}) + "\n" for seq in ends))
    for name in ("run", "log"):
        (made.path / name).mkdir()
        (made.path / name / "file").write_text("x")
    return made


@pytest.fixture(scope="module")
def backup(home: PastHome) -> Path:
    target = home.path.parent / "backup"
    make_backup(home.path, target, 1)
    return target


def restored(backup: Path, home: Path, until: Moment | None = None) -> Path:
    home.mkdir()
    (home / "journal").mkdir()
    restore_home(backup, home, until, 1)
    return home


def slots_of(home: Path) -> np.ndarray:
    parts = [as_words(np.ascontiguousarray(slots)) for slots in JournalReader(home / "journal")]
    return np.concatenate(parts) if parts else np.zeros((0, 16), dtype=np.int64)


@pytest.mark.parametrize("name", ["folder", "file.tar.zst"])
def test_home_of_a_backup_is_the_home_that_it_was_made_of(home: PastHome, tmp_path: Path, name: str) -> None:
    manifest = make_backup(home.path, tmp_path / name, 1)
    due = home.engine_at(len(home.slots)).hashes()
    assert (len(home.slots), {k: str(v) for k, v in due.items()}) == (manifest.seq, manifest.hashes)
    again = restored(tmp_path / name, tmp_path / "again")
    assert np.array_equal(as_words(home.slots), slots_of(again))
    result = verifying.verify(again)
    assert (True, manifest.state_hash) == (result["ok"], result["state_hash"])
    for file in ("names.json", "limits.json", "cambist.toml", CHECKPOINTS_FILE):
        assert (home.path / file).read_bytes() == (again / file).read_bytes()
    assert {"names.json", "limits.json", "cambist.toml", CHECKPOINTS_FILE, "journal"} == {
        p.name for p in again.iterdir()
    }
    write_journal(again / "journal", home.slots[:0], epoch=2)
    assert len(home.slots) == scan(again / "journal").last_seq


def test_standard_tools_read_the_file(home: PastHome, tmp_path: Path) -> None:
    make_backup(home.path, tmp_path / "b.tar.zst", 1)
    with (
        (tmp_path / "b.tar.zst").open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        names = tar.getnames()
    assert "manifest.json" == names[-1], "whoever has it, has all"


def test_backup_ends_at_the_durable_cursor_however_far_the_journal_goes(
    home: PastHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [int(slots["seq"][-1]) for slots in JournalReader(home.journal)]
    for seq in (ends[3], ends[len(ends) // 2]):
        monkeypatch.setattr("persistence.timetravel.durable_seq", lambda _home, seq=seq: seq)
        manifest = make_backup(home.path, tmp_path / f"b{seq}", 1)
        assert (seq, str(home.engine_at(seq).hashes()["state"])) == (manifest.seq, manifest.state_hash)
        again = restored(tmp_path / f"b{seq}", tmp_path / f"again{seq}")
        assert np.array_equal(as_words(home.slots[:seq]), slots_of(again))
        kept = (
            [json.loads(line)["seq"] for line in (again / CHECKPOINTS_FILE).read_text().splitlines()]
            if (again / CHECKPOINTS_FILE).exists()
            else []
        )
        assert all(one <= seq for one in kept)


def test_history_can_end_at_any_command(home: PastHome, backup: Path, tmp_path: Path) -> None:
    rng = random.Random(5)
    batch_ends = [int(slots["seq"][-1]) for slots in JournalReader(home.journal)]
    seqs = [int(home.ends[0]), batch_ends[4], batch_ends[4] + 1, *rng.sample(home.ends.tolist(), 6)]
    for at, seq in enumerate(seqs):
        again = restored(backup, tmp_path / str(at), Moment(int(seq), None, "x"))
        end = int(home.ends[np.searchsorted(home.ends, seq)])
        assert end == scan(again / "journal", known_durable_seq=end).last_seq
        assert np.array_equal(as_words(home.slots[:end]), slots_of(again))
        assert str(home.engine_at(end).hashes()["state"]) == verifying.verify(again)["state_hash"]
        # The history goes on from there.
        rest = home.slots[end : end + 3]
        if len(rest) and not rest["flags"][-1] & 1:
            write_journal(again / "journal", rest, epoch=2)
            assert end + 3 == scan(again / "journal").last_seq


def test_homes_of_one_backup_are_told_apart_behind_the_command_that_they_share(
    home: PastHome, backup: Path, tmp_path: Path
) -> None:
    """What one of them keeps of later commands (a snapshot, a place in a database or an archive) is none of the other's."""
    end = int(home.ends[np.searchsorted(home.ends, 300)])
    both = [restored(backup, tmp_path / name, Moment(end, None, "x")) for name in ("one", "other")]
    rest = home.slots[end : int(home.ends[-1])]
    for again in both:
        write_journal(again / "journal", rest, epoch=9)
    last = len(home.slots)
    headers = [lineage(DirectoryStore(again / "journal")).headers for again in (home.path, *both)]
    (plain,) = {history_at(one, end) for one in headers}
    assert headers[0][0].journal_id.hex() == plain
    assert 3 == len({history_at(one, end + 1) for one in headers}) == len({history_at(one, last) for one in headers})
    assert all(history_at(one, end + 1) == history_at(one, last) for one in headers), (
        "the branch goes on in later segments"
    )
    assert 1 == len({one[0].journal_id for one in headers}), "it is still the journal whose beginning they share"
    for again in both:
        taken = take(again, Settings(), 1)
        assert last == taken["seq"]
    one, other = both
    (snapshot,) = (one / "snapshots").glob("*.mdb")
    (own,) = (other / "snapshots").glob("*.mdb")
    notes: list[str] = []
    assert [last] == [s.manifest.seq for s in sound_snapshots(SnapshotFolder(other), headers[2], notes)]
    own.write_bytes(snapshot.read_bytes())
    assert [] == list(sound_snapshots(SnapshotFolder(other), headers[2], notes))
    assert ["a snapshot was passed over", True] == [
        notes[0].partition(":")[0],
        history_at(headers[1], last) in notes[0],
    ]
    assert "is of journal" in next(iter(verified(other)))["problem"]


def test_a_snapshot_at_the_command_where_a_branch_begins_is_good_in_both(home: PastHome, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(home.path, copied)
    assert len(home.slots) == take(copied, Settings(), 1)["seq"]
    make_backup(copied, tmp_path / "b", 1)
    again = restored(tmp_path / "b", tmp_path / "again")
    assert ["", ""] == [row["problem"] for at in (copied, again) for row in verified(at)]
    assert len(home.slots) == latest(again, DirectoryStore(again / "journal"), home.engine, 1 << 40).snapshot.seq  # type: ignore[union-attr]


def test_end_outside_of_the_backup_leaves_nothing(backup: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(NotInHistory, match="seq 99999999"):
        restored(backup, home, Moment(99999999, None, "99999999"))
    assert [home / "journal"] == list(home.iterdir())
    assert not any((home / "journal").iterdir())


def files_of(backup: Path) -> list[Path]:
    return sorted(path for path in backup.rglob("*") if path.is_file() and path.name != "manifest.json")


def change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def forge_hash(path: Path) -> None:
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, hashes={**manifest.hashes, "state": "1"})))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda b: change(files_of(b)[3]), "is damaged: .* bytes with SHA-256"),
        (lambda b: files_of(b)[2].unlink(), "is missing; the manifest names it"),
        (lambda b: (b / "journal" / "00000099.seg").write_bytes(b"x"), "is not named in the manifest"),
        (
            lambda b: (b / "manifest.json").unlink(),
            "has no manifest.json, so that it is no backup, or was not finished",
        ),
        (lambda b: (b / "manifest.json").write_text("{"), "the manifest cannot be read"),
        (lambda b: forge_hash(b / "manifest.json"), "state differ from what the manifest states"),
    ],
)
def test_backup_that_was_harmed_is_refused_before_there_is_a_home(
    home: PastHome, tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    make_backup(home.path, tmp_path / "b", 1)
    harm(tmp_path / "b")
    with pytest.raises(BackupError, match=said):
        check_backup(tmp_path / "b")
    with pytest.raises(BackupError, match=said):
        restored(tmp_path / "b", tmp_path / "home")
    assert [tmp_path / "home" / "journal"] == list((tmp_path / "home").iterdir())


def test_file_that_was_cut_or_changed_anywhere_is_refused(home: PastHome, tmp_path: Path) -> None:
    make_backup(home.path, tmp_path / "b.tar.zst", 1)
    whole = (tmp_path / "b.tar.zst").read_bytes()
    rng = random.Random(6)
    for at in range(10):
        broken = tmp_path / f"broken{at}.tar.zst"
        data = bytearray(whole)
        if at < 4:
            data = data[: rng.randrange(len(data))]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        broken.write_bytes(data)
        with pytest.raises(BackupError):
            check_backup(broken)


def test_commands_back_up_check_and_restore(home: PastHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, again = tmp_path / "b.tar.zst", tmp_path / "again"
    assert 0 == main(["backup", str(target), "--json", "--home", str(home.path)])
    made = answer(capsys)
    assert 0 == main(["restore", str(target), "--check", "--json"])
    assert made["state_hash"] == answer(capsys)["state_hash"]
    assert 0 == main(["restore", str(target), "--home", str(again), "--until", "100", "--json"])
    shown = answer(capsys)
    assert (100, len(home.slots)) == (shown["seq"], shown["backup_seq"])
    assert not (again / PART).exists()
    assert 0 == main(["journal", "ls", "--json", "--home", str(again)])
    *older, newest = answer(capsys)["segments"]
    assert {older[0]["history"][:32]} == {one["history"] for one in older}
    assert [shown["history"], 101] == [newest["history"], newest["first_seq"]]
    for arguments, said in (
        (["backup", str(target)], "is there already"),
        (["restore", str(target), "--home", str(again)], "is not empty"),
        (["restore", str(tmp_path / "none"), "--home", str(tmp_path / "other")], "no such backup"),
    ):
        assert 1 == main([*arguments, *([] if "--home" in arguments else ["--home", str(home.path)])])
        assert said in capsys.readouterr().err
    assert 2 == main(["restore", str(target)])
    assert "say with --home which new home" in capsys.readouterr().err


def test_home_in_which_a_restore_did_not_finish_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home" / PART).mkdir(parents=True)
    for arguments in (["up"], ["restore", str(tmp_path)]):
        assert 1 == main([*arguments, "--home", str(tmp_path / "home")])
        assert f"{PART}: a" in capsys.readouterr().err.replace("an earlier", "a")
