"""One step of risk over its rings: settle what the matchers have answered, then reserve what has arrived. Never blocks.

Cursors: risk's cursor in the command ring is what is *settled*, so that a command's slots stay until then; verdicts and outcomes are
published in batches, and always before the step returns.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol import board as b
from protocol import enums as e
from protocol import reasons as r
from protocol.hashing import roll
from protocol.jit import entry, inner
from ringbuf.atomics import store_release
from ringbuf.bank import bank_advance, bank_cursor, bank_published, bank_slot, bank_wake
from ringbuf.bits import prefetch
from ringbuf.idtable import prefetch_row
from ringbuf.loop import STOPPED
from ringbuf.ring import HEADER_WORDS, advance, publish, published, room
from risk import state as s
from risk.bands import end_auctions
from risk.brackets import reserve_list
from risk.client_ids import publish_client_ids
from risk.dead_men import cancel_came_back, fire_dead_men
from risk.exits import exits_are_back
from risk.judging import WAIT
from risk.ledger import foresee_hold
from risk.linked import write_leg_verdict
from risk.outcomes import emit_count, emit_duplicate, emit_rejected, emit_simple, fold_outcomes
from risk.quotes import reserve_quotes, settle_quotes, write_quote_verdicts
from risk.reserve import reserve_command
from risk.scopes import examine_touched_scopes
from risk.settle_admin import ends_with_count, settle_admin, settle_state
from risk.settle_money import settle_money
from risk.settle_orders import settle_event, settle_order_event

OUTCOMES_PER_STEP: Final = 4
"""Most outcomes that one event settles: a new order, its ids, and both sides of a trade."""
FORESIGHT: Final = 4
"""Events, or commands, from a prefetch to what needs it: enough to hide a cache miss."""
_NO_SHARD: Final = -1
_ALL_SHARDS: Final = -2
_LARGEST: Final = (1 << 63) - 1


@inner
def group_slots(rings, seq):
    """Number of slots of the command whose head is ``seq``; the whole group is published."""
    mask = rings.commands.slots.shape[0] - 1
    slots = 1
    while (rings.commands.slots[(seq + slots - 2) & mask]["flags"] & e.FLAG_MORE) != 0:
        slots += 1
    return slots


@inner
def shard_of(rings, c):
    """Which matchers answer: a shard, all of them, or none."""
    shards = rings.event_words.shape[0] // HEADER_WORDS
    kind = c["type"]
    if (kind == e.CANCEL_ALL or kind == e.KILL or kind == e.EXPIRE) and c["instrument"] == 0:
        return _ALL_SHARDS
    if (
        kind == e.LIMIT
        or kind == e.MARKET
        or kind == e.MARKET_AMOUNT
        or kind == e.CANCEL
        or kind == e.CANCEL_ALL
        or kind == e.AMEND
        or kind == e.KILL
        or kind == e.SET_PRICES
        or ((kind == e.SET_STATE or kind == e.HALT or kind == e.RESUME) and c["instrument"] != 0)
    ):
        # Mostly there is one, and a division takes long.
        return np.int64(0) if shards == 1 else c["instrument"] % shards
    return _NO_SHARD


@inner
def foresee_event(state, rings, shard, cursor, end):
    """Prefetch what settling the events behind ``cursor`` will need: the hold that an event names, and the order's place in the index."""
    if cursor + FORESIGHT < end:
        event = rings.event_slots[bank_slot(rings.event_words, shard, cursor + FORESIGHT)]
        if event["hold"] >= 0:
            prefetch(state.holds, np.int64(event["hold"]))
        foresee_hold(state, event["order_id"])


