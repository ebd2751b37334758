"""May this principal do this, on this account, now? One pure function over the directory answers, with a code and a text.

A principal is a reference only (a session, a key, an operator): rights are looked up at each question, so that what was revoked
in the directory is revoked. What is not written down here is denied.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from gateway.access import codes
from gateway.access.directory import Directory
from gateway.access.operators import FOUR_EYES, OWN, ROLES
from gateway.access.records import CLIENT, OPERATOR, Key, Restriction, Session

READ: Final = "read"
TRADE: Final = "trade"
CANCEL: Final = "cancel"
DEPOSIT: Final = "deposit"
TRANSFER: Final = "transfer"
WITHDRAW: Final = "withdraw"
MANAGE: Final = "manage"

PERMISSIONS: Final = {
    READ: "read balances, orders and history",
    TRADE: "place, change and cancel orders",
    TRANSFER: "move money between accounts of the same user",
    WITHDRAW: "ask for withdrawals",
}
"""What a key may be given, in words."""


class Rule(NamedTuple):
    """What an action needs. ``permission`` None: no key may, a person who signed in may."""

    permission: str | None
    scope: str | None
    words: str


ACTIONS: Final = {
    READ: Rule(READ, None, "read"),
    TRADE: Rule(TRADE, TRADE, "place or change orders"),
    # Whoever may trade no more must still get out.
    CANCEL: Rule(TRADE, None, "cancel orders"),
    DEPOSIT: Rule(READ, DEPOSIT, "deposit"),
    TRANSFER: Rule(TRANSFER, TRANSFER, "transfer between accounts"),
    WITHDRAW: Rule(WITHDRAW, WITHDRAW, "withdraw"),
    MANAGE: Rule(None, None, "change keys, factors and password"),
}
LOGIN: Final = "login"
API: Final = "api"
SCOPES: Final = {
    LOGIN: "sign in, and stay signed in",
    API: "use keys",
    TRADE: "place or change orders",
    DEPOSIT: "deposit",
    TRANSFER: "transfer between accounts",
    WITHDRAW: "withdraw",
}
"""Scopes of an account state: what it forbids, in words."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks: a session, a key, or an operator, with the session in which it signed in (0: only what its roles say)."""

    session_id: int = 0
    key_id: str = ""
    operator_id: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """``code`` 0: yes. Otherwise a code of ``codes`` and why, in words for the one who asked."""

    code: int = 0
    text: str = ""

    @property
    def allowed(self) -> bool:
        """Whether it may be done."""
        return self.code == 0


YES: Final = Verdict()
_NS: Final = 1_000_000_000
_NO_SESSION: Final = Verdict(codes.SESSION_REVOKED, codes.TEXT[codes.SESSION_REVOKED])
_NO_KEY: Final = Verdict(codes.KEY_REVOKED, codes.TEXT[codes.KEY_REVOKED])


def may(
    directory: Directory, principal: Principal, action: str, account: int, now_ns: int, to_account: int = 0
) -> Verdict:
    """Whether ``principal`` may do ``action`` on ``account`` now.

    Parameters
    ----------
    directory : Directory
    principal : Principal
        As ``keys.authenticate``, ``sessions.find`` or a sign-in of an operator gave it.
    action : str
        Of ACTIONS; for an operator the operation of the control gateway.
    account : int
        Number of the engine's account; 0 for what concerns the user and no account. Not looked at for operators.
    now_ns : int
        UTC.
    to_account : int
        Of TRANSFER: where the money goes.
    """
    if principal.operator_id:
        return _operator_may(directory, principal, action, now_ns)
    rule = ACTIONS.get(action)
    if rule is None:
        return _no(codes.PERMISSION_MISSING, f"nothing is called {action!r} here")
    if principal.key_id:
        key = directory.keys.get(principal.key_id)
        if key is None:
            return _NO_KEY
        verdict = key_holds(directory, key, now_ns)
        if not verdict.allowed:
            return verdict
        if rule.permission is None or rule.permission not in key.permissions:
            return _no(codes.PERMISSION_MISSING, f"this key may not {rule.words}")
        user_id, only = key.user_id, key.accounts
    else:
        session = directory.sessions.get(principal.session_id)
        if session is None:
            return _NO_SESSION
        verdict = session_holds(directory, session, now_ns)
        if not verdict.allowed:
            return verdict
        if directory.users[session.user_id].temporary and action != MANAGE:
            return _no(codes.PASSWORD_TEMPORARY)
        user_id, only = session.user_id, ()
    for number in (account, to_account) if action == TRANSFER else (account,):
        if number == 0 and action in {READ, MANAGE}:
            continue
        owned = directory.accounts.get(number)
        if owned is None or owned.user_id != user_id:
            return _no(codes.NOT_YOUR_ACCOUNT, f"account {number}")
        if only and number not in only:
            return _no(codes.KEY_OTHER_ACCOUNT, f"account {number}")
        if rule.scope is not None:
            states = directory.restricted("account", number)
            state = in_force(states, rule.scope, now_ns) if states else None
            if state is not None:
                return _restricted(state)
    if rule.scope is not None:
        return user_state(directory, user_id, rule.scope, now_ns)
    return YES


