"""``cambist inspect``: a book, an account or the life of an order, now or at any command or time of the past."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cambist.commands import Call, FailedError, UsageError, option
from cambist.commands.tables import progress, table

if TYPE_CHECKING:
    from persistence.postgres.places import Places
    from persistence.timetravel import Past, Place

_SUBJECTS: Final = ("book", "account", "order")


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of ``inspect``."""
    parser.add_argument("what", choices=_SUBJECTS, metavar="book|account|order")
    parser.add_argument(
        "name", metavar="SYMBOL|ID", help="a symbol; an account's number or name; an order id, or with --account yours"
    )
    option(
        parser,
        "inspect.at",
        "--at",
        metavar="SEQ|TIME",
        help="right after this command, or at this time (ISO 8601, UTC by default, or ns); without it: now",
    )
    option(parser, "inspect.depth", "--depth", type=int, metavar="N", help="levels of a side (default: all)")
    option(parser, "inspect.orders", "--orders", action="store_true", help="each order of the book in its priority")
    parser.add_argument("--account", metavar="ID", help="whose client order id it is")
    option(parser, "inspect.json", "--json", action="store_true", help="one JSON object on stdout")


def run(name: str, call: Call) -> int:
    """Answer from the history of the home; 1 where what is asked for is not in it."""
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from gateway.control.names import NameBook, NamesError
    from persistence.fused import EngineFault
    from persistence.journal.errors import JournalError
    from persistence.moments import parse_moment
    from persistence.timetravel import NotInHistory, Past

    section = call.config.inspect
    try:
        moment = parse_moment(section.at) if section.at else None
    except ValueError as error:
        raise UsageError(f"--at {error}") from None
    try:
        names = NameBook(call.home.path / "names.json")
        with progress("applying the journal", shown=not section.json) as advance:
            past = Past(call.home.path, advance)
            answer = _answer(call, names, past, past.place(moment))
    except (NotInHistory, JournalError, EngineFault, NamesError, FileNotFoundError) as error:
        raise FailedError(str(error)) from None
    if section.json:
        print(json.dumps(answer))
    else:
        _SHOW[call.arguments.what](answer)
    return 0


def _answer(call: Call, names: Any, past: Past, place: Place) -> dict[str, Any]:
    what, name = call.arguments.what, call.arguments.name
    if what == "book":
        return past.book(name, place, call.config.inspect.depth, orders=call.config.inspect.orders)
    if what == "account":
        number = account_number(names, name)
        return past.account(number, place) | {"name": names.name(number)}
    if call.arguments.account is not None:
        account = account_number(names, call.arguments.account)
        known = _known(call, past, (account, name), place)
        return past.order(past.order_id_of(name, account, place, known), place, known)
    if not (name.isascii() and name.isdigit()):
        raise UsageError(f"order {name}: an order id is a number; for a client order id say whose with --account")
    return past.order(int(name), place, _known(call, past, int(name), place))


def _known(call: Call, past: Past, order: int | tuple[int, str], place: Place) -> Places | None:
    """What the home's database has of an order; None where there is no database that can be asked."""
    from persistence.postgres.cluster import Cluster
    from persistence.postgres.places import ask

    section, embedded = call.config.postgres, Cluster(call.home.path)
    if not section.enabled or not (section.dsn or embedded.password_file.exists()):
        return None
    return ask(section.dsn or embedded.dsn, past.headers, order, place.seq)


