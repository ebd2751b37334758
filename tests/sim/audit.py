"""The audit trail in the simulator: the real trail over files that are written, synced and lost as a disk does it."""

import contextlib
import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from persistence.audit import trail as module
from persistence.audit.chain import FOLDER, POSITION_FILE, canonical, chained, empty_head
from persistence.audit.records import audit_records
from persistence.audit.stored import stored_lines
from persistence.audit.trail import AuditTrail
from persistence.consumers import CONSUMERS_FOLDER
from persistence.fused import FusedEngine
from persistence.journal import JournalReader
from persistence.journal.segments import lineage
from persistence.journal.store import JournalStore
from protocol.instance import Engine, Rings
from tests.sim.files import SimFiles

ROOMY = Rings(ingress=256, command=1024, event=64, outcome=512, window=512)
"""For a replay."""
_FILE_BYTES = (1_500, 6_000, 1 << 20)
_RATES = {"quick": (0.0, 0.0), "faults": (0.03, 0.02), "power": (0.1, 0.05)}


class SimAudit:
    """What a seed draws about the audit trail, from a generator of its own."""

    def __init__(self, seed: int, profile: str, home: Path, journal: JournalStore, walk: Callable[[str], None]) -> None:
        self.random = random.Random(f"audit {profile} {seed}")
        self.enabled = self.random.random() < 0.5
        self.walk = walk
        self._home = home
        self._journal = journal
        self._file_bytes = self.random.choice(_FILE_BYTES)
        self._positions: list[bytes] = [b""]
        for folder in (FOLDER, CONSUMERS_FOLDER):
            shutil.rmtree(home / folder, ignore_errors=True)
        self.files = SimFiles(home / FOLDER, self.random, _RATES[profile], walk)
        self._patch = mock.patch.object(module, "os", self.files)

    def __enter__(self) -> None:
        """The trail writes to this disk."""
        self._patch.start()

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def open(self, engine: FusedEngine) -> AuditTrail:
        """The trail of a new replica, brought up to where its engine is. AuditDamaged where a stored record is not what it was."""
        with contextlib.redirect_stderr(io.StringIO()) as said:
            trail = AuditTrail(self._home, self.journal_id, self._file_bytes)
        if "was cut" in said.getvalue():
            self.walk("audit: an unfinished line was cut")
        if trail.head.number:
            self.walk("audit: the trail goes on behind what is stored")
        keep = trail.keep

        def kept() -> None:
            keep()
            self._positions.append((self._home / FOLDER / POSITION_FILE).read_bytes())

        trail.keep = kept  # type: ignore[method-assign]
        if trail.passed < engine.last_seq:
            own = FusedEngine(Engine(limits=engine.engine.limits, rings=ROOMY))
            for slots in JournalReader(self._journal, 1, engine.last_seq):
                trail.feed(own, slots)
            self.walk("audit: records came again from the journal")
        return trail

    @property
    def journal_id(self) -> bytes:
        """Of the simulated journal."""
        return lineage(self._journal).headers[-1].journal_id

    def power_loss(self) -> None:
        """What was not synced is lost; the position, which never is, may be an older one or empty."""
        if not self.enabled:
            return
        self.files.power_loss()
        position = self._home / FOLDER / POSITION_FILE
        if position.exists() and self.random.random() < 0.5:
            position.write_bytes(self.random.choice([b"", *self._positions[-4:]]))

    def wrong(self, slots: np.ndarray, engine: Engine) -> list[str]:
        """How the stored chain differs from the one that the journal gives."""
        if not self.enabled:
            return []
        own = FusedEngine(engine)
        parts: list[np.ndarray] = []
        own.feed(slots, parts.append)
        head = empty_head(self.journal_id)
        due = []
        for record in audit_records(slots, np.concatenate(parts), own.risk):
            head, _ = chained(head, record)
            due.append((head.hash, canonical({"number": head.number, **record})))
        stored = list(stored_lines(self._home, self.journal_id))
        problems = [f"audit, {line.place}: {line.problem}" for line in stored if line.problem]
        found = [(line.entry.hash, line.entry.data) for line in stored if line.entry is not None]
        if found != due and not problems:
            at = next(
                (k for k, (one, other) in enumerate(zip(found, due, strict=False)) if one != other),
                min(len(found), len(due)),
            )
            problems.append(
                f"audit: {len(found)} records stored, the journal gives {len(due)}; they differ from record {at + 1} on"
            )
        return problems[:3]
