import random

import numpy as np
import pytest

from persistence.journal import SEGMENT_BYTES_MIN, DirectoryStore, JournalCorrupt, JournalError, JournalReader, scan
from persistence.journal.layout import BLOCK_BYTES, segment_name
from protocol.codec import as_words
from protocol.records import COMMAND_DTYPE
from tests.persistence.journal_disk import FakeDisk
from tests.persistence.journal_slots import Feed, limit_orders, open_writer, read_all, write_all, write_batches


def test_reader_gives_command_slots_in_order_from_the_seq_asked_for():
    disk = FakeDisk()
    write_batches(disk, [limit_orders(700), limit_orders(20, 701)])
    parts = list(JournalReader(disk, 650))
    assert all(slots.dtype == COMMAND_DTYPE for slots in parts)
    assert list(range(650, 721)) == np.concatenate(parts)["seq"].tolist()
    assert [] == list(JournalReader(disk, 721))
    assert [] == list(JournalReader(FakeDisk()))


def test_reader_ends_at_to_seq_and_refuses_a_journal_that_ends_before():
    disk = FakeDisk()
    write_batches(disk, [limit_orders(700)])
    for to_seq in (1, 5, 316, 317, 318, 699, 700):
        assert to_seq == len(read_all(disk, 1, to_seq))
    with pytest.raises(
        JournalCorrupt, match="expected seq 701, found the end of the journal, though it must reach seq 701"
    ):
        read_all(disk, 1, 701)


@pytest.mark.parametrize("offset", [0, 30, 64, 200, 4095])
def test_damage_is_refused_with_its_position_after_everything_before_was_given(offset):
    disk = FakeDisk()
    write_batches(disk, [limit_orders(20, first_seq) for first_seq in (1, 21, 41)])
    disk.inode(segment_name(1)).current[2 * BLOCK_BYTES + offset] ^= 4
    reader = JournalReader(disk)
    with pytest.raises(JournalCorrupt, match="expected seq 21") as caught:
        list(reader)
    assert (segment_name(1), 2 * BLOCK_BYTES, 21) == (caught.value.segment, caught.value.offset, reader.next_seq)


def test_hole_of_zeros_before_more_data_is_no_clean_end():
    disk = FakeDisk()
    write_batches(disk, [limit_orders(20, first_seq) for first_seq in (1, 21, 41)])
    disk.inode(segment_name(1)).current[2 * BLOCK_BYTES : 3 * BLOCK_BYTES] = bytes(BLOCK_BYTES)
    with pytest.raises(JournalCorrupt, match="found zeros, but more data up to offset 16384"):
        list(JournalReader(disk))


def test_segment_whose_end_was_zeroed_is_refused_at_the_seam():
    disk = FakeDisk()
    write_batches(disk, [limit_orders(100, first_seq) for first_seq in range(1, 700, 100)])
    content = disk.inode(segment_name(1)).current
    content[3 * BLOCK_BYTES :] = bytes(len(content) - 3 * BLOCK_BYTES)
    with pytest.raises(JournalCorrupt, match=r"the end of the segment, but 00000002.seg goes on"):
        list(JournalReader(disk))


def poll_all(reader, durable_seq):
    parts = []
    while (slots := reader.poll(durable_seq)) is not None:
        parts.append(as_words(np.ascontiguousarray(slots)))
    return np.concatenate(parts) if parts else np.zeros((0, 16), dtype=np.int64)


@pytest.mark.parametrize("seed", range(6))
def test_replica_behind_a_live_writer_gets_everything_once_over_segments_and_epochs(seed):
    rng = random.Random(seed)
    disk = FakeDisk()
    reader = JournalReader(disk, 1)
    assert reader.poll(0) is None
    parts = []
    durable_seq = 0
    for epoch in range(1, 8):
        writer = open_writer(disk, epoch, rng.choice((6, 9, 80)) * BLOCK_BYTES, durable_seq)
        feed = Feed()
        feed.available_seq = durable_seq
        for _ in range(rng.randint(1, 8)):
            feed.put(limit_orders(rng.randint(1, 800), feed.available_seq + 1))
            write_all(writer, feed)
            durable_seq = writer.last_seq
            if rng.random() < 0.6:
                parts.append(poll_all(reader, durable_seq))
        writer.close()
    parts.append(poll_all(reader, durable_seq))
    assert np.array_equal(as_words(limit_orders(durable_seq)), np.concatenate(parts))
    assert reader.poll(durable_seq) is None


def test_replica_never_reads_beyond_the_durable_seq():
    disk = FakeDisk()
    writer = open_writer(disk, 1)
    feed = Feed()
    reader = JournalReader(disk)
    for first_seq in (1, 11, 21):
        feed.put(limit_orders(10, first_seq))
        write_all(writer, feed)
    assert list(range(1, 11)) == poll_all(reader, 10)[:, 0].tolist()
    # What lies behind may be half written; it is looked at again when it is durable.
    whole = bytes(disk.inode(segment_name(1)).current)
    disk.inode(segment_name(1)).current[2 * BLOCK_BYTES + 100 :] = bytes(len(whole) - 2 * BLOCK_BYTES - 100)
    assert reader.poll(10) is None
    disk.inode(segment_name(1)).current[:] = whole
    assert list(range(11, 31)) == poll_all(reader, 30)[:, 0].tolist()


def test_durable_seq_that_the_journal_has_not_is_corruption():
    disk = FakeDisk()
    write_batches(disk, [limit_orders(10)])
    reader = JournalReader(disk, 5)
    assert list(range(5, 11)) == poll_all(reader, 10)[:, 0].tolist()
    with pytest.raises(JournalCorrupt, match="though it must reach seq 11"):
        reader.poll(11)


def test_replica_that_starts_before_the_oldest_segment_is_told_where_to_start():
    disk = FakeDisk()
    write_batches(disk, [limit_orders(700)])
    del disk.files[segment_name(1)]
    with pytest.raises(JournalError, match=r"begins at seq (\d+), but seq 3 is wanted; .* start from a snapshot"):
        JournalReader(disk, 3).poll(700)


def test_replica_on_a_directory_follows_a_recovery(tmp_path):
    store = DirectoryStore(tmp_path)
    write_batches(store, [limit_orders(600)])
    reader = JournalReader(tmp_path)
    assert 600 == len(poll_all(reader, 600))
    writer = open_writer(store, 2, SEGMENT_BYTES_MIN, 600)
    feed = Feed()
    feed.put(limit_orders(10, 601))
    write_all(writer, feed)
    writer.close()
    assert list(range(601, 611)) == poll_all(reader, 610)[:, 0].tolist()
    assert 2 == reader.epoch
    assert 610 == scan(tmp_path).last_seq
