"""Rounds of kills: each round is a home of its own, shot at several times under load, and looked at in the end."""

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
from tests.chaos.flow import deal

KILLS_A_ROUND = 8
RATE = 2_500
"""Slots a second of the load, on average."""
MESSAGES_A_KILL = 5_000
IN_FLIGHT_TIMEOUT_S = 1.0


class Setting(NamedTuple):
    """What a round runs on."""

    topology: str = "split"
    shards: int = 1
    jitter: int = 0
    profile: str = "tight"


SETTINGS = (
    Setting("split", 1, 0, "tight"),
    Setting("split", 3, 1, "mixed"),
    Setting("fused", 1, 0, "tight"),
    Setting("split", 3, 0, "stp"),
    Setting("split", 1, 2, "admin"),
    Setting("fused", 1, 3, "mixed"),
)


def victims(setting: Setting) -> list[str]:
    """All that can be killed; one round in the end hits most of them."""
    if setting.topology == "fused":
        engine = ["sequencer", "fused", "fused", "journal"]
    else:
        engine = ["sequencer", "risk", "journal", *(f"matcher-{k}" for k in range(setting.shards))]
    return [*engine, "replica", "control", "forkserver", *GROUP_KILLS]


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
    kills: list[str] = field(default_factory=list)
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


def run_round(name: str, setting: Setting, kills: Sequence[Kill], seed: int) -> Round:
    """Start a home, shoot at it, stop it, check it."""
    result = Round(name)
    dealt = deal(setting.profile, seed, 2_000 + MESSAGES_A_KILL * len(kills))
    with _folder(result) as folder:
        dealt.save(folder)
        exchange = Exchange(folder / "home", topology=setting.topology, shards=setting.shards, jitter=setting.jitter)
        load = LoadProcess(exchange, folder, RATE, seed)
        operator = Operator(exchange.home.path, dealt, seed)
        try:
            exchange.up()
            operator.start()
            exchange.wait("the load begins", lambda: load.runs() and exchange.word(b.DURABLE_SEQ) > dealt.setup + 200)
            for kill in kills:
                result.kills.append(_shoot(exchange, load, kill))
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
    there = max(exchange.word(b.RECOVERED_SEQ), exchange.word(b.DURABLE_SEQ))
    exchange.wait(
        f"trading goes on after killing {hit}", lambda: load.runs() and exchange.word(b.DURABLE_SEQ) > there + 20
    )
    back_s = time.monotonic() - killed_s
    about = f"{sequenced - durable} not durable, {sequenced - settled} not settled"
    return f"killed {' and '.join(hit)} ({about}): back after {back_s:.2f} s, epoch {epoch} to {exchange.word(b.EPOCH)}"


def _last_look(exchange: Exchange, result: Round) -> None:
    """All is quiet: the replica has compared a checkpoint of the last epoch; then an orderly stop leaves nothing."""
    recovered = exchange.word(b.RECOVERED_SEQ)
    if exchange.word(b.DIVERGED):
        result.wrong.append("the replica says that the live engine diverged")
    exchange.wait("the replica verifies the last epoch", lambda: exchange.word(b.VERIFIED_SEQ) > recovered, 10.0)
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


def rounds(runs: int, seed: int) -> Iterator[tuple[str, Setting, list[Kill], int]]:
    """The rounds of a campaign: so many kills, dealt out to homes of every setting."""
    rng = random.Random(seed)
    number = 0
    while runs > 0:
        setting = SETTINGS[number % len(SETTINGS)]
        count = min(KILLS_A_ROUND, runs)
        name = f"round {number + 1}: {setting.topology}, {setting.shards} shard(s), jitter {setting.jitter}, {setting.profile}"
        yield name, setting, planned(setting, count, rng), seed * 1_000 + number
        runs -= count
        number += 1
