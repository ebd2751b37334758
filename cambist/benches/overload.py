"""What an overload does to those who want to get out: time of a cancel, with the matcher far too slow for the orders.

The matcher is slowed by a test setting, what it can do is measured, and many connections to the control gateway then
offer orders in an open loop (times planned ahead, at random, and latency counted from the planned time): a fourth of
what the matcher can do, which with a cancel for each order is half load, and twenty times of it. Every order that got
into the book is cancelled, at a time drawn when its answer has come. A cancel's time ends with the last outcome, after
the journal; the bench fails if one is refused. The limit of the overloaded case is the p99 of half load in the same run.
Not measured: networks, clients that retry.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import statistics
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec
import uvloop

from cambist.benches import live
from cambist.benches.rows import BenchFailedError, Row, Task, histogram, percentiles_of, row
from cambist.boardview import BoardView
from cambist.home import Home
from cambist.launch import Launched
from gateway.control.client import ControlClient
from protocol import board as b

DELAY_US: Final = 10_000
"""What the matcher takes for a slot; an order of the control gateway has two."""
_SLOTS: Final = 2
OVERLOAD: Final = 20
_CONNECTIONS: Final = 16
_ACCOUNTS: Final = 8
_REST_S: Final = (0.05, 0.5)
"""How long an order rests until it is cancelled."""
_NAP_S: Final = 0.001
_ANSWERS_S: Final = 30.0
_NS: Final = 1e9
_P99: Final = 99.0
_ORDER: Final = {"instrument": "COINUSD", "side": "buy", "price": "1", "qty": "1"}


class Heard(NamedTuple):
    """What became of the requests of one phase."""

    cancels_ns: list[int]
    accepted: int
    refused: dict[str, int]
    seconds: float


class _Peer(asyncio.Protocol):
    """One connection: gives every reply to its traders."""

    def __init__(self, traders: Traders) -> None:
        self._traders = traders
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._traders.hear(msgspec.json.decode(line))


class Traders:
    """Many connections that send at planned times, whatever the answers say.

    Parameters
    ----------
    path : Path
        Control socket.
    accounts : list of int
        Funded accounts.
    seed : int
        Of all that is drawn.
    """

    def __init__(self, path: Path, accounts: list[int], seed: int) -> None:
        self._path = path
        self._accounts = accounts
        self._random = random.Random(seed)  # noqa: S311 - chance for a load, not a secret
        self._transports: list[asyncio.WriteTransport] = []
        self._asked: dict[int, tuple[str, int, int]] = {}
        self._number = 0
        self._cancels: list[tuple[int, int, int]] = []
        self._cancels_ns: list[int] = []
        self._accepted = 0
        self._refused: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for _ in range(_CONNECTIONS):
            transport, _ = await loop.create_unix_connection(lambda: _Peer(self), str(self._path))
            self._transports.append(transport)
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in self._transports:
            transport.close()
        await asyncio.sleep(_NAP_S)

    async def trade(self, orders_per_s: float, seconds: float) -> Heard:
        """Offer orders for a while, cancel those that rest, and wait for all answers."""
        self._cancels_ns, self._accepted, self._refused = [], 0, {}
        began_ns = time.monotonic_ns()
        end_ns = began_ns + int(seconds * _NS)
        next_ns = began_ns
        while (now_ns := time.monotonic_ns()) < end_ns:
            while next_ns <= now_ns:
                account = self._random.choice(self._accounts)
                self._send("order", next_ns, account, {"account": account, **_ORDER})
                next_ns += int(self._random.expovariate(orders_per_s) * _NS)
            self._send_cancels(now_ns)
            due_ns = min(next_ns, end_ns, self._cancels[0][0] if self._cancels else end_ns)
            # Shorter than an order rests: what is heard meanwhile falls due after this sleep.
            await asyncio.sleep(min(max(_NAP_S, (due_ns - time.monotonic_ns()) / _NS), _REST_S[0] / 2))
        traded_s = (time.monotonic_ns() - began_ns) / _NS
        patience_ns = time.monotonic_ns() + int(_ANSWERS_S * _NS)
        while self._asked or self._cancels:
            self._send_cancels(time.monotonic_ns())
            await asyncio.sleep(_NAP_S)
            if time.monotonic_ns() > patience_ns:
                raise BenchFailedError(f"{len(self._asked)} requests have no answer after {_ANSWERS_S:.0f} s")
        return Heard(self._cancels_ns, self._accepted, self._refused, traded_s)

    def hear(self, reply: dict[str, Any]) -> None:
        """Take a reply. Raises nothing: a refused cancel is counted under its name."""
        op, planned_ns, account = self._asked.pop(reply["id"])
        now_ns = time.monotonic_ns()
        if op == "cancel":
            self._cancels_ns.append(now_ns - planned_ns)
        if not reply["ok"]:
            name = f"{op} {reply['error']['name']}"
            self._refused[name] = self._refused.get(name, 0) + 1
        elif op == "order":
            self._accepted += 1
            due_ns = now_ns + int(self._random.uniform(*_REST_S) * _NS)
            heapq.heappush(self._cancels, (due_ns, account, reply["result"]["order_id"]))

    def _send_cancels(self, now_ns: int) -> None:
        while self._cancels and self._cancels[0][0] <= now_ns:
            due_ns, account, order_id = heapq.heappop(self._cancels)
            args = {"account": account, "order_id": order_id, "instrument": _ORDER["instrument"]}
            self._send("cancel", due_ns, account, args)

    def _send(self, op: str, planned_ns: int, account: int, args: dict[str, Any]) -> None:
        self._number += 1
        self._asked[self._number] = op, planned_ns, account
        request = {"id": self._number, "op": op, "args": args, "operator": "bench"}
        self._transports[self._number % _CONNECTIONS].write(msgspec.json.encode(request) + b"\n")


def run(task: Task) -> list[Row]:
    """Rows of cancels at half load and in overload."""
    home = Home(task.directory / "o")
    configured = {
        "test.matcher_delay_us": DELAY_US,
        "replica.enabled": False,
        "postgres.enabled": False,
        "tables.accounts": 64,
    }
    found: list[tuple[Heard, Heard]] = []
    cpu_s: tuple[list[float], list[float]] = [], []
    with live.exchange(home.path, configured) as launched, BoardView(home.shared / "board") as board:
        socket = home.path / "run" / "control.sock"
        accounts = set_up(home.path)
        can = uvloop.run(_capacity(socket, accounts, board, task.sizes.overload_s))
        for number in range(task.runs):
            task.progress(
                f"overload run {number + 1} of {task.runs}: {can:.0f} commands a second, x0.5 and x{OVERLOAD}"
            )
            phases = []
            for orders_per_s, cpu in ((can / 4, cpu_s[0]), (can * OVERLOAD, cpu_s[1])):
                before = live.cpu_ns_of(launched)
                phases.append(uvloop.run(_phase(socket, accounts, orders_per_s, task.sizes.overload_s, number)))
                cpu.append(_cpu_s(launched, before))
            found.append((phases[0], phases[1]))
    return _rows(found, cpu_s, can)


def set_up(home: Path) -> list[int]:
    """List the market and fund the accounts; gives their numbers."""
    accounts = []
    with ControlClient(home, operator="bench") as client:
        for asset in ("USD", "COIN"):
            client.call("list_asset", {"symbol": asset}, "bench")
        market = {"symbol": "COINUSD", "base": "COIN", "quote": "USD", "tick_size": "0.01", "lot_size": "0.01"}
        client.call("list_instrument", market, "bench")
        for _ in range(_ACCOUNTS):
            account = client.call("create_account", {}, "bench")["account"]
            client.call("deposit", {"account": account, "asset": "USD", "amount": "1000000"}, "bench")
            accounts.append(int(account))
    return accounts


async def _phase(path: Path, accounts: list[int], orders_per_s: float, seconds: float, seed: int) -> Heard:
    async with Traders(path, accounts, seed) as traders:
        return await traders.trade(orders_per_s, seconds)


async def _capacity(path: Path, accounts: list[int], board: BoardView, seconds: float) -> float:
    """Commands a second that the slowed exchange settles while more than enough are offered."""
    nominal = 1e6 / DELAY_US / _SLOTS
    async with Traders(path, accounts, 0) as traders:
        await traders.trade(4 * nominal, 1.0)
        trading = asyncio.create_task(traders.trade(4 * nominal, seconds))
        await asyncio.sleep(seconds / 4)
        settled, began_s = board[b.SETTLED_SEQ], time.monotonic()
        await asyncio.sleep(seconds / 2)
        can = (board[b.SETTLED_SEQ] - settled) / _SLOTS / (time.monotonic() - began_s)
        await trading
    return can


def _cpu_s(launched: Launched, before: dict[str, int]) -> float:
    return sum(live.spent(before, live.cpu_ns_of(launched)).values()) / _NS


def _rows(found: list[tuple[Heard, Heard]], cpu_s: tuple[list[float], list[float]], can: float) -> list[Row]:
    rows: list[Row] = []
    half_p99s: list[float] = []
    for case, k in (("half_load", 0), (f"offered_x{OVERLOAD}", 1)):
        phases = [pair[k] for pair in found]
        for phase in phases:
            wrong = {name: count for name, count in phase.refused.items() if name != "order OVERLOADED"}
            if wrong or not phase.cancels_ns:
                raise BenchFailedError(f"{case}: {len(phase.cancels_ns)} cancels, and refused: {wrong}")
        p99s = [float(histogram(phase.cancels_ns).get_value_at_percentile(_P99)) for phase in phases]
        every = histogram(ns for phase in phases for ns in phase.cancels_ns)
        rows.append(
            row(
                "overload",
                f"cancel_{case}",
                "p99_ns",
                "ns",
                p99s,
                cpu_s[k],
                ("p99 of a cancel at half load, in the same runs", statistics.median(half_p99s)) if half_p99s else None,
                percentiles_of(every),
                settled_per_s=round(can),
                offered_per_s=round(can / 4 if k == 0 else can * OVERLOAD),
                orders_accepted=sum(phase.accepted for phase in phases),
                orders_refused=sum(sum(phase.refused.values()) for phase in phases),
                cancels=sum(len(phase.cancels_ns) for phase in phases),
                cancels_refused=0,
            )
        )
        half_p99s = p99s
    return rows
