"""The replica: follows the durable journal, applies it fused, and compares itself with the live engine at every checkpoint.

A difference raises an alarm on the board and names the structure. What the live engine published at each checkpoint is kept in
``<home>/checkpoints.jsonl``, for ``verify``. The replica begins with the newest sound snapshot, and at a checkpoint that was found
equal it has the next one written when that is due (see ``persistence.snapshots``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from persistence.archive import Archiver, Rule
from persistence.audit.trail import AuditTrail, open_trail
from persistence.checkpoints import CHECKPOINTS_FILE, Publishers, attach_publishers, differing, keep, publishers_of
from persistence.fused import FusedEngine
from persistence.history import latest
from persistence.journal.reader import JournalReader
from persistence.journal.segments import history_at, lineage
from persistence.journal.store import DirectoryStore, JournalStore
from persistence.recovery import warm
from persistence.snapshots import private_state
from persistence.snapshots.keeper import Keeper
from persistence.snapshots.state import Arrays
from persistence.snapshots.writer import ForkWriter, Settings, say, write_beside
from protocol import board as b
from protocol import enums as e
from protocol.instance import Context, Engine
from protocol.readers import ready_word
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import BoardFile, claim_line
from ringbuf.errors import RingError
from ringbuf.loop import run_loop
from ringbuf.waiting import ADAPTIVE
from risk import state as s
from sequencer import core as sequencer

__all__ = ["Replica", "main", "warm"]


class Replica:
    """Applies the journal up to the durable cursor and compares checkpoints with the live engine of the epoch that wrote them.

    Parameters
    ----------
    context : of the process; its epoch is the one in which the replica starts
    attach : gives where the live engine of an epoch publishes; RingError where that epoch is over
    board : the instance's board
    journal : the store, where it is not the context's directory
    keeper : has snapshots written; None = there are none
    audit : opens the audit trail that follows this engine; None: none is kept
    stops : a difference also makes gateways acknowledge nothing any more
    """

    def __init__(
        self,
        context: Context,
        attach: Callable[[int], Publishers],
        board: Any,
        journal: JournalStore | None = None,
        audit: Callable[[FusedEngine], AuditTrail | None] | None = None,
        keeper: Keeper | None = None,
        *,
        stops: bool = False,
    ) -> None:
        self._home = Path(context.home)
        self._journal = DirectoryStore(context.journal_dir) if journal is None else journal
        self._board = board
        self._keeper = keeper
        self._diverged = b.DIVERGED_STOP if stops else b.DIVERGED_ALARM
        self._engine, lanes = self._start(context.engine)
        self._audit = None if audit is None else audit(self._engine)
        store_release(board, b.AUDIT_STATE, _audit_state(audit is not None, self._audit))
        self._lanes = sequencer.make_state(lanes)
        self._reader = JournalReader(self._journal, from_seq=self._engine.last_seq + 1)
        self._rest: np.ndarray | None = None
        self._wanted = 0
        self._own = publishers_of(self._engine)
        self._attach = attach
        self._epoch = 0
        self._live: Publishers | None = None
        self._compared = 0
        self._equal = 0
        self._file = self._home / CHECKPOINTS_FILE

    def _start(self, config: Engine) -> tuple[FusedEngine, Arrays]:
        """An engine as of the newest sound snapshot that the durable journal reaches, else an empty one; and its lanes."""
        if self._keeper is None:
            state = private_state(config)
            return FusedEngine(config, state.risk, state.shards), state.sequencer
        durable_seq = int(load_acquire(self._board, b.DURABLE_SEQ))
        past = latest(self._home, self._journal, config, durable_seq + 1)
        for note in past.notes:
            say(note)
        if past.snapshot is not None:
            self._keeper.begin_with(past.snapshot)
        store_release(self._board, b.REPLICATED_SEQ, past.engine.settled_seq)
        return past.engine, past.lanes

    def step(self) -> int:
        """Apply one batch, or its part up to a checkpoint at which a snapshot is due; returns the slots applied."""
        if self._keeper is not None:
            self._keeper.step()
            if self._wanted:
                return self._write_when_equal(self._keeper)
        slots = self._next()
        if slots is None:
            if self._audit is not None:
                self._audit.keep_when_quiet()
            return self._compare()
        if self._audit is None:
            self._engine.feed(slots)
        else:
            self._audit.feed(self._engine, slots)
        sequencer.observe(self._lanes, slots)
        store_release(self._board, b.REPLICATED_SEQ, self._engine.settled_seq)
        self._compare()
        return len(slots)

    def _next(self) -> np.ndarray | None:
        """What comes next of the durable journal; up to a checkpoint with it where a snapshot is due there."""
        slots = self._rest
        self._rest = None
        if slots is None:
            slots = self._reader.poll(int(load_acquire(self._board, b.DURABLE_SEQ)))
        if slots is None or self._keeper is None:
            return slots
        for place in np.flatnonzero(slots["type"] == e.CHECKPOINT).tolist():
            if self._keeper.due(int(slots["ts_ns"][place])):
                self._wanted = int(slots["seq"][place])
                if place + 1 < len(slots):
                    self._rest = slots[place + 1 :]
                return slots[: place + 1]
        return slots

    def _write_when_equal(self, keeper: Keeper) -> int:
        """Stand at a checkpoint until the live engine has come to it, and have the state written if they are equal there."""
        self._compare()
        if self._equal == self._wanted:
            self._begin_snapshot(keeper)
        elif self._live is not None and self._compared < self._wanted:
            return 0
        self._wanted = 0
        return 1

    def _begin_snapshot(self, keeper: Keeper) -> None:
        lanes = dict(self._lanes.members())
        work = partial(
            write_beside,
            self._home,
            keeper.settings,
            self._engine,
            lanes,
            history_at(lineage(self._journal).headers, self._wanted),
            self._reader.epoch,
        )
        keeper.begin(self._wanted, int(lanes["meta"][sequencer.TS_NS]), work)

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
        seq = int(self._engine.risk.meta[s.CHECKPOINT_SEQ])
        if seq <= self._compared:
            return 0
        self._follow_epoch()
        if self._live is None:
            return 0
        if self._live.newest() > seq:
            # Part of the live engine has passed a later checkpoint already: that one is compared when it is reached here.
            self._compared = seq
            return 0
        live = self._live.at(seq)
        if live is None:
            return 0
        self._compared = seq
        own = self._own.at(seq)
        assert own is not None, "after feed every matcher has passed what is settled"
        different = differing(own, live)
        broken = self._engine.unbalanced_asset()
        if different or broken:
            store_release(self._board, b.DIVERGED, self._diverged)
            what = f"{', '.join(different)} differ" if different else f"asset {abs(broken)} is not balanced"
            msg = f"replica and live engine at checkpoint {seq}: {what}; live {live}, replica {own}"
            raise RuntimeError(msg)
        self._equal = seq
        keep(self._file, live)
        store_release(self._board, b.VERIFIED_SEQ, seq)
        return 1


def _audit_state(wanted: bool, trail: AuditTrail | None) -> int:
    """``protocol.board.AUDIT_*``."""
    if not wanted:
        return b.AUDIT_NONE
    return b.AUDIT_DAMAGED if trail is None else b.AUDIT_FOLLOWS


def main(context: Context) -> int:
    """Follow the journal until told to stop."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    audit = partial(open_trail, Path(context.home))
    settings = msgspec.convert(context.options, Settings, strict=False)
    keeper = Keeper(Path(context.home), settings, board, ForkWriter())
    archiver = Archiver(
        Path(context.home), Rule(int(context.options["archive_after"]), context.options["archive_folder"])
    )
    stops = context.options["on_divergence"] == "stop"
    replica = Replica(context, partial(attach_publishers, context), board, keeper=keeper, audit=audit, stops=stops)
    store_release(board, ready_word(context.line), os.getpid())

    def step() -> int:
        archiver.step()
        return replica.step()

    run_loop(board, context.line, ADAPTIVE, step, b.STOP)
    keeper.close()
    archiver.close()
    return 0
