"""The tour: a demo exchange under load, a matcher that is killed, and a look at every order that was acknowledged.

Nothing in the account of it is taken for granted: times are measured by this process and its client, the journal is
rebuilt and compared with each reply, and the tables of the engine that runs after the recovery are compared with both.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from cambist.config import Config
from cambist.demo import plan, setup
from cambist.home import Home
from cambist.launch import running
from cambist.report import ConsoleReporter, Reporter
from cambist.tour import lookup
from cambist.tour.client import MAKER, TAKER, TourClient, TourError
from cambist.tour.instance import Instance, Killed, Recovered
from cambist.tour.screen import screen
from gateway.control.client import ControlClient, ControlError
from persistence import verify
from persistence.fused import EngineFault
from persistence.journal.errors import JournalError
from protocol import board as words

ACCOUNTS: Final = (MAKER, TAKER)
_FUNDS: Final = {plan.QUOTE: "10000000", "BTC": "100", "ETH": "1000", "SOL": "10000"}
_REASON: Final = "tour of the demo"
_MS: Final = 1e6


def run(config: Config, home: Home | None) -> int:
    """Take the tour and show what was found.

    Parameters
    ----------
    config : Config
        ``tour`` says how; the engine and the demo that is opened are configured as for ``cambist up``.
    home : Home, optional
        The demo that runs there is used, or one is opened there for the tour; without it, in a folder that is removed.

    Returns
    -------
    int
        0 when nothing was lost, 1 when something was, or when the tour could not be taken to its end.
    """
    try:
        with _home(home) as chosen, _exchange(chosen, config) as started_s:
            found = tour(chosen, config, started_s)
            found["kept"] = home is not None
            if found["lost"] and home is None:
                found["kept"] = _keep(chosen)
    except (TourError, ControlError) as error:
        print(f"cambist demo: {error}", file=sys.stderr)
        return 1
    if config.tour.json:
        print(json.dumps(found))
    else:
        print("\n".join(screen(found)))
    for sentence in found["lost"]:
        print(f"cambist demo: {sentence}", file=sys.stderr)
    return 1 if found["lost"] else 0


def tour(home: Home, config: Config, started_s: float | None) -> dict[str, Any]:
    """Trade, kill, recover, look up: everything found, the object of ``--json``. The exchange of ``home`` runs."""
    instance, options = Instance(home), config.tour
    table = instance.table()
    path = _socket(home)
    with ControlClient(home.path, operator=plan.OPERATOR, socket_path=path) as operator:
        demo = setup.read(operator)
        numbers = {name: _account(operator, name) for name in ACCOUNTS}
        before = {name: setup.balances(operator, demo.assets, name) for name in ACCOUNTS}
    start_seq = instance.word(words.SEQUENCED_SEQ)
    client = TourClient(path, options.orders_per_s, config.demo.seed)
    began_ns, began_seq = time.monotonic_ns(), instance.word(words.SEQUENCED_SEQ)
    client.start()
    try:
        _say(f"trades for {options.load_s} s with the bots")
        _trade(client, options.load_s)
        load_per_s = round((instance.word(words.SEQUENCED_SEQ) - began_seq) * 1e9 / (time.monotonic_ns() - began_ns))
        in_flight = client.in_flight
        killed = instance.kill_matcher()
        _say(f"kill -9 {killed.name} (process {killed.pid}) at seq {killed.sequenced_seq:,}, {load_per_s:,} commands/s")
        recovered = instance.await_recovery(killed)
        _say(f"epoch {recovered.epoch} runs; trades for {options.load_s} s more")
        _trade(client, options.load_s)
    finally:
        client.stop()
    _say("looks up every acknowledgement, and verifies")
    with ControlClient(home.path, operator=plan.OPERATOR, socket_path=path) as operator:
        orders = [row for name in ACCOUNTS for row in operator.call("orders", {"account": name})["orders"]]
        after = {name: setup.balances(operator, demo.assets, name) for name in ACCOUNTS}
    rebuilt = lookup.rebuild(home.path, instance.word(words.DURABLE_SEQ), list(numbers.values()))
    rebuilt = rebuilt[rebuilt["seq"] > start_seq]
    not_as_told = lookup.not_as_told(client.told, rebuilt, demo)
    # What the gateway called unknown may rest or not.
    certain = [one for one in client.told if one.order_id not in client.unknown]
    not_resting = lookup.not_resting(
        certain, rebuilt, [row for row in orders if row["order_id"] not in client.unknown], demo
    )
    not_paid = [
        sentence
        for name, number in numbers.items()
        for sentence in lookup.not_paid(number, before[name], after[name], rebuilt, demo)
    ]
    verified = _verify(home.path)
    _tidy(home, path)
    lost = [*not_as_told, *not_resting, *not_paid, *(f"verify: {problem}" for problem in verified["problems"])]
    return {
        "ok": not lost,
        "lost": lost,
        "home": str(home.path),
        "started_s": started_s,
        "topology": table["topology"],
        "shards": table["shards"],
        "load_per_s": load_per_s,
        "killed": killed._asdict() | {"in_flight": in_flight},
        "recovered": _times(client, killed, recovered),
        "acknowledged": _counts(client, killed, rebuilt, recovered),
        "as_told": len(client.told) - len(not_as_told),
        "resting": {"due": len(lookup.resting(certain, rebuilt, demo)), "wrong": len(not_resting)},
        "balances": {"accounts": len(numbers), "wrong": len(not_paid)},
        "verify": verified,
    }


def _times(client: TourClient, killed: Killed, recovered: Recovered) -> dict[str, Any]:
    """How long what took, ms from the kill; ``silence_ms`` is the longest time without an acknowledgement."""
    told = np.array([one.told_ns for one in client.told], dtype=np.int64)
    anew = [one.told_ns for one in client.told if one.seq > recovered.seq]
    if not anew:
        raise TourError("no order was acknowledged after the recovery")
    around = told[told <= min(anew)]
    return {
        "epoch": recovered.epoch,
        "seq": recovered.seq,
        "noticed_ms": round((recovered.noticed_ns - killed.killed_ns) / _MS, 1),
        "running_ms": round((recovered.running_ns - killed.killed_ns) / _MS, 1),
        "serving_ms": round((min(anew) - killed.killed_ns) / _MS, 1),
        "silence_ms": round(float(np.diff(around).max(initial=0)) / _MS, 1),
    }


def _counts(client: TourClient, killed: Killed, rebuilt: np.ndarray, recovered: Recovered) -> dict[str, int]:
    """Acknowledgements by the side of the kill on which they were sent and came."""
    before = [one for one in client.told if one.told_ns <= killed.killed_ns]
    across = [one for one in client.told if one.sent_ns <= killed.killed_ns < one.told_ns]
    return {
        "before": len(before),
        "across": len(across),
        "after": len(client.told) - len(before) - len(across),
        "all": len(client.told),
        "refusals": sum(one.state == "rejected" for one in client.told),
        "trades": sum(len(one.fills) for one in client.told),
        "turned_away": client.turned_away,
        "unknown": len(client.unknown),
    }


def _verify(home: Path) -> dict[str, Any]:
    try:
        return verify.verify(home)
    except (JournalError, EngineFault, FileNotFoundError) as error:
        return {"ok": False, "problems": [str(error)], "last_seq": 0, "checkpoints": 0, "conserved": False}


def _trade(client: TourClient, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        client.check()
        time.sleep(0.01)


def _account(operator: ControlClient, name: str) -> int:
    """Number of the tour's account of that name: funded, and without an order in any book."""
    rows = operator.call("accounts")["accounts"]
    number = next((row["account"] for row in rows if row["name"] == name), None)
    if number is None:
        number = operator.call("create_account", {"name": name}, _REASON)["account"]
    operator.call("cancel_all", {"account": number})
    for asset, amount in _FUNDS.items():
        operator.call("deposit", {"account": number, "asset": asset, "amount": amount}, _REASON)
    return int(number)


