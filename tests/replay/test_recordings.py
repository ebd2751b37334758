import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cambist.replay.convert import NO_ORDER
from cambist.replay.plan import Plan, RecordingError, detect, load
from cambist.replay.recordings import ACCOUNTS
from protocol import build
from protocol import enums as e

AAPL = "data/l3_nasdaq_aapl_2012-06-21"
BITSTAMP = "data/l3_bitstamp_btcusd_2015-05-01"
COINBASE = "data/l3_coinbase_btcusd_snapshot_2026-08-07"


def recorded_of(plan: Plan, order_ids: np.ndarray) -> np.ndarray:
    return plan.recorded_ids[np.searchsorted(plan.order_ids, order_ids)]


def write_commands(folder: Path, rows: list[str], clock: str = "ts_ns") -> Path:
    folder.mkdir()
    text = f"seq,{clock},cmd,order_id,side,price,qty\n" + "".join(f"{row}\n" for row in rows)
    (folder / "commands.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_the_shared_recordings_are_told_apart(shared_data: Path) -> None:
    found = [detect(shared_data / p) for p in (AAPL, BITSTAMP, COINBASE, "data/xflow2/tight.bin.gz")]
    assert ["lobster", "bitstamp", "coinbase", "xflow"] == found


def test_a_single_commands_file_is_known_by_its_clock(shared_data: Path) -> None:
    found = [detect(shared_data / p / "commands.csv.gz") for p in (AAPL, BITSTAMP)]
    assert ["lobster", "bitstamp"] == found


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8bnot gzip"])
def test_a_file_of_another_kind_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other.bin"
    file.write_bytes(content)
    with pytest.raises(RecordingError, match=r"other\.bin"):
        load(file)


def test_a_folder_without_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="holds neither"):
        load(tmp_path)


def test_aapl_becomes_one_command_a_row(shared_data: Path) -> None:
    plan = load(shared_data / AAPL)
    counts = {kind: int(np.count_nonzero(plan.commands["type"] == kind)) for kind in (e.LIMIT, e.CANCEL, e.AMEND)}
    assert {e.LIMIT: 47_660, e.CANCEL: 41_006, e.AMEND: 469} == counts
    assert 89_135 == plan.messages == len(plan.commands)
    assert 3_323 == np.count_nonzero(plan.commands["tif"] == e.IOC)


@pytest.mark.parametrize("folder", [AAPL, BITSTAMP, COINBASE])
def test_slots_are_numbered_without_a_gap_and_in_rising_time(shared_data: Path, folder: str) -> None:
    plan = load(shared_data / folder)
    slots = np.concatenate([plan.setup, plan.commands, plan.teardown])
    assert np.array_equal(np.arange(1, len(slots) + 1), slots["seq"])
    heads = build.heads(slots)
    assert np.array_equal(slots["seq"][heads], slots["source_seq"][heads])
    assert (np.diff(slots["entry_ts_ns"][heads]) >= 0).all()


@pytest.mark.parametrize("folder", [AAPL, BITSTAMP])
def test_a_cancel_or_amend_names_the_order_of_its_row_and_its_account(shared_data: Path, folder: str) -> None:
    plan = load(shared_data / folder)
    with gzip.open(shared_data / folder / "commands.csv.gz", "rt") as file:
        ids = np.array([int(line.split(",")[3]) for line in file.read().splitlines()[1:]])
    naming = (plan.commands["type"] != e.LIMIT) & (plan.commands["order_id"] != NO_ORDER)
    assert np.array_equal(ids[naming].astype(np.uint64), recorded_of(plan, plan.commands["order_id"][naming]))
    head = plan.commands["order_id"][naming] - NO_ORDER - plan.first_number
    assert np.array_equal(plan.commands["account"][head], plan.commands["account"][naming])


def test_bitstamp_cancels_of_orders_that_never_came_name_no_order(shared_data: Path) -> None:
    plan = load(shared_data / BITSTAMP)
    assert 50_003 == plan.messages
    assert 13 == np.count_nonzero(plan.commands["order_id"] == NO_ORDER)


