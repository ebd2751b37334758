"""The shard on its rings: batches, pauses, other shards' commands."""

import random

import numpy as np
import pytest

from matcher import state as s
from matcher.events import join_events
from matcher.kernel import EVENTS_AT_ONCE, make_stage, step
from matcher.state import MatcherState
from protocol import enums as e
from protocol import reasons as r
from protocol.records import COMMAND_DTYPE, EVENT_DTYPE, VERDICT_DTYPE
from ringbuf.bundle import Bundle
from ringbuf.ring import Ring, private_ring, publish, published, reader_cursor
from tests.matcher.campaign import LIMITS, MULTIPLIER, Requests
from tests.matcher.driver import EventReader, Shard, fill_leg, fill_slots, hashes_of, listing, new_state, with_seqs
from tests.matcher.invariants import check_state
from tests.matcher.naive_book import Event, NaiveShard, Request

SLOTS = 16


class Pipe:
    """A shard between rings; commands and verdicts are published by hand."""

    def __init__(self, event_slots: int = 8, shard: int = 0, shards: int = 1, start: int = 0) -> None:
        self.state: MatcherState = new_state(LIMITS, shard, shards)
        self.commands: Ring = private_ring(COMMAND_DTYPE, SLOTS, 2, start)
        self.verdicts: Ring = private_ring(VERDICT_DTYPE, SLOTS, 1, start)
        self.events: Ring = private_ring(EVENT_DTYPE, event_slots, 1, 7)
        self.reader = EventReader(self.events)
        join_events(self.state, self.events)
        self.stage = make_stage(Bundle(**self.state._asdict()), self.commands, self.verdicts, self.events, 1, 0)
        self.seq = start

    def room(self) -> int:
        return SLOTS - (self.seq - int(reader_cursor(self.verdicts, 0)))

    def put(self, q: Request, code: int = e.VERDICT_OK) -> None:
        at = self.seq & (SLOTS - 1)
        self.seq += 1
        fill_slots(self.commands.slots[at : at + 1], self.verdicts.slots[at : at + 1], self.seq, q)
        self.verdicts.slots[at]["code"] = code
        if q.leg is not None:
            at = self.seq & (SLOTS - 1)
            self.seq += 1
            fill_leg(self.commands.slots[at : at + 1], self.verdicts.slots[at : at + 1], self.seq, q)
        publish(self.commands, self.seq)

    def judge(self, seq: int | None = None) -> None:
        publish(self.verdicts, self.seq if seq is None else seq)

    def step(self, limit: int = 64) -> int:
        return int(step(self.stage, limit))

    def cursors(self) -> tuple[int, int, int]:
        applied = int(self.state.meta[s.APPLIED_SEQ])
        return int(reader_cursor(self.commands, 1)), int(reader_cursor(self.verdicts, 0)), applied


def buy(order_id: int, price: int = 100, qty: int = 1, instrument: int = 1, account: int = 1) -> Request:
    return Request(e.LIMIT, order_id, account, instrument, e.BUY, price, qty)


def test_idle_step_does_nothing() -> None:
    pipe = Pipe()
    assert pipe.step() == 0
    pipe.put(buy(1))
    assert pipe.step() == 0, "a command without verdict waits"
    pipe.judge()
    assert pipe.step() == 2, "a slot and an event"
    assert (1, 1, 1) == pipe.cursors()
    assert pipe.step() == 0


def test_step_takes_no_more_slots_than_asked() -> None:
    pipe = Pipe()
    for order_id in range(1, 6):
        pipe.put(buy(order_id))
    pipe.judge()
    pipe.step(3)
    assert (3, 3, 3) == pipe.cursors()
    assert [1, 2, 3] == [event.order_id for _, event in pipe.reader.take()]


def test_step_goes_on_from_the_start_of_an_epoch() -> None:
    pipe = Pipe(start=1_000_000)
    pipe.put(buy(1))
    pipe.judge()
    pipe.step()
    assert (1_000_001,) * 3 == pipe.cursors()
    ((seq, event),) = pipe.reader.take()
    assert (1_000_001, 1) == (seq, event.order_id)


def test_slot_of_another_seq_ends_the_process() -> None:
    pipe = Pipe()
    pipe.put(buy(1))
    pipe.judge()
    pipe.verdicts.slots[0]["seq"] = 9
    with pytest.raises(AssertionError, match="the verdict on seq s stands at position s"):
        pipe.step()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (buy(1), r.INSUFFICIENT_FUNDS),
        (buy(1), e.VERDICT_NO_OP),
        (buy(1), e.VERDICT_SKIP),
        (Request(e.DEPOSIT, account=1), e.VERDICT_OK),
        (Request(e.TICK), e.VERDICT_OK),
        (Request(e.EXT_LISTING), e.VERDICT_OK),
        (listing(1, 5), e.VERDICT_OK),
    ],
)
def test_what_does_not_concern_the_book_is_passed_without_a_word(request_: Request, code: int) -> None:
    pipe = Pipe()
    pipe.put(request_, code)
    pipe.judge()
    assert pipe.step() == 1
    assert (1, 1, 1) == pipe.cursors()
    assert pipe.reader.take() == []
    assert pipe.state.meta[s.ORDERS_LIVE] == 0


