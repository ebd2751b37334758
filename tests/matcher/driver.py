"""A shard under test: commands in as ``Request``, events out as ``Event``."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from matcher.events import join_events, publish_events
from matcher.hashes import structure_hashes
from matcher.kernel import match_command
from matcher.state import MatcherLimits, MatcherState, make_state, reset, state_spec
from protocol import enums as e
from protocol.jit import entry
from protocol.records import COMMAND_DTYPE, EVENT_DTYPE, VERDICT_DTYPE
from ringbuf.arena import private_arena
from ringbuf.bundle import Bundle
from ringbuf.ring import Ring, advance, private_ring
from tests.matcher.naive_book import Event, Request

LIMITS = MatcherLimits(orders_max=512, leaves_max=256, instruments_max=8, accounts_max=16)


def new_state(limits: MatcherLimits = LIMITS, shard: int = 0, shards: int = 1) -> MatcherState:
    state = make_state(private_arena(state_spec(limits)))
    reset(state, shard, shards)
    return state


def carried(state: MatcherState) -> Any:
    """As the process carries it: for another type every kernel would be compiled anew, half a minute long."""
    return Bundle(**state._asdict())


def hashes_of(state: MatcherState) -> dict[str, int]:
    """The hashes of a shard by structure."""
    return structure_hashes(carried(state))


def warm() -> None:
    """Compile the kernels of this module while nobody waits for them."""
    Shard(ring_slots=2).apply(Request(e.EXPIRE))


VERDICT_FLAGS = {
    "terms": e.JUDGED_TERMS,
    "no_take": e.JUDGED_NO_TAKE,
    "waits": e.JUDGED_TRIGGER,
    "uncross": e.JUDGED_UNCROSS,
    "pegs": e.JUDGED_PEG,
}


def fill_slots(command: np.ndarray, verdict: np.ndarray, seq: int, q: Request) -> None:
    """Write a command and its verdict; a field at a time would take longer than the twin."""
    # The command's own price and quantity are what the client wrote; only the verdict's count.
    price_ticks = qty_lots = 1 << 61
    trigger, order_id = q.trigger, q.order_id
    judged = q.price_ticks, q.qty_lots
    if q.type == e.CANCEL_ALL:
        price_ticks, qty_lots, trigger = q.sides, q.cause, q.of_session
    elif q.type == e.EXT_QUOTES:
        price_ticks, qty_lots, trigger, order_id = q.price_ticks, q.qty_lots, q.ask_price, q.ask_qty
        judged = q.order_id, q.ask_hold
    elif q.type == e.SET_PROTECTION:
        price_ticks, qty_lots, trigger, order_id = q.price_ticks, q.qty_lots, q.net, q.trades
    flags = q.takes_profit * e.FLAG_TAKE_PROFIT | q.waits * e.FLAG_TRIGGER | q.system * e.FLAG_SYSTEM
    command[0] = (
        *(seq, q.ts_ns, q.type, q.side, q.tif, q.stp, flags, q.account, q.instrument, order_id),
        *(price_ticks, qty_lots, trigger, 0, 0, q.ref, 0, q.offset_kind, q.session, 0, 0, q.offset, 0, 0, 0),
        *(q.display, q.minimum, q.expiry),
    )
    flags = bool(q.session) * e.JUDGED_SESSION | bool(q.leg) * e.JUDGED_LEGS
    flags |= sum(bit for name, bit in VERDICT_FLAGS.items() if getattr(q, name))
    verdict[0] = (seq, e.VERDICT_OK, flags, q.hold, *judged)


def fill_leg(command: np.ndarray, verdict: np.ndarray, seq: int, q: Request) -> None:
    """Write the slot of the second of two linked orders: what its session is, is said by the first."""
    assert q.leg is not None
    fill_slots(command, verdict, seq, q.leg._replace(ts_ns=q.ts_ns))
    command["type"], command["margin_mode"], command["session"] = e.EXT_LEG, q.leg.type, 0
    verdict["flags"] |= e.JUDGED_LEGS


def with_seqs(requests: list[Request]) -> Iterator[tuple[int, Request]]:
    """Requests with the seqs of their heads."""
    seq = 1
    for q in requests:
        yield seq, q
        seq += 1 if q.leg is None else 2


def event_of(slot: tuple[int, ...]) -> Event:
    _, kind, reason, shard, flags, instrument, order_id, price, qty, left, taker_left, hold, reserved = slot
    assert flags in {0, e.EVENT_LAST}
    assert shard == reserved == 0
    return Event(kind, reason, flags == e.EVENT_LAST, instrument, order_id, price, qty, left, taker_left, hold)


@entry
def _apply(state, command, verdict, events):
    done = match_command(state, command[0], verdict[0], events)
    publish_events(state, events)
    return done


class EventReader:
    """Reader 0 of an event ring."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.position = int(ring.words[32])

    def take(self) -> list[tuple[int, Event]]:
        """(seq, event) of all events published since the last call."""
        last = int(self.ring.words[32])
        slots = self.ring.slots
        found = []
        for position in range(self.position, last):
            slot = slots[position & (len(slots) - 1)].item()
            found.append((slot[0], event_of(slot)))
        self.position = last
        advance(self.ring, 0, last)
        return found


class Shard:
    """A shard driven command by command through ``match_command``, with an event ring of any size."""

    def __init__(
        self, limits: MatcherLimits = LIMITS, ring_slots: int = 64, shard: int = 0, shards: int = 1, *, list_k: int = 1
    ) -> None:
        self.state = new_state(limits, shard, shards)
        self.ring = private_ring(EVENT_DTYPE, ring_slots, 1)
        # What a slot held before must not shine through.
        self.ring.slots.view(np.uint8)[:] = 0xAB
        self.reader = EventReader(self.ring)
        self.carried = carried(self.state)
        join_events(self.carried, self.ring)
        self.command = np.zeros(1, COMMAND_DTYPE)
        self.verdict = np.zeros(1, VERDICT_DTYPE)
        self.seq = 0
        self.pauses = 0
        if list_k:
            for instrument in range(1, limits.instruments_max + 1):
                assert self.apply(listing(instrument, list_k)) == []

    def apply(self, q: Request) -> list[Event]:
        self.seq += 1
        fill_slots(self.command, self.verdict, self.seq, q)
        if q.leg is None:
            return self._match(self.seq)
        assert self._match(self.seq) == []
        head = self.seq
        self.seq += 1
        fill_leg(self.command, self.verdict, self.seq, q)
        return self._match(head)

    def _match(self, seq: int) -> list[Event]:
        """Events of the slots at hand, which carry ``seq``."""
        events: list[Event] = []
        done = False
        while not done:
            done = bool(_apply(self.carried, self.command, self.verdict, self.ring))
            taken = self.reader.take()
            assert all(told == seq for told, _ in taken)
            assert taken or done, "a pause without progress would never end"
            events += [event for _, event in taken]
            self.pauses += not done
        return events

    def hashes(self) -> dict[str, int]:
        return hashes_of(self.state)


def listing(instrument: int, k: int = 1, lot_atoms: int = 1) -> Request:
    return Request(e.LIST_INSTRUMENT, instrument=instrument, price_ticks=k, qty_lots=lot_atoms)
