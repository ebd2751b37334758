import contextlib
import random
import re

import crc32c
import numpy as np
import pytest

from persistence.journal import (
    SEGMENT_BYTES_MIN,
    Cut,
    JournalCorrupt,
    JournalError,
    JournalMismatch,
    JournalWriter,
    describe,
    scan,
    start_new_segment_after_recovery,
)
from persistence.journal.layout import (
    BATCH_HEADER_BYTES,
    BLOCK_BYTES,
    SegmentHeader,
    chain_start,
    pack_batch_header,
    pack_segment_header,
    segment_name,
    unpack_segment_header,
)
from persistence.journal.segments import SegmentCursor, lineage
from protocol.codec import as_words
from tests.persistence.journal_disk import Crash, FakeDisk
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

SEED = chain_start(JOURNAL_ID)


def small_journal():
    """Three segments: two full ones, and one that ends with a batch of 20 slots and one of a single slot."""
    disk = FakeDisk()
    write_batches(disk, [limit_orders(700), limit_orders(20, 701), limit_orders(1, 721)])
    assert 3 == len(lineage(disk).headers)
    return disk


def content(disk, segment):
    return disk.inode(segment_name(segment)).current


def batch_places(disk, segment):
    """(offset, header) of every batch of a segment."""
    data = bytes(content(disk, segment))
    header = unpack_segment_header(data[:BLOCK_BYTES], segment, "")
    assert isinstance(header, SegmentHeader)
    cursor = SegmentCursor(header, SEED)
    places = []
    while not cursor.at_end:
        batch = cursor.examine(memoryview(data)[cursor.offset :])
        if isinstance(batch, str):
            break
        places.append((cursor.offset, batch.header))
        cursor.take(batch)
    return places


def test_empty_directory_is_a_journal_not_begun(tmp_path):
    for place in (tmp_path, tmp_path / "not there"):
        result = scan(place)
        assert (1, 0, 0, None) == (result.first_seq, result.last_seq, result.epoch, result.cut)
    assert [] == describe(tmp_path)


def test_empty_directory_where_something_was_durable_is_corruption(tmp_path):
    with pytest.raises(JournalCorrupt, match="no segment, but seq 5 was durable"):
        scan(tmp_path, known_durable_seq=5)


def test_scan_says_what_the_journal_holds():
    disk = small_journal()
    result = scan(disk, known_durable_seq=721)
    assert (1, 721, 1, JOURNAL_ID, None) == (
        result.first_seq,
        result.last_seq,
        result.epoch,
        result.journal_id,
        result.cut,
    )
    assert int(limit_orders(1, 721)["ts_ns"][0]) == result.last_ts_ns
    assert [1, 2, 3] == [info.segment for info in result.segments]
    assert result.segments[0].last_seq + 1 == result.segments[1].first_seq
    assert result._replace(leftovers=()) == scan(disk, 721, verify_from_seq=1)._replace(leftovers=())
    later = scan(disk, 721, verify_from_seq=715)
    assert (721, "not examined") == (later.last_seq, later.segments[0].problem)


def test_last_batch_torn_at_any_byte_is_cut_and_said():
    disk = small_journal()
    offset, header = batch_places(disk, 3)[-1]
    whole = bytes(content(disk, 3))
    assert 1 == header.slots
    for torn_at in range(offset, offset + header.size_bytes):
        content(disk, 3)[torn_at:] = bytes(len(whole) - torn_at)
        result = scan(disk)
        if not any(whole[torn_at : offset + header.size_bytes]):
            assert (721, None) == (result.last_seq, result.cut)
        elif not any(whole[offset:torn_at]):
            assert (720, None) == (result.last_seq, result.cut)
        else:
            assert isinstance(result.cut, Cut)
            assert (720, segment_name(3), offset) == (result.last_seq, result.cut.segment, result.cut.offset)
            with pytest.raises(JournalCorrupt, match="expected seq 721"):
                scan(disk, known_durable_seq=721)
        content(disk, 3)[:] = whole


