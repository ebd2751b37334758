"""Answers to questions about the engine's tables, each with the seq that must be durable before it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gateway.control import messages as m
from gateway.control.catalog import Catalog
from gateway.control.fees import fees_answer, limits_answer
from gateway.control.messages import Refused
from gateway.control.view import AccountRow, InstrumentRow, Level
from protocol import board as lines
from protocol import reasons
from protocol.enums import (
    ACCOUNT_CLOSED,
    ACCOUNT_FROZEN,
    ACCOUNT_NONE,
    ACCOUNT_OPEN,
    BUY,
    INSTRUMENT_AUCTION,
    POST_ONLY,
)
from protocol.instruments import Instrument
from protocol.market_states import STATE_NAMES, VENUE_STATE_NAMES
from ringbuf import load_acquire

LIST_MAX: Final = 1000
"""Rows of a list in one answer; ``count`` says how many there are."""

Answered = tuple[dict[str, Any], int]

_ENGINE_STATES: Final = {
    lines.ENGINE_DOWN: "down",
    lines.ENGINE_RECOVERING: "recovering",
    lines.ENGINE_RUNNING: "running",
    lines.ENGINE_STOPPING: "stopping",
    lines.ENGINE_FAILED: "failed",
}
_ACCOUNT_STATES: Final = {ACCOUNT_OPEN: "open", ACCOUNT_FROZEN: "frozen", ACCOUNT_CLOSED: "closed"}


def status(board: np.ndarray) -> dict[str, Any]:
    """Cursors and state of the engine, from the board; they are durable by nature or say how far the journal is."""
    state = int(load_acquire(board, lines.ENGINE_STATE))
    return {
        "engine": _ENGINE_STATES.get(state, str(state)),
        "epoch": int(load_acquire(board, lines.EPOCH)),
        "sequenced_seq": int(load_acquire(board, lines.SEQUENCED_SEQ)),
        "durable_seq": int(load_acquire(board, lines.DURABLE_SEQ)),
        "settled_seq": int(load_acquire(board, lines.SETTLED_SEQ)),
        "replicated_seq": int(load_acquire(board, lines.REPLICATED_SEQ)),
        "journal_space": load_acquire(board, lines.JOURNAL_SPACE) == 0,
    }


def _balance(catalog: Catalog, args: Any) -> Answered:
    assert isinstance(args, m.OfAccount)
    row = _account_row(catalog, args.account)
    balances: dict[str, dict[str, str]] = {}
    seq = row.seq
    for index, balance in sorted(catalog.view.balances(row.account).items()):
        asset = catalog.asset_by_index(index)
        assert asset is not None, "a balance is of a listed asset"
        free, locked = asset.amount(balance.free_units), asset.amount(balance.locked_units)
        balances[asset.symbol] = {"free": free, "locked": locked}
        seq = max(seq, balance.seq)
    result = {"account": row.account, "name": catalog.names.name(row.account), "balances": balances, "seq": seq}
    return result, seq


def _account(catalog: Catalog, args: Any) -> Answered:
    assert isinstance(args, m.OfAccount)
    row = _account_row(catalog, args.account)
    return _account_result(row, catalog.names.name(row.account)) | {"seq": row.seq}, row.seq


def _accounts(catalog: Catalog, args: Any) -> Answered:
    rows = catalog.view.accounts()
    names = catalog.names.names()
    seq = max((row.seq for row in rows), default=0)
    shown = [_account_result(row, names.get(row.account)) for row in rows[:LIST_MAX]]
    return {"accounts": shown, "count": len(rows), "seq": seq}, seq


def _assets(catalog: Catalog, args: Any) -> Answered:
    rows = catalog.view.assets()
    seq = max((row.seq for row in rows), default=0)
    shown = [{"asset": row.asset.index, "symbol": row.asset.symbol, "scale": row.asset.scale} for row in rows]
    return {"assets": shown, "count": len(rows), "seq": seq}, seq


def _instruments(catalog: Catalog, args: Any) -> Answered:
    rows = catalog.view.instruments()
    seq = max((row.seq for row in rows), default=0)
    shown = [_instrument_result(row) for row in rows]
    venue = VENUE_STATE_NAMES[catalog.view.venue_state()]
    return {"instruments": shown, "count": len(rows), "venue": venue, "seq": seq}, seq


def _orders(catalog: Catalog, args: Any) -> Answered:
    assert isinstance(args, m.Orders)
    account = None if args.account is None else _account_row(catalog, args.account).account
    instrument = None if args.instrument is None else catalog.instrument(args.instrument)
    orders, seq = catalog.view.open_orders(account, None if instrument is None else instrument.index)
    names = catalog.names.names()
    shown = []
    for order in orders[:LIST_MAX]:
        listed = catalog.instrument_by_index(order.instrument)
        assert listed is not None, "an order rests on a listed instrument"
        shown.append(
            {
                "order_id": order.order_id,
                "account": order.account,
                "name": names.get(order.account),
                "instrument": listed.symbol,
                "side": "buy" if order.side == BUY else "sell",
                "tif": "post_only" if order.tif == POST_ONLY else "gtd" if order.expiry_ts_ns else "gtc",
                "expires_ts_ns": order.expiry_ts_ns,
                "price": listed.price(order.price_ticks),
                "pegged_price": listed.price(order.pegged_ticks) if order.pegged_ticks else None,
                "qty": listed.qty(order.qty_lots),
                "cum_qty": listed.qty(order.cum_qty_lots),
                "leaves_qty": listed.qty(order.leaves_qty_lots),
                "shown_qty": listed.qty(order.shown_lots),
                "client_order_id": order.client_order_id,
                "entry_ts_ns": order.entry_ts_ns,
                "state": "waiting" if order.waits else "resting",
            }
        )
    return {"orders": shown, "count": len(orders), "seq": seq}, seq


def _book(catalog: Catalog, args: Any) -> Answered:
    assert isinstance(args, m.Book)
    instrument = catalog.instrument(args.instrument)
    bids, asks, seq = catalog.view.book(instrument.index, args.levels)
    result = {
        "instrument": instrument.symbol,
        "bids": [_level(instrument, level) for level in bids],
        "asks": [_level(instrument, level) for level in asks],
        "seq": seq,
    }
    return result, seq


ANSWERS: Final[dict[str, Callable[[Catalog, Any], Answered]]] = {
    "balance": _balance,
    "account": _account,
    "accounts": _accounts,
    "assets": _assets,
    "instruments": _instruments,
    "orders": _orders,
    "book": _book,
    "fees": fees_answer,
    "limits": limits_answer,
}


def _account_row(catalog: Catalog, account: int | str) -> AccountRow:
    row = catalog.view.account(catalog.account(account))
    if row.status == ACCOUNT_NONE:
        raise Refused(reasons.UNKNOWN_ACCOUNT, str(account), "args.account")
    return row


def _account_result(row: AccountRow, name: str | None) -> dict[str, Any]:
    return {"account": row.account, "name": name, "state": _ACCOUNT_STATES.get(row.status, str(row.status))}


def _instrument_result(row: InstrumentRow) -> dict[str, Any]:
    listed = row.instrument
    dynamic_e8, auction_ns, random_ns, extensions = row.interruptions
    auction = {}
    if row.status == INSTRUMENT_AUCTION:
        indicative = listed.price(row.indicative_ticks) if row.indicative_ticks else None
        auction = {"indicative_price": indicative, "auction_end_ts_ns": row.auction_end_ts_ns or None}
    return {
        "instrument": listed.index,
        "symbol": listed.symbol,
        "kind": "spot",
        "state": STATE_NAMES[row.status],
        "base": listed.base.symbol,
        "quote": listed.quote.symbol,
        "tick_size": listed.tick_size,
        "lot_size": listed.lot_size,
        "maker_rate_e8": listed.maker_rate_e8,
        "taker_rate_e8": listed.taker_rate_e8,
        "band_up_e8": listed.band_up_e8,
        "band_down_e8": listed.band_down_e8,
        "breaker_e8": listed.breaker_e8,
        "dynamic_e8": dynamic_e8,
        "auction_s": auction_ns // 1_000_000_000,
        "random_s": random_ns // 1_000_000_000,
        "extensions": extensions,
        **auction,
        "last_price": listed.price(row.last_price_ticks) if row.last_price_ticks else None,
    }


def _level(instrument: Instrument, level: Level) -> dict[str, Any]:
    return {"price": instrument.price(level.price_ticks), "qty": instrument.qty(level.qty_lots), "orders": level.orders}
