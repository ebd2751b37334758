"""The naive exchange with what whole spot histories leave out, and every outcome record that the engine must write.

Price bands and circuit breakers with the sequenced clock, adjustments, accounts that open and close, listings, client
order ids, checkpoints. ``Oracle.apply`` takes a command group as the engine takes it and returns its outcomes as
``OUTCOME_DTYPE`` records, byte for byte.
"""

from collections.abc import Callable
from copy import copy
from fractions import Fraction
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np

from protocol import enums as e
from protocol import reasons as r
from protocol.instance import Limits
from protocol.records import (
    EXT_ASSET_SLOT,
    EXT_AUCTION_SLOT,
    EXT_FEES_SLOT,
    EXT_LIMITS_SLOT,
    EXT_LISTING_SLOT,
    EXT_QUOTES_SLOT,
    OUTCOME_DTYPE,
    OUTCOME_DUPLICATE,
    OUTCOME_IDS,
    SYSTEM_COMMAND,
    VERSION,
    command_slots,
)
from risk.state import table_capacity
from tests.engine.client_ids import ClientIds, Ended, Key, is_own
from tests.engine.oracle_auctions import GATHERING, Auction, AuctionRules, is_far, random_part
from tests.engine.oracle_exits import ExitRules, OwnExits
from tests.engine.oracle_linked import LinkedRules
from tests.engine.oracle_pegs import PegsOracle
from tests.naive.exchange import (
    AMOUNT_LIMIT,
    E8,
    InstrumentSpec,
    Market,
    Order,
    Side,
    Tif,
    Verdict,
)
from tests.naive.fees import FeeBook, Rate, Tier, Version, is_schedule
from tests.naive.limits import LimitBook
from tests.naive.protection import Protection

SAMPLES = 30
DAY_NS = 86_400_000_000_000
STATES = {
    1: "open",
    2: "halted",
    3: "post-only",
    4: "cancel-only",
    5: "closed",
    6: "delisted",
    7: "pre-open",
    8: "auction",
}
TRADING = ("open", "post-only", *GATHERING)
REFUSING = {
    "cancel-only": r.INSTRUMENT_CANCEL_ONLY,
    "closed": r.INSTRUMENT_CLOSED,
    "delisted": r.INSTRUMENT_DELISTED,
}
TIMER_PERIOD_MIN_NS = 1_000_000
IDS_DTYPE = OUTCOME_IDS.slot_dtype


class Bands:
    """What an instrument's prices are measured by; shares in 1e-8 of the reference, 0 = off."""

    def __init__(self, tick_e8: int, up_e8: int, down_e8: int, breaker_e8: int, reference_ticks: int) -> None:
        self.tick_e8 = tick_e8
        self.up_e8, self.down_e8, self.breaker_e8 = up_e8, down_e8, breaker_e8
        self.reference_e8 = reference_ticks * tick_e8
        self.samples: list[int] = []
        self.last_ticks = 0
        self.breaker_pending = False
        self.price_max_ticks = 0
        self.qty_max_lots = 0
        self.dynamic_e8 = self.auction_ns = self.random_ns = self.extensions = 0

    @property
    def on(self) -> bool:
        return self.up_e8 > 0 or self.down_e8 > 0

    def highest(self, share_e8: int) -> int | None:
        """Highest price in ticks at most so far above the reference; None where there is no bound."""
        if share_e8 == 0 or self.reference_e8 == 0:
            return None
        return floor(Fraction(self.reference_e8 * (E8 + share_e8), E8 * self.tick_e8))

    def lowest(self, share_e8: int) -> int | None:
        if share_e8 == 0 or self.reference_e8 == 0:
            return None
        return ceil(Fraction(self.reference_e8 * (E8 - share_e8), E8 * self.tick_e8))

    def is_beyond(self, side: int, price: int, collar: int) -> bool:
        """Whether a price is further away than a collar allows."""
        bound = self.highest(collar) if side == Side.BUY else self.lowest(collar)
        return bound is not None and (price > bound if side == Side.BUY else price < bound)

    def forbids(self, side: int, price: int) -> bool:
        bound = self.highest(self.up_e8) if side == Side.BUY else self.lowest(self.down_e8)
        return bound is not None and (price > bound if side == Side.BUY else price < bound)

    def protected(self, side: int, price: int, collar: int) -> int:
        """Effective price of a market order with protection price ``price``, 0 = none; 0 where nothing protects it."""
        shares = [share for share in (self.up_e8 if side == Side.BUY else self.down_e8, collar) if share]
        share = min(shares, default=0)
        bound = self.highest(share) if side == Side.BUY else self.lowest(share)
        if bound is None:
            return price
        if side == Side.SELL:
            return max(1, bound, price)
        if self.price_max_ticks:
            bound = min(bound, self.price_max_ticks)
        return max(1, bound if price == 0 else min(price, bound))

    def tick(self, *, always: bool = False) -> None:
        if (always or self.on or self.breaker_e8) and self.last_ticks:
            self.samples = [*self.samples, self.last_ticks * self.tick_e8][-SAMPLES:]
            self.reference_e8 = sum(self.samples) // len(self.samples)

    def breaks(self, price: int, before_ticks: int) -> bool:
        """Whether a trade at ``price`` is too far from the reference, or from the last price before its command."""
        before = Fraction(before_ticks * self.tick_e8)
        return is_far(Fraction(self.reference_e8), self.tick_e8, self.breaker_e8, price) or is_far(
            before if before < AMOUNT_LIMIT else Fraction(0), self.tick_e8, self.dynamic_e8, price
        )


class Halt(NamedTuple):
    """A command of risk's own that has not come back: a state of a market, or the cancel-all of a dead-man timer."""

    instrument: int
    cause_seq: int
    cause_index: int
    state: int = e.INSTRUMENT_HALTED
    end_ts_ns: int = 0
    names: int = 0
    account: int = 0
    session: int = 0
    kind: int = e.HALT


class Groups(NamedTuple):
    """What an account belongs to: the account whose volume counts, its firm (0 = none), its self-trade group (0 = alone)."""

    master: int
    firm: int = 0
    stp: int = 0


