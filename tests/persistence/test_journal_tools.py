"""``cambist journal``: the list of segments, commands by name, and their export."""

import csv
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pa_parquet
import pytest

from cambist.cli import main
from persistence import export as exporting
from persistence.commands import type_name
from persistence.journal.layout import BLOCK_BYTES
from protocol import build
from protocol import enums as e
from protocol.release import RELEASE
from protocol.versions import RULES_VERSION, SCHEMA_VERSION
from tests.persistence.past_home import PastHome, answer, make_home

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> PastHome:
    return make_home(tmp_path_factory.mktemp("tools") / "home")


def call(home: PastHome, *arguments: str) -> int:
    return main(["journal", *arguments, "--home", str(home.path)])


def test_list_names_each_segment_with_its_range_times_and_versions(
    home: PastHome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == call(home, "ls", "--json")
    segments = answer(capsys)["segments"]
    assert len(segments) > 5
    seq = 1
    for segment in segments:
        slots = home.slots[segment["first_seq"] - 1 : segment["last_seq"]]
        assert seq == segment["first_seq"]
        assert (int(slots["ts_ns"][0]), int(slots["ts_ns"][-1])) == (segment["first_ts_ns"], segment["last_ts_ns"])
        written = tuple(segment[n] for n in ("schema_version", "rules_version", "release", "epoch"))
        assert (SCHEMA_VERSION, RULES_VERSION, RELEASE, 1) == written
        assert not segment["compressed"]
        seq = segment["last_seq"] + 1
    assert len(home.slots) == segments[-1]["last_seq"]
    assert ["closed"] * (len(segments) - 1) + ["newest"] == [segment["state"] for segment in segments]
    assert 0 == call(home, "ls", "--quick", "--json")
    quick = answer(capsys)["segments"]
    assert [one["last_seq"] for one in segments] == [one["last_seq"] for one in quick]
    assert 0 == call(home, "ls")
    assert "00000001" not in capsys.readouterr().err


def test_list_names_damage_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")  # otherwise what a narrow terminal shows may be cut
    home = make_home(tmp_path / "home", n=300)
    segment = sorted(home.journal.glob("*.seg"))[1]
    data = bytearray(segment.read_bytes())
    data[BLOCK_BYTES + 300] ^= 16
    segment.write_bytes(data)
    assert 1 == call(home, "ls")
    printed = capsys.readouterr()
    assert f"{segment.name}, offset {BLOCK_BYTES}: expected seq" in printed.err
    assert "damaged" in printed.out


def test_show_gives_every_command_with_its_group_in_one_line(
    home: PastHome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == call(home, "show")
    lines = capsys.readouterr().out.splitlines()
    assert len(home.ends) == len(lines)
    assert "LIST_ASSET" in lines[0]
    assert 'operator op why "test"' in lines[0]
    assert lines[0].lstrip().startswith("1-3 ")


def test_show_json_is_one_object_and_names_what_numbers_mean(
    home: PastHome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == call(home, "show", "--json")
    commands = answer(capsys)["commands"]
    heads = home.slots[build.heads(home.slots)]
    assert heads["seq"].tolist() == [command["seq"] for command in commands]
    assert [type_name(int(kind)) for kind in heads["type"]] == [command["type"] for command in commands]
    by_seq = {command["seq"]: command for command in commands}
    limits = heads[(heads["type"] == e.LIMIT) & (heads["instrument"] == 1)]
    # Instrument 1 has ticks of 0.01 and lots of 0.0001.
    for head in limits[:20]:
        command = by_seq[int(head["seq"])]
        assert Decimal(int(head["price_ticks"])) / 100 == Decimal(command["price"])
        assert Decimal(int(head["qty_lots"])) / 10_000 == Decimal(command["qty"])
    assert any(command.get("client_order_id") for command in commands)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--type", "deposit", "--type", "SET_FEES"), lambda h: np.isin(h["type"], (e.DEPOSIT, e.SET_FEES))),
        (("--account", "3"), lambda h: h["account"] == 3),
        (("--instrument", "I2"), lambda h: h["instrument"] == 2),
        (
            ("--type", "LIMIT", "--account", "2", "--instrument", "I1"),
            lambda h: (h["type"] == e.LIMIT) & (h["account"] == 2) & (h["instrument"] == 1),
        ),
        (("--limit", "7"), lambda h: np.arange(len(h)) < 7),
    ],
)
def test_show_gives_what_is_asked_for(
    home: PastHome, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], wanted: Any
) -> None:
    heads = home.slots[build.heads(home.slots)]
    assert 0 == call(home, "show", "--json", *options)
    found = [command["seq"] for command in answer(capsys)["commands"]]
    assert len(found) > 2
    due = heads["seq"][wanted(heads)].tolist()
    # Before it is listed, a symbol names nothing.
    assert set(found) <= set(due)
    assert len(found) >= len(due) - 1


