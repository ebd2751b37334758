"""What gateways and operators read: orders, trades, statements and candles, a page at a time.

Each function takes an asyncpg connection or pool and numbers as the engine has them; all amounts are ticks, lots and
units. Lists of orders and trades come newest first. The next page begins ``before`` the last row of this one, wherever
rows have come in since: no page costs more than another. A time is sequenced time, ns UTC; ``from_ns`` is in the period, ``to_ns`` is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from persistence.postgres.klines import Kline
from persistence.postgres.terms import FREE, LOCKED, MAKER, TAKER

PAGE: Final = 100
PAGE_MAX: Final = 1000
LIVE: Final = 1
_END: Final = (1 << 63) - 1


class Order(msgspec.Struct, frozen=True):
    """An order as it is now; ``seq`` and ``ts_ns`` are those of its entry."""

    order_id: int
    seq: int
    ts_ns: int
    account: int
    instrument: int
    side: int
    type: int
    tif: int
    stp: int
    state: int
    reason: int
    source: int
    price_ticks: int
    qty_lots: int
    cum_qty_lots: int
    leaves_qty_lots: int
    value_units: int
    locked_units: int
    updated_seq: int
    updated_ts_ns: int
    link_id: int
    tag: int
    client_order_id: str | None


class OrderEvent(msgspec.Struct, frozen=True):
    """An outcome about an order, under its number (seq, idx)."""

    seq: int
    idx: int
    ts_ns: int
    order_id: int
    account: int
    instrument: int
    kind: int
    command: int
    side: int
    liquidity: int
    reason: int
    fee_asset: int
    price_ticks: int
    qty_lots: int
    cum_qty_lots: int
    leaves_qty_lots: int
    value_units: int
    fee_units: int
    contra_order_id: int


class Fill(msgspec.Struct, frozen=True):
    """One side of a trade, under the number of that side's outcome. ``liquidity``: 1 maker, 2 taker."""

    seq: int
    idx: int
    ts_ns: int
    instrument: int
    side: int
    liquidity: int
    price_ticks: int
    qty_lots: int
    value_units: int
    order_id: int
    fee_units: int
    fee_asset: int
    fee_rule: int
    """Row of ``fee_rules``; 0: the instrument's own rates."""
    fee_tier: int
    fee_api: int
    """1: with the API discount."""


class Trade(msgspec.Struct, frozen=True):
    """A trade with both sides, under the number of the taker's outcome."""

    seq: int
    idx: int
    ts_ns: int
    instrument: int
    taker_side: int
    price_ticks: int
    qty_lots: int
    value_units: int
    taker_order_id: int
    maker_order_id: int
    taker_account: int
    maker_account: int
    taker_fee_units: int
    maker_fee_units: int
    taker_fee_asset: int
    maker_fee_asset: int
    taker_fee_rule: int
    maker_fee_rule: int
    taker_fee_tier: int
    maker_fee_tier: int
    taker_fee_api: int
    maker_fee_api: int


class FeeRule(msgspec.Struct, frozen=True):
    """A version of a fee schedule: what the ``fee_rule`` of a fill names. Tiers are (least volume, maker, taker), rates in 1e-8."""

    rule: int
    schedule: int
    version: int
    effective_ts_ns: int
    api_discount_e8: int
    seq: int
    ts_ns: int
    tiers: tuple[tuple[int, int, int], ...]


class FeeAssignment(msgspec.Struct, frozen=True):
    """A scope (SCOPE_*) and the fee schedule that it has since a command."""

    scope: int
    account: int
    instrument: int
    firm: int
    schedule: int
    updated_seq: int


class ScopeLimits(msgspec.Struct, frozen=True):
    """Pre-trade limits of a scope (SCOPE_*) since a command, 0 = none."""

    scope: int
    account: int
    instrument: int
    firm: int
    qty_max_lots: int
    notional_max_units: int
    open_orders_max: int
    orders_per_s: int
    collar_e8: int
    killed: bool
    updated_seq: int


class AccountGroups(msgspec.Struct, frozen=True):
    """What an account belongs to: main account (0 = itself), firm (0 = none), self-trade group."""

    account: int
    state: int
    updated_seq: int
    master: int
    firm: int
    stp_group: int


class Revenue(msgspec.Struct, frozen=True):
    """What fills brought: ``kind`` of terms.REVENUES, by UTC day since 1970. Rebates are what was paid."""

    day: int
    instrument: int
    asset: int
    kind: int
    units: int
    fills: int


class Posting(msgspec.Struct, frozen=True):
    """One side of a movement of money; ``balance_units`` is the bucket's afterwards."""

    seq: int
    idx: int
    line: int
    movement: int
    ts_ns: int
    account: int
    asset: int
    bucket: int
    amount_units: int
    balance_units: int
    order_id: int


