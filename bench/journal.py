"""Durable slots per second of the journal against the same writes and syncs without one, and its rates without a disk.

Each case writes plain limit orders from a private command ring through ``JournalProcess``; ``gathered`` is how many
slots lie there when a batch begins. The limit of a case is bare pwrite and fdatasync of the same sizes at the same
offsets of a file that was zero-filled in the same way; after each batch of the journal comes one of the bare file, so
that both see the same disk, however it changes. ``encode``, ``decode``, ``read`` and ``scan`` touch no disk but the
page cache. Not measured: other processes on the same cores, and a disk under load.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ringbuf.kernel_cache import configure

configure()

import numpy as np  # noqa: E402

from persistence.journal import (  # noqa: E402
    SEGMENT_BYTES,
    DirectoryStore,
    JournalProcess,
    JournalReader,
    JournalWriter,
    scan,
    start_new_segment_after_recovery,
)
from persistence.journal.layout import BATCH_BYTES_MAX, BLOCK_BYTES  # noqa: E402
from persistence.journal.process import warm  # noqa: E402
from protocol import board as lines  # noqa: E402
from protocol.codec import as_words, decode, encode_span  # noqa: E402
from protocol.records import COMMAND_DTYPE, command_slots  # noqa: E402
from ringbuf.board import private_board  # noqa: E402
from ringbuf.ring import Ring, private_ring, publish  # noqa: E402

RING_SLOTS: Final = 1 << 13
GATHERED: Final = (1, 60, 500, 4000)
_TS_NS: Final = 1_700_000_000_000_000_000
_CODEC_SLOTS: Final = 4000
_READ_SLOTS: Final = 800_000


def run(seconds: float = 1.0, runs: int = 3, directory: Path | str | None = None) -> dict[str, Any]:
    """Measure each case ``runs`` times, for about ``seconds`` in all.

    It works in a new folder under ``directory``, by default the working one, whose disk is what is measured.

    Returns
    -------
    dict
        ``results``: one row a case with median, min and max of ``slots_per_s`` and the median CPU seconds.
        ``durable_<n>`` rows have the median time of a batch, ``batch_us``, and as ``limit`` the same for bare writes
        and syncs.

    Raises RuntimeError if what was written does not read back.
    """
    warm()
    base = Path.cwd() if directory is None else Path(directory)
    with tempfile.TemporaryDirectory(prefix="journal-bench-", dir=base) as name:
        folder = Path(name)
        results = [_durable(folder / f"case-{n}", n, seconds / runs, runs) for n in GATHERED]
        results += _without_disk(folder / "read", runs)
    return {"results": results}


def _durable(folder: Path, gathered: int, seconds: float, runs: int) -> dict[str, Any]:
    rates, limits, batch_us, limit_us, cpu_s = [], [], [], [], []
    for number in range(runs):
        times, bare_times, used_s = _measure(folder / str(number), gathered, seconds)
        cpu_s.append(used_s)
        rates.append(gathered * len(times) / sum(times))
        limits.append(gathered * len(times) / sum(bare_times))
        batch_us.append(statistics.median(times) * 1e6)
        limit_us.append(statistics.median(bare_times) * 1e6)
    row = _row(f"durable_{gathered}", rates, cpu_s)
    row["batch_us"] = round(statistics.median(batch_us), 1)
    row["limit"] = {
        "what": "bare pwrite and fdatasync of the same sizes, in turn with it",
        "value": statistics.median(limits),
        "batch_us": round(statistics.median(limit_us), 1),
    }
    return row


def _measure(folder: Path, gathered: int, seconds: float) -> tuple[list[float], list[float], float]:
    """Seconds of each turn: the journal makes durable what has gathered, the bare file writes and syncs as much.

    Last the CPU seconds of the journal's turns.
    """
    store = DirectoryStore(folder)
    position = start_new_segment_after_recovery(store, scan(store), 1, 1, SEGMENT_BYTES)
    writer = JournalWriter(store, position, SEGMENT_BYTES)
    board = private_board(lines.LINES)
    ring = private_ring(COMMAND_DTYPE, RING_SLOTS, board=board)
    _fill(ring)
    process = JournalProcess(ring, 0, board, writer, (lines.LINE_SEQUENCER, lines.LINE_CONTROL))
    # The file of the second segment is made before the clock runs; those after it are part of what is measured.
    while not writer.next_is_ready:
        process.step()
    bare = _BareFile(folder.with_name("bare"))
    times, bare_times = [], []
    used_s = 0.0
    seq = 0
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        _stamp(ring, seq, gathered)
        seq += gathered
        publish(ring, seq)
        before_bytes = writer.written_bytes
        start_cpu_s = time.process_time()
        start_s = time.perf_counter()
        while writer.last_seq < seq:
            process.step()
        times.append(time.perf_counter() - start_s)
        used_s += time.process_time() - start_cpu_s
        bare_times.append(bare.write(writer.written_bytes - before_bytes))
    bare.close()
    writer.close()
    found = sum(len(slots) for slots in JournalReader(store))
    if found != seq:
        raise RuntimeError(f"bench journal: {found} of {seq} slots read back")
    return times, bare_times, used_s


class _BareFile:
    """Writes and syncs one behind the other in zero-filled files of a segment's size."""

    def __init__(self, folder: Path) -> None:
        self._store = DirectoryStore(folder)
        self._buffer = memoryview(np.full(2 * BATCH_BYTES_MAX, 0xA5, dtype=np.uint8).data)
        self._start()

    def _start(self) -> None:
        self._store.create("bare", SEGMENT_BYTES)
        self._file = self._store.open("bare")
        self._offset = BLOCK_BYTES

    def write(self, size_bytes: int) -> float:
        """Write ``size_bytes``, sync; the seconds it took."""
        if self._offset + size_bytes > SEGMENT_BYTES:
            self._file.close()
            self._start()
        start_s = time.perf_counter()
        self._file.write(self._offset, self._buffer[:size_bytes])
        self._file.sync()
        took_s = time.perf_counter() - start_s
        self._offset += size_bytes
        return took_s

    def close(self) -> None:
        self._file.close()
        self._store.remove("bare")


