"""Linked orders (OCO) of the naive book: two that enter together, and what happens first to one ends the other."""

from typing import Any

from protocol import reasons as r


class NaiveLinks:
    """To be mixed into the naive shard."""

    orders: list[Any]
    waiting: list[Any]
    marked: list[Any]

    def enter_linked(self, q: Any, leg: Any) -> list[Any]:
        """Both enter, or the first reason against one of them refuses both."""
        shard: Any = self
        pair, codes, passed = [], [], []
        for one in (q, leg._replace(seq=q.seq + 1, ts_ns=q.ts_ns)):
            order = shard.stop_of(one) if one.waits else self._limit_of(one)
            code = shard.stop_code(order) if one.waits else self._limit_code(order)
            if shard.sets_off(one, code):
                passed.append(order)
                code = r.ACCEPTED
            pair.append((order, one.waits))
            codes.append(code)
        resting, waiting = ([order for order, waits in pair if waits == wanted] for wanted in (False, True))
        code = codes[0] or codes[1] or shard.room_code(resting, waiting)
        if code:
            return [shard._rejected(q, code)]
        for order in resting:
            shard._hide(order)
        self.orders += resting
        for order in waiting:
            shard.wait(order)
        (first, _), (second, _) = pair
        first.partner, second.partner = second, first
        told = [shard.rested(first), shard.rested(second)]
        for order in passed[:1]:
            shard._fire(order)
            self.marked.append(order)
        return told

    def _limit_of(self, q: Any) -> Any:
        shard: Any = self
        order = shard.order_of(q)
        order.display, order.age, order.expiry = q.display, q.seq, shard._expiry(q)
        order.gathers = shard.gathers(q.instrument)
        return order

    def _limit_code(self, order: Any) -> int:
        shard: Any = self
        return r.POST_ONLY_WOULD_TAKE if shard._opposite(order) else r.ACCEPTED

    def end_partner(self, order: Any) -> list[Any]:
        """Something happens to the order: what is said of the one that it is linked with, which is gone."""
        shard: Any = self
        other = order.partner
        if other is None:
            return []
        gone = shard._canceled(other, r.BY_LINK)
        shard._remove(other)
        return [gone]

    @staticmethod
    def unlink(order: Any) -> None:
        """An order leaves: the other one is alone."""
        if order.partner is not None:
            order.partner.partner = order.partner = None
