"""Requests to command groups: what the client named becomes numbers, and the gateway fills account and flags itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from gateway.control import fees, quotes
from gateway.control import messages as m
from gateway.control.catalog import (
    Catalog,
    check_client_order_id,
    check_symbol,
    parse_amount,
    parse_price,
    parse_qty,
    parse_share_e8,
    parse_size,
)
from gateway.control.messages import Refused
from gateway.control.names import NAME_RULE, is_name
from protocol import build, reasons
from protocol import enums as e
from protocol.instruments import SCALE_MAX, Asset, Instrument, ListingError, fees_are_valid
from protocol.market_states import STATE_OF, VENUE_STATE_OF
from protocol.records import COMMAND_DTYPE, command_slots

_SIDES: Final = {"buy": e.BUY, "sell": e.SELL}
_PEGS: Final = {"bid": e.PEG_BID, "ask": e.PEG_ASK, "mid": e.PEG_MID}
_TRIGGERS: Final = {"last": e.TRIGGER_LAST, "mark": e.TRIGGER_MARK, "index": e.TRIGGER_INDEX}
_TIFS: Final = {"gtc": e.GTC, "ioc": e.IOC, "fok": e.FOK, "post_only": e.POST_ONLY, "gtd": e.GTC, "day": e.GTC}
_STPS: Final = {
    "none": e.STP_NONE,
    "expire_taker": e.STP_EXPIRE_TAKER,
    "expire_maker": e.STP_EXPIRE_MAKER,
    "expire_both": e.STP_EXPIRE_BOTH,
    "decrement": e.STP_DECREMENT,
}
_SECOND_NS: Final = 1_000_000_000
_SESSION_CHARS: Final = 8
CLIENT_IDS_MAX: Final = 1 << 16
_NS: Final = 1_000_000_000
Promise = tuple[str, int | str]


class Draft(msgspec.Struct):
    """A command group that is not numbered yet, and what its reply needs to know.

    ``promises`` are numbers, symbols and names that nobody else gets until the command is answered; ``extra`` goes
    into the reply as it is.
    """

    group: np.ndarray
    account: int = 0
    instrument: Instrument | None = None
    asset: Asset | None = None
    client_order_id: str = ""
    name: str = ""
    promises: tuple[Promise, ...] = ()
    extra: dict[str, Any] = {}

    @property
    def type(self) -> int:
        """Command type of the head."""
        return int(self.group[0]["type"])


class Drafter:
    """Makes drafts. Remembers recent client order ids, and what is promised to commands in flight."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._promised: set[Promise] = set()
        self._client_ids: dict[tuple[int, str], tuple[int, int]] = {}
        self._makers: dict[str, Callable[[Any, str, str], Draft]] = {
            "order": self._order,
            "cancel": self._cancel,
            "cancel_all": self._cancel_all,
            "amend": self._amend,
            "dead_man": self._dead_man,
            "quote": self._quote,
            "protect": self._protect,
            "create_account": self._create_account,
            "freeze": self._of_account(build.freeze),
            "unfreeze": self._of_account(build.unfreeze),
            "close_account": self._of_account(build.close_account),
            "list_asset": self._list_asset,
            "list_instrument": self._list_instrument,
            "set_fees": self._set_fees,
            "set_schedule": self._of_terms(fees.schedule_group),
            "assign_fees": self._assign_fees,
            "set_volume_rate": self._of_terms(fees.volume_rate_group),
            "set_groups": self._of_terms(fees.groups_group),
            "set_limits": self._of_terms(fees.limits_group),
            "kill": self._of_scope(build.kill),
            "revive": self._of_scope(build.revive),
            "transfer": self._transfer,
            "set_bands": self._set_bands,
            "halt": self._of_instrument(build.halt),
            "resume": self._of_instrument(build.resume),
            "set_state": self._set_state,
            "set_prices": self._set_prices,
            "deposit": self._money(build.deposit),
            "withdraw_hold": self._money(build.withdraw_hold),
            "adjust": self._money(build.adjust, signed=True),
            "withdraw_settle": self._of_hold(build.withdraw_settle),
            "withdraw_release": self._of_hold(build.withdraw_release),
            "tick": self._tick,
            "set_timer": self._set_timer,
        }

    def draft(self, request: m.Request) -> Draft:
        """Command group of a request; raises Refused."""
        return self._makers[request.op](request.args, request.operator, request.reason or request.op)

    def sent(self, draft: Draft) -> None:
        """Note a draft that got its numbers."""
        self._promised.update(draft.promises)
        if draft.client_order_id and draft.instrument is not None and draft.type not in {e.CANCEL, e.AMEND}:
            self._client_ids.pop((draft.account, draft.client_order_id), None)
            order_id = int(draft.group[0]["order_id"])
            self._client_ids[draft.account, draft.client_order_id] = (order_id, draft.instrument.index)
            if len(self._client_ids) > CLIENT_IDS_MAX:
                del self._client_ids[next(iter(self._client_ids))]

    def answered(self, draft: Draft) -> None:
        """Note that a sent draft has its reply: the tables hold what was promised, or nobody does."""
        self._promised.difference_update(draft.promises)

    def is_duplicate(self, draft: Draft, order_id: int, instrument: int) -> None:
        """Note that the client order id of a refused draft belongs to this order, unless a later draft has it by now."""
        key = draft.account, draft.client_order_id
        if self._client_ids.get(key, (0, 0))[0] == int(draft.group[0]["order_id"]):
            self._client_ids[key] = (order_id, instrument)

    # --- orders -------------------------------------------------------------------------------------------------------

    def _order(self, args: m.Order, operator: str, reason: str) -> Draft:
        instrument = self.catalog.instrument(args.instrument)
        account = self.catalog.account(args.account)
        side, stp = _SIDES[args.side], _STPS[args.stp]
        price_ticks = 0 if args.price is None else parse_price(instrument, args.price)
        if args.type == "limit":
            if args.price is None:
                raise Refused(reasons.MALFORMED, "a limit order needs a price", "args.price")
            if args.amount is not None or args.qty is None:
                raise Refused(reasons.MALFORMED, "a limit order has a quantity and no amount", "args.qty")
            group = build.limit(
                account=account,
                instrument=instrument.index,
                side=side,
                price_ticks=price_ticks,
                qty_lots=parse_qty(instrument, args.qty),
                tif=_TIFS[args.tif],
                stp=stp,
            )
        else:
            if args.tif != "gtc":
                raise Refused(reasons.MALFORMED, "a market order is immediate by itself; leave tif out", "args.tif")
            if (args.qty is None) == (args.amount is None):
                raise Refused(reasons.MALFORMED, "a market order has a quantity or an amount, one of them", "args.qty")
            if args.qty is not None:
                group = build.market(
                    account=account,
                    instrument=instrument.index,
                    side=side,
                    price_ticks=price_ticks,
                    qty_lots=parse_qty(instrument, args.qty),
                    stp=stp,
                )
            else:
                group = build.market_amount(
                    account=account,
                    instrument=instrument.index,
                    side=side,
                    price_ticks=price_ticks,
                    amount_units=parse_amount(instrument.quote, args.amount or ""),
                    stp=stp,
                )
        group = self._with_trigger(self._with_terms(group, args, instrument), args, instrument)
        group = _with_peg(group, args, instrument)
        if args.exits and args.linked is not None:
            raise Refused(reasons.MALFORMED, "an order has exits, or is linked with another, not both", "args.linked")
        if args.exits:
            side = e.BUY + e.SELL - side
            group = build.bracket(group, *(self._leg(group, side, one, instrument) for one in args.exits))
        elif args.linked is not None:
            leg = self._leg(group, side, args.linked, instrument)
            if int(group["expiry_ts_ns"][0]) != 0:
                leg = build.with_terms(leg, expiry_ts_ns=int(group["expiry_ts_ns"][0]))
            group = build.oco(group, leg)
        client_order_id = "" if args.client_order_id is None else check_client_order_id(args.client_order_id)
        group = _signed(group, operator, reason)
        if client_order_id:
            group = build.with_client_order_id(group, client_order_id)
        extra = {"side": args.side, "type": args.type}
        return Draft(group, account, instrument, client_order_id=client_order_id, extra=extra)

    def _with_terms(self, group: np.ndarray, args: m.Order, instrument: Instrument) -> np.ndarray:
        """What the order says beside price and quantity; whether it makes sense is risk's to say."""
        if (args.tif == "gtd") > (args.expires_ts_ns != 0):
            raise Refused(reasons.MALFORMED, "a gtd order says when it expires", "args.expires_ts_ns")
        if args.expires_ts_ns != 0 and args.tif not in ("gtd", "post_only"):
            raise Refused(reasons.MALFORMED, "only gtd and post_only have a time of expiry", "args.expires_ts_ns")
        display = 0 if args.display_qty is None else parse_qty(instrument, args.display_qty, "args.display_qty")
        minimum = 0 if args.min_qty is None else parse_qty(instrument, args.min_qty, "args.min_qty")
        expiry = e.EXPIRY_DAY if args.tif == "day" else args.expires_ts_ns
        if not (display or minimum or expiry):
            return group
        return build.with_terms(group, display_qty_lots=display, min_qty_lots=minimum, expiry_ts_ns=expiry)

    def _leg(self, entry: np.ndarray, side: int, args: m.Exit, instrument: Instrument) -> np.ndarray:
        """Another order of a list, of this side, for ``bracket`` or ``oco``."""
        if args.qty is None and entry["type"][0] == e.MARKET_AMOUNT:
            raise Refused(
                reasons.MALFORMED, "the exit of an order by amount has a quantity of its own", "args.exits.qty"
            )
        waits = args.trigger_price is not None or args.trail is not None or args.trail_bp != 0
        if args.price is None and not waits:
            raise Refused(reasons.MALFORMED, "an exit has a price, or waits for one", "args.exits.price")
        if args.price is None and args.tif != "gtc":
            raise Refused(reasons.MALFORMED, "a market order is immediate by itself; leave tif out", "args.exits.tif")
        lots = int(entry["qty_lots"][0]) if args.qty is None else parse_qty(instrument, args.qty, "args.exits.qty")
        common = {"account": int(entry["account"][0]), "instrument": instrument.index, "side": side, "qty_lots": lots}
        if args.price is None:
            group = build.market(**common, stp=int(entry["stp"][0]))
        else:
            price_ticks = parse_price(instrument, args.price, "args.exits.price")
            group = build.limit(**common, price_ticks=price_ticks, tif=_TIFS[args.tif], stp=int(entry["stp"][0]))
        group = self._with_trigger(group, args, instrument)
        if args.client_order_id is None:
            return group
        return build.with_client_order_id(group, check_client_order_id(args.client_order_id))

    def _with_trigger(self, group: np.ndarray, args: m.Order | m.Exit, instrument: Instrument) -> np.ndarray:
        """The price that the order waits for, if it does."""
        given = [args.trigger_price is not None, args.trail is not None, args.trail_bp != 0]
        if args.activation_price is not None and args.trail is None and args.trail_bp == 0:
            raise Refused(
                reasons.MALFORMED, "an activation_price is of an order with trail or trail_bp", "args.activation_price"
            )
        if not any(given):
            if args.trigger != "stop" or args.trigger_by != "last":
                raise Refused(
                    reasons.MALFORMED, "an order that waits has a trigger_price, trail or trail_bp", "args.trigger"
                )
            return group
        if sum(given) > 1:
            raise Refused(
                reasons.MALFORMED, "trigger_price, trail and trail_bp exclude each other", "args.trigger_price"
            )
        ref = _TRIGGERS[args.trigger_by]
        takes_profit = args.trigger == "take_profit"
        if args.trigger_price is not None:
            ticks = parse_price(instrument, args.trigger_price, "args.trigger_price")
            return build.with_trigger(group, trigger_price_ticks=ticks, trigger_ref=ref, takes_profit=takes_profit)
        kind, offset = e.OFFSET_BASIS_POINTS, args.trail_bp
        if args.trail is not None:
            kind, offset = e.OFFSET_TICKS, parse_price(instrument, args.trail, "args.trail")
        if offset >= 1 << 31:
            raise Refused(reasons.MALFORMED, "the offset of a trailing stop is below 2^31 ticks", "args.trail")
        activation = 0
        if args.activation_price is not None:
            activation = parse_price(instrument, args.activation_price, "args.activation_price")
        named: dict[str, Any] = {"trigger_ref": ref, "takes_profit": takes_profit, "trigger_price_ticks": activation}
        return build.with_trigger(group, offset_kind=kind, offset=offset, **named)

    def _cancel(self, args: m.Cancel, operator: str, reason: str) -> Draft:
        account = self.catalog.account(args.account)
        order_id, instrument = self._named_order(account, args)
        group = build.cancel(account=account, instrument=instrument.index, order_id=order_id)
        return Draft(_signed(group, operator, reason), account, instrument, client_order_id=args.client_order_id or "")

    def _cancel_all(self, args: m.CancelAll, operator: str, reason: str) -> Draft:
        if args.account is None and args.instrument is None and args.session is None:
            raise Refused(
                reasons.MALFORMED, "name an account, an instrument, a session, or several of them", "args.account"
            )
        if args.ended and args.session is None:
            raise Refused(reasons.MALFORMED, "name the session that has ended", "args.session")
        account = 0 if args.account is None else self.catalog.account(args.account)
        instrument = None if args.instrument is None else self.catalog.instrument(args.instrument)
        group = build.cancel_all(
            account=account,
            instrument=0 if instrument is None else instrument.index,
            session=_session(args.session),
            sides={None: e.CANCEL_BOTH, "buy": e.CANCEL_BIDS, "sell": e.CANCEL_ASKS}[args.side],
            cause=e.CAUSE_DISCONNECT if args.ended else e.CAUSE_ASKED,
        )
        return Draft(_signed(group, operator, reason), account, instrument)

    def _dead_man(self, args: m.DeadMan, operator: str, reason: str) -> Draft:
        account = self.catalog.account(args.account)
        instrument = None if args.instrument is None else self.catalog.instrument(args.instrument)
        if not 0 <= args.seconds <= e.DEAD_MAN_MAX_NS // _SECOND_NS:
            raise Refused(reasons.DEAD_MAN_DURATION, str(args.seconds), "args.seconds")
        group = build.dead_man(
            account=account,
            duration_ns=args.seconds * _SECOND_NS,
            instrument=0 if instrument is None else instrument.index,
            session=_session(args.session),
        )
        return Draft(_signed(group, operator, reason), account, instrument)

    def _quote(self, args: m.Quote, operator: str, reason: str) -> Draft:
        group = quotes.quote_group(self.catalog, args)
        return Draft(_signed(group, operator, reason), int(group[0]["account"]))

    def _protect(self, args: m.Protect, operator: str, reason: str) -> Draft:
        group, instrument = quotes.protection_group(self.catalog, args)
        limits = {"window_ms": args.window_ms, "qty": args.qty, "net_qty": args.net_qty, "trades": args.trades}
        return Draft(_signed(group, operator, reason), int(group[0]["account"]), instrument, extra=limits)

    def _amend(self, args: m.Amend, operator: str, reason: str) -> Draft:
        account = self.catalog.account(args.account)
        if args.price is None and args.qty is None:
            raise Refused(reasons.MALFORMED, "give a new price, a new total quantity, or both", "args.price")
        order_id, instrument = self._named_order(account, args)
        price_ticks = 0 if args.price is None else parse_price(instrument, args.price)
        qty_lots = 0 if args.qty is None else parse_qty(instrument, args.qty)
        if args.price is None or args.qty is None:
            order = self._open_order(account, instrument, order_id)
            price_ticks = price_ticks or order.price_ticks
            qty_lots = qty_lots or order.qty_lots
        group = build.amend(
            account=account, instrument=instrument.index, order_id=order_id, price_ticks=price_ticks, qty_lots=qty_lots
        )
        return Draft(_signed(group, operator, reason), account, instrument, client_order_id=args.client_order_id or "")

    def _named_order(self, account: int, args: m.Cancel | m.Amend) -> tuple[int, Instrument]:
        if (args.order_id is None) == (args.client_order_id is None):
            raise Refused(reasons.MALFORMED, "give the order id or the client order id, one of them", "args.order_id")
        instrument = None if args.instrument is None else self.catalog.instrument(args.instrument)
        if args.order_id is not None and instrument is not None:
            return args.order_id, instrument
        if args.client_order_id is not None:
            recent = self._client_ids.get((account, args.client_order_id))
            if recent is not None and (instrument is None or instrument.index == recent[1]):
                found = self.catalog.instrument_by_index(recent[1])
                assert found is not None, "an order was sent on this instrument"
                return recent[0], found
        orders, _ = self.catalog.view.open_orders(account, None if instrument is None else instrument.index)
        for order in orders:
            if args.order_id is None:
                same = order.client_order_id == args.client_order_id
            else:
                same = order.order_id == args.order_id
            found = self.catalog.instrument_by_index(order.instrument) if same else None
            if found is not None:
                return order.order_id, found
        named = f"order {args.order_id}" if args.order_id is not None else f"client order id {args.client_order_id!r}"
        raise Refused(reasons.UNKNOWN_ORDER, f"{named} of account {account}", "args.order_id")

    def _open_order(self, account: int, instrument: Instrument, order_id: int) -> Any:
        orders, _ = self.catalog.view.open_orders(account, instrument.index)
        for order in orders:
            if order.order_id == order_id:
                return order
        raise Refused(reasons.UNKNOWN_ORDER, f"order {order_id} of account {account}", "args.order_id")

    # --- accounts and money -------------------------------------------------------------------------------------------

    def _create_account(self, args: m.CreateAccount, operator: str, reason: str) -> Draft:
        if args.name is not None:
            self.check_free_name(args.name)
        account = self._free_account() if args.account is None else self.catalog.account(args.account)
        extra: dict[str, Any] = {"account": account}
        if args.name is not None:
            extra["name"] = args.name
        promises: tuple[Promise, ...] = (("account", account), ("name", args.name or ""))
        group = build.create_account(account, operator, reason)
        return Draft(group, account, name=args.name or "", promises=promises, extra=extra)

    def check_free_name(self, name: str) -> None:
        """Refuse a name that is none, or that an account has or is about to get."""
        if not is_name(name):
            raise Refused(reasons.MALFORMED, f"{name[:60]!r}: {NAME_RULE}", "args.name")
        if self.catalog.names.number(name) is not None or ("name", name) in self._promised:
            raise Refused(reasons.ACCOUNT_EXISTS, f"an account named {name!r}", "args.name")

    def _free_account(self) -> int:
        rows = self.catalog.view.accounts()
        taken = {row.account for row in rows if row.status != e.ACCOUNT_NONE}
        return self._free_number("account", taken, self.catalog.limits.accounts, reasons.UNKNOWN_ACCOUNT)

    def _free_number(self, kind: str, taken: set[int], largest: int, code: int) -> int:
        number = max(taken, default=0) + 1
        while (kind, number) in self._promised or number in taken:
            number += 1
        if number <= largest:
            return number
        for number in range(1, largest + 1):
            if number not in taken and (kind, number) not in self._promised:
                return number
        raise Refused(
            code, f"all {largest} {kind} numbers are taken; raise tables.{kind}s in the configuration of a new home"
        )

    def _of_account(self, builder: Callable[[int, str, str], np.ndarray]) -> Callable[[Any, str, str], Draft]:
        def make(args: m.OfAccount, operator: str, reason: str) -> Draft:
            account = self.catalog.account(args.account)
            return Draft(builder(account, operator, reason), account)

        return make

    def _money(
        self, builder: Callable[[int, int, int, str, str], np.ndarray], *, signed: bool = False
    ) -> Callable[[Any, str, str], Draft]:
        def make(args: m.Money, operator: str, reason: str) -> Draft:
            account = self.catalog.account(args.account)
            asset = self.catalog.asset(args.asset)
            units = parse_amount(asset, args.amount, signed=signed)
            return Draft(builder(account, asset.index, units, operator, reason), account, asset=asset)

        return make

    def _of_hold(self, builder: Callable[[int, int, str, str], np.ndarray]) -> Callable[[Any, str, str], Draft]:
        def make(args: m.OfHold, operator: str, reason: str) -> Draft:
            account = self.catalog.account(args.account)
            extra = {"hold_id": args.hold_id}
            return Draft(builder(account, args.hold_id, operator, reason), account, extra=extra)

        return make

    # --- listings -----------------------------------------------------------------------------------------------------

    def _list_asset(self, args: m.ListAsset, operator: str, reason: str) -> Draft:
        symbol = check_symbol(args.symbol, "args.symbol")
        if not 0 <= args.scale <= SCALE_MAX:
            raise Refused(reasons.BAD_LISTING, f"scale {args.scale}: 0 to {SCALE_MAX} decimals", "args.scale")
        rows = self.catalog.view.assets()
        if ("asset symbol", symbol) in self._promised or any(row.asset.symbol == symbol for row in rows):
            raise Refused(reasons.ASSET_EXISTS, symbol, "args.symbol")
        taken = {row.asset.index for row in rows}
        index = self._free_number("asset", taken, self.catalog.limits.assets, reasons.UNKNOWN_ASSET)
        asset = Asset(index, symbol, args.scale)
        extra = {"symbol": symbol, "asset": index, "scale": args.scale}
        group = build.list_asset(asset, operator, reason)
        promises: tuple[Promise, ...] = (("asset", index), ("asset symbol", symbol))
        return Draft(group, asset=asset, promises=promises, extra=extra)

    def _list_instrument(self, args: m.ListInstrument, operator: str, reason: str) -> Draft:
        symbol = check_symbol(args.symbol, "args.symbol")
        rows = self.catalog.view.instruments()
        if ("instrument symbol", symbol) in self._promised or any(row.instrument.symbol == symbol for row in rows):
            raise Refused(reasons.INSTRUMENT_EXISTS, symbol, "args.symbol")
        taken = {row.instrument.index for row in rows}
        index = self._free_number("instrument", taken, self.catalog.limits.instruments, reasons.UNKNOWN_INSTRUMENT)
        base = self.catalog.asset(args.base, "args.base")
        instrument = Instrument(
            index=index,
            symbol=symbol,
            base=base,
            quote=self.catalog.asset(args.quote, "args.quote"),
            tick_e8=parse_size(args.tick_size, 8, "args.tick_size"),
            lot_atoms=parse_size(args.lot_size, base.scale, "args.lot_size"),
            maker_rate_e8=parse_share_e8(args.maker, "args.maker", reasons.BAD_FEE),
            taker_rate_e8=parse_share_e8(args.taker, "args.taker", reasons.BAD_FEE),
            band_up_e8=parse_share_e8(args.band_up, "args.band_up", reasons.BAD_LISTING),
            band_down_e8=parse_share_e8(args.band_down, "args.band_down", reasons.BAD_LISTING),
            breaker_e8=parse_share_e8(args.breaker, "args.breaker", reasons.BAD_LISTING),
        )
        limits: dict[str, int] = {}
        if args.reference_price is not None:
            limits["reference_ticks"] = parse_price(instrument, args.reference_price, "args.reference_price")
        if args.price_max is not None:
            limits["price_max_ticks"] = parse_price(instrument, args.price_max, "args.price_max")
        if args.qty_max is not None:
            limits["qty_max_lots"] = parse_qty(instrument, args.qty_max, "args.qty_max")
        instrument = msgspec.structs.replace(instrument, **limits)
        _check_fees(instrument.maker_rate_e8, instrument.taker_rate_e8)
        try:
            instrument.check()
        except ListingError as error:
            raise Refused(reasons.BAD_LISTING, str(error)) from None
        extra = {"symbol": symbol, "instrument": index}
        group = build.list_instrument(instrument, operator, reason, **_interruptions(args))
        promises: tuple[Promise, ...] = (("instrument", index), ("instrument symbol", symbol))
        return Draft(group, instrument=instrument, promises=promises, extra=extra)

    def _set_fees(self, args: m.SetFees, operator: str, reason: str) -> Draft:
        instrument = self.catalog.instrument(args.instrument)
        maker = parse_share_e8(args.maker, "args.maker", reasons.BAD_FEE)
        taker = parse_share_e8(args.taker, "args.taker", reasons.BAD_FEE)
        _check_fees(maker, taker)
        return Draft(build.set_fees(instrument.index, maker, taker, operator, reason), instrument=instrument)

    def _of_terms(self, maker: Callable[[Catalog, Any, str, str], np.ndarray]) -> Callable[[Any, str, str], Draft]:
        def make(args: Any, operator: str, reason: str) -> Draft:
            group = maker(self.catalog, args, operator, reason)
            return Draft(group, int(group[0]["account"]), extra=_as_asked(args))

        return make

    def _of_scope(self, builder: Callable[..., np.ndarray]) -> Callable[[Any, str, str], Draft]:
        def make(args: m.OfScope, operator: str, reason: str) -> Draft:
            scope, at = fees.scope_of(self.catalog, args)
            group = builder(scope, operator, reason, **at)
            return Draft(group, int(group[0]["account"]), extra=_as_asked(args))

        return make

    def _assign_fees(self, args: m.AssignFees, operator: str, reason: str) -> Draft:
        scope, at = fees.scope_of(self.catalog, args, fees=True)
        group = build.assign_fees(scope, args.schedule, operator, reason, **at)
        return Draft(group, int(group[0]["account"]), extra=_as_asked(args))

    def _transfer(self, args: m.Transfer, operator: str, reason: str) -> Draft:
        account = self.catalog.account(args.account)
        to = self.catalog.account(args.to, "args.to")
        asset = self.catalog.asset(args.asset)
        group = build.transfer(account, to, asset.index, parse_amount(asset, args.amount), operator, reason)
        return Draft(group, account, asset=asset, extra={"to": to})

    def _set_bands(self, args: m.SetBands, operator: str, reason: str) -> Draft:
        instrument = self.catalog.instrument(args.instrument)
        reference = args.reference_price
        group = build.set_bands(
            instrument.index,
            band_up_e8=parse_share_e8(args.up, "args.up", reasons.BAD_LISTING),
            band_down_e8=parse_share_e8(args.down, "args.down", reasons.BAD_LISTING),
            breaker_e8=parse_share_e8(args.breaker, "args.breaker", reasons.BAD_LISTING),
            reference_ticks=0 if reference is None else parse_price(instrument, reference, "args.reference_price"),
            operator=operator,
            reason=reason,
            **_interruptions(args),
        )
        return Draft(group, instrument=instrument)

    def _of_instrument(self, builder: Callable[[int, str, str], np.ndarray]) -> Callable[[Any, str, str], Draft]:
        def make(args: m.OfInstrument, operator: str, reason: str) -> Draft:
            instrument = self.catalog.instrument(args.instrument)
            return Draft(builder(instrument.index, operator, reason), instrument=instrument)

        return make

    def _set_state(self, args: m.SetState, operator: str, reason: str) -> Draft:
        if args.instrument is None:
            if args.state not in VENUE_STATE_OF:
                raise Refused(reasons.MALFORMED, f"the venue is {' or '.join(VENUE_STATE_OF)}", "args.state")
            group = build.set_state(0, VENUE_STATE_OF[args.state], operator, reason)
            return Draft(group, extra={"venue": True, "market": args.state})
        if args.state not in STATE_OF:
            raise Refused(reasons.MALFORMED, "maintenance is a state of the venue: leave instrument out", "args.state")
        instrument = self.catalog.instrument(args.instrument)
        end: dict[str, int] = {}
        extra: dict[str, Any] = {"market": args.state}
        if args.end_ts_ns is not None:
            end = {"end_ts_ns": args.end_ts_ns, "then": STATE_OF[args.then]}
            extra |= {"end_ts_ns": args.end_ts_ns, "then": args.then}
        group = build.set_state(instrument.index, STATE_OF[args.state], operator, reason, **end)
        return Draft(group, instrument=instrument, extra=extra)

    def _set_prices(self, args: m.SetPrices, operator: str, reason: str) -> Draft:
        instrument = self.catalog.instrument(args.instrument)
        if args.mark is None and args.index is None:
            raise Refused(reasons.MALFORMED, "give the mark price, the index price, or both", "args.mark")
        mark = 0 if args.mark is None else parse_price(instrument, args.mark, "args.mark")
        index = 0 if args.index is None else parse_price(instrument, args.index, "args.index")
        group = build.set_prices(instrument.index, mark, index)
        return Draft(
            _signed(group, operator, reason), instrument=instrument, extra={"mark": args.mark, "index": args.index}
        )

    # --- the clock ----------------------------------------------------------------------------------------------------

    def _tick(self, args: m.Tick, operator: str, reason: str) -> Draft:
        group = command_slots(1)
        group["type"] = e.TICK
        group["timer"] = args.timer
        return Draft(_signed(group, operator, reason))

    def _set_timer(self, args: m.SetTimer, operator: str, reason: str) -> Draft:
        return Draft(build.set_timer(args.timer, args.period_ns, args.phase_ns, operator, reason))


