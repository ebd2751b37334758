"""Order-flow files: reading, writing, and running them through the naive exchange.

`XFLOW001` drives one book, `XFLOW002` a whole spot exchange. Files may be gzipped. Everything is little endian and
packed.
"""

import gzip
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.naive.exchange import E8, InstrumentSpec, Message, NaiveExchange, Tif, Type

HEADER_1 = struct.Struct("<8sIIQQqqQQ")
RECORD_1 = struct.Struct("<QqqBBHI")
HEADER_2 = struct.Struct("<8sIIQQqqQQIIII")
ASSET_2 = struct.Struct("<16s")
INSTRUMENT_2 = struct.Struct("<16sIIqqqq")
RECORD_2 = struct.Struct("<QqqIHHBBBBI")
PRICED_TYPES = (Type.LIMIT, Type.MARKET_BY_QUANTITY, Type.MARKET_BY_AMOUNT, Type.AMEND)


class Message1(NamedTuple):
    """A record of `XFLOW001`; type 0 new GTC, 1 new IOC, 2 cancel, 3 move."""

    id: int
    price: int
    qty: int
    type: int
    side: int
    uid: int


@dataclass(slots=True)
class Xflow1:
    """A history of one book."""

    n_prefill: int
    seed: int
    messages: list[Message1]


@dataclass(slots=True)
class Xflow2:
    """A history of a spot exchange; accounts are numbered 1 to `accounts`."""

    n_prefill: int
    seed: int
    accounts: int
    assets: list[str]
    instruments: list[InstrumentSpec]
    messages: list[Message]


def read_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_xflow1(path: Path) -> Xflow1:
    data = read_bytes(path)
    magic, version, size, n_prefill, n_total, _, _, _, seed = HEADER_1.unpack_from(data)
    _expect(path, (magic, version, size), (b"XFLOW001", 1, RECORD_1.size))
    body = data[HEADER_1.size :]
    _expect(path, len(body), n_total * RECORD_1.size)
    return Xflow1(n_prefill, seed, [Message1(*fields[:6]) for fields in RECORD_1.iter_unpack(body)])


def write_xflow1(path: Path, flow: Xflow1) -> None:
    prices = [m.price for m in flow.messages]
    header = HEADER_1.pack(
        b"XFLOW001",
        1,
        RECORD_1.size,
        flow.n_prefill,
        len(flow.messages),
        min(prices, default=0),
        max(prices, default=0),
        max((m.id for m in flow.messages), default=0),
        flow.seed,
    )
    write_bytes(path, header + b"".join(RECORD_1.pack(*m, 0) for m in flow.messages))


def read_xflow2(path: Path) -> Xflow2:
    data = read_bytes(path)
    fields = HEADER_2.unpack_from(data)
    magic, version, size, n_prefill, n_total, _, _, _, seed, accounts, n_assets, n_instruments, _ = fields
    _expect(path, (magic, version, size), (b"XFLOW002", 2, RECORD_2.size))
    at = HEADER_2.size
    end = at + n_assets * ASSET_2.size
    assets = [_text(name) for (name,) in ASSET_2.iter_unpack(data[at:end])]
    at, end = end, end + n_instruments * INSTRUMENT_2.size
    instruments = [InstrumentSpec(_text(name), *rest) for name, *rest in INSTRUMENT_2.iter_unpack(data[at:end])]
    _expect(path, len(data) - end, n_total * RECORD_2.size)
    messages = [Message(*record[:10]) for record in RECORD_2.iter_unpack(data[end:])]
    return Xflow2(n_prefill, seed, accounts, assets, instruments, messages)


def write_xflow2(path: Path, flow: Xflow2) -> None:
    prices = [m.price for m in flow.messages if m.type in PRICED_TYPES]
    header = HEADER_2.pack(
        b"XFLOW002",
        2,
        RECORD_2.size,
        flow.n_prefill,
        len(flow.messages),
        min(prices, default=0),
        max(prices, default=0),
        max((m.id for m in flow.messages), default=0),
        flow.seed,
        flow.accounts,
        len(flow.assets),
        len(flow.instruments),
        0,
    )
    assets = b"".join(ASSET_2.pack(name.encode("ascii")) for name in flow.assets)
    instruments = b"".join(INSTRUMENT_2.pack(i.symbol.encode("ascii"), *i[1:7]) for i in flow.instruments)
    write_bytes(path, header + assets + instruments + b"".join(RECORD_2.pack(*m, 0) for m in flow.messages))


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode("ascii")


