"""Exports are proved by their own verifier, which needs nothing of ours, and which finds whatever is changed in them."""

import ast
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import zstandard

from persistence.audit import past, verify_export
from persistence.audit.export import Scope, export
from persistence.audit.trail import AuditTrail, write_up_to
from persistence.moments import parse_moment
from protocol import enums as e
from tests.engine.operators import Market
from tests.persistence.audit.homes import fresh_engine, home_of
from tests.persistence.audit.spoiling import cells, other_value, problem_of, set_right, write

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)

SCOPES = {"all": Scope(), "account": Scope(account=2), "instrument": Scope(symbol="I1")}


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(4, 320)


@pytest.fixture(scope="module")
def home(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return home_of(market, tmp_path_factory.mktemp("export") / "home")


@pytest.fixture(scope="module")
def archives(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each scope, from the middle of the history on."""
    folder = tmp_path_factory.mktemp("archives")
    for name, scope in SCOPES.items():
        export(home, folder / name, scope, parse_moment("45"))
    return {name: folder / name for name in SCOPES}


def verified(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the archive's own verifier, isolated from everything that is installed here."""
    command = [sys.executable, "-I", "-S", str(folder / "verify_export.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")


def test_verifier_imports_the_standard_library_alone_and_is_short() -> None:
    text = Path(verify_export.__file__).read_text()
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {str(name).split(".")[0] for name in names} <= sys.stdlib_module_names
    assert text.count("\n") < 850


@pytest.mark.parametrize("name", SCOPES)
def test_archive_of_each_scope_is_found_sound_by_its_own_verifier(name: str, archives: dict[str, Path]) -> None:
    done = verified(archives[name])
    assert 0 == done.returncode, done.stdout + done.stderr
    assert done.stdout.endswith("all agrees\n")
    digest = hashlib.sha256((archives[name] / "manifest.json").read_bytes()).hexdigest()
    assert 0 == verified(archives[name], "--manifest", digest).returncode
    assert 1 == verified(archives[name], "--manifest", digest[:-1] + "x").returncode


@pytest.mark.parametrize("seed", [1, 7])
def test_any_range_of_any_history_agrees_with_itself(seed: int, tmp_path: Path) -> None:
    market = Market(seed, 500, access=seed == 7)
    home = home_of(market, tmp_path / "home")
    rng = random.Random(seed)
    end = market.next_seq - 1
    for number in range(6):
        first, last = sorted(rng.sample(range(1, end + 1), 2))
        if number == 0:
            first, last = 1, end
        scope = rng.choice((Scope(), Scope(account=rng.randrange(1, 6)), Scope(symbol=rng.choice(("I1", "I2", "I5")))))
        said = export(home, tmp_path / str(number), scope, parse_moment(str(first)), parse_moment(str(last)))
        assert problem_of(tmp_path / str(number)) == "", f"seed {seed}: {scope} from {first} to {last}"
        assert said["from_seq"] <= first
        assert last <= said["to_seq"]


def test_further_orders_of_a_list_have_rows_behind_their_command(tmp_path: Path) -> None:
    market = Market(7, 500, access=True)
    export(home_of(market, tmp_path / "home"), tmp_path / "all", Scope())
    assert problem_of(tmp_path / "all") == ""
    expected = [
        (int(slot["seq"]), int(slot["order_id"]), int(slot["qty_lots"]), int(group["account"][0]))
        for group in market.groups
        for slot in group[1:]
        if slot["type"] == e.EXT_LEG
    ]
    names = ("seq", "order_id", "qty_lots", "account")
    rows = [row for row in verify_export.table(tmp_path / "all", "commands.csv") if row["slots"] == 0]
    assert expected == [tuple(row[name] for name in names) for row in rows]
    assert len(rows) > 5


def test_two_ranges_follow_one_another(market: Market, home: Path, tmp_path: Path) -> None:
    cut = int(market.groups[200]["seq"][0])
    one = export(home, tmp_path / "one", Scope(), None, parse_moment(str(cut - 1)))
    other = export(home, tmp_path / "other", Scope(), parse_moment(str(cut)))
    assert one["to_seq"] + 1 == other["from_seq"]
    assert one["audit"]["hash_after"] == other["audit"]["hash_before"]
    closing = {
        (row["account"], row["asset"]): (row["closing_free_units"], row["closing_locked_units"])
        for row in verify_export.table(tmp_path / "one", "balances.csv")
    }
    opening = {
        (row["account"], row["asset"]): (row["opening_free_units"], row["opening_locked_units"])
        for row in verify_export.table(tmp_path / "other", "balances.csv")
    }
    assert {key: units for key, units in closing.items() if any(units)} == {
        key: units for key, units in opening.items() if any(units)
    }
    engine = fresh_engine(home)
    for slots in past.open_at(home, 1, market.next_seq - 1)[1]:
        engine.feed(slots)
    assert str(engine.hashes()["state"]) == other["state_hash"]


def test_range_by_time_is_the_range_by_number(market: Market, home: Path, tmp_path: Path) -> None:
    first, last = market.groups[100], market.groups[150]
    moments = [parse_moment(str(int(group["ts_ns"][0]))) for group in (first, last)]
    said = export(home, tmp_path / "time", Scope(), *moments)
    assert (int(first["seq"][0]), int(last["seq"][-1])) == (said["from_seq"], said["to_seq"])
    with pytest.raises(LookupError, match="no command lies in the range"):
        export(home, tmp_path / "none", Scope(), parse_moment("2030-01-01"))
    assert not list(tmp_path.glob("*none*")), "nothing is left of it"


def test_export_shows_nothing_of_other_accounts(archives: dict[str, Path]) -> None:
    folder = archives["account"]
    for name in ("commands.csv", "orders.csv", "fills.csv", "money.csv", "balances.csv", "open_orders.csv"):
        assert {row["account"] for row in verify_export.table(folder, name)} <= {0, 2}, name
    numbers = {row["account"] for row in verify_export.table(folder, "postings.csv")}
    assert numbers <= {2, "CLEARING", "FEE", "EXTERNAL"}
    lines = (folder / "audit.log").read_text().splitlines()
    shown = [json.loads(line[65:]) for line in lines if not line[65:].startswith("sha256:")]
    assert len(shown) < len(lines)
    assert {record["what"].get("account", 2) for record in shown} == {2}


def test_chain_in_an_archive_is_the_stored_one(market: Market, home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(home, tmp_path / "home"))
    trail = AuditTrail(copy, past.journal_id_of(copy), file_bytes=4096)
    write_up_to(trail, copy, market.next_seq - 1)
    trail.close()
    said = export(copy, tmp_path / "archive", Scope(), parse_moment("200"))
    assert trail.head.hash.hex() == said["audit"]["hash_after"]
    assert said["audit"] == export(home, tmp_path / "without", Scope(), parse_moment("200"))["audit"]


def test_compressed_archive_holds_the_same_files(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "plain", Scope())
    said = export(home, tmp_path / "packed", Scope(), compress=True)
    assert str(tmp_path / "packed.tar.zst") == said["path"]
    (tmp_path / "out").mkdir()
    with (
        Path(said["path"]).open("rb") as raw,
        zstandard.ZstdDecompressor().stream_reader(raw) as data,
        tarfile.open(fileobj=data, mode="r|") as archive,
    ):
        archive.extractall(tmp_path / "out", filter="data")
    names = {path.name: path.read_bytes() for path in (tmp_path / "plain").iterdir()}
    assert names == {path.name: path.read_bytes() for path in (tmp_path / "out" / "packed").iterdir()}


# --- somebody changes it -------------------------------------------------------------------------------------------------------------

ONLY_THE_MANIFEST = {
    "commands.csv": {
        *("session", "flags", "entry_ts_ns", "tif", "stp", "client_order_id", "timer", "instrument", "account"),
        *("price_ticks", "qty_lots", "type", "slots", "source", "source_seq", "ts_ns", "order_id"),
    },
    "orders.csv": {"index", "reason"},
    "assets.csv": {"symbol"},
    "instruments.csv": {"symbol", "base", "quote", "instrument"},
    "fills.csv": {"fee_rule", "fee_tier", "fee_api"},
    "rates.csv": {"seq", "instrument", "maker_rate_e8", "taker_rate_e8"},
    "rules.csv": {
        *("rule", "tier", "seq", "schedule", "version", "effective_ts_ns", "api_discount_e8"),
        *("min_units", "maker_rate_e8", "taker_rate_e8"),
    },
    "postings.csv": {"leg"},
}
"""Columns of which some values follow from nothing else: what the README says of an export of everything."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with something in every file, and no more: it is verified some hundred times."""
    folder = tmp_path_factory.mktemp("small")
    export(home_of(Market(4, 130), folder / "home"), folder / "archive", Scope(), parse_moment("45"))
    return folder / "archive"


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))])
def test_every_value_that_is_changed_is_found(seed: int, small: Path, tmp_path: Path) -> None:
    """With its hash in the manifest, whatever it is; without, whatever money and quantities hang on."""
    rng = random.Random(seed)
    folder = Path(shutil.copytree(small, tmp_path / "archive"))
    manifest = (folder / "manifest.json").read_bytes()
    columns = 0
    for path in sorted(folder.glob("*.csv")):
        whole = path.read_bytes()
        for rows, column, name in cells(path):
            row = rows[rng.randrange(1, len(rows))]
            row[column] = other_value(row[column], rng)
            write(path, rows)
            assert f"{path.name}: SHA-256" in problem_of(folder)
            if name not in ONLY_THE_MANIFEST.get(path.name, ()):
                set_right(folder, path.name)
                assert problem_of(folder), f"seed {seed}: {path.name}, {name} of {row}"
                columns += 1
            path.write_bytes(whole)
            (folder / "manifest.json").write_bytes(manifest)
    assert columns > 60
    assert problem_of(folder) == ""


