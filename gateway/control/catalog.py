"""Decimal text to ticks, lots and units, exactly; symbols and account names to numbers.

Numbers are read with ASCII digits, one optional point and sign, no exponent: what cannot be written like this is no
price.
"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext
from typing import Final

from gateway.control.messages import Refused
from gateway.control.names import NameBook
from gateway.control.view import EngineView
from protocol import reasons
from protocol.fixed_point import E8
from protocol.instance import Limits
from protocol.instruments import Asset, Instrument

_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,24}(\.[0-9]{1,24})?")
_CLIENT_ORDER_ID: Final = re.compile(r"[\x21-\x7e]{1,36}")
_PRECISION: Final = 80
"""Significant digits: more than 24 + 24 and the largest scale, so that no step rounds."""
_INT64_MAX: Final = (1 << 63) - 1


class Catalog:
    """Looks up what requests name. Listings never change their tick, lot and scale, so that rows are kept once seen."""

    def __init__(self, view: EngineView | None, limits: Limits, names: NameBook) -> None:
        self.limits = limits
        self.names = names
        self._view = view
        self._assets: dict[str, Asset] = {}
        self._instruments: dict[str, Instrument] = {}

    @property
    def view(self) -> EngineView:
        """The engine's tables; refused while there is no engine."""
        if self._view is None:
            raise Refused(reasons.ENGINE_DOWN)
        return self._view

    def attach(self, view: EngineView | None) -> None:
        """Read another epoch's tables from now on."""
        self._view = view
        self._assets.clear()
        self._instruments.clear()

    def asset(self, symbol: str, field: str = "args.asset") -> Asset:
        """Asset of a symbol."""
        if symbol not in self._assets:
            self._assets = {row.asset.symbol: row.asset for row in self.view.assets()}
        try:
            return self._assets[symbol]
        except KeyError:
            known = ", ".join(sorted(self._assets)) or "none yet"
            raise Refused(reasons.UNKNOWN_ASSET, f"{symbol!r}; listed: {known}", field) from None

    def asset_by_index(self, index: int) -> Asset | None:
        """Asset of a number."""
        for retry in (False, True):
            if retry:
                self._assets = {row.asset.symbol: row.asset for row in self.view.assets()}
            for asset in self._assets.values():
                if asset.index == index:
                    return asset
        return None

    def instrument(self, symbol: str, field: str = "args.instrument") -> Instrument:
        """Instrument of a symbol."""
        if symbol not in self._instruments:
            self._load_instruments()
        try:
            return self._instruments[symbol]
        except KeyError:
            known = ", ".join(sorted(self._instruments)) or "none yet"
            raise Refused(reasons.UNKNOWN_INSTRUMENT, f"{symbol!r}; listed: {known}", field) from None

    def instrument_by_index(self, index: int) -> Instrument | None:
        """Instrument of a number."""
        for retry in (False, True):
            if retry:
                self._load_instruments()
            for instrument in self._instruments.values():
                if instrument.index == index:
                    return instrument
        return None

    def account(self, account: int | str, field: str = "args.account") -> int:
        """Account of a number or name; that it exists is for risk to say."""
        if isinstance(account, str):
            number = self.names.number(account)
            if number is None and account.isascii() and account.isdigit():
                number = int(account)
            if number is None:
                raise Refused(reasons.UNKNOWN_ACCOUNT, f"no account is named {account!r}", field)
            account = number
        if not 1 <= account <= self.limits.accounts:
            detail = f"{account}; accounts are numbered 1 to {self.limits.accounts}"
            raise Refused(reasons.UNKNOWN_ACCOUNT, detail, field)
        return account

    def _load_instruments(self) -> None:
        self._instruments = {row.instrument.symbol: row.instrument for row in self.view.instruments()}


