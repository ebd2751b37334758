"""What an act changes: rows that are new or replaced, and how the history calls it. Pure: the directory in, a ``Change`` out.

The store decides and writes under one lock, so that what a function here sees is what it changes. ``Denied`` changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from gateway.access import codes, keys, recovery, totp
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.access.operators import ROLES
from gateway.access.records import (
    CLIENT,
    OPERATOR,
    Account,
    Firm,
    Key,
    Passkey,
    Record,
    Restriction,
    Session,
    User,
)
from gateway.access.rights import PERMISSIONS, SCOPES
from gateway.access.sealing import Seal

KEYS_MAX: Final = 200
"""Of a user, those that are good."""
ACCOUNTS_MAX: Final = 200
TEXT_MAX: Final = 200
OPERATOR_MAX: Final = 15
IDENTITY: Final = "identity"
"""Operator of commands that follow from changes here; nobody else can use the name."""
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,23}")
NAME_RULE: Final = "a name has 1 to 24 small letters, digits, dots, dashes or underscores and begins with a letter"


class Change(msgspec.Struct, frozen=True):
    """Rows to write, and what the history says of them. ``denied``: written, and the act was refused all the same."""

    rows: tuple[Record, ...]
    action: str
    subject: str
    denied: Denied | None = None


# --- users, firms, accounts -------------------------------------------------------------------------------------------


def create_user(
    directory: Directory, name: str, password_hash: str, now_ns: int, *, temporary: bool, firm: str = ""
) -> Change:
    """A client."""
    _check_name(name)
    if directory.user(name) is not None:
        raise Denied(codes.NAME_TAKEN, name)
    firm_id = the_firm(directory, firm).firm_id if firm else 0
    number = directory.next_id(directory.users)
    user = User(number, name, CLIENT, firm_id, password=password_hash, temporary=temporary, created_ns=now_ns)
    return Change((user,), "user created", f"user {name}")


def create_operator(
    directory: Directory, name: str, roles: Iterable[str], password_hash: str, now_ns: int, *, temporary: bool
) -> Change:
    """An operator. Two names must fit into a command's ``operator``: who proposed and who approved."""
    _check_name(name)
    if len(name) > OPERATOR_MAX:
        raise Denied(codes.BAD_VALUE, f"an operator's name has at most {OPERATOR_MAX} characters")
    if name == IDENTITY or directory.user(name) is not None:
        raise Denied(codes.NAME_TAKEN, name)
    number = directory.next_id(directory.users)
    user = User(
        number, name, OPERATOR, roles=_roles(roles), password=password_hash, temporary=temporary, created_ns=now_ns
    )
    return Change((user,), "operator created", f"operator {name}")


def set_roles(directory: Directory, name: str, roles: Iterable[str]) -> Change:
    """Other roles of an operator; none ends what it may do."""
    user = the_user(directory, name, OPERATOR)
    return Change((msgspec.structs.replace(user, roles=_roles(roles)),), "roles set", f"operator {name}")


def close_user(directory: Directory, name: str, now_ns: int) -> Change:
    """Nobody signs in as this user or operator any more, keys and sessions end."""
    user = the_user(directory, name)
    rows: list[Record] = [msgspec.structs.replace(user, closed_ns=now_ns, roles=())]
    rows += _ended(directory.keys_of(user.user_id), now_ns) + _ended(directory.sessions_of(user.user_id), now_ns)
    return Change(tuple(rows), "user closed", f"user {name}")


def create_firm(directory: Directory, name: str, now_ns: int, most: int) -> Change:
    """A firm; the engine's table has room for ``most``."""
    _check_name(name)
    if directory.next_id(directory.firms) > most:
        raise Denied(codes.TOO_MANY, f"the engine has room for {most} firms; raise tables.firms")
    if directory.firm(name) is not None:
        raise Denied(codes.NAME_TAKEN, name)
    return Change((Firm(directory.next_id(directory.firms), name, now_ns),), "firm created", f"firm {name}")


def assign_firm(directory: Directory, name: str, firm: str) -> Change:
    """Put a user into a firm; "" takes it out."""
    user = the_user(directory, name, CLIENT)
    firm_id = the_firm(directory, firm).firm_id if firm else 0
    return Change((msgspec.structs.replace(user, firm_id=firm_id),), "firm set", f"user {name}")


def attach_account(directory: Directory, name: str, account: int, label: str) -> Change:
    """Make an account the user's: the first one its main account, further ones sub-accounts."""
    user = the_user(directory, name, CLIENT)
    if account in directory.accounts:
        raise Denied(
            codes.NAME_TAKEN, f"account {account} is {directory.users[directory.accounts[account].user_id].name}'s"
        )
    owned = directory.accounts_of(user.user_id)
    if len(owned) >= ACCOUNTS_MAX:
        raise Denied(codes.TOO_MANY, f"a user has at most {ACCOUNTS_MAX} accounts")
    main = owned[0].main if owned else account
    row = Account(account, user.user_id, main, _text(label, "label"))
    return Change((row,), "account attached", f"user {name}")


