"""What the bots do, as pure code: seeded, without clock, ring or socket.

Market makers keep a ladder of post-only quotes on both sides of a price that wanders about its anchor; takers buy and
sell against them. ``Desk.decide`` gives the next commands, ``Desk.take`` hears what became of them. Prices are thought
of as numbers with a point and sent as ticks; what an account has is counted in whole units.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from protocol import enums as e
from protocol import reasons
from protocol.build import order_id_of
from protocol.instruments import Instrument

LEVELS: Final = 4
"""Quotes of one maker on each side of an instrument."""
TAKER_SHARE: Final = 0.1
"""Of all commands; the others are the makers'."""
CANCEL_SHARE: Final = 0.3
"""Of the quotes that are to move: they are cancelled and sent anew. The others are amended."""

VOLATILITY: Final = 0.00007
"""Of the logarithm of a price, for the square root of a second."""
RETURN_S: Final = 600.0
"""Time in which a price comes back to its anchor, but for one part in e."""
DT_MAX_S: Final = 1.0

HALF_SPREAD: Final = 0.0002
LEVEL_STEP: Final = 0.00025
SKEW: Final = 0.0002
"""Shift of all quotes of a maker whose inventory is at its limit, as a share of the price."""
TOLERANCE: Final = 0.00003
"""A quote nearer to where it should be than this stays."""
QUOTE_VALUE: Final = 15_000.0
"""Value of a quote of the first level, in quote currency."""
TAKE_VALUE: Final = 1_500.0
"""Median value of a taker's order."""
TAKE_VALUE_MAX: Final = 20_000.0
INVENTORY_VALUE: Final = 500_000.0
"""Inventory, up or down, at which a bot does all it can to get back."""
REACH: Final = 0.002
"""How far beyond the price takers' limit orders go."""
HALT_PAUSE_S: Final = 2.0
PRICES_S: Final = 1.0
"""From one mark and index price of an instrument to the next."""
_SIDE_BIAS: Final = 0.45
_MAX_LOTS: Final = 1 << 40


class Intent(NamedTuple):
    """One command to send. ``qty_lots`` of a market order by amount is in quote units, of an amend the new total."""

    type: int
    account: int
    instrument: int
    side: int
    price_ticks: int
    qty_lots: int
    tif: int
    order_id: int


class Heard(NamedTuple):
    """What the desk needs of one outcome; the names are those of ``protocol.records.OUTCOME``."""

    kind: int
    flags: int
    reason: int
    account: int
    instrument: int
    order_id: int
    price_ticks: int
    qty_lots: int
    cum_qty_lots: int
    leaves_qty_lots: int
    value_units: int
    fee_units: int
    fee_asset: int
    source: int
    side: int
    type: int


class State(enum.Enum):
    """Of a place for a quote."""

    EMPTY = 0
    LIVE = 1
    SENT = 2
    """A command about it is on its way."""


class Quote:
    """A maker's place on one level of one side; ``order_id`` and what follows are of the order that stands there."""

    __slots__ = ("account", "book", "cum_lots", "level", "order_id", "price_ticks", "side", "state", "to_cancel")

    def __init__(self, book: Book, account: int, side: int, level: int) -> None:
        self.book = book
        self.account = account
        self.side = side
        self.level = level
        self.state = State.EMPTY
        self.order_id = 0
        self.price_ticks = 0
        self.cum_lots = 0
        self.to_cancel = False


