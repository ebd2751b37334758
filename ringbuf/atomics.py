"""Atomic words, fences, pause, yield, clocks and futex, callable from compiled kernels and from Python alike.

Every function here works in three ways under one name: inside ``@njit`` code it is lowered to LLVM instructions at
the place of the call; called from Python with the JIT on it runs a small compiled twin, so the access is a true
atomic; with ``NUMBA_DISABLE_JIT=1`` it is plain Python, which is meant for tests on one thread (``fetch_add``, ``exchange``
and ``compare_exchange`` are then two steps).

``words`` is always a one-dimensional int64 array and ``i`` an int64 index of a word in it; no bounds are checked.

The C library is reached by symbol (``sched_yield``, ``clock_gettime``, ``syscall``), never by the address of a ctypes
function: numba would write that address into its on-disk cache, and another process has the library elsewhere.
"""

import ctypes
import errno
import os
import platform
import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.core.typing.templates import Signature
from numba.extending import lower_builtin, type_callable

__all__ = [
    "compare_exchange",
    "exchange",
    "fence",
    "fence_acquire",
    "fence_release",
    "fetch_add",
    "fetch_and",
    "fetch_or",
    "futex_syscall_number",
    "futex_wait",
    "futex_wake",
    "load_acquire",
    "load_relaxed",
    "now_ns",
    "pause",
    "pause_intrinsic",
    "realtime_ns",
    "sched_yield",
    "store_relaxed",
    "store_release",
]

_FUTEX_NUMBERS = {"x86_64": 202, "amd64": 202, "aarch64": 98, "arm64": 98}
_PAUSES: dict[str, tuple[str, tuple[int, ...]]] = {
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "amd64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.hint", (1,)),
    "arm64": ("llvm.aarch64.hint", (1,)),
}
# The shared kind: FUTEX_PRIVATE_FLAG is absent, because waiter and waker are different processes.
_FUTEX_WAIT = 0
_FUTEX_WAKE = 1
_CLOCK_REALTIME = 0
_CLOCK_MONOTONIC = 1
_NS_PER_S = 1_000_000_000

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


def futex_syscall_number(machine: str) -> int:
    """Number of the Linux ``futex`` system call on ``machine`` (a name as ``platform.machine()`` gives it).

    Raises NotImplementedError on a machine other than x86-64 and 64-bit Arm.
    """
    try:
        return _FUTEX_NUMBERS[machine.lower()]
    except KeyError:
        raise NotImplementedError(
            f"ringbuf: no futex system call number is known for machine {machine!r}; x86_64 and aarch64 are supported"
        ) from None


def pause_intrinsic(machine: str) -> tuple[str, tuple[int, ...]]:
    """LLVM intrinsic and its int32 arguments that tell a core of ``machine`` that it is in a spin loop.

    Raises NotImplementedError on a machine other than x86-64 and 64-bit Arm.
    """
    try:
        return _PAUSES[machine.lower()]
    except KeyError:
        raise NotImplementedError(
            f"ringbuf: no pause hint is known for machine {machine!r}; x86_64 and aarch64 are supported"
        ) from None


_MACHINE = platform.machine()
_FUTEX_NUMBER = futex_syscall_number(_MACHINE)
pause_intrinsic(_MACHINE)

# Whether NUMBA_DISABLE_JIT was set: the functions below are then plain Python.
_PLAIN = bool(config.DISABLE_JIT)
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_int64)]


# --- What is emitted: functions of an IR builder only, so that tests can emit them for another machine


def emit_pause(builder: ir.IRBuilder, machine: str) -> None:
    """Emit the pause hint of ``machine``."""
    name, arguments = pause_intrinsic(machine)
    function_type = ir.FunctionType(ir.VoidType(), [_I32] * len(arguments))
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    builder.call(function, [_I32(value) for value in arguments])


def emit_load(builder: ir.IRBuilder, pointer: ir.Value, ordering: str) -> ir.Value:
    """Emit an atomic load of an int64 word with LLVM ``ordering`` ("acquire", "monotonic")."""
    return builder.load_atomic(pointer, ordering, 8)


def emit_store(builder: ir.IRBuilder, pointer: ir.Value, value: ir.Value, ordering: str) -> None:
    """Emit an atomic store of an int64 word with LLVM ``ordering`` ("release", "monotonic")."""
    builder.store_atomic(value, pointer, ordering, 8)


