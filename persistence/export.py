"""Commands of a journal as rows with typed columns, written to Parquet or CSV a batch at a time.

One row a command; the slots of a group (client order id, who and why, listing) are columns of its row. Prices and quantities stand as
ticks and lots, which are exact, and as decimal text of the instrument. What a command does not have is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from persistence.commands import MONEY, ORDERS, SIDES, STPS, TIFS, source_name, type_name
from persistence.listings import Listings
from protocol import enums as e
from protocol.build import heads
from protocol.records import EXT_ADMIN_SLOT, EXT_IDS_SLOT

Format = Literal["parquet", "csv"]
ROW_GROUP_ROWS: Final = 1 << 16

_NAME: Final = pa.dictionary(pa.int32(), pa.string())
SCHEMA: Final = pa.schema(
    [
        ("seq", pa.int64()),
        ("slots", pa.int16()),
        ("ts_ns", pa.int64()),
        ("time", pa.timestamp("ns", tz="UTC")),
        ("type", _NAME),
        ("account", pa.int32()),
        ("instrument", pa.int32()),
        ("symbol", _NAME),
        ("order_id", pa.int64()),
        ("side", _NAME),
        ("tif", _NAME),
        ("stp", _NAME),
        ("price_ticks", pa.int64()),
        ("price", pa.string()),
        ("qty_lots", pa.int64()),
        ("qty", pa.string()),
        ("asset", _NAME),
        ("amount_units", pa.int64()),
        ("amount", pa.string()),
        ("client_order_id", pa.string()),
        ("link_id", pa.int64()),
        ("tag", pa.int64()),
        ("operator", pa.string()),
        ("why", pa.string()),
        ("source", _NAME),
        ("source_seq", pa.int64()),
        ("session", pa.int32()),
        ("flags", pa.int64()),
        ("entry_ts_ns", pa.int64()),
        ("timer", pa.int32()),
        ("value_1", pa.int64()),
        ("value_2", pa.int64()),
    ]
)
"""``value_1`` and ``value_2`` are the two numbers of SET_FEES (maker and taker rate in 1e-8) and SET_TIMER (period and phase in ns)."""
_CSV_SCHEMA: Final = pa.schema([(field.name, pa.string() if field.type == _NAME else field.type) for field in SCHEMA])

_PRICED: Final = (*ORDERS, e.AMEND)
_IN_LOTS: Final = (e.LIMIT, e.MARKET, e.AMEND)
_TWO_NUMBERS: Final = (e.SET_FEES, e.SET_TIMER)


def export(batches: Iterable[np.ndarray], listings: Listings, path: Path, form: Format) -> int:
    """Write the commands of whole groups of slots (COMMAND_DTYPE, in order) to ``path``; how many there were.

    ``listings`` is what is listed before them. Memory stays that of one row group, however long the journal. The file appears under its
    name when it is whole. OSError where it cannot be written.
    """
    scratch = path.with_name(f".{path.name}.part")
    count = 0
    try:
        with _writer(scratch, form) as writer:
            gathered: list[np.ndarray] = []
            rows = 0
            for slots in batches:
                gathered.append(slots)
                rows += len(slots)
                if rows >= ROW_GROUP_ROWS:
                    count += _write(writer, gathered, listings)
                    gathered, rows = [], 0
            if gathered or count == 0:
                count += _write(writer, gathered, listings)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return count


def _writer(path: Path, form: Format) -> Any:
    if form == "parquet":
        return pa_parquet.ParquetWriter(path, SCHEMA, compression="zstd", version="2.6")
    return pa_csv.CSVWriter(path, _CSV_SCHEMA)


def _write(writer: Any, parts: list[np.ndarray], listings: Listings) -> int:
    slots = np.concatenate(parts) if parts else None
    table = rows_of(slots, listings) if slots is not None else SCHEMA.empty_table()
    if isinstance(writer, pa_csv.CSVWriter):
        writer.write_table(table.cast(_CSV_SCHEMA))
    else:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    return int(table.num_rows)


def rows_of(slots: np.ndarray, listings: Listings) -> pa.Table:
    """The commands of whole groups as a table of SCHEMA; ``listings`` is moved on by them."""
    listings.observe(slots)
    at = np.flatnonzero(heads(slots))
    head = slots[at]
    sizes = np.diff(np.append(at, len(slots)))
    kind = head["type"]
    priced, lots = np.isin(kind, _PRICED) & (head["price_ticks"] != 0), np.isin(kind, _IN_LOTS)
    money, sided = np.isin(kind, MONEY), np.isin(kind, ORDERS)
    by_amount, two = kind == e.MARKET_AMOUNT, np.isin(kind, _TWO_NUMBERS)
    timer = np.isin(kind, (e.SET_TIMER, e.TICK, e.EXPIRE))
    units = money | by_amount
    instruments, assets = listings.instruments, listings.assets
    limit = kind == e.LIMIT
    columns: dict[str, Any] = {
        "seq": pa.array(head["seq"]),
        "slots": pa.array(sizes.astype(np.int16)),
        "ts_ns": pa.array(head["ts_ns"]),
        "time": pa.array(head["ts_ns"]).cast(pa.timestamp("ns", tz="UTC")),
        "type": _names(kind, type_name),
        "account": _numbers(head["account"], head["account"] != 0),
        "instrument": _numbers(head["instrument"], head["instrument"] != 0),
        "symbol": _names(head["instrument"], listings.symbol, head["instrument"] != 0),
        "order_id": _numbers(head["order_id"], head["order_id"] != 0),
        "side": _names(head["side"], lambda side: SIDES.get(side, str(side)), sided),
        "tif": _names(head["tif"], lambda tif: TIFS.get(tif, str(tif)), limit),
        "stp": _names(head["stp"], lambda stp: STPS.get(stp, str(stp)), sided),
        "price_ticks": _numbers(head["price_ticks"], priced),
        "price": _decimals(
            head["instrument"], head["price_ticks"], priced, lambda n, x: instruments[n].price(x), instruments
        ),
        "qty_lots": _numbers(head["qty_lots"], lots),
        "qty": _decimals(head["instrument"], head["qty_lots"], lots, lambda n, x: instruments[n].qty(x), instruments),
        "asset": _names(head["asset"], lambda n: assets[n].symbol if n in assets else str(n), head["asset"] != 0),
        "amount_units": _numbers(head["qty_lots"], units),
        "amount": _amounts(head, money, by_amount, listings),
        "source": _names(head["source"], source_name),
        "source_seq": pa.array(head["source_seq"]),
        "session": pa.array(head["session"].astype(np.int32)),
        "flags": pa.array((head["flags"] & ~np.uint32(e.FLAG_MORE)).astype(np.int64)),
        "entry_ts_ns": _numbers(head["entry_ts_ns"], head["entry_ts_ns"] != 0),
        "timer": _numbers(head["timer"], timer),
        "value_1": _numbers(head["price_ticks"], two),
        "value_2": _numbers(head["qty_lots"], two),
    }
    columns |= _later(slots, at, len(head))
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def _numbers(values: np.ndarray, there: np.ndarray) -> pa.Array:
    return pa.array(values, mask=~there)


def _names(numbers: np.ndarray, name: Callable[[int], str], there: np.ndarray | None = None) -> pa.Array:
    different, which = np.unique(numbers, return_inverse=True)
    indices = pa.array(which.astype(np.int32), mask=None if there is None else ~there)
    texts = pa.array([name(int(number)) for number in different], type=pa.string())
    return pa.DictionaryArray.from_arrays(indices, texts)


def _decimals(
    owners: np.ndarray, values: np.ndarray, there: np.ndarray, text: Callable[[int, int], str], known: dict[int, Any]
) -> pa.Array:
    """Decimal texts of values whose scale hangs on their owner; null where the owner is not listed."""
    out = np.full(len(values), None, dtype=object)
    for owner in np.unique(owners[there]).tolist():
        if owner in known:
            rows = there & (owners == owner)
            different, which = np.unique(values[rows], return_inverse=True)
            out[rows] = np.array([text(owner, int(value)) for value in different], dtype=object)[which]
    return pa.array(out, type=pa.string())


def _amounts(head: np.ndarray, money: np.ndarray, by_amount: np.ndarray, listings: Listings) -> pa.Array:
    quotes = {number: instrument.quote.index for number, instrument in listings.instruments.items()}
    owner = head["asset"].astype(np.int64)
    for number, quote in quotes.items():
        owner[by_amount & (head["instrument"] == number)] = quote
    assets = listings.assets
    return _decimals(owner, head["qty_lots"], money | by_amount, lambda n, x: assets[n].amount(x), assets)


def _later(slots: np.ndarray, at: np.ndarray, count: int) -> dict[str, pa.Array]:
    """Columns of the later slots of groups."""
    texts: dict[str, np.ndarray] = {
        name: np.full(count, None, dtype=object) for name in ("client_order_id", "operator", "why")
    }
    numbers = {name: np.zeros(count, dtype=np.int64) for name in ("link_id", "tag")}
    ids = np.flatnonzero(slots["type"] == e.EXT_IDS)
    rows = np.searchsorted(at, ids, side="right") - 1
    views = slots.view(EXT_IDS_SLOT.slot_dtype)[ids]
    texts["client_order_id"][rows] = [
        text.decode("utf-8", "replace") or None for text in views["client_order_id"].tolist()
    ]
    for name, column in numbers.items():
        column[rows] = views[name]
    admin = np.flatnonzero(slots["type"] == e.EXT_ADMIN)
    rows = np.searchsorted(at, admin, side="right") - 1
    by = slots.view(EXT_ADMIN_SLOT.slot_dtype)[admin]
    texts["operator"][rows] = [text.decode("utf-8", "replace") for text in by["operator"].tolist()]
    texts["why"][rows] = [text.decode("utf-8", "replace") for text in by["reason"].tolist()]
    return {name: pa.array(column, type=pa.string()) for name, column in texts.items()} | {
        name: _numbers(column, column != 0) for name, column in numbers.items()
    }
