"""Who is counted: addresses, keys, accounts, sessions and names as numbers of 63 bits, of which the upper three are the kind.

Made once a connection or key, not once a request. Addresses of IPv4 count whole, those of IPv6 by the first 64 bits, because
whoever has one has all of its network; IPv4 in IPv6 is IPv4.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Final, NamedTuple

from gateway.access.keys import Address, address
from gateway.rates.rules import ACCOUNT, IP, KEY, KIND_SHIFT, LOGON, NAME, PEER, SESSION

_VALUE: Final = (1 << KIND_SHIFT) - 1
_NETWORK_BITS: Final = 64
_V6: Final = 1 << (KIND_SHIFT - 1)
"""Set in what stands for a network of IPv6, a hash; clear in an address of IPv4, which is itself."""


class Subject(NamedTuple):
    """``identity`` is what is counted; ``label`` what shows it to a person, 0 where that is not kept."""

    identity: int
    label: int = 0


NOBODY: Final = Subject(0)


def of_address(where: Address | str) -> Subject:
    """An address of IPv4, or a network of 64 bits of IPv6; raises ValueError for text that is none."""
    found = address(where) if isinstance(where, str) else where
    if found.version == 4:
        return Subject(IP << KIND_SHIFT | found.number, found.number)
    network = found.number >> _NETWORK_BITS
    label = network - (1 << 64) if network >> 63 else network
    return Subject(IP << KIND_SHIFT | _V6 | _hashed(network.to_bytes(8, "big")) >> 1, label)


def of_key(key_id: str) -> Subject:
    """A key of a program that has proved itself; whoever only names one is counted by address."""
    return Subject(KEY << KIND_SHIFT | _hashed(key_id.encode()))


def of_account(account: int) -> Subject:
    """An account of the engine."""
    return Subject(ACCOUNT << KIND_SHIFT | account, account)


def of_logons(account: int) -> Subject:
    """Logons to an account."""
    return Subject(LOGON << KIND_SHIFT | account, account)


def of_session(session: str) -> Subject:
    """A session of FIX or binary, by the name that it keeps when it connects anew."""
    return Subject(SESSION << KIND_SHIFT | _hashed(session.encode()))


def of_name(name: str) -> Subject:
    """A name that somebody signs in with, whether it is known or not."""
    return Subject(NAME << KIND_SHIFT | _hashed(name.encode()))


def of_peer(peer: str) -> Subject:
    """Where somebody signs in from: an address, or a socket of this machine."""
    try:
        return Subject(PEER << KIND_SHIFT | of_address(peer).identity & _VALUE)
    except ValueError:
        return Subject(PEER << KIND_SHIFT | _hashed(peer.encode()))


def address_text(subject: Subject) -> str:
    """Address or network of a subject of kind IP; "" for another kind, and where the label is another's."""
    value = subject.identity & _VALUE
    if subject.identity >> KIND_SHIFT != IP:
        return ""
    if not value & _V6:
        return str(ipaddress.IPv4Address(value)) if value >> 32 == 0 else ""
    network = (subject.label & ((1 << 64) - 1)) << _NETWORK_BITS
    whole = ipaddress.IPv6Address(network)
    return f"{whole}/64" if of_address(Address(6, network)).identity == subject.identity else ""


def _hashed(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") & _VALUE
