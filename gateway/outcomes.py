"""Follows the live outcome ring for one gateway: keeps what concerns it, and lets go of it when the journal is durable.

The reader does not gate: no gateway may hold the engine up. One that was lapped says so (``lost``) and goes on from
the present; what it missed is to be asked for by number. When the engine was restarted, held outcomes are dropped and
the new epoch's ring, which recovery has filled with the tail's outcomes under the same (seq, index), is read after
the last one that was released.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit

from protocol import board as lines
from protocol.enums import ORDER_ID_SOURCE_SHIFT, OUTCOME_MORE
from protocol.records import OUTCOME_DTYPE
from ringbuf import Ring, load_acquire, published, still_valid
from ringbuf.ring import INTENT, START

HELD_MAX: Final = 8192
"""Outcomes kept while they wait for the journal; then reading pauses."""
_SCAN_MAX: Final = 4096
_POLL_MAX: Final = 1 << 16
_INDEX_END: Final = 1 << 32
_ANY_SEQ: Final = (1 << 63) - 1

_SERVING: Final = (lines.ENGINE_RUNNING, lines.ENGINE_STOPPING)

_CARRY_MORE: Final = 1
_CARRY_WANTED: Final = 2


class Released(NamedTuple):
    """What a poll gives: outcomes in order, and whether some were missed before those that come next."""

    outcomes: np.ndarray
    lost: bool


class OutcomeFollower:
    """One gateway's place on the outcome ring.

    Parameters
    ----------
    ring : Ring
        The outcome ring of ``epoch``; reading begins after what is published now.
    board : np.ndarray
        int64 board of the instance.
    source : int
        Producer slot of the gateway: outcomes of its commands and about its orders are kept.
    epoch : int
        Epoch of the ring.
    wait_durable : bool
        False (durability "async"): outcomes are let go of at once.
    accounts : np.ndarray, optional
        uint8[accounts_max + 1], 1 = all outcomes of this account are kept too; the owner may change it.
    """

    def __init__(
        self,
        ring: Ring,
        board: np.ndarray,
        source: int,
        epoch: int,
        *,
        wait_durable: bool = True,
        accounts: np.ndarray | None = None,
    ) -> None:
        self.board = board
        self.source = source
        self.epoch = epoch
        self.wait_durable = wait_durable
        self.accounts = np.zeros(1, dtype=np.uint8) if accounts is None else accounts
        self.lapped = 0
        self._ring = ring
        self._held = np.zeros(HELD_MAX, dtype=OUTCOME_DTYPE)
        self._used = 0
        self._carry = 0
        self._position = 0
        self._released = (0, -1)
        self.to_present()

    @property
    def ring(self) -> Ring:
        """The ring that is followed now."""
        return self._ring

    @property
    def position(self) -> int:
        """Last position of the ring that was read."""
        return self._position

    @property
    def held(self) -> int:
        """Outcomes read and not yet durable."""
        return self._used

    @property
    def full(self) -> bool:
        """Whether reading pauses until the journal has some of what is held."""
        return self._used >= len(self._held)

    @property
    def held_seq(self) -> int | None:
        """The command of the first outcome that waits for the journal."""
        return int(self._held[0]["seq"]) if self._used else None

    def to_present(self) -> None:
        """Skip everything published so far; for a gateway that waits for nothing."""
        self._position = int(published(self._ring))
        self._carry = 0
        self._used = 0

    def durable_seq(self) -> int:
        """Last command whose outcomes may be spoken of; -1 while the engine of this epoch does not run, or may not be believed.

        The durable cursor is read before epoch and state: one that the next epoch's journal has moved, over other
        commands under the same numbers, comes with a state of recovery or with that epoch's number.
        """
        durable = load_acquire(self.board, lines.DURABLE_SEQ)
        if load_acquire(self.board, lines.ENGINE_STATE) not in _SERVING:
            return -1
        if load_acquire(self.board, lines.EPOCH) != self.epoch:
            return -1
        if load_acquire(self.board, lines.DIVERGED) == lines.DIVERGED_STOP:
            return -1
        return int(durable) if self.wait_durable else _ANY_SEQ

    def poll(self) -> Released:
        """Read what is new and give the outcomes that may leave the gateway now, each (seq, index) once."""
        lost = self._read()
        durable = self.durable_seq()
        seqs = self._held["seq"][: self._used]
        ready = int(np.searchsorted(seqs, durable, side="right"))
        if ready == 0:
            return Released(self._held[:0], lost)
        outcomes = self._held[:ready].copy()
        if ready < self._used:
            self._held[: self._used - ready] = self._held[ready : self._used].copy()
        self._used -= ready
        first = 0
        while first < ready and _number(outcomes[first]) <= self._released:
            first += 1
        if first < ready:
            self._released = _number(outcomes[-1])
        return Released(outcomes[first:], lost)

    def change_epoch(self, ring: Ring, epoch: int, recovered_seq: int, needed_seq: int) -> bool:
        """Drop what is held and follow the ring of a new epoch.

        Parameters
        ----------
        ring : Ring
            Its outcome ring.
        epoch : int
            Its number.
        recovered_seq : int
            Last command that recovery found; numbers after it are given anew.
        needed_seq : int
            The gateway waits for outcomes of commands after this one only.

        Returns
        -------
        bool
            Whether the ring holds every outcome after ``needed_seq``; False counts as a lap.
        """
        self._ring = ring
        self.epoch = epoch
        self._used = 0
        self._carry = 0
        start = int(ring.words[START])
        self._position = max(start, int(load_acquire(ring.words, INTENT)) - len(ring.slots))
        self._released = min(self._released, (recovered_seq, _INDEX_END))
        complete = self._position == 0
        # Also where nothing before the recovered command is wanted: the new engine may have filled the ring since.
        if not complete and int(published(ring)) > self._position:
            first = ring.slots[self._position & (len(ring.slots) - 1)]
            complete = int(first["seq"]) <= needed_seq or _number(first) <= self._released
        self.lapped += not complete
        return complete

    def _read(self) -> bool:
        lost = False
        stop = self._position + _POLL_MAX
        while self._position < stop and not self.full:
            before = self._position
            position, used, carry, lapped = scan_outcomes(
                self._ring, before, self._carry, self.source, self.accounts, self._held, self._used, _SCAN_MAX
            )
            if lapped:
                lost = True
                self.lapped += 1
                self._position = int(published(self._ring))
                self._carry = 0
                break
            self._position, self._used, self._carry = int(position), int(used), int(carry)
            if self._position == before:
                break
        return lost


@njit(cache=True, nogil=True)
def scan_outcomes(ring, position, carry, source, accounts, out, used, limit):
    """Copy the outcomes that concern a gateway out of the ring.

    Parameters
    ----------
    ring : Ring of OUTCOME slots, with a writer that claims before it writes
    position : int, last position read
    carry : int, 0 at first; whether the next slot continues the last one, opaque
    source : int, producer slot
    accounts : uint8[n], 1 = wanted; shorter than the account table means that the rest is not
    out : OUTCOME[m], filled from row ``used`` on
    limit : int, slots to look at

    Returns
    -------
    (position, used, carry, lapped)
        With ``lapped`` nothing was copied and position and used are unchanged.
    """
    slots = ring.slots
    capacity = np.int64(slots.shape[0])
    head = published(ring)
    place = np.int64(position)
    rows = np.int64(used)
    more = np.int64(carry)
    if head - place > capacity:
        return np.int64(position), np.int64(used), np.int64(carry), True
    end = min(head, place + limit)
    while place < end and rows < out.shape[0]:
        slot = slots[place & (capacity - 1)]
        if more & _CARRY_MORE:
            wanted = more & _CARRY_WANTED
        else:
            account = np.int64(slot["account"])
            wanted = np.int64(0)
            if np.int64(slot["source"]) == source or slot["order_id"] >> ORDER_ID_SOURCE_SHIFT == source:
                wanted = np.int64(_CARRY_WANTED)
            elif 0 < account < accounts.shape[0] and accounts[account] != 0:
                wanted = np.int64(_CARRY_WANTED)
        if wanted:
            out[rows] = slot
            rows += 1
        more = (wanted | _CARRY_MORE) if np.int64(slot["flags"]) & OUTCOME_MORE else np.int64(0)
        place += 1
    if place > position and not still_valid(ring, position + 1):
        return np.int64(position), np.int64(used), np.int64(carry), True
    return place, rows, more, False


def _number(outcome: np.void) -> tuple[int, int]:
    return int(outcome["seq"]), int(outcome["index"])
