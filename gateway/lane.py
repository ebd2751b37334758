"""A producer's lane: its ingress ring, what is before its next command, and whether that may be numbered."""

from __future__ import annotations

import numpy as np

from gateway import admission
from gateway.admission import Kind, Queue, Refusal
from protocol import board as lines
from protocol.instance import Overload
from protocol.readers import SOURCE_LINES, refused_word
from ringbuf import Ring, load_acquire, published, room


class ProducerLane:
    """One producer's place before the sequencer; its process is the ring's writer.

    Parameters
    ----------
    ring : Ring
        Its ingress ring.
    board : np.ndarray
        int64 board of the instance.
    source : int
        Producer slot.
    rule : Overload
        When new orders are refused.
    """

    def __init__(self, ring: Ring, board: np.ndarray, source: int, rule: Overload) -> None:
        self.ring = ring
        self.rule = rule
        self._board = board
        self._source = source
        self._refused_word = refused_word(SOURCE_LINES[source])
        self._settled_seq = -1
        self._still_since_ns = 0
        board[self._refused_word] = 0

    @property
    def next_number(self) -> int:
        """Number of the next slot."""
        return int(published(self.ring)) + 1

    def before(self, now_ns: int) -> Queue:
        """What a command sent at ``now_ns`` (monotonic) would wait for."""
        board = self._board
        # In this order: what moves on meanwhile is counted twice rather than not at all.
        settled = int(load_acquire(board, lines.SETTLED_SEQ))
        taken = int(load_acquire(board, lines.LANE_SEQUENCED + self._source))
        sequenced = int(load_acquire(board, lines.SEQUENCED_SEQ))
        found = admission.queue(
            sequenced,
            settled,
            int(published(self.ring)),
            taken,
            int(load_acquire(board, lines.SETTLE_NS)),
            max(0, now_ns - self._still_since_ns) if settled == self._settled_seq else 0,
        )
        if found.slots == 0:
            self._settled_seq = -1
        elif settled != self._settled_seq:
            self._settled_seq, self._still_since_ns = settled, now_ns
        return found

    def refusal(self, kind: Kind, slots: int, now_ns: int) -> Refusal | None:
        """Why a command of ``slots`` slots may not be numbered at ``now_ns`` (monotonic), or None."""
        return self.late(kind, now_ns) or self.full(kind, slots)

    def late(self, kind: Kind, now_ns: int) -> Refusal | None:
        """The part of ``refusal`` that needs no more than the kind: ask it first, so that a refusal costs little."""
        if kind is not Kind.ORDER:
            return None
        return self.count(kind, admission.late(kind, self.before(now_ns), self.rule))

    def full(self, kind: Kind, slots: int) -> Refusal | None:
        """The part of ``refusal`` that is about room on the ring."""
        size = len(self.ring.slots)
        free = int(room(self.ring, admission.wanted(kind, slots, size, self.rule)))
        return self.count(kind, admission.full(kind, slots, free, size, self.rule))

    def count(self, kind: Kind, refused: Refusal | None) -> Refusal | None:
        """Note on the board that an order was refused because of load, if it was; gives ``refused``."""
        if refused is not None and kind is Kind.ORDER:
            self._board[self._refused_word] += 1
        return refused
