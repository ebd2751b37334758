"""The control gateway as a process has it: a real socket, a thread that serves, a thread that plays the engine."""

import json
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self, cast

import numpy as np
import pytest
import uvloop

from gateway.access.cache import AccessCache
from gateway.access.passwords import Passwords
from gateway.control import server as server_module
from gateway.control.client import ControlClient, ControlError, NotRunningError, RefusedError
from gateway.control.core import ControlCore
from gateway.control.desk import Desk
from gateway.control.names import NameBook
from gateway.control.server import ControlServer, EpochRings, ServerError, listen
from gateway.listening.settings import Listening
from gateway.rates import table
from gateway.rates.limiter import Limiter
from gateway.rates.rules import RateLimits
from gateway.watch import OutcomeWatch
from protocol import board as lines
from protocol import enums as e
from protocol.instance import Limits
from protocol.records import COMMAND_DTYPE, OUTCOME_DTYPE
from ringbuf import Ring, advance, fence, private_ring, published, reader_cursor, ring_bell, store_release
from tests.access.support import CHEAP
from tests.gateway.support import Exchange, FakeView, feed, outcome, running_board

ORDER = {"account": 7, "instrument": "BTCUSDT", "side": "buy", "price": "100.00", "qty": "0.5"}


async def _warm_watch(board: np.ndarray) -> None:
    OutcomeWatch(board, lines.LINE_CONTROL).start().stop()


class Service:
    """A server in a thread, and an engine that accepts every command."""

    def __init__(self, home: Path, listening: Listening | None = None, cache: object = None) -> None:
        self.home = home
        self.listening = listening
        self.cache = cast("AccessCache | None", cache)
        self.board = running_board()
        self.ingress = private_ring(COMMAND_DTYPE, 64, board=self.board)
        self.views: dict[int, FakeView] = {1: FakeView()}
        self.rings: dict[int, Ring] = {1: self._outcome_ring()}
        self.engine_runs = True
        self.seq = 100
        self.core = ControlCore(self.ingress, self.board, Limits(accounts=1000), NameBook())
        self._end = threading.Event()
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._server: ControlServer | None = None
        self._threads = [threading.Thread(target=self._serve), threading.Thread(target=self._engine)]

    def _outcome_ring(self) -> Ring:
        return private_ring(OUTCOME_DTYPE, 256, 1, gating=False, board=self.board, bell_lines=(lines.LINE_CONTROL,))

    def __enter__(self) -> Self:
        # On a cold cache compiling takes longer than a client waits.
        exchange = Exchange()
        exchange.submit("order", ORDER)
        exchange.replies()
        ring_bell(self.board, lines.LINE_CONTROL)
        uvloop.run(_warm_watch(self.board))
        for thread in self._threads:
            thread.start()
        assert self._started.wait(20)
        self._wait_until_it_listens()
        return self

    def __exit__(self, *_: object) -> None:
        self.board[lines.STOP] = 2
        self._threads[0].join(20)
        self._end.set()
        self._threads[1].join(20)
        assert self._error is None

    def _wait_until_it_listens(self) -> None:
        # The socket's file is there before anybody listens on it.
        deadline = time.monotonic() + 20
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.home / "run" / "control.sock")) == 0:
                    return
            assert time.monotonic() < deadline, f"no control socket after 20 s: {self._error!r}"
            time.sleep(0.005)

    def next_epoch(self) -> None:
        """The engine dies and comes back."""
        self.board[lines.ENGINE_STATE] = lines.ENGINE_RECOVERING
        epoch = int(self.board[lines.EPOCH]) + 1
        self.views[epoch] = FakeView()
        self.rings[epoch] = self._outcome_ring()
        self.board[lines.RECOVERED_SEQ] = self.seq
        self.board[lines.EPOCH] = epoch
        self.board[lines.ENGINE_STATE] = lines.ENGINE_RUNNING

    def client(self, **options: float) -> ControlClient:
        return ControlClient(self.home, operator="ann", **options)  # type: ignore[arg-type]

    def _serve(self) -> None:
        def attach(epoch: int) -> EpochRings:
            return EpochRings(self.rings[epoch], 0, self.views[epoch])

        async def run() -> None:
            path = self.home / "run" / "control.sock"
            limiter = Limiter(table.private(RateLimits()), RateLimits())
            desk = Desk(self.cache, self.core.catalog, Passwords(CHEAP), limiter)
            given = (self.core, self.board, lines.LINE_CONTROL, attach, path, desk)
            self._server = ControlServer(*given, listening=self.listening, home=self.home)
            self._started.set()
            await self._server.serve()

        try:
            uvloop.run(run())
        except BaseException as error:  # noqa: BLE001 - the test's thread must hear of it
            self._error = error
            self._started.set()

    def _engine(self) -> None:
        while not self._end.is_set():
            last = int(published(self.ingress))
            read = int(reader_cursor(self.ingress, 0))
            if not self.engine_runs or last == read:
                time.sleep(0.0005)
                continue
            heads = [self.ingress.slots[(p - 1) & 63].copy() for p in range(read + 1, last + 1)]
            for head in heads:
                if head["type"] < e.EXT_IDS:
                    self._accept(head)
            self.board[lines.LANE_SEQUENCED + e.SOURCE_CONTROL] = last
            self.board[lines.SEQUENCED_SEQ] = self.board[lines.SETTLED_SEQ] = self.seq
            store_release(self.board, lines.DURABLE_SEQ, self.seq)
            fence()
            ring_bell(self.board, lines.LINE_CONTROL)
            advance(self.ingress, 0, last)

    def _accept(self, head: np.void) -> None:
        self.seq += 1
        kind = e.OUT_NEW if head["type"] == e.LIMIT else e.OUT_ADMIN
        row = outcome(self.seq, 0, kind, flags=e.OUTCOME_LAST, source_seq=int(head["source_seq"]))
        for name in ("order_id", "account", "instrument", "price_ticks"):
            row[name] = head[name]
        row["leaves_qty_lots"] = head["qty_lots"]
        feed(self.rings[int(self.board[lines.EPOCH])], row)


