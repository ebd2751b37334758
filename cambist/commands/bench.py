"""``cambist bench``: measure parts of the exchange."""

from __future__ import annotations

import argparse

from cambist.commands import Call, option


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of ``bench``."""
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="ring, matcher, operations, books, engine, pipeline, latency, overload, …",
    )
    option(parser, "bench.flow", "--flow", metavar="FILE", help="recorded flow to use")
    option(
        parser,
        "bench.peers",
        "--peer",
        action="append",
        metavar="PROGRAM",
        help="another book to compare the matcher with",
    )
    option(parser, "bench.runs", "--runs", type=int, metavar="N", help="runs of each case (default 5)")
    option(parser, "bench.json", "--json", metavar="FILE", help="write the results as JSON; - is stdout")
    option(parser, "bench.html", "--html", metavar="FILE", help="write the results as a page")


def run(name: str, call: Call) -> int:
    """Run the benchmarks; 1 if one fails."""
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from cambist import benches

    return int(benches.run(call.arguments.names, call.config))