def test_full_event_ring_pauses_within_a_sweep_and_goes_on() -> None:
    pipe = Pipe(event_slots=EVENTS_AT_ONCE)
    pipe.put(listing(1))
    pipe.judge()
    pipe.step()
    told: list[Event] = []
    for order_id in range(1, 6):
        pipe.put(buy(order_id))
        pipe.judge()
        pipe.step()
        told += [event for _, event in pipe.reader.take()]
    pipe.put(Request(e.LIMIT, 9, 2, 1, e.SELL, 100, 7))
    pipe.put(buy(10))
    pipe.judge()
    before = pipe.cursors()
    assert pipe.step() == 2, "two events and no slot"
    assert pipe.step() == 0, "no room, no work"
    assert before == pipe.cursors(), "the command stays until it is done"
    sweep = [event for _, event in pipe.reader.take()]
    while pipe.cursors() == before:
        assert pipe.step() > 0
        sweep += [event for _, event in pipe.reader.take()]
    kinds = [e.EV_FILL] * 5 + [e.EV_RESTED]
    assert kinds == [event.kind for event in sweep][:6]
    assert [1, 2, 3, 4, 5, 9] == [event.order_id for event in sweep][:6]
    check_state(pipe.state)


def test_full_event_ring_pauses_within_a_cancel_all() -> None:
    pipe = Pipe(event_slots=2)
    for order_id in (5, 3, 8, 1, 9):
        pipe.put(buy(order_id, price=order_id))
        pipe.judge()
        pipe.step()
        pipe.reader.take()
    pipe.put(Request(e.CANCEL_ALL, account=1))
    pipe.judge()
    told: list[Event] = []
    while pipe.step() or pipe.cursors()[0] < pipe.seq:
        told += [event for _, event in pipe.reader.take()]
    assert [1, 3, 5, 8, 9] == [event.order_id for event in told]
    assert [False] * 4 + [True] == [event.last for event in told]
    check_state(pipe.state)


def requests_for(seed: int, commands: int) -> list[Request]:
    twin = NaiveShard(LIMITS.orders_max, LIMITS.leaves_max)
    twin.multipliers = dict.fromkeys((1, 2, 3), MULTIPLIER)
    source = Requests(seed, "narrow", twin)
    found = [listing(instrument, MULTIPLIER) for instrument in (1, 2, 3)]
    for _ in range(commands):
        found.append(next(source))
        twin.apply(found[-1])
    return found