@pytest.fixture
def service() -> Iterator[Service]:
    # A socket path has at most 107 bytes, which a test's own folder may exceed.
    with tempfile.TemporaryDirectory(prefix="cambist-") as folder, Service(Path(folder)) as running:
        running.board[lines.DURABLE_SEQ] = 100
        yield running


def test_an_order_is_answered_and_its_socket_is_the_owners(service: Service) -> None:
    with service.client() as client:
        result = client.call("order", ORDER)
        assert ("resting", 101) == (result["state"], result["seq"])
        assert 0 < result["latency_ns"] < 5_000_000_000
        assert "100" == client.call("instruments")["instruments"][0]["last_price"]
        with pytest.raises(RefusedError, match="OFF_TICK: the price is not a multiple"):
            client.call("order", {**ORDER, "price": "100.001"})
    run = service.home / "run"
    assert 0o700 == stat.S_IMODE(run.stat().st_mode)
    assert 0o600 == stat.S_IMODE((run / "control.sock").stat().st_mode)


def test_requests_of_many_peers_are_answered_to_the_one_that_asked(service: Service) -> None:
    clients = [service.client() for _ in range(8)]
    results = [client.call("create_account", {"account": 10 + i}, "why") for i, client in enumerate(clients)]
    assert [10 + i for i in range(8)] == [result["account"] for result in results]
    for client in clients:
        client.close()


def test_a_peer_that_ends_its_side_still_gets_its_answers(service: Service) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(service.home / "run" / "control.sock"))
        lines_out = [{"id": i, "op": "order", "args": ORDER, "operator": "ann"} for i in range(3)]
        connection.sendall(b"rubbish\n" + b"\n".join(json.dumps(line).encode() for line in lines_out))
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    replies = [json.loads(line) for line in data.splitlines()]
    assert [(None, False), (0, True), (1, True), (2, True)] == [(reply["id"], reply["ok"]) for reply in replies]


def test_a_command_sent_before_a_crash_is_answered_after_it(service: Service) -> None:
    with service.client() as client:
        assert client.call("order", ORDER)["seq"] == 101
        service.engine_runs = False
        results: list[int] = []
        sender = threading.Thread(target=lambda: results.append(client.call("order", ORDER)["seq"]))
        sender.start()
        deadline = time.monotonic() + 10
        while int(published(service.ingress)) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        service.next_epoch()
        service.engine_runs = True
        sender.join(10)
        assert [102] == results


def test_a_stop_answers_what_waits_as_unknown_and_removes_the_socket(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_LAST_ANSWERS_S", 0.05)
    service.engine_runs = False
    with service.client() as client:
        errors: list[str] = []

        def order() -> None:
            try:
                client.call("order", ORDER)
            except ControlError as error:
                errors.append(str(error))

        sender = threading.Thread(target=order)
        sender.start()
        while int(published(service.ingress)) == 0:
            time.sleep(0.001)
        service.board[lines.STOP] = 2
        sender.join(10)
    assert 1 == len(errors)
    assert errors[0].startswith("OUTCOME_UNKNOWN")
    assert not (service.home / "run" / "control.sock").exists()


def test_an_engine_found_wrong_is_said_to_be_so_and_what_waits_is_unknown(service: Service) -> None:
    service.engine_runs = False
    with service.client() as client:
        errors: list[str] = []

        def order() -> None:
            try:
                client.call("order", ORDER)
            except ControlError as error:
                errors.append(str(error))

        sender = threading.Thread(target=order)
        sender.start()
        while int(published(service.ingress)) == 0:
            time.sleep(0.001)
        service.board[lines.DIVERGED] = lines.DIVERGED_STOP
        sender.join(10)
        assert errors[0].startswith("OUTCOME_UNKNOWN")
        with pytest.raises(RefusedError, match="DIVERGED: the exchange acknowledges nothing until an operator acts"):
            client.call("order", ORDER)


def test_an_engine_that_does_not_answer_times_out_with_advice(service: Service) -> None:
    service.engine_runs = False
    with service.client(timeout_s=0.05) as client, pytest.raises(ControlError, match="it may have been executed"):
        client.call("order", ORDER)
    service.engine_runs = True


def test_without_anything_to_do_the_gateway_sleeps(service: Service) -> None:
    with service.client() as client:
        client.call("status")
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(1.0)
    # The thread that plays the engine polls; the gateway's share is a fraction of this.
    assert time.process_time() - before < 0.5


def test_nobody_serves_a_home_without_a_socket(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match=r"no exchange is running in .*: start it with `cambist up --home"):
        ControlClient(tmp_path)


def test_a_socket_that_a_dead_gateway_left_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="cambist-") as folder:
        path = Path(folder) / "run" / "control.sock"
        listen(path).close()
        assert path.exists()
        second = listen(path)
        with pytest.raises(ServerError, match="another control gateway answers there"):
            listen(path)
        second.close()
        path.unlink()
        path.write_text("x")
        with pytest.raises(ServerError, match="is no socket"):
            listen(path)
    with pytest.raises(ServerError, match="at most 107 bytes"):
        listen(tmp_path / ("x" * 120) / "control.sock")
