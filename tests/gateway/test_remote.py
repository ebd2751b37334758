"""The control gateway over TCP: who may speak, how long, and the client and commands that speak to it."""

import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cambist.cli import main
from gateway.access import codes
from gateway.control import server as server_module
from gateway.control.client import ControlClient, ControlError, NotRunningError, RefusedError, Remote
from gateway.listening.settings import Address, Listening, Tls
from protocol import board as lines
from tests.access.support import PASSWORD
from tests.gateway.test_desk import MemoryCache, Office
from tests.gateway.test_server import ORDER, Service
from tests.listening.authority import Authority


class Elsewhere:
    """A served exchange with the operators olga (dealing) and paul (auditor), TLS, and its authority."""

    def __init__(self, service: Service, authority: Authority) -> None:
        self.service = service
        self.authority = authority
        with service.client() as client:
            listener = client.call("status")["listeners"][0]
        self.listener = listener
        self.address = Address("127.0.0.1", int(listener["address"].rpartition(":")[2]))

    def remote(self, **more: Any) -> Remote:
        return Remote(self.address, self.authority.ca)._replace(**more)

    def client(self, **options: str) -> ControlClient:
        return ControlClient(self.remote(), operator=options.get("operator", "olga"))


def operators() -> MemoryCache:
    office = Office()
    office.cache.now_ns = time.time_ns()
    office.operator("olga", "dealing")
    office.operator("paul", "auditor")
    return office.cache


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    certificate, key = authority.sign("server")
    listening = Listening("127.0.0.1:0", Tls(str(certificate), str(key)))
    with (
        tempfile.TemporaryDirectory(prefix="cambist-") as folder,
        Service(Path(folder), listening, operators()) as running,
    ):
        running.board[lines.DURABLE_SEQ] = 100
        yield Elsewhere(running, authority)


def cambist(exchange: Elsewhere, monkeypatch: pytest.MonkeyPatch, *words: str, password: str = PASSWORD) -> int:
    monkeypatch.setenv("CAMBIST_OPERATOR_PASSWORD", password)
    options = ["--connect", str(exchange.address), "--ca", str(exchange.authority.ca)]
    return main([*words, *options, "--operator", "olga"])


def test_nothing_is_answered_before_signing_in_and_what_the_roles_allow_after_it(exchange: Elsewhere) -> None:
    with exchange.client(operator="owner") as client:
        for op, args in (
            ("status", {}),
            ("instruments", {}),
            ("order", ORDER),
            ("user_list", {}),
            ("halt", {"instrument": "BTCUSDT"}),
        ):
            with pytest.raises(RefusedError, match=r"SIGN_IN_NEEDED: .*on TCP everybody signs in first"):
                client.call(op, args, "why")
    with exchange.client(operator="paul") as client:
        assert "paul" == client.call("sign_in", {"name": "paul", "password": PASSWORD})["operator"]
        assert "BTCUSDT" == client.call("instruments")["instruments"][0]["symbol"]
        with pytest.raises(RefusedError, match="ROLE_MISSING"):
            client.call("order", ORDER)
        client.operator = "owner"
        with pytest.raises(RefusedError, match="SIGN_IN_NEEDED"):
            client.call("order", ORDER)


def test_sign_in_is_of_its_connection_alone(exchange: Elsewhere) -> None:
    with exchange.client() as one, exchange.client() as other:
        one.call("sign_in", {"name": "olga", "password": PASSWORD})
        assert codes.SIGN_IN_NEEDED == other.request("instruments").error.code  # type: ignore[union-attr]
        assert one.request("instruments").ok


def test_orders_overlap_over_tls_and_each_reply_has_its_id(exchange: Elsewhere) -> None:
    with exchange.client() as client:
        client.call("sign_in", {"name": "olga", "password": PASSWORD})
        sent = [{"id": f"q{n}", "op": "instruments", "args": {}, "operator": "olga"} for n in range(200)]
        client._socket.sendall(b"".join(json.dumps(request).encode() + b"\n" for request in sent))
        replies = [json.loads(client._line()) for _ in sent]
    assert {request["id"] for request in sent} == {reply["id"] for reply in replies}
    assert all(reply["ok"] for reply in replies)


def test_stranger_that_keeps_asking_is_cut_off_and_the_owner_is_served(exchange: Elsewhere) -> None:
    with exchange.client() as stranger:
        for _ in range(server_module.STRANGER_REQUESTS_MAX):
            assert not stranger.request("instruments").ok
        with pytest.raises(ControlError, match="closed the connection"):
            stranger.request("instruments")
    with exchange.service.client() as owner:
        assert owner.request("instruments").ok


def test_line_without_end_costs_a_stranger_its_line_only(exchange: Elsewhere) -> None:
    with exchange.client() as client:
        for _ in range(40):
            client._socket.sendall(b"x" * 65536)
        assert b"a line has at most 65536 bytes" in client._line()
        client._socket.sendall(b"\n")
        assert client.request("sign_in", {"name": "olga", "password": PASSWORD}).ok


def test_connections_on_tcp_leave_the_owner_its_own(exchange: Elsewhere) -> None:
    held = []
    try:
        for _ in range(server_module.CONNECTIONS_MAX + 10):
            held.append(socket.create_connection(("127.0.0.1", exchange.address.port), 10))  # noqa: PERF401 - each is closed at the end
        with exchange.service.client() as owner:
            listener = owner.call("status")["listeners"][0]
        assert listener["strangers"] <= 32
    finally:
        for connection in held:
            connection.close()


