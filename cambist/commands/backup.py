"""``cambist backup`` and ``cambist restore``."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cambist.commands import Call, FailedError, UsageError, option
from cambist.home import UNFINISHED_RESTORE, HomeBusyError, HomeError, HomeLock, is_held, remove_shared

_MIB: Final = 1 << 20
_NICE: Final = 10
_OF_EMPTY_HOME: Final = frozenset(["run", "log", "journal"])
"""Folders that a lock makes."""


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of ``backup`` or ``restore``."""
    if name == "backup":
        parser.add_argument("target", type=Path, metavar="DIR|FILE.tar.zst", help="a new folder or file")
        parser.add_argument(
            "--without-access",
            action="store_true",
            help="leave users, keys and operators out, where their database is away",
        )
    else:
        parser.add_argument("backup", type=Path, metavar="BACKUP", help="what `cambist backup` wrote")
        parser.add_argument(
            "--until", metavar="SEQ|TIME", help="end the restored history right after this command or time"
        )
        parser.add_argument(
            "--without-access-key",
            action="store_true",
            help="access.key of the home that was backed up is lost: give up the secrets of keys and authenticators",
        )
        parser.add_argument("--check", action="store_true", help="check the backup whole, and write no home")
    option(parser, "backup.json", "--json", action="store_true", help="one JSON object on stdout")


def run(name: str, call: Call) -> int:
    """Do it; 1 where it cannot be done, with the reason."""
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    os.nice(_NICE)
    with _failures():
        return _backup(call) if name == "backup" else _restore(call)


@contextmanager
def _failures() -> Iterator[None]:
    from persistence.backup import BackupError
    from persistence.fused import EngineFault
    from persistence.journal.errors import JournalError
    from persistence.timetravel import NotInHistory

    try:
        yield
    except (BackupError, JournalError, EngineFault, NotInHistory, FileNotFoundError) as error:
        raise FailedError(str(error)) from None
    except OSError as error:
        raise FailedError(f"{error.filename or ''}: {error.strerror or error}") from None


def _backup(call: Call) -> int:
    from persistence.backup import make_backup, summary

    target: Path = call.arguments.target
    began_s = time.monotonic()
    # First, so that every account that somebody owns is in the journal's part.
    users, access = (None, "left out") if call.arguments.without_access else _users(call)
    manifest = make_backup(call.home.path, target, time.time_ns(), call.arguments.config, users, access)
    result = {"backup": str(target), **summary(manifest), "seconds": round(time.monotonic() - began_s, 3)}
    if call.config.backup.json:
        print(json.dumps(result))
    else:
        print(f"{target}: {call.home.path} up to seq {manifest.seq}, {_size(result)} in {result['seconds']} s")
        print(f"state hash {manifest.state_hash}")
        print(f"users: {access}" + ("; access.key is not in it: keep a copy elsewhere" if users else ""))
    return 0


def _users(call: Call) -> tuple[bytes | None, str]:
    """The users of a home, and what to say of them; BackupError where they cannot be had."""
    from persistence.backup import BackupError
    from persistence.postgres import users
    from persistence.postgres.cluster import ClusterError
    from persistence.postgres.database import UNREACHABLE

    home, configured = call.home, call.config.postgres.dsn
    if not call.config.postgres.enabled or (not configured and not users.is_made(home.path)):
        # Users that were restored and not brought in yet are a backup's all the same.
        data = (home.path / users.FILE).read_bytes() if (home.path / users.FILE).exists() else None
        return data, users.said(data)
    try:
        if configured or is_held(home):
            data = users.read(home.path, configured)
        else:
            with HomeLock(home), users.serving(home.path):
                data = users.read(home.path, configured)
    except (*UNREACHABLE, ValueError, ClusterError) as error:
        raise BackupError(
            f"the users (schema access) are missing, and are nowhere but in their database: {str(error) or type(error).__name__}. "
            f"`cambist status` says how it stands; --without-access makes a backup without them"
        ) from None
    return data, users.said(data)


def _restore(call: Call) -> int:
    from persistence.backup import summary
    from persistence.moments import parse_moment
    from persistence.restore import Restored, check_backup, restore_home

    backup: Path = call.arguments.backup
    try:
        until = parse_moment(call.arguments.until) if call.arguments.until else None
    except ValueError as error:
        raise UsageError(f"--until {error}") from None
    began_s = time.monotonic()
    if call.arguments.check:
        if until is not None:
            raise UsageError("--check looks at the whole backup; leave --until away")
        restored: Restored = check_backup(backup)
    else:
        if not call.home_given:
            raise UsageError("say with --home which new home to make of the backup")
        with _new_home(call):
            restored = restore_home(
                backup, call.home.path, until, time.time_ns(), without_access_key=call.arguments.without_access_key
            )
    result: dict[str, Any] = {
        "backup": str(backup),
        "home": None if call.arguments.check else str(call.home.path),
        **summary(restored.manifest),
        "seq": restored.place.seq,
        "ts_ns": restored.place.ts_ns,
        "backup_seq": restored.manifest.seq,
        "hashes": restored.hashes,
        "history": restored.history or None,
        "state_hash": restored.hashes["state"],
        "seconds": round(time.monotonic() - began_s, 3),
    }
    if call.config.backup.json:
        print(json.dumps(result))
        return 0
    what = f"{backup} is sound" if call.arguments.check else f"{call.home.path} is restored from {backup}"
    print(f"{what}: up to seq {restored.place.seq}, {_size(result)}, checked in {result['seconds']} s")
    print(f"state hash {result['state_hash']}")
    print(f"users: {restored.manifest.access}")
    if not call.arguments.check:
        _say_key(call.home.path)
    return 0


def _say_key(home: Path) -> None:
    """What is to be done before the start."""
    from persistence.postgres.users import UsersError, check_waiting

    try:
        check_waiting(home)
    except UsersError as error:
        print(f"before it is started: {error}")


def _size(result: dict[str, Any]) -> str:
    return f"{result['files']} files, {result['bytes'] / _MIB:.1f} MiB"


@contextmanager
def _new_home(call: Call) -> Iterator[None]:
    """Hold a home that is empty; HomeError where it is not, or another process holds it."""
    home = call.home
    if is_held(home):
        raise HomeBusyError(home.path, home.holder())
    if (home.path / UNFINISHED_RESTORE).exists():
        raise HomeError(f"{home.path / UNFINISHED_RESTORE}: an earlier restore did not finish; name a new folder")
    there = {path.name for path in home.path.iterdir()} if home.path.is_dir() else set()
    if there - _OF_EMPTY_HOME or (home.journal.is_dir() and any(home.journal.iterdir())):
        raise HomeError(f"{home.path}: is not empty; a backup is restored into a new folder")
    with HomeLock(home):
        remove_shared(home)
        yield
