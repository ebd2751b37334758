"""The demo's people: alice, bob and carol as users with passwords and keys, and an operator.

Their secrets stand in ``demo.json`` and nowhere else, so that a later start takes them from there; without that file new keys are made.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cambist.demo import plan
from gateway.access.codes import CHANGE_UNKNOWN, STARTING, UNAVAILABLE
from gateway.control.client import ControlClient, ControlError, RefusedError

PATIENCE_S: Final = 40.0
"""How long a database that is not there yet is waited for; then the demo goes on without people."""
OPERATOR: Final = "operator"
_ROLES: Final = ("support", "accounts", "treasury", "markets", "risk", "dealing", "security")
_PERMISSIONS: Final = ("read", "trade", "transfer", "withdraw")
_REASON: Final = "user of the demo"
_PAUSE_S: Final = 0.05
_ANSWER_S: Final = 10.0
_PASSWORD_BYTES: Final = 12


class People(NamedTuple):
    """What ``demo.json`` says of each user by name, and of the operator."""

    users: dict[str, dict[str, Any]]
    operator: dict[str, str] | None


NOBODY: Final = People({}, None)


def prepare(
    home: Path,
    socket_path: Path | None,
    accounts: Mapping[str, int],
    former: Path,
    stopping: Callable[[], bool],
    patience_s: float = PATIENCE_S,
) -> People:
    """Register who is missing; NOBODY while there is no database, after waiting for it."""
    end_s = time.monotonic() + patience_s
    while not stopping():
        try:
            with ControlClient(home, operator=plan.OPERATOR, socket_path=socket_path, timeout_s=_ANSWER_S) as client:
                return set_up(client.call, accounts, _former(former))
        except RefusedError as refused:
            if refused.code not in {UNAVAILABLE, STARTING, CHANGE_UNKNOWN}:
                raise
        except ControlError:
            pass
        if time.monotonic() > end_s:
            break
        time.sleep(_PAUSE_S)
    return NOBODY


def set_up(call: Callable[..., dict[str, Any]], accounts: Mapping[str, int], former: People) -> People:
    """Register who is missing, and give everybody's secrets; ``call`` sends one request and gives its result."""
    known = {row["name"]: row for row in call("user_list")["users"]}
    users = {}
    for name in (funding.name for funding in plan.USERS):
        if name in known and name in former.users:
            users[name] = former.users[name]
            continue
        password = None
        if name not in known:
            password = secrets.token_urlsafe(_PASSWORD_BYTES)
            call("user_create", {"name": name, "password": password, "temporary": False}, _REASON)
        if name not in known or not known[name]["accounts"]:
            call("account_attach", {"user": name, "account": accounts[name]}, _REASON)
        users[name] = {"password": password, "totp_secret": None} | _keys(call, name)
    operators = {row["name"] for row in call("role_list")["operators"]}
    operator = former.operator
    if OPERATOR not in operators:
        operator = {"name": OPERATOR, "password": secrets.token_urlsafe(_PASSWORD_BYTES)}
        call("operator_create", {**operator, "roles": _ROLES, "temporary": False}, "operator of the demo")
    return People(users, operator)


def _keys(call: Callable[..., dict[str, Any]], name: str) -> dict[str, str]:
    def key(kind: str, **more: str) -> dict[str, Any]:
        args = {"user": name, "kind": kind, "permissions": _PERMISSIONS, "label": "demo", **more}
        return call("key_create", args, _REASON)

    taken = {row["key_id"] for row in call("key_list", {"user": name})["keys"]}
    pem = serialization.Encoding.PEM
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsealed = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    hmac, edwards = key("hmac"), key("ed25519", public_key=public.decode())
    named = lambda kind: {} if f"{name}.{kind}" in taken else {"key_id": f"{name}.{kind}"}  # noqa: E731
    fix, binary = key("fix", comp_id=name.upper(), **named("fix")), key("binary", **named("binary"))
    return {
        "api_key": hmac["key_id"],
        "api_secret": hmac["secret"],
        "ed25519_api_key": edwards["key_id"],
        "ed25519_private_pem": unsealed.decode(),
        "fix_comp_id": fix["comp_id"],
        "fix_username": fix["key_id"],
        "fix_password": fix["secret"],
        "binary_user": binary["key_id"],
        "binary_secret": binary["secret"],
    }


def _former(file: Path) -> People:
    """What an earlier start left in ``demo.json``."""
    try:
        document = json.loads(file.read_bytes())
        users = {row["name"]: row for row in document["users"] if row.get("api_key")}
    except (OSError, ValueError, KeyError, TypeError):
        return NOBODY
    kept = {
        name: {k: v for k, v in row.items() if k not in {"name", "account", "balances"}} for name, row in users.items()
    }
    return People(kept, document.get("operator"))
