"""A certificate authority that a test makes, and what it signs."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = timedelta(days=1)


class Authority:
    """Signs certificates into a folder; ``ca`` is its own file."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = self._builder(self._name, self._key.public_key(), -1, 3650)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        certificate = builder.add_extension(identifier, critical=False).sign(self._key, hashes.SHA256())
        self.ca = folder / f"{name.replace(' ', '-')}.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def sign(
        self, name: str, *hosts: str, begins_days: float = -1, ends_days: float = 365, into: str = ""
    ) -> tuple[Path, Path]:
        """Certificate and key for hosts, in files of that name; another call with the same ``into`` replaces these."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key.public_key(), begins_days, ends_days)
        alternatives = [_alternative(host) for host in hosts or ("127.0.0.1", "localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        files = self.folder / f"{into or name}.crt", self.folder / f"{into or name}.key"
        # As those who renew certificates do: whole files that take the place of others.
        for file, content in zip(
            files,
            (
                certificate.public_bytes(serialization.Encoding.PEM),
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ),
            ),
            strict=True,
        ):
            scratch = file.with_suffix(".new")
            scratch.touch(mode=0o600)
            scratch.write_bytes(content)
            scratch.replace(file)
        return files

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begins_days: float, ends_days: float
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins_days * _DAY)
            .not_valid_after(now + ends_days * _DAY)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
