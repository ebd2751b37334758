"""``cambist status``: processes, cursors and instruments of a running exchange."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cambist import views
from cambist.commands import Call, option

_MIB = 1 << 20
_DIVERGED = (
    "DIVERGED: replica and live engine differ; replica.log names the structure. Stop the exchange and run `cambist verify`: "
    "the next start rebuilds from the journal"
)
_AUDIT_DAMAGED = (
    "AUDIT CHAIN DAMAGED: no records are written; replica.log names the line. `cambist audit verify` says what differs, "
    "`cambist audit rebuild` writes the chain again from the journal"
)


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of ``status``."""
    option(parser, "status.json", "--json", action="store_true", help="one JSON object on stdout")
    option(
        parser,
        "status.sample_ms",
        "--sample",
        type=int,
        metavar="MS",
        help="how long processor use is measured (default 250)",
    )


def run(name: str, call: Call) -> int:
    """Print the state; 1 unless the exchange runs."""
    section = call.config.status
    state = views.status(call.home, call.home.socket(call.config), section.sample_ms / 1000)
    if section.json:
        print(json.dumps(state))
    elif state["running"]:
        print("\n".join(_lines(state)))
    else:
        print(f"nothing runs in {state['home']}")
    return 0 if state["running"] and state["engine"] == "running" else 1


def _lines(state: dict[str, Any]) -> list[str]:
    head = f"{state['home']}: engine {state['engine']}, epoch {state['epoch']}"
    lines = [
        f"{head}, {state['topology']}, {state['shards']} shard(s), durability {state['durability']}",
        "",
        f"{'process':<15} {'pid':>8} {'state':<9} {'lag':>8} {'starts':>6} {'cpu %':>6} {'cpu s':>8} {'MiB':>7}",
    ]
    for row in state["processes"]:
        health = "dead" if not row["alive"] else "ready" if row["ready"] else "starting"
        lines.append(
            f"{row['name']:<15} {row['pid']:>8} {health:<9} {row['lag']:>8} {row['starts']:>6} "
            f"{row['cpu_percent']:>6.2f} {row['cpu_s']:>8.2f} {row['memory_bytes'] / _MIB:>7.1f}"
        )
    lines.append(
        f"{'all':<15} {'':>8} {'':<9} {'':>8} {'':>6} {state['cpu_percent']:>6.2f} {'':>8} "
        f"{state['memory_bytes'] / _MIB:>7.1f}  and {state['shared_bytes'] / _MIB:.1f} MiB of shared files"
    )
    if state["lanes"]:
        lines += ["", f"{'lane':<12} {'ring used':>9} {'of':>8} {'queue':>8} {'ms':>9} {'orders refused':>14}"]
    lines += [
        f"{lane['name']:<12} {lane['used']:>9} {lane['capacity']:>8} {lane['queue_slots']:>8} {lane['queue_ms']:>9.1f} "
        f"{lane['refused_orders']:>14}"
        for lane in state["lanes"]
    ]
    for title in ("seqs", "counters", "alarms"):
        if state[title]:
            lines += ["", f"{title}: " + ", ".join(f"{name} {value}" for name, value in state[title].items())]
    lines += ["", _snapshots(state["snapshots"])]
    if state["alarms"].get("diverged"):
        lines += ["", _DIVERGED]
    if state["alarms"].get("audit_damaged"):
        lines += ["", _AUDIT_DAMAGED]
    if state["client_ids"]:
        lines += ["", _client_ids(state["client_ids"])]
    if state["postgres"]:
        lines += ["", _postgres(state["postgres"])]
    if state["access"]:
        lines += ["", *_access(state["access"])]
    if state["listeners"]:
        lines += ["", *(_listener(listener) for listener in state["listeners"])]
    if state["instruments"]:
        lines += ["", "instruments: " + ", ".join(f"{row['symbol']} {row['state']}" for row in state["instruments"])]
    return lines


def _snapshots(row: dict[str, Any]) -> str:
    """The newest snapshot, and whether the next one could not be written."""
    line = f"snapshot: of command {row['seq']}, {row['age_s']:g} s old" if row["seq"] else "snapshot: none yet"
    if row["writing_seq"]:
        line += f"; one of command {row['writing_seq']} is being written"
    if row["failures"]:
        line += (
            f"; {row['failures']} attempt(s) failed, {row['problem']}: see replica.log, the next checkpoint tries again"
        )
    return line


def _postgres(database: dict[str, Any]) -> str:
    """Where the writer stands, and why it stands still."""
    line = (
        f"postgres: server {database['server']}, writer {database['writer']} at seq {database['seq']}, "
        f"{database['lag']} commands and {database['lag_ms']} ms behind; {database['rows']} rows in "
        f"{database['commits']} commits; {database['dsn']}"
    )
    return f"{line}\n          {database['why']}" if database["why"] else line


def _access(access: dict[str, Any]) -> list[str]:
    """How far users are known, how old that is, and whose groups the engine has otherwise."""
    groups = access["groups"]
    line = f"users: {access['users']}, keys: {access['keys']}, as of event {access['version']}"
    line += f" and {access['age_ms']} ms ago" if access["loaded"] else f", not read for {access['behind_ms']} ms"
    if access["why"]:
        line += f" ({access['why']})"
    if not groups["checked"]:
        return [f"{line}; groups of accounts are being compared"]
    if not groups["different"]:
        return [f"{line}; groups of accounts follow"]
    rows = [f"          account {row['account']}: {row['why']}" for row in groups["accounts"]]
    return [f"{line}; GROUPS OF {groups['different']} ACCOUNT(S) DO NOT FOLLOW YET:", *rows]


def _listener(listener: dict[str, Any]) -> str:
    """Where a gateway listens on TCP, until when its certificate is good, and what is wrong."""
    secure = f"TLS, certificate good until {listener['not_after']}" if listener["not_after"] else "TLS"
    doing = "listens" if listener["listens"] else "does not listen"
    line = (
        f"{listener['name']}: {doing} on {listener['address']}, {secure if listener['tls'] else 'plain text'}, "
        f"{listener['connections']} connections, {listener['strangers']} not signed in, {listener['refused']} refused"
    )
    problems = [listener[key] for key in ("problem", "certificate_problem") if listener[key]]
    return "\n".join([line, *(f"          {problem}" for problem in problems)])


def _client_ids(ids: dict[str, Any]) -> str:
    """Whether the table of finished client order ids keeps each for its whole time."""
    if ids["ttl_s"] == 0:
        return "client order ids: free at once when an order ends"
    line = f"client order ids: taken for {ids['ttl_s']:g} s after the end, the table covers {ids['covered_s']:.4g} s"
    return f"{line}, {ids['left_early']} left early" if ids["left_early"] else line
