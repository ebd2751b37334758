"""Time-based codes of an authenticator: RFC 6238 with SHA-1, 30 seconds and 6 digits, which is what all of them speak."""

from __future__ import annotations

import base64
import hmac
import secrets
from typing import Final
from urllib.parse import quote

STEP_NS: Final = 30_000_000_000
DIGITS: Final = 6
WINDOW: Final = 1
"""Steps that a clock may be off, either way."""
_SECRET_BYTES: Final = 20


def new_secret() -> bytes:
    """A secret to share with an authenticator."""
    return secrets.token_bytes(_SECRET_BYTES)


def text_of(secret: bytes) -> str:
    """The secret as people type it: Base32."""
    return base64.b32encode(secret).decode()


def uri(secret: bytes, user: str, issuer: str) -> str:
    """What a QR code for the authenticator says."""
    label = quote(f"{issuer}:{user}")
    return f"otpauth://totp/{label}?secret={text_of(secret)}&issuer={quote(issuer)}&digits={DIGITS}&period=30"


def code(secret: bytes, step: int) -> str:
    """Code of a step of 30 seconds since 1970."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_of(secret: bytes, given: str, now_ns: int, last_step: int) -> int | None:
    """The step whose code was given, of those around now and after ``last_step``; None if it is none of them.

    Whoever takes a code keeps its step as the new ``last_step``: so none works twice, nor one before it.
    """
    present = now_ns // STEP_NS
    found = None
    for step in range(present - WINDOW, present + WINDOW + 1):
        if hmac.compare_digest(code(secret, step).encode(), given.encode("utf-8", "replace")) and step > last_step:
            found = step
    return found
