r"""The hash chain: how an audit record becomes bytes, how entries are linked, and the files that they lie in.

**Canonical bytes of a record**: its JSON object in ASCII, the keys of every object in ascending order of code points, no
blanks, numbers as decimal integers. In texts ``\"``, ``\\``, ``\b``, ``\f``, ``\n``, ``\r``, ``\t`` are written so, and whatever
else is below U+0020 or above U+007E as ``\u`` with four lower-case hexadecimal digits (a surrogate pair above U+FFFF). That
is ``json.dumps(record, sort_keys=True, separators=(",", ":"))`` of Python. One of the keys is the record's ``number``: 1, 2,
3, …

**Links**: hash n = SHA-256 over hash n-1 (32 bytes) followed by the SHA-256 of the canonical bytes of record n (32 bytes).
So a record that must not be shown can be replaced by its own hash, and the chain can still be checked. Hash 0 = SHA-256 of
the ASCII text ``cambist audit 1 `` followed by the 32 hexadecimal digits of the journal's id: a chain belongs to one journal.

**Files**: ``<home>/audit/NNNNNNNNNNNN.log``, named by the number of their first record, about 4 MiB each. The first line is
``cambist-audit 1 JOURNAL_ID FIRST_NUMBER HASH_BEFORE``; each further line is one entry, ``HASH RECORD``: 64 hexadecimal
digits, a blank, the canonical bytes. Each line ends with a line feed. So a file proves itself, given the hash before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = "audit"
POSITION_FILE: Final = "position.json"
FORMAT: Final = 1
FILE_BYTES: Final = 4 << 20
"""A file that has reached this size is followed by another."""
_MAGIC: Final = "cambist-audit"
_HASH_DIGITS: Final = 64


class AuditDamaged(Exception):
    """The stored chain is not what was written; the text says where, and what to do."""


class Head(NamedTuple):
    """The newest entry of a chain: ``number`` records up to command ``seq``, and the hash over all of them."""

    number: int
    seq: int
    hash: bytes

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the hash in hexadecimal."""
        return {"number": self.number, "seq": self.seq, "hash": self.hash.hex()}


class Entry(NamedTuple):
    """One line of a chain file: the hash that it states, its record, and where it lies."""

    hash: bytes
    record: dict[str, Any]
    data: bytes
    """Canonical bytes of the record, as they stand in the file."""
    file: str
    line: int


def canonical(record: dict[str, Any]) -> bytes:
    """Canonical bytes of a record; see the module's text."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def start_hash(journal_id: bytes) -> bytes:
    """Hash 0 of the chain of a journal."""
    return hashlib.sha256(f"cambist audit {FORMAT} {journal_id.hex()}".encode()).digest()


def link(before: bytes, data: bytes) -> bytes:
    """Hash of an entry with canonical bytes ``data`` behind the hash ``before``."""
    return hashlib.sha256(before + hashlib.sha256(data).digest()).digest()


def empty_head(journal_id: bytes) -> Head:
    """The head of a chain without records."""
    return Head(0, 0, start_hash(journal_id))


def chained(head: Head, record: dict[str, Any]) -> tuple[Head, bytes]:
    """The head behind a record without number, and its line with the line feed."""
    data = canonical({"number": head.number + 1, **record})
    digest = link(head.hash, data)
    return Head(head.number + 1, record["seq"], digest), digest.hex().encode() + b" " + data + b"\n"


def file_name(first_number: int) -> str:
    """Name of the file that begins with record ``first_number``."""
    return f"{first_number:012}.log"


def file_names(folder: Path) -> list[str]:
    """Chain files, oldest first."""
    return sorted(path.name for path in folder.glob("[0-9]*.log"))


def header_line(journal_id: bytes, head: Head) -> bytes:
    """First line of the file that goes on behind ``head``."""
    return f"{_MAGIC} {FORMAT} {journal_id.hex()} {head.number + 1} {head.hash.hex()}\n".encode()


class FileHeader(NamedTuple):
    """First line of a file."""

    journal_id: bytes
    first_number: int
    hash_before: bytes


def parse_header(line: bytes) -> FileHeader | None:
    """The parts of a first line, or None where it is none."""
    parts = line.decode("ascii", "replace").split(" ")
    if len(parts) != 5 or parts[0] != _MAGIC or parts[1] != str(FORMAT) or not parts[3].isdecimal():
        return None
    try:
        journal_id, before = bytes.fromhex(parts[2]), bytes.fromhex(parts[4].rstrip("\n"))
    except ValueError:
        return None
    header = FileHeader(journal_id, int(parts[3]), before)
    same = header_line(journal_id, Head(header.first_number - 1, 0, before)) == line
    return header if same and len(journal_id) == 16 and len(before) == 32 else None


def parse_entry(line: bytes, file: str, number: int) -> Entry | str:
    """The entry of a line with its line feed, or what is wrong with its form."""
    if not line.endswith(b"\n"):
        return "the line has no end"
    data = line[_HASH_DIGITS + 1 : -1]
    try:
        digest = bytes.fromhex(line[:_HASH_DIGITS].decode("ascii"))
        record = json.loads(data)
    except ValueError:
        return "no hash and JSON object"
    if line[_HASH_DIGITS : _HASH_DIGITS + 1] != b" " or not isinstance(record, dict):
        return "no hash and JSON object"
    if not all(isinstance(record.get(name), int) for name in ("number", "seq")):
        return "a record without number or seq"
    if canonical(record) != data or digest.hex().encode() != line[:_HASH_DIGITS]:
        return "a record that is not in its canonical form"
    return Entry(digest, record, data, file, number)


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines with their line feeds; the last may lack it."""
    with path.open("rb") as file:
        yield from file