def _expect(path: Path, actual: object, expected: object) -> None:
    if actual != expected:
        raise ValueError(f"{path} is not the file that it should be: found {actual!r}, expected {expected!r}")


def tenths(n_total: int) -> list[int]:
    """Where the ten checkpoints of an expected-results file lie."""
    return sorted({n_total * tenth // 10 for tenth in range(1, 11)} - {0})


def header_in_words(flow: Xflow2) -> dict[str, Any]:
    return {
        "format": "XFLOW002",
        "seed": flow.seed,
        "n_prefill": flow.n_prefill,
        "n_total": len(flow.messages),
        "accounts": flow.accounts,
        "assets": flow.assets,
        "instruments": [
            {
                "symbol": i.symbol,
                "base": flow.assets[i.base - 1],
                "quote": flow.assets[i.quote - 1],
                "tick_e8": i.tick_e8,
                "lot_atoms": i.lot_atoms,
                "maker_rate_e8": i.maker_rate_e8,
                "taker_rate_e8": i.taker_rate_e8,
            }
            for i in flow.instruments
        ],
    }


def exchange_of(flow: Xflow2) -> NaiveExchange:
    """The empty exchange that a history starts from."""
    return NaiveExchange(flow.assets, flow.instruments, flow.accounts)


def run_xflow2(
    path: Path, limit: int | None = None, *, checkpoints_at: Iterable[int] | None = None, check: bool = False
) -> dict[str, Any]:
    """Run a history, or its first `limit` records, through the naive exchange.

    Returns the expected results of the format's section 7, without `profile`, which the file does not hold. Checkpoints
    lie at the tenths unless `checkpoints_at` names them. With `check`, conservation is checked after every message.
    """
    flow = read_xflow2(path)
    exchange = exchange_of(flow)
    wanted = set(tenths(len(flow.messages)) if checkpoints_at is None else checkpoints_at)
    checkpoints = {}
    for applied, message in enumerate(flow.messages[:limit], 1):
        exchange.apply(message)
        if check:
            exchange.check()
        if applied in wanted:
            checkpoints[str(applied)] = exchange.checkpoint()
    return header_in_words(flow) | exchange.results() | {"checkpoints": checkpoints, "detail": exchange.detail()}


def run_xflow1(path: Path, checkpoints_at: Iterable[int]) -> dict[str, dict[str, Any]]:
    """Run a one-book history through the naive exchange; returns the `checkpoints` of its expected results.

    Every account gets more money than the flow can use. A move always goes to the back of its level, which an amend to
    the same price would not: it is a cancel and a new order of the same id.
    """
    flow = read_xflow1(path)
    instrument = InstrumentSpec("FLOW", base=1, quote=2, tick_e8=E8, lot_atoms=1, maker_rate_e8=0, taker_rate_e8=0)
    n_accounts = 1 + max((m.uid for m in flow.messages), default=0)
    exchange = NaiveExchange(["BASE", "QUOTE"], [instrument], n_accounts)
    for account in range(1, n_accounts + 1):
        for asset in (1, 2):
            exchange.deposit(account, asset, (1 << 61) // n_accounts)
    wanted = set(checkpoints_at)
    checkpoints = {}
    for applied, m in enumerate(flow.messages, 1):
        account = m.uid + 1
        if m.type <= 1:
            exchange.limit(m.id, account, 1, m.side, m.price, m.qty, Tif.IOC if m.type == 1 else Tif.GTC)
        else:
            left = exchange.cancel(m.id, account, 1).y
            if m.type == 3:
                exchange.limit(m.id, account, 1, m.side, m.price, left)
        if applied in wanted:
            book = exchange.book(1)
            checkpoints[str(applied)] = {
                "trades": exchange.trades,
                "volume": exchange.volume,
                "turnover": exchange.turnover,
                "hash": str(exchange.trade_hash),
                **book,
            }
    exchange.check()
    return checkpoints
