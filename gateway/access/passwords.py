"""Passwords: argon2id, the same work whether the name is known or not, new parameters at the next sign-in."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.access import codes
from gateway.access.codes import Denied
from gateway.access.records import User

LENGTH_MIN: Final = 10
LENGTH_MAX: Final = 256
_GENERATED_BYTES: Final = 15


class Parameters(msgspec.Struct, frozen=True):
    """Of argon2id; written into each hash. RFC 9106 advises these where memory is scarce."""

    time_cost: int = 3
    memory_kib: int = 65_536
    lanes: int = 4


class Check(msgspec.Struct, frozen=True):
    """A password was looked at: ``against`` is the hash that it was compared with, ``rehashed`` one with newer parameters."""

    ok: bool
    against: str = ""
    rehashed: str = ""


class Passwords:
    """Hashes and checks. ``work`` counts the hashes computed, which is what sign-in takes."""

    def __init__(self, parameters: Parameters = Parameters()) -> None:  # noqa: B008 - frozen
        self.work = 0
        self._hasher = PasswordHasher(
            parameters.time_cost, parameters.memory_kib, parameters.lanes, hash_len=32, salt_len=16, type=Type.ID
        )
        self._decoy = ""

    def hash(self, password: str) -> str:
        """Hash of a password, with parameters and salt."""
        self.work += 1
        return self._hasher.hash(password)

    def check(self, user: User | None, password: str) -> Check:
        """Compare with the user's hash; without a user, or without one of its own, with one that nothing fits.

        So a wrong password costs the same for every name, known or not, and no answer says which it was.
        """
        if not self._decoy:
            self._decoy = self.hash(secrets.token_hex(32))
        stored = self._decoy if user is None or not user.password else user.password
        self.work += 1
        try:
            self._hasher.verify(stored, password[: LENGTH_MAX + 1])
        except (VerificationError, InvalidHashError):
            return Check(ok=False)
        if user is None or stored is self._decoy:
            return Check(ok=False)
        rehashed = self.hash(password) if self._hasher.check_needs_rehash(stored) else ""
        return Check(ok=True, against=stored, rehashed=rehashed)


def checked(password: str) -> str:
    """The password, if it is one that may be chosen; raises Denied."""
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise Denied(codes.BAD_VALUE, f"a password has {LENGTH_MIN} to {LENGTH_MAX} characters")
    return password


def generated() -> str:
    """A password that nobody guesses."""
    return secrets.token_urlsafe(_GENERATED_BYTES)
