"""The process of the sequencer: takes from the ingress rings in turn, feeds the timers, frees ingress slots that are durable."""

from __future__ import annotations

import os
import time
from collections import deque

import numpy as np

from protocol import board as b
from protocol import enums as e
from protocol.instance import Context
from protocol.readers import INGRESS_SEQUENCER, ready_word
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA
from ringbuf.arena import attach_arena, private_arena
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import BoardFile, claim_line, private_board
from ringbuf.bundle import Bundle
from ringbuf.file import RingFile
from ringbuf.loop import jitter, run_loop
from ringbuf.ring import Ring, advance, private_ring, publish
from ringbuf.waiting import STRATEGIES
from sequencer import core
from sequencer.clock import SlewedClock
from sequencer.depth import METER_WORDS, measure

TAKE_SLOTS = 512
"""Slots taken from one producer before the next has its turn."""

TICK_PERIOD_NS = 10_000_000_000
"""Default period of the clock tick: thirty samples of it make the 5-minute reference."""


def _words(ring: Ring) -> np.ndarray:
    return ring.slots.view(np.int64).reshape(-1, 16)


class Lane:
    """One producer's ingress ring: what has been sequenced of it, and what of that is durable and so free again."""

    def __init__(self, source: int, ring: Ring) -> None:
        self.source = source
        self.ring = ring
        self.words = _words(ring)
        self._waiting: deque[tuple[int, int]] = deque()

    def sequenced(self, seq: int, number: int) -> None:
        """Commands of this producer up to ``number`` have seqs up to ``seq``."""
        self._waiting.append((seq, number))

    def free(self, durable_seq: int) -> int:
        """Give slots back whose commands are durable; returns whether there were any."""
        number = 0
        while self._waiting and self._waiting[0][0] <= durable_seq:
            number = self._waiting.popleft()[1]
        if number:
            advance(self.ring, INGRESS_SEQUENCER, number)
        return int(number > 0)


class SequencerProcess:
    """Steps the sequencer over its lanes.

    Parameters
    ----------
    state : Bundle of ``sequencer.core.state_spec``
    commands : the command ring, of which this process is the writer
    lanes : the producers
    board : durable cursor in, sequenced cursor out
    clock : CLOCK_LIVE, CLOCK_VIRTUAL or CLOCK_VERBATIM
    time_source : gives the time to stamp with CLOCK_LIVE
    """

    def __init__(
        self, state: Bundle, commands: Ring, lanes: list[Lane], board: np.ndarray, clock: int, time_source: SlewedClock
    ) -> None:
        self._state = state
        self._commands = commands
        self._command_words = _words(commands)
        self._lanes = lanes
        self._board = board
        self._clock = clock
        self._time_source = time_source
        self._durable_seq = 0
        self._meter = np.zeros(METER_WORDS, dtype=np.int64)
        self._announce()

    def step(self) -> int:
        """Take from every producer once; returns the work done."""
        work = 0
        now_ns = 0
        if self._clock == e.CLOCK_LIVE:
            now_ns = self._time_source.now_ns()
            self._board[b.CLOCK_ALARM] = self._time_source.alarm
            work += int(core.tick(self._state, self._commands, self._command_words, now_ns))
        for lane in self._lanes:
            taken = int(
                core.take(
                    self._state,
                    lane.ring,
                    lane.words,
                    self._commands,
                    self._command_words,
                    lane.source,
                    now_ns,
                    self._clock,
                    TAKE_SLOTS,
                )
            )
            if taken:
                lane.sequenced(int(self._state.meta[core.SEQ]), int(self._state.sources[lane.source]))
                work += taken
        if work:
            self._announce()
        measure(self._meter, self._board, time.monotonic_ns())
        durable_seq = int(load_acquire(self._board, b.DURABLE_SEQ))
        if durable_seq != self._durable_seq:
            self._durable_seq = durable_seq
            for lane in self._lanes:
                lane.free(durable_seq)
        return work

    def start_timers(self, checkpoint_period_ns: int) -> None:
        """First start of a home with a live clock: ask for checkpoints and clock ticks, as sequenced commands."""
        if self._clock != e.CLOCK_LIVE or bool(np.any(self._state.timers[:, core.PERIOD_NS])):
            return
        ring = private_ring(COMMAND_DTYPE, 8, n_readers=0, start=int(self._state.sources[e.SOURCE_SEQUENCER]))
        from protocol.build import set_timer, stamp

        groups = [
            set_timer(
                core.CHECKPOINT_TIMER, checkpoint_period_ns, 0, "cambist", "checkpoint interval of the configuration"
            ),
            set_timer(core.TICK_TIMER, TICK_PERIOD_NS, 0, "cambist", "clock tick of reference prices"),
        ]
        slots = np.concatenate([g for g in groups if g[0]["price_ticks"] > 0])
        first = int(self._state.sources[e.SOURCE_SEQUENCER]) + 1
        stamp(slots, e.SOURCE_SEQUENCER, first)
        for k in range(len(slots)):
            ring.slots[(first + k - 1) % len(ring.slots)] = slots[k]
        publish(ring, first + len(slots) - 1)
        now_ns = self._time_source.now_ns()
        core.take(
            self._state,
            ring,
            _words(ring),
            self._commands,
            self._command_words,
            e.SOURCE_SEQUENCER,
            now_ns,
            self._clock,
            8,
        )
        self._announce()

    def _announce(self) -> None:
        self._board[b.SEQUENCED_TS_NS] = self._state.meta[core.TS_NS]
        store_release(self._board, b.SEQUENCED_SEQ, int(self._state.meta[core.SEQ]))
        # After the total: who reads this first and then the total counts nothing as gone that is still before it.
        self._board[b.LANE_SEQUENCED : b.LANE_SEQUENCED + e.SOURCES_MAX] = self._state.sources


