"""What an operator sees of an instance: processes, cursors, counters, instruments. Needs neither numpy nor numba."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from cambist import procfs
from cambist.boardview import BoardView, RingView
from cambist.home import Home
from gateway.admission import queue
from protocol import board as words
from protocol import enums, readers

_ANSWER_TIMEOUT_S: Final = 2.0
_ANSWER_BYTES_MAX: Final = 16 << 20
_HEARTBEAT_NS: Final = 2
_SLEEPS: Final = 6
_SAVED_WAKES: Final = 4
_STATES: Final = {
    words.ENGINE_DOWN: "down",
    words.ENGINE_RECOVERING: "recovering",
    words.ENGINE_RUNNING: "running",
    words.ENGINE_STOPPING: "stopping",
    words.ENGINE_FAILED: "failed",
}
_SEQS: Final = {
    "sequenced": words.SEQUENCED_SEQ,
    "durable": words.DURABLE_SEQ,
    "reserved": words.RESERVED_SEQ,
    "settled": words.SETTLED_SEQ,
    "replicated": words.REPLICATED_SEQ,
    "verified": words.VERIFIED_SEQ,
    "recovered": words.RECOVERED_SEQ,
    "checkpoint": words.CHECKPOINT_SEQ,
}
_COUNTERS: Final = {
    "outcomes": words.OUTCOMES,
    "trades": words.TRADES,
    "refusals": words.REFUSALS,
    "exact_waits": words.EXACT_WAITS,
    "journal_syncs": words.JOURNAL_SYNCS,
    "journal_bytes": words.JOURNAL_BYTES,
    "journal_sync_ns": words.JOURNAL_SYNC_NS,
}
_POSTGRES_FILE: Final = "postgres.json"
_POSTGRES_STATES: Final = {
    words.DATABASE_DOWN: "down",
    words.DATABASE_STARTING: "starting",
    words.DATABASE_UP: "up",
    words.DATABASE_FAILED: "failed",
    words.DATABASE_REFUSED: "refused",
}
_LAG_ALARM_MS: Final = 5_000
_AUDIT_STATES: Final = {words.AUDIT_NONE: "none", words.AUDIT_FOLLOWS: "follows", words.AUDIT_DAMAGED: "damaged"}
_LANES: Final = {
    enums.SOURCE_RISK: "risk",
    enums.SOURCE_CONTROL: "control",
    enums.SOURCE_REPLAY: "replay",
    enums.SOURCE_BOTS: "bots",
}
_ALARMS: Final = {
    "clock_alarm": words.CLOCK_ALARM,
    "journal_space": words.JOURNAL_SPACE,
    "journal_failed": words.JOURNAL_FAILED,
    "diverged": words.DIVERGED,
    "snapshot_failed": words.SNAPSHOT_FAILURES,
}


def status(home: Home, socket_path: Path, sample_s: float) -> dict[str, Any]:
    """State of the instance of ``home``: the object of ``cambist status --json``.

    Parameters
    ----------
    home : Home
        Its home.
    socket_path : Path
        Control socket, asked for instruments, users and listeners.
    sample_s : float
        How long the processors' use is measured.
    """
    answer: dict[str, Any] = {
        "home": str(home.path),
        "instance": home.instance,
        "running": False,
        "processes": [],
        "seqs": {},
        "lanes": [],
        "instruments": [],
    }
    table = _table(home)
    if table is None:
        return answer
    try:
        view = BoardView(home.shared / "board")
    except OSError:
        return answer
    with view:
        answer.update(
            running=True,
            phase=table["phase"],
            ready=table["ready"],
            epoch=view[words.EPOCH],
            engine=_STATES.get(view[words.ENGINE_STATE], "unknown"),
            topology=table["topology"],
            shards=table["shards"],
            durability=table["durability"],
            seqs={name: view[word] for name, word in _SEQS.items()},
            counters={name: view[word] for name, word in _COUNTERS.items()},
            client_ids=_client_ids(view),
            snapshots=_snapshots(view),
            audit=_AUDIT_STATES.get(view[words.AUDIT_STATE], "unknown"),
            processes=_processes(home, table, view, sample_s),
            settle_ns=view[words.SETTLE_NS],
            lanes=_lanes(home, view),
            postgres=_postgres(home, table, view),
        )
        told = asked(socket_path, "status")
        answer["access"], answer["listeners"] = told.get("access", {}), told.get("listeners", [])
        answer["alarms"] = _alarms(view, answer)
    answer["memory_bytes"] = sum(row["memory_bytes"] for row in answer["processes"])
    answer["cpu_percent"] = round(sum(row["cpu_percent"] for row in answer["processes"]), 2)
    answer["shared_bytes"] = _folder_bytes(home.shared)
    answer["instruments"] = instruments(socket_path)
    return answer


def _alarms(view: BoardView, answer: Mapping[str, Any]) -> dict[str, int]:
    """What an operator has to look at, with a number: a flag, how often it failed, how many, or how many commands or ms behind."""
    alarms = {name: view[word] for name, word in _ALARMS.items() if view[word]}
    if answer["audit"] == "damaged":
        alarms["audit_damaged"] = 1
    database = answer["postgres"]
    away = database.get("writer") in {"failed", "refused"}
    if database.get("lag", 0) and (away or database["lag_ms"] >= _LAG_ALARM_MS):
        alarms["postgres_behind"] = database["lag"]
    different = answer["access"].get("groups", {}).get("different", 0)
    if different:
        alarms["groups_differ"] = different
    behind_ms = answer["access"].get("behind_ms", 0)
    if behind_ms >= _LAG_ALARM_MS:
        alarms["access_behind"] = behind_ms
    for name, key in (("tls_certificate", "certificate_problem"), ("not_listening", "problem")):
        found = sum(1 for listener in answer["listeners"] if listener[key])
        if found:
            alarms[name] = found
    return alarms


def instruments(socket_path: Path) -> list[dict[str, Any]]:
    """Instruments with their state, as the control gateway gives them; empty while it does not answer."""
    return list(asked(socket_path, "instruments").get("instruments", ()))


def asked(socket_path: Path, op: str) -> dict[str, Any]:
    """Result of a query to the control gateway; empty while it does not answer."""
    request = json.dumps({"id": 1, "op": op, "args": {}}).encode() + b"\n"
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_TIMEOUT_S)
        connection.connect(str(socket_path))
        connection.sendall(request)
        with connection.makefile("rb") as file:
            reply = json.loads(file.readline(_ANSWER_BYTES_MAX))
        if reply.get("ok"):
            return dict(reply["result"])
    return {}


def _snapshots(view: BoardView) -> dict[str, Any]:
    """The newest snapshot: its command slot (0 = none) and age; the one being written; why the last attempt failed."""
    seq = view[words.SNAPSHOT_SEQ]
    return {
        "seq": seq,
        "age_s": round(max(0, time.time_ns() - view[words.SNAPSHOT_TS_NS]) / 1e9, 1) if seq else None,
        "writing_seq": view[words.SNAPSHOT_WRITING],
        "failures": view[words.SNAPSHOT_FAILURES],
        "problem": words.SNAPSHOT_PROBLEM_TEXT.get(view[words.SNAPSHOT_PROBLEM], ""),
    }


def _client_ids(view: BoardView) -> dict[str, Any]:
    """How long client order ids of ended orders stay taken, how far back their table reaches, and how many left it early.

    Empty until risk has run.
    """
    ttl_ns = view[words.CLIENT_ID_TTL_NS]
    if ttl_ns == 0:
        return {}
    return {
        "ttl_s": max(0, ttl_ns) / 1e9,
        "covered_s": view[words.CLIENT_IDS_COVERED_NS] / 1e9,
        "left_early": view[words.CLIENT_IDS_EARLY],
    }


def _postgres(home: Home, table: Mapping[str, Any], view: BoardView) -> dict[str, Any]:
    """Where the database is and how far the writer has come; empty where there is none."""
    names = {row["name"] for row in table["processes"]}
    if "postgres" not in names:
        return {}
    behind = max(0, view[words.DURABLE_SEQ] - view[words.POSTGRES_SEQ])
    since_ns = view[words.POSTGRES_PENDING_TS_NS]
    told: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        told = json.loads((home.run / _POSTGRES_FILE).read_bytes())
    return {
        "writer": _POSTGRES_STATES.get(view[words.POSTGRES_STATE], "unknown"),
        "server": (
            _POSTGRES_STATES.get(view[words.POSTGRES_SERVER_STATE], "unknown")
            if "postgres-server" in names
            else "the operator's"
        ),
        "dsn": told.get("dsn", ""),
        "why": told.get("why", ""),
        "seq": view[words.POSTGRES_SEQ],
        "lag": behind,
        "lag_ms": max(0, time.time_ns() - since_ns) // 1_000_000 if behind and since_ns else 0,
        "rows": view[words.POSTGRES_ROWS],
        "commits": view[words.POSTGRES_COMMITS],
        "failures": view[words.POSTGRES_FAILURES],
    }


def _table(home: Home) -> dict[str, Any] | None:
    if home.holder() is None:
        return None
    try:
        table = msgspec.json.decode(home.table_file.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
    return table if isinstance(table, dict) else None


def _processes(home: Home, table: Mapping[str, Any], view: BoardView, sample_s: float) -> list[dict[str, Any]]:
    rows = [
        {"name": "supervisor", "group": "supervisor", "line": words.LINE_SUPERVISOR, "pid": table["pid"]},
        {"name": "forkserver", "group": "supervisor", "line": 0, "pid": table["forkserver"]},
        *table["processes"],
    ]
    before_ns = {row["pid"]: procfs.cpu_ns(row["pid"]) for row in rows}
    began_ns = time.monotonic_ns()
    time.sleep(sample_s)
    lags = _lags(home, table, view)
    processes = []
    for row in rows:
        pid = row["pid"]
        used_ns = procfs.cpu_ns(pid)
        passed_ns = time.monotonic_ns() - began_ns
        base = row["line"] * words.LINE_WORDS
        beat_ns = view[base + _HEARTBEAT_NS] if row["line"] else 0
        processes.append(
            {
                "name": row["name"],
                "pid": pid,
                "alive": used_ns > 0,
                "ready": row.get("ready", used_ns > 0),
                "lag": lags.get(row["name"], 0),
                "starts": row.get("starts", 1),
                "cpu_s": round(used_ns / 1e9, 3),
                "cpu_percent": round(100 * max(0, used_ns - before_ns[pid]) / max(1, passed_ns), 2),
                "memory_bytes": procfs.memory_bytes(pid),
                "heartbeat_age_ms": (time.monotonic_ns() - beat_ns) // 1_000_000 if beat_ns else None,
                "sleeps": view[base + _SLEEPS] if row["line"] else 0,
                "saved_wakes": view[base + _SAVED_WAKES] if row["line"] else 0,
            }
        )
    return processes


def _lags(home: Home, table: Mapping[str, Any], view: BoardView) -> dict[str, int]:
    """How many commands each process is behind what it follows."""
    sequenced = view[words.SEQUENCED_SEQ]
    lags = {
        "journal": sequenced - view[words.DURABLE_SEQ],
        "risk": sequenced - view[words.SETTLED_SEQ],
        "fused": sequenced - view[words.SETTLED_SEQ],
        "replica": view[words.DURABLE_SEQ] - view[words.REPLICATED_SEQ],
        "postgres": view[words.DURABLE_SEQ] - view[words.POSTGRES_SEQ],
        "sequencer": 0,
    }
    for ring in home.shared.glob("ingress-*"):
        with contextlib.suppress(OSError), RingView(ring) as ingress:
            lags["sequencer"] += ingress.published - ingress.cursor(readers.INGRESS_SEQUENCER)
    with contextlib.suppress(OSError), RingView(home.shared / f"epoch-{table['epoch']}" / "command") as command:
        for row in table["processes"]:
            if row["name"].startswith("matcher-"):
                reader = readers.COMMAND_FIRST_MATCHER + row["shard"]
                lags[row["name"]] = command.published - command.cursor(reader)
    return {name: max(0, lag) for name, lag in lags.items()}


def _lanes(home: Home, view: BoardView) -> list[dict[str, Any]]:
    """Each producer's lane: how full its ring is, and what its next command has before it."""
    lanes = []
    for source, line in readers.SOURCE_LINES.items():
        with contextlib.suppress(OSError), RingView(home.shared / f"ingress-{source}") as ring:
            settled, taken = view[words.SETTLED_SEQ], view[words.LANE_SEQUENCED + source]
            before = queue(view[words.SEQUENCED_SEQ], settled, ring.published, taken, view[words.SETTLE_NS])
            lanes.append(
                {
                    "name": _LANES.get(source, f"source-{source}"),
                    "source": source,
                    "capacity": ring.capacity,
                    "used": ring.published - ring.cursor(readers.INGRESS_SEQUENCER),
                    "queue_slots": before.slots,
                    "queue_ms": round(before.wait_ns / 1e6, 3),
                    "refused_orders": view[readers.refused_word(line)],
                }
            )
    return lanes


def _folder_bytes(folder: Path) -> int:
    """Bytes of memory that the files below ``folder`` occupy."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total
