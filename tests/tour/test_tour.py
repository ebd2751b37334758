"""A tour of a running demo, and that its look-ups find what is lost or changed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from cambist.config import Config, TourSection
from cambist.demo.setup import Demo
from cambist.home import Home, HomeLock
from cambist.tour import guide, lookup
from cambist.tour.client import MAKER, TAKER, Told, TourClient
from cambist.tour.screen import screen
from protocol import enums as e
from tests.live.support import cambist, cambist_here, settings_file, up

TABLES = {
    "accounts": 64,
    "assets": 8,
    "instruments": 8,
    "orders": 1 << 12,
    "leaves": 1 << 12,
    "withdrawal_holds": 8,
    "outbox": 8,
    "timers": 4,
}
CONFIG = Config(tour=TourSection(orders_per_s=300, load_s=1, json=True))


class Toured(NamedTuple):
    """A tour, and all that it looked at."""

    home: Home
    found: dict[str, Any]
    told: list[Told]
    outcomes: np.ndarray
    demo: Demo
    orders: list[dict[str, Any]]
    paid: list[tuple[int, dict[str, int], dict[str, int]]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A demo that runs."""
    folder = tmp_path_factory.mktemp("tour") / "home"
    settings: dict[str, dict[str, Any]] = {
        "up": {"demo": True},
        "demo": {"orders_per_s": 100},
        "engine": {"checkpoint_interval_s": 1},
        "tables": TABLES,
    }
    settings_file(folder, settings)
    with up(folder) as running:
        yield running


@pytest.fixture(scope="module")
def toured(home: Home) -> Toured:
    seen: dict[str, Any] = {"paid": []}
    with pytest.MonkeyPatch.context() as patch:
        resting, paid = lookup.not_resting, lookup.not_paid

        def see_resting(*arguments: Any) -> list[str]:
            seen["told"], seen["outcomes"], seen["orders"], seen["demo"] = arguments
            return resting(*arguments)

        def see_paid(account: int, before: Any, now: Any, *rest: Any) -> list[str]:
            seen["paid"].append((account, before, now))
            return paid(account, before, now, *rest)

        patch.setattr(lookup, "not_resting", see_resting)
        patch.setattr(lookup, "not_paid", see_paid)
        found = guide.tour(home, CONFIG, None)
    return Toured(home, found, **seen)


def test_a_killed_matcher_loses_nothing_and_the_times_are_measured(toured: Toured) -> None:
    found = toured.found
    assert ([], True) == (found["lost"], found["ok"])
    assert "matcher-0" == found["killed"]["name"]
    assert found["recovered"]["epoch"] == found["killed"]["epoch"] + 1
    assert 0 < found["recovered"]["noticed_ms"] < found["recovered"]["running_ms"] <= found["recovered"]["serving_ms"]
    counts = found["acknowledged"]
    assert (
        len(toured.told) == counts["all"] == counts["before"] + counts["across"] + counts["after"] == found["as_told"]
    )
    assert min(counts["before"], counts["after"], counts["trades"], found["resting"]["due"]) > 20
    assert found["verify"]["ok"]
    assert {MAKER, TAKER} == {one.account for one in toured.told}
    assert any(one.state == "canceled" for one in toured.told)


