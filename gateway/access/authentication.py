"""Who is this? The hot path of every gateway: a key with its signature, a credential, or a session's token.

Nothing here waits: rows come from the directory in memory. What is costly of a key (its secret opened, its public key loaded, its
networks parsed) is done at its first use and again when its row has changed.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NamedTuple

from gateway.access import codes, keys
from gateway.access.directory import Directory
from gateway.access.keys import Address, Proof
from gateway.access.records import Key
from gateway.access.rights import YES, Principal, Verdict, key_holds, session_holds
from gateway.access.sealing import Seal

TOUCH_NS: Final = 60_000_000_000
"""A session's last use is noted this coarsely."""
_BAD: Final = Verdict(codes.BAD_CREDENTIALS, codes.TEXT[codes.BAD_CREDENTIALS])
_ELSEWHERE: Final = Verdict(codes.ADDRESS_NOT_ALLOWED, codes.TEXT[codes.ADDRESS_NOT_ALLOWED])
_NOBODY: Final = Principal()
_DECOY: Final = b"\x00" * 43


class _Ready(NamedTuple):
    """A key as it is checked; right as long as ``row`` is the directory's."""

    row: Key
    proof: Proof
    secret: bytes
    allowed: tuple[tuple[int, int, int], ...]
    principal: Principal


class Authenticator:
    """Tells principals from what peers send.

    Parameters
    ----------
    directory : Directory
        Read at every question.
    seal : Seal
        Opens secrets.
    """

    def __init__(self, directory: Directory, seal: Seal) -> None:
        self._directory = directory
        self._seal = seal
        self._ready: dict[str, _Ready] = {}
        self._decoy = keys.proof(keys.HMAC, _DECOY)
        self.touched: dict[int, int] = {}
        """Last use of sessions that ought to be noted, by number; whoever notes them takes them out."""

    def key(
        self, key_id: str, payload: bytes, signature: str, where: Address, now_ns: int
    ) -> tuple[Verdict, Principal]:
        """Who signed ``payload``: the signature first, so that nobody learns of a key without having it."""
        ready = self._prepared(key_id)
        if ready is None or ready.row.kind in keys.NAMED:
            self._decoy(payload, signature)
            return _BAD, _NOBODY
        if not ready.proof(payload, signature):
            return _BAD, _NOBODY
        return self._held(ready, where, now_ns)

    def credential(
        self, kind: str, key_id: str, secret: str, where: Address, now_ns: int, comp_id: str = ""
    ) -> tuple[Verdict, Principal]:
        """Who logs on to a FIX or binary session with a user name and a secret."""
        ready = self._prepared(key_id)
        known = ready is not None and ready.row.kind == kind and kind in keys.NAMED
        expected = ready.secret if ready is not None and known else _DECOY
        same = hmac.compare_digest(expected, secret.encode("utf-8", "replace"))
        if ready is None or not (same and known) or ready.row.comp_id != comp_id:
            return _BAD, _NOBODY
        return self._held(ready, where, now_ns)

    def session(self, token: str, now_ns: int) -> tuple[Verdict, Principal]:
        """Who has this token."""
        session = self._directory.session(token_hash(token))
        if session is None:
            return _BAD, _NOBODY
        verdict = session_holds(self._directory, session, now_ns)
        if not verdict.allowed:
            return verdict, _NOBODY
        if now_ns - session.seen_ns >= min(TOUCH_NS, session.idle_ns // 4):
            self.touched[session.session_id] = now_ns
            self._directory.touch(session.session_id, now_ns)
        return YES, Principal(session_id=session.session_id)

    def _held(self, ready: _Ready, where: Address, now_ns: int) -> tuple[Verdict, Principal]:
        verdict = key_holds(self._directory, ready.row, now_ns)
        if not verdict.allowed:
            return verdict, _NOBODY
        return (YES, ready.principal) if keys.is_within(where, ready.allowed) else (_ELSEWHERE, _NOBODY)

    def _prepared(self, key_id: str) -> _Ready | None:
        row = self._directory.keys.get(key_id)
        if row is None:
            return None
        ready = self._ready.get(key_id)
        if ready is None or ready.row is not row:
            secret = b"" if row.kind in keys.PAIRS else self._seal.open(row.secret, f"key {key_id}")
            check = keys.proof(row.kind, row.public_key if row.kind in keys.PAIRS else secret)
            ready = _Ready(row, check, secret, keys.ranges(row.networks), Principal(key_id=key_id))
            self._ready[key_id] = ready
        return ready


def token_hash(token: str) -> bytes:
    """What is kept of a session's token; it has 256 bits of chance, so that one fast hash will do."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
