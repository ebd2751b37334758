"""Pegged orders of the naive book: where each must stand, found anew from the whole book behind every command."""

from typing import Any

from protocol import enums as e
from protocol import reasons as r


class NaivePegs:
    """To be mixed into the naive shard."""

    orders: list[Any]
    waiting: list[Any]
    multipliers: dict[int, int]

    def best(self, instrument: int, side: int, orders: list[Any]) -> int | None:
        prices = [o.price_ticks for o in orders if (o.instrument, o.side) == (instrument, side) and not o.gathers]
        return (max if side == e.BUY else min)(prices, default=None)

    def followed(self, order: Any) -> int | None:
        """The price that a peg follows; a middle between two ticks is rounded away from the other side."""
        others = [o for o in self.orders if o.peg is None]
        bid, ask = (self.best(order.instrument, side, others) for side in (e.BUY, e.SELL))
        if order.peg != e.PEG_MID:
            return bid if order.peg == e.PEG_BID else ask
        if bid is None or ask is None:
            return None
        return (bid + ask) // 2 if order.side == e.BUY else -(-(bid + ask) // 2)

    def standing_price(self, order: Any, met: int | None) -> int:
        """Where a peg stands while ``met`` is the best price on the other side; 0 = nowhere."""
        followed = self.followed(order)
        highest = ((1 << 62) - 1) // self.multipliers[order.instrument]
        wanted = order.price_ticks if followed is None else followed + order.offset
        wanted = min(max(wanted, 1), highest)
        if order.side == e.BUY:
            return min(wanted, order.limit, (1 << 62 if met is None else met) - 1)
        price = max(wanted, order.limit, (met or 0) + 1)
        return price if price <= highest else 0

    def enter_peg(self, q: Any, order: Any) -> int:
        """Price at which a new peg stands, or the reason below zero."""
        met = self.best(q.instrument, 1 - q.side, self.orders)
        if self.followed(order) is None or self.standing_price(order, met) == 0:
            return -r.PEG_NO_REFERENCE
        price = self.standing_price(order, met)
        moved = type(order)(**{**order.__dict__, "price_ticks": price})
        full = len(self.orders) + len(self.waiting) == self.orders_max  # type: ignore[attr-defined]
        return -r.BOOK_FULL if full or self._no_leaf(moved) else price  # type: ignore[attr-defined]

    def settle_pegs(self, instrument: int, event: Any) -> list[Any]:
        """Behind a command: all that stand where they should not are taken off, then put on again, the oldest first."""
        told: list[Any] = []
        while not self.gathers(instrument):  # type: ignore[attr-defined]
            pegs = sorted(
                (o for o in self.orders if o.peg is not None and o.instrument == instrument), key=lambda o: o.age
            )
            placed = [o for o in self.orders if o.peg is None]
            moving = []
            for order in pegs:
                price = self.standing_price(order, self.best(instrument, 1 - order.side, placed))
                if price:
                    placed.append(type(order)(**{**order.__dict__, "price_ticks": price}))
                if price != order.price_ticks:
                    moving.append((order, price))
            for order, price in moving:
                self.orders.remove(order)
                order.price_ticks = price
            lost = 0
            for order, price in moving:
                fields = (instrument, order.order_id, price, order.left)
                if price and not self._no_leaf(order):  # type: ignore[attr-defined]
                    self.orders.append(order)
                    told.append(event(e.EV_PEGGED, 0, *fields, order.left, 0, order.hold))
                else:
                    lost += 1
                    told.append(event(e.EV_CANCELED, r.BY_PEG, *fields, 0, 0, order.hold))
            if not lost:
                break
        return told
