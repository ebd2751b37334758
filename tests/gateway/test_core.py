from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.core import ControlCore
from gateway.control.names import FILE_NAME, NameBook, NamesError
from gateway.control.view import AccountRow, AssetRow, OpenOrder
from protocol import board as lines
from protocol import enums as e
from protocol import reasons
from protocol.build import order_id_of
from protocol.instance import Limits, Overload
from protocol.instruments import Asset
from protocol.readers import refused_word
from protocol.records import (
    EXT_ADMIN_SLOT,
    EXT_AUCTION_SLOT,
    EXT_IDS_SLOT,
    EXT_LEG_SLOT,
    EXT_LISTING_SLOT,
    OUTCOME_DTYPE,
)
from ringbuf import advance, private_ring, published
from tests.gateway.support import BTCUSDT, Exchange, FakeView, outcome

ORDER: dict[str, Any] = {"account": 7, "instrument": "BTCUSDT", "side": "buy", "price": "100.00", "qty": "0.5"}
MARKET: dict[str, Any] = {"account": 7, "instrument": "BTCUSDT", "side": "sell", "type": "market"}
ORDER_ID = order_id_of(e.SOURCE_CONTROL, 1)
CANCEL: dict[str, Any] = {"account": 7, "order_id": ORDER_ID, "instrument": "BTCUSDT"}


def queue_of(exchange: Exchange) -> tuple[int, int]:
    """Slots and milliseconds that ``status`` tells."""
    reply = exchange.submit("status")
    assert reply is not None
    assert reply.result is not None
    return reply.result["queue_slots"], reply.result["queue_ms"]


def resting(order_id: int = ORDER_ID, client_order_id: str = "") -> OpenOrder:
    return OpenOrder(order_id, 7, 1, e.BUY, e.GTC, 9_900, 50_000, 0, 50_000, client_order_id, 0, 50_000, 0, waits=False)


# --- from request to group -----------------------------------------------------------------------------------------


def test_a_limit_order_is_numbered_and_signed_by_the_gateway() -> None:
    exchange = Exchange()
    assert exchange.submit("order", {**ORDER, "tif": "post_only", "stp": "decrement"}) is None
    head, admin = exchange.group()
    assert (e.LIMIT, e.BUY, e.POST_ONLY, e.STP_DECREMENT) == (head["type"], head["side"], head["tif"], head["stp"])
    assert (7, 1, 10_000, 50_000) == (head["account"], head["instrument"], head["price_ticks"], head["qty_lots"])
    assert (1, 1, e.SOURCE_CONTROL) == (head["seq"], head["source_seq"], head["source"])
    assert ORDER_ID == head["order_id"]
    assert 1_700_000_000_000_000_000 == head["entry_ts_ns"]
    assert (e.FLAG_MORE, 0) == (head["flags"], admin["flags"])
    signature = admin.tobytes()
    named = np.frombuffer(signature, dtype=EXT_ADMIN_SLOT.slot_dtype)[0]
    assert (b"ann", b"test", e.EXT_ADMIN, 2) == (named["operator"], named["reason"], named["type"], named["seq"])


def test_the_next_group_goes_on_where_the_last_one_ended() -> None:
    exchange = Exchange()
    exchange.submit("order", ORDER, 1)
    exchange.submit("order", ORDER, 2)
    head = exchange.group()[0]
    assert (3, order_id_of(e.SOURCE_CONTROL, 3)) == (head["source_seq"], head["order_id"])


def test_a_client_order_id_of_36_characters_is_kept_whole() -> None:
    exchange = Exchange()
    text = "x" * 35 + "!"
    assert exchange.submit("order", {**ORDER, "client_order_id": text}) is None
    head, ids, _ = exchange.group()
    assert e.EXT_IDS == ids["type"]
    assert text.encode() == np.frombuffer(ids.tobytes(), dtype=EXT_IDS_SLOT.slot_dtype)[0]["client_order_id"]
    assert head["flags"] & e.FLAG_MORE
    assert ids["flags"] & e.FLAG_MORE


@pytest.mark.parametrize("text", ["", "x" * 37, "with space", "tab\t", "ünïcode", "nul\0"])
def test_a_client_order_id_that_cannot_be_kept_whole_is_refused(text: str) -> None:
    assert "MALFORMED" == Exchange().refused("order", {**ORDER, "client_order_id": text})


def test_market_orders_by_quantity_and_by_amount() -> None:
    exchange = Exchange()
    exchange.submit("order", {**MARKET, "qty": "0.00001"})
    head = exchange.group()[0]
    assert (e.MARKET, 1, 0) == (head["type"], head["qty_lots"], head["price_ticks"])
    exchange.submit("order", {**MARKET, "amount": "12.5", "price": "99"}, 2)
    head = exchange.group()[0]
    assert (e.MARKET_AMOUNT, 1_250_000_000, 9_900) == (head["type"], head["qty_lots"], head["price_ticks"])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"price": "100.001"}, "OFF_TICK"),
        ({"price": "0.00000000000000000000001"}, "OFF_TICK"),
        ({"price": "100.000000000000000000000001"}, "OFF_TICK"),
        ({"price": "0"}, "BAD_PRICE"),
        ({"price": "-1"}, "BAD_PRICE"),
        ({"price": "999999999999999999999999"}, "RANGE"),
        ({"price": "1e2"}, "MALFORMED"),
        ({"price": "NaN"}, "MALFORMED"),
        ({"price": "Infinity"}, "MALFORMED"),
        ({"price": "\u0661\u0660\u0660"}, "MALFORMED"),
        ({"price": "100\n"}, "MALFORMED"),
        ({"price": " 100"}, "MALFORMED"),
        ({"price": "1,000"}, "MALFORMED"),
        ({"price": "1" * 25}, "MALFORMED"),
        ({"price": ""}, "MALFORMED"),
        ({"price": None}, "MALFORMED"),
        ({"qty": "0.000001"}, "OFF_LOT"),
        ({"qty": "0"}, "BAD_QUANTITY"),
        ({"qty": "-0.5"}, "BAD_QUANTITY"),
        ({"qty": "99999999999999999999999"}, "RANGE"),
        ({"qty": None}, "MALFORMED"),
        ({"amount": "5"}, "MALFORMED"),
        ({"instrument": "ETHUSDT"}, "UNKNOWN_INSTRUMENT"),
        ({"account": "nobody"}, "UNKNOWN_ACCOUNT"),
        ({"account": 0}, "UNKNOWN_ACCOUNT"),
        ({"account": -7}, "UNKNOWN_ACCOUNT"),
        ({"account": 1001}, "UNKNOWN_ACCOUNT"),
        ({"account": 1 << 80}, "UNKNOWN_ACCOUNT"),
        ({"type": "market", "price": None}, None),
        ({"type": "market", "tif": "ioc"}, "MALFORMED"),
        ({"type": "market", "qty": None}, "MALFORMED"),
        ({"type": "market", "amount": "5"}, "MALFORMED"),
        ({"type": "market", "qty": None, "amount": "0.000000001"}, "BAD_QUANTITY"),
    ],
)
def test_an_order_with_a_field_out_of_form_gets_no_number(change: dict[str, Any], name: str | None) -> None:
    exchange = Exchange()
    if name is None:
        assert exchange.submit("order", ORDER | change) is None
    else:
        assert name == exchange.refused("order", ORDER | change)


