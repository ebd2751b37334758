"""Which arrays make up the state at a command, and how much of them is in use."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from matcher import state as m
from matcher.process import shard_spec
from persistence.fused import FusedEngine, risk_spec
from protocol.instance import Engine
from ringbuf.arena import private_arena
from risk import state as s
from sequencer import core as sequencer

Arrays = dict[str, np.ndarray]

RISK: Final = "risk"
SEQUENCER: Final = "sequencer"
OUTCOMES: Final = "outcomes"
"""The newest outcomes, under their numbers: a gateway that followed the live ring goes on where it was."""

_NOT_STATE: Final = {"pending", "scratch"}
"""What a part works with inside a step or a window of commands; nothing in it outlives a settled command."""


class State(NamedTuple):
    """The arrays of one state by name: risk, a matcher a shard, the sequencer's lanes and timers."""

    risk: Arrays
    shards: list[Arrays]
    sequencer: Arrays


def matcher_part(shard: int) -> str:
    """Name of a shard's part in a snapshot."""
    return f"matcher-{shard}"


def reset_state(state: State, config: Engine) -> State:
    """Make new, zeroed arrays the empty state of ``config``."""
    s.reset(s.make_state(state.risk), config.limits)
    for shard, arrays in enumerate(state.shards):
        m.reset(m.make_state(arrays), shard, config.shards)
    return state


def zero_state(config: Engine) -> State:
    """Arrays of zeros on private memory, to be reset, or filled from a snapshot."""
    return State(
        private_arena(risk_spec(config)),
        [private_arena(shard_spec(config)) for _ in range(config.shards)],
        private_arena(sequencer.state_spec(config.limits.timers)),
    )


def private_state(config: Engine) -> State:
    """The empty state on private memory."""
    return reset_state(zero_state(config), config)


def parts_of(engine: FusedEngine, lanes: Arrays) -> dict[str, Arrays]:
    """What a snapshot holds of an engine that stands still, by part and array: as far as it is in use, without copying."""
    risk = engine.risk.members()
    parts = {RISK: _used(risk, _risk_rows(risk))}
    for shard, matcher in enumerate(engine.matchers):
        arrays = {name: array for name, array in matcher.members().items() if isinstance(array, np.ndarray)}
        parts[matcher_part(shard)] = _used(arrays, _matcher_rows(arrays, int(risk["meta"][s.ACCOUNTS_HIGH])))
    parts[SEQUENCER] = dict(lanes)
    parts[OUTCOMES] = {"slots": newest_outcomes(engine)}
    return parts


def newest_outcomes(engine: FusedEngine) -> np.ndarray:
    """Copies of the newest outcomes, OUTCOME[n] in order; as many as the engine's ring holds and has seen."""
    total = int(engine.risk.meta[s.OUTCOMES])
    first = engine.oldest_outcome(total)
    return engine.outcomes.slots[np.arange(first, total) & (len(engine.outcomes.slots) - 1)]


def place_outcomes(engine: FusedEngine, slots: np.ndarray) -> None:
    """Fill the private outcome ring of an engine with the outcomes before those that it will give."""
    total = int(engine.risk.meta[s.OUTCOMES])
    slots = slots[-len(engine.outcomes.slots) :]
    first = total - len(slots)
    engine.outcomes.slots[np.arange(first, total) & (len(engine.outcomes.slots) - 1)] = slots
    engine.outcomes_from = first


def _used(arrays: Arrays, rows: dict[str, int]) -> Arrays:
    return {name: array[: rows.get(name, len(array))] for name, array in arrays.items() if name not in _NOT_STATE}


def _risk_rows(arrays: Arrays) -> dict[str, int]:
    meta: Any = arrays["meta"]
    holds, finished = int(meta[s.HOLDS_HIGH]), int(meta[s.FINISHED])
    accounts = int(meta[s.ACCOUNTS_HIGH]) + 1
    return {
        "balances": accounts * len(arrays["assets"]) * s.BALANCE_WORDS,
        "accounts": accounts,
        "volumes": accounts * s.VOLUME_RING,
        "holds": holds,
        "hold_ids": holds,
        "finished": min(finished, len(arrays["finished"])),
        "finished_ids": min(finished, len(arrays["finished"])),
    }


def _matcher_rows(arrays: Arrays, accounts_high: int) -> dict[str, int]:
    meta: Any = arrays["meta"]
    return {
        "orders": int(meta[m.ORDERS_USED]) + 1,
        "leaves": int(meta[m.LEAVES_USED]) + 1,
        "levels": int(meta[m.LEVELS_USED]) + 1,
        "nodes": int(meta[m.NODES_USED]) + 1,
        "accounts": accounts_high + 1,
        "groups": accounts_high + 1,
    }