def test_range_inside_groups_gives_the_whole_groups(home: PastHome, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == call(home, "show", "--json", "--from", "2", "--to", "5")
    shown = answer(capsys)
    assert (1, 6) == (shown["from_seq"], shown["to_seq"])
    assert [1, 4] == [command["seq"] for command in shown["commands"]]
    ts_ns = int(home.slots["ts_ns"][299])
    due = int(np.searchsorted(home.slots["ts_ns"], ts_ns)) + 1
    assert 0 == call(home, "show", "--json", "--from", f"{ts_ns}", "--limit", "1")
    assert due == answer(capsys)["commands"][0]["seq"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("show", "--type", "NONSENSE"), 2, "--type NONSENSE: no such command; there are LIMIT"),
        (("show", "--instrument", "I77"), 1, "--instrument I77: not listed"),
        (("show", "--from", "9999999"), 1, "goes from seq 1"),
        (("show", "--from", "50", "--to", "20"), 2, "lies behind"),
        (("export", "commands.xml"), 2, "--format parquet or --format csv"),
        (("export", "/nowhere/at/all.csv"), 1, "/nowhere/at/all.csv: cannot be written"),
    ],
)
def test_journal_says_what_cannot_be_done(
    home: PastHome, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, said: str
) -> None:
    assert status == call(home, *arguments)
    assert said in capsys.readouterr().err


def test_parquet_has_typed_columns_in_several_row_groups(
    home: PastHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "ROW_GROUP_ROWS", 256)
    path = tmp_path / "commands.parquet"
    assert 0 == call(home, "export", str(path), "--json")
    heads = home.slots[build.heads(home.slots)]
    assert len(heads) == answer(capsys)["commands"]
    file = pa_parquet.ParquetFile(path)
    assert file.num_row_groups > 3
    table = file.read()
    assert exporting.SCHEMA.names == table.schema.names
    for name in ("seq", "ts_ns", "source_seq"):
        assert heads[name].tolist() == table[name].to_pylist()
    assert [int(v) or None for v in heads["account"]] == table["account"].to_pylist()
    assert [type_name(int(kind)) for kind in heads["type"]] == table["type"].to_pylist()
    assert "timestamp[ns, tz=UTC]" == str(table.schema.field("time").type)
    rows = [row for row in table.to_pylist() if row["type"] == "LIMIT" and row["symbol"] == "I1"]
    assert len(rows) > 20
    for row in rows:
        assert Decimal(row["price_ticks"]) / 100 == Decimal(row["price"] or 0)
        assert Decimal(row["qty_lots"]) / 10_000 == Decimal(row["qty"])
        assert row["side"] in {"buy", "sell"} or row["side"].isdigit()
    deposits = [row for row in table.to_pylist() if row["type"] == "DEPOSIT" and row["asset"] == "A1"]
    assert len(deposits) > 3
    for row in deposits:
        assert Decimal(row["amount_units"]) / 10**6 == Decimal(row["amount"])
    assert {("op", "test")} <= {(row["operator"], row["why"]) for row in deposits}
    assert [tmp_path / "commands.parquet"] == list(tmp_path.iterdir()), "nothing else is left"


def test_csv_has_the_same_rows(home: PastHome, tmp_path: Path) -> None:
    path = tmp_path / "commands.csv"
    assert 0 == call(home, "export", str(path), "--from", "100", "--to", "400")
    parquet = tmp_path / "out.bin"
    assert 0 == call(home, "export", str(parquet), "--format", "parquet", "--from", "100", "--to", "400")
    table = pa_parquet.read_table(parquet)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert table["seq"].to_pylist() == [int(row["seq"]) for row in rows]
    assert [value or "" for value in table["price"].to_pylist()] == [row["price"] for row in rows]
    assert [value or "" for value in table["client_order_id"].to_pylist()] == [row["client_order_id"] for row in rows]
