"""The stored chain as it lies in its files, checked line by line: entries, and what is wrong with each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from persistence.audit.chain import (
    FOLDER,
    Entry,
    Head,
    empty_head,
    file_names,
    link,
    parse_entry,
    parse_header,
    read_lines,
)


class Stored(NamedTuple):
    """One line: an entry and what does not fit the chain, or the words for a line that is none."""

    entry: Entry | None
    problem: str
    """Empty where the line is as it was written."""
    place: str
    """File and line."""


def stored_lines(home: Path, journal_id: bytes, *, running: bool = False) -> Iterator[Stored]:
    """Every line of the chain files of a home, in order, and one row for each file whose first line does not fit.

    With ``running`` a last line without its end is taken as one that is being written.
    """
    folder = home / FOLDER
    names = file_names(folder)
    head = empty_head(journal_id)
    for name in names:
        path = folder / name
        lines = read_lines(path)
        header = parse_header(next(lines, b""))
        wanted = (journal_id, head.number + 1, head.hash)
        if header is None:
            yield Stored(None, "the first line is not that of a chain file", f"{FOLDER}/{name}:1")
        elif header != wanted:
            yield Stored(None, _header_problem(header, wanted), f"{FOLDER}/{name}:1")
            head = Head(header.first_number - 1, head.seq, header.hash_before)
        for number, line in enumerate(lines, 2):
            if running and name == names[-1] and not line.endswith(b"\n"):
                return
            stored, head = _line(line, name, number, head)
            yield stored


def _line(line: bytes, name: str, number: int, head: Head) -> tuple[Stored, Head]:
    """A line behind ``head``, and the head behind it: what it states, so that one change is told once."""
    place = f"{FOLDER}/{name}:{number}"
    entry = parse_entry(line, name, number)
    if isinstance(entry, str):
        return Stored(None, entry, place), head
    stated = Head(entry.record["number"], entry.record["seq"], entry.hash)
    problem = ""
    if link(head.hash, entry.data) != entry.hash:
        problem = f"its hash is not that of its content behind record {head.number}"
    elif stated.number != head.number + 1:
        problem = f"it stands behind record {head.number}"
    elif stated.seq <= head.seq:
        problem = f"its command is not behind command {head.seq} of the record before"
    return Stored(entry, problem, place), stated


def _header_problem(header: Any, wanted: tuple[bytes, int, bytes]) -> str:
    if header.journal_id != wanted[0]:
        return f"the file belongs to journal {header.journal_id.hex()}, this home's is {wanted[0].hex()}"
    if header.first_number != wanted[1]:
        return f"the file begins with record {header.first_number}, but record {wanted[1]} comes next"
    return f"the file does not follow record {wanted[1] - 1}: it states another hash before it"


def stored_head(home: Path) -> Head | None:
    """The newest whole entry of the stored chain, as it stands there; None where there is none."""
    folder = home / FOLDER
    for name in reversed(file_names(folder)):
        newest = None
        for number, line in enumerate(read_lines(folder / name), 1):
            if number > 1 and line.endswith(b"\n"):
                newest = (line, number)
        if newest is not None:
            entry = parse_entry(newest[0], name, newest[1])
            if isinstance(entry, Entry):
                return Head(entry.record["number"], entry.record["seq"], entry.hash)
    return None
