"""Sets the demo up through the control gateway, as an operator would: assets, accounts, funds, instruments.

Lively instruments are listed last: when all are there, an earlier start has done everything, and only house accounts
that have spent more than half of an amount get it again. Each step looks first, so that a set-up that was cut short is
finished by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from cambist.demo import plan
from cambist.demo.people import NOBODY, People
from cambist.demo.plan import Funding, Listing
from cambist.home import write_json
from gateway.control.client import ControlClient, ControlError, RefusedError
from gateway.control.messages import OUTCOME_UNKNOWN
from protocol import reasons
from protocol.instruments import Asset, Instrument, plain

FILE_NAME: Final = "demo.json"
PATIENCE_S: Final = 50.0
"""How long a gateway or an engine that is not there yet is waited for."""
_PAUSE_S: Final = 0.02
_ANSWER_S: Final = 2.0
_PASSING: Final = frozenset(
    {
        *(reasons.BUSY, reasons.OVERLOADED, reasons.ENGINE_DOWN, OUTCOME_UNKNOWN),
        # On its way since an answer that took too long: the next look sees it.
        *(reasons.ASSET_EXISTS, reasons.INSTRUMENT_EXISTS, reasons.ACCOUNT_EXISTS),
    }
)
_EIGHT: Final = 8


class SetupError(RuntimeError):
    """The demo cannot be set up; the message says why and what to do."""


class Client(Protocol):
    """What the set-up needs of a control client."""

    def call(self, op: str, args: dict[str, Any] | None = None, reason: str = "") -> dict[str, Any]:
        """Result of one request; raises RefusedError."""


class Market(NamedTuple):
    """A listed instrument of the demo. ``last_ticks`` is 0 before its first trade."""

    instrument: Instrument
    listing: Listing
    last_ticks: int

    @property
    def anchor_ticks(self) -> int:
        """The listing's price."""
        return self.instrument.price_ticks(self.listing.price)


class Demo(NamedTuple):
    """The demo as it stands in the engine's tables.

    ``accounts`` gives the number of each account of the plan by name, ``assets`` each asset by symbol; balances
    (free and locked together) are by account name and asset symbol, in units.
    """

    assets: dict[str, Asset]
    markets: dict[str, Market]
    accounts: dict[str, int]
    balances: dict[str, dict[str, int]]


def prepare(
    home: Path,
    socket_path: Path | None,
    stopping: Callable[[], bool],
    *,
    control: bool = True,
    patience_s: float = PATIENCE_S,
) -> Demo | None:
    """Set up what is missing and give the demo as it stands; None when told to stop before.

    Waits for the gateway and, while the engine starts, for that. Raises SetupError; RefusedError where the engine
    refuses for good.
    """
    if not control:
        raise SetupError("the demo is set up through the control gateway: leave control.enabled on")
    end_s = time.monotonic() + patience_s
    while not stopping():
        try:
            with ControlClient(home, operator=plan.OPERATOR, socket_path=socket_path, timeout_s=_ANSWER_S) as client:
                return set_up(client)
        except RefusedError as refused:
            if refused.code not in _PASSING or time.monotonic() > end_s:
                raise
        except ControlError as error:
            if time.monotonic() > end_s:
                raise SetupError(f"the control gateway did not answer for {patience_s:g} s: {error}") from error
        time.sleep(_PAUSE_S)
    return None


def set_up(client: Client) -> Demo:
    """Do what is missing of the plan and read what is there then."""
    listed = {row["symbol"] for row in client.call("instruments")["instruments"]}
    accounts = _accounts(client)
    wanted = (*plan.USERS, *plan.HOUSE)
    complete = all(listing.symbol in listed for listing in plan.LISTINGS)
    complete = complete and all(funding.name in accounts for funding in wanted)
    if not complete:
        _list_assets(client)
        for funding in wanted:
            if funding.name not in accounts:
                client.call("create_account", {"name": funding.name}, "account of the demo")
        for funding in plan.USERS:
            _fund(client, funding)
        _list_instruments(client, plan.QUIET, listed)
        _trade_quiet(client)
    for funding in plan.HOUSE:
        _fund(client, funding)
    _list_instruments(client, plan.LIVELY, listed)
    return read(client)


def read(client: Client) -> Demo:
    """The demo as it stands."""
    assets = {
        row["symbol"]: Asset(row["asset"], row["symbol"], row["scale"]) for row in client.call("assets")["assets"]
    }
    listings = {listing.symbol: listing for listing in plan.LISTINGS}
    markets = {}
    for row in client.call("instruments")["instruments"]:
        listing = listings.get(row["symbol"])
        if listing is not None:
            markets[row["symbol"]] = _market(row, listing, assets)
    numbers = _accounts(client)
    accounts = {funding.name: numbers[funding.name] for funding in (*plan.USERS, *plan.HOUSE)}
    return Demo(assets, markets, accounts, {name: balances(client, assets, name) for name in accounts})


def balances(client: Client, assets: Mapping[str, Asset], account: str | int) -> dict[str, int]:
    """Units that an account has of each asset, free and locked together."""
    rows = client.call("balance", {"account": account})["balances"]
    return {
        symbol: assets[symbol].units(row["free"]) + assets[symbol].units(row["locked"]) for symbol, row in rows.items()
    }


