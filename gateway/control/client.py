"""A small blocking client of the control socket."""

from __future__ import annotations

import getpass
import os
import socket
import time
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from gateway.access.codes import STARTING
from gateway.control.messages import OUTCOME_UNKNOWN, QUERY_OPS, Reply

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


class ControlClient:
    """One connection to the control gateway of a home.

    Parameters
    ----------
    home : Path or str
        Home of the exchange.
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
        self, home: Path | str, *, operator: str = "", socket_path: Path | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.home = Path(home)
        self.operator = operator or login_name()
        self._timeout_s = timeout_s
        self._next_id = 1
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        path = socket_path or self.home / "run" / "control.sock"
        try:
            self._socket.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            self._socket.close()
            raise NotRunningError(
                f"no exchange is running in {self.home}: start it with `cambist up --home {self.home}`"
            ) from None
        except OSError as error:
            self._socket.close()
            raise ControlError(f"cannot connect to {path}: {error.strerror or error}") from error

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
            raise ControlError(f"the exchange in {self.home} closed the connection: {error}") from error

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
                raise ControlError(f"the exchange in {self.home} sent a line of more than {_REPLY_MAX_BYTES} bytes")
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


def is_unknown(reply: Reply) -> bool:
    """Whether the reply cannot say how the command ended."""
    return reply.error is not None and reply.error.code == OUTCOME_UNKNOWN


def login_name() -> str:
    """Name of the user at the keyboard, as commands record it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
