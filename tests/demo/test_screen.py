from pathlib import Path

import numpy as np
import pytest

from cambist.config import Config
from cambist.demo import counters, screen
from cambist.demo.screen import Screen
from cambist.home import Home
from protocol import board as words

SECOND_NS = 1_000_000_000
NOW_NS = 100 * SECOND_NS


def running() -> np.ndarray:
    board = np.zeros(words.LINES * words.LINE_WORDS, dtype=np.int64)
    for word, value in (
        (words.ENGINE_STATE, words.ENGINE_RUNNING),
        (words.SEQUENCED_SEQ, 12_350),
        (words.DURABLE_SEQ, 12_345),
        (words.VERIFIED_SEQ, 12_000),
        (words.TRADES, 700),
        (counters.BEAT_NS, NOW_NS),
        (counters.ORDERS_PER_S, 412),
        (counters.FILLS_PER_S, 77),
        (counters.ACK_P50_NS, 820_000),
        (counters.ACK_P99_NS, 2_100_000),
    ):
        board[word] = value
    return board


def test_first_screen_fits_and_has_the_endpoints_and_a_command_to_paste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    home, config = Home(tmp_path / "var"), Config()
    Screen(home, config, said.append, colour=False).ready({"processes": [{}] * 7})
    assert len(said) <= 23, "the line that says ready comes after it"
    assert max(map(len, said)) <= 160
    text = "\n".join(said)
    assert "control socket  var/run/control.sock" in text
    assert "cambist order buy 0.01 BTCUSDT --market --account alice --home var\n" in text


def test_line_of_a_second_says_what_was_traded_and_what_is_durable_and_verified() -> None:
    line = screen.second_line(running(), NOW_NS, 38)
    expected = (
        "  412 orders/s ·   38 trades/s · ack p50  820 µs p99  2.1 ms · durable lag  5 · state verified at seq 12000"
    )
    assert expected == line


def test_trades_are_counted_from_second_to_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [NOW_NS]
    monkeypatch.setattr("cambist.demo.screen.time.monotonic_ns", lambda: clock[0])
    shown = Screen(Home(tmp_path), Config(), print, colour=False)
    board = running()
    rates = []
    for trades, now_s in ((700, 100), (750, 101), (760, 103), (90, 104)):
        board[words.TRADES], clock[0] = trades, now_s * SECOND_NS
        board[counters.BEAT_NS] = clock[0]
        line = shown.second(board)
        assert line is not None
        rates.append(int(line.split(" · ")[1].split()[0]))
    assert [77, 50, 5, 77] == rates, "the bots' own count, where there is nothing to compare with"


def test_divergence_is_loud_and_nothing_is_called_verified() -> None:
    board = running()
    board[words.DIVERGED] = 1
    plain, coloured = (screen.second_line(board, NOW_NS, 0, colour=colour) for colour in (False, True))
    assert "*** STATE DIVERGED" in plain
    assert "verified at" not in plain
    assert "\x1b" not in plain
    assert "\x1b[1;37;41m STATE DIVERGED" in coloured


def test_alarms_are_shown_beside_the_rest() -> None:
    board = running()
    board[words.JOURNAL_SPACE] = board[words.CLOCK_ALARM] = 1
    line = screen.second_line(board, NOW_NS, 0)
    assert "NO DISK SPACE" in line
    assert "CLOCK" in line
    assert "state verified at seq 12000" in line


def test_silent_bots_and_a_state_not_verified_are_named() -> None:
    board = running()
    board[counters.BEAT_NS] = NOW_NS - 4 * SECOND_NS
    board[words.VERIFIED_SEQ] = 0
    assert "the bots are silent ·    2 trades/s · durable lag  5 · state not verified yet" == screen.second_line(
        board, NOW_NS, 2
    )


def test_engine_that_does_not_run_says_what_it_does() -> None:
    board = running()
    board[words.ENGINE_STATE] = words.ENGINE_RECOVERING
    assert screen.second_line(board, NOW_NS, 0) == "engine recovering · durable up to seq 12345"


def test_paths_are_relative_below_the_present_folder_and_absolute_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "a"
    below.mkdir()
    monkeypatch.chdir(below)
    assert ("b/c", str(tmp_path / "d")) == (screen.near(below / "b" / "c"), screen.near(tmp_path / "d"))
