"""Entry point of the control gateway's process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import uvloop

from gateway.access.cache import AccessCache
from gateway.access.passwords import Passwords
from gateway.access.sealing import Seal, key_file
from gateway.control.core import ControlCore
from gateway.control.desk import Desk
from gateway.control.engine_view import attach_view
from gateway.control.names import FILE_NAME, NameBook
from gateway.control.server import SOCKET_NAME, ControlServer, EpochRings
from gateway.listening.settings import Listening
from gateway.outcomes import OutcomeFollower
from gateway.rates import limiter as rates
from gateway.rates.rules import RateLimits
from gateway.rates.table import FILE_NAME as RATES_NAME
from gateway.watch import OutcomeWatch
from persistence.postgres.users import dsn_of_users
from protocol import board as lines
from protocol.enums import SOURCE_CONTROL
from protocol.instance import Context
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf import (
    BoardFile,
    RingFile,
    RingReaderError,
    advance,
    claim_line,
    private_ring,
    publish,
    published,
    release_line,
    room,
)


def main(context: Context) -> int:
    """Serve the control socket until told to stop; 0 on an orderly end.

    ``options``: ``socket`` where it is not in the home; ``postgres``, the DSN of the database of users, "" for the embedded one,
    missing where there is none; ``owner_acts`` "false" where the home's owner must sign in; ``listening`` and ``rate_limits``, JSON.
    """
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    ingress = RingFile.attach(context.ingress(SOURCE_CONTROL), COMMAND_DTYPE, COMMAND_SCHEMA, board=board)
    ingress.take_writer(context.line)

    def attach(epoch: int) -> EpochRings:
        current = msgspec.structs.replace(context, epoch=epoch)
        outcomes = RingFile.attach(current.outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, epoch, board)
        return EpochRings(outcomes.ring, _add_reader(outcomes, context.line), attach_view(current))

    engine = context.engine
    names = NameBook(Path(context.home) / FILE_NAME)
    core = ControlCore(ingress.ring, board, engine.limits, names, overload=engine.overload)
    wait_durable = engine.durability == "sync"
    path = Path(context.options.get("socket") or Path(context.home) / "run" / SOCKET_NAME)
    home = Path(context.home)
    configured = context.options.get("postgres")
    cache = (
        None
        if configured is None
        else AccessCache(lambda: dsn_of_users(home, configured), Seal(key_file(home)), journal=context.journal_dir)
    )
    owner_acts = context.options.get("owner_acts") != "false"
    listening = msgspec.json.decode(context.options.get("listening", "{}"), type=Listening)
    rate_limits = msgspec.json.decode(context.options.get("rate_limits", "{}"), type=RateLimits)
    limiter = rates.Limiter.attach(context.shared / RATES_NAME, rate_limits)
    desk = Desk(cache, core.catalog, Passwords(), limiter, home, owner_acts=owner_acts)

    def server() -> ControlServer:
        return ControlServer(
            *(core, board, context.line, attach, path, desk), listening=listening, home=home, wait_durable=wait_durable
        )

    try:
        uvloop.run(_serve(server, cache))
    finally:
        release_line(board, context.line)
    return 0


def warm() -> None:
    """Compile or load every kernel that the process uses."""
    outcomes = private_ring(OUTCOME_DTYPE, 8, 1, gating=False)
    commands = private_ring(COMMAND_DTYPE, 8)
    board = np.zeros(lines.LINES * lines.LINE_WORDS, dtype=np.int64)
    follower = OutcomeFollower(outcomes, board, SOURCE_CONTROL, 0)
    follower.poll()
    advance(outcomes, 0, 0)
    room(commands, 1)
    publish(commands, int(published(commands)))
    rates.warm()
    asyncio.run(_warm_watch(board))


async def _warm_watch(board: np.ndarray) -> None:
    OutcomeWatch(board, lines.LINE_CONTROL).start().stop()


async def _serve(server: Callable[[], ControlServer], cache: AccessCache | None) -> None:
    """Make the server inside the loop and let SIGTERM end it; Ctrl-C is the supervisor's, which stops all in order."""
    following = None if cache is None else asyncio.ensure_future(cache.run())
    loop = asyncio.get_running_loop()
    running = server()
    loop.add_signal_handler(signal.SIGTERM, running.stop)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    try:
        await running.serve()
    finally:
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


def _add_reader(outcomes: RingFile, line: int) -> int:
    try:
        return outcomes.add_reader(gating=False, bell_line=line)
    except RingReaderError:
        for reader in outcomes.dead_readers():
            outcomes.drop_reader(reader)
        return outcomes.add_reader(gating=False, bell_line=line)
