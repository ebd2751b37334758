"""The spot exchange as its rule book reads: dicts, lists and Python integers.

This is the oracle that the compiled exchange is compared with. It follows the page on whole spot histories (`XFLOW002`)
rule by rule and shares no code with the product. It is slow on purpose: nothing is cached, kept twice or computed
cleverly. `check()` may be called after any message and says whether money was created, lost or locked without need.

Units: `price` ticks, `qty` and `lots` whole lots, `amount` atoms of an asset, rates in 1e-8. Accounts, assets and
instruments are numbered from 1.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

E8 = 100_000_000
AMOUNT_LIMIT = 1 << 62
HASH_START = 14695981039346656037
HASH_FACTOR = 1099511628211
HASH_MODULUS = 1 << 64


class Type(IntEnum):
    LIMIT = 0
    MARKET_BY_QUANTITY = 1
    MARKET_BY_AMOUNT = 2
    CANCEL = 3
    CANCEL_ALL = 4
    AMEND = 5
    DEPOSIT = 6
    WITHDRAWAL_HOLD = 7
    SETTLE_HOLD = 8
    RELEASE_HOLD = 9
    SET_FEES = 10
    FREEZE = 11
    UNFREEZE = 12
    HALT = 13
    RESUME = 14


class Code(IntEnum):
    ACCEPTED = 0
    UNKNOWN_ACCOUNT = 1
    UNKNOWN_ASSET = 2
    UNKNOWN_INSTRUMENT = 3
    BAD_PRICE = 4
    BAD_QUANTITY = 5
    BAD_FEE = 6
    RANGE = 7
    ACCOUNT_FROZEN = 8
    INSTRUMENT_HALTED = 9
    UNKNOWN_ORDER = 10
    UNKNOWN_HOLD = 11
    QUANTITY_TOO_LOW = 12
    NO_CHANGE = 13
    INSUFFICIENT_FUNDS = 14
    POST_ONLY_WOULD_TAKE = 15
    FOK_UNFILLED = 16


class Side(IntEnum):
    BUY = 0
    SELL = 1


class Tif(IntEnum):
    GTC = 0
    IOC = 1
    FOK = 2
    POST_ONLY = 3


class Stp(IntEnum):
    NONE = 0
    EXPIRE_TAKER = 1
    EXPIRE_MAKER = 2
    EXPIRE_BOTH = 3
    DECREMENT = 4


class Verdict(NamedTuple):
    """What one message gets: the code and the two numbers that enter the verdict hash."""

    code: Code
    x: int = 0
    y: int = 0


class Message(NamedTuple):
    """One record of a history, fields in the order of the file."""

    id: int = 0
    price: int = 0
    qty: int = 0
    account: int = 0
    instrument: int = 0
    asset: int = 0
    type: int = 0
    side: int = 0
    tif: int = 0
    stp: int = 0


class InstrumentSpec(NamedTuple):
    """One listed instrument; `base` and `quote` are asset numbers.

    `k` is the number of quote atoms a tick and lot. Zero means: compute it for assets of 8 decimals.
    """

    symbol: str
    base: int
    quote: int
    tick_e8: int
    lot_atoms: int
    maker_rate_e8: int
    taker_rate_e8: int
    k: int = 0


@dataclass(slots=True, eq=False)
class Stop:
    """What an order waits for: that the price ``ref`` comes to the trigger, from below where it ``rises``."""

    ref: int
    rises: bool
    trigger: int
    market: bool
    minimum: int
    offset_ticks: int = 0
    offset_bp: int = 0
    activation: int = 0
    """Price from which on it trails; 0 = it does."""

    @property
    def has_offset(self) -> bool:
        return self.offset_ticks + self.offset_bp > 0

    @property
    def trails(self) -> bool:
        return self.has_offset and self.activation == 0

    @property
    def waits_at(self) -> int:
        return self.activation or self.trigger

    @property
    def waits_for_rise(self) -> bool:
        return self.rises != (self.activation != 0)

    def activates(self, price: int) -> bool:
        """Whether the price is where it begins to trail."""
        return self.activation != 0 and (price <= self.activation if self.rises else price >= self.activation)

    def behind(self, price: int) -> int:
        """Trigger of a trailing stop when the price is here."""
        distance = self.offset_ticks + cdiv(price * self.offset_bp, 10_000)
        return price + distance if self.rises else price - distance

    def is_hit(self, price: int) -> bool:
        if self.activation:
            return False
        return price >= self.trigger if self.rises else price <= self.trigger


class Peg(NamedTuple):
    """What an order follows: best bid, best ask or the middle (0, 1, 2), so many ticks above it, and never past its limit."""

    ref: int
    offset: int
    limit: int


@dataclass(slots=True, eq=False)
class Order:
    """An order from its entry to its end; `amount_left` only for a market order by amount."""

    id: int
    account: int
    instrument: int
    side: int
    price: int
    total: int
    tif: int
    stp: int
    traded: int = 0
    prevented: int = 0
    amount_left: int | None = None
    display: int = 0  # most that an iceberg shows; 0 = all
    hidden: int = 0  # left and not shown
    expiry: int = 0  # 0 = never
    age: int = 0
    stop: Stop | None = None  # what it waits for; None once it is in the market
    peg: Peg | None = None  # what it follows

    @property
    def bound(self) -> int:
        """The worst price that it may trade at: what it holds is for that."""
        return self.peg.limit if self.peg else self.price

    @property
    def shown(self) -> int:
        return self.left - self.hidden

    def hide(self) -> None:
        """Show as much as it may, and hide the rest."""
        self.hidden = max(0, self.left - self.display) if self.display else 0

    @property
    def left(self) -> int:
        return self.total - self.traded - self.prevented

    def crosses(self, price: int) -> bool:
        """Whether an opposite price is not worse than the order's own."""
        return price <= self.price if self.side == Side.BUY else price >= self.price


