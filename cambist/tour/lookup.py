"""Looks up what was acknowledged: in the journal, rebuilt, and in the tables of the engine that runs now.

Three questions, whose answers are lists of sentences; an empty list is what an exchange promises.

* Does the journal, rebuilt from its beginning, give every command the very outcome that the client was told?
* Does the engine have exactly the orders in its books that ought to rest, at their price and quantity?
* Does each account have what it had at first, plus and minus its trades?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from cambist.demo.setup import Demo
from cambist.tour.client import Fill, Told
from persistence.fused import FusedEngine
from persistence.journal.reader import JournalReader
from persistence.recovery import load_limits
from protocol import enums as e
from protocol.instance import Engine
from protocol.instruments import Instrument
from protocol.records import OUTCOME_DTYPE

_STATES: Final = {
    e.OUT_NEW: "resting",
    e.OUT_RESTED: "resting",
    e.OUT_REPLACED: "resting",
    e.OUT_CANCELED: "canceled",
    e.OUT_EXPIRED: "expired",
    e.OUT_REJECTED: "rejected",
}


class Known(NamedTuple):
    """What became of one command."""

    state: str
    reason: int
    fills: tuple[tuple[int, int, int, int], ...]
    """Price in ticks, lots, value in quote units, fee in units of the asset received."""


def rebuild(home: Path, to_seq: int, accounts: Sequence[int]) -> np.ndarray:
    """All outcomes of ``accounts`` that the journal gives up to command ``to_seq``, OUTCOME[n] in order."""
    engine = FusedEngine(Engine(limits=load_limits(home)))
    kept = [np.zeros(0, dtype=OUTCOME_DTYPE)]
    wanted = np.array(accounts)

    def keep(part: np.ndarray) -> None:
        kept.append(part[np.isin(part["account"], wanted) & (part["kind"] != e.OUT_IDS)])

    for slots in JournalReader(home / "journal", to_seq=to_seq):
        engine.feed(slots, keep)
    return np.concatenate(kept)


def not_as_told(told: Iterable[Told], outcomes: np.ndarray, demo: Demo) -> list[str]:
    """Acknowledgements that the journal does not bear out: lost ones, and those that came out otherwise."""
    starts = np.searchsorted(outcomes["seq"], [one.seq for one in told], side="left")
    ends = np.searchsorted(outcomes["seq"], [one.seq for one in told], side="right")
    wrong = []
    for one, start, end in zip(told, starts, ends, strict=True):
        rows = outcomes[start:end]
        rows = rows[rows["order_id"] == one.order_id]
        what = f"{one.op} of order {one.order_id}, seq {one.seq}, acknowledged as {one.state}"
        if len(rows) == 0:
            wrong.append(f"{what}: LOST, the journal has no such command")
            continue
        is_now, was_told = _from_rows(rows), _from_text(one, demo)
        if is_now != was_told:
            wrong.append(f"{what}: the journal says {is_now}, the client was told {was_told}")
    return wrong


def not_resting(
    told: Iterable[Told], outcomes: np.ndarray, orders: Iterable[Mapping[str, Any]], demo: Demo
) -> list[str]:
    """Differences between the orders in the books and those that ought to be there.

    ``orders`` are the rows of the gateway's answer. An order ought to be there as it was told, less what the journal
    says that others have taken of it since.
    """
    due = resting(told, outcomes, demo)
    found = {}
    for row in orders:
        instrument = demo.markets[row["instrument"]].instrument
        found[row["order_id"]] = (instrument.price_ticks(row["price"]), instrument.qty_lots(row["leaves_qty"]))
    wrong = []
    for order_id, (ticks, lots) in due.items():
        if order_id not in found:
            wrong.append(f"order {order_id}: LOST, it should rest with {lots} lots at {ticks} ticks")
        elif found[order_id] != (ticks, lots):
            was, now = (ticks, lots), found[order_id]
            wrong.append(f"order {order_id}: should rest as (ticks, lots) {was}, the engine has {now}")
    wrong += [
        f"order {order_id}: is in the books and was not acknowledged as resting" for order_id in found.keys() - due
    ]
    return wrong


def resting(told: Iterable[Told], outcomes: np.ndarray, demo: Demo) -> dict[int, tuple[int, int]]:
    """Orders that ought to be in the books by id: ticks and lots."""
    due: dict[int, tuple[int, int]] = {}
    for one in sorted(told, key=lambda one: one.seq):
        if one.state == "resting":
            instrument = demo.markets[one.symbol].instrument
            due[one.order_id] = (instrument.price_ticks(one.price), instrument.qty_lots(one.leaves_qty))
        elif one.state == "canceled":
            due.pop(one.order_id, None)
    own = {one.seq for one in told}
    taken = outcomes[(outcomes["kind"] == e.OUT_TRADE) & ~np.isin(outcomes["seq"], list(own))]
    for row in taken:
        ticks, lots = due.get(int(row["order_id"]), (0, 0))
        if lots == int(row["qty_lots"]):
            del due[int(row["order_id"])]
        elif lots:
            due[int(row["order_id"])] = (ticks, lots - int(row["qty_lots"]))
    return due


def not_paid(
    account: int, before: Mapping[str, int], now: Mapping[str, int], outcomes: np.ndarray, demo: Demo
) -> list[str]:
    """Differences between what ``account`` has now and what it had, plus and minus its trades; units by asset."""
    due = dict(before)
    instruments = {market.instrument.index: market.instrument for market in demo.markets.values()}
    symbols = {asset.index: asset.symbol for asset in demo.assets.values()}
    trades = outcomes[(outcomes["account"] == account) & (outcomes["kind"] == e.OUT_TRADE)]
    for row in trades:
        instrument = instruments[int(row["instrument"])]
        sign = 1 if row["side"] == e.BUY else -1
        moves = {
            instrument.base.symbol: sign * int(row["qty_lots"]) * instrument.lot_atoms,
            instrument.quote.symbol: -sign * int(row["value_units"]),
        }
        if row["fee_asset"]:
            fee_asset = symbols[int(row["fee_asset"])]
            moves[fee_asset] = moves.get(fee_asset, 0) - int(row["fee_units"])
        for asset, units in moves.items():
            due[asset] = due.get(asset, 0) + units
    return [
        f"account {account}: should have {demo.assets[asset].amount(due.get(asset, 0))} {asset}, "
        f"the engine says {demo.assets[asset].amount(now.get(asset, 0))}"
        for asset in sorted(due.keys() | now.keys())
        if due.get(asset, 0) != now.get(asset, 0)
    ]


def _from_rows(rows: np.ndarray) -> Known:
    last = rows[-1]
    kind = int(last["kind"])
    fills = rows[rows["kind"] == e.OUT_TRADE]
    state = _STATES.get(kind, "")
    if kind == e.OUT_TRADE:
        state = "filled" if last["leaves_qty_lots"] == 0 else "resting"
    names = ("price_ticks", "qty_lots", "value_units", "fee_units")
    return Known(
        state,
        int(last["reason"]) if kind == e.OUT_REJECTED else 0,
        tuple(tuple(int(row[name]) for name in names) for row in fills),  # type: ignore[misc] # four of them
    )


def _from_text(told: Told, demo: Demo) -> Known:
    instrument = demo.markets[told.symbol].instrument
    return Known(told.state, told.reason, tuple(_numbers(fill, instrument) for fill in told.fills))


def _numbers(fill: Fill, instrument: Instrument) -> tuple[int, int, int, int]:
    received = instrument.quote if fill.fee_asset == instrument.quote.symbol else instrument.base
    return (
        instrument.price_ticks(fill.price),
        instrument.qty_lots(fill.qty),
        instrument.quote.units(fill.value),
        received.units(fill.fee),
    )
