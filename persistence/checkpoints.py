"""What an engine publishes at a checkpoint command, and the file that keeps it.

Risk publishes the hashes of verdicts, outcomes and its state when it settles the command; each matcher those of its events and books when
it passes it, somewhat before or after. All follow from the order of commands alone, and those of the matchers add up over the shards, so
that any two engines have the same, whatever their number of shards.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from matcher import state as m
from matcher.process import shard_spec
from persistence.fused import FusedEngine, risk_spec
from protocol.instance import Context
from protocol.records import COMMAND_SCHEMA
from ringbuf.arena import attach_arena
from ringbuf.atomics import load_acquire
from risk import state as s

CHECKPOINTS_FILE: Final = "checkpoints.jsonl"
_OF_RISK: Final = (
    ("verdicts", s.CHECKPOINT_VERDICT_HASH),
    ("outcomes", s.CHECKPOINT_OUTCOME_HASH),
    ("state", s.CHECKPOINT_STATE_HASH),
)
_OF_SHARDS: Final = (
    ("events", m.CHECKPOINT_EVENT_HASH),
    ("books", m.CHECKPOINT_BOOKS_HASH),
)
STRUCTURES: Final = tuple(name for name, _ in _OF_RISK + _OF_SHARDS)


class Publishers(NamedTuple):
    """Where an engine publishes its checkpoints: the meta words (int64) of risk and of each matcher. They may change at any moment."""

    risk: np.ndarray
    shards: tuple[np.ndarray, ...]

    def newest(self) -> int:
        """Highest seq of a checkpoint that any of them has published; 0 = none yet, or just changing."""
        last = int(load_acquire(self.risk, s.CHECKPOINT_SEQ))
        return max(last, *(int(load_acquire(meta, m.CHECKPOINT_SEQ)) for meta in self.shards))

    def at(self, seq: int) -> dict[str, int] | None:
        """``seq`` and the hashes (int64) by STRUCTURES of that checkpoint; None unless it is the last one of all publishers."""
        found = {"seq": seq}
        own = _words_at(self.risk, seq, s.CHECKPOINT_SEQ, _OF_RISK)
        if own is None:
            return None
        found.update(own)
        sums = np.zeros(len(_OF_SHARDS), dtype=np.int64)
        for meta in self.shards:
            words = _words_at(meta, seq, m.CHECKPOINT_SEQ, _OF_SHARDS)
            if words is None:
                return None
            sums += np.array([*words.values()], dtype=np.int64)
        found.update((name, int(total)) for (name, _), total in zip(_OF_SHARDS, sums, strict=True))
        return found


def _words_at(meta: np.ndarray, seq: int, seq_word: int, words: tuple[tuple[str, int], ...]) -> dict[str, int] | None:
    """The words as of ``seq``; None where another checkpoint stands there, or one is just being published."""
    if int(load_acquire(meta, seq_word)) != seq:
        return None
    found = {name: int(load_acquire(meta, word)) for name, word in words}
    return found if int(load_acquire(meta, seq_word)) == seq else None


def publishers_of(engine: FusedEngine) -> Publishers:
    """Those of an engine in this thread; after ``feed`` all of them stand at the last checkpoint."""
    return Publishers(engine.risk.meta, tuple(matcher.meta for matcher in engine.matchers))


def attach_publishers(context: Context, epoch: int) -> Publishers:
    """Those of the engine of an epoch. RingError where that epoch is over, or has not begun."""
    there = msgspec.structs.replace(context, epoch=epoch)
    risk = attach_arena(there.risk_state, risk_spec(context.engine), COMMAND_SCHEMA)["meta"]
    spec = shard_spec(context.engine)
    shards = range(context.engine.shards)
    return Publishers(risk, tuple(attach_arena(there.matcher_state(k), spec, COMMAND_SCHEMA)["meta"] for k in shards))


def differing(one: dict[str, int], other: dict[str, int]) -> list[str]:
    """The structures that differ. One that either lacks is not compared: files of older versions have no events and books."""
    return [name for name in STRUCTURES if name in one and name in other and one[name] != other[name]]


def keep(path: Path, checkpoint: dict[str, int]) -> None:
    """Append a checkpoint to the file, behind what a crash or a full disk may have left of a line."""
    with path.open("ab+") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, size_bytes - 1))
        whole = size_bytes == 0 or file.read(1) == b"\n"
        file.write(b"" if whole else b"\n")
        file.write(json.dumps(checkpoint).encode() + b"\n")


def kept(path: Path) -> dict[int, dict[str, int]]:
    """The checkpoints in the file by seq; a line that a crash, a full disk or a loss of power left unfinished is passed over."""
    found = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            checkpoint = json.loads(line)
            found[int(checkpoint["seq"])] = checkpoint
    return found
