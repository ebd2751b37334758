"""The rows of who is known. Each is a table of the schema ``access``, field by field; the first field is the key.

Times are ns since 1970 UTC; 0 stands for never. A row is never deleted: what ended has the time at which it did. Fields of
``SECRETS`` are never shown, logged or kept in the history.
"""

from __future__ import annotations

from typing import Final

import msgspec

CLIENT: Final = "client"
OPERATOR: Final = "operator"

SECRETS: Final = frozenset({"password", "totp", "recovery", "secret", "token_hash"})


class Record(msgspec.Struct, frozen=True):
    """A row. Printed, it is as ``shown``: a log that gets one by accident has no secret in it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self)})"


class User(Record, frozen=True):
    """A person, or an operator; ``kind`` is CLIENT or OPERATOR."""

    user_id: int
    name: str
    kind: str = CLIENT
    firm_id: int = 0
    roles: tuple[str, ...] = ()
    """Of an operator; see ``operators.ROLES``."""
    password: str = ""
    """argon2id, with its parameters and salt; empty: none works."""
    temporary: bool = False
    """Somebody else chose the password: it is good for choosing another one only."""
    totp: bytes = b""
    """Sealed secret of the authenticator; empty: none."""
    totp_step: int = 0
    """Last step of 30 s whose code was used; it and all before never work again."""
    recovery: tuple[str, ...] = ()
    """Hashes of the recovery codes that are left."""
    wrong_codes: int = 0
    """Second factors that were wrong in a row."""
    anti_phishing: str = ""
    """The user's own word in every message that we send."""
    created_ns: int = 0
    closed_ns: int = 0


class Firm(Record, frozen=True):
    """Users that belong together."""

    firm_id: int
    name: str
    created_ns: int = 0


class Account(Record, frozen=True):
    """An account of the engine and whose it is. ``main`` is the number of the user's main account, its own for that one."""

    account: int
    user_id: int
    main: int
    label: str = ""


class Key(Record, frozen=True):
    """What a program signs in or signs requests with; ``kind`` is one of ``keys.KINDS``."""

    key_id: str
    user_id: int
    kind: str
    label: str = ""
    secret: bytes = b""
    """Sealed; of kinds with a shared secret."""
    public_key: bytes = b""
    """Raw Ed25519 or DER of RSA; of kinds with a key pair, whose private half is never here."""
    permissions: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    """Where it may be used from, CIDR; empty: everywhere."""
    accounts: tuple[int, ...] = ()
    """What it may be used for; empty: all accounts of the user, those of later too."""
    comp_id: str = ""
    """FIX: SenderCompID that goes with it."""
    created_ns: int = 0
    expires_ns: int = 0
    revoked_ns: int = 0


class Session(Record, frozen=True):
    """Somebody who signed in. The token is known to its holder alone."""

    session_id: int
    user_id: int
    token_hash: bytes
    address: str = ""
    device: str = ""
    factor: str = ""
    """Besides the password: totp, recovery, passkey; empty: none was needed."""
    created_ns: int = 0
    seen_ns: int = 0
    """Last use, a minute coarse."""
    idle_ns: int = 0
    """So long without use ends it."""
    expires_ns: int = 0
    revoked_ns: int = 0


class Passkey(Record, frozen=True):
    """A WebAuthn credential."""

    credential_id: bytes
    user_id: int
    public_key: bytes
    """COSE."""
    sign_count: int = 0
    """The authenticator's; one that does not grow is a copy."""
    label: str = ""
    created_ns: int = 0
    revoked_ns: int = 0


class Restriction(Record, frozen=True):
    """An account state: what somebody may not do, why, and until when."""

    restriction_id: int
    subject: str
    """user, account or firm …"""
    number: int
    """… and which."""
    scopes: tuple[str, ...]
    """Of ``rights.SCOPES``."""
    text: str
    """Why; shown to the user."""
    created_ns: int = 0
    expires_ns: int = 0
    lifted_ns: int = 0


class Proposal(Record, frozen=True):
    """An act that waits for a second operator; ``state`` is one of ``proposals.STATES``."""

    proposal_id: int
    op: str
    args: str
    """JSON, as it will be executed."""
    operator: str
    reason: str
    state: str
    decided_by: str = ""
    result: str = ""
    created_ns: int = 0
    expires_ns: int = 0
    decided_ns: int = 0


TABLES: Final[dict[str, type[Record]]] = {
    "users": User,
    "firms": Firm,
    "accounts": Account,
    "keys": Key,
    "sessions": Session,
    "passkeys": Passkey,
    "restrictions": Restriction,
    "proposals": Proposal,
}
TABLE_OF: Final[dict[type[Record], str]] = {kind: table for table, kind in TABLES.items()}


def key_field(kind: type[Record]) -> str:
    """Name of the field that is a record's key."""
    return kind.__struct_fields__[0]


def key_of(record: Record) -> int | str | bytes:
    """Key of a record."""
    key = getattr(record, record.__struct_fields__[0])
    assert isinstance(key, int | str | bytes)
    return key


def shown(record: Record) -> dict[str, object]:
    """The record without its secrets: of those, only whether there is one."""
    fields: dict[str, object] = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name in SECRETS:
            fields[name] = len(value) if name == "recovery" else bool(value)
        else:
            fields[name] = value.hex() if isinstance(value, bytes) else value
    return fields