class Book:
    """One instrument as the bots see it: where its price wanders, and the best of their own quotes.

    Attributes
    ----------
    price : float
        In ticks; ``anchor`` is what it comes back to.
    halted_s : float
        How long nothing is sent for it, because the exchange refused.
    """

    def __init__(self, instrument: Instrument, anchor_ticks: int, start_ticks: int) -> None:
        self.instrument = instrument
        self.index = instrument.index
        self.anchor = float(anchor_ticks)
        self.price = float(start_ticks or anchor_ticks)
        self.units_per_tick_lot = instrument.multiplier
        self.quote_unit = 10.0**-instrument.quote.scale
        self.halted_s = 0.0
        self.best = [0, 0]

    def wander(self, dt_s: float, chance: random.Random) -> None:
        """Move on by ``dt_s``: back to the anchor a little, and to and fro."""
        dt_s = min(dt_s, DT_MAX_S)
        away = math.log(self.price / self.anchor)
        step = -away * dt_s / RETURN_S + VOLATILITY * math.sqrt(dt_s) * chance.gauss(0.0, 1.0)
        self.price = max(1.0, self.price * math.exp(step))
        self.halted_s = max(0.0, self.halted_s - dt_s)

    def lots(self, value: float) -> int:
        """Lots that are worth ``value`` in quote currency, at least one."""
        return min(max(1, round(value / (self.price * self.units_per_tick_lot * self.quote_unit))), _MAX_LOTS)

    def value(self, base_units: int) -> float:
        """Worth of an amount of the base asset in quote currency."""
        return base_units / self.instrument.lot_atoms * self.price * self.units_per_tick_lot * self.quote_unit


