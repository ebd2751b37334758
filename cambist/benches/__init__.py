"""``cambist bench``: measures parts of the exchange and compares them with what the machine allows.

Every bench checks its results before its speed counts; one whose results are wrong fails, and the program with it.
Rates and times are medians over runs, with CPU seconds beside them: on a machine that others use, wall time says more
about them. A limit is measured in the same run. Not measured: gateways, networks, other symbols, a disk under load.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from cambist.benches import (
    access,
    books,
    compiling,
    engine,
    footprint,
    latency,
    matcher,
    operations,
    output,
    overload,
    pipeline,
    postgres,
    primitives,
    recovery,
    restart,
    snapshot,
    sweep,
)
from cambist.benches.machine import commit, machine
from cambist.benches.rows import FULL, BenchFailedError, Row, Sizes, Task
from cambist.commands import UsageError
from cambist.config import Config

__all__ = ["BENCHES", "measure", "run"]

BENCHES: Final[dict[str, Callable[[Task], list[Row]]]] = {
    "ring": primitives.ring,
    "matcher": matcher.run,
    "operations": operations.run,
    "books": books.run,
    "sweep": sweep.run,
    "footprint": footprint.run,
    "engine": engine.run,
    "pipeline": pipeline.run,
    "latency": latency.run,
    "overload": overload.run,
    "journal": primitives.journal,
    "recovery": recovery.run,
    "restart": restart.run,
    "snapshot": snapshot.run,
    "postgres": postgres.run,
    "access": access.run,
    "compile": compiling.run,
}
"""By name, in the order in which ``all`` runs them."""

EVERYTHING: Final = "all"
_LOG_WIDTH: Final = 160
"""Columns where the output is no terminal, so that a log keeps the table whole."""


def run(names: Sequence[str], config: Config, sizes: Sizes = FULL, directory: Path | None = None) -> int:
    """Run benches and show what they found.

    Parameters
    ----------
    names : sequence of str
        Of ``BENCHES``, or ``all``.
    config : Config
        ``bench.flow``, ``bench.runs``, ``bench.json`` (``-`` is stdout; the table goes to stderr then), ``bench.html``.
    sizes : Sizes
        How much each bench does.
    directory : Path, optional
        Homes and journals of the benches are made in it, by default in the working one: its disk is measured.

    Returns
    -------
    int
        0, or 1 where a bench failed. Raises UsageError for a name or file that is not there.
    """
    chosen = list(BENCHES) if EVERYTHING in names else list(dict.fromkeys(names))
    for name in chosen:
        if name not in BENCHES:
            raise UsageError(f"bench {name}: not known here; there are {', '.join(BENCHES)} and {EVERYTHING}")
    if config.bench.flow and not Path(config.bench.flow).is_file():
        raise UsageError(f"--flow {config.bench.flow}: no such file")
    for peer in config.bench.peers:
        if not os.access(peer, os.X_OK):
            raise UsageError(f"--peer {peer}: not a program; bench/README.md says how one is built")
    document, failures = measure(chosen, config, sizes, directory or Path.cwd())
    to_stdout = config.bench.json == "-"
    console = Console(stderr=to_stdout)
    if not console.is_terminal:
        console = Console(stderr=to_stdout, width=_LOG_WIDTH)
    output.show(document, console)
    for failure in failures:
        print(f"cambist bench: {failure}", file=sys.stderr)
    text = json.dumps(document)
    if to_stdout:
        print(text)
    elif config.bench.json:
        Path(config.bench.json).write_text(f"{text}\n", encoding="utf-8")
    if config.bench.html:
        Path(config.bench.html).write_text(output.page(document), encoding="utf-8")
    return 1 if failures else 0


def measure(names: Sequence[str], config: Config, sizes: Sizes, directory: Path) -> tuple[dict[str, Any], list[str]]:
    """The contract's object and what failed; the rows of a bench that failed are not in it."""
    document: dict[str, Any] = {"machine": machine(), "commit": commit(), "results": []}
    failures = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix=".cambist-bench-", dir=directory) as folder:
            flow = Path(config.bench.flow).absolute() if config.bench.flow else None
            peers = tuple(Path(peer).absolute() for peer in config.bench.peers)
            try:
                document["results"] += BENCHES[name](
                    Task(flow, config.bench.runs, sizes, Path(folder), _progress, peers)
                )
            except BenchFailedError as error:
                failures.append(f"{name}: {error}")
    return document, failures


def _progress(text: str) -> None:
    print(f"bench {text} …", file=sys.stderr, flush=True)
