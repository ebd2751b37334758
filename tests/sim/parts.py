"""The engine of one epoch over private memory: what the processes' ``main`` functions do, without files and processes.

Everything else of the simulator knows an engine only as named steps.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from matcher.events import join_events
from matcher.kernel import make_stage
from matcher.kernel import step as matcher_step
from matcher.process import shard_state
from persistence.beside import gathered
from persistence.fused import FusedEngine, hashes_of
from persistence.journal import JournalProcess, JournalReader, JournalStore, JournalWriter, WriterPosition
from protocol import board as b
from protocol import enums as e
from protocol.instance import Context, Engine
from protocol.readers import COMMAND_FIRST_MATCHER, COMMAND_JOURNAL, INGRESS_SEQUENCER, OUTCOME_COLLECTOR
from protocol.records import COMMAND_DTYPE, EVENT_DTYPE, OUTCOME_DTYPE, VERDICT_DTYPE
from ringbuf.arena import ArenaSpec
from ringbuf.atomics import store_release
from ringbuf.bank import bank_ring, bank_spec, init_bank
from ringbuf.board import NO_BELL
from ringbuf.bundle import Bundle
from ringbuf.loop import STOPPED
from ringbuf.ring import ACTIVE_MASK, GATING_MASK, WANTS_ROOM, Ring, advance, private_ring, published
from risk import hashes as risk_hashes
from risk import outbox
from risk import state as s
from risk.kernel import step as risk_step
from risk.process import check_fault
from risk.rings import make_rings
from sequencer import clock as k
from sequencer import core
from sequencer.process import announce, start_timers
from tests.engine.driver import direct


class TinyEngine(Engine, frozen=True):
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

    def outcome_ring(self, start: int) -> Ring:
        """The epoch's outcome ring."""
        capacity = self._context.engine.rings.outcome
        self.outcomes = private_ring(OUTCOME_DTYPE, capacity, n_readers=0, start=start, board=self._board)
        return self.outcomes

    def save_position(self, position: WriterPosition) -> None:
        """Where the journal writes on."""
        self.position = position

    def slots(self, journal: JournalStore, from_seq: int, to_seq: int) -> Iterator[np.ndarray]:
        """The journal's slots, read by this very thread."""
        return gathered(JournalReader(journal, from_seq, to_seq))

    def begin_segment(self, work: Callable[[], WriterPosition]) -> Callable[[], WriterPosition]:
        """Made when it is needed."""
        return work


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


_machine_code: dict[Any, Any] = {}


def compiled(kernel: Any, stage: Bundle) -> Callable[[int], int]:
    """A step over its stage as a function of the budget.

    It is called as machine code: numba's look at the types takes longer than a step. All stages of a kernel are of one type.
    """
    if kernel not in _machine_code:
        _machine_code[kernel] = direct(kernel, stage, 1)
    code = _machine_code[kernel]
    return lambda budget: int(code(stage, budget))


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
        self,
        context: Context,
        memory: Memory,
        ingress: dict[int, Ring],
        board: np.ndarray,
        journal: Any,
        clocks: Clocks,
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
        self._ingress = ingress[e.SOURCE_RISK]
        shards = [memory.arrays[context.matcher_state(n)] for n in range(config.shards)]
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
        for source, ring in ingress.items():
            advance(ring, INGRESS_SEQUENCER, int(state.sources[source]))
        given = (clocks.monotonic_now_ns, clocks.realtime_now_ns)
        clock = k.make_clock(self.config.clock, int(state.meta[core.TS_NS]), given)
        start_timers(state, self.commands, self.board, clock, self.config.checkpoint_interval_s * 1_000_000_000)
        # A stage knows its lanes by address only.
        self._lanes = [core.make_lane(source, ring) for source, ring in ingress.items()]
        stage = core.make_stage(state, self.commands, self._lanes, self.board, clock)
        announce(state, self.board)
        take = compiled(core.step, stage)

        def sequencer(budget: int) -> int:
            clock[k.MONOTONIC_NS], clock[k.REALTIME_NS] = clocks.monotonic_now_ns, clocks.realtime_now_ns
            return take(budget)

        self.steps["sequencer"] = sequencer

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
        self.steps["risk"] = self._then_outbox([compiled(risk_step, Bundle(state=self.risk, rings=rings))])
        for shard, matcher in enumerate(self.matchers):
            events = bank_ring(bank["words"], bank["slots"], self.board, shards, shard)
            join_events(matcher, events)
            self.full[f"event {shard}"] = events.words
            stage = make_stage(matcher, self.commands, verdicts, events, COMMAND_FIRST_MATCHER + shard, shard)
            self.steps[f"matcher {shard}"] = compiled(matcher_step, stage)

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
        self.steps["fused"] = self._then_outbox([compiled(step.kernel, step.stage) for step in engine.steps()])

    def _then_outbox(self, steps: list[Callable[[int], int]]) -> Callable[[int], int]:
        """Risk's part of a turn, whichever the topology: its outbox goes last, and a fault ends the engine."""
        send = compiled(outbox.send, outbox.make_sender(self.risk, self._ingress))

        def turn(budget: int) -> int:
            work = 0
            for step in steps:
                done = step(budget)
                if done == STOPPED:
                    check_fault(self.risk)
                work += done
            return work + send(budget)

        return turn

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

    @property
    def exits_wait(self) -> bool:
        """Whether exits of orders are among them."""
        slots = self.risk.outbox_slots
        first, last = int(self.risk.meta[s.OUTBOX_SETTLED]), int(self.risk.meta[s.OUTBOX_PUSHED])
        return bool(np.isin(slots["type"][np.arange(first, last) % len(slots)], (e.LIMIT, e.MARKET)).any())

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