def test_last_batch_with_lost_blocks_is_cut_with_all_of_it():
    disk = FakeDisk()
    write_batches(disk, [limit_orders(20), limit_orders(250, 21)], 10 * BLOCK_BYTES)
    offset, header = batch_places(disk, 1)[-1]
    blocks = header.size_bytes // BLOCK_BYTES
    assert blocks == 4
    whole = bytes(content(disk, 1))
    for lost in range(1, 1 << blocks):
        for block in range(blocks):
            if lost >> block & 1:
                start = offset + block * BLOCK_BYTES
                content(disk, 1)[start : start + BLOCK_BYTES] = bytes(BLOCK_BYTES)
        result = scan(disk)
        assert 20 == result.last_seq
        assert (lost != (1 << blocks) - 1) == (result.cut is not None)
        content(disk, 1)[:] = whole


def rewrite_header(disk, number, place, **changes):
    """Give a batch another header; the checksum fits again."""
    offset, header = place
    changed = header._replace(**changes)
    blocks = np.frombuffer(content(disk, number), dtype=np.uint8)[offset : offset + header.size_bytes]
    return pack_batch_header(blocks, changed, SEED)


def unsynced_tail(durable_seq):
    """A last segment whose third batch is lost, and whose fourth states ``durable_seq``."""
    disk = FakeDisk()
    write_batches(disk, [limit_orders(5, first_seq) for first_seq in (1, 6, 11, 16)])
    places = batch_places(disk, 1)
    rewrite_header(disk, 1, places[3], durable_seq=durable_seq)
    start = places[2][0]
    content(disk, 1)[start : start + BLOCK_BYTES] = bytes(BLOCK_BYTES)
    return disk, start


def test_bad_batch_that_no_later_one_states_as_durable_is_a_tail():
    disk, start = unsynced_tail(durable_seq=10)
    result = scan(disk, known_durable_seq=10)
    assert isinstance(result.cut, Cut)
    assert (10, start, 2 * BLOCK_BYTES) == (result.last_seq, result.cut.offset, result.cut.size_bytes)


@pytest.mark.parametrize("durable_seq", [11, 15])
def test_bad_batch_at_or_below_the_durable_cursor_of_a_later_one_is_corruption(durable_seq):
    disk, start = unsynced_tail(durable_seq)
    with pytest.raises(JournalCorrupt, match=f"expected seq 11.*seq {durable_seq} was durable") as caught:
        scan(disk)
    assert (segment_name(1), start, 11) == (caught.value.segment, caught.value.offset, caught.value.seq_expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"previous_crc": 1},
        {"first_seq": 12},
        {"first_seq": 10},
        {"epoch": 2},
        {"epoch": 0},
        {"segment": 2},
        {"block": 2},
    ],
    ids=str,
)
def test_last_batch_that_is_sound_but_does_not_follow_is_a_tail(changes):
    disk = FakeDisk()
    write_batches(disk, [limit_orders(5, first_seq) for first_seq in (1, 6, 11)])
    place = batch_places(disk, 1)[2]
    rewrite_header(disk, 1, place, **changes)
    result = scan(disk)
    assert isinstance(result.cut, Cut)
    assert (10, place[0]) == (result.last_seq, result.cut.offset)
    with pytest.raises(JournalCorrupt, match="expected seq 11"):
        read_all(disk)


def test_bad_batch_that_a_later_one_states_as_durable_is_corruption_in_the_writers_own_journal():
    disk = FakeDisk()
    write_batches(disk, [limit_orders(5, first_seq) for first_seq in (1, 6, 11)])
    offset = batch_places(disk, 1)[1][0]
    content(disk, 1)[offset + 100] ^= 1
    with pytest.raises(JournalCorrupt, match=r"expected seq 6, found a batch of seq 6..10 whose checksum does not fit"):
        scan(disk)


def flip_offsets(disk, every):
    """Bytes to flip in each segment: all of headers, of the rest one in ``every``; of the last up to its last batch."""
    rng = random.Random(3)
    for segment in (1, 2, 3):
        size = len(content(disk, segment))
        starts = [0, *(offset for offset, _ in batch_places(disk, segment))]
        if segment == 3:
            size = starts.pop()
        chosen = {start + i for start in starts for i in range(BATCH_HEADER_BYTES + 40)}
        chosen |= set(rng.sample(range(size), size // every))
        yield segment, sorted(chosen)


@pytest.mark.parametrize(
    "every", [40, pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(600)])], ids=["sampled", "each"]
)
def test_bit_flip_in_anything_durable_is_found_with_its_position(every):
    disk = small_journal()
    rng = random.Random(4)
    for segment, offsets in flip_offsets(disk, every):
        starts = [0, *(offset for offset, _ in batch_places(disk, segment)), len(content(disk, segment))]
        for offset in offsets:
            bit = 1 << rng.randrange(8)
            content(disk, segment)[offset] ^= bit
            with pytest.raises(JournalCorrupt) as caught:
                scan(disk)
            assert segment_name(segment) == caught.value.segment
            assert caught.value.offset in {start for start in starts if start <= offset}
            content(disk, segment)[offset] ^= bit
    assert 721 == scan(disk).last_seq


