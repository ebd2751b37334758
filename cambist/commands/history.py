"""``cambist history``: orders, trades and statements of an account, as PostgreSQL has them, and how to connect to it."""

from __future__ import annotations

import argparse
import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from cambist.commands import Call, FailedError, UsageError
from gateway.control.names import NameBook
from persistence.postgres import reads, terms
from persistence.postgres.database import UNREACHABLE, connect, dsn_of, redacted

STATES: Final = {"LIVE": 1, "FILLED": 2, "EXPIRED": 3, "CANCELED": 4, "REJECTED": terms.ORDER_STATE_REJECTED}
SIDES: Final = ("BUY", "SELL")
TYPES: Final = {1: "LIMIT", 2: "MARKET", 3: "MARKET_AMOUNT"}
_AMOUNT_TYPE: Final = 3
LIQUIDITY: Final = {terms.MAKER: "maker", terms.TAKER: "taker"}
_NS: Final = 1_000_000_000
_END_NS: Final = (1 << 63) - 1
_E8: Final = -8


class Names(NamedTuple):
    """What numbers of the tables stand for."""

    assets: dict[int, tuple[str, int]]
    """Symbol and scale."""
    instruments: dict[int, Any]

    def amount(self, asset: int, units: int) -> str:
        """Decimal text of units."""
        return _plain(Decimal(units).scaleb(-self.assets[asset][1]))

    def price(self, instrument: int, ticks: int) -> str:
        """Decimal text of ticks; a dash for none."""
        return _plain((Decimal(ticks) * self.instruments[instrument]["tick_e8"]).scaleb(_E8)) if ticks else "-"

    def qty(self, instrument: int, lots: int) -> str:
        """Decimal text of lots."""
        row = self.instruments[instrument]
        return self.amount(row["base"], lots * row["lot_atoms"])

    def symbol(self, instrument: int) -> str:
        """Symbol of an instrument, or its number where it was never listed."""
        row = self.instruments.get(instrument)
        return str(row["symbol"]) if row else f"#{instrument}"


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``history``."""
    parser.add_argument(
        "what",
        choices=("orders", "trades", "statement", "dsn"),
        help="what to list; dsn: how to connect, password included",
    )
    parser.add_argument("--account", metavar="NAME|N", help="whose; trades of an instrument need none")
    parser.add_argument("--instrument", metavar="SYMBOL", help="of this instrument only")
    parser.add_argument("--asset", metavar="SYMBOL", help="statement: of this asset only")
    parser.add_argument("--state", metavar="STATE", help=f"orders: {', '.join(STATES)}")
    parser.add_argument(
        "--from", dest="from_time", metavar="TIME", help="from this time on, such as 2026-11-01T00:00:00"
    )
    parser.add_argument("--to", dest="to_time", metavar="TIME", help="before this time; all times are UTC")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="rows, the newest first (default 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, with the tables' own integers")


def run(name: str, call: Call) -> int:
    """Print the rows; 1 where the database cannot be reached."""
    if not 1 <= call.arguments.limit <= reads.PAGE_MAX:
        raise UsageError(f"--limit {call.arguments.limit}: 1 to {reads.PAGE_MAX}")
    if not call.config.postgres.enabled:
        raise UsageError("postgres.enabled = false: this home has no database to read")
    if not call.config.postgres.dsn and not call.home.path.is_dir():
        raise FailedError(f"{call.home.path}: there is no such home")
    dsn = dsn_of(call.home.path, call.config.postgres.dsn)
    if call.arguments.what == "dsn":
        print(dsn)
        return 0
    try:
        found, lines = asyncio.run(_ask(call, dsn))
    except (*UNREACHABLE, ValueError) as error:
        if isinstance(error, (UsageError, FailedError)):
            raise
        raise FailedError(f"{redacted(dsn)}: {error}; is the exchange up? `cambist status` says more") from error
    if call.arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(lines))
    return 0


async def _ask(call: Call, dsn: str) -> tuple[dict[str, Any], list[str]]:
    db = await connect(dsn, "history")
    try:
        names = Names(
            {row["asset"]: (row["symbol"], row["scale"]) for row in await db.fetch("SELECT * FROM assets")},
            {row["instrument"]: row for row in await db.fetch("SELECT * FROM instruments")},
        )
        list_of = {"orders": _orders, "trades": _trades, "statement": _statement}[call.arguments.what]
        rows, lines = await list_of(db, call, names)
    finally:
        await db.close()
    return {call.arguments.what: msgspec.to_builtins(rows)}, lines


async def _orders(db: Any, call: Call, names: Names) -> tuple[list[Any], list[str]]:
    arguments = call.arguments
    state = None
    if arguments.state:
        state = STATES.get(arguments.state.upper())
        if state is None:
            raise UsageError(f"--state {arguments.state}: one of {', '.join(STATES)}")
    rows = await reads.orders(
        db,
        _account(call),
        instrument=_instrument(call, names),
        state=state,
        from_ns=_time_ns(arguments.from_time, "--from"),
        to_ns=_time_ns(arguments.to_time, "--to"),
        limit=arguments.limit,
    )
    by_state = {number: text for text, number in STATES.items()}
    lines = [
        f"{'entered':<29} {'order':>16} {'symbol':<10} {'side':<4} {'type':<13} {'price':>14} {'qty':>16} {'filled':>16} state"
    ]
    for o in rows:
        known = o.instrument in names.instruments
        total = "-"
        if known:
            quote = names.instruments[o.instrument]["quote"]
            total = names.amount(quote, o.qty_lots) if o.type == _AMOUNT_TYPE else names.qty(o.instrument, o.qty_lots)
        lines.append(
            f"{_time(o.ts_ns):<29} {o.order_id:>16} {names.symbol(o.instrument):<10} {SIDES[o.side]:<4} {TYPES[o.type]:<13} "
            f"{names.price(o.instrument, o.price_ticks) if known else '-':>14} {total:>16} "
            f"{names.qty(o.instrument, o.cum_qty_lots) if known else '-':>16} {by_state[o.state]}"
        )
    return rows, lines


async def _trades(db: Any, call: Call, names: Names) -> tuple[list[Any], list[str]]:
    arguments = call.arguments
    period = {
        "from_ns": _time_ns(arguments.from_time, "--from"),
        "to_ns": _time_ns(arguments.to_time, "--to"),
        "limit": arguments.limit,
    }
    instrument = _instrument(call, names)
    head = f"{'at':<29} {'seq':>12} {'symbol':<10} {'side':<4} {'price':>14} {'qty':>16} {'value':>18}"
    if arguments.account is None:
        if instrument is None:
            raise UsageError("history trades: name --account, or --instrument")
        rows = await reads.trades(db, instrument, **period)
        return rows, [head, *(_trade_line(names, t, t.taker_side) for t in rows)]
    fills = await reads.fills(db, _account(call), instrument=instrument, **period)
    rules = await reads.fee_rules(db, {f.fee_rule for f in fills})
    lines = [
        f"{_trade_line(names, f, f.side)} {LIQUIDITY[f.liquidity]:<5} "
        f"{names.amount(f.fee_asset, f.fee_units):>14} {names.assets[f.fee_asset][0]:<6} {_rule(f, rules)}"
        for f in fills
    ]
    return fills, [f"{head} {'as':<5} {'fee':>14} {'':<6} priced by", *lines]


def _rule(fill: reads.Fill, rules: dict[int, reads.FeeRule]) -> str:
    """Which version of which schedule priced a fill, and at which tier."""
    rule = rules.get(fill.fee_rule)
    if rule is None:
        return "the instrument's rates"
    discount = ", API discount" if fill.fee_api else ""
    return f"schedule {rule.schedule}.{rule.version} tier {fill.fee_tier}{discount}"


def _trade_line(names: Names, trade: Any, side: int) -> str:
    quote = names.instruments[trade.instrument]["quote"]
    return (
        f"{_time(trade.ts_ns):<29} {trade.seq:>12} {names.symbol(trade.instrument):<10} {SIDES[side]:<4} "
        f"{names.price(trade.instrument, trade.price_ticks):>14} {names.qty(trade.instrument, trade.qty_lots):>16} "
        f"{names.amount(quote, trade.value_units):>18}"
    )


async def _statement(db: Any, call: Call, names: Names) -> tuple[list[Any], list[str]]:
    arguments = call.arguments
    account = _account(call)
    from_ns = _time_ns(arguments.from_time, "--from") or 0
    to_ns = _time_ns(arguments.to_time, "--to") or _END_NS
    assets = await reads.held_assets(db, account)
    if arguments.asset:
        assets = [number for number, (symbol, _) in names.assets.items() if symbol == arguments.asset]
        if not assets:
            raise UsageError(
                f"--asset {arguments.asset}: not listed here; there are {_known(s for s, _ in names.assets.values())}"
            )
    found, lines = [], []
    for asset in assets:
        one = await reads.statement(db, account, asset, from_ns, to_ns, limit=arguments.limit)
        found.append(one)

        def text(units: int, asset: int = asset) -> str:
            return names.amount(asset, units)

        lines.append(
            f"{names.assets[asset][0]}: opening free {text(one.opening_free_units)}, locked {text(one.opening_locked_units)}"
        )
        lines += [
            f"  {_time(p.ts_ns):<29} {p.seq:>12}.{p.idx}.{p.line} {terms.MOVEMENTS[p.movement]:<16} "
            f"{terms.BUCKETS[p.bucket]:<6} {text(p.amount_units):>24} {text(p.balance_units):>24}"
            for p in one.postings
        ]
        if one.cut:
            lines.append("  … more; --limit shows up to 1000, --from and --to choose a period")
        lines.append(f"  closing free {text(one.closing_free_units)}, locked {text(one.closing_locked_units)}")
    return found, lines or ["no postings"]


def _account(call: Call) -> int:
    text = call.arguments.account
    if text is None:
        raise UsageError(f"history {call.arguments.what}: name --account")
    number = int(text) if text.isdigit() else NameBook(call.home.path / "names.json").number(text)
    if number is None:
        raise UsageError(f"--account {text}: no account has this name in {call.home.path / 'names.json'}")
    return number


def _instrument(call: Call, names: Names) -> int | None:
    symbol = call.arguments.instrument
    if symbol is None:
        return None
    for number, row in names.instruments.items():
        if row["symbol"] == symbol:
            return number
    known = _known(row["symbol"] for row in names.instruments.values())
    raise UsageError(f"--instrument {symbol}: not listed here; there are {known}")


def _known(symbols: Any) -> str:
    return ", ".join(sorted(symbols)) or "none"


def _time_ns(text: str | None, option: str) -> int | None:
    """Nanoseconds of an ISO time; one without a zone is UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: must be a time such as 2026-11-01T00:00:00") from error
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def _time(ts_ns: int) -> str:
    seconds, rest = divmod(ts_ns, _NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}"


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
