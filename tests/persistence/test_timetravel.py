"""Past states against an engine that was fed the same commands, and nothing else."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cambist.cli import main
from matcher.views import book_summary, resting_orders
from persistence.moments import Moment, iso_time, parse_moment
from persistence.timetravel import NotInHistory, Past
from protocol import enums as e
from protocol import reasons as r
from protocol.records import EXT_IDS_SLOT
from risk import state as s
from tests.persistence.past_home import PastHome, answer, make_home

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> PastHome:
    return make_home(tmp_path_factory.mktemp("past") / "home")


@pytest.fixture(scope="module")
def outcomes(home: PastHome) -> np.ndarray:
    return home.outcomes()


@pytest.fixture(scope="module")
def makers(tmp_path_factory: pytest.TempPathFactory) -> PastHome:
    """A home whose market has quotes."""
    return make_home(tmp_path_factory.mktemp("makers") / "home", n=500, access=True)


# --- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seq", "ts_ns"),
    [
        ("15453", 15453, None),
        ("1795342530250000001", None, 1795342530250000001),
        ("34200000000000ns", None, 34200000000000),
        ("2026-11-22T10:15:30.25Z", None, 1795342530250000000),
        ("2026-11-22T10:15:30.250000001", None, 1795342530250000001),
        ("2026-11-22T12:15:30+02:00", None, 1795342530000000000),
        ("2026-11-22 10:15:30", None, 1795342530000000000),
        ("2026-11-22", None, 1795305600000000000),
    ],
)
def test_moment_is_a_seq_or_a_time(text: str, seq: int | None, ts_ns: int | None) -> None:
    assert Moment(seq, ts_ns, text) == parse_moment(text)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "-5", "1.5", "2026-13-01", "12:00", "2026-11-22T10:15:30.1234567890Z"]
)
def test_what_is_no_moment_is_refused_with_what_may_stand_there(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_moment(text)


def test_iso_time_reads_back_to_the_nanosecond() -> None:
    for ts_ns in (0, 1, 999_999_999, 1795342530250000001):
        assert ts_ns == parse_moment(iso_time(ts_ns)).ts_ns


# --- places -----------------------------------------------------------------------------------------------------------


def test_seq_inside_a_group_is_the_end_of_the_group(home: PastHome) -> None:
    past = Past(home.path)
    assert len(home.slots) == past.last_seq
    for seq in random.Random(1).sample(range(1, len(home.slots) + 1), 60):
        end = int(home.ends[np.searchsorted(home.ends, seq)])
        place = past.place(parse_moment(str(seq)))
        assert (end, int(home.slots["ts_ns"][end - 1])) == (place.seq, place.ts_ns)


def test_time_is_the_last_command_at_or_before_it(home: PastHome) -> None:
    past = Past(home.path)
    for at in random.Random(2).sample(range(len(home.slots)), 30):
        ts_ns = int(home.slots["ts_ns"][at])
        for delta in (-1, 0, 1):
            due = int(np.searchsorted(home.slots["ts_ns"], ts_ns + delta, side="right"))
            if due:
                assert due == past.place(Moment(None, ts_ns + delta, "t")).seq
    assert len(home.slots) == past.place(Moment(None, 1 << 62, "t")).seq


@pytest.mark.parametrize("text", ["0", "100000000", "1000-01-01", "1970-01-01"])
def test_moment_outside_of_the_history_is_refused_with_its_range(home: PastHome, text: str) -> None:
    past = Past(home.path)
    with pytest.raises(NotInHistory, match=rf"from seq 1 \(2023-11-14T.*\) to seq {len(home.slots)} "):
        past.place(parse_moment(text))


# --- states -----------------------------------------------------------------------------------------------------------


def test_state_at_any_command_is_that_of_an_engine_that_was_fed_up_to_it(home: PastHome) -> None:
    past = Past(home.path)
    for seq in [*random.Random(3).sample(home.ends.tolist(), 5), len(home.slots)]:
        assert home.engine_at(seq).hashes() == past.engine_at(past.place(parse_moment(str(seq)))).hashes()


def test_book_has_each_order_in_its_priority(home: PastHome) -> None:
    past = Past(home.path)
    place = past.place(None)
    engine = home.engine_at(place.seq)
    compared = 0
    for number in np.flatnonzero(engine.risk.instruments["status"]).tolist():
        symbol = engine.risk.instruments[number]["symbol"].decode()
        book = past.book(symbol, place, orders=True)
        matcher: Any = engine.matchers[0]
        for name, side in (("bids", e.BUY), ("asks", e.SELL)):
            resting = resting_orders(matcher, number, side)
            queues = [
                (level["price_ticks"], one["order_id"], one["qty_lots"])
                for level in book[name]
                for one in level["queue"]
            ]
            due = [(int(o["price_ticks"]), int(o["order_id"]), int(o["left_lots"])) for o in resting]
            assert due == queues
            sums = Counter[int]()
            for price, _, lots in due:
                sums[price] += lots
            assert sums == Counter({level["price_ticks"]: level["qty_lots"] for level in book[name]})
            compared += len(due)
        summary = book_summary(matcher, number)
        assert summary.orders == book["bid_totals"]["orders"] + book["ask_totals"]["orders"]
        assert (summary.bid_qty, summary.ask_levels) == (book["bid_totals"]["qty_lots"], book["ask_totals"]["levels"])
        assert [level["price_ticks"] for level in book["asks"]][:1] == [
            level["price_ticks"] for level in past.book(symbol, place, 1)["asks"]
        ]
    assert compared > 10, "the history leaves orders in the books"


def test_account_has_its_balances_orders_and_holds(home: PastHome) -> None:
    past = Past(home.path)
    for seq in (len(home.slots) // 2, len(home.slots)):
        place = past.place(parse_moment(str(seq)))
        engine = home.engine_at(place.seq)
        holds = engine.risk.holds[engine.risk.holds["state"] == e.HOLD_LIVE]
        withdrawals = engine.risk.withdrawals[engine.risk.withdrawals["hold_id"] != 0]
        for account in np.flatnonzero(engine.risk.accounts["status"]).tolist():
            shown = past.account(account, place)
            for number in np.flatnonzero(engine.risk.assets["status"]).tolist():
                row = (account * len(engine.risk.assets) + number) * s.BALANCE_WORDS
                symbol = engine.risk.assets[number]["symbol"].decode()
                free, locked, changed = (int(engine.risk.balances[row + w]) for w in (s.FREE, s.LOCKED, s.ROW_SEQ))
                if changed:
                    balance = shown["balances"][symbol]
                    assert (free, locked, free + locked) == tuple(
                        balance[name] for name in ("free_units", "locked_units", "total_units")
                    )
                else:
                    assert symbol not in shown["balances"]
            own = sorted(holds["order_id"][holds["account"] == account].tolist())
            assert own == [order["order_id"] for order in shown["open_orders"]]
            own = sorted(withdrawals["hold_id"][withdrawals["account"] == account].tolist())
            assert own == [hold["hold_id"] for hold in shown["withdrawal_holds"]]


def test_order_has_every_outcome_that_concerned_it(home: PastHome, outcomes: np.ndarray) -> None:
    past = Past(home.path)
    place = past.place(None)
    new = home.slots[np.isin(home.slots["type"], (e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.WITHDRAW_HOLD))]
    by_trades = Counter(outcomes["order_id"][outcomes["kind"] == e.OUT_TRADE].tolist()).most_common(6)
    ids = [order_id for order_id, _ in by_trades]
    ids += random.Random(4).sample(new["order_id"][new["order_id"] != 0].tolist(), 8)
    ids += outcomes["order_id"][(outcomes["type"] == e.WITHDRAW_RELEASE) & (outcomes["kind"] == e.OUT_BALANCE)][
        :1
    ].tolist()
    states = set()
    for order_id in ids:
        shown = past.order(order_id, place)
        states.add(shown["state"])
        own = outcomes[(outcomes["order_id"] == order_id) & (outcomes["kind"] != e.OUT_IDS)]
        told = [(c["seq"], o["index"]) for c in shown["history"] for o in c["outcomes"]]
        assert list(zip(own["seq"].tolist(), own["index"].tolist(), strict=True)) == told
        if shown["kind"] != "order":
            continue
        trades = own[own["kind"] == e.OUT_TRADE]
        assert int(trades["value_units"].sum()) == shown["value_units"]
        assert trades["fee_units"].tolist() == [fill["fee_units"] for fill in shown["fills"]]
        assert int(trades["qty_lots"].sum()) == sum(fill["qty_lots"] for fill in shown["fills"])
        live = home_holds(home)
        assert (order_id in live) == (not shown["final"]), shown["state"]
    assert {"filled", "rejected", "released"} <= states, states


def test_orders_of_quotes_are_found_by_their_ids(makers: PastHome) -> None:
    outcomes = makers.outcomes()
    own_kinds = ~np.isin(outcomes["kind"], (e.OUT_QUOTE, e.OUT_IDS))
    new = outcomes[(outcomes["type"] == e.QUOTE) & (outcomes["kind"] == e.OUT_NEW)]
    past = Past(makers.path)
    place = past.place(None)
    sides = set()
    for row in new[:: max(1, len(new) // 8)]:
        shown = past.order(int(row["order_id"]), place)
        own = outcomes[(outcomes["order_id"] == row["order_id"]) & own_kinds]
        told = [(c["seq"], o["index"]) for c in shown["history"] for o in c["outcomes"]]
        assert list(zip(own["seq"].tolist(), own["index"].tolist(), strict=True)) == told
        assert (int(row["seq"]), "QUOTE") == (shown["entered"]["seq"], shown["history"][0]["type"])
        assert (int(row["account"]), int(row["side"]) == e.BUY) == (shown["account"], shown["side"] == "buy")
        quotes = shown["history"][0]["quotes"]
        name = "bid" if shown["side"] == "buy" else "ask"
        assert int(row["qty_lots"]) in [q[name]["qty_lots"] for q in quotes if q["symbol"] == shown["symbol"]]
        sides.add(shown["side"])
    assert {"buy", "sell"} == sides


def test_quote_that_brought_no_order_says_so(makers: PastHome) -> None:
    outcomes = makers.outcomes()
    quotes = outcomes[outcomes["kind"] == e.OUT_QUOTE]
    refused = quotes[quotes["reason"] != 0][0]
    past = Past(makers.path)
    with pytest.raises(NotInHistory, match=rf"the quote at seq {refused['seq']} with this number brought none"):
        past.order(int(refused["order_id"]), past.place(None))


def home_holds(home: PastHome) -> set[int]:
    engine = home.engine_at(len(home.slots))
    return set(engine.risk.holds["order_id"][engine.risk.holds["state"] == e.HOLD_LIVE].tolist())


def test_life_of_an_order_ends_where_it_is_looked_at(home: PastHome, outcomes: np.ndarray) -> None:
    # Of resting orders: what a taker has left may be dropped by the same command.
    resting = (outcomes["flags"] & e.OUTCOME_TAKER) == 0
    trades = outcomes[(outcomes["kind"] == e.OUT_TRADE) & (outcomes["leaves_qty_lots"] > 0) & resting]
    ended = outcomes[np.isin(outcomes["kind"], (e.OUT_EXPIRED, e.OUT_CANCELED))][["seq", "order_id"]].tolist()
    trades = trades[[row not in ended for row in trades[["seq", "order_id"]].tolist()]]
    row = trades[len(trades) // 2]
    past = Past(home.path)
    place = past.place(parse_moment(str(row["seq"])))
    shown = past.order(int(row["order_id"]), place)
    assert ("partially filled", False) == (shown["state"], shown["final"])
    assert int(row["seq"]) == shown["history"][-1]["seq"]
    before = past.place(parse_moment(str(shown["entered"]["seq"] - 1)))
    with pytest.raises(NotInHistory, match=f"no such order up to seq {before.seq}; the nearest"):
        past.order(int(row["order_id"]), before)


def test_client_order_id_finds_the_newest_order_of_the_account(home: PastHome) -> None:
    at = np.flatnonzero(home.slots["type"] == e.EXT_IDS)
    texts = home.slots.view(EXT_IDS_SLOT.slot_dtype)["client_order_id"][at]
    found: dict[tuple[int, str], int] = {}
    for text, head in zip(texts.tolist(), home.slots[at - 1], strict=True):
        if text and head["type"] in {e.LIMIT, e.MARKET, e.MARKET_AMOUNT}:
            found[int(head["account"]), text.decode()] = int(head["order_id"])
    past = Past(home.path)
    for (account, text), order_id in list(found.items())[:5]:
        assert order_id == past.order_id_of(text, account, past.place(None))
    with pytest.raises(NotInHistory, match="'no-such': account 1 has sent no order under it"):
        past.order_id_of("no-such", 1, past.place(None))


def test_refusals_are_told_with_their_reason(home: PastHome, outcomes: np.ndarray) -> None:
    first = outcomes[(outcomes["kind"] == e.OUT_REJECTED) & np.isin(outcomes["type"], (e.LIMIT,))][0]
    past = Past(home.path)
    shown = past.order(int(first["order_id"]), past.place(None))
    assert ("rejected", r.NAME[int(first["reason"])], True) == (shown["state"], shown["reason"], shown["final"])


# --- the command ------------------------------------------------------------------------------------------------------


def test_inspect_answers_on_the_command_line(home: PastHome, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--home", str(home.path))
    assert 0 == main(["inspect", "account", "1", "--at", "300", "--json", *where])
    at = int(home.ends[np.searchsorted(home.ends, 300)])
    assert (1, at) == ((shown := answer(capsys))["account"], shown["at"]["seq"])
    assert 0 == main(["inspect", "book", "I1", "--json", "--depth", "1", *where])
    assert ("I1", len(home.slots)) == ((shown := answer(capsys))["symbol"], shown["at"]["seq"])
    for arguments in (["book", "I1", "--orders"], ["account", "2"], ["order", str(next(iter(home_holds(home))))]):
        assert 0 == main(["inspect", *arguments, *where])
        assert "seq" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["book", "I9"], 1, "instrument 'I9': not listed at seq .*; did you mean .*listed: I1, I2"),
        (["account", "77"], 1, "account 77: there is no such account at seq .* the nearest of .* are .*6"),
        (["account", "nobody"], 1, "account 'nobody': no account has this name"),
        (["order", "12"], 1, "order 12: no such order up to seq .*; the nearest"),
        (["order", "x"], 2, "an order id is a number; for a client order id say whose"),
        (["book", "I1", "--at", "1e9"], 2, "--at '1e9' is neither the number of a command nor a time"),
        (["book", "I1", "--at", "99999999"], 1, "seq 99999999: the history of .* goes from seq 1"),
    ],
)
def test_inspect_says_what_there_is_instead(
    home: PastHome, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    import re

    assert status == main(["inspect", *arguments, "--home", str(home.path)])
    assert re.search(said, capsys.readouterr().err)


def test_inspect_of_a_folder_without_a_journal_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 1 == main(["inspect", "book", "I1", "--home", str(tmp_path)])
    assert "there is no journal here" in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())