@given(st.text(max_size=30) | st.decimals().map(str))
def test_whatever_the_price_text_is_it_is_taken_exactly_or_refused(text: str) -> None:
    exchange = Exchange()
    reply = exchange.submit("order", {**ORDER, "price": text})
    if reply is None:
        assert float(text) == pytest.approx(int(exchange.group()[0]["price_ticks"]) / 100)
    else:
        assert reply.error is not None
        assert reply.error.name in {"OFF_TICK", "BAD_PRICE", "RANGE", "MALFORMED"}


@pytest.mark.parametrize(
    ("args", "trigger", "ref", "profit", "kind", "offset"),
    [
        ({"trigger_price": "99"}, 9_900, e.TRIGGER_LAST, False, e.OFFSET_NONE, 0),
        (
            {"trigger_price": "101", "trigger": "take_profit", "trigger_by": "mark"},
            *(10_100, e.TRIGGER_MARK, True, e.OFFSET_NONE, 0),
        ),
        ({"trail": "0.5", "trigger_by": "index"}, 0, e.TRIGGER_INDEX, False, e.OFFSET_TICKS, 50),
        ({"trail": "0.5", "activation_price": "101"}, 10_100, e.TRIGGER_LAST, False, e.OFFSET_TICKS, 50),
        ({"trail_bp": 250}, 0, e.TRIGGER_LAST, False, e.OFFSET_BASIS_POINTS, 250),
    ],
)
def test_what_an_order_waits_for_goes_into_its_command(
    args: dict[str, Any], trigger: int, ref: int, profit: bool, kind: int, offset: int
) -> None:
    exchange = Exchange()
    assert exchange.submit("order", {**ORDER, **args}) is None
    head = exchange.group()[0]
    assert int(head["flags"]) & e.FLAG_TRIGGER
    assert profit == bool(int(head["flags"]) & e.FLAG_TAKE_PROFIT)
    fields = ("trigger_price_ticks", "trigger_ref", "offset_kind", "sub_account")
    assert (trigger, ref, kind, offset) == tuple(int(head[name]) for name in fields)


@pytest.mark.parametrize(
    "args",
    [
        {"trigger": "take_profit"},
        {"trigger_by": "mark"},
        {"trail": "1", "trail_bp": 5},
        {"trigger_price": "1", "trail": "1"},
        {"activation_price": "1"},
        {"activation_price": "1", "trigger_price": "1"},
        {"trail": "100000000"},
    ],
)
def test_triggers_that_contradict_themselves_are_refused_by_the_gateway(args: dict[str, Any]) -> None:
    assert "MALFORMED" == Exchange().refused("order", {**ORDER, **args})


def test_exits_of_an_order_go_into_its_group_and_get_numbers_of_their_own() -> None:
    exchange = Exchange()
    stop = {"trigger_price": "90", "price": "89", "qty": "0.1", "client_order_id": "out"}
    assert exchange.submit("order", {**ORDER, "client_order_id": "in", "exits": [stop]}) is None
    group = exchange.group()
    assert [e.LIMIT, e.EXT_IDS, e.EXT_LEG, e.EXT_IDS, e.EXT_ADMIN] == group["type"].tolist()
    leg = group[2:3].view(EXT_LEG_SLOT.slot_dtype)[0]
    names = ("order_id", "order_type", "role", "side", "price_ticks", "trigger_price_ticks", "qty_lots")
    assert (ORDER_ID + 2, e.LIMIT, e.LEG_EXIT, 1 - int(group["side"][0]), 8_900, 9_000, 10_000) == tuple(
        int(leg[name]) for name in names
    )


@pytest.mark.parametrize(
    "one", [{}, {"trigger_price": "90", "tif": "ioc"}, {"price": "90", "trail": "1", "trail_bp": 1}]
)
def test_exits_that_contradict_themselves_are_refused_by_the_gateway(one: dict[str, Any]) -> None:
    assert "MALFORMED" == Exchange().refused("order", {**ORDER, "exits": [one]})


