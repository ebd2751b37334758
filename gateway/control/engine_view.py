"""The engine's tables as the control gateway reads them: risk's state file of the epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from gateway.access.groups import Groups
from gateway.control.view import (
    AccountRow,
    AssetRow,
    Assigned,
    Balance,
    FeeTables,
    FeeVersion,
    InstrumentRow,
    Level,
    LimitRow,
    OpenOrder,
    Volume,
)
from persistence.listings import asset_of, instrument_of
from protocol import board as b
from protocol import enums as e
from protocol.instance import Context
from protocol.records import COMMAND_SCHEMA
from ringbuf.arena import attach_arena
from ringbuf.atomics import load_acquire
from ringbuf.board import BoardFile
from risk import state as s
from risk.views import account_numbers, copy_balance, live_holds

_TRIES = 50


class RiskView:
    """Rows of risk's tables; see ``gateway.control.view.EngineView``."""

    def __init__(self, state: Any, board: np.ndarray) -> None:
        self._state = state
        self._board = board
        self._rows = np.zeros(1024, dtype=np.int64)

    def assets(self) -> list[AssetRow]:
        """All listed assets."""
        table = self._state.assets
        return [AssetRow(asset_of(self._state, int(i)), int(table[i]["seq"])) for i in np.nonzero(table["status"])[0]]

    def instruments(self) -> list[InstrumentRow]:
        """All listed instruments."""
        rows = []
        seq = self._settled()
        for i in np.nonzero(self._state.instruments["status"])[0]:
            row = self._state.instruments[i]
            instrument = instrument_of(self._state, int(i))
            rows.append(
                InstrumentRow(
                    instrument,
                    int(row["status"]),
                    int(row["last_price_ticks"]),
                    max(seq, self._settled()),
                    tuple(int(row[name]) for name in ("dynamic_e8", "auction_ns", "random_ns", "extensions")),  # type: ignore[arg-type]
                    int(row["auction_end_ts_ns"]),
                    int(row["indicative_ticks"]),
                )
            )
        return rows

    def venue_state(self) -> int:
        """VENUE_*."""
        return int(self._state.meta[s.VENUE_STATE])

    def account(self, account: int) -> AccountRow:
        """Give the account's row."""
        status = int(self._state.accounts[account]["status"])
        return AccountRow(account, status, self._settled())

    def accounts(self) -> list[AccountRow]:
        """All accounts that were created, by number."""
        return [self.account(int(i)) for i in account_numbers(self._state)]

    def balances(self, account: int) -> dict[int, Balance]:
        """Balances of an account by asset number: every listed asset that the account ever held."""
        found: dict[int, Balance] = {}
        out = np.zeros(3, dtype=np.int64)
        for asset in np.nonzero(self._state.assets["status"])[0]:
            if not copy_balance(self._state, account, int(asset), out):
                msg = f"balance of account {account}, asset {asset}: its writer stopped half way"
                raise RuntimeError(msg)
            if out[2]:
                found[int(asset)] = Balance(int(out[0]), int(out[1]), int(out[2]))
        return found

    def open_orders(self, account: int | None, instrument: int | None) -> tuple[list[OpenOrder], int]:
        """Orders of the account that rest or wait for a price, and on the instrument (None = any), by order id; and the seq of the list."""
        holds, ids, seq = self._copy_holds(account or 0, instrument or 0)
        orders = [
            OpenOrder(
                order_id=int(h["order_id"]),
                account=int(h["account"]),
                instrument=int(h["instrument"]),
                side=int(h["side"]),
                tif=int(h["tif"]),
                price_ticks=int(h["price_ticks"]),
                qty_lots=int(h["total_lots"]),
                cum_qty_lots=int(h["traded_lots"]),
                leaves_qty_lots=int(h["left_lots"]),
                client_order_id=words[:5].tobytes().rstrip(b"\0").decode(errors="replace")
                if h["flags"] & s.HOLD_HAS_IDS
                else "",
                entry_ts_ns=int(h["entry_ts_ns"]),
                shown_lots=_shown(h),
                expiry_ts_ns=int(h["expiry_ts_ns"]) if h["flags"] & s.HOLD_TERMS else 0,
                waits=_waits(h),
                pegged_ticks=_pegged(h),
            )
            for h, words in zip(holds, ids, strict=True)
            if h["state"] == e.HOLD_LIVE and (h["type"] == e.LIMIT or _waits(h)) and h["left_lots"] > 0
        ]
        return sorted(orders, key=lambda o: o.order_id), seq

    def book(self, instrument: int, levels: int) -> tuple[list[Level], list[Level], int]:
        """Best ``levels`` bids and asks, best first; and the seq that they stand for."""
        holds, _, seq = self._copy_holds(0, instrument)
        sides: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
        for h in holds:
            if h["state"] == e.HOLD_LIVE and h["type"] == e.LIMIT and h["left_lots"] > 0 and not _waits(h):
                level = sides[int(h["side"])].setdefault(_pegged(h) or int(h["price_ticks"]), [0, 0])
                level[0] += _shown(h)
                level[1] += 1
        bids = [Level(p, q, n) for p, (q, n) in sorted(sides[e.BUY].items(), reverse=True)[:levels]]
        asks = [Level(p, q, n) for p, (q, n) in sorted(sides[e.SELL].items())[:levels]]
        return bids, asks, seq

    def fees(self) -> FeeTables:
        """Fee schedules, who has which, volume rates, revenue."""
        state = self._state
        in_force = {int(row["current"]) for row in state.schedules}
        planned: set[int] = set()
        for row in state.schedules:
            version = int(row["planned"])
            while version:
                planned.add(version)
                version = int(state.fee_versions[version]["next"])
        versions = []
        tiers = state.fee_tiers.reshape(-1, e.FEE_TIERS_MAX, s.FEE_WORDS)
        for rule in range(1, int(state.meta[s.FEE_VERSIONS]) + 1):
            v = state.fee_versions[rule]
            rows = tiers[rule, : int(v["tiers"]), [s.FEE_MIN, s.FEE_MAKER, s.FEE_TAKER]].T.tolist()
            told = "in force" if rule in in_force else "planned" if rule in planned else "past"
            versions.append(
                FeeVersion(
                    rule,
                    int(v["schedule"]),
                    int(v["version"]),
                    int(v["effective_ts_ns"]),
                    int(v["api_discount_e8"]),
                    told,
                    [(least, maker, taker) for least, maker, taker in rows],
                )
            )
        assets = np.flatnonzero(state.assets["status"]).tolist()
        revenue = {
            asset: {
                "taker_fees": int(state.assets[asset]["taker_fee_units"]),
                "maker_fees": int(state.assets[asset]["maker_fee_units"]),
                "rebates": int(state.assets[asset]["rebate_units"]),
                "total": int(state.assets[asset]["fee_units"]),
            }
            for asset in assets
        }
        rates = {asset: int(state.assets[asset]["volume_rate_e8"]) for asset in assets}
        return FeeTables(
            versions, self._assigned(), {a: rate for a, rate in rates.items() if rate}, revenue, self._settled()
        )

    def _assigned(self) -> list[Assigned]:
        state = self._state
        found = []
        if state.meta[s.VENUE_SCHEDULE]:
            found.append(Assigned(e.SCOPE_VENUE, 0, 0, 0, int(state.meta[s.VENUE_SCHEDULE])))
        accounts = state.accounts[: int(state.meta[s.ACCOUNTS_HIGH]) + 1]
        for scope, schedules in (
            (e.SCOPE_INSTRUMENT, state.instruments["schedule"]),
            (e.SCOPE_FIRM, state.firm_schedules),
            (e.SCOPE_ACCOUNT, accounts["schedule"]),
        ):
            for number in np.flatnonzero(schedules).tolist():
                at = [number if scope == kind else 0 for kind in (e.SCOPE_ACCOUNT, e.SCOPE_INSTRUMENT, e.SCOPE_FIRM)]
                found.append(Assigned(scope, at[0], at[1], at[2], int(schedules[number])))
        contracts = state.contracts[state.contracts["schedule"] != 0].tolist()
        found.extend(Assigned(e.SCOPE_CONTRACT, row[0], row[1], 0, row[2]) for row in contracts)
        return found

    def groups(self, account: int) -> Groups:
        """What the account belongs to."""
        row = self._state.accounts[account]
        return Groups(int(row["master"]), int(row["firm"]), int(row["stp_group"]))

    def is_active(self, account: int) -> bool:
        """Whether the account has orders, open or in flight, or money commands in flight."""
        return int(self._state.accounts[account]["activity"]) > 0

    def volume(self, master: int) -> Volume:
        """30-day volume of a master."""
        row = self._state.accounts[master]
        return Volume(int(row["volume_units"]), int(row["volume_day"]))

    def limits(self) -> tuple[list[LimitRow], int]:
        """Scopes that limit anything, and the seq of the list."""
        state = self._state
        accounts, firms = len(state.accounts), len(state.firm_schedules)
        starts = (0, 1, 1 + accounts, 1 + 2 * accounts, 1 + 2 * accounts + firms)
        found = []
        for at in np.flatnonzero(state.limits["is_on"]).tolist():
            scope = max(k for k, start in enumerate(starts) if start <= at)
            number, row = at - starts[scope], state.limits[at]
            found.append(
                LimitRow(
                    scope=scope,
                    account=number if scope in (e.SCOPE_ACCOUNT, e.SCOPE_USER) else 0,
                    instrument=number if scope == e.SCOPE_INSTRUMENT else 0,
                    firm=number if scope == e.SCOPE_FIRM else 0,
                    qty_max_lots=int(row["qty_max_lots"]),
                    notional_max_units=int(row["notional_max_units"]),
                    open_orders_max=int(row["open_orders_max"]),
                    orders_per_s=int(row["orders_per_s"]),
                    collar_e8=int(row["collar_e8"]),
                    open_orders=int(row["open_orders"]),
                    killed=bool(row["killed"]),
                )
            )
        return found, self._settled()

    def _copy_holds(self, account: int, instrument: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Rows of live orders, copied while nothing was settled; after many tries the last copy, as of the seq read after it."""
        holds = self._state.holds[:0]
        ids = self._state.hold_ids[:0]
        seq = 0
        for _ in range(_TRIES):
            before = self._settled()
            count = int(live_holds(self._state, account, instrument, self._rows))
            if count > len(self._rows):
                self._rows = np.zeros(2 * count, dtype=np.int64)
                continue
            rows = self._rows[:count]
            holds, ids = self._state.holds[rows], self._state.hold_ids[rows]
            seq = self._settled()
            if seq == before:
                break
        return holds, ids, seq

    def _settled(self) -> int:
        return int(load_acquire(self._board, b.SETTLED_SEQ))


def _waits(hold: np.void) -> bool:
    """Whether an order waits for a price, and is in no book."""
    return bool(hold["flags"] & s.HOLD_WAITS)


def _shown(h: np.void) -> int:
    """Lots of a resting order that the book shows."""
    return int(h["shown_lots"] if h["flags"] & s.HOLD_TERMS else h["left_lots"])


def _pegged(h: np.void) -> int:
    """Price at which a pegged order stands; 0 = it follows no price."""
    return max(0, -int(h["display_lots"])) if h["flags"] & s.HOLD_TERMS else 0


def attach_view(context: Context) -> RiskView:
    """View of the epoch ``context.epoch``."""
    engine = context.engine
    arrays = attach_arena(context.risk_state, s.state_spec(engine.limits, engine.rings.window), COMMAND_SCHEMA)
    return RiskView(s.make_state(arrays), BoardFile.attach(context.shared).board)
