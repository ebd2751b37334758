"""Order-flow files against the naive exchange: the recorded samples, exactly, and files that we write ourselves."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.flows import flow as flow_generator
from tests.flows import xflow2_gen
from tests.naive.exchange import Code, Type
from tests.naive.xflow import (
    Message1,
    Xflow1,
    exchange_of,
    read_bytes,
    read_xflow1,
    read_xflow2,
    run_xflow1,
    run_xflow2,
    write_xflow1,
    write_xflow2,
)


@pytest.mark.parametrize("profile", ["tight", "stp"])
def test_shared_sample_gives_every_expected_result(shared_data: Path, profile: str) -> None:
    folder = shared_data / "data" / "xflow2"
    expected = json.loads((folder / f"{profile}.json").read_text(encoding="utf-8"))
    actual = run_xflow2(folder / f"{profile}.bin.gz") | {"profile": profile}
    detail, actual_detail = expected.pop("detail"), actual.pop("detail")
    for name in detail:
        for number, (one, other) in enumerate(zip(detail[name], actual_detail[name], strict=False), 1):
            assert one == other, f"{name} {number}"
    assert detail == actual_detail
    assert expected == actual


@pytest.mark.parametrize("profile", ["tight", "stp"])
def test_shared_sample_conserves_money_after_every_message(shared_data: Path, profile: str) -> None:
    run_xflow2(shared_data / "data" / "xflow2" / f"{profile}.bin.gz", limit=4_000, check=True)


@pytest.mark.parametrize("profile", ["tight", "stp"])
def test_shared_sample_written_again_is_the_same_file(shared_data: Path, profile: str, tmp_path: Path) -> None:
    original = shared_data / "data" / "xflow2" / f"{profile}.bin.gz"
    copy = tmp_path / "copy.bin"
    history = read_xflow2(original)
    write_xflow2(copy, history)
    assert history == read_xflow2(copy)
    packed = tmp_path / "copy.bin.gz"
    write_xflow2(packed, history)
    assert history == read_xflow2(packed)
    assert read_bytes(original) == copy.read_bytes()


@pytest.mark.parametrize("workload", ["w1", "w2", "w3"])
def test_one_book_history_gives_the_generators_checkpoints(
    workload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["flow", str(tmp_path), "--n", "1500", "--seed", "7", "--only", workload])
    flow_generator.main()
    expected = json.loads((tmp_path / f"{workload}.json").read_text(encoding="utf-8"))["checkpoints"]
    assert expected == run_xflow1(tmp_path / f"{workload}.bin", [int(count) for count in expected])


def test_one_book_file_written_and_read_is_the_same(tmp_path: Path) -> None:
    history = Xflow1(1, 9, [Message1(1, 100, 5, 0, 1, 3), Message1(1, 101, 5, 3, 1, 3)])
    write_xflow1(tmp_path / "flow.bin", history)
    assert history == read_xflow1(tmp_path / "flow.bin")


def test_file_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    write_xflow1(tmp_path / "flow.bin", Xflow1(0, 1, [Message1(i, 100, 5, 0, 1, 3) for i in range(1, 9)]))
    with pytest.raises(ValueError, match=r"flow\.bin is not .* found .*XFLOW001"):
        read_xflow2(tmp_path / "flow.bin")


def test_limit_ends_the_history_at_its_checkpoint(tmp_path: Path) -> None:
    made = xflow2_gen.generate("mixed", seed=5, n=2_000)
    write_xflow2(tmp_path / "flow.bin", made.file)
    short = run_xflow2(tmp_path / "flow.bin", limit=1_000)
    assert made.expected["checkpoints"]["1000"] == short["checkpoints"]["1000"]
    assert made.expected["checkpoints"]["1000"] == {key: short[key] for key in short["checkpoints"]["1000"]}
    assert made.expected["detail"]["verdicts"][:1_000] == short["detail"]["verdicts"]


# ------------------------------------------------------------------------------------------------------------ generator


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("profile", sorted(xflow2_gen.PROFILES))
def test_generated_history_conserves_money_and_reads_back(profile: str, seed: int) -> None:
    made = xflow2_gen.generate(profile, seed, n=1_500)
    exchange = exchange_of(made.file)
    for number, record in enumerate(made.file.messages, 1):
        exchange.apply(record)
        try:
            exchange.check()
        except AssertionError as error:
            raise AssertionError(f"profile {profile}, seed {seed}, message {number}, {record}") from error
    assert made.expected["balance_hash"] == str(exchange.balance_hash())
    assert made.expected["detail"] == exchange.detail()


def test_same_arguments_give_the_same_history_and_other_seeds_another() -> None:
    one, same, other = (xflow2_gen.generate("mixed", seed, n=600) for seed in (3, 3, 4))
    assert one.expected == same.expected
    assert one.records.tobytes() == same.records.tobytes()
    assert one.records.tobytes() != other.records.tobytes()


def test_written_records_are_the_array_of_the_format(tmp_path: Path) -> None:
    made = xflow2_gen.generate("admin", seed=1, n=800)
    write_xflow2(tmp_path / "flow.bin", made.file)
    body = (tmp_path / "flow.bin").read_bytes()[-800 * xflow2_gen.RECORD.itemsize :]
    assert np.array_equal(made.records, np.frombuffer(body, dtype=xflow2_gen.RECORD))


@pytest.mark.parametrize("profile", ["admin", "mixed"])
def test_profile_with_bad_messages_meets_every_type_and_every_code(profile: str) -> None:
    made = xflow2_gen.generate(profile, seed=1, n=12_000)
    assert set(Type) == set(np.unique(made.records["type"]).tolist())
    assert {code.name for code in Code} == set(made.expected["verdicts"])


def test_ids_of_new_orders_and_holds_are_never_used_twice() -> None:
    records = xflow2_gen.generate("mixed", seed=2, n=5_000).records
    new = records["id"][np.isin(records["type"], [0, 1, 2, 7])]
    assert len(new) == len(np.unique(new))
    assert np.all(np.diff(new.astype(np.int64)) > 0)


def test_tight_profile_cancels_and_needs_the_money_at_once() -> None:
    made = xflow2_gen.generate("tight", seed=1, n=6_000)
    verdicts = made.expected["detail"]["verdicts"]
    messages = made.file.messages
    at_once = [
        number
        for number in range(1, len(messages))
        if messages[number - 1].type == Type.CANCEL
        and verdicts[number - 1][0] == Code.ACCEPTED
        and messages[number].type == Type.LIMIT
        and messages[number].account == messages[number - 1].account
    ]
    codes = [verdicts[number][0] for number in at_once]
    assert codes.count(Code.ACCEPTED) > 30
    assert codes.count(Code.INSUFFICIENT_FUNDS) > 5


def test_stp_profile_prevents_and_rich_profile_needs_products_of_128_bits() -> None:
    assert len(xflow2_gen.generate("stp", seed=1, n=5_000).expected["detail"]["stp"]) > 100
    rich = xflow2_gen.generate("rich", seed=1, n=5_000)
    largest = max(max(pair) for pair in (b for a in rich.expected["balances"].values() for b in a.values()))
    assert largest * 75_000 > 1 << 63


def test_program_writes_the_file_and_its_results(tmp_path: Path) -> None:
    out = tmp_path / "made.bin"
    root = Path(__file__).resolve().parents[2]
    command = [
        sys.executable,
        "-m",
        "tests.flows.xflow2_gen",
        str(out),
        "--seed",
        "3",
        "--profile",
        "stp",
        "--n",
        "500",
    ]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=60)
    expected = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert expected == run_xflow2(out) | {"profile": "stp"}
