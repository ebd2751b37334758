"""Which client order ids are taken, as the page on risk reads: a dict of open orders and a list of ended ones."""

from typing import NamedTuple

from protocol import enums as e

Key = tuple[int, bytes]
"""Account and client order id."""


class Ended(NamedTuple):
    """An order that was filled or expired."""

    key: Key
    order_id: int
    instrument: int
    traded: int
    value: int
    ended_ts_ns: int
    reason: int
    state: int


class ClientIds:
    """The oracle of client order ids: ``room`` ended ones at most, each taken for ``ttl_ms`` after its end."""

    def __init__(self, room: int, ttl_ms: int) -> None:
        self.room = room
        self.ttl_ns = ttl_ms * 1_000_000
        self.open: dict[Key, int] = {}
        self.ended: list[Ended] = []
        self.values: dict[int, int] = {}

    def first(self, key: Key, ts_ns: int) -> int | Ended | None:
        """The open order (by id) or the ended one that has the id at this time."""
        if key in self.open:
            return self.open[key]
        for row in self.ended:
            if row.key == key and ts_ns - row.ended_ts_ns < self.ttl_ns:
                return row
        return None

    def key_of(self, order_id: int) -> Key | None:
        """The id that an open order has."""
        return next((key for key, order in self.open.items() if order == order_id), None)

    def take(self, key: Key, order_id: int) -> None:
        """An order was accepted."""
        assert key not in self.open
        self.open[key] = order_id

    def traded(self, order_id: int, value: int) -> None:
        """An order had a fill."""
        self.values[order_id] = self.values.get(order_id, 0) + value

    def free(self, order_id: int) -> None:
        """Its owner cancelled an order."""
        key = self.key_of(order_id)
        if key is not None:
            del self.open[key]

    def end(self, order_id: int, instrument: int, traded: int, ts_ns: int, state: int, reason: int) -> None:
        """An order was filled or expired."""
        key = self.key_of(order_id)
        if key is None:
            return
        del self.open[key]
        if self.ttl_ns:
            value = self.values.get(order_id, 0)
            row = Ended(key, order_id, instrument, traded, value, ts_ns, reason, state)
            self.ended = [*self.ended, row][-self.room :]


def is_own(kind: int, account: int, source: int, owner: int) -> bool:
    """Whether a cancel command comes from the owner of the order that it takes."""
    return kind == e.CANCEL or (account == owner and source >= e.SOURCE_FIRST_GATEWAY)
