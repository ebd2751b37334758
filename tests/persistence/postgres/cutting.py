"""A server behind a wire that breaks: after so many bytes in either direction, wherever that is."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Self
from urllib.parse import quote

_CHUNK = 1 << 12


class Wire:
    """Listens in ``folder`` and passes everything on to the server's socket, until a connection's bytes are used up.

    Parameters
    ----------
    folder : Path
        Short, for it holds a socket.
    dsn : str
        Of a database on an embedded server.
    target : Path
        Folder of the server's socket.
    """

    def __init__(self, folder: Path, dsn: str, target: Path) -> None:
        self._folder = folder
        self._target = target
        self.dsn = dsn.replace(f"host={quote(str(target))}", f"host={quote(str(folder))}")
        assert self.dsn != dsn
        self._limits: list[tuple[int, int]] = []
        self.cuts = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def limit(self, up_bytes: int, down_bytes: int) -> None:
        """Break the next connection after so many bytes to the server, or from it."""
        self._limits.append((up_bytes, down_bytes))

    def limit_by_chance(self, rng: random.Random) -> None:
        """Break the next connection at a random point."""
        size = int(2 ** rng.uniform(11.5, 15.5))
        self.limit(size, 1 << 40) if rng.random() < 0.75 else self.limit(1 << 40, int(2 ** rng.uniform(10, 14)))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, str(self._folder / ".s.PGSQL.5432"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        (self._folder / ".s.PGSQL.5432").unlink(missing_ok=True)

    def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(client, to_client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        up, down = self._limits.pop(0) if self._limits else (1 << 40, 1 << 40)
        try:
            server, to_server = await asyncio.open_unix_connection(str(self._target / ".s.PGSQL.5432"))
        except OSError:
            to_client.close()
            return
        try:
            passing = [
                asyncio.ensure_future(self._pass(client, to_server, up)),
                asyncio.ensure_future(self._pass(server, to_client, down)),
            ]
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            for one in passing:
                one.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
        finally:
            for writer in (to_client, to_server):
                writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit_bytes: int) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                writer.write(data[:limit_bytes])
                await writer.drain()
                limit_bytes -= len(data)
                if limit_bytes <= 0:
                    self.cuts += 1
                    return
