"""The board of an instance: shared cursors and flags, and one bell line for each process.

The board is a one-dimensional int64 array of lines of 16 words (128 bytes, so that no two lines share a pair of cache
lines). Lines 0 to 15 belong to the application; each line from 16 on is the *bell line* of one process:

====  ==============  ==================================================================================
word  name            meaning
====  ==============  ==================================================================================
0     BELL            futex word: goes up at each ring
1     SLEEPING        1 while the process sleeps or is about to
2     HEARTBEAT_NS    CLOCK_MONOTONIC of the last sign of life
3     PID             process id, 0 when nobody has the line
4     SAVED_WAKES     work that was found after a time-out only, with no bell
5     STEPS_BUSY      steps that found work (in batches of 256, or when going to sleep)
6     SLEEPS          futex sleeps
7     WAKES_RECEIVED  sleeps ended or prevented by a bell
8-15  APP0 ...        the application's
====  ==============  ==================================================================================
"""

import contextlib
import mmap
import os
import shutil
import struct
import time
from pathlib import Path
from typing import Self

import numpy as np
from numba import njit

from ringbuf.atomics import exchange, fetch_add, futex_wake, load_acquire, load_relaxed, now_ns, store_release
from ringbuf.errors import RingError, RingFormatError, RingTruncatedError, RingVersionError
from ringbuf.mapping import close_map, create_file, map_file, process_is_alive, process_start_ticks, view

__all__ = [
    "APP0",
    "BELL",
    "FIRST_BELL_LINE",
    "HEARTBEAT_NS",
    "LINE_WORDS",
    "NO_BELL",
    "PID",
    "SAVED_WAKES",
    "SLEEPING",
    "SLEEPS",
    "STEPS_BUSY",
    "WAKES_RECEIVED",
    "BoardFile",
    "alive",
    "bell_word",
    "claim_line",
    "heartbeat",
    "private_board",
    "release_line",
    "remove_stale",
    "ring_bell",
]

LINE_WORDS = 16
FIRST_BELL_LINE = 16
NO_BELL = -1

BELL = 0
SLEEPING = 1
HEARTBEAT_NS = 2
PID = 3
SAVED_WAKES = 4
STEPS_BUSY = 5
SLEEPS = 6
WAKES_RECEIVED = 7
APP0 = 8

FILE_NAME = "board"
_MAGIC = 0x4452414F42474E52  # "RNGBOARD", little endian
_VERSION = 1
# magic, version, lines, owner pid, owner start in ticks; then zeros up to the first line of the array
_HEADER = struct.Struct("<QQQQQ")
_HEADER_BYTES = 256
_WORD_BYTES = 8
# A process's start time has the grain of a clock tick; between two such clocks a second is safe and ids come back
# later.
_START_SLACK_NS = 1_000_000_000


def private_board(lines: int = FIRST_BELL_LINE + 1) -> np.ndarray:
    """A zeroed board of ``lines`` lines on private memory: int64[lines * 16]."""
    return np.zeros(lines * LINE_WORDS, dtype=np.int64)


@njit(cache=True)
def bell_word(line):
    """Index of the BELL word of ``line`` in the board."""
    return line * LINE_WORDS + BELL


@njit(cache=True, nogil=True)
def ring_bell(board, line):
    """Wake the owner of ``line`` if it sleeps or is about to; ``line`` may be NO_BELL.

    What the owner shall find must be stored before, with a ``fence()`` between (``publish`` and ``advance`` have it).
    Several processes may ring one line: the first takes the flag, so that one sleep costs one system call.
    """
    if line < 0:
        return
    base = line * LINE_WORDS
    if load_relaxed(board, base + SLEEPING) != 0 and exchange(board, base + SLEEPING, 0) != 0:
        fetch_add(board, base + BELL, 1)
        futex_wake(board, base + BELL, 1)


@njit(cache=True, nogil=True)
def heartbeat(board, line):
    """Record on ``line`` that its owner lives now. ``woke`` and ``idle_wait`` do so by themselves."""
    store_release(board, line * LINE_WORDS + HEARTBEAT_NS, now_ns())


def claim_line(board: np.ndarray, line: int, pid: int | None = None) -> None:
    """Make process ``pid`` (default: this one) the owner of bell line ``line``, awake; the counters go on."""
    base = line * LINE_WORDS
    assert FIRST_BELL_LINE <= line < len(board) // LINE_WORDS, f"no bell line {line} on this board"
    store_release(board, base + SLEEPING, 0)
    heartbeat(board, line)
    store_release(board, base + PID, os.getpid() if pid is None else pid)


def release_line(board: np.ndarray, line: int) -> None:
    """Say that nobody owns bell line ``line`` any more."""
    base = line * LINE_WORDS
    store_release(board, base + PID, 0)
    store_release(board, base + SLEEPING, 0)


