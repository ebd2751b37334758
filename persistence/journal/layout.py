"""Bytes of a segment file: one header block, then batches, each on a 4 KiB boundary, then zeros up to the file's size.

::

    offset 0      segment header, 4 KiB
                    0  magic 8s            8  format u32         12  segment u32        16  schema i64
                   24  journal id 16s     40  first seq i64      48  previous ts i64    56  durable seq i64
                   64  created ts i64     72  segment bytes i64  80  epoch u32          84  previous CRC u32
                   88  previous segment u32                      92  replaces u32       96  rules u32
                  100  release 28s, UTF-8                       128  branch u64        136  zeros
                 4092  CRC32C of bytes 0..4091, u32
    offset 4096   batch, whole blocks
                    0  magic 4s            4  epoch u32           8  segment u32        12  slots u32
                   16  first seq i64      24  previous ts i64    32  durable seq i64    40  payload bytes u32
                   44  block u32          48  previous CRC u32   52  zeros u64          60  CRC32C u32
                   64  records (``protocol.codec``), then zeros to the end of the block

The CRC32C of a batch covers all its blocks but the CRC itself, and starts from the journal id and the CRC of the batch
before, which the header also states. So a batch proves by itself that it belongs to this journal, and to its place
(segment, block); whether it follows the one before is one comparison. The first batch of a segment continues the last
one of the segment before.

``durable seq``: every slot up to it was on the disk when the header was written. ``previous segment`` is the one
before in the history, 0 for the first. ``rules`` and ``release`` say which version wrote the commands; segments from before they were
stated have zeros there, which reads as version 1. ``branch`` is 0 in the history that was begun with the journal; a restore goes on in a
branch of its own, a random number, so that homes that were one up to some command are told apart behind it. ``replaces`` is the
segment whose sound part was copied here by a recovery, else 0; files numbered between ``previous segment`` and the segment itself are
what a crash left of replaced ones.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import crc32c
import numpy as np

from persistence.journal.errors import JournalMismatch
from protocol.codec import GROUP_BYTES_MAX
from protocol.release import RELEASE
from protocol.versions import LAYOUTS, Written

BLOCK_BYTES: Final = 4096
BATCH_HEADER_BYTES: Final = 64
BATCH_BYTES_MAX: Final = 256 * 1024
FORMAT: Final = 1
SEGMENT_BYTES: Final = 64 * 1024 * 1024
SEGMENT_BYTES_MIN: Final = BLOCK_BYTES * (2 + (BATCH_HEADER_BYTES + GROUP_BYTES_MAX) // BLOCK_BYTES)
"""The header and a batch of the largest group."""
SEGMENT_BYTES_MAX: Final = 1 << 32
JOURNAL_ID_BYTES: Final = 16
SEGMENT_NUMBER_MAX: Final = 99_999_999

_RULES_UNSTATED: Final = 1
_RELEASE_UNSTATED: Final = "0.1.0"
_RELEASE_BYTES: Final = 28

SEGMENT_MAGIC: Final = b"CAMBJRNL"
BATCH_MAGIC: Final = b"CBBT"
BATCH_MAGIC_WORD: Final = int.from_bytes(BATCH_MAGIC, "little")

_SEGMENT: Final = struct.Struct("<8sIIq16sqqqqqIIIII28sQ")
_BATCH: Final = struct.Struct("<4sIIIqqqIIIQI")
_CRC: Final = struct.Struct("<I")
_SEGMENT_CRC_AT: Final = BLOCK_BYTES - 4
_BATCH_CRC_AT: Final = BATCH_HEADER_BYTES - 4
assert _SEGMENT.size == 136
assert _BATCH.size == BATCH_HEADER_BYTES

Buffer = bytes | bytearray | memoryview


class SegmentHeader(NamedTuple):
    """The header block of a segment; see the module's diagram."""

    segment: int
    schema: int
    journal_id: bytes
    first_seq: int
    prev_ts_ns: int
    durable_seq: int
    created_ts_ns: int
    segment_bytes: int
    epoch: int
    previous_crc: int
    previous_segment: int
    replaces: int
    rules: int
    release: str
    branch: int = 0

    @property
    def written(self) -> Written:
        """By what its commands were written."""
        return Written(self.rules, self.schema, self.release)

    @property
    def history(self) -> str:
        """Name of the history that the segment's commands belong to: the journal's id, and its branch where it has one."""
        return f"{self.journal_id.hex()}-{self.branch:016x}" if self.branch else self.journal_id.hex()


