import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from ringbuf import (
    ADAPTIVE,
    BELL,
    FIRST_BELL_LINE,
    HEARTBEAT_NS,
    LINE_WORDS,
    SAVED_WAKES,
    SLEEPING,
    SLEEPS,
    SPIN,
    STEPS_BUSY,
    STRATEGIES,
    WAKES_RECEIVED,
    YIELD,
    BoardFile,
    bell_word,
    claim_line,
    fence,
    fetch_add,
    idle_wait,
    load_acquire,
    now_ns,
    private_board,
    ring_bell,
    store_release,
    woke,
)
from tests.ringbuf.loops import STOP, join_all, spawn

LINE = FIRST_BELL_LINE
BASE = LINE * LINE_WORDS


@pytest.fixture
def board() -> np.ndarray:
    board = private_board(FIRST_BELL_LINE + 8)
    claim_line(board, LINE)
    return board


def armed(board: np.ndarray) -> int:
    idle = 0
    for _ in range(1_000):
        idle = idle_wait(board, LINE, idle, ADAPTIVE)
        if board[BASE + SLEEPING]:
            return idle
    raise AssertionError("never armed")


def test_strategies_are_named() -> None:
    assert {"spin": SPIN, "yield": YIELD, "adaptive": ADAPTIVE} == STRATEGIES


@njit(cache=True)
def idle_rounds(board, line, rounds, strategy):
    idle = 0
    for _ in range(rounds):
        idle = idle_wait(board, line, idle, strategy)


@pytest.mark.parametrize("strategy", [SPIN, YIELD])
def test_spin_and_yield_never_sleep_and_beat(board: np.ndarray, strategy: int) -> None:
    board[BASE + HEARTBEAT_NS] = 0
    idle_rounds(board, LINE, 70_000, strategy)
    assert 0 == board[BASE + SLEEPS] == board[BASE + SLEEPING]
    assert board[BASE + HEARTBEAT_NS] > 0


def test_adaptive_says_that_it_sleeps_and_steps_once_more_before_it_does(board: np.ndarray) -> None:
    armed(board)
    assert 1 == board[BASE + SLEEPING]
    assert 0 == board[BASE + SLEEPS]


def test_work_found_when_armed_disarms(board: np.ndarray) -> None:
    woke(board, LINE, armed(board))
    assert 0 == board[BASE + SLEEPING] == board[BASE + SLEEPS] == board[BASE + SAVED_WAKES]


def test_bell_rung_between_arming_and_sleeping_prevents_the_sleep(board: np.ndarray) -> None:
    idle = armed(board)
    ring_bell(board, LINE)
    assert 0 == board[BASE + SLEEPING]
    assert 1 == board[bell_word(LINE)]
    assert 0 == idle_wait(board, LINE, idle, ADAPTIVE)
    assert 0 == board[BASE + SLEEPS]
    assert 1 == board[BASE + WAKES_RECEIVED]


def test_bell_of_one_who_is_awake_is_not_rung(board: np.ndarray) -> None:
    ring_bell(board, LINE)
    ring_bell(board, -1)
    assert 0 == board[bell_word(LINE)]


def test_second_ring_for_one_sleep_costs_nothing(board: np.ndarray) -> None:
    armed(board)
    ring_bell(board, LINE)
    ring_bell(board, LINE)
    assert 1 == board[bell_word(LINE)]


def test_work_found_after_a_timeout_without_a_bell_is_counted(board: np.ndarray) -> None:
    idle = idle_wait(board, LINE, armed(board), ADAPTIVE)
    assert 1 == board[BASE + SLEEPS]
    assert 1 == board[BASE + SLEEPING]
    woke(board, LINE, idle)
    assert 1 == board[BASE + SAVED_WAKES]
    assert 0 == board[BASE + SLEEPING]


def test_ringer_that_died_with_the_flag_in_its_hand_does_not_cost_the_next_bell(board: np.ndarray) -> None:
    idle = armed(board)
    board[BASE + SLEEPING] = 0
    idle = idle_wait(board, LINE, idle, ADAPTIVE)
    assert 1 == board[BASE + SLEEPING]
    ring_bell(board, LINE)
    assert 0 == idle_wait(board, LINE, idle, ADAPTIVE)
    assert 1 == board[BASE + WAKES_RECEIVED]


