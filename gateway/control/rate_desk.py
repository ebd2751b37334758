"""Rate limits on the control socket: sign-ins that fail, what the rules are, who is banned, and ending a ban.

The home's owner, who does not sign in, is not counted: nobody can lock the owner out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from gateway.access import codes
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.control.access_args import Unban
from gateway.control.catalog import Catalog
from gateway.control.messages import Refused
from gateway.rates import rules, subjects
from gateway.rates.limiter import ALLOWED, Limiter
from gateway.rates.subjects import Subject

PEER: Final = subjects.of_peer("local")
"""Everybody on the socket is one peer: the system lets nobody else but the owner's processes in, and they can be any number."""
LIST_MAX: Final = 1000
_FAILED: Final = frozenset({codes.BAD_CREDENTIALS, codes.CODE_USED})


@contextlib.contextmanager
def sign_in_attempt(limiter: Limiter, name: str, address: str) -> Iterator[None]:
    """Around looking at a password: refused where too many were wrong, counted where this one is; raises Refused.

    ``address`` is that of a peer on TCP, empty on the control socket.
    """
    who, peer = subjects.of_name(name), subjects.of_peer(address) if address else PEER
    verdict = limiter.begin_sign_in(who, peer)
    if verdict.code != ALLOWED:
        rule = limiter.rules[verdict.rule]
        whose = (
            "under this name"
            if rule.counter.kind == rules.NAME
            else "from this address"
            if address
            else "at this socket"
        )
        detail = f"{rule.limit} sign-ins {whose} failed; again in {verdict.retry_s} s"
        raise Refused(codes.RATE_LIMITED, detail, retry_ms=verdict.retry_ms)
    try:
        yield
    except Denied as denied:
        if denied.code not in _FAILED:
            limiter.passed_sign_in(who, peer)
        raise
    limiter.passed_sign_in(who, peer)


def admits(limiter: Limiter, address: str) -> bool:
    """Whether one more connection of an address on TCP may be; counts it."""
    return limiter.count_connection(subjects.of_address(address)).code == ALLOWED


def shown(limiter: Limiter, directory: Directory | None) -> dict[str, Any]:
    """Rules, who is banned, how full the table is. Keys are known by hash only, so that the directory must name them."""
    bans = limiter.banned()
    keys: dict[int, str] = {}
    if directory is not None and any(ban.kind == rules.KEY for ban in bans):
        keys = {subjects.of_key(key_id).identity: key_id for key_id in directory.keys}
    rows = [
        {
            "of": rules.KINDS[ban.kind],
            "who": subjects.address_text(ban.subject)
            or keys.get(ban.subject.identity)
            or (str(ban.subject.label) if ban.kind == rules.ACCOUNT else "unknown"),
            "until_ns": ban.until_ms * 1_000_000,
            "level": ban.level,
        }
        for ban in bans[:LIST_MAX]
    ]
    return limiter.status() | {"banned": rows, "count": len(bans)}


def banned_subject(catalog: Catalog, args: Unban) -> tuple[Subject, str]:
    """Who is meant, and in words; raises Denied."""
    given = [name for name in ("ip", "key", "account") if getattr(args, name) is not None]
    if len(given) != 1:
        raise Denied(codes.BAD_VALUE, "a ban is of an address, a key or an account: one of them")
    if args.ip is not None:
        try:
            found = subjects.of_address(args.ip.removesuffix("/64"))
        except ValueError:
            raise Denied(codes.BAD_VALUE, f"{args.ip!r} is no address") from None
        return found, f"ip {subjects.address_text(found)}"
    if args.key is not None:
        return subjects.of_key(args.key), f"key {args.key}"
    assert args.account is not None
    account = catalog.account(args.account)
    return subjects.of_account(account), f"account {account}"
