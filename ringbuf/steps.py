"""What a process does, again and again: steps in turn, as machine code called by address.

A step is a kernel ``step(stage, budget)``: the stage is one Bundle with everything that the step works on, the result is
the work that it did (0: none) or STOPPED. It never blocks. Called by address, one small compiled loop drives the steps of
every process, and a kernel is compiled once whatever calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import config, njit, typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

from ringbuf.atomics import load_acquire, now_ns
from ringbuf.bundle import Bundle
from ringbuf.loop import STOPPED, run_loop
from ringbuf.waiting import idle_wait, woke

__all__ = ["Step", "Steps"]

_YIELD_ROUNDS: Final = 400
"""A round of a compiled loop takes a microsecond, so that a process sleeps some 0.2-0.5 ms after its last work."""

_PLAIN = bool(config.DISABLE_JIT)


class Step(NamedTuple):
    """``kernel(stage, budget)``: an ``entry`` kernel, what it works on, and how much it may do at once."""

    kernel: Any
    stage: Bundle
    budget: int


@intrinsic
def _call(_typing: Any, address: Any, stage: Any, budget: Any) -> Any:
    arguments = (types.voidptr, types.int64)

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        function_type = context.call_conv.get_function_type(types.int64, arguments)
        function = builder.inttoptr(values[0], ir.PointerType(function_type))
        pointer = builder.inttoptr(values[1], cgutils.voidptr_t)
        status, result = context.call_conv.call_function(
            builder, function, types.int64, arguments, (pointer, values[2])
        )
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return result

    return types.int64(address, stage, budget), generate


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
def _turn(table):
    work = 0
    for k in range(table.shape[0]):
        done = _call(table[k, 0], table[k, 1], table[k, 2])
        if done == STOPPED:
            return done
        work += done
    return work


@njit(cache=True, nogil=True, no_cfunc_wrapper=True, _nrt=False)
def _once(table):
    return _turn(table)


@njit(cache=True, nogil=True, no_cfunc_wrapper=True, _nrt=False)
def _until(table, words, word, target):
    """Turns until ``words[word]`` has reached ``target`` or a turn finds no work; gives the last turn's work."""
    work = 1
    while work > 0 and words[word] < target:
        work = _turn(table)
    return work


@njit(cache=True, nogil=True, no_cfunc_wrapper=True, _nrt=False)
def _timed(table, budgets, spans_ns):
    for k in range(budgets.shape[0]):
        began_ns = now_ns()
        _call(table[0, 0], table[0, 1], budgets[k])
        spans_ns[k] = now_ns() - began_ns
        for other in range(1, table.shape[0]):
            _call(table[other, 0], table[other, 1], table[other, 2])


@njit(cache=True, nogil=True, no_cfunc_wrapper=True, _nrt=False)
def _loop(table, board, line, strategy, stop_word):
    idle = 0
    work = 0
    while work != STOPPED and load_acquire(board, stop_word) == 0:
        work = _turn(table)
        if work > 0:
            idle = woke(board, line, idle)
        elif work != STOPPED:
            idle = idle_wait(board, line, idle, strategy, yield_rounds=_YIELD_ROUNDS)
    return work


def _address(step: Step) -> int:
    signature = (typeof(step.stage), types.int64)
    step.kernel.compile(signature)
    compiled = step.kernel.overloads[signature]
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


class Steps:
    """Steps in turn. Keeps their stages alive, and ``keep``: bundles that a stage knows by address only."""

    def __init__(self, *steps: Step, keep: Sequence[Bundle] = ()) -> None:
        self._steps = steps
        self._keep = keep
        rows = [] if _PLAIN else [(_address(step), step.stage.address, step.budget) for step in steps]
        self._table = np.array(rows, dtype=np.int64).reshape(len(rows), 3)

    def turn(self) -> int:
        """Each step once; the work done, STOPPED where one stopped."""
        if not _PLAIN:
            return int(_once(self._table))
        work = 0
        for step in self._steps:
            done = int(step.kernel(step.stage, step.budget))
            if done == STOPPED:
                return done
            work += done
        return work

    def until(self, words: np.ndarray, word: int, target: int) -> int:
        """Turns until ``words[word]`` (int64) has reached ``target`` or a turn finds no work; gives the last turn's work."""
        if not _PLAIN:
            return int(_until(self._table, words, word, target))
        work = 1
        while work > 0 and words[word] < target:
            work = self.turn()
        return work

    def timed(self, budgets: np.ndarray, spans_ns: np.ndarray) -> None:
        """A turn for each of ``budgets`` (int64[n], of the first step).

        ``spans_ns`` (int64[n]) receives what the first step took each time, a reading of the clock included.
        """
        if not _PLAIN:
            _timed(self._table, budgets, spans_ns)
            return
        first, *others = self._steps
        for k, budget in enumerate(budgets):
            began_ns = now_ns()
            first.kernel(first.stage, budget)
            spans_ns[k] = now_ns() - began_ns
            for other in others:
                other.kernel(other.stage, other.budget)

    def run(
        self,
        board: np.ndarray,
        line: int,
        strategy: int,
        stop_word: int,
        delay: Callable[[], None] | None = None,
    ) -> None:
        """Turn, and wait by ``strategy`` on bell ``line`` of ``board`` when there is nothing to do, until ``board[stop_word]``.

        ``delay``: called before each turn, for tests of timing. Returns early where a step stopped.
        """
        if delay is None and not _PLAIN:
            _loop(self._table, board, line, strategy, stop_word)
        else:
            run_loop(board, line, strategy, self.turn, stop_word, delay)
