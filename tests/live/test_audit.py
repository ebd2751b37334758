"""The audit trail of an exchange that runs: operators act, auditors look, on the running home and on the stopped one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.control.client import ControlClient
from persistence.audit.rebuild import rebuild
from tests.live.support import cambist_here, settings_file, up

pytestmark = pytest.mark.timeout(600)


def test_what_operators_did_is_in_the_chain_the_archive_and_the_database(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings_file(home, {"postgres": {"enabled": True}})

    def ok(*arguments: str) -> str:
        done = cambist_here(*arguments, "--home", home)
        assert 0 == done.status, (arguments, done.err)
        return done.out

    with up(home):
        with ControlClient(home, operator="office") as client:
            for asset in ("USDT", "BTC"):
                client.call("list_asset", {"symbol": asset, "scale": 8}, "new asset")
            market = {"symbol": "BTCUSDT", "base": "BTC", "quote": "USDT", "tick_size": "0.01", "lot_size": "0.00001"}
            client.call("list_instrument", market | {"maker": "0.0002", "taker": "0.0005"}, "listing")
            for name in ("alice", "bob"):
                client.call("create_account", {"name": name}, "signed up")
            client.call("deposit", {"account": "bob", "asset": "BTC", "amount": "2"}, "block 812")
            ok("deposit", "100000", "USDT", "--account", "alice", "--reason", "wire 4711", "--operator", "desk")
            for account, side, qty, price in (("bob", "sell", "0.5", "60000"), ("alice", "buy", "0.2", "60100")):
                order = {"account": account, "instrument": "BTCUSDT", "side": side, "qty": qty, "price": price}
                client.call("order", order, "by phone")
            asked = {"account": "alice", "asset": "USDT", "amount": "9000000"}
            assert not client.request("withdraw_hold", asked, "asked").ok
        replica = next(p for p in json.loads(ok("status", "--json"))["processes"] if p["name"] == "replica")
        os.kill(replica["pid"], signal.SIGKILL)
        ok("instrument", "halt", "BTCUSDT", "--reason", "news")
        last = json.loads(ok("cancel-all", "--instrument", "BTCUSDT", "--json"))["result"]["seq"]

        head = _head_behind(home, last)
        records = [json.loads(line) for line in ok("audit", "ls", "--json").splitlines()]
        told = [(record["who"], record["why"], record["type"], record["outcome"]["accepted"]) for record in records]
        assert ("desk", "wire 4711", "DEPOSIT", True) in told
        assert ("office", "asked", "WITHDRAW_HOLD", False) in told
        assert ("office", "by phone", "LIMIT", True) in told
        assert ("news", "HALT", True) in [entry[1:] for entry in told]
        assert 1 == len(ok("audit", "ls", "--type", "deposit", "--account", "alice").splitlines())
        found = json.loads(ok("audit", "verify", "--head", head["hash"], "--json"))
        assert (True, head["number"]) == (found["ok"], found["head_given"]["number"])

        archive = tmp_path / "alice"
        said = json.loads(ok("audit", "export", "--account", "alice", str(archive), "--json"))
        verified = subprocess.run(
            [sys.executable, "-I", archive / "verify_export.py", archive, "--manifest", said["manifest_sha256"]],
            capture_output=True,
            text=True,
        )
        assert 0 == verified.returncode, verified.stdout
        reconciled = json.loads(ok("reconcile", "--json"))
        assert (True, [], 0) == (reconciled["ok"], reconciled["differences"], reconciled["live"]["moving"])
        assert reconciled["live"]["balances"] >= 4

    assert json.loads(ok("reconcile", "--json"))["live"] is None
    chain = next((home / "audit").glob("*.log"))
    whole = chain.read_text()
    chain.write_text(whole.replace("wire 4711", "wire 4712"))
    spoiled = cambist_here("audit", "verify", "--home", home)
    assert 1 == spoiled.status
    assert "why is 'wire 4712', the journal gives 'wire 4711'" in spoiled.err
    rebuild(home, "audit.spoiled")
    assert whole == chain.read_text()
    assert "wire 4712" in (home / "audit.spoiled" / chain.name).read_text()


def _head_behind(home: Path, seq: int) -> dict[str, str]:
    """Head of the chain once the replica has come to a command."""
    for _ in range(200):
        done = cambist_here("audit", "head", "--home", home, "--json")
        if done.status == 0 and done.json["seq"] >= seq:
            return done.json
        time.sleep(0.05)
    raise AssertionError(f"the replica does not come to command {seq}")
