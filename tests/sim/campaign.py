"""Many seeds: what failed, which situations were met, and whether a seed is the same history every time."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sim.world import PROFILES, World

REPEAT_EVERY = 25
"""Each so many-th seed is lived through twice."""
LONG_SEEDS = 1_000
"""From so many seeds on, a situation that was never met is a failure."""

_ALWAYS = (
    "auction: ended by itself",
    "auction: orders met",
    "auction: where it stands was published",
    "breaker: halted an instrument through the outbox",
    "command accepted",
    "command ring full",
    "control: OUTCOME_UNKNOWN",
    "control: answered a command",
    "control: answered a query",
    "control: refused, BUSY",
    "control: refused, OVERLOADED",
    "control: refused, ENGINE_DOWN",
    "crash: in a disk operation of recovery",
    "crash: in a disk operation of the journal",
    "crash: of the engine, between two steps",
    "crash: one process of the engine died, the others went on for a while",
    "crash: outcomes were there that were not durable",
    "event ring full",
    "exits: entered",
    "exits: were refused",
    "gateway: goes on over a new epoch with answers outstanding",
    "gateway: held outcomes dropped at a new epoch",
    "gateway: lapped, outcomes unknown",
    "gateway: cancel refused, ingress ring full",
    "gateway: refused, ingress ring full",
    "gateway: refused, the queue is too long",
    "gateway: refused, the engine is down",
    "journal: goes on in the next segment",
    "journal: segment full, the next one is not there",
    "office: waits, ingress ring full",
    "orders: a peg moved",
    "orders: one ended the one that it was linked with",
    "orders: set off by a price",
    "outcome ring full",
    "recovery: ingress rings hold what the journal does not",
    "recovery: exits were on their way, they are sent again",
    "recovery: the outbox holds a command, it is sent again",
    "refused: ACCOUNT_FROZEN",
    "refused: DUPLICATE_CLIENT_ID",
    "refused: FOK_UNFILLED",
    "refused: IMMEDIATE_IN_AUCTION",
    "refused: INSTRUMENT_HALTED",
    "refused: INSTRUMENT_POST_ONLY",
    "refused: MAINTENANCE",
    "refused: INSUFFICIENT_FUNDS",
    "refused: ORDER_POOL_FULL",
    "refused: HOLD_TABLE_FULL",
    "refused: POST_ONLY_WOULD_TAKE",
    "refused: PRICE_BAND",
    "refused: UNKNOWN_ORDER",
    "recovery: began with a snapshot",
    "replica: a checkpoint was compared",
    "reserve: waits for exact state",
    "snapshot: written",
    "verdict ring full",
    "window full",
)
_FAULTS = (
    "audit: a sync failed",
    "audit: a write failed",
    "audit: an unfinished line was cut",
    "audit: records came again from the journal",
    "audit: the replica died in a sync",
    "audit: the replica died in a write",
    "audit: the trail goes on behind what is stored",
    "crash: of all processes",
    "gateway: cancel passes while the journal has no space",
    "gateway: refused, no space for the journal",
    "journal: a failed write or sync ends the engine",
    "producer: attached to the ring of a dead one",
    "producer: dies between writing and publishing",
    "recovery: a damaged snapshot was passed over",
    "recovery: the disk failed, it begins again",
    "replica: began with a snapshot",
    "replica: its memory was spoilt, it found a difference and wrote no snapshot",
    "snapshot: could not be written",
    "snapshot: the disk failed",
    "snapshot: the state is larger than snapshots.map_bytes",
)
SITUATIONS = {
    "quick": _ALWAYS,
    "faults": (
        *_ALWAYS,
        *_FAULTS,
        "clock: UTC was set",
        "disk: no space",
        "disk: a sync failed",
        "disk: a write failed",
    ),
    "power": (
        *_ALWAYS,
        *_FAULTS,
        "power loss",
        "power loss: names were not synced",
        "power loss: of a snapshot that was being written",
        "power loss: of audit records that were not synced",
        "power loss: writes were not synced",
        "recovery: an unfinished write was cut",
        "recovery: the epoch was used, it begins again",
    ),
}
"""What a long campaign must meet, by profile."""


@dataclass
class Campaign:
    """What came out of some seeds."""

    profile: str
    seeds: int = 0
    failed: list[int] = field(default_factory=list)
    repeated: int = 0
    walked: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    epochs: int = 0
    seconds: float = 0.0

    @property
    def never_walked(self) -> list[str]:
        """Situations of the profile that were not met."""
        return [name for name in SITUATIONS[self.profile] if not self.walked[name]]


def live(profile: str, seed: int, home: Path) -> tuple[dict[str, Any], Counter[str]]:
    """One seed; what came out and what was met. Raises where something is wrong."""
    world = World(seed, profile, home)
    return world.run(), world.walked


def run(
    profile: str,
    seeds: Iterable[int],
    tell: Callable[[str], None] = print,
    stop_after: int = 10,
    repeat: int = REPEAT_EVERY,
) -> Campaign:
    """Live through seeds; each failure is told with the command that repeats it. Ends early after so many failures."""
    assert profile in PROFILES, f"profile {profile!r}: one of {', '.join(PROFILES)}"
    campaign = Campaign(profile)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="cambist-sim-") as folder:
        for seed in seeds:
            campaign.seeds += 1
            try:
                result, walked = live(profile, seed, Path(folder))
                if repeat and seed % repeat == 0:
                    campaign.repeated += 1
                    again, _ = live(profile, seed, Path(folder))
                    assert result == again, f"the same seed gave another history: {result}, then {again}"
            except Exception as error:  # noqa: BLE001 - whatever ends a life is what is looked for
                campaign.failed.append(seed)
                tell(
                    f"seed {seed} failed: {type(error).__name__}: {error}\n"
                    f"run it alone: python -m tests.sim --profile {profile} --seeds {seed}:{seed + 1}"
                )
                if len(campaign.failed) >= stop_after:
                    break
                continue
            campaign.walked += walked
            campaign.steps += result["steps"]
            campaign.epochs += result["epochs"]
    campaign.seconds = time.perf_counter() - started
    return campaign


def summary(campaign: Campaign) -> list[str]:
    """Figures and situations of a campaign, a line each."""
    minutes = max(campaign.seconds, 1e-9) / 60
    lines = [
        (
            f"profile {campaign.profile}: {campaign.seeds} seeds in {campaign.seconds:.1f} s, "
            f"{campaign.seeds / minutes:.0f} seeds, {campaign.epochs / minutes:.0f} epochs and "
            f"{campaign.steps / minutes:.0f} steps a minute; {campaign.repeated} seeds lived through twice, the same"
        ),
        "situations met:",
    ]
    lines += [f"{count:10d}  {name}" for name, count in sorted(campaign.walked.items())]
    lines += [f"     never  {name}" for name in campaign.never_walked]
    return lines
