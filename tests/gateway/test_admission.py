"""The overload contract as a function of numbers, and as a property of a lane that orders and cancels share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import Kind, Queue, full, kind_of, late, queue, reserved, wanted
from gateway.lane import ProducerLane
from protocol import board as lines
from protocol import enums as e
from protocol import reasons
from protocol.instance import Overload
from protocol.readers import refused_word
from protocol.records import COMMAND_DTYPE
from ringbuf import advance, private_ring, publish, published, reader_cursor

MS = 1_000_000
RULES = st.builds(Overload, st.integers(1, 90), st.integers(1, 60_000))
KINDS = st.sampled_from(Kind)
SIZES = st.integers(0, 17).map(lambda power: 1 << power)


@pytest.mark.parametrize(
    ("command_type", "flags", "kind"),
    [
        (e.LIMIT, 0, Kind.ORDER),
        (e.MARKET, e.FLAG_MORE, Kind.ORDER),
        (e.MARKET_AMOUNT, 0, Kind.ORDER),
        (e.AMEND, 0, Kind.ORDER),
        (e.LIMIT, e.FLAG_REDUCE_ONLY, Kind.URGENT),
        (e.MARKET, e.FLAG_CLOSE_POSITION | e.FLAG_MORE, Kind.URGENT),
        (e.CANCEL, 0, Kind.URGENT),
        (e.CANCEL_ALL, e.FLAG_MORE, Kind.URGENT),
        (e.FREEZE, 0, Kind.URGENT),
        (e.HALT, 0, Kind.URGENT),
        (e.DEPOSIT, e.FLAG_REDUCE_ONLY, Kind.OTHER),
        (e.RESUME, 0, Kind.OTHER),
    ],
)
def test_kind_of_a_command(command_type: int, flags: int, kind: Kind) -> None:
    assert kind is kind_of(command_type, flags)


@given(KINDS, st.integers(1, 128), st.integers(0, 1 << 17), SIZES, RULES)
def test_what_is_refused_for_room_would_have_entered_the_share_or_does_not_fit(
    kind: Kind, units: int, free: int, size: int, rule: Overload
) -> None:
    refused = full(kind, units, min(free, size), size, rule)
    left = min(free, size) - units
    if kind is Kind.URGENT:
        assert (left < 0) == (refused is not None)
        assert refused is None or refused.code == reasons.BUSY
    else:
        assert (left < reserved(size, rule)) == (refused is not None)
        assert refused is None or refused.code == reasons.OVERLOADED
    assert refused is None or refused.retry_ms >= 1


@given(KINDS, st.integers(0, 1 << 20), st.integers(0, 10**12), RULES)
def test_only_orders_are_refused_for_the_queue_and_none_below_the_target(
    kind: Kind, slots: int, wait_ns: int, rule: Overload
) -> None:
    refused = late(kind, Queue(slots, wait_ns), rule)
    assert (kind is Kind.ORDER and wait_ns > rule.queue_target_ms * MS) == (refused is not None)
    if refused is not None:
        assert reasons.OVERLOADED == refused.code
        assert 0 <= refused.retry_ms * MS - (wait_ns - rule.queue_target_ms * MS) < MS


@given(*[st.integers(0, 1 << 40)] * 4, st.integers(0, MS), st.integers(0, 10**12))
def test_idle_lane_has_no_queue_and_a_longer_one_never_means_less(
    sequenced: int, settled: int, published_number: int, taken: int, settle_ns: int, still_ns: int
) -> None:
    found = queue(sequenced, settled, published_number, taken, settle_ns, still_ns)
    assert found.slots >= 0
    if found.slots == 0:
        assert 0 == found.wait_ns
    more = queue(sequenced + 1, settled, published_number + 1, taken, settle_ns, still_ns)
    assert more.slots >= found.slots
    assert more.wait_ns >= found.wait_ns
    assert (0, 0) == queue(sequenced, sequenced, taken, taken, settle_ns, still_ns)


@given(KINDS, st.integers(1, 128), SIZES, RULES)
def test_share_is_a_part_of_the_ring(kind: Kind, units: int, size: int, rule: Overload) -> None:
    assert 0 < reserved(size, rule) <= size
    assert 0 <= wanted(kind, units, size, rule) - units <= reserved(size, rule)


STEPS = st.tuples(
    st.sampled_from(("order", "cancel", "other", "take", "settle", "durable")), st.integers(1, 8), st.integers(0, 30)
)


@given(st.lists(STEPS, max_size=120), st.integers(1, 90), st.integers(0, 20 * MS))
def test_whatever_happens_cancels_find_room_that_orders_left_and_numbers_stay_gapless(
    steps: list[tuple[str, int, int]], percent: int, settle_ns: int
) -> None:
    ring, board, rule = private_ring(COMMAND_DTYPE, 64), np.zeros(lines.LINES * 16, dtype=np.int64), Overload(percent)
    lane = ProducerLane(ring, board, e.SOURCE_CONTROL, rule)
    board[lines.SETTLE_NS] = settle_ns
    taken_word = lines.LANE_SEQUENCED + e.SOURCE_CONTROL
    kinds = {"order": Kind.ORDER, "cancel": Kind.URGENT, "other": Kind.OTHER}
    now_ns = refused_orders = 0
    for what, slots, later_ms in steps:
        now_ns += later_ms * MS
        before, last = lane.before(now_ns), int(published(ring))
        if what == "take":
            board[lines.SEQUENCED_SEQ] += min(slots, last - board[taken_word])
            board[taken_word] += min(slots, last - board[taken_word])
        elif what == "settle":
            board[lines.SETTLED_SEQ] += min(slots, board[lines.SEQUENCED_SEQ] - board[lines.SETTLED_SEQ])
        elif what == "durable":
            advance(ring, 0, min(int(board[taken_word]), int(reader_cursor(ring, 0)) + slots))
        else:
            free = 64 - (last - int(reader_cursor(ring, 0)))
            refused = lane.refusal(kinds[what], slots, now_ns)
            assert last + 1 == lane.next_number, "asking takes no number"
            if refused is None:
                publish(ring, last + slots)
                assert what == "cancel" or free - slots >= reserved(64, rule)
                assert what != "order" or before.wait_ns <= rule.queue_target_ms * MS
            elif what == "cancel":
                assert (reasons.BUSY, True) == (refused.code, free < slots)
            else:
                assert reasons.OVERLOADED == refused.code
                refused_orders += what == "order"
        assert last - int(reader_cursor(ring, 0)) <= 64
    assert refused_orders == board[refused_word(lines.LINE_CONTROL)]
