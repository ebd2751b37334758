"""``cambist replay``: feed a recording to the live processes of a fresh home."""

from __future__ import annotations

import argparse
from pathlib import Path

from cambist.commands import Call, UsageError, option
from cambist.commands.up import engine_options


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of ``replay``."""
    parser.add_argument("recording", type=Path, metavar="FILE_OR_FOLDER", help="recording, flow file or journal")
    option(
        parser,
        "replay.format",
        "--format",
        metavar="NAME",
        help="lobster, bitstamp, coinbase, xflow, cambist or auto (default)",
    )
    option(parser, "replay.limit", "--limit", type=int, metavar="N", help="take only the first N messages")
    option(
        parser,
        "replay.until",
        "--until",
        type=int,
        metavar="SEQ",
        help="stop behind this seq of a journal, or of the recording's messages, with the state as of there",
    )
    option(parser, "replay.fills", "--fills", metavar="FILE", help="write every fill: taker_id,maker_id,price,qty")
    option(parser, "replay.json", "--json", action="store_true", help="one JSON object on stdout")
    option(parser, "replay.keep", "--keep", action="store_true", help="keep the temporary home")
    engine_options(parser)


def run(name: str, call: Call) -> int:
    """Replay; 1 if the results are wrong."""
    recording: Path = call.arguments.recording
    if not recording.exists():
        raise UsageError(f"{recording}: no such file or folder")
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from cambist.replay import drive

    return int(drive.run(recording, call.config, call.home.path if call.home_given else None))