def sleep_ns(board: np.ndarray, idle: int, **options: int) -> tuple[int, int]:
    began_ns = time.monotonic_ns()
    idle = idle_wait(board, LINE, idle, ADAPTIVE, **options)
    return idle, time.monotonic_ns() - began_ns


def test_sleep_grows_after_many_timeouts_only_and_is_bounded(board: np.ndarray) -> None:
    # Compiles the call with the option before anything is timed.
    idle_wait(board, LINE, 0, ADAPTIVE, longest_sleep_ns=2_000_000)
    idle = armed(board)
    short = []
    for _ in range(64):
        idle, slept_ns = sleep_ns(board, idle)
        short.append(slept_ns)
    assert min(short) >= 900_000
    assert sorted(short)[32] < 4_000_000
    for _ in range(12):
        idle, slept_ns = sleep_ns(board, idle)
    assert slept_ns >= 9_900_000
    idle, slept_ns = sleep_ns(board, idle, longest_sleep_ns=2_000_000)
    assert 1_900_000 <= slept_ns < 9_000_000
    idle = woke(board, LINE, idle)
    assert min(sleep_ns(board, armed(board))[1] for _ in range(3)) < 5_000_000


def test_busy_steps_are_counted_in_batches_and_at_the_next_sleep(board: np.ndarray) -> None:
    board[BASE + HEARTBEAT_NS] = 0
    idle = 0
    for step in range(600):
        idle = woke(board, LINE, idle)
        if step % 3 == 0:
            idle = idle_wait(board, LINE, idle, ADAPTIVE)
    assert 512 == board[BASE + STEPS_BUSY]
    assert board[BASE + HEARTBEAT_NS] > 0
    while not board[BASE + SLEEPING]:
        idle = idle_wait(board, LINE, idle, ADAPTIVE)
    assert 600 == board[BASE + STEPS_BUSY]


@njit(cache=True, nogil=True)
def answer(board, line, inbox, outbox, until, strategy):
    """Whenever the word ``inbox`` grows, store it in ``outbox``, the time after it, and ring the other line."""
    idle = 0
    seen = 0
    while seen < until and load_acquire(board, STOP) == 0:
        value = load_acquire(board, inbox)
        if value == seen:
            idle = idle_wait(board, line, idle, strategy)
            continue
        seen = value
        idle = woke(board, line, idle)
        store_release(board, outbox + 1, now_ns())
        store_release(board, outbox, value)
        fence()
        ring_bell(board, line ^ 1)
    return seen


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[np.ndarray]:
    file = BoardFile.create(tmp_path, FIRST_BELL_LINE + 8)
    yield file.board
    file.board[STOP] = 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_bell_wakes_a_sleeping_process_each_time(shared: np.ndarray, name: str) -> None:
    inbox, outbox = 16, 48
    answer(shared, LINE, inbox, outbox, 0, STRATEGIES[name])
    rounds = 200
    peer = spawn(lambda: answer(shared, LINE, inbox, outbox, rounds, STRATEGIES[name]))
    for value in range(1, rounds + 1):
        store_release(shared, inbox, value)
        fence()
        ring_bell(shared, LINE)
        deadline = time.monotonic() + 10
        while load_acquire(shared, outbox) != value:
            os.sched_yield()
            assert time.monotonic() < deadline, f"no answer to {value}"
        if value % 20 == 0:
            time.sleep(0.002)
    join_all([peer])
    if name == "adaptive":
        assert shared[BASE + WAKES_RECEIVED] > 0


