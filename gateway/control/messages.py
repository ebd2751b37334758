"""The language of the control socket: one JSON object a line.

Request: ``{"id": 1, "op": "order", "args": {...}, "operator": "name", "reason": "why"}``. ``id`` is the client's and
comes back; ``operator`` is needed wherever state changes, ``reason`` wherever an operator acts on money, accounts or
listings.

Reply: ``{"id": 1, "ok": true, "result": {...}}``, or ``{"id": 1, "ok": false, "error": {...}, "result": {...}}`` with
code, name, text, detail and field of the error; ``result`` is there when the command was numbered. Prices, quantities
and amounts are decimal text, never JSON numbers.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gateway.access import codes
from gateway.access.groups import STP_OPERATOR_MAX
from protocol import reasons

OUTCOME_UNKNOWN: Final = -1
"""Code of a reply that cannot say how the command ended."""
_LOCAL_NAMES: Final = {OUTCOME_UNKNOWN: "OUTCOME_UNKNOWN", **codes.NAME}
_LOCAL_TEXTS: Final = {
    OUTCOME_UNKNOWN: "the outcome was not seen; the command may have been executed: ask by its order id",
    **codes.TEXT,
}

_INT64_MAX = (1 << 63) - 1
RequestId = Annotated[int, Meta(ge=-_INT64_MAX, le=_INT64_MAX)] | Annotated[str, Meta(max_length=64)] | None
Number = Annotated[int, Meta(ge=0, le=_INT64_MAX)]
Text = Annotated[str, Meta(max_length=80)]
Side = Literal["buy", "sell"]


class Args(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of one operation."""


class Exit(Args):
    """An order of the other side that enters when its entry has traded and ended, or one of the same side that it is linked with.

    It is of as many lots, unless ``qty`` says fewer, which only an exit may.
    A limit order at ``price``; with a trigger it waits, and without a price it is then a market order.
    """

    qty: Text | None = None
    price: Text | None = None
    tif: Literal["gtc", "ioc", "post_only"] = "gtc"
    trigger: Literal["stop", "take_profit"] = "stop"
    trigger_price: Text | None = None
    trigger_by: Literal["last", "mark", "index"] = "last"
    trail: Text | None = None
    trail_bp: Number = 0
    activation_price: Text | None = None
    client_order_id: str | None = None


class Order(Args):
    """A new order. ``price`` of a market order is its protection price; ``amount`` is quote to spend or receive.

    ``expires_ts_ns`` belongs to tif gtd, and may stand with post_only; ``display_qty`` makes an iceberg; ``min_qty`` must trade at once.
    With ``peg`` its price follows the best bid, the best ask or the middle, ``peg_offset`` (a price, signed) above it, up to ``price``.
    ``linked`` is a stop of the same side and quantity: what happens first to one of the two ends the other.
    With ``trigger_price`` it waits as ``trigger`` says for that price, with ``trail`` (a price) or ``trail_bp`` (basis points) behind it.
    What trails does so from ``activation_price`` on, where that is given.
    """

    account: int | Text
    instrument: Text
    side: Side
    type: Literal["limit", "market"] = "limit"
    qty: Text | None = None
    amount: Text | None = None
    price: Text | None = None
    tif: Literal["gtc", "ioc", "fok", "post_only", "gtd", "day"] = "gtc"
    expires_ts_ns: Number = 0
    display_qty: Text | None = None
    min_qty: Text | None = None
    trigger: Literal["stop", "take_profit"] = "stop"
    trigger_price: Text | None = None
    trigger_by: Literal["last", "mark", "index"] = "last"
    trail: Text | None = None
    trail_bp: Number = 0
    activation_price: Text | None = None
    peg: Literal["bid", "ask", "mid"] | None = None
    peg_offset: Text | None = None
    stp: Literal["none", "expire_taker", "expire_maker", "expire_both", "decrement"] = "none"
    client_order_id: str | None = None
    exits: list[Exit] = []
    linked: Exit | None = None


class Cancel(Args):
    """Cancel by order id or client order id; the instrument is looked up where not given."""

    account: int | Text
    instrument: Text | None = None
    order_id: Number | None = None
    client_order_id: str | None = None


class CancelAll(Args):
    """Cancel everything of the account, on the instrument, of the session, or what these have in common; of one side, or both.

    ``session``: number of the gateway and of the session, as ``8:17``; ``ended``: because that session has ended.
    """

    account: int | Text | None = None
    instrument: Text | None = None
    session: Text | None = None
    side: Literal["buy", "sell"] | None = None
    ended: bool = False


class DeadMan(Args):
    """Arm, renew or (0 seconds) disarm a timer that cancels the account's orders when it is not renewed in time."""

    account: int | Text
    seconds: int
    instrument: Text | None = None
    session: Text | None = None


