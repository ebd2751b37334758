"""What a shard says: events into the ring, with room asked for before anything is done, and their hash."""

from __future__ import annotations

from typing import Final

import numpy as np

from matcher.jit import njit_called, njit_inlined, njit_kernel
from matcher.state import EVENT_FOLDED, EVENT_HASH, EVENT_LIMIT, EVENT_POSITION
from protocol.enums import EV_NOTHING
from ringbuf.bits import PHI, add, mix, multiply
from ringbuf.ring import publish, published, room

_ODD: Final = (
    np.uint64(0xE7037ED1A0B428DB),
    np.uint64(0x8EBC6AF09C88C6E3),
    np.uint64(0x589965CC75374CC3),
    np.uint64(0x1D8E4E27C47D124F),
    np.uint64(0xEB44ACCAB455D165),
    np.uint64(0xA0761D6478BD642F),
)


@njit_inlined
def has_room(state, events, wanted):
    """Whether ``wanted`` more events fit into the ring now; also counts what was written and not published."""
    meta = state.meta
    if meta[EVENT_LIMIT] - meta[EVENT_POSITION] >= wanted:
        return True
    return _refreshed_room(meta, events, wanted)


@njit_called
def _refreshed_room(meta, events, wanted):
    first = published(events)
    written = meta[EVENT_POSITION] - first
    assert written >= 0, "a shard writes to its ring alone"
    meta[EVENT_LIMIT] = first + room(events, written + wanted)
    return meta[EVENT_LIMIT] - meta[EVENT_POSITION] >= wanted


@njit_inlined
def emit(
    state, slots, seq, kind, reason, flags, instrument, order_id, price_ticks, qty_lots, left_lots, taker_left, hold
):
    """Write the next event into the ring; there must be room. The fields are those of ``protocol.records.EVENT``."""
    meta = state.meta
    position = meta[EVENT_POSITION]
    meta[EVENT_POSITION] = position + 1
    event = slots[position & np.int64(slots.shape[0] - 1)]
    event["seq"] = seq
    event["kind"] = kind
    event["reason"] = reason
    event["slot"] = 0
    event["flags"] = flags
    event["instrument"] = instrument
    event["order_id"] = order_id
    event["price_ticks"] = price_ticks
    event["qty_lots"] = qty_lots
    event["left_lots"] = left_lots
    event["taker_left"] = taker_left
    event["hold"] = hold
    event["reserved"] = 0


@njit_called
def say(
    state, slots, seq, kind, reason, flags, instrument, order_id, price_ticks, qty_lots, left_lots, taker_left, hold
):
    """``emit`` where that is rare: called instead of written there."""
    emit(
        state, slots, seq, kind, reason, flags, instrument, order_id, price_ticks, qty_lots, left_lots, taker_left, hold
    )


@njit_called
def fold_events(state, slots):
    """Add the events written since the last call to the hash of events.

    The hash is the sum of mix(event) modulo 2^64 over all events that say something: EV_NOTHING, the flags and the
    hold's row are left out, because they depend on the number of shards or on when a row was given back. So the sum
    over all shards is that of one shard.
    """
    meta = state.meta
    mask = np.int64(slots.shape[0] - 1)
    total = np.uint64(meta[EVENT_HASH])
    for position in range(meta[EVENT_FOLDED], meta[EVENT_POSITION]):
        event = slots[position & mask]
        if event["kind"] == EV_NOTHING:
            continue
        what = np.int64(event["kind"]) | np.int64(event["reason"]) << 8 | np.int64(event["instrument"]) << 16
        word = multiply(np.uint64(event["seq"]), PHI)
        word = add(word, multiply(np.uint64(what), _ODD[0]))
        word = add(word, multiply(np.uint64(event["order_id"]), _ODD[1]))
        word = add(word, multiply(np.uint64(event["price_ticks"]), _ODD[2]))
        word = add(word, multiply(np.uint64(event["qty_lots"]), _ODD[3]))
        word = add(word, multiply(np.uint64(event["left_lots"]), _ODD[4]))
        word = add(word, multiply(np.uint64(event["taker_left"]), _ODD[5]))
        total = add(total, mix(word))
    meta[EVENT_HASH] = np.uint64(total).view(np.int64)
    meta[EVENT_FOLDED] = meta[EVENT_POSITION]


@njit_kernel
def publish_events(state, events):
    """Make the events written so far readable, and add them to the hash of events."""
    if state.meta[EVENT_FOLDED] != state.meta[EVENT_POSITION]:
        fold_events(state, events.slots)
        publish(events, state.meta[EVENT_POSITION])


@njit_kernel
def join_events(state, events):
    """Go on behind the last event published in ``events``: once, before the first command of an epoch."""
    meta = state.meta
    position = published(events)
    meta[EVENT_POSITION] = position
    meta[EVENT_FOLDED] = position
    meta[EVENT_LIMIT] = position
