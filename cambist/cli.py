"""The program ``cambist``: finds the subcommand, reads the configuration, turns errors into exit statuses.

0 ok, 1 failed check, 2 usage; the reason of the latter two is on stderr. Only the module of the called subcommand is
imported, so that clients start quickly.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from cambist import __version__
from cambist.commands import OPTION_NAMES, Call, FailedError, UsageError
from cambist.commands.connection import is_elsewhere
from cambist.config import FILE_NAME, Config, ConfigError, Override, load
from cambist.home import DEFAULT_HOME, Home, HomeError
from cambist.launch import LaunchError

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
_INTERRUPTED: Final = 130
_UMASK: Final = 0o077
_NOT_TOLD: Final = ("postgres.dsn", "postgres")
_PASSWORD: Final = re.compile(r"://[^/@]*:[^/@]+@|password\s*=", re.IGNORECASE)


class _Command(NamedTuple):
    module: str
    help: str
    examples: tuple[str, ...]


COMMANDS: Final = {
    "up": _Command(
        "cambist.commands.up",
        "start the exchange and stay in the foreground",
        ("cambist up --demo", "cambist up --home /srv/exchange --detach", "cambist up --set engine.shards=3"),
    ),
    "down": _Command(
        "cambist.commands.down", "stop the exchange", ("cambist down", "cambist down --home /srv/exchange")
    ),
    "status": _Command(
        "cambist.commands.status",
        "processes, cursors and instruments of a running exchange",
        ("cambist status", "cambist status --json"),
    ),
    "verify": _Command(
        "cambist.commands.verify",
        "rebuild everything from the journal and compare",
        ("cambist verify", "cambist verify --home /srv/exchange --json"),
    ),
    "audit": _Command(
        "cambist.commands.audit",
        "who did what, when and why: list, verify and export the audit trail",
        (
            "cambist audit ls --type DEPOSIT --from 2026-11-01",
            "cambist audit head",
            "cambist audit verify --head HASH",
            "cambist audit export --account alice --from 2026-11-01 --to 2026-12-01 alice-november",
        ),
    ),
    "reconcile": _Command(
        "cambist.commands.reconcile",
        "compare risk's balances, the database's balances and the sum of its postings",
        ("cambist reconcile", "cambist reconcile --home /srv/exchange --json"),
    ),
    "snapshot": _Command(
        "cambist.commands.snapshot",
        "list, take and verify snapshots of the whole state",
        ("cambist snapshot ls", "cambist snapshot take", "cambist snapshot verify --json"),
    ),
    "history": _Command(
        "cambist.commands.history",
        "orders, trades and statements, as PostgreSQL has them",
        (
            "cambist history orders --account alice --state LIVE",
            "cambist history trades --instrument BTCUSDT --limit 5",
            "cambist history statement --account alice --asset USDT --from 2026-11-01T00:00:00",
            'psql "$(cambist history dsn)"',
        ),
    ),
    "replay": _Command(
        "cambist.commands.replay",
        "feed a recording to the live processes of a fresh home",
        ("cambist replay recording.csv --json", "cambist replay flow.bin --shards 3 --jitter 7 --fills fills.csv"),
    ),
    "backup": _Command(
        "cambist.commands.backup",
        "back a home up, beside a running exchange too",
        ("cambist backup /backups/monday", "cambist backup /backups/monday.tar.zst --home /srv/exchange"),
    ),
    "restore": _Command(
        "cambist.commands.backup",
        "make a home of a backup, as of its end or of an earlier command",
        (
            "cambist restore /backups/monday --home /srv/again",
            "cambist restore /backups/monday.tar.zst --home /srv/again --until 2026-11-22T10:15:30Z",
            "cambist restore /backups/monday --check",
        ),
    ),
    "upgrade": _Command(
        "cambist.commands.upgrade",
        "end a stopped home's journal for a newer version, or take over what an older one ended",
        ("cambist upgrade --home /srv/exchange",),
    ),
    "inspect": _Command(
        "cambist.commands.inspect",
        "a book, an account or the life of an order, now or in the past",
        (
            "cambist inspect book BTCUSDT --at 15453",
            "cambist inspect account alice --at 2026-11-22T10:15:30Z",
            "cambist inspect order 2199023255553 --json",
            "cambist inspect order my-1 --account alice",
        ),
    ),
    "journal": _Command(
        "cambist.commands.journal",
        "list, show and export what the journal holds",
        (
            "cambist journal ls",
            "cambist journal show --from 15400 --to 15453 --account alice",
            "cambist journal export --format parquet commands.parquet",
        ),
    ),
    "demo": _Command(
        "cambist.commands.demo",
        "take the demo on a tour: kill the matcher under load and see what is lost",
        ("cambist demo tour", "cambist demo tour --home var --json"),
    ),
    "bench": _Command(
        "cambist.commands.bench",
        "measure parts of the exchange",
        ("cambist bench ring matcher", "cambist bench pipeline --runs 3 --json result.json"),
    ),
}

PROVIDERS: Final = ("cambist.commands.control", "cambist.commands.access")
"""Modules of several subcommands: ``COMMANDS`` maps each of their names to ``(help, examples)``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``cambist`` with ``argv`` (default: the process's) and give the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Whatever a command or a process of the exchange writes is for its owner alone.
    former = os.umask(_UMASK)
    try:
        return _run(arguments)
    except (UsageError, ConfigError) as error:
        return _say(error, EXIT_USAGE)
    except (FailedError, HomeError, LaunchError) as error:
        return _say(error, EXIT_FAILED)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough; keep the interpreter from saying so at its end.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    finally:
        os.umask(former)


def _say(error: Exception, status: int) -> int:
    print(f"cambist: {error}", file=sys.stderr)
    return status


def _run(arguments: list[str]) -> int:
    try:
        parsed, name, module = _parse(arguments)
    except SystemExit as stop:  # argparse has printed what it had to say
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    overrides = _overrides(parsed)
    config, named = _configuration(parsed, overrides)
    home = Home((named or DEFAULT_HOME).expanduser())
    values = {key: override.value for key, override in overrides.items()}
    call = Call(parsed, config, home, named is not None, values)
    return int(importlib.import_module(module).run(name, call))


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, str, str]:
    commands = _commands()
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    parser = _Parser(
        prog="cambist",
        description="An exchange in a box.",
        epilog="`cambist COMMAND --help` shows the options and examples of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cambist {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for command, (module, text, examples) in commands.items():
        subparser = subparsers.add_parser(
            command,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog="examples:\n" + "".join(f"  {example}\n" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command == name:
            _configure(subparser, module, command)
    return parser.parse_args(arguments), name, commands[name].module if name in commands else ""


def _commands() -> dict[str, _Command]:
    commands = dict(COMMANDS)
    for provider in PROVIDERS:
        for name, (text, examples) in importlib.import_module(provider).COMMANDS.items():
            commands[name] = _Command(provider, text, examples)
    return commands


def _configure(parser: argparse.ArgumentParser, module: str, name: str) -> None:
    common = parser.add_argument_group("where")
    common.add_argument(
        "--home", type=Path, metavar="DIR", help=f"folder of the instance (CAMBIST_HOME, else ./{DEFAULT_HOME})"
    )
    common.add_argument("--config", type=Path, metavar="FILE", help=f"configuration (default: {FILE_NAME} in the home)")
    common.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set any key of the configuration, such as engine.shards=3; may be repeated",
    )
    importlib.import_module(module).configure(name, parser)


def _overrides(parsed: argparse.Namespace) -> dict[str, Override]:
    """Collect what the command line sets in the configuration: options with a dotted key, and ``--set``."""
    overrides = {}
    for setting in parsed.set:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {setting}: must be KEY=VALUE, such as --set engine.shards=3")
        if key in _NOT_TOLD and _PASSWORD.search(text):
            raise UsageError(
                f"--set {key}: everybody on this machine sees the password in the list of processes; write it into {FILE_NAME}"
            )
        overrides[key] = Override(_toml_value(text), f"--set {key}")
    for key, value in vars(parsed).items():
        if "." in key:
            overrides[key] = Override(value, OPTION_NAMES[key])
    return overrides


def _toml_value(text: str) -> Any:
    """Value of a TOML text; a text that is none stands for itself, so that quotes may be left out."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _configuration(parsed: argparse.Namespace, overrides: dict[str, Override]) -> tuple[Config, Path | None]:
    """Read --config, or the file of the home; and the home that --home, CAMBIST_HOME or ``home`` in --config names."""
    text = parsed.home or os.environ.get("CAMBIST_HOME")
    if parsed.config is not None:
        config = load(parsed.config, overrides, required=True)
        text = text or config.home
    elif is_elsewhere(parsed):
        # What lies in the default home is another exchange's, and perhaps another user's.
        config = Config()
    else:
        config = load(Path(text or DEFAULT_HOME) / FILE_NAME, overrides, required=False)
    return config, Path(text) if text else None


class _Parser(argparse.ArgumentParser):
    """Says on one line of stderr what is wrong, and where help is."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")
