"""Random histories of a market with operators: bands, breakers, clock ticks, listings, accounts, adjustments, client order ids.

    python -m tests.engine.operators --seed 7 --n 3000 [--variant tiny-random-3]

drives the oracle while it writes, so that it knows what stands and what is owed; funds are short. Every variant of the
engine must write the oracle's outcomes byte for byte. Risk's own halts come back at random later points of the history.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec
import numpy as np

from matcher import state as m
from matcher.state import BOOK_AUCTION_ASKS, BOOK_AUCTION_BIDS, MatcherState
from matcher.views import resting_orders
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.instance import Limits
from protocol.instruments import Asset, Instrument
from protocol.records import (
    EXT_FEES_SLOT,
    EXT_IDS_SLOT,
    OUTCOME_DTYPE,
    OUTCOME_DUPLICATE,
    OUTCOME_IDS,
    VERSION,
    command_slots,
)
from risk import state as s
from tests.engine.campaign import variants
from tests.engine.driver import LIMITS, Run, Schedule, Variant, balance
from tests.engine.oracle_more import STATES, Halt, Oracle
from tests.naive.exchange import E8, Side, Stp, Tif
from tests.naive.fees import DAY_NS

ACCOUNTS, ASSETS, INSTRUMENTS = 8, 5, 7
WHO = ("op", "test")
START_TS_NS = 1_700_000_000_000_000_000
IDS_KEPT, TTLS_MS = (1, 3, 10, 1 << 12), (0, 4, 40, 400, 10_000)
"""Room for finished client order ids, and how long they are taken; ``COMMAND_NS`` makes time pass."""
COMMAND_NS = 1_000_000
"""Time from one slot to the next."""
SLOTS_A_DAY = (0, 0, 90, 31)
"""After so many slots a day has passed, so that volumes change tiers; 0 = never."""
GATEWAY = e.SOURCE_FIRST_GATEWAY
SCALES = {1: 6, 2: 8, 3: 8, 4: 0}
TABLE = (
    # instrument, base, quote, tick_e8, lot_atoms, band_up, band_down, breaker, reference, price_max, qty_max
    (1, 2, 1, 1_000_000, 10_000, 5_000_000, 5_000_000, 2_000_000, 400, 0, 0),
    (2, 3, 1, 1_000_000, 10_000, 10_000_000, 0, 3_000_000, 0, 0, 0),
    (3, 3, 2, 10_000, 100_000, 0, 8_000_000, 0, 500, 510, 3_000),
    (5, 2, 4, 100_000_000, 100_000_000, 0, 0, 1_000_000, 300, 0, 0),
)
"""Shares of 1e-8; instrument 4 stays unlisted, 6 is listed on the way."""


def numbered(group: np.ndarray, seq: int, slots_a_day: int = 0, start_ts_ns: int = START_TS_NS) -> np.ndarray:
    """A copy of the group as the sequencer stamps it."""
    out = group.copy()
    out["seq"] = np.arange(seq, seq + len(out))
    out["ts_ns"] = start_ts_ns + COMMAND_NS * seq + (DAY_NS * (seq // slots_a_day) if slots_a_day else 0)
    return out


class Market:
    """One history in the making: stamped groups and the oracle's outcomes of each."""

    def __init__(self, seed: int, n: int, *, access: bool = False, start_ts_ns: int = START_TS_NS) -> None:
        """With ``access`` also fees in schedules, groups, transfers, limits, kill switches, and days that pass."""
        self.access = access
        self.start_ts_ns = start_ts_ns
        self.name = f"--seed {seed} --n {n}"
        self.random = random.Random(seed)
        # Of its own, so that what came later into the histories leaves the rest of them as they are.
        self.activations = random.Random(seed + 1_000_003)
        self.client_ids, self.client_id_ttl_ms = self.random.choice(IDS_KEPT), self.random.choice(TTLS_MS)
        self.slots_a_day = self.random.choice(SLOTS_A_DAY) if access else 0
        self.oracle = self.new_oracle()
        self.groups: list[np.ndarray] = []
        self.expected: list[np.ndarray] = []
        self.next_seq = 1
        self.next_number = {GATEWAY: 1, e.SOURCE_CONTROL: 1}
        self.mid = dict.fromkeys(range(1, INSTRUMENTS + 1), 400.0)
        self.follow: list[Callable[[], None]] = []
        self._open()
        while len(self.groups) < n:
            self._next()

    def new_oracle(self) -> Oracle:
        """An oracle before the first command."""
        return Oracle(
            ACCOUNTS,
            ASSETS,
            INSTRUMENTS,
            client_ids=self.client_ids,
            client_id_ttl_ms=self.client_id_ttl_ms,
            tables=sized(self),
        )

    # ------------------------------------------------------------------------------------------------------- writing

    def send(self, group: np.ndarray, source: int = GATEWAY) -> None:
        """Number the group, sequence it and apply it."""
        number = self.next_number[source]
        self.next_number[source] = number + len(group)
        session = self.random.choice((0, 0, 1, 2)) if source == GATEWAY and self.access else 0
        self._apply(build.stamp(group, source, number, session))

    def office(self, group: np.ndarray) -> None:
        """The same from the control gateway."""
        self.send(group, e.SOURCE_CONTROL)

    def _apply(self, group: np.ndarray) -> None:
        group = numbered(group, self.next_seq, self.slots_a_day, self.start_ts_ns)
        self.next_seq += len(group)
        self.groups.append(group)
        self.expected.append(self.oracle.apply(group))
        if len(self.groups) % 200 == 0:
            self.oracle.check()

    def _open(self) -> None:
        rng = self.random
        for number, scale in SCALES.items():
            self.office(build.list_asset(Asset(number, f"A{number}", scale), *WHO))
        for row in TABLE:
            self.office(build.list_instrument(self._instrument(*row), *WHO))
        for account in range(1, ACCOUNTS - 1):
            self.office(build.create_account(account, *WHO))
            for asset in SCALES:
                if rng.random() < 0.85:
                    self.office(build.deposit(account, asset, self._funds(asset), *WHO))

    def _instrument(self, number: int, base: int, quote: int, tick: int, lot: int, *rest: int) -> Instrument:
        up, down, breaker, reference, price_max, qty_max = rest
        maker, taker = self.random.choice(((0, 0), (-10_000, 40_000), (100_000, 100_000), (20_000_000, 50_000_000)))
        assets = {n: Asset(n, f"A{n}", SCALES.get(n, 8)) for n in (base, quote)}
        return Instrument(
            number,
            f"I{number}",
            assets[base],
            assets[quote],
            tick,
            lot,
            maker,
            taker,
            up,
            down,
            reference,
            breaker,
            price_max,
            qty_max,
        )

    def _funds(self, asset: int) -> int:
        most = {1: 4_000_000_000, 2: 100_000_000, 3: 100_000_000, 4: 40_000}[asset]
        return 1 + self.random.randrange(most)

    # ------------------------------------------------------------------------------------------------------- actions

    def _next(self) -> None:
        rng = self.random
        if self.oracle.outbox and rng.random() < 0.12:
            own = self.oracle.outbox[0]
            self._apply(self.oracle.halt_command())
            halts = isinstance(own, Halt) and own.kind != e.CANCEL_ALL
            if halts and (self.oracle.state_of(own.instrument) == "halted" or rng.random() < 0.5):
                self.follow.append(lambda: self.office(build.resume(own.instrument, *WHO)))
            return
        if self.follow and rng.random() < 0.3:
            self.follow.pop(rng.randrange(len(self.follow)))()
            return
        for instrument in self.mid:
            self.mid[instrument] = max(40.0, self.mid[instrument] * (1 + (rng.random() - 0.5) * 0.004))
        actions = (
            self.limit,
            self.market,
            self.amount,
            self.cancel,
            self.amend,
            self.tick,
            self.money,
            self.bands,
            self.accounts,
        )
        weights = (50, 7, 7, 9, 12, 8, 6, 2, 2)
        more = (self.listing, self.status, self.cancel_all, self.odd, self.checkpoint)
        if not self.access:
            rng.choices(actions + more, (*weights, 1, 3, 1, 2, 1))[0]()
            return
        access = (
            self.schedule,
            self.assign,
            self.assign,
            self.volume_rate,
            self.membership,
            self.transfer,
            self.limits,
            self.pressed,
            self.kill,
            self.state,
            self.expire,
            self.prices,
            self.dead_man,
            self.quote,
            self.protection,
            self.oco,
        )
        weighed = (*weights, 1, 3, 2, 2, 1, 1, 1, 1, 1, 1, 2, 2, 1, 0.3, 1, 8, 8, 3, 14, 2, 8)
        rng.choices(actions + more + access, weighed)[0]()

    def account(self) -> int:
        return (
            self.random.randrange(1, ACCOUNTS - 2)
            if self.random.random() < 0.96
            else self.random.choice((0, 6, 6, 7, 8, 9, -1, 99))
        )

    def instrument(self) -> int:
        return (
            self.random.choice((1, 1, 1, 2, 2, 3, 5, 6))
            if self.random.random() < 0.98
            else self.random.choice((0, 4, 7, 8, -3, 99))
        )

    def price(self, instrument: int, side: int, *, crosses: bool) -> int:
        rng = self.random
        away = (1 if (side == Side.BUY) == crosses else -1) * rng.random() ** 2 * rng.choice((0.002, 0.01, 0.01, 0.1))
        return max(1, int(self.mid.get(instrument, 400.0) * (1 + away)))

    def lots(self, account: int, instrument: int, side: int, price: int) -> int:
        rng = self.random
        market = self.oracle.markets.get(instrument)
        if market is None:
            return 5
        spec = market.spec
        wallet = (account, spec.quote if side == Side.BUY else spec.base)
        most = self.oracle.free.get(wallet, 0) // (max(1, price) * market.k if side == Side.BUY else spec.lot_atoms)
        if rng.random() < 0.25:
            return max(1, most + rng.choice((0, 0, 0, 1)))
        return 1 + int(rng.random() ** 2 * max(1, most) * rng.choice((0.1, 0.3, 1.5)))

    def side(self) -> int:
        return self.random.randrange(2)

    def stp(self) -> int:
        return self.random.choice(tuple(Stp)) if self.random.random() < 0.4 else 0

    def order(self, group: np.ndarray) -> None:
        """Often with the client's own ids, of which there are so few that many are used again."""
        rng = self.random
        if self.access and rng.random() < 0.3:
            group["flags"][0] |= e.FLAG_API
        if self.access and rng.random() < 0.4:
            group = self.terms(group)
        if self.access and rng.random() < 0.25:
            group = self.stop(group)
        elif self.access and rng.random() < (0.25 if group["type"][0] == e.LIMIT else 0.02):
            group = self.peg(group)
        if self.access and rng.random() < 0.2:
            exits = [self.exit_of(group)] if rng.random() < 0.5 else self.exits_of(group)
            group = build.bracket(group, *exits)
        if rng.random() < 0.5:
            letter = rng.choice("abcd")
            text = rng.choice((letter, 9 * letter, 35 * "z" + letter))
            group = build.with_client_order_id(group, text, rng.randrange(1 << 40), rng.randrange(-5, 1 << 62))
            if group["flags"][0] & e.FLAG_LEGS and rng.random() < 0.1:
                group = np.concatenate([group, build.admin_slot(*WHO)])
                group["flags"][-2] |= e.FLAG_MORE
            if rng.random() < 0.03:
                group.view(EXT_IDS_SLOT.slot_dtype)["client_order_id"][1] = b""
        self.send(group)
        if rng.random() < 0.05:
            self.send(group.copy())

    def terms(self, group: np.ndarray) -> np.ndarray:
        """The order with terms, of which some make no sense."""
        rng = self.random
        qty = max(1, int(group["qty_lots"][0]))
        now = self.start_ts_ns if not self.groups else int(self.groups[-1]["ts_ns"][0])
        display, minimum, expiry = 0, 0, 0
        which = rng.randrange(8)
        if which in (0, 3, 4):
            display = rng.choice((qty, -(-qty // 2), -(-qty // 5), -(-qty // 100), -(-qty // 101), qty + 1, -1))
        if which in (1, 3, 5):
            later = now + COMMAND_NS * rng.choice((2, 5, 20, 60))
            expiry = rng.choice((-1, later, later, later, later, now, now + COMMAND_NS, -2))
        if which in (2, 4, 5):
            minimum = rng.choice((1, 1, qty, -(-qty // 2), -(-qty // 2), qty + 1, -1))
        return build.with_terms(group, display_qty_lots=display, min_qty_lots=minimum, expiry_ts_ns=expiry)

    def stop(self, group: np.ndarray) -> np.ndarray:
        """The order waiting for a price, mostly one that soon comes; some make no sense."""
        rng = self.random
        instrument = int(group["instrument"][0])
        ref = rng.choice((0, 0, 0, 1, 2)) if rng.random() < 0.97 else 3
        seen = self.oracle.seen.get((instrument, ref), 0) or int(self.mid.get(instrument, 400.0))
        if rng.random() < 0.3:
            kind = rng.choice((e.OFFSET_TICKS, e.OFFSET_BASIS_POINTS)) if rng.random() < 0.95 else 3
            offset = rng.choice((1, 1, 2, 3, 20, 100, seen, 9_999, 10_000, 0))
            takes_profit = rng.random() < 0.04
            activation = self.activation(seen, int(group["side"][0]))
            named: dict[str, Any] = {
                "trigger_ref": ref,
                "takes_profit": takes_profit,
                "trigger_price_ticks": activation,
            }
            return build.with_trigger(group, offset_kind=kind, offset=offset, **named)
        takes_profit = rng.random() < 0.4
        rises = (int(group["side"][0]) == Side.BUY) != takes_profit
        away = max(1, int(seen * rng.random() ** 2 * rng.choice((0.004, 0.004, 0.02))))
        trigger = seen + (away if rises else -away) if rng.random() < 0.93 else rng.choice((seen, 0, -1, 1 << 61))
        return build.with_trigger(group, trigger_ref=ref, trigger_price_ticks=trigger, takes_profit=takes_profit)

    def activation(self, seen: int, side: int) -> int:
        """An activation price that mostly soon comes; some have come, some make no sense, 0 = none."""
        rng = self.activations
        if rng.random() < 0.5:
            return 0
        away = int(seen * rng.random() ** 2 * rng.choice((0.004, 0.004, 0.02)))
        activation = seen + (away if side == Side.SELL else -away)
        return activation if rng.random() < 0.9 else rng.choice((seen, 1, -1, 1 << 61))

    def exit_of(self, group: np.ndarray) -> np.ndarray:
        """An exit of the order, mostly of the same lots, not far from its price; some make no sense."""
        rng = self.random
        account, instrument, side = (int(group[name][0]) for name in ("account", "instrument", "side"))
        side = 1 - side if rng.random() < 0.98 else side
        qty = max(1, int(group["qty_lots"][0]))
        lots = rng.choice((qty, qty, qty, -(-qty // 2), 1)) if rng.random() < 0.97 else rng.choice((qty + 1, 0))
        if group["type"][0] == e.MARKET_AMOUNT:
            lots = 1 + rng.randrange(50)
        price = self.price(instrument, side, crosses=rng.random() < 0.3)
        if rng.random() < 0.7:
            tif = rng.choice((Tif.GTC,) * 8 + (Tif.IOC, Tif.POST_ONLY, Tif.FOK))
            order = build.limit(
                account=account, instrument=instrument, side=side, price_ticks=price, qty_lots=lots, tif=tif
            )
        else:
            price = rng.choice((0, 1 if side == Side.SELL else 2 * price, price))
            order = build.market(account=account, instrument=instrument, side=side, qty_lots=lots, price_ticks=price)
        order["stp"][0] = self.stp()
        if rng.random() < 0.5:
            order = self.stop(order)
        if rng.random() < 0.02:
            order = self.terms(order)
        if rng.random() < 0.4:
            order = build.with_client_order_id(order, rng.choice("abcdefgh"), 0, rng.randrange(9))
        return order

    def exits_of(self, group: np.ndarray) -> list[np.ndarray]:
        """A take-profit and a stop for the order, mostly around its price."""
        rng = self.random
        account, instrument, side = (int(group[name][0]) for name in ("account", "instrument", "side"))
        away = 1 if side == Side.BUY else -1
        qty = 5 if group["type"][0] == e.MARKET_AMOUNT else max(1, int(group["qty_lots"][0]))
        named = {
            "account": account,
            "instrument": instrument,
            "side": 1 - side,
            "qty_lots": -(-qty // rng.choice((1, 1, 3))),
        }
        mid = int(self.mid.get(instrument, 400.0))
        near, far = (max(1, mid + sign * int(mid * rng.random() * 0.01)) for sign in (away, -away))
        first = build.limit(price_ticks=near, tif=Tif.POST_ONLY, **named)
        if rng.random() < 0.5:
            first = build.limit(price_ticks=max(1, near - away * rng.choice((0, 0, 9))), **named)
            ref = rng.choice((0, 0, 0, 1))
            first = build.with_trigger(first, trigger_price_ticks=near, trigger_ref=ref, takes_profit=True)
        second = build.limit(price_ticks=max(1, far - away * rng.choice((0, 2, 9, 40))), **named)
        if rng.random() < 0.4:
            second = build.market(price_ticks=max(1, far - away * rng.choice((2, 9, 40))), **named)
        second = build.with_trigger(second, trigger_price_ticks=far, trigger_ref=rng.choice((0, 0, 0, 2)))
        if rng.random() < 0.03:
            second["qty_lots"] += 1
        exits = [first, second]
        for k in range(2):
            if rng.random() < 0.3:
                exits[k] = build.with_client_order_id(exits[k], rng.choice("abcdefgh"), 3)
        return exits

    def peg(self, group: np.ndarray) -> np.ndarray:
        """The order following a best price; some make no sense."""
        rng = self.random
        offset = rng.choice((0, 0, 0, 1, -1, 3, -3, rng.randrange(-200, 201), 1 << 30))
        if rng.random() < 0.9:
            # What is left of the terms is the expiry.
            group["tif"] = rng.choice((e.GTC, e.GTC, e.POST_ONLY))
            group["display_qty_lots"] = group["min_qty_lots"] = 0
        if rng.random() < 0.7 and group["price_ticks"][0] > 0:
            # Mostly there is a way to its limit.
            sign = 1 if group["side"][0] == e.BUY else -1
            group["price_ticks"] = max(1, int(group["price_ticks"][0] * (1 + sign * rng.random() * 0.02)))
        return build.with_peg(group, rng.choice((0, 1, 2, 2)) if rng.random() < 0.98 else 3, offset)

    def oco(self) -> None:
        """Two linked orders around the price; some make no sense."""
        rng = self.random
        account, instrument, side = self.account(), self.instrument(), self.side()
        seen = self.oracle.seen.get((instrument, 0), 0) or int(self.mid.get(instrument, 400.0))
        away = max(1, int(seen * rng.random() ** 2 * 0.004))
        sign = 1 if side == Side.SELL else -1
        price = seen + sign * away
        lots = self.lots(account, instrument, side, price)
        named = {"account": account, "instrument": instrument, "side": side, "stp": self.stp()}
        tif = Tif.POST_ONLY if rng.random() < 0.96 else Tif.GTC
        first = build.limit(price_ticks=price, qty_lots=lots, tif=tif, **named)
        if rng.random() < 0.35:
            ref = rng.choice((0, 0, 1, 2))
            if rng.random() < 0.5:
                first = build.market(qty_lots=lots, price_ticks=max(1, seen - sign * 9), **named)
            first = build.with_trigger(first, trigger_ref=ref, trigger_price_ticks=price, takes_profit=True)
        trigger = seen - sign * max(1, int(seen * rng.random() ** 2 * 0.004))
        if rng.random() < 0.04:
            trigger = price + rng.choice((0, sign))
        limit = max(1, trigger - sign * rng.choice((0, 0, 1, 5, 40, -3)))
        named["stp"] = self.stp()
        if rng.random() < 0.03:
            lots += 1
        if rng.random() < 0.4:
            second = build.market(qty_lots=lots, price_ticks=limit, **named)
        else:
            tif = rng.choice((Tif.GTC, Tif.GTC, Tif.IOC, Tif.FOK, Tif.POST_ONLY))
            second = build.limit(price_ticks=limit, qty_lots=lots, tif=tif, **named)
        if rng.random() < 0.2:
            kind = rng.choice((e.OFFSET_TICKS, e.OFFSET_BASIS_POINTS))
            activation = self.activations.choice((0, 0, seen + sign * (away // 2), price, seen))
            trailing: dict[str, Any] = {"trigger_ref": 0, "trigger_price_ticks": activation}
            second = build.with_trigger(second, offset_kind=kind, offset=rng.choice((1, 3, 20)), **trailing)
        elif rng.random() < 0.97:
            ref = rng.choice((0, 0, 0, 1, 2))
            second = build.with_trigger(second, trigger_ref=ref, trigger_price_ticks=trigger)
        if rng.random() < 0.3:
            later = (0 if not self.groups else int(self.groups[-1]["ts_ns"][0])) + COMMAND_NS * 20
            first = build.with_terms(first, expiry_ts_ns=later)
            second = build.with_terms(second, expiry_ts_ns=later if rng.random() < 0.9 else 0)
        legs = [first, second]
        for k in range(2):
            if rng.random() < 0.4:
                text = rng.choice("abcdefgh") + "x" * rng.choice((0, 12))
                legs[k] = build.with_client_order_id(legs[k], text, 7)
        if rng.random() < 0.03:
            legs.reverse()
        group = build.oco(*legs)
        if rng.random() < 0.02:
            group["account"][np.flatnonzero(group["type"] == e.EXT_LEG)] += 1
        if rng.random() < 0.02:
            group["flags"][0] &= ~np.uint32(e.FLAG_LEGS)
        self.send(group)

    def prices(self) -> None:
        rng = self.random
        instrument = self.instrument()
        near = [int(self.mid.get(instrument, 400.0) * (1 + (rng.random() - 0.5) * 0.01)) for _ in range(2)]
        mark, index = (rng.choice((price, price, price, 0)) for price in near)
        if rng.random() < 0.04:
            mark = rng.choice((-1, 1 << 62))
        self.office(build.set_prices(instrument, mark, index))

    def expire(self) -> None:
        group = command_slots(1)
        group["type"] = e.EXPIRE
        group["timer"] = 2
        if self.random.random() < 0.05:
            group["instrument"] = 1
        self.office(group)

    def limit(self) -> None:
        rng = self.random
        account, instrument, side = self.account(), self.instrument(), self.side()
        price = self.price(instrument, side, crosses=rng.random() < 0.45)
        tif = rng.choice((Tif.GTC,) * 6 + (Tif.IOC, Tif.FOK, Tif.POST_ONLY))
        lots = self.lots(account, instrument, side, price)
        self.order(
            build.limit(
                account=account,
                instrument=instrument,
                side=side,
                price_ticks=price,
                qty_lots=lots,
                tif=tif,
                stp=self.stp(),
            )
        )

    def market(self) -> None:
        account, instrument, side = self.account(), self.instrument(), self.side()
        price = self.random.choice((0, 0, 0, 1, self.price(instrument, side, crosses=True)))
        lots = self.lots(account, instrument, side, price or int(self.mid.get(instrument, 400) * 1.1))
        self.order(
            build.market(
                account=account, instrument=instrument, side=side, qty_lots=lots, price_ticks=price, stp=self.stp()
            )
        )

    def amount(self) -> None:
        account, instrument, side = self.account(), self.instrument(), self.side()
        price = self.random.choice((0, 0, self.price(instrument, side, crosses=True)))
        at = price or int(self.mid.get(instrument, 400) * 1.1)
        market = self.oracle.markets.get(instrument)
        units = self.lots(account, instrument, side, at) * at * (market.k if market else 1) + self.random.randrange(3)
        group = build.market_amount(
            account=account, instrument=instrument, side=side, amount_units=units, price_ticks=price, stp=self.stp()
        )
        self.order(group)

    def cancel(self) -> None:
        rng = self.random
        if not self.oracle.orders:
            return
        order = self.oracle.orders[rng.choice(list(self.oracle.orders))]
        account = order.account if rng.random() < 0.95 else self.account()
        self.send(build.cancel(account=account, instrument=order.instrument, order_id=order.id))
        if rng.random() < 0.5:  # what it freed is needed at once
            lots = self.lots(order.account, order.instrument, order.side, order.price)
            group = build.limit(
                account=order.account,
                instrument=order.instrument,
                side=order.side,
                price_ticks=order.price,
                qty_lots=lots,
            )
            self.order(group)

    def amend(self) -> None:
        rng = self.random
        if not self.oracle.orders:
            return
        order = self.oracle.orders[rng.choice(list(self.oracle.orders))]
        price = rng.choice(
            (order.price, order.price, self.price(order.instrument, order.side, crosses=rng.random() < 0.3), 10_000)
        )
        total = max(
            1,
            rng.choice(
                (order.total, order.total + 1, order.total - 1, order.total // 2, order.total + rng.randrange(50))
            ),
        )
        if rng.random() < 0.3:
            total = order.total + self.lots(order.account, order.instrument, order.side, price)
        account = order.account if rng.random() < 0.97 else self.account()
        group = build.amend(
            account=account, instrument=order.instrument, order_id=order.id, price_ticks=price, qty_lots=total
        )
        self.send(group)

    def cancel_all(self) -> None:
        account, instrument = self.random.choice(
            ((self.account(), 0), (self.account(), 0), (0, self.instrument()), (0, 0), (3, 1))
        )
        rng = self.random
        by = rng.choice((GATEWAY, e.SOURCE_CONTROL))
        if not self.access or rng.random() < 0.4:
            self.send(build.cancel_all(account=account, instrument=instrument), by)
            return
        sides, cause = rng.choice((0, 1, 1, 2, 2, 3, -1)), rng.choice((0, 0, 0, 1, 1, 2, -1))
        if rng.random() < 0.7:
            sides, cause = min(2, abs(sides)), min(1, abs(cause))
        of = self.session()
        self.send(build.cancel_all(account=account, instrument=instrument, session=of, sides=sides, cause=cause), by)

    def session(self) -> int:
        """Mostly one that there is."""
        rng = self.random
        there = build.session_of(GATEWAY, rng.choice((1, 1, 2, 3)))
        return rng.choice((0, there, there, there, there, build.session_of(9, 1), GATEWAY << 16, 1, 1 << 40, -1))

    def quote(self) -> None:
        """Mostly of what its account quotes already: moved, changed, pulled, or as it is; often of all that its account has."""
        rng = self.random
        account = rng.choice((1, 1, 2, 2, 3, self.account()))
        quotes = []
        for instrument in rng.sample((1, 2, 3, 5, 6), rng.choice((1, 1, 2, 3))) + rng.choice(([], [], [1], [4])):
            old = [self.oracle.orders.get(n) for n in self.oracle.quotes.get((account, instrument), {}).values()]
            prices = [self.price(instrument, side, crosses=rng.random() < 0.05) for side in (0, 1)]
            lots = [rng.choice((0, *[self.lots(account, instrument, s, prices[s])] * 5)) for s in (0, 1)]
            for order in old:
                if order is not None and rng.random() < 0.7:
                    prices[order.side] = rng.choice(
                        (order.price, order.price, order.price + 1, max(1, order.price - 1))
                    )
                    left = order.left
                    more = self.lots(account, instrument, order.side, prices[order.side])
                    lots[order.side] = rng.choice(
                        (left, left, left + 1, max(0, left - 1), 0, left + more, left + more, order.total)
                    )
            if prices[0] >= prices[1] and rng.random() < 0.7:
                prices[1] = prices[0] + 1
            if rng.random() < 0.03:
                lots[rng.randrange(2)] = rng.choice((-1, 1 << 60))
            if rng.random() < 0.03:
                prices[rng.randrange(2)] = rng.choice((0, -1))
            quotes.append(build.quote(instrument, prices[0], lots[0], prices[1], lots[1], rng.randrange(-3, 1 << 40)))
        group = build.mass_quote(account=account, quotes=quotes)
        if rng.random() < 0.02:
            group = rng.choice((group[:1].copy(), group))
            group["flags"][-1] = 0
            group["account"][-1] = 3
        if rng.random() < 0.2:
            group["flags"][0] |= e.FLAG_API
        self.send(group)

    def protection(self) -> None:
        rng = self.random
        account, instrument = rng.choice((1, 2, self.account())), rng.choice((1, 1, 2, self.instrument()))
        window = rng.choice((10**6, 10**8, 10**9, 3_600 * 10**9, 0, 1, -1))
        limits = [rng.choice((0, 0, n, -1 if rng.random() < 0.1 else 1)) for n in (500, 200, 3)]
        group = build.set_protection(
            account, instrument, window_ns=window, qty_lots=limits[0], net_lots=limits[1], trades=limits[2]
        )
        self.send(group)

    def dead_man(self) -> None:
        rng = self.random
        second = 1_000_000_000
        duration = rng.choice((second, second, second, second + 200_000_000, 0, 1, second - 1, DAY_NS, DAY_NS + 1, -1))
        instrument = rng.choice((0, 0, 0, 1, self.instrument()))
        session = rng.choice((0, 0, self.session()))
        group = build.dead_man(account=self.account(), duration_ns=duration, instrument=instrument, session=session)
        self.send(group, rng.choice((GATEWAY, GATEWAY, e.SOURCE_CONTROL)))

    def tick(self) -> None:
        group = command_slots(1)
        group["type"] = e.TICK
        group["timer"] = 1
        self.office(group)

    def checkpoint(self) -> None:
        group = command_slots(1)
        group["type"] = e.CHECKPOINT
        self.office(group)

    def money(self) -> None:
        rng = self.random
        account, asset = self.account(), rng.choice((1, 1, 2, 3, 4, 4, 5, 9))
        free = self.oracle.free.get((account, asset), 0)
        part = rng.choice((free, free + 1, free // 2, 1, 0, 1 << 62, (1 << 62) - 1, -1))
        some = 1 + rng.randrange(max(1, self._funds(asset) // 10)) if asset in SCALES else 1
        holds = self.oracle.holds
        held = rng.choice(list(holds)) if holds else 1
        owner = holds[held].account if holds and rng.random() < 0.95 else account
        rng.choice(
            (
                lambda: self.office(build.deposit(account, asset, rng.choice((some, some, some, part)), *WHO)),
                lambda: self.office(build.adjust(account, asset, rng.choice((some, -some, -part, -part)), *WHO)),
                lambda: self.office(build.withdraw_hold(account, asset, part, *WHO)),
                lambda: self.office(build.withdraw_settle(owner, held, *WHO)),
                lambda: self.office(build.withdraw_release(owner, held, *WHO)),
            )
        )()

    def bands(self) -> None:
        rng = self.random
        instrument = self.instrument()
        self.office(
            build.set_bands(
                instrument,
                band_up_e8=rng.choice((0, 3_000_000, 10_000_000, E8, E8 + 1)),
                band_down_e8=rng.choice((0, 3_000_000, 10_000_000, E8 - 1, E8)),
                breaker_e8=rng.choice((0, 1_000_000, 5_000_000, E8, -1)),
                reference_ticks=rng.choice((0, 0, int(self.mid.get(instrument, 400.0)), -1, 1 << 61)),
                **self.interruption(),
                operator=WHO[0],
                reason=WHO[1],
            )
        )

    def interruption(self) -> dict[str, int]:
        """How trading is interrupted beside the breaker; sometimes in a way that makes no sense."""
        rng = self.random
        if not self.access or rng.random() < 0.3:
            return {}
        ns = COMMAND_NS
        return {
            "dynamic_e8": rng.choice((0, 500_000, 2_000_000, 2_000_000, E8, E8 + 1, -1)),
            "auction_ns": rng.choice((0, 20 * ns, 60 * ns, 60 * ns, DAY_NS, DAY_NS + 1)),
            "random_ns": rng.choice((0, 0, 7, 10 * ns, 20 * ns, -1)),
            "extensions": rng.choice((0, 0, 1, 1, 100, 101, -1)),
        }

    def status(self) -> None:
        self.random.choice((self.freeze, self.halt, self.resume_all, self.set_fees))()

    def freeze(self) -> None:
        account = self.account()
        self.office(build.freeze(account, *WHO))
        self.follow.append(lambda: self.office(build.unfreeze(account, *WHO)))

    def halt(self) -> None:
        instrument = self.instrument()
        self.office(build.halt(instrument, *WHO))
        self.follow.append(lambda: self.office(build.resume(instrument, *WHO)))

    def resume_all(self) -> None:
        for instrument in (1, 2, 5):
            self.office(build.resume(instrument, *WHO))

    def set_fees(self) -> None:
        maker, taker = self.random.choice(((0, 10), (-5, 5), (-6, 5), (0, E8)))
        self.office(build.set_fees(self.instrument(), maker, taker, *WHO))

    def schedule(self) -> None:
        """Versions that are in force at once, planned, or dated back; mostly sound ones."""
        rng = self.random
        least = sorted(
            rng.sample(range(1, 10**8), rng.randrange(3)) + rng.sample(range(10**8, 10**10), rng.randrange(5))
        )
        maker, taker = rng.choice(
            ((0, 0), (100_000, 100_000), (-20_000, 60_000), (50_000, 80_000), (20_000_000, 50_000_000))
        )
        tiers = [(0, maker, taker)]
        for units in least[:6]:
            cut = rng.choice((100, 90, 75, 40, 40))
            tiers.append((units, rng.choice((maker * cut // 100, -taker * cut // 300)), -(-taker * cut // 100)))
        discount = rng.choice((0, 10_000_000, 10_000_000, 99_999_999))
        if rng.random() < 0.2:
            at = rng.randrange(len(tiers))
            tiers[at] = (
                tiers[at][0] if at == 0 else rng.choice((0, -1, 1 << 62, 5)),
                *rng.choice(((E8, 1), (1, -1), (-E8, 1))),
            )
        if rng.random() < 0.1:
            discount = rng.choice((-1, E8))
        now = int(self.groups[-1]["ts_ns"][0])
        effective = rng.choice((0, 0, 0, -1, now - 1, now + 30 * COMMAND_NS, now + DAY_NS, now + 3 * DAY_NS))
        number = rng.choice((1, 2, 3, 3, 4, 0, -1, 9))
        group = build.set_schedule(number, tiers, *WHO, api_discount_e8=discount, effective_ts_ns=effective)
        if rng.random() < 0.05:
            spoiled = group.view(EXT_FEES_SLOT.slot_dtype)
            name, value = rng.choice((("tiers", 0), ("tiers", 8), ("product", 1), ("type", e.EXT_LISTING)))
            spoiled[name][1] = value
        self.office(group)

    def assign(self) -> None:
        rng = self.random
        scope = rng.choice((0, 1, 1, 3, 4, 4, 5, 5, 5, 2, 6, -1))
        schedule = rng.choice((1, 2, 3, 3, 4, 0, 9, -1))
        account, instrument, firm = self.account(), self.instrument(), rng.choice((1, 2, 2, 3, 0, 4, -1))
        self.office(build.assign_fees(scope, schedule, *WHO, account=account, instrument=instrument, firm=firm))

    def volume_rate(self) -> None:
        rng = self.random
        asset = rng.choice((1, 1, 2, 4, 5, 0))
        self.office(build.set_volume_rate(asset, rng.choice((0, E8, E8, 3 * E8, 7, 1 << 61, -1, 1 << 62)), *WHO))

    def membership(self) -> None:
        """Often behind a cancel-all, because open orders forbid it."""
        rng = self.random
        account = self.account()
        if rng.random() < 0.7:
            self.send(build.cancel_all(account=account))
        master, firm, stp = (
            rng.choice((0, 1, 2, 2, 3, account, 6, 99, -1)),
            rng.choice((0, 1, 2, 3, 3, 4, -1)),
            rng.choice((0, 1, 1, 1, 2, -1)),
        )
        self.office(build.set_groups(account, master, firm, stp, *WHO))

    def transfer(self) -> None:
        rng = self.random
        account, asset = self.account(), rng.choice((1, 1, 2, 3, 9))
        free = self.oracle.free.get((account, asset), 0)
        masters = [
            n for n in range(1, ACCOUNTS + 1) if self.oracle._group(n).master == self.oracle._group(account).master
        ]
        to = rng.choice(masters) if masters and rng.random() < 0.8 else self.account()
        amount = rng.choice((free, free // 2, free + 1, 1, 0, 1 << 62))
        self.office(build.transfer(account, to, asset, amount, *WHO))
        if rng.random() < 0.3:  # what came is needed at once
            self.send(
                build.limit(account=to, instrument=1, side=self.side(), price_ticks=400, qty_lots=max(1, amount // 400))
            )

    def scope(self) -> tuple[int, dict[str, Any]]:
        rng = self.random
        kind = rng.choice((0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, -1))
        given = {
            e.SCOPE_ACCOUNT: "account",
            e.SCOPE_USER: "account",
            e.SCOPE_FIRM: "firm",
            e.SCOPE_INSTRUMENT: "instrument",
        }
        name = given.get(kind, "account")
        number = {
            "account": self.account,
            "firm": lambda: rng.choice((1, 2, 3, 3, 0, 4)),
            "instrument": self.instrument,
        }
        return kind, {name: number[name]()}

    def limits(self) -> None:
        """Mostly one of them, tight enough to be met; taken away again after a while."""
        rng = self.random
        kind, at = self.scope()
        names = ("qty_max_lots", "notional_max_units", "open_orders_max", "orders_per_s", "collar_e8")
        values = (
            (10, 1_000, 30_000, -1),
            (10_000, 10**7, 10**9, 1 << 62),
            (1, 2, 3, 5, 1 << 31),
            (1, 3, 10, -1),
            (100_000, 1_000_000, E8, E8 + 1),
        )
        chosen: dict[str, Any] = {
            name: rng.choice(options) for name, options in zip(names, values, strict=True) if rng.random() < 0.3
        }
        self.office(build.set_limits(kind, *WHO, **{**at, **chosen}))
        self.follow.append(lambda: self.office(build.set_limits(kind, *WHO, **at)))

    def pressed(self) -> None:
        """A limit of an account's scopes, and at once orders on both sides of it; each limit is met in each kind of order."""
        rng = self.random
        account, instrument = rng.randrange(1, ACCOUNTS - 2), rng.choice((1, 1, 2, 3))
        master, firm = self.oracle._group(account).master, self.oracle._group(account).firm
        scopes: list[tuple[int, dict[str, Any]]] = [
            (e.SCOPE_VENUE, {}),
            (e.SCOPE_INSTRUMENT, {"instrument": instrument}),
        ]
        scopes += [(e.SCOPE_ACCOUNT, {"account": account}), (e.SCOPE_USER, {"account": master})]
        scopes += [(e.SCOPE_FIRM, {"firm": firm})] if firm else []
        kind, at = rng.choice(scopes)
        market = self.oracle.markets.get(instrument)
        if market is None or account not in self.oracle.status:
            return
        side, price = self.side(), max(1, int(self.mid[instrument]))
        lots = rng.choice((1, 3, 20, 500))
        if rng.random() < 0.5:
            self.office(build.set_volume_rate(market.spec.quote, rng.choice((E8, 3, 7 * E8)), *WHO))
        value = lots * price * market.k * self.oracle.volume_rates.get(market.spec.quote, 0) // E8
        chosen: dict[str, Any] = rng.choice(
            (
                {"orders_per_s": rng.choice((1, 2))},
                {"collar_e8": rng.choice((100_000, 1_000_000, 5_000_000))},
                {"qty_max_lots": lots},
                {"notional_max_units": max(1, value + rng.choice((-1, 0, 1)))},
                {"open_orders_max": rng.choice((1, 2))},
            )
        )
        paid = market.spec.quote if side == Side.BUY else market.spec.base
        self.office(build.deposit(account, paid, 4 * (lots + 2) * max(price * market.k, market.spec.lot_atoms), *WHO))
        self.office(build.set_limits(kind, *WHO, **{**at, **chosen}))
        for _ in range(rng.choice((3, 4, 6))):
            near = max(1, price + rng.choice((0, 0, 1, -1, price // 50, -price // 50, price // 8, -price // 8)))
            size = max(1, lots + rng.choice((0, 0, 0, 1, -1)))
            common = {"account": account, "instrument": instrument, "side": side, "price_ticks": near}
            by_amount = size * near * market.k + rng.choice((0, 0, -1, near * market.k - 1))
            group = rng.choice(
                (
                    build.limit(**common, qty_lots=size),
                    build.limit(**common, qty_lots=size),
                    build.market(**common, qty_lots=size),
                    build.market_amount(**common, amount_units=max(1, by_amount)),
                )
            )
            self.send(group)
            mine = [order for order in self.oracle.orders.values() if order.account == account]
            if mine and rng.random() < 0.4:
                order = rng.choice(mine)
                amended = build.amend(
                    account=account, instrument=order.instrument, order_id=order.id, price_ticks=near, qty_lots=size
                )
                self.send(amended)
        self.office(build.set_limits(kind, *WHO, **at))

    def kill(self) -> None:
        kind, at = self.scope()
        if self.random.random() < 0.1:
            at["instrument"] = 1
        self.office(build.kill(kind, *WHO, **at))
        self.follow.append(lambda: self.office(build.revive(kind, *WHO, **at)))

    def state(self) -> None:
        """Any state, or maintenance, for a while; what is delisted stays so."""
        rng = self.random
        if rng.random() < 0.15:
            self.office(build.set_state(0, rng.choice((0, 1, 1, 1, 2)), *WHO))
            self.follow.append(lambda: self.office(build.set_state(0, e.VENUE_OPEN, *WHO)))
            return
        instrument = self.instrument()
        if rng.random() < 0.5:
            self.auction(instrument)
            return
        wanted = rng.choice((3, 3, 3, 3, 4, 5, 2, 1, 7, 8, 9, -1))
        if rng.random() < 0.2:
            wanted = 6
            instrument = rng.choice((instrument, 6, 6))
        self.office(build.set_state(instrument, wanted, *WHO))
        if rng.random() < 0.9:
            self.follow.append(lambda: self.office(build.set_state(instrument, e.INSTRUMENT_OPEN, *WHO)))

    def auction(self, instrument: int) -> None:
        """Orders gather, many of them crossed, for a while, which ends in one of many ways."""
        rng = self.random
        now = int(self.groups[-1]["ts_ns"][0])
        if rng.random() < 0.4:
            self.office(build.set_state(instrument, e.INSTRUMENT_PRE_OPEN, *WHO))
            self.crowd(instrument)
        end = now + COMMAND_NS * rng.choice((20, 40, 80, 80, 80, 0, 1 << 31))
        then = rng.choice((1, 1, 1, 3, 5, 2, 0))
        if rng.random() < 0.5:
            end = then = 0
        self.office(build.set_state(instrument, e.INSTRUMENT_AUCTION, *WHO, end_ts_ns=end, then=then))
        self.crowd(instrument)
        if rng.random() < 0.7:
            self.expire()
        if rng.random() < 0.3:
            self.crowd(instrument)
        for wanted in rng.choice(((1,), (1,), (1,), (3, 1), (5, 1), (2, 8, 1), (4, 3, 1), (5, 6))):
            self.follow.append(lambda wanted=wanted: self.office(build.set_state(instrument, wanted, *WHO)))  # type: ignore[misc]

    def crowd(self, instrument: int) -> None:
        """Orders of several accounts about one price."""
        for _ in range(self.random.randrange(6)):
            account, side = self.random.randrange(1, ACCOUNTS - 2), self.side()
            price = self.price(instrument, side, crosses=self.random.random() < 0.7)
            lots = self.lots(account, instrument, side, price)
            self.order(build.limit(account=account, instrument=instrument, side=side, price_ticks=price, qty_lots=lots))
            if self.random.random() < 0.2:
                self.amend()

    def accounts(self) -> None:
        rng = self.random
        account = rng.choice((6, 6, 7, 8, 9, 0, 3))
        rng.choice((self._close, lambda n: self.office(build.create_account(n, *WHO))))(account)

    def _close(self, account: int) -> None:
        """Sometimes after everything was taken out, so that it is empty at that very moment."""
        if account > ACCOUNTS - 3 and self.random.random() < 0.4 and account in self.oracle.status:
            self.send(build.cancel_all(account=account))
            for asset in SCALES:
                if self.oracle.free[account, asset]:
                    self.office(build.adjust(account, asset, -self.oracle.free[account, asset], *WHO))
        self.office(build.close_account(account, *WHO))

    def listing(self) -> None:
        rng = self.random
        good = (6, 3, 2, 10_000, 100_000, 0, 8_000_000, 0, 500, 0, 0)
        spoiled = list(good)
        at = rng.randrange(len(good))
        spoiled[at] = rng.choice((0, -1, 1, 9, E8, E8 + 1, 1 << 62))
        row = good if rng.random() < 0.3 else tuple(spoiled)
        if not all(-(1 << 31) <= v < 1 << 31 for v in row[:3]):
            row = good
        group = build.list_instrument(self._instrument(*row), *WHO)
        if rng.random() < 0.1:
            group = build.list_asset(Asset(rng.choice((1, 5, 6)), "X", rng.choice((8, 11))), *WHO)
        if rng.random() < 0.05:
            group = group[:1].copy()
            group["flags"] = 0
        self.office(group)

    def odd(self) -> None:
        rng = self.random
        group = command_slots(1)
        group["type"] = rng.choice((0, 7, 15, 21, 43, 52, 53, 64, 65, 96, 105, 127, 255))
        group["account"], group["instrument"], group["qty_lots"] = self.account(), self.instrument(), 1
        if rng.random() < 0.5:
            group = build.limit(
                account=self.account(),
                instrument=1,
                side=self.side(),
                price_ticks=self.price(1, 0, crosses=False),
                qty_lots=1,
            )
            field, value = rng.choice(
                (("side", 2), ("side", 255), ("tif", 4), ("stp", 5), ("price_ticks", 0), ("qty_lots", -1))
            )
            group[field] = value
        elif rng.random() < 0.3:
            group = build.set_timer(1, rng.choice((0, 1, 999_999, 1_000_000, -1)), 0, *WHO)
        self.send(group)


class Outcomes:
    """A sink that keeps every outcome."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []

    def __call__(self, outcomes: np.ndarray) -> None:
        self.parts.append(outcomes.copy())

    def all(self) -> np.ndarray:
        return np.concatenate(self.parts) if self.parts else np.zeros(0, dtype=OUTCOME_DTYPE)


def compare(expected: np.ndarray, actual: np.ndarray, groups: list[np.ndarray]) -> None:
    """AssertionError with the first outcome that differs, its fields and its command."""
    if expected.tobytes() == actual.tobytes():
        return
    for one, other in zip(expected, actual, strict=False):
        if one.tobytes() == other.tobytes():
            continue
        dtype = OUTCOME_IDS.slot_dtype if one["kind"] == e.OUT_IDS else OUTCOME_DTYPE
        if one["reason"] == r.DUPLICATE_CLIENT_ID:
            dtype = OUTCOME_DUPLICATE.slot_dtype
        a, b = (x.reshape(1).view(dtype)[0] for x in (one, other))
        fields = {name: (a[name], b[name]) for name in dtype.names or () if a[name] != b[name]}
        command = next(group[0] for group in groups if group["seq"][0] == min(int(one["seq"]), int(other["seq"])))
        raise AssertionError(
            f"outcome {one['index']} of {describe(command)}: expected and actual differ in {fields}; expected {a}"
        )
    raise AssertionError(f"expected {len(expected)} outcomes, got {len(actual)}")


def describe(command: np.void) -> str:
    """A command in one line."""
    fields = {
        name: command[name].item()
        for name in command.dtype.names or ()
        if command[name] and name not in ("ts_ns", "version")
    }
    return f"{e.COMMAND_NAMES.get(int(command['type']), '?')} {fields}"


class MarketRun:
    """A variant of the engine over a market's groups, or others, in parts."""

    def __init__(
        self, market: Market, variant: Variant, parts: int = 4, groups: list[np.ndarray] | None = None
    ) -> None:
        groups = market.groups if groups is None else groups
        self.outcomes = Outcomes()
        self.run = Run(variant, sized(market), self.outcomes)
        for part in range(parts):
            mine = groups[len(groups) * part // parts : len(groups) * (part + 1) // parts]
            if mine:
                self.run.feed(np.concatenate(mine))


def sized(market: Market) -> Limits:
    """Tables of exactly the oracle's size."""
    return msgspec.structs.replace(
        LIMITS, accounts=ACCOUNTS, assets=ASSETS, instruments=INSTRUMENTS, client_ids=market.client_ids,
        client_id_ttl_ms=market.client_id_ttl_ms, firms=3, fee_schedules=4, fee_versions=30, fee_contracts=4,
    )  # fmt: skip


def _check_stops(oracle: Oracle, matcher: MatcherState, instrument: int, side: int) -> None:
    """Stops stand in the order in which the price will set them off; on the side SELL those that wait for a rise."""
    for ref in (e.TRIGGER_LAST, e.TRIGGER_MARK, e.TRIGGER_INDEX):
        mine = [
            (o, o.stop)
            for o in oracle.waiting
            if o.id in oracle.orders and o.instrument == instrument and o.stop is not None
        ]
        here = [(o, stop) for o, stop in mine if stop.ref == ref and stop.waits_for_rise == (side == Side.SELL)]
        here.sort(key=lambda pair: pair[1].waits_at if side == Side.SELL else -pair[1].waits_at)
        book = instrument + (m.BOOK_LAST + ref) * len(matcher.lot_atoms)
        rows = resting_orders(matcher, book, side)[["order_id", "price_ticks", "left_lots"]].tolist()
        assert [(o.id, stop.waits_at, o.left) for o, stop in here] == rows, f"stops of {instrument}, side {side}"


def compare_tables(oracle: Oracle, run: Run) -> None:
    """Balances, fees, references, statuses and books of the settled engine are the oracle's."""
    engine = run.engine
    risk = engine.risk
    for account in range(1, ACCOUNTS + 1):
        for asset in range(1, ASSETS + 1):
            expected = (oracle.free[account, asset], oracle.locked[account, asset])
            assert expected == balance(engine, account, asset), f"account {account}, asset {asset}"
        status = e.ACCOUNT_FROZEN if account in oracle.frozen else oracle.status.get(account, e.ACCOUNT_NONE)
        assert status == risk.accounts[account]["status"]
    for asset in range(1, ASSETS + 1):
        row = risk.assets[asset]
        assert (oracle.fee[asset], oracle.net_deposits[asset]) == (row["fee_units"], row["net_deposits_units"])
        by_type = [oracle.revenue.get((kind, asset), 0) for kind in ("taker", "maker", "rebate")]
        assert by_type == [row[f"{name}_units"] for name in ("taker_fee", "maker_fee", "rebate")]
        assert by_type[0] + by_type[1] - by_type[2] == row["fee_units"]
    for number, market in oracle.markets.items():
        row, bands = risk.instruments[number], oracle.bands[number]
        assert (bands.reference_e8, bands.last_ticks) == (row["reference_e8"], row["last_price_ticks"])
        assert (bands.breaker_pending, oracle.state_of(number)) == (
            bool(row["breaker_pending"]),
            STATES[int(row["status"])],
        )
        matcher = cast("MatcherState", engine.matchers[number % run.variant.shards])
        for side in (Side.BUY, Side.SELL):
            names = ["order_id", "price_ticks", "left_lots", "total_lots"]
            actual = resting_orders(matcher, number, side)[names].tolist()
            assert [(o.id, o.price, o.shown, o.total) for o in market.by_priority(side)] == actual, (
                f"book {number}, side {side}"
            )
            _check_stops(oracle, matcher, number, side)
            kind = BOOK_AUCTION_BIDS if side == Side.BUY else BOOK_AUCTION_ASKS
            actual = resting_orders(matcher, number + kind * len(matcher.lot_atoms), side)[names].tolist()
            waiting = [o for o in oracle.everything(number, side) if o in oracle.auction(number).orders]
            assert [(o.id, o.price, o.shown, o.total) for o in waiting] == actual, f"auction {number}, side {side}"
        auction = oracle.auction(number)
        assert (auction.end_ts_ns, auction.then, auction.extended) == (
            row["auction_end_ts_ns"],
            row["auction_then"],
            row["extended"],
        )
    assert oracle.maintenance == (risk.meta[s.VENUE_STATE] == e.VENUE_MAINTENANCE)
    for h in risk.holds[(risk.holds["state"] == e.HOLD_LIVE) & (risk.holds["flags"] & s.HOLD_TERMS != 0)]:
        order = oracle.orders[int(h["order_id"])]
        shown = (int(h["display_lots"]), int(h["shown_lots"]), int(h["expiry_ts_ns"]))
        wanted = (-order.price if order.peg else order.display, 0 if order.stop else order.shown, order.expiry)
        assert wanted == shown, f"order {order.id}"
    armed = risk.dead_men[: risk.meta[s.DEAD_MEN]]
    keys = zip(*(armed[name].tolist() for name in ("account", "instrument", "session")), strict=True)
    assert oracle.dead_men == dict(zip(keys, armed["until_ns"].tolist(), strict=True))
    compare_client_ids(oracle, risk)
    pushed, back = int(risk.meta[s.OUTBOX_PUSHED]), int(risk.meta[s.OUTBOX_SETTLED])
    asked = sum(1 if isinstance(own, Halt) else len(own.group) for own in oracle.outbox)
    assert (asked + oracle.sent, oracle.sent) == (pushed, back)
    exits = sum(not isinstance(own, Halt) for own in oracle.outbox)
    assert len(oracle.brackets) + exits == risk.meta[s.EXITS_USED]


def compare_client_ids(oracle: Oracle, risk: Any) -> None:
    """Ids of open orders and the ring of ended ones are the oracle's."""
    ids = oracle.client_ids
    holds = np.flatnonzero((risk.holds["state"] == e.HOLD_LIVE) & (risk.holds["flags"] & s.HOLD_HAS_CLIENT_ID != 0))
    texts = risk.hold_ids[:, : s.CLIENT_ID_WORDS].copy().view("S40")[:, 0]
    live = {(int(risk.holds["account"][i]), bytes(texts[i])): int(risk.holds["order_id"][i]) for i in holds}
    assert ids.open == live
    count, size = int(risk.meta[s.FINISHED]), len(risk.finished)
    rows = [n % size for n in range(max(0, count - size), count)]
    texts = risk.finished_ids.copy().view("S40")[:, 0]
    names = ["order_id", "instrument", "traded_lots", "value_units", "ended_ts_ns", "reason", "state"]
    ended = [((int(risk.finished["account"][k]), bytes(texts[k])), *risk.finished[names][k].item()) for k in rows]
    assert [tuple(row) for row in ids.ended] == ended


def run_market(seed: int, n: int, only: str | None = None) -> dict[str, Any]:
    """A seed in every variant; AssertionError names the variant and how to run it again."""
    market = Market(seed, n, access=True)
    expected = np.concatenate(market.expected)
    hashes: list[dict[str, int]] | None = None
    waits: dict[str, int] = {}
    commands = 0
    for variant in variants(seed):
        if only not in (None, variant.name):
            continue
        try:
            done = MarketRun(market, variant)
            compare(expected, done.outcomes.all(), market.groups)
            compare_tables(market.oracle, done.run)
            if hashes is not None:
                assert hashes == done.run.hashes
            hashes = done.run.hashes
        except Exception as error:
            raise AssertionError(
                f"{market.name}, variant {variant.name}: {error}\n"
                f"run it again: python -m tests.engine.operators {market.name} --variant {variant.name}"
            ) from error
        waits[variant.name] = int(done.run.engine.risk.meta[s.EXACT_WAITS])
        commands += len(market.groups)
    return {
        "commands": commands,
        "codes": market.oracle.codes,
        "halts": market.oracle.sent,
        "trades": market.oracle.trades,
        "waits": waits,
        "hashes": hashes,
    }


# ------------------------------------------------------------------------------------------------------- live outbox


def pushed_group(risk: Any, sent: int) -> np.ndarray:
    """The command of risk's own behind the first ``sent`` slots, as it comes back; seq and time are missing."""
    slots: list[np.ndarray] = []
    while not slots or slots[-1]["flags"][0] & e.FLAG_MORE:
        slot = command_slots(1)
        slot.view(np.int64)[:] = risk.outbox[(sent + len(slots)) % len(risk.outbox)]
        slots.append(slot)
    group = np.concatenate(slots)
    group["version"][0], group["source"][0], group["source_seq"][0] = VERSION, e.SOURCE_RISK, sent + 1
    return group


class LiveSchedule(Schedule):
    """Random steps with the outbox at work.

    What risk pushes is put between the other commands some time later; ``order`` is the order that came out.
    """

    def __init__(self, run: Run, seed: int) -> None:
        super().__init__(run.engine, seed)
        self.order: list[np.ndarray] = []
        self.sent = 0
        self.slots_a_day = 0
        self.base: list[np.ndarray] = []
        self.next_base = 0
        self.actions.append(self._outbox)

    def left(self) -> bool:
        return self.next_base < len(self.base) or self.sent < self.engine.risk.meta[s.OUTBOX_PUSHED]

    def _enter(self, group: np.ndarray) -> bool:
        group = numbered(group, self.engine.last_seq + 1, self.slots_a_day)
        if self.engine._put(group) == 0:
            return False
        self.order.append(group)
        return True

    def _put(self, budget: int) -> int:
        first = self.next_base
        while self.next_base < min(first + budget, len(self.base)) and self._enter(self.base[self.next_base]):
            self.next_base += 1
        return self.next_base - first

    def _outbox(self, _budget: int) -> int:
        risk = self.engine.risk
        if self.sent == risk.meta[s.OUTBOX_PUSHED]:
            return 0
        group = pushed_group(risk, self.sent)
        entered = len(group) * self._enter(group)
        self.sent += entered
        return int(entered)


def run_live(seed: int, n: int) -> dict[str, Any]:
    """The engine's own outbox puts halts between the commands wherever timing lets them fall.

    The order that comes out is replayed by the oracle and by every variant, and all agree with the live run.
    """
    market = Market(seed, n, access=True)
    base = [group for group in market.groups if group["source"][0] != e.SOURCE_RISK]
    variant = Variant("live", 3, schedule=seed)
    outcomes = Outcomes()
    live = Run(variant, sized(market), outcomes)
    schedule = LiveSchedule(live, seed)
    schedule.base = base
    schedule.slots_a_day = market.slots_a_day
    schedule.feed(np.zeros(0, dtype=OUTCOME_DTYPE).view(command_slots(0).dtype), outcomes)
    live.settled()
    oracle = market.new_oracle()
    expected = []
    for group in schedule.order:
        expected.append(oracle.apply(group))
        oracle.sent += len(group) * int(group["source"][0] == e.SOURCE_RISK)
    try:
        compare(np.concatenate(expected), outcomes.all(), schedule.order)
        compare_tables(oracle, live)
        for other in variants(seed):
            replay = MarketRun(market, other, parts=1, groups=schedule.order)
            compare(np.concatenate(expected), replay.outcomes.all(), schedule.order)
            assert live.hashes[-1] == replay.run.hashes[-1], other.name
    except Exception as error:
        raise AssertionError(
            f"live, {error}\nrun it again: python -m tests.engine.operators --seed {seed} --n {n} --live"
        ) from error
    return {"commands": len(schedule.order) * (1 + len(variants(seed))), "halts": schedule.sent}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.engine.operators", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds from --seed on")
    parser.add_argument("--n", type=int, default=3_000, help="commands, opening included")
    parser.add_argument("--variant", help="only this one")
    parser.add_argument("--live", action="store_true", help="with the engine's own outbox")
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.seeds):
        start = time.perf_counter()
        result = run_live(seed, options.n) if options.live else run_market(seed, options.n, options.variant)
        result["seconds"] = round(time.perf_counter() - start, 3)
        print(json.dumps({"seed": seed} | result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