def drive(pipe: Pipe, requests: list[Request], rng: random.Random) -> list[tuple[int, Event]]:
    """Feed, judge, step and read in random small portions."""
    told: list[tuple[int, Event]] = []
    waiting = list(reversed(requests))
    while waiting or pipe.cursors()[0] < pipe.seq:
        for _ in range(rng.randrange(min(pipe.room() // 2, len(waiting)) + 1)):
            pipe.put(waiting.pop())
        pipe.judge(rng.randrange(int(published(pipe.verdicts)), pipe.seq + 1))
        pipe.step(rng.randrange(1, 20))
        if rng.random() < 0.6:
            told += pipe.reader.take()
    return told + pipe.reader.take()


def checkpoint_of(state: MatcherState) -> tuple[int, int, int]:
    """Seq, and the hashes of events and of books, that the shard has published."""
    words = (s.CHECKPOINT_SEQ, s.CHECKPOINT_EVENT_HASH, s.CHECKPOINT_BOOKS_HASH)
    seq, events, books = (int(state.meta[word]) for word in words)
    return seq, events % (1 << 64), books % (1 << 64)


def hashes_as_published(state: MatcherState) -> tuple[int, int]:
    hashes = hashes_of(state)
    return hashes["events"], hashes["books"]


def test_checkpoint_publishes_events_and_books_as_of_its_place_within_a_batch() -> None:
    settled = Pipe(event_slots=32)
    at_once = Pipe(event_slots=32)
    requests = [listing(1), buy(1), buy(2), buy(3, price=101), Request(e.LIMIT, 4, 2, 1, e.SELL, 101, 3)]
    for q in requests:
        for pipe in (settled, at_once):
            pipe.put(q)
    settled.judge()
    settled.step()
    due = hashes_as_published(settled.state)
    for q in (Request(e.CHECKPOINT), buy(5), Request(e.CANCEL, 1, 1, 1)):
        at_once.put(q)
    at_once.judge()
    assert (0, 0, 0) == checkpoint_of(at_once.state)
    at_once.step()
    assert (6, *due) == checkpoint_of(at_once.state)
    assert all(now != then for now, then in zip(hashes_as_published(at_once.state), due, strict=True))
    at_once.put(Request(e.CHECKPOINT))
    at_once.judge()
    assert 1 == at_once.step(), "a checkpoint says nothing"
    assert (9, *hashes_as_published(at_once.state)) == checkpoint_of(at_once.state)


def test_checkpoint_behind_a_paused_command_waits_for_its_end() -> None:
    pipe = Pipe(event_slots=EVENTS_AT_ONCE)
    for order_id in range(1, 6):
        pipe.put(buy(order_id, price=order_id))
        pipe.judge()
        pipe.step()
        pipe.reader.take()
    pipe.put(Request(e.CANCEL_ALL, account=1))
    pipe.put(Request(e.CHECKPOINT))
    pipe.judge()
    pipe.step()
    assert (0, 0, 0) == checkpoint_of(pipe.state)
    while pipe.cursors()[0] < pipe.seq:
        pipe.reader.take()
        pipe.step()
    assert (7, *hashes_as_published(pipe.state)) == checkpoint_of(pipe.state)


@pytest.mark.parametrize("seed", [1, 2])
def test_checkpoints_of_shards_add_up_to_that_of_one(seed: int) -> None:
    requests = requests_for(seed, 400)
    for at in (400, 300, 100):
        requests.insert(at, Request(e.CHECKPOINT))
    rng = random.Random(seed)
    one = Pipe(event_slots=64)
    shards = [Pipe(64, shard, 3) for shard in range(3)]
    for pipe in (one, *shards):
        drive(pipe, requests, rng)
    seqs, *hashes = zip(*(checkpoint_of(pipe.state) for pipe in shards), strict=True)
    last = max(seq for seq, q in with_seqs(requests) if q.type == e.CHECKPOINT)
    assert {last} == set(seqs)
    assert checkpoint_of(one.state) == (last, *(sum(parts) % (1 << 64) for parts in hashes))


@pytest.mark.parametrize("seed", [1, 2])
def test_portions_make_no_difference(seed: int) -> None:
    requests = requests_for(seed, 600)
    shard = Shard(LIMITS, list_k=0)
    expected = [(seq, event) for seq, q in with_seqs(requests) for event in shard.apply(q)]
    for event_slots in (4, 8, 256):
        pipe = Pipe(event_slots)
        assert expected == drive(pipe, requests, random.Random(seed)), f"SEED={seed} event slots {event_slots}"
        assert shard.hashes() == hashes_of(pipe.state)
        check_state(pipe.state)


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_together_say_what_one_says(shards: int) -> None:
    requests = requests_for(3, 600)
    alone = Pipe()
    expected = drive(alone, requests, random.Random(1))
    pipes = [Pipe(4, k, shards) for k in range(shards)]
    told = [drive(pipe, requests, random.Random(k)) for k, pipe in enumerate(pipes)]
    of_all = {seq: q.type for seq, q in with_seqs(requests) if q.type in {e.CANCEL_ALL, e.KILL, e.EXPIRE}}

    def place(seq: int, event: Event, i: int) -> tuple[int, ...]:
        """What settling goes by: what expires by time, then age, what is cancelled by instrument; then auctions, and last pegs."""
        if seq not in of_all:
            return (seq, i)
        if event.kind == e.EV_PEGGED or event.reason == r.BY_PEG:
            return (seq, 1 << 63, event.instrument, i)
        if event.kind == e.EV_AUCTION:
            return (seq, (1 << 63) - 1, event.instrument, i)
        if of_all[seq] == e.EXPIRE:
            return (seq, event.left_lots, event.taker_left, i)
        return (seq, event.instrument, i)

    merged = sorted(
        ((place(seq, event, i), event) for events in told for i, (seq, event) in enumerate(events)),
        key=lambda row: row[0],
    )

    def essence(seq: int, event: Event) -> tuple[int, Event]:
        return seq, event._replace(last=False)

    assert [essence(seq, event) for seq, event in expected if event.kind != e.EV_NOTHING] == [
        essence(at[0], event) for at, event in merged if event.kind != e.EV_NOTHING
    ]
    total = {"books": 0, "events": 0}
    for pipe in pipes:
        check_state(pipe.state)
        assert not pipe.state.meta[s.STAGE]
        for name, value in hashes_of(pipe.state).items():
            total[name] = (total[name] + value) % 2**64
    assert hashes_of(alone.state) == total


def test_cancel_all_by_account_is_answered_by_every_shard_and_by_instrument_by_its_own() -> None:
    pipes = [Pipe(4, k, 2) for k in range(2)]
    said = []
    for pipe in pipes:
        pipe.put(Request(e.CANCEL_ALL, account=1))
        pipe.put(Request(e.CANCEL_ALL, account=1, instrument=3))
        pipe.judge()
        pipe.step()
        said.append([(seq, event.kind, event.last) for seq, event in pipe.reader.take()])
    nothing = (e.EV_NOTHING, True)
    assert [[(1, *nothing)], [(1, *nothing), (2, *nothing)]] == said


def test_second_line_of_a_command_is_not_read() -> None:
    first = Pipe()
    second = Pipe()
    second.commands.slots.view(np.uint8).reshape(SLOTS, 128)[:, 64:] = 0xFF
    for q in requests_for(5, 10):
        for pipe in (first, second):
            pipe.put(q)
            pipe.judge()
            pipe.step()
            pipe.reader.take()
    assert hashes_of(first.state) == hashes_of(second.state)
