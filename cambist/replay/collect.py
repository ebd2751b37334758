"""From outcomes to fills, verdicts and books.

An independent reading of what the engine says, in the recording's own terms.

Feed every outcome in order, in batches of any size. The book is rebuilt from outcomes alone, so that it also checks
them: what does not fit (a trade of an order that is not there, a level below zero, a skipped number) counts as a
*fault* and is named.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TextIO

import numpy as np
from numba import config

from cambist.replay.plan import Plan
from protocol import build
from protocol import enums as e
from protocol.jit import entry, inner
from protocol.reasons import ACCEPTED, BY_STP, NAME
from protocol.records import OUTCOME_DTYPE
from ringbuf.bundle import Bundle

HASH_START: Final = 14695981039346656037
HASH_FACTOR: Final = 1099511628211
_MASK: Final = (1 << 64) - 1
_HALF: Final = 1 << 62
"""Sums that may exceed 2^63 are kept as high * 2^62 + low."""

# --- words of meta ---------------------------------------------------------------------------------
BASE: Final = 0  # an order's row is its id minus this; -1: rows are found by binary search in ``ids``
NUMBER_BASE: Final = 1  # a command's row is its number minus this
BY_SEQ: Final = 2  # 1: commands are known by seq (a journal), 0: by source number of SOURCE_REPLAY
TRADES: Final = 3
VOLUME: Final = 4  # and the word after it
TURNOVER: Final = 6  # and the word after it
PREVENTED: Final = 8  # and the word after it
CANCELS: Final = 10
FILLS: Final = 11  # of this batch
STP: Final = 12  # of this batch
FAULTS: Final = 13
FAULT_KIND: Final = 14  # first fault …
FAULT_SEQ: Final = 15  # … and where
LAST_SEQ: Final = 16
LAST_INDEX: Final = 17
OPEN: Final = 18  # 1: the last outcome was not the last of its command
NEXT_PROBE: Final = 19
OUTCOMES: Final = 20
SETUP_REFUSED: Final = 21
SETUP_REASON: Final = 22
UNSOUGHT: Final = 23  # orders that a command without message took off the book (teardown)
META_WORDS: Final = 32

FAULT_ORDER: Final = 1
FAULT_UNKNOWN: Final = 2
FAULT_LEFT: Final = 3
FAULT_LEVEL: Final = 4
FAULT_KIND_UNKNOWN: Final = 5
FAULT_PRICE: Final = 6
FAULT_TWICE: Final = 7
FAULT_TEXT: Final = {
    FAULT_ORDER: "outcomes are not numbered (seq, index) without a gap, or a command has none flagged as its last",
    FAULT_UNKNOWN: "an outcome names an order that is not on the book",
    FAULT_LEFT: "what an order has left does not follow from what it traded",
    FAULT_LEVEL: "a price level would hold less than nothing",
    FAULT_KIND_UNKNOWN: "an outcome has an unknown kind",
    FAULT_PRICE: "a fill is at another price than its maker's, or an order stands where no command put one",
    FAULT_TWICE: "an order entered the book twice",
}

GONE: Final = 0
ACTIVE: Final = 1
RESTING: Final = 2


class _State(NamedTuple):
    meta: np.ndarray
    ids: np.ndarray
    order_level: np.ndarray
    order_left: np.ndarray
    order_price: np.ndarray
    order_instrument: np.ndarray
    order_side: np.ndarray
    order_state: np.ndarray
    message_of: np.ndarray
    type_of: np.ndarray
    code: np.ndarray
    traded: np.ndarray
    rested: np.ndarray
    level_price: np.ndarray
    level_start: np.ndarray
    level_qty: np.ndarray  # [2, levels]
    level_orders: np.ndarray  # [2, levels]
    best: np.ndarray  # [2, instruments + 1]: no level with orders is better than this one
    books: np.ndarray  # [instruments + 1, 2, 3]: orders, lots, levels
    probe_at: np.ndarray
    probe_depth: np.ndarray  # [probes, 2, depth, 2]: price, lots; bids first
    fills: np.ndarray  # [n, 6]: message, instrument, taker row, maker row, price, qty
    stp: np.ndarray  # [n, 4]: message, maker row, lots, 1 = it left


@inner
def _fault(s, kind, seq):
    if s.meta[FAULTS] == 0:
        s.meta[FAULT_KIND] = kind
        s.meta[FAULT_SEQ] = seq
    s.meta[FAULTS] += 1


@inner
def _add(meta, word, value):
    low = meta[word + 1] + value
    if low >= _HALF:
        meta[word] += 1
        low -= _HALF
    meta[word + 1] = low


@inner
def _row(s, order_id):
    """Row of an order, or -1."""
    n = np.int64(len(s.ids))
    base = s.meta[BASE]
    if base >= 0:
        row = order_id - base
        return row if 0 <= row < n else np.int64(-1)
    low = np.int64(0)
    high = n
    while low < high:
        middle = (low + high) >> 1
        if s.ids[middle] < order_id:
            low = middle + 1
        else:
            high = middle
    return low if low < n and s.ids[low] == order_id else np.int64(-1)


@inner
def _level(s, instrument, price):
    """Level of an instrument at a price, or -1 where no command ever put one."""
    low = s.level_start[instrument]
    end = s.level_start[instrument + 1]
    high = end
    while low < high:
        middle = (low + high) >> 1
        if s.level_price[middle] < price:
            low = middle + 1
        else:
            high = middle
    return low if low < end and s.level_price[low] == price else np.int64(-1)


@inner
def _enter(s, row, left, seq):
    if s.order_state[row] == RESTING:
        _fault(s, FAULT_TWICE, seq)
        return
    instrument = np.int64(s.order_instrument[row])
    side = np.int64(s.order_side[row])
    level = _level(s, instrument, s.order_price[row])
    if level < 0 or left <= 0:
        _fault(s, FAULT_PRICE if level < 0 else FAULT_LEFT, seq)
        return
    s.order_state[row] = RESTING
    s.order_left[row] = left
    s.order_level[row] = level
    if s.level_orders[side, level] == 0:
        s.books[instrument, side, 2] += 1
    s.level_orders[side, level] += 1
    s.level_qty[side, level] += left
    s.books[instrument, side, 0] += 1
    s.books[instrument, side, 1] += left
    if side == e.BUY:
        s.best[0, instrument] = max(s.best[0, instrument], level)
    else:
        s.best[1, instrument] = min(s.best[1, instrument], level)


@inner
def _take(s, row, lots, seq):
    """Take lots off a resting order; it leaves the book at zero."""
    instrument = np.int64(s.order_instrument[row])
    side = np.int64(s.order_side[row])
    level = s.order_level[row]
    s.order_left[row] -= lots
    s.level_qty[side, level] -= lots
    s.books[instrument, side, 1] -= lots
    if s.order_left[row] < 0 or s.level_qty[side, level] < 0:
        _fault(s, FAULT_LEVEL, seq)
    if s.order_left[row] <= 0:
        s.order_state[row] = GONE
        s.level_orders[side, level] -= 1
        s.books[instrument, side, 0] -= 1
        if s.level_orders[side, level] == 0:
            s.books[instrument, side, 2] -= 1


@inner
def _resting(s, order_id, seq):
    """Row of an order that must be on the book, else -1 and a fault."""
    row = _row(s, order_id)
    if row < 0 or s.order_state[row] != RESTING:
        _fault(s, FAULT_UNKNOWN, seq)
        return np.int64(-1)
    return row


@inner
def _trade(s, o, message, seq):
    qty = o["qty_lots"]
    if o["flags"] & e.OUTCOME_TAKER:
        n = s.meta[FILLS]
        s.fills[n, 0] = message
        s.fills[n, 1] = o["instrument"]
        s.fills[n, 2] = _row(s, o["order_id"])
        s.fills[n, 3] = _row(s, o["contra_order_id"])
        s.fills[n, 4] = o["price_ticks"]
        s.fills[n, 5] = qty
        s.meta[FILLS] = n + 1
        s.meta[TRADES] += 1
        _add(s.meta, VOLUME, qty)
        _add(s.meta, TURNOVER, qty * o["price_ticks"])
        if message >= 0:
            s.traded[message] += qty
        if s.fills[n, 2] < 0 or s.fills[n, 3] < 0:
            _fault(s, FAULT_UNKNOWN, seq)
        else:
            s.order_left[s.fills[n, 2]] = o["leaves_qty_lots"]
        return
    row = _resting(s, o["order_id"], seq)
    if row >= 0:
        if s.order_price[row] != o["price_ticks"]:
            _fault(s, FAULT_PRICE, seq)
        if s.order_left[row] - qty != o["leaves_qty_lots"]:
            _fault(s, FAULT_LEFT, seq)
        _take(s, row, qty, seq)


@inner
def _prevent(s, o, message, seq):
    """Lots that self-trade prevention took off a maker."""
    row = _resting(s, o["order_id"], seq)
    if row < 0:
        return
    n = s.meta[STP]
    s.stp[n, 0] = message
    s.stp[n, 1] = row
    s.stp[n, 2] = o["qty_lots"]
    _add(s.meta, PREVENTED, o["qty_lots"])
    _take(s, row, o["qty_lots"], seq)
    s.stp[n, 3] = s.order_state[row] == GONE
    if s.order_left[row] != o["leaves_qty_lots"]:
        _fault(s, FAULT_LEFT, seq)
    s.meta[STP] = n + 1


@inner
def _cancel(s, o, message, command_type, seq):
    row = _resting(s, o["order_id"], seq)
    if row < 0:
        return
    if s.order_left[row] != o["qty_lots"]:
        _fault(s, FAULT_LEFT, seq)
    _take(s, row, s.order_left[row], seq)
    if message < 0:
        s.meta[UNSOUGHT] += 1
        return
    if command_type == e.CANCEL or command_type == e.CANCEL_ALL:
        s.meta[CANCELS] += 1
        s.rested[message] += o["qty_lots"] if command_type == e.CANCEL else 1


@inner
def _own_order(s, o, message, seq):
    """NEW, RESTED, EXPIRED, REPLACED, IDS: the command's own order.

    A new or amended one that says nothing more rests at once.
    """
    kind = o["kind"]
    row = _row(s, o["order_id"])
    if row < 0:
        _fault(s, FAULT_UNKNOWN, seq)
        return
    last = o["flags"] & e.OUTCOME_LAST
    if kind == e.OUT_IDS:
        # What follows a NEW or REPLACED with the client's id ends the command in its place.
        if not (last and s.order_state[row] == ACTIVE and s.order_left[row] > 0):
            return
    elif kind == e.OUT_NEW:
        s.order_instrument[row] = o["instrument"]
        s.order_side[row] = o["side"]
        s.order_price[row] = o["price_ticks"]
        s.order_state[row] = ACTIVE
    elif kind == e.OUT_REPLACED:
        if s.order_state[row] != RESTING:
            _fault(s, FAULT_UNKNOWN, seq)
            return
        _take(s, row, s.order_left[row], seq)
        s.order_price[row] = o["price_ticks"]
        s.order_state[row] = ACTIVE
    if kind == e.OUT_EXPIRED:
        s.order_state[row] = GONE
        return
    if kind != e.OUT_IDS:
        s.order_left[row] = o["leaves_qty_lots"]
    if kind == e.OUT_RESTED or last:
        if message >= 0:
            s.rested[message] = s.order_left[row]
        _enter(s, row, s.order_left[row], seq)


@entry
def best_level(s, side, instrument):
    """Best level with orders of an instrument's side, or -1."""
    level = s.best[side, instrument]
    if side == e.BUY:
        while level >= s.level_start[instrument] and s.level_orders[0, level] == 0:
            level -= 1
        s.best[0, instrument] = level
        return level if level >= s.level_start[instrument] else np.int64(-1)
    while level < s.level_start[instrument + 1] and s.level_orders[1, level] == 0:
        level += 1
    s.best[1, instrument] = level
    return level if level < s.level_start[instrument + 1] else np.int64(-1)


