"""The standard workloads as files: made once by the generator of the tests, kept in the user's cache."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from cambist.benches.machine import ROOT
from cambist.benches.rows import BenchFailedError, Task
from cambist.replay.plan import Plan, RecordingError, load, read_bytes
from cambist.replay.xflow import HEADER_1
from protocol import build
from protocol import enums as e

WORKLOADS: Final = ("w1", "w2", "w3")
SEED: Final = 1
_GENERATOR: Final = ROOT / "tests" / "flows" / "flow.py"


def files(task: Task, *names: str, messages: int = 0) -> dict[str, Path]:
    """The flow of the task by its name, or else the workloads ``names``, of the task's size where none is given."""
    if task.flow is not None:
        return {task.flow.name.removesuffix(".gz").removesuffix(".bin"): task.flow}
    return {name: workload(name, messages or task.sizes.flow_messages, task.progress) for name in names}


def workload(name: str, messages: int, progress: Callable[[str], None] = lambda _: None) -> Path:
    """File of a workload with its expected results beside it; generated where it is not in the cache.

    Raises BenchFailedError where the generator is not there.
    """
    if not _GENERATOR.exists():
        raise BenchFailedError("the generator of workloads is not installed; name a file with --flow")
    version = hashlib.blake2b(_GENERATOR.read_bytes(), digest_size=6).hexdigest()
    folder = _cache() / f"{version}-{messages}-{SEED}"
    file = folder / f"{name}.bin"
    if not file.exists():
        progress(f"generates {name} with {messages:,} messages, once")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as new:
            command = [sys.executable, str(_GENERATOR), new, "--n", str(messages), "--seed", str(SEED), "--only", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchFailedError(f"the generator of {name} failed: {done.stderr.strip()[-500:]}")
            # The expected results first: a flow never stands there without them.
            for suffix in ("json", "bin"):
                (Path(new) / f"{name}.{suffix}").replace(folder / f"{name}.{suffix}")
    return file


def plan_of(file: Path) -> Plan:
    """The flow as commands. Raises BenchFailedError where it cannot be read."""
    try:
        return load(file)
    except RecordingError as error:
        raise BenchFailedError(str(error)) from error


def prefill_slots(plan: Plan) -> int:
    """Number of command slots that come before the clock runs; 0 for recordings without a prefill."""
    if not plan.format.startswith("xflow"):
        return 0
    header = np.frombuffer(read_bytes(plan.path)[: HEADER_1.itemsize], dtype=HEADER_1)[0]
    return int(np.searchsorted(plan.to_message, int(header["n_prefill"])))


def timed_messages(plan: Plan, prefill: int) -> int:
    """Messages of the recording behind the prefill."""
    return plan.messages - (int(plan.to_message[prefill]) if prefill < len(plan.to_message) else plan.messages)


def sequenced(plan: Plan) -> np.ndarray:
    """Set-up and commands as the sequencer of a fresh home stamps them with the virtual clock."""
    slots = np.concatenate([plan.setup, plan.commands])
    if plan.clock == "virtual" and len(slots):
        heads = build.heads(slots)
        slots["ts_ns"] = slots["entry_ts_ns"][heads][np.cumsum(heads) - 1]
    return slots


def parts(plan: Plan, first: int, count: int) -> list[slice]:
    """The commands from ``first`` on in ``count`` parts of nearly the same length, between whole groups."""
    ends = np.flatnonzero((plan.commands["flags"] & e.FLAG_MORE) == 0) + 1
    cuts = np.linspace(first, len(plan.commands), count + 1).astype(np.int64)[1:]
    at = [first, *ends[np.searchsorted(ends, cuts)].tolist()]
    return [slice(begin, end) for begin, end in itertools.pairwise(at)]


def power_of_two(at_least: int) -> int:
    """Least power of two that is not smaller."""
    return 1 << max(1, at_least - 1).bit_length()


def _cache() -> Path:
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".cache"
    return base / "cambist" / "flows"
