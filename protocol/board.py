"""Which line of an instance's shared board holds which cursor or flag. A line is 16 words of 8 bytes; one writer each."""

from __future__ import annotations

from typing import Final

LINE_WORDS: Final = 16


def _line(n: int) -> int:
    return n * LINE_WORDS


# Written by the supervisor.
STOP: Final = _line(0)  # 1 = engine processes leave their loops, 2 = gateways too
EPOCH: Final = _line(0) + 1  # of the engine that runs now; 0 = none
ENGINE_STATE: Final = _line(0) + 2  # ENGINE_*
SUPERVISOR_PID: Final = _line(0) + 3
RECOVERED_SEQ: Final = _line(0) + 4

# Written by the sequencer.
SEQUENCED_SEQ: Final = _line(1)
SEQUENCED_TS_NS: Final = _line(1) + 1
CLOCK_ALARM: Final = _line(1) + 2  # 1 = UTC is further away than the clock may slew
SETTLE_NS: Final = (
    _line(1) + 3
)  # smoothed time that the engine takes to settle a slot while it has a backlog; 0 = not known

# Written by the journal.
DURABLE_SEQ: Final = _line(2)
JOURNAL_SPACE: Final = _line(2) + 1  # 1 = the next segment cannot be made
JOURNAL_SYNCS: Final = _line(2) + 2
JOURNAL_BYTES: Final = _line(2) + 3
JOURNAL_SYNC_NS: Final = _line(2) + 4
JOURNAL_FAILED: Final = _line(2) + 5  # errno of a failed write or sync; fatal

# Written by risk.
RESERVED_SEQ: Final = _line(3)
SETTLED_SEQ: Final = _line(4)
OUTCOMES: Final = _line(4) + 1
TRADES: Final = _line(4) + 2
REFUSALS: Final = _line(4) + 3
EXACT_WAITS: Final = _line(4) + 4
CHECKPOINT_SEQ: Final = _line(4) + 5
CLIENT_IDS_COVERED_NS: Final = (
    _line(4) + 6
)  # how far back the table of finished client order ids reaches, at most their time
CLIENT_IDS_EARLY: Final = _line(4) + 7  # finished client order ids that left before their time, for want of room
CLIENT_ID_TTL_NS: Final = _line(4) + 8  # their time; -1 = none, 0 = risk has not run yet

# Written by the replica.
REPLICATED_SEQ: Final = _line(5)
VERIFIED_SEQ: Final = _line(5) + 1
DIVERGED: Final = _line(5) + 2  # DIVERGED_*
AUDIT_STATE: Final = _line(5) + 3  # AUDIT_*
SNAPSHOT_SEQ: Final = _line(6)  # of the newest snapshot, 0 = none
SNAPSHOT_TS_NS: Final = _line(6) + 1  # UTC of it
SNAPSHOT_WRITING: Final = _line(6) + 2  # seq of the one that is being written, 0 = none
SNAPSHOT_FAILURES: Final = _line(6) + 3  # attempts that failed since one succeeded
SNAPSHOT_PROBLEM: Final = _line(6) + 4  # SNAPSHOT_*: why the last attempt failed; 0 = it did not

# Written by the PostgreSQL writer.
POSTGRES_SEQ: Final = _line(7)  # everything up to it is committed
POSTGRES_PENDING_TS_NS: Final = _line(7) + 1  # sequenced time of the oldest command that is not; 0 = none is known
POSTGRES_STATE: Final = _line(7) + 2  # DATABASE_*
POSTGRES_ROWS: Final = _line(7) + 3  # written since the process began
POSTGRES_COMMITS: Final = _line(7) + 4
POSTGRES_FAILURES: Final = _line(7) + 5  # connections refused or lost

# Written by the sequencer; SOURCES_MAX words, lines 8 to 11.
LANE_SEQUENCED: Final = _line(8)  # + source: the producer's last number that is sequenced

# Written by the process around the embedded PostgreSQL server.
POSTGRES_SERVER_STATE: Final = _line(12)  # DATABASE_*

FIRST_PROCESS_LINE: Final = 16
LINE_SEQUENCER: Final = 16
LINE_RISK: Final = 17
LINE_JOURNAL: Final = 18
LINE_REPLICA: Final = 19
LINE_CONTROL: Final = 20
LINE_REPLAY: Final = 21
LINE_BOTS: Final = 22
LINE_SUPERVISOR: Final = 23
LINE_POSTGRES: Final = 24  # the writer
LINE_FIRST_GATEWAY: Final = 25
LINE_FIRST_MATCHER: Final = 40
MATCHERS_MAX: Final = 16
LINE_POSTGRES_SERVER: Final = 57
LINES: Final = 64

ENGINE_DOWN: Final = 0
ENGINE_RECOVERING: Final = 1
ENGINE_RUNNING: Final = 2
ENGINE_STOPPING: Final = 3
ENGINE_FAILED: Final = 4

DIVERGED_ALARM: Final = 1  # replica and live engine differ
DIVERGED_STOP: Final = 2  # they differ, and gateways acknowledge nothing until an operator acts

AUDIT_NONE: Final = 0  # the replica keeps no trail, or has not begun
AUDIT_FOLLOWS: Final = 1
AUDIT_DAMAGED: Final = 2  # the stored chain is damaged: no records are written until an operator acts

SNAPSHOT_NO_SPACE: Final = 1
SNAPSHOT_MAP_FULL: Final = 2
SNAPSHOT_READ_ONLY: Final = 3
SNAPSHOT_DISK_ERROR: Final = 4
SNAPSHOT_WRITER_DIED: Final = 5
SNAPSHOT_PROBLEM_TEXT: Final = {
    SNAPSHOT_NO_SPACE: "the disk is full",
    SNAPSHOT_MAP_FULL: "the state is larger than snapshots.map_bytes",
    SNAPSHOT_READ_ONLY: "the folder of snapshots cannot be written to",
    SNAPSHOT_DISK_ERROR: "the disk failed",
    SNAPSHOT_WRITER_DIED: "the writer died",
}

DATABASE_DOWN: Final = 0
DATABASE_STARTING: Final = 1  # the writer: replays up to the database's position
DATABASE_UP: Final = 2
DATABASE_FAILED: Final = 3  # away, or cannot be written to; tried again
DATABASE_REFUSED: Final = 4  # the database is another home's, or ahead of the journal
