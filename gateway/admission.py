"""Whether a command may be numbered now: the overload contract of every gateway, as a function of numbers.

A number is a promise, so load is refused before it, and a refusal is safe to repeat: nothing was executed. Each
producer has one lane, and a lane is never reordered, because a cancel must not overtake the order that it names. What
keeps cancels quick is therefore that new orders do not queue before them:

* new orders, and whatever else does not make the exchange safer, do not enter the reserved share of a producer's ring
  and tables, so that there is always room for what does;
* new orders are refused while what is before them would take longer than ``queue_target_ms`` to settle.

A cancel is refused only when the ring or table is full to the last slot, and under another name (BUSY).

The order pool has no reserved share: a cancel needs no row of it, and so far there is no order that only reduces a
position. With the flag for it such an order is of the urgent kind here already, and the pool's share comes with it.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from protocol import enums as e
from protocol import reasons
from protocol.instance import Overload


class Kind(enum.Enum):
    """What a command is under load."""

    ORDER = "order"
    """Adds to the work: new orders, and amends, which may trade as new ones do."""
    OTHER = "other"
    """Operators' commands and money: few, so that they queue; they leave the reserved share alone."""
    URGENT = "urgent"
    """Makes the exchange safer: cancels, renewals of what would cancel, exits, freezes and market states. May use all there is."""


_ORDERS: Final = frozenset({e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.AMEND, e.QUOTE})
_URGENT: Final = frozenset({e.CANCEL, e.CANCEL_ALL, e.DEAD_MAN, e.KILL, e.FREEZE, e.HALT, e.SET_STATE})
_NS_PER_MS: Final = 1_000_000


class Queue(NamedTuple):
    """What a new command of one producer finds before it."""

    slots: int
    """Published and not settled."""
    wait_ns: int
    """How long that will take, or how long nothing has been settled, whichever is more."""


class Refusal(NamedTuple):
    """Why a command gets no number now; ``retry_ms`` >= 1 is when to try again."""

    code: int
    retry_ms: int
    detail: str


def kind_of(command_type: int, flags: int) -> Kind:
    """Kind of a command by the type and flags of its head."""
    if command_type in _URGENT:
        return Kind.URGENT
    if command_type in _ORDERS:
        return Kind.URGENT if flags & (e.FLAG_REDUCE_ONLY | e.FLAG_CLOSE_POSITION) else Kind.ORDER
    return Kind.OTHER


def queue(sequenced_seq: int, settled_seq: int, published: int, taken: int, settle_ns: int, still_ns: int = 0) -> Queue:
    """Queue before the next command of a producer.

    Parameters
    ----------
    sequenced_seq, settled_seq : int
        The engine's cursors.
    published, taken : int
        The producer's last number on its ring, and the last one that is sequenced.
    settle_ns : int
        Time for a slot (``protocol.board.SETTLE_NS``).
    still_ns : int
        Time since when nothing was settled although something waited.
    """
    slots = max(0, sequenced_seq - settled_seq) + max(0, published - taken)
    return Queue(slots, max(slots * settle_ns, still_ns) if slots else 0)


def reserved(size: int, rule: Overload) -> int:
    """How many of ``size`` slots or rows new orders leave free; at least one."""
    return -(-size * rule.reserved_percent // 100)


def wanted(kind: Kind, units: int, size: int, rule: Overload) -> int:
    """How many of ``size`` slots or rows must be free for a command that takes ``units``."""
    return units if kind is Kind.URGENT else units + reserved(size, rule)


def full(
    kind: Kind, units: int, free: int, size: int, rule: Overload, what: str = "slots of the ring"
) -> Refusal | None:
    """Why a command that takes ``units`` of a ring or table of ``size`` may not have them, or None.

    ``free`` need be exact below ``wanted(kind, units, size, rule)`` only.
    """
    if free >= wanted(kind, units, size, rule):
        return None
    if kind is Kind.URGENT:
        return Refusal(reasons.BUSY, 1, f"all {size} {what} are taken")
    return Refusal(reasons.OVERLOADED, 1, f"{reserved(size, rule)} of the {size} {what} are kept for cancels")


def late(kind: Kind, before: Queue, rule: Overload) -> Refusal | None:
    """Why a command may not queue behind what is ``before`` it, or None."""
    if kind is not Kind.ORDER or before.wait_ns <= rule.queue_target_ms * _NS_PER_MS:
        return None
    wait_ms = -(-before.wait_ns // _NS_PER_MS)
    target_ms = rule.queue_target_ms
    detail = f"{before.slots} slots wait for about {wait_ms} ms, new orders may for {target_ms} ms"
    return Refusal(reasons.OVERLOADED, wait_ms - target_ms, detail)
