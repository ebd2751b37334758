"""Amends with money to the unit, while fills of the same order are still in flight: an early decision is the exact one."""

import random

import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.instance import Limits
from risk import state as s
from tests.engine.driver import ROOMY, Run, Variant
from tests.engine.operators import Outcomes, compare, numbered
from tests.engine.oracle_more import Oracle
from tests.risk.desk import BASE, QUOTE, WHO, listing

pytestmark = pytest.mark.timeout(600)  # the first test may have to compile all kernels
LIMITS = Limits(accounts=4, assets=3, instruments=2, orders=256, leaves=256, withdrawal_holds=16, outbox=8, timers=1)
LOT = 100


class Bound:
    """One order, what happens to it, and its amend.

    What is free then is the amend's need at some number of lots gone, and ``slack`` units.
    """

    def __init__(self, rng: random.Random, slack: int) -> None:
        self.oracle = Oracle(4, 3, 2)
        self.groups: list[np.ndarray] = []
        self.expected: list[np.ndarray] = []
        self.next_seq = 1
        for listed in (QUOTE, BASE):
            self.send(build.list_asset(listed, *WHO))
        self.send(build.list_instrument(listing(), *WHO))
        for account in (1, 2):
            self.send(build.create_account(account, *WHO))
        for asset in (1, 2):
            self.send(build.deposit(2, asset, 1 << 40, *WHO))
        self.reason = self._scene(rng, slack)

    def send(self, group: np.ndarray) -> int:
        group = numbered(build.stamp(group, e.SOURCE_FIRST_GATEWAY, self.next_seq), self.next_seq)
        self.next_seq += len(group)
        self.groups.append(group)
        self.expected.append(self.oracle.apply(group))
        return int(self.expected[-1]["reason"][0]) if self.expected[-1]["kind"][0] == e.OUT_REJECTED else 0

    def order(self, account: int, side: int, price: int, lots: int, **fields: int) -> int:
        self.send(build.limit(account=account, instrument=1, side=side, price_ticks=price, qty_lots=lots, **fields))
        return int(self.groups[-1]["order_id"][0])

    def _scene(self, rng: random.Random, slack: int) -> int:
        side = rng.randrange(2)
        price, new_price = 40 + rng.randrange(20), 40 + rng.randrange(20)
        total, new_total = 1 + rng.randrange(12), 1 + rng.randrange(15)
        gone = rng.randrange(total)

        def hold(price: int, lots: int) -> int:
            return price * lots if side == e.BUY else lots * LOT

        # Need at the exact number of lots gone, or at one of the bounds that reserve looks at.
        at = rng.choice((gone, 0, max(0, min(total, new_total) - 1)))
        need = max(0, hold(new_price, new_total - at) - hold(price, total - at)) if new_total > at else 0
        self.send(build.deposit(1, 1 if side == e.BUY else 2, hold(price, total) + max(0, need + slack) or 1, *WHO))
        order_id = self.order(1, side, price, total)
        if gone:  # traded or prevented, by a command right before the amend
            if rng.random() < 0.7:
                self.order(2, 1 - side, price, gone, tif=e.IOC)
            else:
                self.send(build.deposit(1, 2 if side == e.BUY else 1, 1 << 30, *WHO))
                self.order(1, 1 - side, price, gone, tif=e.IOC, stp=e.STP_DECREMENT)
        group = build.amend(account=1, instrument=1, order_id=order_id, price_ticks=new_price, qty_lots=new_total)
        reason = self.send(group)
        if rng.random() < 0.5:  # again at once, while the first one is in flight
            self.send(
                build.amend(
                    account=1,
                    instrument=1,
                    order_id=order_id,
                    price_ticks=price,
                    qty_lots=new_total + rng.randrange(-1, 3),
                )
            )
        self.send(build.cancel(account=1, instrument=1, order_id=order_id))
        return reason


VARIANTS = (
    Variant("settled", 1, 1),
    Variant("long", 1, 4096),
    Variant("steps", 1, 3),
    Variant("random", 2, schedule=5, rings=ROOMY),
)


@pytest.mark.parametrize("slack", [-1, 0, 1, 2, 3])
def test_amend_with_money_to_the_unit_is_decided_early_as_it_is_exactly(slack: int) -> None:
    met: dict[int, int] = {}
    waits = 0
    for seed in range(40):
        bound = Bound(random.Random(f"{seed} {slack}"), slack)
        met[bound.reason] = met.get(bound.reason, 0) + 1
        for variant in VARIANTS:
            outcomes = Outcomes()
            run = Run(variant, LIMITS, outcomes)
            run.feed(np.concatenate(bound.groups))
            compare(np.concatenate(bound.expected), outcomes.all(), bound.groups)
            waits += int(run.engine.risk.meta[s.EXACT_WAITS])
    assert met[r.ACCEPTED] > 5
    assert waits > 5
    if slack < 0:
        assert met[r.INSUFFICIENT_FUNDS] > 2
