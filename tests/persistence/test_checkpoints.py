"""The replica and ``verify`` against a live engine that is right, late, ahead, or wrong in one structure."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from matcher import state as m
from matcher.process import shard_spec
from persistence import verify as verifying
from persistence.checkpoints import CHECKPOINTS_FILE, STRUCTURES, Publishers, attach_publishers, keep, kept
from persistence.fused import FusedEngine, risk_spec
from persistence.journal.store import DirectoryStore
from persistence.recovery import keep_limits
from persistence.replica import Replica
from protocol import board as b
from protocol.instance import Context, Engine
from protocol.records import COMMAND_SCHEMA
from ringbuf.arena import create_arena
from ringbuf.board import private_board
from risk import state as s
from tests.engine.driver import ROOMY
from tests.engine.operators import Market, sized
from tests.persistence.journal_slots import write_batches

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)


class Exchange(NamedTuple):
    """A live engine in shared files, its journal, and a replica of it with one shard."""

    home: Path
    live: FusedEngine
    replica: Replica
    board: np.ndarray
    before: np.ndarray
    """Command slots before the checkpoint, …"""
    rest: np.ndarray
    """… and from it on."""
    seq: int

    def run(self) -> None:
        """The live engine goes on from the checkpoint; the replica applies all of the journal."""
        self.live.feed(self.rest)
        while self.replica.step():
            pass


@pytest.fixture(params=[1, 3], ids=["one-shard", "three-shards"])
def exchange(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """Orders rest, and have traded; the checkpoint comes next."""
    market = Market(7, 400)
    market.checkpoint()
    seq = int(market.groups[-1]["seq"][0])
    market.tick()
    slots = np.concatenate(market.groups)
    before, rest = slots[: seq - 1], slots[seq - 1 :]

    config = Engine(shards=request.param, limits=sized(market), rings=ROOMY)
    monkeypatch.setattr("protocol.instance.SHARED_MEMORY", tmp_path)
    context = Context(str(tmp_path), "test", 1, b.LINE_REPLICA, config)
    context.epoch_dir.mkdir(parents=True)
    keep_limits(tmp_path, config.limits)
    context.journal_dir.mkdir()
    write_batches(DirectoryStore(context.journal_dir), [slots])

    risk = create_arena(context.risk_state, risk_spec(config), COMMAND_SCHEMA, 0)
    s.reset(s.make_state(risk), config.limits)
    shards = []
    for k in range(config.shards):
        shards.append(create_arena(context.matcher_state(k), shard_spec(config), COMMAND_SCHEMA, 0))
        m.reset(m.make_state(shards[-1]), k, config.shards)
    live = FusedEngine(config, risk, shards)
    live.feed(before)

    board = private_board(b.LINES)
    board[b.EPOCH] = 1
    board[b.DURABLE_SEQ] = len(slots)
    replica = Replica(context, lambda epoch: attach_publishers(context, epoch), board)
    return Exchange(tmp_path, live, replica, board, before, rest, seq)


def resting(exchange: Exchange) -> np.ndarray:
    """The oldest resting order of some shard, in the live engine's memory."""
    orders = next(matcher.orders for matcher in reversed(exchange.live.matchers) if matcher.meta[m.ORDERS_LIVE])
    return orders[np.flatnonzero(orders["order_id"])[0] :][:1]


def test_checkpoint_of_an_engine_that_is_right_is_kept_with_every_structure(exchange: Exchange) -> None:
    exchange.run()
    assert (exchange.seq, 0) == (exchange.board[b.VERIFIED_SEQ], exchange.board[b.DIVERGED])
    (line,) = (exchange.home / CHECKPOINTS_FILE).read_text().splitlines()
    assert {"seq", *STRUCTURES} == json.loads(line).keys()
    assert {"verdicts", "outcomes", "state", "events", "books"} == set(STRUCTURES)
    result = verifying.verify(exchange.home)
    assert (True, 1) == (result["ok"], result["checkpoints"])


@pytest.mark.parametrize("field", ["left_lots", "total_lots", "price_ticks", "account"])
def test_a_book_that_was_altered_is_named(exchange: Exchange, field: str) -> None:
    order = resting(exchange)
    order[field] += 1
    with pytest.raises(RuntimeError, match=f"at checkpoint {exchange.seq}: books differ"):
        exchange.run()
    assert (0, 1) == (exchange.board[b.VERIFIED_SEQ], exchange.board[b.DIVERGED])
    assert {} == kept(exchange.home / CHECKPOINTS_FILE)


def test_a_level_in_another_order_is_named(exchange: Exchange) -> None:
    behind = [matcher.orders for matcher in exchange.live.matchers if (matcher.orders["prev"][1:] != 0).any()]
    live = np.flatnonzero((behind[0]["order_id"] != 0) & (behind[0]["prev"] != 0))
    behind[0]["prev"][live[0]] = 0
    with pytest.raises(RuntimeError, match="books differ"):
        exchange.run()


