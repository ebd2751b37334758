"""A gateway: answers any line with one instrument, until SIGTERM or the board's STOP."""

import contextlib
import os
import signal
import socket
from pathlib import Path

from protocol import board as words
from protocol.instance import Context
from ringbuf.atomics import load_acquire
from ringbuf.board import BoardFile, claim_line

ANSWER = b'{"id": 1, "ok": true, "result": {"instruments": [{"symbol": "BTCUSDT", "state": "open"}]}}\n'


def main(context: Context) -> int:
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    path = Path(context.options["socket"])
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        listener.settimeout(0.002)
        while not stopping and load_acquire(board, words.STOP) < 2:
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection, connection.makefile("rwb") as stream:
                    if stream.readline():
                        stream.write(ANSWER)
    print("stopped in order")
    return 0
