"""What recovery lets a second core do: read and decode the journal ahead of the replay, and write the new segment meanwhile."""

from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
import numpy as np

from persistence.children import fork_beside
from persistence.journal.layout import BATCH_BYTES_MAX
from persistence.journal.reader import JournalReader
from persistence.journal.store import JournalStore
from persistence.journal.writer import WriterPosition
from protocol.codec import SLOT_WORDS, as_words
from protocol.records import COMMAND_DTYPE
from ringbuf.atomics import load_acquire, store_release

ENOUGH_SLOTS: Final = 4096
_RECORD_BYTES_MIN: Final = 16
_CELL_SLOTS: Final = ENOUGH_SLOTS + BATCH_BYTES_MAX // _RECORD_BYTES_MIN
_CELLS: Final = 4
_HEAD_WORDS: Final = 64
_WRITTEN: Final = 0
_READ: Final = 16
_COUNTS: Final = 32
_NAP_S: Final = 0.00005


def gathered(batches: Iterable[np.ndarray], enough: int = ENOUGH_SLOTS) -> Iterator[np.ndarray]:
    """The slots of many small batches in arrays of ``enough`` or more, for each array that is fed has a price of its own."""
    parts: list[np.ndarray] = []
    count = 0
    for slots in batches:
        parts.append(slots)
        count += len(slots)
        if count >= enough:
            yield _joined(parts)
            parts, count = [], 0
    if parts:
        yield _joined(parts)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts in one array; as words, for a copy of records goes field by field."""
    if len(parts) == 1:
        return parts[0]
    words = np.concatenate([as_words(part) for part in parts])
    return words.view(COMMAND_DTYPE).reshape(len(words))


def read_beside(journal: JournalStore, from_seq: int, to_seq: int) -> Iterator[np.ndarray]:
    """As ``gathered`` of a ``JournalReader``, with a fork of this process that reads ahead; an array is good until the next one.

    Where the fork fails, this process reads on itself, and so raises what is wrong with the journal.
    """
    memory = mmap.mmap(-1, 8 * (_HEAD_WORDS + _CELLS * _CELL_SLOTS * SLOT_WORDS))
    words = np.frombuffer(memory, dtype=np.int64)
    head, cells = words[:_HEAD_WORDS], words[_HEAD_WORDS:].reshape(_CELLS, _CELL_SLOTS, SLOT_WORDS)
    pid = fork_beside("cb:read-ahead", lambda: _read_ahead(journal, from_seq, to_seq, head, cells), nice=0)
    try:
        done = 0
        next_seq = from_seq
        while next_seq <= to_seq:
            if int(load_acquire(head, _WRITTEN)) == done:
                if (
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    and load_acquire(head, _WRITTEN) == done
                ):
                    break
                time.sleep(_NAP_S)
                continue
            count = int(head[_COUNTS + done % _CELLS])
            yield cells[done % _CELLS, :count].view(COMMAND_DTYPE).reshape(count)
            next_seq += count
            done += 1
            store_release(head, _READ, done)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if next_seq <= to_seq:
        yield from gathered(JournalReader(journal, next_seq, to_seq))


def _read_ahead(journal: JournalStore, from_seq: int, to_seq: int, head: np.ndarray, cells: np.ndarray) -> int:
    for done, slots in enumerate(gathered(JournalReader(journal, from_seq, to_seq))):
        while done - int(load_acquire(head, _READ)) >= _CELLS:
            time.sleep(_NAP_S)
        cells[done % _CELLS, : len(slots)] = as_words(np.ascontiguousarray(slots))
        head[_COUNTS + done % _CELLS] = len(slots)
        store_release(head, _WRITTEN, done + 1)
    return 0


def begin_segment(work: Callable[[], WriterPosition]) -> Callable[[], WriterPosition]:
    """Have ``work`` done by a fork of this process; calling what is returned waits for it and gives its result.

    ``work`` must be such that it can be done again: where the fork fails, this process does it, and so raises what is wrong.
    """
    reader, writer = os.pipe()

    def child() -> int:
        os.write(writer, msgspec.json.encode(work()))
        return 0

    pid = fork_beside("cb:segment", child, nice=0)
    os.close(writer)

    def join() -> WriterPosition:
        with open(reader, "rb") as answer:  # noqa: PTH123 - a descriptor, not a path
            said = answer.read()
        _, status = os.waitpid(pid, 0)
        return msgspec.json.decode(said, type=WriterPosition) if status == 0 else work()

    return join
