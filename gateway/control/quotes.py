"""Mass quotes and market-maker protection: requests to command groups, and what became of each quote."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gateway.control import messages as m
from gateway.control.catalog import Catalog, parse_price, parse_qty
from gateway.control.messages import Refused
from protocol import build, reasons
from protocol import enums as e
from protocol.instruments import Instrument

WINDOW_MS_MAX: Final = 3_600_000
_NS_PER_MS: Final = 1_000_000
_CHANGES: Final = {e.OUT_NEW: "new", e.OUT_REPLACED: "replaced", e.OUT_CANCELED: "canceled"}


def quote_group(catalog: Catalog, args: m.Quote) -> np.ndarray:
    """Command group of a mass quote; raises Refused."""
    account = catalog.account(args.account)
    if not 1 <= len(args.quotes) <= e.QUOTES_MAX:
        raise Refused(reasons.QUOTE_COUNT, str(len(args.quotes)), "args.quotes")
    quotes = []
    for at, given in enumerate(args.quotes):
        field = f"args.quotes[{at}]"
        instrument = catalog.instrument(given.instrument, f"{field}.instrument")
        bid = _side(instrument, given.bid_price, given.bid_qty, f"{field}.bid")
        ask = _side(instrument, given.ask_price, given.ask_qty, f"{field}.ask")
        quotes.append(build.quote(instrument.index, *bid, *ask, given.quote_id))
    return build.mass_quote(account=account, quotes=quotes)


def protection_group(catalog: Catalog, args: m.Protect) -> tuple[np.ndarray, Instrument]:
    """Command group that sets the protection of an account in an instrument, and the instrument; raises Refused."""
    account, instrument = catalog.account(args.account), catalog.instrument(args.instrument)
    if args.window_ms > WINDOW_MS_MAX:
        raise Refused(reasons.BAD_PROTECTION, f"a window of {args.window_ms} ms", "args.window_ms")
    group = build.set_protection(
        account,
        instrument.index,
        window_ns=args.window_ms * _NS_PER_MS,
        qty_lots=0 if args.qty is None else parse_qty(instrument, args.qty),
        net_lots=0 if args.net_qty is None else parse_qty(instrument, args.net_qty, "args.net_qty"),
        trades=args.trades,
    )
    return group, instrument


def _side(instrument: Instrument, price: str | None, qty: str | None, field: str) -> tuple[int, int]:
    """Price in ticks and quantity in lots of a side; both 0 where there is none."""
    if (price is None) != (qty is None):
        raise Refused(reasons.MALFORMED, "a side has a price and a quantity, or neither", f"{field}_price")
    if price is None or qty is None:
        return 0, 0
    return parse_price(instrument, price, f"{field}_price"), parse_qty(instrument, qty, f"{field}_qty")


class QuoteProgress:
    """Collects the outcomes of a mass quote: what was said of orders since the last quote ended is of the next one."""

    def __init__(self) -> None:
        self._orders: list[np.void] = []
        self._quotes: list[tuple[np.void, list[np.void]]] = []

    def add(self, outcome: np.void) -> None:
        """Take the next outcome of the command."""
        kind = int(outcome["kind"])
        if kind in _CHANGES:
            self._orders.append(outcome)
        elif kind == e.OUT_QUOTE:
            self._quotes.append((outcome, self._orders))
            self._orders = []

    def result(self, catalog: Catalog) -> dict[str, Any]:
        """What the reply says: of each quote whether it was taken, and the orders that are new, other, or gone."""
        quotes = [_quote(catalog, *quote) for quote in self._quotes]
        refused = sum(quote["state"] == "refused" for quote in quotes)
        return {"quotes": quotes, "taken": len(quotes) - refused, "refused": refused}


def _quote(catalog: Catalog, outcome: np.void, orders: list[np.void]) -> dict[str, Any]:
    index, reason = int(outcome["instrument"]), int(outcome["reason"])
    instrument = catalog.instrument_by_index(index)
    assert instrument is not None, "the gateway names listed instruments only"
    told: dict[str, Any] = {"instrument": instrument.symbol, "quote_id": int(outcome["contra_order_id"])}
    told["state"] = "taken" if reason == reasons.ACCEPTED else "refused"
    if reason != reasons.ACCEPTED:
        told |= {"reason": reasons.NAME.get(reason, str(reason)), "text": reasons.TEXT.get(reason, "refused")}
    told["orders"] = [_order(instrument, order) for order in orders]
    return told


def _order(instrument: Instrument, outcome: np.void) -> dict[str, Any]:
    return {
        "order_id": int(outcome["order_id"]),
        "side": "buy" if outcome["side"] == e.BUY else "sell",
        "change": _CHANGES[int(outcome["kind"])],
        "price": instrument.price(int(outcome["price_ticks"])),
        "leaves_qty": instrument.qty(int(outcome["leaves_qty_lots"])),
    }
