"""Commands as a person reads them: one plain answer for each group of slots, with names for numbers and decimals beside ticks and lots."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import numpy as np

from persistence.listings import Listings
from persistence.moments import iso_time
from protocol import enums as e
from protocol.build import heads
from protocol.instruments import Asset, Instrument, plain
from protocol.market_states import STATE_NAMES, VENUE_STATE_NAMES
from protocol.records import (
    EXT_ADMIN_SLOT,
    EXT_ASSET_SLOT,
    EXT_AUCTION_SLOT,
    EXT_FEES_SLOT,
    EXT_IDS_SLOT,
    EXT_LIMITS_SLOT,
    EXT_LISTING_SLOT,
    EXT_QUOTES_SLOT,
)

SIDES: Final = {e.BUY: "buy", e.SELL: "sell"}
TIFS: Final = {e.GTC: "gtc", e.IOC: "ioc", e.FOK: "fok", e.POST_ONLY: "post-only"}
STPS: Final = {number: name.lower().replace("_", "-") for number, name in e.names("STP_").items()}
SOURCES: Final = {
    e.SOURCE_SEQUENCER: "sequencer",
    e.SOURCE_RISK: "risk",
    e.SOURCE_CONTROL: "control",
    e.SOURCE_REPLAY: "replay",
    e.SOURCE_BOTS: "bots",
}
SCOPES: Final = {number: name.lower() for number, name in e.names("SCOPE_").items()}
_FLAGS: Final = {
    e.FLAG_POSITION_LONG: "position-long",
    e.FLAG_POSITION_SHORT: "position-short",
    e.FLAG_REDUCE_ONLY: "reduce-only",
    e.FLAG_CLOSE_POSITION: "close-position",
    e.FLAG_SYSTEM: "system",
    e.FLAG_API: "api",
}
ORDERS: Final = (e.LIMIT, e.MARKET, e.MARKET_AMOUNT)
MONEY: Final = (e.DEPOSIT, e.WITHDRAW_HOLD, e.ADJUST)


def command_answers(slots: np.ndarray, listings: Listings) -> list[dict[str, Any]]:
    """Each group of ``slots`` (COMMAND_DTYPE, whole groups) as a dict; ``listings`` knows what is listed by then."""
    starts = np.flatnonzero(heads(slots))
    ends = np.append(starts, len(slots))[1:]
    return [_answer(slots[start:end], listings) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def type_name(number: int) -> str:
    """Name of a command type."""
    return e.COMMAND_NAMES.get(number, f"TYPE_{number}")


def source_name(number: int) -> str:
    """Name of a producer."""
    return SOURCES.get(number, f"gateway-{number}")


def flag_names(flags: int) -> list[str]:
    """Names of the flags that mean something of the command itself."""
    return [name for bit, name in _FLAGS.items() if flags & bit]


def _answer(group: np.ndarray, listings: Listings) -> dict[str, Any]:
    head = group[0]
    kind = int(head["type"])
    answer: dict[str, Any] = {
        "seq": int(head["seq"]),
        "slots": len(group),
        "ts_ns": int(head["ts_ns"]),
        "time": iso_time(int(head["ts_ns"])),
        "type": type_name(kind),
        "source": source_name(int(head["source"])),
        "source_seq": int(head["source_seq"]),
    }
    for name in ("account", "order_id"):
        if head[name] and (name, kind) != ("order_id", e.SET_PROTECTION):
            answer[name] = int(head[name])
    if head["instrument"]:
        answer["symbol"] = listings.symbol(int(head["instrument"]))
    instrument = listings.instruments.get(int(head["instrument"]))
    asset = listings.assets.get(int(head["asset"]))
    if kind in _DETAILS:
        answer |= _DETAILS[kind](head, instrument, asset)
    names = flag_names(int(head["flags"]))
    if names:
        answer["flags"] = names
    if kind == e.QUOTE:
        answer["quotes"] = _quotes(group, listings)
    for slot in group[1:]:
        answer |= _extension(slot, kind, listings)
    return answer


def _order(head: np.void, instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    ticks, qty = int(head["price_ticks"]), int(head["qty_lots"])
    answer: dict[str, Any] = {"side": SIDES.get(int(head["side"]), str(head["side"]))}
    if head["type"] == e.LIMIT:
        answer["tif"] = TIFS.get(int(head["tif"]), str(head["tif"]))
    if head["stp"]:
        answer["stp"] = STPS.get(int(head["stp"]), str(head["stp"]))
    if head["type"] == e.MARKET_AMOUNT:
        answer |= {"amount": instrument.quote.amount(qty) if instrument else str(qty), "amount_units": qty}
    else:
        answer |= {"qty": instrument.qty(qty) if instrument else str(qty), "qty_lots": qty}
    return answer | _price(ticks, instrument) | _trigger(head, instrument) | _peg(head)


def _trigger(head: np.void, instrument: Instrument | None) -> dict[str, Any]:
    """What an order waits for."""
    if not int(head["flags"]) & e.FLAG_TRIGGER:
        return {}
    ticks, kind = int(head["trigger_price_ticks"]), int(head["offset_kind"])
    by = {e.TRIGGER_LAST: "last", e.TRIGGER_MARK: "mark", e.TRIGGER_INDEX: "index"}.get(int(head["trigger_ref"]), "?")
    what = "take_profit" if int(head["flags"]) & e.FLAG_TAKE_PROFIT else "stop"
    told: dict[str, Any] = {"trigger": what, "trigger_by": by}
    if kind != e.OFFSET_NONE:
        unit = {e.OFFSET_TICKS: "trail_ticks", e.OFFSET_BASIS_POINTS: "trail_bp"}.get(kind, "trail")
        told[unit] = int(head["sub_account"])
    price = instrument.price(ticks) if instrument and ticks > 0 else str(ticks)
    if kind != e.OFFSET_NONE:
        return told | ({"activation_price": price, "activation_price_ticks": ticks} if ticks else {})
    return told | {"trigger_price": price, "trigger_price_ticks": ticks}


def _peg(head: np.void) -> dict[str, Any]:
    """What an order follows."""
    if not int(head["flags"]) & e.FLAG_PEG:
        return {}
    ref = {e.PEG_BID: "bid", e.PEG_ASK: "ask", e.PEG_MID: "mid"}.get(int(head["trigger_ref"]), "?")
    return {"peg": ref, "peg_offset_ticks": int(head["sub_account"]) if head["offset_kind"] else 0}


def _quotes(group: np.ndarray, listings: Listings) -> list[dict[str, Any]]:
    """Each quote of a mass quote; a side without an order is left out."""
    told = []
    for row in group[group["type"] == e.EXT_QUOTES].view(EXT_QUOTES_SLOT.slot_dtype):
        instrument = listings.instruments.get(int(row["instrument"]))
        quote: dict[str, Any] = {"symbol": listings.symbol(int(row["instrument"])), "quote_id": int(row["quote_id"])}
        for side in ("bid", "ask"):
            qty = int(row[f"{side}_qty_lots"])
            if qty:
                lots = {"qty": instrument.qty(qty) if instrument and qty > 0 else str(qty), "qty_lots": qty}
                quote[side] = lots | _price(int(row[f"{side}_price_ticks"]), instrument)
        told.append(quote)
    return told


def _protection(head: np.void, instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    lots = {"qty_lots": int(head["qty_lots"]), "net_lots": int(head["trigger_price_ticks"])}
    return {"window_ns": int(head["price_ticks"]), **lots, "trades": int(head["order_id"])}


def _amend(head: np.void, instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    qty = int(head["qty_lots"])
    answer = {"qty": instrument.qty(qty) if instrument else str(qty), "qty_lots": qty}
    return answer | _price(int(head["price_ticks"]), instrument)


def _price(ticks: int, instrument: Instrument | None) -> dict[str, Any]:
    return {"price": instrument.price(ticks) if instrument else str(ticks), "price_ticks": ticks} if ticks else {}


def _money(head: np.void, _instrument: Instrument | None, asset: Asset | None) -> dict[str, Any]:
    units = int(head["qty_lots"])
    amount = asset.amount(units) if asset else str(units)
    return {"asset": asset.symbol if asset else str(head["asset"]), "amount": amount, "amount_units": units}


def _fees(head: np.void, _instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    return {"maker": _share(head["price_ticks"]), "taker": _share(head["qty_lots"])}


def _schedule(head: np.void, _instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    at = int(head["price_ticks"])
    answer: dict[str, Any] = {"schedule": int(head["qty_lots"]), "api_discount": _share(head["trigger_price_ticks"])}
    return answer | ({"effective": iso_time(at), "effective_ts_ns": at} if at > 0 else {})


def _assignment(head: np.void, _instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    return _scope(head) | {"schedule": int(head["qty_lots"])}


def _scope(head: np.void) -> dict[str, Any]:
    scope = int(head["price_ticks"])
    answer: dict[str, Any] = {"scope": SCOPES.get(scope, str(scope))}
    return answer | ({"firm": int(head["trigger_price_ticks"])} if scope == e.SCOPE_FIRM else {})


def _limited(head: np.void, _instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    return _scope(head)


def _volume_rate(head: np.void, _instrument: Instrument | None, asset: Asset | None) -> dict[str, Any]:
    return {"asset": asset.symbol if asset else str(head["asset"]), "volume_rate_e8": int(head["price_ticks"])}


def _groups(head: np.void, _instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    names = {"master": "price_ticks", "firm": "qty_lots", "stp_group": "trigger_price_ticks"}
    return {name: int(head[field]) for name, field in names.items()}


def _transfer(head: np.void, instrument: Instrument | None, asset: Asset | None) -> dict[str, Any]:
    return {"to_account": int(head["sub_account"])} | _money(head, instrument, asset)


def _state(head: np.void, instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    names = VENUE_STATE_NAMES if instrument is None else STATE_NAMES
    state = {"state": names.get(int(head["price_ticks"]), int(head["price_ticks"]))}
    end, then = int(head["qty_lots"]), int(head["trigger_price_ticks"])
    if end == 0:
        return state
    return state | {"end": iso_time(end), "end_ts_ns": end, "then": names.get(then, then)}


def _prices(head: np.void, instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, field in (("mark", "price_ticks"), ("index", "qty_lots")):
        ticks = int(head[field])
        if ticks:
            told |= {f"{name}_ticks": ticks, name: instrument.price(ticks) if instrument else str(ticks)}
    return told


def _set_timer(head: np.void, _instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    return {"timer": int(head["timer"]), "period_ns": int(head["price_ticks"]), "phase_ns": int(head["qty_lots"])}


def _timer(head: np.void, _instrument: Instrument | None, _asset: Asset | None) -> dict[str, Any]:
    return {"timer": int(head["timer"])}


_DETAILS: Final[dict[int, Callable[[np.void, Instrument | None, Asset | None], dict[str, Any]]]] = {
    e.LIMIT: _order,
    e.MARKET: _order,
    e.MARKET_AMOUNT: _order,
    e.AMEND: _amend,
    e.DEPOSIT: _money,
    e.WITHDRAW_HOLD: _money,
    e.ADJUST: _money,
    e.SET_FEES: _fees,
    e.SET_SCHEDULE: _schedule,
    e.ASSIGN_FEES: _assignment,
    e.SET_LIMITS: _limited,
    e.KILL: _limited,
    e.REVIVE: _limited,
    e.SET_STATE: _state,
    e.SET_VOLUME_RATE: _volume_rate,
    e.SET_GROUPS: _groups,
    e.TRANSFER: _transfer,
    e.SET_TIMER: _set_timer,
    e.TICK: _timer,
    e.EXPIRE: _timer,
    e.SET_PRICES: _prices,
    e.SET_PROTECTION: _protection,
}


def _extension(slot: np.void, kind: int, listings: Listings) -> dict[str, Any]:
    record = _EXTENSIONS.get(int(slot["type"]))
    if record is None:
        return {}
    row = np.frombuffer(slot.tobytes(), dtype=record.slot_dtype)[0]
    if record is EXT_ADMIN_SLOT:
        return {"operator": _text(row["operator"]), "why": _text(row["reason"])}
    if record is EXT_IDS_SLOT:
        words = {"client_order_id": _text(row["client_order_id"])}
        return words | {name: int(row[name]) for name in ("link_id", "tag", "offset") if row[name]}
    if record is EXT_FEES_SLOT:
        tiers = [
            {
                "min_volume_units": int(row[f"min_units_{k}"]) if k else 0,
                "maker": _share(row[f"maker_e8_{k}"]),
                "taker": _share(row[f"taker_e8_{k}"]),
            }
            for k in range(min(e.FEE_TIERS_MAX, int(row["tiers"])))
        ]
        return {"tiers": tiers}
    if record is EXT_LIMITS_SLOT:
        names = ("qty_max_lots", "notional_max_units", "open_orders_max", "orders_per_s")
        return {name: int(row[name]) for name in names if row[name]} | {"collar": _share(row["collar_e8"])}
    if record is EXT_AUCTION_SLOT:
        numbers = {name: int(row[name]) for name in ("auction_ns", "random_ns", "extensions")}
        return {"dynamic": _share(row["dynamic_e8"])} | numbers
    if record is EXT_ASSET_SLOT:
        return {"asset": _text(row["symbol"]), "scale": int(row["scale"])}
    shares = {name: _share(row[f"{name}_e8"]) for name in ("band_up", "band_down", "breaker")}
    if kind != e.LIST_INSTRUMENT:
        return shares | {"reference_ticks": int(row["reference_ticks"])}
    known = listings.assets
    assets = {
        name: known[int(row[name])].symbol if int(row[name]) in known else str(row[name]) for name in ("base", "quote")
    }
    numbers = {
        name: int(row[name]) for name in ("tick_e8", "lot_atoms", "reference_ticks", "price_max_ticks", "qty_max_lots")
    }
    rates = {"maker": _share(row["maker_rate_e8"]), "taker": _share(row["taker_rate_e8"])}
    return {"symbol": _text(row["symbol"]), **assets, **numbers, **rates, **shares}


_EXTENSIONS: Final = {
    e.EXT_ADMIN: EXT_ADMIN_SLOT,
    e.EXT_IDS: EXT_IDS_SLOT,
    e.EXT_ASSET: EXT_ASSET_SLOT,
    e.EXT_LISTING: EXT_LISTING_SLOT,
    e.EXT_FEES: EXT_FEES_SLOT,
    e.EXT_LIMITS: EXT_LIMITS_SLOT,
    e.EXT_AUCTION: EXT_AUCTION_SLOT,
}


def _share(parts_e8: int) -> str:
    return plain(Decimal(int(parts_e8)).scaleb(-8))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
