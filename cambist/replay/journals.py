"""Cambist's own journals: slots as they are, with their seq and ts_ns, so that the same state must come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cambist.replay.convert import Market, limits_for
from cambist.replay.plan import Plan, RecordingError, orders_of
from persistence.durable import running_durable_seq
from persistence.journal import JournalError, JournalReader, scan
from persistence.recovery import LIMITS_FILE, load_limits
from protocol import build
from protocol import enums as e
from protocol.instruments import Asset, Instrument
from protocol.records import EXT_ASSET_SLOT, EXT_LISTING_SLOT, command_slots

_NO_MESSAGE = (e.TICK, e.CHECKPOINT, e.EXPIRE)


def load(path: Path, limit: int | None, until: int | None = None) -> Plan:
    """A home, its ``journal`` folder, or one of its segments (which stands for the folder), to the end of the command at ``until``.

    A torn tail is left out, damage is an error. The exchange of a home may run: then it is what is durable. With the limits of the home,
    where they lie beside the journal, each command has the very verdict that it had.
    """
    directory = _directory(path)
    home = directory.parent
    try:
        running = running_durable_seq(home)
        found = scan(directory)
        if found.first_seq != 1:
            raise RecordingError(
                f"{directory}: begins with seq {found.first_seq}; a replay needs the journal from its first command"
            )
        last_seq = found.last_seq if running is None else running
        if until is not None and not 1 <= until <= last_seq:
            raise RecordingError(f"--until {until}: the journal in {directory} goes from seq 1 to {last_seq}")
        parts = [part.copy() for part in JournalReader(directory, to_seq=last_seq)] if last_seq else []
    except JournalError as error:
        raise RecordingError(f"{directory}: {error}") from error
    slots = np.concatenate(parts) if parts else command_slots(0)
    if until is not None:
        slots = slots[: until + int(np.argmin(slots["flags"][until - 1 :] & e.FLAG_MORE))]
    plan = plan_of(slots, path, limit)
    return replace(plan, limits=load_limits(home)) if (home / LIMITS_FILE).exists() else plan


def plan_of(slots: np.ndarray, path: Path, limit: int | None = None) -> Plan:
    """The plan of a history of slots numbered from 1. Messages are all commands except clock ticks and checkpoints."""
    heads = build.heads(slots)
    counted = heads & ~np.isin(slots["type"], _NO_MESSAGE)
    if limit is not None and np.count_nonzero(counted) > limit:
        # The first slot of the first message that is not wanted ends it; ticks before that slot still belong to the
        # history.
        end = int(np.flatnonzero(counted)[limit])
        slots, heads, counted = slots[:end], heads[:end], counted[:end]
    message = np.cumsum(counted) - 1
    group = np.cumsum(heads) - 1
    to_message = np.where(counted[heads][group], message, -1) if len(slots) else np.zeros(0, dtype=np.int64)
    ids = np.unique(orders_of(slots))
    assets = _assets(slots)
    instruments = _instruments(slots, assets)
    opened = slots["account"][heads & (slots["type"] == e.CREATE_ACCOUNT)]
    accounts = int(opened.max()) if len(opened) else 0
    largest = Market(
        assets=assets,
        instruments=instruments,
        accounts=max(accounts, int(slots["account"][heads].max(initial=0))),
    )
    return Plan(
        name=path.resolve().name,
        format="cambist",
        path=path,
        setup=command_slots(0),
        commands=slots,
        teardown=command_slots(0),
        messages=int(np.count_nonzero(counted)),
        to_message=to_message.astype(np.int64),
        order_ids=ids,
        recorded_ids=ids.view(np.uint64),
        assets=assets,
        instruments=instruments,
        accounts=accounts,
        limits=limits_for(slots[heads], largest, resting=len(ids)),
        clock="verbatim",
    )


def _directory(path: Path) -> Path:
    if path.is_file():
        return path.parent
    return path / "journal" if (path / "journal").is_dir() else path


def _listed(slots: np.ndarray, kind: int, extension: int) -> np.ndarray:
    """Heads of one kind whose next slot is the extension that it needs."""
    at = np.flatnonzero(slots["type"][:-1] == kind) if len(slots) else np.zeros(0, dtype=np.int64)
    return at[slots["type"][at + 1] == extension]


def _assets(slots: np.ndarray) -> tuple[Asset, ...]:
    at = _listed(slots, e.LIST_ASSET, e.EXT_ASSET)
    rows = slots.view(EXT_ASSET_SLOT.slot_dtype)[at + 1]
    found = {
        int(n): Asset(int(n), row["symbol"].decode("utf-8", "replace"), int(row["scale"]))
        for n, row in zip(slots["asset"][at], rows, strict=True)
    }
    return tuple(found[n] for n in sorted(found))


def _instruments(slots: np.ndarray, assets: tuple[Asset, ...]) -> tuple[Instrument, ...]:
    by_number = {a.index: a for a in assets}
    at = _listed(slots, e.LIST_INSTRUMENT, e.EXT_LISTING)
    found = {}
    for number, row in zip(
        slots["instrument"][at].tolist(), slots.view(EXT_LISTING_SLOT.slot_dtype)[at + 1], strict=True
    ):
        base, quote = by_number.get(int(row["base"])), by_number.get(int(row["quote"]))
        if number < 1 or number in found or base is None or quote is None:
            continue
        rates = {n: int(row[n]) for n in ("tick_e8", "lot_atoms", "maker_rate_e8", "taker_rate_e8")}
        found[number] = Instrument(number, row["symbol"].decode("utf-8", "replace"), base, quote, **rates)
    return tuple(found[n] for n in sorted(found))
