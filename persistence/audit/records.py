"""Audit records from command slots and outcomes: a pure function, so that any replay of the journal gives the same ones.

A command is audited when it moves money, accounts, listings, fees, bands, trading states or timers, and whenever somebody signed it with
who and why, so that an operator's orders and cancels are in the trail too. Clients' orders, clock ticks and checkpoints are not.

Names and forms here are hashed and therefore never change: what is shown to people elsewhere may.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.records import (
    COMMAND,
    COMMAND_DTYPE,
    EXT_ADMIN_SLOT,
    EXT_ASSET_SLOT,
    EXT_AUCTION_SLOT,
    EXT_FEES_SLOT,
    EXT_IDS_SLOT,
    EXT_LEG_SLOT,
    EXT_LIMITS_SLOT,
    EXT_LISTING_SLOT,
    EXT_QUOTES_SLOT,
    OUTCOME_DTYPE,
    SYSTEM_COMMAND,
)
from ringbuf.bundle import Bundle

Record = dict[str, Any]
"""``seq``, ``ts_ns``, ``type``, ``source``, ``source_seq``, ``who``, ``why``, ``what`` (fields by name), ``outcome``."""

_ADMIN_TYPES: Final = (
    *range(e.DEPOSIT, e.ADJUST + 1),
    *range(e.SET_FEES, e.SET_LIMITS + 1),
    e.KILL,
    e.REVIVE,
    e.SET_STATE,
    e.TRANSFER,
)
_ALWAYS: Final = np.zeros(256, dtype=bool)
_ALWAYS[list(_ADMIN_TYPES)] = True

SOURCE_NAMES: Final = {
    e.SOURCE_SEQUENCER: "sequencer",
    e.SOURCE_RISK: "risk",
    e.SOURCE_CONTROL: "control",
    e.SOURCE_REPLAY: "replay",
    e.SOURCE_BOTS: "bots",
}
"""Others are ``gateway-N``."""
_ENUMS: Final = {
    "side": {e.BUY: "BUY", e.SELL: "SELL"},
    "tif": {e.GTC: "GTC", e.IOC: "IOC", e.FOK: "FOK", e.POST_ONLY: "POST_ONLY"},
    "stp": e.names("STP_"),
}
_MEANINGS: Final[dict[int, dict[str, str]]] = {
    e.LIMIT: {"side": "side", "tif": "tif", "stp": "stp", "price_ticks": "price_ticks", "qty_lots": "qty_lots"},
    e.MARKET: {"side": "side", "stp": "stp", "price_ticks": "price_ticks", "qty_lots": "qty_lots"},
    e.MARKET_AMOUNT: {"side": "side", "stp": "stp", "price_ticks": "price_ticks", "qty_lots": "amount_units"},
    e.AMEND: {"price_ticks": "price_ticks", "qty_lots": "qty_lots"},
    e.DEPOSIT: {"asset": "asset", "qty_lots": "amount_units"},
    e.ADJUST: {"asset": "asset", "qty_lots": "amount_units"},
    e.WITHDRAW_HOLD: {"asset": "asset", "qty_lots": "amount_units", "order_id": "hold_id"},
    e.WITHDRAW_SETTLE: {"order_id": "hold_id"},
    e.WITHDRAW_RELEASE: {"order_id": "hold_id"},
    e.SET_FEES: {"price_ticks": "maker_rate_e8", "qty_lots": "taker_rate_e8"},
    e.SET_SCHEDULE: {
        "qty_lots": "schedule",
        "price_ticks": "effective_ts_ns",
        "trigger_price_ticks": "api_discount_e8",
    },
    e.ASSIGN_FEES: {"price_ticks": "scope", "qty_lots": "schedule", "trigger_price_ticks": "firm"},
    e.SET_LIMITS: {"price_ticks": "scope", "trigger_price_ticks": "firm"},
    e.KILL: {"price_ticks": "scope", "trigger_price_ticks": "firm"},
    e.REVIVE: {"price_ticks": "scope", "trigger_price_ticks": "firm"},
    e.SET_STATE: {"price_ticks": "state", "qty_lots": "end_ts_ns", "trigger_price_ticks": "then"},
    e.SET_VOLUME_RATE: {"asset": "asset", "price_ticks": "volume_rate_e8"},
    e.SET_GROUPS: {"price_ticks": "master", "qty_lots": "firm", "trigger_price_ticks": "stp_group"},
    e.TRANSFER: {"asset": "asset", "qty_lots": "amount_units", "sub_account": "to_account"},
    e.SET_TIMER: {"timer": "timer", "price_ticks": "period_ns", "qty_lots": "phase_ns"},
    e.TICK: {"timer": "timer"},
    e.EXPIRE: {"timer": "timer"},
    e.SET_PROTECTION: {
        "price_ticks": "window_ns",
        "qty_lots": "qty_lots",
        "trigger_price_ticks": "net_lots",
        "order_id": "trades",
    },
    e.DEAD_MAN: {"price_ticks": "duration_ns", "trigger_price_ticks": "session"},
    e.SET_PRICES: {"price_ticks": "mark_ticks", "qty_lots": "index_ticks"},
}
"""Fields of the head that a type gives a meaning, under the name of that meaning; they are told also when zero."""
_ENVELOPE: Final = frozenset({"seq", "ts_ns", "type", "source", "source_seq", "version", "flags"})
_EXT_ENVELOPE: Final = frozenset({"seq", "ts_ns", "type", "flags"})
_FLAGS: Final = e.names("FLAG_")
_EXTENSIONS: Final = {
    e.EXT_IDS: EXT_IDS_SLOT,
    e.EXT_LISTING: EXT_LISTING_SLOT,
    e.EXT_ASSET: EXT_ASSET_SLOT,
    e.EXT_FEES: EXT_FEES_SLOT,
    e.EXT_LIMITS: EXT_LIMITS_SLOT,
    e.EXT_QUOTES: EXT_QUOTES_SLOT,
    e.EXT_AUCTION: EXT_AUCTION_SLOT,
}
_BANDS: Final = ("band_up_e8", "band_down_e8", "breaker_e8", "reference_ticks")


def audited_heads(slots: np.ndarray) -> np.ndarray:
    """Positions of the heads of audited commands in COMMAND_DTYPE ``slots`` of whole groups; int64[n], ascending."""
    kind = slots["type"]
    marked = _ALWAYS[kind] | (kind == e.EXT_ADMIN)
    if not marked.any():
        return np.zeros(0, dtype=np.int64)
    heads = build.heads(slots)
    # A type without meaning at the head of a group makes nobody an operator.
    marked &= _ALWAYS[kind] == heads
    at = np.flatnonzero(heads)
    return np.unique(at[np.searchsorted(at, np.flatnonzero(marked), side="right") - 1])


def audit_records(slots: np.ndarray, outcomes: np.ndarray, risk: Bundle) -> Iterator[Record]:
    """The record of each audited command, in order of seq.

    Parameters
    ----------
    slots : COMMAND_DTYPE, whole groups in order
    outcomes : OUTCOME_DTYPE, in order, at least all those of the audited commands
    risk : state of risk behind the commands, for symbols and scales of what was listed before each of them
    """
    assert slots.dtype == COMMAND_DTYPE
    assert outcomes.dtype == OUTCOME_DTYPE
    for head in audited_heads(slots).tolist():
        last = head
        while slots["flags"][last] & e.FLAG_MORE:
            last += 1
        group = slots[head : last + 1]
        seq = int(group["seq"][0])
        first, end = np.searchsorted(outcomes["seq"], (seq, seq + 1)).tolist()
        yield _record(group, outcomes[first:end], risk)


def _record(group: np.ndarray, outcomes: np.ndarray, risk: Bundle) -> Record:
    head = group[0]
    kind = int(head["type"])
    seq = int(head["seq"])
    system = bool(int(head["flags"]) & e.FLAG_SYSTEM)
    what = _head_fields((SYSTEM_COMMAND.slot_dtype if system else COMMAND.slot_dtype), group[:1], kind)
    who, why = "", ""
    for k in range(1, len(group)):
        ext = int(group["type"][k])
        if ext == e.EXT_ADMIN:
            signed = group[k : k + 1].view(EXT_ADMIN_SLOT.slot_dtype)[0]
            who, why = text_of(signed["operator"]), text_of(signed["reason"])
        elif ext == e.EXT_LEG:
            leg = _ext_fields(group[k : k + 1].view(EXT_LEG_SLOT.slot_dtype)[0], kind, ext)
            what.setdefault("legs", []).append(leg)
        elif ext in _EXTENSIONS:
            what |= _ext_fields(group[k : k + 1].view(_EXTENSIONS[ext].slot_dtype)[0], kind, ext)
    _name(what, kind, seq, risk)
    if system and not who:
        breaks = kind == e.HALT or (kind == e.SET_STATE and head["price_ticks"] == e.INSTRUMENT_AUCTION)
        who, why = "risk", "circuit breaker" if breaks else "end of an auction" if kind == e.SET_STATE else "system"
    source = int(head["source"])
    return {
        "seq": seq,
        "ts_ns": int(head["ts_ns"]),
        "type": e.COMMAND_NAMES.get(kind, f"TYPE_{kind}"),
        "source": SOURCE_NAMES.get(source, f"gateway-{source}"),
        "source_seq": int(head["source_seq"]),
        "who": who,
        "why": why,
        "what": what,
        "outcome": _outcome(outcomes, kind, seq, risk),
    }


def _head_fields(dtype: np.dtype[Any], slot: np.ndarray, kind: int) -> dict[str, Any]:
    """Fields of the head by their meaning: those that the type uses, and whatever else is not zero."""
    names = _MEANINGS.get(kind, {})
    values = dict(zip(dtype.names or (), slot.view(dtype)[0].item(), strict=True))
    what: dict[str, Any] = {}
    for name, value in values.items():
        if name in _ENVELOPE or not (name in names or value):
            continue
        what[names.get(name, name)] = _ENUMS[name].get(value, value) if name in _ENUMS else value
    flags = values["flags"] & ~e.FLAG_MORE
    if flags:
        what["flags"] = [name for bit, name in _FLAGS.items() if flags & bit]
    return what


def _ext_fields(slot: np.void, kind: int, ext: int) -> dict[str, Any]:
    """Fields of a later slot. A listing tells all of them; other commands use some, and the rest is told when not zero."""
    what: dict[str, Any] = {}
    for name, value in zip(slot.dtype.names or (), slot.item(), strict=True):
        if name in _EXT_ENVELOPE:
            continue
        told = kind in (e.LIST_ASSET, e.LIST_INSTRUMENT) or (ext == e.EXT_LISTING and name in _BANDS)
        if told or value:
            what[name] = text_of(value) if isinstance(value, bytes) else value
    return what


def _name(what: dict[str, Any], kind: int, seq: int, risk: Bundle) -> None:
    """Add symbols and decimal amounts where the numbers stand for something that was listed before the command."""
    instrument = _listed(risk.instruments, what.get("instrument", 0), seq)
    if instrument is not None and kind != e.LIST_INSTRUMENT:
        what["symbol"] = instrument
    asset = what.get("asset", 0)
    symbol = _listed(risk.assets, asset, seq)
    if symbol is not None and kind != e.LIST_ASSET:
        what["symbol"] = symbol
        if "amount_units" in what:
            what["amount"] = decimal(what["amount_units"], int(risk.assets[asset]["scale"]))


def _listed(table: np.ndarray, number: int, seq: int) -> str | None:
    """Symbol of a row that an earlier command listed."""
    if not 0 < number < len(table) or not 0 < table[number]["seq"] < seq:
        return None
    return text_of(table[number]["symbol"])


def _outcome(outcomes: np.ndarray, kind: int, seq: int, risk: Bundle) -> dict[str, Any]:
    assert len(outcomes), f"command {seq} has an outcome, as every command"
    first, last = outcomes[0], outcomes[-1]
    if first["kind"] == e.OUT_REJECTED:
        code = int(first["reason"])
        return {"accepted": False, "code": code, "reason": r.NAME.get(code, f"REASON_{code}")}
    told: dict[str, Any] = {"accepted": True}
    if first["kind"] == e.OUT_BALANCE:
        asset = int(first["asset"])
        told |= {"asset": asset, "amount_units": int(first["value_units"])}
        told |= {name: int(first[name]) for name in ("free_units", "locked_units")}
        symbol = _listed(risk.assets, asset, seq)
        if symbol is not None:
            told |= {"symbol": symbol, "amount": decimal(told["amount_units"], int(risk.assets[asset]["scale"]))}
    elif last["kind"] == e.OUT_DONE:
        told["canceled_orders"] = int(last["qty_lots"])
    elif kind in (e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.AMEND):
        # Of this order alone: stops that it set off are takers too.
        mine = outcomes[(outcomes["kind"] == e.OUT_TRADE) & (outcomes["order_id"] == first["order_id"])]
        told |= {"trades": len(mine), "traded_lots": int(mine["qty_lots"].sum())}
        own = outcomes[(outcomes["order_id"] == first["order_id"]) & (outcomes["kind"] != e.OUT_IDS)][-1]
        told["leaves_qty_lots"] = int(own["leaves_qty_lots"])
    elif kind == e.CANCEL:
        told["canceled_lots"] = int(first["qty_lots"])
    return told


def decimal(units: int, scale: int) -> str:
    """Amount of an asset with ``scale`` decimals as text, without trailing zeros: ``decimal(1050, 2) == "10.5"``."""
    sign, digits = ("-" if units < 0 else ""), str(abs(units)).rjust(scale + 1, "0")
    whole, part = (digits[:-scale], digits[-scale:].rstrip("0")) if scale else (digits, "")
    return f"{sign}{whole}.{part}" if part else f"{sign}{whole}"


def text_of(value: bytes) -> str:
    """Text of a command; bytes that are no UTF-8 stay visible."""
    return value.decode("utf-8", "backslashreplace")
