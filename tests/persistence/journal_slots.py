"""Command slots for tests of the journal, and the journal written with them."""

import numpy as np

from persistence.journal import SEGMENT_BYTES_MIN, JournalReader, JournalWriter, scan, start_new_segment_after_recovery
from protocol.codec import as_words
from protocol.enums import FLAG_BATCH, FLAG_MORE
from protocol.records import COMMAND_DTYPE, command_slots

RING_SLOTS = 4096
JOURNAL_ID = bytes(range(16))


def random_slots(rng, first_seq, sizes, ts_ns):
    """Groups of the given sizes with random words, sequenced from ``first_seq`` on at or after ``ts_ns``."""
    count = sum(sizes)
    words = rng.integers(-(1 << 63), 1 << 63, size=(count, 16), dtype=np.int64)
    words[rng.random((count, 16)) < rng.random()] = 0
    words[:, 0] = np.arange(first_seq, first_seq + count)
    gaps = rng.integers(0, 1 << 40, size=count)
    gaps[rng.random(count) < 0.05] = 1 << 50
    words[:, 1] = ts_ns + np.cumsum(gaps)
    slots = words.view(COMMAND_DTYPE).reshape(count)
    slots["flags"] &= np.uint32(~(FLAG_MORE | FLAG_BATCH) & 0xFFFFFFFF)
    at = 0
    for size in sizes:
        slots["flags"][at : at + size - 1] |= FLAG_MORE
        at += size
    return slots


def limit_orders(count, first_seq=1, ts_ns=1_700_000_000_000_000_000):
    """Plain limit orders of one producer."""
    slots = command_slots(count)
    slots["seq"] = np.arange(first_seq, first_seq + count)
    slots["ts_ns"] = ts_ns + 1000 * slots["seq"]
    slots["type"] = 1
    slots["account"] = 7
    slots["instrument"] = 2
    slots["price_ticks"] = 6_500_000
    slots["qty_lots"] = 150
    slots["source"] = 8
    slots["source_seq"] = slots["seq"]
    slots["order_id"] = (8 << 40) | slots["source_seq"]
    slots["entry_ts_ns"] = slots["ts_ns"] - 5000
    return slots


class Feed:
    """A command ring without cursors: slot with number seq in row ``(seq - 1) & mask``."""

    def __init__(self):
        self.slots = np.zeros(RING_SLOTS, dtype=COMMAND_DTYPE)
        self.words = as_words(self.slots)
        self.mask = RING_SLOTS - 1
        self.available_seq = 0

    def put(self, slots):
        self.words[(slots["seq"] - 1) & self.mask] = as_words(slots)
        self.available_seq = int(slots["seq"][-1])


def open_writer(disk, epoch, segment_bytes=SEGMENT_BYTES_MIN, known_durable_seq=None):
    """Recover and write on."""
    result = scan(disk, known_durable_seq)
    position = start_new_segment_after_recovery(disk, result, epoch, 1, segment_bytes, journal_id=JOURNAL_ID)
    return JournalWriter(disk, position, segment_bytes, wall_clock_ns=lambda: 1)


def write_all(writer, feed, now_ns=0):
    """Write until nothing is left; each turn sees to the next segment first."""
    while writer.last_seq < feed.available_seq:
        writer.maintain(now_ns)
        if writer.write(feed.words, feed.mask, feed.available_seq) == 0 and writer.space_problem is not None:
            return


def write_batches(disk, batches, segment_bytes=SEGMENT_BYTES_MIN):
    """A journal of epoch 1 with these arrays, each a batch (or more where a segment ends)."""
    append_batches(disk, batches, 1, segment_bytes)


def append_batches(disk, batches, epoch=2, segment_bytes=SEGMENT_BYTES_MIN):
    """Go on with a journal by these arrays."""
    writer = open_writer(disk, epoch, segment_bytes)
    feed = Feed()
    for slots in batches:
        feed.put(slots)
        write_all(writer, feed)
    writer.close()


def read_all(disk, from_seq=1, to_seq=None):
    """All slots as int64[n, 16]."""
    parts = [as_words(np.ascontiguousarray(slots)) for slots in JournalReader(disk, from_seq, to_seq)]
    return np.concatenate(parts) if parts else np.zeros((0, 16), dtype=np.int64)
