"""One embedded server a test run, with a database of its own for each test."""

import asyncio
import contextlib
import itertools
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from persistence.postgres.cluster import Cluster
from persistence.postgres.schema import migrate

_READY_S = 120.0


class Postgres:
    """A running embedded server."""

    def __init__(self, home: Path) -> None:
        self.cluster = Cluster(home)
        (home / "run").mkdir()
        self.cluster.create()
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._process = self.cluster.start()
        end_s = time.monotonic() + _READY_S
        while not self.cluster.is_ready(self._process.pid):
            assert self._process.poll() is None, "the server ended"
            assert time.monotonic() < end_s, "the server is not ready"
            time.sleep(0.01)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it by a signal."""
        assert self._process is not None
        mapped = Path(f"/proc/{self._process.pid}/maps").read_text(encoding="utf-8").split()
        assert [] == [name for name in mapped if name.startswith("/dev/shm/")], "a killed server would leave these"
        self._process.send_signal(number)
        self._process.wait(_READY_S)
        self._process = None

    def dsn(self, database: str) -> str:
        """How to reach a database as the owner of everything."""
        return self.cluster.dsn.replace("/cambist?", f"/{database}?")

    def empty(self) -> str:
        """DSN of a new database without a schema."""
        name = f"empty{next(self._numbers)}"
        self.run("postgres", f"CREATE DATABASE {name}")
        return self.dsn(name)

    def fresh(self) -> str:
        """DSN of a new database with the schema."""
        with contextlib.suppress(asyncpg.DuplicateDatabaseError):
            self.run("postgres", "CREATE DATABASE model")
            asyncio.run(_migrated(self.dsn("model")))
        name = f"fresh{next(self._numbers)}"
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE model")
        return self.dsn(name)

    def run(self, database: str, statement: str) -> None:
        """Execute a statement."""

        async def execute() -> None:
            connection = await asyncpg.connect(self.dsn(database))
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(execute())


async def _migrated(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await migrate(dsn, connection)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="cbpg-"))
    folder.chmod(0o700)
    server = Postgres(folder)
    yield server
    # Nothing is kept: a checkpoint of all databases would take seconds.
    server.stop(signal.SIGQUIT)
    shutil.rmtree(folder)
