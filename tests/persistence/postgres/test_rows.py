"""What a batch means, compared with the engine, with an independent oracle, and with the same history cut otherwise."""

from collections import defaultdict

import numpy as np
import pytest

from persistence.fused import FusedEngine
from persistence.postgres import movements
from persistence.postgres import terms as m
from persistence.postgres.klines import INTERVALS_S, NS, Kline, klines_of
from persistence.postgres.ledger import Ledger, LedgerFault
from persistence.postgres.rows import batch_of
from protocol import enums as e
from risk import state as s
from tests.persistence.postgres.histories import BATCH_SLOTS, Followed, History, history

SEEDS = (0, 2, 3)


@pytest.fixture(scope="module", params=SEEDS)
def market(request: pytest.FixtureRequest) -> History:
    return history(request.param, 900)


def test_postings_of_every_movement_add_up_to_zero_in_each_asset(market: History) -> None:
    followed = Followed(market)
    seen = set()
    for slots in market.parts(61):
        postings = followed.feed(slots).postings
        key = np.stack([postings["seq"], postings["idx"], postings["asset"]], axis=1)
        _, group = np.unique(key, axis=0, return_inverse=True)
        sums = np.zeros(group.max(initial=-1) + 1, dtype=np.int64)
        np.add.at(sums, group.ravel(), postings["amount_units"])
        assert not sums.any()
        seen |= set(postings["movement"].tolist())
    assert {m.HOLD, m.TRADE, m.TAKER_FEE, m.MAKER_FEE, m.RELEASE, m.AMEND, m.DEPOSIT, m.WITHDRAW_HOLD, m.ADJUST} <= seen


def test_sums_of_postings_are_the_balances_of_an_independent_oracle(market: History) -> None:
    followed = Followed(market)
    sums: dict[tuple[int, int, int], int] = defaultdict(int)
    last: dict[tuple[int, int, int], int] = {}
    for slots in market.parts(200):
        for row in followed.feed(slots).postings:
            key = (int(row["account"]), int(row["asset"]), int(row["bucket"]))
            sums[key] += int(row["amount_units"])
            last[key] = int(row["balance_units"])
    assert dict(sums) == last
    oracle = market.market.oracle
    for (account, asset, bucket), units in sums.items():
        if bucket in {m.FREE, m.LOCKED}:
            expected = (oracle.free if bucket == m.FREE else oracle.locked)[account, asset]
        else:
            expected = oracle.fee[asset] if bucket == m.FEE else -oracle.net_deposits[asset]
        assert expected == units
    owned = {key for key, units in oracle.free.items() if units}
    assert owned <= {(account, asset) for account, asset, bucket in sums if bucket == m.FREE}


def test_orders_that_live_are_the_engines_holds_after_every_batch(market: History) -> None:
    followed = Followed(market)
    live: dict[int, dict[str, int]] = {}
    names = ("price_ticks", "qty_lots", "cum_qty_lots", "leaves_qty_lots", "value_units", "locked_units")
    theirs = ("price_ticks", "total_lots", "traded_lots", "left_lots", "value_units", "locked_units")
    for slots in market.parts(37):
        batch = followed.feed(slots)
        for rows in (batch.new_orders, batch.changed_orders):
            for row in rows:
                live[int(row["order_id"])] = {name: int(row[name]) for name in ("state", *names)}
        live = {order: row for order, row in live.items() if row["state"] == e.ORDER_STATE_LIVE}
        holds = followed.engine.risk.holds
        expected = {
            int(h["order_id"]): {
                "state": e.ORDER_STATE_LIVE,
                **{a: int(h[t]) for a, t in zip(names, theirs, strict=True)},
            }
            for h in holds[holds["state"] == e.HOLD_LIVE]
        }
        assert expected == live
    assert live