class Oracle(ExitRules, AuctionRules, LinkedRules, PegsOracle):
    """See the module. Tables have fixed sizes; ``status`` by account, ``bands`` by instrument, ``outbox`` oldest first."""

    def __init__(
        self,
        accounts: int,
        assets: int,
        instruments: int,
        *,
        client_ids: int = 1 << 18,
        client_id_ttl_ms: int = 10_000,
        tables: Limits | None = None,
    ) -> None:
        super().__init__([f"asset {n}" for n in range(1, assets + 1)], [], accounts)
        self.asset_names = {}
        self.scales: dict[int, int] = {}
        self.assets_max = assets
        self.instruments_max = instruments
        self.status: dict[int, int] = {}
        self.bands: dict[int, Bands] = {}
        self.outbox: list[Halt | OwnExits] = []
        self.sent = 0
        self.amounts: dict[int, int] = {}
        self.charges: list[tuple[tuple[int, int], int]] = []
        self.ids: np.ndarray | None = None
        self.head: Any = None
        self.outcomes: list[np.ndarray] = []
        self.codes: dict[int, int] = {}
        self.client_ids = ClientIds(client_ids, client_id_ttl_ms)
        self.state_if_gone = 0
        self.tables = tables or Limits()
        self.fees = FeeBook()
        self.groups: dict[int, Groups] = {}
        self.volume_rates: dict[int, int] = {}
        self.api: set[int] = set()
        self.rules: list[Rate] = []
        self.revenue: dict[tuple[str, int], int] = {}
        self.limit_book = LimitBook()
        self.states: dict[int, str] = {}
        self.sessions: dict[int, int] = {}
        self.dead_men: dict[tuple[int, int, int], int] = {}
        self.quotes: dict[tuple[int, int], dict[int, int]] = {}
        self.protections: dict[tuple[int, int], Protection] = {}
        self.pulled_by: Order | None = None
        self.planned: dict[Any, int] = {}
        self.maintenance = False
        self.auctions: dict[int, Auction] = {}
        self.before: dict[int, int] = {}

    # ------------------------------------------------------------------------------------------------------ commands

    def apply(self, group: np.ndarray) -> np.ndarray:  # type: ignore[override]
        """Outcomes of a stamped command group, ``OUTCOME_DTYPE[n]``."""
        self.head, self.group = group[0], group
        self.outcomes = []
        self.before = {instrument: bands.last_ticks for instrument, bands in self.bands.items()}
        self.ids = self._ids_of_head()
        kind = int(self.head["type"])
        handler: Callable[[np.ndarray], object] = getattr(
            self, f"_on_{e.COMMAND_NAMES.get(kind, 'unknown').lower()}", self._on_unknown
        )
        if kind in {e.LIMIT, e.MARKET, e.MARKET_AMOUNT} and self.head["session"]:
            self._note_session(int(self.head["order_id"]))
        if self._is_exit():
            self._exits_came_back()
        lists = self._is_list() and not self._has_exits()
        (self._on_list if lists else handler)(group)
        self._set_off()
        if e.LIMIT <= kind <= e.AMEND and kind != e.CANCEL_ALL:
            self._settle_pegs(int(self.head["instrument"]) or -1)
        self.outcomes[-1]["flags"] |= e.OUTCOME_LAST
        by_matcher = {
            r.ACCEPTED,
            *(r.UNKNOWN_ORDER, r.QUANTITY_TOO_LOW, r.NO_CHANGE, r.POST_ONLY_WOULD_TAKE, r.FOK_UNFILLED),
            *(r.MIN_QTY_UNFILLED, r.NO_TRIGGER_PRICE, r.TRIGGER_PASSED, r.OFFSET_TOO_LARGE, r.STOP_NOT_AMENDED),
            *(r.QUOTE_AMEND, r.LINKED_AMEND, r.PEG_AMEND, r.PEG_NO_REFERENCE, r.PEGS_FULL),
        }
        first = self.outcomes[0]
        code = int(first["reason"]) if first["kind"] == e.OUT_REJECTED else r.ACCEPTED
        if kind in {e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.AMEND} and code in by_matcher:
            scopes = self._scopes_of(int(self.head["account"]), int(self.head["instrument"]))
            for _ in range(1 + lists):
                self.limit_book.count(int(self.head["ts_ns"]), scopes)
        return np.array(self.outcomes, dtype=OUTCOME_DTYPE)

    def _is_duplicate(self) -> bool:
        """Refuse the second use of a client order id, with what became of the first order."""
        key = self._client_key()
        if key is None or not self._account_known(key[0]):
            return False
        first = self.client_ids.first(key, int(self.head["ts_ns"]))
        if first is None:
            return False
        self._verdict(r.DUPLICATE_CLIENT_ID)
        self._tell_first(first)
        return True

    def _tell_first(self, first: int | Ended) -> None:
        """What became of the order that has the client order id, into the refusal."""
        out = self.outcomes[-1].reshape(1).view(OUTCOME_DUPLICATE.slot_dtype)[0]
        if isinstance(first, Ended):
            out["first_order_id"], out["first_instrument"] = first.order_id, first.instrument
            out["first_cum_qty_lots"], out["first_value_units"] = first.traded, first.value
            out["first_ended_ts_ns"] = first.ended_ts_ns
            out["first_state"], out["first_reason"] = first.state, first.reason
        else:
            order = self.orders[first]
            out["first_order_id"], out["first_instrument"] = order.id, order.instrument
            out["first_cum_qty_lots"], out["first_leaves_qty_lots"] = order.traded, order.left
            out["first_value_units"] = self.client_ids.values.get(order.id, 0)
            out["first_state"] = e.ORDER_STATE_LIVE

    def _client_key(self) -> Key | None:
        """Account and client order id of the command, where it has one."""
        text = b"" if self.ids is None else bytes(self.ids["client_order_id"])
        return (int(self.head["account"]), text) if text else None

    def _ended(self, order: Order, state: int, reason: int) -> None:
        ts_ns = int(self.head["ts_ns"])
        self.client_ids.end(order.id, order.instrument, order.traded, ts_ns, state, reason)
        self._end_exits(order)

    def _order_arguments(self) -> tuple[int, int, int, int, int, int, int]:
        h = self.head
        names = ("order_id", "account", "instrument", "side", "price_ticks", "qty_lots", "stp")
        order_id, account, instrument, side, price, qty, stp = (int(h[name]) for name in names)
        return order_id, account, instrument, side, price, qty, stp

    def _on_limit(self, _group: np.ndarray) -> None:
        if self._is_duplicate():
            return
        order_id, account, instrument, side, price, qty, stp = self._order_arguments()
        if self._waits():
            self._stop(price, int(self.head["tif"]))
            return
        if self._is_peg():
            self._peg(price)
            return
        self.limit(order_id, account, instrument, side, price, qty, int(self.head["tif"]), stp)

    def _on_market(self, _group: np.ndarray) -> None:
        if self._is_duplicate():
            return
        order_id, account, instrument, side, price, qty, stp = self._order_arguments()
        if self._waits():
            self._stop(self._effective(instrument, side, price), Tif.IOC)
            return
        self.market_by_quantity(order_id, account, instrument, side, self._effective(instrument, side, price), qty, stp)

    def _on_market_amount(self, _group: np.ndarray) -> None:
        if self._is_duplicate():
            return
        order_id, account, instrument, side, price, amount, stp = self._order_arguments()
        self.amounts[order_id] = amount
        self.market_by_amount(
            order_id, account, instrument, side, self._effective(instrument, side, price), amount, stp
        )

    def _stop(self, price: int, tif: int) -> None:
        order_id, account, instrument, side, _, qty, stp = self._order_arguments()
        refusal = self._entry_refusal(account, instrument, price, qty, self._order_out_of_range)
        if refusal:
            self._verdict(refusal)
            return
        order = Order(order_id, account, instrument, side, price, qty, tif, stp)
        self._dress(order)
        self._enter_stop(order)

    def _planned(self) -> tuple[int, Order]:
        """Why the order of the command makes no sense, as far as neither funds nor prices decide; and the order."""
        order_id, account, instrument, side, price, qty, stp = self._order_arguments()
        limited = int(self.head["type"]) == e.LIMIT
        price = price if limited else self._effective(instrument, side, price)
        tif = int(self.head["tif"]) if limited else int(Tif.IOC)
        order = Order(order_id, account, instrument, side, price, qty, tif, stp)
        by_amount = self.head["type"] == e.MARKET_AMOUNT
        out_of_range = self._amount_out_of_range if by_amount else self._order_out_of_range
        code = self._entry_refusal(account, instrument, price, qty, out_of_range)
        if not code:
            self._dress(order)
            if self._waits():
                order.stop = self._new_stop(instrument, side)
        return int(code), order

    def _amount_out_of_range(self, market: Market, price: int, amount: int) -> bool:
        lots = amount // (price * market.k) if self.head["side"] == Side.SELL else 0
        return amount >= AMOUNT_LIMIT or lots * market.spec.lot_atoms >= AMOUNT_LIMIT

    def _note_session(self, order_id: int) -> None:
        source = order_id >> 40 if self._is_exit() else int(self.head["source"])
        self.sessions[order_id] = source << 16 | int(self.head["session"])

    def _told_linked(self, order: Order, kind: int) -> None:
        """One of two linked orders stands."""
        waits = e.OUTCOME_WAITS * (order.stop is not None)
        if int(self.head["flags"]) & e.FLAG_API:
            self.api.add(order.id)
        self._own(e.OUT_NEW, order, 0, order.total, order.left, waits)
        self.outcomes[-1]["type"] = kind
        if self.ids is not None:
            self._emit_ids()
            self.outcomes[-1]["order_id"] = order.id
        if order.stop is not None:
            self.orders[order.id] = order
            self.waiting.append(order)
            if order.stop.trails:
                self.trailing.append(order)
        else:
            self._enter_book(order)
        self._own(e.OUT_RESTED, order, 0, order.total, order.left, waits)
        key = self._client_key()
        if key is not None:
            self.client_ids.take(key, order.id)

    def _told_ended(self, order: Order, left: int, reason: int) -> None:
        """The order that another was linked with is gone."""
        self._own(e.OUT_CANCELED, order, reason, left, 0)
        kind, account, source = (int(self.head[name]) for name in ("type", "account", "source"))
        cause = int(self.head["qty_lots"]) if kind == e.CANCEL_ALL else 0
        if kind in (e.CANCEL, e.CANCEL_ALL) and not cause and is_own(kind, account, source, order.account):
            self.client_ids.free(order.id)
        else:
            self._ended(order, e.ORDER_STATE_CANCELED, reason)

    def _peg(self, price: int) -> None:
        order_id, account, instrument, side, _, qty, stp = self._order_arguments()
        refusal = self._entry_refusal(account, instrument, price, qty, self._order_out_of_range)
        order = Order(order_id, account, instrument, side, price, qty, int(self.head["tif"]), stp)
        if not refusal:
            self._dress(order)
            refusal = self._enter_peg(order)
        if refusal:
            self._verdict(refusal)
            return
        if int(self.head["flags"]) & e.FLAG_API:
            self.api.add(order.id)
        self._own(e.OUT_NEW, order, 0, qty, qty)
        if self.ids is not None:
            self._emit_ids()
        key = self._client_key()
        if key is not None:
            self.client_ids.take(key, order.id)
        self._own(e.OUT_RESTED, order, 0, qty, qty)
        self._own(e.OUT_PEGGED, order, 0, qty, qty, price_ticks=order.price)
        self._verdict(r.ACCEPTED)

    def _told_waiting(self, order: Order) -> None:
        if int(self.head["flags"]) & e.FLAG_API:
            self.api.add(order.id)
        self._keep_exits(order)
        self._own(e.OUT_NEW, order, 0, order.total, order.left, e.OUTCOME_WAITS)
        if self.ids is not None:
            self._emit_ids()
            self._own(e.OUT_RESTED, order, 0, order.total, order.left, e.OUTCOME_WAITS)
        key = self._client_key()
        if key is not None:
            self.client_ids.take(key, order.id)

    def _told_resting(self, order: Order) -> None:
        if self.ids is None:
            self._own(e.OUT_RESTED, order, 0, order.total, order.left, e.OUTCOME_WAITS)

    def _told_amended(self, order: Order) -> None:
        self._own(e.OUT_REPLACED, order, 0, order.total, order.left, e.OUTCOME_WAITS)

    def _told_triggered(self, order: Order) -> None:
        linked = order.id in self.partners
        if linked:
            self._take_over(order)
        self._own(e.OUT_TRIGGERED, order, r.BY_TRIGGER, order.total, order.left)
        if linked:
            self._say_left(order)

    def _on_set_prices(self, _group: np.ndarray) -> None:
        instrument, mark, index = (int(self.head[name]) for name in ("instrument", "price_ticks", "qty_lots"))
        if instrument not in self.markets:
            self._verdict(r.UNKNOWN_INSTRUMENT)
        elif mark < 0 or index < 0 or mark == index == 0:
            self._verdict(r.BAD_PRICE)
        elif max(mark, index) >= AMOUNT_LIMIT:
            self._verdict(r.RANGE)
        elif self.state_of(instrument) == "delisted":
            self._verdict(r.INSTRUMENT_DELISTED)
        elif self.maintenance:
            self._verdict(r.MAINTENANCE)
        else:
            for ref, price in ((e.TRIGGER_MARK, mark), (e.TRIGGER_INDEX, index)):
                if price:
                    self.seen[instrument, ref] = price
            if self.state_of(instrument) == "open":
                self._set_off(self._visit_marks(instrument))
            self._settle_pegs(instrument)
            self._admin(self._verdict(r.ACCEPTED))

    def _bands_of(self, instrument: int) -> Bands:
        """Bands of the instrument, measured from the trigger where the order waits for one."""
        if not self._waits():
            return self.bands[instrument]
        bands = copy(self.bands[instrument])
        trails = self.head["offset_kind"] != e.OFFSET_NONE
        bands.reference_e8 = 0 if trails else int(self.head["trigger_price_ticks"]) * bands.tick_e8
        return bands

    def _effective(self, instrument: int, side: int, price: int) -> int:
        bands = self._bands_of(instrument) if instrument in self.bands else None
        collar = self._collar(instrument)
        if bands is None or price < 0 or not (bands.on or collar):
            return price
        return bands.protected(side, price, collar)

    def _on_cancel(self, _group: np.ndarray) -> None:
        h = self.head
        self.cancel(int(h["order_id"]), int(h["account"]), int(h["instrument"]))

    def _on_cancel_all(self, _group: np.ndarray) -> None:
        """In the order of instruments and order ids."""
        h = self.head
        account, instrument = int(h["account"]), int(h["instrument"])
        session, sides = int(h["trigger_price_ticks"]), int(h["price_ticks"])
        if h["source"] == e.SOURCE_RISK:
            self._came_back()
        else:
            code = self._mass_cancel_code(account, instrument, session)
            if code:
                self._verdict(code)
                return
        mine = [
            order
            for order in sorted(self.orders.values(), key=lambda order: (order.instrument, order.id))
            if account in (0, order.account)
            and instrument in (0, order.instrument)
            and session in (0, self.sessions.get(order.id))
            and sides in (0, 1 if order.side == Side.BUY else 2)
        ]
        for order in mine:
            self._cancel(order)
        self._verdict(r.ACCEPTED)
        lost = self._settle_pegs(instrument)
        self._emit(e.OUT_DONE, qty_lots=len(mine) + lost)

    def _mass_cancel_code(self, account: int, instrument: int, session: int) -> int:
        sides, cause = int(self.head["price_ticks"]), int(self.head["qty_lots"])
        named = self._named_code(account, instrument, session)
        ways = (
            (r.UNKNOWN_ACCOUNT, account == instrument == session == 0),
            (named, named != 0),
            (r.CANCEL_SIDES, sides not in (0, 1, 2)),
            (r.CANCEL_CAUSE, cause not in (0, 1) or (cause == 1 and session == 0)),
        )
        return next((code for code, wrong in ways if wrong), r.ACCEPTED)

    def _named_code(self, account: int, instrument: int, session: int) -> int:
        """Why an account, instrument or session is none; each of them may be left out."""
        source, number = divmod(session, 1 << 16)
        mine = int(self.head["source"])
        ways = (
            (r.UNKNOWN_ACCOUNT, account != 0 and not self._account_known(account)),
            (r.UNKNOWN_INSTRUMENT, instrument not in (0, *self.markets)),
            (r.BAD_SESSION, session != 0 and not (2 <= source < 64 and number > 0)),
            (r.OTHER_SESSION, session != 0 and mine >= e.SOURCE_FIRST_GATEWAY and mine != source),
        )
        return next((code for code, wrong in ways if wrong), r.ACCEPTED)

    def _on_quote(self, group: np.ndarray) -> None:
        """All quotes are judged on what stands before the command, and then entered one after the other."""
        h = self.head
        account = int(h["account"])
        entries = group[1:].view(EXT_QUOTES_SLOT.slot_dtype)
        kinds = [int(q["type"]) == e.EXT_QUOTES for q in entries]
        entries = entries[: kinds.index(False) if False in kinds else len(kinds)]
        if not self._account_known(account):
            self._verdict(r.UNKNOWN_ACCOUNT)
            return
        if not 1 <= len(entries) <= 100:
            self._verdict(r.QUOTE_COUNT)
            return
        if any(q["account"] != account for q in entries):
            self._verdict(r.BAD_FIELD)
            return
        self.planned = {}
        codes = [self._quote_code(account, q, entries[:k]["instrument"].tolist()) for k, q in enumerate(entries)]
        for q, code in zip(entries, codes, strict=True):
            if not code and (q["bid_qty_lots"] or q["ask_qty_lots"]):
                self.limit_book.count(int(h["ts_ns"]), self._scopes_of(account, int(q["instrument"])))
        taken = 0
        for k, (q, code) in enumerate(zip(entries, codes, strict=True), 1):
            order_id = int(h["source"]) << 40 | int(h["source_seq"]) + k
            done = code or self._enter_quote(account, q, order_id)
            taken += not done
            self.codes[int(done)] = self.codes.get(int(done), 0) + 1
            self._emit(
                e.OUT_QUOTE, instrument=q["instrument"], order_id=order_id, reason=done, contra_order_id=q["quote_id"],
                price_ticks=q["bid_price_ticks"], qty_lots=q["bid_qty_lots"], value_units=q["ask_price_ticks"],
                leaves_qty_lots=q["ask_qty_lots"],
            )  # fmt: skip
            self._settle_pegs(int(q["instrument"]) or -1)
        self._verdict(r.ACCEPTED)
        self._emit(e.OUT_QUOTED, qty_lots=taken, leaves_qty_lots=len(entries) - taken)

    def _sides_of(self, account: int, q: Any) -> list[tuple[int, int, Order | None]]:
        """Price and lots that are wanted, and the order that stands, of both sides."""
        quote = self.quotes.get((account, int(q["instrument"])), {})
        old = [self.orders.get(quote.get(side, 0)) for side in (Side.BUY, Side.SELL)]
        wanted = [(int(q[f"{name}_price_ticks"]), int(q[f"{name}_qty_lots"])) for name in ("bid", "ask")]
        return [(price, lots, order) for (price, lots), order in zip(wanted, old, strict=True)]

    def _quote_code(self, account: int, q: Any, before: list[int]) -> int:
        instrument = int(q["instrument"])
        if instrument not in self.markets:
            return r.UNKNOWN_INSTRUMENT
        market, bands = self.markets[instrument], self.bands[instrument]
        sides = self._sides_of(account, q)
        (bid, bid_lots, _), (ask, ask_lots, _) = sides
        quoted = [(side, *rest) for side, rest in enumerate(sides) if rest[1]]
        ways = (
            (r.QUOTE_REPEATED, instrument in before),
            (r.BAD_QUANTITY, bid_lots < 0 or ask_lots < 0),
            (r.BAD_PRICE, any(price < 1 for _, price, _, _ in quoted)),
            (r.QUOTE_CROSSED, len(quoted) == 2 and bid >= ask),
            (r.RANGE, any(self._beyond(market, bands, price, lots) for _, price, lots, _ in quoted)),
        )
        code = next((code for code, wrong in ways if wrong), r.ACCEPTED)
        if code or not quoted:
            return code
        if account in self.frozen:
            return r.ACCOUNT_FROZEN
        if market.halted:
            return r.INSTRUMENT_HALTED
        code = self._state_code(instrument)
        scopes = self._scopes_of(account, instrument)
        planned = dict(self.planned)
        for _, price, lots, old in quoted:
            code = code or self._quote_limit(instrument, scopes, planned, lots, lots * price * market.k, old)
            for scope in scopes if old is None else ():
                planned[scope] = planned.get(scope, 0) + 1
        for side, price, _, _ in quoted:
            code = code or self._quote_band(account, instrument, side, price)
        if code:
            return code
        needs = {}
        for side, price, lots, old in quoted:
            order = Order(0, account, instrument, side, price, lots, e.POST_ONLY, 0)
            need = max(0, self._hold_of(order) - (self._hold_of(old) if old else 0))
            wallet = self._paid_with(order)
            if need > self.free[wallet] - planned.get(wallet, 0):
                return r.INSUFFICIENT_FUNDS
            needs[wallet] = need
        self.planned = planned
        for wallet, need in needs.items():
            self.planned[wallet] = self.planned.get(wallet, 0) + need
        return r.ACCEPTED

    def _beyond(self, market: Market, bands: Bands, price: int, lots: int) -> bool:
        return (
            self._order_out_of_range(market, price, lots)
            or 0 < bands.qty_max_lots < lots
            or 0 < bands.price_max_ticks < price
        )

    def _quote_limit(
        self, instrument: int, scopes: Any, planned: dict[Any, int], lots: int, value: int, old: Order | None
    ) -> int:
        rate = self.volume_rates.get(self.markets[instrument].spec.quote, 0)
        open_orders = {} if old else dict(planned)
        for order in self.orders.values() if old is None else ():
            for scope in self._scopes_of(order.account, order.instrument):
                open_orders[scope] = open_orders.get(scope, 0) + 1
        units = ceil(Fraction(value * rate, E8)) if rate else None
        name = self.limit_book.exceeded(scopes, lots, units, open_orders, int(self.head["ts_ns"]))
        return int(getattr(r, name)) if name else r.ACCEPTED

    def _quote_band(self, account: int, instrument: int, side: int, price: int) -> int:
        if self.bands[instrument].forbids(side, price):
            return r.PRICE_BAND
        collar = self.limit_book.collar(self._scopes_of(account, instrument))
        return r.PRICE_COLLAR if self.bands[instrument].is_beyond(side, price, collar) else r.ACCEPTED

    def _enter_quote(self, account: int, q: Any, order_id: int) -> int:
        """Both sides, or the reason why neither."""
        instrument = int(q["instrument"])
        sides = self._sides_of(account, q)
        old = [order for _, _, order in sides]
        protection = self.protections.get((account, instrument))
        if any(lots for _, lots, _ in sides) and protection is not None and protection.pulled:
            return r.PROTECTED
        for side, (price, lots, _) in enumerate(sides):
            wanted = Order(0, account, instrument, side, price, lots, e.POST_ONLY, 0)
            others = [other for other in self.markets[instrument].by_priority(1 - side) if other not in old]
            if lots and others and wanted.crosses(others[0].price):
                return r.POST_ONLY_WOULD_TAKE
        for price, lots, order in sides:
            if order is not None and not (lots and price == order.price and lots <= order.left):
                levels = self.markets[instrument].levels[order.side]
                levels[order.price].remove(order)
                if not levels[order.price]:
                    del levels[order.price]
        quote = self.quotes.setdefault((account, instrument), {})
        for side, (price, lots, order) in enumerate(sides):
            if order is None and lots:
                new = Order(order_id | side << 39, account, instrument, side, price, lots, e.POST_ONLY, 0)
                quote[side] = new.id
                if int(self.head["flags"]) & e.FLAG_API:
                    self.api.add(new.id)
                self._lock(new, self._hold_of(new))
                self._enter_book(new)
                self._own(e.OUT_NEW, new, 0, lots, lots)
            elif order is not None and not lots:
                self._lock(order, -self._hold_of(order))
                del self.orders[order.id]
                self._own(e.OUT_CANCELED, order, r.BY_USER, order.left, 0)
            elif order is not None and not (price == order.price and lots == order.left):
                keeps = price == order.price and lots < order.left
                held = self._hold_of(order)
                order.total += lots - order.left
                order.price = price
                self._lock(order, self._hold_of(order) - held)
                if not keeps:
                    self._enter_book(order)
                self._own(e.OUT_REPLACED, order, 0, order.total, order.left)
        return r.ACCEPTED

    def _on_set_protection(self, _group: np.ndarray) -> None:
        h = self.head
        account, instrument = int(h["account"]), int(h["instrument"])
        window, lots, net, trades = (
            int(h[name]) for name in ("price_ticks", "qty_lots", "trigger_price_ticks", "order_id")
        )
        limited = any((lots, net, trades))
        sound = all(0 <= n < AMOUNT_LIMIT for n in (lots, net, trades)) and limited == (window != 0)
        if not self._account_known(account):
            self._verdict(r.UNKNOWN_ACCOUNT)
        elif instrument not in self.markets:
            self._verdict(r.UNKNOWN_INSTRUMENT)
        elif not sound or (limited and not 10**6 <= window <= 3_600 * 10**9):
            self._verdict(r.BAD_PROTECTION)
        else:
            self.protections.pop((account, instrument), None)
            if limited:
                self.protections[account, instrument] = Protection(window, lots, net, trades, [])
            self._admin(self._verdict(r.ACCEPTED))

    def _counts(self, order: Order, lots: int) -> bool:
        """Count a fill for the protection of a quote; whether it pulls the quote."""
        key = order.account, order.instrument
        protection = self.protections.get(key)
        if protection is None or order.id not in self.quotes.get(key, {}).values():
            return False
        protection.fills.append((int(self.head["ts_ns"]), lots, lots if order.side == Side.BUY else -lots))
        protection.pulled = protection.pulled or protection.reached(int(self.head["ts_ns"]))
        return protection.pulled

    def _pull_behind(self, instrument: int) -> None:
        """What protection has to take away behind an auction goes by account, the bid first."""
        for account in sorted(a for (a, i), one in self.protections.items() if i == instrument and one.pulled):
            self._pull(account, instrument, Side.BUY)

    def _leave_or_show(self, maker: Order) -> None:
        """Behind a fill that reached a limit of its maker's protection, what is left of the quote goes."""
        super()._leave_or_show(maker)
        if self.pulled_by is not maker:
            return
        self.pulled_by = None
        self._pull(maker.account, maker.instrument, maker.side)

    def _pull(self, account: int, instrument: int, first: int) -> None:
        quote = self.quotes.get((account, instrument), {})
        for side in (first, 1 - first):
            order = self.orders.get(quote.get(side, 0))
            if order is not None:
                left = order.left
                super()._cancel(order)
                self._own(e.OUT_CANCELED, order, r.BY_PROTECTION, left, 0)

    def _on_dead_man(self, _group: np.ndarray) -> None:
        h = self.head
        key = account, instrument, session = int(h["account"]), int(h["instrument"]), int(h["trigger_price_ticks"])
        duration = int(h["price_ticks"])
        code = r.UNKNOWN_ACCOUNT if account == 0 else self._named_code(account, instrument, session)
        pending = sum(own.kind == e.CANCEL_ALL for own in self.outbox)
        if code:
            self._verdict(code)
        elif duration != 0 and not 1_000_000_000 <= duration <= DAY_NS:
            self._verdict(r.DEAD_MAN_DURATION)
        elif duration == 0:
            self.dead_men.pop(key, None)
            self._admin(self._verdict(r.ACCEPTED))
        elif key not in self.dead_men and len(self.dead_men) + pending >= 1024:
            self._verdict(r.DEAD_MAN_TABLE_FULL)
        else:
            self.dead_men[key] = int(h["ts_ns"]) + duration
            self._admin(self._verdict(r.ACCEPTED))

    def _fire_dead_men(self) -> None:
        """Those whose time has come ask for their cancels, the soonest first."""
        now, seq = int(self.head["ts_ns"]), int(self.head["seq"])
        for until, key in sorted((until, key) for key, until in self.dead_men.items() if until <= now):
            assert self.dead_men.pop(key) == until
            account, instrument, session = key
            self.outbox.append(
                Halt(instrument, seq, len(self.outcomes), account=account, session=session, kind=e.CANCEL_ALL)
            )

    def _on_amend(self, _group: np.ndarray) -> None:
        h = self.head
        self.amend(
            int(h["order_id"]), int(h["account"]), int(h["instrument"]), int(h["price_ticks"]), int(h["qty_lots"])
        )

    def amend(self, order_id: int, account: int, instrument: int, price: int, total: int) -> Verdict:
        """The price band is looked at as soon as it is known which order it is."""
        refusal = self._entry_refusal(account, instrument, price, total, self._order_out_of_range)
        order = self._find_order(order_id, account, instrument)
        if not refusal and order is not None and order.id in self.quotes.get((account, instrument), {}).values():
            return self._verdict(r.QUOTE_AMEND)
        if not refusal and order is not None and order.id in self.partners:
            return self._verdict(r.LINKED_AMEND)
        if not refusal and order is not None and order.peg is not None:
            return self._verdict(r.PEG_AMEND)
        if not refusal and order is not None:
            may_rest = order.tif in (Tif.GTC, Tif.POST_ONLY)
            if order.stop is None:
                refusal = self._band_code(instrument, order.side, price)
            elif not may_rest:
                return self._amend_stop(order, price, total)
            if not refusal and order.display and Fraction(total, order.display) > 100:
                refusal = r.ICEBERG_PARTS
            if refusal:
                return self._verdict(refusal)
        if not refusal and order is not None and order.stop is not None:
            return self._amend_stop(order, price, total)
        keeps = order is not None and price == order.price and total < order.total
        verdict = super().amend(order_id, account, instrument, price, total)
        if verdict.code == r.ACCEPTED and keeps:
            assert order is not None
            self._own(e.OUT_REPLACED, order, 0, order.total, order.left)
        return verdict

    def _on_deposit(self, _group: np.ndarray) -> None:
        h = self.head
        verdict = self.deposit(int(h["account"]), int(h["asset"]), int(h["qty_lots"]))
        self._money(verdict, int(h["asset"]), int(h["qty_lots"]))

    def _on_adjust(self, _group: np.ndarray) -> None:
        account, asset, amount = (int(self.head[name]) for name in ("account", "asset", "qty_lots"))
        refusal = self._transfer_refusal(account, asset, abs(amount))
        if refusal:
            self._verdict(refusal)
        elif amount > 0 and self.net_deposits[asset] + amount >= AMOUNT_LIMIT:
            self._verdict(r.RANGE)
        elif self.free[account, asset] + amount < 0:
            self._verdict(r.INSUFFICIENT_FUNDS)
        else:
            self.free[account, asset] += amount
            self.net_deposits[asset] += amount
            self._money(self._verdict(r.ACCEPTED), asset, amount)

    def _on_withdraw_hold(self, _group: np.ndarray) -> None:
        h = self.head
        asset, amount = int(h["asset"]), int(h["qty_lots"])
        self._money(self.withdrawal_hold(int(h["order_id"]), int(h["account"]), asset, amount), asset, amount)

    def _on_withdraw_settle(self, _group: np.ndarray) -> None:
        hold = self.holds.get(int(self.head["order_id"]))
        verdict = self.settle_hold(int(self.head["order_id"]), int(self.head["account"]))
        if hold is not None:
            self._money(verdict, hold.asset, -hold.amount)

    def _on_withdraw_release(self, _group: np.ndarray) -> None:
        hold = self.holds.get(int(self.head["order_id"]))
        verdict = self.release_hold(int(self.head["order_id"]), int(self.head["account"]))
        if hold is not None:
            self._money(verdict, hold.asset, hold.amount)

    def _money(self, verdict: Verdict, asset: int, amount: int) -> None:
        if verdict.code == r.ACCEPTED:
            account = int(self.head["account"])
            self._emit(e.OUT_BALANCE, value_units=amount, **self._balances(account, asset, asset))

    def _on_transfer(self, _group: np.ndarray) -> None:
        account, to, asset, amount = (int(self.head[name]) for name in ("account", "sub_account", "asset", "qty_lots"))
        code = self._transfer_code(account, to, asset, amount)
        self._verdict(code)
        if code == r.ACCEPTED:
            self.free[account, asset] -= amount
            self.free[to, asset] += amount
            self._emit(e.OUT_BALANCE, value_units=-amount, **self._balances(account, asset, asset))
            self._emit(e.OUT_BALANCE, account=to, value_units=amount, **self._balances(to, asset, asset))

    def _transfer_code(self, account: int, to: int, asset: int, amount: int) -> int:
        for one in (account, to):
            if not self._account_known(one):
                return r.ACCOUNT_CLOSED if self.status.get(one) == e.ACCOUNT_CLOSED else r.UNKNOWN_ACCOUNT
        if asset not in self.asset_names:
            return r.UNKNOWN_ASSET
        if account == to:
            return r.BAD_FIELD
        if self._group(account).master != self._group(to).master:
            return r.OTHER_MASTER
        refusal = self._transfer_refusal(account, asset, amount)
        if refusal:
            return int(refusal)
        if account in self.frozen:
            return r.ACCOUNT_FROZEN
        return r.INSUFFICIENT_FUNDS if self.free[account, asset] < amount else r.ACCEPTED

    def _group(self, account: int) -> Groups:
        return self.groups.get(account, Groups(account))

    def _on_set_groups(self, _group: np.ndarray) -> None:
        h = self.head
        account = int(h["account"])
        groups = Groups(int(h["price_ticks"]) or account, int(h["qty_lots"]), int(h["trigger_price_ticks"]))
        if not self._account_known(account):
            self._verdict(r.UNKNOWN_ACCOUNT)
        elif not self._groups_are_sound(account, groups):
            self._verdict(r.BAD_GROUP)
        elif any(order.account == account for order in self.orders.values()):
            self._verdict(r.ACCOUNT_HAS_ORDERS)
        else:
            self.groups[account] = groups
            self._admin(self._verdict(r.ACCEPTED))

    def _groups_are_sound(self, account: int, groups: Groups) -> bool:
        master = groups.master
        if not 0 <= groups.firm <= self.tables.firms or not 0 <= groups.stp < 1 << 31:
            return False
        has_subs = any(g.master == account and sub != account for sub, g in self.groups.items())
        return master == account or (
            self._account_known(master) and self._group(master).master == master and not has_subs
        )

    def _same_owner(self, one: int, other: int) -> bool:
        return one == other or (self._group(one).stp != 0 and self._group(one).stp == self._group(other).stp)

    def _on_set_volume_rate(self, _group: np.ndarray) -> None:
        asset, rate = int(self.head["asset"]), int(self.head["price_ticks"])
        if asset not in self.asset_names:
            self._verdict(r.UNKNOWN_ASSET)
        elif not 0 <= rate < AMOUNT_LIMIT:
            self._verdict(r.BAD_FIELD)
        else:
            self.volume_rates[asset] = rate
            self._admin(self._verdict(r.ACCEPTED))

    def _scope(self, last: int) -> tuple[int, tuple[str | int, ...]]:
        """Reason why the command's scope is none, 0 where it is one; and the scope."""
        h = self.head
        kind, account, instrument, firm = (
            int(h[n]) for n in ("price_ticks", "account", "instrument", "trigger_price_ticks")
        )
        names: dict[int, tuple[str | int, ...]] = {
            e.SCOPE_VENUE: ("venue",),
            e.SCOPE_ACCOUNT: ("account", account),
            e.SCOPE_USER: ("user", account),
            e.SCOPE_FIRM: ("firm", firm),
            e.SCOPE_INSTRUMENT: ("instrument", instrument),
            e.SCOPE_CONTRACT: ("contract", account, instrument),
        }
        if not 0 <= kind <= last:
            return r.BAD_FIELD, ()
        if kind in {e.SCOPE_ACCOUNT, e.SCOPE_USER, e.SCOPE_CONTRACT} and not self._account_known(account):
            return r.UNKNOWN_ACCOUNT, ()
        if kind == e.SCOPE_USER and self._group(account).master != account:
            return r.BAD_GROUP, ()
        if kind in {e.SCOPE_INSTRUMENT, e.SCOPE_CONTRACT} and instrument not in self.markets:
            return r.UNKNOWN_INSTRUMENT, ()
        if kind == e.SCOPE_FIRM and not 1 <= firm <= self.tables.firms:
            return r.BAD_GROUP, ()
        return r.ACCEPTED, names[kind]

    def _scopes_of(self, account: int, instrument: int) -> tuple[tuple[str | int, ...], ...]:
        groups = self._group(account)
        return self.limit_book.scopes(account, groups.master, groups.firm, instrument)

    def _on_set_limits(self, group: np.ndarray) -> None:
        ext = _second(group, EXT_LIMITS_SLOT.slot_dtype)
        if ext is None:
            self._verdict(r.UNSUPPORTED)
            return
        code, scope = self._scope(e.SCOPE_INSTRUMENT)
        names = ("qty_max_lots", "notional_max_units", "open_orders_max", "orders_per_s", "collar_e8")
        values = [int(ext[name]) for name in names]
        bounds = (AMOUNT_LIMIT, AMOUNT_LIMIT, 1 << 31, 1 << 31, E8 + 1)
        if code:
            self._verdict(code)
        elif ext["type"] != e.EXT_LIMITS or any(not 0 <= v < b for v, b in zip(values, bounds, strict=True)):
            self._verdict(r.BAD_LIMIT)
        else:
            self.limit_book.set(scope, *values)
            self._admin(self._verdict(r.ACCEPTED))

    def _on_kill(self, _group: np.ndarray) -> None:
        scope = self._kill_scope()
        if not scope:
            return
        self.limit_book.killed.add(scope)
        mine = [o for o in self.orders.values() if scope in self._scopes_of(o.account, o.instrument)]
        for order in sorted(mine, key=lambda order: (order.instrument, order.id)):
            self._cancel(order)
        self._verdict(r.ACCEPTED)
        lost = self._settle_pegs(int(self.head["instrument"]))
        self._emit(e.OUT_DONE, qty_lots=len(mine) + lost)

    def _on_revive(self, _group: np.ndarray) -> None:
        scope = self._kill_scope()
        if scope:
            self.limit_book.killed.discard(scope)
            self._admin(self._verdict(r.ACCEPTED))

    def _kill_scope(self) -> tuple[str | int, ...]:
        """The scope, or nothing and the refusal is said."""
        code, scope = self._scope(e.SCOPE_INSTRUMENT)
        if not code and scope[0] != "instrument" and self.head["instrument"] != 0:
            code = r.BAD_FIELD
        if code:
            self._verdict(code)
            return ()
        return scope

    def _collar(self, instrument: int) -> int:
        return self.limit_book.collar(self._scopes_of(int(self.head["account"]), instrument))

    def _limit_code(self, account: int, instrument: int, lots: int, value: int) -> int:
        scopes = self._scopes_of(account, instrument)
        rate = self.volume_rates.get(self.markets[instrument].spec.quote, 0)
        open_orders: dict[tuple[str | int, ...], int] = {}
        for order in [*self.orders.values(), *self.joining] if self.head["type"] != e.AMEND else ():
            for scope in self._scopes_of(order.account, order.instrument):
                open_orders[scope] = open_orders.get(scope, 0) + 1
        units = ceil(Fraction(value * rate, E8)) if rate else None
        name = self.limit_book.exceeded(scopes, lots, units, open_orders, int(self.head["ts_ns"]))
        return int(getattr(r, name)) if name else r.ACCEPTED

    def _on_set_schedule(self, group: np.ndarray) -> None:
        h, ext = self.head, _second(group, EXT_FEES_SLOT.slot_dtype)
        schedule, discount, ts_ns = int(h["qty_lots"]), int(h["trigger_price_ticks"]), int(h["ts_ns"])
        if ext is None:
            self._verdict(r.UNSUPPORTED)
            return
        if not 1 <= schedule <= self.tables.fee_schedules:
            self._verdict(r.UNKNOWN_SCHEDULE)
            return
        tiers = [
            Tier(int(ext[f"min_units_{k}"]) if k else 0, int(ext[f"maker_e8_{k}"]), int(ext[f"taker_e8_{k}"]))
            for k in range(min(7, int(ext["tiers"])))
        ]
        sound = ext["type"] == e.EXT_FEES and ext["product"] == e.PRODUCT_SPOT and ext["tiers"] <= 7
        if not sound or not is_schedule(tiers, discount):
            self._verdict(r.BAD_SCHEDULE)
        elif len(self.fees.versions) == self.tables.fee_versions:
            self._verdict(r.FEE_TABLE_FULL)
        else:
            version = Version(schedule, max(int(h["price_ticks"]), ts_ns), discount, tuple(tiers))
            self.fees.versions.append(version)
            self._if_sound(self.fees.versions.pop)

    def _if_sound(self, undo: Callable[[], object]) -> None:
        """The end of a command that has changed fees; ``undo`` takes the change back."""
        if self.fees.is_sound(int(self.head["ts_ns"])):
            self._admin(self._verdict(r.ACCEPTED))
        else:
            undo()
            self._verdict(r.FEES_NET_NEGATIVE)

    def _on_assign_fees(self, _group: np.ndarray) -> None:
        h, fees = self.head, self.fees
        instrument = int(h["instrument"])
        schedule = int(h["qty_lots"])
        scope = int(h["price_ticks"])
        code, key = (r.BAD_FIELD, ()) if scope == e.SCOPE_USER else self._scope(e.SCOPE_CONTRACT)
        if code:
            self._verdict(code)
        elif schedule != 0 and schedule not in {v.schedule for v in fees.versions}:
            self._verdict(r.UNKNOWN_SCHEDULE)
        elif scope == e.SCOPE_CONTRACT and key not in fees.assigned and self._contracts_are_full():
            self._verdict(r.FEE_TABLE_FULL)
        else:
            before = dict(fees.assigned), set(fees.follows_venue)
            fees.assigned[key] = schedule
            if scope == e.SCOPE_INSTRUMENT:
                fees.follows_venue.add(instrument)

            def undo() -> None:
                fees.assigned, fees.follows_venue = before

            self._if_sound(undo)

    def _contracts_are_full(self) -> bool:
        return sum(key[0] == "contract" for key in self.fees.assigned) >= table_capacity(self.tables.fee_contracts) // 2

    def _on_set_fees(self, _group: np.ndarray) -> None:
        instrument, maker, taker = (int(self.head[name]) for name in ("instrument", "price_ticks", "qty_lots"))
        fees = self.fees
        if instrument not in self.markets:
            self._verdict(r.UNKNOWN_INSTRUMENT)
        elif not (0 <= taker < E8 and maker < E8 and maker + taker >= 0):
            self._verdict(r.BAD_FEE)
        else:
            before = dict(fees.own), dict(fees.assigned), set(fees.follows_venue)
            fees.own[instrument] = (maker, taker)
            fees.assigned.pop(("instrument", instrument), None)
            fees.follows_venue.discard(instrument)

            def undo() -> None:
                fees.own, fees.assigned, fees.follows_venue = before

            self._if_sound(undo)

    def _on_freeze(self, _group: np.ndarray) -> None:
        self._admin(self.freeze(int(self.head["account"])))

    def _on_unfreeze(self, _group: np.ndarray) -> None:
        self._admin(self.unfreeze(int(self.head["account"])))

    def state_of(self, instrument: int) -> str:
        return self.states.get(instrument, "open")

    def _set_state(self, instrument: int, wanted: str | None) -> None:
        """From anywhere but delisted to anywhere; to delisted only where nothing can trade any more."""
        now = self.state_of(instrument)
        if instrument not in self.markets:
            self._verdict(r.UNKNOWN_INSTRUMENT)
        elif (
            wanted is None or (now == "delisted") > (wanted == "delisted") or (now in TRADING and wanted == "delisted")
        ):
            self._verdict(r.BAD_STATE)
        elif self.head["source"] != e.SOURCE_RISK and self.end_is_wrong(wanted):
            self._verdict(r.AUCTION_END)
        else:
            self.states[instrument] = wanted
            self.markets[instrument].halted = wanted == "halted"
            self.change_market(instrument, now, wanted)
            mine = [order for order in self.orders.values() if order.instrument == instrument]
            if wanted == "delisted":
                for order in sorted(mine, key=lambda order: order.id):
                    self._cancel(order)
                self._verdict(r.ACCEPTED)
                self._emit(e.OUT_DONE, qty_lots=len(mine))
            else:
                if wanted == "open":
                    last = self.bands[instrument].last_ticks
                    fired = self._visit(instrument, e.TRIGGER_LAST, last) if last else []
                    self._set_off(fired + self._visit_marks(instrument))
                self._settle_pegs(instrument)
                self._admin(self._verdict(r.ACCEPTED))

    def _on_set_state(self, _group: np.ndarray) -> None:
        instrument, wanted = int(self.head["instrument"]), int(self.head["price_ticks"])
        if instrument != 0 and self.head["source"] == e.SOURCE_RISK:
            self._on_halt(_group)
        elif instrument != 0:
            self._set_state(instrument, STATES.get(wanted))
        elif wanted in (0, 1):
            self.maintenance = wanted == 1
            self._admin(self._verdict(r.ACCEPTED))
        else:
            self._verdict(r.BAD_STATE)

    def _state_code(self, instrument: int) -> int:
        """Why the state of the market or of the venue refuses an order or amend."""
        now, kind, tif = self.state_of(instrument), int(self.head["type"]), int(self.head["tif"])
        post_only = kind == e.QUOTE or (kind == e.LIMIT and tif == e.POST_ONLY) or self._is_peg()
        if now == "post-only" and (self._waits() or not (post_only or kind == e.AMEND)):
            return r.INSTRUMENT_POST_ONLY
        if now in REFUSING:
            return REFUSING[now]
        if now in GATHERING and self.gathering_code():
            return self.gathering_code()
        return r.MAINTENANCE if self.maintenance else r.ACCEPTED

    def _terms_code(self, qty: int) -> int:
        """Why what the order says beside price and quantity makes no sense."""
        h = self.head
        display, minimum, expiry = (int(h[name]) for name in ("display_qty_lots", "min_qty_lots", "expiry_ts_ns"))
        kind, tif = int(h["type"]), int(h["tif"])
        never_takes = kind == e.LIMIT and tif == e.POST_ONLY
        rests = kind == e.LIMIT and tif in (e.GTC, e.POST_ONLY)
        ways = (
            (r.BAD_FIELD, display < 0 or minimum < 0 or expiry < -1),
            (r.TERMS_OF_RESTING, not rests and (display != 0 or (expiry != 0 and not self._waits()))),
            (r.EXPIRY_PASSED, 0 < expiry <= int(h["ts_ns"])),
            (r.DISPLAY_ABOVE_QUANTITY, display > qty),
            (r.ICEBERG_PARTS, display > 0 and Fraction(qty, max(1, display)) > 100),
            (r.MIN_QTY_MISPLACED, minimum > 0 and (never_takes or kind == e.MARKET_AMOUNT)),
            (r.MIN_QTY_ABOVE_QUANTITY, minimum > qty),
        )
        return next((code for code, wrong in ways if wrong), r.ACCEPTED)

    def _has_terms(self) -> bool:
        return bool(int(self.head["flags"]) & e.FLAG_TERMS) and int(self.head["type"]) != e.AMEND

    def _dress(self, order: Order) -> None:
        if self._has_terms():
            expiry, ts_ns = int(self.head["expiry_ts_ns"]), int(self.head["ts_ns"])
            order.display, order.age = int(self.head["display_qty_lots"]), int(self.head["seq"])
            order.expiry = (ts_ns // DAY_NS + 1) * DAY_NS if expiry == -1 else expiry

    def _minimum_refusal(self, order: Order) -> Any:
        if self._must_rest() and self._would_take(order):
            return r.POST_ONLY_WOULD_TAKE
        wanted = int(self.head["min_qty_lots"]) if self._has_terms() else 0
        return r.MIN_QTY_UNFILLED if wanted and not self._fillable(order, wanted) else r.ACCEPTED

    def _on_expire(self, _group: np.ndarray) -> None:
        """Of all instruments together, the soonest first, and of those the oldest."""
        if self.head["instrument"] != 0:
            self._verdict(r.BAD_FIELD)
            return
        due = [order for order in self.orders.values() if 0 < order.expiry <= int(self.head["ts_ns"])]
        for order in sorted(due, key=lambda order: (order.expiry, order.age)):
            self._cancel(order)
        self._verdict(r.ACCEPTED)
        self.publish()
        lost = self._settle_pegs()
        self._fire_dead_men()
        for instrument, state, begun_by in self.due_auctions():
            self.bands[instrument].breaker_pending = True
            self.outbox.append(Halt(instrument, int(self.head["seq"]), len(self.outcomes), state, 0, begun_by))
        self._emit(e.OUT_DONE, qty_lots=len(due) + lost)

    def _must_not_take(self, order: Order) -> bool:
        return super()._must_not_take(order) or self.state_of(order.instrument) == "post-only"

    def _on_halt(self, _group: np.ndarray) -> None:
        instrument, wanted = int(self.head["instrument"]), e.INSTRUMENT_HALTED
        if self.head["source"] == e.SOURCE_RISK:
            came_back = self._came_back()
            wanted = came_back.state
            self.bands[instrument].breaker_pending = False
            now = self.state_of(instrument)
            interrupts = wanted in (e.INSTRUMENT_HALTED, e.INSTRUMENT_AUCTION)
            ends = now == "auction" and self.auction(instrument).begun_by == came_back.names
            if not (now == "open" if interrupts else ends):
                self._admin(self._verdict(r.ACCEPTED))
                return
        self._set_state(instrument, STATES[wanted])

    def _came_back(self) -> Halt:
        """The oldest command of risk's own, which this one must be."""
        h, cause = self.head, self.head.reshape(1).view(SYSTEM_COMMAND.slot_dtype)[0]
        causes = int(cause["cause_seq"]), int(cause["cause_index"])
        instrument, account, kind = (int(h[name]) for name in ("instrument", "account", "type"))
        price, qty, third = (int(h[name]) for name in ("price_ticks", "qty_lots", "trigger_price_ticks"))
        own = Halt(instrument, *causes)
        if kind == e.SET_STATE:
            own = Halt(instrument, *causes, price, qty, third)
        elif kind == e.CANCEL_ALL:
            own = Halt(instrument, *causes, account=account, session=third, kind=kind)
        assert self.outbox.pop(0) == own
        return own

    def _on_resume(self, _group: np.ndarray) -> None:
        self._set_state(int(self.head["instrument"]), "open")

    def _on_create_account(self, _group: np.ndarray) -> None:
        account = int(self.head["account"])
        if not 1 <= account <= self.n_accounts:
            self._verdict(r.UNKNOWN_ACCOUNT)
        elif account in self.status:
            self._verdict(r.ACCOUNT_EXISTS)
        else:
            self.status[account] = e.ACCOUNT_OPEN
            self._admin(self._verdict(r.ACCEPTED))

    def _on_close_account(self, _group: np.ndarray) -> None:
        account = int(self.head["account"])
        money = [self.free[key] + self.locked[key] for key in self.free if key[0] == account]
        if not self._account_known(account):
            self._verdict(r.UNKNOWN_ACCOUNT)
        elif any(money):
            self._verdict(r.ACCOUNT_NOT_EMPTY)
        else:
            self.status[account] = e.ACCOUNT_CLOSED
            self.frozen.discard(account)
            self._admin(self._verdict(r.ACCEPTED))

    def _on_list_asset(self, group: np.ndarray) -> None:
        asset = int(self.head["asset"])
        ext = _second(group, EXT_ASSET_SLOT.slot_dtype)
        if ext is None:
            self._verdict(r.BAD_LISTING)
        elif not 1 <= asset <= self.assets_max:
            self._verdict(r.UNKNOWN_ASSET)
        elif asset in self.asset_names:
            self._verdict(r.ASSET_EXISTS)
        elif ext["type"] != e.EXT_ASSET or not 0 <= ext["scale"] <= 10:
            self._verdict(r.BAD_LISTING)
        else:
            self.asset_names[asset] = ext["symbol"].decode()
            self.scales[asset] = int(ext["scale"])
            self._admin(self._verdict(r.ACCEPTED))

    def _on_list_instrument(self, group: np.ndarray) -> None:
        code, spec, bands = self._listing(int(self.head["instrument"]), _second(group, EXT_LISTING_SLOT.slot_dtype))
        auction = _auction_rules(group)
        if auction is None and spec is not None:
            code, spec = r.BAD_AUCTION, None
        elif auction is not None and bands is not None:
            bands.dynamic_e8, bands.auction_ns, bands.random_ns, bands.extensions = auction
        if spec is not None:
            instrument, followers = int(self.head["instrument"]), set(self.fees.follows_venue)
            self.fees.list_instrument(instrument, spec.maker_rate_e8, spec.taker_rate_e8)
            if not self.fees.is_sound(int(self.head["ts_ns"])):
                del self.fees.own[instrument]
                self.fees.follows_venue = followers
                code, spec = r.FEES_NET_NEGATIVE, None
        verdict = self._verdict(code)
        if spec is not None and bands is not None:
            self.markets[int(self.head["instrument"])] = Market(spec, spec.k, spec.maker_rate_e8, spec.taker_rate_e8)
            self.bands[int(self.head["instrument"])] = bands
            self._admin(verdict)

    def _listing(self, instrument: int, ext: Any) -> tuple[int, InstrumentSpec | None, Bands | None]:
        if ext is None:
            return r.BAD_LISTING, None, None
        if not 1 <= instrument <= self.instruments_max:
            return r.UNKNOWN_INSTRUMENT, None, None
        if instrument in self.markets:
            return r.INSTRUMENT_EXISTS, None, None
        names = [name for name in ext.dtype.names if name not in {"symbol", "type", "flags", "seq", "ts_ns"}]
        v = {name: int(ext[name]) for name in names}
        if ext["type"] != e.EXT_LISTING:
            return r.BAD_LISTING, None, None
        if v["base"] not in self.asset_names or v["quote"] not in self.asset_names:
            return r.UNKNOWN_ASSET, None, None
        k = Fraction(v["tick_e8"] * v["lot_atoms"] * 10 ** self.scales[v["quote"]], E8 * 10 ** self.scales[v["base"]])
        price_max, qty_max = v["price_max_ticks"], v["qty_max_lots"]
        sound = (
            v["base"] != v["quote"]
            and min(v["tick_e8"], v["lot_atoms"]) > 0
            and k.denominator == 1
            and 0 < k < AMOUNT_LIMIT
        )
        sound = (
            sound
            and v["reference_ticks"] * v["tick_e8"] < AMOUNT_LIMIT
            and min(price_max, qty_max, v["reference_ticks"]) >= 0
        )
        sound = sound and (price_max == 0 or v["reference_ticks"] <= price_max)
        maker, taker = v["maker_rate_e8"], v["taker_rate_e8"]
        if not sound:
            return r.BAD_LISTING, None, None
        if not (0 <= taker < E8 and maker < E8 and maker + taker >= 0):
            return r.BAD_FEE, None, None
        if (
            not _shares_are_sound(v)
            or price_max * qty_max * int(k) >= AMOUNT_LIMIT
            or qty_max * v["lot_atoms"] >= AMOUNT_LIMIT
        ):
            return r.BAD_LISTING, None, None
        spec = InstrumentSpec(
            ext["symbol"].decode(), v["base"], v["quote"], v["tick_e8"], v["lot_atoms"], maker, taker, int(k)
        )
        bands = Bands(v["tick_e8"], v["band_up_e8"], v["band_down_e8"], v["breaker_e8"], v["reference_ticks"])
        bands.price_max_ticks, bands.qty_max_lots = price_max, qty_max
        return r.ACCEPTED, spec, bands

    def _on_set_bands(self, group: np.ndarray) -> None:
        ext = _second(group, EXT_LISTING_SLOT.slot_dtype)
        if ext is None:
            self._verdict(r.BAD_LISTING)
            return
        bands = self.bands.get(int(self.head["instrument"]))
        v = {name: int(ext[name]) for name in ("band_up_e8", "band_down_e8", "breaker_e8", "reference_ticks")}
        if bands is None:
            self._verdict(r.UNKNOWN_INSTRUMENT)
        elif ext["type"] != e.EXT_LISTING or v["reference_ticks"] < 0 or not _shares_are_sound(v):
            self._verdict(r.BAD_LISTING)
        elif v["reference_ticks"] * bands.tick_e8 >= AMOUNT_LIMIT:
            self._verdict(r.RANGE)
        elif (auction := _auction_rules(group)) is None:
            self._verdict(r.BAD_AUCTION)
        else:
            bands.up_e8, bands.down_e8, bands.breaker_e8 = v["band_up_e8"], v["band_down_e8"], v["breaker_e8"]
            bands.dynamic_e8, bands.auction_ns, bands.random_ns, bands.extensions = auction
            if v["reference_ticks"]:
                bands.reference_e8 = v["reference_ticks"] * bands.tick_e8
                bands.samples = []
            self._admin(self._verdict(r.ACCEPTED))

    def _on_set_timer(self, _group: np.ndarray) -> None:
        period = int(self.head["price_ticks"])
        self._admin(self._verdict(r.BAD_FIELD if period != 0 and period < TIMER_PERIOD_MIN_NS else r.ACCEPTED))

    def _on_tick(self, _group: np.ndarray) -> None:
        for bands in self.bands.values():
            bands.tick(always=self.limit_book.has_collars())
        self._admin(self._verdict(r.ACCEPTED))

    def _on_checkpoint(self, _group: np.ndarray) -> None:
        self._verdict(r.ACCEPTED)
        self._emit(e.OUT_CHECKPOINT)

    def _on_unknown(self, _group: np.ndarray) -> None:
        self._verdict(r.UNSUPPORTED)

    def _admin(self, verdict: Verdict) -> None:
        if verdict.code == r.ACCEPTED:
            self._emit(e.OUT_ADMIN)

    # ---------------------------------------------------------------------------------------------- refusals, matching

    def _account_known(self, account: int) -> bool:
        return self.status.get(account) == e.ACCOUNT_OPEN

    def _entry_refusal(
        self, account: int, instrument: int, price: int, qty: int, out_of_range: Callable[[Market, int, int], bool]
    ) -> Any:
        h = self.head
        kind = int(h["type"])
        entering = kind != e.AMEND
        known = self._account_known(account) and instrument in self.markets
        if known and entering:
            if h["side"] > e.SELL or h["stp"] > e.STP_DECREMENT or (kind == e.LIMIT and h["tif"] > e.POST_ONLY):
                return r.BAD_FIELD
            if self._is_peg() and self._peg_code():
                return self._peg_code()
            if self._waits() and self._trigger_code(self.bands[instrument].tick_e8):
                return self._trigger_code(self.bands[instrument].tick_e8)
            if kind != e.LIMIT and price == 0 and (self.bands[instrument].on or self._collar(instrument)):
                return r.NO_REFERENCE_PRICE

        if known and entering and price >= 1 and qty >= 1 and self._has_terms() and self._terms_code(qty):
            return self._terms_code(qty)

        def beyond(market: Market, price: int, qty: int) -> bool:
            bands = self.bands[instrument]
            limited = kind != e.MARKET_AMOUNT
            too_many = limited and 0 < bands.qty_max_lots < qty
            return out_of_range(market, price, qty) or too_many or (limited and 0 < bands.price_max_ticks < price)

        code: int = super()._entry_refusal(account, instrument, price, qty, beyond)
        if self._is_exit():
            code = self._exit_refusal(code, instrument)
        elif code == r.ACCEPTED:
            code = self._state_code(instrument)
        if code == r.ACCEPTED and not self._is_exit():
            by_amount = kind == e.MARKET_AMOUNT
            lot_value = price * self.markets[instrument].k
            lots, value = (qty // lot_value, qty) if by_amount else (qty, lot_value * qty)
            code = self._limit_code(account, instrument, lots, value)
        if code == r.ACCEPTED and kind == e.LIMIT:
            code = self._band_code(instrument, int(h["side"]), price)
        return self._exits_code() if code == r.ACCEPTED and self._has_exits() else code

    def _band_code(self, instrument: int, side: int, price: int) -> int:
        bands = self._bands_of(instrument)
        if bands.forbids(side, price):
            return r.PRICE_BAND
        return r.PRICE_COLLAR if bands.is_beyond(side, price, self._collar(instrument)) else r.ACCEPTED

    def _verdict(self, code: int, x: int = 0, y: int = 0) -> Verdict:
        if code == r.UNKNOWN_ACCOUNT and self.status.get(int(self.head["account"])) == e.ACCOUNT_CLOSED:
            code = r.ACCOUNT_CLOSED
        self.messages += 1
        self.codes[int(code)] = self.codes.get(int(code), 0) + 1
        if code != r.ACCEPTED:
            h = self.head
            self._emit(
                e.OUT_REJECTED, reason=code, side=h["side"], price_ticks=h["price_ticks"], qty_lots=h["qty_lots"]
            )
        if self.name_taken is not None:
            self._tell_first(self.name_taken)
            self.name_taken = None
        return Verdict(code, x, y)  # type: ignore[arg-type]

    def _take_then_rest_or_drop(self, taker: Order, *, may_rest: bool) -> Verdict:
        amends = self.head["type"] == e.AMEND
        if not amends and int(self.head["flags"]) & e.FLAG_API:
            self.api.add(taker.id)
        if not amends:
            self._keep_exits(taker)
        self._own(e.OUT_REPLACED if amends else e.OUT_NEW, taker, 0, self._total(taker), self._left(taker))
        if self.ids is not None and not amends:
            self._emit_ids()
        key = None if amends else self._client_key()
        if key is not None:
            self.client_ids.take(key, taker.id)
        dropped = r.BY_IOC if self.head["type"] == e.LIMIT else r.BY_NO_LIQUIDITY
        quiet = not amends and self.ids is None
        self._trade_on(taker, may_rest=may_rest, dropped=dropped, quiet=quiet)
        return self._verdict(r.ACCEPTED)

    def _trade_on(self, taker: Order, *, may_rest: bool, dropped: int, refused: int = 0, quiet: bool = False) -> None:
        """Trade, then rest or be dropped; ``quiet``: an order that rests at once has said so when it was new."""
        said = len(self.outcomes)
        expired = not refused and self._match(taker)
        left = self._left(taker)
        if may_rest and not expired and not refused and left:
            self._enter_book(taker)
            if not quiet or len(self.outcomes) != said:
                self._own(e.OUT_RESTED, taker, 0, self._total(taker), left)
            return
        self._lock(taker, -self._hold_of(taker))
        if left:
            by = refused or (r.BY_STP if expired else dropped)
            self._own(e.OUT_EXPIRED, taker, by, left, 0)
            self._ended(taker, e.ORDER_STATE_EXPIRED, by)
        else:
            self._ended(taker, self.state_if_gone, r.BY_STP if self.state_if_gone == e.ORDER_STATE_EXPIRED else 0)

    def _rate_of(self, order: Order, *, taker: bool) -> Rate:
        groups = self._group(order.account)
        return self.fees.rate(
            order.account,
            groups.master,
            groups.firm,
            order.instrument,
            int(self.head["ts_ns"]),
            taker=taker,
            api=order.id in self.api,
        )

    def _rates(self, taker: Order, maker: Order) -> tuple[int, int]:
        self.rules = [self._rate_of(order, taker=order is taker) for order in (taker, maker)]
        return self.rules[0].rate, self.rules[1].rate

    def _would_take(self, order: Order) -> bool:
        return not self.gathers(order.instrument) and super()._would_take(order)

    def _match(self, taker: Order) -> bool:
        return not self.gathers(taker.instrument) and super()._match(taker)

    def _enter_book(self, order: Order) -> None:
        if not self.gathers(order.instrument):
            super()._enter_book(order)
            return
        order.hide()
        self.auction(order.instrument).orders.append(order)
        self.orders[order.id] = order

    def _leave_book(self, order: Order) -> None:
        gathered = self.auction(order.instrument).orders
        if order in gathered:
            gathered.remove(order)
            del self.orders[order.id]
        else:
            super()._leave_book(order)

    def _fill(self, taker: Order, maker: Order, lots: int) -> None:
        self._end_partner(maker)
        if self._counts(maker, lots):
            self.pulled_by = maker
        self.charges = []
        super()._fill(taker, maker, lots)
        quote = self.markets[taker.instrument].spec.quote
        value = maker.price * lots * self.markets[taker.instrument].k
        for order in (taker, maker):
            units = min(value * self.volume_rates.get(quote, 0) // E8, AMOUNT_LIMIT - 1)
            self.fees.add_volume(self._group(order.account).master, int(self.head["ts_ns"]), units)
        for kind, (wallet, fee) in zip(("taker", "maker"), self.charges, strict=True):
            key = ("rebate" if fee < 0 else kind, wallet[1])
            self.revenue[key] = self.revenue.get(key, 0) + abs(fee)
        market, bands = self.markets[taker.instrument], self.bands[taker.instrument]
        bands.last_ticks = maker.price
        self.path.append((taker.instrument, maker.price))
        if bands.breaks(maker.price, self.before[taker.instrument]) and not bands.breaker_pending:
            bands.breaker_pending = True
            self._interrupt(taker.instrument)
        for order, other, (wallet, fee), rule, flags in zip(
            (taker, maker), (maker, taker), self.charges, self.rules, (e.OUTCOME_TAKER, 0), strict=True
        ):
            self._order_outcome(
                e.OUT_TRADE,
                order,
                self._received_in(order)[1],
                qty_lots=lots,
                leaves_qty_lots=self._left(order),
                flags=flags,
                value_units=maker.price * lots * market.k,
                fee_units=fee,
                fee_asset=wallet[1],
                reason=rule.rule,
                fee_tier=rule.tier,
                contra_order_id=other.id,
                price_ticks=maker.price,
            )

        for order in (taker, maker):
            self.client_ids.traded(order.id, maker.price * lots * market.k)
        self.state_if_gone = e.ORDER_STATE_FILLED
        if maker.left == 0:
            self._ended(maker, e.ORDER_STATE_FILLED, 0)

    def _interrupt(self, instrument: int) -> None:
        bands, seq = self.bands[instrument], int(self.head["seq"])
        halt = Halt(instrument, seq, len(self.outcomes))
        if bands.auction_ns:
            end = int(self.head["ts_ns"]) + bands.auction_ns + random_part(seq, instrument, bands.random_ns)
            halt = halt._replace(state=e.INSTRUMENT_AUCTION, end_ts_ns=end, names=e.INSTRUMENT_OPEN)
        self.outbox.append(halt)

    def _charge(self, wallet: tuple[int, int], amount: int) -> None:
        super()._charge(wallet, amount)
        self.charges.append((wallet, amount))

    def _expire_maker(self, maker: Order) -> None:
        self._end_partner(maker)
        left = maker.left
        super()._expire_maker(maker)
        self._own(e.OUT_CANCELED, maker, r.BY_STP, left, 0)
        self._ended(maker, e.ORDER_STATE_CANCELED, r.BY_STP)

    def _decrement(self, taker: Order, maker: Order, lots: int) -> None:
        self._end_partner(maker)
        super()._decrement(taker, maker, lots)
        self._own(e.OUT_PREVENTED, taker, r.BY_STP, lots, self._left(taker), e.OUTCOME_TAKER)
        self._own(e.OUT_PREVENTED, maker, r.BY_STP, lots, maker.left)
        self.state_if_gone = e.ORDER_STATE_EXPIRED
        if maker.left == 0:
            self._ended(maker, e.ORDER_STATE_EXPIRED, r.BY_STP)

    def _cancel(self, order: Order) -> None:
        left = order.left
        if self.head["type"] == e.CANCEL:
            self._end_partner(order)
        super()._cancel(order)
        reasons = {e.CANCEL: r.BY_USER, e.KILL: r.BY_KILL, e.SET_STATE: r.BY_DELISTING, e.EXPIRE: r.BY_EXPIRY}
        reason = reasons.get(int(self.head["type"]), r.BY_CANCEL_ALL)
        kind, account, source = (int(self.head[name]) for name in ("type", "account", "source"))
        cause = int(self.head["qty_lots"]) if kind == e.CANCEL_ALL else 0
        reason = {1: r.BY_DISCONNECT, 2: r.BY_DEAD_MAN}.get(cause, reason)
        self._own(e.OUT_CANCELED, order, reason, left, 0)
        if order.id in self.partners:
            self._unlink(order)
        self.more.pop(order.id, None)
        if not cause and is_own(kind, account, source, order.account):
            self.client_ids.free(order.id)
            self._end_exits(order)
        else:
            self._ended(order, e.ORDER_STATE_CANCELED, reason)

    # -------------------------------------------------------------------------------------------------------- outcomes

    def _left(self, order: Order) -> int:
        return order.left if order.amount_left is None else order.amount_left

    def _total(self, order: Order) -> int:
        return order.total if order.amount_left is None else self.amounts[order.id]

    def _emit(self, kind: int, **fields: Any) -> None:
        h = self.head
        out = np.zeros((), dtype=OUTCOME_DTYPE)
        for name in ("seq", "ts_ns", "account", "instrument", "order_id", "source", "type", "source_seq"):
            out[name] = h[name]
        out["index"] = len(self.outcomes)
        out["kind"] = kind
        for name, value in fields.items():
            out[name] = value
        self.outcomes.append(out)

    def _emit_ids(self) -> None:
        assert self.ids is not None
        self._emit(e.OUT_IDS)
        ids = self.outcomes[-1].reshape(1).view(IDS_DTYPE)[0]
        for name in ("client_order_id", "link_id", "tag"):
            ids[name] = self.ids[name]

    def _own(self, kind: int, order: Order, reason: int, qty: int, left: int, flags: int = 0, **more: int) -> None:
        said = {"reason": reason, "qty_lots": qty, "leaves_qty_lots": left, "flags": flags}
        said["contra_order_id"] = self.partners[order.id].id if order.id in self.partners else 0
        self._order_outcome(kind, order, self._paid_with(order)[1], **(said | more))

    def _order_outcome(self, kind: int, order: Order, asset: int, **fields: Any) -> None:
        about = {"account": order.account, "instrument": order.instrument, "order_id": order.id, "side": order.side}
        about |= {"price_ticks": order.bound, "cum_qty_lots": order.traded}
        about |= self._balances(order.account, asset, self._paid_with(order)[1])
        self._emit(kind, **(about | fields))

    def _balances(self, account: int, asset: int, paid: int) -> dict[str, int]:
        return {"asset": asset, "free_units": self.free[account, asset], "locked_units": self.locked[account, paid]}

    # ------------------------------------------------------------------------------------------------- risk's commands

    def halt_command(self, entry: Halt | None = None) -> np.ndarray:
        """The oldest command of risk's own that has not come back, as the sequencer puts it; ``sent`` counts their slots."""
        own = entry or self.outbox[0]
        self.sent += 1
        if isinstance(own, Halt):
            return halt_slot(own, self.sent)
        group = own.group.copy()
        group["version"][0], group["source"][0], group["source_seq"][0] = VERSION, e.SOURCE_RISK, self.sent
        self.sent += len(group) - 1
        return group


def halt_slot(halt: Halt, number: int) -> np.ndarray:
    """A command of risk's own as command ``number`` of its source; seq and time are missing."""
    slot = command_slots(1)
    slot["type"] = halt.kind
    slot["flags"] = e.FLAG_SYSTEM
    slot["instrument"] = halt.instrument
    if halt.kind == e.CANCEL_ALL:
        slot["account"], slot["trigger_price_ticks"] = halt.account, halt.session
        slot["qty_lots"] = e.CAUSE_DEAD_MAN
    elif halt.state != e.INSTRUMENT_HALTED:
        slot["type"] = e.SET_STATE
        slot["price_ticks"], slot["qty_lots"] = halt.state, halt.end_ts_ns
        slot["trigger_price_ticks"] = halt.names
    slot["source"] = e.SOURCE_RISK
    slot["source_seq"] = number
    system = slot.view(SYSTEM_COMMAND.slot_dtype)
    system["cause_seq"] = halt.cause_seq
    system["cause_index"] = halt.cause_index
    return slot


def _second(group: np.ndarray, dtype: np.dtype) -> Any:
    """The group's second slot, None where it has none."""
    return group.view(dtype)[1] if len(group) > 1 else None


def _auction_rules(group: np.ndarray) -> tuple[int, int, int, int] | None:
    """Dynamic band, length, random part and extensions of an interruption's auction; None where they make no sense."""
    slots = group[2:].view(EXT_AUCTION_SLOT.slot_dtype)
    if len(slots) == 0 or slots["type"][0] != e.EXT_AUCTION:
        return 0, 0, 0, 0
    dynamic, length, random, times = (
        int(slots[name][0]) for name in ("dynamic_e8", "auction_ns", "random_ns", "extensions")
    )
    sound = 0 <= dynamic <= E8 and 0 <= random <= length <= DAY_NS and 0 <= times <= (100 if length else 0)
    return (dynamic, length, random, times) if sound else None


def _shares_are_sound(v: dict[str, int]) -> bool:
    return 0 <= v["band_up_e8"] <= E8 and 0 <= v["band_down_e8"] < E8 and 0 <= v["breaker_e8"] <= E8