@inner
def settle_from_shard(state, rings, c, pending, shard, budget):
    """Settle events of one shard for the command; returns (events taken, whether the command is done)."""
    cursor = bank_cursor(rings.event_words, shard)
    end = min(bank_published(rings.event_words, shard), cursor + budget)
    taken = 0
    done = False
    kind = c["type"]
    enters = kind == e.AMEND or e.LIMIT <= kind <= e.MARKET_AMOUNT
    while cursor < end and not done:
        foresee_event(state, rings, shard, cursor, end)
        wanted = OUTCOMES_PER_STEP + state.meta[s.OUTCOMES] - published(rings.outcomes)
        if room(rings.outcomes, wanted) < wanted:
            break
        event = rings.event_slots[bank_slot(rings.event_words, shard, cursor)]
        if event["seq"] != c["seq"]:
            state.meta[s.FAULT] = s.FAULT_EVENT_ORDER
            break
        if enters:
            settle_order_event(state, rings, c, pending, event)
        else:
            settle_event(state, rings, c, event)
        done = (event["flags"] & e.EVENT_LAST) != 0
        cursor += 1
        taken += 1
    if taken > 0:
        bank_advance(rings.event_words, shard, cursor)
    return taken, done


@inner
def next_cancel_shard(state, rings, seq, by_age):
    """Shard whose head event comes next; _NO_SHARD while some shard concerned has not answered yet.

    They come by instrument and order, those of an EXPIRE by the time and age in the event (``by_age``); then where auctions stand;
    last what pegs do, by instrument.
    """
    shards = rings.event_words.shape[0] // HEADER_WORDS
    best = _NO_SHARD
    best_first = _LARGEST
    best_then = _LARGEST
    for k in range(shards):
        if (state.meta[s.SHARDS_DONE] >> k) & 1:
            continue
        cursor = bank_cursor(rings.event_words, k)
        if cursor >= bank_published(rings.event_words, k):
            return _NO_SHARD
        event = rings.event_slots[bank_slot(rings.event_words, k, cursor)]
        if event["seq"] != seq:
            state.meta[s.FAULT] = s.FAULT_EVENT_ORDER
            return _NO_SHARD
        first = event["left_lots"] if by_age else event["instrument"]
        then = event["taker_left"] if by_age else event["order_id"]
        if event["kind"] == e.EV_AUCTION:
            first = _LARGEST - 1
            then = event["instrument"]
        elif event["kind"] == e.EV_PEGGED or event["reason"] == r.BY_PEG:
            first = _LARGEST
            then = event["instrument"]
        elif event["kind"] != e.EV_CANCELED:
            first = _LARGEST
            then = 0
        if first < best_first or (first == best_first and then < best_then) or best == _NO_SHARD:
            best = k
            best_first = first
            best_then = then
    return best


@inner
def settle_merged(state, rings, c, pending, budget):
    """A cancel-all over all shards, event by event in canonical order; returns (events taken, done)."""
    shards = rings.event_words.shape[0] // HEADER_WORDS
    taken = 0
    while state.meta[s.SHARDS_DONE] != (1 << shards) - 1:
        k = next_cancel_shard(state, rings, c["seq"], c["type"] == e.EXPIRE)
        if k == _NO_SHARD or taken >= budget:
            return taken, False
        count, done = settle_from_shard(state, rings, c, pending, k, 1)
        if count == 0:
            return taken, False
        taken += 1
        if done:
            state.meta[s.SHARDS_DONE] |= 1 << k
    return taken, True