@entry
def _probe(s, upto):
    """Write down the first instrument's book for every probe below message ``upto``."""
    n = s.meta[NEXT_PROBE]
    depth = s.probe_depth.shape[2]
    while n < len(s.probe_at) and s.probe_at[n] < upto:
        for side in range(2):
            level = best_level(s, side, 1)
            step = -1 if side == e.BUY else 1
            k = 0
            while k < depth and level >= s.level_start[1] and level < s.level_start[2]:
                if s.level_orders[side, level] > 0:
                    s.probe_depth[n, side, k, 0] = s.level_price[level]
                    s.probe_depth[n, side, k, 1] = s.level_qty[side, level]
                    k += 1
                level += step
        n += 1
    s.meta[NEXT_PROBE] = n


@inner
def _in_order(s, o):
    seq = o["seq"]
    index = np.int64(o["index"])
    meta = s.meta
    if meta[OPEN] == 1:
        right = seq == meta[LAST_SEQ] and index == meta[LAST_INDEX] + 1
    else:
        right = seq > meta[LAST_SEQ] and index == 0
    if not right:
        _fault(s, FAULT_ORDER, seq)
    meta[LAST_SEQ] = seq
    meta[LAST_INDEX] = index
    meta[OPEN] = 0 if o["flags"] & e.OUTCOME_LAST else 1
    meta[OUTCOMES] += 1


