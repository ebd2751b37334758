"""The demo's listings and house accounts on the fused engine, and bots' commands through it."""

import numpy as np

from cambist.demo import plan
from cambist.demo.bots import commands_of
from cambist.demo.setup import Market
from cambist.demo.strategy import Book, Desk, Heard, Intent
from persistence.fused import FusedEngine
from protocol import build
from protocol import enums as e
from protocol.instance import Engine, Limits, Rings
from protocol.instruments import Asset, Instrument
from ringbuf import Ring, published
from risk import state as risk_state
from tests.engine.driver import balance

ENGINE = Engine(
    limits=Limits(accounts=64, assets=8, instruments=8, orders=1 << 12, leaves=1 << 14, outbox=64, timers=8),
    rings=Rings(ingress=1 << 10, command=1 << 12, event=1 << 12, outcome=1 << 14, window=1 << 11),
    sources=(e.SOURCE_RISK, e.SOURCE_CONTROL, e.SOURCE_BOTS),
)
ASSETS = {symbol: Asset(number, symbol, plan.SCALE) for number, symbol in enumerate(plan.ASSETS, 1)}
ACCOUNTS = {funding.name: number for number, funding in enumerate((*plan.USERS, *plan.HOUSE), 1)}
MAKERS = [ACCOUNTS[funding.name] for funding in plan.MAKERS]
TAKERS = [ACCOUNTS[funding.name] for funding in plan.TAKERS]
FIELDS = list(Heard._fields)


def instrument(number: int, listing: plan.Listing) -> Instrument:
    quote = ASSETS[plan.QUOTE]
    bare = Instrument(number, listing.symbol, ASSETS[listing.base], quote, 1_000_000, 1)
    return Instrument(
        index=number,
        symbol=listing.symbol,
        base=ASSETS[listing.base],
        quote=quote,
        tick_e8=round(float(listing.tick_size) * 10**8),
        lot_atoms=round(float(listing.lot_size) * 10**8),
        maker_rate_e8=20_000,
        taker_rate_e8=50_000,
        band_up_e8=10**7,
        band_down_e8=10**7,
        reference_ticks=bare.price_ticks(listing.price),
        breaker_e8=8 * 10**6,
    )


MARKETS = {
    listing.symbol: Market(instrument(number, listing), listing, 0) for number, listing in enumerate(plan.LISTINGS, 1)
}
LIVELY = [MARKETS[listing.symbol] for listing in plan.LIVELY]


def listing_groups() -> list[np.ndarray]:
    """Operator commands that list everything, open the accounts and fund them."""
    groups = [build.list_asset(asset, "demo", "test") for asset in ASSETS.values()]
    groups += [build.list_instrument(market.instrument, "demo", "test") for market in MARKETS.values()]
    for funding in (*plan.USERS, *plan.HOUSE):
        groups.append(build.create_account(ACCOUNTS[funding.name], "demo", "test"))
        for symbol, text in funding.amounts.items():
            asset = ASSETS[symbol]
            groups.append(build.deposit(ACCOUNTS[funding.name], asset.index, asset.units(text), "demo", "test"))
    return groups


def house_holdings() -> dict[int, dict[int, int]]:
    return {
        ACCOUNTS[funding.name]: {
            ASSETS[symbol].index: ASSETS[symbol].units(text) for symbol, text in funding.amounts.items()
        }
        for funding in plan.HOUSE
    }


def new_desk(seed: int) -> Desk:
    targets = {ASSETS[symbol].index: ASSETS[symbol].units(text) for symbol, text in plan.HOUSE[0].amounts.items()}
    books = [Book(market.instrument, market.anchor_ticks, market.last_ticks) for market in LIVELY]
    return Desk(books, MAKERS, TAKERS, house_holdings(), targets, e.SOURCE_BOTS, seed)


class Exchange:
    """The fused engine with the demo's listings; commands in, outcomes out."""

    def __init__(self, outcomes: Ring | None = None) -> None:
        self.engine = FusedEngine(ENGINE, outcomes=outcomes)
        if outcomes is not None:
            self._member("meta")[risk_state.OUTCOMES] = published(outcomes)
        self.apply(np.concatenate(listing_groups()), e.SOURCE_CONTROL, 1)

    def apply(self, slots: np.ndarray, source: int, first_source_seq: int) -> np.ndarray:
        """Number, sequence and settle commands; gives their outcomes, where no ring was given for them."""
        self.sequence(build.stamp(slots, source, first_source_seq))
        return self._outcomes()

    def sequence(self, slots: np.ndarray) -> None:
        """Settle commands that their producer has numbered."""
        slots = slots.copy()
        slots["seq"] = np.arange(len(slots)) + self.engine.last_seq + 1
        slots["ts_ns"] = slots["seq"] * 1000
        self._heard: list[np.ndarray] = []
        self.engine.feed(slots, lambda rows: self._heard.append(rows.copy()))

    @property
    def activity(self) -> np.ndarray:
        """Orders and commands of each account that have not ended; int64[accounts + 1]."""
        return self._member("accounts")["activity"]

    @property
    def trades(self) -> int:
        """Trades so far."""
        return int(self._member("meta")[risk_state.TRADES])

    def balance(self, account: int, asset: int) -> int:
        """Free and locked units together."""
        return sum(balance(self.engine, account, asset))

    def _member(self, name: str) -> np.ndarray:
        member = self.engine.risk.members()[name]
        assert isinstance(member, np.ndarray)
        return member

    def _outcomes(self) -> np.ndarray:
        return np.concatenate(self._heard) if self._heard else np.zeros(0)


class Trading:
    """A desk on an exchange, for as many rounds as a test wants."""

    def __init__(self, seed: int) -> None:
        self.exchange = Exchange()
        self.desk = new_desk(seed)
        self.source_seq = 1
        self.intents: list[Intent] = []

    def round(self, count: int = 12, dt_s: float = 0.04) -> list[Intent]:
        """One batch, heard of before the next one."""
        intents = self.desk.decide(count, self.source_seq, dt_s)
        if intents:
            group = commands_of(intents)
            outcomes = self.exchange.apply(group, e.SOURCE_BOTS, self.source_seq)
            assert group["order_id"].tolist() == [intent.order_id for intent in intents]
            self.source_seq += len(intents)
            self.hear(outcomes)
        self.intents += intents
        return intents

    def hear(self, outcomes: np.ndarray) -> None:
        """Give the desk what its follower would have kept."""
        mine = (outcomes["source"] == e.SOURCE_BOTS) | (
            outcomes["order_id"] >> e.ORDER_ID_SOURCE_SHIFT == e.SOURCE_BOTS
        )
        outcomes = outcomes[mine]
        for row in outcomes[FIELDS].tolist():
            self.desk.take(Heard(*row))
