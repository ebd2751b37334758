"""Snapshots in the simulator: the real files, written in steps, failing as disks do, torn by power losses, and rotting now and then.

A fork has the state as it was when it was made; here the file is made at that moment. The folder as it was at each call that the order
of bytes and names on a disk hangs on is kept, and shown one after another while time passes. What dies between leaves the folder so.
"""

import contextlib
import errno
import io
import os
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from persistence.snapshots import SnapshotError, SnapshotFolder, open_snapshot
from persistence.snapshots import file as module
from persistence.snapshots.writer import Settings
from protocol import board as b
from risk import state as s

_INTERVALS_S = (1, 3, 10)
_FAILS = 0.1
_ROTS = 0.12
_TINY_MAPS = 0.05
_TINY_MAP_BYTES = 64 << 10
_STEPS_ON = 0.5
_SPOILS = 0.01
_SECTOR_BYTES = 512


class Lost(Exception):
    """A snapshot that was announced is not what was written; the text says which."""


class Shown(NamedTuple):
    """The folder at one moment."""

    files: dict[str, bytes]
    synced: frozenset[str]
    """Files whose content is on the disk."""
    named: frozenset[str]
    """Names that are."""


class SimSnapshots:
    """What a seed draws about snapshots, from a generator of its own: that the rest of its history is the same without them."""

    def __init__(self, seed: int, profile: str, home: Path, walk: Callable[[str], None]) -> None:
        self.random = random.Random(f"snapshots {profile} {seed}")
        self.walk = walk
        self.folder = SnapshotFolder(home)
        self.folder.make()
        for path in self.folder.folder.iterdir():
            path.unlink()
        self.enabled = self.random.random() < 0.75
        self.settings = Settings(self.random.choice(_INTERVALS_S), self.random.choice((1, 2, 3)), 0)
        self.faults = profile != "quick"
        self.calm = False
        self.tiny_map = self.faults and self.random.random() < _TINY_MAPS
        if self.tiny_map:
            self.settings = Settings(self.settings.interval_s, self.settings.keep, 0, _TINY_MAP_BYTES)
        self.announced: set[int] = set()
        """Seqs of snapshots that the replica was told of, and that nothing has happened to since."""
        self.unsynced: set[str] = set()
        self.unnamed: set[str] = set()

    def writer(self) -> "SimWriter":
        """That of a new replica."""
        return SimWriter(self)

    def rot(self) -> None:
        """Now and then a generation is no longer what was written: some bits of it, a sector, or its end, from any byte on."""
        seqs = self.folder.seqs()
        if not (seqs and self.faults and self.random.random() < _ROTS):
            return
        seq = self.random.choice(seqs)
        self.announced.discard(seq)
        path = self.folder.path(seq)
        content = bytearray(path.read_bytes())
        place = self.random.randrange(len(content))
        kind = self.random.randrange(3)
        if kind == 0:
            # Where something is: most of a page is nothing.
            used = [k for k, byte in enumerate(content) if byte]
            for place in self.random.choices(used, k=self.random.choice((1, 8, 64))):
                content[place] ^= 1 << self.random.randrange(8)
        elif kind == 1:
            place -= place % _SECTOR_BYTES
            end = min(place + _SECTOR_BYTES, len(content))
            content[place:end] = self.random.randbytes(end - place)
        else:
            del content[place:]
        path.write_bytes(content)

    def spoil(self, engine: Any) -> bool:
        """Now and then a word of the replica's memory is no longer what it was: a unit of a balance counts as locked; whether it was so."""
        if self.calm or not self.faults or self.random.random() >= _SPOILS:
            return False
        rows = engine.risk.balances.reshape(-1, s.BALANCE_WORDS)
        funded = np.flatnonzero(rows[:, s.FREE] > 0)
        if not len(funded):
            return False
        row = int(funded[self.random.randrange(len(funded))])
        rows[row, s.FREE] -= 1
        rows[row, s.LOCKED] += 1
        return True

    def power_loss(self) -> None:
        """What is not on the disk is kept in parts, down to none of it, and a name that is not is there or not."""
        for path in list(self.folder.folder.iterdir()):
            if path.name in self.unsynced:
                self.walk("power loss: of a snapshot that was being written")
                content = path.read_bytes()
                torn = bytearray(content[: self.random.randrange(len(content) + 1)])
                for place in range(0, len(torn), _SECTOR_BYTES):
                    if self.random.random() < 0.3:
                        torn[place : place + _SECTOR_BYTES] = bytes(len(torn[place : place + _SECTOR_BYTES]))
                path.write_bytes(torn)
            if path.name in self.unnamed and self.random.random() < 0.5:
                path.unlink()
        self.unsynced = set()
        self.unnamed = set()
        self._check_announced()

    def _check_announced(self) -> None:
        """What was announced survives a loss of power."""
        for seq in self.announced:
            try:
                open_snapshot(self.folder.path(seq)).close()
            except SnapshotError as error:
                raise Lost(f"snapshot {seq} was announced, and after a loss of power: {error}") from error


