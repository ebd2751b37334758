from pathlib import Path

import pytest

from cambist import boardview, views
from cambist.boardview import BoardView, RingView
from protocol import board as words
from protocol.records import EVENT_DTYPE, EVENT_SCHEMA
from ringbuf import board, ring
from ringbuf.board import BoardFile
from ringbuf.file import RingFile


def test_words_of_a_board_are_those_that_ringbuf_writes(tmp_path: Path) -> None:
    file = BoardFile.create(tmp_path, words.LINES)
    file.board[words.DURABLE_SEQ] = 1 << 40
    file.board[words.LINES * words.LINE_WORDS - 1] = -7
    with BoardView(tmp_path / "board") as view:
        assert (1 << 40, -7) == (view[words.DURABLE_SEQ], view[words.LINES * words.LINE_WORDS - 1])
    file.close()


def test_cursors_of_a_ring_are_those_that_ringbuf_writes(tmp_path: Path) -> None:
    file = RingFile.create(tmp_path / "ring", EVENT_DTYPE, 8, EVENT_SCHEMA, 1, 100)
    file.add_reader(True, reader=3)
    ring.publish(file.ring, 105)
    ring.advance(file.ring, 3, 102)
    with RingView(tmp_path / "ring") as view:
        assert (105, 102) == (view.published, view.cursor(3))
    file.close()


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "board").write_bytes(bytes(64))
    with pytest.raises(OSError, match="not a file of this kind"):
        BoardView(tmp_path / "board")


def test_numbers_that_stand_twice_are_equal() -> None:
    assert (board.HEARTBEAT_NS, board.SLEEPS, board.SAVED_WAKES) == (
        views._HEARTBEAT_NS,
        views._SLEEPS,
        views._SAVED_WAKES,
    )
    assert (ring.CAPACITY, ring.PUBLISHED, ring.FIRST_READER, ring.READER_WORDS) == (
        boardview.RING_CAPACITY,
        boardview.RING_PUBLISHED,
        boardview.RING_FIRST_READER,
        boardview.RING_READER_WORDS,
    )
