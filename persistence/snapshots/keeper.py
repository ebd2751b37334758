"""When a snapshot is due, and what became of the last one: the replica's side, told on the board."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from persistence.snapshots.file import Manifest
from persistence.snapshots.folder import SnapshotFolder
from persistence.snapshots.writer import Settings, Writer, problem_of_status, say
from protocol import board as b
from ringbuf.atomics import store_release

ASK_FILE: Final = "ask"
"""In the folder of snapshots: an operator asks for one at the next checkpoint. Removed when it is begun."""
_LOOK_NS: Final = 100_000_000


class Keeper:
    """Says when, has it written, and publishes the result.

    Parameters
    ----------
    home : the home
    settings : how often
    board : int64 board; this process writes the SNAPSHOT_* words
    writer : who does the work
    clock_ns : time that never falls, for looks at the folder
    utc_ns : UTC
    """

    def __init__(
        self,
        home: Path,
        settings: Settings,
        board: np.ndarray,
        writer: Writer,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.settings = settings
        self._folder = SnapshotFolder(home)
        self._folder.make()
        self._board = board
        self._writer = writer
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._looked_ns = 0
        self._asked = False
        self._last_ts_ns = 0
        self._seq = 0
        self._ts_ns = 0
        self._failures = 0

    def begin_with(self, newest: Manifest) -> None:
        """The newest sound snapshot is this one."""
        self._last_ts_ns = newest.ts_ns
        store_release(self._board, b.SNAPSHOT_TS_NS, newest.created_ts_ns)
        store_release(self._board, b.SNAPSHOT_SEQ, newest.seq)

    def due(self, ts_ns: int) -> bool:
        """Whether a checkpoint of this sequenced time is to be written."""
        if self._seq:
            return False
        interval_ns = self.settings.interval_s * 1_000_000_000
        return self._asked or (interval_ns > 0 and ts_ns >= self._last_ts_ns + interval_ns)

    def begin(self, seq: int, ts_ns: int, work: Callable[[], int]) -> None:
        """Have the state at ``seq`` written."""
        self._asked = False
        (self._folder.folder / ASK_FILE).unlink(missing_ok=True)
        self._seq, self._ts_ns = seq, ts_ns
        store_release(self._board, b.SNAPSHOT_WRITING, seq)
        try:
            self._writer.begin(work)
        except OSError as error:
            say(f"snapshot at command {seq}: no process for it: {error}")
            self._ended(b.SNAPSHOT_WRITER_DIED)

    def step(self) -> None:
        """Look for the end of a job, and now and then for a request."""
        if self._seq:
            status = self._writer.poll()
            if status is not None:
                self._ended(problem_of_status(status))
        now_ns = self._clock_ns()
        if now_ns - self._looked_ns >= _LOOK_NS:
            self._looked_ns = now_ns
            self._asked = (self._folder.folder / ASK_FILE).exists()

    def close(self) -> None:
        """End what is being written."""
        self._writer.abandon()

    def _ended(self, problem: int) -> None:
        if problem:
            self._failures += 1
            # Not at once again: at the next checkpoint.
        else:
            self._failures = 0
            self._last_ts_ns = self._ts_ns
            store_release(self._board, b.SNAPSHOT_TS_NS, self._utc_ns())
            store_release(self._board, b.SNAPSHOT_SEQ, self._seq)
        store_release(self._board, b.SNAPSHOT_PROBLEM, problem)
        store_release(self._board, b.SNAPSHOT_FAILURES, self._failures)
        self._seq = 0
        store_release(self._board, b.SNAPSHOT_WRITING, 0)
