"""Assets and instruments by number: from risk's tables, or from the commands of a journal that list them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from protocol import enums as e
from protocol.instruments import Asset, Instrument, ListingError
from protocol.records import EXT_ASSET_SLOT, EXT_LISTING_SLOT

_NUMBERS: Final = tuple(field.name for field in EXT_LISTING_SLOT.fields if field.dtype == "<i8" and field.offset >= 48)
"""Tick, lot, rates, bands and largest values of a listing."""


def asset_of(risk: Any, number: int) -> Asset:
    """An asset as risk's tables have it."""
    row = risk.assets[number]
    return Asset(int(number), row["symbol"].decode("utf-8", "replace"), int(row["scale"]))


def instrument_of(risk: Any, number: int) -> Instrument:
    """An instrument as risk's tables have it; a consistent copy of its row is made first."""
    row = risk.instruments[number].copy()
    tick = int(row["tick_e8"])
    return Instrument(
        index=int(number),
        symbol=row["symbol"].decode("utf-8", "replace"),
        base=asset_of(risk, row["base"]),
        quote=asset_of(risk, row["quote"]),
        tick_e8=tick,
        lot_atoms=int(row["lot_atoms"]),
        maker_rate_e8=int(row["maker_rate_e8"]),
        taker_rate_e8=int(row["taker_rate_e8"]),
        band_up_e8=int(row["band_up_e8"]),
        band_down_e8=int(row["band_down_e8"]),
        reference_ticks=int(row["reference_e8"]) // tick,
        breaker_e8=int(row["breaker_e8"]),
        price_max_ticks=int(row["price_max_ticks"]),
        qty_max_lots=int(row["qty_max_lots"]),
    )


class Listings:
    """What is listed, by number.

    Parameters
    ----------
    risk : state of an engine in the past, from whose tables it starts; None: nothing is listed yet
    """

    def __init__(self, risk: Any = None) -> None:
        self.assets: dict[int, Asset] = {}
        self.instruments: dict[int, Instrument] = {}
        if risk is not None:
            self.assets = {n: asset_of(risk, n) for n in np.flatnonzero(risk.assets["status"]).tolist()}
            self.instruments = {n: instrument_of(risk, n) for n in np.flatnonzero(risk.instruments["status"]).tolist()}

    def observe(self, slots: np.ndarray) -> None:
        """Enter what these command slots list, as risk does: the first sound listing of a number counts."""
        if not len(slots):
            return
        for at in np.flatnonzero(np.isin(slots["type"][:-1], (e.LIST_ASSET, e.LIST_INSTRUMENT))):
            head, extension = slots[at], slots[at + 1 : at + 2]
            if head["type"] == e.LIST_ASSET and extension["type"][0] == e.EXT_ASSET:
                self._list_asset(int(head["asset"]), extension.view(EXT_ASSET_SLOT.slot_dtype)[0])
            elif head["type"] == e.LIST_INSTRUMENT and extension["type"][0] == e.EXT_LISTING:
                self._list_instrument(int(head["instrument"]), extension.view(EXT_LISTING_SLOT.slot_dtype)[0])

    def _list_asset(self, number: int, row: np.void) -> None:
        self.assets.setdefault(number, Asset(number, row["symbol"].decode("utf-8", "replace"), int(row["scale"])))

    def _list_instrument(self, number: int, row: np.void) -> None:
        base, quote = self.assets.get(int(row["base"])), self.assets.get(int(row["quote"]))
        if number in self.instruments or base is None or quote is None:
            return
        numbers = {name: int(row[name]) for name in _NUMBERS}
        symbol = row["symbol"].decode("utf-8", "replace")
        instrument = Instrument(number, symbol, base, quote, **numbers)
        try:
            instrument.check()
        except ListingError:
            return
        self.instruments[number] = instrument

    def symbol(self, instrument: int) -> str:
        """Symbol of an instrument; its number where nothing of the kind is listed."""
        listed = self.instruments.get(instrument)
        return listed.symbol if listed else str(instrument)
