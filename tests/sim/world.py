"""One seed: a machine, an exchange on it and its producers, on one thread; chance decides who is stepped, what fails and when.

Phase one: anything may fail and nothing may be wrong. Phase two: all is healed and everything must finish. Then the judge
looks at everything. Each choice comes from one generator, so that a seed is one history, to the last hash.
"""

import contextlib
import hashlib
import io
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from persistence.checkpoints import CHECKPOINTS_FILE, Publishers
from persistence.journal import JournalFailed
from persistence.recovery import rebuild
from persistence.replica import Replica
from persistence.snapshots.keeper import Keeper
from protocol import board as b
from protocol import enums as e
from protocol.instance import Context, Engine, Limits, Overload, Rings
from protocol.readers import EXIT_EPOCH_USED, OUTCOME_COLLECTOR
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import private_board
from ringbuf.errors import RingMissingError
from ringbuf.ring import Ring, advance, published, reader_cursor
from risk import state as s
from tests.engine.driver import TINY
from tests.sim.audit import SimAudit
from tests.sim.disk import Crash, SimDisk
from tests.sim.files import WriterDies
from tests.sim.judge import Judge, Wrong
from tests.sim.parts import GROUP_MAX, Clocks, EngineParts, Memory, TinyEngine, ingress_ring
from tests.sim.producers import BackOffice, ControlGateway, Gateway, Producer
from tests.sim.snapshots import SimSnapshots
from tests.sim.traffic import ACCOUNTS, ASSETS, INSTRUMENTS

GATEWAYS = (e.SOURCE_REPLAY, e.SOURCE_BOTS)
OFFICE = e.SOURCE_FIRST_GATEWAY
START_NS = 1_700_000_000_000_000_000
SEGMENT_BYTES = 7 * 4096
"""The smallest: the header, and five batches more than the largest group takes."""
WEIGHTS = (0, 0, 1, 1, 4, 20)
BUDGETS = (1, 1, 2, 3, 8, 50, 1000)
PICKS_AT_ONCE = 40
_CALM_ROUNDS_MAX = 3_000
_SPACE_AGAIN = 0.02
_NAPS_NS = (0, 1_000, 100_000, 5_000_000, 200_000_000)


class StandsStill(Wrong):
    """Healed, and yet it does not finish."""


@dataclass
class Rates:
    """Chances: of the first seven after each step, of the others where their kind of step is taken."""

    engine_crash: float = 0.0
    stage_death: float = 0.0
    gateway_death: float = 0.0
    all_killed: float = 0.0
    power_loss: float = 0.0
    disk_full: float = 0.0
    clock_step: float = 0.0
    disk_failure: float = 0.0
    half_written: float = 0.0
    crash_in_disk: float = 0.0


PROFILES = {
    "quick": Rates(engine_crash=0.002, stage_death=0.002, crash_in_disk=0.01),
    "faults": Rates(
        engine_crash=0.0015,
        stage_death=0.0015,
        gateway_death=0.003,
        all_killed=0.0007,
        disk_full=0.003,
        disk_failure=0.01,
        half_written=0.01,
        crash_in_disk=0.01,
        clock_step=0.001,
    ),
    "power": Rates(
        engine_crash=0.0005,
        stage_death=0.0005,
        gateway_death=0.001,
        all_killed=0.0003,
        power_loss=0.002,
        disk_full=0.001,
        disk_failure=0.003,
        half_written=0.005,
        crash_in_disk=0.03,
    ),
}


def draw_engine(rng: random.Random) -> Engine:
    """Sizes for a seed: mostly far below what is admitted, so that everything is full now and then."""
    limits = Limits(
        accounts=ACCOUNTS,
        assets=ASSETS,
        instruments=INSTRUMENTS,
        orders=(orders := rng.choice((8, 16, 64))),
        leaves=orders,
        withdrawal_holds=8,
        outbox=4,
        timers=3,
        client_ids=rng.choice((4, 64)),
        client_id_ttl_ms=rng.choice((0, 1_000, 10_000)),
    )
    shards = rng.choice((1, 1, 2, 3))
    outcome = rng.choice((8, 16, 64, 512))
    tiny = rng.random() < 0.75
    rings = Rings(ingress=8, command=32, event=4, outcome=outcome, window=16)
    if not tiny:
        rings = Rings(TINY.ingress, TINY.command, TINY.event, outcome, TINY.window)
    return (TinyEngine if tiny else Engine)(
        topology="fused" if rng.random() < 0.2 else "split",
        shards=shards,
        clock=e.CLOCK_LIVE,
        segment_bytes=SEGMENT_BYTES,
        limits=limits,
        rings=rings,
        overload=Overload(queue_target_ms=rng.choice((50, 5_000, 1_000_000))),
        checkpoint_interval_s=rng.choice((1, 3, 10)),
        sources=(e.SOURCE_RISK, e.SOURCE_CONTROL, OFFICE, *GATEWAYS),
        gating_outcome_reader=rng.random() < 0.3,
    )


