"""The engine of one epoch over private memory: what the processes' ``main`` functions do, without files and processes.

Everything else of the simulator knows an engine only as named steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from matcher.events import join_events
from matcher.kernel import step as matcher_step
from matcher.process import shard_state
from persistence.fused import FusedEngine, hashes_of
from persistence.journal import JournalProcess, JournalWriter, WriterPosition
from protocol import board as b
from protocol import enums as e
from protocol.instance import Context, Engine
from protocol.readers import COMMAND_FIRST_MATCHER, COMMAND_JOURNAL, INGRESS_SEQUENCER, OUTCOME_COLLECTOR
from protocol.records import COMMAND_DTYPE, EVENT_DTYPE, OUTCOME_DTYPE, VERDICT_DTYPE
from ringbuf.arena import ArenaSpec
from ringbuf.atomics import store_release
from ringbuf.bank import bank_ring, bank_spec, init_bank
from ringbuf.board import NO_BELL
from ringbuf.ring import ACTIVE_MASK, GATING_MASK, WANTS_ROOM, Ring, advance, private_ring, published
from risk import hashes as risk_hashes
from risk import state as s
from risk.kernel import step as risk_step
from risk.process import OutboxSender, check_fault, publish_counters
from risk.rings import make_rings
from sequencer import core
from sequencer.clock import SlewedClock
from sequencer.process import Lane, SequencerProcess
from tests.engine.driver import direct


class TinyEngine(Engine, frozen=True):  # type: ignore[misc]
    """An engine for groups of at most GROUP_MAX slots, whose rings are in the same proportion smaller than the smallest admitted."""

    def check(self) -> None:
        """The inequalities of ``Engine.check`` with GROUP_MAX in the place of the largest group."""
        rings = self.rings
        assert rings.window >= 2 * GROUP_MAX
        assert rings.command >= rings.window + GROUP_MAX
        assert rings.ingress >= GROUP_MAX


GROUP_MAX = 4


class Memory:
    """What recovery makes for an epoch, under the names that a context gives."""

    def __init__(self, context: Context, board: np.ndarray) -> None:
        self.arrays: dict[Path, dict[str, np.ndarray]] = {}
        self.outcomes: Ring
        self.position: WriterPosition
        self._context = context
        self._board = board

    def arena(self, path: Path, spec: ArenaSpec) -> dict[str, np.ndarray]:
        """Arrays of a part's state."""
        self.arrays[path] = {name: np.zeros(shape, dtype=dtype) for name, dtype, shape in spec}
        return self.arrays[path]

    @contextmanager
    def outcome_ring(self, start: int) -> Iterator[Ring]:
        """The epoch's outcome ring."""
        capacity = self._context.engine.rings.outcome
        self.outcomes = private_ring(OUTCOME_DTYPE, capacity, n_readers=0, start=start, board=self._board)
        yield self.outcomes

    def save_position(self, position: WriterPosition) -> None:
        """Where the journal writes on."""
        self.position = position


class Clocks:
    """The machine's two clocks, virtual."""

    def __init__(self, monotonic_ns: int, realtime_ns: int) -> None:
        self.monotonic_now_ns = monotonic_ns
        self.realtime_now_ns = realtime_ns

    def monotonic_ns(self) -> int:
        """Never falls."""
        return self.monotonic_now_ns

    def realtime_ns(self) -> int:
        """UTC, as far as the machine knows."""
        return self.realtime_now_ns

    def pass_ns(self, nanoseconds: int) -> None:
        """Let time pass on both."""
        self.monotonic_now_ns += nanoseconds
        self.realtime_now_ns += nanoseconds


def ingress_ring(engine: Engine, start: int, board: np.ndarray) -> Ring:
    """A producer's ring with the sequencer as its reader."""
    return private_ring(COMMAND_DTYPE, engine.rings.ingress, n_readers=1, start=start, board=board)


