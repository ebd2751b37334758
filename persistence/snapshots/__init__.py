"""Snapshots: the whole state at one command, in one LMDB file a generation, so that recovery need not replay from the beginning.

``chunks`` says how arrays become bytes, ``state`` which arrays make up a state, ``file`` writes and reads one generation, ``folder`` is
the directory of them, ``restore`` makes an engine of one, ``writer`` makes one beside a replica that goes on.
"""

from persistence.snapshots.errors import SnapshotError
from persistence.snapshots.file import Manifest, Snapshot, open_snapshot, write_snapshot
from persistence.snapshots.folder import SnapshotFolder
from persistence.snapshots.restore import restore
from persistence.snapshots.state import State, private_state, zero_state

__all__ = [
    "Manifest",
    "Snapshot",
    "SnapshotError",
    "SnapshotFolder",
    "State",
    "open_snapshot",
    "private_state",
    "restore",
    "write_snapshot",
    "zero_state",
]
