"""A backup of an exchange that trades, restored elsewhere: what was durable is there, to the hash, and goes on as a home of its own."""

from pathlib import Path

import pytest

from cambist.home import Home
from gateway.control.client import ControlClient
from persistence.moments import Moment
from persistence.timetravel import Past
from persistence.verify import verify
from tests.live.support import cambist_here, settings_file, up
from tests.live.test_postgres import TABLES, status, until

pytestmark = pytest.mark.timeout(600)


def test_a_backup_under_load_is_the_home_as_it_was_at_its_command(tmp_path: Path) -> None:
    home, again, backup = tmp_path / "home", tmp_path / "again", tmp_path / "b.tar.zst"
    engine = {"checkpoint_interval_s": 1}
    sections = {"tables": TABLES, "engine": engine, "snapshots": {"interval_s": 1}}
    settings_file(home, sections | {"up": {"demo": True}, "demo": {"orders_per_s": 500}})
    with up(home) as running:
        until(lambda: status(running)["snapshots"]["seq"] > 0)
        before = status(running)["seqs"]["durable"]
        done = cambist_here("backup", backup, "--json", "--home", home)
        assert 0 == done.status, done.err
        made = done.json
        until(lambda: status(running)["seqs"]["durable"] > made["seq"])
        assert before <= made["seq"], "everything durable when it began is in it"
    past = Past(home)
    at = past.place(Moment(made["seq"], None, str(made["seq"])))
    assert (made["seq"], made["state_hash"]) == (at.seq, str(past.engine_at(at).hashes()["state"]))

    done = cambist_here("restore", backup, "--home", again, "--json")
    assert 0 == done.status, done.err
    restored = done.json
    assert (made["seq"], made["state_hash"]) == (restored["seq"], restored["state_hash"])
    checked = verify(again)
    assert (True, made["state_hash"]) == (checked["ok"], checked["state_hash"])

    settings_file(again, sections)
    with up(again), ControlClient(again, operator="office") as client:
        assert client.call("create_account", {"name": "newcomer"}, "moved in")
        assert made["seq"] == status(Home(again))["seqs"]["recovered"]
    headers = [Past(folder).headers[-1] for folder in (home, again)]
    assert headers[0].journal_id == headers[1].journal_id
    assert restored["history"] == headers[1].history != headers[0].history
    assert verify(again)["ok"]