def test_linked_stop_is_of_the_same_side_quantity_and_expiry() -> None:
    exchange = Exchange()
    stop = {"trigger_price": "90", "price": "89"}
    order = {**ORDER, "tif": "post_only", "expires_ts_ns": 7, "client_order_id": "near", "linked": stop}
    assert exchange.submit("order", order) is None
    group = exchange.group()
    assert [e.LIMIT, e.EXT_IDS, e.EXT_LEG, e.EXT_ADMIN] == group["type"].tolist()
    assert group["flags"][0] & e.FLAG_LEGS
    leg = group[2:3].view(EXT_LEG_SLOT.slot_dtype)[0]
    names = ("order_id", "order_type", "role", "side", "price_ticks", "trigger_price_ticks", "qty_lots", "expiry_ts_ns")
    side, lots = int(group["side"][0]), int(group["qty_lots"][0])
    assert (ORDER_ID + 2, e.LIMIT, e.LEG_LINKED, side, 8_900, 9_000, lots, 7) == tuple(int(leg[n]) for n in names)


def test_order_is_linked_or_has_exits_but_not_both() -> None:
    stop = {"trigger_price": "90", "price": "89"}
    assert "MALFORMED" == Exchange().refused("order", {**ORDER, "exits": [stop], "linked": stop})


def test_exit_of_an_order_by_amount_needs_a_quantity() -> None:
    order = {**ORDER, "type": "market", "price": None, "qty": None, "amount": "10", "exits": [{"price": "90"}]}
    assert "MALFORMED" == Exchange().refused("order", order)


@pytest.mark.parametrize(
    ("args", "ref", "kind", "offset"),
    [
        ({"peg": "bid"}, e.PEG_BID, e.OFFSET_NONE, 0),
        ({"peg": "ask", "peg_offset": "-0.5"}, e.PEG_ASK, e.OFFSET_TICKS, -50),
        ({"peg": "mid", "peg_offset": "0.01"}, e.PEG_MID, e.OFFSET_TICKS, 1),
    ],
)
def test_what_an_order_follows_goes_into_its_command(args: dict[str, Any], ref: int, kind: int, offset: int) -> None:
    exchange = Exchange()
    assert exchange.submit("order", {**ORDER, **args}) is None
    head = exchange.group()[0]
    assert int(head["flags"]) & e.FLAG_PEG
    assert (ref, kind, offset) == tuple(int(head[name]) for name in ("trigger_ref", "offset_kind", "sub_account"))


@pytest.mark.parametrize(
    "args",
    [
        {"peg_offset": "1"},
        {"peg": "bid", "trigger_price": "99"},
        {"peg": "bid", "trail": "1"},
        {"peg": "mid", "peg_offset": "100000000"},
    ],
)
def test_pegs_that_contradict_themselves_are_refused_by_the_gateway(args: dict[str, Any]) -> None:
    assert "MALFORMED" == Exchange().refused("order", {**ORDER, **args})


def test_a_pegged_order_is_told_as_resting_where_it_stands() -> None:
    exchange = Exchange()
    exchange.submit("order", {**ORDER, "peg": "bid"})
    about = {"source_seq": 1, "account": 7, "instrument": 1, "order_id": ORDER_ID, "qty_lots": 50_000}
    rows = [
        outcome(30, k, kind, leaves_qty_lots=50_000, price_ticks=price, flags=e.OUTCOME_LAST * (k == 2), **about)
        for k, (kind, price) in enumerate(((e.OUT_NEW, 10_000), (e.OUT_RESTED, 10_000), (e.OUT_PEGGED, 9_950)))
    ]
    result = answer(exchange, *rows).result
    assert ("resting", "0.5", "99.5") == (result["state"], result["leaves_qty"], result["price"])


def test_an_order_that_waits_is_told_as_waiting() -> None:
    exchange = Exchange()
    exchange.submit("order", {**ORDER, "trigger_price": "99"})
    row = outcome(30, 0, e.OUT_NEW, source_seq=1, account=7, instrument=1, order_id=ORDER_ID, qty_lots=50_000,
                  leaves_qty_lots=50_000, price_ticks=10_000, flags=e.OUTCOME_LAST | e.OUTCOME_WAITS)  # fmt: skip
    result = answer(exchange, row).result
    assert ("waiting", "0.5") == (result["state"], result["leaves_qty"])


@given(st.integers(1, (1 << 62) - 1))
def test_prices_and_quantities_survive_their_text(number: int) -> None:
    exchange = Exchange()
    args = {**ORDER, "price": BTCUSDT.price(number), "qty": BTCUSDT.qty(number)}
    assert exchange.submit("order", args) is None
    head = exchange.group()[0]
    assert (number, number) == (head["price_ticks"], head["qty_lots"])


def test_operator_commands_become_their_types() -> None:
    exchange = Exchange()
    for op, args, kind in (
        ("freeze", {"account": 7}, e.FREEZE),
        ("unfreeze", {"account": 7}, e.UNFREEZE),
        ("close_account", {"account": 7}, e.CLOSE_ACCOUNT),
        ("halt", {"instrument": "BTCUSDT"}, e.HALT),
        ("resume", {"instrument": "BTCUSDT"}, e.RESUME),
        ("set_state", {"instrument": "BTCUSDT", "state": "post-only"}, e.SET_STATE),
        ("set_state", {"state": "maintenance"}, e.SET_STATE),
        ("set_prices", {"instrument": "BTCUSDT", "mark": "99", "index": "98.5"}, e.SET_PRICES),
        ("deposit", {"account": 7, "asset": "USDT", "amount": "1.5"}, e.DEPOSIT),
        ("withdraw_hold", {"account": 7, "asset": "USDT", "amount": "1.5"}, e.WITHDRAW_HOLD),
        ("withdraw_settle", {"account": 7, "hold_id": 5}, e.WITHDRAW_SETTLE),
        ("withdraw_release", {"account": 7, "hold_id": 5}, e.WITHDRAW_RELEASE),
        ("tick", {}, e.TICK),
        ("set_timer", {"timer": 1, "period_ns": 10}, e.SET_TIMER),
        ("set_fees", {"instrument": "BTCUSDT", "maker": "-0.01%", "taker": "0.001"}, e.SET_FEES),
        ("set_state", {"instrument": "BTCUSDT", "state": "auction"}, e.SET_STATE),
        ("set_bands", {"instrument": "BTCUSDT", "up": "10%", "down": "0.05"}, e.SET_BANDS),
    ):
        assert exchange.submit(op, args) is None, op
        assert kind == exchange.group()[0]["type"]
        assert e.EXT_ADMIN == exchange.group()[-1]["type"]
        advance(exchange.ingress, 0, int(published(exchange.ingress)))
    listing = np.frombuffer(exchange.group()[1].tobytes(), dtype=EXT_LISTING_SLOT.slot_dtype)[0]
    assert (10_000_000, 5_000_000) == (listing["band_up_e8"], listing["band_down_e8"])


