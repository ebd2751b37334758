"""What the load sends: one random history, dealt out to two producers, so that the number of a slot says what it is."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cambist.replay.plan import Plan, load
from protocol import build
from protocol import enums as e
from tests.flows.xflow2_gen import generate
from tests.naive.xflow import write_xflow2

SOURCES = (e.SOURCE_REPLAY, e.SOURCE_BOTS)
_NAMING = (e.CANCEL, e.AMEND, e.WITHDRAW_SETTLE, e.WITHDRAW_RELEASE)


class Dealt(NamedTuple):
    """Slots of each producer of ``SOURCES``, numbered from 1, and how many of the first one's only set tables up."""

    slots: dict[int, np.ndarray]
    setup: int
    plan: Plan

    def save(self, folder: Path) -> None:
        """Write what the load process needs."""
        for source, slots in self.slots.items():
            np.save(folder / f"flow-{source}.npy", slots)
        (folder / "setup").write_text(str(self.setup))


def deal(profile: str, seed: int, n: int) -> Dealt:
    """Deal a generated history of ``n`` messages out to the producers, each message to one of them by chance.

    An order keeps its place in the history, but which producer's commands come first is decided by the exchange: some
    cancels come before the order that they name, and are refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "history.bin"
        write_xflow2(file, generate(profile, seed, n).file)
        plan = load(file)
    heads = np.flatnonzero(build.heads(plan.commands))
    group = np.cumsum(build.heads(plan.commands)) - 1
    chosen = np.random.default_rng(seed).integers(0, len(SOURCES), len(heads))[group]
    slots: dict[int, np.ndarray] = {}
    ids: dict[int, int] = {}
    for k, source in enumerate(SOURCES):
        part = plan.commands[chosen == k]
        if k == 0:
            part = np.concatenate([plan.setup, part])
        brings = build.heads(part) & np.isin(part["type"], build.NAMING_TYPES)
        before = part["order_id"][brings].tolist()
        slots[source] = build.stamp(part, source, 1)
        ids |= dict(zip(before, part["order_id"][brings].tolist(), strict=True))
    for part in slots.values():
        for row in np.flatnonzero(build.heads(part) & np.isin(part["type"], _NAMING)):
            part["order_id"][row] = ids.get(int(part["order_id"][row]), part["order_id"][row])
    return Dealt(slots, len(plan.setup), plan)