def main(context: Context) -> int:
    """Sequence until told to stop."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    engine = context.engine
    state = core.make_state(attach_arena(context.sources_state, core.state_spec(engine.limits.timers), COMMAND_SCHEMA))
    commands = RingFile.attach(context.command_ring, COMMAND_DTYPE, COMMAND_SCHEMA, context.epoch, board)
    commands.take_writer(context.line)
    files = {
        source: RingFile.attach(context.ingress(source), COMMAND_DTYPE, COMMAND_SCHEMA, board=board)
        for source in engine.sources
    }
    for file in files.values():
        file.adopt_reader(INGRESS_SEQUENCER, context.line)
    lanes = [Lane(source, file.ring) for source, file in files.items()]
    for lane in lanes:
        # What recovery found is durable, whether or not the sequencer before this one came to say so.
        advance(lane.ring, INGRESS_SEQUENCER, int(state.sources[lane.source]))
    time_source = SlewedClock(time.monotonic_ns, time.time_ns, int(state.meta[core.TS_NS]))
    process = SequencerProcess(state, commands.ring, lanes, board, engine.clock, time_source)
    process.start_timers(engine.checkpoint_interval_s * 1_000_000_000)
    store_release(board, ready_word(context.line), os.getpid())
    run_loop(
        board,
        context.line,
        STRATEGIES[engine.wait],
        process.step,
        b.STOP,
        jitter(context.jitter_seed and context.jitter_seed + context.line),
    )
    return 0


def warm() -> None:
    """Compile or load every kernel that the process uses."""
    state = core.make_state(private_arena(core.state_spec(1)))
    board = private_board(b.LINES)
    ring = private_ring(COMMAND_DTYPE, 8, board=board)
    core.take(state, ring, _words(ring), ring, _words(ring), 0, 0, e.CLOCK_LIVE, 1)
    core.tick(state, ring, _words(ring), 0)
    core.observe(state, np.zeros(0, dtype=COMMAND_DTYPE))
    measure(np.zeros(METER_WORDS, dtype=np.int64), board, 0)
