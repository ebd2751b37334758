"""Writes a range of a home's history as an archive that can be checked with nothing but Python's standard library.

The range is regenerated from the journal (and a snapshot before it), streamed in batches, on a running or stopped home. What the archive
holds, and how it is checked: ``readme`` and ``verify_export``, which are copied into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import zstandard

from persistence import postings as p
from persistence.audit import past, tables
from persistence.audit.chain import (
    FOLDER,
    AuditDamaged,
    Entry,
    Head,
    chained,
    empty_head,
    file_names,
    parse_entry,
    read_lines,
)
from persistence.audit.records import Record, audit_records
from persistence.audit.trail import read_position
from persistence.audit.verify import regenerated
from persistence.durable import durable_seq
from persistence.fused import FusedEngine
from persistence.journal.layout import FORMAT as JOURNAL_FORMAT
from persistence.journal.reader import JournalReader
from persistence.moments import Moment, iso_time
from persistence.postings import EXTERNAL, FEE, Postings
from protocol import build
from protocol import enums as e
from protocol.records import COMMAND_SCHEMA, EXT_LISTING_SLOT
from ringbuf.bundle import Bundle
from risk import state as s

FORMAT: Final = 2
MANIFEST: Final = "manifest.json"
CHAIN: Final = "audit.log"
VERIFIER: Final = "verify_export.py"
_SOURCES: Final = {"README.md": "EXPORT.md"}
"""Files beside this module that lie in an archive under other names."""
_LISTED: Final = ("assets.csv", "instruments.csv", "rates.csv", "rules.csv")
_STREAMED: Final = ("commands.csv", "orders.csv", "fills.csv", "money.csv", "postings.csv", CHAIN)


class Scope(NamedTuple):
    """What is exported: one account, one instrument (by symbol), or everything."""

    account: int | None = None
    symbol: str | None = None


class _Chosen(NamedTuple):
    """The scope by number."""

    account: int | None
    instrument: int | None

    def outcomes(self, outcomes: np.ndarray) -> np.ndarray:
        """Outcomes in the scope."""
        if self.account is not None:
            return outcomes[outcomes["account"] == self.account]
        if self.instrument is not None:
            return outcomes[outcomes["instrument"] == self.instrument]
        return outcomes

    def heads(self, slots: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """Positions of the commands in the scope; those that name nobody's are in it where they had an outcome in it."""
        at = np.flatnonzero(build.heads(slots))
        if self.account is None and self.instrument is None:
            return at
        name, wanted = ("account", self.account) if self.account is not None else ("instrument", self.instrument)
        field = slots[name][at]
        touched = (field == 0) & np.isin(slots["seq"][at], outcomes["seq"])
        return at[(field == wanted) | touched]

    def shows(self, record: Record) -> bool:
        """Whether a record of the trail is shown, or only its hash: what concerns other accounts is not shown."""
        what = record["what"]
        if self.account is not None:
            return what.get("account", self.account) == self.account
        if self.instrument is not None:
            return "account" not in what or what.get("instrument") == self.instrument
        return True


