"""Compiles the kernels of all processes, or loads them from the cache, before any other process starts.

numba reads its index of a kernel's versions, adds one and writes it back: of two processes that fill one cache at the same moment
(two exchanges whose first starts meet), one may take the other's entry away, or name the other's machine code. So whoever has to
compile holds a lock in the cache from the first kernel to the last. Who finds everything there never asks for it.

An empty cache is filled by two processes where there are two cores: a fork compiles the kernels of risk, which are half of all,
while this one compiles those that do not call them. Each adds to an index under a lock. Of a fork that fails nothing is needed:
what it left out is compiled here, and fails here again if that is its nature.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from persistence.children import die_with_parent

PACKAGES: Final = ("protocol", "ringbuf", "sequencer", "matcher", "risk", "persistence", "gateway", "cambist")
LOCK_NAME: Final = ".filling"
"""File of a kernel cache that is locked while somebody fills it."""
SAVING_NAME: Final = ".saving"
"""File of a kernel cache that is locked while one of two that fill it together adds a kernel."""
BESIDE: Final = ("risk.process",)
"""Modules whose kernels a second process compiles …"""
AFTER: Final = ("persistence",)
"""… and packages whose kernels call theirs, or are theirs."""

_READ_BYTES: Final = 1 << 16

Progress = Callable[[int, int, str], object]
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
    cpu_start_s, wall_start_s = _cpu_s(), time.monotonic()
    loaded = [importlib.import_module(name) for name in modules]
    counter = _Counter(progress)
    with counter:
        later = [module for module in loaded if module.__name__ in BESIDE or module.__name__.partition(".")[0] in AFTER]
        with _compiled_beside([module for module in loaded if module.__name__ in BESIDE], counter) as second:
            _warm([module for module in loaded if module not in later] if second else [])
        _warm(loaded)
    return Compiled(counter.compiled, _cpu_s() - cpu_start_s, time.monotonic() - wall_start_s)


def _warm(modules: Sequence[Any]) -> None:
    for module in modules:
        warm = getattr(module, "warm", None)
        if warm is not None:
            warm()


def _cpu_s() -> float:
    """Processor time of this process and of those that it has waited for."""
    waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + waited_for.ru_utime + waited_for.ru_stime


@contextlib.contextmanager
def _compiled_beside(modules: Sequence[Any], counter: _Counter) -> Iterator[bool]:
    """Have a fork compile the kernels of ``modules`` while the context is open, and wait for it; yields whether there is one."""
    if not modules or len(os.sched_getaffinity(0)) < 2 or not _is_empty():
        yield False
        return
    counter.lock()
    if not _is_empty():
        yield False
        return
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    with _one_saves_at_a_time():
        parent_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            counter.tell_only(writer)
            _compile_and_end(modules, parent_pid)
        os.close(writer)
        counter.hear_also(reader)
        try:
            yield True
            os.set_blocking(reader, True)
            while counter.hear_second():
                pass
        finally:
            os.close(reader)
            _, status = os.waitpid(pid, 0)
    if status:
        counter.tell(f"(the second process ended with {os.waitstatus_to_exitcode(status)}: compiled here instead)")


def _compile_and_end(modules: Sequence[Any], parent_pid: int) -> NoReturn:
    status = 1
    try:
        die_with_parent(parent_pid)
        _warm(modules)
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must not come back to its parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


@contextlib.contextmanager
def _one_saves_at_a_time() -> Iterator[None]:
    from numba.core.caching import IndexDataCacheFile

    save = IndexDataCacheFile.save

    def locked_save(file: Any, key: Any, data: Any) -> None:
        with (_cache() / SAVING_NAME).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            save(file, key, data)

    IndexDataCacheFile.save = locked_save
    try:
        yield
    finally:
        IndexDataCacheFile.save = save


def _is_empty() -> bool:
    return next(_cache().rglob("*.nbi"), None) is None


def _cache() -> Path:
    return Path(os.environ["NUMBA_CACHE_DIR"])


class _Counter:
    """Counts the kernels that numba compiles while the context is open."""

    def __init__(self, progress: Progress) -> None:
        self.compiled = 0
        self._progress = progress
        self._seen: set[str] = set()
        self._kernels = 0
        self._installed: Any = None
        self._lock = -1
        self._second = -1
        self._unread = b""

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
        self.lock()
        self.hear_second()
        self._count(f"{function.__module__}.{function.__qualname__}")

    def hear_also(self, second: int) -> None:
        """Count the kernels too whose names the descriptor ``second`` gives, a line each, until it ends."""
        self._second = second

    def tell_only(self, first: int) -> None:
        """Be the second's: write the names to the descriptor ``first`` instead."""
        self._progress = lambda _done, _total, name: os.writev(first, [name.encode(), b"\n"])

    def hear_second(self) -> bool:
        """Read what there is; False: everything was read."""
        if self._second < 0:
            return False
        try:
            data = os.read(self._second, _READ_BYTES)
        except BlockingIOError:
            return True
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._count(line.decode())
        if not data:
            self._second = -1
        return bool(data)

    def lock(self) -> None:
        """Be the one who fills the cache, if this is not so yet."""
        if self._lock < 0:
            self._lock = self._locked()
            self._kernels = sum(1 for _ in _kernels())

    def tell(self, what: str) -> None:
        """Say what happens besides."""
        self._progress(len(self._seen), max(len(self._seen), self._kernels), what)

    def _count(self, name: str) -> None:
        self.compiled += 1
        self._seen.add(name)
        self.tell(name)

    def _locked(self) -> int:
        """Descriptor of the lock of the cache, which is given back when it is closed or the process ends."""
        lock = os.open(_cache() / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
