"""Bugs planted on purpose, each in another place: the simulator must find every one.

A mutant is an edit of one module's source, applied when the module is imported; the files stay as they are. Where the
module holds kernels the run is in plain Python, because numba's cache looks at files. A text that is not found exactly
once says that the mutant is out of date.
"""

import importlib.abc
import importlib.machinery
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

SECONDS_MAX = 60.0
"""In so many seconds each must be found."""
_ROOT = Path(__file__).resolve().parents[2]
_SEEDS = "0:100000"


class Mutant(NamedTuple):
    """A bug: in ``module`` the text ``old`` becomes ``new``. ``plain``: the module holds kernels."""

    what: str
    module: str
    old: str
    new: str
    profile: str
    plain: bool


MUTANTS = {
    "released-before-durable": Mutant(
        "a gateway lets go of outcomes that are not durable",
        "gateway.outcomes",
        "return int(durable) if self.wait_durable else _ANY_SEQ",
        "return _ANY_SEQ",
        "power",
        plain=False,
    ),
    "held-over-epochs": Mutant(
        "a gateway keeps what it held from the dead epoch",
        "gateway.outcomes",
        "        self.epoch = epoch\n        self._used = 0\n        self._carry = 0\n        start",
        "        self.epoch = epoch\n        self._carry = 0\n        start",
        "quick",
        plain=False,
    ),
    "cursor-before-sync": Mutant(
        "the journal says durable what is only written",
        "persistence.journal.writer",
        '            self._file.sync()\n        except OSError as error:\n            raise self._failed("sync"',
        '            pass\n        except OSError as error:\n            raise self._failed("sync"',
        "power",
        plain=False,
    ),
    "segment-name-unsynced": Mutant(
        "the name of a new segment is not synced",
        "persistence.journal.writer",
        "            self._store.sync_directory()\n        except OSError as error:",
        "        except OSError as error:",
        "power",
        plain=False,
    ),
    "recovery-drops-last-batch": Mutant(
        "recovery takes the last sound batch for a torn one",
        "persistence.journal.recovery",
        "        if isinstance(batch, str):\n            problem = batch",
        "        if not isinstance(batch, str) and batches and not any(\n"
        "            data[cursor.offset + batch.header.size_bytes :][:4096]\n"
        '        ):\n            batch = "torn"\n'
        "        if isinstance(batch, str):\n            problem = batch",
        "quick",
        plain=False,
    ),
    "rewritten-in-place": Mutant(
        "recovery writes on in the old segment's place and removes it before the new one is synced",
        "persistence.journal.recovery",
        "    store.create(prepared, header.segment_bytes, pack_segment_header(header) + batches)\n",
        "    if header.replaces:\n        store.remove(segment_name(header.replaces))\n        store.sync_directory()\n"
        "        store.remove = lambda name: None\n"
        "    store.create(prepared, header.segment_bytes, pack_segment_header(header) + batches)\n",
        "faults",
        plain=False,
    ),
    "ingress-freed-when-read": Mutant(
        "an ingress slot is freed when its command is sequenced, not when it is durable",
        "sequencer.core",
        "    durable_seq = load_acquire(stage.board, b.DURABLE_SEQ)\n",
        "    durable_seq = state.meta[SEQ]\n",
        "quick",
        plain=True,
    ),
    "dedupe-off-by-a-group": Mutant(
        "recovery counts a group of commands as its head alone",
        "sequencer.core",
        'state.sources[source] = max(state.sources[source], head["source_seq"] + length - 1)',
        'state.sources[source] = max(state.sources[source], head["source_seq"])',
        "quick",
        plain=True,
    ),
    "outbox-sent-twice": Mutant(
        "after recovery risk's own commands that the journal has are sent again",
        "sequencer.core",
        '        source = head["source"]\n        state.sources[source] = max(',
        '        source = head["source"]\n        if source != e.SOURCE_RISK:\n          state.sources[source] = max(',
        "quick",
        plain=True,
    ),
    "reserve-refuses-early": Mutant(
        "an order is refused on a bound instead of waiting for exact state",
        "risk.reserve_orders",
        '    if not exact_or_wait(state, seq, NO_BARRIER) and state.accounts[c["account"]]["activity"] > 0:\n'
        "        return WAIT\n    return r.INSUFFICIENT_FUNDS",
        "    return r.INSUFFICIENT_FUNDS",
        "quick",
        plain=True,
    ),
    "band-read-early": Mutant(
        "a banded order does not wait for the clock tick before it",
        "risk.reserve_orders",
        "    if banded and not exact_or_wait(state, seq, state.meta[s.BARRIER]):\n        return WAIT, tag, 0\n",
        "",
        "quick",
        plain=True,
    ),
    "settled-out-of-order": Mutant(
        "a cancel-all over several shards is settled as the shards answer",
        "risk.kernel",
        "        if first < best_first or (first == best_first and then < best_then) or best == _NO_SHARD:",
        "        if best == _NO_SHARD:",
        "quick",
        plain=True,
    ),
    "window-ignored": Mutant(
        "reserve runs ahead of settling without bound",
        "risk.kernel",
        "            meta[s.RESERVED] + slots - meta[s.SETTLED] > window\n            or room",
        "            room",
        "quick",
        plain=True,
    ),
    "event-ring-overwritten": Mutant(
        "a matcher writes events that risk has no room for",
        "matcher.events",
        "    return meta[EVENT_LIMIT] - meta[EVENT_POSITION] >= wanted\n",
        "    return True\n",
        "quick",
        plain=True,
    ),
    "hold-not-released": Mutant(
        "a cancelled order's hold is not given back",
        "risk.settle_orders",
        '    post(state, balance_row(state, h["account"], paid_asset(state, h)), units, -units, c["seq"])\n'
        '    h["locked_units"] = 0\n    emit_order(state, rings, c, hold, e.OUT_CANCELED',
        '    h["locked_units"] = 0\n    emit_order(state, rings, c, hold, e.OUT_CANCELED',
        "quick",
        plain=True,
    ),
    "residue-not-released": Mutant(
        "what an order by amount still locks when its amount is used up is not given back",
        "risk.settle_locks",
        '        post(state, balance_row(state, h["account"], paid_asset(state, h)), units, -units, seq)\n'
        '        h["locked_units"] = 0\n',
        '        h["locked_units"] = 0\n',
        "quick",
        plain=True,
    ),
    "epoch-ring-begins-late": Mutant(
        "recovery leaves the newest outcomes of the replay out of the new epoch's ring",
        "persistence.recovery",
        "    publish(ring, total)\n",
        "    ring.slots[:] = 0\n    publish(ring, total)\n",
        "quick",
        plain=False,
    ),
    "snapshot-seal-unsynced": Mutant(
        "a snapshot gets its name before its seal is on the disk",
        "persistence.snapshots.file",
        "        file.flush()\n        os.fsync(file.fileno())\n",
        "        file.flush()\n",
        "power",
        plain=False,
    ),
    "snapshot-without-lanes": Mutant(
        "recovery takes the numbers of producers from the tail alone, not from the snapshot",
        "persistence.snapshots.restore",
        "    snapshot.load(SEQUENCER, state.sequencer)\n",
        "",
        "quick",
        plain=False,
    ),
    "tail-one-late": Mutant(
        "after a snapshot recovery begins one command late",
        "persistence.recovery",
        "        for slots in memory.slots(journal, engine.last_seq + 1, found.last_seq):\n            engine.feed(slots)\n",
        "        for slots in memory.slots(journal, engine.last_seq + 1, found.last_seq):\n"
        '            if engine.last_seq and slots["seq"][0] == engine.last_seq + 1:\n'
        "                engine.last_seq += 1\n"
        "                slots = slots[1:]\n"
        "            engine.feed(slots)\n",
        "quick",
        plain=False,
    ),
    "uncross-leaves-the-rest-outside": Mutant(
        "what is left of gathered offers does not enter the book behind an uncross",
        "matcher.auction",
        "    _enter_gathered(state, instrument, np.int64(BUY))\n    _enter_gathered(state, instrument, np.int64(SELL))\n    book =",
        "    _enter_gathered(state, instrument, np.int64(BUY))\n    book =",
        "quick",
        plain=True,
    ),
    "client-id-refused-early": Mutant(
        "a client order id is refused for one that a command in flight may set free",
        "risk.reserve_orders",
        '    if not exact_or_wait(state, seq, NO_BARRIER):\n        return WAIT\n    pending["first"] = first\n',
        '    pending["first"] = first\n',
        "quick",
        plain=True,
    ),
    "client-id-kept-by-a-refusal": Mutant(
        "an order that the book refused keeps its client order id",
        "risk.settle_orders",
        '        if (state.holds[hold]["flags"] & s.HOLD_HAS_CLIENT_ID) != 0:\n            free_client_id(state, hold)\n        if state',
        "        if state",
        "quick",
        plain=True,
    ),
    "audit-position-before-sync": Mutant(
        "the audit trail says synced what is only written",
        "persistence.audit.trail",
        "        if grown:\n            os.fdatasync(self._descriptor)\n",
        "",
        "power",
        plain=False,
    ),
    "audit-records-twice": Mutant(
        "after a restart the audit trail writes again what its position is behind of",
        "persistence.audit.trail",
        '            if record["seq"] <= self.head.seq:\n                continue\n',
        "",
        "power",
        plain=False,
    ),
    "audit-failed-sync-forgotten": Mutant(
        "after a failed sync the audit trail believes what it reads back to be on the disk",
        "persistence.audit.trail",
        "        self._write([whole])\n",
        "        os.lseek(self._descriptor, size_bytes, os.SEEK_SET)\n",
        "power",
        plain=False,
    ),
}


