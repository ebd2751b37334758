import errno

import numpy as np
import pytest

from persistence.journal import (
    SEGMENT_BYTES_MIN,
    DirectoryStore,
    JournalError,
    JournalFailed,
    JournalReader,
    describe,
    scan,
)
from persistence.journal.layout import BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BLOCK_BYTES, chain_start, segment_name
from persistence.journal.segments import SegmentCursor, lineage
from protocol.codec import as_words
from protocol.enums import FLAG_MORE
from tests.persistence.journal_disk import FakeDisk
from tests.persistence.journal_slots import (
    JOURNAL_ID,
    Feed,
    limit_orders,
    open_writer,
    random_slots,
    read_all,
    write_all,
    write_batches,
)


def batches_of(disk):
    """(segment, header) of every batch; each begins on a block and is padded with zeros."""
    found = []
    for header in lineage(disk).headers:
        cursor = SegmentCursor(header, chain_start(JOURNAL_ID))
        data = bytes(disk.inode(segment_name(header.segment)).current)
        while not cursor.at_end:
            batch = cursor.examine(memoryview(data)[cursor.offset :])
            if isinstance(batch, str):
                break
            assert cursor.offset % BLOCK_BYTES == 0
            end = cursor.offset + BATCH_HEADER_BYTES + batch.header.payload_bytes
            assert not any(data[end : cursor.offset + batch.header.size_bytes])
            cursor.take(batch)
            found.append((header.segment, batch.header))
    return found


def test_slots_written_are_read_back_bit_for_bit():
    rng = np.random.default_rng(1)
    disk = FakeDisk()
    batches = []
    seq, ts_ns = 1, 1
    for _ in range(40):
        sizes = rng.integers(1, 20, size=rng.integers(1, 10)).tolist()
        slots = random_slots(rng, seq, sizes, ts_ns)
        batches.append(slots)
        seq += len(slots)
        ts_ns = int(slots["ts_ns"][-1])
    write_batches(disk, batches)
    expected = np.concatenate([as_words(slots) for slots in batches])
    assert len(lineage(disk).headers) > 3
    assert np.array_equal(expected, read_all(disk))
    assert np.array_equal(expected[99:200], read_all(disk, 100, 200))


def test_each_write_is_synced_before_last_seq_moves():
    disk = FakeDisk()
    writer = open_writer(disk, 1)
    feed = Feed()
    for first_seq in (1, 11, 21):
        feed.put(limit_orders(10, first_seq))
        del disk.log[:]
        assert 10 == writer.write(feed.words, feed.mask, feed.available_seq)
        assert [("write", segment_name(1)), ("sync", segment_name(1))] == disk.log
        assert first_seq + 9 == writer.last_seq
    assert 3 == writer.syncs


def test_batch_is_at_most_256_kib_and_no_group_is_divided():
    rng = np.random.default_rng(2)
    disk = FakeDisk()
    segment_bytes = 4 * BATCH_BYTES_MAX
    writer = open_writer(disk, 1, segment_bytes)
    feed = Feed()
    seq, ts_ns = 1, 1
    for _ in range(12):
        sizes = rng.integers(1, 129, size=50).tolist()
        slots = random_slots(rng, seq, sizes, ts_ns)[:4000]
        last = int(np.flatnonzero((slots["flags"] & FLAG_MORE) == 0)[-1]) + 1
        feed.put(slots[:last])
        write_all(writer, feed)
        seq, ts_ns = feed.available_seq + 1, int(slots["ts_ns"][last - 1])
    writer.close()
    found = batches_of(disk)
    assert max(header.size_bytes for _, header in found) <= BATCH_BYTES_MAX
    words = read_all(disk)
    assert len(words) == seq - 1
    for _, header in found:
        assert 0 == (words[header.last_seq - 1, 2] >> 32) & FLAG_MORE
        assert header.durable_seq == header.first_seq - 1


def test_group_that_is_not_complete_yet_is_not_written():
    disk = FakeDisk()
    writer = open_writer(disk, 1)
    feed = Feed()
    slots = limit_orders(3)
    slots["flags"][1:] = FLAG_MORE
    feed.put(slots)
    assert 1 == writer.write(feed.words, feed.mask, 3)
    assert 0 == writer.write(feed.words, feed.mask, 3)
    slots["flags"][2] = 0
    feed.put(slots)
    assert 2 == writer.write(feed.words, feed.mask, 3)


def test_slots_that_wrap_around_the_ring_stay_in_order():
    disk = FakeDisk()
    writer = open_writer(disk, 1, 64 * BLOCK_BYTES)
    feed = Feed()
    for first_seq in range(1, 20_000, 3000):
        feed.put(limit_orders(3000, first_seq))
        write_all(writer, feed)
    expected = as_words(limit_orders(feed.available_seq))
    assert np.array_equal(expected, read_all(disk))


def test_slots_out_of_order_or_with_falling_time_are_refused_and_nothing_is_written():
    for field, value in (("seq", 3), ("ts_ns", 5)):
        disk = FakeDisk()
        writer = open_writer(disk, 1)
        feed = Feed()
        slots = limit_orders(4)
        feed.put(slots)
        feed.slots[2][field] = value + (field == "seq")
        before = disk.operations
        with pytest.raises(JournalError, match="slot 3 cannot be journalled"):
            writer.write(feed.words, feed.mask, 4)
        assert before == disk.operations


