"""``cambist down``: stop the exchange."""

from __future__ import annotations

import argparse

from cambist.commands import Call, FailedError, option
from cambist.home import stop


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of ``down``."""
    option(
        parser, "down.timeout_s", "--timeout", type=int, metavar="S", help="seconds to wait for the end (default 30)"
    )
    option(parser, "down.kill", "--kill", action="store_true", help="end it at once; what was acknowledged is kept")


def run(name: str, call: Call) -> int:
    """Stop what runs in the home; 0 also when nothing does."""
    down = call.config.down
    if not stop(call.home, down.timeout_s, kill=down.kill):
        holder = call.home.holder()
        raise FailedError(
            f"{call.home.path}: process {holder.pid if holder else '?'} has not stopped within {down.timeout_s} s; "
            f"`cambist down --kill` ends it at once"
        )
    return 0
