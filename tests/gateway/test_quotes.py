"""Mass quotes and market-maker protection through the control gateway: what is sent, what is refused before, what is told."""

from typing import Any

import pytest

from gateway.access.operators import FOUR_EYES, ROLES
from protocol import board as lines
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.records import EXT_QUOTES_SLOT
from tests.gateway.support import Exchange, outcome

BID: dict[str, Any] = {"instrument": "BTCUSDT", "bid_price": "99.99", "bid_qty": "0.5"}
BOTH = BID | {"ask_price": "100.01", "ask_qty": "0.4", "quote_id": 77}


def quoted(*quotes: dict[str, Any]) -> dict[str, Any]:
    return {"account": 7, "quotes": list(quotes)}


def test_mass_quote_has_a_slot_for_each_quote_and_one_for_who_sent_it() -> None:
    exchange = Exchange()
    assert exchange.submit("quote", quoted(BOTH, BID)) is None
    group = exchange.group()
    assert [e.QUOTE, e.EXT_QUOTES, e.EXT_QUOTES, e.EXT_ADMIN] == group["type"].tolist()
    both, bid = group[1:3].view(EXT_QUOTES_SLOT.slot_dtype)
    names = ["account", "instrument", "bid_price_ticks", "bid_qty_lots", "ask_price_ticks", "ask_qty_lots", "quote_id"]
    assert (7, 1, 9_999, 50_000, 10_001, 40_000, 77) == both[names].item()
    assert (7, 1, 9_999, 50_000, 0, 0, 0) == bid[names].item()


@pytest.mark.parametrize(
    ("quotes", "name", "field"),
    [
        ([], "QUOTE_COUNT", "args.quotes"),
        ([BID] * 101, "QUOTE_COUNT", "args.quotes"),
        ([BID, BID | {"instrument": "ETHUSDT"}], "UNKNOWN_INSTRUMENT", "args.quotes[1].instrument"),
        ([BID | {"bid_price": "99.999"}], "OFF_TICK", "args.quotes[0].bid_price"),
        ([BOTH | {"ask_qty": "0"}], "BAD_QUANTITY", "args.quotes[0].ask_qty"),
        ([BID | {"ask_qty": "1"}], "MALFORMED", "args.quotes[0].ask_price"),
    ],
)
def test_quote_out_of_form_gets_no_number(quotes: list[dict[str, Any]], name: str, field: str) -> None:
    reply = Exchange().submit("quote", quoted(*quotes))
    assert reply is not None
    assert reply.error is not None
    assert (name, field) == (reply.error.name, reply.error.field)


def test_reply_tells_of_each_quote_what_became_of_it() -> None:
    exchange = Exchange()
    exchange.submit("quote", quoted(BOTH, BID))
    bid = build.order_id_of(e.SOURCE_CONTROL, 2)
    named = {"source_seq": 1, "account": 7, "instrument": 1}
    exchange.feed(
        outcome(30, 0, e.OUT_CANCELED, **named, order_id=90, side=e.BUY, price_ticks=9_900, qty_lots=5),
        outcome(30, 1, e.OUT_NEW, **named, order_id=bid | e.QUOTE_ASK_BIT, side=e.SELL, price_ticks=10_001, leaves_qty_lots=40_000),
        outcome(30, 2, e.OUT_QUOTE, **named, order_id=bid, contra_order_id=77),
        outcome(30, 3, e.OUT_QUOTE, **named, order_id=bid + 1, reason=r.QUOTE_REPEATED),
        outcome(30, 4, e.OUT_QUOTED, **named, qty_lots=1, leaves_qty_lots=1, flags=e.OUTCOME_LAST),
    )  # fmt: skip
    (reply,) = durable(exchange, 30)
    assert reply.ok
    assert reply.result is not None
    taken, refused = reply.result["quotes"]
    assert (1, 1, 7) == tuple(reply.result[key] for key in ("taken", "refused", "account"))
    assert ("BTCUSDT", 77, "taken") == (taken["instrument"], taken["quote_id"], taken["state"])
    assert [("canceled", "buy", "99", "0"), ("new", "sell", "100.01", "0.4")] == [
        (order["change"], order["side"], order["price"], order["leaves_qty"]) for order in taken["orders"]
    ]
    assert ("refused", "QUOTE_REPEATED", []) == (refused["state"], refused["reason"], refused["orders"])


def durable(exchange: Exchange, seq: int) -> list[Any]:
    exchange.board[lines.DURABLE_SEQ] = seq
    return exchange.replies()


def test_protection_is_in_lots_and_nanoseconds() -> None:
    exchange = Exchange()
    args = {"account": 7, "instrument": "BTCUSDT", "window_ms": 1500, "qty": "5", "net_qty": "0.5", "trades": 9}
    assert exchange.submit("protect", args) is None
    head = exchange.group()[0]
    names = ["type", "account", "instrument", "price_ticks", "qty_lots", "trigger_price_ticks", "order_id"]
    assert (e.SET_PROTECTION, 7, 1, 1_500_000_000, 500_000, 50_000, 9) == head[names].item()
    assert "BAD_PROTECTION" == exchange.refused("protect", args | {"window_ms": 3_600_001})
    off = Exchange()
    assert off.submit("protect", {"account": 7, "instrument": "BTCUSDT"}) is None
    assert (0, 0, 0, 0) == off.group()[0][names[3:]].item()


def test_overload_refuses_quotes_as_it_does_orders() -> None:
    exchange = Exchange()
    exchange.engine_takes(settle_ns=10**9)
    assert exchange.submit("cancel_all", {"account": 7}) is None
    assert "OVERLOADED" == exchange.refused("quote", quoted(BID))


def test_who_deals_for_clients_may_quote_for_them_with_approval() -> None:
    allowed = {name for name, role in ROLES.items() if {"quote", "protect"} & role.ops}
    assert {"dealing"} == allowed
    assert {"quote", "protect"} <= FOUR_EYES.keys()
