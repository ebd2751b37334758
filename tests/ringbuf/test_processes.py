"""One writer and several readers as processes of their own, every word of every slot checked."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ringbuf import (
    ADAPTIVE,
    FIRST_BELL_LINE,
    STRATEGIES,
    BoardFile,
    Ring,
    RingFile,
    alive,
    claim_line,
    lag,
    load_acquire,
    private_board,
    private_ring,
    publish,
    published,
    reader_cursor,
    room,
)
from tests.ringbuf.loops import SCHEMA_HASH, SLOT, STOP, follow_all, join_all, read_all, spawn, write_all

LINE = FIRST_BELL_LINE
RESULTS = 32  # words on the application's lines


@pytest.fixture
def board(tmp_path: Path) -> Iterator[np.ndarray]:
    file = BoardFile.create(tmp_path, FIRST_BELL_LINE + 8)
    yield file.board
    file.board[STOP] = 1


@pytest.fixture(autouse=True, scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile the loops once, so that the forked processes have them."""
    with RingFile.create(tmp_path_factory.mktemp("warm") / "ring", SLOT, 2, SCHEMA_HASH, epoch=1) as file:
        write_all(file.ring, 0, 0, 1, ADAPTIVE)
        read_all(file.ring, 0, 0, 0, 0, ADAPTIVE)
        follow_all(file.ring, 0, np.zeros(1, SLOT), np.zeros(3, np.int64))


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_slot_arrives_whole_and_in_order(tmp_path: Path, board: np.ndarray, name: str, readers: int) -> None:
    until = {1: 100_000, 3: 8_000}[readers]
    strategy = STRATEGIES[name]
    file = RingFile.create(tmp_path / "ring", SLOT, 256, SCHEMA_HASH, epoch=1, board=board)
    file.take_writer(bell_line=LINE)
    for reader in range(readers):
        # The third stays behind the other two, as settling stays behind what it settles.
        behind = (0, 1) if reader == 2 else ()
        assert reader == file.add_reader(gating=True, bell_line=LINE + 1 + reader, follows=behind)
    ring = file.ring
    processes = [spawn(lambda: write_all(ring, LINE, until, 7, strategy), board, RESULTS)]
    for reader in range(readers):
        mask = 0b11 if reader == 2 else 0
        processes.append(
            spawn(
                lambda r=reader, m=mask: read_all(ring, r, m, LINE + 1 + r, until, strategy),  # type: ignore[misc]
                board,
                RESULTS + 1 + reader,
            )
        )
    join_all(processes)
    assert until == board[RESULTS]
    assert [0] * readers == board[RESULTS + 1 : RESULTS + 1 + readers].tolist()
    assert [0] * readers == [lag(ring, reader) for reader in range(readers)]


@pytest.mark.parametrize("capacity", [1, 2, 4])
def test_tiny_ring_that_is_always_full_loses_nothing(tmp_path: Path, board: np.ndarray, capacity: int) -> None:
    until = 3_000
    file = RingFile.create(tmp_path / "ring", SLOT, capacity, SCHEMA_HASH, epoch=1, board=board)
    file.take_writer(bell_line=LINE)
    file.add_reader(gating=True, bell_line=LINE + 1)
    ring = file.ring
    processes = [
        spawn(lambda: write_all(ring, LINE, until, 3, ADAPTIVE), board, RESULTS),
        spawn(lambda: read_all(ring, 0, 0, LINE + 1, until, ADAPTIVE), board, RESULTS + 1),
    ]
    join_all(processes)
    assert [until, 0] == board[RESULTS : RESULTS + 2].tolist()


def test_reader_that_does_not_gate_notices_when_it_was_lapped(tmp_path: Path, board: np.ndarray) -> None:
    until = 400_000
    file = RingFile.create(tmp_path / "ring", SLOT, 16, SCHEMA_HASH, epoch=1, board=board)
    file.take_writer()
    ring = file.ring
    counts = board[RESULTS : RESULTS + 3]
    follower = spawn(lambda: follow_all(ring, until, np.zeros(1, SLOT), counts))
    writer = spawn(lambda: write_all(ring, LINE, until, 4, ADAPTIVE))
    join_all([follower, writer])
    valid, broken, lapped = counts.tolist()
    assert broken == 0
    assert valid > 0
    assert lapped > 0, "the writer never overtook the reader: the test shows nothing"