# --- factors ------------------------------------------------------------------------------------------------------------


def set_password(directory: Directory, name: str, password_hash: str, now_ns: int, *, temporary: bool) -> Change:
    """Another password; every session of the user ends."""
    user = the_user(directory, name)
    rows: list[Record] = [msgspec.structs.replace(user, password=password_hash, temporary=temporary)]
    rows += _ended(directory.sessions_of(user.user_id), now_ns)
    return Change(tuple(rows), "password set", f"user {name}")


def set_totp(directory: Directory, name: str, secret: bytes, code: str, seal: Seal, now_ns: int) -> Change:
    """Enrol an authenticator, which shows with a code that it has the secret; the code is used up by that."""
    user = the_user(directory, name)
    if user.totp:
        raise Denied(codes.NAME_TAKEN, "there is an authenticator already; take it away first")
    step = totp.step_of(secret, code, now_ns, user.totp_step)
    if step is None:
        raise Denied(codes.CODE_USED)
    sealed = seal.seal(secret, totp_owner(user.user_id))
    return Change((msgspec.structs.replace(user, totp=sealed, totp_step=step),), "authenticator added", f"user {name}")


def set_recovery(directory: Directory, name: str, new_codes: Iterable[str]) -> Change:
    """New recovery codes; the former ones are void."""
    user = the_user(directory, name)
    hashes = tuple(recovery.hash_of(user.user_id, code) for code in new_codes)
    return Change((msgspec.structs.replace(user, recovery=hashes),), "recovery codes made", f"user {name}")


def reset_factors(directory: Directory, name: str, now_ns: int) -> Change:
    """Take away authenticator, recovery codes and passkeys of who lost them; sessions end."""
    user = the_user(directory, name)
    # The last step stays: a code that was used never works again, whatever comes after.
    rows: list[Record] = [msgspec.structs.replace(user, totp=b"", recovery=(), wrong_codes=0)]
    rows += _ended(directory.passkeys_of(user.user_id), now_ns) + _ended(directory.sessions_of(user.user_id), now_ns)
    return Change(tuple(rows), "factors reset", f"user {name}")


def set_anti_phishing(directory: Directory, name: str, code: str) -> Change:
    """The word that the user will find in every message of ours; "" for none."""
    user = the_user(directory, name)
    return Change(
        (msgspec.structs.replace(user, anti_phishing=_text(code, "code")),), "anti-phishing code set", f"user {name}"
    )


def add_passkey(directory: Directory, name: str, passkey: Passkey) -> Change:
    """A passkey that ``passkeys.registered`` found good."""
    user = the_user(directory, name)
    if passkey.credential_id in directory.passkeys:
        raise Denied(codes.NAME_TAKEN, "this passkey is registered already")
    assert passkey.user_id == user.user_id
    return Change((passkey,), "passkey added", f"user {name}")


# --- keys ---------------------------------------------------------------------------------------------------------------


def create_key(
    directory: Directory,
    name: str,
    kind: str,
    *,
    key_id: str,
    secret: bytes = b"",
    public_pem: str = "",
    permissions: Iterable[str],
    networks: Iterable[str] = (),
    accounts: Iterable[int] = (),
    label: str = "",
    comp_id: str = "",
    expires_ns: int = 0,
    seal: Seal,
    now_ns: int,
) -> Change:
    """A key of a user. ``secret`` for kinds that share one, ``public_pem`` for those with a pair."""
    user = the_user(directory, name, CLIENT)
    if kind not in keys.KINDS:
        raise Denied(codes.BAD_VALUE, f"kind {kind!r}; one of {', '.join(keys.KINDS)}")
    if key_id in directory.keys:
        raise Denied(codes.NAME_TAKEN, f"key {key_id}")
    if sum(not key.revoked_ns for key in directory.keys_of(user.user_id)) >= KEYS_MAX:
        raise Denied(codes.TOO_MANY, f"a user has at most {KEYS_MAX} keys")
    given, only = tuple(dict.fromkeys(permissions)), tuple(dict.fromkeys(accounts))
    unknown = [permission for permission in given if permission not in PERMISSIONS]
    if unknown or not given:
        raise Denied(codes.BAD_VALUE, f"permissions {', '.join(unknown) or 'are missing'}; of {', '.join(PERMISSIONS)}")
    for account in only:
        owned = directory.accounts.get(account)
        if owned is None or owned.user_id != user.user_id:
            raise Denied(codes.NOT_YOUR_ACCOUNT, f"account {account} is not {name}'s")
    if expires_ns and expires_ns <= now_ns:
        raise Denied(codes.BAD_VALUE, "the key would have expired already")
    if comp_id:
        keys.check_comp_id(comp_id)
    if (kind == keys.FIX) != bool(comp_id):
        raise Denied(codes.BAD_VALUE, "a CompID is for FIX credentials, and they need one")
    if kind in keys.PAIRS:
        public, sealed = keys.public_bytes(kind, public_pem), b""
    else:
        public, sealed = b"", seal.seal(secret, f"key {key_id}")
    row = Key(
        key_id=key_id,
        user_id=user.user_id,
        kind=kind,
        label=_text(label, "label"),
        secret=sealed,
        public_key=public,
        permissions=given,
        networks=keys.networks(tuple(networks)),
        accounts=only,
        comp_id=comp_id,
        created_ns=now_ns,
        expires_ns=expires_ns,
    )
    return Change((row,), "key created", f"user {name}")


