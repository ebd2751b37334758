"""Snapshots: a state written and read back goes on as though nothing had been, with any number of shards, and damage is found."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.state import EVENT_POSITION
from persistence.snapshots import SnapshotError, SnapshotFolder, open_snapshot, restore, zero_state
from persistence.snapshots.chunks import CHUNK_WORDS, decode_chunk, encode_chunks
from persistence.snapshots.file import describe, described
from persistence.snapshots.state import RISK
from protocol.instance import Engine, Limits
from protocol.records import OUTCOME_DTYPE
from risk import state as s
from tests.engine.driver import ROOMY, TINY
from tests.engine.operators import sized
from tests.persistence.snapshot_homes import Follower, history

# The first test may have to compile all kernels.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("seed", range(10))
def test_replay_after_a_snapshot_is_replay_from_the_beginning_whatever_the_number_of_shards(
    seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    market, slots, checkpoints = history(seed, 900)
    seq, limits, shards = rng.choice(checkpoints), sized(market), rng.choice((1, 2, 3))
    whole = Follower(Engine(shards=shards, limits=limits, rings=rng.choice((ROOMY, TINY))))
    whole.feed(slots[:seq])
    path = whole.write(SnapshotFolder(tmp_path))
    whole.outcomes.clear()
    whole.feed(slots[seq:])
    for other in (1, 2, 3):
        with open_snapshot(path) as snapshot:
            part = Follower(Engine(shards=other, limits=limits, rings=ROOMY), snapshot)
        part.feed(slots[seq:])
        assert whole.engine.hashes() == part.engine.hashes(), f"seed {seed}, {shards} shards, then {other}"
        for name, array in whole.lanes.members().items():
            assert array.tolist() == part.lanes.members()[name].tolist()
        assert np.concatenate(whole.outcomes).tobytes() == np.concatenate(part.outcomes).tobytes()
        assert 0 == part.engine.unbalanced_asset()
        for word in (s.CHECKPOINT_SEQ, s.OUTCOMES, s.TRADES, s.REFUSALS, s.FINISHED):
            assert whole.engine.risk.meta[word] == part.engine.risk.meta[word]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Path]:
    """A small snapshot and the engine's configuration."""
    market, slots, _ = history(5, 300)
    follower = Follower(Engine(shards=2, limits=sized(market), rings=TINY))
    follower.feed(slots)
    return follower.engine.engine, follower.write(SnapshotFolder(tmp_path_factory.mktemp("home")))


def test_a_byte_changed_anywhere_is_found_before_anything_is_loaded(taken: tuple[Engine, Path], tmp_path: Path) -> None:
    content = taken[1].read_bytes()
    path = tmp_path / taken[1].name
    places = [*range(0, len(content), 509), *range(len(content) - 24, len(content))]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(SnapshotError, match=r"damaged|cut short|format"):
            open_snapshot(path)


