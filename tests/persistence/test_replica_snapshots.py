"""The replica's snapshots: when, of which state, beside what, and what becomes of those that fail."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from persistence.audit.trail import AuditTrail, open_trail
from persistence.checkpoints import Publishers, publishers_of
from persistence.consumers import keep_position
from persistence.replica import Replica
from persistence.snapshots import SnapshotFolder, check, open_snapshot
from persistence.snapshots.keeper import ASK_FILE, Keeper
from persistence.snapshots.writer import ForkWriter, Settings
from protocol import board as b
from protocol.instance import Context
from ringbuf.board import private_board
from tests.persistence.snapshot_homes import Follower, Home, make_home

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)


class Beside:
    """A writer that works at once, or when it is let."""

    def __init__(self, *, held: bool = False) -> None:
        self.held = held
        self.began = 0
        self.abandoned = False
        self._work: Callable[[], int] | None = None
        self._status: int | None = None

    def begin(self, work: Callable[[], int]) -> None:
        self.began += 1
        self._work = work
        if not self.held:
            self._status = work()

    def poll(self) -> int | None:
        status, self._status = self._status, None
        return status

    def abandon(self) -> None:
        self.abandoned = True


class Station:
    """A home whose journal lies ready, a live engine that is fed by hand, and a replica of both."""

    def __init__(self, home: Home, settings: Settings, writer: Beside | ForkWriter) -> None:
        self.home = home
        self.live = Follower(home.config)
        self.board = private_board(b.LINES)
        self.board[b.EPOCH] = 1
        self.board[b.DURABLE_SEQ] = len(home.slots)
        context = Context(str(home.path), "test", 1, b.LINE_REPLICA, home.config)
        self.now_ns = 1_000_000_000_000
        self.keeper = Keeper(home.path, settings, self.board, writer, lambda: self.now_ns, lambda: 77)
        self.replica = Replica(context, self._attach, self.board, keeper=self.keeper)

    def _attach(self, _epoch: int) -> Publishers:
        return publishers_of(self.live.engine)

    def live_to(self, seq: int) -> None:
        """The live engine settles up to there."""
        self.live.feed(self.home.slots[self.live.engine.last_seq : seq])

    def step(self, times: int = 200) -> None:
        """Steps of the replica, as time passes."""
        for _ in range(times):
            self.now_ns += 1_000_000_000
            self.replica.step()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with three checkpoints and no snapshot."""
    home = make_home(tmp_path_factory.mktemp("replica") / "home", checkpoints=3)
    shutil.rmtree(home.folder.folder)
    return home


@pytest.fixture
def home(original: Home, tmp_path: Path) -> Home:
    """A copy of it."""
    shutil.copytree(original.path, tmp_path / "home")
    return original._replace(path=tmp_path / "home")


ALWAYS = Settings(interval_s=1e-3, keep=9, bytes_per_s=0)  # type: ignore[arg-type]
"""The market's whole time is a second or so."""
NEVER = Settings(interval_s=0, bytes_per_s=0)


def first_state(home: Home, seq: int) -> dict[str, int]:
    """Hashes of an engine at a command."""
    follower = Follower(home.config)
    follower.feed(home.slots[:seq])
    return follower.engine.hashes()


def test_a_snapshot_is_of_a_checkpoint_that_the_live_engine_agreed_with(home: Home) -> None:
    first = home.checkpoints[0]
    station = Station(home, ALWAYS, writer := Beside())
    station.live_to(first - 1)
    station.step()
    assert (0, first) == (writer.began, int(station.board[b.REPLICATED_SEQ])), "it stands at the checkpoint and waits"
    station.live_to(first)
    station.step(1)
    station.step(1)
    assert (1, first, 77) == (writer.began, station.board[b.SNAPSHOT_SEQ], station.board[b.SNAPSHOT_TS_NS])
    with open_snapshot(home.folder.path(first)) as snapshot:
        assert first_state(home, first) == snapshot.manifest.hashes
    station.live_to(len(home.slots))
    station.step()
    assert len(home.slots) == station.board[b.REPLICATED_SEQ]