def test_an_auction_has_an_end_and_an_interruption_its_rules() -> None:
    exchange = Exchange()
    args = {"instrument": "BTCUSDT", "state": "auction", "end_ts_ns": 77, "then": "closed"}
    assert exchange.submit("set_state", args) is None
    head = exchange.group()[0]
    names = ["price_ticks", "qty_lots", "trigger_price_ticks"]
    assert (e.INSTRUMENT_AUCTION, 77, e.INSTRUMENT_CLOSED) == head[names].item()
    advance(exchange.ingress, 0, int(published(exchange.ingress)))
    rules = {"dynamic": "2%", "auction_s": 120, "random_s": 30, "extensions": 2}
    assert exchange.submit("set_bands", {"instrument": "BTCUSDT", "up": "0", "down": "0", **rules}) is None
    slot = np.frombuffer(exchange.group()[2].tobytes(), dtype=EXT_AUCTION_SLOT.slot_dtype)[0]
    names = ["dynamic_e8", "auction_ns", "random_ns", "extensions"]
    assert (2_000_000, 120 * 10**9, 30 * 10**9, 2) == slot[names].item()
    assert "BAD_AUCTION" == exchange.refused(
        "set_bands", {"instrument": "BTCUSDT", "up": "0", "down": "0", "dynamic": "200%"}
    )


def test_an_adjustment_may_be_negative_and_a_deposit_not() -> None:
    exchange = Exchange()
    exchange.submit("adjust", {"account": 7, "asset": "USDT", "amount": "-0.5"})
    assert -50_000_000 == exchange.group()[0]["qty_lots"]
    assert "BAD_QUANTITY" == exchange.refused("adjust", {"account": 7, "asset": "USDT", "amount": "0"})
    assert "BAD_QUANTITY" == exchange.refused("deposit", {"account": 7, "asset": "USDT", "amount": "-0.5"})
    assert "UNKNOWN_ASSET" == exchange.refused("deposit", {"account": 7, "asset": "DOGE", "amount": "5"})


def test_fees_that_no_fill_may_have_are_refused() -> None:
    exchange = Exchange()
    for maker, taker in (("0", "100%"), ("-0.2%", "0.1%"), ("0", "-0.1%"), ("0.000000001", "0"), ("0", "2")):
        assert "BAD_FEE" == exchange.refused("set_fees", {"instrument": "BTCUSDT", "maker": maker, "taker": taker})


def test_numbers_symbols_and_names_in_flight_are_not_given_out_twice() -> None:
    exchange = Exchange()
    assert exchange.submit("create_account", {"name": "alice"}, 1) is None
    assert 8 == exchange.group()[0]["account"]
    assert exchange.submit("create_account", {}, 2) is None
    assert 9 == exchange.group()[0]["account"]
    assert "ACCOUNT_EXISTS" == exchange.refused("create_account", {"name": "alice"})
    assert exchange.submit("list_asset", {"symbol": "ETH"}, 3) is None
    assert 3 == exchange.group()[0]["asset"]
    assert "ASSET_EXISTS" == exchange.refused("list_asset", {"symbol": "ETH"})
    assert exchange.submit("list_asset", {"symbol": "SOL"}, 4) is None
    assert 4 == exchange.group()[0]["asset"]


LISTING = {"symbol": "BTC2", "base": "BTC", "quote": "USDT", "tick_size": "0.01", "lot_size": "0.00001"}


def test_an_instrument_gets_the_next_number_and_its_sizes() -> None:
    exchange = Exchange()
    assert exchange.submit("list_instrument", {**LISTING, "taker": "0.1%", "reference_price": "100"}) is None
    head, slot, _ = exchange.group()
    listing = np.frombuffer(slot.tobytes(), dtype=EXT_LISTING_SLOT.slot_dtype)[0]
    assert (2, b"BTC2", 1_000_000, 1_000) == (
        head["instrument"],
        listing["symbol"],
        listing["tick_e8"],
        listing["lot_atoms"],
    )
    assert (100_000, 10_000) == (listing["taker_rate_e8"], listing["reference_ticks"])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"symbol": "BTCUSDT"}, "INSTRUMENT_EXISTS"),
        ({"symbol": "X" * 17}, "BAD_LISTING"),
        ({"symbol": ""}, "BAD_LISTING"),
        ({"quote": "EUR"}, "UNKNOWN_ASSET"),
        ({"quote": "BTC"}, "BAD_LISTING"),
        ({"tick_size": "0"}, "BAD_LISTING"),
        ({"tick_size": "0.000000001"}, "BAD_LISTING"),
        ({"lot_size": "0.00000001"}, "BAD_LISTING"),
        ({"price_max": "90000000000000000", "qty_max": "1000000"}, "BAD_LISTING"),
        ({"taker": "-1%"}, "BAD_FEE"),
        ({"band_up": "101%"}, "BAD_LISTING"),
    ],
)
def test_a_listing_that_breaks_a_rule_gets_no_number(change: dict[str, Any], name: str) -> None:
    assert name == Exchange().refused("list_instrument", LISTING | change)


# --- cancels and amends ----------------------------------------------------------------------------------------------