class World:
    """Everything of one seed.

    Parameters
    ----------
    seed, profile : which history
    home : folder for what the replica writes
    """

    def __init__(self, seed: int, profile: str, home: Path) -> None:
        self.random = random.Random(f"{profile} {seed}")
        self.rates = PROFILES[profile]
        self.walked: Counter[str] = Counter()
        self.steps = 0
        self.config = draw_engine(self.random)
        self.group_max = GROUP_MAX if isinstance(self.config, TinyEngine) else 96
        self.clocks = Clocks(self.random.randrange(1 << 40), START_NS)
        self.disk = SimDisk(self.random, self._during, self.walk)
        self.disk.failure_rate = self.rates.disk_failure
        self.board: np.ndarray = private_board(b.LINES)
        self.ingress: dict[int, Ring] = {}
        self.parts: EngineParts | None = None
        self.epoch = 0
        self.recovered_sources: dict[int, int] = {}
        self.office = BackOffice(self, OFFICE, self.random.choice((5, 20, 50)))
        gateways = [
            Gateway(self, source, self.random.choice((10, 40, 80)), thorough=bool(k))
            for k, source in enumerate(GATEWAYS)
        ]
        control = ControlGateway(self, e.SOURCE_CONTROL, self.random.choice((5, 20)))
        self.producers: list[Producer] = [self.office, control, *gateways]
        self.judge = Judge(self)
        rates = self.rates
        self._disaster_table = (
            (rates.engine_crash, self._crash),
            (rates.stage_death, self._stage_death),
            (rates.gateway_death, self._gateway_death),
            (rates.all_killed, self._kill_all),
            (rates.power_loss, self._power_loss),
            (rates.disk_full, self._disk_full),
            (rates.clock_step, self._clock_step),
        )
        self._disaster_rate = sum(rate for rate, _ in self._disaster_table)
        self.calm = False
        self._home = home
        self._state = "down"
        self._dead_stage = ""
        self._dead_for = 0
        self._nested = False
        self._replica: Replica | None = None
        self._context: Context
        self._trace = hashlib.blake2b(digest_size=8)
        (home / CHECKPOINTS_FILE).unlink(missing_ok=True)
        self._spoilt = False
        self.snapshots = SimSnapshots(seed, profile, home, self.walk)
        self.audit = SimAudit(seed, profile, home, self.disk, self.walk)

    # --------------------------------------------------------------------------------------------------------- the run

    def run(self) -> dict[str, Any]:
        """Live through both phases; what came out. Raises Wrong, or whatever the engine raised."""
        for _ in range(self.random.choice((5, 10, 20, 45))):
            self._unfair()
        self._heal()
        hashes = self.judge.finish()
        return {"hashes": hashes, "trace": self._trace.hexdigest(), "steps": self.steps, "epochs": self.epoch}

    def chance(self, share: float) -> bool:
        """Whether something of this probability happens; never once all is healed."""
        return not self.calm and share > 0 and self.random.random() < share

    def walk(self, situation: str, count: int = 1) -> None:
        """Note that a situation was met."""
        self.walked[situation] += count

    def outcome_ring(self, epoch: int) -> Ring | None:
        """The outcome ring of an epoch, None once it is over."""
        return self.parts.outcomes if self.parts is not None and epoch == self.epoch else None

    def _unfair(self) -> None:
        """Forty steps of whoever is favoured just now."""
        rng = self.random
        names = self._names()
        weights = rng.choices(WEIGHTS, k=len(names))
        if not any(weights):
            return
        nap_ns = rng.choice(_NAPS_NS)
        for name, budget in zip(
            rng.choices(names, weights, k=PICKS_AT_ONCE), rng.choices(BUDGETS, k=PICKS_AT_ONCE), strict=True
        ):
            self.clocks.pass_ns(nap_ns)
            self._guarded(name, budget)
            self._disasters()

    def _names(self) -> list[str]:
        config = self.config
        engine = ["fused"] if config.topology == "fused" else ["risk", *[f"matcher {k}" for k in range(config.shards)]]
        names = ["supervisor", "sequencer", "journal", *engine, *[f"producer {k}" for k in range(len(self.producers))]]
        return [*names, "replica", *(["collector"] if config.gating_outcome_reader else [])]

    def _guarded(self, name: str, budget: int) -> int:
        """A step; an end of the engine by the disk is the exchange's everyday life."""
        try:
            return self._step(name, budget)
        except Crash:
            self.walk(f"crash: in a disk operation of {'recovery' if name == 'supervisor' else 'the journal'}")
            if self.rates.power_loss and self.random.random() < 0.5:
                self._power_loss()
            else:
                self._engine_dies()
        except JournalFailed:
            self.walk("journal: a failed write or sync ends the engine")
            self._engine_dies()
        return 1

    def _step(self, name: str, budget: int) -> int:
        self.steps += 1
        kind, _, number = name.partition(" ")
        if kind == "supervisor":
            work = self._supervise()
        elif kind == "producer":
            work = self.producers[int(number)].step(budget)
        elif kind == "replica":
            work = self._replicate()
        elif kind == "collector":
            work = self._collect()
        else:
            work = self._stage(name, budget)
        self._trace.update(f"{name} {work};".encode())
        return work

    def _stage(self, name: str, budget: int) -> int:
        """A process of the engine."""
        parts = self.parts
        if parts is None or name == self._dead_stage:
            return 0
        work = parts.steps[name](budget)
        if self.parts is parts:
            self.judge.stepped()
            if self.random.random() < 0.05:
                self.judge.balanced()
            self._note(parts, name, work)
        return work

    def _note(self, parts: EngineParts, name: str, work: int) -> None:
        for ring in parts.walked():
            self.walk(f"{ring.partition(' ')[0]} ring full")
        if name == "journal" and work == 0 and parts.sequenced_seq > parts.writer.last_seq:
            self.walk("journal: segment full, the next one is not there")
        window = parts.config.rings.window
        if parts.reserved_seq - parts.settled_seq > window - GROUP_MAX and parts.sequenced_seq > parts.reserved_seq:
            self.walk("window full")

    # ------------------------------------------------------------------------------------------------------ supervisor

    def _supervise(self) -> int:
        if self._state == "down":
            self.epoch += 1
            self._engine_state(b.ENGINE_RECOVERING)
            return self._recover()
        if self._state == "starting":
            store_release(self.board, b.EPOCH, self.epoch)
            self._engine_state(b.ENGINE_RUNNING)
            self._state = "running"
            return 1
        if self._dead_stage:
            self._dead_for -= 1
            if self._dead_for <= 0:
                self.walk("crash: one process of the engine died, the others went on for a while")
                self._engine_dies()
            return 1
        return 0

    def _recover(self) -> int:
        context = Context(str(self._home), "sim", self.epoch, b.LINE_SUPERVISOR, self.config)
        memory = Memory(context, self.board)
        try:
            self.snapshots.rot()
            report, status = rebuild(
                self.disk, memory, context, self.board, self.clocks.realtime_now_ns, self.snapshots.folder
            )
        except OSError:
            self.walk("recovery: the disk failed, it begins again")
            self.disk.process_death()
            return 1
        if status == EXIT_EPOCH_USED:
            self.walk("recovery: the epoch was used, it begins again")
            self.epoch = report.last_epoch
            return 1
        if "unfinished write" in report.note:
            self.walk("recovery: an unfinished write was cut")
        if "a snapshot was passed over" in report.note:
            self.walk("recovery: a damaged snapshot was passed over")
        if report.snapshot_seq:
            self.walk("recovery: began with a snapshot")
        self.judge.recovered(report.last_seq)
        self.recovered_sources = {int(source): number for source, number in report.sources.items()}
        self._make_rings()
        store_release(self.board, b.RECOVERED_SEQ, report.last_seq)
        self._context = context
        parts = EngineParts(context, memory, self.ingress, self.board, self.disk, self.clocks)
        if parts.outbox_waits:
            self.walk("recovery: the outbox holds a command, it is sent again")
        if parts.exits_wait:
            self.walk("recovery: exits were on their way, they are sent again")
        self.parts = parts
        self._state = "starting"
        return 1

    def _make_rings(self) -> None:
        self.ingress.pop(e.SOURCE_RISK, None)
        for source in self.config.sources:
            start = self.recovered_sources.get(source, 0)
            ring = self.ingress.get(source)
            if ring is None:
                self.ingress[source] = ingress_ring(self.config, start, self.board)
                if source != e.SOURCE_RISK:
                    self.judge.ring_made(source, start)
            elif int(published(ring)) > start:
                self.walk("recovery: ingress rings hold what the journal does not")

    def _engine_state(self, state: int) -> None:
        store_release(self.board, b.ENGINE_STATE, state)

    def _engine_dies(self) -> None:
        """All processes of the engine die together; rings of producers and the board stay, and what was written to files."""
        if (
            self.parts is not None
            and int(published(self.parts.outcomes))
            and self.parts.settled_seq > self.judge.durable_seq
        ):
            self.walk("crash: outcomes were there that were not durable")
        self.parts = None
        self._dead_stage = ""
        self.disk.process_death()
        self._engine_state(b.ENGINE_FAILED)
        self._state = "down"

    def _everything_dies(self) -> None:
        """All processes die, and the memory that they shared is removed."""
        self._engine_dies()
        for producer in self.producers:
            producer.die()
        self._replica = None
        self.ingress = {}
        self.board = private_board(b.LINES)

    def _power_loss(self) -> None:
        self._everything_dies()
        self.snapshots.power_loss()
        self.audit.power_loss()
        names, writes = self.disk.power_loss()
        self.walk("power loss")
        self.walk("power loss: writes were not synced", int(writes > 0))
        self.walk("power loss: names were not synced", int(names > 0))
        if self.random.random() < 0.1:
            # The home's file of epochs was not synced.
            self.epoch = 0

    # ---------------------------------------------------------------------------------------------- replica, collector

    def _replicate(self) -> int:
        if self._replica is None and self.parts is None:
            return 0
        compared = int(load_acquire(self.board, b.VERIFIED_SEQ))
        try:
            with self.audit:
                if self._replica is None:
                    self._replica = self._new_replica()
                    self._spoilt = False
                # Its records would be wrong as well, and are found by a comparison with the journal alone.
                elif not self.audit.enabled and self.snapshots.spoil(self._replica._engine):
                    self._spoilt = True
                work = self._replica.step()
        except (OSError, WriterDies):
            # Of the audit trail; it starts again.
            self._replica = None
            return 1
        except Exception:
            if not self._spoilt:
                raise
            self.walk("replica: its memory was spoilt, it found a difference and wrote no snapshot")
            store_release(self.board, b.DIVERGED, 0)
            self._replica = None
            return 1
        if int(load_acquire(self.board, b.VERIFIED_SEQ)) > compared:
            self.walk("replica: a checkpoint was compared")
        return work

    def _new_replica(self) -> Replica:
        keeper = None
        if self.snapshots.enabled:
            keeper = Keeper(
                self._home,
                self.snapshots.settings,
                self.board,
                self.snapshots.writer(),
                lambda: self.clocks.monotonic_now_ns,
                lambda: self.clocks.realtime_now_ns,
            )
        audit = self.audit.open if self.audit.enabled else None
        with contextlib.redirect_stderr(io.StringIO()):
            replica = Replica(self._context, self._publishers, self.board, self.disk, audit=audit, keeper=keeper)
        if int(load_acquire(self.board, b.REPLICATED_SEQ)) and keeper is not None:
            self.walk("replica: began with a snapshot", int(load_acquire(self.board, b.SNAPSHOT_SEQ) > 0))
        return replica

    def _publishers(self, epoch: int) -> Publishers:
        if self.parts is None or epoch != self.epoch:
            raise RingMissingError("risk.state", "cannot attach", "a file", "none", "wait for the next epoch")
        return Publishers(self.parts.risk.meta, tuple(matcher.meta for matcher in self.parts.matchers))

    def _collect(self) -> int:
        """The gating reader of the outcome ring."""
        if self.parts is None:
            return 0
        ring = self.parts.outcomes
        unread = int(published(ring)) - int(reader_cursor(ring, OUTCOME_COLLECTOR))
        if unread:
            advance(ring, OUTCOME_COLLECTOR, int(published(ring)))
        return unread

    # ------------------------------------------------------------------------------------------------------- disasters

    def _during(self, operation: str) -> None:
        """Time passes while the disk works: others go on, and the operation may be the last one."""
        if operation == "rename" and self.parts is not None:
            self.walk("journal: goes on in the next segment")
        if self.calm or self._nested:
            return
        self._nested = True
        try:
            names = [name for name in self._names() if name not in ("supervisor", "journal")]
            for name in self.random.choices(names, k=self.random.choice((0, 0, 1, 3, 10))):
                self._step(name, self.random.choice(BUDGETS))
        finally:
            self._nested = False
        if self.chance(self.rates.crash_in_disk * (4 if operation == "sync" else 1)):
            raise Crash(operation)

    def _disasters(self) -> None:
        if self.disk.full:
            self.disk.full = self.random.random() > _SPACE_AGAIN
        drawn = self.random.random()
        if drawn >= self._disaster_rate:
            return
        for rate, disaster in self._disaster_table:
            drawn -= rate
            if drawn < 0:
                disaster()
                return

    def _crash(self) -> None:
        if self.parts is not None:
            self.walk("crash: of the engine, between two steps")
            self._engine_dies()

    def _stage_death(self) -> None:
        if self.parts is not None and not self._dead_stage:
            self._dead_stage = self.random.choice([*self.parts.steps])
            self._dead_for = self.random.choice((1, 3, 10))

    def _gateway_death(self) -> None:
        self.random.choice(self.producers).die()
        if self.random.random() < 0.3:
            self._replica = None

    def _kill_all(self) -> None:
        self.walk("crash: of all processes")
        self._everything_dies()

    def _disk_full(self) -> None:
        self.disk.full = True

    def _clock_step(self) -> None:
        self.clocks.realtime_now_ns += self.random.choice((-5_000_000_000, -1, 3_000_000, 40_000_000_000))
        self.walk("clock: UTC was set")

    # --------------------------------------------------------------------------------------------------------- the end

    def _heal(self) -> None:
        """No more failures: everyone in turn, until all is told and durable."""
        self.calm = True
        self.disk.full = False
        self.disk.failure_rate = 0.0
        self.snapshots.calm = self.audit.files.calm = True
        if self._spoilt:
            self._replica, self._spoilt = None, False
        if self._dead_stage:
            self._engine_dies()
        names = self._names()
        for _ in range(_CALM_ROUNDS_MAX):
            # An auction that has an end is to come to it.
            self.clocks.pass_ns(500_000_000 if self._auction_runs() else 10_000_000)
            for name in names:
                self._guarded(name, 1000)
            if self._finished():
                self.judge.balanced()
                return
        raise StandsStill(self._where())

    def _finished(self) -> bool:
        parts = self.parts
        if parts is None or self._state != "running":
            return False
        last = parts.sequenced_seq
        drained = all(int(published(r)) == int(reader_cursor(r, 0)) for r in self.ingress.values())
        told = all(producer.done for producer in self.producers)
        durable = int(load_acquire(self.board, b.DURABLE_SEQ))
        replicated = int(load_acquire(self.board, b.REPLICATED_SEQ))
        settled = parts.settled_seq == parts.reserved_seq == last
        followed = self._replica is not None and self._replica._engine.last_seq == last
        if self._auction_runs():
            return False
        return drained and told and settled and durable == last == replicated and followed and not parts.outbox_waits

    def _auction_runs(self) -> bool:
        """Whether an instrument is in an auction that will end by itself."""
        return self.parts is not None and self.parts.risk.meta[s.AUCTIONS] != 0

    def _where(self) -> str:
        parts = self.parts
        if parts is None:
            return f"the engine does not come up: {self._state}"
        rings = {source: (int(published(r)), int(reader_cursor(r, 0))) for source, r in self.ingress.items()}
        waiting = {p.source: (p.alive, p.done, sorted(p.pending)[:3]) for p in self.producers}
        words = {"durable": b.DURABLE_SEQ, "replicated": b.REPLICATED_SEQ, "journal space": b.JOURNAL_SPACE}
        shown = {name: int(self.board[word]) for name, word in words.items()}
        return (
            f"stands still: {self._state}, sequenced {parts.sequenced_seq}, reserved {parts.reserved_seq}, "
            f"settled {parts.settled_seq}, {shown}, outbox waits {parts.outbox_waits}, ingress (published, freed) {rings}, "
            f"producers (alive, done, pending) {waiting}"
        )


__all__ = ["PROFILES", "StandsStill", "World", "Wrong"]
