"""What the system knows of a process: whether it runs, its memory, its processor time. Needs no numpy and no numba."""

from __future__ import annotations

import os
from pathlib import Path

_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_STATE = 0
_PARENT = 1
_USER_TICKS = 11
_SYSTEM_TICKS = 12
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
    """Processor time of all threads of ``pid`` in ns; 0 when it does not run."""
    total_ns = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            # Finer than the ticks of /proc/<pid>/stat; absent where the kernel keeps no scheduler statistics.
            total_ns += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    except (OSError, IndexError, ValueError):
        fields = _stat(pid)
        total_ns = (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) * _NS_PER_TICK if fields else 0
    return total_ns


def memory_bytes(pid: int) -> int:
    """Proportional set size of ``pid``: its own pages and its share of those that it shares; 0 when it does not run."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 0
    return 0