def emit_read_modify_write(builder: ir.IRBuilder, operation: str, pointer: ir.Value, value: ir.Value) -> ir.Value:
    """Emit a sequentially consistent read-modify-write ("add", "xchg", "or", "and"); gives the old value."""
    return builder.atomic_rmw(operation, pointer, value, "seq_cst")


def emit_compare_exchange(builder: ir.IRBuilder, pointer: ir.Value, expected: ir.Value, value: ir.Value) -> ir.Value:
    """Emit a sequentially consistent compare-and-exchange of an int64 word; gives the old value."""
    return builder.extract_value(builder.cmpxchg(pointer, expected, value, "seq_cst", "seq_cst"), 0)


def emit_clock(builder: ir.IRBuilder, clock: int) -> ir.Value:
    """Emit ``clock_gettime(clock)``; gives nanoseconds as int64."""
    function_type = ir.FunctionType(_I32, [_I32, _I64.as_pointer()])
    function = cgutils.get_or_insert_function(builder.module, function_type, "clock_gettime")
    timespec = builder.bitcast(cgutils.alloca_once(builder, ir.ArrayType(_I64, 2)), _I64.as_pointer())
    builder.call(function, [_I32(clock), timespec])
    seconds = builder.load(timespec)
    nanoseconds = builder.load(builder.gep(timespec, [_I64(1)]))
    return builder.add(builder.mul(seconds, _I64(_NS_PER_S)), nanoseconds)


def emit_futex(
    builder: ir.IRBuilder, number: int, pointer: ir.Value, operation: int, value: ir.Value, timeout: ir.Value
):
    """Emit ``syscall(number, pointer, operation, value, timeout, 0, 0)``; gives its result, or -errno."""
    syscall_type = ir.FunctionType(_I64, [_I64], var_arg=True)
    syscall = cgutils.get_or_insert_function(builder.module, syscall_type, "syscall")
    address = builder.ptrtoint(pointer, _I64)
    result = builder.call(syscall, [_I64(number), address, _I64(operation), value, timeout, _I64(0), _I64(0)])
    errno_type = ir.FunctionType(_I32.as_pointer(), [])
    errno_location = cgutils.get_or_insert_function(builder.module, errno_type, "__errno_location")
    code = builder.sext(builder.load(builder.call(errno_location, [])), _I64)
    return builder.select(builder.icmp_signed("<", result, _I64(0)), builder.neg(code), result)


# --- How numba types and lowers the public functions


def _is_words(words: Any) -> bool:
    return isinstance(words, types.Array) and words.ndim == 1 and words.dtype == types.int64


def _word_pointer(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, index: ir.Value) -> ir.Value:
    view = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, view, [index], wraparound=False)


def _register(function: Any, result: Any, extra: int, words: bool, lower: Any) -> None:
    """Teach numba ``function(words, i, *extra int64)``, or ``function()`` when ``words`` is False."""

    @type_callable(function)
    def _typing(_context: Any) -> Any:
        if not words:
            return lambda: Signature(result, (), None)

        def typer(array: Any, index: Any, *rest: Any) -> Any:
            if not _is_words(array) or len(rest) != extra:
                return None
            if not all(isinstance(value, types.Integer | types.IntegerLiteral) for value in (index, *rest)):
                return None
            return Signature(result, (array, types.int64, *(types.int64 for _ in rest)), None)

        # numba reads the number of arguments from the signature, and a star does not do.
        if extra == 0:
            return lambda words, i: typer(words, i)  # noqa: PLW0108
        if extra == 1:
            return lambda words, i, v: typer(words, i, v)  # noqa: PLW0108
        return lambda words, i, expected, v: typer(words, i, expected, v)  # noqa: PLW0108

    arguments = (types.Array, types.int64, *(types.int64 for _ in range(extra))) if words else ()

    @lower_builtin(function, *arguments)
    def _lowering(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
        if words:
            pointer = _word_pointer(context, builder, signature.args[0], values[0], values[1])
            emitted = lower(builder, pointer, *values[2:])
        else:
            emitted = lower(builder)
        return context.get_dummy_value() if result == types.none else emitted


def _lower_futex_wait(builder: ir.IRBuilder, pointer: ir.Value, expected: ir.Value, timeout_ns: ir.Value) -> ir.Value:
    timespec = builder.bitcast(cgutils.alloca_once(builder, ir.ArrayType(_I64, 2)), _I64.as_pointer())
    builder.store(builder.sdiv(timeout_ns, _I64(_NS_PER_S)), timespec)
    builder.store(builder.srem(timeout_ns, _I64(_NS_PER_S)), builder.gep(timespec, [_I64(1)]))
    low_half = builder.and_(expected, _I64(0xFFFFFFFF))
    return emit_futex(builder, _FUTEX_NUMBER, pointer, _FUTEX_WAIT, low_half, builder.ptrtoint(timespec, _I64))


def _lower_sched_yield(builder: ir.IRBuilder) -> None:
    builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, []), "sched_yield"), [])


