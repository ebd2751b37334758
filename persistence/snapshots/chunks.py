"""Arrays as chunks of bytes: what is zero is left out, so that a snapshot is as large as what is used of the tables.

A chunk stands for 65,536 words (8 bytes each) of an array. It is left out where all are zero. Else it has a header word,
``kind | count << 8``, and then

* ``DENSE``: the words as they are, or
* ``SPARSE``: the positions (u2) of the ``count`` words that are not zero, zeros up to a multiple of 8, and these words.

Hash tables with few entries are sparse everywhere, and rows of large tables use few of their words, so that one rule suits all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from persistence.snapshots.errors import SnapshotError

CHUNK_WORDS: Final = 1 << 16
CHUNK_BYTES: Final = 8 * CHUNK_WORDS
_DENSE: Final = 1
_SPARSE: Final = 2
_HEADER_BYTES: Final = 8


def encode_chunks(array: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each chunk of a C-contiguous array (any dtype) that is not all zero."""
    data = array.reshape(-1).view(np.uint8)
    for number, start in enumerate(range(0, len(data), CHUNK_BYTES)):
        part = data[start : start + CHUNK_BYTES]
        if len(part) % 8:
            part = np.concatenate([part, np.zeros(-len(part) % 8, dtype=np.uint8)])
        chunk = _encoded(part.view(np.int64))
        if chunk:
            yield number, chunk


def _encoded(words: np.ndarray) -> bytes:
    count = int(np.count_nonzero(words))
    if count == 0:
        return b""
    if 10 * count > 4 * len(words):
        return (_DENSE | len(words) << 8).to_bytes(_HEADER_BYTES, "little") + words.tobytes()
    positions = np.flatnonzero(words)
    padded = np.zeros(-(-count // 4) * 4, dtype="<u2")
    padded[:count] = positions
    header = (_SPARSE | count << 8).to_bytes(_HEADER_BYTES, "little")
    return header + padded.tobytes() + words[positions].tobytes()


def decode_chunk(number: int, chunk: bytes | memoryview, array: np.ndarray) -> None:
    """Put a chunk where it belongs in a C-contiguous array that is zero there. SnapshotError where it does not fit."""
    data = array.reshape(-1).view(np.uint8)
    start = number * CHUNK_BYTES
    part = data[start : start + CHUNK_BYTES]
    padding = -len(part) % 8
    words = np.zeros((len(part) + padding) // 8, dtype=np.int64) if padding else part.view(np.int64)
    header = int.from_bytes(chunk[:_HEADER_BYTES], "little") if len(chunk) >= _HEADER_BYTES else 0
    kind, count = header & 0xFF, header >> 8
    if kind == _DENSE and count == len(words) and len(chunk) == _HEADER_BYTES + words.nbytes:
        words[:] = np.frombuffer(chunk, dtype=np.int64, offset=_HEADER_BYTES)
    elif kind == _SPARSE and len(chunk) == _HEADER_BYTES + 8 * (-(-count // 4) + count):
        positions = np.frombuffer(chunk, dtype="<u2", count=count, offset=_HEADER_BYTES)
        if count and int(positions[-1]) >= len(words):
            raise SnapshotError(f"chunk {number}: a word at {positions[-1]}, where the array has {len(words)} words")
        words[positions] = np.frombuffer(chunk, dtype=np.int64, offset=len(chunk) - 8 * count)
    else:
        raise SnapshotError(
            f"chunk {number}: {len(chunk)} bytes of kind {kind} with {count} words, not for {len(words)}"
        )
    if padding:
        part[:] = words.view(np.uint8)[: len(part)]
