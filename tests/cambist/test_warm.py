"""Processes that fill one kernel cache at the same moment."""

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from cambist.warm import LOCK_NAME
from tests.conftest import ROOT

# A kernel that is compiled for the types that the environment names.
KERNELS: Final = """
import os
import numpy as np
from numba import njit

@njit(cache=True)
def total(numbers):
    sum_ = numbers.dtype.type(0)
    for number in numbers:
        sum_ += number
    return sum_

def warm():
    for name in os.environ["TYPES"].split():
        assert total(np.arange(5, dtype=name)) == 10
"""
# Between reading an index and writing it back everybody takes so long that two at once lose an entry.
PROGRAM: Final = """
import os, sys, time
from pathlib import Path
from numba.core import caching
from cambist.warm import compile_all

load = caching.IndexDataCacheFile._load_index
def slowly(self):
    index = load(self)
    time.sleep(0.2)
    return index
caching.IndexDataCacheFile._load_index = slowly

Path(os.environ["NUMBA_CACHE_DIR"], "started-" + os.environ["TYPES"].replace(" ", "-")).touch()
while len(list(Path(os.environ["NUMBA_CACHE_DIR"]).glob("started-*"))) < int(os.environ["TOGETHER"]):
    time.sleep(0.001)
print(compile_all(["summing"], lambda done, total, name: print(name, flush=True)).kernels)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "summing.py").write_text(KERNELS)
    (tmp_path / "cache").mkdir()
    return tmp_path


def start(folder: Path, types: str, together: int = 1) -> subprocess.Popen[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}:{folder}",
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "TYPES": types,
        "TOGETHER": str(together),
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert 0 == process.returncode, err
    return out.splitlines()


def test_two_that_fill_a_cache_at_once_lose_nothing_of_each_other(folder: Path) -> None:
    both = [start(folder, types, together=2) for types in ("int64", "int32")]
    assert [1, 1] == [int(ended(process)[-1]) for process in both]
    assert ["0"] == ended(start(folder, "int64 int32"))


def test_who_has_to_compile_waits_and_says_so_while_another_fills_the_cache(folder: Path) -> None:
    with (folder / "cache" / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start(folder, "int64")
        assert process.stdout is not None
        assert "(waiting: another process fills the cache)\n" == process.stdout.readline()
        assert [] == list(folder.rglob("*.nbi"))
    assert ["summing.total", "1"] == ended(process)


def test_who_finds_everything_waits_for_nobody(folder: Path) -> None:
    ended(start(folder, "int64"))
    with (folder / "cache" / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ["0"] == ended(start(folder, "int64"))
