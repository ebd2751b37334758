"""A shard under test: commands in as ``Request``, events out as ``Event``."""

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


def fill_slots(command: np.void, verdict: np.void, seq: int, q: Request) -> None:
    command["seq"] = verdict["seq"] = seq
    for name in ("type", "order_id", "account", "instrument", "side", "tif", "stp"):
        command[name] = getattr(q, name)
    verdict["code"] = e.VERDICT_OK
    verdict["hold"] = q.hold
    # The command's own price and quantity are what the client wrote; only the verdict's count.
    command["price_ticks"] = command["qty_lots"] = 1 << 61
    verdict["price_ticks"] = q.price_ticks
    verdict["qty_lots"] = q.qty_lots
    verdict["flags"] = q.terms * e.JUDGED_TERMS | q.no_take * e.JUDGED_NO_TAKE | q.waits * e.JUDGED_TRIGGER
    verdict["flags"] |= bool(q.session) * e.JUDGED_SESSION
    verdict["flags"] |= q.uncross * e.JUDGED_UNCROSS | q.pegs * e.JUDGED_PEG | bool(q.leg) * e.JUDGED_LEGS
    command["flags"] = q.takes_profit * e.FLAG_TAKE_PROFIT | q.waits * e.FLAG_TRIGGER | q.system * e.FLAG_SYSTEM
    command["trigger_price_ticks"], command["trigger_ref"] = q.trigger, q.ref
    command["offset_kind"], command["sub_account"] = q.offset_kind, q.offset
    command["session"] = q.session
    if q.type == e.CANCEL_ALL:
        command["price_ticks"], command["qty_lots"] = q.sides, q.cause
        command["trigger_price_ticks"] = q.of_session
    if q.type == e.EXT_QUOTES:
        command["price_ticks"], command["qty_lots"] = q.price_ticks, q.qty_lots
        command["trigger_price_ticks"], command["order_id"] = q.ask_price, q.ask_qty
        verdict["price_ticks"], verdict["qty_lots"] = q.order_id, q.ask_hold
    if q.type == e.SET_PROTECTION:
        command["price_ticks"], command["qty_lots"] = q.price_ticks, q.qty_lots
        command["trigger_price_ticks"], command["order_id"] = q.net, q.trades
    command["ts_ns"] = q.ts_ns
    command["display_qty_lots"], command["min_qty_lots"], command["expiry_ts_ns"] = q.display, q.minimum, q.expiry


def event_of(slot: np.void) -> Event:
    flags = int(slot["flags"])
    assert flags in {0, e.EVENT_LAST}
    return Event(
        int(slot["kind"]),
        int(slot["reason"]),
        flags == e.EVENT_LAST,
        int(slot["instrument"]),
        int(slot["order_id"]),
        int(slot["price_ticks"]),
        int(slot["qty_lots"]),
        int(slot["left_lots"]),
        int(slot["taker_left"]),
        int(slot["hold"]),
    )


@entry
def _apply(state, command, verdict, events):
    return match_command(state, command, verdict, events)


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
            slot = slots[position & (len(slots) - 1)]
            assert slot["slot"] == 0
            assert slot["reserved"] == 0
            found.append((int(slot["seq"]), event_of(slot)))
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
        # As the process carries it: another type would be compiled anew, half a minute long.
        self.carried = Bundle(**self.state._asdict())
        join_events(self.carried, self.ring)
        self.command = np.zeros(1, COMMAND_DTYPE)[0]
        self.verdict = np.zeros(1, VERDICT_DTYPE)[0]
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
        fill_slots(self.command, self.verdict, self.seq, q.leg._replace(ts_ns=q.ts_ns))
        # What a leg says of itself, and where; whose it is, is said by the head.
        self.command["type"], self.command["margin_mode"] = e.EXT_LEG, q.leg.type
        self.command["session"] = 0
        self.verdict["flags"] |= e.JUDGED_LEGS
        return self._match(head)

    def _match(self, seq: int) -> list[Event]:
        """Events of the slots at hand, which carry ``seq``."""
        events: list[Event] = []
        done = False
        while not done:
            done = bool(_apply(self.carried, self.command, self.verdict, self.ring))
            publish_events(self.carried, self.ring)
            taken = self.reader.take()
            assert all(told == seq for told, _ in taken)
            assert taken or done, "a pause without progress would never end"
            events += [event for _, event in taken]
            self.pauses += not done
        return events

    def hashes(self) -> dict[str, int]:
        return structure_hashes(self.state)


def listing(instrument: int, k: int = 1, lot_atoms: int = 1) -> Request:
    return Request(e.LIST_INSTRUMENT, instrument=instrument, price_ticks=k, qty_lots=lot_atoms)
