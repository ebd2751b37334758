"""A disk for journals: what is not synced may be lost, in any part and order; any operation may fail or crash.

Deterministic: what a power loss keeps is drawn from the generator given to ``after_power_loss``.
"""

import errno
import random

from persistence.journal import JournalError

SECTOR_BYTES = 512


class Crash(Exception):
    """The machine stops before the operation takes effect."""


class FakeInode:
    def __init__(self):
        self.current = bytearray()
        self.durable = bytearray()
        self.pending = []

    def write(self, offset, data):
        self.current = _written(self.current, offset, data)
        self.pending.append((offset, bytes(data)))

    def sync(self):
        self.durable = bytearray(self.current)
        self.pending = []


class FakeFile:
    def __init__(self, disk, name, inode):
        self.disk = disk
        self.name = name
        self.inode = inode

    def write(self, offset, data):
        self.disk.operation("write", self.name)
        self.inode.write(offset, data)

    def sync(self):
        self.disk.operation("sync", self.name)
        self.inode.sync()

    def close(self):
        pass


class FakeDisk:
    """A JournalStore. ``crash_at`` counts operations that change something; ``failures`` maps them to an errno."""

    inode_type = FakeInode
    file_type = FakeFile

    def __init__(self, names=None):
        self.files = dict(names or {})
        self.durable_files = dict(self.files)
        self.pending_names = []
        self.operations = 0
        self.crash_at = None
        self.failures = {}
        self.locked = False
        self.log = []
        self._preparing = {}

    def operation(self, what, name=""):
        if self.operations == self.crash_at:
            raise Crash(f"before {what} {name}")
        self.operations += 1
        self.log.append((what, name))
        if what in self.failures:
            raise OSError(self.failures[what], errno.errorcode[self.failures[what]])

    def label(self, name):
        return name

    def names(self):
        return sorted(self.files)

    def size_bytes(self, name):
        return len(self.inode(name).current)

    def read_into(self, name, offset, target):
        data = self.inode(name).current[offset : offset + len(target)]
        target[: len(data)] = data
        return len(data)

    def create(self, name, size_bytes, head=b""):
        self.operation("create", name)
        inode = self.inode_type()
        self._name(lambda files: files.__setitem__(name, inode))
        try:
            self.operation("fill", name)
            inode.write(0, head + bytes(size_bytes - len(head)))
            self.operation("sync", name)
            inode.sync()
        except OSError:
            self._name(lambda files: files.pop(name, None))
            raise

    def prepare(self, name, size_bytes):
        self._preparing[name] = size_bytes

    def prepared(self, name):
        size_bytes = self._preparing.pop(name)
        self.create(name, size_bytes)
        return True

    def open(self, name):
        return self.file_type(self, name, self.inode(name))

    def rename(self, old, new):
        self.operation("rename", new)
        inode = self.inode(old)

        def change(files):
            files.pop(old, None)
            files[new] = inode

        self._name(change)

    def remove(self, name):
        self.operation("remove", name)
        self._name(lambda files: files.pop(name, None))

    def sync_directory(self):
        self.operation("sync_directory")
        self.durable_files = dict(self.files)
        self.pending_names = []

    def lock(self):
        if self.locked:
            raise JournalError("another process writes it")
        self.locked = True

    def unlock(self):
        self.locked = False

    def inode(self, name):
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return self.files[name]

    def _name(self, change):
        change(self.files)
        self.pending_names.append(change)

    def after_process_death(self):
        """The same disk as another process finds it: nothing is lost, nothing more is synced."""
        disk = FakeDisk(self.files)
        disk.durable_files = self.durable_files
        disk.pending_names = self.pending_names
        return disk

    def after_power_loss(self, rng: random.Random):
        """The disk after a power loss: any of the unsynced changes of names are kept, and any unsynced sectors."""
        names = dict(self.durable_files)
        for change in self.pending_names:
            if rng.random() < 0.5:
                change(names)
        disk = FakeDisk()
        for name, inode in names.items():
            kept = self.inode_type()
            kept.durable = _survivor(inode, rng)
            kept.current = bytearray(kept.durable)
            disk.files[name] = kept
        disk.durable_files = dict(disk.files)
        return disk


def _written(content, offset, data):
    if len(content) < offset + len(data):
        content = content + bytes(offset + len(data) - len(content))
    content[offset : offset + len(data)] = data
    return content


def _survivor(inode, rng):
    content = bytearray(inode.durable)
    sectors = [
        (offset + i, data[i : i + SECTOR_BYTES])
        for offset, data in inode.pending
        for i in range(0, len(data), SECTOR_BYTES)
    ]
    rng.shuffle(sectors)
    share = rng.choice((0.0, 0.5, 0.9, 1.0))
    for offset, data in sectors:
        if rng.random() < share:
            content = _written(content, offset, data)
    return content
