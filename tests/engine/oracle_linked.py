"""The part of the oracle that links two orders (OCO): together in, and what happens first to one ends the other."""

from abc import abstractmethod
from typing import Any

import numpy as np

from protocol import enums as e
from protocol import reasons as r
from protocol.records import EXT_IDS_SLOT, EXT_LEG_SLOT
from tests.engine.oracle_stops import StopsOracle
from tests.naive.exchange import Order, Side, Tif


class LinkedRules(StopsOracle):
    """``partners``: id to the order that it is linked with; ``more``: what the second of two holds beyond the first, by its id.

    ``leaving``: order that was set off to the one that has left its level and not been said to.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.partners: dict[int, Order] = {}
        self.more: dict[int, int] = {}
        self.leaving: dict[int, Order] = {}
        self.joining: list[Order] = []

    def _is_list(self) -> bool:
        return bool(int(self.head["flags"]) & e.FLAG_LEGS) and int(self.head["type"]) in (
            e.LIMIT,
            e.MARKET,
            e.MARKET_AMOUNT,
        )

    def _on_list(self, group: np.ndarray) -> None:
        head, self.ids = group[0], None
        slots = list(group)
        first_ids = _ids_of(slots, 1)
        at = 1 + (first_ids is not None)
        leg_slot = slots[at] if at < len(slots) else None
        if leg_slot is None or leg_slot["type"] != e.EXT_LEG:
            self._verdict(r.LEG_FORM)  # type: ignore[arg-type]
            return
        named = leg_slot.reshape(1).view(EXT_LEG_SLOT.slot_dtype)[0]
        second_ids = _ids_of(slots, at + 1)
        behind = at + 1 + (second_ids is not None)
        third = behind < len(slots) and slots[behind]["type"] == e.EXT_LEG
        if named["role"] != e.LEG_LINKED or third:
            self._verdict(r.LEG_FORM)  # type: ignore[arg-type]
            return
        leg = leg_slot.copy()
        leg["type"], leg["margin_mode"] = named["order_type"], 0
        for name in ("source", "session", "source_seq"):
            leg[name] = head[name]
        leg["flags"] = (
            int(leg["flags"]) & (e.FLAG_TERMS | e.FLAG_TRIGGER | e.FLAG_TAKE_PROFIT | e.FLAG_PEG)
            | int(head["flags"]) & e.FLAG_API
        )
        if leg["account"] != head["account"] or leg["order_id"] != head["order_id"] + at:
            self._verdict(r.BAD_FIELD)  # type: ignore[arg-type]
            return
        if leg["instrument"] != head["instrument"] or leg["type"] not in (e.LIMIT, e.MARKET):
            self._verdict(r.LEG_FORM)  # type: ignore[arg-type]
            return
        orders = []
        for command, ids in ((head, first_ids), (leg, second_ids)):
            self.ids = ids
            if self._is_duplicate():
                return
            self.head = command
            code, order = self._planned()
            self.head = head
            if code:
                self.joining = []
                self._verdict(code)  # type: ignore[arg-type]
                return
            orders.append(order)
            self.joining = [order]
        self.joining = []
        first, second = orders
        keys = []
        for ids in (first_ids, second_ids):
            self.ids = ids
            keys.append(self._client_key())
        code = pair_code(head, leg)
        if not code and keys[0] is not None and keys[0] == keys[1]:
            code = r.LEG_FORM
        need, more = self._hold_of(first), max(0, self._hold_of(second) - self._hold_of(first))
        if not code and need + more > self.free[self._paid_with(first)]:
            code = r.INSUFFICIENT_FUNDS
        code = code or self._pair_refusal()
        for order in orders:
            code = code or self._standing_code(order)
        if code:
            self._verdict(code)  # type: ignore[arg-type]
            return
        self.more[second.id] = more
        self.partners[first.id], self.partners[second.id] = second, first
        for command, order, ids in ((head, first, first_ids), (leg, second, second_ids)):
            self.ids, self.head = ids, command
            self._lock(order, self._hold_of(order))
            self.head = head
            if command["session"]:
                self._note_session(order.id)
            order.age = int(command["seq"])
            self._told_linked(order, int(command["type"]))
        self.head = head
        self._verdict(r.ACCEPTED)  # type: ignore[arg-type]
        passed = [order for order in orders if self._has_passed(order)]
        if passed and not self._must_rest():
            self.waiting.remove(passed[0])
            partner = self.leaving[passed[0].id] = self.partners[passed[0].id]
            self._leave_book(partner)
            self._set_off(passed[:1])

    def _pair_refusal(self) -> int:
        """Why there is no room for two orders."""
        return r.ACCEPTED

    def _has_passed(self, order: Order) -> bool:
        """Whether the price has passed what the order waits for."""
        stop = order.stop
        return stop is not None and not stop.trails and stop.is_hit(self.seen[order.instrument, stop.ref])

    def _standing_code(self, order: Order) -> int:
        """Why an order cannot stand, on the prices as they are."""
        if order.stop is not None:
            return self._stop_code(order.instrument, order.stop)
        return r.POST_ONLY_WOULD_TAKE if self._would_take(order) else r.ACCEPTED

    def _hold_of(self, order: Order) -> int:
        return self.more[order.id] if order.id in self.more else super()._hold_of(order)

    def _unlink(self, order: Order) -> Order:
        """Both are alone; what the second held stays what it holds until it leaves."""
        partner = self.partners.pop(order.id)
        del self.partners[partner.id]
        return partner

    def _end_partner(self, order: Order) -> None:
        """Something happens to the order: before that its partner leaves."""
        if order.id not in self.partners:
            return
        partner = self.partners[order.id]
        self._lock(partner, -self._hold_of(partner))
        left = partner.left
        self._leave_book(partner)
        self._say_ended(order, partner, left)

    def _say_ended(self, order: Order, partner: Order, left: int) -> None:
        self._told_ended(partner, left, r.BY_LINK)
        self.more.pop(partner.id, None)
        self._unlink(order)

    def _visit(self, instrument: int, ref: int, price: int) -> list[Order]:
        hit = super()._visit(instrument, ref, price)
        for order in hit:
            if order.id in self.partners:
                partner = self.partners[order.id]
                self._leave_book(partner)
                self.leaving[order.id] = partner
        return hit

    def _take_over(self, order: Order) -> None:
        """The order was set off: it holds what it needs, and what both held beyond that is free."""
        partner = self.partners[order.id]
        held = self._hold_of(order) + self._hold_of(partner)
        self.more.pop(order.id, None)
        self.more.pop(partner.id, None)
        self._lock(order, self._hold_of(order) - held)

    def _say_left(self, order: Order) -> None:
        """Behind what set the order off: its partner has ended."""
        partner = self.leaving.pop(order.id)
        self._told_ended(partner, partner.left, r.BY_LINK)
        self._unlink(order)

    # What the oracle of outcomes knows and says.
    @abstractmethod
    def _client_key(self) -> Any:
        """Account and client order id of ``ids``."""

    @abstractmethod
    def _is_duplicate(self) -> bool:
        """Whether it was used before, which is said."""

    @abstractmethod
    def _planned(self) -> tuple[int, Order]:
        """Why the order of ``head`` makes no sense, and the order."""

    @abstractmethod
    def _note_session(self, order_id: int) -> None:
        """The order is of the command's session."""

    @abstractmethod
    def _told_linked(self, order: Order, kind: int) -> None:
        """It stands."""

    @abstractmethod
    def _told_ended(self, order: Order, left: int, reason: int) -> None:
        """It is gone with the one that it was linked with."""