def test_a_cancel_of_an_order_in_flight_finds_it_by_its_client_order_id() -> None:
    exchange = Exchange()
    exchange.submit("order", {**ORDER, "client_order_id": "mine"}, 1)
    assert exchange.submit("cancel", {"account": 7, "client_order_id": "mine"}, 2) is None
    head = exchange.group()[0]
    assert (e.CANCEL, ORDER_ID, 1) == (head["type"], head["order_id"], head["instrument"])
    assert "UNKNOWN_ORDER" == exchange.refused("cancel", {"account": 8, "client_order_id": "mine"})


def test_a_cancel_finds_the_instrument_of_a_resting_order() -> None:
    exchange = Exchange()
    exchange.view.orders = [resting(77, "old")]
    for args in ({"order_id": 77}, {"client_order_id": "old"}):
        assert exchange.submit("cancel", {"account": 7, **args}) is None
        assert (77, 1) == (exchange.group()[0]["order_id"], exchange.group()[0]["instrument"])
    assert "UNKNOWN_ORDER" == exchange.refused("cancel", {"account": 7, "order_id": 78})
    assert exchange.submit("cancel", {"account": 7, "order_id": 78, "instrument": "BTCUSDT"}) is None
    assert "MALFORMED" == exchange.refused("cancel", {"account": 7})
    assert "MALFORMED" == exchange.refused("cancel", {"account": 7, "order_id": 77, "client_order_id": "old"})


def test_an_amend_keeps_what_is_not_given() -> None:
    exchange = Exchange()
    exchange.view.orders = [resting(77)]
    exchange.submit("amend", {"account": 7, "order_id": 77, "price": "98"})
    head = exchange.group()[0]
    assert (e.AMEND, 9_800, 50_000) == (head["type"], head["price_ticks"], head["qty_lots"])
    exchange.submit("amend", {"account": 7, "order_id": 77, "qty": "0.1"})
    head = exchange.group()[0]
    assert (9_900, 10_000) == (head["price_ticks"], head["qty_lots"])
    assert "MALFORMED" == exchange.refused("amend", {"account": 7, "order_id": 77})
    assert "MALFORMED" == exchange.refused("cancel_all", {})


# --- load and engine states ------------------------------------------------------------------------------------------


def test_new_orders_leave_the_reserved_share_of_the_ring_to_cancels() -> None:
    exchange = Exchange(ingress=64)
    while exchange.submit("order", ORDER) is None:
        pass
    assert 48 == int(published(exchange.ingress))
    assert "OVERLOADED" == exchange.refused("order", ORDER)
    assert "OVERLOADED" == exchange.refused("deposit", {"account": 7, "asset": "USDT", "amount": "1"})
    while exchange.submit("cancel", CANCEL) is None:
        pass
    assert 64 == int(published(exchange.ingress))


def test_completely_full_ring_refuses_a_cancel_as_busy_and_loses_nothing() -> None:
    exchange = Exchange(ingress=64)
    while exchange.submit("cancel", CANCEL) is None:
        pass
    taken = exchange.ingress.slots.copy()
    assert "BUSY" == exchange.refused("cancel", CANCEL)
    assert "OVERLOADED" == exchange.refused("order", ORDER)
    assert taken.tobytes() == exchange.ingress.slots.tobytes()
    advance(exchange.ingress, 0, 40)
    assert exchange.submit("order", ORDER) is None
    assert 65 == exchange.group()[0]["source_seq"]


@pytest.mark.parametrize(("percent", "slots"), [(1, 62), (50, 32), (90, 6)])
def test_reserved_share_is_as_configured(percent: int, slots: int) -> None:
    exchange = Exchange(ingress=64, overload=Overload(reserved_percent=percent))
    while exchange.submit("order", ORDER) is None:
        pass
    assert slots == int(published(exchange.ingress))


def test_new_orders_are_refused_while_the_queue_means_more_than_the_target() -> None:
    exchange = Exchange(overload=Overload(queue_target_ms=20))
    for _ in range(5):
        exchange.submit("order", ORDER)
    exchange.engine_takes(settle_ns=2_000_000)
    assert exchange.submit("order", ORDER) is None, "10 slots of 2 ms are the target and not more"
    reply = exchange.submit("order", ORDER)
    assert reply is not None
    assert reply.error is not None
    assert ("OVERLOADED", 4, None) == (reply.error.name, reply.error.retry_ms, reply.result)
    assert "12 slots wait for about 24 ms" in reply.error.detail
    assert "OVERLOADED" == exchange.refused("amend", {**CANCEL, "price": "99", "qty": "1"})
    assert exchange.submit("cancel", CANCEL) is None
    assert exchange.submit("deposit", {"account": 7, "asset": "USDT", "amount": "1"}) is None
    exchange.engine_takes(settled=8, settle_ns=2_000_000)
    assert exchange.submit("order", ORDER) is None
    assert 2 == exchange.board[refused_word(lines.LINE_CONTROL)]


def test_slots_of_other_producers_and_slots_not_yet_sequenced_are_before_an_order_too() -> None:
    exchange = Exchange(overload=Overload(queue_target_ms=20))
    exchange.engine_takes(settle_ns=2_000_000)
    exchange.board[lines.SEQUENCED_SEQ] = 9
    assert exchange.submit("order", ORDER) is None
    assert "OVERLOADED" == exchange.refused("order", ORDER)
    assert (11, 22) == queue_of(exchange)
    exchange.board[lines.SETTLED_SEQ] = 9
    assert (2, 4) == queue_of(exchange)


def test_engine_that_settles_nothing_for_longer_than_the_target_gets_no_new_orders() -> None:
    exchange = Exchange(overload=Overload(queue_target_ms=20))
    exchange.submit("order", ORDER)
    exchange.engine_takes()
    assert exchange.submit("order", ORDER) is None
    exchange.now_ns += 20_000_000
    assert exchange.submit("order", ORDER) is None
    exchange.now_ns += 1
    assert "OVERLOADED" == exchange.refused("order", ORDER)
    assert exchange.submit("cancel", CANCEL) is None
    exchange.engine_takes(settled=1)
    assert exchange.submit("order", ORDER) is None


