"""A gateway: accepts connections on its socket until SIGTERM or the board's STOP."""

import os
import signal
import socket
import time
from pathlib import Path

from protocol import board as words
from protocol.instance import Context
from ringbuf.atomics import load_acquire
from ringbuf.board import BoardFile, claim_line


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
        while not stopping and load_acquire(board, words.STOP) < 2:
            time.sleep(0.002)
    print("stopped in order")
    return 0
