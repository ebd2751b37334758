"""What the load sends: one random history, dealt out to two producers, so that the number of a slot says what it is."""

import random
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
    commands = with_other_orders(plan.commands, random.Random(seed))
    heads = np.flatnonzero(build.heads(commands))
    group = np.cumsum(build.heads(commands)) - 1
    chosen = np.random.default_rng(seed).integers(0, len(SOURCES), len(heads))[group]
    slots: dict[int, np.ndarray] = {}
    ids: dict[int, int] = {}
    for k, source in enumerate(SOURCES):
        part = commands[chosen == k]
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


def with_other_orders(commands: np.ndarray, rng: random.Random) -> np.ndarray:
    """The history, in which every sixth limit order that may rest is linked, follows a price, waits for one, or has exits."""
    groups = np.split(commands, np.flatnonzero(build.heads(commands))[1:])
    return np.concatenate([_other(group, rng) for group in groups])


def _other(group: np.ndarray, rng: random.Random) -> np.ndarray:
    head = group[0]
    price, side = int(head["price_ticks"]), int(head["side"])
    plain = head["type"] == e.LIMIT and head["tif"] == e.GTC and len(group) == 1 and 0 < price < 1 << 60
    if not plain or rng.random() > 1 / 6:
        return group
    way = rng.randrange(4)
    if way == 0:
        return build.with_peg(group, rng.choice((e.PEG_BID, e.PEG_ASK, e.PEG_MID)), rng.choice((0, 0, 1, -1)))
    if way == 1:
        trigger = max(1, price + rng.choice((-2, -1, 1, 2)))
        return build.with_trigger(group, trigger_price_ticks=trigger, takes_profit=rng.random() < 0.5)
    own = side if way == 2 else 1 - side
    away = 1 if own == e.SELL else -1
    named = {"account": int(head["account"]), "instrument": int(head["instrument"]), "side": own}
    named["qty_lots"] = int(head["qty_lots"])
    near, far = (max(1, price + sign * away * rng.randrange(1, 4)) for sign in (1, -1))
    first = build.limit(price_ticks=near, tif=e.POST_ONLY, **named)
    second = build.with_trigger(build.limit(price_ticks=far, **named), trigger_price_ticks=far)
    if way == 2:
        pair = build.oco(first, second)
        # It is known by the number that the order had.
        pair["order_id"][0] = head["order_id"]
        return pair
    exits = (first, second) if rng.random() < 0.5 else (rng.choice((first, second)),)
    return build.bracket(group, *exits)
