"""A plan's slots through the naive exchange, and what it did as outcome slots.

Stands in for the engine where only conversion is tested.
"""

import numpy as np

from cambist.replay.plan import Plan
from cambist.replay.report import Ledger
from protocol import build
from protocol import enums as e
from protocol.reasons import BY_CANCEL_ALL, BY_IOC, BY_STP, BY_USER
from protocol.records import OUTCOME_DTYPE
from tests.naive.exchange import InstrumentSpec, NaiveExchange, Verdict

_ORDERS = (e.LIMIT, e.MARKET, e.MARKET_AMOUNT)
_SETUP = (e.LIST_ASSET, e.LIST_INSTRUMENT, e.CREATE_ACCOUNT)


class NaiveEngine:
    """Feed it slots; `run` gives `OUTCOME_DTYPE` in order. Tables and accounts are those of the plan from the start."""

    def __init__(self, plan: Plan) -> None:
        specs = [
            InstrumentSpec(
                i.symbol,
                i.base.index,
                i.quote.index,
                i.tick_e8,
                i.lot_atoms,
                i.maker_rate_e8,
                i.taker_rate_e8,
                i.multiplier,
            )
            for i in plan.instruments
        ]
        self.exchange = NaiveExchange([a.symbol for a in plan.assets], specs, plan.accounts)
        self.seq = 0
        self.left: dict[int, int] = {}
        self.side: dict[int, int] = {}
        self.rows: list[dict[str, int]] = []

    def run(self, slots: np.ndarray) -> np.ndarray:
        self.rows = []
        heads = build.heads(slots)
        for head, slot in zip(heads, slots, strict=True):
            self.seq += 1
            if head:
                self._command(slot)
        out = np.zeros(len(self.rows), dtype=OUTCOME_DTYPE)
        for name in {name for row in self.rows for name in row}:
            out[name] = [row.get(name, 0) for row in self.rows]
        return out

    def ledger(self) -> Ledger:
        x = self.exchange
        return Ledger(
            lambda account, asset: (x.free[account, asset], x.locked[account, asset]),
            x.fee.__getitem__,
            x.net_deposits.__getitem__,
        )

    def _command(self, c: np.void) -> None:
        x = self.exchange
        first, fills, stp = len(self.rows), len(x.fills), len(x.stp_events)
        kind, order_id = int(c["type"]), int(c["order_id"])
        lefts = {o.id: o.left for o in x.orders.values()} if kind == e.CANCEL_ALL else {}
        before = x.orders.get(order_id)
        verdict = Verdict(0) if kind in _SETUP else self._apply(c)  # type: ignore[arg-type]
        if verdict.code:
            self._add(c, e.OUT_REJECTED, reason=int(verdict.code))
        elif kind in _ORDERS:
            self.side[order_id] = int(c["side"])
            self._add(c, e.OUT_NEW, leaves_qty_lots=int(c["qty_lots"]))
            self._trades(c, fills, stp, rested=verdict.y)
        elif kind == e.AMEND:
            assert before is not None
            left = (
                before.left + verdict.x + sum(row[2] for row in x.stp_events[stp:] if not row[3] and row[1] == order_id)
            )
            self._add(c, e.OUT_REPLACED, leaves_qty_lots=left)
            self._trades(c, fills, stp, rested=verdict.y)
        elif kind == e.CANCEL:
            self._add(c, e.OUT_CANCELED, reason=BY_USER, qty_lots=verdict.y)
        elif kind == e.CANCEL_ALL:
            for gone in sorted(set(lefts) - set(x.orders)):
                self._add(c, e.OUT_CANCELED, reason=BY_CANCEL_ALL, order_id=gone, qty_lots=lefts[gone])
            self._add(c, e.OUT_DONE, qty_lots=verdict.y)
        else:
            self._add(c, e.OUT_BALANCE if kind < e.SET_FEES else e.OUT_ADMIN)
        for index, row in enumerate(self.rows[first:]):
            row["index"] = index
        self.rows[-1]["flags"] = self.rows[-1].get("flags", 0) | e.OUTCOME_LAST

    def _apply(self, c: np.void) -> Verdict:
        x = self.exchange
        order_id, account, instrument, asset = (int(c[n]) for n in ("order_id", "account", "instrument", "asset"))
        side, tif, stp, price, qty = (int(c[n]) for n in ("side", "tif", "stp", "price_ticks", "qty_lots"))
        match int(c["type"]):
            case e.LIMIT:
                return x.limit(order_id, account, instrument, side, price, qty, tif, stp)
            case e.MARKET:
                return x.market_by_quantity(order_id, account, instrument, side, price, qty, stp)
            case e.MARKET_AMOUNT:
                return x.market_by_amount(order_id, account, instrument, side, price, qty, stp)
            case e.CANCEL:
                return x.cancel(order_id, account, instrument)
            case e.CANCEL_ALL:
                return x.cancel_all(account, instrument)
            case e.AMEND:
                return x.amend(order_id, account, instrument, price, qty)
            case e.DEPOSIT:
                return x.deposit(account, asset, qty)
            case e.WITHDRAW_HOLD:
                return x.withdrawal_hold(order_id, account, asset, qty)
            case e.WITHDRAW_SETTLE:
                return x.settle_hold(order_id, account)
            case e.WITHDRAW_RELEASE:
                return x.release_hold(order_id, account)
            case e.SET_FEES:
                return x.set_fees(instrument, price, qty)
            case e.FREEZE:
                return x.freeze(account)
            case e.UNFREEZE:
                return x.unfreeze(account)
            case e.HALT:
                return x.halt(instrument)
            case e.RESUME:
                return x.resume(instrument)
            case other:
                raise AssertionError(f"command type {other}")

    def _trades(self, c: np.void, fills: int, stp: int, *, rested: int) -> None:
        x = self.exchange
        taker = int(c["order_id"])
        for _, _, _, maker, price, qty in x.fills[fills:]:
            self.left[maker] -= qty
            self._add(c, e.OUT_TRADE, flags=e.OUTCOME_TAKER, contra_order_id=maker, price_ticks=price, qty_lots=qty)
            self._add(
                c,
                e.OUT_TRADE,
                order_id=maker,
                contra_order_id=taker,
                price_ticks=price,
                qty_lots=qty,
                leaves_qty_lots=self.left[maker],
            )
        for _, maker, lots, _ in x.stp_events[stp:]:
            self.left[maker] -= lots
            self._add(c, e.OUT_PREVENTED, flags=e.OUTCOME_TAKER, qty_lots=lots, reason=BY_STP)
            self._add(
                c, e.OUT_PREVENTED, order_id=maker, qty_lots=lots, leaves_qty_lots=self.left[maker], reason=BY_STP
            )
        self.left[taker] = rested
        alone = len(x.fills) == fills and len(x.stp_events) == stp
        if rested and not (alone and self.rows[-1]["kind"] == e.OUT_NEW):
            self._add(c, e.OUT_RESTED, leaves_qty_lots=rested)
        elif not rested:
            self._add(c, e.OUT_EXPIRED, reason=BY_IOC)

    def _add(self, c: np.void, kind: int, **fields: int) -> None:
        order_id = fields.get("order_id", int(c["order_id"]))
        row = {
            "seq": self.seq,
            "kind": kind,
            "order_id": order_id,
            "side": self.side.get(order_id, 0),
        }
        for name in ("source", "source_seq", "type", "account", "instrument", "price_ticks", "qty_lots"):
            row[name] = int(c[name])
        self.rows.append(row | fields)
