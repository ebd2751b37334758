"""The database of an exchange is an operator's own server: another cluster, reached over a port, that is stopped and started by others."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from persistence.postgres import cluster
from persistence.postgres.cluster import Cluster
from persistence.timetravel import Past
from tests.live.support import cambist_here, settings_file, up
from tests.live.test_postgres import TABLES, fetch, status, until

pytestmark = pytest.mark.timeout(600)


class Office:
    """A server of somebody else's: its own folder, its own port, a role that owns one database and nothing more."""

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster(folder)
        self._cluster.create()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["-D", str(self._cluster.data), "-p", str(self._port), "--listen_addresses=127.0.0.1"]
        options = ["--unix_socket_directories=", "--dynamic_shared_memory_type=mmap"]
        self._process = subprocess.Popen(
            [str(cluster.program("postgres")), *command, *options],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=cluster._become_server,  # noqa: PLW1509
        )
        pid = self._process.pid
        until(lambda: self._cluster.is_ready(pid))

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def dsn(self, role: str, password: str, database: str) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{self._port}/{database}"

    def give_a_database(self) -> str:
        """DSN of a new role in its own database."""

        async def made() -> None:
            owner = await asyncpg.connect(self.dsn(cluster.ROLE, self._cluster.password(), "postgres"))
            try:
                await owner.execute("CREATE ROLE desk LOGIN PASSWORD 'hush'")
                await owner.execute("CREATE DATABASE back_office OWNER desk")
            finally:
                await owner.close()

        asyncio.run(made())
        return self.dsn("desk", "hush", "back_office")


@pytest.fixture
def office() -> Iterator[Office]:
    folder = Path(tempfile.mkdtemp(prefix="cboffice-"))
    folder.chmod(0o700)
    made = Office(folder)
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


def test_an_operators_own_server_is_followed_through_its_outage_and_reconciles(office: Office, tmp_path: Path) -> None:
    home, dsn = tmp_path / "home", office.give_a_database()
    demo: dict[str, dict[str, Any]] = {"up": {"demo": True}, "demo": {"orders_per_s": 200}, "tables": TABLES}
    settings_file(home, demo | {"postgres": {"enabled": True, "dsn": dsn}})
    with up(home) as running:
        until(lambda: status(running)["postgres"]["writer"] == "up")
        until(lambda: fetch(dsn, "SELECT count(*) AS n FROM trades")[0]["n"] > 5)
        assert "the operator's" == status(running)["postgres"]["server"]
        office.stop()
        until(lambda: status(running)["alarms"].get("postgres_behind", 0) > 100)
        away = status(running)
        office.start()
        until(lambda: status(running)["postgres"]["seq"] >= away["seqs"]["durable"])
        assert "postgres_behind" not in status(running)["alarms"]
        reconciled = cambist_here("reconcile", "--json", "--home", home)
        assert (0, []) == (reconciled.status, reconciled.json["differences"]), reconciled.err
        order_id = fetch(dsn, "SELECT order_id FROM orders WHERE state = 2 ORDER BY seq DESC LIMIT 1")[0]["order_id"]
        found = cambist_here("inspect", "order", str(order_id), "--json", "--home", home)
        assert (0, "filled") == (found.status, found.json["state"]), found.err
    with contextlib.suppress(FileNotFoundError):
        assert not list((home / "postgres").iterdir()), "no server of the home's own"
    past = Past(home)
    alone = past.order(order_id, past.place(None))
    assert found.json | {"at": None} == alone | {"at": None}
    last = fetch(dsn, "SELECT last_seq FROM writer")[0]["last_seq"]
    assert alone["at"]["seq"] == last, "the last rows were written at the end"