class Statement(msgspec.Struct, frozen=True):
    """An account's balance in one asset over a period. Opening and postings make closing, bucket by bucket, where nothing is ``cut``."""

    account: int
    asset: int
    opening_free_units: int
    opening_locked_units: int
    closing_free_units: int
    closing_locked_units: int
    postings: list[Posting]
    cut: bool
    """There are more postings than were asked for; the next ones are ``after`` the last one here."""


class Place(msgspec.Struct, frozen=True):
    """Where a page ended: time and number of its last row. For orders ``idx`` is 0."""

    ts_ns: int
    seq: int
    idx: int = 0
    line: int = 0


class _Query:
    """A statement with its arguments, put together from the filters that are given."""

    def __init__(self) -> None:
        self.arguments: list[Any] = []
        self.conditions: list[str] = []

    def argument(self, value: Any) -> str:
        """The place holder of a value."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def where(self, condition: str, *values: Any) -> None:
        """Add a condition; each {} is a value."""
        self.conditions.append(condition.format(*map(self.argument, values)))

    def period(self, from_ns: int | None, to_ns: int | None) -> None:
        """Limit the time."""
        if from_ns is not None:
            self.where("ts_ns >= {}", from_ns)
        if to_ns is not None:
            self.where("ts_ns < {}", to_ns)

    def text(self, select: str, order: str, limit: int) -> str:
        """The whole statement."""
        assert 1 <= limit <= PAGE_MAX, f"a page has 1 to {PAGE_MAX} rows"
        return f"{select} WHERE {' AND '.join(self.conditions)} ORDER BY {order} LIMIT {self.argument(limit)}"


def _names(kind: type[msgspec.Struct]) -> str:
    return ", ".join(kind.__struct_fields__)


async def orders(
    db: Any,
    account: int,
    *,
    instrument: int | None = None,
    state: int | None = None,
    from_ns: int | None = None,
    to_ns: int | None = None,
    before: Place | None = None,
    limit: int = PAGE,
) -> list[Order]:
    """Orders of an account by entry, newest first; of one instrument, in one state (ORDER_STATE_*, 5 = refused)."""
    query = orders_query(account, instrument, state, from_ns, to_ns, before, limit)
    return [Order(*row) for row in await db.fetch(*query)]


def orders_query(
    account: int,
    instrument: int | None,
    state: int | None,
    from_ns: int | None,
    to_ns: int | None,
    before: Place | None,
    limit: int,
) -> tuple[Any, ...]:
    """Statement and arguments of ``orders``."""
    query = _Query()
    query.where("account = {}", account)
    if instrument is not None:
        query.where("instrument = {}", instrument)
    if state == LIVE:
        # As a constant: live orders have an index of their own.
        query.where(f"state = {LIVE}")
    elif state is not None:
        query.where("state = {}", state)
    query.period(from_ns, to_ns)
    if before is not None:
        query.where("(ts_ns, seq) < ({}, {})", before.ts_ns, before.seq)
    text = query.text(f"SELECT {_names(Order)} FROM orders", "ts_ns DESC, seq DESC", limit)
    return (text, *query.arguments)


async def order(db: Any, order_id: int) -> tuple[Order, list[OrderEvent]] | None:
    """An order with all that happened to it, in order; None where there is none."""
    row = await db.fetchrow(f"SELECT {_names(Order)} FROM orders WHERE order_id = $1", order_id)
    if row is None:
        return None
    found = Order(*row)
    events = await db.fetch(
        f"SELECT {_names(OrderEvent)} FROM order_events WHERE order_id = $1 AND ts_ns >= $2 ORDER BY seq, idx",
        order_id,
        found.ts_ns,
    )
    return found, [OrderEvent(*event) for event in events]


async def order_of_client(db: Any, account: int, client_order_id: str, up_to_seq: int = _END) -> Order | None:
    """The newest order, refused ones too, that an account sent under its own id up to a command; None where there is none."""
    row = await db.fetchrow(*order_of_client_query(account, client_order_id, up_to_seq))
    return None if row is None else Order(*row)


def order_of_client_query(account: int, client_order_id: str, up_to_seq: int) -> tuple[Any, ...]:
    """Statement and arguments of ``order_of_client``."""
    query = _Query()
    query.where("account = {}", account)
    query.where("client_order_id = {}", client_order_id)
    query.where("seq <= {}", up_to_seq)
    return (query.text(f"SELECT {_names(Order)} FROM orders", "seq DESC", 1), *query.arguments)


async def fills(
    db: Any,
    account: int,
    *,
    instrument: int | None = None,
    from_ns: int | None = None,
    to_ns: int | None = None,
    before: Place | None = None,
    limit: int = PAGE,
) -> list[Fill]:
    """Trades of an account, newest first; one with itself has both of its sides."""
    return [Fill(*row) for row in await db.fetch(*fills_query(account, instrument, from_ns, to_ns, before, limit))]


def fills_query(
    account: int,
    instrument: int | None,
    from_ns: int | None,
    to_ns: int | None,
    before: Place | None,
    limit: int,
) -> tuple[Any, ...]:
    """Statement and arguments of ``fills``: the newest of either side, and of these the newest."""
    halves = []
    query = _Query()
    for side, index, liquidity, own_side in (
        ("taker", 0, TAKER, "taker_side"),
        ("maker", 1, MAKER, "(1 - taker_side)::smallint"),
    ):
        query.conditions = []
        query.where(f"{side}_account = {{}}", account)
        if instrument is not None:
            query.where("instrument = {}", instrument)
        query.period(from_ns, to_ns)
        if before is not None:
            query.where("ts_ns <= {}", before.ts_ns)
            query.where("(ts_ns, seq, idx) < ({}, {}, {})", before.ts_ns, before.seq, before.idx - index)
        columns = (
            f"seq, idx + {index} AS idx, ts_ns, instrument, {own_side} AS side, {liquidity} AS liquidity, price_ticks, "
            f"qty_lots, value_units, {side}_order_id AS order_id, {side}_fee_units AS fee_units, {side}_fee_asset AS fee_asset, "
            f"{side}_fee_rule AS fee_rule, {side}_fee_tier AS fee_tier, {side}_fee_api AS fee_api"
        )
        halves.append(
            query.text(f"(SELECT {columns} FROM trades", "ts_ns DESC, trades.seq DESC, trades.idx DESC", limit)
        )
    text = f"{') UNION ALL '.join(halves)}) ORDER BY ts_ns DESC, seq DESC, idx DESC LIMIT {query.argument(limit)}"
    return (text, *query.arguments)


async def trades(
    db: Any,
    instrument: int,
    *,
    from_ns: int | None = None,
    to_ns: int | None = None,
    before: Place | None = None,
    limit: int = PAGE,
) -> list[Trade]:
    """Trades of an instrument, newest first."""
    return [Trade(*row) for row in await db.fetch(*trades_query(instrument, from_ns, to_ns, before, limit))]


def trades_query(
    instrument: int, from_ns: int | None, to_ns: int | None, before: Place | None, limit: int
) -> tuple[Any, ...]:
    """Statement and arguments of ``trades``."""
    query = _Query()
    query.where("instrument = {}", instrument)
    query.period(from_ns, to_ns)
    if before is not None:
        query.where("ts_ns <= {}", before.ts_ns)
        query.where("(ts_ns, seq, idx) < ({}, {}, {})", before.ts_ns, before.seq, before.idx)
    text = query.text(f"SELECT {_names(Trade)} FROM trades", "ts_ns DESC, seq DESC, idx DESC", limit)
    return (text, *query.arguments)


async def statement(
    db: Any,
    account: int,
    asset: int,
    from_ns: int,
    to_ns: int,
    *,
    after: Place | None = None,
    limit: int = PAGE_MAX,
) -> Statement:
    """Opening balance, postings and closing balance of an account in an asset, oldest first.

    A page after the first opens with the balance behind the page before.
    """
    opening_free, opening_locked, closing_free, closing_locked = [
        await _balance(db, account, asset, bucket, before_ns, place)
        for before_ns, place in ((from_ns, after), (to_ns, None))
        for bucket in (FREE, LOCKED)
    ]
    rows = await db.fetch(*postings_query(account, asset, from_ns, to_ns, after, limit))
    found = [Posting(*row) for row in rows[:limit]]
    return Statement(
        account, asset, opening_free, opening_locked, closing_free, closing_locked, found, len(rows) > limit
    )


_PLACE: Final = "(ts_ns, seq, idx, line)"


async def _balance(db: Any, account: int, asset: int, bucket: int, before_ns: int, after: Place | None) -> int:
    """Balance of a bucket before a time, or right behind a posting."""
    query = _Query()
    query.where("account = {} AND asset = {} AND bucket = {}", account, asset, bucket)
    if after is None:
        query.where("ts_ns < {}", before_ns)
    else:
        query.where("ts_ns <= {}", after.ts_ns)
        query.where(f"{_PLACE} <= ({{}}, {{}}, {{}}, {{}})", after.ts_ns, after.seq, after.idx, after.line)
    order = "ts_ns DESC, seq DESC, idx DESC, line DESC"
    text = query.text("SELECT balance_units FROM postings", order, 1)
    return int(await db.fetchval(text, *query.arguments) or 0)


def postings_query(
    account: int, asset: int, from_ns: int, to_ns: int, after: Place | None, limit: int
) -> tuple[Any, ...]:
    """Statement and arguments of the postings of ``statement``, and one more: the first of either bucket, and of these the first."""
    query = _Query()
    halves = []
    for bucket in (FREE, LOCKED):
        query.conditions = []
        query.where(f"account = {{}} AND asset = {{}} AND bucket = {bucket}", account, asset)
        query.period(from_ns, to_ns)
        if after is not None:
            query.where("ts_ns >= {}", after.ts_ns)
            query.where(f"{_PLACE} > ({{}}, {{}}, {{}}, {{}})", after.ts_ns, after.seq, after.idx, after.line)
        assert 1 <= limit <= PAGE_MAX, f"a page has 1 to {PAGE_MAX} rows"
        conditions = " AND ".join(query.conditions)
        halves.append(
            f"(SELECT {_names(Posting)} FROM postings WHERE {conditions} ORDER BY ts_ns, seq, idx, line "
            f"LIMIT {query.argument(limit + 1)}"
        )
    text = f"{') UNION ALL '.join(halves)}) ORDER BY ts_ns, seq, idx, line LIMIT {query.argument(limit + 1)}"
    return (text, *query.arguments)


async def klines(
    db: Any,
    instrument: int,
    interval_s: int,
    *,
    from_ns: int | None = None,
    to_ns: int | None = None,
    limit: int = PAGE,
) -> list[Kline]:
    """Candles of an instrument by the time at which they open, oldest first; of more than ``limit`` the newest."""
    query = _Query()
    query.where("instrument = {}", instrument)
    query.where("interval_s = {}", interval_s)
    if from_ns is not None:
        query.where("open_ts_ns >= {}", from_ns)
    if to_ns is not None:
        query.where("open_ts_ns < {}", to_ns)
    text = query.text(f"SELECT {_names(Kline)} FROM klines", "open_ts_ns DESC", limit)
    rows = [list(row) for row in await db.fetch(text, *query.arguments)]
    places = [Kline.__struct_fields__.index(name) for name in ("volume_lots", "turnover_units")]
    for row in rows:
        for place in places:
            row[place] = int(row[place])
    return [Kline(*row) for row in reversed(rows)]


async def held_assets(db: Any, account: int) -> list[int]:
    """Assets that an account has ever had any of."""
    return [row[0] for row in await db.fetch("SELECT asset FROM balances WHERE account = $1 ORDER BY asset", account)]


async def fee_rules(db: Any, rules: Iterable[int] | None = None) -> dict[int, FeeRule]:
    """Versions of fee schedules by rule, those that fills name or all; rule 0 has no row."""
    chosen = None if rules is None else sorted(set(rules))
    where = "($1::integer[] IS NULL OR rule = ANY($1))"
    tiers: dict[int, list[tuple[int, int, int]]] = {}
    for row in await db.fetch(f"SELECT * FROM fee_tiers WHERE {where} ORDER BY rule, tier", chosen):
        tiers.setdefault(row["rule"], []).append((row["min_volume_units"], row["maker_e8"], row["taker_e8"]))
    rows = await db.fetch(f"SELECT * FROM fee_versions WHERE {where} ORDER BY rule", chosen)
    return {row["rule"]: FeeRule(**row, tiers=tuple(tiers[row["rule"]])) for row in rows}


async def fee_assignments(db: Any) -> list[FeeAssignment]:
    """Who has which fee schedule now."""
    text = f"SELECT {_names(FeeAssignment)} FROM fee_assignments WHERE schedule > 0 ORDER BY scope, account, instrument, firm"
    return [FeeAssignment(*row) for row in await db.fetch(text)]


async def limits(db: Any) -> list[ScopeLimits]:
    """Every scope that ever had limits or a kill switch, as it is now."""
    text = f"SELECT {_names(ScopeLimits)} FROM limits ORDER BY scope, account, instrument, firm"
    return [ScopeLimits(*row) for row in await db.fetch(text)]


async def groups(db: Any, account: int) -> AccountGroups | None:
    """What an account belongs to; None where there is none of this number."""
    row = await db.fetchrow(f"SELECT {_names(AccountGroups)} FROM accounts WHERE account = $1", account)
    return None if row is None else AccountGroups(*row)


async def revenue(db: Any, *, from_day: int = 0, to_day: int = 1 << 30, instrument: int | None = None) -> list[Revenue]:
    """Revenue by day, instrument, asset and kind; ``to_day`` is not in the period."""
    query = _Query()
    query.where("day >= {} AND day < {}", from_day, to_day)
    if instrument is not None:
        query.where("instrument = {}", instrument)
    text = f"SELECT {_names(Revenue)} FROM revenue WHERE {' AND '.join(query.conditions)} ORDER BY day, instrument, asset, kind"
    rows = await db.fetch(text, *query.arguments)
    return [
        Revenue(row["day"], row["instrument"], row["asset"], row["kind"], int(row["units"]), row["fills"])
        for row in rows
    ]
