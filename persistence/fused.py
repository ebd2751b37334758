"""The engine in one thread: risk and the matchers stepped in turn over private rings.

The same kernels as the live processes run, so verdicts, outcomes and state are the same (ARCHITECTURE.md, invariant 2). Recovery, verify,
the replica and the topology ``fused`` use it; the journal gives it the command order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from matcher import state as matcher_state
from matcher.events import join_events
from matcher.hashes import books_hash
from matcher.kernel import make_stage as matcher_stage
from matcher.kernel import step as matcher_step
from matcher.process import shard_spec, shard_state
from protocol.codec import as_words
from protocol.enums import FLAG_MORE
from protocol.hashing import mix
from protocol.instance import Engine
from protocol.jit import entry
from protocol.records import COMMAND_DTYPE, EVENT_DTYPE, OUTCOME_DTYPE, VERDICT_DTYPE
from ringbuf.arena import private_arena
from ringbuf.bank import bank_ring, bank_spec, init_bank
from ringbuf.bundle import Bundle
from ringbuf.loop import STOPPED
from ringbuf.ring import Ring, advance, private_ring, publish, published, reader_cursor, room
from ringbuf.steps import Step, Steps
from risk import hashes as risk_hashes
from risk import state as risk_state
from risk.kernel import step as risk_step
from risk.rings import make_rings

NO_BELL = -1
PRIVATE_FIRST_MATCHER = 1
"""Number of the first matcher's reader on a private command ring; a live one has the journal there."""


@entry
def pass_unread(stage, _budget):
    """Step of a reader (number 0 on the ring of ``stage``) that passes what is there, unread; returns how many.

    ``stage``: Bundle of ``ring``.
    """
    before = reader_cursor(stage.ring, 0)
    end = published(stage.ring)
    if end > before:
        advance(stage.ring, 0, end)
    return end - before


class EngineFault(RuntimeError):
    """A broken invariant: the engine must stop, its state cannot be trusted."""


def risk_spec(engine: Engine) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Arena specification of risk's state."""
    return risk_state.state_spec(engine.limits, engine.rings.window)


