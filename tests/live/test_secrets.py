"""A whole exchange, operators over TLS, and every secret that passed: none is in what it writes, and nothing is another user's to read."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cambist.home import Home
from gateway.access import totp
from gateway.control.client import ControlClient, RefusedError, Remote
from gateway.listening.settings import address_of
from persistence.postgres.cluster import Cluster, program
from tests.listening.authority import Authority
from tests.live.support import TIMEOUT_S, Done, cambist, settings_file, up

PATIENCE_S = 120.0
TABLES = {"accounts": 64, "instruments": 8, "orders": 1024, "leaves": 1024, "client_ids": 1024, "outbox": 64}


class Secrets:
    """What must be nowhere, by name; in each form in which it might be written."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def add(self, name: str, secret: str) -> str:
        """Look for a text from now on."""
        self.known[name] = secret.encode()
        return secret

    def forms(self) -> dict[bytes, str]:
        """Each form, and whose it is."""
        found = {}
        for name, data in self.known.items():
            assert len(data) >= 8, name
            forms = [data, data.hex().encode(), data.hex().upper().encode(), b"\0".join(bytes([byte]) for byte in data)]
            # Base64 of the middle of a longer text has three alignments; whole groups of each are looked for.
            parts = [base64.b64encode(data[at:])[: (len(data) - at) // 3 * 4] for at in range(3)]
            forms += [*parts, *(part.replace(b"+", b"-").replace(b"/", b"_") for part in parts)]
            found.update(dict.fromkeys((form for form in forms if len(form) >= 8), name))
        return found

    def in_(self, content: bytes) -> set[str]:
        return {name for form, name in self.forms().items() if form in content}


@pytest.fixture(autouse=True)
def usual_mask() -> Iterator[None]:
    """Most users' files can be read by all."""
    former = os.umask(0o022)
    yield
    os.umask(former)


def remotely(secrets: Secrets, home: Path, *words: str, **environment: str) -> Done:
    """Call ``cambist`` as somebody elsewhere does, and look at its command line while it runs."""
    command = [sys.executable, "-m", "cambist", *words]
    assert set() == secrets.in_("\0".join(command).encode())
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
        cwd=home.parent,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def status(home: Path) -> dict[str, Any]:
    return cambist("status", "--home", home, "--json", "--sample", "0").json


def until(home: Path, true: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    end_s = time.monotonic() + PATIENCE_S
    while not true(found := status(home)):
        assert time.monotonic() < end_s, found
        time.sleep(0.2)
    return found


def written(path: Path) -> bytes:
    """What a file holds; holes of shared memory are passed over."""
    parts, at = [], 0
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while at < end:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            file.seek(begin)
            parts.append(file.read(at - begin))
    return b"".join(parts)


def files(folder: Path) -> list[Path]:
    found = []
    for path in folder.rglob("*"):
        # The server of the database removes files as it goes.
        try:
            if stat.S_ISREG(path.lstat().st_mode):
                found.append(path)
        except FileNotFoundError:
            continue
    return found


def leaks(secrets: Secrets, folder: Path, allowed: dict[Path, set[str]]) -> dict[str, set[str]]:
    found = {}
    for path in files(folder):
        try:
            names = secrets.in_(written(path)) - allowed.get(path, set())
        except FileNotFoundError:
            continue
        if names:
            found[str(path)] = names
    return found


def open_to_others(*folders: Path) -> dict[str, str]:
    found = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue
            if not stat.S_ISLNK(mode) and mode & 0o077:
                found[str(path)] = oct(mode)
    return found


def command_lines() -> bytes:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return b"\n".join(lines)


def test_operators_elsewhere_act_over_tls_and_no_secret_is_anywhere(tmp_path: Path) -> None:
    home, secrets = tmp_path / "home", Secrets()
    authority, clients = Authority(tmp_path / "tls"), Authority(tmp_path / "clients", "clients")
    certificate, key = authority.sign("server")
    own, own_key = clients.sign("olga")
    control = {"listen": "0.0.0.0:0"}
    tls = {"certificate": str(certificate), "key": str(key), "client_ca": str(clients.ca)}
    sections: dict[str, dict[str, Any]] = {
        "postgres": {"enabled": True},
        "tables": TABLES,
        "control": control,
        "control.tls": tls,
    }
    settings_file(home, sections).chmod(0o600)
    with up(home) as running:
        until(home, lambda found: found["access"].get("loaded"))
        port = address_of(status(home)["listeners"][0]["address"]).port
        remote = Remote(address_of(f"127.0.0.1:{port}"), authority.ca, own, own_key)
        secrets.add("the database's password", Cluster(home).password())
        secrets.add("the key of the certificate", key.read_text().split("\n")[1])
        olga = _people(home, secrets, remote)
        _commands(secrets, home, port, authority, (own, own_key), olga)
        _renewal(home, authority, remote)
        exports = _exports(home, tmp_path / "out")
        told = json.dumps(status(home)) + cambist("status", "--home", home).out
        assert set() == secrets.in_(told.encode())
        assert set() == secrets.in_(command_lines())
        assert {} == leaks(secrets, running.shared, {})
        assert {} == open_to_others(home, running.shared, *exports)
        assert set() == secrets.in_(_dump(home))
        _behind(home)
    password_file = {home / "postgres.password": {"the database's password"}}
    assert {} == leaks(secrets, home, password_file)
    assert {} == {str(path): found for path in exports if (found := leaks(secrets, path, {}))}
    assert {} == open_to_others(home, *exports)
    # What looks must be able to see.
    (home / "log" / "planted").write_bytes(b'{"p": "' + base64.b64encode(b"x" + secrets.known["olga"]) + b'"}')
    assert {str(home / "log" / "planted"): {"olga"}} == leaks(secrets, home, password_file)


def _people(home: Path, secrets: Secrets, remote: Remote) -> dict[str, str]:
    """Users, keys and operators with all kinds of secrets; gives what olga signs in with: her password and recovery codes."""
    with ControlClient(home, operator="office", timeout_s=60) as owner:
        call = owner.call
        call("list_asset", {"symbol": "USDT"}, "new")
        call("create_account", {"name": "alice"}, "new")
        secrets.add("alice's first", call("user_create", {"name": "alice"}, "new")["password"])
        call("account_attach", {"user": "alice", "account": "alice"}, "new")
        secrets.add("alice's second", call("user_password", {"user": "alice"}, "asked")["password"])
        chosen = secrets.add("bob's", "bob chose this one")
        call("user_create", {"name": "bob", "password": chosen, "temporary": False}, "new")
        for kind in ("hmac", "fix", "binary"):
            made = call(
                "key_create", {"user": "alice", "kind": kind, "comp_id": "ALICE" if kind == "fix" else ""}, "new"
            )
            secrets.add(f"key {kind}", made["secret"])
        temporary = secrets.add(
            "olga's first", call("operator_create", {"name": "olga", "roles": ["treasury"]}, "new")["password"]
        )
        call("deposit", {"account": "alice", "asset": "USDT", "amount": "5"}, "wire")
    password = secrets.add("olga", "olga chose this one")
    with ControlClient(remote, operator="olga", timeout_s=60) as client:
        client.call("sign_in", {"name": "olga", "password": temporary})
        client.call("own_password", {"password": temporary, "new": password})
        client.call("sign_in", {"name": "olga", "password": password})
        secret = secrets.add("olga's authenticator", client.call("own_totp")["secret"])
        raw = base64.b32decode(secret + "=" * (-len(secret) % 8))
        secrets.known["olga's authenticator, plain"] = raw
        code = totp.code(raw, time.time_ns() // totp.STEP_NS)
        codes = client.call("own_totp", {"code": code})["recovery_codes"]
    for number, recovery in enumerate(codes):
        secrets.add(f"recovery code {number}", recovery)
    with ControlClient(remote, operator="olga", timeout_s=60) as client:
        wrong = secrets.add("a wrong password", "olga mistyped this one")
        for args in ({"password": wrong}, {"password": password, "code": "00000000"}):
            with pytest.raises(RefusedError):
                client.call("sign_in", {"name": "olga", **args})
    return {"password": password, **{f"code {n}": text for n, text in enumerate(codes)}}


def _commands(
    secrets: Secrets, home: Path, port: int, authority: Authority, own: tuple[Path, Path], olga: dict[str, str]
) -> None:
    """The command line from elsewhere: signs in with a second factor, is refused for what it may not, and believes nobody else."""
    there = {
        "CAMBIST_CONNECT": f"127.0.0.1:{port}",
        "CAMBIST_CA": str(authority.ca),
        "CAMBIST_CERTIFICATE": str(own[0]),
        "CAMBIST_KEY": str(own[1]),
        "CAMBIST_OPERATOR_PASSWORD": olga["password"],
    }
    words = ("balance", "alice", "--operator", "olga", "--timeout", "60")
    done = remotely(secrets, home, *words, **there, CAMBIST_OPERATOR_CODE=olga["code 0"])
    assert (0, True) == (done.status, "USDT" in done.out), done.err
    again = remotely(secrets, home, *words, **there, CAMBIST_OPERATOR_CODE=olga["code 0"])
    assert (1, True) == (again.status, "CODE_USED" in again.err)
    money = ("deposit", "7", "USDT", "--account", "alice", "--reason", "wire", *words[2:])
    proposed = remotely(secrets, home, *money, **there, CAMBIST_OPERATOR_CODE=olga["code 1"])
    assert (1, True) == (proposed.status, "APPROVAL_NEEDED" in proposed.err)
    elsewhere = remotely(secrets, home, *words, **{**there, "CAMBIST_CONNECT": f"127.0.0.2:{port}"})
    assert (1, True) == (elsewhere.status, "certificate is not valid for '127.0.0.2'" in elsewhere.err)
    nobody = remotely(secrets, home, *words, **{**there, "CAMBIST_CERTIFICATE": "", "CAMBIST_KEY": ""})
    assert (1, True) == (nobody.status, "--certificate and --key name one" in nobody.err or "closed" in nobody.err)
    for done in (again, proposed, elsewhere, nobody):
        assert set() == secrets.in_((done.out + done.err).encode())


def _renewal(home: Path, authority: Authority, remote: Remote) -> None:
    """An open connection goes on while the certificate is renewed; one that ends soon is an alarm."""
    with ControlClient(remote, operator="olga") as client:
        assert not client.request("status").ok
        authority.sign("server", ends_days=5)
        found = until(home, lambda found: found["alarms"].get("tls_certificate"))
        assert "server.crt: expires at " in found["listeners"][0]["certificate_problem"]
        assert "server.crt: expires at " in cambist("status", "--home", home).out
        authority.sign("server", ends_days=90)
        until(home, lambda found: "tls_certificate" not in found["alarms"] and found["listeners"][0]["renewals"] >= 2)
        assert not client.request("status").ok


def _exports(home: Path, out: Path) -> list[Path]:
    """What operators take out of an exchange, in folders of their own."""
    out.mkdir()
    assert 0 == cambist("snapshot", "take", "--home", home).status
    backup, export, audit = out / "backup", out / "commands", out / "audit"
    export.mkdir(mode=0o700)
    for words in (
        ("backup", backup),
        ("backup", export / "backup.tar.zst"),
        ("journal", "export", "--format", "csv", export / "commands.csv"),
        ("audit", "export", "--account", "1", audit),
    ):
        done = cambist(*words, "--home", home)
        assert 0 == done.status, done.err
    return [backup, export, audit]


def _dump(home: Path) -> bytes:
    """The whole database as text."""
    done = subprocess.run(
        [str(program("pg_dump")), "-h", str(home / "run"), "-U", "cambist", "cambist"],
        capture_output=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PGPASSWORD": Cluster(home).password()},
    )
    assert 0 == done.returncode, done.stderr
    assert b"olga" in done.stdout
    return done.stdout


def _behind(home: Path) -> None:
    """While the database is away, the age of what is known is an alarm, and goes when it is back."""
    server = next(row["pid"] for row in status(home)["processes"] if row["name"] == "postgres-server")
    os.kill(server, signal.SIGSTOP)
    try:
        os.kill(int((home / "postgres" / "postmaster.pid").read_text().split("\n")[0]), signal.SIGQUIT)
        found = until(home, lambda found: found["alarms"].get("access_behind"))
        assert found["alarms"]["access_behind"] >= 5000
        assert found["access"]["loaded"]
    finally:
        os.kill(server, signal.SIGCONT)
    until(home, lambda found: "access_behind" not in found["alarms"])


def test_start_is_refused_with_file_and_reason_where_the_pair_is_no_good(tmp_path: Path) -> None:
    home = tmp_path / "home"
    certificate, key = Authority(tmp_path / "tls").sign("server", begins_days=-9, ends_days=-1)
    listening = {"listen": "127.0.0.1:0"}
    tls = {"certificate": str(certificate), "key": str(key)}
    settings_file(home, {"postgres": {"enabled": True}, "control": listening, "control.tls": tls})
    for words in (("up", "--home", home), ("up", "--detach", "--home", home)):
        done = cambist(*words)
        assert (1, True) == (done.status, f"control.tls: {certificate}: expired at " in done.err), done.err
    assert not Home(home).shared.exists()
    settings_file(home, {"postgres": {"enabled": True}, "control": {"listen": "0.0.0.0:0"}})
    done = cambist("up", "--detach", "--home", home)
    assert (2, True) == (done.status, "say plain_text = true" in done.err)