def test_engine_at_rest_is_not_one_that_stands_still() -> None:
    exchange = Exchange(overload=Overload(queue_target_ms=20))
    exchange.engine_takes()
    assert exchange.submit("order", ORDER) is None
    exchange.engine_takes(settled=2)
    assert (0, 0) == queue_of(exchange)
    exchange.now_ns += 10**12
    exchange.board[lines.SEQUENCED_SEQ] = 3
    assert exchange.submit("order", ORDER) is None


def test_without_journal_space_only_cancels_are_taken() -> None:
    exchange = Exchange()
    exchange.board[lines.JOURNAL_SPACE] = 1
    assert "JOURNAL_SPACE" == exchange.refused("order", ORDER)
    assert "JOURNAL_SPACE" == exchange.refused("freeze", {"account": 7})
    assert exchange.submit("cancel", {"account": 7, "order_id": 5, "instrument": "BTCUSDT"}) is None
    assert exchange.submit("cancel_all", {"account": 7}) is None


@pytest.mark.parametrize("state", [lines.ENGINE_DOWN, lines.ENGINE_RECOVERING, lines.ENGINE_STOPPING])
def test_nothing_is_numbered_while_the_engine_does_not_run(state: int) -> None:
    exchange = Exchange()
    exchange.board[lines.ENGINE_STATE] = state
    assert "ENGINE_DOWN" == exchange.refused("cancel", {"account": 7, "order_id": 5, "instrument": "BTCUSDT"})
    assert "ENGINE_DOWN" == exchange.refused("balance", {"account": 7})
    reply = exchange.submit("status")
    assert reply is not None
    assert reply.ok


# --- outcomes to replies ---------------------------------------------------------------------------------------------


def answer(exchange: Exchange, *rows: np.ndarray) -> Any:
    exchange.feed(*rows)
    exchange.board[lines.DURABLE_SEQ] = max(int(row["seq"][0]) for row in rows)
    (reply,) = exchange.replies()
    return reply


OWN = {"source_seq": 1, "order_id": ORDER_ID, "account": 7, "instrument": 1}


def test_a_reply_waits_until_its_command_is_durable() -> None:
    exchange = Exchange()
    exchange.submit("order", ORDER)
    exchange.feed(outcome(30, 0, e.OUT_NEW, flags=e.OUTCOME_LAST, price_ticks=10_000, leaves_qty_lots=50_000, **OWN))
    exchange.board[lines.DURABLE_SEQ] = 29
    assert [] == exchange.replies()
    exchange.board[lines.DURABLE_SEQ] = 30
    (reply,) = exchange.replies()
    assert reply.ok
    assert reply.result is not None
    assert ("resting", "0.5", "0", 30) == tuple(reply.result[k] for k in ("state", "leaves_qty", "cum_qty", "seq"))
    assert 1000 == reply.result["latency_ns"]
    assert 0 == exchange.core.waiting


def test_fills_are_told_with_price_fee_and_average() -> None:
    exchange = Exchange()
    exchange.submit("order", {**ORDER, "qty": "0.3", "client_order_id": "mine"})
    trade = {"kind": e.OUT_TRADE, "fee_asset": 2, "contra_order_id": 55, **OWN}
    result = answer(
        exchange,
        outcome(30, 0, e.OUT_NEW, price_ticks=10_000, leaves_qty_lots=30_000, **OWN),
        outcome(30, 1, e.OUT_IDS, **OWN),
        outcome(30, 2, price_ticks=9_900, qty_lots=10_000, cum_qty_lots=10_000, leaves_qty_lots=20_000,
                value_units=9_900_000, fee_units=10_000, **trade),
        outcome(30, 3, e.OUT_TRADE, price_ticks=9_900, qty_lots=10_000, source_seq=1, order_id=55, account=8),
        outcome(30, 4, price_ticks=10_000, qty_lots=20_000, cum_qty_lots=30_000, leaves_qty_lots=0,
                value_units=20_000_000, fee_units=20_000, flags=0, **trade),
        outcome(30, 5, e.OUT_TRADE, source_seq=1, order_id=56, account=8, flags=e.OUTCOME_LAST),
    ).result  # fmt: skip
    assert ("filled", "0.3", "0", "99.666666666667", "mine") == tuple(
        result[key] for key in ("state", "cum_qty", "leaves_qty", "avg_price", "client_order_id")
    )
    assert [("99", "0.1", "0.0001", "BTC"), ("100", "0.2", "0.0002", "BTC")] == [
        (fill["price"], fill["qty"], fill["fee"], fill["fee_asset"]) for fill in result["fills"]
    ]
    assert [55, 55] == [fill["contra_order_id"] for fill in result["fills"]]


def test_a_rest_that_expired_is_told_with_its_reason() -> None:
    exchange = Exchange()
    exchange.submit("order", {**ORDER, "tif": "ioc"})
    result = answer(
        exchange,
        outcome(30, 0, e.OUT_NEW, price_ticks=10_000, leaves_qty_lots=50_000, **OWN),
        outcome(30, 1, e.OUT_EXPIRED, reason=reasons.BY_IOC, flags=e.OUTCOME_LAST, **OWN),
    ).result
    assert ("expired", "BY_IOC", "0") == (result["state"], result["end_reason"], result["leaves_qty"])


def test_a_refusal_has_its_reason_and_its_seq() -> None:
    exchange = Exchange()
    exchange.submit("order", ORDER)
    reply = answer(
        exchange, outcome(30, 0, e.OUT_REJECTED, reason=reasons.INSUFFICIENT_FUNDS, flags=e.OUTCOME_LAST, **OWN)
    )
    assert not reply.ok
    assert ("INSUFFICIENT_FUNDS", 14) == (reply.error.name, reply.error.code)
    assert (30, "rejected", ORDER_ID) == tuple(reply.result[key] for key in ("seq", "state", "order_id"))