def revoke_key(directory: Directory, key_id: str, now_ns: int) -> Change:
    """End a key."""
    key = directory.keys.get(key_id)
    if key is None:
        raise Denied(codes.UNKNOWN_NAME, "no such key")
    rows = _ended([key], now_ns)
    return Change(tuple(rows), "key revoked", f"user {directory.users[key.user_id].name}")


def revoke_sessions(directory: Directory, name: str, now_ns: int, session_id: int = 0) -> Change:
    """End one session of a user, or all."""
    user = the_user(directory, name)
    found = [row for row in directory.sessions_of(user.user_id) if session_id in {0, row.session_id}]
    if session_id and not found:
        raise Denied(codes.UNKNOWN_NAME, f"{name} has no session {session_id}")
    return Change(tuple(_ended(found, now_ns)), "sessions ended", f"user {name}")


# --- account states -----------------------------------------------------------------------------------------------------


def restrict(
    directory: Directory, subject: str, number: int, scopes: Iterable[str], text: str, now_ns: int, expires_ns: int = 0
) -> Change:
    """Set an account state."""
    given = tuple(dict.fromkeys(scopes))
    unknown = [scope for scope in given if scope not in SCOPES]
    if unknown or not given:
        raise Denied(codes.BAD_VALUE, f"scopes {', '.join(unknown) or 'are missing'}; of {', '.join(SCOPES)}")
    known: dict[str, dict[int, Any]] = {"user": directory.users, "account": directory.accounts, "firm": directory.firms}
    if number not in known[subject]:
        raise Denied(codes.UNKNOWN_NAME, f"{subject} {number}")
    if not text.strip():
        raise Denied(codes.BAD_VALUE, "an account state says why, in words for the user")
    if expires_ns and expires_ns <= now_ns:
        raise Denied(codes.BAD_VALUE, "the state would have expired already")
    state = Restriction(
        directory.next_id(directory.restrictions), subject, number, given, _text(text, "reason"), now_ns, expires_ns
    )
    return Change((state,), "state set", f"{subject} {number}")


def lift(directory: Directory, restriction_id: int, now_ns: int) -> Change:
    """End an account state."""
    state = directory.restrictions.get(restriction_id)
    if state is None or state.lifted_ns:
        raise Denied(codes.UNKNOWN_NAME, f"no state {restriction_id} is in force")
    lifted = msgspec.structs.replace(state, lifted_ns=now_ns)
    return Change((lifted,), "state lifted", f"{state.subject} {state.number}")


# --- looking up ---------------------------------------------------------------------------------------------------------


def the_user(directory: Directory, name: str, kind: str = "") -> User:
    """User of a name, who was not closed; raises Denied."""
    user = directory.user(name)
    if user is None or user.closed_ns or kind not in {"", user.kind}:
        raise Denied(codes.UNKNOWN_NAME, f"no {kind or 'user'} is called {name!r}")
    return user


def the_firm(directory: Directory, name: str) -> Firm:
    """Firm of a name; raises Denied."""
    firm = directory.firm(name)
    if firm is None:
        raise Denied(codes.UNKNOWN_NAME, f"no firm is called {name!r}")
    return firm


def totp_owner(user_id: int) -> str:
    """What a user's authenticator secret is sealed for."""
    return f"totp {user_id}"


def ended(row: Any, now_ns: int) -> Any:
    """A session, key or passkey that ends now."""
    return msgspec.structs.replace(row, revoked_ns=now_ns)


def _ended(rows: Iterable[Key | Session | Passkey], now_ns: int) -> list[Record]:
    return [ended(row, now_ns) for row in rows if not row.revoked_ns]


def _roles(roles: Iterable[str]) -> tuple[str, ...]:
    given = tuple(dict.fromkeys(roles))
    unknown = [role for role in given if role not in ROLES]
    if unknown:
        raise Denied(codes.BAD_VALUE, f"roles {', '.join(unknown)}; of {', '.join(ROLES)}")
    return given


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise Denied(codes.BAD_VALUE, NAME_RULE)


def _text(text: str, what: str) -> str:
    if len(text) > TEXT_MAX or (text and not text.isprintable()):
        raise Denied(codes.BAD_VALUE, f"{what}: at most {TEXT_MAX} printable characters")
    return text
