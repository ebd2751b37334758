"""Seeded random histories for a shard: prices close together and far apart, every order type, ids good and bad.

    python -m tests.matcher.campaign --seed 1 --commands 2000 [--profile wide]

compares the kernel with its naive twin and prints the hashes; with ``NUMBA_DISABLE_JIT=1`` the kernel is plain Python.

    python -m tests.matcher.campaign --seed 1 --total 10000000

goes from seed to seed, through all profiles, sizes and rings, and prints what came; it ends with the first difference, in the fewest
commands that show it, and the command that repeats it.
"""

import argparse
import itertools
import random
import time
from collections import Counter
from typing import NamedTuple

from matcher import state as s
from matcher.state import BOOK_AUCTION_ASKS, BOOK_AUCTION_BIDS, MatcherLimits
from matcher.views import resting_orders
from protocol import enums as e
from tests.matcher.driver import Shard
from tests.matcher.invariants import check_state, linked_orders
from tests.matcher.naive_book import DAY_NS, NaiveShard, Request

MODULE = "tests.matcher.campaign"
PROFILES = ("narrow", "dense", "wide", "clusters", "far")
MULTIPLIER = 3
VALUE_MAX = (1 << 62) - 1
PRICE_MAX = VALUE_MAX // MULTIPLIER
LIMITS = MatcherLimits(orders_max=300, leaves_max=200, instruments_max=3, accounts_max=5)


class Size(NamedTuple):
    """How much a shard has room for, and from how many orders on histories bring fewer new ones."""

    limits: MatcherLimits
    target: int


SIZES = {
    "full": Size(LIMITS, 60),
    "crowded": Size(LIMITS, 250),
    "small": Size(MatcherLimits(orders_max=40, leaves_max=12, instruments_max=3, accounts_max=5), 40),
    "tiny": Size(MatcherLimits(orders_max=6, leaves_max=3, instruments_max=3, accounts_max=5), 6),
}
RINGS = (4, 8, 64)
EVENT_NAMES = {number: name for name, number in vars(e).items() if name.startswith("EV_")}
HISTORY_COMMANDS = 4_000
"""Commands of each history of a campaign: what is rare has time to come together, and what differs is soon repeated."""


