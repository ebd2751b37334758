"""Listening on TCP, with TLS or without: takes connections, keeps strangers few and short, renews the certificate meanwhile.

A *stranger* is a connection that has not proved yet whose it is, from the first packet on; the protocol says when it has
(``Arrival.known``). Strangers have so long for it, and there are only so many: where one more comes, the address that has the
most loses its oldest, so that one address cannot keep the others out. What is known may be idle for so long.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from gateway.listening.certificates import Certificates
from gateway.listening.settings import Address, Listening, address_of

STRANGERS_MAX: Final = 32
STRANGER_S: Final = 120.0
"""From the first packet to being known: a person types a password and a code."""
HANDSHAKE_S: Final = 10.0
IDLE_S: Final = 900.0
LOOK_S: Final = 2.0
"""Between looks at the certificate's files, and between attempts to listen."""
_GOODBYE_S: Final = 1.0
_LEAVING_S: Final = 0.01
_SWEEP_S: Final = 0.5
_BACKLOG: Final = 128
_PAUSE_S: Final = 0.1
_UNACKNOWLEDGED_MS: Final = 30_000


class ListeningError(Exception):
    """A gateway cannot listen as configured; the message says why and what to do."""


class Arrival:
    """A connection as its listener sees it.

    Attributes
    ----------
    address : str
        IP address of the peer; IPv4 in IPv6 is IPv4.
    is_known : bool
        Whether the protocol knows whose it is.
    """

    def __init__(self, listener: Listener, connection: socket.socket, address: str) -> None:
        self.address = address
        self.is_known = False
        self.began_s = self.active_s = time.monotonic()
        self._listener = listener
        self._connection = connection
        self._transport: asyncio.Transport | None = None

    def met(self, transport: asyncio.BaseTransport) -> None:
        """To be called at ``connection_made``."""
        # uvloop's transports are of its own kind.
        self._transport = cast("asyncio.Transport", transport)

    def heard(self) -> None:
        """To be called at whatever the peer says or is told: it is not idle."""
        self.active_s = time.monotonic()

    def known(self) -> None:
        """To be called as soon as it has been proved whose the connection is."""
        self.is_known = True

    def left(self) -> None:
        """To be called at ``connection_lost``."""
        self._listener.forget(self)

    def drop(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()
        else:
            # In the handshake there is no transport yet; the library hears of the end.
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)


