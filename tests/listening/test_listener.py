"""A listener in a loop of its own, peers in the test's thread: handshakes, renewal under load, strangers, rubbish."""

import asyncio
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, cast

import pytest
import uvloop

from gateway.listening import listener as listener_module
from gateway.listening.listener import Arrival, Listener, ListeningError, check_listening
from gateway.listening.settings import Listening, Tls
from tests.listening.authority import Authority

PATIENCE_S = 30.0


class Echo(asyncio.Protocol):
    """Says what it hears; who says ``known`` is."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.arrival.met(transport)

    def data_received(self, data: bytes) -> None:
        self.arrival.heard()
        if data.startswith(b"known"):
            self.arrival.known()
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self.arrival.left()


class Door:
    """A listener that runs while the context is open."""

    def __init__(self, settings: Listening, base: Path, connections_max: int = 16) -> None:
        self.settings = settings
        self.base = base
        self.connections_max = connections_max
        self.errors: list[dict[str, Any]] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_S)
        assert [] == self.errors

    @property
    def port(self) -> int:
        assert self.listener.address is not None
        return self.listener.address.port

    def status(self) -> dict[str, Any]:
        async def asked() -> dict[str, Any]:
            return self.listener.status()

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(PATIENCE_S)

    def until(self, true: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        end_s = time.monotonic() + PATIENCE_S
        while not true(found := self.status()):
            assert time.monotonic() < end_s, found
            time.sleep(0.01)
        return found

    def _run(self) -> None:
        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            self._loop.set_exception_handler(lambda _, context: self.errors.append(context))
            self._end = asyncio.Event()
            self.listener = Listener("test", self.settings, self.base, Echo, self.connections_max, ("one", "two"))
            await self.listener.start()
            self._started.set()
            await self._end.wait()
            await self.listener.stop()

        uvloop.run(run())


def trusting(authority: Authority, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca)
    if own is not None:
        context.load_cert_chain(own[0], own[1])
    return context


def plain(door: Door) -> socket.socket:
    return socket.create_connection(("127.0.0.1", door.port), PATIENCE_S)


def connected(door: Door, context: ssl.SSLContext, host: str = "127.0.0.1") -> ssl.SSLSocket:
    return context.wrap_socket(plain(door), server_hostname=host)


def said(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    heard = b""
    while len(heard) < len(data):
        part = connection.recv(len(data) - len(heard))
        if not part:
            break
        heard += part
    return heard


def is_refused(door: Door, context: ssl.SSLContext) -> bool:
    """Whether the other side ends the handshake; with TLS 1.3 this is told at the first answer."""
    try:
        with connected(door, context) as connection:
            return b"" == said(connection, b"hello")
    except (ssl.SSLError, ConnectionError):
        return True


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side ends it; waits for that."""
    try:
        while connection.recv(65536):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    except TimeoutError:
        return False
    return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "LOOK_S", 0.02)
    monkeypatch.setattr(listener_module, "_SWEEP_S", 0.02)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def door(authority: Authority, tmp_path: Path, quick: None) -> Iterator[Door]:
    certificate, key = authority.sign("server")
    relative = Tls(*(str(path.relative_to(tmp_path)) for path in (certificate, key)))
    with Door(Listening("127.0.0.1:0", relative), tmp_path) as running:
        yield running


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_peer_speaks_tls_of_today_and_agrees_on_a_protocol(
    door: Door, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = trusting(authority)
    context.maximum_version = version
    context.set_alpn_protocols(["two"])
    with connected(door, context) as connection:
        assert b"known" == said(connection, b"known")
        assert version.name.replace("v1_", "v1.") == connection.version()
        assert "two" == connection.selected_alpn_protocol()
        cipher = connection.cipher()
        assert cipher is not None
        assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]
        status = door.until(lambda found: found["connections"] == 1)
    assert (True, True, "") == (status["tls"], status["listens"], status["certificate_problem"])
    assert f"127.0.0.1:{door.port}" == status["address"]
    door.until(lambda found: found["connections"] == 0)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("ciphers", ["AES256-SHA", "DHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA", ""])
def test_peer_of_yesterday_is_refused(door: Door, authority: Authority, ciphers: str) -> None:
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if ciphers:
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    else:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connected(door, context)
    door.until(lambda found: found["refused"] == 1)