def alive(board: np.ndarray, line: int, max_age_ns: int = 0) -> bool:
    """Whether the owner of bell line ``line`` runs, and with ``max_age_ns`` > 0 beat within that time.

    A zombie is dead, and so is a number that the system gave to a process begun after the last heartbeat. A loop that
    waits with ``idle_wait`` beats at least every 10 ms plus the length of a step; allow for a busy machine.
    """
    base = line * LINE_WORDS
    pid = load_acquire(board, base + PID)
    if pid <= 0:
        return False
    start_ticks = process_start_ticks(pid)
    if start_ticks == 0:
        return False
    beat_ns = load_acquire(board, base + HEARTBEAT_NS)
    since_boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    started_ns = start_ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK") - since_boot_ns
    if started_ns > beat_ns + _START_SLACK_NS:
        return False
    return max_age_ns <= 0 or time.monotonic_ns() - beat_ns <= max_age_ns


class BoardFile:
    """The board of an instance in shared memory, with the process that owns the instance recorded in the file.

    Attributes
    ----------
    path : Path
        ``<directory>/board``.
    board : np.ndarray
        int64[lines * 16], shared with all that attached.
    owner_pid : int
        Process that owns the instance.
    """

    def __init__(self, path: Path, mapping: mmap.mmap, lines: int, owner_pid: int, owner_start_ticks: int) -> None:
        self.path = path
        self.owner_pid = owner_pid
        self.owner_start_ticks = owner_start_ticks
        self._mapping = mapping
        self.board: np.ndarray = view(mapping, np.int64, lines * LINE_WORDS, _HEADER_BYTES)

    @classmethod
    def create(cls, directory: Path | str, lines: int, owner_pid: int | None = None) -> Self:
        """Make ``<directory>/board`` of ``lines`` lines (16 shared ones and one for each process) and attach to it.

        The directory exists. Make the board first in it: ``remove_stale`` knows an instance by its board.

        Raises RingExistsError, RingSpaceError.
        """
        assert lines > FIRST_BELL_LINE, (
            f"a board has {FIRST_BELL_LINE} shared lines and at least one bell line, not {lines}"
        )
        pid = os.getpid() if owner_pid is None else owner_pid
        header = _HEADER.pack(_MAGIC, _VERSION, lines, pid, process_start_ticks(pid))
        path = Path(directory) / FILE_NAME
        create_file(path, _HEADER_BYTES + lines * LINE_WORDS * _WORD_BYTES, header, reserve=True)
        return cls.attach(directory)

    @classmethod
    def attach(cls, directory: Path | str) -> Self:
        """Map the board of an instance.

        Raises RingMissingError, RingFormatError, RingVersionError, RingTruncatedError.
        """
        path = Path(directory) / FILE_NAME
        mapping = map_file(path, _HEADER_BYTES)
        try:
            lines, pid, ticks = _checked_header(path, mapping)
        except RingError:
            mapping.close()
            raise
        return cls(path, mapping, lines, pid, ticks)

    def owner_alive(self) -> bool:
        """Whether the process that owns the instance still runs."""
        return process_is_alive(self.owner_pid, self.owner_start_ticks)

    def close(self) -> None:
        """Unmap; raises RingInUseError while arrays taken from ``board`` are held elsewhere."""
        self.board = private_board(0)
        close_map(self.path, self._mapping)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked_header(path: Path, mapping: mmap.mmap) -> tuple[int, int, int]:
    magic, version, lines, pid, ticks = _HEADER.unpack_from(mapping)
    if magic != _MAGIC:
        raise RingFormatError(path, "not a board", f"{_MAGIC:#x}", f"{magic:#x}", "correct the path")
    if version != _VERSION:
        raise RingVersionError(path, "board of another version", _VERSION, version, "restart the whole instance")
    size_bytes = _HEADER_BYTES + lines * LINE_WORDS * _WORD_BYTES
    if len(mapping) < size_bytes:
        raise RingTruncatedError(
            path, "the board is cut short", f"{size_bytes} bytes", len(mapping), "remove it and restart its owner"
        )
    return lines, pid, ticks


def remove_stale(parent: Path | str, prefix: str) -> list[str]:
    """Remove the directories ``<parent>/<prefix>*`` whose board names an owner that no longer runs.

    Directories without a readable board are left alone: they are not ours, or are being made.

    Returns
    -------
    list of str
        One sentence for each directory removed.
    """
    removed = []
    for directory in sorted(Path(parent).glob(f"{prefix}*")):
        if not directory.is_dir():
            continue
        with contextlib.suppress(RingError):
            with BoardFile.attach(directory) as file:
                if file.owner_alive():
                    continue
                pid = file.owner_pid
            shutil.rmtree(directory)
            removed.append(f"removed {directory}: its owner, process {pid}, no longer runs")
    return removed
