"""What a person does by hand with a running exchange, through the control gateway: orders, accounts, listings, money."""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from cambist.commands import Call, FailedError, UsageError, connection, operator, quoting
from cambist.commands import action as add_action
from cambist.commands.tables import table
from gateway.control.client import ControlError, RefusedError

COMMANDS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "order": (
        "place an order",
        (
            "cambist order buy 0.5 BTCUSDT --price 100.00 --account alice",
            "cambist order buy 0.01 BTCUSDT --market --account alice",
            "cambist order sell 1000 BTCUSDT --market --by-amount --account 7",
        ),
    ),
    "cancel": (
        "cancel an order",
        ("cambist cancel 2199023255553 --account alice", "cambist cancel --client-order-id my-1 --account alice"),
    ),
    "cancel-all": (
        "cancel all orders of an account, on an instrument, of a session, or what these have in common",
        (
            "cambist cancel-all --account alice",
            "cambist cancel-all --instrument BTCUSDT --side sell",
            "cambist cancel-all --session 8:17 --ended",
        ),
    ),
    "dead-man": (
        "arm or renew a timer that cancels an account's orders, or disarm it",
        ("cambist dead-man 30 --account alice", "cambist dead-man 0 --account alice"),
    ),
    "amend": (
        "change price or total quantity of an order",
        ("cambist amend 2199023255553 --price 99.50 --account alice",),
    ),
    "quote": (
        "quote two-sided, one or several instruments in one command, in place of what the account quotes there",
        (
            "cambist quote BTCUSDT 0.5@59990 0.4@60010 --account alice",
            "cambist quote BTCUSDT 0.5@59990 0.4@60010 ETHUSDT 3@2990 3@3010 --account alice",
            "cambist quote BTCUSDT - - --account alice",
        ),
    ),
    "protection": (
        "pull an account's quotes in an instrument when much has traded with them in a short time",
        (
            "cambist protection BTCUSDT --window 1 --qty 5 --net 2 --trades 20 --account alice",
            "cambist protection BTCUSDT --off --account alice",
        ),
    ),
    "book": ("show the book of an instrument", ("cambist book BTCUSDT", "cambist book BTCUSDT --levels 20 --json")),
    "balance": ("show the balances of an account", ("cambist balance alice",)),
    "orders": ("list resting orders", ("cambist orders --account alice", "cambist orders --instrument BTCUSDT")),
    "account": (
        "create, name, freeze, close and show accounts",
        ('cambist account create alice --reason "signed up"', "cambist account list"),
    ),
    "asset": (
        "create and list assets",
        ('cambist asset create USDT --reason "new asset"', "cambist asset list"),
    ),
    "instrument": (
        "create, halt and list instruments, set fees and bands",
        (
            "cambist instrument create BTCUSDT --base BTC --quote USDT --tick 0.01 --lot 0.00001 --reason listing",
            'cambist instrument halt BTCUSDT --reason "news"',
            'cambist instrument state BTCUSDT post-only --reason "first orders"',
            'cambist instrument auction BTCUSDT --for 60 --random 30 --reason "opening"',
            "cambist instrument bands BTCUSDT --up 10% --down 10% --breaker 5% --dynamic 2% --auction 120 --random 30 --reason rules",
        ),
    ),
    "venue": (
        "put the venue into maintenance, in which cancels still work, and back",
        ('cambist venue maintenance --reason "new disks"', 'cambist venue open --reason "done"'),
    ),
    "deposit": ("credit a deposit", ('cambist deposit 1000 USDT --account alice --reason "wire 4711"',)),
    "withdraw": (
        "hold, settle or release a withdrawal",
        ('cambist withdraw hold 10 USDT --account alice --reason "asked"', "cambist withdraw settle 2199023255560 …"),
    ),
    "transfer": (
        "move money between accounts of one user",
        ('cambist transfer 100 USDT --account alice --to alice-2 --reason "asked"',),
    ),
    "fee": (
        "set, assign and show fee schedules",
        (
            "cambist fee rate USDT 1 --reason start",
            "cambist fee set 1 --tier 0:0.1%:0.1% --tier 1000000:0.09%:0.1% --api-discount 10% --reason tariff",
            "cambist fee assign 1 --venue --reason tariff",
            'cambist fee assign 7 --account alice --instrument BTCUSDT --reason "contract 12"',
            "cambist fee list",
        ),
    ),
    "limit": (
        "set and show pre-trade limits, pull and release kill switches; rate limits and who is banned by them",
        (
            "cambist limit set --account alice --open-orders 200 --orders-per-s 50 --collar 5% --reason desk",
            'cambist limit kill --firm 3 --reason "their request"',
            'cambist limit revive --firm 3 --reason "back"',
            "cambist limit list",
            "cambist limit rates",
            'cambist limit unban --ip 203.0.113.7 --reason "ticket 12"',
        ),
    ),
    "adjust": ("correct a balance, signed", ('cambist adjust -5 USDT --account alice --reason "double credit"',)),
}


_NS: Final = 1_000_000_000


class _Request(NamedTuple):
    op: str
    args: dict[str, Any]


