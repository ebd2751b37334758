"""Commands and verdicts in, events out: one command for the fused engine, a batch of slots for a shard of its own."""

from __future__ import annotations

from typing import Final

import numpy as np

from matcher.commands import amend_order, cancel_order, enter_order, proceed, reject
from matcher.events import has_room, publish_events
from matcher.hashes import books_hash
from matcher.jit import njit_called, njit_inlined, njit_kernel
from matcher.linked import enter_linked, keep_first
from matcher.mass import cancel_all, change_state, expire, kill
from matcher.pegs import enter_peg, settle_pegs
from matcher.protection import set_protection
from matcher.quotes import enter_quote
from matcher.state import (
    APPLIED_SEQ,
    CHECKPOINT_BOOKS_HASH,
    CHECKPOINT_EVENT_HASH,
    CHECKPOINT_SEQ,
    EVENT_HASH,
    PEGS,
    SHARD,
    SHARDS,
    STAGE,
    STAGE_IDLE,
    TAKER_TS,
)
from matcher.stops import enter_stop, set_prices
from protocol.enums import (
    AMEND,
    CANCEL,
    CANCEL_ALL,
    CHECKPOINT,
    EXPIRE,
    EXT_LEG,
    EXT_QUOTES,
    HALT,
    INSTRUMENT_OPEN,
    JUDGED_LEGS,
    JUDGED_PEG,
    JUDGED_TRIGGER,
    KILL,
    LIMIT,
    LIST_INSTRUMENT,
    MARKET_AMOUNT,
    RESUME,
    SET_GROUPS,
    SET_PRICES,
    SET_PROTECTION,
    SET_STATE,
    VERDICT_OK,
)
from protocol.reasons import ACCEPTED
from ringbuf.atomics import store_release
from ringbuf.bundle import Bundle
from ringbuf.idtable import prefetch_id, prefetch_row
from ringbuf.ring import Ring, advance, published, reader_cursor

FORESIGHT: int = 6
"""Slots from one prefetch to the next, and to the command: enough to hide a cache miss at the speed of one core."""

EVENTS_AT_ONCE: int = 2
"""Events of a command that does not trade; an event ring holds at least so many."""

_RING_FULL: Final = 0
_DONE: Final = 1
_GOES_ON: Final = 2


@njit_inlined
def _is_ours(meta, instrument):
    return meta[SHARDS] == 1 or instrument % meta[SHARDS] == meta[SHARD]


@njit_inlined
def foresee(state, commands, position, last):
    """Prefetch what commands behind ``position`` will need; a book of a million orders is twice as fast for it.

    Parameters
    ----------
    state : MatcherState
    commands : COMMAND[power of two], the slots of the command ring
    position, last : int64, the position that is worked on next and the last one that may be read
    """
    mask = np.int64(commands.shape[0] - 1)
    if position + 2 * FORESIGHT <= last:
        later = commands[(position - 1 + 2 * FORESIGHT) & mask]
        if _is_ours(state.meta, np.int64(later["instrument"])):
            prefetch_id(state.recent_ids, later["order_id"])
        sooner = commands[(position - 1 + FORESIGHT) & mask]
        if _is_ours(state.meta, np.int64(sooner["instrument"])):
            prefetch_row(state.recent_ids, state.orders, 0, sooner["order_id"])


@njit_inlined
def match_command(state, command, verdict, events):
    """Apply one command to the books of this shard.

    Parameters
    ----------
    state : MatcherState, changed in place
    command : COMMAND record, the head of a group or a later slot; of it the first cache line is read, and the second of an order with terms
    verdict : VERDICT record of the same slot; its price and quantity count, for LIST_INSTRUMENT multiplier and lot size, for SET_STATE,
        HALT and RESUME the price is the new state, 0 = it stays
    events : Ring of EVENT records that only this shard writes, ``EVENTS_AT_ONCE`` slots or more

    Returns
    -------
    bool
        True: done; the events of the command, the last with EVENT_LAST, are in the ring behind those of earlier
        commands, to be made visible by ``publish_events``. False: the ring is full; publish, make room, and call again
        with the same arguments before anything else.

    Source: flow format 2, sections 2 (reasons 10, 12, 13, 15, 16) and 4.
    """
    begun = _GOES_ON
    if state.meta[STAGE] == STAGE_IDLE:
        begun = _begin(state, command, verdict, events)
        if begun == _RING_FULL:
            return False
    if begun == _GOES_ON and not proceed(state, events):
        return False
    if state.meta[PEGS] != 0 and verdict["code"] == VERDICT_OK:
        return settle_pegs(state, command, events)
    return True


