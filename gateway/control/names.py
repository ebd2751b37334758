"""Names of accounts, kept beside the journal in ``<home>/names.json``. The engine knows numbers only."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

import msgspec

FILE_NAME: Final = "names.json"
NAME_RULE: Final = "a name has 1 to 32 letters, digits, dots, dashes or underscores and begins with a letter"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")


class NamesError(RuntimeError):
    """The file of names cannot be read; the message says where and what to do."""


def is_name(text: str) -> bool:
    """Whether ``text`` may name an account. No name reads as a number."""
    return _NAME.fullmatch(text) is not None


class NameBook:
    """Account names, one to one; with a path every change is written at once, whole or not at all."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._numbers: dict[str, int] = {}
        if path is not None and path.exists():
            try:
                self._numbers = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
            except (msgspec.DecodeError, OSError) as error:
                message = f"cannot read the account names in {path}: {error}; mend or remove the file"
                raise NamesError(message) from error

    def number(self, name: str) -> int | None:
        """Account of a name."""
        return self._numbers.get(name)

    def name(self, account: int) -> str | None:
        """Name of an account."""
        return next((name for name, number in self._numbers.items() if number == account), None)

    def names(self) -> dict[int, str]:
        """All names by account."""
        return {number: name for name, number in self._numbers.items()}

    def assign(self, name: str, account: int) -> None:
        """Name an account; an earlier name of it goes. The name is free or this account's."""
        assert is_name(name)
        assert self._numbers.get(name, account) == account, f"{name} is the name of another account"
        numbers = {other: number for other, number in self._numbers.items() if number != account}
        numbers[name] = account
        if self._path is not None:
            write_whole(self._path, msgspec.json.format(msgspec.json.encode(numbers)) + b"\n")
        self._numbers = numbers


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file whole or not at all, readable by the owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
