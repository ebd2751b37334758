"""Reads a board and ring headers without numba, so that ``cambist status`` answers in a tenth of a second.

The layouts are those of ``ringbuf.board`` and ``ringbuf.ring``; a test compares the numbers here with theirs.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final, Self

BOARD_MAGIC: Final = 0x4452414F42474E52
BOARD_HEADER_WORDS: Final = 32
RING_MAGIC: Final = 0x474E495246554252
RING_CAPACITY: Final = 3
RING_PUBLISHED: Final = 32
RING_FIRST_READER: Final = 160
RING_READER_WORDS: Final = 32
_WORD_BYTES: Final = 8


class SharedWords:
    """The int64 words of a shared-memory file, for reading; ``words[i]`` is one load."""

    def __init__(self, path: Path, magic: int) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size_bytes = os.fstat(descriptor).st_size
            self._mapping = mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            os.close(descriptor)
        usable = size_bytes // _WORD_BYTES * _WORD_BYTES
        self._words = memoryview(self._mapping)[:usable].cast("q")
        if self._words[0] != magic:
            self.close()
            raise OSError(f"{path}: not a file of this kind")

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def close(self) -> None:
        """Unmap."""
        self._words.release()
        self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BoardView(SharedWords):
    """The board of a running instance; ``view[protocol.board.DURABLE_SEQ]`` is that word. OSError if there is none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, BOARD_MAGIC)

    def __getitem__(self, index: int) -> int:
        return super().__getitem__(BOARD_HEADER_WORDS + index)


class RingView(SharedWords):
    """Cursors of a ring. OSError if there is no such ring."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, RING_MAGIC)

    @property
    def published(self) -> int:
        """Last position published."""
        return self[RING_PUBLISHED]

    @property
    def capacity(self) -> int:
        """Number of slots."""
        return self[RING_CAPACITY]

    def cursor(self, reader: int) -> int:
        """Last position that ``reader`` has finished."""
        return self[RING_FIRST_READER + reader * RING_READER_WORDS]