def test_missing_segment_in_the_middle_is_refused():
    disk = small_journal()
    del disk.files[segment_name(2)]
    with pytest.raises(JournalCorrupt, match=r"segment 00000002.seg.*no such file, though 00000003.seg follows it"):
        scan(disk)
    assert [True, False] == [info.ok for info in describe(disk)]


def test_missing_oldest_segments_are_a_history_that_begins_later():
    disk = small_journal()
    before = read_all(disk)
    del disk.files[segment_name(1)]
    result = scan(disk)
    assert result.first_seq == result.segments[0].first_seq > 1
    assert 721 == result.last_seq
    assert np.array_equal(before[result.first_seq - 1 :], read_all(disk, result.first_seq))
    with pytest.raises(JournalError, match="older segments were removed"):
        read_all(disk)


def test_missing_newest_segment_is_refused_where_its_content_was_durable():
    disk = small_journal()
    del disk.files[segment_name(3)]
    with pytest.raises(JournalCorrupt, match="the end of the journal, but seq 721 was durable"):
        scan(disk, known_durable_seq=721)


@pytest.mark.parametrize("segment", [1, 2, 3])
def test_truncated_or_grown_file_is_refused(segment):
    for size in (0, 100, BLOCK_BYTES, SEGMENT_BYTES_MIN - 1, SEGMENT_BYTES_MIN + BLOCK_BYTES):
        disk = small_journal()
        inode = disk.inode(segment_name(segment))
        inode.current = (inode.current + bytes(BLOCK_BYTES))[:size]
        with pytest.raises(JournalCorrupt, match=f"{segment_name(segment)}, offset 0: found a file of {size} bytes"):
            scan(disk)


def test_segment_of_another_journal_is_refused():
    disk = small_journal()
    other = FakeDisk()
    position = start_new_segment_after_recovery(other, scan(other), 1, 1, SEGMENT_BYTES_MIN, bytes(16))
    feed = Feed()
    feed.put(limit_orders(700))
    write_all(JournalWriter(other, position, SEGMENT_BYTES_MIN), feed)
    for segment in (1, 2):
        disk.files[segment_name(segment)], kept = other.files[segment_name(segment)], disk.files[segment_name(segment)]
        with pytest.raises(JournalMismatch, match="belongs to another home"):
            scan(disk)
        disk.files[segment_name(segment)] = kept


def test_segment_under_the_name_of_another_is_refused():
    disk = small_journal()
    disk.files[segment_name(4)] = disk.files[segment_name(3)]
    with pytest.raises(JournalCorrupt, match="found the header of segment 3, so that the file was renamed or copied"):
        scan(disk)


def reseal(header):
    header[-4:] = crc32c.crc32c(bytes(header[:-4])).to_bytes(4, "little")


def test_other_schema_and_other_format_say_which_program_to_start():
    disk = small_journal()
    data = bytes(content(disk, 3)[:BLOCK_BYTES])
    header = unpack_segment_header(data, 3, "")
    assert isinstance(header, SegmentHeader)
    content(disk, 3)[:BLOCK_BYTES] = pack_segment_header(header._replace(schema=header.schema ^ 1))
    with pytest.raises(JournalMismatch, match=r"record schema .* start the version that wrote it"):
        scan(disk)
    assert [False] == [info.ok for info in describe(disk) if info.segment == 3]
    changed = bytearray(data)
    changed[8] = 2
    reseal(changed)
    content(disk, 3)[:BLOCK_BYTES] = changed
    with pytest.raises(JournalMismatch, match="format version 2, this program reads 1"):
        scan(disk)


def test_zeros_in_the_middle_of_an_old_segment_are_found():
    disk = small_journal()
    offset, header = batch_places(disk, 1)[0]
    content(disk, 1)[offset:] = bytes(len(content(disk, 1)) - offset)
    with pytest.raises(JournalCorrupt, match=r"the end of the segment, but 00000002.seg goes on from seq") as caught:
        scan(disk)
    assert (offset, header.first_seq) == (caught.value.offset, caught.value.seq_expected)