def test_crashed_writer_is_noticed_and_a_successor_goes_on(tmp_path: Path, board: np.ndarray) -> None:
    file = RingFile.create(tmp_path / "ring", SLOT, 64, SCHEMA_HASH, epoch=1, board=board)
    reader = file.add_reader(gating=True, bell_line=LINE + 1)
    ring = file.ring

    def write_for_ever() -> int:
        claim_line(board, LINE)
        file.take_writer(bell_line=LINE)
        return int(write_all(ring, LINE, 1 << 40, 8, ADAPTIVE))

    writer = spawn(write_for_ever)
    wait_until(lambda: published(ring) == 64)
    assert file.writer_alive()
    assert alive(board, LINE, max_age_ns=5_000_000_000)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    wait_until(lambda: not file.writer_alive())
    assert not alive(board, LINE)
    writer.join()
    file.take_writer(bell_line=LINE)
    successor = spawn(lambda: write_all(ring, LINE, 1_000, 8, ADAPTIVE))
    assert read_all(ring, reader, 0, LINE + 1, 1_000, ADAPTIVE) == 0
    join_all([successor])


def test_crashed_reader_is_noticed_and_once_dropped_the_writer_goes_on(tmp_path: Path, board: np.ndarray) -> None:
    file = RingFile.create(tmp_path / "ring", SLOT, 64, SCHEMA_HASH, epoch=1, board=board)
    file.take_writer(bell_line=LINE)
    reader = file.add_reader(gating=True, bell_line=LINE + 1)
    ring = file.ring

    def read_for_ever() -> int:
        claim_line(board, LINE + 1)
        file.adopt_reader(reader)
        return int(read_all(ring, reader, 0, LINE + 1, 1 << 40, ADAPTIVE))

    process = spawn(read_for_ever)
    writer = spawn(lambda: write_all(ring, LINE, 1 << 40, 8, ADAPTIVE))
    wait_until(lambda: reader_cursor(ring, reader) > 500)
    assert [] == file.dead_readers()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: file.dead_readers() == [reader])
    assert not alive(board, LINE + 1)
    process.join()
    stuck = reader_cursor(ring, reader) + 64
    wait_until(lambda: published(ring) == stuck)
    file.drop_reader(reader)
    wait_until(lambda: published(ring) > stuck + 200)
    board[STOP] = 1
    join_all([writer])


def test_gating_reader_that_joins_a_ring_in_use_is_never_overwritten(tmp_path: Path, board: np.ndarray) -> None:
    file = RingFile.create(tmp_path / "ring", SLOT, 16, SCHEMA_HASH, epoch=1, board=board)
    file.take_writer()
    ring = file.ring
    writer = spawn(lambda: write_all(ring, LINE, 1 << 40, 3, ADAPTIVE))
    for _ in range(200):
        reader = file.add_reader(gating=True)
        first = reader_cursor(ring, reader)
        assert read_all(ring, reader, 0, LINE + 1, first + 40, ADAPTIVE) == 0
        file.drop_reader(reader)
    board[STOP] = 1
    join_all([writer])


def wait_until(condition, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def test_loops_are_right_on_private_memory_too() -> None:
    ring: Ring = private_ring(SLOT, 64, board=private_board(FIRST_BELL_LINE + 2))
    for until in range(64, 640, 64):
        assert write_all(ring, LINE, until, 5, ADAPTIVE) == until
        assert room(ring, 1) == 0
        assert read_all(ring, 0, 0, LINE + 1, until, ADAPTIVE) == 0
    publish(ring, published(ring))
    assert 0 == load_acquire(ring.board, STOP)