class FusedEngine:
    """Risk and K matchers in one thread.

    Parameters
    ----------
    engine : sizes; ``engine.shards`` matchers
    risk_arrays, matcher_arrays : state to go on with (one mapping a matcher), or None for a fresh private state
    commands, outcomes : rings to work on; None for private ones, which ``feed`` fills and empties
    first_matcher : reader number of the first matcher on ``commands``, where risk is reader 0. All of them gate: a matcher
        whom a command does not concern may come after the command is settled.
    last_seq : last command that the given state has settled
    budget : commands taken by one step; 1 settles each command before the next is reserved
    """

    def __init__(
        self,
        engine: Engine,
        risk_arrays: dict[str, np.ndarray] | None = None,
        matcher_arrays: list[dict[str, np.ndarray]] | None = None,
        *,
        last_seq: int = 0,
        budget: int = 512,
        commands: Ring | None = None,
        outcomes: Ring | None = None,
        first_matcher: int = PRIVATE_FIRST_MATCHER,
    ) -> None:
        engine.check()
        shards = engine.shards
        self.engine = engine
        self.budget = budget
        self.first_matcher = first_matcher
        if risk_arrays is None:
            risk_arrays = private_arena(risk_spec(engine))
            risk_state.reset(risk_state.make_state(risk_arrays), engine.limits)
        if matcher_arrays is None:
            matcher_arrays = []
            for k in range(shards):
                arrays = private_arena(shard_spec(engine))
                matcher_state.reset(matcher_state.make_state(arrays), k, shards)
                matcher_arrays.append(arrays)
        self.risk = risk_state.make_state(risk_arrays)
        self.matchers = [shard_state(arrays) for arrays in matcher_arrays]
        rings = engine.rings
        self.commands: Ring = commands or private_ring(
            COMMAND_DTYPE, rings.command, n_readers=1 + shards, start=last_seq
        )
        self.verdicts: Ring = private_ring(VERDICT_DTYPE, rings.command, n_readers=shards, start=last_seq)
        outcomes_before = int(self.risk.meta[risk_state.OUTCOMES])
        self._drains = outcomes is None
        self.outcomes_from = outcomes_before
        """Number of outcomes before the first that the private ring has seen; a snapshot brings earlier ones."""
        self.outcomes: Ring = outcomes or private_ring(OUTCOME_DTYPE, rings.outcome, n_readers=1, start=outcomes_before)
        bank = private_arena(bank_spec(EVENT_DTYPE, rings.event, shards))
        init_bank(bank["words"], bank["slots"], shards, NO_BELL, [NO_BELL] * shards)
        self.events = [bank_ring(bank["words"], bank["slots"], self.commands.board, shards, k) for k in range(shards)]
        for matcher, ring in zip(self.matchers, self.events, strict=True):
            join_events(matcher, ring)
        self.rings = make_rings(self.commands, self.verdicts, self.outcomes, bank["words"], bank["slots"])
        self.risk_stage = Bundle(state=self.risk, rings=self.rings)
        self.matcher_stages = [
            matcher_stage(matcher, self.commands, self.verdicts, ring, first_matcher + k, k)
            for k, (matcher, ring) in enumerate(zip(self.matchers, self.events, strict=True))
        ]
        self._steps = Steps(*self.steps())
        self._steps_and_drain = Steps(*self.steps(), Step(pass_unread, Bundle(ring=self.outcomes), budget))
        self.last_seq = last_seq

    def steps(self) -> list[Step]:
        """Risk and the matchers, in the order in which commands pass through them."""
        return [
            Step(risk_step, self.risk_stage, self.budget),
            *(Step(matcher_step, stage, self.budget) for stage in self.matcher_stages),
        ]

    def feed(self, slots: np.ndarray, on_outcomes: Callable[[np.ndarray], None] | None = None) -> None:
        """Apply command slots (seq and ts_ns are stamped, groups are whole) until all are settled and every matcher has passed them.

        ``on_outcomes`` receives copies of the outcomes, in order. Raises EngineFault.
        """
        done = 0
        while done < len(slots):
            put = self._put(slots[done:])
            done += put
            work = self.step(on_outcomes)
            if self.budget == 1:
                self.step_until_settled(on_outcomes)
            elif put + work == 0:
                raise EngineFault(self._standstill())
        self.step_until_settled(on_outcomes)

    def _put(self, slots: np.ndarray) -> int:
        """Put as many whole groups into the command ring as fit; with ``budget`` 1 a single one."""
        free = int(room(self.commands, min(len(slots), len(self.commands.slots))))
        count = min(free, len(slots))
        if self.budget == 1:
            count = 1 + int(np.argmin((slots["flags"][:128] & FLAG_MORE) != 0))
        while count and count < len(slots) and slots["flags"][count - 1] & FLAG_MORE:
            count -= 1
        if count == 0:
            return 0
        if slots["seq"][0] != self.last_seq + 1:
            msg = f"the next command must have seq {self.last_seq + 1}, not {slots['seq'][0]}"
            raise EngineFault(msg)
        # As words, in at most two pieces: a copy of records goes field by field.
        ring = as_words(self.commands.slots)
        given = as_words(np.ascontiguousarray(slots[:count]))
        first = self.last_seq & (len(ring) - 1)
        before_end = min(count, len(ring) - first)
        ring[first : first + before_end] = given[:before_end]
        ring[: count - before_end] = given[before_end:]
        self.last_seq += count
        publish(self.commands, self.last_seq)
        return count

    def step(self, on_outcomes: Callable[[np.ndarray], None] | None = None) -> int:
        """One step of each part; returns the work done. Raises EngineFault."""
        work = self._checked(self._steps.turn())
        if self._drains:
            self._drain(on_outcomes)
        return work

    def step_until_settled(self, on_outcomes: Callable[[np.ndarray], None] | None = None) -> None:
        """Step until every command fed is settled, and every matcher past it; a step without work before that is a fault.

        A matcher may lag behind what is settled by commands that no matcher answers. Listings and checkpoints are among them.
        """
        if self._drains and on_outcomes is None:
            self._checked(self._steps_and_drain.until(self.risk.meta, risk_state.SETTLED, self.last_seq))
            if self.settled_seq < self.last_seq:
                raise EngineFault(self._standstill())
        while self.applied_seq < self.last_seq:
            if self.step(on_outcomes) == 0 and self.applied_seq < self.last_seq:
                raise EngineFault(self._standstill())

    def _checked(self, work: int) -> int:
        if work == STOPPED:
            fault = int(self.risk.meta[risk_state.FAULT])
            msg = f"risk stopped after command {self.settled_seq}: {risk_state.FAULT_TEXT[fault]}"
            raise EngineFault(msg)
        return work

    def _standstill(self) -> str:
        return f"the engine stands still after command {self.settled_seq} of {self.last_seq}"

    def _drain(self, on_outcomes: Callable[[np.ndarray], None] | None) -> None:
        cursor = int(reader_cursor(self.outcomes, 0))
        end = int(published(self.outcomes))
        if end == cursor:
            return
        if on_outcomes is not None:
            on_outcomes(self.outcomes.slots[(np.arange(cursor, end)) & (len(self.outcomes.slots) - 1)])
        advance(self.outcomes, 0, end)

    @property
    def settled_seq(self) -> int:
        """Last command slot settled."""
        return int(self.risk.meta[risk_state.SETTLED])

    @property
    def applied_seq(self) -> int:
        """Last command slot settled that every matcher has passed."""
        return min(self.settled_seq, *(int(matcher.meta[matcher_state.APPLIED_SEQ]) for matcher in self.matchers))

    def oldest_outcome(self, total: int) -> int:
        """Outcomes before the oldest one that the private ring still holds, of ``total``."""
        return max(self.outcomes_from, total - len(self.outcomes.slots))

    def hashes(self) -> dict[str, int]:
        """Hashes by named structure as of the last settled command; see ``hashes_of``."""
        return hashes_of(self.risk, self.matchers)

    def unbalanced_asset(self) -> int:
        """0 when money is conserved in every asset (see ``risk.hashes.first_unbalanced_asset``)."""
        return int(risk_hashes.first_unbalanced_asset(self.risk))


def hashes_of(risk: Bundle, matchers: list[Bundle]) -> dict[str, int]:
    """Hashes by named structure of a state that stands still, with everything settled.

    ``state`` is over all structures; ``verdicts``, ``outcomes`` and ``events`` are over what led to it. None depends on the number of
    shards or on where a row is stored.
    """
    out = np.zeros(len(risk_hashes.STRUCTURES), dtype=np.int64)
    risk_hashes.named_hashes(risk, out)
    named = {name: int(h) for name, h in zip(risk_hashes.STRUCTURES, out, strict=True)}
    named["books"] = _wrap(sum(int(books_hash(m)) for m in matchers))
    total = 0
    for h in named.values():
        total = int(mix(total, h))
    named["state"] = total
    named["verdicts"] = int(risk.meta[risk_state.VERDICT_HASH])
    named["outcomes"] = int(risk.meta[risk_state.OUTCOME_HASH])
    named["events"] = _wrap(sum(int(m.meta[matcher_state.EVENT_HASH]) for m in matchers))
    return named


def _wrap(x: int) -> int:
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >> 63 else x