def test_recovery_copies_the_newest_segment_and_the_epoch_goes_up():
    disk = small_journal()
    before = read_all(disk)
    writer = open_writer(disk, 2, known_durable_seq=721)
    assert [segment_name(1), segment_name(2), segment_name(4)] == [n for n in disk.names() if n.endswith(".seg")]
    assert (721, int(before[-1, 1])) == (writer.last_seq, writer.last_ts_ns)
    assert np.array_equal(before, read_all(disk))
    feed = Feed()
    feed.put(limit_orders(800, 722))
    write_all(writer, feed)
    writer.close()
    result = scan(disk)
    assert (1521, 2) == (result.last_seq, result.epoch)
    assert np.array_equal(as_words(limit_orders(1521)), read_all(disk))
    infos = describe(disk)
    assert [1, 1, 2, 2] == [info.epoch for info in infos][:4]
    assert all(info.ok for info in infos)


def test_recovered_batches_are_durable_by_the_new_header_alone():
    disk = small_journal()
    open_writer(disk, 2).close()
    offset, _ = batch_places(disk, 4)[-1]
    content(disk, 4)[offset + 70] ^= 1
    with pytest.raises(JournalCorrupt, match=r"expected seq 721.*seq 721 was durable"):
        scan(disk)
    content(disk, 4)[offset:] = bytes(len(content(disk, 4)) - offset)
    with pytest.raises(JournalCorrupt, match=r"expected seq 721.*seq 721 was durable"):
        scan(disk)


def test_recovery_leaves_a_torn_tail_behind():
    disk = small_journal()
    offset, _ = batch_places(disk, 3)[-1]
    content(disk, 3)[offset + 70] ^= 1
    assert scan(disk).cut is not None
    open_writer(disk, 2).close()
    result = scan(disk)
    assert (720, None) == (result.last_seq, result.cut)
    assert re.match("an unfinished write", describe(small_torn())[-1].problem)


def small_torn():
    disk = small_journal()
    offset, _ = batch_places(disk, 3)[-1]
    content(disk, 3)[offset + 70] ^= 1
    return disk


def test_many_recoveries_without_a_command_keep_the_history():
    disk = small_journal()
    before = read_all(disk)
    for epoch in range(2, 12):
        open_writer(disk, epoch).close()
        assert 3 == len([name for name in disk.names() if name.endswith(".seg")])
    assert np.array_equal(before, read_all(disk))
    assert 11 == scan(disk).epoch


def test_recovery_of_a_full_segment_goes_on_in_the_next():
    disk = FakeDisk()
    writer = open_writer(disk, 1)
    feed = Feed()
    feed.put(limit_orders(1000))
    while writer.write(feed.words, feed.mask, 1000):
        pass
    full_seq = writer.last_seq
    writer.close()
    writer = open_writer(disk, 2, known_durable_seq=full_seq)
    write_all(writer, feed)
    assert np.array_equal(as_words(limit_orders(1000)), read_all(disk))


@pytest.mark.parametrize("epoch", [0, 1])
def test_epoch_that_was_used_is_refused(epoch):
    disk = small_journal()
    with pytest.raises(JournalError, match="begin with 2"):
        start_new_segment_after_recovery(disk, scan(disk), epoch, 1, SEGMENT_BYTES_MIN)


def count_operations(disk, epoch):
    before = disk.operations
    open_writer(disk, epoch).close()
    return disk.operations - before


@pytest.mark.parametrize("torn", [False, True])
def test_crash_at_each_step_of_recovery_leaves_one_valid_history(torn):
    expected = as_words(limit_orders(720 if torn else 721))
    steps = count_operations(small_torn() if torn else small_journal(), 2)
    assert steps >= 8
    for step in range(steps + 1):
        for seed in range(8):
            disk = small_torn() if torn else small_journal()
            for name in disk.files:
                disk.inode(name).sync()
            disk.sync_directory()
            disk.crash_at = disk.operations + step
            try:
                open_writer(disk, 2).close()
            except Crash:
                pass
            else:
                assert step == steps
            disk = disk.after_process_death() if seed == 0 else disk.after_power_loss(random.Random(seed))
            assert np.array_equal(expected, read_all(disk, to_seq=scan(disk, len(expected)).last_seq)), (
                f"step {step}, seed {seed}"
            )
            open_writer(disk, 3, known_durable_seq=len(expected)).close()
            assert np.array_equal(expected, read_all(disk)), f"step {step}, seed {seed}"
            assert 3 == len(disk.names())


