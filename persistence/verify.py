"""``cambist verify``: rebuild everything from the journal, fused, and compare with what the live engine published at its checkpoints."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from persistence.checkpoints import CHECKPOINTS_FILE, differing, kept, publishers_of
from persistence.durable import running_durable_seq
from persistence.fused import EngineFault, FusedEngine
from persistence.history import open_past
from persistence.journal.errors import JournalError
from persistence.journal.origin import check_executable, executable_from, stretches
from persistence.journal.reader import JournalReader
from persistence.journal.recovery import scan
from persistence.journal.store import DirectoryStore
from persistence.recovery import load_limits
from protocol.instance import Engine
from protocol.versions import executable


def run(home: Path, *, as_json: bool = False) -> int:
    """Verify a home, running or not; 0 when all agrees, 1 when something differs, with the reason on stderr."""
    try:
        result = verify(home, progress=not as_json)
    except (JournalError, EngineFault, FileNotFoundError) as error:
        result = {"ok": False, "problems": [str(error)]}
    if as_json:
        print(json.dumps(result))
    else:
        _show(result)
    for problem in result["problems"]:
        print(f"cambist verify: {problem}", file=sys.stderr)
    return 0 if result["ok"] else 1


def verify(home: Path, *, progress: bool = False) -> dict[str, Any]:
    """Rebuild and compare; the facts and the list of problems.

    Raises JournalError where the journal is damaged, EngineFault where a kernel finds an invariant broken, FileNotFoundError
    where the home has no journal.
    """
    journal = home / "journal"
    if not any(journal.glob("*.seg")):
        msg = f"{journal}: there is no journal here; is this the home of an exchange?"
        raise FileNotFoundError(msg)
    live_seq = running_durable_seq(home)
    last_seq = live_seq if live_seq is not None else scan(journal).last_seq
    checkpoints = kept(home / CHECKPOINTS_FILE)
    store = DirectoryStore(journal)
    older = [one for one in stretches(store) if not executable(one.written)]
    config = Engine(limits=load_limits(home))
    engine = open_past(home, config, min(executable_from(store), last_seq + 1)) if older else FusedEngine(config)
    began_seq = engine.last_seq
    check_executable(store, began_seq + 1, last_seq)
    published = publishers_of(engine)
    problems: list[str] = []
    compared: set[int] = set()
    started = time.perf_counter()
    with _progress(progress) as bar:
        task = bar.add_task("replaying", total=last_seq)
        for slots in JournalReader(journal, began_seq + 1, last_seq) if last_seq > began_seq else ():
            engine.feed(slots)
            bar.update(task, completed=engine.settled_seq)
            seq = published.newest()
            wanted = checkpoints.get(seq)
            if wanted is not None and seq not in compared:
                compared.add(seq)
                own = published.at(seq)
                assert own is not None, "after feed risk and every matcher stand at the same checkpoint"
                problems += [
                    f"checkpoint {seq}: {name} rebuilt {own[name]}, live {wanted[name]}"
                    for name in differing(own, wanted)
                ]
    broken = engine.unbalanced_asset()
    if broken:
        problems.append(f"asset {abs(broken)}: balances, fees and net deposits do not add up")
    return {
        "ok": not problems,
        "problems": problems,
        "last_seq": last_seq,
        "from_seq": began_seq + 1,
        "older": [{"first_seq": one.first_seq, "last_seq": one.last_seq, "needs": str(one.written)} for one in older],
        "checkpoints": len(compared),
        "conserved": not broken,
        "hashes": {name: str(h) for name, h in engine.hashes().items()},
        "state_hash": str(engine.hashes()["state"]),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _progress(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )


def _show(result: dict[str, Any]) -> None:
    if "last_seq" not in result:
        return
    print(f"commands rebuilt     {result['last_seq'] - result['from_seq'] + 1}")
    for one in result["older"]:
        print(f"not rebuilt          seq {one['first_seq']} to {one['last_seq']}: needs {one['needs']}")
    print(f"checkpoints compared {result['checkpoints']}")
    print(f"money conserved      {'yes' if result['conserved'] else 'NO'}")
    print(f"state hash           {result['state_hash']}")
    print(f"verdict              {'all agrees' if result['ok'] else 'DIFFERENT'} ({result['seconds']} s)")
