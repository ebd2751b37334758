"""Users and operators of an exchange that runs, as people register them: the commands, PostgreSQL, and nothing secret in any file."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.live.support import TIMEOUT_S, Done, cambist, cambist_here, settings_file, up


def as_operator(password: str, *arguments: str | Path, stdin: str = "") -> Done:
    """Call ``cambist`` with an operator's password in the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "cambist", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        input=stdin,
        env={**os.environ, "CAMBIST_OPERATOR_PASSWORD": password},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_two_operators_move_money_that_one_cannot_and_no_file_has_a_secret(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings_file(home, {"postgres": {"enabled": True}})

    def ok(*arguments: str | Path) -> dict[str, Any]:
        done = cambist_here(*arguments, "--home", home, "--json", "--timeout", "60")
        assert 0 == done.status, done.err
        return done.json

    with up(home):
        while not cambist_here("status", "--home", home, "--json").json["access"].get("loaded"):
            time.sleep(0.1)
        alice = ok("user", "create", "alice", "--reason", "signed up")
        sub = ok("user", "sub", "alice", "--reason", "asked")["account"]
        assert alice["account"] == ok("fee", "list", "--account", str(sub))["result"]["account"]["master"]
        groups = cambist_here("status", "--home", home, "--json").json["access"]["groups"]
        assert (True, 0) == (groups["checked"], groups["different"])
        key = ok("key", "create", "alice", "--permission", "trade", "--reason", "asked")
        ok("asset", "create", "USDT", "--reason", "new")
        passwords = {}
        for name, role in (("olga", "treasury"), ("paul", "approver")):
            made = ok("role", "create", name, "--role", role, "--reason", "employed")
            passwords[name] = f"{name} chose this one"
            changed = as_operator(
                made["password"], "role", "password", "--operator", name, "--home", home, stdin=passwords[name]
            )
            assert 0 == changed.status, changed.err
        deposit = ("deposit", "100", "USDT", "--account", "alice", "--reason", "wire", "--home", home)
        assert "SIGN_IN_NEEDED" in cambist(*deposit, "--operator", "olga").err or (
            "password of olga is needed" in cambist(*deposit, "--operator", "olga").err
        )
        proposed = as_operator(passwords["olga"], *deposit, "--operator", "olga")
        assert (1, True) == (proposed.status, "proposal 1 waits" in proposed.err)
        assert {} == ok("balance", "alice")["result"]["balances"]
        approve = ("role", "approve", "1", "--reason", "checked", "--home", home, "--json")
        assert 1 == as_operator(passwords["olga"], *approve, "--operator", "olga").status
        assert 0 == as_operator(passwords["paul"], *approve, "--operator", "paul").status
        assert "100" == ok("balance", "alice")["result"]["balances"]["USDT"]["free"]
        limits = ok("limit", "rates")["result"]
        assert ([], 10) == (limits["banned"], len(limits["rules"]))
        ended = ok("limit", "unban", "--ip", "203.0.113.7", "--reason", "ticket 12")["result"]
        assert {"who": "ip 203.0.113.7", "was_banned": False} == ended
        (event,) = ok("user", "events", "--subject", "ip 203.0.113.7")["events"]
        assert ("ban ended", "ticket 12") == (event["action"], event["reason"])
        shown = json.dumps(ok("user", "show", "alice")) + json.dumps(ok("user", "events"))
    secrets = [alice["password"], key["secret"], *passwords.values()]
    assert [] == [secret for secret in secrets if secret in shown]
    files = [path for path in home.rglob("*") if path.is_file()]
    content = {path: path.read_bytes() for path in files}
    assert [] == [path for path, data in content.items() for secret in secrets if secret.encode() in data]
    assert 0o600 == (home / "access.key").stat().st_mode & 0o777