class Listener:
    """One gateway's door on TCP.

    Parameters
    ----------
    name : str
        Of the gateway, in ``status``.
    settings : Listening
        With an address to listen on.
    base : Path
        The home, of which relative paths of files are.
    protocol : callable
        Makes the protocol of a connection of its ``Arrival``; it calls ``met``, ``heard``, ``known`` and ``left``.
    connections_max : int
        Strangers included.
    alpn : sequence of str
        Protocols to agree on in TLS.
    admits : callable
        Whether one more connection of an address may be.
    """

    def __init__(
        self,
        name: str,
        settings: Listening,
        base: Path,
        protocol: Callable[[Arrival], asyncio.BaseProtocol],
        connections_max: int,
        alpn: Sequence[str] = (),
        admits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._name = name
        self._wanted = address_of(settings.listen)
        self._protocol = protocol
        self._connections_max = connections_max
        self._admits = admits
        self._certificates = Certificates(settings.tls, base, alpn) if settings.tls.certificate else None
        self._socket: socket.socket | None = None
        self._why = ""
        self._arrivals: dict[Arrival, None] = {}
        self._left = asyncio.Event()
        self._refused = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self._certificates is not None

    @property
    def address(self) -> Address | None:
        """Where it listens; None while it does not."""
        return None if self._socket is None else Address(*self._socket.getsockname()[:2])

    async def start(self) -> None:
        """Listen, as soon as that can be; what is in the way is told by ``status`` and tried again."""
        await self._look()
        self._spawn(self._keep())
        self._spawn(self._sweep())

    async def stop(self) -> None:
        """Listen no more; connections that are known stay for their gateway to close."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close()
        for arrival in [arrival for arrival in self._arrivals if not arrival.is_known]:
            arrival.drop()

    async def emptied(self) -> None:
        """Wait a little for connections that were told to close; then end those that are left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                while self._arrivals:
                    self._left.clear()
                    await self._left.wait()
        for arrival in list(self._arrivals):
            arrival.drop()
        # The library ends a connection in steps of the loop.
        await asyncio.sleep(_LEAVING_S)

    def forget(self, arrival: Arrival) -> None:
        """Note that a connection has ended."""
        self._arrivals.pop(arrival, None)
        self._left.set()

    def status(self) -> dict[str, Any]:
        """What an operator sees."""
        pair = None if self._certificates is None else self._certificates.pair
        end = None if pair is None else datetime.fromtimestamp(pair.not_after_s, UTC)
        return {
            "name": self._name,
            "address": str(self.address or self._wanted),
            "listens": self._socket is not None,
            "tls": self.is_tls,
            "not_after": None if end is None else f"{end:%Y-%m-%dT%H:%M:%SZ}",
            "certificate_problem": "" if self._certificates is None else self._certificates.problem,
            "renewals": 0 if self._certificates is None else self._certificates.renewals,
            "problem": self._why,
            "connections": sum(arrival.is_known for arrival in self._arrivals),
            "strangers": sum(not arrival.is_known for arrival in self._arrivals),
            "refused": self._refused,
        }

    # --- the door -----------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._certificates is not None:
            # A disk may be slow, and no answer waits for it.
            await loop.run_in_executor(None, self._certificates.look)
        if self._socket is not None or (self._certificates is not None and self._certificates.pair is None):
            return
        try:
            self._socket = _bound(self._wanted)
        except OSError as error:
            self._why = f"cannot listen on {self._wanted}: {_reason(error)}"
            return
        self._why = ""
        self._spawn(self._accept(self._socket))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listening)
            except OSError as error:
                # Such as no descriptor left; a peer that was gone already costs no pause.
                if error.errno != errno.ECONNABORTED:
                    await asyncio.sleep(_PAUSE_S)
                continue
            arrival = self._arrived(connection, _plain(peer[0]))
            if arrival is None:
                connection.close()
            else:
                self._spawn(self._welcome(arrival, connection))

    def _arrived(self, connection: socket.socket, address: str) -> Arrival | None:
        """A new connection, where there is room or somebody else makes it; None where not."""
        if not self._admits(address):
            self._refused += 1
            return None
        strangers = [arrival for arrival in self._arrivals if not arrival.is_known]
        if len(self._arrivals) >= self._connections_max or len(strangers) >= STRANGERS_MAX:
            self._refused += 1
            if not strangers:
                return None
            counts = Counter(arrival.address for arrival in strangers)
            most = max(counts.values())
            oldest = next(arrival for arrival in strangers if counts[arrival.address] == most)
            oldest.drop()
            self.forget(oldest)
        arrival = Arrival(self, connection, address)
        self._arrivals[arrival] = None
        return arrival

    async def _welcome(self, arrival: Arrival, connection: socket.socket) -> None:
        """Shake hands; from there on the connection is its protocol's."""
        context = None
        times: dict[str, float] = {}
        if self._certificates is not None:
            assert self._certificates.pair is not None
            context = self._certificates.pair.context
            times = {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": _GOODBYE_S}
        try:
            _set_options(connection)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._protocol(arrival), connection, ssl=context, **times
            )
        except (OSError, ssl.SSLError, TimeoutError):
            # Whoever cannot shake hands is nobody's concern but its own.
            self._refused += 1
            self.forget(arrival)
            connection.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = time.monotonic()
            for arrival in list(self._arrivals):
                if arrival.is_known:
                    late = now_s - arrival.active_s > IDLE_S
                else:
                    late = now_s - arrival.began_s > STRANGER_S
                if late:
                    arrival.drop()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def check_listening(name: str, settings: Listening, base: Path) -> None:
    """Whether a gateway could listen now; raises ListeningError with file or address and reason."""
    if not settings.listen:
        return
    if settings.tls.certificate:
        certificates = Certificates(settings.tls, base)
        certificates.look()
        if certificates.pair is None:
            raise ListeningError(f"{name}.tls: {certificates.problem}")
    try:
        _bound(address_of(settings.listen)).close()
    except OSError as error:
        raise ListeningError(
            f"{name}.listen = {settings.listen!r}: cannot listen there: {_reason(error)}; stop what does, or name "
            f"another address or port"
        ) from None


def _bound(address: Address) -> socket.socket:
    is_ipv6 = ":" in address.host
    listening = socket.create_server(
        tuple(address),
        family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
        backlog=_BACKLOG,
        dualstack_ipv6=address.host == "::" and socket.has_dualstack_ipv6(),
    )
    listening.setblocking(False)
    return listening


def _set_options(connection: socket.socket) -> None:
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _plain(host: str) -> str:
    found = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
