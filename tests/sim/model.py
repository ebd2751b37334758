"""The independent model: the naive exchange with tables as small as the simulator's."""

from typing import Any

from protocol import reasons as r
from protocol.instance import Limits
from risk.state import table_capacity
from tests.engine.oracle_more import Oracle
from tests.naive.exchange import Order, Verdict


class SmallOracle(Oracle):
    """The oracle where the pools of orders and of withdrawal holds can be full."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(
            limits.accounts,
            limits.assets,
            limits.instruments,
            client_ids=limits.client_ids,
            client_id_ttl_ms=limits.client_id_ttl_ms,
        )
        self._orders_max = limits.orders
        self._holds_max = table_capacity(limits.withdrawal_holds) // 2

    def _hold_taking_refusal(self, order: Order) -> Any:
        refusal = super()._hold_taking_refusal(order)
        if not refusal and len(self.orders) >= self._orders_max:
            return r.ORDER_POOL_FULL
        return refusal

    def _pair_refusal(self) -> int:
        return r.ORDER_POOL_FULL if len(self.orders) + 2 > self._orders_max else r.ACCEPTED

    def withdrawal_hold(self, hold_id: int, account: int, asset: int, amount: int) -> Verdict:
        """As ever, then the table must have room."""
        fits = len(self.holds) < self._holds_max
        refusal: Any = self._transfer_refusal(account, asset, amount)
        if fits or refusal or account in self.frozen or amount > self.free[account, asset]:
            return super().withdrawal_hold(hold_id, account, asset, amount)
        return self._verdict(r.HOLD_TABLE_FULL)
