"""Writing a snapshot: of an engine that stands still, or beside a replica that goes on.

A fork of the replica has the state as it was at one command, for the price of the pages that the replica changes meanwhile. It writes at
low priority and at a limited rate, removes generations that nobody needs, and ends; its exit status says what became of it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from persistence.children import fork_beside
from persistence.consumers import positions
from persistence.fused import FusedEngine
from persistence.snapshots.errors import SnapshotError
from persistence.snapshots.file import FORMAT, MAP_BYTES, Manifest, Pace, write_snapshot
from persistence.snapshots.folder import SnapshotFolder
from persistence.snapshots.state import Arrays, parts_of
from protocol import board as b
from protocol.versions import this_program
from sequencer import core as sequencer

PROCESS_NAME = "cb:snapshot"
_NICE = 19


class Settings(msgspec.Struct, frozen=True):
    """When and how snapshots are written: ``[snapshots]`` of the configuration."""

    interval_s: int = 60
    """Sequenced time from one to the next; 0 = only when asked for."""
    keep: int = 3
    bytes_per_s: int = 64 << 20
    map_bytes: int = MAP_BYTES


def manifest_of(
    engine: FusedEngine, lanes: Arrays, journal_id: str, epoch: int, created_ts_ns: int
) -> tuple[Manifest, dict[str, Arrays]]:
    """What ``write_snapshot`` takes, for an engine that stands still; the arrays are not copied.

    ``lanes`` are the sequencer's arrays, ``epoch`` that of the batch with the last command, ``created_ts_ns`` UTC.
    """
    written = this_program()
    manifest = Manifest(
        format=FORMAT,
        schema=written.schema,
        journal_id=journal_id,
        epoch=epoch,
        seq=engine.last_seq,
        ts_ns=int(lanes["meta"][sequencer.TS_NS]),
        created_ts_ns=created_ts_ns,
        shards=engine.engine.shards,
        limits=engine.engine.limits,
        hashes=engine.hashes(),
        arrays=(),
        rules=written.rules,
        release=written.release,
    )
    return manifest, parts_of(engine, lanes)


def keep_snapshot(
    home: Path, settings: Settings, engine: FusedEngine, lanes: Arrays, journal_id: str, epoch: int, created_ts_ns: int
) -> int:
    """Write a generation of an engine that stands still and remove those that nobody needs; bytes of the file. Raises SnapshotError."""
    if engine.unbalanced_asset():
        raise SnapshotError(f"command {engine.last_seq}: asset {abs(engine.unbalanced_asset())} is not balanced")
    folder = SnapshotFolder(home)
    manifest, parts = manifest_of(engine, lanes, journal_id, epoch, created_ts_ns)
    path = folder.path(engine.last_seq)
    size_bytes = write_snapshot(path, manifest, parts, Pace(settings.bytes_per_s), settings.map_bytes)
    folder.prune(settings.keep, positions(home).values())
    return size_bytes


class Writer(Protocol):
    """Does one job at a time beside its caller."""

    def begin(self, work: Callable[[], int]) -> None:
        """Begin a job, on the memory as it is now; its result is a number."""

    def poll(self) -> int | None:
        """Result of the job; None while it goes on."""

    def abandon(self) -> None:
        """End the job, if there is one, at once."""


class ForkWriter:
    """A job in a fork of this process, which has one thread."""

    def __init__(self) -> None:
        self._pid = 0

    def begin(self, work: Callable[[], int]) -> None:
        """Fork."""
        assert self._pid == 0, "one snapshot at a time"
        self._pid = fork_beside(PROCESS_NAME, work, _NICE)

    def poll(self) -> int | None:
        """Exit status of the fork, as a shell counts it; None while it runs."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return None
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def abandon(self) -> None:
        """Kill the fork and reap it."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def write_beside(
    home: Path, settings: Settings, engine: FusedEngine, lanes: Arrays, journal_id: str, epoch: int
) -> int:
    """The job of a ``ForkWriter``: 0, or ``protocol.board.SNAPSHOT_*`` with the reason on stderr."""
    began_s = time.monotonic()
    try:
        size_bytes = keep_snapshot(home, settings, engine, lanes, journal_id, epoch, time.time_ns())
    except SnapshotError as error:
        say(f"snapshot at command {engine.last_seq} failed: {error}")
        return error.problem
    took_s = time.monotonic() - began_s
    say(f"snapshot at command {engine.last_seq}: {size_bytes} bytes in {took_s:.2f} s")
    return 0


def say(text: str) -> None:
    """A line for the log of the process."""
    sys.stderr.write(text + "\n")


def problem_of_status(status: int) -> int:
    """``protocol.board.SNAPSHOT_*`` for what a job came to; 0 where it succeeded."""
    if status == 0 or status in b.SNAPSHOT_PROBLEM_TEXT:
        return status
    return b.SNAPSHOT_WRITER_DIED
