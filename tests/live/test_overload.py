"""A slowed exchange with tiny rings and far too many orders: what is refused got no number, and cancels get through."""

import itertools
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from cambist.home import Home
from gateway.control.client import ControlClient
from tests.live.support import TIMEOUT_S, cambist_here, settings_file, up

TINY = {"ingress": 128, "command": 512, "window": 256, "event": 4, "outcome": 4096}
ORDERS = 500
CANCELS = 8
SLOTS_OF_AN_ORDER = 3
POLICE = "test"


def asked(op: str, number: int, **args: Any) -> dict[str, Any]:
    return {"id": number, "op": op, "args": {"account": 1, "instrument": "OREUSD", **args}, "operator": POLICE}


def order(number: int) -> dict[str, Any]:
    return asked("order", number, side="buy", price="1", qty="1", client_order_id=f"o{number}")


def cancel(number: int) -> dict[str, Any]:
    return asked("cancel", 10_000 + number, client_order_id=f"o{number}")


def replies(home: Home, requests: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Send all at once on one connection, and read the replies by id."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(home.path / "run" / "control.sock"))
        connection.sendall(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
        with connection.makefile("rb") as file:
            found = [json.loads(file.readline()) for _ in requests]
    return {reply["id"]: reply for reply in found}


def lane_of(home: Home) -> dict[str, Any]:
    state = cambist_here("status", "--json", "--home", home.path).json
    return next(lane for lane in state["lanes"] if lane["name"] == "control")


@pytest.mark.parametrize(
    ("rings", "gateway", "cause"),
    [
        (TINY, {"queue_target_ms": 60_000}, "slots of the ring are kept for cancels"),
        ({}, {"queue_target_ms": 100}, "new orders may for 100 ms"),
    ],
)
def test_overloaded_exchange_refuses_orders_before_numbering_and_no_cancel(
    tmp_path: Path, rings: dict[str, int], gateway: dict[str, int], cause: str
) -> None:
    folder = tmp_path / "home"
    settings_file(folder, {"test": {"matcher_delay_us": 1_000}, "rings": rings, "gateway": gateway})
    with up(folder) as home:
        with ControlClient(folder, operator=POLICE) as client:
            for asset in ("USD", "ORE"):
                client.call("list_asset", {"symbol": asset}, POLICE)
            market = {"symbol": "OREUSD", "base": "ORE", "quote": "USD", "tick_size": "0.01", "lot_size": "0.01"}
            client.call("list_instrument", market, POLICE)
            client.call("create_account", {"account": 1}, POLICE)
            client.call("deposit", {"account": 1, "asset": "USD", "amount": "1000000"}, POLICE)
            # So that the exchange knows how slow it is.
            warm = replies(home, [order(number) for number in range(9_000, 9_100)])
            client.call("cancel_all", {"account": 1})
        before = lane_of(home)
        found = replies(home, [*map(order, range(ORDERS)), *map(cancel, range(CANCELS))])

        cancels = [found[10_000 + number] for number in range(CANCELS)]
        assert ["canceled"] * CANCELS == [reply["result"]["state"] for reply in cancels]
        accepted = [number for number in range(ORDERS) if found[number]["ok"]]
        refused = [found[number] for number in range(ORDERS) if not found[number]["ok"]]
        assert accepted[:CANCELS] == list(range(CANCELS))
        assert refused
        assert {"OVERLOADED"} == {reply["error"]["name"] for reply in refused}
        assert all(reply["result"] is None and reply["error"]["retry_ms"] >= 1 for reply in refused)
        assert all(cause in reply["error"]["detail"] for reply in refused)
        numbers = sorted(found[number]["result"]["source_seq"] for number in accepted)
        gaps = {b - a for a, b in itertools.pairwise(numbers)}
        assert {SLOTS_OF_AN_ORDER} == gaps, "a refused order takes no number"

        after = lane_of(home)
        assert len(refused) == after["refused_orders"] - before["refused_orders"]
        assert (0, 0, 0) == (after["used"], after["queue_slots"], after["queue_ms"])
        assert all(reply["ok"] or reply["error"]["name"] == "OVERLOADED" for reply in warm.values())
        again = replies(home, [order(int(refused[0]["id"]))])
        with ControlClient(folder, operator=POLICE) as client:
            assert len(accepted) - CANCELS + 1 == client.call("orders", {"account": 1})["count"]
        assert all(reply["ok"] for reply in again.values())
        verified = cambist_here("verify", "--json", "--home", folder)
        assert (0, []) == (verified.status, verified.json["problems"])
