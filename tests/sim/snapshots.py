"""Snapshots in the simulator: the real files, written in steps, torn by power losses, and rotting now and then.

A fork has the state as it was when it was made; here the file is made at that moment and lies under a scratch name, as an
unfinished one does, until the writer is done. What dies before leaves it there.
"""

import contextlib
import io
import random
from collections.abc import Callable
from pathlib import Path

from persistence.snapshots import SnapshotFolder
from persistence.snapshots.writer import Settings
from protocol import board as b

_INTERVALS_S = (1, 3, 10)
_FAILS = 0.1
_ROTS = 0.03
_DONE = 0.3


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

    def writer(self) -> "SimWriter":
        """That of a new replica."""
        return SimWriter(self)

    def rot(self) -> None:
        """Now and then a bit of a generation is no longer what was written."""
        seqs = self.folder.seqs()
        if seqs and self.faults and self.random.random() < _ROTS:
            path = self.folder.path(self.random.choice(seqs))
            content = bytearray(path.read_bytes())
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            path.write_bytes(content)

    def power_loss(self) -> None:
        """What was being written is kept in parts, down to none of it."""
        for path in self.folder.folder.glob(".*.new"):
            self.walk("power loss: of a snapshot that was being written")
            content = path.read_bytes()
            torn = bytearray(content[: self.random.randrange(len(content) + 1)])
            for block in range(0, len(torn), 512):
                if self.random.random() < 0.3:
                    torn[block : block + 512] = bytes(len(torn[block : block + 512]))
            path.write_bytes(torn)
            if self.random.random() < 0.5:
                # A name that was not synced may be there as well as not, but then its content was.
                path.unlink()


class SimWriter:
    """Writes at once, and is done some polls later."""

    def __init__(self, world: SimSnapshots) -> None:
        self._world = world
        self._status = 0
        self._files: list[tuple[Path, Path]] = []

    def begin(self, work: Callable[[], int]) -> None:
        """Make the file, or fail."""
        world = self._world
        if world.faults and world.random.random() < _FAILS:
            world.walk("snapshot: could not be written")
            self._status = b.SNAPSHOT_NO_SPACE
            return
        before = set(world.folder.seqs())
        with contextlib.redirect_stderr(io.StringIO()):
            self._status = work()
        assert self._status == 0
        for seq in set(world.folder.seqs()) - before:
            path = world.folder.path(seq)
            self._files.append((path.rename(path.with_name(f".{path.name}.1.new")), path))

    def poll(self) -> int | None:
        """The status, once it is done."""
        if self._world.random.random() >= _DONE:
            return None
        for scratch, path in self._files:
            scratch.rename(path)
            self._world.walk("snapshot: written")
        self._files.clear()
        return self._status

    def abandon(self) -> None:
        """Leave it as it is."""
