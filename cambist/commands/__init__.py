"""The subcommands of ``cambist``, each in a module of its own that is imported only when it is called.

A module has::

    def configure(name: str, parser: argparse.ArgumentParser) -> None    # adds its options
    def run(name: str, call: Call) -> int                                # 0 ok, 1 failed check

``name`` is the subcommand's, so that one module may serve several. An option that has a key in the configuration is
added with ``option(parser, "replay.limit", "--limit", …)``; its value is then read from ``call.config``, wherever it
came from. Other arguments are in ``call.arguments``. For errors raise UsageError (status 2) or FailedError (1). Modules
of clients import neither numpy nor numba.

A module of several subcommands that cli.py does not name one by one stands in ``cambist.cli.PROVIDERS`` and has
``COMMANDS: dict[str, tuple[str, tuple[str, ...]]]``: name to help and examples.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from cambist.config import Config
from cambist.home import Home

OPTION_NAMES: Final[dict[str, str]] = {}
"""Dotted key to the option that sets it, for error messages."""


class UsageError(Exception):
    """The command line cannot be used: exit status 2, the reason on stderr."""


class FailedError(Exception):
    """The command was right and could not be done: exit status 1, the reason on stderr."""


class Call(NamedTuple):
    """One call of a subcommand."""

    arguments: argparse.Namespace
    config: Config
    home: Home
    home_given: bool
    """Whether ``--home``, CAMBIST_HOME or the configuration named the home; otherwise it is the default."""
    overrides: dict[str, Any]
    """Keys of the configuration that were set on the command line."""


class _Options(Protocol):
    def add_argument(self, *flags: str, **arguments: Any) -> Any: ...


def action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Add an action to a command that has several; people write the command's own options at the end."""
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--home", type=Path, metavar="DIR", default=argparse.SUPPRESS, help="folder of the instance")
    parser.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="configuration")
    return parser


def option(parser: _Options, key: str, *flags: str, **arguments: Any) -> None:
    """Add an option that sets ``key`` of the configuration; without it the TOML file or the default decides."""
    OPTION_NAMES[key] = flags[-1]
    arguments.setdefault("default", argparse.SUPPRESS)
    parser.add_argument(*flags, dest=key, **arguments)
