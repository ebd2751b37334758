"""Which processes an exchange consists of, in the order in which they start."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from cambist.config import Config
from cambist.home import Home
from protocol import board
from protocol.readers import LINE_RECOVERY

ENGINE: Final = "engine"
"""Lives and dies as one: the death of any ends the epoch."""
FOLLOWER: Final = "follower"
"""Follows the journal; restarts alone, stops with the engine."""
GATEWAY: Final = "gateway"
"""Serves clients; restarts alone, stops before the engine."""


class Process(NamedTuple):
    """One process to run: ``main(context)`` of ``module``."""

    name: str
    module: str
    group: str
    line: int
    """Its line of the board."""
    shard: int = 0
    options: dict[str, str] = {}  # noqa: RUF012 - never changed
    socket: str = ""
    """Unix socket on which it must accept connections before it counts as ready."""
    optional: bool = False
    """The exchange starts without it where it does not get ready in its first life."""


class Table(NamedTuple):
    """All processes of one exchange."""

    recovery: Process
    engine: tuple[Process, ...]
    others: tuple[Process, ...]

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that the fork server loads, each once."""
        return tuple(dict.fromkeys(process.module for process in (self.recovery, *self.engine, *self.others)))


def table(home: Home, config: Config) -> Table:
    """Processes of the exchange of ``home`` as configured."""
    recovery = Process("recovery", "persistence.recovery", ENGINE, LINE_RECOVERY)
    engine = [Process("journal", "persistence.journal.process", ENGINE, board.LINE_JOURNAL)]
    if config.engine.topology == "fused":
        engine.append(Process("fused", "persistence.fused_process", ENGINE, board.LINE_RISK))
    else:
        engine += [
            Process(f"matcher-{k}", "matcher.process", ENGINE, board.LINE_FIRST_MATCHER + k, shard=k)
            for k in range(config.engine.shards)
        ]
        engine.append(Process("risk", "risk.process", ENGINE, board.LINE_RISK))
    engine.append(Process("sequencer", "sequencer.process", ENGINE, board.LINE_SEQUENCER))

    others = []
    if config.replica.enabled:
        snapshots = config.snapshots
        options = {
            "interval_s": str(snapshots.interval_s),
            "keep": str(snapshots.keep),
            "bytes_per_s": str(snapshots.bytes_per_s),
            "map_bytes": str(snapshots.map_bytes),
            "on_divergence": config.replica.on_divergence,
            "archive_after": str(config.archive.after_segments),
            "archive_folder": config.archive.folder,
        }
        others.append(Process("replica", "persistence.replica", FOLLOWER, board.LINE_REPLICA, 0, options))
    if config.postgres.enabled:
        if not config.postgres.dsn:
            module = "persistence.postgres.server"
            others.append(Process("postgres-server", module, FOLLOWER, board.LINE_POSTGRES_SERVER, optional=True))
        module, options = "persistence.postgres.process", {"dsn": config.postgres.dsn}
        others.append(Process("postgres", module, FOLLOWER, board.LINE_POSTGRES, options=options, optional=True))
    if config.control.enabled:
        socket = str(home.socket(config))
        options = {"socket": socket, "profile": config.profile, "owner_acts": str(config.control.owner_acts).lower()}
        if config.control.listen:
            options["listening"] = msgspec.json.encode(config.control.listening).decode()
        options["rate_limits"] = msgspec.json.encode(config.rate_limits).decode()
        if config.postgres.enabled:
            options["postgres"] = config.postgres.dsn
        others.append(Process("control", "gateway.control.process", GATEWAY, board.LINE_CONTROL, 0, options, socket))
    if config.up.demo:
        options = {
            "seed": str(config.demo.seed),
            "orders_per_s": str(config.demo.orders_per_s),
            "socket": str(home.socket(config)),
        }
        if config.postgres.enabled:
            options["postgres"] = config.postgres.dsn
        others.append(Process("bots", "cambist.demo.bots", GATEWAY, board.LINE_BOTS, 0, options))
    return Table(recovery, tuple(engine), tuple(others))
