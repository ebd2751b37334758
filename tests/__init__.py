"""Tests, and the programs ``python -m tests.…`` that take files or seeds.

The kernel cache is chosen here, because this file runs before any test, fixture or program can import numba.
"""

from ringbuf.kernel_cache import configure

KERNEL_CACHE = configure()
