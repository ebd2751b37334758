"""Recovery: makes the outcome ring and the report that the file ``recovery-plan`` of the home asks for.

Lines of the plan are ``<epoch> <status>``: in that epoch recovery ends so. ``65`` comes with the error that a damaged
journal has, ``75`` says that epoch 40 is used.
"""

import json
from pathlib import Path

from protocol.instance import Context
from protocol.readers import EXIT_EPOCH_USED, EXIT_REFUSED
from protocol.records import OUTCOME_DTYPE, OUTCOME_SCHEMA
from ringbuf.file import RingFile

LAST_SEQ = 700
SOURCES = {"2": 17}


def main(context: Context) -> int:
    plan = Path(context.home) / "recovery-plan"
    planned = dict(line.split() for line in plan.read_text().splitlines()) if plan.exists() else {}
    status = int(planned.get(str(context.epoch), planned.get("*", "0")))
    report = {"last_seq": LAST_SEQ, "last_ts_ns": 5, "sources": SOURCES, "last_epoch": context.epoch - 1}
    if status == EXIT_REFUSED:
        report["error"] = "journal segment 00000001.seg, offset 8192: damaged"
    if status == EXIT_EPOCH_USED:
        report["last_epoch"] = 40
    (context.epoch_dir / "recovery.json").write_text(json.dumps(report))
    if status:
        print("the plan says so")
        return status
    size = context.engine.rings.outcome
    RingFile.create(context.outcome_ring, OUTCOME_DTYPE, size, OUTCOME_SCHEMA, context.epoch)
    return 0
