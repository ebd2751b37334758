"""Reading risk's tables from other processes: consistent copies of rows, and scans over lists."""

from __future__ import annotations

import numpy as np

from protocol import enums as e
from protocol.jit import entry
from ringbuf.atomics import fence_acquire, load_acquire
from risk import state as s

COPY_TRIES = 1_000_000


@entry
def copy_balance(state, account, asset, out):
    """Copy (free, locked, seq) of a balance row into ``out`` int64[3] under its sequence lock; False if it never stood still."""
    b = state.balances
    row = (account * state.assets.shape[0] + asset) * s.BALANCE_WORDS
    for _ in range(COPY_TRIES):
        before = load_acquire(b, row + s.ROW_VERSION)
        if before & 1:
            continue
        out[0] = b[row + s.FREE]
        out[1] = b[row + s.LOCKED]
        out[2] = b[row + s.ROW_SEQ]
        fence_acquire()
        if load_acquire(b, row + s.ROW_VERSION) == before:
            return True
    return False


@entry
def live_holds(state, account, instrument, out):
    """Rows of live limit orders of an account and instrument (0 = any) into ``out`` int64[n]; how many there are."""
    count = 0
    for hold in range(state.meta[s.HOLDS_HIGH]):
        h = state.holds[hold]
        if h["state"] != e.HOLD_LIVE or (account != 0 and h["account"] != account):
            continue
        if instrument != 0 and h["instrument"] != instrument:
            continue
        if count < out.shape[0]:
            out[count] = hold
        count += 1
    return count


def account_numbers(state: object) -> np.ndarray:
    """Numbers of all accounts that were created and settled, int64[n]."""
    accounts = state.accounts  # type: ignore[attr-defined]
    high = int(state.meta[s.ACCOUNTS_HIGH])  # type: ignore[attr-defined]
    return np.nonzero(accounts["status"][: high + 1])[0]
