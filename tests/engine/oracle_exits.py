"""What the oracle knows of brackets: exits of orders, and how they enter, as docs/matching.md says."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from protocol import enums as e
from protocol import reasons as r
from protocol.records import COMMAND_DTYPE, EXT_IDS_SLOT, EXT_LEG_SLOT, SYSTEM_COMMAND
from tests.engine.client_ids import Ended
from tests.engine.oracle_linked import pair_code
from tests.naive.exchange import NaiveExchange, Order, Side

ORDERS = (e.LIMIT, e.MARKET, e.MARKET_AMOUNT)
MEANS = e.FLAG_TRIGGER | e.FLAG_TAKE_PROFIT


@dataclass
class Bracket:
    """Of an open order: the slots of its exits, and what it has received net of fees."""

    order: Order
    slots: np.ndarray
    flags: int
    session: int
    received: int = 0


class OwnExits(NamedTuple):
    """Exits that have been asked for and have not come back."""

    group: np.ndarray
    instrument: int
    kind: int = e.LIMIT


class ExitRules(NaiveExchange):
    """To be mixed into the oracle. ``brackets`` by order id; ``group``: the command that is applied."""

    head: Any
    group: np.ndarray
    outbox: list[Any]
    outcomes: list[np.ndarray]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.brackets: dict[int, Bracket] = {}
        self.name_taken: int | Ended | None = None

    def _is_exit(self) -> bool:
        return int(self.head["source"]) == e.SOURCE_RISK and int(self.head["type"]) in ORDERS

    def _has_exits(self) -> bool:
        """Whether the command is an order with exits: the second order of its list is one."""
        if not int(self.head["flags"]) & e.FLAG_LEGS or int(self.head["type"]) not in ORDERS:
            return False
        at = 2 if len(self.group) > 1 and self.group["type"][1] == e.EXT_IDS else 1
        legs = self.group[at : at + 1].view(EXT_LEG_SLOT.slot_dtype)
        return len(legs) > 0 and legs["type"][0] == e.EXT_LEG and legs["role"][0] == e.LEG_EXIT

    def _ids_of_head(self) -> Any:
        """The slot with the command's own ids, None where it has none."""
        slots = self.group[1:].view(EXT_IDS_SLOT.slot_dtype)
        if self._has_exits():
            slots = slots[:1]
        slots = slots[slots["type"] == e.EXT_IDS]
        return slots[-1] if len(slots) else None

    # ------------------------------------------------------------------------------------------------------ the form

    def _legs(self) -> np.ndarray:
        """The slots behind the head and its ids, but not who sent it and why."""
        slots = self.group[1:] if self._ids_of_head() is None else self.group[2:]
        return slots[:-1] if len(slots) and slots[-1]["type"] == e.EXT_ADMIN else slots

    def _exits_code(self) -> int:
        """Why the exits of a new order make no sense, one slot after the other."""
        slots, h = self._legs(), self.head
        first = 1 if self._ids_of_head() is None else 2
        named = [] if self._ids_of_head() is None else [bytes(self._ids_of_head()["client_order_id"])]
        exits = 0
        for k, slot in enumerate(slots):
            if slot["type"] == e.EXT_IDS and k > 0 and slots[k - 1]["type"] == e.EXT_LEG:
                name = bytes(slots[k : k + 1].view(EXT_IDS_SLOT.slot_dtype)["client_order_id"][0])
                if name and name in named:
                    return r.EXIT_IDS
                named.append(name)
                found = self.client_ids.first((int(h["account"]), name), int(h["ts_ns"])) if name else None  # type: ignore[attr-defined]
                if found is not None:
                    self.name_taken = found
                    return r.DUPLICATE_CLIENT_ID
                continue
            leg = slots[k : k + 1].view(EXT_LEG_SLOT.slot_dtype)[0]
            if slot["type"] != e.EXT_LEG or leg["role"] != e.LEG_EXIT or exits == 2:
                return r.EXIT_FORM
            if leg["order_id"] != (int(h["source"]) << 40) + int(h["source_seq"]) + first + k:
                return r.BAD_FIELD
            exits += 1
            code = self._exit_code(leg)
            if code:
                return code
        legs = [self._as_order(slots[k : k + 1]) for k in range(len(slots)) if slots[k]["type"] == e.EXT_LEG]
        return pair_code(*legs) if exits == 2 else r.ACCEPTED

    @staticmethod
    def _as_order(slot: np.ndarray) -> Any:
        order = slot.copy()[0]
        order["type"] = slot.view(EXT_LEG_SLOT.slot_dtype)["order_type"][0]
        return order

    def _exit_code(self, leg: Any) -> int:
        h = self.head
        instrument = int(h["instrument"])
        market, bands = self.markets[instrument], self.bands[instrument]  # type: ignore[attr-defined]
        kind, tif, flags = (int(leg[name]) for name in ("order_type", "tif", "flags"))
        price, qty, trigger = (int(leg[name]) for name in ("price_ticks", "qty_lots", "trigger_price_ticks"))
        offset_kind, offset = int(leg["offset_kind"]), int(leg["offset"])
        stops, takes_profit = bool(flags & e.FLAG_TRIGGER), bool(flags & e.FLAG_TAKE_PROFIT)
        same = all(leg[name] == h[name] for name in ("account", "instrument")) and leg["side"] == 1 - int(h["side"])
        known = MEANS | e.FLAG_MORE | e.FLAG_API | e.FLAG_BATCH
        protected = bands.on or self._collar(instrument)  # type: ignore[attr-defined]
        no_price = kind == e.MARKET and price == 0
        ways = (
            (r.EXIT_FORM, not same or kind not in (e.LIMIT, e.MARKET) or flags & ~known),
            (r.EXIT_FORM, kind == e.LIMIT and tif == e.FOK),
            (r.BAD_FIELD, leg["stp"] > e.STP_DECREMENT or (kind == e.LIMIT and tif > e.POST_ONLY)),
            (r.BAD_TRIGGER, stops and (leg["trigger_ref"] > 2 or (offset_kind == 0 and trigger < 1))),
            (r.BAD_OFFSET, stops and (offset_kind > 2 or (offset_kind and offset < 1))),
            (r.BAD_OFFSET, stops and offset_kind == 2 and offset > 9_999),
            (r.OFFSET_MISPLACED, stops and offset_kind and takes_profit),
            (r.BAD_ACTIVATION, stops and offset_kind and trigger < 0),
            (r.RANGE, stops and trigger * bands.tick_e8 >= 1 << 62),
            (r.NO_REFERENCE_PRICE, no_price and not protected),
            (r.BAD_PRICE, price < 1 and not no_price),
            (r.BAD_QUANTITY, qty < 1),
            (r.EXIT_QUANTITY, h["type"] != e.MARKET_AMOUNT and qty > h["qty_lots"]),
            (r.RANGE, self._beyond(market, bands, max(price, 1), qty)),  # type: ignore[attr-defined]
        )
        return next((code for code, wrong in ways if wrong), r.ACCEPTED)

    # ------------------------------------------------------------------------------------------- the life of the entry

    def _keep_exits(self, order: Order) -> None:
        """A new order is accepted."""
        if self._has_exits():
            flags = int(self.head["flags"]) & e.FLAG_API
            self.brackets[order.id] = Bracket(order, self._legs().copy(), flags, int(self.head["session"]))

    def _count_received(self, order: Order, units: int) -> None:
        """An order received so much net of its fee."""
        if order.id in self.brackets:
            self.brackets[order.id].received += units

    def _fill(self, taker: Order, maker: Order, lots: int) -> None:
        super()._fill(taker, maker, lots)
        market = self.markets[taker.instrument]
        value, base = maker.price * lots * market.k, lots * market.spec.lot_atoms
        for order, (wallet, fee) in zip((taker, maker), self.charges, strict=True):  # type: ignore[attr-defined]
            paid = max(0, fee) if wallet == self._received_in(order) else 0
            self._count_received(order, (base if order.side == Side.BUY else value) - paid)

    def _end_exits(self, order: Order) -> None:
        """An order has ended: as much of its exits is asked for as it traded, and received in whole lots."""
        bracket = self.brackets.pop(order.id, None)
        if bracket is None:
            return
        lots = order.traded
        if order.side == Side.BUY:
            lots = min(lots, bracket.received // self.markets[order.instrument].spec.lot_atoms)
        if lots == 0:
            return
        mine = [n for n, out in enumerate(self.outcomes) if out["order_id"] == order.id and out["kind"] != e.OUT_IDS]
        index = mine[-1]
        if self.outcomes[index]["kind"] == e.OUT_TRADE:
            # It ends behind what the trade says to either side: the buyer of an auction and a taker are told first.
            sides = {order.id, int(self.outcomes[index]["contra_order_id"])}
            told = [{int(out["order_id"]), int(out["contra_order_id"])} for out in self.outcomes]
            index = max(n for n, pair in enumerate(told) if pair == sides)
        group = self._exits_group(bracket, lots)
        system = group[:1].view(SYSTEM_COMMAND.slot_dtype)
        system["cause_seq"], system["cause_index"] = self.head["seq"], index
        self.outbox.append(OwnExits(group, order.instrument))

    def _exits_group(self, bracket: Bracket, lots: int) -> np.ndarray:
        group = np.zeros(len(bracket.slots), dtype=COMMAND_DTYPE)
        for k, slot in enumerate(bracket.slots):
            more = e.FLAG_MORE if k + 1 < len(bracket.slots) else 0
            if slot["type"] == e.EXT_IDS:
                group[k] = slot
                group[k]["flags"] = more
                continue
            leg = bracket.slots[k : k + 1].view(EXT_LEG_SLOT.slot_dtype)[0]
            names = ("side", "tif", "stp", "account", "instrument", "order_id", "price_ticks", "trigger_price_ticks")
            for name in (*names, "trigger_ref", "offset_kind"):
                group[k][name] = leg[name]
            group[k]["sub_account"] = leg["offset"]
            group[k]["qty_lots"] = min(int(leg["qty_lots"]), lots)
            group[k]["flags"] = int(leg["flags"]) & MEANS | more
            if k == 0:
                group[k]["type"] = leg["order_type"]
                group[k]["session"] = bracket.session
                group[k]["flags"] |= bracket.flags | e.FLAG_SYSTEM
            else:
                group[k]["type"], group[k]["margin_mode"] = e.EXT_LEG, leg["order_type"]
                group[0]["flags"] |= e.FLAG_LEGS
        return group

    # ---------------------------------------------------------------------------------------------- when they come back

    def _exits_came_back(self) -> None:
        """They are those that were asked for."""
        own = self.outbox.pop(0)
        assert isinstance(own, OwnExits)
        named = [
            name
            for name in COMMAND_DTYPE.names or ()
            if name not in ("seq", "ts_ns", "source", "source_seq", "version")
        ]
        assert own.group[named].tolist() == self.group[named].tolist()

    def _must_rest(self) -> bool:
        """Whether the command's exits may not trade now."""
        state = self.state_of(int(self.head["instrument"]))  # type: ignore[attr-defined]
        return self._is_exit() and (state != "open" or self.maintenance)  # type: ignore[attr-defined]

    def _exit_refusal(self, code: int, instrument: int) -> int:
        """Why account or market refuse exits; ``code``: what they would say to another order."""
        state, kind, tif = self.state_of(instrument), int(self.head["type"]), int(self.head["tif"])  # type: ignore[attr-defined]
        if code not in (r.ACCEPTED, r.INSTRUMENT_HALTED):
            return code
        if state == "delisted":
            return r.INSTRUMENT_DELISTED
        immediate = (kind != e.LIMIT or tif == e.IOC) and not self._waits()  # type: ignore[attr-defined]
        if immediate and self._must_rest():
            named = {"open": r.MAINTENANCE, "halted": r.INSTRUMENT_HALTED, "post-only": r.INSTRUMENT_POST_ONLY}
            named |= {"cancel-only": r.INSTRUMENT_CANCEL_ONLY, "closed": r.INSTRUMENT_CLOSED}
            return named.get(state, r.IMMEDIATE_IN_AUCTION)
        scopes = self._scopes_of(int(self.head["account"]), instrument)  # type: ignore[attr-defined]
        killed = any(scope in self.limit_book.killed for scope in scopes)  # type: ignore[attr-defined]
        return r.KILLED if killed else r.ACCEPTED
