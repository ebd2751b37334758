"""64-bit words as kernels need them: bit scans, prefetches, and products that wrap, in plain Python too."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.extending import lower_builtin, type_callable

_inlined = njit(forceinline=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)

PHI: Final = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, odd: the multiplier of Fibonacci hashing (Knuth, TAOCP 6.4)."""

_U1: Final = np.uint64(1)
_MASK: Final = (1 << 64) - 1
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_U27: Final = np.uint64(27)
_U30: Final = np.uint64(30)
_U31: Final = np.uint64(31)


def trailing_zeros(word: np.uint64) -> np.int64:
    """Number of the lowest bit set in a uint64 that is not 0."""
    if config.DISABLE_JIT:
        value = int(word)
        return np.int64((value & -value).bit_length() - 1)
    return _compiled_trailing_zeros(word)


def leading_zeros(word: np.uint64) -> np.int64:
    """Number of zero bits above the highest bit set in a uint64 that is not 0."""
    if config.DISABLE_JIT:
        return np.int64(64 - int(word).bit_length())
    return _compiled_leading_zeros(word)


def ones(word: np.uint64) -> np.int64:
    """Number of bits set in a uint64."""
    if config.DISABLE_JIT:
        return np.int64(int(word).bit_count())
    return _compiled_ones(word)


def prefetch(array: np.ndarray, index: np.int64) -> None:
    """Ask for the cache line of ``array[index]`` (0 <= index < length); changes nothing but time."""


def clear(array: np.ndarray, index: np.int64) -> None:
    """Make the record ``array[index]`` (0 <= index < length) all zero bytes."""
    array[index : index + 1].view(np.uint8)[:] = 0


def _register(function: Any, emit: Any) -> None:
    @type_callable(function)
    def _typing(_context: Any) -> Any:
        return lambda word: Signature(types.int64, (types.uint64,), None) if word == types.uint64 else None

    @lower_builtin(function, types.uint64)
    def _lowering(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return emit(builder, values[0])


_NEVER_ZERO = ir.Constant(ir.IntType(1), 1)
_register(trailing_zeros, lambda builder, word: builder.cttz(word, _NEVER_ZERO))
_register(leading_zeros, lambda builder, word: builder.ctlz(word, _NEVER_ZERO))
_register(ones, lambda builder, word: builder.ctpop(word))


@type_callable(clear)
@type_callable(prefetch)
def _typing_record(_context: Any) -> Any:
    def typer(array: Any, index: Any) -> Any:
        if isinstance(array, types.Array) and isinstance(index, types.Integer):
            return Signature(types.none, (array, types.int64), None)
        return None

    return typer


def _record_pointer(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    view = context.make_array(signature.args[0])(context, builder, values[0])
    return cgutils.get_item_pointer(context, builder, signature.args[0], view, [values[1]], wraparound=False)


@lower_builtin(clear, types.Array, types.int64)
def _lower_clear(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    pointer = _record_pointer(context, builder, signature, values)
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype)))
    cgutils.memset(builder, pointer, size, 0)
    return context.get_dummy_value()


@lower_builtin(prefetch, types.Array, types.int64)
def _lower_prefetch(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    pointer = _record_pointer(context, builder, signature, values)
    byte_pointer = ir.IntType(8).as_pointer()
    word = ir.IntType(32)
    prefetch_type = ir.FunctionType(ir.VoidType(), [byte_pointer, word, word, word])
    function = cgutils.get_or_insert_function(builder.module, prefetch_type, "llvm.prefetch.p0")
    # For reading, into all levels of the cache, as data.
    builder.call(function, [builder.bitcast(pointer, byte_pointer), word(0), word(3), word(1)])
    return context.get_dummy_value()


@njit(cache=True)
def _compiled_trailing_zeros(word):
    return trailing_zeros(word)


@njit(cache=True)
def _compiled_leading_zeros(word):
    return leading_zeros(word)


@njit(cache=True)
def _compiled_ones(word):
    return ones(word)


@_inlined
def _multiply_compiled(a, b):
    return np.uint64(a) * np.uint64(b)


@_inlined
def _add_compiled(a, b):
    return np.uint64(a) + np.uint64(b)


def _multiply_plain(a, b):
    return np.uint64(int(a) * int(b) & _MASK)


def _add_plain(a, b):
    return np.uint64(int(a) + int(b) & _MASK)


multiply = _multiply_plain if config.DISABLE_JIT else _multiply_compiled
"""``multiply(a, b)``: the product of two uint64 modulo 2^64."""

add = _add_plain if config.DISABLE_JIT else _add_compiled
"""``add(a, b)``: the sum of two integers modulo 2^64, as uint64."""


@_inlined
def mix(word):
    """A uint64 with its bits spread over all others, one to one (splitmix64's finalizer; Steele and others, 2014)."""
    word = multiply(word ^ (word >> _U30), _MIX_1)
    word = multiply(word ^ (word >> _U27), _MIX_2)
    return word ^ (word >> _U31)


@_inlined
def bit(number):
    """The uint64 in which only bit ``number`` (0..63) is set."""
    return _U1 << np.uint64(number)


@_inlined
def below(number):
    """The uint64 in which the bits below ``number`` (0..63) are set."""
    return (_U1 << np.uint64(number)) - _U1


@_inlined
def above(number):
    """The uint64 in which the bits above ``number`` (0..63) are set."""
    return ~((_U1 << np.uint64(number)) | ((_U1 << np.uint64(number)) - _U1))


@_inlined
def lowest(word):
    """Number of the lowest bit of a word that is not 0."""
    return trailing_zeros(word)


@_inlined
def highest(word):
    """Number of the highest bit of a word that is not 0."""
    return 63 - leading_zeros(word)
