"""Creates the rings of an epoch, with every reader registered, and the ingress rings that outlive epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from protocol import board as board_lines
from protocol import enums, readers
from protocol.instance import Context
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
from ringbuf.file import RingFile
from ringbuf.ring import published, reader_cursor

REPORT_FILE: Final = "recovery.json"


class Recovery(msgspec.Struct, frozen=True):
    """What recovery says in ``<epoch_dir>/recovery.json``."""

    last_seq: int = 0
    last_ts_ns: int = 0
    sources: dict[int, int] = {}
    """Highest number of each producer that the journal holds."""
    last_epoch: int = 0
    """Highest epoch that the journal knows."""
    note: str = ""
    """What an operator should know, such as a tail that was cut."""
    error: str = ""
    """Why it did not succeed."""


def read_report(epoch_dir: Path) -> Recovery:
    """Recovery's report; an empty one where there is none or it is not whole."""
    try:
        return msgspec.json.decode((epoch_dir / REPORT_FILE).read_bytes(), type=Recovery, strict=False)
    except (FileNotFoundError, msgspec.MsgspecError):
        return Recovery()


def create_epoch_rings(context: Context, recovery: Recovery, board: np.ndarray) -> None:
    """Create the command, verdict and event rings of the epoch and register the readers of all of its rings.

    The outcome ring exists already: recovery made it, with the outcomes of the tail.
    """
    engine = context.engine
    split = engine.topology == "split"
    shards = range(engine.shards if split else 0)
    sizes = engine.rings
    epoch, start = context.epoch, recovery.last_seq

    with RingFile.create(
        context.command_ring, COMMAND_DTYPE, sizes.command, COMMAND_SCHEMA, epoch, start, board
    ) as command:
        command.add_reader(True, board_lines.LINE_RISK, reader=readers.COMMAND_RISK)
        command.add_reader(True, board_lines.LINE_JOURNAL, reader=readers.COMMAND_JOURNAL)
        for k in shards:
            line = board_lines.LINE_FIRST_MATCHER + k
            command.add_reader(True, line, reader=readers.COMMAND_FIRST_MATCHER + k)
    if split:
        with RingFile.create(
            context.verdict_ring, VERDICT_DTYPE, sizes.command, VERDICT_SCHEMA, epoch, start, board
        ) as verdict:
            for k in shards:
                verdict.add_reader(True, board_lines.LINE_FIRST_MATCHER + k, reader=k)
    for k in shards:
        with RingFile.create(context.event_ring(k), EVENT_DTYPE, sizes.event, EVENT_SCHEMA, epoch, 0, board) as event:
            event.add_reader(True, board_lines.LINE_RISK, reader=readers.EVENT_RISK)
    with RingFile.attach(context.outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, epoch, board) as outcome:
        if engine.gating_outcome_reader:
            outcome.add_reader(True, board_lines.LINE_REPLAY, reader=readers.OUTCOME_COLLECTOR)


class IngressRings:
    """The ingress rings of an instance; they are made once and go on over epochs."""

    def __init__(self) -> None:
        self._files: dict[int, RingFile] = {}

    def prepare(self, context: Context, recovery: Recovery, board: np.ndarray) -> None:
        """Make the rings of all sources that have none, from the numbers that the journal holds.

        Risk's own ring is made anew each epoch: its outbox is recovered with its state and sends again what the journal
        does not have.
        """
        if enums.SOURCE_RISK in self._files:
            file = self._files.pop(enums.SOURCE_RISK)
            file.unlink()
            file.close()
        for source in context.engine.sources:
            if source not in self._files:
                self._files[source] = self._create(context, source, recovery.sources.get(source, 0), board)

    def drained(self) -> bool:
        """Whether everything that producers published is durable."""
        return all(
            published(file.ring) == reader_cursor(file.ring, readers.INGRESS_SEQUENCER) for file in self._files.values()
        )

    def close(self) -> None:
        """Unmap all."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    @staticmethod
    def _create(context: Context, source: int, start: int, board: np.ndarray) -> RingFile:
        path = context.ingress(source)
        file = RingFile.create(path, COMMAND_DTYPE, context.engine.rings.ingress, COMMAND_SCHEMA, 0, start, board)
        file.add_reader(True, board_lines.LINE_SEQUENCER, reader=readers.INGRESS_SEQUENCER)
        return file
