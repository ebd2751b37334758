"""Recovery: from the journal to the state files, the outcome ring and the new segment of an epoch.

One shot, before the engine's processes start. It replays the journal from its beginning through the fused kernels, into the very arenas
that the live processes then attach. The epoch's outcome ring begins with the newest outcomes of that replay, under their numbers, so that a
gateway that followed the old ring goes on where it was. Nothing is released before what was read stands synced in a new segment.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from matcher import state as matcher_state
from matcher.process import shard_spec
from matcher.process import warm as warm_matcher
from persistence.fused import EngineFault, FusedEngine, risk_spec
from persistence.journal.errors import JournalError
from persistence.journal.process import save_position
from persistence.journal.reader import JournalReader
from persistence.journal.recovery import ScanResult, scan, start_new_segment_after_recovery
from persistence.journal.store import DirectoryStore, JournalStore
from persistence.journal.writer import WriterPosition
from protocol import board as b
from protocol.instance import Context, Engine, Limits
from protocol.readers import EXIT_EPOCH_USED, EXIT_OK, EXIT_REFUSED, LINE_RECOVERY, RECOVERY_DONE, RECOVERY_TOTAL
from protocol.records import COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf.arena import ArenaSpec, create_arena
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import BoardFile
from ringbuf.file import RingFile
from ringbuf.ring import Ring, publish
from risk import state as risk_state
from risk.process import warm as warm_risk
from sequencer import core as sequencer

REPORT_FILE = "recovery.json"
LIMITS_FILE = "limits.json"


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
    return rebuild(DirectoryStore(context.journal_dir), EpochFiles(context, board), context, board, time.time_ns())


class EpochMemory(Protocol):
    """Where recovery puts what the engine of an epoch begins with: files in shared memory, or the simulator's own arrays."""

    def arena(self, path: Path, spec: ArenaSpec) -> dict[str, np.ndarray]:
        """Arrays of a part's state, zero, under the name that the context gives it."""

    def outcome_ring(self, start: int) -> Ring:
        """The epoch's outcome ring, empty, at position ``start``."""

    def save_position(self, position: WriterPosition) -> None:
        """Keep for the journal's process where it writes on."""


class EpochFiles:
    """The files of an epoch, as its processes attach them."""

    def __init__(self, context: Context, board: np.ndarray) -> None:
        self._context = context
        self._board = board

    def arena(self, path: Path, spec: ArenaSpec) -> dict[str, np.ndarray]:
        """Make a state file; sparse, so that only what the history needs takes memory."""
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


def rebuild(
    journal: JournalStore, memory: EpochMemory, context: Context, board: np.ndarray, utc_ns: int
) -> tuple[Report, int]:
    """Replay ``journal`` into ``memory``, begin the epoch's segment, and only then move the cursors; (report, exit status).

    ``utc_ns`` goes into the header of the new segment. Raises JournalError, EngineFault, RecoveryRefused.
    """
    known = int(load_acquire(board, b.DURABLE_SEQ))
    found = scan(journal, known_durable_seq=known or None)
    if context.epoch <= found.epoch:
        return Report(last_epoch=found.epoch), EXIT_EPOCH_USED
    if found.first_seq != 1:
        msg = (
            f"{journal.label('.')}: the journal begins at seq {found.first_seq}; "
            "without its beginning the state cannot be rebuilt"
        )
        raise RecoveryRefused(msg)
    engine, sources = replay_into_epoch(journal, memory, context, found, board)
    publish_tail(memory, engine)
    position = start_new_segment_after_recovery(journal, found, context.epoch, utc_ns, context.engine.segment_bytes)
    memory.save_position(position)
    for word in (b.SEQUENCED_SEQ, b.RESERVED_SEQ, b.SETTLED_SEQ, b.DURABLE_SEQ, b.RECOVERED_SEQ):
        store_release(board, word, found.last_seq)
    note = ""
    if found.cut is not None:
        note = (
            f"the journal ended in an unfinished write of {found.cut.size_bytes} bytes ({found.cut.segment} at {found.cut.offset}: "
            f"{found.cut.reason}); it was cut, nothing acknowledged is lost"
        )
    return Report(found.last_seq, found.last_ts_ns, sources, found.epoch, note), EXIT_OK


def keep_limits(home: Path, limits: Limits) -> None:
    """What decides verdicts (a full pool refuses, an id stays taken) belongs to a home; RecoveryRefused on other values than its first."""
    path = home / LIMITS_FILE
    if not path.exists():
        scratch = path.with_suffix(".new")
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(limits)))
        scratch.replace(path)
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
    journal: JournalStore, memory: EpochMemory, context: Context, found: ScanResult, board: np.ndarray
) -> tuple[FusedEngine, dict[str, int]]:
    """Make the epoch's state and replay the journal into it; (engine, highest number of each source)."""
    config = context.engine
    risk_arrays = memory.arena(context.risk_state, risk_spec(config))
    risk_state.reset(risk_state.make_state(risk_arrays), config.limits)
    shards = []
    for k in range(config.shards):
        arrays = memory.arena(context.matcher_state(k), shard_spec(config))
        matcher_state.reset(matcher_state.make_state(arrays), k, config.shards)
        shards.append(arrays)
    lanes = sequencer.make_state(memory.arena(context.sources_state, sequencer.state_spec(config.limits.timers)))
    engine = FusedEngine(config, risk_arrays, shards)
    store_release(board, b.LINE_WORDS * LINE_RECOVERY + RECOVERY_TOTAL, found.last_seq)
    if found.last_seq:
        for slots in JournalReader(journal, to_seq=found.last_seq):
            engine.feed(slots)
            sequencer.observe(lanes, slots)
            store_release(board, b.LINE_WORDS * LINE_RECOVERY + RECOVERY_DONE, engine.settled_seq)
    broken = engine.unbalanced_asset()
    if broken:
        msg = f"after replay of {found.last_seq} commands asset {abs(broken)} is not balanced: refusing to serve"
        raise RecoveryRefused(msg)
    return engine, {str(source): int(n) for source, n in enumerate(lanes.sources) if n}


def publish_tail(memory: EpochMemory, engine: FusedEngine) -> None:
    """Make the epoch's outcome ring with the newest outcomes of the replay in it."""
    total = int(engine.risk.meta[risk_state.OUTCOMES])
    ring = memory.outcome_ring(total - min(total, engine.engine.rings.outcome))
    ring.slots[:] = engine.outcomes.slots
    publish(ring, total)


def warm() -> None:
    """Compile or load every kernel that recovery uses."""
    warm_risk()
    warm_matcher()
    engine = FusedEngine(
        Engine(limits=Limits(accounts=1, assets=1, instruments=1, orders=8, leaves=8, withdrawal_holds=8))
    )
    engine.step()
    engine.hashes()
