"""A small engine, one command at a time: what was said, and what the tables hold afterwards."""

import numpy as np

from persistence.fused import FusedEngine
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.instance import Engine, Limits
from protocol.instruments import Asset, Instrument
from protocol.records import OUTCOME_DTYPE, command_slots
from tests.engine.driver import ROOMY, Variant, balance, check_settled
from tests.engine.operators import numbered

LIMITS = Limits(accounts=6, assets=4, instruments=4, orders=6, leaves=32, withdrawal_holds=8, outbox=16, timers=2)
WHO = ("op", "test")
QUOTE = Asset(1, "USDT", 6)
BASE = Asset(2, "BTC", 8)
OTHER = Asset(3, "ETH", 8)


def listing(number: int = 1, **fields: int) -> Instrument:
    """A quote unit a tick and lot, a hundred base units a lot."""
    return Instrument(number, f"I{number}", BASE, QUOTE, 100_000_000, 100, **fields)


class Desk:
    """Accounts 1 to 3 are open, assets 1 to 3 and instrument 1 are listed, and nobody has anything."""

    def __init__(self, variant: Variant | None = None, limits: Limits = LIMITS, **fields: int) -> None:
        budget = 1 if variant is None else variant.budget
        shards = 1 if variant is None else variant.shards
        self.engine = FusedEngine(Engine(shards=shards, limits=limits, rings=ROOMY), budget=budget)
        self.number = 1
        self.outcomes: np.ndarray = np.zeros(0, dtype=OUTCOME_DTYPE)
        self.order_id = 0
        self.ts_ns = 0
        for asset in (QUOTE, BASE, OTHER):
            self.do(build.list_asset(asset, *WHO))
        self.do(build.list_instrument(listing(**fields), *WHO))
        for account in (1, 2, 3):
            self.do(build.create_account(account, *WHO))

    def send(self, group: np.ndarray, source: int = e.SOURCE_FIRST_GATEWAY) -> int:
        """Reason of the refusal, 0 where it was accepted; ``outcomes`` are the command's."""
        stamped = build.stamp(group.copy(), source, self.number, int(group["session"][0]))
        if group["type"][0] in build.NAMING_TYPES and group["order_id"][0]:
            stamped["order_id"][0] = group["order_id"][0]
        self.number += len(group)
        return self.sequence(stamped)

    def send_at(self, group: np.ndarray, ts_ns: int) -> int:
        """The same at a sequenced time of the caller's."""
        self.ts_ns = ts_ns
        return self.send(group)

    def sequence(self, stamped: np.ndarray) -> int:
        """The same for a group that has its source's number."""
        said: list[np.ndarray] = []
        group = numbered(stamped, self.engine.last_seq + 1)
        if self.ts_ns:
            group["ts_ns"] = self.ts_ns
        self.engine.feed(group, lambda part: said.append(part.copy()))
        self.outcomes = np.concatenate(said)
        self.order_id = int(stamped["order_id"][0])
        check_settled(self.engine)
        refused = self.outcomes[self.outcomes["kind"] == e.OUT_REJECTED]
        return int(refused["reason"][0]) if len(refused) else r.ACCEPTED

    def do(self, group: np.ndarray) -> int:
        """Send what must be accepted; returns its order id."""
        assert r.ACCEPTED == self.send(group), r.NAME[self.send(group)]
        return self.order_id

    def fund(self, account: int, quote: int = 0, base: int = 0) -> None:
        for asset, amount in ((1, quote), (2, base)):
            if amount:
                self.do(build.deposit(account, asset, amount, *WHO))

    def limit(self, account: int, side: int, price: int, lots: int, **fields: int) -> np.ndarray:
        return build.limit(account=account, instrument=1, side=side, price_ticks=price, qty_lots=lots, **fields)

    def tick(self) -> None:
        self.do(head(e.TICK))

    def money(self, account: int) -> list[tuple[int, int]]:
        """(free, locked) of quote and base."""
        return [balance(self.engine, account, asset) for asset in (1, 2)]

    def fee(self, asset: int) -> int:
        return int(self.engine.risk.assets[asset]["fee_units"])


def head(kind: int, **fields: int) -> np.ndarray:
    """One slot of any type."""
    slot = command_slots(1)
    slot["type"] = kind
    for name, value in fields.items():
        slot[name] = value
    return slot
