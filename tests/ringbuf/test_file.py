import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import pytest

from ringbuf import (
    FIRST_BELL_LINE,
    NO_BELL,
    RingCapacityError,
    RingEpochError,
    RingError,
    RingExistsError,
    RingFile,
    RingFormatError,
    RingInUseError,
    RingMissingError,
    RingReaderError,
    RingSchemaError,
    RingSlotSizeError,
    RingSpaceError,
    RingTruncatedError,
    RingVersionError,
    RingWriterError,
    advance,
    claim,
    lag,
    private_board,
    private_ring,
    publish,
    published,
    reader_cursor,
    room,
    still_valid,
)
from ringbuf import ring as layout
from tests.ringbuf.loops import SCHEMA_HASH, SLOT

CAPACITY = 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "commands"


@pytest.fixture
def made(path: Path) -> RingFile:
    return RingFile.create(path, SLOT, CAPACITY, SCHEMA_HASH, epoch=3)


def patch_word(path: Path, word: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(word * 8)
        file.write(np.int64(value).tobytes())


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_two_maps_of_one_file_see_the_same_ring(path: Path, made: RingFile) -> None:
    made.take_writer()
    reader = made.add_reader(gating=True)
    with RingFile.attach(path, SLOT, SCHEMA_HASH, epoch=3) as other:
        made.ring.slots[0]["seq"] = 77
        publish(made.ring, 1)
        assert published(other.ring) == 1
        assert other.ring.slots[0]["seq"] == 77
        advance(other.ring, reader, 1)
    assert room(made.ring, CAPACITY) == CAPACITY


def test_file_is_reserved_in_full_and_leaves_no_other_name(path: Path, made: RingFile) -> None:
    status = path.stat()
    assert status.st_size == layout.HEADER_WORDS * 8 + CAPACITY * SLOT.itemsize
    assert status.st_blocks * 512 >= status.st_size
    assert [path.name] == [entry.name for entry in path.parent.iterdir()]


def test_epoch_and_start_are_kept(path: Path) -> None:
    with RingFile.create(path, SLOT, CAPACITY, SCHEMA_HASH, epoch=9, start=500) as made:
        assert made.epoch == 9
        assert published(made.ring) == 500
        assert reader_cursor(made.ring, made.add_reader(gating=True)) == 500


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda path: patch_word(path, layout.MAGIC, 1), RingFormatError, "not a ring"),
        (lambda path: patch_word(path, layout.VERSION, 99), RingVersionError, "expected 1, found 99"),
        (lambda path: patch_word(path, layout.SLOT_SIZE, 64), RingSlotSizeError, "expected 128 bytes, found 64"),
        (lambda path: patch_word(path, layout.CAPACITY, 17), RingCapacityError, "found 17"),
        (lambda path: patch_word(path, layout.CAPACITY, -16), RingCapacityError, "found -16"),
        (lambda path: patch_word(path, layout.SCHEMA_HASH, 5), RingSchemaError, "found 0x0000000000000005"),
        (lambda path: patch_word(path, layout.EPOCH, 4), RingEpochError, "expected 3, found 4"),
        (lambda path: os.truncate(path, 100), RingTruncatedError, "at least 8192 bytes, found 100"),
        (lambda path: os.truncate(path, 9000), RingTruncatedError, "expected 10240 bytes, found 9000"),
        (Path.unlink, RingMissingError, "start its owner"),
    ],
)
def test_attach_to_a_wrong_file_says_what_differs(
    path: Path, made: RingFile, damage: Callable[[Path], object], error: type[RingError], says: str
) -> None:
    made.close()
    damage(path)
    with pytest.raises(error, match=says) as caught:
        RingFile.attach(path, SLOT, SCHEMA_HASH, epoch=3, capacity=CAPACITY)
    assert str(path) in str(caught.value)
    assert caught.value.advice


def test_attach_with_another_capacity_is_refused(path: Path, made: RingFile) -> None:
    with pytest.raises(RingCapacityError, match="expected 32, found 16"):
        RingFile.attach(path, SLOT, SCHEMA_HASH, capacity=32)


def test_create_over_an_existing_file_is_refused_and_leaves_it(path: Path, made: RingFile) -> None:
    publish(made.ring, 1)
    with pytest.raises(RingExistsError):
        RingFile.create(path, SLOT, CAPACITY, SCHEMA_HASH, epoch=4)
    assert published(made.ring) == 1


@pytest.mark.parametrize("capacity", [0, 6, -8])
def test_create_with_a_capacity_that_is_no_power_of_two_is_refused(path: Path, capacity: int) -> None:
    with pytest.raises(RingCapacityError, match="power of two"):
        RingFile.create(path, SLOT, capacity, SCHEMA_HASH, epoch=1)


@pytest.mark.parametrize("dtype", [np.dtype("i4"), np.dtype([("a", "O")])])
def test_create_with_a_record_that_cannot_be_shared_is_refused(path: Path, dtype: np.dtype) -> None:
    with pytest.raises(RingSlotSizeError):
        RingFile.create(path, dtype, CAPACITY, SCHEMA_HASH, epoch=1)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm on this machine")
