"""``cambist verify``: rebuild everything from the journal and compare."""

from __future__ import annotations

import argparse

from cambist.commands import Call, option


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of ``verify``."""
    option(parser, "verify.json", "--json", action="store_true", help="one JSON object on stdout")


def run(name: str, call: Call) -> int:
    """Verify the journal of the home; 1 if anything differs."""
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from persistence import verify

    return int(verify.run(call.home.path, as_json=call.config.verify.json))
