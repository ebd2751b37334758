"""Recovery: from the journal to the state files, the outcome ring and the new segment of an epoch.

One shot, before the engine's processes start. It loads the newest sound snapshot and replays the journal after it through the fused
kernels, into the very arenas that the live processes then attach; without a sound snapshot it replays all of the journal. The epoch's
outcome ring begins with the newest outcomes, those that the snapshot brought among them, under their numbers, so that a gateway that
followed the old ring goes on where it was. Nothing is released before what was read stands synced in a new segment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from matcher.process import shard_spec
from matcher.process import warm as warm_matcher
from matcher.rebuild import take_over_books
from persistence.beside import begin_segment, gathered, read_beside
from persistence.folders import sync_folder
from persistence.fused import EngineFault, FusedEngine, risk_spec
from persistence.journal.errors import JournalError
from persistence.journal.layout import SegmentHeader
from persistence.journal.origin import check_executable
from persistence.journal.process import save_position
from persistence.journal.reader import JournalReader
from persistence.journal.recovery import ScanResult, scan, start_new_segment_after_recovery
from persistence.journal.segments import history_at, lineage
from persistence.journal.store import DirectoryStore, JournalStore
from persistence.journal.writer import WriterPosition
from persistence.snapshots import Snapshot, SnapshotError, SnapshotFolder, State, restore
from persistence.snapshots.state import reset_state
from protocol import board as b
from protocol.codec import SLOT_WORDS, decode
from protocol.instance import Context, Engine, Limits
from protocol.readers import EXIT_EPOCH_USED, EXIT_OK, EXIT_REFUSED, LINE_RECOVERY, RECOVERY_DONE, RECOVERY_TOTAL
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf.arena import ArenaSpec, create_arena, private_arena
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import BoardFile, private_board
from ringbuf.file import RingFile
from ringbuf.ring import Ring, publish
from ringbuf.steps import Steps
from ringbuf.waiting import ADAPTIVE
from risk import state as risk_state
from risk.process import warm as warm_risk
from sequencer import core as sequencer

REPORT_FILE = "recovery.json"
LIMITS_FILE = "limits.json"
_MANY_SLOTS = 1 << 16


class RecoveryRefused(Exception):
    """The home cannot be served; the text says why and what to do."""


class Report(msgspec.Struct):
    """What recovery tells the supervisor."""

    last_seq: int = 0
    last_ts_ns: int = 0
    sources: dict[str, int] = {}
    last_epoch: int = 0
    note: str = ""
    error: str = ""
    snapshot_seq: int = 0
    """Command slot of the snapshot that it began with; 0 = the beginning of the journal."""
    seconds: dict[str, float] = {}
    """How long it took to ``check`` snapshot and journal, ``load`` the snapshot, ``replay`` the rest, and then to wait for the new
    ``segment``."""


def main(context: Context) -> int:
    """Recover the home into the epoch's files; see the module's text."""
    board = BoardFile.attach(context.shared).board
    try:
        report, status = recover(context, board)
    except (JournalError, EngineFault, RecoveryRefused) as error:
        report, status = Report(error=str(error)), EXIT_REFUSED
    (context.epoch_dir / REPORT_FILE).write_bytes(msgspec.json.encode(report))
    return status


def recover(context: Context, board: np.ndarray) -> tuple[Report, int]:
    """Do the work of ``main``; (report, exit status)."""
    context.journal_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep_limits(Path(context.home), context.engine.limits)
    journal, memory = DirectoryStore(context.journal_dir), EpochFiles(context, board)
    return rebuild(journal, memory, context, board, time.time_ns(), SnapshotFolder(Path(context.home)))


class EpochMemory(Protocol):
    """Where recovery puts what the engine of an epoch begins with: files in shared memory, or the simulator's own arrays."""

    def arena(self, path: Path, spec: ArenaSpec) -> dict[str, np.ndarray]:
        """Arrays of a part's state, zero, under the name that the context gives it, in the place of any made before."""

    def outcome_ring(self, start: int) -> Ring:
        """The epoch's outcome ring, empty, at position ``start``."""

    def save_position(self, position: WriterPosition) -> None:
        """Keep for the journal's process where it writes on."""

    def slots(self, journal: JournalStore, from_seq: int, to_seq: int) -> Iterator[np.ndarray]:
        """The slots of the journal, not too few at once; an array is good until the next one."""

    def begin_segment(self, work: Callable[[], WriterPosition]) -> Callable[[], WriterPosition]:
        """Have the new segment made, at the latest when what is returned is called."""


