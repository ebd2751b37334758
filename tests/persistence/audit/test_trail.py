"""The stored chain: written once whatever crashes, and every change of it is found and named."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from persistence.audit import past
from persistence.audit.chain import FOLDER, POSITION_FILE, AuditDamaged, chained, empty_head, file_names, header_line
from persistence.audit.records import audit_records, audited_heads
from persistence.audit.trail import CONSUMER, AuditTrail, open_trail, write_up_to
from persistence.audit.verify import regenerated, verify
from persistence.consumers import positions
from protocol import build
from protocol import enums as e
from protocol.records import EXT_ADMIN_SLOT
from tests.engine.operators import GATEWAY, Market
from tests.persistence.audit.homes import append, fresh_engine, home_of

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def market() -> Market:
    """A random market, with an operator's cancel-all, a client's, and an order that an operator entered."""
    market = Market(4, 420)
    market.office(signed(build.cancel_all(account=1), "desk", "customer asked"))
    market.send(build.cancel_all(account=2), GATEWAY)
    market.office(
        signed(build.limit(account=1, instrument=1, side=e.BUY, price_ticks=300, qty_lots=1), "desk", "by phone")
    )
    market.office(build.deposit(1, 1, 12_345_678, "desk \N{EURO SIGN}", 'wire "4711"\\'))
    return market


def signed(group: np.ndarray, operator: str, reason: str) -> np.ndarray:
    group = np.concatenate([group, build.admin_slot(operator, reason)])
    group["flags"][:-1] |= np.uint32(e.FLAG_MORE)
    return group


@pytest.fixture(scope="module")
def written(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose chain is complete, in files of some 4 KiB."""
    home = home_of(market, tmp_path_factory.mktemp("audit") / "home")
    trail = trail_of(home)
    write_up_to(trail, home, market.next_seq - 1)
    trail.close()
    assert len(file_names(home / FOLDER)) > 5
    return home


@pytest.fixture
def home(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(written, tmp_path / "home"))


def trail_of(home: Path) -> AuditTrail:
    return AuditTrail(home, past.journal_id_of(home), file_bytes=4096)


def chain_bytes(home: Path) -> dict[str, bytes]:
    return {name: (home / FOLDER / name).read_bytes() for name in file_names(home / FOLDER)}


# --- records ---------------------------------------------------------------------------------------------------------------------


def test_records_are_all_operators_commands_and_nobody_elses(market: Market, written: Path) -> None:
    records = list(regenerated(written, market.next_seq - 1))
    admin = {*range(e.DEPOSIT, e.ADJUST + 1), *range(e.SET_FEES, e.SET_LIMITS + 1), e.KILL, e.REVIVE}
    admin |= {e.TRANSFER, e.SET_STATE}
    expected = [int(g["seq"][0]) for g in market.groups if int(g["type"][0]) in admin or e.EXT_ADMIN in g["type"][1:]]
    assert expected == [record["seq"] for record in records]
    told = {record["seq"]: record for record in records}
    for group, outcomes in zip(market.groups, market.expected, strict=True):
        record = told.get(int(group["seq"][0]))
        if record is None:
            continue
        refused = outcomes["kind"][0] == e.OUT_REJECTED
        assert refused != record["outcome"]["accepted"]
        admin_slots = group[1:][group["type"][1:] == e.EXT_ADMIN].view(EXT_ADMIN_SLOT.slot_dtype)
        if len(admin_slots):
            assert admin_slots["operator"][-1].decode() == record["who"]
            assert admin_slots["reason"][-1].decode() == record["why"]


def test_records_say_who_why_what_and_how_it_ended(market: Market, written: Path) -> None:
    deposit = list(regenerated(written, market.next_seq - 1))[-1]
    group = market.groups[-1]
    free = int(market.expected[-1]["free_units"][0])
    locked = int(market.expected[-1]["locked_units"][0])
    assert {
        "seq": int(group["seq"][0]),
        "ts_ns": int(group["ts_ns"][0]),
        "type": "DEPOSIT",
        "source": "control",
        "source_seq": int(group["source_seq"][0]),
        "who": "desk \N{EURO SIGN}",
        "why": 'wire "4711"\\',
        "what": {"account": 1, "asset": 1, "symbol": "A1", "amount_units": 12_345_678, "amount": "12.345678"},
        "outcome": {
            "accepted": True,
            "asset": 1,
            "symbol": "A1",
            "amount_units": 12_345_678,
            "amount": "12.345678",
            "free_units": free,
            "locked_units": locked,
        },
    } == deposit


def test_halt_of_a_breaker_names_its_cause(market: Market, written: Path) -> None:
    halts = [r for r in regenerated(written, market.next_seq - 1) if r["type"] == "HALT" and r["source"] == "risk"]
    assert halts
    assert {("risk", "circuit breaker")} == {(record["who"], record["why"]) for record in halts}
    assert all(record["what"]["cause_seq"] < record["seq"] for record in halts)


