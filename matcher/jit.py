"""How the kernels of this package are compiled.

Two private facts of numba make the difference. ``_nrt=False``: nothing is allocated, so that no array needs its
reference counted (an atomic increment and decrement each time an array is taken out of the state's tuple, more than
the whole rest of a command). Without a Python wrapper a function that only kernels call compiles in half the time:
unpacking a tuple of ten arrays is more code than what it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

_Function = Callable[..., Any]


def njit_inlined(function: _Function) -> Any:
    """A part of a kernel that is written where it is called: a call that passes the state's ten arrays is dear.

    Not callable from Python.
    """
    return njit(forceinline=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def njit_called(function: _Function) -> Any:
    """A part of a kernel that is called: what is rare. Not callable from Python."""
    return njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def njit_kernel(function: _Function) -> Any:
    """A kernel that Python calls too, and that is inlined in the loops of others."""
    return njit(cache=True, forceinline=True, nogil=True, _nrt=False, no_cfunc_wrapper=True)(function)
