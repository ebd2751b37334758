"""What the control gateway reads of the engine: rows of risk's tables, each with the command that last changed it.

A row is a consistent copy (sequence lock), and its ``seq`` is the last command that it contains: an answer made of it
leaves when the journal is durable up to that seq. For lists, ``seq`` must also cover what is *absent*: the settled
cursor, read after the rows.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from gateway.access.groups import Groups
from protocol.instruments import Asset, Instrument


class AssetRow(NamedTuple):
    """A listed asset."""

    asset: Asset
    seq: int


class InstrumentRow(NamedTuple):
    """A listed instrument. ``status`` is INSTRUMENT_*; ``last_price_ticks`` is 0 before the first trade.

    ``interruptions``: dynamic band in 1e-8, length and random part of an interruption's auction in ns, extensions.
    Of an auction: ``auction_end_ts_ns`` 0 = another command ends it, ``indicative_ticks`` 0 = nothing meets.
    """

    instrument: Instrument
    status: int
    last_price_ticks: int
    seq: int
    interruptions: tuple[int, int, int, int] = (0, 0, 0, 0)
    auction_end_ts_ns: int = 0
    indicative_ticks: int = 0


class AccountRow(NamedTuple):
    """An account. ``status`` is ACCOUNT_*."""

    account: int
    status: int
    seq: int


class Balance(NamedTuple):
    """One asset of one account, in units of the asset."""

    free_units: int
    locked_units: int
    seq: int


class OpenOrder(NamedTuple):
    """An order that rests or waits. ``side`` is BUY or SELL, ``tif`` is GTC or POST_ONLY; quantities in lots."""

    order_id: int
    account: int
    instrument: int
    side: int
    tif: int
    price_ticks: int
    qty_lots: int
    cum_qty_lots: int
    leaves_qty_lots: int
    client_order_id: str
    entry_ts_ns: int
    shown_lots: int
    """What the book shows of it."""
    expiry_ts_ns: int
    """0 = never."""
    waits: bool
    """For a price; it is in no book yet."""
    pegged_ticks: int = 0
    """Where a pegged order stands, its price being its limit; 0 = it follows no price."""


class Level(NamedTuple):
    """A price level: sum of what is left of its orders, and their number."""

    price_ticks: int
    qty_lots: int
    orders: int


class FeeVersion(NamedTuple):
    """A version of a fee schedule. ``state`` is "in force", "planned" or "past"; tiers are (least units, maker e8, taker e8)."""

    rule: int
    schedule: int
    version: int
    effective_ts_ns: int
    api_discount_e8: int
    state: str
    tiers: list[tuple[int, int, int]]


class Assigned(NamedTuple):
    """A scope (SCOPE_*) and its fee schedule."""

    scope: int
    account: int
    instrument: int
    firm: int
    schedule: int


class FeeTables(NamedTuple):
    """Fees as they are set, and what they brought: ``revenue`` in units by asset number and type, ``volume_rates`` in 1e-8."""

    versions: list[FeeVersion]
    assigned: list[Assigned]
    volume_rates: dict[int, int]
    revenue: dict[int, dict[str, int]]
    seq: int


class Volume(NamedTuple):
    """30-day volume of a master, in units of the volume asset, as of the day (days since 1970) of its last look."""

    units: int
    day: int


class LimitRow(NamedTuple):
    """Limits of a scope (SCOPE_*), 0 = none. Of a user the account is the master's."""

    scope: int
    account: int
    instrument: int
    firm: int
    qty_max_lots: int
    notional_max_units: int
    open_orders_max: int
    orders_per_s: int
    collar_e8: int
    open_orders: int
    killed: bool


class EngineView(Protocol):
    """The engine's tables of one epoch, for reading."""

    def assets(self) -> list[AssetRow]:
        """All listed assets."""

    def instruments(self) -> list[InstrumentRow]:
        """All listed instruments."""

    def venue_state(self) -> int:
        """VENUE_*."""

    def account(self, account: int) -> AccountRow:
        """Give the account's row; ``status`` is ACCOUNT_NONE where there is none. 1 <= account <= accounts_max."""

    def accounts(self) -> list[AccountRow]:
        """All accounts that were created, by number."""

    def balances(self, account: int) -> dict[int, Balance]:
        """Balances of an account by asset number: every listed asset that the account ever held."""

    def open_orders(self, account: int | None, instrument: int | None) -> tuple[list[OpenOrder], int]:
        """Resting orders of the account and on the instrument (None = any), by order id; and the seq of the list."""

    def book(self, instrument: int, levels: int) -> tuple[list[Level], list[Level], int]:
        """Best ``levels`` bids and asks, best first; and the seq that they stand for."""

    def fees(self) -> FeeTables:
        """Fee schedules, who has which, volume rates, revenue."""

    def groups(self, account: int) -> Groups:
        """What the account belongs to."""

    def is_active(self, account: int) -> bool:
        """Whether the account has orders, open or in flight, or money commands in flight."""

    def volume(self, master: int) -> Volume:
        """30-day volume of a master."""

    def limits(self) -> tuple[list[LimitRow], int]:
        """Scopes that limit anything, and the seq of the list."""
