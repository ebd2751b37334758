"""The bots' loop over real rings in shared memory; the engine is stepped wherever the bots would sleep."""

import os
import shutil
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from cambist.demo import counters, plan
from cambist.demo.bots import Bots
from cambist.demo.link import Link
from cambist.demo.setup import Demo
from cambist.demo.strategy import State
from protocol import board as words
from protocol import enums as e
from protocol.instance import Context
from protocol.readers import INGRESS_SEQUENCER, ready_word
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA, command_slots
from ringbuf import BoardFile, RingFile, advance, claim_line, published, reader_cursor
from tests.demo.market import ACCOUNTS, ASSETS, ENGINE, MARKETS, Exchange, house_holdings

ORDERS_PER_S = 400
LATER_SEQ = 1 << 40
"""After every command of these tests."""


class Host:
    """Board, rings and engine of an instance that exists for one test, in this process alone."""

    def __init__(self) -> None:
        self.context = Context(
            home="/nowhere",
            instance=f"test-demo-{os.getpid()}",
            epoch=1,
            line=words.LINE_BOTS,
            engine=ENGINE,
            options={"seed": "3", "orders_per_s": str(ORDERS_PER_S)},
        )
        self.context.shared.mkdir(mode=0o700)
        self.board = BoardFile.create(self.context.shared, words.LINES).board
        claim_line(self.board, words.LINE_BOTS)
        size = ENGINE.rings.ingress
        path = self.context.ingress(e.SOURCE_BOTS)
        ingress = RingFile.create(path, COMMAND_DTYPE, size, COMMAND_SCHEMA, 0, 0, self.board)
        ingress.add_reader(True, reader=INGRESS_SEQUENCER)
        self.ingress = ingress.ring
        self.stalled = False
        self.exchange: Exchange
        self.begin_epoch(1)

    def begin_epoch(self, epoch: int, start: int = 0) -> None:
        """An engine that knows nothing of the bots; with ``start`` its outcome ring begins after what they have seen."""
        seq = self.exchange.engine.last_seq if start else 0
        context = msgspec.structs.replace(self.context, epoch=epoch)
        context.epoch_dir.mkdir()
        size = ENGINE.rings.outcome
        file = RingFile.create(context.outcome_ring, OUTCOME_DTYPE, size, OUTCOME_SCHEMA, epoch, start, self.board)
        self.exchange = Exchange(file.ring)
        if start:
            self.exchange.sequence(command_slots(seq))
            file.ring.slots["seq"][start] = LATER_SEQ
        advance(self.ingress, INGRESS_SEQUENCER, int(published(self.ingress)))
        self.board[words.RECOVERED_SEQ] = LATER_SEQ
        self.board[words.DURABLE_SEQ] = self.exchange.engine.last_seq
        self.board[words.EPOCH] = epoch
        self.board[words.ENGINE_STATE] = words.ENGINE_RUNNING

    def step(self) -> int:
        """Settle what the bots have published, and say that it is durable; gives how many commands."""
        first, last = int(reader_cursor(self.ingress, INGRESS_SEQUENCER)), int(published(self.ingress))
        if first == last or self.stalled:
            return 0
        self.exchange.sequence(self.ingress.slots[np.arange(first, last) & (len(self.ingress.slots) - 1)])
        for word in (words.SEQUENCED_SEQ, words.SETTLED_SEQ, words.DURABLE_SEQ):
            self.board[word] = self.exchange.engine.last_seq
        self.board[words.LANE_SEQUENCED + e.SOURCE_BOTS] = last
        advance(self.ingress, INGRESS_SEQUENCER, last)
        return last - first


