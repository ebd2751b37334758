import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from cambist.replay.convert import NO_ORDER
from cambist.replay.plan import Plan, RecordingError, load
from cambist.replay.xflow import TYPES_2
from protocol import build
from protocol import enums as e
from protocol.records import EXT_ADMIN_SLOT
from tests.naive.exchange import InstrumentSpec, Message
from tests.naive.xflow import Message1, Xflow1, Xflow2, read_xflow2, write_xflow1, write_xflow2

SPEC = InstrumentSpec("BTCUSDT", 2, 1, 10_000, 10_000, -5, 10)


def plan_1(tmp_path: Path, *messages: Message1) -> Plan:
    file = tmp_path / "flow.bin"
    write_xflow1(file, Xflow1(n_prefill=0, seed=1, messages=list(messages)))
    return load(file)


def plan_2(tmp_path: Path, *messages: Message) -> Plan:
    file = tmp_path / "flow.bin"
    write_xflow2(file, Xflow2(0, 1, 3, ["USDT", "BTC"], [SPEC], list(messages)))
    return load(file)


def heads_of(plan: Plan) -> np.ndarray:
    return plan.commands[build.heads(plan.commands)]


def move(order: int, price: int) -> Message1:
    return Message1(order, price, 1, 3, 0, order & 15)


def new(order: int, price: int, qty: int, *, side: int = 0, ioc: bool = False) -> Message1:
    return Message1(order, price, qty, int(ioc), side, order & 15)


def test_a_move_is_an_amend_that_keeps_the_total(tmp_path: Path) -> None:
    plan = plan_1(tmp_path, new(1, 100, 5), move(1, 101))
    assert [(e.LIMIT, 100, 5), (e.AMEND, 101, 5)] == plan.commands[["type", "price_ticks", "qty_lots"]].tolist()


def test_a_move_to_the_same_price_loses_its_place_by_two_amends_of_one_message(tmp_path: Path) -> None:
    plan = plan_1(tmp_path, new(1, 100, 5), move(1, 101), move(1, 101), Message1(1, 101, 5, 2, 0, 1))
    got = plan.commands[["type", "price_ticks", "qty_lots"]].tolist()
    assert [(e.LIMIT, 100, 5), (e.AMEND, 101, 5), (e.AMEND, 101, 6), (e.AMEND, 101, 5), (e.CANCEL, 0, 0)] == got
    assert [0, 1, 2, 2, 3] == plan.to_message.tolist()
    assert 4 == plan.messages
    assert 1 == len(np.unique(plan.commands["order_id"]))


def test_a_move_or_cancel_comes_from_the_account_of_its_order(tmp_path: Path) -> None:
    plan = plan_1(tmp_path, Message1(1, 100, 5, 0, 1, 7), Message1(1, 101, 5, 3, 1, 2), Message1(1, 101, 5, 2, 1, 2))
    assert [8, 8, 8] == plan.commands["account"].tolist()
    assert 8 == plan.accounts


def test_an_immediate_order_keeps_its_side(tmp_path: Path) -> None:
    plan = plan_1(tmp_path, new(1, 100, 5, side=1, ioc=True))
    assert [(e.LIMIT, e.SELL, e.IOC)] == plan.commands[["type", "side", "tif"]].tolist()


def test_each_type_of_a_history_has_its_command(tmp_path: Path) -> None:
    plan = plan_2(
        tmp_path, *[Message(id=n + 1, price=1, qty=1, account=1, instrument=1, asset=1, type=n) for n in range(15)]
    )
    assert TYPES_2.tolist() == heads_of(plan)["type"].tolist()
    assert list(range(15)) == sorted(set(plan.to_message.tolist()))


def test_numbers_outside_the_tables_stay_outside(tmp_path: Path) -> None:
    messages = [
        Message(id=1, price=1, qty=1, account=0xFFFFFFFF, instrument=0xFFFF, type=0),
        Message(qty=1, account=0, asset=0xFFFF, type=6),
        Message(account=0, instrument=0, type=4),
    ]
    got = heads_of(plan_2(tmp_path, *messages))[["account", "instrument", "asset"]].tolist()
    assert [(4, 2, 0), (0, 0, 3), (0, 0, 0)] == got


