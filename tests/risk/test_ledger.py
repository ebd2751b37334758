"""Rows of the ledger against dicts, under random operations on tables whose keys collide."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from numba import njit

from protocol.instance import Limits
from ringbuf.arena import private_arena
from ringbuf.bundle import Bundle
from ringbuf.idtable import id_shift
from risk import ledger
from risk import state as s

ROWS = 12
FIND, TAKE, DROP = 0, 1, 2


def empty_state() -> Bundle:
    limits = Limits(
        accounts=4, assets=3, instruments=2, orders=ROWS, leaves=4, withdrawal_holds=ROWS, outbox=4, timers=1
    )
    state = s.make_state(private_arena(s.state_spec(limits, 256)))
    s.reset(state, limits)
    return state


@njit
def do_holds(state, operations, out):
    """Operations int64[n, 2]: what, order id."""
    for n in range(len(operations)):
        what = operations[n, 0]
        key = operations[n, 1]
        if what == FIND:
            out[n] = ledger.find_hold(state, key)
        elif what == TAKE:
            out[n] = ledger.take_hold(state, key) if ledger.hold_row_free(state) else -2
        else:
            hold = ledger.find_hold(state, key)
            out[n] = hold
            if hold >= 0:
                ledger.drop_hold(state, hold)


@njit
def do_withdrawals(state, operations, out):
    """Operations int64[n, 2]; account, asset, amount and seq follow from the id.

    FIND gives the amount, -2 where the row is not the id's.
    """
    for n in range(len(operations)):
        key = operations[n, 1]
        position = ledger.find_withdrawal(state, key)
        out[n] = position
        if operations[n, 0] == TAKE:
            ledger.add_withdrawal(state, key, key % 4, key % 3, key * 7, key + 1)
        elif operations[n, 0] == DROP and position >= 0:
            ledger.remove_withdrawal(state, position)
        elif position >= 0:
            row = state.withdrawals[position]
            whole = row["account"] == key % 4 and row["asset"] == key % 3 and row["seq"] == key + 1
            out[n] = row["amount_units"] if whole else -2


@njit
def post(state, account, asset, free, locked, seq):
    ledger.post(state, ledger.balance_row(state, account, asset), free, locked, seq)


def hold_home(key: int, mask: int) -> int:
    return (key * 0x9E3779B97F4A7C15) % (1 << 64) >> id_shift(mask + 1)


def withdrawal_home(key: int, mask: int) -> int:
    return ((key * 0x9E3779B97F4A7C15) % (1 << 64) >> 32) & mask


def colliding_ids(rng: random.Random, mask: int, home: Callable[[int, int], int]) -> list[int]:
    """Ids of producers, most of them with neighbouring homes at the end of the table, so that probe paths run into one another and wrap."""
    ids = [source << 40 | n for source in (2, 8, 63) for n in range(1, 2_000)]
    rng.shuffle(ids)
    crowd = [key for key in ids if home(key, mask) in {mask - 1, mask, 0}][:18]
    return crowd + ids[:8]


def operations(rng: random.Random, ids: list[int], count: int, most: int) -> tuple[np.ndarray, list[set[int]]]:
    """Random operations that never take twice or too many; beside them the ids that are in afterwards."""
    inside: set[int] = set()
    rows, states = [], []
    for _ in range(count):
        what = rng.choice((FIND, TAKE, TAKE, DROP))
        key = rng.choice(ids)
        if what == TAKE and (key in inside or len(inside) >= most):
            what = FIND
        if what == TAKE:
            inside = inside | {key}
        if what == DROP:
            inside = inside - {key}
        rows.append((what, key))
        states.append(inside)
    return np.array(rows, dtype=np.int64), states


@pytest.mark.parametrize("seed", range(20))
def test_hold_index_finds_what_a_dict_finds(seed: int) -> None:
    rng = random.Random(seed)
    state = empty_state()
    ids = colliding_ids(rng, len(state.other_orders) - 1, hold_home)
    ops, states = operations(rng, ids, 2_000, ROWS)
    out = np.zeros(len(ops), dtype=np.int64)
    do_holds(state, ops, out)
    rows: dict[int, int] = {}
    for (what, key), got in zip(ops.tolist(), out.tolist(), strict=True):
        if what == TAKE:
            assert got not in rows.values()
            assert 0 <= got < ROWS
            rows[key] = got
        else:
            assert rows.get(key, -1) == got
        if what == DROP:
            rows.pop(key, None)
    assert states[-1] == set(rows)
    check = np.array([(FIND, key) for key in ids], dtype=np.int64)
    out = np.zeros(len(check), dtype=np.int64)
    do_holds(state, check, out)
    assert [rows.get(key, -1) for key in ids] == out.tolist()
    assert (
        len(rows)
        == state.meta[s.HOLDS_USED]
        == np.count_nonzero(state.other_orders) + np.count_nonzero(state.recent_orders)
    )


@pytest.mark.parametrize("seed", range(20))
def test_withdrawal_table_finds_what_a_dict_finds(seed: int) -> None:
    rng = random.Random(seed)
    state = empty_state()
    ids = colliding_ids(rng, len(state.withdrawals) - 1, withdrawal_home)
    ops, states = operations(rng, ids, 2_000, len(state.withdrawals) // 2)
    out = np.zeros(len(ops), dtype=np.int64)
    do_withdrawals(state, ops, out)
    before: set[int] = set()
    for (what, key), got, inside in zip(ops.tolist(), out.tolist(), states, strict=True):
        assert (key in before) == (got >= 0)
        if what == FIND and key in before:
            assert key * 7 == got
        before = inside
    held = state.withdrawals[state.withdrawals["hold_id"] != 0]
    assert states[-1] == set(held["hold_id"].tolist())


def test_full_table_of_holds_gives_no_row_and_freed_rows_come_first() -> None:
    state = empty_state()
    ops = np.array(
        [(TAKE, n) for n in range(1, ROWS + 2)] + [(DROP, 3), (DROP, 5), (TAKE, 100), (TAKE, 101), (TAKE, 102)],
        dtype=np.int64,
    )
    out = np.zeros(len(ops), dtype=np.int64)
    do_holds(state, ops, out)
    assert [*range(ROWS), -2, 2, 4, 4, 2, -2] == out.tolist()


def test_posting_keeps_the_row_lock_even_and_says_which_command_it_was() -> None:
    state = empty_state()
    post(state, 2, 3, 10, 5, 77)
    row = state.balances.reshape(5, 4, s.BALANCE_WORDS)[2, 3]
    assert [10, 5, 0] == row[[s.FREE, s.LOCKED, s.INFLIGHT]].tolist()
    assert (2, 77) == (row[s.ROW_VERSION], row[s.ROW_SEQ])
    assert np.count_nonzero(state.balances) == 4


@pytest.mark.parametrize(("free", "locked"), [(-11, 0), (0, -6)])
def test_posting_below_zero_stops_the_engine(free: int, locked: int) -> None:
    state = empty_state()
    post(state, 1, 1, 10, 5, 1)
    assert s.FAULT_NONE == state.meta[s.FAULT]
    post(state, 1, 1, free, locked, 2)
    assert s.FAULT_NEGATIVE_BALANCE == state.meta[s.FAULT]


def test_every_table_can_lie_in_a_file() -> None:
    """A file's header describes its rows, for which fields must stand in the order of their offsets."""
    for name, dtype, _ in s.state_spec(Limits(), 256):
        assert dtype.descr, name
