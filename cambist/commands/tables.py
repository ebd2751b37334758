"""What commands show a person: tables, and the progress of what takes time."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_WIDE_COLUMNS: Final = 240
_NUMBERS: Final = frozenset(
    ["qty", "price", "value", "fee", "bid", "ask", "free", "locked", "total", "total units", "leaves_qty", "cum_qty"]
) | {"orders", "last_price", "amount", "seq", "changed seq", "segment", "first seq", "last seq", "MiB", "stored MiB"}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; nothing is cut where stdout is a pipe or a file, which has no width."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column.replace("_", " "), justify="right" if column in _NUMBERS else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE_COLUMNS
    Console(highlight=False, markup=False, width=width).print(shown)


@contextlib.contextmanager
def progress(what: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while the context is open, where that is a terminal; the function takes what is done and what there is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not (shown and sys.stderr.isatty())) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