# --- Plain twins of what has no Python equivalent


def _plain_futex(words: np.ndarray, i: int, operation: int, value: int, timeout_ns: int) -> int:
    address = ctypes.c_void_p(words.ctypes.data + int(i) * words.strides[0])
    timespec = _Timespec(int(timeout_ns) // _NS_PER_S, int(timeout_ns) % _NS_PER_S)
    timeout = ctypes.byref(timespec) if operation == _FUTEX_WAIT else None
    result = _libc.syscall(
        ctypes.c_long(_FUTEX_NUMBER),
        address,
        ctypes.c_long(operation),
        ctypes.c_long(int(value) & 0xFFFFFFFF),
        timeout,
        None,
        ctypes.c_long(0),
    )
    return int(result) if result >= 0 else -ctypes.get_errno()


# --- Public functions


def load_acquire(words: np.ndarray, i: int) -> int:
    """Value of ``words[i]`` (int64); nothing after it in program order is read or written before it."""
    return int(words[i]) if _PLAIN else _compiled_load_acquire(words, i)


def load_relaxed(words: np.ndarray, i: int) -> int:
    """Value of ``words[i]`` (int64), read afresh at every call, without ordering."""
    return int(words[i]) if _PLAIN else _compiled_load_relaxed(words, i)


def store_release(words: np.ndarray, i: int, v: int) -> None:
    """Set ``words[i]`` (int64) to ``v``; everything before it in program order is visible to who acquires it."""
    if _PLAIN:
        words[i] = v
    else:
        _compiled_store_release(words, i, v)


def store_relaxed(words: np.ndarray, i: int, v: int) -> None:
    """Set ``words[i]`` (int64) to ``v`` in one piece, without ordering."""
    if _PLAIN:
        words[i] = v
    else:
        _compiled_store_relaxed(words, i, v)


def fetch_add(words: np.ndarray, i: int, v: int) -> int:
    """Add ``v`` to ``words[i]`` (int64, wraps) atomically and sequentially consistent; gives the old value."""
    if not _PLAIN:
        return _compiled_fetch_add(words, i, v)
    old = int(words[i])
    words[i] = old + v
    return old


def exchange(words: np.ndarray, i: int, v: int) -> int:
    """Set ``words[i]`` (int64) to ``v`` atomically and sequentially consistent; gives the old value."""
    if not _PLAIN:
        return _compiled_exchange(words, i, v)
    old = int(words[i])
    words[i] = v
    return old


def compare_exchange(words: np.ndarray, i: int, expected: int, v: int) -> int:
    """Set ``words[i]`` (int64) to ``v`` if it is ``expected``, atomically and sequentially consistent; gives the old value."""
    if not _PLAIN:
        return _compiled_compare_exchange(words, i, expected, v)
    old = int(words[i])
    if old == expected:
        words[i] = v
    return old


def fetch_or(words: np.ndarray, i: int, v: int) -> int:
    """Set the bits of ``v`` in ``words[i]`` (int64) atomically; gives the old value."""
    if not _PLAIN:
        return _compiled_fetch_or(words, i, v)
    old = int(words[i])
    words[i] = old | v
    return old


def fetch_and(words: np.ndarray, i: int, v: int) -> int:
    """Keep in ``words[i]`` (int64) only the bits of ``v``, atomically; gives the old value."""
    if not _PLAIN:
        return _compiled_fetch_and(words, i, v)
    old = int(words[i])
    words[i] = old & v
    return old


def fence() -> None:
    """Sequentially consistent fence: no earlier store may pass a later load."""
    if not _PLAIN:
        _compiled_fence()


def fence_acquire() -> None:
    """Acquire fence: earlier loads stay before all later loads and stores."""
    if not _PLAIN:
        _compiled_fence()


def fence_release() -> None:
    """Release fence: earlier loads and stores stay before all later stores."""
    if not _PLAIN:
        _compiled_fence()


def pause() -> None:
    """Hint to the core that this is a spin loop; does nothing in plain Python."""


def sched_yield() -> None:
    """Let another runnable thread have the core."""
    os.sched_yield()


def now_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds, int64; comparable between the processes of one machine."""
    return time.monotonic_ns()


def realtime_ns() -> int:
    """CLOCK_REALTIME (UTC since 1970) in nanoseconds, int64."""
    return time.time_ns()


def futex_wait(words: np.ndarray, i: int, expected: int, timeout_ns: int) -> int:
    """Sleep while the low 32 bits of ``words[i]`` equal those of ``expected``, at most ``timeout_ns``.

    Gives 0 when woken, else a negative errno: ``-EAGAIN`` when the word differed at entry, ``-ETIMEDOUT``,
    ``-EINTR``. The futex is of the shared kind, on the first four bytes of the word (both supported machines are
    little endian).
    """
    if _PLAIN:
        return _plain_futex(words, i, _FUTEX_WAIT, expected, timeout_ns)
    return _compiled_futex_wait(words, i, expected, timeout_ns)


def futex_wake(words: np.ndarray, i: int, n: int) -> int:
    """Wake at most ``n`` sleepers of the futex at ``words[i]``; gives how many were woken, or a negative errno."""
    if _PLAIN:
        return _plain_futex(words, i, _FUTEX_WAKE, n, 0)
    return _compiled_futex_wake(words, i, n)


TIMED_OUT = -errno.ETIMEDOUT

_register(load_acquire, types.int64, 0, True, lambda b, p: emit_load(b, p, "acquire"))
_register(load_relaxed, types.int64, 0, True, lambda b, p: emit_load(b, p, "monotonic"))
_register(store_release, types.none, 1, True, lambda b, p, v: emit_store(b, p, v, "release"))
_register(store_relaxed, types.none, 1, True, lambda b, p, v: emit_store(b, p, v, "monotonic"))
_register(fetch_add, types.int64, 1, True, lambda b, p, v: emit_read_modify_write(b, "add", p, v))
_register(exchange, types.int64, 1, True, lambda b, p, v: emit_read_modify_write(b, "xchg", p, v))
_register(compare_exchange, types.int64, 2, True, emit_compare_exchange)
_register(fetch_or, types.int64, 1, True, lambda b, p, v: emit_read_modify_write(b, "or", p, v))
_register(fetch_and, types.int64, 1, True, lambda b, p, v: emit_read_modify_write(b, "and", p, v))
_register(fence, types.none, 0, False, lambda b: b.fence("seq_cst"))
_register(fence_acquire, types.none, 0, False, lambda b: b.fence("acquire"))
_register(fence_release, types.none, 0, False, lambda b: b.fence("release"))
_register(pause, types.none, 0, False, lambda b: emit_pause(b, _MACHINE))
_register(sched_yield, types.none, 0, False, _lower_sched_yield)
_register(now_ns, types.int64, 0, False, lambda b: emit_clock(b, _CLOCK_MONOTONIC))
_register(realtime_ns, types.int64, 0, False, lambda b: emit_clock(b, _CLOCK_REALTIME))
_register(futex_wait, types.int64, 2, True, _lower_futex_wait)
_register(futex_wake, types.int64, 1, True, lambda b, p, n: emit_futex(b, _FUTEX_NUMBER, p, _FUTEX_WAKE, n, _I64(0)))


# The compiled twins that a call from Python runs; futex_wait gives the interpreter lock back while it sleeps.


@njit(cache=True)
def _compiled_load_acquire(words, i):
    return load_acquire(words, i)


@njit(cache=True)
def _compiled_load_relaxed(words, i):
    return load_relaxed(words, i)


@njit(cache=True)
def _compiled_store_release(words, i, v):
    store_release(words, i, v)


@njit(cache=True)
def _compiled_store_relaxed(words, i, v):
    store_relaxed(words, i, v)


@njit(cache=True)
def _compiled_fetch_add(words, i, v):
    return fetch_add(words, i, v)


@njit(cache=True)
def _compiled_exchange(words, i, v):
    return exchange(words, i, v)


@njit(cache=True)
def _compiled_compare_exchange(words, i, expected, v):
    return compare_exchange(words, i, expected, v)


@njit(cache=True)
def _compiled_fetch_or(words, i, v):
    return fetch_or(words, i, v)


@njit(cache=True)
def _compiled_fetch_and(words, i, v):
    return fetch_and(words, i, v)


@njit(cache=True)
def _compiled_fence():
    fence()


@njit(cache=True, nogil=True)
def _compiled_futex_wait(words, i, expected, timeout_ns):
    return futex_wait(words, i, expected, timeout_ns)


@njit(cache=True)
def _compiled_futex_wake(words, i, n):
    return futex_wake(words, i, n)
