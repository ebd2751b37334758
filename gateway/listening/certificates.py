"""A certificate with its key: checked when it is read, looked at again while it is in use, replaced when the files have another.

What is not whole and good is never used: the pair before stays in force, and ``problem`` says which file is wrong and why. Files are
read once and handed over in memory, so that what was checked is what is used, whatever is written meanwhile.
"""

from __future__ import annotations

import os
import ssl
import stat
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from gateway.listening.settings import Tls

EXPIRES_SOON_DAYS: Final = 14
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secret and authenticated. Those of TLS 1.3 all are."""
_FILE_MAX_BYTES: Final = 1 << 20
_DAY_S: Final = 86_400


class CertificateError(Exception):
    """A pair that cannot be used; the message names the file and what is wrong with it."""


class Files(NamedTuple):
    """What the files of a pair hold; ``client_ca`` is empty where clients need no certificate."""

    certificate: bytes
    key: bytes
    client_ca: bytes


class Pair(NamedTuple):
    """A pair that is good: a context for new connections, and when which file is good no more, in seconds since 1970."""

    context: ssl.SSLContext
    not_after_s: float
    ends: tuple[tuple[Path, float], ...]
    """Of the certificate and of each authority of clients."""


class Certificates:
    """The pair that new connections get.

    Parameters
    ----------
    tls : Tls
    base : Path
        What relative paths are of.
    alpn : sequence of str
        Protocols to agree on, the preferred one first.
    now_s : callable
        Seconds since 1970, UTC.
    """

    def __init__(self, tls: Tls, base: Path, alpn: Sequence[str] = (), now_s: Callable[[], float] = time.time) -> None:
        self._certificate, self._key = base / tls.certificate, base / tls.key
        self._client_ca = base / tls.client_ca if tls.client_ca else None
        self._alpn = tuple(alpn)
        self._now_s = now_s
        self._files: Files | None = None
        self._why = ""
        self.pair: Pair | None = None
        self.renewals = 0
        """How often another pair came into force."""

    def look(self) -> None:
        """Read the files, and put what they hold into force where it is another good pair."""
        try:
            files = self._read()
            if files != self._files:
                self.pair = self._made(files)
                self.renewals += self._files is not None
                self._files = files
            self._why = ""
        except CertificateError as error:
            self._why = str(error)

    @property
    def problem(self) -> str:
        """What an operator has to look at; empty where nothing is."""
        if self.pair is None:
            return self._why
        if self._why:
            return f"{self._why}; the certificate before stays in force, until {_utc(self.pair.not_after_s)}"
        path, end_s = min(self.pair.ends, key=lambda row: row[1])
        left_s = end_s - self._now_s()
        if left_s < 0:
            return f"{path}: expired at {_utc(end_s)}; put a new one there"
        if left_s < EXPIRES_SOON_DAYS * _DAY_S:
            return f"{path}: expires at {_utc(end_s)}, in {int(left_s // _DAY_S)} days; put a new one there"
        return ""

    def _read(self) -> Files:
        client_ca = b"" if self._client_ca is None else _content(self._client_ca)
        return Files(_content(self._certificate), _content(self._key, private=True), client_ca)

    def _made(self, files: Files) -> Pair:
        now_s = self._now_s()
        leaf = _certificates(files.certificate, self._certificate)[0]
        not_after_s = _checked_end(leaf, self._certificate, now_s)
        key = _private_key(files.key, self._key)
        if _public(key.public_key()) != _public(leaf.public_key()):
            raise CertificateError(f"{self._key}: is not the key of {self._certificate}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        # A resumed session would skip the look at the client's certificate, and outlive ours.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 0
        if self._alpn:
            context.set_alpn_protocols(list(self._alpn))
        try:
            _load(context, files)
        except (ssl.SSLError, ValueError) as error:
            raise CertificateError(f"{self._certificate}: cannot be used: {error}") from None
        ends = [(self._certificate, not_after_s)]
        if self._client_ca is not None:
            ends += [
                (self._client_ca, end_s) for end_s in self._require_clients(context, self._client_ca, files, now_s)
            ]
        return Pair(context, not_after_s, tuple(ends))

    def _require_clients(self, context: ssl.SSLContext, path: Path, files: Files, now_s: float) -> list[float]:
        """Let in only whom the authorities know; gives the ends of these."""
        ends = [_checked_end(authority, path, now_s) for authority in _certificates(files.client_ca, path)]
        try:
            context.load_verify_locations(cadata=files.client_ca.decode("ascii", "replace"))
        except ssl.SSLError as error:
            raise CertificateError(f"{path}: cannot be used: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
        return ends


def _content(path: Path, *, private: bool = False) -> bytes:
    try:
        # A pipe would keep whoever opens it waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise CertificateError(f"{path}: is no file")
            mode = stat.S_IMODE(found.st_mode)
            if private and mode & 0o077:
                raise CertificateError(
                    f"{path}: has mode {mode:04o}, and a private key is for its owner alone: chmod 600 {path}"
                )
            content = file.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > _FILE_MAX_BYTES:
        raise CertificateError(f"{path}: has more than {_FILE_MAX_BYTES} bytes, and is no PEM file of ours")
    return content


def _certificates(content: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{path}: holds no certificate in PEM") from None


def _private_key(content: bytes, path: Path) -> Any:
    try:
        return serialization.load_pem_private_key(content, None)
    except TypeError:
        raise CertificateError(f"{path}: the key has a passphrase, which nobody could type; store it without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{path}: holds no private key in PEM") from None


def _checked_end(certificate: x509.Certificate, path: Path, now_s: float) -> float:
    """End of a certificate that is good now."""
    begin_s, end_s = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if now_s > end_s:
        raise CertificateError(f"{path}: expired at {_utc(end_s)}")
    if now_s < begin_s:
        raise CertificateError(f"{path}: is good from {_utc(begin_s)} on only; this machine's clock says {_utc(now_s)}")
    return end_s


def _public(key: Any) -> bytes:
    return bytes(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def _load(context: ssl.SSLContext, files: Files) -> None:
    """Give the context what was read; it takes files only, and these are in memory."""
    descriptors = []
    try:
        for content in (files.certificate, files.key):
            descriptor = os.memfd_create("cambist-tls", os.MFD_CLOEXEC)
            descriptors.append(descriptor)
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(content)
        certificate, key = (f"/proc/self/fd/{descriptor}" for descriptor in descriptors)
        context.load_cert_chain(certificate, key)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
