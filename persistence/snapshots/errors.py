"""What can be wrong with a snapshot."""

from __future__ import annotations

import errno

from protocol import board as b

_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class SnapshotError(Exception):
    """A snapshot cannot be used or written; the text says which, why, and what to do.

    Attributes
    ----------
    problem : int
        Where it could not be written: ``protocol.board.SNAPSHOT_*``.
    """

    def __init__(self, text: str, problem: int = b.SNAPSHOT_DISK_ERROR) -> None:
        super().__init__(text)
        self.problem = problem


def problem_of(number: int) -> int:
    """``protocol.board.SNAPSHOT_*`` for an errno of writing."""
    if number in _SPACE:
        return b.SNAPSHOT_NO_SPACE
    return b.SNAPSHOT_READ_ONLY if number in _READ_ONLY else b.SNAPSHOT_DISK_ERROR
