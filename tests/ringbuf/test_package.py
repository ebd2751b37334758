import os
import subprocess
import sys
from pathlib import Path

import pytest

import ringbuf

ROOT = Path(__file__).resolve().parents[2]

PUBLIC = """
ADAPTIVE APP0 ArenaSpec BELL BoardFile Doorbell FIRST_BELL_LINE HEARTBEAT_NS LINE_WORDS LONGEST_SLEEP_NS MAX_READERS
NO_BELL PID Ring RingCapacityError RingEpochError RingError RingExistsError RingFile RingFormatError RingInUseError
RingMissingError RingReaderError RingSchemaError RingSlotSizeError RingSpaceError RingTruncatedError RingVersionError
RingWriterError SAVED_WAKES SLEEPING SLEEPS SPIN STEPS_BUSY STRATEGIES WAKES_RECEIVED YIELD advance alive arena_size
attach_arena bell_word claim claim_line compare_exchange create_arena exchange fence fence_acquire fence_release fetch_add fetch_and
fetch_or futex_wait futex_wake heartbeat idle_wait lag load_acquire load_relaxed min_cursor now_ns pause private_arena
private_board private_ring publish published reader_cursor realtime_ns release_line remove_stale ring_bell room
sched_yield still_valid store_relaxed store_release woke
"""


def test_public_names_are_these() -> None:
    assert sorted(PUBLIC.split()) == sorted(ringbuf.__all__)
    assert {*ringbuf.__all__} <= {*dir(ringbuf)}


@pytest.mark.parametrize("name", PUBLIC.split())
def test_public_name_can_be_imported_and_is_told_about(name: str) -> None:
    value = getattr(ringbuf, name)
    if callable(value):
        assert value.__doc__, name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'ringbuf' has no attribute 'nothing'"):
        _ = ringbuf.nothing


def run_python(program: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_alone_loads_no_numba() -> None:
    assert "False\n" == run_python("import ringbuf, sys; print('numba' in sys.modules)")


PLAIN_PROGRAM = """
import asyncio, pathlib, shutil, tempfile
from tests.ringbuf.loops import SCHEMA_HASH, SLOT, read_all, write_all
from ringbuf import *

directory = pathlib.Path(tempfile.mkdtemp())
with BoardFile.create(directory, FIRST_BELL_LINE + 2) as file:
    board = file.board
    claim_line(board, FIRST_BELL_LINE)
    assert alive(board, FIRST_BELL_LINE)
    with RingFile.create(directory / "ring", SLOT, 4, SCHEMA_HASH, 1, start=3, board=board) as made:
        made.take_writer(FIRST_BELL_LINE)
        made.add_reader(True, FIRST_BELL_LINE + 1)
        follower = made.add_reader(False)
        for until in range(7, 47, 4):
            assert write_all(made.ring, FIRST_BELL_LINE, until, 3, ADAPTIVE) == until
            assert room(made.ring, 1) == 0
            assert read_all(made.ring, 0, 0, FIRST_BELL_LINE + 1, until, ADAPTIVE) == 0
        assert lag(made.ring, follower) == 40
        assert still_valid(made.ring, 43) and not still_valid(made.ring, 39)
        idle = 0
        while not board[FIRST_BELL_LINE * LINE_WORDS + SLEEPS]:
            idle = idle_wait(board, FIRST_BELL_LINE, idle, ADAPTIVE)
        woke(board, FIRST_BELL_LINE, idle)
        assert board[FIRST_BELL_LINE * LINE_WORDS + SAVED_WAKES] == 1

        async def main():
            async with Doorbell(board, FIRST_BELL_LINE + 1, [(made.ring, 0)]) as bell:
                task = asyncio.create_task(bell.wait())
                await asyncio.sleep(0.01)
                publish(made.ring, 44)
                await asyncio.wait_for(task, 10)

        asyncio.run(main())
    del board
shutil.rmtree(directory)
print("all right", type(publish).__name__)
"""


def test_package_works_in_plain_python() -> None:
    assert "all right function\n" == run_python(PLAIN_PROGRAM, NUMBA_DISABLE_JIT="1")
