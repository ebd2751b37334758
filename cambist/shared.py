"""The shared memory of an instance, as its supervisor makes it: the board, ingress rings, and each epoch's rings.

Importing this imports numba; the supervisor does so while the fork server loads the kernels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cambist.recovered import Recovery
from gateway.rates import table as rates
from protocol import board as words
from protocol import enums, readers
from protocol.instance import SHARED_MEMORY, Context
from protocol.records import (
    COMMAND_DTYPE,
    COMMAND_SCHEMA,
    EVENT_DTYPE,
    EVENT_SCHEMA,
    OUTCOME_DTYPE,
    OUTCOME_SCHEMA,
    VERDICT_DTYPE,
    VERDICT_SCHEMA,
)
from ringbuf.arena import create_arena
from ringbuf.atomics import fence, load_acquire, store_release
from ringbuf.bank import bank_spec, init_bank
from ringbuf.board import BoardFile, claim_line, heartbeat, remove_stale, ring_bell
from ringbuf.file import RingFile
from ringbuf.ring import published, reader_cursor


def remove_dead_instances() -> list[str]:
    """Remove the shared memory of instances whose supervisor no longer runs; a sentence for each."""
    return remove_stale(SHARED_MEMORY, "cambist-")


class SharedMemory:
    """Folder ``folder`` with a new board and a table for rate limits, owned by this process; ``remove`` ends it.

    Attributes
    ----------
    board : np.ndarray
        int64[LINES * LINE_WORDS]; see ``protocol.board``.
    """

    def __init__(self, folder: Path, rate_rows: int) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True)
        self.board: np.ndarray = BoardFile.create(folder, words.LINES).board
        rates.create(folder / rates.FILE_NAME, rate_rows)
        self._ingress: dict[int, RingFile] = {}
        claim_line(self.board, words.LINE_SUPERVISOR)
        self.store(words.SUPERVISOR_PID, os.getpid())

    def load(self, word: int) -> int:
        """Word of the board."""
        return int(load_acquire(self.board, word))

    def store(self, word: int, value: int) -> None:
        """Set a word of the board; what was stored before is seen before."""
        store_release(self.board, word, value)

    def wake(self, lines: Iterable[int]) -> None:
        """Wake the owners of ``lines``, so that they look at what was stored."""
        fence()
        for line in lines:
            ring_bell(self.board, line)

    def beat(self) -> None:
        """Show that the supervisor lives."""
        heartbeat(self.board, words.LINE_SUPERVISOR)

    def begin_epoch(self, context: Context) -> None:
        """Remove what former epochs left and make the folder of the new one."""
        for former in self.folder.glob("epoch-*"):
            shutil.rmtree(former, ignore_errors=True)
        context.epoch_dir.mkdir(mode=0o700)

    def create_rings(self, context: Context, recovery: Recovery) -> None:
        """Make the epoch's rings and the missing ingress rings, with their readers; RingError if that fails."""
        self._create_epoch_rings(context, recovery)
        # Risk's own ring is made anew each epoch: its outbox is recovered with its state, and sends again what the
        # journal does not have.
        former = self._ingress.pop(enums.SOURCE_RISK, None)
        if former is not None:
            former.unlink()
            former.close()
        for source in context.engine.sources:
            if source not in self._ingress:
                self._ingress[source] = self._create_ingress(context, source, recovery.sources.get(source, 0))

    def drained(self) -> bool:
        """Whether everything that producers published is durable and settled."""
        sequenced = self.load(words.SEQUENCED_SEQ)
        return sequenced == self.load(words.DURABLE_SEQ) == self.load(words.SETTLED_SEQ) and all(
            published(file.ring) == reader_cursor(file.ring, readers.INGRESS_SEQUENCER)
            for file in self._ingress.values()
        )

    def remove(self) -> None:
        """Remove all files; what is mapped elsewhere lives until it is unmapped there."""
        for file in self._ingress.values():
            file.close()
        self._ingress.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _create_epoch_rings(self, context: Context, recovery: Recovery) -> None:
        """Make command, verdict and event rings; recovery made the outcome ring, with the outcomes of the tail."""
        engine, epoch, start, board = context.engine, context.epoch, recovery.last_seq, self.board
        sizes = engine.rings
        split = engine.topology == "split"
        matchers = [words.LINE_FIRST_MATCHER + k for k in range(engine.shards if split else 0)]
        with RingFile.create(
            context.command_ring, COMMAND_DTYPE, sizes.command, COMMAND_SCHEMA, epoch, start, board
        ) as command:
            command.add_reader(True, words.LINE_RISK, reader=readers.COMMAND_RISK)
            command.add_reader(True, words.LINE_JOURNAL, reader=readers.COMMAND_JOURNAL)
            for k, line in enumerate(matchers):
                command.add_reader(True, line, reader=readers.COMMAND_FIRST_MATCHER + k)
        if split:
            with RingFile.create(
                context.verdict_ring, VERDICT_DTYPE, sizes.command, VERDICT_SCHEMA, epoch, start, board
            ) as verdict:
                for k, line in enumerate(matchers):
                    verdict.add_reader(True, line, reader=k)
            spec = bank_spec(EVENT_DTYPE, sizes.event, len(matchers))
            bank = create_arena(context.event_bank, spec, EVENT_SCHEMA)
            init_bank(bank["words"], bank["slots"], len(matchers), words.LINE_RISK, matchers)
        with RingFile.attach(context.outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, epoch, board) as outcome:
            if engine.gating_outcome_reader:
                outcome.add_reader(True, words.LINE_REPLAY, reader=readers.OUTCOME_COLLECTOR)

    def _create_ingress(self, context: Context, source: int, start: int) -> RingFile:
        size = context.engine.rings.ingress
        path = context.ingress(source)
        file = RingFile.create(path, COMMAND_DTYPE, size, COMMAND_SCHEMA, 0, start, self.board)
        file.add_reader(True, words.LINE_SEQUENCER, reader=readers.INGRESS_SEQUENCER)
        return file
