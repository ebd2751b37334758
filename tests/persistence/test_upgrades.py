"""Versions: what the released schema wrote opens and replays, and a newer version takes over by a converted snapshot."""

import json
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cambist.cli import main
from persistence import verify as verifying
from persistence.history import open_past
from persistence.journal import DirectoryStore, JournalMismatch, JournalReader, scan
from persistence.journal.layout import pack_segment_header, segment_name
from persistence.journal.origin import check_executable, stretches
from persistence.journal.segments import read_segment_header
from persistence.recovery import load_limits
from persistence.snapshots import SnapshotFolder, open_snapshot
from persistence.snapshots.file import described, write_snapshot
from persistence.timetravel import Past
from protocol import enums as e
from protocol import versions
from protocol.instance import Engine
from protocol.records import COMMAND_SCHEMA
from protocol.release import RELEASE
from tests.persistence.past_home import PastHome, answer, make_home, write_journal

pytestmark = pytest.mark.timeout(600)
RELEASED = Path(__file__).parent.parent / "fixtures" / "released"


@pytest.mark.parametrize("release", sorted(path.name for path in RELEASED.iterdir()))
def test_home_of_a_released_version_opens_replays_to_its_hashes_and_converts(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.unpack_archive(RELEASED / release / "home.tar.gz", home, filter="data")
    recorded = json.loads((RELEASED / release / "hashes.json").read_text())
    seq = recorded["seq"]
    (only,) = stretches(DirectoryStore(home / "journal"))
    assert recorded["rules"] == only.written.rules
    assert recorded["commands"] == sum(len(slots) for slots in JournalReader(home / "journal"))
    with open_snapshot(SnapshotFolder(home).path(seq)) as snapshot:
        assert recorded["hashes"] == {name: str(value) for name, value in snapshot.manifest.hashes.items()}
    if versions.executable(only.written):
        assert recorded["hashes"]["state"] == verifying.verify(home)["state_hash"]
        engine = open_past(home, Engine(limits=load_limits(home)), seq + 1)
        assert (seq, recorded["hashes"]) == (engine.last_seq, {k: str(v) for k, v in engine.hashes().items()})
    monkeypatch.setattr(versions, "RULES_VERSION", 1000)
    assert 0 == main(["upgrade", "--home", str(home)])


@pytest.fixture
def home(tmp_path: Path) -> PastHome:
    return make_home(tmp_path / "home", n=300)


def upgrade(home: PastHome) -> int:
    return main(["upgrade", "--json", "--home", str(home.path)])


def test_newer_rules_go_on_from_the_converted_snapshot(
    home: PastHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == upgrade(home)
    ended = answer(capsys)
    count = len(home.slots)
    assert ("ended", count + 1) == (ended["step"], ended["seq"])
    slots = np.concatenate(list(JournalReader(home.journal)))
    assert (e.CHECKPOINT, e.SOURCE_SEQUENCER) == (slots["type"][-1], slots["source"][-1])
    assert (slots["ts_ns"][1:] >= slots["ts_ns"][:-1]).all()

    former = versions.RULES_VERSION
    monkeypatch.setattr(versions, "RULES_VERSION", former + 1)
    monkeypatch.setattr(versions, "RELEASE", "99.0.0")
    written = f"cambist {RELEASE} (rules {former}, schema {versions.SCHEMA_VERSION})"
    store = DirectoryStore(home.journal)
    with pytest.raises(JournalMismatch, match=re.escape(f"seq 1 to {count + 1} were written by {written}")):
        check_executable(store, 1, count + 1)
    assert 1 == main(["verify", "--home", str(home.path)])
    assert "only that version can execute them" in capsys.readouterr().err
    assert 1 == main(["inspect", "account", "1", "--home", str(home.path)])
    assert "only that version can execute them" in capsys.readouterr().err

    assert 0 == upgrade(home)
    converted = answer(capsys)
    assert ("converted", count + 1, ended["state_hash"]) == (
        converted["step"],
        converted["seq"],
        converted["state_hash"],
    )
    # The new version goes on, in segments that name it; a group stays where it was written.
    more = home.slots[-1:].copy()
    more["seq"] = count + 2
    write_journal(home.journal, more, epoch=10)
    assert [(former, count + 1), (former + 1, None)] == [(one.written.rules, one.last_seq) for one in stretches(store)]
    assert count + 2 == scan(store).last_seq
    result = verifying.verify(home.path)
    assert (True, count + 2) == (result["ok"], result["from_seq"])
    assert [{"first_seq": 1, "last_seq": count + 1, "needs": written}] == result["older"]
    past = Past(home.path)
    assert count + 2 == past.engine_at(past.place(None)).last_seq
    assert 0 == main(["journal", "show", "--limit", "2", "--home", str(home.path)])
    assert 0 == main(["journal", "ls", "--json", "--home", str(home.path)])
    capsys.readouterr()


def test_upgrade_without_the_old_versions_snapshot_says_who_can_make_it(
    home: PastHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    former = versions.this_program()
    monkeypatch.setattr(versions, "RULES_VERSION", former.rules + 1)
    assert 1 == upgrade(home)
    assert f"Only {former} can make it" in capsys.readouterr().err


def test_segment_of_a_schema_that_is_not_known_names_its_release(
    home: PastHome, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home.journal / segment_name(1)
    header = read_segment_header(DirectoryStore(home.journal), path.name)
    assert not isinstance(header, str)
    data = bytearray(path.read_bytes())
    data[:4096] = pack_segment_header(header._replace(schema=header.schema ^ 1, rules=7, release="9.9.9"))
    path.write_bytes(data)
    assert 1 == main(["verify", "--home", str(home.path)])
    assert "written by cambist 9.9.9" in capsys.readouterr().err


def test_commands_of_an_older_layout_are_read_by_their_field_names(
    home: PastHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schema in which two fields have changed places, and one has another name."""
    present = versions.LAYOUTS[COMMAND_SCHEMA]
    fields = present.head.fields
    assert fields is not None
    names = {"price_ticks": "qty_lots", "qty_lots": "price_ticks", "min_qty_lots": "least"}
    old = np.dtype(
        {
            "names": [names.get(name, name) for name in fields],
            "formats": [field[0] for field in fields.values()],
            "offsets": [field[1] for field in fields.values()],
            "itemsize": 128,
        }
    )
    monkeypatch.setitem(versions.LAYOUTS, 4711, versions.Layout(0, old, present.later))
    words = np.concatenate(list(JournalReader(home.journal))).view(np.int64).reshape(-1, 16)
    read = versions.in_present_layout(words, 4711)
    head = ~np.isin(home.slots["type"], [*present.later])
    assert np.array_equal(home.slots["price_ticks"][head], read["qty_lots"][head])
    assert np.array_equal(home.slots["qty_lots"][head], read["price_ticks"][head])
    assert np.array_equal(home.slots["order_id"][head], read["order_id"][head])
    assert home.slots[~head].tobytes() == read[~head].tobytes()


def test_snapshot_of_another_layout_is_converted_by_its_field_names(
    home: PastHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older version that had the fields of holds and accounts in another order, and one more."""
    assert 0 == upgrade(home)
    seq = answer(capsys)["seq"]
    path = SnapshotFolder(home.path).path(seq)
    with open_snapshot(path) as snapshot:
        manifest = snapshot.manifest
        parts: dict[str, dict[str, np.ndarray]] = {}
        for info in manifest.arrays:
            array = snapshot.array(info.part, info.name)
            if (info.part, info.name) in {("risk", "holds"), ("risk", "accounts")}:
                array = turned(array)
                assert described(info.dtype) != array.dtype
            parts.setdefault(info.part, {})[info.name] = array
    path.unlink()
    from persistence.snapshots.file import Pace

    write_snapshot(path, msgspec.structs.replace(manifest, arrays=()), parts, Pace(0))
    monkeypatch.setattr(versions, "RULES_VERSION", 2)
    assert 0 == upgrade(home)
    assert str(manifest.hashes["state"]) == answer(capsys)["state_hash"]


def turned(array: np.ndarray) -> np.ndarray:
    names = list(reversed(array.dtype.names or ()))
    dtype = np.dtype([("gone", "<i8"), *((name, array.dtype[name]) for name in names)])
    out = np.zeros(len(array), dtype=dtype)
    for name in names:
        out[name] = array[name]
    return out