def test_a_checkpoint_that_the_live_engine_has_left_behind_is_not_written(home: Home) -> None:
    station = Station(home, ALWAYS, writer := Beside())
    station.live_to(len(home.slots))
    station.step()
    assert (1, [home.checkpoints[-1]]) == (writer.began, home.folder.seqs())


def test_a_state_that_differs_is_never_written(home: Home) -> None:
    station = Station(home, ALWAYS, writer := Beside())
    station.live_to(home.checkpoints[0] - 1)
    station.live.engine.risk.assets["fee_units"][1] += 1
    station.live_to(home.checkpoints[0])
    with pytest.raises(RuntimeError, match="state differ"):
        station.step()
    assert (0, []) == (writer.began, home.folder.seqs())


def test_a_replica_begins_with_the_newest_snapshot_and_goes_on_as_before(home: Home) -> None:
    station = Station(home, ALWAYS, Beside())
    for seq in home.checkpoints:
        station.live_to(seq)
        station.step()
    again = Station(home, NEVER, Beside())
    assert home.checkpoints[-1] == again.board[b.REPLICATED_SEQ] == again.board[b.SNAPSHOT_SEQ]
    again.live_to(len(home.slots))
    again.step()
    assert len(home.slots) == again.board[b.REPLICATED_SEQ]
    assert home.hashes == again.replica._engine.hashes()
    rows = list(check.verified(home.path))
    assert [0, *home.checkpoints[:-1]] == [row["from_seq"] for row in rows]
    assert [""] * 3 == [row["problem"] for row in rows]


def test_an_operator_is_given_one_at_the_next_checkpoint(home: Home) -> None:
    station = Station(home, NEVER, writer := Beside())
    station.live_to(home.checkpoints[0])
    station.step(60)
    assert 0 == writer.began
    station = Station(home, NEVER, writer)
    (home.folder.folder / ASK_FILE).touch()
    station.step(2)
    station.live_to(home.checkpoints[0])
    station.step()
    assert (1, [home.checkpoints[0]]) == (writer.began, home.folder.seqs())
    assert not (home.folder.folder / ASK_FILE).exists()


def test_a_failure_is_an_alarm_the_replica_goes_on_and_the_next_checkpoint_tries_again(home: Home) -> None:
    settings = msgspec.structs.replace(ALWAYS, map_bytes=1 << 14)
    station = Station(home, settings, Beside())
    station.live_to(home.checkpoints[0])
    station.step()
    failures = (b.SNAPSHOT_FAILURES, b.SNAPSHOT_PROBLEM, b.SNAPSHOT_SEQ, b.SNAPSHOT_WRITING)
    assert [1, b.SNAPSHOT_MAP_FULL, 0, 0] == [station.board[word] for word in failures]
    assert [] == [*home.folder.folder.iterdir()], "nothing is left of it"
    station.live_to(home.checkpoints[1])
    station.step()
    assert 2 == station.board[b.SNAPSHOT_FAILURES]
    station.keeper.settings = ALWAYS
    station.live_to(home.checkpoints[2])
    station.step()
    assert [0, 0, home.checkpoints[2], 0] == [station.board[word] for word in failures]


def test_one_at_a_time_and_the_replica_goes_on_meanwhile(home: Home) -> None:
    station = Station(home, ALWAYS, writer := Beside(held=True))
    for seq in home.checkpoints:
        station.live_to(seq)
        station.step()
    assert (1, home.checkpoints[0]) == (writer.began, station.board[b.SNAPSHOT_WRITING])
    assert len(home.slots) == station.board[b.REPLICATED_SEQ]
    station.keeper.close()
    assert writer.abandoned