_Arguments = argparse.Namespace


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand ``name``."""
    _CONFIGURE[name](parser)


def run(name: str, call: Call) -> int:
    """Send what the command line asks for, and show the answer."""
    arguments = call.arguments
    action = getattr(arguments, "action", "")
    request = _REQUESTS[f"{name} {action}".strip()](arguments)
    args = {key: value for key, value in request.args.items() if value is not None}
    try:
        with connection.client(call) as client:
            reply = operator.send(client, request.op, args, getattr(arguments, "reason", "") or "")
    except ControlError as error:
        raise FailedError(str(error)) from None
    if arguments.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(reply), indent=2).decode())
    if not reply.ok:
        raise FailedError(_refused_text(RefusedError(reply)))
    if not arguments.json:
        _show(request.op, reply.result or {})
    if request.op == "quote":
        quoting.check_quotes(reply.result or {})
    return 0


# --- the command line -------------------------------------------------------------------------------------------------


def _configure_order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("side", choices=("buy", "sell"))
    parser.add_argument("qty", metavar="QTY", help="quantity in base units; with --by-amount an amount of quote")
    parser.add_argument("instrument", metavar="SYMBOL")
    parser.add_argument("--price", help="limit price; for a market order the protection price")
    parser.add_argument("--market", action="store_true", help="execute now at the best prices")
    parser.add_argument("--by-amount", action="store_true", help="QTY is quote to spend (buy) or to receive (sell)")
    parser.add_argument(
        "--tif", choices=("gtc", "ioc", "fok", "post-only", "gtd", "day"), default="gtc", help="time in force"
    )
    parser.add_argument(
        "--expires", metavar="TIME", help="when a gtd or post-only order expires, such as 2026-12-01T00:00:00Z"
    )
    parser.add_argument("--display", metavar="QTY", help="iceberg: show so much at a time")
    parser.add_argument("--min-qty", metavar="QTY", help="trade at least so much at once, or nothing")
    trigger = parser.add_mutually_exclusive_group()
    trigger.add_argument("--stop", metavar="PRICE", help="wait until the price has moved against you to here")
    trigger.add_argument("--take-profit", metavar="PRICE", help="wait until the price has moved in your favour to here")
    trigger.add_argument("--trail", metavar="PRICE", help="stop that follows the price at this distance")
    trigger.add_argument("--trail-bp", metavar="N", type=int, default=0, help="the same, in basis points of the price")
    parser.add_argument("--activate", metavar="PRICE", help="with --trail or --trail-bp: follow the price from here on")
    parser.add_argument(
        "--trigger-by", choices=("last", "mark", "index"), default="last", help="price that the order waits for"
    )
    parser.add_argument(
        "--peg", choices=("bid", "ask", "mid"), help="follow the best bid, the best ask or the middle up to --price"
    )
    parser.add_argument("--peg-offset", metavar="PRICE", help="stand so far above that price, or below it (-0.5)")
    parser.add_argument(
        "--stp",
        choices=("none", "expire-taker", "expire-maker", "expire-both", "decrement"),
        default="none",
        help="self-trade prevention",
    )
    parser.add_argument("--client-order-id", metavar="ID", help="your own id, 1 to 36 characters")
    parser.add_argument(
        "--exit-limit",
        metavar="PRICE",
        help="when it has traded and ended, a limit order of the other side at this price",
    )
    parser.add_argument("--exit-stop", metavar="PRICE", help="the same, a stop at this price: a market order")
    parser.add_argument(
        "--exit-stop-limit", metavar="PRICE", help="with --exit-stop: a limit order at this price instead"
    )
    parser.add_argument(
        "--or-stop", metavar="PRICE", help="link it with a stop of the same side at this price: one ends the other"
    )
    parser.add_argument(
        "--or-stop-limit", metavar="PRICE", help="with --or-stop: a limit order at this price, not a market order"
    )
    _account(parser)
    _common(parser)


def _configure_named_order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("order_id", metavar="ORDER_ID", type=int, nargs="?")
    parser.add_argument("--client-order-id", metavar="ID", help="your own id of the order, in place of ORDER_ID")
    parser.add_argument("--instrument", metavar="SYMBOL", help="looked up where not given")
    _account(parser)
    _common(parser)


def _configure_amend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--price", help="new price")
    parser.add_argument("--qty", help="new total quantity, what has traded included")
    _configure_named_order(parser)


def _configure_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--instrument", metavar="SYMBOL")
    _account(parser, required=False)
    _common(parser)


def _configure_cancel_all(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--side", choices=("buy", "sell"), help="only bids, or only asks")
    parser.add_argument("--session", metavar="GATEWAY:NUMBER", help="only orders that came in this session")
    parser.add_argument("--ended", action="store_true", help="the session has ended: orders say BY_DISCONNECT")
    _configure_selection(parser)


def _configure_dead_man(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("seconds", type=int, metavar="SECONDS", help="1 to 86400; 0 disarms")
    parser.add_argument("--session", metavar="GATEWAY:NUMBER", help="only orders that came in this session")
    parser.add_argument("--instrument", metavar="SYMBOL", help="only orders on this instrument")
    _account(parser, required=True)
    _common(parser)


def _configure_quote(parser: argparse.ArgumentParser) -> None:
    quoting.configure_quote(parser)
    _account(parser)
    _common(parser)


def _configure_protection(parser: argparse.ArgumentParser) -> None:
    quoting.configure_protection(parser)
    _account(parser)
    _common(parser)


def _configure_book(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instrument", metavar="SYMBOL")
    parser.add_argument("--levels", type=int, default=10, help="levels a side (default 10)")
    _common(parser)


def _configure_balance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("account", metavar="ACCOUNT", help="number or name")
    _common(parser)


def _configure_account(parser: argparse.ArgumentParser) -> None:
    actions = _actions(parser)
    create = _action(actions, "create", "open an account", reason=True)
    create.add_argument("name", metavar="NAME", nargs="?", help="a name for it")
    create.add_argument("--number", type=int, help="its number; by default the next free one")
    name = _action(actions, "name", "give an account a name", reason=True)
    name.add_argument("number", metavar="NUMBER", type=int)
    name.add_argument("name", metavar="NAME")
    for action, text in (
        ("freeze", "refuse new orders and withdrawals of an account"),
        ("unfreeze", "undo a freeze"),
        ("close", "close an empty account"),
    ):
        _action(actions, action, text, reason=True).add_argument("account", metavar="ACCOUNT", help="number or name")
    group = _action(actions, "group", "say whose an account is; what is not given stays", reason=True)
    group.add_argument("account", metavar="ACCOUNT", help="number or name")
    group.add_argument(
        "--master", metavar="ACCOUNT", help="main account of its user: volume and user limits count there"
    )
    group.add_argument("--firm", type=int, metavar="N", help="firm, 0 = none")
    group.add_argument(
        "--stp-group",
        type=_stp_group,
        metavar="N",
        help="accounts of one group do not trade with one another; 0 = alone, user = all accounts of the same user (default)",
    )
    _action(actions, "show", "show one account").add_argument("account", metavar="ACCOUNT", help="number or name")
    _action(actions, "list", "list all accounts")


def _configure_asset(parser: argparse.ArgumentParser) -> None:
    actions = _actions(parser)
    create = _action(actions, "create", "list an asset", reason=True)
    create.add_argument("symbol", metavar="SYMBOL")
    create.add_argument("--scale", type=int, default=8, help="decimals of its smallest unit (default 8)")
    _action(actions, "list", "list all assets")


def _configure_instrument(parser: argparse.ArgumentParser) -> None:
    actions = _actions(parser)
    create = _action(actions, "create", "list an instrument", reason=True)
    create.add_argument("symbol", metavar="SYMBOL")
    create.add_argument("--base", required=True, metavar="ASSET")
    create.add_argument("--quote", required=True, metavar="ASSET")
    create.add_argument("--tick", required=True, metavar="SIZE", help="tick size")
    create.add_argument("--lot", required=True, metavar="SIZE", help="lot size")
    for flag, text in (
        ("--maker", "maker fee, such as 0.0002 or 0.02%%; negative = rebate"),
        ("--taker", "taker fee"),
        ("--band-up", "price band above the reference, such as 10%%"),
        ("--band-down", "price band below the reference"),
        ("--breaker", "a trade further than this from the reference halts the instrument"),
    ):
        create.add_argument(flag, default="0", metavar="SHARE", help=text)
    create.add_argument("--reference", metavar="PRICE", help="first reference price of the bands")
    create.add_argument("--price-max", metavar="PRICE")
    create.add_argument("--qty-max", metavar="QTY")
    _add_interruptions(create)
    for action, text in (("halt", "halt trading"), ("resume", "go on trading")):
        _action(actions, action, text, reason=True).add_argument("instrument", metavar="SYMBOL")
    state = _action(actions, "state", "set the state of the market", reason=True)
    state.add_argument("instrument", metavar="SYMBOL")
    state.add_argument(
        "state",
        choices=("open", "halted", "post-only", "cancel-only", "closed", "delisted", "pre-open", "auction"),
    )
    auction = _action(actions, "auction", "hold a call auction that ends by itself", reason=True)
    auction.add_argument("instrument", metavar="SYMBOL")
    auction.add_argument("--for", dest="for_s", type=float, required=True, metavar="SECONDS", help="how long at least")
    auction.add_argument(
        "--random", dest="random_s", type=float, default=0.0, metavar="SECONDS", help="up to so much longer, drawn now"
    )
    auction.add_argument("--then", choices=("open", "post-only", "closed"), default="open", help="state behind it")
    prices = _action(actions, "prices", "set the mark and index price that stops wait for", reason=True)
    prices.add_argument("instrument", metavar="SYMBOL")
    prices.add_argument("--mark", metavar="PRICE")
    prices.add_argument("--index", metavar="PRICE")
    fees = _action(actions, "fees", "set the fees", reason=True)
    fees.add_argument("instrument", metavar="SYMBOL")
    fees.add_argument("--maker", required=True, metavar="SHARE", help="negative = rebate")
    fees.add_argument("--taker", required=True, metavar="SHARE")
    bands = _action(actions, "bands", "set price bands and circuit breaker", reason=True)
    bands.add_argument("instrument", metavar="SYMBOL")
    bands.add_argument("--up", required=True, metavar="SHARE", help="0 = no band")
    bands.add_argument("--down", required=True, metavar="SHARE")
    bands.add_argument("--breaker", default="0", metavar="SHARE")
    bands.add_argument("--reference", metavar="PRICE")
    _add_interruptions(bands)
    _action(actions, "list", "list all instruments")


def _configure_venue(parser: argparse.ArgumentParser) -> None:
    actions = _actions(parser)
    _action(actions, "maintenance", "refuse orders and amends; cancels still work", reason=True)
    _action(actions, "open", "end the maintenance", reason=True)


def _configure_money(parser: argparse.ArgumentParser) -> None:
    _money(parser)
    _common(parser)
    _reason(parser)


def _configure_withdraw(parser: argparse.ArgumentParser) -> None:
    actions = _actions(parser)
    _money(_action(actions, "hold", "move an amount from free to locked", reason=True))
    for action, text in (("settle", "the held amount has left"), ("release", "the held amount goes back to free")):
        parser_of = _action(actions, action, text, reason=True)
        parser_of.add_argument("hold_id", metavar="HOLD_ID", type=int)
        _account(parser_of)


def _configure_transfer(parser: argparse.ArgumentParser) -> None:
    _money(parser)
    parser.add_argument("--to", required=True, metavar="ACCOUNT", help="number or name; of the same master")
    _common(parser)
    _reason(parser)


def _configure_fee(parser: argparse.ArgumentParser) -> None:
    actions = _actions(parser)
    put = _action(actions, "set", "set another version of a fee schedule", reason=True)
    put.add_argument("schedule", metavar="SCHEDULE", type=int, help="its number")
    put.add_argument(
        "--tier",
        action="append",
        required=True,
        metavar="VOLUME:MAKER:TAKER",
        help="30-day volume from which a tier holds and its shares, such as 1000000:0.02%%:0.1%%; up to seven, the first from 0",
    )
    put.add_argument("--api-discount", default="0", metavar="SHARE", help="off charges of orders through an API key")
    put.add_argument(
        "--effective", metavar="TIME", help="from when on, such as 2027-01-01T00:00:00Z (default: at once)"
    )
    assign = _action(actions, "assign", "give a scope a schedule; 0 takes it away", reason=True)
    assign.add_argument("schedule", metavar="SCHEDULE", type=int)
    _scope(assign, user=False)
    rate = _action(actions, "rate", "say what an asset counts in the volume asset", reason=True)
    rate.add_argument("asset", metavar="ASSET")
    rate.add_argument("rate", metavar="RATE", help="1 makes it the volume asset; 0: nothing")
    shown = _action(actions, "list", "list schedules, who has which, and revenue")
    _account(shown, required=False)


def _configure_limit(parser: argparse.ArgumentParser) -> None:
    actions = _actions(parser)
    put = _action(actions, "set", "set all limits of a scope; what is not given does not limit", reason=True)
    _scope(put)
    put.add_argument("--qty-lots", type=int, default=0, metavar="LOTS", help="largest order")
    put.add_argument("--notional", metavar="AMOUNT", help="largest value of an order, in the volume asset")
    put.add_argument("--open-orders", type=int, default=0, metavar="N")
    put.add_argument("--orders-per-s", type=int, default=0, metavar="N", help="new orders and amends in a second")
    put.add_argument("--collar", default="0", metavar="SHARE", help="how far from the reference a price may be")
    _scope(_action(actions, "kill", "cancel all orders of a scope and refuse new ones", reason=True))
    _scope(_action(actions, "revive", "undo a kill", reason=True))
    _action(actions, "list", "list all scopes with limits")
    _action(actions, "rates", "show how often somebody may call gateways, and who is banned")
    unban = _action(actions, "unban", "end a ban of one who called too often", reason=True)
    whom = unban.add_mutually_exclusive_group(required=True)
    whom.add_argument("--ip", metavar="ADDRESS", help="an address of IPv6 stands for its /64")
    whom.add_argument("--api-key", metavar="KEY")
    whom.add_argument("--account", metavar="ACCOUNT", help="number or name")


def _scope(parser: argparse.ArgumentParser, *, user: bool = True) -> None:
    parser.add_argument("--venue", action="store_true", help="everybody")
    parser.add_argument("--account", metavar="ACCOUNT", help="number or name")
    if user:
        parser.add_argument("--user", metavar="ACCOUNT", help="all accounts of a main account")
    parser.add_argument("--firm", type=int, metavar="N")
    parser.add_argument("--instrument", metavar="SYMBOL")


def _actions(parser: argparse.ArgumentParser) -> Any:
    return parser.add_subparsers(dest="action", metavar="ACTION", required=True)


def _stp_group(text: str) -> int | str:
    """A number, or "user"."""
    return text if text == "user" else int(text)


def _add_interruptions(parser: argparse.ArgumentParser) -> None:
    """How trades are interrupted beside the breaker."""
    parser.add_argument(
        "--dynamic", default="0", metavar="SHARE", help="a trade further from the one before interrupts"
    )
    parser.add_argument(
        "--auction",
        dest="auction_s",
        type=int,
        default=0,
        metavar="SECONDS",
        help="an interruption is an auction, not a halt",
    )
    parser.add_argument(
        "--random", dest="random_s", type=int, default=0, metavar="SECONDS", help="up to so much longer"
    )
    parser.add_argument(
        "--extensions",
        type=int,
        default=0,
        metavar="N",
        help="times it goes on because its price is beyond the breaker",
    )


def _action(actions: Any, name: str, text: str, *, reason: bool = False) -> argparse.ArgumentParser:
    parser = add_action(actions, name, text)
    _common(parser)
    if reason:
        _reason(parser)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the reply as JSON")
    connection.options(parser)


def _reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it goes into the journal")


def _account(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--account", required=required, metavar="ACCOUNT", help="number or name")


def _money(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("amount", metavar="AMOUNT")
    parser.add_argument("asset", metavar="ASSET")
    _account(parser)


_CONFIGURE: Final[dict[str, Callable[[argparse.ArgumentParser], None]]] = {
    "order": _configure_order,
    "cancel": _configure_named_order,
    "cancel-all": _configure_cancel_all,
    "dead-man": _configure_dead_man,
    "amend": _configure_amend,
    "quote": _configure_quote,
    "protection": _configure_protection,
    "book": _configure_book,
    "balance": _configure_balance,
    "orders": _configure_selection,
    "account": _configure_account,
    "asset": _configure_asset,
    "instrument": _configure_instrument,
    "venue": _configure_venue,
    "deposit": _configure_money,
    "withdraw": _configure_withdraw,
    "adjust": _configure_money,
    "transfer": _configure_transfer,
    "fee": _configure_fee,
    "limit": _configure_limit,
}


# --- from the command line to requests --------------------------------------------------------------------------------


def _order(a: _Arguments) -> _Request:
    if a.by_amount and not a.market:
        raise UsageError("--by-amount is for market orders; add --market")
    if not a.market and a.price is None:
        raise UsageError("a limit order needs --price; --market executes at the best prices")
    args = {
        "account": a.account,
        "instrument": a.instrument,
        "side": a.side,
        "type": "market" if a.market else "limit",
        "amount" if a.by_amount else "qty": a.qty,
        "price": a.price,
        "tif": a.tif.replace("-", "_"),
        "expires_ts_ns": 0 if a.expires is None else _time_ns("--expires", a.expires),
        "display_qty": a.display,
        "min_qty": a.min_qty,
        "trigger": "stop" if a.take_profit is None else "take_profit",
        "trigger_price": a.stop if a.take_profit is None else a.take_profit,
        "trigger_by": a.trigger_by,
        "trail": a.trail,
        "trail_bp": a.trail_bp,
        "activation_price": a.activate,
        "peg": a.peg,
        "peg_offset": a.peg_offset,
        "stp": a.stp.replace("-", "_"),
        "client_order_id": a.client_order_id,
        "exits": _exits(a),
        "linked": _linked(a),
    }
    return _Request("order", args)


def _linked(a: _Arguments) -> dict[str, Any] | None:
    """The stop that the order is linked with."""
    if a.or_stop_limit is not None and a.or_stop is None:
        raise UsageError("--or-stop-limit is the limit price of a stop; add --or-stop PRICE")
    if a.or_stop is None:
        return None
    if a.by_amount:
        raise UsageError("an order by amount is linked with none, for two that are have one quantity")
    return {"trigger_price": a.or_stop, "price": a.or_stop_limit, "trigger_by": a.trigger_by}


def _exits(a: _Arguments) -> list[dict[str, Any]]:
    """What enters when the order has traded and ended."""
    if a.exit_stop_limit is not None and a.exit_stop is None:
        raise UsageError("--exit-stop-limit is the limit price of a stop; add --exit-stop PRICE")
    if a.by_amount and (a.exit_limit is not None or a.exit_stop is not None):
        raise UsageError("an order by amount has no exits, for nobody knows yet of how many lots; give a quantity")
    exits = [] if a.exit_limit is None else [{"price": a.exit_limit}]
    if a.exit_stop is not None:
        for one in exits:
            # Linked with a stop it waits as a take-profit, which enters however far the price has come meanwhile.
            one |= {"trigger": "take_profit", "trigger_price": a.exit_limit}
        exits.append({"trigger_price": a.exit_stop, "price": a.exit_stop_limit})
    return exits


def _named_order(a: _Arguments) -> dict[str, Any]:
    if (a.order_id is None) == (a.client_order_id is None):
        raise UsageError("give ORDER_ID or --client-order-id, one of them")
    return {
        "account": a.account,
        "instrument": a.instrument,
        "order_id": a.order_id,
        "client_order_id": a.client_order_id,
    }


def _amend(a: _Arguments) -> _Request:
    if a.price is None and a.qty is None:
        raise UsageError("give --price, --qty, or both")
    return _Request("amend", {**_named_order(a), "price": a.price, "qty": a.qty})


def _cancel_all(a: _Arguments) -> _Request:
    if a.account is None and a.instrument is None and a.session is None:
        raise UsageError("give --account, --instrument, --session, or several of them")
    if a.ended and a.session is None:
        raise UsageError("--ended needs --session: which one has ended?")
    fields = ("account", "instrument", "session", "side", "ended")
    return _Request("cancel_all", {field: getattr(a, field) for field in fields})


def _instrument_create(a: _Arguments) -> _Request:
    args = {
        "symbol": a.symbol,
        "base": a.base,
        "quote": a.quote,
        "tick_size": a.tick,
        "lot_size": a.lot,
        "maker": a.maker,
        "taker": a.taker,
        "band_up": a.band_up,
        "band_down": a.band_down,
        "breaker": a.breaker,
        "reference_price": a.reference,
        "price_max": a.price_max,
        "qty_max": a.qty_max,
    }
    return _Request("list_instrument", args | _interruptions(a))


def _interruptions(a: _Arguments) -> dict[str, Any]:
    return {name: getattr(a, name) for name in ("dynamic", "auction_s", "random_s", "extensions")}


def _auction(a: _Arguments) -> _Request:
    """The end is drawn here, by who asks for the auction: nothing that decides draws anything."""
    longest_s = 86_400
    if not 0 < a.for_s <= longest_s or not 0 <= a.random_s <= longest_s - a.for_s:
        raise UsageError("--for is above 0, --random not below it, and both together are at most a day")
    end_ts_ns = time.time_ns() + int(a.for_s * _NS) + secrets.randbelow(int(a.random_s * _NS) + 1)
    args = {"instrument": a.instrument, "state": "auction", "end_ts_ns": end_ts_ns, "then": a.then}
    return _Request("set_state", args)


def _time_ns(option: str, text: str) -> int:
    from persistence.moments import parse_moment

    try:
        ts_ns = parse_moment(text).ts_ns
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if ts_ns is None:
        raise UsageError(f"{option}: {text} is the number of a command; write a time")
    return ts_ns


def _fee_set(a: _Arguments) -> _Request:
    tiers = []
    for text in a.tier:
        parts = text.split(":")
        if len(parts) != 3:
            raise UsageError(f"--tier {text}: write VOLUME:MAKER:TAKER, such as 1000000:0.02%:0.1%")
        tiers.append(dict(zip(("min_volume", "maker", "taker"), parts, strict=True)))
    args = {"schedule": a.schedule, "tiers": tiers, "api_discount": a.api_discount}
    if a.effective is not None:
        args["effective_ts_ns"] = _time_ns("--effective", a.effective)
    return _Request("set_schedule", args)


def _scoped(op: str, *fields: str) -> Callable[[_Arguments], _Request]:
    names = ("venue", "account", "user", "firm", "instrument", *fields)
    return lambda a: _Request(op, {name: getattr(a, name, None) for name in names})


def _plain(op: str, *fields: str) -> Callable[[_Arguments], _Request]:
    return lambda a: _Request(op, {field: getattr(a, field) for field in fields})


_REQUESTS: Final[dict[str, Callable[[_Arguments], _Request]]] = {
    "order": _order,
    "cancel": lambda a: _Request("cancel", _named_order(a)),
    "cancel-all": _cancel_all,
    "dead-man": _plain("dead_man", "account", "seconds", "instrument", "session"),
    "amend": _amend,
    "quote": lambda a: _Request("quote", quoting.quote_args(a)),
    "protection": lambda a: _Request("protect", quoting.protection_args(a)),
    "book": _plain("book", "instrument", "levels"),
    "balance": _plain("balance", "account"),
    "orders": _plain("orders", "account", "instrument"),
    "account create": lambda a: _Request("create_account", {"name": a.name, "account": a.number}),
    "account name": lambda a: _Request("name_account", {"name": a.name, "account": a.number}),
    "account freeze": _plain("freeze", "account"),
    "account unfreeze": _plain("unfreeze", "account"),
    "account close": _plain("close_account", "account"),
    "account show": _plain("account", "account"),
    "account list": _plain("accounts"),
    "asset create": _plain("list_asset", "symbol", "scale"),
    "asset list": _plain("assets"),
    "instrument create": _instrument_create,
    "instrument halt": _plain("halt", "instrument"),
    "instrument resume": _plain("resume", "instrument"),
    "instrument state": _plain("set_state", "instrument", "state"),
    "instrument prices": lambda a: _Request(
        "set_prices", {"instrument": a.instrument, "mark": a.mark, "index": a.index}
    ),
    "venue maintenance": lambda _: _Request("set_state", {"state": "maintenance"}),
    "venue open": lambda _: _Request("set_state", {"state": "open"}),
    "instrument fees": _plain("set_fees", "instrument", "maker", "taker"),
    "instrument auction": _auction,
    "instrument bands": lambda a: _Request(
        "set_bands",
        {
            "instrument": a.instrument,
            "up": a.up,
            "down": a.down,
            "breaker": a.breaker,
            "reference_price": a.reference,
            **_interruptions(a),
        },
    ),
    "instrument list": _plain("instruments"),
    "deposit": _plain("deposit", "account", "asset", "amount"),
    "withdraw hold": _plain("withdraw_hold", "account", "asset", "amount"),
    "withdraw settle": _plain("withdraw_settle", "account", "hold_id"),
    "withdraw release": _plain("withdraw_release", "account", "hold_id"),
    "adjust": _plain("adjust", "account", "asset", "amount"),
    "transfer": _plain("transfer", "account", "to", "asset", "amount"),
    "account group": _plain("set_groups", "account", "master", "firm", "stp_group"),
    "fee set": _fee_set,
    "fee assign": _scoped("assign_fees", "schedule"),
    "fee rate": _plain("set_volume_rate", "asset", "rate"),
    "fee list": _plain("fees", "account"),
    "limit set": _scoped("set_limits", "qty_lots", "notional", "open_orders", "orders_per_s", "collar"),
    "limit kill": _scoped("kill"),
    "limit revive": _scoped("revive"),
    "limit list": _plain("limits"),
    "limit rates": _plain("rate_limits"),
    "limit unban": lambda a: _Request("unban", {"ip": a.ip, "key": a.api_key, "account": a.account}),
}


# --- what a person sees -----------------------------------------------------------------------------------------------


def duration_text(duration_ns: int) -> str:
    """A duration as a person reads it: "412 µs", "1.3 ms"."""
    if duration_ns < 1_000_000:
        return f"{duration_ns / 1_000:.0f} µs"
    if duration_ns < 1_000_000_000:
        return f"{duration_ns / 1_000_000:.1f} ms"
    return f"{duration_ns / 1_000_000_000:.2f} s"


def _refused_text(refused: RefusedError) -> str:
    result = refused.reply.result or {}
    order = f"; order id {result['order_id']}" if result.get("order_id") else ""
    return f"{refused}{order}"


def _show(op: str, result: Mapping[str, Any]) -> None:
    show = _SHOW.get(op)
    if show is not None:
        show(result)
        return
    named = ("schedule", "account", "user", "firm", "name", "symbol", "instrument", "asset", "rate", "hold_id")
    words = [f"{key} {result[key]}" for key in named if result.get(key) is not None]
    print(f"{_DONE.get(op, op)} {', '.join(words)}{_durable(result)}")
    if "warning" in result:
        print(result["warning"])


def _durable(result: Mapping[str, Any]) -> str:
    if "latency_ns" not in result:
        return ""
    return f"  (seq {result['seq']}, durable in {duration_text(result['latency_ns'])})"


def _show_order(result: Mapping[str, Any]) -> None:
    reason = f" ({result['end_reason']})" if "end_reason" in result else ""
    words = [f"order {result['order_id']}", f"{result['state']}{reason}"]
    if result.get("client_order_id"):
        words.insert(1, f"[{result['client_order_id']}]")
    if "canceled_qty" in result:
        words.append(f"{result['canceled_qty']} taken off")
    if result["leaves_qty"] != "0":
        words.append(f"{result['leaves_qty']} left at {result.get('price', '?')}")
    if result["cum_qty"] != "0":
        words.append(f"{result['cum_qty']} traded")
    if "prevented_qty" in result:
        words.append(f"{result['prevented_qty']} prevented")
    if result["avg_price"] is not None:
        words.append(f"average {result['avg_price']}")
    print(f"{result['instrument']}: {', '.join(words)}{_durable(result)}")
    fills = result["fills"]
    if fills:
        rows = [
            [fill["qty"], fill["price"], fill["value"], f"{fill['fee']} {fill['fee_asset'] or ''}"] for fill in fills
        ]
        table(("qty", "price", "value", "fee"), rows)
        if result["fill_count"] > len(fills):
            print(f"… and {result['fill_count'] - len(fills)} more fills")


def _show_cancel_all(result: Mapping[str, Any]) -> None:
    print(f"canceled {result['count']} orders{_durable(result)}")


def _show_money(result: Mapping[str, Any]) -> None:
    hold = f", hold id {result['hold_id']}" if "hold_id" in result else ""
    balance = ""
    if "free" in result:
        balance = f": {result['amount']} {result['asset']}; free {result['free']}, locked {result['locked']}"
    print(f"account {result['account']}{hold}{balance}{_durable(result)}")


def _show_book(result: Mapping[str, Any]) -> None:
    rows = [["", "", level["price"], level["qty"], str(level["orders"])] for level in reversed(result["asks"])]
    rows += [[str(level["orders"]), level["qty"], level["price"], "", ""] for level in result["bids"]]
    print(f"{result['instrument']} at seq {result['seq']}")
    if rows:
        table(("orders", "bid", "price", "ask", "orders"), rows)
    else:
        print("the book is empty")


def _show_balance(result: Mapping[str, Any]) -> None:
    print(f"{_account_text(result)} at seq {result['seq']}")
    rows = [[asset, balance["free"], balance["locked"]] for asset, balance in result["balances"].items()]
    if rows:
        table(("asset", "free", "locked"), rows)
    else:
        print("no balances")


def _show_orders(result: Mapping[str, Any]) -> None:
    columns = ("order_id", "account", "instrument", "side", "price", "qty", "leaves_qty", "state", "client_order_id")
    rows = [[str(order[column]) for column in columns] for order in result["orders"]]
    _list(columns, rows, result, "open orders")


def _show_accounts(result: Mapping[str, Any]) -> None:
    rows = [[str(row["account"]), row["name"] or "", row["state"]] for row in result["accounts"]]
    _list(("account", "name", "state"), rows, result, "accounts")


def _show_assets(result: Mapping[str, Any]) -> None:
    rows = [[str(row["asset"]), row["symbol"], str(row["scale"])] for row in result["assets"]]
    _list(("asset", "symbol", "scale"), rows, result, "assets")


def _show_instruments(result: Mapping[str, Any]) -> None:
    columns = ("symbol", "state", "base", "quote", "tick_size", "lot_size", "last_price")
    rows = [[str(row[column] or "") for column in columns] for row in result["instruments"]]
    _list(columns, rows, result, "instruments")
    if result["venue"] != "open":
        print(f"the venue is in {result['venue']}: orders and amends are refused, cancels work")


def _show_kill(result: Mapping[str, Any]) -> None:
    print(f"killed {_scope_text(result)}; canceled {result['count']} orders{_durable(result)}")


def _show_state(result: Mapping[str, Any]) -> None:
    what = result.get("instrument") or "the venue"
    canceled = f"; canceled {result['count']} orders" if result.get("count") else ""
    end = ""
    if result.get("end_ts_ns"):
        from persistence.moments import iso_time

        end = f" until {iso_time(result['end_ts_ns'])}, then {result['then']}"
    print(f"{what} is {result['market']}{end}{canceled}{_durable(result)}")


def _scope_text(row: Mapping[str, Any]) -> str:
    words = [f"{name} {row[name]}" for name in ("account", "user", "firm", "instrument") if row.get(name) is not None]
    return ", ".join(words) or "the venue"


def _show_fees(result: Mapping[str, Any]) -> None:
    from persistence.moments import iso_time

    rows = []
    for version in result["schedules"]:
        number = f"{version['schedule']}.{version['version']}"
        about = [number, version["state"], iso_time(version["effective_ts_ns"])[:19], version["api_discount"]]
        for tier in version["tiers"]:
            rows.append([*about, tier["min_volume"], tier["maker"], tier["taker"]])
            about = ["", "", "", ""]
    if rows:
        table(("schedule", "state", "effective", "API discount", "from volume", "maker", "taker"), rows)
    else:
        print("no fee schedules; instruments have their own rates")
    for row in result["assigned"]:
        print(f"{row['scope']}: {_scope_text(row)} has schedule {row['schedule']}")
    if result["revenue"]:
        columns = ("taker_fees", "maker_fees", "rebates", "total")
        table(("asset", *columns), [[asset, *(row[c] for c in columns)] for asset, row in result["revenue"].items()])
    if "account" in result:
        about_account = result["account"]
        print(
            f"account {about_account['account']}: 30-day volume {about_account['volume_30d']} {result['volume_asset'] or ''} "
            f"of master {about_account['master']}, firm {about_account['firm']}, self-trade group: {about_account['stp_words']}"
        )


def _show_limits(result: Mapping[str, Any]) -> None:
    columns = ("qty_lots", "notional", "open_orders", "open_now", "orders_per_s", "collar")
    rows = [
        [row["scope"], _scope_text(row), "killed" if row["killed"] else "", *(str(row.get(c, "")) for c in columns)]
        for row in result["limits"]
    ]
    _list(("scope", "of", "state", *columns), rows, result, "limits")


def _show_rate_limits(result: Mapping[str, Any]) -> None:
    columns = ("counter", "of", "window_s", "limit")
    table(columns, [[str(row[column]) for column in columns] for row in result["rules"]])
    print(
        f"{result['ban_after']} refusals in a minute ban an address, key or account for {result['ban_first_s']} s, "
        f"twice as long each time, at most {result['ban_max_s']} s"
    )
    print(f"{result['rows_used']} of {result['rows']} rows have been used")
    if result["shared"]:
        print(f"THE TABLE IS FULL: for some there is no row, and they share one: {', '.join(result['shared'])}")
    rows = [
        [
            row["of"],
            row["who"],
            f"{datetime.fromtimestamp(row['until_ns'] // _NS, UTC):%Y-%m-%d %H:%M:%S}",
            str(row["level"]),
        ]
        for row in result["banned"]
    ]
    _list(("banned", "who", "until", "level"), rows, result, "bans")


def _show_unban(result: Mapping[str, Any]) -> None:
    print(f"{result['who']} is banned no more" if result["was_banned"] else f"{result['who']} was not banned")


def _show_account(result: Mapping[str, Any]) -> None:
    print(f"{_account_text(result)}: {result['state']}")


def _account_text(result: Mapping[str, Any]) -> str:
    name = f" ({result['name']})" if result.get("name") else ""
    return f"account {result['account']}{name}"


def _list(columns: tuple[str, ...], rows: list[list[str]], result: Mapping[str, Any], what: str) -> None:
    if rows:
        table(columns, rows)
    else:
        print(f"no {what}")
    if result["count"] > len(rows):
        print(f"… and {result['count'] - len(rows)} more {what}")


_SHOW: Final[dict[str, Callable[[Mapping[str, Any]], None]]] = {
    "order": _show_order,
    "cancel": _show_order,
    "amend": _show_order,
    "cancel_all": _show_cancel_all,
    "quote": lambda result: quoting.show_quotes(result, _durable(result)),
    "protect": lambda result: quoting.show_protection(result, _durable(result)),
    "deposit": _show_money,
    "withdraw_hold": _show_money,
    "withdraw_settle": _show_money,
    "withdraw_release": _show_money,
    "adjust": _show_money,
    "transfer": _show_money,
    "fees": _show_fees,
    "limits": _show_limits,
    "rate_limits": _show_rate_limits,
    "unban": _show_unban,
    "kill": _show_kill,
    "set_state": _show_state,
    "book": _show_book,
    "balance": _show_balance,
    "orders": _show_orders,
    "accounts": _show_accounts,
    "assets": _show_assets,
    "instruments": _show_instruments,
    "account": _show_account,
}
_DONE: Final = {
    "dead_man": "set the dead-man timer of",
    "create_account": "created",
    "name_account": "named",
    "freeze": "froze",
    "unfreeze": "unfroze",
    "close_account": "closed",
    "list_asset": "listed",
    "list_instrument": "listed",
    "set_fees": "set fees of",
    "set_bands": "set bands of",
    "set_prices": "set prices of",
    "set_schedule": "set fee schedule",
    "assign_fees": "assigned fee schedule",
    "set_volume_rate": "set volume rate of",
    "set_groups": "set groups of",
    "set_limits": "set limits of",
    "revive": "revived",
    "halt": "halted",
    "resume": "resumed",
}