def test_records_do_not_depend_on_how_the_history_is_cut(market: Market, written: Path) -> None:
    engine = fresh_engine(written)
    parts = []
    for group in market.groups:
        outcomes = past.outcomes_of(engine, group)
        parts += list(audit_records(group, outcomes, engine.risk))
    assert list(regenerated(written, market.next_seq - 1)) == parts


# --- the files -------------------------------------------------------------------------------------------------------------------


def test_chain_is_what_its_description_says(market: Market, written: Path) -> None:
    """Computed here from the description, not from the code."""
    import hashlib

    journal_id = past.journal_id_of(written)
    before = hashlib.sha256(b"cambist audit 1 " + journal_id.hex().encode()).digest()
    number = 0
    for name, data in chain_bytes(written).items():
        header, *lines = data.decode("ascii").splitlines()
        assert f"cambist-audit 1 {journal_id.hex()} {number + 1} {before.hex()}" == header
        assert f"{number + 1:012}.log" == name
        for line in lines:
            digest, record = line[:64], line[65:]
            number += 1
            before = hashlib.sha256(before + hashlib.sha256(record.encode()).digest()).digest()
            assert (before.hex(), number) == (digest, json.loads(record)["number"])
    assert number == sum(1 for _ in regenerated(written, market.next_seq - 1))


def test_whole_chain_is_found_sound_and_its_head_in_it(written: Path) -> None:
    found = verify(written)
    assert ([], True, 0) == (found["problems"], found["ok"], found["pending"])
    middle = chain_bytes(written)["000000000001.log"].split(b"\n")[1][:64].decode()
    again = verify(written, middle)
    assert (True, 1) == (again["ok"], again["head_given"]["number"])


def test_trail_goes_on_behind_itself_across_restarts_and_epochs(market: Market, tmp_path: Path) -> None:
    """Fed by engines that begin anew each time, as replicas do, and closed or not."""
    rng = random.Random(1)
    home = home_of(market, tmp_path / "home")
    reached = 0
    while reached < market.next_seq - 1:
        engine = fresh_engine(home)
        trail = trail_of(home)
        reached = min(market.next_seq - 1, reached + rng.randrange(1, 400))
        for slots in past.open_at(home, 1, reached)[1]:
            trail.feed(engine, slots)
        if rng.random() < 0.5:
            trail.close()
        if rng.random() < 0.2:
            (home / FOLDER / POSITION_FILE).unlink(missing_ok=True)
    assert verify(home)["ok"]


def test_replica_that_begins_later_than_the_trail_writes_what_lies_between(market: Market, tmp_path: Path) -> None:
    home = home_of(market, tmp_path / "home")
    engine, rest = past.open_at(home, market.next_seq // 2, market.next_seq - 1)
    trail = open_trail(home, engine)
    assert trail is not None
    for slots in rest:
        trail.feed(engine, slots)
    trail.close()
    assert (True, 0) == (verify(home)["ok"], verify(home)["pending"])


def test_position_is_kept_when_all_is_quiet(market: Market, tmp_path: Path) -> None:
    """What is retained for the trail is not held back by a history that has no records any more."""
    home = home_of(market, tmp_path / "home")
    now_ns = 0
    trail = AuditTrail(home, past.journal_id_of(home), clock_ns=lambda: now_ns)
    write_up_to(trail, home, market.next_seq - 1)
    more = Market(4, 420)
    more.groups.clear()
    more.next_seq, more.next_number = market.next_seq, dict(market.next_number)
    Market.checkpoint(more)
    append(home, more.groups, epoch=2)
    engine, rest = past.open_at(home, market.next_seq, more.next_seq - 1)
    for slots in rest:
        trail.feed(engine, slots)
    trail.keep_when_quiet()
    assert {CONSUMER: market.next_seq - 1} == positions(home)
    now_ns = 3_000_000_000
    trail.keep_when_quiet()
    assert {CONSUMER: more.next_seq - 1} == positions(home)
    (home / "consumers" / f"{CONSUMER}.json").unlink()
    now_ns = 9_000_000_000
    trail.keep_when_quiet()
    assert {} == positions(home), "what is kept is not written again"
    trail.close()


def test_record_not_yet_written_is_pending_and_no_fault(market: Market, home: Path) -> None:
    more = Market(4, 420)
    more.groups.clear()
    more.next_seq, more.next_number = market.next_seq, dict(market.next_number)
    more.office(build.halt(1, "desk", "news"))
    append(home, more.groups, epoch=2)
    found = verify(home)
    assert (True, 1) == (found["ok"], found["pending"])


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.long)], ids=["sampled", "each"])
def test_tail_cut_at_every_byte_is_written_again(market: Market, home: Path, every: int) -> None:
    """A crash in the middle of the last write: whatever part of it is on disk, the chain becomes the same again."""
    whole = chain_bytes(home)
    name = list(whole)[-1]
    path = home / FOLDER / name
    lines = whole[name].splitlines(keepends=True)
    sure = json.loads(lines[-3][65:])
    kept = len(b"".join(lines[:-2]))
    passed = sure["seq"] + 1
    position = {"number": sure["number"], "seq": sure["seq"], "hash": lines[-3][:64].decode(), "passed": passed}
    engine, batches = past.open_at(home, passed + 1, market.next_seq - 1)
    slots = np.concatenate(list(batches))
    outcomes = past.outcomes_of(engine, slots)
    assert len(audited_heads(slots)) == 2
    rng = random.Random(2)
    ends = {kept + k for k in (0, 1, len(lines[-2]) - 1, len(lines[-2]), len(lines[-2]) + 1)}
    for size in sorted({*range(kept, len(whole[name]), every), *ends, len(whole[name]) - 1, len(whole[name])}):
        path.write_bytes(whole[name][:size] + rng.choice((b"", b"\0" * 7, b"garbage\n" * 9)))
        (home / FOLDER / POSITION_FILE).write_text(json.dumps(position))
        trail = trail_of(home)
        trail.follow(slots, outcomes, engine.risk)
        assert whole[name] == path.read_bytes(), f"cut at {size}"
        trail.close()


