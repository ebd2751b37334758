import os
from pathlib import Path

import numpy as np
import pytest

from ringbuf import (
    ArenaSpec,
    RingExistsError,
    RingFormatError,
    RingMissingError,
    RingSchemaError,
    RingSpaceError,
    RingTruncatedError,
    RingVersionError,
    arena_size,
    attach_arena,
    create_arena,
    private_arena,
)

ROW = np.dtype([("id", "<i8"), ("qty", "<i4"), ("pad", "<i4")])
SPEC: ArenaSpec = [("rows", ROW, 5), ("grid", "i8", (3, 7)), ("flags", "u1", 3), ("nothing", "i8", 0)]
HASH = 0xFEDC_BA98_7654_3210


def test_size_counts_padding_to_128_bytes() -> None:
    assert 128 + 256 + 128 == arena_size(SPEC)


def test_private_arrays_are_zero_aligned_and_do_not_overlap() -> None:
    arrays = private_arena(SPEC)
    assert ["rows", "grid", "flags", "nothing"] == list(arrays)
    assert [(5,), (3, 7), (3,), (0,)] == [array.shape for array in arrays.values()]
    for name in ("rows", "grid", "flags"):
        assert arrays[name].ctypes.data % 128 == 0
        assert not arrays[name].view(np.uint8).any()
    for fill, array in enumerate(arrays.values(), 1):
        array.view(np.uint8).fill(fill)
    for fill, array in enumerate(arrays.values(), 1):
        assert (array.view(np.uint8) == fill).all()


def test_attached_arrays_are_the_created_ones(tmp_path: Path) -> None:
    made = create_arena(tmp_path / "state", SPEC, HASH)
    other = attach_arena(tmp_path / "state", SPEC, HASH)
    made["rows"][4]["qty"] = 8
    made["grid"][2, 6] = -1
    assert 8 == other["rows"][4]["qty"]
    assert -1 == other["grid"][2, 6]


def test_large_arena_takes_only_what_is_touched(tmp_path: Path) -> None:
    spec: ArenaSpec = [("pool", "i8", 1 << 24)]
    arrays = create_arena(tmp_path / "state", spec, HASH, expected_bytes=1 << 20)
    arrays["pool"][1 << 23] = 1
    assert (tmp_path / "state").stat().st_blocks * 512 < 1 << 20


def test_arena_that_expects_more_than_is_free_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RingSpaceError, match="no room for the arena"):
        create_arena(tmp_path / "state", SPEC, HASH, expected_bytes=1 << 60)
    assert [] == list(tmp_path.iterdir())


def test_existing_arena_is_not_overwritten(tmp_path: Path) -> None:
    create_arena(tmp_path / "state", SPEC, HASH)["grid"][0, 0] = 3
    with pytest.raises(RingExistsError):
        create_arena(tmp_path / "state", SPEC, HASH)
    assert 3 == attach_arena(tmp_path / "state", SPEC, HASH)["grid"][0, 0]


@pytest.mark.parametrize(
    "spec",
    [
        [("rows", ROW, 6), *SPEC[1:]],
        [("lines", ROW, 5), *SPEC[1:]],
        [("rows", np.dtype([("id", "<i8"), ("price", "<i4"), ("pad", "<i4")]), 5), *SPEC[1:]],
        [SPEC[0], ("grid", "u8", (3, 7)), *SPEC[2:]],
        SPEC[:2],
    ],
)
def test_attach_with_another_specification_is_refused(tmp_path: Path, spec: ArenaSpec) -> None:
    create_arena(tmp_path / "state", SPEC, HASH)
    with pytest.raises(RingSchemaError, match="arrays of another definition"):
        attach_arena(tmp_path / "state", spec, HASH)


def test_attach_to_a_wrong_file_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(RingMissingError):
        attach_arena(path, SPEC, HASH)
    create_arena(path, SPEC, HASH)
    with pytest.raises(RingSchemaError, match="schema 0xfedcba9876543210"):
        attach_arena(path, SPEC, HASH ^ 1)
    good = path.read_bytes()
    os.truncate(path, len(good) - 1)
    with pytest.raises(RingTruncatedError):
        attach_arena(path, SPEC, HASH)
    path.write_bytes(good[:8] + b"\x02" + good[9:])
    with pytest.raises(RingVersionError):
        attach_arena(path, SPEC, HASH)
    path.write_bytes(b"z" * len(good))
    with pytest.raises(RingFormatError):
        attach_arena(path, SPEC, HASH)


def test_name_given_twice_is_refused() -> None:
    with pytest.raises(AssertionError, match="'a' is twice"):
        private_arena([("a", "i8", 1), ("a", "i8", 1)])