@inner
def settle_next(state, rings, seq, budget):
    """Settle the command with head ``seq``, or go on with it; returns (work done, whether it is settled)."""
    c = rings.commands.slots[(seq - 1) & (rings.commands.slots.shape[0] - 1)]
    if c["seq"] != seq:
        state.meta[s.FAULT] = s.FAULT_SEQ
        return 0, False
    pending = state.pending[seq & (state.pending.shape[0] - 1)]
    wanted = OUTCOMES_PER_STEP + state.meta[s.OUTCOMES] - published(rings.outcomes)
    if room(rings.outcomes, wanted) < wanted:
        return 0, False
    if pending["code"] != 0 and c["source"] == e.SOURCE_RISK and e.LIMIT <= c["type"] <= e.MARKET_AMOUNT:
        exits_are_back(state, pending["slots"])
    if pending["code"] == r.DUPLICATE_CLIENT_ID:
        emit_duplicate(state, rings, c, pending["first"])
        return 1, True
    if pending["code"] != 0:
        emit_rejected(state, rings, c, pending["code"])
        return 1, True
    shard = shard_of(rings, c)
    if shard == _NO_SHARD:
        if c["type"] == e.QUOTE:
            return settle_quotes(state, rings, c, pending, budget)
        if e.DEPOSIT <= c["type"] <= e.ADJUST or c["type"] == e.TRANSFER:
            settle_money(state, rings, c, pending)
        else:
            settle_admin(state, rings, c, pending)
        return 1, True
    if shard == _ALL_SHARDS:
        taken, done = settle_merged(state, rings, c, pending, budget)
    else:
        taken, done = settle_from_shard(state, rings, c, pending, shard, budget)
    if done:
        # The room was made sure of for four outcomes an event, and each that can be the last of these takes two at most.
        settle_end(state, rings, c)
    return taken, done


@inner
def settle_end(state, rings, c):
    """Behind the last event of a command that is not an order's own: what it changed beside orders, and its last outcome."""
    kind = c["type"]
    if kind == e.SET_STATE or kind == e.HALT or kind == e.RESUME:
        settle_state(state, c)
    elif kind == e.EXPIRE:
        fire_dead_men(state, c)
    elif kind == e.CANCEL_ALL and c["source"] == e.SOURCE_RISK:
        cancel_came_back(state)
    if kind == e.EXPIRE:
        end_auctions(state, c)
    if ends_with_count(c):
        emit_count(state, rings, c, state.meta[s.REMOVED])
    elif kind == e.SET_STATE or kind == e.HALT or kind == e.RESUME or kind == e.SET_PRICES:
        emit_simple(state, rings, c, e.OUT_ADMIN, e.OUTCOME_LAST)


@inner
def settle_step(state, rings, budget):
    """Settle up to ``budget`` commands and events; publish outcomes and the settled cursor. Returns the work done."""
    meta = state.meta
    work = 0
    commands = 0
    while work < budget and meta[s.SETTLED] < meta[s.RESERVED] and meta[s.FAULT] == 0:
        seq = meta[s.SETTLED] + 1
        taken, done = settle_next(state, rings, seq, budget - work)
        work += taken
        if not done or not examine_touched_scopes(state):
            break
        meta[s.SETTLED] += state.pending[seq & (state.pending.shape[0] - 1)]["slots"]
        meta[s.PHASE] = s.PHASE_NONE
        meta[s.INDEX] = 0
        meta[s.REMOVED] = 0
        meta[s.SHARDS_DONE] = 0
        commands += 1
    if work > 0:
        bank_wake(rings.event_words, rings.board)
    if meta[s.OUTCOMES] > published(rings.outcomes):
        fold_outcomes(state, rings)
        publish(rings.outcomes, meta[s.OUTCOMES])
    if commands > 0 or rings.board[b.CLIENT_ID_TTL_NS] == 0:
        publish_client_ids(state, rings.board)
    if commands > 0:
        store_release(rings.board, b.SETTLED_SEQ, meta[s.SETTLED])
        advance(rings.commands, 0, meta[s.SETTLED])
    return work


@inner
def write_verdicts(state, rings, seq, pending):
    """One verdict for each slot of the group; the head's counts, later ones repeat its code."""
    mask = rings.verdicts.slots.shape[0] - 1
    for k in range(pending["slots"]):
        v = rings.verdicts.slots[(seq + k - 1) & mask]
        v["seq"] = seq + k
        v["code"] = pending["code"]
        v["flags"] = pending["flags"]
        v["hold"] = pending["hold"] if k == 0 else -1
        v["price_ticks"] = pending["price_ticks"] if k == 0 else 0
        v["qty_lots"] = pending["qty_lots"] if k == 0 else 0
    h = roll(state.meta[s.VERDICT_HASH], pending["code"])
    if pending["code"] == 0:
        h = roll(roll(h, pending["price_ticks"]), pending["qty_lots"])
        if pending["flags"] != 0:
            h = roll(h, pending["flags"])
    state.meta[s.VERDICT_HASH] = h