class QuoteEntry(Args):
    """Bid and ask of one instrument; a side without price and quantity is taken away. ``quote_id`` comes back."""

    instrument: Text
    bid_price: Text | None = None
    bid_qty: Text | None = None
    ask_price: Text | None = None
    ask_qty: Text | None = None
    quote_id: Number = 0


class Quote(Args):
    """Up to 100 two-sided quotes, one an instrument, in place of those that the account has there."""

    account: int | Text
    quotes: list[QuoteEntry]


class Protect(Args):
    """Limits on what trades with the account's quotes within a window; what is 0 or not given does not limit, nothing at all ends it."""

    account: int | Text
    instrument: Text
    window_ms: Number = 0
    qty: Text | None = None
    net_qty: Text | None = None
    trades: Number = 0


class Amend(Args):
    """New price, new total quantity, or both, of a resting order; what is not given stays."""

    account: int | Text
    instrument: Text | None = None
    order_id: Number | None = None
    client_order_id: str | None = None
    price: Text | None = None
    qty: Text | None = None


class CreateAccount(Args):
    """Open an account, with the next free number where none is given."""

    account: int | None = None
    name: str | None = None


class NameAccount(Args):
    """Give an account a name, or another one."""

    account: int
    name: str


class OfAccount(Args):
    """Operations on one account."""

    account: int | Text


class ListAsset(Args):
    """A new asset; ``scale`` is the decimals of its smallest unit."""

    symbol: Text
    scale: int = 8


class ListInstrument(Args):
    """A new instrument. Fees, bands and breaker are shares ("0.001" or "0.1%"); limits of 0 mean none.

    Its interruptions are said as in ``SetBands``.
    """

    symbol: Text
    base: Text
    quote: Text
    tick_size: Text
    lot_size: Text
    maker: Text = "0"
    taker: Text = "0"
    band_up: Text = "0"
    band_down: Text = "0"
    breaker: Text = "0"
    reference_price: Text | None = None
    price_max: Text | None = None
    qty_max: Text | None = None
    dynamic: Text = "0"
    auction_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    random_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    extensions: Annotated[int, Meta(ge=0, le=100)] = 0


class SetFees(Args):
    """New fee shares of an instrument; a negative maker fee is a rebate."""

    instrument: Text
    maker: Text
    taker: Text


class Tier(Args):
    """A tier of a fee schedule; ``min_volume`` is an amount of the volume asset, 0 of the first one."""

    maker: Text
    taker: Text
    min_volume: Text = "0"


class SetSchedule(Args):
    """Another version of fee schedule number ``schedule``, in force from ``effective_ts_ns`` on (0: at once)."""

    schedule: Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]
    tiers: Annotated[list[Tier], Meta(min_length=1, max_length=7)]
    api_discount: Text = "0"
    effective_ts_ns: Number = 0


class OfScope(Args):
    """A scope: one of these, for fees also an account in an instrument. A user is named by its main account."""

    venue: bool = False
    account: int | Text | None = None
    user: int | Text | None = None
    firm: Annotated[int, Meta(ge=1, le=(1 << 31) - 1)] | None = None
    instrument: Text | None = None


class AssignFees(OfScope, kw_only=True):
    """Give a scope a fee schedule; 0 takes it away."""

    schedule: Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]


class SetVolumeRate(Args):
    """What one of an asset counts in the volume asset, which is the one with rate 1; 0: nothing."""

    asset: Text
    rate: Text


class SetGroups(Args):
    """Main account, firm and self-trade group of an account; what is not given stays.

    ``stp_group`` 0: alone; "user": with all accounts of its main account, as where nobody chooses.
    """

    account: int | Text
    master: int | Text | None = None
    firm: Annotated[int, Meta(ge=0, le=(1 << 31) - 1)] | None = None
    stp_group: Annotated[int, Meta(ge=0, le=STP_OPERATOR_MAX)] | Literal["user"] | None = None


class Transfer(Args):
    """Move an amount to another account of the same master."""

    account: int | Text
    to: int | Text
    asset: Text
    amount: Text


class SetLimits(OfScope):
    """All pre-trade limits of a scope; what is 0 or not given does not limit. ``notional`` is an amount of the volume asset."""

    qty_lots: Number = 0
    notional: Text | None = None
    open_orders: Number = 0
    orders_per_s: Number = 0
    collar: Text = "0"


class Fees(Args):
    """Query: fee schedules, who has which, revenue; with an account its volume too."""

    account: int | Text | None = None


class SetBands(Args):
    """New bands and breaker of an instrument, as shares of its reference price, which stays where not given.

    ``dynamic``: share of the last trade before. With ``auction_s`` an interruption is an auction of so many seconds, and up to
    ``random_s`` more, made longer up to ``extensions`` times.
    """

    instrument: Text
    up: Text
    down: Text
    breaker: Text = "0"
    reference_price: Text | None = None
    dynamic: Text = "0"
    auction_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    random_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    extensions: Annotated[int, Meta(ge=0, le=100)] = 0


class OfInstrument(Args):
    """Operations on one instrument."""

    instrument: Text


