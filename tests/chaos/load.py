"""The load: ``python -m tests.chaos.load HOME FOLDER RATE SEED``, a gateway of two producers that nobody kills.

It sends the slots of FOLDER/flow-*.npy in bursts, follows the outcome ring as every gateway does, and appends what it may
tell its clients, which is what is *acknowledged*, to FOLDER/acked-SOURCE.bin. When the engine is restarted it goes on;
when all of the exchange was killed it attaches anew and goes on after the number that was recovered. At the end of its
standard input it waits until everything sent is acknowledged and prints a summary.
"""

import json
import random
import select
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cambist.home import Home
from gateway.outcomes import OutcomeFollower
from protocol import board as b
from protocol import build
from protocol import enums as e
from protocol.instance import Context, Engine
from protocol.readers import SOURCE_LINES
from protocol.records import COMMAND_DTYPE, COMMAND_SCHEMA, OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf.atomics import load_acquire
from ringbuf.board import BoardFile, claim_line
from ringbuf.errors import RingError
from ringbuf.file import RingFile
from ringbuf.ring import Ring, publish, published, room
from tests.chaos.flow import SOURCES

BURST_SLOTS_MAX = 600
ROOM_ASKED = 1 << 10
ANSWER_TIMEOUT_S = 60.0
NAP_S = 0.0005


class LoadFailed(Exception):
    """Something that was promised did not hold; the text says what."""


class Producer:
    """One source, as a gateway has it: its ingress ring, its place on the outcome ring, and how far both are."""

    def __init__(self, source: int, folder: Path) -> None:
        self.source = source
        self.slots = np.load(folder / f"flow-{source}.npy").astype(COMMAND_DTYPE)
        self.heads = np.flatnonzero(build.heads(self.slots)) + 1
        self.ends = np.flatnonzero((self.slots["flags"] & e.FLAG_MORE) == 0) + 1
        self.sent = 0
        self.acked = 0
        """Number of the newest command all of whose outcomes were released."""
        self.acked_seq = 0
        self.lapped = 0
        self.full = 0
        self._file: RingFile
        self._follower: OutcomeFollower | None = None
        self._kept = (folder / f"acked-{source}.bin").open("ab", buffering=0)

    def attach(self, context: Context, board: np.ndarray) -> None:
        """Become the writer of the ring; go on after what stands there, which a whole new exchange took from its journal."""
        self._file = RingFile.attach(context.ingress(self.source), COMMAND_DTYPE, COMMAND_SCHEMA, board=board)
        self._file.take_writer(SOURCE_LINES[self.source])
        claim_line(board, SOURCE_LINES[self.source])
        recovered = int(published(self._file.ring))
        if recovered < self.acked:
            raise LoadFailed(
                f"source {self.source}: {self.acked} was acknowledged, and the journal ends at {recovered}"
            )
        self.sent = recovered

    def enter(self, ring: Ring, board: np.ndarray, epoch: int) -> None:
        """Follow the outcome ring of an epoch."""
        recovered = int(load_acquire(board, b.RECOVERED_SEQ))
        if recovered < self.acked_seq:
            raise LoadFailed(f"outcomes of command {self.acked_seq} were acknowledged, recovery found {recovered}")
        if self._follower is None:
            self._follower = OutcomeFollower(ring, board, self.source, epoch)
        self._follower.board = board
        self.lapped += int(not self._follower.change_epoch(ring, epoch, recovered, self.acked_seq))

    def follow(self) -> int:
        """Take what may be told to clients now, and keep it; returns how many outcomes."""
        if self._follower is None:
            return 0
        released = self._follower.poll()
        self.lapped += int(released.lost)
        outcomes = released.outcomes
        if len(outcomes):
            self._kept.write(outcomes.tobytes())
            self.acked_seq = int(outcomes["seq"][-1])
            ends = (outcomes["flags"] & e.OUTCOME_LAST != 0) & (outcomes["source"] == self.source)
            self.acked = int(outcomes["source_seq"][ends].max(initial=self.acked))
        return len(outcomes)

    def send(self, wanted: int, limit: int) -> int:
        """Publish up to ``wanted`` slots in whole groups, none beyond number ``limit``; returns how many."""
        ring = self._file.ring
        mask = len(ring.slots) - 1
        end = min(self.sent + wanted, limit, self.sent + int(room(ring, ROOM_ASKED)))
        fitting = int(np.searchsorted(self.ends, end, side="right"))
        end = int(self.ends[fitting - 1]) if fitting else 0
        if end <= self.sent:
            self.full += int(limit > self.sent)
            return 0
        rows = np.arange(self.sent, end)
        ring.slots[rows & mask] = self.slots[rows]
        count, self.sent = end - self.sent, end
        publish(ring, end)
        return count

    @property
    def answered(self) -> bool:
        """Whether everything sent is acknowledged."""
        last = int(np.searchsorted(self.heads, self.sent, side="right"))
        return last == 0 or self.acked >= self.heads[last - 1]

    def summary(self) -> dict[str, int]:
        """How far it is."""
        return {name: getattr(self, name) for name in ("sent", "acked", "acked_seq", "lapped", "full")} | {
            "left": len(self.slots) - self.sent
        }