def test_a_file_cut_short_or_grown_is_found(taken: tuple[Engine, Path], tmp_path: Path) -> None:
    content = taken[1].read_bytes()
    path = tmp_path / taken[1].name
    for size in (0, 1, 23, 24, 25, 4096, len(content) // 2, len(content) - 24, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(SnapshotError, match=r"damaged|cut short|never finished"):
            open_snapshot(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(SnapshotError, match="cut short"):
        open_snapshot(path)


def test_what_was_loaded_otherwise_than_written_names_the_structure(taken: tuple[Engine, Path]) -> None:
    config, path = taken
    with open_snapshot(path) as snapshot:
        state = zero_state(config)
        state.risk["balances"][-s.BALANCE_WORDS + s.FREE] = 5
        with pytest.raises(SnapshotError, match=r"not what was written: balances, state differ"):
            restore(snapshot, config, state)


def test_tables_of_other_sizes_are_refused_by_name(taken: tuple[Engine, Path]) -> None:
    config, path = taken
    other = Engine(limits=Limits(accounts=config.limits.accounts + 1), rings=ROOMY)
    with open_snapshot(path) as snapshot, pytest.raises(SnapshotError, match=r"made with other \[tables\].*accounts"):
        restore(snapshot, other, zero_state(config))


def test_fields_of_a_later_version_are_zero_and_those_it_dropped_are_passed_over(taken: tuple[Engine, Path]) -> None:
    with open_snapshot(taken[1]) as snapshot:
        stored = snapshot.array(RISK, "assets")
        later = np.dtype([("net_deposits_units", "<i8"), ("new", "<i4"), ("fee_units", "<i8"), ("status", "u1")])
        assets = np.zeros(len(stored) + 3, dtype=later)
        snapshot.load(RISK, {"assets": assets})
    for name in ("net_deposits_units", "fee_units", "status"):
        assert stored[name].tolist() == assets[name][: len(stored)].tolist()
    assert not assets["new"].any()
    assert stored["net_deposits_units"].any()


def test_rows_that_do_not_fit_are_refused(taken: tuple[Engine, Path]) -> None:
    with open_snapshot(taken[1]) as snapshot:
        rows = np.zeros(len(snapshot.array(RISK, "assets")) - 1, dtype=s.ASSET_DTYPE)
        with pytest.raises(SnapshotError, match=r"risk\.assets has rows"):
            snapshot.load(RISK, {"assets": rows})


@pytest.mark.parametrize("dtype", [np.dtype("<i8"), np.dtype("<u4"), s.HOLD_DTYPE, s.ASSET_DTYPE, OUTCOME_DTYPE])
def test_a_dtype_is_what_its_description_says(dtype: np.dtype) -> None:
    assert dtype == described(describe(dtype))


@given(st.integers(0, 1 << 32), st.integers(1, 3 * CHUNK_WORDS), st.floats(0, 1), st.integers(0, 7))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_chunks_give_back_any_array(seed: int, words: int, share: float, odd_bytes: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-(1 << 63), 1 << 63, size=words, dtype=np.int64)
    values[rng.random(words) >= share] = 0
    array = values.view(np.uint8)[: 8 * words - odd_bytes].copy()
    found = np.zeros_like(array)
    for number, chunk in encode_chunks(array):
        decode_chunk(number, chunk, found)
    assert array.tobytes() == found.tobytes()


def test_chunks_of_zeros_take_no_bytes() -> None:
    array = np.zeros(2 * CHUNK_WORDS + 5, dtype=np.int64)
    assert [] == list(encode_chunks(array))
    array[CHUNK_WORDS + 7] = -1
    ((number, chunk),) = encode_chunks(array)
    assert (1, 24) == (number, len(chunk))


@pytest.mark.parametrize("chunk", [b"", b"\x01", b"\x01" + bytes(7), b"\x02\x05" + bytes(6), b"\x07" + bytes(15)])
def test_a_chunk_that_does_not_fit_is_refused(chunk: bytes) -> None:
    with pytest.raises(SnapshotError, match="chunk 0"):
        decode_chunk(0, chunk, np.zeros(4, dtype=np.int64))


def test_words_that_became_zero_again_are_zero_after_a_load(tmp_path: Path) -> None:
    """Row 0 freed first: the head of the free list is a word that is zero, and empty tables begin with another value."""
    for seed in range(40):
        market, slots, _ = history(seed, 150)
        follower = Follower(Engine(limits=sized(market), rings=ROOMY))
        follower.feed(slots)
        if follower.engine.risk.meta[s.HOLD_FREE] == 0:
            break
    else:
        raise AssertionError("no history frees row 0 last")
    with open_snapshot(follower.write(SnapshotFolder(tmp_path))) as snapshot:
        loaded = Follower(follower.engine.engine, snapshot)
    for one, other in (
        (follower.engine.risk, loaded.engine.risk),
        (follower.engine.matchers[0], loaded.engine.matchers[0]),
    ):
        assert one.meta[:EVENT_POSITION].tolist() == other.meta[:EVENT_POSITION].tolist()
    assert follower.engine.risk.meta.tolist() == loaded.engine.risk.meta.tolist()
