"""The part of the oracle that waits: stops, take-profits and trailing stops, as docs/matching.md says.

Nothing is kept in any order but that of arrival: whatever a price sets off is looked for in all that waits.
"""

from abc import abstractmethod
from typing import Any

from protocol import enums as e
from protocol import reasons as r
from tests.naive.exchange import NaiveExchange, Order, Side, Stop, Tif, Verdict


class StopsOracle(NaiveExchange):
    """``waiting``: orders in the order in which they came to where they wait; ``seen``: (instrument, TRIGGER_*) to the price.

    ``trailing``: those that trail, and some that are gone, in the order in which they began to.
    """

    head: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.waiting: list[Order] = []
        self.trailing: list[Order] = []
        self.seen: dict[tuple[int, int], int] = {}
        self.path: list[tuple[int, int]] = []

    def _waits(self) -> bool:
        """Whether the command is an order that waits for a price."""
        return bool(int(self.head["flags"]) & e.FLAG_TRIGGER) and int(self.head["type"]) in (
            e.LIMIT,
            e.MARKET,
            e.MARKET_AMOUNT,
        )

    def _trigger_code(self, tick_e8: int) -> int:
        """Why what the order waits for makes no sense, whatever the prices are."""
        h = self.head
        trigger, kind, offset = int(h["trigger_price_ticks"]), int(h["offset_kind"]), int(h["sub_account"])
        takes_profit = bool(int(h["flags"]) & e.FLAG_TAKE_PROFIT)
        ways = (
            (r.TRIGGER_MISPLACED, h["type"] == e.MARKET_AMOUNT),
            (r.BAD_TRIGGER, h["trigger_ref"] not in (0, 1, 2) or (kind == 0 and trigger < 1)),
            (r.BAD_OFFSET, kind not in (0, 1, 2) or (kind != 0 and offset < 1) or (kind == 2 and offset > 9_999)),
            (r.OFFSET_MISPLACED, kind != 0 and takes_profit),
            (r.BAD_ACTIVATION, kind != 0 and trigger < 0),
            (r.RANGE, trigger * tick_e8 >= 1 << 62),
        )
        return next((code for code, wrong in ways if wrong), r.ACCEPTED)

    def _new_stop(self, instrument: int, side: int) -> Stop:
        """What the order of the command waits for."""
        h = self.head
        kind, offset = int(h["offset_kind"]), int(h["sub_account"])
        rises = (side == Side.BUY) != bool(int(h["flags"]) & e.FLAG_TAKE_PROFIT)
        minimum = int(h["min_qty_lots"]) if int(h["flags"]) & e.FLAG_TERMS else 0
        stop = Stop(int(h["trigger_ref"]), rises, int(h["trigger_price_ticks"]), h["type"] == e.MARKET, minimum)
        stop.offset_ticks, stop.offset_bp = offset * (kind == 1), offset * (kind == 2)
        if stop.has_offset:
            seen = self.seen.get((instrument, stop.ref), 0)
            stop.activation, stop.trigger = stop.trigger, 0
            if stop.activates(seen):
                stop.activation = 0
            stop.trigger = stop.behind(stop.activation or seen)
        return stop

    def _stop_code(self, instrument: int, stop: Stop) -> int:
        """Why it cannot wait for that, on the prices as they are."""
        seen = self.seen.get((instrument, stop.ref), 0)
        if seen == 0:
            return r.NO_TRIGGER_PRICE
        here = [o.stop for o in self._on(instrument, stop.ref) if o.stop is not None]
        if any(other.is_hit(seen) or other.activates(seen) for other in here):
            return r.IMMEDIATE_IN_AUCTION
        if stop.has_offset and not 1 <= stop.trigger < 1 << 62:
            return r.OFFSET_TOO_LARGE
        passed = not stop.has_offset and stop.is_hit(seen) and (not self._is_exit() or self._must_rest())
        return r.TRIGGER_PASSED if passed else r.ACCEPTED

    def _enter_stop(self, order: Order) -> Verdict:
        """An order whose form is sound; its funds come first, then the prices."""
        refusal: int = self._hold_taking_refusal(order)
        stop = self._new_stop(order.instrument, order.side)
        refusal = refusal or self._stop_code(order.instrument, stop)
        if refusal:
            return self._verdict(refusal)  # type: ignore[arg-type]
        order.stop, order.age = stop, int(self.head["seq"])
        self._lock(order, self._hold_of(order))
        self.orders[order.id] = order
        self.waiting.append(order)
        if stop.trails:
            self.trailing.append(order)
        self._told_waiting(order)
        seen = self.seen[order.instrument, stop.ref]
        if not stop.has_offset and stop.is_hit(seen) and not self._must_rest():
            self.waiting.remove(order)
            self._told_resting(order)
            self._set_off([order])
        return self._verdict(r.ACCEPTED)  # type: ignore[arg-type]

    def _amend_stop(self, order: Order, price: int, total: int) -> Verdict:
        assert order.stop is not None
        if order.stop.market or order.tif not in (Tif.GTC, Tif.POST_ONLY):
            return self._verdict(r.STOP_NOT_AMENDED)  # type: ignore[arg-type]
        amended = Order(order.id, order.account, order.instrument, order.side, price, total, order.tif, order.stp)
        more = self._hold_of(amended) - self._hold_of(order)
        if more > self.free[self._paid_with(order)]:
            return self._verdict(r.INSUFFICIENT_FUNDS)  # type: ignore[arg-type]
        if (price, total) == (order.price, order.total):
            return self._verdict(r.NO_CHANGE)  # type: ignore[arg-type]
        self._lock(order, more)
        order.price, order.total = price, total
        self._told_amended(order)
        return self._verdict(r.ACCEPTED)  # type: ignore[arg-type]

    def _visit(self, instrument: int, ref: int, price: int) -> list[Order]:
        """The price was here: what it sets off, in order. What trails follows, then others begin to."""
        here = self._on(instrument, ref)
        hit = [o for o in here if o.stop is not None and o.stop.is_hit(price)]
        hit.sort(key=_way)
        self.waiting = [o for o in self.waiting if o not in hit]
        ids = {o.id for o in here}
        self.trailing = [o for o in self.trailing if o.id in self.orders]
        for order in [o for o in self.trailing if o.id in ids]:
            stop = order.stop
            if order in hit or stop is None:
                continue
            nearer = stop.behind(price)
            if nearer != stop.trigger and (nearer < stop.trigger) == stop.rises:
                stop.trigger = nearer
                self.waiting.remove(order)
                self.waiting.append(order)
        reached = [o for o in here if o.stop is not None and o.stop.activates(price)]
        for order in sorted(reached, key=_way):
            assert order.stop is not None
            order.stop.trigger, order.stop.activation = order.stop.behind(price), 0
            self.waiting.remove(order)
            self.waiting.append(order)
            self.trailing.append(order)
        return hit

    def _on(self, instrument: int, ref: int) -> list[Order]:
        """What waits for a price of an instrument."""
        here = [o for o in self.waiting if o.instrument == instrument and o.stop is not None and o.stop.ref == ref]
        return [o for o in here if o.id in self.orders]

    def _visit_marks(self, instrument: int) -> list[Order]:
        return [
            order
            for ref in (e.TRIGGER_MARK, e.TRIGGER_INDEX)
            if (instrument, ref) in self.seen
            for order in self._visit(instrument, ref, self.seen[instrument, ref])
        ]

    def _set_off(self, fired: list[Order] | None = None) -> None:
        """Let what was set off enter, one after the other, and what that sets off behind it."""
        queue = list(fired or [])
        while True:
            # The trades of an order count by its first and its last price.
            for instrument, price in self.path[:1] + self.path[1:][-1:]:
                self.seen[instrument, e.TRIGGER_LAST] = price
                queue += self._visit(instrument, e.TRIGGER_LAST, price)
            self.path = []
            if not queue:
                return
            self._enter_fired(queue.pop(0))

    def _enter_fired(self, order: Order) -> None:
        stop = order.stop
        assert stop is not None
        del self.orders[order.id]
        order.stop = None
        self._told_triggered(order)
        code = 0
        if order.tif == Tif.POST_ONLY and self._would_take(order):
            code = r.POST_ONLY_WOULD_TAKE
        elif order.tif == Tif.FOK and not self._fillable(order):
            code = r.FOK_UNFILLED
        elif stop.minimum and not self._fillable(order, stop.minimum):
            code = r.MIN_QTY_UNFILLED
        dropped = r.BY_NO_LIQUIDITY if stop.market else r.BY_IOC
        self._trade_on(order, may_rest=order.tif in (Tif.GTC, Tif.POST_ONLY), dropped=dropped, refused=code)

    @abstractmethod
    def _is_exit(self) -> bool:
        """Whether the command is an exit that came back."""

    @abstractmethod
    def _must_rest(self) -> bool:
        """Whether it is one that may not trade now."""

    # What the oracle of outcomes says.
    @abstractmethod
    def _told_waiting(self, order: Order) -> None:
        """The order is accepted, and waits."""

    @abstractmethod
    def _told_resting(self, order: Order) -> None:
        """It waits, but something follows; where it has ids that was said."""

    @abstractmethod
    def _told_amended(self, order: Order) -> None:
        """It has another price or quantity, and waits on."""

    @abstractmethod
    def _told_triggered(self, order: Order) -> None:
        """It was set off."""

    @abstractmethod
    def _trade_on(self, taker: Order, *, may_rest: bool, dropped: int, refused: int) -> None:
        """It trades, then rests or is dropped; or is refused."""


def _way(order: Order) -> int:
    """How far the price comes before it sets the order off, or activates it."""
    assert order.stop is not None
    if order.stop.activation:
        return -order.stop.activation if order.stop.rises else order.stop.activation
    return order.stop.trigger if order.stop.rises else -order.stop.trigger
