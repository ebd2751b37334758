"""Auctions of the naive shard: what it says when the state of a market changes, and each second meanwhile."""

from typing import Any

from protocol import enums as e
from protocol import reasons as r
from tests.naive.auction import Indication, indication

GATHERING = (e.INSTRUMENT_PRE_OPEN, e.INSTRUMENT_AUCTION)


class NaiveAuctions:
    """To be mixed into the shard; ``orders`` is all orders, oldest first, of which some ``gathers``."""

    orders: list[Any]
    waiting: list[Any]
    marked: list[Any]
    seen: dict[tuple[int, int], int]

    def begin(self) -> None:
        self.states: dict[int, int] = {}
        self.references: dict[int, int] = {}
        self.published: dict[int, Indication] = {}
        self.last: dict[int, int] = {}

    def gathers(self, instrument: int) -> bool:
        return self.states.get(instrument) in GATHERING

    def change_state(self, q: Any, event: Any) -> list[Any]:
        """SET_STATE; ``event`` makes one of the fields kind, reason, instrument, order, price, lots, left, taker's left, hold."""
        if q.price_ticks == 0:
            return []
        before = self.states.get(q.instrument, e.INSTRUMENT_OPEN)
        waiting = [order for order in self.orders if order.instrument == q.instrument and order.gathers]
        self.states[q.instrument] = q.price_ticks
        self.published[q.instrument] = Indication()
        if q.price_ticks in GATHERING:
            self.references[q.instrument] = self.last.get(q.instrument, 0) or q.qty_lots
        if q.uncross and (before in GATHERING or waiting):
            told = self._uncross(q.instrument, event)
            if q.price_ticks == e.INSTRUMENT_OPEN:
                self._visit_open(q.instrument)
            return told
        if q.price_ticks == e.INSTRUMENT_DELISTED:
            mine = [order for order in self.orders + self.waiting if order.instrument == q.instrument]
            mine.sort(key=lambda order: order.order_id)
            told = [self._canceled(order, r.BY_DELISTING) for order in mine]  # type: ignore[attr-defined]
            for order in mine:
                self._remove(order)  # type: ignore[attr-defined]
            return told
        if q.price_ticks == e.INSTRUMENT_OPEN:
            self._visit_open(q.instrument)
        return []

    def _visit_open(self, instrument: int) -> None:
        """The last price may have come where nothing could be set off; the others are looked at again too."""
        last = self.last.get(instrument)
        if last:
            self.seen[instrument, e.TRIGGER_LAST] = last
            self.marked += self._visit(instrument, e.TRIGGER_LAST, last)  # type: ignore[attr-defined]
        self._visit_marks(instrument)  # type: ignore[attr-defined]

    def both_books(self, instrument: int, side: int) -> list[Any]:
        mine = [order for order in self.orders if order.instrument == instrument and order.side == side]
        # The sort keeps the order in which they are given.
        mine.sort(key=lambda order: order.gathers)
        return sorted(mine, key=lambda order: -order.price_ticks if side == e.BUY else order.price_ticks)

    def stands_at(self, instrument: int) -> Indication:
        bids, asks = (
            [(order.price_ticks, order.left) for order in self.both_books(instrument, side)] for side in (e.BUY, e.SELL)
        )
        return indication(bids, asks, self.references.get(instrument, 0))

    def _uncross(self, instrument: int, event: Any) -> list[Any]:
        found = self.stands_at(instrument)
        events = []
        named = None
        lots_left = found.lots
        while lots_left:
            buyer, seller = self.both_books(instrument, e.BUY)[0], self.both_books(instrument, e.SELL)[0]
            events += [*self.end_partner(buyer), *self.end_partner(seller)]  # type: ignore[attr-defined]
            lots = min(buyer.left, seller.left)
            if buyer is not named:
                named = buyer
                events.append(
                    event(
                        *(e.EV_TAKER, r.BY_AUCTION, instrument, buyer.order_id, found.price, 0),
                        *(buyer.left, buyer.left, buyer.hold),
                    )
                )
            lots_left -= lots
            for order in (buyer, seller):
                self.counted(order, lots)  # type: ignore[attr-defined]
                order.left -= lots
                self._hide(order)  # type: ignore[attr-defined]
                if order.left == 0:
                    self.orders.remove(order)
            events.append(
                event(
                    *(e.EV_CROSSED, 0, instrument, seller.order_id, found.price, lots),
                    *(seller.left, buyer.left, seller.hold),
                )
            )
        events += self.pulled_behind(instrument)  # type: ignore[attr-defined]
        # What gathered comes behind what stood, such as a peg that moved while the market was closed.
        self.orders.sort(key=lambda order: order.instrument == instrument and order.gathers)
        for order in self.orders:
            if order.instrument == instrument:
                order.gathers = False
        if found.price:
            self.last[instrument] = self.seen[instrument, e.TRIGGER_LAST] = found.price
        return [*events, self._of(instrument, found, event)]

    def indicate(self, event: Any) -> list[Any]:
        """A second: what is new of each auction."""
        events = []
        for instrument in sorted(n for n, state in self.states.items() if state == e.INSTRUMENT_AUCTION):
            found = self.stands_at(instrument)
            if found != self.published[instrument]:
                self.published[instrument] = found
                events.append(self._of(instrument, found, event))
        if e.INSTRUMENT_AUCTION in self.states.values():
            events.append(event(e.EV_NOTHING, 0, 0, 0, 0, 0, 0, 0, -1))
        return events

    @staticmethod
    def _of(instrument: int, found: Indication, event: Any) -> Any:
        return event(e.EV_AUCTION, 0, instrument, 0, found.price, found.lots, found.surplus, 0, -1)
