"""Codes for whoever lost the authenticator: shown once, kept as hashes, good once."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

COUNT: Final = 10
_BYTES: Final = 10
_DIGEST_BYTES: Final = 16
"""80 bits of chance need no slow hash: nobody tries them all."""


def new_codes() -> tuple[str, ...]:
    """Ten codes, such as 4f0c-91ab-77d2-0e5c-b6aa."""
    return tuple("-".join(_parts(secrets.token_hex(_BYTES))) for _ in range(COUNT))


def hash_of(user_id: int, given: str) -> str:
    """What is kept of a code; case, spaces and dashes do not matter."""
    plain = "".join(given.split()).replace("-", "").lower()
    return hashlib.blake2b(
        f"{user_id}:{plain}".encode(), digest_size=_DIGEST_BYTES, person=b"cambist-recovery"
    ).hexdigest()


def without(hashes: tuple[str, ...], user_id: int, given: str) -> tuple[str, ...] | None:
    """The hashes that are left when a code is used; None if it is none of them."""
    used = hash_of(user_id, given)
    return tuple(kept for kept in hashes if kept != used) if used in hashes else None


def _parts(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]
