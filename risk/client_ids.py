"""Client order ids: which order of an account has one, so that a second use is refused (ARCHITECTURE.md, D-20).

An id is taken from the reserving of its order until the order is refused by the matcher or cancelled by its owner, and for
``client_id_ttl`` of sequenced time after it was filled or expired. Ids of open orders lie beside their hold rows, those of ended
ones in a ring of fixed size. One open-addressing index leads from (account, id) to either; an entry is the 31-bit tag of the
pair, which also gives its home, over the number of the row: a hold row, or ``orders`` + a row of the ring; plus 1, for 0 is empty.

Reserve inserts, settle removes. So what reserve does not find is free on the exact state too, and needs no wait; a row of
the ring that is past its time stays so, and reserve puts the new order in its place. Settle alone writes the ring.
"""

from __future__ import annotations

import numpy as np

from protocol import board as b
from protocol import enums as e
from protocol.hashing import mix, roll
from protocol.jit import inner
from risk import state as s

_HASH_START = 9
_TAG_SHIFT = 33
_TAG_MASK = (1 << 31) - 1
_ROW_MASK = (1 << 32) - 1
NOT_FOUND = -1


@inner
def client_tag(account, words, slot):
    """31-bit tag of (account, client order id) for the EXT_IDS slot ``words[slot]``; -1 where the slot has no client order id."""
    if words[slot, 3] == 0:
        return -1
    h = account
    for word in range(3, 3 + s.CLIENT_ID_WORDS):
        # Most ids are short; the words after a zero one are compared, not hashed.
        if words[slot, word] == 0:
            break
        h = roll(h, words[slot, word])
    return (mix(_HASH_START, h) >> _TAG_SHIFT) & _TAG_MASK


@inner
def _entry(tag, row):
    """Entry of the index for a row number."""
    return (np.int64(tag) << 32) | (np.int64(row) + 1)


@inner
def _has_client_id(state, row, account, words, slot):
    """Whether the order behind a row number has this account and client order id."""
    orders = state.holds.shape[0]
    if row < orders:
        same = state.holds[row]["account"] == account
        for word in range(s.CLIENT_ID_WORDS):
            same = same and state.hold_ids[row, word] == words[slot, 3 + word]
        return same
    same = state.finished[row - orders]["account"] == account
    for word in range(s.CLIENT_ID_WORDS):
        same = same and state.finished_ids[row - orders, word] == words[slot, 3 + word]
    return same


@inner
def find_client_id(state, tag, account, words, slot):
    """Row number of what the index has for (account, client order id), live or finished; NOT_FOUND."""
    index = state.client_index
    mask = index.shape[0] - 1
    i = tag & mask
    while index[i] != 0:
        if index[i] >> 32 == tag:
            row = (index[i] & _ROW_MASK) - 1
            if _has_client_id(state, row, account, words, slot):
                return row
        i = (i + 1) & mask
    return NOT_FOUND


@inner
def is_past_its_time(state, row, ts_ns):
    """Whether a row number is of the ring, and its id is free for a command of time ``ts_ns``: that cannot change any more."""
    orders = state.holds.shape[0]
    return row >= orders and ts_ns >= state.finished[row - orders]["ended_ts_ns"] + state.meta[s.CLIENT_ID_TTL_NS]


@inner
def take_client_id(state, hold, tag, words, slot):
    """Keep the id of a new order and index it, in the place of a finished order whose time is past."""
    index = state.client_index
    mask = index.shape[0] - 1
    account = state.holds[hold]["account"]
    state.holds[hold]["client_tag"] = tag
    state.holds[hold]["flags"] |= s.HOLD_HAS_CLIENT_ID
    i = tag & mask
    while index[i] != 0:
        if index[i] >> 32 == tag and _has_client_id(state, (index[i] & _ROW_MASK) - 1, account, words, slot):
            assert (index[i] & _ROW_MASK) > state.holds.shape[0]
            break
        i = (i + 1) & mask
    index[i] = _entry(tag, hold)


@inner
def _position_of(state, tag, row):
    """Position of exactly this entry in the index; NOT_FOUND."""
    index = state.client_index
    mask = index.shape[0] - 1
    entry = _entry(tag, row)
    i = tag & mask
    while index[i] != 0:
        if index[i] == entry:
            return i
        i = (i + 1) & mask
    return NOT_FOUND


