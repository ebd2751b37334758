"""``XFLOW001`` (one book) and ``XFLOW002`` (whole spot histories) files.

Layouts and rules: the flow format pages of the reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from cambist.replay.convert import (
    CANCEL,
    MOVE,
    NEW,
    NEW_UNNAMED,
    STEP_DTYPE,
    Market,
    assemble,
    link,
    single_market,
    worst_case_funding,
)
from cambist.replay.plan import Plan, RecordingError, read_bytes
from protocol import enums as e
from protocol.instruments import Asset, Instrument, ListingError

START_TS_NS: Final = 1_577_836_800_000_000_000
STEP_TS_NS: Final = 1_000
"""These files have no times: message n is sequenced n microseconds after 2020-01-01 UTC."""

HEADER_1: Final = np.dtype(
    [("magic", "S8"), ("version", "<u4"), ("record", "<u4"), ("n_prefill", "<u8"), ("n_total", "<u8"),
     ("price_min", "<i8"), ("price_max", "<i8"), ("max_id", "<u8"), ("seed", "<u8")]
)  # fmt: skip
RECORD_1: Final = np.dtype(
    [("id", "<u8"), ("price", "<i8"), ("qty", "<i8"), ("type", "u1"), ("side", "u1"), ("uid", "<u2"), ("zero", "<u4")]
)
HEADER_2: Final = np.dtype(
    [*HEADER_1.descr, ("accounts", "<u4"), ("assets", "<u4"), ("instruments", "<u4"), ("zero", "<u4")]
)
INSTRUMENT_2: Final = np.dtype(
    [("symbol", "S16"), ("base", "<u4"), ("quote", "<u4"), ("tick_e8", "<i8"), ("lot_atoms", "<i8"),
     ("maker_rate_e8", "<i8"), ("taker_rate_e8", "<i8")]
)  # fmt: skip
RECORD_2: Final = np.dtype(
    [("id", "<u8"), ("price", "<i8"), ("qty", "<i8"), ("account", "<u4"), ("instrument", "<u2"), ("asset", "<u2"),
     ("type", "u1"), ("side", "u1"), ("tif", "u1"), ("stp", "u1"), ("zero", "<u4")]
)  # fmt: skip
assert (HEADER_1.itemsize, RECORD_1.itemsize, HEADER_2.itemsize, INSTRUMENT_2.itemsize, RECORD_2.itemsize) == (
    64, 32, 80, 56, 40,
)  # fmt: skip

TYPES_2: Final = np.array(
    [e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.CANCEL, e.CANCEL_ALL, e.AMEND, e.DEPOSIT, e.WITHDRAW_HOLD, e.WITHDRAW_SETTLE,
     e.WITHDRAW_RELEASE, e.SET_FEES, e.FREEZE, e.UNFREEZE, e.HALT, e.RESUME],
    dtype=np.uint8,
)  # fmt: skip
"""Command type of each type of ``XFLOW002``."""

# Which fields count for which type (section 1 of the format); the others are never checked and are left out.
_ACCOUNT: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12)
_INSTRUMENT: Final = (0, 1, 2, 3, 4, 5, 10, 13, 14)
_ASSET: Final = (6, 7)
_PRICE: Final = (0, 1, 2, 5, 10)
_QTY: Final = (0, 1, 2, 5, 6, 7, 10)
_ORDER: Final = (0, 1, 2)
_BRINGS: Final = (0, 1, 2, 7)
_NAMES: Final = (3, 5, 8, 9)


def load(path: Path, limit: int | None) -> Plan:
    """Read either file, plain or gzip."""
    data = read_bytes(path)
    magic = data[:8]
    if magic == b"XFLOW001":
        return _load_1(path, data, limit)
    if magic == b"XFLOW002":
        return _load_2(path, data, limit)
    raise RecordingError(f"{path}: starts with {magic!r}, neither XFLOW001 nor XFLOW002")


def stem(path: Path) -> str:
    """Name of the file without ``.bin`` and ``.gz``."""
    return path.name.removesuffix(".gz").removesuffix(".bin")


def _records(
    path: Path, data: bytes, header: np.void, dtype: np.dtype, version: int, offset: int, limit: int | None
) -> np.ndarray:
    if (int(header["version"]), int(header["record"])) != (version, dtype.itemsize):
        raise RecordingError(
            f"{path}: version {header['version']} with records of {header['record']} bytes; "
            f"known is version {version} with {dtype.itemsize}"
        )
    total = int(header["n_total"])
    held = max(0, len(data) - offset) // dtype.itemsize
    if held < total:
        raise RecordingError(f"{path}: its header says {total:,} records, the file holds {held:,}: it is cut off")
    return np.frombuffer(data, dtype=dtype, count=total if limit is None else min(limit, total), offset=offset)


def _header(path: Path, data: bytes, dtype: np.dtype) -> np.void:
    if len(data) < dtype.itemsize:
        raise RecordingError(f"{path}: cut off within its header, {len(data)} of {dtype.itemsize} bytes")
    return np.frombuffer(data, dtype=dtype, count=1)[0]


def _check_types(path: Path, types: np.ndarray, known: int) -> None:
    if len(types) and types.max() >= known:
        at = int(np.argmax(types >= known))
        raise RecordingError(f"{path}: record {at + 1} has type {types[at]}, known are 0 to {known - 1}")


def _times(count: int) -> np.ndarray:
    return START_TS_NS + STEP_TS_NS * np.arange(count, dtype=np.int64)


def _load_1(path: Path, data: bytes, limit: int | None) -> Plan:
    header = _header(path, data, HEADER_1)
    records = _records(path, data, header, RECORD_1, 1, HEADER_1.itemsize, limit)
    _check_types(path, records["type"], 4)
    kind = np.array([NEW, NEW_UNNAMED, CANCEL, MOVE])[records["type"]]
    linked = link(kind, records["id"], records["price"], records["qty"])
    accounts = int(records["uid"].max()) + 1 if len(records) else 1

    # A move to the price at which the order stands already puts it at the back of its level. An amend that changes
    # nothing is refused, so that it becomes two: one lot more, which costs the place, and that lot less, which keeps
    # the new one.
    twice = linked.same_price & (linked.row >= 0)
    sizes = np.where(twice, 2, 1)
    source = np.repeat(np.arange(len(records)), sizes)
    at = np.cumsum(sizes) - sizes
    steps = np.zeros(len(source), dtype=STEP_DTYPE)
    steps["message"] = source
    steps["ts_ns"] = _times(len(records))[source]
    new = kind <= NEW_UNNAMED
    steps["type"] = np.select([new, kind == CANCEL], [e.LIMIT, e.CANCEL], e.AMEND)[source]
    steps["side"] = np.where(new, records["side"], 0)[source]
    steps["tif"] = np.where(kind == NEW_UNNAMED, e.IOC, e.GTC)[source]
    steps["price"] = np.where(kind == CANCEL, 0, linked.price)[source]
    steps["qty"] = np.where(new, records["qty"], np.where(kind == MOVE, linked.total, 0))[source]
    steps["qty"][at[twice]] += 1
    named = ~new & (linked.row >= 0)
    steps["names"] = np.where(named, at[linked.row], -1)[source]
    uid = records["uid"].astype(np.int32) + 1
    steps["account"] = np.where(linked.row >= 0, uid[linked.row], uid)[source]
    steps["instrument"] = 1

    quote, base, instrument = single_market("FLOW", "BASE", "QUOTE", tick_e8=100_000_000, base_scale=0, quote_scale=0)
    return assemble(
        stem(path),
        "xflow001",
        path,
        Market((quote, base), (instrument,), accounts),
        steps,
        records["id"][source],
        funding=worst_case_funding(steps, accounts, stem(path)),
        resting=linked.peak,
        messages=len(records),
    )


def _tables_2(path: Path, data: bytes, header: np.void) -> tuple[tuple[Asset, ...], tuple[Instrument, ...], int]:
    n_assets, n_instruments = int(header["assets"]), int(header["instruments"])
    offset = HEADER_2.itemsize + 16 * n_assets
    end = offset + INSTRUMENT_2.itemsize * n_instruments
    if len(data) < end:
        raise RecordingError(f"{path}: cut off within its tables of {n_assets} assets and {n_instruments} instruments")
    names = np.frombuffer(data, dtype="S16", count=n_assets, offset=HEADER_2.itemsize)
    assets = tuple(Asset(i, name.decode("ascii", "replace")) for i, name in enumerate(names.tolist(), 1))
    instruments = []
    for i, row in enumerate(np.frombuffer(data, dtype=INSTRUMENT_2, count=n_instruments, offset=offset), 1):
        base, quote = int(row["base"]), int(row["quote"])
        if not (1 <= base <= n_assets and 1 <= quote <= n_assets):
            raise RecordingError(f"{path}: instrument {i} trades assets {base} and {quote}, there are {n_assets}")
        instrument = Instrument(
            i,
            row["symbol"].decode("ascii", "replace"),
            assets[base - 1],
            assets[quote - 1],
            int(row["tick_e8"]),
            int(row["lot_atoms"]),
            int(row["maker_rate_e8"]),
            int(row["taker_rate_e8"]),
        )
        try:
            instrument.check()
        except ListingError as error:
            raise RecordingError(f"{path}: instrument {i}: {error}") from error
        instruments.append(instrument)
    return assets, tuple(instruments), end


def _load_2(path: Path, data: bytes, limit: int | None) -> Plan:
    header = _header(path, data, HEADER_2)
    assets, instruments, offset = _tables_2(path, data, header)
    records = _records(path, data, header, RECORD_2, 2, offset, limit)
    kind = records["type"].astype(np.int64)
    _check_types(path, kind, len(TYPES_2))
    accounts = int(header["accounts"])
    brings = np.isin(kind, _BRINGS)
    linked = link(np.where(brings, NEW, CANCEL), records["id"], records["price"], records["qty"])

    def counts(types: tuple[int, ...], values: np.ndarray) -> np.ndarray:
        return np.where(np.isin(kind, types), values, 0)

    def number(field: str, known: int) -> np.ndarray:
        # A number outside the tables stays outside, and fits the slot.
        return np.minimum(records[field], known + 1).astype(np.int64)

    steps = np.zeros(len(records), dtype=STEP_DTYPE)
    steps["message"] = np.arange(len(records))
    steps["ts_ns"] = _times(len(records))
    steps["type"] = TYPES_2[kind]
    steps["side"] = counts(_ORDER, records["side"])
    steps["stp"] = counts(_ORDER, records["stp"])
    steps["tif"] = counts((0,), records["tif"])
    steps["account"] = counts(_ACCOUNT, number("account", accounts))
    steps["instrument"] = counts(_INSTRUMENT, number("instrument", len(instruments)))
    steps["asset"] = counts(_ASSET, number("asset", len(assets)))
    steps["price"] = counts(_PRICE, records["price"])
    # A market order's price 0 would mean "from the price band" here; in the file it is a bad price like any other below
    # 1.
    steps["price"][np.isin(kind, (1, 2)) & (records["price"] == 0)] = -1
    steps["qty"] = counts(_QTY, records["qty"])
    steps["names"] = np.where(np.isin(kind, _NAMES), linked.row, -1)
    return assemble(
        stem(path),
        "xflow002",
        path,
        Market(assets, instruments, accounts),
        steps,
        records["id"],
        messages=len(records),
    )
