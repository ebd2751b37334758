"""Outcomes of one command to its reply: fills, state, balances, in decimal text."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any, Final

import numpy as np

from gateway.control.catalog import Catalog
from gateway.control.drafts import Draft
from gateway.control.messages import Error, reason_error
from gateway.control.quotes import QuoteProgress
from protocol import enums as e
from protocol import reasons
from protocol.instruments import Instrument, plain
from protocol.records import EXT_LEG_SLOT, OUTCOME_DUPLICATE

ROWS_MAX: Final = 1000
"""Fills and cancelled orders listed in one reply; the counts are always whole."""
_AVERAGE_DECIMALS: Final = 12

_ORDER_TYPES: Final = frozenset({e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.AMEND, e.CANCEL})
_MONEY_TYPES: Final = frozenset(
    {e.DEPOSIT, e.WITHDRAW_HOLD, e.WITHDRAW_SETTLE, e.WITHDRAW_RELEASE, e.ADJUST, e.TRANSFER}
)
_MANY: Final = frozenset({e.CANCEL_ALL, e.KILL, e.SET_STATE})
_FIRST_STATES: Final = {
    e.ORDER_STATE_LIVE: "open",
    e.ORDER_STATE_FILLED: "filled",
    e.ORDER_STATE_EXPIRED: "expired",
    e.ORDER_STATE_CANCELED: "canceled",
}
_ENDS: Final = {e.OUT_RESTED: "resting", e.OUT_EXPIRED: "expired", e.OUT_CANCELED: "canceled"}


class Progress:
    """Collects the outcomes of one command, in order; bounded, whatever the command does."""

    def __init__(self, draft: Draft, order_id: int) -> None:
        self.draft = draft
        self.order_id = order_id
        self.seq = 0
        self.ts_ns = 0
        self.done = False
        self.code = reasons.ACCEPTED
        self._fills: list[np.void] = []
        self._fill_count = 0
        self._ticks_lots = 0
        self._lots = 0
        self._canceled: list[int] = []
        self._canceled_count = 0
        self._prevented_lots = 0
        self._own: np.void | None = None
        self._state = ""
        self._end_reason = 0
        self._end_lots = 0
        self._cum_lots = 0
        self._price_ticks = 0
        self._money: np.void | None = None
        self._quotes = QuoteProgress()
        self.first: np.void | None = None
        """Of a client order id used twice: OUTCOME_DUPLICATE."""

    def add(self, outcome: np.void) -> None:
        """Take the next outcome of the command."""
        kind = int(outcome["kind"])
        flags = int(outcome["flags"])
        self.seq = int(outcome["seq"])
        self.ts_ns = int(outcome["ts_ns"])
        self.done = flags & e.OUTCOME_LAST != 0
        if kind == e.OUT_IDS:
            return
        if self.draft.type == e.QUOTE:
            self._quotes.add(outcome)
        own = self.order_id != 0 and int(outcome["order_id"]) == self.order_id
        if kind == e.OUT_REJECTED:
            self.code = int(outcome["reason"])
            if self.code == reasons.DUPLICATE_CLIENT_ID:
                self.first = outcome.reshape(1).view(OUTCOME_DUPLICATE.slot_dtype)[0]
        elif kind == e.OUT_TRADE and own:
            self._add_fill(outcome)
        elif kind == e.OUT_CANCELED and self.draft.type in _MANY:
            self._canceled_count += 1
            if len(self._canceled) < ROWS_MAX:
                self._canceled.append(int(outcome["order_id"]))
        elif kind == e.OUT_PREVENTED and own:
            self._prevented_lots += int(outcome["qty_lots"])
        elif kind == e.OUT_BALANCE and int(outcome["account"]) == self.draft.account:
            self._money = outcome
        if own and self.draft.type in _ORDER_TYPES:
            self._follow(kind, outcome)

    def error(self, catalog: Catalog) -> Error | None:
        """Why the command was refused; None when it was accepted."""
        if self.code == reasons.ACCEPTED:
            return None
        return reason_error(self.code, "" if self.first is None else _first_text(_first_order(self.first, catalog)))

    def result(self, catalog: Catalog) -> dict[str, Any]:
        """What the reply says of a command that got a number."""
        draft = self.draft
        result: dict[str, Any] = {"seq": self.seq, "ts_ns": self.ts_ns}
        if draft.account:
            result["account"] = draft.account
        if draft.instrument is not None:
            result["instrument"] = draft.instrument.symbol
        if draft.type in _ORDER_TYPES:
            result["order_id"] = self.order_id
            legs = draft.group[draft.group["type"] == e.EXT_LEG].view(EXT_LEG_SLOT.slot_dtype)
            exits = legs["order_id"][legs["role"] == e.LEG_EXIT].tolist()
            if exits:
                result["exit_order_ids"] = exits
            elif len(legs):
                result["linked_order_id"] = int(legs["order_id"][0])
        if draft.client_order_id:
            result["client_order_id"] = draft.client_order_id
        if draft.type == e.WITHDRAW_HOLD:
            result["hold_id"] = self.order_id
        result |= draft.extra
        if self.code != reasons.ACCEPTED:
            if draft.type in _ORDER_TYPES:
                result["state"] = "rejected"
            if self.first is not None:
                result["first_order"] = _first_order(self.first, catalog)
        elif draft.type in _ORDER_TYPES:
            assert draft.instrument is not None
            self._order_result(result, draft.instrument, catalog)
        elif draft.type in _MANY:
            result |= {"canceled": self._canceled, "count": self._canceled_count}
        elif draft.type == e.QUOTE:
            result |= self._quotes.result(catalog)
        elif draft.type in _MONEY_TYPES:
            self._money_result(result, catalog)
        return result

    def _add_fill(self, outcome: np.void) -> None:
        lots = int(outcome["qty_lots"])
        self._fill_count += 1
        self._ticks_lots += int(outcome["price_ticks"]) * lots
        self._lots += lots
        if len(self._fills) < ROWS_MAX:
            self._fills.append(outcome)

    def _follow(self, kind: int, outcome: np.void) -> None:
        self._own = outcome
        self._cum_lots = max(self._cum_lots, int(outcome["cum_qty_lots"]))
        if kind != e.OUT_TRADE:
            self._price_ticks = int(outcome["price_ticks"])
        if kind in _ENDS:
            self._state = _ENDS[kind]
            self._end_reason = int(outcome["reason"])
            self._end_lots = int(outcome["qty_lots"])
        elif kind in {e.OUT_TRADE, e.OUT_PREVENTED} and int(outcome["leaves_qty_lots"]) == 0:
            self._state = "filled" if kind == e.OUT_TRADE else "expired"
            self._end_reason = 0 if kind == e.OUT_TRADE else reasons.BY_STP
        elif kind in {e.OUT_REPLACED, e.OUT_PEGGED} or (kind == e.OUT_NEW and self.done):
            # An order that neither traded nor ended has its whole in the book.
            self._state = "resting"
        if int(outcome["flags"]) & e.OUTCOME_WAITS:
            self._state = "waiting"

    def _order_result(self, result: dict[str, Any], instrument: Instrument, catalog: Catalog) -> None:
        own = self._own
        resting = self._state in ("resting", "waiting")
        result["state"] = self._state or "accepted"
        if self._end_reason:
            result["end_reason"] = reasons.NAME.get(self._end_reason, str(self._end_reason))
        if self._state == "canceled":
            result["canceled_qty"] = instrument.qty(self._end_lots)
        if self._price_ticks:
            result["price"] = instrument.price(self._price_ticks)
        result["leaves_qty"] = instrument.qty(int(own["leaves_qty_lots"]) if resting and own is not None else 0)
        result["cum_qty"] = instrument.qty(self._cum_lots)
        if self._prevented_lots:
            result["prevented_qty"] = instrument.qty(self._prevented_lots)
        result["avg_price"] = None if self._lots == 0 else _average(instrument, self._ticks_lots, self._lots)
        result["fills"] = [_fill(instrument, fill, catalog) for fill in self._fills]
        result["fill_count"] = self._fill_count

    def _money_result(self, result: dict[str, Any], catalog: Catalog) -> None:
        row = self._money
        if row is None:
            return
        asset = self.draft.asset or catalog.asset_by_index(int(row["asset"]))
        if asset is not None:
            result["asset"] = asset.symbol
            result["amount"] = asset.amount(int(row["value_units"]))
            result["free"] = asset.amount(int(row["free_units"]))
            result["locked"] = asset.amount(int(row["locked_units"]))


def _first_order(row: np.void, catalog: Catalog) -> dict[str, Any]:
    """What became of the order that has the client order id."""
    found: dict[str, Any] = {"order_id": int(row["first_order_id"]), "state": _FIRST_STATES[int(row["first_state"])]}
    if row["first_reason"]:
        found["end_reason"] = reasons.NAME.get(int(row["first_reason"]), str(int(row["first_reason"])))
    instrument = catalog.instrument_by_index(int(row["first_instrument"]))
    assert instrument is not None, "an order was accepted on this instrument"
    lots, units = int(row["first_cum_qty_lots"]), int(row["first_value_units"])
    found["instrument"] = instrument.symbol
    found["cum_qty"] = instrument.qty(lots)
    found["leaves_qty"] = instrument.qty(int(row["first_leaves_qty_lots"]))
    found["avg_price"] = None if lots == 0 else _average(instrument, units // instrument.multiplier, lots)
    if row["first_ended_ts_ns"]:
        found["ended_ts_ns"] = int(row["first_ended_ts_ns"])
    return found


def _first_text(first: dict[str, Any]) -> str:
    """The same in words."""
    end = f" ({first['end_reason']})" if "end_reason" in first else ""
    text = f"order {first['order_id']} on {first['instrument']} has it and is {first['state']}{end}"
    if first["avg_price"] is not None:
        text += f", {first['cum_qty']} traded at {first['avg_price']} on average"
    return f"{text}, {first['leaves_qty']} left" if first["state"] == "open" else text


def _average(instrument: Instrument, ticks_lots: int, lots: int) -> str:
    with localcontext(prec=60):
        price = (Decimal(ticks_lots) * instrument.tick_e8).scaleb(-8) / lots
        return plain(price.quantize(Decimal(1).scaleb(-_AVERAGE_DECIMALS)))


def _fill(instrument: Instrument, outcome: np.void, catalog: Catalog) -> dict[str, Any]:
    fee_asset = catalog.asset_by_index(int(outcome["fee_asset"])) if outcome["fee_asset"] else None
    return {
        "price": instrument.price(int(outcome["price_ticks"])),
        "qty": instrument.qty(int(outcome["qty_lots"])),
        "value": instrument.quote.amount(int(outcome["value_units"])),
        "fee": "0" if fee_asset is None else fee_asset.amount(int(outcome["fee_units"])),
        "fee_asset": None if fee_asset is None else fee_asset.symbol,
        "fee_rule": int(outcome["reason"]),
        "fee_tier": int(outcome["fee_tier"]) & ~e.FEE_TIER_API,
        "api_discount": bool(int(outcome["fee_tier"]) & e.FEE_TIER_API),
        "contra_order_id": int(outcome["contra_order_id"]),
        "seq": int(outcome["seq"]),
        "index": int(outcome["index"]),
    }
