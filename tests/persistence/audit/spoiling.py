"""Spoils an export as an attacker would: one value changed, and where wanted the hash of its file in the manifest set right."""

import csv
import hashlib
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

from persistence.audit import verify_export


def problem_of(folder: Path, manifest: str = "") -> str:
    """What the verifier says of an archive; empty where it finds nothing."""
    try:
        stated = verify_export.check_files(folder, manifest)
        verify_export.Ledger(folder, stated).walk()
    except (verify_export.Problem, OSError, ValueError, KeyError, IndexError, TypeError) as problem:
        return f"{type(problem).__name__}: {problem}"
    return ""


def other_value(text: str, rng: random.Random) -> str:
    """A value of the same form that is another one."""
    body = text.removeprefix("-")
    if body.isdigit():
        return str(int(text) + rng.choice((1, 1, -1, 7, 1000)))
    names = (
        ("BUY", "SELL"),
        ("free", "locked"),
        ("TAKER", "MAKER"),
        ("opening", "closing"),
        ("GTC", "IOC"),
        ("LIMIT", "AMEND"),
    )
    for pair in names:
        if text in pair:
            return pair[1 - pair.index(text)]
    return text[:-1] if text else "x"


def cells(path: Path) -> Iterator[tuple[list[list[str]], int, str]]:
    """Every column of a CSV file, with its rows: (rows, number of the column, its name)."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    for column, name in enumerate(rows[0] if len(rows) > 1 else []):
        yield rows, column, name


def write(path: Path, rows: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    path.write_text(out.getvalue(), encoding="utf-8", newline="")


def set_right(folder: Path, name: str) -> None:
    """Put hash and size of a file into the manifest."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    data = (folder / name).read_bytes()
    rows = sum(1 for _ in verify_export.table(folder, name)) if name.endswith(".csv") else data.count(b"\n")
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "rows": rows, "bytes": len(data)}
    path.write_text(json.dumps(manifest, indent=2) + "\n")
