"""Risk's own commands: pushed when their cause is settled, sent to the sequencer, ticked off when they come back.

A FIFO of fixed size, part of the state; the process sends it through risk's ingress ring. An entry is keyed by its cause
(settled seq, outcome index). On replay the journal already has the command: it is ticked off by content, a difference is
a fault. Spot uses it for circuit breakers, which interrupt trading, and for the ends of auctions, at most one entry an
instrument (``Engine.check``), for dead-man timers, and for the exits of orders, of which each have further rows for as many as
are armed or pending: so it cannot overflow. Exits are groups of slots, an entry each.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol import enums as e
from protocol.jit import entry, inner
from ringbuf.bundle import Bundle
from ringbuf.ring import Ring, publish, published, room
from risk import state as s

# Words of a command slot (protocol.records.SYSTEM_COMMAND).
_TYPE_FLAGS: Final = 2
_ACCOUNT_INSTRUMENT: Final = 3
_PRICE: Final = 5
_QTY: Final = 6
_TRIGGER: Final = 7
_ASSET_CAUSE_INDEX: Final = 12
_CAUSE_SEQ: Final = 13
# Of a slot with a client's ids these are words of its own; that they come back is not asked.
_SOURCE: Final = 8
_SOURCE_SEQ: Final = 9
_WORDS: Final = 16


@inner
def push_state(state, instrument, market_state, end_ts_ns, names, cause_seq, cause_index):
    """Ask for a state of the market of ``instrument``, caused by outcome (cause_seq, cause_index).

    An auction gets an end, and the state behind it in ``names``; what ends one names it there by its seq. A halt is a HALT.
    """
    kind = e.HALT if market_state == e.INSTRUMENT_HALTED else e.SET_STATE
    i = push(state, kind, cause_seq, cause_index)
    state.outbox[i, _ACCOUNT_INSTRUMENT] = np.int64(instrument) << 32
    if kind == e.SET_STATE:
        state.outbox[i, _PRICE] = market_state
        state.outbox[i, _QTY] = end_ts_ns
        state.outbox[i, _TRIGGER] = names


@inner
def push_cancel_all(state, account, instrument, session, cause_seq, cause_index):
    """Ask for the cancel-all of a dead-man timer, which the clock tick (cause_seq, cause_index) fired."""
    i = push(state, e.CANCEL_ALL, cause_seq, cause_index)
    state.outbox[i, _ACCOUNT_INSTRUMENT] = np.int64(account) | np.int64(instrument) << 32
    state.outbox[i, _QTY] = e.CAUSE_DEAD_MAN
    state.outbox[i, _TRIGGER] = session


@inner
def push(state, kind, cause_seq, cause_index):
    """Another entry, in which nothing but type and cause is said yet; its row."""
    meta = state.meta
    capacity = state.outbox.shape[0]
    assert meta[s.OUTBOX_PUSHED] - meta[s.OUTBOX_SETTLED] < capacity
    i = meta[s.OUTBOX_PUSHED] % capacity
    for word in range(_WORDS):
        state.outbox[i, word] = 0
    state.outbox[i, _TYPE_FLAGS] = kind + (e.FLAG_SYSTEM << 32)
    state.outbox[i, _ASSET_CAUSE_INDEX] = cause_index << 32
    state.outbox[i, _CAUSE_SEQ] = cause_seq
    meta[s.OUTBOX_PUSHED] += 1
    return i


@inner
def push_copy(state, words, first):
    """Another entry, one slot of a command, with the words from ``first`` on; its row."""
    i = push(state, 0, 0, 0)
    for word in range(_TYPE_FLAGS, _WORDS):
        state.outbox[i, word] = words[first + word]
    return i


@inner
def cause_is_settled(state):
    """Whether the oldest entry that has not come back is there: on replay reserve may be ahead of the cause's settling."""
    return state.meta[s.OUTBOX_TICKED] < state.meta[s.OUTBOX_PUSHED]


@inner
def tick_off_reserve(state, command_words, seq, slots):
    """Compare the slots of a command of risk's own that came back with the oldest entries that have not, and pass these."""
    meta = state.meta
    for k in range(slots):
        i = meta[s.OUTBOX_TICKED] % state.outbox.shape[0]
        slot = (seq + k - 1) & (command_words.shape[0] - 1)
        for word in range(_TYPE_FLAGS, _WORDS):
            if word != _SOURCE and word != _SOURCE_SEQ and state.outbox[i, word] != command_words[slot, word]:
                meta[s.FAULT] = s.FAULT_OUTBOX_DIFFERS
        meta[s.OUTBOX_TICKED] += 1


@entry
def send(stage, budget):
    """Hand what has been pushed and not sent to the sequencer; returns how many. Entry i (from 0) is number i + 1 of source RISK.

    ``stage``: Bundle of ``state``; ``ring``, risk's ingress ring, made anew each epoch at the number that the journal has, so that what the
    recovered outbox still holds is sent again; ``words``, its slots as int64[capacity, 16].
    """
    sent = published(stage.ring)
    pushed = stage.state.meta[s.OUTBOX_PUSHED]
    count = min(pushed - sent, budget)
    if count <= 0:
        return 0
    count = min(count, room(stage.ring, count))
    outbox = stage.state.outbox
    slots = stage.state.outbox_slots
    while count > 0 and (slots[(sent + count - 1) % outbox.shape[0]]["flags"] & e.FLAG_MORE) != 0:
        # Groups are sent whole.
        count -= 1
    for number in range(sent + 1, sent + count + 1):
        row = (number - 1) & (stage.words.shape[0] - 1)
        stage.words[row, 0] = number
        for word in range(1, _WORDS):
            stage.words[row, word] = outbox[(number - 1) % outbox.shape[0], word]
    if count > 0:
        publish(stage.ring, sent + count)
    return count


def make_sender(state: Bundle, ring: Ring) -> Bundle:
    """The stage of ``send``."""
    return Bundle(state=state, ring=ring, words=ring.slots.view(np.int64).reshape(-1, _WORDS))
