"""Signing in: password, second factor, session. A code is used up in the change that makes the session.

Who does not know the password learns nothing: not whether the name exists, has a second factor or is restricted. Wrong second
factors are counted; five in a row keep the user from signing in for a quarter of an hour.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from webauthn.helpers import base64url_to_bytes

from gateway.access import codes, passkeys, recovery, totp
from gateway.access.changes import Change, ended, totp_owner
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.access.passkeys import Site
from gateway.access.passwords import Check
from gateway.access.records import Passkey, Record, Restriction, Session, User
from gateway.access.rights import LOGIN, user_state
from gateway.access.sealing import Seal

WRONG_CODES_MAX: Final = 5
PAUSE_NS: Final = 15 * 60 * 1_000_000_000
SESSIONS_MAX: Final = 50
"""Of a user at a time; a further one ends the oldest."""


class Lifetime(msgspec.Struct, frozen=True):
    """How long a session lasts without use, and at most."""

    idle_ns: int = 30 * 60 * 1_000_000_000
    absolute_ns: int = 24 * 3600 * 1_000_000_000


class Second(msgspec.Struct, frozen=True):
    """What came beside the password: a code of the authenticator or of recovery, or a passkey's answer to a challenge."""

    code: str = ""
    assertion: dict[str, Any] | None = None
    challenge: bytes = b""
    site: Site | None = None


class Origin(msgspec.Struct, frozen=True):
    """Where somebody signs in from."""

    address: str = ""
    device: str = ""


def sign_in(
    directory: Directory,
    name: str,
    check: Check,
    second: Second,
    origin: Origin,
    hashed_token: bytes,
    lifetime: Lifetime,
    seal: Seal,
    now_ns: int,
    kind: str,
) -> Change:
    """The change that makes a session; raises Denied, or gives a change that is ``denied`` where a wrong code is counted.

    Parameters
    ----------
    check : Check
        Of the password, done before, for it takes long; void if the password has changed since.
    hashed_token : bytes
        ``authentication.token_hash`` of a new token.
    """
    user = directory.user(name)
    if user is None or not check.ok or user.password != check.against or user.closed_ns or user.kind != kind:
        raise Denied(codes.BAD_CREDENTIALS)
    state = user_state(directory, user.user_id, LOGIN, now_ns)
    if not state.allowed:
        raise Denied(state.code, state.text.partition(": ")[2])
    factor = ""
    used: Passkey | None = None
    if user.totp or directory.passkeys_of(user.user_id):
        if not second.code and second.assertion is None:
            raise Denied(codes.SECOND_FACTOR)
        found = _second(directory, user, second, seal, now_ns)
        if found is None:
            return _counted(directory, user, now_ns)
        factor, user, used = found
    if check.rehashed:
        user = msgspec.structs.replace(user, password=check.rehashed)
    session = Session(
        session_id=directory.next_id(directory.sessions),
        user_id=user.user_id,
        token_hash=hashed_token,
        address=origin.address[:64],
        device="".join(c for c in origin.device[:200] if c.isprintable()),
        factor=factor,
        created_ns=now_ns,
        seen_ns=now_ns,
        idle_ns=lifetime.idle_ns,
        expires_ns=now_ns + lifetime.absolute_ns,
    )
    rows: list[Record] = [session]
    if user != directory.users[user.user_id] or user.wrong_codes:
        rows.append(msgspec.structs.replace(user, wrong_codes=0))
    if used is not None:
        rows.append(used)
    open_sessions = [row for row in directory.sessions_of(user.user_id) if not row.revoked_ns]
    rows += [ended(row, now_ns) for row in open_sessions[SESSIONS_MAX - 1 :]]
    return Change(tuple(rows), "signed in", f"user {name}")


def devices(directory: Directory, user_id: int) -> list[dict[str, Any]]:
    """Devices that a user signed in from, the last used first."""
    found: dict[str, dict[str, Any]] = {}
    for session in directory.sessions_of(user_id):
        row = found.setdefault(
            session.device,
            {"device": session.device, "addresses": [], "first_ns": 0, "last_ns": 0, "sessions": 0, "open": 0},
        )
        if session.address not in row["addresses"]:
            row["addresses"].append(session.address)
        row["first_ns"] = session.created_ns
        row["last_ns"] = max(row["last_ns"], session.seen_ns)
        row["sessions"] += 1
        row["open"] += not session.revoked_ns
    return sorted(found.values(), key=lambda row: -row["last_ns"])


def _second(
    directory: Directory, user: User, second: Second, seal: Seal, now_ns: int
) -> tuple[str, User, Passkey | None] | None:
    """Which factor it was, the user without what was used up, and the passkey with its new count; None if it is wrong."""
    if second.assertion is not None:
        passkey = _named(directory, user, second.assertion)
        if passkey is None or second.site is None:
            return None
        try:
            return "passkey", user, passkeys.asserted(second.site, passkey, second.challenge, second.assertion)
        except Denied:
            return None
    if user.totp:
        secret = seal.open(user.totp, totp_owner(user.user_id))
        step = totp.step_of(secret, second.code, now_ns, user.totp_step)
        if step is not None:
            return "totp", msgspec.structs.replace(user, totp_step=step), None
    left = recovery.without(user.recovery, user.user_id, second.code)
    return None if left is None else ("recovery", msgspec.structs.replace(user, recovery=left), None)


def _named(directory: Directory, user: User, assertion: dict[str, Any]) -> Passkey | None:
    try:
        passkey = directory.passkeys.get(base64url_to_bytes(str(assertion.get("id"))))
    except ValueError:
        return None
    good = passkey is not None and passkey.user_id == user.user_id and not passkey.revoked_ns
    return passkey if good else None


def _counted(directory: Directory, user: User, now_ns: int) -> Change:
    wrong = user.wrong_codes + 1
    rows: list[Record] = [msgspec.structs.replace(user, wrong_codes=wrong % WRONG_CODES_MAX)]
    if wrong >= WRONG_CODES_MAX:
        number = directory.next_id(directory.restrictions)
        text = f"{WRONG_CODES_MAX} wrong second factors in a row"
        rows.append(Restriction(number, "user", user.user_id, (LOGIN,), text, now_ns, now_ns + PAUSE_NS))
    return Change(tuple(rows), "wrong second factor", f"user {user.name}", Denied(codes.CODE_USED))
