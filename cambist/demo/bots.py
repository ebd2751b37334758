"""The process of the demo's bots: sets the demo up, then trades until told to stop.

One producer with an ingress ring of its own. Every few milliseconds it sends what the desk decides, a batch at a time,
and hears of it when it is durable. Before its first quotes and after outcomes were missed it cancels whatever its
accounts have in the books and reads their balances, so that it always knows its orders.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram

from cambist.demo import counters, people, plan, setup
from cambist.demo.link import Link, await_durable
from cambist.demo.setup import Demo
from cambist.demo.strategy import Book, Desk, Heard, Intent
from gateway.admission import Kind
from gateway.control.client import ControlClient, ControlError
from gateway.outcomes import OutcomeFollower
from persistence.postgres.database import dsn_of
from protocol import board as lines
from protocol import build
from protocol.enums import SOURCE_BOTS, SOURCE_CONTROL
from protocol.instance import Context
from protocol.readers import ready_word
from protocol.records import COMMAND_DTYPE, OUTCOME_DTYPE, command_slots
from ringbuf import BoardFile, claim_line, private_board, private_ring, publish, published, release_line, room
from ringbuf.atomics import load_acquire, store_release

PERIOD_NS: Final = 40_000_000
"""Between batches; what a stop may wait for."""
_SECOND_NS: Final = 1_000_000_000
_BURST_S: Final = 0.1
"""After a pause no more is made up for than this."""
_WAITING_MAX: Final = 4096
_PATIENCE_NS: Final = 10_000_000_000
_ANSWER_S: Final = 2.0
_LATENCY_MAX_US: Final = 60_000_000
_FIELDS: Final = list(Heard._fields)


def main(context: Context) -> int:
    """Trade (``options`` ``seed``, ``orders_per_s``, and ``socket`` where it is not in the home) until told to stop."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's, which stops all in order
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    try:
        link = Link(context, board)
        stopping = lambda: bool(stopped) or link.stopping()  # noqa: E731
        home, option = Path(context.home), context.options.get("socket", "")
        socket_path = Path(option) if option else home / "run" / "control.sock"
        demo = setup.prepare(home, socket_path, stopping, control=SOURCE_CONTROL in context.engine.sources)
        if demo is not None:
            configured = context.options.get("postgres")
            dsn = None if configured is None else dsn_of(home, configured)
            known = people.NOBODY
            if configured is not None:
                known = people.prepare(home, socket_path, demo.accounts, home / setup.FILE_NAME, stopping)
            setup.write(home, demo, socket_path, dsn, known)
            bots = Bots(context, board, link, demo, stopping, lambda: _holdings(home, socket_path, demo))
            bots.run()
    finally:
        release_line(board, context.line)
    return 0


def warm() -> None:
    """Compile or load every kernel that the process uses."""
    board = private_board(lines.LINES)
    commands, outcomes = private_ring(COMMAND_DTYPE, 8), private_ring(OUTCOME_DTYPE, 8, 1, gating=False)
    room(commands, 1)
    publish(commands, int(published(commands)))
    OutcomeFollower(outcomes, board, SOURCE_BOTS, 0).poll()
    await_durable(board, lines.LINE_BOTS, outcomes.words, -1, -1, 0)
    store_release(board, lines.STOP, load_acquire(board, lines.STOP))


