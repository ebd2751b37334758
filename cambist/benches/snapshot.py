"""What a snapshot costs those who trade: messages per second through the live processes while one is written, and while none is.

One exchange, split, with its replica. Parts of the flow in turn: before every second one a snapshot is asked for, and the part
begins when the replica's fork writes; the next part begins when it is done. ``covered_share`` is how much of such a part the
writing took, ``ratio`` the rate with a snapshot to the rate without, which is its limit. The snapshot's bytes and seconds stand
beside it. The state reached is that of the journal in the fused engine. Not measured: gateways.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from cambist.benches import flows, live
from cambist.benches.rows import BenchFailedError, Row, Task, row
from cambist.config import SnapshotsSection
from cambist.replay.plan import Plan
from persistence.snapshots import SnapshotFolder
from persistence.snapshots.keeper import ASK_FILE
from protocol import board as b

_NS: Final = 1e9
_PATIENCE_S: Final = 120.0
_POLL_S: Final = 0.0005
_REPLICA: Final = {
    "replica.enabled": True,
    "snapshots.interval_s": 0,
    "engine.clock": "live",
    "engine.checkpoint_interval_s": 1,
}
"""A checkpoint a second, so that a snapshot that is asked for begins soon."""


class _Part(NamedTuple):
    rate: float
    cpu_s: float
    share: float
    """Of its time, in which a snapshot was written."""


def run(task: Task) -> list[Row]:
    """Rows for the rate and for the snapshot itself."""
    rows = []
    for name, file in flows.files(task, "w1", messages=task.sizes.live_messages).items():
        rows += _case(task, name, flows.plan_of(file))
    return rows


def _case(task: Task, name: str, plan: Plan) -> list[Row]:
    prefill = flows.prefill_slots(plan)
    task.progress(f"snapshot {name}: {len(plan.commands) - prefill:,} commands in {task.runs} runs of either kind")
    home = task.directory / "home"
    configured = live.settings(plan, "split", 1) | _REPLICA
    without: list[_Part] = []
    during: list[_Part] = []
    took_s, sizes = [], []
    with live.exchange(home, configured) as launched:
        client = live.Client(home, int(launched.summary["epoch"]), live.engine_of(plan, "split", 1))
        client.send(plan.setup)
        client.send(plan.commands[:prefill])
        for number, part in enumerate(flows.parts(plan, prefill, 2 * task.runs)):
            _await(client, lambda board: board[b.REPLICATED_SEQ] >= board[b.SETTLED_SEQ])
            if number % 2:
                (home / "snapshots" / ASK_FILE).touch()
                _await(client, lambda board: board[b.SNAPSHOT_WRITING] > 0)
            before, began_s = live.cpu_ns_of(launched), time.perf_counter()
            client.send(plan.commands[part])
            ended_s = time.perf_counter()
            cpu_s = sum(live.spent(before, live.cpu_ns_of(launched)).values()) / _NS
            rate = (part.stop - part.start) / (ended_s - began_s)
            if not number % 2:
                without.append(_Part(rate, cpu_s, 0.0))
                continue
            _await(client, lambda board: board[b.SNAPSHOT_WRITING] == 0)
            if client.board[b.SNAPSHOT_FAILURES]:
                raise BenchFailedError("a snapshot could not be written; see replica.log")
            path = SnapshotFolder(home).path(int(client.board[b.SNAPSHOT_SEQ]))
            took_s.append(_written_s(path, began_s))
            sizes.append(path.stat().st_size)
            during.append(_Part(rate, cpu_s, min(1.0, took_s[-1] / (ended_s - began_s))))
        hashes = client.hashes()
        last_seq = int(client.board[b.SETTLED_SEQ])
    live.compare_with_journal(home, live.engine_of(plan), hashes, last_seq)
    plain = statistics.median(part.rate for part in without)
    rates, cpu_s_of = [part.rate for part in during], [part.cpu_s for part in during]
    ratio = round(statistics.median(rates) / plain, 4)
    share = round(statistics.median(part.share for part in during), 3)
    more: dict[str, Any] = {"result_hash": str(hashes["state"]), "compared": "the journal in the fused engine"}
    limit = ("the same without a snapshot, in turn", plain)
    live_row = row(
        "snapshot",
        f"{name}_live",
        "messages_per_s",
        "1/s",
        rates,
        cpu_s_of,
        limit,
        ratio=ratio,
        covered_share=share,
        **more,
    )
    speeds = [size / seconds for size, seconds in zip(sizes, took_s, strict=True)]
    limit = ("snapshots.bytes_per_s", float(SnapshotsSection().bytes_per_s))
    more |= {"bytes": sizes[-1], "write_s": round(statistics.median(took_s), 3)}
    return [live_row, row("snapshot", f"{name}_write", "bytes_per_s", "B/s", speeds, cpu_s_of, limit, **more)]


def _written_s(path: Path, began_s: float) -> float:
    """Seconds from ``began_s`` until the file had its last change."""
    return max(1e-9, path.stat().st_mtime - time.time() + time.perf_counter() - began_s)


def _await(client: live.Client, done: Callable[[np.ndarray], bool]) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not done(client.board):
        if time.monotonic() > end_s:
            raise BenchFailedError("the replica does not get there; see replica.log")
        time.sleep(_POLL_S)