def test_a_market_price_of_zero_stays_a_bad_price(tmp_path: Path) -> None:
    plan = plan_2(tmp_path, *[Message(id=n, price=0, qty=1, account=1, instrument=1, type=n) for n in (0, 1, 2)])
    assert [0, -1, -1] == heads_of(plan)["price_ticks"].tolist()


def test_fields_that_a_type_does_not_name_are_left_out(tmp_path: Path) -> None:
    everything = {"price": 9, "qty": 9, "account": 2, "instrument": 1, "asset": 1, "side": 7, "tif": 9, "stp": 9}
    plan = plan_2(tmp_path, Message(id=1, type=3, **everything), Message(id=2, type=13, **everything))
    names = ["account", "instrument", "asset", "price_ticks", "qty_lots", "side", "tif", "stp"]
    assert [(2, 1, 0, 0, 0, 0, 0, 0), (0, 1, 0, 0, 0, 0, 0, 0)] == heads_of(plan)[names].tolist()


def test_an_id_that_was_not_used_before_names_no_order(tmp_path: Path) -> None:
    order = Message(id=9, price=1, qty=1, account=1, instrument=1, type=0)
    cancel = Message(id=9, account=1, instrument=1, type=3)
    hold = Message(id=12, qty=1, account=1, asset=1, type=7)
    plan = plan_2(
        tmp_path, cancel, order, cancel, hold, Message(id=12, account=1, type=8), Message(id=13, account=1, type=9)
    )
    heads = heads_of(plan)
    assert [NO_ORDER, heads["order_id"][1], heads["order_id"][3], NO_ORDER] == heads["order_id"][[0, 2, 4, 5]].tolist()
    assert [9, 12] == plan.recorded_ids.tolist()


def test_money_and_operators_commands_say_who_sent_them(tmp_path: Path) -> None:
    plan = plan_2(tmp_path, Message(qty=5, account=1, asset=1, type=6), Message(account=1, type=11))
    later = plan.commands[[1, 3]].view(EXT_ADMIN_SLOT.slot_dtype)
    assert [(b"replay", b"recording flow")] * 2 == later[["operator", "reason"]].tolist()
    assert [0, 0, 1, 1] == plan.to_message.tolist()


def test_a_history_funds_its_own_accounts(shared_data: Path) -> None:
    plan = load(shared_data / "data/xflow2/tight.bin.gz")
    assert 0 == np.count_nonzero(plan.setup["type"] == e.DEPOSIT)
    assert (9, 3, 3, 20_000) == (plan.accounts, len(plan.assets), len(plan.instruments), plan.messages)


def test_every_message_of_a_sample_keeps_its_numbers(shared_data: Path) -> None:
    file = shared_data / "data/xflow2/stp.bin.gz"
    messages = read_xflow2(file).messages
    plan = load(file)
    heads = heads_of(plan)
    orders = [i for i, m in enumerate(messages) if m.type in (0, 1, 2, 7)]
    assert [messages[i].id for i in orders] == plan.recorded_ids.tolist()
    assert [m.qty for m in messages if m.type in (0, 5, 6)] == heads["qty_lots"][
        np.isin(heads["type"], (e.LIMIT, e.AMEND, e.DEPOSIT))
    ].tolist()


@pytest.mark.parametrize("cut", [4, 60, 100, 200, 2_000])
def test_a_file_cut_off_anywhere_says_so(shared_data: Path, tmp_path: Path, cut: int) -> None:
    data = gzip.decompress((shared_data / "data/xflow2/tight.bin.gz").read_bytes())
    file = tmp_path / "cut.bin"
    file.write_bytes(data[:cut])
    with pytest.raises(RecordingError, match=r"cut\.bin"):
        load(file, "xflow")


def test_another_version_is_refused(shared_data: Path, tmp_path: Path) -> None:
    data = bytearray(gzip.decompress((shared_data / "data/xflow2/tight.bin.gz").read_bytes()))
    struct.pack_into("<I", data, 8, 3)
    file = tmp_path / "newer.bin"
    file.write_bytes(bytes(data))
    with pytest.raises(RecordingError, match="version 3"):
        load(file)


def test_an_unknown_type_is_refused_with_its_record(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="record 2 has type 15, known are 0 to 14"):
        plan_2(tmp_path, Message(qty=1, account=1, asset=1, type=6), Message(type=15))
