"""Commands for books that are as large, as wide and as many as wanted, with what must come of them.

Every order is of one lot, so that who trades with whom follows from price and age alone; a crowd keeps that in plain Python and
foretells every fill.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import numpy as np

from cambist.benches import shards
from cambist.benches.rows import BenchFailedError
from protocol import build
from protocol import enums as e
from protocol.records import COMMAND_DTYPE

MID_TICKS: Final = 5_000_000
"""Where books stand; a swing of 40 % is two million ticks."""
KINDS: Final = ("rest", "cancel", "amend", "take")
_REST, _CANCEL, _AMEND, _TAKE = range(4)
_ID: Final = build.order_id_of(e.SOURCE_REPLAY, 0)
_STAMP_BITS: Final = 32
_STAMP_MASK: Final = (1 << _STAMP_BITS) - 1
_SHARE_REST, _SHARE_AMEND, _SHARE_TAKE = 0.6, 0.1, 0.1
"""Of the commands of a path while fewer orders rest than in the beginning; while there are more, cancels have the share of rests."""
_LOTS_MAX: Final = 3
"""Orders that a command of a path takes at most."""


class Series(NamedTuple):
    """Commands in stretches."""

    slots: np.ndarray
    """COMMAND_DTYPE[n], not numbered."""
    sizes: np.ndarray
    """int64[stretches], their sum is n."""
    kinds: np.ndarray
    """int64[stretches]: index of ``KINDS``; -1 = mixed."""
    makers: np.ndarray
    """int64[fills]: the resting order of each fill, in order."""


class Crowd:
    """Resting orders of one lot over some instruments.

    ``orders`` are there from the start, dealt out over ``symbols`` instruments, and as far as ``half_width`` ticks from
    ``mid_ticks`` on either side: evenly, or with ``far`` evenly by the logarithm of the distance.
    """

    def __init__(
        self, orders: int, symbols: int, half_width: int, seed: int, *, mid_ticks: int = MID_TICKS, far: bool = False
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a flow, not a secret
        self._symbols = symbols
        self._half_width = half_width
        self._far = far
        self._accounts = max(2, min(orders, 10_000))
        self.mid_ticks = mid_ticks
        rng = np.random.default_rng(seed)
        symbol = rng.integers(1, symbols + 1, orders)
        side = rng.integers(0, 2, orders)
        distance = rng.integers(1, half_width + 1, orders)
        if far:
            distance = np.exp(rng.uniform(0, math.log(half_width), orders)).astype(np.int64)
        price = mid_ticks + np.where(side == e.BUY, -distance, distance)
        account = rng.integers(1, self._accounts + 1, orders)
        self._symbol, self._side, self._price, self._account = (x.tolist() for x in (symbol, side, price, account))
        self._stamp = list(range(orders))
        self._owner = list(range(orders))
        self._alive = list(range(orders))
        self._place = list(range(orders))
        keys = np.where(side == e.BUY, -price, price) << _STAMP_BITS | np.arange(orders)
        group = symbol * 2 + side
        order = np.lexsort((keys, group))
        bounds = np.searchsorted(group[order], np.arange(2 * symbols + 3))
        # A sorted list is a heap.
        self._queues = [keys[order[a:b]].tolist() for a, b in itertools.pairwise(bounds)]
        self._rows: list[tuple[int, ...]] = []
        self._makers: list[int] = []
        self.first = np.zeros(orders, dtype=COMMAND_DTYPE)
        self.first["type"], self.first["tif"] = e.LIMIT, e.GTC
        self.first["instrument"], self.first["side"] = symbol, side
        self.first["price_ticks"], self.first["qty_lots"] = price, 1
        self.first["account"], self.first["order_id"] = account, _ID + np.arange(orders)

    @property
    def resting(self) -> int:
        """Orders on all books."""
        return len(self._alive)

    @property
    def accounts(self) -> int:
        """Largest account number."""
        return self._accounts

    def listings(self) -> np.ndarray:
        """Commands that list the instruments."""
        return np.concatenate([shards.listing(number) for number in range(1, self._symbols + 1)])

    def by_kind(self, count: int, batch: int) -> Series:
        """About ``count`` commands of each kind, ``batch`` of a kind one after another; as many orders rest afterwards as before."""
        sizes, kinds = [], []
        for _ in range(max(1, count // batch)):
            for kind in (_REST, _CANCEL, _AMEND, _REST, _TAKE):
                before = len(self._rows)
                for _ in range(batch):
                    self._one(kind, 1)
                sizes.append(len(self._rows) - before)
                kinds.append(kind)
        return self._series(sizes, kinds)

    def along(self, path: Iterable[int], batch: int) -> Series:
        """A command for each mid price of a path: orders come near it, old ones are cancelled, moved and taken."""
        sizes = []
        before = 0
        for k, mid in enumerate(path):
            self.mid_ticks = mid
            chance = self._random.random()
            few = self.resting < len(self.first)
            kind = _REST if few == (chance < _SHARE_REST) or self.resting < 2 else _CANCEL
            if chance >= 1 - _SHARE_AMEND - _SHARE_TAKE and self.resting >= 2:
                kind = _AMEND if chance < 1 - _SHARE_TAKE else _TAKE
            self._one(kind, self._random.randint(1, _LOTS_MAX))
            if (k + 1) % batch == 0:
                sizes.append(len(self._rows) - before)
                before = len(self._rows)
        if len(self._rows) > before:
            sizes.append(len(self._rows) - before)
        return self._series(sizes, [-1] * len(sizes))

    def _series(self, sizes: list[int], kinds: list[int]) -> Series:
        slots = np.zeros(len(self._rows), dtype=COMMAND_DTYPE)
        names = ("type", "side", "tif", "account", "instrument", "order_id", "price_ticks", "qty_lots")
        for name, column in zip(names, np.array(self._rows, dtype=np.int64).T, strict=True):
            slots[name] = column
        makers = np.array(self._makers, dtype=np.int64)
        self._rows, self._makers = [], []
        return Series(slots, np.array(sizes, dtype=np.int64), np.array(kinds, dtype=np.int64), makers)

    def _one(self, kind: int, lots: int) -> None:
        if kind in {_CANCEL, _AMEND}:
            number = self._alive[self._random.randrange(len(self._alive))]
            self._remove(number)
            price = self._near(self._side[number]) if kind == _AMEND else 0
            if price == self._price[number]:
                # An amend that changes nothing is refused.
                price -= 1 - 2 * self._side[number]
            self._say(number, e.AMEND if kind == _AMEND else e.CANCEL, e.GTC, price, int(kind == _AMEND))
            if kind == _AMEND:
                self._enter(number, price, 1, rests=True)
            return
        number = len(self._price)
        symbol, side = self._random.randint(1, self._symbols), self._random.randrange(2)
        price = self._near(side)
        if kind == _TAKE:
            if self._best(symbol, 1 - side) is None:
                side = 1 - side
            best = self._best(symbol, 1 - side)
            if best is None:
                kind = _REST
            else:
                far = 2 * MID_TICKS if side == e.BUY else 1
                price = self._price[best] if lots == 1 else far
        self._symbol.append(symbol)
        self._side.append(side)
        self._price.append(price)
        self._account.append(self._random.randint(1, self._accounts))
        self._stamp.append(-1)
        self._place.append(-1)
        self._say(number, e.LIMIT, e.IOC if kind == _TAKE else e.GTC, price, lots if kind == _TAKE else 1)
        self._enter(number, price, lots if kind == _TAKE else 1, rests=kind != _TAKE)

    def _near(self, side: int) -> int:
        """A price for a new order of that side."""
        if self._far:
            distance = int(math.exp(self._random.random() * math.log(self._half_width)))
        else:
            distance = self._random.randint(1, self._half_width)
        return max(1, self.mid_ticks - distance if side == e.BUY else self.mid_ticks + distance)

    def _say(self, number: int, kind: int, tif: int, price: int, qty: int) -> None:
        row = (kind, self._side[number], tif, self._account[number], self._symbol[number], _ID + number, price, qty)
        self._rows.append(row)

    def _enter(self, number: int, price: int, lots: int, *, rests: bool) -> None:
        """What price-time priority does with an order."""
        symbol, side = self._symbol[number], self._side[number]
        while lots > 0:
            best = self._best(symbol, 1 - side)
            if best is None or (1 - 2 * side) * (price - self._price[best]) < 0:
                break
            self._makers.append(_ID + best)
            self._remove(best)
            lots -= 1
        if lots > 0 and rests:
            self._price[number] = price
            stamp = len(self._owner)
            self._owner.append(number)
            self._stamp[number] = stamp
            self._place[number] = len(self._alive)
            self._alive.append(number)
            heapq.heappush(self._queues[2 * symbol + side], (-price if side == e.BUY else price) << _STAMP_BITS | stamp)

    def _remove(self, number: int) -> None:
        self._stamp[number] = -1
        last = self._alive.pop()
        if last != number:
            place = self._place[number]
            self._alive[place] = last
            self._place[last] = place

    def _best(self, symbol: int, side: int) -> int | None:
        queue = self._queues[2 * symbol + side]
        while queue:
            stamp = queue[0] & _STAMP_MASK
            number = self._owner[stamp]
            if self._stamp[number] == stamp:
                return number
            heapq.heappop(queue)
        return None


def check(series: Series, events: np.ndarray, what: str) -> None:
    """BenchFailedError where the events of a series are not what was foretold."""
    refused = events[events["kind"] == e.EV_REJECTED]
    if len(refused):
        raise BenchFailedError(f"{what}: the book refused slot {refused[0]['seq']} with reason {refused[0]['reason']}")
    makers = events["order_id"][events["kind"] == e.EV_FILL]
    if not np.array_equal(makers, series.makers):
        at = int(np.argmax(makers[: len(series.makers)] != series.makers[: len(makers)]))
        raise BenchFailedError(
            f"{what}: {len(makers)} fills of {len(series.makers)}; the first other one is number {at}"
        )


def calm(count: int) -> Iterable[int]:
    """A mid price that stays."""
    return (MID_TICKS for _ in range(count))


def swing(count: int) -> Iterable[int]:
    """Down by 40 % and up again, evenly."""
    return (int(MID_TICKS * (1 - 0.4 * (1 - abs(2 * k / count - 1)))) for k in range(count))


def crash(count: int) -> Iterable[int]:
    """Calm for half of the commands, down by 60 % within a fiftieth of them, up again by half of that, and calm."""
    begin, fall = count // 2, max(1, count // 50)

    def mid(k: int) -> float:
        if k < begin:
            return 1.0
        if k < begin + fall:
            return 1 - 0.6 * (k - begin) / fall
        return min(0.7, 0.4 + 0.3 * (k - begin - fall) / fall)

    return (int(MID_TICKS * mid(k)) for k in range(count))


PATHS: Final[dict[str, Callable[[int], Iterable[int]]]] = {"calm": calm, "swing_40": swing, "flash_crash": crash}