class SetState(Args):
    """State of an instrument's market, or without one of the venue (``open``, ``maintenance``).

    An auction may have an end, and then the state ``then`` by itself.
    """

    state: Literal[
        "open", "halted", "post-only", "cancel-only", "closed", "delisted", "pre-open", "auction", "maintenance"
    ]
    instrument: Text | None = None
    end_ts_ns: Number | None = None
    then: Literal["open", "post-only", "closed"] = "open"


class SetPrices(Args):
    """Mark and index price that stops wait for; what is not given stays."""

    instrument: Text
    mark: Text | None = None
    index: Text | None = None


class Money(Args):
    """Deposit, withdrawal hold or adjustment of an amount."""

    account: int | Text
    asset: Text
    amount: Text


class OfHold(Args):
    """Settle or release a withdrawal hold."""

    account: int | Text
    hold_id: Number


class Tick(Args):
    """One tick of a sequenced timer."""

    timer: Annotated[int, Meta(ge=0, le=(1 << 31) - 1)] = 0


class SetTimer(Args):
    """Let a timer tick whenever the sequenced time is ``phase_ns`` modulo ``period_ns``; period 0 stops it."""

    timer: Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
    period_ns: Number
    phase_ns: Number = 0


class Orders(Args):
    """Query: resting orders."""

    account: int | Text | None = None
    instrument: Text | None = None


class Book(Args):
    """Query: price levels of an instrument."""

    instrument: Text
    levels: Annotated[int, Meta(ge=1, le=1000)] = 10


class NoArgs(Args):
    """Queries without arguments."""


ARGS: Final[dict[str, type[Args]]] = {
    "order": Order,
    "cancel": Cancel,
    "cancel_all": CancelAll,
    "amend": Amend,
    "dead_man": DeadMan,
    "quote": Quote,
    "protect": Protect,
    "create_account": CreateAccount,
    "name_account": NameAccount,
    "freeze": OfAccount,
    "unfreeze": OfAccount,
    "close_account": OfAccount,
    "list_asset": ListAsset,
    "list_instrument": ListInstrument,
    "set_fees": SetFees,
    "set_schedule": SetSchedule,
    "assign_fees": AssignFees,
    "set_volume_rate": SetVolumeRate,
    "set_groups": SetGroups,
    "transfer": Transfer,
    "set_limits": SetLimits,
    "kill": OfScope,
    "revive": OfScope,
    "fees": Fees,
    "limits": NoArgs,
    "set_bands": SetBands,
    "halt": OfInstrument,
    "resume": OfInstrument,
    "set_state": SetState,
    "set_prices": SetPrices,
    "deposit": Money,
    "withdraw_hold": Money,
    "withdraw_settle": OfHold,
    "withdraw_release": OfHold,
    "adjust": Money,
    "tick": Tick,
    "set_timer": SetTimer,
    "balance": OfAccount,
    "account": OfAccount,
    "accounts": NoArgs,
    "assets": NoArgs,
    "instruments": NoArgs,
    "orders": Orders,
    "book": Book,
    "status": NoArgs,
}
ORDER_OPS: Final = frozenset({"order", "cancel", "cancel_all", "amend", "dead_man", "quote", "protect"})
QUERY_OPS: Final = frozenset(
    {"balance", "account", "accounts", "assets", "instruments", "orders", "book", "status", "fees", "limits"}
)


class Request(msgspec.Struct, frozen=True):
    """A request whose form is right."""

    id: int | str | None
    op: str
    args: Args
    operator: str = ""
    reason: str = ""


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused; ``detail`` is about this request, ``field`` names the field at fault.

    ``retry_ms`` above 0: when to send a request again that was refused because of load.
    """

    code: int
    name: str
    text: str
    detail: str = ""
    field: str = ""
    retry_ms: int = 0


class Reply(msgspec.Struct, frozen=True):
    """The answer to one request."""

    id: int | str | None
    ok: bool
    result: dict[str, Any] | None = None
    error: Error | None = None


class Refused(Exception):
    """A request is answered with a reason, before it gets a number."""

    def __init__(self, code: int, detail: str = "", field: str = "", retry_ms: int = 0) -> None:
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_ms = retry_ms
        super().__init__(detail or reason_error(code).text)


def reason_error(code: int, detail: str = "", field: str = "", retry_ms: int = 0) -> Error:
    """Error of a reason code, with its name and text."""
    name = reasons.NAME.get(code) or _LOCAL_NAMES.get(code, f"REASON_{code}")
    text = reasons.TEXT.get(code) or _LOCAL_TEXTS.get(code, "refused")
    return Error(code, name, text, detail, field, retry_ms)


def refusal(request_id: int | str | None, refused: Refused) -> Reply:
    """Reply of a request that got no number."""
    error = reason_error(refused.code, refused.detail, refused.field, refused.retry_ms)
    return Reply(request_id, ok=False, error=error)