def _session(text: str | None) -> int:
    """Name of a session given as ``GATEWAY:NUMBER``, 0 = none given."""
    if text is None:
        return 0
    gateway, colon, number = text.partition(":")
    if not (colon and gateway.isdecimal() and number.isdecimal() and len(text) <= _SESSION_CHARS):
        raise Refused(reasons.BAD_SESSION, text, "args.session")
    name = build.session_of(int(gateway), int(number))
    if int(gateway) >= e.SOURCES_MAX or not 0 < int(number) < 1 << e.SESSION_SHIFT:
        raise Refused(reasons.BAD_SESSION, text, "args.session")
    return name


def _with_peg(group: np.ndarray, args: m.Order, instrument: Instrument) -> np.ndarray:
    """The price that the order follows, if it does; whether it may is risk's to say."""
    if args.peg is None:
        if args.peg_offset is not None:
            raise Refused(reasons.MALFORMED, "an offset is that of a peg to bid, ask or mid", "args.peg_offset")
        return group
    if args.trigger_price is not None or args.trail is not None or args.trail_bp != 0:
        raise Refused(reasons.MALFORMED, "an order waits for a price or follows one", "args.peg")
    text = args.peg_offset or "0"
    below = text.startswith("-")
    offset = 0 if text == "0" else parse_price(instrument, text[below:], "args.peg_offset")
    if offset >= 1 << 31:
        raise Refused(reasons.MALFORMED, "the offset of a peg is below 2^31 ticks", "args.peg_offset")
    return build.with_peg(group, _PEGS[args.peg], -offset if below else offset)


