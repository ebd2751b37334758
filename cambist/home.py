"""The home of an instance: where its files are, and that one supervisor at a time writes there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from cambist import procfs
from cambist.config import Config
from protocol.instance import SHARED_MEMORY, instance_name

DEFAULT_HOME: Final = Path("var")
UNFINISHED_RESTORE: Final = "restore.part"
"""Folder in a home that a restore is filling; see ``persistence.restore``."""
RESTORED_USERS: Final = "access.jsonl"
"""Users that a restore left for the database; see ``persistence.postgres.users``."""
_SOCKET_PATH_MAX_BYTES: Final = 107  # sun_path of a Unix socket, less its final zero


class HomeError(Exception):
    """The home cannot be used; the message says why and what to do."""


class HomeBusyError(HomeError):
    """Another process holds the home.

    Attributes
    ----------
    pid : int
        That process; 0 if it did not leave its number.
    """

    def __init__(self, home: Path, holder: Holder | None) -> None:
        self.pid = holder.pid if holder else 0
        if holder is None:
            who, cure = "another process holds this home", "try again"
        else:
            since = datetime.fromtimestamp(holder.started_ts_ns // 1_000_000_000, UTC)
            who = f"process {holder.pid} (`{holder.command}`, since {since:%Y-%m-%d %H:%M:%S} UTC) holds this home"
            cure = "wait until it has ended"
            if holder.command == "cambist up":
                cure = f"it runs the exchange; `cambist down --home {home}` stops it"
        super().__init__(f"{home}: {who}; {cure}")


class Holder(msgspec.Struct, frozen=True):
    """Who holds a home: content of ``run/cambist.pid``."""

    pid: int
    start_ticks: int
    started_ts_ns: int
    instance: str
    command: str

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        return procfs.is_alive(self.pid, self.start_ticks)


class Home:
    """Paths below one home. Nothing is created until ``make``."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.instance = instance_name(self.path)
        self.shared = SHARED_MEMORY / f"cambist-{self.instance}"
        self.run = self.path / "run"
        self.log = self.path / "log"
        self.journal = self.path / "journal"
        self.pid_file = self.run / "cambist.pid"
        self.lock_file = self.run / "lock"
        self.epoch_file = self.run / "epoch"
        self.table_file = self.run / "processes.json"
        self.demo_file = self.path / "demo.json"

    def socket(self, config: Config) -> Path:
        """Path of the control socket; HomeError if the system cannot bind a path so long."""
        path = Path(config.control.socket or self.run / "control.sock").absolute()
        if len(os.fsencode(path)) > _SOCKET_PATH_MAX_BYTES:
            raise HomeError(
                f"control.socket = {path}: a Unix socket path has at most {_SOCKET_PATH_MAX_BYTES} bytes, this one "
                f"{len(os.fsencode(path))}; name a shorter one in [control] or use a shorter home"
            )
        return path

    def make(self) -> None:
        """Create the folders, with owner-only rights for the home."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.run, self.log, self.journal):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"{self.path}: cannot make the home: {error.strerror}; name a writable folder with --home"
            ) from error

    def holder(self) -> Holder | None:
        """Who runs the exchange of this home now, as far as the file says; None when nobody does."""
        try:
            holder = msgspec.json.decode(self.pid_file.read_bytes(), type=Holder)
        except (OSError, msgspec.MsgspecError):
            return None
        return holder if holder.is_alive() else None

    def last_epoch(self) -> int:
        """Highest epoch that a supervisor of this home began; 0 = none known."""
        try:
            return int(self.epoch_file.read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0
        except ValueError as error:
            raise HomeError(
                f"{self.epoch_file}: not a number ({error}); remove the file, the journal knows its last epoch too"
            ) from error

    def store_epoch(self, epoch: int) -> None:
        """Record that ``epoch`` is used, durably, before anything of it exists."""
        write_atomically(self.epoch_file, f"{epoch}\n".encode(), durable=True)


class HomeLock:
    """Holds a home for this process: a lock that the system drops when the process ends, however it ends."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the lock or raise HomeBusyError, which names the process that holds it."""
        home = self._home
        home.make()
        descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise HomeBusyError(home.path, home.holder()) from None
        part = home.path / UNFINISHED_RESTORE
        if part.exists():
            os.close(descriptor)
            raise HomeError(
                f"{part}: a restore into this home did not finish; remove the home and restore again, or restore elsewhere"
            )
        self._descriptor = descriptor
        pid = os.getpid()
        write_json(home.pid_file, Holder(pid, procfs.start_ticks(pid), time.time_ns(), home.instance, _command()))
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self._home.pid_file.unlink()
            os.close(self._descriptor)
            self._descriptor = -1


def _command() -> str:
    """What this process was called as: ``cambist`` and the subcommand."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:2]]
    return " ".join(["cambist", *words[1:]] if words[0] == "__main__.py" else words)


def is_held(home: Home) -> bool:
    """Whether a process holds the lock of ``home``."""
    try:
        descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_shared(home: Home) -> None:
    """Remove what a killed supervisor of ``home`` left: shared memory, and the files that speak of running processes.

    Call it while holding the lock, or while nobody does and the caller does not mind a start in between.
    """
    shutil.rmtree(home.shared, ignore_errors=True)
    home.table_file.unlink(missing_ok=True)


def stop(home: Home, timeout_s: float, *, kill: bool) -> bool:
    """End the exchange of ``home``, orderly or, with ``kill``, at once; and clean up after one that crashed.

    Returns
    -------
    bool
        False if it still runs after ``timeout_s``.
    """
    holder = home.holder()
    if holder is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGKILL if kill else signal.SIGTERM)
    end_s = time.monotonic() + timeout_s
    while is_held(home) or (holder is not None and holder.is_alive()):
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    if home.run.is_dir():
        with contextlib.suppress(HomeBusyError), HomeLock(home):
            remove_shared(home)
    return True


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as JSON, whole or not at all, readable by the owner only."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def write_atomically(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace ``path`` by ``content``, whole or not at all, mode 0600; with ``durable`` it survives a power loss."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
