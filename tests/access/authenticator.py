"""A passkey in software: makes and signs what a browser would send."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.access.passkeys import Site

_PRESENT, _VERIFIED, _ATTESTED = 1, 4, 64


class SoftPasskey:
    """One credential on P-256; ``count`` is its sign count."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.id = secrets.token_bytes(16)
        self.count = 0
        self._key = ec.generate_private_key(ec.SECP256R1())

    def register(self, challenge: bytes, **more: Any) -> dict[str, Any]:
        """Answer to a request for a new passkey."""
        numbers = self._key.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")})
        data = self._data(_ATTESTED) + bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cose
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._client("webauthn.create", challenge, **more)
        return self._answer({"clientDataJSON": _text(client), "attestationObject": _text(attestation)})

    def sign(self, challenge: bytes, **more: Any) -> dict[str, Any]:
        """Answer to a request to sign in."""
        self.count += 1
        data, client = self._data(0), self._client("webauthn.get", challenge, **more)
        signature = self._key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer(
            {"authenticatorData": _text(data), "clientDataJSON": _text(client), "signature": _text(signature)}
        )

    def _data(self, flags: int) -> bytes:
        rp = hashlib.sha256(self.site.rp_id.encode()).digest()
        return rp + bytes([_PRESENT | _VERIFIED | flags]) + self.count.to_bytes(4, "big")

    def _client(self, kind: str, challenge: bytes, origin: str = "") -> bytes:
        return json.dumps(
            {"type": kind, "challenge": _text(challenge), "origin": origin or self.site.origin, "crossOrigin": False}
        ).encode()

    def _answer(self, response: dict[str, str]) -> dict[str, Any]:
        return {"id": _text(self.id), "rawId": _text(self.id), "type": "public-key", "response": response}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
