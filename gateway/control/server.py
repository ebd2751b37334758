"""The control gateway's socket: a thin asyncio layer around ``core`` and ``session``.

While nothing waits for an answer the outcome ring is not read at all, and the process sleeps but for a look at the
board a few times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, cast

import numpy as np

from gateway.access.codes import Denied
from gateway.control.core import Answer, ControlCore
from gateway.control.desk import Desk, Later, Seat
from gateway.control.messages import Refused, Reply, Request, refusal
from gateway.control.session import ControlSession
from gateway.control.view import EngineView
from gateway.listening.listener import Arrival, Listener
from gateway.listening.settings import Listening
from gateway.outcomes import OutcomeFollower
from gateway.watch import NEVER, OutcomeWatch
from protocol import board as lines
from protocol import reasons
from ringbuf import Ring, RingError, advance, heartbeat, load_acquire

SOCKET_NAME: Final = "control.sock"
CONNECTIONS_MAX: Final = 64
"""On the Unix socket, and as many on TCP."""
STRANGER_REQUESTS_MAX: Final = 64
"""What may be asked on TCP before somebody has signed in."""
_IDLE_S: Final = 0.1
_HELD_S: Final = 0.001
_RECOVERING_S: Final = 0.005
_LAST_ANSWERS_S: Final = 1.0
_OUTGOING_MAX_BYTES: Final = 16 << 20
_SOCKET_PATH_MAX_BYTES: Final = 107
STOP_GATEWAYS: Final = 2


class EpochRings(NamedTuple):
    """What the gateway reads in one epoch: the outcome ring with its reader index, and the engine's tables."""

    outcomes: Ring
    reader: int
    view: EngineView


class ServerError(RuntimeError):
    """The socket cannot be offered; the message says where and what to do."""