def test_every_file_that_is_changed_missing_or_added_is_found(archives: dict[str, Path], tmp_path: Path) -> None:
    rng = random.Random(3)
    for path in archives["all"].iterdir():
        folder = Path(shutil.copytree(archives["all"], tmp_path / path.name))
        data = bytearray(path.read_bytes())
        if not data:
            continue
        if path.name != "manifest.json":
            data[rng.randrange(len(data))] ^= 1
            (folder / path.name).write_bytes(data)
            assert f"{path.name}: SHA-256" in problem_of(folder)
        (folder / path.name).unlink()
        assert problem_of(folder)
    (folder / "more.csv").write_text("x\n")
    assert "the list of files" in problem_of(folder) or "manifest.json" in problem_of(folder)


def test_row_that_was_taken_out_or_moved_is_found_though_the_manifest_fits(
    archives: dict[str, Path], tmp_path: Path
) -> None:
    rng = random.Random(4)
    folder = Path(shutil.copytree(archives["all"], tmp_path / "archive"))
    manifest = (folder / "manifest.json").read_bytes()
    for name in (
        "commands.csv",
        "orders.csv",
        "fills.csv",
        "money.csv",
        "postings.csv",
        "audit.log",
        "open_orders.csv",
    ):
        path = folder / name
        whole = path.read_bytes()
        first, *lines = whole.splitlines(keepends=True)
        if name == "audit.log":
            first, lines = b"", [first, *lines]
        # The last rows may be refusals that nothing else speaks of.
        at = rng.randrange(len(lines) // 2)
        for change in (lines[:at] + lines[at + 1 :], [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]):
            if name == "open_orders.csv" and len(change) == len(lines):
                continue
            path.write_bytes(first + b"".join(change))
            set_right(folder, name)
            assert problem_of(folder), f"{name}, row {at}"
            path.write_bytes(whole)
            (folder / "manifest.json").write_bytes(manifest)


def test_record_of_the_trail_that_was_changed_is_found_though_all_its_hashes_fit(
    archives: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(archives["all"], tmp_path / "archive"))
    path = folder / "audit.log"
    stated = json.loads((folder / "manifest.json").read_bytes())
    records = [json.loads(line[65:]) for line in path.read_text().splitlines()]
    at = next(k for k, record in enumerate(records) if record["type"] == "DEPOSIT" and record["outcome"]["accepted"])
    for name, value in (("who", "mallory"), ("why", "none"), ("type", "ADJUST"), ("seq", records[at]["seq"] + 1)):
        spoiled = [dict(record) for record in records]
        spoiled[at][name] = value
        before, lines = bytes.fromhex(stated["audit"]["hash_before"]), []
        for record in spoiled:
            text = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
            digest = hashlib.sha256
            before = digest(before + digest(text).digest()).digest()
            lines.append(before.hex().encode() + b" " + text + b"\n")
        path.write_bytes(b"".join(lines))
        again = json.loads(json.dumps(stated))
        again["audit"]["hash_after"] = before.hex()
        (folder / "manifest.json").write_text(json.dumps(again))
        set_right(folder, "audit.log")
        assert problem_of(folder), name
