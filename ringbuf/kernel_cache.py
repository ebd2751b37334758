"""Where numba keeps the compiled kernels, so that old machine code never runs for new sources.

numba's own cache looks at the file in which a kernel stands and at nothing else. Two things escape it: an edited
constant or helper in a file that the kernel *imports* (globals are frozen into the code), and a change of mode such as
``NUMBA_BOUNDSCHECK``. So each combination of kernel sources, compiler, processor and mode gets a directory of its own,
named by its hash.

A *kernel source* is a file of ``KERNEL_PACKAGES`` that says ``numba``, ``njit`` or ``jit``, and every file of these
packages that it imports, at any depth. Editing a process wrapper or the command line compiles nothing anew. Words
are looked for in the text: a decorator that wraps ``njit`` stands in a module called ``jit``, or keeps ``njit`` in its
name. Compiled helpers of tests stand outside; they are not to freeze constants of files that are no kernel sources, or
not to ask for ``cache=True``.

This module must run before numba is imported, and so imports neither numba nor numpy.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

KERNEL_PACKAGES = ("protocol", "ringbuf", "sequencer", "matcher", "risk", "persistence", "gateway", "cambist", "bench")
"""Top-level packages whose files may hold kernels or what kernels import."""

MODE_VARIABLES = (
    "NUMBA_DISABLE_JIT",
    "NUMBA_BOUNDSCHECK",
    "NUMBA_OPT",
    "NUMBA_DEBUGINFO",
    "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES",
    "NUMBA_DISABLE_INTEL_SVML",
)
"""Environment variables that change the code that numba makes."""

UNUSED_DAYS_MAX = 14
"""A cache that no process has configured for so long is removed."""

_SPEAKS_OF_NUMBA = re.compile(rb"\bnumba\b|njit|\bjit\b")
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<dots>\.*)(?P<module>[\w.]*)[ \t]+)?import[ \t]+(?P<names>\([^)]*\)|[^\n]*)", re.MULTILINE
)
_DOTTED_NAME = re.compile(r"\w[\w.]*")
_CACHE_NAME = re.compile(r"[0-9a-f]{32}")
_CACHE_NAME_BYTES = 16
_SECONDS_PER_DAY = 86_400
# What /proc/cpuinfo calls the processor and its features, on x86-64 and on Arm.
_CPU_KEYS = frozenset(
    {"model name", "flags", "Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part"}
)


class KernelCacheError(RuntimeError):
    """The kernel cache cannot be used as it should; the message says why and what to do."""


def configure(cache_root: Path | None = None) -> Path:
    """Choose the directory of compiled kernels for this process and its children.

    Call it before anything imports numba. A second call with the same sources and mode changes nothing.

    Parameters
    ----------
    cache_root : Path, optional
        Folder that holds the caches of all versions; ``$XDG_CACHE_HOME/cambist/kernels`` or
        ``~/.cache/cambist/kernels`` where not given.

    Returns
    -------
    Path
        The directory, created with owner-only rights (it holds code that will be run) and set as ``NUMBA_CACHE_DIR``. A
        value that the variable had before is replaced: a directory shared between versions is the fault that this
        module prevents.

    Raises
    ------
    KernelCacheError
        If numba was imported with another cache directory, or the directory cannot be written. (numba would fall back
        to ``__pycache__`` without a word, where old code survives.)
    """
    root = (cache_root if cache_root is not None else default_root()).absolute()
    cache = root / cache_name(Path(__file__).resolve().parent.parent)
    _refuse_late_call(cache)
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(cache)
    except OSError as error:
        raise KernelCacheError(
            f"cannot write the kernel cache {cache}: {error.strerror}; make the folder writable or name another one "
            f"with XDG_CACHE_HOME"
        ) from error
    if not os.access(cache, os.W_OK | os.X_OK):
        raise KernelCacheError(
            f"cannot write the kernel cache {cache}: no permission; make the folder writable or name another one with "
            f"XDG_CACHE_HOME"
        )
    os.environ["NUMBA_CACHE_DIR"] = str(cache)
    _remove_unused(root, keep=cache)
    return cache


def default_root() -> Path:
    """Return the folder of this user's kernel caches; as XDG demands, a relative ``XDG_CACHE_HOME`` is ignored."""
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".cache"
    return base / "cambist" / "kernels"


