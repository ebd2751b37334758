"""Deterministic generator of whole spot histories (`XFLOW002`) with the results that a correct exchange must produce.

    python -m tests.flows.xflow2_gen OUT.bin [--seed 1] [--profile mixed] [--n 20000]

writes the file and, beside it, OUT.json. The generator drives the naive exchange while it writes, so that it knows
which orders stand, how much money is free to the atom, and where a limit lies; the expected results are that
exchange's.

| profile | what it is |
|---|---|
| tight | funds short; what a cancel, release or deposit frees is needed at once; amends to just enough, or just not |
| stp | three accounts that mostly meet themselves, all modes of self-trade prevention |
| rich | deep books and amounts near 10^17, so that products need 128 bits |
| admin | freezes, halts, fees, withdrawal holds, bad and extreme messages |
| mixed | all of it |

Only `random.Random(seed).random()` is used: its stream is fixed across Python versions.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tests.naive.exchange import (
    AMOUNT_LIMIT,
    E8,
    Code,
    InstrumentSpec,
    Market,
    Message,
    NaiveExchange,
    Order,
    Side,
    Stp,
    Tif,
    Type,
    Verdict,
)
from tests.naive.xflow import Xflow2, header_in_words, tenths, write_xflow2

RECORD = np.dtype(
    [
        ("id", "<u8"),
        ("price", "<i8"),
        ("qty", "<i8"),
        ("account", "<u4"),
        ("instrument", "<u2"),
        ("asset", "<u2"),
        ("type", "u1"),
        ("side", "u1"),
        ("tif", "u1"),
        ("stp", "u1"),
        ("zero", "<u4"),
    ]
)
assert RECORD.itemsize == 40

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)
ASSETS = ("USDT", "BTC", "ETH", "EUR")
PAIRS = (("BTC", "USDT"), ("ETH", "USDT"), ("ETH", "BTC"), ("EUR", "USDT"), ("BTC", "EUR"))
# Atoms that an account starts with, about, and the price of one unit in USDT, about.
FUNDS = {"USDT": 5 * 10**12, "BTC": 10**10, "ETH": 10**11, "EUR": 5 * 10**12}
WORTH = {"USDT": 1.0, "BTC": 60_000.0, "ETH": 3_000.0, "EUR": 1.1}
# lot_atoms, and by how much the tick is a multiple of the smallest that the lot allows.
LOTS = (1, 7, 100, 10_000, 12_500, 100_000, 1_000_000)
TICK_FACTORS = (1, 1, 1, 2, 3, 10)
# (maker, taker): zero, usual, rebates within, at and beyond what the taker pays, and steep ones.
RATES = (
    (0, 0),
    (0, 10_000),
    (1, 40_000),
    (20_000, 0),
    (-10_000, 40_000),
    (-10_000, 75_000),
    (-40_000, 40_000),
    (-1, 1),
    (100_000, 100_000),
    (20_000_000, 50_000_000),
)
STEEPEST = (E8 - 1, E8 - 1)
ANY_STP = tuple(Stp)

T = TypeVar("T")


class Profile(NamedTuple):
    """The shape of the market, and the weights of the actions."""

    accounts: int
    target_orders: int  # resting orders; above it new orders give way to cancels
    funds_factor: float  # what accounts start with, as a multiple of `FUNDS`
    size_divisor: int  # a usual order is this fraction of an account's money
    width: float  # how far from the middle orders lie, as a fraction of the price
    crossing: float  # share of limit orders that cross
    stp: float  # share of orders that may have self-trade prevention
    exact: float  # how often an order needs all that is free, to the atom
    actions: dict[str, float]


TRADING = {
    "limit": 52.0,
    "market_by_quantity": 4.0,
    "market_by_amount": 4.0,
    "cancel": 9.0,
    "cancel_all": 0.15,
    "amend": 11.0,
}
MONEY = {"deposit": 2.0, "hold": 2.5, "end_hold": 2.5}
OFFICE = {"set_fees": 0.2, "freeze": 0.2, "halt": 0.1}
PROFILES = {
    "tight": Profile(
        accounts=9,
        target_orders=90,
        funds_factor=0.5,
        size_divisor=10,
        width=0.004,
        crossing=0.28,
        stp=0.3,
        exact=0.3,
        actions=TRADING | MONEY | OFFICE | {"bad": 1.5},
    ),
    "stp": Profile(
        accounts=3,
        target_orders=60,
        funds_factor=1.0,
        size_divisor=40,
        width=0.004,
        crossing=0.4,
        stp=0.9,
        exact=0.03,
        actions=TRADING | MONEY | OFFICE | {"bad": 1.0},
    ),
    "rich": Profile(
        accounts=8,
        target_orders=2_000,
        funds_factor=20_000.0,
        size_divisor=2_000,
        width=0.01,
        crossing=0.13,
        stp=0.2,
        exact=0.0,
        actions=TRADING | {"cancel_all": 0.02, "deposit": 0.5, "set_fees": 0.1},
    ),
    "admin": Profile(
        accounts=6,
        target_orders=100,
        funds_factor=2.0,
        size_divisor=20,
        width=0.004,
        crossing=0.3,
        stp=0.4,
        exact=0.1,
        actions=TRADING
        | {"cancel_all": 0.4, "deposit": 4.0, "hold": 8.0, "end_hold": 8.0, "set_fees": 3.0, "freeze": 4.0, "halt": 2.0}
        | {"bad": 25.0, "whale": 0.3},
    ),
    "mixed": Profile(
        accounts=7,
        target_orders=250,
        funds_factor=1.0,
        size_divisor=20,
        width=0.006,
        crossing=0.3,
        stp=0.5,
        exact=0.15,
        actions=TRADING | MONEY | {"set_fees": 0.8, "freeze": 0.6, "halt": 0.4, "bad": 6.0, "whale": 0.1},
    ),
}


class Flow(NamedTuple):
    """A generated history: for the file writer, as a `RECORD` array, and what must come of it."""

    file: Xflow2
    records: np.ndarray
    expected: dict[str, Any]


class Generator:
    """One history in the making."""

    def __init__(self, profile: str, seed: int, n: int) -> None:
        self.name = profile
        self.profile = PROFILES[profile]
        self.seed = seed
        self.n = n
        self.random = random.Random(seed).random
        self.assets, self.instruments = self._listing()
        self.exchange = NaiveExchange(self.assets, self.instruments, self.profile.accounts)
        self.messages: list[Message] = []
        self.checkpoints: dict[str, Any] = {}
        self.wanted = set(tenths(n))
        self.next_id = 1
        self.next_up: list[Callable[[], object]] = []
        self.later: list[tuple[int, Callable[[], object]]] = []
        self.mid = {number: float(self._usual_price(market)) for number, market in self.exchange.markets.items()}
        self.lots = {number: self._usual_lots(number) for number in self.mid}

    # ----------------------------------------------------------------------------------------------- chance

    def below(self, limit: int) -> int:
        return int(self.random() * limit)

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def weighted(self, weights: dict[str, float]) -> str:
        at = self.random() * sum(weights.values())
        for name, weight in weights.items():
            at -= weight
            if at < 0:
                return name
        return next(iter(weights))

    # ---------------------------------------------------------------------------------------------- listing

    def _listing(self) -> tuple[list[str], list[InstrumentSpec]]:
        """Two to four instruments that share assets; one seed in eight has a single one."""
        pairs = PAIRS[:1] if self.chance(0.125) else PAIRS[: 2 + self.below(3)]
        assets = [name for name in ASSETS if any(name in pair for pair in pairs)]
        return assets, [self._instrument(*pair, assets) for pair in pairs]

    def _instrument(self, base: str, quote: str, assets: list[str]) -> InstrumentSpec:
        lot_atoms = self.choice(LOTS)
        tick_e8 = E8 // gcd(lot_atoms, E8) * self.choice(TICK_FACTORS)
        maker_rate, taker_rate = self.choice(RATES[:-1])
        return InstrumentSpec(
            base + quote, 1 + assets.index(base), 1 + assets.index(quote), tick_e8, lot_atoms, maker_rate, taker_rate
        )

    def _usual_price(self, market: Market) -> int:
        """About the real price in ticks, but never so few ticks that no book could form."""
        worth = WORTH[self.assets[market.spec.base - 1]] / WORTH[self.assets[market.spec.quote - 1]]
        return max(300, int(worth * E8) // market.spec.tick_e8)

    def _usual_lots(self, instrument: int) -> int:
        """A usual order: the profile's fraction of what an account has."""
        market = self.exchange.markets[instrument]
        quote = self._usual_funds(market.spec.quote) // (int(self.mid[instrument]) * market.k)
        base = self._usual_funds(market.spec.base) // market.spec.lot_atoms
        return max(2, min(quote, base) // self.profile.size_divisor)

    def _usual_funds(self, asset: int) -> int:
        return int(FUNDS[self.assets[asset - 1]] * self.profile.funds_factor)

    # ---------------------------------------------------------------------------------------------- writing

    def send(self, kind: Type, **fields: int) -> Verdict:
        """Write one message and apply it; a history that is full ignores it."""
        if self.full:
            return Verdict(Code.ACCEPTED)
        message = Message(type=kind, **fields)
        self.messages.append(message)
        verdict = self.exchange.apply(message)
        if len(self.messages) in self.wanted:
            self.exchange.check()
            self.checkpoints[str(len(self.messages))] = self.exchange.checkpoint()
        return verdict

    @property
    def full(self) -> bool:
        return len(self.messages) >= self.n

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def run(self) -> Flow:
        self._prefill()
        n_prefill = len(self.messages)
        while not self.full:
            self._wake()
            if self.next_up:
                self.next_up.pop(0)()
                continue
            for number in self.mid:
                self.mid[number] = max(50.0, self.mid[number] * (1 + (self.random() - 0.5) * 0.0006))
            action = self.weighted(self.profile.actions)
            crowded = len(self.exchange.orders) / self.profile.target_orders
            if action == "limit" and self.chance(crowded - 0.8):
                action = "cancel"
            getattr(self, action)()
        file = Xflow2(n_prefill, self.seed, self.profile.accounts, self.assets, self.instruments, self.messages)
        expected = header_in_words(file) | self.exchange.results()
        expected = {"format": expected.pop("format"), "profile": self.name} | expected
        expected |= {"checkpoints": self.checkpoints, "detail": self.exchange.detail()}
        return Flow(file, np.array([(*m, 0) for m in self.messages], dtype=RECORD), expected)

    def _wake(self) -> None:
        """What was put off until now comes next."""
        now = len(self.messages)
        self.next_up += [action for at, action in self.later if at <= now]
        self.later = [(at, action) for at, action in self.later if at > now]

    def put_off(self, messages: int, action: Callable[[], object]) -> None:
        self.later.append((len(self.messages) + 1 + self.below(messages), action))

    def _prefill(self) -> None:
        for account in range(1, self.profile.accounts + 1):
            for asset in self.exchange.asset_names:
                if self.chance(0.85):
                    self.send(Type.DEPOSIT, account=account, asset=asset, qty=self._some_funds(asset))

    def _some_funds(self, asset: int) -> int:
        return 1 + int(self._usual_funds(asset) * (0.1 + 1.2 * self.random()))

    # ----------------------------------------------------------------------------------- what there is to name

    def account(self) -> int:
        return 1 + self.below(self.profile.accounts)

    def instrument(self) -> int:
        return 1 + self.below(len(self.instruments))

    def side(self) -> int:
        return self.below(2)

    def stp(self) -> int:
        return self.choice(ANY_STP) if self.chance(self.profile.stp) else Stp.NONE

    def live_order(self) -> Order | None:
        orders = self.exchange.orders
        return orders[self.choice(list(orders))] if orders else None

    def free_for(self, account: int, instrument: int, side: int) -> int:
        spec = self.exchange.markets[instrument].spec
        return self.exchange.free[account, spec.quote if side == Side.BUY else spec.base]

    def lot_cost(self, instrument: int, side: int, price: int) -> int:
        market = self.exchange.markets[instrument]
        return price * market.k if side == Side.BUY else market.spec.lot_atoms

    def affordable(self, account: int, instrument: int, side: int, price: int) -> int:
        return self.free_for(account, instrument, side) // self.lot_cost(instrument, side, price)

    def passive_price(self, instrument: int, side: int) -> int:
        mid = int(self.mid[instrument])
        width = max(4, int(mid * self.profile.width))
        distance = 1 + int(width * self.random() ** 2)
        opposite = self.exchange.markets[instrument].best_price(1 - side)
        if side == Side.BUY:
            return max(1, mid - distance if opposite is None else min(mid - distance, opposite - 1))
        return mid + distance if opposite is None else max(mid + distance, opposite + 1)

    def crossing_price(self, instrument: int, side: int) -> int:
        mid = int(self.mid[instrument])
        opposite = self.exchange.markets[instrument].best_price(1 - side) or mid
        reach = int(max(4, int(mid * self.profile.width)) * self.random() ** 2)
        return max(1, opposite + reach if side == Side.BUY else opposite - reach)

    def some_lots(self, account: int, instrument: int, side: int, price: int) -> int:
        """Often, where the profile says so, exactly what the free money pays for, or one lot more."""
        if self.chance(self.profile.exact):
            lots = self.affordable(account, instrument, side, price)
            if lots:
                return self.choice((lots, lots, lots + 1, 1 + self.below(lots)))
        return 1 + int(2 * self.lots[instrument] * self.random() ** 2)

    def crossing_depth(self, instrument: int, side: int, price: int) -> int:
        probe = Order(0, 0, instrument, side, price, 1, Tif.IOC, Stp.NONE)
        makers = self.exchange.markets[instrument].levels[1 - side]
        return sum(order.left for at, level in makers.items() if probe.crosses(at) for order in level)

    # ---------------------------------------------------------------------------------------------- trading

    def limit(self) -> None:
        account, instrument, side = self.account(), self.instrument(), self.side()
        if self.chance(self.profile.crossing):
            market = self.exchange.markets[instrument]
            if self.chance(0.5):  # toward the middle, so that the books do not drift away
                bid, ask = (market.best_price(s) or self.mid[instrument] for s in (Side.BUY, Side.SELL))
                side = Side.SELL if bid + ask > 2 * self.mid[instrument] else Side.BUY
            price = self.crossing_price(instrument, side)
            tif = self.choice((Tif.GTC, Tif.GTC, Tif.IOC, Tif.IOC, Tif.FOK, Tif.FOK, Tif.POST_ONLY))
        else:
            price = self.passive_price(instrument, side)
            tif = self.choice((Tif.GTC,) * 8 + (Tif.POST_ONLY,) * 3 + (Tif.IOC, Tif.FOK))
        qty = self.some_lots(account, instrument, side, price)
        if tif == Tif.FOK and self.chance(0.5):
            qty = max(1, self.crossing_depth(instrument, side, price) + self.choice((0, 0, -1, 1)))
        self.order(account, instrument, side, price, qty, tif)

    def order(self, account: int, instrument: int, side: int, price: int, qty: int, tif: int = Tif.GTC) -> Verdict:
        # An asset says nothing in an order; whoever reads it there errs.
        return self.send(
            Type.LIMIT,
            id=self.new_id(),
            account=account,
            instrument=instrument,
            asset=77 if self.chance(0.02) else 0,
            side=side,
            price=price,
            qty=qty,
            tif=tif,
            stp=self.stp(),
        )

    def market_by_quantity(self) -> None:
        account, instrument, side = self.account(), self.instrument(), self.side()
        price = self.crossing_price(instrument, side)
        qty = self.some_lots(account, instrument, side, price)
        self.send(
            Type.MARKET_BY_QUANTITY,
            id=self.new_id(),
            account=account,
            instrument=instrument,
            side=side,
            price=price,
            qty=qty,
            tif=self.choice((Tif.GTC, Tif.GTC, Tif.FOK, Tif.POST_ONLY)),
            stp=self.stp(),
        )

    def market_by_amount(self) -> None:
        account, instrument, side = self.account(), self.instrument(), self.side()
        price = self.crossing_price(instrument, side)
        k = self.exchange.markets[instrument].k
        maker = self.exchange.markets[instrument].best_order(1 - side)
        if maker is not None and self.chance(0.25):  # all of the first maker, or one atom less
            amount = maker.price * maker.left * k - self.choice((0, 1))
        elif side == Side.BUY and self.chance(self.profile.exact):
            amount = self.free_for(account, instrument, side) + self.choice((0, 0, 1))
        else:
            amount = self.some_lots(account, instrument, side, price) * price * k + self.below(price * k)
        self.by_amount(account, instrument, side, price, min(max(1, amount), INT64_MAX))

    def by_amount(self, account: int, instrument: int, side: int, price: int, amount: int) -> Verdict:
        return self.send(
            Type.MARKET_BY_AMOUNT,
            id=self.new_id(),
            account=account,
            instrument=instrument,
            side=side,
            price=price,
            qty=amount,
            stp=self.stp(),
        )

    def cancel(self) -> None:
        order = self.live_order()
        if order is None:
            return
        self.send_cancel(order)
        if self.chance(max(0.05, self.profile.exact)):
            self.next_up.append(lambda: self.use_all(order.account, order.instrument, order.side, order.price))

    def send_cancel(self, order: Order, kind: Type = Type.CANCEL, **instead: int) -> Verdict:
        """Cancel or amend the order; price, quantity and side of a cancel say nothing and are sometimes nonsense."""
        fields = {"id": order.id, "account": order.account, "instrument": order.instrument, "side": order.side}
        fields |= {"price": order.price, "qty": order.left if kind == Type.CANCEL else order.total}
        if kind == Type.CANCEL and self.chance(0.03):
            fields |= {"price": -1, "qty": INT64_MIN, "side": 1 - order.side, "asset": 77}
        return self.send(kind, **(fields | instead))

    def use_all(self, account: int, instrument: int, side: int, price: int) -> None:
        """Need, to the atom, all that is free; sometimes an atom or a lot more."""
        free = self.free_for(account, instrument, side)
        lots = self.affordable(account, instrument, side, price)
        too_much = int(self.chance(0.2))
        way = self.below(4)
        if way == 0 and free and side == Side.BUY:
            self.by_amount(account, instrument, side, self.crossing_price(instrument, side), free + too_much)
        elif way == 1 and free:
            spec = self.exchange.markets[instrument].spec
            self.send_hold(account, spec.quote if side == Side.BUY else spec.base, free + too_much)
        elif lots:
            self.order(account, instrument, side, price, lots + too_much)

    def cancel_all(self) -> None:
        account, instrument = self.choice(
            ((self.account(), 0), (self.account(), self.instrument()), (0, self.instrument()))
        )
        if account == 0 and self.chance(0.5):  # everyone's orders, but not too often: books must stay
            return
        self.send(Type.CANCEL_ALL, account=account, instrument=instrument)

    def amend(self) -> None:
        order = self.live_order()
        if order is None:
            return
        done = order.traded + order.prevented
        price, total = order.price, order.total
        just = 60 * self.profile.exact
        way = self.weighted(
            {
                "move": 20,
                "cross": 8,
                "down": 15,
                "up": 10,
                "just": just,
                "both": just / 2,
                "same": 2,
                "low": 2,
                "touch": 5,
            }
        )
        if way == "move":
            price = self.passive_price(order.instrument, order.side)
        elif way == "cross":
            price = self.crossing_price(order.instrument, order.side)
        elif way == "down":
            total = done + 1 + self.below(order.left)
        elif way == "up":
            total += 1 + self.below(self.lots[order.instrument])
        elif way in {"just", "both"}:  # as much as the money, with what the order holds, pays for; or a lot more
            if way == "both":
                price = self.passive_price(order.instrument, order.side)
            held = order.left * self.lot_cost(order.instrument, order.side, order.price)
            free = self.free_for(order.account, order.instrument, order.side)
            left = (held + free) // self.lot_cost(order.instrument, order.side, price)
            total = done + max(1, left) + self.choice((0, 0, 1))
        elif way == "low":
            order = next((o for o in self.exchange.orders.values() if o.traded + o.prevented), order)
            done = order.traded + order.prevented
            price = order.price
            total = max(1, done - self.choice((0, 0, 1)))
        elif way == "touch":
            price = max(1, price + self.choice((-1, 1)))
        self.send_cancel(order, Type.AMEND, price=price, qty=total)

    # ------------------------------------------------------------------------------------------------ money

    def deposit(self) -> None:
        account, asset = self.account(), 1 + self.below(len(self.assets))
        self.send(Type.DEPOSIT, account=account, asset=asset, qty=max(1, self._some_funds(asset) // 4))
        self.then_use_all(account, asset)

    def then_use_all(self, account: int, asset: int) -> None:
        """Now and then the money that just came is needed by the very next message."""
        if not self.chance(self.profile.exact):
            return
        for number, spec in enumerate(self.instruments, 1):
            if asset in {spec.base, spec.quote}:
                side = Side.BUY if asset == spec.quote else Side.SELL
                price = self.passive_price(number, side)
                self.next_up.append(partial(self.use_all, account, number, side, price))
                return

    def hold(self) -> None:
        account, asset = self.account(), 1 + self.below(len(self.assets))
        free = self.exchange.free[account, asset]
        amount = 1 + int(free * 0.3 * self.random())
        if self.chance(max(0.05, self.profile.exact * 0.3)):
            amount = free + self.choice((0, 1))
        self.send_hold(account, asset, max(1, amount))

    def send_hold(self, account: int, asset: int, amount: int) -> Verdict:
        return self.send(Type.WITHDRAWAL_HOLD, id=self.new_id(), account=account, asset=asset, qty=amount)

    def end_hold(self) -> None:
        if not self.exchange.holds:
            return
        hold_id = self.choice(list(self.exchange.holds))
        hold = self.exchange.holds[hold_id]
        kind = self.choice((Type.SETTLE_HOLD, Type.RELEASE_HOLD))
        self.send(kind, id=hold_id, account=hold.account)
        if kind == Type.RELEASE_HOLD:
            self.then_use_all(hold.account, hold.asset)

    def whale(self) -> None:
        """Fill an asset's net deposits to the last atom that fits, use it, and take it out again."""
        account, instrument = self.account(), self.instrument()
        spec = self.instruments[instrument - 1]
        room = AMOUNT_LIMIT - 1 - self.exchange.net_deposits[spec.quote]
        money = {"account": account, "asset": spec.quote}
        self.next_up += [
            lambda: self.send(Type.DEPOSIT, qty=room + 1, **money),
            lambda: self.send(Type.DEPOSIT, qty=room, **money),
            lambda: self.send(Type.DEPOSIT, qty=1, **money),
            lambda: self.huge_order(account, instrument),
            lambda: self.send_hold(account, spec.quote, min(room, max(1, self.exchange.free[account, spec.quote]))),
            lambda: self.send(Type.SETTLE_HOLD, id=self.next_id - 1, account=account),
        ]

    def huge_order(self, account: int, instrument: int) -> None:
        """A bid for all the money, deep in the book, and gone again."""
        market = self.exchange.markets[instrument]
        price = max(1, int(self.mid[instrument]) // 2)
        lots = min(self.affordable(account, instrument, Side.BUY, price), (AMOUNT_LIMIT - 1) // market.spec.lot_atoms)
        if lots:
            order_id = self.next_id
            self.order(account, instrument, Side.BUY, price, lots)
            self.send(Type.CANCEL, id=order_id, account=account, instrument=instrument)

    # ----------------------------------------------------------------------------------------------- office

    def set_fees(self) -> None:
        instrument = self.instrument()
        maker, taker = self.choice(RATES)
        if self.chance(0.03):
            maker, taker = STEEPEST
        if taker > 1_000_000:  # what eats the accounts' money must not stay for long
            usual = self.choice(RATES[:-1])
            self.put_off(30, lambda: self.send(Type.SET_FEES, instrument=instrument, price=usual[0], qty=usual[1]))
        self.send(Type.SET_FEES, instrument=instrument, price=maker, qty=taker)

    def freeze(self) -> None:
        """Now and then needlessly; what is frozen is thawed a little later, so that trading goes on."""
        account = self.account()
        kind = self.choice((Type.FREEZE, Type.FREEZE, Type.FREEZE, Type.UNFREEZE))
        self.send(kind, account=account)
        if kind == Type.FREEZE:
            self.put_off(120, lambda: self.send(Type.UNFREEZE, account=account))

    def halt(self) -> None:
        instrument = self.instrument()
        kind = self.choice((Type.HALT, Type.HALT, Type.HALT, Type.RESUME))
        self.send(kind, instrument=instrument)
        if kind == Type.HALT:
            self.put_off(80, lambda: self.send(Type.RESUME, instrument=instrument))

    # ------------------------------------------------------------------------------------------ bad messages

    def bad(self) -> None:
        way = self.weighted(
            {
                "unknown_number": 6,
                "bad_number": 5,
                "out_of_range": 7,
                "bad_fees": 4,
                "bad_order": 8,
                "bad_hold": 6,
                "bad_transfer": 5,
            }
        )
        getattr(self, way)()

    def spoiled_order(self, **instead: int) -> Verdict:
        kind = self.choice((Type.LIMIT, Type.MARKET_BY_QUANTITY, Type.MARKET_BY_AMOUNT))
        return self.spoiled_order_of(kind, **instead)

    def spoiled_order_of(self, kind: Type, **instead: int) -> Verdict:
        """An order that would be reasonable, but for the fields given."""
        instrument = self.instrument()
        side = instead.get("side", self.side())
        fields = {
            "id": self.new_id(),
            "account": self.account(),
            "instrument": instrument,
            "side": side,
            "price": self.passive_price(instrument, side),
            "qty": 1 + self.below(self.lots[instrument]),
            "stp": self.stp(),
        }
        return self.send(kind, **(fields | instead))

    def unknown_number(self) -> None:
        """An account, asset or instrument that is not in the tables; half the time with other faults behind it."""
        account = self.choice((0, self.profile.accounts + 1, 1 << 31, (1 << 32) - 1))
        instrument = self.choice((0, len(self.instruments) + 1, (1 << 16) - 1))
        asset = self.choice((0, len(self.assets) + 1, (1 << 16) - 1))
        worse = {"price": -1, "qty": INT64_MIN} if self.chance(0.5) else {"price": 1, "qty": 1}
        order = self.live_order()
        order_id = order.id if order else 0
        cases: tuple[Callable[[], object], ...] = (
            lambda: self.spoiled_order(account=account, **worse),
            lambda: self.spoiled_order(instrument=instrument, **worse),
            lambda: self.spoiled_order(account=account, instrument=instrument, **worse),
            lambda: self.send(Type.CANCEL, id=order_id, account=account, instrument=self.instrument()),
            lambda: self.send(Type.CANCEL, id=order_id, account=self.account(), instrument=instrument),
            lambda: self.send(Type.AMEND, id=order_id, account=account, instrument=self.instrument(), **worse),
            lambda: self.send(Type.AMEND, id=order_id, account=self.account(), instrument=instrument, **worse),
            lambda: self.send(Type.CANCEL_ALL),
            lambda: self.send(Type.CANCEL_ALL, account=self.profile.accounts + 1, instrument=instrument),
            lambda: self.send(Type.CANCEL_ALL, account=self.account(), instrument=len(self.instruments) + 1),
            lambda: self.send(Type.CANCEL_ALL, instrument=(1 << 16) - 1),
            lambda: self.send(Type.DEPOSIT, account=account, asset=asset, qty=worse["qty"]),
            lambda: self.send(Type.DEPOSIT, account=self.account(), asset=asset, qty=worse["qty"]),
            lambda: self.send_hold(account, 1, worse["qty"]),
            lambda: self.send_hold(self.account(), asset, worse["qty"]),
            lambda: self.send(Type.SETTLE_HOLD, id=next(iter(self.exchange.holds), 0), account=account),
            lambda: self.send(Type.RELEASE_HOLD, id=next(iter(self.exchange.holds), 0), account=account),
            lambda: self.send(Type.SET_FEES, instrument=instrument, price=E8, qty=-1),
            lambda: self.send(self.choice((Type.FREEZE, Type.UNFREEZE)), account=account),
            lambda: self.send(self.choice((Type.HALT, Type.RESUME)), instrument=instrument),
        )
        self.choice(cases)()

    def bad_number(self) -> None:
        """Prices and quantities that are not positive, in all types that read them."""
        number = self.choice((0, 0, -1, -5, INT64_MIN))
        field = self.choice(("price", "qty"))
        order = self.live_order()
        if order is not None and self.chance(0.3):
            self.send_cancel(order, Type.AMEND, **{field: number})
        elif self.chance(0.2):
            self.send_hold(self.account(), 1, number)
        elif self.chance(0.2):
            self.send(Type.DEPOSIT, account=self.account(), asset=1, qty=number)
        else:
            other = "qty" if field == "price" else "price"
            self.spoiled_order(
                **({field: number, other: self.choice((number, 1, INT64_MAX))} if self.chance(0.3) else {field: number})
            )

    def out_of_range(self) -> None:
        """Around 2^62 and 2^63-1, and products that come round to something small in 64 bits."""
        instrument = self.instrument()
        market = self.exchange.markets[instrument]
        lot = market.spec.lot_atoms
        price = self.passive_price(instrument, self.side())
        most_value = (AMOUNT_LIMIT - 1) // (price * market.k)
        most_lots = (AMOUNT_LIMIT - 1) // lot
        price, qty = self.choice(
            (
                (price, most_value),
                (price, most_value + 1),
                (1, most_lots),
                (1, most_lots + 1),
                (price, INT64_MAX),
                (INT64_MAX, 1),
                (INT64_MAX, INT64_MAX),
                (1 << 32, 1 << 32),
                (1 << 62, 4),
                (1 << 61, 8),
                ((AMOUNT_LIMIT - 1) // market.k, 1),
                ((AMOUNT_LIMIT - 1) // market.k + 1, 1),
            )
        )
        order = self.live_order()
        way = self.below(4)
        if way == 0 and order is not None:
            self.send_cancel(order, Type.AMEND, price=price, qty=qty)
        elif way == 1:
            self.amount_out_of_range(instrument)
        else:
            self.spoiled_order_of(
                self.choice((Type.LIMIT, Type.MARKET_BY_QUANTITY)), instrument=instrument, price=price, qty=qty
            )

    def amount_out_of_range(self, instrument: int) -> None:
        """Orders by amount at 2^62, and sellers whose hold, not whose amount, reaches it."""
        market = self.exchange.markets[instrument]
        first_too_many = -(-AMOUNT_LIMIT // market.spec.lot_atoms)
        amount = self.choice(
            (AMOUNT_LIMIT, AMOUNT_LIMIT - 1, INT64_MAX, first_too_many * market.k, first_too_many * market.k - 1)
        )
        price = self.choice((1, 1, self.passive_price(instrument, Side.SELL), INT64_MAX))
        self.spoiled_order_of(Type.MARKET_BY_AMOUNT, instrument=instrument, price=price, qty=min(amount, INT64_MAX))

    def bad_transfer(self) -> None:
        account, asset = self.account(), 1 + self.below(len(self.assets))
        amount = self.choice(
            (AMOUNT_LIMIT - 1, AMOUNT_LIMIT, INT64_MAX, AMOUNT_LIMIT - self.exchange.net_deposits[asset])
        )
        if self.chance(0.5):
            self.send_hold(account, asset, amount)
        elif self.exchange.net_deposits[asset]:  # else the amount could be accepted and would fill the asset
            self.send(Type.DEPOSIT, account=account, asset=asset, qty=amount)

    def bad_fees(self) -> None:
        maker, taker = self.choice(
            (
                (0, -1),
                (0, E8),
                (E8, 0),
                (E8, E8 - 1),
                (-1, 0),
                (-10_001, 10_000),
                (-E8, E8 - 1),
                (INT64_MAX, 1),
                (1, INT64_MAX),
                (INT64_MAX, INT64_MAX),
                (INT64_MIN, INT64_MIN),
                (INT64_MIN, E8 - 1),
                (INT64_MAX, INT64_MIN),
            )
        )
        self.send(Type.SET_FEES, instrument=self.instrument(), price=maker, qty=taker)

    def bad_order(self) -> None:
        """Cancels and amends of finished, refused, foreign or never used ids, of holds, or on the wrong instrument."""
        kind = self.choice((Type.CANCEL, Type.AMEND))
        order = self.live_order()
        here = {
            "account": self.account(),
            "instrument": self.instrument(),
            "price": 1 + self.below(1000),
            "qty": 1 + self.below(10),
        }
        cases: list[Callable[[], object]] = [
            lambda: self.send(kind, id=0, **here),
            lambda: self.send(kind, id=self.next_id, **here),
            lambda: self.send(kind, id=self.next_id + self.below(1000), **here),
            lambda: self.send(kind, id=1 + self.below(self.next_id), **here),
        ]
        if self.exchange.holds:
            hold_id = self.choice(list(self.exchange.holds))
            here_too = here | {"account": self.exchange.holds[hold_id].account}
            cases.append(lambda: self.send(kind, id=hold_id, **here_too))
        if order is not None:
            cases += [
                lambda: self.send_cancel(order, kind, account=1 + order.account % self.profile.accounts),
                lambda: self.send_cancel(order, kind, instrument=1 + order.instrument % len(self.instruments)),
                lambda: self.cancel_twice(order),
            ]
        self.choice(cases)()

    def cancel_twice(self, order: Order) -> None:
        self.send_cancel(order)
        self.send_cancel(order, self.choice((Type.CANCEL, Type.AMEND)), price=order.price + 1)

    def bad_hold(self) -> None:
        kind = self.choice((Type.SETTLE_HOLD, Type.RELEASE_HOLD))
        order = self.live_order()
        cases: list[Callable[[], object]] = [
            lambda: self.send(kind, id=0, account=self.account()),
            lambda: self.send(kind, id=self.next_id, account=self.account()),
            lambda: self.send(kind, id=1 + self.below(self.next_id), account=self.account()),
        ]
        if order is not None:
            cases.append(lambda: self.send(kind, id=order.id, account=order.account))
        if self.exchange.holds:
            hold_id = self.choice(list(self.exchange.holds))
            owner = self.exchange.holds[hold_id].account
            cases += [
                lambda: self.send(kind, id=hold_id, account=1 + owner % self.profile.accounts),
                lambda: self.end_twice(hold_id, owner),
            ]
        self.choice(cases)()

    def end_twice(self, hold_id: int, owner: int) -> None:
        for _ in range(2):
            self.send(self.choice((Type.SETTLE_HOLD, Type.RELEASE_HOLD)), id=hold_id, account=owner)


def generate(profile: str = "mixed", seed: int = 1, n: int = 20_000) -> Flow:
    """Make a history of `n` messages, opening deposits included; the same arguments give the same bytes everywhere."""
    return Generator(profile, seed, n).run()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.flows.xflow2_gen", description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, help="file to write; its expected results go beside it, ending in .json")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="mixed")
    parser.add_argument("--n", type=int, default=20_000, help="messages, opening deposits included")
    options = parser.parse_args(arguments)
    flow = generate(options.profile, options.seed, options.n)
    write_xflow2(options.out, flow.file)
    beside = options.out.with_suffix("") if options.out.suffix == ".gz" else options.out
    beside.with_suffix(".json").write_text(json.dumps(flow.expected), encoding="utf-8")
    told = ("messages", "trades", "prevented", "orders", "verdicts")
    print(json.dumps({key: flow.expected[key] for key in told}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