def test_file_whose_first_line_is_torn_is_begun_again(market: Market, home: Path) -> None:
    whole = chain_bytes(home)
    *_, before, name = whole
    first = int(name.removesuffix(".log"))
    last = whole[before].splitlines()[-1]
    record = json.loads(last[65:])
    position = {"number": first - 1, "seq": record["seq"], "hash": last[:64].decode(), "passed": record["seq"] + 1}
    for size in (0, 1, 30, whole[name].index(b"\n")):
        (home / FOLDER / name).write_bytes(whole[name][:size])
        (home / FOLDER / POSITION_FILE).write_text(json.dumps(position))
        trail = trail_of(home)
        write_up_to(trail, home, market.next_seq - 1)
        trail.close()
        assert whole == chain_bytes(home)


# --- damage ----------------------------------------------------------------------------------------------------------------------


def kinds(home: Path, head: str = "") -> list[tuple[str, int]]:
    found = verify(home, head)
    assert found["ok"] == (not found["findings"])
    return [(finding["kind"], finding["number"]) for finding in found["findings"]]


def edit(home: Path, number: int, change) -> None:
    """Give the lines of the file with record ``number`` to ``change(lines, place)``, and write what comes back."""
    for name in reversed(file_names(home / FOLDER)):
        if int(name.removesuffix(".log")) <= number:
            path = home / FOLDER / name
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(change(lines, number - int(name.removesuffix(".log")) + 1)))
            return


def rechained(home: Path, records: list[dict]) -> None:
    """What somebody does who knows the rules: one file with new numbers and hashes, and the position to match."""
    shutil.rmtree(home / FOLDER)
    (home / FOLDER).mkdir()
    head = empty_head(past.journal_id_of(home))
    lines = [header_line(past.journal_id_of(home), head)]
    for record in records:
        head, line = chained(head, {name: value for name, value in record.items() if name != "number"})
        lines.append(line)
    (home / FOLDER / "000000000001.log").write_bytes(b"".join(lines))
    position = {"number": head.number, "seq": head.seq, "hash": head.hash.hex(), "passed": 1 << 40}
    (home / FOLDER / POSITION_FILE).write_text(json.dumps(position))


def records_of(home: Path) -> list[dict]:
    return [json.loads(line[65:]) for data in chain_bytes(home).values() for line in data.splitlines()[1:]]


@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.long)], ids=["sampled", "many"])
def test_every_changed_byte_of_a_record_is_found_and_named(home: Path, count: int) -> None:
    number = 7
    rng = random.Random(3)
    whole = chain_bytes(home)
    first = whole["000000000001.log"].splitlines(keepends=True)
    assert len(first) > number
    for at in rng.sample(range(len(first[number]) - 1), count):

        def flip(lines: list[bytes], place: int, at: int = at) -> list[bytes]:
            line = bytearray(lines[place])
            line[at] ^= 1
            return [*lines[:place], bytes(line), *lines[place + 1 :]]

        edit(home, number, flip)
        found = verify(home)
        assert not found["ok"], f"byte {at}"
        assert any(f["number"] in (number, number + 1) or ":8:" in f["text"] for f in found["findings"]), found[
            "problems"
        ]
        (home / FOLDER / "000000000001.log").write_bytes(whole["000000000001.log"])