def test_a_fork_writes_the_state_of_its_checkpoint_while_the_replica_goes_on(home: Home) -> None:
    first = home.checkpoints[0]
    keep_position(home.path, "reader", 1)
    station = Station(home, ALWAYS, ForkWriter())
    station.live_to(first)
    station.replica.step()
    while not station.board[b.SNAPSHOT_WRITING]:
        station.replica.step()
    station.live_to(len(home.slots))
    while station.board[b.SNAPSHOT_SEQ] < first:
        station.step(1)
    assert station.board[b.REPLICATED_SEQ] > first
    with open_snapshot(home.folder.path(first)) as snapshot:
        assert first_state(home, first) == snapshot.manifest.hashes
    station.keeper.close()


@pytest.mark.parametrize("portion", range(0, 6, 2))
def test_a_writer_that_dies_at_any_step_leaves_nothing_that_is_read(
    home: Home, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    follower = Follower(home.config)
    follower.feed(home.slots[: home.checkpoints[0]])
    follower.write(home.folder)
    follower.feed(home.slots[home.checkpoints[0] : home.checkpoints[1]])
    monkeypatch.setattr("persistence.snapshots.file._PORTION_BYTES", 1)
    calls = {"n": 0}

    def die(*_: object) -> None:
        calls["n"] += 1
        if calls["n"] > portion * 6:
            raise KeyboardInterrupt

    monkeypatch.setattr("persistence.snapshots.file.Pace.wrote", die)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        follower.write(home.folder)
    monkeypatch.undo()
    assert [home.checkpoints[0]] == home.folder.seqs()
    assert any(path.name.endswith(".new") for path in home.folder.folder.iterdir())
    assert home.checkpoints[0] == home.recover().report.snapshot_seq
    SnapshotFolder(home.path).make()
    assert [home.folder.path(home.checkpoints[0])] == [*home.folder.folder.iterdir()]


def test_verify_of_generations_names_what_is_wrong(home: Home) -> None:
    follower = Follower(home.config)
    at = 0
    for seq in home.checkpoints:
        follower.feed(home.slots[at:seq])
        if seq == home.checkpoints[1]:
            # A state that no history leads to, but that is written and sealed as it is.
            follower.engine.risk.instruments["last_price_ticks"][1] += 1
        follower.write(home.folder)
        at = seq
    content = bytearray(home.folder.path(home.checkpoints[0]).read_bytes())
    content[100] ^= 1
    home.folder.path(home.checkpoints[0]).write_bytes(content)
    rows = list(check.verified(home.path))
    assert "damaged" in rows[0]["problem"]
    assert "instruments, state differ from a replay of the journal" in rows[1]["problem"]
    assert 0 == rows[1]["from_seq"]


def test_the_board_says_whether_the_audit_trail_follows_and_the_trail_hears_when_all_is_read(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    rested: list[int] = []
    monkeypatch.setattr(AuditTrail, "keep_when_quiet", lambda trail: rested.append(trail.passed))
    context = Context(str(home.path), "test", 1, b.LINE_REPLICA, home.config)
    board = private_board(b.LINES)
    board[b.EPOCH] = 1
    attach = partial(Station._attach, Station(home, NEVER, Beside()))
    Replica(context, attach, board)
    assert b.AUDIT_NONE == board[b.AUDIT_STATE]
    replica = Replica(context, attach, board, audit=partial(open_trail, home.path))
    assert b.AUDIT_FOLLOWS == board[b.AUDIT_STATE]
    board[b.DURABLE_SEQ] = len(home.slots)
    for _ in range(200):
        replica.step()
    assert {len(home.slots)} == set(rested), "it may keep its position when there is nothing to read"
    newest = max((home.path / "audit").glob("*.log"))
    newest.write_bytes(newest.read_bytes().replace(b'"why"', b'"whi"'))
    Replica(context, attach, board, audit=partial(open_trail, home.path))
    assert b.AUDIT_DAMAGED == board[b.AUDIT_STATE]
