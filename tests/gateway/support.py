"""An exchange made of arrays: real rings and a real board, outcomes fed by hand, tables that a test fills."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from gateway.access.groups import Groups
from gateway.control.core import ControlCore
from gateway.control.messages import ARGS, Reply, Request
from gateway.control.names import NameBook
from gateway.control.view import (
    AccountRow,
    AssetRow,
    Balance,
    FeeTables,
    InstrumentRow,
    Level,
    LimitRow,
    OpenOrder,
    Volume,
)
from gateway.outcomes import OutcomeFollower
from protocol import board as lines
from protocol import enums as e
from protocol.instance import Limits, Overload
from protocol.instruments import Asset, Instrument
from protocol.records import COMMAND_DTYPE, OUTCOME_DTYPE
from ringbuf import Ring, claim, private_ring, publish, published

USDT = Asset(1, "USDT", 8)
BTC = Asset(2, "BTC", 8)
RULE = Overload()
BTCUSDT = Instrument(1, "BTCUSDT", BTC, USDT, tick_e8=1_000_000, lot_atoms=1_000)


class FakeView:
    """Tables as a test sets them."""

    def __init__(self) -> None:
        self.asset_rows = [AssetRow(USDT, 1), AssetRow(BTC, 3)]
        self.instrument_rows = [InstrumentRow(BTCUSDT, e.INSTRUMENT_OPEN, 10_000, 5)]
        self.account_rows = {7: AccountRow(7, e.ACCOUNT_OPEN, 8)}
        self.balance_rows = {7: {1: Balance(500_000_000, 0, 9)}}
        self.orders: list[OpenOrder] = []
        self.group_rows: dict[int, Groups] = {}
        self.active: set[int] = set()
        self.seq = 20

    def assets(self) -> list[AssetRow]:
        return self.asset_rows

    def instruments(self) -> list[InstrumentRow]:
        return self.instrument_rows

    def venue_state(self) -> int:
        return e.VENUE_OPEN

    def account(self, account: int) -> AccountRow:
        return self.account_rows.get(account, AccountRow(account, e.ACCOUNT_NONE, 0))

    def accounts(self) -> list[AccountRow]:
        return [self.account_rows[number] for number in sorted(self.account_rows)]

    def balances(self, account: int) -> dict[int, Balance]:
        return self.balance_rows.get(account, {})

    def open_orders(self, account: int | None, instrument: int | None) -> tuple[list[OpenOrder], int]:
        found = [o for o in self.orders if account in {None, o.account} and instrument in {None, o.instrument}]
        return found, self.seq

    def book(self, instrument: int, levels: int) -> tuple[list[Level], list[Level], int]:
        assert instrument == BTCUSDT.index
        return [Level(9_999, 5, 1)][:levels], [Level(10_001, 7, 2)][:levels], self.seq

    def fees(self) -> FeeTables:
        return FeeTables([], [], {1: 100_000_000}, {}, self.seq)

    def groups(self, account: int) -> Groups:
        return self.group_rows.get(account, Groups(0, account % 2, 0))

    def is_active(self, account: int) -> bool:
        return account in self.active

    def volume(self, master: int) -> Volume:
        return Volume(master, 0)

    def limits(self) -> tuple[list[LimitRow], int]:
        return [], self.seq


def running_board(epoch: int = 1) -> np.ndarray:
    """A board of an engine that runs."""
    board = np.zeros(lines.LINES * lines.LINE_WORDS, dtype=np.int64)
    board[lines.EPOCH] = epoch
    board[lines.ENGINE_STATE] = lines.ENGINE_RUNNING
    return board


def outcome(seq: int, index: int = 0, kind: int = e.OUT_ADMIN, **fields: int) -> np.ndarray:
    """One outcome; of the control gateway's command ``source_seq`` unless said otherwise."""
    row = np.zeros(1, dtype=OUTCOME_DTYPE)
    row["seq"], row["index"], row["kind"], row["source"] = seq, index, kind, e.SOURCE_CONTROL
    for name, value in fields.items():
        row[name] = value
    return row


def feed(ring: Ring, *rows: np.ndarray) -> None:
    """Publish outcomes as risk does."""
    for row in rows:
        position = int(published(ring)) + 1
        claim(ring, position)
        ring.slots[(position - 1) & (len(ring.slots) - 1)] = row[0]
        publish(ring, position)


def request(op: str, args: dict[str, Any] | None = None, number: int = 1) -> Request:
    """A request whose form is right."""
    return Request(number, op, msgspec.convert(args or {}, ARGS[op]), "ann", "test")


class Exchange:
    """A control core with its rings; the test is the engine."""

    def __init__(self, ingress: int = 64, outcomes: int = 256, overload: Overload = RULE) -> None:
        self.board = running_board()
        self.ingress = private_ring(COMMAND_DTYPE, ingress)
        self.outcomes = private_ring(OUTCOME_DTYPE, outcomes, 1, gating=False)
        self.view = FakeView()
        self.names = NameBook()
        limits = Limits(accounts=1000)
        self.core = ControlCore(self.ingress, self.board, limits, self.names, view=self.view, overload=overload)
        self.follower = OutcomeFollower(self.outcomes, self.board, e.SOURCE_CONTROL, 1)
        self.now_ns = 1000

    def submit(self, op: str, args: dict[str, Any] | None = None, number: int = 1, peer: int = 1) -> Reply | None:
        return self.core.submit(peer, request(op, args, number), self.now_ns, 1_700_000_000_000_000_000)

    def engine_takes(self, settled: int = 0, settle_ns: int = 0) -> None:
        """The sequencer has all that is published, and risk has settled ``settled`` slots of it, each in ``settle_ns``."""
        last = int(published(self.ingress))
        self.board[lines.SEQUENCED_SEQ] = self.board[lines.LANE_SEQUENCED + e.SOURCE_CONTROL] = last
        self.board[lines.SETTLED_SEQ] = settled
        self.board[lines.SETTLE_NS] = settle_ns

    def refused(self, op: str, args: dict[str, Any] | None = None) -> str:
        """Name of the reason for which a request gets no number."""
        before = int(published(self.ingress))
        reply = self.submit(op, args)
        assert reply is not None
        assert reply.error is not None
        assert before == int(published(self.ingress))
        return reply.error.name

    def group(self) -> np.ndarray:
        """The last published group."""
        last = int(published(self.ingress))
        rows = [self.ingress.slots[(last - 1) & (len(self.ingress.slots) - 1)]]
        while last > 1 and self.ingress.slots[(last - 2) & (len(self.ingress.slots) - 1)]["flags"] & e.FLAG_MORE:
            last -= 1
            rows.insert(0, self.ingress.slots[(last - 1) & (len(self.ingress.slots) - 1)])
        return np.array(rows, dtype=COMMAND_DTYPE)

    def feed(self, *rows: np.ndarray) -> None:
        feed(self.outcomes, *rows)

    def replies(self) -> list[Reply]:
        """What the core answers after a poll."""
        self.now_ns += 500
        released = self.follower.poll()
        answers = self.core.take(released.outcomes, self.now_ns)
        if released.lost:
            answers += self.core.give_up(self.now_ns)
        answers += self.core.take_durable(self.follower.durable_seq())
        return [answer.reply for answer in answers]
