"""Homes on disk that no exchange ever ran in: a journal of a random market with operators, as the journal's writer leaves it."""

from pathlib import Path

import numpy as np

from persistence.fused import FusedEngine
from persistence.journal.store import DirectoryStore
from persistence.recovery import keep_limits, load_limits
from protocol.instance import Engine
from tests.engine.driver import ROOMY
from tests.engine.operators import Market, sized
from tests.persistence.journal_slots import Feed, open_writer, write_all

SEGMENT_BYTES = 1 << 17


def home_of(market: Market, home: Path) -> Path:
    """A stopped home with the market's history; several segments where it is long."""
    home.mkdir(mode=0o700)
    append(home, market.groups, epoch=1)
    keep_limits(home, sized(market))
    return home


def append(home: Path, groups: list[np.ndarray], epoch: int) -> None:
    """Write more groups behind the journal of a home."""
    writer = open_writer(DirectoryStore(home / "journal"), epoch, SEGMENT_BYTES)
    feed = Feed()
    for start in range(0, len(groups), 40):
        feed.put(np.concatenate(groups[start : start + 40]))
        write_all(writer, feed)
    writer.close()


def fresh_engine(home: Path) -> FusedEngine:
    """An engine of the home's own size, before the first command."""
    return FusedEngine(Engine(limits=load_limits(home), rings=ROOMY))
