"""What numba's front end (0.68, pinned) does over and over while kernels are compiled, done once.

With the passes that `protocol.jit` leaves out it takes three tenths off the processor time. Nothing here changes what is compiled.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from llvmlite import ir as llvm_ir
from numba.core import event, ir, itanium_mangler, targetconfig, types
from numba.core.types import functions

_KNOWN_BY_TYPE: Final = (types.Number, types.Boolean, types.Literal, types.Record, types.Array, types.NestedArray)

_resolve: Final = functions.BaseFunction.get_call_type
_signatures: Final[dict[Any, Any]] = {}


def _resolved_once(function: Any, context: Any, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
    """An operator of given types has one signature; numba tries all its templates at each place."""
    if kws or not all(isinstance(given, _KNOWN_BY_TYPE) for given in args):
        return _resolve(function, context, args, kws)
    key = (function, context, args, targetconfig.ConfigStack.top_or_none())
    found = _signatures.get(key)
    if found is None:
        found = _signatures[key] = _resolve(function, context, args, kws)
    return found


@functools.cache
def _defaults(config: Any) -> MappingProxyType[str, Any]:
    return MappingProxyType({name: option.default for name, option in config.options.items()})


def _all_values(self: Any) -> dict[str, Any]:
    """Of flags, which are a key of several caches; numba asks for each of thirty by a property."""
    kind: Any = type(self)
    return {**_defaults(kind), **self._values}


@contextmanager
def _no_timer(_kind: str, _callback: Any) -> Iterator[None]:
    """Each function that is being compiled times two locks, which its callees take many thousand times."""
    yield


_type_of_llvm: Final = llvm_ir.Type._get_ll_global_value_type  # noqa: SLF001
_llvm_types: Final[dict[str, Any]] = {}


def _type_of_llvm_once(self: Any, target_data: Any, context: Any = None) -> Any:
    """LLVM's own object of a type is got by writing a module and parsing it."""
    if context is not None:
        return _type_of_llvm(self, target_data, context)
    text = str(self)
    found = _llvm_types.get(text)
    if found is None:
        found = _llvm_types[text] = _type_of_llvm(self, target_data)
    return found


def _variables(self: Any, value: Any) -> list[Any]:
    """What an instruction uses is asked for ten times a function; most are one variable or none."""
    kind = type(value)
    if kind is ir.Var:
        return [value]
    if kind in _WITHOUT_VARIABLES:
        return []
    if kind is list or kind is tuple:
        return [found for item in value for found in _variables(self, item)]
    if kind is dict:
        return [found for item in value.values() for found in _variables(self, item)]
    return _variables_of_any(self, value)


_WITHOUT_VARIABLES: Final = frozenset((str, int, bool, type(None), ir.Loc, ir.Scope))
_variables_of_any: Final = ir.Inst._rec_list_vars  # noqa: SLF001


def apply() -> None:
    """Replace those parts of numba, and of llvmlite; once, when kernels are first decorated."""
    for owner, name, replacement in (
        (functions.BaseFunction, "get_call_type", _resolved_once),
        (targetconfig.TargetConfig, "values", _all_values),
        (event, "install_timer", _no_timer),
        (llvm_ir.Type, "_get_ll_global_value_type", _type_of_llvm_once),
        (ir.Inst, "_rec_list_vars", _variables),
        (itanium_mangler, "_escape_string", functools.cache(itanium_mangler._escape_string)),  # noqa: SLF001
    ):
        assert hasattr(owner, name), f"numba has no {name} in {owner}; is it the pinned version?"
        setattr(owner, name, replacement)