def test_record_that_was_taken_out_put_in_or_moved_is_named(home: Path, written: Path, tmp_path: Path) -> None:
    cases = {
        "out": (lambda lines, k: [*lines[:k], *lines[k + 1 :]], [("missing", 6), ("broken", 7)]),
        "in": (lambda lines, k: [*lines[:k], lines[k - 3], *lines[k:]], [("inserted", 3), ("broken", 6)]),
        "swapped": (
            lambda lines, k: [*lines[:k], lines[k + 1], lines[k], *lines[k + 2 :]],
            [("reordered", 7), ("broken", 6), ("broken", 8)],
        ),
    }
    for name, (change, expected) in cases.items():
        copy = Path(shutil.copytree(written, tmp_path / name))
        edit(copy, 6, change)
        assert sorted(expected) == sorted(kinds(copy)), name


def test_chain_whose_hashes_were_all_computed_anew_differs_from_the_journal(home: Path) -> None:
    records = records_of(home)
    at = next(k for k, record in enumerate(records) if record["type"] == "DEPOSIT")
    head = chain_bytes(home)["000000000001.log"].split(b"\n")[-2][:64].decode()

    changed = [json.loads(json.dumps(record)) for record in records]
    changed[at]["what"]["amount_units"] += 1
    rechained(home, changed)
    found = verify(home)
    assert [("changed", at + 1)] == [(f["kind"], f["number"]) for f in found["findings"]]
    assert "what.amount_units is" in found["problems"][0]
    assert ("head", 0) in [(kind, 0) for kind, _ in kinds(home, head)]

    rechained(home, [*records[:at], *records[at + 1 :]])
    assert ("missing", at + 1) in kinds(home)
    rechained(home, [*records[:at], records[at] | {"seq": records[at]["seq"] + 1, "who": "mallory"}, *records[at:]])
    assert "inserted" in [kind for kind, _ in kinds(home)]
    rechained(home, [*records[:-4], records[-3], records[-4], *records[-2:]])
    assert "reordered" in [kind for kind, _ in kinds(home)]
    rechained(home, records)
    assert verify(home, head)["ok"]


def test_end_that_was_cut_off_is_found_by_the_journal_and_by_an_earlier_head(home: Path) -> None:
    records = records_of(home)
    head = chain_bytes(home).popitem()[1].splitlines()[-1][:64].decode()
    edit(home, len(records), lambda lines, place: lines[:place])
    assert [("truncated", len(records))] == kinds(home)
    (home / FOLDER / POSITION_FILE).unlink()
    assert [] == kinds(home), "without the position it may not have been written yet"
    assert [("head", len(records))] == kinds(home, head)
    rechained(home, records[:-2])
    assert [("truncated", len(records) - 1), ("truncated", len(records))] == kinds(home)
    shutil.rmtree(home / FOLDER)
    assert 0 == verify(home)["records"]


def test_trail_does_not_go_on_behind_damage(home: Path, market: Market, capsys: pytest.CaptureFixture[str]) -> None:
    engine = past.open_at(home, market.next_seq - 1, market.next_seq - 1)[0]
    last = len(records_of(home))
    whole = chain_bytes(home)
    for change in (
        lambda lines, place: lines[:place],
        lambda lines, place: [*lines[:place], lines[place].replace(b"desk", b"desc")],
    ):
        edit(home, last, change)
        with pytest.raises(AuditDamaged, match=f"(ends with record {last - 1}|record {last} was changed)"):
            trail_of(home)
        assert open_trail(home, engine) is None
        assert "no records are written" in capsys.readouterr().err
        for name, data in whole.items():
            (home / FOLDER / name).write_bytes(data)
    trail_of(home).close()


def test_records_of_another_version_are_proved_by_the_chain_alone(
    home: Path, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As though the first half had been written by other rules: a state of that place stands in for the converted snapshot."""
    records = records_of(home)
    half = int(market.groups[200]["seq"][0])
    at = next(k for k, record in enumerate(records) if record["seq"] >= half)
    engine = past.open_at(home, half, market.next_seq - 1)[0]
    open_at = past.open_at
    monkeypatch.setattr(past, "first_executable", lambda _home: half)
    monkeypatch.setattr(
        past, "open_at", lambda home, first, last: (engine, open_at(home, half, last)[1]) if first == half else None
    )
    found = verify(home, chain_bytes(home)["000000000001.log"].splitlines()[2][:64].decode())
    assert (True, half, 2) == (found["ok"], found["first_seq"], found["head_given"]["number"])
    engine = open_at(home, half, market.next_seq - 1)[0]
    edit(
        home, at - 1, lambda lines, place: [*lines[:place], lines[place].replace(b"test", b"tost"), *lines[place + 1 :]]
    )
    assert ("broken", at - 1) in kinds(home)
