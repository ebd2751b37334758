"""What a gateway writes into an order because of who sent it."""

from __future__ import annotations

from gateway.access.rights import Principal
from protocol.enums import FLAG_API


def order_flags(principal: Principal) -> int:
    """Flags of the head of an order or amend: FLAG_API, and with it the API discount, where a key of any kind signed it.

    FIX and binary credentials are kinds of keys; who signed in with a password, and an operator who trades for a client, has no key.
    Every gateway that takes orders calls this, and takes these flags from nobody else.
    """
    return FLAG_API if principal.key_id else 0
