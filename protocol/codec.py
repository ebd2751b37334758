"""Journal layout of command slots: the 8-byte words of a slot but those that are zero or follow from something else.

A slot is 16 words, ``slots.view(np.int64).reshape(n, 16)``. A record is one header word and then the words that it
names, in order::

     63                                            16 15                    2  1  0
    +------------------------------------------------+-----------------------+--+--+
    | ts_ns of this slot minus that of the one before | words 2..15 that follow | T| O|
    +------------------------------------------------+-----------------------+--+--+

* word 0 (seq) is implied: the batch states its first, and each slot has the next.
* T: the difference of the times does not fit 48 bits (3.2 days); it is then 0 here, and word 1 (ts_ns) follows whole.
* O: word 4 (order_id) is ``source << 40 | source_seq`` of this very slot, as for every new order, and is left out.

Words 2..15 are left out where they are zero. There is one encoding of a slot only, and ``decode`` refuses any other,
so that whatever it accepts encodes to the same bytes again. A plain limit order takes 64 bytes, a record at most 128.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol.enums import FLAG_BATCH, FLAG_MORE, GROUP_SLOTS_MAX, ORDER_ID_SOURCE_SHIFT
from protocol.jit import entry, inner

SLOT_WORDS: Final = 16
RECORD_BYTES_MAX: Final = 8 * SLOT_WORDS
GROUP_BYTES_MAX: Final = GROUP_SLOTS_MAX * RECORD_BYTES_MAX

ERROR_SEQ: Final = -1
ERROR_TS: Final = -2
ERROR_GROUP: Final = -3
ERROR_TRUNCATED: Final = -4
ERROR_TOO_MANY: Final = -5
ERROR_FORM: Final = -6
ERROR_ARGUMENT: Final = -7

ERROR_TEXT: Final[dict[int, str]] = {
    ERROR_SEQ: "the slots are not numbered one by one from the first seq",
    ERROR_TS: "the sequenced time falls, or is not a time",
    ERROR_GROUP: f"a group is divided, or has more than {GROUP_SLOTS_MAX} slots",
    ERROR_TRUNCATED: "the last record is cut off",
    ERROR_TOO_MANY: "there are more records than slots to take them",
    ERROR_FORM: "a record is not in the one form that the encoder gives it",
    ERROR_ARGUMENT: "a count, size or index is outside its array",
}

_TS_BIT: Final = 2
_ORDER_ID_BIT: Final = 1
_TS_SHIFT: Final = 16
_TS_DELTA_LIMIT: Final = 1 << 48
_TS_MAX: Final = (1 << 63) - 1
_SOURCE_BITS: Final = 0xFFFF
# Flags are the upper half of word 2 in every view of a command slot.
_MORE_BIT: Final = (FLAG_MORE | FLAG_BATCH) << 32


@entry
def encode_span(words, first, mask, count, first_seq, out, prev_ts_ns):
    """Encode as many whole groups of ``count`` slots as fit into ``out``.

    Parameters
    ----------
    words : int64[n, 16], slots; slot i of the span is row ``(first + i) & mask``
    first : int >= 0, row of the first slot
    mask : int, n - 1 for a ring of n = 2^k slots; -1 for an array that does not wrap
    count : int >= 0, slots of the span
    first_seq : int, seq that the first slot must have
    out : int64[m], written from its start; what lies behind the returned size may have been written too
    prev_ts_ns : int >= 0, ts_ns of the slot before the span

    Returns
    -------
    (slots, size_bytes, last_ts_ns) : int64, int64, int64
        Slots taken (a multiple of whole groups, 0 where the first group does not fit), bytes written, time of the last
        slot taken; or an ERROR code, 0 and the row's offset in the span.

    Source: ARCHITECTURE, "journal": no batch divides a group, nor commands that a producer linked (FLAG_BATCH).
    """
    if count < 0 or first < 0 or prev_ts_ns < 0:
        return ERROR_ARGUMENT, 0, 0
    if mask < 0 and first + count > words.shape[0]:
        return ERROR_ARGUMENT, 0, 0
    if mask >= 0 and (mask >= words.shape[0] or count > mask + 1):
        return ERROR_ARGUMENT, 0, 0
    done_slots = 0
    done_words = 0
    done_ts_ns = prev_ts_ns
    ts_ns = prev_ts_ns
    at = 0
    for i in range(count):
        slot = words[(first + i) & mask]
        if slot[0] != first_seq + i:
            return ERROR_SEQ, 0, i
        if slot[1] < ts_ns:
            return ERROR_TS, 0, i
        used = _encode_slot(slot, out, at, ts_ns)
        if used == 0:
            break
        at += used
        ts_ns = slot[1]
        if (slot[2] & _MORE_BIT) == 0:
            done_slots = i + 1
            done_words = at
            done_ts_ns = ts_ns
        elif i + 1 - done_slots >= GROUP_SLOTS_MAX:
            return ERROR_GROUP, 0, i
    return done_slots, 8 * done_words, done_ts_ns


@inner
def _encode_slot(slot, out, at, prev_ts_ns):
    """Write one record at word ``at`` of ``out``; the words used, 0 where it does not fit."""
    if at >= out.shape[0]:
        return 0
    header = 0
    used = 1
    delta_ns = slot[1] - prev_ts_ns
    if delta_ns < _TS_DELTA_LIMIT:
        header = delta_ns << _TS_SHIFT
    else:
        header = _TS_BIT
        if at + used >= out.shape[0]:
            return 0
        out[at + used] = slot[1]
        used += 1
    own_id = ((slot[8] & _SOURCE_BITS) << ORDER_ID_SOURCE_SHIFT) | slot[9]
    for k in range(2, SLOT_WORDS):
        word = slot[k]
        if word == 0:
            continue
        if k == 4 and word == own_id:
            header |= _ORDER_ID_BIT
            continue
        if at + used >= out.shape[0]:
            return 0
        header |= 1 << k
        out[at + used] = word
        used += 1
    out[at] = header
    return used


@entry
def encode(words, count, out, prev_ts_ns):
    """Encode the first ``count`` slots of ``words`` (int64[n, 16]) into ``out`` (int64[m]).

    Returns
    -------
    int
        Bytes written; an ERROR code where slots, times or groups are not in order, ERROR_TRUNCATED where ``out`` is
        too small for all.
    """
    if count < 1 or count > words.shape[0]:
        return ERROR_ARGUMENT
    slots, size_bytes, _ = encode_span(words, 0, -1, count, words[0, 0], out, prev_ts_ns)
    if slots < 0:
        return slots
    if slots < count:
        return ERROR_TRUNCATED
    return size_bytes


@entry
def decode(buffer, size_bytes, out_words, first_seq, prev_ts_ns):
    """Decode records into slots; any bytes at all give slots or an error, never an access outside the arrays.

    Parameters
    ----------
    buffer : int64[m], the records
    size_bytes : int, how much of it; a multiple of 8
    out_words : int64[n, 16], overwritten from row 0 on
    first_seq : int >= 1, seq of the first slot
    prev_ts_ns : int >= 0, ts_ns of the slot before

    Returns
    -------
    int
        Slots decoded, or an ERROR code. The last slot of all ends its group.
    """
    if size_bytes < 0 or size_bytes % 8 != 0 or size_bytes // 8 > buffer.shape[0]:
        return ERROR_ARGUMENT
    if out_words.shape[1] != SLOT_WORDS or first_seq < 1 or prev_ts_ns < 0:
        return ERROR_ARGUMENT
    if first_seq > _TS_MAX - out_words.shape[0]:
        return ERROR_ARGUMENT
    end = size_bytes // 8
    at = 0
    slots = 0
    group_start = 0
    ts_ns = prev_ts_ns
    while at < end:
        if slots >= out_words.shape[0]:
            return ERROR_TOO_MANY
        slot = out_words[slots]
        used = _decode_slot(buffer, at, end, slot, ts_ns)
        if used < 0:
            return used
        slot[0] = first_seq + slots
        ts_ns = slot[1]
        at += used
        slots += 1
        if (slot[2] & _MORE_BIT) == 0:
            group_start = slots
        elif slots - group_start >= GROUP_SLOTS_MAX:
            return ERROR_GROUP
    if group_start != slots:
        return ERROR_GROUP
    return slots


@inner
def _decode_slot(buffer, at, end, slot, prev_ts_ns):
    """Read one record from word ``at`` on into ``slot``, all but word 0; the words used, or an ERROR code."""
    header = buffer[at]
    used = 1
    delta_ns = (header >> _TS_SHIFT) & (_TS_DELTA_LIMIT - 1)
    if (header & _TS_BIT) == 0:
        if delta_ns > _TS_MAX - prev_ts_ns:
            return ERROR_TS
        slot[1] = prev_ts_ns + delta_ns
    else:
        if delta_ns != 0:
            return ERROR_FORM
        if at + used >= end:
            return ERROR_TRUNCATED
        ts_ns = buffer[at + used]
        if ts_ns < prev_ts_ns:
            return ERROR_TS
        if ts_ns - prev_ts_ns < _TS_DELTA_LIMIT:
            return ERROR_FORM
        slot[1] = ts_ns
        used += 1
    for k in range(2, SLOT_WORDS):
        if (header & (1 << k)) == 0:
            slot[k] = 0
            continue
        if at + used >= end:
            return ERROR_TRUNCATED
        word = buffer[at + used]
        if word == 0:
            return ERROR_FORM
        slot[k] = word
        used += 1
    own_id = ((slot[8] & _SOURCE_BITS) << ORDER_ID_SOURCE_SHIFT) | slot[9]
    if (header & _ORDER_ID_BIT) != 0:
        if slot[4] != 0 or own_id == 0:
            return ERROR_FORM
        slot[4] = own_id
    elif slot[4] != 0 and slot[4] == own_id:
        return ERROR_FORM
    return used


def as_words(slots: np.ndarray) -> np.ndarray:
    """View command slots (COMMAND_DTYPE[n], C-contiguous) as int64[n, 16]; no copy."""
    assert slots.dtype.itemsize == RECORD_BYTES_MAX, "a command slot has 128 bytes"
    return slots.view(np.int64).reshape(slots.shape[0], SLOT_WORDS)
