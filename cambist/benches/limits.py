"""What the machine allows, measured in turn with what is compared with it."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from cambist.benches.kernels import PING_WORDS, answer_pings, answer_wakes, send_pings, send_wakes
from cambist.benches.rows import BenchFailedError
from persistence.journal import DirectoryStore
from persistence.journal.layout import BATCH_BYTES_MAX, BLOCK_BYTES

_FILE_BYTES: Final = 16 << 20
_JOIN_S: Final = 10.0


class BareFile:
    """A file that is zero-filled ahead as a journal segment is, to be written and synced block by block."""

    def __init__(self, folder: Path) -> None:
        store = DirectoryStore(folder)
        store.create("bare", _FILE_BYTES)
        self._file = store.open("bare")
        self._buffer = memoryview(np.full(BATCH_BYTES_MAX, 0xA5, dtype=np.uint8).data)
        self._offset = 0

    def write(self, size_bytes: int) -> int:
        """Write so many bytes, in whole blocks, and sync; ns that it took."""
        whole = min(BATCH_BYTES_MAX, -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES)
        if self._offset + whole > _FILE_BYTES:
            self._offset = 0
        began_ns = time.perf_counter_ns()
        self._file.write(self._offset, self._buffer[:whole])
        self._file.sync()
        took_ns = time.perf_counter_ns() - began_ns
        self._offset += whole
        return took_ns

    def close(self) -> None:
        """Close it; its folder is the caller's."""
        self._file.close()


def ping_pong_ns(count: int) -> np.ndarray:
    """Round trips of a cache line between this process and a forked one, each pinned to a CPU of its own.

    int64[count], ns. Raises BenchFailedError where the other process ends early.
    """
    return _to_and_fro(send_pings, answer_pings, count)


def wake_ns(count: int) -> np.ndarray:
    """Times for waking a process that sleeps on a futex, on a CPU of its own: half of there and back, both sleeping.

    int64[count], ns. Raises BenchFailedError where the other process ends early.
    """
    return _to_and_fro(send_wakes, answer_wakes, count) // 2


def _to_and_fro(
    send: Callable[[np.ndarray, np.ndarray], None], answer: Callable[[np.ndarray, int], None], count: int
) -> np.ndarray:
    memory = mmap.mmap(-1, PING_WORDS * 8)
    words = np.frombuffer(memory, dtype=np.int64)
    out_ns = np.zeros(count, dtype=np.int64)
    # Compiled here, so that the fork has it.
    send(words, out_ns[:0])
    answer(words, 0)
    allowed = os.sched_getaffinity(0)
    cpus = sorted(allowed)
    arguments = answer, words, count, cpus[-1]
    other = multiprocessing.get_context("fork").Process(target=_answer, args=arguments, daemon=True)
    other.start()
    try:
        os.sched_setaffinity(0, {cpus[0]})
        send(words, out_ns)
        other.join(_JOIN_S)
    finally:
        os.sched_setaffinity(0, allowed)
        if other.is_alive():
            other.kill()
        other.join()
    if other.exitcode:
        raise BenchFailedError(f"the process that answers ended with {other.exitcode}")
    return out_ns


def _answer(answer: Callable[[np.ndarray, int], None], words: np.ndarray, count: int, cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    answer(words, count)
    os._exit(0)
