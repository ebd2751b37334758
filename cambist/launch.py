"""Starts an exchange in a process of its own and waits until it is ready."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cambist.home import Home
from cambist.report import Reporter

_ROOT: Final = Path(__file__).resolve().parent.parent
_STOP_TIMEOUT_S: Final = 30.0


class LaunchError(Exception):
    """The exchange did not get ready; the message says why."""


class Launched:
    """A running exchange.

    Attributes
    ----------
    pid : int
        Its supervisor.
    summary : dict
        What it said when it was ready: epoch, start_s, processes with name and pid, …
    """

    def __init__(self, process: subprocess.Popen[bytes], parent_fd: int, summary: dict[str, Any]) -> None:
        self._process = process
        self._parent_fd = parent_fd
        self.pid = process.pid
        self.summary = summary

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> int:
        """Stop it orderly and give its exit status; -9 if it had to be killed."""
        if self._parent_fd >= 0:
            os.close(self._parent_fd)
            self._parent_fd = -1
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def launch(command: Sequence[str], log: Path, reporter: Reporter, *, detach: bool) -> Launched:
    """Run ``command``, a call of ``cambist up`` or of what understands its ``--ready-fd`` and ``--parent-fd``.

    With ``detach`` the exchange outlives this process, in a session of its own; otherwise it stops when this process
    ends, however it ends.

    Raises LaunchError if it ends before it is ready.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    ready_reader, ready_writer = os.pipe()
    alive_reader, alive_writer = os.pipe()
    arguments = [*command, "--ready-fd", str(ready_writer)]
    passed = [ready_writer]
    if not detach:
        arguments += ["--parent-fd", str(alive_reader)]
        passed.append(alive_reader)
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                arguments,
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
                start_new_session=True,
            )
    finally:
        os.close(ready_writer)
        os.close(alive_reader)
    with open(ready_reader, "rb") as messages:  # noqa: PTH123 - a descriptor, not a path
        try:
            summary = _await_ready(messages, reporter, log)
        except BaseException:
            os.close(alive_writer)
            process.terminate()
            process.wait()
            raise
    if detach:
        os.close(alive_writer)
    return Launched(process, -1 if detach else alive_writer, summary)


@contextlib.contextmanager
def running(home: Home, settings: Mapping[str, Any], reporter: Reporter) -> Iterator[Launched]:
    """Run the exchange of ``home`` while the context is open; ``settings`` (by dotted key) override its file."""
    launched = launch(up_command(home, settings), home.log / "supervisor.log", reporter, detach=False)
    try:
        yield launched
    finally:
        launched.stop()


def environment() -> dict[str, str]:
    """Environment for a Python process that must find these packages."""
    path = [str(_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


def up_command(home: Home, settings: Mapping[str, Any], config_file: Path | None = None) -> list[str]:
    """Command line of ``cambist up`` for ``home``, with ``settings`` laid over ``config_file`` or the home's own."""
    command = [sys.executable, "-m", "cambist", "up", "--home", str(home.path)]
    if config_file is not None:
        command += ["--config", str(config_file.absolute())]
    for key, value in settings.items():
        # JSON scalars and lists are TOML too.
        command += ["--set", f"{key}={msgspec.json.encode(value).decode()}"]
    return command


def _await_ready(messages: Any, reporter: Reporter, log: Path) -> dict[str, Any]:
    for line in messages:
        message = json.loads(line)
        if "ready" in message:
            return dict(message["ready"])
        if "progress" in message:
            reporter.progress(*message["progress"])
        elif "phase" in message:
            reporter.phase(message["phase"])
        elif "note" in message:
            reporter.note(message["note"])
        elif "failed" in message:
            raise LaunchError(message["failed"])
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise LaunchError(f"{lines[-1] if lines else 'it ended without a word'} (log: {log})")
