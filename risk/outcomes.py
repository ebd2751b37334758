"""Writing outcomes: one function a shape; each fills the next slot of the outcome ring and rolls the outcome hash."""

from __future__ import annotations

from protocol import enums as e
from protocol import reasons as r
from protocol.hashing import roll_words
from protocol.jit import inner
from ringbuf.bits import clear
from ringbuf.ring import claim
from risk import state as s
from risk.client_ids import first_order
from risk.ledger import balance_row


@inner
def next_slot(state, rings, c, kind, flags):
    """Take the next outcome slot of the command being settled and fill what all outcomes share; returns its index in the ring.

    The caller has made sure that there is room, and ends with ``finish``.
    """
    position = state.meta[s.OUTCOMES] + 1
    claim(rings.outcomes, position)
    i = (position - 1) & (rings.outcomes.slots.shape[0] - 1)
    clear(rings.outcomes.slots, i)
    out = rings.outcomes.slots[i]
    out["seq"] = c["seq"]
    out["ts_ns"] = c["ts_ns"]
    out["index"] = state.meta[s.INDEX]
    out["kind"] = kind
    out["flags"] = flags
    out["account"] = c["account"]
    out["instrument"] = c["instrument"]
    out["order_id"] = c["order_id"]
    out["source"] = c["source"]
    out["type"] = c["type"]
    out["source_seq"] = c["source_seq"]
    return i


@inner
def finish(state):
    """Count the slot; it becomes visible when the batch is published."""
    meta = state.meta
    meta[s.OUTCOMES] += 1
    meta[s.INDEX] += 1


@inner
def fold_outcomes(state, rings):
    """Roll the hash of outcomes on over those written since the last call.

    Not at once: a slot is written in fields and hashed in words, and a processor waits long for a word that was just
    stored in pieces.
    """
    meta = state.meta
    mask = rings.outcome_words.shape[0] - 1
    h = meta[s.OUTCOME_HASH]
    for position in range(meta[s.OUTCOMES_FOLDED], meta[s.OUTCOMES]):
        h = roll_words(h, rings.outcome_words, position & mask)
    meta[s.OUTCOME_HASH] = h
    meta[s.OUTCOMES_FOLDED] = meta[s.OUTCOMES]


@inner
def order_fields(state, out, hold):
    """Fill an outcome about an order from its hold row."""
    h = state.holds[hold]
    out["account"] = h["account"]
    out["instrument"] = h["instrument"]
    out["order_id"] = h["order_id"]
    out["side"] = h["side"]
    out["price_ticks"] = h["price_ticks"]
    out["qty_lots"] = h["total_lots"]
    out["cum_qty_lots"] = h["traded_lots"]
    out["leaves_qty_lots"] = h["left_lots"]


@inner
def balance_fields(state, out, received, paid):
    """Balances afterwards: free of the asset received, locked of the asset paid; the account is filled already."""
    account = out["account"]
    out["asset"] = received
    out["free_units"] = state.balances[balance_row(state, account, received) + s.FREE]
    out["locked_units"] = state.balances[balance_row(state, account, paid) + s.LOCKED]


@inner
def emit_simple(state, rings, c, kind, flags):
    """An outcome without more to say than its command."""
    next_slot(state, rings, c, kind, flags)
    finish(state)


@inner
def emit_count(state, rings, c, count):
    """The last outcome of a cancel-all: how many orders it removed."""
    i = next_slot(state, rings, c, e.OUT_DONE, e.OUTCOME_LAST)
    rings.outcomes.slots[i]["qty_lots"] = count
    finish(state)


@inner
def emit_rejected(state, rings, c, reason):
    """The refusal of a whole command: its only outcome."""
    rejected_slot(state, rings, c, reason)
    finish(state)


@inner
def emit_duplicate(state, rings, c, first):
    """The refusal of a second use of a client order id, with what became of the order behind row number ``first``."""
    i = rejected_slot(state, rings, c, r.DUPLICATE_CLIENT_ID)
    first_order(state, first, rings.duplicate_slots[i])
    finish(state)