def test_peer_that_knows_another_authority_or_name_refuses_the_certificate(
    door: Door, authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        connected(door, trusting(authority), "exchange.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        connected(door, trusting(Authority(tmp_path / "other", "another authority")))


def test_only_who_has_a_certificate_of_the_authority_is_let_in(
    authority: Authority, tmp_path: Path, quick: None
) -> None:
    clients = Authority(tmp_path / "clients", "authority of clients")
    certificate, key = authority.sign("server")
    tls = Tls(str(certificate), str(key), str(clients.ca))
    with Door(Listening("127.0.0.1:0", tls), tmp_path) as running:
        with connected(running, trusting(authority, clients.sign("olga"))) as connection:
            assert b"hello" == said(connection, b"hello")
        others = [authority.sign("stranger"), clients.sign("former", begins_days=-9, ends_days=-1)]
        assert is_refused(running, trusting(authority))
        for own in others:
            assert is_refused(running, trusting(authority, own))


def test_renewal_under_load_drops_nobody_and_new_connections_get_the_new_certificate(
    door: Door, authority: Authority
) -> None:
    old = [connected(door, trusting(authority)) for _ in range(4)]
    first = old[0].getpeercert(binary_form=True)
    done = threading.Event()
    counts, failures = [0] * len(old), list[BaseException]()

    def talk(number: int) -> None:
        try:
            while not done.is_set():
                text = b"known %d %d;" % (number, counts[number]) * 50
                assert text == said(old[number], text)
                counts[number] += 1
        except BaseException as error:  # noqa: BLE001 - the test's thread must hear of it
            failures.append(error)

    talkers = [threading.Thread(target=talk, args=(number,)) for number in range(len(old))]
    for talker in talkers:
        talker.start()
    try:
        for renewal in range(1, 4):
            authority.sign("server", ends_days=365 + renewal)
            # Certificate and key change one after the other; the time between them is a mismatch, which passes.
            end_s = time.monotonic() + PATIENCE_S
            while (found := door.status())["renewals"] < renewal or found["certificate_problem"]:
                assert time.monotonic() < end_s, found
                time.sleep(0.005)
            with connected(door, trusting(authority)) as connection:
                assert b"hello" == said(connection, b"hello")
                assert first != connection.getpeercert(binary_form=True)
            before = list(counts)
            end_s = time.monotonic() + PATIENCE_S
            while any(count == was for count, was in zip(counts, before, strict=True)) and time.monotonic() < end_s:
                time.sleep(0.005)
            assert all(count > was for count, was in zip(counts, before, strict=True))
    finally:
        done.set()
        for talker in talkers:
            talker.join(PATIENCE_S)
    assert [] == failures
    for connection in old:
        assert first == connection.getpeercert(binary_form=True)
        connection.close()


def test_broken_renewal_is_told_with_file_and_reason_and_the_old_pair_serves(door: Door, authority: Authority) -> None:
    _, key = authority.sign("other", into="other")
    key.replace(authority.folder / "server.key")
    status = door.until(lambda found: found["certificate_problem"])
    assert "server.key: is not the key of " in status["certificate_problem"]
    with connected(door, trusting(authority)) as connection:
        assert b"hello" == said(connection, b"hello")
    authority.sign("server")
    door.until(lambda found: not found["certificate_problem"] and found["renewals"] == 1)


def test_start_without_a_good_pair_waits_for_one(authority: Authority, tmp_path: Path, quick: None) -> None:
    certificate, key = authority.sign("server", begins_days=-5, ends_days=-1)
    with Door(Listening("127.0.0.1:0", Tls(str(certificate), str(key))), tmp_path) as running:
        status = running.status()
        assert not status["listens"]
        assert f"{certificate}: expired at " in status["certificate_problem"]
        authority.sign("server")
        running.until(lambda found: found["listens"])
        with connected(running, trusting(authority)) as connection:
            assert b"hello" == said(connection, b"hello")


def test_address_that_is_taken_is_told_and_taken_later(tmp_path: Path, quick: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ListeningError, match=r"^test\.listen = .*: cannot listen there: Address already in use"):
            check_listening("test", Listening(listen), tmp_path)
        with Door(Listening(listen), tmp_path) as running:
            assert f"cannot listen on {listen}: Address already in use" == running.status()["problem"]
            other.close()
            running.until(lambda found: found["listens"] and not found["problem"])
            with plain(running) as connection:
                assert b"hello" == said(connection, b"hello")


def test_what_up_asks_before_it_starts_names_file_and_reason(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("server")
    check_listening("test", Listening("127.0.0.1:0", Tls(str(certificate), str(key))), tmp_path)
    check_listening("test", Listening(tls=Tls("nothing", "nothing")), tmp_path)
    key.chmod(0o644)
    with pytest.raises(ListeningError, match=r"^test\.tls: .*server\.key: has mode 0644"):
        check_listening("test", Listening("127.0.0.1:0", Tls(str(certificate), str(key))), tmp_path)


def test_handshake_that_never_ends_is_cut_off_and_keeps_nobody_waiting(
    door: Door, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "HANDSHAKE_S", 0.3)
    hello = hello_of(authority)
    slow = [plain(door) for _ in range(8)]
    for at, connection in enumerate(slow):
        connection.sendall(hello[: at * 20])
    with connected(door, trusting(authority)) as connection:
        assert b"hello" == said(connection, b"hello")
    assert all(is_closed(connection) for connection in slow)
    assert 0 == door.until(lambda found: found["strangers"] == 0)["connections"]
    for connection in slow:
        connection.close()


def test_strangers_are_bounded_and_who_has_proved_itself_stays(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "STRANGERS_MAX", 4)
    with Door(Listening("127.0.0.1:0"), tmp_path, connections_max=6) as running:
        known = [plain(running) for _ in range(3)]
        assert [b"known"] * 3 == [said(connection, b"known") for connection in known]
        flood = []
        for _ in range(40):
            flood.append(plain(running))
            assert running.status()["strangers"] <= 4
        running.until(lambda found: found["refused"] == 37)
        assert b"hello" == said(flood[-1], b"hello"), "the newest one is served"
        assert [b"hello"] * 3 == [said(connection, b"hello") for connection in known]
        assert all(is_closed(connection) for connection in flood[:-3])
        for connection in [*flood, *known]:
            connection.close()
        running.until(lambda found: found["strangers"] + found["connections"] == 0)


def test_full_of_those_who_are_known_it_takes_no_more(tmp_path: Path, quick: None) -> None:
    with Door(Listening("127.0.0.1:0"), tmp_path, connections_max=2) as running:
        known = [plain(running) for _ in range(2)]
        assert [b"known"] * 2 == [said(connection, b"known") for connection in known]
        with plain(running) as another:
            assert is_closed(another)
        assert [b"hello"] * 2 == [said(connection, b"hello") for connection in known]
        for connection in known:
            connection.close()


def test_stranger_that_stays_one_and_peer_that_says_nothing_more_are_let_go(
    door: Door, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "STRANGER_S", 0.2)
    with connected(door, trusting(authority)) as stranger, connected(door, trusting(authority)) as known:
        assert b"known" == said(known, b"known")
        assert is_closed(stranger)
        assert b"hello" == said(known, b"hello")
        monkeypatch.setattr(listener_module, "IDLE_S", 0.2)
        assert is_closed(known)


def test_rubbish_before_in_and_after_the_handshake_ends_its_own_connection_only(
    door: Door, authority: Authority
) -> None:
    chance = random.Random(7)
    hello = hello_of(authority)
    with connected(door, trusting(authority)) as witness:
        assert b"known" == said(witness, b"known")
        for number in range(150):
            kind = number % 4
            with plain(door) as connection:
                if kind == 0:
                    connection.sendall(chance.randbytes(chance.randrange(1, 3000)))
                elif kind == 1:
                    at = chance.randrange(len(hello))
                    connection.sendall(hello[:at] + chance.randbytes(1) + hello[at + 1 :])
                elif kind == 2:
                    connection.sendall(hello[: chance.randrange(len(hello))])
                else:
                    raw = connection.dup()
                    with trusting(authority).wrap_socket(connection, server_hostname="127.0.0.1") as secure:
                        assert b"hello" == said(secure, b"hello")
                        raw.sendall(chance.randbytes(chance.randrange(1, 3000)))
                        raw.shutdown(socket.SHUT_WR)
                        assert is_closed(raw)
                    raw.close()
        assert b"hello" == said(witness, b"hello")
    door.until(lambda found: found["strangers"] + found["connections"] == 0)


def hello_of(authority: Authority) -> bytes:
    """First message of a client."""
    outgoing = ssl.MemoryBIO()
    client = trusting(authority).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
