"""Replays in this process, `cambist` in a process of its own, and homes that are up while a test looks at them."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cambist.cli import main
from cambist.config import Config, EngineSection
from cambist.home import Home
from cambist.replay.collect import Collector
from cambist.replay.drive import replay
from cambist.replay.plan import Plan

TIMEOUT_S = 300
"""Kernels may have to be compiled first."""
QUEUE_TARGET_MS = 30_000
"""On a busy machine a process of the engine may get no core for longer than orders may wait by default."""


class Way(NamedTuple):
    """How the live processes run."""

    topology: str = "split"
    shards: int = 1
    jitter: int = 0


WAYS = (Way(), Way(shards=3), Way("fused"), Way(jitter=7), Way(shards=3, jitter=8), Way("fused", jitter=9))


def drive(plan: Plan, home: Path, way: Way) -> tuple[dict[str, Any], Collector]:
    """Report and collector of a plan that went through the live processes of the new ``home``."""
    engine = EngineSection(topology=way.topology, shards=way.shards, jitter=way.jitter)  # type: ignore[arg-type]
    home.mkdir()
    report, collector = replay(plan, Config(engine=engine), home.resolve())
    assert not Home(home).shared.exists(), "shared memory is left"
    return report, collector


class Done(NamedTuple):
    """How a call of ``cambist`` ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its one object on stdout."""
        return dict(json.loads(self.out))


def cambist(*arguments: str | Path) -> Done:
    """Call ``cambist`` and wait for its end."""
    command = [sys.executable, "-m", "cambist", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    return Done(done.returncode, done.stdout, done.stderr)


def cambist_here(*arguments: str | Path) -> Done:
    """Call ``cambist`` in this process, which has loaded everything already: a second or two less for each call."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Done(status, out.getvalue(), err.getvalue())


def settings_file(home: Path, sections: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the configuration of a home."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = []
    usual: dict[str, Mapping[str, Any]] = {
        "gateway": {"queue_target_ms": QUEUE_TARGET_MS},
        "postgres": {"enabled": False},
    }
    sections = usual | dict(sections)
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    file = home / "cambist.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


@contextlib.contextmanager
def up(home: Path) -> Iterator[Home]:
    """An exchange that runs detached while the context is open, and leaves nothing."""
    started = cambist("up", "--detach", "--home", home)
    try:
        assert 0 == started.status, started.err
        yield Home(home)
    finally:
        ended = cambist_here("down", "--home", home)
    assert (0, False) == (ended.status, Home(home).shared.exists()), ended.err
