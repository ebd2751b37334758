"""The simulated disk under real journal code: any operation may fail, any may be the last one, and time passes during each."""

import errno
import random
from collections.abc import Callable

from tests.persistence.journal_disk import Crash, FakeDisk, FakeFile, FakeInode

__all__ = ["Crash", "SimDisk"]


class SimInode(FakeInode):
    """A file whose failed sync leaves what Linux leaves: pages that count as clean and are not on the disk."""

    def fail_sync(self, rng: random.Random) -> None:
        """Some of the unsynced writes reach the disk, the others never will; who reads later finds them, or no more."""
        for offset, data in self.pending:
            if rng.random() < 0.5:
                end = offset + len(data)
                self.durable.extend(bytes(max(0, end - len(self.durable))))
                self.durable[offset:end] = data
        self.pending = []
        if rng.random() < 0.3:
            self.current = bytearray(self.durable)


class SimFile(FakeFile):
    """A segment open for writing on a SimDisk."""

    def sync(self) -> None:
        """As FakeFile, but an error drops what was to be synced."""
        try:
            self.disk.operation("sync", self.name)
        except OSError:
            self.inode.fail_sync(self.disk.random)
            raise
        self.inode.sync()


class SimDisk(FakeDisk):
    """A FakeDisk that fails by chance.

    Attributes
    ----------
    failure_rate : float
        Share of the operations that end in EIO.
    full : bool
        New files cannot be made.
    during : callable
        Called before each operation takes effect, with its name: other processes go on meanwhile, and it may raise Crash.
    failed : callable
        Told of each failure.
    """

    inode_type = SimInode
    file_type = SimFile

    def __init__(self, rng: random.Random, during: Callable[[str], None], failed: Callable[[str], None]) -> None:
        super().__init__()
        self.random = rng
        self.during = during
        self._failed = failed
        self.failure_rate = 0.0
        self.full = False

    def operation(self, what: str, name: str = "") -> None:  # noqa: ARG002 - FakeDisk logs the name
        """Let time pass, then fail or not."""
        self.operations += 1
        self.during(what)
        if self.full and what == "fill":
            self._fail(what, errno.ENOSPC)
        if self.failure_rate and self.random.random() < self.failure_rate:
            self._fail(what, errno.EIO)

    def prepare(self, name: str, size_bytes: int) -> None:
        """Begin a file in the background; how long it takes is drawn in ``prepared``."""
        self._preparing[name] = size_bytes

    def prepared(self, name: str) -> bool:
        """Whether the file is there; it appears at one of these looks."""
        if self.random.random() < 0.5:
            return False
        self.create(name, self._preparing.pop(name))
        return True

    def process_death(self) -> None:
        """The writer is dead: what it wrote is there, synced or not; what it prepared goes no further."""
        self._preparing.clear()
        self.locked = False

    def power_loss(self) -> tuple[int, int]:
        """Unsynced names and sectors are kept by chance, each for itself; (names, writes) that were unsynced."""
        unsynced = (len(self.pending_names), sum(len(inode.pending) for inode in self.files.values()))
        kept = self.after_power_loss(self.random)
        self.process_death()
        self.files, self.durable_files, self.pending_names = kept.files, kept.durable_files, []
        return unsynced

    def _fail(self, what: str, number: int) -> None:
        self._failed("disk: no space" if number == errno.ENOSPC else f"disk: a {what} failed")
        raise OSError(number, errno.errorcode[number])
