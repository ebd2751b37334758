"""What producers want: a small market with short funds, operators' commands, money; all drawn from a generator."""

import random

import numpy as np

from gateway.control import messages as m
from gateway.control.messages import Request
from protocol import build
from protocol import enums as e
from protocol.instruments import Asset, Instrument

WHO = ("sim", "test")
ACCOUNTS, ASSETS, INSTRUMENTS = 5, 3, 3
"""Rows of the tables; account 5 and instrument 3 come and go, or never come."""
SCALES = {1: 6, 2: 8, 3: 8}
MID_TICKS = 400
FUNDS = {1: 100_000, 2: 1_500_000, 3: 1_500_000}
"""About what ten orders hold."""
_INTERRUPTED = (
    e.INSTRUMENT_POST_ONLY, e.INSTRUMENT_CANCEL_ONLY, e.INSTRUMENT_CLOSED, e.INSTRUMENT_PRE_OPEN, e.INSTRUMENT_AUCTION,
    e.INSTRUMENT_AUCTION,
)  # fmt: skip
_REOPENED = (e.INSTRUMENT_OPEN, e.INSTRUMENT_OPEN, e.INSTRUMENT_OPEN, e.INSTRUMENT_POST_ONLY, e.INSTRUMENT_CLOSED)
_AUCTION_NS = 3_000_000_000
_EXPIRY_NS = 5_000_000_000
_AUCTION_RULES = {"dynamic_e8": 1_000_000, "auction_ns": 2_000_000_000, "random_ns": 1_000_000_000, "extensions": 1}
_MAKER_TAKER = ((0, 0), (-10_000, 40_000), (100_000, 100_000))


def opening(rng: random.Random) -> list[np.ndarray]:
    """Listings, accounts and first deposits."""
    groups = [build.list_asset(Asset(n, f"A{n}", scale), *WHO) for n, scale in SCALES.items()]
    # Instrument, bands and breaker as shares of 1e-8.
    for number, base, bands, breaker in ((1, 2, 0, 2_000_000), (2, 3, 2_000_000, 0)):
        maker, taker = rng.choice(_MAKER_TAKER)
        groups.append(
            build.list_instrument(
                Instrument(
                    number,
                    f"I{number}",
                    Asset(base, f"A{base}", SCALES[base]),
                    Asset(1, "A1", SCALES[1]),
                    1_000_000,
                    10_000,
                    maker,
                    taker,
                    bands,
                    bands,
                    MID_TICKS,
                    breaker,
                ),
                *WHO,
            )
        )
    for account in range(1, ACCOUNTS):
        groups.append(build.create_account(account, *WHO))
        rich = [asset for asset in SCALES if rng.random() < 0.8]
        groups += [build.deposit(account, asset, 1 + rng.randrange(FUNDS[asset]), *WHO) for asset in rich]
    return groups