@inner
def _command_row(s, o):
    """Row in ``message_of`` of the command that caused an outcome, or -1 for a command that is not of the plan."""
    if s.meta[BY_SEQ] == 1:
        row = o["seq"] - s.meta[NUMBER_BASE]
    elif o["source"] == e.SOURCE_REPLAY:
        row = o["source_seq"] - s.meta[NUMBER_BASE]
    else:
        return np.int64(-1)
    return row if 0 <= row < len(s.message_of) else np.int64(-1)


@inner
def _verdict(s, o, message):
    if o["kind"] == e.OUT_REJECTED:
        if message < 0:
            s.meta[SETUP_REFUSED] += 1
            s.meta[SETUP_REASON] = o["reason"]
        elif s.code[message] <= ACCEPTED:
            s.code[message] = o["reason"]
    elif message >= 0 and s.code[message] < ACCEPTED:
        s.code[message] = ACCEPTED


@entry
def consume(s, outcomes):
    """Take a batch of outcomes.

    Fills and self-trade preventions of the batch lie in ``fills`` and ``stp`` afterwards.
    """
    s.meta[FILLS] = 0
    s.meta[STP] = 0
    for i in range(len(outcomes)):
        o = outcomes[i]
        kind = o["kind"]
        _in_order(s, o)
        command = _command_row(s, o)
        message = np.int64(-1)
        command_type = np.int64(o["type"])
        if command >= 0:
            message = s.message_of[command]
            command_type = np.int64(s.type_of[command])
            if message >= 0 and s.meta[NEXT_PROBE] < len(s.probe_at):
                _probe(s, message)
        seq = o["seq"]
        _verdict(s, o, message)
        if kind == e.OUT_TRADE:
            _trade(s, o, message, seq)
        elif kind in (e.OUT_NEW, e.OUT_RESTED, e.OUT_EXPIRED, e.OUT_REPLACED, e.OUT_IDS):
            _own_order(s, o, message, seq)
        elif kind == e.OUT_PREVENTED:
            if not o["flags"] & e.OUTCOME_TAKER:
                _prevent(s, o, message, seq)
        elif kind == e.OUT_CANCELED:
            if o["reason"] == BY_STP:
                _prevent(s, o, message, seq)
            else:
                _cancel(s, o, message, command_type, seq)
        elif kind == 0 or kind > e.OUT_IDS:
            _fault(s, FAULT_KIND_UNKNOWN, seq)