class Run:
    """Bots on a host, until ``turns`` sleeps are over; ``at`` says what else happens at which of them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.turn = 0
        self.turns = 0
        self.link = Link(host.context, host.board)
        self.link.wait = self.sleep  # type: ignore[method-assign]
        self.asked = 0
        self.ready_at = 0
        self.waiting_max = 0
        demo = Demo(ASSETS, MARKETS, ACCOUNTS, {})
        self.bots = Bots(host.context, host.board, self.link, demo, self.stopping, self.holdings)

    def stopping(self) -> bool:
        return self.turn >= self.turns or self.link.stopping()

    def holdings(self) -> dict[int, dict[int, int]]:
        self.asked += 1
        return {
            account: {asset: self.host.exchange.balance(account, asset) for asset in held}
            for account, held in house_holdings().items()
        }

    def sleep(self, end_ns: int) -> None:
        self.turn += 1
        self.waiting_max = max(self.waiting_max, self.link.waiting)
        if self.host.step() == 0 and not self.link.waiting:
            # Nobody else shares this thread: time may pass.
            while end_ns > _now_ns():
                pass
        ready = int(self.host.board[ready_word(words.LINE_BOTS)])
        if ready and not self.ready_at:
            self.ready_at = self.turn
        self.at()

    def at(self) -> None:
        """What a test lets happen."""

    def run(self, turns: int) -> None:
        self.turns = self.turn + turns
        self.bots.run()

    @property
    def live(self) -> int:
        return sum(quote.state is State.LIVE for quote in self.bots._desk.quotes)


def _now_ns() -> int:
    from time import monotonic_ns

    return monotonic_ns()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    shutil.rmtree(host.context.shared)


def test_bots_quote_are_ready_trade_and_leave_no_order_behind(host: Host) -> None:
    run = Run(host)
    run.run(120)
    assert host.board[ready_word(words.LINE_BOTS)] == os.getpid()
    assert run.ready_at < 10
    assert host.board[counters.ORDERS_PER_S] > 0.5 * ORDERS_PER_S
    assert host.board[counters.FILLS_PER_S] > 0
    assert 0 < host.board[counters.ACK_P50_NS] <= host.board[counters.ACK_P99_NS]
    assert run.live > 40
    host.step()
    assert np.all(host.exchange.activity == 0), "a stop in order cancels every quote"


def test_orders_of_a_former_life_are_cancelled_before_new_ones_are_sent(host: Host) -> None:
    first = Run(host)
    first.run(10)
    # Its last words were lost: it did not stop in order.
    advance(host.ingress, INGRESS_SEQUENCER, int(published(host.ingress)))
    second = Run(host)
    second.run(3)
    host.step()
    account = ACCOUNTS[plan.MAKERS[0].name]
    mine = sum(quote.order_id != 0 and quote.account == account for quote in second.bots._desk.quotes)
    assert mine <= len(second.bots._desk.quotes) // 3
    assert host.exchange.activity[account] == 0


def test_bots_that_missed_outcomes_over_an_epoch_quote_anew_and_ask_for_their_holdings(host: Host) -> None:
    run = Run(host)

    def at() -> None:
        if run.turn == 40:
            host.board[words.ENGINE_STATE] = words.ENGINE_FAILED
            host.stalled = True
        if run.turn == 45:
            host.stalled = False
            host.begin_epoch(2, start=7)

    run.at = at  # type: ignore[method-assign]
    run.run(100)
    assert run.asked == 2
    assert host.board[counters.RESTARTS] >= 1
    assert run.live > 40


def test_engine_that_stands_still_is_not_flooded(host: Host) -> None:
    run = Run(host)

    def at() -> None:
        host.stalled = 20 <= run.turn < 60
        if run.turn == 59:
            assert int(published(host.ingress)) - int(reader_cursor(host.ingress, INGRESS_SEQUENCER)) <= (
                len(host.ingress.slots) // 2
            )

    run.at = at  # type: ignore[method-assign]
    run.run(90)
    assert run.asked == 1
    assert run.waiting_max <= len(host.ingress.slots) // 2
    assert run.live > 40


def test_lapped_bots_begin_again(host: Host) -> None:
    run = Run(host)

    def at() -> None:
        if run.turn == 40:
            follower = run.link._follower
            assert follower is not None
            follower._position -= len(follower.ring.slots) + 1

    run.at = at  # type: ignore[method-assign]
    run.run(100)
    assert run.asked == 2
    assert run.live > 40


def test_full_disk_and_stop_of_the_board_are_heeded(host: Host) -> None:
    run = Run(host)

    def at() -> None:
        if run.turn == 30:
            host.board[words.JOURNAL_SPACE] = 1
        if run.turn == 34:
            run.published = int(published(host.ingress))  # type: ignore[attr-defined]
        if run.turn == 40:
            host.board[words.STOP] = 2

    run.at = at  # type: ignore[method-assign]
    run.run(1000)
    assert run.turn == 40
    assert run.published == int(published(host.ingress))  # type: ignore[attr-defined]
