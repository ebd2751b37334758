"""Passkeys: WebAuthn registration and assertion, checked by the library made for it; challenges that are good once."""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec
import webauthn
from webauthn.helpers.exceptions import WebAuthnException

from gateway.access import codes
from gateway.access.codes import Denied
from gateway.access.records import Passkey

CHALLENGE_BYTES: Final = 32
CHALLENGE_NS: Final = 300_000_000_000
CHALLENGES_MAX: Final = 10_000


class Site(msgspec.Struct, frozen=True):
    """Where passkeys are for: the domain and the origin of the pages that ask for them."""

    rp_id: str
    origin: str


class Challenges:
    """Challenges that were given out, one a user. Each is taken once, and forgotten after five minutes."""

    def __init__(self) -> None:
        self._given: dict[int, tuple[bytes, int]] = {}

    def give(self, user_id: int, now_ns: int) -> bytes:
        """A new challenge; an earlier one of the user is void. Where there are too many, the oldest goes."""
        self._given.pop(user_id, None)
        if len(self._given) >= CHALLENGES_MAX:
            del self._given[next(iter(self._given))]
        challenge = secrets.token_bytes(CHALLENGE_BYTES)
        self._given[user_id] = challenge, now_ns
        return challenge

    def take(self, user_id: int, now_ns: int) -> bytes:
        """The user's challenge, which is void from now on; Denied where there is none."""
        challenge, given_ns = self._given.pop(user_id, (b"", 0))
        if not challenge or now_ns - given_ns >= CHALLENGE_NS:
            raise Denied(codes.BAD_CREDENTIALS, "no challenge was given, or it is too old; begin again")
        return challenge


def registered(site: Site, user_id: int, challenge: bytes, answer: dict[str, Any], label: str, now_ns: int) -> Passkey:
    """The passkey that an authenticator made; Denied if its answer does not fit the challenge and the site."""
    try:
        found = webauthn.verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError) as error:
        raise Denied(codes.BAD_CREDENTIALS, f"passkey: {error}") from None
    return Passkey(found.credential_id, user_id, found.credential_public_key, found.sign_count, label, now_ns)


def asserted(site: Site, passkey: Passkey, challenge: bytes, answer: dict[str, Any]) -> Passkey:
    """The passkey with its new sign count; Denied if the assertion is wrong, or the count did not grow: then it is a copy's."""
    try:
        found = webauthn.verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError) as error:
        raise Denied(codes.BAD_CREDENTIALS, f"passkey: {error}") from None
    return msgspec.structs.replace(passkey, sign_count=found.new_sign_count)
