"""Merging, stamping, timers. The sequencer knows when, not what: it refuses nothing and looks at no more than type and flags.

A producer's slot at position p of its ingress ring is its command number p; positions up to the recovered number of the source are
skipped, so that each is sequenced once. Timers are rows (period, phase, next boundary) that SET_TIMER commands set; row 0 asks for
CHECKPOINT, the others for TICK. A boundary is sequenced before the first command whose time is not below it, with its own time.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol import board as b
from protocol import enums as e
from protocol.jit import entry, inner
from protocol.readers import INGRESS_SEQUENCER
from protocol.records import SLOT_BYTES, VERSION
from ringbuf.atomics import load_acquire, store_release
from ringbuf.bundle import Bundle, bundle_at
from ringbuf.ring import Ring, advance, publish, published, room
from sequencer import clock as ck
from sequencer.depth import METER_WORDS, measure

SEQ: Final = 0  # last seq stamped
TS_NS: Final = 1  # last time stamped
META_WORDS: Final = 16

SOURCE: Final = 0  # of a lane
WAITING_START: Final = 1
WAITING_END: Final = 2
LANE_WORDS: Final = 16

_FREED_SEQ: Final = 0  # durable cursor up to which ingress slots were given back
_FIRST_LANE: Final = 1  # with which the next step begins
_FULL: Final = 2  # 1 while the command ring was full and has not much room again
_TURN_WORDS: Final = 4
_ROOM_SHIFT: Final = 3
"""A full command ring is filled again when an eighth of it is free: slot by slot, each would wake everybody for itself."""

PERIOD_NS: Final = 0
PHASE_NS: Final = 1
NEXT_NS: Final = 2
TIMER_WORDS: Final = 4

CHECKPOINT_TIMER: Final = 0
TICK_TIMER: Final = 1
EXPIRY_TIMER: Final = 2
PERIOD_MIN_NS: Final = 1_000_000

_SLOT_WORDS: Final = SLOT_BYTES // 8
_NEVER: Final = (1 << 63) - 1


def state_spec(timers: int) -> list[tuple[str, np.dtype, tuple[int, ...]]]:
    """Arrays of the sequencer: ``meta``; ``sources``, the last number of each producer; ``timers``."""
    i8 = np.dtype("<i8")
    return [("meta", i8, (META_WORDS,)), ("sources", i8, (e.SOURCES_MAX,)), ("timers", i8, (timers, TIMER_WORDS))]


def make_state(arrays: dict[str, np.ndarray]) -> Bundle:
    """The sequencer's state over arrays that exist already."""
    return Bundle(**arrays)


def make_lane(source: int, ring: Ring) -> Bundle:
    """One producer's ingress ring: what has been sequenced of it, and what of that is not durable and so not free yet.

    ``waiting``: int64[capacity, 2], seq and number of the last slot of each part taken.
    """
    meta = np.zeros(LANE_WORDS, dtype=np.int64)
    meta[SOURCE] = source
    return Bundle(ring=ring, words=words_of(ring), meta=meta, waiting=np.zeros((len(ring.slots), 2), dtype=np.int64))


def make_stage(state: Bundle, commands: Ring, lanes: list[Bundle], board: np.ndarray, clock: np.ndarray) -> Bundle:
    """What a step works on: ``clock`` from ``sequencer.clock.make_clock``, lanes of ``make_lane`` (at least one), which must stay alive."""
    return Bundle(
        state=state,
        commands=commands,
        command_words=words_of(commands),
        lane=lanes[0],
        lanes=np.array([lane.address for lane in lanes], dtype=np.int64),
        board=board,
        clock=clock,
        turns=np.zeros(_TURN_WORDS, dtype=np.int64),
        meter=np.zeros(METER_WORDS, dtype=np.int64),
    )


def words_of(ring: Ring) -> np.ndarray:
    """The slots of a ring of commands as int64[capacity, 16]."""
    return ring.slots.view(np.int64).reshape(-1, _SLOT_WORDS)


