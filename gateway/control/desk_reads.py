"""Answers about users, keys, roles and what was done with them; nothing here has a secret."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gateway.access import changes, codes, keys, login, proposals
from gateway.access.cache import AccessCache
from gateway.access.codes import Denied
from gateway.access.operators import FOUR_EYES, ROLES
from gateway.access.records import OPERATOR, User, shown
from gateway.access.rights import explained, states_of
from gateway.control import access_args as a

LIST_MAX: Final = 1000
"""Rows of a list in one answer; ``count`` says how many there are."""


async def answer(cache: AccessCache, op: str, args: Any) -> dict[str, Any]:
    """Answer a query of ``access_args.ACCESS_QUERIES``; raises Denied."""
    if op == "access_events":
        return {"events": await cache.events(args.subject, limit=args.limit)}
    return _ANSWERS[op](cache, args)


def _proposals(cache: AccessCache, args: a.Proposals) -> dict[str, Any]:
    now_ns, rows = cache.clock_ns(), cache.directory.proposals.values()
    found = [row for row in reversed(rows) if args.all or proposals.is_open(row, now_ns)]
    return {"proposals": [shown(row) for row in found[:LIST_MAX]], "count": len(found)}


def _role_list(cache: AccessCache, args: Any) -> dict[str, Any]:
    roles = {
        name: {"words": role.words, "ops": sorted(role.ops), "four_eyes": sorted(role.ops & FOUR_EYES.keys())}
        for name, role in ROLES.items()
    }
    rows = cache.directory.users.values()
    operators = [_summary(row) for row in rows if row.kind == OPERATOR]
    return {"roles": roles, "operators": operators, "four_eyes": FOUR_EYES}


def _user_list(cache: AccessCache, args: Any) -> dict[str, Any]:
    directory = cache.directory
    main: dict[int, list[int]] = {}
    for account in directory.accounts.values():
        main.setdefault(account.user_id, []).append(account.account)
    found = [row for row in directory.users.values() if row.kind != OPERATOR]
    rows = [
        {
            **_summary(row),
            "firm": directory.firms[row.firm_id].name if row.firm_id else "",
            "accounts": sorted(main.get(row.user_id, [])),
            "states": len(states_of(directory, row.user_id, cache.clock_ns())),
        }
        for row in found[:LIST_MAX]
    ]
    return {"users": rows, "count": len(found)}


def _user_show(cache: AccessCache, args: a.OfUser) -> dict[str, Any]:
    directory, now_ns = cache.directory, cache.clock_ns()
    user = directory.user(args.user)
    if user is None:
        raise Denied(codes.UNKNOWN_NAME, f"no user is called {args.user!r}")
    return {
        **shown(user),
        "firm": directory.firms[user.firm_id].name if user.firm_id else "",
        "accounts": [shown(row) for row in directory.accounts_of(user.user_id)],
        "keys": [keys.introspected(directory, row, now_ns) for row in directory.keys_of(user.user_id)],
        "passkeys": [shown(row) for row in directory.passkeys_of(user.user_id)],
        "sessions": [shown(row) for row in directory.sessions_of(user.user_id)[:LIST_MAX]],
        "devices": login.devices(directory, user.user_id),
        "states": [{**shown(state), "words": explained(state)} for state in states_of(directory, user.user_id, now_ns)],
    }


def _firm_list(cache: AccessCache, args: Any) -> dict[str, Any]:
    users = cache.directory.users.values()
    rows = [
        {**shown(firm), "users": [row.name for row in users if row.firm_id == firm.firm_id]}
        for firm in cache.directory.firms.values()
    ]
    return {"firms": rows[:LIST_MAX], "count": len(rows)}


def _key_list(cache: AccessCache, args: a.KeyList) -> dict[str, Any]:
    user = changes.the_user(cache.directory, args.user)
    rows = cache.directory.keys_of(user.user_id)
    return {"keys": [keys.introspected(cache.directory, row, cache.clock_ns()) for row in rows]}


def _key_show(cache: AccessCache, args: a.OfKey) -> dict[str, Any]:
    row = cache.directory.keys.get(args.key_id)
    if row is None:
        raise Denied(codes.UNKNOWN_NAME, "no such key")
    return keys.introspected(cache.directory, row, cache.clock_ns())


def _summary(user: User) -> dict[str, Any]:
    return {
        "user_id": user.user_id,
        "name": user.name,
        "kind": user.kind,
        "roles": list(user.roles),
        "second_factor": bool(user.totp),
        "temporary_password": user.temporary,
        "created_ns": user.created_ns,
        "closed_ns": user.closed_ns,
    }


_ANSWERS: Final[dict[str, Callable[[AccessCache, Any], dict[str, Any]]]] = {
    "user_list": _user_list,
    "user_show": _user_show,
    "key_list": _key_list,
    "key_show": _key_show,
    "firm_list": _firm_list,
    "role_list": _role_list,
    "proposals": _proposals,
}