@inner
def rejected_slot(state, rings, c, reason):
    """Take and fill the slot of a refusal; the caller ends with ``finish``."""
    i = next_slot(state, rings, c, e.OUT_REJECTED, e.OUTCOME_LAST)
    out = rings.outcomes.slots[i]
    out["reason"] = reason
    out["side"] = c["side"]
    out["price_ticks"] = c["price_ticks"]
    out["qty_lots"] = c["qty_lots"]
    state.meta[s.REFUSALS] += 1
    return i


@inner
def emit_balance(state, rings, c, account, asset, amount_units, flags):
    """A balance changed by a money command; amount signed."""
    i = next_slot(state, rings, c, e.OUT_BALANCE, flags)
    out = rings.outcomes.slots[i]
    out["account"] = account
    out["value_units"] = amount_units
    balance_fields(state, out, asset, asset)
    finish(state)


@inner
def emit_order(state, rings, c, hold, kind, reason, qty_lots, flags):
    """An order was accepted, rests, was amended, cancelled, expired or prevented. ``qty_lots`` < 0: the order's total.

    Returns the index of its slot.
    """
    i = next_slot(state, rings, c, kind, flags)
    out = rings.outcomes.slots[i]
    order_fields(state, out, hold)
    if (state.holds[hold]["flags"] & s.HOLD_LINKED) != 0:
        out["contra_order_id"] = state.holds[state.hold_links[hold]]["order_id"]
    out["reason"] = reason
    if qty_lots >= 0:
        out["qty_lots"] = qty_lots
    row = state.instruments[out["instrument"]]
    paid = row["quote"] if out["side"] == e.BUY else row["base"]
    balance_fields(state, out, paid, paid)
    finish(state)
    return i


@inner
def emit_pegged(state, rings, c, hold, price_ticks, flags):
    """A pegged order stands at this price; its limit, and what it holds, are as they were."""
    i = next_slot(state, rings, c, e.OUT_PEGGED, flags)
    out = rings.outcomes.slots[i]
    order_fields(state, out, hold)
    out["price_ticks"] = price_ticks
    row = state.instruments[out["instrument"]]
    paid = row["quote"] if out["side"] == e.BUY else row["base"]
    balance_fields(state, out, paid, paid)
    finish(state)


@inner
def emit_auction(state, rings, c, event, kind):
    """Price and volume of an auction, and in leaves what is left over at the price, on its side."""
    i = next_slot(state, rings, c, kind, 0)
    out = rings.outcomes.slots[i]
    surplus = event["left_lots"]
    out["instrument"] = event["instrument"]
    out["price_ticks"] = event["price_ticks"]
    out["qty_lots"] = event["qty_lots"]
    out["leaves_qty_lots"] = abs(surplus)
    out["side"] = e.BUY if surplus >= 0 else e.SELL
    finish(state)


@inner
def emit_ids(state, rings, c, hold):
    """Continuation of OUT_NEW: the client's own ids, kept whole."""
    i = next_slot(state, rings, c, e.OUT_IDS, 0)
    rings.outcomes.slots[i]["order_id"] = state.holds[hold]["order_id"]
    for word in range(7):
        rings.outcome_words[i, 5 + word] = state.hold_ids[hold, word]
    finish(state)


@inner
def emit_trade(state, rings, c, hold, contra_order_id, event, value_units, fee_units, fee_asset, rule, tier, flags):
    """One side of a trade, after the ledger has it; ``rule`` and ``tier`` say what priced it."""
    i = next_slot(state, rings, c, e.OUT_TRADE, flags)
    out = rings.outcomes.slots[i]
    order_fields(state, out, hold)
    out["price_ticks"] = event["price_ticks"]
    out["qty_lots"] = event["qty_lots"]
    out["value_units"] = value_units
    out["fee_units"] = fee_units
    out["fee_asset"] = fee_asset
    out["contra_order_id"] = contra_order_id
    out["reason"] = rule
    out["fee_tier"] = tier
    row = state.instruments[out["instrument"]]
    if out["side"] == e.BUY:
        balance_fields(state, out, row["base"], row["quote"])
    else:
        balance_fields(state, out, row["quote"], row["base"])
    finish(state)
