"""Plans made from a plan: with client order ids, with orders that are refused, short of funds, over several books.

Numbers, and with them the ids of orders, are given anew, so that each is a history like any other.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from cambist.replay.plan import OPERATOR, Plan
from protocol import build
from protocol import enums as e
from protocol.instance import Limits
from protocol.instruments import Instrument
from protocol.records import COMMAND_DTYPE, EXT_IDS_SLOT, command_slots

_REASON: Final = "variant of a flow"
_NAMES: Final = np.array([e.CANCEL, e.AMEND, e.WITHDRAW_SETTLE, e.WITHDRAW_RELEASE, *build.NAMING_TYPES])
"""Types whose order id is one of the plan's own."""


def with_client_ids(plan: Plan) -> Plan:
    """Every new order has a client order id of its own, 16 characters, in a second slot."""
    old = plan.commands
    takes = np.isin(old["type"], build.NAMING_TYPES) & build.heads(old)
    at = np.arange(len(old)) + np.cumsum(takes) - takes
    slots = command_slots(len(old) + int(takes.sum()))
    slots[at] = old
    slots["flags"][at[takes]] |= np.uint32(e.FLAG_MORE)
    ids = slots.view(EXT_IDS_SLOT.slot_dtype)
    behind = at[takes] + 1
    slots[behind] = np.zeros(1, dtype=COMMAND_DTYPE)
    ids["type"][behind] = e.EXT_IDS
    ids["client_order_id"][behind] = [f"client-{k:09d}".encode() for k in range(len(behind))]
    to_message = np.zeros(len(slots), dtype=np.int64)
    to_message[at] = plan.to_message
    to_message[behind] = plan.to_message[takes]
    return _numbered(plan, plan.setup, slots, at, to_message)


def with_refused(plan: Plan, one_in: int = 10) -> Plan:
    """One command in ``one_in`` is a new order of an account without funds, which risk refuses."""
    old = plan.commands
    heads = build.heads(old)
    after = np.flatnonzero(heads & (np.cumsum(heads) % (one_in - 1) == 0))
    slots = command_slots(len(old) + len(after))
    new = after + np.arange(len(after))
    kept = np.ones(len(slots), dtype=np.bool_)
    kept[new] = False
    at = np.flatnonzero(kept)
    slots[at] = old
    priced = old[old["type"] == e.LIMIT]
    order = build.limit(
        account=plan.accounts + 1,
        instrument=int(priced["instrument"][0]),
        side=e.BUY,
        price_ticks=int(np.median(priced["price_ticks"])),
        qty_lots=1,
    )
    slots[new] = order[0]
    slots["entry_ts_ns"][new] = old["entry_ts_ns"][after]
    to_message = np.zeros(len(slots), dtype=np.int64)
    to_message[at] = plan.to_message
    to_message[new] = plan.to_message[after]
    setup = np.concatenate([plan.setup, build.create_account(plan.accounts + 1, OPERATOR, _REASON)])
    limits = _limits(plan, accounts=plan.accounts + 1)
    return dataclasses.replace(_numbered(plan, setup, slots, at, to_message), limits=limits, accounts=plan.accounts + 1)


def short_of_funds(plan: Plan, share: float) -> Plan:
    """Each account is given only ``share`` of the funds with which none of its orders would be refused."""
    setup = plan.setup.copy()
    deposits = setup["type"] == e.DEPOSIT
    setup["qty_lots"][deposits] = np.maximum(1, (setup["qty_lots"][deposits] * share).astype(np.int64))
    return dataclasses.replace(plan, setup=setup)


def over_instruments(plan: Plan, count: int) -> Plan:
    """The orders are dealt out in turn to ``count`` instruments of the same kind: as many books, on as many matchers."""
    first = plan.instruments[0]
    more = tuple(_copy(first, first.index + k) for k in range(1, count))
    setup = np.concatenate([plan.setup, *(build.list_instrument(one, OPERATOR, _REASON) for one in more)])
    slots = plan.commands.copy()
    traded = np.isin(slots["type"], (e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.CANCEL, e.AMEND))
    turn = np.searchsorted(plan.order_ids, slots["order_id"][traded])
    slots["instrument"][traded] = first.index + turn % count
    limits = _limits(plan, instruments=first.index + count - 1, leaves=plan.limits.leaves * count)
    found = _numbered(plan, setup, slots, np.arange(len(slots)), plan.to_message)
    return dataclasses.replace(found, limits=limits, instruments=(*plan.instruments, *more))


def _copy(instrument: Instrument, index: int) -> Instrument:
    fields = {name: getattr(instrument, name) for name in Instrument.__struct_fields__}
    return Instrument(**fields | {"index": index, "symbol": f"{instrument.symbol[:12]}-{index}"})


def _limits(plan: Plan, **sizes: int) -> Limits:
    fields = {name: getattr(plan.limits, name) for name in Limits.__struct_fields__}
    return Limits(**fields | sizes)


def _numbered(plan: Plan, setup: np.ndarray, slots: np.ndarray, at: np.ndarray, to_message: np.ndarray) -> Plan:
    """The plan with these slots, of which ``at`` are its own, numbered behind ``setup``."""
    setup = setup.copy()
    setup["entry_ts_ns"][build.heads(setup)] = plan.setup["entry_ts_ns"][0]
    build.stamp(setup, e.SOURCE_REPLAY, 1)
    before = len(plan.setup) + 1
    first = len(setup) + 1
    moved = build.order_id_of(e.SOURCE_REPLAY, 0)

    def renamed(ids: np.ndarray) -> np.ndarray:
        rows = ids - moved - before
        own = (rows >= 0) & (rows < len(at))
        return np.where(own, moved + first + at[np.where(own, rows, 0)], ids)

    named = np.flatnonzero(np.isin(slots["type"], _NAMES) & build.heads(slots))
    slots["order_id"][named] = renamed(slots["order_id"][named])
    build.stamp(slots, e.SOURCE_REPLAY, first)
    return dataclasses.replace(
        plan,
        setup=setup,
        commands=slots,
        teardown=command_slots(0),
        to_message=to_message,
        order_ids=renamed(plan.order_ids),
    )
