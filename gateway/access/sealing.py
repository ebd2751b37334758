"""Secrets that must be read again (HMAC keys, authenticators) lie in the database encrypted, with a key that is not in it.

AES-256-GCM; what a secret belongs to is authenticated with it, so that one copied into another row does not open. A sealed secret is
a version byte, 12 bytes of nonce, the text and a tag of 16 bytes.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from persistence.postgres.users import KEY_FILE

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12


class SealError(Exception):
    """A key file or a sealed secret cannot be used; the message says which, and what to do."""


class Seal:
    """Seals and opens with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, owner: str) -> bytes:
        """The secret, encrypted for ``owner``."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, owner.encode())

    def open(self, sealed: bytes, owner: str) -> bytes:
        """The secret again; SealError if it was sealed with another key or for somebody else."""
        if sealed[:1] != _VERSION:
            raise SealError(f"the secret of {owner} is sealed in a way that this version does not know")
        nonce, text = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, text, owner.encode())
        except InvalidTag:
            raise SealError(
                f"the secret of {owner} does not open: {KEY_FILE} is another one than it was sealed with; put the right file "
                f"back into the home, or make new keys"
            ) from None


def key_file(home: Path) -> bytes:
    """The key in ``<home>/access.key``; made, with mode 0600, where there is none.

    Raises SealError where others may read it, or it is no key.
    """
    path = home / KEY_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SealError(f"{path} has mode {mode:04o} and opens clients' secrets: chmod 600 {path}, and make new keys")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise SealError(f"{path} has {len(key)} bytes and must have {KEY_BYTES}; put the right file back")
    return key
