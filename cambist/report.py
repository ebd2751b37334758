"""Where the supervisor says what happens: a person's terminal, or another process that waits for the exchange."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Protocol


class Reporter(Protocol):
    """Hears of a start and of what follows."""

    def phase(self, text: str) -> None:
        """Say what begins now."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Say how far the present phase is; ``total`` 0 = not known."""

    def note(self, text: str) -> None:
        """Say something that an operator should know."""

    def ready(self, summary: dict[str, Any]) -> None:
        """Say that every gateway accepts connections; ``summary`` is the table of processes."""

    def failed(self, reason: str) -> None:
        """Say why the exchange ends."""

    def line(self, text: str) -> None:
        """Print a line of the running exchange."""


class ConsoleReporter:
    """Speaks to a terminal: progress and notes on stderr, what the exchange prints on stdout."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._last_text = ""

    def phase(self, text: str) -> None:
        """Say what begins now."""
        self._end_bar()
        print(text, file=sys.stderr, flush=True)

    def progress(self, label: str, done: int, total: int) -> None:
        """Say how far the phase is."""
        if not sys.stderr.isatty():
            # One line in ten, and none twice, so that a log of a first start stays readable.
            text = f"{label} {done}/{total or '?'}"
            if (done % 10 == 1 or done == total) and text != self._last_text:
                print(text, file=sys.stderr, flush=True)
                self._last_text = text
            return
        if self._bar is None:
            self._begin_bar()
        self._bar.update(self._task, description=label, completed=done, total=total or None)

    def note(self, text: str) -> None:
        """Say what an operator should know."""
        self._end_bar()
        print(text, file=sys.stderr, flush=True)

    def ready(self, summary: dict[str, Any]) -> None:
        """Say that every gateway accepts connections."""
        self._end_bar()
        print(f"ready in {summary['start_s']:.1f} s (epoch {summary['epoch']})", file=sys.stderr, flush=True)

    def failed(self, reason: str) -> None:
        """Say why the exchange ends."""
        self._end_bar()
        print(f"cambist: {reason}", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Print a line of the running exchange."""
        self._end_bar()
        print(text, flush=True)

    def _begin_bar(self) -> None:
        # Late: most commands and most starts draw no bar.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("")
        update = self._bar.update
        self._bar.update = lambda *arguments, **values: update(*arguments, refresh=True, **values)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class PipeReporter:
    """Speaks JSON lines to the process that started this one (``--ready-fd``), and text to its own output, the log."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor

    def phase(self, text: str) -> None:
        """Say what begins now."""
        self._tell({"phase": text})
        print(text, flush=True)

    def progress(self, label: str, done: int, total: int) -> None:
        """Say how far the phase is."""
        self._tell({"progress": [label, done, total]})

    def note(self, text: str) -> None:
        """Say what an operator should know."""
        self._tell({"note": text})
        print(text, flush=True)

    def ready(self, summary: dict[str, Any]) -> None:
        """Say that every gateway accepts connections."""
        self._tell({"ready": summary})
        print(f"ready in {summary['start_s']:.1f} s (epoch {summary['epoch']})", flush=True)

    def failed(self, reason: str) -> None:
        """Say why the exchange ends."""
        self._tell({"failed": reason})
        print(reason, flush=True)

    def line(self, text: str) -> None:
        """Print a line of the running exchange."""
        print(text, flush=True)

    def _tell(self, message: dict[str, Any]) -> None:
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")
        except (BrokenPipeError, BlockingIOError):
            # Nobody waits any more; the exchange goes on.
            self.hang_up()

    def hang_up(self) -> None:
        """Say no more on the pipe."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Quiet:
    """A reporter for starts that nobody watches; it keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def phase(self, text: str) -> None:
        """Say nothing."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)

    def ready(self, summary: dict[str, Any]) -> None:
        """Say nothing."""

    def failed(self, reason: str) -> None:
        """Keep it."""
        self.notes.append(reason)

    def line(self, text: str) -> None:
        """Say nothing."""