class Load:
    """The producers, and the exchange that they are attached to."""

    def __init__(self, home: Path, folder: Path, rate: int, seed: int) -> None:
        self._context = Context(str(home), Home(home).instance, 0, b.LINE_REPLAY, Engine())
        self._board_path = self._context.board
        self._board_inode = 0
        self._board: np.ndarray = np.zeros(0, dtype=np.int64)
        self._producers = [Producer(source, folder) for source in SOURCES]
        self._setup = int((folder / "setup").read_text())
        self._rate = rate
        self._random = random.Random(seed)
        self._next_burst_s = 0.0
        self._counts = {"exchanges": 0, "epochs": 0}

    def run(self) -> dict[str, Any]:
        """Load the exchange until the standard input ends, then wait for the last answer."""
        stopping_s = 0.0
        while True:
            self._attach()
            worked = sum(producer.follow() for producer in self._producers)
            if stopping_s:
                if all(producer.answered for producer in self._producers):
                    # What one's last command did to the other's orders is told to the other too.
                    while sum(producer.follow() for producer in self._producers):
                        pass
                    return self._summary()
                if time.monotonic() - stopping_s > ANSWER_TIMEOUT_S:
                    raise LoadFailed(f"no answer for {ANSWER_TIMEOUT_S:.0f} s: {self._summary()}")
            elif self._board_inode:
                self._send()
                if select.select([sys.stdin], [], [], 0)[0]:
                    stopping_s = time.monotonic()
            if not worked:
                time.sleep(NAP_S)

    def _attach(self) -> None:
        """Follow a new exchange (its board is another file), or a new epoch of this one."""
        try:
            inode = self._board_path.stat().st_ino
            if inode != self._board_inode:
                board = BoardFile.attach(self._context.shared).board
                if load_acquire(board, b.ENGINE_STATE) != b.ENGINE_RUNNING:
                    return
                for producer in self._producers:
                    producer.attach(self._context, board)
                self._board, self._board_inode = board, inode
                self._counts["exchanges"] += 1
            epoch = int(load_acquire(self._board, b.EPOCH))
            if epoch not in (0, self._context.epoch) and load_acquire(self._board, b.ENGINE_STATE) == b.ENGINE_RUNNING:
                self._enter(epoch)
        except (FileNotFoundError, RingError):
            return  # it is being made, or was killed again: the next look will tell

    def _enter(self, epoch: int) -> None:
        context = msgspec.structs.replace(self._context, epoch=epoch)
        ring = RingFile.attach(context.outcome_ring, OUTCOME_DTYPE, OUTCOME_SCHEMA, epoch, self._board).ring
        for producer in self._producers:
            producer.enter(ring, self._board, epoch)
        self._context = context
        self._counts["epochs"] += 1

    def _send(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_burst_s:
            return
        first = self._producers[0]
        listed = first.sent > self._setup or (first.sent == self._setup and first.answered)
        burst = self._random.randrange(1, BURST_SLOTS_MAX)
        sent = 0
        for producer in self._producers if listed else [first]:
            sent += producer.send(burst, len(producer.slots) if listed else self._setup)
        # Now and then at full speed for a while, so that rings fill.
        pause_s = 0.0 if self._random.random() < 0.1 else sent / self._rate * 2 * self._random.random()
        self._next_burst_s = now_s + pause_s

    def _summary(self) -> dict[str, Any]:
        return {**self._counts, "sources": {str(producer.source): producer.summary() for producer in self._producers}}


def main() -> int:
    home, folder, rate, seed = sys.argv[1:]
    try:
        print(json.dumps(Load(Path(home), Path(folder), int(rate), int(seed)).run()), flush=True)
    except LoadFailed as error:
        print(json.dumps({"failed": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
