"""The ledger behind the writer's rows: ``movements`` over arrays that begin where an engine stands."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from persistence.postgres import movements as m
from protocol import enums as e
from protocol.instance import Limits
from protocol.records import OUTCOME_DTYPE
from ringbuf.bundle import Bundle
from ringbuf.idtable import id_shift
from risk import state as s

_FIRST_OUTCOMES: Final = 1 << 12
_OF_HOLDS: Final = {
    "order_id": "order_id",
    "price_ticks": "price_ticks",
    "qty_lots": "total_lots",
    "cum_qty_lots": "traded_lots",
    "leaves_qty_lots": "left_lots",
    "value_units": "value_units",
    "locked_units": "locked_units",
    "account": "account",
    "instrument": "instrument",
    "side": "side",
    "type": "type",
}


class LedgerFault(RuntimeError):
    """The engine's balances and the movements that its outcomes mean differ; nothing of the batch may be written."""


class Movements(NamedTuple):
    """What a batch of outcomes means; views that the next batch overwrites."""

    postings: np.ndarray
    trades: np.ndarray
    orders: np.ndarray
    """A copy of each order that changed, as it is after the batch."""


class Ledger:
    """Balances and live orders after the last batch.

    Parameters
    ----------
    risk : Bundle
        Risk's tables of an engine that has settled all that it was fed; its instruments are read on, everything else is copied.
    limits : Limits
        Of the home.
    batch_slots : int
        Most command slots whose outcomes come in one batch.
    """

    def __init__(self, risk: Bundle, limits: Limits, batch_slots: int) -> None:
        words = risk.balances.reshape(-1, s.BALANCE_WORDS)
        used = (int(risk.meta[s.ACCOUNTS_HIGH]) + 1) * (limits.assets + 1)
        balances = np.zeros((len(words), 2), dtype=np.int64)
        balances[:used] = words[:used, [s.FREE, s.LOCKED]]
        system = np.stack([risk.assets["fee_units"], -risk.assets["net_deposits_units"]], axis=1).reshape(-1)
        size = s.table_capacity(limits.orders + batch_slots)
        self._meta = np.zeros(m.META_WORDS, dtype=np.int64)
        self._meta[m.INDEX_SHIFT] = id_shift(size)
        self._meta[m.ROW_FREE] = -1
        self._meta[m.ASSETS] = limits.assets + 1
        self._kept = {
            "meta": self._meta,
            "balances": balances.reshape(-1),
            "system": np.ascontiguousarray(system),
            "instruments": risk.instruments,
            "orders": np.zeros(limits.orders + batch_slots, dtype=m.ORDER_DTYPE),
            "recent": np.zeros(size, dtype=np.uint32),
            "others": np.zeros(size, dtype=np.uint32),
        }
        self._make_room(_FIRST_OUTCOMES)
        self._take_orders(risk.holds[: int(risk.meta[s.HOLDS_HIGH])])

    def _make_room(self, outcomes: int) -> None:
        """Buffers for so many outcomes of a batch."""
        self._outcomes = np.zeros(outcomes, dtype=OUTCOME_DTYPE)
        self._postings = np.zeros(outcomes * m.POSTINGS_PER_OUTCOME_MAX, dtype=m.POSTING_DTYPE)
        self._trades = np.zeros(outcomes, dtype=m.TRADE_DTYPE)
        changed = np.zeros(outcomes, dtype=np.int64)
        former = self._kept.get("changed")
        if former is not None:
            changed[: len(former)] = former
        self._kept["changed"] = changed
        self._state = Bundle(**self._kept, outcomes=self._outcomes, postings=self._postings, trades=self._trades)

    def _take_orders(self, holds: np.ndarray) -> None:
        live = holds[holds["state"] == e.HOLD_LIVE]
        rows = self._kept["orders"]
        for name, theirs in _OF_HOLDS.items():
            rows[name][: len(live)] = live[theirs]
        rows["state"][: len(live)] = e.ORDER_STATE_LIVE
        self._meta[m.ROWS_HIGH] = len(live)
        self._meta[m.UNINDEXED] = len(live)

    def apply(self, outcomes: np.ndarray) -> Movements:
        """Take the outcomes of whole commands, in order. Raises LedgerFault."""
        count = len(outcomes)
        if count > len(self._outcomes):
            self._make_room(1 << (count - 1).bit_length())
        self._outcomes[:count] = outcomes
        self._meta[m.OUTCOMES] = count
        wrong = int(m.apply(self._state))
        if wrong >= 0:
            out = outcomes[wrong]
            msg = (
                f"seq {out['seq']}, index {out['index']}: account {out['account']} has free {out['free_units']} and locked "
                f"{out['locked_units']} units by the engine, and not by the postings; nothing of this batch is written"
            )
            raise LedgerFault(msg)
        changed = self._kept["changed"][: int(self._meta[m.CHANGED])]
        return Movements(
            self._postings[: int(self._meta[m.POSTINGS])],
            self._trades[: int(self._meta[m.TRADES])],
            self._kept["orders"][changed],
        )

    def balance(self, accounts: np.ndarray, assets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Free and locked units of (account, asset) pairs."""
        cells = (accounts.astype(np.int64) * self._meta[m.ASSETS] + assets) * 2
        balances = self._kept["balances"]
        return balances[cells], balances[cells + 1]
