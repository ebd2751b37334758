"""An engine made of a snapshot, with any number of shards, and proved by its hashes."""

from __future__ import annotations

import msgspec
import numpy as np

from matcher import state as m
from matcher.process import shard_spec, shard_state
from matcher.rebuild import relevel, take_over_books
from persistence.fused import FusedEngine
from persistence.snapshots.errors import SnapshotError
from persistence.snapshots.file import Snapshot
from persistence.snapshots.state import OUTCOMES, RISK, SEQUENCER, Arrays, State, matcher_part, place_outcomes
from protocol.instance import Engine, Limits
from protocol.records import OUTCOME_DTYPE
from protocol.versions import executable
from ringbuf.arena import private_arena
from risk import state as s
from risk.ledger import index_holds

_LEVELS = ("leaves", "levels", "nodes", "leaf_table", "kept", "recent_ids", "other_ids")


def restore(snapshot: Snapshot, config: Engine, state: State, *, convert: bool = False) -> FusedEngine:
    """Fill ``state``, whose arrays are all zero (not reset: a snapshot leaves out what is zero), and give the engine over it.

    The snapshot may have been written with another number of shards. What was loaded is hashed by structure and compared with what the
    writer had; SnapshotError where anything differs, and ``state`` is then of no use. With ``convert`` the snapshot may also be of other
    rules or another schema: fields go by their names, and in place of the hashes, which another version may take over other things, the
    conservation of money is checked.
    """
    manifest = snapshot.manifest
    if not executable(manifest.written) and not convert:
        raise SnapshotError(f"{snapshot.path}: written by {manifest.written}; `cambist upgrade` converts it")
    if manifest.limits != config.limits:
        raise SnapshotError(
            f"{snapshot.path}: made with other [tables] than this home has: {_different(manifest.limits, config.limits)}"
        )
    for arrays in (state.risk, *state.shards, state.sequencer):
        assert not arrays["meta"].any(), "what is loaded goes into arrays of zeros"
    _load_risk(snapshot, state.risk)
    if manifest.shards == config.shards:
        for shard, arrays in enumerate(state.shards):
            _load_matcher(snapshot, shard, arrays)
    else:
        _redistribute(snapshot, config, state.shards)
    snapshot.load(SEQUENCER, state.sequencer)
    if int(state.risk["meta"][s.SETTLED]) != manifest.seq:
        raise SnapshotError(
            f"{snapshot.path}: its state is of command {state.risk['meta'][s.SETTLED]}, not {manifest.seq}"
        )
    engine = FusedEngine(config, state.risk, state.shards, last_seq=manifest.seq)
    place_outcomes(engine, _outcomes(snapshot))
    if not executable(manifest.written):
        if engine.unbalanced_asset():
            raise SnapshotError(f"{snapshot.path}: converted, asset {abs(engine.unbalanced_asset())} is not balanced")
        return engine
    found = engine.hashes()
    different = [name for name, value in found.items() if manifest.hashes.get(name) != value]
    if different:
        raise SnapshotError(f"{snapshot.path}: what was loaded is not what was written: {', '.join(different)} differ")
    return engine


def _load_risk(snapshot: Snapshot, arrays: Arrays) -> None:
    """Risk's arrays; the index of another version's orders is made anew, for it may have been another one."""
    if executable(snapshot.manifest.written):
        snapshot.load(RISK, arrays)
        return
    snapshot.load(RISK, arrays, without=s.INDEX_ARRAYS)
    risk = s.make_state(arrays)
    s.set_index_shift(risk)
    index_holds(risk)


def _load_matcher(snapshot: Snapshot, shard: int, arrays: Arrays) -> None:
    """A shard's arrays; another version's orders are entered into levels and tables anew, for it may have laid them out otherwise."""
    if executable(snapshot.manifest.written):
        snapshot.load(matcher_part(shard), arrays)
        return
    snapshot.load(matcher_part(shard), arrays, without=_LEVELS)
    m.forget_levels(m.make_state(arrays))
    relevel(shard_state(arrays))


def _different(one: Limits, other: Limits) -> str:
    names = [f for f in Limits.__struct_fields__ if getattr(one, f) != getattr(other, f)]
    return ", ".join(f"{name} {getattr(one, name)} (home: {getattr(other, name)})" for name in names)


def _outcomes(snapshot: Snapshot) -> np.ndarray:
    stored = snapshot.array(OUTCOMES, "slots")
    if stored.dtype == OUTCOME_DTYPE:
        return stored
    slots = np.zeros(len(stored), dtype=OUTCOME_DTYPE)
    for name in set(stored.dtype.names or ()) & set(OUTCOME_DTYPE.names or ()):
        slots[name] = stored[name]
    return slots


def _redistribute(snapshot: Snapshot, config: Engine, shards: list[Arrays]) -> None:
    """Put the orders of the written shards into those of this engine, each level in its order; sums over shards go to the first."""
    seq = snapshot.manifest.seq
    for shard, arrays in enumerate(shards):
        m.reset(m.make_state(arrays), shard, config.shards)
    written = msgspec.structs.replace(config, shards=snapshot.manifest.shards)
    targets = [shard_state(arrays) for arrays in shards]
    for number in range(written.shards):
        arrays = private_arena(shard_spec(written))
        _load_matcher(snapshot, number, arrays)
        source = shard_state(arrays)
        for target in targets:
            if not take_over_books(target, source):
                raise SnapshotError(
                    f"{snapshot.path}: the books of {written.shards} shards do not fit into {config.shards}; "
                    f"start with engine.shards = {written.shards}"
                )
        meta = shards[0]["meta"]
        for word in (m.EVENT_HASH, m.CHECKPOINT_EVENT_HASH, m.CHECKPOINT_BOOKS_HASH):
            meta[word : word + 1] += source.meta[word : word + 1]
        checkpoint = int(source.meta[m.CHECKPOINT_SEQ])
    for arrays in shards:
        arrays["meta"][m.APPLIED_SEQ] = seq
        arrays["meta"][m.CHECKPOINT_SEQ] = checkpoint