def test_client_believes_only_whom_it_was_told_to(exchange: Elsewhere, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another authority")
    with pytest.raises(ControlError, match=r"its certificate is not accepted: unable to get local issuer.*--ca names"):
        ControlClient(exchange.remote(ca=other.ca))
    with pytest.raises(ControlError, match=r"its certificate is not accepted: .*--ca names"):
        ControlClient(exchange.remote(ca=None))
    with pytest.raises(ControlError, match=r"nothing\.pem: holds no certificates in PEM"):
        ControlClient(exchange.remote(ca=tmp_path / "nothing.pem"))
    with pytest.raises(ControlError, match="no certificate with its key"):
        ControlClient(exchange.remote(certificate=other.ca))


def test_client_refuses_another_host_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "tls")
    certificate, key = authority.sign("server", "exchange.example")
    listening = Listening("127.0.0.1:0", Tls(str(certificate), str(key)))
    with (
        tempfile.TemporaryDirectory(prefix="cambist-") as folder,
        Service(Path(folder), listening, operators()) as running,
    ):
        exchange = Elsewhere(running, authority)
        with pytest.raises(ControlError, match=r"IP address mismatch, certificate is not valid for '127\.0\.0\.1'"):
            exchange.client()
        real, address = socket.create_connection, ("127.0.0.1", exchange.address.port)
        monkeypatch.setattr(socket, "create_connection", lambda _, timeout: real(address, timeout))
        with ControlClient(exchange.remote(address=Address("exchange.example", 1))) as client:
            assert client.request("sign_in", {"name": "olga", "password": PASSWORD}).ok
        with pytest.raises(ControlError, match=r"Hostname mismatch, certificate is not valid for 'other\.example'"):
            ControlClient(exchange.remote(address=Address("other.example", 1)))


def test_plain_text_is_spoken_only_when_both_sides_were_told(exchange: Elsewhere) -> None:
    with tempfile.TemporaryDirectory(prefix="cambist-") as folder:
        listening = Listening("127.0.0.1:0")
        with Service(Path(folder), listening, operators()) as running:
            running.board[lines.DURABLE_SEQ] = 100
            plain = Elsewhere(running, exchange.authority)
            assert (False, None) == (plain.listener["tls"], plain.listener["not_after"])
            with pytest.raises(
                ControlError, match="it does not speak TLS; where that is meant to be, add --plain-text"
            ):
                plain.client()
            with ControlClient(plain.remote(plain_text=True), operator="olga") as client:
                assert client.request("sign_in", {"name": "olga", "password": PASSWORD}).ok
                assert client.request("instruments").ok
    with ControlClient(exchange.remote(plain_text=True), timeout_s=15) as client, pytest.raises(ControlError):
        client.request("instruments")


def test_nobody_listens(exchange: Elsewhere) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NotRunningError, match=f"cannot connect to 127.0.0.1:{port}: Connection refused"):
        ControlClient(exchange.remote(address=Address("127.0.0.1", port)))


# --- the commands -----------------------------------------------------------------------------------------------------


def test_command_signs_in_and_does_what_it_says(
    exchange: Elsewhere, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == cambist(exchange, monkeypatch, "instrument", "list")
    assert "BTCUSDT" in capsys.readouterr().out
    assert 0 == cambist(exchange, monkeypatch, "role", "list", "--json")
    assert "olga" in capsys.readouterr().out
    assert 1 == cambist(exchange, monkeypatch, "orders", password="wrong")
    assert "BAD_CREDENTIALS" in capsys.readouterr().err
    monkeypatch.setenv("CAMBIST_CONNECT", str(exchange.address))
    monkeypatch.setenv("CAMBIST_CA", str(exchange.authority.ca))
    monkeypatch.setenv("CAMBIST_OPERATOR_PASSWORD", PASSWORD)
    assert 0 == main(["instrument", "list", "--operator", "olga"])
    assert "BTCUSDT" in capsys.readouterr().out


def test_home_on_the_command_line_goes_before_the_environment(
    exchange: Elsewhere, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAMBIST_CONNECT", "127.0.0.1:1")
    assert 0 == main(["instrument", "list", "--home", str(exchange.service.home)])
    assert 1 == main(["instrument", "list"])
    assert "cannot connect to 127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--connect", "somewhere"], "--connect somewhere: is no address and port"),
        (["--connect", "a:1", "--home", "x"], "--connect is in place of --home"),
        (["--ca", "ca.pem"], "--ca is for an exchange elsewhere"),
        (["--plain-text"], "--plain-text is for an exchange elsewhere"),
        (["--connect", "a:1", "--plain-text", "--ca", "ca.pem"], "--plain-text is without TLS"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == main(["orders", *words])
    assert said in capsys.readouterr().err


def test_stop_ends_connections_on_tcp_too(exchange: Elsewhere, tmp_path: Path) -> None:
    ended = threading.Event()
    with tempfile.TemporaryDirectory(prefix="cambist-") as folder:
        with Service(Path(folder), exchange.service.listening, operators()) as running:
            client = Elsewhere(running, exchange.authority).client()
            client.call("sign_in", {"name": "olga", "password": PASSWORD})

            def wait() -> None:
                if client._socket.recv(1) == b"":
                    ended.set()

            waiter = threading.Thread(target=wait)
            waiter.start()
        waiter.join(20)
        client.close()
    assert ended.is_set()