@inner
def group_length(slots, position):
    """Number of slots of the group whose head stands at ``position``; groups are published whole."""
    mask = slots.shape[0] - 1
    length = 1
    while (slots[(position + length - 2) & mask]["flags"] & e.FLAG_MORE) != 0:
        assert length < e.GROUP_SLOTS_MAX
        length += 1
    return length


@inner
def batch_length(slots, position, end):
    """Number of slots of the batch that begins at ``position``: of one command, where it is not linked with the next.

    Batches are published whole. One that is not, or has more slots than a group may have, is divided where it must be,
    between two commands.
    """
    mask = slots.shape[0] - 1
    length = group_length(slots, position)
    while (slots[(position + length - 2) & mask]["flags"] & e.FLAG_BATCH) != 0 and position + length <= end:
        following = group_length(slots, position + length)
        if length + following > e.GROUP_SLOTS_MAX:
            break
        length += following
    return length


@inner
def set_timer(state, command, ts_ns):
    """Apply SET_TIMER as risk accepts it: period 0 stops the timer, otherwise the first boundary lies after ``ts_ns``."""
    row = command["timer"]
    period = command["price_ticks"]
    if row < 0 or row >= state.timers.shape[0] or (period != 0 and period < PERIOD_MIN_NS):
        return
    phase = command["qty_lots"]
    state.timers[row, PERIOD_NS] = period
    state.timers[row, PHASE_NS] = phase
    state.timers[row, NEXT_NS] = 0 if period == 0 else phase + ((ts_ns - phase) // period + 1) * period


@inner
def first_timer(state):
    """(row, boundary) of the timer that is due first; row -1 where no timer runs."""
    best = -1
    boundary = _NEVER
    for row in range(state.timers.shape[0]):
        due = state.timers[row, NEXT_NS]
        if state.timers[row, PERIOD_NS] > 0 and due < boundary:
            best = row
            boundary = due
    return best, boundary


@inner
def stamp_timer(state, commands, command_words, row, boundary):
    """Sequence the boundary of a timer; there is room."""
    seq = state.meta[SEQ] + 1
    i = (seq - 1) & (commands.slots.shape[0] - 1)
    for word in range(_SLOT_WORDS):
        command_words[i, word] = 0
    state.sources[e.SOURCE_SEQUENCER] += 1
    c = commands.slots[i]
    c["seq"] = seq
    c["ts_ns"] = boundary
    c["type"] = e.TICK
    if row == CHECKPOINT_TIMER:
        c["type"] = e.CHECKPOINT
    elif row == EXPIRY_TIMER:
        c["type"] = e.EXPIRE
    c["timer"] = row
    c["source"] = e.SOURCE_SEQUENCER
    c["version"] = VERSION
    c["source_seq"] = state.sources[e.SOURCE_SEQUENCER]
    state.meta[SEQ] = seq
    state.meta[TS_NS] = boundary
    state.timers[row, NEXT_NS] = boundary + state.timers[row, PERIOD_NS]


@inner
def run_timers(state, commands, command_words, until_ns):
    """Sequence every boundary up to and with ``until_ns``; False where the command ring is full before."""
    while True:
        row, boundary = first_timer(state)
        if row < 0 or boundary > until_ns:
            return True
        unpublished = state.meta[SEQ] - published(commands)
        if room(commands, unpublished + 1) < unpublished + 1:
            return False
        stamp_timer(state, commands, command_words, row, boundary)


@inner
def stamp_group(state, ingress, ingress_words, commands, command_words, source, position, length, ts_ns, clock):
    """Copy a group into the command ring, numbered and timed; there is room."""
    ingress_mask = ingress.slots.shape[0] - 1
    command_mask = commands.slots.shape[0] - 1
    first_seq = state.meta[SEQ] + 1
    for k in range(length):
        source_row = (position + k - 1) & ingress_mask
        row = (first_seq + k - 1) & command_mask
        for word in range(_SLOT_WORDS):
            command_words[row, word] = ingress_words[source_row, word]
        command_words[row, 0] = first_seq + k
        command_words[row, 1] = ts_ns
    head = commands.slots[(first_seq - 1) & command_mask]
    if clock != e.CLOCK_VERBATIM:
        head["source"] = source
        head["source_seq"] = position
    state.meta[SEQ] = first_seq + length - 1
    state.meta[TS_NS] = ts_ns
    state.sources[source] = position + length - 1
    if head["type"] == e.SET_TIMER and clock != e.CLOCK_VERBATIM:
        set_timer(state, head, ts_ns)


@inner
def is_still_full(stage):
    """Whether the command ring was full, and readers have not made much room since."""
    if stage.turns[_FULL] != 0:
        wanted = stage.commands.slots.shape[0] >> _ROOM_SHIFT
        if room(stage.commands, wanted) < wanted:
            return True
        stage.turns[_FULL] = 0
    return False


@inner
def take(stage, lane, now_ns, limit):
    """Sequence up to ``limit`` slots of one producer, whole groups; publishes them with one store. Returns slots, timers included."""
    state = stage.state
    clock = stage.clock[ck.MODE]
    source = lane.meta[SOURCE]
    first_seq = state.meta[SEQ]
    end = published(lane.ring)
    mask = lane.ring.slots.shape[0] - 1
    _, boundary = first_timer(state)
    taken = 0
    while state.sources[source] < end and taken < limit:
        position = state.sources[source] + 1
        length = batch_length(lane.ring.slots, position, end)
        head = lane.ring.slots[(position - 1) & mask]
        ts_ns = now_ns
        if clock == e.CLOCK_VIRTUAL:
            ts_ns = head["entry_ts_ns"]
        elif clock == e.CLOCK_VERBATIM:
            ts_ns = head["ts_ns"]
        ts_ns = max(ts_ns, state.meta[TS_NS])
        if clock != e.CLOCK_VERBATIM and ts_ns >= boundary:
            if not run_timers(state, stage.commands, stage.command_words, ts_ns):
                break
            _, boundary = first_timer(state)
        wanted = state.meta[SEQ] - published(stage.commands) + length
        if room(stage.commands, wanted) < wanted:
            stage.turns[_FULL] = 1
            break
        stop = position + length
        while position < stop:
            slots = group_length(lane.ring.slots, position)
            if clock == e.CLOCK_VERBATIM:
                ts_ns = max(lane.ring.slots[(position - 1) & mask]["ts_ns"], state.meta[TS_NS])
            stamp_group(
                state, lane.ring, lane.words, stage.commands, stage.command_words, source, position, slots, ts_ns, clock
            )
            position += slots
        # Nothing else may follow here as of this batch, where it was divided or not ended.
        last = stage.commands.slots[(state.meta[SEQ] - 1) & (stage.commands.slots.shape[0] - 1)]
        last["flags"] &= ~np.uint32(e.FLAG_BATCH)
        taken += length
        _, boundary = first_timer(state)
    if state.meta[SEQ] > published(stage.commands):
        publish(stage.commands, state.meta[SEQ])
    if taken > 0:
        note_sequenced(lane, state.meta[SEQ], state.sources[source])
    return state.meta[SEQ] - first_seq


@inner
def note_sequenced(lane, seq, number):
    """Commands of this producer up to ``number`` have seqs up to ``seq``, and keep their slots until that is durable."""
    row = lane.meta[WAITING_END] & (lane.waiting.shape[0] - 1)
    lane.waiting[row, 0] = seq
    lane.waiting[row, 1] = number
    lane.meta[WAITING_END] += 1
    # Each row stands for at least one slot that is not free yet.
    assert lane.meta[WAITING_END] - lane.meta[WAITING_START] <= lane.waiting.shape[0]


@inner
def free_durable(lane, durable_seq):
    """Give slots back whose commands are durable."""
    mask = lane.waiting.shape[0] - 1
    start = lane.meta[WAITING_START]
    number = 0
    while start < lane.meta[WAITING_END] and lane.waiting[start & mask, 0] <= durable_seq:
        number = lane.waiting[start & mask, 1]
        start += 1
    if number > 0:
        lane.meta[WAITING_START] = start
        advance(lane.ring, INGRESS_SEQUENCER, number)


@entry
def step(stage, budget):
    """Sequence the timers that are due and up to ``budget`` slots of every producer; free what is durable.

    Parameters
    ----------
    stage : Bundle
        From ``make_stage``.
    budget : int
        At least a group.

    Returns
    -------
    int
        Slots sequenced.
    """
    state = stage.state
    first_seq = state.meta[SEQ]
    now_ns = np.int64(0)
    if stage.clock[ck.MODE] == e.CLOCK_LIVE:
        now_ns = ck.read(stage.clock)
        if stage.board[b.CLOCK_ALARM] != stage.clock[ck.ALARM]:
            stage.board[b.CLOCK_ALARM] = stage.clock[ck.ALARM]
        run_timers(state, stage.commands, stage.command_words, now_ns)
        if state.meta[SEQ] > first_seq:
            publish(stage.commands, state.meta[SEQ])
    # Each step another lane is the first: where the command ring is full, none may keep the others out.
    first_lane = stage.turns[_FIRST_LANE]
    lanes = stage.lanes.shape[0]
    stage.turns[_FIRST_LANE] = (first_lane + 1) % lanes
    full = is_still_full(stage)
    for i in range(0 if full else lanes):
        take(stage, bundle_at(stage.lane, stage.lanes[(first_lane + i) % lanes]), now_ns, budget)
    if state.meta[SEQ] > first_seq:
        announce(stage)
    if stage.clock[ck.MODE] == e.CLOCK_LIVE:
        measure(stage.meter, stage.board, stage.clock[ck.MONOTONIC_NS])
    durable_seq = load_acquire(stage.board, b.DURABLE_SEQ)
    if durable_seq != stage.turns[_FREED_SEQ]:
        stage.turns[_FREED_SEQ] = durable_seq
        for i in range(stage.lanes.shape[0]):
            free_durable(bundle_at(stage.lane, stage.lanes[i]), durable_seq)
    return state.meta[SEQ] - first_seq


@inner
def announce(stage):
    """What is sequenced, on the board."""
    stage.board[b.SEQUENCED_TS_NS] = stage.state.meta[TS_NS]
    store_release(stage.board, b.SEQUENCED_SEQ, stage.state.meta[SEQ])
    # After the total: who reads a lane first and then the total takes nothing for gone that is still before it.
    for i in range(stage.lanes.shape[0]):
        source = bundle_at(stage.lane, stage.lanes[i]).meta[SOURCE]
        store_release(stage.board, b.LANE_SEQUENCED + source, stage.state.sources[source])


@entry
def observe(state, slots):
    """Bring the state to where it was after the command ``slots`` (COMMAND[n], whole groups, in order) were sequenced; for recovery."""
    i = 0
    while i < slots.shape[0]:
        # Not group_length: that one goes round a ring, and these slots are none.
        length = 1
        while i + length < slots.shape[0] and (slots[i + length - 1]["flags"] & e.FLAG_MORE) != 0:
            length += 1
        head = slots[i]
        source = head["source"]
        state.sources[source] = max(state.sources[source], head["source_seq"] + length - 1)
        if head["type"] == e.SET_TIMER:
            set_timer(state, head, head["ts_ns"])
        elif source == e.SOURCE_SEQUENCER and (
            head["type"] == e.TICK or head["type"] == e.CHECKPOINT or head["type"] == e.EXPIRE
        ):
            row = head["timer"]
            state.timers[row, NEXT_NS] = head["ts_ns"] + state.timers[row, PERIOD_NS]
        state.meta[SEQ] = head["seq"] + length - 1
        state.meta[TS_NS] = head["ts_ns"]
        i += length
