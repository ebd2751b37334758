"""Histories with checkpoints, engines of them, and homes with a journal and snapshots."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from persistence.fused import FusedEngine
from persistence.journal.recovery import scan
from persistence.journal.segments import lineage
from persistence.journal.store import DirectoryStore
from persistence.recovery import Report, keep_limits, rebuild
from persistence.snapshots import SnapshotFolder, State, private_state, restore, write_snapshot, zero_state
from persistence.snapshots.file import Pace, Snapshot
from persistence.snapshots.writer import manifest_of
from protocol import board as b
from protocol.enums import FLAG_MORE
from protocol.instance import Context, Engine
from ringbuf.board import private_board
from ringbuf.ring import Ring
from sequencer import core as sequencer
from tests.engine.driver import ROOMY
from tests.engine.operators import Market, sized
from tests.persistence.journal_slots import write_batches
from tests.sim.parts import Memory

JOURNAL_ID = bytes(range(16)).hex()


class Quiet(Market):
    """A market without checkpoints of its own choice."""

    def checkpoint(self) -> None:
        """None."""


def history(seed: int, n: int, checkpoints: int = 2) -> tuple[Market, np.ndarray, list[int]]:
    """A market with checkpoints on its way; its command slots and the seqs of the checkpoints."""
    part = n // (checkpoints + 1)
    market = Quiet(seed, part)
    seqs = []
    for _ in range(checkpoints):
        Market.checkpoint(market)
        seqs.append(market.next_seq - 1)
        until = len(market.groups) + part
        while len(market.groups) < until:
            market._next()
    return market, np.concatenate(market.groups), seqs


class Follower:
    """An engine with the sequencer's lanes, fed in parts; it keeps the outcomes."""

    def __init__(self, config: Engine, snapshot: Snapshot | None = None) -> None:
        self.state: State = private_state(config) if snapshot is None else zero_state(config)
        if snapshot is None:
            self.engine = FusedEngine(config, self.state.risk, self.state.shards)
        else:
            self.engine = restore(snapshot, config, self.state)
        self.lanes = sequencer.make_state(self.state.sequencer)
        self.outcomes: list[np.ndarray] = []

    def feed(self, slots: np.ndarray) -> None:
        """Apply and observe."""
        self.engine.feed(slots, lambda rows: self.outcomes.append(rows.copy()))
        sequencer.observe(self.lanes, slots)

    def write(self, folder: SnapshotFolder, journal_id: str = JOURNAL_ID, **changes: int) -> Path:
        """A snapshot of what was fed."""
        folder.make()
        path = folder.path(self.engine.last_seq)
        manifest, parts = manifest_of(self.engine, self.state.sequencer, journal_id, 1, 5)
        write_snapshot(path, manifest, parts, Pace(0), **changes)
        return path


class Home(NamedTuple):
    """A home with a journal, a snapshot at each checkpoint, and the hashes of its whole history."""

    path: Path
    config: Engine
    slots: np.ndarray
    checkpoints: list[int]
    hashes: dict[str, int]

    @property
    def folder(self) -> SnapshotFolder:
        """Its snapshots."""
        return SnapshotFolder(self.path)

    @property
    def journal(self) -> DirectoryStore:
        """Its journal."""
        return DirectoryStore(self.path / "journal")

    def recover(self, shards: int | None = None) -> "Recovered":
        """Recover it into private memory, as the next epoch."""
        config = self.config if shards is None else Engine(shards=shards, limits=self.config.limits, rings=ROOMY)
        epoch = max((header.epoch for header in lineage(self.journal).headers), default=0) + 1
        context = Context(str(self.path), "test", epoch, b.LINE_SUPERVISOR, config)
        board = private_board(b.LINES)
        memory = Memory(context, board)
        report, status = rebuild(self.journal, memory, context, board, 1, self.folder)
        assert 0 == status
        return Recovered(report, memory, context)


class Recovered(NamedTuple):
    """What a recovery left."""

    report: Report
    memory: Memory
    context: Context

    def hashes(self) -> dict[str, int]:
        """Of the state in the epoch's memory."""
        arrays, config = self.memory.arrays, self.context.engine
        shards = [arrays[self.context.matcher_state(k)] for k in range(config.shards)]
        return FusedEngine(config, arrays[self.context.risk_state], shards, last_seq=self.report.last_seq).hashes()

    def lanes(self) -> dict[str, list[int]]:
        """The sequencer's arrays."""
        return {name: array.tolist() for name, array in self.memory.arrays[self.context.sources_state].items()}

    @property
    def outcomes(self) -> Ring:
        """The epoch's outcome ring."""
        return self.memory.outcomes


def make_home(path: Path, seed: int = 3, n: int = 900, shards: int = 1, checkpoints: int = 2, batch: int = 40) -> Home:
    """A home whose journal has a batch for every ``batch`` slots."""
    market, slots, seqs = history(seed, n, checkpoints)
    config = Engine(shards=shards, limits=sized(market), rings=ROOMY)
    path.mkdir(parents=True, exist_ok=True)
    keep_limits(path, config.limits)
    journal = DirectoryStore(path / "journal")
    journal.directory.mkdir()
    ends = [0, *(np.flatnonzero((slots["flags"] & FLAG_MORE) == 0) + 1)[::batch].tolist(), len(slots)]
    write_batches(journal, [slots[a:z] for a, z in itertools.pairwise(ends) if z > a])
    assert len(slots) == scan(journal).last_seq
    follower = Follower(config)
    home = Home(path, config, slots, seqs, {})
    at = 0
    for seq in seqs:
        follower.feed(slots[at:seq])
        follower.write(home.folder)
        at = seq
    follower.feed(slots[at:])
    return home._replace(hashes=follower.engine.hashes())
