"""The replica: follows the durable journal, applies it fused, and compares itself with the live engine at every checkpoint.

A difference raises an alarm on the board and names the structure. What the live engine published at each checkpoint is kept in
``<home>/checkpoints.jsonl``, for ``verify``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from persistence.audit.trail import AuditTrail, open_trail
from persistence.checkpoints import CHECKPOINTS_FILE, Publishers, attach_publishers, differing, keep, publishers_of
from persistence.fused import FusedEngine
from persistence.journal.reader import JournalReader
from persistence.journal.store import JournalStore
from persistence.recovery import warm
from protocol import board as b
from protocol.instance import Context
from protocol.readers import ready_word
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import BoardFile, claim_line
from ringbuf.errors import RingError
from ringbuf.loop import run_loop
from ringbuf.waiting import ADAPTIVE
from risk import state as s

__all__ = ["Replica", "main", "warm"]


class Replica:
    """Applies the journal up to the durable cursor and compares checkpoints with the live engine of the epoch that wrote them.

    Parameters
    ----------
    context : of the process; its epoch is the one in which the replica starts
    attach : gives where the live engine of an epoch publishes; RingError where that epoch is over
    board : the instance's board
    journal : the store, where it is not the context's directory
    audit : opens the audit trail that follows this engine; None: none is kept
    """

    def __init__(
        self,
        context: Context,
        attach: Callable[[int], Publishers],
        board: Any,
        journal: JournalStore | None = None,
        audit: Callable[[FusedEngine], AuditTrail | None] | None = None,
    ) -> None:
        self._reader = JournalReader(context.journal_dir if journal is None else journal)
        self._engine = FusedEngine(context.engine)
        self._audit = None if audit is None else audit(self._engine)
        self._own = publishers_of(self._engine)
        self._attach = attach
        self._epoch = 0
        self._live: Publishers | None = None
        self._board = board
        self._compared = 0
        self._file = Path(context.home) / CHECKPOINTS_FILE

    def step(self) -> int:
        """Apply one batch; returns the slots applied."""
        slots = self._reader.poll(int(load_acquire(self._board, b.DURABLE_SEQ)))
        if slots is None:
            return self._compare()
        if self._audit is None:
            self._engine.feed(slots)
        else:
            self._audit.feed(self._engine, slots)
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
            store_release(self._board, b.DIVERGED, 1)
            what = f"{', '.join(different)} differ" if different else f"asset {abs(broken)} is not balanced"
            msg = f"replica and live engine at checkpoint {seq}: {what}; live {live}, replica {own}"
            raise RuntimeError(msg)
        keep(self._file, live)
        store_release(self._board, b.VERIFIED_SEQ, seq)
        return 1


def main(context: Context) -> int:
    """Follow the journal until told to stop."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    audit = partial(open_trail, Path(context.home))
    replica = Replica(context, partial(attach_publishers, context), board, audit=audit)
    store_release(board, ready_word(context.line), os.getpid())
    run_loop(board, context.line, ADAPTIVE, replica.step, b.STOP)
    return 0