class EpochFiles:
    """The files of an epoch, as its processes attach them."""

    def __init__(self, context: Context, board: np.ndarray) -> None:
        self._context = context
        self._board = board

    def arena(self, path: Path, spec: ArenaSpec) -> dict[str, np.ndarray]:
        """Make a state file; sparse, so that only what the history needs takes memory."""
        path.unlink(missing_ok=True)
        return create_arena(path, spec, COMMAND_SCHEMA, 0)

    def outcome_ring(self, start: int) -> Ring:
        """Make the outcome ring's file; it stays mapped as long as the ring is used."""
        context = self._context
        capacity = context.engine.rings.outcome
        return RingFile.create(
            context.outcome_ring, OUTCOME_DTYPE, capacity, OUTCOME_SCHEMA, context.epoch, start, self._board
        ).ring

    def save_position(self, position: WriterPosition) -> None:
        """Write the position's file."""
        save_position(self._context.epoch_dir, position)

    def slots(self, journal: JournalStore, from_seq: int, to_seq: int) -> Iterator[np.ndarray]:
        """Read by a second process where there are many."""
        if to_seq - from_seq < _MANY_SLOTS:
            return gathered(JournalReader(journal, from_seq, to_seq))
        return read_beside(journal, from_seq, to_seq)

    def begin_segment(self, work: Callable[[], WriterPosition]) -> Callable[[], WriterPosition]:
        """In a second process: the disk's time is not the replay's."""
        return begin_segment(work)


class _Clock:
    """Takes the time of one stage after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began_s = time.perf_counter()

    def stage(self, name: str) -> None:
        """What was done since the last call was this."""
        now_s = time.perf_counter()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now_s - self._began_s, 4)
        self._began_s = now_s


class _Base(NamedTuple):
    """What recovery begins with: an engine at an earlier command, and the sequencer's lanes and timers at it."""

    engine: FusedEngine
    state: State


def rebuild(
    journal: JournalStore,
    memory: EpochMemory,
    context: Context,
    board: np.ndarray,
    utc_ns: int,
    snapshots: SnapshotFolder,
) -> tuple[Report, int]:
    """Rebuild the state in ``memory``, begin the epoch's segment, and only then move the cursors; (report, exit status).

    ``utc_ns`` goes into the header of the new segment. Raises JournalError, EngineFault, RecoveryRefused.
    """
    clock = _Clock()
    notes: list[str] = []
    headers = lineage(journal).headers
    if not headers and snapshots.seqs():
        msg = (
            f"{journal.label('.')}: there is no journal here, but {snapshots.folder} has snapshots of one: put its segments back, "
            "or restore a backup; to begin anew remove the snapshots"
        )
        raise RecoveryRefused(msg)
    sound = sound_snapshots(snapshots, headers, notes)
    newest = next(sound, None)
    try:
        known = max(int(load_acquire(board, b.DURABLE_SEQ)), newest.manifest.seq if newest else 0)
        found = scan(journal, known or None, newest.manifest.seq + 1 if newest else 1)
        clock.stage("check")
        if context.epoch <= found.epoch:
            return Report(last_epoch=found.epoch), EXIT_EPOCH_USED
        base = _base(newest, sound, memory, context, found, notes)
    finally:
        if newest is not None:
            newest.close()
        sound.close()
    clock.stage("load")
    began_seq = base.engine.last_seq
    check_executable(journal, began_seq + 1, found.last_seq)
    segment = memory.begin_segment(
        partial(start_new_segment_after_recovery, journal, found, context.epoch, utc_ns, context.engine.segment_bytes)
    )
    sources = replay_into_epoch(journal, memory, base, found, board)
    publish_tail(memory, base.engine)
    clock.stage("replay")
    memory.save_position(segment())
    for word in (b.SEQUENCED_SEQ, b.RESERVED_SEQ, b.SETTLED_SEQ, b.DURABLE_SEQ, b.RECOVERED_SEQ):
        store_release(board, word, found.last_seq)
    clock.stage("segment")
    if found.cut is not None:
        notes.append(
            f"the journal ended in an unfinished write of {found.cut.size_bytes} bytes ({found.cut.segment} at {found.cut.offset}: "
            f"{found.cut.reason}); it was cut, nothing acknowledged is lost"
        )
    report = Report(
        last_seq=found.last_seq,
        last_ts_ns=found.last_ts_ns,
        sources=sources,
        last_epoch=found.epoch,
        note="; ".join(notes),
        snapshot_seq=began_seq,
        seconds=clock.seconds,
    )
    return report, EXIT_OK


def sound_snapshots(
    folder: SnapshotFolder, headers: tuple[SegmentHeader, ...], notes: list[str], below_seq: int | None = None
) -> Generator[Snapshot, None, None]:
    """The snapshots of the journal with these ``headers`` whose every byte is as it was written, newest first.

    What is wrong with others goes to ``notes``.
    """
    for found in folder.newest(below_seq):
        if isinstance(found, SnapshotError):
            notes.append(f"a snapshot was passed over: {found}")
        elif found.manifest.journal_id != (history := history_at(headers, found.manifest.seq)):
            found.close()
            notes.append(
                f"a snapshot was passed over: {found.path} is of journal {found.manifest.journal_id}, this one is "
                f"{history or 'not begun'}; put the journal back that it belongs to, or remove it"
            )
        else:
            yield found


