"""An engine process or the replica: ready at once, ends when the board says stop; a file ``crash-<line>`` ends it."""

import os
import time
from pathlib import Path

from numba import njit

from protocol import board as words
from protocol.instance import Context
from protocol.readers import ready_word
from ringbuf.atomics import load_acquire, store_release
from ringbuf.board import FIRST_BELL_LINE, BoardFile, claim_line, heartbeat, private_board


@njit
def never_cached(number: int) -> int:
    return number + 1


def warm() -> None:
    if "FAKES_COMPILE" in os.environ:
        never_cached(1)
    board = private_board()
    store_release(board, 0, 0)
    load_acquire(board, 0)
    claim_line(board, FIRST_BELL_LINE)


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