def _tidy(home: Home, path: Path) -> None:
    """Leave no order behind: the demo may go on."""
    with ControlClient(home.path, operator=plan.OPERATOR, socket_path=path) as operator:
        for name in ACCOUNTS:
            operator.call("cancel_all", {"account": name})


@contextlib.contextmanager
def _home(home: Home | None) -> Iterator[Home]:
    if home is not None:
        yield home
        return
    folder = Path(tempfile.mkdtemp(prefix="cambist-tour-"))
    try:
        yield Home(folder / "home")
    finally:
        if not (folder / _KEPT).exists():
            shutil.rmtree(folder, ignore_errors=True)


_KEPT: Final = "lost"


def _keep(home: Home) -> bool:
    """Something was lost: the temporary home is evidence."""
    (home.path.parent / _KEPT).touch()
    return True


@contextlib.contextmanager
def _exchange(home: Home, config: Config) -> Iterator[float | None]:
    """Run a demo in ``home`` unless one runs there; seconds that its start took."""
    is_demo = home.demo_file.exists()
    if home.holder() is not None:
        if not is_demo or not any(row["name"] == "bots" for row in Instance(home).table()["processes"]):
            raise TourError(
                f"{home.path}: the exchange that runs there is no demo; the tour kills processes of demos only"
            )
        yield None
        return
    if not is_demo and any(home.journal.glob("*")):
        raise TourError(f"{home.path}: holds the journal of an exchange that is no demo; name another home, or none")
    _say("opens a demo exchange")
    settings: dict[str, Any] = config.settings("engine", "tables", "rings", "control", "replica", "demo") | {
        "up.demo": True,
        # The tour kills engines; a database follows by number whatever happens, and is not looked at.
        "postgres.enabled": False,
        "control.listen": "",
        "engine.checkpoint_interval_s": 1,
    }
    began_s = time.monotonic()
    reporter: Reporter = ConsoleReporter()
    with running(home, settings, reporter):
        yield round(time.monotonic() - began_s, 2)


def _socket(home: Home) -> Path:
    """The control socket, as the demo tells its clients."""
    try:
        return Path(json.loads(home.demo_file.read_bytes())["control"]["socket"])
    except (OSError, ValueError, KeyError) as error:
        raise TourError(f"{home.demo_file}: cannot be read ({error}); start the demo again") from error


def _say(text: str) -> None:
    print(f"tour {text} …", file=sys.stderr, flush=True)