def test_bell_ends_a_long_sleep_at_once(shared: np.ndarray) -> None:
    rounds = 9
    answer(shared, LINE, 16, 48, 0, ADAPTIVE)
    peer = spawn(lambda: answer(shared, LINE, 16, 48, rounds, ADAPTIVE))
    took_ns = []
    for value in range(1, rounds + 1):
        # Long enough for sleeps of 10 ms, of which a lost wake would cost 5 on average.
        time.sleep(0.16)
        store_release(shared, 16, value)
        began_ns = time.monotonic_ns()
        fence()
        ring_bell(shared, LINE)
        # Asleep meanwhile: on a busy machine the woken one may have only this core.
        while load_acquire(shared, 48) != value:
            assert time.monotonic_ns() - began_ns < 10_000_000_000
            time.sleep(0.02)
        took_ns.append(int(load_acquire(shared, 49)) - began_ns)
    join_all([peer])
    assert sorted(took_ns)[rounds // 2] < 2_000_000, took_ns


def test_ping_pong_of_two_sleepers_misses_no_wake(shared: np.ndarray) -> None:
    rounds = 3_000
    answer(shared, LINE, 16, 48, 0, ADAPTIVE)
    ping_pong(shared, LINE + 1, 16, 48, 0)
    peer = spawn(lambda: answer(shared, LINE, 16, 48, rounds, ADAPTIVE))
    assert ping_pong(shared, LINE + 1, 16, 48, rounds) == rounds
    join_all([peer])
    saved = shared[BASE + SAVED_WAKES] + shared[BASE + LINE_WORDS + SAVED_WAKES]
    assert saved <= rounds // 100, f"{saved} of {rounds} wakes came by time-out only"


@njit(cache=True, nogil=True)
def ping_pong(board, line, outbox, inbox, rounds):
    idle = 0
    for value in range(1, rounds + 1):
        store_release(board, outbox, value)
        fence()
        ring_bell(board, line ^ 1)
        while load_acquire(board, inbox) != value:
            # Skips the rounds of pause and yield and arms at once: the hard case.
            if idle == 0:
                idle = 1_000
            idle = idle_wait(board, line, idle, ADAPTIVE)
        woke(board, line, idle)
        idle = 0
    return rounds


@njit(cache=True, nogil=True)
def idle_until_stopped(board, line):
    idle = 0
    while load_acquire(board, STOP) == 0:
        idle = idle_wait(board, line, idle, ADAPTIVE)
    return 0


def test_an_idle_process_wakes_less_and_less_often(shared: np.ndarray) -> None:
    store_release(shared, STOP, 1)
    idle_until_stopped(shared, LINE)
    store_release(shared, STOP, 0)
    processes = [spawn(lambda line=LINE + index: idle_until_stopped(shared, line)) for index in range(8)]  # type: ignore[misc]
    time.sleep(0.4)
    words = [(LINE + index) * LINE_WORDS + SLEEPS for index in range(8)]
    before = [int(shared[word]) for word in words]
    time.sleep(1.2)
    # Some 30 on a quiet machine; on a busy one it may still be in the first 64 short sleeps. At 1 ms each it were 1,200.
    woken = [int(shared[word]) - count for word, count in zip(words, before, strict=True)]
    assert all(shared[(LINE + index) * LINE_WORDS + SLEEPING] for index in range(8))
    store_release(shared, STOP, 1)
    fence()
    for index in range(8):
        ring_bell(shared, LINE + index)
    join_all(processes)
    assert all(0 < count < 150 for count in woken), woken


def test_bells_rung_by_several_threads_are_all_seen(board: np.ndarray) -> None:
    inbox, outbox = 16, 48
    answer(board, LINE, inbox, outbox, 0, ADAPTIVE)
    answering = threading.Thread(target=answer, args=(board, LINE, inbox, outbox, 3_000, ADAPTIVE))
    answering.start()

    def add_and_ring() -> None:
        for _ in range(1_000):
            fetch_add(board, inbox, 1)
            fence()
            ring_bell(board, LINE)

    ringers = [threading.Thread(target=add_and_ring) for _ in range(3)]
    for ringer in ringers:
        ringer.start()
    for ringer in ringers:
        ringer.join()
    answering.join(10)
    board[STOP] = 1
    assert 3_000 == board[outbox]
    assert board[BASE + BELL] <= 3_000
