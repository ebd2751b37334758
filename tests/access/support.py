"""A directory that a test fills, with cheap passwords and a seal of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.access import changes, keys, login
from gateway.access.authentication import Authenticator, token_hash
from gateway.access.changes import Change
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.access.keys import address
from gateway.access.login import Lifetime, Origin, Second
from gateway.access.passwords import Parameters, Passwords
from gateway.access.records import CLIENT
from gateway.access.rights import Principal
from gateway.access.sealing import Seal

SECOND_NS = 1_000_000_000
NOW_NS = 1_760_000_000 * SECOND_NS
CHEAP = Parameters(time_cost=1, memory_kib=8, lanes=1)
HOME = address("127.0.0.1")
PASSWORD = "correct horse battery"


class World:
    """Users and their keys; ``now_ns`` is the clock."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.seal = Seal(bytes(32))
        self.passwords = Passwords(CHEAP)
        self.authenticator = Authenticator(self.directory, self.seal)
        self.now_ns = NOW_NS
        self._tokens = 0

    def apply(self, change: Change) -> Change:
        """Take a change, as the store does; raises what it was denied for."""
        self.directory.put(change.rows)
        self.directory.version += 1
        if change.denied is not None:
            raise change.denied
        return change

    def user(self, name: str, *accounts: int) -> int:
        """A client with accounts, the first one its main one."""
        hashed = self.passwords.hash(PASSWORD)
        self.apply(changes.create_user(self.directory, name, hashed, self.now_ns, temporary=False))
        for account in accounts:
            self.apply(changes.attach_account(self.directory, name, account, ""))
        user = self.directory.user(name)
        assert user is not None
        return user.user_id

    def operator(self, name: str, *roles: str) -> Principal:
        """An operator who has chosen a password of its own and signed in."""
        hashed = self.passwords.hash(PASSWORD)
        self.apply(changes.create_operator(self.directory, name, roles, hashed, self.now_ns, temporary=True))
        self.apply(changes.set_password(self.directory, name, hashed, self.now_ns, temporary=False))
        user = self.directory.user(name)
        assert user is not None
        return Principal(operator_id=user.user_id)

    def hmac_key(self, name: str, key_id: str = "k", secret: bytes = b"s3cret", **more: Any) -> Principal:
        """An HMAC key, by default with all permissions."""
        permissions = more.pop("permissions", ("read", "trade", "transfer", "withdraw"))
        change = changes.create_key(
            *(self.directory, name, more.pop("kind", keys.HMAC)),
            key_id=key_id,
            secret=secret,
            permissions=permissions,
            seal=self.seal,
            now_ns=self.now_ns,
            **more,
        )
        self.apply(change)
        return Principal(key_id=key_id)

    def sign_in(self, name: str, password: str = PASSWORD, kind: str = CLIENT, **more: Any) -> str:
        """Token of a new session; raises Denied."""
        self._tokens += 1
        token = f"token {self._tokens}"
        check = self.passwords.check(self.directory.user(name), password)
        origin = Origin("127.0.0.1", more.pop("device", "phone"))
        lifetime = more.pop("lifetime", Lifetime())
        change = login.sign_in(
            *(self.directory, name, check, Second(**more), origin, token_hash(token)),
            *(lifetime, self.seal, self.now_ns, kind),
        )
        self.apply(change)
        return token

    def session(self, token: str) -> Principal:
        """Whose a token is."""
        verdict, principal = self.authenticator.session(token, self.now_ns)
        assert verdict.allowed, verdict
        return principal


def denied(act: Callable[[], object]) -> int:
    """Code for which an act is denied."""
    try:
        act()
    except Denied as found:
        return found.code
    return 0
