"""``cambist snapshot ls|take|verify``: the generations of a home's state."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

from cambist.boardview import BoardView
from cambist.commands import Call, FailedError, option
from cambist.home import HomeLock, is_held
from protocol import board as words

_MIB: Final = 1 << 20
_LOOK_S: Final = 0.05
_SLACK_S: Final = 60


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of ``snapshot``."""
    parser.add_argument(
        "action",
        choices=("ls", "take", "verify"),
        metavar="ls|take|verify",
        help="ls: list the generations and what is wrong with any; take: one more, of a running exchange at its next checkpoint, "
        "else at the end of the journal; verify: check every byte, load each and compare it with a replay from the one before",
    )
    option(parser, "snapshot.json", "--json", action="store_true", help="one JSON object on stdout")


def run(name: str, call: Call) -> int:
    """Do it; 1 where a generation is damaged or none could be taken."""
    if not call.home.path.is_dir():
        raise FailedError(f"{call.home.path}: no such folder; name the home with --home")
    if call.arguments.action == "take":
        return _take(call)
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from persistence.snapshots import check

    verify = call.arguments.action == "verify"
    rows = list(check.verified(call.home.path) if verify else check.listed(call.home.path))
    problems = [row["problem"] for row in rows if row["problem"]]
    if call.config.snapshot.json:
        print(json.dumps({"ok": not problems, "snapshots": rows}))
    else:
        print("\n".join(_lines(rows)))
    for problem in problems:
        print(f"cambist snapshot: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["no snapshots; the replica writes them at checkpoints, `cambist snapshot take` makes one"]
    lines = [f"{'seq':>15}  {'sequenced time (UTC)':<26} {'epoch':>5} {'shards':>6} {'MiB':>9}  state"]
    for row in rows:
        if row["problem"]:
            lines.append(f"{row['seq']:>15}  {'':<26} {'':>5} {'':>6} {row['bytes'] / _MIB:>9.1f}  DAMAGED")
            continue
        at = datetime.fromtimestamp(row["ts_ns"] / 1e9, UTC).isoformat(" ", "microseconds")[:26]
        state = "sound"
        if "from_seq" in row:
            replayed = row["from_seq"]
            state = (
                f"equal to a replay from {replayed}" if replayed is not None else "sound; no journal to compare with"
            )
        size = row["bytes"] / _MIB
        lines.append(f"{row['seq']:>15}  {at:<26} {row['epoch']:>5} {row['shards']:>6} {size:>9.1f}  {state}")
    return lines


def _take(call: Call) -> int:
    result = _take_running(call) if is_held(call.home) else _take_stopped(call)
    if call.config.snapshot.json:
        print(json.dumps({"ok": True, **result}))
    else:
        print(f"snapshot at command {result['seq']}: {result['bytes']} bytes in {result['seconds']} s")
    return 0


def _take_stopped(call: Call) -> dict[str, Any]:
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from persistence.fused import EngineFault
    from persistence.journal.errors import JournalError
    from persistence.snapshots import SnapshotError, check
    from persistence.snapshots.writer import Settings

    section = call.config.snapshots
    settings = Settings(section.interval_s, section.keep, 0, section.map_bytes)
    with HomeLock(call.home):
        try:
            return check.take(call.home.path, settings, call.config.engine.shards)
        except (SnapshotError, JournalError, EngineFault) as error:
            raise FailedError(str(error)) from error


def _take_running(call: Call) -> dict[str, Any]:
    """Ask the replica, and wait until it has answered on the board."""
    if not call.config.replica.enabled:
        raise FailedError("replica.enabled is off: nobody writes snapshots; stop the exchange, then take one")
    try:
        view = BoardView(call.home.shared / "board")
    except OSError as error:
        raise FailedError(f"{call.home.path}: the exchange is only starting, or ends; try again") from error
    with view:
        began_s = time.monotonic()
        before = view[words.SNAPSHOT_SEQ], view[words.SNAPSHOT_FAILURES]
        busy = view[words.SNAPSHOT_WRITING]
        ask = call.home.path / "snapshots" / "ask"
        ask.touch(mode=0o600)
        end_s = began_s + 2 * call.config.engine.checkpoint_interval_s + _SLACK_S
        while time.monotonic() < end_s and is_held(call.home):
            time.sleep(_LOOK_S)
            seq = view[words.SNAPSHOT_SEQ]
            if seq > before[0] and seq != busy:
                size_bytes = (call.home.path / "snapshots" / f"{seq:015d}.mdb").stat().st_size
                return {"seq": seq, "bytes": size_bytes, "seconds": round(time.monotonic() - began_s, 3)}
            if view[words.SNAPSHOT_FAILURES] > before[1]:
                problem = words.SNAPSHOT_PROBLEM_TEXT.get(view[words.SNAPSHOT_PROBLEM], "unknown")
                raise FailedError(f"the replica could not write it: {problem}; see {call.home.log / 'replica.log'}")
    raise FailedError(
        "the replica has not written one: it does so at a checkpoint that it found equal to the live engine; "
        "see `cambist status` for where it stands"
    )