def test_a_ledger_that_begins_in_the_middle_goes_on_with_the_same_rows(market: History) -> None:
    parts = market.parts(len(market.groups) // 5)
    whole = Followed(market)
    expected = [whole.feed(slots) for slots in parts]
    for k in range(1, len(parts)):
        engine = FusedEngine(market.engine)
        for slots in parts[:k]:
            engine.feed(slots)
        ledger = Ledger(engine.risk, market.engine.limits, BATCH_SLOTS)
        outcomes: list[np.ndarray] = []
        engine.feed(parts[k], outcomes.append)
        actual = batch_of(parts[k], np.concatenate(outcomes), ledger, engine)
        for name in ("order_events", "trades", "postings", "balances"):
            assert np.array_equal(getattr(expected[k], name), getattr(actual, name)), name
        for name in ("new_orders", "changed_orders"):
            one, other = (np.sort(getattr(batch, name), order="order_id") for batch in (expected[k], actual))
            assert np.array_equal(one, other), name


def test_an_outcome_whose_balance_is_a_unit_off_is_refused_with_its_number(market: History) -> None:
    engine = FusedEngine(market.engine)
    ledger = Ledger(engine.risk, market.engine.limits, BATCH_SLOTS)
    outcomes: list[np.ndarray] = []
    engine.feed(market.slots[:BATCH_SLOTS], outcomes.append)
    told = np.concatenate(outcomes)
    trade = np.flatnonzero(told["kind"] == e.OUT_TRADE)[5]
    told["free_units"][trade] += 1
    with pytest.raises(LedgerFault, match=f"seq {told['seq'][trade]}, index "):
        ledger.apply(told)


def test_client_order_ids_stand_with_their_orders_refused_ones_too(market: History) -> None:
    followed = Followed(market)
    new = np.concatenate([followed.feed(slots).new_orders for slots in market.parts(500)])
    texts = {int(row["order_id"]): row["client_order_id"] for row in new}
    ids = [
        group
        for group in market.groups
        if len(group) > 1 and group["type"][1] == e.EXT_IDS and group["type"][0] < e.CANCEL
    ]
    assert ids
    for group in ids:
        text = group[1:2].view(np.uint8)[24:64].tobytes().rstrip(b"\0")
        assert text == texts[int(group["order_id"][0])]
    refused = new[new["state"] == 5]
    assert len(refused)
    assert (refused["reason"] > 0).all()


def test_klines_are_those_of_an_obvious_oracle_however_trades_are_cut() -> None:
    rng = np.random.default_rng(5)
    trades = np.zeros(4000, dtype=movements.TRADE_DTYPE)
    trades["seq"] = np.sort(rng.integers(1, 2500, len(trades)))
    trades["ts_ns"] = np.sort(rng.integers(0, 3 * 86_400 * NS, len(trades))) + 1_700_000_000 * NS
    trades["instrument"] = rng.integers(1, 4, len(trades))
    trades["price_ticks"] = rng.integers(1, 1000, len(trades))
    trades["qty_lots"] = rng.integers(1, 1 << 61, len(trades))
    trades["value_units"] = rng.integers(1, 1 << 61, len(trades))
    expected: dict[tuple[int, int, int], list[np.void]] = defaultdict(list)
    for trade in trades:
        for width in INTERVALS_S:
            at = int(trade["ts_ns"]) // (width * NS) * width * NS
            expected[int(trade["instrument"]), width, at].append(trade)
    oracle = {
        key: Kline(
            *key,
            int(found[0]["price_ticks"]),
            max(int(t["price_ticks"]) for t in found),
            min(int(t["price_ticks"]) for t in found),
            int(found[-1]["price_ticks"]),
            sum(int(t["qty_lots"]) for t in found),
            sum(int(t["value_units"]) for t in found),
            len(found),
            int(found[0]["seq"]),
            int(found[-1]["seq"]),
        )
        for key, found in expected.items()
    }
    assert oracle == {(kline.instrument, kline.interval_s, kline.open_ts_ns): kline for kline in klines_of(trades)}
    assert max(kline.volume_lots for kline in oracle.values()) >= 1 << 63


def test_system_accounts_are_the_engines(market: History) -> None:
    followed = Followed(market)
    rows = {row[0]: row for slots in market.parts(99) for row in followed.feed(slots).assets}
    assets = followed.engine.risk.assets
    for asset, row in rows.items():
        assert (int(assets["fee_units"][asset]), int(assets["net_deposits_units"][asset])) == row[3:5]
        assert assets["symbol"][asset].decode() == row[1]
    assert int(followed.engine.risk.meta[s.FAULT]) == 0
    assert np.flatnonzero(assets["status"]).tolist() == sorted(rows)
