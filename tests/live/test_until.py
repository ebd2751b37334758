"""``cambist replay --until``: the state as of a command of the recording."""

import json
from pathlib import Path

import numpy as np
import pytest

from cambist.replay.plan import load
from persistence.moments import parse_moment
from persistence.timetravel import Past
from protocol import enums as e
from tests.live.support import cambist_here
from tests.persistence.past_home import make_home
from tests.replay.fused_engine import sequenced
from tests.replay.test_journals import write_home

pytestmark = pytest.mark.timeout(600)


def test_replay_of_a_home_until_a_command_has_the_state_that_it_had(tmp_path: Path, shared_data: Path) -> None:
    flow = load(shared_data / "data/xflow2/tight.bin.gz", limit=500)
    slots = sequenced(np.concatenate([flow.setup, flow.commands]))
    home = write_home(tmp_path / "home", slots)
    seq = len(slots) // 2
    past = Past(home)
    place = past.place(parse_moment(str(seq)))
    done = cambist_here("replay", home, "--until", str(seq), "--json")
    assert 0 == done.status, done.err
    due = {name: str(value) for name, value in past.engine_at(place).hashes().items()}
    assert (place.seq, due) == (done.json["last_seq"], done.json["hashes"])


def test_replay_of_a_home_takes_the_halts_of_its_circuit_breakers_once(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", n=400)
    assert (home.slots["source"] == e.SOURCE_RISK).any(), "the history has commands of risk's own"
    past = Past(home.path)
    place = past.place(parse_moment(str(len(home.slots))))
    done = cambist_here("replay", home.path, "--json")
    assert 0 == done.status, done.err
    due = {name: str(value) for name, value in past.engine_at(place).hashes().items()}
    assert due["state"] == done.json["state_hash"]


def test_replay_until_what_the_recording_does_not_have_is_refused(tmp_path: Path, shared_data: Path) -> None:
    home = make_home(tmp_path / "home", n=60)
    done = cambist_here("replay", home.path, "--until", str(len(home.slots) + 1))
    assert (2, True) == (done.status, f"goes from seq 1 to {len(home.slots)}" in done.err), done.err
    flow = shared_data / "data/xflow2/tight.bin.gz"
    done = cambist_here("replay", flow, "--until", "1000000000")
    assert (2, True) == (done.status, "have the numbers 1 to" in done.err), done.err
    done = cambist_here("replay", flow, "--until", "300", "--limit", "400", "--json")
    assert 300 == json.loads(done.out)["messages"], done.err