class BatchHeader(NamedTuple):
    """The header of a batch; see the module's diagram."""

    epoch: int
    segment: int
    slots: int
    first_seq: int
    prev_ts_ns: int
    durable_seq: int
    payload_bytes: int
    block: int
    previous_crc: int

    @property
    def last_seq(self) -> int:
        """Seq of the last slot."""
        return self.first_seq + self.slots - 1

    @property
    def size_bytes(self) -> int:
        """Whole blocks that the batch takes."""
        return whole_blocks(BATCH_HEADER_BYTES + self.payload_bytes)


def segment_name(segment: int) -> str:
    """File name of a segment."""
    return f"{segment:08d}.seg"


def packed_name(segment: int) -> str:
    """File name of a segment that is compressed."""
    return f"{segment:08d}.seg.zst"


def prepared_name(segment: int) -> str:
    """File name of a segment that is being zero-filled or copied and does not count yet."""
    return f"{segment:08d}.next"


def segment_number(name: str) -> int:
    """Number of the segment that a file name states; 0 for any other name."""
    return _number(name, ".seg")


def packed_number(name: str) -> int:
    """Number of the compressed segment that a file name states; 0 for any other name."""
    return _number(name, ".seg.zst")


def prepared_number(name: str) -> int:
    """Number of the prepared segment that a file name states; 0 for any other name."""
    return _number(name, ".next")


def _number(name: str, suffix: str) -> int:
    digits = name.removesuffix(suffix)
    return int(digits) if name.endswith(suffix) and len(digits) == 8 and digits.isascii() and digits.isdigit() else 0


