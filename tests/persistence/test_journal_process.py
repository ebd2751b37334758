import errno
import os
import time

import numpy as np
import pytest

from persistence.journal import (
    SEGMENT_BYTES_MIN,
    JournalFailed,
    JournalProcess,
    WriterPosition,
    scan,
    start_new_segment_after_recovery,
)
from persistence.journal.process import jitter, load_position, main, save_position, warm
from protocol import board as lines
from protocol import instance
from protocol.codec import as_words
from protocol.instance import Context
from protocol.readers import ready_word
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA
from ringbuf.board import BELL, SLEEPING, BoardFile, private_board
from ringbuf.file import RingFile
from ringbuf.ring import private_ring, publish, reader_cursor, room
from tests.persistence.journal_disk import FakeDisk
from tests.persistence.journal_slots import limit_orders, open_writer, read_all

CAPACITY = 256
WAITER = 30


class Engine:
    """A command ring, a board and a journal's process on a simulated disk."""

    def __init__(self, disk, epoch=1, delay=None, clock_ns=time.monotonic_ns, board=None, **options):
        self.disk = disk
        self.writer = open_writer(disk, epoch, **options)
        self.board = private_board(lines.LINES) if board is None else board
        start = self.writer.last_seq
        self.ring = private_ring(COMMAND_DTYPE, CAPACITY, n_readers=1, start=start, board=self.board)
        self.process = JournalProcess(
            self.ring, 0, self.board, self.writer, bells=(WAITER,), delay=delay, clock_ns=clock_ns
        )
        self.seq = start

    def put(self, count):
        assert room(self.ring, count) >= count
        slots = limit_orders(count, self.seq + 1)
        self.ring.slots[(slots["seq"] - 1) & (CAPACITY - 1)] = slots
        self.seq += count
        publish(self.ring, self.seq)


def test_step_makes_what_has_gathered_durable_and_frees_the_slots():
    engine = Engine(FakeDisk())
    assert 0 == engine.process.step()
    engine.put(10)
    engine.put(20)
    assert 0 == engine.board[lines.DURABLE_SEQ]
    assert 30 == engine.process.step()
    assert 30 == engine.board[lines.DURABLE_SEQ] == reader_cursor(engine.ring, 0)
    assert 1 == engine.board[lines.JOURNAL_SYNCS]
    assert 4096 == engine.board[lines.JOURNAL_BYTES]
    assert engine.board[lines.JOURNAL_SYNC_NS] > 0
    assert 0 == engine.process.step()


def test_durable_cursor_rings_who_sleeps():
    engine = Engine(FakeDisk())
    engine.board[WAITER * lines.LINE_WORDS + SLEEPING] = 1
    engine.put(1)
    engine.process.step()
    assert 1 == engine.board[WAITER * lines.LINE_WORDS + BELL]
    assert 0 == engine.board[WAITER * lines.LINE_WORDS + SLEEPING]


def test_ring_is_followed_around_many_times_and_into_the_next_epoch():
    disk = FakeDisk()
    for epoch in (1, 2):
        engine = Engine(disk, epoch)
        assert engine.seq == engine.board[lines.DURABLE_SEQ]
        for count in (1, 200, 56, 255, 3, 256, 256, 90):
            engine.put(count)
            while engine.process.step():
                pass
            while engine.board[lines.DURABLE_SEQ] < engine.seq:
                engine.process.step()
        engine.writer.close()
    assert np.array_equal(as_words(limit_orders(engine.seq)), read_all(disk))


def test_run_writes_what_is_left_when_it_is_told_to_stop():
    engine = Engine(FakeDisk())
    engine.put(40)
    engine.board[lines.STOP] = 1
    engine.process.run()
    assert 40 == engine.board[lines.DURABLE_SEQ]


def test_segment_that_cannot_be_made_shows_on_the_board_until_it_can():
    now = [0]
    engine = Engine(FakeDisk(), clock_ns=lambda: now[0])
    engine.disk.failures["create"] = errno.ENOSPC
    engine.process.step()
    engine.process.step()
    assert 1 == engine.board[lines.JOURNAL_SPACE]
    engine.put(100)
    assert 100 == engine.process.step()
    engine.disk.failures.clear()
    now[0] += 10_000_000_000
    engine.process.step()
    engine.process.step()
    assert 0 == engine.board[lines.JOURNAL_SPACE]


