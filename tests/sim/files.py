"""Real files of a folder on a simulated disk: what is not synced may be lost in any part, and any call may fail or be the last one.

The module that writes them gets a stand-in for ``os``. The files have what was written, as a running machine shows it; what is on the
disk is kept beside, and a loss of power makes the files what was there.
"""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECTOR_BYTES = 512


class WriterDies(Exception):
    """The process that writes ends within a call."""


class Sectors:
    """A file: what is on the disk, and the changes since, each with the place and what was written, or a new size alone."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = bytearray(durable)
        self.pending: list[tuple[int, bytes | None]] = []

    def kept(self, rng: random.Random, share: float) -> bytes:
        """What a loss of power leaves: each sector of each change by chance, the last one kept cut at any byte."""
        content = bytearray(self.durable)
        pieces = [piece for change in self.pending for piece in _pieces(*change) if rng.random() < share]
        for number, (place, data) in enumerate(pieces):
            if data is None:
                content = content[:place] + bytes(max(0, place - len(content)))
                continue
            part = data if number + 1 < len(pieces) or share == 1 else data[: rng.randrange(len(data) + 1)]
            content.extend(bytes(max(0, place + len(part) - len(content))))
            content[place : place + len(part)] = part
        return bytes(content)


def _pieces(place: int, data: bytes | None) -> list[tuple[int, bytes | None]]:
    if data is None:
        return [(place, None)]
    starts = [place, *range((place // SECTOR_BYTES + 1) * SECTOR_BYTES, place + len(data), SECTOR_BYTES)]
    ends = [*starts[1:], place + len(data)]
    return [(start, data[start - place : end - place]) for start, end in zip(starts, ends, strict=True)]


class SimFiles:
    """Stands in for ``os`` in the module that writes a folder's files.

    Parameters
    ----------
    folder : Path
    rng : of the chances
    rates : share of the calls that fail, and of those in which the process ends
    walk : told of what happens
    """

    def __init__(
        self, folder: Path, rng: random.Random, rates: tuple[float, float], walk: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._random = rng
        self._fails, self._dies = rates
        self._walk = walk
        self._files: dict[str, Sectors] = {}
        self.calm = False

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: Any) -> int:
        """Write all, a part, or nothing and fail."""
        file = self._file(descriptor)
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        part = bytes(data)
        fate = self._fate()
        if fate:
            part = part[: self._random.randrange(len(part) + 1)]
        done = os.write(descriptor, part)
        file.pending.append((place, part[:done]))
        self._meet(fate, "write", errno.ENOSPC)
        return done

    def ftruncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut it."""
        file = self._file(descriptor)
        os.ftruncate(descriptor, size_bytes)
        file.pending.append((size_bytes, None))

    def fdatasync(self, descriptor: int) -> None:
        """Bring it to the disk; where that fails some of it is there, and the rest counts as clean and is not."""
        file = self._file(descriptor)
        fate = self._fate()
        if fate == "dies":
            self._meet(fate, "sync", 0)
        if fate == "fails":
            file.durable = bytearray(file.kept(self._random, 0.5))
            file.pending = []
            self._meet(fate, "sync", errno.EIO)
        file.durable = bytearray(file.kept(self._random, 1))
        file.pending = []

    def power_loss(self) -> None:
        """The files are what was on the disk."""
        for name, file in self._files.items():
            path = self._folder / name
            if path.exists():
                if file.pending:
                    self._walk("power loss: of audit records that were not synced")
                file.durable = bytearray(file.kept(self._random, self._random.choice((0.0, 0.5, 0.9, 1.0))))
                file.pending = []
                path.write_bytes(file.durable)

    def _file(self, descriptor: int) -> Sectors:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.name not in self._files or not path.stat().st_size:
            self._files[path.name] = Sectors()
        return self._files[path.name]

    def _fate(self) -> str:
        drawn = self._random.random()
        if self.calm or drawn >= self._fails + self._dies:
            return ""
        return "fails" if drawn < self._fails else "dies"

    def _meet(self, fate: str, what: str, number: int) -> None:
        if fate == "fails":
            self._walk(f"audit: a {what} failed")
            raise OSError(number, errno.errorcode[number])
        if fate == "dies":
            self._walk(f"audit: the replica died in a {what}")
            raise WriterDies(what)
