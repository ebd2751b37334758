"""What a replay sends: numbered command slots, and the way back from them to the recording's own ids and messages."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np

from protocol import enums as e
from protocol.instance import Limits
from protocol.instruments import Asset, Instrument

Format = Literal["lobster", "bitstamp", "coinbase", "xflow", "cambist"]
FORMATS: Final[tuple[Format, ...]] = ("lobster", "bitstamp", "coinbase", "xflow", "cambist")
OPERATOR: Final = "replay"


class RecordingError(ValueError):
    """A recording that cannot be read; the text says which file, where and what is wrong."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a replay sends, in order.

    ``setup``, ``commands``, ``teardown``, each ``COMMAND_DTYPE[n]`` of whole groups.

    With clock ``"virtual"`` the slots are numbered gaplessly from 1 as commands of ``SOURCE_REPLAY`` and
    ``entry_ts_ns`` of each head is the time to sequence it at, never falling. With ``"verbatim"`` they are a journal's
    own slots, seq and ts_ns included.
    """

    name: str
    format: str
    path: Path
    setup: np.ndarray
    commands: np.ndarray
    teardown: np.ndarray
    messages: int
    to_message: np.ndarray
    """int64[len(commands)]: recorded message (from 0) that the slot belongs to; -1 = none."""
    order_ids: np.ndarray
    """int64, ascending: every order or hold id that the commands bring."""
    recorded_ids: np.ndarray
    """uint64, beside ``order_ids``: the recording's own id of it."""
    assets: tuple[Asset, ...]
    instruments: tuple[Instrument, ...]
    accounts: int
    """Accounts are 1 to this number."""
    limits: Limits
    """Sizes with which none of the commands is refused for lack of room."""
    clock: Literal["virtual", "verbatim"] = "virtual"
    row_of_message: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64[messages]: the recording's own line number (``seq``) of the message, where it has one."""
    names_of_ids: tuple[str, ...] = ()
    """Where the recording's ids are texts: ``recorded_ids`` n stands for ``names_of_ids[n - 1]``."""

    @property
    def first_number(self) -> int:
        """Source number (virtual clock) or seq (verbatim) of ``commands[0]``."""
        return int(self.commands["seq"][0]) if len(self.commands) else len(self.setup) + 1


def detect(path: Path) -> Format:
    """Format of a recording by its layout and first bytes; RecordingError names what was looked for."""
    if not path.exists():
        raise RecordingError(f"{path}: there is no such file or folder")
    if path.is_dir():
        if (path / "commands.csv.gz").exists():
            return detect(path / "commands.csv.gz")
        if (path / "l3_snapshot.json.gz").exists():
            return "coinbase"
        if any(path.glob("*.seg")) or any(path.glob("journal/*.seg")):
            return "cambist"
        raise RecordingError(f"{path}: holds neither commands.csv.gz, l3_snapshot.json.gz nor journal segments (*.seg)")
    start = _first_bytes(path)
    if start[:5] == b"XFLOW":
        return "xflow"
    if path.suffix == ".seg":
        return "cambist"
    if start[:1] == b"{" and b'"bids"' in start:
        return "coinbase"
    if start.startswith(b"seq,ts_ns,cmd,"):
        return "lobster"
    if start.startswith(b"seq,ts_ms,cmd,"):
        return "bitstamp"
    raise RecordingError(
        f"{path}: not a recording that is known here; name the format with --format {'|'.join(FORMATS)}"
    )


def load(
    path: Path, form: Format | Literal["auto"] = "auto", limit: int | None = None, until: int | None = None
) -> Plan:
    """Read a recording and turn it into a plan.

    ``limit``: only its first messages, prefill and opening book included. ``until``: only what comes up to this seq: of a journal the
    command slot (its whole group), of a recording its own numbers where it has them, else the count of its messages. RecordingError where
    it cannot be read, or has no such seq.
    """
    if limit is not None and limit < 0:
        raise RecordingError(f"limit {limit}: must not be negative")
    kind = detect(path) if form == "auto" else form
    if until is not None and kind != "cambist":
        limit = _messages_until(path, kind, until, limit)
    if kind == "xflow":
        from cambist.replay import xflow

        return xflow.load(path, limit)
    if kind == "cambist":
        from cambist.replay import journals

        return journals.load(path, limit, until)
    from cambist.replay import recordings

    return recordings.LOADERS[kind](path, limit)


def _messages_until(path: Path, kind: Format, until: int, limit: int | None) -> int:
    """How many messages a recording has up to its seq ``until``, at most ``limit``."""
    whole = load(path, kind)
    rows = whole.row_of_message
    first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (1, whole.messages)
    if not first <= until <= last:
        raise RecordingError(f"--until {until}: the messages of {path} have the numbers {first} to {last}")
    count = int(np.searchsorted(rows, until, side="right")) if len(rows) else until
    return count if limit is None else min(count, limit)


def read_bytes(path: Path) -> bytes:
    """Content of a file, unpacked if it is gzip."""
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise RecordingError(f"{path}: damaged gzip file: {error}") from error


def _first_bytes(path: Path, count: int = 256) -> bytes:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    if not packed:
        with path.open("rb") as raw:
            return raw.read(count)
    try:
        with gzip.open(path) as unpacked:
            return unpacked.read(count)
    except (OSError, EOFError) as error:
        raise RecordingError(f"{path}: damaged gzip file: {error}") from error


def orders_of(slots: np.ndarray) -> np.ndarray:
    """Ids that a block of slots brings, int64 in the order of the slots."""
    return slots["order_id"][np.isin(slots["type"], (e.LIMIT, e.MARKET, e.MARKET_AMOUNT, e.WITHDRAW_HOLD))]
