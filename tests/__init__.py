"""Tests, and the programs ``python -m tests.…`` that take files or seeds.

The kernel cache is chosen here, because this file runs before any test, fixture or program can import numba.
"""

import os
import sys

from ringbuf.kernel_cache import configure

# The tests start hundreds of processes; each that finds no compiled modules takes half a second more.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

KERNEL_CACHE = configure()
