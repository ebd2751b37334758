"""Commands that a producer links are sequenced without anything in between."""

import numpy as np
import pytest

from protocol import build, codec
from protocol import enums as e
from protocol.records import COMMAND_DTYPE, command_slots
from ringbuf.ring import private_ring, publish
from sequencer import core
from tests.sequencer.test_core import SECOND_NS, SOURCE, Bench, cancel, timer

OTHER = 9


def linked(count: int) -> np.ndarray:
    return build.batch([cancel() for _ in range(count)])


def test_batch_is_taken_whole_although_the_limit_is_reached_within() -> None:
    bench = Bench()
    bench.send(cancel(), linked(3), cancel())
    assert [1, 3, 1] == [bench.take(limit=1) for _ in range(3)]


@pytest.mark.parametrize("first", [0, 1])
def test_commands_of_two_producers_do_not_mix_within_batches(first: int) -> None:
    bench = Bench(commands=512)
    ring = private_ring(COMMAND_DTYPE, 256, start=0)
    lane = core.make_lane(OTHER, ring)
    bench.stage = core.make_stage(bench.state, bench.commands, [bench.lane, lane], bench.board, bench.clock)
    bench.stage.turns[1] = first
    sent = 0
    for count in (1, 4, 2):
        bench.send(linked(count))
        slots = build.stamp(np.concatenate([linked(count), timer(1, SECOND_NS)]), OTHER, sent + 1)
        ring.slots[sent : sent + len(slots)] = slots
        sent += len(slots)
    publish(ring, sent)
    while bench.take(limit=1):
        pass
    read = bench.read()
    ended = np.flatnonzero((read["flags"] & (e.FLAG_MORE | e.FLAG_BATCH)) == 0) + 1
    heads = build.heads(read)
    assert 7 + 7 + 6 == len(read)
    sources = []
    for start, end in zip([0, *ended[:-1]], ended, strict=True):
        sources.append(set(read["source"][start:end][heads[start:end]].tolist()))
    assert {1} == {len(one) for one in sources}
    assert {SOURCE, OTHER} == set().union(*sources[:2]), "the producers were served in turn"


def test_no_clock_tick_comes_into_a_batch_and_all_of_it_has_one_time() -> None:
    bench = Bench()
    bench.send(timer(1, SECOND_NS))
    bench.take(now_ns=1)
    early, late = cancel(entry_ts_ns=SECOND_NS - 1), cancel(entry_ts_ns=5 * SECOND_NS)
    bench.send(build.batch([early, late, late]))
    bench.take(clock=e.CLOCK_VIRTUAL)
    bench.send(cancel(entry_ts_ns=5 * SECOND_NS))
    bench.take(clock=e.CLOCK_VIRTUAL)
    read = bench.read()[2:]
    assert [e.CANCEL] * 3 + [e.TICK] * 5 + [e.CANCEL] == read["type"].tolist()
    assert [SECOND_NS - 1] * 3 == read["ts_ns"][:3].tolist()


def test_batch_that_does_not_fit_waits_whole() -> None:
    bench = Bench(commands=4)
    bench.send(cancel(), cancel(), linked(3))
    assert [2, 0] == [bench.take(), bench.take()]


def test_link_to_a_command_that_is_not_there_is_cut() -> None:
    bench = Bench()
    bench.send(linked(2))
    bench.ingress.slots["flags"][1] |= e.FLAG_BATCH
    bench.take()
    assert [e.FLAG_BATCH, 0] == bench.read()["flags"].tolist()


def test_longer_batch_than_a_group_may_be_is_divided_between_two_commands() -> None:
    bench = Bench(commands=512)
    bench.send(*[cancel() for _ in range(200)])
    bench.ingress.slots["flags"][:199] |= e.FLAG_BATCH
    assert [128, 72] == [bench.take(limit=1), bench.take(limit=1)]
    assert [127, 199] == np.flatnonzero(bench.read()["flags"] == 0).tolist()


def test_batch_of_nothing_or_of_too_much_is_not_built() -> None:
    for groups in ([], [cancel() for _ in range(129)]):
        with pytest.raises(ValueError, match="1 to 128"):
            build.batch(groups)


def test_batch_without_its_end_is_not_numbered() -> None:
    with pytest.raises(ValueError, match="goes on"):
        build.stamp(linked(2)[:1], SOURCE, 1)


def test_journal_does_not_divide_a_batch() -> None:
    slots = command_slots(5)
    slots["seq"], slots["type"], slots["ts_ns"] = np.arange(1, 6), e.CANCEL, 7
    slots["flags"][1:3] = e.FLAG_BATCH
    out = np.zeros(256, dtype=np.int64)
    words = codec.as_words(slots)
    assert 1 == codec.encode_span(words, 0, -1, 3, 1, out, 0)[0], "as much as is whole"
    assert 4 == codec.encode_span(words, 0, -1, 4, 1, out, 0)[0]
    size = codec.encode(words, 5, out, 0)
    back = command_slots(5)
    assert 5 == codec.decode(out, size, codec.as_words(back), 1, 0)
    assert slots.tobytes() == back.tobytes()
