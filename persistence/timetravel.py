"""Exact state of a home right after any command of its history: a book, an account, the life of an order.

A past state is the latest known one below the command (``history.open_past``) with the journal applied from there on, so it is what the
live engine had, to the unit. Works beside a running exchange, up to its durable cursor, and changes nothing. Answers are plain values, as
``cambist inspect --json`` prints them: quantities as decimal text and in lots or units.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from matcher.views import resting_orders
from persistence.commands import SIDES, TIFS
from persistence.durable import durable_seq
from persistence.fused import FusedEngine
from persistence.history import open_past
from persistence.journal.layout import SegmentHeader
from persistence.journal.origin import check_executable
from persistence.journal.reader import JournalReader
from persistence.journal.segments import lineage
from persistence.journal.store import DirectoryStore
from persistence.listings import Listings
from persistence.moments import Moment, iso_time
from persistence.orderlife import OrderLife
from persistence.postgres.places import Places
from persistence.quoted import quote_command
from persistence.recovery import load_limits
from protocol import enums as e
from protocol.build import heads
from protocol.instance import Engine
from protocol.market_states import STATE_NAMES
from protocol.records import EXT_IDS_SLOT
from risk import state as s
from risk.views import account_numbers

_NEAR_MAX: Final = 8
_BEARING: Final = (e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.WITHDRAW_HOLD)
_ACCOUNT_STATES: Final = {e.ACCOUNT_OPEN: "open", e.ACCOUNT_FROZEN: "frozen", e.ACCOUNT_CLOSED: "closed"}

OnProgress = Callable[[int, int], None]
"""Called with the commands applied so far and those that there are."""


class NotInHistory(LookupError):
    """What was asked for is not in the history, or not yet; the text says what is."""


class Place(NamedTuple):
    """The end of a whole command: its last slot, and the sequenced time."""

    seq: int
    ts_ns: int

    def answer(self) -> dict[str, Any]:
        """As answers name it."""
        return {"seq": self.seq, "ts_ns": self.ts_ns, "time": iso_time(self.ts_ns) if self.ts_ns else None}


class Past:
    """A home's history, up to what was durable when this was made.

    ``known_seq``: the durable end, where the caller knows it.

    Raises FileNotFoundError where the home has no journal, JournalError where it is damaged.
    """

    def __init__(self, home: Path, on_progress: OnProgress | None = None, *, known_seq: int | None = None) -> None:
        self._home = home
        self._journal = home / "journal"
        self._on_progress = on_progress or (lambda _done, _total: None)
        self.last_seq = durable_seq(home) if known_seq is None else known_seq

    def place(self, moment: Moment | None) -> Place:
        """Where a moment lies; None is the durable end. A seq inside a group is the group's end. NotInHistory outside of the history."""
        if moment is None:
            return self._place_of_seq(self.last_seq) if self.last_seq else Place(0, 0)
        if self.last_seq == 0:
            raise NotInHistory(f"{moment.text}: the journal of {self._home} has no command yet")
        if moment.seq is not None:
            if not 1 <= moment.seq <= self.last_seq:
                raise NotInHistory(f"seq {moment.text}: {self._range()}")
            return self._place_of_seq(moment.seq)
        assert moment.ts_ns is not None, "a moment has a seq or a time"
        place = self._before(moment.ts_ns + 1)
        if place.seq == 0:
            raise NotInHistory(f"{moment.text}: {self._range()}")
        return place

    def start(self, moment: Moment) -> int:
        """First slot of the command at a moment: of the group that a seq lies in, or of the first one at or after a time."""
        if moment.ts_ns is not None:
            before = self._before(moment.ts_ns)
            return min(before.seq + 1, max(1, self.last_seq))
        place = self.place(moment)
        for slots in JournalReader(self._journal, max(1, place.seq - e.GROUP_SLOTS_MAX + 1), self.last_seq):
            within = slots[slots["seq"] <= place.seq]
            ended = within["seq"][:-1][(within["flags"][:-1] & e.FLAG_MORE) == 0]
            if len(within) and within["seq"][-1] == place.seq:
                return int(ended[-1]) + 1 if len(ended) else int(within["seq"][0])
        raise AssertionError("the journal reaches its durable end")

    def listings_before(self, seq: int) -> Listings:
        """What is listed before a command."""
        if seq <= 1:
            return Listings()
        engine = open_past(self._home, Engine(limits=load_limits(self._home)), seq)
        listings = Listings(engine.risk)
        for slots in self.slots(engine.last_seq + 1, seq - 1):
            listings.observe(slots)
        return listings

    def engine_at(self, place: Place) -> FusedEngine:
        """The engine as it was at a place."""
        engine = open_past(self._home, Engine(limits=load_limits(self._home)), place.seq + 1)
        check_executable(DirectoryStore(self._journal), engine.last_seq + 1, place.seq)
        for slots in self.slots(engine.last_seq + 1, place.seq):
            engine.feed(slots)
        return engine

    def book(self, symbol: str, place: Place, depth: int | None = None, *, orders: bool = False) -> dict[str, Any]:
        """Levels of both sides, best first, at most ``depth`` of each; with ``orders`` each order in priority."""
        engine = self.engine_at(place)
        listed = Listings(engine.risk).instruments
        by_symbol = {instrument.symbol: instrument for instrument in listed.values()}
        if symbol not in by_symbol:
            raise NotInHistory(_unknown("instrument", symbol, by_symbol, f"listed at seq {place.seq}"))
        instrument = by_symbol[symbol]
        row = engine.risk.instruments[instrument.index]
        matcher = engine.matchers[instrument.index % len(engine.matchers)]
        answer: dict[str, Any] = {
            "at": place.answer(),
            "symbol": symbol,
            "state": STATE_NAMES[int(row["status"])],
            "last_price": instrument.price(int(row["last_price_ticks"])) if row["last_price_ticks"] else None,
        }
        for name, side in (("bids", e.BUY), ("asks", e.SELL)):
            resting = resting_orders(matcher, instrument.index, side)  # type: ignore[arg-type] # a bundle of the same arrays
            prices, first = np.unique(resting["price_ticks"], return_index=True)
            first = np.sort(first)
            ends = np.append(first, len(resting))[1:]
            shown = list(zip(first.tolist(), ends.tolist(), strict=True))[:depth]
            levels = []
            for start, end in shown:
                part = resting[start:end]
                ticks, lots = int(part["price_ticks"][0]), int(part["left_lots"].sum())
                level: dict[str, Any] = {
                    "price": instrument.price(ticks),
                    "qty": instrument.qty(lots),
                    "orders": end - start,
                    "price_ticks": ticks,
                    "qty_lots": lots,
                }
                if orders:
                    level["queue"] = [
                        {
                            "order_id": int(order["order_id"]),
                            "account": int(order["account"]),
                            "qty": instrument.qty(int(order["left_lots"])),
                            "qty_lots": int(order["left_lots"]),
                            "client_order_id": _client_order_id(engine, int(order["hold"])),
                            "entry_ts_ns": int(engine.risk.holds[order["hold"]]["entry_ts_ns"]),
                        }
                        for order in part
                    ]
                levels.append(level)
            answer[name] = levels
            total = int(resting["left_lots"].sum())
            answer[f"{name[:3]}_totals"] = {
                "levels": len(prices),
                "orders": len(resting),
                "qty": instrument.qty(total),
                "qty_lots": total,
            }
        answer["best_bid"] = answer["bids"][0]["price"] if answer["bids"] else None
        answer["best_ask"] = answer["asks"][0]["price"] if answer["asks"] else None
        return answer

    def account(self, account: int, place: Place) -> dict[str, Any]:
        """Status, balances of every asset that it ever held, open orders and withdrawal holds of an account."""
        engine = self.engine_at(place)
        risk = engine.risk
        known = account_numbers(risk)
        if account not in known:
            nearest = sorted(known.tolist(), key=lambda number: (abs(number - account), number))[:_NEAR_MAX]
            raise NotInHistory(
                f"account {account}: there is no such account at seq {place.seq}; "
                f"{f'the nearest of {len(known)} are {_listed(sorted(nearest))}' if nearest else 'there are none yet'}"
            )
        listings = Listings(risk)
        balances = {}
        for number, asset in listings.assets.items():
            row = (account * len(risk.assets) + number) * s.BALANCE_WORDS
            free, locked, seq = (int(risk.balances[row + word]) for word in (s.FREE, s.LOCKED, s.ROW_SEQ))
            if seq:
                balances[asset.symbol] = {
                    "free": asset.amount(free),
                    "locked": asset.amount(locked),
                    "total": asset.amount(free + locked),
                    "free_units": free,
                    "locked_units": locked,
                    "total_units": free + locked,
                    "changed_seq": seq,
                }
        return {
            "at": place.answer(),
            "account": account,
            "state": _ACCOUNT_STATES[int(risk.accounts[account]["status"])],
            "balances": balances,
            "open_orders": _open_orders(engine, account, listings),
            "withdrawal_holds": [
                {
                    "hold_id": int(row["hold_id"]),
                    "asset": listings.assets[int(row["asset"])].symbol,
                    "amount": listings.assets[int(row["asset"])].amount(int(row["amount_units"])),
                    "amount_units": int(row["amount_units"]),
                    "seq": int(row["seq"]),
                }
                for row in sorted(risk.withdrawals, key=lambda row: int(row["hold_id"]))
                if row["hold_id"] != 0 and row["account"] == account
            ],
        }

    @property
    def headers(self) -> tuple[SegmentHeader, ...]:
        """Of the journal's segments."""
        return lineage(DirectoryStore(self._journal)).headers

    def order_id_of(self, client_order_id: str, account: int, place: Place, known: Places | None = None) -> int:
        """The newest order that an account sent under its own id; ``known`` is what the database has of it."""
        wanted = client_order_id.encode()
        found = 0 if known is None else known.order_id
        for slots in self.slots(1 if known is None else known.known_seq + 1, place.seq):
            at = np.flatnonzero(slots["type"] == e.EXT_IDS)
            same = at[slots.view(EXT_IDS_SLOT.slot_dtype)["client_order_id"][at] == wanted]
            for head in slots[same - 1]:
                if head["account"] == account and head["type"] in {e.LIMIT, e.MARKET, e.MARKET_AMOUNT}:
                    found = int(head["order_id"])
        if not found:
            raise NotInHistory(
                f"client order id {client_order_id!r}: account {account} has sent no order under it up to seq {place.seq}"
            )
        return found

    def order(self, order_id: int, place: Place, known: Places | None = None) -> dict[str, Any]:
        """Everything that concerned an order or a withdrawal hold up to a place: commands, outcomes, and what became of it.

        With ``known``, what the database has of it, only the part of the journal is read in which it lived.
        """
        named, born = self._known(order_id, place, known) or self._commands_naming(order_id, place)
        engine = open_past(self._home, Engine(limits=load_limits(self._home)), born)
        check_executable(DirectoryStore(self._journal), engine.last_seq + 1, place.seq)
        life = OrderLife(order_id, Listings(engine.risk))
        last_named = named[-1]
        for slots in self.slots(engine.last_seq + 1, place.seq):
            life.observe(slots)
            engine.feed(slots, life.keep)
            if life.ended and int(slots["seq"][-1]) >= last_named:
                break
        if not life.seen:
            raise NotInHistory(
                f"order {order_id}: no such order up to seq {place.seq}; the quote at seq {born} with this number brought none: "
                "it was refused, had nothing on this side, or changed the order of an earlier quote, which keeps its id"
            )
        return {"at": place.answer(), **life.answer()}

    def _known(self, order_id: int, place: Place, known: Places | None) -> tuple[list[int], int] | None:
        """As ``_commands_naming``, where what the database says holds in the journal."""
        if known is None or known.order_id != order_id or not known.named_seqs:
            return None
        for slots in self.slots(known.born_seq, known.born_seq):
            brings = slots["order_id"][0] == order_id and slots["type"][0] in _BEARING
            if not brings and slots["type"][0] != e.QUOTE:
                return None
        named = list(known.named_seqs)
        for slots in self.slots(known.known_seq + 1, place.seq):
            named += slots["seq"][heads(slots) & (slots["order_id"] == order_id)].tolist()
        return named, known.born_seq

    def _commands_naming(self, order_id: int, place: Place) -> tuple[list[int], int]:
        """Heads that name an order, and the one that brought it."""
        named: list[int] = []
        born = 0
        below, above = 0, (1 << 63) - 1
        for slots in self.slots(1, place.seq):
            at = heads(slots)
            ids = slots["order_id"]
            named += slots["seq"][at & (ids == order_id)].tolist()
            new = at & np.isin(slots["type"], _BEARING)
            born = born or int(slots["seq"][new & (ids == order_id)][:1].sum()) or quote_command(slots, order_id)
            below = max(below, int(ids[new & (ids < order_id)].max(initial=0)))
            above = min(above, int(ids[new & (ids > order_id)].min(initial=(1 << 63) - 1)))
        if not born:
            near = [str(number) for number in (below, above) if 0 < number < 1 << 62]
            nearest = f"the nearest are {' and '.join(near)}" if near else "there is no order yet"
            raise NotInHistory(f"order {order_id}: no such order up to seq {place.seq}; {nearest}")
        return named or [born], born

    def slots(self, from_seq: int, to_seq: int) -> Iterator[np.ndarray]:
        """Command slots of the journal in order, a batch at a time; nothing where the first comes after the last."""
        if from_seq > to_seq:
            return
        for slots in JournalReader(self._journal, from_seq, to_seq):
            yield slots
            self._on_progress(int(slots["seq"][-1]) - from_seq + 1, to_seq - from_seq + 1)

    def _place_of_seq(self, seq: int) -> Place:
        for slots in JournalReader(self._journal, seq, self.last_seq):
            # A batch holds whole groups.
            last = slots[np.flatnonzero((slots["flags"] & e.FLAG_MORE) == 0)[0]]
            return Place(int(last["seq"]), int(last["ts_ns"]))
        raise AssertionError("the journal reaches its durable end")

    def _before(self, ts_ns: int) -> Place:
        """The last command with a time below ``ts_ns``; seq 0 where there is none."""
        headers = [header for header in lineage(DirectoryStore(self._journal)).headers if header.prev_ts_ns < ts_ns]
        start = min(headers[-1].first_seq, max(1, self.last_seq)) if headers else 1
        place = Place(start - 1, headers[-1].prev_ts_ns) if headers and start > 1 else Place(0, 0)
        for slots in JournalReader(self._journal, start, self.last_seq):
            count = int(np.searchsorted(slots["ts_ns"], ts_ns, side="left"))
            if count:
                place = Place(int(slots["seq"][count - 1]), int(slots["ts_ns"][count - 1]))
            if count < len(slots):
                break
        return place

    def _range(self) -> str:
        first, last = self._place_of_seq(1), self._place_of_seq(self.last_seq)
        return (
            f"the history of {self._home} goes from seq 1 ({iso_time(first.ts_ns)}) "
            f"to seq {last.seq} ({iso_time(last.ts_ns)}), which is what is durable"
        )


