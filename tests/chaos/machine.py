"""The machine under a real exchange, made worse on command: its disk, its clock. ``disk.c`` is preloaded into every process of it.

Without a C compiler there is no such machine, and what needs one is left out, with that reason.
"""

import contextlib
import functools
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_SOURCE = Path(__file__).with_name("disk.c")
_COMPILERS = ("cc", "gcc", "clang")

NO_COMPILER = "no C compiler here: faults of disk, clock and power need one"

SYNC_FAILS, NO_SPACE, READ_ONLY, SLOW = 1, 2, 3, 4
"""What the disk does; the order of ``disk.c``."""
JOURNAL, SNAPSHOTS, AUDIT, POSTGRES, LOG, RUN, REST = 1, 2, 4, 8, 16, 32, 64
"""Parts of a home."""
HOME = JOURNAL | SNAPSHOTS | AUDIT | LOG | RUN | REST
"""All of it but the database's own files."""
FOREVER = -1

_FAULT, _SCOPE, _LEFT, _DELAY_US, _UTC_NS, _RECORD, _FIRED, _CLOCK_READ = range(8)


def has_compiler() -> bool:
    """Whether there can be a machine."""
    return any(map(shutil.which, _COMPILERS))


@functools.cache
def _library() -> bytes:
    """The compiled shim. Each machine has its file, for the folder of one is removed with its home."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)))
    with tempfile.TemporaryDirectory(prefix="cambist-chaos-") as folder:
        target = Path(folder) / "disk.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(target), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        return target.read_bytes()


class Machine:
    """One home's disk and clock.

    Parameters
    ----------
    folder : where the shim, its words and its record lie; not in the home
    home : the folder that is on this disk
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self.log = folder / "disk.log"
        self.graves = folder / "disk.log.graves"
        self.home = home
        self._words_file = folder / "disk.words"
        self._library_file = folder / "disk.so"
        self._library_file.write_bytes(_library())
        self._words_file.write_bytes(bytes(mmap.PAGESIZE))
        self.graves.mkdir()
        with self._words_file.open("r+b") as file:
            self._words = np.frombuffer(mmap.mmap(file.fileno(), mmap.PAGESIZE), dtype=np.int64)

    @contextlib.contextmanager
    def preloaded(self) -> Iterator[None]:
        """Processes that are started in here, and theirs, run on this machine."""
        own = {
            "LD_PRELOAD": str(self._library_file),
            "CHAOS_HOME": str(self.home),
            "CHAOS_WORDS": str(self._words_file),
            "CHAOS_LOG": str(self.log),
        }
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def record(self) -> None:
        """From now on remember what is not synced, for a loss of power."""
        self._words[_RECORD] = 1

    def fail(self, fault: int, scope: int, times: int = FOREVER, delay_us: int = 0) -> None:
        """The disk does this from now on, so many times."""
        self._words[[_SCOPE, _LEFT, _DELAY_US, _FIRED]] = (scope, times, delay_us, 0)
        self._words[_FAULT] = fault

    def heal(self) -> int:
        """The disk is well again; how often it was not."""
        self._words[_FAULT] = 0
        return self.fired

    @property
    def fired(self) -> int:
        """How often the present fault, or the last one, has been felt."""
        return int(self._words[_FIRED])

    def set_utc(self, offset_ns: int) -> None:
        """UTC is so far from the true one. Who waits for a time that has passed since waits on: no process may do so."""
        self._words[_UTC_NS] = offset_ns

    @property
    def clock_reads(self) -> int:
        """How often a wrong UTC was read."""
        return int(self._words[_CLOCK_READ])
