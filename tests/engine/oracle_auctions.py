"""What the oracle knows of auctions: what gathers, at which price it trades, who pays what, and when an auction ends by itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import Any

from protocol import enums as e
from protocol import reasons as r
from tests.naive.auction import Indication, indication
from tests.naive.exchange import AMOUNT_LIMIT, E8, Market, Order, Side, cdiv

GATHERING = ("pre-open", "auction")
DAY_NS = 86_400_000_000_000


@dataclass
class Auction:
    """Of an instrument: what was entered while it gathered, oldest first, and what is known of its end."""

    orders: list[Order] = field(default_factory=list)
    reference: int = 0
    published: Indication = field(default_factory=Indication)
    begun_by: int = 0
    end_ts_ns: int = 0
    then: int = 0
    extended: int = 0


def random_part(seq: int, instrument: int, most: int) -> int:
    """Nanoseconds from 0 to ``most`` that an interruption by command ``seq`` lasts longer: docs/matching.md says how."""
    mask = (1 << 64) - 1
    z = (seq * 0x9E3779B97F4A7C15 + instrument) & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    z ^= z >> 31
    return (z & (1 << 62) - 1) % (most + 1)


def is_far(base: Fraction, tick_e8: int, share_e8: int, price: int) -> bool:
    """Whether a price in ticks is further from ``base`` (1e-8 quote per base unit) than a share of it; no share, no base: never."""
    if not share_e8 or not base:
        return False
    highest, lowest = base * (E8 + share_e8) / (E8 * tick_e8), base * (E8 - share_e8) / (E8 * tick_e8)
    return price > floor(highest) or price < ceil(lowest)


class AuctionRules:
    """To be mixed into the oracle."""

    head: Any
    markets: dict[int, Market]
    bands: dict[int, Any]
    orders: dict[int, Order]
    outcomes: list[Any]

    def auction(self, instrument: int) -> Auction:
        return self.auctions.setdefault(instrument, Auction())  # type: ignore[attr-defined]

    def gathers(self, instrument: int) -> bool:
        return self.state_of(instrument) in GATHERING  # type: ignore[attr-defined]

    def everything(self, instrument: int, side: int) -> list[Order]:
        """All orders of a side as the auction takes them: by price, then those of the book, then by age."""
        waiting = [order for order in self.auction(instrument).orders if order.side == side]
        orders = [*self.markets[instrument].by_priority(side), *waiting]
        return sorted(orders, key=lambda order: -order.price if side == Side.BUY else order.price)

    def stands_at(self, instrument: int) -> Indication:
        sides = [[(o.price, o.left) for o in self.everything(instrument, side)] for side in (Side.BUY, Side.SELL)]
        return indication(sides[0], sides[1], self.auction(instrument).reference)

    # ------------------------------------------------------------------------------------------------------- its states

    def end_is_wrong(self, wanted: str | None) -> bool:
        """Whether a change of state says of an end what makes no sense."""
        end, then, now = (int(self.head[name]) for name in ("qty_lots", "trigger_price_ticks", "ts_ns"))
        if self.head["type"] != e.SET_STATE or (end, then) == (0, 0):
            return False
        return wanted != "auction" or not now < end <= now + DAY_NS or then not in (1, 3, 5)

    def change_market(self, instrument: int, before: str, wanted: str) -> None:
        """Behind a change of state: an auction begins, or what was gathered trades."""
        auction = self.auction(instrument)
        uncrosses = wanted in ("open", "post-only") or (before, wanted) == ("auction", "closed")
        if uncrosses and (before in GATHERING or auction.orders):
            self.uncross(instrument)
        auction.end_ts_ns = auction.then = auction.extended = auction.begun_by = 0
        auction.published = Indication()
        if wanted in GATHERING:
            bands = self.bands[instrument]
            auction.reference = bands.last_ticks or bands.reference_e8 // bands.tick_e8
        if wanted == "auction":
            auction.begun_by = int(self.head["seq"])
            if self.head["type"] == e.SET_STATE:
                auction.end_ts_ns, auction.then = int(self.head["qty_lots"]), int(self.head["trigger_price_ticks"])

    def uncross(self, instrument: int) -> None:
        """All that meets trades at one price, best and oldest first; the rest enters the book behind what stands there."""
        auction = self.auction(instrument)
        found = self.stands_at(instrument)
        left = found.lots
        while left:
            buyer, seller = (self.everything(instrument, side)[0] for side in (Side.BUY, Side.SELL))
            lots = min(buyer.left, seller.left)
            left -= lots
            for order in (buyer, seller):
                self._end_partner(order)  # type: ignore[attr-defined]
            self._cross(buyer, seller, found.price, lots)
        self._pull_behind(instrument)  # type: ignore[attr-defined]
        self.say_auction(e.OUT_UNCROSSED, instrument, found)
        if found.lots:
            bands = self.bands[instrument]
            bands.last_ticks = self.seen[instrument, e.TRIGGER_LAST] = found.price  # type: ignore[attr-defined]
            bands.reference_e8 = found.price * bands.tick_e8
            bands.samples = []
            # What the stops that it sets off trade is measured from the auction's price.
            self.before[instrument] = found.price  # type: ignore[attr-defined]
        for side in (Side.BUY, Side.SELL):
            for order in [order for order in self.everything(instrument, side) if order in auction.orders]:
                self.markets[instrument].levels[side].setdefault(order.price, []).append(order)
        auction.orders = []

    def _cross(self, buyer: Order, seller: Order, price: int, lots: int) -> None:
        """A trade at a price that is neither's own: what the buyer held too much is free; each pays a maker's fee, and none is paid."""
        market = self.markets[buyer.instrument]
        value, base = price * lots * market.k, lots * market.spec.lot_atoms
        ts_ns = int(self.head["ts_ns"])
        rules = [self._rate_of(order, taker=False) for order in (buyer, seller)]  # type: ignore[attr-defined]
        charged = []
        for order in (buyer, seller):
            held = order.bound * lots * market.k if order is buyer else base
            paid, received = self._paid_with(order), self._received_in(order)  # type: ignore[attr-defined]
            self.locked[paid] -= held  # type: ignore[attr-defined]
            self.free[paid] += held - (value if order is buyer else base)  # type: ignore[attr-defined]
            self.free[received] += base if order is buyer else value  # type: ignore[attr-defined]
            self._counts(order, lots)  # type: ignore[attr-defined]
            order.traded += lots
        for order, rule in zip((buyer, seller), rules, strict=True):
            received = self._received_in(order)  # type: ignore[attr-defined]
            fee = cdiv((base if order is buyer else value) * max(0, rule.rate), E8)
            self.free[received] -= fee  # type: ignore[attr-defined]
            self.fee[received[1]] += fee  # type: ignore[attr-defined]
            key = ("maker", received[1])
            self.revenue[key] = self.revenue.get(key, 0) + fee  # type: ignore[attr-defined]
            units = min(value * self.volume_rates.get(market.spec.quote, 0) // E8, AMOUNT_LIMIT - 1)  # type: ignore[attr-defined]
            master = self._group(order.account).master  # type: ignore[attr-defined]
            self.fees.add_volume(master, ts_ns, units)  # type: ignore[attr-defined]
            self._count_received(order, (base if order is buyer else value) - fee)  # type: ignore[attr-defined]
            charged.append((order, rule, fee, received[1]))
        self.trades += 1  # type: ignore[attr-defined]
        for (order, rule, fee, asset), other in zip(charged, (seller, buyer), strict=True):
            self._order_outcome(  # type: ignore[attr-defined]
                e.OUT_TRADE,
                order,
                asset,
                qty_lots=lots,
                leaves_qty_lots=order.left,
                value_units=value,
                fee_units=fee,
                fee_asset=asset,
                reason=rule.rule,
                fee_tier=rule.tier,
                contra_order_id=other.id,
                price_ticks=price,
            )
            self.client_ids.traded(order.id, value)  # type: ignore[attr-defined]
        for order in (seller, buyer):
            if order.left:
                order.hide()
            else:
                self._leave_book(order)  # type: ignore[attr-defined]
                self._ended(order, e.ORDER_STATE_FILLED, 0)  # type: ignore[attr-defined]

    # ----------------------------------------------------------------------------------------------------- the clock

    def running(self) -> Iterator[int]:
        return (n for n in sorted(self.markets) if self.state_of(n) == "auction")  # type: ignore[attr-defined]

    def publish(self) -> None:
        """A second of the clock: where each auction stands, if that is new."""
        for instrument in self.running():
            found = self.stands_at(instrument)
            if found != self.auction(instrument).published:
                self.auction(instrument).published = found
                self.say_auction(e.OUT_AUCTION, instrument, found)

    def say_auction(self, kind: int, instrument: int, found: Indication) -> None:
        side = Side.BUY if found.surplus >= 0 else Side.SELL
        self._emit(  # type: ignore[attr-defined]
            kind,
            instrument=instrument,
            price_ticks=found.price,
            qty_lots=found.lots,
            leaves_qty_lots=abs(found.surplus),
            side=side,
        )

    def due_auctions(self) -> Iterator[tuple[int, int, int]]:
        """(instrument, state, command that began it) of auctions that end with this second; others are made longer."""
        now = int(self.head["ts_ns"])
        for instrument in self.running():
            auction, bands = self.auction(instrument), self.bands[instrument]
            if not 0 < auction.end_ts_ns <= now or bands.breaker_pending:
                continue
            far = is_far(Fraction(bands.reference_e8), bands.tick_e8, bands.breaker_e8, auction.published.price)
            if auction.published.price and auction.extended < bands.extensions and far:
                auction.extended += 1
                auction.end_ts_ns = now + bands.auction_ns
            else:
                yield instrument, auction.then, auction.begun_by

    def gathering_code(self) -> int:
        """Why an order may not wait for an auction."""
        kind, tif = int(self.head["type"]), int(self.head["tif"])
        waits = self._waits()  # type: ignore[attr-defined]
        if waits:
            return r.ACCEPTED
        pegged = int(self.head["flags"]) & e.FLAG_PEG
        if kind != e.AMEND and (kind != e.LIMIT or tif in (e.IOC, e.FOK) or pegged):
            return r.IMMEDIATE_IN_AUCTION
        has_minimum = int(self.head["flags"]) & e.FLAG_TERMS and self.head["min_qty_lots"] > 0
        return r.MIN_QTY_IN_AUCTION if kind != e.AMEND and has_minimum else r.ACCEPTED
