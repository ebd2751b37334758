"""``cambist user``, ``key``, ``firm`` and ``role``: who is known, and what they may do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cambist.commands import Call, FailedError, UsageError, connection, operator
from cambist.commands import action as add_action
from cambist.commands.tables import table
from gateway.control.client import ControlClient, ControlError, RefusedError

COMMANDS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "user": (
        "register users, restrict them, end their sessions",
        (
            'cambist user create alice --reason "signed up"',
            'cambist user sub alice --label bot --reason "asked for it"',
            'cambist user restrict alice --scope withdraw --text "new device" --until 2026-12-01 --reason "ticket 12"',
            "cambist user show alice",
        ),
    ),
    "key": (
        "create, show and revoke keys of programs",
        (
            'cambist key create alice --permission read --permission trade --network 203.0.113.0/24 --reason "asked for it"',
            "cambist key create alice --kind ed25519 --public-key alice.pem --reason new",
            "cambist key create alice --kind fix --comp-id ALICE --reason new",
            "cambist key list alice",
        ),
    ),
    "firm": (
        "firms and who belongs to them",
        ("cambist firm create acme --reason new", "cambist firm assign alice acme --reason employed"),
    ),
    "role": (
        "operators, their roles, and what waits for a second one",
        (
            "cambist role create olga --role treasury --reason employed",
            "cambist role list",
            "cambist role proposals",
            "cambist role approve 12 --operator paul --reason checked",
        ),
    ),
}

_NS: Final = 1_000_000_000
_SECRETS: Final = ("password", "secret", "uri", "recovery_codes")
_COLUMNS: Final = {
    "users": ("name", "firm", "accounts", "states", "second_factor", "closed_ns"),
    "keys": ("key_id", "kind", "label", "active", "words"),
    "firms": ("name", "users"),
    "proposals": ("proposal_id", "op", "args", "operator", "reason", "state", "decided_by"),
    "events": ("event_id", "actor", "action", "subject", "reason"),
    "operators": ("name", "roles", "second_factor", "temporary_password", "closed_ns"),
}

_Arguments = argparse.Namespace
Sender = Callable[..., dict[str, Any]]


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand ``name``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _CONFIGURE[name](actions)


def run(name: str, call: Call) -> int:
    """Do what the command line asks for, and show the answer."""
    arguments = call.arguments
    try:
        with connection.client(call) as client:
            result = _ACTIONS[name, arguments.action](_sender(client, getattr(arguments, "reason", "")), arguments)
    except ControlError as error:
        raise FailedError(str(error)) from None
    if arguments.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
    else:
        _show(result)
    return 0


def _sender(client: ControlClient, reason: str) -> Sender:
    """What sends a request and gives its result; a refusal ends the command."""

    def send(op: str, args: dict[str, Any]) -> dict[str, Any]:
        given = {key: value for key, value in args.items() if value is not None}
        reply = operator.send(client, op, given, reason)
        if not reply.ok:
            raise FailedError(str(RefusedError(reply)))
        return reply.result or {}

    return send


# --- the command line -------------------------------------------------------------------------------------------------


def _configure_user(actions: Any) -> None:
    create = _action(actions, "create", "register a client, with an account of the same name", reason=True)
    create.add_argument("name", metavar="NAME")
    create.add_argument("--account", metavar="ACCOUNT", help="its main account, which exists; otherwise one is created")
    create.add_argument("--firm", default="", metavar="NAME")
    create.add_argument(
        "--password-file", metavar="FILE", help="first line: the password; - is stdin; else one is made"
    )
    create.add_argument(
        "--permanent", action="store_true", help="the user need not choose another password (the home's owner only)"
    )
    sub = _action(actions, "sub", "open a sub-account", reason=True)
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--account", metavar="ACCOUNT", help="an account that exists; otherwise one is created")
    sub.add_argument("--label", default="")
    for name, text in (
        ("close", "end a user or operator: no sign-in, no key, no session"),
        ("password", "give a new password, good for choosing another one only"),
        ("factors", "take away authenticator, recovery codes and passkeys that were lost"),
    ):
        _action(actions, name, text, reason=True).add_argument("name", metavar="NAME")
    sign_out = _action(actions, "sign-out", "end sessions", reason=True)
    sign_out.add_argument("name", metavar="NAME")
    sign_out.add_argument("--session", type=int, default=0, metavar="N", help="one of them; otherwise all")
    restrict = _action(actions, "restrict", "set an account state", reason=True)
    restrict.add_argument("name", metavar="NAME", nargs="?", help="a user")
    restrict.add_argument("--account", metavar="ACCOUNT", help="in place of a user")
    restrict.add_argument("--firm", metavar="NAME", help="in place of a user")
    restrict.add_argument(
        "--scope",
        action="append",
        required=True,
        help="login, api, trade, deposit, transfer, withdraw; may be repeated",
    )
    restrict.add_argument("--text", required=True, help="why, in words for the user")
    restrict.add_argument("--until", metavar="TIME", help="UTC; otherwise until it is lifted")
    _action(actions, "lift", "end an account state", reason=True).add_argument("state", metavar="N", type=int)
    _action(actions, "list", "list users")
    _action(actions, "show", "accounts, keys, sessions, devices and states of a user").add_argument(
        "name", metavar="NAME"
    )
    events = _action(actions, "events", "who changed what")
    events.add_argument("--subject", default="", metavar="TEXT", help='such as "user alice"')
    events.add_argument("--limit", type=int, default=50)


def _configure_key(actions: Any) -> None:
    create = _action(actions, "create", "make a key; its secret is shown once", reason=True)
    create.add_argument("user", metavar="USER")
    create.add_argument("--kind", choices=("hmac", "ed25519", "rsa", "fix", "binary"), default="hmac")
    create.add_argument(
        "--permission",
        action="append",
        metavar="NAME",
        help="read, trade, transfer, withdraw; may be repeated (default: read and trade)",
    )
    create.add_argument("--network", action="append", default=[], metavar="CIDR", help="where it may be used from")
    create.add_argument("--account", action="append", default=[], metavar="ACCOUNT", help="for these only")
    create.add_argument("--expires", metavar="TIME", help="UTC")
    create.add_argument("--label", default="")
    create.add_argument("--public-key", metavar="FILE", help="PEM, of ed25519 and rsa")
    create.add_argument("--id", metavar="NAME", help="user name of a fix or binary credential")
    create.add_argument("--comp-id", default="", metavar="TEXT", help="SenderCompID of a fix credential")
    _action(actions, "list", "keys of a user").add_argument("user", metavar="USER")
    _action(actions, "show", "what a key may do").add_argument("key_id", metavar="KEY")
    _action(actions, "revoke", "end a key", reason=True).add_argument("key_id", metavar="KEY")


def _configure_firm(actions: Any) -> None:
    _action(actions, "create", "register a firm", reason=True).add_argument("name", metavar="NAME")
    assign = _action(actions, "assign", "put a user into a firm; without one take it out", reason=True)
    assign.add_argument("user", metavar="USER")
    assign.add_argument("firm", metavar="FIRM", nargs="?", default="")
    _action(actions, "list", "list firms and their users")


def _configure_role(actions: Any) -> None:
    for name, text in (("create", "register an operator"), ("set", "give an operator other roles")):
        parser = _action(actions, name, text, reason=True)
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--role", action="append", default=[], metavar="ROLE", help="may be repeated")
    _action(actions, "list", "what each role may do, what needs four eyes, and who has which")
    _action(actions, "password", "choose another password for --operator").add_argument(
        "--password-file", metavar="FILE", default="-", help="first line: the new password; - is stdin (default)"
    )
    _action(actions, "totp", "give --operator an authenticator").add_argument(
        "--code", default="", help="the authenticator's first code, in a second call"
    )
    _action(actions, "proposals", "what waits for a second operator").add_argument(
        "--all", action="store_true", help="what was decided too"
    )
    for name, text in (("approve", "approve a proposal, which executes it"), ("deny", "deny a proposal")):
        _action(actions, name, text, reason=True).add_argument("proposal", metavar="N", type=int)


def _action(actions: Any, name: str, text: str, *, reason: bool = False) -> argparse.ArgumentParser:
    parser = add_action(actions, name, text)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    connection.options(parser)
    if reason:
        parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it goes into the history")
    return parser


_CONFIGURE: Final[dict[str, Callable[[Any], None]]] = {
    "user": _configure_user,
    "key": _configure_key,
    "firm": _configure_firm,
    "role": _configure_role,
}


# --- from the command line to requests --------------------------------------------------------------------------------


def _user_create(send: Sender, a: _Arguments) -> dict[str, Any]:
    password = None if a.password_file is None else _first_line(a.password_file)
    account = a.account or send("create_account", {"name": a.name})["account"]
    user = {"name": a.name, "firm": a.firm, "password": password, "temporary": not a.permanent}
    made = send("user_create", user)
    return made | send("account_attach", {"user": a.name, "account": account})


def _user_sub(send: Sender, a: _Arguments) -> dict[str, Any]:
    account = a.account or send("create_account", {})["account"]
    return send("account_attach", {"user": a.name, "account": account, "label": a.label})


def _user_restrict(send: Sender, a: _Arguments) -> dict[str, Any]:
    args = {"user": a.name, "account": a.account, "firm": a.firm, "scopes": a.scope, "text": a.text}
    return send("restrict", args | {"expires_ns": _time_ns(a.until)})


def _key_create(send: Sender, a: _Arguments) -> dict[str, Any]:
    args = {
        "user": a.user,
        "kind": a.kind,
        "permissions": a.permission,
        "networks": a.network,
        "accounts": a.account,
        "expires_ns": _time_ns(a.expires),
        "label": a.label,
        "public_key": None if a.public_key is None else _text_of(a.public_key),
        "key_id": a.id,
        "comp_id": a.comp_id,
    }
    return send("key_create", args)


def _role_password(send: Sender, a: _Arguments) -> dict[str, Any]:
    former = os.environ.get(operator.PASSWORD)
    if not former:
        raise UsageError(
            f"set {operator.PASSWORD} to the password that holds now; the new one is read from --password-file"
        )
    return send("own_password", {"password": former, "new": _first_line(a.password_file)})


def _plain(op: str, **fields: str) -> Callable[[Sender, _Arguments], dict[str, Any]]:
    return lambda send, a: send(op, {name: getattr(a, field) for name, field in fields.items()})


_ACTIONS: Final[dict[tuple[str, str], Callable[[Sender, _Arguments], dict[str, Any]]]] = {
    ("user", "create"): _user_create,
    ("user", "sub"): _user_sub,
    ("user", "close"): _plain("user_close", user="name"),
    ("user", "password"): _plain("user_password", user="name"),
    ("user", "factors"): _plain("user_factors", user="name"),
    ("user", "sign-out"): _plain("session_revoke", user="name", session="session"),
    ("user", "restrict"): _user_restrict,
    ("user", "lift"): _plain("lift", state="state"),
    ("user", "list"): _plain("user_list"),
    ("user", "show"): _plain("user_show", user="name"),
    ("user", "events"): _plain("access_events", subject="subject", limit="limit"),
    ("key", "create"): _key_create,
    ("key", "list"): _plain("key_list", user="user"),
    ("key", "show"): _plain("key_show", key_id="key_id"),
    ("key", "revoke"): _plain("key_revoke", key_id="key_id"),
    ("firm", "create"): _plain("firm_create", name="name"),
    ("firm", "assign"): _plain("firm_assign", user="user", firm="firm"),
    ("firm", "list"): _plain("firm_list"),
    ("role", "create"): _plain("operator_create", name="name", roles="role"),
    ("role", "set"): _plain("operator_roles", name="name", roles="role"),
    ("role", "list"): _plain("role_list"),
    ("role", "password"): _role_password,
    ("role", "totp"): _plain("own_totp", code="code"),
    ("role", "proposals"): _plain("proposals", all="all"),
    ("role", "approve"): _plain("approve", proposal="proposal"),
    ("role", "deny"): _plain("deny", proposal="proposal"),
}


def _time_ns(text: str | None) -> int:
    if text is None:
        return 0
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time; write it like 2026-12-01 or 2026-12-01T09:30:00") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * _NS


def _first_line(path: str) -> str:
    text = sys.stdin.read() if path == "-" else _text_of(path)
    return text.split("\n", 1)[0]


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None


# --- what a person sees -----------------------------------------------------------------------------------------------


def _show(result: dict[str, Any]) -> None:
    for name, value in result.items():
        if name in _COLUMNS and isinstance(value, list):
            columns = _COLUMNS[name]
            print(f"{name}:")
            table(
                [column.removesuffix("_ns") for column in columns],
                [[_cell(row, column) for column in columns] for row in value],
            )
        elif isinstance(value, dict):
            print(f"{name}:")
            for key, inner in value.items():
                print(f"  {key}: {inner['words'] if isinstance(inner, dict) and 'words' in inner else inner}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{name}:")
            for row in value:
                print("  " + ", ".join(f"{key} {_cell(row, key)}" for key in row))
        elif value not in (None, "", []):
            print(f"{name.removesuffix('_ns')}: {_cell(result, name)}")
    if any(isinstance(result.get(name), str | list) and result[name] for name in _SECRETS):
        print("It is shown this once.")


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if name.endswith("_ns"):
        return f"{datetime.fromtimestamp(value // _NS, UTC):%Y-%m-%d %H:%M:%S}" if value else "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return (
        {True: "yes", False: "no", None: "-"}.get(value, str(value)) if isinstance(value, bool | None) else str(value)
    )