def test_a_cancel_says_what_it_took_off() -> None:
    exchange = Exchange()
    exchange.submit("cancel", {"account": 7, "order_id": 99, "instrument": "BTCUSDT"})
    own = {**OWN, "order_id": 99}
    result = answer(
        exchange,
        outcome(30, 0, e.OUT_CANCELED, reason=reasons.BY_USER, qty_lots=20_000, cum_qty_lots=30_000,
                flags=e.OUTCOME_LAST, **own),
    ).result  # fmt: skip
    assert ("canceled", "0.2", "0.3") == (result["state"], result["canceled_qty"], result["cum_qty"])


def test_cancel_all_counts_every_order_and_lists_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.replies.ROWS_MAX", 2)
    exchange = Exchange()
    exchange.submit("cancel_all", {"account": 7})
    rows = [outcome(30, i, e.OUT_CANCELED, source_seq=1, account=7, order_id=90 + i) for i in range(5)]
    result = answer(exchange, *rows, outcome(30, 5, e.OUT_DONE, source_seq=1, qty_lots=5, flags=e.OUTCOME_LAST)).result
    assert (5, [90, 91]) == (result["count"], result["canceled"])


def test_a_deposit_tells_the_balance_afterwards() -> None:
    exchange = Exchange()
    exchange.submit("deposit", {"account": 7, "asset": "USDT", "amount": "1.5"})
    money = {"asset": 1, "value_units": 150_000_000, "free_units": 650_000_000}
    row = outcome(30, 0, e.OUT_BALANCE, source_seq=1, account=7, **money,
                  flags=e.OUTCOME_LAST)  # fmt: skip
    result = answer(exchange, row).result
    assert ("USDT", "1.5", "6.5", "0") == tuple(result[key] for key in ("asset", "amount", "free", "locked"))


def test_an_account_has_its_name_once_its_creation_is_durable(tmp_path: Path) -> None:
    exchange = Exchange()
    exchange.core.catalog.names = NameBook(tmp_path / FILE_NAME)
    exchange.submit("create_account", {"name": "alice"})
    result = answer(exchange, outcome(30, 0, e.OUT_ADMIN, source_seq=1, account=8, flags=e.OUTCOME_LAST)).result
    assert (8, "alice") == (result["account"], result["name"])
    assert 8 == NameBook(tmp_path / FILE_NAME).number("alice")
    assert "ACCOUNT_EXISTS" == exchange.refused("create_account", {"name": "alice"})
    assert exchange.submit("order", {**ORDER, "account": "alice"}) is None
    assert 8 == exchange.group()[0]["account"]


def test_a_refused_account_gets_no_name() -> None:
    exchange = Exchange()
    exchange.submit("create_account", {"name": "alice", "account": 7})
    row = outcome(30, 0, e.OUT_REJECTED, source_seq=1, reason=reasons.ACCOUNT_EXISTS, flags=e.OUTCOME_LAST)
    assert "ACCOUNT_EXISTS" == answer(exchange, row).error.name
    assert exchange.names.number("alice") is None
    assert exchange.submit("create_account", {"name": "alice"}) is None


def test_an_account_can_be_renamed_and_names_that_read_as_numbers_are_refused() -> None:
    exchange = Exchange()
    for name in ("alice", "bob", "bob"):
        reply = exchange.submit("name_account", {"account": 7, "name": name})
        assert reply is not None
        assert reply.ok
    assert (None, 7) == (exchange.names.number("alice"), exchange.names.number("bob"))
    for name in ("12", "", "a b", "x" * 33):
        assert "MALFORMED" == exchange.refused("name_account", {"account": 7, "name": name})
    assert "UNKNOWN_ACCOUNT" == exchange.refused("name_account", {"account": 9, "name": "carol"})


def test_a_damaged_file_of_names_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"alice": "x"}')
    with pytest.raises(NamesError, match="cannot read the account names in"):
        NameBook(tmp_path / FILE_NAME)


def test_outcomes_of_other_commands_answer_nothing() -> None:
    exchange = Exchange()
    exchange.submit("order", ORDER)
    exchange.feed(outcome(29, source_seq=9, flags=e.OUTCOME_LAST), outcome(30, source=5, source_seq=1, flags=1))
    exchange.board[lines.DURABLE_SEQ] = 30
    assert [] == exchange.replies()


def test_a_lapped_follower_answers_what_waits_as_unknown() -> None:
    exchange = Exchange(outcomes=8)
    exchange.submit("order", ORDER)
    exchange.feed(*[outcome(seq, source=5) for seq in range(1, 20)])
    (reply,) = exchange.replies()
    assert not reply.ok
    assert reply.error is not None
    assert "OUTCOME_UNKNOWN" == reply.error.name
    assert reply.result is not None
    assert ("unknown", ORDER_ID) == (reply.result["state"], reply.result["order_id"])
    assert 0 == exchange.core.waiting


def test_a_command_that_was_not_durable_is_answered_by_the_next_epoch() -> None:
    exchange = Exchange()
    exchange.board[lines.SETTLED_SEQ] = 20
    exchange.submit("order", ORDER)
    exchange.feed(outcome(30, 0, e.OUT_NEW, price_ticks=10_000, leaves_qty_lots=50_000, **OWN))
    exchange.board[lines.DURABLE_SEQ] = 25
    assert [] == exchange.replies()
    exchange.board[lines.EPOCH] = 2
    exchange.outcomes = private_ring(OUTCOME_DTYPE, 64, 1, gating=False)
    assert exchange.follower.change_epoch(exchange.outcomes, 2, 25, exchange.core.needed_seq)
    assert [] == exchange.core.change_epoch(FakeView())
    exchange.feed(outcome(24, source=5), outcome(26, 0, e.OUT_REJECTED, reason=9, flags=e.OUTCOME_LAST, **OWN))
    exchange.board[lines.DURABLE_SEQ] = 26
    (reply,) = exchange.replies()
    assert reply.error is not None
    assert reply.result is not None
    assert ("INSTRUMENT_HALTED", 26) == (reply.error.name, reply.result["seq"])


