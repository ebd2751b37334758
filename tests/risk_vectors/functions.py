"""One function for each ``fn`` of the vectors that the exchange has: ``input`` in, the shape of ``expected`` out."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from risk import state as s
from risk.fees import effective_rate, fee_or_rebate
from tests.risk_vectors.exchange import WHO, Exchange

E8 = 100_000_000
PLENTY = 1 << 61
SIDES: Final = {"BUY": e.BUY, "SELL": e.SELL}
Input = dict[str, Any]


class NotYet(Exception):
    """The exchange does not have this yet; the text says what."""


def _order(instrument: int, account: int, side: str, price: int, qty: int, **more: int) -> np.ndarray:
    return build.limit(
        account=account, instrument=instrument, side=SIDES[side], price_ticks=price, qty_lots=qty, **more
    )


def _only_spot(inst: Input) -> None:
    if inst["kind"] != "spot":
        raise NotYet(f"{inst['kind']} instruments")


def trade_value(v: Input) -> int:
    """What the outcome of a trade says."""
    _only_spot(v["inst"])
    x = Exchange()
    instrument = x.instrument(v["inst"])
    buyer, seller = x.account(), x.account()
    x.fund(buyer, "QUOTE", PLENTY)
    x.fund(seller, "BASE", PLENTY)
    x.do(_order(instrument, buyer, "BUY", v["price"], v["qty"]))
    out = x.do(_order(instrument, seller, "SELL", v["price"], v["qty"]))
    return int(out["value_units"][out["kind"] == e.OUT_TRADE][0])


def spot_lock(v: Input) -> Input:
    """What is locked by an order that rests."""
    x = Exchange()
    instrument = x.instrument(v["inst"])
    account = x.account()
    asset = "quote" if v["side"] == "BUY" else "base"
    x.fund(account, asset.upper(), PLENTY)
    x.do(_order(instrument, account, v["side"], v["price"], v["qty"]))
    return {"asset": asset, "amount": x.balance(account, asset.upper())[1]}


def spot_trade(v: Input) -> Input:
    """What a fill changes, seen from where both sides are locked."""
    x = Exchange()
    instrument = x.instrument(v["inst"])
    buyer, seller = x.account(), x.account()
    k = v["inst"]["tick_e8"] * v["inst"]["lot_atoms"] // E8
    locks = {(buyer, "QUOTE"): v["buyer_limit"] * v["qty"] * k, (seller, "BASE"): v["qty"] * v["inst"]["lot_atoms"]}
    for (account, asset), units in locks.items():
        x.fund(account, asset, units)
    x.do(build.set_fees(instrument, v["maker_rate_e8"], v["taker_rate_e8"], *WHO))
    buys = _order(instrument, buyer, "BUY", v["buyer_limit"], v["qty"])
    sells = _order(instrument, seller, "SELL", v["price"], v["qty"])
    for group in (buys, sells) if v["maker_side"] == "BUY" else (sells, buys):
        x.do(group)
    found: Input = {"fee": {"base": x.fee("BASE"), "quote": x.fee("QUOTE")}}
    for name, account in (("buyer", buyer), ("seller", seller)):
        found[name] = {}
        for asset in ("base", "quote"):
            free, locked = x.balance(account, asset.upper())
            found[name] |= {
                f"{asset}_free": free,
                f"{asset}_locked": locked - locks.get((account, asset.upper()), 0),
            }
    return found


def fee_tier(v: Input) -> Input:
    """Tier and rates of a fill on the day behind the given ones."""
    x = Exchange()
    instrument = x.instrument({"tick_e8": E8, "lot_atoms": 1})
    one, other = x.account(), x.account()
    for account in (one, other):
        x.fund(account, "BASE", 100)
        x.fund(account, "QUOTE", 100)
    tiers = [(t["min_volume"], t["maker_e8"], t["taker_e8"]) for t in v["tiers"]]
    x.do(build.set_schedule(1, tiers, *WHO))
    x.do(build.assign_fees(e.SCOPE_VENUE, 1, *WHO))
    today = x.ts_ns // s.DAY_NS
    for back, units in enumerate(reversed(v["daily_volumes"]), 1):
        x.risk.volumes[one * s.VOLUME_RING + (today - back) % s.VOLUME_RING] = units
    x.risk.accounts[one]["volume_day"] = today - 1
    x.risk.accounts[one]["today_units"] = v["daily_volumes"][-1]
    x.do(_order(instrument, other, "BUY", 1, 1))
    out = x.do(_order(instrument, one, "SELL", 1, 1))
    fill = out[out["kind"] == e.OUT_TRADE][0]
    words = x.risk.fee_tiers.reshape(-1, e.FEE_TIERS_MAX, s.FEE_WORDS)[int(fill["reason"]), int(fill["fee_tier"])]
    return {
        "tier": int(fill["fee_tier"]),
        "volume": int(x.risk.accounts[one]["volume_units"]),
        "maker_e8": int(words[s.FEE_MAKER]),
        "taker_e8": int(words[s.FEE_TAKER]),
    }


def _banded(v: Input) -> tuple[Exchange, int, int]:
    x = Exchange()
    shares = {"band_up_e8": v["up_e8"], "band_down_e8": v["down_e8"]}
    instrument = x.instrument({"tick_e8": v["tick_e8"], "lot_atoms": E8}, **shares)
    account = x.account()
    x.fund(account, "BASE", PLENTY)
    x.fund(account, "QUOTE", PLENTY)
    x.risk.instruments[instrument]["reference_e8"] = v["ref_e8"]
    return x, instrument, account


def price_band(v: Input) -> bool:
    """Whether an order at this price is taken."""
    x, instrument, account = _banded(v)
    out = x.send(_order(instrument, account, v["side"], v["price"], 1))
    refused = out["kind"][0] == e.OUT_REJECTED
    assert not refused or out["reason"][0] == r.PRICE_BAND
    return not refused


def market_cap_price(v: Input) -> int:
    """Effective price of a market order without one of its own."""
    x, instrument, account = _banded(v)
    out = x.do(build.market(account=account, instrument=instrument, side=SIDES[v["side"]], qty_lots=1))
    return int(out["price_ticks"][0])


def stp(v: Input) -> Input:
    """A taker that meets its own orders at one price."""
    x = Exchange()
    instrument = x.instrument({"tick_e8": E8, "lot_atoms": 1})
    account = x.account()
    x.fund(account, "BASE", 10_000)
    x.fund(account, "QUOTE", 10_000)
    ids = {}
    for maker in v["makers"]:
        ids[maker["id"]] = int(x.do(_order(instrument, account, "SELL", 1, maker["qty"]))["order_id"][0])
    mode = getattr(e, f"STP_{v['taker_mode']}")
    out = x.do(_order(instrument, account, "BUY", 1, v["taker_qty"], stp=mode))
    taker = int(out["order_id"][0])
    traded = out[(out["kind"] == e.OUT_TRADE) & (out["order_id"] == taker)]["qty_lots"].sum()
    taker_left = x.left_of(taker)
    makers = []
    for maker in v["makers"]:
        mine = out[out["order_id"] == ids[maker["id"]]]
        lost = mine[np.isin(mine["kind"], (e.OUT_PREVENTED, e.OUT_CANCELED))]["qty_lots"].sum()
        left = x.left_of(ids[maker["id"]])
        makers.append({"id": maker["id"], "qty": left or 0, "status": _status(left, int(lost)), "prevented": int(lost)})
    lost_taker = v["taker_qty"] - int(traded) - (taker_left or 0)
    shown = {"qty": taker_left or 0, "status": _status(taker_left, lost_taker), "traded": int(traded)}
    return {"taker": shown, "makers": makers}


def _status(left: int | None, prevented: int) -> str:
    if left is not None:
        return "OPEN"
    return "EXPIRED_IN_MATCH" if prevented else "FILLED"


class _Scenario:
    """Accounts, pairs and orders by the scenario's names; each account has a contract with its own rates."""

    def __init__(self, config: Input) -> None:
        self.x = Exchange()
        self.pairs = {
            name: (self.x.instrument(p["inst"], p["base"], p["quote"]), p) for name, p in config["pairs"].items()
        }
        self.accounts = {name: self.x.account() for name in config["rates"]}
        for instrument, _ in self.pairs.values():  # no fill has them, but a rebate may meet them
            self.x.do(build.set_fees(instrument, 100_000, 100_000, *WHO))
        for number, (name, (maker, taker)) in enumerate(config["rates"].items(), 1):
            self.x.do(build.set_schedule(number, [(0, maker, taker)], *WHO))
            self.x.do(build.assign_fees(e.SCOPE_ACCOUNT, number, *WHO, account=self.accounts[name]))
        self.orders: dict[str, Input] = {}
        self.fills: list[tuple[str, str, int]] = []

    def deposit(self, c: Input) -> None:
        self.x.fund(self.accounts[c["account"]], c["asset"], c["amount"])

    def order(self, c: Input) -> None:
        instrument = self.pairs[c["pair"]][0]
        out = self.x.send(_order(instrument, self.accounts[c["account"]], c["side"], c["price"], c["qty"]))
        order_id = int(out["order_id"][0])
        row = {"order_id": order_id, "instrument": instrument, "account": c["account"], "cancelled": False}
        self.orders[c["id"]] = row | {"rejected": out["kind"][0] == e.OUT_REJECTED}
        names = {row["order_id"]: name for name, row in self.orders.items()}
        taken = out[(out["kind"] == e.OUT_TRADE) & ((out["flags"] & e.OUTCOME_TAKER) != 0)]
        self.fills += [(c["id"], names[int(f["contra_order_id"])], int(f["qty_lots"])) for f in taken]

    def match(self, c: Input) -> None:
        """Orders match as they come, so the fill is there already."""
        self.fills.remove((c["taker"], c["maker"], c["qty"]))

    def cancel(self, c: Input) -> None:
        row = self.orders[c["id"]]
        group = build.cancel(
            account=self.accounts[row["account"]], instrument=row["instrument"], order_id=row["order_id"]
        )
        row["cancelled"] |= self.x.send(group)["kind"][0] == e.OUT_CANCELED

    def result(self) -> Input:
        assert not self.fills, f"the engine traded what the scenario does not: {self.fills}"
        accounts: Input = {}
        for name, number in self.accounts.items():
            for asset in self.x.assets:
                free, locked = self.x.balance(number, asset)
                held = {key: units for key, units in (("free", free), ("locked", locked)) if units}
                if held:
                    accounts.setdefault(name, {})[asset] = held
        fees = {asset: self.x.fee(asset) for asset in self.x.assets if self.x.fee(asset)}
        orders = {name: self._order_result(row) for name, row in self.orders.items()}
        return {"accounts": accounts, "fee": fees, "pool": {}, "interest_income": {}, "loans": {}, "orders": orders}

    def _order_result(self, row: Input) -> Input:
        left = self.x.left_of(row["order_id"])
        if row["rejected"]:
            status = "REJECTED"
        elif left is not None:
            status = "OPEN"
        else:
            status = "CANCELLED" if row["cancelled"] else "FILLED"
        return {"status": status, "remaining": left or 0}


def spot_scenario(v: Input) -> Input:
    """Deposits, orders, matches, cancels; the rest is margin."""
    foreign = {name for name, _ in v["commands"]} - {"deposit", "order", "cancel", "match"}
    if foreign:
        raise NotYet(f"spot_scenario with {', '.join(sorted(foreign))}")
    scenario = _Scenario(v["config"])
    for name, arguments in v["commands"]:
        getattr(scenario, name)(arguments)
    return scenario.result()


FUNCTIONS: Final[dict[str, Callable[[Input], Any]]] = {
    "trade_value": trade_value,
    "spot_lock": spot_lock,
    "spot_trade": spot_trade,
    "spot_scenario": spot_scenario,
    "eff_rate": lambda v: int(effective_rate(v["rate_e8"], v["api_discount_e8"])),
    "fee": lambda v: int(fee_or_rebate(v["value"], v["rate_e8"])),
    "fee_tier": fee_tier,
    "price_band": price_band,
    "market_cap_price": market_cap_price,
    "stp": stp,
}