def _open_orders(engine: FusedEngine, account: int, listings: Listings) -> list[dict[str, Any]]:
    holds = engine.risk.holds[: int(engine.risk.meta[s.HOLDS_HIGH])]
    rows = np.flatnonzero((holds["state"] == e.HOLD_LIVE) & (holds["account"] == account))
    orders = []
    for row in rows[np.argsort(holds["order_id"][rows])].tolist():
        hold = holds[row]
        instrument = listings.instruments[int(hold["instrument"])]
        locked = instrument.quote if hold["side"] == e.BUY else instrument.base
        orders.append(
            {
                "order_id": int(hold["order_id"]),
                "client_order_id": _client_order_id(engine, row),
                "symbol": instrument.symbol,
                "side": SIDES[int(hold["side"])],
                "tif": TIFS.get(int(hold["tif"]), str(hold["tif"])),
                "price": instrument.price(int(hold["price_ticks"])),
                "qty": instrument.qty(int(hold["total_lots"])),
                "cum_qty": instrument.qty(int(hold["traded_lots"])),
                "leaves_qty": instrument.qty(int(hold["left_lots"])),
                "locked": locked.amount(int(hold["locked_units"])),
                "locked_asset": locked.symbol,
                "locked_units": int(hold["locked_units"]),
                "entry_ts_ns": int(hold["entry_ts_ns"]),
                "waits": bool(hold["flags"] & s.HOLD_WAITS),
            }
        )
    return orders


def _client_order_id(engine: FusedEngine, hold: int) -> str | None:
    if not engine.risk.holds[hold]["flags"] & s.HOLD_HAS_IDS:
        return None
    text = engine.risk.hold_ids[hold, : s.CLIENT_ID_WORDS].tobytes().rstrip(b"\0").decode(errors="replace")
    return text or None


def _unknown(what: str, name: str, known: Iterable[str], where: str) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name.upper(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{what} {name!r}: not {where}; {hint}listed: {_listed(names) or 'none yet'}"


def _listed(names: Iterable[Any]) -> str:
    texts = [str(name) for name in names]
    more = f" and {len(texts) - _NEAR_MAX} more" if len(texts) > _NEAR_MAX else ""
    return ", ".join(texts[:_NEAR_MAX]) + more
