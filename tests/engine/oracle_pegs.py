"""The part of the oracle that follows best prices: pegged orders, as docs/matching.md says.

Nothing is remembered of the prices that pegs have seen: where each must stand is looked up anew behind every command.
"""

from typing import Any

from protocol import enums as e
from protocol import reasons as r
from tests.naive.exchange import AMOUNT_LIMIT, NaiveExchange, Order, Peg, Side

PEGS_MAX = 1_000


class PegsOracle(NaiveExchange):
    """To be mixed into the oracle."""

    head: Any
    ids: Any
    outcomes: list[Any]

    def _is_peg(self) -> bool:
        """Whether the command is an order that follows a best price."""
        return bool(int(self.head["flags"]) & e.FLAG_PEG) and int(self.head["type"]) in (
            e.LIMIT,
            e.MARKET,
            e.MARKET_AMOUNT,
        )

    def _peg_code(self) -> int:
        """Why what the order says makes no sense, whatever the prices are."""
        h = self.head
        flags = int(h["flags"])
        has_terms = flags & e.FLAG_TERMS and (h["display_qty_lots"] != 0 or h["min_qty_lots"] != 0)
        ways = (
            (
                r.PEG_MISPLACED,
                h["type"] != e.LIMIT or h["tif"] in (e.IOC, e.FOK) or flags & (e.FLAG_TRIGGER | e.FLAG_LEGS),
            ),
            (r.BAD_FIELD, h["trigger_ref"] not in (0, 1, 2) or h["offset_kind"] not in (0, 1)),
            (r.PEG_TERMS, has_terms),
        )
        return next((code for code, wrong in ways if wrong), r.ACCEPTED)

    def _pegs(self, instrument: int) -> list[Order]:
        mine = [order for order in self.orders.values() if order.peg and order.instrument == instrument]
        return sorted(mine, key=lambda order: order.age)

    def _best(self, instrument: int, side: int, *, pegs: bool) -> int | None:
        """Best price of a side, with or without pegs."""
        prices = [o.price for o in self.markets[instrument].by_priority(side) if pegs or o.peg is None]
        return prices[0] if prices else None

    def _followed(self, order: Order) -> int | None:
        assert order.peg is not None
        bid, ask = (self._best(order.instrument, side, pegs=False) for side in (Side.BUY, Side.SELL))
        if order.peg.ref == e.PEG_BID:
            return bid
        if order.peg.ref == e.PEG_ASK:
            return ask
        if bid is None or ask is None:
            return None
        # The middle, away from the other side.
        return (bid + ask) // 2 if order.side == Side.BUY else (bid + ask + 1) // 2

    def _standing(self, order: Order, met: int | None) -> int:
        """Where a peg stands with the other side's best price ``met``; 0 = nowhere."""
        assert order.peg is not None
        followed = self._followed(order)
        highest = (AMOUNT_LIMIT - 1) // self.markets[order.instrument].k
        price = order.price if followed is None else min(highest, max(1, followed + order.peg.offset))
        if order.side == Side.BUY:
            price = min(price, order.peg.limit)
            return price if met is None else min(price, met - 1)
        price = max(price, order.peg.limit)
        price = price if met is None else max(price, met + 1)
        return price if price <= highest else 0

    def _enter_peg(self, order: Order) -> int:
        """Let a peg stand where it should; or the reason why not."""
        h = self.head
        order.peg = Peg(int(h["trigger_ref"]), int(h["sub_account"]) if h["offset_kind"] else 0, order.price)
        order.age = int(h["seq"])
        refusal: int = self._hold_taking_refusal(order)
        if refusal:
            return refusal
        price = self._standing(order, self._best(order.instrument, 1 - order.side, pegs=True))
        if self._followed(order) is None or price == 0:
            return r.PEG_NO_REFERENCE
        if len(self._pegs(order.instrument)) >= PEGS_MAX:
            return r.PEGS_FULL
        order.price = price
        self._lock(order, self._hold_of(order))
        self._enter_book(order)
        return r.ACCEPTED

    def _settle_pegs(self, instrument: int = 0) -> int:
        """Behind a command: all that stand elsewhere come off, then on again by age. How many found no price."""
        if instrument == 0:
            return sum(self._settle_pegs(number) for number in sorted(self.markets))
        if instrument not in self.markets or self.gathers(instrument):  # type: ignore[attr-defined]
            return 0
        market = self.markets[instrument]
        best = {side: self._best(instrument, side, pegs=False) for side in (Side.BUY, Side.SELL)}
        moving = []
        for order in self._pegs(instrument):
            price = self._standing(order, best[Side(1 - order.side)])
            if price:
                before = best[Side(order.side)]
                better = max if order.side == Side.BUY else min
                best[Side(order.side)] = price if before is None else better(before, price)
            if price != order.price:
                moving.append((order, price))
        for order, _ in moving:
            levels = market.levels[order.side]
            levels[order.price].remove(order)
            if not levels[order.price]:
                del levels[order.price]
        if moving:
            self._say_that_it_rests()
        lost = 0
        for order, price in moving:
            order.price = price
            if price:
                self._enter_book(order)
                self._own(e.OUT_PEGGED, order, 0, order.total, order.left, price_ticks=price)  # type: ignore[attr-defined]
                continue
            lost += 1
            self._lock(order, -self._hold_of(order))
            del self.orders[order.id]
            self._own(e.OUT_CANCELED, order, r.BY_PEG, order.left, 0)  # type: ignore[attr-defined]
            self._ended(order, e.ORDER_STATE_CANCELED, r.BY_PEG)  # type: ignore[attr-defined]
        return lost + (self._settle_pegs(instrument) if lost else 0)

    def _say_that_it_rests(self) -> None:
        """An order that is new and rests says both in one outcome where that is its last, and else apart."""
        if len(self.outcomes) == 1 and self.outcomes[0]["kind"] == e.OUT_NEW:
            order = self.orders[int(self.outcomes[0]["order_id"])]
            self._own(e.OUT_RESTED, order, 0, order.total, order.left)  # type: ignore[attr-defined]
