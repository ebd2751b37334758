"""Several processes count in one table at once: nothing is lost, nothing passes a limit, and who is killed locks nobody out."""

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gateway.rates import table
from gateway.rates.limiter import ALLOWED, Limiter
from gateway.rates.rules import COUNT_MAX, DAY_S, RateLimits, Window
from gateway.rates.subjects import of_address
from ringbuf import create_arena
from ringbuf.errors import RingError
from tests.rates.support import MIDNIGHT_MS, MS
from tests.ringbuf.loops import join_all, spawn

WORKERS = 4
ACCOUNTS = range(1, 21)
UNLIMITED = RateLimits(rows=256, account_orders=(Window(DAY_S, COUNT_MAX), Window(3600, COUNT_MAX)))


def limiter_of(folder: Path, settings: RateLimits) -> Limiter:
    """A limiter over the folder's table, which is made at first; its clock stands, so that no window ends in the middle."""
    path = folder / table.FILE_NAME
    if not path.exists():
        table.create(path, settings.rows)
    limiter = Limiter(table.attach(path, settings), settings, lambda: MIDNIGHT_MS * MS)
    # The kernels are there before processes are forked.
    limiter.count_order(1 << 30)
    limiter.give_back(1 << 30, 1)
    return limiter


def words_in(folder: Path) -> np.ndarray:
    """int64[64] that processes share."""
    return create_arena(folder / "words", (("words", np.int64, 64),), 1)["words"]


def in_processes(work: Callable[[], int], found: np.ndarray) -> None:
    """Do ``work`` in each of the processes; what each gives is in ``found``."""
    join_all([spawn(work, found, worker) for worker in range(WORKERS)])


def test_processes_that_count_at_once_lose_nothing(tmp_path: Path) -> None:
    limiter, found = limiter_of(tmp_path, UNLIMITED), words_in(tmp_path)

    def work() -> int:
        # At first all of them claim the same rows, too.
        for at in range(20_000):
            limiter.count_order(ACCOUNTS[at % len(ACCOUNTS)], 2)
            limiter.give_back(ACCOUNTS[at % len(ACCOUNTS)], 1)
        return 1

    in_processes(work, found)
    assert WORKERS == found.sum()
    counts = [limiter.count_order(account, 0).counts[:2] for account in ACCOUNTS]
    assert [[WORKERS * 20_000 // len(ACCOUNTS)] * 2] * len(ACCOUNTS) == counts
    assert len(ACCOUNTS) + 1 == limiter.status()["rows_used"]


def test_processes_together_are_allowed_as_much_as_the_limit_and_not_one_more(tmp_path: Path) -> None:
    settings = RateLimits(
        rows=256, ip_weight=(Window(DAY_S, 40_000),), ip_requests=(Window(300, 30_000),), ban_after=COUNT_MAX
    )
    limiter, found = limiter_of(tmp_path, settings), words_in(tmp_path)
    address = of_address("203.0.113.7")

    def work() -> int:
        return sum(limiter.check_request(address, weight=1).code == ALLOWED for _ in range(20_000))

    in_processes(work, found)
    assert 30_000 == found.sum()
    # Weight is counted before the shorter window refuses, and taken back.
    told = {rule.counter.name: count for rule, count in limiter.used(limiter.check_request(address, weight=0), address)}
    assert {"ip_weight": 30_000, "ip_requests": 30_000, "ip_connections": 0} == told


def test_processes_that_are_killed_while_they_count_lose_no_acknowledged_count_and_lock_nobody_out(
    tmp_path: Path,
) -> None:
    limiter, found = limiter_of(tmp_path, UNLIMITED), words_in(tmp_path)

    def count(worker: int) -> int:
        while True:
            limiter.count_order(7)
            found[worker] += 1

    for round_ in range(5):
        processes = [spawn(lambda worker=worker: count(worker)) for worker in range(WORKERS)]  # type: ignore[misc]
        began_s = time.monotonic()
        target = found[:WORKERS] + 200 * (1 + round_)
        while (found[:WORKERS] < target).any():
            assert time.monotonic() - began_s < 60
        for process in processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    said, counted = int(found.sum()), limiter.count_order(7, 0).counts[0]
    # At most one each of those that were killed was counted and not told.
    assert said <= counted <= said + 5 * WORKERS
    assert ALLOWED == limiter.count_order(7).code


def test_table_is_the_owners_alone_and_fits_its_settings_only(tmp_path: Path) -> None:
    limiter_of(tmp_path, UNLIMITED)
    assert 0o600 == stat.S_IMODE((tmp_path / table.FILE_NAME).stat().st_mode)
    with pytest.raises(RingError, match="arrays of another definition"):
        table.attach(tmp_path / table.FILE_NAME, RateLimits(rows=512))
