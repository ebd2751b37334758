"""The process around the embedded server: makes the cluster, starts the server, starts it again when it ends, stops it cleanly.

Whatever goes wrong here is said in the log and on the board, and tried again: trading does not depend on it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

from persistence.postgres.cluster import NICE, Cluster, ClusterError
from protocol import board as b
from protocol.instance import Context
from protocol.readers import ready_word
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import BoardFile, claim_line, heartbeat

_TICK_S: Final = 0.1
_TICK_STARTING_S: Final = 0.01
_BACK_OFF_FIRST_S: Final = 0.2
_BACK_OFF_MAX_S: Final = 10.0
_START_TIMEOUT_S: Final = 30.0
"""From then on the exchange does not wait for it; a long replay of its log goes on."""
_WRITER_TIMEOUT_S: Final = 4.0
"""How long the last rows are waited for at the end."""
_FAST_TIMEOUT_S: Final = 4.0


class Server:
    """One embedded server, kept alive.

    Parameters
    ----------
    cluster : Cluster
    board : np.ndarray
        int64 board of the instance.
    line : int
        The process's own line.
    """

    def __init__(self, cluster: Cluster, board: np.ndarray, line: int) -> None:
        self._cluster = cluster
        self._board = board
        self._line = line
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = time.monotonic()
        self._not_before_s = 0.0
        self._failures = 0

    def step(self) -> float:
        """Look after the server; seconds until the next look."""
        now_s = time.monotonic()
        if now_s - self._began_s > _START_TIMEOUT_S:
            self._count_as_ready()
        if self._process is None:
            if now_s < self._not_before_s:
                return _TICK_S
            self._start()
            return _TICK_STARTING_S
        status = self._process.poll()
        if status is not None:
            self._process = None
            self._failed(f"the server ended with status {status}; it starts again")
            return _TICK_S
        if self._state() == b.DATABASE_UP:
            return _TICK_S
        if self._cluster.is_ready(self._process.pid):
            self._failures = 0
            self._say(b.DATABASE_UP)
            self._count_as_ready()
        return _TICK_STARTING_S

    def stop(self) -> None:
        """Wait for the writer's last rows, then shut the server down: fast, and at once where that takes too long."""
        if self._process is None:
            return
        writer = ready_word(b.LINE_POSTGRES)
        end_s = time.monotonic() + _WRITER_TIMEOUT_S
        while _lives(int(load_acquire(self._board, writer))) and time.monotonic() < end_s:
            time.sleep(_TICK_STARTING_S)
        for number, timeout_s in ((signal.SIGINT, _FAST_TIMEOUT_S), (signal.SIGQUIT, None)):
            self._process.send_signal(number)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                continue
            break
        self._say(b.DATABASE_DOWN)

    def _start(self) -> None:
        self._say(b.DATABASE_STARTING)
        try:
            if self._cluster.create():
                print(f"made the cluster in {self._cluster.data}", file=sys.stderr)
            self._process = self._cluster.start()
        except (ClusterError, OSError) as error:
            self._failed(str(error))

    def _failed(self, what: str) -> None:
        self._failures += 1
        pause_s = min(_BACK_OFF_FIRST_S * 2 ** min(self._failures - 1, 10), _BACK_OFF_MAX_S)
        self._not_before_s = time.monotonic() + pause_s
        self._say(b.DATABASE_FAILED)
        print(what, file=sys.stderr)
        if self._failures > 2:
            self._count_as_ready()

    def _state(self) -> int:
        return int(self._board[b.POSTGRES_SERVER_STATE])

    def _say(self, state: int) -> None:
        store_release(self._board, b.POSTGRES_SERVER_STATE, state)

    def _count_as_ready(self) -> None:
        store_release(self._board, ready_word(self._line), os.getpid())


def main(context: Context) -> int:
    """Keep the server up until the exchange stops."""
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    os.nice(NICE)
    server = Server(Cluster(Path(context.home)), board, context.line)
    while load_acquire(board, b.STOP) == 0:
        heartbeat(board, context.line)
        time.sleep(server.step())
    server.stop()
    return 0


def _lives(pid: int) -> bool:
    """Whether a process with this number runs; a zombie does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return pid > 0 and text[text.rindex(")") + 2] not in "ZX"
