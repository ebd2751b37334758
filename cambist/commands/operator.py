"""Sends a request to the control gateway; signs in first where the operator's name is a registered one."""

from __future__ import annotations

import getpass
import os
import sys
from typing import Any, Final

from cambist.commands import FailedError
from gateway.access.codes import SECOND_FACTOR, SIGN_IN_NEEDED
from gateway.control.client import ControlClient, RefusedError
from gateway.control.messages import Reply

PASSWORD: Final = "CAMBIST_OPERATOR_PASSWORD"  # noqa: S105 - its name
CODE: Final = "CAMBIST_OPERATOR_CODE"


def send(client: ControlClient, op: str, args: dict[str, Any], reason: str = "") -> Reply:
    """The reply to a request, after signing in where that is asked for, as it is over TCP by everybody."""
    if client.must_sign_in:
        sign_in(client)
        client.must_sign_in = False
    reply = client.request(op, args, reason)
    if reply.error is None or reply.error.code != SIGN_IN_NEEDED:
        return reply
    sign_in(client)
    return client.request(op, args, reason)


def sign_in(client: ControlClient) -> None:
    """Sign in as the client's operator, with what the environment has or a person types; FailedError if that is wrong."""
    password = os.environ.get(PASSWORD) or _typed(f"password of {client.operator}: ", PASSWORD)
    code = os.environ.get(CODE, "")
    reply = client.request("sign_in", {"name": client.operator, "password": password, "code": code})
    if reply.error is not None and reply.error.code == SECOND_FACTOR and not code:
        code = _typed("code of the authenticator: ", CODE)
        reply = client.request("sign_in", {"name": client.operator, "password": password, "code": code})
    if reply.error is not None:
        raise FailedError(str(RefusedError(reply)))


def _typed(prompt: str, variable: str) -> str:
    if not sys.stdin.isatty():
        raise FailedError(f"{prompt.removesuffix(': ')} is needed: set {variable}")
    return getpass.getpass(prompt)