class Desk:
    """All bots of one process.

    Parameters
    ----------
    books : iterable of Book
    makers, takers : sequence of int
        Accounts.
    holdings : mapping of int to mapping of int to int
        Units of each asset number of each account.
    targets : mapping of int to int
        Units of each asset number to which inventories come back.
    source : int
        Producer slot, for order ids.
    seed : int

    Attributes
    ----------
    fills : int
        Trades that a bot took part in.
    refusals : dict of int to int
        By reason.
    """

    def __init__(
        self,
        books: Iterable[Book],
        makers: Iterable[int],
        takers: Iterable[int],
        holdings: Mapping[int, Mapping[int, int]],
        targets: Mapping[int, int],
        source: int,
        seed: int,
    ) -> None:
        self.books = {book.index: book for book in books}
        self.takers = list(takers)
        self.targets = dict(targets)
        self.holdings = {account: dict(amounts) for account, amounts in holdings.items()}
        self.fills = 0
        self.refusals: dict[int, int] = {}
        self._source = source
        self._chance = random.Random(seed)  # noqa: S311 - prices of a demo, no secrets
        self._takes = 0.0
        self._unpriced_s = 0.0
        self.quotes = [
            Quote(book, account, side, level)
            for level in range(LEVELS)
            for book in self.books.values()
            for side in (e.BUY, e.SELL)
            for account in makers
        ]
        self._quote_of: dict[int, Quote] = {}

    def forget(self, holdings: Mapping[int, Mapping[int, int]]) -> None:
        """Begin again with ``holdings`` and no orders: the exchange has none of the bots' any more."""
        self.holdings = {account: dict(amounts) for account, amounts in holdings.items()}
        self._quote_of.clear()
        for quote in self.quotes:
            _vacate(quote)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def decide(self, count: int, first_source_seq: int, dt_s: float) -> list[Intent]:
        """At most ``count`` commands to send now, ``dt_s`` after the last call; the first gets ``first_source_seq``."""
        for book in self.books.values():
            book.wander(dt_s, self._chance)
        self._takes = min(self._takes + count * TAKER_SHARE, 4.0)
        takes = int(self._takes)
        self._takes -= takes
        intents = self._prices(count - takes, dt_s)
        self._see_best()
        for quote in self._most_wrong(count - takes - len(intents)):
            intents.append(self._requote(quote, order_id_of(self._source, first_source_seq + len(intents))))
        for _ in range(takes):
            intent = self._take(order_id_of(self._source, first_source_seq + len(intents)))
            if intent is not None:
                intents.append(intent)
        return intents

    def _prices(self, count: int, dt_s: float) -> list[Intent]:
        """Once a second, where all of them fit: mark and index price of every instrument, which stops may wait for.

        The index is the price that wanders, the mark lies halfway to the middle of the best quotes.
        """
        self._unpriced_s += dt_s
        if self._unpriced_s < PRICES_S or count < len(self.books):
            return []
        self._unpriced_s = 0.0
        intents = []
        for book in self.books.values():
            middle = sum(book.best) / 2 if all(book.best) else book.price
            mark, index = max(1, round((middle + book.price) / 2)), max(1, round(book.price))
            intents.append(Intent(e.SET_PRICES, 0, book.index, 0, mark, index, 0, 0))
        return intents

    def _most_wrong(self, count: int) -> list[Quote]:
        """Places to act on: empty ones first, then those whose order is furthest from where it should be."""
        wrong = []
        for place, quote in enumerate(self.quotes):
            if quote.state is State.SENT or quote.book.halted_s > 0.0:
                continue
            if quote.state is State.EMPTY or quote.to_cancel:
                wrong.append((-math.inf, place))
                continue
            off = abs(self._aim(quote) - quote.price_ticks) / quote.book.price
            if off > TOLERANCE:
                wrong.append((-off, place))
        wrong.sort()
        return [self.quotes[place] for _, place in wrong[:count]]

    def _aim(self, quote: Quote) -> int:
        """Where the quote should stand, in ticks: never across the bots' own best price of the other side."""
        book = quote.book
        middle = book.price * (1.0 - SKEW * self._tilt(quote.account, book))
        away = HALF_SPREAD + LEVEL_STEP * quote.level
        best = book.best[1 - quote.side]
        if quote.side == e.BUY:
            ticks = math.floor(middle * (1.0 - away))
            return max(1, ticks if best == 0 else min(ticks, best - 1))
        ticks = math.ceil(middle * (1.0 + away))
        return max(ticks, best + 1)

    def _tilt(self, account: int, book: Book) -> float:
        """Inventory of the base asset against its target, as a share of the limit: -1 to 1."""
        asset = book.instrument.base.index
        over = self.holdings[account].get(asset, 0) - self.targets.get(asset, 0)
        return min(max(book.value(over) / INVENTORY_VALUE, -1.0), 1.0)

    def _see_best(self) -> None:
        for book in self.books.values():
            book.best = [0, 0]
        for quote in self.quotes:
            if quote.order_id and not (quote.to_cancel and quote.state is State.SENT):
                _better(quote)

    def _requote(self, quote: Quote, next_order_id: int) -> Intent:
        book, chance = quote.book, self._chance
        lots = book.lots(QUOTE_VALUE * (1 + quote.level) * chance.uniform(0.5, 1.5))
        price = self._aim(quote)
        if quote.state is State.EMPTY:
            quote.order_id, quote.price_ticks, quote.cum_lots = next_order_id, price, 0
            self._quote_of[next_order_id] = quote
            kind, total = e.LIMIT, lots
        elif quote.to_cancel or chance.random() < CANCEL_SHARE:
            quote.to_cancel = True
            kind, total, price = e.CANCEL, 0, 0
        else:
            kind, total = e.AMEND, quote.cum_lots + lots
        quote.state = State.SENT
        if kind != e.CANCEL:
            # What is sent later is matched later: from here on the order stands at this price.
            quote.price_ticks = price
            _better(quote)
        return Intent(
            kind, quote.account, book.index, quote.side, price, total, e.POST_ONLY * (kind == e.LIMIT), quote.order_id
        )

    def _take(self, order_id: int) -> Intent | None:
        chance = self._chance
        books = [book for book in self.books.values() if book.halted_s == 0.0]
        if not books:
            return None
        book = chance.choice(books)
        account = chance.choice(self.takers)
        buys = chance.random() < 0.5 - _SIDE_BIAS * self._tilt(account, book)
        side = e.BUY if buys else e.SELL
        value = min(TAKE_VALUE * chance.lognormvariate(0.0, 1.0), TAKE_VALUE_MAX)
        lots = book.lots(value)
        limit = max(1, round(book.price * (1.0 + REACH if buys else 1.0 - REACH)))
        roll = chance.random()
        if roll < 0.6:
            return Intent(e.MARKET, account, book.index, side, 0, lots, e.GTC, order_id)
        if roll < 0.75:
            units = max(1, round(value / book.quote_unit))
            return Intent(e.MARKET_AMOUNT, account, book.index, side, 0, units, e.GTC, order_id)
        tif = e.IOC if roll < 0.95 else e.FOK
        return Intent(e.LIMIT, account, book.index, side, limit, lots, tif, order_id)

    # --- hearing ------------------------------------------------------------------------------------------------------

    def take(self, heard: Heard) -> None:
        """Take one outcome of the bots' commands or about their orders, in order."""
        kind = heard.kind
        if kind == e.OUT_TRADE:
            self._hold(heard)
            # The bots may have both sides of a trade; the taker's counts, or the maker's when somebody else took.
            self.fills += heard.flags & e.OUTCOME_TAKER != 0 or heard.source != self._source
        elif kind == e.OUT_REJECTED:
            self._refused(heard)
            return
        quote = self._quote_of.get(heard.order_id)
        if quote is None:
            return
        if kind == e.OUT_TRADE or kind == e.OUT_PREVENTED:
            quote.cum_lots = heard.cum_qty_lots
            if heard.leaves_qty_lots == 0:
                self._gone(quote)
        elif kind == e.OUT_CANCELED or kind == e.OUT_EXPIRED:
            self._gone(quote)
        elif kind == e.OUT_NEW or kind == e.OUT_REPLACED:
            quote.state = State.LIVE
            quote.price_ticks = heard.price_ticks
            quote.cum_lots = heard.cum_qty_lots

    def _refused(self, heard: Heard) -> None:
        self.refusals[heard.reason] = self.refusals.get(heard.reason, 0) + 1
        book = self.books.get(heard.instrument)
        if book is not None and heard.reason in {reasons.INSTRUMENT_HALTED, reasons.ACCOUNT_FROZEN}:
            book.halted_s = HALT_PAUSE_S
        quote = self._quote_of.get(heard.order_id)
        if quote is None:
            return
        if heard.type == e.LIMIT or heard.reason == reasons.UNKNOWN_ORDER:
            self._gone(quote)
            return
        # An amend that was refused leaves the order as it was: at a price that is no longer known here.
        quote.state = State.LIVE
        quote.to_cancel = True

    def _gone(self, quote: Quote) -> None:
        del self._quote_of[quote.order_id]
        _vacate(quote)

    def _hold(self, heard: Heard) -> None:
        """Count what a trade brought, took and cost."""
        held = self.holdings.get(heard.account)
        book = self.books.get(heard.instrument)
        if held is None or book is None:
            return
        instrument = book.instrument
        base, quote = instrument.base.index, instrument.quote.index
        sign = 1 if heard.side == e.BUY else -1
        held[base] = held.get(base, 0) + sign * heard.qty_lots * instrument.lot_atoms
        held[quote] = held.get(quote, 0) - sign * heard.value_units
        if heard.fee_asset:
            held[heard.fee_asset] = held.get(heard.fee_asset, 0) - heard.fee_units


def _vacate(quote: Quote) -> None:
    quote.state = State.EMPTY
    quote.order_id = quote.price_ticks = quote.cum_lots = 0
    quote.to_cancel = False


def _better(quote: Quote) -> None:
    """Let the book's best price of the quote's side be at least as good as the quote's."""
    best = quote.book.best
    if quote.side == e.BUY:
        best[e.BUY] = max(best[e.BUY], quote.price_ticks)
    elif best[e.SELL] == 0 or quote.price_ticks < best[e.SELL]:
        best[e.SELL] = quote.price_ticks
