"""Errors of shared-memory files: each says which file, what was expected, what was found and what to do."""

from pathlib import Path

__all__ = [
    "RingCapacityError",
    "RingEpochError",
    "RingError",
    "RingExistsError",
    "RingFormatError",
    "RingInUseError",
    "RingMissingError",
    "RingReaderError",
    "RingSchemaError",
    "RingSlotSizeError",
    "RingSpaceError",
    "RingTruncatedError",
    "RingVersionError",
    "RingWriterError",
]


class RingError(Exception):
    """A ring, board or arena cannot be made, attached or used as asked.

    Attributes
    ----------
    path : Path
        The file.
    expected, found : object
        What was asked for and what the file or machine has.
    advice : str
        What to do about it.
    """

    def __init__(self, path: Path | str, problem: str, expected: object, found: object, advice: str) -> None:
        self.path = Path(path)
        self.expected = expected
        self.found = found
        self.advice = advice
        super().__init__(f"{path}: {problem}: expected {expected}, found {found}; {advice}")


class RingMissingError(RingError):
    """The file to attach does not exist."""


class RingExistsError(RingError):
    """A file of that name exists already."""


class RingFormatError(RingError):
    """The file is of another kind: its magic number differs."""


class RingVersionError(RingError):
    """The file was written by another version of this package."""


class RingSlotSizeError(RingError):
    """The slots of the file have another size than the record asked for."""


class RingCapacityError(RingError):
    """The capacity is no power of two, or differs from the file's."""


class RingSchemaError(RingError):
    """The file was made for other record definitions."""


class RingEpochError(RingError):
    """The file belongs to another start of its owner."""


class RingTruncatedError(RingError):
    """The file is shorter than its header says."""


class RingSpaceError(RingError):
    """The file system has no room for the file."""


class RingReaderError(RingError):
    """A reader cannot be added, or its position is not in the ring."""


class RingInUseError(RingError):
    """A map cannot be closed because arrays still look at it."""


class RingWriterError(RingError):
    """Another process that runs is the writer."""