@inner
def foresee_command(state, rings, seq, end):
    """Prefetch what reserving the commands behind ``seq`` will need: an order's place in the index, then the hold that an amend names."""
    mask = rings.commands.slots.shape[0] - 1
    if seq + 2 * FORESIGHT <= end:
        foresee_hold(state, rings.commands.slots[(seq - 1 + 2 * FORESIGHT) & mask]["order_id"])
        sooner = rings.commands.slots[(seq - 1 + FORESIGHT) & mask]
        if sooner["type"] == e.AMEND:
            prefetch_row(state.recent_orders, state.holds, 1, sooner["order_id"])


@inner
def reserve_step(state, rings, budget):
    """Reserve up to ``budget`` commands; publish their verdicts. Returns the work done."""
    meta = state.meta
    end = published(rings.commands)
    window = state.pending.shape[0]
    before = meta[s.RESERVED]
    commands = 0
    while commands < budget and meta[s.RESERVED] < end and meta[s.FAULT] == 0:
        seq = meta[s.RESERVED] + 1
        slots = group_slots(rings, seq)
        unpublished = meta[s.RESERVED] - before
        if (
            meta[s.RESERVED] + slots - meta[s.SETTLED] > window
            or room(rings.verdicts, unpublished + slots) < unpublished + slots
        ):
            break
        foresee_command(state, rings, seq, end)
        pending = state.pending[seq & (window - 1)]
        c = rings.commands.slots[(seq - 1) & (rings.commands.slots.shape[0] - 1)]
        if c["type"] == e.QUOTE:
            code = reserve_quotes(state, rings, c, seq, slots, pending)
        elif (c["flags"] & (e.FLAG_LEGS | e.FLAG_SYSTEM)) != 0 and e.LIMIT <= c["type"] <= e.MARKET_AMOUNT:
            code = reserve_list(state, rings, c, seq, slots, pending)
        else:
            code = reserve_command(state, rings, seq, slots, pending)
        if code == WAIT:
            if meta[s.WAITED_SEQ] != seq:
                meta[s.WAITED_SEQ] = seq
                meta[s.EXACT_WAITS] += 1
            break
        pending["code"] = code
        pending["slots"] = slots
        write_verdicts(state, rings, seq, pending)
        if c["type"] == e.QUOTE and code == 0:
            write_quote_verdicts(state, rings, seq, pending["qty_lots"])
        elif (pending["flags"] & e.JUDGED_LEGS) != 0 and code == 0:
            write_leg_verdict(state, rings, seq, pending["first"])
        meta[s.RESERVED] += slots
        commands += 1
    if commands > 0:
        publish(rings.verdicts, meta[s.RESERVED])
        store_release(rings.board, b.RESERVED_SEQ, meta[s.RESERVED])
    return commands


@inner
def publish_counters(state, board):
    """What ``status`` shows of risk, onto the board."""
    meta = state.meta
    board[b.OUTCOMES] = meta[s.OUTCOMES]
    board[b.TRADES] = meta[s.TRADES]
    board[b.REFUSALS] = meta[s.REFUSALS]
    board[b.EXACT_WAITS] = meta[s.EXACT_WAITS]
    board[b.CHECKPOINT_SEQ] = meta[s.CHECKPOINT_SEQ]


@entry
def step(stage, budget):
    """Settle, then reserve, up to ``budget`` commands each.

    ``stage``: Bundle of ``state`` and ``rings``. Returns the work done, 0 when there was nothing to do, STOPPED where ``FAULT``
    in meta says that the engine must end.
    """
    work = settle_step(stage.state, stage.rings, budget) + reserve_step(stage.state, stage.rings, budget)
    if stage.state.meta[s.FAULT] != 0:
        return np.int64(STOPPED)
    if work > 0:
        publish_counters(stage.state, stage.rings.board)
    return work
