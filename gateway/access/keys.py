"""Keys of programs: what kinds there are, how each proves itself, and what a key may do, in words and as data."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.access import codes
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.access.records import Key
from gateway.access.rights import PERMISSIONS, key_holds

HMAC: Final = "hmac"
ED25519: Final = "ed25519"
RSA: Final = "rsa"
FIX: Final = "fix"
BINARY: Final = "binary"
KINDS: Final = {
    HMAC: "signs requests with HMAC-SHA256",
    ED25519: "signs requests with Ed25519",
    RSA: "signs requests with RSA, PKCS#1 v1.5 and SHA-256",
    FIX: "logs on to FIX sessions",
    BINARY: "logs on to binary sessions",
}
PAIRS: Final = frozenset({ED25519, RSA})
"""Kinds whose secret half the exchange never sees."""
NAMED: Final = frozenset({FIX, BINARY})
"""Kinds whose id is a user name that people type."""
NETWORKS_MAX: Final = 32
RSA_BITS: Final = (2048, 4096)

ID_CHARACTERS: Final = 64
_SECRET_BYTES: Final = 32
_BLOCK_BYTES: Final = 64
_COMP_ID: Final = re.compile(r"[\x21-\x7e]{1,32}")
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,31}")

Proof = Callable[[bytes, str], bool]
"""Whether a signature, as text, is right for a payload."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Address(NamedTuple):
    """A peer's address; parsed once a connection."""

    version: int
    number: int


def address(text: str) -> Address:
    """The address of a peer; raises ValueError. IPv4 in IPv6 is IPv4."""
    found = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return Address(found.version, int(found))


def networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The allow list in its usual form; raises Denied."""
    if len(texts) > NETWORKS_MAX:
        raise Denied(codes.TOO_MANY, f"a key has at most {NETWORKS_MAX} networks")
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError as error:
            raise Denied(codes.BAD_VALUE, f"network {text!r}: {error}; write it like 203.0.113.0/24") from None
    return tuple(found)


def ranges(texts: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """(version, first, last) of each network."""
    parsed = [ipaddress.ip_network(text) for text in texts]
    return tuple((n.version, int(n.network_address), int(n.broadcast_address)) for n in parsed)


def is_within(where: Address, allowed: tuple[tuple[int, int, int], ...]) -> bool:
    """Whether an address is in the allow list; an empty one allows all."""
    for version, first, last in allowed:
        if version == where.version and first <= where.number <= last:
            return True
    return not allowed


def new_id(kind: str) -> str:
    """A key's public id."""
    return f"{kind}-{secrets.token_hex(6)}" if kind in NAMED else secrets.token_hex(ID_CHARACTERS // 2)


def new_secret() -> bytes:
    """Printable secret of an HMAC key or of a credential; shown once."""
    return secrets.token_urlsafe(_SECRET_BYTES).encode()


def check_id(key_id: str) -> str:
    """A user name for FIX or binary; raises Denied."""
    if _KEY_NAME.fullmatch(key_id) is None:
        raise Denied(codes.BAD_VALUE, "a user name has 3 to 32 letters, digits, dots, dashes or underscores")
    return key_id


def check_comp_id(text: str) -> str:
    """A SenderCompID; raises Denied."""
    if _COMP_ID.fullmatch(text) is None:
        raise Denied(codes.BAD_VALUE, "a CompID has 1 to 32 printable characters without spaces")
    return text


def public_bytes(kind: str, text: str) -> bytes:
    """The public key of a PEM, as it is kept: raw for Ed25519, DER for RSA. Raises Denied."""
    if "PRIVATE" in text:
        raise Denied(codes.BAD_VALUE, "this is a private key; keep it, and give the public half")
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise Denied(codes.BAD_VALUE, "not a public key in PEM") from None
    if kind == ED25519 and isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes_raw()
    if kind == RSA and isinstance(key, rsa.RSAPublicKey):
        if not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
            raise Denied(codes.BAD_VALUE, f"RSA keys have {RSA_BITS[0]} to {RSA_BITS[1]} bits, this one {key.key_size}")
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    raise Denied(codes.BAD_VALUE, f"not a public key of kind {kind}")


def proof(kind: str, material: bytes) -> Proof:
    """How signatures of a key are checked; ``material`` is the opened secret, or the public key as kept.

    HMAC signatures are hex, whatever their case; the others Base64.
    """
    if kind == ED25519:
        return _pair_proof(ed25519.Ed25519PublicKey.from_public_bytes(material).verify)
    if kind == RSA:
        public = serialization.load_der_public_key(material)
        assert isinstance(public, rsa.RSAPublicKey)
        scheme, digest = padding.PKCS1v15(), SHA256()
        return _pair_proof(lambda signature, payload: public.verify(signature, payload, scheme, digest))
    return _shared_proof(material)


def introspected(directory: Directory, key: Key, now_ns: int) -> dict[str, Any]:
    """What the key may do, in words and as data; nothing of its secret."""
    verdict = key_holds(directory, key, now_ns)
    accounts = [
        row.account for row in directory.accounts_of(key.user_id) if not key.accounts or row.account in key.accounts
    ]
    where = ", ".join(key.networks) or "everywhere"
    what = [PERMISSIONS[permission] for permission in key.permissions] or ["nothing"]
    which = ", ".join(map(str, accounts)) or "none"
    words = (
        f"may {'; '.join(what)}; for accounts {which}; from {where}"
        if verdict.allowed
        else f"may nothing: {verdict.text}"
    )
    return {
        "key_id": key.key_id,
        "user": directory.users[key.user_id].name,
        "kind": key.kind,
        "label": key.label,
        "active": verdict.allowed,
        "why": verdict.text,
        "permissions": list(key.permissions),
        "accounts": accounts,
        "all_accounts": not key.accounts,
        "networks": list(key.networks),
        "comp_id": key.comp_id,
        "created_ns": key.created_ns,
        "expires_ns": key.expires_ns,
        "revoked_ns": key.revoked_ns,
        "words": words,
    }


def _shared_proof(secret: bytes) -> Proof:
    # HMAC (RFC 2104) with both pads hashed ahead: less than half the time of a whole one for a request of usual length.
    padded = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK_BYTES else secret).ljust(_BLOCK_BYTES, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in padded)) for pad in (0x36, 0x5C))

    def check(payload: bytes, signature: str) -> bool:
        first, second = inner.copy(), outer.copy()
        first.update(payload)
        second.update(first.digest())
        return hmac.compare_digest(second.hexdigest().encode(), signature.lower().encode("utf-8", "replace"))

    return check


def _pair_proof(verify: Callable[[bytes, bytes], None]) -> Proof:
    def check(payload: bytes, signature: str) -> bool:
        try:
            verify(base64.b64decode(signature, validate=True), payload)
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True

    return check