def _without_disk(folder: Path, runs: int) -> list[dict[str, Any]]:
    ring = private_ring(COMMAND_DTYPE, RING_SLOTS)
    _fill(ring)
    _stamp(ring, 0, _CODEC_SLOTS)
    words = as_words(ring.slots)
    out = np.zeros(16 * _CODEC_SLOTS, dtype=np.int64)
    back = np.zeros((_CODEC_SLOTS, 16), dtype=np.int64)
    slots, size_bytes, _ = encode_span(words, 0, RING_SLOTS - 1, _CODEC_SLOTS, 1, out, 0)
    if slots != decode(out, size_bytes, back, 1, 0) or not np.array_equal(words[:slots], back):
        raise RuntimeError("bench journal: the codec does not give back what it took")

    def encode() -> int:
        return int(encode_span(words, 0, RING_SLOTS - 1, _CODEC_SLOTS, 1, out, 0)[0])

    rows = [
        _rate("encode", runs, encode, 200),
        _rate("decode", runs, lambda: int(decode(out, size_bytes, back, 1, 0)), 200),
    ]
    _write(folder, ring, _READ_SLOTS)
    rows.append(_rate("read", runs, lambda: sum(len(part) for part in JournalReader(folder)), 1))
    rows.append(_rate("scan", runs, lambda: scan(folder).last_seq, 1))
    return rows


def _write(folder: Path, ring: Ring, slots: int) -> None:
    store = DirectoryStore(folder)
    writer = JournalWriter(store, start_new_segment_after_recovery(store, scan(store), 1, 1, SEGMENT_BYTES))
    words = as_words(ring.slots)
    while writer.last_seq < slots:
        _stamp(ring, writer.last_seq, _CODEC_SLOTS)
        available_seq = writer.last_seq + _CODEC_SLOTS
        while writer.last_seq < available_seq:
            writer.maintain(time.monotonic_ns())
            writer.write(words, RING_SLOTS - 1, available_seq)
    writer.close()


def _rate(case: str, runs: int, call: Callable[[], int], times: int) -> dict[str, Any]:
    rates, cpu_s = [], []
    for _ in range(runs):
        start_cpu_s = time.process_time()
        start_s = time.perf_counter()
        slots = sum(call() for _ in range(times))
        rates.append(slots / (time.perf_counter() - start_s))
        cpu_s.append(time.process_time() - start_cpu_s)
    return _row(case, rates, cpu_s)


def _row(case: str, rates: list[float], cpu_s: list[float]) -> dict[str, Any]:
    return {
        "bench": "journal",
        "case": case,
        "metric": "slots_per_s",
        "unit": "1/s",
        "median": statistics.median(rates),
        "min": min(rates),
        "max": max(rates),
        "runs": len(rates),
        "cpu_median": statistics.median(cpu_s),
    }


def _fill(ring: Ring) -> None:
    """Plain limit orders of one gateway in all slots; ``_stamp`` gives them their numbers."""
    slots = command_slots(RING_SLOTS)
    slots["type"] = 1
    slots["account"] = 7
    slots["instrument"] = 2
    slots["price_ticks"] = 6_500_000
    slots["qty_lots"] = 150
    slots["source"] = 8
    ring.slots[:] = slots


def _stamp(ring: Ring, seq: int, count: int) -> None:
    numbers = np.arange(seq + 1, seq + count + 1)
    rows = (numbers - 1) & (RING_SLOTS - 1)
    ring.slots["seq"][rows] = numbers
    ring.slots["ts_ns"][rows] = _TS_NS + 1000 * numbers
    ring.slots["source_seq"][rows] = numbers
    ring.slots["order_id"][rows] = (8 << 40) | numbers
    ring.slots["entry_ts_ns"][rows] = _TS_NS + 1000 * numbers - 500


if __name__ == "__main__":
    for result in run()["results"]:
        rate, low, high = (result[key] / 1e3 for key in ("median", "min", "max"))
        line = f"{result['case']:14} {rate:9.1f} k/s ({low:.1f}-{high:.1f})"
        if "limit" in result:
            limit = result["limit"]
            line += f"   batch {result['batch_us']:.0f} us; bare {limit['value'] / 1e3:.1f} k/s,"
            line += f" batch {limit['batch_us']:.0f} us"
            line += f": {result['median'] / limit['value']:.0%}"
        print(line)
