"""The process of the sequencer: takes from the ingress rings in turn, feeds the timers, frees ingress slots that are durable."""

from __future__ import annotations

import os

import numpy as np

from protocol import board as b
from protocol import enums as e
from protocol.build import set_timer, stamp
from protocol.instance import Context
from protocol.readers import INGRESS_SEQUENCER, ready_word
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA
from ringbuf.arena import attach_arena, private_arena
from ringbuf.atomics import store_release
from ringbuf.board import BoardFile, claim_line, private_board
from ringbuf.bundle import Bundle
from ringbuf.file import RingFile
from ringbuf.loop import jitter
from ringbuf.ring import Ring, advance, private_ring, publish
from ringbuf.steps import Step, Steps
from ringbuf.waiting import STRATEGIES
from sequencer import clock as ck
from sequencer import core

TAKE_SLOTS = 512
"""Slots taken from one producer before the next has its turn."""

TICK_PERIOD_NS = 10_000_000_000
EXPIRY_PERIOD_NS = 1_000_000_000
"""Default period of the clock tick: thirty samples of it make the 5-minute reference."""


def make_steps(state: Bundle, commands: Ring, lanes: list[Bundle], board: np.ndarray, clock: np.ndarray) -> Steps:
    """The sequencer over its lanes; see ``core.make_stage``. The durable cursor comes from the board, the sequenced one goes there."""
    stage = core.make_stage(state, commands, lanes, board, clock)
    announce(state, board)
    return Steps(Step(core.step, stage, TAKE_SLOTS), keep=lanes)


def announce(state: Bundle, board: np.ndarray) -> None:
    """What is sequenced, on the board."""
    board[b.SEQUENCED_TS_NS] = state.meta[core.TS_NS]
    store_release(board, b.SEQUENCED_SEQ, int(state.meta[core.SEQ]))
    board[b.LANE_SEQUENCED : b.LANE_SEQUENCED + e.SOURCES_MAX] = state.sources


def start_timers(
    state: Bundle, commands: Ring, board: np.ndarray, clock: np.ndarray, checkpoint_period_ns: int
) -> None:
    """Start with a live clock: ask for checkpoints and clock ticks where no timer runs, and for expiries where they do not, by commands."""
    if clock[ck.MODE] != e.CLOCK_LIVE:
        return
    groups = []
    if not bool(np.any(state.timers[:, core.PERIOD_NS])):
        groups = [
            set_timer(
                core.CHECKPOINT_TIMER, checkpoint_period_ns, 0, "cambist", "checkpoint interval of the configuration"
            ),
            set_timer(core.TICK_TIMER, TICK_PERIOD_NS, 0, "cambist", "clock tick of reference prices"),
        ]
    if len(state.timers) > core.EXPIRY_TIMER and state.timers[core.EXPIRY_TIMER, core.PERIOD_NS] == 0:
        groups.append(set_timer(core.EXPIRY_TIMER, EXPIRY_PERIOD_NS, 0, "cambist", "orders expire"))
    groups = [group for group in groups if group[0]["price_ticks"] > 0]
    if not groups:
        return
    slots = np.concatenate(groups)
    first = int(state.sources[e.SOURCE_SEQUENCER]) + 1
    ring = private_ring(COMMAND_DTYPE, 8, start=first - 1)
    ring.slots[(np.arange(len(slots)) + first - 1) % len(ring.slots)] = stamp(slots, e.SOURCE_SEQUENCER, first)
    publish(ring, first + len(slots) - 1)
    make_steps(state, commands, [core.make_lane(e.SOURCE_SEQUENCER, ring)], board, clock).turn()


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
    for source, file in files.items():
        file.adopt_reader(INGRESS_SEQUENCER, context.line)
        # What recovery found is durable, whether or not the sequencer before this one came to say so.
        advance(file.ring, INGRESS_SEQUENCER, int(state.sources[source]))
    clock = ck.make_clock(engine.clock, int(state.meta[core.TS_NS]))
    start_timers(state, commands.ring, board, clock, engine.checkpoint_interval_s * 1_000_000_000)
    # A history that comes with its numbers has risk's own commands too: what the outbox sends would be there twice.
    served = [s for s in files if engine.clock != e.CLOCK_VERBATIM or s != e.SOURCE_RISK]
    lanes = [core.make_lane(source, files[source].ring) for source in served]
    steps = make_steps(state, commands.ring, lanes, board, clock)
    store_release(board, ready_word(context.line), os.getpid())
    steps.run(board, context.line, STRATEGIES[engine.wait], b.STOP, jitter(context.jitter_seed, context.line))
    return 0


def warm() -> None:
    """Compile or load every kernel that the process uses."""
    state = core.make_state(private_arena(core.state_spec(1)))
    board = private_board(b.LINES)
    ring = private_ring(COMMAND_DTYPE, 8, board=board)
    make_steps(state, ring, [core.make_lane(0, ring)], board, ck.make_clock(e.CLOCK_LIVE)).turn()
    core.observe(state, np.zeros(0, dtype=COMMAND_DTYPE))
