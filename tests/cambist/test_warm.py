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
SLOW: Final = """\
load = caching.IndexDataCacheFile._load_index
def slowly(self):
    index = load(self)
    time.sleep(0.2)
    return index
caching.IndexDataCacheFile._load_index = slowly
"""
PROGRAM: Final = f"""
import os, sys, time
from pathlib import Path
from numba.core import caching
from cambist.warm import compile_all

{SLOW}
Path(os.environ["NUMBA_CACHE_DIR"], "started-" + os.environ["TYPES"].replace(" ", "-")).touch()
while len(list(Path(os.environ["NUMBA_CACHE_DIR"]).glob("started-*"))) < int(os.environ["TOGETHER"]):
    time.sleep(0.001)
print(compile_all(["summing"], lambda done, total, name: print(name, flush=True)).kernels)
"""
# Two modules with the kernels of two processes, of which one also calls the other's.
TOGETHER: Final = f"""
import os, time
from numba.core import caching
from cambist import warm

{SLOW}
os.sched_getaffinity = lambda pid: {{0, 1}}
warm.BESIDE, warm.AFTER = ("summing",), ("after",)
save = caching.IndexDataCacheFile.save
def told(file, key, data):
    print("saved by", "parent" if os.getpid() == parent else "fork", flush=True)
    save(file, key, data)
caching.IndexDataCacheFile.save = told
parent = os.getpid()
print(warm.compile_all(["after", "meanwhile", "summing"], lambda done, total, name: print(name, flush=True)).kernels)
"""
AFTER: Final = """
import numpy as np
from numba import njit
import summing

@njit(cache=True)
def twice(numbers):
    return 2 * summing.total(numbers)

def warm():
    summing.warm()
    assert twice(np.arange(5)) == 20
"""
MEANWHILE: Final = """
import numpy as np
import summing

def warm():
    assert summing.total(np.arange(5, dtype="uint8")) == 10
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "summing.py").write_text(KERNELS)
    (tmp_path / "after.py").write_text(AFTER)
    (tmp_path / "meanwhile.py").write_text(MEANWHILE)
    (tmp_path / "cache").mkdir()
    return tmp_path


def start(folder: Path, types: str, together: int = 1, program: str = PROGRAM) -> subprocess.Popen[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}:{folder}",
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "TYPES": types,
        "TOGETHER": str(together),
    }
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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


def test_two_processes_fill_an_empty_cache_and_later_starts_find_everything(folder: Path) -> None:
    told = ended(start(folder, "int64 int32", program=TOGETHER))
    assert "4" == told[-1]
    assert 2 == told.count("saved by fork")
    assert 2 == told.count("saved by parent")
    assert 3 == told.count("summing.total")
    assert 1 == told.count("after.twice")
    assert ["0"] == ended(start(folder, "int64 int32", program=TOGETHER))


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "1 / 0"])
def test_what_a_fork_that_ends_left_out_is_compiled_by_the_parent(folder: Path, end: str) -> None:
    ends = f"""
    if os.getpid() != int(os.environ.get("PARENT", os.getpid())):
        {end}
"""
    summing = KERNELS.replace("def warm():", "def warm():" + ends)
    (folder / "summing.py").write_text(summing)
    program = TOGETHER.replace("parent = os.getpid()", "parent = os.getpid(); os.environ['PARENT'] = str(parent)")
    told = ended(start(folder, "int64 int32", program=program))
    assert 1 == sum("(the second process ended with" in line for line in told)
    assert ("4", 4, 0) == (told[-1], told.count("saved by parent"), told.count("saved by fork"))


def test_a_kernel_that_does_not_compile_fails_as_it_does_alone(folder: Path) -> None:
    (folder / "summing.py").write_text(KERNELS.replace("sum_ += number", "sum_ += absent"))
    process = start(folder, "int64", program=TOGETHER)
    _, err = process.communicate(timeout=120)
    assert 1 == process.returncode
    assert "absent" in err


def test_on_one_core_nothing_forks(folder: Path) -> None:
    told = ended(start(folder, "int64", program=TOGETHER.replace("{0, 1}", "{0}")))
    assert ("3", 3, 0) == (told[-1], told.count("saved by parent"), told.count("saved by fork"))