class SimWriter:
    """Writes at once, and is seen to do so some polls later."""

    def __init__(self, world: SimSnapshots) -> None:
        self._world = world
        self._status = 0
        self._shown: list[Shown] = []
        self._seq = 0

    def begin(self, work: Callable[[], int]) -> None:
        """Make the file, or fail at some byte or call."""
        world = self._world
        before = self._files()
        record = _Record(self._files, dict(before))
        fate = ""
        if world.faults and not world.calm and world.random.random() < _FAILS:
            fate = world.random.choice(("space", "fsync", "folder"))
        with contextlib.redirect_stderr(io.StringIO()), record.watching(fate):
            limit = (
                contextlib.nullcontext() if fate != "space" else _file_size_limit(world.random.randrange(1, 100_000))
            )
            with limit:
                self._status = work()
        if self._status:
            world.walk("snapshot: could not be written")
            world.walk(f"snapshot: {b.SNAPSHOT_PROBLEM_TEXT[self._status]}")
            assert fate or world.tiny_map, f"snapshot: problem {self._status} out of nothing"
        record.look()
        self._shown = record.shown
        self._show()

    def poll(self) -> int | None:
        """The status, once it is done."""
        world = self._world
        if world.random.random() >= _STEPS_ON:
            return None
        if len(self._shown) > 1:
            self._shown.pop(0)
            self._show()
            return None
        now = set(world.folder.seqs())
        if self._status == 0:
            world.walk("snapshot: written")
            newest = world.folder.path(max(now))
            # It may have rotted before it was announced.
            if newest.read_bytes() == self._shown[0].files[newest.name]:
                world.announced.add(max(now))
        world.announced &= now
        return self._status

    def abandon(self) -> None:
        """Leave it as it is."""

    def _files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._world.folder.folder.glob("*mdb*")}

    def _show(self) -> None:
        """Make the folder what it was at the first of the moments that are left."""
        world, now = self._world, self._shown[0]
        there = self._files()
        for name in there.keys() - now.files.keys():
            (world.folder.folder / name).unlink()
        for name, content in now.files.items():
            if there.get(name) != content:
                (world.folder.folder / name).write_bytes(content)
        world.unsynced = set(now.files) - now.synced
        world.unnamed = set(now.files) - now.named
        world.announced &= set(world.folder.seqs())


class _Record:
    """Keeps the folder as it was around each call that brings something to the disk."""

    def __init__(self, files: Callable[[], dict[str, bytes]], before: dict[str, bytes]) -> None:
        self._files = files
        self._contents = set(before.values())
        self._names = set(before)
        self.shown: list[Shown] = []

    def look(self) -> None:
        """Remember how it is now. A content that is on the disk is so under whatever name."""
        files = self._files()
        synced = frozenset(name for name, content in files.items() if content in self._contents)
        self.shown.append(Shown(files, synced, frozenset(self._names & files.keys())))

    @contextlib.contextmanager
    def watching(self, fate: str) -> Iterator[None]:
        """The calls of the module that writes snapshots are seen, and fail as ``fate`` says."""
        calls = _Calls(self, fate)
        with mock.patch.multiple(module, os=calls, sync_folder=lambda folder: self._folder_synced(folder, fate)):
            yield

    def synced(self, descriptor: int, fate: str) -> None:
        """A file is brought to the disk."""
        self.look()
        if fate == "fsync":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._contents.add(Path(f"/proc/self/fd/{descriptor}").read_bytes())
        self.look()

    def _folder_synced(self, folder: Path, fate: str) -> None:
        self.look()
        if fate == "folder":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))
        self._names = set(self._files())
        self.look()


class _Calls:
    """Stands in for ``os``."""

    def __init__(self, record: _Record, fate: str) -> None:
        self._record = record
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        """Seen."""
        self._record.synced(descriptor, self._fate)


@contextlib.contextmanager
def _file_size_limit(size_bytes: int) -> Iterator[None]:
    """A file that grows beyond so many bytes is cut there, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
