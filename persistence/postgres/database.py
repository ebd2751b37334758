"""Connecting to the database of a home, and saying where it is without its password."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import asyncpg

from persistence.postgres.cluster import Cluster

CONNECT_TIMEOUT_S: Final = 5.0
_PASSWORD: Final = re.compile(r"(://[^:/?#@]*):[^@/?#]*@")
_PASSWORD_OPTION: Final = re.compile(r"(password=)[^&\s]*", re.IGNORECASE)

UNREACHABLE: Final = (
    *(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError),
    # A connection that broke in the middle of a COPY is in no state that its library knows.
    asyncpg.InternalClientError,
)
"""What a server that is away, restarting, full or slow makes of a call; ``asyncpg`` has its own names for some."""


def dsn_of(home: Path, configured: str) -> str:
    """The operator's DSN, or that of the embedded server of ``home``."""
    return configured or Cluster(home).dsn


def redacted(dsn: str) -> str:
    """A DSN that may be shown."""
    return _PASSWORD_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***@", dsn))


async def connect(dsn: str, application: str, **settings: str) -> Any:
    """An asyncpg connection; ``settings`` of its session. Raises one of UNREACHABLE, ValueError for a DSN that is none."""
    return await asyncpg.connect(
        dsn, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": f"cambist {application}", **settings}
    )
