"""The object that ``cambist replay --json`` prints, what a person sees, the comparison with expected results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from cambist.replay import truth
from cambist.replay.collect import HASH_START, Collector, fold
from cambist.replay.plan import Plan
from cambist.replay.xflow import stem

BOOK_KEYS: Final = ("orders", "bid_qty", "ask_qty", "bid_levels", "ask_levels")
_SHOWN_MAX: Final = 20


class Ledger(NamedTuple):
    """Where balances are read after the last command is settled: units by number of account and asset."""

    balance: Callable[[int, int], tuple[int, int]]
    """(account, asset) to (free, locked)."""
    fee: Callable[[int], int]
    net_deposits: Callable[[int], int]


class Timing(NamedTuple):
    """How a run went: seconds from the first message sent to the last one settled, and on what."""

    seconds: float
    topology: str


def build_report(
    plan: Plan,
    collector: Collector,
    ledger: Ledger | None,
    *,
    timing: Timing,
    state_hash: str,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The contract's object.

    ``differences`` lists what disagrees with expected results or the venue's record; empty = the run is right.
    """
    counters = collector.counters()
    books = {i.symbol: collector.book(i.index) for i in plan.instruments}
    report: dict[str, Any] = {"recording": plan.name, "format": plan.format}
    report |= {k: v for k, v in counters.items() if k not in ("verdicts", "verdict_hash", "prevented")}
    report |= {key: sum(book[key] for book in books.values()) for key in BOOK_KEYS}
    only = next(iter(books.values())) if len(books) == 1 else None
    report |= {key: only[key] if only else None for key in ("best_bid", "best_ask")}
    report["state_hash"] = state_hash
    report["seconds"] = round(timing.seconds, 6)
    report["messages_per_s"] = round(plan.messages / timing.seconds) if timing.seconds > 0 else 0
    report["topology"] = timing.topology
    if plan.format in ("xflow002", "cambist"):
        report |= {key: counters[key] for key in ("verdicts", "verdict_hash", "prevented")}
        report["books"] = books
    if ledger is not None and plan.format in ("xflow002", "cambist"):
        report |= money(plan, ledger)
    report |= extra or {}
    differences = collector.faults()
    if ledger is not None:
        differences += conservation(plan, ledger)
    expected = expected_results(plan)
    if expected is not None:
        compared, wrong = compare_expected(report, expected, plan, collector)
        report["expected"] = compared
        differences += wrong
    checks, wrong = truth.check(plan, collector)
    if checks:
        report["truth"] = checks
    report["differences"] = differences + wrong
    return report


def money(plan: Plan, ledger: Ledger) -> dict[str, Any]:
    """Balances of every account and asset, fees, net deposits and their hash (whole-history format, section 6)."""
    balances: dict[str, dict[str, list[int]]] = {}
    terms: list[int] = []
    for account in range(1, plan.accounts + 1):
        row = balances[str(account)] = {}
        for asset in plan.assets:
            free, locked = (int(v) for v in ledger.balance(account, asset.index))
            row[asset.symbol] = [free, locked]
            terms.append((free * 31 + locked * 17) % (1 << 64))
    fees = {a.symbol: int(ledger.fee(a.index)) for a in plan.assets}
    terms += [(fee * 31) % (1 << 64) for fee in fees.values()]
    return {
        "balances": balances,
        "fee": fees,
        "net_deposits": {a.symbol: int(ledger.net_deposits(a.index)) for a in plan.assets},
        "balance_hash": str(fold(HASH_START, np.array(terms, dtype=np.uint64))),
    }


def conservation(plan: Plan, ledger: Ledger) -> list[str]:
    """Per asset, free + locked + fees = net deposits, and nothing below zero."""
    wrong = []
    for asset in plan.assets:
        total = int(ledger.fee(asset.index))
        for account in range(1, plan.accounts + 1):
            free, locked = (int(v) for v in ledger.balance(account, asset.index))
            total += free + locked
            if free < 0 or locked < 0:
                wrong.append(f"account {account} has {free} free and {locked} locked {asset.symbol}")
        deposits = int(ledger.net_deposits(asset.index))
        if total != deposits:
            wrong.append(
                f"{asset.symbol}: balances and fees are {total}, net deposits {deposits}: money was made or lost"
            )
    return wrong


def expected_results(plan: Plan) -> dict[str, Any] | None:
    """The JSON beside an ``XFLOW`` file, or None."""
    if plan.format not in ("xflow001", "xflow002"):
        return None
    file = expected_file(plan.path)
    if not file.exists():
        return None
    return dict(json.loads(file.read_text()))


