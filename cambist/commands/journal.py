"""``cambist journal``: the segments of a home, its commands by name, and their export. Beside a running exchange too; changes nothing."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from cambist.commands import Call, FailedError, UsageError, action, option
from cambist.commands.inspect import account_number
from cambist.commands.tables import progress, table

_MIB: Final = 1 << 20
_ACTIONS: Final = ("ls", "show", "export")


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of ``journal``."""
    actions = parser.add_subparsers(dest="action", metavar="|".join(_ACTIONS), required=True)
    listing = action(actions, "ls", "segments: numbers, times, versions, size and state")
    listing.add_argument("--quick", action="store_true", help="read the headers only; damage inside is then not found")
    _json(listing)
    show = action(actions, "show", "commands by name, one a line; the slots of a group stand together")
    _range(show)
    option(show, "journal.limit", "--limit", type=int, metavar="N", help="commands at most")
    show.add_argument("--type", action="append", metavar="NAME", help="such as LIMIT or DEPOSIT; may be repeated")
    show.add_argument("--account", metavar="ID", help="a number or a name")
    show.add_argument("--instrument", metavar="SYMBOL")
    _json(show)
    export = action(actions, "export", "commands as typed columns")
    export.add_argument("file", type=Path, metavar="FILE")
    export.add_argument("--format", choices=("parquet", "csv"), help="by default by the ending of FILE")
    _range(export)
    _json(export)


def _json(parser: argparse.ArgumentParser) -> None:
    option(parser, "journal.json", "--json", action="store_true", help="one JSON object on stdout")


def _range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", metavar="SEQ|TIME", help="first command (default: the beginning)")
    parser.add_argument("--to", dest="last", metavar="SEQ|TIME", help="last command (default: the durable end)")


def run(name: str, call: Call) -> int:
    """Do the action; 1 where the journal is damaged or has not what is asked for."""
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from persistence.journal.errors import JournalError
    from persistence.timetravel import NotInHistory

    try:
        return _DO[call.arguments.action](call)
    except (NotInHistory, JournalError, FileNotFoundError) as error:
        raise FailedError(str(error)) from None


# --- ls ---------------------------------------------------------------------------------------------------------------


def _list(call: Call) -> int:
    from persistence.durable import running_durable_seq
    from persistence.journal.listing import list_segments

    journal = call.home.path / "journal"
    if not journal.is_dir():
        raise FailedError(f"{journal}: there is no journal here; is this the home of an exchange?")
    running = running_durable_seq(call.home.path)
    listed = list_segments(journal, quick=call.arguments.quick, running=running is not None)
    if call.config.journal.json:
        print(json.dumps({"home": str(call.home.path), "durable_seq": running, **listed}))
    else:
        _show_segments(listed)
    damaged = [segment for segment in listed["segments"] if segment["problem"]]
    if damaged:
        raise FailedError("; ".join(segment["problem"] for segment in damaged))
    return 0


def _show_segments(listed: dict[str, Any]) -> None:
    rows = [
        [
            str(segment["segment"]),
            str(segment["first_seq"]),
            str(segment["last_seq"]) if segment["last_seq"] is not None else "",
            segment["first_time"] or "",
            segment["last_time"] or "",
            str(segment["epoch"]),
            f"{segment['used_bytes'] / _MIB:.2f}" if segment["used_bytes"] is not None else "",
            f"{segment['stored_bytes'] / _MIB:.2f}",
            segment["written_by"],
            segment["state"],
        ]
        for segment in listed["segments"]
    ]
    if not rows:
        print("the journal has no segment yet")
        return
    columns = ("segment", "first seq", "last seq", "from", "to", "epoch", "MiB", "stored MiB", "written by", "state")
    table(columns, rows)
    for name in listed["leftovers"]:
        print(f"{name}: being prepared, or left by a crash; does not count")


# --- show and export --------------------------------------------------------------------------------------------------


def _span(call: Call) -> tuple[int, int, Any]:
    """First and last seq wanted, whole groups, and the home's past."""
    from persistence.moments import parse_moment
    from persistence.timetravel import Past

    past = Past(call.home.path)
    try:
        first = parse_moment(call.arguments.first) if call.arguments.first else None
        last = parse_moment(call.arguments.last) if call.arguments.last else None
    except ValueError as error:
        raise UsageError(str(error)) from None
    to_seq = past.place(last).seq
    from_seq = 1 if first is None else past.start(first)
    if to_seq and from_seq > to_seq:
        raise UsageError(f"--from {call.arguments.first} lies behind --to {call.arguments.last}")
    return from_seq, to_seq, past


