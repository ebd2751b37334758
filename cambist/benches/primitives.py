"""The benches of single parts that stand in the folder ``bench``: the ring and the journal."""

from __future__ import annotations

import importlib
from typing import Any

from cambist.benches.rows import NO_COMPILER, BenchFailedError, Row, Task


def ring(task: Task) -> list[Row]:
    """Messages per second through a ring between two processes; see ``bench/ring.py``."""
    task.progress(f"ring: {task.sizes.ring_messages:,} messages a case, {task.runs} runs")
    rows = _rows("ring", _module("ring").run(task.sizes.ring_messages, task.runs))
    for result in rows:
        result["wall_median"] = task.sizes.ring_messages / result["median"]
        if result["limit"] is None:
            result["note"] = NO_COMPILER
    return rows


def journal(task: Task) -> list[Row]:
    """Slots per second onto the disk; see ``bench/journal.py``."""
    task.progress(f"journal: {task.sizes.journal_s:g} s a case, {task.runs} runs")
    return _rows("journal", _module("journal").run(task.sizes.journal_s, task.runs, task.directory))


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"bench.{name}")
    except ModuleNotFoundError as error:
        if error.name not in {"bench", f"bench.{name}"}:
            raise
        raise BenchFailedError(f"bench/{name}.py is not installed; run it from the repository") from error


def _rows(name: str, found: dict[str, Any]) -> list[Row]:
    return [{"bench": name, "limit": None, "percentiles_ns": None, **result} for result in found["results"]]
