"""The replica: follows the durable journal, applies it fused, and compares itself with the live engine at every checkpoint.

A difference raises an alarm on the board and names the structure. What the live engine published at each checkpoint is kept in
``<home>/checkpoints.jsonl``, for ``verify``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from persistence.fused import FusedEngine
from persistence.journal.reader import JournalReader
from persistence.journal.store import JournalStore
from persistence.recovery import warm
from protocol import board as b
from protocol.instance import Context
from protocol.readers import ready_word
from protocol.records import COMMAND_SCHEMA
from ringbuf.arena import attach_arena
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import BoardFile, claim_line
from ringbuf.errors import RingError
from ringbuf.loop import run_loop
from ringbuf.waiting import ADAPTIVE
from risk import state as s

__all__ = ["CHECKPOINTS_FILE", "HASHES", "Replica", "checkpoint_of", "main", "warm"]

CHECKPOINTS_FILE = "checkpoints.jsonl"
HASHES = (
    ("verdicts", s.CHECKPOINT_VERDICT_HASH),
    ("outcomes", s.CHECKPOINT_OUTCOME_HASH),
    ("state", s.CHECKPOINT_STATE_HASH),
)


def checkpoint_of(meta: Any) -> dict[str, int]:
    """The last checkpoint that risk settled: its seq and hashes."""
    found = {"seq": int(meta[s.CHECKPOINT_SEQ])}
    found.update({name: int(meta[word]) for name, word in HASHES})
    return found


def live_checkpoint(meta: Any) -> dict[str, int] | None:
    """The same of an engine that runs; None while it is just publishing one."""
    before = int(load_acquire(meta, s.CHECKPOINT_SEQ))
    found = {"seq": before}
    found.update({name: int(load_acquire(meta, word)) for name, word in HASHES})
    return found if before and before == int(load_acquire(meta, s.CHECKPOINT_SEQ)) else None


class Replica:
    """Applies the journal up to the durable cursor and compares checkpoints with the live engine of the epoch that wrote them.

    Parameters
    ----------
    context : of the process; its epoch is the one in which the replica starts
    attach : gives risk's meta (int64) of the live engine of an epoch; RingError where that epoch is over
    board : the instance's board
    journal : the store, where it is not the context's directory
    """

    def __init__(
        self, context: Context, attach: Callable[[int], Any], board: Any, journal: JournalStore | None = None
    ) -> None:
        self._reader = JournalReader(context.journal_dir if journal is None else journal)
        self._engine = FusedEngine(context.engine)
        self._attach = attach
        self._epoch = 0
        self._live: Any = None
        self._board = board
        self._compared = 0
        self._file = Path(context.home) / CHECKPOINTS_FILE

    def step(self) -> int:
        """Apply one batch; returns the slots applied."""
        slots = self._reader.poll(int(load_acquire(self._board, b.DURABLE_SEQ)))
        if slots is None:
            return self._compare()
        self._engine.feed(slots)
        store_release(self._board, b.REPLICATED_SEQ, self._engine.settled_seq)
        self._compare()
        return len(slots)

    def _follow_epoch(self) -> None:
        """Look at the engine that runs now: a dead one may have published a checkpoint that never became durable.

        The journal knows a new epoch before the board does, because the engine works before all of it is ready.
        """
        epoch = max(int(load_acquire(self._board, b.EPOCH)), self._reader.epoch)
        if epoch == self._epoch:
            return
        try:
            self._live = self._attach(epoch)
        except RingError:
            self._live = None
        else:
            self._epoch = epoch

    def _compare(self) -> int:
        own = checkpoint_of(self._engine.risk.meta)
        if own["seq"] <= self._compared:
            return 0
        self._follow_epoch()
        if self._live is None:
            return 0
        live = live_checkpoint(self._live)
        if live is None or live["seq"] < own["seq"]:
            return 0
        if live["seq"] > own["seq"]:
            # The live engine has settled a later checkpoint already: that one is compared when it is reached here.
            self._compared = own["seq"]
            return 0
        self._compared = own["seq"]
        different = [name for name, _ in HASHES if own[name] != live[name]]
        broken = self._engine.unbalanced_asset()
        if different or broken:
            store_release(self._board, b.DIVERGED, 1)
            what = f"{', '.join(different)} differ" if different else f"asset {abs(broken)} is not balanced"
            msg = f"replica and live engine at checkpoint {own['seq']}: {what}; live {live}, replica {own}"
            raise RuntimeError(msg)
        with self._file.open("a") as file:
            file.write(json.dumps(live) + "\n")
        store_release(self._board, b.VERIFIED_SEQ, own["seq"])
        return 1


def main(context: Context) -> int:
    """Follow the journal until told to stop."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    spec = s.state_spec(context.engine.limits, context.engine.rings.window)

    def attach(epoch: int) -> Any:
        return attach_arena(msgspec.structs.replace(context, epoch=epoch).risk_state, spec, COMMAND_SCHEMA)["meta"]

    replica = Replica(context, attach, board)
    store_release(board, ready_word(context.line), os.getpid())
    run_loop(board, context.line, ADAPTIVE, replica.step, b.STOP)
    return 0