def test_every_acknowledgement_that_the_journal_lacks_is_found(toured: Toured) -> None:
    missing = toured.told[len(toured.told) // 3]
    outcomes = toured.outcomes[toured.outcomes["seq"] != missing.seq]
    (wrong,) = lookup.not_as_told(toured.told, outcomes, toured.demo)
    assert f"{missing.op} of order {missing.order_id}, seq {missing.seq}" in wrong
    assert "LOST, the journal has no such command" in wrong


@pytest.mark.parametrize(
    ("name", "change"), [("qty_lots", 1), ("price_ticks", -1), ("fee_units", 1), ("value_units", 1)]
)
def test_a_trade_that_came_out_otherwise_is_found(toured: Toured, name: str, change: int) -> None:
    outcomes = toured.outcomes.copy()
    trade = int(np.flatnonzero(outcomes["kind"] == e.OUT_TRADE)[3])
    outcomes[name][trade] += change
    wrong = lookup.not_as_told(toured.told, outcomes, toured.demo)
    assert 1 == len(wrong)
    assert f"seq {outcomes['seq'][trade]}, acknowledged as filled" in wrong[0]


def test_an_order_missing_in_the_books_or_in_them_unasked_or_smaller_is_found(toured: Toured) -> None:
    def look(orders: list[dict[str, Any]]) -> list[str]:
        return lookup.not_resting(toured.told, toured.outcomes, orders, toured.demo)

    first, *others = toured.orders
    assert [] == look(toured.orders)
    (lost,) = look(others)
    assert f"order {first['order_id']}: LOST" in lost
    (smaller,) = look([first | {"leaves_qty": "0.0001"}, *others])
    assert f"order {first['order_id']}: should rest as" in smaller
    (unasked,) = look([*toured.orders, first | {"order_id": 7}])
    assert "order 7: is in the books and was not" in unasked


def test_an_order_that_somebody_took_since_need_not_rest(toured: Toured) -> None:
    first, *others = toured.orders
    trade = toured.outcomes[:1].copy()
    trade["kind"], trade["order_id"], trade["seq"] = e.OUT_TRADE, first["order_id"], toured.outcomes["seq"][-1] + 1
    trade["qty_lots"] = toured.demo.markets[first["instrument"]].instrument.qty_lots(first["leaves_qty"])
    outcomes = np.concatenate([toured.outcomes, trade])
    assert [] == lookup.not_resting(toured.told, outcomes, others, toured.demo)


def test_a_balance_that_is_a_unit_short_is_found(toured: Toured) -> None:
    account, before, now = toured.paid[1]
    assert [] == lookup.not_paid(account, before, now, toured.outcomes, toured.demo)
    wrong = lookup.not_paid(account, before, now | {"USDT": now["USDT"] - 1}, toured.outcomes, toured.demo)
    assert 1 == len(wrong)
    assert "USDT" in wrong[0]


def test_the_screen_says_what_was_lost_and_fits(toured: Toured) -> None:
    lines = screen(toured.found | {"kept": True})
    assert len(lines) <= 24
    assert lines[-2].split() == ["lost", "nothing"]
    lost = toured.found | {"kept": True, "lost": [f"order {n}: LOST" for n in range(9)]}
    text = "\n".join(screen(lost))
    assert "SOMETHING: 9 differences" in text
    assert "order 4: LOST" in text
    assert str(toured.home.path) in text


def test_the_program_tours_the_demo_that_runs_and_leaves_no_order(toured: Toured) -> None:
    done = cambist("demo", "tour", "--home", toured.home.path, "--seconds", "1", "--rate", "200", "--json")
    assert 0 == done.status, done.err
    assert ([], None, True) == (done.json["lost"], done.json["started_s"], done.json["kept"])
    assert toured.found["recovered"]["epoch"] + 1 == done.json["recovered"]["epoch"]
    for name in (MAKER, TAKER):
        orders = cambist_here("orders", "--account", name, "--home", toured.home.path, "--json").json
        assert [] == orders["result"]["orders"]


def test_an_acknowledged_order_that_is_nowhere_ends_the_program_with_1(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Deceived(TourClient):
        """Was told of an order that the exchange never had."""

        def stop(self) -> None:
            super().stop()
            resting = next(one for one in self.told if one.state == "resting")
            self.told.append(resting._replace(order_id=resting.order_id + (1 << 30)))

    monkeypatch.setattr(guide, "TourClient", Deceived)
    assert 1 == guide.run(CONFIG, home)
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert not found["ok"]
    assert 2 == len(found["lost"]), "it is neither in the journal nor in the book"
    assert 2 == said.err.count("LOST")


def test_an_exchange_that_is_no_demo_is_not_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path / "home")
    with HomeLock(home):
        assert 1 == guide.run(CONFIG, home)
    assert "is no demo; the tour kills processes of demos only" in capsys.readouterr().err
    (home.journal / "00000001.seg").touch()
    assert 1 == guide.run(CONFIG, home)
    assert "holds the journal of an exchange that is no demo" in capsys.readouterr().err
