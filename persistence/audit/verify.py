"""Compares the stored chain with the records that the journal regenerates, and says of each difference where it is and what differs.

Each record is proved three times: by its hash behind the record before, by the command and outcomes of the journal, and, where an earlier
head was written down elsewhere, by that. So a record that was changed, removed, inserted or moved is found also when every hash
behind it was computed anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from persistence.audit import past
from persistence.audit.chain import FOLDER, Entry, Head, canonical, chained, empty_head, file_names
from persistence.audit.records import Record, audit_records, audited_heads
from persistence.audit.stored import Stored, stored_lines
from persistence.audit.trail import Position, read_position
from persistence.durable import durable_seq, running_durable_seq

FINDINGS_MAX: Final = 100
"""More are counted, not told."""


class Finding(NamedTuple):
    """One difference."""

    kind: str
    """``changed``, ``missing``, ``inserted``, ``reordered``, ``broken`` (the chain itself), ``truncated``, ``head``."""
    number: int
    """Of the record, where it is known, else 0."""
    seq: int
    text: str


def regenerated(home: Path, last_seq: int, first_seq: int = 1) -> Iterator[Record]:
    """The records that the journal of a home gives from command slot ``first_seq`` up to ``last_seq``."""
    if last_seq < first_seq:
        return
    engine, batches = past.open_at(home, first_seq, last_seq)
    for slots in batches:
        if len(audited_heads(slots)):
            yield from audit_records(slots, past.outcomes_of(engine, slots), engine.risk)
        else:
            engine.feed(slots)


def verify(home: Path, head: str = "") -> dict[str, Any]:
    """Compare; the facts and the findings.

    ``head`` is a hash (hexadecimal, or its beginning of 16 digits or more) that the chain had at an earlier time. Raises JournalError
    where the journal is damaged, FileNotFoundError where there is none.
    """
    started = time.perf_counter()
    running = running_durable_seq(home) is not None
    last_seq = durable_seq(home)
    journal_id = past.journal_id_of(home)
    first_seq = past.first_executable(home)
    check = _Comparison(read_position(home / FOLDER), empty_head(journal_id), head.lower(), first_seq)
    expected = _Ahead(regenerated(home, last_seq, first_seq))
    stored = _Ahead(check.entries(stored_lines(home, journal_id, running=running), last_seq if running else None))
    check.compare(expected, stored)
    if running and check.newer_seq > durable_seq(home):
        check.find("inserted", 0, check.newer_seq, "a record of a command that the journal does not have")
    check.end()
    return {
        "ok": not check.findings,
        "problems": [finding.text for finding in check.findings],
        "findings": [finding._asdict() for finding in check.findings],
        "differences": check.differences,
        "journal_id": journal_id.hex(),
        "first_seq": first_seq,
        "last_seq": last_seq,
        "records": check.stored,
        "pending": check.pending,
        "files": len(file_names(home / FOLDER)),
        "head": check.head.as_dict(),
        "head_given": check.given_at.as_dict() if check.given_at else None,
        "seconds": round(time.perf_counter() - started, 3),
    }


class _Ahead:
    """An iterator that can be looked into."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._buffer: list[Any] = []

    def peek(self, place: int = 0) -> Any:
        """The next item but ``place``, or None."""
        while len(self._buffer) <= place:
            item = next(self._items, None)
            if item is None:
                return None
            self._buffer.append(item)
        return self._buffer[place]

    def take(self) -> Any:
        """The next item; there is one."""
        item = self.peek()
        self._buffer.pop(0)
        return item