@entry
def _fold_compiled(start, terms):
    h = np.uint64(start)
    factor = np.uint64(HASH_FACTOR)
    for i in range(len(terms)):
        h = h * factor + terms[i]
    return h


def fold(start: int, terms: np.ndarray) -> int:
    """``h = h * M + term`` mod 2^64 over uint64 terms."""
    if config.DISABLE_JIT:
        h = start
        for term in terms.tolist():
            h = (h * HASH_FACTOR + term) & _MASK
        return h
    return int(_fold_compiled(np.uint64(start), terms))


def _unsigned(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.uint64) if values.dtype == np.int64 else values.astype(np.uint64)


class Collector:
    """Reads the outcomes of one replay.

    Parameters
    ----------
    plan : Plan
        What is sent.
    probes : np.ndarray, optional
        Messages (from 0, ascending) after which the first instrument's best ``depth`` levels a side are written down.
    depth : int
        Levels a side of a probe.
    keep_fills : bool
        Keep all fills and preventions in memory (48 bytes a fill); truth and detail checks need them.
    fills_file : TextIO, optional
        Gets every fill as CSV ``taker_id,maker_id,price,qty`` in order.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        probes: np.ndarray | None = None,
        depth: int = 1,
        keep_fills: bool = True,
        fills_file: TextIO | None = None,
    ) -> None:
        self.plan = plan
        self.probes = np.zeros(0, dtype=np.int64) if probes is None else np.ascontiguousarray(probes, dtype=np.int64)
        self.trade_hash = HASH_START
        self._keep = keep_fills
        self._file = fills_file
        if fills_file is not None:
            fills_file.write("taker_id,maker_id,price,qty\n")
        self._fills: list[np.ndarray] = []
        self._stp: list[np.ndarray] = []
        self._state = _new_state(plan, self.probes, depth)
        self._bundle = Bundle(**self._state._asdict())
        self._recorded = self._recorded_by_row()

    def feed(self, outcomes: np.ndarray) -> None:
        """Take the next outcomes, ``OUTCOME_DTYPE[n]``."""
        if len(outcomes) > len(self._state.fills):
            self._state = self._state._replace(
                fills=np.zeros((len(outcomes), 6), dtype=np.int64), stp=np.zeros((len(outcomes), 4), dtype=np.int64)
            )
            self._bundle = Bundle(**self._state._asdict())
        consume(self._bundle, outcomes)
        fills = self._state.fills[: self._state.meta[FILLS]]
        if len(fills):
            self._note(fills)
        if self._keep and self._state.meta[STP]:
            self._stp.append(self._state.stp[: self._state.meta[STP]].copy())

    def finish(self) -> None:
        """Write down the probes that are left; call it after the last outcome and before any teardown's."""
        _probe(self._bundle, np.int64(1) << 62)

    @property
    def done(self) -> int:
        """Messages that have a verdict."""
        return int(np.count_nonzero(self._state.code >= 0))

    @property
    def last_seq(self) -> int:
        """Seq of the last outcome read."""
        return int(self._state.meta[LAST_SEQ])

    @property
    def outcomes(self) -> int:
        """Outcomes read."""
        return int(self._state.meta[OUTCOMES])

    @property
    def depths(self) -> np.ndarray:
        """Price and lots of the best levels after each probed message, bids first; 0 where there is none.

        int64[probes, 2, depth, 2].
        """
        return self._state.probe_depth

    @property
    def verdicts(self) -> np.ndarray:
        """int64[messages, 3]: code (-1 = none yet), lots traded, lots (or orders) left or cancelled."""
        s = self._state
        return np.stack([s.code, s.traded, s.rested], axis=1)

    def fills(self) -> np.ndarray:
        """All fills in order: message (from 0), instrument, taker id, maker id, price, qty.

        int64[fills, 6]; ids are the recording's (as int64).
        """
        return self._translated(self._fills, 6, (2, 3))

    def preventions(self) -> np.ndarray:
        """int64[n, 4]: message (from 0), maker id, lots it lost, 1 = it left the book."""
        return self._translated(self._stp, 4, (1,))

    def orders(self) -> np.ndarray:
        """int64[n, 2]: recorded id and lots left of every order that rests."""
        rows = np.flatnonzero(self._state.order_state == RESTING)
        return np.stack([self._recorded[rows].view(np.int64), self._state.order_left[rows]], axis=1)

    def faults(self) -> list[str]:
        """What is wrong with the outcomes themselves; empty if they are sound and complete."""
        meta = self._state.meta
        found = []
        if meta[FAULTS]:
            what = FAULT_TEXT[int(meta[FAULT_KIND])]
            found.append(f"{meta[FAULTS]} unsound outcomes, the first of command seq {meta[FAULT_SEQ]}: {what}")
        if meta[SETUP_REFUSED]:
            found.append(
                f"{meta[SETUP_REFUSED]} set-up commands were refused, the last with {name_of(int(meta[SETUP_REASON]))}"
            )
        missing = self.plan.messages - self.done
        if missing:
            at = int(np.argmin(self._state.code))
            found.append(f"{missing} messages have no outcome, the first is message {at + 1}")
        return found

    def counters(self) -> dict[str, Any]:
        """Messages, verdicts, trades and sums, with the hashes over the recording's ids."""
        s = self._state
        codes, counts = np.unique(s.code[s.code >= 0], return_counts=True)
        verdicts = {name_of(int(c)): int(n) for c, n in zip(codes, counts, strict=True)}
        return {
            "messages": self.plan.messages,
            "accepted": verdicts.get("ACCEPTED", 0),
            "rejected": {name: n for name, n in verdicts.items() if name != "ACCEPTED"},
            "verdicts": verdicts,
            "cancels": int(s.meta[CANCELS]),
            "trades": int(s.meta[TRADES]),
            "volume": self._sum(VOLUME),
            "turnover": self._sum(TURNOVER),
            "prevented": self._sum(PREVENTED),
            "trade_hash": str(self.trade_hash),
            "verdict_hash": str(self.verdict_hash()),
        }

    def verdict_hash(self) -> int:
        """Over all messages: ``h = h*M + code*31 + x*17 + y*7``."""
        s = self._state
        code = np.maximum(s.code, 0).astype(np.uint64)
        return fold(
            HASH_START, code * np.uint64(31) + _unsigned(s.traded) * np.uint64(17) + _unsigned(s.rested) * np.uint64(7)
        )

    def book(self, instrument: int) -> dict[str, Any]:
        """An instrument's book as the outcomes leave it."""
        s = self._state
        best = [int(best_level(self._bundle, side, instrument)) for side in (e.BUY, e.SELL)]
        prices = [int(s.level_price[level]) if level >= 0 else None for level in best]
        totals = s.books[instrument]
        return {
            "orders": int(totals[:, 0].sum()),
            "bid_qty": int(totals[0, 1]),
            "ask_qty": int(totals[1, 1]),
            "bid_levels": int(totals[0, 2]),
            "ask_levels": int(totals[1, 2]),
            "best_bid": prices[0],
            "best_ask": prices[1],
        }

    def _sum(self, word: int) -> int:
        return (int(self._state.meta[word]) << 62) + int(self._state.meta[word + 1])

    def _recorded_by_row(self) -> np.ndarray:
        plan = self.plan
        if plan.clock == "verbatim":
            return plan.recorded_ids
        recorded = np.zeros(len(self._state.ids), dtype=np.uint64)
        recorded[plan.order_ids - self._state.meta[BASE]] = plan.recorded_ids
        return recorded

    def _note(self, fills: np.ndarray) -> None:
        taker, maker = self._recorded[fills[:, 2]], self._recorded[fills[:, 3]]
        price, qty = fills[:, 4].astype(np.uint64), fills[:, 5].astype(np.uint64)
        terms = maker * np.uint64(31) + taker * np.uint64(17) + price * np.uint64(7) + qty
        self.trade_hash = fold(self.trade_hash, terms)
        if self._keep:
            self._fills.append(fills.copy())
        if self._file is not None:
            columns = (taker.tolist(), maker.tolist(), price.tolist(), qty.tolist())
            self._file.writelines(f"{t},{m},{p},{q}\n" for t, m, p, q in zip(*columns, strict=True))

    def _translated(self, parts: list[np.ndarray], width: int, columns: tuple[int, ...]) -> np.ndarray:
        if not parts:
            return np.zeros((0, width), dtype=np.int64)
        table = np.concatenate(parts)
        for column in columns:
            table[:, column] = self._recorded[table[:, column]].view(np.int64)
        return table