def whole_blocks(size_bytes: int) -> int:
    """``size_bytes`` rounded up to whole blocks."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def chain_start(journal_id: bytes) -> int:
    """CRC that the first batch of a journal continues, and with which all its checksums are seeded."""
    return crc32c.crc32c(journal_id)


def pack_segment_header(header: SegmentHeader) -> bytes:
    """The header block, 4 KiB."""
    block = bytearray(BLOCK_BYTES)
    _SEGMENT.pack_into(
        block,
        0,
        SEGMENT_MAGIC,
        FORMAT,
        header.segment,
        header.schema,
        header.journal_id,
        header.first_seq,
        header.prev_ts_ns,
        header.durable_seq,
        header.created_ts_ns,
        header.segment_bytes,
        header.epoch,
        header.previous_crc,
        header.previous_segment,
        header.replaces,
        header.rules,
        header.release.encode()[:_RELEASE_BYTES],
        header.branch,
    )
    _CRC.pack_into(block, _SEGMENT_CRC_AT, crc32c.crc32c(memoryview(block)[:_SEGMENT_CRC_AT]))
    return bytes(block)


def unpack_segment_header(block: Buffer, segment: int, label: str) -> SegmentHeader | str:
    """Header of segment ``segment`` (file ``label``) from its first block, or words that say what stands there instead.

    Raises
    ------
    JournalMismatch
        If the block is sound but of another format version or for other record definitions.
    """
    if len(block) < BLOCK_BYTES:
        return f"a file of {len(block)} bytes, shorter than its header"
    fields = _SEGMENT.unpack_from(block, 0)
    if fields[0] != SEGMENT_MAGIC:
        return "zeros" if not any(block) else f"magic {fields[0]!r}"
    view = memoryview(block)
    if _CRC.unpack_from(block, _SEGMENT_CRC_AT)[0] != crc32c.crc32c(view[:_SEGMENT_CRC_AT]):
        return "a header whose checksum does not fit"
    if fields[1] != FORMAT:
        raise JournalMismatch(
            f"journal segment {label}: format version {fields[1]}, this program reads {FORMAT}; "
            f"start the version that wrote it, or convert the journal"
        )
    release = fields[15].rstrip(b"\0").decode("utf-8", "replace") or _RELEASE_UNSTATED
    header = SegmentHeader._make([*fields[2:14], fields[14] or _RULES_UNSTATED, release, fields[16]])
    if header.schema not in LAYOUTS:
        raise JournalMismatch(
            f"journal segment {label}: record schema {header.schema:016x}, written by cambist {header.release}; "
            f"this program (cambist {RELEASE}) reads {', '.join(f'{known:016x}' for known in LAYOUTS)}: "
            f"start the version that wrote it, or a newer one"
        )
    if header.segment != segment:
        return f"the header of segment {header.segment}, so that the file was renamed or copied"
    if not SEGMENT_BYTES_MIN <= header.segment_bytes <= SEGMENT_BYTES_MAX or header.segment_bytes % BLOCK_BYTES:
        return f"a header that states a size of {header.segment_bytes} bytes"
    if header.first_seq < 1 or header.prev_ts_ns < 0 or not _lineage_is_sound(header):
        return "a header that contradicts itself"
    return header


def _lineage_is_sound(header: SegmentHeader) -> bool:
    if header.replaces == 0:
        return header.previous_segment == header.segment - 1
    return header.previous_segment < header.replaces < header.segment


def pack_batch_header(blocks: np.ndarray, header: BatchHeader, seed: int) -> int:
    """Write the header into ``blocks`` (uint8, whole blocks with payload and padding in place); the batch's CRC.

    ``seed`` is ``chain_start`` of the journal.
    """
    assert blocks.shape[0] == header.size_bytes, "a batch is whole blocks"
    _BATCH.pack_into(
        blocks.data,
        0,
        BATCH_MAGIC,
        header.epoch,
        header.segment,
        header.slots,
        header.first_seq,
        header.prev_ts_ns,
        header.durable_seq,
        header.payload_bytes,
        header.block,
        header.previous_crc,
        0,
        0,
    )
    crc = batch_crc(blocks.data, header.previous_crc, seed)
    _CRC.pack_into(blocks.data, _BATCH_CRC_AT, crc)
    return crc


def batch_crc(blocks: Buffer, previous_crc: int, seed: int) -> int:
    """CRC32C of a whole batch without its last header word, continuing the journal's and the previous batch's."""
    view = memoryview(blocks)
    crc = crc32c.crc32c(_CRC.pack(previous_crc), seed)
    crc = crc32c.crc32c(view[:_BATCH_CRC_AT], crc)
    return crc32c.crc32c(view[BATCH_HEADER_BYTES:], crc)


def unpack_batch_header(block: Buffer) -> tuple[BatchHeader, int] | str:
    """(header, stated CRC), or words that say what stands there; its own bounds are checked, nothing else yet."""
    fields = _BATCH.unpack_from(block, 0)
    if fields[0] != BATCH_MAGIC:
        return "zeros" if not any(block[:BATCH_HEADER_BYTES]) else f"magic {fields[0]!r}"
    header = BatchHeader(*fields[1:10])
    payload_bytes = header.payload_bytes
    if fields[10] != 0 or payload_bytes % 8 or not 0 < payload_bytes <= BATCH_BYTES_MAX - BATCH_HEADER_BYTES:
        return f"a batch header with a payload of {payload_bytes} bytes"
    if not 0 < header.slots <= payload_bytes // 8 or header.first_seq < 1 or header.prev_ts_ns < 0:
        return f"a batch header with {header.slots} slots from seq {header.first_seq}"
    return header, fields[11]
