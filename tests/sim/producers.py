"""Producers: gateways, whose memory dies with them, and an office that records each command before it sends it."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from gateway import admission
from gateway.control.core import Answer, ControlCore
from gateway.control.engine_view import RiskView
from gateway.control.names import NameBook
from gateway.lane import ProducerLane
from gateway.outcomes import OutcomeFollower
from protocol import board as b
from protocol import build
from protocol import enums as e
from ringbuf.atomics import load_acquire
from ringbuf.ring import Ring, publish, published, room
from tests.sim.traffic import Clients, Office, Requests, opening

if TYPE_CHECKING:
    from tests.sim.world import World

_CANCELS = (e.CANCEL, e.CANCEL_ALL)


class Producer(ABC):
    """One source: its ingress ring and its place on the outcome ring. One life lasts from attaching to ``die``.

    ``thorough``: it wants all that concerns its orders, whoever caused it; else the answers to its own commands will do.
    """

    def __init__(self, world: "World", source: int, *, thorough: bool) -> None:
        self.world = world
        self.source = source
        self.thorough = thorough
        self.told_seq = 0
        self.alive = False
        self.life = 0
        self.pending: dict[int, int] = {}
        """Commands of this life whose last outcome was not told: number to the settled cursor when it was sent."""
        self.follower: OutcomeFollower | None = None
        self.ring: Ring
        self.whole = True
        """No outcome was missed in this life."""

    def die(self) -> None:
        """End this life: everything that is not in shared memory or on the disk is lost."""
        self.alive = False
        self.pending = {}
        self.follower = None

    def step(self, budget: int) -> int:
        """Attach, or look at the epoch, tell clients what may be told, and send; returns the work done."""
        if not self.alive:
            return self._attach()
        work = self._enter_epoch() + self._follow()
        return work + self.send(budget)

    @abstractmethod
    def send(self, budget: int) -> int:
        """Send up to so many groups."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether nothing is left to send and nothing waits for its answer."""

    def _attach(self) -> int:
        ring = self.world.ingress.get(self.source)
        if ring is None:
            return 0
        self.ring = ring
        self.alive = True
        self.life += 1
        self.whole = True
        self.told_seq = int(load_acquire(self.world.board, b.SETTLED_SEQ))
        if self.life > 1:
            self.world.walk("producer: attached to the ring of a dead one")
        return 1

    def _enter_epoch(self) -> int:
        board = self.world.board
        epoch = int(load_acquire(board, b.EPOCH))
        if epoch == 0 or (self.follower is not None and self.follower.epoch == epoch):
            return 0
        if load_acquire(board, b.ENGINE_STATE) != b.ENGINE_RUNNING:
            return 0
        ring = self.world.outcome_ring(epoch)
        if ring is None:
            return 0
        if self.follower is None:
            self.follower = OutcomeFollower(ring, board, self.source, epoch)
            return 1
        if self.follower.held:
            self.world.walk("gateway: held outcomes dropped at a new epoch")
        recovered = int(load_acquire(board, b.RECOVERED_SEQ))
        outstanding = self.outstanding
        if not self.follower.change_epoch(ring, epoch, recovered, self._needed_seq()):
            self._give_up()
        elif outstanding:
            self.world.walk("gateway: goes on over a new epoch with answers outstanding")
        return 1

    @property
    def outstanding(self) -> int:
        """Commands without an answer."""
        return len(self.pending)

    def _needed_seq(self) -> int:
        """Outcomes of commands after this one are waited for."""
        needed = min(self.pending.values(), default=(1 << 63) - 1)
        return min(needed, self.told_seq) if self.thorough else needed

    def _follow(self) -> int:
        if self.follower is None:
            return 0
        released = self.follower.poll()
        outcomes = released.outcomes
        if len(outcomes):
            self.world.judge.told(self, outcomes)
            self.told_seq = int(outcomes["seq"][-1])
            self._take(outcomes)
        if released.lost:
            self._give_up()
        return len(outcomes)

    def _take(self, outcomes: np.ndarray) -> None:
        """Tell clients."""
        for outcome in outcomes[(outcomes["flags"] & e.OUTCOME_LAST) != 0]:
            if outcome["source"] == self.source and self.pending.pop(int(outcome["source_seq"]), None) is not None:
                self.world.judge.answered(self, int(outcome["seq"]))

    def _give_up(self) -> None:
        """Answer everything that waits with "unknown"."""
        self.world.walk("gateway: lapped, outcomes unknown")
        self.whole = False
        self.pending = {}

    def _publish(self, group: np.ndarray, number: int) -> bool:
        """Put a numbered group into the ring, for which there is room; False where the producer died before it was published."""
        mask = len(self.ring.slots) - 1
        for k, slot in enumerate(group):
            self.ring.slots[(number + k - 1) & mask] = slot
        if self.world.chance(self.world.rates.half_written):
            self.world.walk("producer: dies between writing and publishing")
            self.die()
            return False
        self.world.judge.sent(self.source, number, group)
        publish(self.ring, number + len(group) - 1)
        return True


