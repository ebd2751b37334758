"""Requests about fees, groups of accounts, limits and kill switches, and the answers that show them.

Volumes and values are amounts of the *volume asset*: the listed asset whose volume rate is 1 (the lowest number, where there are several).
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any, Final

import numpy as np

from gateway.access.groups import STP_ALONE, STP_USER, stp_words
from gateway.control import messages as m
from gateway.control.catalog import Catalog, parse_amount, parse_decimal, parse_share_e8
from gateway.control.messages import Refused
from gateway.control.view import FeeTables, LimitRow
from protocol import build, reasons
from protocol import enums as e
from protocol.fixed_point import AMOUNT_LIMIT, E8
from protocol.instruments import Asset, plain

SCOPES: Final = {number: name.lower() for number, name in e.names("SCOPE_").items()}
_RATE_PRECISION: Final = 60


def scope_of(catalog: Catalog, args: m.OfScope, *, fees: bool = False) -> tuple[int, dict[str, Any]]:
    """SCOPE_* of the fields that a request names, and the numbers of account, instrument and firm. Raises Refused."""
    given = {name for name in ("account", "user", "firm", "instrument") if getattr(args, name) is not None}
    if args.venue:
        given.add("venue")
    scopes = {
        ("venue",): e.SCOPE_VENUE,
        ("account",): e.SCOPE_ACCOUNT,
        ("user",): e.SCOPE_USER,
        ("firm",): e.SCOPE_FIRM,
        ("instrument",): e.SCOPE_INSTRUMENT,
        ("account", "instrument"): e.SCOPE_CONTRACT,
    }
    scope = scopes.get(tuple(sorted(given)))
    if scope is None or scope == (e.SCOPE_USER if fees else e.SCOPE_CONTRACT):
        what = (
            "venue, account, firm, instrument, or account and instrument"
            if fees
            else "venue, account, user, firm or instrument"
        )
        raise Refused(reasons.MALFORMED, f"name one scope: {what}", "args")
    at: dict[str, Any] = {}
    if args.account is not None or args.user is not None:
        field = "account" if args.account is not None else "user"
        at["account"] = catalog.account(getattr(args, field), f"args.{field}")
    if args.instrument is not None:
        at["instrument"] = catalog.instrument(args.instrument).index
    if args.firm is not None:
        at["firm"] = args.firm
    return scope, at


def volume_asset(catalog: Catalog) -> Asset | None:
    """The asset in which volume is counted."""
    rates = catalog.view.fees().volume_rates
    index = min((asset for asset, rate in rates.items() if rate == E8), default=0)
    return catalog.asset_by_index(index) if index else None


def _volume_units(catalog: Catalog, text: str, field: str) -> int:
    asset = volume_asset(catalog)
    if asset is None:
        raise Refused(reasons.UNKNOWN_ASSET, "no asset has the volume rate 1; set it first (`cambist fee rate`)", field)
    return parse_amount(asset, text, field)


def schedule_group(catalog: Catalog, args: m.SetSchedule, operator: str, reason: str) -> np.ndarray:
    """SET_SCHEDULE."""
    tiers = []
    for k, tier in enumerate(args.tiers):
        least = 0
        if k or tier.min_volume not in ("0", ""):
            least = _volume_units(catalog, tier.min_volume, f"args.tiers[{k}].min_volume")
        maker = parse_share_e8(tier.maker, f"args.tiers[{k}].maker", reasons.BAD_SCHEDULE)
        taker = parse_share_e8(tier.taker, f"args.tiers[{k}].taker", reasons.BAD_SCHEDULE)
        tiers.append((least, maker, taker))
    try:
        return build.set_schedule(
            args.schedule,
            tiers,
            operator,
            reason,
            api_discount_e8=parse_share_e8(args.api_discount, "args.api_discount", reasons.BAD_SCHEDULE),
            effective_ts_ns=args.effective_ts_ns,
        )
    except ValueError as error:
        raise Refused(reasons.BAD_SCHEDULE, str(error), "args.tiers") from None


def volume_rate_group(catalog: Catalog, args: m.SetVolumeRate, operator: str, reason: str) -> np.ndarray:
    """SET_VOLUME_RATE: what one unit of account of the asset is worth in the volume asset."""
    asset = catalog.asset(args.asset)
    value = parse_decimal(args.rate, "args.rate")
    counted = volume_asset(catalog)
    if counted is None:
        if value != 1:
            raise Refused(reasons.UNKNOWN_ASSET, "there is no volume asset yet: give one asset the rate 1", "args.rate")
        counted = asset
    with localcontext(prec=_RATE_PRECISION):
        rate = (value * E8).scaleb(counted.scale - asset.scale)
        if rate != rate.to_integral_value() or not 0 <= rate < AMOUNT_LIMIT:
            detail = f"{args.rate}: a rate is a multiple of {plain(Decimal(1).scaleb(asset.scale - counted.scale - 8))}"
            raise Refused(reasons.RANGE, detail, "args.rate")
    return build.set_volume_rate(asset.index, int(rate), operator, reason)


def groups_group(catalog: Catalog, args: m.SetGroups, operator: str, reason: str) -> np.ndarray:
    """SET_GROUPS: what is not given stays."""
    account = catalog.account(args.account)
    now = catalog.view.groups(account)
    master = now.master if args.master is None else catalog.account(args.master, "args.master")
    master = 0 if master == account else master
    firm = now.firm if args.firm is None else args.firm
    stp_group = now.stp_group
    if args.stp_group == "user":
        stp_group = STP_USER + (master or account)
    elif args.stp_group is not None:
        stp_group = args.stp_group or STP_ALONE + account
    return build.set_groups(account, master, firm, stp_group, operator, reason)


def limits_group(catalog: Catalog, args: m.SetLimits, operator: str, reason: str) -> np.ndarray:
    """SET_LIMITS: all limits of the scope anew."""
    scope, at = scope_of(catalog, args)
    notional = 0 if args.notional is None else _volume_units(catalog, args.notional, "args.notional")
    collar = parse_share_e8(args.collar, "args.collar", reasons.BAD_LIMIT)
    return build.set_limits(
        scope,
        operator,
        reason,
        qty_max_lots=args.qty_lots,
        notional_max_units=notional,
        open_orders_max=args.open_orders,
        orders_per_s=args.orders_per_s,
        collar_e8=collar,
        **at,
    )


# --- answers ----------------------------------------------------------------------------------------------------------


def fees_answer(catalog: Catalog, args: m.Fees) -> tuple[dict[str, Any], int]:
    """Schedules with their versions, who has which, volume rates and revenue; with an account also its volume."""
    tables = catalog.view.fees()
    counted = volume_asset(catalog)
    result: dict[str, Any] = {
        "schedules": [_version(row, counted) for row in tables.versions],
        "assigned": [_named(catalog, row) for row in tables.assigned],
        "volume_asset": None if counted is None else counted.symbol,
        "volume_rates": _volume_rates(catalog, tables, counted),
        "revenue": _revenue(catalog, tables),
        "seq": tables.seq,
    }
    if args.account is not None:
        account = catalog.account(args.account)
        groups = catalog.view.groups(account)
        volume = catalog.view.volume(groups.master or account)
        text = str(volume.units) if counted is None else counted.amount(volume.units)
        result["account"] = {
            "account": account,
            "master": groups.master or account,
            "firm": groups.firm,
            "stp_group": groups.stp_group,
            "stp_words": stp_words(groups.stp_group),
            "volume_30d": text,
            "volume_day": volume.day,
        }
    return result, tables.seq


def limits_answer(catalog: Catalog, _args: Any) -> tuple[dict[str, Any], int]:
    """All scopes that limit anything."""
    rows, seq = catalog.view.limits()
    counted = volume_asset(catalog)
    return {"limits": [_limit(catalog, row, counted) for row in rows], "count": len(rows), "seq": seq}, seq


def _share(parts_e8: int) -> str:
    return plain(Decimal(parts_e8).scaleb(-8))


def _amount(asset: Asset | None, units: int) -> str:
    return str(units) if asset is None else asset.amount(units)


def _version(row: Any, counted: Asset | None) -> dict[str, Any]:
    return {
        "schedule": row.schedule,
        "version": row.version,
        "rule": row.rule,
        "effective_ts_ns": row.effective_ts_ns,
        "state": row.state,
        "api_discount": _share(row.api_discount_e8),
        "tiers": [
            {"min_volume": _amount(counted, least), "maker": _share(maker), "taker": _share(taker)}
            for least, maker, taker in row.tiers
        ],
    }


def _named(catalog: Catalog, row: Any) -> dict[str, Any]:
    named: dict[str, Any] = {"scope": SCOPES[row.scope]}
    if row.account:
        named["account"] = row.account
    if row.firm:
        named["firm"] = row.firm
    if row.instrument:
        listed = catalog.instrument_by_index(row.instrument)
        named["instrument"] = row.instrument if listed is None else listed.symbol
    if hasattr(row, "schedule"):
        named["schedule"] = row.schedule
    return named


def _volume_rates(catalog: Catalog, tables: FeeTables, counted: Asset | None) -> dict[str, str]:
    rates: dict[str, str] = {}
    for index, rate_e8 in sorted(tables.volume_rates.items()):
        asset = catalog.asset_by_index(index)
        if asset is not None and counted is not None:
            with localcontext(prec=_RATE_PRECISION):
                rates[asset.symbol] = plain((Decimal(rate_e8) / E8).scaleb(asset.scale - counted.scale))
    return rates


def _revenue(catalog: Catalog, tables: FeeTables) -> dict[str, dict[str, str]]:
    shown: dict[str, dict[str, str]] = {}
    for index, units in sorted(tables.revenue.items()):
        asset = catalog.asset_by_index(index)
        if asset is not None:
            shown[asset.symbol] = {name: asset.amount(value) for name, value in units.items()}
    return shown


def _limit(catalog: Catalog, row: LimitRow, counted: Asset | None) -> dict[str, Any]:
    shown = _named(catalog, row) | {"killed": row.killed}
    if row.notional_max_units:
        shown["notional"] = _amount(counted, row.notional_max_units)
    if row.collar_e8:
        shown["collar"] = _share(row.collar_e8)
    for name, value in (("qty_lots", row.qty_max_lots), ("orders_per_s", row.orders_per_s)):
        if value:
            shown[name] = value
    if row.open_orders_max:
        shown |= {"open_orders": row.open_orders_max, "open_now": row.open_orders}
    return shown