def name_of(code: int) -> str:
    """Stable name of a verdict's code."""
    return NAME.get(code, str(code))


def _new_state(plan: Plan, probes: np.ndarray, depth: int) -> _State:
    meta = np.zeros(META_WORDS, dtype=np.int64)
    meta[LAST_INDEX] = -1
    heads = build.heads(plan.commands)
    verbatim = plan.clock == "verbatim"
    meta[BY_SEQ] = verbatim
    meta[NUMBER_BASE] = plan.first_number
    if verbatim:
        ids = plan.order_ids
        meta[BASE] = -1
    else:
        # Rows are source numbers, so that no search is needed and only the length of ``ids`` counts.
        ids = np.zeros(plan.first_number + len(plan.commands) + len(plan.teardown), dtype=np.int64)
        meta[BASE] = build.order_id_of(e.SOURCE_REPLAY, 0)
    priced = plan.commands[heads & np.isin(plan.commands["type"], (e.LIMIT, e.AMEND))]
    instruments = max((i.index for i in plan.instruments), default=0)
    known = (priced["instrument"] >= 1) & (priced["instrument"] <= instruments)
    prices = [np.unique(priced["price_ticks"][known & (priced["instrument"] == i)]) for i in range(1, instruments + 1)]
    level_price = np.concatenate([np.zeros(0, dtype=np.int64), *prices])
    level_start = np.zeros(instruments + 2, dtype=np.int64)
    level_start[2:] = np.cumsum([len(p) for p in prices])
    best = np.zeros((2, instruments + 1), dtype=np.int64)
    best[0] = level_start[:-1] - 1
    best[1] = level_start[1:]
    n, m, levels = len(ids), plan.messages, len(level_price)
    return _State(
        meta=meta,
        ids=ids,
        order_level=np.zeros(n, dtype=np.int64),
        order_left=np.zeros(n, dtype=np.int64),
        order_price=np.zeros(n, dtype=np.int64),
        order_instrument=np.zeros(n, dtype=np.int32),
        order_side=np.zeros(n, dtype=np.uint8),
        order_state=np.zeros(n, dtype=np.uint8),
        message_of=np.ascontiguousarray(plan.to_message, dtype=np.int64),
        type_of=plan.commands["type"].copy(),
        code=np.full(m, -1, dtype=np.int64),
        traded=np.zeros(m, dtype=np.int64),
        rested=np.zeros(m, dtype=np.int64),
        level_price=level_price,
        level_start=level_start,
        level_qty=np.zeros((2, levels), dtype=np.int64),
        level_orders=np.zeros((2, levels), dtype=np.int64),
        best=best,
        books=np.zeros((instruments + 1, 2, 3), dtype=np.int64),
        probe_at=probes,
        probe_depth=np.zeros((len(probes), 2, depth, 2), dtype=np.int64),
        fills=np.zeros((1, 6), dtype=np.int64),
        stp=np.zeros((1, 4), dtype=np.int64),
    )


def warm() -> None:
    """Compile or load this module's kernels."""
    from pathlib import Path

    from cambist.replay.convert import STEP_DTYPE, Market, assemble

    steps = np.zeros(0, dtype=STEP_DTYPE)
    plan = assemble("warm", "xflow001", Path(), Market((), (), 0), steps, np.zeros(0, dtype=np.uint64), messages=0)
    collector = Collector(plan)
    collector.feed(np.zeros(0, dtype=OUTCOME_DTYPE))
    collector.finish()
    collector.book(0)
    collector.verdict_hash()
