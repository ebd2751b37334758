"""The life of one order (or withdrawal hold): the commands and outcomes that concerned it, in order, and what became of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import numpy as np

from persistence.commands import SIDES, command_answers
from persistence.listings import Listings
from persistence.moments import iso_time
from persistence.quoted import quote_command, quoted_order
from protocol import enums as e
from protocol import reasons as r
from protocol.build import heads
from protocol.instruments import Instrument, plain
from protocol.records import OUTCOME_DTYPE, OUTCOME_DUPLICATE, OUTCOME_IDS, command_slots

_KINDS: Final = {number: name.lower() for number, name in e.names("OUT_").items()}
_ENDED: Final = frozenset({"filled", "canceled", "expired", "rejected", "settled", "released"})


class OrderLife:
    """Collects what concerned an order while its engine is fed: ``observe`` the slots first, then ``keep`` their outcomes.

    Parameters
    ----------
    order_id : int
    listings : what is listed before the first slot observed
    """

    def __init__(self, order_id: int, listings: Listings) -> None:
        self._order_id = order_id
        self._listings = listings
        self._slots = command_slots(0)
        self._commands: dict[int, dict[str, Any]] = {}
        self._head: np.void | None = None
        self._client_order_id = ""
        self._cum_lots = 0
        self._leaves: int | None = None
        self._value_units = 0
        self._fees: dict[int, int] = {}
        self._fills: list[dict[str, Any]] = []
        self._price_ticks = 0
        self._qty = 0
        self._state = "unknown"
        self._end: dict[str, Any] | None = None
        self._reason = 0

    @property
    def seen(self) -> bool:
        """Whether anything became of the order; a quote need not bring one."""
        return self._state != "unknown"

    @property
    def ended(self) -> bool:
        """Whether nothing but refusals can concern it any more."""
        return self._state in _ENDED

    def observe(self, slots: np.ndarray) -> None:
        """The slots that are fed next; whole groups."""
        self._listings.observe(slots)
        self._slots = slots
        at = np.flatnonzero(heads(slots) & (slots["order_id"] == self._order_id))
        for row in at.tolist():
            head = slots[row]
            if self._head is None and head["type"] in {e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.WITHDRAW_HOLD}:
                self._head = head.copy()
                self._price_ticks, self._qty = int(head["price_ticks"]), int(head["qty_lots"])
            self._command(int(head["seq"]))
        if self._head is None and (quoted := quoted_order(slots, self._order_id)) is not None:
            self._head = quoted[0]
            self._price_ticks, self._qty = int(quoted["price_ticks"][0]), int(quoted["qty_lots"][0])
            self._command(quote_command(slots, self._order_id))

    def keep(self, outcomes: np.ndarray) -> None:
        """Outcomes of the engine, in order."""
        for row in outcomes[(outcomes["order_id"] == self._order_id) & (outcomes["kind"] != e.OUT_QUOTE)]:
            if row["kind"] == e.OUT_IDS:
                ids = np.array([row], dtype=OUTCOME_DTYPE).view(OUTCOME_IDS.slot_dtype)[0]
                self._client_order_id = ids["client_order_id"].decode(errors="replace")
                continue
            command = self._command(int(row["seq"]))
            command["outcomes"].append(self._outcome(row))

    def answer(self) -> dict[str, Any]:
        """What is known, as ``cambist inspect order --json`` prints it."""
        head = self._head
        assert head is not None, "the life begins with the command that brought the order"
        common = {
            "order_id": self._order_id,
            "account": int(head["account"]),
            "state": self._state,
            "final": self.ended,
            "reason": r.NAME.get(self._reason) if self._reason else None,
            "entered": {"seq": int(head["seq"]), "ts_ns": int(head["ts_ns"]), "time": iso_time(int(head["ts_ns"]))},
            "ended": self._end,
        }
        history = [self._commands[seq] for seq in sorted(self._commands)]
        if head["type"] == e.WITHDRAW_HOLD:
            asset = self._listings.assets.get(int(head["asset"]))
            amount = asset.amount(self._qty) if asset else str(self._qty)
            kind = {"kind": "withdrawal hold", "asset": asset.symbol if asset else str(head["asset"]), "amount": amount}
            return {**common, **kind, "amount_units": self._qty, "history": history}
        instrument = self._listings.instruments.get(int(head["instrument"]))
        by_amount = head["type"] == e.MARKET_AMOUNT
        return {
            **common,
            "kind": "order",
            "client_order_id": self._client_order_id or None,
            "symbol": self._listings.symbol(int(head["instrument"])),
            "side": SIDES.get(int(head["side"]), str(head["side"])),
            "type": e.COMMAND_NAMES[int(head["type"])].lower(),
            "price": _price(instrument, self._price_ticks),
            "price_ticks": self._price_ticks,
            "qty": _amount(instrument, self._qty) if by_amount else _qty(instrument, self._qty),
            "qty_lots": None if by_amount else self._qty,
            "cum_qty": _qty(instrument, self._cum_lots),
            "cum_qty_lots": self._cum_lots,
            "leaves_qty": None
            if self._leaves is None
            else _amount(instrument, self._leaves)
            if by_amount
            else _qty(instrument, self._leaves),
            "value": _amount(instrument, self._value_units),
            "value_units": self._value_units,
            "avg_price": self._average(instrument),
            "fees": self._fees_paid(),
            "fills": self._fills,
            "history": history,
        }

    def _command(self, seq: int) -> dict[str, Any]:
        """The entry of the command whose head has this number."""
        if seq not in self._commands:
            at = int(np.searchsorted(self._slots["seq"], seq))
            end = at
            while self._slots["flags"][end] & e.FLAG_MORE:
                end += 1
            (answer,) = command_answers(self._slots[at : end + 1], self._listings)
            answer["outcomes"] = []
            self._commands[seq] = answer
        return self._commands[seq]

    def _outcome(self, row: np.void) -> dict[str, Any]:
        kind = int(row["kind"])
        reason = 0 if kind == e.OUT_TRADE else int(row["reason"])
        instrument = self._listings.instruments.get(int(row["instrument"]))
        self._follow(row, kind, reason)
        shown: dict[str, Any] = {"index": int(row["index"]), "kind": _KINDS[kind], "state": self._state}
        if reason:
            shown |= {"reason": r.NAME.get(reason, str(reason)), "text": r.TEXT.get(reason, "")}
        if kind == e.OUT_BALANCE:
            asset = self._listings.assets.get(int(row["asset"]))
            units = int(row["value_units"])
            return shown | {"amount": asset.amount(units) if asset else str(units), "amount_units": units}
        if kind == e.OUT_REJECTED:
            return shown | self._first_order(row, reason)
        shown |= {"price": _price(instrument, int(row["price_ticks"])), "price_ticks": int(row["price_ticks"])}
        shown |= {"cum_qty": _qty(instrument, int(row["cum_qty_lots"])), "qty": _qty(instrument, int(row["qty_lots"]))}
        if kind == e.OUT_TRADE:
            shown |= self._fill(row, instrument)
        return shown

    def _first_order(self, row: np.void, reason: int) -> dict[str, Any]:
        if reason != r.DUPLICATE_CLIENT_ID:
            return {}
        first = np.array([row], dtype=OUTCOME_DTYPE).view(OUTCOME_DUPLICATE.slot_dtype)[0]
        return {"first_order_id": int(first["first_order_id"])}

    def _fill(self, row: np.void, instrument: Instrument | None) -> dict[str, Any]:
        asset = self._listings.assets.get(int(row["fee_asset"]))
        fee, value = int(row["fee_units"]), int(row["value_units"])
        self._fees[int(row["fee_asset"])] = self._fees.get(int(row["fee_asset"]), 0) + fee
        self._value_units += value
        fill = {
            "value": _amount(instrument, value),
            "value_units": value,
            "fee": asset.amount(fee) if asset else str(fee),
            "fee_units": fee,
            "fee_asset": asset.symbol if asset else None,
            "contra_order_id": int(row["contra_order_id"]),
            "fee_rule": int(row["reason"]),
            "fee_tier": int(row["fee_tier"]) & ~e.FEE_TIER_API,
            "api_discount": bool(int(row["fee_tier"]) & e.FEE_TIER_API),
            "role": "taker" if row["flags"] & e.OUTCOME_TAKER else "maker",
        }
        place = {"seq": int(row["seq"]), "index": int(row["index"]), "ts_ns": int(row["ts_ns"])}
        ticks, lots = int(row["price_ticks"]), int(row["qty_lots"])
        what = {
            "price": _price(instrument, ticks),
            "qty": _qty(instrument, lots),
            "price_ticks": ticks,
            "qty_lots": lots,
        }
        self._fills.append(place | what | fill)
        return fill

    def _follow(self, row: np.void, kind: int, reason: int) -> None:
        """The order's state after an outcome; a refused cancel or amend leaves it as it is."""
        head = self._head
        first = head is not None and row["seq"] == head["seq"]
        if kind == e.OUT_REJECTED:
            if first:
                self._finish("rejected", row, reason)
            return
        if kind == e.OUT_BALANCE:
            if first:
                self._state = "held"
            else:
                self._finish("settled" if row["type"] == e.WITHDRAW_SETTLE else "released", row, 0)
            return
        self._cum_lots, self._leaves = int(row["cum_qty_lots"]), int(row["leaves_qty_lots"])
        if kind == e.OUT_REPLACED:
            self._price_ticks, self._qty = int(row["price_ticks"]), int(row["qty_lots"])
        if kind == e.OUT_CANCELED:
            self._finish("canceled", row, reason)
        elif kind == e.OUT_EXPIRED:
            self._finish("expired", row, reason)
        elif kind == e.OUT_TRADE and self._leaves == 0:
            self._finish("filled", row, 0)
        else:
            self._state = "partially filled" if self._cum_lots else "new" if kind == e.OUT_NEW else "open"

    def _finish(self, state: str, row: np.void, reason: int) -> None:
        self._state, self._reason = state, reason
        self._end = {"seq": int(row["seq"]), "ts_ns": int(row["ts_ns"]), "time": iso_time(int(row["ts_ns"]))}

    def _average(self, instrument: Instrument | None) -> str | None:
        if instrument is None or self._cum_lots == 0:
            return None
        value = Decimal(self._value_units).scaleb(-instrument.quote.scale)
        qty = Decimal(self._cum_lots * instrument.lot_atoms).scaleb(-instrument.base.scale)
        return plain((value / qty).quantize(Decimal(1).scaleb(-12)))

    def _fees_paid(self) -> dict[str, str]:
        assets = self._listings.assets
        return {assets[n].symbol: assets[n].amount(units) for n, units in self._fees.items() if n in assets}


def _price(instrument: Instrument | None, ticks: int) -> str | None:
    return instrument.price(ticks) if instrument and ticks else None


def _qty(instrument: Instrument | None, lots: int) -> str:
    return instrument.qty(lots) if instrument else str(lots)


def _amount(instrument: Instrument | None, units: int) -> str:
    return instrument.quote.amount(units) if instrument else str(units)
