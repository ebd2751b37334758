"""Shared-memory rings, atomics, waiting, doorbells and arenas. Knows nothing of trading; all public names are here.

The names are loaded at first use: ``ringbuf.kernel_cache`` must be importable, and run, before numba is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringbuf.arena import ArenaSpec, arena_size, attach_arena, create_arena, private_arena
    from ringbuf.atomics import (
        compare_exchange,
        exchange,
        fence,
        fence_acquire,
        fence_release,
        fetch_add,
        fetch_and,
        fetch_or,
        futex_wait,
        futex_wake,
        load_acquire,
        load_relaxed,
        now_ns,
        pause,
        realtime_ns,
        sched_yield,
        store_relaxed,
        store_release,
    )
    from ringbuf.board import (
        APP0,
        BELL,
        FIRST_BELL_LINE,
        HEARTBEAT_NS,
        LINE_WORDS,
        NO_BELL,
        PID,
        SAVED_WAKES,
        SLEEPING,
        SLEEPS,
        STEPS_BUSY,
        WAKES_RECEIVED,
        BoardFile,
        alive,
        bell_word,
        claim_line,
        heartbeat,
        private_board,
        release_line,
        remove_stale,
        ring_bell,
    )
    from ringbuf.doorbell import Doorbell
    from ringbuf.errors import (
        RingCapacityError,
        RingEpochError,
        RingError,
        RingExistsError,
        RingFormatError,
        RingInUseError,
        RingMissingError,
        RingReaderError,
        RingSchemaError,
        RingSlotSizeError,
        RingSpaceError,
        RingTruncatedError,
        RingVersionError,
        RingWriterError,
    )
    from ringbuf.file import RingFile
    from ringbuf.ring import (
        MAX_READERS,
        Ring,
        advance,
        claim,
        lag,
        min_cursor,
        private_ring,
        publish,
        published,
        reader_cursor,
        room,
        still_valid,
    )
    from ringbuf.waiting import ADAPTIVE, LONGEST_SLEEP_NS, SPIN, STRATEGIES, YIELD, idle_wait, woke

__all__ = [
    "ADAPTIVE",
    "APP0",
    "BELL",
    "FIRST_BELL_LINE",
    "HEARTBEAT_NS",
    "LINE_WORDS",
    "LONGEST_SLEEP_NS",
    "MAX_READERS",
    "NO_BELL",
    "PID",
    "SAVED_WAKES",
    "SLEEPING",
    "SLEEPS",
    "SPIN",
    "STEPS_BUSY",
    "STRATEGIES",
    "WAKES_RECEIVED",
    "YIELD",
    "ArenaSpec",
    "BoardFile",
    "Doorbell",
    "Ring",
    "RingCapacityError",
    "RingEpochError",
    "RingError",
    "RingExistsError",
    "RingFile",
    "RingFormatError",
    "RingInUseError",
    "RingMissingError",
    "RingReaderError",
    "RingSchemaError",
    "RingSlotSizeError",
    "RingSpaceError",
    "RingTruncatedError",
    "RingVersionError",
    "RingWriterError",
    "advance",
    "alive",
    "arena_size",
    "attach_arena",
    "bell_word",
    "claim",
    "claim_line",
    "compare_exchange",
    "create_arena",
    "exchange",
    "fence",
    "fence_acquire",
    "fence_release",
    "fetch_add",
    "fetch_and",
    "fetch_or",
    "futex_wait",
    "futex_wake",
    "heartbeat",
    "idle_wait",
    "lag",
    "load_acquire",
    "load_relaxed",
    "min_cursor",
    "now_ns",
    "pause",
    "private_arena",
    "private_board",
    "private_ring",
    "publish",
    "published",
    "reader_cursor",
    "realtime_ns",
    "release_line",
    "remove_stale",
    "ring_bell",
    "room",
    "sched_yield",
    "still_valid",
    "store_relaxed",
    "store_release",
    "woke",
]

_MODULES = ("errors", "atomics", "board", "waiting", "ring", "file", "arena", "doorbell")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module_name in _MODULES:
            module = importlib.import_module(f"{__name__}.{module_name}")
            if name in module.__all__:
                value = getattr(module, name)
                globals()[name] = value
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
