"""Rounds of kills and faults: each round is a home of its own, struck several times under load, and looked at in the end."""

import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cambist.launch import LaunchError
from protocol import board as b
from protocol import enums as e
from tests.chaos import check
from tests.chaos.exchange import GROUP_KILLS, ChaosError, Exchange, LoadProcess, Operator
from tests.chaos.faults import KINDS, POWER, Fault, possible, strike
from tests.chaos.flow import deal
from tests.chaos.machine import Machine, has_compiler

BLOWS_A_ROUND = 8
RATE = 2_500
"""Slots a second of the load, on average."""
MESSAGES_A_BLOW = 5_000
IN_FLIGHT_TIMEOUT_S = 1.0


class Setting(NamedTuple):
    """What a round runs on."""

    topology: str = "split"
    shards: int = 1
    jitter: int = 0
    profile: str = "tight"
    postgres: bool = False


SETTINGS = (
    Setting("split", 1, 0, "tight"),
    Setting("split", 3, 1, "mixed", postgres=True),
    Setting("fused", 1, 0, "tight"),
    Setting("split", 3, 0, "stp"),
    Setting("split", 1, 2, "admin", postgres=True),
    Setting("fused", 1, 3, "mixed"),
)
FAULT_SHARE = 0.5
"""Of what a home meets this many are faults, the others kills."""
SECOND_KILL_SHARE = 0.25


def victims(setting: Setting) -> list[str]:
    """All that can be killed; one round in the end hits most of them."""
    if setting.topology == "fused":
        engine = ["sequencer", "fused", "fused", "journal"]
    else:
        engine = ["sequencer", "risk", "journal", *(f"matcher-{k}" for k in range(setting.shards))]
    database = ["postgres", "postgres-server", "postmaster"] if setting.postgres else []
    return [*engine, "replica", "snapshot", *database, "control", "forkserver", *GROUP_KILLS]


class Kill(NamedTuple):
    """One planned kill, when ``aimed`` slots are sequenced and not durable, or not settled; ``second`` follows after ``pause_s``."""

    victim: str
    after_s: float
    aimed: int
    second: str
    pause_s: float


@dataclass
class Round:
    """What came of one home."""

    name: str
    blows: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def planned(setting: Setting, count: int, rng: random.Random, only: Sequence[str] = ()) -> list[Kill]:
    """The kills of a round."""
    pool = list(only) or victims(setting)
    chosen = rng.sample(pool, min(count, len(pool)))
    chosen += rng.choices(pool, k=count - len(chosen))
    kills = []
    for victim in chosen:
        second = rng.choice([*pool, *["recovery"] * 4]) if rng.random() < 0.35 and victim not in GROUP_KILLS else ""
        aimed = rng.choice((0, 1, 50, 200, 500))
        kills.append(
            Kill(
                victim,
                0.1 + 0.7 * rng.random(),
                aimed,
                second,
                0.0 if second == "recovery" else 0.4 * rng.random() ** 2,
            )
        )
    return kills


def planned_faults(setting: Setting, count: int, rng: random.Random) -> list[Fault]:
    """The faults of a round."""
    pool = possible(postgres=setting.postgres)
    chosen = rng.sample(pool, min(count, len(pool))) + rng.choices(pool, k=max(0, count - len(pool)))
    faults = []
    for kind in chosen:
        victims = [victim for victim in KINDS[kind].victims if setting.topology == "split" or victim != "risk"]
        victim = rng.choice(victims) if victims and rng.random() < SECOND_KILL_SHARE else ""
        faults.append(Fault(kind, 0.1 + 0.5 * rng.random(), 0.5 + 1.5 * rng.random(), victim))
    return faults


def run_round(
    name: str, setting: Setting, blows: Sequence[Kill | Fault], seed: int, messages_a_blow: int = MESSAGES_A_BLOW
) -> Round:
    """Start a home, shoot at it and strike it, stop it, check it."""
    result = Round(name)
    rng = random.Random(seed)
    dealt = deal(setting.profile, seed, 2_000 + messages_a_blow * len(blows))
    with _folder(result) as folder:
        dealt.save(folder)
        machine = Machine(folder, folder / "home") if has_compiler() else None
        if machine is not None and any(isinstance(blow, Fault) and blow.kind in POWER for blow in blows):
            machine.record()
        exchange = Exchange(
            folder / "home",
            machine,
            postgres=setting.postgres,
            topology=setting.topology,
            shards=setting.shards,
            jitter=setting.jitter,
        )
        load = LoadProcess(exchange, folder, RATE, seed)
        operator = Operator(exchange.home.path, dealt, seed)
        try:
            exchange.up()
            operator.start()
            exchange.wait("the load begins", lambda: load.runs() and exchange.word(b.DURABLE_SEQ) > dealt.setup + 200)
            for blow in blows:
                if isinstance(blow, Kill):
                    result.blows.append(_shoot(exchange, load, blow))
                else:
                    time.sleep(blow.after_s)
                    load.runs()
                    result.blows.append(strike(exchange, machine, load, blow, rng))
                    _goes_on(exchange, load, blow.kind)
            time.sleep(0.3)
            told = operator.stop()
            summary = load.finish()
            _last_look(exchange, result)
        except (ChaosError, LaunchError) as error:
            result.wrong.append(str(error))
        finally:
            operator.stop()
            load.end()
            exchange.end()
        if not result.wrong:
            result.wrong, rebuilt = check.all_of(exchange.home.path, folder, summary, told)
            if setting.postgres:
                result.wrong += check.database(exchange.home.path, rebuilt)
            result.wrong += exchange.crashes()
            result.facts = facts(rebuilt, summary, told)
    return result