class Office:
    """Operators' and money commands of a producer whose numbers are known as they are made."""

    def __init__(self, rng: random.Random, source: int) -> None:
        self.random = rng
        self._source = source
        self._holds: list[tuple[int, int]] = []
        self._follow: list[np.ndarray] = []

    def next(self, number: int) -> np.ndarray:
        """A group whose head will be command ``number`` of the source."""
        rng = self.random
        if self._follow and rng.random() < 0.4:
            return self._follow.pop()
        account, asset, instrument = rng.randrange(1, ACCOUNTS + 1), rng.randrange(1, ASSETS + 1), rng.randrange(1, 3)
        some = 1 + rng.randrange(FUNDS[asset] // 4)
        kind = rng.choices(
            (
                "deposit",
                "adjust",
                "hold",
                "end",
                "freeze",
                "halt",
                "resume",
                "fees",
                "bands",
                "account",
                "cancel",
                "state",
                "prices",
            ),
            (5, 2, 9, 3, 1, 2, 3, 1, 1, 1, 1, 3, 4),
        )[0]
        if kind == "deposit":
            return build.deposit(account, asset, some, *WHO)
        if kind == "adjust":
            return build.adjust(account, asset, rng.choice((some, -some)), *WHO)
        if kind == "hold" or (kind == "end" and not self._holds):
            self._holds.append((build.order_id_of(self._source, number), account))
            return build.withdraw_hold(account, asset, 1 + some // 8, *WHO)
        if kind == "end":
            hold, owner = self._holds.pop(rng.randrange(len(self._holds)))
            return rng.choice((build.withdraw_settle, build.withdraw_release))(owner, hold, *WHO)
        if kind == "freeze":
            self._follow.append(build.unfreeze(account, *WHO))
            return build.freeze(account, *WHO)
        if kind == "halt":
            self._follow.append(build.resume(instrument, *WHO))
            return build.halt(instrument, *WHO)
        if kind == "state":
            return self._state(rng.choice((0, instrument, instrument)))
        if kind == "resume":
            return build.resume(1, *WHO)
        if kind == "fees":
            return build.set_fees(instrument, *rng.choice(_MAKER_TAKER), *WHO)
        if kind == "prices":
            return build.set_prices(instrument, *(MID_TICKS + rng.randrange(-9, 10) for _ in range(2)))
        if kind == "bands":
            return self._bands(instrument)
        if kind == "account":
            return rng.choice((build.create_account, build.close_account))(ACCOUNTS, *WHO)
        return build.cancel_all(account=rng.choice((0, account)), instrument=instrument)

    def _state(self, instrument: int) -> np.ndarray:
        """Another state of the instrument or (0) the venue, which is undone later."""
        rng = self.random
        if instrument == 0:
            self._follow.append(build.set_state(0, e.VENUE_OPEN, *WHO))
            return build.set_state(0, e.VENUE_MAINTENANCE, *WHO)
        self._follow.append(build.set_state(instrument, rng.choice(_REOPENED), *WHO))
        return build.set_state(instrument, rng.choice(_INTERRUPTED), *WHO)

    def _bands(self, instrument: int) -> np.ndarray:
        rng = self.random
        return build.set_bands(
            instrument,
            band_up_e8=rng.choice((0, 1_000_000)),
            band_down_e8=rng.choice((0, 2_000_000)),
            breaker_e8=rng.choice((0, 1_000_000)),
            reference_ticks=rng.choice((0, MID_TICKS)),
            operator=WHO[0],
            reason=WHO[1],
            **(_AUCTION_RULES if rng.random() < 0.6 else {}),
        )


class Clients:
    """Orders of one gateway's clients, who remember the ids of what they sent.

    ``group_max``: most slots of a group; now and then one is as long as that.
    """

    def __init__(self, rng: random.Random, group_max: int) -> None:
        self.random = rng
        self._group_max = group_max
        self._sent: list[tuple[int, int, int]] = []

    def sent(self, group: np.ndarray) -> None:
        """Remember a numbered group."""
        head = group[0]
        if head["type"] in (e.LIMIT, e.MARKET):
            legs = group[group["type"] == e.EXT_LEG]
            ids = [int(head["order_id"]), *legs["order_id"].tolist()]
            self._sent += [(order_id, int(head["account"]), int(head["instrument"])) for order_id in ids]

    def next(self, utc_ns: int) -> np.ndarray:
        """What a client wants now."""
        rng = self.random
        kinds = ("limit", "market", "amount", "cancel", "amend", "all", "linked")
        kind = rng.choices(kinds, (50, 6, 6, 18, 14, 1, 5))[0]
        if kind in ("cancel", "amend") and self._sent:
            order_id, account, instrument = rng.choice(self._sent[-20:])
            if kind == "cancel":
                return build.cancel(account=account, instrument=instrument, order_id=order_id)
            price, lots = self._price(rng.randrange(2)), self._lots()
            return build.amend(
                account=account, instrument=instrument, order_id=order_id, price_ticks=price, qty_lots=lots
            )
        account = rng.randrange(1, ACCOUNTS) if rng.random() < 0.97 else ACCOUNTS
        instrument = rng.choice((1, 1, 2)) if rng.random() < 0.98 else 3
        if kind == "all":
            return build.cancel_all(account=account, instrument=rng.choice((0, instrument)))
        side = rng.randrange(2)
        stp = rng.choice((0, 0, 0, 1, 2, 3, 4))
        if kind == "linked":
            group = build.oco(*self._pair(account, instrument, side, self._lots(), utc_ns))
        elif kind == "market":
            group = build.market(
                account=account, instrument=instrument, side=side, qty_lots=self._lots(), price_ticks=self._price(side)
            )
        elif kind == "amount":
            # Often what a whole number of lots costs, so that some are spent to the last unit.
            price = MID_TICKS + rng.randrange(-2, 3)
            amount = rng.randrange(1, 9) * price + rng.choice((0, 0, 1, 399))
            worst = price + rng.choice((0, 3, 150)) * (1 if side == e.BUY else -1)
            group = build.market_amount(
                account=account, instrument=instrument, side=side, amount_units=amount, price_ticks=worst
            )
        else:
            group = build.limit(
                account=account,
                instrument=instrument,
                side=side,
                price_ticks=self._price(side),
                qty_lots=self._lots(),
                tif=rng.choice((0, 0, 0, 0, 0, 1, 2, 3)),
                stp=stp,
            )
        if kind in ("limit", "market", "amount"):
            group = self._with_means(group, utc_ns)
        name = _some_id(rng)
        if name is not None and len(group) < self._group_max:
            group = build.with_client_order_id(group, name, rng.randrange(9), rng.randrange(9))
        return self._longer(group) if rng.random() < 0.04 else group

    def _with_means(self, group: np.ndarray, utc_ns: int) -> np.ndarray:
        """Now and then the order waits for a price, follows one, shows a part, expires, or brings its exits."""
        rng = self.random
        account, instrument, side, lots = (
            int(group[name][0]) for name in ("account", "instrument", "side", "qty_lots")
        )
        rests = group["type"][0] == e.LIMIT and group["tif"][0] in (e.GTC, e.POST_ONLY)
        if rests and rng.random() < 0.1:
            later = utc_ns + rng.randrange(_EXPIRY_NS)
            group = build.with_terms(group, display_qty_lots=rng.choice((0, -(-lots // 3))), expiry_ts_ns=later)
        elif rests and rng.random() < 0.1:
            return build.with_peg(group, rng.choice((e.PEG_BID, e.PEG_ASK, e.PEG_MID)), rng.choice((0, 0, 2, -2)))
        if group["type"][0] != e.MARKET_AMOUNT and rng.random() < 0.08:
            group = self._stop(group)
        if rng.random() < 0.15:
            lots = 3 if group["type"][0] == e.MARKET_AMOUNT else lots
            exits = self._pair(account, instrument, 1 - side, lots, 0)
            group = build.bracket(group, *(exits if rng.random() < 0.5 else rng.sample(exits, 1)))
        return group

    def _stop(self, order: np.ndarray) -> np.ndarray:
        """The order waiting for a price not far away, or trailing it."""
        rng = self.random
        if rng.random() < 0.2:
            return build.with_trigger(order, offset_kind=e.OFFSET_TICKS, offset=rng.randrange(1, 9))
        price = MID_TICKS + rng.randrange(-6, 7)
        ref = rng.choice((e.TRIGGER_LAST, e.TRIGGER_LAST, e.TRIGGER_MARK))
        return build.with_trigger(order, trigger_price_ticks=price, trigger_ref=ref, takes_profit=rng.random() < 0.3)

    def _pair(self, account: int, instrument: int, side: int, lots: int, expiry_ts_ns: int) -> list[np.ndarray]:
        """Two orders that can be linked, around the price; 0 = they do not expire."""
        rng = self.random
        away = 1 if side == e.SELL else -1
        near, far = (MID_TICKS + sign * away * rng.randrange(1, 8) for sign in (1, -1))
        named = {"account": account, "instrument": instrument, "side": side, "qty_lots": lots}
        first = build.limit(price_ticks=near, tif=e.POST_ONLY, **named)
        if rng.random() < 0.4:
            first = build.limit(price_ticks=near, **named)
            first = build.with_trigger(first, trigger_price_ticks=near, takes_profit=True)
        second = build.market(price_ticks=far - away * 6, **named)
        if rng.random() < 0.3:
            second = build.with_trigger(second, offset_kind=e.OFFSET_TICKS, offset=rng.randrange(1, 9))
        else:
            ref = rng.choice((e.TRIGGER_LAST, e.TRIGGER_LAST, e.TRIGGER_MARK))
            second = build.with_trigger(second, trigger_price_ticks=far, trigger_ref=ref)
        pair = [first, second]
        if expiry_ts_ns and rng.random() < 0.3:
            later = expiry_ts_ns + rng.randrange(_EXPIRY_NS)
            pair = [build.with_terms(order, expiry_ts_ns=later) for order in pair]
        for k in range(2):
            name = _some_id(rng)
            if name is not None and self._group_max >= 6:
                pair[k] = build.with_client_order_id(pair[k], name, rng.randrange(9))
        return pair

    def _price(self, side: int) -> int:
        away = int(self.random.random() ** 2 * 14)
        crosses = self.random.random() < 0.4
        return MID_TICKS + (away if (side == e.BUY) == crosses else -away)

    def _lots(self) -> int:
        return 1 + int(self.random.random() ** 2 * 60)

    def _longer(self, group: np.ndarray) -> np.ndarray:
        """The group made as long as groups may be, with slots that nobody reads."""
        group = np.concatenate([group, *[build.admin_slot(*WHO)] * (self._group_max - len(group))])
        group["flags"][:-1] |= np.uint32(e.FLAG_MORE)
        return group


class Requests:
    """What an operator asks the control gateway for, as its socket would have read it."""

    def __init__(self, rng: random.Random, source: int) -> None:
        self.random = rng
        self._source = source
        self._ids: list[tuple[int, int]] = []

    def next(self, utc_ns: int) -> Request:
        """One request, made at this time."""
        rng = self.random
        account, symbol = rng.randrange(1, ACCOUNTS), rng.choice(("I1", "I1", "I2"))
        op = rng.choices(
            ("order", "cancel", "amend", "deposit", "resume", "balance", "orders", "set_state"),
            (9, 4, 2, 2, 2, 2, 1, 3),
        )[0]
        price = MID_TICKS + rng.randrange(-9, 10)
        args: m.Args = m.Order(
            account=account,
            instrument=symbol,
            side=rng.choice(("buy", "sell")),
            price=f"{price // 100}.{price % 100:02d}",
            qty=f"0.{rng.randrange(1, 40):04d}",
            tif=rng.choice(("gtc", "gtc", "ioc", "post_only")),
            client_order_id=_some_id(rng),
        )
        if op in ("cancel", "amend"):
            if not self._ids:
                op = "order"
            else:
                order_id, account = rng.choice(self._ids)
                args = m.Cancel(account=account, order_id=order_id, instrument=symbol)
                if op == "amend":
                    args = m.Amend(account=account, order_id=order_id, instrument=symbol, qty="0.0017", price="4.00")
        elif op == "deposit":
            args = m.Money(account=account, asset="A1", amount=f"0.{rng.randrange(1, 9_999):06d}")
        elif op == "set_state":
            args = m.SetState(instrument=symbol, state="auction", end_ts_ns=utc_ns + rng.randrange(_AUCTION_NS))
            args.then = rng.choice(("open", "open", "post-only", "closed"))
        elif op == "resume":
            args = m.OfInstrument(instrument=symbol)
        elif op == "balance":
            args = m.OfAccount(account=account)
        elif op == "orders":
            args = m.Orders(account=account)
        return Request(1, op, args, *WHO)

    def numbered(self, request: Request, number: int) -> None:
        """A request became command ``number`` of the source."""
        if isinstance(request.args, m.Order):
            account = request.args.account
            assert isinstance(account, int)
            self._ids.append((build.order_id_of(self._source, number), account))


def _some_id(rng: random.Random) -> str | None:
    """Often one that is taken, or was."""
    return f"order-{rng.randrange(12)}" if rng.random() < 0.25 else None