class Gateway(Producer):
    """Sends what clients want as long as the engine runs; refuses what does not fit before it is numbered."""

    lane: ProducerLane

    def __init__(self, world: "World", source: int, quota: int, *, thorough: bool) -> None:
        super().__init__(world, source, thorough=thorough)
        self.clients = Clients(world.random, world.group_max)
        self.quota = quota

    def send(self, budget: int) -> int:
        """Send up to so many groups."""
        sent = 0
        if self.follower is None or not self.world.office.opened:
            return 0
        while sent < min(budget, 8) and self.quota > 0 and self.alive:
            if self.follower.durable_seq() < 0:
                self.world.walk("gateway: refused, the engine is down")
                return sent
            group = self.clients.next(self.world.clocks.realtime_now_ns)
            kind = int(group[0]["type"])
            if kind not in _CANCELS and load_acquire(self.world.board, b.JOURNAL_SPACE):
                self.world.walk("gateway: refused, no space for the journal")
                break
            if self._overloaded(kind, len(group)):
                break
            self.quota -= 1
            if kind in _CANCELS and load_acquire(self.world.board, b.JOURNAL_SPACE):
                self.world.walk("gateway: cancel passes while the journal has no space")
            number = self.lane.next_number
            build.stamp(group, self.source, number)
            settled = int(load_acquire(self.world.board, b.SETTLED_SEQ))
            if self._publish(group, number):
                self.clients.sent(group)
                self.pending[number] = settled
                sent += 1
        return sent

    def _overloaded(self, kind: int, slots: int) -> bool:
        """Whether a command may not be numbered because of what is before it."""
        urgency = admission.kind_of(kind, 0)
        if self.lane.late(urgency, self.world.clocks.monotonic_now_ns):
            self.world.walk("gateway: refused, the queue is too long")
            return True
        if self.lane.full(urgency, slots):
            urgent = urgency is admission.Kind.URGENT
            self.world.walk(f"gateway: {'cancel ' if urgent else ''}refused, ingress ring full")
            return True
        return False

    @property
    def done(self) -> bool:
        """Whether nothing is left to send and nothing waits for its answer."""
        return self.quota == 0 and not self.pending and self.alive

    def _attach(self) -> int:
        attached = super()._attach()
        if attached:
            self.lane = ProducerLane(self.ring, self.world.board, self.source, self.world.config.overload)
        return attached


