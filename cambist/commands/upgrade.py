"""``cambist upgrade``: end a home's journal for a newer version, or take over what an older one ended."""

from __future__ import annotations

import argparse
import json
import time

from cambist.commands import Call, FailedError, option
from cambist.home import HomeLock


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of ``upgrade``."""
    option(parser, "upgrade.json", "--json", action="store_true", help="one JSON object on stdout")


def run(name: str, call: Call) -> int:
    """Do the step that is due; 1 where it cannot be done."""
    if not call.home.journal.is_dir():
        raise FailedError(f"{call.home.journal}: there is no journal here; is this the home of an exchange?")
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from persistence.fused import EngineFault
    from persistence.journal.errors import JournalError
    from persistence.snapshots import SnapshotError
    from persistence.snapshots.writer import Settings
    from persistence.upgrade import UpgradeError, upgrade

    section = call.config.snapshots
    settings = Settings(section.interval_s, section.keep, 0, section.map_bytes)
    with HomeLock(call.home):
        try:
            result = upgrade(call.home.path, settings, call.config.engine.shards, time.time_ns())
        except (UpgradeError, JournalError, SnapshotError, EngineFault) as error:
            raise FailedError(str(error)) from None
    if call.config.upgrade.json:
        print(json.dumps(result))
    elif result["step"] == "ended":
        print(f"{call.home.path}: the journal ends at seq {result['seq']} with a checkpoint and a snapshot")
        print("start this version again as before, or `cambist upgrade` with the newer one")
    else:
        print(f"{call.home.path}: the snapshot at seq {result['seq']} of {result['written_by']} is converted")
        print(f"`cambist up` goes on from it as {result['converted_to']}")
    return 0
