"""An engine process or the replica: ready at once, ends when the board says stop. A file ``crash-<line>`` makes it fail."""

import os
import time
from pathlib import Path

from protocol import board as words
from protocol.instance import Context
from protocol.readers import ready_word
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import BoardFile, claim_line, heartbeat


def main(context: Context) -> int:
    if (Path(context.home) / f"crash-{context.line}").exists():
        raise RuntimeError("it was told to crash")
    board = BoardFile.attach(context.shared).board
    claim_line(board, context.line)
    store_release(board, ready_word(context.line), os.getpid())
    while load_acquire(board, words.STOP) == 0:
        heartbeat(board, context.line)
        time.sleep(0.002)
    print("stopped in order")
    return 0