def document(demo: Demo, socket_path: Path, dsn: str | None, people: People = NOBODY) -> dict[str, Any]:
    """The object of ``demo.json``: what the exchange offers to clients' tests so far."""
    return {
        "control": {"socket": str(socket_path)},
        **({} if dsn is None else {"postgres": dsn}),
        "instruments": [
            {
                "symbol": symbol,
                "kind": "spot",
                "tick_size": market.instrument.tick_size,
                "lot_size": market.instrument.lot_size,
                "price": _price_text(market),
            }
            for symbol, market in demo.markets.items()
        ],
        "users": [
            {
                "name": funding.name,
                "account": demo.accounts[funding.name],
                **people.users.get(funding.name, {}),
                "balances": {
                    symbol: demo.assets[symbol].amount(units) for symbol, units in demo.balances[funding.name].items()
                },
            }
            for funding in plan.USERS
        ],
        **({} if people.operator is None else {"operator": people.operator}),
    }


def write(home: Path, demo: Demo, socket_path: Path, dsn: str | None = None, people: People = NOBODY) -> None:
    """Replace ``<home>/demo.json``, whole or not at all, readable by the owner only."""
    write_json(home / FILE_NAME, document(demo, socket_path, dsn, people))


def _accounts(client: Client) -> dict[str, int]:
    return {row["name"]: row["account"] for row in client.call("accounts")["accounts"] if row["name"]}


def _list_assets(client: Client) -> None:
    listed = {row["symbol"] for row in client.call("assets")["assets"]}
    for symbol in plan.ASSETS:
        if symbol not in listed:
            client.call("list_asset", {"symbol": symbol, "scale": plan.SCALE}, "asset of the demo")


def _list_instruments(client: Client, listings: tuple[Listing, ...], listed: set[str]) -> None:
    for listing in listings:
        if listing.symbol not in listed:
            args = {
                "symbol": listing.symbol,
                "base": listing.base,
                "quote": plan.QUOTE,
                "tick_size": listing.tick_size,
                "lot_size": listing.lot_size,
                "maker": listing.maker,
                "taker": listing.taker,
                "band_up": listing.band_up,
                "band_down": listing.band_down,
                "breaker": listing.breaker,
                "reference_price": listing.price,
                "dynamic": listing.dynamic,
                "auction_s": listing.auction_s,
                "random_s": listing.random_s,
                "extensions": listing.extensions,
            }
            client.call("list_instrument", args, "instrument of the demo")


def _fund(client: Client, funding: Funding) -> None:
    """Give an account what it lacks, where it has less than half of an amount."""
    held = client.call("balance", {"account": funding.name})["balances"]
    for asset, text in funding.amounts.items():
        wanted = Decimal(text)
        row = held.get(asset, {"free": "0", "locked": "0"})
        has = Decimal(row["free"]) + Decimal(row["locked"])
        if has < wanted / 2:
            args = {"account": funding.name, "asset": asset, "amount": plain(wanted - has)}
            client.call("deposit", args, "funds of the demo")


def _trade_quiet(client: Client) -> None:
    """Let quiet instruments trade once at their price, between house accounts, so that nothing is left in the book."""
    seller, buyer = plan.MAKERS[0].name, plan.TAKERS[0].name
    traded = {row["symbol"] for row in client.call("instruments")["instruments"] if row["last_price"] is not None}
    for listing in plan.QUIET:
        if listing.symbol in traded:
            continue
        value = plain(Decimal(plan.QUIET_TRADE_QTY) * Decimal(listing.price))
        _fund(client, Funding(seller, {listing.base: plan.QUIET_TRADE_QTY}))
        _fund(client, Funding(buyer, {plan.QUOTE: value}))
        for account in (seller, buyer):
            client.call("cancel_all", {"account": account, "instrument": listing.symbol}, "first trade of the demo")
        order = {"instrument": listing.symbol, "price": listing.price, "qty": plan.QUIET_TRADE_QTY}
        reason = "first trade of the demo"
        client.call("order", {**order, "account": seller, "side": "sell"}, reason)
        client.call("order", {**order, "account": buyer, "side": "buy", "tif": "fok"}, reason)


def _market(row: Mapping[str, Any], listing: Listing, assets: Mapping[str, Asset]) -> Market:
    base, quote = assets[row["base"]], assets[row["quote"]]
    instrument = Instrument(
        index=row["instrument"],
        symbol=row["symbol"],
        base=base,
        quote=quote,
        tick_e8=int(Decimal(row["tick_size"]).scaleb(_EIGHT)),
        lot_atoms=base.units(row["lot_size"]),
        maker_rate_e8=row["maker_rate_e8"],
        taker_rate_e8=row["taker_rate_e8"],
    )
    last = row["last_price"]
    return Market(instrument, listing, 0 if last is None else instrument.price_ticks(last))


def _price_text(market: Market) -> str:
    """Last price, or before the first trade the one at which the bots begin, with the decimals of the tick."""
    price = Decimal(market.instrument.price(market.last_ticks or market.anchor_ticks))
    return str(price.quantize(Decimal(market.instrument.tick_size)))