def _ids_of(slots: list[Any], at: int) -> Any:
    if at < len(slots) and slots[at]["type"] == e.EXT_IDS:
        return slots[at].reshape(1).view(EXT_IDS_SLOT.slot_dtype)[0]
    return None


def pair_code(c: Any, leg: Any) -> int:
    waits, triggers = int(c["flags"]) & e.FLAG_TRIGGER, int(leg["flags"]) & e.FLAG_TRIGGER
    profit = waits and int(c["flags"]) & e.FLAG_TAKE_PROFIT
    rests = not waits and c["type"] == e.LIMIT and c["tif"] == Tif.POST_ONLY
    is_stop = triggers and not int(leg["flags"]) & e.FLAG_TAKE_PROFIT
    same = c["side"] == leg["side"] and c["qty_lots"] == leg["qty_lots"]
    pegs = (int(c["flags"]) | int(leg["flags"])) & e.FLAG_PEG
    if pegs or not (profit or rests) or not is_stop or not same:
        return r.LEG_FORM
    expiries = [int(one["expiry_ts_ns"]) if int(one["flags"]) & e.FLAG_TERMS else 0 for one in (c, leg)]
    if expiries[0] != expiries[1]:
        return r.LEG_EXPIRY
    near, far = int(c["trigger_price_ticks"] if waits else c["price_ticks"]), int(leg["trigger_price_ticks"])
    apart = near > far if c["side"] == Side.SELL else near < far
    if leg["offset_kind"]:
        return r.ACCEPTED if apart or far == 0 else r.ACTIVATION_BEYOND
    return r.ACCEPTED if apart else r.LEGS_CROSSED
