"""Reading the stored trail: which records somebody asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from persistence.audit.chain import FOLDER, Entry, file_names, parse_entry, read_lines
from persistence.audit.records import Record
from persistence.moments import Moment


def stored_records(home: Path) -> Iterator[Record]:
    """Every record of the stored chain that can be read, in order; nothing is verified."""
    folder = home / FOLDER
    for name in file_names(folder):
        for number, line in enumerate(read_lines(folder / name), 1):
            entry = parse_entry(line, name, number) if number > 1 else ""
            if isinstance(entry, Entry):
                yield entry.record


def selection(
    account: int | None, who: str | None, kind: str | None, first: Moment | None, last: Moment | None
) -> Callable[[Record], bool]:
    """Whether a record is asked for; None asks for all. Both ends of the range are included."""

    def chosen(record: Record) -> bool:
        return (
            (account is None or record["what"].get("account") == account)
            and (who is None or record["who"] == who)
            and (kind is None or record["type"] == kind)
            and (first is None or _position(first, record) >= 0)
            and (last is None or _position(last, record) <= 0)
        )

    return chosen


def _position(moment: Moment, record: Record) -> int:
    """Below 0 where the record comes before the moment, above 0 where it comes behind."""
    if moment.seq is not None:
        return int(record["seq"]) - moment.seq
    assert moment.ts_ns is not None, "a moment is a seq or a time"
    return int(record["ts_ns"]) - moment.ts_ns
