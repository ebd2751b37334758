"""A client that lost its connection sends the order again: cut at every byte, there is exactly one order, and the client knows it."""

import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.control.engine_view import RiskView
from persistence.fused import FusedEngine
from protocol import board as lines
from protocol import build
from protocol import enums as e
from protocol.instance import Engine, Limits, Rings
from protocol.instruments import Asset, Instrument
from protocol.records import OUTCOME_DTYPE, OUTCOME_IDS
from ringbuf import advance, fence, private_ring, published, reader_cursor, ring_bell, store_release
from tests.gateway.support import feed
from tests.gateway.test_server import Service

pytestmark = pytest.mark.timeout(600)  # the first test may have to compile all kernels
WHO = ("op", "test")
USDT, BTC = Asset(1, "USDT", 8), Asset(2, "BTC", 8)
LIMITS = Limits(accounts=1000, assets=4, instruments=4, orders=1 << 12, leaves=1 << 8, withdrawal_holds=8, outbox=8)
RINGS = Rings(ingress=1 << 10, command=1 << 10, event=1 << 8, outcome=1 << 10, window=1 << 9)
SECOND_NS = 1_000_000_000

PATIENCE_S = 120
"""On a busy machine a service may get no core for long."""


class EngineService(Service):
    """The server with the kernels of risk and matcher behind it. Time stands still unless a test moves it."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.engine = FusedEngine(Engine(limits=LIMITS, rings=RINGS))
        self.rings = {1: private_ring(OUTCOME_DTYPE, 1 << 12, 1, gating=False, board=self.board,
                                      bell_lines=(lines.LINE_CONTROL,))}  # fmt: skip
        self.views = {1: RiskView(self.engine.risk, self.board)}  # type: ignore[dict-item]
        self.ts_ns = 1_700_000_000 * SECOND_NS
        self.outcomes: list[np.ndarray] = []
        instrument = Instrument(1, "BTCUSDT", BTC, USDT, tick_e8=1_000_000, lot_atoms=1_000)
        for group in (
            build.list_asset(USDT, *WHO),
            build.list_asset(BTC, *WHO),
            build.list_instrument(instrument, *WHO),
            *(build.create_account(account, *WHO) for account in (7, 8)),
            *(build.deposit(account, asset, 10**15, *WHO) for account in (7, 8) for asset in (1, 2)),
        ):
            self.apply(build.stamp(group, 0, self.engine.last_seq + 1))

    def apply(self, slots: np.ndarray) -> None:
        """Sequence and settle whole groups; their outcomes are kept and published."""
        slots = slots.copy()
        slots["seq"] = np.arange(len(slots)) + self.engine.last_seq + 1
        slots["ts_ns"] = self.ts_ns
        self.engine.feed(slots, lambda part: self.outcomes.append(part.copy()))
        self.board[lines.SETTLED_SEQ] = self.engine.last_seq

    def _engine(self) -> None:
        while not self._end.is_set():
            last, read = int(published(self.ingress)), int(reader_cursor(self.ingress, 0))
            if last == read:
                time.sleep(0.0002)
                continue
            known = len(self.outcomes)
            self.apply(self.ingress.slots[np.arange(read, last) & (len(self.ingress.slots) - 1)])
            for part in self.outcomes[known:]:
                feed(self.rings[1], *part.reshape(-1, 1))
            store_release(self.board, lines.DURABLE_SEQ, self.engine.last_seq)
            advance(self.ingress, 0, last)
            fence()
            ring_bell(self.board, lines.LINE_CONTROL)

    def orders_of(self, name: str) -> list[int]:
        """Ids of all orders that were ever accepted with a client order id."""
        said = np.concatenate(self.outcomes)
        ids = said[said["kind"] == e.OUT_IDS].view(OUTCOME_IDS.slot_dtype)
        return [int(row["order_id"]) for row in ids if row["client_order_id"] == name.encode()]

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        connection.connect(str(self.home / "run" / "control.sock"))
        return connection


@pytest.fixture(scope="module")
def service() -> Iterator[EngineService]:
    with tempfile.TemporaryDirectory(prefix="cambist-") as folder, EngineService(Path(folder)) as running:
        yield running


def request(name: str, price: str = "100.00") -> bytes:
    args = {"account": 7, "instrument": "BTCUSDT", "side": "buy", "price": price, "qty": "0.5", "client_order_id": name}
    return json.dumps({"id": 1, "op": "order", "args": args, "operator": "ann"}).encode() + b"\n"


def read_line(connection: socket.socket, most: int = 1 << 20) -> bytes:
    """A reply, or its first ``most`` bytes."""
    data = b""
    while len(data) < most and not data.endswith(b"\n"):
        part = connection.recv(most - len(data))
        if not part:
            break
        data += part
    return data


def again(service: EngineService, name: str, price: str = "100.00") -> tuple[int, str]:
    """Send the order once more and read the whole reply: the order that the client now has, and its state."""
    with service.connect() as connection:
        connection.sendall(request(name, price))
        reply: dict[str, Any] = json.loads(read_line(connection))
    if reply["ok"]:
        return reply["result"]["order_id"], reply["result"]["state"]
    assert "DUPLICATE_CLIENT_ID" == reply["error"]["name"], reply
    first = reply["result"]["first_order"]
    assert f"order {first['order_id']} on BTCUSDT has it and is {first['state']}" in reply["error"]["detail"]
    return first["order_id"], first["state"]


LENGTH = len(request("cut-r-000"))


@pytest.mark.parametrize("cut", range(LENGTH + 1))
def test_request_cut_at_any_byte_and_sent_again_is_one_order(service: EngineService, cut: int) -> None:
    name = f"cut-r-{cut:03}"
    with service.connect() as connection:
        connection.sendall(request(name)[:cut])
    order_id, state = again(service, name)
    assert [order_id] == service.orders_of(name)
    assert state in {"resting", "open"}


def test_reply_cut_at_any_byte_and_the_order_sent_again_is_one_order(service: EngineService) -> None:
    with service.connect() as connection:
        connection.sendall(request("whole"))
        length = len(read_line(connection))
    for cut in range(length + 1):
        name = f"cut-a-{cut:03}"
        with service.connect() as connection:
            connection.sendall(request(name))
            assert cut == len(read_line(connection, cut)) or cut > length - 20  # the latency has more digits or fewer
        order_id, state = again(service, name)
        assert [order_id] == service.orders_of(name)
        assert "open" == state or cut == 0


def test_order_that_was_filled_meanwhile_is_told_as_filled(service: EngineService) -> None:
    length = len(request("fill-000", "200.00"))
    for cut in range(0, length + 1, 8):
        name = f"fill-{cut:03}"
        with service.connect() as connection, service.client() as other:
            other.call(
                "order", {"account": 8, "instrument": "BTCUSDT", "side": "sell", "price": "200.00", "qty": "0.5"}
            )
            connection.sendall(request(name, "200.00")[:cut])
        assert "filled" == again(service, name, "200.00")[1]
        assert 1 == len(service.orders_of(name))


def test_cancel_by_client_order_id_after_a_lost_reply_finds_the_first_order(service: EngineService) -> None:
    with service.connect() as connection:
        connection.sendall(request("lost"))
        read_line(connection, 1)
    order_id, _ = again(service, "lost")
    with service.client() as client:
        result = client.call("cancel", {"account": 7, "client_order_id": "lost"})
    assert (order_id, "canceled") == (result["order_id"], result["state"])
    assert (order_id, "resting") != again(service, "lost")
    assert 2 == len(service.orders_of("lost"))


def test_clients_that_send_one_order_at_once_have_one_order(service: EngineService) -> None:
    said: list[tuple[int, str]] = []
    threads = [threading.Thread(target=lambda: said.append(again(service, "race"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert 8 == len(said)
    assert {order_id for order_id, _ in said} == set(service.orders_of("race"))
    assert 1 == len(service.orders_of("race"))


def test_id_may_be_used_again_when_its_time_is_past(service: EngineService) -> None:
    with service.client() as other:
        other.call("order", {"account": 8, "instrument": "BTCUSDT", "side": "sell", "price": "200.00", "qty": "0.5"})
    order_id, state = again(service, "later", "200.00")
    assert ("filled", order_id) == (state, again(service, "later", "200.00")[0])
    service.ts_ns += 10 * SECOND_NS
    assert order_id != again(service, "later")[0]
    assert 2 == len(service.orders_of("later"))
