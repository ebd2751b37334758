"""Results for a person: a table on the terminal, and the same as a page."""

from __future__ import annotations

import html
import json
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from cambist.benches.rows import Row

_COLUMNS: Final = ("bench", "case", "median", "min … max", "CPU s", "limit", "of limit", "p50 / p99 / p99.9 / p99.99")
_LEFT: Final = 2
_SHARE: Final = 6
_STEPS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_NS_STEPS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))
_STYLE: Final = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222 }
table { border-collapse: collapse } th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
th { background: #f4f4f4 } td.l, th.l { text-align: left } pre { background: #f4f4f4; padding: 1rem }
.bar { background: #ddd; width: 8rem; height: .6rem; display: inline-block; text-align: left }
.bar i { background: #4a7; height: 100%; display: block }
"""


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
        f"<table>\n<tr>{head}</tr>\n{body}\n</table>\n<ul>{notes}</ul>\n<pre>{machine}</pre>\n</html>\n"
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
    notes = []
    for result in document["results"]:
        if result["limit"]:
            notes.append(f"{result['bench']}: limit = {result['limit']['what']}")
        if "result_hash" in result:
            compared = f"compared with {result['compared']}"
            notes.append(f"{result['bench']} {result['case']}: result hash {result['result_hash']}, {compared}")
        if "cpu_ns_per_message" in result:
            parts = ", ".join(f"{name} {ns}" for name, ns in result["cpu_ns_per_message"].items())
            notes.append(f"{result['bench']} {result['case']}: CPU ns a message: {parts}")
    return list(dict.fromkeys(notes))


def _number(value: float, unit: str) -> str:
    if unit == "ns":
        for step, name in _NS_STEPS:
            if value >= step:
                return f"{value / step:.3g} {name}"
        return f"{value:.0f} ns"
    if unit == "s":
        return f"{value:.2f} s"
    for step, name in _STEPS:
        if value >= step:
            return f"{value / step:.3g} {name}/s"
    return f"{value:.3g} /s"
