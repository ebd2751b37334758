"""Which exchange a command speaks to: that of a home, through its socket, or one elsewhere, over TCP."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from cambist.commands import Call, UsageError
from gateway.control.client import TIMEOUT_S, ControlClient, Remote
from gateway.listening.settings import AddressError, address_of

CONNECT: Final = "CAMBIST_CONNECT"
CA: Final = "CAMBIST_CA"
CERTIFICATE: Final = "CAMBIST_CERTIFICATE"
KEY: Final = "CAMBIST_KEY"


def options(parser: argparse.ArgumentParser) -> None:
    """Add who acts, how long an answer is waited for, and where an exchange elsewhere is."""
    parser.add_argument("--operator", default="", metavar="NAME", help="who acts (default: the login name)")
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT_S, metavar="S", help=f"wait for an answer (default {TIMEOUT_S:g})"
    )
    group = parser.add_argument_group("elsewhere")
    group.add_argument("--connect", metavar="HOST:PORT", help=f"an exchange over TCP, in place of --home ({CONNECT})")
    group.add_argument(
        "--ca", type=Path, metavar="FILE", help=f"authority of its certificate, PEM ({CA}, else the system's)"
    )
    group.add_argument(
        "--certificate", type=Path, metavar="FILE", help=f"your own certificate, where it asks for one ({CERTIFICATE})"
    )
    group.add_argument("--key", type=Path, metavar="FILE", help=f"the key of it, where not in the same file ({KEY})")
    group.add_argument(
        "--plain-text",
        action="store_true",
        help="without TLS: your password passes as it is, for all on the way to read",
    )


def is_elsewhere(arguments: argparse.Namespace) -> bool:
    """Whether a command speaks to an exchange over TCP; a home that is named on the command line goes before the environment."""
    if not hasattr(arguments, "connect"):
        return False
    return bool(arguments.connect or (os.environ.get(CONNECT) and arguments.home is None))


def client(call: Call) -> ControlClient:
    """A connection to the exchange that the command line or the environment names. Raises ControlError, UsageError."""
    arguments = call.arguments
    if is_elsewhere(arguments):
        return ControlClient(_remote(arguments), operator=arguments.operator, timeout_s=arguments.timeout)
    for name in ("ca", "certificate", "key", "plain_text"):
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} is for an exchange elsewhere: name it with --connect")
    socket_path = Path(call.config.control.socket) if call.config.control.socket else None
    return ControlClient(
        call.home.path, operator=arguments.operator, socket_path=socket_path, timeout_s=arguments.timeout
    )


def _remote(arguments: argparse.Namespace) -> Remote:
    if arguments.connect and arguments.home is not None:
        raise UsageError("--connect is in place of --home: give one of them")
    option, text = ("--connect", arguments.connect) if arguments.connect else (CONNECT, os.environ[CONNECT])
    try:
        address = address_of(text, to_connect=True)
    except AddressError as error:
        raise UsageError(f"{option} {text}: {error}") from None
    ca, certificate, key = (
        given or _path(variable)
        for given, variable in ((arguments.ca, CA), (arguments.certificate, CERTIFICATE), (arguments.key, KEY))
    )
    if arguments.plain_text and (arguments.ca or arguments.certificate):
        raise UsageError("--plain-text is without TLS, and --ca and --certificate are for it: take one of them away")
    return Remote(address, ca, certificate, key, plain_text=arguments.plain_text)


def _path(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text) if text else None