class ControlGateway(Producer):
    """The control gateway's own core, without its socket: requests in, replies out."""

    core: ControlCore

    def __init__(self, world: "World", source: int, quota: int) -> None:
        super().__init__(world, source, thorough=False)
        self.quota = quota
        self._requests = Requests(world.random, source)
        self._viewed_epoch = 0

    def send(self, budget: int) -> int:
        """Make up to so many requests."""
        world, core = self.world, self.core
        sent = 0
        while sent < min(budget, 4) and self.quota > 0 and self.follower is not None and world.office.opened:
            request = self._requests.next(world.clocks.realtime_now_ns)
            before = int(published(self.ring))
            reply = core.submit(1, request, world.clocks.monotonic_now_ns, world.clocks.realtime_now_ns)
            number = int(published(self.ring))
            if number > before:
                rows = np.arange(before, number) & (len(self.ring.slots) - 1)
                world.judge.sent(self.source, before + 1, self.ring.slots[rows])
                self._requests.numbered(request, before + 1)
            if reply is not None and reply.error is not None:
                world.walk(f"control: refused, {reply.error.name}")
                if reply.error.name in ("BUSY", "OVERLOADED", "ENGINE_DOWN"):
                    break
            self.quota -= 1
            sent += 1
        self._replied(core.take_durable(self.follower.durable_seq()) if self.follower is not None else [])
        return sent

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask and nothing waits for its reply."""
        return self.alive and self.quota == 0 and self.core.waiting == 0

    @property
    def outstanding(self) -> int:
        """Commands without a reply."""
        return self.core.commands_waiting

    def _attach(self) -> int:
        attached = super()._attach()
        if attached:
            self.core = ControlCore(
                self.ring,
                self.world.board,
                self.world.config.limits,
                NameBook(),
                source=self.source,
                overload=self.world.config.overload,
            )
            self._viewed_epoch = 0
        return attached

    def _enter_epoch(self) -> int:
        work = super()._enter_epoch()
        if self.follower is not None and self._viewed_epoch != self.follower.epoch and self.world.parts is not None:
            self._viewed_epoch = self.follower.epoch
            self._replied(self.core.change_epoch(RiskView(self.world.parts.risk, self.world.board)))
        return work

    def _needed_seq(self) -> int:
        return self.core.needed_seq

    def _take(self, outcomes: np.ndarray) -> None:
        self._replied(self.core.take(outcomes, self.world.clocks.monotonic_now_ns))

    def _give_up(self) -> None:
        super()._give_up()
        for answer in self.core.give_up(self.world.clocks.monotonic_now_ns):
            self.world.walk(f"control: {answer.reply.error.name if answer.reply.error else 'answered'}")

    def _replied(self, answers: list[Answer]) -> None:
        for answer in answers:
            self.world.judge.replied(msgspec.to_builtins(answer.reply))


class BackOffice(Producer):
    """A producer with durable effects: a command takes its number in the transaction that records its cause, and is sent later."""

    def __init__(self, world: "World", source: int, commands: int) -> None:
        super().__init__(world, source, thorough=True)
        groups = opening(world.random)
        self._opening = sum(len(group) for group in groups)
        self.log: list[np.ndarray] = []
        """The recorded groups, numbered; survives everything."""
        self._first: dict[int, int] = {}
        self._next = 1
        office = Office(world.random, source)
        for group in groups:
            self._record(group)
        for _ in range(commands):
            self._record(office.next(self._next))

    @property
    def opened(self) -> bool:
        """Whether everything that the market needs was sent."""
        return self.alive and int(published(self.ring)) >= self._opening

    def send(self, budget: int) -> int:
        """Send on from what the ring, and with it the journal, already has."""
        sent = 0
        while sent < budget and self.alive:
            number = int(published(self.ring)) + 1
            row = self._first.get(number)
            if row is None:
                assert number == self._next, (
                    f"source {self.source}: number {number} stands within a group of the record"
                )
                break
            group = self.log[row]
            if room(self.ring, len(group)) < len(group):
                self.world.walk("office: waits, ingress ring full")
                break
            sent += self._publish(group, number)
        return sent

    @property
    def done(self) -> bool:
        """Whether the whole record was sent."""
        return self.alive and int(published(self.ring)) == self._next - 1

    def _record(self, group: np.ndarray) -> None:
        build.stamp(group, self.source, self._next)
        self._first[self._next] = len(self.log)
        self.log.append(group)
        self._next += len(group)