def test_next_epochs_journal_takes_back_what_a_dead_one_said_of_itself():
    """Seed 27 of the simulator's faults: new orders were refused for ever for want of space that was there again."""
    disk = FakeDisk()
    engine = Engine(disk)
    disk.failures["create"] = errno.ENOSPC
    engine.process.step()
    engine.process.step()
    disk.failures = {"sync": errno.EIO}
    engine.put(5)
    with pytest.raises(JournalFailed):
        engine.process.step()
    assert (1, errno.EIO) == (engine.board[lines.JOURNAL_SPACE], engine.board[lines.JOURNAL_FAILED])
    after = Engine(disk.after_process_death(), epoch=2, board=engine.board)
    assert (0, 0) == (after.board[lines.JOURNAL_SPACE], after.board[lines.JOURNAL_FAILED])


def test_failed_sync_leaves_its_errno_and_the_durable_cursor_as_it_was():
    engine = Engine(FakeDisk())
    engine.put(5)
    engine.process.step()
    engine.put(5)
    engine.disk.failures["sync"] = errno.EIO
    with pytest.raises(JournalFailed):
        engine.process.step()
    assert errno.EIO == engine.board[lines.JOURNAL_FAILED]
    assert 5 == engine.board[lines.DURABLE_SEQ] == reader_cursor(engine.ring, 0)


def test_delay_comes_before_the_write_and_only_when_there_is_work():
    seen: list[int] = []
    disk = FakeDisk()
    engine = Engine(disk, delay=lambda: seen.append(disk.operations))
    engine.process.step()
    engine.process.step()
    assert [] == seen
    engine.put(1)
    before = disk.operations
    engine.process.step()
    assert [before] == seen
    assert before < disk.operations


def test_process_at_another_seq_than_the_ring_is_refused():
    disk = FakeDisk()
    engine = Engine(disk)
    ring = private_ring(COMMAND_DTYPE, CAPACITY, n_readers=1, start=7, board=engine.board)
    with pytest.raises(AssertionError, match="the ring's reader is at seq 7, the journal at 0"):
        JournalProcess(ring, 0, engine.board, engine.writer)


def test_main_writes_on_where_recovery_left_the_journal(tmp_path, monkeypatch):
    monkeypatch.setattr(instance, "SHARED_MEMORY", tmp_path)
    engine = instance.Engine(segment_bytes=SEGMENT_BYTES_MIN)
    context = Context(str(tmp_path), "test", 3, lines.LINE_JOURNAL, engine, jitter_seed=1)
    context.epoch_dir.mkdir(parents=True)
    result = scan(context.journal_dir)
    save_position(
        context.epoch_dir, start_new_segment_after_recovery(context.journal_dir, result, 3, 1, SEGMENT_BYTES_MIN)
    )
    board = BoardFile.create(context.shared, lines.LINES, os.getpid()).board
    file = RingFile.create(context.command_ring, COMMAND_DTYPE, CAPACITY, COMMAND_SCHEMA, 3, board=board)
    file.take_writer()
    for _ in range(2):
        file.add_reader(True)
    slots = limit_orders(50)
    file.ring.slots[:50] = slots
    publish(file.ring, 50)
    board[lines.STOP] = 1
    assert 0 == main(context)
    assert 50 == board[lines.DURABLE_SEQ]
    assert os.getpid() == board[ready_word(lines.LINE_JOURNAL)]
    assert np.array_equal(as_words(slots), read_all(context.journal_dir))
    assert 3 == scan(context.journal_dir).epoch


def test_warm_changes_nothing_that_lasts():
    warm()


def test_position_comes_back_from_its_file(tmp_path):
    position = WriterPosition(bytes(range(16)), 3, 7, 8192, 1 << 26, 0xFFFFFFFF, 1 << 60, (1 << 62) + 1)
    save_position(tmp_path, position)
    assert position == load_position(tmp_path)


def test_jitter_repeats_with_its_seed(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("persistence.journal.process.time.sleep", waits.append)
    for _ in range(2):
        delay = jitter(9)
        for _ in range(200):
            delay()
    half = len(waits) // 2
    assert half > 20
    assert waits[:half] == waits[half:]
    assert max(waits) < 0.002