def cache_name(source_root: Path) -> str:
    """Return the name of the cache for the sources below ``source_root``: 32 hexadecimal digits.

    Parameters
    ----------
    source_root : Path
        Folder that holds the packages of ``KERNEL_PACKAGES``; absent ones count as empty.
    """
    digest = hashlib.blake2b(digest_size=_CACHE_NAME_BYTES)

    def add(*parts: str | bytes) -> None:
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)

    add(sys.version, sys.implementation.cache_tag or "")
    for distribution in ("numba", "llvmlite", "numpy"):
        add(distribution, importlib.metadata.version(distribution))
    add(platform.machine(), *_cpu_lines())
    for variable in MODE_VARIABLES:
        add(variable, os.environ.get(variable, ""))
    for path, content in kernel_sources(source_root).items():
        add(path, content)
    return digest.hexdigest()


def kernel_sources(source_root: Path) -> dict[str, bytes]:
    """Return the content of every kernel source by its path relative to ``source_root`` (with ``/``), in path order."""
    contents = {
        path.relative_to(source_root).as_posix(): path.read_bytes()
        for package in KERNEL_PACKAGES
        for path in (source_root / package).rglob("*.py")
    }
    waiting = [path for path, content in contents.items() if _SPEAKS_OF_NUMBA.search(content)]
    found = set(waiting)
    while waiting:
        path = waiting.pop()
        new = {candidate for candidate in _imported_paths(path, contents[path]) if candidate in contents} - found
        found |= new
        waiting.extend(new)
    return {path: contents[path] for path in sorted(found)}


def _imported_paths(path: str, content: bytes) -> Iterator[str]:
    """Yield each file that an import statement in ``content`` may mean, and some that exist nowhere.

    The statements are found as text: parsing all sources would cost each start half a second. What only looks like an
    import, such as a line of a docstring, costs at most a needless compilation.
    """
    folders = path.split("/")[:-1]
    for statement in _IMPORT.finditer(content.decode(errors="replace").replace("\\\n", " ")):
        dots, module, names = statement["dots"] or "", statement["module"] or "", statement["names"]
        # One dot is the folder of the file, each further one its parent.
        parents = folders[: len(folders) - len(dots) + 1] if dots else []
        base = [*parents, *module.split(".")] if module else parents
        if statement["module"] is not None:
            yield from _module_paths(base)
        for name in _DOTTED_NAME.findall(names):
            yield from _module_paths([*base, *name.split(".")])


def _module_paths(names: Sequence[str]) -> tuple[str, str]:
    module = "/".join(names)
    return f"{module}.py", f"{module}/__init__.py"


def _cpu_lines() -> list[str]:
    """Return what identifies the first processor's instruction set; empty where the system does not tell."""
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
        return sorted(line for line in first.splitlines() if line.partition(":")[0].strip() in _CPU_KEYS)
    return [platform.processor()]


def _refuse_late_call(cache: Path) -> None:
    # A half-imported numba has no `config` yet; then the call comes from inside its import, which is too late as well.
    numba = sys.modules.get("numba")
    if numba is None:
        return
    config = sys.modules.get("numba.core.config")
    used = getattr(config, "CACHE_DIR", "")
    if used != str(cache):
        raise KernelCacheError(
            f"numba was imported before the kernel cache was configured: it caches in {used or 'its default folders'}, "
            f"not in {cache}; call ringbuf.kernel_cache.configure() before the first import of numba or of a kernel"
        )


def _remove_unused(root: Path, keep: Path) -> None:
    """Remove the caches of other versions that nobody configured for ``UNUSED_DAYS_MAX`` days."""
    oldest_s = time.time() - UNUSED_DAYS_MAX * _SECONDS_PER_DAY
    for path in root.iterdir():
        # Another process may remove the same cache; what is not named like a cache is not ours to remove.
        with contextlib.suppress(FileNotFoundError):
            if path != keep and _CACHE_NAME.fullmatch(path.name) and path.stat().st_mtime < oldest_s:
                shutil.rmtree(path, ignore_errors=True)
