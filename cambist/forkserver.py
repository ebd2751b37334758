"""The fork server: a process that has loaded every kernel, and forks the others from itself in milliseconds.

It talks JSON lines over the socket whose descriptor is its first argument; the supervisor's pid and the names of the
modules to load follow. Requests:

* ``{"op": "start", "id", "name", "module", "log", "context"}``: fork a child that calls ``main(context)`` of the module
  with its output in the log;
* ``{"op": "kill", "pid", "signal"}``: send a signal to a child, if it is not reaped yet.

It says ``{"event": …}``: ``progress`` (done, total, name) while it compiles; ``ready`` (kernels, cpu_s, wall_s);
``started`` (id, pid); ``exit`` (pid, status: as a shell counts it, 128 + n for signal n); ``failed`` (reason), then it
ends.

Nothing outlives it: children ask the system for SIGKILL when it dies, as it does for itself and the supervisor.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from cambist.output import forgive_output
from persistence.children import die_with_parent, set_process_name
from protocol.instance import Context
from protocol.readers import EXIT_CRASHED

_LOG_BYTES_MAX: Final = 8 << 20
_RECEIVE_BYTES: Final = 1 << 16
_THREAD_ENDS_S: Final = 1.0

# Each would start threads at import, and a process with threads must not fork.
_ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def main(arguments: Sequence[str]) -> int:
    """Serve: descriptor of the socket, pid of the supervisor, then the modules to load first."""
    connection = socket.socket(fileno=int(arguments[0]))
    die_with_parent(int(arguments[1]))
    set_process_name("forkserver")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to hear
    for variable in _ONE_THREAD:
        os.environ[variable] = "1"
    try:
        ready = _load(connection, arguments[2:])
    except Exception as error:  # noqa: BLE001 - whatever a module does at import is told to the supervisor
        traceback.print_exc()
        _send(connection, {"event": "failed", "reason": f"{type(error).__name__}: {error}"})
        return EXIT_CRASHED
    _send(connection, ready)
    return ForkServer(connection).serve()


def _load(connection: socket.socket, modules: Sequence[str]) -> dict[str, Any]:
    from ringbuf import kernel_cache

    kernel_cache.configure()
    from cambist import warm

    compiled = warm.compile_all(
        modules,
        lambda done, total, name: _send(connection, {"event": "progress", "done": done, "total": total, "name": name}),
    )
    _await_single_thread()
    # What is loaded now stays shared with every child: the collector does not touch, and so copy, its pages.
    gc.collect()
    gc.freeze()
    return {"event": "ready", **compiled._asdict()}


def _await_single_thread() -> None:
    """A thread that was joined is gone for Python a little before it is gone for the system."""
    end_s = time.monotonic() + _THREAD_ENDS_S
    while (threads := len(list(Path("/proc/self/task").iterdir()))) > 1 and time.monotonic() < end_s:
        time.sleep(0.001)
    assert threads == 1, f"the fork server has {threads} threads; an imported module starts one, find it and stop it"


class ForkServer:
    """Forks on request and reports what becomes of the children."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._children: set[int] = set()
        self._received = b""
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> int:
        """Serve until the supervisor closes its end; then end, and all children with it."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._selector.register(self._connection, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._wakeup:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wakeup, _RECEIVE_BYTES)
                elif not self._receive():
                    return 0
            self._reap()

    def _receive(self) -> bool:
        data = self._connection.recv(_RECEIVE_BYTES)
        if not data:
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if request["op"] == "start":
                self._start(request)
            else:
                self._kill(request["pid"], request["signal"])
        return True

    def _start(self, request: dict[str, Any]) -> None:
        context = msgspec.convert(request["context"], Context)
        server_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            _run_child(server_pid, self._close, request, context)
        self._children.add(pid)
        _send(self._connection, {"event": "started", "id": request["id"], "pid": pid})

    def _kill(self, pid: int, number: int) -> None:
        # A number that was reaped may be somebody else's by now.
        if pid in self._children:
            os.kill(pid, number)

    def _close(self) -> None:
        """Drop, in a child, what belongs to the fork server alone."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        self._connection.close()
        os.close(self._wakeup)
        os.close(self._waker)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            _send(self._connection, {"event": "exit", "pid": pid, "status": code if code >= 0 else 128 - code})


def _run_child(
    server_pid: int, close_server: Callable[[], None], request: dict[str, Any], context: Context
) -> NoReturn:
    """Be the requested process until its ``main`` returns; never come back to the fork server's loop."""
    status = EXIT_CRASHED
    try:
        die_with_parent(server_pid)
        close_server()
        set_process_name(f"cb:{request['name']}")
        _redirect_output(Path(request["log"]))
        status = importlib.import_module(request["module"]).main(context)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else EXIT_CRASHED
    except BaseException:  # noqa: BLE001 - the log is the last to hear of it
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Exit handlers belong to the fork server.
        os._exit(status)


def _redirect_output(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES_MAX:
            log.replace(log.with_suffix(".old.log"))
    for path, flags, targets in (
        (Path(os.devnull), os.O_RDONLY, (0,)),
        (log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, (1, 2)),
    ):
        descriptor = os.open(path, flags, 0o600)
        for target in targets:
            os.dup2(descriptor, target)
        os.close(descriptor)
    # Line by line: a process that is killed has said what it had to say. A full disk must not end who says so.
    forgive_output()


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
