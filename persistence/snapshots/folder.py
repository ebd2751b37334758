"""The generations of a home: ``<home>/snapshots/<seq>.mdb``, the newest of which recovery begins with."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from persistence.folders import sync_folder
from persistence.snapshots.errors import SnapshotError
from persistence.snapshots.file import Snapshot, open_snapshot

FOLDER: Final = "snapshots"
_NAME: Final = re.compile(r"(\d{15,})\.mdb")
_SCRATCH: Final = re.compile(r"\.\d{15,}\.mdb\.\d+\.new")


class SnapshotFolder:
    """The snapshots of one home. Nothing is made until ``make``."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER

    def make(self) -> None:
        """Make the folder if it is not there, and remove what writers that died left in it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if _SCRATCH.fullmatch(path.name):
                path.unlink()

    def path(self, seq: int) -> Path:
        """Where the snapshot at a command slot is, or would be."""
        return self.folder / f"{seq:015d}.mdb"

    def seqs(self) -> list[int]:
        """Command slots of the snapshots that are there, sound or not, ascending."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(name[1]) for name in found if name)

    def newest(self, below_seq: int | None = None) -> Iterator[Snapshot | SnapshotError]:
        """The snapshots (below a command slot), newest first, each opened or what is wrong with it; the caller closes them."""
        for seq in reversed(self.seqs()):
            if below_seq is not None and seq >= below_seq:
                continue
            try:
                snapshot = open_snapshot(self.path(seq))
            except SnapshotError as error:
                yield error
                continue
            if snapshot.manifest.seq != seq:
                snapshot.close()
                yield SnapshotError(f"{snapshot.path}: is of command slot {snapshot.manifest.seq}; give it that name")
                continue
            yield snapshot

    def prune(self, keep: int, positions: Iterable[int]) -> list[int]:
        """Remove generations that nobody needs; their command slots.

        The newest ``keep`` stay, and for each consumer that is at a position the newest at or before it, from which it can be led on.
        """
        seqs = self.seqs()
        kept = set(seqs[-keep:])
        for position in positions:
            kept.update([seq for seq in seqs if seq <= position][-1:])
        removed = [seq for seq in seqs if seq not in kept]
        for seq in removed:
            with contextlib.suppress(FileNotFoundError):
                self.path(seq).unlink()
        if removed:
            sync_folder(self.folder)
        return removed
