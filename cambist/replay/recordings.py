"""The recorded books of real venues: LOBSTER's AAPL, Bitstamp's and Coinbase's BTC/USD.

Fields are those of the data's README.

Recordings without accounts trade among ``ACCOUNTS`` of them, each funded for its worst case. Self-trade prevention,
bands and fees are off.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import numpy as np

from cambist.replay.convert import (
    CANCEL,
    NEW,
    NEW_UNNAMED,
    REDUCE,
    STEP_DTYPE,
    Linked,
    Market,
    assemble,
    link,
    single_market,
    worst_case_funding,
)
from cambist.replay.plan import Plan, RecordingError, read_bytes
from protocol import build
from protocol import enums as e
from protocol.instruments import Asset, Instrument

ACCOUNTS: Final = 16
AAPL_MIDNIGHT_NS: Final = 1_340_251_200_000_000_000
"""2012-06-21 00:00 in New York (UTC-4), ns UTC."""


def read_table(path: Path) -> dict[str, list[str]]:
    """A CSV file (gzip or not) with a heading line as columns of text."""
    text = read_bytes(path).decode()
    rows = csv.reader(io.StringIO(text))
    heading = next(rows, [])
    columns: list[list[str]] = [[] for _ in heading]
    try:
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
    except ValueError as error:
        # An empty table has no values to transpose; anything else is a torn line.
        if len(text.splitlines()) > 1:
            raise RecordingError(f"{path}: a line has another number of fields than {','.join(heading)}") from error
    return dict(zip(heading, columns, strict=True))


def integers(table: dict[str, list[str]], name: str, path: Path, empty: int = 0) -> np.ndarray:
    """Column as int64; an empty field is ``empty``."""
    if name not in table:
        raise RecordingError(f"{path}: has no column {name!r}")
    try:
        return np.array([int(v) if v else empty for v in table[name]], dtype=np.int64)
    except ValueError as error:
        raise RecordingError(f"{path}: column {name!r}: {error}") from error


def load_lobster(path: Path, limit: int | None) -> Plan:
    """``l3_nasdaq_aapl``: N new, C cancel, R reduce by qty, I immediate-or-cancel. Price 1e-4 USD, qty shares."""
    quote, base, instrument = single_market("AAPLUSD", "AAPL", "USD", tick_e8=10_000, base_scale=0, quote_scale=4)
    return _from_commands(path, limit, "lobster", "ts_ns", AAPL_MIDNIGHT_NS, 1, (quote, base), instrument)


def load_bitstamp(path: Path, limit: int | None) -> Plan:
    """``l3_bitstamp_btcusd``: N new (seq 0 = opening book), C cancel. Price US cents, qty satoshi."""
    quote, base, instrument = single_market("BTCUSD", "BTC", "USD", tick_e8=1_000_000, base_scale=8, quote_scale=10)
    return _from_commands(path, limit, "bitstamp", "ts_ms", 0, 1_000_000, (quote, base), instrument)


def load_coinbase(path: Path, limit: int | None) -> Plan:
    """``l3_coinbase_btcusd_snapshot``: an opening book; its teardown is one cancel-all of the instrument.

    Ids count from 1, bids first.
    """
    quote, base, instrument = single_market("BTC-USD", "BTC", "USD", tick_e8=1_000_000, base_scale=8, quote_scale=10)
    file = path / "l3_snapshot.json.gz" if path.is_dir() else path
    try:
        book = json.loads(read_bytes(file))
        sides = [(e.BUY, row) for row in book["bids"]] + [(e.SELL, row) for row in book["asks"]]
        sides = sides[:limit]
        prices = [instrument.price_ticks(Decimal(row[0])) for _, row in sides]
        lots = [instrument.qty_lots(Decimal(row[1])) for _, row in sides]
        captured = dt.datetime.fromisoformat(book["captured_at"])
    except (KeyError, IndexError, TypeError, ValueError, InvalidOperation) as error:
        raise RecordingError(f"{file}: not a book snapshot with bids, asks and captured_at: {error}") from error
    n = len(sides)
    steps = np.zeros(n, dtype=STEP_DTYPE)
    steps["message"] = np.arange(n)
    steps["ts_ns"] = int(captured.timestamp()) * 1_000_000_000
    steps["type"] = e.LIMIT
    steps["side"] = [side for side, _ in sides]
    steps["price"] = prices
    steps["qty"] = lots
    steps["names"] = -1
    steps["account"] = 1 + np.arange(n) % ACCOUNTS
    steps["instrument"] = 1
    ids = np.arange(1, n + 1, dtype=np.uint64)
    return assemble(
        _name(path),
        "coinbase",
        path,
        Market((quote, base), (instrument,), ACCOUNTS),
        steps,
        ids,
        funding=worst_case_funding(steps, ACCOUNTS, _name(path)),
        teardown=build.cancel_all(instrument=1),
        names_of_ids=tuple(row[2] for _, row in sides),
        messages=n,
    )


LOADERS: Final[dict[str, Callable[[Path, int | None], Plan]]] = {
    "lobster": load_lobster,
    "bitstamp": load_bitstamp,
    "coinbase": load_coinbase,
}


def _from_commands(
    path: Path,
    limit: int | None,
    form: str,
    time_column: str,
    epoch_ns: int,
    unit_ns: int,
    assets: tuple[Asset, Asset],
    instrument: Instrument,
) -> Plan:
    file = path / "commands.csv.gz" if path.is_dir() else path
    table = read_table(file)
    column = {
        name: integers(table, name, file)[:limit] for name in ("seq", time_column, "order_id", "side", "price", "qty")
    }
    letters = np.array(table["cmd"][:limit], dtype="U1")
    known = np.isin(letters, list("NICR"))
    if not known.all():
        at = int(np.flatnonzero(~known)[0])
        raise RecordingError(f"{file}: line {at + 2}: command {table['cmd'][at]!r} is none of N, I, C, R")
    kind = np.select([letters == "N", letters == "I", letters == "C"], [NEW, NEW_UNNAMED, CANCEL], REDUCE)
    linked = link(kind, column["order_id"], column["price"], column["qty"])

    steps = np.zeros(len(letters), dtype=STEP_DTYPE)
    steps["message"] = np.arange(len(letters))
    # A capture's clock may step back; sequenced time never falls.
    steps["ts_ns"] = np.maximum.accumulate(column[time_column] * unit_ns + epoch_ns)
    new = kind <= NEW_UNNAMED
    steps["type"] = np.select([new, kind == CANCEL], [e.LIMIT, e.CANCEL], e.AMEND)
    steps["side"] = np.where(new & (column["side"] < 0), e.SELL, e.BUY)
    steps["tif"] = np.where(kind == NEW_UNNAMED, e.IOC, e.GTC)
    steps["price"] = np.where(kind == CANCEL, 0, linked.price)
    steps["qty"] = np.where(new, column["qty"], np.where(kind == REDUCE, linked.total, 0))
    steps["names"] = np.where(new, -1, linked.row)
    steps["account"] = accounts_in_turn(new, linked)
    steps["instrument"] = 1
    return assemble(
        _name(path),
        form,
        path,
        Market(assets, (instrument,), ACCOUNTS),
        steps,
        column["order_id"].astype(np.uint64),
        funding=worst_case_funding(steps, ACCOUNTS, _name(path)),
        resting=linked.peak,
        rows=column["seq"],
        messages=len(letters),
    )


def accounts_in_turn(new: np.ndarray, linked: Linked) -> np.ndarray:
    """Orders go to accounts 1 to ``ACCOUNTS`` in turn.

    A later message has its order's account, account 1 if it names none.
    """
    turn = 1 + (np.cumsum(new) - 1) % ACCOUNTS
    return np.where(linked.row >= 0, turn[linked.row], 1)


def _name(path: Path) -> str:
    return path.name if path.is_dir() else (path.parent.name or path.name)
