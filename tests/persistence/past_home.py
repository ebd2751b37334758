"""A stopped home with a journal of a random market, in many small segments."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from persistence.fused import FusedEngine
from persistence.journal import SEGMENT_BYTES_MIN
from persistence.journal.store import DirectoryStore
from persistence.recovery import keep_limits
from protocol import build
from protocol.instance import Engine
from protocol.records import OUTCOME_DTYPE
from tests.engine.driver import ROOMY
from tests.engine.operators import Market, sized
from tests.persistence.journal_slots import Feed, open_writer, write_all


class PastHome(NamedTuple):
    """Its folder, all command slots, and the sizes of an engine for it."""

    path: Path
    slots: np.ndarray
    engine: Engine

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def ends(self) -> np.ndarray:
        """Last seq of each command."""
        return np.append(np.flatnonzero(build.heads(self.slots))[1:], len(self.slots))

    def engine_at(self, seq: int, outcomes: list[np.ndarray] | None = None) -> FusedEngine:
        """An engine that was fed the slots up to ``seq``, and nothing of the code under test."""
        engine = FusedEngine(self.engine)
        engine.feed(self.slots[:seq], None if outcomes is None else lambda part: outcomes.append(part.copy()))
        return engine

    def outcomes(self) -> np.ndarray:
        kept: list[np.ndarray] = [np.zeros(0, dtype=OUTCOME_DTYPE)]
        self.engine_at(len(self.slots), kept)
        return np.concatenate(kept)


def make_home(
    home: Path, seed: int = 7, n: int = 900, *, segment_bytes: int = SEGMENT_BYTES_MIN, access: bool = False
) -> PastHome:
    """Write the journal of ``Market(seed, n, access=access)``; ends with a checkpoint."""
    market = Market(seed, n, access=access)
    market.checkpoint()
    slots = np.concatenate(market.groups)
    engine = Engine(limits=sized(market), rings=ROOMY)
    home.mkdir(parents=True)
    (home / "journal").mkdir()
    keep_limits(home, engine.limits)
    write_journal(home / "journal", slots, segment_bytes=segment_bytes)
    return PastHome(home, slots, engine)


def write_journal(journal: Path, slots: np.ndarray, *, epoch: int = 1, segment_bytes: int = SEGMENT_BYTES_MIN) -> None:
    """Go on with a journal by some twenty commands a batch."""
    starts = np.flatnonzero(build.heads(slots))[20::20]
    writer = open_writer(DirectoryStore(journal), epoch, segment_bytes)
    feed = Feed()
    for part in np.split(slots, starts):
        if len(part):
            feed.put(part)
            write_all(writer, feed)
    writer.close()


def answer(capsys: Any) -> dict[str, Any]:
    """The one JSON object on stdout."""
    return dict(msgspec.json.decode(capsys.readouterr().out))
