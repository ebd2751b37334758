import asyncio
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ringbuf import (
    FIRST_BELL_LINE,
    LINE_WORDS,
    SAVED_WAKES,
    SLEEPING,
    SLEEPS,
    WAKES_RECEIVED,
    BoardFile,
    Doorbell,
    Ring,
    RingFile,
    advance,
    fence,
    private_board,
    private_ring,
    publish,
    published,
    reader_cursor,
    ring_bell,
)
from tests.ringbuf.loops import SCHEMA_HASH, SLOT, join_all, spawn

LINE = FIRST_BELL_LINE
BASE = LINE * LINE_WORDS


def make_rings(count: int) -> tuple[np.ndarray, list[Ring]]:
    board = private_board(FIRST_BELL_LINE + 2)
    return board, [private_ring(SLOT, 8, board=board, bell_lines=(LINE,)) for _ in range(count)]


async def until_asleep(board: np.ndarray) -> None:
    deadline = time.monotonic() + 10
    while not board[BASE + SLEEPING]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def waiting(bell: Doorbell) -> asyncio.Task[None]:
    task = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    return task


def test_news_that_is_there_already_returns_at_once_and_lets_others_run() -> None:
    async def main() -> None:
        board, (ring,) = make_rings(1)
        async with Doorbell(board, LINE, [(ring, 0)]) as bell:
            publish(ring, 1)
            assert bell.has_news()
            ran = asyncio.create_task(asyncio.sleep(0))
            await bell.wait()
            await asyncio.sleep(0)
            assert ran.done()
            assert 0 == board[BASE + SLEEPS]

    asyncio.run(main())


@pytest.mark.parametrize("which", [0, 1])
def test_publish_on_any_watched_ring_wakes_the_loop(which: int) -> None:
    async def main() -> None:
        board, rings = make_rings(2)
        async with Doorbell(board, LINE, [(ring, 0) for ring in rings]) as bell:
            for position in range(1, 20):
                task = await waiting(bell)
                await until_asleep(board)
                assert not task.done()
                publish(rings[which], position)
                await asyncio.wait_for(task, 10)
                assert bell.has_news()
                advance(rings[which], 0, position)
            assert 19 <= board[BASE + WAKES_RECEIVED] + board[BASE + SAVED_WAKES]
            assert board[BASE + WAKES_RECEIVED] > 10

    asyncio.run(main())


def test_producer_does_not_ring_while_the_loop_is_at_work() -> None:
    async def main() -> None:
        board, (ring,) = make_rings(1)
        async with Doorbell(board, LINE, [(ring, 0)]) as bell:
            task = await waiting(bell)
            await until_asleep(board)
            publish(ring, 1)
            await task
            rung = int(board[BASE])
            for position in range(2, 9):
                publish(ring, position)
            assert rung == board[BASE]

    asyncio.run(main())


def test_bell_for_another_reason_wakes_the_loop_too() -> None:
    async def main() -> None:
        board, (ring,) = make_rings(1)
        async with Doorbell(board, LINE, [(ring, 0)]) as bell:
            task = await waiting(bell)
            await until_asleep(board)
            fence()
            ring_bell(board, LINE)
            await asyncio.wait_for(task, 10)
            assert not bell.has_news()

    asyncio.run(main())


def test_wait_can_be_cancelled_and_begun_again() -> None:
    async def main() -> None:
        board, (ring,) = make_rings(1)
        async with Doorbell(board, LINE, [(ring, 0)]) as bell:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(bell.wait(), 0.02)
            task = await waiting(bell)
            await until_asleep(board)
            publish(ring, 1)
            await asyncio.wait_for(task, 10)

    asyncio.run(main())


def test_stop_frees_a_task_that_waits_ends_the_thread_and_may_be_repeated() -> None:
    async def main() -> None:
        board, (ring,) = make_rings(1)
        threads = threading.active_count()
        bell = Doorbell(board, LINE, [(ring, 0)]).start()
        task = await waiting(bell)
        await until_asleep(board)
        bell.stop()
        await asyncio.wait_for(task, 10)
        bell.stop()
        assert threads == threading.active_count()
        assert 0 == board[BASE + SLEEPING]

    asyncio.run(main())


def test_stop_ends_a_thread_that_nobody_has_asked_yet() -> None:
    async def main() -> None:
        board, (ring,) = make_rings(1)
        bell = Doorbell(board, LINE, [(ring, 0)]).start()
        began = time.monotonic()
        bell.stop()
        assert time.monotonic() - began < 0.9

    asyncio.run(main())


def test_waiting_costs_next_to_nothing() -> None:
    async def main() -> None:
        board, (ring,) = make_rings(1)
        async with Doorbell(board, LINE, [(ring, 0)]) as bell:
            task = await waiting(bell)
            await asyncio.sleep(0.3)
            before_s = time.process_time()
            await asyncio.sleep(1.0)
            # Polling would take the whole second; a busy machine charges more for the same.
            assert time.process_time() - before_s < 0.1
            task.cancel()

    asyncio.run(main())


def test_messages_of_another_process_all_arrive(tmp_path: Path) -> None:
    until = 2_000
    board = BoardFile.create(tmp_path, FIRST_BELL_LINE + 2).board
    file = RingFile.create(tmp_path / "ring", SLOT, 1 << 11, SCHEMA_HASH, epoch=1, board=board)
    reader = file.add_reader(gating=True, bell_line=LINE)
    publish(file.ring, 0)

    def produce() -> int:
        for position in range(1, until + 1):
            file.ring.slots[(position - 1) & 2047]["seq"] = position
            publish(file.ring, position)
            if position % 50 == 0:
                os.sched_yield()
                time.sleep(0.001)
        return 0

    async def main() -> int:
        total = 0
        async with Doorbell(board, LINE, [(file.ring, reader)]) as bell:
            while reader_cursor(file.ring, reader) < until:
                await asyncio.wait_for(bell.wait(), 10)
                head = published(file.ring)
                for position in range(reader_cursor(file.ring, reader) + 1, head + 1):
                    total += int(file.ring.slots[(position - 1) & 2047]["seq"])
                advance(file.ring, reader, head)
        return total

    process = spawn(produce)
    assert until * (until + 1) // 2 == asyncio.run(main())
    join_all([process])