class Requests:
    """An endless history; it looks at the twin's book to name orders that stand, or stood."""

    def __init__(self, seed: int, profile: str, twin: NaiveShard, target: int = 60) -> None:
        self.random = random.Random(f"{profile} {seed}")
        self.profile = profile
        self.twin = twin
        self.target = target
        self.next_id = {source: source << e.ORDER_ID_SOURCE_SHIFT for source in (8, 9)}
        self.ids: list[tuple[int, int, int]] = []
        self.ts_ns = 1_700_000_000_000_000_000
        self.follow: list[Request] = []

    def price(self, instrument: int) -> int:
        rng = self.random
        match self.profile:
            case "narrow":
                return 1_000 + rng.randrange(40)
            case "dense":
                return 1_000 + rng.randrange(5)
            case "wide":
                return rng.randrange(1, 10**10)
            case "clusters":
                center = rng.choice((70, 5_000, 5_064, 10**6, 10**9 + instrument))
                return center + rng.randrange(-60, 60)
            case _:
                return min(PRICE_MAX, max(1, int(2 ** rng.uniform(0, 60)) + rng.randrange(-3, 3)))

    def qty(self, price: int) -> int:
        """Lots, few or many, of a value that risk admits."""
        if self.profile == "dense":
            return self.random.randrange(1, 12)
        qty = self.random.choice((1, 2, 3, 10, self.random.randrange(1, 100), self.random.randrange(1, 10**6)))
        return min(qty, VALUE_MAX // (MULTIPLIER * price))

    def __next__(self) -> Request:
        self.ts_ns += self.random.choice((1, 1, 10, 100))
        return self._next()._replace(ts_ns=self.ts_ns)

    def _next(self) -> Request:
        rng = self.random
        if self.follow:
            return self.follow.pop()
        if rng.random() < 0.02:
            return self._state()
        if rng.random() < 0.02:
            self.ts_ns += rng.choice((0, 1_000, 10_000, 1_000_000, DAY_NS))
            return Request(e.EXPIRE)
        if rng.random() < 0.08:
            return self._quote()
        if rng.random() < 0.03:
            return self._office()
        crowded = len(self.twin.orders) + len(self.twin.waiting) > self.target
        roll = rng.random()
        if self.profile == "dense" and not crowded:
            roll *= 0.6
        if roll < (0.30 if crowded else 0.55):
            return self._new_order()
        if roll < 0.75 and self.twin.orders + self.twin.waiting:
            return self._amend()
        if roll < 0.985:
            return self._cancel()
        account, instrument = rng.choice(((1, 0), (2, 1), (0, 1), (0, 2), (3, 2), (5, 0)))
        session = rng.choice((8, 8, 9)) << 16 | rng.choice((1, 2, 3))
        if rng.random() < 0.1:
            account = instrument = 0
        elif rng.random() < 0.5:
            session = 0
        sides, cause = rng.choice((0, 0, 1, 2)), rng.choice((0, 0, 1, 2))
        return Request(
            e.CANCEL_ALL, account=account, instrument=instrument, of_session=session, sides=sides, cause=cause
        )

    def _quote(self) -> Request:
        """A quote near the former one, on another price, or of no quantity; now and then a protection."""
        rng = self.random
        account, instrument = rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 1, 2))
        if self.twin.gathers(instrument):
            return self._cancel()
        if rng.random() < 0.15:
            most, net, trades = (
                rng.choice((0, 0, n, 10 * n)) for n in (rng.randrange(1, 200), rng.randrange(1, 50), 2)
            )
            window = rng.choice((16, 1_000, 10**6, 10**9)) if most or net or trades else 0
            return Request(
                e.SET_PROTECTION,
                account=account,
                instrument=instrument,
                price_ticks=window,
                qty_lots=most,
                net=net,
                trades=trades,
            )
        self.next_id[8] += 1
        first, second = self.price(instrument), self.price(instrument)
        prices = [min(first, second), max(first, second) + 1]
        lots = [rng.choice((0, self.qty(prices[1]), self.qty(prices[1]), 5)) for _ in range(2)]
        for side in (0, 1):
            old = self.twin.quoted(account, instrument, side)
            if old is not None and rng.random() < 0.6:
                prices[side] = old.price_ticks
                lots[side] = rng.choice(
                    (
                        old.left,
                        old.left,
                        max(0, old.left - 1),
                        min(old.left + 1, VALUE_MAX // (MULTIPLIER * old.price_ticks)),
                        0,
                    )
                )
        if prices[0] >= prices[1]:
            lots[rng.randrange(2)] = 0
        order_id, holds = self.next_id[8], [rng.randrange(1, 1 << 31) for _ in range(2)]
        return Request(
            e.EXT_QUOTES, order_id, account, instrument, 0, prices[0], lots[0], hold=holds[0],
            ask_price=prices[1], ask_qty=lots[1], ask_hold=holds[1],
        )  # fmt: skip

    def _state(self) -> Request:
        """The market opens after an auction, gathers for one, or goes a longer way, on which nothing else happens."""
        rng = self.random
        instrument = rng.choice((1, 1, 1, 2, 3))
        before = self.twin.states.get(instrument, e.INSTRUMENT_OPEN)
        opens, gathers = (e.INSTRUMENT_OPEN, e.INSTRUMENT_POST_ONLY), (e.INSTRUMENT_PRE_OPEN, e.INSTRUMENT_AUCTION)
        way = [rng.choice((*opens, *gathers, *gathers))]
        if rng.random() < 0.3:
            way = [rng.choice((2, 4, 5, 5, 5)), rng.choice((*opens, *gathers))]
        elif rng.random() < 0.05:
            way = [e.INSTRUMENT_DELISTED]
        requests = []
        for wanted in way:
            uncross = wanted in opens or (before, wanted) == (e.INSTRUMENT_AUCTION, e.INSTRUMENT_CLOSED)
            reference = rng.choice((0, self.price(instrument))) if wanted in gathers else 0
            requests.append(
                Request(e.SET_STATE, instrument=instrument, price_ticks=wanted, qty_lots=reference, uncross=uncross)
            )
            before = wanted
        self.follow = requests[1:]
        return requests[0]

    def _new_order(self) -> Request:
        rng = self.random
        source = rng.choice((8, 8, 9))
        self.next_id[source] += rng.choice((1, 1, 1, 2, 9))
        instrument = rng.choice((1, 1, 1, 2, 3))
        gathers = self.twin.gathers(instrument)
        account = rng.randrange(1, 6)
        order_id = self.next_id[source]
        self.ids.append((order_id, account, instrument))
        kind = e.LIMIT if gathers else rng.choice((e.LIMIT,) * 8 + (e.MARKET, e.MARKET_AMOUNT))
        price = self.price(instrument)
        qty = self.qty(price)
        if kind == e.MARKET_AMOUNT:
            qty = max(1, qty * price * MULTIPLIER // rng.choice((1, 2, 3)) + rng.randrange(-2, 3))
        tif = rng.choice((e.GTC,) * 5 + ((e.POST_ONLY,) if gathers else (e.IOC, e.FOK, e.POST_ONLY)))
        stp = rng.choice((e.STP_NONE, *range(5)))
        side = rng.randrange(2)
        if self.profile == "dense" and rng.random() < 0.8:
            # Mostly passive, so that levels are long.
            price = 1_000 + rng.randrange(2) + 2 * side
        plain = Request(kind, order_id, account, instrument, side, price, qty, tif, stp, rng.randrange(1, 1 << 31))
        plain = plain._replace(session=rng.choice((0, 1, 2)))
        if kind == e.LIMIT and rng.random() < 0.12:
            return self._linked(plain)
        if kind != e.MARKET_AMOUNT and rng.random() < 0.2:
            return self._stop(self._with_terms(plain) if rng.random() < 0.4 else plain)
        if kind == e.LIMIT and tif in (e.GTC, e.POST_ONLY) and not gathers and rng.random() < 0.25:
            return self._peg(self._with_terms(plain) if rng.random() < 0.2 else plain)
        if kind == e.LIMIT and rng.random() < 0.05:
            plain = plain._replace(no_take=True)
        return self._with_terms(plain) if rng.random() < 0.4 else plain

    def _linked(self, q: Request) -> Request:
        """Two linked orders around the price, or what was the price; the second one's id follows the first's."""
        rng = self.random
        self.next_id[q.order_id >> e.ORDER_ID_SOURCE_SHIFT] += 1
        self.ids.append((q.order_id + 1, q.account, q.instrument))
        system = rng.random() < 0.3
        no_take = system and not self._is_open(q.instrument)
        refs = (e.TRIGGER_LAST, e.TRIGGER_LAST, e.TRIGGER_MARK, e.TRIGGER_INDEX)
        first_ref, ref = rng.choice(refs), rng.choice(refs)
        seen = self.twin.seen.get((q.instrument, ref), q.price_ticks)
        # An exit often comes when the price is past one of them.
        prices = [seen + rng.choice((0, 0, -9 * system, 9 * system)) + d * rng.randrange(1, 13) for d in (-1, 1)]
        if rng.random() < 0.4:
            prices = [self.price(q.instrument), self.price(q.instrument)]
        low = max(1, min(prices))
        high = max(low + 1, *prices)
        near, far = (high, low) if q.side == e.SELL else (low, high)
        lots = min(q.qty_lots, VALUE_MAX // (MULTIPLIER * (high + 50)))
        common = q._replace(qty_lots=max(1, lots), system=system, no_take=no_take, hold=rng.randrange(1, 1 << 31))
        first = common._replace(price_ticks=near, tif=e.POST_ONLY)
        if rng.random() < 0.35:
            first = common._replace(price_ticks=max(1, near - rng.choice((0, 0, 9, -9))), trigger=near, ref=first_ref)
            first = first._replace(waits=True, terms=True, takes_profit=True, type=rng.choice((e.LIMIT, e.MARKET)))
        limit = max(1, far + rng.choice((0, 0, 5, -5, 40, -40)))
        second = common._replace(price_ticks=limit, trigger=far, ref=ref, waits=True, terms=True, stp=rng.randrange(5))
        second = second._replace(order_id=q.order_id + 1, type=rng.choice((e.LIMIT, e.LIMIT, e.MARKET)))
        second = second._replace(hold=rng.randrange(1, 1 << 31), tif=rng.choice((e.GTC, q.tif)))
        if rng.random() < 0.2:
            kind = rng.choice((e.OFFSET_TICKS, e.OFFSET_BASIS_POINTS))
            second = second._replace(offset_kind=kind, offset=rng.choice((1, 2, 9, 100)), trigger=0)
        if rng.random() < 0.4:
            first, second = self._with_terms(first), self._with_terms(second)
            second = second._replace(expiry=first.expiry)
        return first._replace(leg=second)

    def _is_open(self, instrument: int) -> bool:
        """Whether risk would take stops, and let prices set them off."""
        return self.twin.states.get(instrument, e.INSTRUMENT_OPEN) == e.INSTRUMENT_OPEN

    def _stop(self, q: Request) -> Request:
        """The order waiting for a price, mostly one not far away."""
        rng = self.random
        ref = rng.choice((e.TRIGGER_LAST, e.TRIGGER_LAST, e.TRIGGER_MARK, e.TRIGGER_INDEX))
        seen = self.twin.seen.get((q.instrument, ref), self.price(q.instrument))
        stop = q._replace(waits=True, ref=ref, terms=True, system=rng.random() < 0.2)
        stop = stop._replace(no_take=stop.system and not self._is_open(q.instrument))
        if rng.random() < 0.3:
            kind = rng.choice((e.OFFSET_TICKS, e.OFFSET_BASIS_POINTS))
            offset = rng.choice((1, 2, 5, rng.randrange(1, 100), rng.randrange(1, 9_999)))
            stop = stop._replace(offset_kind=kind, offset=offset)
            if rng.random() < 0.5:
                activation = seen + rng.choice((rng.randrange(-12, 13), rng.randrange(-200, 201)))
                stop = stop._replace(trigger=min(max(1, activation), (1 << 62) - 1))
            return stop
        trigger = rng.choice((seen + rng.randrange(-12, 13), self.price(q.instrument), seen))
        return stop._replace(trigger=min(max(1, trigger), (1 << 62) - 1), takes_profit=rng.random() < 0.4)

    def _peg(self, q: Request) -> Request:
        """The order following a best price, mostly near it, mostly with a limit that lets it."""
        rng = self.random
        far = rng.choice((0, 1, 5, 50, 10**9))
        limit = q.price_ticks + far if q.side == e.BUY else max(1, q.price_ticks - far)
        limit = min(limit, VALUE_MAX // (MULTIPLIER * q.qty_lots))
        offset = rng.choice((0, 0, 1, -1, 2, -2, rng.randrange(-70, 71), rng.randrange(-(1 << 31), 1 << 31)))
        kind = e.OFFSET_TICKS if offset else rng.choice((e.OFFSET_NONE, e.OFFSET_TICKS))
        ref = rng.choice((e.PEG_BID, e.PEG_ASK, e.PEG_MID, e.PEG_MID))
        peg = q._replace(pegs=True, price_ticks=limit, ref=ref, offset_kind=kind, offset=offset)
        return peg._replace(display=0, minimum=0)

    def _office(self) -> Request:
        """Mark and index prices, and states of a market."""
        rng = self.random
        instrument = rng.choice((1, 1, 1, 2, 3))
        gathers = self.twin.gathers(instrument)
        if rng.random() < 0.2 and not gathers:
            kind = rng.choice((e.SET_STATE, e.HALT, e.RESUME))
            return Request(
                kind, instrument=instrument, price_ticks=rng.choice((0, e.INSTRUMENT_OPEN, e.INSTRUMENT_HALTED))
            )
        prices = [
            rng.choice((0, self.price(instrument), self.twin.seen.get((instrument, ref), 1) + rng.randrange(-3, 4)))
            for ref in (e.TRIGGER_MARK, e.TRIGGER_INDEX)
        ]
        mark, index = (max(0, price) for price in prices)
        return Request(
            e.SET_PRICES,
            instrument=instrument,
            price_ticks=mark,
            qty_lots=index,
            no_take=not self._is_open(instrument),
        )

    def _with_terms(self, q: Request) -> Request:
        """Terms that risk would let pass."""
        rng = self.random
        display = minimum = expiry = 0
        if q.type == e.LIMIT and q.tif in (e.GTC, e.POST_ONLY):
            least = -(-q.qty_lots // e.ICEBERG_PARTS_MAX)
            display = rng.choice(
                (
                    0,
                    least,
                    q.qty_lots,
                    -(-q.qty_lots // 3),
                    rng.randrange(least, q.qty_lots + 1),
                    min(q.qty_lots, least + 1),
                )
            )
            expiry = rng.choice((0, -1, self.ts_ns + rng.choice((150, 1_000, 1_000, 10**6))))
        if self.twin.gathers(q.instrument):
            minimum = 0
        elif q.type != e.MARKET_AMOUNT and not (q.type == e.LIMIT and q.tif == e.POST_ONLY):
            minimum = rng.choice((0, 0, 1, q.qty_lots, rng.randrange(1, q.qty_lots + 1)))
        return q._replace(terms=True, display=display, minimum=minimum, expiry=expiry)

    def _amend(self) -> Request:
        rng = self.random
        order = rng.choice(self.twin.orders + self.twin.waiting)
        price = order.price_ticks if rng.random() < 0.4 else self.price(order.instrument)
        done = order.total - order.left
        near = (order.total, order.total - 1, order.total + 1, done, done + 1)
        qty = max(1, rng.choice((*near, order.total, self.qty(price))))
        qty = min(qty, VALUE_MAX // (MULTIPLIER * price))
        if order.display:
            qty = min(qty, e.ICEBERG_PARTS_MAX * order.display)
        account = order.account if rng.random() < 0.95 else 1 + order.account % 5
        no_take = rng.random() < 0.1
        return Request(e.AMEND, order.order_id, account, order.instrument, 0, price, qty, no_take=no_take)

    def _cancel(self) -> Request:
        rng = self.random
        if self.twin.orders + self.twin.waiting and rng.random() < 0.85:
            order = rng.choice(self.twin.orders + self.twin.waiting)
            named = (order.order_id, order.account, order.instrument)
        else:
            named = rng.choice(self.ids) if self.ids else (12345, 1, 1)
        order_id, account, instrument = named
        wrong = rng.random()
        if wrong < 0.03:
            instrument = 1 + instrument % 3
        elif wrong < 0.06:
            order_id += 1
        return Request(e.CANCEL, order_id, account, instrument)


def run(
    seed: int,
    profile: str,
    commands: int,
    *,
    size: str = "full",
    ring_slots: int = 64,
    check_every: int = 50,
    met: Counter[str] | None = None,
) -> Shard:
    """Compare kernel and twin over a history; AssertionError names the seed and the command. ``met`` counts what came."""
    limits, target = SIZES[size]
    shard = Shard(limits, ring_slots, list_k=MULTIPLIER)
    twin = naive_shard(limits)
    requests = Requests(seed, profile, twin, target)
    told: list[Request] = []
    kinds: Counter[int] = Counter()

    def wrong(what: str) -> AssertionError:
        again = f"--seed {seed} --profile {profile} --size {size} --ring-slots {ring_slots} --commands {commands}"
        return AssertionError(f"SEED={seed} command {len(told)}: {told[-1]}\n{what}\npython -m {MODULE} {again}")

    for number in range(1, commands + 1):
        request = next(requests)._replace(seq=shard.seq + 1)
        told.append(request)
        expected = twin.apply(request)
        actual = shard.apply(request)
        if expected != actual:
            least = "\n".join(str(q) for q in shrunk(told, limits, ring_slots))
            raise wrong(f"expected {expected}\nactual   {actual}\nand so do these few:\n{least}")
        if number % check_every == 0 or number == commands:
            try:
                check_state(shard.state)
                check_books(shard, twin)
            except AssertionError as error:
                raise wrong(str(error)) from error
        if met is not None:
            kinds.update([event.kind for event in actual])
    if met is not None:
        met.update({profile: commands, **{EVENT_NAMES[kind]: count for kind, count in kinds.items()}})
    return shard


def campaign(first_seed: int, total: int) -> None:
    """Histories of all profiles, sizes and rings until there were ``total`` commands, and what they met."""
    met: Counter[str] = Counter()
    start_s = time.process_time()
    ways = ((seed, profile, size) for seed in itertools.count(first_seed) for profile in PROFILES for size in SIZES)
    done = 0
    for number, (seed, profile, size) in enumerate(ways, 1):
        run(seed, profile, HISTORY_COMMANDS, size=size, ring_slots=RINGS[number % 3], check_every=500, met=met)
        done += HISTORY_COMMANDS
        if number % 20 == 0 or done >= total:
            counts = ", ".join(f"{name} {count:,}" for name, count in sorted(met.items()))
            speed = done / (time.process_time() - start_s)
            print(f"{done:,} commands to seed {seed}, {speed:,.0f} a CPU second: {counts}", flush=True)
        if done >= total:
            return


def naive_shard(limits: MatcherLimits) -> NaiveShard:
    twin = NaiveShard(limits.orders_max, limits.leaves_max)
    twin.multipliers = dict.fromkeys(range(1, limits.instruments_max + 1), MULTIPLIER)
    return twin


def differs(requests: list[Request], limits: MatcherLimits, ring_slots: int) -> bool:
    """Whether kernel and twin disagree anywhere on these requests."""
    shard = Shard(limits, ring_slots, list_k=MULTIPLIER)
    twin = naive_shard(limits)
    numbered = (q._replace(seq=shard.seq + 1) for q in requests)
    return any(twin.apply(q) != shard.apply(q) for q in numbered)


def shrunk(requests: list[Request], limits: MatcherLimits, ring_slots: int) -> list[Request]:
    """Few of the requests that still make kernel and twin disagree: parts are left out as long as that is so."""
    size = len(requests) // 2
    while size > 0:
        first = 0
        while first < len(requests):
            fewer = requests[:first] + requests[first + size :]
            if differs(fewer, limits, ring_slots):
                requests = fewer
            else:
                first += size
        size //= 2
    return requests


def check_books(shard: Shard, twin: NaiveShard) -> None:
    """Every order of the twin rests in the kernel's book, in the same priority, and no other."""
    for instrument in range(1, len(shard.state.lot_atoms)):
        for side in (e.BUY, e.SELL):
            expected = [
                (
                    o.order_id,
                    o.account,
                    o.price_ticks,
                    o.shown,
                    o.total,
                    o.tif << 4 | o.quote << 6 | bool(o.age) << 3 | o.stp,
                    o.hold,
                )
                for o in twin.by_priority(instrument, side)
            ]
            fields = ("order_id", "account", "price_ticks", "left_lots", "total_lots", "modes", "hold")
            rows = resting_orders(shard.state, instrument, side)
            assert expected == [tuple(int(row[name]) for name in fields) for row in rows]
            number = instrument + len(shard.state.lot_atoms) * (
                BOOK_AUCTION_BIDS if side == e.BUY else BOOK_AUCTION_ASKS
            )
            waiting = [o.order_id for o in twin.both_books(instrument, side) if o.gathers]
            assert waiting == resting_orders(shard.state, number, side)["order_id"].tolist()
        for ref in (e.TRIGGER_LAST, e.TRIGGER_MARK, e.TRIGGER_INDEX):
            _check_stops(shard, twin, instrument, ref)
    all_of_twin = twin.orders + twin.waiting
    linked = {(o.order_id, o.partner.order_id) for o in all_of_twin if o.partner is not None}
    assert linked == set(linked_orders(shard.state))


def _check_stops(shard: Shard, twin: NaiveShard, instrument: int, ref: int) -> None:
    """Stops stand in the order in which the price will set them off."""
    here = [o for o in twin.waiting if (o.instrument, o.ref) == (instrument, ref)]
    book = instrument + (s.BOOK_LAST + ref) * int(shard.state.meta[s.BOOK_STRIDE])
    for side, rises in ((e.BUY, False), (e.SELL, True)):
        mine = sorted((o for o in here if o.waits_for_rise == rises), key=lambda o: o.trigger if rises else -o.trigger)
        rows = resting_orders(shard.state, book, side)
        expected = [(o.order_id, o.trigger, o.left) for o in mine]
        assert expected == [(int(row["order_id"]), int(row["price_ticks"]), int(row["left_lots"])) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commands", type=int, default=2_000)
    parser.add_argument("--profile", choices=PROFILES, default="narrow")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--ring-slots", type=int, default=64)
    parser.add_argument("--total", type=int, help="commands of a campaign over all profiles and sizes, from --seed on")
    options = parser.parse_args()
    if options.total:
        campaign(options.seed, options.total)
        return
    shard = run(options.seed, options.profile, options.commands, size=options.size, ring_slots=options.ring_slots)
    print(shard.hashes())


if __name__ == "__main__":
    main()
