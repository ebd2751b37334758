"""The commands that a person types, against a served socket."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cambist.cli import main
from cambist.commands.control import COMMANDS, duration_text
from protocol import board as lines
from tests.gateway.test_server import Service


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="cambist-") as folder, Service(Path(folder)) as running:
        running.board[lines.DURABLE_SEQ] = 100
        running.core.catalog.names.assign("alice", 7)
        yield running


def cambist(service: Service, *words: str) -> int:
    return main([*words, "--home", str(service.home)])


def test_an_order_is_placed_by_name_and_told_with_its_latency(service: Service, capsys) -> None:
    assert 0 == cambist(service, "order", "buy", "0.5", "BTCUSDT", "--price", "100.00", "--account", "alice")
    text = capsys.readouterr().out
    assert "resting" in text
    assert "0.5 left at 100" in text
    assert "durable in" in text


def test_json_is_one_object_on_stdout(service: Service, capsys) -> None:
    words = ["order", "sell", "0.1", "BTCUSDT", "--price", "101", "--account", "7", "--json", "--tif", "post-only"]
    assert 0 == cambist(service, *words)
    reply = json.loads(capsys.readouterr().out)
    assert (True, "sell", 7) == (reply["ok"], reply["result"]["side"], reply["result"]["account"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cancel", "5", "--instrument", "BTCUSDT", "--account", "7"], "order 5"),
        (["cancel-all", "--account", "alice"], "canceled 0 orders"),
        (["book", "BTCUSDT"], "99.99"),
        (["quote", "BTCUSDT", "0.5@99", "-", "--account", "alice"], "took 0 of 0 quotes"),
        (["protection", "BTCUSDT", "--window", "0.5", "--trades", "3", "--account", "alice"], "trades 3 in 500 ms"),
        (["protection", "BTCUSDT", "--off", "--account", "alice"], "not protected any more"),
        (["balance", "alice"], "account 7 (alice)"),
        (["orders"], "no open orders"),
        (["account", "list"], "alice"),
        (["account", "show", "7"], "open"),
        (["account", "create", "bob", "--number", "20", "--reason", "new"], "created account 20"),
        (["account", "freeze", "alice", "--reason", "why"], "froze account 7"),
        (["asset", "list"], "USDT"),
        (["asset", "create", "ETH", "--reason", "new"], "listed symbol ETH"),
        (["instrument", "list"], "BTCUSDT"),
        (["instrument", "halt", "BTCUSDT", "--reason", "news"], "halted instrument BTCUSDT"),
        (["instrument", "state", "BTCUSDT", "post-only", "--reason", "x"], "BTCUSDT is post-only"),
        (["venue", "maintenance", "--reason", "x"], "the venue is maintenance"),
        (["instrument", "fees", "BTCUSDT", "--maker=-0.01%", "--taker", "0.1%", "--reason", "x"], "set fees of"),
        (["instrument", "bands", "BTCUSDT", "--up", "10%", "--down", "10%", "--reason", "x"], "set bands of"),
        (
            ["instrument", "create", "BTC2", "--base", "BTC", "--quote", "USDT", "--tick", "0.01", "--lot", "0.001",
             "--reason", "x"],
            "listed symbol BTC2",
        ),
        (["deposit", "5", "USDT", "--account", "alice", "--reason", "x"], "account 7"),
        (["withdraw", "hold", "5", "USDT", "--account", "alice", "--reason", "x"], "hold id"),
        (["withdraw", "settle", "9", "--account", "alice", "--reason", "x"], "account 7"),
        (["adjust", "-5", "USDT", "--account", "alice", "--reason", "x"], "account 7"),
    ],
)  # fmt: skip
def test_each_command_says_what_was_done(service: Service, capsys, words: list[str], said: str) -> None:
    assert 0 == cambist(service, *words)
    assert said in capsys.readouterr().out


def test_a_refusal_is_status_1_with_name_and_text_on_stderr(service: Service, capsys) -> None:
    assert 1 == cambist(service, "order", "buy", "0.5", "BTCUSDT", "--price", "100.001", "--account", "alice")
    captured = capsys.readouterr()
    assert "" == captured.out
    assert "OFF_TICK: the price is not a multiple of the instrument's tick size" in captured.err
    assert "tick size of 0.01" in captured.err


@pytest.mark.parametrize(
    "words",
    [
        ["order", "buy", "0.5", "BTCUSDT", "--account", "7"],
        ["order", "buy", "0.5", "BTCUSDT", "--price", "1", "--by-amount", "--account", "7"],
        ["order", "hold", "0.5", "BTCUSDT", "--account", "7"],
        ["order", "buy", "0.5", "BTCUSDT", "--market"],
        ["cancel", "--account", "7"],
        ["cancel-all"],
        ["amend", "5", "--account", "7"],
        ["quote", "BTCUSDT", "0.5@99", "--account", "7"],
        ["quote", "BTCUSDT", "0.5@99", "0.5", "--account", "7"],
        ["quote", "BTCUSDT", "-", "-"],
        ["protection", "BTCUSDT", "--account", "7"],
        ["protection", "BTCUSDT", "--trades", "3", "--account", "7"],
        ["protection", "BTCUSDT", "--window", "1", "--account", "7"],
        ["protection", "BTCUSDT", "--window", "1.0001", "--trades", "3", "--account", "7"],
        ["protection", "BTCUSDT", "--window", "1", "--trades", "3", "--off", "--account", "7"],
        ["deposit", "5", "USDT", "--account", "7"],
        ["account"],
    ],
)
def test_a_wrong_command_line_is_status_2(service: Service, capsys, words: list[str]) -> None:
    assert 2 == cambist(service, *words)
    assert capsys.readouterr().err


def test_without_an_exchange_it_says_how_to_start_one(tmp_path: Path, capsys) -> None:
    assert 1 == main(["balance", "alice", "--home", str(tmp_path)])
    assert f"no exchange is running in {tmp_path}: start it with `cambist up" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, capsys) -> None:
    assert 0 == main([name, "--help"])
    assert "examples:" in capsys.readouterr().out


def test_durations_have_the_unit_that_reads_best() -> None:
    assert ["412 µs", "1.3 ms", "2.50 s"] == [duration_text(ns) for ns in (412_300, 1_310_000, 2_500_000_000)]
