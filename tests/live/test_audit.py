"""The audit trail of an exchange that runs: operators act, auditors look, on the running home and on the stopped one."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.support import cambist, settings_file, up

pytestmark = pytest.mark.timeout(600)


def test_what_operators_did_is_in_the_chain_the_archive_and_the_database(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings_file(home, {"postgres": {"enabled": True}})

    def ok(*arguments: str) -> str:
        done = cambist(*arguments, "--home", home)
        assert 0 == done.status, (arguments, done.err)
        return done.out

    with up(home):
        for asset in ("USDT", "BTC"):
            ok("asset", "create", asset, "--reason", "new asset")
        ok(
            *(
                "instrument",
                "create",
                "BTCUSDT",
                "--base",
                "BTC",
                "--quote",
                "USDT",
                "--tick",
                "0.01",
                "--lot",
                "0.00001",
            ),
            *("--maker", "0.02%", "--taker", "0.05%", "--reason", "listing"),
        )
        for name in ("alice", "bob"):
            ok("account", "create", name, "--reason", "signed up")
        ok("deposit", "100000", "USDT", "--account", "alice", "--reason", "wire 4711", "--operator", "desk")
        ok("deposit", "2", "BTC", "--account", "bob", "--reason", "block 812", "--operator", "desk")
        ok("order", "sell", "0.5", "BTCUSDT", "--price", "60000", "--account", "bob")
        ok("order", "buy", "0.2", "BTCUSDT", "--price", "60100", "--account", "alice")
        assert (
            1
            == cambist(
                "withdraw", "hold", "9000000", "USDT", "--account", "alice", "--reason", "asked", "--home", home
            ).status
        )
        ok("instrument", "halt", "BTCUSDT", "--reason", "news")
        last = json.loads(ok("cancel-all", "--instrument", "BTCUSDT", "--json"))["result"]["seq"]

        head = _head_behind(home, last)
        records = [json.loads(line) for line in ok("audit", "ls", "--json").splitlines()]
        told = [(record["who"], record["why"], record["type"], record["outcome"]["accepted"]) for record in records]
        assert ("desk", "wire 4711", "DEPOSIT", True) in told
        assert ("news", "HALT", True) in [entry[1:] for entry in told]
        assert ("asked", "WITHDRAW_HOLD", False) in [entry[1:] for entry in told]
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
    spoiled = cambist("audit", "verify", "--home", home)
    assert 1 == spoiled.status
    assert "why is 'wire 4712', the journal gives 'wire 4711'" in spoiled.err
    chain.write_text(whole[: whole.rstrip("\n").rindex("\n") + 1])
    assert 1 == cambist("audit", "verify", "--home", home).status
    ok("audit", "rebuild")
    assert whole == chain.read_text()
    assert 0 == cambist("audit", "verify", "--head", head["hash"], "--home", home).status


def _head_behind(home: Path, seq: int) -> dict[str, str]:
    """Head of the chain once the replica has come to a command."""
    for _ in range(200):
        done = cambist("audit", "head", "--home", home, "--json")
        if done.status == 0 and done.json["seq"] >= seq:
            return done.json
        time.sleep(0.05)
    raise AssertionError(f"the replica does not come to command {seq}")
