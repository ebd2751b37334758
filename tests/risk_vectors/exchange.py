"""A small exchange in this process: commands in, outcomes and tables out."""

from typing import Any

import numpy as np

from persistence.fused import FusedEngine
from protocol import build
from protocol import enums as e
from protocol.instance import Engine, Limits, Rings
from protocol.instruments import Asset, Instrument
from protocol.records import OUTCOME_DTYPE
from risk import state as s

WHO = ("vectors", "worked example")
START_TS_NS = 1_700_000_000_000_000_000
_LIMITS = Limits(accounts=16, assets=8, instruments=8, orders=64, leaves=64, withdrawal_holds=16, outbox=16, timers=2)
_RINGS = Rings(ingress=1 << 7, command=1 << 10, event=1 << 8, outcome=1 << 9, window=1 << 8)


class Exchange:
    """Assets of 8 decimals and instruments by name; accounts by number."""

    def __init__(self) -> None:
        self.engine = FusedEngine(Engine(limits=_LIMITS, rings=_RINGS))
        self.assets: dict[str, Asset] = {}
        self.outcomes = np.zeros(0, dtype=OUTCOME_DTYPE)
        self.ts_ns = START_TS_NS
        self._number = 1
        self._accounts = 0

    @property
    def risk(self) -> Any:
        """Risk's tables."""
        return self.engine.risk

    def send(self, group: np.ndarray) -> np.ndarray:
        """Outcomes of a command."""
        group = build.stamp(group.copy(), e.SOURCE_CONTROL, self._number)
        self._number += len(group)
        first = self.engine.last_seq + 1
        group["seq"] = np.arange(first, first + len(group))
        group["ts_ns"] = self.ts_ns
        said: list[np.ndarray] = []
        self.engine.feed(group, lambda part: said.append(part.copy()))
        self.outcomes = np.concatenate(said)
        return self.outcomes

    def do(self, group: np.ndarray) -> np.ndarray:
        """Outcomes of a command that must be accepted; AssertionError with the reason where it is not."""
        out = self.send(group)
        assert out["kind"][0] != e.OUT_REJECTED, f"refused with reason {out['reason'][0]}"
        return out

    def asset(self, name: str) -> int:
        """Number of an asset, listed where it is new."""
        if name not in self.assets:
            self.assets[name] = Asset(len(self.assets) + 1, name, 8)
            self.do(build.list_asset(self.assets[name], *WHO))
        return self.assets[name].index

    def instrument(self, inst: dict[str, Any], base: str = "BASE", quote: str = "QUOTE", **more: int) -> int:
        """List an instrument; its number."""
        number = int(np.count_nonzero(self.risk.instruments["status"])) + 1
        self.asset(base)
        self.asset(quote)
        listed = Instrument(
            number, f"I{number}", self.assets[base], self.assets[quote], inst["tick_e8"], inst["lot_atoms"], **more
        )
        self.do(build.list_instrument(listed, *WHO))
        return number

    def account(self) -> int:
        """Open an account; its number."""
        self._accounts += 1
        self.do(build.create_account(self._accounts, *WHO))
        return self._accounts

    def fund(self, account: int, asset: str, units: int) -> None:
        """Deposit."""
        self.do(build.deposit(account, self.asset(asset), units, *WHO))

    def balance(self, account: int, asset: str) -> tuple[int, int]:
        """Free and locked units."""
        row = (account * len(self.risk.assets) + self.asset(asset)) * s.BALANCE_WORDS
        return int(self.risk.balances[row + s.FREE]), int(self.risk.balances[row + s.LOCKED])

    def fee(self, asset: str) -> int:
        """What the exchange earned."""
        return int(self.risk.assets[self.asset(asset)]["fee_units"])

    def left_of(self, order_id: int) -> int | None:
        """Lots that an open order has left; None where it is not open."""
        holds = self.risk.holds
        found = np.flatnonzero((holds["order_id"] == order_id) & (holds["state"] == e.HOLD_LIVE))
        return int(holds["left_lots"][found[0]]) if len(found) else None