def test_a_listing_that_a_matcher_missed_is_named(exchange: Exchange) -> None:
    books = exchange.live.matchers[1 % exchange.live.engine.shards].books
    books[1]["multiplier"] = 0
    with pytest.raises(RuntimeError, match="books differ"):
        exchange.run()


def test_an_event_that_was_altered_is_named(exchange: Exchange) -> None:
    exchange.live.matchers[-1].meta[m.EVENT_HASH] ^= 1 << 40
    with pytest.raises(RuntimeError, match=": events differ"):
        exchange.run()


def test_a_balance_that_was_altered_is_not_laid_on_the_matchers(exchange: Exchange) -> None:
    exchange.live.risk.assets["fee_units"][1] += 1
    with pytest.raises(RuntimeError, match=": state differ"):
        exchange.run()


def test_checkpoint_waits_for_the_matcher_that_comes_last(exchange: Exchange) -> None:
    late = exchange.live.matchers[-1].meta
    exchange.live.feed(exchange.rest)
    late[m.CHECKPOINT_SEQ] = 0
    while exchange.replica.step():
        pass
    assert (0, 0) == (exchange.board[b.VERIFIED_SEQ], exchange.board[b.DIVERGED])
    assert exchange.board[b.REPLICATED_SEQ] > exchange.seq
    late[m.CHECKPOINT_SEQ] = exchange.seq
    assert 1 == exchange.replica.step()
    assert exchange.seq == exchange.board[b.VERIFIED_SEQ]


def test_checkpoint_that_a_matcher_has_left_behind_is_passed_over(exchange: Exchange) -> None:
    exchange.live.feed(exchange.rest)
    ahead = exchange.live.matchers[-1].meta
    ahead[m.CHECKPOINT_SEQ] = exchange.seq + 1
    ahead[m.CHECKPOINT_BOOKS_HASH] += 1
    while exchange.replica.step():
        pass
    assert (0, 0) == (exchange.board[b.VERIFIED_SEQ], exchange.board[b.DIVERGED])
    ahead[m.CHECKPOINT_SEQ] = exchange.seq
    assert 0 == exchange.replica.step()
    assert 0 == exchange.board[b.VERIFIED_SEQ]


def test_publishers_give_nothing_while_one_of_them_is_publishing(exchange: Exchange) -> None:
    exchange.live.feed(exchange.rest)
    metas = (exchange.live.risk.meta, *(matcher.meta for matcher in exchange.live.matchers))
    words = (s.CHECKPOINT_SEQ, *(m.CHECKPOINT_SEQ for _ in exchange.live.matchers))
    published = Publishers(metas[0], metas[1:])
    assert published.at(exchange.seq) is not None
    for meta, word in zip(metas, words, strict=True):
        meta[word] = 0
        assert published.at(exchange.seq) is None
        meta[word] = exchange.seq


@pytest.mark.parametrize("name", STRUCTURES)
def test_verify_names_the_structure_that_differs(exchange: Exchange, name: str) -> None:
    exchange.run()
    file = exchange.home / CHECKPOINTS_FILE
    checkpoint = json.loads(file.read_text())
    checkpoint[name] ^= 1
    file.write_text(json.dumps(checkpoint) + "\n")
    result = verifying.verify(exchange.home)
    assert (False, 1, 1) == (result["ok"], result["checkpoints"], len(result["problems"]))
    assert result["problems"][0].startswith(f"checkpoint {exchange.seq}: {name} rebuilt ")


def test_checkpoint_of_a_version_without_books_is_compared_in_what_it_has(exchange: Exchange) -> None:
    exchange.run()
    file = exchange.home / CHECKPOINTS_FILE
    checkpoint = json.loads(file.read_text())
    del checkpoint["events"], checkpoint["books"]
    file.write_text(json.dumps(checkpoint) + "\n" + '{"seq": 5, "verd')
    assert (True, 1) == (verifying.verify(exchange.home)["ok"], verifying.verify(exchange.home)["checkpoints"])


def test_line_that_was_not_finished_spoils_neither_the_file_nor_the_next_line(tmp_path: Path) -> None:
    file = tmp_path / CHECKPOINTS_FILE
    for left in (b'{"seq": 2, "st', b"\0\0\0\0", b'{"seq": 3'):
        keep(file, {"seq": 1, "state": 11})
        with file.open("ab") as torn:
            torn.write(left)
    keep(file, {"seq": 4, "state": 44})
    assert {1: {"seq": 1, "state": 11}, 4: {"seq": 4, "state": 44}} == kept(file)
