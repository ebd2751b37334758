"""What the system knows of a process: whether it runs, its memory, its processor time. Needs no numpy and no numba."""

from __future__ import annotations

import time
from pathlib import Path

_CPU_CLOCK = 2
_STATE = 0
_PARENT = 1
_START_TICKS = 19


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on; empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name stands in parentheses and may hold anything, so count from the last one.
    return text[text.rindex(")") + 2 :].split()


def start_ticks(pid: int) -> int:
    """Start of process ``pid`` in clock ticks since boot; 0 when it does not run (a zombie does not)."""
    fields = _stat(pid)
    return 0 if not fields or fields[_STATE] in {"Z", "X"} else int(fields[_START_TICKS])


def is_alive(pid: int, started_ticks: int) -> bool:
    """Whether the process that had ``pid`` and began at ``started_ticks`` runs; a later owner of the number is not."""
    return pid > 0 and started_ticks > 0 and start_ticks(pid) == started_ticks


def parent(pid: int) -> int:
    """Process that ``pid`` is a child of; 0 when it does not run."""
    fields = _stat(pid)
    return 0 if not fields or fields[_STATE] in {"Z", "X"} else int(fields[_PARENT])


def cpu_ns(pid: int) -> int:
    """Processor time of all threads of ``pid``, those that have ended too, in ns; 0 when it does not run."""
    if not start_ticks(pid):
        return 0
    try:
        # The number of a process's own clock, as clock_getcpuclockid(3) makes it.
        return time.clock_gettime_ns((~pid << 3) | _CPU_CLOCK)
    except OSError:
        return 0


def memory_bytes(pid: int) -> int:
    """Proportional set size of ``pid``: its own pages and its share of those that it shares; 0 when it does not run."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 0
    return 0
