"""The columns of an export's CSV files, from arrays; and the file writer that hashes what it writes.

Numbers are the engine's own integers. A value that an entry does not have is empty text.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from persistence import postings as p
from persistence.audit.records import SOURCE_NAMES, text_of
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.records import EXT_ADMIN_SLOT, EXT_IDS_SLOT
from ringbuf.bundle import Bundle
from risk import state as s

Columns = dict[str, Sequence[Any]]
"""Values by name of column, all of one length."""


def _lookup(names: Mapping[int, str], size: int) -> np.ndarray:
    """Names by number; a number that has none stands for itself, but 0 for nothing."""
    table = np.array([str(number) if number else "" for number in range(size)], dtype=object)
    for number, name in names.items():
        if 0 <= number < size:
            table[number] = name
    return table


_TYPES: Final = _lookup(e.COMMAND_NAMES, 256)
_EVENTS: Final = _lookup(e.names("OUT_"), 256)
_SOURCES: Final = _lookup({n: SOURCE_NAMES.get(n, f"gateway-{n}") for n in range(1 << 16)}, 1 << 16)
_SIDES: Final = _lookup({e.BUY: "BUY", e.SELL: "SELL"}, 256)
_TIFS: Final = _lookup({e.GTC: "GTC", e.IOC: "IOC", e.FOK: "FOK", e.POST_ONLY: "POST_ONLY"}, 256)
_STPS: Final = _lookup(e.names("STP_"), 256)
_REASONS: Final = _lookup({n: r.NAME.get(n, f"REASON_{n}") for n in range(1, 1 << 16)}, 1 << 16)
_KINDS: Final = _lookup(p.KINDS, 256)
_BUCKETS: Final = _lookup(p.BUCKETS, 2)
_ORDER_TYPES: Final = (e.LIMIT, e.MARKET, e.MARKET_AMOUNT)
_TYPES_OF_ORDERS: Final = (*_ORDER_TYPES, e.CANCEL, e.CANCEL_ALL, e.AMEND)
_MONEY: Final = (*range(e.DEPOSIT, e.ADJUST + 1), e.TRANSFER)


def command_columns(slots: np.ndarray, heads: np.ndarray) -> Columns:
    """commands.csv: the groups whose heads stand at ``heads`` of ``slots``, each with the further orders of its list behind it."""
    at = np.flatnonzero(build.heads(slots))
    sizes = dict(zip(at.tolist(), np.diff(np.append(at, len(slots))).tolist(), strict=True))
    head_of, places, ids, who, why = [], [], [], [], []
    for head in heads.tolist():
        end = head + sizes[head]
        legs = [k for k in range(head + 1, end) if slots["type"][k] == e.EXT_LEG]
        for place in (head, *legs):
            head_of.append(head)
            places.append(place)
            named = place + 1 < end and slots["type"][place + 1] == e.EXT_IDS
            row = slots[place + 1 : place + 2].view(EXT_IDS_SLOT.slot_dtype)[0] if named else None
            ids.append("" if row is None else text_of(row["client_order_id"]))
            signed = [k for k in range(head + 1, end) if place == head and slots["type"][k] == e.EXT_ADMIN]
            row = slots[signed[-1:]].view(EXT_ADMIN_SLOT.slot_dtype)[0] if signed else None
            who.append("" if row is None else text_of(row["operator"]))
            why.append("" if row is None else text_of(row["reason"]))
    rows = slots[places]
    further = np.not_equal(places, head_of)
    rows["type"][further] = rows["margin_mode"][further]
    for name in ("source", "source_seq", "session", "account", "entry_ts_ns"):
        rows[name] = slots[name][head_of]
    for name in ("asset", "timer"):
        rows[name][further] = 0
    order = np.isin(rows["type"], _ORDER_TYPES)
    return {
        "seq": rows["seq"].tolist(),
        "slots": [sizes[place] if place == head else 0 for place, head in zip(places, head_of, strict=True)],
        "ts_ns": rows["ts_ns"].tolist(),
        "type": _TYPES[rows["type"]].tolist(),
        "source": _SOURCES[rows["source"]].tolist(),
        "source_seq": rows["source_seq"].tolist(),
        "session": rows["session"].tolist(),
        "account": rows["account"].tolist(),
        "instrument": rows["instrument"].tolist(),
        "side": np.where(order, _SIDES[rows["side"]], "").tolist(),
        "tif": np.where(rows["type"] == e.LIMIT, _TIFS[rows["tif"]], "").tolist(),
        "stp": np.where(order, _STPS[rows["stp"]], "").tolist(),
        "order_id": rows["order_id"].tolist(),
        "price_ticks": rows["price_ticks"].tolist(),
        "qty_lots": rows["qty_lots"].tolist(),
        "asset": rows["asset"].tolist(),
        "timer": rows["timer"].tolist(),
        "flags": (rows["flags"] & ~np.uint32(e.FLAG_MORE)).tolist(),
        "entry_ts_ns": rows["entry_ts_ns"].tolist(),
        "client_order_id": ids,
        "who": who,
        "why": why,
    }


_OF_ORDERS: Final = (
    *(e.OUT_NEW, e.OUT_RESTED, e.OUT_EXPIRED, e.OUT_CANCELED, e.OUT_REPLACED, e.OUT_PREVENTED, e.OUT_DONE),
    e.OUT_TRIGGERED,
    e.OUT_PEGGED,
)


def order_columns(outcomes: np.ndarray) -> Columns:
    """orders.csv: what happened to orders, fills apart; refusals too."""
    kind = outcomes["kind"]
    chosen = np.isin(kind, _OF_ORDERS)
    chosen |= (kind == e.OUT_REJECTED) & np.isin(outcomes["type"], _TYPES_OF_ORDERS)
    rows = outcomes[chosen]
    about_order = ~np.isin(rows["kind"], (e.OUT_REJECTED, e.OUT_DONE))
    return _event(rows) | {
        "event": _EVENTS[rows["kind"]].tolist(),
        "type": _TYPES[rows["type"]].tolist(),
        "account": rows["account"].tolist(),
        "instrument": rows["instrument"].tolist(),
        "order_id": rows["order_id"].tolist(),
        "side": np.where(rows["kind"] == e.OUT_DONE, "", _SIDES[rows["side"]]).tolist(),
        "price_ticks": rows["price_ticks"].tolist(),
        "qty_lots": rows["qty_lots"].tolist(),
        **{name: np.where(about_order, rows[name], 0).tolist() for name in ("cum_qty_lots", "leaves_qty_lots")},
        "reason": _REASONS[rows["reason"]].tolist(),
        **{name: np.where(about_order, rows[name], 0).tolist() for name in ("free_units", "locked_units", "asset")},
    }


def fill_columns(outcomes: np.ndarray) -> Columns:
    """fills.csv: one row for each side of a trade."""
    rows = outcomes[outcomes["kind"] == e.OUT_TRADE]
    taker = (rows["flags"] & e.OUTCOME_TAKER) != 0
    names = ("account", "instrument", "order_id", "contra_order_id")
    numbers = (
        *("price_ticks", "qty_lots", "value_units", "fee_units", "fee_asset"),
        *("cum_qty_lots", "leaves_qty_lots", "free_units", "locked_units", "asset"),
    )
    return (
        _event(rows)
        | {name: rows[name].tolist() for name in names}
        | {"side": _SIDES[rows["side"]].tolist(), "liquidity": np.where(taker, "TAKER", "MAKER").tolist()}
        | {"type": _TYPES[rows["type"]].tolist()}
        | {name: rows[name].tolist() for name in numbers}
        | {"fee_rule": rows["reason"].tolist(), "fee_tier": (rows["fee_tier"] & (e.FEE_TIER_API - 1)).tolist()}
        | {"fee_api": (rows["fee_tier"] >= e.FEE_TIER_API).astype(np.int64).tolist()}
    )


def money_columns(outcomes: np.ndarray) -> Columns:
    """money.csv: what became of deposits, withdrawals and adjustments; refusals too."""
    rows = outcomes[np.isin(outcomes["type"], _MONEY) & np.isin(outcomes["kind"], (e.OUT_BALANCE, e.OUT_REJECTED))]
    done = rows["kind"] == e.OUT_BALANCE
    return _event(rows) | {
        "type": _TYPES[rows["type"]].tolist(),
        "account": rows["account"].tolist(),
        "hold_id": rows["order_id"].tolist(),
        "asset": rows["asset"].tolist(),
        "amount_units": np.where(done, rows["value_units"], 0).tolist(),
        "reason": _REASONS[rows["reason"]].tolist(),
        "free_units": rows["free_units"].tolist(),
        "locked_units": rows["locked_units"].tolist(),
    }


def _event(rows: np.ndarray) -> Columns:
    return {name: rows[name].tolist() for name in ("seq", "index", "ts_ns")}


def posting_columns(rows: np.ndarray) -> Columns:
    """postings.csv."""
    return {
        **{name: rows[name].tolist() for name in ("seq", "index", "leg", "ts_ns")},
        "account": account_texts(rows["account"]),
        "asset": rows["asset"].tolist(),
        "bucket": _BUCKETS[rows["bucket"]].tolist(),
        "kind": _KINDS[rows["kind"]].tolist(),
        "amount_units": rows["amount_units"].tolist(),
    }


def account_texts(accounts: np.ndarray) -> list[int | str]:
    """Accounts as they are written: numbers, and the names of system accounts."""
    return [p.SYSTEM_ACCOUNTS[number] if number < 0 else number for number in accounts.tolist()]


def open_order_columns(risk: Bundle, at: str, account: int | None, instrument: int | None) -> Columns:
    """open_orders.csv: the orders that live in a settled state."""
    live = risk.holds["state"] == e.HOLD_LIVE
    if account is not None:
        live &= risk.holds["account"] == account
    if instrument is not None:
        live &= risk.holds["instrument"] == instrument
    where = np.flatnonzero(live)
    where = where[np.argsort(risk.holds["order_id"][where])]
    rows = risk.holds[where]
    texts = risk.hold_ids[where][:, : s.CLIENT_ID_WORDS].copy().view("S40")[:, 0]
    texts[(rows["flags"] & s.HOLD_HAS_CLIENT_ID) == 0] = b""
    names = {
        "price_ticks": "price_ticks",
        "qty_lots": "total_lots",
        "cum_qty_lots": "traded_lots",
        "prevented_lots": "prevented_lots",
        "leaves_qty_lots": "left_lots",
        "value_units": "value_units",
        "locked_units": "locked_units",
        "entry_seq": "seq",
        "entry_ts_ns": "entry_ts_ns",
    }
    return {
        "at": [at] * len(rows),
        **{name: rows[name].tolist() for name in ("order_id", "account", "instrument")},
        "side": _SIDES[rows["side"]].tolist(),
        "tif": _TIFS[rows["tif"]].tolist(),
        "stp": _STPS[rows["stp"]].tolist(),
        **{name: rows[field].tolist() for name, field in names.items()},
        "client_order_id": [text_of(text) for text in texts.tolist()],
    }


def open_withdrawal_columns(risk: Bundle, at: str, account: int | None) -> Columns:
    """open_withdrawals.csv: the withdrawal holds that stand."""
    rows = risk.withdrawals[risk.withdrawals["hold_id"] != 0]
    if account is not None:
        rows = rows[rows["account"] == account]
    rows = rows[np.argsort(rows["hold_id"])]
    names = ("hold_id", "account", "asset", "amount_units", "seq")
    return {"at": [at] * len(rows), **{name: rows[name].tolist() for name in names}}


def asset_columns(risk: Bundle) -> Columns:
    """assets.csv."""
    at = np.flatnonzero(risk.assets["status"])
    rows = risk.assets[at]
    symbols = [text_of(symbol) for symbol in rows["symbol"].tolist()]
    return {"asset": at.tolist(), "symbol": symbols, "scale": rows["scale"].tolist()}


def instrument_columns(risk: Bundle) -> Columns:
    """instruments.csv: what never changes of them."""
    at = np.flatnonzero(risk.instruments["status"])
    rows = risk.instruments[at]
    symbols = [text_of(symbol) for symbol in rows["symbol"].tolist()]
    names = ("base", "quote", "tick_e8", "lot_atoms", "multiplier")
    return {"instrument": at.tolist(), "symbol": symbols, **{name: rows[name].tolist() for name in names}}


def rule_columns(risk: Bundle) -> Columns:
    """rules.csv: the tiers of all versions of fee schedules; ``rule`` is what fills name."""
    at = np.arange(1, int(risk.meta[s.FEE_VERSIONS]) + 1)
    rule = np.repeat(at, risk.fee_versions["tiers"][at])
    versions = risk.fee_versions[rule]
    tier = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(n) for n in risk.fee_versions["tiers"][at])])
    tiers = risk.fee_tiers.reshape(-1, e.FEE_TIERS_MAX, s.FEE_WORDS)[rule, tier]
    return (
        {"rule": rule.tolist(), "tier": tier.tolist()}
        | {
            name: versions[name].tolist()
            for name in ("seq", "schedule", "version", "effective_ts_ns", "api_discount_e8")
        }
        | {"min_units": tiers[:, s.FEE_MIN].tolist()}
        | {"maker_rate_e8": tiers[:, s.FEE_MAKER].tolist(), "taker_rate_e8": tiers[:, s.FEE_TAKER].tolist()}
    )


class Table:
    """A CSV file of an export, written a batch at a time; its hash grows with it."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._file = path.open("wb")
        self._writer = csv.writer(self, lineterminator="\n")
        self._begun = False

    def write(self, text: str) -> None:
        """Take text of the CSV writer."""
        data = text.encode()
        self._hash.update(data)
        self.size_bytes += len(data)
        self._file.write(data)

    def add(self, columns: Columns) -> None:
        """Append rows; the first call also writes the names of the columns."""
        if not self._begun:
            self._begun = True
            self._writer.writerow(columns)
        count = len(next(iter(columns.values())))
        self.rows += count
        self._writer.writerows(zip(*columns.values(), strict=True))

    def add_lines(self, lines: Iterable[bytes]) -> None:
        """Append lines as they are, for a file that is no CSV."""
        for line in lines:
            self.rows += 1
            self.write(line.decode("ascii"))

    def close(self) -> dict[str, Any]:
        """What the manifest says of the file."""
        self._file.close()
        return {"sha256": self._hash.hexdigest(), "rows": self.rows, "bytes": self.size_bytes}
