"""The supervisor's end of the fork server: starts it, sends requests, collects what it says."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cambist.launch import environment
from protocol.instance import Context

_RECEIVE_BYTES: Final = 1 << 16


class ForkServerLostError(Exception):
    """The fork server ended; its children end with it."""


class ForkClient:
    """A running fork server that loads ``modules``; ``log`` takes what it and its imports print."""

    def __init__(self, modules: Sequence[str], log: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cambist.forkserver", str(theirs.fileno()), str(os.getpid()), *modules],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
                # A session of its own: the Ctrl-C of a terminal reaches the supervisor alone.
                start_new_session=True,
            )
        self._socket = ours
        self._received = b""
        self._requests = 0

    @property
    def pid(self) -> int:
        """Process id of the fork server."""
        return self._process.pid

    def fileno(self) -> int:
        """Descriptor that is readable when the fork server said something, or ended."""
        return self._socket.fileno()

    def start(self, name: str, module: str, log: Path, context: Context) -> int:
        """Ask for a child; gives the id that the answer ``started`` carries."""
        self._requests += 1
        self._send(
            {
                "op": "start",
                "id": self._requests,
                "name": name,
                "module": module,
                "log": str(log),
                "context": msgspec.to_builtins(context),
            }
        )
        return self._requests

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Ask for signal ``number`` to child ``pid``; nothing happens if it was reaped already."""
        self._send({"op": "kill", "pid": pid, "signal": int(number)})

    def receive(self) -> list[dict[str, Any]]:
        """What the fork server said since the last call; waits if that is nothing.

        Raises ForkServerLostError when it ended.
        """
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            raise ForkServerLostError(f"the fork server, process {self.pid}, ended")
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self, children: Sequence[int]) -> None:
        """End the fork server at once and reap it, and ``children`` too, which are this process's from then on."""
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for pid in children:
            # The end of their parent kills them; waiting for that needs them to be ours (see `adopt_orphans`).
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def _send(self, request: dict[str, Any]) -> None:
        # A lost fork server shows at the next `receive`.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")