def test_full_file_system_is_an_error_at_creation_that_leaves_nothing() -> None:
    path = Path(f"/dev/shm/ringbuf-test-{os.getpid()}")
    status = os.statvfs("/dev/shm")
    if status.f_blocks == 0:
        pytest.skip("/dev/shm has no limit on this machine")
    capacity = 1 << (status.f_blocks * status.f_frsize // SLOT.itemsize).bit_length()
    with pytest.raises(RingSpaceError, match="no room"):
        RingFile.create(path, SLOT, capacity, SCHEMA_HASH, epoch=1)
    assert [] == list(Path("/dev/shm").glob(f"*{path.name}*"))


def test_rings_on_file_and_on_private_memory_are_of_one_type_for_kernels(made: RingFile) -> None:
    assert numba.typeof(made.ring) == numba.typeof(private_ring(SLOT, 4))


def test_close_is_refused_while_a_view_is_held(made: RingFile) -> None:
    held = made.ring.slots[2:4]
    with pytest.raises(RingInUseError, match="drop those arrays"):
        made.close()
    assert len(held) == 2


def test_unlinked_ring_serves_those_who_mapped_it(path: Path, made: RingFile) -> None:
    made.unlink()
    assert not path.exists()
    publish(made.ring, 1)
    assert published(made.ring) == 1


def test_reader_joins_after_what_is_published(made: RingFile) -> None:
    publish(made.ring, 5)
    assert reader_cursor(made.ring, made.add_reader(gating=True)) == 5


def test_reader_may_join_at_a_position_that_is_still_there(made: RingFile) -> None:
    publish(made.ring, 20)
    reader = made.add_reader(gating=False, at=4)
    assert lag(made.ring, reader) == 16
    for outside in (3, 21):
        with pytest.raises(RingReaderError, match="4 to 20"):
            made.add_reader(gating=False, at=outside)


def test_seventeenth_reader_is_refused(made: RingFile) -> None:
    assert list(range(16)) == [made.add_reader(gating=True) for _ in range(16)]
    with pytest.raises(RingReaderError, match="drop readers"):
        made.add_reader(gating=True)
    made.drop_reader(7)
    assert made.add_reader(gating=True) == 7


def test_reader_index_can_be_chosen_once(made: RingFile) -> None:
    assert made.add_reader(gating=True, reader=5) == 5
    with pytest.raises(RingReaderError, match="index 5"):
        made.add_reader(gating=True, reader=5)
    with pytest.raises(RingReaderError):
        made.add_reader(gating=True, reader=16)
    assert [5] == made.readers()


def test_bell_line_outside_the_board_is_refused(made: RingFile) -> None:
    with pytest.raises(RingReaderError, match="no such bell line"):
        made.add_reader(gating=True, bell_line=40)
    with pytest.raises(RingReaderError, match="no such bell line"):
        made.take_writer(bell_line=-2)


def test_dropped_reader_no_longer_holds_the_writer(made: RingFile) -> None:
    reader = made.add_reader(gating=True)
    publish(made.ring, CAPACITY)
    assert room(made.ring, 1) == 0
    made.drop_reader(reader)
    assert room(made.ring, 1) == CAPACITY


def test_reader_is_adopted_at_its_cursor(path: Path, made: RingFile) -> None:
    reader = made.add_reader(gating=True, pid=dead_pid())
    publish(made.ring, 6)
    advance(made.ring, reader, 2)
    assert [reader] == made.dead_readers()
    made.adopt_reader(reader, bell_line=NO_BELL)
    assert [] == made.dead_readers()
    assert lag(made.ring, reader) == 4
    with pytest.raises(RingReaderError, match="adopt"):
        made.adopt_reader(3)


def test_writer_that_runs_keeps_the_ring_and_a_dead_one_does_not(made: RingFile) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        made.take_writer(pid=other.pid)
        assert made.writer_alive()
        with pytest.raises(RingWriterError, match=f"process {other.pid}"):
            made.take_writer()
        other.kill()
        # Not reaped yet: a zombie is dead.
        deadline = time.monotonic() + 5
        while made.writer_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert not made.writer_alive()
    finally:
        other.kill()
        other.wait()
    made.take_writer()
    made.take_writer()
    assert made.writer_alive()


def test_number_of_a_dead_writer_given_to_another_process_is_not_taken_for_it(made: RingFile) -> None:
    made.take_writer()
    made.ring.words[layout.WRITER_START_TICKS] -= 1
    assert not made.writer_alive()


def test_successor_goes_on_after_what_was_published_and_half_written_slots_stay_invalid(made: RingFile) -> None:
    made.take_writer(pid=dead_pid())
    claim(made.ring, CAPACITY)
    publish(made.ring, CAPACITY)
    claim(made.ring, CAPACITY + 3)
    made.take_writer()
    assert published(made.ring) == CAPACITY
    claim(made.ring, CAPACITY + 1)
    assert [False, False, False, True] == [still_valid(made.ring, position) for position in range(1, 5)]


def test_advance_rings_followers_that_sleep(path: Path) -> None:
    board = private_board(FIRST_BELL_LINE + 2)
    with RingFile.create(path, SLOT, CAPACITY, SCHEMA_HASH, epoch=1, board=board) as made:
        first = made.add_reader(gating=True)
        made.add_reader(gating=True, bell_line=FIRST_BELL_LINE, follows=(first,))
        board[FIRST_BELL_LINE * 16 + 1] = 1
        made.ring.words[layout.BELL_MASK] &= ~1
        advance(made.ring, first, 0)
        assert 1 == board[FIRST_BELL_LINE * 16]
        assert 0 == board[FIRST_BELL_LINE * 16 + 1]