def _signed(group: np.ndarray, operator: str, reason: str) -> np.ndarray:
    """The group with who and why as its last slot, as all commands of the control gateway have it."""
    assert group.dtype == COMMAND_DTYPE
    signed = np.zeros(len(group) + 1, dtype=COMMAND_DTYPE)
    signed[:-1] = group
    signed[-1:] = build.admin_slot(operator, reason)
    signed["flags"][:-1] |= np.uint32(e.FLAG_MORE)
    return signed


def _as_asked(args: m.Args) -> dict[str, Any]:
    """What a request named, for its reply; accounts are there by number already."""
    asked: dict[str, Any] = msgspec.to_builtins(args)
    return {
        name: value for name, value in asked.items() if value not in (None, False) and name not in ("account", "tiers")
    }


def _interruptions(args: m.SetBands | m.ListInstrument) -> dict[str, int]:
    """How trading is interrupted beside the breaker."""
    return {
        "dynamic_e8": parse_share_e8(args.dynamic, "args.dynamic", reasons.BAD_AUCTION),
        "auction_ns": args.auction_s * _NS,
        "random_ns": args.random_s * _NS,
        "extensions": args.extensions,
    }


def _check_fees(maker_rate_e8: int, taker_rate_e8: int) -> None:
    if not fees_are_valid(maker_rate_e8, taker_rate_e8):
        raise Refused(reasons.BAD_FEE, f"maker {maker_rate_e8}, taker {taker_rate_e8} (1e-8)", "args.taker")