class ControlServer:
    """Serves the socket until the board says stop.

    Parameters
    ----------
    core : ControlCore
    board : np.ndarray
        int64 board.
    line : int
        This process's bell line.
    attach : callable
        Gives the rings and tables of an epoch that runs.
    path : Path
        The socket; its folder is made for the owner only.
    desk : Desk
        Who may do what.
    listening : Listening, optional
        Where operators reach it on TCP, besides.
    home : Path, optional
        Of which the paths of certificates are.
    wait_durable : bool
        False with durability "async".
    """

    def __init__(
        self,
        core: ControlCore,
        board: np.ndarray,
        line: int,
        attach: Callable[[int], EpochRings],
        path: Path,
        desk: Desk,
        *,
        listening: Listening | None = None,
        home: Path = Path(),
        wait_durable: bool = True,
    ) -> None:
        self._core = core
        self._desk = desk
        desk.executes_by(self._execute, core.groups_are_final)
        self._board = board
        self._line = line
        self._attach = attach
        self._path = path
        self._wait_durable = wait_durable
        self._door: Listener | None = None
        if listening is not None and listening.listen:
            self._door = Listener(
                *("control", listening, home, lambda arrival: _Peer(self, arrival), CONNECTIONS_MAX), admits=desk.admits
            )
        self._peers: dict[int, _Peer] = {}
        self._next_peer = 1
        self._approved: dict[int, asyncio.Future[Reply]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._follower: OutcomeFollower | None = None
        self._watch = OutcomeWatch(board, line)
        self._reader = 0
        self._asked = asyncio.Event()
        self._asking = False
        self._stopping = False

    async def serve(self) -> None:
        """Offer the socket until ``stop`` or the board's STOP, wait for what was sent, and remove the socket."""
        loop = asyncio.get_running_loop()
        # First, so that whoever can reach the socket can reach the other.
        if self._door is not None:
            await self._door.start()
        listener = listen(self._path)
        self._watch.start()
        server = await loop.create_unix_server(lambda: _Peer(self), sock=listener)
        keeping = asyncio.ensure_future(self._desk.keep_groups())
        try:
            while not self._stopping and load_acquire(self._board, lines.STOP) < STOP_GATEWAYS:
                await self._turn()
            self._stopping = True
            server.close()
            self._path.unlink(missing_ok=True)
            if self._door is not None:
                await self._door.stop()
            end_s = loop.time() + _LAST_ANSWERS_S
            while self._core.commands_waiting and loop.time() < end_s:
                await self._turn()
        finally:
            keeping.cancel()
            server.close()
            self._leave()
            if self._door is not None:
                await self._door.emptied()
            self._path.unlink(missing_ok=True)

    def stop(self) -> None:
        """End ``serve``; for signal handlers of the loop."""
        self._stopping = True
        self._asked.set()

    # --- called by peers ----------------------------------------------------------------------------------------------

    def joined(self, peer: _Peer) -> int | None:
        """Number of a new peer; None if it may not stay."""
        # Connections on TCP are counted where they arrive.
        local = [other for other in self._peers.values() if other.arrival is None]
        if peer.arrival is None and len(local) >= CONNECTIONS_MAX:
            gone = next((other for other in local if other.session.close_expected()), None)
            if gone is None:
                return None
            gone.abort()
        number = self._next_peer
        self._next_peer += 1
        self._peers[number] = peer
        return number

    def left(self, number: int) -> None:
        """Note that a peer is gone."""
        self._peers.pop(number, None)
        self._core.forget(number)

    def received(self, number: int, peer: _Peer, data: bytes | None) -> None:
        """Take bytes of a peer, or None for the end of its side."""
        session = peer.session
        requests = session.receive_eof() if data is None else session.receive_data(data)
        if requests:
            self._prepare()
        for request in requests:
            if peer.asks_too_much():
                peer.abort()
                return
            reply = self._submitted(number, peer, request)
            if reply is None:
                peer.waiting += 1
            else:
                session.send(reply)
        if self._core.queries_waiting and not self._asking:
            self._answer_queries()
        peer.flush()
        if self._core.commands_waiting:
            self._asked.set()

    def _prepare(self) -> None:
        self._enter_epoch()
        if self._follower is not None and self._core.commands_waiting == 0:
            # Outcomes of what is sent from here on come after what is published now.
            self._follower.to_present()

    def _submitted(self, number: int, peer: _Peer, request: Request) -> Reply | None:
        """Reply of a request that has one at once; None where it comes later."""
        if self._stopping:
            return refusal(request.id, Refused(reasons.ENGINE_DOWN, "the exchange is stopping"))
        try:
            later = self._desk.judge(peer.seat, request)
        except Refused as refused:
            return refusal(request.id, refused)
        except Denied as denied:
            return refusal(request.id, Refused(denied.code, denied.detail))
        if later is None:
            reply = self._core.submit(number, request, time.monotonic_ns(), time.time_ns())
            if reply is not None and reply.ok and request.op == "status":
                assert reply.result is not None
                reply.result.update(self._desk.status())
                reply.result["listeners"] = [] if self._door is None else [self._door.status()]
            return reply
        task = asyncio.ensure_future(self._answer_later(number, later))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    async def _answer_later(self, number: int, later: Later) -> None:
        self._deliver([Answer(number, await later)])

    async def _execute(self, request: Request) -> Reply:
        """Send what two operators agreed on; nobody's connection, so that nobody's end loses its answer."""
        number = self._next_peer
        self._next_peer += 1
        self._prepare()
        reply = self._core.submit(number, request, time.monotonic_ns(), time.time_ns())
        if reply is None:
            waiting = self._approved[number] = asyncio.get_running_loop().create_future()
            self._asked.set()
            reply = await waiting
        return reply

    def _answer_queries(self) -> None:
        # Rows that were read are durable as a rule; else the journal is a group commit away.
        if self._follower is not None:
            self._deliver(self._core.take_durable(self._follower.durable_seq()))
        self._asking = self._core.queries_waiting > 0 and not self._stopping
        if self._asking:
            asyncio.get_running_loop().call_later(_HELD_S, self._answer_queries)

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        heartbeat(self._board, self._line)
        self._follow()
        self._asked.clear()
        follower = self._follower
        if self._core.commands_waiting == 0 or follower is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_S):
                    await self._asked.wait()
        elif follower.durable_seq() < 0:
            await asyncio.sleep(_RECOVERING_S)
        else:
            position = NEVER if follower.full else follower.position
            durable_seq = NEVER if follower.held_seq is None else follower.held_seq
            await self._watch.wait(follower.ring, position, durable_seq, follower.epoch, _IDLE_S)

    def _follow(self) -> None:
        self._enter_epoch()
        if load_acquire(self._board, lines.DIVERGED) == lines.DIVERGED_STOP:
            # What the live engine says may be wrong, and is not passed on; what it did is in the journal.
            self._deliver(self._core.give_up(time.monotonic_ns()))
            self._deliver(self._core.give_up_queries())
            return
        follower = self._follower
        if follower is None or self._core.commands_waiting == 0:
            return
        released = follower.poll()
        advance(follower.ring, self._reader, follower.position)
        now_ns = time.monotonic_ns()
        self._deliver(self._core.take(released.outcomes, now_ns))
        if released.lost:
            self._deliver(self._core.give_up(now_ns))

    def _enter_epoch(self) -> None:
        epoch = int(load_acquire(self._board, lines.EPOCH))
        follower = self._follower
        if epoch == 0 or (follower is not None and follower.epoch == epoch):
            return
        if load_acquire(self._board, lines.ENGINE_STATE) != lines.ENGINE_RUNNING:
            return
        try:
            rings = self._attach(epoch)
        except RingError:
            if load_acquire(self._board, lines.EPOCH) == epoch:
                raise
            return
        complete = True
        if follower is None:
            self._follower = OutcomeFollower(
                rings.outcomes, self._board, self._core.source, epoch, wait_durable=self._wait_durable
            )
        else:
            recovered = int(load_acquire(self._board, lines.RECOVERED_SEQ))
            complete = follower.change_epoch(rings.outcomes, epoch, recovered, self._core.needed_seq)
        self._reader = rings.reader
        self._deliver(self._core.change_epoch(rings.view))
        if not complete:
            self._deliver(self._core.give_up(time.monotonic_ns()))

    def _deliver(self, answers: Iterable[Answer]) -> None:
        told = {}
        for answer in answers:
            approved = self._approved.pop(answer.peer, None)
            if approved is not None:
                approved.set_result(answer.reply)
            peer = self._peers.get(answer.peer)
            if peer is not None:
                peer.waiting -= 1
                peer.session.send(answer.reply)
                told[answer.peer] = peer
        for peer in told.values():
            peer.flush()

    def _leave(self) -> None:
        self._watch.stop()
        self._deliver(self._core.give_up(time.monotonic_ns()))
        self._deliver(self._core.give_up_queries())
        for peer in list(self._peers.values()):
            peer.close()


