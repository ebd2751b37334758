"""Stories of a market in plain words, as documentation tells them, played to a small engine.

A line is a command, and behind ``->`` what came of it, outcomes divided by ``;``:

    alice sells 5 at 100 as A          -> A rests 5 at 100
    bob buys 7 at 100 ioc as B         -> B takes 5 at 100 from A; B expired 2 BY_IOC

``sells 2 at 110 post-only as A or at 88 stop 90 as B`` are two linked orders.
``session 1 ends`` is what the gateway sends when a session has ended, and what risk sends by itself is told behind what made it.
``alice quotes 5@99 4@101 as Q`` has the orders Qbid and Qask, ``-`` is a side without one.
``alice buys 5 at 100 as A exit 5 at 110 as X`` is an order with an exit, which is told of when it enters.
``clock 60`` is the sequenced clock 60 seconds after the story's midnight.
Accounts are alice, bob and carol, who have enough of everything; the instrument has a value of one quote unit a tick and lot.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.market_states import STATE_NAMES, STATE_OF, VENUE_STATE_OF
from protocol.records import command_slots
from risk import state as s
from tests.engine.operators import pushed_group
from tests.risk.desk import LIMITS, WHO, Desk

ACCOUNTS = {"alice": 1, "bob": 2, "carol": 3}
TIFS = {"ioc": e.IOC, "fok": e.FOK, "post-only": e.POST_ONLY}
STPS = {
    "stp-taker": e.STP_EXPIRE_TAKER,
    "stp-maker": e.STP_EXPIRE_MAKER,
    "stp-both": e.STP_EXPIRE_BOTH,
    "stp-decrement": e.STP_DECREMENT,
}
REFERENCES = {"last": e.TRIGGER_LAST, "mark": e.TRIGGER_MARK, "index": e.TRIGGER_INDEX}
PEGS = {"bid": e.PEG_BID, "ask": e.PEG_ASK, "mid": e.PEG_MID}
PLENTY = 10**9
START_TS_NS = 1_700_006_400_000_000_000
"""A midnight, UTC."""
SECOND_NS = 1_000_000_000


class Story:
    """A fresh market; ``play`` takes a line and gives what came of it."""

    def __init__(self) -> None:
        self.desk = Desk(limits=LIMITS)
        for account in ACCOUNTS.values():
            self.desk.fund(account, quote=PLENTY, base=100 * PLENTY)
        self.now_ns = START_TS_NS
        self.sent = 0
        self.second = ""
        self.taken = False
        self.orders: dict[str, int] = {}
        self.labels: dict[int, str] = {}
        self.behind: list[str] = []

    def play(self, line: str) -> str:
        """Outcomes of a command in words."""
        words = line.split()
        if words[0] in ACCOUNTS:
            group, label = self._of_client(ACCOUNTS[words[0]], words[1], words[2:])
        else:
            group, label = self._of_office(words), ""
        self.desk.send_at(group, self.now_ns)
        if label and group["type"][0] == e.QUOTE:
            quote = build.order_id_of(e.SOURCE_FIRST_GATEWAY, self.desk.number - len(group) + 1)
            self.labels |= {quote: f"{label}bid", quote | e.QUOTE_ASK_BIT: f"{label}ask"}
            self.orders |= {f"{label}bid": quote, f"{label}ask": quote | e.QUOTE_ASK_BIT}
        elif label:
            behind = [self.second] if self.second else self.behind
            for order_id, name in enumerate([label, *behind], self.desk.order_id):
                self.orders[name] = order_id
                self.labels[order_id] = name
            self.behind, self.second = [], ""
        told = self._told_all()
        while (own := self._of_risk()) is not None:
            self.desk.sequence(own)
            if own["type"][0] in (e.SET_STATE, e.HALT):
                wanted = STATE_NAMES[int(own["price_ticks"][0])] if own["type"][0] == e.SET_STATE else "halted"
                told.append(f"state {wanted}")
            told += self._told_all()
        return "; ".join(told) or "done"

    def _told_all(self) -> list[str]:
        """What is told of the outcomes; of a peg that is new only where it stands."""
        rows = self.desk.outcomes
        new = rows["order_id"][rows["kind"] == e.OUT_NEW]
        pegged = rows["order_id"][rows["kind"] == e.OUT_PEGGED]
        rests = np.isin(rows["order_id"], pegged) & np.isin(rows["order_id"], new) & (rows["kind"] == e.OUT_RESTED)
        return [text for outcome in rows[~rests] if (text := self._told(outcome))]

    def _of_risk(self) -> np.ndarray | None:
        """The next command of risk's own, which comes back at once."""
        risk = self.desk.engine.risk
        if self.sent == risk.meta[s.OUTBOX_PUSHED]:
            return None
        group = pushed_group(risk, self.sent)
        self.sent += len(group)
        return group

    def _of_client(self, account: int, verb: str, words: list[str]) -> tuple[np.ndarray, str]:
        if verb == "cancels" and words[0] == "all":
            sides = {"": e.CANCEL_BOTH, "bids": e.CANCEL_BIDS, "asks": e.CANCEL_ASKS}[" ".join(words[1:2])]
            return build.cancel_all(account=account, sides=sides), ""
        if verb == "quotes":
            bid, ask = (part.split("@") if part != "-" else ("0", "0") for part in words[:2])
            entry = build.quote(1, int(bid[1]), int(bid[0]), int(ask[1]), int(ask[0]))
            return build.mass_quote(account=account, quotes=[entry]), _options(words[2:]).get("as", "")
        if verb == "protects":
            said = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
            window = SECOND_NS * said.pop("window", 0)
            lots, net, trades = (said.get(name, 0) for name in ("lots", "net", "trades"))
            return build.set_protection(account, 1, window_ns=window, qty_lots=lots, net_lots=net, trades=trades), ""
        if verb == "arms":
            options = _options(words[1:])
            session = build.session_of(e.SOURCE_FIRST_GATEWAY, int(options["session"])) if "session" in options else 0
            return build.dead_man(account=account, duration_ns=SECOND_NS * int(words[0]), session=session), ""
        if verb == "cancels":
            return build.cancel(account=account, instrument=1, order_id=self.orders[words[0]]), ""
        if "exit" in words:
            return self._bracket(account, verb, " ".join(words).split(" exit "))
        if "or" in words:
            # Two linked orders of one quantity.
            at = words.index("or")
            first, label = self._of_client(account, verb, words[:at])
            second, other = self._of_client(account, verb, [words[0], *words[at + 1 :]])
            self.second = other
            return build.oco(first, second), label
        options = _options(words[1:])
        if verb == "amends":
            price, lots = int(options["at"]), int(options["to"])
            order_id = self.orders[words[0]]
            return build.amend(account=account, instrument=1, order_id=order_id, price_ticks=price, qty_lots=lots), ""
        assert verb in ("buys", "sells"), verb
        fields: dict[str, Any] = {
            "account": account,
            "instrument": 1,
            "side": e.BUY if verb == "buys" else e.SELL,
            "price_ticks": int(options.get("at", 0)),
            "qty_lots": int(words[0]),
            "stp": next((number for name, number in STPS.items() if name in options), e.STP_NONE),
        }
        tif = next((number for name, number in TIFS.items() if name in options), e.GTC)
        group = build.market(**fields) if "market" in options else build.limit(**fields, tif=tif)
        if {"stop", "profit", "trailing"} & set(options):
            group = self._waiting(group, options)
        if "pegged" in options:
            group = build.with_peg(group, PEGS[options["pegged"]], int(options.get("plus", 0)))
        if {"showing", "minimum", "until", "day"} & set(options):
            expiry = e.EXPIRY_DAY if "day" in options else int(options.get("until", 0))
            group = build.with_terms(
                group,
                display_qty_lots=int(options.get("showing", 0)),
                min_qty_lots=int(options.get("minimum", 0)),
                expiry_ts_ns=expiry and (expiry if expiry < 0 else START_TS_NS + SECOND_NS * expiry),
            )
        group["session"][0] = int(options.get("session", 0))
        return group, options.get("as", "")

    def _bracket(self, account: int, verb: str, parts: list[str]) -> tuple[np.ndarray, str]:
        """``buys 5 at 100 as A exit 5 at 110 as X``: the exits are of the other side."""
        entry, label = self._of_client(account, verb, parts[0].split())
        back = "sells" if verb == "buys" else "buys"
        exits = [self._of_client(account, back, part.split()) for part in parts[1:]]
        self.behind = [name for _, name in exits]
        return build.bracket(entry, *(group for group, _ in exits)), label

    def _waiting(self, group: np.ndarray, options: dict[str, str]) -> np.ndarray:
        """``stop 90``, ``profit 120``, ``trailing 5`` or ``trailing 250bp``, ``from 110``; ``on mark``."""
        ref = REFERENCES[options.get("on", "last")]
        if "trailing" not in options:
            price = int(options.get("stop") or options["profit"])
            return build.with_trigger(
                group, trigger_price_ticks=price, trigger_ref=ref, takes_profit="profit" in options
            )
        kind = e.OFFSET_BASIS_POINTS if options["trailing"].endswith("bp") else e.OFFSET_TICKS
        offset = int(options["trailing"].removesuffix("bp"))
        activation = int(options.get("from", 0))
        return build.with_trigger(
            group, trigger_ref=ref, offset_kind=kind, offset=offset, trigger_price_ticks=activation
        )

    def _of_office(self, words: list[str]) -> np.ndarray:
        if words[0] == "clock":
            tick = command_slots(1)
            tick["type"] = e.EXPIRE
            self.now_ns = START_TS_NS + SECOND_NS * int(words[1])
            return tick
        if words[0] == "session":
            session = build.session_of(e.SOURCE_FIRST_GATEWAY, int(words[1]))
            return build.cancel_all(session=session, cause=e.CAUSE_DISCONNECT)
        if words[0] in ("mark", "index"):
            return build.set_prices(1, **{f"{words[0]}_ticks": int(words[1])})
        makers: dict[str, Callable[[str], np.ndarray]] = {
            "state": self._state,
            "bands": _bands,
            "venue": lambda name: build.set_state(0, VENUE_STATE_OF[name], *WHO),
        }
        return makers[words[0]](" ".join(words[1:]))

    def _state(self, text: str) -> np.ndarray:
        """``open``, or ``auction until 60 then closed``."""
        name, *more = text.split()
        options = _options(more)
        end_ts_ns = then = 0
        if "until" in options:
            end_ts_ns = START_TS_NS + SECOND_NS * int(options["until"])
            then = STATE_OF[options.get("then", "open")]
        return build.set_state(1, STATE_OF[name], *WHO, end_ts_ns=end_ts_ns, then=then)

    def _told(self, o: np.void) -> str:
        label = self.labels.get(int(o["order_id"]), "")
        kind, lots, price = int(o["kind"]), int(o["qty_lots"]), int(o["price_ticks"])
        last = bool(o["flags"] & e.OUTCOME_LAST)
        why = r.NAME[int(o["reason"])] if kind != e.OUT_TRADE else ""
        if not label:
            label = self.labels.setdefault(int(o["order_id"]), "it")
        if kind == e.OUT_QUOTE:
            return f"refused {why}" if o["reason"] else ""
        if o["flags"] & e.OUTCOME_WAITS and (kind == e.OUT_RESTED or last):
            return f"{label} waits"
        if kind == e.OUT_TRIGGERED:
            return f"{label} set off"
        if kind == e.OUT_RESTED or (kind == e.OUT_NEW and (last or o["type"] == e.QUOTE)):
            return f"{label} rests {int(o['leaves_qty_lots'])} at {price}"
        if kind in (e.OUT_AUCTION, e.OUT_UNCROSSED):
            return _told_auction(o)
        if kind == e.OUT_TRADE and not o["flags"] & e.OUTCOME_TAKER:
            # The other side of what a taker took, or a side of a trade of an auction, which is told of the buyer.
            in_auction, self.taken = not self.taken, False
            other = self.labels[int(o["contra_order_id"])]
            return f"{label} buys {lots} at {price} from {other}" if in_auction and o["side"] == e.BUY else ""
        if kind == e.OUT_TRADE:
            self.taken = True
            return f"{label} takes {lots} at {price} from {self.labels[int(o['contra_order_id'])]}"
        return {
            e.OUT_REJECTED: f"refused {why}",
            e.OUT_EXPIRED: f"{label} expired {lots} {why}",
            e.OUT_CANCELED: f"{label} canceled {lots} {why}",
            e.OUT_REPLACED: f"{label} is {lots} at {price}",
            e.OUT_PREVENTED: f"{label} prevented {lots}",
            e.OUT_PEGGED: f"{label} stands at {price}",
        }.get(kind, "")


