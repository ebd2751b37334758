"""Faults beside kills: what each does to a live exchange, what the exchange must do about it, and that it trades again afterwards."""

import os
import random
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from protocol import board as b
from tests.chaos import machine as m
from tests.chaos import power
from tests.chaos.exchange import SNAPSHOT_MAP_BYTES, ChaosError, Exchange, LoadProcess

NS_PER_S = 1_000_000_000
_BESIDE = frozenset({"replica"})
_DATABASE = frozenset({"postgres", "postgres-server"})
_JOURNAL = frozenset({"journal", "recovery"})
_FELT_TIMEOUT_S = 10.0
_MAP_BYTES_MIN = 1 << 20


class Fault(NamedTuple):
    """One planned fault: of a kind, after so long, for so long; and a process killed in its middle, or none."""

    kind: str
    after_s: float
    lasts_s: float
    victim: str = ""


class Struck:
    """An exchange under a fault, and what is said of it."""

    def __init__(self, exchange: Exchange, machine: m.Machine | None, fault: Fault, rng: random.Random) -> None:
        self.exchange = exchange
        self._machine = machine
        self.fault = fault
        self.rng = rng
        self.said: list[str] = []
        self.epoch = exchange.word(b.EPOCH)
        self.engine = exchange.engine_pids()

    @property
    def machine(self) -> m.Machine:
        """The machine, which is there."""
        assert self._machine is not None, m.NO_COMPILER
        return self._machine

    def lasts(self) -> None:
        """Let it last, and kill somebody in the middle."""
        time.sleep(self.fault.lasts_s / 2)
        if self.fault.victim:
            self.said.append(f"killed {self.exchange.kill(self.fault.victim)} meanwhile")
        time.sleep(self.fault.lasts_s / 2)

    def disk(self, fault: int, scope: int, times: int = m.FOREVER, delay_us: int = 0) -> None:
        """The disk fails while it lasts, and at least once."""
        self.machine.fail(fault, scope, times, delay_us)
        self.lasts()
        end_s = time.monotonic() + _FELT_TIMEOUT_S
        while not self.machine.fired and time.monotonic() < end_s and not self.exchange.has_ended():
            time.sleep(0.01)
        fired = self.machine.heal()
        self.said.append(f"felt {fired} times")
        if not fired:
            raise ChaosError(f"{self.fault.kind}: nobody felt it in {_FELT_TIMEOUT_S:.0f} s")

    def engine_lives(self) -> None:
        """Trading went on: the same processes, the same epoch."""
        now = self.exchange.engine_pids()
        if not self.fault.victim and (now != self.engine or self.exchange.word(b.EPOCH) != self.epoch):
            raise ChaosError(f"{self.fault.kind}: the engine did not live through it: {self.engine}, then {now}")

    def engine_ended(self) -> None:
        """The epoch that met it is over, or soon will be: what failed was not tried again."""

        def over() -> bool:
            return self.exchange.has_ended() or self.exchange.word(b.EPOCH) != self.epoch

        self.exchange.wait(f"{self.fault.kind} ends the epoch", over)


def slow_disk(at: Struck) -> None:
    """Every change and every sync takes long, and nothing else happens."""
    at.disk(m.SLOW, m.HOME, delay_us=at.rng.choice((1_000, 10_000, 50_000)))
    at.engine_lives()


def full_disk(at: Struck) -> None:
    """No file grows any more. The journal goes on to its last block; then commands wait, and then go on."""
    at.disk(m.NO_SPACE, m.HOME | m.POSTGRES)
    at.engine_lives()


def failed_sync(at: Struck) -> None:
    """One sync of the journal fails, which is final for the epoch."""
    at.disk(m.SYNC_FAILS, m.JOURNAL, times=1)
    at.engine_ended()


def failing_syncs(at: Struck) -> None:
    """Every sync fails for a while, those of recovery too."""
    at.disk(m.SYNC_FAILS, m.HOME)
    at.engine_ended()


def failing_syncs_beside(at: Struck) -> None:
    """Syncs of snapshots and of the audit trail fail, of which trading knows nothing."""
    at.disk(m.SYNC_FAILS, m.SNAPSHOTS | m.AUDIT)
    at.engine_lives()


def read_only_disk(at: Struck) -> None:
    """Nothing in the home can be changed, as after the kernel gave its file system up."""
    at.disk(m.READ_ONLY, m.HOME)
    at.engine_ended()


def read_only_beside(at: Struck) -> None:
    """Snapshots and the audit trail cannot be written."""
    at.disk(m.READ_ONLY, m.SNAPSHOTS | m.AUDIT | m.REST)
    at.engine_lives()


def clock_back(at: Struck) -> None:
    """UTC steps back, and forward again."""
    at.machine.set_utc(-at.rng.choice((1, 5_000, 3_600_000, 86_400_000)) * 1_000_000)
    read = at.machine.clock_reads
    at.lasts()
    at.exchange.wait("somebody reads the clock", lambda: at.machine.clock_reads > read)
    at.machine.set_utc(0)
    at.engine_lives()


def power_loss(at: Struck) -> None:
    """Everything ends at once, and with it what was not synced."""
    at.exchange.kill("everything")
    at.exchange.forget_memory()
    at.said.append(str(power.lose(at.machine, at.rng)))


def failed_sync_then_power(at: Struck) -> None:
    """A sync of the journal fails, and a little later the machine loses power: what the failed one was to bring is gone."""
    at.machine.fail(m.SYNC_FAILS, m.JOURNAL, times=1)
    at.exchange.wait("the sync fails", lambda: at.machine.fired)
    time.sleep(at.fault.lasts_s * at.rng.random())
    at.machine.heal()
    power_loss(at)