class _Comparison:
    """Walks both chains and collects what differs. Records are known by the seq of their commands."""

    def __init__(self, position: Position, start: Head, given: str, first_seq: int) -> None:
        self.position = position
        self.first_seq = first_seq
        """Records of earlier commands, which another version executed, are proved by the chain alone."""
        self.head = start
        """Of the regenerated chain."""
        self.given = given
        self.given_at: Head | None = None
        self._given_stored = False
        self.findings: list[Finding] = []
        self.differences = 0
        self.stored = 0
        self.pending = 0
        self.newer_seq = 0
        self._missing: dict[int, int] = {}
        self._extra: dict[int, tuple[int, str]] = {}

    def find(self, kind: str, number: int, seq: int, text: str) -> None:
        """Note a difference."""
        self.differences += 1
        if len(self.findings) < FINDINGS_MAX:
            named = f"record {number} (command {seq}): " if number else (f"command {seq}: " if seq else "")
            self.findings.append(Finding(kind, number, seq, named + text))

    def entries(self, lines: Iterator[Stored], last_seq: int | None) -> Iterator[tuple[Entry, str, str]]:
        """Stored entries that can be compared: (entry, what is wrong with its link, place)."""
        for entry, problem, place in lines:
            if entry is None:
                self.find("broken", 0, 0, f"{place}: {problem}")
                continue
            self.stored += 1
            self._given_stored |= self._is_given(entry.hash)
            if entry.record["seq"] < self.first_seq:
                self.head = Head(entry.record["number"], entry.record["seq"], entry.hash)
                if self._is_given(entry.hash):
                    self.given_at = self.head
                if problem:
                    self.find("broken", self.head.number, self.head.seq, f"{problem} ({place})")
                continue
            if last_seq is not None and entry.record["seq"] > last_seq:
                # Written since the journal was looked at.
                self.newer_seq = max(self.newer_seq, entry.record["seq"])
                if problem:
                    self.find("broken", entry.record["number"], entry.record["seq"], f"{problem} ({place})")
                continue
            yield entry, problem, place

    def compare(self, expected: _Ahead, stored: _Ahead) -> None:
        """Walk to the end of both."""
        while (wanted := expected.peek()) is not None or stored.peek() is not None:
            found = stored.peek()
            if found is None:
                self._absent(expected.take(), at_end=True)
            elif wanted is None:
                self._surplus(*stored.take())
            elif found[0].record["seq"] == wanted["seq"]:
                self._pair(expected.take(), *stored.take())
            else:
                following = stored.peek(1)
                inserted = following is not None and following[0].record["seq"] == wanted["seq"]
                if inserted or found[0].record["seq"] < wanted["seq"]:
                    self._surplus(*stored.take())
                else:
                    self._absent(expected.take(), at_end=False)

    def _expect(self, record: Record) -> bytes:
        """Go on in the regenerated chain; canonical bytes of the record as it should stand there."""
        self.head, _ = chained(self.head, record)
        if self._is_given(self.head.hash):
            self.given_at = self.head
        return canonical({"number": self.head.number, **record})

    def _pair(self, record: Record, entry: Entry, problem: str, place: str) -> None:
        wanted = self._expect(record)
        number, seq = self.head.number, record["seq"]
        differences = _differences({"number": number, **record}, entry.record) if wanted != entry.data else []
        if differences:
            self.find("changed", number, seq, f"{'; '.join(differences)} ({place})")
        elif problem:
            self.find("broken", number, seq, f"{problem} ({place})")

    def _absent(self, record: Record, *, at_end: bool) -> None:
        before = self.head
        self._expect(record)
        number, seq = self.head.number, record["seq"]
        if seq in self._extra:
            self._moved(number, seq, self._extra.pop(seq)[1])
        elif at_end and number > self.position.number and seq > self.position.passed:
            # The replica has not come so far.
            self.pending += 1
            self.head = before
        else:
            self._missing[seq] = number
            kind, where = ("truncated", "missing at the end of the chain") if at_end else ("missing", "missing")
            self.find(kind, number, seq, f"{record['type']} by {record['who'] or record['source']} is {where}")

    def _surplus(self, entry: Entry, problem: str, place: str) -> None:
        number, seq = entry.record["number"], entry.record["seq"]
        if seq in self._missing:
            self._missing.pop(seq)
            self._moved(number, seq, place)
            return
        self._extra[seq] = (number, place)
        text = (
            f"{entry.record.get('type')} by {entry.record.get('who')} was inserted: the journal has no such record here"
        )
        self.find("inserted", number, seq, f"{text}{'; ' + problem if problem else ''} ({place})")

    def _moved(self, number: int, seq: int, place: str) -> None:
        """What was told as missing or inserted stands at another place."""
        self.findings = [f for f in self.findings if not (f.seq == seq and f.kind in ("missing", "inserted"))]
        self.differences -= 1
        self.find("reordered", number, seq, f"the record stands at another place than its command ({place})")

    def _is_given(self, digest: bytes) -> bool:
        return bool(self.given) and digest.hex().startswith(self.given)

    def end(self) -> None:
        """Judge the head that was given."""
        if not self.given:
            return
        if self.given_at is None:
            self.find(
                "head",
                0,
                0,
                f"the head given, {self.given}, is in no record that the journal gives: it is of another history",
            )
        elif not self._given_stored:
            n, seq = self.given_at.number, self.given_at.seq
            self.find(
                "head", n, seq, "the stored chain does not have the head given: it was cut or changed at or before it"
            )


def _differences(wanted: Record, found: Record) -> list[str]:
    """Names of the fields that differ, with both values."""
    one, other = _flat(wanted), _flat(found)
    return [
        f"{name} is {_shown(other, name)}, the journal gives {_shown(one, name)}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _shown(record: dict[str, Any], name: str) -> str:
    return repr(record[name]) if name in record else "absent"
