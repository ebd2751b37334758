"""Results for a person: a table on the terminal, and the same as a page."""

from __future__ import annotations

import html
import json
import math
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from cambist.benches.rows import Row

_COLUMNS: Final = (
    *("bench", "case", "median", "min … max", "wall s", "CPU s"),
    *("limit", "of limit", "p50 / p99 / p99.9 / p99.99"),
)
_LEFT: Final = 2
_SHARE: Final = 7
_STEPS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_NS_STEPS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))
_STYLE: Final = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222 }
table { border-collapse: collapse } th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
th { background: #f4f4f4 } td.l, th.l { text-align: left } pre { background: #f4f4f4; padding: 1rem }
.bar { background: #ddd; width: 8rem; height: .6rem; display: inline-block; text-align: left }
.bar i { background: #4a7; height: 100%; display: block }
svg { margin: 1rem 1rem 0 0; font-size: 11px } svg .g { stroke: #ddd }
"""
_CHARTED: Final = {"50": "#4a7", "99": "#37c", "99.9": "#a3c", "99.99": "#c33"}
"""Percentiles of the curves, and their colours."""
_NAMED_MAX: Final = 4
"""Cases with the same result that are named one by one."""
_WIDTH: Final = 620
_HEIGHT: Final = 320
_MARGIN: Final = 56


def show(document: dict[str, Any], console: Console) -> None:
    """The results as a table, and below it what the limits are."""
    table = Table(title=_title(document), title_justify="left")
    for k, name in enumerate(_COLUMNS):
        table.add_column(name, justify="left" if k < _LEFT else "right", no_wrap=True)
    before = None
    for result in document["results"]:
        if before not in {None, result["bench"]}:
            table.add_section()
        before = result["bench"]
        table.add_row(*_cells(result))
    console.print(table)
    for line in _notes(document):
        console.print(line, markup=False, highlight=False)


def page(document: dict[str, Any]) -> str:
    """The results as an HTML page without anything from outside."""
    head = "".join(f'<th class="{"l" if k < _LEFT else "r"}">{html.escape(c)}</th>' for k, c in enumerate(_COLUMNS))
    rows = []
    for result in document["results"]:
        cells = [html.escape(cell) for cell in _cells(result)]
        share = _share(result)
        if share is not None:
            width = 100 * min(1.0, share)
            cells[_SHARE] += f' <span class="bar"><i style="width:{width:.0f}%"></i></span>'
        rows.append("".join(f'<td class="{"l" if k < _LEFT else "r"}">{c}</td>' for k, c in enumerate(cells)))
    body = "\n".join(f"<tr>{cells}</tr>" for cells in rows)
    notes = "".join(f"<li>{html.escape(line)}</li>" for line in _notes(document))
    machine = html.escape(json.dumps(document["machine"], indent=2))
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>cambist bench</title><style>{_STYLE}</style>\n'
        f"<h1>cambist bench</h1>\n<p>{html.escape(_title(document))}</p>\n"
        f"<table>\n<tr>{head}</tr>\n{body}\n</table>\n{_chart(_curves(document))}<ul>{notes}</ul>\n<pre>{machine}</pre>\n</html>\n"
    )


def _title(document: dict[str, Any]) -> str:
    machine = document["machine"]
    commit, _, dirty = (document["commit"] or "no commit").partition("-")
    state = f"{commit[:12]} with changes" if dirty else commit[:12]
    return f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_1min']}; {state}"


def _cells(result: Row) -> list[str]:
    unit = result["unit"]
    limit = result["limit"]
    share = _share(result)
    percentiles = result["percentiles_ns"] or {}
    return [
        result["bench"],
        result["case"],
        _number(result["median"], unit),
        f"{_number(result['min'], unit)} … {_number(result['max'], unit)}",
        f"{result['wall_median']:.2f}" if "wall_median" in result else "",
        f"{result['cpu_median']:.2f}",
        _number(limit["value"], unit) if limit else "",
        "" if share is None else f"{share:.0%}" if unit == "1/s" else f"{share:.1f}x",
        " / ".join(_number(percentiles[p], "ns") for p in ("50", "99", "99.9", "99.99") if p in percentiles),
    ]


def _share(result: Row) -> float | None:
    limit = result["limit"]
    return result["median"] / limit["value"] if limit and limit["value"] else None


def _notes(document: dict[str, Any]) -> list[str]:
    """What each limit is and with what results were compared, each said once."""
    limits, notes = [], []
    hashes: dict[tuple[str, str, str], list[str]] = {}
    for result in document["results"]:
        bench, case = result["bench"], result["case"]
        if result["limit"]:
            limits.append(f"{bench}: limit = {result['limit']['what']}")
        if "note" in result:
            limits.append(f"{bench}: {result['note']}")
        if "distance_ns" in result:
            parts = ", ".join(f"{name} {ns:.1f}" for name, ns in result["distance_ns"].items())
            notes.append(f"{bench} {case}: {result['share_of_limit']:.0%} of the limit; ns a message: {parts}")
        for name, peer in result.get("peers", {}).items():
            notes.append(f"{bench} {case}: {peer['times']:.2f} times {name} ({_number(peer['median'], '1/s')})")
        if "growth" in result and result["growth"]["from"] != case:
            notes.append(f"{bench} {case}: {_growth(result)}")
        if "machine_percentiles_ns" in result:
            notes.append(f"{bench} {case}: {_pauses(result)}")
        if "bytes_by_array" in result:
            parts = ", ".join(f"{name} {found:.1f}" for name, found in result["bytes_by_array"].items())
            beside = ", ".join(f"{name} {found:.1f}" for name, found in result["risk"].items())
            notes.append(
                f"{bench} {case}: bytes an order: {parts}; {result['wanted_bytes']} are wanted; risk's: {beside}"
            )
        if "pauses" in result:
            notes.append(f"{bench} {case}: {result['fills']:,} fills, {result['pauses']:,} pauses")
        if "undisturbed_per_s" in result:
            notes.append(f"{bench} {case}: undisturbed {_undisturbed(result)}")
        if "result_hash" in result:
            hashes.setdefault((bench, result["result_hash"], result["compared"]), []).append(case)
        if "cpu_ns_per_message" in result:
            parts = ", ".join(f"{name} {ns}" for name, ns in result["cpu_ns_per_message"].items())
            notes.append(f"{bench} {case}: CPU ns a message: {parts}{_refused(result)}")
    notes += [
        f"{bench} {', '.join(cases) if len(cases) <= _NAMED_MAX else f'{len(cases)} cases'}: result hash {found}, compared with {compared}"
        for (bench, found, compared), cases in hashes.items()
    ]
    notes += [
        f"latency {curve}: "
        + ", ".join(
            f"{_number(row['offered_per_s'], '1/s')} offered {_number(row['achieved_per_s'], '1/s')} achieved"
            for row in rows
        )
        for curve, rows in _curves(document).items()
    ]
    return list(dict.fromkeys([*limits, *notes]))


def _growth(result: Row) -> str:
    growth = result["growth"]
    return (
        f"{growth['times']:.2f} times {growth['from']}, the walk {growth['walk_times']:.2f} times: {growth['ratio']:.2f} of at most "
        f"{result['growth_max']:g}; {growth['added_ns']:+.0f} ns, the walk {growth['walk_added_ns']:+.0f} ns; "
        f"{result['used_bytes'] / 1e6:.1f} MB in use, {result['rss_bytes'] / 1e6:.0f} MB resident"
    )


def _pauses(result: Row) -> str:
    machine = result["machine_percentiles_ns"]
    times = " / ".join(_number(machine[p], "ns") for p in ("50", "99", "99.9", "99.99"))
    own, idle = result["above_wanted"], result["machine_above_wanted"]
    return (
        f"the empty loop {times}; above {_number(result['wanted_ns'], 'ns')}: {own:.4%}, the empty loop {idle:.4%}; "
        f"a reading of the clock {result['clock_ns']:.0f} ns"
    )


def _undisturbed(result: Row) -> str:
    """The rate without other work of the machine, and what share it is of the limit's and of the peers'."""
    own = result["undisturbed_per_s"]
    others = {"the limit": result["limit"] or {}, **result.get("peers", {})}
    rates = {name: other["undisturbed_per_s"] for name, other in others.items() if "undisturbed_per_s" in other}
    shares = [f"{own / rate:.2f} times {name} ({_number(rate, '1/s')})" for name, rate in rates.items()]
    return ", ".join([_number(own, "1/s"), *shares])


def _refused(result: Row) -> str:
    if not result["refused"]:
        return ""
    return f"; {result['refused']:,} of {result['messages']:,} refused, {result['exact_waits']:,} waited for exact balances"


def _curves(document: dict[str, Any]) -> dict[str, list[Row]]:
    """Rows of the open loop by what they have in common: their case without the rate."""
    found: dict[str, list[Row]] = {}
    for result in document["results"]:
        if "achieved_per_s" in result:
            found.setdefault(result["case"].rpartition("_")[0], []).append(result)
    return found


def _chart(curves: dict[str, list[Row]]) -> str:
    """Latency over offered load as pictures, both axes logarithmic; empty without an open loop."""
    if not curves:
        return ""
    rows = [row for curve in curves.values() for row in curve]
    loads = [math.log10(row["offered_per_s"]) for row in rows]
    times = [math.log10(max(1, row["percentiles_ns"][p])) for row in rows for p in _CHARTED]
    left, right = min(loads), max(*loads, min(loads) + 1)
    low, high = math.floor(min(times)), math.ceil(max(*times, min(times) + 1))

    def x(load: float) -> float:
        return _MARGIN + (math.log10(load) - left) / (right - left) * (_WIDTH - 2 * _MARGIN)

    def y(time_ns: float) -> float:
        return _HEIGHT - _MARGIN - (math.log10(max(1, time_ns)) - low) / (high - low) * (_HEIGHT - 2 * _MARGIN)

    pictures = []
    for name, curve in curves.items():
        parts = [f'<text x="{_MARGIN}" y="16">{html.escape(name)}: durable, from the intended time</text>']
        for power in range(low, high + 1):
            at = y(10**power)
            parts.append(f'<line class="g" x1="{_MARGIN}" y1="{at:.0f}" x2="{_WIDTH - _MARGIN}" y2="{at:.0f}"/>')
            parts.append(f'<text x="2" y="{at + 4:.0f}">{_number(10**power, "ns")}</text>')
        for row in curve:
            label = _number(row["offered_per_s"], "1/s")
            parts.append(f'<text x="{x(row["offered_per_s"]) - 16:.0f}" y="{_HEIGHT - 22}">{label}</text>')
        for percentile, colour in _CHARTED.items():
            points = " ".join(f"{x(r['offered_per_s']):.1f},{y(r['percentiles_ns'][percentile]):.1f}" for r in curve)
            parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
            end = curve[-1]
            right_of, level = x(end["offered_per_s"]) + 4, y(end["percentiles_ns"][percentile])
            parts.append(f'<text fill="{colour}" x="{right_of:.0f}" y="{level:.0f}">p{percentile}</text>')
        pictures.append(f'<svg width="{_WIDTH}" height="{_HEIGHT}">{"".join(parts)}</svg>')
    return "\n".join(pictures) + "\n"


def _number(value: float, unit: str) -> str:
    if unit == "ns":
        for step, name in _NS_STEPS:
            if value >= step:
                return f"{value / step:.3g} {name}"
        return f"{value:.0f} ns"
    if unit == "B":
        return f"{value:.4g} B"
    if unit == "s":
        return f"{value:.2f} s"
    for step, name in _STEPS:
        if value >= step:
            return f"{value / step:.3g} {name}/s"
    return f"{value:.3g} /s"