def parse_price(instrument: Instrument, text: str, field: str = "args.price") -> int:
    """Ticks of a price, at least 1."""
    with localcontext(prec=_PRECISION):
        value = parse_decimal(text, field)
        try:
            ticks = instrument.price_ticks(value)
        except ValueError as error:
            raise Refused(reasons.OFF_TICK, str(error), field) from None
    if ticks < 1:
        raise Refused(reasons.BAD_PRICE, f"price {text}", field)
    return _in_range(ticks, text, field)


def parse_qty(instrument: Instrument, text: str, field: str = "args.qty") -> int:
    """Lots of a quantity, at least 1."""
    with localcontext(prec=_PRECISION):
        value = parse_decimal(text, field)
        try:
            lots = instrument.qty_lots(value)
        except ValueError as error:
            raise Refused(reasons.OFF_LOT, str(error), field) from None
    if lots < 1:
        raise Refused(reasons.BAD_QUANTITY, f"quantity {text}", field)
    return _in_range(lots, text, field)


def parse_amount(asset: Asset, text: str, field: str = "args.amount", *, signed: bool = False) -> int:
    """Units of an amount: at least 1, or with ``signed`` not 0."""
    with localcontext(prec=_PRECISION):
        value = parse_decimal(text, field)
        try:
            units = asset.units(value)
        except ValueError as error:
            raise Refused(reasons.BAD_QUANTITY, str(error), field) from None
    if units < 1 and not (signed and units < 0):
        raise Refused(reasons.BAD_QUANTITY, f"amount {text}", field)
    return _in_range(units, text, field)


def parse_share_e8(text: str, field: str, code: int) -> int:
    """Parts of 1e-8 of a share, written "0.001" or "0.1%"; ``code`` refuses finer ones and those above 100 %."""
    with localcontext(prec=_PRECISION):
        percent = text.endswith("%")
        share = parse_decimal(text.removesuffix("%"), field).scaleb(6 if percent else 8)
        parts = int(share) if share == share.to_integral_value() else None
    if parts is None:
        raise Refused(code, f"{text}: the smallest share is 0.00000001", field)
    if abs(parts) > E8:
        raise Refused(code, f"{text}: more than 100 %", field)
    return parts


def parse_size(text: str, scale: int, field: str) -> int:
    """A tick or lot size in units of 10^-scale, at least 1."""
    with localcontext(prec=_PRECISION):
        size = parse_decimal(text, field).scaleb(scale)
        whole = size == size.to_integral_value() and size >= 1
        units = int(size) if whole else 0
    if not whole:
        raise Refused(reasons.BAD_LISTING, f"{text}: a size is a positive multiple of 1e-{scale}", field)
    return _in_range(units, text, field)


def parse_decimal(text: str, field: str) -> Decimal:
    """Value of a decimal number in text."""
    if _DECIMAL.fullmatch(text) is None:
        detail = f"{text[:60]!r} is no decimal number; write it like 100.25, without exponent or separators"
        raise Refused(reasons.MALFORMED, detail, field)
    return Decimal(text)


def check_client_order_id(text: str) -> str:
    """Refuse what cannot be kept whole: 1 to 36 printable ASCII characters without spaces."""
    if _CLIENT_ORDER_ID.fullmatch(text) is None:
        detail = f"{text[:60]!r} has {len(text)} characters; 1 to 36 printable ASCII characters without spaces are kept"
        raise Refused(reasons.MALFORMED, detail, "args.client_order_id")
    return text


def check_symbol(text: str, field: str) -> str:
    """Refuse a symbol that is not 1 to 16 printable ASCII characters without spaces."""
    if not (1 <= len(text) <= 16 and _CLIENT_ORDER_ID.fullmatch(text)):
        detail = f"{text!r}: a symbol has 1 to 16 printable ASCII characters without spaces"
        raise Refused(reasons.BAD_LISTING, detail, field)
    return text


def _in_range(value: int, text: str, field: str) -> int:
    if abs(value) > _INT64_MAX:
        raise Refused(reasons.RANGE, text, field)
    return value
