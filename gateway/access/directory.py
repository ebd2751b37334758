"""All rows, found by what one asks with. The same object is the store's, each gateway's and the tests'."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import msgspec

from gateway.access.records import (
    TABLES,
    Account,
    Firm,
    Key,
    Passkey,
    Proposal,
    Record,
    Restriction,
    Session,
    User,
    key_of,
)

R = TypeVar("R", bound=Record)


class Directory:
    """Rows by table and key, with indexes. ``version`` is the last event that is in it."""

    def __init__(self) -> None:
        self.version = 0
        self.users: dict[int, User] = {}
        self.firms: dict[int, Firm] = {}
        self.accounts: dict[int, Account] = {}
        self.keys: dict[str, Key] = {}
        self.sessions: dict[int, Session] = {}
        self.passkeys: dict[bytes, Passkey] = {}
        self.restrictions: dict[int, Restriction] = {}
        self.proposals: dict[int, Proposal] = {}
        self._rows: dict[type[Record], dict[Any, Any]] = {kind: getattr(self, table) for table, kind in TABLES.items()}
        self._names: dict[str, int] = {}
        self._firm_names: dict[str, int] = {}
        self._tokens: dict[bytes, int] = {}
        self._states: dict[tuple[str, int], dict[int, Restriction]] = {}

    def put(self, rows: Iterable[Record]) -> None:
        """Take rows, new ones or newer ones of the same key."""
        for row in rows:
            self._rows[type(row)][key_of(row)] = row
            if isinstance(row, User):
                self._names[row.name] = row.user_id
            elif isinstance(row, Firm):
                self._firm_names[row.name] = row.firm_id
            elif isinstance(row, Session):
                self._tokens[row.token_hash] = row.session_id
            elif isinstance(row, Restriction):
                of_subject = self._states.setdefault((row.subject, row.number), {})
                if row.lifted_ns:
                    of_subject.pop(row.restriction_id, None)
                else:
                    of_subject[row.restriction_id] = row

    def get(self, like: R) -> R | None:
        """The row that has the key of ``like``."""
        found: R | None = self._rows[type(like)].get(key_of(like))
        return found

    def touch(self, session_id: int, seen_ns: int) -> None:
        """Note the last use of a session; an earlier one changes nothing."""
        session = self.sessions.get(session_id)
        if session is not None and seen_ns > session.seen_ns:
            self.sessions[session_id] = msgspec.structs.replace(session, seen_ns=seen_ns)

    def next_id(self, rows: dict[int, Any]) -> int:
        """The number of a new row; rows stay, so that the last one is the highest."""
        return max(rows, default=0) + 1

    def user(self, name: str) -> User | None:
        """User of a name."""
        number = self._names.get(name)
        return None if number is None else self.users[number]

    def firm(self, name: str) -> Firm | None:
        """Firm of a name."""
        number = self._firm_names.get(name)
        return None if number is None else self.firms[number]

    def session(self, token_hash: bytes) -> Session | None:
        """Session of a token's hash."""
        number = self._tokens.get(token_hash)
        return None if number is None else self.sessions[number]

    def restricted(self, subject: str, number: int) -> Collection[Restriction]:
        """Account states of a subject that were not lifted; expired ones too."""
        states = self._states.get((subject, number))
        return () if states is None else states.values()

    def accounts_of(self, user_id: int) -> list[Account]:
        """Accounts of a user, the main one first."""
        rows = [row for row in self.accounts.values() if row.user_id == user_id]
        return sorted(rows, key=lambda row: (row.account != row.main, row.account))

    def keys_of(self, user_id: int) -> list[Key]:
        """Keys of a user, revoked ones too."""
        return [row for row in self.keys.values() if row.user_id == user_id]

    def sessions_of(self, user_id: int) -> list[Session]:
        """Sessions of a user, past ones too, the newest first."""
        rows = [row for row in self.sessions.values() if row.user_id == user_id]
        return sorted(rows, key=lambda row: -row.session_id)

    def passkeys_of(self, user_id: int) -> list[Passkey]:
        """Passkeys of a user that are good."""
        return [row for row in self.passkeys.values() if row.user_id == user_id and not row.revoked_ns]