@dataclass(slots=True)
class Hold:
    """Money set aside for a withdrawal."""

    account: int
    asset: int
    amount: int


@dataclass(slots=True, eq=False)
class Market:
    """An instrument at work: its rates, its status, and its book as `{price: [orders, oldest first]}` a side."""

    spec: InstrumentSpec
    k: int
    maker_rate_e8: int
    taker_rate_e8: int
    halted: bool = False
    levels: tuple[dict[int, list[Order]], dict[int, list[Order]]] = field(default_factory=lambda: ({}, {}))

    def best_price(self, side: int) -> int | None:
        prices = self.levels[side]
        if not prices:
            return None
        return max(prices) if side == Side.BUY else min(prices)

    def best_order(self, side: int) -> Order | None:
        price = self.best_price(side)
        return None if price is None else self.levels[side][price][0]

    def by_priority(self, side: int) -> list[Order]:
        prices = sorted(self.levels[side], reverse=side == Side.BUY)
        return [order for price in prices for order in self.levels[side][price]]


def cdiv(a: int, b: int) -> int:
    """Quotient rounded toward plus infinity, `b > 0`."""
    return -(-a // b)


def multiplier(spec: InstrumentSpec) -> int:
    """`K`: quote atoms a tick and lot; raises `ValueError` where it is not a whole positive number."""
    if spec.k:
        return spec.k
    k, rest = divmod(spec.tick_e8 * spec.lot_atoms, E8)
    if rest or k < 1:
        raise ValueError(
            f"{spec.symbol}: tick_e8 * lot_atoms must be a positive multiple of {E8}, "
            f"it is {spec.tick_e8 * spec.lot_atoms}; list another tick or lot"
        )
    return k


class NaiveExchange:
    """Accounts, money and books, driven by one method a message type, each of which returns a `Verdict`.

    State to look at: `free` and `locked` by (account, asset), `fee` and `net_deposits` by asset, `markets` by
    instrument, `orders` (resting) and `holds` (open) by id, `frozen`. Records: `verdicts`, `fills`, `stp_events`, in
    the shape of the expected results' `detail`.
    """

    def __init__(self, assets: Sequence[str], instruments: Iterable[InstrumentSpec], n_accounts: int) -> None:
        self.asset_names = dict(enumerate(assets, 1))
        self.markets = {
            number: Market(spec, multiplier(spec), spec.maker_rate_e8, spec.taker_rate_e8)
            for number, spec in enumerate(instruments, 1)
        }
        self.n_accounts = n_accounts
        wallets = [(account, asset) for account in range(1, n_accounts + 1) for asset in self.asset_names]
        self.free = dict.fromkeys(wallets, 0)
        self.locked = dict.fromkeys(wallets, 0)
        self.fee = dict.fromkeys(self.asset_names, 0)
        self.net_deposits = dict.fromkeys(self.asset_names, 0)
        self.frozen: set[int] = set()
        self.orders: dict[int, Order] = {}
        self.holds: dict[int, Hold] = {}
        self.messages = 0
        self.cancels = 0
        self.trades = 0
        self.volume = 0
        self.turnover = 0
        self.prevented = 0
        self.verdict_hash = HASH_START
        self.trade_hash = HASH_START
        self.verdict_counts = dict.fromkeys(Code, 0)
        self.verdicts: list[list[int]] = []
        self.fills: list[list[int]] = []
        self.stp_events: list[list[int]] = []

    # ------------------------------------------------------------------------------------------------ messages

    def apply(self, m: Message) -> Verdict:
        """Hand a record to the method of its type; raises `ValueError` for a type that no page names."""
        match m.type:
            case Type.LIMIT:
                return self.limit(m.id, m.account, m.instrument, m.side, m.price, m.qty, m.tif, m.stp)
            case Type.MARKET_BY_QUANTITY:
                return self.market_by_quantity(m.id, m.account, m.instrument, m.side, m.price, m.qty, m.stp)
            case Type.MARKET_BY_AMOUNT:
                return self.market_by_amount(m.id, m.account, m.instrument, m.side, m.price, m.qty, m.stp)
            case Type.CANCEL:
                return self.cancel(m.id, m.account, m.instrument)
            case Type.CANCEL_ALL:
                return self.cancel_all(m.account, m.instrument)
            case Type.AMEND:
                return self.amend(m.id, m.account, m.instrument, m.price, m.qty)
            case Type.DEPOSIT:
                return self.deposit(m.account, m.asset, m.qty)
            case Type.WITHDRAWAL_HOLD:
                return self.withdrawal_hold(m.id, m.account, m.asset, m.qty)
            case Type.SETTLE_HOLD:
                return self.settle_hold(m.id, m.account)
            case Type.RELEASE_HOLD:
                return self.release_hold(m.id, m.account)
            case Type.SET_FEES:
                return self.set_fees(m.instrument, m.price, m.qty)
            case Type.FREEZE:
                return self.freeze(m.account)
            case Type.UNFREEZE:
                return self.unfreeze(m.account)
            case Type.HALT:
                return self.halt(m.instrument)
            case Type.RESUME:
                return self.resume(m.instrument)
            case _:
                raise ValueError(f"message {self.messages + 1} has type {m.type}; types are 0 to {max(Type)}")

    def limit(
        self,
        order_id: int,
        account: int,
        instrument: int,
        side: int,
        price: int,
        qty: int,
        tif: int = Tif.GTC,
        stp: int = Stp.NONE,
    ) -> Verdict:
        refusal = self._entry_refusal(account, instrument, price, qty, self._order_out_of_range)
        if refusal:
            return self._verdict(refusal)
        order = Order(order_id, account, instrument, side, price, qty, tif, stp)
        self._dress(order)
        refusal = self._hold_taking_refusal(order)
        if refusal:
            return self._verdict(refusal)
        if tif == Tif.POST_ONLY and self._would_take(order):
            return self._verdict(Code.POST_ONLY_WOULD_TAKE)
        if tif == Tif.FOK and not self._fillable(order):
            return self._verdict(Code.FOK_UNFILLED)
        refusal = self._minimum_refusal(order)
        if refusal:
            return self._verdict(refusal)
        self._lock(order, self._hold_of(order))
        return self._take_then_rest_or_drop(order, may_rest=tif in {Tif.GTC, Tif.POST_ONLY})

    def market_by_quantity(
        self, order_id: int, account: int, instrument: int, side: int, price: int, qty: int, stp: int = Stp.NONE
    ) -> Verdict:
        """`price` is the protection price."""
        refusal = self._entry_refusal(account, instrument, price, qty, self._order_out_of_range)
        if refusal:
            return self._verdict(refusal)
        order = Order(order_id, account, instrument, side, price, qty, Tif.IOC, stp)
        refusal = self._hold_taking_refusal(order) or self._minimum_refusal(order)
        if refusal:
            return self._verdict(refusal)
        self._lock(order, self._hold_of(order))
        return self._take_then_rest_or_drop(order, may_rest=False)

    def market_by_amount(
        self, order_id: int, account: int, instrument: int, side: int, price: int, amount: int, stp: int = Stp.NONE
    ) -> Verdict:
        """`amount` is quote to spend (buy) or to receive (sell); `price` is the protection price."""

        def most_lots(market: Market) -> int:
            return amount // (price * market.k)

        def out_of_range(market: Market, price: int, amount: int) -> bool:
            sold = most_lots(market) * market.spec.lot_atoms if side == Side.SELL else 0
            return amount >= AMOUNT_LIMIT or sold >= AMOUNT_LIMIT

        refusal = self._entry_refusal(account, instrument, price, amount, out_of_range)
        if refusal:
            return self._verdict(refusal)
        # A seller's total is the most lots that no fill below the protection price could exceed. A buyer has none: the
        # amount is the bound.
        total = most_lots(self.markets[instrument]) if side == Side.SELL else 0
        order = Order(order_id, account, instrument, side, price, total, Tif.IOC, stp, amount_left=amount)
        refusal = self._hold_taking_refusal(order)
        if refusal:
            return self._verdict(refusal)
        self._lock(order, self._hold_of(order))
        return self._take_then_rest_or_drop(order, may_rest=False)

    def cancel(self, order_id: int, account: int, instrument: int) -> Verdict:
        if not self._account_known(account):
            return self._verdict(Code.UNKNOWN_ACCOUNT)
        if instrument not in self.markets:
            return self._verdict(Code.UNKNOWN_INSTRUMENT)
        order = self._find_order(order_id, account, instrument)
        if order is None:
            return self._verdict(Code.UNKNOWN_ORDER)
        left = order.left
        self._cancel(order)
        return self._verdict(Code.ACCEPTED, 0, left)

    def cancel_all(self, account: int, instrument: int) -> Verdict:
        """Every resting order of the account on the instrument; 0 means any, but not both."""
        if (account == 0 and instrument == 0) or (account != 0 and not self._account_known(account)):
            return self._verdict(Code.UNKNOWN_ACCOUNT)
        if instrument not in {0, *self.markets}:
            return self._verdict(Code.UNKNOWN_INSTRUMENT)
        named = [o for o in self.orders.values() if account in {0, o.account} and instrument in {0, o.instrument}]
        for order in named:
            self._cancel(order)
        return self._verdict(Code.ACCEPTED, 0, len(named))

    def amend(self, order_id: int, account: int, instrument: int, price: int, total: int) -> Verdict:
        """New price and new total; what has traded and what was prevented count toward the total."""
        refusal = self._entry_refusal(account, instrument, price, total, self._order_out_of_range)
        if refusal:
            return self._verdict(refusal)
        order = self._find_order(order_id, account, instrument)
        if order is None:
            return self._verdict(Code.UNKNOWN_ORDER)
        if total <= order.traded + order.prevented:
            return self._verdict(Code.QUANTITY_TOO_LOW)
        if price == order.price and total == order.total:
            return self._verdict(Code.NO_CHANGE)
        amended = Order(
            order.id, account, instrument, order.side, price, total, order.tif, order.stp, order.traded, order.prevented
        )
        amended.display, amended.expiry, amended.age = order.display, order.expiry, order.age
        more = self._hold_of(amended) - self._hold_of(order)
        if more > self.free[self._paid_with(order)]:
            return self._verdict(Code.INSUFFICIENT_FUNDS)
        if self._must_not_take(order) and price != order.price and self._would_take(amended):
            return self._verdict(Code.POST_ONLY_WOULD_TAKE)
        self._lock(order, more)
        if price == order.price and total < order.total:
            order.hidden = max(0, order.hidden - (order.total - total))
            order.total = total
            return self._verdict(Code.ACCEPTED, 0, order.left)
        self._leave_book(order)
        return self._take_then_rest_or_drop(amended, may_rest=True)

    def deposit(self, account: int, asset: int, amount: int) -> Verdict:
        refusal = self._transfer_refusal(account, asset, amount)
        if refusal:
            return self._verdict(refusal)
        if self.net_deposits[asset] + amount >= AMOUNT_LIMIT:
            return self._verdict(Code.RANGE)
        self.free[account, asset] += amount
        self.net_deposits[asset] += amount
        return self._verdict(Code.ACCEPTED)

    def withdrawal_hold(self, hold_id: int, account: int, asset: int, amount: int) -> Verdict:
        refusal = self._transfer_refusal(account, asset, amount)
        if refusal:
            return self._verdict(refusal)
        if account in self.frozen:
            return self._verdict(Code.ACCOUNT_FROZEN)
        if amount > self.free[account, asset]:
            return self._verdict(Code.INSUFFICIENT_FUNDS)
        self.free[account, asset] -= amount
        self.locked[account, asset] += amount
        self.holds[hold_id] = Hold(account, asset, amount)
        return self._verdict(Code.ACCEPTED)

    def settle_hold(self, hold_id: int, account: int) -> Verdict:
        refusal = self._hold_refusal(hold_id, account)
        if refusal:
            return self._verdict(refusal)
        hold = self.holds.pop(hold_id)
        self.locked[account, hold.asset] -= hold.amount
        self.net_deposits[hold.asset] -= hold.amount
        return self._verdict(Code.ACCEPTED)

    def release_hold(self, hold_id: int, account: int) -> Verdict:
        refusal = self._hold_refusal(hold_id, account)
        if refusal:
            return self._verdict(refusal)
        hold = self.holds.pop(hold_id)
        self.locked[account, hold.asset] -= hold.amount
        self.free[account, hold.asset] += hold.amount
        return self._verdict(Code.ACCEPTED)

    def set_fees(self, instrument: int, maker_rate_e8: int, taker_rate_e8: int) -> Verdict:
        if instrument not in self.markets:
            return self._verdict(Code.UNKNOWN_INSTRUMENT)
        if not (0 <= taker_rate_e8 < E8 and maker_rate_e8 < E8 and maker_rate_e8 + taker_rate_e8 >= 0):
            return self._verdict(Code.BAD_FEE)
        self.markets[instrument].maker_rate_e8 = maker_rate_e8
        self.markets[instrument].taker_rate_e8 = taker_rate_e8
        return self._verdict(Code.ACCEPTED)

    def freeze(self, account: int) -> Verdict:
        if not self._account_known(account):
            return self._verdict(Code.UNKNOWN_ACCOUNT)
        self.frozen.add(account)
        return self._verdict(Code.ACCEPTED)

    def unfreeze(self, account: int) -> Verdict:
        if not self._account_known(account):
            return self._verdict(Code.UNKNOWN_ACCOUNT)
        self.frozen.discard(account)
        return self._verdict(Code.ACCEPTED)

    def halt(self, instrument: int) -> Verdict:
        if instrument not in self.markets:
            return self._verdict(Code.UNKNOWN_INSTRUMENT)
        self.markets[instrument].halted = True
        return self._verdict(Code.ACCEPTED)

    def resume(self, instrument: int) -> Verdict:
        if instrument not in self.markets:
            return self._verdict(Code.UNKNOWN_INSTRUMENT)
        self.markets[instrument].halted = False
        return self._verdict(Code.ACCEPTED)

    # ------------------------------------------------------------------------------------------------ refusals

    def _account_known(self, account: int) -> bool:
        return 1 <= account <= self.n_accounts

    def _entry_refusal(
        self, account: int, instrument: int, price: int, qty: int, out_of_range: Callable[[Market, int, int], bool]
    ) -> Code:
        """Reasons 1 to 9 of the types that may trade, in the order of their numbers."""
        if not self._account_known(account):
            return Code.UNKNOWN_ACCOUNT
        if instrument not in self.markets:
            return Code.UNKNOWN_INSTRUMENT
        market = self.markets[instrument]
        if price < 1:
            return Code.BAD_PRICE
        if qty < 1:
            return Code.BAD_QUANTITY
        if out_of_range(market, price, qty):
            return Code.RANGE
        if account in self.frozen:
            return Code.ACCOUNT_FROZEN
        if market.halted:
            return Code.INSTRUMENT_HALTED
        return Code.ACCEPTED

    def _hold_taking_refusal(self, order: Order) -> Code:
        """Reason 14: the hold of a new order is more than is free."""
        short = self._hold_of(order) > self.free[self._paid_with(order)]
        return Code.INSUFFICIENT_FUNDS if short else Code.ACCEPTED

    @staticmethod
    def _order_out_of_range(market: Market, price: int, qty: int) -> bool:
        return price * qty * market.k >= AMOUNT_LIMIT or qty * market.spec.lot_atoms >= AMOUNT_LIMIT

    def _transfer_refusal(self, account: int, asset: int, amount: int) -> Code:
        """Reasons that deposits and withdrawal holds have in common."""
        if not self._account_known(account):
            return Code.UNKNOWN_ACCOUNT
        if asset not in self.asset_names:
            return Code.UNKNOWN_ASSET
        if amount < 1:
            return Code.BAD_QUANTITY
        if amount >= AMOUNT_LIMIT:
            return Code.RANGE
        return Code.ACCEPTED

    def _hold_refusal(self, hold_id: int, account: int) -> Code:
        if not self._account_known(account):
            return Code.UNKNOWN_ACCOUNT
        if hold_id not in self.holds or self.holds[hold_id].account != account:
            return Code.UNKNOWN_HOLD
        return Code.ACCEPTED

    def _find_order(self, order_id: int, account: int, instrument: int) -> Order | None:
        order = self.orders.get(order_id)
        if order is None or order.account != account or order.instrument != instrument:
            return None
        return order

    def _same_owner(self, one: int, other: int) -> bool:
        """Whether self-trade prevention counts two accounts as one."""
        return one == other

    def _dress(self, order: Order) -> None:
        """Give a new order what it says beside price and quantity; here nothing."""

    def _minimum_refusal(self, order: Order) -> Code:  # noqa: ARG002 - others have a minimum
        return Code.ACCEPTED

    def _must_not_take(self, order: Order) -> bool:
        return order.tif == Tif.POST_ONLY

    def _rates(self, taker: Order, maker: Order) -> tuple[int, int]:  # noqa: ARG002 - others differ by order
        """Rates (taker, maker) in 1e-8 of a fill."""
        market = self.markets[taker.instrument]
        return market.taker_rate_e8, market.maker_rate_e8

    def _would_take(self, order: Order) -> bool:
        """Whether the order crosses the best opposite price, whosever order stands there."""
        best = self.markets[order.instrument].best_price(1 - order.side)
        return best is not None and order.crosses(best)

    def _fillable(self, order: Order, wanted: int = 0) -> bool:
        """The walk that decides a fill-or-kill order before anything happens; ``wanted`` 0 = all of it."""
        found = 0
        for maker in self.markets[order.instrument].by_priority(1 - order.side):
            if not order.crosses(maker.price):
                break
            if self._same_owner(maker.account, order.account):
                if order.stp == Stp.EXPIRE_MAKER:
                    continue
                if order.stp != Stp.NONE:
                    return False
            found += maker.left
            if found >= (wanted or order.left):
                return True
        return False

    # --------------------------------------------------------------------------------------------------- money

    def _paid_with(self, order: Order) -> tuple[int, int]:
        """The wallet whose money an order holds: quote of a buyer, base of a seller."""
        spec = self.markets[order.instrument].spec
        return (order.account, spec.quote if order.side == Side.BUY else spec.base)

    def _received_in(self, order: Order) -> tuple[int, int]:
        spec = self.markets[order.instrument].spec
        return (order.account, spec.base if order.side == Side.BUY else spec.quote)

    def _hold_of(self, order: Order) -> int:
        """What an order needs locked for what it has left."""
        market = self.markets[order.instrument]
        if order.side == Side.SELL:
            return order.left * market.spec.lot_atoms
        if order.amount_left is not None:
            return order.amount_left
        return order.bound * order.left * market.k

    def _lock(self, order: Order, amount: int) -> None:
        """From free to locked; back where the amount is negative."""
        wallet = self._paid_with(order)
        self.free[wallet] -= amount
        self.locked[wallet] += amount

    # ------------------------------------------------------------------------------------------------ the book

    def _enter_book(self, order: Order) -> None:
        """To the back of its level."""
        order.hide()
        self.markets[order.instrument].levels[order.side].setdefault(order.price, []).append(order)
        self.orders[order.id] = order

    def _leave_book(self, order: Order) -> None:
        if order.stop is not None:
            del self.orders[order.id]
            return
        levels = self.markets[order.instrument].levels[order.side]
        levels[order.price].remove(order)
        if not levels[order.price]:
            del levels[order.price]
        del self.orders[order.id]

    def _cancel(self, order: Order) -> None:
        self._lock(order, -self._hold_of(order))
        self._leave_book(order)
        self.cancels += 1

    def _take_then_rest_or_drop(self, taker: Order, *, may_rest: bool) -> Verdict:
        """Match a taker whose hold is made, then rest what is left of it or give its hold back."""
        traded_before = taker.traded
        expired = self._match(taker)
        rests = may_rest and not expired and taker.left > 0
        if rests:
            self._enter_book(taker)
        else:
            self._lock(taker, -self._hold_of(taker))
        return self._verdict(Code.ACCEPTED, taker.traded - traded_before, taker.left if rests else 0)

    def _match(self, taker: Order) -> bool:
        """The loop of section 4; true when self-trade prevention expired the taker's rest."""
        market = self.markets[taker.instrument]
        while True:
            maker = market.best_order(1 - taker.side)
            if maker is None or not taker.crosses(maker.price):
                return False
            room = taker.left if taker.amount_left is None else taker.amount_left // (maker.price * market.k)
            if room == 0:
                return False
            lots = min(room, maker.shown)
            if self._same_owner(maker.account, taker.account) and taker.stp != Stp.NONE:
                if taker.stp == Stp.EXPIRE_TAKER:
                    return True
                if taker.stp == Stp.DECREMENT:
                    self._decrement(taker, maker, lots)
                    continue
                self._expire_maker(maker)
                if taker.stp == Stp.EXPIRE_BOTH:
                    return True
                continue
            self._fill(taker, maker, lots)
            self._leave_or_show(maker)

    def _expire_maker(self, maker: Order) -> None:
        self._lock(maker, -self._hold_of(maker))
        self._leave_book(maker)
        self.prevented += maker.left
        self.stp_events.append([self.messages + 1, maker.id, maker.left, 1])

    def _decrement(self, taker: Order, maker: Order, lots: int) -> None:
        """Both lose the lots, and the holds for them are freed."""
        market = self.markets[taker.instrument]
        for order in (taker, maker):
            held = self._hold_of(order)
            order.prevented += lots
            if order.amount_left is not None:
                order.amount_left -= lots * maker.price * market.k
            self._lock(order, self._hold_of(order) - held)
        self.prevented += lots
        self.stp_events.append([self.messages + 1, maker.id, lots, int(maker.left == 0)])
        self._leave_or_show(maker)

    def _leave_or_show(self, maker: Order) -> None:
        """An order that shows nothing any more leaves, or comes with its next part to the back of its price."""
        if maker.shown == 0:
            self._leave_book(maker)
            if maker.left:
                self._enter_book(maker)

    def _fill(self, taker: Order, maker: Order, lots: int) -> None:
        """Section 5: locks, proceeds, the taker's fee, the maker's fee or rebate."""
        market = self.markets[taker.instrument]
        spec = market.spec
        price = maker.price
        value = price * lots * market.k
        base = lots * spec.lot_atoms
        for order in (taker, maker):
            wallet = self._paid_with(order)
            if order.side == Side.SELL:
                self.locked[wallet] -= base
            else:
                held = order.bound * lots * market.k if order.amount_left is None else value
                self.locked[wallet] -= held
                self.free[wallet] += held - value
            order.traded += lots
            if order.amount_left is not None:
                order.amount_left -= value
        for order in (taker, maker):
            self.free[self._received_in(order)] += base if order.side == Side.BUY else value

        taker_received = base if taker.side == Side.BUY else value
        taker_rate_e8, maker_rate_e8 = self._rates(taker, maker)
        taker_fee = cdiv(taker_received * taker_rate_e8, E8)
        taker_fee_wallet = self._received_in(taker)
        self._charge(taker_fee_wallet, taker_fee)
        if maker_rate_e8 >= 0:
            maker_received = base if maker.side == Side.BUY else value
            self._charge(self._received_in(maker), cdiv(maker_received * maker_rate_e8, E8))
        else:
            rebate = min(taker_received * -maker_rate_e8 // E8, taker_fee)
            self._charge((maker.account, taker_fee_wallet[1]), -rebate)

        self.trades += 1
        self.volume += lots
        self.turnover += price * lots
        self.trade_hash = (
            self.trade_hash * HASH_FACTOR + maker.id * 31 + taker.id * 17 + price * 7 + lots
        ) % HASH_MODULUS
        self.fills.append([self.messages + 1, taker.instrument, taker.id, maker.id, price, lots])

    def _charge(self, wallet: tuple[int, int], amount: int) -> None:
        """From a wallet to the exchange's fees; the other way where the amount is negative."""
        self.free[wallet] -= amount
        self.fee[wallet[1]] += amount

    def _verdict(self, code: Code, x: int = 0, y: int = 0) -> Verdict:
        self.messages += 1
        self.verdict_counts[code] += 1
        self.verdict_hash = (self.verdict_hash * HASH_FACTOR + code * 31 + x * 17 + y * 7) % HASH_MODULUS
        self.verdicts.append([int(code), x, y])
        return Verdict(code, x, y)

    # ----------------------------------------------------------------------------------------------- to look at

    def check(self) -> None:
        """Raise `AssertionError` where money appeared, vanished, is below zero or locked without need."""
        needed = dict.fromkeys(self.locked, 0)
        for order in self.orders.values():
            assert order.left > 0, f"order {order.id} rests with {order.left} lots left"
            needed[self._paid_with(order)] += self._hold_of(order)
        for hold in self.holds.values():
            needed[hold.account, hold.asset] += hold.amount
        assert needed == self.locked, f"locked is {self.locked}, open orders and holds need {needed}"
        for asset, name in self.asset_names.items():
            free = [self.free[account, asset] for account in range(1, self.n_accounts + 1)]
            locked = [self.locked[account, asset] for account in range(1, self.n_accounts + 1)]
            assert min([*free, *locked, self.fee[asset], self.net_deposits[asset]]) >= 0, f"{name}: below zero"
            total = sum(free) + sum(locked) + self.fee[asset]
            assert self.net_deposits[asset] == total, f"{name}: holds {total} of {self.net_deposits[asset]} deposited"
        for market in self.markets.values():
            bid, ask = market.best_price(Side.BUY), market.best_price(Side.SELL)
            assert bid is None or ask is None or bid < ask, f"{market.spec.symbol}: bid {bid} meets ask {ask}"

    def balance_hash(self) -> int:
        h = HASH_START
        for account in range(1, self.n_accounts + 1):
            for asset in self.asset_names:
                h = (h * HASH_FACTOR + self.free[account, asset] * 31 + self.locked[account, asset] * 17) % HASH_MODULUS
        for asset in self.asset_names:
            h = (h * HASH_FACTOR + self.fee[asset] * 31) % HASH_MODULUS
        return h

    def checkpoint(self) -> dict[str, Any]:
        return {
            "accepted": self.verdict_counts[Code.ACCEPTED],
            "trades": self.trades,
            "volume": self.volume,
            "orders": len(self.orders),
            "verdict_hash": str(self.verdict_hash),
            "trade_hash": str(self.trade_hash),
            "balance_hash": str(self.balance_hash()),
        }

    def book(self, instrument: int) -> dict[str, Any]:
        market = self.markets[instrument]
        bids, asks = market.by_priority(Side.BUY), market.by_priority(Side.SELL)
        return {
            "orders": len(bids) + len(asks),
            "bid_qty": sum(order.left for order in bids),
            "ask_qty": sum(order.left for order in asks),
            "bid_levels": len(market.levels[Side.BUY]),
            "ask_levels": len(market.levels[Side.SELL]),
            "best_bid": market.best_price(Side.BUY),
            "best_ask": market.best_price(Side.SELL),
        }

    def results(self) -> dict[str, Any]:
        """Section 7's keys, without the header's words, checkpoints and detail."""
        verdicts = {code.name: count for code, count in self.verdict_counts.items() if count}
        books = {number: self.book(number) for number in self.markets}
        summed = ("orders", "bid_qty", "ask_qty", "bid_levels", "ask_levels")
        only = next(iter(books.values())) if len(books) == 1 else {"best_bid": None, "best_ask": None}
        return {
            "messages": self.messages,
            "accepted": self.verdict_counts[Code.ACCEPTED],
            "rejected": {name: count for name, count in verdicts.items() if name != Code.ACCEPTED.name},
            "verdicts": verdicts,
            "cancels": self.cancels,
            "trades": self.trades,
            "volume": self.volume,
            "turnover": self.turnover,
            "prevented": self.prevented,
            "verdict_hash": str(self.verdict_hash),
            "trade_hash": str(self.trade_hash),
            "balance_hash": str(self.balance_hash()),
            **{key: sum(book[key] for book in books.values()) for key in summed},
            "best_bid": only["best_bid"],
            "best_ask": only["best_ask"],
            "books": {self.markets[number].spec.symbol: book for number, book in books.items()},
            "balances": {
                str(account): {
                    name: [self.free[account, asset], self.locked[account, asset]]
                    for asset, name in self.asset_names.items()
                }
                for account in range(1, self.n_accounts + 1)
            },
            "fee": {name: self.fee[asset] for asset, name in self.asset_names.items()},
            "net_deposits": {name: self.net_deposits[asset] for asset, name in self.asset_names.items()},
        }

    def detail(self) -> dict[str, list[list[int]]]:
        return {"verdicts": self.verdicts, "fills": self.fills, "stp": self.stp_events}
