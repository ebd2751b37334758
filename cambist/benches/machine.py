"""On what a bench ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
"""Of the repository."""

_NAME: Final = re.compile(r"[\w.-]+")


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory, system, load before the benches, versions of what they run on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": _libraries(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def commit() -> str | None:
    """Commit of the sources, with ``-dirty`` behind it where files differ from it; None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],  # noqa: S607 - the user's own git
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor()


def _libraries() -> dict[str, str]:
    """Versions of what the program needs, as installed."""
    found: dict[str, str] = {}
    try:
        needed = importlib.metadata.requires("cambist") or []
    except importlib.metadata.PackageNotFoundError:
        return found
    for requirement in needed:
        name = _NAME.match(requirement)
        if name and "extra ==" not in requirement:
            found[name.group()] = importlib.metadata.version(name.group())
    return found