def _base(
    snapshot: Snapshot | None,
    older: Iterator[Snapshot],
    memory: EpochMemory,
    context: Context,
    found: ScanResult,
    notes: list[str],
) -> _Base:
    """The newest snapshot that can be loaded and from which the journal goes on, else the empty state."""
    config = context.engine
    while snapshot is not None and found.first_seq <= snapshot.manifest.seq + 1:
        state = _epoch_state(memory, context)
        try:
            return _Base(restore(snapshot, config, state), state)
        except SnapshotError as error:
            notes.append(f"a snapshot was passed over: {error}")
        finally:
            snapshot.close()
        snapshot = next(older, None)
    if found.first_seq != 1:
        msg = (
            f"{context.journal_dir}: the journal begins at seq {found.first_seq}, and no sound snapshot leads up to there"
            f"{': ' + '; '.join(notes) if notes else ''}; put the older segments back, or restore a backup"
        )
        raise RecoveryRefused(msg)
    state = reset_state(_epoch_state(memory, context), config)
    return _Base(FusedEngine(config, state.risk, state.shards), state)


def _epoch_state(memory: EpochMemory, context: Context) -> State:
    """Arrays of zeros in the epoch's memory."""
    config = context.engine
    return State(
        memory.arena(context.risk_state, risk_spec(config)),
        [memory.arena(context.matcher_state(k), shard_spec(config)) for k in range(config.shards)],
        memory.arena(context.sources_state, sequencer.state_spec(config.limits.timers)),
    )


def keep_limits(home: Path, limits: Limits) -> None:
    """What decides verdicts (a full pool refuses, an id stays taken) belongs to a home; RecoveryRefused on other values than its first."""
    path = home / LIMITS_FILE
    if not path.exists():
        scratch = path.with_suffix(".new")
        with scratch.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(limits)))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        # The journal means nothing without it, so it must be there before the first command is.
        sync_folder(home)
        return
    kept = load_limits(home)
    different = [
        f"{f} = {getattr(limits, f)} (was {getattr(kept, f)})"
        for f in Limits.__struct_fields__
        if getattr(limits, f) != getattr(kept, f)
    ]
    if different:
        msg = (
            f"{path}: this home was begun with other values of [tables]: {', '.join(different)}. With others its journal would "
            "give other verdicts; set them back, or begin a new home"
        )
        raise RecoveryRefused(msg)


def load_limits(home: Path) -> Limits:
    """Values of [tables] that the home was begun with; the defaults where it has none yet."""
    path = home / LIMITS_FILE
    return msgspec.json.decode(path.read_bytes(), type=Limits) if path.exists() else Limits()


def replay_into_epoch(
    journal: JournalStore, memory: EpochMemory, base: _Base, found: ScanResult, board: np.ndarray
) -> dict[str, int]:
    """Replay what the journal has after ``base``; highest number of each source. RecoveryRefused where money is not conserved then."""
    engine = base.engine
    lanes = sequencer.make_state(base.state.sequencer)
    store_release(board, b.LINE_WORDS * LINE_RECOVERY + RECOVERY_TOTAL, found.last_seq)
    if found.last_seq > engine.last_seq:
        for slots in memory.slots(journal, engine.last_seq + 1, found.last_seq):
            engine.feed(slots)
            sequencer.observe(lanes, slots)
            store_release(board, b.LINE_WORDS * LINE_RECOVERY + RECOVERY_DONE, engine.settled_seq)
    broken = engine.unbalanced_asset()
    if broken:
        msg = f"after replay of {found.last_seq} commands asset {abs(broken)} is not balanced: refusing to serve"
        raise RecoveryRefused(msg)
    return {str(source): int(n) for source, n in enumerate(lanes.sources) if n}


def publish_tail(memory: EpochMemory, engine: FusedEngine) -> None:
    """Make the epoch's outcome ring with the newest outcomes in it, those of the replay and those of the snapshot before."""
    total = int(engine.risk.meta[risk_state.OUTCOMES])
    ring = memory.outcome_ring(engine.oldest_outcome(total))
    words, known = ring.slots.view(np.int64), engine.outcomes.slots.view(np.int64)
    words[:] = known
    publish(ring, total)


def warm() -> None:
    """Compile or load every kernel that recovery uses."""
    warm_risk()
    warm_matcher()
    engine = FusedEngine(
        Engine(limits=Limits(accounts=1, assets=1, instruments=1, orders=8, leaves=8, withdrawal_holds=8))
    )
    engine.step()
    engine.feed(np.zeros(0, dtype=COMMAND_DTYPE))
    engine.hashes()
    decode(np.zeros(1, dtype=np.int64), 0, np.zeros((1, SLOT_WORDS), dtype=np.int64), 1, 0)
    # The loop that drives every process of the engine: else each compiles it for itself once it is said to be ready.
    board = private_board(b.LINES)
    store_release(board, b.STOP, 1)
    Steps(*engine.steps()).run(board, LINE_RECOVERY, ADAPTIVE, b.STOP)
    take_over_books(*engine.matchers, *engine.matchers)
    sequencer.observe(sequencer.make_state(private_arena(sequencer.state_spec(1))), np.zeros(0, dtype=COMMAND_DTYPE))