# --- queries ---------------------------------------------------------------------------------------------------------


def test_a_query_waits_until_its_rows_are_durable() -> None:
    exchange = Exchange()
    exchange.board[lines.DURABLE_SEQ] = 8
    assert exchange.submit("balance", {"account": 7}) is None
    assert [] == exchange.replies()
    exchange.board[lines.DURABLE_SEQ] = 9
    (reply,) = exchange.replies()
    assert reply.result is not None
    assert {"USDT": {"free": "5", "locked": "0"}} == reply.result["balances"]
    assert 9 == reply.result["seq"]


def test_a_query_is_asked_again_of_the_next_epoch() -> None:
    exchange = Exchange()
    exchange.submit("account", {"account": 7})
    view = FakeView()
    view.account_rows[7] = AccountRow(7, e.ACCOUNT_FROZEN, 3)
    assert [] == exchange.core.change_epoch(view)
    exchange.board[lines.DURABLE_SEQ] = 3
    (reply,) = exchange.replies()
    assert reply.result is not None
    assert "frozen" == reply.result["state"]
    exchange.submit("account", {"account": 7})
    view.account_rows.clear()
    (gone,) = exchange.core.change_epoch(view)
    assert gone.reply.error is not None
    assert "UNKNOWN_ACCOUNT" == gone.reply.error.name


def test_every_query_answers_in_decimal_text() -> None:
    exchange = Exchange()
    exchange.view.orders = [resting(77, "old")]
    exchange.names.assign("alice", 7)
    exchange.board[lines.DURABLE_SEQ] = 100

    def ask(op: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
        assert exchange.submit(op, args) is None
        (reply,) = exchange.replies()
        assert reply.result is not None
        return reply.result

    order = ask("orders", {"account": "alice"})["orders"][0]
    assert (77, "alice", "BTCUSDT", "buy", "99", "0.5", "old") == tuple(
        order[key] for key in ("order_id", "name", "instrument", "side", "price", "leaves_qty", "client_order_id")
    )
    book = ask("book", {"instrument": "BTCUSDT"})
    assert {"price": "99.99", "qty": "0.00005", "orders": 1} == book["bids"][0]
    assert "100" == ask("instruments")["instruments"][0]["last_price"]
    assert ["USDT", "BTC"] == [row["symbol"] for row in ask("assets")["assets"]]
    assert [{"account": 7, "name": "alice", "state": "open"}] == ask("accounts")["accounts"]


def test_peers_that_left_and_requests_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.core.PENDING_MAX", 4)
    exchange = Exchange()
    exchange.submit("balance", {"account": 7}, peer=1)
    exchange.submit("balance", {"account": 7}, peer=1)
    exchange.submit("order", ORDER, peer=2)
    assert "OVERLOADED" == exchange.refused("order", ORDER)
    assert "OVERLOADED" == exchange.refused("balance", {"account": 7})
    assert exchange.submit("cancel", CANCEL, peer=2) is None
    assert "BUSY" == exchange.refused("cancel", CANCEL)
    exchange.core.forget(1)
    exchange.core.forget(2)
    assert 2 == exchange.core.waiting
    assert [2, 2] == [answered.peer for answered in exchange.core.give_up(5)]


def test_a_new_asset_is_found_after_its_listing() -> None:
    exchange = Exchange()
    assert "UNKNOWN_ASSET" == exchange.refused("deposit", {"account": 7, "asset": "ETH", "amount": "1"})
    exchange.view.asset_rows = [*exchange.view.asset_rows, AssetRow(Asset(3, "ETH"), 40)]
    assert exchange.submit("deposit", {"account": 7, "asset": "ETH", "amount": "1"}) is None


def test_an_engine_found_wrong_takes_nothing_and_its_outcomes_are_not_passed_on() -> None:
    exchange = Exchange()
    assert exchange.submit("order", {**ORDER}) is None
    exchange.feed(outcome(20, 0, e.OUT_NEW, flags=e.OUTCOME_LAST, price_ticks=10_000, leaves_qty_lots=50_000, **OWN))
    exchange.board[lines.DURABLE_SEQ] = 30
    exchange.board[lines.DIVERGED] = lines.DIVERGED_STOP
    assert [] == exchange.replies()
    assert "DIVERGED" == exchange.refused("order", {**ORDER})
    assert "DIVERGED" == exchange.refused("balance", {"account": 7})
    exchange.board[lines.DIVERGED] = lines.DIVERGED_ALARM
    assert [True] == [reply.ok for reply in exchange.replies()]


def test_groups_of_an_account_are_final_when_none_of_their_changes_is_under_way() -> None:
    exchange = Exchange()
    assert exchange.core.groups_are_final(7)
    assert exchange.submit("set_groups", {"account": 7, "stp_group": 5}) is None
    assert (False, True) == (exchange.core.groups_are_final(7), exchange.core.groups_are_final(8))
    exchange.feed(
        outcome(1, source_seq=int(exchange.group()[0]["source_seq"]), type=e.SET_GROUPS, flags=e.OUTCOME_LAST)
    )
    exchange.board[lines.DURABLE_SEQ] = 5
    assert 1 == len(exchange.replies())
    assert exchange.core.groups_are_final(7)


def test_groups_are_not_final_until_what_an_earlier_gateway_sent_is_settled() -> None:
    exchange = Exchange()
    exchange.submit("set_groups", {"account": 7, "stp_group": 5})
    later = ControlCore(exchange.ingress, exchange.board, Limits(accounts=1000), exchange.names, view=exchange.view)
    assert not later.groups_are_final(7)
    exchange.board[lines.SEQUENCED_SEQ] = exchange.board[lines.LANE_SEQUENCED + e.SOURCE_CONTROL] = 2
    assert not later.groups_are_final(7)
    exchange.board[lines.SETTLED_SEQ] = 2
    assert later.groups_are_final(7)
