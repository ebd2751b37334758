import numpy as np

from gateway.outcomes import OutcomeFollower
from protocol import board as lines
from protocol import enums as e
from protocol.records import OUTCOME_DTYPE
from ringbuf import Ring, claim, private_ring
from tests.gateway.support import feed, outcome, running_board


def make_ring(capacity: int = 16, start: int = 0) -> Ring:
    return private_ring(OUTCOME_DTYPE, capacity, 1, start, gating=False)


def make_follower(ring: Ring, board: np.ndarray, **options: object) -> OutcomeFollower:
    return OutcomeFollower(ring, board, e.SOURCE_CONTROL, 1, **options)  # type: ignore[arg-type]


def numbers(outcomes: np.ndarray) -> list[tuple[int, int]]:
    return [(int(row["seq"]), int(row["index"])) for row in outcomes]


def test_nothing_is_released_before_the_journal_has_it() -> None:
    ring, board = make_ring(), running_board()
    follower = make_follower(ring, board)
    feed(ring, outcome(5), outcome(6, 0), outcome(6, 1), outcome(8))
    board[lines.DURABLE_SEQ] = 4
    assert [] == numbers(follower.poll().outcomes)
    board[lines.DURABLE_SEQ] = 6
    assert [(5, 0), (6, 0), (6, 1)] == numbers(follower.poll().outcomes)
    assert 1 == follower.held
    board[lines.DURABLE_SEQ] = 8
    assert [(8, 0)] == numbers(follower.poll().outcomes)


def test_async_durability_releases_at_once() -> None:
    ring, board = make_ring(), running_board()
    follower = make_follower(ring, board, wait_durable=False)
    feed(ring, outcome(5))
    assert [(5, 0)] == numbers(follower.poll().outcomes)


def test_only_own_commands_own_orders_and_wanted_accounts_are_kept() -> None:
    ring, board = make_ring(), running_board()
    accounts = np.zeros(10, dtype=np.uint8)
    accounts[4] = 1
    follower = make_follower(ring, board, accounts=accounts)
    board[lines.DURABLE_SEQ] = 100
    own_order = e.SOURCE_CONTROL << e.ORDER_ID_SOURCE_SHIFT | 9
    feed(
        ring,
        outcome(1, source=e.SOURCE_BOTS),
        outcome(2, source=e.SOURCE_BOTS, order_id=own_order),
        outcome(3, source=e.SOURCE_BOTS, account=4),
        outcome(4, source=e.SOURCE_BOTS, account=5),
        outcome(5, source=e.SOURCE_BOTS, account=400),
        outcome(6),
    )
    assert [2, 3, 6] == [seq for seq, _ in numbers(follower.poll().outcomes)]


def test_a_continuation_goes_with_its_outcome() -> None:
    ring, board = make_ring(), running_board()
    follower = make_follower(ring, board)
    board[lines.DURABLE_SEQ] = 100
    feed(
        ring,
        outcome(1, 0, flags=e.OUTCOME_MORE),
        outcome(1, 0, source=99),
        outcome(2, 0, source=99, flags=e.OUTCOME_MORE),
        outcome(2, 0),
        outcome(3, 0),
    )
    assert [1, 1, 3] == [seq for seq, _ in numbers(follower.poll().outcomes)]


def test_a_lapped_reader_says_so_and_goes_on_from_the_present() -> None:
    ring, board = make_ring(8), running_board()
    follower = make_follower(ring, board)
    board[lines.DURABLE_SEQ] = 1000
    feed(ring, outcome(1))
    feed(ring, *[outcome(seq) for seq in range(2, 12)])
    released = follower.poll()
    assert released.lost
    assert 0 == len(released.outcomes)
    assert 1 == follower.lapped
    feed(ring, outcome(12))
    assert [(12, 0)] == numbers(follower.poll().outcomes)
    assert not follower.poll().lost