@inner
def _remove(state, position):
    """Take an entry out of the index (backward-shift deletion keeps every probe path whole)."""
    index = state.client_index
    mask = index.shape[0] - 1
    i = position
    j = i
    while True:
        j = (j + 1) & mask
        if index[j] == 0:
            break
        home = (index[j] >> 32) & mask
        if ((j - home) & mask) >= ((j - i) & mask):
            index[i] = index[j]
            i = j
    index[i] = 0


@inner
def free_client_id(state, hold):
    """The order was refused or cancelled by its owner: its id may be used again at once."""
    position = _position_of(state, np.int64(state.holds[hold]["client_tag"]), hold)
    assert position != NOT_FOUND
    _remove(state, position)


@inner
def finish_client_id(state, hold, ts_ns, how, reason):
    """The order was filled or expired at ``ts_ns``: its id moves into the ring, where the oldest row makes room."""
    meta = state.meta
    if meta[s.CLIENT_ID_TTL_NS] == 0:
        free_client_id(state, hold)
        return
    k = meta[s.FINISHED] % state.finished.shape[0]
    row = state.holds.shape[0] + k
    f = state.finished[k]
    if meta[s.FINISHED] >= state.finished.shape[0]:
        position = _position_of(state, np.int64(f["client_tag"]), row)
        if position != NOT_FOUND:
            _remove(state, position)
            if ts_ns < f["ended_ts_ns"] + meta[s.CLIENT_ID_TTL_NS]:
                meta[s.FINISHED_EARLY] += 1
    meta[s.FINISHED] += 1
    h = state.holds[hold]
    f["order_id"] = h["order_id"]
    f["ended_ts_ns"] = ts_ns
    f["traded_lots"] = h["traded_lots"]
    f["value_units"] = h["value_units"]
    f["account"] = h["account"]
    f["instrument"] = h["instrument"]
    f["client_tag"] = h["client_tag"]
    f["reason"] = reason
    f["state"] = how
    for word in range(s.CLIENT_ID_WORDS):
        state.finished_ids[k, word] = state.hold_ids[hold, word]
    tag = np.int64(h["client_tag"])
    x = roll(roll(meta[s.FINISHED_HASH], h["order_id"]), tag)
    x = roll(roll(x, ts_ns), h["traded_lots"])
    meta[s.FINISHED_HASH] = roll(roll(x, h["value_units"]), 8 * np.int64(reason) + how)
    position = _position_of(state, tag, hold)
    assert position != NOT_FOUND
    state.client_index[position] = _entry(tag, row)


@inner
def covered_ns(state):
    """How far back the ring reaches, at most the time for which an id stays taken: less than that only where rows left early."""
    size = state.finished.shape[0]
    count = state.meta[s.FINISHED]
    ttl_ns = state.meta[s.CLIENT_ID_TTL_NS]
    if count <= size:
        return ttl_ns
    return min(ttl_ns, state.finished[(count - 1) % size]["ended_ts_ns"] - state.finished[count % size]["ended_ts_ns"])


@inner
def publish_client_ids(state, board):
    """Tell on the board how far the ring reaches."""
    board[b.CLIENT_IDS_COVERED_NS] = covered_ns(state)
    board[b.CLIENT_IDS_EARLY] = state.meta[s.FINISHED_EARLY]
    board[b.CLIENT_ID_TTL_NS] = state.meta[s.CLIENT_ID_TTL_NS] if state.meta[s.CLIENT_ID_TTL_NS] > 0 else -1


@inner
def first_order(state, row, out):
    """Fill a refusal (OUTCOME_DUPLICATE) with what became of the order behind a row number."""
    orders = state.holds.shape[0]
    if row < orders:
        h = state.holds[row]
        out["first_order_id"] = h["order_id"]
        out["first_instrument"] = h["instrument"]
        out["first_cum_qty_lots"] = h["traded_lots"]
        out["first_leaves_qty_lots"] = h["left_lots"]
        out["first_value_units"] = h["value_units"]
        out["first_state"] = e.ORDER_STATE_LIVE
    else:
        f = state.finished[row - orders]
        out["first_order_id"] = f["order_id"]
        out["first_instrument"] = f["instrument"]
        out["first_cum_qty_lots"] = f["traded_lots"]
        out["first_value_units"] = f["value_units"]
        out["first_ended_ts_ns"] = f["ended_ts_ns"]
        out["first_state"] = f["state"]
        out["first_reason"] = f["reason"]
