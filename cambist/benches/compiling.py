"""CPU seconds of compiling every kernel into an empty cache, and how long a later start takes.

Compiling runs once whatever the number of runs, because it takes more than a minute; it happens by two processes, as in the first
start of an exchange. A warm start is ``cambist up`` in a fresh home until every gateway accepts connections.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from cambist.benches import live
from cambist.benches.rows import BenchFailedError, Row, Task, row
from cambist.config import Config, UpSection
from cambist.home import Home
from cambist.launch import environment
from cambist.processes import table

_BUDGET_CPU_S: Final = 60
_START_BUDGET_S: Final = 5
_PROGRAM: Final = """
import json, sys
from ringbuf.kernel_cache import configure
configure()
from cambist.warm import compile_all
print(json.dumps(compile_all(sys.argv[1:], lambda *_: None)._asdict()))
"""


def run(task: Task) -> list[Row]:
    """Rows for compiling and for each kind of start."""
    rows = [_compile(task), _start(task, "warm_start", {})]
    if task.sizes.demo:
        rows.append(_start(task, "warm_start_demo", {"up.demo": True}))
    return rows


def _compile(task: Task) -> Row:
    modules = task.sizes.compile_modules or table(Home(task.directory), Config(up=UpSection(demo=True))).modules
    task.progress(f"compile: kernels of {len(modules)} modules into an empty cache, once")
    with tempfile.TemporaryDirectory(prefix="cambist-bench-") as cache:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *modules],
            stdout=subprocess.PIPE,
            env={**environment(), "XDG_CACHE_HOME": cache},
        )
        assert process.stdout is not None
        with process.stdout as output:
            text = output.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchFailedError(f"compiling ended with status {process.returncode}")
    compiled = json.loads(text)
    cpu_s = used.ru_utime + used.ru_stime
    limit = ("budget: CPU seconds of the first start of a machine", _BUDGET_CPU_S)
    return row(
        "compile",
        "empty_cache",
        "cpu_s",
        "s",
        [cpu_s],
        [cpu_s],
        limit,
        kernels=compiled["kernels"],
        wall_s=compiled["wall_s"],
        modules=list(modules),
    )


def _start(task: Task, case: str, settings: dict[str, Any]) -> Row:
    task.progress(f"compile {case}: {task.runs} runs after one that fills the cache")
    seconds, cpu_s = [], []
    for k in range(task.runs + 1):
        # Not in the folder of the disk that is measured: a home has a socket, whose path must be short.
        with tempfile.TemporaryDirectory(prefix="cambist-bench-") as folder:
            before_s = _children_cpu_s()
            began_s = time.perf_counter()
            with live.exchange(Path(folder) / "home", settings):
                took_s = time.perf_counter() - began_s
            if k:
                seconds.append(took_s)
                cpu_s.append(_children_cpu_s() - before_s)
    limit = ("budget: seconds of every later start", _START_BUDGET_S)
    return row("compile", case, "ready_s", "s", seconds, cpu_s, limit)


def _children_cpu_s() -> float:
    """CPU seconds of processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
