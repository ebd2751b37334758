"""The client of the tour: one connection with many requests in flight, which remembers all that it was told.

It has two accounts. One keeps buy orders in the quiet instruments, far below the price, so that nobody trades with
them, and cancels some; the other buys and sells the lively ones at the market. What an exchange told it is an
*acknowledgement*: a reply with a seq, for which the journal has the command on disk.
"""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from cambist.demo import plan
from gateway.control.messages import OUTCOME_UNKNOWN, Reply

MAKER: Final = "tour-maker"
TAKER: Final = "tour-taker"
IN_FLIGHT_MAX: Final = 128
RESTING_MAX: Final = 600
"""Orders kept in the books; fewer than one answer to a query lists."""
_PERIOD_S: Final = 0.004
_BACK_OFF_S: Final = 0.02
_ANSWER_TIMEOUT_S: Final = 60.0
_CHUNK_BYTES: Final = 1 << 16
_TAKER_SHARE: Final = 0.25
_CANCEL_SHARE: Final = 0.25
_TAKE_VALUE: Final = 600.0
"""In quote currency."""
_ANSWER: Final = msgspec.json.Decoder(Reply)


class TourError(Exception):
    """The tour could not be taken to its end; the message says why."""


class Fill(NamedTuple):
    """A trade of one's own order, in decimal text as it was told."""

    price: str
    qty: str
    value: str
    fee: str
    fee_asset: str | None


class Told(NamedTuple):
    """One acknowledgement: what became of a command."""

    op: str
    account: str
    symbol: str
    seq: int
    order_id: int
    state: str
    """As replies have it: resting, filled, expired, canceled, rejected."""
    reason: int
    """Of a refusal, else 0."""
    price: str
    leaves_qty: str
    fills: tuple[Fill, ...]
    sent_ns: int
    """CLOCK_MONOTONIC, as ``told_ns``."""
    told_ns: int


class _Sent(NamedTuple):
    op: str
    args: dict[str, Any]
    sent_ns: int


