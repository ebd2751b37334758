"""Exits that have not entered when everything is killed: they are there, once, whatever the next start begins with."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.control.client import ControlClient, ControlError
from protocol import board as b
from tests.chaos.exchange import Exchange

WHO = "test"
PAIR = [{"price": "110", "tif": "post_only"}, {"price": "80", "trigger_price": "90"}]


def order(client: ControlClient, account: str, side: str, qty: str, price: str, **more: Any) -> int:
    args = {"account": account, "instrument": "OREUSD", "side": side, "qty": qty, "price": price}
    return int(client.call("order", args | more)["order_id"])


def open_market(client: ControlClient) -> None:
    for asset in ("USD", "ORE"):
        client.call("list_asset", {"symbol": asset, "scale": 6}, WHO)
    market = {"symbol": "OREUSD", "base": "ORE", "quote": "USD", "tick_size": "1", "lot_size": "1"}
    client.call("list_instrument", market, WHO)
    for account in ("alice", "bob"):
        client.call("create_account", {"name": account}, WHO)
        for asset in ("USD", "ORE"):
            client.call("deposit", {"account": account, "asset": asset, "amount": "1000"}, WHO)


def standing(home: Path) -> list[tuple[str, str, str]]:
    """Side, quantity and price of alice's open orders."""
    with ControlClient(home, operator=WHO) as client:
        rows = client.call("orders", {"account": "alice"})["orders"]
    return sorted((row["side"], row["qty"], row["price"]) for row in rows)


def kill_between_trade_and_exits(exchange: Exchange, price: str, *, snapshot: bool) -> None:
    """Bob sells at a price; the sale is durable, and risk, which stands still, has not asked for the exits when all is killed.

    ``snapshot``: the next start begins with one that has the entry at rest; else with nothing but the journal.
    """
    risk = exchange.pids()["risk"]
    entered = exchange.word(b.DURABLE_SEQ)
    if snapshot:
        exchange.wait("a snapshot has the entry", lambda: exchange.word(b.SNAPSHOT_SEQ) >= entered)
    before = exchange.word(b.DURABLE_SEQ)
    os.kill(risk, signal.SIGSTOP)

    def sell() -> None:
        with contextlib.suppress(ControlError), ControlClient(exchange.home.path, operator=WHO) as client:
            order(client, "bob", "sell", "2", price)

    seller = threading.Thread(target=sell)
    seller.start()
    exchange.wait("the trade is durable", lambda: exchange.word(b.DURABLE_SEQ) > before)
    exchange.kill("everything")
    seller.join()
    if not snapshot:
        shutil.rmtree(exchange.home.path / "snapshots", ignore_errors=True)
    exchange.up()
    exchange.wait("all is well", exchange.is_well)
    epoch = exchange.word(b.EPOCH)
    report = json.loads((exchange.home.shared / f"epoch-{epoch}" / "recovery.json").read_text())
    assert snapshot == (report["snapshot_seq"] >= entered)


@pytest.mark.timeout(240)
def test_exits_of_an_entry_at_rest_and_of_one_that_has_just_traded_outlive_a_kill_of_everything(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path / "home", shards=2)
    home = exchange.home.path
    home.mkdir()
    exchange.up()
    try:
        with ControlClient(home, operator=WHO) as client:
            open_market(client)
            for price in ("100", "99"):
                order(client, "alice", "buy", "2", price, exits=PAIR)
        kill_between_trade_and_exits(exchange, "100", snapshot=False)
        pair = [("sell", "2", "110"), ("sell", "2", "80")]
        exchange.wait("the first entry's exits stand", lambda: len(standing(home)) == 3)
        assert [("buy", "2", "99"), *pair] == standing(home)
        kill_between_trade_and_exits(exchange, "99", snapshot=True)
        exchange.wait("the second entry's exits stand", lambda: len(standing(home)) == 4)
        assert sorted(2 * pair) == standing(home)
        # Both pairs are linked: a trade with one of each ends the other.
        with ControlClient(home, operator=WHO) as client:
            order(client, "bob", "buy", "3", "110")
        exchange.wait("the stops are gone", lambda: len(standing(home)) == 1)
        assert [("sell", "2", "110")] == standing(home)
        done = subprocess.run(
            [sys.executable, "-m", "cambist", "verify", "--home", str(home)], capture_output=True, text=True
        )
        assert 0 == done.returncode, done.stderr
        assert [] == exchange.crashes()
    finally:
        exchange.end()