def test_power_loss_at_each_step_of_the_recovery_after_one_that_was_killed_leaves_one_valid_history():
    """Seed 2381 of the simulator: a replaced segment was removed before its replacement's name was on the disk."""
    expected = as_words(limit_orders(721))
    steps = count_operations(small_journal(), 2)
    for first in range(steps - 4, steps + 1):
        for second in range(steps + 3):
            for seed in range(1, 6):
                disk = small_journal()
                for name in disk.files:
                    disk.inode(name).sync()
                disk.sync_directory()
                disk.crash_at = disk.operations + first
                with contextlib.suppress(Crash):
                    open_writer(disk, 2).close()
                disk = disk.after_process_death()
                disk.crash_at = second
                with contextlib.suppress(Crash):
                    open_writer(disk, 3, known_durable_seq=len(expected)).close()
                disk = disk.after_power_loss(random.Random(seed))
                last_seq = scan(disk, len(expected)).last_seq
                assert np.array_equal(expected, read_all(disk, to_seq=last_seq)), (
                    f"steps {first}, {second}, seed {seed}"
                )


def test_crash_at_each_step_of_a_new_segment_keeps_what_was_durable():
    def run(disk):
        writer = open_writer(disk, 1)
        feed = Feed()
        feed.put(limit_orders(900))
        durable_seq = 0
        try:
            while writer.last_seq < feed.available_seq:
                writer.maintain(0)
                writer.write(feed.words, feed.mask, feed.available_seq)
                durable_seq = writer.last_seq
        except Crash:
            pass
        return durable_seq

    disk = FakeDisk()
    assert 900 == run(disk)
    steps = disk.operations
    rotations = [i for i, (what, _) in enumerate(disk.log) if what == "rename"]
    assert 3 == len(rotations)
    for step in range(rotations[0] + 2, steps):
        for seed in range(4):
            disk = FakeDisk()
            disk.crash_at = step
            durable_seq = run(disk)
            disk = disk.after_power_loss(random.Random(seed))
            last_seq = scan(disk, durable_seq).last_seq
            assert last_seq >= durable_seq
            assert np.array_equal(as_words(limit_orders(900))[:last_seq], read_all(disk, to_seq=last_seq))


@pytest.mark.parametrize("seed", [*range(15), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(15, 400))])
def test_nothing_durable_is_lost_over_crashes_that_drop_and_reorder_writes(seed):
    """Epoch after epoch crashes at a random operation, also in recovery; each writes other slots than the lost ones."""
    rng = random.Random(seed)
    numbers = np.random.default_rng(seed)
    disk = FakeDisk()
    durable = np.zeros((0, 16), dtype=np.int64)
    submitted = durable
    for epoch in range(1, 40, 2):
        disk.crash_at = disk.operations + rng.randint(1, 60)
        try:
            result = scan(disk, len(durable))
            assert len(durable) <= result.last_seq <= len(submitted), f"seed {seed}, epoch {epoch}"
            submitted = submitted[: result.last_seq]
            assert np.array_equal(submitted, read_all(disk, to_seq=result.last_seq)), f"seed {seed}, epoch {epoch}"
            writer = open_writer(disk, max(epoch, result.epoch + 1), rng.choice((6, 8, 20)) * BLOCK_BYTES, len(durable))
            durable = submitted
            feed = Feed()
            feed.available_seq = len(submitted)
            while True:
                sizes = [rng.choice((1, 1, 1, 2, 40, 128)) for _ in range(rng.randint(1, 8))]
                ts_ns = int(submitted[-1, 1]) if len(submitted) else 1
                feed.put(random_slots(numbers, len(submitted) + 1, sizes, ts_ns))
                rows = feed.words[np.arange(len(submitted), feed.available_seq) & feed.mask]
                submitted = np.concatenate([submitted, rows])
                while writer.last_seq < feed.available_seq:
                    writer.maintain(0)
                    writer.write(feed.words, feed.mask, feed.available_seq)
                    durable = submitted[: writer.last_seq]
        except Crash:
            disk = disk.after_power_loss(rng) if rng.random() < 0.8 else disk.after_process_death()
    last_seq = scan(disk, len(durable)).last_seq
    assert np.array_equal(submitted[:last_seq], read_all(disk, to_seq=last_seq)), f"seed {seed}"
    assert len(durable) > 200
