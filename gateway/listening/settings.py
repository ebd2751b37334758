"""Where and how a gateway listens on TCP, as it stands in the configuration, and what may not be."""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple

import msgspec

_PORT_MAX: Final = 65_535
_LOCALHOST: Final = "127.0.0.1"


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[….tls]``: PEM files; relative paths are of the home."""

    certificate: str = ""
    """The certificate and those between it and its authority."""
    key: str = ""
    """Its private key, without a passphrase, readable by the owner only."""
    client_ca: str = ""
    """Authorities of clients' certificates; with it only clients that have one are let in."""


class Listening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each gateway's section has for TCP."""

    listen: str = ""
    """``address:port``, ``[address]:port`` or ``localhost:port``; port 0 is any free one; empty: not on TCP."""
    tls: Tls = Tls()
    plain_text: bool = False
    """Without TLS on an address that others reach."""


class AddressError(ValueError):
    """A text that is no address and port; the message says what it must be."""


class Address(NamedTuple):
    """An IP address, or a name where a client connects, and a port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine's own, which no other machine reaches."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str, *, to_connect: bool = False) -> Address:
    """Address and port of a text; ``to_connect`` takes names too. Raises AddressError."""
    host, separator, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > _PORT_MAX:
        raise AddressError("is no address and port; write it like 127.0.0.1:7443 or [::1]:7443")
    if host == "localhost" and not to_connect:
        return Address(_LOCALHOST, int(port))
    try:
        is_ipv6 = ipaddress.ip_address(host).version != 4
    except ValueError:
        if to_connect and not bracketed and ":" not in host:
            return Address(host, int(port))
        raise AddressError(
            f"{host!r} is no IP address; name one of this machine's, 0.0.0.0 for all of them, or localhost"
        ) from None
    if is_ipv6 != bracketed:
        raise AddressError("an IPv6 address stands in brackets, like [::1]:7443, and no other does")
    return Address(host, int(port))


def wrong(settings: Listening) -> tuple[str, str] | None:
    """Key and sentence for settings that cannot be used, whatever the files are; None where they can."""
    tls = settings.tls
    if bool(tls.certificate) != bool(tls.key):
        given, missing = ("certificate", "key") if tls.certificate else ("key", "certificate")
        return f"tls.{given}", f"goes with tls.{missing}, which is not set: name the PEM file there"
    if tls.client_ca and not tls.certificate:
        return "tls.client_ca", "clients show certificates over TLS only: set tls.certificate and tls.key"
    if settings.plain_text and tls.certificate:
        return "plain_text", "contradicts tls.certificate: take one of them away"
    if not settings.listen:
        return None
    try:
        address = address_of(settings.listen)
    except AddressError as error:
        return "listen", str(error)
    if not address.is_loopback and not tls.certificate and not settings.plain_text:
        return "listen", (
            "other machines reach this address, and passwords would pass in plain text: set tls.certificate and tls.key, "
            "listen on 127.0.0.1, or say plain_text = true where something in front of it encrypts"
        )
    return None