def test_next_segment_that_cannot_be_made_lets_the_current_one_go_on_to_its_end():
    disk = FakeDisk()
    writer = open_writer(disk, 1)
    feed = Feed()
    disk.failures["create"] = errno.ENOSPC
    feed.put(limit_orders(1000))
    write_all(writer, feed)
    writer.maintain(0)
    assert errno.ENOSPC == writer.space_problem.errno
    while writer.last_seq < feed.available_seq and writer.write(feed.words, feed.mask, feed.available_seq):
        pass
    full_seq = writer.last_seq
    assert 250 < full_seq < 400  # five blocks of 64-byte records
    assert 0 == writer.write(feed.words, feed.mask, feed.available_seq)

    disk.failures.clear()
    writer.maintain(1)
    assert writer.space_problem is not None, "it is tried again after a while only"
    writer.maintain(2_000_000_000)
    writer.maintain(2_000_000_000)
    assert writer.space_problem is None
    write_all(writer, feed, 3_000_000_000)
    assert 1000 == writer.last_seq
    assert np.array_equal(as_words(limit_orders(1000)), read_all(disk))


@pytest.mark.parametrize(("operation", "code"), [("sync", errno.EIO), ("write", errno.EIO), ("write", errno.ENOSPC)])
def test_failed_write_or_sync_is_final_and_never_tried_again(operation, code):
    disk = FakeDisk()
    writer = open_writer(disk, 1)
    feed = Feed()
    feed.put(limit_orders(5))
    assert 5 == writer.write(feed.words, feed.mask, 5)
    feed.put(limit_orders(5, 6))
    disk.failures[operation] = code
    with pytest.raises(JournalFailed, match=f"{operation} at offset 8192 failed: {errno.errorcode[code]}") as caught:
        writer.write(feed.words, feed.mask, 10)
    assert code == caught.value.errno
    assert 5 == writer.last_seq
    disk.failures.clear()
    before = disk.operations
    with pytest.raises(JournalFailed):
        writer.write(feed.words, feed.mask, 10)
    assert before == disk.operations


@pytest.mark.parametrize("operation", ["write", "sync", "rename", "sync_directory"])
def test_failure_while_the_next_segment_starts_is_final(operation):
    disk = FakeDisk()
    writer = open_writer(disk, 1)
    feed = Feed()
    feed.put(limit_orders(1000))
    writer.maintain(0)
    writer.maintain(0)
    while writer.write(feed.words, feed.mask, feed.available_seq):
        if writer._offset == SEGMENT_BYTES_MIN:
            break
    disk.failures[operation] = errno.EIO
    with pytest.raises(JournalFailed, match="starting segment 2"):
        writer.write(feed.words, feed.mask, feed.available_seq)
    assert scan(disk.after_process_death(), writer.last_seq).last_seq == writer.last_seq


def test_second_writer_is_refused(tmp_path):
    write_batches(DirectoryStore(tmp_path), [limit_orders(3)])
    writer = open_writer(DirectoryStore(tmp_path), 2)
    with pytest.raises(JournalError, match="another process writes it"):
        open_writer(DirectoryStore(tmp_path), 3)
    writer.close()
    open_writer(DirectoryStore(tmp_path), 3).close()


@pytest.mark.parametrize("segment_bytes", [0, SEGMENT_BYTES_MIN - BLOCK_BYTES, SEGMENT_BYTES_MIN + 1, 1 << 33])
def test_size_that_no_segment_can_have_is_refused(segment_bytes):
    with pytest.raises(JournalError, match="segment_bytes"):
        open_writer(FakeDisk(), 1, segment_bytes)


def test_directory_on_the_disk_holds_the_same_as_the_simulated_one(tmp_path):
    disk = FakeDisk()
    store = DirectoryStore(tmp_path / "journal")
    batches = [limit_orders(200, first_seq) for first_seq in range(1, 2000, 200)]
    write_batches(disk, batches)
    write_batches(store, batches)
    names = [name for name in store.names() if name.endswith(".seg")]
    assert [name for name in disk.names() if name.endswith(".seg")] == names
    for name in names:
        assert bytes(disk.inode(name).current) == (tmp_path / "journal" / name).read_bytes()
    assert all(info.ok for info in describe(store))


def test_directory_that_is_full_or_closed_gives_a_space_problem(tmp_path):
    store = DirectoryStore(tmp_path)
    writer = open_writer(store, 1)
    feed = Feed()
    # A directory stands where the file should go: an error that a superuser gets too.
    (tmp_path / "00000002.next").mkdir()
    feed.put(limit_orders(1000))
    for _ in range(100_000):
        writer.maintain(0)
        if writer.space_problem is not None:
            break
    assert errno.EISDIR == writer.space_problem.errno
    write_all(writer, feed)
    assert 0 < writer.last_seq < 1000
    (tmp_path / "00000002.next").rmdir()
    write_all_with_space(writer, feed)
    writer.close()
    assert 1000 == scan(tmp_path).last_seq


def write_all_with_space(writer, feed):
    now_ns = 10_000_000_000
    while writer.last_seq < feed.available_seq:
        now_ns += 1_000_000_000
        writer.maintain(now_ns)
        writer.write(feed.words, feed.mask, feed.available_seq)


def test_sealed_writer_leaves_a_journal_that_reads_to_its_last_slot():
    disk = FakeDisk()
    writer = open_writer(disk, 1)
    feed = Feed()
    feed.put(limit_orders(5))
    writer.write(feed.words, feed.mask, 5)
    writer.close()
    assert 5 == sum(len(slots) for slots in JournalReader(disk))