def _bands(text: str) -> np.ndarray:
    """``band 10 breaker 5 dynamic 2 auction 60 random 30 extensions 1 reference 100``: shares in percent, seconds."""
    options = {name: int(value) for name, value in _options(text.split()).items()}
    percent, second = 1_000_000, SECOND_NS
    return build.set_bands(
        1,
        band_up_e8=percent * options.get("band", 0),
        band_down_e8=percent * options.get("band", 0),
        breaker_e8=percent * options.get("breaker", 0),
        dynamic_e8=percent * options.get("dynamic", 0),
        reference_ticks=options.get("reference", 0),
        auction_ns=second * options.get("auction", 0),
        random_ns=second * options.get("random", 0),
        extensions=options.get("extensions", 0),
        operator=WHO[0],
        reason=WHO[1],
    )


def _told_auction(o: np.void) -> str:
    """``would trade 5 at 100, 2 left to buy``, or how an auction ended."""
    kind, lots, price, left = (int(o[name]) for name in ("kind", "qty_lots", "price_ticks", "leaves_qty_lots"))
    verb = "would trade" if kind == e.OUT_AUCTION else "traded"
    if lots == 0:
        return f"{verb} nothing"
    over = f", {left} left to {'buy' if o['side'] == e.BUY else 'sell'}" if left else ""
    return f"{verb} {lots} at {price}{over}"


def _options(words: list[str]) -> dict[str, str]:
    """``at 100 ioc as B`` as {"at": "100", "ioc": "", "as": "B"}."""
    options: dict[str, str] = {}
    flags = {"market", "day", *TIFS, *STPS}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        options[word] = "" if word in flags else rest.pop(0)
    return options


def stories(page: Path) -> list[tuple[str, list[str]]]:
    """Headings and lines of the blocks of a page that are stories: they have ``->`` in their first line."""
    found: list[tuple[str, list[str]]] = []
    heading = ""
    for part in re.split(r"(?m)^(#+ .*)$", page.read_text()):
        if part.startswith("#"):
            heading = part.strip("# ")
            continue
        for block in re.findall(r"(?m)(?:^    .*\n)+", part):
            lines = [line.strip() for line in block.splitlines()]
            if "->" in lines[0]:
                found.append((heading, lines))
    return found
