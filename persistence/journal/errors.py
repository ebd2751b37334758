"""Errors of the journal: each says where, what was expected, what was found and what to do."""

from __future__ import annotations

import errno as errno_names


class JournalError(Exception):
    """Base of all errors of the journal."""


class JournalCorrupt(JournalError):
    """The journal has not what it must have: damage, a missing file, or a history shorter than what was durable.

    Attributes
    ----------
    segment : str
        File name.
    offset : int
        Bytes from the start of the file.
    seq_expected : int
        First seq that should stand there; 0 where that is not known.
    found : str
        What stands there instead.
    """

    def __init__(self, segment: str, offset: int, seq_expected: int, found: str, advice: str) -> None:
        self.segment = segment
        self.offset = offset
        self.seq_expected = seq_expected
        self.found = found
        wanted = f"expected seq {seq_expected}, " if seq_expected else ""
        super().__init__(f"journal segment {segment}, offset {offset}: {wanted}found {found}; {advice}")


class JournalMismatch(JournalError):
    """A sound file that this program or this home cannot use: another format, schema or journal."""


class JournalFailed(JournalError):
    """Writing or syncing failed. What is on the disk is unknown from here on: the engine ends and recovers.

    Attributes
    ----------
    errno : int
        Of the system call; EIO where it gave none.
    """

    def __init__(self, action: str, segment: str, offset: int, error: OSError) -> None:
        self.errno = error.errno or errno_names.EIO
        name = errno_names.errorcode.get(self.errno, str(self.errno))
        super().__init__(
            f"journal segment {segment}: {action} at offset {offset} failed: {name} ({error.strerror or error}); "
            f"the file is not touched again, restart the engine so that it recovers what is on the disk"
        )


RESTORE_ADVICE = "do not start on it: restore this file from a replica or backup, or recover from a snapshot beyond it"
"""What an operator does about damage below the durable cursor."""
