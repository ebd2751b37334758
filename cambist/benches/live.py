"""An exchange of its own for a bench, and the client in this process that sends and reads on its rings."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cambist import procfs
from cambist.benches.kernels import send_batches
from cambist.benches.rows import BenchFailedError
from cambist.home import Home
from cambist.launch import Launched, LaunchError, running
from cambist.replay.plan import Plan
from cambist.report import Quiet
from matcher.process import shard_spec, shard_state
from persistence.beside import gathered
from persistence.fused import FusedEngine, hashes_of, risk_spec
from persistence.journal import JournalReader
from protocol import board as b
from protocol import enums as e
from protocol.instance import Context, Engine, Limits, Rings, instance_name
from protocol.readers import OUTCOME_COLLECTOR
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf.arena import attach_arena
from ringbuf.atomics import load_acquire
from ringbuf.board import NO_BELL, BoardFile, claim_line
from ringbuf.file import RingFile
from risk import state as risk_state

_PATIENCE_S = 10.0
_POLL_S = 0.0005
BATCH_SLOTS = 64
"""Slots that the client publishes at once where a bench says nothing else."""


def settings(plan: Plan, topology: str, shards: int, durability: str = "sync") -> dict[str, Any]:
    """Configuration of an exchange that takes a plan: as for a replay, without gateways and replica."""
    found: dict[str, Any] = {
        "engine.topology": topology,
        "engine.shards": shards,
        "engine.durability": durability,
        "engine.clock": plan.clock,
        "engine.producers": ["replay"],
        "engine.gating_outcome_reader": True,
        "control.enabled": False,
        "replica.enabled": False,
        "postgres.enabled": False,
    }
    found |= {f"tables.{name}": value for name, value in msgspec.structs.asdict(plan.limits).items()}
    return found | {f"rings.{name}": value for name, value in msgspec.structs.asdict(Rings()).items()}


@contextlib.contextmanager
def exchange(home: Path, configured: dict[str, Any]) -> Iterator[Launched]:
    """Run an exchange while the context is open. Raises BenchFailedError where it does not start."""
    home.mkdir(mode=0o700, parents=True)
    try:
        with running(Home(home), configured, Quiet()) as launched:
            yield launched
    except LaunchError as error:
        raise BenchFailedError(f"the exchange did not start: {error}") from error


def cpu_ns_of(launched: Launched) -> dict[str, int]:
    """CPU time so far by process, and of this one as ``client``."""
    found = {p["name"]: procfs.cpu_ns(p["pid"]) for p in launched.summary["processes"]}
    return found | {"client": time.process_time_ns()}


def spent(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What each process took between two calls of ``cpu_ns_of``.

    Never below 0: a thread that ended between them takes its share out of the second sum.
    """
    return {name: max(0, after[name] - before[name]) for name in after}


class Client:
    """The one producer of an exchange started with ``settings``, and the reader of its outcomes.

    ``rung``: it is woken by each outcome, as who waits for one is; otherwise it looks by itself, at least every millisecond, so
    that no process of the exchange spends time on waking a client that has nothing to do with what it is told.
    """

    def __init__(self, home: Path, epoch: int, engine: Engine, *, rung: bool = False) -> None:
        self._engine = engine
        self._context = Context(str(home), instance_name(home), epoch, b.LINE_REPLAY, engine)
        self.board = BoardFile.attach(self._context.shared).board
        claim_line(self.board, b.LINE_REPLAY)
        self._ingress = RingFile.attach(
            self._context.ingress(e.SOURCE_REPLAY), COMMAND_DTYPE, COMMAND_SCHEMA, board=self.board
        )
        self._ingress.take_writer(b.LINE_REPLAY)
        self._outcomes = RingFile.attach(self._context.outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, epoch, self.board)
        self._outcomes.adopt_reader(OUTCOME_COLLECTOR, b.LINE_REPLAY if rung else NO_BELL)
        self.ingress = self._ingress.ring
        self.outcomes = self._outcomes.ring
        self.rings = self.ingress, self.outcomes, OUTCOME_COLLECTOR, self.board, b.LINE_REPLAY

    def send(self, slots: np.ndarray, batch: int = BATCH_SLOTS, *, durable: bool = True) -> None:
        """Send numbered slots and skip their outcomes; returns when all are settled, and durable unless told otherwise.

        Raises BenchFailedError where the engine stops or stands still.
        """
        done = int(send_batches(*self.rings, slots, batch, durable))
        if done != len(slots):
            raise self.stalled(f"{done:,} of {len(slots):,} commands were sent")

    def await_durable(self, seq: int) -> None:
        """Wait until the journal has a command that is settled."""
        end_s = time.monotonic() + _PATIENCE_S
        while int(load_acquire(self.board, b.DURABLE_SEQ)) < seq:
            if time.monotonic() > end_s:
                raise self.stalled(f"command {seq} is not durable")
            time.sleep(_POLL_S)

    def stalled(self, what: str) -> BenchFailedError:
        """The error that says where the engine stands."""
        words = {"sequenced": b.SEQUENCED_SEQ, "settled": b.SETTLED_SEQ, "durable": b.DURABLE_SEQ}
        found = ", ".join(f"{name} {int(load_acquire(self.board, word))}" for name, word in words.items())
        return BenchFailedError(f"the engine stopped or stands still: {what}; {found}")

    def hashes(self) -> dict[str, int]:
        """Hashes of the state; the engine stands still."""
        return hashes(self._context, self._engine)


def hashes(context: Context, engine: Engine) -> dict[str, int]:
    """Hashes of the state of a live engine that stands still."""
    risk = risk_state.make_state(attach_arena(context.risk_state, risk_spec(engine), COMMAND_SCHEMA))
    spec = shard_spec(engine)
    matchers = [shard_state(attach_arena(context.matcher_state(k), spec, COMMAND_SCHEMA)) for k in range(engine.shards)]
    return hashes_of(risk, matchers)


def compare_with_journal(home: Path, engine: Engine, found: dict[str, int], last_seq: int) -> None:
    """Raise BenchFailedError where a home's journal leads elsewhere up to a command than the live engine got."""
    fused = FusedEngine(engine)
    for slots in gathered(JournalReader(home / "journal", to_seq=last_seq)):
        fused.feed(slots)
    wrong = [key for key, value in fused.hashes().items() if found[key] != value]
    if wrong:
        raise BenchFailedError(f"live and fused differ in {', '.join(wrong)}")


def engine_of(plan: Plan, topology: str = "split", shards: int = 1) -> Engine:
    """Sizes of the exchange that ``settings`` describes."""
    limits = Limits(**msgspec.structs.asdict(plan.limits))
    return Engine(topology=topology, shards=shards, limits=limits)
