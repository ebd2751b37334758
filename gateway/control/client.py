"""A small blocking client of the control socket."""

from __future__ import annotations

import getpass
import os
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec

from gateway.access.codes import STARTING
from gateway.control.messages import OUTCOME_UNKNOWN, QUERY_OPS, Reply
from gateway.listening.settings import Address

TIMEOUT_S: Final = 10.0
_CHUNK_BYTES: Final = 1 << 16
_REPLY_MAX_BYTES: Final = 64 << 20


class ControlError(RuntimeError):
    """The gateway cannot be reached or did not answer; the message says what to do."""


class NotRunningError(ControlError):
    """No exchange runs in the home."""


class RefusedError(ControlError):
    """The exchange refused the command.

    Attributes
    ----------
    code, name : int, str
        The reason.
    reply : Reply
        All that was said.
    """

    def __init__(self, reply: Reply) -> None:
        assert reply.error is not None
        self.reply = reply
        self.code = reply.error.code
        self.name = reply.error.name
        detail = f" ({reply.error.detail})" if reply.error.detail else ""
        super().__init__(f"{reply.error.name}: {reply.error.text}{detail}")


class Remote(NamedTuple):
    """An exchange that is reached over TCP, and by what its certificate is known."""

    address: Address
    ca: Path | None = None
    """PEM file of the authorities that are believed; None: those of the system."""
    certificate: Path | None = None
    """The client's own, with its chain, for an exchange that asks for one."""
    key: Path | None = None
    """Of that certificate; None: in the same file."""
    plain_text: bool = False
    """Without TLS; never a fallback."""


class ControlClient:
    """One connection to the control gateway of a home, or of an exchange elsewhere.

    Parameters
    ----------
    home : Path, str or Remote
        Home of the exchange, or where it is reached over TCP; there an operator has to sign in first.
    operator : str, optional
        Who acts; by default the login name.
    socket_path : Path, optional
        The socket, where it is not in the home.
    timeout_s : float
        For connecting and for each answer.

    Raises
    ------
    NotRunningError
        If no gateway answers.
    """

    def __init__(
        self,
        home: Path | str | Remote,
        *,
        operator: str = "",
        socket_path: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.operator = operator or login_name()
        self.must_sign_in = isinstance(home, Remote)
        """Nothing is answered before somebody has signed in."""
        self._timeout_s = timeout_s
        self._next_id = 1
        self._buffer = bytearray()
        if isinstance(home, Remote):
            self._where = f"the exchange at {home.address}"
            self._socket = _connected(home, timeout_s)
        else:
            self._where = f"the exchange in {home}"
            self._socket = _opened(Path(home), socket_path, timeout_s)

    def request(self, op: str, args: dict[str, Any] | None = None, reason: str = "") -> Reply:
        """Send one request and wait for its reply; a refusal is a reply too.

        What an exchange cannot do yet, because it has just started and its users are still being read, is asked again until the time
        for an answer has passed.

        Raises ControlError when the connection ends or no answer comes in time: then a command may have been executed.
        """
        deadline = time.monotonic() + self._timeout_s
        while True:
            reply = self._ask(op, args, reason)
            if reply.error is None or reply.error.code != STARTING:
                return reply
            pause_s = reply.error.retry_ms / 1000
            if time.monotonic() + pause_s > deadline:
                return reply
            time.sleep(pause_s)

    def _ask(self, op: str, args: dict[str, Any] | None, reason: str) -> Reply:
        number = self._next_id
        self._next_id += 1
        message = {"id": number, "op": op, "args": args or {}, "operator": self.operator, "reason": reason}
        try:
            self._socket.sendall(msgspec.json.encode(message) + b"\n")
            while True:
                reply = msgspec.json.decode(self._line(), type=Reply)
                # An answer to a request that timed out before may still come.
                if reply.id == number or reply.id is None:
                    return reply
        except TimeoutError:
            asked = "it changes nothing" if op in QUERY_OPS else "it may have been executed: look with `cambist orders`"
            raise ControlError(f"no answer within {self._timeout_s:g} s to {op}; {asked}") from None
        except OSError as error:
            raise ControlError(f"{self._where} closed the connection: {_told(error)}") from error

    def call(self, op: str, args: dict[str, Any] | None = None, reason: str = "") -> dict[str, Any]:
        """Send one request and give the result of its reply; raises RefusedError."""
        reply = self.request(op, args, reason)
        if not reply.ok:
            raise RefusedError(reply)
        return reply.result or {}

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > _REPLY_MAX_BYTES:
                raise ControlError(f"{self._where} sent a line of more than {_REPLY_MAX_BYTES} bytes")
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            data = self._socket.recv(_CHUNK_BYTES)
            if not data:
                raise ConnectionError("it has stopped, or refuses this user")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


def _opened(home: Path, socket_path: Path | None, timeout_s: float) -> socket.socket:
    """A connection to the control socket of a home."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    path = socket_path or home / "run" / "control.sock"
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise NotRunningError(f"no exchange is running in {home}: start it with `cambist up --home {home}`") from None
    except OSError as error:
        connection.close()
        raise ControlError(f"cannot connect to {path}: {error.strerror or error}") from error
    return connection


def _connected(remote: Remote, timeout_s: float) -> socket.socket:
    """A connection over TCP, to whom the certificate says it is."""
    context = None if remote.plain_text else _context(remote)
    try:
        plain = socket.create_connection((remote.address.host, remote.address.port), timeout_s)
    except OSError as error:
        raise NotRunningError(f"cannot connect to {remote.address}: {error.strerror or error}") from None
    if context is None:
        return plain
    try:
        return context.wrap_socket(plain, server_hostname=remote.address.host)
    except OSError as error:
        plain.close()
        raise ControlError(f"{remote.address}: no TLS with it: {_told(error)}") from None


def _context(remote: Remote) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=remote.ca)
    except OSError as error:
        raise ControlError(f"{remote.ca}: holds no certificates in PEM: {_reason(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if remote.certificate is not None:
        try:
            # Without a passphrase: nothing would be there to type it.
            context.load_cert_chain(remote.certificate, remote.key, password="")
        except (OSError, ValueError) as error:
            what = " and ".join(str(path) for path in (remote.certificate, remote.key) if path is not None)
            raise ControlError(
                f"{what}: no certificate with its key, without passphrase, in PEM: {_reason(error)}"
            ) from None
    return context


def _told(error: OSError) -> str:
    """What went wrong on a connection, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}; --ca names the authority to believe"
    if isinstance(error, ssl.SSLError) and error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
        return "it does not speak TLS; where that is meant to be, add --plain-text"
    if isinstance(error, ssl.SSLError) and "CERTIFICATE" in str(error.reason):
        return f"it does not accept this client's certificate ({_reason(error)}); --certificate and --key name one"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return _reason(error)


def _reason(error: Exception) -> str:
    found = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(found or error)


def is_unknown(reply: Reply) -> bool:
    """Whether the reply cannot say how the command ended."""
    return reply.error is not None and reply.error.code == OUTCOME_UNKNOWN


def login_name() -> str:
    """Name of the user at the keyboard, as commands record it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