@njit_inlined
def _begin(state, command, verdict, events):
    """Do what a command needs no trade for: _DONE, _RING_FULL with nothing done, or _GOES_ON."""
    meta = state.meta
    if verdict["code"] != VERDICT_OK:
        return _DONE
    kind = np.int64(command["type"])
    instrument = np.int64(command["instrument"])
    if kind == CHECKPOINT:
        _keep_checkpoint(state, events, command["seq"])
        return _DONE
    if kind == SET_GROUPS:
        _set_groups(state, command)
        return _DONE
    if not _is_ours(meta, instrument) and not (
        (kind == CANCEL_ALL or kind == KILL or kind == EXPIRE) and instrument == 0
    ):
        return _DONE
    if not has_room(state, events, np.int64(EVENTS_AT_ONCE)):
        return _RING_FULL
    meta[TAKER_TS] = command["ts_ns"]
    reason = ACCEPTED
    if kind == AMEND:
        reason = amend_order(state, command, verdict, events)
    elif kind == CANCEL:
        reason = cancel_order(state, command, events)
    elif LIMIT <= kind <= MARKET_AMOUNT:
        if (verdict["flags"] & (JUDGED_TRIGGER | JUDGED_PEG | JUDGED_LEGS)) != 0:
            if (verdict["flags"] & JUDGED_LEGS) != 0:
                keep_first(state, command, verdict)
            elif (verdict["flags"] & JUDGED_PEG) != 0:
                reason = enter_peg(state, command, verdict, events)
            else:
                reason = enter_stop(state, command, verdict, events)
        else:
            reason = enter_order(state, command, verdict, events)
    elif kind == CANCEL_ALL:
        cancel_all(state, command, events)
    elif kind == KILL:
        kill(state, command, events)
    elif kind == EXPIRE:
        expire(state, command, events)
    elif (kind == SET_STATE or kind == HALT or kind == RESUME) and instrument != 0:
        change_state(state, command, verdict, events)
    elif kind == EXT_LEG:
        if (verdict["flags"] & JUDGED_LEGS) != 0:
            enter_linked(state, command, verdict, events)
    elif kind == EXT_QUOTES:
        return _DONE if enter_quote(state, command, verdict, events) else _RING_FULL
    elif kind == SET_PROTECTION:
        set_protection(state, command)
    elif kind == SET_PRICES:
        set_prices(state, command, verdict, events)
    elif kind == LIST_INSTRUMENT:
        _list_instrument(state, instrument, verdict)
    if reason != ACCEPTED:
        reject(state, events, command, verdict, np.int64(reason))
        return _DONE
    return _DONE if meta[STAGE] == STAGE_IDLE else _GOES_ON


@njit_called
def _keep_checkpoint(state, events, seq):
    """Publish the hashes as of this command: the events of all before it, and the books.

    The replica reads them at any moment: each store is seen after the one before it, and there is no seq while the
    hashes change. They follow from the order of commands alone, and add up over shards.
    """
    meta = state.meta
    publish_events(state, events)
    books = int(np.uint64(books_hash(state)).view(np.int64))
    store_release(meta, CHECKPOINT_SEQ, 0)
    store_release(meta, CHECKPOINT_EVENT_HASH, meta[EVENT_HASH])
    store_release(meta, CHECKPOINT_BOOKS_HASH, books)
    store_release(meta, CHECKPOINT_SEQ, seq)


@njit_called
def _set_groups(state, command):
    row = state.groups[command["account"]]
    row["master"] = command["price_ticks"]
    row["firm"] = command["qty_lots"]
    row["stp_group"] = command["trigger_price_ticks"]


@njit_called
def _list_instrument(state, instrument, verdict):
    assert 0 < instrument < state.lot_atoms.shape[0], "risk lists instruments of the table only"
    book = state.books[instrument]
    book["multiplier"] = verdict["price_ticks"]
    book["market_state"] = INSTRUMENT_OPEN
    state.lot_atoms[instrument] = verdict["qty_lots"]


@njit_kernel
def step(stage, budget):
    """Apply up to ``budget`` slots that have a verdict, then publish events and cursors once. Never blocks.

    Parameters
    ----------
    stage : Bundle
        From ``make_stage``.
    budget : int > 0

    Returns
    -------
    int
        Slots finished plus events published: 0 when there was nothing to do, or no room for it.
    """
    state = stage.state
    commands = stage.commands
    verdicts = stage.verdicts
    events = stage.events
    meta = state.meta
    first = reader_cursor(verdicts, stage.readers[1])
    events_before = published(events)
    judged = published(verdicts)
    last = min(first + budget, judged)
    command_mask = np.int64(commands.slots.shape[0] - 1)
    verdict_mask = np.int64(verdicts.slots.shape[0] - 1)
    finished = first
    while finished < last:
        foresee(state, commands.slots, finished + 1, judged)
        command = commands.slots[finished & command_mask]
        verdict = verdicts.slots[finished & verdict_mask]
        assert command["seq"] == finished + 1, "the command with seq s stands at position s"
        assert verdict["seq"] == finished + 1, "the verdict on seq s stands at position s"
        if not match_command(state, command, verdict, events):
            break
        finished += 1
    publish_events(state, events)
    if finished != first:
        meta[APPLIED_SEQ] = finished
        advance(verdicts, stage.readers[1], finished)
        advance(commands, stage.readers[0], finished)
    return finished - first + published(events) - events_before


def make_stage(
    state: Bundle, commands: Ring, verdicts: Ring, events: Ring, command_reader: int, verdict_reader: int
) -> Bundle:
    """What a step works on.

    Parameters
    ----------
    state : MatcherState
    commands, verdicts : Ring of COMMAND and of VERDICT records; the slot with seq s stands at position s in both
    events : Ring of EVENT records that only this shard writes, after ``join_events``
    command_reader, verdict_reader : this shard's reader numbers on the two rings
    """
    readers = np.array([command_reader, verdict_reader], dtype=np.int64)
    return Bundle(state=state, commands=commands, verdicts=verdicts, events=events, readers=readers)