def test_a_recordings_accounts_are_funded_for_all_their_orders_at_once(shared_data: Path) -> None:
    plan = load(shared_data / BITSTAMP)
    deposits = plan.setup[plan.setup["type"] == e.DEPOSIT]
    assert 2 * ACCOUNTS == len(deposits)
    assert sum(deposits["qty_lots"].tolist()) < 1 << 62
    orders = plan.commands[plan.commands["type"] == e.LIMIT]
    for row in deposits:
        own = orders[orders["account"] == row["account"]]
        side = own[own["side"] == (e.BUY if row["asset"] == 1 else e.SELL)]
        price = side["price_ticks"] if row["asset"] == 1 else 1
        assert int((side["qty_lots"] * price).sum()) == row["qty_lots"]


def test_a_reduction_becomes_an_amend_to_the_lower_total(tmp_path: Path) -> None:
    rows = ["1,10,N,5,1,100,30", "2,9,R,5,1,100,10", "3,11,R,5,1,100,5", "4,12,I,6,-1,100,7", "5,13,C,5,1,100,8"]
    plan = load(write_commands(tmp_path / "small", rows))
    assert "lobster" == plan.format
    got = plan.commands[["type", "side", "tif", "price_ticks", "qty_lots"]].tolist()
    first = plan.commands["order_id"][0]
    assert [first, first, first, first + 3, first] == plan.commands["order_id"].tolist()
    assert [
        (e.LIMIT, e.BUY, e.GTC, 100, 30),
        (e.AMEND, e.BUY, e.GTC, 100, 20),
        (e.AMEND, e.BUY, e.GTC, 100, 15),
        (e.LIMIT, e.SELL, e.IOC, 100, 7),
        (e.CANCEL, e.BUY, e.GTC, 0, 0),
    ] == got


def test_a_clock_that_steps_back_is_held(tmp_path: Path) -> None:
    plan = load(
        write_commands(tmp_path / "small", ["1,10,N,5,1,100,30", "2,9,N,6,1,100,10", "3,12,C,5,1,0,0"], "ts_ms")
    )
    assert [10_000_000, 10_000_000, 12_000_000] == plan.commands["entry_ts_ns"].tolist()


def test_an_unknown_command_letter_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="line 3: command 'Z'"):
        load(write_commands(tmp_path / "small", ["1,10,N,5,1,100,30", "2,9,Z,5,1,100,10"]))


def test_a_torn_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="another number of fields"):
        load(write_commands(tmp_path / "small", ["1,10,N,5,1,100,30", "2,9,R"]))


def test_a_recording_without_rows_is_a_plan_without_messages(tmp_path: Path) -> None:
    plan = load(write_commands(tmp_path / "small", []))
    assert (0, 0) == (plan.messages, len(plan.commands))
    assert len(plan.setup) > 0


def test_orders_that_no_ledger_can_fund_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="more than the ledger holds"):
        load(write_commands(tmp_path / "small", [f"1,10,N,{n},1,{1 << 31},{1 << 30}" for n in range(5)]))


def test_coinbase_is_an_opening_book_and_one_cancel_all(shared_data: Path) -> None:
    plan = load(shared_data / COINBASE)
    assert 110_606 == plan.messages == len(plan.commands)
    assert 57_419 == np.count_nonzero(plan.commands["side"] == e.BUY)
    assert [(e.CANCEL_ALL, 0, 1)] == plan.teardown[["type", "account", "instrument"]].tolist()
    assert 1 == plan.instruments[0].multiplier
    assert "60de12d8-f80b-4848-adbc-2b17375a9216" == plan.names_of_ids[0]
    assert (6_493_431, 5_362_050) == tuple(plan.commands[["price_ticks", "qty_lots"]][0])


def test_a_snapshot_with_a_price_off_tick_is_refused(tmp_path: Path) -> None:
    book = {"bids": [["1.005", "1", "a"]], "asks": [], "captured_at": "2026-08-07T20:04:10Z"}
    file = tmp_path / "l3_snapshot.json"
    file.write_text(json.dumps(book))
    with pytest.raises(RecordingError, match=r"tick size of 0\.01"):
        load(file, "coinbase")


def test_a_limit_takes_the_first_messages(shared_data: Path) -> None:
    whole = load(shared_data / AAPL)
    part = load(shared_data / AAPL, limit=1000)
    assert 1000 == part.messages == len(part.commands)
    assert np.array_equal(whole.commands[:1000], part.commands)
