"""How kernels are compiled.

``inner`` functions are called from kernels only: without wrappers for Python calls and without files of their own in the
on-disk cache they compile several times faster. ``entry`` functions are called from Python: cached on disk, and they
release the GIL. ``_nrt=False``: kernels allocate nothing, so that no reference is counted. Both run as plain Python
functions with ``NUMBA_DISABLE_JIT=1``.
"""

from __future__ import annotations

from numba import njit

inner = njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
entry = njit(cache=True, nogil=True, _nrt=False, no_cfunc_wrapper=True)
