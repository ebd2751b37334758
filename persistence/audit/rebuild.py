"""Writes the chain again from the journal where the stored one was damaged; what was there is put aside, never removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from persistence.audit import past
from persistence.audit.chain import FOLDER
from persistence.audit.trail import AuditTrail, write_up_to
from persistence.durable import durable_seq
from persistence.journal.store import DirectoryStore


def rebuild(home: Path, aside: str) -> dict[str, Any]:
    """Rename the audit folder to ``aside`` and write another one from the journal's beginning.

    Raises JournalError where an exchange runs on the home or its journal is damaged, FileNotFoundError where there is none.
    """
    store = DirectoryStore(home / past.JOURNAL)
    last_seq = durable_seq(home)
    store.lock()
    try:
        if (home / FOLDER).exists():
            (home / FOLDER).rename(home / aside)
        trail = AuditTrail(home, past.journal_id_of(home))
        write_up_to(trail, home, last_seq)
        trail.close()
    finally:
        store.unlock()
    return {"records": trail.head.number, "last_seq": last_seq, "head": trail.head.as_dict(), "put_aside": aside}
