"""Writes the audit chain behind the journal: each record once, whatever crashes, because the journal gives the same ones again.

Records are appended and synced a batch at a time. What was synced is known from ``position.json`` (head of the chain, last command slot
looked at), which is replaced behind each sync and may be older than the files, never newer. So at the start a bad line behind the
position is what a crash left of a write: it is cut, and comes again from the journal; what is sound is written and synced again, for
the sync that it was written for may have failed. A bad or missing line before it is damage, which is
never mended in silence: the chain then stands still, and ``cambist audit verify`` says what differs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from persistence.audit import past
from persistence.audit.chain import (
    FILE_BYTES,
    FOLDER,
    POSITION_FILE,
    AuditDamaged,
    Head,
    chained,
    empty_head,
    file_name,
    file_names,
    header_line,
    link,
    parse_entry,
    parse_header,
    read_lines,
)
from persistence.audit.records import audit_records, audited_heads
from persistence.consumers import keep_position
from persistence.folders import sync_folder
from persistence.fused import FusedEngine
from persistence.journal.errors import JournalError
from protocol.records import OUTCOME_DTYPE
from ringbuf.bundle import Bundle

CONSUMER: Final = "audit"
_ADVICE: Final = (
    "see `cambist audit verify`; `cambist audit rebuild` puts the files aside and writes them again from the journal"
)
NO_OUTCOMES: Final = np.zeros(0, dtype=OUTCOME_DTYPE)
_POSITION_EVERY_SLOTS: Final = 1 << 16
"""Without records the position moves on after so many slots, so that the journal need not be kept for it …"""
_POSITION_EVERY_NS: Final = 2_000_000_000
"""… and after so long, once there is nothing else to do: what is kept for the trail is then only what comes."""


class Position(msgspec.Struct, frozen=True):
    """What is surely on disk: the chain up to record ``number``, and everything up to slot ``passed`` was looked at."""

    number: int = 0
    seq: int = 0
    hash: str = ""
    passed: int = 0


class AuditTrail:
    """The chain of one home, open for writing.

    Parameters
    ----------
    home : Path
    journal_id : bytes, 16
    file_bytes : size from which on another file is begun
    clock_ns : any that does not fall; it decides nothing but when the position is kept

    Raises AuditDamaged where stored records are missing or changed.
    """

    def __init__(
        self,
        home: Path,
        journal_id: bytes,
        file_bytes: int = FILE_BYTES,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._home = home
        self._clock_ns = clock_ns
        self._folder = home / FOLDER
        self._journal_id = journal_id
        self._file_bytes = file_bytes
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._descriptor = -1
        self._size_bytes = 0
        known = read_position(self._folder)
        self.head = self._resume(known)
        self.passed = known.passed
        """Every slot up to here was looked at; the end of a group. The files may have records of later ones."""
        self._kept = known.passed
        self._kept_ns = clock_ns()

    def wants(self, slots: np.ndarray) -> bool:
        """Whether the outcomes of these slots are needed."""
        return int(slots["seq"][-1]) > self.passed and len(audited_heads(slots)) > 0

    def feed(self, engine: FusedEngine, slots: np.ndarray) -> None:
        """Let ``engine`` apply the slots, and append their records. Raises EngineFault, OSError."""
        parts: list[np.ndarray] = []
        if self.wants(slots):
            engine.feed(slots, parts.append)
        else:
            engine.feed(slots)
        self.follow(slots, np.concatenate(parts) if parts else NO_OUTCOMES, engine.risk)

    def follow(self, slots: np.ndarray, outcomes: np.ndarray, risk: Bundle) -> None:
        """Append the records of whole groups; returns when they are on disk. What was looked at or written before is skipped.

        ``outcomes`` may be empty where ``wants`` said no; ``risk`` is the state behind the slots. Raises OSError.
        """
        last = int(slots["seq"][-1])
        if last <= self.passed:
            return
        lines: list[bytes] = []
        head = self.head
        for record in audit_records(slots[slots["seq"] > self.passed], outcomes, risk):
            if record["seq"] <= self.head.seq:
                continue
            if self._descriptor < 0 or self._size_bytes >= self._file_bytes:
                self._write(lines)
                lines = []
                self._begin_file(head)
            head, line = chained(head, record)
            self._size_bytes += len(line)
            lines.append(line)
        self._write(lines)
        grown = head.number > self.head.number
        if grown:
            os.fdatasync(self._descriptor)
        self.head = head
        self.passed = last
        if grown or last - self._kept >= _POSITION_EVERY_SLOTS:
            self.keep()

    def keep(self) -> None:
        """Replace the position: what is synced by now."""
        position = Position(self.head.number, self.head.seq, self.head.hash.hex(), self.passed)
        scratch = self._folder / f".{POSITION_FILE}.new"
        scratch.write_bytes(msgspec.json.encode(position))
        scratch.replace(self._folder / POSITION_FILE)
        keep_position(self._home, CONSUMER, self.passed)
        self._kept = self.passed
        self._kept_ns = self._clock_ns()

    def keep_when_quiet(self) -> None:
        """Keep the position where it has moved on and was not kept for a while; for whoever has nothing else to do."""
        if self.passed > self._kept and self._clock_ns() - self._kept_ns >= _POSITION_EVERY_NS:
            self.keep()

    def close(self) -> None:
        """Keep the position and close the file."""
        if self.passed > self._kept:
            self.keep()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join(lines))
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _begin_file(self, head: Head) -> None:
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        path = self._folder / file_name(head.number + 1)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        line = header_line(self._journal_id, head)
        self._size_bytes = len(line)
        self._write([line])
        os.fdatasync(self._descriptor)
        sync_folder(self._folder)

    # --- the start --------------------------------------------------------------------------------------------------------

    def _resume(self, known: Position) -> Head:
        """The head of what is stored, with the newest file open behind it; a torn tail is cut."""
        for name in reversed(file_names(self._folder)):
            head = self._resume_file(name, known)
            if head is not None:
                self._check_reaches(head, known, name)
                return head
        head = empty_head(self._journal_id)
        self._check_reaches(head, known, "")
        return head

    def _resume_file(self, name: str, known: Position) -> Head | None:
        """Head at the end of the newest file; None where a crash left a file without a whole first line, which is removed."""
        path = self._folder / name
        lines = read_lines(path)
        line = next(lines, b"")
        header = parse_header(line)
        first = int(name.removesuffix(".log"))
        if header is None or header.first_number != first:
            if first <= known.number:
                raise AuditDamaged(f"{path}, line 1: not the first line of this file; {_ADVICE}")
            path.unlink()
            return None
        if header.journal_id != self._journal_id:
            raise AuditDamaged(
                f"{path}: the chain of journal {header.journal_id.hex()}, but this home's is {self._journal_id.hex()}"
            )
        head = Head(first - 1, 0, header.hash_before)
        size_bytes = len(line)
        for place, line in enumerate(lines, 2):
            entry = parse_entry(line, name, place)
            sound = not isinstance(entry, str) and entry.record["number"] == head.number + 1
            if isinstance(entry, str) or not sound or link(head.hash, entry.data) != entry.hash:
                if head.number < known.number:
                    raise AuditDamaged(f"{path}, line {place}: record {head.number + 1} was changed; {_ADVICE}")
                say(f"{path}: an unfinished write behind record {head.number} was cut")
                break
            head = Head(head.number + 1, entry.record["seq"], entry.hash)
            if head.number == known.number and head.hash.hex() != known.hash:
                raise AuditDamaged(
                    f"{path}, line {place}: record {head.number} is another one than was written; {_ADVICE}"
                )
            size_bytes += len(line)
        whole = path.read_bytes()[:size_bytes]
        self._descriptor = os.open(path, os.O_WRONLY)
        os.ftruncate(self._descriptor, size_bytes)
        # What was read may be in memory only: what a failed sync left reaches the disk when it is written anew, and not before.
        self._write([whole])
        os.fdatasync(self._descriptor)
        sync_folder(self._folder)
        self._size_bytes = size_bytes
        if head.seq == 0 and head.number > 0:
            head = head._replace(seq=_last_seq(self._folder, name))
        return head

    def _check_reaches(self, head: Head, known: Position, name: str) -> None:
        if head.number < known.number:
            where = self._folder / name if name else self._folder
            msg = (
                f"{where}: the chain ends with record {head.number}, but {known.number} records were written; {_ADVICE}"
            )
            raise AuditDamaged(msg)


def say(text: str) -> None:
    """Tell the operator, in the log of the process."""
    sys.stderr.write(f"audit: {text}\n")
    sys.stderr.flush()


def read_position(folder: Path) -> Position:
    """The position kept in an audit folder; that of nothing where there is none, or where a crash left it empty."""
    try:
        return msgspec.json.decode((folder / POSITION_FILE).read_bytes(), type=Position)
    except (FileNotFoundError, msgspec.DecodeError):
        return Position()


def _last_seq(folder: Path, before: str) -> int:
    """Seq of the last record before the file ``before``."""
    names = file_names(folder)
    lines = list(read_lines(folder / names[names.index(before) - 1]))
    entry = parse_entry(lines[-1], names[0], len(lines))
    if isinstance(entry, str):
        raise AuditDamaged(f"{folder / names[names.index(before) - 1]}, line {len(lines)}: {entry}; {_ADVICE}")
    return int(entry.record["seq"])


def open_trail(home: Path, engine: FusedEngine) -> AuditTrail | None:
    """The trail of a home, brought up to the last command of ``engine``, which goes on feeding it.

    None where the stored chain is damaged, which is said on stderr: trading and the rest of the replica go on.
    """
    try:
        trail = AuditTrail(home, past.journal_id_of(home))
        write_up_to(trail, home, engine.last_seq)
    except (AuditDamaged, JournalError) as error:
        say(f"no records are written: {error}")
        return None
    return trail


def write_up_to(trail: AuditTrail, home: Path, last_seq: int) -> None:
    """Let the trail follow the journal up to ``last_seq`` with an engine of its own, where it has not come so far."""
    if trail.passed >= last_seq:
        return
    engine, batches = past.open_at(home, max(trail.passed + 1, past.first_executable(home)), last_seq)
    for slots in batches:
        trail.feed(engine, slots)
    trail.keep()