def full_map(at: Struck) -> None:
    """A state that does not fit into the map of a snapshot: an alarm, and trading goes on; with a larger map there is one again."""
    exchange = at.exchange
    exchange.restart({"snapshots.map_bytes": _MAP_BYTES_MIN})
    exchange.wait("the map is full", lambda: exchange.word(b.SNAPSHOT_PROBLEM) == b.SNAPSHOT_MAP_FULL)
    durable = exchange.word(b.DURABLE_SEQ)
    exchange.wait("trading goes on without snapshots", lambda: exchange.word(b.DURABLE_SEQ) > durable + 20)
    exchange.restart({"snapshots.map_bytes": SNAPSHOT_MAP_BYTES})
    newest = exchange.word(b.SNAPSHOT_SEQ)
    exchange.wait("the next snapshot", lambda: exchange.word(b.SNAPSHOT_SEQ) > newest)


def database_stopped(at: Struck) -> None:
    """An operator stops the server, in one of the three ways that there are."""
    for pid in at.exchange.database()[:1]:
        os.kill(pid, at.rng.choice((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)))
    at.lasts()
    at.engine_lives()


def database_frozen(at: Struck) -> None:
    """The server stands still, and goes on."""
    pids = at.exchange.database()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    at.lasts()
    for pid in pids:
        with_gone(pid)
    at.engine_lives()


def with_gone(pid: int) -> None:
    """Let a stopped process go on, if it is still there."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def database_disk_fails(at: Struck) -> None:
    """The disk of the database fails, of which trading knows nothing."""
    at.disk(at.rng.choice((m.SYNC_FAILS, m.NO_SPACE, m.READ_ONLY)), m.POSTGRES)
    at.engine_lives()


class Kind(NamedTuple):
    """A kind of fault.

    Attributes
    ----------
    strike : callable
        Does it and heals it; ChaosError where the exchange does not bear it as it must.
    ends : frozenset of str
        Processes that it may end.
    needs_machine, needs_database : bool
    victims : tuple of str
        Who may be killed in its middle.
    """

    strike: Callable[[Struck], None]
    ends: frozenset[str] = frozenset()
    needs_machine: bool = True
    needs_database: bool = False
    victims: tuple[str, ...] = ()


KINDS = {
    "slow disk": Kind(slow_disk, victims=("replica", "journal", "everything")),
    "full disk": Kind(full_disk, _BESIDE | _DATABASE | _JOURNAL, victims=("replica", "risk", "everything")),
    "failed sync": Kind(failed_sync, _JOURNAL),
    "failing syncs": Kind(failing_syncs, _BESIDE | _JOURNAL),
    "failing syncs beside the journal": Kind(failing_syncs_beside, _BESIDE, victims=("replica", "sequencer")),
    "read-only disk": Kind(read_only_disk, _BESIDE | _DATABASE | _JOURNAL),
    "read-only disk beside the journal": Kind(read_only_beside, _BESIDE | _DATABASE, victims=("replica", "sequencer")),
    "clock back": Kind(clock_back, victims=("sequencer", "everything")),
    "power loss": Kind(power_loss),
    "failed sync and power loss": Kind(failed_sync_then_power, _JOURNAL),
    "full map": Kind(full_map, needs_machine=False),
    "database stopped": Kind(
        database_stopped, _DATABASE, needs_machine=False, needs_database=True, victims=("postgres",)
    ),
    "database frozen": Kind(
        database_frozen, _DATABASE, needs_machine=False, needs_database=True, victims=("postgres",)
    ),
    "database's disk fails": Kind(database_disk_fails, _DATABASE, needs_database=True),
}
POWER = ("power loss", "failed sync and power loss")


def possible(*, postgres: bool) -> list[str]:
    """Kinds of faults that a home with or without database can have on this machine."""
    return [
        name
        for name, kind in KINDS.items()
        if (postgres or not kind.needs_database) and (m.has_compiler() or not kind.needs_machine)
    ]


def strike(exchange: Exchange, machine: m.Machine | None, load: LoadProcess, fault: Fault, rng: random.Random) -> str:
    """Strike, heal, start again what gave up; a sentence that says what happened."""
    kind = KINDS[fault.kind]
    since = exchange.log.stat().st_size
    at = Struck(exchange, machine, fault, rng)
    try:
        kind.strike(at)
    finally:
        if machine is not None:
            machine.heal()
            machine.set_utc(0)
    healed_s = time.monotonic()
    if exchange.is_down() or exchange.has_ended():
        at.said.append("the exchange had ended, and was started again")
        exchange.up()
    exchange.wait(f"all is well after {fault.kind}", lambda: _well(exchange, load, at))
    # A replica that met the fault may still be on its way to its end, on a busy machine for long; one that goes on has survived.
    durable = exchange.word(b.DURABLE_SEQ)
    exchange.wait(
        f"the replica goes on after {fault.kind}",
        lambda: _well(exchange, load, at) and exchange.word(b.REPLICATED_SEQ) > durable,
    )
    exchange.excuse(since, kind.ends)
    back_s = time.monotonic() - healed_s
    epoch = exchange.word(b.EPOCH)
    return f"{fault.kind}: {', '.join(at.said) or 'done'}: well after {back_s:.2f} s, epoch {at.epoch} to {epoch}"


def _well(exchange: Exchange, load: LoadProcess, at: Struck) -> bool:
    """Whether all runs; an exchange that gave up while it was being healed is started again."""
    if exchange.has_ended():
        at.said.append("the exchange gave up, and was started again")
        exchange.up()
    return load.runs() and exchange.is_well()
