"""Who follows the journal, and how far each has durably come: segments and snapshots are kept until all have passed them.

One small file a consumer in ``<home>/consumers``, replaced whole. A consumer that is gone for good is removed by an operator.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

CONSUMERS_FOLDER: Final = "consumers"


class Position(msgspec.Struct, frozen=True):
    """How far a consumer has come: everything up to ``seq`` is durable in its own store."""

    seq: int


def keep_position(home: Path, name: str, seq: int) -> None:
    """Say that the consumer never needs a command slot up to ``seq`` again."""
    folder = home / CONSUMERS_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    scratch = folder / f".{name}.{os.getpid()}.new"
    scratch.write_bytes(msgspec.json.encode(Position(seq)))
    scratch.replace(folder / f"{name}.json")


def positions(home: Path) -> dict[str, int]:
    """Seq by name of each consumer of the home."""
    files = sorted((home / CONSUMERS_FOLDER).glob("*.json"))
    return {file.stem: msgspec.json.decode(file.read_bytes(), type=Position).seq for file in files}
