import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ringbuf import (
    APP0,
    FIRST_BELL_LINE,
    HEARTBEAT_NS,
    LINE_WORDS,
    PID,
    BoardFile,
    RingExistsError,
    RingFormatError,
    RingInUseError,
    RingMissingError,
    RingTruncatedError,
    RingVersionError,
    alive,
    bell_word,
    claim_line,
    heartbeat,
    private_board,
    release_line,
    remove_stale,
)

LINE = FIRST_BELL_LINE
LINES = FIRST_BELL_LINE + 4


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_board_is_shared_and_zero(tmp_path: Path) -> None:
    with BoardFile.create(tmp_path, LINES) as made, BoardFile.attach(tmp_path) as other:
        assert (LINES * LINE_WORDS,) == made.board.shape == other.board.shape
        assert not made.board.any()
        made.board[5] = 42
        assert 42 == other.board[5]
        assert other.owner_pid == os.getpid()
        assert other.owner_alive()


def test_lines_are_128_bytes_apart_and_do_not_share_cache_lines(tmp_path: Path) -> None:
    with BoardFile.create(tmp_path, LINES) as made:
        assert 0 == made.board.ctypes.data % 128
    assert bell_word(17) == 17 * 16
    assert 128 == LINE_WORDS * 8
    assert APP0 == 8


def test_second_board_in_a_directory_is_refused(tmp_path: Path) -> None:
    BoardFile.create(tmp_path, LINES)
    with pytest.raises(RingExistsError):
        BoardFile.create(tmp_path, LINES)


def test_attach_to_a_wrong_board_says_what_differs(tmp_path: Path) -> None:
    with pytest.raises(RingMissingError):
        BoardFile.attach(tmp_path)
    BoardFile.create(tmp_path, LINES).close()
    path = tmp_path / "board"
    good = path.read_bytes()
    path.write_bytes(good[:8] + b"\x63" + good[9:])
    with pytest.raises(RingVersionError, match="expected 1, found 99"):
        BoardFile.attach(tmp_path)
    path.write_bytes(b"x" * len(good))
    with pytest.raises(RingFormatError, match="not a board"):
        BoardFile.attach(tmp_path)
    path.write_bytes(good[:-1])
    with pytest.raises(RingTruncatedError):
        BoardFile.attach(tmp_path)


def test_close_is_refused_while_the_board_is_held(tmp_path: Path) -> None:
    file = BoardFile.create(tmp_path, LINES)
    held = file.board[:16]
    with pytest.raises(RingInUseError):
        file.close()
    assert 16 == len(held)


def test_owner_of_a_line_is_alive_until_it_lets_go() -> None:
    board = private_board(LINES)
    assert not alive(board, LINE)
    claim_line(board, LINE)
    assert alive(board, LINE)
    assert alive(board, LINE, max_age_ns=60_000_000_000)
    release_line(board, LINE)
    assert not alive(board, LINE)


def test_process_that_ended_is_dead() -> None:
    board = private_board(LINES)
    claim_line(board, LINE, pid=dead_pid())
    assert not alive(board, LINE)


def test_killed_process_is_noticed_before_it_is_reaped() -> None:
    board = private_board(LINES)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        claim_line(board, LINE, pid=process.pid)
        assert alive(board, LINE)
        process.kill()
        deadline = time.monotonic() + 5
        while alive(board, LINE):
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()


def test_process_that_stopped_beating_is_noticed() -> None:
    board = private_board(LINES)
    claim_line(board, LINE)
    board[LINE * LINE_WORDS + HEARTBEAT_NS] -= 2_000_000_000
    assert not alive(board, LINE, max_age_ns=1_000_000_000)
    assert alive(board, LINE)
    heartbeat(board, LINE)
    assert alive(board, LINE, max_age_ns=1_000_000_000)


def test_number_given_to_a_younger_process_is_not_taken_for_the_owner() -> None:
    board = private_board(LINES)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        board[LINE * LINE_WORDS + PID] = process.pid
        board[LINE * LINE_WORDS + HEARTBEAT_NS] = time.monotonic_ns() - 10_000_000_000
        assert not alive(board, LINE)
    finally:
        process.kill()
        process.wait()


def test_line_outside_the_board_cannot_be_claimed() -> None:
    for line in (LINES, FIRST_BELL_LINE - 1, -1):
        with pytest.raises(AssertionError, match="no bell line"):
            claim_line(private_board(LINES), line)


def test_stale_instances_are_removed_and_named_and_others_left(tmp_path: Path) -> None:
    for name in ("app-dead", "app-live", "app-other", "app-empty", "different-dead"):
        (tmp_path / name).mkdir()
    pid = dead_pid()
    BoardFile.create(tmp_path / "app-dead", LINES, owner_pid=pid)
    (tmp_path / "app-dead" / "commands").write_bytes(b"ring")
    BoardFile.create(tmp_path / "different-dead", LINES, owner_pid=pid)
    BoardFile.create(tmp_path / "app-live", LINES)
    (tmp_path / "app-other" / "board").write_bytes(b"y" * 4096)
    (tmp_path / "app-file").write_bytes(b"")
    said = remove_stale(tmp_path, "app-")
    assert [f"removed {tmp_path / 'app-dead'}: its owner, process {pid}, no longer runs"] == said
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert ["app-empty", "app-file", "app-live", "app-other", "different-dead"] == left
    assert [] == remove_stale(tmp_path, "app-")
