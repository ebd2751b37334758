"""A matcher shard as its rule book reads: a list of orders in time order, searched from end to end.

The twin that the kernel is compared with, event by event. It knows limits only where they show: BOOK_FULL.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from protocol import enums as e
from protocol import reasons as r
from tests.matcher.naive_auction import NaiveAuctions
from tests.matcher.naive_links import NaiveLinks
from tests.matcher.naive_pegs import NaivePegs
from tests.naive.protection import Protection


class Event(NamedTuple):
    """The fields of an event without seq, slot and reserved."""

    kind: int
    reason: int
    last: bool
    instrument: int
    order_id: int
    price_ticks: int
    qty_lots: int
    left_lots: int
    taker_left: int
    hold: int


class Request(NamedTuple):
    """A command with a verdict OK: what the matcher reads of both."""

    type: int
    order_id: int = 0
    account: int = 0
    instrument: int = 0
    side: int = 0
    price_ticks: int = 0
    qty_lots: int = 0
    tif: int = 0
    stp: int = 0
    hold: int = -1
    seq: int = 0
    ts_ns: int = 0
    terms: bool = False
    display: int = 0
    minimum: int = 0
    expiry: int = 0
    no_take: bool = False
    session: int = 0
    of_session: int = 0  # cancel-all: source << 16 | number
    sides: int = 0
    cause: int = 0
    ask_price: int = 0  # of a quote; price and quantity are the bid's, order_id and hold its order's
    ask_qty: int = 0
    ask_hold: int = -1
    net: int = 0  # SET_PROTECTION: price = window, quantity = lots
    trades: int = 0
    uncross: bool = False
    trigger: int = 0
    ref: int = 0
    takes_profit: bool = False
    waits: bool = False
    offset_kind: int = 0
    offset: int = 0
    pegs: bool = False
    system: bool = False
    leg: "Request | None" = None  # the second of two linked orders


DAY_NS = 86_400_000_000_000
ASK = 1 << 39


def behind(price: int, order: "Order") -> int:
    """Trigger price of a trailing stop when its price is here: the offset away, in basis points rounded away from the price."""
    distance = order.offset if order.offset_kind == e.OFFSET_TICKS else -(-price * order.offset // 10_000)
    return price + distance if order.rises else price - distance


@dataclass(eq=False)
class Order:
    order_id: int
    account: int
    instrument: int
    side: int
    price_ticks: int
    left: int
    total: int
    tif: int
    stp: int
    hold: int
    display: int = 0  # 0 = shows all
    expiry: int = 0  # 0 = never
    age: int = 0
    hidden: int = 0
    session: int = 0
    quote: bool = False
    gathers: bool = False  # it stands in the auction's books
    kind: int = e.LIMIT
    minimum: int = 0
    # Of one that waits for a price: which one, whether for its rise, and from what price on.
    ref: int = 0
    rises: bool = False
    trigger: int = 0
    offset_kind: int = 0
    offset: int = 0
    activation: int = 0  # of one that is to trail from there on; its trigger is the same
    full: bool = False  # no place was left for its trigger
    # Of one that follows a best price: which one, and how far.
    peg: int | None = None
    limit: int = 0
    # What happens first to one of two linked orders ends the other.
    partner: "Order | None" = None

    @property
    def waits_for_rise(self) -> bool:
        return self.rises != (self.activation != 0)

    @property
    def shown(self) -> int:
        return self.left - self.hidden


class NaiveShard(NaiveAuctions, NaivePegs, NaiveLinks):
    """Resting orders of all instruments, oldest first; ``apply`` returns the events of a command.

    ``waiting``: stops, those that came to the price at which they wait first before others. ``trailing``: those that follow the
    price, in the order in which they began to, and those that are gone. ``seen``: (instrument, what) to the price
    that stops wait for. ``leaving``: what is said of the partner of an order that was set off, behind that order.
    """

    def __init__(self, orders_max: int, leaves_max: int) -> None:
        self.orders: list[Order] = []
        self.waiting: list[Order] = []
        self.trailing: list[Order] = []
        self.seen: dict[tuple[int, int], int] = {}
        self.path: list[int] = []
        self.marked: list[Order] = []
        self.leaving: dict[Order, list[Event]] = {}
        self.multipliers: dict[int, int] = {}
        self.orders_max = orders_max
        self.leaves_max = leaves_max
        self.protections: dict[tuple[int, int], Protection] = {}
        self.now = 0
        self.begin()

    def apply(self, q: Request) -> list[Event]:
        self.now = q.ts_ns
        events = self._apply(q)
        for order in self._set_off(q.instrument):
            events += self._enter_fired(order)
        for event in events:
            if event.kind in {e.EV_FILL, e.EV_CROSSED}:
                self.last[event.instrument] = event.price_ticks
        if not events and q.type in {e.SET_PRICES, e.SET_STATE, e.HALT, e.RESUME}:
            events = [Event(e.EV_NOTHING, 0, True, q.instrument, 0, 0, 0, 0, 0, -1)]
        if q.type not in {e.SET_PROTECTION, e.LIST_INSTRUMENT}:
            for instrument in [q.instrument] if q.instrument else sorted(self.multipliers):
                events += self.settle_pegs(instrument, _event)
        return [event._replace(last=i == len(events) - 1) for i, event in enumerate(events)]

    def by_priority(self, instrument: int, side: int) -> list[Order]:
        found = [o for o in self.orders if o.instrument == instrument and o.side == side and not o.gathers]
        return sorted(found, key=lambda o: -o.price_ticks if side == e.BUY else o.price_ticks)

    def _set_off(self, instrument: int) -> Iterator[Order]:
        """What the prices since the last call set off, and what that sets off in turn, one after the other."""
        fired: list[Order] = []
        while True:
            # The trades of an order count by its first and its last price.
            for price in self.path[:1] + self.path[1:][-1:]:
                self.seen[instrument, e.TRIGGER_LAST] = price
                fired += self._visit(instrument, e.TRIGGER_LAST, price)
            self.path = []
            fired += self.marked
            self.marked = []
            if not fired:
                return
            yield fired.pop(0)

    def _visit(self, instrument: int, ref: int, price: int) -> list[Order]:
        here = [o for o in self.waiting if (o.instrument, o.ref) == (instrument, ref)]
        up = sorted((o for o in here if o.waits_for_rise and o.trigger <= price), key=lambda o: o.trigger)
        down = sorted((o for o in here if not o.waits_for_rise and o.trigger >= price), key=lambda o: -o.trigger)
        fired = []
        for order in up + down:
            if order in self.waiting and not order.activation:
                self._fire(order)
                fired.append(order)
        activated = [order for order in up + down if order in self.waiting]
        self.waiting = [order for order in self.waiting if order not in activated]
        self.trailing = [o for o in self.trailing if o in self.waiting]
        trailing = [o for o in self.trailing if (o.instrument, o.ref) == (instrument, ref)]
        for order in [o for o in trailing if not o.rises] + [o for o in trailing if o.rises]:
            trigger = behind(price, order)
            nearer = trigger < order.trigger if order.rises else trigger > order.trigger
            if nearer and not self._no_stop_leaf(order, trigger):
                self.waiting.remove(order)
                order.trigger = trigger
                self.waiting.append(order)
        for order in activated:
            if not self._begins_to_trail(order, price):
                self.leaving[order] = self.end_partner(order)
                fired.append(order)
        return fired

    def _begins_to_trail(self, order: Order, price: int) -> bool:
        """The price came to where the order begins to trail; whether there is a place for its trigger."""
        order.activation = 0
        order.trigger = behind(price, order)
        order.full = self._no_stop_leaf(order, order.trigger)
        if not order.full:
            self.waiting.append(order)
            self.trailing.append(order)
        return not order.full

    def _enter_fired(self, order: Order) -> list[Event]:
        left = order.left
        told = [
            Event(
                e.EV_TAKER,
                r.BY_TRIGGER,
                False,
                order.instrument,
                order.order_id,
                order.price_ticks,
                left,
                left,
                left,
                order.hold,
            )
        ]
        told += self.leaving.pop(order)
        rests = order.tif in {e.GTC, e.POST_ONLY}
        if order.full:
            return [*told, self._expired(order, r.BOOK_FULL)]
        if order.tif == e.POST_ONLY and self._opposite(order):
            return [*told, self._expired(order, r.POST_ONLY_WOULD_TAKE)]
        if order.tif == e.FOK and not self._fillable(order):
            return [*told, self._expired(order, r.FOK_UNFILLED)]
        if order.minimum and not self._fillable(Order(**{**order.__dict__, "left": order.minimum})):
            return [*told, self._expired(order, r.MIN_QTY_UNFILLED)]
        if rests and self._no_leaf(order):
            return [*told, self._expired(order, r.BOOK_FULL)]
        dropped = r.BY_IOC if order.kind == e.LIMIT else r.BY_NO_LIQUIDITY
        return told + self._take(order, by_amount=False, dropped=0 if rests else dropped)

    def _fire(self, order: Order) -> None:
        self.waiting.remove(order)
        self.leaving[order] = self.end_partner(order)

    def stop_of(self, q: Request) -> Order:
        order = self.order_of(q)
        order.kind, order.minimum, order.ref, order.display, order.age = q.type, q.minimum, q.ref, q.display, q.seq
        order.rises = (q.side == e.BUY) != q.takes_profit
        order.trigger, order.offset_kind, order.offset = q.trigger, q.offset_kind, q.offset
        order.expiry = self._expiry(q)
        return order

    def stop_code(self, order: Order) -> int:
        """Why a stop cannot wait; one that trails gets its trigger price, and one that was passed stands where the price is."""
        seen = self.seen.get((order.instrument, order.ref), 0)
        if seen == 0:
            return r.NO_TRIGGER_PRICE
        same = [o for o in self.waiting if (o.instrument, o.ref) == (order.instrument, order.ref)]
        if any(seen >= o.trigger if o.waits_for_rise else seen <= o.trigger for o in same):
            return r.IMMEDIATE_IN_AUCTION
        if order.offset_kind:
            asked = order.trigger
            order.activation = asked if (asked < seen if order.rises else asked > seen) else 0
            order.trigger = behind(order.activation or seen, order)
            if not 1 <= order.trigger < 1 << 62:
                return r.OFFSET_TOO_LARGE
            order.trigger = order.activation or order.trigger
            return r.ACCEPTED
        if seen >= order.trigger if order.rises else seen <= order.trigger:
            order.trigger = seen
            return r.TRIGGER_PASSED
        return r.ACCEPTED

    def _enter_stop(self, q: Request) -> list[Event]:
        order = self.stop_of(q)
        code = self.stop_code(order)
        passed = self.sets_off(q, code)
        if code and not passed:
            return [self._rejected(q, code)]
        if len(self.orders) + len(self.waiting) == self.orders_max or self._no_stop_leaf(order, order.trigger):
            return [self._rejected(q, r.BOOK_FULL)]
        self.wait(order)
        if passed:
            self._fire(order)
            self.marked.append(order)
        return [self.rested(order)]

    def wait(self, order: Order) -> None:
        self.waiting.append(order)
        if order.offset_kind and not order.activation:
            self.trailing.append(order)

    @staticmethod
    def sets_off(q: Request, code: int) -> bool:
        """Whether an exit, whose price was passed before it came, is set off at once."""
        return code == r.TRIGGER_PASSED and q.system and not q.no_take

    @staticmethod
    def rested(o: Order) -> Event:
        return Event(e.EV_RESTED, 0, False, o.instrument, o.order_id, o.price_ticks, o.left, o.left, o.left, o.hold)

    @staticmethod
    def order_of(q: Request) -> Order:
        tif = q.tif if q.type == e.LIMIT else e.IOC
        order = Order(
            q.order_id, q.account, q.instrument, q.side, q.price_ticks, q.qty_lots, q.qty_lots, tif, q.stp, q.hold
        )
        order.session = q.session
        return order

    @staticmethod
    def _expiry(q: Request) -> int:
        return (q.ts_ns // DAY_NS + 1) * DAY_NS if q.expiry == -1 else q.expiry

    def _apply(self, q: Request) -> list[Event]:
        if q.type in {e.LIMIT, e.MARKET, e.MARKET_AMOUNT}:
            if q.pegs:
                return self._enter_peg(q)
            if q.leg is not None:
                return self.enter_linked(q, q.leg)
            return self._enter_stop(q) if q.waits else self._enter(q)
        if q.type == e.SET_PRICES:
            for ref, price in ((e.TRIGGER_MARK, q.price_ticks), (e.TRIGGER_INDEX, q.qty_lots)):
                if price:
                    self.seen[q.instrument, ref] = price
            if not q.no_take:
                self._visit_marks(q.instrument)
            return []
        if q.type in {e.SET_STATE, e.HALT, e.RESUME}:
            return self.change_state(q, _event)
        if q.type == e.CANCEL:
            order = self._named(q)
            if order is None:
                return [self._rejected(q, r.UNKNOWN_ORDER)]
            ended = self.end_partner(order)
            gone = self._canceled(order, r.BY_USER)
            self._remove(order)
            return [*ended, gone]
        if q.type == e.AMEND:
            return self._amend(q)
        if q.type == e.CANCEL_ALL:
            return self._cancel_all(q)
        if q.type == e.EXPIRE:
            due = [o for o in self.orders + self.waiting if 0 < o.expiry <= q.ts_ns]
            due.sort(key=lambda o: (o.expiry, o.age))
            told = [self._canceled(o, r.BY_EXPIRY)._replace(left_lots=o.expiry, taker_left=o.age) for o in due]
            for order in due:
                self._remove(order)
            told += self.indicate(_event)
            return told or [Event(e.EV_NOTHING, 0, True, q.instrument, 0, 0, 0, 0, 0, -1)]
        if q.type == e.EXT_QUOTES:
            return self._quote(q)
        if q.type == e.SET_PROTECTION:
            key = (q.account, q.instrument)
            self.protections.pop(key, None)
            if q.price_ticks:
                self.protections[key] = Protection(q.price_ticks, q.qty_lots, q.net, q.trades, [])
        if q.type == e.LIST_INSTRUMENT:
            self.multipliers[q.instrument] = q.price_ticks
        return []

    def _enter(self, q: Request) -> list[Event]:
        order = self.order_of(q)
        tif = order.tif
        rests = tif in {e.GTC, e.POST_ONLY}
        if q.terms:
            order.display, order.age, order.expiry = q.display, q.seq, self._expiry(q)
        order.gathers = self.gathers(q.instrument)
        if (tif == e.POST_ONLY or q.no_take) and self._opposite(order):
            return [self._rejected(q, r.POST_ONLY_WOULD_TAKE)]
        if tif == e.FOK and not self._fillable(order):
            return [self._rejected(q, r.FOK_UNFILLED)]
        if q.terms and q.minimum and not self._fillable(Order(**{**order.__dict__, "left": q.minimum})):
            return [self._rejected(q, r.MIN_QTY_UNFILLED)]
        if rests and (self._no_leaf(order) or len(self.orders) + len(self.waiting) == self.orders_max):
            return [self._rejected(q, r.BOOK_FULL)]
        dropped = r.BY_IOC if q.type == e.LIMIT else r.BY_NO_LIQUIDITY
        return self._take(order, by_amount=q.type == e.MARKET_AMOUNT, dropped=0 if rests else dropped)

    def _enter_peg(self, q: Request) -> list[Event]:
        left = q.qty_lots
        order = Order(q.order_id, q.account, q.instrument, q.side, 0, left, left, q.tif, q.stp, q.hold)
        order.session, order.age, order.limit = q.session, q.seq, q.price_ticks
        order.peg, order.offset = q.ref, q.offset if q.offset_kind else 0
        if q.terms:
            order.expiry = self._expiry(q)
        price = self.enter_peg(q, order)
        if price < 0:
            return [self._rejected(q, -price)]
        order.price_ticks = price
        self.orders.append(order)
        return [
            Event(e.EV_RESTED, 0, False, q.instrument, q.order_id, q.price_ticks, left, left, left, q.hold),
            Event(e.EV_PEGGED, 0, False, q.instrument, q.order_id, price, left, left, 0, q.hold),
        ]

    def _quote(self, q: Request) -> list[Event]:
        """Each side: what stood goes, or changes, or keeps its place; a quote that is refused changes nothing."""
        done = Event(e.EV_QUOTED, 0, True, q.instrument, q.order_id, 0, 0, 0, 0, -1)
        old = [self.quoted(q.account, q.instrument, side) for side in (e.BUY, e.SELL)]
        wanted = [(q.price_ticks, q.qty_lots), (q.ask_price, q.ask_qty)]
        code = self._quote_code(q, old, wanted)
        if code:
            return [done._replace(reason=code)]
        kept = {}
        for side, (order, (price, qty)) in enumerate(zip(old, wanted, strict=True)):
            kept[side] = order is not None and qty > 0 and price == order.price_ticks and qty <= order.left
            if order is not None and not kept[side]:
                self.orders.remove(order)
        events = []
        ids = ((q.order_id, q.hold), (q.order_id | ASK, q.ask_hold))
        for side, (order, (price, qty), (order_id, hold)) in enumerate(zip(old, wanted, ids, strict=True)):
            if order is None and qty:
                new = Order(order_id, q.account, q.instrument, side, price, qty, qty, e.POST_ONLY, 0, hold, quote=True)
                self.orders.append(new)
                events.append(Event(e.EV_RESTED, 0, False, q.instrument, order_id, price, qty, qty, qty, hold))
            elif order is not None and qty == 0:
                events.append(self._canceled(order, r.BY_USER))
            elif order is not None and not (kept[side] and qty == order.left):
                order.total += qty - order.left
                order.left, order.price_ticks = qty, price
                fields = (q.instrument, order.order_id, price, order.total, qty, qty, order.hold)
                events.append(Event(e.EV_AMENDED, 0, False, *fields))
                if not kept[side]:
                    self.orders.append(order)
        return [*events, done]

    def quoted(self, account: int, instrument: int, side: int) -> Order | None:
        """The account's quote on a side of an instrument."""
        mine = (o for o in self.orders if o.quote and (o.account, o.instrument, o.side) == (account, instrument, side))
        return next(mine, None)

    def _quote_code(self, q: Request, old: list[Order | None], wanted: list[tuple[int, int]]) -> int:
        protection = self.protections.get((q.account, q.instrument))
        if not any(qty for _, qty in wanted):
            return r.ACCEPTED
        if protection is not None and protection.pulled:
            return r.PROTECTED
        leaves = self._leaves()
        new_leaves: set[tuple[int, ...]] = set()
        new_orders = len(self.orders) + len(self.waiting)
        for side, (price, qty) in enumerate(wanted):
            if not qty:
                continue
            others = [o for o in self.by_priority(q.instrument, 1 - side) if o not in old]
            if others and (others[0].price_ticks <= price if side == e.BUY else others[0].price_ticks >= price):
                return r.POST_ONLY_WOULD_TAKE
            new_leaves |= {(q.instrument, 0, price >> 6)} - leaves
            new_orders += old[side] is None
        if len(leaves) + len(new_leaves) > self.leaves_max or new_orders > self.orders_max:
            return r.BOOK_FULL
        return r.ACCEPTED

    def _pulled(self, maker: Order, lots: int) -> list[Event]:
        """What market-maker protection takes away behind a fill of a quote."""
        return self._gone(maker.account, maker.instrument, maker.side) if self.counted(maker, lots) else []

    def counted(self, maker: Order, lots: int) -> bool:
        """Count a fill of a quote; whether its protection takes the quote away."""
        protection = self.protections.get((maker.account, maker.instrument))
        if not maker.quote or protection is None:
            return False
        protection.fills.append((self.now, lots, lots if maker.side == e.BUY else -lots))
        protection.pulled = protection.pulled or protection.reached(self.now)
        return protection.reached(self.now)

    def pulled_behind(self, instrument: int) -> list[Event]:
        """What protection takes away behind an auction, by account."""
        accounts = sorted(a for (a, i), protection in self.protections.items() if i == instrument and protection.pulled)
        return [event for account in accounts for event in self._gone(account, instrument, e.BUY)]

    def _gone(self, account: int, instrument: int, first: int) -> list[Event]:
        sides = (self.quoted(account, instrument, side) for side in (first, 1 - first))
        gone = [order for order in sides if order is not None]
        for order in gone:
            self.orders.remove(order)
        return [self._canceled(order, r.BY_PROTECTION) for order in gone]

    def _amend(self, q: Request) -> list[Event]:
        order = self._named(q)
        if order is None:
            return [self._rejected(q, r.UNKNOWN_ORDER)]
        if order.partner is not None:
            return [self._rejected(q, r.LINKED_AMEND)]
        if order.quote:
            return [self._rejected(q, r.QUOTE_AMEND)]
        if order.peg is not None:
            return [self._rejected(q, r.PEG_AMEND)]
        if order in self.waiting:
            return self._amend_stop(q, order)
        done = order.total - order.left
        if q.qty_lots <= done:
            return [self._rejected(q, r.QUANTITY_TOO_LOW)]
        moves = q.price_ticks != order.price_ticks
        if not moves and q.qty_lots == order.total:
            return [self._rejected(q, r.NO_CHANGE)]
        in_place = not moves and q.qty_lots < order.total
        to_auction = self.gathers(q.instrument)
        moved = Order(**{**order.__dict__, "price_ticks": q.price_ticks, "gathers": to_auction})
        if moves and (order.tif == e.POST_ONLY or q.no_take) and self._opposite(moved):
            return [self._rejected(q, r.POST_ONLY_WOULD_TAKE)]
        if (moves or (order.gathers != to_auction and not in_place)) and self._no_leaf(moved):
            return [self._rejected(q, r.BOOK_FULL)]
        old_left = order.left
        order.total = q.qty_lots
        order.left = q.qty_lots - done
        order.price_ticks = q.price_ticks
        left = order.left
        amended = Event(
            e.EV_AMENDED,
            0,
            False,
            q.instrument,
            q.order_id,
            q.price_ticks,
            q.qty_lots,
            left,
            left,
            order.hold,
        )
        if in_place:
            # What is hidden goes first.
            order.hidden = max(0, order.hidden - (old_left - left))
            return [amended]
        self.orders.remove(order)
        order.gathers = to_auction
        rest = self._take(order, by_amount=False, dropped=0)
        if [event.kind for event in rest] == [e.EV_RESTED]:
            return [amended._replace(kind=e.EV_MOVED)]
        return [amended, *rest]

    def _cancel_all(self, q: Request) -> list[Event]:
        found = [
            o
            for o in self.orders + self.waiting
            if (q.account in {0, o.account}) and (q.instrument in {0, o.instrument})
            and q.of_session in {0, (o.order_id >> 40) << 16 | o.session}
            and q.sides in {0, 1 if o.side == e.BUY else 2}
        ]  # fmt: skip
        found.sort(key=lambda o: (o.instrument, o.order_id))
        nothing = Event(e.EV_NOTHING, 0, True, q.instrument, 0, 0, 0, 0, 0, -1)
        reason = {0: r.BY_CANCEL_ALL, 1: r.BY_DISCONNECT, 2: r.BY_DEAD_MAN}[q.cause]
        told = [self._canceled(order, reason) for order in found]
        for order in found:
            self._remove(order)
        return told or [nothing]

    def _take(self, taker: Order, *, by_amount: bool, dropped: int) -> list[Event]:
        """Section 4 of flow format 2: the loop, then the rest."""
        events: list[Event] = []
        k = self.multipliers[taker.instrument]
        while taker.left and (makers := self._opposite(taker)):
            maker = makers[0]
            price = maker.price_ticks
            unit = price * k if by_amount else 1
            n = min(taker.left // unit, maker.shown)
            if n == 0:
                break
            own = maker.account == taker.account and taker.stp != e.STP_NONE
            if own and taker.stp == e.STP_EXPIRE_TAKER:
                return [*events, self._expired(taker, r.BY_STP)]
            events += self.end_partner(maker)
            if own and taker.stp in {e.STP_EXPIRE_MAKER, e.STP_EXPIRE_BOTH}:
                self.orders.remove(maker)
                events.append(self._canceled(maker, r.BY_STP, taker.left))
                if taker.stp == e.STP_EXPIRE_BOTH:
                    return [*events, self._expired(taker, r.BY_STP)]
                continue
            taker.left -= n * unit
            maker.left -= n
            if maker.left == 0:
                self.orders.remove(maker)
            elif maker.shown == 0:
                # The next part comes to the back of its price.
                self.orders.remove(maker)
                self.orders.append(maker)
                self._hide(maker)
            kind = e.EV_PREVENTED if own else e.EV_FILL
            if not own:
                self.path.append(price)
            events.append(
                Event(kind, 0, False, taker.instrument, maker.order_id, price, n, maker.left, taker.left, maker.hold)
            )
            if not own:
                events += self._pulled(maker, n)
        if taker.left == 0:
            return events
        if dropped:
            return [*events, self._expired(taker, dropped)]
        self.orders.append(taker)
        self._hide(taker)
        return [*events, self.rested(taker)]

    @staticmethod
    def _hide(order: Order) -> None:
        order.hidden = max(0, order.left - order.display) if order.display else 0

    def _opposite(self, order: Order) -> list[Order]:
        """Orders that ``order`` meets, in priority; while its market gathers, none."""
        if order.gathers:
            return []
        makers = self.by_priority(order.instrument, 1 - order.side)
        if order.side == e.BUY:
            return [m for m in makers if m.price_ticks <= order.price_ticks]
        return [m for m in makers if m.price_ticks >= order.price_ticks]

    def _fillable(self, order: Order) -> bool:
        needed = order.left
        for maker in self._opposite(order):
            if needed <= 0:
                break
            if order.stp != e.STP_NONE and maker.account == order.account:
                if order.stp != e.STP_EXPIRE_MAKER:
                    return False
                continue
            needed -= maker.left
        return needed <= 0

    def _no_leaf(self, order: Order) -> bool:
        leaves = self._leaves()
        return len(leaves) >= self.leaves_max and _leaf(order) not in leaves

    def _no_stop_leaf(self, order: Order, trigger: int) -> bool:
        leaves = self._leaves()
        return len(leaves) >= self.leaves_max and _stop_leaf(order, trigger) not in leaves

    def _leaves(self) -> set[tuple[int, ...]]:
        return {_leaf(o) for o in self.orders} | {_stop_leaf(o, o.trigger) for o in self.waiting}

    def room_code(self, resting: list[Order], waiting: list[Order]) -> int:
        """BOOK_FULL where so many orders have no place together."""
        orders = len(self.orders) + len(self.waiting) + len(resting) + len(waiting)
        leaves = self._leaves() | {_leaf(o) for o in resting} | {_stop_leaf(o, o.trigger) for o in waiting}
        return r.BOOK_FULL if orders > self.orders_max or len(leaves) > self.leaves_max else r.ACCEPTED

    def _visit_marks(self, instrument: int) -> None:
        for ref in (e.TRIGGER_MARK, e.TRIGGER_INDEX):
            if (instrument, ref) in self.seen:
                self.marked += self._visit(instrument, ref, self.seen[instrument, ref])

    def _amend_stop(self, q: Request, order: Order) -> list[Event]:
        if order.kind != e.LIMIT or order.tif not in {e.GTC, e.POST_ONLY}:
            return [self._rejected(q, r.STOP_NOT_AMENDED)]
        if (q.price_ticks, q.qty_lots) == (order.price_ticks, order.total):
            return [self._rejected(q, r.NO_CHANGE)]
        order.price_ticks, order.total, order.left = q.price_ticks, q.qty_lots, q.qty_lots
        left = order.left
        return [Event(e.EV_AMENDED, 0, True, q.instrument, q.order_id, order.price_ticks, left, left, left, order.hold)]

    def _remove(self, order: Order) -> None:
        self.unlink(order)
        (self.waiting if order in self.waiting else self.orders).remove(order)

    def _named(self, q: Request) -> Order | None:
        for order in self.orders + self.waiting:
            if (order.order_id, order.account, order.instrument) == (q.order_id, q.account, q.instrument):
                return order
        return None

    @staticmethod
    def _rejected(q: Request, reason: int) -> Event:
        return Event(e.EV_REJECTED, reason, True, q.instrument, q.order_id, 0, 0, 0, 0, q.hold)

    def _canceled(self, o: Order, reason: int, taker_left: int = 0) -> Event:
        return Event(
            e.EV_CANCELED,
            reason,
            False,
            o.instrument,
            o.order_id,
            o.trigger if o in self.waiting else o.price_ticks,
            o.left,
            0,
            taker_left,
            o.hold,
        )

    @staticmethod
    def _expired(o: Order, reason: int) -> Event:
        return Event(
            e.EV_EXPIRED,
            reason,
            True,
            o.instrument,
            o.order_id,
            o.price_ticks,
            o.left,
            o.left,
            0,
            o.hold,
        )


def _event(kind: int, reason: int, *rest: int) -> Event:
    return Event(kind, reason, False, *rest)


def _leaf(order: Order) -> tuple[int, int, int]:
    """Range of prices that an order needs a place in: of its book, and of a side where its market gathers."""
    return order.instrument, (4 + order.side) * order.gathers, order.price_ticks >> 6


def _stop_leaf(order: Order, trigger: int) -> tuple[int, int, int]:
    return order.instrument, 1 + order.ref, trigger >> 6
