"""The report that recovery leaves for the supervisor: ``<epoch_dir>/recovery.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

REPORT_FILE: Final = "recovery.json"


class Recovery(msgspec.Struct, frozen=True):
    """What recovery says; keys that it does not know are ignored."""

    last_seq: int = 0
    last_ts_ns: int = 0
    sources: dict[int, int] = {}
    """Highest number of each producer that the journal holds."""
    last_epoch: int = 0
    """Highest epoch that the journal knows."""
    note: str = ""
    """What an operator should know, such as a tail that was cut."""
    error: str = ""
    """Why it did not succeed."""


def read_report(epoch_dir: Path) -> Recovery:
    """Recovery's report; an empty one where there is none or it is not whole."""
    try:
        return msgspec.json.decode((epoch_dir / REPORT_FILE).read_bytes(), type=Recovery, strict=False)
    except (FileNotFoundError, msgspec.MsgspecError):
        return Recovery()
