"""A compressed segment, ``NNNNNNNN.seg.zst``: three frames that ``zstd -d`` turns back into the segment.

::

    offset 0      skippable frame, 40 bytes
                    0  0x184D2A5C u32      4  32 u32             8  magic 8s
                   16  segment bytes i64  24  CRC32C of the segment u32
                   28  bytes of the head frame u32              32  CRC32C of both frames u32              36  CRC32C of bytes 8..35 u32
    offset 40     head frame: the segment's header block
    behind it     tail frame: everything else; both frames have zstd's own content checksum

The head has a frame of its own, because a journal's lineage is read from headers alone. The checksum of the frames finds the few bits
that zstd does not look at; files from before it was kept have 0 there.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final, NamedTuple

import crc32c
import zstandard

from persistence.journal.layout import BLOCK_BYTES, Buffer

MAGIC: Final = b"CAMBSEGZ"
LEVEL: Final = 3
_PREFIX: Final = struct.Struct("<II8sqIIII")
_CRC_AT: Final = _PREFIX.size - 4
_CHUNK_BYTES: Final = 1 << 16
_SKIPPABLE: Final = 0x184D2A5C
assert _PREFIX.size == 40


class Damaged(Exception):
    """A compressed file that does not give back what was put into it; ``content`` is what it does give."""

    def __init__(self, what: str, content: bytes) -> None:
        super().__init__(what)
        self.content = content


class Prefix(NamedTuple):
    """What the first frame says."""

    size_bytes: int
    crc: int
    head_bytes: int
    frames_crc: int


def pack(segment: Buffer) -> bytes:
    """The compressed file of a whole segment."""
    assert len(segment) >= BLOCK_BYTES, "a segment begins with its header block"
    view = memoryview(segment)
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)
    head, tail = compressor.compress(view[:BLOCK_BYTES]), compressor.compress(view[BLOCK_BYTES:])
    frames = head + tail
    sums = crc32c.crc32c(view), len(head), crc32c.crc32c(frames)
    prefix = bytearray(_PREFIX.pack(_SKIPPABLE, _PREFIX.size - 8, MAGIC, len(view), *sums, 0))
    struct.pack_into("<I", prefix, _CRC_AT, crc32c.crc32c(bytes(prefix[8:_CRC_AT])))
    return bytes(prefix) + frames


def read_prefix(path: Path) -> Prefix:
    """The first frame of a compressed file; Damaged where it is none."""
    with path.open("rb") as file:
        return _parse(file.read(_PREFIX.size))


def read_head(path: Path) -> bytes:
    """The header block of a compressed segment."""
    with path.open("rb") as file:
        prefix = _parse(file.read(_PREFIX.size))
        frame = file.read(prefix.head_bytes)
    return _decompressed(frame, BLOCK_BYTES)


def unpack(path: Path) -> bytes:
    """The whole segment; Damaged with as much of it as can be had."""
    data = path.read_bytes()
    prefix = _parse(data[: _PREFIX.size])
    end = _PREFIX.size + prefix.head_bytes
    head = _decompressed(data[_PREFIX.size : end], BLOCK_BYTES)
    try:
        tail = _decompressed(data[end:], prefix.size_bytes - BLOCK_BYTES)
    except Damaged as damaged:
        raise Damaged(str(damaged), head + damaged.content) from None
    segment = head + tail
    if crc32c.crc32c(segment) != prefix.crc:
        raise Damaged("a compressed file whose content has another checksum than it states", segment)
    if prefix.frames_crc not in (0, crc32c.crc32c(data[_PREFIX.size :])):
        raise Damaged("a compressed file whose frames have another checksum than it states", segment)
    return segment


def _parse(data: bytes) -> Prefix:
    if len(data) < _PREFIX.size:
        raise Damaged(f"a compressed file of {len(data)} bytes, shorter than its first frame", b"")
    magic, length, ours, size_bytes, crc, head_bytes, frames_crc, own = _PREFIX.unpack(data)
    sound = (magic, length, ours) == (_SKIPPABLE, _PREFIX.size - 8, MAGIC)
    if not sound or own != crc32c.crc32c(data[8:_CRC_AT]):
        raise Damaged("a compressed file whose first frame is damaged", b"")
    return Prefix(size_bytes, crc, head_bytes, frames_crc)


def _decompressed(frame: bytes, size_bytes: int) -> bytes:
    """Content of one frame of a known size, nothing behind it."""
    stream = zstandard.ZstdDecompressor().decompressobj()
    parts: list[bytes] = []
    try:
        for at in range(0, len(frame), _CHUNK_BYTES):
            parts.append(stream.decompress(frame[at : at + _CHUNK_BYTES]))
            if stream.eof:
                break
    except zstandard.ZstdError as error:
        raise Damaged(f"a compressed file that cannot be read: {error}", b"".join(parts)) from None
    content = b"".join(parts)
    rest = len(frame) - at - _CHUNK_BYTES if frame else 0
    whole = stream.eof and not stream.unused_data and rest <= 0 and len(content) == size_bytes
    if not whole:
        raise Damaged(f"a compressed file with {len(content)} bytes where {size_bytes} belong", content)
    return content
