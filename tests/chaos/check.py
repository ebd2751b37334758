"""What must hold after the kills: of the journal, of what was acknowledged, and of what the exchange says of itself."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from persistence.audit.verify import verify as audit_verify
from persistence.fused import FusedEngine
from persistence.journal.reader import JournalReader
from persistence.journal.recovery import scan
from persistence.recovery import load_limits
from persistence.snapshots.check import verified
from protocol import build
from protocol import enums as e
from protocol.instance import Engine
from protocol.records import OUTCOME_DTYPE
from tests.chaos.flow import SOURCES
from tests.engine.oracle_more import Oracle

SENT_WORDS = slice(2, None)
"""Of a slot's 16 words all but seq and time are as the producer sent them."""


class Rebuilt:
    """History and outcomes as the journal gives them, fused."""

    def __init__(self, slots: np.ndarray, engine: Engine) -> None:
        self.slots = slots
        self.limits = engine.limits
        self.engine = FusedEngine(engine)
        outcomes: list[np.ndarray] = []
        self.engine.feed(self.slots, lambda part: outcomes.append(part.copy()))
        self.outcomes = np.concatenate(outcomes)

    @classmethod
    def of(cls, home: Path) -> "Rebuilt":
        """The history of a home whose exchange has stopped."""
        journal = home / "journal"
        found = scan(journal)
        slots = np.concatenate([part.copy() for part in JournalReader(journal, to_seq=found.last_seq)])
        return cls(slots, Engine(limits=load_limits(home)))

    @property
    def heads(self) -> np.ndarray:
        """The first slot of every command."""
        return self.slots[build.heads(self.slots)]


def numbers(rebuilt: Rebuilt) -> list[str]:
    """Seq and the number of every producer run from 1 without a gap, each once."""
    slots = rebuilt.slots
    wrong = []
    if not np.array_equal(slots["seq"], np.arange(1, len(slots) + 1)):
        at = int(np.argmax(slots["seq"] != np.arange(1, len(slots) + 1)))
        wrong.append(f"slot {at + 1} of the journal has seq {slots['seq'][at]}")
    if np.any(np.diff(slots["ts_ns"]) < 0):
        wrong.append(f"time runs back at seq {int(np.argmax(np.diff(slots['ts_ns']) < 0)) + 2}")
    heads = build.heads(slots)
    starts = np.flatnonzero(heads)
    lengths = np.diff(starts, append=len(slots))
    for source in np.unique(slots["source"][starts]).tolist():
        own = slots["source"][starts] == source
        first = slots["source_seq"][starts[own]]
        due = np.cumsum(lengths[own]) - lengths[own] + 1
        if not np.array_equal(first, due):
            at = int(np.argmax(first != due))
            wrong.append(
                f"source {source}: its command after number {due[at] - 1} has number {first[at]}, seq {slots['seq'][starts[own][at]]}"
            )
    return wrong


def content(rebuilt: Rebuilt, folder: Path) -> list[str]:
    """Every command of the load is what the load sent under its number."""
    wrong = []
    slots = rebuilt.slots
    group = np.cumsum(build.heads(slots)) - 1
    source_of = rebuilt.heads["source"][group]
    for source in SOURCES:
        found = slots[source_of == source].view(np.int64).reshape(-1, 16)
        sent = np.load(folder / f"flow-{source}.npy")[: len(found)].view(np.int64).reshape(-1, 16)
        different = np.flatnonzero((found[:, SENT_WORDS] != sent[:, SENT_WORDS]).any(axis=1))
        if len(different):
            wrong.append(
                f"source {source}: number {different[0] + 1} stands in the journal as something else than was sent"
            )
    return wrong


def acknowledged(rebuilt: Rebuilt, folder: Path, summary: dict[str, Any]) -> list[str]:
    """What each producer could tell its clients is, to the byte and in order, what the journal gives; everything sent was answered."""
    wrong = []
    for source in SOURCES:
        acked = np.fromfile(folder / f"acked-{source}.bin", dtype=OUTCOME_DTYPE)
        due = rebuilt.outcomes
        due = due[(due["source"] == source) | (due["order_id"] >> e.ORDER_ID_SOURCE_SHIFT == source)]
        if summary["sources"][str(source)]["lapped"]:
            wrong.append(f"source {source}: its reader of outcomes was lapped, which must not happen at this rate")
        wrong += [f"source {source}: {text}" for text in differences(acked, due)]
    return wrong


def differences(acked: np.ndarray, due: np.ndarray) -> list[str]:
    """The first difference between acknowledged and rebuilt outcomes, told apart: lost, twice, changed, never told."""
    if acked.tobytes() == due.tobytes():
        return []
    rebuilt = {(int(o["seq"]), int(o["index"])): o.tobytes() for o in due}
    seen: set[tuple[int, int]] = set()
    for outcome in acked:
        number = (int(outcome["seq"]), int(outcome["index"]))
        if number in seen:
            return [f"outcome {number} was acknowledged twice"]
        seen.add(number)
        if number not in rebuilt:
            return [f"outcome {number} was acknowledged and is lost"]
        if rebuilt[number] != outcome.tobytes():
            return [
                f"outcome {number} was acknowledged otherwise than it is now: {outcome} / {due[list(rebuilt).index(number)]}"
            ]
    missing = next((number for number in rebuilt if number not in seen), None)
    return [f"outcome {missing} was never told"] if missing else ["outcomes were told in another order"]


