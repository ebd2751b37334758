"""Output that hurts nobody: a line that a full or broken disk does not take is lost, and whoever said it goes on."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any, Final

_STREAMS: Final = ("stdout", "stderr")


class _Forgiving(io.FileIO):
    """A descriptor whose errors of writing are not told."""

    def write(self, data: Any) -> int:
        """Write as much as goes; all of it counts as written."""
        size_bytes = memoryview(data).nbytes
        with contextlib.suppress(OSError):
            written = super().write(data)
            return size_bytes if written is None else written
        return size_bytes


def forgive_output() -> None:
    """From now on standard output and error of this process forgive, line by line; for one whose output is a log."""
    for name in _STREAMS:
        stream = getattr(sys, name)
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        raw = _Forgiving(stream.fileno(), "w", closefd=False)
        buffered = io.BufferedWriter(raw)
        setattr(sys, name, io.TextIOWrapper(buffered, stream.encoding, "backslashreplace", line_buffering=True))


@contextlib.contextmanager
def forgiving_output() -> Iterator[None]:
    """As ``forgive_output`` while the context is open; streams that are no files stay as they are."""
    before = {name: getattr(sys, name) for name in _STREAMS}
    with contextlib.suppress(io.UnsupportedOperation):
        forgive_output()
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)