def compare_expected(
    report: dict[str, Any], expected: dict[str, Any], plan: Plan, collector: Collector
) -> tuple[str, list[str]]:
    """Compare with the whole results or the checkpoint at this number of messages.

    Returns what was compared, in words, and the differences.
    """
    if plan.format == "xflow001":
        point = expected["checkpoints"].get(str(plan.messages))
        if point is None:
            return f"no checkpoint at {plan.messages} messages", []
        wanted = {"trade_hash" if k == "hash" else k: v for k, v in point.items()}
        return f"checkpoint at {plan.messages} messages", _unequal(wanted, report)
    if plan.messages == expected["n_total"]:
        wanted = {k: expected[k] for k in expected if k in report and k not in ("format", "seed")}
        return "all results", _unequal(wanted, report) + _compare_detail(expected, collector)
    point = expected["checkpoints"].get(str(plan.messages))
    wrong = _compare_detail(expected, collector)
    if point is None:
        return f"detail of the first {plan.messages} messages", wrong
    return f"checkpoint at {plan.messages} messages", _unequal(point, report) + wrong


def _unequal(wanted: dict[str, Any], report: dict[str, Any]) -> list[str]:
    wrong = []
    for key, value in wanted.items():
        got = report.get(key)
        if isinstance(value, dict) and isinstance(got, dict):
            keys = [k for k in {**value, **got} if value.get(k) != got.get(k)]
            wrong += [f"{key}.{k}: expected {value.get(k)}, got {got.get(k)}" for k in keys]
        elif value != got:
            wrong.append(f"{key}: expected {value}, got {got}")
    return wrong


def _compare_detail(expected: dict[str, Any], collector: Collector) -> list[str]:
    """The first difference among verdicts, fills and self-trade preventions; messages count from 1 there."""
    detail = expected.get("detail")
    if not detail:
        return []
    messages = collector.plan.messages
    fills = collector.fills()
    fills[:, 0] += 1
    prevented = collector.preventions()
    prevented[:, 0] += 1
    wrong = []
    for what, wanted, got in (
        ("verdict (code, x, y) of message", detail["verdicts"][:messages], collector.verdicts.tolist()),
        ("fill", [row for row in detail["fills"] if row[0] <= messages], fills.tolist()),
        ("self-trade prevention", [row for row in detail["stp"] if row[0] <= messages], prevented.tolist()),
    ):
        if wanted == got:
            continue
        at = next((i for i, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b), min(len(wanted), len(got)))
        pair = [rows[at] if at < len(rows) else None for rows in (wanted, got)]
        wrong.append(f"{what} {at + 1}: expected {pair[0]}, got {pair[1]}")
    return wrong


def write_json(report: dict[str, Any]) -> str:
    """One line of JSON; integers as they are, whatever their size."""
    return json.dumps(report, separators=(",", ":"))


def show(report: dict[str, Any], console: Console) -> None:
    """The report as a table for a person, and what is wrong below it."""
    table = Table(title=f"{report['recording']} ({report['format']})", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    for key in (
        "messages",
        "accepted",
        "cancels",
        "trades",
        "volume",
        "turnover",
        "prevented",
        *BOOK_KEYS,
        "best_bid",
        "best_ask",
    ):
        if key in report:
            value = report[key]
            table.add_row(key.replace("_", " "), "-" if value is None else f"{value:,}")
    for name, count in report["rejected"].items():
        table.add_row(f"rejected {name}", f"{count:,}")
    for key in ("trade_hash", "verdict_hash", "balance_hash", "state_hash"):
        if key in report:
            table.add_row(key.replace("_", " "), str(report[key]))
    table.add_row("time", f"{report['seconds']:.3f} s, {report['messages_per_s']:,} messages/s, {report['topology']}")
    for name, value in report.get("truth", {}).items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    for name, value in report.get("state_bytes", {}).items():
        table.add_row(f"memory {name}", f"{value / 1e6:,.1f} MB")
    for name, value in report.get("teardown", {}).items():
        table.add_row(f"teardown {name}".replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)
    if "expected" in report:
        console.print(f"compared with the expected results: {report['expected']}")
    differences = report["differences"]
    for line in differences[:_SHOWN_MAX]:
        console.print(f"[red]differs[/red] {line}", highlight=False)
    if len(differences) > _SHOWN_MAX:
        console.print(f"… and {len(differences) - _SHOWN_MAX} more")
    if not differences:
        console.print("[green]no differences[/green]")


def expected_file(path: Path) -> Path:
    """Where the expected results of an ``XFLOW`` file lie."""
    return path.parent / f"{stem(path)}.json"