def export(
    home: Path, directory: Path, scope: Scope, first: Moment | None = None, last: Moment | None = None, *,
    compress: bool = False, program: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Write the archive ``directory``, or with ``compress`` the file ``directory``.tar.zst; what the manifest says, and where it is.

    ``first`` and ``last`` are in the range, None: from the beginning, up to the durable end. Raises LookupError where there is nothing of
    the kind, AuditDamaged where the stored chain is not the journal's, JournalError, EngineFault, OSError.
    """
    from_seq, to_seq = _range(home, first, last)
    scratch = directory.with_name(f".{directory.name}.{os.getpid()}.new")
    scratch.mkdir(mode=0o700, parents=True)
    try:
        manifest = _write(home, scratch, scope, from_seq, to_seq, program)
        data = json.dumps(manifest, indent=2).encode() + b"\n"
        (scratch / MANIFEST).write_bytes(data)
        path = directory
        if compress:
            path = directory.with_name(f"{directory.name}.tar.zst")
            _pack(scratch, path, directory.name)
        else:
            scratch.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {"path": str(path), "manifest_sha256": hashlib.sha256(data).hexdigest(), **manifest}


def _range(home: Path, first: Moment | None, last: Moment | None) -> tuple[int, int]:
    end = durable_seq(home)
    from_seq, to_seq = 1, end
    if first is not None:
        from_seq = first.seq if first.seq is not None else past.seq_at_time(home, first.ts_ns or 0, end)
    if last is not None:
        to_seq = min(end, last.seq if last.seq is not None else past.seq_at_time(home, (last.ts_ns or 0) + 1, end) - 1)
    if not 1 <= from_seq <= to_seq:
        stated = f"from {first.text if first else 'the beginning'} to {last.text if last else 'the end'}"
        raise LookupError(f"no command lies in the range {stated}; the journal has 1 to {end}")
    return from_seq, to_seq


def _write(home: Path, folder: Path, scope: Scope, from_seq: int, to_seq: int, program: str) -> dict[str, Any]:
    engine, batches = past.open_at(home, from_seq, to_seq)
    chosen = _Chosen(scope.account, _instrument_number(home, engine, scope.symbol, from_seq, to_seq))
    from_seq = engine.last_seq + 1
    files = {name: tables.Table(folder / name) for name in (*_STREAMED, *_LISTED, "open_orders.csv")}
    if chosen.instrument is None:
        files |= {name: tables.Table(folder / name) for name in ("balances.csv", "open_withdrawals.csv")}
    writer = _Writer(files, engine, chosen, head_before(home, from_seq))
    for slots in batches:
        writer.add(slots)
    writer.end()
    if scope.account is not None and not _is_account(engine.risk, scope.account):
        raise LookupError(f"account {scope.account} does not exist at command {engine.last_seq}")
    _check_stored(home, writer.head)
    listed = {name: file.close() for name, file in files.items()}
    for name in ("README.md", VERIFIER):
        data = Path(__file__).with_name(_SOURCES.get(name, name)).read_bytes()
        (folder / name).write_bytes(data)
        listed[name] = {"sha256": hashlib.sha256(data).hexdigest(), "rows": data.count(b"\n"), "bytes": len(data)}
    return {
        "format": FORMAT,
        "scope": {"account": scope.account, "instrument": chosen.instrument, "symbol": scope.symbol},
        "journal_id": past.journal_id_of(home).hex(),
        "from_seq": from_seq,
        "to_seq": engine.last_seq,
        "from_time": iso_time(writer.first_ts_ns),
        "to_time": iso_time(writer.last_ts_ns),
        "state_hash": str(engine.hashes()["state"]),
        "versions": {"cambist": program, "journal_format": JOURNAL_FORMAT, "command_schema": str(COMMAND_SCHEMA)},
        "audit": {
            "first_number": writer.head_before.number + 1,
            "records": writer.head.number - writer.head_before.number,
            "hash_before": writer.head_before.hash.hex(),
            "hash_after": writer.head.hash.hex(),
        },
        "files": listed,
    }


class _Writer:
    """Writes batches into the files, and what stands before and behind them."""

    def __init__(self, files: dict[str, tables.Table], engine: FusedEngine, chosen: _Chosen, head: Head) -> None:
        self._files = files
        self._engine = engine
        self._chosen = chosen
        self._postings = Postings(engine)
        self._opening = _balances(engine.risk, chosen)
        self._touched: list[np.ndarray] = []
        self.head_before = self.head = head
        self.first_ts_ns = self.last_ts_ns = 0
        self._open("opening")
        at = np.flatnonzero(engine.risk.instruments["status"])
        if chosen.instrument is not None:
            at = at[at == chosen.instrument]
        rows = engine.risk.instruments[at]
        self._rates(
            [engine.last_seq] * len(at), at.tolist(), rows["maker_rate_e8"].tolist(), rows["taker_rate_e8"].tolist()
        )

    def add(self, slots: np.ndarray) -> None:
        """Apply a batch of whole groups and write what the scope has of it."""
        files, chosen = self._files, self._chosen
        outcomes = past.outcomes_of(self._engine, slots)
        mine = chosen.outcomes(outcomes)
        files["commands.csv"].add(tables.command_columns(slots, chosen.heads(slots, mine)))
        files["orders.csv"].add(tables.order_columns(mine))
        files["fills.csv"].add(tables.fill_columns(mine))
        files["money.csv"].add(tables.money_columns(mine))
        rows = self._postings.of(outcomes)
        base = int(slots["seq"][0])
        rows = rows[np.isin(_key(rows, base), _key(mine, base))]
        files["postings.csv"].add(tables.posting_columns(rows))
        self._touched.append(np.unique(rows[["account", "asset"]]))
        if len(self._touched) > 64:
            self._touched = [np.unique(np.concatenate(self._touched))]
        for record in audit_records(slots, outcomes, self._engine.risk):
            self._record(record)
        self.first_ts_ns = self.first_ts_ns or int(slots["ts_ns"][0])
        self.last_ts_ns = int(slots["ts_ns"][-1])

    def end(self) -> None:
        """Write what stands behind the range."""
        risk = self._engine.risk
        self._open("closing")
        self._files["assets.csv"].add(tables.asset_columns(risk))
        self._files["instruments.csv"].add(tables.instrument_columns(risk))
        self._files["rules.csv"].add(tables.rule_columns(risk))
        if "balances.csv" not in self._files:
            return
        opening, closing = self._opening, _balances(risk, self._chosen)
        touched = {tuple(key) for part in self._touched for key in part.tolist()}
        names = (p.CLEARING,) if self._chosen.account is None else (p.CLEARING, EXTERNAL, FEE)
        keys = sorted({*opening, *closing, *(key for key in touched if key[0] not in names)})
        self._files["balances.csv"].add(
            {
                "account": tables.account_texts(np.array([key[0] for key in keys], dtype=np.int64)),
                "asset": [key[1] for key in keys],
                "opening_free_units": [opening.get(key, (0, 0))[0] for key in keys],
                "opening_locked_units": [opening.get(key, (0, 0))[1] for key in keys],
                "closing_free_units": [closing.get(key, (0, 0))[0] for key in keys],
                "closing_locked_units": [closing.get(key, (0, 0))[1] for key in keys],
            }
        )

    def _open(self, at: str) -> None:
        risk, chosen = self._engine.risk, self._chosen
        columns = tables.open_order_columns(risk, at, chosen.account, chosen.instrument)
        self._files["open_orders.csv"].add(columns)
        if "open_withdrawals.csv" in self._files:
            self._files["open_withdrawals.csv"].add(tables.open_withdrawal_columns(risk, at, chosen.account))

    def _record(self, record: Record) -> None:
        self.head, line = chained(self.head, record)
        if not self._chosen.shows(record):
            line = line[:65] + b"sha256:" + hashlib.sha256(line[65:-1]).hexdigest().encode() + b"\n"
        self._files[CHAIN].add_lines([line])
        what = record["what"]
        sets_fees = record["type"] in ("SET_FEES", "LIST_INSTRUMENT") and record["outcome"]["accepted"]
        if sets_fees and self._chosen.instrument in (None, what["instrument"]):
            self._rates([record["seq"]], [what["instrument"]], [what["maker_rate_e8"]], [what["taker_rate_e8"]])

    def _rates(self, seq: list[int], instrument: list[int], maker: list[int], taker: list[int]) -> None:
        self._files["rates.csv"].add(
            {"seq": seq, "instrument": instrument, "maker_rate_e8": maker, "taker_rate_e8": taker}
        )


def _key(rows: np.ndarray, base: int) -> np.ndarray:
    return (rows["seq"] - base) << 32 | rows["index"].astype(np.int64)


def _balances(risk: Bundle, chosen: _Chosen) -> dict[tuple[int, int], tuple[int, int]]:
    """Free and locked of (account, asset) where one of them is not zero, system accounts included where all are exported."""
    if chosen.instrument is not None:
        return {}
    width = len(risk.assets)
    table = risk.balances.reshape(-1, s.BALANCE_WORDS)
    start, end = (0, len(table)) if chosen.account is None else (chosen.account * width, (chosen.account + 1) * width)
    table = table[start:end, [s.FREE, s.LOCKED]]
    at = np.flatnonzero(table.any(axis=1))
    found = {
        divmod(start + key, width): (free, locked)
        for key, (free, locked) in zip(at.tolist(), table[at].tolist(), strict=True)
    }
    if chosen.account is None:
        for asset in np.flatnonzero(risk.assets["status"]).tolist():
            found[FEE, asset] = (int(risk.assets[asset]["fee_units"]), 0)
            found[EXTERNAL, asset] = (-int(risk.assets[asset]["net_deposits_units"]), 0)
    return found


def _is_account(risk: Bundle, account: int) -> bool:
    return 0 < account < len(risk.accounts) and risk.accounts[account]["status"] != e.ACCOUNT_NONE


def _instrument_number(home: Path, engine: FusedEngine, symbol: str | None, from_seq: int, to_seq: int) -> int | None:
    """Number of a symbol that is listed before the range or in it."""
    if symbol is None:
        return None
    listed = engine.risk.instruments
    at = np.flatnonzero((listed["symbol"] == symbol.encode()) & (listed["status"] != e.INSTRUMENT_NONE))
    if len(at):
        return int(at[0])
    for slots in JournalReader(home / past.JOURNAL, from_seq=from_seq, to_seq=to_seq):
        for k in np.flatnonzero(slots["type"][:-1] == e.LIST_INSTRUMENT).tolist():
            listing = slots[k + 1 : k + 2].view(EXT_LISTING_SLOT.slot_dtype)[0]
            if listing["type"] == e.EXT_LISTING and listing["symbol"] == symbol.encode():
                return int(slots["instrument"][k])
    raise LookupError(f"no instrument {symbol} is listed up to command {to_seq}")


# --- the chain --------------------------------------------------------------------------------------------------------


def head_before(home: Path, from_seq: int) -> Head:
    """Head of the chain behind the last record before command ``from_seq``: as stored, or from the journal where it is not."""
    head = empty_head(past.journal_id_of(home))
    if read_position(home / FOLDER).passed >= from_seq - 1:
        for entry in _stored_entries(home, from_seq):
            if entry.record["seq"] >= from_seq:
                break
            head = Head(entry.record["number"], entry.record["seq"], entry.hash)
        return head
    for record in regenerated(home, from_seq - 1, past.first_executable(home)):
        head, _ = chained(head, record)
    return head


def _stored_entries(home: Path, from_seq: int) -> Iterator[Entry]:
    """Stored entries, beginning with a file before ``from_seq`` where there is one."""
    folder = home / FOLDER
    names = file_names(folder)
    start = 0
    for place, name in enumerate(names):
        first = next((entry for entry in _entries(folder, name)), None)
        if first is not None and first.record["seq"] < from_seq:
            start = place
    for name in names[start:]:
        yield from _entries(folder, name)


def _entries(folder: Path, name: str) -> Iterator[Entry]:
    for number, line in enumerate(read_lines(folder / name), 1):
        entry = parse_entry(line, name, number) if number > 1 else ""
        if isinstance(entry, Entry):
            yield entry


def _check_stored(home: Path, head: Head) -> None:
    """AuditDamaged where the stored chain has another record at the place of ``head``."""
    for entry in _stored_entries(home, head.seq):
        if entry.record["number"] == head.number and entry.hash != head.hash:
            msg = f"{home / FOLDER}: record {head.number} is not the one that the journal gives; see `cambist audit verify`"
            raise AuditDamaged(msg)


# --- the archive ------------------------------------------------------------------------------------------------------


def _pack(folder: Path, path: Path, name: str) -> None:
    """One compressed tar file of a folder under the name that it unpacks to; whole or not there."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    with (
        scratch.open("wb") as raw,
        zstandard.ZstdCompressor(level=6).stream_writer(raw) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        archive.add(folder, arcname=name)
    scratch.replace(path)
