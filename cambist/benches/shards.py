"""A shard of the matcher on private memory, fed by its rings as in the exchange: what the benches of the matcher drive."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cambist.benches.rows import BenchFailedError
from matcher.events import join_events
from matcher.hashes import books_hash
from matcher.kernel import make_stage, step
from matcher.process import shard_spec, shard_state
from matcher.state import APPLIED_SEQ, EVENT_HASH, MatcherState, reset
from matcher.state import make_state as make_tuple
from persistence.fused import pass_unread
from protocol import enums as e
from protocol.instance import Engine, Limits
from protocol.records import COMMAND_DTYPE, EVENT_DTYPE, VERDICT_DTYPE
from ringbuf.arena import private_arena
from ringbuf.bundle import Bundle
from ringbuf.ring import Ring, advance, private_ring, publish, published, reader_cursor
from ringbuf.steps import Step, Steps

STEP_SLOTS = 1 << 9
"""Slots that the kernel takes at once, as in the fused engine."""
EVENT_SLOTS = 1 << 12


class Shard(NamedTuple):
    """A fresh shard and its rings."""

    arrays: MatcherState
    state: Bundle
    commands: Ring
    verdicts: Ring
    events: Ring
    stage: Bundle
    steps: Steps
    """Kernel and reader of events in turn."""


class Results(NamedTuple):
    """What a run gave: hashes of all events and of the books."""

    events_hash: int
    books_hash: int


def fresh(limits: Limits, slots: int, event_slots: int = EVENT_SLOTS) -> Shard:
    """An empty shard; its rings of commands and verdicts hold ``slots``, a power of two."""
    arrays = private_arena(shard_spec(Engine(limits=limits)))
    commands = private_ring(COMMAND_DTYPE, slots)
    verdicts = private_ring(VERDICT_DTYPE, slots)
    events = private_ring(EVENT_DTYPE, event_slots)
    state = shard_state(arrays)
    stage = make_stage(state, commands, verdicts, events, 0, 0)
    steps = Steps(Step(step, stage, STEP_SLOTS), Step(pass_unread, Bundle(ring=events), STEP_SLOTS))
    shard = Shard(make_tuple(arrays), state, commands, verdicts, events, stage, steps)
    reset(shard.arrays)
    join_events(shard.state, events)
    return shard


def put(shard: Shard, slots: np.ndarray) -> int:
    """Lay commands (COMMAND_DTYPE[n], numbered here) into their ring, with verdicts that nobody sees yet; the last one's seq.

    The kernel looks ahead in the commands as far as there are verdicts.
    """
    first = int(published(shard.commands))
    last = first + len(slots)
    assert last - int(reader_cursor(shard.commands, 0)) <= len(shard.commands.slots), "the ring holds what is put"
    at = np.arange(first, last) & (len(shard.commands.slots) - 1)
    numbers = np.arange(first + 1, last + 1)
    shard.commands.slots[at] = slots
    shard.commands.slots["seq"][at] = numbers
    # Everything is accepted as it stands; holds are risk's, and mean nothing to a book.
    shard.verdicts.slots["seq"][at] = numbers
    for name in ("price_ticks", "qty_lots"):
        shard.verdicts.slots[name][at] = slots[name]
    shard.verdicts.slots["code"][at] = e.VERDICT_OK
    publish(shard.commands, last)
    return last


def drive(shard: Shard, until: int) -> None:
    """Turn kernel and reader of events, in the compiled loop of the exchange's processes, until slot ``until`` is done."""
    publish(shard.verdicts, until)
    shard.steps.until(shard.arrays.meta, APPLIED_SEQ, until)
    _assert_done(shard, until)


def events_of(shard: Shard, until: int) -> np.ndarray:
    """Do all slots up to ``until``; copies of their events."""
    taken = [shard.events.slots[:0]]
    publish(shard.verdicts, until)
    while step(shard.stage, STEP_SLOTS):
        done, last = int(reader_cursor(shard.events, 0)), int(published(shard.events))
        taken.append(shard.events.slots[np.arange(done, last) & (len(shard.events.slots) - 1)])
        advance(shard.events, 0, last)
    _assert_done(shard, until)
    return np.concatenate(taken)


def feed(shard: Shard, slots: np.ndarray) -> None:
    """Put and drive any number of commands, a ring of them at a time."""
    size = len(shard.commands.slots)
    for begin in range(0, len(slots), size):
        drive(shard, put(shard, slots[begin : begin + size]))


def timed(shard: Shard, slots: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Do commands in stretches of ``sizes`` (int64[n], their sum is ``len(slots)``); int64[n] nanoseconds of each.

    The events of a stretch fit into the ring. The reading of the clock is in the times, the passing of events is not.
    """
    spans_ns = np.zeros(len(sizes), dtype=np.int64)
    ends = np.cumsum(sizes)
    begin = done = 0
    while begin < len(sizes):
        end = max(begin + 1, int(np.searchsorted(ends, done + len(shard.commands.slots), side="right")))
        last = put(shard, slots[done : ends[end - 1]])
        publish(shard.verdicts, last)
        shard.steps.timed(sizes[begin:end], spans_ns[begin:end])
        _assert_done(shard, last)
        begin, done = end, int(ends[end - 1])
    return spans_ns


def results(shard: Shard) -> Results:
    """Hashes of what it said and of its books."""
    return Results(int(shard.arrays.meta[EVENT_HASH]), int(books_hash(shard.state)))


def listing(instrument: int, multiplier: int = 1, lot_atoms: int = 1) -> np.ndarray:
    """COMMAND_DTYPE[1] that lists an instrument."""
    slots = np.zeros(1, dtype=COMMAND_DTYPE)
    slots["type"], slots["instrument"] = e.LIST_INSTRUMENT, instrument
    slots["price_ticks"], slots["qty_lots"] = multiplier, lot_atoms
    return slots


def _assert_done(shard: Shard, until: int) -> None:
    if reader_cursor(shard.verdicts, 0) < until:
        raise BenchFailedError(f"the matcher stands still after slot {reader_cursor(shard.verdicts, 0)}")
