"""Pre-trade limits as their page says them: what is set for a scope, and every order that counted, remembered one by one."""

from typing import NamedTuple

E8 = 100_000_000
SECOND_NS = 10**9

Scope = tuple[str | int, ...]
"""("venue",), ("account", n), ("user", master), ("firm", n) or ("instrument", n)."""


class Limit(NamedTuple):
    """0 = any; ``since``: how many orders had counted when it was set."""

    qty: int
    notional: int
    open_orders: int
    per_second: int
    collar: int
    since: int


class LimitBook:
    """``limits`` by scope, ``killed`` scopes, and of each order that counted its second and its scopes."""

    def __init__(self) -> None:
        self.limits: dict[Scope, Limit] = {}
        self.killed: set[Scope] = set()
        self.counted: list[tuple[int, tuple[Scope, ...]]] = []

    @staticmethod
    def scopes(account: int, master: int, firm: int, instrument: int) -> tuple[Scope, ...]:
        """Scopes of an order, in the order in which they are asked."""
        firms: tuple[Scope, ...] = (("firm", firm),) if firm else ()
        return (("venue",), ("account", account), ("user", master), *firms, ("instrument", instrument))

    def set(self, scope: Scope, qty: int, notional: int, open_orders: int, per_second: int, collar: int) -> None:
        self.limits[scope] = Limit(qty, notional, open_orders, per_second, collar, len(self.counted))

    def count(self, ts_ns: int, scopes: tuple[Scope, ...]) -> None:
        self.counted.append((ts_ns // SECOND_NS, scopes))

    def has_collars(self) -> bool:
        return any(limit.collar for limit in self.limits.values())

    def collar(self, scopes: tuple[Scope, ...]) -> int:
        """The smallest of the scopes, 0 = none."""
        return min((self.limits[s].collar for s in scopes if s in self.limits and self.limits[s].collar), default=0)

    def exceeded(
        self, scopes: tuple[Scope, ...], lots: int, notional: int | None, open_orders: dict[Scope, int], ts_ns: int
    ) -> str:
        """Name of the first reason against an order, "" = none. ``notional`` None: it cannot be valued.

        ``open_orders``: of each scope; empty where no further order would be open.
        """
        for scope in scopes:
            if scope in self.killed:
                return "KILLED"
            limit = self.limits.get(scope)
            if limit is None:
                continue
            if limit.qty and lots > limit.qty:
                return "ORDER_SIZE_LIMIT"
            if limit.notional and (notional is None or notional > limit.notional):
                return "NOTIONAL_LIMIT"
            if limit.open_orders and open_orders.get(scope, 0) >= limit.open_orders:
                return "OPEN_ORDERS_LIMIT"
            recent = self.counted[limit.since :]
            same = sum(second == ts_ns // SECOND_NS and scope in where for second, where in recent)
            if limit.per_second and same >= limit.per_second:
                return "ORDER_RATE_LIMIT"
        return ""