class TourClient:
    """Sends orders until told to stop.

    Parameters
    ----------
    path : Path
        The control socket.
    orders_per_s : int
        Requests a second, as far as the gateway keeps up.
    seed : int

    Attributes
    ----------
    told : list of Told
        Acknowledgements in the order in which they came.
    turned_away : int
        Requests refused before they had a number, while the engine was down or busy; they may be sent again.
    unknown : list of int
        Order ids of commands whose outcome the gateway missed.
    """

    def __init__(self, path: Path, orders_per_s: int, seed: int) -> None:
        self.told: list[Told] = []
        self.turned_away = 0
        self.unknown: list[int] = []
        self._rate = orders_per_s
        self._chance = random.Random(seed)  # noqa: S311 - orders of a demo, no secrets
        self._sent: dict[int, _Sent] = {}
        self._next_id = 1
        self._resting: list[tuple[str, int]] = []
        self._buys = dict.fromkeys((listing.symbol for listing in plan.LIVELY), True)
        self._failure = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tour", daemon=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_ANSWER_TIMEOUT_S)
        self._socket.connect(str(path))

    @property
    def in_flight(self) -> int:
        """Requests sent and not answered."""
        return len(self._sent)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def check(self) -> None:
        """Raise TourError if it has ended by itself."""
        if self._failure:
            raise TourError(self._failure)

    def stop(self) -> None:
        """Send no more and wait for the last answer; TourError where it does not come."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        self.check()

    def _run(self) -> None:
        try:
            self._trade()
        except OSError as error:
            self._failure = f"the control gateway ended the connection: {error}"
        except TourError as error:
            self._failure = str(error)

    def _trade(self) -> None:
        received = bytearray()
        last_s = heard_s = time.monotonic()
        credit = 0.0
        while not (self._stopping.is_set() and not self._sent):
            now_s = time.monotonic()
            credit = min(credit + (now_s - last_s) * self._rate, float(IN_FLIGHT_MAX))
            last_s = now_s
            count = min(int(credit), IN_FLIGHT_MAX - len(self._sent))
            if count > 0 and not self._stopping.is_set():
                credit -= count
                self._socket.sendall(b"".join(self._request() for _ in range(count)))
            if not select.select([self._socket], [], [], _PERIOD_S)[0]:
                if self._sent and now_s - heard_s > _ANSWER_TIMEOUT_S:
                    raise TourError(f"{len(self._sent)} requests had no answer for {_ANSWER_TIMEOUT_S:.0f} s")
                continue
            data = self._socket.recv(_CHUNK_BYTES)
            if not data:
                raise TourError("the control gateway ended the connection")
            heard_s = time.monotonic()
            received += data
            *lines, rest = received.split(b"\n")
            received = bytearray(rest)
            turned_away = self.turned_away
            for line in lines:
                self._hear(_ANSWER.decode(line), time.monotonic_ns())
            if self.turned_away > turned_away:
                self._stopping.wait(_BACK_OFF_S)

    def _request(self) -> bytes:
        op, args = self._next()
        number = self._next_id
        self._next_id += 1
        self._sent[number] = _Sent(op, args, time.monotonic_ns())
        return msgspec.json.encode({"id": number, "op": op, "args": args, "operator": plan.OPERATOR}) + b"\n"

    def _next(self) -> tuple[str, dict[str, Any]]:
        """What to ask for next."""
        chance = self._chance
        if chance.random() < _TAKER_SHARE:
            listing = chance.choice(plan.LIVELY)
            buys = self._buys[listing.symbol]
            self._buys[listing.symbol] = not buys
            decimals = len(listing.lot_size.partition(".")[2])
            qty = f"{_TAKE_VALUE / float(listing.price):.{decimals}f}"
            order = {"account": TAKER, "instrument": listing.symbol, "side": "buy" if buys else "sell", "qty": qty}
            return "order", order | {"type": "market"}
        resting = self._resting
        if resting and (len(resting) >= RESTING_MAX or chance.random() < _CANCEL_SHARE):
            at = chance.randrange(len(resting))
            resting[at], resting[-1] = resting[-1], resting[at]
            symbol, order_id = resting.pop()
            return "cancel", {"account": MAKER, "instrument": symbol, "order_id": order_id}
        listing = chance.choice(plan.QUIET)
        price = f"{float(listing.price) * chance.uniform(0.5, 0.9):.2f}"
        qty = f"{chance.randint(1, 50)}"
        order = {"account": MAKER, "instrument": listing.symbol, "side": "buy", "qty": qty, "price": price}
        return "order", order | {"tif": "post_only"}

    def _hear(self, reply: Reply, now_ns: int) -> None:
        sent = self._sent.pop(reply.id) if isinstance(reply.id, int) else None
        if sent is None:
            raise TourError(f"the control gateway refused a request as malformed: {reply}")
        result, error = reply.result, reply.error
        if error is not None and error.code == OUTCOME_UNKNOWN:
            self.unknown.append(int((result or {}).get("order_id", 0)))
            return
        if result is None or "seq" not in result:
            self.turned_away += 1
            if sent.op == "cancel":
                self._resting.append((sent.args["instrument"], sent.args["order_id"]))
            return
        told = Told(
            op=sent.op,
            account=sent.args["account"],
            symbol=sent.args["instrument"],
            seq=result["seq"],
            order_id=result["order_id"],
            state=result["state"],
            reason=error.code if error else 0,
            price=result.get("price", ""),
            leaves_qty=result.get("leaves_qty", "0"),
            fills=tuple(Fill(*(row[name] for name in Fill._fields)) for row in result.get("fills", ())),
            sent_ns=sent.sent_ns,
            told_ns=now_ns,
        )
        self.told.append(told)
        if told.state == "resting":
            self._resting.append((told.symbol, told.order_id))
