"""``cambist demo``: what the demo shows beside trading."""

from __future__ import annotations

import argparse

from cambist.commands import Call, option


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of ``demo``."""
    parser.add_argument("action", choices=("tour",), help="tour: kill the matcher under load and look what is lost")
    option(parser, "tour.json", "--json", action="store_true", help="one JSON object on stdout")
    option(parser, "tour.orders_per_s", "--rate", type=int, metavar="N", help="orders a second (default 1000)")
    option(
        parser, "tour.load_s", "--seconds", type=int, metavar="S", help="of load before the kill and after (default 6)"
    )


def run(name: str, call: Call) -> int:
    """Take the tour; 1 if anything was lost or the tour could not be taken to its end."""
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from cambist.tour import guide

    return int(guide.run(call.config, call.home if call.home_given else None))