class _Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: ControlServer, arrival: Arrival | None = None) -> None:
        self.arrival = arrival
        """Of a connection on TCP."""
        self.session = ControlSession()
        self.seat = Seat() if arrival is None else Seat(address=arrival.address)
        self._asked = 0
        self.waiting = 0
        self._server = server
        self._number: int | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """On the socket let the owner in and nobody else; on TCP everybody, to sign in."""
        # uvloop's transports are of its own kind.
        self._transport = cast("asyncio.Transport", transport)
        if self.arrival is not None:
            self.arrival.met(transport)
            self._number = self._server.joined(self)
        elif peer_uid(transport.get_extra_info("socket")) == os.getuid():
            self._number = self._server.joined(self)
        if self._number is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._number is not None:
            self._server.received(self._number, self, data)

    def eof_received(self) -> bool:
        """Take the end of the peer's side; the connection stays until its answers are written, which TLS cannot."""
        if self._number is not None:
            self._server.received(self._number, self, None)
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        """Stop reading from a peer that does not read its answers."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        """Forget the peer."""
        if self._number is not None:
            self._server.left(self._number)
        if self.arrival is not None:
            self.arrival.left()
        self._transport = None

    def flush(self) -> None:
        """Write what the session has to say; let go of a peer that lets it pile up or that is done."""
        if self._transport is None:
            return
        if self.arrival is not None:
            self.arrival.heard()
            if self.seat.name:
                self.arrival.known()
        data = self.session.data_to_send()
        if data:
            self._transport.write(data)
        if self._transport.get_write_buffer_size() > _OUTGOING_MAX_BYTES:
            self._transport.abort()
        elif self.session.close_expected() and self.waiting == 0:
            self._transport.close()

    def asks_too_much(self) -> bool:
        """Whether a stranger goes on asking without having signed in; to be called once a request."""
        if self.arrival is None or self.seat.name:
            return False
        self._asked += 1
        return self._asked > STRANGER_REQUESTS_MAX

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close after what was written."""
        if self._transport is not None:
            self._transport.close()


def peer_uid(connection: socket.socket) -> int:
    """User of the process at the other end of a Unix socket."""
    size_bytes = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size_bytes))
    return int(uid)


def listen(path: Path) -> socket.socket:
    """A listening Unix socket of mode 0600 in a folder of mode 0700; what a dead gateway left is replaced.

    Raises ServerError if the path is too long for a socket, something else lies there, or a gateway answers on it.
    """
    if len(os.fsencode(path)) > _SOCKET_PATH_MAX_BYTES:
        message = f"{path}: a socket path has at most {_SOCKET_PATH_MAX_BYTES} bytes; choose a shorter --home"
        raise ServerError(message)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise ServerError(f"{path} is no socket; remove it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            if probe.connect_ex(str(path)) == 0:
                raise ServerError(f"{path}: another control gateway answers there; stop that exchange first")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
