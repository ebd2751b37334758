"""What the processes of one instance must agree on: sizes, file names, and the context that each of them is started with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from protocol import enums

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - rings are files that every participant maps

FEE_VERSIONS_MAX: Final = (1 << 16) - 1


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides verdicts and is therefore fixed for a home: sizes of tables and pools, and how long client order ids stay taken.

    When a table is full the producer gets a named refusal, but ``client_ids``, which forgets its oldest row.
    """

    accounts: int = 65_536
    assets: int = 32
    instruments: int = 256
    orders: int = 1 << 20
    leaves: int = 1 << 20
    withdrawal_holds: int = 1 << 16
    outbox: int = 4096
    timers: int = 64
    firms: int = 1024
    fee_schedules: int = 1024
    fee_versions: int = 4096
    """Versions of all fee schedules together; none is ever forgotten, because fills name them. At most 65535."""
    fee_contracts: int = 4096
    """Accounts with fees of their own in one instrument."""
    client_ids: int = 1 << 18
    """Client order ids of ended orders that are remembered."""
    client_id_ttl_ms: int = 10_000
    """Sequenced time for which the id of an order that was filled or expired stays taken; 0 = free at once."""


class Rings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ring capacities in slots, powers of two. ``window`` bounds reserved - settled."""

    ingress: int = 1 << 14
    command: int = 1 << 16
    event: int = 1 << 16
    outcome: int = 1 << 18
    window: int = 1 << 14


class Overload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When gateways refuse new orders, before they are numbered; see ``gateway.admission``."""

    reserved_percent: int = 25
    """Share of each producer's ring and tables that new orders do not enter."""
    queue_target_ms: int = 50
    """New orders are refused while what is before them would take longer to settle."""


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that the engine's processes are configured by."""

    topology: str = "split"  # or "fused"
    shards: int = 1
    wait: str = "adaptive"  # or "yield", "spin"
    durability: str = "sync"  # or "async": gateways speak before the journal is durable
    clock: int = enums.CLOCK_LIVE
    segment_bytes: int = 64 << 20
    limits: Limits = msgspec.field(default_factory=Limits)
    rings: Rings = msgspec.field(default_factory=Rings)
    overload: Overload = msgspec.field(default_factory=Overload)
    checkpoint_interval_s: int = 10
    sources: tuple[int, ...] = (enums.SOURCE_RISK, enums.SOURCE_CONTROL)
    gating_outcome_reader: bool = False
    """The collector of a replay reads every outcome; the engine waits for it. Never in an exchange."""

    def check(self) -> None:
        """Assert the inequalities that make the engine free of deadlocks; ValueError names the rule."""
        rings = self.rings
        for name in ("ingress", "command", "event", "outcome", "window"):
            size = getattr(rings, name)
            if size < 2 or size & (size - 1):
                msg = f"rings.{name} = {size}: a ring holds a power of two of slots, at least 2"
                raise ValueError(msg)
        if rings.command < rings.window + enums.GROUP_SLOTS_MAX:
            msg = (
                f"rings.command = {rings.command}: it must hold rings.window + {enums.GROUP_SLOTS_MAX} slots, "
                f"a whole group more than the window"
            )
            raise ValueError(msg)
        if rings.window < 2 * enums.GROUP_SLOTS_MAX or rings.ingress < enums.GROUP_SLOTS_MAX:
            msg = f"rings.window must be at least {2 * enums.GROUP_SLOTS_MAX} and rings.ingress {enums.GROUP_SLOTS_MAX}: a group must fit"
            raise ValueError(msg)
        if rings.outcome < 8 or rings.event < 4:
            msg = "rings.outcome must be at least 8 and rings.event 4: one step of settling must fit"
            raise ValueError(msg)
        if self.limits.outbox < self.limits.instruments:
            msg = "limits.outbox must not be below limits.instruments: each may have one circuit breaker pending"
            raise ValueError(msg)
        if not 1 <= self.limits.fee_versions <= FEE_VERSIONS_MAX:
            msg = f"limits.fee_versions = {self.limits.fee_versions}: 1 to {FEE_VERSIONS_MAX}, a fill names them in two bytes"
            raise ValueError(msg)
        if self.topology not in ("split", "fused"):
            msg = f"topology = {self.topology!r}: split or fused"
            raise ValueError(msg)
        if not 1 <= self.shards <= 16:
            msg = f"shards = {self.shards}: 1 to 16"
            raise ValueError(msg)


class Context(msgspec.Struct, frozen=True):
    """What one process is started with."""

    home: str
    instance: str
    epoch: int
    line: int
    """The process's own line of the board."""
    engine: Engine
    shard: int = 0
    jitter_seed: int = 0
    """Above 0: forced delays at each stage (``--jitter``)."""
    matcher_delay_us: int = 0
    """Above 0: a matcher takes so long for a slot, for tests of overload."""
    options: dict[str, str] = {}

    @property
    def shared(self) -> Path:
        """Folder of the instance's shared memory."""
        return SHARED_MEMORY / f"cambist-{self.instance}"

    @property
    def epoch_dir(self) -> Path:
        """Folder of the rings and state of this epoch."""
        return self.shared / f"epoch-{self.epoch}"

    @property
    def board(self) -> Path:
        """The shared board."""
        return self.shared / "board"

    def ingress(self, source: int) -> Path:
        """Ingress ring of one producer; it outlives epochs."""
        return self.shared / f"ingress-{source}"

    @property
    def command_ring(self) -> Path:
        """The one total order."""
        return self.epoch_dir / "command"

    @property
    def verdict_ring(self) -> Path:
        """Verdicts of risk, one a slot."""
        return self.epoch_dir / "verdict"

    @property
    def event_bank(self) -> Path:
        """Event rings of all matchers, one file."""
        return self.epoch_dir / "events"

    @property
    def outcome_ring(self) -> Path:
        """All outcomes, in order."""
        return self.epoch_dir / "outcome"

    @property
    def risk_state(self) -> Path:
        """Risk's tables."""
        return self.epoch_dir / "risk.state"

    def matcher_state(self, shard: int) -> Path:
        """One matcher's tables."""
        return self.epoch_dir / f"matcher-{shard}.state"

    @property
    def sources_state(self) -> Path:
        """The sequencer's table of sources and timers."""
        return self.epoch_dir / "sequencer.state"

    @property
    def journal_dir(self) -> Path:
        """Segment files."""
        return Path(self.home) / "journal"


def instance_name(home: Path) -> str:
    """Name of the instance of a home: 12 hex digits, the same for the same absolute path."""
    return hashlib.blake2b(str(home.resolve()).encode(), digest_size=6).hexdigest()
