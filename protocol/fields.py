"""One field list for each record, and from it the slot, journal and wire layouts.

* **slot**: fixed size, explicit offsets, in shared memory; kernels read it as a numpy record.
* **journal**: the slot's 8-byte words without the ones that are zero (``protocol.codec``); a field added later in reserved bytes is zero in
  older journals, so they stay readable.
* **wire**: the fields that a producer fills, packed little endian in the order of the list, without what the engine stamps.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

WORD_BYTES = 8


class Field(NamedTuple):
    """One field of a record: its place in the slot, and whether producers send it (``wire``)."""

    name: str
    dtype: str
    offset: int
    doc: str
    wire: bool = True


class Record:
    """A field list with its three layouts. Overlaps, misalignment and fields beyond the slot are refused at import."""

    def __init__(self, name: str, size: int, fields: tuple[Field, ...]) -> None:
        self.name = name
        self.size = size
        self.fields = fields
        _check(name, size, fields)
        self.slot_dtype = np.dtype(
            {
                "names": [f.name for f in fields],
                "formats": [f.dtype for f in fields],
                "offsets": [f.offset for f in fields],
                "itemsize": size,
            }
        )
        self.wire_dtype = np.dtype([(f.name, f.dtype) for f in fields if f.wire])

    @property
    def words(self) -> int:
        """Number of 8-byte words of the slot."""
        return self.size // WORD_BYTES

    def to_wire(self, slot: np.void) -> bytes:
        """Pack the wire fields of one slot."""
        out = np.zeros((), dtype=self.wire_dtype)
        for name in self.wire_dtype.names or ():
            out[name] = slot[name]
        return out.tobytes()

    def from_wire(self, data: bytes) -> np.void:
        """Unpack wire bytes into a zeroed slot; ValueError says how long the message must be."""
        if len(data) != self.wire_dtype.itemsize:
            msg = f"{self.name}: a wire message has {self.wire_dtype.itemsize} bytes, got {len(data)}"
            raise ValueError(msg)
        message = np.frombuffer(data, dtype=self.wire_dtype)[0]
        slot = np.zeros(1, dtype=self.slot_dtype)
        for name in self.wire_dtype.names or ():
            slot[0][name] = message[name]
        return slot[0]

    def describe(self) -> str:
        """The layout as text, one line a field; the schema hash is taken over it."""
        return f"{self.name} {self.size}\n" + "".join(f"{f.offset} {f.dtype} {f.name}\n" for f in self.fields)


def schema_hash(*records: Record) -> int:
    """63-bit hash of the layouts; rings and journals carry it and refuse another."""
    text = "".join(r.describe() for r in records)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def _check(name: str, size: int, fields: tuple[Field, ...]) -> None:
    assert size % WORD_BYTES == 0, f"{name}: a slot is a whole number of words"
    end = 0
    for f in sorted(fields, key=lambda f: f.offset):
        width = np.dtype(f.dtype).itemsize
        assert f.offset >= end, f"{name}.{f.name} overlaps the field before it"
        if not f.dtype.startswith("S"):
            assert f.offset % width == 0, f"{name}.{f.name} is not aligned"
        end = f.offset + width
    assert end <= size, f"{name}: fields end at {end}, the slot at {size}"