def _show(call: Call) -> int:
    from gateway.control.names import NameBook
    from persistence.commands import command_answers
    from protocol import enums

    from_seq, to_seq, past = _span(call)
    known = {name: number for number, name in enums.COMMAND_NAMES.items()}
    wanted = [text.upper().replace("-", "_") for text in call.arguments.type or ()]
    for text in wanted:
        if text not in known:
            raise UsageError(f"--type {text}: no such command; there are {', '.join(known)}")
    account = None
    if call.arguments.account is not None:
        account = account_number(NameBook(call.home.path / "names.json"), call.arguments.account)
    listings = past.listings_before(from_seq)
    chosen = _Choice({known[text] for text in wanted}, account, call.arguments.instrument)

    def answers() -> Iterator[dict[str, Any]]:
        for slots in past.slots(from_seq, to_seq):
            listings.observe(slots)
            yield from command_answers(chosen.of(slots, listings), listings)
        if chosen.symbol is not None and not chosen.number:
            names = ", ".join(sorted(one.symbol for one in listings.instruments.values())) or "none yet"
            raise FailedError(f"--instrument {chosen.symbol}: not listed up to seq {to_seq}; listed: {names}")

    shown = itertools.islice(answers(), call.config.journal.limit)
    if call.config.journal.json:
        _print_json(from_seq, to_seq, shown)
    else:
        for answer in shown:
            print(command_line(answer))
    return 0


class _Choice:
    """Which groups are wanted: of these types (none: of all), this account, this instrument."""

    def __init__(self, types: set[int], account: int | None, symbol: str | None) -> None:
        self._types = sorted(types)
        self._account = account
        self.symbol = symbol
        self.number = 0

    def of(self, slots: np.ndarray, listings: Any) -> np.ndarray:
        """The slots of the groups that are wanted."""
        from protocol.build import heads

        if self.symbol is not None and not self.number:
            same = (number for number, one in listings.instruments.items() if one.symbol == self.symbol)
            self.number = next(same, 0)
        head = heads(slots)
        group = np.cumsum(head) - 1
        fields = slots[head]
        wanted = np.ones(len(fields), dtype=np.bool_)
        if self._types:
            wanted &= np.isin(fields["type"], self._types)
        if self._account is not None:
            wanted &= fields["account"] == self._account
        if self.symbol is not None:
            wanted &= (fields["instrument"] == self.number) & (self.number != 0)
        return slots[wanted[group]]


def _print_json(from_seq: int, to_seq: int, answers: Iterator[dict[str, Any]]) -> None:
    """One object, a command a line, written as it is read."""
    print(f'{{"from_seq": {from_seq}, "to_seq": {to_seq}, "commands": [', end="")
    separator = "\n"
    for answer in answers:
        print(f"{separator}{json.dumps(answer)}", end="")
        separator = ",\n"
    print("\n]}")


_SAID: Final = frozenset(
    ["seq", "slots", "ts_ns", "time", "type", "source", "source_seq", "account", "symbol", "order_id"]
)
_SHOWN_ONCE: Final = frozenset(["price_ticks", "qty_lots", "amount_units"])


def command_line(answer: dict[str, Any]) -> str:
    """A command in one line: its numbers, time and producer, type, whom it concerns, and the rest by name."""
    last = answer["seq"] + answer["slots"] - 1
    numbers = str(answer["seq"]) if last == answer["seq"] else f"{answer['seq']}-{last}"
    words = [f"{numbers:>12}", answer["time"], f"{answer['source']:<10}", f"{answer['type']:<16}"]
    words += [f"{key} {answer[key]}" for key in ("account", "symbol", "order_id") if key in answer]
    words += [
        f"{key} {json.dumps(value) if key == 'why' else ','.join(value) if isinstance(value, list) else value}"
        for key, value in answer.items()
        if key not in _SAID and key not in _SHOWN_ONCE
    ]
    return " ".join(words)


def _export(call: Call) -> int:
    from persistence.export import export

    path: Path = call.arguments.file
    form: Any = call.arguments.format or path.suffix.removeprefix(".")
    if form not in {"parquet", "csv"}:
        raise UsageError(f"{path}: say what to write with --format parquet or --format csv")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file")
    from_seq, to_seq, past = _span(call)
    with progress("exporting", shown=not call.config.journal.json) as advance:

        def batches() -> Iterator[np.ndarray]:
            for slots in past.slots(from_seq, to_seq):
                yield slots
                advance(int(slots["seq"][-1]) - from_seq + 1, to_seq - from_seq + 1)

        try:
            count = export(batches(), past.listings_before(from_seq), path, form)
        except OSError as error:
            raise FailedError(f"{path}: cannot be written: {error.strerror or error}") from None
    result = {"file": str(path), "format": form, "from_seq": from_seq, "to_seq": to_seq, "commands": count}
    if call.config.journal.json:
        print(json.dumps(result))
    else:
        print(f"{count} commands, seq {from_seq} to {to_seq}, are in {path}")
    return 0


_DO: Final[dict[str, Callable[[Call], int]]] = {"ls": _list, "show": _show, "export": _export}
