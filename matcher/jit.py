"""How kernels of this package are compiled: as ``protocol.jit`` says, and hot parts are written where they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from numba import njit

from protocol.jit import ENTRY, INNER

INLINED: Final = {"forceinline": True}

_Function = Callable[..., Any]


def njit_inlined(function: _Function) -> Any:
    """A part of a kernel that is written where it is called.

    Not callable from Python.
    """
    return njit(**INNER | INLINED)(function)


def njit_called(function: _Function) -> Any:
    """A part of a kernel that is called: what is rare. Not callable from Python."""
    return njit(**INNER)(function)


def njit_kernel(function: _Function) -> Any:
    """A kernel that Python calls too, and that is inlined in the loops of others."""
    return njit(**ENTRY | INLINED)(function)