def key_holds(directory: Directory, key: Key, now_ns: int) -> Verdict:
    """Whether a key is good for anything now: not revoked, not expired, its user neither closed nor kept from keys."""
    if key.revoked_ns:
        return _NO_KEY
    if key.expires_ns and now_ns >= key.expires_ns:
        return _no(codes.KEY_EXPIRED)
    return _user_holds(directory, key.user_id, API, CLIENT, now_ns)


def session_holds(directory: Directory, session: Session, now_ns: int, kind: str = CLIENT) -> Verdict:
    """Whether a session is good for anything now."""
    if session.revoked_ns:
        return _NO_SESSION
    if now_ns >= session.expires_ns or now_ns - session.seen_ns >= session.idle_ns:
        return _no(codes.SESSION_EXPIRED)
    return _user_holds(directory, session.user_id, LOGIN, kind, now_ns)


def user_state(directory: Directory, user_id: int, scope: str, now_ns: int) -> Verdict:
    """Whether an account state of the user or its firm forbids what ``scope`` stands for."""
    states = directory.restricted("user", user_id)
    state = in_force(states, scope, now_ns) if states else None
    firm_id = directory.users[user_id].firm_id
    if state is None and firm_id:
        state = in_force(directory.restricted("firm", firm_id), scope, now_ns)
    return YES if state is None else _restricted(state)


def in_force(states: Iterable[Restriction], scope: str, now_ns: int) -> Restriction | None:
    """The first state that forbids ``scope`` now."""
    for state in states:
        if scope in state.scopes and not state.lifted_ns and (state.expires_ns == 0 or now_ns < state.expires_ns):
            return state
    return None


def states_of(directory: Directory, user_id: int, now_ns: int) -> list[Restriction]:
    """All account states that concern a user now: its own, its firm's, its accounts'."""
    subjects = [("user", user_id), ("firm", directory.users[user_id].firm_id)]
    subjects += [("account", row.account) for row in directory.accounts_of(user_id)]
    found = [state for subject in subjects for state in directory.restricted(*subject)]
    return [state for state in found if in_force([state], state.scopes[0], now_ns) is not None]


def explained(state: Restriction) -> str:
    """An account state in words that a gateway shows to its user."""
    what = ", ".join(SCOPES[scope] for scope in state.scopes)
    until = "until it is lifted"
    if state.expires_ns:
        until = f"until {datetime.fromtimestamp(state.expires_ns // _NS, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"not allowed {until}: {what}. Reason: {state.text}"


def _operator_may(directory: Directory, principal: Principal, op: str, now_ns: int) -> Verdict:
    session = directory.sessions.get(principal.session_id)
    if principal.session_id == 0:
        verdict = _user_holds(directory, principal.operator_id, LOGIN, OPERATOR, now_ns)
    elif session is None or session.user_id != principal.operator_id:
        verdict = _NO_SESSION
    else:
        verdict = session_holds(directory, session, now_ns, OPERATOR)
    if not verdict.allowed:
        return verdict
    operator = directory.users[principal.operator_id]
    if op in OWN:
        return YES
    if operator.temporary:
        return _no(codes.PASSWORD_TEMPORARY)
    if not any(op in ROLES[role].ops for role in operator.roles):
        return _no(codes.ROLE_MISSING, f"{op} with {', '.join(operator.roles) or 'no role'}")
    return _no(codes.APPROVAL_NEEDED, op) if op in FOUR_EYES else YES


def _user_holds(directory: Directory, user_id: int, scope: str, kind: str, now_ns: int) -> Verdict:
    user = directory.users.get(user_id)
    if user is None or user.closed_ns or user.kind != kind:
        return _no(codes.USER_CLOSED)
    return user_state(directory, user_id, scope, now_ns)


def _restricted(state: Restriction) -> Verdict:
    return _no(codes.RESTRICTED, explained(state))


def _no(code: int, detail: str = "") -> Verdict:
    return Verdict(code, f"{codes.TEXT[code]}: {detail}" if detail else codes.TEXT[code])
