"""Rows about fees, limits and groups: what changed in a batch, read from the engine behind it, and what its fills brought."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from persistence.fused import FusedEngine
from persistence.postgres.klines import sums
from persistence.postgres.terms import MAKER_FEES, REBATES, TAKER_FEES
from protocol import enums as e
from risk import state as s

Row = tuple[Any, ...]
_LIMITING: Final = (e.SET_LIMITS, e.KILL, e.REVIVE)
_LIMITS: Final = ("qty_max_lots", "notional_max_units", "open_orders_max", "orders_per_s", "collar_e8")


class FeeRows(NamedTuple):
    """Rows of the tables of the same names."""

    fee_versions: list[Row]
    fee_tiers: list[Row]
    fee_assignments: list[Row]
    limits: list[Row]
    revenue: list[Row]


def fee_rows(engine: FusedEngine, commands: np.ndarray, fills: np.ndarray) -> FeeRows:
    """Rows of a batch.

    Parameters
    ----------
    engine : FusedEngine
        Right behind the batch.
    commands : np.ndarray
        Heads (COMMAND_DTYPE) of the operators' commands that were accepted, in order.
    fills : np.ndarray
        Outcomes of kind OUT_TRADE, each a side of a trade.
    """
    versions, tiers = _versions(engine.risk, commands[commands["type"] == e.SET_SCHEDULE])
    return FeeRows(versions, tiers, _assignments(engine.risk, commands), _limits(engine, commands), revenue_of(fills))


def revenue_of(fills: np.ndarray) -> list[Row]:
    """(day, instrument, asset, kind, units, fills) of sides of trades; a rebate is positive. In an auction there is no taker."""
    paid = fills[fills["fee_units"] != 0]
    units = paid["fee_units"]
    takes = (paid["flags"] & e.OUTCOME_TAKER) != 0
    kinds = np.where(units < 0, REBATES, np.where(takes, TAKER_FEES, MAKER_FEES))
    day = paid["ts_ns"] // s.DAY_NS
    columns = [day, paid["instrument"], paid["fee_asset"], kinds, np.abs(units)]
    rows = np.stack([column.astype(np.int64) for column in columns], axis=1)
    if not len(rows):
        return []
    rows = rows[np.lexsort(rows.T[3::-1])]
    starts = np.flatnonzero(np.r_[True, (rows[1:, :4] != rows[:-1, :4]).any(axis=1)])
    counts = np.diff(np.r_[starts, len(rows)]).tolist()
    keys = rows[starts, :4].tolist()
    return [(*key, units, count) for key, units, count in zip(keys, sums(rows[:, 4], starts), counts, strict=True)]


def _versions(risk: Any, commands: np.ndarray) -> tuple[list[Row], list[Row]]:
    versions, tiers = [], []
    known = risk.fee_versions["seq"][: int(risk.meta[s.FEE_VERSIONS]) + 1]
    words = risk.fee_tiers.reshape(-1, e.FEE_TIERS_MAX, s.FEE_WORDS)
    for seq, ts_ns in zip(commands["seq"].tolist(), commands["ts_ns"].tolist(), strict=True):
        rule = int(np.searchsorted(known, seq))
        v = risk.fee_versions[rule]
        assert int(v["seq"]) == seq, "a version that was accepted has a row"
        fields = (int(v[name]) for name in ("schedule", "version", "effective_ts_ns", "api_discount_e8"))
        versions.append((rule, *fields, seq, ts_ns))
        rates = words[rule, : int(v["tiers"]), [s.FEE_MIN, s.FEE_MAKER, s.FEE_TAKER]].T.tolist()
        tiers += [(rule, tier, *row) for tier, row in enumerate(rates)]
    return versions, tiers


def _scopes(commands: np.ndarray) -> dict[Row, int]:
    """(scope, account, instrument, firm) of commands that name one, and the last that did."""
    found = {}
    for c in commands:
        scope = int(c["price_ticks"])
        of_account = scope in {e.SCOPE_ACCOUNT, e.SCOPE_USER, e.SCOPE_CONTRACT}
        of_instrument = scope in {e.SCOPE_INSTRUMENT, e.SCOPE_CONTRACT}
        account, instrument = int(c["account"]) * of_account, int(c["instrument"]) * of_instrument
        found[scope, account, instrument, int(c["trigger_price_ticks"]) * (scope == e.SCOPE_FIRM)] = int(c["seq"])
    return found


def _assignments(risk: Any, commands: np.ndarray) -> list[Row]:
    changed = _scopes(commands[commands["type"] == e.ASSIGN_FEES])
    for c in commands[commands["type"] == e.SET_FEES]:
        # Rates of its own take the instrument's schedule away.
        key = (e.SCOPE_INSTRUMENT, 0, int(c["instrument"]), 0)
        changed[key] = max(changed.get(key, 0), int(c["seq"]))
    schedules = {
        e.SCOPE_VENUE: risk.meta[s.VENUE_SCHEDULE : s.VENUE_SCHEDULE + 1],
        e.SCOPE_ACCOUNT: risk.accounts["schedule"],
        e.SCOPE_FIRM: risk.firm_schedules,
        e.SCOPE_INSTRUMENT: risk.instruments["schedule"],
    }
    contracts = {(row[0], row[1]): row[2] for row in risk.contracts[risk.contracts["account"] != 0].tolist()}
    rows = []
    for (scope, account, instrument, firm), seq in sorted(changed.items()):
        if scope == e.SCOPE_CONTRACT:
            schedule = contracts.get((account, instrument), 0)
        else:
            schedule = int(schedules[scope][account + instrument + firm])
        rows.append((scope, account, instrument, firm, schedule, seq))
    return rows


def limits_start(risk: Any, scope: int) -> int:
    """Row of ``risk.limits`` at which a scope begins; its number is counted from there."""
    accounts, firms = len(risk.accounts), len(risk.firm_schedules)
    return (0, 1, 1 + accounts, 1 + 2 * accounts, 1 + 2 * accounts + firms)[scope]


def _limits(engine: FusedEngine, commands: np.ndarray) -> list[Row]:
    rows = []
    for (scope, account, instrument, firm), seq in sorted(
        _scopes(commands[np.isin(commands["type"], _LIMITING)]).items()
    ):
        limit = engine.risk.limits[limits_start(engine.risk, scope) + account + instrument + firm]
        values = (int(limit[name]) for name in _LIMITS)
        rows.append((scope, account, instrument, firm, *values, bool(limit["killed"]), seq))
    return rows