def account_number(names: Any, text: str) -> int:
    """Account of a name or number; FailedError with the names that there are."""
    number = names.number(text)
    if number is None and text.isascii() and text.isdigit():
        number = int(text)
    if number is None:
        import difflib

        known = sorted(names.names().values())
        near = difflib.get_close_matches(text, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"names: {', '.join(known[:8]) or 'none yet'}"
        raise FailedError(f"account {text!r}: no account has this name; {hint}")
    return int(number)


def _at(answer: dict[str, Any]) -> str:
    at = answer["at"]
    return f"after seq {at['seq']}, {at['time'] or 'before the first command'}"


def _show_book(answer: dict[str, Any]) -> None:
    print(f"{answer['symbol']} ({answer['state']}) {_at(answer)}")
    totals = [answer["bid_totals"], answer["ask_totals"]]
    for name, total in zip(("bids", "asks"), totals, strict=True):
        print(f"{name}: {total['qty']} in {total['orders']} orders at {total['levels']} prices")
    rows: list[list[str]] = []
    for level in reversed(answer["asks"]):
        rows += [["", "", "", order["qty"], "", _order_text(order)] for order in reversed(level.get("queue", []))]
        rows.append(["", "", level["price"], level["qty"], str(level["orders"]), ""])
    for level in answer["bids"]:
        rows.append([str(level["orders"]), level["qty"], level["price"], "", "", ""])
        rows += [["", order["qty"], "", "", "", _order_text(order)] for order in level.get("queue", [])]
    if not rows:
        print("the book is empty")
    elif any(row[-1] for row in rows):
        table(("orders", "bid", "price", "ask", "orders", "order"), rows)
    else:
        table(("orders", "bid", "price", "ask", "orders"), [row[:-1] for row in rows])


def _order_text(order: dict[str, Any]) -> str:
    own = f" [{order['client_order_id']}]" if order["client_order_id"] else ""
    return f"{order['order_id']} of account {order['account']}{own}"


def _show_account(answer: dict[str, Any]) -> None:
    name = f" ({answer['name']})" if answer["name"] else ""
    print(f"account {answer['account']}{name}: {answer['state']} {_at(answer)}")
    rows = [
        [asset, row["free"], row["locked"], row["total"], str(row["total_units"]), str(row["changed_seq"])]
        for asset, row in answer["balances"].items()
    ]
    if rows:
        table(("asset", "free", "locked", "total", "total units", "changed seq"), rows)
    else:
        print("no balances")
    columns = ("order_id", "symbol", "side", "price", "qty", "cum_qty", "leaves_qty", "client_order_id")
    if answer["open_orders"]:
        table(columns, [[str(order[column] or "") for column in columns] for order in answer["open_orders"]])
    else:
        print("no open orders")
    if answer["withdrawal_holds"]:
        held = ("hold_id", "asset", "amount", "seq")
        table(held, [[str(hold[column]) for column in held] for hold in answer["withdrawal_holds"]])


def _show_order(answer: dict[str, Any]) -> None:
    reason = f" ({answer['reason']})" if answer["reason"] else ""
    end = f", final since seq {answer['ended']['seq']}" if answer["ended"] else ""
    print(f"{answer['kind']} {answer['order_id']} of account {answer['account']}: {answer['state']}{reason}{end}")
    if answer["kind"] == "order":
        price = f" at {answer['price']}" if answer["price"] else ""
        own = f" [{answer['client_order_id']}]" if answer["client_order_id"] else ""
        fees = ", ".join(f"{fee} {asset}" for asset, fee in answer["fees"].items())
        print(f"{answer['symbol']} {answer['type']} {answer['side']} {answer['qty']}{price}{own}")
        average = f" at {answer['avg_price']} on average" if answer["avg_price"] else ""
        left = f", {answer['leaves_qty']} left" if answer["leaves_qty"] is not None else ""
        print(f"{answer['cum_qty']} traded{average}{left}{f', fees {fees}' if fees else ''}")
    else:
        print(f"{answer['amount']} {answer['asset']}")
    print(f"entered at seq {answer['entered']['seq']}, looked at {_at(answer)}")
    rows = []
    for command in answer["history"]:
        by = f"account {command['account']}" if "account" in command else command["source"]
        who = f", {command['operator']}: {command['why']}" if "operator" in command else ""
        rows.append([str(command["seq"]), command["time"], f"{command['type']} by {by}{who}", "", "", ""])
        for outcome in command["outcomes"]:
            why = f" ({outcome['reason']})" if "reason" in outcome else ""
            words = f"  {outcome['kind']}{why}"
            price, qty = outcome.get("price") or "", outcome.get("qty") or outcome.get("amount") or ""
            fee = f"{outcome['fee']} {outcome['fee_asset'] or ''}" if "fee" in outcome else ""
            rows.append(["", "", words, qty, price, fee])
    table(("seq", "time", "what", "qty", "price", "fee"), rows)


_SHOW: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    "book": _show_book,
    "account": _show_account,
    "order": _show_order,
}
