"""Compiles the kernels of all processes, or loads them from the cache, in one process before any other starts.

numba reads its index of a kernel's versions, adds one and writes it back: of two processes that fill one cache at the same moment
(two exchanges whose first starts meet), one may take the other's entry away, or name the other's machine code. So whoever has to
compile holds a lock in the cache from the first kernel to the last. Who finds everything there never asks for it.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

PACKAGES: Final = ("protocol", "ringbuf", "sequencer", "matcher", "risk", "persistence", "gateway", "cambist")
LOCK_NAME: Final = ".filling"
"""File of a kernel cache that is locked while somebody fills it."""

Progress = Callable[[int, int, str], None]
"""Called with how many kernels are compiled, how many there are, and the name of the latest, or why nothing happens."""


class Compiled(NamedTuple):
    """What ``compile_all`` did."""

    kernels: int
    """Kernels that were compiled, rather than loaded from the cache."""
    cpu_s: float
    """Processor time in all, with imports."""
    wall_s: float


def compile_all(modules: Sequence[str], progress: Progress) -> Compiled:
    """Import ``modules`` and call the function ``warm()`` of each that has one.

    ``warm`` runs the module's kernels once on tiny private state, with the very types that the process will pass; it
    takes and gives nothing. ``progress`` hears of each kernel that had to be compiled, of none when all are cached. While
    another process fills the same cache this one waits before its first kernel, and finds the others there.
    """
    cpu_start_s, wall_start_s = time.process_time(), time.monotonic()
    loaded = [importlib.import_module(name) for name in modules]
    counter = _Counter(progress)
    with counter:
        for module in loaded:
            warm = getattr(module, "warm", None)
            if warm is not None:
                warm()
    return Compiled(counter.compiled, time.process_time() - cpu_start_s, time.monotonic() - wall_start_s)


class _Counter:
    """Counts the kernels that numba compiles while the context is open."""

    def __init__(self, progress: Progress) -> None:
        self.compiled = 0
        self._progress = progress
        self._seen: set[str] = set()
        self._kernels = 0
        self._installed: Any = None
        self._lock = -1

    def __enter__(self) -> None:
        if "numba" not in sys.modules:
            return
        from numba.core import event

        counter = self

        class Listener(event.Listener):
            def on_start(self, event: Any) -> None:
                counter.hear(event.data["dispatcher"].py_func)

            def on_end(self, event: Any) -> None:
                pass

        self._installed = event.install_listener("numba:compile", Listener())
        self._installed.__enter__()

    def __exit__(self, *exception: object) -> None:
        if self._installed is not None:
            self._installed.__exit__(*exception)
        if self._lock >= 0:
            os.close(self._lock)

    def hear(self, function: Any) -> None:
        """Note that ``function`` is being compiled now, for one signature."""
        if self._lock < 0:
            self._lock = self._locked()
            self._kernels = sum(1 for _ in _kernels())
        self.compiled += 1
        name = f"{function.__module__}.{function.__qualname__}"
        self._seen.add(name)
        self._progress(len(self._seen), max(len(self._seen), self._kernels), name)

    def _locked(self) -> int:
        """Descriptor of the lock of the cache, which is given back when it is closed or the process ends."""
        lock = os.open(Path(os.environ["NUMBA_CACHE_DIR"]) / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._progress(0, 1, "(waiting: another process fills the cache)")
            fcntl.flock(lock, fcntl.LOCK_EX)
        return lock


def _kernels() -> Iterator[Any]:
    """Yield every kernel of ours that is imported now."""
    from numba.core.dispatcher import Dispatcher

    found = {
        id(value): value
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in PACKAGES
        for value in list(vars(module).values())
        if isinstance(value, Dispatcher)
    }
    yield from found.values()