@contextlib.contextmanager
def _folder(result: Round) -> Iterator[Path]:
    """A scratch folder, kept where something was wrong."""
    folder = Path(tempfile.mkdtemp(prefix="cambist-chaos-"))
    yield folder
    if result.wrong:
        result.wrong.append(f"home kept in {folder / 'home'}")
    else:
        shutil.rmtree(folder)


def _shoot(exchange: Exchange, load: LoadProcess, kill: Kill) -> str:
    """Kill, wait until all is well again and something new is durable; a sentence that says what happened."""
    time.sleep(kill.after_s)
    load.runs()
    end_s = time.monotonic() + IN_FLIGHT_TIMEOUT_S
    while True:
        durable, settled, sequenced = exchange.words(b.DURABLE_SEQ, b.SETTLED_SEQ, b.SEQUENCED_SEQ)
        if sequenced - min(durable, settled) >= kill.aimed or time.monotonic() > end_s:
            break
    epoch = exchange.word(b.EPOCH)
    hit = [exchange.kill(kill.victim)]
    killed_s = time.monotonic()
    if kill.second:
        time.sleep(kill.pause_s)
        hit.append(exchange.kill(kill.second))
    if set(hit) & set(GROUP_KILLS):
        exchange.up()
    exchange.wait(f"all is well after killing {hit}", lambda: load.runs() and exchange.is_well())
    _goes_on(exchange, load, f"killing {hit}")
    back_s = time.monotonic() - killed_s
    about = f"{sequenced - durable} not durable, {sequenced - settled} not settled"
    return f"killed {' and '.join(hit)} ({about}): back after {back_s:.2f} s, epoch {epoch} to {exchange.word(b.EPOCH)}"


def _goes_on(exchange: Exchange, load: LoadProcess, what: str) -> None:
    """Something new becomes durable."""
    there = max(exchange.word(b.RECOVERED_SEQ), exchange.word(b.DURABLE_SEQ))
    exchange.wait(f"trading goes on after {what}", lambda: load.runs() and exchange.word(b.DURABLE_SEQ) > there + 20)


def _last_look(exchange: Exchange, result: Round) -> None:
    """All is quiet: the replica has compared a checkpoint of the last epoch; then an orderly stop leaves nothing."""
    recovered = exchange.word(b.RECOVERED_SEQ)
    if exchange.word(b.DIVERGED):
        result.wrong.append("the replica says that the live engine diverged")
    exchange.wait("the replica verifies the last epoch", lambda: exchange.word(b.VERIFIED_SEQ) > recovered, 10.0)
    exchange.wait("there is a snapshot", lambda: exchange.word(b.SNAPSHOT_SEQ))
    exchange.wait("the replica follows", lambda: exchange.word(b.REPLICATED_SEQ) >= exchange.word(b.DURABLE_SEQ))
    if exchange.postgres:
        exchange.wait(
            "the database catches up", lambda: exchange.word(b.POSTGRES_SEQ) >= exchange.word(b.DURABLE_SEQ) - 10
        )
    status = exchange.stop()
    if status:
        result.wrong.append(f"the supervisor ended with status {status}")
    if exchange.home.shared.exists():
        result.wrong.append("shared memory is left")


def facts(rebuilt: check.Rebuilt, summary: dict[str, Any], told: list[dict[str, Any]]) -> dict[str, Any]:
    """How much was tried, so that a run that tried nothing shows."""
    outcomes = rebuilt.outcomes
    sources = summary["sources"].values()
    return {
        "commands": len(rebuilt.heads),
        "outcomes": len(outcomes),
        "trades": int((outcomes["kind"] == e.OUT_TRADE).sum()) // 2,
        "refusals": int((outcomes["kind"] == e.OUT_REJECTED).sum()),
        "halts of risk": int((rebuilt.heads["source"] == e.SOURCE_RISK).sum()),
        "ring full": sum(source["full"] for source in sources),
        "left to send": sum(source["left"] for source in sources),
        "operator's commands": sum(bool((reply["result"] or {}).get("seq")) for reply in told),
        "operator's unknowns": sum((reply["result"] or {}).get("state") == "unknown" for reply in told),
    }


def rounds(runs: int, seed: int) -> Iterator[tuple[str, Setting, list[Kill | Fault], int]]:
    """The rounds of a campaign: so many kills and faults, dealt out to homes of every setting."""
    rng = random.Random(seed)
    number = 0
    while runs > 0:
        setting = SETTINGS[number % len(SETTINGS)]
        count = min(BLOWS_A_ROUND, runs)
        faults = planned_faults(setting, round(count * FAULT_SHARE), rng)
        blows: list[Kill | Fault] = [*faults, *planned(setting, count - len(faults), rng)]
        rng.shuffle(blows)
        database = ", PostgreSQL" if setting.postgres else ""
        name = (
            f"round {number + 1}: {setting.topology}, {setting.shards} shard(s), jitter {setting.jitter}, "
            f"{setting.profile}{database}"
        )
        yield name, setting, blows, seed * 1_000 + number
        runs -= count
        number += 1