class EngineParts:
    """The processes of one epoch, each a named step; ``steps[name](budget)`` gives the work done and never blocks.

    Parameters
    ----------
    context : of the epoch
    memory : as recovery left it
    ingress : rings of the producers by source; the one of SOURCE_RISK is made for this epoch
    journal : the store
    """

    def __init__(
        self, context: Context, memory: Memory, ingress: dict[int, Ring], board: np.ndarray, journal: Any, clocks: Clocks
    ) -> None:
        config = context.engine
        self.config = config
        self.board = board
        self.risk = s.make_state(memory.arrays[context.risk_state])
        self.lanes_state = core.make_state(memory.arrays[context.sources_state])
        start = int(self.risk.meta[s.SETTLED])
        readers = COMMAND_FIRST_MATCHER + config.shards
        self.commands: Ring = private_ring(
            COMMAND_DTYPE, config.rings.command, n_readers=readers, start=start, board=board
        )
        self.outcomes = memory.outcomes
        if config.gating_outcome_reader:
            self.outcomes.words[[ACTIVE_MASK, GATING_MASK]] = 1
            advance(self.outcomes, OUTCOME_COLLECTOR, int(published(self.outcomes)))
        self.full: dict[str, np.ndarray] = {"command": self.commands.words, "outcome": self.outcomes.words}
        self.steps: dict[str, Callable[[int], int]] = {}
        self._sequencer(ingress, clocks)
        self.risk_ingress = ingress[e.SOURCE_RISK]
        self._outbox = OutboxSender(self.risk, self.risk_ingress)
        shards = [memory.arrays[context.matcher_state(k)] for k in range(config.shards)]
        self.matchers = [shard_state(arrays) for arrays in shards]
        if config.topology == "fused":
            self._fused(memory.arrays[context.risk_state], shards, start)
        else:
            self._split(start)
        for word in (b.RESERVED_SEQ, b.SETTLED_SEQ):
            store_release(board, word, start)
        writer = JournalWriter(journal, memory.position, config.segment_bytes, clocks.realtime_ns)
        process = JournalProcess(self.commands, COMMAND_JOURNAL, board, writer, clock_ns=clocks.monotonic_ns)
        self.writer = writer
        self.steps["journal"] = lambda _budget: process.step()

    def _sequencer(self, ingress: dict[int, Ring], clocks: Clocks) -> None:
        state = self.lanes_state
        lanes = [Lane(source, ring) for source, ring in ingress.items()]
        for lane in lanes:
            advance(lane.ring, INGRESS_SEQUENCER, int(state.sources[lane.source]))
        clock = SlewedClock(clocks.monotonic_ns, clocks.realtime_ns, int(state.meta[core.TS_NS]))
        process = SequencerProcess(state, self.commands, lanes, self.board, self.config.clock, clock)
        process.start_timers(self.config.checkpoint_interval_s * 1_000_000_000)
        self.steps["sequencer"] = lambda _budget: process.step()

    def _split(self, start: int) -> None:
        config = self.config
        shards = config.shards
        # Smaller than the command ring, which otherwise is always full first.
        capacity = max(2 * GROUP_MAX, config.rings.command // 4)
        if not isinstance(config, TinyEngine):
            capacity = config.rings.command // 2
        verdicts = private_ring(VERDICT_DTYPE, capacity, n_readers=shards, start=start, board=self.board)
        spec = bank_spec(EVENT_DTYPE, config.rings.event, shards)
        bank = {name: np.zeros(shape, dtype=dtype) for name, dtype, shape in spec}
        init_bank(bank["words"], bank["slots"], shards, NO_BELL, [NO_BELL] * shards)
        rings = make_rings(self.commands, verdicts, self.outcomes, bank["words"], bank["slots"])
        self.full["verdict"] = verdicts.words
        reserve_and_settle = direct(risk_step, self.risk, rings, 1)

        def risk(budget: int) -> int:
            work = int(reserve_and_settle(self.risk, rings, budget))
            if work:
                check_fault(self.risk)
                publish_counters(self.risk, self.board)
            return work + self._outbox.step()

        self.steps["risk"] = risk
        for k, matcher in enumerate(self.matchers):
            events = bank_ring(bank["words"], bank["slots"], self.board, shards, k)
            join_events(matcher, events)
            self.full[f"event {k}"] = events.words
            self.steps[f"matcher {k}"] = self._matcher(matcher, verdicts, events, k)

    def _matcher(self, matcher: Any, verdicts: Ring, events: Ring, k: int) -> Callable[[int], int]:
        arguments = (matcher, self.commands, verdicts, events, COMMAND_FIRST_MATCHER + k, k)
        match = direct(matcher_step, *arguments, 1)
        return lambda budget: int(match(*arguments, budget))

    def _fused(self, risk_arrays: dict[str, np.ndarray], shards: list[dict[str, np.ndarray]], start: int) -> None:
        engine = FusedEngine(
            self.config,
            risk_arrays,
            shards,
            last_seq=start,
            commands=self.commands,
            outcomes=self.outcomes,
            first_matcher=COMMAND_FIRST_MATCHER,
        )
        self.risk, self.matchers = engine.risk, engine.matchers

        def fused(budget: int) -> int:
            engine.budget = budget
            work = int(engine.step())
            if work:
                publish_counters(engine.risk, self.board)
            return work + self._outbox.step()

        self.steps["fused"] = fused

    @property
    def sequenced_seq(self) -> int:
        """Last command on the ring."""
        return int(published(self.commands))

    @property
    def reserved_seq(self) -> int:
        """Last command slot that has a verdict."""
        return int(self.risk.meta[s.RESERVED])

    @property
    def settled_seq(self) -> int:
        """Last command slot settled."""
        return int(self.risk.meta[s.SETTLED])

    @property
    def outbox_waits(self) -> bool:
        """Whether risk has commands of its own that have not come back."""
        return int(self.risk.meta[s.OUTBOX_PUSHED]) > int(self.risk.meta[s.OUTBOX_SETTLED])

    def unbalanced_asset(self) -> int:
        """0 where money is conserved."""
        return int(risk_hashes.first_unbalanced_asset(self.risk))

    def hashes(self) -> dict[str, int]:
        """Of the state, which must stand still."""
        return hashes_of(self.risk, self.matchers)

    def walked(self) -> list[str]:
        """Rings whose writers found no room since the last call."""
        found = []
        for name, words in self.full.items():
            if words[WANTS_ROOM]:
                found.append(name)
        return found
