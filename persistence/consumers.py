"""Who follows the journal, and how far each has durably come: segments and snapshots are kept until all have passed them.

One small file a consumer in ``<home>/consumers``, replaced whole. A consumer that is gone for good is removed by an operator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

CONSUMERS_FOLDER: Final = "consumers"


class Position(msgspec.Struct, frozen=True):
    """How far a consumer has come: everything up to ``seq`` is durable in its own store."""

    seq: int


def keep_position(home: Path, name: str, seq: int) -> None:
    """Say that the consumer never needs a command slot up to ``seq`` again.

    Not synced: after a loss of power an older position may stand there, or nothing that can be read, which counts as none.
    """
    folder = home / CONSUMERS_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    scratch = folder / f".{name}.new"
    scratch.write_bytes(msgspec.json.encode(Position(seq)))
    scratch.replace(folder / f"{name}.json")


def positions(home: Path) -> dict[str, int]:
    """Seq by name of each consumer of the home; 0, so that nothing is taken from it, where a loss of power left no position."""
    found = {}
    for file in sorted((home / CONSUMERS_FOLDER).glob("*.json")):
        try:
            found[file.stem] = msgspec.json.decode(file.read_bytes(), type=Position).seq
        except msgspec.DecodeError:
            found[file.stem] = 0
    return found