class _Editor(importlib.abc.MetaPathFinder):
    """Finds one module as ever, and edits what is loaded."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:  # noqa: ARG002 - the protocol's signature
        """Of the mutated module only."""
        if fullname != self._mutant.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _EditedLoader(self._mutant, fullname, spec.origin)
        return spec


class _EditedLoader(importlib.machinery.SourceFileLoader):
    def __init__(self, mutant: Mutant, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> Any:
        """Compile the edited text; byte code of the true one is neither read nor written."""
        source = Path(self.path).read_text()
        count = source.count(self._mutant.old)
        if count != 1:
            raise SystemExit(
                f"the mutant of {fullname} is out of date: its text is there {count} times, and must be once"
            )
        return compile(source.replace(self._mutant.old, self._mutant.new), self.path, "exec", dont_inherit=True)


def plant(mutant: Mutant) -> None:
    """Edit the mutant's module from its import on, which must be still to come."""
    assert mutant.module not in sys.modules, f"{mutant.module} is imported already"
    sys.meta_path.insert(0, _Editor(mutant))


class Found(NamedTuple):
    """What a hunt came to: the seeds that it took, or -1, and the time with and without the start of the interpreter."""

    seeds: int
    seconds: float
    words: str


def hunt(name: str) -> Found:
    """Plant a bug in a process of its own and run seeds until one fails."""
    mutant = MUTANTS[name]
    command = [sys.executable, "-m", "tests.sim", "--mutant", name, "--profile", mutant.profile, "--seeds", _SEEDS]
    environment = os.environ | ({"NUMBA_DISABLE_JIT": "1"} if mutant.plain else {})
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return Found(-1, time.perf_counter() - started, "not found")
    seconds = time.perf_counter() - started
    failures = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
    if not failures:
        return Found(-1, seconds, (done.stderr or done.stdout).strip()[-500:])
    return Found(int(failures[0].split()[1]) + 1, seconds, failures[0])


def hunt_all() -> int:
    """Hunt every mutant and print what each took; 1 where one was not found in time."""
    missed = 0
    for name, mutant in MUTANTS.items():
        found = hunt(name)
        if found.seeds < 0:
            missed += 1
            print(f"NOT FOUND  {name} ({mutant.what}) after {found.seconds:.1f} s: {found.words}", flush=True)
        else:
            print(
                f"found      {name} ({mutant.what}; {mutant.module}, profile {mutant.profile}"
                f"{', plain Python' if mutant.plain else ''}): {found.seeds} seeds, {found.seconds:.1f} s\n"
                f"           {found.words[:200]}",
                flush=True,
            )
    print(f"{len(MUTANTS) - missed} passed, {missed} failed")
    return int(missed > 0)