class Bots:
    """The loop around the desk.

    Parameters
    ----------
    context : Context
        ``options`` has ``seed`` and ``orders_per_s``.
    board : np.ndarray
        int64 board.
    link : Link
    demo : Demo
        As set up.
    stopping : callable
        Whether to end.
    holdings : callable
        Reads what the bots' accounts have, by account and asset number; None when it cannot be had now.
    """

    def __init__(
        self,
        context: Context,
        board: np.ndarray,
        link: Link,
        demo: Demo,
        stopping: Callable[[], bool],
        holdings: Callable[[], dict[int, dict[int, int]] | None],
    ) -> None:
        self._board = board
        self._ready_word = ready_word(context.line)
        self._link = link
        self._stopping = stopping
        self._read_holdings = holdings
        self._rate = max(1, int(context.options["orders_per_s"]))
        makers = [demo.accounts[funding.name] for funding in plan.MAKERS]
        takers = [demo.accounts[funding.name] for funding in plan.TAKERS]
        self._accounts = makers + takers
        targets = {
            demo.assets[symbol].index: demo.assets[symbol].units(text)
            for symbol, text in plan.HOUSE[0].amounts.items()
            if symbol != plan.QUOTE
        }
        markets = [demo.markets[listing.symbol] for listing in plan.LIVELY]
        books = [Book(market.instrument, market.anchor_ticks, market.last_ticks) for market in markets]
        seed = int(context.options["seed"])
        nothing: dict[int, dict[int, int]] = {account: {} for account in self._accounts}
        self._desk = Desk(books, makers, takers, nothing, targets, SOURCE_BOTS, seed)
        self._second = Second(board)
        self._restarts = 0

    def run(self) -> None:
        """Trade until told to stop; then leave no quote behind."""
        while not self._stopping():
            if self._clean():
                self._trade()
                self._restarts += 1
                store_release(self._board, counters.RESTARTS, self._restarts)
        self._cancel_everything(last=True)

    def _clean(self) -> bool:
        """Know nothing but what the exchange says: no orders, and these holdings. False: to be tried again."""
        if not self._cancel_everything():
            self._link.follow()
            self._link.wait(time.monotonic_ns() + PERIOD_NS)
            return False
        if not self._await_answers():
            return False
        holdings = self._read_holdings()
        if holdings is None:
            return False
        self._desk.forget(holdings)
        self._link.latencies_ns.clear()
        return True

    def _cancel_everything(self, *, last: bool = False) -> bool:
        """Send a cancel-all for each account, if the engine takes it now."""
        self._link.follow()
        if not self._link.open_for(len(self._accounts), Kind.URGENT, last=last):
            return False
        self._link.send(np.concatenate([build.cancel_all(account=account) for account in self._accounts]))
        return True

    def _await_answers(self) -> bool:
        """Wait until all that was sent is answered, without hearing it; False when something was missed."""
        end_ns = time.monotonic_ns() + _PATIENCE_NS
        while self._link.waiting and not self._stopping() and time.monotonic_ns() < end_ns:
            self._link.wait(time.monotonic_ns() + PERIOD_NS)
            if self._link.follow().lost:
                return False
        return self._link.waiting == 0

    def _trade(self) -> None:
        """Send and hear until told to stop, or until outcomes were missed."""
        link, desk = self._link, self._desk
        credit = float(len(desk.quotes))  # all quotes at once to begin with
        ready = False
        now_ns = time.monotonic_ns()
        next_ns = now_ns
        while not self._stopping():
            if now_ns >= next_ns:
                dt_s = (now_ns - next_ns + PERIOD_NS) / _SECOND_NS
                next_ns = now_ns + PERIOD_NS
                credit = min(credit + dt_s * self._rate, max(credit, _BURST_S * self._rate, 1.0))
                if link.waiting < _WAITING_MAX and link.open_for(int(credit), Kind.ORDER):
                    credit -= self._send(int(credit), dt_s)
            link.wait(next_ns)
            released = link.follow()
            for row in released.outcomes[_FIELDS].tolist():
                desk.take(Heard(*row))
            if released.lost:
                return
            now_ns = time.monotonic_ns()
            self._second.tell(now_ns, link, desk)
            if not ready and link.waiting == 0:
                ready = True
                store_release(self._board, self._ready_word, os.getpid())

    def _send(self, count: int, dt_s: float) -> int:
        """Send up to ``count`` commands of the desk; gives ``count``, for what it does not want is not saved up."""
        intents = self._desk.decide(count, self._link.next_source_seq, dt_s)
        if intents:
            self._link.send(commands_of(intents))
            self._second.orders += len(intents)
        return count


class Second:
    """Counts what happened in the present second and tells the board at its end."""

    def __init__(self, board: np.ndarray) -> None:
        self.orders = 0
        self._board = board
        self._began_ns = time.monotonic_ns()
        self._fills = 0
        self._histogram = HdrHistogram(1, _LATENCY_MAX_US, 2)

    def tell(self, now_ns: int, link: Link, desk: Desk) -> None:
        """Take the latencies of ``link``; with a second over, write all counters."""
        for latency_ns in link.latencies_ns:
            self._histogram.record_value(min(latency_ns // 1000, _LATENCY_MAX_US))
        link.latencies_ns.clear()
        passed_ns = now_ns - self._began_ns
        if passed_ns < _SECOND_NS:
            return
        found = self._histogram.get_percentile_to_value_dict([50.0, 99.0]) if self._histogram.get_total_count() else {}
        self._histogram.reset()
        for word, value in (
            (counters.ORDERS_PER_S, self.orders * _SECOND_NS // passed_ns),
            (counters.FILLS_PER_S, (desk.fills - self._fills) * _SECOND_NS // passed_ns),
            (counters.ACK_P50_NS, int(found.get(50.0, 0)) * 1000),
            (counters.ACK_P99_NS, int(found.get(99.0, 0)) * 1000),
            (counters.REFUSALS, sum(desk.refusals.values())),
        ):
            store_release(self._board, word, value)
        self.orders, self._fills, self._began_ns = 0, desk.fills, now_ns


def commands_of(intents: Sequence[Intent]) -> np.ndarray:
    """Command slots of ``intents``, COMMAND[n], not numbered yet; the ids of new orders are given by their number."""
    group = command_slots(len(intents))
    for name, values in zip(Intent._fields, zip(*intents, strict=True), strict=True):
        group[name] = values
    return group


def _holdings(home: Path, socket_path: Path, demo: Demo) -> dict[int, dict[int, int]] | None:
    try:
        with ControlClient(home, operator=plan.OPERATOR, socket_path=socket_path, timeout_s=_ANSWER_S) as client:
            return {
                demo.accounts[funding.name]: {
                    demo.assets[symbol].index: units
                    for symbol, units in setup.balances(client, demo.assets, funding.name).items()
                    if symbol in demo.assets
                }
                for funding in plan.HOUSE
            }
    except ControlError:
        return None
