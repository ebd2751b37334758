"""Messages per second through one ring between two processes, against the same ring in C in the same run.

Slots have 128 bytes; the writer fills all 16 words of each, the reader checks all of them. Three ways of waiting are
measured: ``spin`` without bells, where publishing has no fence; ``yield`` likewise; and ``adaptive`` with bells, as
the engine runs, where each publish passes a fence and looks whether the reader sleeps.
"""

import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ringbuf.kernel_cache import configure

configure()

import numpy as np  # noqa: E402
from numba import njit  # noqa: E402

from ringbuf import (  # noqa: E402
    ADAPTIVE,
    FIRST_BELL_LINE,
    NO_BELL,
    STRATEGIES,
    BoardFile,
    Ring,
    RingFile,
    advance,
    idle_wait,
    load_acquire,
    publish,
    published,
    reader_cursor,
    room,
    store_release,
    woke,
)

SLOT = np.dtype([("seq", "i8"), ("payload", "i8", (15,))])
CAPACITY = 4096
PUBLISH_EVERY = (1, 8, 64)
WRITER_LINE = FIRST_BELL_LINE
READER_LINE = FIRST_BELL_LINE + 1
READY = 0
BROKEN = 16
_MIX = np.int64(0x2545F4914F6CDD1D)
_PEER = Path(__file__).parent / "peers" / "ring_limit.c"


@njit(cache=True, nogil=True)
def write_messages(ring, line, until, batch, strategy):
    """Write and publish positions up to ``until`` in batches."""
    head = published(ring)
    mask = ring.slots.shape[0] - 1
    idle = 0
    while head < until:
        wanted = min(batch, until - head)
        if room(ring, wanted) < wanted:
            idle = idle_wait(ring.board, line, idle, strategy)
            continue
        for position in range(head + 1, head + wanted + 1):
            slot = ring.slots[(position - 1) & mask]
            slot["seq"] = position
            payload = slot["payload"]
            for word in range(15):
                payload[word] = position * _MIX + word + 1
        head += wanted
        publish(ring, head)
        if idle:
            idle = woke(ring.board, line, idle)


@njit(cache=True, nogil=True)
def read_messages(ring, line, until, strategy):
    """Check positions up to ``until``; gives the number of broken slots."""
    cursor = reader_cursor(ring, 0)
    mask = ring.slots.shape[0] - 1
    broken = 0
    idle = 0
    while cursor < until:
        head = published(ring)
        if head == cursor:
            idle = idle_wait(ring.board, line, idle, strategy)
            continue
        for position in range(cursor + 1, head + 1):
            slot = ring.slots[(position - 1) & mask]
            difference = slot["seq"] ^ position
            payload = slot["payload"]
            for word in range(15):
                difference |= payload[word] ^ (position * _MIX + word + 1)
            if difference != 0:
                broken += 1
        cursor = head
        advance(ring, 0, cursor)
        idle = woke(ring.board, line, idle)
    return broken


def run(messages: int = 2_000_000, runs: int = 5) -> dict[str, Any]:
    """Measure ``messages`` messages ``runs`` times in each case.

    Returns
    -------
    dict
        ``results``: one row a case, named ``<strategy>_publish_<n>``, with median, min and max of ``messages_per_s``,
        the median CPU seconds of both processes, and as ``limit`` the median of the C ring measured in turn with it
        (absent without gcc).

    Raises RuntimeError if a slot did not arrive whole.
    """
    with tempfile.TemporaryDirectory(prefix="ring-bench-") as name:
        # Memory, not a disk: a file under /dev/shm where there is one.
        shared = Path("/dev/shm")  # noqa: S108
        memory = tempfile.mkdtemp(prefix="ring-bench-", dir=shared if shared.is_dir() else name)
        try:
            peer = _build_peer(Path(name))
            return {"results": _measure_all(Path(memory), peer, messages, runs)}
        finally:
            shutil.rmtree(memory, ignore_errors=True)


def _measure_all(directory: Path, peer: Path | None, messages: int, runs: int) -> list[dict[str, Any]]:
    _measure(directory, ADAPTIVE, 1, 10_000)
    results = []
    for batch in PUBLISH_EVERY:
        rates: dict[str, list[float]] = {strategy: [] for strategy in STRATEGIES}
        cpu_s: dict[str, list[float]] = {strategy: [] for strategy in STRATEGIES}
        limits = []
        for _ in range(runs):
            if peer is not None:
                limits.append(_measure_peer(peer, batch, messages))
            for strategy, code in STRATEGIES.items():
                took_s, used_s = _measure(directory, code, batch, messages)
                rates[strategy].append(messages / took_s)
                cpu_s[strategy].append(used_s)
        for strategy in STRATEGIES:
            row: dict[str, Any] = {
                "bench": "ring",
                "case": f"{strategy}_publish_{batch}",
                "metric": "messages_per_s",
                "unit": "1/s",
                "median": statistics.median(rates[strategy]),
                "min": min(rates[strategy]),
                "max": max(rates[strategy]),
                "runs": runs,
                "cpu_median": statistics.median(cpu_s[strategy]),
            }
            if limits:
                row["limit"] = {
                    "what": f"the same ring in C, both sides spin, publish every {batch}",
                    "value": statistics.median(limits),
                }
            results.append(row)
    return results