def replies(rebuilt: Rebuilt, told: list[dict[str, Any]]) -> list[str]:
    """What the control gateway answered to an operator stands in the journal, and came out as it said."""
    wrong = []
    refused = {int(o["seq"]): int(o["reason"]) for o in rebuilt.outcomes[rebuilt.outcomes["kind"] == e.OUT_REJECTED]}
    for reply in told:
        result = reply["result"] or {}
        if not result.get("seq"):
            continue
        slot = rebuilt.slots[result["seq"] - 1] if result["seq"] <= len(rebuilt.slots) else None
        if slot is None or (int(slot["source"]), int(slot["source_seq"])) != (e.SOURCE_CONTROL, result["source_seq"]):
            wrong.append(f"the control gateway answered {reply}, the journal has {slot}")
            continue
        code = refused.get(result["seq"], 0)
        if code != (reply["error"]["code"] if reply["error"] else 0):
            wrong.append(f"the control gateway answered {reply}, the journal gives reason {code}")
    return wrong


def oracle(rebuilt: Rebuilt, naive: Oracle) -> list[str]:
    """The naive exchange, given the journal's commands in their order, writes the same outcomes; money is conserved in both."""
    outcomes = rebuilt.outcomes
    starts = np.searchsorted(outcomes["seq"], rebuilt.heads["seq"])
    ends = np.append(starts[1:], len(outcomes))
    for k, group in enumerate(np.split(rebuilt.slots, np.flatnonzero(build.heads(rebuilt.slots))[1:])):
        due = naive.apply(group)
        got = outcomes[starts[k] : ends[k]]
        if due.tobytes() != got.tobytes():
            return [f"command {group[0]}:\nnaive exchange {due}\nengine {got}"]
    naive.check()
    broken = rebuilt.engine.unbalanced_asset()
    return [f"asset {abs(broken)}: balances, fees and net deposits do not add up"] if broken else []


def verify(home: Path, rebuilt: Rebuilt) -> list[str]:
    """``cambist verify`` agrees with the live engine's checkpoints and with what was rebuilt here."""
    done = subprocess.run(
        [sys.executable, "-m", "cambist", "verify", "--home", str(home), "--json"], capture_output=True, text=True
    )
    result = json.loads(done.stdout) if done.stdout else {}
    if done.returncode or not result.get("ok"):
        return [f"cambist verify: {done.stderr.strip()}"]
    wrong = []
    if result["state_hash"] != str(rebuilt.engine.hashes()["state"]):
        wrong.append("cambist verify has another state hash")
    if result["checkpoints"] == 0:
        wrong.append("cambist verify compared no checkpoint")
    return wrong


def snapshots(home: Path) -> list[str]:
    """Every generation is sound, and what a replay of the journal gives; there is one."""
    rows = list(verified(home))
    wrong = [f"cambist snapshot verify: {row['problem']}" for row in rows if row["problem"]]
    return wrong if rows else ["there is no snapshot"]


def audit_trail(home: Path, rebuilt: Rebuilt) -> list[str]:
    """The chain has every record of the journal once, in order, and ends with the last one."""
    result = audit_verify(home)
    wrong = [f"cambist audit verify: {problem}" for problem in result["problems"]]
    if result["pending"]:
        wrong.append(f"{result['pending']} records are not in the audit trail")
    if result["records"] == 0 and len(rebuilt.slots):
        wrong.append("the audit trail is empty")
    return wrong


def database(home: Path, rebuilt: Rebuilt) -> list[str]:
    """The database is at the journal's end, its balances and the sums of its postings are risk's, and each trade is there once."""
    done = subprocess.run(
        [sys.executable, "-m", "cambist", "reconcile", "--home", str(home), "--json"], capture_output=True, text=True
    )
    result = json.loads(done.stdout) if done.stdout else {}
    if done.returncode or not result.get("ok"):
        return [f"cambist reconcile: {done.stderr.strip()}"]
    if result["seq"] != len(rebuilt.slots):
        return [f"the database ends at command {result['seq']}, the journal at {len(rebuilt.slots)}"]
    return []


def all_of(home: Path, folder: Path, summary: dict[str, Any], told: list[dict[str, Any]]) -> tuple[list[str], Rebuilt]:
    """Every check; what is wrong, and the history."""
    rebuilt = Rebuilt.of(home)
    limits = rebuilt.limits
    wrong = numbers(rebuilt)
    wrong += content(rebuilt, folder)
    wrong += acknowledged(rebuilt, folder, summary)
    wrong += replies(rebuilt, told)
    model = Oracle(
        limits.accounts,
        limits.assets,
        limits.instruments,
        client_ids=limits.client_ids,
        client_id_ttl_ms=limits.client_id_ttl_ms,
        tables=limits,
    )
    wrong += oracle(rebuilt, model)
    wrong += verify(home, rebuilt)
    wrong += snapshots(home)
    wrong += audit_trail(home, rebuilt)
    return wrong, rebuilt
