"""The report stream of the public benchmark, for commands that are few enough to write their reports by hand."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bench import flash1
from protocol.enums import BUY, SELL

NEW, CANCEL, MODIFY = flash1.NEW, flash1.CANCEL, flash1.MODIFY

# type, side, ioc, quantity, order, price; and what a right book reports: of kind 0 (entered), 1 (fill: price, quantity, maker, taker),
# 2 (gone), 3 (modified), 4 and 5 (cancel, modify of an order that is not there).
CASE = (
    ((NEW, SELL, 0, 5, 10, 100), ["0,1,1,10,100,5"]),
    ((NEW, SELL, 0, 5, 11, 101), ["0,2,1,11,101,5"]),
    ((NEW, BUY, 0, 7, 12, 101), ["0,3,0,12,101,7", "1,3,100,5,10,12", "1,3,101,2,11,12"]),
    # Four are to be left of an order that has traded two.
    ((MODIFY, 0, 0, 4, 11, 102), ["3,4,1,11,102,4"]),
    ((NEW, BUY, 1, 6, 13, 102), ["0,5,0,13,102,6", "1,5,102,4,11,13", "2,5,0,13,102"]),
    ((CANCEL, 0, 0, 0, 11, 0), ["4,6,11"]),
    ((MODIFY, 0, 0, 1, 11, 103), ["5,7,11"]),
    ((NEW, SELL, 0, 2, 14, 105), ["0,8,1,14,105,2"]),
    ((NEW, BUY, 0, 3, 15, 99), ["0,9,0,15,99,3"]),
    ((MODIFY, 0, 0, 5, 15, 105), ["1,10,105,2,14,15", "3,10,0,15,105,5"]),
    # Three are left, and a smaller rest at the same price is a modify too.
    ((MODIFY, 0, 0, 2, 15, 105), ["3,11,0,15,105,2"]),
    ((NEW, SELL, 0, 1, 16, 105), ["0,12,1,16,105,1", "1,12,105,1,15,16"]),
    ((CANCEL, 0, 0, 0, 15, 0), ["2,13,0,15,105"]),
    ((NEW, SELL, 1, 1, 17, 105), ["0,14,1,17,105,1", "2,14,1,17,105"]),
)
REPORT = "\n".join(line for _, lines in CASE for line in lines)


@pytest.fixture
def records() -> np.ndarray:
    made = np.zeros(len(CASE), dtype=flash1.RECORD)
    made["seq"] = np.arange(1, 1 + len(CASE))
    for at, name in enumerate(("type", "side", "ioc", "qty", "order_id", "price")):
        made[name] = [command[at] for command, _ in CASE]
    return made


def test_report_is_what_the_rules_of_the_benchmark_say(records: np.ndarray) -> None:
    found, traded = flash1.settled(records)
    assert REPORT.splitlines() == flash1.report(records, found).splitlines()
    assert [0, 0, 0, 2, 0, 0, 6, 0, 0, 0, 2, 0, 0, 0] == traded.tolist()


def folder_of(place: Path, records: np.ndarray, published: str) -> Path:
    """What a clone of the benchmark has, as far as it is used: a generator, and the hashes."""
    (place / "orders.bin").write_bytes(bytes(16) + records.tobytes())
    generator = place / "generator"
    generator.write_text(f'#!/bin/sh\n[ "$1 $3 $4" = "static 14 23" ] && cp "{place}/orders.bin" "$2"\n')
    generator.chmod(0o700)
    (place / "reference").mkdir()
    (place / "reference" / "correctness_hash.txt").write_text(f"{published}  static_seed23_count14_reports.txt\n")
    return place


@pytest.mark.parametrize("right", [True, False])
def test_hash_is_compared_with_the_published_one(
    records: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    right: bool,
) -> None:
    actual = hashlib.sha256(REPORT.encode()).hexdigest()
    folder = folder_of(tmp_path, records, actual if right else "0" * 64)
    monkeypatch.setattr("sys.argv", ["flash1.py", str(folder), "static", "--count", "14"])
    assert (0 if right else 1) == flash1.main()
    told = capsys.readouterr().out
    assert told.startswith(f"static: 14 commands, 5 fills, {actual}: {'as published' if right else 'NOT 000'}")
