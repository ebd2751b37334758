"""Users in backups: they come back as they were, into a database that has none, and not without the key that opens them."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cambist.cli import main
from gateway.access import changes, keys, store
from gateway.access.directory import Directory
from gateway.access.records import TABLES
from gateway.access.sealing import Seal, SealError
from persistence.backup import read_manifest
from persistence.postgres import users
from persistence.postgres.users import FILE, KEY_FILE, UsersError
from persistence.restore import restore_home
from tests.persistence.past_home import make_home
from tests.persistence.postgres.conftest import Postgres

KEY = b"k" * 32
SEAL = Seal(KEY)
NOW_NS = 1_760_000_000_000_000_000


def acted(dsn: str, *decisions: Callable[[Directory], changes.Change]) -> Directory:
    """The directory of a database after some acts."""

    async def scenario() -> Directory:
        db, directory = await asyncpg.connect(dsn), Directory()
        try:
            for decide in decisions:
                await store.act(db, directory, decide, actor="ann", reason="why", ts_ns=NOW_NS)
            await store.refresh(db, directory)
        finally:
            await db.close()
        return directory

    return asyncio.run(scenario())


def user(name: str, *accounts: int) -> list[Callable[[Directory], changes.Change]]:
    made = [lambda d: changes.create_user(d, name, "$argon2id$…", NOW_NS, temporary=False)]
    return made + [lambda d, a=account: changes.attach_account(d, name, a, "ä\n\"'"[:1]) for account in accounts]


def key(name: str, key_id: str) -> Callable[[Directory], changes.Change]:
    return lambda d: changes.create_key(
        *(d, name, keys.HMAC), key_id=key_id, secret=b"s3cret", permissions=("read", "trade"), networks=("10.0.0.0/8",),
        seal=SEAL, now_ns=NOW_NS,
    )  # fmt: skip


ALICE = (
    *user("alice", 1, 2),
    key("alice", "good"),
    key("alice", "leaked"),
    lambda d: changes.revoke_key(d, "leaked", NOW_NS + 1),
    lambda d: changes.restrict(d, "user", 1, ("withdraw",), "ticket", NOW_NS),
    lambda d: changes.create_operator(d, "olga", ("treasury",), "$argon2id$…", NOW_NS, temporary=True),
)


def rows(directory: Directory) -> dict[str, Any]:
    return {table: getattr(directory, table) for table in TABLES} | {"version": directory.version}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / KEY_FILE).write_bytes(KEY)
    return tmp_path


def waiting(home: Path, dsn: str) -> Path:
    data = asyncio.run(users.dump(dsn, home))
    assert data is not None
    (home / FILE).write_bytes(data)
    return home / FILE


def brought_in(dsn: str, home: Path) -> Directory:
    async def scenario() -> None:
        db = await asyncpg.connect(dsn)
        try:
            await users.bring_in(db, home)
        finally:
            await db.close()

    asyncio.run(scenario())
    return acted(dsn)


def test_users_come_back_as_they_were_and_what_was_revoked_stays_so(home: Path, postgres: Postgres) -> None:
    source, target = postgres.fresh(), postgres.fresh()
    before = acted(source, *ALICE)
    path = waiting(home, source)
    assert b"s3cret" not in path.read_bytes()
    after = brought_in(target, home)
    assert rows(before) == rows(after)
    assert after.keys["leaked"].revoked_ns
    assert b"s3cret" == SEAL.open(after.keys["good"].secret, "key good")
    assert not path.exists()
    assert rows(after) == rows(brought_in(target, home)), "there is nothing to bring in any more"
    assert before.version + 1 == acted(target, *user("bob")).version


def test_database_that_goes_on_from_the_backup_keeps_what_it_has(home: Path, postgres: Postgres) -> None:
    dsn = postgres.fresh()
    acted(dsn, *ALICE)
    waiting(home, dsn)
    newer = acted(dsn, lambda d: changes.revoke_key(d, "good", NOW_NS + 2))
    assert rows(newer) == rows(brought_in(dsn, home))
    assert not (home / FILE).exists()


def test_database_with_other_users_is_refused_and_left_alone(home: Path, postgres: Postgres) -> None:
    source, target = postgres.fresh(), postgres.fresh()
    acted(source, *ALICE)
    others = acted(target, *user("bob", 1), *user("carl", 2), *user("dora", 3), *user("emil", 4))
    path = waiting(home, source)
    with pytest.raises(UsersError, match="another history"):
        brought_in(target, home)
    assert path.exists()
    assert rows(others) == rows(acted(target))


def test_users_are_not_brought_in_without_the_key_that_sealed_their_secrets(home: Path, postgres: Postgres) -> None:
    source, target = postgres.fresh(), postgres.fresh()
    acted(source, *ALICE)
    path = waiting(home, source)
    (home / KEY_FILE).unlink()
    with pytest.raises(UsersError, match="is missing"):
        brought_in(target, home)
    (home / KEY_FILE).write_bytes(bytes(32))
    with pytest.raises(UsersError, match="another key"):
        brought_in(target, home)
    assert 0 == acted(target).version
    path.write_bytes(users.fitted(path.read_bytes(), lambda account: account == 1, without_key=True))
    found = brought_in(target, home)
    assert [1] == list(found.accounts), "what the shorter history does not have is nobody's"
    with pytest.raises(SealError, match="make new keys"):
        Seal(bytes(32)).open(found.keys["good"].secret, "key good")


def test_gateways_wait_until_the_users_are_in(home: Path, postgres: Postgres) -> None:
    (home / FILE).write_text("{}\n")
    with pytest.raises(ConnectionError, match="brought in"):
        users.dsn_of_users(home, postgres.fresh())
    (home / FILE).unlink()
    assert "postgresql://x" == users.dsn_of_users(home, "postgresql://x")


def test_backup_takes_users_along_and_fails_where_their_database_is_away(
    tmp_path: Path, postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home(tmp_path / "home", n=60).path
    for name in ("run", "log"):
        (home / name).mkdir(exist_ok=True)
    (home / KEY_FILE).write_bytes(KEY)
    dsn = postgres.fresh()
    acted(dsn, *ALICE)
    settings = tmp_path / "c.toml"

    def backup(target: str, dsn: str, *more: str) -> int:
        settings.write_text(f"[postgres]\ndsn = {json.dumps(dsn)}\n")
        return main(["backup", str(tmp_path / target), "--home", str(home), "--config", str(settings), *more])

    assert 0 == backup("b", dsn)
    assert "event 8; access.key is not in it" in capsys.readouterr().out
    manifest = read_manifest((tmp_path / "b" / "manifest.json").read_bytes(), "b")
    assert ("event 8", True, False) == (manifest.access, FILE in manifest.files, KEY_FILE in manifest.files)
    head = json.loads((tmp_path / "b" / FILE).read_text().splitlines()[0])
    assert (hashlib.sha256(KEY).hexdigest(), True) == (head["key_sha256"], head["sealed"])
    away = dsn.replace("/run", "/nowhere")
    assert 1 == backup("c", away)
    assert "the users (schema access) are missing" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
    assert 0 == backup("d", away, "--without-access")
    assert "left out" == read_manifest((tmp_path / "d" / "manifest.json").read_bytes(), "d").access
    again = tmp_path / "again"
    again.mkdir()
    restore_home(tmp_path / "b", again, None, 1)
    assert not (again / KEY_FILE).exists()
    assert 1 == main(["up", "--home", str(again)])
    assert f"{KEY_FILE} is missing" in capsys.readouterr().err
