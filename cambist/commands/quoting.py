"""``cambist quote`` and ``cambist protection``: what a market maker says, and what became of it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from cambist.commands import FailedError, UsageError
from cambist.commands.tables import table

_MS_PER_S: Final = 1_000
_WORDS_OF_QUOTE: Final = 3
_LIMITS: Final = ("window_s", "qty", "net_qty", "trades")


def configure_quote(parser: argparse.ArgumentParser) -> None:
    """Options of ``quote`` beside those that all have."""
    parser.add_argument(
        "quotes", nargs="+", metavar="SYMBOL BID ASK", help="BID and ASK are QTY@PRICE, or - to take the side away"
    )


def configure_protection(parser: argparse.ArgumentParser) -> None:
    """Options of ``protection`` beside those that all have."""
    parser.add_argument("instrument", metavar="SYMBOL")
    parser.add_argument(
        "--window", dest="window_s", type=float, metavar="SECONDS", help="0.001 to 3600: what trades in it counts"
    )
    parser.add_argument("--qty", metavar="QTY", help="pull when so much has traded")
    parser.add_argument(
        "--net", dest="net_qty", metavar="QTY", help="pull when bought minus sold, or sold minus bought, is so much"
    )
    parser.add_argument("--trades", type=int, metavar="N", help="pull when there were so many fills")
    parser.add_argument("--off", action="store_true", help="no protection any more")


def quote_args(a: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the request of ``quote``."""
    words = list(a.quotes)
    if len(words) % _WORDS_OF_QUOTE:
        raise UsageError(
            "a quote is SYMBOL BID ASK, such as BTCUSDT 0.5@59990 0.4@60010; write - for a side that is not to be"
        )
    triples = zip(*(words[k::_WORDS_OF_QUOTE] for k in range(_WORDS_OF_QUOTE)), strict=True)
    quotes = [
        {"instrument": symbol, "quote_id": at, **_side("bid", bid), **_side("ask", ask)}
        for at, (symbol, bid, ask) in enumerate(triples, 1)
    ]
    return {"account": a.account, "quotes": quotes}


def _side(name: str, text: str) -> dict[str, str]:
    if text == "-":
        return {}
    qty, at, price = text.partition("@")
    if not (qty and at and price):
        raise UsageError(f"{text}: write QTY@PRICE, such as 0.5@59990, or - for no order on this side")
    return {f"{name}_qty": qty, f"{name}_price": price}


def protection_args(a: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the request of ``protection``."""
    given = [name for name in _LIMITS if getattr(a, name) is not None]
    if a.off == bool(given):
        raise UsageError("give --window with --qty, --net, --trades or several of them; or --off alone")
    if given and ("window_s" not in given or len(given) == 1):
        raise UsageError("--window and a limit belong together: --qty, --net, --trades or several of them")
    args: dict[str, Any] = {"account": a.account, "instrument": a.instrument}
    if a.off:
        return args
    window_ms = a.window_s * _MS_PER_S
    if not 1 <= window_ms <= 3600 * _MS_PER_S or window_ms != int(window_ms):
        raise UsageError("--window is 0.001 to 3600 seconds, in whole milliseconds")
    return args | {"window_ms": int(window_ms), "qty": a.qty, "net_qty": a.net_qty, "trades": a.trades}


def show_quotes(result: Mapping[str, Any], durable: str) -> None:
    """A line for each quote, and one for all."""
    print(f"took {result['taken']} of {len(result['quotes'])} quotes{durable}")
    rows = []
    for quote in result["quotes"]:
        refused = quote["state"] == "refused"
        about = [quote["instrument"], quote["reason"] if refused else quote["state"]]
        for order in quote["orders"] or [dict.fromkeys(("order_id", "side", "change", "leaves_qty", "price"), "")]:
            rows.append(about + [str(order[key]) for key in ("order_id", "side", "change", "leaves_qty", "price")])
            about = ["", ""]
    table(("instrument", "quote", "order_id", "side", "change", "leaves_qty", "price"), rows)


def show_protection(result: Mapping[str, Any], durable: str) -> None:
    """What is limited now."""
    limits = [
        f"{text} {result[key]}"
        for key, text in (("qty", "quantity"), ("net_qty", "net"), ("trades", "trades"))
        if result.get(key)
    ]
    what = f"pulled at {', '.join(limits)} in {result['window_ms']} ms" if limits else "not protected any more"
    print(f"{result['instrument']}: quotes of account {result['account']} are {what}{durable}")


def check_quotes(result: Mapping[str, Any]) -> None:
    """FailedError that names the quotes that were refused."""
    refused = [q for q in result["quotes"] if q["state"] == "refused"]
    if refused:
        raise FailedError("; ".join(f"{q['instrument']}: {q['reason']}: {q['text']}" for q in refused))