def test_a_slot_that_is_being_overwritten_is_not_used() -> None:
    ring, board = make_ring(8), running_board()
    follower = make_follower(ring, board)
    board[lines.DURABLE_SEQ] = 1000
    feed(ring, *[outcome(seq) for seq in range(1, 9)])
    claim(ring, 9)
    released = follower.poll()
    assert released.lost
    assert 0 == len(released.outcomes)


def test_a_full_buffer_pauses_reading_and_loses_nothing(monkeypatch) -> None:
    monkeypatch.setattr("gateway.outcomes.HELD_MAX", 4)
    ring, board = make_ring(16), running_board()
    follower = make_follower(ring, board)
    feed(ring, *[outcome(seq) for seq in range(1, 11)])
    follower.poll()
    assert 4 == follower.held
    board[lines.DURABLE_SEQ] = 10
    seen: list[tuple[int, int]] = []
    for _ in range(4):
        seen += numbers(follower.poll().outcomes)
    assert [(seq, 0) for seq in range(1, 11)] == seen


def test_the_next_epochs_durable_cursor_releases_nothing_of_the_last() -> None:
    ring, board = make_ring(), running_board()
    follower = make_follower(ring, board)
    feed(ring, outcome(5))
    follower.poll()
    board[lines.ENGINE_STATE] = lines.ENGINE_RECOVERING
    board[lines.DURABLE_SEQ] = 9
    assert [] == numbers(follower.poll().outcomes)
    board[lines.EPOCH] = 2
    board[lines.ENGINE_STATE] = lines.ENGINE_RUNNING
    assert [] == numbers(follower.poll().outcomes)


def test_a_new_epoch_goes_on_after_the_last_released_outcome() -> None:
    ring, board = make_ring(), running_board()
    follower = make_follower(ring, board)
    feed(ring, outcome(5, 0), outcome(5, 1), outcome(6, 0, price_ticks=1))
    board[lines.DURABLE_SEQ] = 5
    assert [(5, 0), (5, 1)] == numbers(follower.poll().outcomes)
    again = make_ring(16, start=40)
    feed(again, outcome(4), outcome(5, 0), outcome(5, 1), outcome(6, 0, price_ticks=2), outcome(7))
    board[lines.EPOCH], board[lines.DURABLE_SEQ] = 2, 7
    assert follower.change_epoch(again, 2, 5, 4)
    released = follower.poll().outcomes
    assert [(6, 0), (7, 0)] == numbers(released)
    assert 2 == released[0]["price_ticks"]


def test_a_new_epoch_that_no_longer_holds_what_is_waited_for_counts_as_a_lap() -> None:
    ring, board = make_ring(), running_board()
    follower = make_follower(ring, board)
    again = make_ring(16, start=40)
    feed(again, outcome(30), outcome(31))
    assert not follower.change_epoch(again, 2, 31, 4)
    assert 1 == follower.lapped
    assert follower.change_epoch(again, 2, 31, 31)


def test_a_new_epoch_whose_own_outcomes_were_overwritten_before_it_was_entered_counts_as_a_lap() -> None:
    """Seed 1135 of the simulator: the answers to commands sent before the crash were gone, and nobody was told."""
    ring, board = make_ring(), running_board()
    follower = make_follower(ring, board)
    again = make_ring(4, start=40)
    feed(again, *(outcome(31 + n) for n in range(6)))
    assert not follower.change_epoch(again, 2, 31, 31)
    assert 1 == follower.lapped


def test_numbers_given_anew_after_async_losses_are_not_skipped() -> None:
    ring, board = make_ring(), running_board()
    follower = make_follower(ring, board, wait_durable=False)
    feed(ring, outcome(5), outcome(6), outcome(7))
    assert 3 == len(follower.poll().outcomes)
    again = make_ring()
    feed(again, outcome(5), outcome(6, price_ticks=9))
    board[lines.EPOCH] = 2
    assert follower.change_epoch(again, 2, 5, 4)
    assert [(6, 0)] == numbers(follower.poll().outcomes)
