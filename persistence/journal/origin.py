"""By which versions the commands of a journal were written, and which of them this program can execute."""

from __future__ import annotations

from typing import NamedTuple

from persistence.journal.errors import JournalMismatch
from persistence.journal.segments import lineage
from persistence.journal.store import JournalStore
from protocol.versions import Written, executable, this_program


class Stretch(NamedTuple):
    """Commands ``first_seq`` to ``last_seq`` (None: to the end) that one version wrote."""

    first_seq: int
    last_seq: int | None
    written: Written


def stretches(journal: JournalStore) -> list[Stretch]:
    """The journal by the rules and schema that wrote it, oldest first; a release that changed neither is no new stretch."""
    found: list[Stretch] = []
    for header in lineage(journal).headers:
        if found and found[-1].written[:2] == header.written[:2]:
            continue
        if found:
            found[-1] = found[-1]._replace(last_seq=header.first_seq - 1)
        found.append(Stretch(header.first_seq, None, header.written))
    return [one for one in found if one.last_seq is None or one.last_seq >= one.first_seq]


def executable_from(journal: JournalStore) -> int:
    """First seq from which on this program can execute everything; behind the end where the newest commands are of another version."""
    last = stretches(journal)[-1:]
    if not last:
        return 1
    return last[0].first_seq if executable(last[0].written) else 1 << 62


def check_executable(journal: JournalStore, from_seq: int, to_seq: int) -> None:
    """Raise JournalMismatch, which names the version that is needed, where any of the commands is of other rules or another schema."""
    for stretch in stretches(journal):
        last_seq = to_seq if stretch.last_seq is None else min(to_seq, stretch.last_seq)
        first_seq = max(from_seq, stretch.first_seq)
        if first_seq <= last_seq and not executable(stretch.written):
            raise JournalMismatch(
                f"journal {journal.label('.')}: seq {first_seq} to {last_seq} were written by {stretch.written}, and only that version "
                f"can execute them; this is {this_program()}. `cambist journal show` and `export` read them; to go on with this version "
                f"end the journal with `cambist upgrade` of the old one, then run `cambist upgrade` of this one"
            )
