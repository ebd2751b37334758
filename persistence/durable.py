"""How far the history of a home reaches durably, whether its exchange runs or not."""

from __future__ import annotations

from pathlib import Path

from persistence.journal.recovery import scan
from protocol import board as b
from protocol.instance import SHARED_MEMORY, instance_name
from ringbuf.atomics import load_acquire
from ringbuf.board import BoardFile
from ringbuf.errors import RingError

_EVERYTHING = (1 << 63) - 1


def durable_seq(home: Path) -> int:
    """Last command slot of the home that is on disk; 0 for a journal that is not begun.

    Raises FileNotFoundError where the home has no journal, JournalError where it is damaged. Of segments before the last one only the
    headers are looked at: whoever reads them checks them.
    """
    journal = home / "journal"
    if not any(journal.glob("*.seg")):
        msg = f"{journal}: there is no journal here; is this the home of an exchange?"
        raise FileNotFoundError(msg)
    running = running_durable_seq(home)
    return scan(journal, verify_from_seq=_EVERYTHING).last_seq if running is None else running


def running_durable_seq(home: Path) -> int | None:
    """The durable cursor on the board of the home's exchange; None where it does not run, or is not yet recovered."""
    try:
        board = BoardFile.attach(SHARED_MEMORY / f"cambist-{instance_name(home)}").board
    except (RingError, OSError):
        return None
    return int(load_acquire(board, b.DURABLE_SEQ)) or None
