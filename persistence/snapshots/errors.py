"""What can be wrong with a snapshot."""

from __future__ import annotations


class SnapshotError(Exception):
    """A snapshot cannot be used or written; the text says which, why, and what to do."""