def _cpus() -> tuple[int, int]:
    """CPUs of the writer and the reader; -1 where there are not two."""
    cpus = sorted(os.sched_getaffinity(0))
    return (cpus[0], cpus[1]) if len(cpus) > 1 else (-1, -1)


def _measure(directory: Path, strategy: int, batch: int, messages: int) -> tuple[float, float]:
    """Seconds and CPU seconds for ``messages`` messages from this process to a forked one."""
    board_file = BoardFile.create(directory, FIRST_BELL_LINE + 2)
    board = board_file.board
    bells = strategy == ADAPTIVE
    file = RingFile.create(directory / "ring", SLOT, CAPACITY, 0, epoch=1, board=board)
    file.take_writer(WRITER_LINE if bells else NO_BELL)
    file.add_reader(True, READER_LINE if bells else NO_BELL)
    ring = file.ring
    writer_cpu, reader_cpu = _cpus()
    allowed = os.sched_getaffinity(0)
    # Compiled here, so that the fork has it.
    write_messages(ring, WRITER_LINE, 0, batch, strategy)
    read_messages(ring, READER_LINE, 0, strategy)
    # Both sides touch every page before the clock runs.
    ring.slots["seq"] = 0
    process = multiprocessing.get_context("fork").Process(
        target=_read, args=(ring, messages, strategy, reader_cpu), daemon=True
    )
    process.start()
    try:
        if writer_cpu >= 0:
            os.sched_setaffinity(0, {writer_cpu})
        while not load_acquire(board, READY):
            time.sleep(0.001)
        began_cpu_s = time.process_time()
        began_ns = time.perf_counter_ns()
        write_messages(ring, WRITER_LINE, messages, batch, strategy)
        while reader_cursor(ring, 0) < messages:
            if not process.is_alive():
                raise RuntimeError("bench ring: the reader died")
        took_s = (time.perf_counter_ns() - began_ns) / 1e9
        used_s = time.process_time() - began_cpu_s
        process.join()
        if board[BROKEN]:
            raise RuntimeError(f"bench ring: {board[BROKEN]} of {messages} slots did not arrive whole")
        used_s += board[BROKEN + 1] / 1e9
    finally:
        os.sched_setaffinity(0, allowed)
        if process.is_alive():
            process.kill()
        process.join()
        file.unlink()
        board_file.path.unlink()
    return took_s, used_s


def _read(ring: Ring, messages: int, strategy: int, cpu: int) -> None:
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
    # A fork inherits no page tables of shared memory: touch the slots.
    assert not ring.slots["seq"].any()
    began_cpu_ns = time.process_time_ns()
    store_release(ring.board, READY, 1)
    broken = read_messages(ring, READER_LINE, messages, strategy)
    ring.board[BROKEN] = broken
    ring.board[BROKEN + 1] = time.process_time_ns() - began_cpu_ns
    os._exit(0)


def _build_peer(directory: Path) -> Path | None:
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    program = directory / "ring_limit"
    subprocess.run([compiler, "-O3", "-march=native", "-o", str(program), str(_PEER)], check=True)
    return program


def _measure_peer(program: Path, batch: int, messages: int) -> float:
    arguments = [str(messages), str(batch), str(CAPACITY), *(str(cpu) for cpu in _cpus())]
    done = subprocess.run([str(program), *arguments], check=True, capture_output=True, text=True, timeout=120)
    took_ns, broken = (int(word) for word in done.stdout.split())
    if broken:
        raise RuntimeError(f"bench ring: {broken} of {messages} slots did not arrive whole in the C ring")
    return messages * 1e9 / took_ns


if __name__ == "__main__":
    for result in run()["results"]:
        rate, low, high = (result[key] / 1e6 for key in ("median", "min", "max"))
        line = f"{result['case']:22} {rate:6.1f} M/s ({low:.1f}-{high:.1f})"
        if "limit" in result:
            limit = result["limit"]["value"] / 1e6
            line += f"   in C {limit:.1f} M/s: {rate / limit:.0%}"
        print(line)
